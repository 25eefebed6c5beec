package ledger

import (
	"context"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
)

type describeRechargeRequest struct {
	window
	FromType      string `doc:"where the money came from"`
	RechargeType  string `doc:"FREE, REAL"`
	UserAccountID int64  `doc:"tenant id"`
	action.Tenant
	action.Page
}

type rechargeInfo struct {
	TransactonNO string `doc:"spelled so"`
	SerialNo     string
	AccountID    int64
	AccountName  string
	CompanyID    int64
	CompanyName  string
	Email        string
	FromType     string
	RechargeType string
	TradeAmount  float64 `doc:"yuan"`
	CreateTime   int64
	UpdateTime   int64
}

type describeRechargeResponse struct {
	Infos      []rechargeInfo
	TotalCount int
}

func (s *Service) describeRecharge(ctx context.Context, c *action.Call, q *describeRechargeRequest) (*describeRechargeResponse, error) {
	scope, err := tenantFilter(c, action.Scope{Company: c.Company}, q.UserAccountID)
	if err != nil {
		return nil, err
	}
	var rows []recharge
	sel, err := q.within(identity.Own(s.DB.Reader().NewSelect().Model(&rows), scope))
	if err != nil {
		return nil, err
	}
	if q.FromType != "" {
		sel = sel.Where("from_type = ?", trimFrom(q.FromType))
	}
	if q.RechargeType != "" {
		sel = sel.Where("type = ?", q.RechargeType)
	}
	out := &describeRechargeResponse{}
	if out.TotalCount, err = page(ctx, sel, q.Page); err != nil {
		return nil, err
	}
	out.Infos, err = s.rechargeInfos(ctx, rows)
	return out, err
}

func (s *Service) rechargeInfos(ctx context.Context, rows []recharge) ([]rechargeInfo, error) {
	who, err := s.people(ctx, column(rows, func(r *recharge) int64 { return r.Company }))
	if err != nil {
		return nil, err
	}
	var out []rechargeInfo
	for _, r := range rows {
		i := rechargeInfo{TransactonNO: r.Trade, AccountID: r.Account, AccountName: r.Email, CompanyID: r.Company, CompanyName: who[r.Company].Name,
			Email: who[r.Company].Email, FromType: r.FromType, RechargeType: r.Type, TradeAmount: r.Amount.Float(), CreateTime: seconds(r.CreatedAt), UpdateTime: seconds(r.CreatedAt)}
		if r.Serial != nil {
			i.SerialNo = *r.Serial
		}
		out = append(out, i)
	}
	return out, nil
}

type describeWithdrawRequest struct {
	BeginTime      int64   `validate:"min=0" doc:"unix seconds"`
	EndTime        int64   `validate:"min=0" doc:"unix seconds"`
	CompanyIDs     []int64 `doc:"tenants"`
	SrcAccountType string  `validate:"omitempty,oneof=FREE REAL" doc:"balance"`
	action.Page
}

type withdrawInfo struct {
	WithdrawNo     string
	TransactonNo   string
	CompanyID      int64
	Email          string
	SrcAccountType string
	Amount         float64 `doc:"yuan"`
	OpertatorName  string  `doc:"spelled so"`
	CreateTime     int64
}

type describeWithdrawResponse struct {
	Infos      []withdrawInfo
	TotalCount int
}

func (s *Service) describeWithdraw(ctx context.Context, _ *action.Call, q *describeWithdrawRequest) (*describeWithdrawResponse, error) {
	if q.EndTime == 0 {
		q.EndTime = s.Clock.Now().Add(time.Hour).Unix()
	}
	var rows []withdrawal
	sel, err := window{q.BeginTime, q.EndTime}.within(s.DB.Reader().NewSelect().Model(&rows))
	if err != nil {
		return nil, err
	}
	if len(q.CompanyIDs) > 0 {
		sel = sel.Where("company IN (?)", bun.In(q.CompanyIDs))
	}
	if q.SrcAccountType != "" {
		sel = sel.Where("source = ?", q.SrcAccountType)
	}
	out := &describeWithdrawResponse{}
	if out.TotalCount, err = page(ctx, sel, q.Page); err != nil {
		return nil, err
	}
	out.Infos, err = s.withdrawInfos(ctx, rows)
	return out, err
}

func (s *Service) withdrawInfos(ctx context.Context, rows []withdrawal) ([]withdrawInfo, error) {
	who, err := s.people(ctx, column(rows, func(w *withdrawal) int64 { return w.Company }))
	if err != nil {
		return nil, err
	}
	var out []withdrawInfo
	for _, w := range rows {
		out = append(out, withdrawInfo{WithdrawNo: w.ID, TransactonNo: w.Trade, CompanyID: w.Company, Email: who[w.Company].Email, SrcAccountType: w.Source,
			Amount: w.Amount.Float(), OpertatorName: w.Email, CreateTime: seconds(w.CreatedAt)})
	}
	return out, nil
}

// trimFrom names a source of money as newer clients do.
func trimFrom(source string) string { return strings.TrimPrefix(source, "INPOUR_FROM_") }
