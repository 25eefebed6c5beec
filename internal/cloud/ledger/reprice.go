package ledger

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
)

// Reprice is what a change of a charged resource would cost now, as Change takes it: change gets the items of the next
// period and returns those that are wanted. typ is Upgrade, Downgrade, or empty when nothing changes. 200 unknown
// or out of the scope, 206, 17003, and what change returns.
func (s *Service) Reprice(ctx context.Context, idb bun.IDB, scope action.Scope, id string, change func([]catalog.Item) ([]catalog.Item, error)) (amount Money, chargeType, typ string, err error) {
	row, err := chargeOf(ctx, idb, scope, id)
	if err == nil {
		err = s.expired(row)
	}
	if err != nil {
		return 0, "", "", err
	}
	text := row.Items
	if row.NextItems != "" {
		text = row.NextItems
	}
	items, err := decode(text)
	if err != nil {
		return 0, "", "", err
	}
	wanted, err := change(slices.Clone(items))
	if err != nil || slices.Equal(items, wanted) {
		return 0, row.ChargeType, "", err
	}
	amount, typ, err = s.premium(ctx, idb, row, wanted)
	return amount, row.ChargeType, typ, err
}
