package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func authority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority("Lingyun test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func keeper(t *testing.T, a *Authority, p Pair) *Keeper {
	t.Helper()
	k, err := NewKeeper(p.CertificatePEM, p.KeyPEM, a.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hostPair(t *testing.T, a *Authority, id string) Pair {
	t.Helper()
	csr, key, err := NewRequest("whatever-it-calls-itself")
	if err != nil {
		t.Fatal(err)
	}
	cert, serial, err := a.IssueHost(csr, id)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{CertificatePEM: cert, KeyPEM: key, Serial: serial}
}

func controllerPair(t *testing.T, a *Authority) Pair {
	t.Helper()
	p, err := a.IssueController("controller-1")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shake makes a handshake on loopback and answers what either side said.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		err = s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		s.Close()
		done <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(raw, client)
	clientErr = c.HandshakeContext(context.Background())
	if clientErr == nil {
		// A server refuses a client's certificate after the client's part of the handshake.
		_, clientErr = io.ReadFull(c, make([]byte, 1))
	}
	return <-done, clientErr
}

func TestWhoMayCallWhom(t *testing.T) {
	a, stranger := authority(t), authority(t)
	host := hostPair(t, a, "host-one")
	agent := AgentTLS(keeper(t, a, host))
	revoked := &Revoked{}
	controller := controllerPair(t, a)

	serverErr, clientErr := shake(t, agent, ControllerTLS(keeper(t, a, controller), "host-one", revoked))
	if serverErr != nil || clientErr != nil {
		t.Fatalf("a controller and the right host: %v %v", serverErr, clientErr)
	}

	other := hostPair(t, a, "host-two")
	api, err := a.IssueServer("api", []string{"192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	ovn, err := a.IssueOVN("ovn", nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign := controllerPair(t, stranger)
	noCertificate := ControllerTLS(keeper(t, a, controller), "host-one", nil)
	noCertificate.GetClientCertificate = nil
	for name, c := range map[string]*tls.Config{
		"another host":          ControllerTLS(keeper(t, a, other), "host-one", nil),
		"the API's certificate": ControllerTLS(keeper(t, a, api), "host-one", nil),
		"an OVN certificate":    ControllerTLS(keeper(t, a, ovn), "host-one", nil),
		"no certificate":        noCertificate,
		"another cloud's controller": func() *tls.Config {
			c := ControllerTLS(keeper(t, stranger, foreign), "host-one", nil)
			c.VerifyConnection = nil
			return c
		}(),
	} {
		if serverErr, clientErr := shake(t, agent, c); serverErr == nil || clientErr == nil {
			t.Errorf("an agent lets in: %s", name)
		}
	}

	for name, c := range map[string]struct {
		server *tls.Config
		id     string
	}{
		"another host in its place":   {AgentTLS(keeper(t, a, other)), "host-one"},
		"a controller as a host":      {AgentTLS(keeper(t, a, controller)), "host-one"},
		"a host of another cloud":     {AgentTLS(keeper(t, stranger, hostPair(t, stranger, "host-one"))), "host-one"},
		"a host named like the other": {AgentTLS(keeper(t, a, hostPair(t, a, "host-one.evil"))), "host-one"},
	} {
		_, clientErr := shake(t, c.server, ControllerTLS(keeper(t, a, controller), c.id, nil))
		if !errors.Is(clientErr, ErrRefused) {
			t.Errorf("a controller trusts %s: %v", name, clientErr)
		}
	}

	revoked.Set([]string{host.Serial})
	if _, clientErr := shake(t, agent, ControllerTLS(keeper(t, a, controller), "host-one", revoked)); !errors.Is(clientErr, ErrRefused) {
		t.Errorf("a revoked host is trusted: %v", clientErr)
	}
	revoked.Set([]string{other.Serial})
	if _, clientErr := shake(t, agent, ControllerTLS(keeper(t, a, controller), "host-one", revoked)); clientErr != nil {
		t.Errorf("a host that is no longer on the list is refused: %v", clientErr)
	}
}

func TestCertificateOfAHost(t *testing.T) {
	a := authority(t)
	p := hostPair(t, a, "host-abc")
	cert, err := ParseCertificate(p.CertificatePEM)
	if err != nil {
		t.Fatal(err)
	}
	role, name, err := Identity(cert)
	if err != nil || role != RoleHost || name != "host-abc" || cert.Subject.CommonName != "host-abc" {
		t.Fatalf("%v %v %v %v", role, name, cert.Subject, err)
	}
	if left := time.Until(cert.NotAfter); left > HostLifetime || left < HostLifetime-time.Hour {
		t.Fatalf("it lives for %s", left)
	}
	if Serial(cert) != p.Serial || cert.IsCA {
		t.Fatalf("%v", cert)
	}
}

func TestExpiredIsRefused(t *testing.T) {
	a := authority(t)
	a.SetClock(func() time.Time { return time.Now().Add(-HostLifetime - time.Hour) })
	old := hostPair(t, a, "host-old")
	a.SetClock(time.Now)
	_, clientErr := shake(t, AgentTLS(keeper(t, a, old)), ControllerTLS(keeper(t, a, controllerPair(t, a)), "host-old", nil))
	if !errors.Is(clientErr, ErrRefused) {
		t.Fatalf("an expired certificate is trusted: %v", clientErr)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	a := authority(t)
	good, _, err := NewRequest("x")
	if err != nil {
		t.Fatal(err)
	}
	weakKey, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, weakKey)
	if err != nil {
		t.Fatal(err)
	}
	broken := []byte(strings.Replace(string(good), "MI", "AA", 1))
	for name, c := range map[string]struct {
		csr []byte
		id  string
	}{
		"empty":             {nil, "host-a"},
		"broken":            {broken, "host-a"},
		"a certificate":     {a.CertificatePEM(), "host-a"},
		"another key":       {encode("CERTIFICATE REQUEST", der), "host-a"},
		"an id with a path": {good, "../host"},
		"no id":             {good, ""},
	} {
		if _, _, err := a.IssueHost(c.csr, c.id); err == nil {
			t.Errorf("signed: %s", name)
		}
	}
}

func TestMarshalAndLoad(t *testing.T) {
	a := authority(t)
	cert, key, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	// What the loaded one issues is trusted by who trusts the first.
	p := hostPair(t, again, "host-a")
	if _, err := NewKeeper(p.CertificatePEM, p.KeyPEM, a.CertificatePEM()); err != nil {
		t.Fatal(err)
	}
	_, otherKey, err := authority(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cert, otherKey); err == nil {
		t.Error("loaded with another authority's key")
	}
	if _, err := Load(p.CertificatePEM, p.KeyPEM); err == nil {
		t.Error("loaded a host's certificate as an authority")
	}
}

func TestKeeperReplaces(t *testing.T) {
	a := authority(t)
	first, second := hostPair(t, a, "host-a"), hostPair(t, a, "host-a")
	k := keeper(t, a, first)
	if err := k.Replace(second.CertificatePEM, first.KeyPEM, a.CertificatePEM()); err == nil {
		t.Error("took a certificate of another key")
	}
	if err := k.Replace(second.CertificatePEM, second.KeyPEM, authority(t).CertificatePEM()); err == nil {
		t.Error("took a certificate of another authority")
	}
	if Serial(k.Leaf()) != first.Serial {
		t.Error("a refused replacement is in use")
	}
	server := AgentTLS(k)
	if err := k.Replace(second.CertificatePEM, second.KeyPEM, a.CertificatePEM()); err != nil {
		t.Fatal(err)
	}
	client := ControllerTLS(keeper(t, a, controllerPair(t, a)), "host-a", nil)
	var seen string
	verify := client.VerifyConnection
	client.VerifyConnection = func(s tls.ConnectionState) error { seen = Serial(s.PeerCertificates[0]); return verify(s) }
	if _, err := shake(t, server, client); err != nil || seen != second.Serial {
		t.Errorf("the handshake shows %s (%v), not the new certificate", seen, err)
	}
}

func TestJoinTLS(t *testing.T) {
	a := authority(t)
	api, err := a.IssueServer("api", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	server := ServerTLS(keeper(t, a, api))
	if _, err := shake(t, server, JoinTLS(a.Fingerprint(), "127.0.0.1")); err != nil {
		t.Errorf("the authority that the token names: %v", err)
	}
	if _, err := shake(t, server, JoinTLS(a.Fingerprint(), "192.0.2.7")); !errors.Is(err, ErrRefused) {
		t.Errorf("another server of the cloud in its place: %v", err)
	}
	if _, err := shake(t, server, JoinTLS(authority(t).Fingerprint(), "127.0.0.1")); !errors.Is(err, ErrRefused) {
		t.Errorf("another authority: %v", err)
	}
	// An impostor appends the true authority's certificate, which is public.
	fake := authority(t)
	forged, err := fake.IssueServer("api", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(forged.CertificatePEM, forged.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pair.Certificate = append(pair.Certificate, a.cert.Raw)
	if _, err := shake(t, &tls.Config{Certificates: []tls.Certificate{pair}}, JoinTLS(a.Fingerprint(), "127.0.0.1")); !errors.Is(err, ErrRefused) {
		t.Errorf("an impostor with the true authority's certificate: %v", err)
	}
}

func TestToken(t *testing.T) {
	a := authority(t)
	token, err := a.NewToken()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseToken(token.String())
	if err != nil || again != token || again.Fingerprint != a.Fingerprint() {
		t.Fatalf("%v %v", again, err)
	}
	if sum := sha256.Sum256(token.Secret[:]); token.Hash() != hex.EncodeToString(sum[:]) || strings.Contains(token.String(), token.Hash()) {
		t.Fatal("the hash")
	}
	for _, s := range []string{"", "lyj_", token.String()[4:], token.String() + "x", token.String()[:20], "lyj_" + strings.Repeat("!", 64)} {
		if _, err := ParseToken(s); err == nil {
			t.Errorf("%q is taken for a token", s)
		}
	}
}
