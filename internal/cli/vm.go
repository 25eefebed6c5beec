package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

var vms = kind{
	name: "VM", describe: "DescribeVMInstance", ids: "VMIDs", id: "VMID", state: "State", prefix: "vm-",
	columns: []column{
		plain("ID", "VMID"), plain("Name", "Name"), plain("State", "State"),
		{"CPU", func(o object) string { return o.text("CPU") }},
		{"Memory", func(o object) string { return o.text("Memory") + " MiB" }},
		{"Inner IP", func(o object) string { return strings.Join(addresses(o, "Private"), " ") }},
		{"EIP", func(o object) string { return strings.Join(addresses(o, "Public"), " ") }},
		plain("Image", "ImageID"), when("Created", "CreateTime"), plain("Reason", "Reason"),
	},
}

// vmTransient are the states that pass by themselves (conventions 6).
var vmTransient = []string{"Initializing", "Starting", "Restarting", "Stopping", "Poweroffing", "Resizing", "Migrating", "WaitReinstall", "Reinstalling", "ChangeSGing", "Imaging", "Readdressing"}

// addresses of a VM by type: Private or Public.
func addresses(vm object, typ string) []string {
	var out []string
	for _, ip := range vm.list("IPInfos") {
		if ip.text("Type") == typ {
			out = append(out, ip.text("IP"))
		}
	}
	return out
}

func vmCommand() *cobra.Command {
	verb := func(use, short, name, state string) *cobra.Command {
		return vms.on(command(use+" VM...", short, cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
			return each(args, func(ref string) error {
				vm, err := vms.find(ctx, s, ref)
				if err != nil {
					return err
				}
				id := vm.text("VMID")
				if _, err := s.Call(ctx, name, Params{"VMID": id}, nil); err != nil {
					return err
				}
				if vm, err = vms.settle(ctx, s, id, vmTransient, state); err != nil {
					return err
				}
				return s.detail(vm, vms.columns[:3])
			})
		}))
	}
	return group("vm", "Virtual machines", append(vmMoreCommands(),
		vms.listCommand(), vms.showCommand(), vmCreateCommand(),
		verb("start", "Start", "StartVMInstance", "Running"),
		verb("stop", "Shut down, as the guest's own power button does", "StopVMInstance", "Stopped"),
		verb("restart", "Restart", "RestartVMInstance", "Running"),
		verb("poweroff", "Cut the power", "PoweroffVMInstance", "Stopped"),
		vmDeleteCommand(), vmSSHInfoCommand())...)
}

// vmOptions are the flags of `vm create`.
type vmOptions struct {
	image, vmType, diskType, vpc, subnet, wanSG, lanSG string
	cpu, memory, disk, data, bandwidth                 int
	segment, ip, password, charge, hostname, userData  string
	remark                                             string
	passwordStdin, mountData                           bool
	bootDisk, useDisk, mac, dns                        string
	keys                                               []string
}

func vmCreateCommand() *cobra.Command {
	var o vmOptions
	cmd := command("create NAME", "Create and start one; what is not named is chosen: the first image, type, VPC and group", cobra.ExactArgs(1),
		func(ctx context.Context, s *session, args []string) error { return createVM(ctx, s, args[0], o) })
	f := cmd.Flags()
	f.StringVar(&o.image, "image", "", "image id or name")
	f.IntVar(&o.cpu, "cpu", 1, "virtual CPUs")
	f.IntVar(&o.memory, "memory", 1024, "memory in MiB")
	f.IntVar(&o.disk, "disk", 40, "system disk in GB")
	f.IntVar(&o.data, "data-disk", 0, "data disk in GB, 0 for none")
	f.BoolVar(&o.mountData, "mount-data", false, "the guest formats the data disk and has it at /data")
	f.StringVar(&o.vmType, "type", "", "compute set type")
	f.StringVar(&o.diskType, "disk-type", "", "storage set type")
	f.StringVar(&o.vpc, "vpc", "", "VPC id or name")
	f.StringVar(&o.subnet, "subnet", "", "subnet id or name")
	f.StringVar(&o.wanSG, "wan-sg", "", "outer security group, id or name")
	f.StringVar(&o.lanSG, "lan-sg", "", "inner security group, id or name")
	f.StringVar(&o.ip, "ip", "", "inner address")
	f.IntVar(&o.bandwidth, "eip", 0, "bind a new EIP of this bandwidth in Mbps, 0 for none")
	f.StringVar(&o.segment, "segment", "Bgp", "external segment of the EIP")
	f.StringVar(&o.password, "password", "", "password of the login user; made up and shown when left out, none with --key")
	f.StringSliceVar(&o.keys, "key", nil, "key pairs put into the guest, ids or names")
	f.BoolVar(&o.passwordStdin, "password-stdin", false, "read the password from standard input")
	f.StringVar(&o.charge, "charge", "Dynamic", "Dynamic (by the hour), Month or Year")
	f.StringVar(&o.hostname, "hostname", "", "host name of the guest")
	f.StringVar(&o.dns, "dns", "", "up to 2 DNS servers, comma separated")
	f.StringVar(&o.userData, "user-data", "", "file with cloud-init data")
	f.StringVar(&o.remark, "remark", "", "free text")
	f.StringVar(&o.bootDisk, "boot-disk", "", "start from this unattached disk with a system, id or name; the image says what that can")
	f.StringVar(&o.useDisk, "use-disk", "", "attach this unattached disk, id or name")
	f.StringVar(&o.mac, "mac", "", "hardware address of the inner interface")
	images.flag(cmd, "image")
	disks.flag(cmd, "boot-disk", "use-disk")
	keyPairs.flag(cmd, "key")
	vpcs.flag(cmd, "vpc")
	subnets.flag(cmd, "subnet")
	groups.flag(cmd, "wan-sg", "lan-sg")
	return cmd
}

// choose returns the id of the resource named, or of the first one.
func choose(ctx context.Context, s *session, k *kind, ref string, p Params) (string, error) {
	var o object
	var err error
	if ref != "" {
		o, err = k.find(ctx, s, ref)
	} else {
		o, err = k.first(ctx, s, p)
	}
	if err != nil {
		return "", err
	}
	return o.text(k.id), nil
}

// existingDisks fills in disks that are there: one that the machine starts from, of the image's system, and another.
func existingDisks(ctx context.Context, s *session, o vmOptions, p Params) error {
	if o.mac != "" {
		p["LANMAC"] = o.mac
	}
	if o.useDisk != "" {
		d, err := disks.find(ctx, s, o.useDisk)
		if err != nil {
			return err
		}
		p["DataDiskID"] = d.text("DiskID")
	}
	if o.bootDisk == "" {
		return nil
	}
	d, err := disks.find(ctx, s, o.bootDisk)
	if err != nil {
		return err
	}
	i, err := images.find(ctx, s, fmt.Sprint(p["ImageID"]))
	if err != nil {
		return err
	}
	name, version := i.text("OSName"), i.text("OSVersion")
	if version == "" {
		version = name[strings.LastIndex(name, " ")+1:]
	}
	delete(p, "BootDiskSpace")
	p["BootSourceType"], p["BootDiskID"], p["OSName"], p["OSVersion"], p["OSType"] = "Disk", d.text("DiskID"), name, version, i.text("OSType")
	return nil
}

func createVM(ctx context.Context, s *session, name string, o vmOptions) error {
	p := Params{"Name": name, "CPU": o.cpu, "Memory": o.memory, "BootDiskSpace": o.disk, "ChargeType": o.charge,
		"InternalIP": o.ip, "Hostname": o.hostname, "DNS": o.dns, "Remark": o.remark}
	for _, c := range []struct {
		param string
		kind  *kind
		ref   string
	}{
		{"ImageID", &images, o.image}, {"VMType", &vmTypes, o.vmType}, {"BootDiskSetType", &diskTypes, o.diskType},
		{"VPCID", &vpcs, o.vpc}, {"SubnetID", &subnets, o.subnet}, {"WANSGID", &groups, o.wanSG}, {"LANSGID", &groups, o.lanSG},
	} {
		if c.param == "LANSGID" && c.ref == "" {
			continue
		}
		q := Params{}
		if c.param == "SubnetID" {
			q["VPCID"] = p["VPCID"]
		}
		id, err := choose(ctx, s, c.kind, c.ref, q)
		if err != nil {
			return err
		}
		p[c.param] = id
	}
	if err := existingDisks(ctx, s, o, p); err != nil {
		return err
	}
	if o.data > 0 {
		p["DataDiskSpace"], p["DataDiskSetType"] = o.data, p["BootDiskSetType"]
	}
	if o.mountData {
		p["MountDataDisk"] = true
	}
	if o.bandwidth > 0 {
		p["Bandwidth"], p["OperatorName"] = o.bandwidth, o.segment
	}
	if o.userData != "" {
		raw, err := os.ReadFile(o.userData)
		if err != nil {
			return err
		}
		p["UserData"] = base64.StdEncoding.EncodeToString(raw)
	}
	keys := make([]string, len(o.keys))
	for i, ref := range o.keys {
		k, err := keyPairs.find(ctx, s, ref)
		if err != nil {
			return err
		}
		keys[i] = k.text("KeyPairID")
	}
	p["KeyPairIDs"] = keys
	switch {
	case o.passwordStdin:
		raw, err := io.ReadAll(io.LimitReader(os.Stdin, 1024))
		if err != nil {
			return err
		}
		o.password = strings.TrimRight(string(raw), "\r\n")
	case o.password == "" && len(keys) == 0:
		o.password = newPassword()
		fmt.Fprintln(s.err, "password:", o.password)
	}
	p["Password"] = o.password

	var made struct{ VMID string }
	if _, err := s.Call(ctx, "CreateVMInstance", p, &made); err != nil {
		return err
	}
	vm, err := vms.settle(ctx, s, made.VMID, vmTransient, "Running")
	if err != nil {
		return err
	}
	return s.detail(vm, vms.columns)
}

// newPassword has 16 characters of all classes that guests ask for and none that look alike.
func newPassword() string {
	const letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	for {
		var b strings.Builder
		for range 15 {
			n, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
			if err != nil {
				panic(err) // the system has no randomness: nothing may go on
			}
			b.WriteByte(letters[n.Int64()])
		}
		if s := b.String(); strings.ContainsAny(s, "23456789") && strings.ToLower(s) != s && strings.ToUpper(s) != s {
			return s + "-"
		}
	}
}

func vmDeleteCommand() *cobra.Command {
	var destroy bool
	cmd := vms.on(command("delete VM...", "Move to the recycle bin", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			vm, err := vms.find(ctx, s, ref)
			if err != nil {
				return err
			}
			id := vm.text("VMID")
			if _, err := s.Call(ctx, "DeleteVMInstance", Params{"VMID": id}, nil); err != nil {
				return err
			}
			binned, err := awaitBin(ctx, s, &vms, id)
			if err != nil || !destroy || binned == nil {
				return err
			}
			return terminate(ctx, s, id)
		})
	}))
	cmd.Flags().BoolVar(&destroy, "destroy", false, "destroy it for good, past the recycle bin")
	return cmd
}

func vmSSHInfoCommand() *cobra.Command {
	return vms.on(command("ssh-info VM", "Show how to log in", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		user := vm.text("LoginUser")
		if user == "" {
			user = "root"
		}
		info := object{"VMID": vm.text("VMID"), "Name": vm.text("Name"), "State": vm.text("State"), "User": user, "Port": float64(22),
			"InnerAddresses": addresses(vm, "Private"), "Addresses": addresses(vm, "Public")}
		if s.output == "json" {
			return s.json(info)
		}
		public := addresses(vm, "Public")
		switch {
		case vm.text("State") != "Running":
			fmt.Fprintf(s.err, "%s is %s\n", vm.text("VMID"), vm.text("State"))
		case len(public) == 0:
			fmt.Fprintf(s.err, "%s has no EIP: `lingyun eip allocate` one and `lingyun eip bind` it; its security group must open port 22\n", vm.text("VMID"))
		}
		for _, ip := range public {
			fmt.Fprintf(s.out, "ssh %s@%s\n", user, ip)
		}
		if len(public) > 0 {
			fmt.Fprintf(s.err, "In the trial on this machine the address is reached by: lingyun ssh %s\n", vm.text("VMID"))
		}
		return nil
	}))
}
