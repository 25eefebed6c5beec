package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) vipActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "AllocateVIP", Module: "vip", Mutates: true, Extension: true, Summary: "Reserve a floating address."}, s.allocateVIP),
		action.Define(action.Spec{Name: "DescribeVIP", Module: "vip", Extension: true, Summary: "List VIPs."}, s.describeVIP),
		action.Define(action.Spec{Name: "UpdateVIPBindResource", Module: "vip", Mutates: true, Extension: true, Summary: "Replace the machines that may carry the address."}, s.updateVIP),
		action.Define(action.Spec{Name: "ReleaseVIP", Module: "vip", Mutates: true, Extension: true, Summary: "Give the address back."}, s.releaseVIP),
	}
}

type allocateVIPRequest struct {
	Name                   string   `validate:"required" doc:"1-63 printable characters"`
	VIPType                string   `validate:"required,oneof=LAN WAN" doc:"LAN; from outside a VIP is reached by an EIP bound to it"`
	VPCID                  string   `validate:"required" doc:"VPC id"`
	SubnetID               string   `doc:"subnet id"`
	SegmentID              string   `doc:"of WAN"`
	IP                     string   `doc:"wanted address"`
	IPVersion              string   `default:"IPv4" validate:"oneof=IPv4 IPv6" doc:"IP version"`
	Bandwidth              int      `doc:"of WAN"`
	ChargeType             string   `validate:"omitempty,oneof=Dynamic Month Year" doc:"of WAN"`
	Quantity               int      `default:"1" doc:"of WAN"`
	AssociatedResourceType string   `default:"VM" validate:"oneof=VM ELASTIC_NIC" doc:"what AssociatedResourceIDs are"`
	AssociatedResourceIDs  []string `doc:"at most 3 that may carry the address"`
	ProjectID              string   `doc:"project group id"`
	Remark                 string   `validate:"max=100" doc:"free text"`
	TagKeyValuePairs       []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type allocateVIPResponse struct{ VIPID string }

func (s *Service) allocateVIP(ctx context.Context, c *action.Call, q *allocateVIPRequest) (*allocateVIPResponse, error) {
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	if q.VIPType == WAN {
		return nil, retcode.InvalidParameter.Errorf("VIPType: this region has inner VIPs; bind an EIP to one to reach it from outside")
	}
	if q.SubnetID == "" {
		return nil, retcode.MissingParameter.Errorf("SubnetID is required when VIPType is LAN")
	}
	if q.IPVersion == IPv6 {
		return nil, retcode.InvalidParameter.Errorf("IPVersion: VPCs have IPv4 addresses only")
	}
	now := s.Clock.Micros()
	v := &vipRow{ID: database.NewID("vip"), Region: c.Region, Company: c.Owner(), Name: name, Remark: q.Remark, Kind: LAN, VPCID: q.VPCID, SubnetID: q.SubnetID,
		CarriedBy: q.AssociatedResourceType, State: Allocating, CreatedAt: now, UpdatedAt: now}
	var op string
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if v.Project, err = identity.Project(ctx, tx, c, q.ProjectID); err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, v.Company, v.Region, catalog.Amounts{catalog.VIP: 1}); err != nil {
			return err
		}
		if _, err := s.ReservePort(ctx, tx, PortRequest{Scope: c.OwnScope(), ID: v.ID, VPCID: q.VPCID, SubnetID: q.SubnetID, IP: q.IP, Owner: Owner{ofVIP, v.ID}, AnyGroup: true}); err != nil {
			return err
		}
		rows, err := s.carriersOf(ctx, tx, c, v, q.AssociatedResourceType, q.AssociatedResourceIDs)
		if err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(v).Exec(ctx); err != nil {
			return err
		}
		if err := replaceCarriers(ctx, tx, v.ID, rows); err != nil {
			return err
		}
		if err := tag.Attach(ctx, tx, now, resource.Item{ID: v.ID, Company: v.Company, Region: v.Region, Kind: "VIP"}, q.TagKeyValuePairs); err != nil {
			return err
		}
		op, err = s.begin(ctx, tx, c, s.makeVIP, v.Company, retcode.InvalidResourceState, edit{ID: v.ID, VPCs: []string{v.VPCID}}, exclusive(v.ID))
		return err
	})
	if err := s.accepted(err, op); err != nil {
		return nil, err
	}
	c.AddResource(v.ID)
	return &allocateVIPResponse{VIPID: v.ID}, nil
}

type describeVIPRequest struct {
	VIPIDs               []string `doc:"VIP ids"`
	VIPType              string   `validate:"omitempty,oneof=LAN WAN" doc:"kind"`
	VPCID                string   `doc:"VPC id"`
	SubnetID             string   `doc:"subnet id"`
	AssociatedResourceID string   `doc:"who may carry it"`
	Keyword              string   `doc:"part of name or id"`
	ProjectIDs           []string `doc:"project group ids"`
	action.Tenant
	action.Page
}

type describeVIPResponse struct {
	Infos      []vipInfo
	TotalCount int
}

type vipInfo struct {
	VIPID                   string
	Name                    string
	Remark                  string
	VIPType                 string
	IP                      string
	IPVersion               string
	VPCID                   string
	VPCName                 string
	SubnetID                string
	SubnetName              string
	SegmentID               string
	Bandwidth               int
	AssociatedResourceType  string
	AssociatedResourceInfos []carrierInfo
	Status                  string
	ChargeType              string
	ExpireTime              int64
	CompanyID               int64
	ProjectID               string
	CreateTime              int64
	Tags                    []tag.Info
}

type carrierInfo struct {
	ResourceID string
	Name       string
	IP         string
}

func (s *Service) describeVIP(ctx context.Context, c *action.Call, q *describeVIPRequest) (*describeVIPResponse, error) {
	out := &describeVIPResponse{Infos: []vipInfo{}}
	db := s.DB.Reader()
	var rows []vipRow
	sel := identity.Own(db.NewSelect().Model(&rows).Where("ended_at = 0"), c.Scope())
	for _, f := range [][2]string{{"kind", q.VIPType}, {"vpc_id", q.VPCID}, {"subnet_id", q.SubnetID}} {
		if f[1] != "" {
			sel = sel.Where("? = ?", bun.Ident(f[0]), f[1])
		}
	}
	if q.AssociatedResourceID != "" {
		sel = sel.Where("id IN (SELECT vip_id FROM vip_carrier WHERE resource_id = ?)", q.AssociatedResourceID)
	}
	sel = database.Matching(anyOf(anyOf(sel, "id", q.VIPIDs), "project", q.ProjectIDs), q.Keyword, "name", "id")
	var err error
	if out.TotalCount, err = page(ctx, sel, q.Page, "created_at DESC, id DESC"); err != nil || len(rows) == 0 {
		return out, err
	}
	ids := column(rows, func(v *vipRow) string { return v.ID })
	vpcs, err := names(ctx, db, "vpc", column(rows, func(v *vipRow) string { return v.VPCID }))
	if err != nil {
		return nil, err
	}
	subnets, err := names(ctx, db, "subnet", column(rows, func(v *vipRow) string { return v.SubnetID }))
	if err != nil {
		return nil, err
	}
	var carriers []carrierRow
	if err := db.NewSelect().Model(&carriers).Where("vip_id IN (?)", bun.In(ids)).Order("vip_id", "resource_id").Scan(ctx); err != nil {
		return nil, err
	}
	var ports []Port
	if err := db.NewSelect().Model(&ports).Where("id IN (?)", bun.In(append(column(carriers, func(r *carrierRow) string { return r.PortID }), ids...))).Scan(ctx); err != nil {
		return nil, err
	}
	owners, err := s.ownerNames(ctx, ports)
	if err != nil {
		return nil, err
	}
	tags, err := tag.Of(ctx, db, ids...)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]Port)
	for _, p := range ports {
		byID[p.ID] = p
	}
	for _, v := range rows {
		info := vipInfo{VIPID: v.ID, Name: v.Name, Remark: v.Remark, VIPType: v.Kind, IP: byID[v.ID].IP, IPVersion: IPv4, VPCID: v.VPCID, VPCName: vpcs[v.VPCID],
			SubnetID: v.SubnetID, SubnetName: subnets[v.SubnetID], AssociatedResourceType: v.CarriedBy, AssociatedResourceInfos: []carrierInfo{}, Status: v.State,
			CompanyID: v.Company, ProjectID: v.Project, CreateTime: seconds(v.CreatedAt), Tags: tags[v.ID]}
		for _, r := range carriers {
			if r.VIPID == v.ID {
				p := byID[r.PortID]
				info.AssociatedResourceInfos = append(info.AssociatedResourceInfos, carrierInfo{ResourceID: r.ResourceID, Name: owners[p.OwnerID], IP: p.IP})
			}
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

type updateVIPRequest struct {
	VIPID                  string   `validate:"required" doc:"VIP id"`
	AssociatedResourceType string   `default:"VM" validate:"oneof=VM ELASTIC_NIC" doc:"what AssociatedResourceIDs are"`
	AssociatedResourceIDs  []string `doc:"at most 3; empty unbinds all"`
	action.Tenant
}

func (s *Service) updateVIP(ctx context.Context, c *action.Call, q *updateVIPRequest) (*action.Empty, error) {
	c.AddResource(append([]string{q.VIPID}, q.AssociatedResourceIDs...)...)
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vipByID(ctx, tx, c.Scope(), q.VIPID)
		if err != nil {
			return err
		}
		if v.State != Available {
			return retcode.InvalidResourceState.Errorf("%s is %s", v.ID, v.State)
		}
		var before []carrierRow
		if err := tx.NewSelect().Model(&before).Where("vip_id = ?", v.ID).Scan(ctx); err != nil {
			return err
		}
		rows, err := s.carriersOf(ctx, tx, c, v, q.AssociatedResourceType, q.AssociatedResourceIDs)
		if err != nil {
			return err
		}
		if ok, err := s.turn(ctx, tx, "vip", v.ID, Updating, nil, Available); err != nil {
			return err
		} else if !ok {
			return retcode.InvalidResourceState.Errorf("%s is being changed", v.ID)
		}
		was := map[string]string{"by": v.CarriedBy}
		for _, r := range before {
			was[r.PortID] = r.ResourceID
		}
		if _, err := tx.NewRaw("UPDATE vip SET carried_by = ? WHERE id = ?", q.AssociatedResourceType, v.ID).Exec(ctx); err != nil {
			return err
		}
		if err := replaceCarriers(ctx, tx, v.ID, rows); err != nil {
			return err
		}
		op, err = s.begin(ctx, tx, c, s.changeVIP, v.Company, retcode.InvalidResourceState, edit{ID: v.ID, VPCs: []string{v.VPCID}, Was: was}, exclusive(v.ID))
		return err
	})
	return nil, s.accepted(err, op)
}

type vipRequest struct {
	VIPID string `validate:"required" doc:"VIP id"`
	action.Tenant
}

func (s *Service) releaseVIP(ctx context.Context, c *action.Call, q *vipRequest) (*action.Empty, error) {
	c.AddResource(q.VIPID)
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vipByID(ctx, tx, c.Scope(), q.VIPID)
		if err != nil {
			return err
		}
		if v.State == Deleting {
			return errRepeat
		}
		if _, err := lockPort(ctx, tx, v.ID); err != nil { // so that no EIP is bound meanwhile
			return err
		}
		if used, err := exists(ctx, tx, "SELECT 1 FROM eip WHERE port_id = ?", v.ID); err != nil {
			return err
		} else if used {
			return retcode.InvalidResourceState.Errorf("a public address is bound to %s", v.ID)
		}
		if ok, err := s.turn(ctx, tx, "vip", v.ID, Deleting, nil, Available, Failed); err != nil {
			return err
		} else if !ok {
			return retcode.InvalidResourceState.Errorf("%s is %s", v.ID, v.State)
		}
		if err := s.KeepPort(ctx, tx, v.ID); err != nil {
			return err
		}
		op, err = s.begin(ctx, tx, c, s.removeVIP, v.Company, retcode.InvalidResourceState, edit{ID: v.ID, VPCs: []string{v.VPCID}}, exclusive(v.ID))
		return err
	})
	return nil, s.accepted(err, op)
}
