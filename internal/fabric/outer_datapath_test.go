package fabric

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// ensureOuter writes an outer port and waits for both chassis.
func (l *lab) ensureOuter(p OuterPort) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(l.t, l.fabric.EnsureOuterPort(ctx, p))
	must(l.t, l.fabric.Wait(ctx, []string{"host1", "host2"}))
}

// TestOuterDatapath sees interfaces on a segment work on two chassis: DHCP where the segment has it, addresses that
// move between them, and their bandwidth.
func TestOuterDatapath(t *testing.T) {
	l := startLab(t)
	must(t, l.fabric.EnsureSegment(t.Context(), bgp))
	outside := l.guests["outside"]
	port := func(id string, n int) OuterPort {
		return OuterPort{ID: "nic-" + id, UUID: rowID(id, "interface"), SegmentID: bgp.ID, CIDR: bgp.CIDR, MAC: fmt.Sprintf("52:54:00:00:0a:%02x", n), IP: addr(fmt.Sprintf("172.20.0.%d", n)),
			Server: addr("172.20.0.5"), Filtered: true, Group: "sg-1", Rules: []Rule{
				{ID: "sg_rule-in", Ingress: true, Protocol: TCP, Accept: true, Priority: Low}, {ID: "sg_rule-out", Protocol: TCP, Accept: true, Priority: Low}}}
	}
	ports := []OuterPort{port("o1", 71), port("o2", 72)}
	var guests []*guest
	for i, host := range []string{"host1", "host2"} {
		l.ensureOuter(ports[i])
		guests = append(guests, l.plug(host, Port{ID: strings.TrimPrefix(ports[i].ID, "nic-"), UUID: ports[i].UUID, MAC: ports[i].MAC}))
	}
	o1, o2 := guests[0], guests[1]
	asks := func(from *guest, to, want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s asks %s", from.name, to), func() error {
			got, err := from.ask(to, 80)
			if err == nil && got != want+" say hello" {
				err = fmt.Errorf("%q, want %q", got, want)
			}
			return err
		})
	}

	// DHCP is offered, from the server that is said, without a router: nobody loses its default route to the segment.
	for i, g := range guests {
		offer := g.dhcp()
		for _, want := range []string{"ip=" + ports[i].IP.String(), "mask=24", "mtu=1500"} {
			if !strings.Contains(offer, want) {
				t.Errorf("%s is not offered %s: %s", g.name, want, offer)
			}
		}
		if strings.Contains(offer, "router=") {
			t.Errorf("%s is offered a router: %s", g.name, offer)
		}
		g.serve(80)
	}
	served, err := l.try("o1", "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "2", "-T", "1", "-s", "/bin/true")
	if err != nil || !strings.Contains(served, "172.20.0.5") {
		t.Errorf("who serves: %q, %v", served, err)
	}
	asks(outside, "172.20.0.71", "o1 saw "+labOutside)
	asks(outside, "172.20.0.72", "o2 saw "+labOutside)

	// A segment without DHCP offers nothing; addresses that are set by hand work.
	quiet := ports[1]
	quiet.Server = netip.Addr{}
	l.ensureOuter(quiet)
	if out, err := l.try("o2", "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "2", "-T", "1", "-s", "/bin/true"); err == nil {
		t.Errorf("somebody offers DHCP: %s", out)
	}
	asks(outside, "172.20.0.72", "o2 saw "+labOutside)
	ports[1] = quiet

	// An address moves between them: at first nobody may announce it.
	const vip = "172.20.0.80"
	take := func(g *guest) {
		t.Helper()
		l.ip("-n", g.name, "addr", "add", vip+"/32", "dev", "eth0")
		l.try(g.name, "arping", "-c", "2", "-w", "2", "-U", "-I", "eth0", vip)
	}
	leave := func(g *guest) { l.ip("-n", g.name, "addr", "del", vip+"/32", "dev", "eth0") }
	silent := func() {
		t.Helper()
		l.try("outside", "ip", "neigh", "flush", "all")
		if got, err := outside.ask(vip, 80); err == nil {
			t.Errorf("%s answers %q", vip, got)
		}
	}
	take(o1)
	silent()
	leave(o1)
	virtual := func(mbps int, carriers ...int) {
		for i := range ports {
			ports[i].Virtuals = nil
		}
		for _, i := range carriers {
			ports[i].Virtuals = []OuterVirtual{{"vip-1", addr(vip), mbps}}
		}
		for _, p := range ports {
			l.ensureOuter(p)
		}
	}
	virtual(0, 0, 1)
	take(o1)
	asks(outside, vip, "o1 saw "+labOutside)
	asks(o2, vip, "o1 saw 172.20.0.72")
	leave(o1)
	start := time.Now()
	take(o2)
	asks(outside, vip, "o2 saw "+labOutside)
	t.Logf("moved in %v", time.Since(start))
	// Its bandwidth is its own, beside that of its carrier.
	free := transferTime(t, outside, vip, "send")
	virtual(8, 0, 1)
	limited, taken, own := transferTime(t, outside, vip, "send"), transferTime(t, outside, vip, "take"), transferTime(t, outside, "172.20.0.72", "send")
	t.Logf("2 MiB: free %v, limited %v and %v, by the carrier's own address %v", free, limited, taken, own)
	if limited < 2*free || taken < 2*free || limited < 2*own {
		t.Error("a limit is not felt, or felt by another address")
	}
	// Who is named no longer loses it.
	virtual(8, 0)
	silent()
	leave(o2)
	take(o1)
	asks(outside, vip, "o1 saw "+labOutside)
}
