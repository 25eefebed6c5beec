package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

// entryColumns show an IP or port group.
func entryColumns(id string) []column {
	return []column{plain("ID", id), plain("Name", "Name"), plain("Entries", "Rules"), plain("Rules", "ReferenceCount"), plain("Status", "Status"), plain("Reason", "Reason")}
}

var ipGroups = kind{name: "IP group", describe: "DescribeIPGroup", ids: "IPGroupIDs", id: "IPGroupID", state: "Status", prefix: "ipgroup-", columns: entryColumns("IPGroupID")}

var portGroups = kind{name: "port group", describe: "DescribePortGroup", ids: "PortGroupIDs", id: "PortGroupID", state: "Status", prefix: "portgroup-", columns: entryColumns("PortGroupID")}

func ipGroupCommand() *cobra.Command {
	return entryCommand("ipgroup", "Groups of addresses that rules name", &ipGroups, "IPGroup", "addresses, CIDRs or first-last ranges")
}

func portGroupCommand() *cobra.Command {
	return entryCommand("portgroup", "Groups of ports that rules name", &portGroups, "PortGroup", "TCP:port or UDP:first-last")
}

func entryCommand(noun, short string, k *kind, action, entries string) *cobra.Command {
	settled := func(ctx context.Context, s *session, id string) error {
		o, err := k.settle(ctx, s, id, []string{"updating"}, "available")
		if err != nil {
			return err
		}
		return s.detail(o, k.columns)
	}
	create := command("create NAME ENTRY...", "Make one of "+entries, cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		made := map[string]any{}
		if _, err := s.Call(ctx, "Create"+action, Params{"Name": args[0], "Rules": strings.Join(args[1:], ",")}, &made); err != nil {
			return err
		}
		id, _ := made[k.id].(string)
		return settled(ctx, s, id)
	})
	update := k.on(command("update GROUP ENTRY...", "Replace the entries: "+entries, cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := k.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		if _, err := s.Call(ctx, "Update"+action, Params{k.id: o.text(k.id), "Rules": strings.Join(args[1:], ",")}, nil); err != nil {
			return err
		}
		return settled(ctx, s, o.text(k.id))
	}))
	remove := k.on(command("delete GROUP...", "Delete those that no rule names", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := k.find(ctx, s, ref)
			if err != nil {
				return err
			}
			_, err = s.Call(ctx, "Delete"+action, Params{k.id: o.text(k.id)}, nil)
			return err
		})
	}))
	return group(noun, short, k.listCommand(), k.showCommand(), create, k.renameCommand(), update, remove)
}
