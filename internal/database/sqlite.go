package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"
)

// FileName of the SQLite database in Options.Dir.
const FileName = "lingyun.db"

// openSQLite opens Dir/lingyun.db with one writer connection and a read pool.
func openSQLite(o Options) (*DB, error) {
	if o.Dir == "" {
		return nil, errors.New("database: no directory given")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(filepath.Join(o.Dir, FileName))
	if err != nil {
		return nil, err
	}
	// SQLite would make the file readable for others.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}

	g := &gate{}
	common := []string{
		"busy_timeout(5000)",
		"foreign_keys(1)",
		// LIKE tells letters apart, as PostgreSQL does.
		"case_sensitive_like(1)",
	}
	// FULL: a committed payment survives a power loss.
	synchronous := "synchronous(FULL)"
	if o.NoSync {
		synchronous = "synchronous(OFF)"
	}
	wc, err := sqlite.NewConnector(dsn(path, append(common, "journal_mode(WAL)", synchronous), "immediate"))
	if err != nil {
		return nil, fmt.Errorf("database: open %s: %w", path, err)
	}
	rc, err := sqlite.NewConnector(dsn(path, append(common, "query_only(1)"), "deferred"))
	if err != nil {
		return nil, fmt.Errorf("database: open %s: %w", path, err)
	}
	shared := newSharedConn()
	openWriter := func() *sql.DB {
		p := sql.OpenDB(&connector{Connector: preparing{wc}, gate: g, shared: shared})
		p.SetMaxOpenConns(1)
		p.SetMaxIdleConns(1)
		return p
	}
	writer := openWriter()
	reader := sql.OpenDB(&connector{Connector: preparing{rc}, gate: g, readOnly: true})
	n := max(4, runtime.GOMAXPROCS(0))
	reader.SetMaxOpenConns(n)
	reader.SetMaxIdleConns(n)
	return &DB{
		gate:    g,
		file:    path,
		writer:  bun.NewDB(writer, sqlitedialect.New()),
		reader:  bun.NewDB(reader, sqlitedialect.New()),
		journal: func(context.Context) (Journal, error) { return Journal{SQLite: openWriter()}, nil },
		close:   func() error { return errors.Join(reader.Close(), writer.Close(), shared.close()) },
	}, nil
}

func dsn(path string, pragmas []string, txlock string) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"_pragma": pragmas, "_txlock": {txlock}}.Encode()}
	return u.String()
}
