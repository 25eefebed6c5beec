package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/pki"
)

// Settings that hold the cloud's certificate authority; its key is sealed.
const (
	authoritySetting    = "authority.certificate"
	authorityKeySetting = "authority.key"
)

// loadAuthority reads the authority or makes it, and the certificates that this controller needs: to call
// agents, for its own listeners, and for OVN's southbound database.
func (c *Controller) loadAuthority(ctx context.Context) error {
	certificate, err := c.Catalog.Setting(ctx, authoritySetting)
	if err != nil {
		return err
	}
	if certificate == "" {
		err := c.makeAuthority(ctx)
		if database.IsUnique(err) { // another controller was faster
			return c.loadAuthority(ctx)
		}
		if err != nil {
			return fmt.Errorf("making the certificate authority: %w", err)
		}
	} else {
		sealed, err := c.Catalog.Setting(ctx, authorityKeySetting)
		if err != nil {
			return err
		}
		key, err := c.secret.Open(sealed, authorityKeySetting)
		if err != nil {
			return fmt.Errorf("key of the certificate authority: %w", err)
		}
		if c.authority, err = pki.Load([]byte(certificate), key); err != nil {
			return err
		}
	}
	return c.renewOwn(ctx)
}

func (c *Controller) makeAuthority(ctx context.Context) error {
	a, err := pki.NewAuthority("Lingyun")
	if err != nil {
		return err
	}
	certificate, key, err := a.Marshal()
	if err != nil {
		return err
	}
	c.authority = a
	return c.Catalog.AddSettings(ctx, map[string]string{
		authoritySetting:    string(certificate),
		authorityKeySetting: c.secret.Seal(key, authorityKeySetting),
	})
}

// renewOwn makes this controller's certificates when there are none yet or they end soon. Those of its
// own live in memory; OVN's are in DIR/ovn, the authority's is in DIR/ca.crt for clients to trust.
func (c *Controller) renewOwn(context.Context) error {
	if c.authority == nil {
		return nil
	}
	renew := func(k **pki.Keeper, issue func() (pki.Pair, error)) error {
		if *k != nil && time.Until((*k).Leaf().NotAfter) > pki.RenewBefore {
			return nil
		}
		p, err := issue()
		if err != nil {
			return err
		}
		if *k != nil {
			return (*k).Replace(p.CertificatePEM, p.KeyPEM, c.authority.CertificatePEM())
		}
		*k, err = pki.NewKeeper(p.CertificatePEM, p.KeyPEM, c.authority.CertificatePEM())
		return err
	}
	if err := renew(&c.keeper, func() (pki.Pair, error) { return c.authority.IssueController("controller") }); err != nil {
		return err
	}
	if c.manage != nil || c.given == nil && !loopback(c.endpoint.Addr()) {
		hosts := names(c.endpoint.Addr())
		if c.manage != nil {
			hosts = append(hosts, names(c.manage.Addr())...)
		}
		if err := renew(&c.ownTLS, func() (pki.Pair, error) { return c.authority.IssueServer("lingyun", unique(hosts)) }); err != nil {
			return err
		}
	}
	if err := c.writeOVN(); err != nil {
		return fmt.Errorf("OVN's certificate: %w", err)
	}
	return writeFile(filepath.Join(c.Config.Dir, "ca.crt"), c.authority.CertificatePEM(), 0o644)
}

// writeOVN keeps DIR/ovn/{ovn.crt,ovn.key,ca.crt} for the southbound database, when hosts reach it by ssl.
func (c *Controller) writeOVN() error {
	_, address, ok := strings.Cut(c.Config.OVNHosts, "ssl:")
	if !ok {
		return nil
	}
	host, _, err := net.SplitHostPort(strings.Split(address, ",")[0])
	if err != nil {
		return err
	}
	dir := filepath.Join(c.Config.Dir, "ovn")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	if text, err := os.ReadFile(path("ovn.crt")); err == nil {
		key, kerr := os.ReadFile(path("ovn.key"))
		old, err := pki.NewKeeper(text, key, c.authority.CertificatePEM())
		if kerr == nil && err == nil && old.Leaf().VerifyHostname(host) == nil && time.Until(old.Leaf().NotAfter) > pki.RenewBefore {
			return nil
		}
	}
	p, err := c.authority.IssueOVN("ovn", []string{host})
	if err != nil {
		return err
	}
	return errors.Join(writeFile(path("ovn.key"), p.KeyPEM, 0o600), writeFile(path("ca.crt"), c.authority.CertificatePEM(), 0o644),
		writeFile(path("ovn.crt"), p.CertificatePEM, 0o644))
}

// joinURL is where new hosts join; empty: nowhere.
func (c *Controller) joinURL() string {
	switch {
	case c.manage != nil:
		return "https://" + c.manage.Addr().String()
	case c.given == nil && !loopback(c.endpoint.Addr()):
		return strings.TrimSuffix(c.URL, "/api")
	}
	return ""
}

func unique(all []string) []string {
	seen := map[string]bool{}
	var once []string
	for _, s := range all {
		if !seen[s] {
			seen[s] = true
			once = append(once, s)
		}
	}
	return once
}
