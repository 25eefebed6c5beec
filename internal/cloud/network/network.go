// Package network owns VPCs, subnets, ports, external segments, public addresses
// (EIPs) and security groups. Rows say what the networks should be; SyncVPC tells
// the fabric the whole of one VPC.
//
// Higher products reach the network through ports: anything may own one (Owner),
// and what can carry an EIP registers a Target for its kind.
package network

import (
	"context"
	"net/netip"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Tenants is what the network asks of identity.Service.
type Tenants interface {
	Emails(ctx context.Context, companies []int64) (map[int64]string, error)
	OnTenant(identity.TenantHook)
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
	Fabric   fabric.Fabric
	// DNS servers that DHCP offers when a subnet names none.
	DNS []netip.Addr
}

// Service is the network.
type Service struct {
	Deps
	targets map[string]Target
}

// New prepares the service and registers its hooks and workflows; call it before the engine's start.
func New(d Deps) *Service { panic("not yet") }

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

// Bootstrap makes the external segment of a region unless one of that name exists.
func (s *Service) Bootstrap(ctx context.Context, region string, c SegmentConfig) error {
	panic("not yet")
}

// Run keeps the fabric equal to the rows until ctx ends: every 30 s and when gateways change. Only the
// leading controller calls it.
func (s *Service) Run(ctx context.Context) { panic("not yet") }

// DefaultGroup is the id of a tenant's default security group.
func (s *Service) DefaultGroup(ctx context.Context, idb bun.IDB, region string, company int64) (string, error) {
	panic("not yet")
}
