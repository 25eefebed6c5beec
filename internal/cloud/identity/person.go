package identity

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Person is what others may know of an account.
type Person struct {
	Account, Company         int64
	Email, Name, Phone, Kind string
	// MayLogin: neither the account nor its tenant is frozen, and it is activated.
	MayLogin bool
}

// Person reads an account: 20004 when there is none.
func (s *Service) Person(ctx context.Context, id int64) (*Person, error) {
	return s.person(ctx, "id = ?", id)
}

// PersonByEmail finds the account of an address: 20004 when there is none.
func (s *Service) PersonByEmail(ctx context.Context, email string) (*Person, error) {
	return s.person(ctx, "email = ?", strings.ToLower(email))
}

// PersonByOAuthID finds the account tied to an identity at a foreign provider: 20004 when there is none.
func (s *Service) PersonByOAuthID(ctx context.Context, id string) (*Person, error) {
	return s.person(ctx, "oauth_id = ? AND oauth_id <> ''", id)
}

func (s *Service) person(ctx context.Context, where string, args ...any) (*Person, error) {
	db, a := s.DB.Reader(), new(account)
	if err := db.NewSelect().Model(a).Where(where, args...).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.AccountNotFound.Errorf("there is no such account")
	} else if err != nil {
		return nil, err
	}
	who, err := s.callerOf(ctx, db, a)
	if err != nil {
		return nil, err
	}
	return &Person{Account: a.ID, Company: a.Company, Email: a.Email, Name: a.Name, Phone: a.Phone, Kind: a.Kind,
		MayLogin: !who.Locked && !who.Frozen && !who.TenantFrozen}, nil
}

// TieOAuthID ties an account to its identity at a foreign provider: the own account, one of the caller's tenant, or for a
// system administrator any. 20004; 113 when another account has it.
func (s *Service) TieOAuthID(ctx context.Context, c *action.Call, member int64, id string) error {
	return s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		a, err := s.keyHolder(ctx, tx, c, member)
		if err != nil {
			return err
		}
		taken, err := tx.NewSelect().Model((*account)(nil)).Where("oauth_id = ? AND id <> ?", id, a.ID).Exists(ctx)
		if err != nil {
			return err
		}
		if taken {
			return retcode.InvalidParameter.Errorf("OAuth2UniqueID belongs to another account")
		}
		_, err = tx.NewUpdate().Model((*account)(nil)).Set("oauth_id = ?, updated_at = ?", id, s.Clock.Micros()).Where("id = ?", a.ID).Exec(ctx)
		return err
	})
}

// Prove checks who somebody is as a login does, with all factors, and opens no session. code is that of the second
// factor when the account has one. 199, 20001, 20002, 20006, 20007, 20010, 27004, 112, 549, 554, 557.
func (s *Service) Prove(ctx context.Context, c *action.Call, email, password, code string) (int64, error) {
	if err := secure(c); err != nil {
		return 0, err
	}
	a, err := s.byPassword(ctx, c, email, password, "")
	if err != nil {
		return 0, err
	}
	if err := s.mayEnter(ctx, c, a); err != nil {
		return 0, err
	}
	if _, err := s.passwordServes(ctx, a, password); err != nil {
		return 0, err
	}
	factors, err := s.factors(ctx, a)
	if err != nil || len(factors) == 0 {
		return a.ID, err
	}
	t, err := s.guard.attempt(c.ClientIP, factors[0]+"/"+a.Email, "")
	if err != nil {
		return 0, err
	}
	if factors[0] == factorEmail {
		if err := s.tryCode(ctx, purposeLogin, a.Email); err != nil {
			return 0, err
		}
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if factors[0] == factorTOTP {
			return s.useTOTP(ctx, tx, a.ID, code)
		}
		return s.useCode(ctx, tx, purposeLogin, a.Email, code)
	})
	if err == nil {
		t.right()
	} else if retcode.Of(err) == retcode.AuthCodeVerifyFailed {
		t.failed()
	}
	return a.ID, err
}

// Grants are what a login may be for: an application's request (OAuth).
type Grants interface {
	// Ask checks a request and keeps it in a text, until the login is finished: 600, 20008.
	Ask(ctx context.Context, clientID, responseType, redirectURI, state string) (grant string, err error)
	// Answer gives the code of a request to an account that has logged in.
	Answer(ctx context.Context, grant string, account int64) (code, state string, err error)
}

// Grant sets who answers applications' requests. Call it before the first request.
func (s *Service) Grant(g Grants) { s.grants = g }

// ask is Grants.Ask for a login; "" when it is for none.
func (s *Service) ask(ctx context.Context, clientID, responseType, redirectURI, state string) (string, error) {
	if clientID == "" {
		return "", nil
	}
	if s.grants == nil {
		return "", retcode.OAuthClientNotFound.Errorf("ClientID %s", clientID)
	}
	return s.grants.Ask(ctx, clientID, responseType, redirectURI, state)
}

// answer is Grants.Answer for a login that has come to a session.
func (s *Service) answer(ctx context.Context, l *Login) (code, state string, err error) {
	if l.Grant == "" || l.Token == "" {
		return "", "", nil
	}
	return s.grants.Answer(ctx, l.Grant, l.Account)
}
