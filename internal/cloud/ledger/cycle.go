package ledger

import (
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
)

// cycles are the last so many whole periods of the calendar in a time zone, the earliest first; the last one is that of
// the end. Weeks begin on Monday.
func cycles(end time.Time, unit string, count int) [][2]time.Time {
	y, m, d := end.Date()
	var first func(n int) time.Time // the beginning of the period n before the last one
	zone := end.Location()
	switch unit {
	case "hour":
		// Hours are counted in time: the calendar has one twice when clocks are put back.
		last := end.Truncate(time.Hour)
		if _, offset := end.Zone(); offset%3600 != 0 {
			last = end.Add(-time.Duration(end.Minute())*time.Minute - time.Duration(end.Second())*time.Second - time.Duration(end.Nanosecond()))
		}
		first = func(n int) time.Time { return last.Add(-time.Duration(n) * time.Hour) }
	case "day":
		first = func(n int) time.Time { return time.Date(y, m, d-n, 0, 0, 0, 0, zone) }
	case "week":
		monday := d - (int(end.Weekday())+6)%7
		first = func(n int) time.Time { return time.Date(y, m, monday-7*n, 0, 0, 0, 0, zone) }
	case "month":
		first = func(n int) time.Time { return time.Date(y, m-time.Month(n), 1, 0, 0, 0, 0, zone) }
	default:
		first = func(n int) time.Time { return time.Date(y-n, 1, 1, 0, 0, 0, 0, zone) }
	}
	out := make([][2]time.Time, 0, count)
	for n := count - 1; n >= 0; n-- {
		out = append(out, [2]time.Time{first(n), first(n - 1)})
	}
	return out
}

// homeRegion is the region whose calendar a bill of several follows.
func (s *Service) homeRegion(c *action.Call) string {
	if c.Region != "" {
		return c.Region
	}
	return catalog.DefaultRegion
}

func unixTime(seconds int64) time.Time { return time.Unix(seconds, 0) }
