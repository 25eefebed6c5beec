package identity

import (
	"context"
	"maps"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) serviceActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeProduct", Module: "tenant", Summary: "List product services of a region and who may use them."}, s.describeProduct),
		action.Define(action.Spec{Name: "EnableCompanyProductType", Module: "tenant", Admin: true, Mutates: true, Summary: "Open a product service to tenants."}, s.enableCompanyProductType),
		action.Define(action.Spec{Name: "DisableCompanyProductType", Module: "tenant", Admin: true, Mutates: true, Summary: "Close a product service for tenants."}, s.disableCompanyProductType),
		action.Define(action.Spec{Name: "EnableProduct", Module: "tenant", Admin: true, Extension: true, Mutates: true, Summary: "Open a service of the catalogue in a region."}, s.enableProduct),
		action.Define(action.Spec{Name: "DisableProduct", Module: "tenant", Admin: true, Extension: true, Mutates: true, Summary: "Close a service no tenant has resources of."}, s.disableProduct),
		action.Define(action.Spec{Name: "ListProductTypeCompanys", Module: "tenant", Admin: true, Extension: true, Summary: "List the tenants of a service."}, s.listProductTypeCompanys),
		action.Define(action.Spec{Name: "ListProductResources", Module: "tenant", Region: action.RegionNone, Extension: true, Summary: "List the resource types of every service."}, s.listProductResources),
	}
}

type describeProductResponse struct {
	Infos      []productInfo
	TotalCount int
}

type productInfo struct {
	ProductType        string
	ProductKey         string
	Name               string
	Category           string
	CategoryName       string
	Region             string
	Authorized         string `doc:"Y: the caller's tenant may use it; for administrators: the licence has it"`
	Enable             string `doc:"Y: open in the region"`
	Invisible          bool
	CompanyCount       int `doc:"tenants with resources of it; administrators only"`
	EnableCompanyCount int `doc:"tenants that it is open to; administrators only"`
	Remark             string
	Services           []serviceInfo
}

type serviceInfo struct{ ResourceType string }

// yes is how the API says a truth in words.
func yes(b bool) string {
	if b {
		return "Y"
	}
	return "N"
}

func (s *Service) describeProduct(ctx context.Context, c *action.Call, _ *struct{}) (*describeProductResponse, error) {
	closed, err := s.closed(ctx)
	if err != nil {
		return nil, err
	}
	var tenants int
	if c.Caller.Admin {
		n, err := s.DB.Reader().NewSelect().Model((*tenant)(nil)).Where("state <> ? AND id <> ?", deleted, AdminCompany).Count(ctx)
		if err != nil {
			return nil, err
		}
		tenants = int(n)
	}
	kinds := map[string][]serviceInfo{}
	s.Directory.Each(func(service, kind string) { kinds[service] = append(kinds[service], serviceInfo{kind}) })
	out := &describeProductResponse{}
	for _, p := range products {
		if p.Category == "" {
			continue
		}
		open := !closed[serviceClosed{Region: c.Region, Product: p.Type}]
		info := productInfo{ProductType: p.Type, ProductKey: p.Module, Name: p.Name, Category: p.Category, CategoryName: p.Category, Region: c.Region,
			Enable: yes(open), Authorized: yes(c.Caller.Admin || open && !closed[serviceClosed{Region: c.Region, Product: p.Type, Company: c.Caller.Company}]),
			Services: kinds[p.Module]}
		if c.Caller.Admin {
			held, err := s.Directory.Holders(ctx, s.DB.Reader(), c.Region, p.Module)
			if err != nil {
				return nil, err
			}
			info.CompanyCount, info.EnableCompanyCount = len(held), tenants
			for k := range closed {
				if k.Region == c.Region && k.Product == p.Type && k.Company != 0 {
					info.EnableCompanyCount--
				}
			}
		}
		out.Infos = append(out.Infos, info)
	}
	out.TotalCount = len(out.Infos)
	return out, nil
}

type companyProductRequest struct {
	CompanyIDs  []int64 `validate:"required,max=100" doc:"tenants"`
	ProductType string  `validate:"required" doc:"service, see DescribeProduct"`
}

func (s *Service) enableCompanyProductType(ctx context.Context, c *action.Call, q *companyProductRequest) (*action.Empty, error) {
	return nil, s.openService(ctx, c, q.ProductType, q.CompanyIDs)
}

func (s *Service) disableCompanyProductType(ctx context.Context, c *action.Call, q *companyProductRequest) (*action.Empty, error) {
	return nil, s.closeService(ctx, c, q.ProductType, q.CompanyIDs)
}

type productRequest struct {
	ProductType string `validate:"required" doc:"service, see DescribeProduct"`
}

func (s *Service) enableProduct(ctx context.Context, c *action.Call, q *productRequest) (*action.Empty, error) {
	return nil, s.openService(ctx, c, q.ProductType, []int64{0})
}

func (s *Service) disableProduct(ctx context.Context, c *action.Call, q *productRequest) (*action.Empty, error) {
	return nil, s.closeService(ctx, c, q.ProductType, []int64{0})
}

// openService opens a service of the call's region to tenants, or to the region (0): 655, 27001.
func (s *Service) openService(ctx context.Context, c *action.Call, name string, companies []int64) error {
	c.AddResource(name)
	p, err := service(name)
	if err != nil {
		return err
	}
	if err := s.checkTenants(ctx, companies); err != nil {
		return err
	}
	return s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*serviceClosed)(nil)).Where("region = ? AND product = ? AND company IN (?)", c.Region, p.Type, bun.In(companies)).Exec(ctx)
		return err
	})
}

// closeService closes a service of the call's region to tenants, or to all (0) that have nothing in it: 655, 656, 27001.
func (s *Service) closeService(ctx context.Context, c *action.Call, name string, companies []int64) error {
	c.AddResource(name)
	p, err := service(name)
	if err != nil {
		return err
	}
	if err := s.checkTenants(ctx, companies); err != nil {
		return err
	}
	return s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		held, err := s.Directory.Holders(ctx, tx, c.Region, p.Module)
		if err != nil {
			return err
		}
		for _, company := range slices.Sorted(maps.Keys(held)) {
			if slices.Contains(companies, 0) || slices.Contains(companies, company) {
				return retcode.ProductTypeInUse.Errorf("tenant %d has %d resources of %s", company, held[company], p.Type)
			}
		}
		for _, company := range companies {
			if _, err := tx.NewInsert().Model(&serviceClosed{Region: c.Region, Product: p.Type, Company: company, CreatedAt: s.Clock.Micros()}).
				On("CONFLICT (region, product, company) DO NOTHING").Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkTenants refuses ids that are no tenants (27001); 0 stands for all of them.
func (s *Service) checkTenants(ctx context.Context, companies []int64) error {
	if slices.Equal(companies, []int64{0}) {
		return nil
	}
	for _, id := range companies {
		if err := s.CheckTenant(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

type listProductTypeCompanysRequest struct {
	ProductType string `validate:"required" doc:"service, see DescribeProduct"`
	Offset      int    `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit       int    `default:"20" validate:"min=1,max=100" doc:"page length"`
}

type listProductTypeCompanysResponse struct {
	Infos      []productCompany
	TotalCount int
}

type productCompany struct {
	CompanyID     int64
	Name          string
	Email         string
	Enable        bool `doc:"the service is open to the tenant"`
	ResourceCount int
}

func (s *Service) listProductTypeCompanys(ctx context.Context, c *action.Call, q *listProductTypeCompanysRequest) (*listProductTypeCompanysResponse, error) {
	p, err := service(q.ProductType)
	if err != nil {
		return nil, err
	}
	closed, err := s.closed(ctx)
	if err != nil {
		return nil, err
	}
	held, err := s.Directory.Holders(ctx, s.DB.Reader(), c.Region, p.Module)
	if err != nil {
		return nil, err
	}
	out := &listProductTypeCompanysResponse{}
	var rows []tenant
	sel := s.DB.Reader().NewSelect().Model(&rows).Where("state <> ? AND id <> ?", deleted, AdminCompany)
	if out.TotalCount, err = page(ctx, sel, action.Page{Offset: q.Offset, Limit: q.Limit}, "id"); err != nil {
		return nil, err
	}
	ids := make([]int64, len(rows))
	for i, t := range rows {
		ids[i] = t.ID
	}
	emails, err := s.Emails(ctx, ids)
	if err != nil {
		return nil, err
	}
	open := !closed[serviceClosed{Region: c.Region, Product: p.Type}]
	for _, t := range rows {
		out.Infos = append(out.Infos, productCompany{CompanyID: t.ID, Name: t.Name, Email: emails[t.ID], ResourceCount: held[t.ID],
			Enable: open && !closed[serviceClosed{Region: c.Region, Product: p.Type, Company: t.ID}]})
	}
	return out, nil
}

type listProductResourcesResponse struct {
	Infos      []productResource
	TotalCount int
}

type productResource struct {
	ProductType  string
	ResourceType string
	Name         string
}

func (s *Service) listProductResources(_ context.Context, _ *action.Call, _ *struct{}) (*listProductResourcesResponse, error) {
	out := &listProductResourcesResponse{}
	s.Directory.Each(func(service, kind string) {
		if p := productOf(service); p != nil && p.Category != "" {
			out.Infos = append(out.Infos, productResource{ProductType: p.Type, ResourceType: kind, Name: p.Name})
		}
	})
	out.TotalCount = len(out.Infos)
	return out, nil
}
