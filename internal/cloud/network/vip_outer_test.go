package network_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// outerVIP are the parameters of a VIP on the segment.
func (c *cloud) outerVIP(chargeType string, mbps int, more P) P {
	p := P{"Name": "vip", "VIPType": "WAN", "VPCID": c.vpc, "SegmentID": "Bgp", "ChargeType": chargeType, "Bandwidth": mbps}
	for k, v := range more {
		p[k] = v
	}
	return p
}

func (c *cloud) vip(t *testing.T, p P) string {
	t.Helper()
	id := c.Demo.Must(t, "AllocateVIP", p).String("VIPID")
	c.vipIs(t, id, "Available")
	return id
}

func (c *cloud) vipIs(t *testing.T, id, state string) controllertest.Info {
	t.Helper()
	c.becomes(t, "DescribeVIP", "VIPIDs", id, "Status", state)
	return c.Demo.Must(t, "DescribeVIP", P{"VIPIDs": []string{id}}).Infos()[0]
}

// outerNIC is one on the segment that is attached to a machine.
func (c *cloud) outerNIC(t *testing.T, vm string) string {
	t.Helper()
	nic := c.nic(t, outer("Month", 3, nil))
	c.Demo.Must(t, "AttachNIC", to(nic, vm))
	c.nicIs(t, nic, "Bound")
	return nic
}

func TestOuterVIPs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, segment("203.0.113.0/28"))
		m := c.Fabric.(*fabric.Memory)
		one, two, plain := c.vm(t, nil), c.vm(t, nil), c.vm(t, nil)
		nics := []string{c.outerNIC(t, one), c.outerNIC(t, two)}
		for _, r := range []struct {
			code retcode.Code
			more P
		}{
			{retcode.MissingParameter, P{"SegmentID": ""}}, {retcode.MissingParameter, P{"ChargeType": ""}}, {retcode.MissingParameter, P{"Bandwidth": 0}},
			{retcode.MissingParameter, P{"VPCID": ""}}, {retcode.VPCNotFound, P{"VPCID": "vpc-none"}}, {retcode.ResourceNotFound, P{"SegmentID": "none"}},
			{retcode.InvalidParameter, P{"IPVersion": "IPv6"}}, {retcode.InvalidParameter, P{"Quantity": 12}}, {retcode.BandwidthOutOfRange, P{"Bandwidth": 10001}},
			{retcode.InvalidParameterFormat, P{"IP": "ten"}}, {retcode.IPOutOfSegment, P{"IP": "192.0.2.1"}}, {retcode.IPReserved, P{"IP": "203.0.113.1"}},
			{retcode.IPAlreadyAllocated, P{"IP": c.nicIs(t, nics[0], "Bound").String("IP")}}, {retcode.VMNotFound, P{"AssociatedResourceIDs": []string{"vm-none"}}},
			{retcode.InvalidParameter, P{"AssociatedResourceIDs": []string{plain}}}, {retcode.InvalidParameter, P{"AssociatedResourceType": "ELASTIC_NIC", "AssociatedResourceIDs": []string{c.attached(t, plain)}}},
		} {
			c.Demo.Refuse(t, r.code, "AllocateVIP", c.outerVIP("Month", 3, r.more))
		}
		id := c.vip(t, c.outerVIP("Month", 3, P{"IP": "203.0.113.9", "AssociatedResourceIDs": []string{one, two}}))
		info := c.Demo.Must(t, "DescribeVIP", P{"SegmentID": c.nicIs(t, nics[0], "Bound").String("SegmentID"), "VIPType": "WAN"}).Infos()[0]
		if info.String("VIPID") != id || info.String("IP") != "203.0.113.9" || info.String("SegmentName") != "Bgp" || info.Int("Bandwidth") != 3 || info.String("VPCID") != c.vpc ||
			info.String("ChargeType") != "Month" || info.Int("ExpireTime") == 0 || len(info.List("AssociatedResourceInfos")) != 2 || info.String("SubnetID") != "" {
			t.Errorf("%v", info)
		}
		// carry tells what each NIC's port may announce.
		carry := func() (all []string) {
			for i, nic := range nics {
				p, _ := m.OuterPort(nic)
				for _, v := range p.Virtuals {
					if v.ID != id || v.IP.String() != "203.0.113.9" {
						t.Errorf("%+v", v)
					}
					all = append(all, []string{"one", "two"}[i])
				}
			}
			return all
		}
		same := func(want ...string) {
			t.Helper()
			if got := carry(); len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
				t.Errorf("carried by %v, want %v", got, want)
			}
		}
		same("one", "two")
		if vips := c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{one}}).Infos()[0].List("VIPInfos"); len(vips) != 1 || vips[0].String("IP") != "203.0.113.9" {
			t.Errorf("%v", vips)
		}
		c.Demo.Must(t, "UpdateVIPBindResource", P{"VIPID": id, "AssociatedResourceType": "ELASTIC_NIC", "AssociatedResourceIDs": nics[1:]})
		c.vipIs(t, id, "Available")
		same("two")
		c.Demo.Refuse(t, retcode.IPAlreadyAllocated, "AllocateEIP", P{"Name": "web", "OperatorName": "Bgp", "ChargeType": "Month", "Bandwidth": 1, "IP": "203.0.113.9"})
		c.Demo.Refuse(t, retcode.InvalidNetworkType, "BindEIP", P{"EIPID": c.eip(t, nil), "ResourceType": "VIP", "ResourceID": id}) // it is public itself

		// Bandwidth, live.
		mbps := func(n int) P { return P{"VIPID": id, "Bandwidth": n} }
		c.Demo.Must(t, "UpdateVIPBandwidth", mbps(8))
		if i := c.vipIs(t, id, "Available"); i.Int("Bandwidth") != 8 {
			t.Errorf("%v", i)
		}
		if p, _ := m.OuterPort(nics[1]); p.Virtuals[0].Mbps != 8 || p.OutMbps != 3 {
			t.Errorf("%+v", p)
		}
		inner := c.vip(t, P{"Name": "vip", "VIPType": "LAN", "VPCID": c.vpc, "SubnetID": c.subnet})
		c.Demo.Refuse(t, retcode.InvalidParameter, "UpdateVIPBandwidth", P{"VIPID": inner, "Bandwidth": 5})
		c.Demo.Refuse(t, retcode.BandwidthOutOfRange, "UpdateVIPBandwidth", mbps(10001))
		c.Demo.Refuse(t, retcode.ResourceNotFound, "UpdateVIPBandwidth", P{"VIPID": "vip-none", "Bandwidth": 5})
		c.NewTenant(t).Refuse(t, retcode.ResourceNotFound, "UpdateVIPBandwidth", mbps(5))
		c.Admin.Must(t, "UpdateSegment", P{"SegmentID": info.String("SegmentID"), "RouteMode": "Specified"})
		c.Demo.Refuse(t, retcode.InvalidNetworkType, "BindEIP", P{"EIPID": c.eip(t, nil), "ResourceType": "VIP", "ResourceID": inner}) // no default route
		if n := len(c.orders(t, inner)); n != 0 {
			t.Errorf("%d orders of an inner VIP", n)
		}

		// What the network does not take is taken back.
		m.Fail("EnsureOuterPort", 1<<30, errors.New("northbound is away"))
		before := c.balance(t)
		c.Demo.Must(t, "UpdateVIPBandwidth", mbps(20))
		c.vipIs(t, id, "Updating")
		for _, name := range []string{"UpdateVIPBandwidth", "UpdateVIPBindResource", "ReleaseVIP"} {
			c.Demo.Refuse(t, retcode.InvalidResourceState, name, mbps(9))
		}
		c.Clock.Advance(2 * time.Minute)
		m.Fail("EnsureOuterPort", 0, nil)
		i := c.vipIs(t, id, "Available")
		if now := c.balance(t); i.Int("Bandwidth") == 8 && (math.Abs(now-before) > 1e-6 || i.String("Reason") == "") {
			t.Errorf("%v were paid for nothing: %v", before-now, i)
		}

		// A NIC that is taken from its machine, or whose machine goes, carries nothing.
		c.Demo.Must(t, "UpdateVIPBindResource", P{"VIPID": id, "AssociatedResourceIDs": []string{one, two}})
		c.vipIs(t, id, "Available")
		same("one", "two")
		c.Demo.Must(t, "DetachNIC", to(nics[0], one))
		c.nicIs(t, nics[0], "Free")
		same("two")
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": two})
		c.nicIs(t, nics[1], "Free")
		same()
		if n := len(c.vipIs(t, id, "Available").List("AssociatedResourceInfos")); n != 0 {
			t.Errorf("%d carry it", n)
		}
		c.Demo.Must(t, "AttachNIC", to(nics[0], one))
		c.nicIs(t, nics[0], "Bound")
		c.Demo.Must(t, "UpdateVIPBindResource", P{"VIPID": id, "AssociatedResourceIDs": []string{one}})
		c.vipIs(t, id, "Available")
		c.Demo.Must(t, "ReleaseVIP", P{"VIPID": id})
		c.goes(t, "DescribeVIP", "VIPIDs", id)
		same()
		c.Demo.Must(t, "CheckIPInuse", P{"SegmentID": "Bgp", "IP": "203.0.113.9"})
		c.doctor(t)
	})
}

// attached is a NIC in the default subnet that is attached to a machine.
func (c *cloud) attached(t *testing.T, vm string) string {
	t.Helper()
	nic := c.nic(t, nil)
	c.Demo.Must(t, "AttachNIC", to(nic, vm))
	c.nicIs(t, nic, "Bound")
	return nic
}

func TestOuterVIPsExpire(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		m := c.Fabric.(*fabric.Memory)
		vm := c.vm(t, P{"ChargeType": "Year"})
		nic := c.nic(t, outer("Year", 3, nil))
		c.Demo.Must(t, "AttachNIC", to(nic, vm))
		c.nicIs(t, nic, "Bound")
		carriers := func(renew bool) P { return P{"AutoRenew": renew, "AssociatedResourceIDs": []string{vm}} }
		id, lasting := c.vip(t, c.outerVIP("Month", 2, carriers(false))), c.vip(t, c.outerVIP("Month", 2, carriers(true)))
		c.Clock.Advance(32 * 24 * time.Hour)
		// Nobody carries it any more, but the one that renews itself.
		controllertest.Eventually(t, 30*time.Second, "it is carried by nobody", func() bool {
			p, _ := m.OuterPort(nic)
			return len(p.Virtuals) == 1 && p.Virtuals[0].ID == lasting
		})
		ended := c.vipIs(t, id, "Available").Int("ExpireTime")
		for name, p := range map[string]P{
			"UpdateVIPBindResource": {"VIPID": id, "AssociatedResourceIDs": []string{vm}},
			"UpdateVIPBandwidth":    {"VIPID": id, "Bandwidth": 3},
			"GetVIPDiffPrice":       {"VIPID": id, "Bandwidth": 3},
			"ModifyNameAndRemark":   {"ResourceID": id, "Name": "other"},
		} {
			c.Demo.Refuse(t, retcode.ResourceExpired, name, p)
		}
		c.Demo.Refuse(t, retcode.ResourceExpired, "UpdateVIPBandwidth", P{"VIPID": id, "Bandwidth": 2}) // also what it has
		c.Demo.Must(t, "RenewResource", P{"ResourceID": id})
		if i := c.vipIs(t, id, "Available"); i.Int("ExpireTime") < ended+28*24*3600 {
			t.Errorf("renewed: %v", i)
		}
		c.Demo.Must(t, "UpdateVIPBindResource", P{"VIPID": id, "AssociatedResourceIDs": []string{vm}})
		c.vipIs(t, id, "Available")
		// Another month later nobody carries it, and a week after that it is destroyed: the recycle bin takes no VIPs.
		c.Clock.Advance(31 * 24 * time.Hour)
		controllertest.Eventually(t, 30*time.Second, "it is expired", func() bool {
			p, _ := m.OuterPort(nic)
			return len(p.Virtuals) == 1
		})
		c.vipIs(t, id, "Available")
		c.Clock.Advance(8 * 24 * time.Hour)
		c.goes(t, "DescribeVIP", "VIPIDs", id)
		c.Demo.Refuse(t, retcode.ResourceTerminated, "ReleaseVIP", P{"VIPID": id})
		c.vipIs(t, lasting, "Available")
		c.doctor(t)
	})
}
