package identity

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// totpRow is an account's time-based one-time password (RFC 6238), applied for or bound.
type totpRow struct {
	bun.BaseModel `bun:"table:totp"`

	Account   int64  `bun:"account,pk"`
	Secret    string `bun:"secret"`
	Bound     bool   `bun:"bound"`
	Kind      string `bun:"kind"` // Software, Hardware
	Serial    string `bun:"serial"`
	Step      int64  `bun:"step"` // the last one accepted
	ExpiresAt int64  `bun:"expires_at"`
	BoundAt   int64  `bun:"bound_at"`
}

// States of a binding, as DescribeTOTP shows them.
const (
	totpUnbound = "Unbound"
	totpApplied = "Applied"
	totpBound   = "Bound"
)

const (
	totpPeriod  = 30 // seconds
	totpSkew    = 1  // steps that a clock may be off
	applyFor    = 10 * time.Minute
	secretBytes = 20 // 160 bits, as RFC 4226 recommends
)

func totpContext(account int64) string { return "totp/" + strconv.FormatInt(account, 10) }

// totp reads an account's binding; nil when there is none, or the application has run out.
func (s *Service) totp(ctx context.Context, idb bun.IDB, id int64) (*totpRow, error) {
	t := new(totpRow)
	if err := idb.NewSelect().Model(t).Where("account = ?", id).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if !t.Bound && s.Clock.Micros() >= t.ExpiresAt {
		return nil, nil
	}
	return t, nil
}

func (t *totpRow) state() string {
	switch {
	case t == nil:
		return totpUnbound
	case t.Bound:
		return totpBound
	}
	return totpApplied
}

// applyTOTP issues a secret. A second application replaces the first. 551.
func (s *Service) applyTOTP(ctx context.Context, a *account, kind, serial string) (secret, url string, until int64, err error) {
	key, err := totp.Generate(totp.GenerateOpts{Issuer: "Lingyun", AccountName: a.Email, Period: totpPeriod, SecretSize: secretBytes, Digits: otp.DigitsSix})
	if err != nil {
		return "", "", 0, err
	}
	sealed := s.Secret.Seal([]byte(key.Secret()), totpContext(a.ID))
	until = s.Clock.Now().Add(applyFor).UnixMicro()
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := tx.NewRaw(`INSERT INTO totp (account, secret, bound, kind, serial, step, expires_at, bound_at) VALUES (?, ?, ?, ?, ?, 0, ?, 0)
			ON CONFLICT (account) DO UPDATE SET secret = EXCLUDED.secret, kind = EXCLUDED.kind, serial = EXCLUDED.serial, step = 0,
			expires_at = EXCLUDED.expires_at WHERE NOT totp.bound`, a.ID, sealed, false, kind, serial, until).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return retcode.TOTPAlreadyBound.Errorf("unbind it first")
	})
	return key.Secret(), key.URL(), until / 1e6, err
}

// bindTOTP ends an application with a first code. 549, 551, 553, 554.
func (s *Service) bindTOTP(ctx context.Context, id int64, code string) error {
	t, err := s.totp(ctx, s.DB.Reader(), id)
	switch {
	case err != nil:
		return err
	case t == nil:
		return retcode.InvalidTOTPState.Errorf("apply for a secret first")
	case t.Bound:
		return retcode.TOTPAlreadyBound.Errorf("unbind it first")
	}
	step, err := s.matchTOTP(t, code)
	if err != nil {
		return err
	}
	return s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := tx.NewUpdate().Model((*totpRow)(nil)).Set("bound = ?, step = ?, bound_at = ?", true, step, s.Clock.Micros()).
			Where("account = ? AND NOT bound AND secret = ?", id, t.Secret).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return retcode.InvalidTOTPState.Errorf("the binding changed meanwhile")
	})
}

// useTOTP checks a code of a bound TOTP and uses it up: tx is where, so that what the code is for happens with it or
// not at all. 549, 552, 553, 554.
func (s *Service) useTOTP(ctx context.Context, tx bun.Tx, id int64, code string) error {
	t, err := s.totp(ctx, tx, id)
	switch {
	case err != nil:
		return err
	case t == nil:
		return retcode.TOTPNotBound.Errorf("there is no TOTP binding")
	case !t.Bound:
		return retcode.InvalidTOTPState.Errorf("finish the binding first")
	}
	step, err := s.matchTOTP(t, code)
	if err != nil {
		return err
	}
	r, err := tx.NewUpdate().Model((*totpRow)(nil)).Set("step = ?", step).Where("account = ? AND step < ?", id, step).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return retcode.TOTPCodeUsed.Errorf("wait for the next code")
}

// matchTOTP returns the time step whose code was given. 549, 554.
func (s *Service) matchTOTP(t *totpRow, code string) (int64, error) {
	secret, err := s.Secret.Open(t.Secret, totpContext(t.Account))
	if err != nil {
		return 0, fmt.Errorf("TOTP secret of account %d: %w", t.Account, err)
	}
	step, ok := stepOf(string(secret), code, s.Clock.Now())
	switch {
	case !ok:
		return 0, retcode.AuthCodeVerifyFailed.Errorf("the code is of another time or another secret")
	case step <= t.Step:
		return 0, retcode.TOTPCodeUsed.Errorf("wait for the next code")
	}
	return step, nil
}

// stepOf finds the time step, near now, of which a code is. All are computed, whichever it is.
func stepOf(secret, code string, now time.Time) (found int64, ok bool) {
	for d := int64(-totpSkew); d <= totpSkew; d++ {
		step := now.Unix()/totpPeriod + d
		want, err := hotp.GenerateCode(secret, uint64(step))
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			found, ok = step, true
		}
	}
	return found, ok
}
