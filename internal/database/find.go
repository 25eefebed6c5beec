package database

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/schema"
)

// bun writes arguments into its statements, so that each is a new text and parsed anew. Those of Find, Query, Exec, Select
// and One keep their text and stay prepared on their connection: they are for what most calls do.

// Find reads rows of T, a bun model whose columns are strings, numbers and truths. rest follows "SELECT columns FROM
// table"; ? stands for an argument, and for as many as a []string has.
func Find[T any](ctx context.Context, idb bun.IDB, rest string, args ...any) ([]T, error) {
	table := idb.Dialect().Tables().Get(reflect.TypeFor[T]())
	var query strings.Builder
	query.WriteString("SELECT ")
	for i, f := range table.Fields {
		if i > 0 {
			query.WriteByte(',')
		}
		query.WriteString(string(f.SQLName))
	}
	query.WriteString(" FROM " + string(table.SQLName) + " " + rest)
	return Query[T](ctx, idb, query.String(), args...)
}

// Query reads rows of T, a struct whose fields have the names of the statement's columns as bun has it; ? as Find's.
func Query[T any](ctx context.Context, idb bun.IDB, query string, args ...any) ([]T, error) {
	query, args, err := numbered(idb, query, args)
	if err != nil {
		return nil, err
	}
	return read[T](ctx, idb, query, args)
}

// Exec executes a statement; ? as Find's.
func Exec(ctx context.Context, idb bun.IDB, query string, args ...any) (sql.Result, error) {
	query, args, err := numbered(idb, query, args)
	if err != nil {
		return nil, err
	}
	conn, args, err := past(idb, args)
	if err != nil {
		return nil, err
	}
	return conn.ExecContext(ctx, query, args...)
}

// Select reads what a query of bun selects, T as Query's. Its texts are arguments, its numbers stay in the statement.
func Select[T any](ctx context.Context, idb bun.IDB, q *bun.SelectQuery) ([]T, error) {
	lift := &lifting{Dialect: idb.Dialect()}
	query, err := q.AppendQuery(schema.NewQueryGen(lift), nil)
	if err != nil {
		return nil, err
	}
	return read[T](ctx, idb, string(query), lift.args)
}

// One reads the row that a query of bun selects: sql.ErrNoRows without one.
func One[T any](ctx context.Context, idb bun.IDB, q *bun.SelectQuery, into *T) error {
	rows, err := Select[T](ctx, idb, q)
	if err == nil && len(rows) == 0 {
		err = sql.ErrNoRows
	}
	if err == nil {
		*into = rows[0]
	}
	return err
}

// lifting is a dialect that keeps texts out of the statement.
type lifting struct {
	schema.Dialect
	args []any
}

// AppendString appends what stands for a text.
func (l *lifting) AppendString(b []byte, s string) []byte {
	l.args = append(l.args, s)
	return append(b, placeholder(l, len(l.args))...)
}

// placeholder stands for the n-th argument.
func placeholder(d schema.Dialect, n int) string {
	if d.Name() == dialect.PG {
		return "$" + strconv.Itoa(n)
	}
	return "?" + strconv.Itoa(n)
}

// numbered gives each argument its placeholder, and each text of a []string one of its own.
func numbered(idb bun.IDB, query string, args []any) (string, []any, error) {
	parts := strings.Split(query, "?")
	if len(parts) != len(args)+1 {
		return "", nil, fmt.Errorf("database: %d arguments for %q", len(args), query)
	}
	var out strings.Builder
	values := make([]any, 0, len(args))
	add := func(v any) {
		values = append(values, v)
		out.WriteString(placeholder(idb.Dialect(), len(values)))
	}
	for i, v := range args {
		out.WriteString(parts[i])
		list, ok := v.([]string)
		if !ok {
			add(v)
		}
		for j, v := range list {
			if j > 0 {
				out.WriteByte(',')
			}
			add(v)
		}
	}
	out.WriteString(parts[len(args)])
	return out.String(), values, nil
}

// read queries past bun.
func read[T any](ctx context.Context, idb bun.IDB, query string, args []any) ([]T, error) {
	conn, args, err := past(idb, args)
	if err != nil {
		return nil, err
	}
	if db, ok := idb.(*bun.DB); ok && db.Dialect().Name() == dialect.SQLite {
		ctx = context.WithoutCancel(ctx) // two goroutines that wait for a client's hanging up took a tenth of a short read
	}
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	table := idb.Dialect().Tables().Get(reflect.TypeFor[T]())
	fields := make([]*schema.Field, len(columns))
	for i, name := range columns {
		if fields[i] = table.FieldMap[name]; fields[i] == nil {
			return nil, fmt.Errorf("database: %s has no field for column %s", table, name)
		}
	}
	var found []T
	into := make([]any, len(fields))
	for rows.Next() {
		var row T
		v := reflect.ValueOf(&row).Elem()
		for i, f := range fields {
			into[i] = f.Value(v).Addr().Interface()
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

// past is the connections of idb without bun, and the arguments as they want them.
func past(idb bun.IDB, args []any) (interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, []any, error) {
	if idb.Dialect().Name() == dialect.PG {
		args = append([]any{pgx.QueryExecModeCacheStatement}, args...)
	}
	switch q := idb.(type) {
	case *bun.DB:
		return q.DB, args, nil
	case bun.Tx:
		return q.Tx, args, nil
	}
	return nil, nil, fmt.Errorf("database: %T has no connections of its own", idb)
}

// Matching narrows a query to rows with a keyword in one of the columns, which are SQL and may be numbers, whatever its
// case; an empty keyword does not narrow. Wildcards in it are letters.
func Matching(q *bun.SelectQuery, keyword string, columns ...string) *bun.SelectQuery {
	if keyword == "" {
		return q
	}
	return q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
		for _, c := range columns {
			q = q.WhereOr("LOWER(CAST(? AS TEXT)) LIKE ? ESCAPE '\\'", bun.Safe(c), Like(strings.ToLower(keyword)))
		}
		return q
	})
}
