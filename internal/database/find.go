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
)

// Find reads rows of T, a bun model whose columns are strings, numbers and truths. rest follows "SELECT columns FROM
// table"; ? stands for an argument, and for as many as a []string has. bun writes arguments into its statements, so
// that each is parsed anew; Find's keep their text and stay prepared on their connection. It is for the
// few reads that most calls make.
func Find[T any](ctx context.Context, idb bun.IDB, rest string, args ...any) ([]T, error) {
	table := idb.Dialect().Tables().Get(reflect.TypeFor[T]())
	postgres := idb.Dialect().Name() == dialect.PG
	var query strings.Builder
	query.WriteString("SELECT ")
	for i, f := range table.Fields {
		if i > 0 {
			query.WriteByte(',')
		}
		query.WriteString(string(f.SQLName))
	}
	query.WriteString(" FROM " + string(table.SQLName) + " ")
	values := make([]any, 0, len(args)+1)
	if postgres {
		values = append(values, pgx.QueryExecModeCacheStatement)
	}
	n := 0
	placeholder := func(v any) {
		if n++; postgres {
			query.WriteString("$" + strconv.Itoa(n))
		} else {
			query.WriteByte('?')
		}
		values = append(values, v)
	}
	parts := strings.Split(rest, "?")
	if len(parts) != len(args)+1 {
		return nil, fmt.Errorf("database: %d arguments for %q", len(args), rest)
	}
	for i, part := range parts {
		query.WriteString(part)
		if i == len(args) {
			break
		}
		list, ok := args[i].([]string)
		if !ok {
			placeholder(args[i])
		}
		for j, v := range list {
			if j > 0 {
				query.WriteByte(',')
			}
			placeholder(v)
		}
	}
	rows, err := plain(idb, ctx, query.String(), values)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []T
	into := make([]any, len(table.Fields))
	for rows.Next() {
		var row T
		v := reflect.ValueOf(&row).Elem()
		for i, f := range table.Fields {
			into[i] = f.Value(v).Addr().Interface()
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

// plain queries past bun.
func plain(idb bun.IDB, ctx context.Context, query string, args []any) (*sql.Rows, error) {
	switch q := idb.(type) {
	case *bun.DB:
		return q.DB.QueryContext(ctx, query, args...)
	case bun.Tx:
		return q.Tx.QueryContext(ctx, query, args...)
	}
	return nil, fmt.Errorf("database: Find on %T", idb)
}

// Matching narrows a query to rows with a keyword in one of the columns, whatever its case; an empty keyword does not
// narrow. Wildcards in it are letters.
func Matching(q *bun.SelectQuery, keyword string, columns ...string) *bun.SelectQuery {
	if keyword == "" {
		return q
	}
	return q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
		for _, c := range columns {
			q = q.WhereOr("LOWER(?) LIKE ? ESCAPE '\\'", bun.Ident(c), Like(strings.ToLower(keyword)))
		}
		return q
	})
}
