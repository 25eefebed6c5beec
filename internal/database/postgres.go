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

// openPostgres opens three pools: bun's two speak the simple protocol, because bun
// writes arguments into the statement and a statement cache would only fill with
// texts that never come back; the workflow engine's one caches its few statements.
func openPostgres(ctx context.Context, url string) (*DB, error) {
	g := &gate{}
	var pools []*pgxpool.Pool
	closePools := func() {
		for _, p := range pools {
			p.Close()
		}
	}
	open := func(change func(*pgxpool.Config)) (*pgxpool.Pool, error) {
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
		c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
			if err := g.check(); err != nil {
				return true, err
			}
			return true, nil
		}
		change(c)
		pool, err := pgxpool.NewWithConfig(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("database: %w", err)
		}
		pools = append(pools, pool)
		return pool, nil
	}
	writer, err := open(func(c *pgxpool.Config) {
		c.MaxConns = 16
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	})
	if err != nil {
		return nil, err
	}
	reader, err := open(func(c *pgxpool.Config) {
		c.MaxConns = 16
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	})
	if err != nil {
		closePools()
		return nil, err
	}
	journal, err := open(func(c *pgxpool.Config) { c.MaxConns = 16 })
	if err != nil {
		closePools()
		return nil, err
	}
	if err := writer.Ping(ctx); err != nil {
		closePools()
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	wdb := sql.OpenDB(&gatedConnector{Connector: stdlib.GetPoolConnector(writer), gate: g})
	rdb := sql.OpenDB(&gatedConnector{Connector: stdlib.GetPoolConnector(reader), gate: g, readOnly: true})
	for _, p := range []*sql.DB{wdb, rdb} {
		p.SetMaxIdleConns(0) // the pgx pool below keeps the connections
	}
	return &DB{
		gate:    g,
		writer:  bun.NewDB(wdb, pgdialect.New()),
		reader:  bun.NewDB(rdb, pgdialect.New()),
		journal: journal,
		close: func() error {
			err := errors.Join(rdb.Close(), wdb.Close())
			closePools()
			return err
		},
	}, nil
}
