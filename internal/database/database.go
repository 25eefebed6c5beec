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
}

// DB is an open, migrated database.
type DB struct{}

// Open opens and migrates (after a backup with VACUUM INTO, on SQLite).
func Open(ctx context.Context, o Options) (*DB, error) { panic("not yet") }

// Close ends all connections.
func (d *DB) Close() error { panic("not yet") }

// Transact runs fn in one read-write transaction and commits when it returns nil.
// Serialization failures, deadlocks and SQLITE_BUSY run fn again, so fn must not
// have effects outside tx. No engine, host or network call belongs inside.
// Inside another transaction: ErrNested.
func (d *DB) Transact(ctx context.Context, fn func(ctx context.Context, tx bun.Tx) error) error {
	panic("not yet")
}

// Reader is for reads outside transactions: the read pool.
func (d *DB) Reader() bun.IDB { panic("not yet") }

// Writer is the write pool, for the workflow engine only.
func (d *DB) Writer() *sql.DB { panic("not yet") }

// InTransaction tells whether ctx is inside Transact.
func InTransaction(ctx context.Context) bool { panic("not yet") }

// IsUnique tells whether err is a violated unique key; constraint is the table.column
// list or index name as far as the engine tells.
func IsUnique(err error) bool { panic("not yet") }

// NewID returns prefix + "-" + 14 random lower-case letters and digits.
func NewID(prefix string) string { panic("not yet") }

// Serial returns a number that grows within the process and fits in 53 bits
// (unix microseconds, bumped when equal), for ids that the wire has as int.
func Serial() int64 { panic("not yet") }

// Like escapes s for a LIKE pattern with ESCAPE '\' and wraps it in %.
func Like(s string) string { panic("not yet") }
