package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// act makes a command about one resource of this kind: it makes one call with its id and what the other arguments say.
func (k *kind) act(use, short, action string, args int, more func(args []string) Params) *cobra.Command {
	return k.on(command(use, short, cobra.ExactArgs(1+args), func(ctx context.Context, s *session, args []string) error {
		o, err := k.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		p := Params{k.id: o.text(k.id)}
		if more != nil {
			for name, v := range more(args[1:]) {
				p[name] = v
			}
		}
		_, err = s.Call(ctx, action, p, nil)
		return err
	}))
}

// renameCommand gives a resource another name, and another remark when one is given.
func (k *kind) renameCommand() *cobra.Command {
	var remark string
	var cmd *cobra.Command
	cmd = k.on(command("rename "+strings.ToUpper(strings.ReplaceAll(k.name, " ", "-"))+" NAME", "Give one another name, and remark", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := k.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		p := Params{"ResourceID": o.text(k.id), "Name": args[1]}
		if remark = strings.TrimSpace(remark); cmd.Flags().Changed("remark") {
			p["Remark"] = remark
		}
		_, err = s.Call(ctx, "ModifyNameAndRemark", p, nil)
		return err
	}))
	cmd.Flags().StringVar(&remark, "remark", "", "another remark; as before when left out")
	return cmd
}

// vmSetCommand changes settings, each by an action of its own.
func vmSetCommand() *cobra.Command {
	var hostname, dns, availability, boot, userData, cpuMode string
	var hotplug bool
	var cmd *cobra.Command
	cmd = vms.on(command("set VM", "Change settings; most hold from its next start on", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		changed := 0
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		set := func(flag, action, param string, value any) error {
			if !cmd.Flags().Changed(flag) {
				return nil
			}
			changed++
			_, err := s.Call(ctx, action, Params{"VMID": vm.text("VMID"), param: value}, nil)
			return err
		}
		var raw []byte
		if userData != "" {
			if raw, err = os.ReadFile(userData); err != nil {
				return err
			}
		}
		err = errors.Join(
			set("hostname", "UpdateVMHostname", "Hostname", hostname),
			set("dns", "UpdateVMDNS", "DNS", dns),
			set("availability", "UpdateVMHighAvailability", "HighAvailability", availability),
			set("boot-order", "UpdateVMBootDevices", "BootDevices", strings.Split(boot, ",")),
			set("user-data", "UpdateVMUserData", "UserData", base64.StdEncoding.EncodeToString(raw)),
			set("cpu-mode", "UpdateVMCPUMode", "CPUMode", cpuMode),
			set("hotplug", "UpdateVMSupportHotPlug", "SupportHotplug", hotplug))
		if err == nil && changed == 0 {
			return errors.New("name what to change: see --help")
		}
		return err
	}))
	f := cmd.Flags()
	f.StringVar(&hostname, "hostname", "", "host name of the guest")
	f.StringVar(&dns, "dns", "", "name servers, at most 2, with a comma between")
	f.StringVar(&availability, "availability", "", "NeverStop: started again when it goes down by itself; None")
	f.StringVar(&boot, "boot-order", "", "hd, cdrom, network with commas between, the first to try first")
	f.StringVar(&userData, "user-data", "", "file with cloud-init data; the machine must be off")
	f.StringVar(&cpuMode, "cpu-mode", "", "default or host-passthrough; the machine must be off")
	f.BoolVar(&hotplug, "hotplug", false, "it can get CPUs and memory while it runs")
	cmd.RegisterFlagCompletionFunc("availability", cobra.FixedCompletions([]string{"NeverStop", "None"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("cpu-mode", cobra.FixedCompletions([]string{"default", "host-passthrough"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// vmDiscCommand is what is in a machine's drives.
func vmDiscCommand() *cobra.Command {
	change := func(use, short, action string) *cobra.Command {
		cmd := command(use+" VM IMAGE", short, cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
			vm, err := vms.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			image, err := images.find(ctx, s, args[1])
			if err != nil {
				return err
			}
			_, err = s.Call(ctx, action, Params{"VMID": vm.text("VMID"), "ImageID": image.text("ImageID")}, nil)
			return err
		})
		cmd.ValidArgsFunction = inTurn(&vms, &images)
		return cmd
	}
	list := vms.on(command("list VM", "List the discs in its drives", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var r struct{ Infos []object }
		if _, err := s.Call(ctx, "DescribeVMISO", Params{"VMID": vm.text("VMID")}, &r); err != nil {
			return err
		}
		return s.show(r.Infos, []column{plain("Image", "ImageID"), plain("Name", "ImageName"), plain("Drive", "Slot")})
	}))
	return group("disc", "Discs in a machine's drives", list, change("insert", "Insert an image of format iso", "AttachISO"), change("eject", "Take one out", "DetachISO"),
		vms.act("boot VM", "Boot from the disc, from its next start on", "SetBootFromCdrom", 0, nil),
		vms.act("boot-from-disk VM", "Boot from its system disk again", "UnSetBootFromCdrom", 0, nil))
}

// inTurn completes each argument by a kind of its own.
func inTurn(kinds ...*kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(kinds) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return kinds[len(args)].completeAny(cmd)
	}
}

func vmScreenshotCommand() *cobra.Command {
	return vms.on(command("screenshot VM FILE", "Write a picture of its screen to a PNG file", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var picture struct{ ImageData []byte }
		if _, err := s.Call(ctx, "GetVMScreenshot", Params{"VMID": vm.text("VMID")}, &picture); err != nil {
			return err
		}
		return os.WriteFile(args[1], picture.ImageData, 0o644)
	}))
}

// vmAddressCommand moves a stopped machine to another address.
func vmAddressCommand() *cobra.Command {
	var subnet string
	cmd := vms.on(command("replace-ip VM ADDRESS", "Give a stopped one another inner address of its VPC; its EIPs follow", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		p := Params{"ResourceID": vm.text("VMID"), "IP": args[1]}
		if subnet != "" {
			o, err := subnets.find(ctx, s, subnet)
			if err != nil {
				return err
			}
			p["SubnetID"] = o.text("SubnetID")
		}
		_, err = s.Call(ctx, "ReplaceIP", p, nil)
		return err
	}))
	cmd.Flags().StringVar(&subnet, "subnet", "", "the subnet of the address, id or name, when it is another")
	subnets.flag(cmd, "subnet")
	return cmd
}

// imageSetCommand corrects what an image says of its system; what is not named stays.
func imageSetCommand() *cobra.Command {
	var distribution, version, system, arch, boot string
	var cloudInit, agent, hotplug bool
	var cmd *cobra.Command
	cmd = images.on(command("set IMAGE", "Correct what one says of its system", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := images.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		p := Params{"ImageID": o.text("ImageID"), "CompanyID": o.text("CompanyID"), "OSDistribution": o.text("OSDistribution"),
			"OSVersion": strings.TrimSpace(strings.TrimPrefix(o.text("OSName"), o.text("OSDistribution"))), // lists tell both in one
			"OSType":    o.text("OSType"), "SetArch": o.text("SetArch")}
		for flag, of := range map[string]struct {
			name  string
			value any
		}{"distribution": {"OSDistribution", distribution}, "version": {"OSVersion", version}, "os": {"OSType", system}, "arch": {"SetArch", arch}, "boot": {"BootloaderType", boot},
			"cloud-init": {"SupportCloudInit", cloudInit}, "agent": {"SupportQGA", agent}, "hotplug": {"SupportHotplug", hotplug}} {
			if cmd.Flags().Changed(flag) {
				p[of.name] = of.value
			}
		}
		_, err = s.Call(ctx, "UpdateImage", p, nil)
		return err
	}))
	f := cmd.Flags()
	f.StringVar(&system, "os", "", "Linux, Windows or Kylin")
	f.StringVar(&distribution, "distribution", "", "e.g. Debian")
	f.StringVar(&version, "version", "", "e.g. 12")
	f.StringVar(&arch, "arch", "", "x86_64 or aarch64")
	f.StringVar(&boot, "boot", "", "bios or uefi")
	f.BoolVar(&cloudInit, "cloud-init", false, "it reads the seed")
	f.BoolVar(&agent, "agent", false, "it runs qemu-guest-agent")
	f.BoolVar(&hotplug, "hotplug", false, "its machines can get CPUs and memory while they run")
	return cmd
}

// baseImages are what administrators see of base images.
var baseImages = kind{name: "base image", describe: "DescribeBaseImage", ids: "ImageIDs", id: "ImageID", state: "ImageStatus", prefix: "image-", columns: images.columns}

// imageBaseCommand is what administrators do to base images.
func imageBaseCommand() *cobra.Command {
	publish := images.on(command("create IMAGE NAME", "Make one of a tenant's image", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := images.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var made object
		if _, err := s.Call(ctx, "CloneCustomImageToBaseImage", Params{"SourceImageID": o.text("ImageID"), "DestImageName": args[1]}, &made); err != nil {
			return err
		}
		fmt.Fprintln(s.out, made.text("ImageID"))
		return nil
	}))
	return group("base", "Base images (administrators)", baseImages.listCommand(), publish, baseImages.act("delete IMAGE", "Destroy one", "DeleteBaseImage", 0, nil))
}

func imageSystemsCommand() *cobra.Command {
	return listing("systems", "List the systems that an import may name", "DescribeImageOSVersions", nothing,
		[]column{plain("System", "OSType"), plain("Distribution", "OSDistribution"), plain("Version", "OSVersion"), plain("Arch", "SetArch")})
}
