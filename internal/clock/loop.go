package clock

import (
	"context"
	"log/slog"
	"time"
)

// Loop is a reconciler: it runs Do every so often and soon after a Signal, one run at a time. Do has no
// input: it looks at what is and makes it what should be, so a missed or doubled run does no harm.
type Loop struct {
	Name  string
	Every time.Duration
	Do    func(ctx context.Context) error

	clock  *Clock
	signal chan struct{}
}

// NewLoop prepares a loop that waits on c. Signals before Run are kept.
func NewLoop(c *Clock, name string, every time.Duration, do func(ctx context.Context) error) *Loop {
	return &Loop{Name: name, Every: every, Do: do, clock: c, signal: make(chan struct{}, 1)}
}

// Signal asks for a run soon. It never blocks; signals during a run cause one more run.
func (l *Loop) Signal() {
	select {
	case l.signal <- struct{}{}:
	default:
	}
}

// Run runs Do at once and then on time or signal, until ctx ends. A failure is logged (once while it
// stays the same) and the next run comes on time.
func (l *Loop) Run(ctx context.Context) {
	var last string
	for ctx.Err() == nil {
		offset := l.clock.Offset()
		switch err := l.Do(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil:
			last = ""
		case err.Error() != last:
			last = err.Error()
			slog.Error("reconciler failed", "loop", l.Name, "error", err)
		}
		next := l.clock.Now().Add(l.Every)
		if l.clock.Offset() != offset {
			continue // time was moved on during the run: what became due happens now
		}
		sleep, cancel := context.WithCancel(ctx)
		due := make(chan struct{})
		go func() {
			defer close(due)
			_ = l.clock.Sleep(sleep, next.Sub(l.clock.Now()))
		}()
		select {
		case <-due:
		case <-l.signal:
		}
		cancel()
		<-due
	}
}
