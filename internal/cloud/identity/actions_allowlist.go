package identity

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) allowListActions() []action.Action {
	tenants := action.Spec{Name: "DescribeLoginWhitelist", Module: "tenant", Summary: "Return the addresses from which a tenant's accounts may be used.",
		Region: action.RegionNone, System: true, Failure: retcode.InternalError}
	setTenants := tenants
	setTenants.Name, setTenants.Summary, setTenants.Mutates = "UpdateLoginWhitelist", "Set the addresses from which a tenant's accounts may be used.", true
	admins := action.Spec{Name: "DescribeAdminWhitelist", Module: "account", Summary: "Return the login allow-list of an administrator.",
		Region: action.RegionNone, Admin: true, Personal: true, Extension: true, Failure: retcode.InternalError}
	setAdmins := admins
	setAdmins.Name, setAdmins.Summary, setAdmins.Mutates = "UpdateAdminWhitelist", "Replace the login allow-list of an administrator.", true
	return []action.Action{
		action.Define(tenants, s.describeLoginWhitelist), action.Define(setTenants, s.updateLoginWhitelist),
		action.Define(admins, s.describeAdminWhitelist), action.Define(setAdmins, s.updateAdminWhitelist),
	}
}

// allowList checks a new list: 113 when it cannot be read, 112 when it would lock out the caller whom it is for and
// force does not say that this is meant.
func allowList(c *action.Call, text string, own, force bool) (string, error) {
	networks, err := parseAllowList(text)
	if err != nil {
		return "", retcode.InvalidParameter.Errorf("Whitelist: %s", err)
	}
	if own && !force && networks != nil && !slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(c.ClientIP) }) {
		return "", retcode.IPNotInWhitelist.Errorf("the list would lock you out, who call from %s; Force accepts it all the same", c.ClientIP)
	}
	words := make([]string, len(networks))
	for i, p := range networks {
		if words[i] = p.String(); p.IsSingleIP() {
			words[i] = p.Addr().String()
		}
	}
	return strings.Join(words, ","), nil
}

type describeLoginWhitelistRequest struct{ action.Tenant }

type loginWhitelist struct {
	WhitelistID string
	CompanyID   int64
	Whitelist   string `doc:"addresses and networks, comma separated; empty: anywhere"`
	CreateTime  int64  `doc:"unix seconds"`
	UpdateTime  int64  `doc:"unix seconds"`
}

type describeLoginWhitelistResponse struct{ Infos []loginWhitelist }

func (s *Service) describeLoginWhitelist(ctx context.Context, c *action.Call, _ *describeLoginWhitelistRequest) (*describeLoginWhitelistResponse, error) {
	t, err := tenantByID(ctx, s.DB.Reader(), c.Owner())
	if err != nil {
		return nil, err
	}
	return &describeLoginWhitelistResponse{[]loginWhitelist{{WhitelistID: "whitelist-" + strconv.FormatInt(t.ID, 10), CompanyID: t.ID, Whitelist: t.AllowList,
		CreateTime: t.CreatedAt / 1e6, UpdateTime: t.AllowListAt / 1e6}}}, nil
}

type updateLoginWhitelistRequest struct {
	CompanyID int64  `validate:"required" doc:"tenant"`
	Whitelist string `validate:"max=4000" doc:"addresses and networks in CIDR form, comma separated; empty: anywhere"`
	Force     bool   `default:"false" doc:"accept a list without the own address"`
}

func (s *Service) updateLoginWhitelist(ctx context.Context, c *action.Call, q *updateLoginWhitelistRequest) (*action.Empty, error) {
	if err := s.tenantOf(ctx, c, q.CompanyID); err != nil {
		return nil, err
	}
	if q.CompanyID == AdminCompany {
		return nil, retcode.InvalidTenantState.Errorf("administrators have lists of their own: see UpdateAdminWhitelist")
	}
	list, err := allowList(c, q.Whitelist, !c.Caller.Admin, q.Force)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		return s.setTenant(ctx, tx, q.CompanyID, "allow_list = ?, allow_list_at = ?", list, s.Clock.Micros())
	})
}

type adminWhitelistRequest struct {
	MemberID int64 `doc:"administrator; oneself by default"`
}

type adminWhitelist struct {
	MemberID  int64
	Whitelist string `doc:"addresses and networks, comma separated; empty: anywhere"`
}

type describeAdminWhitelistResponse struct {
	Infos      []adminWhitelist
	TotalCount int
}

// whichAdmin is the administrator that a call about allow-lists is about; others' are for those of the platform.
func whichAdmin(c *action.Call, id int64) (int64, error) {
	if id == 0 || id == c.Caller.Account {
		return c.Caller.Account, nil
	}
	return id, system(c)
}

func (s *Service) describeAdminWhitelist(ctx context.Context, c *action.Call, q *adminWhitelistRequest) (*describeAdminWhitelistResponse, error) {
	id, err := whichAdmin(c, q.MemberID)
	if err != nil {
		return nil, err
	}
	a, err := accountByID(ctx, s.DB.Reader(), id)
	if err != nil {
		return nil, err
	}
	if a.Kind != administrator {
		return nil, retcode.AccountNotFound.Errorf("MemberID %d is no administrator", id)
	}
	return &describeAdminWhitelistResponse{[]adminWhitelist{{a.ID, a.AllowList}}, 1}, nil
}

type updateAdminWhitelistRequest struct {
	MemberID  int64  `doc:"administrator; oneself by default"`
	Whitelist string `validate:"max=4000" doc:"addresses and networks in CIDR form, comma separated; empty: anywhere"`
	Force     bool   `default:"false" doc:"accept a list without the own address"`
}

func (s *Service) updateAdminWhitelist(ctx context.Context, c *action.Call, q *updateAdminWhitelistRequest) (*action.Empty, error) {
	id, err := whichAdmin(c, q.MemberID)
	if err != nil {
		return nil, err
	}
	list, err := allowList(c, q.Whitelist, id == c.Caller.Account, q.Force)
	if err != nil {
		return nil, err
	}
	return s.changingAdmin(ctx, c, id, false, func(ctx context.Context, tx bun.Tx, a *account) error {
		return s.set(ctx, tx, a, "allow_list = ?", list)
	})
}
