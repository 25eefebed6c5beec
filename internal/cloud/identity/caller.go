package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Levels of administrators.
const (
	levelSystem = "system" // of the platform and all its regions
	levelRegion = "region" // of the regions in account_region
)

// caller reads who an account is to the wire; nil when there is none.
func (s *Service) caller(ctx context.Context, idb bun.IDB, id int64) (*action.Caller, error) {
	a := new(account)
	if err := idb.NewSelect().Model(a).Where("id = ?", id).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return s.callerOf(ctx, idb, a)
}

func (s *Service) callerOf(ctx context.Context, idb bun.IDB, a *account) (*action.Caller, error) {
	t := new(tenant)
	if err := idb.NewSelect().Model(t).Where("id = ?", a.Company).Scan(ctx); err != nil {
		return nil, fmt.Errorf("tenant of account %d: %w", a.ID, err)
	}
	c := &action.Caller{Account: a.ID, Email: a.Email, Company: a.Company, Admin: a.Kind == administrator, Sub: a.Kind == sub,
		ReadOnly: a.Kind == administrator && a.ReadOnly, Frozen: a.State == Frozen, Locked: a.State == locked,
		TenantFrozen: t.State == Frozen}
	list, err := t.AllowList, error(nil)
	switch {
	case c.Admin && a.Level == levelRegion:
		list = a.AllowList
		c.Regions, err = adminRegions(ctx, idb, a.ID)
	case c.Admin:
		list = a.AllowList
	default:
		c.Regions, err = grantedRegions(ctx, idb, a.Company)
	}
	if err != nil {
		return nil, err
	}
	if c.Allowed, err = parseAllowList(list); err != nil {
		return nil, fmt.Errorf("allow-list of account %d: %w", a.ID, err)
	}
	return c, nil
}

// adminRegions of an administrator of regions; never nil.
func adminRegions(ctx context.Context, idb bun.IDB, id int64) ([]string, error) {
	regions := []string{}
	err := idb.NewSelect().TableExpr("account_region").Column("region").Where("account = ?", id).Order("region").Scan(ctx, &regions)
	return regions, err
}

// grantedRegions of a tenant; nil: all.
func grantedRegions(ctx context.Context, idb bun.IDB, company int64) ([]string, error) {
	var rows []struct {
		Region  string `bun:"region"`
		Granted bool   `bun:"granted"`
	}
	err := idb.NewSelect().TableExpr("tenant_region").Column("region", "granted").Where("company = ?", company).Order("region").Scan(ctx, &rows)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	regions := []string{}
	for _, r := range rows {
		if r.Granted {
			regions = append(regions, r.Region)
		}
	}
	return regions, nil
}

// CheckRegion refuses a region that a tenant was not granted (114). The wire refuses what the caller may not use; this
// is for an administrator who acts for a tenant.
func (s *Service) CheckRegion(ctx context.Context, company int64, region string) error {
	regions, err := grantedRegions(ctx, s.DB.Reader(), company)
	if err != nil {
		return err
	}
	if regions != nil && !slices.Contains(regions, region) {
		return retcode.ActionForbidden.Errorf("region %s is not granted to tenant %d", region, company)
	}
	return nil
}

// readKey reads a key with whom it belongs to; nil when unknown.
func (s *Service) readKey(ctx context.Context, publicKey string) (*action.Credential, error) {
	k := new(keyPair)
	db := s.DB.Reader()
	if err := db.NewSelect().Model(k).Where("public_key = ?", publicKey).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	private, err := s.Secret.Open(k.PrivateKey, keyContext(publicKey))
	if err != nil {
		return nil, fmt.Errorf("private key of account %d: %w", k.Account, err)
	}
	c, err := s.caller(ctx, db, k.Account)
	if err != nil || c == nil {
		return nil, err
	}
	return &action.Credential{Caller: *c, PrivateKey: string(private), Disabled: k.Disabled, Expires: k.ExpiresAt}, nil
}

// parseAllowList reads addresses and networks, comma separated; nil: none, so that anywhere is allowed.
func parseAllowList(text string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, one := range strings.Split(text, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		p, err := netip.ParsePrefix(one)
		if err != nil {
			a, addressErr := netip.ParseAddr(one)
			if addressErr != nil || a.Zone() != "" {
				return nil, fmt.Errorf("%q is neither an address nor a network in CIDR form", one)
			}
			p = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
		networks = append(networks, p.Masked())
	}
	return networks, nil
}
