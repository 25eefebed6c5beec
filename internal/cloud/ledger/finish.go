package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Recycle moves resources into the recycle bin's state: nothing is renewed any more, and of monthly and yearly terms
// the unused whole seconds are paid back to the balances that paid. Call it where the product's row goes to the bin.
func (s *Service) Recycle(ctx context.Context, tx bun.Tx, ids ...string) error {
	return s.finish(ctx, tx, InRecycle, ids)
}

// End ends resources for good: what is held goes back, and what is unused as with Recycle. Call it where
// the product's row becomes a tombstone, also after a creation that failed.
func (s *Service) End(ctx context.Context, tx bun.Tx, ids ...string) error {
	return s.finish(ctx, tx, Destroyed, ids)
}

func (s *Service) finish(ctx context.Context, tx bun.Tx, to string, ids []string) error {
	if err := s.Void(ctx, tx, ids...); err != nil {
		return err
	}
	rows, err := charges(ctx, tx, ids...)
	if err != nil {
		return err
	}
	now := s.Clock.Micros()
	var changed []charge
	back := map[int64][]order{}
	for _, c := range rows {
		if c.State == to || c.State == Destroyed {
			continue
		}
		// What was renewed in the bin has paid time as well.
		if (c.State == Valid || c.State == InRecycle) && c.ChargeType != Hourly && c.EndsAt > now {
			o, err := s.refund(ctx, tx, &c, now)
			if err != nil {
				return err
			}
			back[c.Company] = append(back[c.Company], o)
			c.EndsAt, c.Anchor, c.Months = now, 0, 0
		}
		c.State, c.DueAt = to, 0
		changed = append(changed, c)
	}
	if err := s.write(ctx, tx, changed); err != nil {
		return err
	}
	for company, list := range back {
		p, err := lock(ctx, tx, company)
		if err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(&list).Exec(ctx); err != nil {
			return err
		}
		var moves []move
		var trades []trade
		for i := range list {
			o := &list[i]
			moves = append(moves, move{o.ID + "/refund/free", refunds, free, -o.PaidFree, o.ID}, move{o.ID + "/refund/real", refunds, real, -o.PaidReal, o.ID})
			p.Real -= o.PaidReal
			p.Free -= o.PaidFree
			trades = append(trades, s.trade(ctx, o, tradeRefund, p))
		}
		if err := s.book(ctx, tx, company, trades, moves); err != nil {
			return err
		}
	}
	return nil
}

// refund closes the terms of a charge that are not over, and makes the order that pays their unused time back.
func (s *Service) refund(ctx context.Context, tx bun.Tx, c *charge, now int64) (order, error) {
	back := s.order(c, Refund, fmt.Sprintf("refund/%s/%d", c.Resource, c.Generation), now, c.EndsAt)
	terms, err := s.terms(ctx, tx, c, now, Buy, Renewal, Upgrade)
	if err != nil {
		return back, err
	}
	for i := range terms {
		t := &terms[i]
		if err := setState(ctx, tx, t, done, closed); err != nil {
			return back, err
		}
		if t.ChargeType == Hourly {
			continue
		}
		second := time.Second.Microseconds()
		unused, whole := (t.EndsAt-max(now, t.StartsAt))/second, max(1, (t.EndsAt-t.StartsAt)/second)
		total := min((t.PaidReal+t.PaidFree).Part(unused, whole), t.PaidReal+t.PaidFree)
		f := min(t.PaidFree.Part(unused, whole), t.PaidFree, total)
		if total-f > t.PaidReal { // rounding
			f = total - t.PaidReal
		}
		back.PaidFree -= f
		back.PaidReal -= total - f
	}
	return back, nil
}

// closed orders are done ones whose unused time was paid back.
const closed = "Closed"

// Restore makes resources of the recycle bin valid again: 206 when their paid time is over.
func (s *Service) Restore(ctx context.Context, tx bun.Tx, ids ...string) error {
	rows, err := charges(ctx, tx, ids...)
	if err != nil {
		return err
	}
	now := s.Clock.Micros()
	var changed []charge
	for _, c := range rows {
		if c.State != InRecycle {
			continue
		}
		if c.EndsAt <= now {
			return retcode.ResourceExpired.Errorf("%s has expired, renew it first", c.Resource)
		}
		c.State, c.DueAt, c.Enforced = Valid, c.EndsAt, false
		changed = append(changed, c)
	}
	return s.write(ctx, tx, changed)
}

// Check refuses changes of resources whose paid time is over (206). A resource that costs nothing passes.
func (s *Service) Check(ctx context.Context, idb bun.IDB, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	rows, err := database.Find[charge](ctx, idb, "WHERE resource_id IN (?)", ids)
	for i := range rows {
		if err == nil {
			err = s.expired(&rows[i])
		}
	}
	return err
}

// expired is Check of one. A resource that renews itself is not expired while its renewal is on its way.
func (s *Service) expired(c *charge) error {
	if c.State == Expired || c.State == Valid && c.EndsAt <= s.Clock.Micros() && !(c.AutoRenew && s.renews()) {
		return retcode.ResourceExpired.Errorf("%s has expired, renew it first", c.Resource)
	}
	return nil
}

// Note keeps the name and the project group of a charged resource as its orders shall show them from now on.
func (s *Service) Note(ctx context.Context, tx bun.Tx, id, name, project string) error {
	_, err := tx.NewRaw("UPDATE charge SET name = ?, project = ?, updated_at = ? WHERE resource_id = ?", name, project, s.Clock.Micros(), id).Exec(ctx)
	return err
}
