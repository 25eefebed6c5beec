package quote_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

func price(t *testing.T, r controllertest.Response) float64 {
	t.Helper()
	if len(r.Infos()) != 1 {
		t.Fatalf("prices: %v", r.Body)
	}
	return number(r.Infos()[0], "Price")
}

func number(i controllertest.Info, field string) float64 {
	n, _ := strconv.ParseFloat(i.String(field), 64)
	return n
}

// bought sums the orders of a tenant's purchases.
func bought(t *testing.T, c *controllertest.Client) (sum float64) {
	t.Helper()
	for _, o := range c.Must(t, "DescribeOrder", P{"Limit": 100, "BeginTime": time.Now().Add(-time.Hour).Unix(), "EndTime": time.Now().Add(time.Hour).Unix()}).Infos() {
		sum += number(o, "AmountTotal")
	}
	return sum
}

func with(p, more P) P {
	all := maps.Clone(p)
	maps.Copy(all, more)
	return all
}

// TestQuotesEqualOrders buys what was quoted, and pays that to the last unit.
func TestQuotesEqualOrders(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db})
		first := func(name, field string) string { return c.Demo.Must(t, name, nil).Infos()[0].String(field) }
		vm := P{"VMType": "ComputeSetA", "ImageID": first("DescribeImage", "ImageID"), "CPU": 2, "Memory": 4096, "BootDiskSetType": "StorageSetA", "BootDiskSpace": 40}
		place := P{"Name": "m", "Password": "Right-123456", "VPCID": first("DescribeVPC", "VPCID"), "SubnetID": first("DescribeSubnet", "SubnetID"),
			"WANSGID": first("DescribeSecurityGroup", "SGID")}
		// A price that does not divide well, and a discount.
		c.Admin.Must(t, "UpdatePrice", P{"ProductID": "MEMORY", "SetType": "ComputeSetA", "ChargeType": "Month", "PriceRuleInfo": `{"Price":33.3333}`})
		for _, charge := range []string{"Dynamic", "Month", "Year"} {
			tenant := c.NewTenant(t)
			c.Admin.Must(t, "UpdateDiscount", P{"CompanyID": tenant.Company, "ProductID": "CPU", "SetType": "ComputeSetA", "ChargeType": charge, "Discount": 87})
			order := P{"ChargeType": charge, "Quantity": 3}
			eip := with(order, P{"Name": "e", "OperatorName": "Bgp", "Bandwidth": 17, "Count": 2})
			quoted := price(t, tenant.Must(t, "GetEIPPrice", eip))
			tenant.Must(t, "AllocateEIP", eip)
			if got := bought(t, tenant); quoted == 0 || math.Abs(got-quoted) > 1e-6 {
				t.Errorf("%s: two EIPs are quoted at %v and cost %v", charge, quoted, got)
			}
			own := P{"VPCID": tenant.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID"), "SubnetID": tenant.Must(t, "DescribeSubnet", nil).Infos()[0].String("SubnetID"),
				"WANSGID": tenant.Must(t, "DescribeSecurityGroup", nil).Infos()[0].String("SGID")}
			machine := with(with(with(vm, order), with(place, own)), P{"DataDisks.0.SetType": "StorageSetA", "DataDisks.0.DiskSpace": 33, "DataDiskSpace": 20, "OperatorName": "Bgp", "Bandwidth": 7,
				"BootDiskSecret": base64.StdEncoding.EncodeToString([]byte("a passphrase"))})
			quoted += price(t, tenant.Must(t, "GetVMInstancePrice", machine))
			id := tenant.Must(t, "CreateVMInstance", machine).String("VMID")
			controllertest.Eventually(t, time.Minute, "the machine runs", func() bool {
				return tenant.Must(t, "DescribeVMInstance", P{"VMIDs": []string{id}}).Infos()[0].String("State") == "Running"
			})
			if got := bought(t, tenant); math.Abs(got-quoted) > 1e-6 {
				t.Errorf("%s: with a machine %v are quoted and %v paid", charge, quoted, got)
			}
		}
	})
}

func TestQuotes(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	image := c.Demo.Must(t, "DescribeImage", nil).Infos()[0].String("ImageID")
	segment := c.Demo.Must(t, "DescribePrice", P{"ProductIDs": []string{"EIP"}}).Infos()[0].String("SetType")
	vm := P{"VMType": "ComputeSetA", "ImageID": image, "CPU": 1, "Memory": 1024, "BootDiskSetType": "StorageSetA", "ChargeType": "Month"}
	disk := P{"SetType": "StorageSetA", "DiskSpace": 10, "ChargeType": "Month"}
	eip := P{"OpertatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Month"}
	outer := P{"SegmentID": segment, "Bandwidth": 6, "ChargeType": "Month"}
	for name, want := range map[string]struct {
		p P
		n float64
	}{
		"GetVMInstancePrice": {vm, 80 + 39 + 20}, "GetDiskPrice": {with(disk, P{"Count": 3, "Quantity": 2}), 30},
		"GetEIPPrice": {eip, 30}, "GetCreateNICPrice": {outer, 250}, "GetVIPPrice": {outer, 250},
	} {
		if got := price(t, c.Demo.Must(t, name, want.p)); got != want.n {
			t.Errorf("%s: %v, want %v", name, got, want.n)
		}
		c.Demo.Refuse(t, retcode.InvalidParameter, name, with(want.p, P{"Quantity": 12}))
		c.Demo.Refuse(t, retcode.InvalidParameter, name, with(want.p, P{"ChargeType": "Decade"}))
	}
	if got := price(t, c.Demo.Must(t, "GetVMInstancePrice", with(vm, P{"ChargeType": "Dynamic", "Quantity": 7, "CPU": 4, "Memory": 8192, "GPU": 1}))); got != 4*1.166+8*0.0542+4+40*0.0008 {
		t.Errorf("a machine with a GPU by the hour: %v", got)
	}
	for code, p := range map[retcode.Code]P{
		retcode.SetTypeNotFound: {"VMType": "Nowhere"}, retcode.ImageNotFound: {"ImageID": "cn-image-nothing"}, retcode.VMSpecUnavailable: {"CPU": 3},
		retcode.DiskSpecOutOfRange: {"DataDiskSpace": 9}, retcode.BandwidthOutOfRange: {"OperatorName": "Bgp", "Bandwidth": 10001}, retcode.ResourceNotFound: {"OperatorName": "Nowhere"},
		retcode.InvalidParameter: {"GPU": 1}, retcode.TenantNotFound: {"CompanyID": 7},
	} {
		client := c.Demo
		if code == retcode.TenantNotFound {
			client = c.Admin
		}
		client.Refuse(t, code, "GetVMInstancePrice", with(vm, p))
	}
	c.Demo.Refuse(t, retcode.InvalidParameter, "GetVMInstancePrice", with(vm, P{"DataDiskSpace": -1}))
	many := with(vm, nil)
	for n := range 24 {
		many[fmt.Sprintf("DataDisks.%d.SetType", n)], many[fmt.Sprintf("DataDisks.%d.DiskSpace", n)] = "StorageSetA", 32000
	}
	c.Demo.Refuse(t, retcode.BindLimitReached, "GetVMInstancePrice", with(many, P{"DataDiskSpace": 10}))
	// What no balance can pay has no price, least of all one below 0.
	c.Admin.Must(t, "UpdatePrice", P{"ProductID": "DISK", "SetType": "StorageSetA", "ChargeType": "Month", "PriceRuleInfo": `{"Price":1000000}`})
	c.Demo.Refuse(t, retcode.InvalidParameter, "GetVMInstancePrice", with(many, P{"Quantity": 11, "Count": 1000}))
	c.Demo.Refuse(t, retcode.InsufficientBalance, "CreateDisk", P{"Name": "d", "SetType": "StorageSetA", "DiskSpace": 5000, "ChargeType": "Month", "Quantity": 11})
	c.Demo.Refuse(t, retcode.DiskSpecOutOfRange, "GetDiskPrice", with(disk, P{"DiskSpace": 9}))
	c.Demo.Refuse(t, retcode.SetTypeNotFound, "GetDiskPrice", with(disk, P{"SetType": "Nowhere"}))
	c.Demo.Refuse(t, retcode.BandwidthOutOfRange, "GetEIPPrice", with(eip, P{"Bandwidth": 0}))
	c.Demo.Refuse(t, retcode.ResourceNotFound, "GetVIPPrice", with(outer, P{"SegmentID": "seg-nothing"}))

	// Not for sale any more.
	for product, set := range map[string]string{"CPU": "ComputeSetA", "DISK": "StorageSetA", "EIP": "Bgp"} {
		c.Admin.Must(t, "UpdatePrice", P{"ProductID": product, "SetType": set, "ChargeType": "Month", "PriceRuleInfo": "None"})
	}
	for name, p := range map[string]P{"GetVMInstancePrice": vm, "GetDiskPrice": disk, "GetEIPPrice": eip, "GetCreateNICPrice": outer, "GetVIPPrice": outer,
		"AllocateEIP": with(eip, P{"Name": "e", "OperatorName": "Bgp"})} {
		c.Demo.Refuse(t, retcode.PriceNotFound, name, p)
	}
}

func TestQuotesOfChanges(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	first := func(name, field string) string { return c.Demo.Must(t, name, nil).Infos()[0].String(field) }
	vm := c.Demo.Must(t, "CreateVMInstance", P{"Name": "m", "Password": "Right-123456", "VMType": "ComputeSetA", "ImageID": first("DescribeImage", "ImageID"), "CPU": 2, "Memory": 4096,
		"BootDiskSetType": "StorageSetA", "VPCID": first("DescribeVPC", "VPCID"), "SubnetID": first("DescribeSubnet", "SubnetID"), "WANSGID": first("DescribeSecurityGroup", "SGID"),
		"ChargeType": "Year", "Quantity": 2, "DataDiskSpace": 100, "OperatorName": "Bgp", "Bandwidth": 5}).String("VMID")
	var row controllertest.Info
	controllertest.Eventually(t, time.Minute, "the machine runs", func() bool {
		row = c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{vm}}).Infos()[0]
		return row.String("State") == "Running"
	})
	// Half a year is over: three quarters of the two years are left.
	c.Clock.Advance(365 * 24 * time.Hour / 2)
	near := func(what string, got, full float64) {
		t.Helper()
		if want := full * 0.75; math.Abs(got-want) > full*0.002 {
			t.Errorf("%s: %v, want about %v", what, got, want)
		}
	}
	resize := func(cpu, memory int) (string, float64) {
		t.Helper()
		r := c.Demo.Must(t, "GetPaymentOfPremium", P{"VMID": vm, "CPU": cpu, "Memory": memory})
		return r.String("OrderType"), number(controllertest.Info(r.Body), "Price")
	}
	if typ, m := resize(2, 4096); typ != "0" || m != 0 {
		t.Errorf("no change: %s %v", typ, m)
	}
	if typ, m := resize(1, 2048); typ != "7" || m != 0 {
		t.Errorf("smaller: %s %v", typ, m)
	}
	typ, m := resize(4, 8192)
	if typ != "3" {
		t.Errorf("larger: %s", typ)
	}
	near("larger", m, 2*(2*960+4*468))
	c.Demo.Refuse(t, retcode.VMSpecUnavailable, "GetPaymentOfPremium", P{"VMID": vm, "CPU": 3, "Memory": 4096})
	c.Demo.Refuse(t, retcode.VMNotFound, "GetPaymentOfPremium", P{"VMID": "vm-nothing", "CPU": 2, "Memory": 4096})
	c.NewTenant(t).Refuse(t, retcode.VMNotFound, "GetPaymentOfPremium", P{"VMID": vm, "CPU": 2, "Memory": 4096})

	for _, d := range row.List("DiskInfos") {
		size := d.Int("Size")
		if size == 0 {
			size = d.Int("DiskSpace")
		}
		id := d.String("DiskID")
		near("disk "+id, price(t, c.Demo.Must(t, "GetUpgradeDiskPrice", P{"DiskID": id, "DiskSpace": size + 100})), 2*100*6)
		c.Demo.Refuse(t, retcode.DiskShrinkNotSupported, "GetUpgradeDiskPrice", P{"DiskID": id, "DiskSpace": size - 1})
		c.Demo.Refuse(t, retcode.DiskSpecOutOfRange, "GetUpgradeDiskPrice", P{"DiskID": id, "DiskSpace": 32001})
	}
	if n := len(row.List("DiskInfos")); n != 2 {
		t.Errorf("%d disks: %v", n, row)
	}
	c.Demo.Refuse(t, retcode.ResourceNotFound, "GetUpgradeDiskPrice", P{"DiskID": "disk-nothing", "DiskSpace": 100})

	eip := c.Demo.Must(t, "DescribeEIP", nil).Infos()[0].String("EIPID")
	diff := func(mbps int) P { return P{"EIPID": eip, "Bandwidth": mbps, "CompanyID": c.Demo.Company} }
	near("EIP", price(t, c.Demo.Must(t, "GetEIPDiffPrice", diff(7))), 2*2*1200)
	if m := price(t, c.Admin.Must(t, "GetEIPDiffPrice", diff(3))); m != 0 {
		t.Errorf("less bandwidth: %v", m)
	}
	c.Demo.Refuse(t, retcode.BandwidthOutOfRange, "GetEIPDiffPrice", diff(10001))
	c.Demo.Refuse(t, retcode.AdminOnly, "GetEIPDiffPrice", with(diff(7), P{"CompanyID": c.Admin.Company}))
	c.Demo.Refuse(t, retcode.ResourceNotFound, "GetEIPDiffPrice", with(diff(7), P{"EIPID": "eip-nothing"}))
	c.Demo.Refuse(t, retcode.ResourceNotFound, "GetUpdateNICPrice", P{"NICID": "none-nothing", "Bandwidth": 7})
	c.Demo.Refuse(t, retcode.ResourceNotFound, "GetVIPDiffPrice", P{"VIPID": "none-nothing", "Bandwidth": 7})
}
