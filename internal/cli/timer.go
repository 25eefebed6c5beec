package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

var timers = kind{
	name: "timer", describe: "DescribeTimer", ids: "TimerIDs", id: "TimerID", prefix: "timer-",
	columns: []column{plain("ID", "TimerID"), plain("Name", "Name"), plain("Task", "Task"), plain("Type", "Type"), plain("Hours", "Hours"),
		plain("Disks", "ResourceIDs"), plain("Keeps", "KeepNum"), when("Next", "NextTime")},
}

func timerCommand() *cobra.Command {
	runs := timers.on(command("runs TIMER", "List what it did", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		t, err := timers.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		all, err := s.list(ctx, "DescribeTimerTask", Params{"TimerID": t.text("TimerID")})
		if err != nil {
			return err
		}
		return s.show(all, []column{when("Began", "BeginTime"), when("Ended", "EndTime"), plain("Resource", "ResourceID"), plain("Status", "Status"), plain("Message", "Message")})
	}))
	remove := timers.on(command("delete TIMER...", "Delete; what it made stays", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			t, err := timers.find(ctx, s, ref)
			if err != nil {
				return err
			}
			_, err = s.Call(ctx, "DeleteTimer", Params{"TimerID": t.text("TimerID")}, nil)
			return err
		})
	}))
	return group("timer", "Snapshots at set times", timers.listCommand(), timers.showCommand(), timerCreateCommand(), timerUpdateCommand(), runs, remove)
}

// schedule are the flags that say when a timer runs, on what, and what stays.
type schedule struct {
	disks, hours, weekdays, days []string
	zone                         string
	every                        time.Duration
	at                           int64
	keep                         int
}

func (w *schedule) flags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.StringSliceVar(&w.disks, "disk", nil, "disks, ids or names")
	f.StringSliceVar(&w.hours, "hour", nil, "hours, 0 to 23")
	f.StringSliceVar(&w.weekdays, "weekday", nil, "1 Monday to 7 Sunday: weekly")
	f.StringSliceVar(&w.days, "day", nil, "1 to 31, 32 the last: monthly")
	f.DurationVar(&w.every, "every", 0, "at this interval, 1m to 24h")
	f.Int64Var(&w.at, "at", 0, "once, at this time in unix seconds")
	f.StringVar(&w.zone, "zone", "GMT+8", "time zone of hours and days")
	f.IntVar(&w.keep, "keep", 10, "snapshots to keep of each disk")
	disks.flag(cmd, "disk")
	return cmd
}

// params of CreateTimer and UpdateTimer.
func (w *schedule) params(ctx context.Context, s *session) (Params, error) {
	var ids []string
	for _, ref := range w.disks {
		o, err := disks.find(ctx, s, ref)
		if err != nil {
			return nil, err
		}
		ids = append(ids, o.text("DiskID"))
	}
	p := Params{"ResourceIDs": ids, "KeepNum": w.keep, "TimeZone": w.zone, "Hours": w.hours}
	switch {
	case w.at > 0:
		p["Type"], p["TriggerTime"] = "TIMER_TYPE_ONCE", w.at
	case w.every > 0:
		p["Type"], p["FixedInterval"] = "TIMER_TYPE_FIXED_INTERVAL", int(w.every.Seconds())
	case len(w.days) > 0:
		p["Type"], p["Days"] = "TIMER_TYPE_MONTHLY", w.days
	case len(w.weekdays) > 0:
		p["Type"], p["Weeks"] = "TIMER_TYPE_WEEKLY", w.weekdays
	default:
		p["Type"] = "TIMER_TYPE_DAILY"
	}
	return p, nil
}

func timerCreateCommand() *cobra.Command {
	var w schedule
	return w.flags(command("create NAME", "Snapshot disks at set times", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		p, err := w.params(ctx, s)
		if err != nil {
			return err
		}
		p["Name"], p["Task"] = args[0], "CreateSnapshot"
		var made struct{ TimerID string }
		if _, err := s.Call(ctx, "CreateTimer", p, &made); err != nil {
			return err
		}
		t, err := timers.get(ctx, s, made.TimerID)
		if err != nil {
			return err
		}
		return s.detail(t, timers.columns)
	}))
}

// timerUpdateCommand gives a timer other times; its disks and how many snapshots it keeps stay unless they are named.
func timerUpdateCommand() *cobra.Command {
	var w schedule
	var cmd *cobra.Command
	cmd = w.flags(timers.on(command("update TIMER", "Give one other times, for its runs from now on", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		t, err := timers.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		p, err := w.params(ctx, s)
		if err != nil {
			return err
		}
		p["TimerID"] = t.text("TimerID")
		if !cmd.Flags().Changed("disk") {
			p["ResourceIDs"] = t.texts("ResourceIDs")
		}
		if !cmd.Flags().Changed("keep") {
			p["KeepNum"] = t.text("KeepNum")
		}
		if !cmd.Flags().Changed("zone") {
			p["TimeZone"] = t.text("TimeZone")
		}
		if _, err := s.Call(ctx, "UpdateTimer", p, nil); err != nil {
			return err
		}
		if t, err = timers.get(ctx, s, t.text("TimerID")); err != nil {
			return err
		}
		return s.detail(t, timers.columns)
	})))
	return cmd
}
