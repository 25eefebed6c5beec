package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// Token lets one new host join: a secret that the controller knows by its hash,
// and the authority's fingerprint, so that the host knows the controller before
// it sends the secret. How long and how often it holds is the controller's matter.
type Token struct {
	Secret      [16]byte
	Fingerprint [sha256.Size]byte
}

const tokenPrefix = "lyj_"

// NewToken makes a token for a host to join with.
func (a *Authority) NewToken() (Token, error) {
	t := Token{Fingerprint: a.Fingerprint()}
	_, err := rand.Read(t.Secret[:])
	return t, err
}

// ParseToken reads what String wrote.
func ParseToken(s string) (Token, error) {
	var t Token
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(s, tokenPrefix))
	if err != nil || !strings.HasPrefix(s, tokenPrefix) || len(b) != len(t.Secret)+len(t.Fingerprint) {
		return t, errors.New("pki: not a join token")
	}
	copy(t.Secret[:], b)
	copy(t.Fingerprint[:], b[len(t.Secret):])
	return t, nil
}

// String is the token as people copy it.
func (t Token) String() string {
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(t.Secret[:], t.Fingerprint[:]...))
}

// Hash is what the controller stores of a token: the SHA-256 of its secret in hex.
func (t Token) Hash() string {
	sum := sha256.Sum256(t.Secret[:])
	return hex.EncodeToString(sum[:])
}
