package fabric

import (
	"bufio"
	"bytes"
	"context"
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
	labOutside   = "172.20.0.1"   // the first segment's gateway, and whoever is out there
	labElsewhere = "172.21.0.1"   // the second segment's
	labFar       = "198.51.100.1" // reached over either
	labMTU       = 1442
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
	for _, ns := range []string{"underlay", "outside", "elsewhere"} {
		l.ip("netns", "add", ns)
		l.ip("-n", ns, "link", "add", "br0", "type", "bridge")
		l.ip("-n", ns, "link", "set", "br0", "up")
		l.ip("-n", ns, "link", "set", "lo", "up")
	}
	for ns, address := range map[string]string{"outside": labOutside, "elsewhere": labElsewhere} {
		l.ip("-n", ns, "addr", "add", address+"/24", "dev", "br0")
		l.ip("-n", ns, "addr", "add", labFar+"/32", "dev", "lo") // beyond the segment
		l.in(ns, "ethtool", "-K", "br0", "tx", "off")
		l.guests[ns] = &guest{l: l, name: ns}
		l.guests[ns].serve(80)
	}
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
	l.link(name, "eth2", "elsewhere", name)
	for _, ns := range []string{"underlay", "outside", "elsewhere"} {
		l.ip("-n", ns, "link", "set", name, "master", "br0")
	}
	l.in(name, "sysctl", "-qw", "net.ipv4.conf.eth0.arp_ignore=8")

	run(l.t, "ovsdb-tool", "create", h.path("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema")
	h.start("ovsdb-server", "--remote=punix:"+h.path("db.sock"), "--pidfile="+h.path("ovsdb.pid"), "--unixctl="+h.path("ovsdb.ctl"), "-vconsole:off", h.path("conf.db"))
	eventually(l.t, "ovsdb-server of "+name, func() error { _, err := os.Stat(h.path("db.sock")); return err })
	h.vsctl("--no-wait", "init")
	h.vsctl("--no-wait", "set", "open", ".", "external_ids:system-id="+name, "external_ids:ovn-remote="+l.southbound(),
		"external_ids:ovn-encap-type=geneve", "external_ids:ovn-encap-ip="+address, "external_ids:ovn-bridge-datapath-type=netdev",
		"external_ids:ovn-monitor-all=true", "external_ids:ovn-bridge-mappings=ext:br-ex,ext2:br-ex2")
	h.vswitchd = h.start("ovs-vswitchd", "--disable-system", "--pidfile="+h.path("vswitchd.pid"), "--unixctl="+h.path("vswitchd.ctl"),
		"--log-file="+h.path("vswitchd.log"), "-vconsole:off", "unix:"+h.path("db.sock"))
	h.vsctl("add-br", "br-phys", "--", "set", "bridge", "br-phys", "datapath_type=netdev", "--", "add-port", "br-phys", "eth0",
		"--", "add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev", "--", "add-port", "br-ex", "eth1",
		"--", "add-br", "br-ex2", "--", "set", "bridge", "br-ex2", "datapath_type=netdev", "--", "add-port", "br-ex2", "eth2",
		"--", "add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail-mode=secure")
	l.ip("-n", name, "addr", "add", address+"/24", "dev", "br-phys")
	for _, br := range []string{"br-phys", "br-int", "br-ex", "br-ex2"} {
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
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				for r := bufio.NewReader(c); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					n := 0
					if fmt.Sscanf(line, "send %d", &n); n > 0 {
						c.Write(make([]byte, n))
						return
					}
					if fmt.Sscanf(line, "take %d", &n); n > 0 {
						io.CopyN(io.Discard, r, int64(n))
						c.Write([]byte{0})
						return
					}
					fmt.Fprintf(c, "%s saw %s say %s", g.name, host, line)
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

// TestDatapath sees every mapping work on two chassis: what a guest or somebody
// outside would notice, not what the databases say.
func TestDatapath(t *testing.T) {
	l := startLab(t)
	ctx := t.Context()
	elsewhereSegment := Segment{ID: "Telecom", CIDR: cidr("172.21.0.0/24"), Network: "ext2"}
	must(t, l.fabric.EnsureSegment(ctx, bgp))
	must(t, l.fabric.EnsureSegment(ctx, elsewhereSegment))
	outside, elsewhere := l.guests["outside"], l.guests["elsewhere"]

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
	eip := func(id, address, port string) EIP {
		segment := "Bgp"
		if elsewhereSegment.CIDR.Contains(addr(address)) {
			segment = elsewhereSegment.ID
		}
		return EIP{ID: id, SegmentID: segment, Address: addr(address), PortID: port, Distributed: true}
	}
	answers := func(t *testing.T, from *guest, to, want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s asks %s", from.name, to), func() error {
			got, err := from.ask(to, 80)
			if err == nil && got != want+" say hello" {
				err = fmt.Errorf("%q, want %q", got, want)
			}
			return err
		})
	}
	silent := func(t *testing.T, from *guest, to string, port int) {
		t.Helper()
		// vswitchd takes a moment to forget flows that it made under older rules.
		if err := within(3*time.Second, func() error {
			if got, err := from.ask(to, port); err == nil {
				return fmt.Errorf("%s reaches %s:%d: %q", from.name, to, port, got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
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
		l.ip("-n", "a3", "route", "add", "default", "via", "10.1.2.1") // for what follows
	})

	t.Run("across hosts and subnets", func(t *testing.T) {
		for _, to := range []string{"10.1.1.12", "10.1.2.13", "10.1.1.1"} {
			eventually(t, "ping "+to, func() error { return a1.ping(to) })
		}
		answers(t, a1, "10.1.1.12", "a2 saw 10.1.1.11")
		answers(t, a1, "10.1.2.13", "a3 saw 10.1.1.11")
		answers(t, a2, "10.1.1.11", "a1 saw 10.1.1.12")
		if b1.ping("10.1.1.12") == nil {
			t.Error("a VPC reaches another of the same CIDR")
		}
	})

	t.Run("spoofing", func(t *testing.T) {
		l.ip("-n", "a1", "addr", "add", "10.1.1.99/24", "dev", "eth0")
		defer l.ip("-n", "a1", "addr", "del", "10.1.1.99/24", "dev", "eth0")
		heard := l.capture("a2", "eth0", "host 10.1.1.99 or udp port 68 or (arp and ether src "+a1.port.MAC+" and not src host 10.1.1.11) or (ip6 and ether src "+a1.port.MAC+")")
		if a1.ping("10.1.1.12", "-I", "10.1.1.99") == nil {
			t.Error("an address that is not the port's is answered")
		}
		l.try("a1", "arping", "-c", "1", "-w", "1", "-U", "-s", "10.1.1.12", "-I", "eth0", "10.1.1.12")
		l.try("a1", "arping", "-c", "1", "-w", "1", "-A", "-s", "10.1.1.1", "-I", "eth0", "10.1.1.1")
		must(t, l.within("a1", func() error {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 67})
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.WriteTo([]byte("offer"), &net.UDPAddr{IP: net.IPv4(10, 1, 1, 255), Port: 68})
			if err == nil {
				_, err = c.WriteTo([]byte("offer"), &net.UDPAddr{IP: net.IPv4(10, 1, 1, 12), Port: 68})
			}
			return err
		}))
		must(t, a1.ping("10.1.1.12")) // what was sent before it would have arrived
		if s := heard(); strings.TrimSpace(s) != "" {
			t.Errorf("a neighbour hears:\n%q", s)
		}
	})

	t.Run("no leak without an EIP", func(t *testing.T) {
		l.ip("-n", "outside", "route", "add", "10.1.0.0/16", "via", "172.20.0.201")
		defer l.ip("-n", "outside", "route", "del", "10.1.0.0/16")
		seen := l.capture("outside", "br0", "net 10.0.0.0/8")
		for _, to := range []string{labOutside, labFar} {
			if a1.ping(to) == nil {
				t.Errorf("a guest without an EIP pings %s", to)
			}
		}
		silent(t, outside, "10.1.1.11", 80)
		if s := seen(); strings.Contains(s, "IP 10.1.") {
			t.Errorf("private sources outside:\n%s", s)
		}
		// The same with the segment's drops taken away: the test sees leaks.
		l.nbctl("--wait=hv", "acl-del", "Bgp")
		seen = l.capture("outside", "br0", "net 10.0.0.0/8")
		eventually(t, "a leak without the drops", func() error { _, err := outside.ask("10.1.1.11", 80); return err })
		a1.ping(labFar)
		if s := seen(); !strings.Contains(s, "IP 10.1.1.11 > "+labFar) {
			t.Errorf("no leak seen:\n%s", s)
		}
		must(t, l.fabric.EnsureSegment(ctx, bgp))
		must(t, l.fabric.Wait(ctx, []string{"host1", "host2"}))
		silent(t, outside, "10.1.1.11", 22)
	})

	t.Run("one EIP, distributed and not", func(t *testing.T) {
		for _, distributed := range []bool{true, false} {
			e := eip("eip-1", "172.20.0.11", "a2")
			e.Distributed = distributed
			a.EIPs = []EIP{e}
			l.ensure(a)
			answers(t, outside, "172.20.0.11", "a2 saw "+labOutside)
			answers(t, a2, labOutside, "outside saw 172.20.0.11")
			answers(t, a2, labFar, "outside saw 172.20.0.11")
		}
		// A packet that fits the segment and not the overlay is answered, not lost.
		if out, _ := l.try("outside", "ping", "-M", "do", "-c", "1", "-W", "1", "-s", "1472", "172.20.0.11"); !strings.Contains(out, "mtu") {
			t.Errorf("too large: %s", out)
		}
		silent(t, a1, "172.20.0.11", 22) // T6: an EIP of another, without one of its own
	})

	t.Run("three EIPs away from the gateway", func(t *testing.T) {
		three := []EIP{eip("eip-1", "172.20.0.11", "a2"), eip("eip-2", "172.20.0.12", "a2"), eip("eip-3", "172.20.0.13", "a2")}
		for def := range three {
			a.EIPs = slices.Clone(three)
			a.EIPs[def].Default = true
			l.ensure(a)
			for _, e := range a.EIPs {
				answers(t, outside, e.Address.String(), "a2 saw "+labOutside)
				must(t, outside.ping(e.Address.String()))
			}
			answers(t, a2, labFar, "outside saw "+three[def].Address.String())
		}
		c, err := outside.dial("172.20.0.12", 80)
		must(t, err)
		defer c.Close()
		_, err = echo(c, "before")
		must(t, err)
		a.EIPs = nil
		l.ensure(a)
		silent(t, outside, "172.20.0.12", 80)
		if _, err := echo(c, "after"); err == nil {
			t.Error("a connection outlives its EIP")
		}
	})

	t.Run("two segments", func(t *testing.T) {
		a.Gateways = append(a.Gateways, Gateway{
			SegmentID: elsewhereSegment.ID, Address: cidr2("172.21.0.201/24"), MAC: stableMAC("vpc-a", "elsewhere"),
			NextHop: addr(labElsewhere), Chassis: []string{"host1", "host2"},
		})
		for _, distributed := range []bool{true, false} {
			a.EIPs = []EIP{eip("eip-1", "172.20.0.11", "a2"), eip("eip-4", "172.21.0.14", "a3")}
			a.EIPs[1].Distributed = distributed
			l.ensure(a)
			answers(t, elsewhere, "172.21.0.14", "a3 saw "+labElsewhere)
			answers(t, a3, labFar, "elsewhere saw 172.21.0.14")
			answers(t, a2, labFar, "outside saw 172.20.0.11")
			answers(t, a3, "10.1.1.12", "a2 saw 10.1.2.13")
		}
		a.Gateways, a.EIPs = a.Gateways[:1], nil
		l.ensure(a)
	})

	t.Run("groups", func(t *testing.T) {
		accept := func(id string, in bool, p Protocol, ports ...uint16) Rule {
			r := Rule{ID: "sg_rule-" + id, Ingress: in, Protocol: p, Accept: true, Priority: Medium}
			for _, n := range ports {
				r.Ports = append(r.Ports, PortRange{n, n})
			}
			return r
		}
		out, ping, web := accept("out", false, AnyProtocol), accept("ping", true, ICMPv4), accept("web", true, TCP, 80)
		a.EIPs = []EIP{eip("eip-1", "172.20.0.11", "a2"), eip("eip-5", "172.20.0.15", "a3")}
		a.Groups = []Group{{ID: "sg-1", Side: Outer, Members: []string{"a2"}, Rules: []Rule{out, ping, web}}}
		l.ensure(a)
		answers(t, outside, "172.20.0.11", "a2 saw "+labOutside)
		must(t, outside.ping("172.20.0.11"))
		silent(t, outside, "172.20.0.11", 22)
		answers(t, a2, labFar, "outside saw 172.20.0.11")
		silent(t, a1, "10.1.1.12", 80) // the inner side has no group: closed
		silent(t, a2, "10.1.1.11", 80)
		if _, err := a3.ask("10.1.1.11", 22); err != nil { // neither is in any group
			t.Errorf("ports without groups: %v", err)
		}
		a2.dhcp()

		// Only an inner group: closed outside, and its rules count inside only.
		a.Groups = []Group{{ID: "sg-1", Side: Inner, Members: []string{"a2"}, Rules: []Rule{out, ping, web}}}
		l.ensure(a)
		answers(t, a1, "10.1.1.12", "a2 saw 10.1.1.11")
		must(t, a1.ping("10.1.1.12"))
		silent(t, a1, "10.1.1.12", 22)
		silent(t, outside, "172.20.0.11", 80)
		silent(t, a2, labFar, 80)

		// Peers count as inside.
		a.Peers = []netip.Prefix{cidr("172.20.0.0/24"), cidr("198.51.100.0/24")}
		l.ensure(a)
		answers(t, outside, "172.20.0.11", "a2 saw "+labOutside)
		a.Peers = nil

		// The more specific wins, DROP at a tie, priority before both.
		specific := func(accept bool, p Priority, remote ...string) Rule {
			r := Rule{ID: "sg_rule-x" + strings.ToLower(string(p)) + fmt.Sprintf("%v%d", accept, len(remote)), Ingress: true, Protocol: TCP, Ports: []PortRange{{80, 80}}, Accept: accept, Priority: p}
			for _, x := range remote {
				r.Remote = append(r.Remote, cidr(x))
			}
			return r
		}
		for i, c := range []struct {
			rules []Rule
			open  bool
		}{
			{[]Rule{specific(true, Low, labOutside+"/32"), specific(false, Low)}, true},
			{[]Rule{specific(false, Low, labOutside+"/32"), specific(true, Low, "172.20.0.0/24")}, false},
			{[]Rule{specific(true, Low), specific(false, Low)}, false},
			{[]Rule{specific(true, High), specific(false, Low, labOutside+"/32")}, true},
		} {
			a.Groups = []Group{{ID: "sg-1", Side: Outer, Members: []string{"a2"}, Rules: c.rules}}
			l.ensure(a)
			if err := within(3*time.Second, func() error {
				if _, err := outside.ask("172.20.0.11", 80); (err == nil) != c.open {
					return fmt.Errorf("want open %v: %v", c.open, err)
				}
				return nil
			}); err != nil {
				t.Errorf("case %d: %v", i, err)
			}
		}
	})

	t.Run("established connections", func(t *testing.T) {
		web := Rule{ID: "sg_rule-web", Ingress: true, Protocol: TCP, Ports: []PortRange{{80, 80}}, Accept: true, Priority: Medium}
		out := Rule{ID: "sg_rule-out", Protocol: TCP, Accept: true, Priority: Medium}
		a.EIPs = []EIP{eip("eip-1", "172.20.0.11", "a2")}
		with := []Group{
			{ID: "sg-1", Side: Outer, Members: []string{"a2"}, Rules: []Rule{web, out}},
			{ID: "sg-1", Side: Inner, Members: []string{"a2"}, Rules: []Rule{web, out}},
		}
		a.Groups = with
		l.ensure(a)
		open := map[string]net.Conn{}
		for what, by := range map[string]struct {
			g  *guest
			to string
		}{"in, outer": {outside, "172.20.0.11"}, "out, outer": {a2, labFar}, "in, inner": {a1, "10.1.1.12"}, "out, inner": {a2, "10.1.1.11"}} {
			eventually(t, what, func() error {
				c, err := by.g.dial(by.to, 80)
				if err != nil {
					return err
				}
				open[what] = c
				_, err = echo(c, "first")
				return err
			})
		}
		a.Groups = slices.Clone(with)
		a.Groups[0].Rules, a.Groups[1].Rules = nil, nil
		l.ensure(a)
		for i := range 10 {
			for what, c := range open {
				if _, err := echo(c, fmt.Sprint("again ", i)); err != nil {
					t.Fatalf("%s, message %d: %v", what, i, err)

				}
			}
		}
		silent(t, outside, "172.20.0.11", 80)
		silent(t, a2, labFar, 80)
		silent(t, a1, "10.1.1.12", 80)
		silent(t, a2, "10.1.1.11", 80)
		for _, c := range open {
			c.Close()
		}

		// Another group in place of the first ends what that one does not accept.
		a.Groups = slices.Clone(with)
		a.Groups[0].Rules = []Rule{web, {ID: "sg_rule-ssh", Ingress: true, Protocol: TCP, Ports: []PortRange{{22, 22}}, Accept: true, Priority: Medium}}
		l.ensure(a)
		var kept, cut net.Conn
		for port, c := range map[int]*net.Conn{80: &kept, 22: &cut} {
			eventually(t, fmt.Sprint("port ", port), func() (err error) { *c, err = outside.dial("172.20.0.11", port); return err })
			defer (*c).Close()
			_, err := echo(*c, "first")
			must(t, err)
		}
		a.Groups[0] = Group{ID: "sg-2", Side: Outer, Members: []string{"a2"}, Rules: []Rule{{ID: "sg_rule-other", Ingress: true, Protocol: TCP, Ports: []PortRange{{80, 80}}, Accept: true, Priority: Low}}}
		l.ensure(a)
		if _, err := echo(kept, "again"); err != nil {
			t.Errorf("what the new group accepts is cut: %v", err)
		}
		if err := within(3*time.Second, func() error {
			if _, err := echo(cut, "again"); err == nil {
				return fmt.Errorf("still open")
			}
			return nil
		}); err != nil {
			t.Errorf("a connection that only the old group let in: %v", err)
		}
	})

	t.Run("bandwidth", func(t *testing.T) {
		a.Groups = nil
		const size = 2 << 20
		transfer := func(to, word string) time.Duration {
			c, err := outside.dial(to, 80)
			must(t, err)
			defer c.Close()
			c.SetDeadline(time.Now().Add(60 * time.Second))
			start := time.Now()
			fmt.Fprintf(c, "%s %d\n", word, size)
			if word == "take" {
				go c.Write(make([]byte, size))
				_, err = io.ReadFull(c, make([]byte, 1))
			} else {
				_, err = io.CopyN(io.Discard, c, size)
			}
			must(t, err)
			return time.Since(start)
		}
		for _, distributed := range []bool{true, false} {
			a.EIPs = []EIP{eip("eip-1", "172.20.0.11", "a2"), eip("eip-5", "172.20.0.15", "a3")}
			a.EIPs[0].Distributed, a.EIPs[1].Distributed = distributed, distributed
			a.EIPs[0].BandwidthMbps = 8
			l.ensure(a)
			answers(t, outside, "172.20.0.11", "a2 saw "+labOutside)
			answers(t, outside, "172.20.0.15", "a3 saw "+labOutside)
			for _, word := range []string{"send", "take"} {
				limited, free := transfer("172.20.0.11", word), transfer("172.20.0.15", word)
				t.Logf("distributed %v, %s: 8 Mbit/s %.1f Mbit/s, free %.0f Mbit/s", distributed, word,
					size*8/1e6/limited.Seconds(), size*8/1e6/free.Seconds())
				if limited < 2*free {
					t.Errorf("limit not felt: %v, free %v", limited, free)
				}
			}
		}
	})

	t.Run("gateway moves", func(t *testing.T) {
		a.EIPs = []EIP{eip("eip-1", "172.20.0.11", "a2")}
		a.EIPs[0].Distributed = false
		l.ensure(a)
		answers(t, outside, "172.20.0.11", "a2 saw "+labOutside)
		stop(l.hosts["host1"].controller)
		stop(l.hosts["host1"].vswitchd)
		silent(t, outside, "172.20.0.11", 80)
		start := time.Now()
		a.Gateways[0].Chassis = []string{"host2"}
		must(t, l.fabric.EnsureVPC(ctx, a))
		// The dead host is not in the list, and holds nothing up.
		must(t, l.fabric.Wait(ctx, []string{"host2"}))
		answers(t, outside, "172.20.0.11", "a2 saw "+labOutside)
		t.Logf("moved in %v", time.Since(start))
	})
}

// cidr2 is an address with its prefix length, unmasked.
func cidr2(s string) netip.Prefix { return netip.MustParsePrefix(s) }
