package database

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// gate stands before every connection: it can be shut (the simulated cloud's
// DatabaseDown), and calls on the pool from inside a transaction, which with one
// writer connection would wait for themselves, are refused there.
type gate struct{ down atomic.Bool }

func (g *gate) check(ctx context.Context) error {
	if g.down.Load() && ctx.Value(ignoreDownKey{}) == nil {
		return ErrUnavailable
	}
	return nil
}

type ignoreDownKey struct{}

// IgnoreDown lets calls with this context through while SetDown(true) holds. The lease
// of the workflow engine uses it: a simulated outage must not end the process.
func IgnoreDown(ctx context.Context) context.Context {
	return context.WithValue(ctx, ignoreDownKey{}, true)
}

// connector puts a driver's connections behind a gate.
type connector struct {
	driver.Connector
	gate     *gate
	readOnly bool
	shared   *sharedConn // SQLite's one writer connection; nil: a connection each
}

// Connect opens a gated connection.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := c.gate.check(ctx); err != nil {
		return nil, err
	}
	if c.shared != nil {
		conn, err := c.shared.get(ctx, c.Connector)
		if err != nil {
			return nil, err
		}
		return &gatedConn{fullConn: conn, gate: c.gate, shared: c.shared}, nil
	}
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &gatedConn{fullConn: conn.(fullConn), gate: c.gate, readOnly: c.readOnly}, nil
}

// sharedConn is one connection of the driver that several sql.DB use in turns: ours,
// and the workflow engine's, which closes its own when it shuts down.
type sharedConn struct {
	turn chan struct{} // holds one token; waiters are served in order

	mu     sync.Mutex
	conn   fullConn
	closed atomic.Bool // its other users may still call: they are refused
}

func newSharedConn() *sharedConn {
	s := &sharedConn{turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

func (s *sharedConn) get(ctx context.Context, c driver.Connector) (fullConn, error) {
	if s.closed.Load() {
		return nil, ErrUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		conn, err := c.Connect(ctx)
		if err != nil {
			return nil, err
		}
		s.conn = conn.(fullConn)
	}
	return s.conn, nil
}

// closeWait is how long close waits for a transaction under way.
const closeWait = 10 * time.Second

// close waits for its turn, since the driver must not lose a connection under a statement.
func (s *sharedConn) close() error {
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-t.C:
		return errors.New("database: closed while a transaction goes on")
	}
	s.closed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
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

// gatedConn is one user's view of a connection. Like every driver.Conn it is used by one goroutine at a time.
type gatedConn struct {
	fullConn
	gate     *gate
	readOnly bool
	shared   *sharedConn
	inTx     bool // has the turn until the transaction ends
}

var errPrepare = errors.New("database: prepare inside a transaction only")

// enter passes the gate and takes the turn; the caller gives it back with leave.
func (c *gatedConn) enter(ctx context.Context) error {
	if err := c.gate.check(ctx); err != nil {
		return err
	}
	if c.shared == nil || c.inTx {
		return nil
	}
	select {
	case <-c.shared.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.shared.closed.Load() {
		c.leave()
		return ErrUnavailable
	}
	return nil
}

func (c *gatedConn) leave() {
	if c.shared != nil && !c.inTx {
		c.shared.turn <- struct{}{}
	}
}

// BeginTx begins a transaction whose commit passes the gate too.
func (c *gatedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if InTransaction(ctx) {
		return nil, ErrNested
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	tx, err := c.fullConn.BeginTx(ctx, opts)
	if err != nil {
		c.leave()
		return nil, err
	}
	c.inTx = true
	return &gatedTx{tx: tx, conn: c, ctx: ctx}, nil
}

// PrepareContext prepares when the gate is open.
func (c *gatedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.gate.check(ctx); err != nil {
		return nil, err
	}
	if c.shared != nil && !c.inTx {
		return nil, errPrepare // the statement would have to hold the turn
	}
	return c.fullConn.PrepareContext(ctx, query)
}

// ExecContext executes when the gate is open.
func (c *gatedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.readOnly && InTransaction(ctx) {
		return nil, ErrNested
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	return c.fullConn.ExecContext(ctx, query, args)
}

// QueryContext queries when the gate is open.
func (c *gatedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	rows, err := c.fullConn.QueryContext(ctx, query, args)
	if err != nil {
		c.leave()
		return nil, err
	}
	if c.shared == nil || c.inTx {
		return rows, nil
	}
	return &turnRows{Rows: rows, conn: c}, nil
}

// Ping pings when the gate is open.
func (c *gatedConn) Ping(ctx context.Context) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.leave()
	return c.fullConn.Ping(ctx)
}

// Close closes the connection, unless others share it.
func (c *gatedConn) Close() error {
	if c.shared != nil {
		return nil
	}
	return c.fullConn.Close()
}

// ResetSession readies the connection for its next user.
func (c *gatedConn) ResetSession(ctx context.Context) error {
	if c.shared != nil {
		return nil
	}
	return c.fullConn.ResetSession(ctx)
}

// IsValid passes on what the driver knows of its connection.
func (c *gatedConn) IsValid() bool {
	if v, ok := c.fullConn.(driver.Validator); ok && c.shared == nil {
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

// turnRows gives the turn back when the rows are closed.
type turnRows struct {
	driver.Rows
	conn *gatedConn
	once sync.Once
}

// Close ends the query and the turn.
func (r *turnRows) Close() error {
	defer r.once.Do(r.conn.leave)
	return r.Rows.Close()
}

type gatedTx struct {
	tx   driver.Tx
	conn *gatedConn
	ctx  context.Context
}

// Commit commits, or rolls back when the gate was shut meanwhile.
func (t *gatedTx) Commit() error {
	defer t.end()
	if err := t.conn.gate.check(t.ctx); err != nil {
		_ = t.tx.Rollback()
		return err
	}
	return t.tx.Commit()
}

// Rollback undoes the transaction.
func (t *gatedTx) Rollback() error {
	defer t.end()
	return t.tx.Rollback()
}

func (t *gatedTx) end() {
	t.conn.inTx = false
	t.conn.leave()
}
