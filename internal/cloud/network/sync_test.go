package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestWhatTheFabricIsTold spells one VPC out.
func TestWhatTheFabricIsTold(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		v, n, g := f.network(t)
		one, two := f.port(t, "vm-one", "10.0.0.10"), f.port(t, "vm-two", "10.0.0.11")
		binned := f.port(t, "vm-three", "10.0.0.12")
		var empty string
		f.transact(t, func(ctx context.Context, tx bun.Tx) error {
			empty = "sg-empty"
			if err := f.createGroup(ctx, tx, &Group{ID: empty, Region: region, Company: company, Name: "x", State: Available, CreatedAt: 1},
				[]ruleRow{{Protocol: protoTCP, Ports: "8080", Remote: "192.0.2.0/24", Action: "DROP", Priority: "HIGH", Ingress: true}}); err != nil {
				return err
			}
			if _, err := tx.NewRaw("UPDATE port SET outer_sg = ?, hostname = 'two' WHERE id = ?", empty, two.ID).Exec(ctx); err != nil {
				return err
			}
			if err := f.PlacePort(ctx, tx, two.ID, ""); err != nil { // on no host yet
				return err
			}
			return f.KeepPort(ctx, tx, binned.ID)
		})
		near, far := f.eip(t, "198.51.100.5"), f.eip(t, "198.51.100.6")
		bind := func(e *EIP, p *Port) {
			f.transact(t, func(ctx context.Context, tx bun.Tx) error {
				_, err := f.BeginBindTx(ctx, tx, e.ID, Owner{VM, p.OwnerID}, p.ID)
				return err
			})
		}
		bind(near, one)
		bind(far, two)
		if err := f.SyncVPC(t.Context(), v.ID); err != nil {
			t.Fatal(err)
		}
		got, ok := f.memory.VPC(v.ID)
		if !ok {
			t.Fatal("nothing was told")
		}
		addr, cidr := netip.MustParseAddr, netip.MustParsePrefix
		rule := func(in bool, p fabric.Protocol, port uint16) fabric.Rule {
			r := fabric.Rule{Ingress: in, Protocol: p, Remote: []netip.Prefix{cidr("0.0.0.0/0")}, Accept: true, Priority: fabric.Medium}
			if port != 0 {
				r.Ports = []fabric.PortRange{{First: port, Last: port}}
			}
			return r
		}
		all := []fabric.Rule{rule(false, fabric.AnyProtocol, 0), rule(true, fabric.ICMPv4, 0), rule(true, fabric.TCP, 22), rule(true, fabric.TCP, 3389),
			rule(true, fabric.TCP, 80), rule(true, fabric.TCP, 443)}
		inside := slices.Insert(slices.Clone(all), 1, fabric.Rule{Ingress: true, Protocol: fabric.AnyProtocol, Accept: true, Priority: fabric.Medium})
		ports := []fabric.Port{
			{ID: one.ID, UUID: one.UUID, SubnetID: n.ID, MAC: one.MAC, IP: addr("10.0.0.10"), InMbps: 1000, OutMbps: 1000},
			{ID: two.ID, UUID: two.UUID, SubnetID: n.ID, MAC: two.MAC, IP: addr("10.0.0.11"), Hostname: "two", InMbps: 1000, OutMbps: 1000},
		}
		members := []string{one.ID, two.ID}
		slices.Sort(members)
		want := fabric.VPC{
			ID: v.ID, CIDR: cidr("10.0.0.0/16"), MTU: 1442,
			Subnets: []fabric.Subnet{{ID: n.ID, CIDR: cidr("10.0.0.0/24"), Gateway: addr("10.0.0.1"), DNS: []netip.Addr{addr("192.0.2.53")}}},
			Ports:   ports,
			EIPs: []fabric.EIP{
				{ID: near.ID, SegmentID: near.SegmentID, Address: addr("198.51.100.5"), PortID: one.ID, BandwidthMbps: 5, Default: true, Distributed: true},
				{ID: far.ID, SegmentID: near.SegmentID, Address: addr("198.51.100.6"), PortID: two.ID, BandwidthMbps: 5, Default: true},
			},
			Groups: []fabric.Group{
				{ID: g.ID, Side: fabric.Inner, Rules: inside, Members: members},
				{ID: g.ID, Side: fabric.Outer, Rules: all, Members: []string{one.ID}},
				{ID: empty, Side: fabric.Outer, Members: []string{two.ID}, Rules: []fabric.Rule{{Ingress: true, Protocol: fabric.TCP,
					Ports: []fabric.PortRange{{First: 8080, Last: 8080}}, Remote: []netip.Prefix{cidr("192.0.2.0/24")}, Priority: fabric.High}}},
			},
		}
		// The gateway's address and MAC are drawn; the rest is as follows.
		if len(got.Gateways) != 1 || got.Gateways[0].SegmentID != near.SegmentID || got.Gateways[0].NextHop != addr("198.51.100.1") ||
			!cidr("198.51.100.0/28").Contains(got.Gateways[0].Address.Addr()) || got.Gateways[0].Address.Bits() != 28 || len(got.Gateways[0].Chassis) != 3 {
			t.Errorf("gateways %+v", got.Gateways)
		}
		diff := cmp.Diff(want, got, cmpopts.IgnoreFields(fabric.Rule{}, "ID"), cmpopts.IgnoreFields(fabric.VPC{}, "Gateways"), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
			cmpopts.SortSlices(func(a, b fabric.Port) bool { return a.ID < b.ID }), cmpopts.SortSlices(func(a, b fabric.EIP) bool { return a.ID < b.ID }),
			cmpopts.SortSlices(func(a, b fabric.Group) bool { return a.ID+string(a.Side) < b.ID+string(b.Side) }))
		if diff != "" {
			t.Error(diff)
		}
	})
}

func TestPortRules(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		v, n, g := f.network(t)
		set := func(table, id, state string) {
			t.Helper()
			f.transact(t, func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.NewRaw("UPDATE ? SET state = ? WHERE id = ?", bun.Ident(table), state, id).Exec(ctx)
				return err
			})
		}
		reserve := func(more func(*PortRequest)) func(context.Context, bun.Tx) error {
			r := PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: n.ID, Owner: Owner{VM, "vm-one"}}
			if more != nil {
				more(&r)
			}
			return func(ctx context.Context, tx bun.Tx) error {
				_, err := f.ReservePort(ctx, tx, r)
				return err
			}
		}
		set("vpc", v.ID, Allocating)
		f.refuse(t, retcode.InvalidVPCState, reserve(nil))
		set("vpc", v.ID, Available)
		set("vpc", v.ID, Terminating)
		f.refuse(t, retcode.InvalidVPCBizState, reserve(nil))
		set("vpc", v.ID, Available)
		set("subnet", n.ID, Allocating)
		f.refuse(t, retcode.InvalidSubnetState, reserve(nil))
		set("subnet", n.ID, Deleting)
		f.refuse(t, retcode.InvalidSubnetBizState, reserve(nil))
		set("subnet", n.ID, Available)
		set("security_group", g.ID, Terminating)
		f.refuse(t, retcode.InvalidSGBizState, reserve(func(r *PortRequest) { r.InnerSG = g.ID }))
		f.refuse(t, retcode.InvalidSGBizState, func(ctx context.Context, tx bun.Tx) error {
			group, err := groupByID(ctx, tx, action.Scope{Region: region, Company: company}, g.ID)
			if err != nil {
				return err
			}
			_, err = f.addRules(ctx, tx, group, nil)
			return err
		})
		set("security_group", g.ID, Updating) // may be used
		f.transact(t, reserve(func(r *PortRequest) { r.InnerSG = g.ID }))
		set("security_group", g.ID, Available)

		f.transact(t, func(ctx context.Context, tx bun.Tx) error {
			return f.createGroup(ctx, tx, &Group{ID: "sg-own", Region: region, Company: company, Name: "x", State: Available}, []ruleRow{{Protocol: protoAll, Remote: anyIPv4}})
		})
		for _, c := range []struct{ inner, outer, wantInner, wantOuter string }{
			{"", "", g.ID, g.ID},
			{"", "sg-own", g.ID, "sg-own"},
			{"sg-own", "", "sg-own", ""}, // closed outside
			{"sg-own", g.ID, "sg-own", g.ID},
		} {
			f.transact(t, func(ctx context.Context, tx bun.Tx) error {
				p, err := f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: n.ID, Owner: Owner{VM, "vm-two"}, InnerSG: c.inner, OuterSG: c.outer})
				if err == nil && (p.InnerSG != c.wantInner || p.OuterSG != c.wantOuter) {
					t.Errorf("groups %q, %q became %q, %q", c.inner, c.outer, p.InnerSG, p.OuterSG)
				}
				return err
			})
		}
	})
}

// TestPortsOf asks for many owners at once, in as many queries as for one.
func TestPortsOf(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		v, n, g := f.network(t)
		var owners []string
		for i := range 5 {
			owners = append(owners, fmt.Sprintf("vm-%d", i))
			f.port(t, owners[i], "")
		}
		e := f.eip(t, "")
		ports, err := f.PortsOf(t.Context(), db.Reader(), owners...)
		if err != nil || len(ports) != 5 {
			t.Fatalf("%v, %v", ports, err)
		}
		f.transact(t, func(ctx context.Context, tx bun.Tx) error {
			_, err := f.BeginBindTx(ctx, tx, e.ID, Owner{VM, "vm-3"}, ports["vm-3"][0].ID)
			return err
		})
		queries := count(t, db)
		ports, err = f.PortsOf(t.Context(), db.Reader(), append(owners, "vm-none")...)
		if err != nil {
			t.Fatal(err)
		}
		if n := queries(); n > 4 {
			t.Errorf("%d queries for 5 owners", n)
		}
		p := ports["vm-3"][0]
		if p.VPCName != v.Name || p.SubnetName != n.Name || p.InnerSGName != g.Name || p.OuterSGName != g.Name || len(p.EIPs) != 1 || p.EIPs[0].ID != e.ID {
			t.Errorf("%+v", p)
		}
		if len(ports["vm-4"][0].EIPs) != 0 || ports["vm-none"] != nil {
			t.Errorf("%+v", ports)
		}
		config, err := f.ConfigOf(t.Context(), db.Reader(), &p.Port)
		if err != nil || config.Address.String() != p.IP+"/24" || config.Gateway.String() != "10.0.0.1" || config.MTU != 1442 || len(config.DNS) != 1 {
			t.Errorf("%+v, %v", config, err)
		}
	})
}

// count counts the queries of the read pool until the returned function is called.
func count(t *testing.T, db *database.DB) func() int64 {
	t.Helper()
	pool, ok := db.Reader().(*bun.DB)
	if !ok {
		t.Fatal("the reader is no pool")
	}
	var n atomic.Int64
	pool.AddQueryHook(counter{&n})
	return n.Load
}

type counter struct{ n *atomic.Int64 }

func (c counter) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }
func (c counter) AfterQuery(context.Context, *bun.QueryEvent)                        { c.n.Add(1) }

// TestQueueSharesRuns: who comes while a run is under way shares one that begins afterwards.
func TestQueueSharesRuns(t *testing.T) {
	var runs atomic.Int64
	entered, leave := make(chan struct{}), make(chan struct{})
	q := queue{call: func(_ context.Context, key string) error {
		if key == "vpc" && runs.Add(1) == 1 {
			close(entered)
			<-leave
			return errors.New("first")
		}
		return nil
	}}
	first := make(chan error)
	go func() { first <- q.do(t.Context(), "vpc") }()
	<-entered
	// Who gives up leaves the run alone; from now on the next one waits for its turn.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.do(gone, "vpc"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var all sync.WaitGroup
	joined := make(chan struct{}, 50)
	for range 50 {
		all.Go(func() {
			joined <- struct{}{}
			if err := q.do(t.Context(), "vpc"); err != nil {
				t.Errorf("shared the run that began before: %v", err)
			}
		})
	}
	for range 50 {
		<-joined
	}
	if err := q.do(t.Context(), "other"); err != nil { // does not wait
		t.Error(err)
	}
	close(leave)
	if err := <-first; err == nil || err.Error() != "first" {
		t.Errorf("got another's outcome: %v", err)
	}
	all.Wait()
	if n := runs.Load(); n < 2 || n >= 51 {
		t.Errorf("%d runs for 51 callers", n)
	}
	until(t, "no run is kept", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.runs) == 0
	})
}

// TestSyncSeesWhatWasWritten: whatever a caller wrote before, the fabric has when its sync returns.
func TestSyncSeesWhatWasWritten(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		v, n, _ := f.network(t)
		var all sync.WaitGroup
		for i := range 24 {
			all.Go(func() {
				var port *Port
				err := f.DB.Transact(context.Background(), func(ctx context.Context, tx bun.Tx) (err error) {
					port, err = f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: n.ID, Owner: Owner{VM, fmt.Sprint(i)}})
					return err
				})
				if err == nil {
					err = f.SyncVPC(context.Background(), v.ID)
				}
				if err != nil {
					t.Error(err)
					return
				}
				got, _ := f.memory.VPC(v.ID)
				if !slices.ContainsFunc(got.Ports, func(p fabric.Port) bool { return p.ID == port.ID }) {
					t.Errorf("port %d is not in the fabric", i)
				}
			})
		}
		all.Wait()
		f.transact(t, func(ctx context.Context, _ bun.Tx) error {
			if err := f.SyncVPC(ctx, v.ID); !errors.Is(err, database.ErrNested) {
				t.Errorf("a sync inside a transaction: %v", err)
			}
			return nil
		})
	})
}

func TestBootstrapTwice(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	if err := f.Bootstrap(t.Context(), region, SegmentConfig{Name: "Bgp", CIDR: netip.MustParsePrefix("192.0.2.0/24"), Network: "else"}); err != nil {
		t.Fatal(err)
	}
	var segments []Segment
	if err := f.DB.Reader().NewSelect().Model(&segments).Scan(t.Context()); err != nil || len(segments) != 1 || segments[0].CIDR != "198.51.100.0/28" {
		t.Errorf("%+v, %v", segments, err)
	}
}

// TestSpread shares gateways out, and a dead host's go to several.
func TestSpread(t *testing.T) {
	hosts := []string{"a", "b", "c", "d"}
	first, next := map[string]int{}, map[string]int{}
	for i := range 1000 {
		vpc := fmt.Sprintf("vpc-%d", i)
		order := spread(vpc, hosts)
		first[order[0]]++
		if order[0] == "a" {
			next[order[1]]++
		}
		if again := spread(vpc, []string{"d", "c", "b", "a"}); !slices.Equal(order, again) {
			t.Fatalf("%v, then %v", order, again)
		}
	}
	for _, h := range hosts {
		if first[h] < 150 || h != "a" && next[h] < 30 {
			t.Errorf("first %v, next after a %v", first, next)
		}
	}
}
