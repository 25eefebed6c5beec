package action

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type seen struct {
	IP      string
	Secure  bool
	Account int64
}

// sessionTable shows what a handler sees, and makes cookies.
var sessionTable = []Action{
	Define(Spec{Name: "Look", Module: "account", Region: RegionNone, Anonymous: true, Optional: true}, func(_ context.Context, c *Call, _ *struct{}) (*seen, error) {
		return &seen{c.ClientIP.String(), c.Secure, c.Caller.Account}, nil
	}),
	Define(Spec{Name: "Login", Module: "account", Region: RegionNone, Anonymous: true}, func(_ context.Context, c *Call, q *struct{ Token string }) (*Empty, error) {
		if q.Token == "bad" {
			return nil, retcode.WrongPassword.Errorf("no")
		}
		c.SessionCookie = &q.Token
		return nil, nil
	}),
	Define(Spec{Name: "Change", Module: "vm", Region: RegionOptional, Mutates: true}, func(context.Context, *Call, *struct{}) (*Empty, error) { return nil, nil }),
	Define(Spec{Name: "ChangeOwn", Module: "account", Region: RegionNone, Mutates: true, Personal: true}, func(context.Context, *Call, *struct{}) (*Empty, error) { return nil, nil }),
	Define(Spec{Name: "Recharge", Module: "billing", Region: RegionNone, Admin: true, System: true}, func(context.Context, *Call, *ownCompany) (*Empty, error) { return nil, nil }),
	Define(Spec{Name: "Broken", Module: "account", Region: RegionNone, Anonymous: true, Failure: retcode.InternalError}, func(context.Context, *Call, *struct{}) (*Empty, error) {
		return nil, context.DeadlineExceeded
	}),
}

// request to a handler of sessionTable whose session token is the caller's name.
func request(t *testing.T, o Options, callers map[string]Caller, change func(*http.Request), query string) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	o.Authenticator = keys{}
	o.Session = func(_ context.Context, token string) (*Caller, error) {
		if c, ok := callers[token]; ok {
			return &c, nil
		}
		return nil, nil
	}
	r := httptest.NewRequest("GET", "http://console/api?"+query, nil)
	r.RemoteAddr = "192.0.2.1:1000"
	r.Header.Set("Referer", "http://console/")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	NewHandler(sessionTable, o).ServeHTTP(w, r)
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	return w, body
}

func TestWhereRequestsComeFrom(t *testing.T) {
	proxies := Options{Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	for what, k := range map[string]struct {
		o       Options
		peer    string
		headers map[string]string
		ip      string
		secure  bool
	}{
		"a header of a stranger is not believed":   {Options{}, "192.0.2.1:1", map[string]string{"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Proto": "https"}, "192.0.2.1", false},
		"that of a proxy is":                       {proxies, "192.0.2.1:1", map[string]string{"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Proto": "https"}, "10.0.0.1", true},
		"what stands before is the client's claim": {proxies, "192.0.2.1:1", map[string]string{"X-Forwarded-For": "127.0.0.1, 10.0.0.1, 192.0.2.9"}, "10.0.0.1", false},
		"through a proxy loopback is no excuse":    {proxies, "192.0.2.1:1", map[string]string{"X-Forwarded-For": "127.0.0.1"}, "127.0.0.1", false},
		"nonsense":                                 {proxies, "192.0.2.1:1", map[string]string{"X-Forwarded-For": "nobody"}, "192.0.2.1", false},
		"this machine":                             {Options{}, "[::1]:1", nil, "::1", true},
	} {
		_, body := request(t, k.o, nil, func(r *http.Request) {
			r.RemoteAddr = k.peer
			for name, v := range k.headers {
				r.Header.Set(name, v)
			}
		}, "Action=Look")
		if body["IP"] != k.ip || body["Secure"] != k.secure {
			t.Errorf("%s: %v", what, body)
		}
	}
}

func TestSessionCookies(t *testing.T) {
	_, body := request(t, Options{}, nil, nil, "Action=Login&Token=bad")
	if body["RetCode"] != float64(retcode.WrongPassword) {
		t.Errorf("%v", body)
	}
	for _, k := range []struct {
		token, proto, want string
	}{
		{"t0ken", "http", "ssotoken=t0ken; Path=/; HttpOnly; SameSite=Strict"},
		{"t0ken", "https", "__Host-ssotoken=t0ken; Path=/; HttpOnly; Secure; SameSite=Strict"},
		{"", "https", "__Host-ssotoken=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict"},
	} {
		w, _ := request(t, Options{Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, nil,
			func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", k.proto) }, "Action=Login&Token="+k.token)
		if got := w.Header().Get("Set-Cookie"); got != k.want {
			t.Errorf("the cookie is %q, want %q", got, k.want)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Error("an answer with a token may be kept")
		}
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	callers := map[string]Caller{
		"tenant":   {Account: 1, Company: 2, Regions: []string{"cn"}},
		"system":   {Account: 3, Company: 4, Admin: true},
		"region":   {Account: 5, Company: 4, Admin: true, Regions: []string{"cn"}},
		"reader":   {Account: 6, Company: 4, Admin: true, ReadOnly: true},
		"locked":   {Account: 7, Locked: true},
		"elsewere": {Account: 8, Company: 2, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"here":     {Account: 9, Company: 2, Allowed: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}},
	}
	for _, k := range []struct {
		who, query string
		code       retcode.Code
	}{
		{"tenant", "Action=Change", retcode.OK},
		{"tenant", "Action=Change&Region=cn", retcode.OK},
		{"tenant", "Action=Change&Region=far", retcode.ActionForbidden},
		{"tenant", "Action=Recharge&CompanyID=1", retcode.AdminOnly},
		{"system", "Action=Recharge&CompanyID=1", retcode.OK},
		{"system", "Action=Recharge", retcode.MissingCompanyID},
		{"system", "Action=Change&Region=far", retcode.OK},
		{"region", "Action=Recharge&CompanyID=1", retcode.ActionForbidden},
		{"region", "Action=Change&Region=cn", retcode.OK},
		{"region", "Action=Change&Region=far", retcode.ActionForbidden},
		{"reader", "Action=Change", retcode.ActionForbidden},
		{"reader", "Action=ChangeOwn", retcode.OK},
		{"locked", "Action=Change", retcode.AccountNotActivated},
		{"elsewere", "Action=Change", retcode.IPNotInWhitelist},
		{"here", "Action=Change", retcode.OK},
		{"nobody", "Action=Change", retcode.SSOTokenInvalid},
		{"nobody", "Action=Look", retcode.OK}, // a session that is over is none
		{"elsewere", "Action=Look", retcode.IPNotInWhitelist},
		{"", "Action=Broken", retcode.InternalError},
	} {
		_, body := request(t, Options{}, callers, nil, k.query+"&ssotoken="+k.who)
		if body["RetCode"] != float64(k.code) {
			t.Errorf("%s %s: %v, want %d", k.who, k.query, body, k.code)
		}
	}
	_, body := request(t, Options{}, callers, nil, "Action=Look&ssotoken=tenant")
	if body["Account"] != float64(1) {
		t.Errorf("an optional credential is not seen: %v", body)
	}
}
