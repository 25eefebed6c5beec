package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

var disks = kind{
	name: "disk", describe: "DescribeDisk", ids: "DiskIDs", id: "DiskID", state: "DiskStatus", prefix: "disk-",
	columns: []column{
		plain("ID", "DiskID"), plain("Name", "Name"), plain("Status", "DiskStatus"), plain("Type", "DiskType"),
		{"Size", func(o object) string { return o.text("Size") + " GB" }},
		plain("Storage", "SetType"), plain("Encrypted", "Encrypted"), plain("Attached to", "AttachResourceID"), plain("Device", "Drive"),
		when("Created", "CreateTime"), plain("Reason", "Reason"),
	},
}

var snapshots = kind{
	name: "snapshot", describe: "DescribeSnapshot", ids: "SnapshotIDs", id: "SnapshotID", state: "SnapshotStatus", prefix: "snapshot-",
	columns: []column{
		plain("ID", "SnapshotID"), plain("Name", "Name"), plain("Status", "SnapshotStatus"), plain("Disk", "DiskID"), plain("Type", "DiskType"),
		{"Size", func(o object) string { return o.text("SnapshotSize") + " GB" }},
		plain("Frozen", "Frozen"), when("Created", "CreateTime"), plain("Reason", "Reason"),
	},
}

var (
	diskTransient     = []string{"Creating", "Bounding", "Unbounding", "Upgrading", "BeingCloned", "Snapshoting", "Rollbacking"}
	snapshotTransient = []string{"Createing", "RollBacking", "Deleting"}
)

func diskCommand() *cobra.Command {
	return group("disk", "Disks", disks.listCommand(), disks.showCommand(), disks.renameCommand(), diskCreateCommand(), diskAttachCommand(), diskDetachCommand(),
		diskGrowCommand(), diskCloneCommand(), diskFromSnapshotCommand(), diskLimitCommand(), diskDeleteCommand())
}

func snapshotCommand() *cobra.Command {
	return group("snapshot", "Snapshots of disks", snapshots.listCommand(), snapshots.showCommand(), snapshots.renameCommand(), snapshotCreateCommand(), snapshotRollbackCommand(),
		snapshotDeleteCommand())
}

// madeDisk waits for a new disk and shows it.
func madeDisk(ctx context.Context, s *session, id string) error {
	o, err := disks.settle(ctx, s, id, diskTransient, "Unbound")
	if err != nil {
		return err
	}
	return s.detail(o, disks.columns)
}

func diskCreateCommand() *cobra.Command {
	var name, set, charge, secret string
	var space int
	var shared bool
	cmd := command("create", "Make one", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		p := Params{"Name": name, "SetType": set, "ChargeType": charge, "DiskSpace": space, "Secret": secret}
		if shared {
			p["ShareAble"] = true
		}
		if set == "" {
			all, err := s.list(ctx, "DescribeStorageType", nil)
			if err != nil {
				return err
			}
			if len(all) == 0 {
				return fmt.Errorf("there is no storage to take by default")
			}
			p["SetType"] = all[0].text("StorageType")
		}
		var answer struct{ DiskID string }
		if _, err := s.Call(ctx, "CreateDisk", p, &answer); err != nil {
			return err
		}
		return madeDisk(ctx, s, answer.DiskID)
	})
	f := cmd.Flags()
	f.StringVar(&name, "name", "disk", "name")
	f.StringVar(&set, "set-type", "", "storage set type; the first one")
	f.StringVar(&charge, "charge", "Dynamic", "Dynamic (by the hour), Month or Year")
	f.IntVar(&space, "space", 20, "GB")
	f.StringVar(&secret, "secret", "", "key in base64: encrypts the disk")
	f.BoolVar(&shared, "shareable", false, "several machines may have it at once")
	return cmd
}

// onVM is a command about a disk and a machine.
func onVM(use, short, action, wanted string, more Params) *cobra.Command {
	cmd := command(use, short, cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		disk, err := disks.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		vm, err := vms.find(ctx, s, args[1])
		if err != nil {
			return err
		}
		p := Params{"DiskID": disk.text("DiskID"), "ResourceID": vm.text("VMID")}
		for k, v := range more {
			p[k] = v
		}
		if _, err := s.Call(ctx, action, p, nil); err != nil {
			return err
		}
		states := []string{wanted}
		if action == "DetachDisk" && disk["ShareAble"] == true {
			states = append(states, "Bound") // others still have it
		}
		if disk, err = disks.settle(ctx, s, disk.text("DiskID"), diskTransient, states...); err != nil {
			return err
		}
		return s.detail(disk, disks.columns)
	})
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return disks.completeAny(cmd)
		case 1:
			return vms.completeAny(cmd)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func diskAttachCommand() *cobra.Command {
	return onVM("attach DISK VM", "Attach to a VM", "AttachDisk", "Bound", Params{"ResourceType": "VM"})
}

func diskDetachCommand() *cobra.Command {
	return onVM("detach DISK VM", "Take from a VM", "DetachDisk", "Unbound", nil)
}

func diskGrowCommand() *cobra.Command {
	var space int
	cmd := disks.on(command("grow DISK --space GB", "Make larger", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		disk, err := disks.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		id := disk.text("DiskID")
		if _, err := s.Call(ctx, "UpgradeDisk", Params{"DiskID": id, "DiskSpace": space}, nil); err != nil {
			return err
		}
		if disk, err = disks.settle(ctx, s, id, diskTransient, "Bound", "Unbound"); err != nil {
			return err
		}
		return s.detail(disk, disks.columns)
	}))
	cmd.Flags().IntVar(&space, "space", 0, "new size in GB")
	cmd.MarkFlagRequired("space")
	return cmd
}

func diskCloneCommand() *cobra.Command {
	var name, charge string
	cmd := disks.on(command("clone DISK", "Copy into a new one", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		disk, err := disks.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var answer struct{ DiskID string }
		if _, err := s.Call(ctx, "CloneDisk", Params{"Name": name, "ChargeType": charge, "SrcID": disk.text("DiskID")}, &answer); err != nil {
			return err
		}
		return madeDisk(ctx, s, answer.DiskID)
	}))
	cmd.Flags().StringVar(&name, "name", "clone", "name of the new one")
	cmd.Flags().StringVar(&charge, "charge", "Dynamic", "Dynamic (by the hour), Month or Year")
	return cmd
}

func diskFromSnapshotCommand() *cobra.Command {
	var name, charge string
	cmd := snapshots.on(command("from-snapshot SNAPSHOT", "Make one as another was", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		snapshot, err := snapshots.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var answer struct{ DiskID string }
		p := Params{"SrcSnapshotID": snapshot.text("SnapshotID"), "Name": name, "ChargeType": charge, "Quantity": 1}
		if _, err := s.Call(ctx, "CreateDiskFromSnapshot", p, &answer); err != nil {
			return err
		}
		return madeDisk(ctx, s, answer.DiskID)
	}))
	cmd.Flags().StringVar(&name, "name", "copy", "name of the new one")
	cmd.Flags().StringVar(&charge, "charge", "Dynamic", "Dynamic (by the hour), Month or Year")
	return cmd
}

func diskLimitCommand() *cobra.Command {
	var iops, bandwidth int
	var cmd *cobra.Command
	cmd = disks.on(command("limit DISK", "Limit what a guest may do with it (administrators)", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		disk, err := disks.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		p := Params{"DiskID": disk.text("DiskID")}
		for flag, of := range map[string]struct {
			name  string
			value int
		}{"iops": {"DiskIOPS", iops}, "bandwidth": {"DiskBandwidth", bandwidth}} {
			if cmd.Flags().Changed(flag) {
				p[of.name] = of.value
			}
		}
		_, err = s.Call(ctx, "UpdateDiskQoS", p, nil)
		return err
	}))
	cmd.Flags().IntVar(&iops, "iops", 0, "reads a second, and as many writes; 0 none")
	cmd.Flags().IntVar(&bandwidth, "bandwidth", 0, "MB/s read, and as much written; 0 none")
	return cmd
}

func diskDeleteCommand() *cobra.Command {
	var destroy bool
	cmd := disks.on(command("delete DISK...", "Move to the recycle bin; its snapshots go for good", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			disk, err := disks.find(ctx, s, ref)
			if err != nil {
				return err
			}
			id := disk.text("DiskID")
			if _, err := s.Call(ctx, "DeleteDisk", Params{"DiskID": id}, nil); err != nil {
				return err
			}
			in, err := awaitBin(ctx, s, &disks, id)
			if err != nil || !destroy || in == nil {
				return err
			}
			return terminate(ctx, s, id)
		})
	}))
	cmd.Flags().BoolVar(&destroy, "destroy", false, "destroy it for good, past the recycle bin")
	return cmd
}

func snapshotCreateCommand() *cobra.Command {
	var name string
	cmd := disks.on(command("create DISK", "Take one", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		disk, err := disks.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var answer struct{ SnapshotID string }
		if _, err := s.Call(ctx, "CreateSnapshot", Params{"DiskID": disk.text("DiskID"), "Name": name}, &answer); err != nil {
			return err
		}
		o, err := snapshots.settle(ctx, s, answer.SnapshotID, snapshotTransient, "Normal")
		if err != nil {
			return err
		}
		return s.detail(o, snapshots.columns)
	}))
	cmd.Flags().StringVar(&name, "name", "snapshot", "name")
	return cmd
}

func snapshotRollbackCommand() *cobra.Command {
	return snapshots.on(command("rollback SNAPSHOT", "Make its disk what it was", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := snapshots.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		id := o.text("SnapshotID")
		if _, err := s.Call(ctx, "RollbackSnapshot", Params{"DiskID": o.text("DiskID"), "SnapshotID": id}, nil); err != nil {
			return err
		}
		disk, err := disks.settle(ctx, s, o.text("DiskID"), diskTransient, "Bound", "Unbound")
		if err != nil {
			return err
		}
		return s.detail(disk, disks.columns)
	}))
}

func snapshotDeleteCommand() *cobra.Command {
	return snapshots.on(command("delete SNAPSHOT...", "Delete for good", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := snapshots.find(ctx, s, ref)
			if err != nil {
				return err
			}
			id := o.text("SnapshotID")
			if _, err := s.Call(ctx, "DeleteSnapshot", Params{"SnapshotID": id}, nil); err != nil {
				return err
			}
			return s.wait(ctx, id, func(ctx context.Context) (string, bool, error) {
				o, err := snapshots.get(ctx, s, id)
				if err != nil {
					return "", false, err
				}
				if o == nil {
					return "done", true, nil
				}
				state := o.text("SnapshotStatus")
				if slices.Contains(snapshotTransient, state) {
					return state, false, nil
				}
				return state, true, failed(id, state, o.text("Reason"))
			})
		})
	}))
}
