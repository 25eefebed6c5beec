package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

var tags = kind{
	name: "tag", describe: "DescribeTag", id: "TagID", prefix: "tag-",
	columns: []column{plain("Key", "Key"), plain("Value", "Value"), plain("Resources", "ResourceCount"), when("Created", "CreateTime")},
}

// pairs writes key=value as the API has it.
func pairs(texts []string) ([]string, error) {
	out := make([]string, len(texts))
	for i, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("write a tag as key=value, not %s", text)
		}
		out[i] = base64.StdEncoding.EncodeToString([]byte(key)) + ":" + base64.StdEncoding.EncodeToString([]byte(value))
	}
	return out, nil
}

func tagCommand() *cobra.Command {
	change := func(use, short, action string, least int) *cobra.Command {
		cmd := command(use, short, cobra.MinimumNArgs(least), func(ctx context.Context, s *session, args []string) error {
			given, err := pairs(args[1:])
			if err != nil {
				return err
			}
			id, of, err := anything(ctx, s, args[0])
			if err != nil {
				return err
			}
			p := Params{"ResourceType": of, "KeyValuePairs": given}
			if action == "SetResourceTags" {
				p["ResourceID"] = id
			} else {
				p["ResourceIDs"] = []string{id}
			}
			_, err = s.Call(ctx, action, p, nil)
			return err
		})
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeAnything(cmd, args, toComplete)
		}
		return cmd
	}
	create := once("create KEY VALUE...", "Make values of a key", cobra.MinimumNArgs(2), func(a []string) (string, Params) {
		return "CreateTag", Params{"Key": a[0], "Values": a[1:]}
	})
	bindable := command("bindable TYPE", "List resources that can bear tags; TYPE is VM, Disk, EIP, ...", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		all, err := s.list(ctx, "DescribeBindableTagResource", Params{"ResourceType": args[0]})
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("ID", "ResourceID"), plain("Name", "ResourceName"), plain("Type", "ResourceType")})
	})
	resources := command("resources KEY[=VALUE]", "List what bears a tag", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		key, value, _ := strings.Cut(args[0], "=")
		all, err := s.list(ctx, "DescribeTagResource", Params{"Key": key, "Value": value})
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("ID", "ResourceID"), plain("Name", "ResourceName"), plain("Type", "ResourceType"), plain("Key", "Key"), plain("Value", "Value")})
	})
	remove := command("delete KEY[=VALUE]", "Delete a tag that nothing bears", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		key, value, _ := strings.Cut(args[0], "=")
		_, err := s.Call(ctx, "DeleteTag", Params{"Key": key, "Value": value}, nil)
		return err
	})
	return group("tag", "Tags", tags.listCommand(), create, resources, bindable, remove,
		change("bind RESOURCE KEY=VALUE...", "Mark a resource", "BindTag", 2), change("unbind RESOURCE KEY=VALUE...", "Take tags off a resource", "UnBindTag", 2),
		change("set RESOURCE [KEY=VALUE...]", "Replace all tags of a resource", "SetResourceTags", 1))
}
