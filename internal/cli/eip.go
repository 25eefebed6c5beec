package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

var eips = kind{
	name: "EIP", describe: "DescribeEIP", ids: "EIPIDs", id: "EIPID", state: "Status", prefix: "eip-",
	columns: []column{
		plain("ID", "EIPID"), plain("Name", "Name"), plain("Address", "IP"), plain("Status", "Status"),
		{"Bandwidth", func(o object) string { return o.text("Bandwidth") + " Mbps" }},
		plain("Segment", "OperatorName"), plain("Bound to", "BindResourceID"), when("Created", "CreateTime"), plain("Reason", "Reason"),
	},
}

var eipTransient = []string{"Allocating", "Bounding", "Unbounding", "BandwidthChanging"}

func eipCommand() *cobra.Command {
	return group("eip", "Public addresses", eips.listCommand(), eips.showCommand(), eips.renameCommand(), eipAllocateCommand(), eipCheckCommand(), eipBindCommand(), eipUnbindCommand(),
		bandwidths("bandwidth EIP MBPS", "ModifyEIPBandwidth", &eips), eipDefaultCommand(), eipReleaseCommand())
}

func eipAllocateCommand() *cobra.Command {
	var name, segment, charge, ip string
	var bandwidth int
	cmd := command("allocate", "Get one", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var made struct{ EIPID string }
		if _, err := s.Call(ctx, "AllocateEIP", Params{"Name": name, "OperatorName": segment, "ChargeType": charge, "Bandwidth": bandwidth, "IP": ip}, &made); err != nil {
			return err
		}
		o, err := eips.settle(ctx, s, made.EIPID, eipTransient, "Free")
		if err != nil {
			return err
		}
		return s.detail(o, eips.columns)
	})
	f := cmd.Flags()
	f.StringVar(&name, "name", "eip", "name")
	f.StringVar(&segment, "segment", "Bgp", "external segment")
	f.StringVar(&charge, "charge", "Dynamic", "Dynamic (by the hour), Month or Year")
	f.IntVar(&bandwidth, "bandwidth", 10, "Mbps")
	f.StringVar(&ip, "ip", "", "wanted address")
	return cmd
}

func eipBindCommand() *cobra.Command {
	cmd := command("bind EIP VM", "Bind to a VM", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		eip, err := eips.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		vm, err := vms.find(ctx, s, args[1])
		if err != nil {
			return err
		}
		id := eip.text("EIPID")
		if _, err := s.Call(ctx, "BindEIP", Params{"EIPID": id, "ResourceType": "VM", "ResourceID": vm.text("VMID")}, nil); err != nil {
			return err
		}
		if eip, err = eips.settle(ctx, s, id, eipTransient, "Bound"); err != nil {
			return err
		}
		return s.detail(eip, eips.columns)
	})
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return eips.completeAny(cmd)
		case 1:
			return vms.completeAny(cmd)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func eipUnbindCommand() *cobra.Command {
	return eips.on(command("unbind EIP", "Take from what it is bound to", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		eip, err := eips.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		id, kind, bound := eip.text("EIPID"), eip.text("BindResourceType"), eip.text("BindResourceID")
		if bound == "" {
			return fmt.Errorf("%s is bound to nothing", id)
		}
		if _, err := s.Call(ctx, "UnBindEIP", Params{"EIPID": id, "ResourceType": kind, "ResourceID": bound}, nil); err != nil {
			return err
		}
		if eip, err = eips.settle(ctx, s, id, eipTransient, "Free"); err != nil {
			return err
		}
		return s.detail(eip, eips.columns)
	}))
}

func eipReleaseCommand() *cobra.Command {
	var destroy bool
	cmd := eips.on(command("release EIP...", "Move to the recycle bin", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			eip, err := eips.find(ctx, s, ref)
			if err != nil {
				return err
			}
			id := eip.text("EIPID")
			if _, err := s.Call(ctx, "ReleaseEIP", Params{"EIPID": id}, nil); err != nil {
				return err
			}
			binned, err := awaitBin(ctx, s, &eips, id)
			if err != nil || !destroy || binned == nil {
				return err
			}
			return terminate(ctx, s, id)
		})
	}))
	cmd.Flags().BoolVar(&destroy, "destroy", false, "destroy it for good, past the recycle bin")
	return cmd
}

func eipDefaultCommand() *cobra.Command {
	return eips.on(command("default EIP", "Let its machine go out by it", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		eip, err := eips.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "UpdateVMDefaultGW", Params{"VMID": eip.text("BindResourceID"), "EIPID": eip.text("EIPID")}, nil)
		return err
	}))
}

func eipCheckCommand() *cobra.Command {
	var segment, subnet string
	cmd := command("check ADDRESS --segment SEGMENT | --subnet SUBNET", "Tell whether an address is free", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		k, ref := &segments, segment
		if subnet != "" {
			k, ref = &subnets, subnet
		}
		o, err := k.find(ctx, s, ref)
		if err != nil {
			return err
		}
		if _, err := s.Call(ctx, "CheckIPInuse", Params{"IP": args[0], k.id: o.text(k.id)}, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, args[0], "is free")
		return err
	})
	cmd.Flags().StringVar(&segment, "segment", "", "external segment, id or name")
	cmd.Flags().StringVar(&subnet, "subnet", "", "subnet, id or name")
	segments.flag(cmd, "segment")
	subnets.flag(cmd, "subnet")
	cmd.MarkFlagsOneRequired("segment", "subnet")
	cmd.MarkFlagsMutuallyExclusive("segment", "subnet")
	return cmd
}
