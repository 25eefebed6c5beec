package resource

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

// BinFilter chooses resources in the recycle bin. Zero fields choose all.
type BinFilter struct {
	action.Scope
	Keyword  string   // in name or id
	IDs      []string // nil: all
	Projects []string // project groups asked for, within those of the scope
	Limit    int
}

// Scan reads the chosen rows of q, the newest deletion first, and how many there are in all.
func (f BinFilter) Scan(ctx context.Context, q *bun.SelectQuery) (int, error) {
	q = identity.Own(q, f.Scope)
	if f.IDs != nil {
		q = q.Where("id IN (?)", bun.In(f.IDs))
	}
	if len(f.Projects) > 0 {
		q = q.Where("project IN (?)", bun.In(f.Projects))
	}
	q = database.Matching(q, f.Keyword, "name", "id")
	n, err := q.OrderExpr("deleted_at DESC, id DESC").Limit(int64(f.Limit)).ScanAndCount(ctx)
	return int(n), err
}
