package network_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// routes are a subnet's, as "DESTINATION TYPE HOP STATUS".
func (c *cloud) routes(t *testing.T, subnet string) []string {
	t.Helper()
	var out []string
	for _, r := range c.Demo.Must(t, "DescribeSubnetRoute", P{"SubnetID": subnet}).Infos() {
		out = append(out, fmt.Sprint(r.String("Destination"), " ", r.String("NextHopType"), " ", r.String("NextHop"), " ", r.String("Status")))
	}
	return out
}

func (c *cloud) hasRoutes(t *testing.T, subnet string, want ...string) {
	t.Helper()
	controllertest.Eventually(t, 30*time.Second, fmt.Sprintf("%s has %q", subnet, want), func() bool { return slices.Equal(c.routes(t, subnet), want) })
}

func TestRoutes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		vpc := c.newVPC(t, "172.16.0.0/16", P{"EnableGateway": true})
		one, two := c.newSubnet(t, vpc, "172.16.1.0/24", nil), c.newSubnet(t, vpc, "172.16.2.0/24", nil)
		vm := c.vm(t, P{"VPCID": vpc, "SubnetID": two, "InternalIP": "172.16.2.20"})
		elsewhere := c.vm(t, nil)
		local := "172.16.0.0/16 Local local Available"
		c.hasRoutes(t, one, local)

		route := func(more P) P {
			p := P{"SubnetID": one, "Destination": "10.50.0.0/16", "NextHopType": "VM", "NextHop": vm}
			for k, v := range more {
				p[k] = v
			}
			return p
		}
		id := c.Demo.Must(t, "CreateSubnetRoute", route(P{"Remark": "to the machine"})).String("RouteID")
		c.hasRoutes(t, one, local, "10.50.0.0/16 VM "+vm+" Available")
		for _, r := range []struct {
			code retcode.Code
			more P
		}{
			{retcode.MissingParameter, P{"Destination": ""}}, {retcode.MissingParameter, P{"NextHop": ""}}, {retcode.InvalidParameter, P{"NextHopType": "NATGW"}},
			{retcode.InvalidCIDR, P{"Destination": "10.50.0.0"}}, {retcode.InvalidCIDR, P{"Destination": "10.50.0.1/16"}},
			{retcode.InvalidParameter, P{"Destination": "10.50.0.0/16"}},  // there already
			{retcode.InvalidParameter, P{"Destination": "172.16.0.0/16"}}, // the system's
			{retcode.InvalidParameter, P{"Destination": "172.16.2.0/24"}},
			{retcode.InvalidParameter, P{"Destination": "172.16.1.7/32"}}, // within the subnet itself
			{retcode.InvalidParameter, P{"Destination": "127.0.0.0/8"}}, {retcode.InvalidParameter, P{"Destination": "224.0.0.0/4"}}, {retcode.InvalidParameter, P{"Destination": "fd00::/64"}},
			{retcode.VMNotFound, P{"Destination": "10.51.0.0/16", "NextHop": "vm-none"}},
			{retcode.InvalidParameter, P{"Destination": "10.51.0.0/16", "NextHop": elsewhere}},
			{retcode.ResourceNotFound, P{"Destination": "10.51.0.0/16", "NextHopType": "VIP", "NextHop": "vip-none"}},
			{retcode.InvalidParameterFormat, P{"Destination": "10.51.0.0/16", "NextHopType": "Custom", "NextHop": "ten"}},
			{retcode.InvalidParameter, P{"Destination": "10.51.0.0/16", "NextHopType": "Custom", "NextHop": "172.16.2.20"}}, // of another subnet
			{retcode.InvalidParameter, P{"Destination": "10.51.0.0/16", "NextHopType": "Custom", "NextHop": "172.16.1.1"}},
			{retcode.SubnetNotFound, P{"SubnetID": "subnet-none"}},
		} {
			c.Demo.Refuse(t, r.code, "CreateSubnetRoute", route(r.more))
		}
		c.NewTenant(t).Refuse(t, retcode.SubnetNotFound, "CreateSubnetRoute", route(nil))
		c.NewTenant(t).Refuse(t, retcode.SubnetNotFound, "DescribeSubnetRoute", P{"SubnetID": one})
		custom := c.Demo.Must(t, "CreateSubnetRoute", route(P{"Destination": "10.50.0.7/32", "NextHopType": "Custom", "NextHop": "172.16.1.20"})).String("RouteID")
		c.hasRoutes(t, one, local, "10.50.0.0/16 VM "+vm+" Available", "10.50.0.7/32 Custom 172.16.1.20 Available")
		told := func() []string {
			v, _ := c.Fabric.(*fabric.Memory).VPC(vpc)
			var out []string
			for _, s := range v.Subnets {
				for _, r := range s.Routes {
					out = append(out, fmt.Sprint(s.ID == one, " ", r.Destination, " ", r.NextHop))
				}
			}
			slices.Sort(out)
			return out
		}
		if got := told(); !slices.Equal(got, []string{"true 10.50.0.0/16 172.16.2.20", "true 10.50.0.7/32 172.16.1.20"}) {
			t.Errorf("the fabric has %q", got)
		}
		if n := c.Demo.Must(t, "DescribeSubnet", P{"SubnetIDs": []string{one}}).Infos()[0].Int("RouteCount"); n != 3 {
			t.Errorf("%d routes counted", n)
		}

		c.Demo.Must(t, "UpdateSubnetRoute", P{"SubnetID": one, "RouteID": custom, "Destination": "10.60.0.0/16", "NextHopType": "VM", "NextHop": vm, "Remark": ""})
		c.hasRoutes(t, one, local, "10.50.0.0/16 VM "+vm+" Available", "10.60.0.0/16 VM "+vm+" Available")
		c.Demo.Refuse(t, retcode.InvalidParameter, "UpdateSubnetRoute", P{"SubnetID": one, "RouteID": custom, "Destination": "10.50.0.0/16"})
		c.Demo.Refuse(t, retcode.MissingParameter, "UpdateSubnetRoute", P{"SubnetID": one, "RouteID": custom, "NextHopType": "VM"})
		c.Demo.Refuse(t, retcode.ResourceNotFound, "UpdateSubnetRoute", P{"SubnetID": two, "RouteID": custom, "Destination": "10.70.0.0/16"})
		for _, a := range []string{"UpdateSubnetRoute", "DeleteSubnetRoute"} { // the system's are read only
			c.Demo.Refuse(t, retcode.InvalidParameter, a, P{"SubnetID": one, "RouteID": "route-local", "RouteIDs": []string{"route-local"}, "Destination": "10.70.0.0/16"})
		}

		// While its machine is in the recycle bin a route leads nowhere.
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": vm, "DelBindResource": 0})
		c.hasRoutes(t, one, local, "10.50.0.0/16 VM "+vm+" Unavailable", "10.60.0.0/16 VM "+vm+" Unavailable")
		controllertest.Eventually(t, 30*time.Second, "the fabric forgets the routes", func() bool { return len(told()) == 0 })
		controllertest.Eventually(t, 30*time.Second, "the machine comes back", func() bool {
			return c.Demo.Call(t, "RollbackResource", P{"ResourceID": vm}).Code == retcode.OK
		})
		c.hasRoutes(t, one, local, "10.50.0.0/16 VM "+vm+" Available", "10.60.0.0/16 VM "+vm+" Available")

		release := c.hold(t)
		c.Demo.Must(t, "DeleteSubnetRoute", P{"SubnetID": one, "RouteIDs": []string{id, custom}})
		c.Demo.Must(t, "DeleteSubnetRoute", P{"SubnetID": one, "RouteIDs": []string{id, custom}}) // under way
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UpdateSubnetRoute", P{"SubnetID": one, "RouteID": custom, "Destination": "10.70.0.0/16"})
		release()
		c.hasRoutes(t, one, local)
		c.Demo.Refuse(t, retcode.ResourceNotFound, "DeleteSubnetRoute", P{"SubnetID": one, "RouteIDs": []string{id}})
	})
}

func TestPeerings(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		a, b := c.newVPC(t, "172.16.0.0/16", P{"EnableGateway": true}), c.newVPC(t, "192.168.0.0/16", nil)
		over := c.newVPC(t, "172.16.128.0/17", P{"EnableGateway": true})
		twin := c.newVPC(t, "192.168.0.0/24", P{"EnableGateway": true})
		subnet := c.newSubnet(t, a, "172.16.1.0/24", nil)
		link := func(a, b string) P { return P{"VPCID": a, "PeerType": "VPC", "PeerID": b} }
		c.Demo.Refuse(t, retcode.InvalidVPCState, "AssociateVPCPeering", link(a, b)) // its gateway is off
		c.Demo.Must(t, "UpdateVPCGateway", P{"VPCID": b, "EnableGateway": true})
		c.Demo.Refuse(t, retcode.InvalidParameter, "AssociateVPCPeering", link(a, a))
		c.Demo.Refuse(t, retcode.InvalidParameter, "AssociateVPCPeering", link(a, over))
		c.Demo.Refuse(t, retcode.VPCNotFound, "AssociateVPCPeering", link(a, "vpc-none"))
		c.Demo.Refuse(t, retcode.ResourceNotFound, "AssociateVPCPeering", P{"VPCID": a, "PeerType": "DC", "PeerID": "dc-none"})
		c.Demo.Refuse(t, retcode.InvalidParameter, "AssociateVPCPeering", P{"VPCID": a, "PeerType": "VPN", "PeerID": b})
		other := c.NewTenant(t)
		theirs := other.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID")
		c.Demo.Refuse(t, retcode.VPCNotFound, "AssociateVPCPeering", link(a, theirs))
		c.Admin.Refuse(t, retcode.VPCNotFound, "AssociateVPCPeering", link(a, theirs)) // not even an administrator joins two tenants

		release := c.hold(t)
		c.Demo.Must(t, "AssociateVPCPeering", link(a, b))
		c.Demo.Must(t, "AssociateVPCPeering", link(b, a)) // under way
		c.Demo.Refuse(t, retcode.InvalidVPCState, "DissociateVPCPeering", link(a, b))
		release()
		listed := func(want string) {
			t.Helper()
			controllertest.Eventually(t, 30*time.Second, "the link is "+want, func() bool {
				l := c.Demo.Must(t, "DescribeVPCPeering", P{"VPCID": b}).Infos()
				return want == "gone" && len(l) == 0 || len(l) == 1 && l[0].String("State") == want
			})
		}
		listed("Available")
		if l := c.Demo.Must(t, "DescribeVPCPeering", P{"VPCID": b}).Infos()[0]; l.String("VPCID") != b || l.String("PeerID") != a || l.String("VPCNetwork") != "192.168.0.0/16" || fmt.Sprint(l["PeerNetworks"]) != "[172.16.0.0/16]" {
			t.Errorf("%v", l)
		}
		if l := c.Demo.Must(t, "DescribeVPC", P{"VPCIDs": []string{a}}).Infos()[0].List("PeeringInfos"); len(l) != 1 || l[0].String("PeerID") != b {
			t.Errorf("%v", l)
		}
		c.hasRoutes(t, subnet, "172.16.0.0/16 Local local Available", "192.168.0.0/16 Peering "+b+" Available")
		c.Demo.Refuse(t, retcode.InvalidParameter, "CreateSubnetRoute", P{"SubnetID": subnet, "Destination": "192.168.0.0/16", "NextHopType": "Custom", "NextHop": "172.16.1.9"})
		m := c.Fabric.(*fabric.Memory)
		va, _ := m.VPC(a)
		vb, _ := m.VPC(b)
		if len(va.Links) != 1 || len(vb.Links) != 1 || va.Links[0].NextHop != vb.Links[0].Address.Addr() || vb.Links[0].NextHop != va.Links[0].Address.Addr() || va.Links[0].Networks[0].String() != "192.168.0.0/16" {
			t.Errorf("%+v and %+v", va.Links, vb.Links)
		}
		c.Demo.Refuse(t, retcode.BindLimitReached, "AssociateVPCPeering", link(b, a))
		c.Demo.Refuse(t, retcode.InvalidParameter, "AssociateVPCPeering", link(a, twin)) // a could not tell it from b
		c.Demo.Refuse(t, retcode.InvalidVPCState, "UpdateVPCGateway", P{"VPCID": a, "EnableGateway": false})
		c.Demo.Refuse(t, retcode.VPCInUse, "DeleteVPC", P{"VPCID": b})
		if n := other.Must(t, "DescribeVPCPeering", nil).Int("TotalCount"); n != 0 {
			t.Error("another tenant sees the link")
		}
		other.Refuse(t, retcode.VPCNotFound, "DissociateVPCPeering", link(a, b))

		c.Demo.Must(t, "DissociateVPCPeering", link(b, a))
		listed("gone")
		if va, _ := m.VPC(a); len(va.Links) != 0 {
			t.Errorf("%+v", va.Links)
		}
		c.Demo.Refuse(t, retcode.ResourceNotFound, "DissociateVPCPeering", link(a, b))
		c.Demo.Must(t, "DeleteVPC", P{"VPCID": b})
	})
}
