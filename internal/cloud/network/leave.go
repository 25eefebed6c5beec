package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
)

// leave takes away the default network of a tenant that is deleted and has nothing else. No port is in it, so that
// no engine knows of it.
func (s *Service) leave(ctx context.Context, tx bun.Tx, company int64) error {
	now := s.Clock.Micros()
	var groups, subnets, vpcs []struct {
		ID     string `bun:"id"`
		Region string `bun:"region"`
	}
	for _, q := range []struct {
		query string
		rows  any
	}{
		{`DELETE FROM security_group WHERE company = ? AND is_default RETURNING id, region`, &groups},
		{`UPDATE subnet SET ended_at = ?1 WHERE company = ?0 AND is_default AND ended_at = 0 RETURNING id, region`, &subnets},
		{`UPDATE vpc SET ended_at = ?1 WHERE company = ?0 AND is_default AND ended_at = 0 RETURNING id, region`, &vpcs},
	} {
		if err := tx.NewRaw(q.query, company, now).Scan(ctx, q.rows); err != nil {
			return err
		}
	}
	for _, g := range groups {
		if _, err := tx.NewRaw(`DELETE FROM sg_rule WHERE sg_id = ?`, g.ID).Exec(ctx); err != nil {
			return err
		}
		if err := s.Catalog.Release(ctx, tx, company, g.Region, catalog.Amounts{catalog.SecurityGroup: 1}); err != nil {
			return err
		}
	}
	for _, row := range subnets {
		if err := s.Catalog.Release(ctx, tx, company, row.Region, catalog.Amounts{catalog.Subnet: 1}); err != nil {
			return err
		}
	}
	for _, row := range vpcs {
		if err := s.Catalog.Release(ctx, tx, company, row.Region, catalog.Amounts{catalog.VPC: 1}); err != nil {
			return err
		}
	}
	return nil
}
