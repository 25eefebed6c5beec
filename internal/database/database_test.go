package database_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// counter makes a table with one row of which two clients take.
func counter(t *testing.T, db *database.DB) {
	t.Helper()
	err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		for _, q := range []string{
			"CREATE TABLE counter (id TEXT PRIMARY KEY, used BIGINT NOT NULL)",
			"INSERT INTO counter VALUES ('a', 0), ('b', 0)",
		} {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func used(t *testing.T, db *database.DB, id string) int {
	t.Helper()
	var n int
	if err := db.Reader().NewRaw("SELECT used FROM counter WHERE id = ?", id).Scan(t.Context(), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestGuardedUpdatesNeverExceedTheirLimit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		const limit, clients = 20, 8
		var wg sync.WaitGroup
		errs := make(chan error, clients)
		for range clients {
			wg.Go(func() {
				for range 5 {
					errs <- db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
						_, err := tx.ExecContext(ctx, "UPDATE counter SET used = used + 1 WHERE id = 'a' AND used + 1 <= ?", limit)
						return err
					})
				}
			})
		}
		go func() { wg.Wait(); close(errs) }()
		for err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		if n := used(t, db, "a"); n != limit {
			t.Errorf("used %d of %d", n, limit)
		}
	})
}

// Two transactions that take two rows in opposite orders deadlock on PostgreSQL; Transact runs the loser again.
func TestDeadlocksAreRunAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		var wg sync.WaitGroup
		for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
			wg.Go(func() {
				for range 20 {
					err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
						for _, id := range order {
							if _, err := tx.ExecContext(ctx, "UPDATE counter SET used = used + 1 WHERE id = ?", id); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if a, b := used(t, db, "a"), used(t, db, "b"); a != 40 || b != 40 {
			t.Errorf("used %d and %d, want 40 and 40", a, b)
		}
	})
}

func TestFailedTransactionLeavesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		boom := errors.New("boom")
		take := func(ctx context.Context, tx bun.Tx) {
			if _, err := tx.ExecContext(ctx, "UPDATE counter SET used = 7"); err != nil {
				t.Error(err)
			}
		}
		err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { take(ctx, tx); return boom })
		if !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { take(ctx, tx); panic("boom") })
		}()
		if n := used(t, db, "a"); n != 0 {
			t.Errorf("used %d after two rollbacks", n)
		}
	})
}

func TestCallsInsideATransactionAreRefused(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			if !database.InTransaction(ctx) {
				t.Error("the context is not marked")
			}
			if err := db.Transact(ctx, func(context.Context, bun.Tx) error { return nil }); !errors.Is(err, database.ErrNested) {
				t.Errorf("Transact inside: %v", err)
			}
			if _, err := db.Reader().ExecContext(ctx, "UPDATE counter SET used = 1"); !errors.Is(err, database.ErrNested) {
				t.Errorf("write on the pool inside: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if database.InTransaction(t.Context()) {
			t.Error("the mark leaked")
		}
	})
}

func TestReaderRefusesWrites(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		if _, err := db.Reader().ExecContext(t.Context(), "UPDATE counter SET used = 1"); err == nil {
			t.Error("the read pool wrote")
		}
		if n := used(t, db, "a"); n != 0 {
			t.Errorf("used %d", n)
		}
	})
}

func TestADatabaseTakenAwayAnswersUnavailable(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		// In the middle of a transaction: its next statement fails, and so does the commit.
		err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			if _, err := tx.ExecContext(ctx, "UPDATE counter SET used = 7"); err != nil {
				return err
			}
			db.SetDown(true)
			return nil
		})
		if !errors.Is(err, database.ErrUnavailable) {
			t.Errorf("commit: %v", err)
		}
		if err := db.Ping(t.Context()); !errors.Is(err, database.ErrUnavailable) {
			t.Errorf("ping: %v", err)
		}
		var n int
		err = db.Reader().NewRaw("SELECT used FROM counter").Scan(t.Context(), &n)
		if !errors.Is(err, database.ErrUnavailable) {
			t.Errorf("read: %v", err)
		}
		db.SetDown(false)
		if n := used(t, db, "a"); n != 0 {
			t.Errorf("used %d: the transaction was committed", n)
		}
	})
}

func TestUniqueAndLikeMeanTheSameOnBothEngines(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		insert := func(id string) error {
			return db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.ExecContext(ctx, "INSERT INTO counter VALUES (?, 0)", id)
				return err
			})
		}
		if err := insert("a"); !database.IsUnique(err) {
			t.Errorf("a second a: %v", err)
		}
		if database.IsUnique(errors.New("other")) || database.IsUnique(nil) {
			t.Error("IsUnique takes anything")
		}
		for _, id := range []string{`50%_off\now`, "50 per cent", "Straße", "it's"} {
			if err := insert(id); err != nil {
				t.Fatal(err)
			}
		}
		for text, want := range map[string]int64{`%`: 1, `_`: 1, `\`: 1, "50": 2, "PER": 0, "raß": 1, "'": 1, "": 6} {
			n, err := db.Reader().NewSelect().Table("counter").Where(`id LIKE ? ESCAPE '\'`, database.Like(text)).Count(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n != want {
				t.Errorf("LIKE %q found %d, want %d", text, n, want)
			}
		}
	})
}

// The guarded statement that locks and reservations are made of: an upsert that does nothing when its condition fails.
func TestGuardedUpsertCountsRows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		for want := int64(1); want >= 0; want-- {
			var res sql.Result
			err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) (err error) {
				res, err = tx.ExecContext(ctx, "INSERT INTO counter VALUES ('a', 9) ON CONFLICT (id) DO UPDATE SET used = 9 WHERE counter.used = 0")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if n, err := res.RowsAffected(); err != nil || n != want {
				t.Errorf("%d rows, %v; want %d", n, err, want)
			}
		}
	})
}

func TestMigrationSavesTheDatabaseFirst(t *testing.T) {
	o := dbtest.SQLiteOptions(t)
	o.KeyFingerprint = "SHA256:test"
	// An older schema, five times: the newest migration is taken back, and comes again.
	for range 5 {
		db, err := sql.Open("sqlite", filepath.Join(o.Dir, database.FileName))
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{
			"DROP TABLE lease", "DROP TABLE operation_lock", "DROP TABLE resource_lock", "DROP TABLE operation",
			"DELETE FROM goose_db_version WHERE version_id = 1",
		} {
			if _, err := db.Exec(q); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := database.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Opening what is up to date saves nothing.
	before, _ := filepath.Glob(filepath.Join(o.Dir, "backup", "*.db"))
	d, err := database.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	after, _ := filepath.Glob(filepath.Join(o.Dir, "backup", "*.db"))
	if len(before) != 3 || len(after) != 3 || before[0] != after[0] {
		t.Fatalf("backups %v, then %v; want the same 3", before, after)
	}
	for _, f := range after {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
		note, err := os.ReadFile(f + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`"KeyFingerprint":"SHA256:test"`).Match(note) {
			t.Errorf("note %s", note)
		}
		old, err := sql.Open("sqlite", f)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := old.QueryRow("SELECT count(*) FROM goose_db_version WHERE version_id = 1").Scan(&n); err != nil || n != 0 {
			t.Errorf("%s holds version 1 %d times, %v", f, n, err)
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMigrationsRunOnceWhenTwoOpenAtOnce(t *testing.T) {
	o := dbtest.PostgresOptions(t)
	db := dbtest.Open(t, o)
	if _, err := db.Writer().ExecContext(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			d, err := database.Open(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestSQLiteKeepsItsPromises(t *testing.T) {
	o := dbtest.SQLiteOptions(t)
	o.NoSync = false // as a server has it
	db := dbtest.Open(t, o)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		var got string
		if err := db.Writer().QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q (%v)", pragma, got, want, err)
		}
	}
	if n := db.Writer().Stats().MaxOpenConnections; n != 1 {
		t.Errorf("%d writer connections", n)
	}
	info, err := os.Stat(filepath.Join(o.Dir, database.FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := database.Open(ctx, database.Options{}); err == nil {
		t.Error("opened nothing")
	}
	if _, err := database.Open(ctx, database.Options{URL: "postgres://nobody@127.0.0.1:1/x"}); !errors.Is(err, database.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestIDs(t *testing.T) {
	form := regexp.MustCompile(`^vm-[a-z0-9]{14}$`)
	seen := map[string]bool{}
	for range 1000 {
		id := database.NewID("vm")
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
	last := int64(0)
	for range 1000 {
		n := database.Serial()
		if n <= last || n >= 1<<53 {
			t.Fatalf("%d after %d", n, last)
		}
		last = n
	}
}

type counterRow struct {
	bun.BaseModel `bun:"table:counter"`

	ID   string `bun:"id,pk"`
	Used int64  `bun:"used"`
}

// Find reads the same rows as bun, also while another query of the same text is open, and inside a transaction.
func TestFind(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		find := func(ctx context.Context, idb bun.IDB) {
			t.Helper()
			for range 3 {
				rows, err := database.Find[counterRow](ctx, idb, "WHERE id IN (?) AND used >= ? ORDER BY id DESC", []string{"a", "b", "c"}, 0)
				if err != nil || len(rows) != 2 || rows[0].ID != "b" || rows[1].ID != "a" {
					t.Errorf("%+v, %v", rows, err)
				}
			}
		}
		find(t.Context(), db.Reader())
		err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			find(ctx, tx)
			if _, err := tx.Tx.ExecContext(ctx, "UPDATE counter SET used = 7"); err != nil {
				return err
			}
			rows, err := database.Find[counterRow](ctx, tx, "WHERE id = ?", "a")
			if err != nil || len(rows) != 1 || rows[0].Used != 7 {
				t.Errorf("inside: %+v, %v", rows, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		rows, err := database.Find[counterRow](t.Context(), db.Reader(), "WHERE id = ?", "b")
		if err != nil || len(rows) != 1 || rows[0].Used != 7 {
			t.Errorf("after: %+v, %v", rows, err)
		}
		if _, err := database.Find[counterRow](t.Context(), db.Reader(), "WHERE id = ?"); err == nil {
			t.Error("an argument is missing, and nobody minds")
		}
	})
}

// Select reads what bun would, texts of any kind included, and Query and Exec what a statement of one's own says.
func TestSelect(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		counter(t, db)
		odd := `it's "?" $1 ?1 \ 凌`
		if err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			for _, id := range []string{odd, odd} {
				if _, err := database.Exec(ctx, tx, "INSERT INTO counter (id, used) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET used = counter.used + ?", id, 20, 1); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		r := db.Reader()
		for range 3 {
			q := r.NewSelect().Model((*counterRow)(nil)).Where("id IN (?) OR id IN (?)", bun.In([]string{"a", odd}),
				r.NewSelect().Model((*counterRow)(nil)).Column("id").Where("id = ?", "b")).Where("used >= ?", 0).Order("used DESC", "id").Limit(2)
			var want []counterRow
			if err := q.Scan(t.Context(), &want); err != nil {
				t.Fatal(err)
			}
			got, err := database.Select[counterRow](t.Context(), r, q)
			if err != nil || len(got) != 2 || got[0].ID != odd || got[0].Used != 21 || !slices.Equal(got, want) {
				t.Errorf("%+v, %v; bun has %+v", got, err, want)
			}
		}
		sums, err := database.Query[struct{ ID, N int64 }](t.Context(), r, "SELECT 7 AS id, CAST(SUM(used) AS BIGINT) AS n FROM counter WHERE id = ?", odd)
		if err != nil || len(sums) != 1 || sums[0].ID != 7 || sums[0].N != 21 {
			t.Errorf("%+v, %v", sums, err)
		}
		if _, err := database.Query[struct{ ID int64 }](t.Context(), r, "SELECT 7 AS id, 8 AS n WHERE ? = 'a'", "a"); err == nil {
			t.Error("a column has no field, and nobody minds")
		}
	})
}
