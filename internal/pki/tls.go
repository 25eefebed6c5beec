package pki

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
)

// Revoked is a list of serials (hex) that are refused though their certificates
// are otherwise good: removed hosts, replaced controllers. The zero value revokes nothing.
type Revoked struct{ serials sync.Map }

// Set replaces the list.
func (r *Revoked) Set(serials []string) {
	want := make(map[string]bool, len(serials))
	for _, s := range serials {
		want[s] = true
		r.serials.Store(s, true)
	}
	r.serials.Range(func(k, _ any) bool {
		if !want[k.(string)] {
			r.serials.Delete(k)
		}
		return true
	})
}

// Has tells whether a serial is on the list.
func (r *Revoked) Has(serial string) bool {
	if r == nil {
		return false
	}
	_, ok := r.serials.Load(serial)
	return ok
}

// Keeper holds the certificate in use and the authority trusted, and lets them be
// replaced while connections come and go.
type Keeper struct{ current atomic.Pointer[kept] }

type kept struct {
	pair  tls.Certificate
	leaf  *x509.Certificate
	roots *x509.CertPool
}

// NewKeeper starts with a certificate, its key and the authority's certificate.
func NewKeeper(certPEM, keyPEM, caPEM []byte) (*Keeper, error) {
	k := &Keeper{}
	return k, k.Replace(certPEM, keyPEM, caPEM)
}

// Replace checks that the three belong together and uses them for every later handshake.
func (k *Keeper) Replace(certPEM, keyPEM, caPEM []byte) error {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	ca, err := ParseCertificate(caPEM)
	if err != nil {
		return err
	}
	// Its dates are the peer's matter: an agent whose certificate ended still starts, and is told so.
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("pki: the certificate is not of this authority: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	k.current.Store(&kept{pair: pair, leaf: leaf, roots: roots})
	return nil
}

// Leaf is the certificate in use.
func (k *Keeper) Leaf() *x509.Certificate { return k.current.Load().leaf }

// AgentTLS is what an agent serves with: TLS 1.3, callers must show a
// certificate of the authority with role controller.
func AgentTLS(k *Keeper) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAnyClientCert, // verified below against the authority trusted now
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &k.current.Load().pair, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			return verify(s, k.current.Load().roots, RoleController, "", nil, x509.ExtKeyUsageClientAuth)
		},
		SessionTicketsDisabled: true, // a resumed session would outlive a replaced authority
	}
}

// ControllerTLS is what a controller calls the agent of one host with: the agent
// must show a certificate of the authority with role host and this host id, not revoked.
func ControllerTLS(k *Keeper, hostID string, revoked *Revoked) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		ServerName: hostID,
		// Checked below by role and host id, with the authority trusted at that moment; the agent's
		// address is no part of its certificate.
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &k.current.Load().pair, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			return verify(s, k.current.Load().roots, RoleHost, hostID, revoked, x509.ExtKeyUsageServerAuth)
		},
	}
}

// JoinTLS is what a new host makes its first contact with: the server must show
// a chain that ends in the authority with this fingerprint and be good for name.
func JoinTLS(fingerprint [sha256.Size]byte, name string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         name,
		InsecureSkipVerify: true, // the authority is unknown until its fingerprint is checked below
		VerifyConnection: func(s tls.ConnectionState) error {
			roots := x509.NewCertPool()
			for _, c := range s.PeerCertificates {
				sum := sha256.Sum256(c.Raw)
				if c.IsCA && subtle.ConstantTimeCompare(sum[:], fingerprint[:]) == 1 {
					roots.AddCert(c)
					if _, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
						return fmt.Errorf("%w: %w", ErrRefused, err)
					}
					return nil
				}
			}
			return fmt.Errorf("%w: the controller does not show the authority that the token names", ErrRefused)
		},
	}
}

// ServerTLS is what the API serves with, on addresses that are not loopback.
func ServerTLS(k *Keeper) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &k.current.Load().pair, nil
		},
	}
}

func verify(s tls.ConnectionState, roots *x509.CertPool, role Role, name string, revoked *Revoked, usage x509.ExtKeyUsage) error {
	if len(s.PeerCertificates) == 0 {
		return fmt.Errorf("%w: none shown", ErrRefused)
	}
	leaf := s.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	gotRole, gotName, err := Identity(leaf)
	if err != nil {
		return err
	}
	if gotRole != role {
		return fmt.Errorf("%w: its role is %s, not %s", ErrRefused, gotRole, role)
	}
	if name != "" && gotName != name {
		return fmt.Errorf("%w: it is %s's, not %s's", ErrRefused, gotName, name)
	}
	if revoked.Has(Serial(leaf)) {
		return fmt.Errorf("%w: it is revoked", ErrRefused)
	}
	return nil
}
