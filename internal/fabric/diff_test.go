package fabric

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestAnySequence: whatever is ensured and removed in whatever order, the
// database holds exactly the rows of the last products, and ensuring one of them
// again writes nothing.
func TestAnySequence(t *testing.T) {
	c := startCentral(t)
	f := c.open()
	ctx := t.Context()
	empty := c.dump()
	rapid.Check(t, func(t *rapid.T) {
		vpcs, segments := map[string]VPC{}, map[string]Segment{}
		inUse := func(id string) bool {
			for _, v := range vpcs {
				if slices.ContainsFunc(v.Gateways, func(g Gateway) bool { return g.SegmentID == id }) {
					return true
				}
			}
			return false
		}
		apply := func(to Fabric) {
			for _, s := range segments {
				must(c.t, to.EnsureSegment(ctx, s))
			}
			for _, v := range vpcs {
				must(c.t, to.EnsureVPC(ctx, v))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"segment": func(t *rapid.T) {
				s := rapid.SampledFrom([]Segment{bgp, telecom}).Draw(t, "segment")
				s.VLAN = rapid.IntRange(0, 2).Draw(t, "VLAN")
				must(c.t, f.EnsureSegment(ctx, s))
				segments[s.ID] = s
			},
			"remove segment": func(t *rapid.T) {
				id := rapid.SampledFrom([]string{"Bgp", "Telecom"}).Draw(t, "segment")
				if inUse(id) {
					t.Skip("in use")
				}
				must(c.t, f.RemoveSegment(ctx, id))
				delete(segments, id)
			},
			"vpc": func(t *rapid.T) {
				v := drawVPC(t, segments)
				must(c.t, f.EnsureVPC(ctx, v))
				vpcs[v.ID] = v
			},
			"remove vpc": func(t *rapid.T) {
				id := rapid.SampledFrom([]string{"vpc-a", "vpc-b"}).Draw(t, "vpc")
				must(c.t, f.RemoveVPC(ctx, id))
				delete(vpcs, id)
			},
			"": func(t *rapid.T) {
				before := f.written
				apply(f)
				if f.written != before {
					t.Fatalf("a second Ensure wrote %d operations", f.written-before)
				}
				v, s, err := f.Present(ctx)
				if d := cmp.Diff(slices.Sorted(maps.Keys(vpcs)), v) + cmp.Diff(slices.Sorted(maps.Keys(segments)), s); err != nil || d != "" {
					t.Fatalf("Present: %v %s", err, d)
				}
			},
		})
		// What is there now is what a fresh write gives.
		after := c.dump()
		clear := func() {
			for _, id := range []string{"vpc-a", "vpc-b"} {
				must(c.t, f.RemoveVPC(ctx, id))
			}
			for _, id := range []string{"Bgp", "Telecom"} {
				must(c.t, f.RemoveSegment(ctx, id))
			}
			if d := cmp.Diff(empty, c.dump()); d != "" {
				t.Fatalf("left: %s", d)
			}
		}
		clear()
		apply(f)
		if d := cmp.Diff(strings.Split(c.dump(), "\n"), strings.Split(after, "\n")); d != "" {
			t.Fatalf("the sequence left (+) what a fresh write does not (-): %s", d)
		}
		clear()
	})
}

// drawVPC is any part of the full VPC, on the segments that there are.
func drawVPC(t *rapid.T, segments map[string]Segment) VPC {
	id := rapid.SampledFrom([]string{"vpc-a", "vpc-b"}).Draw(t, "vpc")
	v := fullVPC(id, fmt.Sprint("10.", rapid.IntRange(1, 2).Draw(t, "net")))
	some := func(what string) bool { return rapid.IntRange(0, 3).Draw(t, what) > 0 }
	v.Subnets = slices.DeleteFunc(v.Subnets, func(s Subnet) bool { return !some("subnet " + s.ID) })
	v.Ports = slices.DeleteFunc(v.Ports, func(p Port) bool {
		return !slices.ContainsFunc(v.Subnets, func(s Subnet) bool { return s.ID == p.SubnetID }) || !some("port "+p.ID)
	})
	v.Virtuals = slices.DeleteFunc(v.Virtuals, func(x Virtual) bool {
		return !slices.ContainsFunc(v.Subnets, func(s Subnet) bool { return s.ID == x.SubnetID }) || !some("virtual "+x.ID)
	})
	for i := range v.Virtuals {
		v.Virtuals[i].Parents = slices.DeleteFunc(v.Virtuals[i].Parents, func(p string) bool {
			return !slices.ContainsFunc(v.Ports, func(x Port) bool { return x.ID == p }) || !some("carrier "+p)
		})
	}
	if !some("link") {
		v.Links = nil
	}
	has := func(port string) bool {
		if slices.ContainsFunc(v.Virtuals, func(x Virtual) bool { return x.ID == port }) {
			return true
		}
		return slices.ContainsFunc(v.Ports, func(p Port) bool { return p.ID == port })
	}
	v.Gateways = slices.DeleteFunc(v.Gateways, func(g Gateway) bool { return segments[g.SegmentID].ID == "" || !some("gateway "+g.SegmentID) })
	for i := range v.Gateways {
		if !some("next hop") {
			v.Gateways[i].NextHop = netip.Addr{}
		}
		v.Gateways[i].Chassis = rapid.Permutation([]string{"host1", "host2", "host3"}).Draw(t, "chassis")[:rapid.IntRange(0, 3).Draw(t, "chassis count")]
	}
	v.EIPs = slices.DeleteFunc(v.EIPs, func(e EIP) bool {
		return !has(e.PortID) || !slices.ContainsFunc(v.Gateways, func(g Gateway) bool { return g.SegmentID == e.SegmentID }) || !some("EIP "+e.ID)
	})
	for i := range v.EIPs {
		v.EIPs[i].BandwidthMbps = rapid.IntRange(0, 2).Draw(t, "bandwidth")
	}
	v.Groups = slices.DeleteFunc(v.Groups, func(g Group) bool { return !some("group " + g.ID) })
	for i := range v.Groups {
		g := &v.Groups[i]
		g.Members = slices.DeleteFunc(g.Members, func(m string) bool { return !has(m) || !some("member "+m) })
		g.Rules = slices.DeleteFunc(g.Rules, func(r Rule) bool { return !some("rule " + r.ID) })
	}
	if !some("peers") {
		v.Peers = nil
	}
	return v
}
