package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// What mailed codes and links are for.
const (
	purposeRegister      = "Register"
	purposeLogin         = "Login"
	purposeResetPassword = "ResetPassword"
	purposeChangeEmail   = "ChangeEmail"
	purposeUnbindTOTP    = "UnbindTOTP"
	purposeActivate      = "Activate" // by link only
)

const (
	codeFor      = 5 * time.Minute
	codeAgain    = time.Minute // before which no other code is sent (555)
	codeAttempts = 5
	tokenFor     = 10 * time.Minute // of CheckVerificationCode
	resetFor     = 30 * time.Minute // of the link to set a new password
	activateFor  = 3 * 24 * time.Hour
)

// verification is the last code sent to an address for a purpose.
type verification struct {
	bun.BaseModel `bun:"table:verification"`

	Purpose    string `bun:"purpose,pk"`
	Name       string `bun:"name,pk"` // digest of the e-mail
	Code       string `bun:"code"`    // sealed; empty: used
	Token      string `bun:"token"`   // digest; empty: none
	Attempts   int64  `bun:"attempts"`
	SentAt     int64  `bun:"sent_at"`
	ExpiresAt  int64  `bun:"expires_at"`
	TokenUntil int64  `bun:"token_until"`
}

func codeContext(purpose, name string) string { return "verification/" + purpose + "/" + name }

// sendable refuses another code for an address: 555 within a minute of the last one, 556 while that one is good.
func (s *Service) sendable(ctx context.Context, tx bun.Tx, purpose, email string) error {
	v := new(verification)
	if err := tx.NewSelect().Model(v).Where("purpose = ? AND name = ?", purpose, digest(email)).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return err
	}
	now := s.Clock.Micros()
	switch {
	case now < v.SentAt+codeAgain.Microseconds():
		return retcode.VerifyCodeTooFrequent.Errorf("ask again after %d seconds", (v.SentAt+codeAgain.Microseconds()-now)/1e6+1)
	case now < v.ExpiresAt && v.Code != "" && v.Attempts < codeAttempts:
		return retcode.VerifyCodeStillValid.Errorf("use the one that was sent")
	}
	return nil
}

// newCode makes a code, and a token for a link when tokenFor is not 0, in place of the last ones. Whatever sends them
// does so in the same transaction.
func (s *Service) newCode(ctx context.Context, tx bun.Tx, purpose, email string, tokenFor time.Duration) (code, token string, until int64, err error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		return "", "", 0, err
	}
	code = fmt.Sprintf("%06d", n)
	now := s.Clock.Now()
	v := &verification{Purpose: purpose, Name: digest(email), SentAt: now.UnixMicro(), ExpiresAt: now.Add(codeFor).UnixMicro()}
	v.Code = s.Secret.Seal([]byte(code), codeContext(purpose, v.Name))
	if tokenFor > 0 {
		token = newToken()
		v.Token, v.TokenUntil = digest(token), now.Add(tokenFor).UnixMicro()
	}
	_, err = tx.NewRaw(`INSERT INTO verification (purpose, name, code, token, attempts, sent_at, expires_at, token_until) VALUES (?, ?, ?, ?, 0, ?, ?, ?)
		ON CONFLICT (purpose, name) DO UPDATE SET code = EXCLUDED.code, token = EXCLUDED.token, attempts = 0, sent_at = EXCLUDED.sent_at,
		expires_at = EXCLUDED.expires_at, token_until = EXCLUDED.token_until`,
		v.Purpose, v.Name, v.Code, v.Token, v.SentAt, v.ExpiresAt, v.TokenUntil).Exec(ctx)
	return code, token, v.ExpiresAt / 1e6, err
}

// tryCode counts an attempt at a code before it is looked at, so that many at once are no more than five. 557: there
// is no code to try.
func (s *Service) tryCode(ctx context.Context, purpose, email string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := tx.NewUpdate().Model((*verification)(nil)).Set("attempts = attempts + 1").
			Where("purpose = ? AND name = ? AND code <> '' AND attempts < ? AND expires_at > ?", purpose, digest(email), codeAttempts, s.Clock.Micros()).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return retcode.VerifyCodeExpired.Errorf("ask for a new one")
	})
}

// useCode checks a code that tryCode let through and uses it up, in the transaction of what it is for. 549, 557.
func (s *Service) useCode(ctx context.Context, tx bun.Tx, purpose, email, code string) error {
	name := digest(email)
	v := new(verification)
	over := retcode.VerifyCodeExpired.Errorf("ask for a new one")
	if err := tx.NewSelect().Model(v).Where("purpose = ? AND name = ?", purpose, name).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return over
	} else if err != nil {
		return err
	}
	if v.Code == "" || s.Clock.Micros() >= v.ExpiresAt {
		return over
	}
	want, err := s.Secret.Open(v.Code, codeContext(purpose, name))
	if err != nil {
		return fmt.Errorf("mailed code: %w", err)
	}
	if subtle.ConstantTimeCompare(want, []byte(code)) != 1 {
		return retcode.AuthCodeVerifyFailed.Errorf("it is not the one that was mailed last")
	}
	return spent(tx.NewUpdate().Model((*verification)(nil)).Set("code = '', token = ''").
		Where("purpose = ? AND name = ? AND code = ?", purpose, name, v.Code).Exec(ctx))
}

// useToken uses up the token of a link or of CheckVerificationCode. 557.
func (s *Service) useToken(ctx context.Context, tx bun.Tx, purpose, email, token string) error {
	return spent(tx.NewUpdate().Model((*verification)(nil)).Set("code = '', token = ''").
		Where("purpose = ? AND name = ? AND token = ? AND token_until > ?", purpose, digest(email), digest(token), s.Clock.Micros()).Exec(ctx))
}

// spent tells whether a statement used something up.
func spent(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return retcode.VerifyCodeExpired.Errorf("ask for a new one")
}
