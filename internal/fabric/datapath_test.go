package fabric

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// lab is a real datapath: two chassis with Geneve between them, an outside on
// the provider network, and guests that are namespaces with one interface. All of
// it lives in a mount and network namespace of its own, which ends with its processes.
type lab struct {
	*central
	fabric *ovn
	pid    int // of the process that keeps the namespaces
	hosts  map[string]*chassis
	guests map[string]*guest
}

// chassis is one host: a namespace with Open vSwitch in user space and ovn-controller.
type chassis struct {
	l          *lab
	name, dir  string
	controller *exec.Cmd
	vswitchd   *exec.Cmd
}

// guest is a namespace plugged into a chassis, or the outside.
type guest struct {
	l    *lab
	name string
	port Port
}

const (
	labOutside = "172.20.0.1" // the segment's gateway, and whoever is out there
	labMTU     = 1442
)

func startLab(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	l := &lab{central: startCentral(t), hosts: map[string]*chassis{}, guests: map[string]*guest{}}
	ready := l.path("ready")
	keeper := spawn(t, "unshare", "--mount", "--net", "--propagation", "private", "sh", "-c",
		"mount -t tmpfs none /run && ip link set lo up && touch "+ready+" && exec sleep infinity")
	l.pid = keeper.Process.Pid
	eventually(t, "namespaces", func() error { _, err := os.Stat(ready); return err })

	// The underlay and the provider network are a bridge each.
	for _, ns := range []string{"underlay", "outside"} {
		l.ip("netns", "add", ns)
		l.ip("-n", ns, "link", "add", "br0", "type", "bridge")
		l.ip("-n", ns, "link", "set", "br0", "up")
		l.ip("-n", ns, "link", "set", "lo", "up")
	}
	l.ip("-n", "outside", "addr", "add", labOutside+"/24", "dev", "br0")
	l.guests["outside"] = &guest{l: l, name: "outside"}
	l.in("outside", "ethtool", "-K", "br0", "tx", "off")
	for i, name := range []string{"host1", "host2"} {
		l.addHost(name, fmt.Sprintf("10.99.0.%d", i+1))
	}
	l.fabric = l.open()
	for _, h := range l.hosts {
		h.purge()
	}
	return l
}

// ip runs the ip command in the lab.
func (l *lab) ip(args ...string) string {
	l.t.Helper()
	return run(l.t, "nsenter", append(l.enter(), append([]string{"ip"}, args...)...)...)
}

func (l *lab) enter() []string { return []string{"-t", fmt.Sprint(l.pid), "-m", "-n", "--"} }

// command is a command line that runs in one of the lab's namespaces.
func (l *lab) command(ns string, args ...string) []string {
	return slices.Concat([]string{"nsenter"}, l.enter(), []string{"ip", "netns", "exec", ns}, args)
}

func (l *lab) in(ns string, args ...string) string {
	l.t.Helper()
	out, err := l.try(ns, args...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l *lab) try(ns string, args ...string) (string, error) {
	c := l.command(ns, args...)
	return tryRun(c[0], c[1:]...)
}

// within runs f on a thread in the namespace; a socket that it makes stays there.
func (l *lab) within(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- func() error {
			h, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/root/run/netns/%s", l.pid, ns))
			if err != nil {
				return fmt.Errorf("namespace %s: %w", ns, err)
			}
			defer h.Close()
			if err := netns.Set(h); err != nil {
				return fmt.Errorf("entering %s: %w", ns, err)
			}
			return f()
		}()
	}()
	return <-done
}

func (l *lab) link(ns, name, peerNS, peer string) {
	l.ip("-n", ns, "link", "add", name, "type", "veth", "peer", "name", peer, "netns", peerNS)
	for _, e := range [][2]string{{ns, name}, {peerNS, peer}} {
		l.in(e[0], "ethtool", "-K", e[1], "tx", "off")
		l.ip("-n", e[0], "link", "set", e[1], "up")
	}
}

// addHost starts a chassis as dataplane notes say: the underlay's interface is a
// port of a bridge that carries the host's address, or native tunnels do not work.
func (l *lab) addHost(name, address string) {
	l.t.Helper()
	h := &chassis{l: l, name: name, dir: l.path(name)}
	l.hosts[name] = h
	must(l.t, os.Mkdir(h.dir, 0o755))
	l.ip("netns", "add", name)
	l.ip("-n", name, "link", "set", "lo", "up")
	l.link(name, "eth0", "underlay", name)
	l.link(name, "eth1", "outside", name)
	l.ip("-n", "underlay", "link", "set", name, "master", "br0")
	l.ip("-n", "outside", "link", "set", name, "master", "br0")
	l.in(name, "sysctl", "-qw", "net.ipv4.conf.eth0.arp_ignore=8")

	run(l.t, "ovsdb-tool", "create", h.path("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema")
	h.start("ovsdb-server", "--remote=punix:"+h.path("db.sock"), "--pidfile="+h.path("ovsdb.pid"), "--unixctl="+h.path("ovsdb.ctl"), "-vconsole:off", h.path("conf.db"))
	eventually(l.t, "ovsdb-server of "+name, func() error { _, err := os.Stat(h.path("db.sock")); return err })
	h.vsctl("--no-wait", "init")
	h.vsctl("--no-wait", "set", "open", ".", "external_ids:system-id="+name, "external_ids:ovn-remote="+l.southbound(),
		"external_ids:ovn-encap-type=geneve", "external_ids:ovn-encap-ip="+address, "external_ids:ovn-bridge-datapath-type=netdev",
		"external_ids:ovn-monitor-all=true", "external_ids:ovn-bridge-mappings=ext:br-ex")
	h.vswitchd = h.start("ovs-vswitchd", "--disable-system", "--pidfile="+h.path("vswitchd.pid"), "--unixctl="+h.path("vswitchd.ctl"),
		"--log-file="+h.path("vswitchd.log"), "-vconsole:off", "unix:"+h.path("db.sock"))
	h.vsctl("add-br", "br-phys", "--", "set", "bridge", "br-phys", "datapath_type=netdev", "--", "add-port", "br-phys", "eth0",
		"--", "add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev", "--", "add-port", "br-ex", "eth1",
		"--", "add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail-mode=secure")
	l.ip("-n", name, "addr", "add", address+"/24", "dev", "br-phys")
	for _, br := range []string{"br-phys", "br-int", "br-ex"} {
		l.ip("-n", name, "link", "set", br, "up")
		l.in(name, "ethtool", "-K", br, "tx", "off")
	}
	h.vsctl("set", "bridge", "br-phys", "other_config:poke=1")
	h.controller = h.start("ovn-controller", "--pidfile="+h.path("controller.pid"),
		"--log-file="+h.path("controller.log"), "-vconsole:off", "unix:"+h.path("db.sock"))
}

func (h *chassis) path(name string) string { return filepath.Join(h.dir, name) }

func (h *chassis) start(args ...string) *exec.Cmd {
	env := []string{"env", "OVS_RUNDIR=" + h.dir, "OVN_RUNDIR=" + h.dir, "OVS_DBDIR=" + h.dir, "OVS_LOGDIR=" + h.dir, "OVN_LOGDIR=" + h.dir}
	c := h.l.command(h.name, append(env, args...)...)
	return spawn(h.l.t, c[0], c[1:]...)
}

func (h *chassis) vsctl(args ...string) string {
	h.l.t.Helper()
	return run(h.l.t, "ovs-vsctl", append([]string{"--db=unix:" + h.path("db.sock"), "--timeout=20"}, args...)...)
}

// purge makes vswitchd forget flows that were made before its addresses were known.
func (h *chassis) purge() {
	tryRun("ovs-appctl", "-t", h.path("vswitchd.ctl"), "--timeout=10", "revalidator/purge")
}

// plug starts a guest on a chassis and gives it its address by DHCP.
func (l *lab) plug(host string, p Port) *guest {
	l.t.Helper()
	g := &guest{l: l, name: p.ID, port: p}
	l.guests[p.ID] = g
	l.ip("netns", "add", p.ID)
	l.ip("-n", p.ID, "link", "set", "lo", "up")
	l.link(p.ID, "eth0", host, p.ID)
	l.ip("-n", p.ID, "link", "set", "eth0", "address", p.MAC)
	l.hosts[host].vsctl("add-port", "br-int", p.ID, "--", "set", "interface", p.ID, "external_ids:iface-id="+p.UUID)
	return g
}

// dhcp asks for an address and gives what was offered.
func (g *guest) dhcp() string {
	g.l.t.Helper()
	script := g.l.path("dhcp-script")
	must(g.l.t, os.WriteFile(script, []byte(`#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr flush dev $interface
ip addr add $ip/$mask dev $interface
ip link set $interface mtu ${mtu:-1500}
for r in $router; do ip route replace default via $r; done
set -- $staticroutes
while [ $# -ge 2 ]; do ip route replace $1 via $2; shift 2; done
set -- bound
env | grep -E '^(ip|mask|router|mtu|dns|hostname|staticroutes|lease)='
`), 0o755))
	var out string
	eventually(g.l.t, "DHCP of "+g.name, func() (err error) {
		out, err = g.l.try(g.name, "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "2", "-T", "1", "-O", "mtu", "-O", "staticroutes", "-s", script)
		return err
	})
	return out
}

// ping sends one echo request.
func (g *guest) ping(to string, more ...string) error {
	_, err := g.l.try(g.name, append(append([]string{"ping", "-c", "1", "-W", "1"}, more...), to)...)
	return err
}

// serve answers every line on a TCP port with the guest's name, the client's
// address and the line.
func (g *guest) serve(port int) {
	g.l.t.Helper()
	var listener net.Listener
	must(g.l.t, g.l.within(g.name, func() (err error) {
		listener, err = net.Listen("tcp4", fmt.Sprint(":", port))
		return err
	}))
	g.l.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					if n := 0; strings.HasPrefix(s.Text(), "send ") {
						fmt.Sscanf(s.Text(), "send %d", &n)
						c.Write(make([]byte, n))
						return
					}
					host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					fmt.Fprintf(c, "%s saw %s say %s\n", g.name, host, s.Text())
				}
			}()
		}
	}()
}

// dial opens a TCP connection from the guest.
func (g *guest) dial(to string, port int) (net.Conn, error) {
	var c net.Conn
	err := g.l.within(g.name, func() (err error) {
		c, err = (&net.Dialer{Timeout: time.Second}).Dial("tcp4", net.JoinHostPort(to, fmt.Sprint(port)))
		return err
	})
	return c, err
}

// ask says a word and gives the answer.
func (g *guest) ask(to string, port int) (string, error) {
	c, err := g.dial(to, port)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return echo(c, "hello")
}

func echo(c net.Conn, word string) (string, error) {
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := fmt.Fprintln(c, word); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// ensure writes a VPC and waits for both chassis.
func (l *lab) ensure(v VPC) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(l.t, l.fabric.EnsureVPC(ctx, v))
	must(l.t, l.fabric.Wait(ctx, []string{"host1", "host2"}))
}

// capture records what tcpdump sees until the function it returns is called.
func (l *lab) capture(ns, device, filter string) func() string {
	l.t.Helper()
	c := l.command(ns, "tcpdump", "-l", "-n", "--immediate-mode", "-i", device, filter)
	cmd := exec.Command(c[0], c[1:]...)
	var out bytes.Buffer
	cmd.Stdout = &out
	errors_, err := cmd.StderrPipe()
	must(l.t, err)
	must(l.t, start(cmd))
	listening := make(chan bool)
	go func() {
		s := bufio.NewScanner(errors_)
		for s.Scan() {
			if strings.Contains(s.Text(), "listening on") {
				close(listening)
			}
		}
	}()
	select {
	case <-listening:
	case <-time.After(10 * time.Second):
		l.t.Fatal("tcpdump does not listen")
	}
	return func() string {
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
		return out.String()
	}
}

// port of the lab's VPCs.
func labPort(id, subnet, ip string) Port {
	a := addr(ip).As4()
	mac := net.HardwareAddr{0x52, 0x54, id[0], a[1], a[2], a[3]}
	return Port{ID: id, UUID: rowID(id, "interface"), SubnetID: subnet, MAC: mac.String(), IP: addr(ip)}
}

func labVPC(id string, gateway string) VPC {
	return VPC{
		ID: id, CIDR: cidr("10.1.0.0/16"), MTU: labMTU,
		Subnets: []Subnet{
			{ID: id + "-s1", CIDR: cidr("10.1.1.0/24"), Gateway: addr("10.1.1.1"), DNS: []netip.Addr{addr("9.9.9.9")}},
			{ID: id + "-s2", CIDR: cidr("10.1.2.0/24"), Gateway: addr("10.1.2.1")},
		},
		Gateways: []Gateway{{
			SegmentID: "Bgp", Address: netip.PrefixFrom(addr(gateway), 24), MAC: stableMAC(id, "gateway"),
			NextHop: addr(labOutside), Chassis: []string{"host1", "host2"},
		}},
	}
}

func TestDatapath(t *testing.T) {
	l := startLab(t)
	ctx := t.Context()
	must(t, l.fabric.EnsureSegment(ctx, bgp))
	out := l.guests["outside"]

	a := labVPC("vpc-a", "172.20.0.201")
	a.Ports = []Port{labPort("a1", "vpc-a-s1", "10.1.1.11"), labPort("a2", "vpc-a-s1", "10.1.1.12"), labPort("a3", "vpc-a-s2", "10.1.2.13")}
	a.Ports[0].Hostname = "first"
	a.Ports[2].NoDefaultRoute = true
	b := labVPC("vpc-b", "172.20.0.202")
	b.Ports = []Port{labPort("b1", "vpc-b-s1", "10.1.1.11")}
	l.ensure(a)
	l.ensure(b)
	a1, a2, a3 := l.plug("host1", a.Ports[0]), l.plug("host2", a.Ports[1]), l.plug("host2", a.Ports[2])
	b1 := l.plug("host2", b.Ports[0])
	for _, g := range []*guest{a1, a2, a3, b1} {
		g.serve(80)
		g.serve(22)
	}

	t.Run("DHCP", func(t *testing.T) {
		for g, want := range map[*guest][]string{
			a1: {"ip=10.1.1.11", "mask=24", "router=10.1.1.1", "mtu=1442", "dns=9.9.9.9", "hostname=first", "lease=86400"},
			a2: {"ip=10.1.1.12", "router=10.1.1.1"},
			a3: {"ip=10.1.2.13", "staticroutes=10.1.0.0/16 10.1.2.1"},
			b1: {"ip=10.1.1.11"},
		} {
			offer := g.dhcp()
			for _, w := range want {
				if !strings.Contains(offer, w) {
					t.Errorf("%s: want %s in:\n%s", g.name, w, offer)
				}
			}
			if g == a3 && strings.Contains(offer, "router=") {
				t.Errorf("a further NIC is offered a default route:\n%s", offer)
			}
		}
	})

	t.Run("across hosts and subnets", func(t *testing.T) {
		for _, to := range []string{"10.1.1.12", "10.1.2.13", "10.1.1.1"} {
			eventually(t, "ping "+to, func() error { return a1.ping(to) })
		}
		if got, err := a1.ask("10.1.2.13", 80); err != nil || got != "a3 saw 10.1.1.11 say hello" {
			t.Errorf("%q %v", got, err)
		}
		if b1.ping("10.1.1.12") == nil {
			t.Error("a VPC reaches another of the same CIDR")
		}
	})
	t.Log(out)
	_ = io.EOF
	_ = errors.Is
}
