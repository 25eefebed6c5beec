package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

// quote makes one call that answers prices and shows them.
func (s *session) quote(ctx context.Context, action string, p Params) error {
	var r struct {
		Infos []object
		Price any
	}
	if _, err := s.Call(ctx, action, p, &r); err != nil {
		return err
	}
	if r.Infos == nil {
		r.Infos = []object{{"Price": r.Price}}
	}
	return s.show(r.Infos, []column{plain("By", "ChargeType"), plain("Yuan", "Price")})
}

// quoteCommands say what things would cost; nothing is bought.
func quoteCommands() []*cobra.Command {
	// bought adds the flags that every purchase has.
	bought := func(cmd *cobra.Command) func(p Params) Params {
		charge := cmd.Flags().String("charge", "Dynamic", "Dynamic (by the hour), Month or Year")
		quantity := cmd.Flags().Int("quantity", 1, "periods")
		return func(p Params) Params {
			p["ChargeType"], p["Quantity"] = *charge, *quantity
			return p
		}
	}
	var with func(Params) Params
	var o vmOptions
	vm := command("vm", "What a new VM would cost", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		p := with(Params{"CPU": o.cpu, "Memory": o.memory, "BootDiskSpace": o.disk})
		for param, of := range map[string]struct {
			kind *kind
			ref  string
		}{"ImageID": {&images, o.image}, "VMType": {&vmTypes, o.vmType}, "BootDiskSetType": {&diskTypes, o.diskType}} {
			id, err := choose(ctx, s, of.kind, of.ref, Params{})
			if err != nil {
				return err
			}
			p[param] = id
		}
		if o.data > 0 {
			p["DataDiskSpace"], p["DataDiskSetType"] = o.data, p["BootDiskSetType"]
		}
		if o.bandwidth > 0 {
			p["Bandwidth"], p["OperatorName"] = o.bandwidth, o.segment
		}
		return s.quote(ctx, "GetVMInstancePrice", p)
	})
	f := vm.Flags()
	f.IntVar(&o.cpu, "cpu", 1, "virtual CPUs")
	f.IntVar(&o.memory, "memory", 1024, "memory in MiB")
	f.IntVar(&o.disk, "disk", 40, "system disk in GB")
	f.IntVar(&o.data, "data-disk", 0, "data disk in GB, 0 for none")
	f.IntVar(&o.bandwidth, "eip", 0, "with an EIP of this bandwidth in Mbps, 0 for none")
	f.StringVar(&o.segment, "segment", "Bgp", "external segment of the EIP")
	f.StringVar(&o.image, "image", "", "image id or name")
	f.StringVar(&o.vmType, "type", "", "compute set type")
	f.StringVar(&o.diskType, "disk-type", "", "storage set type")
	images.flag(vm, "image")
	with = bought(vm)

	disk := func() *cobra.Command {
		var set string
		var space int
		var with func(Params) Params
		cmd := command("disk", "What a new disk would cost", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
			id, err := choose(ctx, s, &diskTypes, set, Params{})
			if err != nil {
				return err
			}
			return s.quote(ctx, "GetDiskPrice", with(Params{"SetType": id, "DiskSpace": space}))
		})
		cmd.Flags().StringVar(&set, "set-type", "", "storage set type; the first one")
		cmd.Flags().IntVar(&space, "space", 20, "GB")
		with = bought(cmd)
		return cmd
	}()
	outer := func(use, short, action, segment string) *cobra.Command {
		var with func(Params) Params
		cmd := command(use+" SEGMENT MBPS", short, cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
			o, err := segments.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			return s.quote(ctx, action, with(Params{segment: o.text("SegmentID"), "Bandwidth": args[1]}))
		})
		cmd.ValidArgsFunction = segments.complete
		with = bought(cmd)
		return cmd
	}
	resize := vms.on(command("resize VM CPU MEMORY", "What another size of a VM would cost for the rest of its term", cobra.ExactArgs(3), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		return s.quote(ctx, "GetPaymentOfPremium", Params{"VMID": vm.text("VMID"), "CPU": args[1], "Memory": args[2]})
	}))
	grow := disks.on(command("grow DISK GB", "What growing a disk would cost for the rest of its term", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		disk, err := disks.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		return s.quote(ctx, "GetUpgradeDiskPrice", Params{"DiskID": disk.text("DiskID"), "DiskSpace": args[1]})
	}))
	bandwidth := command("bandwidth EIP|NIC|VIP MBPS", "What another bandwidth would cost for the rest of the term", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		k, action := &eips, "GetEIPDiffPrice"
		switch {
		case strings.HasPrefix(args[0], nics.prefix):
			k, action = &nics, "GetUpdateNICPrice"
		case strings.HasPrefix(args[0], vips.prefix):
			k, action = &vips, "GetVIPDiffPrice"
		}
		o, err := k.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		return s.quote(ctx, action, Params{k.id: o.text(k.id), "Bandwidth": args[1], "CompanyID": o.text("CompanyID")})
	})
	bandwidth.ValidArgsFunction = eips.complete
	return []*cobra.Command{vm, disk, outer("eip", "What a new EIP would cost", "GetEIPPrice", "OpertatorName"), outer("nic", "What a new outer NIC would cost", "GetCreateNICPrice", "SegmentID"),
		outer("vip", "What a new outer VIP would cost", "GetVIPPrice", "SegmentID"), resize, grow, bandwidth}
}
