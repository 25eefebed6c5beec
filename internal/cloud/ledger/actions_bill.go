package ledger

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) billActions() []action.Action {
	define := func(name, summary string) action.Spec {
		return action.Spec{Name: name, Module: "billing", Extension: true, Region: action.RegionNone, Summary: summary}
	}
	return []action.Action{
		action.Define(define("DescribeBillOverView", "Sum cost over periods by one dimension."), s.describeOverView),
		action.Define(define("DescribeBillResource", "Sum cost by resource."), s.describeBillResource),
		action.Define(define("DescribeBillDetail", "List every charge."), s.describeBillDetail),
		action.Define(define("ExportBill", "Write a list to a spreadsheet."), s.exportBill),
	}
}

// billFilter narrows bills. They count an order when it was paid.
type billFilter struct {
	CompanyIDs   []int64  `doc:"tenants, for administrators"`
	Regions      []string `doc:"regions"`
	ProjectIDs   []string `doc:"project group ids"`
	ProductTypes []string `doc:"products: VM, Disk, EIP, ..."`
	OrderTypes   []string `validate:"dive,oneof=BUY RENEW UPGRADE DOWNGRADE REFUND" doc:"types of orders"`
	ChargeTypes  []string `validate:"dive,oneof=Hour Month Year Dynamic" doc:"Hour, Month, Year"`
	Sort         string   `validate:"omitempty,oneof=Ascending Descending ASC DESC asc desc" doc:"Ascending or Descending, the default"`
	SortBy       string   `validate:"omitempty,oneof=Total CreateTime" doc:"Total or CreateTime, where the list has it"`
}

// narrow applies the filter to a query of orders, in the call's scope: 111 for another tenant.
func (f *billFilter) narrow(q *bun.SelectQuery, c *action.Call) (*bun.SelectQuery, error) {
	q = identity.Own(q, c.Scope()).Where("state IN (?)", visible)
	if len(f.CompanyIDs) > 0 {
		if own := c.Scope().Company; own != 0 && slices.ContainsFunc(f.CompanyIDs, func(id int64) bool { return id != own }) {
			return nil, retcode.AdminOnly.Errorf("only administrators see other tenants")
		}
		q = q.Where("company IN (?)", bun.In(f.CompanyIDs))
	}
	q = anyOf(anyOf(anyOf(q, "region", f.Regions), "project", f.ProjectIDs), "product", f.ProductTypes)
	return anyOf(anyOf(q, "type", f.OrderTypes), "charge_type", fromWire(f.ChargeTypes)), nil
}

func (f *billFilter) ascending() bool { return f.Sort != "" && (f.Sort[0] == 'A' || f.Sort[0] == 'a') }

// sums are what a bill says of a group of orders, in yuan.
type sums struct {
	Total     float64 `doc:"yuan"`
	TotalFree float64 `doc:"of it from the platform's gifts"`
	TotalReal float64 `doc:"of it from the external balance"`
}

func sum(r, f Money) sums {
	return sums{Total: (r + f).Float(), TotalFree: f.Float(), TotalReal: r.Float()}
}

type overViewRequest struct {
	CycleCount int    `validate:"required,min=1,max=6" doc:"how many periods, the last one that of EndTime"`
	CycleUnit  string `validate:"required,oneof=hour day week month year" doc:"length of a period"`
	Dimension  string `validate:"required,oneof=product region project order charge account" doc:"what the details are by"`
	BeginTime  int64  `validate:"min=0" doc:"unix seconds; earlier orders do not count"`
	EndTime    int64  `validate:"min=0" doc:"unix seconds, default now"`
	billFilter
	action.Page
}

type overViewInfo struct {
	BeginTime int64
	EndTime   int64
	sums
	Details []overViewDetail
}

type overViewDetail struct {
	Key  string
	Name string
	sums
}

type overViewResponse struct {
	Infos      []overViewInfo
	TotalCount int
}

// dimensions are columns of orders.
var dimensions = map[string]string{"product": "product", "region": "region", "project": "project", "order": "type", "charge": "charge_type", "account": "company"}

func (s *Service) describeOverView(ctx context.Context, c *action.Call, q *overViewRequest) (*overViewResponse, error) {
	out := &overViewResponse{}
	infos, err := s.overView(ctx, c, q)
	if err != nil {
		return nil, err
	}
	out.TotalCount = len(infos)
	out.Infos = infos[min(q.Offset, len(infos)):min(q.Offset+q.Limit, len(infos))]
	return out, nil
}

func (s *Service) overView(ctx context.Context, c *action.Call, q *overViewRequest) ([]overViewInfo, error) {
	end := s.Clock.Now()
	if q.EndTime != 0 {
		if q.EndTime > 1<<40 || q.EndTime < q.BeginTime {
			return nil, retcode.InvalidParameter.Errorf("EndTime must not be before BeginTime")
		}
		end = unixTime(q.EndTime)
	}
	var infos []overViewInfo
	for _, span := range cycles(end.In(s.zone(s.homeRegion(c))), q.CycleUnit, q.CycleCount) {
		info := overViewInfo{BeginTime: span[0].Unix(), EndTime: span[1].Unix()}
		var rows []struct {
			Key  string `bun:"key"`
			Real Money  `bun:"paid_real"`
			Free Money  `bun:"paid_free"`
		}
		sel, err := q.narrow(s.DB.Reader().NewSelect().TableExpr("ledger_order"), c)
		if err != nil {
			return nil, err
		}
		if err := sel.Where("created_at >= ? AND created_at < ?", max(span[0].UnixMicro(), q.BeginTime*1e6), min(span[1].UnixMicro(), end.UnixMicro()+1e6)).
			ColumnExpr("CAST(? AS TEXT) AS key", bun.Ident(dimensions[q.Dimension])).
			ColumnExpr("CAST(SUM(paid_real) AS BIGINT) AS paid_real, CAST(SUM(paid_free) AS BIGINT) AS paid_free").
			GroupExpr("?", bun.Ident(dimensions[q.Dimension])).Scan(ctx, &rows); err != nil {
			return nil, err
		}
		slices.SortFunc(rows, func(a, b struct {
			Key  string `bun:"key"`
			Real Money  `bun:"paid_real"`
			Free Money  `bun:"paid_free"`
		}) int {
			return cmp.Or(cmp.Compare(b.Real+b.Free, a.Real+a.Free), cmp.Compare(a.Key, b.Key))
		})
		var r, f Money
		for _, row := range rows {
			r, f = r+row.Real, f+row.Free
			d := overViewDetail{Key: row.Key, Name: row.Key, sums: sum(row.Real, row.Free)}
			switch q.Dimension {
			case "charge":
				d.Key = wireCharge(row.Key)
				d.Name = d.Key
			case "account":
				id, err := strconv.ParseInt(row.Key, 10, 64)
				if err != nil {
					return nil, err
				}
				who, err := s.people(ctx, []int64{id})
				if err != nil {
					return nil, err
				}
				d.Name = who[id].Email
			}
			info.Details = append(info.Details, d)
		}
		info.sums = sum(r, f)
		infos = append(infos, info)
	}
	q.sort(infos)
	if q.Dimension == "project" {
		return infos, s.nameProjects(ctx, infos)
	}
	return infos, nil
}

// sort puts periods, which come the earliest first, in the order that is asked for; by their total the largest first.
func (q *overViewRequest) sort(infos []overViewInfo) {
	if q.SortBy == "Total" {
		slices.SortStableFunc(infos, func(a, b overViewInfo) int { return cmp.Compare(a.Total, b.Total) })
	}
	if q.SortBy == "Total" && !q.ascending() || q.SortBy != "Total" && q.Sort != "" && !q.ascending() {
		slices.Reverse(infos)
	}
}

func (s *Service) nameProjects(ctx context.Context, infos []overViewInfo) error {
	var ids []string
	for _, i := range infos {
		for _, d := range i.Details {
			ids = append(ids, d.Key)
		}
	}
	names, err := s.projectNames(ctx, ids)
	for i := range infos {
		for j := range infos[i].Details {
			d := &infos[i].Details[j]
			if name := names[d.Key]; name != "" {
				d.Name = name
			}
		}
	}
	return err
}

func (s *Service) projectNames(ctx context.Context, ids []string) (map[string]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return s.Identity.ProjectNames(ctx, distinct(ids))
}

// span is a time that bills of resources and details are about: at most two months.
type span struct {
	BeginTime int64 `validate:"required,min=0" doc:"unix seconds"`
	EndTime   int64 `validate:"required,min=0" doc:"unix seconds, at most two months after BeginTime"`
}

const twoMonths = 62 * 24 * 3600 // seconds

func (p span) check() error {
	if p.EndTime < p.BeginTime || p.EndTime-p.BeginTime > twoMonths {
		return retcode.InvalidParameter.Errorf("EndTime is at most two months after BeginTime")
	}
	return nil
}

type billResourceRequest struct {
	span
	ResourceIDs []string `doc:"resource ids"`
	billFilter
	action.Page
}

type billResourceInfo struct {
	ResourceID   string
	ResourceName string
	ProductType  string
	ProjectID    string
	ProjectName  string
	Region       string
	ChargeType   string
	CompanyID    int64
	Email        string
	sums
}

type billResourceResponse struct {
	Infos      []billResourceInfo
	TotalCount int
}

func (s *Service) describeBillResource(ctx context.Context, c *action.Call, q *billResourceRequest) (*billResourceResponse, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	infos, n, err := s.billResources(ctx, c, q, q.Page)
	return &billResourceResponse{Infos: infos, TotalCount: n}, err
}

func (s *Service) billResources(ctx context.Context, c *action.Call, q *billResourceRequest, p action.Page) ([]billResourceInfo, int, error) {
	type group struct {
		Resource   string `bun:"resource_id"`
		Company    int64  `bun:"company"`
		Name       string `bun:"name"`
		Product    string `bun:"product"`
		Project    string `bun:"project"`
		Region     string `bun:"region"`
		ChargeType string `bun:"charge_type"`
		Real       Money  `bun:"paid_real"`
		Free       Money  `bun:"paid_free"`
	}
	groups := func() (*bun.SelectQuery, error) {
		sel, err := q.narrow(s.DB.Reader().NewSelect().TableExpr("ledger_order"), c)
		if err != nil {
			return nil, err
		}
		sel, err = window(q.span).within(sel)
		if err != nil {
			return nil, err
		}
		return anyOf(sel, "resource_id", q.ResourceIDs), nil
	}
	counted, err := groups()
	if err != nil {
		return nil, 0, err
	}
	var n int
	if err := counted.ColumnExpr("COUNT(DISTINCT resource_id)").Scan(ctx, &n); err != nil || p.Limit == 0 {
		return nil, n, err
	}
	sel, err := groups()
	if err != nil {
		return nil, 0, err
	}
	order := "SUM(paid_real + paid_free)"
	if q.SortBy == "CreateTime" {
		order = "MAX(created_at)"
	}
	if q.ascending() {
		order += " ASC"
	} else {
		order += " DESC"
	}
	var rows []group
	// A resource that changed its name, group or charge type meanwhile is one line all the same.
	if err := sel.ColumnExpr("resource_id, company, MAX(name) AS name, MAX(product) AS product, MAX(project) AS project, MAX(region) AS region, MAX(charge_type) AS charge_type").
		ColumnExpr("CAST(SUM(paid_real) AS BIGINT) AS paid_real, CAST(SUM(paid_free) AS BIGINT) AS paid_free").
		GroupExpr("resource_id, company").OrderExpr(order+", resource_id").Offset(int64(p.Offset)).Limit(int64(p.Limit)).Scan(ctx, &rows); err != nil {
		return nil, 0, err
	}
	who, err := s.people(ctx, column(rows, func(g *group) int64 { return g.Company }))
	if err != nil {
		return nil, 0, err
	}
	projects, err := s.projectNames(ctx, column(rows, func(g *group) string { return g.Project }))
	if err != nil {
		return nil, 0, err
	}
	var out []billResourceInfo
	for _, g := range rows {
		out = append(out, billResourceInfo{ResourceID: g.Resource, ResourceName: g.Name, ProductType: g.Product, ProjectID: g.Project, ProjectName: projects[g.Project],
			Region: g.Region, ChargeType: wireCharge(g.ChargeType), CompanyID: g.Company, Email: who[g.Company].Email, sums: sum(g.Real, g.Free)})
	}
	return out, n, nil
}

type billDetailRequest struct {
	span
	billFilter
	action.Page
}

type billDetailInfo struct {
	OrderNo      string
	ResourceID   string
	ResourceName string
	ProductType  string
	OrderType    string
	ChargeType   string
	ProjectID    string
	ProjectName  string
	Region       string
	CompanyID    int64
	Email        string
	sums
	BeginTime  int64 `doc:"of what was paid for"`
	EndTime    int64
	CreateTime int64
}

type billDetailResponse struct {
	Infos      []billDetailInfo
	TotalCount int
}

func (s *Service) describeBillDetail(ctx context.Context, c *action.Call, q *billDetailRequest) (*billDetailResponse, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	var rows []order
	sel, err := q.narrow(s.DB.Reader().NewSelect().Model(&rows), c)
	if err != nil {
		return nil, err
	}
	if sel, err = window(q.span).within(sel); err != nil {
		return nil, err
	}
	by := "created_at"
	if q.SortBy == "Total" {
		by = "paid_real + paid_free"
	}
	if !q.ascending() {
		by += " DESC"
	}
	out := &billDetailResponse{}
	n, err := sel.OrderExpr(by + ", id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).ScanAndCount(ctx)
	if err != nil {
		return nil, err
	}
	out.TotalCount = int(n)
	out.Infos, err = s.billDetails(ctx, rows)
	return out, err
}

func (s *Service) billDetails(ctx context.Context, rows []order) ([]billDetailInfo, error) {
	who, err := s.people(ctx, column(rows, func(o *order) int64 { return o.Company }))
	if err != nil {
		return nil, err
	}
	projects, err := s.projectNames(ctx, column(rows, func(o *order) string { return o.Project }))
	if err != nil {
		return nil, err
	}
	var out []billDetailInfo
	for _, o := range rows {
		out = append(out, billDetailInfo{OrderNo: o.ID, ResourceID: o.Resource, ResourceName: o.Name, ProductType: o.Product, OrderType: o.Type,
			ChargeType: wireCharge(o.ChargeType), ProjectID: o.Project, ProjectName: projects[o.Project], Region: o.Region, CompanyID: o.Company,
			Email: who[o.Company].Email, sums: sum(o.PaidReal, o.PaidFree), BeginTime: seconds(o.StartsAt), EndTime: seconds(o.EndsAt), CreateTime: seconds(o.CreatedAt)})
	}
	return out, nil
}
