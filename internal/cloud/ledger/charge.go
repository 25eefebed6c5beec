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

// Purchase is a new resource that costs money.
type Purchase struct {
	Kind       string // as registered
	ID         string
	Name       string
	Company    int64
	Region     string
	Project    string
	ChargeType string // Dynamic, Month, Year
	Quantity   int    // periods; Dynamic: 1
	AutoRenew  bool
	Items      []catalog.Item
}

// grace is how long an expired resource waits for its renewal.
const Grace = 7 * 24 * time.Hour

// Hold takes the price of new resources of one tenant, all or nothing, and starts their paid time: 17003 no price,
// 23000, 23001. The money is on the held accounts until Capture, Void or End. Call it in the transaction that accepts
// the request, after the products' rows are written: their expire_at follows.
func (s *Service) Hold(ctx context.Context, tx bun.Tx, purchases ...Purchase) error {
	if len(purchases) == 0 {
		return nil
	}
	now := s.Clock.Micros()
	company := purchases[0].Company
	rows := make([]charge, 0, len(purchases))
	orders := make([]order, 0, len(purchases))
	prices := make([]Money, 0, len(purchases))
	quote := s.quoter(ctx, tx)
	for _, p := range purchases {
		if p.Company != company || s.kinds[p.Kind].Name == "" {
			return fmt.Errorf("ledger: purchase of %s: kind %q of tenant %d", p.ID, p.Kind, p.Company)
		}
		if p.ChargeType == Hourly || p.Quantity < 1 {
			p.Quantity = 1
		}
		c := charge{Resource: p.ID, Kind: p.Kind, Company: p.Company, Region: p.Region, Project: p.Project, Name: p.Name, State: Held,
			Items: encode(p.Items), AutoRenew: p.AutoRenew, StartsAt: now, EndsAt: now, CreatedAt: now, UpdatedAt: now, Generation: 1}
		s.extend(&c, p.ChargeType, p.Quantity)
		price, err := quote(&c, p.ChargeType, p.Quantity, c.Items)
		if err != nil {
			return err
		}
		o := s.order(&c, Buy, "buy/"+p.ID, now, c.EndsAt)
		o.Quantity, o.State = p.Quantity, held
		rows, orders, prices = append(rows, c), append(orders, o), append(prices, price)
	}
	if _, err := tx.NewInsert().Model(&rows).Exec(ctx); err != nil {
		return err
	}
	if err := s.tell(ctx, tx, rows); err != nil {
		return err
	}
	return s.hold(ctx, tx, company, orders, prices)
}

// hold writes orders of one tenant whose amounts go to the held accounts.
func (s *Service) hold(ctx context.Context, tx bun.Tx, company int64, orders []order, prices []Money) error {
	p, err := lock(ctx, tx, company)
	if err != nil {
		return err
	}
	var sum Money
	for _, price := range prices {
		sum += price
	}
	if _, _, err := p.pay(sum); err != nil {
		return err
	}
	var moves []move
	for i := range orders {
		o := &orders[i]
		o.PaidReal, o.PaidFree, _ = p.split(prices[i])
		p.Real -= o.PaidReal
		p.Free -= o.PaidFree
		moves = append(moves, move{o.ID + "/hold/free", free, heldFree, o.PaidFree, o.ID}, move{o.ID + "/hold/real", real, heldReal, o.PaidReal, o.ID})
	}
	if _, err := tx.NewInsert().Model(&orders).Exec(ctx); err != nil {
		return err
	}
	return s.post(ctx, tx, company, moves...)
}

// order makes one about a charge as it is.
func (s *Service) order(c *charge, typ, business string, from, to int64) order {
	return order{ID: database.NewID("order"), Business: business, Company: c.Company, Region: c.Region, Project: c.Project, Resource: c.Resource,
		Name: c.Name, Product: c.Kind, Type: typ, ChargeType: c.ChargeType, Quantity: 1, Items: c.Items, State: done, StartsAt: from, EndsAt: to,
		CreatedAt: s.Clock.Micros()}
}

// Rater prices items as renewals do: for one tenant, region and charge type after the other, each combination once.
func (s *Service) Rater(ctx context.Context, idb bun.IDB) func(p Purchase) (Money, error) {
	quote := s.quoter(ctx, idb)
	return func(p Purchase) (Money, error) {
		return quote(&charge{Company: p.Company, Region: p.Region}, p.ChargeType, max(1, p.Quantity), encode(p.Items))
	}
}

// quoter prices what a tenant's charges pay for, each combination once.
func (s *Service) quoter(ctx context.Context, idb bun.IDB) func(c *charge, chargeType string, quantity int, items string) (Money, error) {
	type key struct {
		company                   int64
		region, chargeType, items string
	}
	known := map[key]Money{}
	return func(c *charge, chargeType string, quantity int, items string) (Money, error) {
		k := key{c.Company, c.Region, chargeType, items}
		one, ok := known[k]
		if !ok {
			list, err := decode(items)
			if err != nil {
				return 0, err
			}
			if one, err = s.Catalog.Quote(ctx, idb, c.Company, c.Region, chargeType, 1, list); err != nil {
				return 0, err
			}
			known[k] = one
		}
		return one * Money(quantity), nil
	}
}

// heldOrders reads what is held of resources, by tenant.
func heldOrders(ctx context.Context, tx bun.Tx, ids []string) (map[int64][]order, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := database.Find[order](ctx, tx, "WHERE resource_id IN (?) AND state = 'Held' ORDER BY resource_id", ids)
	out := map[int64][]order{}
	for _, o := range rows {
		out[o.Company] = append(out[o.Company], o)
	}
	return out, err
}

// Capture makes what is held of resources final: they were made, or changed. What has nothing held is left alone, so
// that it may be repeated. Call it in the transaction that settles.
func (s *Service) Capture(ctx context.Context, tx bun.Tx, ids ...string) error {
	rows, err := charges(ctx, tx, ids...)
	if err != nil {
		return err
	}
	orders, err := heldOrders(ctx, tx, ids)
	if err != nil {
		return err
	}
	var changed []charge
	for _, o := range all(orders) {
		i := slices.IndexFunc(rows, func(c charge) bool { return c.Resource == o.Resource })
		if i < 0 {
			return fmt.Errorf("ledger: order %s of %s without a charge", o.ID, o.Resource)
		}
		c := rows[i]
		switch {
		case o.Type == Buy:
			c.State, c.DueAt = Valid, c.EndsAt
		case o.Type == Upgrade && o.ChargeType != Hourly:
			c.Items, c.NextItems = o.Items, ""
		default: // from the next period on
			c.NextItems = o.Items
		}
		changed = append(changed, c)
	}
	if err := s.write(ctx, tx, changed); err != nil {
		return err
	}
	for company, list := range orders {
		p, err := lock(ctx, tx, company)
		if err != nil {
			return err
		}
		var moves []move
		var trades []trade
		for _, o := range list {
			if err := setState(ctx, tx, &o, held, done); err != nil {
				return err
			}
			moves = append(moves, move{o.ID + "/capture/free", heldFree, revenue, o.PaidFree, o.ID}, move{o.ID + "/capture/real", heldReal, revenue, o.PaidReal, o.ID})
			p.HeldReal -= o.PaidReal
			p.HeldFree -= o.PaidFree
			trades = append(trades, s.trade(ctx, &o, tradeCharge, p))
		}
		if err := s.book(ctx, tx, company, trades, moves); err != nil {
			return err
		}
	}
	return nil
}

// all orders in one list, in the order of their resources.
func all(byCompany map[int64][]order) []order {
	var out []order
	for _, list := range byCompany {
		out = append(out, list...)
	}
	return out
}

func setState(ctx context.Context, tx bun.Tx, o *order, from, to string) error {
	r, err := tx.NewRaw("UPDATE ledger_order SET state = ? WHERE id = ? AND state = ?", to, o.ID, from).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return retcode.InvalidResourceState.Errorf("%s is being changed by another request", o.Resource)
}

// trade is what the tenant sees of an order's money; p are the balances after it.
func (s *Service) trade(ctx context.Context, o *order, typ string, p purse) trade {
	t := trade{ID: database.NewID("trade"), Company: o.Company, Region: o.Region, Project: o.Project, Type: typ, Order: o.ID,
		Amount: -o.PaidReal - o.PaidFree, RealAfter: p.Real + p.HeldReal, FreeAfter: p.Free + p.HeldFree, CreatedAt: s.Clock.Micros()}
	if c := action.CallFrom(ctx); c != nil {
		t.Account = c.Caller.Account
	}
	return t
}

// book writes trades and the transfers that they are made of. What costs nothing, since it is free or billing is
// switched off, has its trade all the same.
func (s *Service) book(ctx context.Context, tx bun.Tx, company int64, trades []trade, moves []move) error {
	if len(trades) > 0 {
		if _, err := tx.NewInsert().Model(&trades).Exec(ctx); err != nil {
			return err
		}
	}
	return s.post(ctx, tx, company, moves...)
}

// Void gives back what is held of resources: their creation or change failed. A purchase is forgotten, a resource that
// was to change goes on as it is. What has nothing held is left alone.
func (s *Service) Void(ctx context.Context, tx bun.Tx, ids ...string) error {
	orders, err := heldOrders(ctx, tx, ids)
	if err != nil {
		return err
	}
	for company, list := range orders {
		for _, o := range list {
			if o.Type == Buy {
				if _, err := tx.NewRaw("DELETE FROM charge WHERE resource_id = ? AND state = ?", o.Resource, Held).Exec(ctx); err != nil {
					return err
				}
			}
		}
		if _, err := lock(ctx, tx, company); err != nil {
			return err
		}
		var moves []move
		for _, o := range list {
			if err := setState(ctx, tx, &o, held, void); err != nil {
				return err
			}
			moves = append(moves, move{o.ID + "/void/free", heldFree, free, o.PaidFree, o.ID}, move{o.ID + "/void/real", heldReal, real, o.PaidReal, o.ID})
		}
		if err := s.post(ctx, tx, company, moves...); err != nil {
			return err
		}
	}
	return nil
}

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

// Premium is what a resize would cost now, as Change takes it: 200 unknown, 206, 17003.
func (s *Service) Premium(ctx context.Context, idb bun.IDB, id string, items []catalog.Item) (Money, error) {
	rows, err := database.Find[charge](ctx, idb, "WHERE resource_id = ?", id)
	if err == nil && len(rows) == 0 {
		err = retcode.ResourceNotFound.Errorf("%s", id)
	}
	if err == nil {
		err = s.expired(&rows[0])
	}
	if err != nil {
		return 0, err
	}
	amount, _, err := s.premium(ctx, idb, &rows[0], items)
	return amount, err
}

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
