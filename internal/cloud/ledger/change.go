package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Resize is a change of what a resource pays for.
type Resize struct {
	ID    string
	Items []catalog.Item
	// LastDay: it may become cheaper on the last day of its paid time only, unless it is hourly (201).
	LastDay bool
}

// Change holds what a resize costs now: of monthly and yearly terms what is more pro rata; cheaper ones, and hourly
// ones, cost differently from the next period on. 206, 17003, 23000, 23001, 201. Then Capture, or Void. A resource
// that costs nothing is left alone.
func (s *Service) Change(ctx context.Context, tx bun.Tx, r Resize) error {
	rows, err := charges(ctx, tx, r.ID)
	if err != nil || len(rows) == 0 {
		return err
	}
	c := &rows[0]
	if err := s.expired(c); err != nil {
		return err
	}
	if c.State != Valid {
		return retcode.InvalidResourceState.Errorf("%s is %s", c.Resource, c.State)
	}
	// A machine and its system disk grow by themselves and pay as one.
	changing, err := heldOrders(ctx, tx, []string{c.Resource})
	if err != nil {
		return err
	}
	if len(changing) > 0 {
		return retcode.InvalidResourceState.Errorf("another change of %s is under way", c.Resource)
	}
	amount, typ, err := s.premium(ctx, tx, c, r.Items)
	if err != nil {
		return err
	}
	if r.LastDay && typ == Downgrade && c.ChargeType != Hourly && c.EndsAt-s.Clock.Micros() > (24*time.Hour).Microseconds() {
		return retcode.InvalidResourceBizState.Errorf("%s may be made smaller on the last day of its term only", c.Resource)
	}
	o := s.order(c, typ, fmt.Sprintf("change/%s/%d", c.Resource, c.Generation), s.Clock.Micros(), c.EndsAt)
	o.Items, o.State = encode(r.Items), held
	// The generation is part of the order's name: a change that was given up may be asked for again.
	if err := s.write(ctx, tx, rows); err != nil {
		return err
	}
	return s.hold(ctx, tx, c.Company, []order{o}, []Money{amount})
}

// premium is what a change of a charge to items costs now, and which type of order that is.
func (s *Service) premium(ctx context.Context, idb bun.IDB, c *charge, items []catalog.Item) (amount Money, typ string, err error) {
	quote, wanted := s.quoter(ctx, idb), encode(items)
	before, err := quote(c, c.ChargeType, 1, c.Items)
	if err != nil {
		return 0, "", err
	}
	after, err := quote(c, c.ChargeType, 1, wanted)
	if err != nil {
		return 0, "", err
	}
	if after < before {
		return 0, Downgrade, nil
	}
	if c.ChargeType == Hourly {
		return 0, Upgrade, nil
	}
	now := s.Clock.Micros()
	terms, err := s.terms(ctx, idb, c, now, Buy, Renewal)
	if err != nil {
		return 0, "", err
	}
	for _, t := range terms {
		if t.ChargeType == Hourly {
			continue
		}
		old, err := quote(c, t.ChargeType, max(1, t.Quantity), c.Items)
		if err != nil {
			return 0, "", err
		}
		more, err := quote(c, t.ChargeType, max(1, t.Quantity), wanted)
		if err != nil {
			return 0, "", err
		}
		if more > old {
			amount += (more - old).Part(t.EndsAt-max(now, t.StartsAt), s.whole(c.Region, t.StartsAt, t.EndsAt, t.Quantity))
		}
	}
	return amount, Upgrade, nil
}

// terms are the orders of a resource whose time is not over.
func (s *Service) terms(ctx context.Context, idb bun.IDB, c *charge, now int64, types ...string) ([]order, error) {
	return database.Find[order](ctx, idb, "WHERE resource_id = ? AND ends_at > ? AND state = 'Done' AND type IN (?) ORDER BY starts_at, id",
		c.Resource, now, types)
}

// Reprice is what a change of a charged resource would cost now, as Change takes it: change gets the items of the next
// period and returns those that are wanted. typ is Upgrade, Downgrade, or empty when nothing changes. 200 unknown
// or out of the scope, 206, 17003, and what change returns.
func (s *Service) Reprice(ctx context.Context, idb bun.IDB, scope action.Scope, id string, change func([]catalog.Item) ([]catalog.Item, error)) (amount Money, chargeType, typ string, err error) {
	row, err := chargeOf(ctx, idb, scope, id)
	if err == nil {
		err = s.expired(row)
	}
	if err != nil {
		return 0, "", "", err
	}
	text := row.Items
	if row.NextItems != "" {
		text = row.NextItems
	}
	items, err := decode(text)
	if err != nil {
		return 0, "", "", err
	}
	wanted, err := change(slices.Clone(items))
	if err != nil || slices.Equal(items, wanted) {
		return 0, row.ChargeType, "", err
	}
	amount, typ, err = s.premium(ctx, idb, row, wanted)
	return amount, row.ChargeType, typ, err
}
