package identity

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"
)

// Recovery says what of an account is put back to where its owner can log in.
type Recovery struct {
	Email    string
	Password string // new; made when empty
	TOTP     bool   // remove the binding
	Network  bool   // forget the allow-list
}

// Recover gives an account a new password that must be changed at the next login, ends its sessions and its freeze. It is
// for who has the server's machine and cannot log in; no caller of the API reaches it. It returns the password.
func (s *Service) Recover(ctx context.Context, r Recovery) (string, error) {
	a, err := s.byEmail(ctx, r.Email)
	if err != nil {
		return "", err
	}
	if a == nil {
		return "", fmt.Errorf("there is no account %s", r.Email)
	}
	if r.Password == "" {
		r.Password = password()
	}
	hash, err := s.newHash(ctx, r.Password)
	if err != nil {
		return "", err
	}
	return r.Password, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := s.setPassword(ctx, tx, a.ID, hash, true, ""); err != nil {
			return err
		}
		if _, err := tx.NewRaw(`DELETE FROM login_failure WHERE name = ?`, digest(a.Email)).Exec(ctx); err != nil {
			return err
		}
		if err := s.set(ctx, tx, a, "state = ?", InUse); err != nil {
			return err
		}
		if r.Network {
			if err := s.set(ctx, tx, a, "allow_list = ''"); err != nil {
				return err
			}
			if a.Kind != administrator {
				if err := s.setTenant(ctx, tx, a.Company, "allow_list = ''"); err != nil {
					return err
				}
			}
		}
		if r.TOTP {
			if _, err := tx.NewRaw(`DELETE FROM totp WHERE account = ?`, a.ID).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}
