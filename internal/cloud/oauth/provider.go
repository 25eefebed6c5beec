package oauth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/rs/cors"
	"github.com/uptrace/bun"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/lingyun-cloud/lingyun/internal/database"
)

// newProvider makes the standard's endpoints. Requests without PKCE are refused (RFC 9700), and there is no grant but
// code and refresh token.
func (s *Service) newProvider() (op.OpenIDProvider, error) {
	config := &op.Config{
		CodeMethodS256:        true,
		AuthMethodPost:        true,
		GrantTypeRefreshToken: true,
		SupportedScopes:       strings.Fields(defaultScopes),
	}
	options := []op.Option{
		op.WithCustomEndpoints(op.NewEndpoint("authorize"), op.NewEndpoint("token"), op.NewEndpoint("userinfo"),
			op.NewEndpoint("revoke"), op.NewEndpoint("end_session"), op.NewEndpoint("keys")),
		op.WithCustomIntrospectionEndpoint(op.NewEndpoint("introspect")),
		op.WithCrypto(sealer{s}),
		// No other site's script has business here: clients are servers.
		op.WithCORSOptions(&cors.Options{AllowOriginFunc: func(string) bool { return false }}),
	}
	if strings.HasPrefix(s.Base, "http://") { // loopback only: elsewhere the endpoint has TLS
		options = append(options, op.WithAllowInsecure())
	}
	return op.NewProvider(config, storage{s}, op.StaticIssuer(s.Base+Path), options...)
}

// Mount adds the standard's endpoints and the login page to a mux.
func (s *Service) Mount(mux *http.ServeMux) {
	mux.Handle(Path+"/", http.StripPrefix(Path, s.provider))
	mux.HandleFunc("GET "+Path+"/login", s.loginPage)
	mux.HandleFunc("POST "+Path+"/login", s.login)
}

// sealer makes access tokens opaque with the cloud's key.
type sealer struct{ s *Service }

const accessContext = "oauth access token"

func (c sealer) Encrypt(text string) (string, error) {
	return base64.RawURLEncoding.EncodeToString([]byte(c.s.Secret.Seal([]byte(text), accessContext))), nil
}

func (c sealer) Decrypt(text string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return "", err
	}
	plain, err := c.s.Secret.Open(string(raw), accessContext)
	return string(plain), err
}

// sealAccess writes an access token as the library does, openAccess reads its id.
func (s *Service) sealAccess(id string, account int64) (string, error) {
	return op.CreateBearerToken(id, subject(account), sealer{s})
}

func (s *Service) openAccess(text string) (id string, err error) {
	plain, err := sealer{s}.Decrypt(text)
	if err != nil {
		return "", err
	}
	id, _, ok := strings.Cut(plain, ":")
	if !ok {
		return "", errors.New("oauth: no access token")
	}
	return id, nil
}

// relying is a client as the library sees it.
type relying struct {
	*client
	login string
}

func (c relying) GetID() string                       { return c.ID }
func (c relying) RedirectURIs() []string              { return c.uris() }
func (c relying) PostLogoutRedirectURIs() []string    { return nil }
func (c relying) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (c relying) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodBasic }
func (c relying) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c relying) LoginURL(id string) string            { return c.login + "?request=" + id }
func (c relying) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeBearer }
func (c relying) IDTokenLifetime() time.Duration       { return time.Hour }
func (c relying) DevMode() bool                        { return false }
func (c relying) IsScopeAllowed(string) bool           { return false }
func (c relying) IDTokenUserinfoClaimsAssertion() bool { return true }
func (c relying) ClockSkew() time.Duration             { return 0 }
func (c relying) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
}
func (c relying) RestrictAdditionalIdTokenScopes() func([]string) []string     { return same }
func (c relying) RestrictAdditionalAccessTokenScopes() func([]string) []string { return same }

func same(scopes []string) []string { return scopes }

// authorization is a request as the library sees it.
type authorization struct{ *request }

func (a authorization) GetID() string                      { return a.ID }
func (a authorization) GetACR() string                     { return "" }
func (a authorization) GetAMR() []string                   { return []string{"pwd"} }
func (a authorization) GetAudience() []string              { return []string{a.ClientID} }
func (a authorization) GetAuthTime() time.Time             { return time.UnixMicro(a.AuthedAt) }
func (a authorization) GetClientID() string                { return a.ClientID }
func (a authorization) GetNonce() string                   { return a.Nonce }
func (a authorization) GetRedirectURI() string             { return a.RedirectURI }
func (a authorization) GetResponseType() oidc.ResponseType { return oidc.ResponseTypeCode }
func (a authorization) GetResponseMode() oidc.ResponseMode { return "" }
func (a authorization) GetScopes() []string                { return scopes(a.Scopes) }
func (a authorization) GetState() string                   { return a.State }
func (a authorization) GetSubject() string                 { return subject(a.Account) }
func (a authorization) Done() bool                         { return a.AuthedAt != 0 }
func (a authorization) GetCodeChallenge() *oidc.CodeChallenge {
	if a.Challenge == "" {
		return nil
	}
	return &oidc.CodeChallenge{Challenge: a.Challenge, Method: oidc.CodeChallengeMethodS256}
}

// renewal is a refresh token as the library sees it.
type renewal struct{ *token }

func (r renewal) GetAMR() []string            { return []string{"pwd"} }
func (r renewal) GetAudience() []string       { return []string{r.ClientID} }
func (r renewal) GetAuthTime() time.Time      { return time.UnixMicro(r.AuthedAt) }
func (r renewal) GetClientID() string         { return r.ClientID }
func (r renewal) GetScopes() []string         { return scopes(r.Scopes) }
func (r renewal) GetSubject() string          { return subject(r.Account) }
func (r renewal) SetCurrentScopes(s []string) { r.Scopes = strings.Join(s, " ") }

// storage is what the library asks of us.
type storage struct{ s *Service }

var _ op.Storage = storage{}

func (st storage) Health(ctx context.Context) error { return st.s.DB.Ping(ctx) }

func (st storage) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := st.s.clientByID(ctx, st.s.DB.Reader(), id)
	if err != nil {
		return nil, oidc.ErrServerError().WithParent(err)
	}
	if c == nil {
		return nil, errors.New("oauth: there is no such client")
	}
	return relying{c, st.s.Base + Path + "/login"}, nil
}

func (st storage) AuthorizeClientIDSecret(ctx context.Context, id, secret string) error {
	c, err := st.s.clientByID(ctx, st.s.DB.Reader(), id)
	if err != nil {
		return oidc.ErrServerError().WithParent(err)
	}
	if c == nil || !c.knows(secret) {
		return errors.New("oauth: wrong client or secret")
	}
	return nil
}

func (st storage) CreateAuthRequest(ctx context.Context, q *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	switch {
	case q.CodeChallenge == "":
		return nil, oidc.ErrInvalidRequest().WithDescription("code_challenge is required")
	case q.CodeChallengeMethod != oidc.CodeChallengeMethodS256:
		return nil, oidc.ErrInvalidRequest().WithDescription("code_challenge_method must be S256")
	case slices.Contains(q.Prompt, oidc.PromptNone):
		return nil, oidc.ErrLoginRequired() // each authorization is asked for on our page
	}
	now := st.s.Clock.Now()
	r := &request{ID: newSecret(), ClientID: q.ClientID, RedirectURI: q.RedirectURI, State: q.State, Nonce: q.Nonce,
		Scopes: strings.Join(q.Scopes, " "), Challenge: q.CodeChallenge, CreatedAt: now.UnixMicro(), ExpiresAt: now.Add(RequestLife).UnixMicro()}
	err := st.s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(r).Exec(ctx)
		return err
	})
	if err != nil {
		return nil, oidc.ErrServerError().WithParent(err)
	}
	return authorization{r}, nil
}

func (st storage) AuthRequestByID(ctx context.Context, id string) (op.AuthRequest, error) {
	r, err := st.s.openRequest(ctx, id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errors.New("oauth: there is no such request, or its time is over")
	}
	return authorization{r}, nil
}

// openRequest finds a request that no code answers yet; nil when there is none.
func (s *Service) openRequest(ctx context.Context, id string) (*request, error) {
	return one[request](ctx, s.DB.Reader(), "id = ? AND code_hash = '' AND expires_at > ?", id, s.Clock.Micros())
}

func (st storage) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	r, err := st.s.codeRequest(ctx, code)
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nil, errors.New("oauth: there is no such code")
	case r.ExpiresAt <= st.s.Clock.Micros():
		return nil, errors.New("oauth: the code is too old")
	}
	if p, err := st.s.person(ctx, r.Account); err != nil {
		return nil, err
	} else if p == nil {
		return nil, errors.New("oauth: the account may not log in")
	}
	return authorization{r}, nil
}

func (st storage) SaveAuthCode(ctx context.Context, id, code string) error {
	return st.s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*request)(nil)).Set("code_hash = ?, expires_at = ?", digest(code), st.s.Clock.Now().Add(CodeLife).UnixMicro()).
			Where("id = ? AND code_hash = '' AND authed_at > 0", id).Exec(ctx)
		return err
	})
}

// DeleteAuthRequest keeps the request, so that a second use of its code is noticed; the sweep removes it.
func (st storage) DeleteAuthRequest(context.Context, string) error { return nil }

func (st storage) CreateAccessToken(ctx context.Context, q op.TokenRequest) (string, time.Time, error) {
	a, ok := q.(authorization)
	if !ok {
		return "", time.Time{}, oidc.ErrUnsupportedGrantType()
	}
	p, err := st.s.redeem(ctx, a.request, false)
	if err != nil {
		return "", time.Time{}, grantError(err)
	}
	return p.AccessID, p.Expires, nil
}

func (st storage) CreateAccessAndRefreshTokens(ctx context.Context, q op.TokenRequest, _ string) (string, string, time.Time, error) {
	var p *pair
	var err error
	switch q := q.(type) {
	case authorization:
		p, err = st.s.redeem(ctx, q.request, true)
	case renewal:
		p, err = st.s.rotate(ctx, q.token)
	default:
		err = oidc.ErrUnsupportedGrantType()
	}
	if err != nil {
		return "", "", time.Time{}, grantError(err)
	}
	return p.AccessID, p.Refresh, p.Expires, nil
}

func grantError(err error) error {
	if errors.Is(err, errUsed) {
		return oidc.ErrInvalidGrant().WithParent(err)
	}
	return err
}

func (st storage) TokenRequestByRefreshToken(ctx context.Context, text string) (op.RefreshTokenRequest, error) {
	t, err := st.s.refreshRow(ctx, text)
	switch {
	case errors.Is(err, errUsed), err == nil && (t == nil || t.ExpiresAt <= st.s.Clock.Micros()):
		return nil, op.ErrInvalidRefreshToken
	case err != nil:
		return nil, err
	}
	if p, err := st.s.person(ctx, t.Account); err != nil {
		return nil, err
	} else if p == nil {
		return nil, op.ErrInvalidRefreshToken
	}
	return renewal{t}, nil
}

func (st storage) TerminateSession(ctx context.Context, userID, clientID string) error {
	account, err := strconv.ParseInt(userID, 10, 64)
	if err != nil {
		return nil
	}
	return st.s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*token)(nil)).Set("ended_at = ?", st.s.Clock.Micros()).
			Where("account = ? AND client_id = ? AND ended_at = 0", account, clientID).Exec(ctx)
		return err
	})
}

// RevokeToken ends a token with all that came from the same authorization. What is no token of the client is no error
// (RFC 7009).
func (st storage) RevokeToken(ctx context.Context, tokenOrID, userID, clientID string) *oidc.Error {
	where, value := "kind = 'refresh' AND hash = ?", digest(tokenOrID)
	if userID != "" {
		where, value = "kind = 'access' AND id = ?", tokenOrID
	}
	t, err := one[token](ctx, st.s.DB.Reader(), where, value)
	if err != nil {
		return oidc.ErrServerError().WithParent(err)
	}
	if t == nil {
		return nil
	}
	if t.ClientID != clientID {
		return oidc.ErrInvalidClient().WithDescription("token was not issued for this client")
	}
	if err := st.s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return st.s.endFamily(ctx, tx, t.Family) }); err != nil {
		return oidc.ErrServerError().WithParent(err)
	}
	return nil
}

func (st storage) GetRefreshTokenInfo(ctx context.Context, clientID, text string) (string, string, error) {
	t, err := one[token](ctx, st.s.DB.Reader(), "kind = ? AND hash = ? AND client_id = ?", refreshToken, digest(text), clientID)
	if err != nil {
		return "", "", err
	}
	if t == nil {
		return "", "", op.ErrInvalidRefreshToken
	}
	return "", text, nil // RevokeToken knows a refresh token by its text
}

func (st storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest fills identity tokens.
func (st storage) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, q op.IDTokenRequest, scopes []string) error {
	return st.fill(ctx, info, q.GetSubject(), scopes)
}

func (st storage) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, tokenID, _, _ string) error {
	t, err := st.liveAccess(ctx, tokenID)
	if err != nil {
		return err
	}
	return st.fill(ctx, info, subject(t.Account), scopes(t.Scopes))
}

func (st storage) SetIntrospectionFromToken(ctx context.Context, r *oidc.IntrospectionResponse, tokenID, _, clientID string) error {
	t, err := st.liveAccess(ctx, tokenID)
	if err != nil {
		return err
	}
	if t.ClientID != clientID {
		return errors.New("oauth: another client's token")
	}
	info := new(oidc.UserInfo)
	if err := st.fill(ctx, info, subject(t.Account), scopes(t.Scopes)); err != nil {
		return err
	}
	r.SetUserInfo(info)
	r.Scope, r.ClientID, r.TokenType = scopes(t.Scopes), t.ClientID, oidc.BearerToken
	r.Expiration, r.IssuedAt, r.Audience = oidc.FromTime(time.UnixMicro(t.ExpiresAt)), oidc.FromTime(time.UnixMicro(t.CreatedAt)), []string{t.ClientID}
	return nil
}

func (st storage) liveAccess(ctx context.Context, id string) (*token, error) {
	t, err := one[token](ctx, st.s.DB.Reader(), "id = ? AND kind = ? AND ended_at = 0 AND expires_at > ?", id, accessToken, st.s.Clock.Micros())
	if err == nil && t == nil {
		err = errors.New("oauth: the token has ended")
	}
	if err != nil {
		return nil, err
	}
	// A client that was disabled is refused its tokens, too.
	if c, err := st.s.clientByID(ctx, st.s.DB.Reader(), t.ClientID); err != nil {
		return nil, err
	} else if c == nil {
		return nil, errors.New("oauth: the client is disabled")
	}
	return t, nil
}

// fill says of an account what scopes allow.
func (st storage) fill(ctx context.Context, info *oidc.UserInfo, sub string, scopes []string) error {
	account, err := strconv.ParseInt(sub, 10, 64)
	if err != nil {
		return err
	}
	p, err := st.s.person(ctx, account)
	if err == nil && p == nil {
		err = errors.New("oauth: the account may not log in")
	}
	if err != nil {
		return err
	}
	info.Subject = sub
	if slices.Contains(scopes, oidc.ScopeProfile) {
		info.Name, info.PreferredUsername = p.Name, p.Email
		info.AppendClaims("company_id", p.Company)
	}
	if slices.Contains(scopes, oidc.ScopeEmail) {
		info.Email, info.EmailVerified = p.Email, true
	}
	return nil
}

func (st storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil
}

func (st storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errors.New("oauth: clients sign nothing")
}

func (st storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errors.New("oauth: clients sign nothing")
}

// key signs identity tokens.
type key struct {
	id      string
	private *rsa.PrivateKey
}

func (k key) ID() string                                  { return k.id }
func (k key) Key() any                                    { return k.private }
func (k key) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }

// public is its other half.
type public struct{ key }

func (p public) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (p public) Use() string                        { return "sig" }
func (p public) Key() any                           { return &p.private.PublicKey }

type keyRow struct {
	bun.BaseModel `bun:"table:oauth_key"`

	ID        string `bun:"id,pk"`
	Private   string `bun:"private"`
	CreatedAt int64  `bun:"created_at"`
}

func keyContext(id string) string { return "oauth_key.private:" + id }

// signing reads the key, or makes it: of two controllers that make one, the older counts.
func (s *Service) signing(ctx context.Context) (key, error) {
	read := func() (*keyRow, error) {
		return one[keyRow](ctx, s.DB.Reader(), "id = (SELECT id FROM oauth_key ORDER BY created_at, id LIMIT 1)")
	}
	row, err := read()
	if err != nil {
		return key{}, err
	}
	if row == nil {
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return key{}, err
		}
		raw, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return key{}, err
		}
		id := database.NewID("key")
		err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewInsert().Model(&keyRow{ID: id, Private: s.Secret.Seal(raw, keyContext(id)), CreatedAt: s.Clock.Micros()}).Exec(ctx)
			return err
		})
		if err != nil {
			return key{}, err
		}
		if row, err = read(); err != nil {
			return key{}, err
		}
	}
	raw, err := s.Secret.Open(row.Private, keyContext(row.ID))
	if err != nil {
		return key{}, err
	}
	private, err := x509.ParsePKCS8PrivateKey(raw)
	if err != nil {
		return key{}, err
	}
	k, ok := private.(*rsa.PrivateKey)
	if !ok {
		return key{}, errors.New("oauth: the signing key is no RSA key")
	}
	return key{row.ID, k}, nil
}

func (st storage) SigningKey(ctx context.Context) (op.SigningKey, error) { return st.s.signing(ctx) }

func (st storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

func (st storage) KeySet(ctx context.Context) ([]op.Key, error) {
	k, err := st.s.signing(ctx)
	if err != nil {
		return nil, err
	}
	return []op.Key{public{k}}, nil
}
