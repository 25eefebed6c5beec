package trial

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HoldCommand is the hidden subcommand that runs Hold.
const HoldCommand = "trial-hold"

// room describes a host's own view of the file system.
type room struct {
	Hostname string
	// Bind puts directories (or files) of the trial in the place of the machine's: from, to.
	Bind [][2]string
	// Text are files with this content in the place of the machine's.
	Text map[string]string
	// Make are directories made below the host's own /run.
	Make []string
}

// Hold makes the mounts of a simulated host in the mount and UTS namespaces
// that it was started in, says so with one byte on standard output, and keeps
// the namespaces alive until it is killed. The room comes as JSON on in.
func Hold(in io.Reader, out io.Writer) error {
	var r room
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return err
	}
	if err := r.furnish(); err != nil {
		return err
	}
	if _, err := out.Write([]byte{'.'}); err != nil {
		return err
	}
	signal.Ignore(unix.SIGINT, unix.SIGHUP)
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM)
	<-end
	return nil
}

func (r room) furnish() error {
	// Nothing that is mounted here may be seen by the machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("trial: private mounts: %w", err)
	}
	if err := unix.Sethostname([]byte(r.Hostname)); err != nil {
		return fmt.Errorf("trial: host name: %w", err)
	}
	// /sys shows the network namespace it was mounted in.
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("trial: mount /sys: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("trial: mount /run: %w", err)
	}
	for _, dir := range r.Make {
		if err := os.MkdirAll(filepath.Join("/run", dir), 0o755); err != nil {
			return err
		}
	}
	if err := giveKVM(); err != nil {
		return err
	}
	for path, text := range r.Text {
		// A link that leads nowhere now (into the machine's /run) is as good as an empty file.
		if _, err := os.Stat(path); err != nil {
			continue
		}
		own := filepath.Join("/run", "lingyun-"+filepath.Base(path))
		if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(own, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("trial: mount %s: %w", path, err)
		}
	}
	for _, b := range r.Bind {
		if err := os.MkdirAll(b[0], 0o755); err != nil {
			return err
		}
		if err := os.MkdirAll(b[1], 0o755); err != nil {
			return err
		}
		if err := unix.Mount(b[0], b[1], "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("trial: mount %s: %w", b[1], err)
		}
	}
	return nil
}

// giveKVM puts a device in the place of /dev/kvm that the group kvm may open, as
// udev makes it. Without udev it is root's alone, and then libvirt, which probes
// QEMU with root's rights but checks with its guests' user's, takes every probe for
// outdated: a definition costs one probe a device, half a minute in all.
func giveKVM() error {
	info, err := os.Stat("/dev/kvm")
	if err != nil {
		return nil // none
	}
	group, err := user.LookupGroup("kvm")
	if err != nil {
		return nil // nobody to give it to
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return err
	}
	// The host's /run takes no devices.
	const dir, device = "/run/devices", "/run/devices/kvm"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return fmt.Errorf("trial: mount %s: %w", dir, err)
	}
	if err := unix.Mknod(device, unix.S_IFCHR|0o660, int(info.Sys().(*syscall.Stat_t).Rdev)); err != nil {
		return fmt.Errorf("trial: make %s: %w", device, err)
	}
	if err := os.Chmod(device, 0o660); err != nil {
		return err
	}
	if err := os.Chown(device, 0, gid); err != nil {
		return err
	}
	if err := unix.Mount(device, "/dev/kvm", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("trial: mount /dev/kvm: %w", err)
	}
	return nil
}

// host is one simulated host: where its programs run and what they are.
type host struct {
	o Options
	n int
}

func (h host) name() string      { return hostName(h.n) }
func (h host) namespace() string { return h.o.namespace(h.name()) }
func (h host) dir(elem ...string) string {
	return filepath.Join(append([]string{h.o.hostDir(h.n)}, elem...)...)
}

// agentDir is the agent's data directory, which guests' disks are in.
func (h host) agentDir() string { return h.dir("agent") }

// nics of the host: management is the kernel's alone, so that the agent answers
// although Open vSwitch is dead; the other two are ports of Open vSwitch's bridges.
func (h host) nics() []nic {
	return []nic{
		{h.namespace(), "eth0", h.name() + "-m", "management", address(managementNetwork, 10+h.n)},
		{namespace: h.namespace(), name: "eth1", port: h.name() + "-o", sw: "overlay"},
		{namespace: h.namespace(), name: "eth2", port: h.name() + "-p", sw: "provider"},
	}
}

func (h host) room() room {
	name := h.o.namespace(h.name())
	r := room{Hostname: name, Make: []string{"lock", "libvirt", "openvswitch", "ovn", "qemu"},
		// The machine's name servers are out of reach: libvirtd would wait for them when it asks for its own name.
		Text: map[string]string{
			"/etc/hosts":       fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", HostAddress(h.n), name),
			"/etc/resolv.conf": "",
		}}
	for _, path := range []string{"/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt",
		"/etc/openvswitch", "/var/lib/openvswitch", "/var/log/openvswitch", "/var/lib/ovn", "/var/log/ovn"} {
		r.Bind = append(r.Bind, [2]string{h.dir("root", path), path})
	}
	return r
}

// prepare writes what the host's programs read before they start.
func (h host) prepare() error {
	etc := h.dir("root", "/etc/libvirt")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	for _, dir := range []string{h.dir("root", "/var/lib/libvirt/qemu"), h.dir("root", "/var/lib/libvirt/images"), h.dir("root", "/var/log/libvirt/qemu")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// Guests run as libvirt's own unprivileged user, as on a real host. What a
	// namespace on a machine without systemd cannot give is turned off: control
	// groups, and a /dev of each guest's own.
	for name, text := range map[string]string{
		"qemu.conf": "cgroup_controllers = []\nnamespaces = []\nsecurity_driver = \"none\"\nstdio_handler = \"logd\"\nremember_owner = 0\n",
		"libvirtd.conf": fmt.Sprintf("auth_unix_rw = \"none\"\nunix_sock_rw_perms = \"0700\"\nhost_uuid = %q\n",
			hostUUID(h.o.Prefix, h.n)),
		"virtlogd.conf": "",
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// vswitchd's bridges exist as TAP devices only while it runs: they are set up
// anew after every start. In this order, or a tunnel direction stays dead: the
// address first, then touch the bridge, then forget what was learned.
func (h host) afterVSwitchd(ctx context.Context, s *supervisor) error {
	overlay := address(overlayNetwork, 10+h.n)
	// Answer ARP for the overlay's address from the bridge only, never from the cable.
	err := inNamespace(h.namespace(), func() error { return setSysctl("net/ipv4/conf/eth1/arp_ignore", "8") })
	if err != nil {
		return err
	}
	vsctl := func(args ...string) error {
		_, err := s.exec(ctx, h.place(s), append([]string{"ovs-vsctl", "--timeout=20"}, args...)...)
		return err
	}
	if err := vsctl(
		"--", "--may-exist", "add-br", "br-phys", "--", "set", "bridge", "br-phys", "datapath_type=netdev",
		"--", "--may-exist", "add-port", "br-phys", "eth1",
		"--", "--may-exist", "add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev",
		"--", "--may-exist", "add-port", "br-ex", "eth2",
		"--", "--may-exist", "add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail-mode=secure",
	); err != nil {
		return err
	}
	err = inNamespace(h.namespace(), func() error {
		for _, name := range []string{"br-phys", "br-ex", "br-int"} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return fmt.Errorf("trial: %s: %w", name, err)
			}
			if err := checksumInSoftware(name); err != nil {
				return err
			}
			if name == "br-phys" {
				if err := setAddress(link, overlay); err != nil {
					return err
				}
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := vsctl("set", "bridge", "br-phys", fmt.Sprintf("other_config:started=%d", time.Now().UnixNano())); err != nil {
		return err
	}
	_, err = s.exec(ctx, h.place(s), "ovs-appctl", "--timeout=10", "revalidator/purge")
	return err
}

func (h host) place(s *supervisor) place {
	if h.o.Machine != nil {
		return place{}
	}
	return place{namespace: h.namespace(), holder: s.holderOf(h.name())}
}

// daemons of the host, in the order of their start.
func (h host) daemons() []*daemon {
	name := func(short string) string { return h.name() + "/" + short }
	return []*daemon{
		{name: name("ovsdb-server"), host: h.name(),
			argv: []string{"ovsdb-server", "--no-chdir", "--remote=punix:/run/openvswitch/db.sock",
				"--pidfile=/run/openvswitch/ovsdb-server.pid", "-vconsole:warn", "/etc/openvswitch/conf.db"},
			before: func(ctx context.Context, s *supervisor) error {
				return makeDatabase(ctx, s, h.dir("root", "/etc/openvswitch/conf.db"), "/usr/share/openvswitch/vswitch.ovsschema")
			},
			ready: func(ctx context.Context, s *supervisor) error {
				_, err := s.exec(ctx, h.place(s), "ovs-vsctl", "--timeout=20", "--no-wait", "init")
				return err
			}},
		{name: name("ovs-vswitchd"), host: h.name(),
			argv: []string{"ovs-vswitchd", "--no-chdir", "--pidfile=/run/openvswitch/ovs-vswitchd.pid", "-vconsole:warn",
				"--log-file=/var/log/openvswitch/ovs-vswitchd.log"},
			ready: h.afterVSwitchd},
		{name: name("ovn-controller"), host: h.name(),
			argv: []string{"ovn-controller", "--no-chdir", "--pidfile=/run/ovn/ovn-controller.pid", "-vconsole:warn",
				"--log-file=/var/log/ovn/ovn-controller.log", "unix:/run/openvswitch/db.sock"}},
		{name: name("virtlogd"), host: h.name(), argv: []string{"virtlogd"}},
		{name: name("libvirtd"), host: h.name(), argv: []string{"libvirtd"},
			ready: func(ctx context.Context, s *supervisor) error {
				return until(ctx, 30*time.Second, func() error {
					_, err := s.exec(ctx, h.place(s), "virsh", "--quiet", "version", "--daemon")
					return err
				})
			}},
	}
}

// central are OVN's databases and northd, in the management namespace. The
// northbound listens on a unix socket only: whoever reaches it owns every tenant.
func (o Options) central() []*daemon {
	var list []*daemon
	for _, db := range []string{"nb", "sb"} {
		argv := []string{"ovsdb-server", "--no-chdir", "-vconsole:warn", "--unixctl=" + o.ovn(db+".ctl"),
			"--pidfile=" + o.ovn(db+".pid"), "--remote=punix:" + o.ovn(db+".sock")}
		if db == "sb" {
			argv = append(argv, "--remote=db:OVN_Southbound,SB_Global,connections",
				"--private-key=db:OVN_Southbound,SSL,private_key", "--certificate=db:OVN_Southbound,SSL,certificate", "--ca-cert=db:OVN_Southbound,SSL,ca_cert")
		}
		list = append(list, &daemon{name: "ovn-" + db, argv: append(argv, o.ovn(db+".db")),
			before: func(ctx context.Context, s *supervisor) error {
				return makeDatabase(ctx, s, o.ovn(db+".db"), "/usr/share/ovn/ovn-"+db+".ovsschema")
			},
			ready: func(ctx context.Context, s *supervisor) error {
				_, err := s.exec(ctx, place{}, "ovn-"+db+"ctl", "--timeout=20", "--no-leader-only", "--db=unix:"+o.ovn(db+".sock"), "init")
				return err
			}})
	}
	return append(list, &daemon{name: "ovn-northd",
		argv: []string{"ovn-northd", "--no-chdir", "-vconsole:warn", "--unixctl=" + o.ovn("northd.ctl"), "--pidfile=" + o.ovn("northd.pid"),
			"--ovnnb-db=unix:" + o.ovn("nb.sock"), "--ovnsb-db=unix:" + o.ovn("sb.sock")}})
}

// Northbound and Southbound are the endpoints of OVN's databases for programs of the machine.
func (o Options) Northbound() string { return "unix:" + o.ovnSocket("nb") }

// ovnSocket is where a database of OVN listens: the distribution's unit with systemd on the machine, else ours.
func (o Options) ovnSocket(db string) string {
	if o.Machine != nil && systemd() {
		return "/run/ovn/ovn" + db + "_db.sock"
	}
	return o.ovn(db + ".sock")
}

// Southbound is the local endpoint; hosts use SouthboundForHosts.
func (o Options) Southbound() string { return "unix:" + o.ovnSocket("sb") }

func makeDatabase(ctx context.Context, s *supervisor, file, schema string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	_, err := s.exec(ctx, place{}, "ovsdb-tool", "create", file, schema)
	return err
}

// until repeats f until it succeeds, at most for limit; then it answers f's last error.
func until(ctx context.Context, limit time.Duration, f func() error) error {
	return untilEvery(ctx, 50*time.Millisecond, limit, f)
}

func untilEvery(ctx context.Context, pause, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
