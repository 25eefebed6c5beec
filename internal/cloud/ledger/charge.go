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
		return one.Times(quantity)
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
