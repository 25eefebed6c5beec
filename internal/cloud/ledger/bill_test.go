package ledger_test

import (
	"bytes"
	"encoding/csv"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// fetch reads a link as a browser does.
func fetch(t *testing.T, url string) []byte {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", url, r.StatusCode, text, err)
	}
	return text
}

// TestBills: the same money by product, by resource and by order, in the answers and in the files.
func TestBills(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		w := start(t, db)
		w.pay(t, 1000)
		eip := func(name, chargeType string) string {
			return w.poor.Must(t, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": chargeType, "Name": name}).String("EIPID")
		}
		month := eip("=HYPERLINK(1)", "Month")
		hour := eip("hour", "Dynamic")
		w.poor.Must(t, "RenewResource", P{"ResourceID": hour})
		now := w.Clock.Now()
		span := P{"Region": "", "BeginTime": now.Add(-time.Hour).Unix(), "EndTime": now.Add(time.Minute).Unix()}
		with := func(more P) P {
			p := P{}
			for _, from := range []P{span, more} {
				for k, v := range from {
					p[k] = v
				}
			}
			return p
		}
		over := P{"Region": "", "CycleCount": 2, "CycleUnit": "month", "Dimension": "product"}
		months := w.poor.Must(t, "DescribeBillOverView", over).Infos()
		if len(months) != 2 || !near(number(t, months[1].String("Total")), 30.084) || !near(number(t, months[0].String("Total")), 0) {
			t.Fatalf("months: %v", months)
		}
		if d := months[1].List("Details"); len(d) != 1 || d[0].String("Key") != "EIP" || !near(number(t, d[0].String("TotalReal")), 30.084) {
			t.Errorf("by product: %v", d)
		}
		for dimension, want := range map[string]string{"charge": "Month", "order": "BUY", "region": "cn", "account": w.poor.Email} {
			over["Dimension"] = dimension
			d := w.poor.Must(t, "DescribeBillOverView", over).Infos()[1].List("Details")
			if len(d) == 0 || d[0].String("Name") != want {
				t.Errorf("by %s: %v", dimension, d)
			}
		}
		for order, first := range map[[2]string]float64{{"", "Ascending"}: 0, {"", "Descending"}: 30.084, {"Total", ""}: 30.084, {"Total", "Ascending"}: 0} {
			over["SortBy"], over["Sort"] = order[0], order[1]
			if m := w.poor.Must(t, "DescribeBillOverView", over).Infos(); !near(number(t, m[0].String("Total")), first) {
				t.Errorf("sorted by %q %q: %v", order[0], order[1], m)
			}
		}
		over["Dimension"], over["SortBy"], over["Sort"] = "project", "", ""
		w.poor.Must(t, "DescribeBillOverView", over)

		resources := w.poor.Must(t, "DescribeBillResource", span)
		if resources.Int("TotalCount") != 2 || resources.Infos()[0].String("ResourceID") != month || !near(number(t, resources.Infos()[1].String("Total")), 0.084) {
			t.Errorf("by resource: %v", resources.Body)
		}
		if r := w.poor.Must(t, "DescribeBillResource", with(P{"Sort": "Ascending", "Limit": 1})); r.Int("TotalCount") != 2 || r.Infos()[0].String("ResourceID") != hour {
			t.Errorf("the cheapest first: %v", r.Body)
		}
		if n := w.poor.Must(t, "DescribeBillDetail", with(P{"ChargeTypes": []string{"Hour"}})).Int("TotalCount"); n != 2 {
			t.Errorf("%d hourly orders", n)
		}
		if n := w.poor.Must(t, "DescribeBillDetail", with(P{"OrderTypes": []string{"RENEW"}, "ProductTypes": []string{"EIP"}})).Int("TotalCount"); n != 1 {
			t.Errorf("%d renewals", n)
		}
		w.poor.Refuse(t, retcode.InvalidParameter, "DescribeBillDetail", with(P{"BeginTime": now.Add(-90 * 24 * time.Hour).Unix()}))
		w.poor.Refuse(t, retcode.AdminOnly, "DescribeBillDetail", with(P{"CompanyIDs": []int{int(w.Demo.Company)}}))
		if n := w.Admin.Must(t, "DescribeBillDetail", with(P{"CompanyIDs": []int{int(w.poor.Company)}})).Int("TotalCount"); n != 3 {
			t.Errorf("the administrator sees %d of the tenant's orders", n)
		}
		if n := w.Demo.Must(t, "DescribeBillDetail", span).Int("TotalCount"); n != 0 {
			t.Errorf("another tenant sees %d", n)
		}

		// Files hold the same.
		for _, kind := range []string{"OverView", "Resource", "Detail", "Order", "Transaction", "Recharge"} {
			answer := w.poor.Must(t, "ExportBill", with(P{"BillType": kind}))
			book, err := excelize.OpenReader(bytes.NewReader(fetch(t, answer.String("URL"))))
			if err != nil {
				t.Fatal(kind, err)
			}
			rows, err := book.GetRows(kind)
			want := map[string]int{"OverView": 1, "Resource": 2, "Detail": 3, "Order": 3, "Transaction": 4, "Recharge": 1}[kind]
			if err != nil || len(rows) != want+1 {
				t.Errorf("%s has %d rows, %v", kind, len(rows), err)
			}
			if !strings.HasSuffix(answer.String("FileName"), ".xlsx") {
				t.Error(answer.Body)
			}
		}
		column := func(p P, name string) (values []string) {
			t.Helper()
			text := fetch(t, w.poor.Must(t, "ExportBill", with(p)).String("URL"))
			rows, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows[1:] {
				values = append(values, row[slices.Index(rows[0], name)])
			}
			return values
		}
		down := column(P{"BillType": "Detail", "Format": "csv"}, "OrderNo")
		up := column(P{"BillType": "Detail", "Format": "csv", "Sort": "Ascending"}, "OrderNo")
		if slices.Reverse(up); len(up) != 3 || !slices.Equal(up, down) {
			t.Errorf("the oldest first: %v, the newest first: %v", up, down)
		}
		w.poor.Refuse(t, retcode.InvalidParameter, "ExportBill", with(P{"BillType": "Detail", "SortBy": "Total"}))
		if got := column(P{"BillType": "Transaction", "Format": "csv", "Regions": []string{"cn"}}, "TransactionType"); len(got) != 3 {
			t.Errorf("transactions of a region: %v", got)
		}
		w.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "Currency", "ConfigValue": "USD"})
		text := fetch(t, w.poor.Must(t, "ExportBill", with(P{"BillType": "Resource", "Format": "csv"})).String("URL"))
		rows, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))).ReadAll()
		if err != nil || len(rows) != 3 || rows[1][0] != month || rows[1][1] != "'=HYPERLINK(1)" || rows[0][len(rows[0])-1] != "Currency" || rows[2][len(rows[2])-1] != "USD" {
			t.Errorf("CSV: %v %v", rows, err)
		}
		w.poor.Refuse(t, retcode.AdminOnly, "ExportBill", with(P{"BillType": "Withdraw"}))
		fetch(t, w.Admin.Must(t, "ExportBill", with(P{"BillType": "Withdraw"})).String("URL"))
		w.Admin.Must(t, "ExportBill", with(P{"BillType": "Order"}))
	})
}
