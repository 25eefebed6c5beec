package identity

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) tenantActions() []action.Action {
	spec := func(name, summary string, admin, mutates, extension bool) action.Spec {
		return action.Spec{Name: name, Module: "tenant", Summary: summary, Region: action.RegionNone, Admin: admin, System: true, Mutates: mutates,
			Extension: extension, Failure: retcode.InternalError}
	}
	list := spec("DescribeUser", "List tenants.", true, false, false)
	list.Region = action.RegionOptional
	return []action.Action{
		action.Define(spec("CreateUser", "Create a tenant together with its main account.", true, true, false), s.createUser),
		action.Define(list, s.describeUser),
		action.Define(spec("FreezeUser", "Freeze a tenant and its accounts.", true, true, false), s.turnUser(Frozen, retcode.TenantFrozen)),
		action.Define(spec("UnFreezeUser", "Unfreeze a tenant; accounts that were frozen by themselves stay so.", true, true, false), s.turnUser(InUse, retcode.TenantAlreadyEnabled)),
		action.Define(spec("DeleteCompany", "Delete a tenant without resources, with its accounts.", true, true, false), s.deleteCompany),
		action.Define(spec("RenameCompany", "Rename a tenant.", false, true, false), s.renameCompany),
		action.Define(spec("UpdateCompanyName", "Rename a tenant.", false, true, false), s.updateCompanyName),
		action.Define(spec("UpdateCompanyEmail", "Change the e-mail of a tenant's main account.", false, true, false), s.updateCompanyEmail),
		action.Define(spec("UpdateCompanyRegion", "Set the regions that a tenant may use.", true, true, false), s.updateCompanyRegion),
		action.Define(spec("DescribeCompanyRegion", "List the regions granted to a tenant.", false, false, true), s.describeCompanyRegion),
		action.Define(spec("DescribeTenantResources", "Count the resources of a tenant, bin included.", false, false, true), s.describeTenantResources),
	}
}

type createUserRequest struct {
	Email         string   `doc:"login name of the main account, when UserEmail is not given"`
	PassWord      string   `validate:"required,max=1024" doc:"by the configured rule"`
	Name          string   `doc:"of the tenant; the part of the e-mail before @ by default"`
	Audit         bool     `default:"false" doc:"changes of resources need approval"`
	AutoAudit     bool     `default:"false" doc:"which is given by itself"`
	UserEmail     string   `doc:"login name of the main account"`
	Phone         string   `doc:"telephone number"`
	UserName      string   `doc:"of the main account; the tenant's by default"`
	ResetPassword string   `loose:"true" doc:"1, Y, Yes, true: to be changed at the first login"`
	Regions       []string `validate:"max=100" doc:"regions to grant; all there are by default"`
	Language      string   `validate:"oneof=zh en" doc:"of mails"`
}

type createUserResponse struct {
	UserID    int64 `doc:"main account"`
	CompanyID int64 `doc:"tenant"`
}

func (s *Service) createUser(ctx context.Context, c *action.Call, q *createUserRequest) (*createUserResponse, error) {
	login := q.UserEmail
	if login == "" {
		login = q.Email
	}
	if login == "" {
		return nil, retcode.MissingParameter.Errorf("UserEmail is required")
	}
	email, err := s.usable(ctx, login)
	if err != nil {
		return nil, err
	}
	if q.Name == "" {
		q.Name, _, _ = strings.Cut(email, "@")
		q.Name = q.Name[:min(len(q.Name), 50)]
	}
	name, err := personName(q.Name)
	if err != nil {
		return nil, err
	}
	person := name
	if q.UserName != "" {
		if person, err = personName(q.UserName); err != nil {
			return nil, err
		}
	}
	if err := phone(q.Phone); err != nil {
		return nil, err
	}
	if len(q.Regions) == 0 {
		if q.Regions, err = s.regions(ctx); err != nil {
			return nil, err
		}
	} else if err := s.checkRegions(ctx, q.Regions); err != nil {
		return nil, err
	}
	slices.Sort(q.Regions)
	q.Regions = slices.Compact(q.Regions)
	hash, err := s.newHash(ctx, q.PassWord)
	if err != nil {
		return nil, err
	}
	r := &createUserResponse{}
	err = s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		t := &tenant{Name: name, State: InUse, Approval: q.Audit, AutoApprove: q.AutoAudit}
		a := &account{Name: person, Email: email, Kind: main, State: InUse, Phone: q.Phone, Language: s.language(ctx, q.Language), PasswordHash: hash, MustChange: affirmed(q.ResetPassword)}
		if err := s.addTenant(ctx, tx, t, a, q.Regions); err != nil {
			return err
		}
		k := newPair(a.ID)
		k.IsDefault = true
		r.UserID, r.CompanyID = a.ID, t.ID
		return s.addKey(ctx, tx, k)
	})
	if err != nil {
		return nil, err
	}
	c.Company = r.CompanyID
	return r, nil
}

type describeUserRequest struct {
	CompanyIDs []int64  `validate:"max=100" doc:"tenant ids"`
	UserIDs    []int64  `validate:"max=100" doc:"main account ids"`
	Email      string   `doc:"exact login name of the main account"`
	Keyword    string   `doc:"part of name, e-mail or id"`
	Statuses   []string `validate:"dive,oneof=AVAILABLE FREEZE" doc:"states of the tenant"`
	action.Tenant
	action.Page
}

type userInfo struct {
	CompanyID    int64
	UserID       int64 `doc:"main account"`
	Email        string
	ManagerEmail string
	Name         string
	Audit        int
	AutoAudit    int
	Status       string  `doc:"AVAILABLE, FREEZE"`
	MemberStatus string  `doc:"of the main account: AVAILABLE, FREEZE, LOCKED (not activated)"`
	CreateTime   int64   `doc:"unix seconds"`
	UpdateTime   int64   `doc:"unix seconds"`
	Amount       float64 `doc:"yuan"`
	AmountFree   float64
	AmountCredit float64
	PublicKey    string   `doc:"of the main account's default key"`
	PrivateKey   string   `doc:"of the same; not for read-only administrators"`
	Regions      []string `doc:"granted; empty: all"`
	MemberCount  int      `doc:"accounts"`
	Language     string
	Whitelist    string `doc:"networks from which its accounts may call; empty: anywhere"`
}

type describeUserResponse struct {
	Infos      []userInfo
	TotalCount int
}

func (s *Service) describeUser(ctx context.Context, c *action.Call, q *describeUserRequest) (*describeUserResponse, error) {
	db := s.DB.Reader()
	// Tenants by their main accounts: every tenant has exactly one, the platform's own its first administrator.
	var rows []account
	sel := db.NewSelect().Model(&rows).
		Where("id = (SELECT min(m.id) FROM account AS m WHERE m.company = account.company)")
	if c.Company != 0 {
		sel = sel.Where("company = ?", c.Company)
	}
	if len(q.CompanyIDs) > 0 {
		sel = sel.Where("company IN (?)", bun.In(q.CompanyIDs))
	}
	if len(q.UserIDs) > 0 {
		sel = sel.Where("id IN (?)", bun.In(q.UserIDs))
	}
	if q.Email != "" {
		sel = sel.Where("email = ?", strings.ToLower(q.Email))
	}
	sel = database.Matching(sel, q.Keyword, "email", "company", "(SELECT t.name FROM tenant AS t WHERE t.id = account.company)")
	if len(q.Statuses) > 0 {
		sel = sel.Where("company IN (SELECT id FROM tenant WHERE state IN (?))", bun.In(q.Statuses))
	}
	if c.Region != "" {
		sel = sel.Where(`(company NOT IN (SELECT company FROM tenant_region) OR company IN (SELECT company FROM tenant_region WHERE region = ? AND granted))`, c.Region)
	}
	total, err := sel.Order("company").Offset(int64(q.Offset)).Limit(int64(q.Limit)).ScanAndCount(ctx)
	if err != nil {
		return nil, err
	}
	r := &describeUserResponse{TotalCount: int(total)}
	if q.Limit == 0 {
		return r, nil
	}
	views, err := s.view(ctx, rows, secrets(c))
	if err != nil {
		return nil, err
	}
	companies := make([]int64, len(views))
	for i := range views {
		companies[i] = views[i].Company
	}
	money, err := s.balances(ctx, companies)
	if err != nil {
		return nil, err
	}
	var counts []struct {
		Company int64 `bun:"company"`
		N       int   `bun:"n"`
	}
	if err := db.NewSelect().TableExpr("account").ColumnExpr("company, count(*) AS n").Where("company IN (?)", bun.In(companies)).Group("company").Scan(ctx, &counts); err != nil {
		return nil, err
	}
	var grants []struct {
		Company int64  `bun:"company"`
		Region  string `bun:"region"`
	}
	if err := db.NewSelect().TableExpr("tenant_region").Column("company", "region").Where("company IN (?) AND granted", bun.In(companies)).Order("region").Scan(ctx, &grants); err != nil {
		return nil, err
	}
	for _, v := range views {
		b := money[v.Company]
		i := userInfo{CompanyID: v.Company, UserID: v.ID, Email: v.Email, ManagerEmail: v.Email, Name: v.tenant.Name, Audit: number(v.tenant.Approval),
			AutoAudit: number(v.tenant.AutoApprove), Status: v.tenant.State, MemberStatus: v.Status, CreateTime: v.tenant.CreatedAt / 1e6,
			UpdateTime: v.tenant.UpdatedAt / 1e6, Amount: b.Cash, AmountFree: b.Gift, AmountCredit: b.Credit, PublicKey: v.Key.PublicKey,
			PrivateKey: v.Key.PrivateKey, Language: v.Language, Whitelist: v.tenant.AllowList}
		for _, n := range counts {
			if n.Company == v.Company {
				i.MemberCount = n.N
			}
		}
		for _, g := range grants {
			if g.Company == v.Company {
				i.Regions = append(i.Regions, g.Region)
			}
		}
		r.Infos = append(r.Infos, i)
	}
	return r, nil
}

type companyRequest struct {
	CompanyID int64 `validate:"required" doc:"tenant"`
}

func (s *Service) turnUser(to string, already retcode.Code) func(context.Context, *action.Call, *companyRequest) (*action.Empty, error) {
	return func(ctx context.Context, c *action.Call, q *companyRequest) (*action.Empty, error) {
		c.Company = q.CompanyID
		return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error { return s.turnTenant(ctx, tx, q.CompanyID, to, already) })
	}
}

func (s *Service) deleteCompany(ctx context.Context, c *action.Call, q *companyRequest) (*action.Empty, error) {
	c.Company = q.CompanyID
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error { return s.deleteTenant(ctx, tx, q.CompanyID) })
}

type renameCompanyRequest struct {
	CompanyID int64   `validate:"required" doc:"tenant"`
	Name      string  `validate:"required" doc:"1 to 50 characters"`
	Remark    *string `validate:"max=100" doc:"free text"`
}

func (s *Service) renameCompany(ctx context.Context, c *action.Call, q *renameCompanyRequest) (*action.Empty, error) {
	name, err := personName(q.Name)
	if err != nil {
		return nil, err
	}
	if err := s.tenantOf(ctx, c, q.CompanyID); err != nil {
		return nil, err
	}
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		t, err := tenantByID(ctx, tx, q.CompanyID)
		if err != nil {
			return err
		}
		if t.State != InUse {
			return retcode.InvalidTenantState.Errorf("tenant %d is frozen", t.ID)
		}
		if q.Remark != nil {
			t.Remark = *q.Remark
		}
		return s.setTenant(ctx, tx, t.ID, "name = ?, remark = ?", name, t.Remark)
	})
}

type updateCompanyNameRequest struct {
	CompanyID int64  `validate:"required" doc:"tenant"`
	Name      string `validate:"required" doc:"1 to 50 characters"`
}

func (s *Service) updateCompanyName(ctx context.Context, c *action.Call, q *updateCompanyNameRequest) (*action.Empty, error) {
	return s.renameCompany(ctx, c, &renameCompanyRequest{CompanyID: q.CompanyID, Name: q.Name})
}

type updateCompanyEmailRequest struct {
	CompanyID  int64  `validate:"required" doc:"tenant"`
	Email      string `validate:"required" doc:"new login name of the main account"`
	VerifyCode string `validate:"max=16" doc:"mailed to it (SendVerificationCode, ChangeEmail), when the configuration asks for one"`
}

func (s *Service) updateCompanyEmail(ctx context.Context, c *action.Call, q *updateCompanyEmailRequest) (*action.Empty, error) {
	if err := s.tenantOf(ctx, c, q.CompanyID); err != nil {
		return nil, err
	}
	a, err := mainAccount(ctx, s.DB.Reader(), q.CompanyID)
	if err != nil {
		return nil, err
	}
	return s.changeEmail(ctx, c, a.ID, q.Email, q.VerifyCode, retcode.TenantEmailExists)
}

type updateCompanyRegionRequest struct {
	CompanyID int64    `validate:"required" doc:"tenant"`
	Regions   []string `validate:"required,min=1,max=100" doc:"all that it may use"`
}

func (s *Service) updateCompanyRegion(ctx context.Context, c *action.Call, q *updateCompanyRegionRequest) (*action.Empty, error) {
	c.Company = q.CompanyID
	if err := s.checkRegions(ctx, q.Regions); err != nil {
		return nil, err
	}
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tenantByID(ctx, tx, q.CompanyID); err != nil {
			return err
		}
		return s.grantRegions(ctx, tx, q.CompanyID, q.Regions)
	})
}

type describeCompanyRegionRequest struct{ action.Tenant }

type companyRegion struct {
	CompanyID   int64
	Region      string
	RegionAlias string
	CreateTime  int64 `doc:"unix seconds, of the grant; 0: the tenant has all regions"`
}

type describeCompanyRegionResponse struct {
	Infos      []companyRegion
	TotalCount int
}

func (s *Service) describeCompanyRegion(ctx context.Context, c *action.Call, _ *describeCompanyRegionRequest) (*describeCompanyRegionResponse, error) {
	if c.Company == 0 {
		return nil, retcode.MissingCompanyID.Errorf("CompanyID is required")
	}
	var rows []struct {
		Region    string `bun:"region"`
		Alias     string `bun:"alias"`
		CreatedAt int64  `bun:"created_at"`
	}
	if err := s.DB.Reader().NewRaw(`SELECT r.id AS region, r.alias, coalesce(t.created_at, 0) AS created_at FROM region AS r
		LEFT JOIN tenant_region AS t ON t.region = r.id AND t.company = ?0
		WHERE t.granted OR NOT EXISTS (SELECT 1 FROM tenant_region WHERE company = ?0) ORDER BY r.id`, c.Company).Scan(ctx, &rows); err != nil {
		return nil, err
	}
	r := &describeCompanyRegionResponse{TotalCount: len(rows)}
	for _, row := range rows {
		r.Infos = append(r.Infos, companyRegion{c.Company, row.Region, row.Alias, row.CreatedAt / 1e6})
	}
	return r, nil
}

type tenantResource struct {
	Region        string
	ResourceType  string
	Count         int `doc:"those in the recycle bin included"`
	RecycledCount int
}

type describeTenantResourcesResponse struct {
	Infos      []tenantResource
	TotalCount int
}

func (s *Service) describeTenantResources(ctx context.Context, c *action.Call, q *companyRequest) (*describeTenantResourcesResponse, error) {
	if err := s.tenantOf(ctx, c, q.CompanyID); err != nil {
		return nil, err
	}
	holdings, err := s.Directory.Holdings(ctx, s.DB.Reader(), q.CompanyID)
	if err != nil {
		return nil, err
	}
	r := &describeTenantResourcesResponse{TotalCount: len(holdings)}
	for _, h := range holdings {
		r.Infos = append(r.Infos, tenantResource{h.Region, h.Kind, h.Count, h.Recycled})
	}
	return r, nil
}

// registeredName is how tenants that register themselves are called: Chinese and Latin letters.
var registeredName = regexp.MustCompile(`^[\p{Han}A-Za-z]{5,50}$`)
