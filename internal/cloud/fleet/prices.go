package fleet

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
)

// PriceScopes lists the sets that prices are set for: those that the tenant may use, all for tenant 0.
func (s *Service) PriceScopes(ctx context.Context, region string, company int64) ([]catalog.Scope, error) {
	var compute []computeSet
	var storage []storageSet
	c := &action.Call{Region: region, Company: company}
	for kind, q := range map[string]*bun.SelectQuery{permit.ComputeSet: s.DB.Reader().NewSelect().Model(&compute), permit.StorageSet: s.DB.Reader().NewSelect().Model(&storage)} {
		if err := s.visible(c, kind, q).Scan(ctx); err != nil {
			return nil, err
		}
	}
	var all []catalog.Scope
	for _, row := range compute {
		all = append(all, catalog.Scope{Kind: catalog.ComputeScope, ID: row.Type, Name: row.Alias})
	}
	for _, row := range storage {
		all = append(all, catalog.Scope{Kind: catalog.StorageScope, ID: row.Type, Name: row.Alias})
	}
	return all, nil
}

// SetKinds lists all sets of a region, by id.
func (s *Service) SetKinds(ctx context.Context, region string) (map[string]catalog.ScopeKind, error) {
	sets := map[string]catalog.ScopeKind{}
	for kind, table := range map[catalog.ScopeKind]any{catalog.ComputeScope: (*computeSet)(nil), catalog.StorageScope: (*storageSet)(nil)} {
		var ids []string
		if err := s.DB.Reader().NewSelect().Model(table).Column("id").Where("region = ?", region).Scan(ctx, &ids); err != nil {
			return nil, err
		}
		for _, id := range ids {
			sets[id] = kind
		}
	}
	return sets, nil
}
