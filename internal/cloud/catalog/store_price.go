package catalog

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
)

type priceRow struct {
	bun.BaseModel `bun:"table:price"`

	Region     string      `bun:"region,pk"`
	Factor     PriceFactor `bun:"factor,pk"`
	Scope      string      `bun:"scope,pk"`
	ChargeType string      `bun:"charge_type,pk"`
	Tiers      string      `bun:"tiers"`
	CreatedAt  int64       `bun:"created_at"`
	UpdatedAt  int64       `bun:"updated_at"`
}

type discountRow struct {
	bun.BaseModel `bun:"table:discount"`

	Company    int64       `bun:"company,pk"`
	Region     string      `bun:"region,pk"`
	Factor     PriceFactor `bun:"factor,pk"`
	Scope      string      `bun:"scope,pk"`
	ChargeType string      `bun:"charge_type,pk"`
	Percent    int64       `bun:"percent"`
	UpdatedAt  int64       `bun:"updated_at"`
}

func (s *Service) priceRows(ctx context.Context, db bun.IDB, region, chargeType string) ([]priceRow, error) {
	if chargeType == "" {
		return database.Find[priceRow](ctx, db, "WHERE region = ?", region)
	}
	return database.Find[priceRow](ctx, db, "WHERE region = ? AND charge_type = ?", region, chargeType)
}

func (s *Service) discountRows(ctx context.Context, db bun.IDB, company int64, region, chargeType string) ([]discountRow, error) {
	if chargeType == "" {
		return database.Find[discountRow](ctx, db, "WHERE company = ? AND region = ? ORDER BY factor, scope, charge_type", company, region)
	}
	return database.Find[discountRow](ctx, db, "WHERE company = ? AND region = ? AND charge_type = ?", company, region, chargeType)
}

// setPrice writes a price in place of the one that holds.
func (s *Service) setPrice(ctx context.Context, tx bun.Tx, r priceRow) error {
	_, err := tx.NewInsert().Model(&r).On("CONFLICT (region, factor, scope, charge_type) DO UPDATE").
		Set("tiers = EXCLUDED.tiers").Set("updated_at = EXCLUDED.updated_at").Exec(ctx)
	return err
}

// setDiscount writes a tenant's discount in place of the one that holds; 100 percent takes it away.
func (s *Service) setDiscount(ctx context.Context, tx bun.Tx, r discountRow) error {
	if r.Percent == 100 {
		_, err := tx.NewDelete().Model(&r).WherePK().Exec(ctx)
		return err
	}
	_, err := tx.NewInsert().Model(&r).On("CONFLICT (company, region, factor, scope, charge_type) DO UPDATE").
		Set("percent = EXCLUDED.percent").Set("updated_at = EXCLUDED.updated_at").Exec(ctx)
	return err
}
