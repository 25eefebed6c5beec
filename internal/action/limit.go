package action

import (
	"net/netip"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// limits keep the rate of calls a key and of failures an address. Both are bounded in number: the
// least recently seen is forgotten.
type limits struct {
	Limits
	mu        sync.Mutex
	keys      *lru.Cache[string, *rate.Limiter]
	addresses *lru.Cache[netip.Addr, *rate.Limiter] // wrong signatures
	open      *lru.Cache[netip.Addr, *rate.Limiter] // calls without a credential
}

const remembered = 10000 // keys and addresses

func newLimits(l Limits) *limits {
	if l.KeyRate == 0 {
		l.KeyRate = 5000
	}
	if l.KeyBurst == 0 {
		l.KeyBurst = 10000
	}
	if l.FailureRate == 0 {
		l.FailureRate = 50
	}
	if l.OpenRate == 0 {
		l.OpenRate = 50
	}
	keys, _ := lru.New[string, *rate.Limiter](remembered)
	addresses, _ := lru.New[netip.Addr, *rate.Limiter](remembered)
	open, _ := lru.New[netip.Addr, *rate.Limiter](remembered)
	return &limits{Limits: l, keys: keys, addresses: addresses, open: open}
}

// allowKey counts a call of an authenticated key.
func (l *limits) allowKey(key string) bool {
	limiter, ok := l.keys.Get(key)
	if !ok {
		l.mu.Lock()
		if limiter, ok = l.keys.Get(key); !ok {
			limit := rate.Limit(l.KeyRate)
			if l.KeyRate < 0 || l.KeyBurst < 0 {
				limit = rate.Inf
			}
			limiter = rate.NewLimiter(limit, max(l.KeyBurst, 1))
			l.keys.Add(key, limiter)
		}
		l.mu.Unlock()
	}
	return limiter.Allow()
}

// seen tells whether the key signed a call lately: its owner is not held up by failures of others
// behind the same address.
func (l *limits) seen(key string) bool { return l.keys.Contains(key) }

// address counters share a network's /64 on IPv6, where one host has them all.
func network(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// failing tells whether an address has used up its failures.
func (l *limits) failing(ip netip.Addr) bool {
	if l.FailureRate < 0 {
		return false
	}
	limiter, ok := l.addresses.Get(network(ip))
	return ok && limiter.Tokens() < 1
}

// fail counts a failure; false when the address has used up its own.
func (l *limits) fail(ip netip.Addr) bool { return l.count(l.addresses, ip, l.FailureRate, 1) }

// allowOpen counts a call without a credential.
func (l *limits) allowOpen(ip netip.Addr) bool { return l.count(l.open, ip, l.OpenRate, 2) }

// count takes one of an address's allowance a second, of which it may save up as much as burst seconds bring.
func (l *limits) count(of *lru.Cache[netip.Addr, *rate.Limiter], ip netip.Addr, perSecond float64, burst int) bool {
	if perSecond < 0 {
		return true
	}
	ip = network(ip)
	limiter, ok := of.Get(ip)
	if !ok {
		l.mu.Lock()
		if limiter, ok = of.Get(ip); !ok {
			limiter = rate.NewLimiter(rate.Limit(perSecond), max(burst*int(perSecond), 1))
			of.Add(ip, limiter)
		}
		l.mu.Unlock()
	}
	return limiter.Allow()
}
