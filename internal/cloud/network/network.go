// Package network owns VPCs, subnets, ports, external segments, public addresses
// (EIPs) and security groups. Rows say what the networks should be; SyncVPC tells
// the fabric the whole of one VPC.
//
// Higher products reach the network through ports: anything may own one (Owner),
// and what can carry an EIP registers a Target for its kind.
package network

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Tenants is what the network asks of identity.Service.
type Tenants interface {
	Emails(ctx context.Context, companies []int64) (map[int64]string, error)
	ProjectNames(ctx context.Context, ids []string) (map[string]string, error)
	OnTenant(identity.TenantHook)
	OnLeave(func(ctx context.Context, tx bun.Tx, company int64) error)
}

// Offers is what the network asks of catalog.Service.
type Offers interface {
	CheckEIPSpec(ctx context.Context, region, segment string, mbps int) error
	Reserve(ctx context.Context, tx bun.Tx, company int64, region string, a catalog.Amounts) error
	Release(ctx context.Context, tx bun.Tx, company int64, region string, a catalog.Amounts) error
}

// Hosts is what the network asks of fleet.Service.
type Hosts interface {
	HostInfo(hostID string) (fleet.HostInfo, bool)
	OverlayMTU(region string) int
	GatewayChassis(region, network string) []string
	OnGateways(func(region string))
}

// Deps of the service.
type Deps struct {
	DB       *database.DB
	Clock    *clock.Clock
	Engine   *workflow.Engine
	Identity Tenants
	Catalog  Offers
	Fleet    Hosts
	Permit   *permit.Service
	Fabric   fabric.Fabric
	Ledger   *ledger.Service
	// DNS servers that DHCP offers in a region when a subnet names none.
	DNS func(ctx context.Context, region string) []netip.Addr
	// InnerMbps bounds an inner port that asks for nothing else; 0: nothing does.
	InnerMbps func(ctx context.Context, region string) int
	// VPCNetworks are the networks that a region's VPCs are made in, at least one.
	VPCNetworks func(ctx context.Context, region string) []netip.Prefix
}

// Service is the network.
type Service struct {
	Deps
	targets  map[string]Target
	holders  map[string]Holder // of security groups, by the prefix of their ids
	syncs    queue
	mend     *clock.Loop // everything, now and then
	gateways *clock.Loop // VPCs with gateways, when hosts come and go

	bind, unbind      *workflow.Workflow[eipChange]
	bandwidth, egress *workflow.Workflow[eipTuning]
	update            *workflow.Workflow[groupChange]
	sides             *workflow.Workflow[sideChanges]
	entries           *workflow.Workflow[entryChange]

	makeVPC, removeVPC, makeSubnet, removeSubnet *workflow.Workflow[edit]
	makeRoute, changeRoute, removeRoute          *workflow.Workflow[edit]
	makePeering, removePeering                   *workflow.Workflow[edit]
	makeVIP, changeVIP, limitVIP, removeVIP      *workflow.Workflow[edit]
	limitNIC, moveIP                             *workflow.Workflow[edit]
	attachNIC, detachNIC                         *workflow.Workflow[nicChange]
}

// New prepares the service and registers its hooks and workflows; call it before the engine's start.
func New(d Deps) *Service {
	s := &Service{Deps: d, targets: make(map[string]Target), holders: make(map[string]Holder)}
	s.syncs.call = s.syncOne
	s.mend = clock.NewLoop(d.Clock, "network", mendEvery, s.reconcile)
	s.gateways = clock.NewLoop(d.Clock, "gateways", mendEvery, s.syncGateways)
	d.Identity.OnTenant(s.furnish)
	d.Identity.OnLeave(s.leave)
	d.Ledger.Register(ledger.Kind{Name: ledger.EIP, Table: "eip", AutoRenew: true, Expired: s.expireEIP, Remove: s.removeExpiredEIP})
	d.Ledger.Register(ledger.Kind{Name: ledger.NIC, Table: "nic", AutoRenew: true, Expired: s.expireNIC, Remove: s.removeExpiredNIC})
	d.Ledger.Register(ledger.Kind{Name: ledger.VIP, Table: "vip", AutoRenew: true, Expired: s.expireVIP, Remove: s.removeExpiredVIP})
	d.Fleet.OnGateways(func(string) { s.gateways.Signal() })
	s.register()
	return s
}

// SegmentConfig describes the external segment of the first start.
type SegmentConfig struct {
	Name    string       // Bgp
	CIDR    netip.Prefix // IPv4
	Gateway netip.Addr   // the outside's router; invalid: no default route
	// First and Last bound what is handed out; invalid: all of CIDR but network, gateway and broadcast.
	First, Last netip.Addr
	VLAN        int    // 0: untagged
	Network     string // provider network, as in the hosts' bridge mappings
}

// row is the segment that the configuration describes.
func (c *SegmentConfig) row() (*Segment, error) {
	if !c.CIDR.IsValid() || !c.CIDR.Addr().Is4() || c.CIDR != c.CIDR.Masked() || c.CIDR.Bits() > 30 {
		return nil, fmt.Errorf("segment %s: %s is no IPv4 network of at least 4 addresses", c.Name, c.CIDR)
	}
	for _, a := range []netip.Addr{c.Gateway, c.First, c.Last} {
		if a.IsValid() && !c.CIDR.Contains(a) {
			return nil, fmt.Errorf("segment %s: %s is outside %s", c.Name, a, c.CIDR)
		}
	}
	row := &Segment{Name: c.Name, IPVersion: IPv4, CIDR: c.CIDR.String(), VLAN: c.VLAN, Network: c.Network, RouteMode: RouteNone, DHCP: true}
	if c.Gateway.IsValid() {
		row.Gateway, row.RouteMode = c.Gateway.String(), RouteDefault
	}
	whole := span{1, size(c.CIDR) - 2}
	if c.First.IsValid() {
		whole[0] = max(whole[0], offset(c.CIDR, c.First))
	}
	if c.Last.IsValid() {
		whole[1] = min(whole[1], offset(c.CIDR, c.Last))
	}
	if whole[0] > whole[1] {
		return nil, fmt.Errorf("segment %s has no address to hand out", c.Name)
	}
	return row, row.handOut(c.CIDR, []span{whole})
}

// Bootstrap makes the external segment of a region unless one of that name exists.
func (s *Service) Bootstrap(ctx context.Context, region string, c SegmentConfig) error {
	row, err := c.row()
	if err != nil {
		return err
	}
	now := s.Clock.Micros()
	row.ID, row.Region, row.CreatedAt, row.UpdatedAt = database.NewID("seg"), region, now, now
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(row).On("CONFLICT (region, name) DO NOTHING").Exec(ctx)
		return err
	})
}

// defaultNetworks are those of a tenant's default VPC and its subnet: the beginning of the first that VPCs are made in,
// a /16 and a /24 where it has room for them.
func (s *Service) defaultNetworks(ctx context.Context, region string) (vpc, subnet netip.Prefix) {
	first := s.VPCNetworks(ctx, region)[0]
	vpc = netip.PrefixFrom(first.Addr(), max(first.Bits(), 16))
	return vpc, netip.PrefixFrom(first.Addr(), max(first.Bits(), 24))
}

// furnish gives a new tenant its default VPC, subnet and security group. They count as the tenant's own.
func (s *Service) furnish(ctx context.Context, tx bun.Tx, company int64, region string) error {
	if err := s.Catalog.Reserve(ctx, tx, company, region, catalog.Amounts{catalog.VPC: 1, catalog.Subnet: 1, catalog.SecurityGroup: 1}); err != nil {
		return err
	}
	now := s.Clock.Micros()
	network, part := s.defaultNetworks(ctx, region)
	spans := subnetSpans(part, 1)
	project := identity.DefaultProject(company)
	vpc := &VPC{ID: database.NewID("vpc"), Region: region, Company: company, Project: project, Name: "default", CIDR: network.String(), IsDefault: true,
		State: Available, CreatedAt: now, UpdatedAt: now}
	subnet := &Subnet{ID: database.NewID("subnet"), VPCID: vpc.ID, Region: region, Company: company, Project: project, Name: "default", CIDR: part.String(),
		IsDefault: true, State: Available, Capacity: capacity(spans), Position: spans[0][0], CreatedAt: now, UpdatedAt: now}
	group := &Group{ID: database.NewID("sg"), Region: region, Company: company, Project: project, Name: "default", IsDefault: true,
		State: Available, CreatedAt: now, UpdatedAt: now}
	rules, err := parseRules(defaultRules)
	if err != nil {
		return err
	}
	identify(rules, group.ID, now)
	for _, rows := range []any{vpc, subnet, group, &rules} {
		if _, err := tx.NewInsert().Model(rows).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// DefaultGroup is the id of a tenant's default security group.
func (s *Service) DefaultGroup(ctx context.Context, idb bun.IDB, region string, company int64) (string, error) {
	var g Group
	found, err := one(database.One(ctx, idb, idb.NewSelect().Model(&g).Column("id").Where("region = ? AND company = ? AND is_default = ?", region, company, true), &g))
	if err == nil && !found {
		err = retcode.SGNotFound.Errorf("tenant %d has no default group in %s", company, region)
	}
	return g.ID, err
}
