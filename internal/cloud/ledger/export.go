package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/spreadsheet"
)

const (
	exportKind = "bill"
	exportLife = 24 * time.Hour
	// exportBatch is how many rows are read at once.
	exportBatch = 1000
)

type exportBillRequest struct {
	BillType  string `validate:"required,oneof=OverView Resource Detail Order Transaction Recharge Withdraw" doc:"what list"`
	BeginTime int64  `validate:"required,min=0" doc:"unix seconds"`
	EndTime   int64  `validate:"required,min=0" doc:"unix seconds; Resource and Detail: at most two months after BeginTime"`
	Format    string `default:"xlsx" validate:"oneof=xlsx csv" doc:"kind of file"`
	CycleUnit string `default:"month" validate:"oneof=hour day week month year" doc:"with OverView, which has 6 of them"`
	Dimension string `default:"product" validate:"oneof=product region project order charge account" doc:"with OverView"`
	billFilter
	action.Page
}

type exportBillResponse struct {
	URL      string `doc:"holds for 24 hours"`
	FileName string
}

// exportArgs are what a link carries.
type exportArgs struct {
	Request  exportBillRequest
	Projects []string // of the caller; nil: all
	Regions  []string
}

// exportBill makes a link; the file is made when it is fetched. Offset and Limit do not count: the file has everything.
func (s *Service) exportBill(ctx context.Context, c *action.Call, q *exportBillRequest) (*exportBillResponse, error) {
	if s.Downloads == nil {
		return nil, retcode.InvalidParameter.Errorf("%s is not offered in this region", "ExportBill")
	}
	if _, err := q.narrow(s.DB.Reader().NewSelect().TableExpr("ledger_order"), c); err != nil {
		return nil, err
	}
	if q.BillType == "Withdraw" && !c.Caller.Admin {
		return nil, retcode.AdminOnly.Errorf("withdrawals are for administrators")
	}
	p := span{q.BeginTime, q.EndTime}
	if err := p.check(); err != nil && (q.BillType == "Resource" || q.BillType == "Detail" || q.EndTime < q.BeginTime) {
		return nil, err
	}
	if q.SortBy == "Total" && q.BillType != "Resource" && q.BillType != "OverView" {
		return nil, retcode.InvalidParameter.Errorf("files of %s are sorted by CreateTime", q.BillType)
	}
	if q.EndTime > 1<<40 {
		return nil, retcode.InvalidParameter.Errorf("EndTime must not be before BeginTime")
	}
	name := fmt.Sprintf("%s-%s-%s.%s", q.BillType, unixTime(q.BeginTime).UTC().Format("20060102"), unixTime(q.EndTime).UTC().Format("20060102"), q.Format)
	scope := c.Scope()
	url, err := s.Downloads.Link(c, exportKind, name, exportArgs{*q, scope.Projects, scope.Regions}, exportLife)
	return &exportBillResponse{URL: url, FileName: name}, err
}

// export writes the file of a link.
func (s *Service) export(ctx context.Context, w http.ResponseWriter, c *action.Call, raw json.RawMessage) error {
	var args exportArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return err
	}
	q := &args.Request
	c.Projects = args.Projects
	header, rows := s.billRows(ctx, c, q, action.Scope{Company: c.Company, Region: c.Region, Projects: args.Projects, Regions: args.Regions})
	header, rows = with(header, "Currency", rows, s.Catalog.Config.Currency(ctx))
	if q.Format == "csv" {
		w.Header().Set("Content-Type", spreadsheet.CSVType)
		return spreadsheet.CSV(w, header, rows)
	}
	w.Header().Set("Content-Type", spreadsheet.XLSXType)
	return spreadsheet.XLSX(w, q.BillType, header, rows)
}

// billRows are the table of a list: its columns are the fields of its answer.
func (s *Service) billRows(ctx context.Context, c *action.Call, q *exportBillRequest, scope action.Scope) ([]string, spreadsheet.Rows) {
	reader := s.DB.Reader()
	w := window{q.BeginTime, q.EndTime}
	orders := func() (*bun.SelectQuery, error) {
		sel, err := q.narrow(reader.NewSelect(), c)
		if err != nil {
			return nil, err
		}
		return w.within(sel)
	}
	own := func(scope action.Scope) func() (*bun.SelectQuery, error) {
		return func() (*bun.SelectQuery, error) {
			sel := identity.Own(reader.NewSelect(), scope)
			if len(q.CompanyIDs) > 0 {
				sel = sel.Where("company IN (?)", bun.In(q.CompanyIDs))
			}
			return w.within(sel)
		}
	}
	trades := func() (*bun.SelectQuery, error) {
		sel, err := own(action.Scope{Company: scope.Company, Projects: scope.Projects})()
		if err != nil {
			return nil, err
		}
		return anyOf(anyOf(sel, "region", q.Regions), "project", q.ProjectIDs), nil
	}
	up := q.ascending()
	company := action.Scope{Company: scope.Company}
	switch q.BillType {
	case "Detail":
		return fields[billDetailInfo](), pages(ctx, orders, up, func(o *order) (int64, string) { return o.CreatedAt, o.ID }, s.billDetails)
	case "Order":
		return fields[orderInfo](), pages(ctx, orders, up, func(o *order) (int64, string) { return o.CreatedAt, o.ID }, s.orderInfos)
	case "Transaction":
		return fields[transactionInfo](), pages(ctx, trades, up, func(t *trade) (int64, string) { return t.CreatedAt, t.ID }, s.transactionInfos)
	case "Recharge":
		return fields[rechargeInfo](), pages(ctx, own(company), up, func(r *recharge) (int64, string) { return r.CreatedAt, r.ID }, s.rechargeInfos)
	case "Withdraw":
		return fields[withdrawInfo](), pages(ctx, own(company), up, func(r *withdrawal) (int64, string) { return r.CreatedAt, r.ID }, s.withdrawInfos)
	case "Resource":
		return fields[billResourceInfo](), func(each func([]any) error) error {
			r := &billResourceRequest{span: span{q.BeginTime, q.EndTime}, billFilter: q.billFilter}
			for p := (action.Page{Limit: exportBatch}); ; p.Offset += exportBatch {
				infos, _, err := s.billResources(ctx, c, r, p)
				if err != nil {
					return err
				}
				if err := eachInfo(infos, each); err != nil || len(infos) < exportBatch {
					return err
				}
			}
		}
	}
	type line struct {
		BeginTime int64
		EndTime   int64
		Key       string
		Name      string
		sums
	}
	return fields[line](), func(each func([]any) error) error {
		infos, err := s.overView(ctx, c, &overViewRequest{CycleCount: 6, CycleUnit: q.CycleUnit, Dimension: q.Dimension, BeginTime: q.BeginTime, EndTime: q.EndTime, billFilter: q.billFilter})
		if err != nil {
			return err
		}
		var lines []line
		for _, i := range infos {
			for _, d := range i.Details {
				lines = append(lines, line{i.BeginTime, i.EndTime, d.Key, d.Name, d.sums})
			}
		}
		return eachInfo(lines, each)
	}
}

// pages reads rows in batches, the newest or with up the oldest first; of the newest first, later ones than the first read
// do not appear.
func pages[Row, Info any](ctx context.Context, query func() (*bun.SelectQuery, error), up bool, key func(*Row) (int64, string),
	infos func(context.Context, []Row) ([]Info, error)) spreadsheet.Rows {
	return func(each func([]any) error) error {
		last, id, beyond, direction := int64(1)<<62, "", "<", "DESC"
		if up {
			last, beyond, direction = -1, ">", "ASC"
		}
		for {
			var rows []Row
			sel, err := query()
			if err != nil {
				return err
			}
			if err := sel.Model(&rows).Where("(created_at "+beyond+" ? OR created_at = ? AND id "+beyond+" ?)", last, last, id).
				OrderExpr("created_at " + direction + ", id " + direction).
				Limit(exportBatch).Scan(ctx); err != nil {
				return err
			}
			list, err := infos(ctx, rows)
			if err != nil {
				return err
			}
			if err := eachInfo(list, each); err != nil || len(rows) < exportBatch {
				return err
			}
			last, id = key(&rows[len(rows)-1])
		}
	}
}

// with adds a column of one value to a table.
func with(header []string, name string, rows spreadsheet.Rows, value string) ([]string, spreadsheet.Rows) {
	return append(header, name), func(each func([]any) error) error {
		return rows(func(line []any) error { return each(append(line, value)) })
	}
}

// fields are the names of the plain fields of an answer's row, embedded ones, too.
func fields[T any]() (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		if !f.Anonymous && f.Type.Kind() != reflect.Slice {
			names = append(names, f.Name)
		}
	}
	return names
}

// eachInfo calls each with the plain fields of every row; times are dates for people.
func eachInfo[T any](rows []T, each func([]any) error) error {
	visible := reflect.VisibleFields(reflect.TypeFor[T]())
	for i := range rows {
		v := reflect.ValueOf(rows[i])
		var line []any
		for _, f := range visible {
			if f.Anonymous || f.Type.Kind() == reflect.Slice {
				continue
			}
			cell := v.FieldByIndex(f.Index).Interface()
			if t, ok := cell.(int64); ok && len(f.Name) > 4 && f.Name[len(f.Name)-4:] == "Time" {
				cell = unixTime(t).UTC().Format(time.DateTime)
			}
			line = append(line, cell)
		}
		if err := each(line); err != nil {
			return err
		}
	}
	return nil
}
