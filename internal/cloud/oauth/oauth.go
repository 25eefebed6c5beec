// Package oauth lets applications log in with accounts of the platform (OpenID
// Connect provider), and accounts log in with the company's own provider
// (client). What a code or a token means is decided here once; it is spoken both
// by the Action API and by the standard's endpoints below /oauth2.
package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/uptrace/bun"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

// Path is where the standard's endpoints are.
const Path = "/oauth2"

// How long things hold.
const (
	RequestLife = 30 * time.Minute // from the request to the login
	CodeLife    = 10 * time.Minute
	AccessLife  = 2 * time.Hour
	RefreshLife = 30 * 24 * time.Hour // from its issue; each use replaces it
)

// Scopes that clients may ask for.
const defaultScopes = "openid profile email offline_access"

// Deps of the service.
type Deps struct {
	DB       *database.DB
	Clock    *clock.Clock
	Secret   *secret.Key
	Identity *identity.Service
	// Base is the endpoint's URL without a path; it is part of the issuer's name.
	Base string
	// Call is what the wire knows of a request that is no call of the API.
	Call func(*http.Request) *action.Call
	// Record writes a login on our page into the audit log.
	Record func(ctx context.Context, c *action.Call, err error)
	// HTTP reaches the company's provider; a client with limits when nil.
	HTTP *http.Client
}

// Service is provider and client.
type Service struct {
	Deps
	provider op.OpenIDProvider
}

// New prepares the service.
func New(d Deps) (*Service, error) {
	if d.HTTP == nil {
		d.HTTP = &http.Client{Timeout: 10 * time.Second}
	}
	s := &Service{Deps: d}
	provider, err := s.newProvider()
	if err != nil {
		return nil, err
	}
	s.provider = provider
	d.Identity.Grant(grants{s})
	return s, nil
}

// Run sweeps until ctx ends. Only the leading controller calls it.
func (s *Service) Run(ctx context.Context) {
	clock.NewLoop(s.Clock, "oauth sweep", 10*time.Minute, s.Sweep).Run(ctx)
}

// newCode authorizes a client for an account whose owner has just logged in, and returns the code.
func (s *Service) newCode(ctx context.Context, tx bun.Tx, r *request, account int64) (string, error) {
	code := newSecret()
	now := s.Clock.Now()
	r.Account, r.CodeHash, r.AuthedAt, r.ExpiresAt = account, digest(code), now.UnixMicro(), now.Add(CodeLife).UnixMicro()
	// A request of the login page is a row already; one answered meanwhile is not answered twice.
	res, err := tx.NewUpdate().Model(r).Column("account", "code_hash", "authed_at", "expires_at").Where("id = ? AND code_hash = ''", r.ID).Exec(ctx)
	if err != nil {
		return "", err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return code, err
	}
	_, err = tx.NewInsert().Model(r).Exec(ctx)
	return code, err
}

// errUsed: a code or a refresh token came a second time. Whoever has it is not to be trusted with what came of it.
var errUsed = errors.New("oauth: used before")

// codeRequest finds what a code answers; nil when it was never issued, errUsed when it is used.
func (s *Service) codeRequest(ctx context.Context, code string) (*request, error) {
	r, err := one[request](ctx, s.DB.Reader(), "code_hash = ?", digest(code))
	if err != nil || r == nil || code == "" {
		return nil, err
	}
	if r.UsedAt != 0 {
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.endFamily(ctx, tx, r.ID) })
		return nil, errors.Join(errUsed, err)
	}
	return r, nil
}

// pair is what an authorization or a refresh gives.
type pair struct {
	AccessID, Refresh string // Refresh: empty when none was asked for
	Expires           time.Time
}

// redeem turns a code, once, into tokens. errUsed when somebody was faster.
func (s *Service) redeem(ctx context.Context, r *request, refresh bool) (p *pair, err error) {
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		res, err := tx.NewUpdate().Model((*request)(nil)).Set("used_at = ?", s.Clock.Micros()).Where("id = ? AND used_at = 0", r.ID).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return errUsed
		}
		p, err = s.issue(ctx, tx, token{Family: r.ID, ClientID: r.ClientID, Account: r.Account, Scopes: r.Scopes, AuthedAt: r.AuthedAt}, refresh)
		return err
	})
	return p, err
}

// rotate replaces a refresh token by a new pair. errUsed when it was replaced before: then all of its family end.
func (s *Service) rotate(ctx context.Context, t *token) (p *pair, err error) {
	replayed := false
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		replayed = false
		res, err := tx.NewUpdate().Model((*token)(nil)).Set("ended_at = ?", s.Clock.Micros()).Where("id = ? AND ended_at = 0", t.ID).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			replayed = true
			return s.endFamily(ctx, tx, t.Family)
		}
		p, err = s.issue(ctx, tx, *t, true)
		return err
	})
	if err == nil && replayed {
		err = errUsed
	}
	return p, err
}

// issue writes tokens that carry on from t.
func (s *Service) issue(ctx context.Context, tx bun.Tx, t token, refresh bool) (*pair, error) {
	now := s.Clock.Now()
	t.CreatedAt, t.EndedAt = now.UnixMicro(), 0
	access := t
	access.ID, access.Kind, access.Hash, access.ExpiresAt = database.NewID("token"), accessToken, "", now.Add(AccessLife).UnixMicro()
	rows := []token{access}
	p := &pair{AccessID: access.ID, Expires: now.Add(AccessLife)}
	if refresh {
		p.Refresh = newSecret()
		t.ID, t.Kind, t.Hash, t.ExpiresAt = database.NewID("token"), refreshToken, digest(p.Refresh), now.Add(RefreshLife).UnixMicro()
		rows = append(rows, t)
	}
	_, err := tx.NewInsert().Model(&rows).Exec(ctx)
	return p, err
}

// refreshRow finds a refresh token; nil when there never was one of that text. errUsed when it was replaced or revoked;
// a replaced one that comes again ends all of its family.
func (s *Service) refreshRow(ctx context.Context, text string) (*token, error) {
	if text == "" {
		return nil, nil
	}
	t, err := one[token](ctx, s.DB.Reader(), "kind = ? AND hash = ?", refreshToken, digest(text))
	if err != nil || t == nil {
		return nil, err
	}
	if t.EndedAt != 0 {
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.endFamily(ctx, tx, t.Family) })
		return nil, errors.Join(errUsed, err)
	}
	return t, nil
}

// accessRow finds an access token by its text; nil when it is none of ours or was revoked. It may be past its time.
func (s *Service) accessRow(ctx context.Context, text string) (*token, error) {
	id, err := s.openAccess(text)
	if err != nil {
		return nil, nil // not ours
	}
	return one[token](ctx, s.DB.Reader(), "id = ? AND kind = ? AND ended_at = 0", id, accessToken)
}

// person is the account of a token as long as it may log in; nil: no more.
func (s *Service) person(ctx context.Context, account int64) (*identity.Person, error) {
	p, err := s.Identity.Person(ctx, account)
	if retcode.Of(err) == retcode.AccountNotFound {
		return nil, nil
	}
	if err != nil || !p.MayLogin {
		return nil, err
	}
	return p, nil
}

// grants lets logins through the API be for a client's request.
type grants struct{ *Service }

// Ask implements identity.Grants.
func (g grants) Ask(ctx context.Context, clientID, responseType, redirectURI, state string) (string, error) {
	r, err := g.consented(ctx, clientID, responseType, redirectURI, state)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(r)
	return string(text), err
}

// Answer implements identity.Grants.
func (g grants) Answer(ctx context.Context, grant string, account int64) (code, state string, err error) {
	r := new(request)
	if err := json.Unmarshal([]byte(grant), r); err != nil {
		return "", "", err
	}
	err = g.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		code, err = g.newCode(ctx, tx, r, account)
		return err
	})
	return code, r.State, err
}

func subject(account int64) string { return strconv.FormatInt(account, 10) }

// Actions of provider and client.
func (s *Service) Actions() []action.Action {
	return append(append(s.clientActions(), s.tokenActions()...), s.foreignActions()...)
}
