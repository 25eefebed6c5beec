package database

import (
	"context"
	"database/sql/driver"
	"errors"
)

// preparedAtMost is how many statements a SQLite connection keeps prepared.
const preparedAtMost = 200

// preparedConn is a SQLite connection that keeps statements with arguments prepared, by their text; those of writes are
// found by liftLiterals. Others without arguments are bun's reads, which do not come back, and commands. A statement
// under way is not among the idle ones, so the same text may run twice at once.
type preparedConn struct {
	fullConn
	idle map[string]driver.Stmt
}

func (c *preparedConn) take(ctx context.Context, query string) (driver.Stmt, error) {
	if s := c.idle[query]; s != nil {
		delete(c.idle, query)
		return s, nil
	}
	return c.fullConn.PrepareContext(ctx, query)
}

// put keeps a statement, in the place of any other when there are too many.
func (c *preparedConn) put(query string, s driver.Stmt) error {
	var err error
	if old := c.idle[query]; old != nil {
		err = old.Close()
	} else if len(c.idle) >= preparedAtMost {
		for text, other := range c.idle {
			delete(c.idle, text)
			err = other.Close()
			break
		}
	}
	c.idle[query] = s
	return err
}

// keepable is the form in which a statement is worth keeping; without ok it comes back as it was.
func keepable(query string, args []driver.NamedValue) (string, []driver.NamedValue, bool) {
	if len(args) > 0 {
		return query, args, true
	}
	if lifted, values, ok := liftLiterals(query); ok {
		return lifted, values, true
	}
	return query, args, false
}

// ExecContext executes.
func (c *preparedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	query, args, ok := keepable(query, args)
	if !ok {
		return c.fullConn.ExecContext(ctx, query, args)
	}
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	r, err := s.(driver.StmtExecContext).ExecContext(ctx, args)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return r, c.put(query, s)
}

// QueryContext queries; the statement is idle again when the rows are closed.
func (c *preparedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	query, args, ok := keepable(query, args)
	if !ok {
		return c.fullConn.QueryContext(ctx, query, args)
	}
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	r, err := s.(driver.StmtQueryContext).QueryContext(ctx, args)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &preparedRows{Rows: r, conn: c, query: query, stmt: s}, nil
}

// Close closes the statements and the connection.
func (c *preparedConn) Close() error {
	var errs []error
	for _, s := range c.idle {
		errs = append(errs, s.Close())
	}
	clear(c.idle)
	return errors.Join(append(errs, c.fullConn.Close())...)
}

// IsValid passes on what the driver knows of its connection.
func (c *preparedConn) IsValid() bool {
	v, ok := c.fullConn.(driver.Validator)
	return !ok || v.IsValid()
}

// CheckNamedValue passes on the driver's conversion, or the default one.
func (c *preparedConn) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := c.fullConn.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type preparedRows struct {
	driver.Rows
	conn  *preparedConn
	query string
	stmt  driver.Stmt // nil: closed
}

// Close ends the query.
func (r *preparedRows) Close() error {
	if r.stmt == nil {
		return nil
	}
	s := r.stmt
	r.stmt = nil
	if err := r.Rows.Close(); err != nil {
		return errors.Join(err, s.Close())
	}
	return r.conn.put(r.query, s)
}

// preparing is a SQLite connector whose connections keep statements prepared.
type preparing struct{ driver.Connector }

// Connect opens a connection.
func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &preparedConn{fullConn: conn.(fullConn), idle: map[string]driver.Stmt{}}, nil
}
