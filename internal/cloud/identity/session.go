package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// session is a console's; its token is known to the client alone.
type session struct {
	bun.BaseModel `bun:"table:session"`

	ID        string `bun:"id,pk"`
	Account   int64  `bun:"account"`
	ClientIP  string `bun:"client_ip"`
	CreatedAt int64  `bun:"created_at"`
	SeenAt    int64  `bun:"seen_at"`
}

// liveSession is one in the cache.
type liveSession struct {
	mu      sync.Mutex
	caller  action.Caller
	created int64
	seen    int64 // by us
	stored  int64 // in the table
	read    time.Time
}

// seenEvery is how much a session's last use in the table may lag behind.
const seenEvery = time.Minute

// Second factors.
const (
	factorTOTP  = "TOTP"
	factorEmail = "Email"
)

// pendingLogin waits for a second factor.
type pendingLogin struct {
	bun.BaseModel `bun:"table:pending_login"`

	ID        string `bun:"id,pk"`
	Account   int64  `bun:"account"`
	Factors   string `bun:"factors"`
	Attempts  int64  `bun:"attempts"`
	Grant     string `bun:"grant_text"`
	ExpiresAt int64  `bun:"expires_at"`
}

// pendingFor is how long a login waits.
const pendingFor = 5 * time.Minute

// digest is how tokens are stored: who reads the database has none.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// newToken makes a secret of 260 random bits, letters and digits.
func newToken() string { return rand.Text() + rand.Text() }

// Login is what a login came to: a session, or a second factor to bring.
type Login struct {
	Company, Account int64
	Email            string
	Token            string // of the session; empty: a second factor is wanted
	Expires          int64  // of the session or of Nonce, unix seconds; that of a session moves on with its use
	Nonce            string // to finish the login with
	Factors          []string
	Grant            string // what the login was for, by whoever began it
}

// Enter logs in an account whose owner has proven who they are by a first factor: by password, or at a foreign
// provider. grant is the beginner's and comes back when the login is finished. 20001, 20002, 27004, 112.
// Whoever checked a second factor as well calls enterWith.
func (s *Service) Enter(ctx context.Context, c *action.Call, id int64, grant string) (*Login, error) {
	db := s.DB.Reader()
	a := new(account)
	if err := db.NewSelect().Model(a).Where("id = ?", id).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.AccountNotFound.Errorf("account %d", id)
	} else if err != nil {
		return nil, err
	}
	if err := s.mayEnter(ctx, c, a); err != nil {
		return nil, err
	}
	factors, err := s.factors(ctx, a)
	if err != nil {
		return nil, err
	}
	if len(factors) == 0 {
		return s.enterWith(ctx, c, a, grant, nil)
	}
	nonce := newToken()
	p := &pendingLogin{ID: digest(nonce), Account: a.ID, Factors: strings.Join(factors, ","), Grant: grant,
		ExpiresAt: s.Clock.Now().Add(pendingFor).UnixMicro()}
	if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		// One at a time: a new login makes the nonce of an earlier one worthless.
		if _, err := tx.NewDelete().Model((*pendingLogin)(nil)).Where("account = ?", a.ID).Exec(ctx); err != nil {
			return err
		}
		_, err := tx.NewInsert().Model(p).Exec(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	return &Login{Company: a.Company, Account: a.ID, Email: a.Email, Nonce: nonce, Factors: factors, Expires: p.ExpiresAt / 1e6, Grant: grant}, nil
}

// mayEnter refuses accounts that may not log in, and addresses from which they may not.
func (s *Service) mayEnter(ctx context.Context, c *action.Call, a *account) error {
	who, err := s.callerOf(ctx, s.DB.Reader(), a)
	switch {
	case err != nil:
		return err
	case who.Locked:
		return retcode.AccountNotActivated.Errorf("follow the link of the activation mail")
	case who.Frozen:
		return retcode.AccountFrozen.Errorf("account %d", a.ID)
	case who.TenantFrozen:
		return retcode.TenantFrozen.Errorf("tenant %d", a.Company)
	case !who.MayCallFrom(c.ClientIP):
		return retcode.IPNotInWhitelist.Errorf("you call from %s", c.ClientIP)
	}
	return nil
}

// factors that an account must bring beside its password: one of them.
func (s *Service) factors(ctx context.Context, a *account) ([]string, error) {
	t, err := s.totp(ctx, s.DB.Reader(), a.ID)
	if err != nil {
		return nil, err
	}
	if t != nil && t.Bound {
		return []string{factorTOTP}, nil
	}
	if s.Policy(ctx).MailFactor {
		return []string{factorEmail}, nil
	}
	return nil, nil
}

// enterWith opens the session of a login that has all its factors. also runs in its transaction.
func (s *Service) enterWith(ctx context.Context, c *action.Call, a *account, grant string, also func(ctx context.Context, tx bun.Tx) error) (*Login, error) {
	p := s.Policy(ctx)
	token := newToken()
	now := s.Clock.Micros()
	row := &session{ID: digest(token), Account: a.ID, ClientIP: c.ClientIP.String(), CreatedAt: now, SeenAt: now}
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if also != nil {
			if err := also(ctx, tx); err != nil {
				return err
			}
		}
		// A freeze that committed meanwhile wins.
		r, err := tx.NewUpdate().Model((*account)(nil)).Set("login_at = ?, login_ip = ?", now, row.ClientIP).
			Where("id = ? AND state = ?", a.ID, InUse).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return retcode.AccountFrozen.Errorf("account %d", a.ID)
		}
		q := tx.NewDelete().Model((*session)(nil)).Where("account = ?", a.ID)
		if p.Concurrent {
			q = q.Where("id NOT IN (?)", tx.NewSelect().Model((*session)(nil)).Column("id").Where("account = ?", a.ID).
				Order("created_at DESC").Limit(sessionsEach-1))
		}
		if _, err := q.Exec(ctx); err != nil {
			return err
		}
		_, err = tx.NewInsert().Model(row).Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !p.Concurrent {
		s.Forget()
	}
	return &Login{Company: a.Company, Account: a.ID, Email: a.Email, Token: token, Expires: (now + p.IdleTimeout.Microseconds()) / 1e6, Grant: grant}, nil
}

// Session is action.Options.Session: whose a token is; nil: nobody's, or the session is over.
func (s *Service) Session(ctx context.Context, token string) (*action.Caller, error) {
	p := s.Policy(ctx)
	id := digest(token)
	live, ok := s.sessions.Get(id)
	if !ok {
		live = &liveSession{}
	}
	live.mu.Lock()
	defer live.mu.Unlock()
	if time.Since(live.read) >= believed {
		since := s.changes.Load()
		if found, err := s.readSession(ctx, id, live); err != nil || !found {
			s.sessions.Remove(id)
			return nil, err
		}
		if s.changes.Load() == since {
			s.sessions.Add(id, live)
		}
	}
	now := s.Clock.Micros()
	if now-live.seen >= p.IdleTimeout.Microseconds() || now-live.created >= sessionLifetime.Microseconds() {
		return nil, s.endSessions(ctx, "id = ?", id)
	}
	live.seen = now
	if now-live.stored >= seenEvery.Microseconds() {
		if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewUpdate().Model((*session)(nil)).Set("seen_at = ?", now).Where("id = ?", id).Exec(ctx)
			return err
		}); err != nil {
			return nil, err
		}
		live.stored = now
	}
	caller := live.caller
	return &caller, nil
}

// readSession fills a cached session from the tables; false when there is none.
func (s *Service) readSession(ctx context.Context, id string, live *liveSession) (bool, error) {
	row := new(session)
	db := s.DB.Reader()
	if err := db.NewSelect().Model(row).Where("id = ?", id).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	caller, err := s.caller(ctx, db, row.Account)
	if err != nil || caller == nil {
		return false, err
	}
	caller.Session = id
	live.caller, live.created, live.stored, live.read = *caller, row.CreatedAt, row.SeenAt, time.Now()
	live.seen = max(live.seen, row.SeenAt)
	return true, nil
}

// endSessions ends those that a condition selects.
func (s *Service) endSessions(ctx context.Context, where string, args ...any) error {
	return s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*session)(nil)).Where(where, args...).Exec(ctx)
		return err
	})
}

// Sweep removes what has run out: sessions, waiting logins, codes, replaced keys, and counted failures of a day ago.
// It is run by a reconciler.
func (s *Service) Sweep(ctx context.Context) error {
	p := s.Policy(ctx)
	now := s.Clock.Now()
	for _, q := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM session WHERE seen_at < ? OR created_at < ?`, []any{now.Add(-p.IdleTimeout).UnixMicro(), now.Add(-sessionLifetime).UnixMicro()}},
		{`DELETE FROM pending_login WHERE expires_at < ?`, []any{now.UnixMicro()}},
		{`DELETE FROM login_failure WHERE updated_at < ?`, []any{now.Add(-24 * time.Hour).UnixMicro()}},
		{`DELETE FROM verification WHERE sent_at < ? AND token_until < ?`, []any{now.Add(-24 * time.Hour).UnixMicro(), now.UnixMicro()}},
		{`DELETE FROM totp WHERE NOT bound AND expires_at < ?`, []any{now.UnixMicro()}},
		{`DELETE FROM key_pair WHERE replaced AND expires_at < ?`, []any{now.UnixMicro()}},
	} {
		if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewRaw(q.query, q.args...).Exec(ctx)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
