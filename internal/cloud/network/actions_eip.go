package network

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

type allocateEIPRequest struct {
	Name              string   `validate:"required" doc:"1-63 printable characters"`
	ChargeType        string   `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	Bandwidth         *int     `validate:"required" doc:"Mbps, as the segment offers"`
	OperatorName      string   `validate:"required" doc:"external segment, id or name"`
	ProjectID         string   `doc:"project group id"`
	ApplicationName   string   `validate:"max=100" doc:"title of the approval request"`
	ApplicationReason string   `validate:"max=1000" doc:"reason of the approval request"`
	Remark            string   `doc:"0-100 characters"`
	Quantity          int      `default:"1" doc:"periods; Month 1-11, Year 1-5, ignored for Dynamic"`
	IP                string   `doc:"wanted address, with Count 1"`
	IPVersion         string   `default:"IPv4" validate:"oneof=IPv4 IPv6" doc:"IP version"`
	Count             int      `default:"1" validate:"min=1,max=10" doc:"how many addresses"`
	AutoRenew         bool     `default:"true" doc:"renew by itself when the period ends"`
	TagKeyValuePairs  []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type allocateEIPResponse struct {
	EIPID         string
	EIPIDs        []string
	ApplicationID string `doc:"set instead of the ids when approval is on"`
}

func (s *Service) allocateEIP(ctx context.Context, c *action.Call, q *allocateEIPRequest) (*allocateEIPResponse, error) {
	r := EIPRequest{Company: c.Owner(), Region: c.Region, Name: q.Name, Remark: q.Remark, Segment: q.OperatorName, IPVersion: q.IPVersion,
		IP: q.IP, Bandwidth: *q.Bandwidth, ChargeType: q.ChargeType, Quantity: q.Quantity, AutoRenew: q.AutoRenew, QuotaTaken: true}
	if _, err := parseWanted(q.IP); err != nil {
		return nil, err
	}
	if err := checkPeriod(q.ChargeType, q.Quantity); err != nil {
		return nil, err
	}
	if q.IP != "" && q.Count > 1 {
		return nil, retcode.InvalidParameter.Errorf("IP goes with Count 1 only")
	}
	if err := s.CheckEIP(ctx, r); err != nil {
		return nil, err
	}
	out := &allocateEIPResponse{}
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		out.EIPIDs = nil
		var err error
		if r.Project, err = identity.Project(ctx, tx, c, q.ProjectID); err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, r.Company, r.Region, catalog.Amounts{catalog.EIP: int64(q.Count)}); err != nil {
			return err
		}
		for range q.Count {
			e, err := s.AllocateEIPTx(ctx, tx, r)
			if err != nil {
				return err
			}
			if err := tag.Attach(ctx, tx, e.CreatedAt, resource.Item{ID: e.ID, Company: e.Company, Region: e.Region, Kind: "EIP"}, q.TagKeyValuePairs); err != nil {
				return err
			}
			out.EIPIDs = append(out.EIPIDs, e.ID)
		}
		return s.Ledger.Capture(ctx, tx, out.EIPIDs...)
	})
	if err != nil {
		return nil, err
	}
	out.EIPID = out.EIPIDs[0]
	c.AddResource(out.EIPIDs...)
	return out, nil
}

// checkPeriod refuses numbers of periods that are not for sale (113).
func checkPeriod(chargeType string, quantity int) error {
	limit := map[string]int{"Month": 11, "Year": 5}[chargeType]
	if limit != 0 && (quantity < 1 || quantity > limit) {
		return retcode.InvalidParameter.Errorf("Quantity is 1 to %d with ChargeType %s", limit, chargeType)
	}
	return nil
}

type describeEIPRequest struct {
	IPStatus         string   `doc:"state"`
	ProjectIDs       []string `doc:"project group ids"`
	Keyword          string   `doc:"part of name, id or address"`
	EIPIDs           []string `doc:"EIP ids"`
	IPVersion        string   `default:"IPv4" validate:"oneof=IPv4 IPv6" doc:"IP version"`
	BindResourceID   string   `doc:"id of the bound resource"`
	OperatorName     string   `doc:"external segment, id or name"`
	IPs              []string `doc:"addresses"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
	action.Page
}

type describeEIPResponse struct {
	Infos      []eipInfo
	Totalcount int `doc:"same as TotalCount, spelled so for older clients"`
	TotalCount int
}

type eipInfo struct {
	Region                string
	RegionAlias           string
	EIPID                 string
	Bandwidth             int `doc:"Mbps"`
	ChargeType            string
	Name                  string
	Remark                string
	Status                string
	CreateTime            int64
	UpdateTime            int64
	ExpireTime            int64 `doc:"0: never"`
	IP                    string
	OperatorName          string
	OperatorAlias         string
	IPVersion             string
	BindResourceID        string
	BindResourceName      string
	BindResourceType      string
	BindResourceProjectID string
	ISDefaultGW           int `doc:"1: default egress of the resource"`
	CanDefaultGW          int `doc:"1: its segment has a default route"`
	CompanyID             int64
	Email                 string
	ProjectID             string
	ProjectName           string
	BindTime              int64
	Reason                string
	IsElastic             string
	Zone                  string `doc:"older clients only"`
	SegmentID             string
	SegmentName           string
	HasDefaultRoute       bool
	IsDefaultGW           int `doc:"same as ISDefaultGW"`
	AlarmTemplateID       string
	AutoRenew             bool
	Tags                  []tag.Info
}

func (s *Service) describeEIP(ctx context.Context, c *action.Call, q *describeEIPRequest) (*describeEIPResponse, error) {
	out := &describeEIPResponse{Infos: []eipInfo{}}
	var rows []EIP
	sel, err := tag.Narrow(identity.Own(s.DB.Reader().NewSelect().Model(&rows).Where("listed = ? AND physical = ?", true, false), c.Scope()), "eip.id", q.TagKeyValuePairs)
	if err != nil {
		return nil, err
	}
	sel = sel.Where("ip_version = ?", q.IPVersion)
	if q.IPStatus != "" {
		sel = sel.Where("state = ?", q.IPStatus)
	}
	if q.BindResourceID != "" {
		sel = sel.Where("bind_id = ?", q.BindResourceID)
	}
	if q.OperatorName != "" {
		sel = sel.Where("segment_id IN (SELECT id FROM segment WHERE id = ? OR name = ?)", q.OperatorName, q.OperatorName)
	}
	sel = anyOf(anyOf(anyOf(sel, "id", q.EIPIDs), "project", q.ProjectIDs), "ip", q.IPs)
	n, err := page(ctx, database.Matching(sel, q.Keyword, "name", "id", "ip"), q.Page, "created_at DESC, id DESC")
	out.TotalCount, out.Totalcount = n, n
	if err != nil || len(rows) == 0 {
		return out, err
	}
	shown, err := labelled(ctx, s, rows)
	if err != nil {
		return nil, err
	}
	segments, err := segmentsByID(ctx, s.DB.Reader(), column(rows, func(e *EIP) string { return e.SegmentID }))
	if err != nil {
		return nil, err
	}
	targets, err := s.owners(ctx, column(rows, (*EIP).holder))
	if err != nil {
		return nil, err
	}
	for _, e := range rows {
		info := eipInfo{Region: e.Region, RegionAlias: e.Region, EIPID: e.ID, Bandwidth: e.Bandwidth, ChargeType: e.ChargeType, Name: e.Name,
			Remark: e.Remark, Status: e.State, CreateTime: seconds(e.CreatedAt), UpdateTime: seconds(e.UpdatedAt), ExpireTime: seconds(e.ExpireAt),
			IP: e.IP, IPVersion: e.IPVersion, BindResourceID: e.BindID, BindResourceName: targets[e.BindID].Name, BindResourceType: e.BindKind,
			BindResourceProjectID: targets[e.BindID].Project, CompanyID: e.Company, Email: shown[e.ID].email, ProjectID: e.Project, ProjectName: shown[e.ID].project,
			BindTime: seconds(e.BoundAt), Reason: why(e.ReasonCode, e.Reason, c.Language), IsElastic: "Y", SegmentID: e.SegmentID, AutoRenew: e.AutoRenew, Tags: shown[e.ID].tags}
		if g := segments[e.SegmentID]; g != nil {
			info.OperatorName, info.OperatorAlias, info.SegmentName = g.Name, g.Name, g.Name
			if info.HasDefaultRoute = g.defaultRoute(); info.HasDefaultRoute {
				info.CanDefaultGW = 1
			}
		}
		if e.Egress {
			info.ISDefaultGW, info.IsDefaultGW = 1, 1
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

type bindEIPRequest struct {
	ResourceType string `validate:"required" doc:"VM or VIP"`
	ResourceID   string `validate:"required" doc:"resource id"`
	EIPID        string `validate:"required" doc:"EIP id"`
	action.Tenant
}

// target finds the kind of a bind call: 207 when nothing of that type carries EIPs, or the id is of another type.
func (s *Service) target(q *bindEIPRequest) (Target, error) {
	t := s.targets[q.ResourceType]
	if t == nil {
		return nil, retcode.InvalidResourceType.Errorf("ResourceType %s carries no public address", q.ResourceType)
	}
	if prefix, _, ok := strings.Cut(q.ResourceID, "-"); ok && otherPrefixes[prefix] && !strings.EqualFold(prefix, q.ResourceType) {
		return nil, retcode.InvalidResourceType.Errorf("ResourceID %s is no %s", q.ResourceID, q.ResourceType)
	}
	return t, nil
}

// otherPrefixes are of ids that are no VM's.
var otherPrefixes = map[string]bool{"disk": true, "eip": true, "vpc": true, "subnet": true, "sg": true, "nic": true, "lb": true, "natgw": true,
	"vpngw": true, "ipsvpn": true, "snapshot": true, "image": true, "seg": true, "vip": true}

func (s *Service) bindEIP(ctx context.Context, c *action.Call, q *bindEIPRequest) (*action.Empty, error) {
	return s.bindTo(ctx, c, q, false)
}

func (s *Service) unbindEIP(ctx context.Context, c *action.Call, q *bindEIPRequest) (*action.Empty, error) {
	return s.unbindFrom(ctx, c, q, false)
}

func (s *Service) bindTo(ctx context.Context, c *action.Call, q *bindEIPRequest, physical bool) (*action.Empty, error) {
	return s.change(ctx, c, q, physical, s.bind, verbBind, verbBindOther, func(ctx context.Context, tx bun.Tx, e *EIP, port *TargetPort) error {
		return s.beginBind(ctx, tx, e, Owner{q.ResourceType, q.ResourceID}, port.PortID)
	})
}

func (s *Service) unbindFrom(ctx context.Context, c *action.Call, q *bindEIPRequest, physical bool) (*action.Empty, error) {
	return s.change(ctx, c, q, physical, s.unbind, verbUnbind, verbUnbindOther, func(ctx context.Context, tx bun.Tx, e *EIP, _ *TargetPort) error {
		if err := s.Ledger.Check(ctx, tx, e.ID); err != nil {
			return err
		}
		return s.beginUnbind(ctx, tx, e)
	})
}

// change is what binding and unbinding have in common: both exist, both are in a state that allows it, begin,
// then a workflow that holds the EIP alone and the resource together with other changes of its parts.
func (s *Service) change(ctx context.Context, c *action.Call, q *bindEIPRequest, physical bool, flow *workflow.Workflow[eipChange], same, other string,
	begin func(context.Context, bun.Tx, *EIP, *TargetPort) error) (*action.Empty, error) {
	c.AddResource(q.EIPID, q.ResourceID)
	kind, err := s.target(q)
	if err != nil {
		return nil, err
	}
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		e, err := addressByID(ctx, tx, c.Scope(), q.EIPID, physical)
		if err != nil {
			return "", err
		}
		verdict := e.check(e.toward(q.ResourceID, same, other))
		if errors.Is(verdict, lifecycle.ErrRepeat) {
			return "", verdict
		}
		port, resolved := kind.Resolve(ctx, tx, action.Scope{Region: e.Region, Company: e.Company, Projects: c.Projects}, q.ResourceID, same == verbUnbind)
		// What does not exist is said first, then whose state is wrong.
		if code := retcode.Of(resolved); code == retcode.VMNotFound || code == retcode.ResourceNotFound || code == retcode.ServiceError {
			return "", resolved
		}
		if err := cmp.Or(verdict, resolved); err != nil {
			return "", err
		}
		if err := begin(ctx, tx, e, port); err != nil {
			return "", err
		}
		operation, err := flow.Accept(ctx, tx, e.request(c.Action), e.change())
		return operation, held(err, retcode.InvalidResourceState)
	})
}

type releaseEIPRequest struct {
	EIPID string `validate:"required" doc:"EIP id"`
	action.Tenant
}

func (s *Service) releaseEIP(ctx context.Context, c *action.Call, q *releaseEIPRequest) (*action.Empty, error) {
	c.AddResource(q.EIPID)
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		e, err := addressByID(ctx, tx, c.Scope(), q.EIPID, false)
		if err != nil {
			return err
		}
		return s.release(ctx, tx, e)
	})
	return &action.Empty{}, err
}
