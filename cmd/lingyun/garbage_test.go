package main

import "testing"

func TestGarbageGathersWhileTheControllerIsBusy(t *testing.T) {
	const small, large, huge = 8 << 20, 128 << 20, 1 << 30
	g := garbage{percent: restingGarbage}
	for i, step := range []struct {
		cycles, live uint64
		seconds      int
		percent      int
		rest         bool
	}{
		{cycles: 0, live: small, seconds: 60, percent: 50},
		{cycles: 1, live: small, seconds: 60, percent: 50}, // the loops of a resting controller
		{cycles: 9, live: small, seconds: 1, percent: 50},  // a start, a backup
		{cycles: 1, live: small, seconds: 1, percent: 50},
		{cycles: 2, live: small, seconds: 1, percent: 50},
		{cycles: 2, live: small, seconds: 1, percent: 200},
		{cycles: 1, live: small, seconds: 60, percent: 200},
		{cycles: 0, live: small, seconds: 4, percent: 200},
		{cycles: 1, live: large, seconds: 1, percent: 100}, // the more lives, the less may gather
		{cycles: 1, live: huge, seconds: 1, percent: 51},
		{cycles: 1, live: small, seconds: 1, percent: 200},
		{cycles: 0, live: small, seconds: 4, percent: 200},
		{cycles: 0, live: small, seconds: 1, percent: 50, rest: true},
		{cycles: 0, live: small, seconds: 60, percent: 50},
		{cycles: 9, live: huge, seconds: 1, percent: 50},
		{cycles: 9, live: huge, seconds: 1, percent: 51},
	} {
		for range step.seconds {
			if percent, rest := g.next(step.cycles, step.live); percent != step.percent || rest != step.rest {
				t.Fatalf("step %d: %d %v, want %d %v", i, percent, rest, step.percent, step.rest)
			}
		}
	}
}
