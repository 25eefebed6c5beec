package network

import (
	"context"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Actions of VPCs, subnets, security groups and EIPs.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeVPC", Module: "vpc", Summary: "List VPCs together with their subnets."}, s.describeVPC),
		action.Define(action.Spec{Name: "DescribeSubnet", Module: "vpc", Summary: "List subnets."}, s.describeSubnet),
		action.Define(action.Spec{Name: "DescribeSecurityGroup", Module: "security_group", Summary: "List security groups with their rules."}, s.describeSecurityGroup),
		action.Define(action.Spec{Name: "CreateSecurityGroup", Module: "security_group", Mutates: true, Summary: "Create a security group with its rules."}, s.createSecurityGroup),
		action.Define(action.Spec{Name: "CreateSecurityGroupRule", Module: "security_group", Mutates: true, Summary: "Add rules to a security group."}, s.createSecurityGroupRule),
		action.Define(action.Spec{Name: "AllocateEIP", Module: "eip", Mutates: true, Summary: "Allocate public addresses from a segment."}, s.allocateEIP),
		action.Define(action.Spec{Name: "DescribeEIP", Module: "eip", Summary: "List public addresses."}, s.describeEIP),
		action.Define(action.Spec{Name: "BindEIP", Module: "eip", Mutates: true, Summary: "Bind a public address to a resource."}, s.bindEIP),
		action.Define(action.Spec{Name: "UnBindEIP", Module: "eip", Mutates: true, Summary: "Unbind a public address from a resource."}, s.unbindEIP),
		action.Define(action.Spec{Name: "ReleaseEIP", Module: "eip", Mutates: true, Summary: "Move a public address to the recycle bin."}, s.releaseEIP),
	}
}

// checkProject refuses project groups (651): there is none yet.
func checkProject(id string) error {
	if id != "" {
		return retcode.ProjectNotFound.Errorf("ProjectID %s", id)
	}
	return nil
}

// page reads the rows of one page and how many match in all.
func page(ctx context.Context, q *bun.SelectQuery, p action.Page, order string) (int, error) {
	n, err := q.Count(ctx)
	if err != nil || p.Limit == 0 || int64(p.Offset) >= n {
		return int(n), err
	}
	return int(n), q.OrderExpr(order).Offset(int64(p.Offset)).Limit(int64(p.Limit)).Scan(ctx)
}

// seconds turns stored into wire times.
func seconds(micros int64) int64 { return micros / 1_000_000 }

// emails reads the main accounts' login names of the rows' tenants.
func emails[T any](ctx context.Context, s *Service, rows []T, of func(*T) int64) (map[int64]string, error) {
	var ids []int64
	for i := range rows {
		if id := of(&rows[i]); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return s.Identity.Emails(ctx, ids)
}

// column collects one field of rows.
func column[T any](rows []T, of func(*T) string) []string {
	out := make([]string, len(rows))
	for i := range rows {
		out[i] = of(&rows[i])
	}
	return out
}

// VPCs and subnets.

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

func (s *Service) describeVPC(ctx context.Context, c *action.Call, q *describeVPCRequest) (*describeVPCResponse, error) {
	out := &describeVPCResponse{Infos: []vpcInfo{}}
	var rows []VPC
	sel, err := tag.Narrow(identity.Own(s.DB.Reader().NewSelect().Model(&rows), c.Scope()), "vpc.id", q.TagKeyValuePairs)
	if err != nil {
		return nil, err
	}
	sel = like(anyOf(anyOf(sel, "id", q.VPCIDs), "project", q.ProjectIDs), q.Keyword, "name", "id")
	if out.TotalCount, err = page(ctx, sel, q.Page, "created_at DESC, id DESC"); err != nil || len(rows) == 0 {
		return out, err
	}
	mails, err := emails(ctx, s, rows, func(v *VPC) int64 { return v.Company })
	if err != nil {
		return nil, err
	}
	tags, err := tag.Of(ctx, s.DB.Reader(), column(rows, func(v *VPC) string { return v.ID })...)
	if err != nil {
		return nil, err
	}
	var subnets []Subnet
	if err := s.DB.Reader().NewSelect().Model(&subnets).Where("vpc_id IN (?)", bun.In(column(rows, func(v *VPC) string { return v.ID }))).
		Order("created_at", "id").Scan(ctx); err != nil {
		return nil, err
	}
	within := make(map[string][]subnetInfo)
	for i := range subnets {
		info, err := s.subnetInfo(&subnets[i])
		if err != nil {
			return nil, err
		}
		within[info.VPCID] = append(within[info.VPCID], info)
	}
	for _, v := range rows {
		info := vpcInfo{Region: v.Region, RegionAlias: v.Region, VPCID: v.ID, Name: v.Name, Network: v.CIDR, State: v.State, Remark: v.Remark,
			SubnetCount: len(within[v.ID]), CreateTime: seconds(v.CreatedAt), UpdateTime: seconds(v.UpdatedAt), SubnetInfos: within[v.ID],
			CompanyID: v.Company, Email: mails[v.Company], ProjectID: v.Project, Reason: v.Reason, IsDefault: v.IsDefault,
			PeeringInfos: []peeringInfo{}, Tags: tags[v.ID]}
		if info.SubnetInfos == nil {
			info.SubnetInfos = []subnetInfo{}
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

func (s *Service) subnetInfo(n *Subnet) (subnetInfo, error) {
	p, err := n.pool()
	if err != nil {
		return subnetInfo{}, err
	}
	var dns []string
	for _, a := range s.dns(n) {
		dns = append(dns, a.String())
	}
	return subnetInfo{Region: n.Region, SubnetID: n.ID, VPCID: n.VPCID, Name: n.Name, Remark: n.Remark, Network: n.CIDR, Subnet: n.CIDR,
		State: n.State, CreateTime: seconds(n.CreatedAt), UpdateTime: seconds(n.UpdatedAt), ProjectID: n.Project, Reason: n.Reason,
		Gateway: nth(p.cidr, 1).String(), AvailableCount: n.Capacity - n.Used, UsedCount: n.Used, DNS: strings.Join(dns, ","),
		IsDefault: n.IsDefault, Tags: []tag.Info{}}, nil
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
	sel := identity.Own(s.DB.Reader().NewSelect().Model(&rows), c.Scope())
	if q.VPCID != "" {
		sel = sel.Where("vpc_id = ?", q.VPCID)
	}
	sel = like(anyOf(anyOf(sel, "id", q.SubnetIDs), "project", q.ProjectIDs), q.Keyword, "name", "id")
	var err error
	if out.TotalCount, err = page(ctx, sel, q.Page, "created_at DESC, id DESC"); err != nil {
		return nil, err
	}
	tags, err := tag.Of(ctx, s.DB.Reader(), column(rows, func(n *Subnet) string { return n.ID })...)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		info, err := s.subnetInfo(&rows[i])
		if err != nil {
			return nil, err
		}
		info.Tags = tags[info.SubnetID]
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}
