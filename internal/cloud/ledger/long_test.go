package ledger

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// TestManyMonths lives through three months with ten thousand resources, most of them monthly and yearly and a hundred
// hourly: every period is paid once, and closed months are rolled up. LINGYUN_MONEY_MONTHS says how many months
// (`make test-long` takes 36).
func TestManyMonths(t *testing.T) {
	months := 3
	if text := os.Getenv("LINGYUN_MONEY_MONTHS"); text != "" {
		if _, err := fmt.Sscan(text, &months); err != nil {
			t.Fatal(err)
		}
	}
	const count, hourly, tenantsOf = 10_000, 100, 5
	f := newFixture(t, dbtest.SQLite(t), 0)
	ctx := context.Background()
	for n := range int64(tenantsOf) {
		f.must(t, func(ctx context.Context, tx bun.Tx) error {
			if err := f.Furnish(ctx, tx, company+1+n, region); err != nil {
				return err
			}
			return f.rechargeTx(ctx, tx, &recharge{Company: company + 1 + n, FromType: "OFFLINE", Type: real, Amount: 1e15})
		})
	}
	started := f.Clock.Now()
	kind := func(i int) string {
		switch {
		case i < hourly:
			return Hourly
		case i%10 == 0:
			return Yearly
		}
		return Monthly
	}
	for at := 0; at < count; at += 500 {
		var batch []Purchase
		var ids []string
		for i := at; i < at+500; i++ {
			p := vm(fmt.Sprintf("vm-%05d", i), kind(i), 1, 1+i%4)
			p.Company = company + 1 + int64(at/500)%tenantsOf
			batch, ids = append(batch, p), append(ids, p.ID)
		}
		f.must(t, func(ctx context.Context, tx bun.Tx) error {
			if err := f.Hold(ctx, tx, batch...); err != nil {
				return err
			}
			return f.Capture(ctx, tx, ids...)
		})
		f.Clock.Advance(36 * time.Minute) // spread over half a day
	}
	begun := time.Now()
	for f.Clock.Now().Before(started.AddDate(0, months, 0)) {
		f.Clock.Advance(3 * 24 * time.Hour)
		f.run(t)
		if err := f.RollUp(ctx); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(begun)
	now := f.Clock.Micros()
	rows, err := database.Find[charge](ctx, f.DB.Reader(), "ORDER BY resource_id")
	if err != nil || len(rows) != count {
		t.Fatalf("%d charges, %v", len(rows), err)
	}
	// What each has paid follows from when it began and where it is.
	var sums []struct {
		Resource string `bun:"resource_id"`
		Paid     Money  `bun:"paid"`
		Periods  int    `bun:"periods"`
	}
	if err := f.DB.Reader().NewRaw(`SELECT resource_id, CAST(SUM(paid_real + paid_free) AS BIGINT) AS paid, CAST(SUM(quantity) AS BIGINT) AS periods
		FROM ledger_order GROUP BY resource_id`).Scan(ctx, &sums); err != nil {
		t.Fatal(err)
	}
	paid := map[string]Money{}
	periods := 0
	for _, sum := range sums {
		paid[sum.Resource] = sum.Paid
		periods += sum.Periods
	}
	zone := china()
	for i, c := range rows {
		if c.State != Valid || c.EndsAt <= now || c.StartsAt < started.UnixMicro() {
			t.Fatalf("%+v", c)
		}
		from, to := time.UnixMicro(c.StartsAt).In(zone), time.UnixMicro(c.EndsAt).In(zone)
		n := 0
		switch kind(i) {
		case Hourly:
			n = int(to.Sub(from) / time.Hour)
		case Monthly:
			n = (to.Year()-from.Year())*12 + int(to.Month()-from.Month())
		case Yearly:
			n = to.Year() - from.Year()
		}
		if want := Money(corePrice[kind(i)]) * Money(1+i%4) * Money(n); paid[c.Resource] != want {
			t.Fatalf("%s by %s from %s to %s paid %d, want %d", c.Resource, kind(i), from, to, paid[c.Resource], want)
		}
	}
	f.verify(t)
	// Of the hours of closed months a row a day is left.
	var left int
	if err := f.DB.Reader().NewRaw("SELECT COUNT(*) FROM ledger_order WHERE charge_type = 'Dynamic'").Scan(ctx, &left); err != nil {
		t.Fatal(err)
	}
	if most := hourly * (31*24 + 2 + 31*months); left > most {
		t.Errorf("%d orders of hourly resources are left, want at most %d", left, most)
	}
	t.Logf("%d months, %d periods of %d resources in %v: %.0f renewals/s", months, periods, count, took.Round(time.Millisecond), float64(periods-count)/took.Seconds())
}
