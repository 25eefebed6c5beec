package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) quotaActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeQuota", Module: "config", Summary: "List quotas of tenants."}, s.describeQuota),
		action.Define(action.Spec{Name: "DescribeQuotaUsage", Module: "config", Region: action.RegionOptional,
			Summary: "List quotas with what is used."}, s.describeQuotaUsage),
		action.Define(action.Spec{Name: "SetAccountQuota", Module: "config", Admin: true, Mutates: true, Summary: "Set a quota of a tenant."}, s.setAccountQuota),
		action.Define(action.Spec{Name: "ResetAccountQuota", Module: "config", Admin: true, Mutates: true, Extension: true,
			Summary: "Let a tenant item follow the default again."}, s.resetAccountQuota),
	}
}

type describeQuotaRequest struct {
	FactorTypes  []string `doc:"FACTOR_AMOUNT, FACTOR_CPU, FACTOR_MEMORY, FACTOR_DISK, FACTOR_GPU"`
	ProductTypes []string `doc:"VM, DISK, EIP and so on"`
	Keyword      string   `doc:"part of the product's name"`
	IsDefault    bool     `doc:"administrators: the defaults of the region"`
	action.Tenant
	action.Page
}

type describeQuotaResponse struct {
	Infos      []quotaInfo
	TotalCount int
}

type quotaInfo struct {
	CompanyID    int64 `doc:"0: the default"`
	Region       string
	RegionAlias  string
	ProductType  string
	ResourceType string
	FactorType   string
	Quota        int64
	Allocation   string `doc:"JSON object: of the quota, what may be in which set"`
	Unit         string
	Status       string `doc:"Default: follows the default; Custom: has a value of its own"`
	CreateTime   int64  `doc:"unix seconds; 0: as the region was made"`
	UpdateTime   int64  `doc:"unix seconds; 0: never edited"`
}

// describeQuota lists quotas of one tenant or of all, in the order of the table of factors.
func (s *Service) describeQuota(ctx context.Context, c *action.Call, q *describeQuotaRequest) (*describeQuotaResponse, error) {
	if q.IsDefault && !c.Caller.Admin {
		return nil, retcode.AdminOnly.Errorf("IsDefault is for platform administrators")
	}
	r := &describeQuotaResponse{Infos: []quotaInfo{}}
	word := strings.ToLower(q.Keyword)
	wanted, order := []Factor{"-"}, "CASE factor"
	for i, f := range counts {
		if (len(q.FactorTypes) == 0 || slices.Contains(q.FactorTypes, f.Kind)) && (len(q.ProductTypes) == 0 || slices.Contains(q.ProductTypes, f.Resource)) &&
			strings.Contains(strings.ToLower(f.Resource+"\n"+f.Words), word) {
			wanted = append(wanted, f.Factor)
		}
		order += fmt.Sprintf(" WHEN '%s' THEN %d", f.Factor, i)
	}
	var rows []quotaState
	table := `(SELECT company, region, factor, ` + allowance + ` AS allowed, ` + allotment + ` AS allocation, allowance IS NOT NULL AS custom, updated_at FROM quota) AS q`
	if q.IsDefault {
		table = `(SELECT CAST(0 AS BIGINT) AS company, region, factor, value AS allowed, allocation, updated_at > 0 AS custom, updated_at FROM quota_default) AS q`
	}
	find := s.DB.Reader().NewSelect().TableExpr(table).Where("region = ? AND factor IN (?)", c.Region, bun.In(wanted))
	if c.Company != 0 && !q.IsDefault {
		find = find.Where("company = ?", c.Company)
	}
	n, err := find.Count(ctx)
	if r.TotalCount = int(n); err != nil || q.Limit == 0 {
		return r, err
	}
	if err := find.OrderExpr("company, "+order+" END").Offset(int64(q.Offset)).Limit(int64(q.Limit)).Scan(ctx, &rows); err != nil {
		return nil, err
	}
	alias, err := s.RegionAlias(ctx, c.Region)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		f := countedAs(row.Factor)
		allocation, err := parseAllocation(row.Allocation)
		if err != nil {
			return nil, err
		}
		info := quotaInfo{CompanyID: row.Company, Region: row.Region, RegionAlias: alias, ProductType: f.Resource, ResourceType: f.Resource, FactorType: f.Kind,
			Quota: row.Allowed / f.Per, Allocation: allocation.over(f.Per).text(), Unit: f.Unit, Status: "Default", UpdateTime: row.UpdatedAt / 1e6}
		if row.Custom {
			info.Status = "Custom"
		}
		r.Infos = append(r.Infos, info)
	}
	return r, nil
}

type quotaState struct {
	Company    int64  `bun:"company"`
	Region     string `bun:"region"`
	Factor     Factor `bun:"factor"`
	Allowed    int64  `bun:"allowed"`
	Allocation string `bun:"allocation"`
	Custom     bool   `bun:"custom"`
	UpdatedAt  int64  `bun:"updated_at"`
}

type describeUsageRequest struct{ action.Tenant }

type describeUsageResponse struct {
	Infos      []usageInfo
	TotalCount int
}

type usageInfo struct {
	Region       string
	RegionAlias  string
	ProductType  string
	ResourceType string
	FactorType   string
	Quota        int64 `doc:"of all tenants together when an administrator names none"`
	Usage        int64
	Unit         string
	Sets         []setUsage `doc:"of one tenant: the sets that it uses, and those that something is allocated to"`
}

type setUsage struct {
	SetID string
	Quota int64 `doc:"what may be in the set"`
	Usage int64
}

func (s *Service) describeQuotaUsage(ctx context.Context, c *action.Call, _ *describeUsageRequest) (*describeUsageResponse, error) {
	find := s.DB.Reader().NewSelect().TableExpr("quota").ColumnExpr("region, factor, sum(used) AS used, sum("+allowance+") AS allowed").
		Where("company != ?", identity.AdminCompany).GroupExpr("region, factor").OrderExpr("region, factor")
	if c.Company != 0 {
		find = s.DB.Reader().NewSelect().TableExpr("quota").ColumnExpr("region, factor, used, "+allowance+" AS allowed, "+allotment+" AS allocation").
			Where("company = ?", c.Company).OrderExpr("region, factor")
	}
	if c.Region != "" {
		find = find.Where("region = ?", c.Region)
	}
	var rows []Usage
	if err := find.Scan(ctx, &rows); err != nil {
		return nil, err
	}
	aliases := map[string]string{}
	for _, row := range rows {
		if _, known := aliases[row.Region]; !known {
			var err error
			if aliases[row.Region], err = s.RegionAlias(ctx, row.Region); err != nil {
				return nil, err
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b Usage) int {
		if d := strings.Compare(a.Region, b.Region); d != 0 {
			return d
		}
		return place(a.Factor) - place(b.Factor)
	})
	r := &describeUsageResponse{Infos: []usageInfo{}, TotalCount: len(rows)}
	for _, row := range rows {
		f := countedAs(row.Factor)
		info := usageInfo{Region: row.Region, RegionAlias: aliases[row.Region], ProductType: f.Resource, ResourceType: f.Resource, FactorType: f.Kind,
			Quota: row.Allowed / f.Per, Usage: f.up(row.Used), Unit: f.Unit}
		if c.Company != 0 {
			var err error
			if info.Sets, err = s.setUsages(ctx, c.Company, f, row); err != nil {
				return nil, err
			}
		}
		r.Infos = append(r.Infos, info)
	}
	return r, nil
}

// setUsages tells what a tenant may use and uses of a factor in each set.
func (s *Service) setUsages(ctx context.Context, company int64, f counted, q Usage) ([]setUsage, error) {
	sets := []setUsage{}
	spread, err := s.spread(ctx, s.DB.Reader(), company, q.Region, f.Factor)
	if err != nil {
		return nil, err
	}
	allocated, err := parseAllocation(q.Allocation)
	if err != nil {
		return nil, err
	}
	for set := range allocated {
		spread[set] += 0
	}
	for _, set := range slices.Sorted(maps.Keys(spread)) {
		limit, own := allocated[set]
		if !own {
			limit = q.Allowed
		}
		sets = append(sets, setUsage{SetID: set, Quota: limit / f.Per, Usage: f.up(spread[set])})
	}
	return sets, nil
}

// up is an amount in units of the wire, rounded up: a quota that looks free must be free.
func (f counted) up(n int64) int64 { return (n + f.Per - 1) / f.Per }

// place of a factor in lists.
func place(f Factor) int {
	return slices.IndexFunc(counts, func(c counted) bool { return c.Factor == f })
}

type setQuotaRequest struct {
	ResourceType string `validate:"required" doc:"VM, DISK, EIP and so on, see DescribeQuota"`
	FactorType   string `validate:"required" doc:"FACTOR_AMOUNT, FACTOR_CPU, FACTOR_MEMORY, FACTOR_DISK, FACTOR_GPU"`
	Quota        int64  `validate:"required,min=0,max=1000000000" doc:"not below what the tenant uses; memory in GB"`
	CompanyID    int64  `doc:"tenant; 0: the default, for all that have no value of their own"`
	Allocation   string `default:"{}" doc:"JSON object: of the quota, what may be in which set, by id; other sets are held to the quota alone"`
}

func (s *Service) setAccountQuota(ctx context.Context, c *action.Call, q *setQuotaRequest) (*action.Empty, error) {
	f, err := countedOnWire(q.ResourceType, q.FactorType)
	if err != nil {
		return nil, err
	}
	allocation, err := s.checkAllocation(ctx, c.Region, f, q.Allocation, q.Quota)
	if err != nil {
		return nil, err
	}
	c.AddResource(string(f.Factor))
	if q.CompanyID == 0 {
		return nil, s.setDefault(ctx, c.Region, f.Factor, q.Quota*f.Per, allocation)
	}
	if err := s.checkTenant(ctx, q.CompanyID); err != nil {
		return nil, err
	}
	value := q.Quota * f.Per
	return nil, s.allow(ctx, q.CompanyID, c.Region, f.Factor, &value, allocation)
}

// countedOnWire finds the factor of a type and kind: 17006 when there is none.
func countedOnWire(resource, kind string) (counted, error) {
	for _, f := range counts {
		if f.Resource == resource && f.Kind == kind {
			return f, nil
		}
	}
	return counted{}, retcode.QuotaNotFound.Errorf("there is no quota %s %s", resource, kind)
}

type resetQuotaRequest struct {
	CompanyID    int64  `validate:"required" doc:"tenant"`
	ResourceType string `validate:"required" doc:"VM, DISK, EIP and so on, see DescribeQuota"`
	FactorType   string `validate:"required" doc:"FACTOR_AMOUNT, FACTOR_CPU, FACTOR_MEMORY, FACTOR_DISK, FACTOR_GPU"`
}

func (s *Service) resetAccountQuota(ctx context.Context, c *action.Call, q *resetQuotaRequest) (*action.Empty, error) {
	f, err := countedOnWire(q.ResourceType, q.FactorType)
	if err != nil {
		return nil, err
	}
	if err := s.checkTenant(ctx, q.CompanyID); err != nil {
		return nil, err
	}
	c.AddResource(string(f.Factor))
	return nil, s.resetAllowance(ctx, q.CompanyID, c.Region, f.Factor)
}
