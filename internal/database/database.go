// Package database opens, migrates and transacts. Nobody else opens a database.
//
// Two engines, one meaning: SQLite (default: WAL, synchronous=FULL, one writer
// connection shared with the workflow engine, a read pool) and PostgreSQL (READ
// COMMITTED). Every reservation is a guarded statement that carries its own
// condition (UPDATE ... WHERE used + ? <= limit), a unique key, or a generation
// match; no rule leans on the isolation level. Rows are locked in one order:
// tenant, quota, host, address, resource.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/uptrace/bun"
)

// Errors of a transaction.
var (
	// ErrNested: Transact, or a write on the pool, was called inside a transaction (it would wait for itself).
	ErrNested = errors.New("database: called inside a transaction")
	// ErrUnavailable: the database does not answer (or is taken away by the simulated cloud's control).
	ErrUnavailable = errors.New("database: unavailable")
)

// Options say what to open.
type Options struct {
	// URL is empty (SQLite in Dir), or postgres://... .
	URL string
	// Dir holds lingyun.db and its backups before migrations (the newest 3).
	Dir string
	// KeyFingerprint names the key file that opens the secrets in the database; it is
	// noted beside each backup, because a backup without its key file has no API keys.
	KeyFingerprint string
	// NoSync leaves it to the kernel when SQLite's commits reach the disk: a kill loses nothing, a power loss may. For tests,
	// which otherwise wait for a disk that others keep busy.
	NoSync bool
}

// DB is an open, migrated database.
type DB struct {
	gate     *gate
	postgres bool
	writer   *bun.DB
	reader   *bun.DB
	journal  func(context.Context) (Journal, error)
	close    func() error
	file     string // of SQLite
	url      string // of PostgreSQL
}

// Open opens and migrates (after a backup with VACUUM INTO, on SQLite).
func Open(ctx context.Context, o Options) (*DB, error) {
	var d *DB
	var err error
	if o.URL == "" {
		d, err = openSQLite(o)
	} else {
		d, err = openPostgres(ctx, o.URL)
	}
	if err != nil {
		return nil, err
	}
	if err := d.migrate(ctx, o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// OpenReadOnly opens an existing database beside the program that works on it: it
// migrates nothing and makes nothing. Do not Transact on it.
func OpenReadOnly(ctx context.Context, o Options) (*DB, error) {
	if o.URL != "" {
		return openPostgres(ctx, o.URL)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, FileName)); err != nil {
		return nil, err
	}
	return openSQLite(o)
}

// OpenBeside opens an existing database beside the program that works on it, for one small change. It makes
// nothing, and refuses a database of another version of the program.
func OpenBeside(ctx context.Context, o Options) (*DB, error) {
	d, err := OpenReadOnly(ctx, o)
	if err != nil {
		return nil, err
	}
	p, err := d.provider()
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	pending, err := p.HasPending(ctx)
	if err == nil && pending {
		err = errors.New("the database is of an older version: start the controller of this version first")
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close ends all connections.
func (d *DB) Close() error { return d.close() }

// Postgres tells which engine this is, for the few statements that cannot be common.
func (d *DB) Postgres() bool { return d.postgres }

// SetDown takes the database away (true) or gives it back: every call on it answers
// ErrUnavailable, also in transactions under way. Only the simulated cloud's control calls it.
func (d *DB) SetDown(down bool) { d.gate.down.Store(down) }

// Ping tells whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	_, err := d.reader.ExecContext(ctx, "SELECT 1")
	return classify(err)
}

type transactionKey struct{}

type beforeCommitKey struct{}

// BeforeCommit returns a context whose transactions end with f, in the transaction itself: what f writes is there
// exactly when what the transaction wrote is. f runs again with a transaction that runs again.
func BeforeCommit(ctx context.Context, f func(ctx context.Context, tx bun.Tx) error) context.Context {
	return context.WithValue(ctx, beforeCommitKey{}, f)
}

// InTransaction tells whether ctx is inside Transact.
func InTransaction(ctx context.Context) bool { return ctx.Value(transactionKey{}) != nil }

// attempts of a transaction that meets others. The back-off reaches about 10 s in
// all, longer than SQLite's busy timeout and any deadlock detection.
const attempts = 40

// Transact runs fn in one read-write transaction and commits when it returns nil.
// Serialization failures, deadlocks and SQLITE_BUSY run fn again, so fn must not
// have effects outside tx. No engine, host or network call belongs inside.
// Inside another transaction: ErrNested.
func (d *DB) Transact(ctx context.Context, fn func(ctx context.Context, tx bun.Tx) error) error {
	if InTransaction(ctx) {
		return ErrNested
	}
	for n := 1; ; n++ {
		err := d.transact(ctx, fn)
		if err == nil || !retryable(err) || n == attempts {
			return classify(err)
		}
		slog.DebugContext(ctx, "transaction runs again", "attempt", n, "error", err)
		wait := time.Duration(min(n*n, 300)) * time.Millisecond
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

func (d *DB) transact(ctx context.Context, fn func(ctx context.Context, tx bun.Tx) error) (err error) {
	tx, err := d.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done { // fn failed or panicked
			if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) {
				slog.WarnContext(ctx, "rollback failed", "error", rerr)
			}
		}
	}()
	inside := context.WithValue(ctx, transactionKey{}, true)
	if err := fn(inside, tx); err != nil {
		return err
	}
	if before, ok := ctx.Value(beforeCommitKey{}).(func(context.Context, bun.Tx) error); ok {
		if err := before(inside, tx); err != nil {
			return err
		}
	}
	done = true
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Reader is for reads outside transactions: the read pool. It refuses writes.
// Inside a transaction it does not see what the transaction wrote: use tx there.
func (d *DB) Reader() bun.IDB { return d.reader }

// Writer is the write pool, for migrations and tests. On SQLite it has one connection.
func (d *DB) Writer() *sql.DB { return d.writer.DB }

// Journal is a handle on which the workflow engine keeps its own tables. One of the two is set.
type Journal struct {
	SQLite   *sql.DB // takes turns with Writer on the one connection
	Postgres *pgxpool.Pool
}

// Journal opens a handle for the workflow engine, which closes it.
func (d *DB) Journal(ctx context.Context) (Journal, error) { return d.journal(ctx) }
