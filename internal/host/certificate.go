package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/pki"
)

// Files of the host's identity in Config.Dir. ovn-controller uses the same
// three, and reads them again when they change.
const (
	fileAgent       = "agent.json"
	fileCertificate = "agent.crt"
	fileKey         = "agent.key"
	fileCA          = "ca.crt"
	fileNextKey     = "agent.key.next" // of a request that is not answered yet
)

// OpenKeeper reads the certificate that Join or InstallCertificate wrote. A renewal that was cut off
// between its files is finished.
func OpenKeeper(dir string) (*pki.Keeper, error) {
	read := func(name string) []byte {
		b, _ := os.ReadFile(filepath.Join(dir, name)) // what is missing is refused below
		return b
	}
	cert, ca := read(fileCertificate), read(fileCA)
	k, err := pki.NewKeeper(cert, read(fileKey), ca)
	if err == nil {
		return k, nil
	}
	next := read(fileNextKey)
	if next == nil {
		return nil, fmt.Errorf("host: this machine has not joined, or its certificate is damaged: %w", err)
	}
	if k, nextErr := pki.NewKeeper(cert, next, ca); nextErr == nil {
		return k, os.Rename(filepath.Join(dir, fileNextKey), filepath.Join(dir, fileKey))
	}
	return nil, fmt.Errorf("host: %w", err)
}

// CertificateRequest implements hostlink.Host. A request not answered yet is made again, with a new key.
func (h *Host) CertificateRequest(ctx context.Context, _ *pb.CertificateRequestRequest) (*pb.CertificateRequestResponse, error) {
	if h.conf.Keeper == nil {
		return nil, fmt.Errorf("%w: this host has no certificate", hostlink.ErrInvalid)
	}
	unlock, err := h.lock(ctx, "certificate")
	if err != nil {
		return nil, err
	}
	defer unlock()
	csr, key, err := pki.NewRequest(h.conf.HostID)
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	if err := writeFile(filepath.Join(h.conf.Dir, fileNextKey), key, 0o600); err != nil {
		return nil, err
	}
	return &pb.CertificateRequestResponse{CsrPem: csr, NotAfter: h.conf.Keeper.Leaf().NotAfter.Unix()}, nil
}

// InstallCertificate implements hostlink.Host: every later handshake uses the new certificate.
func (h *Host) InstallCertificate(ctx context.Context, r *pb.InstallCertificateRequest) (*pb.InstallCertificateResponse, error) {
	if h.conf.Keeper == nil {
		return nil, fmt.Errorf("%w: this host has no certificate", hostlink.ErrInvalid)
	}
	unlock, err := h.lock(ctx, "certificate")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := h.fence.admitEpoch(r.GetFence().GetEpoch()); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(h.conf.Dir, fileNextKey))
	if errors.Is(err, os.ErrNotExist) {
		// A repeated call: what it brings is in use already.
		if cert, err := pki.ParseCertificate(r.CertificatePem); err == nil && cert.Equal(h.conf.Keeper.Leaf()) {
			return &pb.InstallCertificateResponse{}, nil
		}
		return nil, fmt.Errorf("%w: this host has not asked for a certificate", hostlink.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	if err := checkIdentity(r.CertificatePem, key, r.CaPem, h.conf.HostID); err != nil {
		return nil, err
	}
	// In this order OpenKeeper finds a pair that fits after a crash at any point.
	if err := writeFile(filepath.Join(h.conf.Dir, fileCA), r.CaPem, 0o644); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(h.conf.Dir, fileCertificate), r.CertificatePem, 0o644); err != nil {
		return nil, err
	}
	if err := os.Rename(filepath.Join(h.conf.Dir, fileNextKey), filepath.Join(h.conf.Dir, fileKey)); err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	if err := syncDir(h.conf.Dir); err != nil {
		return nil, err
	}
	if err := h.conf.Keeper.Replace(r.CertificatePem, key, r.CaPem); err != nil {
		return nil, err
	}
	return &pb.InstallCertificateResponse{}, nil
}

// checkIdentity refuses a certificate that is not this host's.
func checkIdentity(certPEM, keyPEM, caPEM []byte, hostID string) error {
	k, err := pki.NewKeeper(certPEM, keyPEM, caPEM)
	if err != nil {
		return fmt.Errorf("%w: %w", hostlink.ErrInvalid, err)
	}
	role, name, err := pki.Identity(k.Leaf())
	if err != nil || role != pki.RoleHost || name != hostID {
		return fmt.Errorf("%w: the certificate is not of host %s", hostlink.ErrInvalid, hostID)
	}
	return nil
}
