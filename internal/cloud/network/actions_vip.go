package network

import (
	"context"
	"strconv"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
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
		action.Define(action.Spec{Name: "UpdateVIPBandwidth", Module: "vip", Mutates: true, Extension: true, Summary: "Change the bandwidth of an outer VIP."}, s.updateVIPBandwidth),
		action.Define(action.Spec{Name: "ReleaseVIP", Module: "vip", Mutates: true, Extension: true, Summary: "Give the address back."}, s.releaseVIP),
	}
}

type allocateVIPRequest struct {
	Name                   string   `validate:"required" doc:"1-63 printable characters"`
	VIPType                string   `validate:"required" doc:"LAN in a subnet, WAN on an external segment"`
	VPCID                  string   `validate:"required" doc:"VPC id; with WAN that of the machines, for lists"`
	SubnetID               string   `doc:"subnet id, of LAN"`
	SegmentID              string   `doc:"external segment, id or name, of WAN"`
	IP                     string   `doc:"wanted address"`
	IPVersion              string   `default:"IPv4" validate:"oneof=IPv4 IPv6" doc:"IPv6 is not available (113)"`
	Bandwidth              int      `doc:"Mbps, as the segment offers, of WAN"`
	ChargeType             string   `validate:"omitempty,oneof=Dynamic Month Year" doc:"of WAN; Dynamic is hourly"`
	Quantity               int      `default:"1" doc:"periods; Month 1-11, Year 1-5, of WAN"`
	AutoRenew              bool     `default:"true" doc:"renew by itself when the period ends, of WAN"`
	AssociatedResourceType string   `default:"VM" validate:"oneof=VM ELASTIC_NIC" doc:"what AssociatedResourceIDs are"`
	AssociatedResourceIDs  []string `doc:"at most 3 that may carry the address"`
	ProjectID              string   `doc:"project group id"`
	Remark                 string   `validate:"max=100" doc:"free text"`
	TagKeyValuePairs       []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type allocateVIPResponse struct{ VIPID string }

func (s *Service) allocateVIP(ctx context.Context, c *action.Call, q *allocateVIPRequest) (*allocateVIPResponse, error) {
	if err := checkSide("VIPType", q.VIPType); err != nil {
		return nil, err
	}
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	if q.VIPType == LAN && q.SubnetID == "" {
		return nil, retcode.MissingParameter.Errorf("SubnetID is required when VIPType is LAN")
	}
	now := s.Clock.Micros()
	v := &vipRow{ID: database.NewID("vip"), Region: c.Region, Company: c.Owner(), Name: name, Remark: q.Remark, Kind: q.VIPType, VPCID: q.VPCID,
		CarriedBy: q.AssociatedResourceType, State: Allocating, CreatedAt: now, UpdatedAt: now}
	var outer *outerRequest
	if q.VIPType == WAN {
		if outer, err = s.checkOuter(ctx, c, "VIPType", outerRequest{segment: q.SegmentID, ip: q.IP, version: q.IPVersion, mbps: q.Bandwidth, chargeType: q.ChargeType, quantity: q.Quantity}); err != nil {
			return nil, err
		}
		v.SegmentID, v.Bandwidth, v.ChargeType, v.Quantity, v.AutoRenew = outer.row.ID, q.Bandwidth, q.ChargeType, q.Quantity, q.AutoRenew
	} else if v.SubnetID = q.SubnetID; q.IPVersion == IPv6 {
		return nil, retcode.InvalidParameter.Errorf("IPVersion: VPCs have IPv4 addresses only")
	}
	if err := s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		if v.Project, err = identity.Project(ctx, tx, c, q.ProjectID); err != nil {
			return "", err
		}
		if err := s.Catalog.Reserve(ctx, tx, v.Company, v.Region, catalog.Amounts{catalog.VIP: 1}); err != nil {
			return "", err
		}
		if outer != nil {
			if _, err := vpcByID(ctx, tx, c.OwnScope(), q.VPCID); err != nil {
				return "", err
			}
			port := &Port{ID: v.ID, Region: v.Region, Company: v.Company, OwnerKind: ofVIP, OwnerID: v.ID, CreatedAt: now, UpdatedAt: now}
			if err := s.reserveOuter(ctx, tx, outer, port); err != nil {
				return "", err
			}
		} else if _, err := s.ReservePort(ctx, tx, PortRequest{Scope: c.OwnScope(), ID: v.ID, VPCID: q.VPCID, SubnetID: q.SubnetID, IP: q.IP, Owner: Owner{ofVIP, v.ID}, AnyGroup: true}); err != nil {
			return "", err
		}
		rows, err := s.carriersOf(ctx, tx, c, v, q.AssociatedResourceType, q.AssociatedResourceIDs)
		if err != nil {
			return "", err
		}
		if _, err := tx.NewInsert().Model(v).Exec(ctx); err != nil {
			return "", err
		}
		if err := replaceCarriers(ctx, tx, v.ID, rows); err != nil {
			return "", err
		}
		if err := tag.Attach(ctx, tx, now, resource.Item{ID: v.ID, Company: v.Company, Region: v.Region, Kind: "VIP"}, q.TagKeyValuePairs); err != nil {
			return "", err
		}
		if err := s.buyVIP(ctx, tx, v); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.makeVIP, v.Company, retcode.InvalidResourceState, edit{ID: v.ID, VPCs: v.told(rows...)}, exclusive(v.ID))
	}); err != nil {
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
	SegmentID            string   `doc:"external segment id"`
	AssociatedResourceID string   `doc:"who may carry it"`
	Keyword              string   `doc:"part of name, id or address"`
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
	SegmentName             string
	Bandwidth               int `doc:"Mbps, of WAN"`
	AssociatedResourceType  string
	AssociatedResourceInfos []carrierInfo
	Status                  string
	ChargeType              string
	ExpireTime              int64 `doc:"0: never"`
	AutoRenew               bool
	Reason                  string
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
	for _, f := range [][2]string{{"kind", q.VIPType}, {"vpc_id", q.VPCID}, {"subnet_id", q.SubnetID}, {"segment_id", q.SegmentID}} {
		if f[1] != "" {
			sel = sel.Where("? = ?", bun.Ident(f[0]), f[1])
		}
	}
	if q.AssociatedResourceID != "" {
		sel = sel.Where("id IN (SELECT vip_id FROM vip_carrier WHERE resource_id = ?)", q.AssociatedResourceID)
	}
	sel = matchingPorts(anyOf(anyOf(sel, "id", q.VIPIDs), "project", q.ProjectIDs), q.Keyword)
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
	segments, err := segmentsByID(ctx, db, column(rows, func(v *vipRow) string { return v.SegmentID }))
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
	owners, err := s.owners(ctx, column(ports, (*Port).owner))
	if err != nil {
		return nil, err
	}
	shown, err := labelled(ctx, s, rows)
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
			SegmentID: v.SegmentID, Bandwidth: v.Bandwidth, ChargeType: v.ChargeType, ExpireTime: seconds(v.ExpireAt), AutoRenew: v.AutoRenew,
			Reason: why(v.ReasonCode, v.Reason, c.Language), CompanyID: v.Company, ProjectID: v.Project, CreateTime: seconds(v.CreatedAt), Tags: shown[v.ID].tags}
		if g := segments[v.SegmentID]; g != nil {
			info.SegmentName = g.Name
		}
		for _, r := range carriers {
			if r.VIPID == v.ID {
				p := byID[r.PortID]
				info.AssociatedResourceInfos = append(info.AssociatedResourceInfos, carrierInfo{ResourceID: r.ResourceID, Name: owners[p.OwnerID].Name, IP: p.IP})
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
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		v, err := vipByID(ctx, tx, c.Scope(), q.VIPID)
		if err != nil {
			return "", err
		}
		if v.State != Available {
			return "", retcode.InvalidResourceState.Errorf("%s is %s", v.ID, v.State)
		}
		if err := s.Ledger.Check(ctx, tx, v.ID); err != nil {
			return "", err
		}
		rows, err := s.carriersOf(ctx, tx, c, v, q.AssociatedResourceType, q.AssociatedResourceIDs)
		if err != nil {
			return "", err
		}
		e, err := s.beginCarriers(ctx, tx, v, q.AssociatedResourceType, rows)
		if err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.changeVIP, v.Company, retcode.InvalidResourceState, e, exclusive(v.ID))
	})
}

type updateVIPBandwidthRequest struct {
	VIPID     string `validate:"required" doc:"outer VIP id"`
	Bandwidth int    `validate:"required" doc:"Mbps, as the segment offers"`
	action.Tenant
}

func (s *Service) updateVIPBandwidth(ctx context.Context, c *action.Call, q *updateVIPBandwidthRequest) (*action.Empty, error) {
	c.AddResource(q.VIPID)
	v, err := vipByID(ctx, s.DB.Reader(), c.Scope(), q.VIPID)
	if err != nil {
		return nil, err
	}
	if v.Kind != WAN {
		return nil, retcode.InvalidParameter.Errorf("%s is an inner VIP, which has no bandwidth of its own", v.ID)
	}
	if err := s.Catalog.CheckEIPSpec(ctx, c.Region, v.SegmentID, q.Bandwidth); err != nil {
		return nil, err
	}
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		if v, err = vipByID(ctx, tx, c.Scope(), q.VIPID); err != nil {
			return "", err
		}
		if v.State != Available {
			return "", retcode.InvalidResourceState.Errorf("%s is %s", v.ID, v.State)
		}
		if v.Bandwidth == q.Bandwidth {
			return "", s.Ledger.Check(ctx, tx, v.ID)
		}
		if err := s.beginLimit(ctx, tx, "vip", v.ID, v.SegmentID, v.State, q.Bandwidth); err != nil {
			return "", err
		}
		rows, err := carried(ctx, tx, v.ID)
		if err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.limitVIP, v.Company, retcode.InvalidResourceState,
			edit{ID: v.ID, VPCs: v.told(rows...), Was: map[string]string{"bandwidth": strconv.Itoa(v.Bandwidth), "state": v.State}}, exclusive(v.ID))
	})
}

type vipRequest struct {
	VIPID string `validate:"required" doc:"VIP id"`
	action.Tenant
}

func (s *Service) releaseVIP(ctx context.Context, c *action.Call, q *vipRequest) (*action.Empty, error) {
	c.AddResource(q.VIPID)
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		v, err := vipByID(ctx, tx, c.Scope(), q.VIPID)
		if err != nil {
			return "", err
		}
		if v.State == Deleting {
			return "", lifecycle.ErrRepeat
		}
		if _, err := lockPort(ctx, tx, v.ID); err != nil { // so that no EIP is bound meanwhile
			return "", err
		}
		if used, err := exists(ctx, tx, "SELECT 1 FROM eip WHERE port_id = ?", v.ID); err != nil {
			return "", err
		} else if used {
			return "", retcode.InvalidResourceState.Errorf("a public address is bound to %s", v.ID)
		}
		e, err := s.beginRelease(ctx, tx, v)
		if err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.removeVIP, v.Company, retcode.InvalidResourceState, e, exclusive(v.ID))
	})
}
