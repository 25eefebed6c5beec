package network

import (
	"context"
	"net/netip"
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
)

type subnetInfo struct {
	Region         string
	SubnetID       string
	VPCID          string
	Name           string
	Remark         string
	Network        string `doc:"CIDR"`
	Subnet         string `doc:"same as Network"`
	State          string
	CreateTime     int64
	UpdateTime     int64
	ProjectID      string
	ProjectName    string
	Reason         string
	Zone           string `doc:"older clients only"`
	Gateway        string
	AvailableCount int64 `doc:"free addresses"`
	UsedCount      int64
	RouteCount     int
	DNS            string `doc:"comma separated"`
	IsDefault      bool
	Tags           []tag.Info
}

// subnetInfos are subnets as lists show them.
func (s *Service) subnetInfos(ctx context.Context, rows []Subnet, language string) ([]subnetInfo, error) {
	shown, err := labelled(ctx, s, rows)
	if err != nil {
		return nil, err
	}
	routes, err := routeCounts(ctx, s.DB.Reader(), rows)
	if err != nil {
		return nil, err
	}
	out := make([]subnetInfo, len(rows))
	for i := range rows {
		n := &rows[i]
		p, err := n.pool()
		if err != nil {
			return nil, err
		}
		dns := column(s.dns(ctx, n), func(a *netip.Addr) string { return a.String() })
		out[i] = subnetInfo{Region: n.Region, SubnetID: n.ID, VPCID: n.VPCID, Name: n.Name, Remark: n.Remark, Network: n.CIDR, Subnet: n.CIDR,
			State: n.State, CreateTime: seconds(n.CreatedAt), UpdateTime: seconds(n.UpdatedAt), ProjectID: n.Project, ProjectName: shown[n.ID].project,
			Reason: why(n.ReasonCode, n.Reason, language), Gateway: n.gateway(p.cidr).String(), AvailableCount: n.Capacity - n.Used, UsedCount: n.Used,
			RouteCount: routes[n.ID], DNS: strings.Join(dns, ","), IsDefault: n.IsDefault, Tags: shown[n.ID].tags}
	}
	return out, nil
}

type describeSubnetRequest struct {
	VPCID      string   `doc:"VPC id"`
	SubnetIDs  []string `doc:"subnet ids"`
	Keyword    string   `doc:"part of name or id"`
	ProjectIDs []string `doc:"project group ids"`
	action.Tenant
	action.Page
}

type describeSubnetResponse struct {
	TotalCount int
	Infos      []subnetInfo
}

func (s *Service) describeSubnet(ctx context.Context, c *action.Call, q *describeSubnetRequest) (*describeSubnetResponse, error) {
	out := &describeSubnetResponse{Infos: []subnetInfo{}}
	var rows []Subnet
	sel := identity.Own(s.DB.Reader().NewSelect().Model(&rows).Where("ended_at = 0"), c.Scope())
	if q.VPCID != "" {
		sel = sel.Where("vpc_id = ?", q.VPCID)
	}
	sel = database.Matching(anyOf(anyOf(sel, "id", q.SubnetIDs), "project", q.ProjectIDs), q.Keyword, "name", "id")
	var err error
	if out.TotalCount, err = page(ctx, sel, q.Page, "created_at DESC, id DESC"); err != nil {
		return nil, err
	}
	out.Infos, err = s.subnetInfos(ctx, rows, c.Language)
	return out, err
}

type createSubnetRequest struct {
	Name             string   `validate:"required" doc:"1-63 printable characters"`
	Network          string   `validate:"required" doc:"CIDR inside the VPC"`
	VPCID            string   `validate:"required" doc:"VPC id"`
	ProjectID        string   `doc:"project group id"`
	Remark           string   `validate:"max=100" doc:"free text"`
	DNS              string   `doc:"up to 3 servers, comma separated; else the region's"`
	GatewayIP        string   `doc:"the router's address; else the first usable one"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type createSubnetResponse struct{ SubnetID string }

func (s *Service) createSubnet(ctx context.Context, c *action.Call, q *createSubnetRequest) (*createSubnetResponse, error) {
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	cidr, err := parseNetwork(q.Network)
	if err != nil {
		return nil, err
	}
	dns, err := parseDNS(q.DNS)
	if err != nil {
		return nil, err
	}
	gateway, err := parseWanted(q.GatewayIP)
	if err != nil {
		return nil, err
	}
	if gateway.IsValid() && (!cidr.Contains(gateway) || offset(cidr, gateway) == 0 || offset(cidr, gateway) == size(cidr)-1) {
		return nil, retcode.InvalidParameter.Errorf("GatewayIP must be a usable address of %s", cidr)
	}
	now := s.Clock.Micros()
	n := &Subnet{ID: database.NewID("subnet"), VPCID: q.VPCID, Region: c.Region, Name: name, Remark: q.Remark, CIDR: cidr.String(), DNS: dns,
		State: Allocating, CreatedAt: now, UpdatedAt: now}
	if gateway.IsValid() {
		n.Gateway = gateway.String()
	}
	p, err := n.pool()
	if err != nil {
		return nil, err
	}
	n.Capacity, n.Position = capacity(p.spans), p.spans[0][0]
	if err := s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		v, err := vpcByID(ctx, tx, c.Scope(), q.VPCID)
		if err != nil {
			return "", err
		}
		n.Project, c.Company = v.Project, v.Company
		if q.ProjectID != "" {
			if n.Project, err = identity.Project(ctx, tx, c, q.ProjectID); err != nil {
				return "", err
			}
		}
		fits := func() error {
			if err := v.usable(); err != nil {
				return err
			}
			return checkSubnet(ctx, tx, v, cidr)
		}
		// Looked at twice: once to say what is wrong before the quota is asked, once while nobody adds another.
		if err := fits(); err != nil {
			return "", err
		}
		if err := s.Catalog.Reserve(ctx, tx, v.Company, v.Region, catalog.Amounts{catalog.Subnet: 1}); err != nil {
			return "", err
		}
		if err := lockVPC(ctx, tx, v); err != nil {
			return "", err
		}
		if err := fits(); err != nil {
			return "", err
		}
		n.Company = v.Company
		if _, err := tx.NewInsert().Model(n).Exec(ctx); err != nil {
			return "", err
		}
		if err := tag.Attach(ctx, tx, now, resource.Item{ID: n.ID, Company: n.Company, Region: n.Region, Kind: "SUBNET"}, q.TagKeyValuePairs); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.makeSubnet, v.Company, retcode.InvalidVPCState, edit{ID: n.ID, VPCs: []string{v.ID}}, exclusive(n.ID), shared(v.ID))
	}); err != nil {
		return nil, err
	}
	c.AddResource(n.ID, q.VPCID)
	return &createSubnetResponse{SubnetID: n.ID}, nil
}

// parseDNS reads a list of IPv4 servers: 4 no address, 113 too many or IPv6.
func parseDNS(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", nil
	}
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil {
			return "", retcode.InvalidParameterFormat.Errorf("DNS: %q is no IP address", part)
		}
		if !a.Is4() {
			return "", retcode.InvalidParameter.Errorf("DNS: %s is no IPv4 address", a)
		}
		out = append(out, a.String())
	}
	if len(out) > maxSubnetDNS {
		return "", retcode.InvalidParameter.Errorf("DNS has at most %d addresses", maxSubnetDNS)
	}
	return strings.Join(out, ","), nil
}

type subnetRequest struct {
	SubnetID string `validate:"required" doc:"subnet id"`
	action.Tenant
}

func (s *Service) deleteSubnet(ctx context.Context, c *action.Call, q *subnetRequest) (*action.Empty, error) {
	c.AddResource(q.SubnetID)
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		n, err := subnetIn(ctx, tx, c.Scope(), q.SubnetID)
		if err != nil {
			return "", err
		}
		if err := lockSubnet(ctx, tx, n); n.State == Deleting {
			return "", lifecycle.ErrRepeat
		} else if err != nil {
			return "", err
		}
		if n.Used > 0 {
			return "", retcode.SubnetInUse.Errorf("%s has %d addresses in use, the recycle bin's included", n.ID, n.Used)
		}
		if _, err := s.turn(ctx, tx, "subnet", n.ID, Deleting, nil, Available); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.removeSubnet, n.Company, retcode.InvalidSubnetState, edit{ID: n.ID, VPCs: []string{n.VPCID}}, exclusive(n.ID), shared(n.VPCID))
	})
}

// subnetQuotaRequest demands the tenant, as the contract does; the wire leaves such a parameter to us.
type subnetQuotaRequest struct {
	CompanyID int64  `validate:"required" doc:"tenant; another than one's own is for administrators"`
	SubnetID  string `validate:"required" doc:"subnet id"`
}

type subnetQuotaResponse struct {
	AvailableCount int64
	UsedCount      int64
}

func (s *Service) subnetQuota(ctx context.Context, c *action.Call, q *subnetQuotaRequest) (*subnetQuotaResponse, error) {
	scope := c.Scope()
	if !c.Caller.Admin && q.CompanyID != c.Caller.Company {
		return nil, retcode.AdminOnly.Errorf("CompanyID %d is not yours", q.CompanyID)
	}
	scope.Company = q.CompanyID
	n, err := subnetIn(ctx, s.DB.Reader(), scope, q.SubnetID)
	if err != nil {
		return nil, err
	}
	return &subnetQuotaResponse{AvailableCount: n.Capacity - n.Used, UsedCount: n.Used}, nil
}

type listAllocatedIPsRequest struct {
	SubnetID  string `validate:"required" doc:"subnet id"`
	OnlyCount bool   `doc:"answer only the count"`
	action.Tenant
	action.Page
}

type listAllocatedIPsResponse struct {
	AllocatedIPCount int
	Infos            []allocatedIP
	TotalCount       int
}

type allocatedIP struct {
	IP           string
	MAC          string
	ResourceID   string
	ResourceName string
	ResourceType string
	State        string `doc:"Bound: in its network; Kept: its owner is in the recycle bin or not attached"`
}

func (s *Service) listAllocatedIPs(ctx context.Context, c *action.Call, q *listAllocatedIPsRequest) (*listAllocatedIPsResponse, error) {
	db := s.DB.Reader()
	n, err := subnetIn(ctx, db, c.Scope(), q.SubnetID)
	if err != nil {
		return nil, err
	}
	out := &listAllocatedIPsResponse{Infos: []allocatedIP{}}
	var rows []Port
	out.TotalCount, err = page(ctx, db.NewSelect().Model(&rows).Where("subnet_id = ?", n.ID), q.Page, "num")
	out.AllocatedIPCount = out.TotalCount
	if err != nil || q.OnlyCount {
		return out, err
	}
	owners, err := s.owners(ctx, column(rows, (*Port).owner))
	if err != nil {
		return nil, err
	}
	for _, p := range rows {
		info := allocatedIP{IP: p.IP, MAC: p.MAC, ResourceID: p.OwnerID, ResourceName: owners[p.OwnerID].Name, ResourceType: p.OwnerKind, State: Bound}
		if p.Kept {
			info.State = "Kept"
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}
