package oauth

import (
	"context"
	"errors"
	"net/url"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) tokenActions() []action.Action {
	spec := func(name, summary string) action.Spec {
		return action.Spec{Name: name, Module: "account", Summary: summary, Region: action.RegionNone, Anonymous: true, Extension: true}
	}
	return []action.Action{
		action.Define(action.Spec{Name: "CreateOAuthCode", Module: "account", Region: action.RegionNone, Personal: true, Mutates: true, Extension: true,
			Summary: "Issue an authorization code for the account of the session (the consent step)."}, s.createCode),
		action.Define(spec("GetOAuthToken", "Token endpoint, also served as POST /oauth2/token. No signature, the client secret authenticates."), s.getToken),
		action.Define(spec("GetOAuthUserInfo", "Account behind an access token, also served as GET /oauth2/userinfo."), s.getUserInfo),
		action.Define(spec("CheckOAuthToken", "Tell client, account and end of a token."), s.checkToken),
		action.Define(spec("RevokeOAuthToken", "Revoke a token."), s.revokeToken),
	}
}

type createCodeRequest struct {
	ClientID     string `validate:"required" doc:"client id"`
	ResponseType string `validate:"required,oneof=code" doc:"code"`
	RedirectURI  string `validate:"required" doc:"one of the client's"`
	State        string `validate:"required,max=1000" doc:"comes back as it is"`
}

type createCodeResponse struct {
	Code        string `doc:"single use, 10 minutes"`
	State       string
	RedirectURL string `doc:"where the browser is to go"`
}

func (s *Service) createCode(ctx context.Context, c *action.Call, q *createCodeRequest) (*createCodeResponse, error) {
	if c.Caller.Session == "" {
		return nil, retcode.SSOTokenInvalid.Errorf("a code is given to who is logged in, not to a key")
	}
	r, err := s.consented(ctx, q.ClientID, q.ResponseType, q.RedirectURI, q.State)
	if err != nil {
		return nil, err
	}
	out := &createCodeResponse{State: q.State}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		out.Code, err = s.newCode(ctx, tx, r, c.Caller.Account)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(q.ClientID)
	out.RedirectURL, err = r.answer(s.Base+Path, url.Values{"code": {out.Code}})
	return out, err
}

// consented checks what a client asks for through the API, where the console has asked the user: 600, 20008.
func (s *Service) consented(ctx context.Context, clientID, responseType, redirectURI, state string) (*request, error) {
	c, err := s.clientByID(ctx, s.DB.Reader(), clientID)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, retcode.OAuthClientNotFound.Errorf("ClientID %s", clientID)
	case responseType != "code":
		return nil, retcode.OAuthLoginFailed.Errorf("ResponseType is code")
	case state == "":
		return nil, retcode.OAuthLoginFailed.Errorf("State is required")
	case !slices.Contains(c.uris(), redirectURI):
		return nil, retcode.OAuthLoginFailed.Errorf("RedirectURI is none of the client's")
	}
	return &request{ID: newSecret(), ClientID: c.ID, RedirectURI: redirectURI, State: state, Scopes: defaultScopes, CreatedAt: s.Clock.Micros()}, nil
}

// authenticated finds the client of a call that brings its secret; unknown and wrong are one answer (600).
func (s *Service) authenticated(ctx context.Context, id, secret string) (*client, error) {
	c, err := s.clientByID(ctx, s.DB.Reader(), id)
	if err != nil {
		return nil, err
	}
	if c == nil {
		(&client{}).knows(secret) // takes as long
	}
	if c == nil || !c.knows(secret) {
		return nil, retcode.OAuthClientNotFound.Errorf("check ClientID and ClientSecret")
	}
	return c, nil
}

type getTokenRequest struct {
	GrantType    string `validate:"required,oneof=authorization_code refresh_token" doc:"what is brought"`
	ClientID     string `validate:"required" doc:"client id"`
	ClientSecret string `validate:"required" doc:"client secret"`
	Code         string `doc:"with authorization_code"`
	RedirectURI  string `doc:"with authorization_code: the one that the code was sent to"`
	RefreshToken string `doc:"with refresh_token; replaced by the one in the answer"`
}

type getTokenResponse struct {
	AccessToken  string
	RefreshToken string
	TokenType    string `doc:"Bearer"`
	ExpiresIn    int64  `doc:"seconds"`
}

func (s *Service) getToken(ctx context.Context, _ *action.Call, q *getTokenRequest) (*getTokenResponse, error) {
	c, err := s.authenticated(ctx, q.ClientID, q.ClientSecret)
	if err != nil {
		return nil, err
	}
	var p *pair
	var account int64
	if q.GrantType == "authorization_code" {
		p, account, err = s.byCode(ctx, c, q)
	} else {
		p, account, err = s.byRefresh(ctx, c, q)
	}
	if err != nil {
		return nil, err
	}
	access, err := s.sealAccess(p.AccessID, account)
	if err != nil {
		return nil, err
	}
	return &getTokenResponse{AccessToken: access, RefreshToken: p.Refresh, TokenType: "Bearer", ExpiresIn: int64(AccessLife.Seconds())}, nil
}

// byCode: 3, 605 never issued or used, 601 wrong client or address, or too old.
func (s *Service) byCode(ctx context.Context, c *client, q *getTokenRequest) (*pair, int64, error) {
	if q.Code == "" || q.RedirectURI == "" {
		return nil, 0, retcode.MissingParameter.Errorf("Code and RedirectURI are required with GrantType authorization_code")
	}
	unknown := retcode.OAuthCodeNotFound.Errorf("it was never issued, or has been used")
	r, err := s.codeRequest(ctx, q.Code)
	switch {
	case errors.Is(err, errUsed), err == nil && r == nil:
		return nil, 0, unknown
	case err != nil:
		return nil, 0, err
	case r.ClientID != c.ID || r.RedirectURI != q.RedirectURI:
		return nil, 0, retcode.InvalidAuthorizationCode.Errorf("it was issued for another client or RedirectURI")
	case r.Challenge != "":
		return nil, 0, retcode.InvalidAuthorizationCode.Errorf("it was asked for with PKCE: redeem it at %s/token", Path)
	case r.ExpiresAt <= s.Clock.Micros():
		return nil, 0, retcode.InvalidAuthorizationCode.Errorf("it is too old")
	}
	if who, err := s.person(ctx, r.Account); err != nil {
		return nil, 0, err
	} else if who == nil {
		return nil, 0, retcode.InvalidAuthorizationCode.Errorf("its account may not log in any more")
	}
	p, err := s.redeem(ctx, r, true)
	if errors.Is(err, errUsed) {
		return nil, 0, unknown
	}
	return p, r.Account, err
}

// byRefresh: 3, 603 unknown, replaced or another client's, 604 too old.
func (s *Service) byRefresh(ctx context.Context, c *client, q *getTokenRequest) (*pair, int64, error) {
	if q.RefreshToken == "" {
		return nil, 0, retcode.MissingParameter.Errorf("RefreshToken is required with GrantType refresh_token")
	}
	unknown := retcode.OAuthTokenNotFound.Errorf("it was never issued to this client, or has been replaced or revoked")
	t, err := s.refreshRow(ctx, q.RefreshToken)
	switch {
	case errors.Is(err, errUsed), err == nil && (t == nil || t.ClientID != c.ID):
		return nil, 0, unknown
	case err != nil:
		return nil, 0, err
	case t.ExpiresAt <= s.Clock.Micros():
		return nil, 0, retcode.OAuthTokenExpired.Errorf("let the user log in again")
	}
	if who, err := s.person(ctx, t.Account); err != nil {
		return nil, 0, err
	} else if who == nil {
		return nil, 0, unknown
	}
	p, err := s.rotate(ctx, t)
	if errors.Is(err, errUsed) {
		return nil, 0, unknown
	}
	return p, t.Account, err
}

type getUserInfoRequest struct {
	AccessToken string `validate:"required" doc:"access token"`
}

type userInfo struct {
	MemberID  int64
	CompanyID int64
	Email     string
	Name      string
	Phone     string
	Kind      string `doc:"main, sub or administrator"`
}

type getUserInfoResponse struct{ Info userInfo }

func (s *Service) getUserInfo(ctx context.Context, _ *action.Call, q *getUserInfoRequest) (*getUserInfoResponse, error) {
	unknown := retcode.AccessTokenNotFound.Errorf("it was never issued, or has been revoked")
	t, err := s.accessRow(ctx, q.AccessToken)
	switch {
	case err != nil:
		return nil, err
	case t == nil:
		return nil, unknown
	case t.ExpiresAt <= s.Clock.Micros():
		return nil, retcode.OAuthTokenExpired.Errorf("get a new one with the refresh token")
	}
	if c, err := s.clientByID(ctx, s.DB.Reader(), t.ClientID); err != nil {
		return nil, err
	} else if c == nil {
		return nil, unknown
	}
	p, err := s.person(ctx, t.Account)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, unknown
	}
	return &getUserInfoResponse{userInfo{MemberID: t.Account, CompanyID: p.Company, Email: p.Email, Name: p.Name, Phone: p.Phone, Kind: p.Kind}}, nil
}

type tokenRequest struct {
	ClientID     string `validate:"required" doc:"client id"`
	ClientSecret string `validate:"required" doc:"client secret"`
	Token        string `validate:"required" doc:"access or refresh token"`
}

type tokenInfo struct {
	ClientID   string
	MemberID   int64
	TokenKind  string `doc:"access or refresh"`
	ExpireTime int64  `doc:"unix seconds"`
}

type checkTokenResponse struct{ Info tokenInfo }

// own finds a live token of a client that brings its secret: 600, 603.
func (s *Service) own(ctx context.Context, q *tokenRequest) (*token, error) {
	c, err := s.authenticated(ctx, q.ClientID, q.ClientSecret)
	if err != nil {
		return nil, err
	}
	t, err := s.accessRow(ctx, q.Token)
	if err == nil && t == nil {
		t, err = one[token](ctx, s.DB.Reader(), "kind = ? AND hash = ? AND ended_at = 0", refreshToken, digest(q.Token))
	}
	if err == nil && (t == nil || t.ClientID != c.ID) {
		err = retcode.OAuthTokenNotFound.Errorf("it was never issued to this client, or has been replaced or revoked")
	}
	return t, err
}

func (s *Service) checkToken(ctx context.Context, _ *action.Call, q *tokenRequest) (*checkTokenResponse, error) {
	t, err := s.own(ctx, q)
	if err != nil {
		return nil, err
	}
	if t.ExpiresAt <= s.Clock.Micros() {
		return nil, retcode.OAuthTokenExpired.Errorf("it was valid until %d", t.ExpiresAt/1e6)
	}
	return &checkTokenResponse{tokenInfo{t.ClientID, t.Account, t.Kind, t.ExpiresAt / 1e6}}, nil
}

func (s *Service) revokeToken(ctx context.Context, _ *action.Call, q *tokenRequest) (*action.Empty, error) {
	t, err := s.own(ctx, q)
	if err != nil {
		return nil, err
	}
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.endFamily(ctx, tx, t.Family) })
}
