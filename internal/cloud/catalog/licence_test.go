package catalog_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestLicence(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 3})
		key, system, err := catalog.LicenceIssuer(t.Context(), c.Catalog)
		if err != nil {
			t.Fatal(err)
		}
		file := func(l catalog.Licence, key ed25519.PrivateKey) (text, code string) {
			t.Helper()
			f, err := catalog.SignLicence(l, key)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			return base64.StdEncoding.EncodeToString(raw), f.AuthCode()
		}
		now := c.Clock.Now().Unix()
		right := catalog.Licence{ID: "licence-1", System: system, Regions: []string{"cn"}, Nodes: 2, Features: []string{"gpu"}, Begin: now, End: now + 30*86400}
		upload := func(change func(l *catalog.Licence)) P {
			l := right
			change(&l)
			text, _ := file(l, key)
			return P{"FileBytes": text}
		}
		state := func(region string) string {
			t.Helper()
			for _, i := range c.Demo.Must(t, "DescribeRegion", nil).Infos() {
				if i.String("Region") == region {
					return i.String("State")
				}
			}
			return ""
		}
		eip := P{"Name": "e", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp"}

		// The installation's own licence has no limits.
		own := c.Admin.Must(t, "DescribeLicense", nil).Infos()
		if len(own) != 1 || own[0].String("State") != "LICENSED" || own[0].Int("EndTime") != 0 || own[0].List("Details")[0].Int("Quantity") != 0 || own[0].List("Details")[0].Int("Used") != 3 {
			t.Fatalf("own licence: %v", own)
		}
		id := c.Demo.Must(t, "AllocateEIP", eip).String("EIPID")
		bundle := c.Admin.Must(t, "CollectLicenseInfo", P{"RegionID": "cn"})
		if text, err := base64.StdEncoding.DecodeString(bundle.String("FileBytes")); err != nil || bundle.String("SystemID") != system || strings.Count(string(text), `"Address"`) != 3 {
			t.Errorf("bundle: %s %v", text, err)
		}
		c.Admin.Refuse(t, retcode.SystemNotFound, "CollectLicenseInfo", P{"RegionID": "moon"})
		c.Admin.Refuse(t, retcode.SystemNotFound, "DescribeLicense", P{"RegionID": "moon"})
		c.Demo.Refuse(t, retcode.AdminOnly, "DescribeLicense", nil)

		// What does not fit is refused, and changes nothing.
		_, foreign, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		stranger, _ := file(right, foreign)
		text, code := file(right, key)
		raw, _ := base64.StdEncoding.DecodeString(text)
		forged := base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(raw), `"Nodes":2`, `"Nodes":9`, 1)))
		for name, refused := range map[string]struct {
			code retcode.Code
			p    P
		}{
			"another key":          {retcode.RegionActivationFailed, P{"FileBytes": stranger}},
			"changed":              {retcode.RegionActivationFailed, P{"FileBytes": forged}},
			"another installation": {retcode.RegionActivationFailed, upload(func(l *catalog.Licence) { l.System = "system-other" })},
			"over":                 {retcode.ActivationCodeExpired, upload(func(l *catalog.Licence) { l.End = now - 1 })},
			"unknown region":       {retcode.SystemNotFound, upload(func(l *catalog.Licence) { l.Regions = []string{"moon"} })},
			"wrong code":           {retcode.AuthCodeVerifyFailed, P{"FileBytes": text, "AuthCode": "0123456789abcdef"}},
			"no licence":           {retcode.InvalidParameterFormat, P{"FileBytes": base64.StdEncoding.EncodeToString([]byte("{}"))}},
			"no base64":            {retcode.InvalidParameterFormat, P{"FileBytes": "%"}},
		} {
			t.Log(name)
			c.Admin.Refuse(t, refused.code, "UploadLicense", refused.p)
		}
		if state("cn") != "LICENSED" || c.Admin.Must(t, "DescribeLicense", nil).Infos()[0].String("LicenseID") == "licence-1" {
			t.Error("a refused licence was installed")
		}

		// The right one: two of three hosts, one feature, thirty days.
		if r := c.Admin.Must(t, "UploadLicense", P{"FileBytes": text, "AuthCode": code}); r.String("LicenseID") != "licence-1" {
			t.Errorf("uploaded: %v", r.Body)
		}
		if all := c.Admin.Must(t, "DescribeLicense", nil).Infos(); len(all) != 2 || all[1].String("ProductName") != "gpu" || all[1].String("LicenseType") != "Extension" {
			t.Errorf("items: %v", all)
		}
		if n := c.Admin.Must(t, "DescribeLicense", P{"LicenseType": "Service"}).Int("TotalCount"); n != 0 {
			t.Errorf("%d service items", n)
		}
		count := map[string]int{}
		for _, n := range c.Admin.Must(t, "DescribeLicenseNode", P{"RegionID": "cn"}).Infos() {
			count[n.String("LicenseState")]++
		}
		if count["LICENSED"] != 2 || count["UNLICENSED"] != 1 {
			t.Errorf("nodes: %v", count)
		}
		c.Admin.Refuse(t, retcode.RegionActivationFailed, "CreateHostJoinToken", nil)
		// Of what goes beyond the basic services it has GPUs alone.
		included := func(gpu, scaling retcode.Code) {
			t.Helper()
			err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
				return c.Catalog.Reserve(ctx, tx, c.Demo.Company, "cn", catalog.Amounts{catalog.GPU: 1})
			})
			if retcode.Of(err) != gpu {
				t.Errorf("GPUs: %v", err)
			}
			call := &action.Call{Region: "cn", Caller: action.Caller{Company: c.Demo.Company}}
			if err := c.Catalog.Permit(t.Context(), call, action.Spec{Name: "CreateASGroup", Module: "autoscaling", Mutates: true}); retcode.Of(err) != scaling {
				t.Errorf("scaling groups: %v", err)
			}
			if err := c.Catalog.Permit(t.Context(), call, action.Spec{Name: "DeleteASGroup", Module: "autoscaling", Mutates: true}); err != nil {
				t.Errorf("what is there cannot be given back: %v", err)
			}
		}
		included(retcode.OK, retcode.RegionNotActivated)
		c.Admin.Must(t, "UploadLicense", upload(func(l *catalog.Licence) { l.Features, l.Nodes = []string{"AutoScaling"}, 3 }))
		included(retcode.RegionNotActivated, retcode.OK)
		c.Admin.Refuse(t, retcode.RegionActivationFailed, "CreateHostJoinToken", nil)
		c.Admin.Must(t, "UploadLicense", upload(func(l *catalog.Licence) { l.Features, l.Nodes = nil, 4 }))
		included(retcode.OK, retcode.OK)
		c.Admin.Refuse(t, retcode.InvalidResourceState, "CreateHostJoinToken", nil) // licensed; only, simulated hosts do not join
		c.Admin.Must(t, "UploadLicense", P{"FileBytes": text})

		// A second region comes with its licence and is not activated for anything else.
		moon := func(region, token string) P {
			return P{"RegionID": region, "RegionIP": "192.0.2.1", "RegionToken": token}
		}
		both, _ := file(catalog.Licence{ID: "licence-2", System: system, Regions: []string{"cn", "moon"}, Begin: now, End: now + 60*86400}, key)
		c.Admin.Refuse(t, retcode.RegionActivationFailed, "AddRegion", moon("moon", text))
		c.Admin.Refuse(t, retcode.RegionActivationFailed, "AddRegion", moon("moon", stranger))
		c.Admin.Refuse(t, retcode.ActivationCodeExpired, "AddRegion", moon("cn", upload(func(l *catalog.Licence) { l.End = 1 })["FileBytes"].(string)))
		c.Admin.Refuse(t, retcode.InvalidParameter, "AddRegion", moon("Moon", both))
		c.Admin.Refuse(t, retcode.InvalidParameterFormat, "AddRegion", P{"RegionID": "moon", "RegionIP": "nowhere", "RegionToken": both})
		c.Admin.Must(t, "AddRegion", moon("moon", both))
		c.Admin.Must(t, "UpdateRegion", P{"Region": "moon", "Name": "Tranquility", "City": "Mare", "Remark": "far"})
		c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateRegion", P{"Region": "moon", "Name": strings.Repeat("x", 31), "City": "Mare"})
		var found bool
		for _, i := range c.Admin.Must(t, "DescribeRegion", nil).Infos() {
			found = found || i.String("Region") == "moon" && i.String("RegionAlias") == "Tranquility" && i.String("State") == "LICENSED"
		}
		if !found {
			t.Error("the second region is not listed")
		}

		// Over: what is there goes on, can be read and given back, and does not grow.
		c.Clock.Advance(31 * 24 * time.Hour)
		if s := state("cn"); s != "EXPIRED" {
			t.Errorf("after its end the licence is %s", s)
		}
		for _, name := range []string{"AllocateEIP", "CreateVMInstance", "CreateVPC", "CreateSecurityGroup"} {
			c.Demo.Refuse(t, retcode.RegionActivationExpired, name, eip)
		}
		c.Admin.Refuse(t, retcode.RegionActivationExpired, "CreateHostJoinToken", nil)
		c.Demo.Must(t, "DescribeEIP", P{"EIPIDs": []string{id}})
		if c.Admin.Must(t, "DescribeLicenseNode", nil).Infos()[0].String("LicenseState") != "EXPIRED" {
			t.Error("nodes of a licence that is over")
		}
		// Without any: the same with 400.
		if _, err := db.Writer().Exec(`DELETE FROM licence WHERE region = 'cn'`); err != nil {
			t.Fatal(err)
		}
		controllertest.Eventually(t, 5*time.Second, "the region is not activated", func() bool { return state("cn") == "UNLICENSED" })
		c.Demo.Refuse(t, retcode.RegionNotActivated, "AllocateEIP", eip)
		c.Admin.Refuse(t, retcode.RegionNotActivated, "CreateHostJoinToken", nil)
		c.Demo.Must(t, "DescribeEIP", nil)
		c.Admin.Must(t, "UploadLicense", P{"FileBytes": both})
		if state("cn") != "LICENSED" {
			t.Error("activated again")
		}
		c.Demo.Must(t, "DescribeVPC", nil)
	})
}
