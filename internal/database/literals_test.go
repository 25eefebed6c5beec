package database

import (
	"database/sql"
	"math"
	"path/filepath"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestLiteralsBecomeArguments(t *testing.T) {
	for query, want := range map[string]struct {
		text   string
		values []any
	}{
		`INSERT INTO "disk2" ("id", "n") VALUES ('it''s', -5), ('', 12)`:             {`INSERT INTO "disk2" ("id", "n") VALUES (?, -?), (?, ?)`, []any{"it's", int64(5), "", int64(12)}},
		`UPDATE t1 SET a = a + 1, "b""2" = TRUE WHERE x9 = '?' AND y = NULL`:         {`UPDATE t1 SET a = a + ?, "b""2" = TRUE WHERE x9 = ? AND y = NULL`, []any{int64(1), "?"}},
		`WITH t (id) AS (VALUES ('盘', 7)) UPDATE v SET n = t.n FROM t`:               {`WITH t (id) AS (VALUES (?, ?)) UPDATE v SET n = t.n FROM t`, []any{"盘", int64(7)}},
		`INSERT INTO t VALUES ('a') ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n-2`: {`INSERT INTO t VALUES (?) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n-?`, []any{"a", int64(2)}},
	} {
		text, values, ok := liftLiterals(query)
		var got []any
		for i, v := range values {
			if v.Ordinal != i+1 || v.Name != "" {
				t.Errorf("%s: argument %d is %+v", query, i, v)
			}
			got = append(got, v.Value)
		}
		if !ok || text != want.text || !reflect.DeepEqual(got, want.values) {
			t.Errorf("%s:\n%s %v %v", query, text, got, ok)
		}
	}
}

func TestWhatIsNotCertainStaysAsItIs(t *testing.T) {
	for _, query := range []string{
		"SELECT 'a' FROM t ORDER BY 1", "DELETE FROM t WHERE a <> 0", "CREATE INDEX i ON t (a) WHERE a > 0", "PRAGMA user_version = 3",
		"INSERT INTO t VALUES (X'00ff')", "INSERT INTO t VALUES (1.5)", "INSERT INTO t VALUES (.5)", "INSERT INTO t VALUES (1e3)", "INSERT INTO t VALUES (0x10)",
		"INSERT INTO t VALUES (9223372036854775808)", "INSERT INTO t VALUES ('a", `UPDATE "t SET a = 1`, "UPDATE t SET a = 1; UPDATE t SET b = 2",
		"UPDATE t SET a = 1 -- no more", "UPDATE t SET a = 1 /* no more */", "UPDATE t SET a = ?", "UPDATE t SET a = :a", "UPDATE `t` SET a = 1", "UPDATE [t] SET a = 1",
		"UPDATE t SET a = b",
	} {
		if text, values, ok := liftLiterals(query); ok {
			t.Errorf("%s: %s %v", query, text, values)
		}
	}
}

// What bun writes is read again as it was meant, whatever the texts and numbers are.
func TestLiftedWritesMeanTheSame(t *testing.T) {
	db, err := Open(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "d"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	type literal struct {
		ID    int64 `bun:"id,pk,autoincrement"`
		Text  string
		N     int64
		Truth bool
		F     float64
	}
	if _, err := db.writer.NewCreateTable().Model((*literal)(nil)).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		want := literal{Text: rapid.StringMatching(`[a-z'"?;:\\\-0-9 盘]{0,12}`).Draw(t, "text"), N: rapid.Int64Range(math.MinInt64, math.MaxInt64).Draw(t, "n"),
			Truth: rapid.Bool().Draw(t, "truth"), F: rapid.SampledFrom([]float64{0, 1, -2.5, 1e300}).Draw(t, "f")}
		row := want
		if _, err := db.writer.NewInsert().Model(&row).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		want.ID = row.ID
		check := func() {
			var got literal
			var kinds string
			if err := db.reader.NewSelect().Model(&got).Where("id = ?", want.ID).Scan(t.Context()); err != nil || got != want {
				t.Fatalf("%+v, not %+v: %v", got, want, err)
			}
			err := db.reader.NewRaw("SELECT typeof(text) || typeof(n) || typeof(truth) FROM literals WHERE id = ?", want.ID).Scan(t.Context(), &kinds)
			if err != nil || kinds != "textintegerinteger" {
				t.Fatal(kinds, err)
			}
		}
		check()
		want.Text, want.N = want.Text+"'", -want.N
		res, err := db.writer.NewUpdate().Model((*literal)(nil)).Set("text = ?, n = ?", want.Text, want.N).Where("id = ? AND text = ?", row.ID, row.Text).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := sql.Result(res).RowsAffected(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		check()
	})
}
