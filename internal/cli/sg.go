package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// settleGroup waits until a group's rules are in force and shows them.
func settleGroup(ctx context.Context, s *session, id string) error {
	o, err := groups.settle(ctx, s, id, []string{"Creating", "Updating"}, "Available")
	if err != nil {
		return err
	}
	if s.output == "json" {
		return s.json(o)
	}
	return s.show(o.list("Rule"), ruleColumns)
}

func sgSetRuleCommand(form string) *cobra.Command {
	var cmd *cobra.Command
	cmd = groups.on(command("set-rule SG RULE-ID RULE", "Replace a rule: "+form, cobra.ExactArgs(3), func(ctx context.Context, s *session, args []string) error {
		o, err := groups.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		p := Params{"SGID": o.text("SGID"), "Rules": []string{args[2] + "|" + args[1]}}
		given(cmd, p, map[string]string{"remark": "Remark"})
		if _, err := s.Call(ctx, "UpdateSecurityGroupRule", p, nil); err != nil {
			return err
		}
		return settleGroup(ctx, s, o.text("SGID"))
	}))
	cmd.Flags().String("remark", "", "what the rule is for; by itself what it was")
	return cmd
}

func sgDropRuleCommand() *cobra.Command {
	return groups.on(command("delete-rule SG RULE-ID...", "Delete rules", cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := groups.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		if _, err := s.Call(ctx, "DeleteSecurityGroupRule", Params{"SGID": o.text("SGID"), "SGRuleID": strings.Join(args[1:], ",")}, nil); err != nil {
			return err
		}
		return settleGroup(ctx, s, o.text("SGID"))
	}))
}

func sgResourcesCommand() *cobra.Command {
	return groups.on(command("resources SG", "List what has it", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := groups.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		all, err := s.list(ctx, "DescribeSecurityGroupResource", Params{"SGID": o.text("SGID")})
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("Resource", "ResourceID"), plain("Type", "ResourceType"), plain("Name", "Name"), plain("Side", "NICType")})
	}))
}

// sgSideCommand binds or unbinds.
func sgSideCommand(use, short, action string) *cobra.Command {
	var inner bool
	cmd := groups.on(command(use, short, cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := groups.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var ids []string
		for _, ref := range args[1:] {
			if !strings.HasPrefix(ref, "nic-") {
				vm, err := vms.find(ctx, s, ref)
				if err != nil {
					return err
				}
				ref = vm.text("VMID")
			}
			ids = append(ids, ref)
		}
		side := "WAN"
		if inner {
			side = "LAN"
		}
		_, err = s.Call(ctx, action, Params{"SGID": o.text("SGID"), "ResourceID": strings.Join(ids, ","), "NICType": side}, nil)
		return err
	}))
	cmd.Flags().BoolVar(&inner, "inner", false, "the inner side, not the outer one")
	return cmd
}

// sgDeleteCommand deletes. A group that is still being taken off something is asked for again: no state shows that.
func sgDeleteCommand() *cobra.Command {
	return groups.on(command("delete SG...", "Delete those that nothing has", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := groups.find(ctx, s, ref)
			if err != nil {
				return err
			}
			remove := func(ctx context.Context) (busy bool, err error) {
				_, err = s.Call(ctx, "DeleteSecurityGroup", Params{"SGID": o.text("SGID")}, nil)
				refused := new(Error)
				return errors.As(err, &refused) && refused.Code == int(retcode.InvalidSGState), err
			}
			if busy, err := remove(ctx); !busy || s.async {
				return err
			}
			return s.wait(ctx, ref, func(ctx context.Context) (string, bool, error) {
				if busy, err := remove(ctx); !busy {
					return "", true, err
				}
				return "Updating", false, nil
			})
		})
	}))
}
