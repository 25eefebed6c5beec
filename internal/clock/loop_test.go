package clock

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestLoop(t *testing.T) {
	c := New()
	runs := make(chan struct{}, 10)
	l := NewLoop(c, "test", time.Hour, func(context.Context) error {
		runs <- struct{}{}
		return errors.New("a failure does not end the loop")
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	wait := func(why string) {
		t.Helper()
		select {
		case <-runs:
		case <-time.After(10 * time.Second):
			t.Fatal("no run " + why)
		}
	}
	wait("at the start")
	l.Signal()
	wait("after a signal")
	// The loop may not sleep yet when the clock moves on: move until it runs.
	for ran := false; !ran; {
		c.Advance(time.Hour)
		select {
		case <-runs:
			ran = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the loop outlives its context")
	}
}

// TestLoopSeesTimeMovedDuringARun: what became due while it ran does not wait for the next round.
func TestLoopSeesTimeMovedDuringARun(t *testing.T) {
	c := New()
	runs := make(chan struct{}, 10)
	first := true
	l := NewLoop(c, "test", time.Hour, func(context.Context) error {
		if first {
			first = false
			c.Advance(2 * time.Hour)
		}
		runs <- struct{}{}
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	for range 2 {
		select {
		case <-runs:
		case <-time.After(10 * time.Second):
			t.Fatal("no run")
		}
	}
	cancel()
	<-done
}
