package ledger

import (
	"cmp"
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) orderActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeOrder", Module: "billing", Region: action.RegionOptional,
			Summary: "List orders."}, s.describeOrder),
		action.Define(action.Spec{Name: "DescribeTransaction", Module: "billing", Region: action.RegionOptional,
			Summary: "List balance movements."}, s.describeTransaction),
	}
}

// window is a span of time, in unix seconds.
type window struct {
	BeginTime int64 `validate:"required,min=0" doc:"unix seconds"`
	EndTime   int64 `validate:"required,min=0" doc:"unix seconds"`
}

// within narrows a query to a window: 113 when it ends before it begins. The end is part of it.
func (w window) within(q *bun.SelectQuery) (*bun.SelectQuery, error) {
	if w.EndTime < w.BeginTime || w.EndTime > 1<<40 {
		return nil, retcode.InvalidParameter.Errorf("EndTime must not be before BeginTime")
	}
	return q.Where("created_at >= ? AND created_at < ?", w.BeginTime*1e6, (w.EndTime+1)*1e6), nil
}

// tenantFilter narrows a call to one tenant: 111 when it may not see that one.
func tenantFilter(c *action.Call, scope action.Scope, company int64) (action.Scope, error) {
	if company == 0 || company == scope.Company {
		return scope, nil
	}
	if scope.Company != 0 {
		return scope, retcode.AdminOnly.Errorf("only administrators see other tenants")
	}
	scope.Company = company
	return scope, nil
}

// people are the names of tenants, for lists.
func (s *Service) people(ctx context.Context, companies []int64) (map[int64]identity.Tenant, error) {
	return s.Identity.Tenants(ctx, distinct(companies))
}

// distinct are the values of a list, each once.
func distinct[T cmp.Ordered](values []T) []T {
	return slices.Compact(slices.Sorted(slices.Values(values)))
}

// regionNames are the names of regions for people, for lists; that of none is empty.
func (s *Service) regionNames(ctx context.Context, regions []string) (map[string]string, error) {
	out := map[string]string{"": ""}
	for _, r := range distinct(regions) {
		if r == "" {
			continue
		}
		name, err := s.Catalog.RegionAlias(ctx, r)
		if err != nil {
			return nil, err
		}
		out[r] = name
	}
	return out, nil
}

func column[T any, V any](rows []T, of func(*T) V) []V {
	out := make([]V, len(rows))
	for i := range rows {
		out[i] = of(&rows[i])
	}
	return out
}

// page reads the rows of one page, the newest first, and how many there are in all.
func page(ctx context.Context, q *bun.SelectQuery, p action.Page) (int, error) {
	n, err := q.OrderExpr("created_at DESC, id DESC").Offset(int64(p.Offset)).Limit(int64(p.Limit)).ScanAndCount(ctx)
	return int(n), err
}

func seconds(micros int64) int64 { return micros / 1e6 }

// wireCharge names charge types as orders and prices show them.
func wireCharge(chargeType string) string {
	if chargeType == Hourly {
		return "Hour"
	}
	return chargeType
}

// fromWire is wireCharge backwards, for filters; both spellings count.
func fromWire(types []string) []string {
	out := slices.Clone(types)
	for i, t := range out {
		if t == "Hour" {
			out[i] = Hourly
		}
	}
	return out
}

type orderRequest struct {
	window
	UserAccountID int64    `doc:"tenant id"`
	ProjectIDs    []string `doc:"project group ids"`
	OrderTypes    []string `validate:"dive,oneof=BUY RENEW UPGRADE DOWNGRADE REFUND" doc:"types of orders"`
	ResourceID    string   `doc:"resource id"`
	OrderNo       string   `doc:"number of one order"`
	action.Page
}

type orderInfo struct {
	OrderNO      string
	OrderType    string
	ResourceID   string
	ResourceName string
	ChargeType   string  `doc:"Hour, Month, Year"`
	AmountTotal  float64 `doc:"yuan; below 0: paid back"`
	AmountReal   float64 `doc:"of it from the external balance"`
	AmountFree   float64 `doc:"of it from the platform's gifts"`
	CompanyID    int64
	CompanyName  string
	Email        string
	Region       string
	RegionAlias  string
	OrderDetails []orderDetail
	CreateTime   int64
}

type orderDetail struct {
	ResourceID  string
	ProductName string
	Property    string `doc:"set type or segment"`
	Quantity    int64  `doc:"cores, GB, Mb or cards"`
	Factor      int    `doc:"periods"`
	Unit        string
}

type orderResponse struct {
	Infos      []orderInfo
	TotalCount int
}

// visible are the states of orders that people see.
var visible = bun.In([]string{done, closed, daily})

func (s *Service) describeOrder(ctx context.Context, c *action.Call, q *orderRequest) (*orderResponse, error) {
	scope, err := tenantFilter(c, c.Scope(), q.UserAccountID)
	if err != nil {
		return nil, err
	}
	var rows []order
	sel, err := q.within(identity.Own(s.DB.Reader().NewSelect().Model(&rows), scope).Where("state IN (?)", visible))
	if err != nil {
		return nil, err
	}
	sel = anyOf(anyOf(sel, "project", q.ProjectIDs), "type", q.OrderTypes)
	if q.ResourceID != "" {
		sel = sel.Where("resource_id = ?", q.ResourceID)
	}
	if q.OrderNo != "" {
		sel = sel.Where("id = ?", q.OrderNo)
	}
	out := &orderResponse{}
	if out.TotalCount, err = page(ctx, sel, q.Page); err != nil {
		return nil, err
	}
	out.Infos, err = s.orderInfos(ctx, rows)
	return out, err
}

func (s *Service) orderInfos(ctx context.Context, rows []order) ([]orderInfo, error) {
	who, err := s.people(ctx, column(rows, func(o *order) int64 { return o.Company }))
	if err != nil {
		return nil, err
	}
	regions, err := s.regionNames(ctx, column(rows, func(o *order) string { return o.Region }))
	if err != nil {
		return nil, err
	}
	var out []orderInfo
	for _, o := range rows {
		info := orderInfo{OrderNO: o.ID, OrderType: o.Type, ResourceID: o.Resource, ResourceName: o.Name, ChargeType: wireCharge(o.ChargeType),
			AmountTotal: (o.PaidReal + o.PaidFree).Float(), AmountReal: o.PaidReal.Float(), AmountFree: o.PaidFree.Float(), CompanyID: o.Company,
			CompanyName: who[o.Company].Name, Email: who[o.Company].Email, Region: o.Region, RegionAlias: regions[o.Region], CreateTime: seconds(o.CreatedAt)}
		items, err := decode(o.Items)
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			info.OrderDetails = append(info.OrderDetails, orderDetail{ResourceID: o.Resource, ProductName: string(i.Factor), Property: i.Scope,
				Quantity: i.Amount, Factor: o.Quantity, Unit: unit(string(i.Factor))})
		}
		out = append(out, info)
	}
	return out, nil
}

// unit of a factor.
func unit(factor string) string {
	switch factor {
	case "CPU":
		return "core"
	case "EIP":
		return "Mb"
	case "GPU":
		return "card"
	}
	return "GB"
}

func anyOf(q *bun.SelectQuery, column string, values []string) *bun.SelectQuery {
	if len(values) == 0 {
		return q
	}
	return q.Where("? IN (?)", bun.Ident(column), bun.In(values))
}

type transactionRequest struct {
	window
	ProjectIDs      []string `doc:"project group ids"`
	TransactionType string   `validate:"omitempty,oneof=CHARGE RECHARGE REFUND WITHDRAW FREE_RECHARGE FREE_WITHDRAW" doc:"kind of movement"`
	UserAccountID   int64    `doc:"tenant id"`
	action.Page
}

type transactionInfo struct {
	TransactionNO      string
	TransactionType    int     `doc:"1: charge, 2: recharge, 3: refund, 4: withdrawal"`
	TradeNO            string  `doc:"number of the order, recharge or withdrawal"`
	IncomeAmount       float64 `doc:"yuan"`
	ExpenseAmount      float64
	BalanceSurplus     float64 `doc:"external balance after it"`
	FreeBalanceSurplus float64 `doc:"platform balance after it"`
	State              int     `doc:"1: done"`
	AccountID          int64   `doc:"who caused it; 0: the platform itself"`
	AccountName        string  `doc:"e-mail of that account"`
	CompanyID          int64
	CompanyName        string
	Email              string
	Region             string
	RegionAlias        string
	CreateTime         int64
}

type transactionResponse struct {
	Infos      []transactionInfo
	TotalCount int
}

var tradeNumbers = map[string]int{tradeCharge: 1, tradeRecharge: 2, tradeFreeRecharge: 2, tradeRefund: 3, tradeWithdraw: 4, tradeFreeWithdraw: 4}

func (s *Service) describeTransaction(ctx context.Context, c *action.Call, q *transactionRequest) (*transactionResponse, error) {
	scope, err := tenantFilter(c, c.Scope(), q.UserAccountID)
	if err != nil {
		return nil, err
	}
	var rows []trade
	region, regions := scope.Region, scope.Regions
	scope.Region, scope.Regions = "", nil
	sel, err := q.within(identity.Own(s.DB.Reader().NewSelect().Model(&rows), scope))
	if err != nil {
		return nil, err
	}
	if region != "" { // what is paid in and out belongs to no region
		sel = sel.Where("region IN (?, '')", region)
	}
	if regions != nil {
		sel = sel.Where("region IN (?)", bun.In(append(slices.Clone(regions), "")))
	}
	if sel = anyOf(sel, "project", q.ProjectIDs); q.TransactionType != "" {
		sel = sel.Where("type = ?", q.TransactionType)
	}
	out := &transactionResponse{}
	if out.TotalCount, err = page(ctx, sel, q.Page); err != nil {
		return nil, err
	}
	out.Infos, err = s.transactionInfos(ctx, rows)
	return out, err
}

func (s *Service) transactionInfos(ctx context.Context, rows []trade) ([]transactionInfo, error) {
	who, err := s.people(ctx, column(rows, func(t *trade) int64 { return t.Company }))
	if err != nil {
		return nil, err
	}
	names, err := s.Identity.Members(ctx, distinct(column(rows, func(t *trade) int64 { return t.Account })))
	if err != nil {
		return nil, err
	}
	regions, err := s.regionNames(ctx, column(rows, func(t *trade) string { return t.Region }))
	if err != nil {
		return nil, err
	}
	var out []transactionInfo
	for _, t := range rows {
		i := transactionInfo{TransactionNO: t.ID, TransactionType: tradeNumbers[t.Type], TradeNO: t.Order, IncomeAmount: max(0, t.Amount).Float(),
			ExpenseAmount: max(0, -t.Amount).Float(), BalanceSurplus: t.RealAfter.Float(), FreeBalanceSurplus: t.FreeAfter.Float(), State: 1, AccountID: t.Account, AccountName: names[t.Account],
			CompanyID: t.Company, CompanyName: who[t.Company].Name, Email: who[t.Company].Email, Region: t.Region, RegionAlias: regions[t.Region], CreateTime: seconds(t.CreatedAt)}
		out = append(out, i)
	}
	return out, nil
}
