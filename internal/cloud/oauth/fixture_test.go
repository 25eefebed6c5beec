package oauth_test

import (
	"context"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
)

// freeze does what FreezeUser does to a tenant.
func freeze(t *testing.T, db *database.DB, company int64) error {
	return db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewRaw(`UPDATE tenant SET state = 'FREEZE' WHERE id = ?`, company).Exec(ctx)
		return err
	})
}
