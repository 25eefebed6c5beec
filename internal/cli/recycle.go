package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

var binned = kind{
	name: "resource", describe: "DescribeRecycledResource", ids: "ResourceIDs", id: "ResourceID", state: "State",
	columns: []column{plain("ID", "ResourceID"), plain("Name", "Name"), plain("Type", "ResourceType"), plain("State", "State"),
		when("Deleted", "DeleteTime"), when("Destroyed on", "WillTerminateTime"), plain("Description", "Description")},
}

func recycleCommand() *cobra.Command {
	restore := binned.on(command("restore RESOURCE...", "Take back from the bin", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := binned.find(ctx, s, ref)
			if err != nil {
				return err
			}
			id := o.text("ResourceID")
			if _, err := s.Call(ctx, "RollbackResource", Params{"ResourceID": id}, nil); err != nil {
				return err
			}
			return s.leave(ctx, id, "Rollbacking")
		})
	}))
	destroy := binned.on(command("destroy RESOURCE...", "Destroy for good", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := binned.find(ctx, s, ref)
			if err != nil {
				return err
			}
			return terminate(ctx, s, o.text("ResourceID"))
		})
	}))
	return group("recycle", "The recycle bin", binned.listCommand(), restore, destroy)
}

// terminate destroys what is in the bin and waits for it.
func terminate(ctx context.Context, s *session, id string) error {
	if _, err := s.Call(ctx, "TerminateResource", Params{"ResourceID": id}, nil); err != nil {
		return err
	}
	return s.leave(ctx, id, "Terminating")
}

// leave waits until a resource has left the bin, through the given transient state.
func (s *session) leave(ctx context.Context, id, transient string) error {
	return s.wait(ctx, id, func(ctx context.Context) (string, bool, error) {
		o, err := binned.get(ctx, s, id)
		switch {
		case err != nil:
			return "", false, err
		case o == nil:
			return "done", true, nil
		}
		switch state := o.text("State"); state {
		case transient:
			return state, false, nil
		case "Terminated":
			return state, true, nil
		default:
			return state, true, failed(id, state, o.text("Description"))
		}
	})
}

// awaitBin waits until a deleted resource is in the bin, or gone: what failed to come up goes without one.
// It returns what is in the bin.
func awaitBin(ctx context.Context, s *session, k *kind, id string) (in object, err error) {
	err = s.wait(ctx, id, func(ctx context.Context) (string, bool, error) {
		var err error
		if in, err = binned.get(ctx, s, id); err != nil {
			return "", false, err
		}
		if in != nil {
			switch state := in.text("State"); state {
			case "Deleting":
				return state, false, nil
			case "Deleted":
				return state, true, nil
			default:
				return state, true, failed(id, state, in.text("Description"))
			}
		}
		o, err := k.get(ctx, s, id)
		if err != nil {
			return "", false, err
		}
		if o == nil {
			return "gone", true, nil
		}
		return o.text(k.state), false, nil
	})
	return in, err
}

func eventCommand() *cobra.Command {
	columns := []column{when("Last", "LastTime"), plain("Times", "Count"), plain("Level", "Level"), plain("Type", "EventType"), plain("Resource", "ResourceID"), plain("What", "Content")}
	var since time.Duration
	var resource, level string
	list := command("list", "List what happened to resources, the last first", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		p := Params{"BeginTime": time.Now().Add(-since).Unix()}
		if resource != "" {
			p["ResourceIDs"] = []string{resource}
		}
		if level != "" {
			p["Levels"] = []string{level}
		}
		all, err := s.list(ctx, "DescribeResourceEvent", p)
		if err != nil {
			return err
		}
		return s.show(all, columns)
	})
	f := list.Flags()
	f.DurationVar(&since, "since", 24*time.Hour, "how far to look back")
	f.StringVar(&resource, "resource", "", "only of this resource id")
	f.StringVar(&level, "level", "", "Info, Warning or Error")
	return group("event", "What happened to resources", list)
}

func logCommand() *cobra.Command {
	columns := []column{when("Time", "CreateTime"), plain("Action", "APIName"), plain("Resource", "ResourceID"), plain("By", "UserEmail"), plain("Code", "RetCode"), plain("Message", "Message")}
	var back time.Duration
	var resource, keyword string
	var failedOnly bool
	list := command("list", "List calls and what came of them, the newest first", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		now := time.Now()
		p := Params{"BeginTime": strconv.FormatInt(now.Add(-back).Unix(), 10), "EndTime": strconv.FormatInt(now.Unix()+1, 10),
			"ResourceID": resource, "Keyword": keyword}
		if failedOnly {
			p["IsSuccess"] = "No"
		}
		all, err := s.list(ctx, "DescribeOPLogs", p)
		if err != nil {
			return err
		}
		return s.show(all, columns)
	})
	f := list.Flags()
	f.DurationVar(&back, "since", time.Hour, "how far to look back")
	f.StringVar(&resource, "resource", "", "only calls about this resource id")
	f.StringVar(&keyword, "keyword", "", "only calls with this text")
	f.BoolVar(&failedOnly, "failed", false, "only failures")
	var span func() Params
	export := command("export", "Make a spreadsheet, and print where it can be fetched", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var made object
		if _, err := s.Call(ctx, "ExportOPLogs", span(), &made); err != nil {
			return err
		}
		return s.detail(made, []column{plain("URL", "URL"), plain("File", "FileName")})
	})
	span = since(export, month)
	return group("log", "The audit log", list, export)
}
