package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/lingyun-cloud/lingyun/internal/pow"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// guard stands before everything that guessing could pay for: it refuses by address and by account (199) before any
// password is hashed. What it remembers is bounded; the least recently seen is forgotten.
type guard struct {
	now       func() time.Time
	bits      int
	forgiven  func() time.Duration // how long failures are held against somebody
	key       [32]byte             // of challenges; those of an earlier process are worthless
	addresses *lru.Cache[string, *suspect]
	names     *lru.Cache[string, *suspect]
	solved    *lru.Cache[string, struct{}] // challenges that were used
	mu        sync.Mutex
	hash      chan struct{} // the turn to hash a password
	waiting   chan struct{} // for the turn
}

// suspect is an address or an account name with the failures counted against it.
type suspect struct {
	attempts *rate.Limiter
	failures int
	last     time.Time
}

// How much is let through.
const (
	addressRate    = 1.0 // attempts a second of one address ...
	addressBurst   = 30  // ... and at once
	nameRate       = 1.0 / 60
	nameBurst      = 20
	trustedAddress = 10 // failures of an address ...
	trustedName    = 5  // ... and of an account name, after which a proof of work is asked for
	remembered     = 10_000
	hashesWaiting  = 8
	hashPatience   = 3 * time.Second
	proofBits      = 18
	challengeFor   = 5 * time.Minute
)

func newGuard(now func() time.Time, bits int, forgiven func() time.Duration) *guard {
	g := &guard{now: now, bits: bits, forgiven: forgiven, hash: make(chan struct{}, 1), waiting: make(chan struct{}, hashesWaiting)}
	if g.bits == 0 {
		g.bits = proofBits
	}
	rand.Read(g.key[:])
	// New fails only for a size below 1.
	g.addresses, _ = lru.New[string, *suspect](remembered)
	g.names, _ = lru.New[string, *suspect](remembered)
	g.solved, _ = lru.New[string, struct{}](remembered)
	return g
}

// network of an address, of which one host may have all of an IPv6 /64.
func network(ip netip.Addr) string {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// try is one attempt at a secret, let through.
type try struct {
	g             *guard
	address, name string
}

// attempt counts one attempt at a name (an e-mail, or what else is guessed at) from an address, and refuses it
// (199) when there were too many. proof may be empty until one is asked for.
func (g *guard) attempt(ip netip.Addr, name, proof string) (*try, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := &try{g: g, address: network(ip), name: name}
	a := g.suspect(g.addresses, t.address, addressRate, addressBurst)
	n := g.suspect(g.names, t.name, nameRate, nameBurst)
	now := g.now()
	if !a.attempts.AllowN(now, 1) {
		return nil, retcode.TooManyRequests.Errorf("too many attempts from your address")
	}
	if a.failures >= trustedAddress || n.failures >= trustedName {
		if err := g.check(proof); err != nil {
			return nil, err
		}
	}
	if n.failures > 0 && !n.attempts.AllowN(now, 1) {
		return nil, retcode.TooManyRequests.Errorf("too many attempts at this account")
	}
	return t, nil
}

// suspect finds or begins the record of a key. The caller holds the lock.
func (g *guard) suspect(of *lru.Cache[string, *suspect], key string, perSecond float64, burst int) *suspect {
	s, ok := of.Get(key)
	if !ok {
		s = &suspect{attempts: rate.NewLimiter(rate.Limit(perSecond), burst)}
		of.Add(key, s)
	}
	if now := g.now(); now.Sub(s.last) >= g.forgiven() {
		s.failures = 0
	}
	return s
}

// failed counts a wrong guess.
func (t *try) failed() {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	for _, s := range []*suspect{t.g.suspect(t.g.addresses, t.address, addressRate, addressBurst), t.g.suspect(t.g.names, t.name, nameRate, nameBurst)} {
		s.failures++
		s.last = t.g.now()
	}
}

// right forgets what was counted against the name: whoever knows the secret need not guess.
func (t *try) right() {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	t.g.names.Remove(t.name)
}

// pardon forgets the failures of a name, for administrators.
func (g *guard) pardon(name string) { g.names.Remove(name) }

// hashing waits for the turn to hash a password and returns how to give it back: one at a time, since each takes
// 64 MiB and both cores. 199 when too many wait.
func (g *guard) hashing(ctx context.Context) (done func(), err error) {
	busy := retcode.TooManyRequests.Errorf("too many logins at once")
	select {
	case g.waiting <- struct{}{}:
	default:
		return nil, busy
	}
	defer func() { <-g.waiting }()
	patience := time.NewTimer(hashPatience)
	defer patience.Stop()
	select {
	case g.hash <- struct{}{}:
		return func() { <-g.hash }, nil
	case <-patience.C:
		return nil, busy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// challenge makes a puzzle: find a text such that SHA-256(challenge + "." + text) begins with so many zero bits. It is
// signed, so that nothing is kept until it is solved.
func (g *guard) challenge() (text string, difficulty int, until time.Time) {
	until = g.now().Add(challengeFor)
	raw := make([]byte, 24, 24+16)
	rand.Read(raw[:16])
	binary.BigEndian.PutUint64(raw[16:], uint64(until.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(raw, g.sign(raw)...)), g.bits, until
}

func (g *guard) sign(raw []byte) []byte {
	m := hmac.New(sha256.New, g.key[:])
	m.Write(raw)
	return m.Sum(nil)[:16]
}

// check takes a solved challenge, as CHALLENGE.TEXT, once.
func (g *guard) check(proof string) error {
	ask := retcode.TooManyRequests.Errorf("too many wrong attempts: solve a challenge of GetLoginChallenge and send it as Proof")
	challenge, _, ok := strings.Cut(proof, ".")
	if !ok || len(proof) > 256 {
		return ask
	}
	raw, err := base64.RawURLEncoding.DecodeString(challenge)
	if err != nil || len(raw) != 40 || !hmac.Equal(raw[24:], g.sign(raw[:24])) ||
		g.now().Unix() >= int64(binary.BigEndian.Uint64(raw[16:24])) || pow.Zeros(proof) < g.bits {
		return ask
	}
	if used, _ := g.solved.ContainsOrAdd(challenge, struct{}{}); used {
		return ask
	}
	return nil
}
