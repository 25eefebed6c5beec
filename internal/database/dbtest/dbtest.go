// Package dbtest gives tests an empty, migrated database on SQLite and on PostgreSQL.
//
// PostgreSQL is the distribution's, started once a test process at its first use,
// as user postgres or nobody when the tests run as root, reached over a unix socket,
// without fsync. It ends, and its directory goes, when the process ends, however it
// ends: a small supervisor waits for the end of a pipe that only the process holds.
package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/database"
)

// Prepare, when set before the first database, adds to what every database of the process begins with: what its tests
// would each do anew before they begin.
var Prepare = func(context.Context, *database.DB) error { return nil }

// template makes a migrated database.
func template(o database.Options) error {
	ctx := context.Background()
	db, err := database.Open(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(Prepare(ctx, db), db.Close())
}

// Each runs f as two subtests, on SQLite and on PostgreSQL.
func Each(t *testing.T, f func(t *testing.T, db *database.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { f(t, Postgres(t)) })
}

// SQLite opens an empty migrated database of the test's own.
func SQLite(t testing.TB) *database.DB {
	t.Helper()
	return Open(t, SQLiteOptions(t))
}

// Postgres opens an empty migrated database of the test's own.
func Postgres(t testing.TB) *database.DB {
	t.Helper()
	return Open(t, PostgresOptions(t))
}

// Open opens a database and closes it at the test's end.
func Open(t testing.TB, o database.Options) *database.DB {
	t.Helper()
	db, err := database.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// sqliteTemplate is the migrated file's content, made once a process.
var sqliteTemplate = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "lingyun-dbtest-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := template(database.Options{Dir: dir, NoSync: true}); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, database.FileName))
})

// SQLiteOptions names a migrated SQLite database in a directory that goes with the
// test, for tests that open it themselves, more than once or in another process.
func SQLiteOptions(t testing.TB) database.Options {
	t.Helper()
	content, err := sqliteTemplate()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, database.FileName), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return database.Options{Dir: dir, NoSync: true}
}

// PostgresOptions names a migrated PostgreSQL database that is dropped at the test's end.
func PostgresOptions(t testing.TB) database.Options {
	t.Helper()
	s, err := server()
	if err != nil {
		t.Fatalf("PostgreSQL for tests: %v", err)
	}
	name := "t" + strings.ToLower(rand.Text())
	if err := s.create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.drop(name); err != nil {
			t.Error(err)
		}
	})
	return database.Options{URL: s.url(name)}
}

const templateName = "lingyun_template"

// server starts PostgreSQL and makes the migrated template, once a process.
var server = sync.OnceValues(func() (*postgres, error) {
	s, err := startPostgres(false)
	if err != nil {
		return nil, err
	}
	if _, err := s.admin.Exec("CREATE DATABASE " + templateName); err != nil {
		return nil, err
	}
	return s, template(database.Options{URL: s.url(templateName)})
})

type postgres struct {
	dir   string // of the unix socket
	admin *sql.DB
	mu    sync.Mutex // a template can be copied by one session at a time
}

func (s *postgres) url(name string) string {
	return fmt.Sprintf("postgres://postgres@/%s?host=%s", name, url.QueryEscape(s.dir))
}

func (s *postgres) create(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.admin.Exec("CREATE DATABASE " + name + " TEMPLATE " + templateName)
	return err
}

func (s *postgres) drop(name string) error {
	_, err := s.admin.Exec("DROP DATABASE " + name + " WITH (FORCE)")
	return err
}

// DurablePostgres starts a server of its own with the distribution's settings, for benchmarks, and answers
// the URL of an empty database. It ends with the process.
func DurablePostgres() (string, error) {
	s, err := startPostgres(true)
	if err != nil {
		return "", err
	}
	if _, err := s.admin.Exec("CREATE DATABASE lingyun"); err != nil {
		return "", err
	}
	return s.url("lingyun"), nil
}
