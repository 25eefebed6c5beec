package fabric

import (
	"context"
	"errors"
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares rows with a file that people read in review.
func golden(t *testing.T, name string, rows []string) {
	t.Helper()
	got := strings.Join(rows, "\n") + "\n"
	file := filepath.Join("testdata", name+".golden")
	if *update {
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s: %s", file, d)
	}
}

// TestGolden holds the rows of each product, as the recorder shows them.
func TestGolden(t *testing.T) {
	m := NewMemory()
	ctx := t.Context()
	must(t, m.EnsureSegment(ctx, bgp))
	must(t, m.EnsureSegment(ctx, telecom))
	golden(t, "segment", m.Rows("Bgp"))
	golden(t, "segment-vlan", m.Rows("Telecom"))

	must(t, m.EnsureOuterPort(ctx, outerNIC))
	golden(t, "outer-port", m.Rows(outerNIC.ID))
	carrier := outerNIC // of a segment without DHCP
	carrier.Server, carrier.Virtuals = netip.Addr{}, []OuterVirtual{{"vip-1", addr("172.20.0.78"), 5}, {"vip-2", addr("172.20.0.79"), 0}}
	must(t, m.EnsureOuterPort(ctx, carrier))
	golden(t, "outer-port-virtual", m.Rows(carrier.ID))
	for what, ip := range map[string]string{"its own": "172.20.0.77", "another's": "172.20.0.78", "outside": "172.21.0.5"} {
		wrong := carrier
		wrong.Virtuals = []OuterVirtual{carrier.Virtuals[0], {"vip-3", addr(ip), 0}}
		if err := m.EnsureOuterPort(ctx, wrong); !errors.Is(err, ErrInvalid) {
			t.Errorf("a virtual address that is %s: %v", what, err)
		}
	}

	full := fullVPC("vpc-a", "10.1")
	part := func(name string, keep func(*VPC)) {
		v := VPC{ID: full.ID, CIDR: full.CIDR, MTU: full.MTU}
		keep(&v)
		must(t, m.EnsureVPC(ctx, v))
		golden(t, name, m.Rows(full.ID))
	}
	part("vpc-empty", func(v *VPC) {})
	part("vpc-subnets", func(v *VPC) { v.Subnets = full.Subnets })
	part("vpc-ports", func(v *VPC) { v.Subnets, v.Ports, v.Peers = full.Subnets, full.Ports, full.Peers })
	part("vpc-gateways", func(v *VPC) { v.Subnets, v.Gateways = full.Subnets, full.Gateways })
	part("vpc-segment-routes", func(v *VPC) {
		v.Subnets, v.Ports, v.EIPs = full.Subnets, full.Ports, full.EIPs[:4]
		v.Gateways = slices.Clone(full.Gateways)
		v.Gateways[0].Routes = []Route{{ID: "route-1", Destination: cidr("192.0.2.0/24"), NextHop: addr("172.20.0.7")}}
		v.Gateways[1].Routes = []Route{{ID: "route-2", Destination: cidr("192.0.2.0/24"), NextHop: addr("172.21.0.7")},
			{ID: "route-3", Destination: cidr("198.18.0.0/15"), NextHop: addr("172.21.0.8")}, {ID: "route-4", Destination: cidr("10.99.0.0/16"), NextHop: addr("172.21.0.8")}}
		v.Gateways[1].NextHop = netip.Addr{}
	})
	part("vpc-eips", func(v *VPC) {
		v.Subnets, v.Ports, v.Gateways, v.EIPs = full.Subnets, full.Ports, full.Gateways, full.EIPs[:4]
	})
	part("vpc-links", func(v *VPC) { v.Subnets, v.Links = full.Subnets, full.Links })
	part("vpc-virtual", func(v *VPC) {
		v.Subnets, v.Ports, v.Virtuals, v.Gateways = full.Subnets, full.Ports[:2], full.Virtuals, full.Gateways[:1]
		v.EIPs = full.EIPs[len(full.EIPs)-1:]
	})
	part("vpc-groups", func(v *VPC) { v.Subnets, v.Ports, v.Groups = full.Subnets, full.Ports, full.Groups })
	part("vpc-sets", func(v *VPC) {
		v.Subnets, v.Ports = full.Subnets, full.Ports
		v.Sets = []Set{{ID: "ipgroup-1", Prefixes: []netip.Prefix{cidr("192.0.2.0/24"), cidr("192.0.2.7/32"), cidr("198.51.100.4/30"), cidr("2001:db8::/32")}},
			{ID: "ipgroup-6", Prefixes: []netip.Prefix{cidr("2001:db8::/32")}}}
		v.Groups = []Group{{ID: "sg-web", Side: Outer, Members: full.Groups[0].Members, Rules: []Rule{
			{ID: "sg_rule-set", Ingress: true, Protocol: TCP, Ports: []PortRange{{80, 80}, {8000, 8100}}, Set: "ipgroup-1", Accept: true, Priority: High},
			{ID: "sg_rule-v6", Ingress: true, Protocol: AnyProtocol, Set: "ipgroup-6", Accept: true, Priority: High}, // nobody
		}}}
	})
	part("vpc-full", func(v *VPC) { *v = full })
}

// TestRowIDs: UUIDs outlive every release. These were written by the first one.
func TestRowIDs(t *testing.T) {
	for want, got := range map[string]string{
		"1099e8d9-c72c-5f93-aaa5-b7721c62b5bd": rowID("vpc-a", "router"),
		"5b1a1819-ce41-593b-b9a7-6d4e5ebc9b2c": rowID("eip-1", "nat"),
	} {
		if got != want {
			t.Errorf("%s, was %s", got, want)
		}
	}
}

// TestEIPKinds: decision 2, and which EIP is the default egress.
func TestEIPKinds(t *testing.T) {
	kinds := func(eips ...EIP) string {
		t.Helper()
		v := fullVPC("vpc-a", "10.1")
		v.EIPs = eips
		want, err := renderVPC(v)
		must(t, err)
		var out []string
		for _, line := range want.text() {
			if strings.HasPrefix(line, "NAT") {
				f := strings.Fields(line)
				kind := strings.TrimPrefix(f[1], "type=")
				if strings.Contains(line, "logical_port=") {
					kind += " distributed"
				}
				out = append(out, strings.TrimPrefix(f[2], "external_ip=")+" "+kind)
			}
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	e := func(id, address string, def, distributed bool) EIP {
		return EIP{ID: id, SegmentID: "Bgp", Address: addr(address), PortID: "vpc-a-p1", Default: def, Distributed: distributed}
	}
	for _, c := range []struct {
		eips []EIP
		want string
	}{
		{[]EIP{e("eip-1", "172.20.0.1", true, true)}, "172.20.0.1 dnat_and_snat distributed"},
		{[]EIP{e("eip-1", "172.20.0.1", false, true)}, "172.20.0.1 dnat_and_snat distributed"},
		{[]EIP{e("eip-1", "172.20.0.1", true, false)}, "172.20.0.1 dnat_and_snat"},
		{[]EIP{e("eip-1", "172.20.0.1", true, true), e("eip-2", "172.20.0.2", false, true)}, "172.20.0.1 dnat_and_snat, 172.20.0.2 dnat"},
		{[]EIP{e("eip-1", "172.20.0.1", false, true), e("eip-2", "172.20.0.2", true, true)}, "172.20.0.1 dnat, 172.20.0.2 dnat_and_snat"},
		{[]EIP{e("eip-2", "172.20.0.2", false, false), e("eip-1", "172.20.0.1", false, true)}, "172.20.0.1 dnat_and_snat, 172.20.0.2 dnat"},
	} {
		if got := kinds(c.eips...); got != c.want {
			t.Errorf("%v: %s, want %s", c.eips, got, c.want)
		}
	}
}

// TestRulePriority: priority before specificity before DROP, whatever the rules.
func TestRulePriority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (Rule, netip.Prefix, *PortRange, [4]int) {
			order := []Priority{Low, Medium, High}
			i := rapid.IntRange(0, 2).Draw(t, name+" priority")
			bits := rapid.IntRange(0, 32).Draw(t, name+" prefix length")
			r := Rule{Priority: order[i], Protocol: TCP, Accept: rapid.Bool().Draw(t, name+" accept")}
			remote := netip.PrefixFrom(addr("10.0.0.0"), bits)
			var ports *PortRange
			if rapid.Bool().Draw(t, name+" ports") {
				first := rapid.Uint16().Draw(t, name+" first")
				ports = &PortRange{first, rapid.Uint16Range(first, 65535).Draw(t, name+" last")}
			}
			drop := 1
			if r.Accept {
				drop = 0
			}
			return r, remote, ports, [4]int{i, bits, portRank(TCP, ports), drop}
		}
		r1, p1, n1, k1 := draw("one")
		r2, p2, n2, k2 := draw("other")
		got := rulePriority(r1, p1, n1) - rulePriority(r2, p2, n2)
		want := slices.Compare(k1[:], k2[:])
		if (got > 0) != (want > 0) || (got < 0) != (want < 0) {
			t.Fatalf("%v %v: %d, want the sign of %d", k1, k2, got, want)
		}
		if p := rulePriority(r1, p1, n1); p <= priorityDefault || p >= priorityDHCP {
			t.Fatalf("priority %d meets our own", p)
		}
	})
	for _, narrow := range []struct{ a, b *PortRange }{
		{&PortRange{80, 80}, &PortRange{80, 81}}, {&PortRange{1, 2}, &PortRange{1, 1000}}, {&PortRange{1, 65535}, nil},
	} {
		if portRank(TCP, narrow.a) <= portRank(TCP, narrow.b) {
			t.Errorf("%v is not before %v", narrow.a, narrow.b)
		}
	}
	if portRank(TCP, nil) <= portRank(AnyProtocol, nil) {
		t.Error("a protocol is not before any")
	}
}

// TestInvalid: what could break out of an expression, or stand for two things, is refused.
func TestInvalid(t *testing.T) {
	m := NewMemory()
	ctx := t.Context()
	must(t, m.EnsureSegment(ctx, bgp))
	must(t, m.EnsureSegment(ctx, telecom))
	for name, spoil := range map[string]func(*VPC){
		"id":                  func(v *VPC) { v.ID = `a" || 1` },
		"empty id":            func(v *VPC) { v.ID = "" },
		"CIDR with host bits": func(v *VPC) { v.CIDR = netip.MustParsePrefix("10.1.0.1/16") },
		"CIDR of IPv6":        func(v *VPC) { v.CIDR = cidr("fd00::/64") },
		"no CIDR":             func(v *VPC) { v.CIDR = netip.Prefix{} },
		"MTU":                 func(v *VPC) { v.MTU = 0 },
		"subnet twice":        func(v *VPC) { v.Subnets = append(v.Subnets, v.Subnets[0]) },
		"gateway outside":     func(v *VPC) { v.Subnets[0].Gateway = addr("10.9.0.1") },
		"no gateway":          func(v *VPC) { v.Subnets[0].Gateway = netip.Addr{} },
		"DNS":                 func(v *VPC) { v.Subnets[0].DNS = []netip.Addr{{}} },
		"route twice": func(v *VPC) {
			r := v.Subnets[1].Routes[0]
			r.ID = "x"
			v.Subnets[1].Routes = append(v.Subnets[1].Routes, r)
		},
		"next hop of a route":   func(v *VPC) { v.Subnets[1].Routes[0].NextHop = netip.Addr{} },
		"port UUID":             func(v *VPC) { v.Ports[0].UUID = `x"` },
		"one UUID, two ports":   func(v *VPC) { v.Ports[0].UUID = v.Ports[1].UUID },
		"one address, two":      func(v *VPC) { v.Ports[0].IP = v.Ports[1].IP },
		"MAC":                   func(v *VPC) { v.Ports[0].MAC = "52:54:00:00:00:0G" },
		"MAC in capitals":       func(v *VPC) { v.Ports[0].MAC = "52:54:00:00:00:AA" },
		"multicast MAC":         func(v *VPC) { v.Ports[0].MAC = "53:54:00:00:00:01" },
		"port in no subnet":     func(v *VPC) { v.Ports[0].SubnetID = "s9" },
		"address of no subnet":  func(v *VPC) { v.Ports[0].IP = addr("10.1.9.9") },
		"host name":             func(v *VPC) { v.Ports[0].Hostname = `a", router = 1.2.3.4` },
		"link to itself":        func(v *VPC) { v.Links[0].PeerID = v.ID },
		"link twice":            func(v *VPC) { v.Links = append(v.Links, v.Links[0]) },
		"link overlaps":         func(v *VPC) { v.Links[0].Networks[0] = cidr("10.0.0.0/8") },
		"link without network":  func(v *VPC) { v.Links[0].Networks = nil },
		"link to nowhere":       func(v *VPC) { v.Links[0].NextHop = addr("169.254.129.1") },
		"carrier elsewhere":     func(v *VPC) { v.Virtuals[0].Parents = []string{"vpc-a-p3"} },
		"carrier twice":         func(v *VPC) { v.Virtuals[0].Parents = []string{"vpc-a-p1", "vpc-a-p1"} },
		"virtual address taken": func(v *VPC) { v.Virtuals[0].IP = v.Ports[0].IP },
		"virtual UUID":          func(v *VPC) { v.Virtuals[0].UUID = v.Ports[0].UUID },
		"virtual elsewhere":     func(v *VPC) { v.Virtuals[0].SubnetID = "vpc-a-s2" },
		"port bandwidth":        func(v *VPC) { v.Ports[0].InMbps = -1 },
		"gateway twice":         func(v *VPC) { v.Gateways = append(v.Gateways, v.Gateways[0]) },
		"next hop off the link": func(v *VPC) { v.Gateways[0].NextHop = addr("8.8.8.8") },
		"chassis":               func(v *VPC) { v.Gateways[0].Chassis = []string{"a b"} },
		"chassis twice":         func(v *VPC) { v.Gateways[0].Chassis = []string{"a", "a"} },
		"EIP of no port":        func(v *VPC) { v.EIPs[0].PortID = "nic-9" },
		"EIP of no gateway":     func(v *VPC) { v.EIPs[0].SegmentID = "Other" },
		"EIP address twice":     func(v *VPC) { v.EIPs[0].Address = v.EIPs[1].Address },
		"two default egresses":  func(v *VPC) { v.EIPs[1].Default, v.EIPs[2].Default = true, true },
		"EIPs of two segments":  func(v *VPC) { v.EIPs[3].PortID = v.EIPs[0].PortID },
		"bandwidth":             func(v *VPC) { v.EIPs[0].BandwidthMbps = -1 },
		"side":                  func(v *VPC) { v.Groups[0].Side = "left" },
		"member":                func(v *VPC) { v.Groups[0].Members = []string{"nic-9"} },
		"member twice":          func(v *VPC) { v.Groups[0].Members = []string{"vpc-a-p1", "vpc-a-p1"} },
		"group twice":           func(v *VPC) { v.Groups[0].Side = Inner },
		"protocol":              func(v *VPC) { v.Groups[0].Rules[0].Protocol = "tcp || 1" },
		"priority":              func(v *VPC) { v.Groups[0].Rules[0].Priority = "" },
		"ports upside down":     func(v *VPC) { v.Groups[0].Rules[0].Ports = []PortRange{{2, 1}} },
		"ports twice":           func(v *VPC) { v.Groups[0].Rules[0].Ports = []PortRange{{1, 2}, {1, 2}} },
		"remote":                func(v *VPC) { v.Groups[0].Rules[0].Remote = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} },
	} {
		v := fullVPC("vpc-a", "10.1")
		spoil(&v)
		if err := m.EnsureVPC(ctx, v); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if vpcs, _, _ := m.Present(ctx); len(vpcs) != 0 {
			t.Fatalf("%s: kept", name)
		}
	}
	for name, s := range map[string]Segment{
		"id":      {ID: "a b", CIDR: bgp.CIDR, Network: "ext"},
		"CIDR":    {ID: "a", CIDR: cidr("fd00::/64"), Network: "ext"},
		"VLAN":    {ID: "a", CIDR: bgp.CIDR, Network: "ext", VLAN: 4095},
		"network": {ID: "a", CIDR: bgp.CIDR},
	} {
		if err := m.EnsureSegment(ctx, s); !errors.Is(err, ErrInvalid) {
			t.Errorf("segment %s: %v", name, err)
		}
	}
}

// TestMerge: a prefix within another goes, and what was covered stays covered.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Custom(func(t *rapid.T) netip.Prefix {
			b := [4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "b")), byte(rapid.IntRange(0, 3).Draw(t, "c")), rapid.Byte().Draw(t, "d")}
			return netip.PrefixFrom(netip.AddrFrom4(b), rapid.IntRange(6, 32).Draw(t, "bits"))
		})).Draw(t, "in")
		out := merge(in)
		for i, p := range out {
			for j, q := range out {
				if i != j && p.Overlaps(q) {
					t.Fatalf("%s and %s overlap", p, q)
				}
			}
		}
		for _, p := range in {
			if !slices.ContainsFunc(out, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }) {
				t.Fatalf("%s is not covered by %v", p, out)
			}
		}
	})
}

// TestMemoryFails: a simulated cloud can be told to fail, and forgets nothing then.
func TestMemoryFails(t *testing.T) {
	m := NewMemory()
	ctx := t.Context()
	must(t, m.EnsureSegment(ctx, bgp))
	must(t, m.EnsureSegment(ctx, telecom))
	must(t, m.EnsureVPC(ctx, fullVPC("vpc-a", "10.1")))
	broken := errors.New("broken")
	calls := map[string]func() error{
		"EnsureVPC":     func() error { return m.EnsureVPC(ctx, fullVPC("vpc-b", "10.2")) },
		"RemoveVPC":     func() error { return m.RemoveVPC(ctx, "vpc-a") },
		"EnsureSegment": func() error { return m.EnsureSegment(ctx, Segment{ID: "S", CIDR: bgp.CIDR, Network: "ext"}) },
		"RemoveSegment": func() error { return m.RemoveSegment(ctx, "S") },
		"Wait":          func() error { return m.Wait(ctx, nil) },
		"Present":       func() error { _, _, err := m.Present(ctx); return err },
	}
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		m.Fail(name, 2, broken)
		for range 2 {
			if err := calls[name](); !errors.Is(err, broken) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	vpcs, segments, _ := m.Present(ctx)
	if d := cmp.Diff([]string{"vpc-a"}, vpcs) + cmp.Diff([]string{"Bgp", "Telecom"}, segments); d != "" {
		t.Error(d)
	}
	if err := m.RemoveSegment(ctx, "Bgp"); !errors.Is(err, ErrInUse) {
		t.Errorf("segment in use: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		must(t, calls[name]())
	}
	if _, ok := m.VPC("vpc-a"); ok {
		t.Error("vpc-a is still there")
	}
	if v, ok := m.VPC("vpc-b"); !ok || v.CIDR != cidr("10.2.0.0/16") {
		t.Error("vpc-b is not there")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := m.Wait(ended, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}
