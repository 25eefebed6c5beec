package fabric

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

// TestTransfers measures for bench what our rows cost a TCP transfer: through groups against a switch without any,
// and through an EIP with its meters, groups and the segment's guard against a translation alone. The two of a
// pair take turns, so that both see the machine's load. It prints one JSON object a figure.
func TestTransfers(t *testing.T) {
	if os.Getenv("LINGYUN_BENCH") == "" {
		t.Skip("a measurement: LINGYUN_BENCH=1")
	}
	const size, rounds = 24 << 20, 5
	l := startLab(t)
	must(t, l.fabric.EnsureSegment(t.Context(), bgp))
	a := labVPC("vpc-a", "172.20.0.201")
	a.Ports = []Port{labPort("a1", "vpc-a-s1", "10.1.1.11"), labPort("a2", "vpc-a-s1", "10.1.1.12")}
	l.ensure(a)
	a1, a2 := l.plug("host1", a.Ports[0]), l.plug("host2", a.Ports[1])
	for _, g := range []*guest{a1, a2} {
		g.serve(80)
		g.dhcp()
	}
	var rules []Rule
	for i := range 20 {
		rules = append(rules, Rule{ID: fmt.Sprintf("sg_rule-%d", i), Ingress: true, Protocol: TCP, Ports: []PortRange{{80, 80}, {uint16(8000 + i), uint16(8100 + i)}},
			Remote: []netip.Prefix{cidr(fmt.Sprintf("198.18.%d.0/24", i))}, Accept: true, Priority: High})
	}
	rules = append(rules, Rule{ID: "sg_rule-web", Ingress: true, Protocol: TCP, Ports: []PortRange{{80, 80}}, Accept: true, Priority: Low},
		Rule{ID: "sg_rule-out", Protocol: AnyProtocol, Accept: true, Priority: Low})
	groups := []Group{{ID: "sg-1", Side: Inner, Members: []string{"a1", "a2"}, Rules: rules}, {ID: "sg-1", Side: Outer, Members: []string{"a1", "a2"}, Rules: rules}}

	transfer := func(from *guest, to string) float64 {
		eventually(t, to+" answers", func() error { _, err := from.ask(to, 80); return err })
		c, err := from.dial(to, 80)
		must(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		began := time.Now()
		fmt.Fprintf(c, "send %d\n", size)
		_, err = io.CopyN(io.Discard, c, size)
		must(t, err)
		return size * 8 / 1e6 / time.Since(began).Seconds()
	}
	figure := func(name string, from *guest, to string, bare, ours func()) {
		var without, with []float64
		for range rounds {
			bare()
			without = append(without, transfer(from, to))
			ours()
			with = append(with, transfer(from, to))
		}
		slices.Sort(without)
		slices.Sort(with)
		out, err := json.Marshal(map[string]any{"name": name, "bare": without[rounds/2], "ours": with[rounds/2]})
		must(t, err)
		fmt.Printf("figure %s\n", out)
	}
	figure("transfer through a security group", a1, "10.1.1.12", func() { a.Groups = nil; l.ensure(a) }, func() { a.Groups = groups; l.ensure(a) })
	figure("transfer through an EIP", l.guests["outside"], "172.20.0.11", func() {
		a.Groups, a.EIPs = nil, []EIP{{ID: "eip-1", SegmentID: "Bgp", Address: addr("172.20.0.11"), PortID: "a2"}}
		l.ensure(a)
		l.nbctl("--wait=hv", "acl-del", "Bgp")
	}, func() {
		a.Groups, a.EIPs[0].BandwidthMbps = groups, 10_000
		must(t, l.fabric.EnsureSegment(t.Context(), bgp))
		l.ensure(a)
	})
}
