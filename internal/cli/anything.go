package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// named are the kinds of resources that commands take which are about any of them, and the ResourceType of each.
func named() []struct {
	*kind
	of string
} {
	return []struct {
		*kind
		of string
	}{{&vms, "VM"}, {&disks, "Disk"}, {&eips, "EIP"}, {&vpcs, "VPC"}, {&subnets, "SUBNET"}, {&groups, "SG"}, {&nics, "NIC"}, {&vips, "VIP"}, {&images, "Image"}, {&snapshots, "Snapshot"}, {&timers, "Timer"}}
}

// anything finds the id and the ResourceType of a resource of any kind by its id, which is not looked up, or by its name.
// Of several kinds the first counts: a machine goes before the system disk and the EIP that were named after it.
func anything(ctx context.Context, s *session, ref string) (id, of string, err error) {
	for _, k := range named() {
		if strings.HasPrefix(ref, k.prefix) {
			return ref, k.of, nil
		}
	}
	for _, k := range named() {
		all, err := s.list(ctx, k.describe, Params{"Keyword": ref})
		if err != nil {
			return "", "", err
		}
		var found []string
		for _, o := range all {
			if o.text("Name") == ref {
				found = append(found, o.text(k.id))
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], k.of, nil
		default:
			return "", "", fmt.Errorf("%d %ss are named %s: %s", len(found), k.name, ref, strings.Join(found, ", "))
		}
	}
	return "", "", fmt.Errorf("there is no resource %s", ref)
}

// allOf finds the ids of resources of any kinds.
func allOf(ctx context.Context, s *session, refs []string) ([]string, error) {
	ids := make([]string, len(refs))
	for i, ref := range refs {
		var err error
		if ids[i], _, err = anything(ctx, s, ref); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// completeAnything offers ids of every kind once their beginning is typed, and the beginnings until then.
func completeAnything(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, k := range named() {
		if strings.HasPrefix(toComplete, k.prefix) {
			return k.completeAny(cmd)
		}
		out = append(out, k.prefix)
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
