package ledger

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

const (
	region  = "cn"
	company = int64(200000300)
)

// fixture is the ledger alone: its products have no rows.
type fixture struct {
	*Service
	expiredIDs, removed []string
}

func catalogOf(db *database.DB, now *clock.Clock) *catalog.Service {
	return catalog.New(catalog.Deps{DB: db, Clock: now})
}

func newFixture(t testing.TB, db *database.DB, yuan int) *fixture {
	t.Helper()
	return startFixture(t, db, clock.New(), yuan)
}

// startFixture makes a ledger on a clock; a second one on the same database is a second controller.
func startFixture(t testing.TB, db *database.DB, now *clock.Clock, yuan int) *fixture {
	t.Helper()
	f := &fixture{Service: New(Deps{DB: db, Clock: now, Catalog: catalogOf(db, now)})}
	f.Register(Kind{Name: VM, Longest: 24,
		Expired: func(_ context.Context, id string) error { f.expiredIDs = append(f.expiredIDs, id); return nil },
		Remove: func(ctx context.Context, id string) error {
			f.removed = append(f.removed, id)
			return f.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return f.Recycle(ctx, tx, id) })
		}})
	f.must(t, func(ctx context.Context, tx bun.Tx) error { return f.Furnish(ctx, tx, company, region) })
	if yuan > 0 {
		if err := f.Grant(t.Context(), company, yuan); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// failer is what testing.T and rapid.T have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
}

func (f *fixture) must(t failer, fn func(ctx context.Context, tx bun.Tx) error) {
	t.Helper()
	if err := f.DB.Transact(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) refuse(t testing.TB, code retcode.Code, fn func(ctx context.Context, tx bun.Tx) error) {
	t.Helper()
	if err := f.DB.Transact(context.Background(), fn); retcode.Of(err) != code {
		t.Fatalf("got %v, want code %d", err, code)
	}
}

// cpus are what a test's machine pays for: 1.166 an hour, 80 a month, 960 a year each.
func cpus(n int) []catalog.Item {
	return []catalog.Item{{Factor: catalog.PriceCPU, Scope: "A", Amount: int64(n)}}
}

func vm(id, chargeType string, quantity, n int) Purchase {
	return Purchase{Kind: VM, ID: id, Name: id, Company: company, Region: region, Project: "p", ChargeType: chargeType, Quantity: quantity,
		AutoRenew: true, Items: cpus(n)}
}

// buy makes a resource at once.
func (f *fixture) buy(t failer, p Purchase) {
	t.Helper()
	f.must(t, func(ctx context.Context, tx bun.Tx) error {
		if err := f.Hold(ctx, tx, p); err != nil {
			return err
		}
		return f.Capture(ctx, tx, p.ID)
	})
}

// renewal is what a tenant's renewal of a resource does.
func (f *fixture) renewal(id, chargeType string, n int) func(ctx context.Context, tx bun.Tx) error {
	return func(ctx context.Context, tx bun.Tx) error {
		rows, err := charges(ctx, tx, id)
		if err != nil {
			return err
		}
		_, err = f.renewTx(ctx, tx, &rows[0], chargeType, n)
		return err
	}
}

func (f *fixture) charge(t failer, id string) charge {
	t.Helper()
	rows, err := charges(context.Background(), f.DB.Reader(), id)
	if err != nil || len(rows) != 1 {
		t.Fatal(fmt.Sprintf("%d charges of %s, %v", len(rows), id, err))
	}
	return rows[0]
}

func (f *fixture) purse(t failer) purse {
	t.Helper()
	p, err := read(context.Background(), f.DB.Reader(), company)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// spent since a purse with so many yuan.
func (f *fixture) spent(t failer, of int) Money {
	p := f.purse(t)
	return Money(of)*10000 - p.Real - p.Free
}

// verify fails the test when a law is broken.
func (f *fixture) verify(t failer) {
	t.Helper()
	problems, err := Verify(context.Background(), f.DB.Reader())
	if err != nil {
		t.Fatal(err)
	}
	if len(problems) > 0 {
		t.Fatal(problems)
	}
}

func (f *fixture) orders(t failer, id string) []order {
	t.Helper()
	rows, err := database.Find[order](context.Background(), f.DB.Reader(), "WHERE resource_id = ? ORDER BY created_at, starts_at, id", id)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// run lets the reconcilers do what is due now.
func (f *fixture) run(t failer) {
	t.Helper()
	for _, do := range []func(context.Context) error{f.Renewals, f.expire} {
		if err := do(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCalendar(t *testing.T) {
	china := china()
	date := func(text string) time.Time {
		d, err := time.ParseInLocation("2006-01-02 15:04", text, china)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		anchor string
		months int
		want   string
	}{
		{"2026-01-15 10:30", 1, "2026-02-15 10:30"},
		{"2026-01-31 10:30", 1, "2026-02-28 10:30"}, // a day that the month lacks is its last
		{"2026-01-31 10:30", 2, "2026-03-31 10:30"}, // and comes back after it
		{"2026-01-31 10:30", 3, "2026-04-30 10:30"},
		{"2027-12-31 23:59", 2, "2028-02-29 23:59"}, // a leap year
		{"2028-02-29 00:00", 12, "2029-02-28 00:00"},
		{"2028-02-29 00:00", 48, "2032-02-29 00:00"},
		{"2026-11-30 00:00", 1, "2026-12-30 00:00"},
		{"2026-12-31 00:00", 1, "2027-01-31 00:00"},
		{"2026-03-01 07:59", 12, "2027-03-01 07:59"}, // still February in UTC
		{"2096-02-29 12:00", 96, "2104-02-29 12:00"}, // 2100 is none
		{"2096-02-29 12:00", 48, "2100-02-28 12:00"},
	} {
		if got := addMonths(date(c.anchor), c.months); !got.Equal(date(c.want)) {
			t.Errorf("%s and %d months: %s, want %s", c.anchor, c.months, got, c.want)
		}
	}
	// Where clocks are put back an hour, the time of day stays and the length of the term does not.
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones on this machine")
	}
	from := time.Date(2026, 10, 1, 9, 0, 0, 0, berlin)
	if got := addMonths(from, 1); got.Hour() != 9 || got.Sub(from) != 31*24*time.Hour+time.Hour {
		t.Errorf("over the end of summer time: %s, %s later", got, got.Sub(from))
	}
}

// TestMidnightSkipped: where summer time begins at midnight of the first, that month is one like the others.
func TestMidnightSkipped(t *testing.T) {
	for zone, c := range map[string]struct {
		anchor string
		months int
		want   string
	}{
		"America/Asuncion": {"2017-09-15 10:30", 1, "2017-10-15 10:30"},
		"Asia/Amman":       {"1999-06-30 10:30", 1, "1999-07-30 10:30"},
		"Asia/Beirut":      {"1984-04-30 10:30", 1, "1984-05-30 10:30"},
		"Africa/Cairo":     {"1981-04-30 10:30", 1, "1981-05-30 10:30"},
	} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		anchor, err := time.ParseInLocation("2006-01-02 15:04", c.anchor, location)
		if err != nil {
			t.Fatal(err)
		}
		if got := addMonths(anchor, c.months).Format("2006-01-02 15:04"); got != c.want {
			t.Errorf("%s: %s and %d months: %s, want %s", zone, c.anchor, c.months, got, c.want)
		}
	}
}

func TestTerms(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t), 0)
	at := func(text string) int64 {
		d, err := time.ParseInLocation("2006-01-02 15:04", text, china())
		if err != nil {
			t.Fatal(err)
		}
		return d.UnixMicro()
	}
	type step struct {
		chargeType string
		quantity   int
		until      string
	}
	for name, steps := range map[string][]step{
		"month after month keeps the 31st":  {{Monthly, 1, "2026-02-28 10:30"}, {Monthly, 1, "2026-03-31 10:30"}, {Monthly, 11, "2027-02-28 10:30"}, {Monthly, 1, "2027-03-31 10:30"}},
		"months, then years":                {{Monthly, 1, "2026-02-28 10:30"}, {Yearly, 1, "2027-02-28 10:30"}, {Yearly, 1, "2028-02-29 10:30"}},
		"to the end of the month":           {{Monthly, 0, "2026-02-01 00:00"}, {Monthly, 1, "2026-03-01 00:00"}, {Monthly, 0, "2026-04-01 00:00"}},
		"hours, then months from there":     {{Hourly, 1, "2026-01-31 11:30"}, {Hourly, 24, "2026-02-01 11:30"}, {Monthly, 1, "2026-03-01 11:30"}},
		"five years are one step":           {{Yearly, 5, "2031-01-31 10:30"}},
		"hours over the end of a short one": {{Hourly, 720, "2026-03-02 10:30"}},
	} {
		c := charge{Region: region, EndsAt: at("2026-01-31 10:30")}
		for i, s := range steps {
			from := c.EndsAt
			if got := f.extend(&c, s.chargeType, s.quantity); got != from {
				t.Errorf("%s: step %d begins at %d, not at the end", name, i, got)
			}
			if c.EndsAt != at(s.until) {
				t.Errorf("%s: step %d ends at %s, want %s", name, i, time.UnixMicro(c.EndsAt).In(china()), s.until)
			}
		}
	}
}

// TestMain lets random histories be fewer than rapid's 100 a test: each is long. -rapid.checks says otherwise.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", "30"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
