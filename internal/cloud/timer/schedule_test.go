package timer

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05 -0700", text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestNext(t *testing.T) {
	now := at("2026-02-27 10:30:00 +0800") // a Friday
	for what, c := range map[string]struct {
		s    Schedule
		want string
	}{
		"later today":               {Schedule{Type: daily, Hours: []int{3, 11, 23}, Zone: "GMT+8"}, "2026-02-27 11:00:00 +0800"},
		"tomorrow":                  {Schedule{Type: daily, Hours: []int{3, 10}, Zone: "GMT+8"}, "2026-02-28 03:00:00 +0800"},
		"another zone":              {Schedule{Type: daily, Hours: []int{3}, Zone: "UTC"}, "2026-02-27 11:00:00 +0800"},
		"half an hour's zone":       {Schedule{Type: daily, Hours: []int{9}, Zone: "GMT+5:30"}, "2026-02-27 11:30:00 +0800"},
		"west":                      {Schedule{Type: daily, Hours: []int{22}, Zone: "GMT-5"}, "2026-02-27 11:00:00 +0800"},
		"next Monday":               {Schedule{Type: weekly, Weekdays: []int{1}, Hours: []int{0}, Zone: "GMT+8"}, "2026-03-02 00:00:00 +0800"},
		"this Friday":               {Schedule{Type: weekly, Weekdays: []int{5}, Hours: []int{12}, Zone: "GMT+8"}, "2026-02-27 12:00:00 +0800"},
		"Sunday":                    {Schedule{Type: weekly, Weekdays: []int{7}, Hours: []int{1}, Zone: "GMT+8"}, "2026-03-01 01:00:00 +0800"},
		"last day of February":      {Schedule{Type: monthly, Days: []int{32}, Hours: []int{5}, Zone: "GMT+8"}, "2026-02-28 05:00:00 +0800"},
		"the 31st skips short ones": {Schedule{Type: monthly, Days: []int{31}, Hours: []int{5}, Zone: "GMT+8"}, "2026-03-31 05:00:00 +0800"},
		"the 1st":                   {Schedule{Type: monthly, Days: []int{1, 15}, Hours: []int{5}, Zone: "GMT+8"}, "2026-03-01 05:00:00 +0800"},
		"every ten minutes":         {Schedule{Type: interval, Interval: 600, Zone: "GMT+8"}, "2026-02-27 10:40:00 +0800"},
		"once, in the past":         {Schedule{Type: once, Trigger: at("2026-02-01 00:00:00 +0800").Unix(), Zone: "GMT+8"}, "2026-02-01 00:00:00 +0800"},
	} {
		if err := c.s.check(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := c.s.next(now, true); !got.Equal(at(c.want)) {
			t.Errorf("%s: %v, want %s", what, got, c.want)
		}
	}
	if got := (&Schedule{Type: once, Trigger: now.Unix(), Zone: "GMT+8"}).next(now, false); !got.IsZero() {
		t.Errorf("what ran once runs again at %v", got)
	}
	// New York springs forward on 8 March 2026: there is no 02:00, and the job runs all the same.
	ny := Schedule{Type: daily, Hours: []int{2}, Zone: "America/New_York"}
	if got := ny.next(at("2026-03-07 12:00:00 -0500"), true); got.IsZero() || got.After(at("2026-03-08 04:00:00 -0400")) {
		t.Errorf("across the change of clocks: %v", got)
	}
}

func TestSchedulesThatCannotBe(t *testing.T) {
	for what, c := range map[string]struct {
		s    Schedule
		code retcode.Code
	}{
		"no hours":       {Schedule{Type: daily, Zone: "GMT+8"}, retcode.MissingParameter},
		"no weekdays":    {Schedule{Type: weekly, Hours: []int{1}, Zone: "GMT+8"}, retcode.MissingParameter},
		"no moment":      {Schedule{Type: once, Zone: "GMT+8"}, retcode.MissingParameter},
		"no interval":    {Schedule{Type: interval, Zone: "GMT+8"}, retcode.MissingParameter},
		"a 25th hour":    {Schedule{Type: daily, Hours: []int{24}, Zone: "GMT+8"}, retcode.InvalidParameter},
		"an eighth day":  {Schedule{Type: weekly, Hours: []int{1}, Weekdays: []int{8}, Zone: "GMT+8"}, retcode.InvalidParameter},
		"the 33rd":       {Schedule{Type: monthly, Hours: []int{1}, Days: []int{33}, Zone: "GMT+8"}, retcode.InvalidParameter},
		"no such zone":   {Schedule{Type: daily, Hours: []int{1}, Zone: "GMT+15"}, retcode.InvalidParameter},
		"a path as zone": {Schedule{Type: daily, Hours: []int{1}, Zone: "../../etc/passwd"}, retcode.InvalidParameter},
	} {
		if err := c.s.check(); retcode.Of(err) != c.code {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestNextMovesOn: whatever the schedule, the next time is later, and on a day and an hour that were asked for.
func TestNextMovesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Schedule{Type: rapid.SampledFrom([]string{daily, weekly, monthly}).Draw(t, "type"), Zone: "GMT+8",
			Hours:    rapid.SliceOfN(rapid.IntRange(0, 23), 1, 5).Draw(t, "hours"),
			Weekdays: rapid.SliceOfN(rapid.IntRange(0, 7), 1, 3).Draw(t, "weekdays"),
			Days:     rapid.SliceOfN(rapid.IntRange(1, 32), 1, 3).Draw(t, "days")}
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		now := time.Unix(rapid.Int64Range(1_700_000_000, 2_500_000_000).Draw(t, "now"), 0)
		for range 5 {
			n := s.next(now, false)
			if !n.After(now) || n.Minute() != 0 || n.Second() != 0 || !s.on(n) {
				t.Fatalf("%+v after %v: %v", s, now, n)
			}
			now = n
		}
	})
}
