package ledger

import (
	"context"
	"math"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) moneyActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "Recharge", Module: "billing", Admin: true, System: true, Mutates: true, Region: action.RegionOptional,
			Summary: "Add money to the balance of a tenant."}, s.recharge),
		action.Define(action.Spec{Name: "DescribeRecharge", Module: "billing", Region: action.RegionNone,
			Summary: "List top-ups."}, s.describeRecharge),
		action.Define(action.Spec{Name: "Withdraw", Module: "billing", Admin: true, System: true, Mutates: true, Extension: true, Region: action.RegionNone,
			Summary: "Take money out of a balance."}, s.withdraw),
		action.Define(action.Spec{Name: "GetWithdrawableAmount", Module: "billing", Admin: true, System: true, Extension: true, Region: action.RegionNone,
			Summary: "Return what can be taken out."}, s.withdrawable),
		action.Define(action.Spec{Name: "DescribeWithdraw", Module: "billing", Admin: true, System: true, Extension: true, Region: action.RegionNone,
			Summary: "List withdrawals."}, s.describeWithdraw),
	}
}

type rechargeRequest struct {
	CompanyID    int64  `alias:"UserID" doc:"tenant to credit; needed"`
	Amount       int    `validate:"required,min=100,max=500000" doc:"yuan"`
	FromType     string `validate:"required" doc:"where the money came from: INPOUR_FROM_ and ALIPAY, OFFLINE, SINPAY or WECHAT_PAY, also without the prefix"`
	SerialNo     string `validate:"max=100" doc:"order number of the payment; needed unless it is a gift, may not repeat"`
	RechargeType int    `default:"1" validate:"oneof=1 2" doc:"1: paid in, 2: a gift of the platform"`
}

// sources of money that is paid in.
var sources = []string{"ALIPAY", "OFFLINE", "SINPAY", "WECHAT_PAY"}

type rechargeResponse struct {
	TransactonNo string `doc:"number of the transaction, spelled so"`
}

func (s *Service) recharge(ctx context.Context, c *action.Call, q *rechargeRequest) (*rechargeResponse, error) {
	r := recharge{Company: q.CompanyID, FromType: trimFrom(q.FromType), Type: real, Amount: Money(q.Amount) * 10000,
		Account: c.Caller.Account, Email: c.Caller.Email}
	if q.RechargeType == 2 {
		r.Type = free
	}
	if !slices.Contains(sources, r.FromType) {
		return nil, retcode.InvalidParameter.Errorf("FromType is INPOUR_FROM_ and one of %s", strings.Join(sources, ", "))
	}
	if q.CompanyID == 0 {
		return nil, retcode.MissingParameter.Errorf("CompanyID is required")
	}
	if serial := strings.TrimSpace(q.SerialNo); serial != "" {
		r.Serial = &serial
	} else if r.Type == real {
		return nil, retcode.MissingParameter.Errorf("SerialNo is required with RechargeType 1")
	}
	if err := s.Identity.CheckTenant(ctx, q.CompanyID); err != nil {
		return nil, err
	}
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.rechargeTx(ctx, tx, &r) })
	return &rechargeResponse{TransactonNo: r.Trade}, err
}

// inner is where the platform's own gifts come from.
const inner = "INNER"

// Grant gives a tenant a gift that is its first (yuan): again it does nothing. It is how a new cloud's tenants can try it.
func (s *Service) Grant(ctx context.Context, company int64, amount int) error {
	r := recharge{ID: database.NewID("recharge"), Company: company, FromType: inner, Type: free, Amount: Money(amount) * 10000}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		had, err := tx.NewSelect().Model((*recharge)(nil)).Where("company = ? AND from_type = ?", company, inner).Exists(ctx)
		if err != nil || had {
			return err
		}
		return s.rechargeTx(ctx, tx, &r)
	})
}

// rechargeTx pays in: 23000 no account, 23002 the order number was used.
func (s *Service) rechargeTx(ctx context.Context, tx bun.Tx, r *recharge) error {
	r.ID, r.CreatedAt = database.NewID("recharge"), s.Clock.Micros()
	if r.Serial != nil {
		// Looked up first, since a violated key ends the transaction on PostgreSQL; the key decides.
		used, err := tx.NewSelect().Model((*recharge)(nil)).Where("serial = ?", *r.Serial).Exists(ctx)
		if err != nil {
			return err
		}
		if used {
			return duplicate(r)
		}
	}
	p, err := lock(ctx, tx, r.Company)
	if err != nil {
		return err
	}
	t := trade{ID: database.NewID("trade"), Company: r.Company, Type: tradeRecharge, Order: r.ID, Amount: r.Amount, Account: r.Account, CreatedAt: r.CreatedAt}
	m := move{r.ID, outside, real, r.Amount, r.ID}
	if p.Real += r.Amount; r.Type == free {
		p.Real -= r.Amount
		p.Free += r.Amount
		t.Type, m.source, m.target = tradeFreeRecharge, gifts, free
	}
	t.RealAfter, t.FreeAfter, r.Trade = p.Real+p.HeldReal, p.Free+p.HeldFree, t.ID
	if _, err := tx.NewInsert().Model(r).Exec(ctx); database.IsUnique(err) {
		return duplicate(r)
	} else if err != nil {
		return err
	}
	return s.book(ctx, tx, r.Company, []trade{t}, []move{m})
}

func duplicate(r *recharge) error {
	return retcode.DuplicateSerialNo.Errorf("SerialNo %s was used", *r.Serial)
}

type withdrawRequest struct {
	CompanyID      int64   `validate:"required" doc:"tenant"`
	SrcAccountType string  `validate:"required,oneof=FREE REAL" doc:"REAL: what was paid in, FREE: the platform's gifts"`
	WithdrawAmount float64 `validate:"required,gt=0,max=100000000" doc:"yuan, above 0, at most two decimals"`
}

func (s *Service) withdraw(ctx context.Context, c *action.Call, q *withdrawRequest) (*rechargeResponse, error) {
	cents := math.Round(q.WithdrawAmount * 100)
	if math.Abs(cents-q.WithdrawAmount*100) > 1e-6 {
		return nil, retcode.InvalidParameter.Errorf("WithdrawAmount has at most two decimals")
	}
	if err := s.Identity.CheckTenant(ctx, q.CompanyID); err != nil {
		return nil, err
	}
	w := withdrawal{Company: q.CompanyID, Source: q.SrcAccountType, Amount: Money(cents) * 100, Account: c.Caller.Account, Email: c.Caller.Email}
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		w.ID, w.CreatedAt = database.NewID("withdraw"), s.Clock.Micros()
		p, err := lock(ctx, tx, w.Company)
		if err != nil {
			return err
		}
		t := trade{ID: database.NewID("trade"), Company: w.Company, Type: tradeWithdraw, Order: w.ID, Amount: -w.Amount, Account: w.Account, CreatedAt: w.CreatedAt}
		from, to, has := &p.Real, outside, p.Real
		if w.Source == free {
			t.Type, from, to, has = tradeFreeWithdraw, &p.Free, gifts, p.Free
		}
		if w.Amount > has {
			return retcode.InsufficientBalance.Errorf("%s yuan are needed, the balances have %s", yuan(w.Amount), yuan(has))
		}
		*from -= w.Amount
		t.RealAfter, t.FreeAfter, w.Trade = p.Real+p.HeldReal, p.Free+p.HeldFree, t.ID
		if _, err := tx.NewInsert().Model(&w).Exec(ctx); err != nil {
			return err
		}
		return s.book(ctx, tx, w.Company, []trade{t}, []move{{w.ID, w.Source, to, w.Amount, w.ID}})
	})
	return &rechargeResponse{TransactonNo: w.Trade}, err
}

type withdrawableRequest struct {
	CompanyID int64 `validate:"required" doc:"tenant"`
}

type withdrawableResponse struct {
	Amount     float64 `doc:"yuan"`
	AmountFree float64
	AmountReal float64
}

func (s *Service) withdrawable(ctx context.Context, _ *action.Call, q *withdrawableRequest) (*withdrawableResponse, error) {
	if err := s.Identity.CheckTenant(ctx, q.CompanyID); err != nil {
		return nil, err
	}
	p, err := read(ctx, s.DB.Reader(), q.CompanyID)
	return &withdrawableResponse{Amount: p.spendable().Float(), AmountFree: p.Free.Float(), AmountReal: p.Real.Float()}, err
}
