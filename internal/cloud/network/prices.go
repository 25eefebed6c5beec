package network

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
)

// PriceScopes lists the segments that prices are set for: those that the tenant may use, all for tenant 0.
func (s *Service) PriceScopes(ctx context.Context, region string, company int64) ([]catalog.Scope, error) {
	var rows []Segment
	if err := permit.Narrow(s.DB.Reader().NewSelect().Model(&rows).Where("region = ?", region), permit.Segment, "segment.id", company).Order("name").Scan(ctx); err != nil {
		return nil, err
	}
	all := make([]catalog.Scope, len(rows))
	for i, row := range rows {
		all[i] = catalog.Scope{Kind: catalog.SegmentScope, ID: row.ID, Name: row.Name}
	}
	return all, nil
}
