package network_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
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

func TestOuterVIPsAreCharged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		quoted := func(name string, p P) float64 {
			t.Helper()
			return yuan(t, c.Demo.Must(t, name, p).Infos()[0], "Price")
		}
		spent := func(do func()) float64 {
			t.Helper()
			before := c.balance(t)
			do()
			return before - c.balance(t)
		}
		same := func(what string, got, want, tolerance float64) {
			t.Helper()
			if math.Abs(got-want) > tolerance {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		var id string
		for _, chargeType := range []string{"Dynamic", "Year", "Month"} {
			order := c.outerVIP(chargeType, 3, P{"Quantity": 2, "AutoRenew": true})
			price := quoted("GetVIPPrice", order)
			if price <= 0 {
				t.Fatalf("%s costs %v", chargeType, price)
			}
			same(chargeType, spent(func() { id = c.vip(t, order) }), price, 1e-6)
			if i := c.vipIs(t, id, "Available"); i.String("ChargeType") != chargeType || i.String("AutoRenew") != "true" {
				t.Errorf("%v", i)
			}
			orders := c.orders(t, id)
			if len(orders) != 1 {
				t.Fatalf("%d orders", len(orders))
			}
			same("the order", yuan(t, orders[0], "AmountTotal"), price, 1e-6)
			if chargeType == "Month" {
				break
			}
			back := -spent(func() {
				c.Demo.Must(t, "ReleaseVIP", P{"VIPID": id})
				c.goes(t, "DescribeVIP", "VIPIDs", id)
			})
			if chargeType == "Dynamic" {
				price = 0
			}
			same("released at once, "+chargeType, back, price, 0.01) // but for the seconds between
		}
		c.Clock.Advance(30 * 24 * time.Hour)
		change := func(mbps int) P { return P{"VIPID": id, "Bandwidth": mbps} }
		more := quoted("GetVIPDiffPrice", change(9))
		same("more bandwidth", spent(func() {
			c.Demo.Must(t, "UpdateVIPBandwidth", change(9))
			c.vipIs(t, id, "Available")
		}), more, 0.01)
		same("the same bandwidth", spent(func() { c.Demo.Must(t, "UpdateVIPBandwidth", change(9)) }), 0, 0)
		same("less, quoted", quoted("GetVIPDiffPrice", change(2)), 0, 0)
		c.Demo.Refuse(t, retcode.InvalidResourceBizState, "UpdateVIPBandwidth", change(2)) // before the last day
		c.Demo.Must(t, "UpdateAutoRenew", P{"ResourceIDs": []string{id}, "AutoRenew": false})
		if c.vipIs(t, id, "Available").String("AutoRenew") != "false" {
			t.Error("the VIP still shows that it renews itself")
		}
		c.doctor(t)
	})
}

func TestOuterVIPsNeedMoneyAndQuota(t *testing.T) {
	c := start(t, dbtest.SQLite(t), nil)
	k, err := c.Identity.CreateTenant(t.Context(), identity.NewTenant{Name: "poor", Email: "poor@example.com", Region: catalog.DefaultRegion})
	if err != nil {
		t.Fatal(err)
	}
	poor := &controllertest.Client{URL: c.URL, Company: k.Company, Account: k.Account, Email: k.Email, PublicKey: k.PublicKey, PrivateKey: k.PrivateKey}
	order := c.outerVIP("Year", 2, P{"VPCID": poor.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID")})
	price := yuan(t, poor.Must(t, "GetVIPPrice", order).Infos()[0], "Price")
	pay := func(amount int, serial string) {
		c.Admin.Must(t, "Recharge", P{"CompanyID": poor.Company, "Amount": amount, "FromType": "INPOUR_FROM_OFFLINE", "SerialNo": serial})
	}
	pay(int(price)-1, "bank-1")
	poor.Refuse(t, retcode.InsufficientBalance, "AllocateVIP", order)
	c.doctor(t) // neither an address nor quota is kept for it
	pay(100, "bank-2")
	id := poor.Must(t, "AllocateVIP", order).String("VIPID")
	is := func(status string) func() bool {
		return func() bool {
			return poor.Must(t, "DescribeVIP", P{"VIPIDs": []string{id}}).Infos()[0].String("Status") == status
		}
	}
	controllertest.Eventually(t, 30*time.Second, "it is there", is("Available"))
	poor.Refuse(t, retcode.InsufficientBalance, "UpdateVIPBandwidth", P{"VIPID": id, "Bandwidth": 5})
	poor.Refuse(t, retcode.InsufficientBalance, "RenewResource", P{"ResourceID": id})
	if i := poor.Must(t, "DescribeVIP", nil).Infos()[0]; i.Int("Bandwidth") != 2 || i.String("Status") != "Available" {
		t.Errorf("%v", i)
	}
	// Used up, nothing is paid.
	c.Admin.Must(t, "SetAccountQuota", P{"CompanyID": c.Demo.Company, "ResourceType": "VIP", "FactorType": "FACTOR_AMOUNT", "Quota": 1})
	c.vip(t, c.outerVIP("Dynamic", 2, nil))
	before := c.balance(t)
	c.Demo.Refuse(t, retcode.QuotaExceeded, "AllocateVIP", c.outerVIP("Year", 2, nil))
	if now := c.balance(t); now != before {
		t.Errorf("%v were paid for nothing", before-now)
	}
	c.doctor(t)
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
		c.Clock.Advance(8 * 24 * time.Hour)
		c.goes(t, "DescribeVIP", "VIPIDs", id)
		c.Demo.Refuse(t, retcode.ResourceTerminated, "ReleaseVIP", P{"VIPID": id})
		c.vipIs(t, lasting, "Available")
		c.doctor(t)
	})
}
