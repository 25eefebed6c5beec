package compute

import (
	"context"

	"github.com/GehirnInc/crypt/sha512_crypt"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type resetPasswordRequest struct {
	VMID      string `validate:"required" doc:"virtual machine id"`
	Password  string `validate:"required" doc:"6 to 30 characters, two of upper, lower, digit, special"`
	LoginUser string `validate:"omitempty,oneof=root ubuntu debian administrator" doc:"account, default follows the image"`
	action.Tenant
}

// resetPassword changes a password inside a running guest. It is answered when the guest has taken it over.
func (s *Service) resetPassword(ctx context.Context, c *action.Call, q *resetPasswordRequest) (*action.Empty, error) {
	v, err := s.usable(ctx, c, q.VMID)
	if err != nil {
		return nil, err
	}
	user, err := v.account(q.LoginUser)
	if err != nil {
		return nil, err
	}
	hash, err := s.newPassword(ctx, v.Region, q.Password, v.OSType, user)
	if err != nil {
		return nil, err
	}
	if err := v.hasAgent(); err != nil {
		return nil, err
	}
	r := &pb.SetGuestPasswordRequest{Id: v.ID, User: user, HashedPassword: hash}
	if windows(v.OSType) { // it takes no crypt
		r.HashedPassword, r.Password = "", q.Password
	}
	if _, err := s.Fleet.Host(v.HostID).SetGuestPassword(ctx, r); err != nil {
		return nil, guestFailure(v, err, "the password could not be changed in")
	}
	c.AddResource(v.ID)
	if user != v.LoginUser {
		return nil, nil
	}
	// A system that is installed anew, or reads its seed at each start, has the same one.
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*seed)(nil)).Set("password_hash = ?", s.Secret.Seal([]byte(hash), seedContext(v.ID, "password_hash"))).
			Where("vm_id = ?", v.ID).Exec(ctx)
		return err
	})
}

// account is the guest's account that is meant: the named one, or its image's.
func (v *VM) account(named string) (string, error) {
	if named == "" {
		return v.LoginUser, nil
	}
	if windows(v.OSType) != (named == "administrator") {
		return "", retcode.InvalidParameter.Errorf("LoginUser %s is no account of %s", named, v.OSName)
	}
	return named, nil
}

// hasAgent refuses machines whose guest agent cannot be asked (1006).
func (v *VM) hasAgent() error {
	switch {
	case !v.QGA:
		return retcode.InvalidVMState.Errorf("the image of %s has no guest agent", v.ID)
	case !v.QGAConnected:
		return retcode.InvalidVMState.Errorf("the guest agent of %s does not run", v.ID)
	}
	return nil
}

// newPassword checks a password for an account (1029, 1030) and answers its crypt.
func (s *Service) newPassword(ctx context.Context, region, password, osType, user string) (hash string, err error) {
	if !windows(osType) {
		user = ""
	}
	if err := s.passwordRules(ctx, region).check(password, user); err != nil {
		return "", err
	}
	return sha512_crypt.New().Generate([]byte(password), nil)
}
