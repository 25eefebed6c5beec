package database

import (
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
	writer, err := openPool(g, path, false, append(common, "journal_mode(WAL)", "synchronous(FULL)"))
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	writer.SetMaxIdleConns(1)
	reader, err := openPool(g, path, true, append(common, "query_only(1)"))
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	n := max(4, runtime.GOMAXPROCS(0))
	reader.SetMaxOpenConns(n)
	reader.SetMaxIdleConns(n)
	return &DB{
		gate:   g,
		writer: bun.NewDB(writer, sqlitedialect.New()),
		reader: bun.NewDB(reader, sqlitedialect.New()),
		close:  func() error { return errors.Join(reader.Close(), writer.Close()) },
	}, nil
}

func openPool(g *gate, path string, readOnly bool, pragmas []string) (*sql.DB, error) {
	q := url.Values{"_pragma": pragmas}
	if !readOnly {
		q.Set("_txlock", "immediate")
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	c, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, fmt.Errorf("database: open %s: %w", path, err)
	}
	return sql.OpenDB(&gatedConnector{Connector: c, gate: g, readOnly: readOnly}), nil
}
