package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/host"
)

func init() { commands = append(commands, agentCommand) }

// defaultAgentPort is where an agent listens unless told otherwise.
const defaultAgentPort = "8444"

func agentCommand() *cobra.Command {
	var dir, listen, virtType string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run virtual machines on this machine as the controller says",
		Long: `Runs the host agent: it serves the controller over mutual TLS and drives
libvirt, volumes and Open vSwitch on this machine. The machine must have joined
a cloud before (lingyun agent join). Guests run on when the agent ends.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			dir, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			agent, err := host.ReadAgent(dir)
			if err != nil {
				return err
			}
			keeper, err := host.OpenKeeper(dir)
			if err != nil {
				return err
			}
			if listen == "" {
				listen = agent.Address
			}
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			defer listener.Close()
			address, _, err := net.SplitHostPort(agent.Address)
			if err != nil {
				return err
			}
			if virtType == "" {
				virtType = agent.VirtType
			}
			if err := host.ConfigureChassis(ctx, agent.Chassis(dir)); err != nil {
				// Open vSwitch may start later; what it was told at joining is in its database.
				slog.Warn("Open vSwitch was not told of OVN", "error", err)
			}
			h, err := host.New(host.Config{
				Dir: dir, HostID: agent.HostID, ManagementIP: address, VirtType: virtType,
				Version: version(), Keeper: keeper,
			})
			if err != nil {
				return err
			}
			defer h.Close()
			slog.Info("agent serves", "host", agent.HostID, "address", listener.Addr().String(), "virt", h.VirtType())
			return h.Serve(ctx, listener)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "/var/lib/lingyun/agent", "data `directory`; volumes are in it")
	cmd.Flags().StringVar(&listen, "listen", "", "`address` and port to serve on; as joined with when not given")
	cmd.Flags().StringVar(&virtType, "virt-type", "", "kvm or qemu; found out by booting a guest when not given")
	cmd.AddCommand(agentJoinCommand())
	return cmd
}

func agentJoinCommand() *cobra.Command {
	var o host.JoinOptions
	var listen string
	var networks []string
	cmd := &cobra.Command{
		Use:   "join TOKEN --controller https://ADDRESS",
		Short: "Make this machine a host of a cloud",
		Long: `Makes this machine a host: it makes a key, has the controller sign its
certificate, and tells Open vSwitch where OVN is. The token comes from the
controller ("lingyun host token"), is good once and for an hour, and carries the fingerprint of the
cloud's authority, so that the controller is known from the first contact on.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && o.Token == "":
				o.Token = args[0]
			case len(args) == 1 || o.Token == "":
				return errors.New("give one token")
			}
			var err error
			if o.Address, err = agentAddress(listen, o.Controller); err != nil {
				return err
			}
			if o.Networks, err = bridgeMappings(networks); err != nil {
				return err
			}
			agent, err := host.Join(cmd.Context(), o)
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(o.Dir)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "This machine is host %s of region %s.\n", agent.HostID, agent.Region)
			if err := host.ConfigureChassis(cmd.Context(), agent.Chassis(dir)); err != nil {
				return fmt.Errorf("joined, but Open vSwitch was not told of OVN (the agent tries again): %w", err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Token, "token", "", "the `token`, when it is not an argument")
	f.StringVar(&o.Dir, "data", "/var/lib/lingyun/agent", "data `directory` of the agent")
	f.StringVar(&o.Controller, "controller", "", "the controller's `address`: https://ADDRESS:PORT (http on loopback only)")
	f.StringVar(&listen, "listen", "", "`address` and port where controllers reach this agent; the address that leads to the controller, port "+defaultAgentPort+", when not given")
	f.StringVar(&o.Name, "name", "", "`name` of the host; the machine's host name when not given")
	f.StringVar(&o.EncapIP, "overlay-ip", "", "`address` of this machine in the network between hosts (Geneve)")
	f.StringVar(&o.Datapath, "datapath", "", "Open vSwitch's datapath, system (kernel) or netdev: makes the bridges that are missing")
	f.StringArrayVar(&networks, "network", nil, "`NETWORK:BRIDGE` of a provider network that this machine is on; may be repeated")
	f.StringVar(&o.VirtType, "virt-type", "", "kvm or qemu; found out by booting a guest when not given")
	_ = cmd.MarkFlagRequired("controller") // fails for unknown flags only
	return cmd
}

// agentAddress is where controllers reach this agent.
func agentAddress(listen, controller string) (string, error) {
	if listen != "" {
		address, port, err := net.SplitHostPort(listen)
		if err != nil {
			return "", fmt.Errorf("--listen: %w", err)
		}
		if ip := net.ParseIP(address); address == "" || ip != nil && ip.IsUnspecified() {
			return "", errors.New("--listen: name the address that controllers reach")
		}
		return net.JoinHostPort(address, port), nil
	}
	// No packet is sent: the kernel only picks the route.
	target := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(controller, "https://"), "http://"), "/")
	if _, _, err := net.SplitHostPort(target); err != nil {
		target = net.JoinHostPort(strings.Trim(target, "[]"), "443")
	}
	c, err := net.Dial("udp", target)
	if err != nil {
		return "", fmt.Errorf("no address leads to the controller; name one with --listen: %w", err)
	}
	defer c.Close()
	address, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(address, defaultAgentPort), nil
}

func bridgeMappings(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, m := range list {
		network, bridge, ok := strings.Cut(m, ":")
		if !ok {
			return nil, fmt.Errorf("--network %q is not NETWORK:BRIDGE", m)
		}
		out[network] = bridge
	}
	return out, nil
}

// version of this binary: the module's, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return info.Main.Version
}
