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
	change := func(use, short, action string) *cobra.Command {
		return command(use, short, cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
			given, err := pairs(args[1:])
			if err != nil {
				return err
			}
			kind, err := typeOf(args[0])
			if err != nil {
				return err
			}
			_, err = s.Call(ctx, action, Params{"ResourceType": kind, "ResourceIDs": []string{args[0]}, "KeyValuePairs": given}, nil)
			return err
		})
	}
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
	return group("tag", "Tags", tags.listCommand(), resources, remove,
		change("bind RESOURCE KEY=VALUE...", "Mark a resource", "BindTag"), change("unbind RESOURCE KEY=VALUE...", "Take tags off a resource", "UnBindTag"))
}

// types of resources by the beginnings of their ids.
var types = map[string]string{"vm-": "VM", "disk-": "Disk", "eip-": "EIP", "vpc-": "VPC", "subnet-": "SUBNET", "sg-": "SG", "nic-": "NIC", "image-": "Image",
	"snapshot-": "Snapshot", "timer-": "Timer", "vip-": "VIP"}

// typeOf is the ResourceType of an id.
func typeOf(id string) (string, error) {
	prefix, _, _ := strings.Cut(id, "-")
	if kind, ok := types[prefix+"-"]; ok {
		return kind, nil
	}
	return "", fmt.Errorf("%s is no id of a resource that bears tags", id)
}
