package fabric

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// labNetwork is a VPC 10.N.0.0/16 with two subnets and no way out.
func labNetwork(id string, n int) VPC {
	net := fmt.Sprintf("10.%d.", n)
	return VPC{ID: id, CIDR: cidr(net + "0.0/16"), MTU: labMTU, Subnets: []Subnet{
		{ID: id + "-s1", CIDR: cidr(net + "1.0/24"), Gateway: addr(net + "1.1")},
		{ID: id + "-s2", CIDR: cidr(net + "2.0/24"), Gateway: addr(net + "2.1")},
	}}
}

// linked joins two VPCs by the num-th pair of addresses.
func linked(a, b *VPC, num int) {
	net := fmt.Sprintf("169.254.128.%d", num*4)
	one, other := addr(net).Next(), addr(net).Next().Next()
	a.Links = append(a.Links, Link{PeerID: b.ID, Networks: []netip.Prefix{b.CIDR}, Address: netip.PrefixFrom(one, 30), NextHop: other})
	b.Links = append(b.Links, Link{PeerID: a.ID, Networks: []netip.Prefix{a.CIDR}, Address: netip.PrefixFrom(other, 30), NextHop: one})
}

// TestInnerDatapath sees links, routes, virtual addresses and further ports work on two chassis.
func TestInnerDatapath(t *testing.T) {
	l := startLab(t)
	must(t, l.fabric.EnsureSegment(t.Context(), bgp))
	outside := l.guests["outside"]

	a, b, c := labNetwork("vpc-a", 1), labNetwork("vpc-b", 2), labNetwork("vpc-c", 3)
	a.Ports = []Port{labPort("a1", "vpc-a-s1", "10.1.1.11"), labPort("a2", "vpc-a-s1", "10.1.1.12"), labPort("a3", "vpc-a-s2", "10.1.2.13"), labPort("a4", "vpc-a-s2", "10.1.2.14")}
	a.Ports[3].NoRoutes = true
	b.Ports = []Port{labPort("b1", "vpc-b-s1", "10.2.1.11")}
	c.Ports = []Port{labPort("c1", "vpc-c-s1", "10.3.1.11")}
	for _, v := range []VPC{a, b, c} {
		l.ensure(v)
	}
	a1, a2, a3, a4 := l.plug("host1", a.Ports[0]), l.plug("host2", a.Ports[1]), l.plug("host2", a.Ports[2]), l.plug("host1", a.Ports[3])
	b1, c1 := l.plug("host2", b.Ports[0]), l.plug("host1", c.Ports[0])
	for _, g := range []*guest{a1, a2, a3, a4, b1, c1} {
		offer := g.dhcp()
		if none := !strings.Contains(offer, "router=") && !strings.Contains(offer, "staticroutes="); none != (g == a4) {
			t.Errorf("%s is offered\n%s", g.name, offer)
		}
		g.serve(80)
	}
	l.ip("-n", "a4", "route", "add", "default", "via", "10.1.2.1") // for what follows
	answers := func(from *guest, to, want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s asks %s", from.name, to), func() error {
			got, err := from.ask(to, 80)
			if err == nil && got != want+" say hello" {
				err = fmt.Errorf("%q, want %q", got, want)
			}
			return err
		})
	}
	silent := func(from *guest, to string) {
		t.Helper()
		if err := within(3*time.Second, func() error {
			if got, err := from.ask(to, 80); err == nil {
				return fmt.Errorf("%s reaches %s: %q", from.name, to, got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}

	t.Run("links", func(t *testing.T) {
		silent(a1, "10.2.1.11")
		linked(&a, &b, 0)
		linked(&b, &c, 1)
		for _, v := range []VPC{a, b, c} {
			l.ensure(v)
		}
		answers(a1, "10.2.1.11", "b1 saw 10.1.1.11")
		answers(b1, "10.1.1.12", "a2 saw 10.2.1.11")
		answers(b1, "10.1.2.13", "a3 saw 10.2.1.11")
		answers(c1, "10.2.1.11", "b1 saw 10.3.1.11")
		must(t, a1.ping("10.2.1.1")) // the other VPC's router finds the way back
		silent(a1, "10.3.1.11")      // a link of a link is none
		silent(c1, "10.1.1.11")

		// Groups take linked networks for inside.
		accept := Rule{ID: "sg_rule-in", Ingress: true, Protocol: AnyProtocol, Accept: true, Priority: Low}
		a.Groups = []Group{{ID: "sg-1", Side: Inner, Members: []string{"a2"}, Rules: []Rule{accept}}}
		l.ensure(a)
		answers(b1, "10.1.1.12", "a2 saw 10.2.1.11")
		a.Groups[0].Side = Outer
		l.ensure(a)
		silent(b1, "10.1.1.12")
		a.Groups = nil

		a.Links, b.Links = nil, b.Links[1:]
		l.ensure(a)
		l.ensure(b)
		silent(a1, "10.2.1.11")
		silent(b1, "10.1.1.11")
		answers(c1, "10.2.1.11", "b1 saw 10.3.1.11")
	})

	t.Run("routes", func(t *testing.T) {
		for g, addresses := range map[string][]string{"a3": {"10.50.0.1/32", "10.50.0.7/32", "192.0.2.9/32"}, "a2": {"10.50.0.7/32"}} {
			for _, x := range addresses {
				l.ip("-n", g, "addr", "add", x, "dev", "lo")
			}
		}
		silent(a1, "10.50.0.1")
		a.Subnets[0].Routes = []Route{
			{ID: "route-1", Destination: cidr("10.50.0.0/16"), NextHop: addr("10.1.2.13")},
			{ID: "route-2", Destination: cidr("10.50.0.7/32"), NextHop: addr("10.1.1.12")},
		}
		l.ensure(a)
		answers(a1, "10.50.0.1", "a3 saw 10.1.1.11")
		answers(a1, "10.50.0.7", "a2 saw 10.1.1.11") // the most specific wins
		silent(a4, "10.50.0.1")                      // another subnet's table
		silent(a1, "192.0.2.9")
		// Everything else by way of a machine.
		a.Subnets[0].Routes = []Route{{ID: "route-3", Destination: cidr("0.0.0.0/0"), NextHop: addr("10.1.2.13")}}
		l.ensure(a)
		answers(a1, "192.0.2.9", "a3 saw 10.1.1.11")
		answers(a1, "10.50.0.7", "a3 saw 10.1.1.11")
		a.Subnets[0].Routes = nil
		l.ensure(a)
		silent(a1, "192.0.2.9")
	})

	t.Run("a virtual address moves", func(t *testing.T) {
		a.Virtuals = []Virtual{{ID: "v1", UUID: rowID("v1", "interface"), SubnetID: "vpc-a-s1", MAC: "52:54:00:00:00:99", IP: addr("10.1.1.100"), Parents: []string{"a1", "a2"}}}
		a.Gateways = []Gateway{{SegmentID: "Bgp", Address: cidr2("172.20.0.201/24"), MAC: stableMAC("vpc-a", "gateway"), NextHop: addr(labOutside), Chassis: []string{"host1", "host2"}}}
		a.EIPs = []EIP{{ID: "eip-1", SegmentID: "Bgp", Address: addr("172.20.0.11"), PortID: "v1", Distributed: true}}
		l.ensure(a)
		silent(a3, "10.1.1.100")
		take := func(g *guest) {
			t.Helper()
			l.ip("-n", g.name, "addr", "add", "10.1.1.100/32", "dev", "eth0")
			l.try(g.name, "arping", "-c", "2", "-w", "2", "-A", "-I", "eth0", "10.1.1.100")
		}
		leave := func(g *guest) { l.ip("-n", g.name, "addr", "del", "10.1.1.100/32", "dev", "eth0") }
		take(a1)
		answers(a3, "10.1.1.100", "a1 saw 10.1.2.13")
		answers(a2, "10.1.1.100", "a1 saw 10.1.1.12")
		answers(outside, "172.20.0.11", "a1 saw "+labOutside)
		leave(a1)
		start := time.Now()
		take(a2)
		answers(a3, "10.1.1.100", "a2 saw 10.1.2.13")
		answers(outside, "172.20.0.11", "a2 saw "+labOutside)
		t.Logf("moved in %v", time.Since(start))
		leave(a2)

		// Who is not named cannot carry it.
		a.Virtuals[0].Parents = []string{"a1"}
		l.ensure(a)
		take(a2)
		silent(a3, "10.1.1.100")
		leave(a2)
		take(a1)
		answers(a3, "10.1.1.100", "a1 saw 10.1.2.13")
		leave(a1)
		a.Virtuals, a.EIPs, a.Gateways = nil, nil, nil
		l.ensure(a)
	})

	t.Run("inner bandwidth", func(t *testing.T) {
		a.Ports = slices.Clone(a.Ports)
		a.Ports[1].OutMbps, a.Ports[1].InMbps = 8, 0
		l.ensure(a)
		limited, free := transferTime(t, a1, "10.1.1.12", "send"), transferTime(t, a1, "10.1.2.13", "send")
		a.Ports[1].OutMbps, a.Ports[1].InMbps = 0, 8
		l.ensure(a)
		in, out := transferTime(t, a1, "10.1.1.12", "take"), transferTime(t, a1, "10.1.1.12", "send")
		t.Logf("2 MiB: out limited %v, in limited %v, free %v and %v", limited, in, free, out)
		if limited < 2*free || in < 2*out {
			t.Error("a limit is not felt")
		}
	})
}

// transferTime is how long 2 MiB take.
func transferTime(t *testing.T, from *guest, to, word string) time.Duration {
	t.Helper()
	const size = 2 << 20
	answer := 1
	if word == "send" {
		answer = size
	}
	c, err := from.dial(to, 80)
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	start := time.Now()
	fmt.Fprintf(c, "%s %d\n", word, size)
	if word == "take" {
		go c.Write(make([]byte, size))
	}
	_, err = readFull(c, answer)
	must(t, err)
	return time.Since(start)
}

func readFull(r io.Reader, n int) (int64, error) { return io.CopyN(io.Discard, r, int64(n)) }
