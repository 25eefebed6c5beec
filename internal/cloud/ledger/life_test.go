package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"pgregory.net/rapid"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// life is what a resource did, told apart from the ledger: how often it paid, and how much it should have.
type life struct {
	id         string
	chargeType string
	n, next    int // cores now, and from the next period on
	state      string
	ends       int64
	pays       []order // paid and not given back, with the amounts of the model
	seen       int     // orders
	total      Money
}

// prices of a core, written down once more.
var corePrice = map[string]int64{Hourly: 11660, Monthly: 800000, Yearly: 9600000}

// share is amount x part / whole, half up to a cent.
func share(amount Money, part, whole int64) Money {
	r := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(int64(amount)), big.NewInt(part)), new(big.Int).Mul(big.NewInt(whole), big.NewInt(100)))
	r.Add(r, big.NewRat(1, 2))
	return Money(new(big.Int).Quo(r.Num(), r.Denom()).Int64()) * 100
}

// pay checks the next order of a life: what it is for, when, and that its amount is the model's.
func (l *life) pay(t *rapid.T, o order, typ string, amount Money) {
	t.Helper()
	if o.Type != typ {
		t.Fatalf("%s: order %d is %s, want %s", l.id, l.seen, o.Type, typ)
	}
	if got := o.PaidReal + o.PaidFree; got != amount {
		t.Fatalf("%s: %s of %d cores by %s costs %d, want %d", l.id, typ, l.n, o.ChargeType, got, amount)
	}
	l.total += amount
	l.seen++
}

// follow takes the orders that were added since, which this kind of event allows.
func (l *life) follow(t *rapid.T, orders []order, event string, quantity int) {
	t.Helper()
	for _, o := range orders[l.seen:] {
		switch o.Type {
		case Buy, Renewal:
			if o.Type == Renewal && l.next >= 0 {
				l.n, l.next = l.next, -1
			}
			if o.Type == Renewal && o.StartsAt != l.ends && !(l.state != Valid && o.StartsAt > l.ends) {
				t.Fatalf("%s: renewed from %d, it ended at %d (%s)", l.id, o.StartsAt, l.ends, l.state)
			}
			l.chargeType = o.ChargeType
			q := 1
			if o.Type == Buy || event == "renew" {
				q = quantity
			}
			if o.Quantity != q {
				t.Fatalf("%s: %d periods, want %d", l.id, o.Quantity, q)
			}
			l.pay(t, o, o.Type, Money(corePrice[o.ChargeType])*Money(l.n)*Money(q))
			l.ends = o.EndsAt
			o.Quantity = q
			l.pays = append(l.pays, o)
		case Upgrade, Downgrade:
			if event != "resize" {
				t.Fatalf("%s: %s after %s", l.id, o.Type, event)
			}
			var more Money
			if o.ChargeType != Hourly && o.Type == Upgrade {
				for _, p := range l.pays {
					if p.EndsAt > o.StartsAt && p.ChargeType != Hourly && (p.Type == Buy || p.Type == Renewal) {
						more += share(Money(corePrice[p.ChargeType])*Money(quantity-l.n)*Money(p.Quantity), p.EndsAt-max(o.StartsAt, p.StartsAt), p.EndsAt-p.StartsAt)
					}
				}
			}
			if o.Type == Upgrade && o.ChargeType != Hourly {
				l.n, l.next = quantity, -1
			} else {
				l.next = quantity
			}
			l.pay(t, o, o.Type, more)
			if more > 0 {
				l.pays = append(l.pays, o)
			}
		case Refund:
			if event != "recycle" && event != "end" {
				t.Fatalf("%s: %s after %s", l.id, o.Type, event)
			}
			var back Money
			for _, p := range l.pays {
				if p.EndsAt > o.StartsAt && p.ChargeType != Hourly {
					back += min(share(p.PaidReal+p.PaidFree, (p.EndsAt-max(o.StartsAt, p.StartsAt))/1e6, (p.EndsAt-p.StartsAt)/1e6), p.PaidReal+p.PaidFree)
				}
			}
			l.pay(t, o, Refund, -back)
			l.pays, l.ends = nil, o.StartsAt
		}
	}
}

var tenants atomic.Int64

// errCrash ends a transaction as a crash would: nothing of it is there.
var errCrash = errors.New("crash")

// TestLives: random histories of resources. Whatever happens, in two controllers at once, with crashes, repeated calls
// and a clock that jumps: the laws hold, and what each resource paid is what its life says.
func TestLives(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		rapid.Check(t, func(t *rapid.T) { lives(t, db) })
	})
}

func lives(t *rapid.T, db *database.DB) {
	ctx := context.Background()
	now := clock.New()
	tenant := tenants.Add(1) + 300000000
	controllers := make([]*Service, 2)
	for i := range controllers {
		f := &fixture{Service: New(Deps{DB: db, Clock: now, Catalog: catalogOf(db, now)})}
		f.Register(Kind{Name: VM, Longest: 24, Remove: func(ctx context.Context, id string) error {
			return f.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return f.Recycle(ctx, tx, id) })
		}})
		controllers[i] = f.Service
	}
	f := &fixture{Service: controllers[0]}
	f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Furnish(ctx, tx, tenant, region) })
	f.must(t, func(ctx context.Context, tx bun.Tx) error {
		if err := f.rechargeTx(ctx, tx, &recharge{Company: tenant, FromType: "INNER", Type: free, Amount: 1000_0000}); err != nil {
			return err
		}
		return f.rechargeTx(ctx, tx, &recharge{Company: tenant, FromType: "OFFLINE", Type: real, Amount: 1e13})
	})
	started := f.sum(t, tenant)
	all := map[string]*life{}
	var ids []string
	bought := 0
	// attempt runs a change, sometimes dying before its commit first, and sometimes twice where that must do no harm.
	attempt := func(twice bool, fn func(ctx context.Context, tx bun.Tx) error) error {
		if rapid.Bool().Draw(t, "crash") {
			err := f.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
				if err := fn(ctx, tx); err != nil {
					return err
				}
				return errCrash
			})
			if !errors.Is(err, errCrash) {
				return err
			}
		}
		err := f.DB.Transact(ctx, fn)
		if err == nil && twice {
			err = f.DB.Transact(ctx, fn)
		}
		return err
	}
	follow := func(l *life, event string, quantity int) {
		t.Helper()
		visible := 0
		orders := f.orders(t, l.id)
		for _, o := range orders {
			if o.State != void && o.State != held {
				orders[visible] = o
				visible++
			}
		}
		l.follow(t, orders[:visible], event, quantity)
		for _, p := range l.pays {
			if (event == "recycle" || event == "end") && p.ChargeType != Hourly && p.EndsAt > now.Micros() {
				t.Fatalf("%s: %s until %d was not given back", l.id, p.Type, p.EndsAt)
			}
		}
		if c := f.charge(t, l.id); c.EndsAt != l.ends {
			t.Fatalf("%s ends at %d, the orders say %d", l.id, c.EndsAt, l.ends)
		}
	}
	pick := func(states ...string) *life {
		var some []*life
		for _, id := range ids {
			for _, s := range states {
				if all[id].state == s {
					some = append(some, all[id])
				}
			}
		}
		if len(some) == 0 {
			t.Skip("none")
		}
		return some[rapid.IntRange(0, len(some)-1).Draw(t, "resource")]
	}
	types := []string{Hourly, Monthly, Yearly}
	t.Repeat(map[string]func(*rapid.T){
		"buy": func(t *rapid.T) {
			if len(ids) > 8 {
				t.Skip("enough")
			}
			bought++
			l := &life{id: fmt.Sprintf("vm-%d-%d", tenant, bought), next: -1, n: rapid.IntRange(1, 5).Draw(t, "cores"), state: Valid}
			p := vm(l.id, rapid.SampledFrom(types).Draw(t, "type"), 1, l.n)
			p.Company, p.AutoRenew = tenant, rapid.Bool().Draw(t, "auto")
			if p.ChargeType != Hourly {
				p.Quantity = rapid.IntRange(1, longest(p.ChargeType, Kind{})).Draw(t, "periods")
			}
			if err := attempt(false, func(ctx context.Context, tx bun.Tx) error { return f.Hold(ctx, tx, p) }); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
				if err := attempt(true, func(ctx context.Context, tx bun.Tx) error { return f.End(ctx, tx, l.id) }); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err := attempt(true, func(ctx context.Context, tx bun.Tx) error { return f.Capture(ctx, tx, l.id) }); err != nil {
				t.Fatal(err)
			}
			ids, all[l.id] = append(ids, l.id), l
			follow(l, "buy", p.Quantity)
		},
		"resize": func(t *rapid.T) {
			l, n := pick(Valid), rapid.IntRange(1, 9).Draw(t, "cores")
			err := attempt(false, func(ctx context.Context, tx bun.Tx) error { return f.Change(ctx, tx, Resize{ID: l.id, Items: cpus(n)}) })
			if retcode.Of(err) == retcode.ResourceExpired {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			settle := f.Capture
			if rapid.Bool().Draw(t, "fails") {
				settle = f.Void
			}
			if err := attempt(true, func(ctx context.Context, tx bun.Tx) error { return settle(ctx, tx, l.id) }); err != nil {
				t.Fatal(err)
			}
			follow(l, "resize", n)
		},
		"renew": func(t *rapid.T) {
			l := pick(Valid, Expired, InRecycle)
			to := types[rapid.IntRange(rank(l.chargeType)-1, 2).Draw(t, "type")]
			quantity := 1
			if l.state != InRecycle {
				quantity = rapid.IntRange(1, longest(to, Kind{Longest: 24})).Draw(t, "periods")
			}
			if err := attempt(false, f.renewal(l.id, to, quantity)); err != nil {
				t.Fatal(err)
			}
			follow(l, "renew", quantity)
			if l.state == Expired {
				l.state = Valid
			}
		},
		"recycle": func(t *rapid.T) {
			l := pick(Valid, Expired)
			if err := attempt(true, func(ctx context.Context, tx bun.Tx) error { return f.Recycle(ctx, tx, l.id) }); err != nil {
				t.Fatal(err)
			}
			follow(l, "recycle", 0)
			l.state = InRecycle
		},
		"restore": func(t *rapid.T) {
			l := pick(InRecycle)
			err := attempt(true, func(ctx context.Context, tx bun.Tx) error { return f.Restore(ctx, tx, l.id) })
			if retcode.Of(err) == retcode.ResourceExpired && l.ends <= now.Micros() {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			l.state = Valid
		},
		"time": func(t *rapid.T) {
			now.Advance(time.Duration(rapid.SampledFrom([]int{1, 30, 61, 59 * 24, 90, 26 * 60, 8 * 24 * 60, 33 * 24 * 60}).Draw(t, "minutes")) * time.Minute)
			var both sync.WaitGroup
			for _, s := range controllers {
				both.Go(func() { _ = s.Renewals(ctx) })
			}
			both.Wait()
			if err := controllers[0].Renewals(ctx); err != nil {
				t.Fatal(err)
			}
			if err := controllers[1].expire(ctx); err != nil {
				t.Fatal(err)
			}
			for _, l := range all {
				if l.state == Valid {
					follow(l, "time", 0)
				}
				c := f.charge(t, l.id)
				if c.State == Valid && c.EndsAt <= now.Micros() {
					t.Fatalf("%s ended at %d and is valid", l.id, c.EndsAt)
				}
				if c.State == InRecycle && l.state != InRecycle && c.EndsAt+Grace.Microseconds() > now.Micros() {
					t.Fatalf("%s was removed within its grace", l.id)
				}
				l.state = c.State
			}
		},
		"": func(t *rapid.T) {
			var total Money
			for _, l := range all {
				follow(l, "time", 0)
				l.state = f.charge(t, l.id).State
				total += l.total
			}
			if spent := started - f.sum(t, tenant); spent != total {
				t.Fatalf("the balances lost %d, the lives cost %d", spent, total)
			}
		},
	})
	f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.End(ctx, tx, ids...) })
	for _, l := range all {
		follow(l, "end", 0)
	}
	f.verify(t)
}

// sum is what a tenant has, with what is held.
func (f *fixture) sum(t failer, tenant int64) Money {
	p, err := read(context.Background(), f.DB.Reader(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	return p.Real + p.Free + p.HeldReal + p.HeldFree
}
