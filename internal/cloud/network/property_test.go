package network

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestAnySequence does things in any order, in subnets and on the segment, some of which are refused and some of which the fabric refuses for a
// while: free addresses stay exact, and what the fabric holds refers to nothing that is not there. (The fabric
// refuses a VPC that does: fabric.ErrInvalid.)
func TestAnySequence(t *testing.T) {
	// Each sequence has a world of its own: some of them a run, as many as one asks for by -rapid.checks.
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		must(t, checks.Value.Set("12"))
		defer func() { must(t, checks.Value.Set(checks.DefValue)) }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		f := newFixture(t, dbtest.SQLite(t))
		f.RegisterTarget(VM, vms{f})
		must(t, f.Engine.Start(t.Context()))
		defer func() { must(t, f.Engine.Stop(t.Context())) }()
		a, aSubnets := f.vpcOf(t, "192.168.0.0/16", "192.168.1.0/29", "192.168.2.0/24")
		b, bSubnets := f.vpcOf(t, "172.16.0.0/16", "172.16.1.0/29")
		vpcs := map[string]string{aSubnets[0]: a, aSubnets[1]: a, bSubnets[0]: b}
		subnets := append(aSubnets, bSubnets[0])
		for i, n := range []string{aSubnets[0], aSubnets[1], bSubnets[0]} {
			f.portIn(t, fmt.Sprint("vm-", i), vpcs[n], n, "")
		}
		must(t, f.SyncVPC(t.Context(), a))
		must(t, f.SyncVPC(t.Context(), b))
		var nics, vips, routes, eips []string
		pick := func(what string, from []string) string {
			if len(from) == 0 {
				return "none"
			}
			return rapid.SampledFrom(from).Draw(rt, what)
		}
		vm := func() string { return fmt.Sprint("vm-", rapid.IntRange(0, 2).Draw(rt, "vm")) }
		// A refusal is an answer; anything without a code of its own is a mistake of ours.
		outcome := func(err error) {
			if code := retcode.Of(err); code == retcode.ServiceError {
				rt.Fatalf("%v", err)
			}
		}
		ctx := t.Context()
		rt.Repeat(map[string]func(*rapid.T){
			"create NIC": func(*rapid.T) {
				n := pick("subnet", subnets)
				q := &createNICRequest{Name: "nic", NICType: LAN, VPCID: vpcs[n], SubnetID: n}
				if rapid.Bool().Draw(rt, "outer") {
					q = &createNICRequest{Name: "nic", NICType: WAN, SegmentID: "Bgp", Bandwidth: 2, ChargeType: "Month", Quantity: 1}
				}
				r, err := f.createNIC(ctx, call("CreateNIC"), q)
				if err == nil {
					nics = append(nics, r.NICID)
				}
				outcome(err)
			},
			"attach": func(*rapid.T) {
				_, err := f.attach(ctx, call("AttachNIC"), &attachNICRequest{NICID: pick("NIC", nics), ResourceID: vm()})
				outcome(err)
			},
			"detach": func(*rapid.T) {
				_, err := f.detach(ctx, call("DetachNIC"), &attachNICRequest{NICID: pick("NIC", nics), ResourceID: vm()})
				outcome(err)
			},
			"delete NIC": func(*rapid.T) {
				_, err := f.deleteNIC(ctx, call("DeleteNIC"), &nicRequest{NICID: pick("NIC", nics)})
				outcome(err)
			},
			"allocate VIP": func(*rapid.T) {
				n := pick("subnet", subnets)
				q := &allocateVIPRequest{Name: "vip", VIPType: LAN, VPCID: vpcs[n], SubnetID: n, AssociatedResourceType: byVM, AssociatedResourceIDs: []string{vm()}}
				if rapid.Bool().Draw(rt, "outer") {
					q.VIPType, q.SubnetID, q.SegmentID, q.Bandwidth, q.ChargeType, q.Quantity = WAN, "", "Bgp", 2, "Month", 1
					q.AssociatedResourceIDs = q.AssociatedResourceIDs[:rapid.IntRange(0, 1).Draw(rt, "carriers")]
				}
				r, err := f.allocateVIP(ctx, call("AllocateVIP"), q)
				if err == nil {
					vips = append(vips, r.VIPID)
				}
				outcome(err)
			},
			"update VIP": func(*rapid.T) {
				q := &updateVIPRequest{VIPID: pick("VIP", vips), AssociatedResourceType: byVM, AssociatedResourceIDs: []string{vm()}}
				if rapid.Bool().Draw(rt, "NIC") {
					q.AssociatedResourceType, q.AssociatedResourceIDs = byNIC, []string{pick("NIC", nics)}
				}
				_, err := f.updateVIP(ctx, call("UpdateVIPBindResource"), q)
				outcome(err)
			},
			"release VIP": func(*rapid.T) {
				_, err := f.releaseVIP(ctx, call("ReleaseVIP"), &vipRequest{VIPID: pick("VIP", vips)})
				outcome(err)
			},
			"VIP bandwidth": func(*rapid.T) {
				_, err := f.updateVIPBandwidth(ctx, call("UpdateVIPBandwidth"), &updateVIPBandwidthRequest{VIPID: pick("VIP", vips), Bandwidth: rapid.IntRange(1, 9).Draw(rt, "Mbps")})
				outcome(err)
			},
			"allocate EIP": func(*rapid.T) {
				mbps := 1
				r, err := f.allocateEIP(ctx, call("AllocateEIP"), &allocateEIPRequest{Name: "eip", OperatorName: "Bgp", ChargeType: "Month", Quantity: 1, Count: 1, Bandwidth: &mbps})
				if err == nil {
					eips = append(eips, r.EIPID)
				}
				outcome(err)
			},
			"bind EIP": func(*rapid.T) {
				q := &bindEIPRequest{EIPID: pick("EIP", eips), ResourceType: VM, ResourceID: vm()}
				if rapid.Bool().Draw(rt, "VIP") {
					q.ResourceType, q.ResourceID = ofVIP, pick("VIP", vips)
				}
				_, err := f.bindEIP(ctx, call("BindEIP"), q)
				outcome(err)
			},
			"unbind EIP": func(*rapid.T) {
				e, err := eipByID(ctx, f.DB.Reader(), action.Scope{}, pick("EIP", eips))
				if err == nil && e.BindID != "" {
					_, err = f.unbindEIP(ctx, call("UnBindEIP"), &bindEIPRequest{EIPID: e.ID, ResourceType: e.BindKind, ResourceID: e.BindID})
				}
				outcome(err)
			},
			"destroy EIP": func(*rapid.T) {
				id := pick("EIP", eips)
				_, err := f.releaseEIP(ctx, call("ReleaseEIP"), &releaseEIPRequest{EIPID: id})
				if err == nil && rapid.Bool().Draw(rt, "for good") {
					err = f.DestroyEIP(ctx, call("TerminateResource"), id)
				}
				outcome(err)
			},
			"route": func(*rapid.T) {
				q := &createRouteRequest{SubnetID: pick("subnet", subnets), Destination: fmt.Sprintf("10.%d.0.0/16", rapid.IntRange(1, 3).Draw(rt, "to")), NextHopType: hopVM, NextHop: vm()}
				if rapid.Bool().Draw(rt, "VIP") {
					q.NextHopType, q.NextHop = hopVIP, pick("VIP", vips)
				}
				r, err := f.createRoute(ctx, call("CreateSubnetRoute"), q)
				if err == nil {
					routes = append(routes, r.RouteID)
				}
				outcome(err)
			},
			"delete route": func(*rapid.T) {
				_, err := f.deleteRoute(ctx, call("DeleteSubnetRoute"), &deleteRouteRequest{SubnetID: pick("subnet", subnets), RouteIDs: []string{pick("route", routes)}})
				outcome(err)
			},
			"link": func(*rapid.T) {
				_, err := f.associatePeering(ctx, call("AssociateVPCPeering"), &peeringRequest{VPCID: a, PeerType: "VPC", PeerID: b})
				outcome(err)
			},
			"unlink": func(*rapid.T) {
				_, err := f.dissociatePeering(ctx, call("DissociateVPCPeering"), &peeringRequest{VPCID: b, PeerType: "VPC", PeerID: a})
				outcome(err)
			},
			"another address": func(*rapid.T) {
				_, err := f.replaceIP(ctx, call("ReplaceIP"), &replaceIPRequest{ResourceID: vm(), IP: fmt.Sprintf("192.168.2.%d", rapid.IntRange(3, 9).Draw(rt, "host"))})
				outcome(err)
			},
			"delete subnet": func(*rapid.T) {
				_, err := f.deleteSubnet(ctx, call("DeleteSubnet"), &subnetRequest{SubnetID: pick("subnet", subnets)})
				outcome(err)
			},
			"the fabric is away": func(*rapid.T) {
				f.memory.Fail(rapid.SampledFrom([]string{"EnsureVPC", "EnsureOuterPort"}).Draw(rt, "what"), 1, errors.New("northbound is away"))
			},
			"": func(rt *rapid.T) {
				until(t, "nothing is under way", func() bool {
					busy, err := exists(ctx, f.DB.Reader(), "SELECT 1 FROM operation_lock")
					must(t, err)
					return !busy
				})
				problems, err := f.Verify(ctx)
				if err != nil || len(problems) > 0 {
					rt.Fatalf("%q, %v", problems, err)
				}
				for _, id := range []string{a, b} {
					want, err := f.load(ctx, id)
					must(t, err)
					got, _ := f.memory.VPC(id)
					if d := cmp.Diff(*want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); d != "" {
						rt.Fatalf("the fabric was not told: %s", d)
					}
				}
				for _, id := range nics {
					want, err := f.loadOuter(ctx, id)
					must(t, err)
					if got, there := f.memory.OuterPort(id); there != (want != nil) || there && cmp.Diff(*want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()) != "" {
						rt.Fatalf("the fabric was not told of %s: %v, want %v", id, got, want)
					}
				}
				// Each address is somebody's: what is free is what nobody has.
				var used, held int
				must(t, f.DB.Reader().NewRaw("SELECT used FROM segment").Scan(ctx, &used))
				must(t, f.DB.Reader().NewRaw(`SELECT (SELECT COUNT(*) FROM eip WHERE state <> 'Released') + (SELECT COUNT(*) FROM gateway)
					+ (SELECT COUNT(*) FROM nic WHERE kind = 'WAN' AND ended_at = 0) + (SELECT COUNT(*) FROM vip WHERE kind = 'WAN' AND ended_at = 0)`).Scan(ctx, &held))
				if used != held {
					rt.Fatalf("the segment counts %d addresses, %d are held", used, held)
				}
			},
		})
	})
}
