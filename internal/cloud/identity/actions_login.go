package identity

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) loginActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "LoginByPassword", Module: "account", Summary: "Log an account in with e-mail and password and open a session.",
			Region: action.RegionNone, Anonymous: true, Mutates: true, Failure: retcode.SystemError}, s.loginByPassword),
		action.Define(action.Spec{Name: "VerifyFactor", Module: "account", Summary: "Finish a login that waits for a second factor.",
			Region: action.RegionNone, Anonymous: true, Mutates: true, Extension: true, Failure: retcode.SystemError}, s.verifyFactor),
		action.Define(action.Spec{Name: "GetLoginChallenge", Module: "account", Summary: "Return a puzzle whose solution lets a login through after too many wrong ones.",
			Region: action.RegionNone, Anonymous: true, Extension: true, Failure: retcode.SystemError}, s.getLoginChallenge),
		action.Define(action.Spec{Name: "LogoutToken", Module: "account", Summary: "End the session of the caller.",
			Region: action.RegionNone, Mutates: true, Personal: true, Failure: retcode.InternalError}, s.logoutToken),
		action.Define(action.Spec{Name: "ChangePassword", Module: "account", Summary: "Change the own password; with Email also without a session.",
			Region: action.RegionNone, Anonymous: true, Optional: true, Personal: true, Mutates: true, Extension: true, Failure: retcode.InternalError}, s.changePassword),
	}
}

// secure refuses secrets that came in the clear.
func secure(c *action.Call) error {
	if !c.Secure {
		return retcode.InvalidParameter.Errorf("passwords are taken over HTTPS only")
	}
	return nil
}

type loginRequest struct {
	Email        string `validate:"required,max=254" doc:"login name"`
	Password     string `validate:"required,max=1024" doc:"base64, with the header X-Auth-Method: plain"`
	UserEmail    string `validate:"max=254" doc:"login name, instead of Email"`
	TOTPCode     string `validate:"max=16" doc:"second factor: six digits"`
	VerifyCode   string `validate:"max=16" doc:"second factor: mailed code"`
	Proof        string `validate:"max=256" doc:"solved challenge of GetLoginChallenge, when too many attempts failed"`
	ClientID     string `doc:"OAuth client, to get a code for"`
	ResponseType string `doc:"code, with ClientID"`
	RedirectURI  string `doc:"with ClientID"`
	State        string `doc:"with ClientID"`
}

type loginResponse struct {
	CompanyID          int64
	MemberID           int64
	Email              string
	SSOToken           string   `doc:"of the session; empty: a second factor is wanted"`
	ExpireTime         int64    `doc:"unix seconds; that of a session moves on with its use"`
	MustChangePassword bool     `doc:"the password breaks today's rule, or has expired"`
	PendingNonce       string   `doc:"for VerifyFactor"`
	FactorTypes        []string `doc:"TOTP, Email: one of them is wanted"`
	Phone              string   `doc:"always empty: no factor uses it"`
	Code               string   `doc:"OAuth authorization code"`
	State              string
}

func (s *Service) loginByPassword(ctx context.Context, c *action.Call, q *loginRequest) (*loginResponse, error) {
	if err := secure(c); err != nil {
		return nil, err
	}
	if !strings.EqualFold(c.AuthMethod, "plain") {
		return nil, retcode.InvalidParameterFormat.Errorf("send Password in base64 and the header X-Auth-Method: plain")
	}
	password, err := base64.StdEncoding.DecodeString(q.Password)
	if err != nil {
		return nil, retcode.InvalidParameterFormat.Errorf("Password must be base64")
	}
	grant, err := s.ask(ctx, q.ClientID, q.ResponseType, q.RedirectURI, q.State)
	if err != nil {
		return nil, err
	}
	email := q.Email
	if q.UserEmail != "" {
		email = q.UserEmail
	}
	a, err := s.byPassword(ctx, c, email, string(password), q.Proof)
	if err != nil {
		return nil, err
	}
	if err := s.mayEnter(ctx, c, a); err != nil {
		return nil, err
	}
	hint, err := s.passwordServes(ctx, a, string(password))
	if err != nil {
		return nil, err
	}
	var l *Login
	switch {
	case q.TOTPCode != "":
		l, err = s.enterByFactor(ctx, c, a, grant, factorTOTP, q.TOTPCode, nil)
	case q.VerifyCode != "":
		l, err = s.enterByFactor(ctx, c, a, grant, factorEmail, q.VerifyCode, nil)
	default:
		l, err = s.Enter(ctx, c, a.ID, grant)
	}
	if err != nil {
		return nil, err
	}
	r := l.response(c)
	r.MustChangePassword = hint
	r.Code, r.State, err = s.answer(ctx, l)
	return r, err
}

// response of a login; a session goes to the browser as a cookie, too.
func (l *Login) response(c *action.Call) *loginResponse {
	if l.Token != "" {
		c.SessionCookie = &l.Token
	}
	return &loginResponse{CompanyID: l.Company, MemberID: l.Account, Email: l.Email, SSOToken: l.Token, ExpireTime: l.Expires,
		PendingNonce: l.Nonce, FactorTypes: l.Factors}
}

// passwordServes refuses a right password that must be changed first (20007, 20010); hint: it should be.
func (s *Service) passwordServes(ctx context.Context, a *account, password string) (hint bool, err error) {
	p := s.Policy(ctx)
	expired := p.PasswordLifetime > 0 && s.Clock.Micros() >= a.PasswordAt+p.PasswordLifetime.Microseconds()
	weak := p.check(password) != nil
	switch {
	case a.MustChange:
		return false, retcode.PasswordInitRequired.Errorf("call ChangePassword")
	case expired && p.ForceExpired:
		return false, retcode.PasswordExpired.Errorf("call ChangePassword")
	case weak && p.ForceWeak:
		return false, retcode.PasswordInitRequired.Errorf("the password breaks the rule: call ChangePassword")
	}
	return expired || weak, nil
}

// enterByFactor checks a second factor and opens the session in one transaction: no code opens two. 549, 552, 554, 557.
func (s *Service) enterByFactor(ctx context.Context, c *action.Call, a *account, grant, factor, code string, also func(context.Context, bun.Tx) error) (*Login, error) {
	t, err := s.guard.attempt(c.ClientIP, factor+"/"+a.Email, "")
	if err != nil {
		return nil, err
	}
	if factor == factorEmail {
		if err := s.tryCode(ctx, purposeLogin, a.Email); err != nil {
			return nil, err
		}
	}
	l, err := s.enterWith(ctx, c, a, grant, func(ctx context.Context, tx bun.Tx) error {
		if also != nil {
			if err := also(ctx, tx); err != nil {
				return err
			}
		}
		if factor == factorTOTP {
			return s.useTOTP(ctx, tx, a.ID, code)
		}
		// Whoever bound TOTP proves it; a mailed code is no way around.
		if t, err := s.totp(ctx, tx, a.ID); err != nil {
			return err
		} else if t != nil && t.Bound {
			return retcode.AuthCodeVerifyFailed.Errorf("the account wants a TOTP code")
		}
		return s.useCode(ctx, tx, purposeLogin, a.Email, code)
	})
	if err == nil {
		t.right()
	} else if retcode.Of(err) == retcode.AuthCodeVerifyFailed {
		t.failed()
	}
	return l, err
}

type verifyFactorRequest struct {
	PendingNonce string `validate:"required,max=128" doc:"of the login that waits"`
	FactorType   string `validate:"required,oneof=TOTP Email" doc:"one of the login's FactorTypes"`
	FactorCode   string `validate:"required,max=16" doc:"six digits"`
}

type verifyFactorResponse struct {
	CompanyID  int64
	MemberID   int64
	Email      string
	SSOToken   string
	ExpireTime int64  `doc:"unix seconds"`
	Code       string `doc:"OAuth authorization code, when the login began with ClientID"`
	State      string
}

// factorAttempts of one waiting login.
const factorAttempts = 5

func (s *Service) verifyFactor(ctx context.Context, c *action.Call, q *verifyFactorRequest) (*verifyFactorResponse, error) {
	l, err := s.Finish(ctx, c, q.PendingNonce, q.FactorType, q.FactorCode)
	if err != nil {
		return nil, err
	}
	c.SessionCookie = &l.Token
	r := &verifyFactorResponse{CompanyID: l.Company, MemberID: l.Account, Email: l.Email, SSOToken: l.Token, ExpireTime: l.Expires}
	r.Code, r.State, err = s.answer(ctx, l)
	return r, err
}

// Finish ends a login that waits for a second factor. 549, 552, 554; 557: it waited too long, or failed too often.
func (s *Service) Finish(ctx context.Context, c *action.Call, nonce, factor, code string) (*Login, error) {
	id := digest(nonce)
	p, a := new(pendingLogin), new(account)
	over := retcode.VerifyCodeExpired.Errorf("log in again")
	// The attempt is counted before the code is looked at: many at once are no more than five.
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		err := tx.NewRaw(`UPDATE pending_login SET attempts = attempts + 1 WHERE id = ? AND attempts < ? AND expires_at > ? RETURNING *`,
			id, factorAttempts, s.Clock.Micros()).Scan(ctx, p)
		if errors.Is(err, sql.ErrNoRows) {
			return over
		}
		if err != nil {
			return err
		}
		return tx.NewSelect().Model(a).Where("id = ?", p.Account).Scan(ctx)
	})
	if err != nil {
		return nil, err
	}
	c.Caller = action.Caller{Account: a.ID, Email: a.Email, Company: a.Company, Admin: a.Kind == administrator}
	if err := s.mayEnter(ctx, c, a); err != nil {
		return nil, err
	}
	if !slices.Contains(strings.Split(p.Factors, ","), factor) {
		if factor == factorTOTP {
			return nil, retcode.TOTPNotBound.Errorf("the login wants %s", p.Factors)
		}
		return nil, retcode.AuthCodeVerifyFailed.Errorf("the login wants %s", p.Factors)
	}
	return s.enterByFactor(ctx, c, a, p.Grant, factor, code, func(ctx context.Context, tx bun.Tx) error {
		r, err := tx.NewDelete().Model((*pendingLogin)(nil)).Where("id = ?", id).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return over
	})
}

type getLoginChallengeResponse struct {
	Challenge  string
	Difficulty int   `doc:"zero bits that SHA-256 of Proof begins with"`
	ExpireTime int64 `doc:"unix seconds"`
}

func (s *Service) getLoginChallenge(context.Context, *action.Call, *struct{}) (*getLoginChallengeResponse, error) {
	text, difficulty, until := s.guard.challenge()
	return &getLoginChallengeResponse{text, difficulty, until.Unix()}, nil
}

func (s *Service) logoutToken(ctx context.Context, c *action.Call, _ *struct{}) (*action.Empty, error) {
	if c.Caller.Session == "" {
		return nil, retcode.MissingSSOToken.Errorf("a signed call has no session to end")
	}
	none := ""
	c.SessionCookie = &none
	return nil, s.endSessions(ctx, "id = ?", c.Caller.Session)
}

type changePasswordRequest struct {
	OldPassword string `validate:"required,max=1024" doc:"the present password"`
	NewPassword string `validate:"required,max=1024" doc:"the new one"`
	Email       string `validate:"max=254" doc:"login name, without a session"`
	TOTPCode    string `validate:"max=16" doc:"six digits, without a session and when TOTP is bound"`
	Proof       string `validate:"max=256" doc:"solved challenge of GetLoginChallenge, when too many attempts failed"`
}

func (s *Service) changePassword(ctx context.Context, c *action.Call, q *changePasswordRequest) (*action.Empty, error) {
	if err := secure(c); err != nil {
		return nil, err
	}
	var a *account
	var err error
	own := c.Caller.Account != 0
	switch {
	case own:
		a, err = s.ownPassword(ctx, c, q.OldPassword, q.Proof)
	case q.Email != "":
		a, err = s.byPassword(ctx, c, q.Email, q.OldPassword, q.Proof)
		if err == nil {
			err = s.mayEnter(ctx, c, a)
		}
	default:
		return nil, retcode.MissingSSOToken.Errorf("log in first, or send Email")
	}
	if err != nil {
		return nil, err
	}
	if q.NewPassword == q.OldPassword {
		return nil, retcode.InvalidParameter.Errorf("NewPassword is the old one")
	}
	if !own {
		// The rule first, so that a code is not used up in vain.
		p := s.Policy(ctx)
		if err := p.check(q.NewPassword); err != nil {
			return nil, err
		}
	}
	hash, err := s.newHash(ctx, q.NewPassword)
	if err != nil {
		return nil, err
	}
	guess, err := s.guard.attempt(c.ClientIP, factorTOTP+"/"+a.Email, "")
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		if !own {
			t, err := s.totp(ctx, tx, a.ID)
			if err != nil {
				return err
			}
			switch {
			case t != nil && t.Bound && q.TOTPCode == "":
				return retcode.AuthCodeVerifyFailed.Errorf("send TOTPCode")
			case t != nil && t.Bound || q.TOTPCode != "":
				if err := s.useTOTP(ctx, tx, a.ID, q.TOTPCode); err != nil {
					return err
				}
			}
		}
		return s.setPassword(ctx, tx, a.ID, hash, false, c.Caller.Session)
	})
	if retcode.Of(err) == retcode.AuthCodeVerifyFailed {
		guess.failed()
	}
	return nil, err
}

// ownPassword checks the caller's password. 20009, 199.
func (s *Service) ownPassword(ctx context.Context, c *action.Call, password, proof string) (*account, error) {
	a := new(account)
	if err := s.DB.Reader().NewSelect().Model(a).Where("id = ?", c.Caller.Account).Scan(ctx); err != nil {
		return nil, err
	}
	t, err := s.guard.attempt(c.ClientIP, "password/"+digest(a.Email), proof)
	if err != nil {
		return nil, err
	}
	ok, err := s.matches(ctx, password, a.PasswordHash)
	if err != nil {
		return nil, err
	}
	if !ok {
		t.failed()
		return nil, retcode.WrongOldPassword.Errorf("check OldPassword")
	}
	t.right()
	return a, nil
}
