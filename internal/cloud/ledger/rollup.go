package ledger

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
)

// daily is the state of an order that stands for the hours of a day.
const daily = "Daily"

// rollBatch bounds the resources whose day is rolled up in one transaction.
const rollBatch = 200

// tombstoneKept is how long a destroyed resource's charge still answers 205.
const tombstoneKept = 180 * 24 * time.Hour

// RollUp makes one order, one trade and at most two transfers of a resource's hourly renewals of each day of the months
// before the current one; a month has 700 of them otherwise. Sums stay what they were. It also forgets old tombstones.
func (s *Service) RollUp(ctx context.Context) error {
	old := s.Clock.Now().Add(-tombstoneKept).UnixMicro()
	if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewRaw("DELETE FROM charge WHERE state = ? AND updated_at <= ?", Destroyed, old).Exec(ctx)
		return err
	}); err != nil {
		return err
	}
	for ctx.Err() == nil {
		n, err := s.rollDay(ctx)
		if err != nil || n == 0 {
			return err
		}
	}
	return ctx.Err()
}

// rollDay rolls up the oldest day that is not, of up to 200 resources, and tells how many orders it replaced.
func (s *Service) rollDay(ctx context.Context) (n int, err error) {
	const hourly = "state = 'Done' AND charge_type = 'Dynamic' AND type = 'RENEW'"
	first, err := database.Find[order](ctx, s.DB.Reader(), "WHERE "+hourly+" ORDER BY created_at LIMIT 1")
	if err != nil || len(first) == 0 {
		return 0, err
	}
	zone := s.zone(first[0].Region)
	y, m, d := time.UnixMicro(first[0].CreatedAt).In(zone).Date()
	begin, end := time.Date(y, m, d, 0, 0, 0, 0, zone), time.Date(y, m, d+1, 0, 0, 0, 0, zone)
	if ny, nm, _ := s.Clock.Now().In(zone).Date(); begin.Year() == ny && begin.Month() == nm || !begin.Before(s.Clock.Now()) {
		return 0, nil
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		var resources []string
		if err := tx.NewRaw("SELECT DISTINCT resource_id FROM ledger_order WHERE "+hourly+" AND created_at >= ? AND created_at < ? AND region = ? ORDER BY resource_id LIMIT ?",
			begin.UnixMicro(), end.UnixMicro(), first[0].Region, rollBatch).Scan(ctx, &resources); err != nil {
			return err
		}
		rows, err := database.Find[order](ctx, tx, "WHERE "+hourly+" AND created_at >= ? AND created_at < ? AND resource_id IN (?) ORDER BY resource_id, created_at, id",
			begin.UnixMicro(), end.UnixMicro(), resources)
		if err != nil {
			return err
		}
		n = len(rows)
		return s.roll(ctx, tx, rows, begin.Format(time.DateOnly))
	})
	return n, err
}

// roll replaces orders, sorted by resource, by one for each resource and what it paid for.
func (s *Service) roll(ctx context.Context, tx bun.Tx, rows []order, day string) error {
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	old, err := database.Find[trade](ctx, tx, "WHERE order_id IN (?)", ids)
	if err != nil {
		return err
	}
	trades := make(map[string]trade, len(old))
	for _, t := range old {
		trades[t.Order] = t
	}
	type key struct{ resource, project, name, items string }
	sums := map[key]*order{}
	last := map[key]trade{}
	var keys []key
	for _, o := range rows {
		k := key{o.Resource, o.Project, o.Name, o.Items}
		sum := sums[k]
		if sum == nil {
			first := o
			first.ID, first.State = database.NewID("order"), daily
			first.Business = "day/" + day + "/" + first.ID
			first.Quantity, first.PaidReal, first.PaidFree = 0, 0, 0
			sum = &first
			sums[k] = sum
			keys = append(keys, k)
		}
		sum.Quantity += o.Quantity
		sum.PaidReal += o.PaidReal
		sum.PaidFree += o.PaidFree
		sum.EndsAt = max(sum.EndsAt, o.EndsAt)
		if t, ok := trades[o.ID]; ok {
			t.Amount += last[k].Amount
			last[k] = t
		}
	}
	for _, table := range []string{"ledger_transfer", "ledger_trade"} {
		if _, err := tx.NewRaw("DELETE FROM ? WHERE order_id IN (?)", bun.Ident(table), bun.In(ids)).Exec(ctx); err != nil {
			return err
		}
	}
	if _, err := tx.NewRaw("DELETE FROM ledger_order WHERE id IN (?)", bun.In(ids)).Exec(ctx); err != nil {
		return err
	}
	var orders []order
	var newTrades []trade
	var transfers []transfer
	for _, k := range keys {
		o := sums[k]
		orders = append(orders, *o)
		t, ok := last[k]
		if !ok {
			continue // they cost nothing
		}
		t.ID, t.Order = database.NewID("trade"), o.ID
		newTrades = append(newTrades, t)
		for _, m := range charged(o) {
			if m.amount > 0 {
				transfers = append(transfers, transfer{ID: m.key, Company: o.Company, Source: m.source, Target: m.target, Amount: int64(m.amount), Order: o.ID, CreatedAt: t.CreatedAt})
			}
		}
	}
	if _, err := tx.NewInsert().Model(&orders).Exec(ctx); err != nil {
		return err
	}
	if len(newTrades) == 0 {
		return nil
	}
	if _, err := tx.NewInsert().Model(&newTrades).Exec(ctx); err != nil {
		return err
	}
	_, err = tx.NewInsert().Model(&transfers).Exec(ctx)
	return err
}
