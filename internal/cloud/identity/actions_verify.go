package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Actions that a mailed code or link is for.
func (s *Service) verifyActions() []action.Action {
	spec := func(name, summary string) action.Spec {
		return action.Spec{Name: name, Module: "account", Summary: summary, Region: action.RegionNone, Anonymous: true, Mutates: true, Extension: true, Failure: retcode.InternalError}
	}
	optional := func(name, summary string) action.Spec {
		o := spec(name, summary)
		o.Optional, o.Personal = true, true
		return o
	}
	return []action.Action{
		action.Define(spec("RegisterUser", "Register a tenant by oneself, when the configuration allows it."), s.registerUser),
		action.Define(optional("ActivateUser", "Activate a registered tenant by the mailed token, or by an administrator."), s.activateUser),
		action.Define(spec("ResendActivationMail", "Mail the activation link again. Addresses that wait for none answer 0 as well."), s.resendActivationMail),
		action.Define(optional("SendVerificationCode", "Mail a six-digit code. Unknown addresses answer 0 as well."), s.sendVerificationCode),
		action.Define(spec("CheckVerificationCode", "Check a mailed code and get a token for the next step."), s.checkVerificationCode),
		action.Define(spec("ApplyPasswordReset", "Mail a link and a code to set a new password. Unknown addresses answer 0 as well."), s.applyPasswordReset),
		action.Define(spec("ConfirmPasswordReset", "Set a new password with the mailed token or code."), s.confirmPasswordReset),
	}
}

// visit counts a call of somebody unknown about an address against the address that it comes from (199).
func (s *Service) visit(c *action.Call, what, email string) (*try, error) {
	return s.guard.attempt(c.ClientIP, what+"/"+digest(email), "")
}

type registerUserRequest struct {
	Name       string `validate:"required,min=5,max=50" doc:"of the tenant: Chinese and Latin letters"`
	Email      string `validate:"required" doc:"login name; the activation link is mailed to it"`
	Password   string `validate:"required,max=1024" doc:"by the configured rule"`
	VerifyCode string `validate:"max=16" doc:"mailed code (SendVerificationCode, Register), when the configuration asks for one"`
	Phone      string `doc:"telephone number"`
	Language   string `default:"zh" validate:"oneof=zh en" doc:"of mails"`
	Proof      string `validate:"max=256" doc:"solved challenge of GetLoginChallenge, after a few registrations from one address"`
}

type registerUserResponse struct {
	CompanyID int64
	MemberID  int64
}

// registering is the name under which registrations from one address are counted.
const registering = "register/"

func (s *Service) registerUser(ctx context.Context, c *action.Call, q *registerUserRequest) (*registerUserResponse, error) {
	p := s.Policy(ctx)
	if !p.SelfRegistration {
		return nil, retcode.ActionForbidden.Errorf("ask the platform's administrator for an account")
	}
	if err := secure(c); err != nil {
		return nil, err
	}
	if !registeredName.MatchString(q.Name) {
		return nil, retcode.InvalidParameter.Errorf("Name has 5 to 50 Chinese and Latin letters")
	}
	if err := phone(q.Phone); err != nil {
		return nil, err
	}
	if err := p.check(q.Password); err != nil {
		return nil, err
	}
	t, err := s.guard.attempt(c.ClientIP, registering+network(c.ClientIP), q.Proof)
	if err != nil {
		return nil, err
	}
	t.failed() // a puzzle after a few, whatever comes of them
	email, err := s.usable(ctx, q.Email)
	if err != nil {
		return nil, err
	}
	if p.MailedCodes {
		// The owner of the address alone learns whether it has an account.
		if err := s.tryCode(ctx, purposeRegister, email); err != nil {
			return nil, err
		}
	}
	regions, err := s.regions(ctx)
	if err != nil {
		return nil, err
	}
	hash, err := s.newHash(ctx, q.Password)
	if err != nil {
		return nil, err
	}
	r := &registerUserResponse{}
	err = s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		if p.MailedCodes {
			if err := s.useCode(ctx, tx, purposeRegister, email, q.VerifyCode); err != nil {
				return err
			}
		}
		t := &tenant{Name: q.Name, State: InUse}
		a := &account{Name: q.Name, Email: email, Kind: main, State: locked, Phone: q.Phone, Language: q.Language, PasswordHash: hash}
		if err := s.addTenant(ctx, tx, t, a, regions); err != nil {
			return err
		}
		k := newPair(a.ID)
		k.IsDefault = true
		if err := s.addKey(ctx, tx, k); err != nil {
			return err
		}
		r.CompanyID, r.MemberID = t.ID, a.ID
		return s.postActivation(ctx, tx, a)
	})
	if err != nil {
		return nil, err
	}
	s.Mail.Kick()
	c.Caller.Company = r.CompanyID // whose log it is in
	return r, nil
}

// activation is what the token of an account's activation is kept under.
func activation(id int64) string { return "account/" + strconv.FormatInt(id, 10) }

func (s *Service) postActivation(ctx context.Context, tx bun.Tx, a *account) error {
	_, token, _, err := s.newCode(ctx, tx, purposeActivate, activation(a.ID), activateFor)
	if err != nil {
		return err
	}
	return s.post(ctx, tx, a.Email, a.Language, activateLetter, "", s.link("activate", fmt.Sprintf("%d.%s", a.ID, token)), activateFor)
}

type activateUserRequest struct {
	Token     string `validate:"max=256" doc:"from the mail"`
	CompanyID int64  `doc:"tenant, instead of Token: administrators only"`
}

type activateUserResponse struct{ CompanyID int64 }

func (s *Service) activateUser(ctx context.Context, c *action.Call, q *activateUserRequest) (*activateUserResponse, error) {
	var id int64
	if q.CompanyID != 0 {
		if c.Caller.Account == 0 {
			return nil, retcode.MissingPublicKey.Errorf("without Token an administrator must sign the call")
		}
		if err := system(c); err != nil {
			return nil, err
		}
		if _, err := tenantByID(ctx, s.DB.Reader(), q.CompanyID); err != nil {
			return nil, err
		}
		a, err := mainAccount(ctx, s.DB.Reader(), q.CompanyID)
		if err != nil {
			return nil, err
		}
		id = a.ID
	} else if q.Token == "" {
		return nil, retcode.MissingParameter.Errorf("Token is required")
	}
	text, token, _ := strings.Cut(q.Token, ".")
	if id == 0 {
		var err error
		if id, err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, retcode.VerifyCodeExpired.Errorf("the link is not whole")
		}
	}
	var company int64
	err := s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		if q.CompanyID == 0 {
			if err := s.useToken(ctx, tx, purposeActivate, activation(id), token); err != nil {
				return err
			}
		}
		a, err := accountByID(ctx, tx, id)
		if err != nil {
			return err
		}
		company = a.Company
		if a.State != locked {
			return retcode.AccountAlreadyEnabled.Errorf("account %d", a.ID)
		}
		return s.set(ctx, tx, a, "state = ?", InUse)
	})
	if err != nil {
		return nil, err
	}
	c.Company = company
	return &activateUserResponse{company}, nil
}

type emailRequest struct {
	Email string `validate:"required" doc:"login name"`
}

func (s *Service) resendActivationMail(ctx context.Context, c *action.Call, q *emailRequest) (*action.Empty, error) {
	email, err := address(q.Email)
	if err != nil {
		return nil, err
	}
	if err := s.mailable(ctx); err != nil {
		return nil, err
	}
	if _, err := s.visit(c, "mail", email); err != nil {
		return nil, err
	}
	a, err := s.byEmail(ctx, email)
	if err != nil {
		return nil, err
	}
	// Counted by address, so that it is felt the same whether an account waits or not.
	return nil, s.posting(ctx, purposeActivate, email, func(ctx context.Context, tx bun.Tx) error {
		if _, _, _, err := s.newCode(ctx, tx, purposeActivate, email, 0); err != nil {
			return err
		}
		if a != nil && a.State == locked {
			return s.postActivation(ctx, tx, a)
		}
		return s.post(ctx, tx, "", "", activateLetter, "", "", activateFor)
	})
}

// posting runs what sends a code, unless the last one was sent a moment ago (555) or is good (556).
func (s *Service) posting(ctx context.Context, purpose, email string, send func(ctx context.Context, tx bun.Tx) error) error {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := s.sendable(ctx, tx, purpose, email); err != nil {
			return err
		}
		return send(ctx, tx)
	})
	s.Mail.Kick()
	return err
}

type sendVerificationCodeRequest struct {
	Purpose      string `validate:"required,oneof=Register Login ResetPassword ChangeEmail UnbindTOTP" doc:"what the code is for"`
	Email        string `doc:"where to; the own address by default"`
	PendingNonce string `validate:"max=128" doc:"of the login that waits, with Purpose Login"`
}

type sendVerificationCodeResponse struct {
	ExpireTime int64 `doc:"unix seconds"`
	RetryTime  int64 `doc:"unix seconds: the earliest next request, once the code was used or tried too often"`
}

func (s *Service) sendVerificationCode(ctx context.Context, c *action.Call, q *sendVerificationCodeRequest) (*sendVerificationCodeResponse, error) {
	if err := s.mailable(ctx); err != nil {
		return nil, err
	}
	if q.Email == "" {
		q.Email = c.Caller.Email
	}
	to := q.Email
	switch q.Purpose {
	case purposeLogin:
		a, err := s.waiting(ctx, q.PendingNonce)
		if err != nil {
			return nil, err
		}
		q.Email, to = a.Email, a.Email
	case purposeChangeEmail:
		if c.Caller.Account == 0 {
			return nil, retcode.MissingSSOToken.Errorf("log in first")
		}
	case purposeUnbindTOTP:
		if c.Caller.Account == 0 {
			return nil, retcode.MissingSSOToken.Errorf("log in first")
		}
		q.Email, to = c.Caller.Email, c.Caller.Email
	}
	if q.Email == "" {
		return nil, retcode.MissingParameter.Errorf("Email is required")
	}
	email, err := address(q.Email)
	if err != nil {
		return nil, err
	}
	if _, err := s.visit(c, "mail", email); err != nil {
		return nil, err
	}
	a, err := s.byEmail(ctx, email)
	if err != nil {
		return nil, err
	}
	l, language := codeLetter, s.Policy(ctx).Language
	if a != nil {
		language = a.Language
	}
	switch {
	case q.Purpose == purposeRegister:
		p := s.Policy(ctx)
		if !p.SelfRegistration {
			return nil, retcode.ActionForbidden.Errorf("ask the platform's administrator for an account")
		}
		if a != nil {
			l = knownLetter // and no code
		}
	case q.Purpose == purposeResetPassword && !a.recovers():
		to = ""
	}
	r := &sendVerificationCodeResponse{RetryTime: s.Clock.Now().Add(codeAgain).Unix()}
	return r, s.posting(ctx, q.Purpose, email, func(ctx context.Context, tx bun.Tx) error {
		code, _, until, err := s.newCode(ctx, tx, q.Purpose, email, 0)
		if err != nil {
			return err
		}
		r.ExpireTime = until
		if l == knownLetter {
			code = ""
		}
		return s.post(ctx, tx, to, language, l, code, "", codeFor)
	})
}

// recovers tells whether an account may set a new password by mail: a sub-account asks its administrator.
func (a *account) recovers() bool { return a != nil && (a.Kind == main || a.Kind == administrator) }

// waiting finds the account of a login that waits for a mailed code. 557.
func (s *Service) waiting(ctx context.Context, nonce string) (*account, error) {
	p := new(pendingLogin)
	db := s.DB.Reader()
	err := db.NewSelect().Model(p).Where("id = ? AND expires_at > ?", digest(nonce), s.Clock.Micros()).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !slices.Contains(strings.Split(p.Factors, ","), factorEmail) {
		return nil, retcode.VerifyCodeExpired.Errorf("no login waits for a mailed code: log in again")
	}
	if err != nil {
		return nil, err
	}
	return accountByID(ctx, db, p.Account)
}

type checkVerificationCodeRequest struct {
	Purpose    string `validate:"required,oneof=Register Login ResetPassword ChangeEmail UnbindTOTP" doc:"what the code is for"`
	Email      string `validate:"required" doc:"where it was mailed"`
	VerifyCode string `validate:"required,max=16" doc:"six digits"`
}

type checkVerificationCodeResponse struct {
	Token      string
	ExpireTime int64 `doc:"unix seconds"`
}

func (s *Service) checkVerificationCode(ctx context.Context, c *action.Call, q *checkVerificationCodeRequest) (*checkVerificationCodeResponse, error) {
	email, err := address(q.Email)
	if err != nil {
		return nil, err
	}
	if err := s.guess(ctx, c, q.Purpose, email); err != nil {
		return nil, err
	}
	token := newToken()
	until := s.Clock.Now().Add(tokenFor)
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := s.useCode(ctx, tx, q.Purpose, email, q.VerifyCode); err != nil {
			return err
		}
		_, err := tx.NewUpdate().Model((*verification)(nil)).Set("token = ?, token_until = ?", digest(token), until.UnixMicro()).
			Where("purpose = ? AND name = ?", q.Purpose, digest(email)).Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &checkVerificationCodeResponse{token, until.Unix()}, nil
}

// guess counts an attempt at a mailed code. 199, 557.
func (s *Service) guess(ctx context.Context, c *action.Call, purpose, email string) error {
	if _, err := s.visit(c, "code", email); err != nil {
		return err
	}
	return s.tryCode(ctx, purpose, email)
}

func (s *Service) applyPasswordReset(ctx context.Context, c *action.Call, q *emailRequest) (*action.Empty, error) {
	email, err := address(q.Email)
	if err != nil {
		return nil, err
	}
	if err := s.mailable(ctx); err != nil {
		return nil, err
	}
	if _, err := s.visit(c, "mail", email); err != nil {
		return nil, err
	}
	a, err := s.byEmail(ctx, email)
	if err != nil {
		return nil, err
	}
	to, language := "", ""
	if a.recovers() {
		to, language = a.Email, a.Language
	}
	return nil, s.posting(ctx, purposeResetPassword, email, func(ctx context.Context, tx bun.Tx) error {
		code, token, _, err := s.newCode(ctx, tx, purposeResetPassword, email, resetFor)
		if err != nil {
			return err
		}
		return s.post(ctx, tx, to, language, resetLetter, code, s.link("reset", token), resetFor)
	})
}

type confirmPasswordResetRequest struct {
	Email       string `validate:"required" doc:"login name"`
	Token       string `validate:"max=128" doc:"from the link, or of CheckVerificationCode"`
	VerifyCode  string `validate:"max=16" doc:"mailed code, instead of Token"`
	NewPassword string `validate:"required,max=1024" doc:"by the configured rule"`
}

func (s *Service) confirmPasswordReset(ctx context.Context, c *action.Call, q *confirmPasswordResetRequest) (*action.Empty, error) {
	if err := secure(c); err != nil {
		return nil, err
	}
	email, err := address(q.Email)
	if err != nil {
		return nil, err
	}
	if q.Token == "" && q.VerifyCode == "" {
		return nil, retcode.MissingParameter.Errorf("Token is required")
	}
	p := s.Policy(ctx)
	if err := p.check(q.NewPassword); err != nil {
		return nil, err
	}
	if q.Token == "" {
		err = s.guess(ctx, c, purposeResetPassword, email)
	} else {
		_, err = s.visit(c, "code", email)
	}
	if err != nil {
		return nil, err
	}
	hash, err := s.newHash(ctx, q.NewPassword)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		if q.Token != "" {
			err = s.useToken(ctx, tx, purposeResetPassword, email, q.Token)
		} else {
			err = s.useCode(ctx, tx, purposeResetPassword, email, q.VerifyCode)
		}
		if err != nil {
			return err
		}
		a := new(account)
		if err := tx.NewSelect().Model(a).Where("email = ?", email).Scan(ctx); errors.Is(err, sql.ErrNoRows) || err == nil && !a.recovers() {
			return retcode.VerifyCodeExpired.Errorf("ask for a new one") // nobody was sent it
		} else if err != nil {
			return err
		}
		c.Caller = action.Caller{Account: a.ID, Email: a.Email, Company: a.Company, Admin: a.Kind == administrator}
		if _, err := tx.NewRaw(`DELETE FROM login_failure WHERE name = ?`, digest(email)).Exec(ctx); err != nil {
			return err
		}
		return s.setPassword(ctx, tx, a.ID, hash, false, "")
	})
}
