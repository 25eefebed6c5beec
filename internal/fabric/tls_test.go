package fabric

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{c, key}
}

func (a *authority) issue(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, a.certificate, &k.PublicKey, a.key)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// TestTLS: the northbound over ssl takes our certificate and nobody else's, and
// we take only a server of our authority.
func TestTLS(t *testing.T) {
	c := startCentral(t)
	ours, theirs := newAuthority(t), newAuthority(t)
	certificate, key := ours.issue(t, "ovn")
	for name, text := range map[string][]byte{
		"cert.pem": certificate, "key.pem": key,
		"ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.certificate.Raw}),
	} {
		must(t, os.WriteFile(c.path(name), text, 0o600))
	}
	stop(c.north)
	must(t, os.Remove(c.path("nb.sock")))
	c.north = c.serve("nb", "--remote=pssl:0:127.0.0.1", "--private-key="+c.path("key.pem"), "--certificate="+c.path("cert.pem"), "--ca-cert="+c.path("ca.pem"))
	port := ""
	eventually(t, "the server's port", func() error {
		log, err := os.ReadFile(c.path("nb.log"))
		for line := range strings.Lines(string(log)) {
			if _, after, ok := strings.Cut(line, "listening on port "); ok {
				port = strings.TrimSpace(after)
				return nil
			}
		}
		return fmt.Errorf("not in the log: %v", err)
	})
	open := func(client, server *authority) error {
		certificate, key := client.issue(t, "controller")
		pair, err := tls.X509KeyPair(certificate, key)
		must(t, err)
		roots := x509.NewCertPool()
		roots.AddCert(server.certificate)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		f, err := OpenOVN(ctx, Options{Northbound: "ssl:127.0.0.1:" + port, TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}})
		if err != nil {
			return err
		}
		defer f.Close()
		return f.EnsureSegment(ctx, bgp)
	}
	must(t, open(ours, ours))
	if open(theirs, ours) == nil {
		t.Error("the server takes a stranger's certificate")
	}
	if open(ours, theirs) == nil {
		t.Error("we take a stranger's server")
	}
}
