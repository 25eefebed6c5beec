package identity

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// newHash checks a new password against the rule and hashes it. 20013, 20014, 199.
func (s *Service) newHash(ctx context.Context, password string) (string, error) {
	p := s.Policy(ctx)
	if err := p.check(password); err != nil {
		return "", err
	}
	done, err := s.guard.hashing(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	return argon2id.CreateHash(password, s.PasswordCost)
}

// nobodysHash is a hash of our cost that no password has: checking one of an unknown account against it takes as long
// as that of a known one.
func (s *Service) nobodysHash() string {
	p := s.PasswordCost
	salt, key := make([]byte, p.SaltLength), make([]byte, p.KeyLength)
	rand.Read(salt)
	rand.Read(key)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.Memory, p.Iterations, p.Parallelism, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// matches tells whether a password is that of a hash. 199 when too many wait for that.
func (s *Service) matches(ctx context.Context, password, hash string) (bool, error) {
	done, err := s.guard.hashing(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	return argon2id.ComparePasswordAndHash(password, hash)
}

// byEmail finds an account; nil when there is none.
func (s *Service) byEmail(ctx context.Context, email string) (*account, error) {
	a := new(account)
	if err := s.DB.Reader().NewSelect().Model(a).Where("email = ?", strings.ToLower(email)).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return a, nil
}

// byPassword finds the account of an e-mail whose password is right. Wrong is 20006 for all, whether there is such an
// account or not, after the same work; 199 before any, when there were too many. Six in a row freeze (20001), when
// the configuration says so. The call is recorded as the account's from then on.
func (s *Service) byPassword(ctx context.Context, c *action.Call, email, password, proof string) (*account, error) {
	p := s.Policy(ctx)
	email = strings.ToLower(email)
	name := digest(email)
	a, err := s.byEmail(ctx, email)
	if err != nil {
		return nil, err
	}
	// Who guesses at an account from elsewhere does not lock out its owner at the usual place.
	attempts := "password/" + name
	if ip := c.ClientIP.String(); a != nil && a.LoginIP == ip {
		attempts += "/" + ip
	}
	t, err := s.guard.attempt(c.ClientIP, attempts, proof)
	if err != nil {
		return nil, err
	}
	if a != nil {
		c.Caller = action.Caller{Account: a.ID, Email: a.Email, Company: a.Company, Admin: a.Kind == administrator}
	} else if _, err := address(email); err == nil {
		c.Caller = action.Caller{Email: email}
	}
	if p.FreezeAfterFailures {
		if locked, err := s.lockedOut(ctx, name); err != nil {
			return nil, err
		} else if locked {
			return nil, retcode.AccountFrozen.Errorf("too many wrong passwords")
		}
	}
	hash := s.nobodysHash()
	if a != nil {
		hash = a.PasswordHash
	}
	ok, err := s.matches(ctx, password, hash)
	if err != nil {
		return nil, err
	}
	if !ok || a == nil {
		t.failed()
		if err := s.countFailure(ctx, name, a, p); err != nil {
			return nil, err
		}
		return nil, retcode.WrongPassword.Errorf("check e-mail and password")
	}
	t.right()
	return a, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewRaw(`DELETE FROM login_failure WHERE name = ?`, name).Exec(ctx)
		return err
	})
}

// lockedOut tells whether so many passwords in a row were wrong that no more are looked at.
func (s *Service) lockedOut(ctx context.Context, name string) (bool, error) {
	return s.DB.Reader().NewSelect().TableExpr("login_failure").Where("name = ? AND failures >= ?", name, freezeAfter).Exists(ctx)
}

// countFailure counts a wrong password, in the table so that a restart forgets none, and freezes the account at the
// sixth when the configuration says so.
func (s *Service) countFailure(ctx context.Context, name string, a *account, p Policy) error {
	now := s.Clock.Now()
	froze := false
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		froze = false
		var failures int
		// A day without attempts ends the row.
		if err := tx.NewRaw(`INSERT INTO login_failure (name, failures, updated_at) VALUES (?, 1, ?)
			ON CONFLICT (name) DO UPDATE SET failures = CASE WHEN login_failure.updated_at < ? THEN 1 ELSE login_failure.failures + 1 END,
			updated_at = EXCLUDED.updated_at RETURNING failures`, name, now.UnixMicro(), now.Add(-24*time.Hour).UnixMicro()).Scan(ctx, &failures); err != nil {
			return err
		}
		if a == nil || !p.FreezeAfterFailures || failures < freezeAfter {
			return nil
		}
		r, err := tx.NewRaw(`UPDATE account SET state = ?, updated_at = ?, generation = generation + 1 WHERE id = ? AND state = ?`,
			Frozen, now.UnixMicro(), a.ID, InUse).Exec(ctx)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		froze = n == 1
		return err
	})
	if froze {
		s.Forget()
	}
	return err
}

// setPassword writes a new hash in the caller's transaction and ends the account's sessions but one.
func (s *Service) setPassword(ctx context.Context, tx bun.Tx, id int64, hash string, mustChange bool, keep string) error {
	now := s.Clock.Micros()
	if _, err := tx.NewRaw(`UPDATE account SET password_hash = ?, password_at = ?, must_change = ?, updated_at = ?, generation = generation + 1 WHERE id = ?`,
		hash, now, mustChange, now, id).Exec(ctx); err != nil {
		return err
	}
	if _, err := tx.NewDelete().Model((*pendingLogin)(nil)).Where("account = ?", id).Exec(ctx); err != nil {
		return err
	}
	_, err := tx.NewDelete().Model((*session)(nil)).Where("account = ? AND id <> ?", id, keep).Exec(ctx)
	return err
}
