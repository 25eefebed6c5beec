package action

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// quiet answers without a server, and every action without a credential, so that the fuzzed text
// reaches the decoders.
func quiet() *Handler {
	open := make([]Action, len(table))
	copy(open, table)
	for i := range open {
		open[i].Anonymous = true
		open[i].Region = RegionNone
	}
	return NewHandler(open, Options{Authenticator: keys{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

// FuzzDecode sends any text as query, form and JSON: there is always an answer, and never code 2.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"", "Action=Echo", "Action=Echo&Name=n&VMIDs.0=a&VMIDs.1=b&Disks.0.SetType=S&Inner.Space=3", "Action=Echo&VMIDs.9999999999=a",
		"Action=Echo&Name=%E5%89%8D&Count=-1&Ratio=1e9&Flag=TRUE", "Action=Echo&.=&..=&VMIDs.=x&VMIDs.0.=y&Disks..=z", "%=%&&==&;",
		`{"Action":"Echo","Name":"n","VMIDs":["a",null,[1],{"b":2}],"Disks":[{"SetType":"S"}],"Inner":{"Space":1e400}}`,
		`{"Action":"Echo","Count":1e-400,"BigNumber":-9223372036854775809,"Flag":"true","Optional":null}`, `{"Action":1}`, `{"":{"":[]}}`, "[[[[", "\xff\xfe", `{"Action":"Echo","Name":"\ud800"}`,
	} {
		f.Add(s)
	}
	h := quiet()
	f.Fuzz(func(t *testing.T, s string) {
		ask := func(target, media, body string) {
			r := httptest.NewRequest("POST", "/api", strings.NewReader(body))
			r.URL.RawQuery = target
			r.Header.Set("Content-Type", media)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var a answered
			if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
				t.Fatalf("%v: %s", err, w.Body)
			}
			if a.RetCode == int(retcode.ServiceError) {
				t.Errorf("code 2 for %q as %s", s, media)
			}
			if !strings.HasSuffix(a.Action, "Response") || !utf8.ValidString(a.Message) {
				t.Errorf("answer %s", w.Body)
			}
		}
		ask(s, "", "")
		ask("", form, s)
		ask("", jsonType, s)
		ask("Action=Echo", form, s)
		ask("Action=Echo&Name=n", jsonType, s)
	})
}

// FuzzSign sends the same pairs as a form and as flat JSON: both are what Sign signs, and no change goes unseen.
func FuzzSign(f *testing.F) {
	f.Add("Action", "DescribeVMInstance", "Keyword", "web 前端", "k")
	f.Add("VMIDs.0", "a", "VMIDs.1", "b", "sk-+/=")
	f.Add("A", "B", "Signature", "x", "")
	f.Add("", "", "&=", "%", "\x00")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, private string) {
		for _, s := range []string{k1, v1, k2, v2} {
			if !utf8.ValidString(s) {
				t.Skip()
			}
		}
		if k1 == k2 {
			t.Skip()
		}
		want := Sign(map[string]string{k1: v1, k2: v2}, private)
		p, fail := parseForm(url.Values{k1: {v1}, k2: {v2}}.Encode(), 10)
		if fail != nil {
			t.Fatal(fail)
		}
		if !p.verify(want, private) {
			t.Errorf("form: %q signs %s", p, want)
		}
		body, err := json.Marshal(map[string]string{k1: v1, k2: v2})
		if err != nil {
			t.Fatal(err)
		}
		j, fail := parseJSON(body, 10)
		if fail != nil {
			t.Fatal(fail)
		}
		if !j.verify(want, private) {
			t.Errorf("JSON: %q signs %s", j, want)
		}
		if p.verify(want, private+"x") || k1 != paramSignature && Sign(map[string]string{k1: v1 + "x", k2: v2}, private) == want {
			t.Errorf("another key or value has the same signature")
		}
	})
}

func BenchmarkSignedDescribe(b *testing.B) {
	h := NewHandler(table, Options{Authenticator: keys{}, Gate: gate{}, Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Limits: Limits{KeyRate: -1}})
	query := "Action=DescribeVMInstance&Region=cn&PublicKey=pk-EXAMPLE0123456789abcdefghijklmnop&VMIDs.0=vm-aaaaaaaaaa&VMIDs.1=vm-bbbbbbbbbb&Keyword=web%20%E5%89%8D%E7%AB%AF&Offset=0&Limit=20&Signature=56bab7e28cc188ece4df10c7ba3ce28e7e5e804b"
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("POST", "/api", strings.NewReader(query))
		r.Header.Set("Content-Type", form)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if !strings.Contains(w.Body.String(), `"RetCode":0`) {
			b.Fatal(w.Body)
		}
	}
}
