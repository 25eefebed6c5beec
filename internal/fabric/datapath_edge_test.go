package fabric

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// TestEdgeDatapath sees what the edge promises: address sets and port lists in rules, a bandwidth that changes
// under a transfer, and routes of a segment without a default route.
func TestEdgeDatapath(t *testing.T) {
	l := startLab(t)
	ctx := t.Context()
	telecom := Segment{ID: "Telecom", CIDR: cidr("172.21.0.0/24"), Network: "ext2"}
	must(t, l.fabric.EnsureSegment(ctx, bgp))
	must(t, l.fabric.EnsureSegment(ctx, telecom))
	outside := l.guests["outside"]
	a := labVPC("vpc-a", "172.20.0.201")
	a.Ports = []Port{labPort("a2", "vpc-a-s1", "10.1.1.12"), labPort("a3", "vpc-a-s2", "10.1.2.13")}
	a.Gateways = append(a.Gateways, Gateway{SegmentID: telecom.ID, Address: cidr2("172.21.0.201/24"), MAC: stableMAC("vpc-a", "elsewhere"),
		Routes: []Route{{ID: "route-1", Destination: cidr(labFar + "/32"), NextHop: addr(labElsewhere)}}, Chassis: []string{"host1", "host2"}})
	a.EIPs = []EIP{{ID: "eip-1", SegmentID: "Bgp", Address: addr("172.20.0.11"), PortID: "a2", Distributed: true},
		{ID: "eip-2", SegmentID: telecom.ID, Address: addr("172.21.0.14"), PortID: "a3", Distributed: true}}
	l.ensure(a)
	a2, a3 := l.plug("host2", a.Ports[0]), l.plug("host2", a.Ports[1])
	for _, g := range []*guest{a2, a3} {
		g.serve(80)
		g.serve(22)
		g.dhcp()
	}
	// opens waits until a port is open, or closed, to the outside.
	opens := func(port int, open bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("port %d open: %v", port, open), func() error {
			if _, err := outside.ask("172.20.0.11", port); (err == nil) != open {
				return fmt.Errorf("want %v: %v", open, err)
			}
			return nil
		})
	}

	t.Run("routes of a segment", func(t *testing.T) {
		for g, want := range map[*guest]string{a2: "outside saw 172.20.0.11", a3: "elsewhere saw 172.21.0.14"} {
			eventually(t, g.name+" goes out by its own segment", func() error {
				got, err := g.ask(labFar, 80)
				if err == nil && got != want+" say hello" {
					err = fmt.Errorf("%q, want %q", got, want)
				}
				return err
			})
		}
		// What no route names does not leave by that segment, nor by another.
		if got, err := a3.ask(labOutside, 80); err == nil {
			t.Errorf("a3 reaches %s: %q", labOutside, got)
		}
	})

	t.Run("address sets and port lists", func(t *testing.T) {
		set := func(ps ...string) []Set {
			s := Set{ID: "ipgroup-1"}
			for _, p := range ps {
				s.Prefixes = append(s.Prefixes, cidr(p))
			}
			return []Set{s}
		}
		a.Groups = []Group{{ID: "sg-1", Side: Outer, Members: []string{"a2"}, Rules: []Rule{
			{ID: "sg_rule-1", Ingress: true, Protocol: TCP, Ports: []PortRange{{20, 22}, {80, 80}}, Set: "ipgroup-1", Accept: true, Priority: Medium}}}}
		a.Sets = set("192.0.2.0/24")
		l.ensure(a)
		opens(80, false)
		a.Sets = set("192.0.2.0/24", labOutside+"/32")
		l.ensure(a)
		opens(80, true)
		opens(22, true)
		var c net.Conn
		eventually(t, "a connection", func() (err error) { c, err = outside.dial("172.20.0.11", 80); return err })
		defer c.Close()
		_, err := echo(c, "first")
		must(t, err)
		a.Sets = set("192.0.2.0/24")
		l.ensure(a)
		opens(80, false)
		if _, err := echo(c, "again"); err != nil {
			t.Errorf("a connection is cut when its address leaves the set: %v", err)
		}
		a.Sets = set("172.20.0.0/16")
		a.Groups[0].Rules[0].Ports = []PortRange{{20, 22}}
		l.ensure(a)
		opens(22, true)
		opens(80, false)
		a.Groups, a.Sets = nil, nil
		l.ensure(a)
		opens(80, true)
	})

	t.Run("bandwidth under a transfer", func(t *testing.T) {
		at := func(mbps int) {
			a.EIPs[0].BandwidthMbps = mbps
			l.ensure(a)
		}
		at(8)
		c, err := outside.dial("172.20.0.11", 80)
		must(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(c, "send %d\n", 256<<20)
		measure := func() float64 { // Mbit/s over three seconds, after the bucket is empty
			io.CopyN(io.Discard, c, 2<<20)
			n, began := int64(0), time.Now()
			for buf := make([]byte, 64<<10); time.Since(began) < 3*time.Second; {
				k, err := c.Read(buf)
				must(t, err)
				n += int64(k)
			}
			return float64(n) * 8 / 1e6 / time.Since(began).Seconds()
		}
		slow := measure()
		at(40)
		fast := measure()
		at(8)
		again := measure()
		t.Logf("8 Mbit/s: %.1f, 40 Mbit/s: %.1f, 8 Mbit/s: %.1f", slow, fast, again)
		if slow > 12 || again > 12 || fast < 1.8*slow {
			t.Error("a transfer under way does not feel the change")
		}
	})
}
