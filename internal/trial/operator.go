package trial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	hostagent "github.com/lingyun-cloud/lingyun/internal/host"
)

// Machine says how the cloud is put on the machine itself, without namespaces,
// on a real provider network (Options.Segment is its CIDR).
type Machine struct {
	// Interface is the machine's end of the provider network. It becomes a port of br-ex.
	Interface string
	// Force takes an interface that carries the default route.
	Force bool
	// Gateway is the provider's router; First and Last bound the addresses that the cloud may hand out.
	Gateway, First, Last netip.Addr
	// Management is the machine's address for hosts that join and for tunnels.
	Management netip.Addr
}

const (
	providerBridge    = "br-ex"
	integrationBridge = "br-int"
	// ourMark in a bridge's external_ids says which directory's cloud made it.
	ourMark = "lingyun"
	// apiLimit is how long the API may take to answer after the interface's
	// addresses were moved; then they are put back.
	apiLimit = 30 * time.Second
)

// check refuses what does not fit together.
func (m Machine) check(segment netip.Prefix) error {
	switch {
	case !segment.IsValid() || !m.Gateway.IsValid() || !m.First.IsValid() || !m.Last.IsValid():
		return errors.New("tell what the provider gave you: --external-network CIDR, --external-gateway ROUTER and --external-range FIRST-LAST (the addresses that the cloud may hand out)")
	case !segment.Contains(m.Gateway):
		return fmt.Errorf("the gateway %s is outside %s", m.Gateway, segment)
	case !segment.Contains(m.First) || !segment.Contains(m.Last) || m.Last.Less(m.First):
		return fmt.Errorf("%s-%s is no range of addresses in %s", m.First, m.Last, segment)
	case !m.Management.Is4() || m.Management.IsLoopback() || m.Management.IsUnspecified():
		return errors.New("no management address is known: name this machine's address for other hosts with --management-address")
	}
	return nil
}

// ManagementAddress is the address of the interface with the default route; invalid without one.
func ManagementAddress() netip.Addr {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}
	}
	for _, r := range routes {
		if !isDefault(r) {
			continue
		}
		if a, ok := netip.AddrFromSlice(r.Src.To4()); ok {
			return a
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			continue
		}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err == nil && len(addresses) > 0 {
			a, _ := netip.AddrFromSlice(addresses[0].IP.To4())
			return a
		}
	}
	return netip.Addr{}
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// checkInterface refuses an interface that must not be taken.
func checkInterface(name string, force bool) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("there is no interface %q (ip link lists them)", name)
	}
	if link.Attrs().Flags&net.FlagLoopback != 0 {
		return nil, fmt.Errorf("%s is the loopback interface: name the one that the provider's network is plugged into", name)
	}
	if master := link.Attrs().MasterIndex; master != 0 {
		return nil, fmt.Errorf("%s is a port of another bridge or bond already", name)
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if isDefault(r) && !force {
			return nil, fmt.Errorf("%s carries the default route: taking it may cut you off. With --force its addresses and routes move to %s, and come back when the API does not answer within %s", name, providerBridge, apiLimit)
		}
	}
	return link, nil
}

// CheckMachine refuses options of a cloud on the machine itself that cannot work, before anything is changed.
func CheckMachine(o Options) error {
	if o.Machine == nil {
		return nil
	}
	if err := o.Machine.check(o.Segment); err != nil {
		return err
	}
	_, err := checkInterface(o.Machine.Interface, o.Machine.Force)
	return err
}

// taken is what was changed of the machine, and how it was.
type taken struct {
	Machine   Machine
	WasUp     bool
	Promisc   bool            // it was
	Addresses []string        // of the interface, as ip shows them
	Routes    []netlink.Route // those that the kernel did not make itself
	Moved     bool
	Bridges   bool     // ours were made
	OwnSwitch bool     // Open vSwitch was started by us
	Datapath  string   // system or netdev
	Units     []string // systemd's, that we started
	AgentDir  string
}

// units of the distribution, in the order of their start.
var units = []string{"openvswitch-switch", "ovn-central", "ovn-host", "libvirtd"}

func systemd() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// ProbeDatapath is system when the kernel's Open vSwitch works, else netdev.
func ProbeDatapath(ctx context.Context) string {
	works := func() bool { _, err := netlink.GenlFamilyGet("ovs_datapath"); return err == nil }
	if works() || exec.CommandContext(ctx, "modprobe", "-q", "openvswitch").Run() == nil && works() {
		return hostagent.DatapathSystem
	}
	return hostagent.DatapathNetdev
}

// answers tells whether somebody listens on a unix socket.
func answers(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func (s *supervisor) vsctl(ctx context.Context, args ...string) (string, error) {
	out, err := s.exec(ctx, place{}, append([]string{"ovs-vsctl", "--timeout=20"}, args...)...)
	return strings.TrimSpace(out), err
}

// buildOnMachine starts everything on the machine itself.
func (s *supervisor) buildOnMachine(ctx context.Context) error {
	m := *s.o.Machine
	link, err := checkInterface(m.Interface, m.Force)
	if err != nil {
		return err
	}
	t := &taken{Machine: m, WasUp: link.Attrs().Flags&net.FlagUp != 0, Promisc: link.Attrs().Promisc != 0, AgentDir: host0(s.o).agentDir()}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if a.Scope != int(netlink.SCOPE_LINK) {
			t.Addresses = append(t.Addresses, a.IPNet.String())
		}
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Protocol != unix.RTPROT_KERNEL {
			t.Routes = append(t.Routes, r)
		}
	}
	t.Datapath = ProbeDatapath(ctx)
	t.OwnSwitch = !answers("/run/openvswitch/db.sock")
	s.state.Taken = t
	if err := s.state.write(s.o); err != nil {
		return err
	}
	s.say("starting Open vSwitch (datapath %s), OVN and libvirt on the machine itself", t.Datapath)
	if systemd() {
		err = s.startUnits(ctx, t)
	} else {
		err = s.startEngines(ctx, t)
	}
	if err != nil {
		return err
	}
	s.say("%s becomes a port of %s", m.Interface, providerBridge)
	if err := s.takeInterface(ctx); err != nil {
		return errors.Join(err, giveBack(t))
	}
	if s.o.EnginesOnly {
		return nil
	}
	startCtx, cancel := ctx, context.CancelFunc(func() {})
	if t.Moved {
		startCtx, cancel = context.WithTimeout(ctx, apiLimit)
	}
	s.say("starting the controller on http://%s", s.o.Listen)
	err = s.startController(startCtx)
	cancel()
	if err != nil {
		if t.Moved {
			return errors.Join(fmt.Errorf("the API did not answer; the addresses are back on %s: %w", m.Interface, err), s.leaveMachine(context.WithoutCancel(ctx)))
		}
		return err
	}
	if err := s.openSouthbound(ctx); err != nil {
		return err
	}
	if err := s.join(ctx, host0(s.o)); err != nil {
		return err
	}
	return s.startAll(ctx, []*daemon{host0(s.o).agent()})
}

// host0 is the machine itself as a host.
func host0(o Options) host { return host{o, 1} }

// startUnits adopts the distribution's units, and starts and remembers those that do not run.
func (s *supervisor) startUnits(ctx context.Context, t *taken) error {
	for _, unit := range units {
		if _, err := s.exec(ctx, place{}, "systemctl", "is-active", "--quiet", unit); err == nil {
			continue
		}
		// Remembered first: whatever happens next, it is stopped again.
		t.Units = append(t.Units, unit)
		if err := s.state.write(s.o); err != nil {
			return err
		}
		if _, err := s.exec(ctx, place{}, "systemctl", "start", unit); err != nil {
			return err
		}
	}
	return until(ctx, 30*time.Second, func() error { return s.makeBridges(ctx) })
}

// startEngines starts the programs ourselves, where there is no systemd; those that answer are adopted.
func (s *supervisor) startEngines(ctx context.Context, t *taken) error {
	for _, dir := range []string{"/run/openvswitch", "/run/ovn", "/run/libvirt", "/run/lock", "/var/log/openvswitch", "/var/log/ovn"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := s.startAll(ctx, s.o.central()); err != nil {
		return err
	}
	h := host0(s.o)
	for _, d := range h.daemons() {
		switch {
		case strings.HasSuffix(d.name, "/ovsdb-server"):
			database := h.dir("openvswitch", "conf.db")
			d.argv[len(d.argv)-1] = database
			d.before = func(ctx context.Context, s *supervisor) error {
				return makeDatabase(ctx, s, database, "/usr/share/openvswitch/vswitch.ovsschema")
			}
			if !t.OwnSwitch {
				continue
			}
		case strings.HasSuffix(d.name, "/ovs-vswitchd"):
			d.ready = func(ctx context.Context, s *supervisor) error { return s.afterOwnVSwitchd(ctx) }
			if !t.OwnSwitch {
				if err := s.makeBridges(ctx); err != nil {
					return err
				}
				continue
			}
		case strings.HasSuffix(d.name, "/virtlogd") && answers("/run/libvirt/virtlogd-sock"),
			strings.HasSuffix(d.name, "/libvirtd") && answers("/run/libvirt/libvirt-sock"):
			continue
		}
		if err := s.startAll(ctx, []*daemon{d}); err != nil {
			return err
		}
	}
	return nil
}

// afterOwnVSwitchd sets up what a restart of the userspace datapath loses: its bridges' devices.
func (s *supervisor) afterOwnVSwitchd(ctx context.Context) error {
	if err := s.makeBridges(ctx); err != nil {
		return err
	}
	if s.state.Taken.Moved {
		return s.moveAddresses()
	}
	return nil
}

// makeBridges makes br-int and br-ex, unless bridges of these names are there and not ours.
func (s *supervisor) makeBridges(ctx context.Context) error {
	t := s.state.Taken
	for _, bridge := range []string{integrationBridge, providerBridge} {
		if _, err := s.vsctl(ctx, "br-exists", bridge); err == nil {
			mark, err := s.vsctl(ctx, "br-get-external-id", bridge, ourMark)
			if err != nil {
				return err
			}
			if mark != s.o.Dir {
				return fmt.Errorf("the machine has a bridge %s that this cloud did not make: remove it (ovs-vsctl del-br %s) or use another machine", bridge, bridge)
			}
			continue
		}
		t.Bridges = true
		if err := s.state.write(s.o); err != nil {
			return err
		}
		if _, err := s.vsctl(ctx, "--", "add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type="+t.Datapath,
			"--", "br-set-external-id", bridge, ourMark, s.o.Dir); err != nil {
			return err
		}
	}
	t.Bridges = true
	if err := s.state.write(s.o); err != nil {
		return err
	}
	if _, err := s.vsctl(ctx, "set", "Bridge", integrationBridge, "fail_mode=secure"); err != nil {
		return err
	}
	link, err := netlink.LinkByName(providerBridge)
	if err != nil {
		return err
	}
	if t.Datapath == hostagent.DatapathNetdev {
		// Nobody completes checksums in the userspace datapath.
		if err := checksumInSoftware(providerBridge); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// takeInterface plugs the interface into br-ex and moves what it carries there.
func (s *supervisor) takeInterface(ctx context.Context) error {
	t := s.state.Taken
	if len(t.Addresses) > 0 {
		t.Moved = true
		if err := s.state.write(s.o); err != nil {
			return err
		}
	}
	if _, err := s.vsctl(ctx, "--may-exist", "add-port", providerBridge, t.Machine.Interface); err != nil {
		return err
	}
	link, err := netlink.LinkByName(t.Machine.Interface)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if t.Moved {
		return s.moveAddresses()
	}
	return nil
}

func (s *supervisor) moveAddresses() error {
	t := s.state.Taken
	return t.carry(t.Machine.Interface, providerBridge)
}

// carry moves the addresses and routes from one interface to the other. What is there already stays.
func (t *taken) carry(from, to string) error {
	target, err := netlink.LinkByName(to)
	if err != nil {
		return err
	}
	source, _ := netlink.LinkByName(from) // a bridge may be gone
	for _, text := range t.Addresses {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if source != nil {
			if err := netlink.AddrDel(source, a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return err
			}
		}
		if err := netlink.AddrReplace(target, a); err != nil {
			return err
		}
	}
	for _, r := range t.Routes {
		r.LinkIndex = target.Attrs().Index
		if err := netlink.RouteReplace(&r); err != nil {
			return fmt.Errorf("route %v: %w", r, err)
		}
	}
	return nil
}

// giveBack puts the interface back as it was.
func giveBack(t *taken) error {
	link, err := netlink.LinkByName(t.Machine.Interface)
	if err != nil {
		return nil // somebody took it out
	}
	if t.Moved {
		if err := t.carry(providerBridge, t.Machine.Interface); err != nil {
			return err
		}
		t.Moved = false
	}
	if !t.WasUp {
		return netlink.LinkSetDown(link)
	}
	return nil
}

// leaveMachine takes back what buildOnMachine changed; programs that the
// supervisor keeps are ended by it afterwards.
func (s *supervisor) leaveMachine(ctx context.Context) error {
	t := s.state.Taken
	if t == nil {
		return nil
	}
	for _, name := range []string{host0(s.o).name() + "/agent", "controller", host0(s.o).name() + "/ovn-controller"} {
		s.mu.Lock()
		d := s.daemons[name]
		s.mu.Unlock()
		if d != nil {
			s.endDaemon(d, unix.SIGTERM, 10*time.Second)
		}
	}
	return t.undo(ctx, s.o.Dir)
}

// undo needs no supervisor: it works also after one was killed. Repeated it changes nothing.
func (t *taken) undo(ctx context.Context, dir string) error {
	run := func(argv ...string) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = environment(nil)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	var errs []error
	stop := func(unit string) {
		for _, u := range t.Units {
			if u == unit {
				errs = append(errs, run("systemctl", "stop", unit))
			}
		}
	}
	stop("ovn-host") // or ovn-controller makes br-int again
	errs = append(errs, t.endGuests(ctx))
	if t.Bridges && answers("/run/openvswitch/db.sock") {
		for _, bridge := range []string{providerBridge, integrationBridge} {
			out, err := exec.CommandContext(ctx, "ovs-vsctl", "--timeout=20", "br-get-external-id", bridge, ourMark).Output()
			if err == nil && strings.TrimSpace(string(out)) == dir {
				errs = append(errs, run("ovs-vsctl", "--timeout=20", "del-br", bridge))
			}
		}
		argv := []string{"ovs-vsctl", "--timeout=20", "--", "del-ssl"}
		for _, key := range []string{"ovn-remote", "ovn-encap-type", "ovn-encap-ip", "ovn-bridge", "ovn-bridge-mappings", "ovn-bridge-datapath-type", "ovn-monitor-all"} {
			argv = append(argv, "--", "remove", "Open_vSwitch", ".", "external_ids", key)
		}
		errs = append(errs, run(argv...))
	}
	errs = append(errs, giveBack(t))
	if t.OwnSwitch && !answers("/run/openvswitch/db.sock") {
		errs = append(errs, t.removeDatapath(run))
	}
	stop("libvirtd")
	stop("ovn-central")
	stop("openvswitch-switch")
	return errors.Join(errs...)
}

// removeDatapath removes the devices that our Open vSwitch left when it was killed.
func (t *taken) removeDatapath(run func(...string) error) error {
	if t.Datapath == hostagent.DatapathSystem {
		if _, err := netlink.LinkByName("ovs-system"); err != nil {
			return nil
		}
		return run("ovs-dpctl", "del-dp", "ovs-system")
	}
	for _, name := range []string{providerBridge, integrationBridge, "ovs-netdev"} {
		if link, err := netlink.LinkByName(name); err == nil && link.Type() == "tuntap" {
			if err := netlink.LinkDel(link); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	link, err := netlink.LinkByName(t.Machine.Interface)
	if err != nil || t.Promisc {
		return nil
	}
	return netlink.SetPromiscOff(link)
}

// endGuests ends the guests whose disks are in the agent's directory, and takes
// their definitions back; other domains of the machine's libvirt stay.
func (t *taken) endGuests(ctx context.Context) error {
	return until(ctx, 20*time.Second, func() error {
		left := 0
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, entry := range entries {
			pid, err := strconv.Atoi(entry.Name())
			if err != nil {
				continue
			}
			line, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
			if err != nil || !strings.Contains(string(line), t.AgentDir+"/") {
				continue
			}
			program, _, _ := strings.Cut(string(line), "\x00")
			if strings.HasPrefix(filepath.Base(program), "qemu-system-") {
				left++
				_ = unix.Kill(pid, unix.SIGTERM)
			}
		}
		if left > 0 {
			return fmt.Errorf("%d guests do not end", left)
		}
		return nil
	})
}

// forgetDomains takes back the definitions of guests whose disks are in agentDir,
// which libvirt keeps while the cloud is down. Other domains stay.
func forgetDomains(ctx context.Context, agentDir string) error {
	files, err := filepath.Glob("/etc/libvirt/qemu/*.xml")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), agentDir+"/") {
			continue
		}
		if answers("/run/libvirt/libvirt-sock") {
			name := strings.TrimSuffix(filepath.Base(file), ".xml")
			if err := exec.CommandContext(ctx, "virsh", "--quiet", "undefine", "--nvram", name).Run(); err == nil {
				continue
			}
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// sameMachine tells whether a second up asks for what runs. Only Force may differ.
func sameMachine(a, b *Machine) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Force, y.Force = false, false
	return x == y
}
