package network_test

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// outer are the parameters of a NIC on the segment.
func outer(chargeType string, mbps int, more P) P {
	p := P{"Name": "nic", "NICType": "WAN", "SegmentID": "Bgp", "ChargeType": chargeType, "Bandwidth": mbps}
	for k, v := range more {
		p[k] = v
	}
	return p
}

func yuan(t *testing.T, i controllertest.Info, field string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(i.String(field), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// balance is what the demo tenant has.
func (c *cloud) balance(t *testing.T) float64 {
	t.Helper()
	return yuan(t, controllertest.Info(c.Admin.Must(t, "GetWithdrawableAmount", P{"CompanyID": c.Demo.Company}).Body), "Amount")
}

func (c *cloud) orders(t *testing.T, resource string) []controllertest.Info {
	t.Helper()
	return c.Demo.Must(t, "DescribeOrder", P{"BeginTime": 0, "EndTime": c.Clock.Now().Add(time.Hour).Unix(), "ResourceID": resource, "Limit": 100}).Infos()
}

func (c *cloud) doctor(t *testing.T) {
	t.Helper()
	if problems, err := controller.Doctor(t.Context(), c.DB); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
}

// product is a kind of what is on a segment itself and costs by its bandwidth.
type product struct {
	kind, id                  string // of quotas; the field of its id
	create, list, change, end string // actions
	price, difference         string
	state, idle               string // the field, and what it is when nothing is under way
	order                     func(c *cloud, chargeType string, mbps int, more P) P
}

var products = []product{
	{"NIC", "NICID", "CreateNIC", "DescribeNIC", "UpdateNICIPBandwidth", "DeleteNIC", "GetCreateNICPrice", "GetUpdateNICPrice", "NICStatus", "Free",
		func(_ *cloud, chargeType string, mbps int, more P) P { return outer(chargeType, mbps, more) }},
	{"VIP", "VIPID", "AllocateVIP", "DescribeVIP", "UpdateVIPBandwidth", "ReleaseVIP", "GetVIPPrice", "GetVIPDiffPrice", "Status", "Available", (*cloud).outerVIP},
}

// buy makes one for a tenant.
func (p *product) buy(t *testing.T, client *controllertest.Client, order P) string {
	t.Helper()
	id := client.Must(t, p.create, order).String(p.id)
	p.settled(t, client, id)
	return id
}

// settled waits until nothing is under way with one.
func (p *product) settled(t *testing.T, client *controllertest.Client, id string) controllertest.Info {
	t.Helper()
	var i controllertest.Info
	controllertest.Eventually(t, 30*time.Second, id+" is "+p.idle, func() bool {
		i = client.Must(t, p.list, P{p.id + "s": []string{id}}).Infos()[0]
		return i.String(p.state) == p.idle
	})
	return i
}

// TestOuterOnesAreCharged: what is paid is what was quoted, for terms, more bandwidth and what is given back.
func TestOuterOnesAreCharged(t *testing.T) {
	for _, p := range products {
		t.Run(p.kind, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, db *database.DB) { p.charged(t, start(t, db, nil)) })
		})
	}
}

func (p *product) charged(t *testing.T, c *cloud) {
	quoted := func(name string, q P) float64 {
		t.Helper()
		return yuan(t, c.Demo.Must(t, name, q).Infos()[0], "Price")
	}
	// spent is what the tenant has less, or more, after something is done.
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
	end := func(id string) float64 {
		return -spent(func() {
			c.Demo.Must(t, p.end, P{p.id: id})
			c.goes(t, p.list, p.id+"s", id)
		})
	}
	var id string
	for _, of := range []struct {
		chargeType  string
		least, most time.Duration
	}{{"Dynamic", time.Hour, time.Hour}, {"Year", 730 * 24 * time.Hour, 731 * 24 * time.Hour}, {"Month", 59 * 24 * time.Hour, 62 * 24 * time.Hour}} {
		order := p.order(c, of.chargeType, 3, P{"Quantity": 2, "AutoRenew": true})
		price := quoted(p.price, order)
		if price <= 0 {
			t.Fatalf("%s costs %v", of.chargeType, price)
		}
		same(of.chargeType, spent(func() { id = p.buy(t, c.Demo, order) }), price, 1e-6)
		i := p.settled(t, c.Demo, id)
		term := time.Duration(i.Int("ExpireTime")-i.Int("CreateTime")) * time.Second
		if i.String("ChargeType") != of.chargeType || i.String("AutoRenew") != "true" || term < of.least-time.Second || term > of.most+time.Second {
			t.Errorf("%s, %s: %v", of.chargeType, term, i)
		}
		orders := c.orders(t, id)
		if len(orders) != 1 {
			t.Fatalf("%d orders", len(orders))
		}
		same("the order", yuan(t, orders[0], "AmountTotal"), price, 1e-6)
		if of.chargeType == "Month" {
			break
		}
		if of.chargeType == "Dynamic" {
			price = 0
		}
		same("given back at once, "+of.chargeType, end(id), price, 0.01) // but for the seconds between
	}

	c.Clock.Advance(30 * 24 * time.Hour)
	change := func(mbps int) P { return P{p.id: id, "Bandwidth": mbps} }
	term := func(mbps int) float64 { return quoted(p.price, p.order(c, "Month", mbps, P{"Quantity": 2})) }
	more := quoted(p.difference, change(9))
	if share := more / (term(9) - term(3)); share < 0.48 || share > 0.53 {
		t.Errorf("half of the time is left, and %v of the whole is to be paid", share)
	}
	same("more bandwidth", spent(func() {
		c.Demo.Must(t, p.change, change(9))
		p.settled(t, c.Demo, id)
	}), more, 0.01)
	same("the same bandwidth", spent(func() { c.Demo.Must(t, p.change, change(9)) }), 0, 0)
	same("less, quoted", quoted(p.difference, change(2)), 0, 0)
	c.Demo.Refuse(t, retcode.InvalidResourceBizState, p.change, change(2)) // before the last day
	if i := p.settled(t, c.Demo, id); i.Int("Bandwidth") != 9 {
		t.Errorf("%v", i)
	}
	c.Demo.Must(t, "UpdateAutoRenew", P{"ResourceIDs": []string{id}, "AutoRenew": false})
	if p.settled(t, c.Demo, id).String("AutoRenew") != "false" {
		t.Error("it still shows that it renews itself")
	}
	half := term(3)/2 + more
	same("half of the time", end(id), half, half*0.05)
	c.doctor(t)
}

// TestInnerOnesAreFree: NICs and VIPs in subnets are in no order.
func TestInnerOnesAreFree(t *testing.T) {
	c := start(t, dbtest.SQLite(t), nil)
	before := c.balance(t)
	nic, vip := c.nic(t, nil), c.vip(t, P{"Name": "vip", "VIPType": "LAN", "VPCID": c.vpc, "SubnetID": c.subnet})
	for id, i := range map[string]controllertest.Info{nic: c.nicIs(t, nic, "Free"), vip: c.vipIs(t, vip, "Available")} {
		if i.String("ChargeType") != "" || i.Int("ExpireTime") != 0 || len(c.orders(t, id)) != 0 {
			t.Errorf("%v", i)
		}
	}
	if now := c.balance(t); now != before {
		t.Errorf("%v were paid", before-now)
	}
}

// TestOuterOnesNeedMoneyAndQuota: who cannot pay, or has had its share, gets nothing and pays nothing.
func TestOuterOnesNeedMoneyAndQuota(t *testing.T) {
	for _, p := range products {
		t.Run(p.kind, func(t *testing.T) { p.needs(t, start(t, dbtest.SQLite(t), nil)) })
	}
}

func (p *product) needs(t *testing.T, c *cloud) {
	k, err := c.Identity.CreateTenant(t.Context(), identity.NewTenant{Name: "poor", Email: "poor@example.com", Region: catalog.DefaultRegion})
	if err != nil {
		t.Fatal(err)
	}
	poor := &controllertest.Client{URL: c.URL, Company: k.Company, Account: k.Account, Email: k.Email, PublicKey: k.PublicKey, PrivateKey: k.PrivateKey}
	order := p.order(c, "Year", 2, nil)
	if order["VPCID"] != nil {
		order["VPCID"] = poor.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID")
	}
	price := yuan(t, poor.Must(t, p.price, order).Infos()[0], "Price")
	pay := func(amount int, serial string) {
		c.Admin.Must(t, "Recharge", P{"CompanyID": poor.Company, "Amount": amount, "FromType": "INPOUR_FROM_OFFLINE", "SerialNo": serial})
	}
	pay(int(price)-1, "bank-1")
	poor.Refuse(t, retcode.InsufficientBalance, p.create, order)
	if n := poor.Must(t, p.list, nil).Int("TotalCount"); n != 0 {
		t.Errorf("%d without money", n)
	}
	c.doctor(t) // neither an address nor quota is kept for it
	pay(100, "bank-2")
	id := p.buy(t, poor, order)
	poor.Refuse(t, retcode.InsufficientBalance, p.change, P{p.id: id, "Bandwidth": 5})
	poor.Refuse(t, retcode.InsufficientBalance, "RenewResource", P{"ResourceID": id})
	if i := p.settled(t, poor, id); i.Int("Bandwidth") != 2 {
		t.Errorf("%v", i)
	}
	// Used up, nothing is paid.
	c.Admin.Must(t, "SetAccountQuota", P{"CompanyID": c.Demo.Company, "ResourceType": p.kind, "FactorType": "FACTOR_AMOUNT", "Quota": 1})
	p.buy(t, c.Demo, p.order(c, "Dynamic", 2, nil))
	before := c.balance(t)
	c.Demo.Refuse(t, retcode.QuotaExceeded, p.create, p.order(c, "Year", 2, nil))
	if now := c.balance(t); now != before {
		t.Errorf("%v were paid for nothing", before-now)
	}
	c.doctor(t)
}

func TestOuterNICsExpire(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		vm := c.vm(t, P{"ChargeType": "Year"})
		nic, lasting := c.nic(t, outer("Month", 2, P{"AutoRenew": false})), c.nic(t, outer("Month", 2, nil))
		for _, id := range []string{nic, lasting} {
			c.Demo.Must(t, "AttachNIC", to(id, vm))
			c.nicIs(t, id, "Bound")
		}
		c.Clock.Advance(32 * 24 * time.Hour)
		c.nicIs(t, nic, "Free")
		for name, p := range map[string]P{
			"AttachNIC":            to(nic, vm),
			"UpdateNICIPBandwidth": {"NICID": nic, "Bandwidth": 3},
			"UpdateNICMAC":         {"NICID": nic, "MAC": "02:00:00:aa:bb:09"},
			"GetUpdateNICPrice":    {"NICID": nic, "Bandwidth": 3},
			"ModifyNameAndRemark":  {"ResourceID": nic, "Name": "other"},
		} {
			c.Demo.Refuse(t, retcode.ResourceExpired, name, p)
		}
		c.Demo.Refuse(t, retcode.ResourceExpired, "UpdateNICIPBandwidth", P{"NICID": nic, "Bandwidth": 2}) // also what it has
		ended := c.nicIs(t, nic, "Free").Int("ExpireTime")
		c.Demo.Must(t, "RenewResource", P{"ResourceID": nic})
		if i := c.nicIs(t, nic, "Free"); i.Int("ExpireTime") < ended+28*24*3600 {
			t.Errorf("renewed: %v", i)
		}
		c.Demo.Must(t, "AttachNIC", to(nic, vm))
		c.nicIs(t, nic, "Bound")
		// Another month later it is detached, and a week after that destroyed: the recycle bin takes no NICs.
		c.Clock.Advance(31 * 24 * time.Hour)
		c.nicIs(t, nic, "Free")
		c.Clock.Advance(8 * 24 * time.Hour)
		c.goes(t, "DescribeNIC", "NICIDs", nic)
		c.Demo.Refuse(t, retcode.ResourceTerminated, "AttachNIC", to(nic, vm))
		// One that renews itself goes on, attached.
		controllertest.Eventually(t, 30*time.Second, "the other NIC has renewed itself", func() bool { return len(c.orders(t, lasting)) == 3 })
		c.nicIs(t, lasting, "Bound")
		// An expired one is deleted like any other; nothing comes back.
		last := c.nic(t, outer("Month", 2, P{"AutoRenew": false}))
		c.Clock.Advance(32 * 24 * time.Hour)
		controllertest.Eventually(t, 30*time.Second, "it is expired", func() bool {
			return c.Demo.Call(t, "GetUpdateNICPrice", P{"NICID": last, "Bandwidth": 3}).Code == retcode.ResourceExpired
		})
		c.Demo.Must(t, "DeleteNIC", P{"NICID": last})
		for _, o := range c.orders(t, last) {
			if yuan(t, o, "AmountTotal") < 0 {
				t.Errorf("%v", o)
			}
		}
		c.doctor(t)
	})
}

// TestOuterNICsOfBeforeStayFree: NICs from before outer ones cost anything are not charged behind their tenant's back.
func TestOuterNICsOfBeforeStayFree(t *testing.T) {
	c := start(t, dbtest.SQLite(t), nil)
	nic := c.nic(t, outer("Month", 2, nil))
	for _, statement := range []string{"DELETE FROM charge WHERE resource_id = ?", "UPDATE nic SET expire_at = 0 WHERE id = ?"} {
		if _, err := c.DB.Writer().ExecContext(t.Context(), statement, nic); err != nil {
			t.Fatal(err)
		}
	}
	vm := c.vm(t, P{"ChargeType": "Year"})
	before := c.balance(t)
	c.Demo.Must(t, "AttachNIC", to(nic, vm))
	c.nicIs(t, nic, "Bound")
	if price := yuan(t, c.Demo.Must(t, "GetUpdateNICPrice", P{"NICID": nic, "Bandwidth": 9}).Infos()[0], "Price"); price != 0 {
		t.Errorf("quoted %v", price)
	}
	c.Demo.Must(t, "UpdateNICIPBandwidth", P{"NICID": nic, "Bandwidth": 9})
	c.nicIs(t, nic, "Bound")
	c.Clock.Advance(90 * 24 * time.Hour)
	if i := c.nicIs(t, nic, "Bound"); i.Int("Bandwidth") != 9 || i.Int("ExpireTime") != 0 {
		t.Errorf("%v", i)
	}
	c.Demo.Refuse(t, retcode.ResourceNotFound, "RenewResource", P{"ResourceID": nic}) // there is nothing to renew
	c.Demo.Must(t, "DetachNIC", to(nic, vm))
	c.nicIs(t, nic, "Free")
	c.Demo.Must(t, "DeleteNIC", P{"NICID": nic})
	if now := c.balance(t); now != before {
		t.Errorf("%v were paid", before-now)
	}
}
