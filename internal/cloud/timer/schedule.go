package timer

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Types of schedules, as on the wire.
const (
	once     = "TIMER_TYPE_ONCE"
	daily    = "TIMER_TYPE_DAILY"
	weekly   = "TIMER_TYPE_WEEKLY"
	monthly  = "TIMER_TYPE_MONTHLY"
	interval = "TIMER_TYPE_FIXED_INTERVAL"
)

// lastDay stands for the last day of any month.
const lastDay = 32

// Schedule says when a job is due. Hours and days are those of its time zone.
type Schedule struct {
	Type     string
	Trigger  int64 `json:",omitempty"` // unix seconds, once
	Hours    []int `json:",omitempty"` // 0..23
	Weekdays []int `json:",omitempty"` // 1 Monday .. 7 Sunday
	Days     []int `json:",omitempty"` // 1..31, 32 the last
	Interval int64 `json:",omitempty"` // seconds, 60..86400
	Zone     string
}

// check normalizes a schedule: 3 for what its type needs and lacks, 113 for what is out of range.
func (s *Schedule) check() error {
	if _, err := zone(s.Zone); err != nil {
		return err
	}
	for i, d := range s.Weekdays {
		if d == 0 {
			s.Weekdays[i] = 7
		}
	}
	for _, list := range []struct {
		name          string
		values        *[]int
		lowest, above int
		needed        bool
	}{
		{"Hours", &s.Hours, 0, 24, s.Type == daily || s.Type == weekly || s.Type == monthly},
		{"Weeks", &s.Weekdays, 1, 8, s.Type == weekly},
		{"Days", &s.Days, 1, lastDay + 1, s.Type == monthly},
	} {
		if !list.needed {
			*list.values = nil
			continue
		}
		if len(*list.values) == 0 {
			return retcode.MissingParameter.Errorf("%s is required with Type %s", list.name, s.Type)
		}
		for _, v := range *list.values {
			if v < list.lowest || v >= list.above {
				return retcode.InvalidParameter.Errorf("%s are %d to %d", list.name, list.lowest, list.above-1)
			}
		}
		slices.Sort(*list.values)
		*list.values = slices.Compact(*list.values)
	}
	switch {
	case s.Type == once && s.Trigger <= 0:
		return retcode.MissingParameter.Errorf("TriggerTime is required with Type %s", s.Type)
	case s.Type == once && s.Trigger > 1<<36:
		return retcode.InvalidParameter.Errorf("TriggerTime is unix seconds")
	case s.Type == interval && s.Interval == 0:
		return retcode.MissingParameter.Errorf("FixedInterval is required with Type %s", s.Type)
	}
	if s.Type != once {
		s.Trigger = 0
	}
	if s.Type != interval {
		s.Interval = 0
	}
	return nil
}

// next is the first time after a moment at which the job is due; zero: never. first tells that the job never ran: a
// job for one moment that has passed then runs at once.
func (s *Schedule) next(after time.Time, first bool) time.Time {
	switch s.Type {
	case once:
		if !first {
			return time.Time{}
		}
		return time.Unix(s.Trigger, 0)
	case interval:
		return after.Add(time.Duration(s.Interval) * time.Second)
	}
	loc, err := zone(s.Zone)
	if err != nil {
		return time.Time{}
	}
	local := after.In(loc)
	// Every combination comes at least once in eight years: February 29th across a century.
	for day := range 8*366 + 1 {
		at := time.Date(local.Year(), local.Month(), local.Day()+day, 0, 0, 0, 0, loc)
		if !s.on(at) {
			continue
		}
		for _, hour := range s.Hours {
			if t := time.Date(at.Year(), at.Month(), at.Day(), hour, 0, 0, 0, loc); t.After(after) {
				return t
			}
		}
	}
	return time.Time{}
}

// on tells whether the schedule takes in a day.
func (s *Schedule) on(day time.Time) bool {
	switch s.Type {
	case weekly:
		return slices.Contains(s.Weekdays, (int(day.Weekday())+6)%7+1)
	case monthly:
		last := day.AddDate(0, 0, 1).Day() == 1
		return slices.Contains(s.Days, day.Day()) || last && slices.Contains(s.Days, lastDay)
	}
	return true
}

var offset = regexp.MustCompile(`^(?:GMT|UTC)(?:([+-])(\d{1,2})(?::(\d{2}))?)?$`)

// zone reads a time zone: GMT+8, UTC-03:30, or a name of the IANA database: 113.
func zone(name string) (*time.Location, error) {
	if m := offset.FindStringSubmatch(name); m != nil {
		hours, _ := strconv.Atoi(m[2])
		minutes, _ := strconv.Atoi(m[3])
		if hours > 14 || minutes > 59 {
			return nil, retcode.InvalidParameter.Errorf("TimeZone %s does not exist", name)
		}
		seconds := hours*3600 + minutes*60
		if m[1] == "-" {
			seconds = -seconds
		}
		return time.FixedZone(name, seconds), nil
	}
	if name == "" || name == "Local" {
		return nil, retcode.InvalidParameter.Errorf("TimeZone is written as GMT+8 or Asia/Shanghai")
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, retcode.InvalidParameter.Errorf("TimeZone %q does not exist", fmt.Sprintf("%.40s", name))
	}
	return loc, nil
}
