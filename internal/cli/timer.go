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
	return group("timer", "Snapshots at set times", timers.listCommand(), timers.showCommand(), timerCreateCommand(), runs, remove)
}

func timerCreateCommand() *cobra.Command {
	var disks, hours, weekdays, days []string
	var zone string
	var every time.Duration
	var at int64
	var keep int
	cmd := command("create NAME", "Snapshot disks at set times", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		p := Params{"Name": args[0], "Task": "CreateSnapshot", "ResourceIDs": disks, "KeepNum": keep, "TimeZone": zone, "Hours": hours}
		switch {
		case at > 0:
			p["Type"], p["TriggerTime"] = "TIMER_TYPE_ONCE", at
		case every > 0:
			p["Type"], p["FixedInterval"] = "TIMER_TYPE_FIXED_INTERVAL", int(every.Seconds())
		case len(days) > 0:
			p["Type"], p["Days"] = "TIMER_TYPE_MONTHLY", days
		case len(weekdays) > 0:
			p["Type"], p["Weeks"] = "TIMER_TYPE_WEEKLY", weekdays
		default:
			p["Type"] = "TIMER_TYPE_DAILY"
		}
		var made struct{ TimerID string }
		if _, err := s.Call(ctx, "CreateTimer", p, &made); err != nil {
			return err
		}
		t, err := timers.get(ctx, s, made.TimerID)
		if err != nil {
			return err
		}
		return s.detail(t, timers.columns)
	})
	f := cmd.Flags()
	f.StringSliceVar(&disks, "disk", nil, "disks, by id")
	f.StringSliceVar(&hours, "hour", nil, "hours, 0 to 23")
	f.StringSliceVar(&weekdays, "weekday", nil, "1 Monday to 7 Sunday: weekly")
	f.StringSliceVar(&days, "day", nil, "1 to 31, 32 the last: monthly")
	f.DurationVar(&every, "every", 0, "at this interval, 1m to 24h")
	f.Int64Var(&at, "at", 0, "once, at this time in unix seconds")
	f.StringVar(&zone, "zone", "GMT+8", "time zone of hours and days")
	f.IntVar(&keep, "keep", 10, "snapshots to keep of each disk")
	return cmd
}
