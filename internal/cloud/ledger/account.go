package ledger

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Money is an amount in 1/10,000 yuan.
type Money = catalog.Money

// Accounts of a tenant. The platform's are kept by tenant, too: so tenants never wait for each other, and the
// platform's own figure is the sum.
const (
	real     = "REAL"      // the external balance: money that was paid in
	free     = "FREE"      // the platform's gifts
	heldReal = "HELD_REAL" // of REAL, for what is not settled yet
	heldFree = "HELD_FREE"
	revenue  = "REVENUE" // what resources cost
	refunds  = "REFUNDS" // what was given back of it: below 0
	outside  = "OUTSIDE" // where paid in money comes from: below 0
	gifts    = "GIFTS"   // where gifts come from: below 0
)

// lowest is how far a balance may go down.
var lowest = map[string]int64{real: 0, free: 0, heldReal: 0, heldFree: 0, revenue: 0, refunds: bottomless, outside: bottomless, gifts: bottomless}

const bottomless = -4_000_000_000_000_000_000

// open makes the accounts of a tenant; those that are there stay.
func open(ctx context.Context, tx bun.Tx, company int64) error {
	var rows []account
	for kind, low := range lowest {
		rows = append(rows, account{Company: company, Kind: kind, Lowest: low})
	}
	slices.SortFunc(rows, func(a, b account) int { return strings.Compare(a.Kind, b.Kind) })
	_, err := tx.NewInsert().Model(&rows).On("CONFLICT (company, kind) DO NOTHING").Exec(ctx)
	return err
}

// purse is what a tenant has.
type purse struct {
	Real, Free         Money // to spend
	HeldReal, HeldFree Money
}

func (p purse) spendable() Money { return p.Real + p.Free }

// split is how an amount is paid: of gifts first, then of the external balance. ok is false when both are less.
func (p purse) split(amount Money) (r, f Money, ok bool) {
	f = min(p.Free, amount)
	r = amount - f
	return r, f, r <= p.Real
}

func balances(rows []account) (p purse) {
	for _, a := range rows {
		switch a.Kind {
		case real:
			p.Real = Money(a.Balance)
		case free:
			p.Free = Money(a.Balance)
		case heldReal:
			p.HeldReal = Money(a.Balance)
		case heldFree:
			p.HeldFree = Money(a.Balance)
		}
	}
	return p
}

// lock keeps others from a tenant's money until the transaction ends and tells what is there: 23000 without accounts.
func lock(ctx context.Context, tx bun.Tx, company int64) (purse, error) {
	// The one row that everybody who moves money writes first.
	r, err := database.Exec(ctx, tx, "UPDATE ledger_account SET balance = balance WHERE company = ? AND kind = ?", company, free)
	if err != nil {
		return purse{}, err
	}
	if n, err := r.RowsAffected(); err != nil {
		return purse{}, err
	} else if n == 0 {
		return purse{}, retcode.PayAccountNotFound.Errorf("tenant %d has no account that pays", company)
	}
	return read(ctx, tx, company)
}

// read tells what a tenant has: 23000 without accounts.
func read(ctx context.Context, idb bun.IDB, company int64) (purse, error) {
	rows, err := database.Find[account](ctx, idb, "WHERE company = ?", company)
	if err == nil && len(rows) == 0 {
		err = retcode.PayAccountNotFound.Errorf("tenant %d has no account that pays", company)
	}
	return balances(rows), err
}

// move is one transfer to be.
type move struct {
	key            string // what it is for; a second one of the same key is refused by the table
	source, target string
	amount         Money
	order          string
}

// post writes transfers of one tenant and the balances that follow; 23001 when one would fall below its limit. Each
// account changes by one statement that carries that condition, in one order for everybody. The caller holds lock.
func (s *Service) post(ctx context.Context, tx bun.Tx, company int64, moves ...move) error {
	sums := map[string]Money{}
	rows := make([]transfer, 0, len(moves))
	now := s.Clock.Micros()
	for _, m := range moves {
		if m.amount < 0 {
			return fmt.Errorf("ledger: transfer %s of %d", m.key, m.amount)
		}
		if m.amount == 0 {
			continue
		}
		sums[m.source] -= m.amount
		sums[m.target] += m.amount
		rows = append(rows, transfer{ID: m.key, Company: company, Source: m.source, Target: m.target, Amount: int64(m.amount), Order: m.order, CreatedAt: now})
	}
	if len(rows) == 0 {
		return nil
	}
	for _, kind := range slices.Sorted(func(yield func(string) bool) {
		for k := range sums {
			if !yield(k) {
				return
			}
		}
	}) {
		by := int64(sums[kind])
		r, err := database.Exec(ctx, tx, `UPDATE ledger_account SET balance = balance + ? WHERE company = ? AND kind = ? AND balance + ? >= lowest AND balance + ? <= ?`,
			by, company, kind, by, by, int64(math.MaxInt64/4))
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil {
			return err
		} else if n != 1 {
			return retcode.InsufficientBalance.Errorf("the balances of tenant %d do not allow it", company)
		}
	}
	_, err := tx.NewInsert().Model(&rows).Exec(ctx)
	return err
}

// pay is split of an amount that is there; 23001.
func (p purse) pay(amount Money) (r, f Money, err error) {
	r, f, ok := p.split(amount)
	if !ok {
		return 0, 0, retcode.InsufficientBalance.Errorf("%s yuan are needed, the balances have %s", yuan(amount), yuan(p.spendable()))
	}
	return r, f, nil
}

// yuan writes an amount for people.
func yuan(m Money) string {
	sign := ""
	if m < 0 {
		sign, m = "-", -m
	}
	text := fmt.Sprintf("%s%d.%04d", sign, m/10000, m%10000)
	for strings.HasSuffix(text, "0") && !strings.HasSuffix(text[:len(text)-1], ".0") && len(text)-strings.IndexByte(text, '.') > 3 {
		text = text[:len(text)-1]
	}
	return text
}

// Balances are what tenants may spend, in yuan, for lists of tenants and accounts.
func (s *Service) Balances(ctx context.Context, companies []int64) (map[int64]identity.Balance, error) {
	out := make(map[int64]identity.Balance, len(companies))
	if len(companies) == 0 {
		return out, nil
	}
	var rows []account
	if err := s.DB.Reader().NewSelect().Model(&rows).Where("company IN (?) AND kind IN (?, ?)", bun.In(companies), real, free).Scan(ctx, &rows); err != nil {
		return nil, err
	}
	for _, a := range rows {
		b := out[a.Company]
		if a.Kind == real {
			b.Cash = Money(a.Balance).Float()
		} else {
			b.Gift = Money(a.Balance).Float()
		}
		out[a.Company] = b
	}
	return out, nil
}
