package identity

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/mail"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// subAccounts that a tenant may have.
const subAccounts = 500

// system refuses whom actions that the wire lets anybody call are not for: tenants (111), administrators of regions and
// read-only ones (114).
func system(c *action.Call) error {
	switch caller := &c.Caller; {
	case !caller.Admin:
		return retcode.AdminOnly.Errorf("%s for others is for platform administrators", c.Action)
	case caller.OfRegions() || caller.ReadOnly:
		return retcode.ActionForbidden.Errorf("%s for others is for administrators of the whole platform", c.Action)
	}
	return nil
}

// accountByID reads an account; 20004 when there is none.
func accountByID(ctx context.Context, idb bun.IDB, id int64) (*account, error) {
	a := new(account)
	err := idb.NewSelect().Model(a).Where("id = ?", id).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.AccountNotFound.Errorf("MemberID %d", id)
	}
	return a, err
}

// member finds the account that a call is to change: of the caller's tenant, or for an administrator of any. A
// sub-account, whatever its roles, changes no main account (114): it would be its master. 20004.
func member(ctx context.Context, tx bun.Tx, c *action.Call, id int64) (*account, error) {
	a, err := accountByID(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	switch caller := &c.Caller; {
	case a.ID == caller.Account:
	case caller.Admin && (c.Company == 0 || c.Company == a.Company):
	case caller.Admin, a.Company != caller.Company:
		return nil, retcode.AccountNotFound.Errorf("MemberID %d", id)
	case caller.Sub && a.Kind != sub:
		return nil, retcode.ActionForbidden.Errorf("%d is the main account", id)
	}
	return a, nil
}

// settled refuses accounts that were never activated (20003).
func (a *account) settled() error {
	if a.State == locked {
		return retcode.InvalidAccountState.Errorf("account %d is not activated", a.ID)
	}
	return nil
}

// set changes columns of an account.
func (s *Service) set(ctx context.Context, tx bun.Tx, a *account, columns string, args ...any) error {
	_, err := tx.NewUpdate().Model((*account)(nil)).Set(columns, args...).Set("updated_at = ?, generation = generation + 1", s.Clock.Micros()).
		Where("id = ?", a.ID).Exec(ctx)
	return err
}

// freeze freezes an account alone; 20001 when it is, 20012 oneself.
func (s *Service) freeze(ctx context.Context, tx bun.Tx, c *action.Call, a *account) error {
	switch {
	case a.ID == c.Caller.Account:
		return retcode.CannotDeleteSelf.Errorf("nor freeze it")
	case a.State == Frozen:
		return retcode.AccountFrozen.Errorf("account %d", a.ID)
	}
	if err := a.settled(); err != nil {
		return err
	}
	if err := s.set(ctx, tx, a, "state = ?", Frozen); err != nil {
		return err
	}
	return forget(ctx, tx, a.ID)
}

// unfreeze ends an account's own freeze, and what was counted against its password; 20000 when it is not frozen, 27004
// while its tenant is.
func (s *Service) unfreeze(ctx context.Context, tx bun.Tx, a *account) error {
	t := new(tenant)
	if err := tx.NewSelect().Model(t).Where("id = ?", a.Company).Scan(ctx); err != nil {
		return err
	}
	switch {
	case t.State == Frozen && a.Kind == sub:
		return retcode.TenantFrozen.Errorf("unfreeze tenant %d first", t.ID)
	case a.State != Frozen:
		return retcode.AccountAlreadyEnabled.Errorf("account %d", a.ID)
	}
	if _, err := tx.NewRaw(`DELETE FROM login_failure WHERE name = ?`, digest(a.Email)).Exec(ctx); err != nil {
		return err
	}
	s.guard.pardon("password/" + digest(a.Email))
	return s.set(ctx, tx, a, "state = ?", InUse)
}

// forget ends an account's sessions and waiting logins.
func forget(ctx context.Context, tx bun.Tx, id int64) error {
	for _, q := range []string{`DELETE FROM session WHERE account = ?`, `DELETE FROM pending_login WHERE account = ?`} {
		if _, err := tx.NewRaw(q, id).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes an account with all that is its own. Its e-mail may be used again, its id is not.
func (s *Service) remove(ctx context.Context, tx bun.Tx, a *account) error {
	if err := forget(ctx, tx, a.ID); err != nil {
		return err
	}
	if err := revokeAll(ctx, tx, a.ID); err != nil {
		return err
	}
	for _, q := range []string{`DELETE FROM key_pair WHERE account = ?`, `DELETE FROM totp WHERE account = ?`,
		`DELETE FROM account_region WHERE account = ?`, `DELETE FROM account WHERE id = ?`} {
		if _, err := tx.NewRaw(q, a.ID).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// create writes an account with its default key. 20005.
func (s *Service) createAccount(ctx context.Context, tx bun.Tx, a *account) error {
	if err := free(ctx, tx, a.Email, retcode.AccountEmailExists); err != nil {
		return err
	}
	if err := s.addAccount(ctx, tx, a); err != nil {
		return err
	}
	k := newPair(a.ID)
	k.IsDefault = true
	return s.addKey(ctx, tx, k)
}

// countSubs refuses another sub-account when the tenant has as many as it may (208).
func countSubs(ctx context.Context, tx bun.Tx, company int64) error {
	n, err := tx.NewSelect().Model((*account)(nil)).Where("company = ? AND kind = ?", company, sub).Count(ctx)
	if err != nil {
		return err
	}
	if n >= subAccounts {
		return retcode.BindLimitReached.Errorf("a tenant has at most %d sub-accounts", subAccounts)
	}
	return nil
}

// personName trims a name of an account or tenant and refuses what is not 1 to 50 printable characters (113).
func personName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if n := utf8.RuneCountInString(name); n < 1 || n > 50 || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", retcode.InvalidParameter.Errorf("a name has 1 to 50 printable characters")
	}
	return name, nil
}

// phone refuses what is no telephone number (113). Empty is none.
func phone(number string) error {
	if len(number) > 20 || strings.ContainsFunc(number, func(r rune) bool { return !strings.ContainsRune("+- ()0123456789", r) }) {
		return retcode.InvalidParameter.Errorf("a phone number has at most 20 of + - ( ), spaces and digits")
	}
	return nil
}

// affirmed reads the flags that older clients spell in many ways.
func affirmed(text string) bool {
	return slices.Contains([]string{"1", "y", "yes", "true"}, strings.ToLower(text))
}

// usable checks an address and asks the mail server, when there is one, whether it takes mail for it. 27006.
func (s *Service) usable(ctx context.Context, email string) (string, error) {
	email, err := address(email)
	if err != nil {
		return "", err
	}
	if s.Mail == nil {
		return email, nil
	}
	if err := s.Mail.Check(ctx, email); errors.Is(err, mail.ErrRefused) {
		return "", retcode.InvalidEmail.Errorf("the mail server does not take mail for %s", email)
	} // A server that does not answer now says nothing about the address.
	return email, nil
}

// filterAccounts of lists.
type filterAccounts struct {
	Company  int64 // 0: all tenants
	Kinds    []string
	IDs      []int64
	Email    string
	Keyword  string // part of name, e-mail or id
	Key      string // a public key
	Statuses []string
}

func (f filterAccounts) apply(q *bun.SelectQuery) *bun.SelectQuery {
	q = q.Where("kind IN (?)", bun.In(f.Kinds))
	if f.Company != 0 {
		q = q.Where("company = ?", f.Company)
	}
	if len(f.IDs) > 0 {
		q = q.Where("id IN (?)", bun.In(f.IDs))
	}
	if f.Email != "" {
		q = q.Where("email = ?", strings.ToLower(f.Email))
	}
	q = database.Matching(q, f.Keyword, "name", "email", "id")
	if f.Key != "" {
		q = q.Where("id IN (SELECT account FROM key_pair WHERE public_key = ?)", f.Key)
	}
	if len(f.Statuses) > 0 {
		const frozen = "(state = 'FREEZE' OR company IN (SELECT id FROM tenant WHERE state = 'FREEZE'))"
		q = q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
			for _, status := range f.Statuses {
				switch status {
				case Frozen:
					q = q.WhereOr(frozen)
				case InUse:
					q = q.WhereOr("state <> 'LOCKED' AND NOT " + frozen)
				case locked:
					q = q.WhereOr("state = 'LOCKED'")
				}
			}
			return q
		})
	}
	return q
}

// accountView is an account with what lists show beside its row.
type accountView struct {
	account
	Status string // with the tenant's
	Key    *keyPair
	TOTP   string
	tenant *tenant
}

// view reads what lists show of accounts, in three queries however many there are. secrets are the accounts whose private
// keys the caller may see.
func (s *Service) view(ctx context.Context, rows []account, secrets func(*account) bool) ([]accountView, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	db := s.DB.Reader()
	ids, companies := make([]int64, len(rows)), make([]int64, len(rows))
	for i := range rows {
		ids[i], companies[i] = rows[i].ID, rows[i].Company
	}
	var keys []keyPair
	if err := db.NewSelect().Model(&keys).Where("account IN (?) AND is_default", bun.In(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	var bindings []totpRow
	if err := db.NewSelect().Model(&bindings).Where("account IN (?)", bun.In(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	var tenants []tenant
	if err := db.NewSelect().Model(&tenants).Where("id IN (?)", bun.In(companies)).Scan(ctx); err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	views := make([]accountView, len(rows))
	for i := range rows {
		v := &views[i]
		v.account, v.Status, v.TOTP = rows[i], rows[i].State, totpUnbound
		for j := range tenants {
			if tenants[j].ID == v.Company {
				v.tenant = &tenants[j]
			}
		}
		if v.tenant != nil && v.tenant.State == Frozen && v.Status == InUse {
			v.Status = Frozen
		}
		for j := range bindings {
			if t := &bindings[j]; t.Account == v.ID && (t.Bound || now < t.ExpiresAt) {
				v.TOTP = t.state()
			}
		}
		for j := range keys {
			if k := &keys[j]; k.Account == v.ID {
				v.Key = k
				if !secrets(&v.account) {
					k.PrivateKey = ""
				} else if private, err := s.Secret.Open(k.PrivateKey, keyContext(k.PublicKey)); err != nil {
					return nil, err
				} else {
					k.PrivateKey = string(private)
				}
			}
		}
		if v.Key == nil {
			v.Key = &keyPair{}
		}
	}
	return views, nil
}

// secrets tells whose private keys a caller may see: its own, those of its tenant for a main account, and all tenants' for
// an administrator of the platform.
func secrets(c *action.Call) func(*account) bool {
	return func(a *account) bool {
		caller := &c.Caller
		return a.ID == caller.Account || a.Kind != administrator && (caller.Admin && !caller.ReadOnly && !caller.OfRegions() ||
			!caller.Admin && !caller.Sub && a.Company == caller.Company)
	}
}
