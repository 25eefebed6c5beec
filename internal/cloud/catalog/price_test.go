package catalog_test

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestDefaultPrices(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := service(t, db, 1)
		quote := func(charge string, quantity int, items ...catalog.Item) catalog.Money {
			t.Helper()
			m, err := s.Quote(t.Context(), db.Reader(), 1, "cn", charge, quantity, items)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		for _, c := range []struct {
			charge   string
			quantity int
			items    []catalog.Item
			want     catalog.Money
		}{
			{catalog.Dynamic, 1, catalog.VMItems("A", 1, 1024, 0), 11660 + 542},
			{catalog.Dynamic, 1, catalog.VMItems("A", 2, 4096, 0), 2*11660 + 4*542},
			{catalog.Month, 3, catalog.VMItems("A", 2, 4096, 0), 3 * (2*80 + 4*39) * catalog.Yuan},
			{catalog.Year, 1, catalog.VMItems("A", 1, 1024, 1), (960 + 468 + 28800) * catalog.Yuan},
			{catalog.Month, 1, []catalog.Item{catalog.DiskItem("S", 40)}, 20 * catalog.Yuan},
			// 5 Mbps at 30 yuan, the rest at 100.
			{catalog.Month, 1, []catalog.Item{catalog.BandwidthItem("seg", 5)}, 150 * catalog.Yuan},
			{catalog.Month, 1, []catalog.Item{catalog.BandwidthItem("seg", 8)}, (150 + 300) * catalog.Yuan},
			{catalog.Dynamic, 1, nil, 0},
		} {
			if got := quote(c.charge, c.quantity, c.items...); got != c.want {
				t.Errorf("%d x %s of %v: %d, want %d", c.quantity, c.charge, c.items, got, c.want)
			}
		}
		if _, err := s.Quote(t.Context(), db.Reader(), 1, "cn", "Decade", 1, catalog.VMItems("A", 1, 1024, 0)); retcode.Of(err) != retcode.PriceNotFound {
			t.Errorf("an unknown charge type: %v", err)
		}
	})
}

// TestQuoteIsExact holds quotes against rational arithmetic: amounts, discounts and numbers of periods.
func TestQuoteIsExact(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	tenant := c.NewTenant(t)
	rapid.Check(t, func(r *rapid.T) {
		price := rapid.Int64Range(0, 1_000_000).Draw(r, "price")
		percent := rapid.Int64Range(0, 100).Draw(r, "percent")
		mib := rapid.Int64Range(1, 64*1024).Draw(r, "memory")
		quantity := rapid.IntRange(1, 11).Draw(r, "quantity")
		c.Admin.Must(t, "UpdatePrice", P{"ProductID": "MEMORY", "SetType": "ComputeSetA", "ChargeType": "Month",
			"PriceRuleInfo": `{"LowerMultiple":0,"UpperMultiple":0,"Price":` + big.NewRat(price, 10000).FloatString(4) + `}`})
		c.Admin.Must(t, "UpdateDiscount", P{"CompanyID": tenant.Company, "ProductID": "MEMORY", "SetType": "ComputeSetA", "ChargeType": "Month", "Discount": percent})
		got, err := c.Catalog.Quote(t.Context(), c.DB.Reader(), tenant.Company, "cn", "Month", quantity, []catalog.Item{{Factor: catalog.PriceMemory, Scope: "ComputeSetA", Amount: mib}})
		if err != nil {
			r.Fatal(err)
		}
		// 1/1024 of a price a MiB, percent/100 of it; half a unit is rounded up.
		n := new(big.Int).Mul(big.NewInt(price*percent), big.NewInt(mib))
		n.Add(n, big.NewInt(1024*100/2)).Div(n, big.NewInt(1024*100))
		if want := n.Int64() * int64(quantity); int64(got) != want {
			r.Fatalf("%d x %d MiB at %d with %d percent: %d, want %d", quantity, mib, price, percent, got, want)
		}
	})
}

func TestPriceBook(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db})
		all := c.Demo.Must(t, "DescribePrice", P{"Limit": 100})
		if all.Int("TotalCount") != 15 { // five factors of three sets and segments, three charge types
			t.Fatalf("prices: %v", all.Body)
		}
		segment := c.Demo.Must(t, "DescribePrice", P{"ProductIDs": []string{"EIP"}}).Infos()[0].String("SetType")
		of := func(client *controllertest.Client, charge string, p P) controllertest.Info {
			t.Helper()
			q := P{"ProductIDs": []string{"EIP"}, "SetTypes": []string{segment}}
			for k, v := range p {
				q[k] = v
			}
			for _, i := range client.Must(t, "DescribePrice", q).Infos() {
				if i.String("ChargeType") == charge {
					return i
				}
			}
			t.Fatalf("no price by %s", charge)
			return nil
		}
		if i := of(c.Demo, "Month", nil); i.String("ChargeRule") != "GRADIENT" || len(i.List("Infos")) != 2 || i.String("SetTypeAlias") != "Bgp" || i.Int("CreateTime") != 0 {
			t.Errorf("default price of an EIP: %v", i)
		}
		if c.Demo.Must(t, "DescribePrice", P{"Keyword": "vcpu"}).Int("TotalCount") != 3 || c.Demo.Must(t, "DescribePrice", P{"Keyword": "nothing"}).Int("TotalCount") != 0 {
			t.Error("searching the prices")
		}

		set := func(rule, info string) P {
			return P{"ProductID": "EIP", "SetType": "Bgp", "ChargeType": "Month", "ChargeRule": rule, "PriceRuleInfo": info}
		}
		c.Demo.Refuse(t, retcode.AdminOnly, "UpdatePrice", set("Simple", `{"Price":1}`))
		for _, wrong := range []string{
			`{"LowerMultiple":1,"UpperMultiple":0,"Price":1}`, `{"Price":-1}`, `{"Price":0.00001}`, `{"Price":1000000.1}`,
			`{"UpperMultiple":5,"Price":1}|{"LowerMultiple":6,"Price":1}`, `{"Price":1}|{"LowerMultiple":5,"Price":1}`,
		} {
			c.Admin.Refuse(t, retcode.InvalidParameter, "UpdatePrice", set("Tiered", wrong))
		}
		for _, wrong := range []string{`x`, `{"Price":"NaN"}`, `[]`, `{"Price":1e999999}`} {
			c.Admin.Refuse(t, retcode.InvalidParameterFormat, "UpdatePrice", set("Simple", wrong))
		}
		c.Admin.Refuse(t, retcode.InvalidParameter, "UpdatePrice", set("Graduated", `{"Price":1}`))
		for _, p := range []P{{"ProductID": "SOUL"}, {"SetType": "ComputeSetA"}} {
			q := set("Simple", `{"Price":1}`)
			for k, v := range p {
				q[k] = v
			}
			c.Admin.Refuse(t, retcode.PriceNotFound, "UpdatePrice", q)
		}

		// Clients of the published contract name no rule.
		c.Admin.Must(t, "UpdatePrice", set("", `{"LowerMultiple":0,"UpperMultiple":5,"Price":1}|{"LowerMultiple":5,"Price":2}`))
		if i := of(c.Demo, "Month", nil); i.String("ChargeRule") != "GRADIENT" {
			t.Errorf("two intervals: %v", i)
		}
		c.Admin.Must(t, "UpdatePrice", set("Tiered", `{"LowerMultiple":0,"UpperMultiple":5,"Price":1}|{"LowerMultiple":5,"UpperMultiple":20,"Price":10.5}`))
		quote := func(mbps int) (catalog.Money, error) {
			return c.Catalog.Quote(t.Context(), c.DB.Reader(), c.Demo.Company, "cn", "Month", 1, []catalog.Item{catalog.BandwidthItem(segment, mbps)})
		}
		if m, err := quote(7); err != nil || m != 26*catalog.Yuan {
			t.Errorf("7 Mbps: %d %v", m, err)
		}
		if _, err := quote(21); retcode.Of(err) != retcode.PriceNotFound {
			t.Errorf("beyond the last interval: %v", err)
		}

		discount := P{"CompanyID": c.Demo.Company, "ProductID": "EIP", "SetType": segment, "ChargeType": "Month", "Discount": 90}
		c.Demo.Refuse(t, retcode.AdminOnly, "UpdateDiscount", discount)
		c.Admin.Must(t, "UpdateDiscount", discount)
		if m, err := quote(7); err != nil || m != 234_000 {
			t.Errorf("7 Mbps with 10 percent off: %d %v", m, err)
		}
		i := of(c.Demo, "Month", nil)
		if tiers := i.List("DiscountInfos"); i.Int("Discount") != 90 || len(tiers) != 2 || tiers[1].String("Price") != "9.45" || i.List("Infos")[1].String("Price") != "10.5" || i.Int("UpdateTime") == 0 {
			t.Errorf("discounted price: %v", i)
		}
		// The list price is without; an administrator sees a tenant's by naming it.
		if of(c.Admin, "Month", nil).Int("Discount") != 100 || of(c.Admin, "Month", P{"CompanyID": c.Demo.Company}).Int("Discount") != 90 {
			t.Error("discounts that an administrator sees")
		}
		mine := c.Demo.Must(t, "DescribeDiscount", P{"CompanyID": c.Demo.Company})
		if mine.Int("TotalCount") != 1 || mine.Infos()[0].Int("Discount") != 90 || mine.Infos()[0].String("SetType") != segment || mine.Infos()[0].Int("Price") != 1 {
			t.Errorf("discounts: %v", mine.Body)
		}
		c.Demo.Refuse(t, retcode.AdminOnly, "DescribeDiscount", P{"CompanyID": c.Admin.Company})
		c.Admin.Refuse(t, retcode.TenantNotFound, "DescribeDiscount", P{"CompanyID": 7})
		c.Admin.Refuse(t, retcode.PriceNotFound, "DescribeDiscount", P{"CompanyID": c.Demo.Company, "ProductIDs": []string{"SOUL"}})
		for _, wrong := range []any{-1, 101, 50.5} {
			c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateDiscount", P{"CompanyID": c.Demo.Company, "ProductID": "EIP", "SetType": segment, "ChargeType": "Month", "Discount": wrong})
		}
		c.Admin.Refuse(t, retcode.TenantNotFound, "UpdateDiscount", P{"CompanyID": 7, "ProductID": "EIP", "SetType": segment, "ChargeType": "Month", "Discount": 50})
		discount["Discount"] = 100
		c.Admin.Must(t, "UpdateDiscount", discount)
		if c.Demo.Must(t, "DescribeDiscount", P{"CompanyID": c.Demo.Company}).Int("TotalCount") != 0 {
			t.Error("a discount of nothing is listed")
		}

		// Off the market, and back.
		c.Admin.Must(t, "UpdatePrice", set("Simple", "None"))
		if _, err := quote(1); retcode.Of(err) != retcode.PriceNotFound {
			t.Errorf("what is not for sale: %v", err)
		}
		c.Admin.Must(t, "UpdatePrice", set("Simple", `{"Price":0.0001}`))
		if m, err := quote(30); err != nil || m != 30 {
			t.Errorf("30 Mbps at the least price: %d %v", m, err)
		}
	})
}
