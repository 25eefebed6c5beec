package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow/workflowtest"
)

// vms stands for compute: machines whose port is the one they own.
type vms struct{ f *fixture }

func (v vms) Resolve(ctx context.Context, tx bun.Tx, scope action.Scope, id string, _ bool) (*TargetPort, error) {
	port := new(Port)
	found, err := one(tx.NewSelect().Model(port).Where("owner_id = ? AND id NOT IN (SELECT id FROM nic)", id).Scan(ctx))
	if err == nil && !found {
		err = retcode.VMNotFound.Errorf("VMID %s", id)
	}
	return &TargetPort{PortID: port.ID}, err
}

func (v vms) Describe(ctx context.Context, ids []string) (map[string]TargetPort, error) {
	return nil, nil
}

func (v vms) Machine(ctx context.Context, tx bun.Tx, scope action.Scope, id string) (*Machine, error) {
	t, err := v.Resolve(ctx, tx, scope, id, false)
	return &Machine{PortID: t.PortID, HostID: "host-1", Arch: "x86_64", Stopped: true}, err
}

func (v vms) Readdress(context.Context, bun.Tx, string, string) error { return nil }

func (v vms) Readdressed(context.Context, bun.Tx, string, error) error { return nil }

func (v vms) Plug(ctx context.Context, id string) error {
	var own string
	if _, err := one(v.f.DB.Reader().NewRaw("SELECT id FROM port WHERE owner_id = ? AND id NOT IN (SELECT id FROM nic)", id).Scan(ctx, &own)); err != nil {
		return err
	}
	ports, err := v.f.DomainPorts(ctx, v.f.DB.Reader(), id, own)
	v.f.plugged.Store(id, len(ports))
	return err
}

// start starts the engine until the test's end.
func (f *fixture) start(t *testing.T) {
	t.Helper()
	f.RegisterTarget(VM, vms{f})
	if err := f.Engine.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := f.Engine.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func call(name string) *action.Call {
	return &action.Call{Action: name, Region: region, Company: company}
}

func (f *fixture) mustBind(t *testing.T, e *EIP, vm string) {
	t.Helper()
	if _, err := f.bindEIP(t.Context(), call("BindEIP"), &bindEIPRequest{ResourceType: VM, ResourceID: vm, EIPID: e.ID}); err != nil {
		t.Fatal(err)
	}
}

// settled waits until nothing works on an EIP and reads it.
func (f *fixture) settled(t *testing.T, id string) *EIP {
	t.Helper()
	e := new(EIP)
	until(t, id+" is settled", func() bool {
		if err := f.DB.Reader().NewSelect().Model(e).Where("id = ?", id).Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		return e.State != Bounding && e.State != Unbounding
	})
	return e
}

// until polls a condition with a deadline.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("not within 30 s: " + what)
}

// snapshot is all that the network's operations change.
func (f *fixture) snapshot(t *testing.T) any {
	t.Helper()
	out := map[string]any{}
	for name, query := range map[string]string{
		"eips":      "SELECT id, state, bandwidth, bind_id, port_id, vpc_id, egress, listed FROM eip ORDER BY created_at, id",
		"gateways":  "SELECT vpc_id, segment_id, uses FROM gateway ORDER BY 1, 2",
		"addresses": "SELECT owner_kind, COUNT(*) AS n FROM address GROUP BY owner_kind ORDER BY 1",
		"pools":     "SELECT used FROM segment UNION ALL SELECT used FROM subnet WHERE ended_at = 0",
		"quotas":    "SELECT factor, used FROM quota ORDER BY factor",
		"groups":    "SELECT id, state FROM security_group ORDER BY id",
		"sides":     "SELECT owner_id, CASE WHEN inner_sg LIKE 'sg-%' THEN 1 ELSE 0 END AS i, CASE WHEN outer_sg LIKE 'sg-%' THEN 1 ELSE 0 END AS o FROM port ORDER BY owner_id",
		"entries":   "SELECT id, state, entries FROM entry_group ORDER BY id",
		"rules":     "SELECT sg_id, protocol, ports, remote, action, priority, ingress FROM sg_rule ORDER BY created_at, id",
	} {
		var rows []map[string]any
		if err := f.DB.Reader().NewRaw(query).Scan(t.Context(), &rows); err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, r := range rows {
			texts = append(texts, fmt.Sprint(r)) // maps print sorted by key
		}
		out[name] = texts
	}
	v, _, _ := f.network(t)
	in, ok := f.memory.VPC(v.ID)
	out["fabric"] = map[string]any{"there": ok, "ports": len(in.Ports), "eips": len(in.EIPs), "gateways": len(in.Gateways)}
	for _, g := range in.Groups {
		out["fabric "+string(g.Side)] = len(g.Rules)
	}
	problems, err := f.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out["problems"] = problems
	return out
}

// world makes a fresh one with a machine.
func world(t *testing.T) *fixture {
	f := newFixture(t, dbtest.SQLite(t))
	f.start(t)
	f.port(t, "vm-one", "")
	v, _, _ := f.network(t)
	if err := f.SyncVPC(t.Context(), v.ID); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestBindWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "eip.bind", New: func(t *testing.T) *workflowtest.World {
		f := world(t)
		e := f.eip(t, "")
		return &workflowtest.World{Engine: f.Engine, DB: f.DB, Snapshot: f.snapshot, Start: func(t *testing.T) { f.mustBind(t, e, "vm-one") }}
	}})
}

func TestUnbindWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "eip.unbind", New: func(t *testing.T) *workflowtest.World {
		f := world(t)
		e := f.eip(t, "")
		f.mustBind(t, e, "vm-one")
		f.settled(t, e.ID)
		return &workflowtest.World{Engine: f.Engine, DB: f.DB, Snapshot: f.snapshot, Start: func(t *testing.T) {
			if _, err := f.unbindEIP(t.Context(), call("UnBindEIP"), &bindEIPRequest{ResourceType: VM, ResourceID: "vm-one", EIPID: e.ID}); err != nil {
				t.Fatal(err)
			}
		}}
	}})
}

func TestRulesWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "sg.update", New: func(t *testing.T) *workflowtest.World {
		f := world(t)
		_, _, g := f.network(t)
		return &workflowtest.World{Engine: f.Engine, DB: f.DB, Snapshot: f.snapshot, Start: func(t *testing.T) {
			if _, err := f.createSecurityGroupRule(t.Context(), call("CreateSecurityGroupRule"), &createSecurityGroupRuleRequest{SGID: g.ID,
				Rules: []string{"TCP|8080|any|ACCEPT|HIGH|1", "UDP|53|10.0.0.0/8|DROP|LOW|0"}}); err != nil {
				t.Fatal(err)
			}
		}}
	}})
}

// TestFabricFailures lets the fabric refuse for a while: operations wait for it, and what they began is
// done when it is back.
func TestFabricFailures(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		f.start(t)
		f.port(t, "vm-one", "")
		e := f.eip(t, "")
		f.memory.Fail("EnsureVPC", 3, errors.New("northbound is away"))
		f.memory.Fail("Wait", 1, context.DeadlineExceeded) // a slow host is not waited for
		f.mustBind(t, e, "vm-one")
		if got := f.settled(t, e.ID); got.State != Bound || !got.Egress {
			t.Errorf("got %+v, want it bound", got)
		}
		f.verify(t)
	})
}

// TestEgress binds and unbinds several addresses: the first is the default egress, then the next.
func TestEgress(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		f.start(t)
		port := f.port(t, "vm-one", "")
		var eips []*EIP
		for range 3 {
			e := f.eip(t, "")
			f.mustBind(t, e, "vm-one")
			f.settled(t, e.ID)
			eips = append(eips, e)
		}
		v, _, _ := f.network(t)
		expect := func(want ...string) {
			t.Helper()
			in, _ := f.memory.VPC(v.ID)
			var got string
			for _, e := range in.EIPs {
				if e.Default {
					got += e.ID
				}
				if e.PortID != port.ID || e.BandwidthMbps != 5 || !e.Distributed {
					t.Errorf("in the fabric: %+v", e)
				}
			}
			if len(in.EIPs) != len(want) || len(want) > 0 && got != want[0] {
				t.Errorf("egress %q of %d EIPs, want %v", got, len(in.EIPs), want)
			}
			if gateways := min(len(want), 1); len(in.Gateways) != gateways {
				t.Errorf("%d gateways, want %d", len(in.Gateways), gateways)
			}
			f.verify(t)
		}
		expect(eips[0].ID, eips[1].ID, eips[2].ID)
		unbind := func(e *EIP) {
			t.Helper()
			if _, err := f.unbindEIP(t.Context(), call("UnBindEIP"), &bindEIPRequest{ResourceType: VM, ResourceID: "vm-one", EIPID: e.ID}); err != nil {
				t.Fatal(err)
			}
			if got := f.settled(t, e.ID); got.State != Free || got.BindID != "" {
				t.Errorf("got %+v, want it free", got)
			}
		}
		unbind(eips[0])
		expect(eips[1].ID, eips[2].ID)
		unbind(eips[2])
		expect(eips[1].ID)
		unbind(eips[1])
		expect()
	})
}

// TestManyBindsAtOnce binds and unbinds from many sides: one egress at any time, and exact counts at the end.
func TestManyBindsAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		f.start(t)
		f.port(t, "vm-one", "")
		var eips []*EIP
		for range 8 {
			eips = append(eips, f.eip(t, ""))
		}
		done := make(chan error)
		for _, e := range eips {
			go func() {
				_, err := f.bindEIP(context.Background(), call("BindEIP"), &bindEIPRequest{ResourceType: VM, ResourceID: "vm-one", EIPID: e.ID})
				done <- err
			}()
		}
		for range eips {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		egress := 0
		for _, e := range eips {
			if e := f.settled(t, e.ID); e.State != Bound {
				t.Errorf("%s is %s", e.ID, e.State)
			} else if e.Egress {
				egress++
			}
		}
		if egress != 1 {
			t.Errorf("%d default egresses, want 1", egress)
		}
		f.verify(t)
		for _, e := range eips {
			go func() {
				_, err := f.unbindEIP(context.Background(), call("UnBindEIP"), &bindEIPRequest{ResourceType: VM, ResourceID: "vm-one", EIPID: e.ID})
				done <- err
			}()
		}
		for range eips {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for _, e := range eips {
			if e := f.settled(t, e.ID); e.State != Free {
				t.Errorf("%s is %s", e.ID, e.State)
			}
		}
		f.verify(t)
	})
}

// TestOwnerLeaves is how compute deletes a machine with addresses.
func TestOwnerLeaves(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		f.start(t)
		port := f.port(t, "vm-one", "")
		one, two := f.eip(t, ""), f.eip(t, "")
		f.mustBind(t, one, "vm-one")
		f.mustBind(t, two, "vm-one")
		f.settled(t, one.ID)
		f.settled(t, two.ID)
		var ids []string
		f.transact(t, func(ctx context.Context, tx bun.Tx) (err error) {
			if ids, err = f.BeginUnbindAllTx(ctx, tx, "vm-one"); err != nil {
				return err
			}
			return f.KeepPort(ctx, tx, port.ID)
		})
		if len(ids) != 2 {
			t.Errorf("got %v", ids)
		}
		if err := f.SyncVPC(t.Context(), port.VPCID); err != nil {
			t.Fatal(err)
		}
		if _, ok := f.memory.VPC(port.VPCID); ok {
			t.Error("the fabric keeps a VPC without ports")
		}
		f.transact(t, func(ctx context.Context, tx bun.Tx) error { return f.SettleUnbindTx(ctx, tx, ids...) })
		f.verify(t)
		// The address stays with the machine in the bin, then both come back.
		v, n, _ := f.network(t)
		f.refuse(t, retcode.IPAlreadyAllocated, func(ctx context.Context, tx bun.Tx) error {
			_, err := f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: n.ID, IP: port.IP, Owner: Owner{VM, "vm-two"}})
			return err
		})
		f.transact(t, func(ctx context.Context, tx bun.Tx) error { return f.ReturnPort(ctx, tx, port.ID) })
		if err := f.SyncVPC(t.Context(), port.VPCID); err != nil {
			t.Fatal(err)
		}
		if in, _ := f.memory.VPC(port.VPCID); len(in.Ports) != 1 || in.Ports[0].MAC != port.MAC {
			t.Errorf("in the fabric: %+v", in.Ports)
		}
		f.transact(t, func(ctx context.Context, tx bun.Tx) error { return f.ReleasePort(ctx, tx, port.ID) })
		f.transact(t, func(ctx context.Context, tx bun.Tx) error { return f.ReleasePort(ctx, tx, port.ID) })
		f.verify(t)
	})
}

// TestBindRules are the refusals that need more than one tenant's API can make.
func TestBindRules(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		port := f.port(t, "vm-one", "")
		bind := func(e *EIP) func(ctx context.Context, tx bun.Tx) error {
			return func(ctx context.Context, tx bun.Tx) error {
				_, err := f.BeginBindTx(ctx, tx, e.ID, Owner{VM, "vm-one"}, port.ID)
				return err
			}
		}
		change := func(e *EIP, column string, value any) {
			t.Helper()
			f.transact(t, func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.NewUpdate().Model(e).Set("? = ?", bun.Ident(column), value).WherePK().Exec(ctx)
				return err
			})
		}
		expired := f.eip(t, "")
		f.Clock.Advance(31 * 24 * time.Hour)
		f.refuse(t, retcode.ResourceExpired, bind(expired))

		// The address that the machine has inside.
		twin := f.eip(t, "")
		change(twin, "ip", port.IP)
		f.refuse(t, retcode.DuplicateIPBinding, bind(twin))

		f.transact(t, bind(f.eip(t, "")))
		foreign := f.eip(t, "")
		change(foreign, "segment_id", "seg-other")
		f.transact(t, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewRaw(`INSERT INTO segment (id, region, name, ip_version, cidr, ranges, gateway, vlan, network, capacity, used, position, created_at, updated_at, generation) SELECT 'seg-other', region, 'Other', ip_version, cidr, ranges, gateway, vlan, network, capacity, 0, position, created_at, updated_at, generation FROM segment`).Exec(ctx)
			return err
		})
		f.refuse(t, retcode.InvalidParameter, bind(foreign))
	})
}

// TestGatewaysMove makes hosts come and go: VPCs with a gateway follow.
func TestGatewaysMove(t *testing.T) {
	f := world(t)
	e := f.eip(t, "")
	f.mustBind(t, e, "vm-one")
	f.settled(t, e.ID)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	v, _, _ := f.network(t)
	chassis := func() []string {
		in, _ := f.memory.VPC(v.ID)
		if len(in.Gateways) != 1 {
			return nil
		}
		return in.Gateways[0].Chassis
	}
	if got := chassis(); len(got) != 3 {
		t.Fatalf("gateways on %v", got)
	}
	alive := func(chassis ...string) {
		f.hosts.mu.Lock()
		f.hosts.gateways = chassis
		f.hosts.mu.Unlock()
		f.hosts.changed(region)
	}
	first := chassis()[0]
	alive(slices.DeleteFunc([]string{"a", "b", "c"}, func(c string) bool { return c == first })...)
	until(t, "the gateway leaves the dead host", func() bool {
		got := chassis()
		return len(got) == 2 && !slices.Contains(got, first)
	})
	second := chassis()[0]
	alive("a", "b", "c")
	until(t, "the host that returned is there for the next time", func() bool {
		got := chassis()
		return len(got) == 3 && got[0] == second
	})
	cancel()
	<-done
}

// TestReconciler mends what somebody removed and removes what nobody wants.
func TestReconciler(t *testing.T) {
	f := world(t)
	e := f.eip(t, "")
	f.mustBind(t, e, "vm-one")
	f.settled(t, e.ID)
	v, _, _ := f.network(t)
	if err := f.memory.RemoveVPC(t.Context(), v.ID); err != nil {
		t.Fatal(err)
	}
	stray, _ := f.load(t.Context(), v.ID)
	stray.ID, stray.EIPs, stray.Gateways = "vpc-stray", nil, nil
	for i := range stray.Ports {
		stray.Ports[i].ID, stray.Ports[i].UUID = "nic-stray", "7b0b3fd5-4e07-4a80-9d0c-1f2f32e5d0aa"
	}
	stray.Groups = nil
	if err := f.memory.EnsureVPC(t.Context(), *stray); err != nil {
		t.Fatal(err)
	}
	if err := f.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	if in, ok := f.memory.VPC(v.ID); !ok || len(in.Ports) != 1 || len(in.EIPs) != 1 {
		t.Errorf("not mended: %+v", in)
	}
	if _, ok := f.memory.VPC("vpc-stray"); ok {
		t.Error("a stray VPC stays")
	}
	vpcs, segments, err := f.memory.Present(t.Context())
	if err != nil || len(vpcs) != 1 || len(segments) != 1 {
		t.Errorf("present: %v, %v, %v", vpcs, segments, err)
	}
}

func TestTombstonesAreForgotten(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		e := f.eip(t, "")
		f.transact(t, func(ctx context.Context, tx bun.Tx) error { return f.DestroyEIPTx(ctx, tx, e.ID) })
		f.transact(t, func(ctx context.Context, tx bun.Tx) error { return f.DestroyEIPTx(ctx, tx, e.ID) })
		f.verify(t)
		read := func(tx bun.Tx) error {
			_, err := eipByID(t.Context(), tx, action.Scope{Region: region, Company: company}, e.ID)
			return err
		}
		if err := f.forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.transact(t, func(ctx context.Context, tx bun.Tx) error { return read(tx) })
		f.Clock.Advance(tombstoneAge + time.Hour)
		if err := f.forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.refuse(t, retcode.ResourceNotFound, func(ctx context.Context, tx bun.Tx) error { return read(tx) })
	})
}

func TestBandwidthWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "eip.bandwidth", New: func(t *testing.T) *workflowtest.World {
		f := world(t)
		e := f.eip(t, "")
		f.mustBind(t, e, "vm-one")
		f.settled(t, e.ID)
		return &workflowtest.World{Engine: f.Engine, DB: f.DB, Snapshot: f.snapshot, Start: func(t *testing.T) {
			mbps := 9
			if _, err := f.modifyBandwidth(t.Context(), call("ModifyEIPBandwidth"), &modifyBandwidthRequest{EIPID: e.ID, Bandwidth: &mbps}); err != nil {
				t.Fatal(err)
			}
		}}
	}})
}

func TestEgressWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "eip.egress", New: func(t *testing.T) *workflowtest.World {
		f := world(t)
		one, two := f.eip(t, ""), f.eip(t, "")
		for _, e := range []*EIP{one, two} {
			f.mustBind(t, e, "vm-one")
			f.settled(t, e.ID)
		}
		return &workflowtest.World{Engine: f.Engine, DB: f.DB, Snapshot: f.snapshot, Start: func(t *testing.T) {
			if _, err := f.updateDefaultGW(t.Context(), call("UpdateVMDefaultGW"), &updateDefaultGWRequest{VMID: "vm-one", EIPID: two.ID}); err != nil {
				t.Fatal(err)
			}
		}}
	}})
}

func TestSidesWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "sg.bind", New: func(t *testing.T) *workflowtest.World {
		f := world(t)
		return &workflowtest.World{Engine: f.Engine, DB: f.DB, Snapshot: f.snapshot, Start: func(t *testing.T) {
			if _, err := f.unbindSecurityGroup(t.Context(), call("UnBindSecurityGroup"), &unbindSecurityGroupRequest{ResourceID: "vm-one", NICType: "LAN"}); err != nil {
				t.Fatal(err)
			}
		}}
	}})
}

func TestEntriesWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "entries.update", New: func(t *testing.T) *workflowtest.World {
		f := world(t)
		_, _, g := f.network(t)
		now := f.Clock.Micros()
		f.transact(t, func(ctx context.Context, tx bun.Tx) error {
			if _, err := tx.NewInsert().Model(&entryGroup{ID: "ipgroup-1", Region: region, Company: company, Kind: ofAddresses, Entries: "192.0.2.0/24", State: entriesAvailable,
				CreatedAt: now, UpdatedAt: now}).Exec(ctx); err != nil {
				return err
			}
			_, err := tx.NewInsert().Model(&ruleRow{ID: "sg_rule-1", SGID: g.ID, Protocol: protoAll, Remote: "ipgroup-1", Action: "DROP", Priority: "HIGH", Ingress: true,
				CreatedAt: now, UpdatedAt: now}).Exec(ctx)
			return err
		})
		v, _, _ := f.network(t)
		if err := f.SyncVPC(t.Context(), v.ID); err != nil {
			t.Fatal(err)
		}
		return &workflowtest.World{Engine: f.Engine, DB: f.DB, Snapshot: f.snapshot, Start: func(t *testing.T) {
			if _, err := f.updateIPGroup(t.Context(), call("UpdateIPGroup"), &updateIPGroupRequest{IPGroupID: "ipgroup-1", Rules: "198.51.100.0/24"}); err != nil {
				t.Fatal(err)
			}
		}}
	}})
}

// TestDropRulesWorkflow is sg.update for rules that go: taken back, they are there again.
func TestDropRulesWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "sg.update", New: func(t *testing.T) *workflowtest.World {
		f := world(t)
		_, _, g := f.network(t)
		var ids []string
		if err := f.DB.Reader().NewSelect().Model((*ruleRow)(nil)).Column("id").Where("sg_id = ?", g.ID).Order("created_at", "id").Limit(2).Scan(t.Context(), &ids); err != nil {
			t.Fatal(err)
		}
		return &workflowtest.World{Engine: f.Engine, DB: f.DB, Snapshot: f.snapshot, Start: func(t *testing.T) {
			if _, err := f.deleteSecurityGroupRule(t.Context(), call("DeleteSecurityGroupRule"), &deleteSecurityGroupRuleRequest{SGID: g.ID, SGRuleID: ids[0] + "," + ids[1]}); err != nil {
				t.Fatal(err)
			}
		}}
	}})
}
