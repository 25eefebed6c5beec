package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"
)

// client is an application that logs in with accounts of the platform. Times are unix microseconds.
type client struct {
	bun.BaseModel `bun:"table:oauth_client"`

	ID         string `bun:"id,pk"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	SecretHash string `bun:"secret_hash"`
	Redirects  string `bun:"redirect_uris"`
	State      string `bun:"state"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
}

// States of a client.
const (
	enabled  = "Enabled"
	disabled = "Disabled" // its tokens are refused meanwhile
)

func (c *client) uris() (uris []string) {
	_ = json.Unmarshal([]byte(c.Redirects), &uris) // we wrote it
	return uris
}

// knows compares a secret with the client's in constant time.
func (c *client) knows(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(digest(secret)), []byte(c.SecretHash)) == 1
}

// request asks for authorization; once an account has logged in, a code answers it.
type request struct {
	bun.BaseModel `bun:"table:oauth_request"`

	ID          string `bun:"id,pk"`
	ClientID    string `bun:"client_id"`
	Account     int64  `bun:"account"`
	RedirectURI string `bun:"redirect_uri"`
	State       string `bun:"state"`
	Nonce       string `bun:"nonce"`
	Scopes      string `bun:"scopes"`
	Challenge   string `bun:"challenge"`
	CodeHash    string `bun:"code_hash"`
	AuthedAt    int64  `bun:"authed_at"`
	UsedAt      int64  `bun:"used_at"`
	CreatedAt   int64  `bun:"created_at"`
	ExpiresAt   int64  `bun:"expires_at"`
}

// token is an access or a refresh token.
type token struct {
	bun.BaseModel `bun:"table:oauth_token"`

	ID        string `bun:"id,pk"`
	Kind      string `bun:"kind"`
	Hash      string `bun:"hash"`
	Family    string `bun:"family"`
	ClientID  string `bun:"client_id"`
	Account   int64  `bun:"account"`
	Scopes    string `bun:"scopes"`
	AuthedAt  int64  `bun:"authed_at"`
	CreatedAt int64  `bun:"created_at"`
	ExpiresAt int64  `bun:"expires_at"`
	EndedAt   int64  `bun:"ended_at"`
}

// Kinds of tokens.
const (
	accessToken  = "access"
	refreshToken = "refresh"
)

// digest is how secrets are stored: they are random, so one hash is enough.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// newSecret makes 260 random bits, letters and digits.
func newSecret() string { return rand.Text() + rand.Text() }

// one reads a row; nil when there is none.
func one[T any](ctx context.Context, idb bun.IDB, where string, args ...any) (*T, error) {
	row := new(T)
	err := idb.NewSelect().Model(row).Where(where, args...).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return row, nil
}

// clientByID reads an enabled client; nil when there is none.
func (s *Service) clientByID(ctx context.Context, idb bun.IDB, id string) (*client, error) {
	return one[client](ctx, idb, "id = ? AND state = ?", id, enabled)
}

// endFamily ends all tokens that came from one authorization.
func (s *Service) endFamily(ctx context.Context, tx bun.Tx, family string) error {
	_, err := tx.NewUpdate().Model((*token)(nil)).Set("ended_at = ?", s.Clock.Micros()).Where("family = ? AND ended_at = 0", family).Exec(ctx)
	return err
}

// Sweep removes what has run out. A used code and an ended refresh token stay as long as they could be replayed.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.Clock.Now()
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, q := range []string{
			`DELETE FROM oauth_request WHERE expires_at < ?`,
			`DELETE FROM oauth_token WHERE expires_at < ?`,
		} {
			if _, err := tx.NewRaw(q, now.Add(-24*time.Hour).UnixMicro()).Exec(ctx); err != nil {
				return err
			}
		}
		_, err := tx.NewRaw(`DELETE FROM oauth_login WHERE expires_at < ?`, now.UnixMicro()).Exec(ctx)
		return err
	})
}

func scopes(text string) []string { return strings.Fields(text) }
