package host

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/pki"
)

func newAuthority(t *testing.T) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// controller serves JoinPath with TLS of an authority. It signs with signer.
func controller(t *testing.T, a, signer *pki.Authority, answer func(*hostlink.JoinResponse), seen *hostlink.JoinRequest) string {
	t.Helper()
	pair, err := a.IssueServer("api", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	k, err := pki.NewKeeper(pair.CertificatePEM, pair.KeyPEM, a.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo), TLSConfig: pki.ServerTLS(k), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != hostlink.JoinPath || r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(seen); err != nil {
			t.Error(err)
		}
		if seen.Name == "unwanted" {
			w.WriteHeader(http.StatusForbidden)
			json.NewEncoder(w).Encode(hostlink.JoinRefusal{Message: "the token was used already"})
			return
		}
		cert, _, err := signer.IssueHost([]byte(seen.CSR), "host-new")
		if err != nil {
			t.Error(err)
		}
		res := &hostlink.JoinResponse{HostID: "host-new", Certificate: string(cert), CA: string(signer.CertificatePEM()),
			Region: "cn", ComputeSet: "set-a", OVN: hostlink.JoinOVN{Southbound: "ssl:127.0.0.1:6642"}}
		if answer != nil {
			answer(res)
		}
		json.NewEncoder(w).Encode(res)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.ServeTLS(l, "", "")
	t.Cleanup(func() { s.Close() })
	return "https://" + l.Addr().String()
}

func TestJoin(t *testing.T) {
	a := newAuthority(t)
	token, err := a.NewToken()
	if err != nil {
		t.Fatal(err)
	}
	var seen hostlink.JoinRequest
	url := controller(t, a, a, nil, &seen)
	dir := filepath.Join(t.TempDir(), "agent")
	o := JoinOptions{Dir: dir, Token: token.String(), Controller: url, Name: "node-1", Address: "127.0.0.1:8444",
		Networks: map[string]string{"provider": "br-ex"}, VirtType: VirtQEMU}
	got, err := Join(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if seen.Token != token.String() || seen.Name != "node-1" || seen.Address != "127.0.0.1:8444" {
		t.Errorf("the controller heard %+v", seen)
	}
	read, err := ReadAgent(dir)
	if err != nil || read.HostID != "host-new" || read.Networks["provider"] != "br-ex" || read.HostID != got.HostID {
		t.Fatalf("%+v %v", read, err)
	}
	for _, name := range []string{fileAgent, fileKey, fileCertificate, fileCA} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if c := read.Chassis(dir); c.Key != filepath.Join(dir, fileKey) || c.Southbound != "ssl:127.0.0.1:6642" || c.ID != "host-new" {
		t.Errorf("%+v", c)
	}
	if _, err := OpenKeeper(dir); err != nil {
		t.Error(err)
	}
	if _, err := Join(t.Context(), o); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("joining twice: %v", err)
	}
}

func TestJoinRefuses(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	token, err := a.NewToken()
	if err != nil {
		t.Fatal(err)
	}
	var seen hostlink.JoinRequest
	good := controller(t, a, a, nil, &seen)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, good+hostlink.JoinPath, http.StatusTemporaryRedirect)
	}))
	defer plain.Close()
	for name, c := range map[string]struct {
		change func(*JoinOptions)
		says   string
		silent bool // the token must not have left
	}{
		"an impostor":                     {func(o *JoinOptions) { o.Controller = controller(t, other, other, nil, &seen) }, "does not show the authority", true},
		"another authority in the answer": {func(o *JoinOptions) { o.Controller = controller(t, a, other, nil, &seen) }, "is not the one", false},
		"a certificate of another host": {func(o *JoinOptions) {
			o.Controller = controller(t, a, a, func(r *hostlink.JoinResponse) { r.HostID = "host-other" }, &seen)
		}, "not of host", false},
		"a refusal":         {func(o *JoinOptions) { o.Name = "unwanted" }, "the token was used already", false},
		"no token":          {func(o *JoinOptions) { o.Token = "abc" }, "not a join token", true},
		"http afar":         {func(o *JoinOptions) { o.Controller = "http://192.0.2.1:8080" }, "https", true},
		"no address":        {func(o *JoinOptions) { o.Address = "here" }, "address", true},
		"a redirect":        {func(o *JoinOptions) { o.Controller = plain.URL }, "elsewhere", true},
		"a bad bridge":      {func(o *JoinOptions) { o.Networks = map[string]string{"a": "-b"} }, "bridge", true},
		"another file":      {func(o *JoinOptions) { o.Controller = "file:///etc/passwd" }, "address", true},
		"a path in the URL": {func(o *JoinOptions) { o.Controller = good + "/evil" }, "address", true},
	} {
		seen = hostlink.JoinRequest{}
		o := JoinOptions{Dir: filepath.Join(t.TempDir(), "agent"), Token: token.String(), Controller: good, Name: "node-1", Address: "127.0.0.1:8444"}
		c.change(&o)
		_, err := Join(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if c.silent && seen.Token != "" {
			t.Errorf("%s heard the token", name)
		}
		if _, err := os.Stat(o.Dir); err == nil {
			t.Errorf("%s left something behind", name)
		}
	}
}

// The whole of a host's identity: it serves with what it joined with, and takes a renewal while it does.
func TestServeAndRenew(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	csr, key, err := pki.NewRequest("x")
	if err != nil {
		t.Fatal(err)
	}
	cert, first, err := a.IssueHost(csr, "host-a")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{fileKey: key, fileCertificate: cert, fileCA: a.CertificatePEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keeper, err := OpenKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{Dir: dir, HostID: "host-a", VirtType: VirtQEMU, LibvirtSocket: "/nonexistent/sock", Keeper: keeper, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()

	pair, err := a.IssueController("controller-1")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := pki.NewKeeper(pair.CertificatePEM, pair.KeyPEM, a.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	revoked := &pki.Revoked{}
	dial := func() *hostlink.Client {
		return hostlink.NewClient(l.Addr().String(), pki.ControllerTLS(ours, "host-a", revoked))
	}
	c := dial()
	defer c.Close()
	if r, err := c.Health(ctx, &pb.HealthRequest{Epoch: 4}); err != nil || r.HostId != "host-a" {
		t.Fatalf("%v %v", r, err)
	}
	fence := &pb.Fence{Epoch: 4}
	install := func(cert []byte) error {
		_, err := c.InstallCertificate(ctx, &pb.InstallCertificateRequest{Fence: fence, CertificatePem: cert, CaPem: a.CertificatePEM()})
		return err
	}
	if err := install(cert); err != nil {
		t.Errorf("the certificate in use, again: %v", err)
	}
	request, err := c.CertificateRequest(ctx, &pb.CertificateRequestRequest{})
	if err != nil || time.Until(time.Unix(request.NotAfter, 0)) < 80*24*time.Hour {
		t.Fatalf("%v %v", request, err)
	}
	wrong, _, err := a.IssueHost(request.CsrPem, "host-b")
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"another host's": wrong, "one of another key": cert, "nonsense": []byte("x")} {
		if err := install(bad); !errors.Is(err, hostlink.ErrInvalid) {
			t.Errorf("%s certificate: %v", name, err)
		}
	}
	renewed, second, err := a.IssueHost(request.CsrPem, "host-a")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a repeated call does no harm
		if err := install(renewed); err != nil {
			t.Fatal(err)
		}
	}
	// The old one is revoked: only the new one gets a connection.
	revoked.Set([]string{first})
	anew := dial()
	defer anew.Close()
	if _, err := anew.Health(ctx, &pb.HealthRequest{}); err != nil {
		t.Errorf("with the new certificate: %v", err)
	}
	if again, err := OpenKeeper(dir); err != nil || pki.Serial(again.Leaf()) != second {
		t.Errorf("on disk is %v %v", again, err)
	}
	// A crash between the certificate and the key.
	if err := os.Rename(filepath.Join(dir, fileKey), filepath.Join(dir, fileNextKey)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileKey), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := OpenKeeper(dir); err != nil || pki.Serial(again.Leaf()) != second {
		t.Errorf("after a crash: %v %v", again, err)
	}

	watched := make(chan error, 1)
	go func() { watched <- anew.Watch(context.Background(), &pb.WatchRequest{}, func(*pb.Event) {}) }()
	cancel()
	select {
	case err := <-served:
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the end: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the agent does not end")
	}
	if err := <-watched; err == nil {
		t.Error("a watch of an agent that ended")
	}
}
