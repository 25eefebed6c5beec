package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Holding is how much a tenant has of one kind of resource in a region.
type Holding struct {
	Region   string `bun:"region"`
	Kind     string `bun:"-"`
	Count    int    `bun:"count"` // those in the recycle bin included
	Recycled int    `bun:"recycled"`
	Given    int    `bun:"given"` // of Count: furnished by the platform; they go with the tenant
}

// OnLeave adds a hook that takes away what OnTenant's hooks gave a tenant, in the transaction that deletes it. It has
// no resources left but those.
func (s *Service) OnLeave(h func(ctx context.Context, tx bun.Tx, company int64) error) {
	s.leave = append(s.leave, h)
}

// tenantByID reads a tenant that is not deleted. 27001.
func tenantByID(ctx context.Context, idb bun.IDB, id int64) (*tenant, error) {
	t := new(tenant)
	err := idb.NewSelect().Model(t).Where("id = ? AND state <> ?", id, deleted).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.TenantNotFound.Errorf("CompanyID %d is no tenant", id)
	}
	return t, err
}

// tenantOf has the call act on the tenant that its own parameter CompanyID names: 111 for another tenant's account,
// 27001 when there is none.
func (s *Service) tenantOf(ctx context.Context, c *action.Call, id int64) error {
	if !c.Caller.Admin && id != c.Caller.Company {
		return retcode.AdminOnly.Errorf("CompanyID %d is another tenant", id)
	}
	if err := s.CheckTenant(ctx, id); err != nil {
		return err
	}
	c.Company = id
	return nil
}

// mainAccount of a tenant.
func mainAccount(ctx context.Context, idb bun.IDB, company int64) (*account, error) {
	a := new(account)
	err := idb.NewSelect().Model(a).Where("company = ? AND kind IN (?)", company, bun.In([]string{main, administrator})).Order("id").Limit(1).Scan(ctx)
	return a, err
}

// turnTenant changes a tenant's state when it is another; already is the answer when it is that.
func (s *Service) turnTenant(ctx context.Context, tx bun.Tx, id int64, to string, already retcode.Code) error {
	if id == AdminCompany {
		return retcode.InvalidTenantState.Errorf("tenant %d is the platform's own", id)
	}
	t, err := tenantByID(ctx, tx, id)
	if err != nil {
		return err
	}
	if t.State == to {
		return already.Errorf("tenant %d", id)
	}
	return s.setTenant(ctx, tx, id, "state = ?", to)
}

func (s *Service) setTenant(ctx context.Context, tx bun.Tx, id int64, columns string, args ...any) error {
	_, err := tx.NewUpdate().Model((*tenant)(nil)).Set(columns, args...).Set("updated_at = ?, generation = generation + 1", s.Clock.Micros()).
		Where("id = ?", id).Exec(ctx)
	return err
}

// deleteTenant deletes a tenant that has nothing but what it was furnished with, and its accounts. Its row stays: bills
// and the log speak of it. 27005.
func (s *Service) deleteTenant(ctx context.Context, tx bun.Tx, id int64) error {
	if id == AdminCompany {
		return retcode.InvalidTenantState.Errorf("tenant %d is the platform's own", id)
	}
	if _, err := tenantByID(ctx, tx, id); err != nil {
		return err
	}
	holdings, err := s.Directory.Holdings(ctx, tx, id)
	if err != nil {
		return err
	}
	for _, h := range holdings {
		if h.Count > h.Given {
			return retcode.TenantNotEmpty.Errorf("%d of %s in %s, the recycle bin included", h.Count-h.Given, h.Kind, h.Region)
		}
	}
	for _, leave := range slices.Backward(s.leave) {
		if err := leave(ctx, tx, id); err != nil {
			return fmt.Errorf("what tenant %d was furnished with: %w", id, err)
		}
	}
	var accounts []account
	if err := tx.NewSelect().Model(&accounts).Where("company = ?", id).Scan(ctx); err != nil {
		return err
	}
	for i := range accounts {
		if err := s.remove(ctx, tx, &accounts[i]); err != nil {
			return err
		}
	}
	for _, q := range []string{`DELETE FROM tenant_region WHERE company = ?`, `DELETE FROM project WHERE company = ?`,
		`DELETE FROM role_permission WHERE role_id IN (SELECT id FROM role WHERE company = ?)`, `DELETE FROM role WHERE company = ?`} {
		if _, err := tx.NewRaw(q, id).Exec(ctx); err != nil {
			return err
		}
	}
	return s.setTenant(ctx, tx, id, "state = ?, allow_list = ''", deleted)
}

// grantRegions gives a tenant exactly the named regions. In one that it never had it is furnished.
func (s *Service) grantRegions(ctx context.Context, tx bun.Tx, company int64, regions []string) error {
	var had []string
	if err := tx.NewRaw(`SELECT region FROM tenant_region WHERE company = ?`, company).Scan(ctx, &had); err != nil {
		return err
	}
	if len(had) == 0 { // it had all, and was furnished in the first
		all, err := s.regions(ctx)
		if err != nil {
			return err
		}
		had = all
		for _, r := range had {
			if _, err := tx.NewRaw(`INSERT INTO tenant_region (company, region, granted, created_at) VALUES (?, ?, ?, ?)`, company, r, true, s.Clock.Micros()).Exec(ctx); err != nil {
				return err
			}
		}
	}
	if _, err := tx.NewRaw(`UPDATE tenant_region SET granted = FALSE WHERE company = ? AND region NOT IN (?)`, company, bun.In(regions)).Exec(ctx); err != nil {
		return err
	}
	for _, r := range regions {
		if _, err := tx.NewRaw(`INSERT INTO tenant_region (company, region, granted, created_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (company, region) DO UPDATE SET granted = EXCLUDED.granted`, company, r, true, s.Clock.Micros()).Exec(ctx); err != nil {
			return err
		}
		if slices.Contains(had, r) {
			continue
		}
		for _, hook := range s.hooks {
			if err := hook(ctx, tx, company, r); err != nil {
				return fmt.Errorf("furnishing tenant %d in %s: %w", company, r, err)
			}
		}
	}
	return nil
}
