package identity

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) accountActions() []action.Action {
	spec := func(name, summary string, mutates bool) action.Spec {
		return action.Spec{Name: name, Module: "account", Summary: summary, Region: action.RegionNone, System: true, Mutates: mutates, Failure: retcode.InternalError}
	}
	own, reset := spec("UpdateMemberProfile", "Change the own name, phone and language.", true), spec("ChangeMemberPassword", "Reset the password of another account.", true)
	own.System, own.Personal, own.Extension, reset.Admin = false, true, true, true
	info := spec("GetMemberInfo", "Return the profile, balance, keys and grants of the calling account.", false)
	info.System, info.Personal = false, true
	return []action.Action{
		action.Define(info, s.getMemberInfo),
		action.Define(spec("DescribeMember", "List accounts of a tenant.", false), s.describeMember),
		action.Define(spec("CreateSubMember", "Create a sub-account in a tenant.", true), s.createSubMember),
		action.Define(spec("DeleteMember", "Delete a sub-account.", true), s.deleteMember),
		action.Define(spec("FreezeSubMember", "Freeze a sub-account; system administrators any account.", true), s.freezeSubMember),
		action.Define(spec("UnFreezeSubMember", "Unfreeze a sub-account; system administrators any account.", true), s.unfreezeSubMember),
		action.Define(reset, s.changeMemberPassword),
		action.Define(spec("UpdateMemberName", "Rename an account.", true), s.updateMemberName),
		action.Define(spec("UpdateMemberEmail", "Change the e-mail of an account.", true), s.updateMemberEmail),
		action.Define(spec("UpdateMemberPhone", "Change the phone of an account.", true), s.updateMemberPhone),
		action.Define(own, s.updateMemberProfile),
	}
}

// Privileges of accounts, as older clients know them.
const (
	privilegesAdmin   = "MEMBER_PRIVILEGES_ADMIN"
	privilegesDefault = "MEMBER_PRIVILEGES_DEFAULT"
)

func (a *account) privileges() string {
	if a.Kind == sub {
		return privilegesDefault
	}
	return privilegesAdmin
}

// userAccessInfo is the own account.
type userAccessInfo struct {
	MemberID           int64
	MemberName         string
	Email              string
	UserEmail          string
	UserName           string
	Phone              string
	CompanyID          int64
	CompanyStatus      string
	Status             string
	Privileges         string
	GrantLevels        []string `doc:"System or Region, of administrators"`
	OAuth2UniqueID     string
	PublicKey          string  `doc:"of the default key"`
	PrivateKey         string  `doc:"of the default key"`
	Amount             float64 `doc:"yuan, of the tenant"`
	AmountCredit       float64
	AmountFree         float64
	Audit              int   `doc:"1: changes of the tenant need approval"`
	CreateTime         int64 `doc:"unix seconds"`
	UpdateTime         int64 `doc:"unix seconds"`
	Language           string
	TOTPState          string `doc:"Unbound, Applied, Bound"`
	LastLoginTime      int64  `doc:"unix seconds"`
	LastLoginIP        string
	PasswordExpireTime int64 `doc:"unix seconds, 0 never"`
	GrantLevel         string
	ReadOnly           bool
	Regions            []string `doc:"that may be used; empty: all"`
}

type getMemberInfoResponse struct{ Info userAccessInfo }

func (s *Service) getMemberInfo(ctx context.Context, c *action.Call, _ *struct{}) (*getMemberInfoResponse, error) {
	a, err := accountByID(ctx, s.DB.Reader(), c.Caller.Account)
	if err != nil {
		return nil, err
	}
	views, err := s.view(ctx, []account{*a}, secrets(c))
	if err != nil {
		return nil, err
	}
	p := s.Policy(ctx)
	money, err := s.balances(ctx, []int64{a.Company})
	if err != nil {
		return nil, err
	}
	v, b := views[0], money[a.Company]
	i := userAccessInfo{MemberID: v.ID, MemberName: v.Name, Email: v.Email, UserEmail: v.Email, UserName: v.Name, Phone: v.Phone, CompanyID: v.Company,
		CompanyStatus: v.tenant.State, Status: v.Status, Privileges: v.privileges(), OAuth2UniqueID: v.OAuthID, PublicKey: v.Key.PublicKey,
		PrivateKey: v.Key.PrivateKey, Amount: b.Cash, AmountCredit: b.Credit, AmountFree: b.Gift, Audit: number(v.tenant.Approval),
		CreateTime: v.CreatedAt / 1e6, UpdateTime: v.UpdatedAt / 1e6, Language: v.Language, TOTPState: v.TOTP, LastLoginTime: v.LoginAt / 1e6,
		LastLoginIP: v.LoginIP, GrantLevel: wireLevel[v.Level], ReadOnly: c.Caller.ReadOnly, Regions: c.Caller.Regions}
	if p.PasswordLifetime > 0 {
		i.PasswordExpireTime = (v.PasswordAt + p.PasswordLifetime.Microseconds()) / 1e6
	}
	if i.GrantLevel != "" {
		i.GrantLevels = []string{i.GrantLevel}
	}
	return &getMemberInfoResponse{i}, nil
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Balance of a tenant, in yuan.
type Balance struct{ Cash, Gift, Credit float64 }

// OnBalance sets where balances come from; without, they are 0.
func (s *Service) OnBalance(f func(ctx context.Context, companies []int64) (map[int64]Balance, error)) {
	s.balance = f
}

func (s *Service) balances(ctx context.Context, companies []int64) (map[int64]Balance, error) {
	if s.balance == nil {
		return nil, nil
	}
	return s.balance(ctx, companies)
}

type describeMemberRequest struct {
	Email        string   `doc:"exact login name"`
	Keyword      string   `doc:"part of name, e-mail or id"`
	MemberIDs    []int64  `validate:"max=100" doc:"account ids"`
	MemberPubKey string   `doc:"a public key of the account"`
	RoleID       string   `doc:"a role that the account has"`
	ProjectID    string   `doc:"a project group in which the account has a role"`
	Statuses     []string `validate:"dive,oneof=AVAILABLE FREEZE LOCKED" doc:"states"`
	action.Tenant
	action.Page
}

type memberInfo struct {
	MemberID       int64
	MemberName     string
	Email          string
	Phone          string
	CompanyID      int64
	Status         string `doc:"AVAILABLE, FREEZE (also while the tenant is), LOCKED (not activated)"`
	Privileges     string
	OAuth2UniqueID string
	PublicKey      string  `doc:"of the default key"`
	PrivateKey     string  `doc:"of the default key, for the account itself, its main account and system administrators"`
	Amount         float64 `doc:"yuan, of the tenant"`
	AmountCredit   float64
	AmountFree     float64
	Audit          int
	CreateTime     int64  `doc:"unix seconds"`
	UpdateTime     int64  `doc:"unix seconds"`
	TOTPState      string `doc:"Unbound, Applied, Bound"`
	Language       string
	LastLoginTime  int64 `doc:"unix seconds"`
	Grants         []memberGrant
}

// memberGrant is a role of an account; the lists have one element each, none for the whole tenant.
type memberGrant struct {
	GrantID    string
	RoleIDs    []string
	ProjectIDs []string
}

type describeMemberResponse struct {
	Infos      []memberInfo
	TotalCount int
}

func (s *Service) describeMember(ctx context.Context, c *action.Call, q *describeMemberRequest) (*describeMemberResponse, error) {
	var rows []account
	f := filterAccounts{Company: c.Company, Kinds: []string{main, sub}, IDs: q.MemberIDs, Email: q.Email, Keyword: q.Keyword, Key: q.MemberPubKey, Statuses: q.Statuses}
	sel := f.apply(s.DB.Reader().NewSelect().Model(&rows))
	if q.RoleID != "" || q.ProjectID != "" {
		held := s.DB.Reader().NewSelect().Model((*roleGrant)(nil)).Column("account")
		for column, value := range map[string]string{"role_id": q.RoleID, "project": q.ProjectID} {
			if value != "" {
				held = held.Where("? = ?", bun.Ident(column), value)
			}
		}
		sel = sel.Where("id IN (?)", held)
	}
	total, err := sel.Order("id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).ScanAndCount(ctx)
	if err != nil {
		return nil, err
	}
	r := &describeMemberResponse{TotalCount: int(total)}
	if q.Limit == 0 {
		return r, nil
	}
	views, err := s.view(ctx, rows, secrets(c))
	if err != nil {
		return nil, err
	}
	var companies []int64
	for i := range views {
		companies = append(companies, views[i].Company)
	}
	money, err := s.balances(ctx, companies)
	if err != nil {
		return nil, err
	}
	grants, err := s.grantsOf(ctx, views)
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		b := money[v.Company]
		r.Infos = append(r.Infos, memberInfo{MemberID: v.ID, MemberName: v.Name, Email: v.Email, Phone: v.Phone, CompanyID: v.Company, Status: v.Status,
			Privileges: v.privileges(), OAuth2UniqueID: v.OAuthID, PublicKey: v.Key.PublicKey, PrivateKey: v.Key.PrivateKey, Amount: b.Cash,
			AmountCredit: b.Credit, AmountFree: b.Gift, Audit: number(v.tenant.Approval), CreateTime: v.CreatedAt / 1e6, UpdateTime: v.UpdatedAt / 1e6,
			TOTPState: v.TOTP, Language: v.Language, LastLoginTime: v.LoginAt / 1e6, Grants: grants[v.ID]})
	}
	return r, nil
}

// grantsOf reads the roles of accounts in one query.
func (s *Service) grantsOf(ctx context.Context, views []accountView) (map[int64][]memberGrant, error) {
	out := make(map[int64][]memberGrant)
	var ids []int64
	for _, v := range views {
		ids = append(ids, v.ID)
	}
	if len(ids) == 0 {
		return out, nil
	}
	var rows []roleGrant
	if err := s.DB.Reader().NewSelect().Model(&rows).Where("account IN (?)", bun.In(ids)).Order("created_at", "id").Scan(ctx); err != nil {
		return nil, err
	}
	for _, g := range rows {
		m := memberGrant{GrantID: g.ID, RoleIDs: []string{g.Role}, ProjectIDs: []string{}}
		if g.Project != "" {
			m.ProjectIDs = append(m.ProjectIDs, g.Project)
		}
		out[g.Account] = append(out[g.Account], m)
	}
	return out, nil
}

type createSubMemberRequest struct {
	MemberEmail    string   `validate:"required" doc:"login name"`
	MemberName     string   `validate:"required" doc:"1 to 50 characters"`
	Password       string   `validate:"required,max=1024" doc:"by the configured rule"`
	Phone          string   `doc:"telephone number"`
	OAuth2UniqueID string   `validate:"max=128" doc:"at a foreign provider"`
	ResetPassword  string   `loose:"true" doc:"1, Y, Yes, true: to be changed at the first login"`
	RoleIDs        []string `validate:"max=50" doc:"roles to grant"`
	ProjectIDs     []string `validate:"max=100" doc:"project groups of the grant; none: the whole tenant"`
	Language       string   `validate:"oneof=zh en" doc:"of mails"`
	action.Tenant
}

type memberResponse struct{ MemberID int64 }

func (s *Service) createSubMember(ctx context.Context, c *action.Call, q *createSubMemberRequest) (*memberResponse, error) {
	name, err := personName(q.MemberName)
	if err != nil {
		return nil, err
	}
	if err := phone(q.Phone); err != nil {
		return nil, err
	}
	company := c.Owner()
	if company == AdminCompany {
		return nil, retcode.MissingCompanyID.Errorf("name the tenant: administrators have no sub-accounts, see CreateAdmin")
	}
	email, err := s.usable(ctx, q.MemberEmail)
	if err != nil {
		return nil, err
	}
	hash, err := s.newHash(ctx, q.Password)
	if err != nil {
		return nil, err
	}
	a := account{Company: company, Name: name, Email: email, Kind: sub, State: InUse, Phone: q.Phone, Language: s.language(ctx, q.Language),
		OAuthID: q.OAuth2UniqueID, PasswordHash: hash, MustChange: affirmed(q.ResetPassword)}
	var id int64
	err = s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := countSubs(ctx, tx, company); err != nil {
			return err
		}
		row := a
		if err := s.createAccount(ctx, tx, &row); err != nil {
			return err
		}
		id = row.ID
		return s.grant(ctx, tx, company, row.ID, q.RoleIDs, q.ProjectIDs)
	})
	if err != nil {
		return nil, err
	}
	return &memberResponse{id}, nil
}

// language of an account's mails: what it names, else the platform's.
func (s *Service) language(ctx context.Context, named string) string {
	return cmp.Or(named, s.Policy(ctx).Language)
}

type memberRequest struct {
	MemberID int64 `validate:"required" doc:"account"`
}

// changing runs a change of one account that the call names.
func (s *Service) changing(ctx context.Context, c *action.Call, id int64, fn func(ctx context.Context, tx bun.Tx, a *account) error) (*action.Empty, error) {
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		a, err := member(ctx, tx, c, id)
		if err != nil {
			return err
		}
		if c.Caller.Admin {
			c.Company = a.Company // the tenant sees it in its log
		}
		return fn(ctx, tx, a)
	})
}

func (s *Service) deleteMember(ctx context.Context, c *action.Call, q *memberRequest) (*action.Empty, error) {
	return s.changing(ctx, c, q.MemberID, func(ctx context.Context, tx bun.Tx, a *account) error {
		switch {
		case a.ID == c.Caller.Account:
			return retcode.CannotDeleteSelf.Errorf("account %d", a.ID)
		case a.Kind == administrator:
			return retcode.AccountNotFound.Errorf("MemberID %d: see DeleteAdmin", a.ID)
		case a.Kind == main:
			return retcode.InvalidAccountState.Errorf("account %d is the main one: it goes with its tenant", a.ID)
		}
		return s.remove(ctx, tx, a)
	})
}

type freezeSubMemberRequest struct {
	MemberID int64  `validate:"required" doc:"account"`
	Remark   string `validate:"min=0,max=100" doc:"free text"`
}

func (s *Service) freezeSubMember(ctx context.Context, c *action.Call, q *freezeSubMemberRequest) (*action.Empty, error) {
	return s.changing(ctx, c, q.MemberID, func(ctx context.Context, tx bun.Tx, a *account) error { return s.freeze(ctx, tx, c, a) })
}

func (s *Service) unfreezeSubMember(ctx context.Context, c *action.Call, q *freezeSubMemberRequest) (*action.Empty, error) {
	return s.changing(ctx, c, q.MemberID, func(ctx context.Context, tx bun.Tx, a *account) error { return s.unfreeze(ctx, tx, a) })
}

type changeMemberPasswordRequest struct {
	SpecMemberID  int64  `validate:"required" doc:"account"`
	Password      string `validate:"required,max=1024" doc:"by the configured rule"`
	ResetPassword bool   `default:"false" doc:"to be changed at the next login"`
}

func (s *Service) changeMemberPassword(ctx context.Context, c *action.Call, q *changeMemberPasswordRequest) (*action.Empty, error) {
	if err := secure(c); err != nil {
		return nil, err
	}
	hash, err := s.newHash(ctx, q.Password)
	if err != nil {
		return nil, err
	}
	return s.changing(ctx, c, q.SpecMemberID, func(ctx context.Context, tx bun.Tx, a *account) error {
		if err := a.settled(); err != nil {
			return err
		}
		return s.setPassword(ctx, tx, a.ID, hash, q.ResetPassword, c.Caller.Session)
	})
}

type updateMemberNameRequest struct {
	MemberID int64  `validate:"required" doc:"account"`
	Name     string `validate:"required" doc:"1 to 50 characters"`
}

func (s *Service) updateMemberName(ctx context.Context, c *action.Call, q *updateMemberNameRequest) (*action.Empty, error) {
	name, err := personName(q.Name)
	if err != nil {
		return nil, err
	}
	return s.changing(ctx, c, q.MemberID, func(ctx context.Context, tx bun.Tx, a *account) error {
		if err := a.settled(); err != nil {
			return err
		}
		return s.set(ctx, tx, a, "name = ?", name)
	})
}

type updateMemberEmailRequest struct {
	MemberID   int64  `validate:"required" doc:"account"`
	UserEmail  string `validate:"required" doc:"new login name"`
	VerifyCode string `validate:"max=16" doc:"mailed to it (SendVerificationCode, ChangeEmail), when the configuration asks for one"`
	CompanyID  int64  `doc:"tenant to act on; honoured for administrators only"`
}

func (s *Service) updateMemberEmail(ctx context.Context, c *action.Call, q *updateMemberEmailRequest) (*action.Empty, error) {
	if q.CompanyID != 0 {
		if err := s.tenantOf(ctx, c, q.CompanyID); err != nil {
			return nil, err
		}
	}
	return s.changeEmail(ctx, c, q.MemberID, q.UserEmail, q.VerifyCode, retcode.AccountEmailExists)
}

// changeEmail gives an account another login name; its sessions end, since whoever had them knew the old one.
func (s *Service) changeEmail(ctx context.Context, c *action.Call, id int64, email, code string, taken retcode.Code) (*action.Empty, error) {
	email, err := s.usable(ctx, email)
	if err != nil {
		return nil, err
	}
	p := s.Policy(ctx)
	proven := code != "" || p.MailedCodes && !c.Caller.Admin
	if proven {
		if err := s.tryCode(ctx, purposeChangeEmail, email); err != nil {
			return nil, err
		}
	}
	return s.changing(ctx, c, id, func(ctx context.Context, tx bun.Tx, a *account) error {
		if err := a.settled(); err != nil {
			return err
		}
		if email == a.Email {
			return nil
		}
		if proven {
			if err := s.useCode(ctx, tx, purposeChangeEmail, email, code); err != nil {
				return err
			}
		}
		if err := free(ctx, tx, email, taken); err != nil {
			return err
		}
		if err := s.set(ctx, tx, a, "email = ?", email); err != nil {
			return err
		}
		_, err := tx.NewRaw(`DELETE FROM session WHERE account = ? AND id <> ?`, a.ID, c.Caller.Session).Exec(ctx)
		return err
	})
}

type updateMemberPhoneRequest struct {
	MemberID int64  `validate:"required" doc:"account"`
	PhoneNum string `validate:"required" doc:"telephone number"`
}

func (s *Service) updateMemberPhone(ctx context.Context, c *action.Call, q *updateMemberPhoneRequest) (*action.Empty, error) {
	if err := phone(q.PhoneNum); err != nil {
		return nil, err
	}
	return s.changing(ctx, c, q.MemberID, func(ctx context.Context, tx bun.Tx, a *account) error {
		return s.set(ctx, tx, a, "phone = ?", q.PhoneNum)
	})
}

type updateMemberProfileRequest struct {
	Name     *string `validate:"min=1,max=50" doc:"for people"`
	Phone    *string `doc:"telephone number"`
	Language *string `validate:"oneof=zh en" doc:"of mails"`
}

func (s *Service) updateMemberProfile(ctx context.Context, c *action.Call, q *updateMemberProfileRequest) (*action.Empty, error) {
	var sets []string
	var args []any
	if q.Name != nil {
		name, err := personName(*q.Name)
		if err != nil {
			return nil, err
		}
		sets, args = append(sets, "name = ?"), append(args, name)
	}
	if q.Phone != nil {
		if err := phone(*q.Phone); err != nil {
			return nil, err
		}
		sets, args = append(sets, "phone = ?"), append(args, *q.Phone)
	}
	if q.Language != nil {
		sets, args = append(sets, "language = ?"), append(args, *q.Language)
	}
	if len(sets) == 0 {
		return nil, retcode.MissingParameter.Errorf("nothing to change: name Name, Phone or Language")
	}
	return s.changing(ctx, c, c.Caller.Account, func(ctx context.Context, tx bun.Tx, a *account) error {
		return s.set(ctx, tx, a, strings.Join(slices.Clip(sets), ", "), args...)
	})
}
