package fabric

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEnsureIsIdempotentAndComplete writes a VPC of every feature, sees it as an
// operator would, and takes it away again.
func TestEnsureIsIdempotentAndComplete(t *testing.T) {
	c := startCentral(t)
	f := c.open()
	ctx := t.Context()
	empty := c.dump()

	if err := f.EnsureVPC(ctx, fullVPC("vpc-a", "10.1")); !errors.Is(err, ErrNoSegment) {
		t.Fatalf("VPC before its segment: %v", err)
	}
	for _, s := range []Segment{bgp, telecom} {
		must(t, f.EnsureSegment(ctx, s))
	}
	segments := c.dump()
	// Two VPCs of one CIDR live side by side.
	for _, id := range []string{"vpc-a", "vpc-b"} {
		must(t, f.EnsureVPC(ctx, fullVPC(id, "10.1")))
	}
	before := f.written
	for _, id := range []string{"vpc-a", "vpc-b"} {
		must(t, f.EnsureVPC(ctx, fullVPC(id, "10.1")))
	}
	must(t, f.EnsureSegment(ctx, bgp))
	if f.written != before {
		t.Errorf("a second Ensure wrote %d operations", f.written-before)
	}

	for command, want := range map[string]string{
		"lr-list":                           "(vpc-a)",
		"lr-nat-list vpc-a":                 "172.20.0.11",
		"lr-route-list vpc-a":               "Route Table vpc-a-s1",
		"ls-list":                           "(vpc-a-s1)",
		"qos-list Bgp":                      "rate=20000",
		"acl-list Bgp":                      "ip4.src != 172.20.0.0/24",
		"lr-policy-list vpc-a":              "reroute",
		"lrp-get-gateway-chassis vpc-a.Bgp": "vpc-a.Bgp.host1     2",
		"--type=port-group acl-list outer_vpc_a_sg_web":                    "ct_mark.blocked == 0",
		"lsp-get-addresses " + portUUID("vpc-a", 1):                        "52:54:00:00:01:01 10.1.0.11",
		"--bare --columns=addresses find address_set name=inside_vpc_a":    "10.1.0.0/16",
		"--bare --columns=options find dhcp_options cidr=10.1.1.0/24":      "classless_static_route",
		"--bare --columns=tag find logical_switch_port type=localnet":      "100",
		"--bare --columns=external_ids find nat external_ip=172.20.0.11":   "lingyun-owner=vpc-a",
		"--bare --columns=ports find port_group name=outer_vpc_a_sg_web":   rowID("vpc-a-p1", "port"),
		"--bare --columns=_uuid find logical_router name=vpc-b":            rowID("vpc-b", "router"),
		"--bare --columns=options find logical_router_port name=vpc-a.Bgp": "gateway_mtu=1442",
	} {
		if out := c.nbctl(strings.Fields(command)...); !strings.Contains(out, want) {
			t.Errorf("ovn-nbctl %s: want %q in:\n%s", command, want, out)
		}
	}
	vpcs, segs, err := f.Present(ctx)
	if d := cmp.Diff([]string{"vpc-a", "vpc-b"}, vpcs) + cmp.Diff([]string{"Bgp", "Telecom"}, segs); err != nil || d != "" {
		t.Errorf("Present: %v %s", err, d)
	}
	// OVN takes what was written: no complaint in northd's log.
	c.nbctl("--wait=sb", "sync")
	if log, _ := os.ReadFile(c.path("northd.log")); strings.Contains(string(log), "|WARN|") || strings.Contains(string(log), "|ERR|") {
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, "WARN") || strings.Contains(line, "ERR") {
				t.Errorf("northd: %s", line)
			}
		}
	}

	if err := f.RemoveSegment(ctx, "Bgp"); !errors.Is(err, ErrInUse) {
		t.Errorf("removing a segment in use: %v", err)
	}
	must(t, f.RemoveVPC(ctx, "vpc-a"))
	must(t, f.RemoveVPC(ctx, "vpc-b"))
	must(t, f.RemoveVPC(ctx, "vpc-never-was"))
	if d := cmp.Diff(segments, c.dump()); d != "" {
		t.Errorf("left of VPCs: %s", d)
	}
	must(t, f.RemoveSegment(ctx, "Bgp"))
	must(t, f.RemoveSegment(ctx, "Telecom"))
	if d := cmp.Diff(empty, c.dump()); d != "" {
		t.Errorf("left of segments: %s", d)
	}
}

// TestMend lets somebody edit, and then empty, the northbound.
func TestMend(t *testing.T) {
	c := startCentral(t)
	f := c.open()
	ctx := t.Context()
	ensure := func() {
		t.Helper()
		must(t, f.EnsureSegment(ctx, bgp))
		must(t, f.EnsureSegment(ctx, telecom))
		must(t, f.EnsureVPC(ctx, fullVPC("vpc-a", "10.1")))
		must(t, f.EnsureVPC(ctx, fullVPC("vpc-b", "10.2")))
	}
	ensure()
	good := c.dump()

	for _, edit := range []string{
		"lsp-del " + portUUID("vpc-a", 1),
		"ls-del vpc-a-s1",
		"lr-del vpc-a",
		"lr-nat-del vpc-a",
		"qos-del Bgp",
		"acl-del Bgp",
		"ls-del Bgp",
		"--type=port-group acl-del filtered_vpc_a",
		"destroy port_group filtered_vpc_a",
		"destroy address_set inside_vpc_a",
		"set address_set inside_vpc_a addresses=0.0.0.0/0",
		"lsp-set-port-security " + portUUID("vpc-a", 1),
		"lsp-set-addresses " + portUUID("vpc-a", 1) + " unknown",
		"--all destroy dhcp_options",
		"lr-route-del vpc-a",
		"lr-policy-del vpc-a",
		"set logical_router_port vpc-a.Bgp mac=\"00:00:00:00:00:01\"",
		"lrp-del-gateway-chassis vpc-a.Bgp host1",
		"clear port_group outer_vpc_a_sg_web ports",
		"set logical_switch vpc-a-s1 name=renamed",
		"clear logical_switch vpc-a-s1 external_ids",
	} {
		c.nbctl(strings.Fields(edit)...)
		if c.dump() == good {
			t.Errorf("%s changed nothing", edit)
		}
		eventually(t, "mend after "+edit, func() error {
			ensure() // the edit may reach our copy a moment later
			if d := cmp.Diff(good, c.dump()); d != "" {
				return errors.New(d)
			}
			return nil
		})
	}

	// The database is gone and made anew, under a live connection.
	stop(c.north)
	for _, name := range []string{"nb.db", "nb.sock"} {
		must(t, os.Remove(c.path(name)))
	}
	c.createNorth()
	c.startNorth()
	eventually(t, "mend of a new database", func() error {
		ensure()
		if d := cmp.Diff(good, c.dump()); d != "" {
			return errors.New(d)
		}
		return nil
	})
	before := f.written
	ensure()
	if f.written != before {
		t.Errorf("the mended database was written again")
	}
}

// TestOperatorsRowsStay puts an operator's rows wherever ours refer to rows, and
// his notes on ours.
func TestOperatorsRowsStay(t *testing.T) {
	c := startCentral(t)
	f := c.open()
	ctx := t.Context()
	must(t, f.EnsureSegment(ctx, bgp))
	must(t, f.EnsureSegment(ctx, telecom))
	must(t, f.EnsureVPC(ctx, fullVPC("vpc-a", "10.1")))
	for _, command := range []string{
		"ls-add operators", "lsp-add operators theirs", "lr-add operators-router", "pg-add operators_group theirs",
		"lsp-add vpc-a-s1 monitor", "lsp-add Bgp uplink",
		"acl-add Bgp to-lport 77 ip4.src==1.2.3.4 drop", "qos-add Bgp to-lport 77 ip4 rate=1000",
		"lr-route-add vpc-a 9.9.9.0/24 10.1.0.9", "lr-nat-add vpc-a snat 172.20.0.250 10.1.7.0/24",
		"lr-policy-add vpc-a 77 ip4.dst==8.8.8.8 drop",
		"acl-add filtered_vpc_a to-lport 77 tcp drop", "pg-set-ports operators_group theirs " + portUUID("vpc-a", 1),
		"set logical_switch vpc-a-s1 external_ids:note=hands-off other_config:mcast_snoop=true",
	} {
		c.nbctl(strings.Fields(command)...)
	}
	with := c.dump()
	v := fullVPC("vpc-a", "10.1")
	v.EIPs, v.Groups, v.Gateways = nil, nil, nil
	// Our copy hears of the operator's rows.
	eventually(t, "seeing the operator", func() error {
		for _, r := range f.north.Cache().Table("Port_Group").Rows() {
			if len(children(r.(row), "ports")) == 2 {
				return nil
			}
		}
		return errors.New("not yet")
	})
	must(t, f.EnsureVPC(ctx, v))
	must(t, f.EnsureVPC(ctx, fullVPC("vpc-a", "10.1")))
	if d := cmp.Diff(with, c.dump()); d != "" {
		t.Errorf("after taking away and giving back: %s", d)
	}
	must(t, f.RemoveVPC(ctx, "vpc-a"))
	out := c.dump()
	for _, theirs := range []string{"operators", "theirs", "uplink", "ip4.src==1.2.3.4", "rate 1000"} {
		if !strings.Contains(out, theirs) {
			t.Errorf("%s is gone", theirs)
		}
	}
}

// TestLargeMend writes more rows than one transaction may carry.
func TestLargeMend(t *testing.T) {
	c := startCentral(t)
	f := c.open()
	must(t, f.EnsureSegment(t.Context(), bgp))
	v := VPC{ID: "vpc-big", CIDR: cidr("10.0.0.0/8"), MTU: 1442}
	for i := range 30 {
		s := Subnet{ID: fmt.Sprintf("subnet-%d", i), CIDR: cidr(fmt.Sprintf("10.0.%d.0/24", i)), Gateway: addr(fmt.Sprintf("10.0.%d.1", i))}
		v.Subnets = append(v.Subnets, s)
		for j := range 100 {
			v.Ports = append(v.Ports, Port{
				ID: fmt.Sprintf("nic-%d-%d", i, j), UUID: rowID("x", fmt.Sprint(i, j)), SubnetID: s.ID,
				MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", i, j), IP: addr(fmt.Sprintf("10.0.%d.%d", i, j+10)),
			})
		}
	}
	start := time.Now()
	must(t, f.EnsureVPC(t.Context(), v))
	t.Logf("%d operations in %v", f.written, time.Since(start))
	if f.written < 3000 {
		t.Errorf("%d operations", f.written)
	}
	before := f.written
	must(t, f.EnsureVPC(t.Context(), v))
	if f.written != before {
		t.Error("written again")
	}
	if n := strings.Count(c.nbctl("--bare", "--columns=name", "list", "logical_switch_port"), "\n\n"); n < 3000 {
		t.Errorf("%d ports", n)
	}
	start = time.Now()
	must(t, f.RemoveVPC(t.Context(), v.ID))
	t.Logf("removed in %v", time.Since(start))
	if vpcs, _, _ := f.Present(t.Context()); len(vpcs) != 0 {
		t.Errorf("left: %v", vpcs)
	}
}

// TestRestart: OVN's databases restart under a live connection, and calls wait for it.
func TestRestart(t *testing.T) {
	c := startCentral(t)
	f := c.open()
	must(t, f.EnsureSegment(t.Context(), bgp))
	stop(c.north)
	must(t, os.Remove(c.path("nb.sock")))
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := f.EnsureSegment(short, telecom); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with the database down: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- f.EnsureSegment(t.Context(), telecom) }()
	c.startNorth()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("did not come back")
	}
	_, segments, err := f.Present(t.Context())
	if d := cmp.Diff([]string{"Bgp", "Telecom"}, segments); err != nil || d != "" {
		t.Error(err, d)
	}
}

// TestWait plays the chassis: it answers, or does not.
func TestWait(t *testing.T) {
	c := startCentral(t)
	f := c.open()
	for _, name := range []string{"alive", "slow", "dead"} {
		c.sbctl("create", "chassis_private", "name="+name)
	}
	// answer says, as ovn-controller does, that a chassis is as far as the northbound.
	answer := func(name string) {
		c.sbctl("set", "chassis_private", name, fmt.Sprint("nb_cfg=", f.global().NbCfg))
	}
	eventually(t, "chassis known", func() error {
		if n := f.south.Cache().Table("Chassis_Private").Len(); n != 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	wait := func(limit time.Duration, chassis ...string) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return f.Wait(ctx, chassis)
	}
	must(t, wait(5*time.Second))
	must(t, wait(5*time.Second, "unknown"))
	if err := wait(time.Second, "slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a chassis that does not answer: %v", err)
	}
	done := make(chan error, 20)
	before := f.global().NbCfg
	for range cap(done) {
		go func() { done <- wait(20*time.Second, "slow") }()
	}
	for waiting := cap(done); waiting > 0; {
		answer("slow")
		select {
		case err := <-done:
			must(t, err)
			waiting--
		case <-time.After(20 * time.Millisecond):
		}
	}
	if raised := f.global().NbCfg - before; raised > 2 {
		t.Errorf("20 waiters raised nb_cfg by %d", raised)
	}
	// A dead one is waited for once, not again and again.
	f.mu.Lock()
	f.behind["dead"] = lag{target: 1, since: time.Now().Add(-chassisPatience)}
	f.mu.Unlock()
	must(t, wait(5*time.Second, "dead"))
	// It is worth waiting for again when it has caught up.
	answer("dead")
	eventually(t, "waited for again", func() error {
		if err := wait(300*time.Millisecond, "dead"); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("not waited for: %v", err)
		}
		return nil
	})
	// A northbound that was made anew starts below what chassis answered before.
	c.sbctl("set", "chassis_private", "alive", "nb_cfg=1000000")
	eventually(t, "old answer seen", func() error {
		must(t, wait(5*time.Second))
		if n := f.global().NbCfg; n <= 1000000 {
			return fmt.Errorf("nb_cfg is %d", n)
		}
		return nil
	})
}

// TestOpenRefuses: endpoints that cannot be meant.
func TestOpenRefuses(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, e := range []string{"", "unix:", "/run/nb.sock", "ssl:127.0.0.1:6641", "unix:/does/not/exist"} {
		if f, err := OpenOVN(ctx, Options{Northbound: e}); err == nil {
			f.Close()
			t.Errorf("%q opened", e)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// BenchmarkEnsure changes one EIP's bandwidth, and nothing, among 300 VPCs.
func BenchmarkEnsure(b *testing.B) {
	c := startCentral(b)
	f := c.open()
	ctx := b.Context()
	must(b, f.EnsureSegment(ctx, bgp))
	must(b, f.EnsureSegment(ctx, telecom))
	var v VPC
	for i := range 300 {
		v = fullVPC("vpc-a", "10.1")
		v.ID = fmt.Sprintf("vpc-%d", i)
		for j := range v.Subnets {
			v.Subnets[j].ID += fmt.Sprint("-", i)
			for k := range v.Subnets[j].Routes {
				v.Subnets[j].Routes[k].ID += fmt.Sprint("-", i)
			}
		}
		for j := range v.Ports {
			p := &v.Ports[j]
			p.ID, p.SubnetID, p.UUID = fmt.Sprint(p.ID, "-", i), fmt.Sprint(p.SubnetID, "-", i), portUUID(v.ID, j)
		}
		for j := range v.EIPs {
			v.EIPs[j].ID, v.EIPs[j].PortID = fmt.Sprint(v.EIPs[j].ID, "-", i), fmt.Sprint(v.EIPs[j].PortID, "-", i)
		}
		for j := range v.Groups {
			for k := range v.Groups[j].Members {
				v.Groups[j].Members[k] += fmt.Sprint("-", i)
			}
		}
		must(b, f.EnsureVPC(ctx, v))
	}
	b.Run("one change", func(b *testing.B) {
		for b.Loop() {
			v.EIPs[0].BandwidthMbps = v.EIPs[0].BandwidthMbps%100 + 1
			must(b, f.EnsureVPC(ctx, v))
		}
	})
	b.Run("no change", func(b *testing.B) {
		for b.Loop() {
			must(b, f.EnsureVPC(ctx, v))
		}
	})
}
