package network_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// programmed is what the fabric knows of an EIP: its Mbps and whether it is the default egress.
func (c *cloud) programmed(eip string) string {
	v, _ := c.Fabric.(*fabric.Memory).VPC(c.vpc)
	for _, e := range v.EIPs {
		if e.ID == eip {
			return fmt.Sprint(e.BandwidthMbps, e.Default)
		}
	}
	return ""
}

// TestBandwidth changes the bandwidth of a free, a bound and a changing address.
func TestBandwidth(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		vm := c.vm(t, nil)
		eip := c.eip(t, nil)
		to := func(mbps int) P { return P{"EIPID": eip, "Bandwidth": mbps} }
		c.Demo.Must(t, "ModifyEIPBandwidth", to(3))
		if i := c.info(t, eip); i.Int("Bandwidth") != 3 || i.String("Status") != "Free" {
			t.Errorf("free: %v", i)
		}
		c.Demo.Must(t, "BindEIP", on(eip, vm))
		c.eipState(t, eip, "Bound")
		c.Demo.Must(t, "ModifyEIPBandwidth", to(3)) // as it is
		c.Demo.Must(t, "ModifyEIPBandwidth", to(40))
		c.eipState(t, eip, "Bound")
		if got := c.programmed(eip); got != "40 true" || c.info(t, eip).Int("Bandwidth") != 40 {
			t.Errorf("bound: %s, %v", got, c.info(t, eip))
		}
		release := c.hold(t)
		c.Demo.Must(t, "ModifyEIPBandwidth", to(50))
		c.eipState(t, eip, "BandwidthChanging")
		c.Demo.Must(t, "ModifyEIPBandwidth", to(50))
		c.Demo.Refuse(t, retcode.InvalidResourceState, "ModifyEIPBandwidth", to(60))
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UnBindEIP", on(eip, vm))
		release()
		c.eipState(t, eip, "Bound")
		if entry := c.Demo.OPLog(t, "ModifyEIPBandwidth", eip); entry.String("IsSuccess") == "" {
			t.Errorf("audit %v", entry)
		}

		c.Demo.Refuse(t, retcode.BandwidthOutOfRange, "ModifyEIPBandwidth", to(10001))
		c.Demo.Refuse(t, retcode.BandwidthOutOfRange, "ModifyEIPBandwidth", to(0))
		c.Demo.Refuse(t, retcode.ResourceNotFound, "ModifyEIPBandwidth", P{"EIPID": "eip-1", "Bandwidth": 1})
		c.NewTenant(t).Refuse(t, retcode.ResourceNotFound, "ModifyEIPBandwidth", to(1))
		segment := c.info(t, eip).String("SegmentID")
		c.Admin.Must(t, "UpdateSegment", P{"SegmentID": segment, "TotalBandwidth": 60})
		c.Demo.Refuse(t, retcode.BandwidthLimitReached, "ModifyEIPBandwidth", to(61))
		c.Demo.Must(t, "ModifyEIPBandwidth", to(60))
		c.Demo.Refuse(t, retcode.BandwidthLimitReached, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Month", "Name": "web"})
		c.eipState(t, eip, "Bound")
		// Outer NICs and VIPs count, too.
		c.Demo.Refuse(t, retcode.BandwidthLimitReached, "CreateNIC", outer("Month", 1, nil))
		c.Demo.Refuse(t, retcode.BandwidthLimitReached, "AllocateVIP", c.outerVIP("Month", 1, nil))
		c.Admin.Must(t, "UpdateSegment", P{"SegmentID": segment, "TotalBandwidth": 70})
		nic, vip := c.nic(t, outer("Month", 4, nil)), c.vip(t, c.outerVIP("Month", 6, nil))
		c.Demo.Refuse(t, retcode.BandwidthLimitReached, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Month", "Name": "web"})
		c.Demo.Refuse(t, retcode.BandwidthLimitReached, "UpdateNICIPBandwidth", P{"NICID": nic, "Bandwidth": 5})
		c.Demo.Refuse(t, retcode.BandwidthLimitReached, "UpdateVIPBandwidth", P{"VIPID": vip, "Bandwidth": 7})
		c.Demo.Must(t, "DeleteNIC", P{"NICID": nic})
		c.Demo.Must(t, "UpdateVIPBandwidth", P{"VIPID": vip, "Bandwidth": 10})
		c.vipIs(t, vip, "Available")
		c.Admin.Must(t, "UpdateSegment", P{"SegmentID": segment, "TotalBandwidth": 0})
		other := c.eip2(t)
		c.Demo.Must(t, "ReleaseEIP", P{"EIPID": other})
		c.Demo.Refuse(t, retcode.ResourceDeleted, "ModifyEIPBandwidth", P{"EIPID": other, "Bandwidth": 1})
		c.Demo.Must(t, "TerminateResource", P{"ResourceID": other})
		c.Demo.Refuse(t, retcode.ResourceTerminated, "ModifyEIPBandwidth", P{"EIPID": other, "Bandwidth": 1})
	})
}

// eip2 allocates an address after lifting the segment's limit.
func (c *cloud) eip2(t *testing.T) string {
	t.Helper()
	id := c.Admin.Must(t, "DescribeSegment", nil).Infos()[0].String("SegmentID")
	c.Admin.Must(t, "UpdateSegment", P{"SegmentID": id, "TotalBandwidth": 0})
	return c.eip(t, nil)
}

// TestDefaultEgress chooses by which of its addresses a machine goes out.
func TestDefaultEgress(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		vm, other := c.vm(t, nil), c.vm(t, nil)
		one, two, free := c.eip(t, nil), c.eip(t, nil), c.eip(t, nil)
		for _, e := range []string{one, two} {
			c.Demo.Must(t, "BindEIP", on(e, vm))
			c.eipState(t, e, "Bound")
		}
		egress := func(want string) {
			t.Helper()
			for _, e := range []string{one, two} {
				i := c.info(t, e)
				if (i.Int("ISDefaultGW") == 1) != (e == want) || i.Int("ISDefaultGW") != i.Int("IsDefaultGW") || i.Int("CanDefaultGW") != 1 {
					t.Errorf("%s: %v, want %s", e, i, want)
				}
			}
			controllertest.Eventually(t, 20*time.Second, want+" is the default egress in the fabric", func() bool { return c.programmed(want) == "2 true" })
		}
		egress(one)
		gw := func(vm, eip string) P { return P{"VMID": vm, "EIPID": eip} }
		c.Demo.Must(t, "UpdateVMDefaultGW", gw(vm, two))
		egress(two)
		c.Demo.Must(t, "UpdateVMDefaultGW", gw(vm, two))
		egress(two)
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UpdateVMDefaultGW", gw(vm, free))
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UpdateVMDefaultGW", gw(other, one))
		c.Demo.Refuse(t, retcode.ResourceNotFound, "UpdateVMDefaultGW", gw(vm, "eip-1"))
		c.Demo.Refuse(t, retcode.VMNotFound, "UpdateVMDefaultGW", gw("vm-1", one))
		c.NewTenant(t).Refuse(t, retcode.VMNotFound, "UpdateVMDefaultGW", gw(vm, one))
		// When it goes, the next takes over.
		c.soon(t, "UnBindEIP", on(two, vm))
		c.eipState(t, two, "Free")
		egress(one)

		lan := c.Admin.Must(t, "CreateSegment", P{"Name": "lan", "Segment": "203.0.113.0/24", "Device": "ext2", "RouteMode": "None"}).String("SegmentID")
		e := c.eip(t, P{"OperatorName": lan})
		c.Demo.Must(t, "BindEIP", on(e, other))
		c.eipState(t, e, "Bound")
		c.Demo.Refuse(t, retcode.InvalidParameter, "UpdateVMDefaultGW", gw(other, e))
	})
}

// TestCheckIP tells by its code whether an address is free.
func TestCheckIP(t *testing.T) {
	c := start(t, nil, segment("198.51.100.0/24"))
	vm := c.vm(t, P{"InternalIP": "10.0.0.9"})
	eip := c.eip(t, P{"IP": "198.51.100.7"})
	c.Demo.Must(t, "BindEIP", on(eip, vm))
	c.eipState(t, eip, "Bound")
	bgp := c.info(t, eip).String("SegmentID")
	v, _ := c.Fabric.(*fabric.Memory).VPC(c.vpc)
	router := v.Gateways[0].Address.Addr().String()
	other := c.NewTenant(t)
	for name, x := range map[string]struct {
		client *controllertest.Client
		p      P
		code   retcode.Code
	}{
		"free on the segment": {c.Demo, P{"IP": "198.51.100.9", "SegmentID": bgp}, retcode.OK},
		"used on the segment": {other, P{"IP": "198.51.100.7", "SegmentID": bgp}, retcode.IPAlreadyAllocated},
		"a router's":          {c.Demo, P{"IP": router, "SegmentID": bgp}, retcode.IPReserved},
		"the gateway":         {c.Demo, P{"IP": c.Admin.Must(t, "DescribeSegment", nil).Infos()[0].String("Gateway"), "SegmentID": bgp}, retcode.OK},
		"outside the segment": {c.Demo, P{"IP": "192.0.2.7", "SegmentID": bgp}, retcode.IPOutOfSegment},
		"free in the subnet":  {c.Demo, P{"IP": "10.0.0.10", "SubnetID": c.subnet}, retcode.OK},
		"used in the subnet":  {c.Demo, P{"IP": "10.0.0.9", "SubnetID": c.subnet}, retcode.IPAlreadyAllocated},
		"the subnet's router": {c.Demo, P{"IP": "10.0.0.1", "SubnetID": c.subnet}, retcode.IPReserved},
		"outside the subnet":  {c.Demo, P{"IP": "10.0.1.9", "SubnetID": c.subnet}, retcode.IPOutOfSegment},
		"another's subnet":    {other, P{"IP": "10.0.0.9", "SubnetID": c.subnet}, retcode.SubnetNotFound},
		"no address":          {c.Demo, P{"IP": "x", "SubnetID": c.subnet}, retcode.InvalidParameterFormat},
		"both":                {c.Demo, P{"IP": "10.0.0.9", "SubnetID": c.subnet, "SegmentID": bgp}, retcode.InvalidParameter},
		"neither":             {c.Demo, P{"IP": "10.0.0.9"}, retcode.InvalidParameter},
		"flat network":        {c.Demo, P{"IP": "10.0.0.9", "FlatNetworkID": "x"}, retcode.InvalidParameter},
	} {
		if name == "the gateway" {
			continue // this segment has none
		}
		if r := x.client.Call(t, "CheckIPInuse", x.p); r.Code != x.code {
			t.Errorf("%s: answered %d %q, want %d", name, r.Code, r.Message, x.code)
		}
	}
}

// TestPhysicalIP is the life of an address of older clients.
func TestPhysicalIP(t *testing.T) {
	c := start(t, nil, nil)
	vm := c.vm(t, nil)
	id := c.Demo.Must(t, "CreatePhysicalIP", P{"Name": "old", "OperatorName": "Bgp", "Remark": "v1"}).String("PhysicalIPID")
	info := func() controllertest.Info {
		t.Helper()
		all := c.Demo.Must(t, "DescribePhysicalIP", P{"PhysicalIPIDs": []string{id}}).Infos()
		if len(all) != 1 {
			t.Fatalf("%d rows", len(all))
		}
		return all[0]
	}
	i := info()
	if i.String("Name") != "old" || i.String("OperatorName") != "Bgp" || i.String("Remark") != "v1" || i.String("Status") != "Free" || i.String("IP") == "" {
		t.Errorf("%v", i)
	}
	state := func(want string) {
		t.Helper()
		controllertest.Eventually(t, 20*time.Second, id+" is "+want, func() bool { return info().String("Status") == want })
	}
	bind := P{"PhysicalIPID": id, "ResourceID": vm, "ResourceType": "VM"}
	c.Demo.Must(t, "BindPhysicalIP", bind)
	state("Bound")
	if i := info(); i.String("BindResourceID") != vm || i.String("BindResourceType") != "VM" || c.programmed(id) != "0 true" {
		t.Errorf("%v, %s", i, c.programmed(id))
	}
	c.Demo.Refuse(t, retcode.EIPStillBound, "DeletePhysicalIP", P{"PhysicalIPID": id})
	// EIPs and physical IPs do not know each other.
	eip := c.eip(t, nil)
	c.Demo.Refuse(t, retcode.ResourceNotFound, "BindPhysicalIP", P{"PhysicalIPID": eip, "ResourceID": vm, "ResourceType": "VM"})
	c.Demo.Refuse(t, retcode.ResourceNotFound, "BindEIP", on(id, vm))
	c.Demo.Refuse(t, retcode.ResourceNotFound, "ReleaseEIP", P{"EIPID": id})
	c.Demo.Refuse(t, retcode.ResourceNotFound, "DeletePhysicalIP", P{"PhysicalIPID": eip})
	c.Demo.Refuse(t, retcode.InvalidResourceType, "BindPhysicalIP", P{"PhysicalIPID": id, "ResourceID": vm, "ResourceType": "LB"})
	if n := c.Demo.Must(t, "DescribeEIP", P{"EIPIDs": []string{id}}).Int("TotalCount"); n != 0 {
		t.Error("DescribeEIP lists a physical IP")
	}
	c.Demo.Must(t, "UnbindPhysicalIP", bind)
	state("Free")
	c.NewTenant(t).Refuse(t, retcode.ResourceNotFound, "DeletePhysicalIP", P{"PhysicalIPID": id})
	c.Demo.Must(t, "DeletePhysicalIP", P{"PhysicalIPID": id})
	c.Demo.Refuse(t, retcode.ResourceTerminated, "DeletePhysicalIP", P{"PhysicalIPID": id})
	c.Demo.Refuse(t, retcode.ResourceNotFound, "CreatePhysicalIP", P{"Name": "old", "OperatorName": "None"})
}

// TestNames renames what the network has; kinds of other rooms are tried there.
func TestNames(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		vm, eip := c.vm(t, nil), c.eip(t, nil)
		seg := c.Admin.Must(t, "DescribeSegment", nil).Infos()[0].String("SegmentID")
		for id, x := range map[string]struct{ describe, ids string }{eip: {"DescribeEIP", "EIPIDs"}, c.vpc: {"DescribeVPC", "VPCIDs"}, c.subnet: {"DescribeSubnet", "SubnetIDs"},
			c.group: {"DescribeSecurityGroup", "SGIDs"}, vm: {"DescribeVMInstance", "VMIDs"}} {
			c.Demo.Must(t, "ModifyNameAndRemark", P{"ResourceID": id, "Name": "renamed", "Remark": "and remarked"})
			if i := c.Demo.Must(t, x.describe, P{x.ids: []string{id}}).Infos()[0]; i.String("Name") != "renamed" || i.String("Remark") != "and remarked" {
				t.Errorf("%s: %v", id, i)
			}
			c.Demo.Must(t, "ModifyNameAndRemark", P{"ResourceID": id, "Name": "again"})
			if i := c.Demo.Must(t, x.describe, P{x.ids: []string{id}}).Infos()[0]; i.String("Name") != "again" || i.String("Remark") != "and remarked" {
				t.Errorf("%s: %v", id, i)
			}
			c.NewTenant(t).Refuse(t, retcode.ResourceNotFound, "ModifyNameAndRemark", P{"ResourceID": id, "Name": "mine"})
		}
		c.Demo.Refuse(t, retcode.AdminOnly, "ModifyNameAndRemark", P{"ResourceID": seg, "Name": "mine"})
		c.Admin.Must(t, "ModifyNameAndRemark", P{"ResourceID": seg, "Name": "Line"})
		c.Demo.Must(t, "AllocateEIP", P{"OperatorName": "Line", "Bandwidth": 2, "ChargeType": "Month", "Name": "web"})
		c.Demo.Refuse(t, retcode.ResourceNotFound, "ModifyNameAndRemark", P{"ResourceID": "thing-1", "Name": "x"})
		c.Demo.Refuse(t, retcode.InvalidParameter, "ModifyNameAndRemark", P{"ResourceID": eip, "Name": strings.Repeat("x", 64)})
		c.Demo.Must(t, "ReleaseEIP", P{"EIPID": eip})
		c.Demo.Refuse(t, retcode.ResourceDeleted, "ModifyNameAndRemark", P{"ResourceID": eip, "Name": "x"})
	})
}
