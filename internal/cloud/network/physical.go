package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
)

// Physical IPs are what the first version of the API called addresses of the physical network. They are public
// addresses of a segment like EIPs, without a bandwidth, a price or a recycle bin, and count as EIPs in quotas.

func (s *Service) addressActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "ModifyEIPBandwidth", Module: "eip", Mutates: true, Summary: "Change the bandwidth of a public address."}, s.modifyBandwidth),
		action.Define(action.Spec{Name: "UpdateVMDefaultGW", Module: "vm", Mutates: true, Summary: "Choose the public address by which a machine goes out."}, s.updateDefaultGW),
		action.Define(action.Spec{Name: "CheckIPInuse", Module: "eip", Summary: "Tell by the status code whether an address is free."}, s.checkIP),
		action.Define(action.Spec{Name: "CreatePhysicalIP", Module: "eip", Mutates: true, Summary: "Allocate an address of the physical network (older clients)."}, s.createPhysicalIP),
		action.Define(action.Spec{Name: "DescribePhysicalIP", Module: "eip", Summary: "List addresses of the physical network (older clients)."}, s.describePhysicalIP),
		action.Define(action.Spec{Name: "BindPhysicalIP", Module: "eip", Mutates: true, Summary: "Bind an address of the physical network to a machine (older clients)."}, s.bindPhysicalIP),
		action.Define(action.Spec{Name: "UnbindPhysicalIP", Module: "eip", Mutates: true, Summary: "Unbind an address of the physical network from a machine (older clients)."}, s.unbindPhysicalIP),
		action.Define(action.Spec{Name: "DeletePhysicalIP", Module: "eip", Mutates: true, Summary: "Delete an address of the physical network (older clients)."}, s.deletePhysicalIP),
	}
}

type createPhysicalIPRequest struct {
	Name         string `validate:"required" doc:"1-63 printable characters"`
	OperatorName string `validate:"required" doc:"external segment, id or name"`
	Remark       string `doc:"0-100 characters"`
	action.Tenant
}

type createPhysicalIPResponse struct{ PhysicalIPID string }

func (s *Service) createPhysicalIP(ctx context.Context, c *action.Call, q *createPhysicalIPRequest) (*createPhysicalIPResponse, error) {
	r := EIPRequest{Company: c.Owner(), Region: c.Region, Name: q.Name, Remark: q.Remark, Segment: q.OperatorName, Physical: true}
	if err := s.CheckEIP(ctx, r); err != nil {
		return nil, err
	}
	var e *EIP
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		if r.Project, err = identity.Project(ctx, tx, c, ""); err != nil {
			return err
		}
		e, err = s.AllocateEIPTx(ctx, tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(e.ID)
	return &createPhysicalIPResponse{PhysicalIPID: e.ID}, nil
}

type describePhysicalIPRequest struct {
	PhysicalIPIDs []string `doc:"physical IP ids"`
	action.Tenant
	action.Page
}

type describePhysicalIPResponse struct {
	Infos      []physicalIPInfo
	TotalCount int
}

type physicalIPInfo struct {
	BindResourceID   string
	BindResourceType string
	CreateTime       int64
	IP               string
	Name             string
	OperatorName     string
	PhysicalIPID     string
	Region           string
	Remark           string
	Status           string
	UpdateTime       int64
	Zone             string `doc:"older clients only"`
}

func (s *Service) describePhysicalIP(ctx context.Context, c *action.Call, q *describePhysicalIPRequest) (*describePhysicalIPResponse, error) {
	out := &describePhysicalIPResponse{Infos: []physicalIPInfo{}}
	var rows []EIP
	sel := identity.Own(s.DB.Reader().NewSelect().Model(&rows).Where("listed = ? AND physical = ?", true, true), c.Scope())
	var err error
	if out.TotalCount, err = page(ctx, anyOf(sel, "id", q.PhysicalIPIDs), q.Page, "created_at DESC, id DESC"); err != nil || len(rows) == 0 {
		return out, err
	}
	segments, err := segmentsByID(ctx, s.DB.Reader(), column(rows, func(e *EIP) string { return e.SegmentID }))
	if err != nil {
		return nil, err
	}
	for _, e := range rows {
		info := physicalIPInfo{BindResourceID: e.BindID, BindResourceType: e.BindKind, CreateTime: seconds(e.CreatedAt), IP: e.IP, Name: e.Name,
			PhysicalIPID: e.ID, Region: e.Region, Remark: e.Remark, Status: e.State, UpdateTime: seconds(e.UpdatedAt)}
		if g := segments[e.SegmentID]; g != nil {
			info.OperatorName = g.Name
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

type bindPhysicalIPRequest struct {
	PhysicalIPID string `validate:"required" doc:"physical IP id"`
	ResourceID   string `validate:"required" doc:"resource id"`
	ResourceType string `validate:"required" doc:"VM"`
	action.Tenant
}

func (q *bindPhysicalIPRequest) eip() *bindEIPRequest {
	return &bindEIPRequest{ResourceType: q.ResourceType, ResourceID: q.ResourceID, EIPID: q.PhysicalIPID}
}

func (s *Service) bindPhysicalIP(ctx context.Context, c *action.Call, q *bindPhysicalIPRequest) (*action.Empty, error) {
	return s.bindTo(ctx, c, q.eip(), true)
}

func (s *Service) unbindPhysicalIP(ctx context.Context, c *action.Call, q *bindPhysicalIPRequest) (*action.Empty, error) {
	return s.unbindFrom(ctx, c, q.eip(), true)
}

type deletePhysicalIPRequest struct {
	PhysicalIPID string `validate:"required" doc:"physical IP id"`
	action.Tenant
}

func (s *Service) deletePhysicalIP(ctx context.Context, c *action.Call, q *deletePhysicalIPRequest) (*action.Empty, error) {
	c.AddResource(q.PhysicalIPID)
	return &action.Empty{}, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		e, err := addressByID(ctx, tx, c.Scope(), q.PhysicalIPID, true)
		if err != nil {
			return err
		}
		if err := e.check(verbRelease); err != nil {
			return err
		}
		return s.destroy(ctx, tx, e)
	})
}
