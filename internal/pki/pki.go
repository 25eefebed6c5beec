// Package pki is the controller's certificate authority: who may call whom
// between controllers, hosts and OVN's databases, and how a new host knows the
// controller before it has any certificate.
//
// Every certificate carries its role and name as one URI,
// lingyun://ROLE/NAME, next to the usual names. Roles:
//
//	controller  calls agents; agents accept no other role
//	host        an agent's; the common name is the host's id, which is also its
//	            OVN chassis name, so that the southbound database's access
//	            control knows the chassis by it
//	ovn         an OVSDB server's (southbound)
//	server      the API's own on addresses that are not loopback
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"regexp"
	"time"
)

// Role is what a certificate is good for.
type Role string

// The roles.
const (
	RoleController Role = "controller"
	RoleHost       Role = "host"
	RoleOVN        Role = "ovn"
	RoleServer     Role = "server"
)

// How long certificates live. Hosts' and controllers' are renewed when RenewBefore is left.
const (
	AuthorityLifetime = 20 * 365 * 24 * time.Hour
	HostLifetime      = 90 * 24 * time.Hour
	LeafLifetime      = 365 * 24 * time.Hour
	RenewBefore       = 30 * 24 * time.Hour
	// skew is how far clocks of two machines may differ.
	skew = 10 * time.Minute
)

const scheme = "lingyun"

// ErrRefused is in the chain of every refusal of a peer's certificate.
var ErrRefused = errors.New("pki: certificate refused")

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Authority is the cloud's certificate authority.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	now  func() time.Time
}

// Pair is a certificate (its PEM followed by the authority's) and its key.
type Pair struct {
	CertificatePEM []byte
	KeyPEM         []byte
	// Serial in hex, as revocation lists name it.
	Serial string
}

// NewAuthority makes a new authority with a key of its own (ECDSA P-256: OVS'
// OpenSSL, Go and old clients all know it).
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Lingyun"}},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(AuthorityLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{cert: cert, key: key, now: time.Now}, nil
}

// Load reads an authority that Marshal wrote.
func Load(certPEM, keyPEM []byte) (*Authority, error) {
	cert, err := ParseCertificate(certPEM)
	if err != nil {
		return nil, err
	}
	if !cert.IsCA {
		return nil, errors.New("pki: not an authority's certificate")
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if public, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(key.Public()) {
		return nil, errors.New("pki: the authority's key does not belong to its certificate")
	}
	return &Authority{cert: cert, key: key, now: time.Now}, nil
}

// Marshal writes the authority as PEM. The key is in the clear: whoever stores it seals it.
func (a *Authority) Marshal() (certPEM, keyPEM []byte, err error) {
	keyPEM, err = marshalKey(a.key)
	return a.CertificatePEM(), keyPEM, err
}

// SetClock makes the authority take the time from now instead of the machine's clock.
func (a *Authority) SetClock(now func() time.Time) { a.now = now }

// CertificatePEM is the authority's certificate, for those who shall trust it.
func (a *Authority) CertificatePEM() []byte { return encode("CERTIFICATE", a.cert.Raw) }

// Fingerprint is the SHA-256 of the authority's certificate.
func (a *Authority) Fingerprint() [sha256.Size]byte { return sha256.Sum256(a.cert.Raw) }

// IssueController makes key and certificate of a controller, with which it calls agents.
func (a *Authority) IssueController(name string) (Pair, error) {
	return a.issuePair(RoleController, name, nil, LeafLifetime,
		x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
}

// IssueServer makes key and certificate for the API's endpoint: hosts are its
// names and addresses.
func (a *Authority) IssueServer(name string, hosts []string) (Pair, error) {
	return a.issuePair(RoleServer, name, hosts, LeafLifetime, x509.ExtKeyUsageServerAuth)
}

// IssueOVN makes key and certificate of an OVSDB server, for ssl. hosts are its names and addresses.
// OVSDB checks no role: whoever has any client certificate of this authority can
// connect, so only the southbound (with its access control, which knows chassis
// by common name) listens on ssl; the northbound stays on a unix socket.
func (a *Authority) IssueOVN(name string, hosts []string) (Pair, error) {
	return a.issuePair(RoleOVN, name, hosts, LeafLifetime,
		x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
}

// IssueHost signs a host's request for 90 days. Of the request only the public
// key is taken; the name is hostID, whatever the request says. It answers the
// certificate (followed by the authority's) and its serial in hex.
func (a *Authority) IssueHost(csrPEM []byte, hostID string) (certPEM []byte, serial string, err error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, "", errors.New("pki: not a PEM certificate request")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, "", fmt.Errorf("pki: certificate request: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, "", fmt.Errorf("pki: certificate request: %w", err)
	}
	key, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, "", errors.New("pki: certificate request: the key is not ECDSA P-256")
	}
	return a.issue(key, RoleHost, hostID, nil, HostLifetime,
		x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
}

func (a *Authority) issuePair(role Role, name string, hosts []string, lifetime time.Duration, usages ...x509.ExtKeyUsage) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	certPEM, serial, err := a.issue(key.Public(), role, name, hosts, lifetime, usages...)
	if err != nil {
		return Pair{}, err
	}
	keyPEM, err := marshalKey(key)
	return Pair{CertificatePEM: certPEM, KeyPEM: keyPEM, Serial: serial}, err
}

func (a *Authority) issue(public crypto.PublicKey, role Role, name string, hosts []string, lifetime time.Duration, usages ...x509.ExtKeyUsage) ([]byte, string, error) {
	if !validName.MatchString(name) {
		return nil, "", fmt.Errorf("pki: %q cannot be a certificate's name", name)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, "", err
	}
	now := a.now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Lingyun"}, OrganizationalUnit: []string{string(role)}},
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  usages,
		URIs:         []*url.URL{{Scheme: scheme, Host: string(role), Path: "/" + name}},
		DNSNames:     []string{name},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != name {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, "", err
	}
	return append(encode("CERTIFICATE", der), a.CertificatePEM()...), serialText(serial), nil
}

// NewRequest makes a key and a certificate request for it.
func NewRequest(name string) (csrPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = marshalKey(key)
	return encode("CERTIFICATE REQUEST", der), keyPEM, err
}

// ParseCertificate reads the first certificate of a PEM text.
func ParseCertificate(certPEM []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("pki: not a PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	return cert, nil
}

// Identity reads role and name from a certificate of the authority.
func Identity(cert *x509.Certificate) (Role, string, error) {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != scheme || len(cert.URIs[0].Path) < 2 {
		return "", "", fmt.Errorf("%w: it names no role", ErrRefused)
	}
	return Role(cert.URIs[0].Host), cert.URIs[0].Path[1:], nil
}

// Serial of a certificate in hex, as Pair and revocation lists have it.
func Serial(cert *x509.Certificate) string { return serialText(cert.SerialNumber) }

func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40 // positive, always 16 bytes
	return new(big.Int).SetBytes(b), nil
}

func serialText(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func marshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encode("PRIVATE KEY", der), nil
}

func parseKey(keyPEM []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("pki: not a PEM private key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("pki: the key cannot sign")
	}
	return signer, nil
}
