package network

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
)

// PriceScopes lists the segments that prices are set for. They are for every tenant.
func (s *Service) PriceScopes(ctx context.Context, region string, _ int64) ([]catalog.Scope, error) {
	var rows []Segment
	if err := s.DB.Reader().NewSelect().Model(&rows).Where("region = ?", region).Order("name").Scan(ctx); err != nil {
		return nil, err
	}
	all := make([]catalog.Scope, len(rows))
	for i, row := range rows {
		all[i] = catalog.Scope{Kind: catalog.SegmentScope, ID: row.ID, Name: row.Name}
	}
	return all, nil
}
