package ledger

import (
	"context"
	"fmt"
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

// TestRenewedInTheBin: who renews what is in the bin and then destroys it, or lets the bin do that, gets the rest back.
func TestRenewedInTheBin(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t), 1000)
	f.buy(t, vm("vm-1", Monthly, 1, 1))
	f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Recycle(ctx, tx, "vm-1") })
	f.must(t, f.renewal("vm-1", Monthly, 1))
	if spent := f.spent(t, 1000); spent < monthPrice {
		t.Fatalf("spent %d", spent)
	}
	c := f.charge(t, "vm-1")
	f.Clock.Advance(time.Duration(c.EndsAt-f.Clock.Micros()) / 4 * time.Microsecond)
	for range 2 {
		f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.End(ctx, tx, "vm-1") })
	}
	if spent := f.spent(t, 1000); spent < monthPrice/4-100 || spent > monthPrice/4+100 {
		t.Errorf("a quarter of the month cost %d", spent)
	}
	f.verify(t)
}

// TestRenewedWhileChanging: a period that begins while a resource is being made larger is paid for at its new size.
func TestRenewedWhileChanging(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db, 1000)
		for _, settled := range []bool{true, false} {
			id := fmt.Sprint("vm-", settled)
			f.buy(t, vm(id, Monthly, 1, 1))
			ends := f.charge(t, id).EndsAt
			f.Clock.Advance(time.Duration(ends-f.Clock.Micros())*time.Microsecond - 90*time.Second)
			f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Change(ctx, tx, Resize{ID: id, Items: cpus(2)}) })
			f.refuse(t, retcode.InvalidResourceState, f.renewal(id, Monthly, 1))
			f.Clock.Advance(5 * time.Minute)
			f.run(t)
			if c := f.charge(t, id); c.EndsAt != ends || c.State != Valid {
				t.Fatalf("while it changes: %s until %d, it was %d", c.State, c.EndsAt, ends)
			}
			settle, price := f.Capture, 2*monthPrice
			if !settled {
				settle, price = f.Void, monthPrice
			}
			f.must(t, func(ctx context.Context, tx bun.Tx) error { return settle(ctx, tx, id) })
			at := f.spent(t, 1000)
			f.run(t)
			if paid := f.spent(t, 1000) - at; paid != price {
				t.Errorf("the month after the change costs %d, want %d", paid, price)
			}
			f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.End(ctx, tx, id) })
		}
		f.verify(t)
	})
}

// TestLastCent: a renewal that takes all there is happens, and one for a cent more does not.
func TestLastCent(t *testing.T) {
	for _, more := range []Money{0, -1} {
		f := newFixture(t, dbtest.SQLite(t), 0)
		f.must(t, func(ctx context.Context, tx bun.Tx) error {
			return f.rechargeTx(ctx, tx, &recharge{Company: company, FromType: "OFFLINE", Type: real, Amount: 2*hourPrice + more})
		})
		f.buy(t, vm("vm-1", Hourly, 1, 1))
		f.Clock.Advance(time.Hour)
		f.run(t)
		state, left := Valid, Money(0)
		if more < 0 {
			state, left = Expired, hourPrice+more
		}
		if c := f.charge(t, "vm-1"); c.State != state || f.purse(t).Real != left {
			t.Errorf("with %d more: %s, %d left", more, c.State, f.purse(t).Real)
		}
		f.verify(t)
	}
}

// TestClockPutBack: a clock that goes back charges nothing twice and pays nothing back that was not paid.
func TestClockPutBack(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t), 1000)
	f.buy(t, vm("vm-1", Monthly, 1, 1))
	f.buy(t, vm("vm-2", Hourly, 1, 1))
	f.Clock.Advance(-50 * 24 * time.Hour)
	f.run(t)
	f.must(t, func(ctx context.Context, tx bun.Tx) error {
		return f.Change(ctx, tx, Resize{ID: "vm-1", Items: cpus(2)})
	})
	f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Capture(ctx, tx, "vm-1") })
	if spent := f.spent(t, 1000); spent != 2*monthPrice+hourPrice {
		t.Errorf("a month of two cores and an hour cost %d", spent)
	}
	f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Recycle(ctx, tx, "vm-1", "vm-2") })
	if spent := f.spent(t, 1000); spent != hourPrice {
		t.Errorf("given back, %d are spent", spent)
	}
	f.Clock.Advance(50 * 24 * time.Hour)
	f.run(t)
	f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.End(ctx, tx, "vm-1", "vm-2") })
	if spent := f.spent(t, 1000); spent != hourPrice {
		t.Errorf("in the end %d are spent", spent)
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
			return f.renewal("vm-1", chargeType, n)
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
