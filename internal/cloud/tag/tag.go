// Package tag lets tenants mark their resources with keys and values. Products
// attach tags in the transaction that creates a resource (Attach) and narrow
// their lists by them (Narrow); everything else is the same for all kinds and
// works on the directory of resources.
package tag

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Limits of tags.
const (
	MaxText     = 127 // characters of a key or a value
	MaxAtCreate = 5   // pairs given when a resource is created
	MaxResource = 50  // tags of one resource
)

// Pair is a key with its value. Both tell upper from lower case.
type Pair struct{ Key, Value string }

// Deps of the service.
type Deps struct {
	DB        *database.DB
	Clock     *clock.Clock
	Directory *resource.Directory
}

// Service answers the actions about tags.
type Service struct{ Deps }

// New prepares the service.
func New(d Deps) *Service { return &Service{d} }

// Parse reads pairs from the wire, base64(key):base64(value), at most limit of them, one value a key: 4 and 113.
func Parse(pairs []string, limit int) ([]Pair, error) {
	if len(pairs) > limit {
		return nil, retcode.InvalidParameter.Errorf("at most %d tags at once, not %d", limit, len(pairs))
	}
	out := make([]Pair, 0, len(pairs))
	for _, text := range pairs {
		k, v, ok := strings.Cut(text, ":")
		key, err1 := base64.StdEncoding.DecodeString(k)
		value, err2 := base64.StdEncoding.DecodeString(v)
		if !ok || err1 != nil || err2 != nil {
			return nil, retcode.InvalidParameterFormat.Errorf("a tag is written base64(key):base64(value)")
		}
		p := Pair{string(key), string(value)}
		if err := check(p.Key); err != nil {
			return nil, err
		}
		if err := check(p.Value); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o Pair) bool { return o.Key == p.Key }) {
			return nil, retcode.InvalidParameter.Errorf("the key %q is given twice", p.Key)
		}
		out = append(out, p)
	}
	return out, nil
}

// check refuses what no key and no value may be (113).
func check(text string) error {
	if n := utf8.RuneCountInString(text); n < 1 || n > MaxText || !utf8.ValidString(text) || strings.TrimSpace(text) == "" ||
		strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return retcode.InvalidParameter.Errorf("keys and values of tags have 1 to %d printable characters", MaxText)
	}
	return nil
}

// Attach gives a new resource (ID, Company, Region, Kind) the tags of the request that creates it, in its transaction.
// pairs are those of the wire; 4 and 113 as Parse.
func Attach(ctx context.Context, tx bun.Tx, now int64, item resource.Item, pairs []string) error {
	if len(pairs) == 0 {
		return nil
	}
	parsed, err := Parse(pairs, MaxAtCreate)
	if err != nil {
		return err
	}
	return bind(ctx, tx, now, item, parsed)
}

// Narrow leaves of a list the resources that bear one of the given tags; without tags it leaves all. idColumn is the
// list's id: 4 and 113 as Parse.
func Narrow(q *bun.SelectQuery, idColumn string, pairs []string) (*bun.SelectQuery, error) {
	if len(pairs) == 0 {
		return q, nil
	}
	parsed, err := Parse(pairs, MaxResource)
	if err != nil {
		return q, err
	}
	return q.Where("EXISTS (?)", q.NewSelect().TableExpr("tag_binding AS tb").ColumnExpr("1").Where("tb.resource_id = ?", bun.Ident(idColumn)).
		WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
			for _, p := range parsed {
				q = q.WhereOr("(tb.key = ? AND tb.value = ?)", p.Key, p.Value)
			}
			return q
		})), nil
}

// Info is a tag as lists show it.
type Info struct {
	Key   string
	Value string
}

// Of returns the tags of resources by id, by key, in one query.
func Of(ctx context.Context, idb bun.IDB, ids ...string) (map[string][]Info, error) {
	out := make(map[string][]Info)
	if len(ids) == 0 {
		return out, nil
	}
	rows, err := database.Find[binding](ctx, idb, "WHERE resource_id IN (?) ORDER BY resource_id, key", ids)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		out[r.ResourceID] = append(out[r.ResourceID], Info{r.Key, r.Value})
	}
	return out, nil
}

// Bearers are the resources of a tenant (0: of all) that bear one of the given tags; never nil. 4 and 113 as Parse.
func Bearers(ctx context.Context, idb bun.IDB, company int64, pairs []string) ([]string, error) {
	q, err := Narrow(idb.NewSelect().Model((*binding)(nil)).ModelTableExpr("tag_binding AS binding").ColumnExpr("DISTINCT resource_id"), "binding.resource_id", pairs)
	if err != nil {
		return nil, err
	}
	if company != 0 {
		q = q.Where("company = ?", company)
	}
	ids := []string{}
	return ids, q.Scan(ctx, &ids)
}

// bind writes pairs of one resource; another value of a key is replaced. 208 above 50.
func bind(ctx context.Context, tx bun.Tx, now int64, item resource.Item, pairs []Pair) error {
	if len(pairs) == 0 {
		return nil
	}
	tags := make([]tag, len(pairs))
	rows := make([]binding, len(pairs))
	for i, p := range pairs {
		tags[i] = tag{ID: database.NewID("tag"), Company: item.Company, Key: p.Key, Value: p.Value, CreatedAt: now}
		rows[i] = binding{ResourceID: item.ID, Key: p.Key, Value: p.Value, Company: item.Company, Region: item.Region, Kind: item.Kind, CreatedAt: now}
	}
	if _, err := tx.NewInsert().Model(&tags).On("CONFLICT (company, key, value) DO NOTHING").Exec(ctx); err != nil {
		return err
	}
	if _, err := tx.NewInsert().Model(&rows).On("CONFLICT (resource_id, key) DO UPDATE").
		Set("value = EXCLUDED.value, created_at = EXCLUDED.created_at").Exec(ctx); err != nil {
		return err
	}
	n, err := tx.NewSelect().Model((*binding)(nil)).Where("resource_id = ?", item.ID).Count(ctx)
	if err == nil && n > MaxResource {
		err = retcode.BindLimitReached.Errorf("%s would have %d tags, at most %d are allowed", item.ID, n, MaxResource)
	}
	return err
}

// unbind takes pairs off a resource; what it does not bear is no error.
func unbind(ctx context.Context, tx bun.Tx, id string, pairs []Pair) error {
	for _, p := range pairs {
		if _, err := tx.NewDelete().Model((*binding)(nil)).Where("resource_id = ? AND key = ? AND value = ?", id, p.Key, p.Value).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Sweep forgets what destroyed resources bore. It is run by a reconciler; answers do not wait for it.
func (s *Service) Sweep(ctx context.Context) error {
	for _, k := range s.Directory.Kinds() {
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewDelete().Model((*binding)(nil)).Where("kind = ?", k.Name).
				Where("resource_id NOT IN (?)", tx.NewSelect().TableExpr("?", bun.Ident(k.Table)).Column("id").Where(k.Exists)).Exec(ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
