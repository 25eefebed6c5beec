package controller_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// wire sends a call as it is written, names twice and all, with a signature over what a map can hold of it.
func wire(t *testing.T, c *controllertest.Client, name string, right controllertest.P, pairs ...string) controllertest.Response {
	t.Helper()
	flat := right.Values(name)
	flat["PublicKey"] = c.PublicKey
	var extra []string
	for i := 0; i < len(pairs); i += 2 {
		extra = append(extra, url.QueryEscape(pairs[i])+"="+url.QueryEscape(pairs[i+1]))
	}
	signed := maps.Clone(flat)
	for i := 0; i < len(pairs); i += 2 {
		signed[pairs[i]] = pairs[i+1]
	}
	form := url.Values{}
	for k, v := range flat {
		form.Set(k, v)
	}
	form.Set("Signature", action.Sign(signed, c.PrivateKey))
	body := strings.Join(append(extra, form.Encode()), "&")
	r, err := post(c.URL, "application/x-www-form-urlencoded", body)
	if err != nil {
		t.Fatalf("%s %.80q: %v", name, body, err)
	}
	return r
}

func post(to, media, body string) (controllertest.Response, error) {
	q, err := http.NewRequest(http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		return controllertest.Response{}, err
	}
	q.Header.Set("Content-Type", media)
	q.Header.Set("Accept-Language", "en")
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return controllertest.Response{}, err
	}
	defer answer.Body.Close()
	return controllertest.Read(answer)
}

// passing are the tables in which something happens by itself, or that record refusals: key_pair knows when a key was used, and
// what the workflow engine keeps of work that ended is swept.
var passing = []string{"audit_entry", "lease", "host", "operation", "operation_outputs", "workflow_status", "workflow_input", "workflow_output", "key_pair", "console_session", "session",
	"login_failure", "setting", "resource_event"}

// rows is a sum over every row of every table but those.
func rows(t *testing.T, db *database.DB) map[string]string {
	t.Helper()
	var tables []string
	if err := db.Reader().NewRaw("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose%'").Scan(context.Background(), &tables); err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, table := range tables {
		if slices.Contains(passing, table) {
			continue
		}
		var all []map[string]any
		if err := db.Reader().NewRaw("SELECT * FROM ?", bun.Ident(table)).Scan(context.Background(), &all); err != nil {
			t.Fatal(err)
		}
		text := make([]string, len(all))
		for i, row := range all {
			text[i] = fmt.Sprint(row)
		}
		slices.Sort(text)
		sums[table] = fmt.Sprintf("%d rows %x", len(all), sha256.Sum256([]byte(strings.Join(text, "\n"))))
	}
	return sums
}

// TestRefusalsChangeNothing calls every action of the table as an administrator and as a tenant, with everything right
// but one thing that cannot be: a required parameter is missing, a value is of another type, beyond every bound or no
// text at all, a name comes twice, a list has gaps. Each is refused, never with code 2, and no row changes.
func TestRefusalsChangeNothing(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1, Configure: func(cfg *controller.Config) {
		cfg.Limits = action.Limits{KeyRate: -1, FailureRate: -1, OpenRate: -1}
	}})
	tenant := c.NewTenant(t)
	right := rightValues(t, tenant)
	before := rows(t, c.DB)
	calls, long, large := 0, strings.Repeat("9", 1<<12), strings.Repeat("x", 1<<20)
	for _, a := range c.Actions() {
		caller := tenant
		if a.Admin {
			caller = c.Admin
		}
		base := P{}
		for _, p := range a.Parameters() {
			if p.Required {
				base[wireName(p)] = right(p)
			}
		}
		refused := func(what string, q P, pairs ...string) {
			t.Helper()
			calls++
			r := wire(t, caller, a.Name, q, pairs...)
			if r.Code == retcode.OK || r.Code == retcode.ServiceError || r.Message == "" {
				t.Errorf("%s, %s: %d %.200q", a.Name, what, r.Code, r.Message)
			}
			if len(r.Message) > 2000 {
				t.Errorf("%s, %s: a message of %d bytes", a.Name, what, len(r.Message))
			}
		}
		without := func(name string) P {
			q := maps.Clone(base)
			delete(q, name)
			return q
		}
		for _, p := range a.Parameters() {
			name := wireName(p)
			rest := without(name)
			if p.Required {
				refused("without "+name, rest)
			}
			if strings.HasSuffix(p.Type, "object") {
				refused(name+" is text", rest, name, "text")
				continue
			}
			refused(name+" twice", rest, name, "1", name, "1")
			refused(name+" no UTF-8", rest, name, "\xff\xfe")
			if !strings.HasSuffix(p.Type, "bool") {
				refused(name+" with NUL", rest, name, "a\x00b")
			}
			switch strings.TrimPrefix(p.Type, "[]") {
			case "int":
				for _, v := range []string{"9223372036854775808", "-9223372036854775809", "1e3", "+1", " 1", "1 ", "١", "0x10", "1_000", "--1", "1.0", long} {
					refused(name+fmt.Sprintf("=%.30q", v), rest, name, v)
				}
			case "float":
				for _, v := range []string{"NaN", "Inf", "1e309", "1,5", ".", "1..2", "1" + long} {
					refused(name+fmt.Sprintf("=%.30q", v), rest, name, v)
				}
			case "bool":
				for _, v := range []string{"TRUE", "yes", "1", "0", " true", long} {
					refused(name+fmt.Sprintf("=%.30q", v), rest, name, v)
				}
			case "string":
				if a.Mutates && p.Name != "UserData" {
					refused(name+" of 1 MB", rest, name, large)
				}
			}
			if strings.HasPrefix(p.Type, "[]") {
				refused(name+" with a gap", rest, p.Name+".0", "1", p.Name+".2", "1")
				refused(name+" from 1", rest, p.Name+".1", "1")
				for _, index := range []string{"-1", "00", "x", "", "9223372036854775808", "1000000000", "0.0"} {
					refused(name+" at "+index, rest, p.Name+"."+index, "1")
				}
				if a.Mutates {
					many := make([]string, 0, 20000)
					for i := range 10000 {
						many = append(many, fmt.Sprintf("%s.%d", p.Name, i), "1")
					}
					refused(name+" 10,000 times", rest, many...)
				}
			}
		}
		after := rows(t, c.DB)
		for table, sum := range after {
			if before[table] != sum {
				t.Errorf("%s was refused and changed %s: from %s to %s", a.Name, table, before[table], sum)
			}
		}
		before = after
	}
	t.Logf("%d calls", calls)
}
