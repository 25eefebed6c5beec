package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much garbage may gather, in percent of what lives, when GOGC does not say. A resting controller lives in some
// megabytes, and twice that would be most of its memory; a busy one spent a quarter of its time collecting at that rate.
const (
	restingGarbage = 50
	busyGarbage    = 200
	mostGarbage    = 128 << 20 // bytes that busyGarbage may come to
	busyCycles     = 2         // collections a second, two seconds in a row, of a controller that is busy
	restAfter      = 5         // seconds without one, after which it rests again
)

// garbage decides how much may gather, once a second.
type garbage struct {
	percent int
	quiet   int    // seconds without a collection
	last    uint64 // collections of the second before
}

// next is told how many collections the last second had and how many bytes live. rest: what was gathered may go.
func (g *garbage) next(cycles, live uint64) (percent int, rest bool) {
	g.quiet++
	if cycles > 0 {
		g.quiet = 0
	}
	busy := min(cycles, g.last) >= busyCycles
	g.last = cycles
	switch {
	case g.percent > restingGarbage && g.quiet >= restAfter:
		g.percent = restingGarbage
		return g.percent, true
	case g.percent > restingGarbage || busy:
		g.percent = int(min(busyGarbage, max(restingGarbage+1, mostGarbage*100/max(live, 1))))
	}
	return g.percent, false
}

// tendGarbage lets more garbage gather while a controller is busy, until ctx ends. It is busy when it has just started, and
// what that took goes when it rests.
func tendGarbage(ctx context.Context) {
	g := garbage{percent: busyGarbage}
	debug.SetGCPercent(g.percent)
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	cycles := samples[0].Value.Uint64()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(samples)
		before := g.percent
		percent, rest := g.next(samples[0].Value.Uint64()-cycles, samples[1].Value.Uint64())
		cycles = samples[0].Value.Uint64()
		if percent != before {
			debug.SetGCPercent(percent)
		}
		if rest {
			debug.FreeOSMemory()
		}
	}
}
