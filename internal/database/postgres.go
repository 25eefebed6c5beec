package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// openPostgres opens two pools, and a third for the journal: bun's two speak the simple protocol, because bun
// writes arguments into the statement and a statement cache would only fill with
// texts that never come back; the workflow engine's one caches its few statements.
func openPostgres(ctx context.Context, url string) (*DB, error) {
	g := &gate{}
	open := func(ctx context.Context, change func(*pgxpool.Config)) (*pgxpool.Pool, error) {
		c, err := pgxpool.ParseConfig(url)
		if err != nil {
			return nil, fmt.Errorf("database: %w", err)
		}
		p := c.ConnConfig.RuntimeParams
		p["timezone"] = "UTC"
		p["application_name"] = "lingyun"
		p["default_transaction_isolation"] = "read committed"
		p["standard_conforming_strings"] = "on"
		// A transaction that hangs (a stopped process) must not hold its rows for ever.
		p["idle_in_transaction_session_timeout"] = "30s"
		c.MinIdleConns = 0
		c.PrepareConn = func(ctx context.Context, _ *pgx.Conn) (bool, error) { return true, g.check(ctx) }
		change(c)
		pool, err := pgxpool.NewWithConfig(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("database: %w", err)
		}
		return pool, nil
	}
	writer, err := open(ctx, func(c *pgxpool.Config) {
		c.MaxConns = 16
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	})
	if err != nil {
		return nil, err
	}
	reader, err := open(ctx, func(c *pgxpool.Config) {
		c.MaxConns = 16
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	})
	if err != nil {
		writer.Close()
		return nil, err
	}
	if err := writer.Ping(ctx); err != nil {
		reader.Close()
		writer.Close()
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	wdb := sql.OpenDB(&connector{Connector: stdlib.GetPoolConnector(writer), gate: g})
	rdb := sql.OpenDB(&connector{Connector: stdlib.GetPoolConnector(reader), gate: g, readOnly: true})
	for _, p := range []*sql.DB{wdb, rdb} {
		p.SetMaxIdleConns(0) // the pgx pool below keeps the connections
	}
	return &DB{
		gate:     g,
		url:      url,
		postgres: true,
		writer:   bun.NewDB(wdb, pgdialect.New()),
		reader:   bun.NewDB(rdb, pgdialect.New()),
		journal: func(ctx context.Context) (Journal, error) {
			p, err := open(ctx, func(c *pgxpool.Config) { c.MaxConns = 16 })
			return Journal{Postgres: p}, err
		},
		close: func() error {
			err := errors.Join(rdb.Close(), wdb.Close())
			reader.Close()
			writer.Close()
			return err
		},
	}, nil
}
