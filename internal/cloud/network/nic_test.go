package network_test

import (
	"errors"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (c *cloud) nic(t *testing.T, more P) string {
	t.Helper()
	p := P{"Name": "nic", "NICType": "LAN", "VPCID": c.vpc, "SubnetID": c.subnet}
	for k, v := range more {
		p[k] = v
	}
	return c.Demo.Must(t, "CreateNIC", p).String("NICID")
}

func (c *cloud) nicIs(t *testing.T, nic, state string) controllertest.Info {
	t.Helper()
	c.becomes(t, "DescribeNIC", "NICIDs", nic, "NICStatus", state)
	return c.Demo.Must(t, "DescribeNIC", P{"NICIDs": []string{nic}}).Infos()[0]
}

func to(nic, vm string) P { return P{"NICID": nic, "ResourceID": vm} }

func TestNICs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, segment("203.0.113.0/28"))
		m := c.Fabric.(*fabric.Memory)
		vpc := c.newVPC(t, "172.16.0.0/16", nil)
		subnet := c.newSubnet(t, vpc, "172.16.1.0/24", nil)
		vm, second := c.vm(t, nil), c.vm(t, nil)
		for _, r := range []struct {
			code retcode.Code
			more P
		}{
			{retcode.MissingParameter, P{"Name": ""}}, {retcode.MissingParameter, P{"SubnetID": ""}}, {retcode.MissingParameter, P{"VPCID": ""}},
			{retcode.MissingParameter, P{"NICType": "WAN"}}, {retcode.MissingParameter, P{"NICType": "WAN", "SegmentID": "Bgp", "ChargeType": "Month"}},
			{retcode.InvalidNetworkType, P{"NICType": "PAN"}}, {retcode.InvalidParameter, P{"IPVersion": "IPv6"}},
			{retcode.InvalidParameterFormat, P{"IP": "ten"}}, {retcode.InvalidParameterFormat, P{"MAC": "zero"}}, {retcode.InvalidParameter, P{"MAC": "03:00:00:00:00:01"}},
			{retcode.VPCNotFound, P{"VPCID": "vpc-none"}}, {retcode.SubnetNotFound, P{"SubnetID": subnet}}, {retcode.SGNotFound, P{"SGID": "sg-none"}},
			{retcode.IPOutOfSegment, P{"IP": "10.1.0.9"}}, {retcode.IPReserved, P{"IP": "10.0.0.1"}}, {retcode.IPAlreadyAllocated, P{"IP": "10.0.0.3"}},
			{retcode.ResourceNotFound, P{"NICType": "WAN", "SegmentID": "none", "ChargeType": "Month", "Bandwidth": 2}},
			{retcode.BandwidthOutOfRange, P{"NICType": "WAN", "SegmentID": "Bgp", "ChargeType": "Month", "Bandwidth": 1000000}},
			{retcode.InvalidParameter, P{"NICType": "WAN", "SegmentID": "Bgp", "ChargeType": "Month", "Quantity": 12, "Bandwidth": 2}},
			{retcode.IPOutOfSegment, P{"NICType": "WAN", "SegmentID": "Bgp", "ChargeType": "Month", "Bandwidth": 2, "IP": "192.0.2.1"}},
		} {
			p := P{"Name": "nic", "NICType": "LAN", "VPCID": c.vpc, "SubnetID": c.subnet}
			for k, v := range r.more {
				p[k] = v
			}
			c.Demo.Refuse(t, r.code, "CreateNIC", p)
		}
		nic := c.nic(t, P{"VPCID": vpc, "SubnetID": subnet, "IP": "172.16.1.20", "MAC": "02:00:00:AA:BB:01", "SGID": c.group, "Remark": "second"})
		info := c.nicIs(t, nic, "Free")
		if info.String("MAC") != "02:00:00:aa:bb:01" || info.String("IP") != "172.16.1.20" || info.String("SGID") != c.group || info.String("NICType") != "LAN" || info.String("BindResourceID") != "" || info.String("VPCName") != "net" {
			t.Errorf("%v", info)
		}
		if !truth(c.Demo.Must(t, "CheckMACInUse", P{"MAC": "02:00:00:aa:bb:01"}), "InUse") || truth(c.Demo.Must(t, "CheckMACInUse", P{"MAC": "02:00:00:aa:bb:02"}), "InUse") {
			t.Error("CheckMACInUse is wrong")
		}
		c.Demo.Refuse(t, retcode.InvalidParameterFormat, "CheckMACInUse", P{"MAC": "x"})
		if v, _ := m.VPC(vpc); len(v.Ports) != 0 {
			t.Error("a free NIC is in the network")
		}
		other := c.NewTenant(t)
		for _, a := range []string{"AttachNIC", "DetachNIC", "DeleteNIC", "UpdateNICMAC", "UpdateNICIPBandwidth"} {
			other.Refuse(t, retcode.ResourceNotFound, a, P{"NICID": nic, "ResourceID": vm, "MAC": "02:00:00:00:00:09", "Bandwidth": 2})
		}
		c.Demo.Refuse(t, retcode.VMNotFound, "AttachNIC", to(nic, "vm-none"))
		c.Demo.Refuse(t, retcode.InvalidResourceType, "AttachNIC", to(nic, "disk-none"))
		c.Demo.Refuse(t, retcode.InvalidResourceType, "AttachNIC", P{"NICID": nic, "ResourceID": vm, "ResourceType": "Toaster"})
		c.Demo.Refuse(t, retcode.InvalidResourceState, "DetachNIC", to(nic, vm))
		c.Demo.Must(t, "UpdateNICMAC", P{"NICID": nic, "MAC": "02:00:00:aa:bb:03"})
		taken := c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{vm}}).Infos()[0].String("MAC")
		c.Demo.Refuse(t, retcode.InvalidParameter, "UpdateNICMAC", P{"NICID": nic, "MAC": taken})
		c.Demo.Refuse(t, retcode.InvalidParameter, "UpdateNICIPBandwidth", P{"NICID": nic, "Bandwidth": 3})

		c.Demo.Must(t, "AttachNIC", to(nic, vm))
		c.Demo.Must(t, "AttachNIC", to(nic, vm)) // under way, or so already
		info = c.nicIs(t, nic, "Bound")
		if info.String("BindResourceID") != vm || info.String("BindResourceType") != "VM" || info.String("BindResourceName") != "m" {
			t.Errorf("%v", info)
		}
		v, _ := m.VPC(vpc)
		if len(v.Ports) != 1 || !v.Ports[0].NoDefaultRoute || v.Ports[0].NoRoutes || v.Ports[0].MAC != "02:00:00:aa:bb:03" {
			t.Errorf("%+v", v.Ports)
		}
		machine := c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{vm}}).Infos()[0]
		if nics := machine.List("NICInfos"); len(nics) != 1 || nics[0].String("NICID") != nic || machine.String("MAC") != taken || len(machine.List("IPInfos")) != 2 {
			t.Errorf("%v", machine)
		}
		c.Demo.Refuse(t, retcode.NICStillBound, "DeleteNIC", P{"NICID": nic})
		c.Demo.Refuse(t, retcode.NICStillBound, "UpdateNICMAC", P{"NICID": nic, "MAC": "02:00:00:aa:bb:04"})
		c.Demo.Refuse(t, retcode.NICBoundElsewhere, "AttachNIC", to(nic, second))
		c.Demo.Refuse(t, retcode.InvalidResourceState, "DetachNIC", to(nic, second))
		c.Demo.Refuse(t, retcode.SubnetInUse, "DeleteSubnet", P{"SubnetID": subnet})

		// The same address twice on one machine.
		twin := c.newVPC(t, "172.16.0.0/16", nil)
		twinSubnet := c.newSubnet(t, twin, "172.16.1.0/24", nil)
		same := c.nic(t, P{"VPCID": twin, "SubnetID": twinSubnet, "IP": "172.16.1.20"})
		c.Demo.Refuse(t, retcode.DuplicateIPBinding, "AttachNIC", to(same, vm))
		c.Demo.Must(t, "DeleteNIC", P{"NICID": same})
		c.Demo.Refuse(t, retcode.ResourceTerminated, "DeleteNIC", P{"NICID": same})

		// One in the machine's own VPC, and one on a segment.
		near := c.nic(t, nil)
		outer := c.nic(t, P{"NICType": "WAN", "SegmentID": "Bgp", "ChargeType": "Month", "Bandwidth": 3, "SGID": c.group})
		for _, id := range []string{near, outer} {
			c.Demo.Must(t, "AttachNIC", to(id, vm))
			c.nicIs(t, id, "Bound")
		}
		v, _ = m.VPC(c.vpc)
		for _, p := range v.Ports {
			if p.NoRoutes != (p.ID == near) || p.NoDefaultRoute {
				t.Errorf("%+v", p)
			}
		}
		if p, ok := m.OuterPort(outer); !ok || !p.Filtered || len(p.Rules) == 0 || p.InMbps != 3 || p.Server.String() != "203.0.113.1" {
			t.Errorf("%+v, %v", p, ok)
		}
		c.Demo.Must(t, "UpdateNICIPBandwidth", P{"NICID": outer, "Bandwidth": 4})
		c.becomes(t, "DescribeNIC", "NICIDs", outer, "NICStatus", "Bound")
		if p, _ := m.OuterPort(outer); p.OutMbps != 4 || p.InMbps != 4 {
			t.Errorf("%+v", p)
		}
		c.Demo.Refuse(t, retcode.BandwidthOutOfRange, "UpdateNICIPBandwidth", P{"NICID": outer, "Bandwidth": 1000000})
		c.Demo.Must(t, "CreateSecurityGroupRule", P{"SGID": c.group, "Rules": []string{"TCP|8080|any|ACCEPT|HIGH|1"}})
		controllertest.Eventually(t, 30e9, "the outer NIC has the new rule", func() bool { p, _ := m.OuterPort(outer); return len(p.Rules) == 7 })

		c.Demo.Must(t, "DetachNIC", to(outer, vm))
		c.nicIs(t, outer, "Free")
		if _, ok := m.OuterPort(outer); ok {
			t.Error("a free NIC is on its segment")
		}
		c.Demo.Must(t, "DeleteNIC", P{"NICID": outer})
		c.Demo.Must(t, "DetachNIC", to(nic, vm))
		c.nicIs(t, nic, "Free")
		c.Demo.Must(t, "AttachNIC", to(nic, vm))
		c.nicIs(t, nic, "Bound")

		// A machine takes six.
		var more []string
		for range 4 {
			more = append(more, c.nic(t, nil))
			c.Demo.Must(t, "AttachNIC", to(more[len(more)-1], vm))
			c.nicIs(t, more[len(more)-1], "Bound")
		}
		last := c.nic(t, nil)
		c.Demo.Refuse(t, retcode.BindLimitReached, "AttachNIC", to(last, vm))
		if n := c.Demo.Must(t, "DescribeNIC", P{"BindResourceID": vm}).Int("TotalCount"); n != 6 {
			t.Errorf("%d NICs", n)
		}
		// A deleted machine leaves them, and finds none when it comes back; another time they go with it.
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": vm, "DelBindResource": 0})
		for _, id := range append(more, nic, near) {
			if i := c.nicIs(t, id, "Free"); i.String("BindResourceID") != "" {
				t.Errorf("%v", i)
			}
		}
		controllertest.Eventually(t, 30e9, "the machine comes back", func() bool { return c.Demo.Call(t, "RollbackResource", P{"ResourceID": vm}).Code == retcode.OK })
		if machine := c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{vm}}).Infos()[0]; len(machine.List("NICInfos")) != 0 {
			t.Errorf("%v", machine)
		}
		c.Demo.Must(t, "AttachNIC", to(near, vm)) // it is Stopped
		c.nicIs(t, near, "Bound")
		c.Demo.Must(t, "StartVMInstance", P{"VMID": vm})
		c.vmState(t, vm, "Running")
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": vm, "DelBindResource": 1})
		c.goes(t, "DescribeNIC", "NICIDs", near)
		for range 10 - 6 {
			c.nic(t, nil)
		}
		c.Demo.Refuse(t, retcode.QuotaExceeded, "CreateNIC", P{"Name": "nic", "VPCID": c.vpc, "SubnetID": c.subnet})
	})
}

func truth(r controllertest.Response, field string) bool { return r.String(field) == "true" }

func TestVIPs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		m := c.Fabric.(*fabric.Memory)
		second := c.newSubnet(t, c.vpc, "10.0.9.0/24", nil)
		var vms []string
		for range 4 {
			vms = append(vms, c.vm(t, nil))
		}
		far := c.vm(t, P{"SubnetID": second})
		vip := func(more P) P {
			p := P{"Name": "vip", "VIPType": "LAN", "VPCID": c.vpc, "SubnetID": c.subnet}
			for k, v := range more {
				p[k] = v
			}
			return p
		}
		for _, r := range []struct {
			code retcode.Code
			more P
		}{
			{retcode.MissingParameter, P{"SubnetID": ""}}, {retcode.InvalidParameter, P{"IPVersion": "IPv6"}},
			{retcode.IPAlreadyAllocated, P{"IP": "10.0.0.3"}}, {retcode.IPOutOfSegment, P{"IP": "10.0.9.9"}}, {retcode.SubnetNotFound, P{"SubnetID": "subnet-none"}},
			{retcode.BindLimitReached, P{"AssociatedResourceIDs": vms}}, {retcode.VMNotFound, P{"AssociatedResourceIDs": []string{"vm-none"}}},
			{retcode.InvalidParameter, P{"AssociatedResourceIDs": []string{far}}}, {retcode.ResourceNotFound, P{"AssociatedResourceType": "ELASTIC_NIC", "AssociatedResourceIDs": []string{"nic-none"}}},
		} {
			c.Demo.Refuse(t, r.code, "AllocateVIP", vip(r.more))
		}
		id := c.Demo.Must(t, "AllocateVIP", vip(P{"IP": "10.0.0.100", "AssociatedResourceIDs": vms[:2]})).String("VIPID")
		c.becomes(t, "DescribeVIP", "VIPIDs", id, "Status", "Available")
		info := c.Demo.Must(t, "DescribeVIP", P{"AssociatedResourceID": vms[0]}).Infos()[0]
		if info.String("IP") != "10.0.0.100" || len(info.List("AssociatedResourceInfos")) != 2 || info.List("AssociatedResourceInfos")[0].String("Name") != "m" || info.String("SubnetName") != "default" {
			t.Errorf("%v", info)
		}
		virtual := func() fabric.Virtual {
			v, _ := m.VPC(c.vpc)
			if len(v.Virtuals) != 1 {
				return fabric.Virtual{}
			}
			return v.Virtuals[0]
		}
		if x := virtual(); x.IP.String() != "10.0.0.100" || len(x.Parents) != 2 {
			t.Errorf("%+v", x)
		}
		if vips := c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": vms[:1]}).Infos()[0].List("VIPInfos"); len(vips) != 1 || vips[0].String("IP") != "10.0.0.100" {
			t.Errorf("%v", vips)
		}
		// A route and a public address lead to it.
		route := c.Demo.Must(t, "CreateSubnetRoute", P{"SubnetID": second, "Destination": "10.50.0.0/16", "NextHopType": "VIP", "NextHop": id}).String("RouteID")
		c.hasRoutes(t, second, "10.0.0.0/16 Local local Available", "10.50.0.0/16 VIP "+id+" Available")
		eip := c.eip(t, nil)
		c.Demo.Must(t, "BindEIP", P{"EIPID": eip, "ResourceType": "VIP", "ResourceID": id})
		c.eipState(t, eip, "Bound")
		if i := c.info(t, eip); i.String("BindResourceID") != id || i.String("BindResourceType") != "VIP" || i.String("BindResourceName") != "vip" {
			t.Errorf("%v", i)
		}
		c.Demo.Refuse(t, retcode.ResourceNotFound, "BindEIP", P{"EIPID": c.eip(t, nil), "ResourceType": "VIP", "ResourceID": "vip-none"})
		if v, _ := m.VPC(c.vpc); len(v.EIPs) != 1 || v.EIPs[0].PortID != id || v.EIPs[0].Distributed {
			t.Errorf("%+v", v.EIPs)
		}
		c.Demo.Refuse(t, retcode.InvalidResourceState, "ReleaseVIP", P{"VIPID": id})

		c.Demo.Must(t, "UpdateVIPBindResource", P{"VIPID": id, "AssociatedResourceIDs": []string{vms[2]}})
		c.becomes(t, "DescribeVIP", "VIPIDs", id, "Status", "Available")
		if x := virtual(); len(x.Parents) != 1 {
			t.Errorf("%+v", x)
		}
		// A NIC may carry one, and no longer when it is taken from its machine.
		nic := c.nic(t, nil)
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UpdateVIPBindResource", P{"VIPID": id, "AssociatedResourceType": "ELASTIC_NIC", "AssociatedResourceIDs": []string{nic}})
		c.Demo.Must(t, "AttachNIC", to(nic, far))
		c.nicIs(t, nic, "Bound")
		c.Demo.Must(t, "UpdateVIPBindResource", P{"VIPID": id, "AssociatedResourceType": "ELASTIC_NIC", "AssociatedResourceIDs": []string{nic}})
		c.becomes(t, "DescribeVIP", "VIPIDs", id, "Status", "Available")
		if x := virtual(); len(x.Parents) != 1 || x.Parents[0] != nic {
			t.Errorf("%+v", x)
		}
		c.Demo.Must(t, "DetachNIC", to(nic, far))
		c.nicIs(t, nic, "Free")
		if x := virtual(); len(x.Parents) != 0 {
			t.Errorf("%+v", x)
		}
		// Five for one machine; a deleted machine carries none.
		c.Demo.Must(t, "UpdateVIPBindResource", P{"VIPID": id, "AssociatedResourceIDs": vms[:1]})
		c.becomes(t, "DescribeVIP", "VIPIDs", id, "Status", "Available")
		for range 4 {
			c.becomes(t, "DescribeVIP", "VIPIDs", c.Demo.Must(t, "AllocateVIP", vip(P{"AssociatedResourceIDs": vms[:1]})).String("VIPID"), "Status", "Available")
		}
		c.Demo.Refuse(t, retcode.BindLimitReached, "AllocateVIP", vip(P{"AssociatedResourceIDs": vms[:1]}))
		elsewhere := c.nic(t, P{"SubnetID": second})
		c.Demo.Must(t, "AttachNIC", to(elsewhere, vms[0]))
		c.nicIs(t, elsewhere, "Bound")
		c.Demo.Refuse(t, retcode.BindLimitReached, "AllocateVIP", vip(P{"SubnetID": second, "AssociatedResourceIDs": vms[:1]}))
		c.Demo.Refuse(t, retcode.BindLimitReached, "AllocateVIP", vip(P{"SubnetID": second, "AssociatedResourceType": "ELASTIC_NIC", "AssociatedResourceIDs": []string{elsewhere}}))
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": vms[0], "DelBindResource": 1})
		c.goes(t, "DescribeVMInstance", "VMIDs", vms[0])
		if n := c.Demo.Must(t, "DescribeVIP", P{"AssociatedResourceID": vms[0]}).Int("TotalCount"); n != 0 {
			t.Errorf("%d VIPs of a deleted machine", n)
		}
		c.Demo.Must(t, "UnBindEIP", P{"EIPID": eip, "ResourceType": "VIP", "ResourceID": id})
		c.eipState(t, eip, "Free")
		other := c.NewTenant(t)
		for _, a := range []string{"ReleaseVIP", "UpdateVIPBindResource"} {
			other.Refuse(t, retcode.ResourceNotFound, a, P{"VIPID": id})
		}
		release := c.hold(t)
		c.Demo.Must(t, "ReleaseVIP", P{"VIPID": id})
		c.Demo.Must(t, "ReleaseVIP", P{"VIPID": id}) // under way
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UpdateVIPBindResource", P{"VIPID": id})
		release()
		c.goes(t, "DescribeVIP", "VIPIDs", id)
		c.Demo.Refuse(t, retcode.ResourceTerminated, "ReleaseVIP", P{"VIPID": id})
		c.hasRoutes(t, second, "10.0.0.0/16 Local local Available", "10.50.0.0/16 VIP "+id+" Unavailable")
		c.Demo.Must(t, "DeleteSubnetRoute", P{"SubnetID": second, "RouteIDs": []string{route}})
		c.Demo.Must(t, "ListAllocatedIPsInSubnet", P{"SubnetID": c.subnet})
	})
}

func TestAnotherAddress(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		m := c.Fabric.(*fabric.Memory)
		second := c.newSubnet(t, c.vpc, "10.0.9.0/24", nil)
		vm := c.vm(t, P{"InternalIP": "10.0.0.50"})
		eip := c.eip(t, nil)
		c.Demo.Must(t, "BindEIP", on(eip, vm))
		c.eipState(t, eip, "Bound")
		c.Demo.Refuse(t, retcode.VMNotStopped, "ReplaceIP", P{"ResourceID": vm, "IP": "10.0.0.51"})
		c.Demo.Must(t, "PoweroffVMInstance", P{"VMID": vm})
		c.vmState(t, vm, "Stopped")
		for _, r := range []struct {
			code retcode.Code
			more P
		}{
			{retcode.MissingParameter, P{"IP": ""}}, {retcode.InvalidParameterFormat, P{"IP": "ten"}}, {retcode.VMNotFound, P{"ResourceID": "vm-none"}}, {retcode.SubnetNotFound, P{"SubnetID": "subnet-none"}},
			{retcode.IPOutOfSegment, P{"IP": "10.0.9.9"}}, {retcode.IPReserved, P{"IP": "10.0.0.1"}},
		} {
			p := P{"ResourceID": vm, "IP": "10.0.0.51"}
			for k, v := range r.more {
				p[k] = v
			}
			c.Demo.Refuse(t, r.code, "ReplaceIP", p)
		}
		near := c.vm(t, P{"InternalIP": "10.0.0.60"})
		c.Demo.Refuse(t, retcode.IPAlreadyAllocated, "ReplaceIP", P{"ResourceID": vm, "IP": "10.0.0.60"})
		moved := func(ip, subnet string) {
			t.Helper()
			controllertest.Eventually(t, 30e9, vm+" has "+ip, func() bool {
				v, _ := m.VPC(c.vpc)
				for _, p := range v.Ports {
					if p.IP.String() == ip && p.SubnetID == subnet {
						return true
					}
				}
				return false
			})
		}
		// Until the network knows the new address the machine says so, and what it is asked then is refused.
		m.Fail("EnsureVPC", 1<<30, errors.New("northbound is away"))
		c.Demo.Must(t, "ReplaceIP", P{"ResourceID": vm, "IP": "10.0.0.51"})
		c.vmState(t, vm, "Readdressing")
		c.Demo.Refuse(t, retcode.InvalidVMState, "StartVMInstance", P{"VMID": vm})
		m.Fail("EnsureVPC", 0, nil)
		c.vmState(t, vm, "Stopped")
		moved("10.0.0.51", c.subnet)
		c.Demo.Must(t, "ReplaceIP", P{"ResourceID": vm, "IP": "10.0.9.9", "SubnetID": second})
		c.vmState(t, vm, "Stopped")
		moved("10.0.9.9", second)
		controllertest.Eventually(t, 30e9, "the old addresses are free", func() bool {
			return c.Demo.Must(t, "ListAllocatedIPsInSubnet", P{"SubnetID": c.subnet}).Int("AllocatedIPCount") == 1
		})
		c.becomes(t, "DescribeVMInstance", "VMIDs", vm, "SubnetID", second)

		// The drawing of all this.
		vip := c.Demo.Must(t, "AllocateVIP", P{"Name": "vip", "VIPType": "LAN", "VPCID": c.vpc, "SubnetID": c.subnet, "AssociatedResourceIDs": []string{near}}).String("VIPID")
		c.becomes(t, "DescribeVIP", "VIPIDs", vip, "Status", "Available")
		info := controllertest.Info(c.Demo.Must(t, "DescribeNetworkTopology", P{"VPCID": c.vpc}).Body["Info"].(map[string]any))
		edges := map[string]bool{}
		for _, e := range info.List("Edges") {
			edges[e.String("From")+" "+e.String("Kind")+" "+e.String("To")] = true
		}
		for _, want := range []string{c.vpc + " contains " + second, vm + " in " + second, near + " in " + c.subnet, vip + " in " + c.subnet, near + " carries " + vip, eip + " bound " + vm} {
			if !edges[want] {
				t.Errorf("the drawing lacks %s: %v", want, edges)
			}
		}
		if n := len(info.List("Nodes")); n != 8 { // VPC, two subnets, two machines, VIP, EIP, segment
			t.Errorf("%d nodes: %v", n, info)
		}
		c.NewTenant(t).Refuse(t, retcode.VPCNotFound, "DescribeNetworkTopology", P{"VPCID": c.vpc})
	})
}
