package action

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

const (
	examplePublic  = "pk-EXAMPLE0123456789abcdefghijklmnop"
	examplePrivate = "sk-EXAMPLE+/=ZYXWVUTSRQPONMLKJIHGFEDCBA"
	adminPublic    = "pk-admin"
	frozenPublic   = "pk-frozen"
	tenantFrozen   = "pk-tenant-frozen"
	disabledPublic = "pk-disabled"
	brokenPublic   = "pk-broken"
)

type keys struct{}

func (keys) Key(_ context.Context, public string) (*Credential, error) {
	c := &Credential{PrivateKey: examplePrivate, Caller: Caller{Account: 7, Company: 200000230, Email: "demo@example.org"}}
	switch public {
	case examplePublic:
	case adminPublic:
		c.Caller = Caller{Account: 1, Company: 200000231, Admin: true}
	case frozenPublic:
		c.Frozen = true
	case tenantFrozen:
		c.TenantFrozen = true
	case disabledPublic:
		c.Disabled = true
	case brokenPublic:
		return nil, errors.New("the database has gone to s3cret-host")
	default:
		return nil, nil
	}
	return c, nil
}

type gate struct{}

func (gate) Region(_ context.Context, c *Call) error {
	if c.Region != "cn" {
		return retcode.InvalidParameter.Errorf("Region %s", c.Region)
	}
	return nil
}

func (gate) Tenant(_ context.Context, company int64) error {
	if company != 200000230 {
		return retcode.TenantNotFound.Errorf("tenant %d", company)
	}
	return nil
}

type recorder struct {
	mu    sync.Mutex
	calls []string
}

func (r *recorder) Record(_ context.Context, c *Call, s Spec, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf("%s %d %v", s.Name, retcode.Of(err), c.Resources))
}

type part0 struct {
	SetType string `validate:"required"`
	Space   int    `validate:"min=10,max=100" default:"10"`
}

type everything struct {
	Name     string   `validate:"required,min=1,max=30"`
	Count    int      `default:"1" validate:"min=1,max=10"`
	Big      int64    `name:"BigNumber"`
	Ratio    float64  `validate:"min=0"`
	Flag     bool     `default:"true"`
	Optional *int     `validate:"min=5"`
	Kind     string   `validate:"oneof=A B"`
	When     string   `loose:"true"`
	VMIDs    []string `validate:"max=3,dive,max=20"`
	Numbers  []int
	Rule     []string `alias:"Rules"`
	Disks    []part0  `validate:"max=2"`
	Inner    part0
	Project  string `name:"ProjectID"`
	Address  string `validate:"ip"`
	Tenant
	Page
}

type echoed struct {
	Got     everything
	Company int64
	Owner   int64
	Member  int64
	Region  string
	List    []string
	Nested  []struct{ Items []int }
}

type ownCompany struct {
	CompanyID int64 `validate:"required"`
}

var table = []Action{
	Define(Spec{Name: "Echo", Module: "vm"}, func(ctx context.Context, c *Call, q *everything) (*echoed, error) {
		if CallFrom(ctx) != c {
			return nil, errors.New("the context does not know its call")
		}
		return &echoed{Got: *q, Company: c.Company, Owner: c.Owner(), Member: c.Member, Region: c.Region,
			Nested: make([]struct{ Items []int }, 1)}, nil
	}),
	Define(Spec{Name: "DescribeVMInstance", Module: "vm"}, func(ctx context.Context, c *Call, q *struct {
		VMIDs   []string
		Keyword string
		Page
	}) (*struct {
		TotalCount int
		Infos      []string
	}, error) {
		return &struct {
			TotalCount int
			Infos      []string
		}{len(q.VMIDs), q.VMIDs}, nil
	}),
	Define(Spec{Name: "Touch", Module: "vm", Region: RegionOptional, Mutates: true}, func(_ context.Context, c *Call, q *struct{ ID, Remark string }) (*Empty, error) {
		c.AddResource(q.ID)
		if q.Remark == "fail" {
			return nil, retcode.ResourceNotFound.Errorf("ID %s", q.ID)
		}
		c.Audited = q.Remark == "audited"
		return nil, nil
	}),
	Define(Spec{Name: "AdminOnly", Module: "node", Region: RegionNone, Admin: true}, func(context.Context, *Call, *struct{}) (*Empty, error) { return nil, nil }),
	Define(Spec{Name: "Anybody", Module: "common", Region: RegionNone, Anonymous: true}, func(context.Context, *Call, *struct{}) (*Empty, error) { return nil, nil }),
	Define(Spec{Name: "Freeze", Module: "tenant", Region: RegionNone}, func(_ context.Context, c *Call, q *ownCompany) (*struct{ Asked, Acting int64 }, error) {
		return &struct{ Asked, Acting int64 }{q.CompanyID, c.Company}, nil
	}),
	Define(Spec{Name: "Panic", Module: "common", Region: RegionNone, Mutates: true}, func(context.Context, *Call, *struct{}) (*Empty, error) {
		panic("s3cret")
	}),
	Define(Spec{Name: "Break", Module: "common", Region: RegionNone}, func(context.Context, *Call, *struct{}) (*Empty, error) {
		return nil, errors.New("s3cret")
	}),
}

type cloud struct {
	t   *testing.T
	url string
	log *bytes.Buffer
	mu  sync.Mutex
	rec *recorder
}

func (c *cloud) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(p)
}

// logged returns the log when it contains s, waiting for the request to be logged.
func (c *cloud) logged(s string) string {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		text := c.log.String()
		c.mu.Unlock()
		if strings.Contains(text, s) {
			return text
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the log lacks %q:\n%s", s, text)
		}
	}
}

func start(t *testing.T, change func(*Options)) *cloud {
	t.Helper()
	c := &cloud{t: t, log: &bytes.Buffer{}, rec: &recorder{}}
	o := Options{Authenticator: keys{}, Gate: gate{}, Auditor: c.rec, Metrics: prometheus.NewRegistry(),
		Log: slog.New(slog.NewJSONHandler(c, nil))}
	if change != nil {
		change(&o)
	}
	mux := http.NewServeMux()
	NewHandler(table, o).Mount(mux)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

type answered struct {
	Action  string
	RetCode int
	Message string
	fields  map[string]json.RawMessage
	raw     string
	header  http.Header
}

func (c *cloud) do(r *http.Request) answered {
	c.t.Helper()
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer w.Body.Close()
	raw, err := io.ReadAll(w.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if w.StatusCode != 200 {
		c.t.Fatalf("HTTP %d: %s", w.StatusCode, raw)
	}
	a := answered{raw: string(raw), header: w.Header}
	if err := json.Unmarshal(raw, &a); err != nil {
		c.t.Fatalf("%v: %s", err, raw)
	}
	if err := json.Unmarshal(raw, &a.fields); err != nil {
		c.t.Fatal(err)
	}
	if _, ok := a.fields["Message"]; !ok {
		c.t.Errorf("no Message in %s", raw)
	}
	if len(a.header.Get("X-UCLOUD-REQUEST-UUID")) != 36 {
		c.t.Errorf("X-UCLOUD-REQUEST-UUID is %q", a.header.Get("X-UCLOUD-REQUEST-UUID"))
	}
	return a
}

// want compares the code and what the message must name. It records no proof: the products here are
// made up, and codes are proven on a whole controller.
func (c *cloud) want(a answered, code retcode.Code, names ...string) answered {
	c.t.Helper()
	if a.RetCode != int(code) {
		c.t.Fatalf("RetCode %d, want %d: %s", a.RetCode, code, a.raw)
	}
	for _, n := range names {
		if !strings.Contains(a.Message, n) {
			c.t.Errorf("the message does not name %q: %s", n, a.Message)
		}
	}
	return a
}

func get(t *testing.T, u string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", u, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func post(t *testing.T, u, media, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("POST", u, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	return r
}

const (
	form     = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// pairs makes a signed flat request: key, value, key, value. Action and keys are added when missing.
func pairs(kv ...string) url.Values {
	v := map[string]string{paramPublicKey: examplePublic, paramRegion: "cn"}
	for i := 0; i < len(kv); i += 2 {
		v[kv[i]] = kv[i+1]
		if kv[i+1] == "-" {
			delete(v, kv[i])
		}
	}
	if _, ok := v[paramSignature]; !ok {
		v[paramSignature] = Sign(v, examplePrivate)
	}
	out := url.Values{}
	for k, s := range v {
		out.Set(k, s)
	}
	if out.Get(paramSignature) == "none" {
		out.Del(paramSignature)
	}
	return out
}

func (c *cloud) call(kv ...string) answered {
	c.t.Helper()
	return c.do(post(c.t, c.url+"/api", form, pairs(kv...).Encode()))
}

// jsonBody signs a nested JSON body by the rule of conventions 3, written apart from the code under test.
func jsonBody(t *testing.T, fields map[string]any) string {
	t.Helper()
	fields[paramPublicKey] = examplePublic
	if _, ok := fields[paramRegion]; !ok {
		fields[paramRegion] = "cn"
	}
	fields[paramSignature] = Sign(map[string]string{"": nestedText(fields)}, examplePrivate)
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func nestedText(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var names []string
		for k := range v {
			names = append(names, k)
		}
		sortStrings(names)
		var s strings.Builder
		for _, k := range names {
			s.WriteString(k + nestedText(v[k]))
		}
		return s.String()
	case []any:
		var s strings.Builder
		for _, e := range v {
			s.WriteString(nestedText(e))
		}
		return s.String()
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}

func sortStrings(s []string) {
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
}

// The worked examples of conventions 3.
func TestWorkedExamples(t *testing.T) {
	c := start(t, nil)
	query := "Action=DescribeVMInstance&Region=cn&PublicKey=pk-EXAMPLE0123456789abcdefghijklmnop&VMIDs.0=vm-aaaaaaaaaa&VMIDs.1=vm-bbbbbbbbbb&Keyword=web%20%E5%89%8D%E7%AB%AF&Offset=0&Limit=20&Signature=56bab7e28cc188ece4df10c7ba3ce28e7e5e804b"
	want := `{"Action":"DescribeVMInstanceResponse","RetCode":0,"Message":"","TotalCount":2,"Infos":["vm-aaaaaaaaaa","vm-bbbbbbbbbb"]}`
	nested := `{"Action":"DescribeVMInstance","Region":"cn","PublicKey":"pk-EXAMPLE0123456789abcdefghijklmnop","VMIDs":["vm-aaaaaaaaaa","vm-bbbbbbbbbb"],"Keyword":"web 前端","Offset":0,"Limit":20,"Signature":"bef36a9abac609e4d79a0eb5859f4a734dd896d9"}`
	flat := `{"Action":"DescribeVMInstance","Region":"cn","PublicKey":"pk-EXAMPLE0123456789abcdefghijklmnop","VMIDs.0":"vm-aaaaaaaaaa","VMIDs.1":"vm-bbbbbbbbbb","Keyword":"web 前端","Offset":0,"Limit":"20","Signature":"56bab7e28cc188ece4df10c7ba3ce28e7e5e804b"}`
	for name, r := range map[string]*http.Request{
		"GET":            get(t, c.url+"/api?"+query),
		"GET with plus":  get(t, c.url+"/api/?"+strings.Replace(query, "web%20", "web+", 1)),
		"GET root":       get(t, c.url+"/?"+query),
		"POST form":      post(t, c.url+"/api", form+"; charset=gbk", query),
		"POST and query": post(t, c.url+"/api?Action=DescribeVMInstance", form, query),
		"the body wins":  post(t, c.url+"/api?Action=Nothing&Limit=3", form, query),
		"nested JSON":    post(t, c.url+"/api", jsonType+"; charset=utf-8", nested),
		"flat JSON":      post(t, c.url+"/api", jsonType, flat),
		"JSON and query": post(t, c.url+"/api?Action=DescribeVMInstance", jsonType, nested),
		"untyped JSON":   post(t, c.url+"/", "", nested),
		"untyped form":   post(t, c.url+"/", "", query),
	} {
		t.Run(name, func(t *testing.T) {
			c := &cloud{t: t, url: c.url, log: c.log}
			if a := c.want(c.do(r), retcode.OK); a.raw != want {
				t.Errorf("got  %s\nwant %s", a.raw, want)
			}
		})
	}
	t.Run("the forms have different signatures", func(t *testing.T) {
		c := &cloud{t: t, url: c.url, log: c.log}
		c.want(c.do(post(t, c.url+"/api", jsonType, strings.Replace(nested, "bef36a9abac609e4d79a0eb5859f4a734dd896d9", "56bab7e28cc188ece4df10c7ba3ce28e7e5e804b", 1))), retcode.InvalidSignature)
	})
}

func TestEncodings(t *testing.T) {
	c := start(t, nil)
	five := 5
	want := everything{Name: "web 前端", Count: 3, Big: 9007199254740993, Ratio: 42.5, Flag: false, Optional: &five, Kind: "B",
		When: "1700000000", VMIDs: []string{"a", "b"}, Numbers: []int{1, -2}, Rule: []string{"x"},
		Disks: []part0{{"S", 20}, {"T", 10}}, Inner: part0{"U", 30}, Project: "p", Page: Page{Offset: 0, Limit: 7}}
	flat := []string{"Action", "Echo", "Name", "web 前端", "Count", "3", "BigNumber", "9007199254740993", "Ratio", "42.5",
		"Flag", "false", "Optional", "5", "Kind", "B", "When", "1700000000", "VMIDs.0", "a", "VMIDs.1", "b", "Numbers.0", "1",
		"Numbers.1", "-2", "Rules.0", "x", "Disks.0.SetType", "S", "Disks.0.Space", "20", "Disks.1.SetType", "T",
		"Inner.SetType", "U", "Inner.Space", "30", "ProjectId", "p", "Limit", "7", "Offset", "", "Zone", "zone-01", "Unknown", "x"}
	numbers := map[string]any{"Action": "Echo", "Name": "web 前端", "Count": 3, "BigNumber": json.Number("9007199254740993"), "Ratio": 42.5,
		"Flag": false, "Optional": 5, "Kind": "B", "When": 1700000000, "VMIDs": []any{"a", "b"}, "Numbers": []any{1, -2}, "Rule": []any{"x"},
		"Disks": []any{map[string]any{"SetType": "S", "Space": 20}, map[string]any{"SetType": "T", "Space": nil}},
		"Inner": map[string]any{"SetType": "U", "Space": "30"}, "ProjectID": "p", "Limit": "7", "Zone": "zone-01"}
	flatJSON := map[string]any{}
	for i := 0; i < len(flat); i += 2 {
		flatJSON[flat[i]] = flat[i+1]
	}
	for name, r := range map[string]*http.Request{
		"form":        post(t, c.url+"/api", form, pairs(flat...).Encode()),
		"query":       get(t, c.url+"/api?"+pairs(flat...).Encode()),
		"nested JSON": post(t, c.url+"/api", jsonType, jsonBody(t, numbers)),
		"flat JSON":   post(t, c.url+"/api", jsonType, jsonBody(t, flatJSON)),
	} {
		t.Run(name, func(t *testing.T) {
			c := &cloud{t: t, url: c.url, log: c.log}
			a := c.want(c.do(r), retcode.OK)
			var got everything
			if err := json.Unmarshal(a.fields["Got"], &got); err != nil {
				t.Fatal(err)
			}
			// The answer names fields as Go does, the request as the wire does.
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("decoded (-want +got):\n%s", d)
			}
			if string(a.fields["List"]) != "[]" || string(a.fields["Nested"]) != `[{"Items":[]}]` {
				t.Errorf("empty lists are %s and %s", a.fields["List"], a.fields["Nested"])
			}
		})
	}
	t.Run("one bare value is a list of one", func(t *testing.T) {
		c := &cloud{t: t, url: c.url, log: c.log}
		a := c.want(c.call("Action", "DescribeVMInstance", "VMIDs", "vm-1"), retcode.OK)
		if string(a.fields["Infos"]) != `["vm-1"]` {
			t.Errorf("got %s", a.raw)
		}
	})
	t.Run("defaults", func(t *testing.T) {
		c := &cloud{t: t, url: c.url, log: c.log}
		a := c.want(c.call("Action", "Echo", "Name", "n"), retcode.OK)
		var got everything
		if err := json.Unmarshal(a.fields["Got"], &got); err != nil {
			t.Fatal(err)
		}
		if got.Count != 1 || !got.Flag || got.Limit != 20 || got.Optional != nil {
			t.Errorf("got %+v", got)
		}
	})
}

// JSON numbers are signed in their decimal form or as written, never with an exponent of ours.
func TestNumbersInSignatures(t *testing.T) {
	c := start(t, nil)
	for written, signed := range map[string][]string{
		"42.0": {"42", "42.0"}, "42.10": {"42.1", "42.10"}, "1e3": {"1000"}, "1.5E+2": {"150"}, "25e-1": {"2.5"}, "0.0": {"0"}, "12345678901234567890123": {"12345678901234567890123"},
		"-0.0": {"0"}, "1e9999": {"1e9999"},
	} {
		for _, s := range signed {
			sum := Sign(map[string]string{"Action": "DescribeVMInstance", "PublicKey": examplePublic, "Region": "cn", "X": s}, examplePrivate)
			body := fmt.Sprintf(`{"Action":"DescribeVMInstance","PublicKey":"%s","Region":"cn","X":%s,"Signature":"%s"}`, examplePublic, written, sum)
			if a := c.do(post(t, c.url+"/api", jsonType, body)); a.RetCode != 0 {
				t.Errorf("%s signed as %s: %s", written, s, a.raw)
			}
		}
	}
}

func TestOrderOfChecks(t *testing.T) {
	c := start(t, func(o *Options) {
		o.Admit = func(_ context.Context, c *Call) error {
			if c.Caller.Account == 1 && c.Action == "Freeze" {
				return retcode.IPNotInWhitelist.Errorf("address %s", c.ClientIP)
			}
			return nil
		}
		o.Permit = func(_ context.Context, c *Call, s Spec) error {
			if c.Caller.Account == 1 && s.Name == "DescribeVMInstance" {
				return retcode.ActionForbidden.Errorf("%s", s.Name)
			}
			return nil
		}
	})
	c.want(c.do(get(t, c.url+"/api")), retcode.MissingAction, "Action")
	a := c.want(c.do(get(t, c.url+"/api?Action=")), retcode.MissingAction)
	if a.Action != "Response" {
		t.Errorf("Action is %q", a.Action)
	}
	a = c.want(c.do(get(t, c.url+"/api?Action=describevminstance")), retcode.ActionNotFound, "describevminstance")
	if a.Action != "describevminstanceResponse" {
		t.Errorf("Action is %q", a.Action)
	}
	c.want(c.do(get(t, c.url+"/api?Action=Echo")), retcode.MissingPublicKey, "PublicKey")
	c.want(c.call("Action", "Echo", "PublicKey", ""), retcode.MissingPublicKey)
	c.want(c.call("Action", "Echo", "Signature", "none"), retcode.MissingSignature, "PublicKey")
	c.want(c.call("Action", "Echo", "Signature", "56bab7e28cc188ece4df10c7ba3ce28e7e5e804b"), retcode.InvalidSignature, "Signature")
	c.want(c.call("Action", "Echo", "PublicKey", "pk-unknown"), retcode.InvalidSignature)
	c.want(c.call("Action", "Echo", "PublicKey", disabledPublic), retcode.InvalidSignature)
	c.want(c.call("Action", "Echo", "PublicKey", examplePublic+"\x00"), retcode.InvalidSignature)
	c.want(c.call("Action", "Echo", "Region", "c\x00n"), retcode.InvalidParameterFormat, "Region")
	c.want(c.call("Action", "Echo", "PublicKey", frozenPublic, "Region", "-"), retcode.AccountFrozen)
	c.want(c.call("Action", "Echo", "PublicKey", tenantFrozen, "Region", "-"), retcode.TenantFrozen)
	c.want(c.call("Action", "Freeze", "PublicKey", adminPublic), retcode.IPNotInWhitelist, "127.0.0.1")
	c.want(c.call("Action", "Echo", "Region", "-", "CompanyID", "1"), retcode.MissingRegion, "Region")
	c.want(c.call("Action", "Echo", "Region", "mars", "CompanyID", "1"), retcode.InvalidParameter, "mars")
	c.want(c.call("Action", "DescribeVMInstance", "PublicKey", adminPublic, "CompanyID", "x"), retcode.ActionForbidden)
	c.want(c.call("Action", "AdminOnly", "CompanyID", "x"), retcode.AdminOnly)
	c.want(c.call("Action", "AdminOnly", "PublicKey", adminPublic), retcode.OK)
	c.want(c.call("Action", "Echo", "CompanyID", "200000231"), retcode.AdminOnly, "200000231")
	c.want(c.call("Action", "Echo", "MemberID", "8"), retcode.AdminOnly, "8")
	c.want(c.call("Action", "Echo", "PublicKey", adminPublic, "CompanyID", "5"), retcode.TenantNotFound, "5")
	// Missing before malformed before out of range, over all parameters.
	bad := []string{"Action", "Echo", "Count", "99", "Ratio", "x"}
	c.want(c.call(bad...), retcode.MissingParameter, "Name")
	c.want(c.call(append(bad, "Name", "n")...), retcode.InvalidParameterFormat, "Ratio")
	c.want(c.call(append(bad, "Name", "n", "Ratio", "1.5")...), retcode.InvalidParameter, "Count", "1", "10")
	c.want(c.do(get(t, c.url+"/api?Action=Anybody")), retcode.OK)
}

func TestConsoleSessions(t *testing.T) {
	c := start(t, func(o *Options) {
		o.Session = func(_ context.Context, token string) (*Caller, error) {
			if token != "good" {
				return nil, nil
			}
			return &Caller{Account: 9, Company: 200000230}, nil
		}
	})
	ask := func(query, referer, cookie string) answered {
		r := get(t, c.url+"/api?Action=Echo&Region=cn&Name=n"+query)
		if referer != "" {
			r.Header.Set("Referer", referer)
		}
		if cookie != "" {
			r.AddCookie(&http.Cookie{Name: "ssotoken", Value: cookie})
		}
		return c.do(r)
	}
	c.want(ask("", "http://console/", ""), retcode.MissingSSOToken)
	c.want(ask("&ssotoken=", "", ""), retcode.MissingSSOToken)
	c.want(ask("&ssotoken=good", "", ""), retcode.MissingReferer)
	c.want(ask("", "", "good"), retcode.MissingReferer)
	c.want(ask("&ssotoken=bad", "http://console/", ""), retcode.SSOTokenInvalid)
	// A browser sends a cookie by itself, for other sites' pages too; a token it does not.
	c.want(ask("", "http://evil.example/", "good"), retcode.MissingReferer)
	c.want(ask("&ssotoken=good", "http://console/", ""), retcode.OK)
	a := c.want(ask("", c.url+"/", "good"), retcode.OK)
	if string(a.fields["Member"]) != "9" {
		t.Errorf("acts as %s", a.raw)
	}
}

func TestActingForATenant(t *testing.T) {
	c := start(t, nil)
	for _, k := range []struct {
		key, company, member string
		want                 [3]string // company, owner, member
	}{
		{examplePublic, "", "", [3]string{"200000230", "200000230", "7"}},
		{examplePublic, "200000230", "7", [3]string{"200000230", "200000230", "7"}},
		{adminPublic, "", "", [3]string{"0", "200000231", "1"}},
		{adminPublic, "200000230", "7", [3]string{"200000230", "200000230", "7"}},
	} {
		a := c.want(c.call("Action", "Echo", "Name", "n", "PublicKey", k.key, "CompanyID", k.company, "MemberID", k.member), retcode.OK)
		if got := [3]string{string(a.fields["Company"]), string(a.fields["Owner"]), string(a.fields["Member"])}; got != k.want {
			t.Errorf("%+v: got %v", k, got)
		}
	}
	// An action whose own parameter is CompanyID gets it as it is.
	a := c.want(c.call("Action", "Freeze", "CompanyID", "999"), retcode.OK)
	if string(a.fields["Asked"]) != "999" || string(a.fields["Acting"]) != "200000230" {
		t.Errorf("got %s", a.raw)
	}
}

func TestBadValues(t *testing.T) {
	c := start(t, nil)
	for _, k := range []struct {
		code retcode.Code
		kv   []string
		name string
	}{
		{retcode.MissingParameter, []string{"Name", ""}, "Name"},
		{retcode.MissingParameter, []string{"Name", "n", "Disks.0.Space", "20"}, "Disks.0.SetType"},
		{retcode.InvalidParameterFormat, []string{"Name", "a\x00b"}, "Name"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Count", "1.5"}, "Count"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Count", "1e1"}, "Count"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Count", "+1"}, "Count"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Count", "１"}, "Count"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Count", "0x10"}, "Count"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Flag", "yes"}, "Flag"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Ratio", "NaN"}, "Ratio"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Ratio", "1e5"}, "Ratio"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Ratio", "1."}, "Ratio"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "VMIDs.1", "a"}, "VMIDs"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "VMIDs.0", "a", "VMIDs.2", "b"}, "VMIDs"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "VMIDs.N", "a"}, "VMIDs.N"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "VMIDs.00", "a"}, "VMIDs.00"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "VMIDs.-1", "a"}, "VMIDs.-1"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "VMIDs.99999999999999999999", "a"}, "VMIDs"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "VMIDs", "a", "VMIDs.0", "b"}, "VMIDs"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "VMIDs.0.X", "a"}, "VMIDs.0"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Numbers.0", "x"}, "Numbers.0"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Disks", "x"}, "Disks.0"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Inner", "x"}, "Inner"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "Address", "10.0.0.300"}, "Address"},
		{retcode.InvalidParameterFormat, []string{"Name", "n", "CompanyID", "me"}, "CompanyID"},
		{retcode.InvalidParameterFormat, []string{"Name.0", "n"}, "Name"},
		{retcode.InvalidParameter, []string{"Name", "n", "Count", "-1"}, "Count"},
		{retcode.InvalidParameter, []string{"Name", "n", "Count", "0"}, "Count"},
		{retcode.InvalidParameter, []string{"Name", "n", "Count", "99999999999999999999999999"}, "Count"},
		{retcode.InvalidParameter, []string{"Name", "n", "Limit", "101"}, "Limit"},
		{retcode.InvalidParameter, []string{"Name", "n", "Offset", "-1"}, "Offset"},
		{retcode.InvalidParameter, []string{"Name", "n", "Optional", "4"}, "Optional"},
		{retcode.InvalidParameter, []string{"Name", "n", "Ratio", "-0.5"}, "Ratio"},
		{retcode.InvalidParameter, []string{"Name", "n", "Ratio", strings.Repeat("9", 400)}, "Ratio"},
		{retcode.InvalidParameter, []string{"Name", "n", "Kind", "C"}, "A, B"},
		{retcode.InvalidParameter, []string{"Name", strings.Repeat("名", 31)}, "30"},
		{retcode.InvalidParameter, []string{"Name", "n", "VMIDs.0", "a", "VMIDs.1", "a", "VMIDs.2", "a", "VMIDs.3", "a"}, "3"},
		{retcode.InvalidParameter, []string{"Name", "n", "VMIDs.0", strings.Repeat("a", 21)}, "VMIDs.0"},
		{retcode.InvalidParameter, []string{"Name", "n", "Disks.0.SetType", "S", "Disks.0.Space", "9"}, "Disks.0.Space"},
		{retcode.OK, []string{"Name", strings.Repeat("名", 30)}, ""},
		{retcode.OK, []string{"Name", `../../etc/pass'"<&>$(reboot);`}, ""},
	} {
		c.want(c.call(append([]string{"Action", "Echo"}, k.kv...)...), k.code, k.name)
	}
	for _, k := range []struct {
		code   retcode.Code
		fields map[string]any
		name   string
	}{
		{retcode.InvalidParameterFormat, map[string]any{"Name": 5}, "Name"},
		{retcode.InvalidParameterFormat, map[string]any{"Name": []any{"n"}}, "Name"},
		{retcode.InvalidParameterFormat, map[string]any{"Name": "n", "Count": true}, "Count"},
		{retcode.InvalidParameterFormat, map[string]any{"Name": "n", "Count": 1.5}, "Count"},
		{retcode.InvalidParameterFormat, map[string]any{"Name": "n", "Count": json.Number("1e9999")}, "Count"},
		{retcode.InvalidParameterFormat, map[string]any{"Name": "n", "VMIDs": map[string]any{"a": "b"}}, "VMIDs.0"},
		{retcode.InvalidParameterFormat, map[string]any{"Name": "n", "VMIDs": []any{[]any{"a"}}}, "VMIDs.0"},
		{retcode.MissingParameter, map[string]any{"Name": nil}, "Name"},
		{retcode.InvalidParameter, map[string]any{"Name": "n", "Ratio": json.Number("1e999")}, "Ratio"},
		{retcode.OK, map[string]any{"Name": "n", "Count": 2.0, "Flag": "true"}, ""},
	} {
		k.fields["Action"] = "Echo"
		c.want(c.do(post(t, c.url+"/api", jsonType, jsonBody(t, k.fields))), k.code, k.name)
	}
}

func TestBadBodies(t *testing.T) {
	c := start(t, nil)
	for _, k := range []struct {
		code              retcode.Code
		media, body, name string
	}{
		{retcode.InvalidParameterFormat, jsonType, `{"Action":"Echo"`, ""},
		{retcode.InvalidParameterFormat, jsonType, `[1]`, ""},
		{retcode.InvalidParameterFormat, jsonType, `null`, ""},
		{retcode.InvalidParameterFormat, jsonType, `{"Action":"Echo"} {}`, ""},
		{retcode.InvalidParameterFormat, jsonType, "{\"Action\":\"Echo\",\"Name\":\"\xff\"}", "UTF-8"},
		{retcode.InvalidParameterFormat, jsonType, `{"Action":"Echo","Name":"a","Name":"b"}`, "Name"},
		{retcode.InvalidParameterFormat, jsonType, `{"Action":"Echo","X":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `}`, "16"},
		{retcode.InvalidParameterFormat, form, "Action=Echo&Name=a&Name=b", "Name"},
		{retcode.InvalidParameterFormat, form, "Action=Echo&Name=%ff", "Name"},
		{retcode.InvalidParameterFormat, form, "Action=Echo&Name=%zz", "Name"},
		{retcode.InvalidParameterFormat, form, "Action=Echo&%ff=1", "%ff"},
		{retcode.InvalidParameterFormat, "multipart/form-data; boundary=x", "--x--", "application/json"},
		{retcode.InvalidParameter, form, "Action=Echo" + strings.Repeat("&a=b", 10000), "2000"},
		{retcode.InvalidParameter, jsonType, `{"Action":"Echo","X":[` + strings.Repeat("1,", 10000) + `1]}`, "2000"},
		{retcode.InvalidParameter, form, "Action=Echo&Name=" + strings.Repeat("x", 10<<20), "4194304"},
		{retcode.MissingAction, jsonType, `{}`, "Action"},
		{retcode.MissingAction, form, "&&=&", "Action"},
		{retcode.MissingAction, jsonType, `{"Action":["Echo"]}`, "Action"},
		{retcode.MissingAction, "", "\x00\x01\x02", "Action"},
	} {
		a := c.want(c.do(post(t, c.url+"/api", k.media, k.body)), k.code, k.name)
		if strings.Contains(k.body, "Action=Echo") && a.Action != "EchoResponse" {
			t.Errorf("%.40s: Action is %q", k.body, a.Action)
		}
	}
	c.want(c.do(get(t, c.url+"/api?Action="+strings.Repeat("x", 5000))), retcode.ActionNotFound)
	r := post(t, c.url+"/api", form, "Action=Echo")
	r.Header.Set("Content-Encoding", "gzip")
	c.want(c.do(r), retcode.InvalidParameterFormat)
	w, err := http.DefaultClient.Do(func() *http.Request { r, _ := http.NewRequest("DELETE", c.url+"/api", nil); return r }())
	if err != nil || w.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %v %v", w, err)
	}
	if w, err := http.Get(c.url + "/api/other"); err != nil || w.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %v %v", w, err)
	}
}

// A body that ends before its length says so gets no further than the reader.
func TestTruncatedBody(t *testing.T) {
	c := start(t, nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /api?Action=Touch HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\nAction=To", form)
	conn.(*net.TCPConn).CloseWrite()
	raw, _ := io.ReadAll(conn)
	conn.Close()
	if len(raw) > 0 && !strings.Contains(string(raw), `"RetCode":4`) {
		t.Errorf("got %s", raw)
	}
	if len(c.rec.calls) != 0 {
		t.Errorf("recorded %v", c.rec.calls)
	}
}

func TestFailuresOfOurs(t *testing.T) {
	c := start(t, nil)
	for _, kv := range [][]string{{"Action", "Panic"}, {"Action", "Break"}, {"Action", "Echo", "PublicKey", brokenPublic}} {
		a := c.want(c.call(kv...), retcode.ServiceError)
		if strings.Contains(a.raw, "s3cret") {
			t.Errorf("the answer tells the cause: %s", a.raw)
		}
		log := c.logged(a.header.Get("X-UCLOUD-REQUEST-UUID"))
		if !strings.Contains(log, "s3cret") {
			t.Errorf("the log lacks the cause:\n%s", log)
		}
	}
	if got := c.rec.calls; len(got) != 1 || got[0] != "Panic 2 []" {
		t.Errorf("recorded %v", got)
	}
}

func TestLanguages(t *testing.T) {
	c := start(t, nil)
	for header, want := range map[string]string{"": "请求出现错误，缺少Action", "zh-CN,zh;q=0.9,en;q=0.8": "请求出现错误，缺少Action",
		"en-US,en;q=0.9": "Bad request: Action is missing", "fr;q=0.9,en;q=0.5": "Bad request: Action is missing", "ja": "请求出现错误，缺少Action",
		"@@@": "请求出现错误，缺少Action", "*": "请求出现错误，缺少Action"} {
		r := get(t, c.url+"/api")
		r.Header.Set("Accept-Language", header)
		if a := c.do(r); !strings.HasPrefix(a.Message, want) {
			t.Errorf("%q answers %q", header, a.Message)
		}
	}
}

func TestAccessLogAndAudit(t *testing.T) {
	c := start(t, nil)
	c.want(c.call("Action", "Touch", "ID", "vm-1", "Remark", "p4ssw0rd"), retcode.OK)
	c.want(c.call("Action", "Touch", "ID", "vm-2", "Remark", "fail"), retcode.ResourceNotFound)
	c.want(c.call("Action", "Touch", "ID", "vm-3", "Remark", "audited"), retcode.OK)
	c.want(c.call("Action", "Touch", "ID", "vm-4", "Signature", "0000"), retcode.InvalidSignature)
	c.want(c.call("Action", "Touch", "ID", "vm-5", "Region", "mars"), retcode.InvalidParameter)
	c.want(c.call("Action", "Echo", "Name", "n"), retcode.OK)
	if d := cmp.Diff([]string{"Touch 0 [vm-1]", "Touch 200 [vm-2]", "Touch 113 []"}, c.rec.calls); d != "" {
		t.Errorf("recorded (-want +got):\n%s", d)
	}
	log := c.logged(`"action":"Echo"`)
	for _, secret := range []string{"p4ssw0rd", "Signature=", "PublicKey=", examplePrivate} {
		if strings.Contains(log, secret) {
			t.Errorf("the access log holds %s:\n%s", secret, log)
		}
	}
}

func TestRateOfAKey(t *testing.T) {
	c := start(t, func(o *Options) { o.Limits = Limits{KeyRate: 0.001, KeyBurst: 3} })
	for range 3 {
		c.want(c.call("Action", "DescribeVMInstance"), retcode.OK)
	}
	c.want(c.call("Action", "DescribeVMInstance"), retcode.TooManyRequests)
	c.want(c.call("Action", "DescribeVMInstance", "PublicKey", adminPublic), retcode.OK)
}

func TestRateOfFailures(t *testing.T) {
	c := start(t, func(o *Options) { o.Limits = Limits{FailureRate: 2} })
	c.want(c.call("Action", "DescribeVMInstance"), retcode.OK)
	limited := false
	for deadline := time.Now().Add(10 * time.Second); !limited && time.Now().Before(deadline); {
		a := c.call("Action", "DescribeVMInstance", "PublicKey", "pk-guess", "Signature", "00")
		limited = a.RetCode == int(retcode.TooManyRequests)
		if !limited && a.RetCode != int(retcode.InvalidSignature) {
			t.Fatalf("got %s", a.raw)
		}
	}
	if !limited {
		t.Fatal("an address may fail without end")
	}
	// A key that signs well goes on, whoever shares its address.
	c.want(c.call("Action", "DescribeVMInstance"), retcode.OK)
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	c := start(t, func(o *Options) { o.Metrics = r })
	c.want(c.call("Action", "Echo", "Name", "n"), retcode.OK)
	c.want(c.call("Action", "Made up"), retcode.ActionNotFound)
	c.logged("unknown")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Counter != nil {
				got[m.Label[0].GetValue()+" "+m.Label[1].GetValue()] = m.Counter.GetValue()
			}
		}
	}
	if d := cmp.Diff(map[string]float64{"Echo 0": 1, "unknown 110": 1}, got); d != "" {
		t.Errorf("counted (-want +got):\n%s", d)
	}
}

func TestOpenAPI(t *testing.T) {
	c := start(t, nil)
	w, err := http.Get(c.url + "/api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	var doc struct {
		OpenAPI string
		Paths   map[string]struct {
			Post struct {
				OperationID string
				RequestBody struct {
					Content map[string]struct {
						Schema struct {
							Required   []string
							Properties map[string]struct {
								Type    string
								Maximum *float64
								Items   *struct{ Type string }
							}
						}
					}
				}
			}
		}
	}
	if err := json.NewDecoder(w.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || len(doc.Paths) != len(table) {
		t.Fatalf("version %q, %d paths", doc.OpenAPI, len(doc.Paths))
	}
	s := doc.Paths["/api#Echo"].Post.RequestBody.Content[form].Schema
	if d := cmp.Diff([]string{"Action", "Region", "Name"}, s.Required); d != "" {
		t.Error(d)
	}
	if p := s.Properties["VMIDs"]; p.Type != "array" || p.Items == nil || p.Items.Type != "string" {
		t.Errorf("VMIDs is %+v", p)
	}
	if p := s.Properties["Count"]; p.Maximum == nil || *p.Maximum != 10 {
		t.Errorf("Count is %+v", p)
	}
	if err := Document(table).Validate(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestDefineRefuses(t *testing.T) {
	mustPanic := func(name string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s: accepted", name)
			}
		}()
		f()
	}
	mustPanic("a map", func() {
		Define(Spec{Name: "X"}, func(context.Context, *Call, *struct{ M map[string]string }) (*Empty, error) { return nil, nil })
	})
	mustPanic("an unknown tag", func() {
		Define(Spec{Name: "X"}, func(context.Context, *Call, *struct {
			A string `validate:"nosuchtag"`
		}) (*Empty, error) {
			return nil, nil
		})
	})
	mustPanic("a rule between fields", func() {
		Define(Spec{Name: "X"}, func(context.Context, *Call, *struct {
			A string
			B string `validate:"required_with=A"`
		}) (*Empty, error) {
			return nil, nil
		})
	})
	mustPanic("a bad default", func() {
		Define(Spec{Name: "X"}, func(context.Context, *Call, *struct {
			A int `default:"x"`
		}) (*Empty, error) {
			return nil, nil
		})
	})
	mustPanic("a name twice", func() { NewHandler([]Action{table[0], table[0]}, Options{Authenticator: keys{}}) })
}
