package identity

import (
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

// Own narrows a query of a table with the columns region, company and project to a scope. Reading a
// resource and being allowed to are thereby one statement.
func Own(q *bun.SelectQuery, s action.Scope) *bun.SelectQuery {
	if s.Region != "" {
		q = q.Where("region = ?", s.Region)
	}
	if s.Regions != nil {
		q = q.Where("region IN (?)", bun.In(s.Regions))
	}
	if s.Company != 0 {
		q = q.Where("company = ?", s.Company)
	}
	if s.Projects != nil {
		q = q.Where("project IN (?)", bun.In(s.Projects))
	}
	return q
}
