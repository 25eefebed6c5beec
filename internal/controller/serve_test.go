package controller_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// get reads a path beside the endpoint.
func get(t *testing.T, c *controllertest.Cloud, path string) (int, string) {
	t.Helper()
	r, err := http.Get(strings.TrimSuffix(c.URL, "/api") + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// simulated posts to the simulated cloud's control.
func simulated(t *testing.T, c *controllertest.Cloud, body string) int {
	t.Helper()
	r, err := http.Post(strings.TrimSuffix(c.URL, "/api")+"/simulate", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	return r.StatusCode
}

func TestOneControllerAtATime(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		dir := t.TempDir()
		first := controllertest.Start(t, controllertest.Options{DB: db, Dir: dir, Hosts: 1})
		second, err := controller.New(t.Context(), controller.Config{Dir: dir, DB: db, Listen: "127.0.0.1:0", Simulate: 1, Holder: "another"})
		if !errors.Is(err, workflow.ErrLed) {
			if err == nil {
				second.Close()
			}
			t.Fatalf("a second controller on the same database: %v", err)
		}
		first.Demo.Must(t, "DescribeVPC", nil) // and the first does not feel it
		// A clean stop gives the lease back: the next starts at once.
		first.Stop(t)
		again := controllertest.Start(t, controllertest.Options{DB: db, Dir: dir, Hosts: 1})
		again.Demo.Must(t, "DescribeVPC", nil)
	})
}

func TestProbes(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 2})
	c.Demo.Must(t, "DescribeVPC", nil)
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": "DescribeVPC", "/simulate": `"simulated-2"`, "/api/openapi.json": `"DescribeVMInstance"`} {
		if status, text := get(t, c, path); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s answers %d without %s", path, status, want)
		}
	}
	if status, _ := get(t, c, "/join"); status != 404 {
		t.Errorf("a simulated cloud answers %d to /join", status)
	}
	if status, _ := get(t, c, "/nothing"); status != 404 {
		t.Errorf("an unknown path answers %d", status)
	}
}

// TestDatabaseTakenAway: the only way to code 2 from outside is a database that is gone.
func TestDatabaseTakenAway(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	if status := simulated(t, c, `{"DatabaseDown": 2}`); status != 200 {
		t.Fatalf("DatabaseDown answers %d", status)
	}
	if status, _ := get(t, c, "/readyz"); status != 503 {
		t.Errorf("without its database the controller answers %d to /readyz", status)
	}
	if status, _ := get(t, c, "/healthz"); status != 200 {
		t.Errorf("without its database the controller answers %d to /healthz", status)
	}
	r := c.Demo.Refuse(t, retcode.ServiceError, "DescribeVPC", nil)
	if strings.Contains(r.Message, "database") {
		t.Errorf("the message tells of our insides: %s", r.Message)
	}
	controllertest.Eventually(t, 20*time.Second, "the database is back", func() bool {
		return c.Demo.Call(t, "DescribeVPC", nil).Code == retcode.OK
	})
	if status, _ := get(t, c, "/readyz"); status != 200 {
		t.Errorf("with its database back the controller answers %d to /readyz", status)
	}
}

func TestAnotherKeyFile(t *testing.T) {
	db, dir := dbtest.SQLite(t), t.TempDir()
	controllertest.Start(t, controllertest.Options{DB: db, Dir: dir, Hosts: 1}).Stop(t)
	if err := os.Remove(filepath.Join(dir, "secret.key")); err != nil {
		t.Fatal(err)
	}
	c, err := controller.New(t.Context(), controller.Config{Dir: dir, DB: db, Listen: "127.0.0.1:0", Simulate: 1})
	if err == nil {
		c.Close()
		t.Fatal("a controller with another key file started")
	}
	if !strings.Contains(err.Error(), "key file") {
		t.Errorf("the message does not name the key file: %v", err)
	}
}

func TestBadConfigurations(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, cfg := range map[string]controller.Config{
		"neither OVN nor simulated hosts": {Listen: "127.0.0.1:0"},
		"a negative number of hosts":      {Listen: "127.0.0.1:0", Simulate: -1},
		"a taken address":                 {Listen: taken.Addr().String(), Simulate: 1},
		"a certificate that is not there": {Listen: "127.0.0.1:0", Simulate: 1, TLSCert: "/nonexistent", TLSKey: "/nonexistent"},
		"no database":                     {Listen: "127.0.0.1:0", Simulate: 1, Database: "postgres://127.0.0.1:1/none?connect_timeout=2"},
	} {
		cfg.Dir = t.TempDir()
		if c, err := controller.New(t.Context(), cfg); err == nil {
			c.Close()
			t.Errorf("%s: started", name)
		}
	}
}

// anywhere makes the cloud listen on every address, as one that is not for this machine alone.
func anywhere(t *testing.T) func(*controller.Config) {
	return func(cfg *controller.Config) {
		cfg.Listener.Close()
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Listener = l
	}
}

// trust makes the default client trust a file's certificates for the length of the test.
func trust(t *testing.T, text []byte) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate")
	}
	old := http.DefaultTransport
	http.DefaultTransport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		http.DefaultTransport = old
	})
}

func TestHTTPSOffLoopback(t *testing.T) {
	dir, db := t.TempDir(), dbtest.SQLite(t)
	// The first start, on loopback, writes the authority.
	plain := controllertest.Start(t, controllertest.Options{Dir: dir, DB: db, Hosts: 1})
	if !strings.HasPrefix(plain.URL, "http://127.0.0.1:") {
		t.Errorf("on loopback the endpoint is %s", plain.URL)
	}
	plain.Stop(t)
	authority, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	trust(t, authority)
	c := controllertest.Start(t, controllertest.Options{Dir: dir, DB: db, Hosts: 1, Configure: anywhere(t)})
	if !strings.HasPrefix(c.URL, "https://127.0.0.1:") {
		t.Errorf("the endpoint is %s", c.URL)
	}
	c.Demo.Must(t, "DescribeVPC", nil)
	r, err := (&http.Client{Transport: &http.Transport{}}).Get(strings.Replace(c.URL, "https://", "http://", 1))
	if err == nil {
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusBadRequest || bytes.Contains(text, []byte("RetCode")) {
			t.Errorf("plain HTTP is answered: %d %s", r.StatusCode, text)
		}
	}
}

func TestGivenCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "given"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, keyFile := filepath.Join(dir, "given.crt"), filepath.Join(dir, "given.key")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(cert, text, 0o600), os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)); err != nil {
		t.Fatal(err)
	}
	trust(t, text)
	c := controllertest.Start(t, controllertest.Options{Hosts: 1, Configure: func(cfg *controller.Config) { cfg.TLSCert, cfg.TLSKey = cert, keyFile }})
	if !strings.HasPrefix(c.URL, "https://127.0.0.1:") {
		t.Errorf("the endpoint is %s", c.URL)
	}
	c.Demo.Must(t, "DescribeVPC", nil)
}
