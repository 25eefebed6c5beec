package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/apd/v3"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) priceActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribePrice", Module: "billing", Summary: "List prices by product, set type and charge type."}, s.describePrice),
		action.Define(action.Spec{Name: "UpdatePrice", Module: "billing", System: true, Admin: true, Mutates: true, Summary: "Set the price of a product."}, s.updatePrice),
		action.Define(action.Spec{Name: "UpdateDiscount", Module: "billing", System: true, Admin: true, Mutates: true,
			Summary: "Set the discount of a tenant for a product."}, s.updateDiscount),
		action.Define(action.Spec{Name: "DescribeDiscount", Module: "billing", Extension: true, Summary: "List the discounts of a tenant."}, s.describeDiscount),
	}
}

// ScopeKind is a kind of place that prices are set for.
type ScopeKind string

// Kinds of scopes.
const (
	ComputeScope ScopeKind = "compute set"
	StorageScope ScopeKind = "storage set"
	SegmentScope ScopeKind = "segment"
)

// Scope is a place that prices are set for.
type Scope struct {
	Kind ScopeKind
	ID   string // set type, segment id
	Name string
}

// OnScopes adds a source of scopes: those of a region that a tenant may use; all for tenant 0.
func (s *Service) OnScopes(f func(ctx context.Context, region string, company int64) ([]Scope, error)) {
	s.scopeSources = append(s.scopeSources, f)
}

func (s *Service) scopes(ctx context.Context, region string, company int64) (all []Scope, err error) {
	for _, f := range s.scopeSources {
		found, err := f(ctx, region, company)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// Segment finds an external segment that a tenant may use by id or name (200).
func (s *Service) Segment(ctx context.Context, region string, company int64, name string) (Scope, error) {
	all, err := s.scopes(ctx, region, company)
	if err != nil {
		return Scope{}, err
	}
	for _, scope := range all {
		if scope.Kind == SegmentScope && (scope.ID == name || scope.Name == name) {
			return scope, nil
		}
	}
	return Scope{}, retcode.ResourceNotFound.Errorf("external segment %s", name)
}

type describePriceRequest struct {
	ProductIDs []string `doc:"CPU, MEMORY, GPU, DISK, EIP"`
	SetTypes   []string `doc:"compute or storage set types, segment ids"`
	Keyword    string   `doc:"part of the product's or the set's name or id"`
	action.Tenant
	action.Page
}

type describePriceResponse struct {
	Infos      []priceInfo
	TotalCount int
}

type priceInfo struct {
	ProductID     string
	Product       string
	Region        string
	RegionAlias   string
	SetType       string
	SetTypeAlias  string
	ChargeType    string `doc:"Hour, Month, Year"`
	ChargeRule    string `doc:"FIXED, or GRADIENT: the sum over the intervals"`
	Unit          string
	Infos         []priceTier `doc:"none: not for sale"`
	Discount      float64     `doc:"percent that the tenant pays"`
	DiscountInfos []priceTier `doc:"the intervals at the tenant's prices"`
	CreateTime    int64       `doc:"unix seconds; 0: the default price"`
	UpdateTime    int64       `doc:"unix seconds; 0: the default price"`
}

type priceTier struct {
	LowerMultiple int64   `doc:"units above which the price holds"`
	UpperMultiple int64   `doc:"units up to which it holds; 0: no end"`
	Price         float64 `doc:"yuan for a unit and period"`
}

// priceEntry is one price that holds.
type priceEntry struct {
	*priced
	scope      Scope
	chargeType string
	tiers      []tier
	percent    int64
	row        priceRow
}

// priceList is everything that has a price in a region, as a tenant sees it.
func (s *Service) priceList(ctx context.Context, region string, company int64) ([]priceEntry, error) {
	scopes, err := s.scopes(ctx, region, company)
	if err != nil {
		return nil, err
	}
	rows, err := s.priceRows(ctx, s.DB.Reader(), region, "")
	if err != nil {
		return nil, err
	}
	set := map[priceKey]priceRow{}
	for _, r := range rows {
		set[r.key()] = r
	}
	_, discounts, err := s.prices(ctx, s.DB.Reader(), company, region, "")
	if err != nil {
		return nil, err
	}
	var all []priceEntry
	for i := range book {
		for _, scope := range scopes {
			if scope.Kind != book[i].Kind {
				continue
			}
			for _, charge := range ChargeTypes {
				key := priceKey{book[i].Factor, scope.ID, charge}
				e := priceEntry{priced: &book[i], scope: scope, chargeType: charge, tiers: book[i].Book[charge], percent: 100}
				if r, ok := set[key]; ok {
					e.row = r
					if e.tiers, err = r.tiers(); err != nil {
						return nil, err
					}
				}
				if p, ok := discounts[key]; ok {
					e.percent = p
				}
				all = append(all, e)
			}
		}
	}
	return all, nil
}

func (s *Service) describePrice(ctx context.Context, c *action.Call, q *describePriceRequest) (*describePriceResponse, error) {
	all, err := s.priceList(ctx, c.Region, c.Company)
	if err != nil {
		return nil, err
	}
	word := strings.ToLower(q.Keyword)
	all = slices.DeleteFunc(all, func(e priceEntry) bool {
		return len(q.ProductIDs) > 0 && !slices.Contains(q.ProductIDs, string(e.Factor)) ||
			len(q.SetTypes) > 0 && !slices.Contains(q.SetTypes, e.scope.ID) ||
			!slices.ContainsFunc([]string{string(e.Factor), e.Name, e.scope.ID, e.scope.Name}, func(t string) bool { return strings.Contains(strings.ToLower(t), word) })
	})
	r := &describePriceResponse{TotalCount: len(all)}
	alias, err := s.RegionAlias(ctx, c.Region)
	if err != nil {
		return nil, err
	}
	for _, e := range cut(all, q.Offset, q.Limit) {
		info := priceInfo{ProductID: string(e.Factor), Product: e.Name, Region: c.Region, RegionAlias: alias, SetType: e.scope.ID, SetTypeAlias: e.scope.Name,
			ChargeType: shownCharge(e.chargeType), ChargeRule: "FIXED", Unit: e.Unit, Infos: []priceTier{}, DiscountInfos: []priceTier{},
			Discount: float64(e.percent), CreateTime: e.row.CreatedAt / 1e6, UpdateTime: e.row.UpdatedAt / 1e6}
		if len(e.tiers) > 1 {
			info.ChargeRule = "GRADIENT"
		}
		for _, t := range e.tiers {
			info.Infos = append(info.Infos, priceTier{t.From, t.To, t.Price.Float()})
			reduced := new(apd.Decimal)
			rating.Mul(reduced, apd.New(int64(t.Price), 0), apd.New(e.percent, -2))
			info.DiscountInfos = append(info.DiscountInfos, priceTier{t.From, t.To, rounded(reduced).Float()})
		}
		r.Infos = append(r.Infos, info)
	}
	return r, nil
}

// shownCharge is how prices and orders name a charge type.
func shownCharge(chargeType string) string {
	if chargeType == Dynamic {
		return "Hour"
	}
	return chargeType
}

type updatePriceRequest struct {
	ProductID     string `validate:"required" doc:"CPU, MEMORY, GPU, DISK, EIP"`
	SetType       string `validate:"required" doc:"compute or storage set type, segment id"`
	ChargeType    string `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	PriceRuleInfo string `validate:"required,max=10000" doc:"JSON objects {LowerMultiple,UpperMultiple,Price} joined by |; UpperMultiple 0: no end; None: not for sale"`
	ChargeRule    string `default:"Simple" validate:"oneof=Simple Tiered" doc:"accepted; the intervals decide: of several the price is their sum"`
}

// notForSale as PriceRuleInfo takes something off the market for a charge type: 17003 from then on.
const notForSale = "None"

func (s *Service) updatePrice(ctx context.Context, c *action.Call, q *updatePriceRequest) (*action.Empty, error) {
	key, err := s.priceOf(ctx, c.Region, q.ProductID, q.SetType, q.ChargeType)
	if err != nil {
		return nil, err
	}
	tiers, err := parseTiers(q.PriceRuleInfo)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(tiers)
	if err != nil {
		return nil, err
	}
	c.AddResource(string(key.Factor) + "/" + key.Scope + "/" + key.ChargeType)
	now := s.Clock.Micros()
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		return s.setPrice(ctx, tx, priceRow{Region: c.Region, Factor: key.Factor, Scope: key.Scope, ChargeType: key.ChargeType,
			Tiers: string(text), CreatedAt: now, UpdatedAt: now})
	})
}

// priceOf finds what a product and set name: 17003 when there is no such price.
func (s *Service) priceOf(ctx context.Context, region, product, set, chargeType string) (priceKey, error) {
	if p := pricedAs(PriceFactor(product)); p != nil {
		scopes, err := s.scopes(ctx, region, 0)
		if err != nil {
			return priceKey{}, err
		}
		for _, scope := range scopes {
			if scope.Kind == p.Kind && (scope.ID == set || scope.Kind == SegmentScope && scope.Name == set) {
				return priceKey{p.Factor, scope.ID, chargeType}, nil
			}
		}
	}
	return priceKey{}, retcode.PriceNotFound.Errorf("ProductID %q with SetType %q, DescribePrice lists them", product, set)
}

const (
	maxTiers = 20
	maxUnits = 100_000_000
	maxPrice = 1_000_000 // yuan for a unit and period
)

// parseTiers reads intervals that follow each other from 0: 4 for what cannot be read, 113 for what does not fit.
func parseTiers(text string) ([]tier, error) {
	if text == notForSale {
		return []tier{}, nil
	}
	parts := strings.Split(text, "|")
	if len(parts) > maxTiers {
		return nil, retcode.InvalidParameter.Errorf("PriceRuleInfo has at most %d intervals", maxTiers)
	}
	var tiers []tier
	for i, part := range parts {
		var given struct {
			LowerMultiple, UpperMultiple int64
			Price                        json.Number
		}
		if err := json.Unmarshal([]byte(part), &given); err != nil {
			return nil, retcode.InvalidParameterFormat.Errorf("PriceRuleInfo must be JSON objects {LowerMultiple,UpperMultiple,Price} joined by |")
		}
		price, err := parseMoney(given.Price.String())
		if err != nil {
			return nil, err
		}
		t := tier{From: given.LowerMultiple, To: max(given.UpperMultiple, 0), Price: price}
		from := int64(0)
		if i > 0 {
			from = tiers[i-1].To
		}
		open := t.To == 0
		if t.From != from || i > 0 && from == 0 || !open && (t.To <= t.From || t.To > maxUnits) {
			return nil, retcode.InvalidParameter.Errorf("the intervals of PriceRuleInfo must follow each other from 0, only the last without an end")
		}
		tiers = append(tiers, t)
	}
	return tiers, nil
}

// parseMoney reads a price in yuan: at most four decimals, 0 to 1,000,000.
func parseMoney(text string) (Money, error) {
	d, _, err := apd.NewFromString(text)
	if err != nil || d.Form != apd.Finite || d.Exponent < -20 || d.Exponent > 20 {
		return 0, retcode.InvalidParameterFormat.Errorf("Price must be a number")
	}
	d.Reduce(d)
	if d.Sign() < 0 || d.Cmp(apd.New(maxPrice, 0)) > 0 || d.Exponent < -4 {
		return 0, retcode.InvalidParameter.Errorf("Price is 0 to %d yuan with at most 4 decimals", maxPrice)
	}
	d.Exponent += 4
	return rounded(d), nil
}

type updateDiscountRequest struct {
	CompanyID  int64   `validate:"required" doc:"tenant"`
	ProductID  string  `validate:"required" doc:"CPU, MEMORY, GPU, DISK, EIP"`
	SetType    string  `validate:"required" doc:"compute or storage set type, segment id"`
	ChargeType string  `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	Discount   float64 `validate:"required" doc:"whole percent that the tenant pays: 100 all, 50 half, 0 nothing"`
}

func (s *Service) updateDiscount(ctx context.Context, c *action.Call, q *updateDiscountRequest) (*action.Empty, error) {
	if q.Discount < 0 || q.Discount > 100 || q.Discount != math.Trunc(q.Discount) {
		return nil, retcode.InvalidParameter.Errorf("Discount is a whole percentage, 0 to 100")
	}
	if err := s.checkTenant(ctx, q.CompanyID); err != nil {
		return nil, err
	}
	key, err := s.priceOf(ctx, c.Region, q.ProductID, q.SetType, q.ChargeType)
	if err != nil {
		return nil, err
	}
	c.AddResource(string(key.Factor) + "/" + key.Scope + "/" + key.ChargeType)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		return s.setDiscount(ctx, tx, discountRow{Company: q.CompanyID, Region: c.Region, Factor: key.Factor, Scope: key.Scope, ChargeType: key.ChargeType,
			Percent: int64(q.Discount), UpdatedAt: s.Clock.Micros()})
	})
}

// OnTenants sets who knows the tenants (identity): it refuses one that does not exist.
func (s *Service) OnTenants(check func(ctx context.Context, company int64) error) {
	s.checkTenant = check
}

type describeDiscountRequest struct {
	CompanyID  int64    `validate:"required" doc:"tenant; from a tenant its own"`
	ProductIDs []string `doc:"CPU, MEMORY, GPU, DISK, EIP"`
	SetTypes   []string `doc:"compute or storage set types, segment ids"`
	action.Page
}

type describeDiscountResponse struct {
	Infos      []discountInfo
	TotalCount int
}

type discountInfo struct {
	CompanyID  int64
	ProductID  string
	Product    string
	Region     string
	SetType    string
	ChargeType string  `doc:"Hour, Month, Year"`
	Price      float64 `doc:"yuan for the first unit and a period, before the discount"`
	Discount   int     `doc:"percent that the tenant pays"`
	UpdateTime int64   `doc:"unix seconds"`
}

func (s *Service) describeDiscount(ctx context.Context, c *action.Call, q *describeDiscountRequest) (*describeDiscountResponse, error) {
	if !c.Caller.Admin && q.CompanyID != c.Caller.Company {
		return nil, retcode.AdminOnly.Errorf("CompanyID %d is another tenant", q.CompanyID)
	}
	if err := s.checkTenant(ctx, q.CompanyID); err != nil {
		return nil, err
	}
	for _, p := range q.ProductIDs {
		if pricedAs(PriceFactor(p)) == nil {
			return nil, retcode.PriceNotFound.Errorf("ProductID %q with SetType %q, DescribePrice lists them", p, "")
		}
	}
	rows, err := s.discountRows(ctx, s.DB.Reader(), q.CompanyID, c.Region, "")
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r discountRow) bool {
		return len(q.ProductIDs) > 0 && !slices.Contains(q.ProductIDs, string(r.Factor)) || len(q.SetTypes) > 0 && !slices.Contains(q.SetTypes, r.Scope)
	})
	prices, _, err := s.prices(ctx, s.DB.Reader(), 0, c.Region, "")
	if err != nil {
		return nil, err
	}
	r := &describeDiscountResponse{TotalCount: len(rows)}
	for _, row := range cut(rows, q.Offset, q.Limit) {
		p := pricedAs(row.Factor)
		if p == nil {
			continue
		}
		tiers, set := prices[row.key()]
		if !set {
			tiers = p.Book[row.ChargeType]
		}
		first := tier{}
		if len(tiers) > 0 {
			first = tiers[0]
		}
		r.Infos = append(r.Infos, discountInfo{CompanyID: row.Company, ProductID: string(row.Factor), Product: p.Name, Region: row.Region, SetType: row.Scope,
			ChargeType: shownCharge(row.ChargeType), Price: first.Price.Float(), Discount: int(row.Percent), UpdateTime: row.UpdatedAt / 1e6})
	}
	return r, nil
}

// RegionAlias is the name of a region for people.
func (s *Service) RegionAlias(ctx context.Context, id string) (string, error) {
	var row region
	r := s.DB.Reader()
	err := database.One(ctx, r, r.NewSelect().Model(&row).Column("alias").Where("id = ?", id), &row)
	return cmp.Or(row.Alias, id), err
}
