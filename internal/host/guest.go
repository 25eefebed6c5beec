package host

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// validGuestUser is an account of a guest: Linux' names, and Windows' Administrator.
var validGuestUser = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,31}$`)

// maxGuestKeys bounds the keys of one call.
const maxGuestKeys = 100

// withAgent runs f on a running guest whose agent is connected. The agent itself answers within libvirt's 5 s or
// is given up.
func (h *Host) withAgent(ctx context.Context, id, user string, f func(*libvirt.Libvirt, libvirt.Domain) error) error {
	if err := checkID("domain", id); err != nil {
		return err
	}
	if !validGuestUser.MatchString(user) {
		return fmt.Errorf("%w: guest account %q", hostlink.ErrInvalid, user)
	}
	_, err := bounded(ctx, h, id, func(ctx context.Context) (struct{}, error) {
		l, err := h.virt.get(ctx)
		if err != nil {
			return struct{}{}, err
		}
		d, _, err := h.find(l, id)
		if err != nil {
			return struct{}{}, err
		}
		if d == nil {
			return struct{}{}, fmt.Errorf("%w: domain %s", hostlink.ErrNotFound, id)
		}
		live, err := domainXML(l, d.dom, 0)
		if err != nil {
			return struct{}{}, virtError(err)
		}
		if !agentConnected(live) {
			return struct{}{}, fmt.Errorf("%w: the guest agent of %s does not run", hostlink.ErrUnavailable, id)
		}
		return struct{}{}, virtError(f(l, d.dom))
	})
	return err
}

// SetGuestPassword implements hostlink.Host. A crypt is what the guest writes down as it is: the text stays with
// whoever chose it.
func (h *Host) SetGuestPassword(ctx context.Context, r *pb.SetGuestPasswordRequest) (*pb.SetGuestPasswordResponse, error) {
	password, flags := r.GetPassword(), libvirt.DomainSetUserPasswordFlags(0)
	if r.GetHashedPassword() != "" {
		password, flags = r.HashedPassword, libvirt.DomainPasswordEncrypted
	}
	if password == "" || len(password) > 256 || strings.ContainsAny(password, "\r\n\x00") || flags != 0 && !validHash.MatchString(password) {
		return nil, fmt.Errorf("%w: not a password", hostlink.ErrInvalid) // never shown
	}
	err := h.withAgent(ctx, r.GetId(), r.GetUser(), func(l *libvirt.Libvirt, dom libvirt.Domain) error {
		return l.DomainSetUserPassword(dom, libvirt.OptString{r.User}, libvirt.OptString{password}, flags)
	})
	if err != nil {
		return nil, err
	}
	return &pb.SetGuestPasswordResponse{}, nil
}

// SetGuestKeys implements hostlink.Host. A key that is there, or is not there to be removed, is left alone by
// the agent.
func (h *Host) SetGuestKeys(ctx context.Context, r *pb.SetGuestKeysRequest) (*pb.SetGuestKeysResponse, error) {
	if n := len(r.GetSshKeys()); n == 0 || n > maxGuestKeys {
		return nil, fmt.Errorf("%w: %d keys", hostlink.ErrInvalid, n)
	}
	for _, key := range r.SshKeys {
		if key == "" || len(key) > 16<<10 || strings.ContainsAny(key, "\r\n\x00") {
			return nil, fmt.Errorf("%w: an SSH key of more than one line", hostlink.ErrInvalid)
		}
	}
	flags := libvirt.DomainAuthorizedSSHKeysSetAppend
	if r.Remove {
		flags = libvirt.DomainAuthorizedSSHKeysSetRemove
	}
	err := h.withAgent(ctx, r.GetId(), r.GetUser(), func(l *libvirt.Libvirt, dom libvirt.Domain) error {
		return l.DomainAuthorizedSshKeysSet(dom, r.User, r.SshKeys, uint32(flags))
	})
	if err != nil {
		return nil, err
	}
	return &pb.SetGuestKeysResponse{}, nil
}
