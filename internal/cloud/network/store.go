package network

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// VPC is a row of VPCs.
type VPC struct {
	bun.BaseModel `bun:"table:vpc"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	CIDR       string `bun:"cidr"`
	IsDefault  bool   `bun:"is_default"`
	Gateway    bool   `bun:"gateway_on"` // the VPC gateway, which links need
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	ReasonCode int    `bun:"reason_code"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	EndedAt    int64  `bun:"ended_at"`
	Generation int64  `bun:"generation"`
}

// Subnet is a row of subnets. Capacity, Used and Position are its pool's.
type Subnet struct {
	bun.BaseModel `bun:"table:subnet"`

	ID         string `bun:"id,pk"`
	VPCID      string `bun:"vpc_id"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	CIDR       string `bun:"cidr"`
	Gateway    string `bun:"gateway"` // the router's address; empty: the first usable
	DNS        string `bun:"dns"`
	IsDefault  bool   `bun:"is_default"`
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	ReasonCode int    `bun:"reason_code"`
	Capacity   int64  `bun:"capacity"`
	Used       int64  `bun:"used"`
	Position   int64  `bun:"position"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	EndedAt    int64  `bun:"ended_at"`
	Generation int64  `bun:"generation"`
}

// Segment is a row of external segments: a provider network with a gateway.
type Segment struct {
	bun.BaseModel `bun:"table:segment"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Name       string `bun:"name"`
	IPVersion  string `bun:"ip_version"`
	CIDR       string `bun:"cidr"`
	Ranges     string `bun:"ranges"`
	Gateway    string `bun:"gateway"`
	VLAN       int    `bun:"vlan"`
	Network    string `bun:"network"`
	Remark     string `bun:"remark"`
	RouteMode  string `bun:"route_mode"` // Default, Specified, None
	Bandwidth  int    `bun:"bandwidth"`  // Mbps of all its EIPs together; 0: no limit
	DHCP       bool   `bun:"dhcp"`
	DHCPServer string `bun:"dhcp_server"` // empty: the gateway
	Capacity   int64  `bun:"capacity"`
	Used       int64  `bun:"used"`
	Position   int64  `bun:"position"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// Port is a NIC: one address and one MAC in a subnet. UUID names the logical port and libvirt's interface.
type Port struct {
	bun.BaseModel `bun:"table:port"`

	ID         string `bun:"id,pk"`
	UUID       string `bun:"uuid"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	VPCID      string `bun:"vpc_id"`
	SubnetID   string `bun:"subnet_id"`
	SegmentID  string `bun:"segment_id"` // of an outer NIC or VIP, which is in no subnet
	MAC        string `bun:"mac"`
	IP         string `bun:"ip"`
	Num        int64  `bun:"num"`
	Hostname   string `bun:"hostname"`
	DNS        string `bun:"dns"` // offered by DHCP in place of the subnet's, comma separated
	OwnerKind  string `bun:"owner_kind"`
	OwnerID    string `bun:"owner_id"`
	InnerSG    string `bun:"inner_sg"`
	OuterSG    string `bun:"outer_sg"`
	HostID     string `bun:"host_id"`
	InMbps     int    `bun:"in_mbps"`  // of what it receives; 0: unlimited
	OutMbps    int    `bun:"out_mbps"` // of what it sends
	Kept       bool   `bun:"kept"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// EIP is a row of public addresses. Times are unix microseconds.
type EIP struct {
	bun.BaseModel `bun:"table:eip"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	SegmentID  string `bun:"segment_id"`
	IPVersion  string `bun:"ip_version"`
	IP         string `bun:"ip"`
	Num        int64  `bun:"num"`
	Bandwidth  int    `bun:"bandwidth"`
	ChargeType string `bun:"charge_type"`
	Quantity   int    `bun:"quantity"`
	AutoRenew  bool   `bun:"auto_renew"`
	State      string `bun:"state"`
	Listed     bool   `bun:"listed"`
	Physical   bool   `bun:"physical"` // a physical IP: see physical.go
	Reason     string `bun:"reason"`
	ReasonCode int    `bun:"reason_code"`
	BindKind   string `bun:"bind_kind"`
	BindID     string `bun:"bind_id"`
	PortID     string `bun:"port_id"`
	VPCID      string `bun:"vpc_id"`
	Egress     bool   `bun:"egress"` // default egress of its port
	BoundAt    int64  `bun:"bound_at"`
	ExpireAt   int64  `bun:"expire_at"` // 0: never
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	DeletedAt  int64  `bun:"deleted_at"`
	EndedAt    int64  `bun:"ended_at"`
	Generation int64  `bun:"generation"`
}

// Group is a row of security groups.
type Group struct {
	bun.BaseModel `bun:"table:security_group"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	IsDefault  bool   `bun:"is_default"`
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	ReasonCode int    `bun:"reason_code"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	EndedAt    int64  `bun:"ended_at"`
	Generation int64  `bun:"generation"`
}

// gatewayRow is the router of a VPC on a segment. Uses counts the EIPs that need it.
type gatewayRow struct {
	bun.BaseModel `bun:"table:gateway"`

	VPCID     string `bun:"vpc_id,pk"`
	SegmentID string `bun:"segment_id,pk"`
	IP        string `bun:"ip"`
	Num       int64  `bun:"num"`
	MAC       string `bun:"mac"`
	Uses      int64  `bun:"uses"`
	Chassis   string `bun:"chassis"`
	CreatedAt int64  `bun:"created_at"`
}

// ruleRow is a rule of a security group in canonical form (see Rule).
type ruleRow struct {
	bun.BaseModel `bun:"table:sg_rule"`

	ID        string `bun:"id,pk"`
	SGID      string `bun:"sg_id"`
	Protocol  string `bun:"protocol"`
	Ports     string `bun:"ports"`
	Remote    string `bun:"remote"`
	Action    string `bun:"action"`
	Priority  string `bun:"priority"`
	Ingress   bool   `bun:"ingress"`
	Remark    string `bun:"remark"`
	CreatedAt int64  `bun:"created_at"`
	UpdatedAt int64  `bun:"updated_at"`
}

// why is the reason of a change that was taken back, as the tenant reads it.
func why(code int, detail, language string) string {
	m := retcode.Code(code).Message(language)
	if m != "" && detail != "" {
		m += ": " + detail
	}
	return m
}

// explanation is the code and the detail that a row keeps of a cause.
func explanation(cause error) (code int, detail string) {
	if e := new(retcode.Error); errors.As(cause, &e) {
		detail = e.Detail()
	}
	return int(retcode.Of(cause)), detail
}

// one tells whether a read of one row found it.
func one(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// vpcByID reads a VPC of a scope: 3000 when unknown or out of it.
func vpcByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*VPC, error) {
	v := new(VPC)
	found, err := one(database.One(ctx, idb, identity.Own(idb.NewSelect().Model(v).Where("id = ?", id), scope), v))
	if err == nil && !found {
		err = retcode.VPCNotFound.Errorf("VPCID %s", id)
	}
	return v, err
}

// subnetByID reads a subnet of a VPC: 3003 when unknown or another VPC's.
func subnetByID(ctx context.Context, idb bun.IDB, v *VPC, id string) (*Subnet, error) {
	n := new(Subnet)
	found, err := one(database.One(ctx, idb, idb.NewSelect().Model(n).Where("id = ? AND vpc_id = ?", id, v.ID), n))
	if err == nil && !found {
		err = retcode.SubnetNotFound.Errorf("SubnetID %s in %s", id, v.ID)
	}
	return n, err
}

// groupByID reads a security group of a scope: 16002 when unknown or out of it.
func groupByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*Group, error) {
	g := new(Group)
	found, err := one(database.One(ctx, idb, identity.Own(idb.NewSelect().Model(g).Where("id = ?", id), scope), g))
	if err == nil && !found {
		err = retcode.SGNotFound.Errorf("SGID %s", id)
	}
	return g, err
}

// eipByID reads an EIP of a scope, also one in the bin: 200 when unknown or out of it.
func eipByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*EIP, error) {
	e := new(EIP)
	found, err := one(database.One(ctx, idb, identity.Own(idb.NewSelect().Model(e).Where("id = ?", id), scope), e))
	if err == nil && !found {
		err = retcode.ResourceNotFound.Errorf("EIPID %s", id)
	}
	return e, err
}

// addressByID is eipByID for an action on EIPs, or on physical IPs: 200 for an id of the other kind.
func addressByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string, physical bool) (*EIP, error) {
	e, err := eipByID(ctx, idb, scope, id)
	if err == nil && e.Physical != physical {
		err = retcode.ResourceNotFound.Errorf("%s", id)
	}
	return e, err
}

// segmentByName reads a segment of a region by id or name: 200 when unknown.
func segmentByName(ctx context.Context, idb bun.IDB, region, name string) (*Segment, error) {
	g := new(Segment)
	found, err := one(idb.NewSelect().Model(g).Where("region = ? AND (id = ? OR name = ?)", region, name, name).
		OrderExpr("CASE WHEN id = ? THEN 0 ELSE 1 END", name).Limit(1).Scan(ctx))
	if err == nil && !found {
		err = retcode.ResourceNotFound.Errorf("external segment %s", name)
	}
	return g, err
}

// segmentsByID reads segments by their ids.
func segmentsByID(ctx context.Context, idb bun.IDB, ids []string) (map[string]*Segment, error) {
	out := make(map[string]*Segment)
	if ids = uniq(ids); len(ids) == 0 {
		return out, nil
	}
	var rows []*Segment
	if err := idb.NewSelect().Model(&rows).Where("id IN (?)", bun.In(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	for _, g := range rows {
		out[g.ID] = g
	}
	return out, nil
}

// names reads the names of rows by id.
func names(ctx context.Context, idb bun.IDB, table string, ids []string) (map[string]string, error) {
	out := make(map[string]string)
	if ids = uniq(ids); len(ids) == 0 {
		return out, nil
	}
	rows, err := database.Query[struct{ ID, Name string }](ctx, idb, "SELECT id, name FROM "+table+" WHERE id IN (?)", ids)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		out[r.ID] = r.Name
	}
	return out, nil
}

// anyOf narrows a query to listed values; an empty list does not narrow.
func anyOf[T any](q *bun.SelectQuery, column string, values []T) *bun.SelectQuery {
	if len(values) == 0 {
		return q
	}
	return q.Where("? IN (?)", bun.Ident(column), bun.In(values))
}

// tombstoneAge is how long what was destroyed still answers so.
const tombstoneAge = 180 * 24 * time.Hour

// forget deletes old tombstones.
func (s *Service) forget(ctx context.Context) error {
	before := s.Clock.Now().Add(-tombstoneAge).UnixMicro()
	for _, table := range []string{"eip", "security_group", "subnet", "vpc", "nic", "vip"} {
		if old, err := exists(ctx, s.DB.Reader(), "SELECT 1 FROM ? WHERE ended_at > 0 AND ended_at < ?", bun.Ident(table), before); err != nil {
			return err
		} else if !old {
			continue
		}
		if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewRaw("DELETE FROM ? WHERE ended_at > 0 AND ended_at < ?", bun.Ident(table), before).Exec(ctx)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// matchingPorts is database.Matching for rows of NICs and VIPs, whose addresses are in rows of ports.
func matchingPorts(q *bun.SelectQuery, keyword string) *bun.SelectQuery {
	if keyword == "" {
		return q
	}
	return q.WhereGroup(" AND ", func(g *bun.SelectQuery) *bun.SelectQuery {
		return database.Matching(g, keyword, "name", "id").WhereOr("id IN (SELECT id FROM port WHERE ip LIKE ? ESCAPE '\\')", database.Like(keyword))
	})
}
