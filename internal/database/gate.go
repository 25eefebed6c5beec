package database

import (
	"context"
	"database/sql/driver"
	"sync/atomic"
)

// gate stands before every connection: it can be shut (the simulated cloud's
// DatabaseDown), and it refuses statements on the pool that come from inside a
// transaction, which with one writer connection would wait for themselves.
type gate struct{ down atomic.Bool }

func (g *gate) check() error {
	if g.down.Load() {
		return ErrUnavailable
	}
	return nil
}

// gatedConnector puts a driver's connections behind a gate.
type gatedConnector struct {
	driver.Connector
	gate     *gate
	readOnly bool
}

// Connect opens a gated connection.
func (c *gatedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := c.gate.check(); err != nil {
		return nil, err
	}
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &gatedConn{fullConn: conn.(fullConn), gate: c.gate, readOnly: c.readOnly}, nil
}

// fullConn is what both drivers' connections can do.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
}

type gatedConn struct {
	fullConn
	gate     *gate
	readOnly bool
}

// BeginTx begins a transaction whose commit passes the gate too.
func (c *gatedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.gate.check(); err != nil {
		return nil, err
	}
	if InTransaction(ctx) {
		return nil, ErrNested
	}
	tx, err := c.fullConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &gatedTx{tx, c.gate}, nil
}

// PrepareContext prepares when the gate is open.
func (c *gatedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.gate.check(); err != nil {
		return nil, err
	}
	return c.fullConn.PrepareContext(ctx, query)
}

// ExecContext executes when the gate is open.
func (c *gatedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.gate.check(); err != nil {
		return nil, err
	}
	if c.readOnly && InTransaction(ctx) {
		return nil, ErrNested
	}
	return c.fullConn.ExecContext(ctx, query, args)
}

// QueryContext queries when the gate is open.
func (c *gatedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.gate.check(); err != nil {
		return nil, err
	}
	return c.fullConn.QueryContext(ctx, query, args)
}

// Ping pings when the gate is open.
func (c *gatedConn) Ping(ctx context.Context) error {
	if err := c.gate.check(); err != nil {
		return err
	}
	return c.fullConn.Ping(ctx)
}

// IsValid passes on what the driver knows of its connection.
func (c *gatedConn) IsValid() bool {
	if v, ok := c.fullConn.(driver.Validator); ok {
		return v.IsValid()
	}
	return true
}

// CheckNamedValue passes on the driver's conversion, or the default one.
func (c *gatedConn) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := c.fullConn.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type gatedTx struct {
	driver.Tx
	gate *gate
}

// Commit commits, or rolls back when the gate was shut meanwhile.
func (t *gatedTx) Commit() error {
	if err := t.gate.check(); err != nil {
		_ = t.Tx.Rollback()
		return err
	}
	return t.Tx.Commit()
}
