package network

import (
	"context"
	"net/netip"
	"slices"

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

// innerActions are those of what lies inside VPCs.
func (s *Service) innerActions() []action.Action {
	return slices.Concat(s.vpcActions(), s.routeActions(), s.peeringActions(), s.nicActions(), s.vipActions(), s.drawingActions())
}

func (s *Service) vpcActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateVPC", Module: "vpc", Mutates: true, Summary: "Create a VPC from a private CIDR."}, s.createVPC),
		action.Define(action.Spec{Name: "DescribeVPC", Module: "vpc", Summary: "List VPCs together with their subnets."}, s.describeVPC),
		action.Define(action.Spec{Name: "DeleteVPC", Module: "vpc", Mutates: true, Summary: "Delete an empty VPC."}, s.deleteVPC),
		action.Define(action.Spec{Name: "UpdateVPCGateway", Module: "vpc", Mutates: true, Extension: true, Summary: "Turn the VPC gateway on or off."}, s.updateVPCGateway),
		action.Define(action.Spec{Name: "CreateSubnet", Module: "vpc", Mutates: true, Summary: "Create a subnet inside a VPC."}, s.createSubnet),
		action.Define(action.Spec{Name: "DescribeSubnet", Module: "vpc", Summary: "List subnets."}, s.describeSubnet),
		action.Define(action.Spec{Name: "DeleteSubnet", Module: "vpc", Mutates: true, Summary: "Delete an unused subnet."}, s.deleteSubnet),
		action.Define(action.Spec{Name: "GetSubnetAvailableIPQuota", Module: "vpc", Summary: "Count free and used addresses of a subnet."}, s.subnetQuota),
		action.Define(action.Spec{Name: "ListAllocatedIPsInSubnet", Module: "vpc", Summary: "List the allocated addresses of a subnet."}, s.listAllocatedIPs),
	}
}

type describeVPCRequest struct {
	VPCIDs           []string `doc:"VPC ids"`
	Keyword          string   `doc:"part of name or id"`
	ProjectIDs       []string `doc:"project group ids"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
	action.Page
}

type describeVPCResponse struct {
	TotalCount int
	Infos      []vpcInfo
}

type vpcInfo struct {
	Region        string
	RegionAlias   string
	VPCID         string
	Name          string
	Network       string `doc:"CIDR"`
	State         string
	Remark        string
	SubnetCount   int
	CreateTime    int64
	UpdateTime    int64
	SubnetInfos   []subnetInfo
	CompanyID     int64
	Email         string
	ProjectID     string
	ProjectName   string
	Reason        string
	Zone          string `doc:"older clients only"`
	EnableGateway bool
	IsDefault     bool
	PeeringInfos  []peeringInfo
	Tags          []tag.Info
}

// peeringInfo is a link to another network.
type peeringInfo struct {
	PeerType     string
	PeerID       string
	PeerName     string
	PeerNetworks []string
	State        string
	CreateTime   int64
}

func (s *Service) describeVPC(ctx context.Context, c *action.Call, q *describeVPCRequest) (*describeVPCResponse, error) {
	out := &describeVPCResponse{Infos: []vpcInfo{}}
	var rows []VPC
	sel, err := tag.Narrow(identity.Own(s.DB.Reader().NewSelect().Model(&rows).Where("ended_at = 0"), c.Scope()), "vpc.id", q.TagKeyValuePairs)
	if err != nil {
		return nil, err
	}
	sel = database.Matching(anyOf(anyOf(sel, "id", q.VPCIDs), "project", q.ProjectIDs), q.Keyword, "name", "id")
	if out.TotalCount, err = page(ctx, sel, q.Page, "created_at DESC, id DESC"); err != nil || len(rows) == 0 {
		return out, err
	}
	shown, err := labelled(ctx, s, rows)
	if err != nil {
		return nil, err
	}
	ids := column(rows, func(v *VPC) string { return v.ID })
	var subnets []Subnet
	if err := s.DB.Reader().NewSelect().Model(&subnets).Where("vpc_id IN (?) AND ended_at = 0", bun.In(ids)).Order("created_at", "id").Scan(ctx); err != nil {
		return nil, err
	}
	inside, err := s.subnetInfos(ctx, subnets, c.Language)
	if err != nil {
		return nil, err
	}
	within := make(map[string][]subnetInfo)
	for _, info := range inside {
		within[info.VPCID] = append(within[info.VPCID], info)
	}
	links, err := linksOf(ctx, s.DB.Reader(), ids...)
	if err != nil {
		return nil, err
	}
	for _, v := range rows {
		info := vpcInfo{Region: v.Region, RegionAlias: v.Region, VPCID: v.ID, Name: v.Name, Network: v.CIDR, State: v.State, Remark: v.Remark,
			SubnetCount: len(within[v.ID]), CreateTime: seconds(v.CreatedAt), UpdateTime: seconds(v.UpdatedAt), SubnetInfos: within[v.ID],
			CompanyID: v.Company, Email: shown[v.ID].email, ProjectID: v.Project, ProjectName: shown[v.ID].project, Reason: why(v.ReasonCode, v.Reason, c.Language),
			IsDefault: v.IsDefault, EnableGateway: v.Gateway, PeeringInfos: links[v.ID], Tags: shown[v.ID].tags}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

type createVPCRequest struct {
	Name              string   `validate:"required" doc:"1-63 printable characters"`
	Network           string   `validate:"required" doc:"private IPv4 CIDR within the networks that the configuration allows, e.g. 192.168.0.0/16"`
	ProjectID         string   `doc:"project group id"`
	ApplicationName   string   `validate:"max=100" doc:"title of the approval request"`
	ApplicationReason string   `validate:"max=1000" doc:"reason of the approval request"`
	Remark            string   `validate:"max=100" doc:"free text"`
	EnableGateway     bool     `doc:"turn the VPC gateway on at once"`
	TagKeyValuePairs  []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type createVPCResponse struct {
	VPCID         string
	ApplicationID string `doc:"set instead of the id when approval is on"`
}

func (s *Service) createVPC(ctx context.Context, c *action.Call, q *createVPCRequest) (*createVPCResponse, error) {
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	cidr, err := parseNetwork(q.Network)
	if err != nil {
		return nil, err
	}
	if offered := s.VPCNetworks(ctx, c.Region); !slices.ContainsFunc(offered, func(n netip.Prefix) bool { return n.Bits() <= cidr.Bits() && n.Contains(cidr.Addr()) }) {
		return nil, retcode.InvalidParameter.Errorf("Network: %s is within none of the networks that VPCs are made in, %v", cidr, offered)
	}
	now := s.Clock.Micros()
	v := &VPC{ID: database.NewID("vpc"), Region: c.Region, Company: c.Owner(), Name: name, Remark: q.Remark, CIDR: cidr.String(),
		Gateway: q.EnableGateway, State: Allocating, CreatedAt: now, UpdatedAt: now}
	if err := s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		if v.Project, err = identity.Project(ctx, tx, c, q.ProjectID); err != nil {
			return "", err
		}
		if err := s.Catalog.Reserve(ctx, tx, v.Company, v.Region, catalog.Amounts{catalog.VPC: 1}); err != nil {
			return "", err
		}
		if _, err := tx.NewInsert().Model(v).Exec(ctx); err != nil {
			return "", err
		}
		if err := tag.Attach(ctx, tx, now, resource.Item{ID: v.ID, Company: v.Company, Region: v.Region, Kind: "VPC"}, q.TagKeyValuePairs); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.makeVPC, v.Company, retcode.InvalidVPCState, edit{ID: v.ID, VPCs: []string{v.ID}}, exclusive(v.ID))
	}); err != nil {
		return nil, err
	}
	c.AddResource(v.ID)
	return &createVPCResponse{VPCID: v.ID}, nil
}

type deleteVPCRequest struct {
	VPCID string `validate:"required" doc:"VPC id"`
	action.Tenant
}

func (s *Service) deleteVPC(ctx context.Context, c *action.Call, q *deleteVPCRequest) (*action.Empty, error) {
	c.AddResource(q.VPCID)
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		v, err := vpcByID(ctx, tx, c.Scope(), q.VPCID)
		if err != nil {
			return "", err
		}
		if err := lockVPC(ctx, tx, v); err != nil {
			return "", err
		}
		if v.State == Terminating {
			return "", lifecycle.ErrRepeat
		}
		if err := v.usable(); err != nil {
			return "", err
		}
		if what, err := firstUse(ctx, tx, v.ID, []use{
			{"a subnet", "SELECT 1 FROM subnet WHERE vpc_id = ? AND ended_at = 0"},
			{"an address in use", "SELECT 1 FROM port WHERE vpc_id = ?"},
			{"a link", "SELECT 1 FROM peering WHERE vpc_id = ?0 OR peer_id = ?0"},
		}); err != nil {
			return "", err
		} else if what != "" {
			return "", retcode.VPCInUse.Errorf("%s has %s", v.ID, what)
		}
		if _, err := s.turn(ctx, tx, "vpc", v.ID, Terminating, nil, Available); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.removeVPC, v.Company, retcode.InvalidVPCState, edit{ID: v.ID, VPCs: []string{v.ID}}, exclusive(v.ID))
	})
}

// use is a query that finds something which uses a resource.
type use struct{ what, query string }

// firstUse tells what uses a resource; empty: nothing does.
func firstUse(ctx context.Context, idb bun.IDB, id string, uses []use) (string, error) {
	for _, u := range uses {
		if used, err := exists(ctx, idb, u.query, id); err != nil || used {
			return u.what, err
		}
	}
	return "", nil
}

// exists tells whether a query finds a row.
func exists(ctx context.Context, idb bun.IDB, query string, args ...any) (bool, error) {
	var found int
	return one(idb.NewRaw(query+" LIMIT 1", args...).Scan(ctx, &found))
}

type updateVPCGatewayRequest struct {
	VPCID         string `validate:"required" doc:"VPC id"`
	EnableGateway *bool  `validate:"required" doc:"off only without links and public addresses"`
	action.Tenant
}

func (s *Service) updateVPCGateway(ctx context.Context, c *action.Call, q *updateVPCGatewayRequest) (*action.Empty, error) {
	c.AddResource(q.VPCID)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vpcByID(ctx, tx, c.Scope(), q.VPCID)
		if err != nil {
			return err
		}
		if err := lockVPC(ctx, tx, v); err != nil {
			return err
		}
		if err := v.usable(); err != nil {
			return err
		}
		if !*q.EnableGateway && v.Gateway {
			if what, err := firstUse(ctx, tx, v.ID, []use{
				{"links", "SELECT 1 FROM peering WHERE vpc_id = ?0 OR peer_id = ?0"},
				{"public addresses", "SELECT 1 FROM gateway WHERE vpc_id = ?"},
			}); err != nil {
				return err
			} else if what != "" {
				return retcode.InvalidVPCState.Errorf("%s has %s, which need its gateway", v.ID, what)
			}
		}
		_, err = tx.NewRaw("UPDATE vpc SET gateway_on = ?, updated_at = ? WHERE id = ?", *q.EnableGateway, s.Clock.Micros(), v.ID).Exec(ctx)
		return err
	})
}
