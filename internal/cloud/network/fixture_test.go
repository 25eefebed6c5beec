package network

import (
	"context"
	"net/netip"
	"sync"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
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

const (
	region  = "cn"
	company = int64(200000300)
)

// fixture is the network alone, for what lies below the API: other rooms are as small as can be.
type fixture struct {
	*Service
	memory *fabric.Memory
	hosts  *hosts
	hooks  []identity.TenantHook
	tb     testing.TB
	// plugged is how many interfaces each machine's host has plugged in.
	plugged sync.Map
}

// hosts stands for the fleet: hosts and which of them are down.
type hosts struct {
	mu       sync.Mutex
	down     map[string]bool
	changed  func(string)
	gateways []string
}

func (h *hosts) HostInfo(id string) (fleet.HostInfo, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id == "" {
		return fleet.HostInfo{}, false
	}
	state := fleet.Available
	if h.down[id] {
		state = fleet.Down
	}
	return fleet.HostInfo{ID: id, State: state, Chassis: "chassis-of-" + id, Networks: []string{"provider"}}, true
}
func (h *hosts) OverlayMTU(string) int     { return 1442 }
func (h *hosts) OnGateways(f func(string)) { h.changed = f }
func (h *hosts) GatewayChassis(string, string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.gateways...)
}

func (f *fixture) Emails(context.Context, []int64) (map[int64]string, error) { return nil, nil }
func (f *fixture) ProjectNames(context.Context, []string) (map[string]string, error) {
	return nil, nil
}
func (f *fixture) OnTenant(h identity.TenantHook) { f.hooks = append(f.hooks, h) }

func (f *fixture) OnLeave(func(context.Context, bun.Tx, int64) error) {}

// newFixture makes a network with one tenant and a segment of 198.51.100.0/28.
func newFixture(t testing.TB, db *database.DB) *fixture {
	t.Helper()
	ctx := context.Background()
	now := clock.New()
	f := &fixture{tb: t, memory: fabric.NewMemory(), hosts: &hosts{down: map[string]bool{}, gateways: []string{"a", "b", "c"}}}
	offers := catalog.New(catalog.Deps{DB: db, Clock: now})
	money := ledger.New(ledger.Deps{DB: db, Clock: now, Catalog: offers})
	f.hooks = append(f.hooks, offers.Furnish, money.Furnish)
	f.Service = New(Deps{DB: db, Clock: now, Engine: workflow.New(db, workflow.Options{Clock: now, Holder: "test"}), Identity: f,
		Catalog: offers, Fleet: f.hosts, Fabric: f.memory, Permit: permit.New(permit.Deps{DB: db, Clock: now}), Ledger: money,
		DNS:       func(context.Context, string) []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.53")} },
		InnerMbps: offers.Config.InnerBandwidth, VPCNetworks: offers.Config.VPCNetwork})
	if err := f.Bootstrap(ctx, region, SegmentConfig{Name: "Bgp", CIDR: netip.MustParsePrefix("198.51.100.0/28"), Gateway: netip.MustParseAddr("198.51.100.1"),
		Network: "provider"}); err != nil {
		t.Fatal(err)
	}
	f.transact(t, func(ctx context.Context, tx bun.Tx) error {
		for _, h := range f.hooks {
			if err := h(ctx, tx, company, region); err != nil {
				return err
			}
		}
		return nil
	})
	if err := money.Grant(ctx, company, 1_000_000); err != nil {
		t.Fatal(err)
	}
	return f
}

// transact runs fn and fails the test when it does.
func (f *fixture) transact(t testing.TB, fn func(ctx context.Context, tx bun.Tx) error) {
	t.Helper()
	if err := f.DB.Transact(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// refuse runs fn and fails the test unless it answers the code.
func (f *fixture) refuse(t *testing.T, code retcode.Code, fn func(ctx context.Context, tx bun.Tx) error) {
	t.Helper()
	if err := f.DB.Transact(context.Background(), fn); retcode.Of(err) != code {
		t.Fatalf("got %v, want code %d", err, code)
	}
}

// network reads the tenant's default VPC, subnet and group.
func (f *fixture) network(t testing.TB) (v VPC, n Subnet, g Group) {
	t.Helper()
	ctx := context.Background()
	for _, model := range []any{&v, &n, &g} {
		if err := f.DB.Reader().NewSelect().Model(model).Where("company = ? AND is_default = ?", company, true).Scan(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return v, n, g
}

// port reserves a port of a VM in the tenant's default subnet.
func (f *fixture) port(t *testing.T, vm, ip string) *Port {
	t.Helper()
	v, n, _ := f.network(t)
	var port *Port
	f.transact(t, func(ctx context.Context, tx bun.Tx) (err error) {
		port, err = f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: n.ID, IP: ip, Owner: Owner{VM, vm}, HostID: "host-1"})
		return err
	})
	return port
}

// eip allocates an address of the segment.
func (f *fixture) eip(t *testing.T, ip string) *EIP {
	t.Helper()
	var e *EIP
	f.transact(t, func(ctx context.Context, tx bun.Tx) (err error) {
		e, err = f.AllocateEIPTx(ctx, tx, EIPRequest{Company: company, Region: region, Name: "web", Segment: "Bgp", IP: ip, Bandwidth: 5, ChargeType: "Month", Quantity: 1})
		if err != nil {
			return err
		}
		return f.Ledger.Capture(ctx, tx, e.ID)
	})
	return e
}

// verify fails the test when what is counted differs from what is there.
func (f *fixture) verify(t *testing.T) {
	t.Helper()
	problems, err := f.Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}
