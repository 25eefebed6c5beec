package audit_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

// logs reads the entries of the last hour that p selects.
func logs(t *testing.T, c *controllertest.Client, p P) []controllertest.Info {
	t.Helper()
	q := P{"BeginTime": time.Now().Add(-time.Hour).Unix(), "EndTime": fmt.Sprint(time.Now().Add(time.Hour).Unix())} // int and string
	for k, v := range p {
		q[k] = v
	}
	return c.Must(t, "DescribeOPLogs", q).Infos()
}

func TestWhatIsRecorded(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		demo := c.Demo
		// Reading leaves no trace.
		demo.Must(t, "DescribeVPC", nil)
		if n := len(logs(t, demo, nil)); n != 0 {
			t.Errorf("%d entries after reading only", n)
		}
		// A refused call is recorded with its code, and without its parameters.
		demo.Refuse(t, retcode.VMNotFound, "StartVMInstance", P{"VMID": "vm-secretparameter"})
		all := logs(t, demo, P{"IsSuccess": "No"})
		if len(all) != 1 {
			t.Fatalf("%d failed entries", len(all))
		}
		e := all[0]
		for field, want := range map[string]string{"APIName": "StartVMInstance", "OPName": "StartVMInstance", "UserEmail": demo.Email, "RetCode": "1004",
			"IsSuccess": "No", "CompanyID": fmt.Sprint(demo.Company), "Region": "cn", "ProductType": "vm", "ClientIP": "127.0.0.1"} {
			if e.String(field) != want {
				t.Errorf("%s is %q, want %q", field, e.String(field), want)
			}
		}
		if !strings.HasPrefix(e.String("Message"), retcode.VMNotFound.Message("en")) || e.String("Message") != e.String("OpMessage") {
			t.Errorf("messages %q and %q", e.String("Message"), e.String("OpMessage"))
		}
		if e.String("OPLogID") != e.String("OPLogsID") || e.Int("CreateTime") == 0 || e.Int("CreateTime") != e.Int("OPTime") {
			t.Errorf("both generations of names: %v", e)
		}
		// An accepted one with its resource and its final outcome.
		eip := demo.Must(t, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 10, "ChargeType": "Dynamic", "Name": "x", "IPVersion": "IPv4"}).String("EIPID")
		if e := demo.OPLog(t, "AllocateEIP", eip); e.String("IsSuccess") != "Yes" || e.Int("RetCode") != 0 || e.String("Message") != "" || e.String("ResourceID") != eip {
			t.Errorf("the entry of an accepted call: %v", e)
		}

		// Filters.
		for what, c := range map[string]struct {
			p    P
			want int
		}{
			"success":               {P{"IsSuccess": "Yes"}, 1},
			"module":                {P{"ProductType": "eip"}, 1},
			"other module":          {P{"ProductType": "lb"}, 0},
			"part of the action":    {P{"Keyword": "allocate"}, 1},
			"part of the e-mail":    {P{"Keyword": "demo@"}, 2},
			"part of the resource":  {P{"Keyword": eip[4:]}, 1},
			"wildcards are letters": {P{"Keyword": "%"}, 0},
			"resource":              {P{"ResourceID": eip}, 1},
			"part of a resource":    {P{"ResourceID": eip[:8]}, 0},
			"kind of resource":      {P{"ResourceType": "EIP"}, 1},
			"other kind":            {P{"ResourceType": "VM"}, 0},
			"kind called otherwise": {P{"ResourceType": "PIP"}, 0},
			"page":                  {P{"Limit": "1"}, 1},
			"second page":           {P{"Limit": 1, "Offset": 1}, 1},
			"third page":            {P{"Limit": 1, "Offset": 2}, 0},
			"long ago":              {P{"BeginTime": 1, "EndTime": 1000}, 0},
		} {
			if got := len(logs(t, demo, c.p)); got != c.want {
				t.Errorf("%s: %d entries, want %d", what, got, c.want)
			}
		}

		demo.Refuse(t, retcode.InvalidResourceType, "DescribeOPLogs", P{"BeginTime": 0, "EndTime": 1, "ResourceType": "Ghost"})

		// Tenants see their own, administrators all or those of one.
		other := c.NewTenant(t)
		if n := len(logs(t, other, nil)); n != 0 {
			t.Errorf("another tenant sees %d entries", n)
		}
		if n := len(logs(t, c.Admin, nil)); n != 2 {
			t.Errorf("the administrator sees %d entries, want 2", n)
		}
		if n := len(logs(t, c.Admin, P{"CompanyID": other.Company})); n != 0 {
			t.Errorf("of another tenant the administrator sees %d entries", n)
		}
		// What an administrator does to a tenant, the tenant sees.
		c.Admin.Refuse(t, retcode.VMNotFound, "StartVMInstance", P{"VMID": "vm-x", "CompanyID": other.Company})
		if all := logs(t, other, nil); len(all) != 1 || all[0].String("UserEmail") != c.Admin.Email {
			t.Errorf("the tenant sees %v", all)
		}
		// Nobody finds a parameter in the table.
		var found int
		if err := db.Reader().NewRaw(`SELECT count(*) FROM audit_entry WHERE resources LIKE '%secretparameter%'`).Scan(t.Context(), &found); err != nil || found != 0 {
			t.Errorf("%d entries hold a parameter, %v", found, err)
		}
	})
}

func TestBadQueries(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	now := time.Now().Unix()
	for name, q := range map[string]struct {
		p    P
		code retcode.Code
	}{
		"no time":              {P{}, retcode.MissingParameter},
		"no end":               {P{"BeginTime": now}, retcode.MissingParameter},
		"no number":            {P{"BeginTime": "yesterday", "EndTime": now}, retcode.InvalidParameterFormat},
		"no whole number":      {P{"BeginTime": "1.5", "EndTime": now}, retcode.InvalidParameterFormat},
		"backwards":            {P{"BeginTime": now, "EndTime": now - 1}, retcode.InvalidParameter},
		"negative":             {P{"BeginTime": -1, "EndTime": now}, retcode.InvalidParameter},
		"beyond all time":      {P{"BeginTime": "9223372036854775806", "EndTime": "9223372036854775807"}, retcode.InvalidParameter},
		"more than six months": {P{"BeginTime": now - 185*24*3600, "EndTime": now}, retcode.InvalidParameter},
		"neither yes nor no":   {P{"BeginTime": now, "EndTime": now, "IsSuccess": "maybe"}, retcode.InvalidParameter},
		"a page too long":      {P{"BeginTime": now, "EndTime": now, "Limit": 101}, retcode.InvalidParameter},
		"a page of letters":    {P{"BeginTime": now, "EndTime": now, "Limit": "all"}, retcode.InvalidParameterFormat},
		"before the start":     {P{"BeginTime": now, "EndTime": now, "Offset": -1}, retcode.InvalidParameter},
	} {
		t.Run(name, func(t *testing.T) { c.Demo.Refuse(t, q.code, "DescribeOPLogs", q.p) })
	}
}

func TestRetention(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	c.Demo.Refuse(t, retcode.VMNotFound, "StartVMInstance", P{"VMID": "vm-x"})
	count := func() (n int) {
		if err := c.DB.Reader().NewRaw(`SELECT count(*) FROM audit_entry`).Scan(t.Context(), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	c.Clock.Advance(c.Catalog.Config.AuditRetention(t.Context()) - time.Hour)
	if err := c.Audit.Sweep(t.Context()); err != nil || count() != 1 {
		t.Fatalf("before its time %d entries are left, %v", count(), err)
	}
	c.Clock.Advance(2 * time.Hour) // the reconciler sees it by itself
	controllertest.Eventually(t, 10*time.Second, "the entry is gone", func() bool { return count() == 0 })
}

// TestExport: the link of an export gives a workbook of the same entries; a changed or an ended link gives nothing.
func TestExport(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	for range 3 {
		c.Demo.Refuse(t, retcode.VMNotFound, "StartVMInstance", P{"VMID": "vm-x"})
	}
	other := c.NewTenant(t)
	other.Refuse(t, retcode.VMNotFound, "StopVMInstance", P{"VMID": "vm-y"})
	q := P{"BeginTime": time.Now().Add(-time.Hour).Unix(), "EndTime": time.Now().Add(time.Hour).Unix(), "IsSuccess": "No"}
	r := c.Demo.Must(t, "ExportOPLogs", q)
	get := func(url string) (int, []byte) {
		t.Helper()
		w, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Body.Close()
		b, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		return w.StatusCode, b
	}
	url := r.String("URL")
	status, body := get(url)
	if status != http.StatusOK || !strings.HasSuffix(r.String("FileName"), ".xlsx") {
		t.Fatalf("%d from %s", status, r.String("FileName"))
	}
	book, err := excelize.OpenReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := book.GetRows("oplogs")
	if err != nil || len(rows) != 4 || rows[0][1] != "Action" || rows[1][1] != "StartVMInstance" || rows[1][3] != c.Demo.Email {
		t.Fatalf("the sheet: %v, %v", rows, err)
	}
	if status, _ := get(url[:len(url)-60] + "AAAA" + url[len(url)-56:]); status != http.StatusNotFound {
		t.Errorf("a changed link answers %d", status)
	}
	c.Clock.Advance(16 * time.Minute)
	if status, _ := get(url); status != http.StatusGone {
		t.Errorf("an ended link answers %d", status)
	}
	c.Demo.Refuse(t, retcode.InvalidParameter, "ExportOPLogs", P{"BeginTime": 1, "EndTime": 1 << 40})
}

// TestHostileTextIsRecorded: a refused call leaves its entry whatever it brought.
func TestHostileTextIsRecorded(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		c.Demo.Refuse(t, retcode.InvalidParameterFormat, "StartVMInstance", P{"VMID": "vm-x", "Region": "a\x00b"})
		if n := len(logs(t, c.Demo, P{"Region": "", "IsSuccess": "No"})); n != 1 {
			t.Errorf("%d entries", n)
		}
	})
}
