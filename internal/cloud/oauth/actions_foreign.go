package oauth

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

func (s *Service) foreignActions() []action.Action {
	spec := func(name, summary string) action.Spec {
		return action.Spec{Name: name, Module: "account", Summary: summary, Region: action.RegionNone, Extension: true}
	}
	anonymous := func(name, summary string, mutates bool) action.Spec {
		x := spec(name, summary)
		x.Anonymous, x.Mutates = true, mutates
		return x
	}
	admin := spec("UpdateSSOConfig", "Configure the login with a foreign provider.")
	admin.Admin, admin.System, admin.Mutates = true, true, true
	tie := spec("UpdateMemberOAuth2UniqueID", "Tie an account to a foreign identity.")
	tie.Mutates = true
	return []action.Action{
		action.Define(anonymous("GetSSOConfig", "Return the foreign login configuration, for the login page without the secret.", false), s.getConfig),
		action.Define(admin, s.updateConfig),
		action.Define(anonymous("StartOAuthLogin", "Return the address of the foreign provider to go to.", false), s.startLogin),
		action.Define(anonymous("LoginByOAuth", "Log in with the code of the foreign provider.", true), s.loginByOAuth),
		action.Define(tie, s.updateUniqueID),
	}
}

type configInfo struct {
	Enable        bool
	Name          string `doc:"text of the button"`
	AuthorizeURL  string
	TokenURL      string
	UserInfoURL   string
	ClientID      string
	ResponseType  string
	Scope         string
	UniqueIDField string
}

type getConfigResponse struct{ Info configInfo }

func (s *Service) getConfig(ctx context.Context, _ *action.Call, _ *struct{}) (*getConfigResponse, error) {
	f, err := s.foreign(ctx)
	if err != nil {
		return nil, err
	}
	return &getConfigResponse{configInfo{f.Enable, f.Name, f.AuthorizeURL, f.TokenURL, f.UserInfoURL, f.ClientID, f.ResponseType, f.Scope, f.UniqueIDField}}, nil
}

type updateConfigRequest struct {
	Enable        *bool   `validate:"required" doc:"offer the login"`
	Name          *string `validate:"omitempty,max=63" doc:"text of the button"`
	AuthorizeURL  *string `validate:"omitempty,max=2000" doc:"where browsers are sent"`
	TokenURL      *string `validate:"omitempty,max=2000" doc:"where codes are redeemed"`
	UserInfoURL   *string `validate:"omitempty,max=2000" doc:"where it is asked who somebody is"`
	ClientID      *string `validate:"omitempty,max=500" doc:"ours at the provider"`
	ClientSecret  *string `validate:"omitempty,max=2000" doc:"ours at the provider; left out: as it is"`
	ResponseType  string  `default:"code" validate:"oneof=code" doc:"code"`
	Scope         *string `validate:"omitempty,max=500" doc:"space separated, as openid email"`
	UniqueIDField string  `default:"email" validate:"max=100" doc:"field of the user's information, matched with e-mail or OAuth2UniqueID"`
}

func (s *Service) updateConfig(ctx context.Context, _ *action.Call, q *updateConfigRequest) (*action.Empty, error) {
	f, err := s.foreign(ctx)
	if err != nil {
		return nil, err
	}
	f.Enable, f.ResponseType, f.UniqueIDField = *q.Enable, q.ResponseType, q.UniqueIDField
	for field, v := range map[*string]*string{&f.Name: q.Name, &f.AuthorizeURL: q.AuthorizeURL, &f.TokenURL: q.TokenURL, &f.UserInfoURL: q.UserInfoURL,
		&f.ClientID: q.ClientID, &f.ClientSecret: q.ClientSecret, &f.Scope: q.Scope} {
		if v != nil {
			*field = *v
		}
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	return nil, s.setForeign(ctx, f)
}

type startLoginRequest struct {
	RedirectURI string `validate:"max=2000" doc:"where the provider sends the browser back to, below this endpoint's address"`
}

type startLoginResponse struct {
	URL   string `doc:"where the browser is to go"`
	State string `doc:"the browser keeps it and compares what comes back"`
}

func (s *Service) startLogin(ctx context.Context, _ *action.Call, q *startLoginRequest) (*startLoginResponse, error) {
	address, state, err := s.begin(ctx, q.RedirectURI)
	return &startLoginResponse{address, state}, err
}

type loginByOAuthRequest struct {
	Code  string `validate:"required,max=4000" doc:"of the provider"`
	State string `validate:"required,max=200" doc:"of StartOAuthLogin"`
}

type loginByOAuthResponse struct {
	CompanyID    int64
	MemberID     int64
	Email        string
	SSOToken     string `doc:"of the session; empty: a second factor is wanted"`
	ExpireTime   int64  `doc:"unix seconds"`
	PendingNonce string `doc:"for VerifyFactor"`
}

func (s *Service) loginByOAuth(ctx context.Context, c *action.Call, q *loginByOAuthRequest) (*loginByOAuthResponse, error) {
	l, err := s.finish(ctx, c, q.Code, q.State)
	if err != nil {
		return nil, err
	}
	if l.Token != "" {
		c.SessionCookie = &l.Token
	}
	return &loginByOAuthResponse{l.Company, l.Account, l.Email, l.Token, l.Expires, l.Nonce}, nil
}

type updateUniqueIDRequest struct {
	MemberID       int64  `validate:"required" doc:"account id"`
	OAuth2UniqueID string `validate:"required,max=254" doc:"who the account is at the foreign provider"`
}

func (s *Service) updateUniqueID(ctx context.Context, c *action.Call, q *updateUniqueIDRequest) (*action.Empty, error) {
	return nil, s.Identity.TieOAuthID(ctx, c, q.MemberID, q.OAuth2UniqueID)
}
