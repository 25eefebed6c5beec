// Package clock is the controller's time. Everything that falls due asks it,
// so that a simulated cloud can move time on (POST /simulate AdvanceClock).
package clock

import (
	"context"
	"sync"
	"time"
)

// Clock is wall time plus an offset that only grows. The zero value is wall time.
type Clock struct {
	mu      sync.Mutex
	offset  time.Duration
	changed chan struct{} // closed and replaced when the offset grows
}

// New returns a clock that shows wall time.
func New() *Clock { return &Clock{} }

// Now is the time of this cloud.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// Micros is Now in unix microseconds, the form in which times are stored.
func (c *Clock) Micros() int64 { return c.Now().UnixMicro() }

// Offset from wall time, never negative.
func (c *Clock) Offset() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

// Advance moves the clock on by d (negative: ignored) and wakes every sleeper.
func (c *Clock) Advance(d time.Duration) {
	if d <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// Sleep returns when d has passed on this clock, or with ctx's error.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	due := c.Now().Add(d)
	for {
		c.mu.Lock()
		left := time.Until(due.Add(-c.offset))
		if left <= 0 {
			c.mu.Unlock()
			return ctx.Err()
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		t := time.NewTimer(left)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-changed:
			t.Stop()
		case <-t.C:
		}
	}
}
