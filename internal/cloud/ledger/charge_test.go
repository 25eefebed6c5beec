package ledger

import (
	"context"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

const (
	hourPrice  Money = 11660
	monthPrice Money = 80_0000
)

func TestHoldCaptureVoid(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, 100)
		hold := func(ps ...Purchase) func(ctx context.Context, tx bun.Tx) error {
			return func(ctx context.Context, tx bun.Tx) error { return f.Hold(ctx, tx, ps...) }
		}
		// All or nothing: two months are more than there is.
		f.refuse(t, retcode.InsufficientBalance, hold(vm("vm-1", Monthly, 1, 1), vm("vm-2", Monthly, 1, 1)))
		f.must(t, hold(vm("vm-1", Monthly, 1, 1)))
		if p := f.purse(t); p.Free != 20_0000 || p.HeldFree != monthPrice {
			t.Fatalf("after the hold: %+v", p)
		}
		// What failed costs nothing, and nobody sees it; voiding twice gives back once.
		for range 2 {
			f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Void(ctx, tx, "vm-1") })
		}
		if p := f.purse(t); p.Free != 100_0000 || p.HeldFree != 0 {
			t.Fatalf("after the void: %+v", p)
		}
		f.must(t, hold(vm("vm-3", Monthly, 1, 1)))
		for range 2 {
			f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Capture(ctx, tx, "vm-3") })
		}
		if p := f.purse(t); p.Free != 20_0000 || p.HeldFree != 0 {
			t.Fatalf("after the capture: %+v", p)
		}
		if c := f.charge(t, "vm-3"); c.State != Valid || c.DueAt != c.EndsAt {
			t.Errorf("%+v", c)
		}
		f.verify(t)
		// A tenant without accounts.
		p := vm("vm-4", Monthly, 1, 1)
		p.Company = 4711
		f.refuse(t, retcode.PayAccountNotFound, hold(p))
	})
}

func TestGiftsPayFirst(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t), 50)
	f.must(t, func(ctx context.Context, tx bun.Tx) error {
		return f.rechargeTx(ctx, tx, &recharge{Company: company, FromType: "OFFLINE", Type: real, Amount: 100_0000})
	})
	f.buy(t, vm("vm-1", Monthly, 1, 1))
	if p := f.purse(t); p.Free != 0 || p.Real != 70_0000 {
		t.Fatalf("%+v", p)
	}
	// Deleted in the middle, both get back what they paid for the rest: 5/8 and 3/8 of half.
	c := f.charge(t, "vm-1")
	f.Clock.Advance(time.Duration(c.EndsAt-c.StartsAt) / 2 * time.Microsecond)
	f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Recycle(ctx, tx, "vm-1") })
	p := f.purse(t)
	if near := func(got, want Money) bool { return got > want-100 && got <= want+100 }; !near(p.Free, 25_0000) || !near(p.Real, 85_0000) {
		t.Errorf("%+v", p)
	}
	f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.End(ctx, tx, "vm-1") })
	if again := f.purse(t); again != p {
		t.Errorf("destroying pays back again: %+v, %+v", p, again)
	}
	f.verify(t)
}

func TestResize(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, 10_000)
		change := func(id string, n int) {
			t.Helper()
			f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Change(ctx, tx, Resize{ID: id, Items: cpus(n)}) })
			f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Capture(ctx, tx, id) })
		}
		f.buy(t, vm("vm-m", Monthly, 2, 1))
		f.buy(t, vm("vm-h", Hourly, 1, 1))
		before := f.spent(t, 10_000)
		if before != 2*monthPrice+hourPrice {
			t.Fatalf("spent %d", before)
		}
		// One core more for the second half of two months is one month's price; the hour has to end first.
		c := f.charge(t, "vm-m")
		f.Clock.Advance(time.Duration(c.EndsAt-c.StartsAt) / 2 * time.Microsecond)
		f.run(t) // the hours meanwhile
		at := f.spent(t, 10_000)
		change("vm-m", 2)
		change("vm-h", 3)
		if more := f.spent(t, 10_000) - at; more < monthPrice-100 || more > monthPrice {
			t.Errorf("the enlargement costs %d", more)
		}
		f.Clock.Advance(time.Hour)
		at = f.spent(t, 10_000)
		f.run(t)
		if paid := f.spent(t, 10_000) - at; paid != 3*hourPrice {
			t.Errorf("the next hour costs %d", paid)
		}
		// Smaller costs nothing and pays nothing back now; the next month is cheaper.
		at = f.spent(t, 10_000)
		change("vm-m", 1)
		if f.spent(t, 10_000) != at {
			t.Error("made smaller, money moved")
		}
		f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.End(ctx, tx, "vm-h") })
		f.Clock.Advance(40 * 24 * time.Hour)
		at = f.spent(t, 10_000)
		f.run(t)
		if paid := f.spent(t, 10_000) - at; paid != monthPrice {
			t.Errorf("the month after costs %d", paid)
		}
		// Given up, a change leaves nothing.
		at = f.spent(t, 10_000)
		f.must(t, func(ctx context.Context, tx bun.Tx) error {
			return f.Change(ctx, tx, Resize{ID: "vm-m", Items: cpus(9)})
		})
		f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Void(ctx, tx, "vm-m") })
		if f.spent(t, 10_000) != at || f.charge(t, "vm-m").Items != encode(cpus(1)) {
			t.Error("a change that was given up left something")
		}
		// What may become smaller on its last day only.
		small := Resize{ID: "vm-m", Items: cpus(0), LastDay: true}
		f.refuse(t, retcode.InvalidResourceBizState, func(ctx context.Context, tx bun.Tx) error { return f.Change(ctx, tx, small) })
		f.Clock.Advance(time.Until(time.UnixMicro(f.charge(t, "vm-m").EndsAt)) - f.Clock.Offset() - 23*time.Hour)
		f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Change(ctx, tx, small) })
		f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Capture(ctx, tx, "vm-m") })
		f.verify(t)
	})
}

func TestExpiry(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, 3)
		p := vm("vm-1", Hourly, 1, 1)
		f.buy(t, p)
		check := func() error { return f.Check(context.Background(), f.DB.Reader(), "vm-1") }
		// 3 yuan are two hours.
		f.Clock.Advance(90 * time.Minute)
		f.run(t)
		if err := check(); err != nil || len(f.expiredIDs) != 0 {
			t.Fatalf("after an hour: %v, %v", err, f.expiredIDs)
		}
		f.Clock.Advance(time.Hour)
		f.run(t)
		f.run(t)
		if err := check(); retcode.Of(err) != retcode.ResourceExpired || len(f.expiredIDs) != 1 {
			t.Fatalf("after two hours: %v, %v", err, f.expiredIDs)
		}
		if f.spent(t, 3) != 2*hourPrice {
			t.Errorf("spent %d", f.spent(t, 3))
		}
		// Seven days of grace.
		f.Clock.Advance(6 * 24 * time.Hour)
		f.run(t)
		if len(f.removed) != 0 {
			t.Error("removed within the grace")
		}
		f.Clock.Advance(24 * time.Hour)
		f.run(t)
		if len(f.removed) != 1 || f.charge(t, "vm-1").State != InRecycle {
			t.Fatalf("removed %v, %s", f.removed, f.charge(t, "vm-1").State)
		}
		restore := func(ctx context.Context, tx bun.Tx) error { return f.Restore(ctx, tx, "vm-1") }
		f.refuse(t, retcode.ResourceExpired, restore)
		renew := func(chargeType string, n int) func(ctx context.Context, tx bun.Tx) error {
			return func(ctx context.Context, tx bun.Tx) error {
				rows, err := charges(ctx, tx, "vm-1")
				if err != nil {
					return err
				}
				_, err = f.renewTx(ctx, tx, &rows[0], chargeType, n)
				return err
			}
		}
		f.refuse(t, retcode.InsufficientBalance, renew(Hourly, 1))
		f.must(t, func(ctx context.Context, tx bun.Tx) error {
			return f.rechargeTx(ctx, tx, &recharge{Company: company, FromType: "OFFLINE", Type: real, Amount: 1000_0000})
		})
		f.refuse(t, retcode.InvalidResourceBizState, renew(Hourly, 2)) // one at a time in the bin
		f.must(t, renew(Hourly, 1))
		f.must(t, restore)
		if err := check(); err != nil {
			t.Fatal(err)
		}
		// Longer charge types only.
		f.must(t, renew(Yearly, 1))
		f.refuse(t, retcode.InvalidResourceBizState, renew(Monthly, 1))
		f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.End(ctx, tx, "vm-1") })
		f.refuse(t, retcode.ResourceTerminated, renew(Yearly, 1))
		f.verify(t)
	})
}
