package resource

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
)

// Holdings counts what a tenant has, by region and kind. Kinds that it has none of are left out.
func (d *Directory) Holdings(ctx context.Context, idb bun.IDB, company int64) ([]identity.Holding, error) {
	var all []identity.Holding
	for _, k := range d.kinds {
		if k.Platform {
			continue
		}
		given := "FALSE"
		if k.Given != "" {
			given = k.Given
		}
		var rows []identity.Holding
		from := k.from(idb, action.Scope{Company: company}).ColumnExpr("CASE WHEN " + given + " THEN 1 ELSE 0 END AS given")
		if err := idb.NewSelect().TableExpr("(?) AS r", from).
			ColumnExpr("region, count(*) AS count, sum(CASE WHEN binned THEN 1 ELSE 0 END) AS recycled, sum(given) AS given").
			Group("region").Order("region").Scan(ctx, &rows); err != nil {
			return nil, fmt.Errorf("counting %s: %w", k.Name, err)
		}
		for i := range rows {
			rows[i].Kind = k.Name
		}
		all = append(all, rows...)
	}
	return all, nil
}
