package catalog

import (
	"context"

	"github.com/uptrace/bun"
)

// Leave takes away what Furnish gave a tenant, in the transaction that deletes it.
func (s *Service) Leave(ctx context.Context, tx bun.Tx, company int64) error {
	_, err := tx.NewRaw(`DELETE FROM quota WHERE company = ?`, company).Exec(ctx)
	return err
}

// RegionIDs lists the regions.
func (s *Service) RegionIDs(ctx context.Context) ([]string, error) {
	var ids []string
	err := s.DB.Reader().NewSelect().Model((*region)(nil)).Column("id").Order("id").Scan(ctx, &ids)
	return ids, err
}
