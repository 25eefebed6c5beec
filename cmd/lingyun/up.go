package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/guest"
	"github.com/lingyun-cloud/lingyun/internal/host"
	"github.com/lingyun-cloud/lingyun/internal/trial"
)

func init() {
	commands = append(commands, upCommand, installCommand, downCommand, forwardCommand, sshCommand, superviseCommand, holdCommand)
}

// trialDir is where the trial of a machine lives.
const trialDir = "/var/lib/lingyun"

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", trialDir, "directory of the trial's data")
}

func upCommand() *cobra.Command {
	var o trial.Options
	var install bool
	var onMachine machineFlags
	var cache string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a whole cloud on this machine, with a first virtual machine",
		Long: `Starts a whole cloud on this machine: OVN, Open vSwitch, libvirt, the controller and an agent, each in
network namespaces of their own. The machine's own network is not changed; the cloud is reached over
loopback (lingyun forward, lingyun ssh). With --external-interface the cloud is put on the machine itself, on a
real provider network, and other machines may join it (docs/operator.md). Running it again changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			say := progress(cmd)
			if err := onMachine.complete(cmd, &o); err != nil {
				return err
			}
			if err := trial.Check(o.Dir); err != nil {
				return err
			}
			if install {
				if err := trial.Install(cmd.Context(), trial.Packages(), say); err != nil {
					return err
				}
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Binary = self
			_, err = trial.Open(cmd.Context(), o.Dir)
			if errors.Is(err, trial.ErrNotRunning) {
				if err := trial.CheckMachine(o); err != nil {
					return err
				}
			}
			if o.VirtType == "" && errors.Is(err, trial.ErrNotRunning) {
				say("trying whether KVM boots a guest")
				o.VirtType = host.ProbeVirtType(cmd.Context(), slog.New(slog.DiscardHandler))
				if o.VirtType != host.VirtKVM {
					say("it does not (no /dev/kvm, or not one that runs an ordinary kernel): guests are emulated, which is slower")
				}
			}
			return up(cmd, o, cache, say)
		},
	}
	onMachine.add(cmd)
	dirFlag(cmd, &o.Dir)
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8080", "address of the API on this machine's loopback")
	cmd.Flags().IntVar(&o.Hosts, "hosts", 1, "simulated hosts, 1 to 20")
	cmd.Flags().StringVar(&o.Prefix, "name", "lingyun", "prefix of the network namespaces' names")
	cmd.Flags().StringVar(&o.VirtType, "virt-type", "", "kvm or qemu (emulation); found out by booting a guest when not given")
	cmd.Flags().BoolVar(&install, "install", true, "install missing packages from the distribution")
	cmd.Flags().StringVar(&cache, "image-cache", imageCache(), "directory of built images")
	return cmd
}

// machineFlags put the cloud on the machine itself.
type machineFlags struct {
	external, network, gateway, within, management string
	force                                          bool
}

func (f *machineFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.external, "external-interface", "", "`interface` on the provider's network: puts the cloud on this machine itself")
	flags.StringVar(&f.network, "external-network", "", "`CIDR` of the provider's network")
	flags.StringVar(&f.gateway, "external-gateway", "", "`address` of the provider's router")
	flags.StringVar(&f.within, "external-range", "", "`FIRST-LAST`: addresses that the cloud may hand out")
	flags.StringVar(&f.management, "management-address", "", "`address` of this machine for other hosts (default: of the interface with the default route)")
	flags.BoolVar(&f.force, "force", false, "take the interface even when it carries the default route; its addresses move to br-ex")
}

// complete sets the options of the trial, or refuses.
func (f *machineFlags) complete(cmd *cobra.Command, o *trial.Options) error {
	if f.external == "" {
		for _, name := range []string{"external-network", "external-gateway", "external-range", "management-address", "force"} {
			if cmd.Flags().Changed(name) {
				return fmt.Errorf("--%s is for a cloud on the machine itself: name its --external-interface, too", name)
			}
		}
		return nil
	}
	if cmd.Flags().Changed("hosts") {
		return errors.New("--hosts simulates hosts; other machines join with \"lingyun agent join\"")
	}
	m := &trial.Machine{Interface: f.external, Force: f.force}
	var err error
	if f.network != "" {
		if o.Segment, err = netip.ParsePrefix(f.network); err != nil {
			return fmt.Errorf("--external-network: %w", err)
		}
	}
	if f.gateway != "" {
		if m.Gateway, err = netip.ParseAddr(f.gateway); err != nil {
			return fmt.Errorf("--external-gateway: %w", err)
		}
	}
	if f.within != "" {
		if m.First, m.Last, err = addressRange(f.within); err != nil {
			return fmt.Errorf("--external-range: %w", err)
		}
	}
	if f.management == "" {
		m.Management = trial.ManagementAddress()
	} else if m.Management, err = netip.ParseAddr(f.management); err != nil {
		return fmt.Errorf("--management-address: %w", err)
	}
	o.Machine = m
	return nil
}

// installCommand installs what `up` would, and nothing else: for images of machines, and for the tests.
func installCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install [PACKAGE...]",
		Short: "Install the distribution's packages that a cloud needs, without starting their services",
		RunE: func(cmd *cobra.Command, args []string) error {
			if os.Getuid() != 0 {
				return errors.New("installing packages needs root: run it with sudo")
			}
			return trial.Install(cmd.Context(), append(trial.Packages(), args...), progress(cmd))
		},
	}
}

// progress prints lines with the time since the start.
func progress(cmd *cobra.Command) func(string) {
	began := time.Now()
	return func(line string) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%5.1f s  %s\n", time.Since(began).Seconds(), line)
	}
}

func up(cmd *cobra.Command, o trial.Options, cache string, say func(string)) error {
	ctx := cmd.Context()
	image, err := guest.Build(ctx, "tiny", guest.Options{Cache: cache, Log: lineWriter(say)})
	if err != nil {
		return err
	}
	t, fresh, err := trial.Start(ctx, o, say)
	if err != nil {
		return fmt.Errorf("%w\nlogs are in %s; \"lingyun down\" removes what was started", err, filepath.Join(o.Dir, "trial", "log"))
	}
	id, err := t.ImportImage(ctx, image.Name, image)
	if err != nil {
		return err
	}
	first, err := t.FirstVM(ctx, id, say)
	if err != nil {
		return err
	}
	if fresh {
		say("ready")
	} else {
		say("it is running already, nothing was changed")
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "\nAPI:                 http://%s/api\n", t.Options.Listen)
	fmt.Fprintf(out, "Administrator:       %s\n", filepath.Join(t.Options.Dir, "admin.json"))
	fmt.Fprintf(out, "Demo tenant:         %s\n", filepath.Join(t.Options.Dir, "demo.json"))
	if first.VMID != "" {
		fmt.Fprintf(out, "First machine:       %s, password in %s\n", first.VMID, filepath.Join(t.Options.Dir, "first-vm.json"))
	}
	if first.URL != "" {
		fmt.Fprintf(out, "Its page:            %s  (%s outside the cloud)\n", first.URL, first.IP)
	}
	self := os.Args[0]
	fmt.Fprintf(out, "\nNext:\n  %s vm list\n", self)
	if first.URL != "" {
		fmt.Fprintf(out, "  %s ssh %s\n  %s forward %s:80\n", self, first.VMID, self, first.IP)
	} else {
		fmt.Fprintf(out, "  %s vm create --help\n  %s eip --help\n", self, self)
	}
	return nil
}

// lineWriter hands every line written to say.
type lineWriter func(string)

func (w lineWriter) Write(p []byte) (int, error) {
	for _, line := range strings.Split(strings.TrimRight(string(p), "\n"), "\n") {
		w(line)
	}
	return len(p), nil
}

func downCommand() *cobra.Command {
	var dir string
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the cloud on this machine; nothing of it is left but its data",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getuid() != 0 {
				return errors.New("this needs root: run it with sudo")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Minute)
			defer cancel()
			if err := trial.Stop(ctx, dir, purge); err != nil {
				return err
			}
			if purge {
				fmt.Fprintln(cmd.OutOrStdout(), "The cloud is down and its data is deleted.")
			} else {
				fmt.Fprintf(cmd.OutOrStdout(), "The cloud is down. Its data is in %s; \"lingyun down --purge\" deletes it.\n", dir)
			}
			return nil
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&purge, "purge", false, "delete the data too")
	return cmd
}

func openTrial(ctx context.Context, dir string) (*trial.Trial, error) {
	t, err := trial.Open(ctx, dir)
	switch {
	case errors.Is(err, trial.ErrNotRunning):
		return nil, fmt.Errorf("no cloud is running in %s: start it with \"lingyun up\"", dir)
	case errors.Is(err, os.ErrPermission):
		return nil, errors.New("this enters the trial's network and needs root: run it with sudo")
	}
	return t, err
}

func forwardCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "forward EIP:PORT [LOCAL]",
		Short: "Reach a public address of the trial over loopback, until it is interrupted",
		Example: "  lingyun forward 203.0.113.20:80          # any free port\n" +
			"  lingyun forward 203.0.113.20:22 2222",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := netip.ParseAddrPort(args[0]); err != nil {
				return fmt.Errorf("%q is not an address and a port, like 203.0.113.20:80", args[0])
			}
			local := "127.0.0.1:0"
			if len(args) == 2 {
				local = args[1]
				if _, err := strconv.ParseUint(local, 10, 16); err == nil {
					local = net.JoinHostPort("127.0.0.1", local)
				}
				if a, err := netip.ParseAddrPort(local); err != nil || !a.Addr().IsLoopback() {
					return fmt.Errorf("%q is neither a port nor a loopback address and a port", args[1])
				}
			}
			t, err := openTrial(cmd.Context(), dir)
			if err != nil {
				return err
			}
			listener, err := net.Listen("tcp", local)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s -> %s\n", listener.Addr(), args[0])
			return trial.Forward(cmd.Context(), listener, t.Outside(), args[0])
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

func sshCommand() *cobra.Command {
	var dir, user string
	cmd := &cobra.Command{
		Use:   "ssh VM [COMMAND...]",
		Short: "Log in to a virtual machine of the trial, by id or name, over its public address",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := openTrial(cmd.Context(), dir)
			if err != nil {
				return err
			}
			client, err := t.Options.Demo()
			if err != nil {
				return err
			}
			ip, err := publicAddress(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer listener.Close()
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			go func() { _ = trial.Forward(ctx, listener, t.Outside(), net.JoinHostPort(ip, "22")) }()
			_, port, err := net.SplitHostPort(listener.Addr().String())
			if err != nil {
				return err
			}
			// The address is new with every call: the guest's key is kept under the machine's name instead.
			ssh := exec.CommandContext(ctx, "ssh", append([]string{"-p", port, "-l", user, "-o", "HostKeyAlias=" + args[0] + ".lingyun",
				"-o", "StrictHostKeyChecking=accept-new", "127.0.0.1", "--"}, args[1:]...)...)
			ssh.Stdin, ssh.Stdout, ssh.Stderr = os.Stdin, os.Stdout, os.Stderr
			err = ssh.Run()
			var ended *exec.ExitError
			if errors.As(err, &ended) {
				return &exitError{Status: ended.ExitCode()}
			}
			return err
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVarP(&user, "user", "l", "root", "account in the guest")
	dirFlag(cmd, &dir)
	return cmd
}

// publicAddress finds the default EIP of a virtual machine, by id or name.
func publicAddress(ctx context.Context, client *cli.Client, vm string) (string, error) {
	var machines struct{ Infos []struct{ VMID, Name string } }
	if _, err := client.Call(ctx, "DescribeVMInstance", cli.Params{"Keyword": vm, "Limit": 100}, &machines); err != nil {
		return "", err
	}
	var id string
	for _, m := range machines.Infos {
		if m.VMID == vm || m.Name == vm {
			if id != "" {
				return "", fmt.Errorf("several virtual machines are called %q: use the id", vm)
			}
			id = m.VMID
		}
	}
	if id == "" {
		return "", fmt.Errorf("there is no virtual machine %q", vm)
	}
	var eips struct {
		Infos []struct {
			IP          string
			ISDefaultGW int
		}
	}
	if _, err := client.Call(ctx, "DescribeEIP", cli.Params{"BindResourceID": id}, &eips); err != nil {
		return "", err
	}
	if len(eips.Infos) == 0 {
		return "", fmt.Errorf("%s has no public address: give it one with \"lingyun eip allocate\" and \"lingyun eip bind\"", vm)
	}
	for _, e := range eips.Infos {
		if e.ISDefaultGW == 1 {
			return e.IP, nil
		}
	}
	return eips.Infos[0].IP, nil
}

// superviseCommand is what `lingyun up` leaves running.
func superviseCommand() *cobra.Command {
	return &cobra.Command{
		Use:    trial.SuperviseCommand + " OPTIONS",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var o trial.Options
			if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
				return err
			}
			return trial.Supervise(cmd.Context(), o)
		},
	}
}

func holdCommand() *cobra.Command {
	return &cobra.Command{
		Use:    trial.HoldCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return trial.Hold(os.Stdin, os.Stdout) },
	}
}
