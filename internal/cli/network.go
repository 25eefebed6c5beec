package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

var images = kind{
	name: "image", describe: "DescribeImage", ids: "ImageIDs", id: "ImageID", state: "ImageStatus", prefix: "image-",
	columns: []column{plain("ID", "ImageID"), plain("Name", "Name"), plain("Type", "ImageType"), plain("System", "OSName"), plain("Arch", "SetArch"),
		{"Size", func(o object) string { return o.text("ImageSize") + " GB" }}, plain("Status", "ImageStatus"), plain("Reason", "Reason")},
}

var vpcs = kind{
	name: "VPC", describe: "DescribeVPC", ids: "VPCIDs", id: "VPCID", state: "State", prefix: "vpc-",
	columns: []column{plain("ID", "VPCID"), plain("Name", "Name"), plain("Network", "Network"), plain("Subnets", "SubnetCount"), plain("State", "State"), when("Created", "CreateTime")},
}

var subnets = kind{
	name: "subnet", describe: "DescribeSubnet", ids: "SubnetIDs", id: "SubnetID", state: "State", prefix: "subnet-",
	columns: []column{plain("ID", "SubnetID"), plain("Name", "Name"), plain("Network", "Network"), plain("VPC", "VPCID"), plain("State", "State"), when("Created", "CreateTime")},
}

var groups = kind{
	name: "security group", describe: "DescribeSecurityGroup", ids: "SGIDs", id: "SGID", state: "Status", prefix: "sg-",
	columns: []column{plain("ID", "SGID"), plain("Name", "Name"), plain("Rules", "RuleCount"), plain("Used by", "ResourceCount"), plain("Status", "Status"), when("Created", "CreateTime")},
}

var vmTypes = kind{
	name: "VM type", describe: "DescribeVMType", id: "VMType",
	columns: []column{plain("Type", "VMType"), plain("Name", "VMTypeAlias"), plain("Arch", "SetArch")},
}

var diskTypes = kind{
	name: "storage type", describe: "DescribeStorageType", id: "StorageType",
	columns: []column{plain("Type", "StorageType"), plain("Name", "StorageTypeAlias"), plain("Arch", "SetArch")},
}

// ruleColumns show one rule of a security group.
var ruleColumns = []column{plain("ID", "RuleID"), {"Direction", func(o object) string {
	if o.text("IsIn") == "1" {
		return "in"
	}
	return "out"
}}, plain("Protocol", "ProtocolType"), plain("Port", "DstPort"), plain("Network", "SrcIP"), plain("Action", "RuleAction"), plain("Priority", "Priority"), plain("Remark", "Remark")}

func imageCommand() *cobra.Command {
	return group("image", "Images", images.listCommand(), images.showCommand(), imageMakeCommand(), imageUploadCommand(), imageLoadCommand(),
		imageLinkCommand(), imageSetCommand(), images.renameCommand(),
		images.act("abort IMAGE", "Stop the making or importing of one", "AbortCustomImage", 0, nil), imageSystemsCommand(), imageBaseCommand(), imageDeleteCommand())
}

func sgCommand() *cobra.Command {
	const form = "PROTOCOL|PORT|CIDR|ACTION|PRIORITY|DIRECTION, e.g. 'TCP|8080|0.0.0.0/0|ACCEPT|HIGH|1' (1 is in, 0 is out)"
	show := groups.on(command("show SG", "Show one with its rules", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := groups.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		if err := s.detail(o, groups.columns); err != nil || s.output == "json" {
			return err
		}
		fmt.Fprintln(s.out)
		return s.show(o.list("Rule"), ruleColumns)
	}))
	var rules []string
	create := command("create NAME --rule RULE...", "Create one; a rule is "+form, cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		var made struct{ SGID string }
		if _, err := s.Call(ctx, "CreateSecurityGroup", Params{"Name": args[0], "Rule": rules}, &made); err != nil {
			return err
		}
		o, err := groups.settle(ctx, s, made.SGID, []string{"Creating", "Updating"}, "Available")
		if err != nil {
			return err
		}
		return s.detail(o, groups.columns)
	})
	create.Flags().StringArrayVar(&rules, "rule", nil, form)
	create.MarkFlagRequired("rule")
	var remark string
	add := groups.on(command("add-rule SG RULE...", "Add rules: "+form, cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := groups.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		id := o.text("SGID")
		if _, err := s.Call(ctx, "CreateSecurityGroupRule", Params{"SGID": id, "Rules": args[1:], "Remark": remark}, nil); err != nil {
			return err
		}
		if o, err = groups.settle(ctx, s, id, []string{"Creating", "Updating"}, "Available"); err != nil {
			return err
		}
		if s.output == "json" {
			return s.json(o)
		}
		return s.show(o.list("Rule"), ruleColumns)
	}))
	add.Flags().StringVar(&remark, "remark", "", "what the rules are for")
	return group("sg", "Security groups", groups.listCommand(), show, create, groups.renameCommand(), add, sgSetRuleCommand(form), sgDropRuleCommand(), sgResourcesCommand(),
		sgSideCommand("bind SG RESOURCE...", "Give it to a side of machines or NICs", "BindSecurityGroup"),
		sgSideCommand("unbind SG RESOURCE...", "Take it from a side of machines or NICs", "UnBindSecurityGroup"), sgDeleteCommand())
}

func regionCommand() *cobra.Command {
	k := kind{name: "region", describe: "DescribeRegion", id: "Region",
		columns: []column{plain("Region", "Region"), plain("Name", "RegionAlias"), plain("State", "State"), plain("City", "City")}}
	types := func(use, short string, k *kind) *cobra.Command {
		return command(use, short, cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
			all, err := s.list(ctx, k.describe, nil)
			if err != nil {
				return err
			}
			return s.show(all, k.columns)
		})
	}
	return group("region", "Regions and what they offer", types("list", "List regions", &k),
		types("vm-types", "List compute set types", &vmTypes), types("disk-types", "List storage set types", &diskTypes))
}

// completeAny is complete whatever arguments came before.
func (k *kind) completeAny(cmd *cobra.Command) ([]string, cobra.ShellCompDirective) {
	check := cmd.Args
	cmd.Args = nil
	defer func() { cmd.Args = check }()
	return k.complete(cmd, nil, "")
}
