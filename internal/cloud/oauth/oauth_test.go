package oauth_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/lingyun-cloud/lingyun/internal/cloud/oauth"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

const redirect = "http://127.0.0.1:9/callback"

// app is an application that relies on the provider, made of libraries that know nothing of it.
type app struct {
	c        *controllertest.Cloud
	id       string
	secret   string
	issuer   string
	provider *oidc.Provider
	config   oauth2.Config
}

func newApp(t *testing.T, c *controllertest.Cloud) *app {
	t.Helper()
	r := c.Admin.Must(t, "CreateOAuthClient", P{"Name": "wiki", "RedirectURIs": []string{redirect, "https://wiki.example.com/cb"}})
	a := &app{c: c, id: r.String("ClientID"), secret: r.String("ClientSecret"), issuer: strings.TrimSuffix(c.Controller.URL, "/api") + oauth.Path}
	var err error
	if a.provider, err = oidc.NewProvider(t.Context(), a.issuer); err != nil { // discovery
		t.Fatal(err)
	}
	a.config = oauth2.Config{ClientID: a.id, ClientSecret: a.secret, RedirectURL: redirect, Endpoint: a.provider.Endpoint(),
		Scopes: []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess}}
	return a
}

// browser follows no redirect and keeps cookies.
func browser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// visit gets a page and returns status, where it sends the browser, and its text.
func visit(t *testing.T, b *http.Client, r *http.Response, err error) (status int, to *url.URL, body string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if l := r.Header.Get("Location"); l != "" {
		if to, err = r.Request.URL.Parse(l); err != nil {
			t.Fatal(err)
		}
	}
	return r.StatusCode, to, string(text)
}

var hidden = regexp.MustCompile(`name="(request|stamp)" value="([^"]*)"`)

// form reads the login page's hidden fields.
func form(body string) url.Values {
	f := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(body, -1) {
		f.Set(m[1], m[2])
	}
	return f
}

// login goes the whole way of a browser and returns what the application gets.
func (a *app) login(t *testing.T, who *controllertest.Client, verifier string) url.Values {
	t.Helper()
	b := browser(t)
	r, err := b.Get(a.config.AuthCodeURL("st&te", oauth2.S256ChallengeOption(verifier), oidc.Nonce("n-1")))
	status, page, body := visit(t, b, r, err)
	if status != http.StatusFound || page == nil || !strings.HasPrefix(page.String(), a.issuer+"/login?") {
		t.Fatalf("authorize answers %d, %v: %s", status, page, body)
	}
	r, err = b.Get(page.String())
	status, _, body = visit(t, b, r, err)
	if status != http.StatusOK || !strings.Contains(body, "wiki") {
		t.Fatalf("the login page answers %d: %s", status, body)
	}
	f := form(body)
	f.Set("email", who.Email)
	f.Set("password", "Wrong-123")
	r, err = b.PostForm(page.String(), f)
	status, _, body = visit(t, b, r, err)
	if status != http.StatusForbidden {
		t.Fatalf("a wrong password answers %d", status)
	}
	f = form(body)
	f.Set("email", who.Email)
	f.Set("password", who.Password)
	r, err = b.PostForm(a.issuer+"/login", f)
	status, to, body := visit(t, b, r, err)
	if status != http.StatusSeeOther || !strings.HasPrefix(to.String(), redirect+"?") {
		t.Fatalf("the login answers %d, %v: %s", status, to, body)
	}
	return to.Query()
}

func TestProvider(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		a, who := newApp(t, c), c.NewTenant(t)
		verifier := oauth2.GenerateVerifier()
		q := a.login(t, who, verifier)
		if q.Get("state") != "st&te" || q.Get("iss") != a.issuer {
			t.Errorf("the application gets %v", q)
		}
		// Without its verifier, or with another, a code is worth nothing, and still whole afterwards.
		if _, err := a.config.Exchange(t.Context(), q.Get("code")); err == nil {
			t.Error("a code was redeemed without its verifier")
		}
		if _, err := a.config.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(oauth2.GenerateVerifier())); err == nil {
			t.Error("a code was redeemed with another verifier")
		}
		tokens, err := a.config.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := tokens.Extra("id_token").(string)
		id, err := a.provider.Verifier(&oidc.Config{ClientID: a.id}).Verify(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			Email string
			Nonce string
		}
		if err := id.Claims(&claims); err != nil || claims.Email != who.Email || claims.Nonce != "n-1" {
			t.Errorf("claims %+v, %v", claims, err)
		}
		info, err := a.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(tokens))
		if err != nil || info.Email != who.Email || info.Subject != id.Subject {
			t.Errorf("user info %+v, %v", info, err)
		}
		// Refreshing replaces the refresh token.
		renewed, err := a.config.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tokens.RefreshToken}).Token()
		if err != nil || renewed.RefreshToken == tokens.RefreshToken || renewed.RefreshToken == "" {
			t.Fatalf("refreshed: %v", err)
		}
		// A replaced one that comes again ends all that came of the authorization (RFC 9700).
		if _, err := a.config.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tokens.RefreshToken}).Token(); err == nil {
			t.Error("a replaced refresh token was taken")
		}
		if _, err := a.config.TokenSource(t.Context(), &oauth2.Token{RefreshToken: renewed.RefreshToken}).Token(); err == nil {
			t.Error("its successor lives on")
		}
		if _, err := a.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(renewed)); err == nil {
			t.Error("its access token lives on")
		}
		// A code that comes again ends what it gave.
		q = a.login(t, who, verifier)
		tokens, err = a.config.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.config.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(verifier)); err == nil {
			t.Error("a code was redeemed twice")
		}
		if _, err := a.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(tokens)); err == nil {
			t.Error("what a replayed code gave lives on")
		}
		// Revoked and introspected by the standard's endpoints; another client learns nothing.
		q = a.login(t, who, verifier)
		tokens, err = a.config.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		active := func(by *app) bool {
			t.Helper()
			r, err := http.NewRequest(http.MethodPost, a.issuer+"/introspect", strings.NewReader(url.Values{"token": {tokens.AccessToken}}.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.SetBasicAuth(by.id, by.secret)
			w, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Body.Close()
			var answer struct{ Active bool }
			if err := json.NewDecoder(w.Body).Decode(&answer); err != nil {
				t.Fatal(err)
			}
			return answer.Active
		}
		other := newApp(t, c)
		if !active(a) || active(other) {
			t.Errorf("introspection: own %v, other %v", active(a), active(other))
		}
		w, err := http.PostForm(a.issuer+"/revoke", url.Values{"token": {tokens.RefreshToken}, "client_id": {a.id}, "client_secret": {a.secret}})
		if err != nil || w.StatusCode != http.StatusOK {
			t.Fatalf("revocation: %v %v", w, err)
		}
		w.Body.Close()
		if active(a) {
			t.Error("a revoked token is active")
		}
		// A frozen tenant's tokens are worth nothing.
		q = a.login(t, who, verifier)
		tokens, err = a.config.Exchange(t.Context(), q.Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		if err := freeze(t, db, who.Company); err != nil {
			t.Fatal(err)
		}
		if _, err := a.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(tokens)); err == nil {
			t.Error("a frozen account's token is taken")
		}
		if _, err := a.config.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tokens.RefreshToken}).Token(); err == nil {
			t.Error("a frozen account's token is refreshed")
		}
	})
}

// TestProviderRefuses: the negative cases of RFC 7636 and RFC 9700.
func TestProviderRefuses(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	a := newApp(t, c)
	challenge := oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())
	right := url.Values{"client_id": {a.id}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"openid"}, "state": {"s"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}}
	for what, x := range map[string]struct {
		name, value string
		back        bool // the application is told; else only the person, since the address is not to be trusted
	}{
		"no challenge":             {"code_challenge", "", true},
		"a plain challenge":        {"code_challenge_method", "plain", true},
		"no method":                {"code_challenge_method", "", true},
		"the implicit grant":       {"response_type", "id_token token", false},
		"a token in the address":   {"response_type", "token", false},
		"a prefix of the address":  {"redirect_uri", redirect + "/more", false},
		"another host":             {"redirect_uri", "http://evil.example.com/callback", false},
		"no address":               {"redirect_uri", "", false},
		"an unknown client":        {"client_id", "client-nobody", false},
		"silent authentication":    {"prompt", "none", true},
		"a script as the address":  {"redirect_uri", "javascript:alert(1)", false},
		"another port of loopback": {"redirect_uri", "http://127.0.0.1:10/callback", false},
	} {
		q := url.Values{}
		for k, v := range right {
			q[k] = v
		}
		q.Set(x.name, x.value)
		if x.value == "" {
			q.Del(x.name)
		}
		b := browser(t)
		r, err := b.Get(a.issuer + "/authorize?" + q.Encode())
		status, to, body := visit(t, b, r, err)
		told := to != nil && strings.HasPrefix(to.String(), redirect+"?") && to.Query().Get("error") != "" && to.Query().Get("code") == ""
		if x.back != told || !x.back && (to != nil || status < 400) {
			t.Errorf("%s: %d, %v, %s", what, status, to, body)
		}
	}
	for what, f := range map[string]url.Values{
		"the password grant":       {"grant_type": {"password"}, "username": {c.Demo.Email}, "password": {c.Demo.Password}},
		"the clients' own grant":   {"grant_type": {"client_credentials"}, "scope": {"openid"}},
		"an invented code":         {"grant_type": {"authorization_code"}, "code": {"x"}, "redirect_uri": {redirect}, "code_verifier": {"y"}},
		"an invented refresh":      {"grant_type": {"refresh_token"}, "refresh_token": {"x"}},
		"an empty refresh":         {"grant_type": {"refresh_token"}, "refresh_token": {""}},
		"no grant":                 {},
		"an exchange of tokens":    {"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {"x"}, "subject_token_type": {"y"}},
		"a signed assertion":       {"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {"x.y.z"}},
		"a code of a device login": {"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {"x"}},
	} {
		f.Set("client_id", a.id)
		f.Set("client_secret", a.secret)
		w, err := http.PostForm(a.issuer+"/token", f)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Error       string `json:"error"`
			AccessToken string `json:"access_token"`
		}
		if err := json.NewDecoder(w.Body).Decode(&answer); err != nil || answer.Error == "" || answer.AccessToken != "" || w.StatusCode < 400 || w.StatusCode >= 500 {
			t.Errorf("%s: %d %+v %v", what, w.StatusCode, answer, err)
		}
		w.Body.Close()
	}
	// The login page belongs to the browser that got it, and is in no frame.
	b, stranger := browser(t), browser(t)
	r, err := b.Get(a.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
	_, page, _ := visit(t, b, r, err)
	r, err = b.Get(page.String())
	if err == nil && (r.Header.Get("X-Frame-Options") != "DENY" || !strings.Contains(r.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'")) {
		t.Errorf("headers of the login page: %v", r.Header)
	}
	_, _, body := visit(t, b, r, err)
	f := form(body)
	f.Set("email", c.Demo.Email)
	f.Set("password", c.Demo.Password)
	r, err = stranger.PostForm(a.issuer+"/login", f)
	if status, to, _ := visit(t, stranger, r, err); status != http.StatusForbidden || to != nil {
		t.Errorf("a form from another site answers %d, %v", status, to)
	}
	// Whoever began the request cannot fetch what a person's login gave.
	r, err = b.PostForm(a.issuer+"/login", f)
	if status, to, _ := visit(t, b, r, err); status != http.StatusSeeOther || to.Query().Get("code") == "" {
		t.Fatalf("the login answers %d, %v", status, to)
	}
	r, err = stranger.Get(a.issuer + "/authorize/callback?id=" + url.QueryEscape(f.Get("request")))
	if _, to, _ := visit(t, stranger, r, err); to != nil && to.Query().Get("code") != "" {
		t.Error("the code was given a second time, to a stranger")
	}
}

// TestTokensOfTheAPI: codes and tokens through the Action API, and each code of its failures.
func TestTokensOfTheAPI(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		a, other, anybody := newApp(t, c), newApp(t, c), c.Anybody()
		who := c.NewTenant(t)
		session := c.Session(t, who.Email, who.Password)
		ask := P{"ClientID": a.id, "ResponseType": "code", "RedirectURI": redirect, "State": "s"}
		with := func(p P, more P) P {
			q := P{}
			for k, v := range p {
				q[k] = v
			}
			for k, v := range more {
				q[k] = v
			}
			return q
		}
		session.Refuse(t, retcode.OAuthClientNotFound, "CreateOAuthCode", with(ask, P{"ClientID": "client-x"}))
		session.Refuse(t, retcode.OAuthLoginFailed, "CreateOAuthCode", with(ask, P{"RedirectURI": redirect + "x"}))
		who.Refuse(t, retcode.SSOTokenInvalid, "CreateOAuthCode", ask) // signed with a key
		code := session.Must(t, "CreateOAuthCode", ask)
		if u, err := url.Parse(code.String("RedirectURL")); err != nil || u.Query().Get("code") != code.String("Code") || u.Query().Get("state") != "s" {
			t.Errorf("where to go: %s", code.String("RedirectURL"))
		}
		swap := P{"GrantType": "authorization_code", "ClientID": a.id, "ClientSecret": a.secret, "Code": code.String("Code"), "RedirectURI": redirect}
		anybody.Refuse(t, retcode.OAuthClientNotFound, "GetOAuthToken", with(swap, P{"ClientSecret": "wrong"}))
		anybody.Refuse(t, retcode.OAuthClientNotFound, "GetOAuthToken", with(swap, P{"ClientID": "client-x"}))
		anybody.Refuse(t, retcode.InvalidAuthorizationCode, "GetOAuthToken", with(swap, P{"ClientID": other.id, "ClientSecret": other.secret}))
		anybody.Refuse(t, retcode.InvalidAuthorizationCode, "GetOAuthToken", with(swap, P{"RedirectURI": "https://wiki.example.com/cb"}))
		anybody.Refuse(t, retcode.OAuthCodeNotFound, "GetOAuthToken", with(swap, P{"Code": "never"}))
		anybody.Refuse(t, retcode.MissingParameter, "GetOAuthToken", with(swap, P{"Code": ""}))
		tokens := anybody.Must(t, "GetOAuthToken", swap)
		info := anybody.Must(t, "GetOAuthUserInfo", P{"AccessToken": tokens.String("AccessToken")}).Body["Info"].(map[string]any)
		if controllertest.Info(info).Int("MemberID") != int(who.Account) || info["Email"] != who.Email || info["Kind"] != "main" {
			t.Errorf("who it is: %v", info)
		}
		// The standard's endpoints take the same tokens.
		if u, err := a.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: tokens.String("AccessToken")})); err != nil || u.Email != who.Email {
			t.Errorf("user info of the standard: %+v, %v", u, err)
		}
		mine := P{"ClientID": a.id, "ClientSecret": a.secret}
		for kind, field := range map[string]string{"access": "AccessToken", "refresh": "RefreshToken"} {
			info := anybody.Must(t, "CheckOAuthToken", with(mine, P{"Token": tokens.String(field)})).Body["Info"].(map[string]any)
			if info["TokenKind"] != kind || info["ClientID"] != a.id {
				t.Errorf("%s: %v", field, info)
			}
			anybody.Refuse(t, retcode.OAuthTokenNotFound, "CheckOAuthToken", P{"ClientID": other.id, "ClientSecret": other.secret, "Token": tokens.String(field)})
		}
		renew := P{"GrantType": "refresh_token", "ClientID": a.id, "ClientSecret": a.secret, "RefreshToken": tokens.String("RefreshToken")}
		anybody.Refuse(t, retcode.OAuthTokenNotFound, "GetOAuthToken", with(renew, P{"RefreshToken": "never"}))
		renewed := anybody.Must(t, "GetOAuthToken", renew)
		anybody.Refuse(t, retcode.AccessTokenNotFound, "GetOAuthUserInfo", P{"AccessToken": "never"})
		// Time goes by.
		c.Clock.Advance(oauth.AccessLife + time.Second)
		anybody.Refuse(t, retcode.OAuthTokenExpired, "GetOAuthUserInfo", P{"AccessToken": renewed.String("AccessToken")})
		anybody.Refuse(t, retcode.OAuthTokenExpired, "CheckOAuthToken", with(mine, P{"Token": renewed.String("AccessToken")}))
		c.Clock.Advance(oauth.RefreshLife)
		anybody.Refuse(t, retcode.OAuthTokenExpired, "GetOAuthToken", with(renew, P{"RefreshToken": renewed.String("RefreshToken")}))

		session = c.Session(t, who.Email, who.Password)
		late := session.Must(t, "CreateOAuthCode", ask).String("Code")
		c.Clock.Advance(oauth.CodeLife + time.Second)
		anybody.Refuse(t, retcode.InvalidAuthorizationCode, "GetOAuthToken", with(swap, P{"Code": late}))
		session = c.Session(t, who.Email, who.Password)
		swap["Code"] = session.Must(t, "CreateOAuthCode", ask).String("Code")
		tokens = anybody.Must(t, "GetOAuthToken", swap)
		anybody.Must(t, "RevokeOAuthToken", with(mine, P{"Token": tokens.String("RefreshToken")}))
		anybody.Refuse(t, retcode.AccessTokenNotFound, "GetOAuthUserInfo", P{"AccessToken": tokens.String("AccessToken")})
		anybody.Refuse(t, retcode.OAuthTokenNotFound, "RevokeOAuthToken", with(mine, P{"Token": tokens.String("RefreshToken")}))
		// A code serves once; its second use ends what the first gave.
		swap["Code"] = session.Must(t, "CreateOAuthCode", ask).String("Code")
		tokens = anybody.Must(t, "GetOAuthToken", swap)
		anybody.Refuse(t, retcode.OAuthCodeNotFound, "GetOAuthToken", swap)
		anybody.Refuse(t, retcode.AccessTokenNotFound, "GetOAuthUserInfo", P{"AccessToken": tokens.String("AccessToken")})

		// A login may be for a client at once.
		door := c.Anybody()
		door.Header = controllertest.Plain
		login := with(controllertest.Login(who.Email, who.Password), ask)
		door.Refuse(t, retcode.OAuthClientNotFound, "LoginByPassword", with(login, P{"ClientID": "client-x"}))
		door.Refuse(t, retcode.OAuthLoginFailed, "LoginByPassword", with(login, P{"RedirectURI": "https://evil.example.com/"}))
		door.Refuse(t, retcode.OAuthLoginFailed, "LoginByPassword", with(login, P{"State": ""}))
		door.Refuse(t, retcode.OAuthLoginFailed, "LoginByPassword", with(login, P{"ResponseType": "token"}))
		l := door.Must(t, "LoginByPassword", login)
		swap["Code"] = l.String("Code")
		if l.String("State") != "s" || anybody.Must(t, "GetOAuthToken", swap).String("AccessToken") == "" {
			t.Errorf("a login for a client: %v", l.Body)
		}

		// Clients are managed by administrators; what they lose, their tokens lose.
		who.Refuse(t, retcode.AdminOnly, "ListOAuthClients", nil)
		c.Admin.Refuse(t, retcode.OAuthClientNotFound, "UpdateOAuthClient", P{"ClientID": "client-x"})
		for what, uris := range map[string][]string{"no https": {"http://wiki.example.com/"}, "a fragment": {"https://wiki.example.com/#x"}, "a script": {"javascript:alert(1)"}, "a user": {"https://me@wiki.example.com/"}} {
			t.Run(what, func(t *testing.T) {
				c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateOAuthClient", P{"ClientID": a.id, "RedirectURIs": uris})
			})
		}
		swap["Code"] = session.Must(t, "CreateOAuthCode", ask).String("Code")
		tokens = anybody.Must(t, "GetOAuthToken", swap)
		c.Admin.Must(t, "UpdateOAuthClient", P{"ClientID": a.id, "State": "Disabled"})
		anybody.Refuse(t, retcode.AccessTokenNotFound, "GetOAuthUserInfo", P{"AccessToken": tokens.String("AccessToken")})
		session.Refuse(t, retcode.OAuthClientNotFound, "CreateOAuthCode", ask)
		c.Admin.Must(t, "UpdateOAuthClient", P{"ClientID": a.id, "State": "Enabled", "Name": "wiki 2"})
		anybody.Must(t, "GetOAuthUserInfo", P{"AccessToken": tokens.String("AccessToken")})
		secret := c.Admin.Must(t, "RotateOAuthClientSecret", P{"ClientID": a.id}).String("ClientSecret")
		anybody.Refuse(t, retcode.OAuthClientNotFound, "CheckOAuthToken", with(mine, P{"Token": tokens.String("AccessToken")}))
		anybody.Must(t, "CheckOAuthToken", P{"ClientID": a.id, "ClientSecret": secret, "Token": tokens.String("AccessToken")})
		if l := c.Admin.Must(t, "ListOAuthClients", P{"Keyword": "WIKI 2"}); l.Int("TotalCount") != 1 || l.Infos()[0].String("ClientSecret") != "" {
			t.Errorf("the list: %v", l.Body)
		}
		c.Admin.Must(t, "DeleteOAuthClient", P{"ClientID": a.id})
		anybody.Refuse(t, retcode.AccessTokenNotFound, "GetOAuthUserInfo", P{"AccessToken": tokens.String("AccessToken")})
	})
}

// company is a provider that somebody else wrote: the plainest that serves.
type company struct {
	*httptest.Server
	info  atomic.Value // what it says of the user
	codes map[string]string
}

func newCompany(t *testing.T) *company {
	p := &company{codes: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		p.codes["the-code"] = q.Get("code_challenge")
		http.Redirect(w, r, q.Get("redirect_uri")+"?code=the-code&state="+url.QueryEscape(q.Get("state")), http.StatusFound)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		_, secret, _ := r.BasicAuth()
		challenge, ok := p.codes[r.FormValue("code")]
		if !ok || secret != "s3cret" || oauth2.S256ChallengeFromVerifier(r.FormValue("code_verifier")) != challenge {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"at","token_type":"Bearer"}`)
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer at" {
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
		json.NewEncoder(w).Encode(p.info.Load())
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func TestLoginWithTheCompanysProvider(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		who, anybody, p := c.NewTenant(t), c.Anybody(), newCompany(t)
		anybody.Refuse(t, retcode.OAuthLoginFailed, "StartOAuthLogin", nil)
		c.Admin.Refuse(t, retcode.MissingParameter, "UpdateSSOConfig", P{"Enable": true})
		who.Refuse(t, retcode.AdminOnly, "UpdateSSOConfig", P{"Enable": false})
		c.Admin.Must(t, "UpdateSSOConfig", P{"Enable": true, "Name": "ACME", "AuthorizeURL": p.URL + "/authorize", "TokenURL": p.URL + "/token",
			"UserInfoURL": p.URL + "/me", "ClientID": "lingyun", "ClientSecret": "s3cret", "Scope": "openid email"})
		config := anybody.Must(t, "GetSSOConfig", nil)
		if text, _ := json.Marshal(config.Body); strings.Contains(string(text), "s3cret") || !strings.Contains(string(text), "ACME") {
			t.Errorf("the configuration shown: %s", text)
		}
		anybody.Refuse(t, retcode.OAuthLoginFailed, "StartOAuthLogin", P{"RedirectURI": "https://evil.example.com/"})
		// go there and come back with a code
		travel := func() P {
			t.Helper()
			start := anybody.Must(t, "StartOAuthLogin", nil)
			b := browser(t)
			r, err := b.Get(start.String("URL"))
			_, to, _ := visit(t, b, r, err)
			if to == nil || to.Query().Get("state") != start.String("State") || !strings.HasPrefix(to.String(), strings.TrimSuffix(c.Controller.URL, "/api")+"/") {
				t.Fatalf("the provider sends the browser to %v", to)
			}
			return P{"Code": to.Query().Get("code"), "State": to.Query().Get("state")}
		}
		p.info.Store(map[string]any{"sub": "42", "email": strings.ToUpper(who.Email), "email_verified": true})
		back := travel()
		anybody.Refuse(t, retcode.OAuthLoginFailed, "LoginByOAuth", P{"Code": back["Code"], "State": "forged"})
		l := anybody.Must(t, "LoginByOAuth", back)
		if l.Int("MemberID") != int(who.Account) || l.String("SSOToken") == "" {
			t.Errorf("logged in: %v", l.Body)
		}
		anybody.Refuse(t, retcode.OAuthLoginFailed, "LoginByOAuth", back) // a state serves once
		anybody.Refuse(t, retcode.OAuthLoginFailed, "LoginByOAuth", P{"Code": "invented", "State": travel()["State"]})
		// An address that the provider does not vouch for, or that nobody has, logs nobody in.
		p.info.Store(map[string]any{"email": who.Email, "email_verified": false})
		anybody.Refuse(t, retcode.OAuthLoginFailed, "LoginByOAuth", travel())
		p.info.Store(map[string]any{"email": "nobody@example.com"})
		anybody.Refuse(t, retcode.OAuthLoginFailed, "LoginByOAuth", travel())
		p.info.Store(map[string]any{"name": "no address"})
		anybody.Refuse(t, retcode.OAuthLoginFailed, "LoginByOAuth", travel())
		// Tied by another field, also a number.
		c.Admin.Must(t, "UpdateSSOConfig", P{"Enable": true, "UniqueIDField": "employee"})
		p.info.Store(map[string]any{"employee": 4711, "email": "whatever@example.com"})
		anybody.Refuse(t, retcode.OAuthLoginFailed, "LoginByOAuth", travel())
		who.Must(t, "UpdateMemberOAuth2UniqueID", P{"MemberID": who.Account, "OAuth2UniqueID": "4711"})
		c.NewTenant(t).Refuse(t, retcode.AccountNotFound, "UpdateMemberOAuth2UniqueID", P{"MemberID": who.Account, "OAuth2UniqueID": "1"})
		another := c.NewTenant(t)
		another.Refuse(t, retcode.InvalidParameter, "UpdateMemberOAuth2UniqueID", P{"MemberID": another.Account, "OAuth2UniqueID": "4711"})
		if l := anybody.Must(t, "LoginByOAuth", travel()); l.Int("MemberID") != int(who.Account) {
			t.Errorf("logged in: %v", l.Body)
		}
		// A frozen account stays out.
		if err := freeze(t, db, who.Company); err != nil {
			t.Fatal(err)
		}
		anybody.Refuse(t, retcode.TenantFrozen, "LoginByOAuth", travel())
	})
}

// TestLoginWithOurOwnProvider: client and provider understand each other, through the standard.
func TestLoginWithOurOwnProvider(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	base := strings.TrimSuffix(c.Controller.URL, "/api")
	r := c.Admin.Must(t, "CreateOAuthClient", P{"Name": "wiki", "RedirectURIs": []string{base + "/login/oauth"}})
	c.Admin.Must(t, "UpdateSSOConfig", P{"Enable": true, "AuthorizeURL": base + "/oauth2/authorize", "TokenURL": base + "/oauth2/token", "UserInfoURL": base + "/oauth2/userinfo",
		"ClientID": r.String("ClientID"), "ClientSecret": r.String("ClientSecret"), "Scope": "openid email"})
	start := c.Anybody().Must(t, "StartOAuthLogin", nil)
	b := browser(t)
	w, err := b.Get(start.String("URL"))
	_, page, _ := visit(t, b, w, err)
	w, err = b.Get(page.String())
	_, _, body := visit(t, b, w, err)
	f := form(body)
	f.Set("email", c.Demo.Email)
	f.Set("password", c.Demo.Password)
	w, err = b.PostForm(base+"/oauth2/login", f)
	_, to, body := visit(t, b, w, err)
	if to == nil {
		t.Fatal(body)
	}
	l := c.Anybody().Must(t, "LoginByOAuth", P{"Code": to.Query().Get("code"), "State": to.Query().Get("state")})
	if l.String("Email") != c.Demo.Email {
		t.Errorf("logged in: %v", l.Body)
	}
}
