package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// renewBatch bounds the renewals of one tenant in one transaction.
const renewBatch = 500

// renewAhead is how long before its start the next period is deducted.
const renewAhead = time.Minute

// Renewals renews what falls due, a batch a tenant at a time so that none waits for another's thousand machines, and
// lets expire what nobody renews. Resources fall due at the time of day at which they were made, which spreads them.
func (s *Service) Renewals(ctx context.Context) error {
	var failed []error
	for ctx.Err() == nil {
		horizon := s.Clock.Now().Add(renewAhead).UnixMicro()
		var companies []int64
		if err := s.DB.Reader().NewRaw(`SELECT DISTINCT company FROM charge WHERE state = ? AND due_at > 0 AND due_at <= ?`, Valid, horizon).Scan(ctx, &companies); err != nil {
			return err
		}
		worked := false
		for _, company := range companies {
			n, err := s.renewBatch(ctx, company, horizon)
			worked = worked || n > 0
			failed = append(failed, err)
		}
		if !worked {
			break
		}
	}
	return errors.Join(failed...)
}

// renewBatch renews up to 500 periods of one tenant, the earliest first, and tells how many charges it changed. A
// resource that missed several periods, since the controller stood or the clock was moved on, catches up on them.
func (s *Service) renewBatch(ctx context.Context, company int64, horizon int64) (n int, err error) {
	expired := false
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, expired = 0, false
		var ids []string
		// Those that cannot be paid yet wait for their end without holding up the others: a lean tenant's are looked at
		// again with every run, but never more than a batch of them.
		if err := tx.NewRaw(`SELECT resource_id FROM charge WHERE state = ? AND company = ? AND due_at > 0 AND due_at <= ? ORDER BY due_at, resource_id LIMIT ?`,
			Valid, company, horizon, renewBatch).Scan(ctx, &ids); err != nil {
			return err
		}
		rows, err := charges(ctx, tx, ids...)
		if err != nil {
			return err
		}
		now := s.Clock.Micros()
		p, err := read(ctx, tx, company)
		if retcode.Of(err) == retcode.PayAccountNotFound {
			p, err = purse{}, nil // nobody pays: they expire
		}
		if err != nil {
			return err
		}
		// What is being changed is renewed when that is settled: at the size that it has then.
		changing, err := heldOrders(ctx, tx, ids)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(c charge) bool {
			return slices.ContainsFunc(changing[company], func(o order) bool { return o.Resource == c.Resource })
		})
		quote := s.quoter(ctx, tx)
		var changed []charge
		var orders []order
		var moves []move
		var trades []trade
		budget := renewBatch
		for _, c := range rows {
			before := len(orders)
			for c.State == Valid && c.EndsAt <= horizon && budget > 0 {
				price, ok, err := s.renewable(quote, &c, p)
				if err != nil {
					return err
				}
				if !ok {
					if c.EndsAt <= now {
						c.State, c.DueAt, c.Enforced = Expired, c.EndsAt+Grace.Microseconds(), false
						expired = true
					}
					break
				}
				budget--
				o := s.renew(&c, c.ChargeType, 1)
				o.PaidReal, o.PaidFree, _ = p.split(price)
				p.Real -= o.PaidReal
				p.Free -= o.PaidFree
				orders = append(orders, o)
				moves = append(moves, charged(&o)...)
				trades = append(trades, s.trade(ctx, &o, tradeCharge, p))
			}
			if len(orders) > before || c.State == Expired {
				changed = append(changed, c)
			}
		}
		if n = len(changed); n == 0 {
			return nil
		}
		if err := s.write(ctx, tx, changed); err != nil {
			return err
		}
		if len(orders) == 0 {
			return nil
		}
		if _, err := tx.NewInsert().Model(&orders).Exec(ctx); err != nil {
			return err
		}
		if _, err := lock(ctx, tx, company); err != nil {
			return err
		}
		// Should the balance have gone down since it was read, the batch fails here as a whole and comes again.
		return s.book(ctx, tx, company, trades, moves)
	})
	if expired && err == nil {
		s.expiry.Signal()
	}
	if code := retcode.Of(err); code == retcode.InsufficientBalance || code == retcode.InvalidResourceState {
		return 0, nil // somebody was faster: the next run sees it
	}
	return n, err
}

// renewable tells whether a charge is to be renewed and can be paid, and for how much. A price that is gone, as one that
// cannot be paid, lets it expire.
func (s *Service) renewable(quote func(*charge, string, int, string) (Money, error), c *charge, p purse) (Money, bool, error) {
	if !c.AutoRenew || !s.renews() {
		return 0, false, nil
	}
	items := c.Items
	if c.NextItems != "" {
		items = c.NextItems
	}
	price, err := quote(c, c.ChargeType, 1, items)
	if retcode.Of(err) == retcode.PriceNotFound {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	_, _, ok := p.split(price)
	return price, ok, nil
}

// renews tells whether the platform lets resources renew by themselves.
func (s *Service) renews() bool { return s.Catalog.Config.AutoRenew(context.Background()) }

// renew adds a term to a charge and makes its order, without the amounts.
func (s *Service) renew(c *charge, chargeType string, quantity int) order {
	if c.NextItems != "" {
		c.Items, c.NextItems = c.NextItems, ""
	}
	if rank(chargeType) != rank(c.ChargeType) && c.ChargeType == Hourly {
		c.Anchor, c.Months = 0, 0
	}
	from := s.extend(c, chargeType, quantity)
	if c.State == Valid {
		c.DueAt = c.EndsAt
	}
	o := s.order(c, Renewal, fmt.Sprintf("renew/%s/%d", c.Resource, from), from, c.EndsAt)
	o.Quantity = quantity
	return o
}

// charged are the transfers of an order that is paid without a hold.
func charged(o *order) []move {
	return []move{{o.ID + "/charge/free", free, revenue, o.PaidFree, o.ID}, {o.ID + "/charge/real", real, revenue, o.PaidReal, o.ID}}
}

// prepare makes a charge ready for a renewal by its tenant, which begins at its end, or now when that is over.
func (s *Service) prepare(c *charge, chargeType string, quantity int) error {
	now := s.Clock.Micros()
	switch c.State {
	case Destroyed:
		return retcode.ResourceTerminated.Errorf("%s is destroyed", c.Resource)
	case Held:
		return retcode.InvalidResourceBizState.Errorf("%s is not made yet", c.Resource)
	case InRecycle:
		if quantity != 1 {
			return retcode.InvalidResourceBizState.Errorf("%s is in the recycle bin, which renews one period at a time", c.Resource)
		}
	}
	if rank(chargeType) < rank(c.ChargeType) {
		return retcode.InvalidResourceBizState.Errorf("%s is charged by %s, which cannot become %s", c.Resource, c.ChargeType, chargeType)
	}
	if c.EndsAt <= now && c.State != Valid {
		c.StartsAt, c.EndsAt, c.Anchor, c.Months = now, now, 0, 0
	}
	return nil
}

// rate is the price of a renewal that began at from and was written into c.
func (s *Service) rate(quote func(*charge, string, int, string) (Money, error), c *charge, from int64, quantity int) (Money, error) {
	price, err := quote(c, c.ChargeType, max(1, quantity), c.Items)
	if err == nil && quantity == 0 {
		price = price.Part(c.EndsAt-from, s.whole(c.Region, from, c.EndsAt, 0))
	}
	return price, err
}

// renewTx renews a resource for its tenant, in the caller's transaction: 201, 202, 205, 17003, 23000, 23001. It returns
// the number of the trade.
func (s *Service) renewTx(ctx context.Context, tx bun.Tx, c *charge, chargeType string, quantity int) (string, error) {
	if err := s.prepare(c, chargeType, quantity); err != nil {
		return "", err
	}
	changing, err := heldOrders(ctx, tx, []string{c.Resource})
	if err != nil {
		return "", err
	}
	if len(changing) > 0 { // the period would be paid for at the size before it
		return "", retcode.InvalidResourceState.Errorf("%s is being changed by another request", c.Resource)
	}
	if c.State == Expired {
		c.State, c.Enforced = Valid, false
	}
	o := s.renew(c, chargeType, quantity)
	price, err := s.rate(s.quoter(ctx, tx), c, o.StartsAt, quantity)
	if err != nil {
		return "", err
	}
	if err := s.write(ctx, tx, []charge{*c}); err != nil {
		return "", err
	}
	p, err := lock(ctx, tx, c.Company)
	if err != nil {
		return "", err
	}
	if o.PaidReal, o.PaidFree, err = p.pay(price); err != nil {
		return "", err
	}
	p.Real -= o.PaidReal
	p.Free -= o.PaidFree
	if _, err := tx.NewInsert().Model(&o).Exec(ctx); err != nil {
		if database.IsUnique(err) {
			err = retcode.InvalidResourceState.Errorf("%s is being changed by another request", c.Resource)
		}
		return "", err
	}
	t := s.trade(ctx, &o, tradeCharge, p)
	return t.ID, s.book(ctx, tx, c.Company, []trade{t}, charged(&o))
}

// renewalPrice is what a renewal would cost now.
func (s *Service) renewalPrice(ctx context.Context, idb bun.IDB, c charge, chargeType string, quantity int) (catalog.Money, error) {
	if err := s.prepare(&c, chargeType, quantity); err != nil {
		return 0, err
	}
	o := s.renew(&c, chargeType, quantity)
	return s.rate(s.quoter(ctx, idb), &c, o.StartsAt, quantity)
}
