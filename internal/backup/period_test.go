package backup

import (
	"testing"
	"time"
)

func TestPeriods(t *testing.T) {
	for _, p := range []struct{ zone, now, every, want string }{
		{"Asia/Shanghai", "2024-03-01 10:59:59", "Hourly", "2024-03-01 10:00:00"},
		{"Asia/Kolkata", "2024-03-01 10:29:59", "Hourly", "2024-03-01 10:00:00"},
		{"Asia/Shanghai", "2024-03-01 00:00:00", "Daily", "2024-03-01 00:00:00"},
		{"Asia/Shanghai", "2024-02-29 23:59:59", "Daily", "2024-02-29 00:00:00"},
		{"Asia/Shanghai", "2024-03-03 12:00:00", "Weekly", "2024-02-26 00:00:00"}, // a Sunday belongs to the week before
		{"Asia/Shanghai", "2024-03-04 00:00:00", "Weekly", "2024-03-04 00:00:00"},
		{"Asia/Shanghai", "2024-02-29 23:59:59", "Monthly", "2024-02-01 00:00:00"},
		{"Europe/Berlin", "2024-03-31 12:00:00", "Daily", "2024-03-31 00:00:00"}, // clocks go forward
		{"Asia/Shanghai", "2024-03-01 12:00:00", "Off", ""},
	} {
		zone, err := time.LoadLocation(p.zone)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.ParseInLocation(time.DateTime, p.now, zone)
		if err != nil {
			t.Fatal(err)
		}
		start, ok := period(now, p.every)
		if got := start.Format(time.DateTime); ok != (p.want != "") || ok && got != p.want {
			t.Errorf("%s of %s in %s began %s, want %q", p.every, p.now, p.zone, got, p.want)
		}
	}
	for at, want := range map[string]string{"01:20": "2024-03-01 01:20:00", "01:30": "2024-02-29 01:30:00", "x": ""} {
		got, ok := since(time.Date(2024, 3, 1, 1, 29, 0, 0, time.UTC), at)
		if ok != (want != "") || ok && got.Format(time.DateTime) != want {
			t.Errorf("%s was last %v, want %s", at, got, want)
		}
	}
}
