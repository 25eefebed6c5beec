// Package simulate is a fleet of hosts inside the controller's own process:
// for trying the API without root, for rules that need scarce or dead
// hardware, and for figures of scale and crash. It implements the host link
// and nothing above the link can tell.
//
// What the hosts hold survives the controller, as it would on real hosts:
// every change is appended to one file, so that a test that kills the
// controller afterwards sees what leaked or doubled.
package simulate

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
)

// Options of a simulated cloud. Zero sizes take the defaults in brackets.
type Options struct {
	Hosts     int
	Dir       string // where the hosts' state is kept; empty: nowhere
	Clock     *clock.Clock
	CPUs      int      // threads a host [64]
	MemoryMiB int      // [262144]
	DiskGB    int      // [8192]
	PoolGB    int      // of a pool that hosts share [65536]
	Networks  []string // provider networks every host has a bridge for
	MTU       int      // of guests [1442]
	// DatabaseDown takes the database away or gives it back; nil: refused.
	DatabaseDown func(down bool)
}

// Cloud is the simulated fleet.
type Cloud struct {
	// NoSpice: the QEMU of no host has SPICE.
	NoSpice atomic.Bool

	o     Options
	hosts []*Host
	byID  map[string]*Host
	log   *journal
	// pools by storage set id. Each is a host of its own that nobody calls: it has volumes, and no domains.
	pools map[string]*Host

	mu       sync.Mutex
	failures []failure
	delays   map[string]time.Duration // by call
	dbDown   time.Time
}

// failure makes the next calls fail.
type failure struct {
	Call  string
	Count int
	Host  string `json:",omitempty"`
}

// New makes the hosts, with what an earlier process left on them.
func New(o Options) (*Cloud, error) {
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	for _, d := range []struct {
		v *int
		n int
	}{{&o.CPUs, 64}, {&o.MemoryMiB, 262144}, {&o.DiskGB, 8192}, {&o.PoolGB, 65536}, {&o.MTU, 1442}} {
		if *d.v == 0 {
			*d.v = d.n
		}
	}
	c := &Cloud{o: o, byID: map[string]*Host{}, pools: map[string]*Host{}, delays: map[string]time.Duration{}}
	for i := range o.Hosts {
		h := newHost(c, i+1)
		c.hosts = append(c.hosts, h)
		c.byID[h.id] = h
	}
	var err error
	if c.log, err = openJournal(o.Dir, c.restore); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the journal. The hosts' state stays on disk.
func (c *Cloud) Close() error { return c.log.close() }

// IDs of the hosts, in order.
func (c *Cloud) IDs() []string {
	ids := make([]string, len(c.hosts))
	for i, h := range c.hosts {
		ids[i] = h.id
	}
	return ids
}

// SetArch makes a host, which is there, one of an architecture; its next health call says so.
func (c *Cloud) SetArch(id, arch string) {
	h := c.byID[id]
	h.mu.Lock()
	defer h.mu.Unlock()
	h.arch = arch
}

// Name of a host; empty when unknown.
func (c *Cloud) Name(id string) string {
	if h := c.byID[id]; h != nil {
		return h.name
	}
	return ""
}

// Dial returns the link to a host, as the fleet asks for it.
func (c *Cloud) Dial(id, _ string) (hostlink.Host, error) {
	if h := c.byID[id]; h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("simulate: no host %s", id)
}

// pool is what hosts share under a storage set's id.
func (c *Cloud) pool(id string) *Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pools[id]
	if p == nil {
		p = newHost(c, 0)
		p.id = id
		c.pools[id] = p
	}
	return p
}

// Pool is what the hosts share under a storage set's id: its volumes, for tests.
func (c *Cloud) Pool(id string) *Host { return c.pool(id) }

// unreachable is what a caller of a dead host sees, as over a broken link.
func unreachable(id string) error {
	return fmt.Errorf("%w: %s", hostlink.ErrUnavailable, id)
}

// enter begins a call: it waits as told, and fails as told.
func (c *Cloud) enter(ctx context.Context, h *Host, call string) error {
	c.mu.Lock()
	delay := c.delays[call]
	c.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	if h.isDown() {
		return unreachable(h.id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.failures {
		f := &c.failures[i]
		if f.Call != call || (f.Host != "" && f.Host != h.id) {
			continue
		}
		f.Count--
		if f.Count <= 0 {
			c.failures = append(c.failures[:i], c.failures[i+1:]...)
		}
		return fmt.Errorf("simulated failure of %s on %s", call, h.id)
	}
	return ctx.Err()
}

// FailNext makes the next count calls of a name fail, on one host or (empty) on any.
func (c *Cloud) FailNext(call string, count int, host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, failure{call, count, host})
}

// Delay makes every call of a name take at least d; 0 ends that.
func (c *Cloud) Delay(call string, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d <= 0 {
		delete(c.delays, call)
		return
	}
	c.delays[call] = d
}

// Down takes a host away as a power cut does: calls fail, its domains stop. False when unknown.
func (c *Cloud) Down(id string) bool {
	h := c.byID[id]
	if h == nil {
		return false
	}
	h.powerCut()
	return true
}

// Up brings a host back, with its volumes and its stopped domains. False when unknown.
func (c *Cloud) Up(id string) bool {
	h := c.byID[id]
	if h == nil {
		return false
	}
	h.powerUp()
	return true
}
