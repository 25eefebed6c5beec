package controller_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestPathsOfTheEndpoint: whatever path is asked for by whatever method, nothing fails, nothing is shared with pages
// of other sites, and nothing that came in is shown as a page.
func TestPathsOfTheEndpoint(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	base := strings.TrimSuffix(c.URL, "/api")
	script := url.QueryEscape("<script>alert(1)</script>")
	paths := []string{"/", "/api", "/api/", "/api/openapi.json", "/healthz", "/readyz", "/metrics", "/simulate", "/console/" + script, "/upload/" + script, "/download/" + script,
		"/oauth2/login?request=" + script, "/oauth2/authorize?client_id=" + script, "/oauth2/.well-known/openid-configuration", "/login/oauth?state=" + script, "/nothing/" + script,
		"/../../etc/passwd", "/api?Action=" + script, "/api/?Action=DescribeVMInstance&Region=" + script, "/download/..%2f..%2fetc%2fpasswd", "/api%00", "//evil.example/%0d%0aX-Header:%20x"}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"} {
			q, err := http.NewRequest(method, base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Origin", "https://evil.example")
			q.Header.Set("Access-Control-Request-Method", "POST")
			client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			r, err := client.Do(q)
			if err != nil {
				t.Errorf("%s %s: %v", method, path, err)
				continue
			}
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode >= 500 {
				t.Errorf("%s %s answers %s: %.200s", method, path, r.Status, body)
			}
			if r.Header.Get("Access-Control-Allow-Origin") != "" || r.Header.Get("X-Header") != "" || strings.HasPrefix(r.Header.Get("Location"), "//") {
				t.Errorf("%s %s answers the headers %v", method, path, r.Header)
			}
			if media := r.Header.Get("Content-Type"); strings.HasPrefix(media, "text/html") && strings.Contains(string(body), "<script") {
				t.Errorf("%s %s shows as %s what was sent: %.300s", method, path, media, body)
			}
			if len(r.Cookies()) > 0 {
				t.Errorf("%s %s sets %v", method, path, r.Cookies())
			}
		}
	}
	// A body that is larger than anything allowed is refused as a call is, and the next one works.
	r, err := post(c.URL, "application/x-www-form-urlencoded", "Action=DescribeRegion&X="+strings.Repeat("x", 8<<20))
	if err != nil || r.Code != retcode.InvalidParameter {
		t.Errorf("a body of 8 MB answers %d %q, %v", r.Code, r.Message, err)
	}
	for _, body := range []string{strings.Repeat("[", 1<<20), `{"Action":` + strings.Repeat(`{"a":`, 1<<18), `{"Action":"DescribeRegion","Limit":1e400}`, "{\"Action\":\"\xff\"}"} {
		if r, err := post(c.URL, "application/json", body); err != nil || r.Code == retcode.OK || r.Code == retcode.ServiceError {
			t.Errorf("%.30q answers %d %q, %v", body, r.Code, r.Message, err)
		}
	}
	c.Demo.Must(t, "DescribeRegion", nil)
}

// TestSlowAndGreedyClients: one who sends a request byte by byte, or headers without end, is cut off; others are served.
func TestSlowAndGreedyClients(t *testing.T) {
	t.Parallel()
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	at := strings.TrimSuffix(strings.TrimPrefix(c.URL, "http://"), "/api")
	dial := func() net.Conn {
		k, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.Close() })
		_ = k.SetDeadline(time.Now().Add(time.Minute))
		return k
	}
	greedy := dial()
	fmt.Fprintf(greedy, "GET /api HTTP/1.1\r\nHost: x\r\n")
	go func() {
		for i := range 1 << 12 {
			if _, err := fmt.Fprintf(greedy, "X-%d: %s\r\n", i, strings.Repeat("x", 1000)); err != nil {
				return
			}
		}
	}()
	if r, err := http.ReadResponse(bufio.NewReader(greedy), nil); err == nil && r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("headers of 4 MB answer %s", r.Status)
	}
	slow := make([]net.Conn, 100)
	for i := range slow {
		slow[i] = dial()
		fmt.Fprintf(slow[i], "GET /api HTTP/1.1\r\nHost: x\r\nX-")
	}
	c.Demo.Must(t, "DescribeRegion", nil)
	begin := time.Now()
	for _, k := range slow {
		if _, err := io.Copy(io.Discard, k); err != nil {
			t.Fatalf("a request without end is still waited for after %v: %v", time.Since(begin), err)
		}
	}
}
