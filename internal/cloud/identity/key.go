package identity

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// States of API keys.
const (
	keyEnabled  = "Enabled"
	keyDisabled = "Disabled"
)

// keysEach is how many keys an account may have.
const keysEach = 5

func (k *keyPair) state() string {
	if k.Disabled {
		return keyDisabled
	}
	return keyEnabled
}

// newPair makes a pair in the clear: 260 random bits each, letters and digits.
func newPair(account int64) *keyPair {
	return &keyPair{Account: account, PublicKey: rand.Text() + rand.Text(), PrivateKey: rand.Text() + rand.Text()}
}

// addKey writes a pair whose private part is in the clear; it is stored sealed. k stays as it was.
func (s *Service) addKey(ctx context.Context, tx bun.Tx, k *keyPair) error {
	if k.ID == "" {
		k.ID = database.NewID("key")
	}
	row := *k
	row.CreatedAt = s.Clock.Micros()
	row.UpdatedAt = row.CreatedAt
	row.PrivateKey = s.Secret.Seal([]byte(k.PrivateKey), keyContext(k.PublicKey))
	_, err := tx.NewInsert().Model(&row).Exec(ctx)
	return err
}

// key finds the valid pair of a key's id that the call may change: of the own account, or of those that it may act
// for. 200.
func (s *Service) key(ctx context.Context, tx bun.Tx, c *action.Call, id string) (*keyPair, error) {
	k := new(keyPair)
	unknown := retcode.ResourceNotFound.Errorf("API key %s", id)
	if err := tx.NewSelect().Model(k).Where("id = ? AND NOT replaced", id).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil, unknown
	} else if err != nil {
		return nil, err
	}
	if _, err := s.keyHolder(ctx, tx, c, k.Account); err != nil {
		return nil, unknown
	}
	return k, nil
}

// keyHolder finds the account whose keys the call is about: the own one, or for a main account one of its tenant, or for
// a system administrator any. Whoever has an account's key is that account, so that no role lets others have it. 20004.
func (s *Service) keyHolder(ctx context.Context, idb bun.IDB, c *action.Call, id int64) (*account, error) {
	if id == 0 {
		id = c.Caller.Account
	}
	a := new(account)
	unknown := retcode.AccountNotFound.Errorf("MemberID %d", id)
	if err := idb.NewSelect().Model(a).Where("id = ?", id).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil, unknown
	} else if err != nil {
		return nil, err
	}
	switch caller := &c.Caller; {
	case a.ID == caller.Account:
	case caller.Admin && !caller.OfRegions() && !caller.ReadOnly:
	case !caller.Admin && !caller.Sub && a.Company == caller.Company:
	default:
		return nil, unknown
	}
	return a, nil
}

// createKey gives an account another key. 208.
func (s *Service) createKey(ctx context.Context, tx bun.Tx, id int64, name string, expires int64) (*keyPair, error) {
	// Creations for one account come one after the other.
	if _, err := tx.NewRaw(`UPDATE account SET updated_at = updated_at WHERE id = ?`, id).Exec(ctx); err != nil {
		return nil, err
	}
	n, err := tx.NewSelect().Model((*keyPair)(nil)).Where("account = ? AND NOT replaced", id).Count(ctx)
	if err != nil {
		return nil, err
	}
	if n >= keysEach {
		return nil, retcode.BindLimitReached.Errorf("an account has at most %d keys", keysEach)
	}
	k := newPair(id)
	k.Name, k.ExpiresAt, k.IsDefault = name, expires*1e6, n == 0
	return k, s.addKey(ctx, tx, k)
}

// rotateKey puts a new pair in a key's place; the old one is accepted for grace more.
func (s *Service) rotateKey(ctx context.Context, tx bun.Tx, k *keyPair, grace time.Duration) (*keyPair, error) {
	now := s.Clock.Now()
	until := now.Add(grace).UnixMicro()
	if k.ExpiresAt != 0 {
		until = min(until, k.ExpiresAt)
	}
	r, err := tx.NewUpdate().Model((*keyPair)(nil)).Set("replaced = ?, is_default = ?, expires_at = ?, updated_at = ?", true, false, until, now.UnixMicro()).
		Where("public_key = ? AND NOT replaced", k.PublicKey).Exec(ctx)
	if err != nil {
		return nil, err
	}
	if n, err := r.RowsAffected(); err != nil {
		return nil, err
	} else if n == 0 {
		return nil, retcode.ResourceNotFound.Errorf("API key %s", k.ID)
	}
	fresh := newPair(k.Account)
	fresh.ID, fresh.Name, fresh.IsDefault, fresh.Disabled, fresh.ExpiresAt = k.ID, k.Name, k.IsDefault, k.Disabled, k.ExpiresAt
	return fresh, s.addKey(ctx, tx, fresh)
}

// defaultKey returns an account's first key with its private part in the clear; nil when it has none.
func (s *Service) defaultKey(ctx context.Context, idb bun.IDB, id int64) (*keyPair, error) {
	k := new(keyPair)
	if err := idb.NewSelect().Model(k).Where("account = ? AND is_default", id).Limit(1).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	private, err := s.Secret.Open(k.PrivateKey, keyContext(k.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("private key of account %d: %w", id, err)
	}
	k.PrivateKey = string(private)
	return k, nil
}

// uses remembers when keys were used and whence, until the next flush. Only for people to look at: what is lost with the
// process is a minute of it.
type uses struct {
	mu   sync.Mutex
	last map[string]use
}

type use struct {
	at int64
	ip string
}

// Used notes that a key signed a call.
func (s *Service) used(publicKey string, ip string) {
	s.keyUses.mu.Lock()
	defer s.keyUses.mu.Unlock()
	if len(s.keyUses.last) < cached {
		s.keyUses.last[publicKey] = use{s.Clock.Micros(), ip}
	}
}

// FlushUses writes when keys were used. It is run by a reconciler.
func (s *Service) FlushUses(ctx context.Context) error {
	s.keyUses.mu.Lock()
	last := s.keyUses.last
	s.keyUses.last = map[string]use{}
	s.keyUses.mu.Unlock()
	if len(last) == 0 {
		return nil
	}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		for key, u := range last {
			if _, err := tx.NewUpdate().Model((*keyPair)(nil)).Set("used_at = ?, used_ip = ?", u.at, u.ip).Where("public_key = ?", key).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// Admit is action.Options.Admit: it notes the use of keys. The wire has checked the allow-list.
func (s *Service) Admit(_ context.Context, c *action.Call) error {
	if c.Caller.Key != "" {
		s.used(c.Caller.Key, c.ClientIP.String())
	}
	return nil
}
