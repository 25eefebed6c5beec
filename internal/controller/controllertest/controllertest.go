// Package controllertest runs a whole controller in the test's process: its real
// database, workflows and API, against simulated hosts without delays. Tests call
// it as a client would, over HTTP with signatures.
package controllertest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/retcode/proof"
	"github.com/lingyun-cloud/lingyun/internal/simulate"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Options of a cloud under test. Zero values: 3 hosts of 64 CPUs, 256 GiB and 8,192 GB, on SQLite.
type Options struct {
	Hosts     int
	CPUs      int
	MemoryMiB int
	DiskGB    int
	DB        *database.DB // of dbtest; nil: a new SQLite
	Dir       string       // data directory; empty: one of the test's own
	// Configure may change the configuration before the start.
	Configure func(*controller.Config)
}

// Cloud is a controller under test. It ends with the test.
type Cloud struct {
	*controller.Controller // its rooms, for what the API does not tell
	Admin                  *Client
	Demo                   *Client

	stop    context.CancelFunc
	stopped chan error
	tenants int
}

// Client calls the endpoint with the keys of one account, or with a session when Token is set.
type Client struct {
	URL        string
	Company    int64
	Account    int64
	Email      string
	Password   string
	PublicKey  string
	PrivateKey string
	// Token of a session; Open: no credential at all.
	Token string
	Open  bool
	// Header is sent with every call.
	Header map[string]string
}

// P are the parameters of a call, by name as on the wire ("VMIDs.0"). Values: string, int, int64, bool,
// []string and []int (sent as Name.0, Name.1, ...). Region is cn unless given; "" leaves it out.
type P map[string]any

// Response is an answer.
type Response struct {
	Code    retcode.Code
	Message string
	Body    map[string]any // every top-level field; numbers are json.Number
}

func init() {
	// A test's output is about what went wrong: not every call.
	slog.SetLogLoggerLevel(slog.LevelWarn)
	// The journal's tables, made by many small migrations, are the same for every cloud. The engine's own tests make them.
	dbtest.Prepare = func(ctx context.Context, db *database.DB) error {
		e := workflow.New(db, workflow.Options{})
		if err := e.Start(ctx); err != nil {
			return err
		}
		if err := e.Stop(ctx); err != nil {
			return err
		}
		_, err := db.Writer().ExecContext(ctx, "DELETE FROM lease")
		return err
	}
}

// weak makes password hashes cheap: tests are not attacked.
var weak = &argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// Start runs a cloud.
func Start(t testing.TB, o Options) *Cloud {
	t.Helper()
	if o.Hosts == 0 {
		o.Hosts = 3
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.DB == nil {
		o.DB = dbtest.SQLite(t)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := controller.Config{Dir: o.Dir, DB: o.DB, Listener: l, Simulate: o.Hosts, PasswordCost: weak, ProofBits: 4,
		Host: simulate.Options{CPUs: o.CPUs, MemoryMiB: o.MemoryMiB, DiskGB: o.DiskGB}}
	if o.Configure != nil {
		o.Configure(&cfg)
	}
	ctx, stop := context.WithCancel(context.Background())
	k, err := controller.New(ctx, cfg)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	c := &Cloud{Controller: k, stop: stop, stopped: make(chan error, 1)}
	go func() { c.stopped <- k.Run(ctx) }()
	t.Cleanup(func() { c.Stop(t) })
	c.Admin = c.client(t, filepath.Join(o.Dir, "admin.json"))
	c.Demo = c.client(t, filepath.Join(o.Dir, "demo.json"))
	c.Demo.Company = identity.AdminCompany + 1
	c.Admin.Company = identity.AdminCompany
	Eventually(t, 20*time.Second, "the controller is ready", func() bool {
		r, err := http.Get(strings.TrimSuffix(c.URL, "/api") + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return c
}

// Stop ends the controller as SIGTERM does and waits for its end. The test's end calls it, too.
func (c *Cloud) Stop(t testing.TB) {
	t.Helper()
	if c.stopped == nil {
		return
	}
	c.stop()
	select {
	case err := <-c.stopped:
		if err != nil {
			t.Errorf("the controller ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the controller did not stop within a minute")
	}
	c.stopped = nil
}

// client reads a credentials file; its endpoint may be that of an earlier start.
func (c *Cloud) client(t testing.TB, path string) *Client {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	client := &Client{}
	if err := json.Unmarshal(text, client); err != nil {
		t.Fatal(err)
	}
	client.URL = c.URL
	return client
}

// NewTenant creates a tenant with a main account and plenty of money, and returns its client.
func (c *Cloud) NewTenant(t testing.TB) *Client {
	t.Helper()
	c.tenants++
	k, err := c.Identity.CreateTenant(context.Background(), identity.NewTenant{Name: fmt.Sprintf("tenant %d", c.tenants),
		Email: fmt.Sprintf("tenant%d@example.com", c.tenants), Region: catalog.DefaultRegion})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ledger.Grant(context.Background(), k.Company, 10_000_000); err != nil {
		t.Fatal(err)
	}
	return &Client{URL: c.URL, Company: k.Company, Account: k.Account, Email: k.Email, Password: k.Password, PublicKey: k.PublicKey, PrivateKey: k.PrivateKey}
}

// Anybody returns a client without a credential.
func (c *Cloud) Anybody() *Client { return &Client{URL: c.URL, Open: true} }

// Login are the parameters of LoginByPassword, which go with the header X-Auth-Method: plain.
func Login(email, password string) P {
	return P{"Email": email, "Password": base64.StdEncoding.EncodeToString([]byte(password))}
}

// Plain is the header that LoginByPassword wants.
var Plain = map[string]string{"X-Auth-Method": "plain"}

// Session logs an account in and returns a client of its session.
func (c *Cloud) Session(t testing.TB, email, password string) *Client {
	t.Helper()
	door := c.Anybody()
	door.Header = Plain
	r := door.Must(t, "LoginByPassword", Login(email, password))
	token := r.String("SSOToken")
	if token == "" {
		t.Fatalf("the login of %s wants another factor: %v", email, r.Body)
	}
	return &Client{URL: c.URL, Company: int64(r.Int("CompanyID")), Account: int64(r.Int("MemberID")), Email: email, Password: password, Token: token}
}

// Values makes the parameters of a call as they are sent, but for the keys and the signature.
func (p P) Values(name string) map[string]string {
	v := map[string]string{"Action": name, "Region": catalog.DefaultRegion}
	for key, value := range p {
		switch x := value.(type) {
		case []string:
			for i, s := range x {
				v[key+"."+strconv.Itoa(i)] = s
			}
		case []int:
			for i, n := range x {
				v[key+"."+strconv.Itoa(i)] = strconv.Itoa(n)
			}
		default:
			v[key] = fmt.Sprint(x)
		}
	}
	if v["Region"] == "" {
		delete(v, "Region")
	}
	return v
}

// Call sends one request and returns its answer, whatever its code.
func (c *Client) Call(t testing.TB, name string, p P) Response {
	t.Helper()
	r, err := c.Try(p.Values(name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// Try sends signed parameters; the error is the transport's. It may be called from any goroutine.
func (c *Client) Try(values map[string]string) (Response, error) {
	form := url.Values{}
	for k, v := range values {
		form.Set(k, v)
	}
	switch {
	case c.Open:
	case c.Token != "":
		form.Set("ssotoken", c.Token)
	default:
		form.Set("PublicKey", c.PublicKey)
		flat := map[string]string{}
		for k := range form {
			flat[k] = form.Get(k)
		}
		form.Set("Signature", action.Sign(flat, c.PrivateKey))
	}
	q, err := http.NewRequest(http.MethodPost, c.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return Response{}, err
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	q.Header.Set("Accept-Language", "en")
	if c.Token != "" {
		q.Header.Set("Referer", strings.TrimSuffix(c.URL, "/api")+"/")
	}
	for name, v := range c.Header {
		q.Header.Set(name, v)
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return Response{}, err
	}
	defer answer.Body.Close()
	return Read(answer)
}

// Read decodes an answer; the error says why it is none.
func Read(answer *http.Response) (r Response, err error) {
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return r, err
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&r.Body); err != nil {
		return r, fmt.Errorf("status %d, not JSON (%w): %.200s", answer.StatusCode, err, text)
	}
	code, err := strconv.Atoi(fmt.Sprint(r.Body["RetCode"]))
	if err != nil {
		return r, fmt.Errorf("status %d, no RetCode: %.200s", answer.StatusCode, text)
	}
	r.Code, r.Message = retcode.Code(code), fmt.Sprint(r.Body["Message"])
	return r, nil
}

// Must is Call that ends the test unless the code is 0.
func (c *Client) Must(t testing.TB, name string, p P) Response {
	t.Helper()
	return c.Refuse(t, retcode.OK, name, p)
}

// Refuse is Call that ends the test unless the code is the wanted one, which it records as proven.
func (c *Client) Refuse(t testing.TB, code retcode.Code, name string, p P) Response {
	t.Helper()
	r := c.Call(t, name, p)
	if r.Code != code {
		t.Fatalf("%s %v answered %d %q, want %d", name, p, r.Code, r.Message, code)
	}
	proof.Saw(t, int(r.Code))
	return r
}

// OPLog waits for the audit entry of a resource's action to be final, and records its code as proven.
func (c *Client) OPLog(t testing.TB, name, resource string) Info {
	t.Helper()
	var entry Info
	Eventually(t, time.Minute, "the audit entry of "+name+" on "+resource+" is final", func() bool {
		r := c.Must(t, "DescribeOPLogs", P{"BeginTime": time.Now().Add(-24 * time.Hour).Unix(), "EndTime": time.Now().Add(100 * 24 * time.Hour).Unix(),
			"ResourceID": resource, "Limit": 100})
		for _, i := range r.Infos() {
			if i.String("APIName") == name && i.String("IsSuccess") != "" {
				entry = i
				return true
			}
		}
		return false
	})
	proof.Saw(t, entry.Int("RetCode"))
	return entry
}

// Info is one row of a list, or any other JSON object.
type Info map[string]any

// String returns a field; "" when absent.
func (i Info) String(field string) string {
	if v := i[field]; v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// Int returns a number; 0 when absent.
func (i Info) Int(field string) int {
	n, _ := strconv.Atoi(i.String(field))
	return n
}

// List returns a field that is a list of objects.
func (i Info) List(field string) []Info {
	all, _ := i[field].([]any)
	infos := make([]Info, 0, len(all))
	for _, x := range all {
		if m, ok := x.(map[string]any); ok {
			infos = append(infos, m)
		}
	}
	return infos
}

// String returns a field of the answer; "" when absent.
func (r Response) String(field string) string { return Info(r.Body).String(field) }

// Int returns a number of the answer; 0 when absent.
func (r Response) Int(field string) int { return Info(r.Body).Int(field) }

// Infos returns the rows of a list.
func (r Response) Infos() []Info { return Info(r.Body).List("Infos") }

// Eventually calls ok until it holds, and ends the test when it does not within the given time.
func Eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not true: %s", within, what)
		}
		time.Sleep(pause)
	}
}
