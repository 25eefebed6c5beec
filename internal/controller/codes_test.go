package controller_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/retcode/proof"
)

// read sends a request as it is and holds its answer to a code and what the message must name.
func read(t *testing.T, r *http.Request, code retcode.Code, names ...string) {
	t.Helper()
	r.Header.Set("Accept-Language", "en")
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	var a struct {
		Action, Message string
		RetCode         int
	}
	if err := json.NewDecoder(w.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	if w.StatusCode != 200 || a.RetCode != int(code) || !strings.HasSuffix(a.Action, "Response") {
		t.Fatalf("HTTP %d, %+v, want code %d", w.StatusCode, a, code)
	}
	for _, n := range names {
		if !strings.Contains(a.Message, n) {
			t.Errorf("the message does not name %q: %s", n, a.Message)
		}
	}
	proof.Saw(t, a.RetCode)
}

// signed makes the query of a call with keys and signature.
func signed(c *controllertest.Client, name string, p controllertest.P) string {
	v := p.Values(name)
	v["PublicKey"] = c.PublicKey
	v["Signature"] = action.Sign(v, c.PrivateKey)
	form := url.Values{}
	for k, s := range v {
		form.Set(k, s)
	}
	return form.Encode()
}

// TestCodesOfTheEndpoint provokes what is answered before any product is asked.
func TestCodesOfTheEndpoint(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	get := func(query string) *http.Request {
		r, err := http.NewRequest("GET", c.URL+"?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	post := func(media, body string) *http.Request {
		r, err := http.NewRequest("POST", c.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", media)
		return r
	}
	const form = "application/x-www-form-urlencoded"
	good := signed(c.Demo, "DescribeVMInstance", nil)
	read(t, get(good), retcode.OK)
	read(t, get(""), retcode.MissingAction, "Action")
	read(t, get("Action=DescribeNothing"), retcode.ActionNotFound, "DescribeNothing")
	read(t, get("Action=DescribeVMInstance&Region=cn"), retcode.MissingPublicKey, "PublicKey")
	read(t, get("Action=DescribeVMInstance&Region=cn&PublicKey="+url.QueryEscape(c.Demo.PublicKey)), retcode.MissingSignature)
	read(t, get(good+"x"), retcode.InvalidSignature)
	read(t, get(good+"&Extra=1"), retcode.InvalidSignature)
	read(t, get("Action=DescribeVMInstance&ssotoken=abc"), retcode.MissingReferer)
	console := get("Action=DescribeVMInstance")
	console.Header.Set("Referer", c.URL)
	read(t, console, retcode.MissingSSOToken)
	console = get("Action=DescribeVMInstance&ssotoken=abc")
	console.Header.Set("Referer", c.URL)
	read(t, console, retcode.SSOTokenInvalid)
	read(t, get(signed(c.Demo, "DescribeVMInstance", controllertest.P{"Region": ""})), retcode.MissingRegion, "Region")
	read(t, get(signed(c.Demo, "DescribeVMInstance", controllertest.P{"Region": "mars"})), retcode.InvalidParameter, "mars")
	read(t, get(signed(c.Demo, "DescribeVMInstance", controllertest.P{"CompanyID": c.Admin.Company})), retcode.AdminOnly, "CompanyID")
	read(t, get(signed(c.Demo, "CreateHostJoinToken", nil)), retcode.AdminOnly)
	read(t, get(signed(c.Demo, "StartVMInstance", nil)), retcode.MissingParameter, "VMID")
	read(t, get(signed(c.Demo, "DescribeVMInstance", controllertest.P{"Limit": "ten"})), retcode.InvalidParameterFormat, "Limit")
	read(t, get(signed(c.Demo, "DescribeVMInstance", controllertest.P{"Limit": 101})), retcode.InvalidParameter, "Limit", "100")
	read(t, post("application/json", `{"Action":`), retcode.InvalidParameterFormat, "JSON")
	read(t, post(form, "Action=DescribeVMInstance&Keyword=a&Keyword=b"), retcode.InvalidParameterFormat, "Keyword")
	read(t, post(form, "Action=DescribeVMInstance&Keyword=%ff"), retcode.InvalidParameterFormat, "Keyword")
	read(t, post(form, "Action=DescribeVMInstance&Keyword="+strings.Repeat("x", 10<<20)), retcode.InvalidParameter, "bytes")
	read(t, post(form, "Action=DescribeVMInstance"+strings.Repeat("&k=v", 10000)), retcode.InvalidParameter, "parameters")
}

func TestTooManyCallsOfAKey(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1, Configure: func(cfg *controller.Config) {
		cfg.Limits = action.Limits{KeyRate: 0.01, KeyBurst: 2}
	}})
	c.Demo.Must(t, "DescribeVMInstance", nil)
	c.Demo.Must(t, "DescribeVMInstance", nil)
	c.Demo.Refuse(t, retcode.TooManyRequests, "DescribeVMInstance", nil)
	c.Admin.Must(t, "DescribeVMInstance", nil)
}

// TestTheDatabaseIsTakenAway is what code 2 is for: not the caller's fault, and over when it is over.
func TestTheDatabaseIsTakenAway(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	c.Demo.Must(t, "DescribeVMInstance", nil)
	r, err := http.Post(strings.TrimSuffix(c.URL, "/api")+"/simulate", "application/json", strings.NewReader(`{"DatabaseDown": 2}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("HTTP %d", r.StatusCode)
	}
	answer := c.Demo.Refuse(t, retcode.ServiceError, "DescribeVMInstance", nil)
	if strings.Contains(answer.Message, "database") || strings.Contains(answer.Message, "sql") {
		t.Errorf("the answer tells of our insides: %s", answer.Message)
	}
	controllertest.Eventually(t, 30*time.Second, "the database is back", func() bool {
		return c.Demo.Call(t, "DescribeVMInstance", nil).Code == retcode.OK
	})
}
