package cloud

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/trial"
)

// networks proves what guests feel of EIPs, NICs, VIPs, routes and security groups: a and b share a subnet, inner is
// in another one and has no EIP.
func networks(t *testing.T, c *cloud, a, b, inner *machine) {
	t.Run("the chosen EIP is the way out", func(t *testing.T) { egress(t, a) })
	t.Run("bandwidth is felt", func(t *testing.T) { bandwidth(t, a) })
	t.Run("a NIC is plugged in and out", func(t *testing.T) { hotNIC(t, b, inner) })
	t.Run("a VIP moves", func(t *testing.T) { innerVIP(t, a, b, inner) })
	t.Run("a VIP of the segment moves", func(t *testing.T) { outerVIP(t, a, b) })
	t.Run("routes lead to a guest", func(t *testing.T) { routed(t, b, a, inner) })
	t.Run("security groups", func(t *testing.T) { groups(t, b, inner) })
	t.Run("protocols of security groups", func(t *testing.T) { protocols(t, b) })
	t.Run("an address of a segment behind a VLAN", func(t *testing.T) { segments(t, inner, c.other) })
}

// egress: who is outside sees the default egress, before and after it was changed.
func egress(t *testing.T, m *machine) {
	c := m.c
	for len(m.eips) < 2 {
		m.address(t)
	}
	site := c.serve(t, "outside", c.Options.OutsideAddress().String()+":0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprint(w, host)
	}))
	for _, e := range []eip{m.eips[1], m.eips[0]} {
		c.call(t, m.client, "UpdateVMDefaultGW", cli.Params{"VMID": m.id, "EIPID": e.id}, nil)
		until(t, c, 20*time.Second, "another way out", func() error {
			if from := m.must(t, "timeout 5 wget -qO- http://"+site+"/"); from != e.ip {
				return fmt.Errorf("it comes from %s, not %s", from, e.ip)
			}
			return nil
		})
		m.page(t, m.eips[0].ip, 5*time.Second) // whatever the way out, each address answers
		m.page(t, m.eips[1].ip, 5*time.Second)
	}
}

// bandwidth: a transfer under way feels what an EIP is given, in both directions. That a limit is never passed holds on
// any machine. How fast it is below one is also the machine's affair, which other work may fill: then a transfer is slow
// with a limit and without, or does not end in its time, and is made once more.
func bandwidth(t *testing.T, m *machine) {
	const tries = 3
	for _, direction := range []string{"out", "in"} {
		for n := 1; ; n++ {
			limited, free, err := transfer(t, m, direction)
			load, _ := os.ReadFile("/proc/loadavg")
			told := fmt.Sprintf("%s: %.1f Mbit/s of %d, %.1f of %d, load %.14s", direction, limited, lowMbps, free, highMbps, load)
			if err == nil && limited > 1.2*lowMbps {
				t.Errorf("the limit is passed: %s", told)
			}
			if err == nil && limited >= 0.5*lowMbps && free >= 2*limited {
				t.Log(told)
				break
			}
			t.Logf("try %d: %s %v\n%s", n, told, err, sockets(m.c))
			if n == tries {
				t.Errorf("the bandwidth was not felt in %d tries, the last: %s %v", n, told, err)
				break
			}
		}
	}
	m.limit(t, m.eips[0], 50)
}

// What an EIP is given in turn, in Mbps.
const lowMbps, highMbps = 10, 1000

// limit gives an EIP a bandwidth, and waits until it has it.
func (m *machine) limit(t *testing.T, e eip, mbps int) {
	t.Helper()
	m.c.call(t, m.client, "ModifyEIPBandwidth", cli.Params{"EIPID": e.id, "Bandwidth": mbps}, nil)
	if err := trial.WaitState(m.c.ctx, m.client, time.Minute, "DescribeEIP", "EIPIDs", "Status", e.id, "Bound"); err != nil {
		t.Fatal(err)
	}
}

// sockets is how transfers look outside, and what the hosts know of them, for who wonders why one does not move.
func sockets(c *cloud) []byte {
	text, _ := c.Command(c.ctx, "outside", "ss", "-tino").CombinedOutput()
	for n := range c.hosts {
		cmd, err := c.HostCommand(c.ctx, n+1, "sh", "-c", "ovs-appctl dpctl/dump-conntrack -m | grep tcp; ovs-ofctl -O OpenFlow15 meter-stats br-int")
		if err == nil {
			more, _ := cmd.CombinedOutput()
			text = append(append(text, fmt.Sprintf("host%d:\n", n+1)...), more...)
		}
	}
	return text
}

// transfer measures one connection, outward or inward, with the low bandwidth and with the high one, in Mbit/s. An error
// says that it did not end within 45 s.
func transfer(t *testing.T, m *machine, direction string) (limited, free float64, err error) {
	c := m.c
	var l net.Listener
	if err := c.Inside("outside", func() (err error) {
		l, err = net.Listen("tcp", c.Options.OutsideAddress().String()+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	source := "/dev/zero"
	if direction == "in" {
		source = "/dev/null"
	}
	m.limit(t, m.eips[0], highMbps)
	host, port, _ := net.SplitHostPort(l.Addr().String())
	m.must(t, "setsid nc "+host+" "+port+" <"+source+" >/dev/null 2>/dev/null &")
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := l.Accept()
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	tcp := conn.(*net.TCPConn)
	_, _ = tcp.SetReadBuffer(64<<10), tcp.SetWriteBuffer(64<<10) // what waits in them is neither sent nor held back
	pass := func(n int64) (err error) {
		if direction == "in" {
			_, err = io.CopyN(tcp, zeros{}, n)
		} else {
			_, err = io.CopyN(io.Discard, tcp, n)
		}
		return err
	}
	// What a bucket that was idle lets through at once, a second's worth, is not counted.
	rate := func() (float64, error) {
		const size = 4 << 20
		_ = tcp.SetDeadline(time.Now().Add(45 * time.Second))
		if err := pass(lowMbps * 200_000); err != nil {
			return 0, err
		}
		began := time.Now()
		err := pass(size)
		return size * 8 / 1e6 / time.Since(began).Seconds(), err
	}
	if direction == "in" { // what is free first: both orders are felt
		if free, err = rate(); err != nil {
			return 0, free, err
		}
		m.limit(t, m.eips[0], lowMbps)
		limited, err = rate()
		return limited, free, err
	}
	m.limit(t, m.eips[0], lowMbps)
	if limited, err = rate(); err != nil {
		return limited, 0, err
	}
	m.limit(t, m.eips[0], highMbps)
	free, err = rate()
	return limited, free, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// nic is an elastic network interface.
type nic struct{ id, ip, mac string }

func (m *machine) nic(t *testing.T, p cli.Params) nic {
	t.Helper()
	var made struct{ NICID string }
	m.c.call(t, m.client, "CreateNIC", p, &made)
	var list struct{ Infos []struct{ IP, MAC string } }
	m.c.call(t, m.client, "DescribeNIC", cli.Params{"NICIDs": []string{made.NICID}}, &list)
	return nic{made.NICID, list.Infos[0].IP, list.Infos[0].MAC}
}

// plug gives the running guest a NIC, and waits until it has taken its address.
func (m *machine) plug(t *testing.T, n nic) {
	t.Helper()
	m.c.call(t, m.client, "AttachNIC", cli.Params{"NICID": n.id, "ResourceID": m.id}, nil)
	m.nicIs(t, n, "Bound")
	until(t, m.c, 30*time.Second, "its address in the guest", func() error {
		if out := m.must(t, "ip -o -4 addr; cat /sys/class/net/*/address"); !strings.Contains(out, " "+n.ip+"/24 ") || !strings.Contains(out, n.mac) {
			return fmt.Errorf("the guest has\n%s", out)
		}
		return nil
	})
}

// unplug takes it away again.
func (m *machine) unplug(t *testing.T, n nic) {
	t.Helper()
	m.c.call(t, m.client, "DetachNIC", cli.Params{"NICID": n.id, "ResourceID": m.id}, nil)
	m.nicIs(t, n, "Free")
	until(t, m.c, 20*time.Second, "the guest without it", func() error {
		if out := m.must(t, "cat /sys/class/net/*/address"); strings.Contains(out, n.mac) {
			return fmt.Errorf("the guest has\n%s", out)
		}
		return nil
	})
}

func (m *machine) nicIs(t *testing.T, n nic, state string) {
	t.Helper()
	if err := trial.WaitState(m.c.ctx, m.client, time.Minute, "DescribeNIC", "NICIDs", "NICStatus", n.id, state); err != nil {
		t.Fatal(err)
	}
}

// fetch gets a page from inside the guest.
func (m *machine) fetch(t *testing.T, ip string) (string, error) {
	t.Helper()
	return m.run(t, "timeout 2 wget -qO- http://"+ip+"/")
}

// hotNIC: a running guest takes an interface in another subnet, answers on it, and loses it again.
func hotNIC(t *testing.T, m, neighbour *machine) {
	c := m.c
	d, err := c.Defaults(c.ctx, m.client)
	if err != nil {
		t.Fatal(err)
	}
	n := m.nic(t, cli.Params{"Name": "second", "VPCID": d.VPCID, "SubnetID": c.subnet})
	for range 2 { // the second time a guest has to know that the first is over
		m.plug(t, n)
		until(t, c, 20*time.Second, "an answer on it", func() error {
			out, err := neighbour.fetch(t, n.ip)
			if err != nil || !strings.Contains(out, "id="+m.id+"\n") {
				return fmt.Errorf("%v\n%s", err, out)
			}
			return nil
		})
		m.page(t, m.eips[0].ip, 10*time.Second) // its way out is as it was
		m.unplug(t, n)
	}
	if out, err := neighbour.run(t, "ping -c1 -W1 "+n.ip); err == nil {
		t.Errorf("it is answered for:\n%s", out)
	}
	c.call(t, m.client, "DeleteNIC", cli.Params{"NICID": n.id}, nil)
}

// innerVIP moves an address of a subnet, which client asks.
func innerVIP(t *testing.T, a, b, client *machine) {
	d, err := a.c.Defaults(a.c.ctx, a.client)
	if err != nil {
		t.Fatal(err)
	}
	movingVIP(t, a, b, "eth0", cli.Params{"VIPType": "LAN", "VPCID": d.VPCID, "SubnetID": d.SubnetID},
		func(ip string) (string, error) { return client.fetch(t, ip) })
}

// outerVIP moves an address of the segment, which outer NICs carry.
func outerVIP(t *testing.T, a, b *machine) {
	c := a.c
	d, err := c.Defaults(c.ctx, a.client)
	if err != nil {
		t.Fatal(err)
	}
	bought := cli.Params{"SegmentID": "Bgp", "ChargeType": "Dynamic", "Bandwidth": 50}
	for _, m := range []*machine{a, b} {
		p := cli.Params{"Name": "outer", "NICType": "WAN"}
		maps.Copy(p, bought)
		n := m.nic(t, p)
		// What its own address was asked leaves by its own interface, though the segment is now next to it.
		own := "from " + m.ip + " lookup 100"
		m.must(t, "ip route add default via "+m.ip[:strings.LastIndex(m.ip, ".")]+".1 dev eth0 table 100; ip rule add "+own)
		m.plug(t, n)
		defer func() {
			m.unplug(t, n)
			m.must(t, "ip rule del "+own+"; ip route flush table 100")
			c.call(t, m.client, "DeleteNIC", cli.Params{"NICID": n.id}, nil)
		}()
		m.page(t, n.ip, 20*time.Second)
	}
	p := cli.Params{"VIPType": "WAN", "VPCID": d.VPCID}
	maps.Copy(p, bought)
	movingVIP(t, a, b, "eth1", p, func(ip string) (string, error) { return c.Get(c.ctx, ip, "/") })
}

// movingVIP: an address is with whoever of its machines announces it, and with no other machine.
func movingVIP(t *testing.T, a, b *machine, device string, p cli.Params, fetch func(ip string) (string, error)) {
	c := a.c
	p["AssociatedResourceIDs"] = []string{a.id, b.id}
	entry := a.vip(t, p)
	vip := entry.ip
	carry := func(m *machine) {
		m.must(t, "ip addr add "+vip+"/32 dev "+device+"; arping -q -c2 -A -I "+device+" "+vip)
	}
	drop := func(m *machine) { m.must(t, "ip addr del "+vip+"/32 dev "+device) }
	answers := func(m *machine) {
		until(t, c, 20*time.Second, "the page of "+m.id+" on the VIP", func() error {
			out, err := fetch(vip)
			if err != nil || !strings.Contains(out, "id="+m.id+"\n") {
				return fmt.Errorf("%v\n%s", err, out)
			}
			return nil
		})
	}
	carry(a)
	answers(a)
	drop(a)
	carry(b)
	answers(b)
	c.call(t, a.client, "UpdateVIPBindResource", cli.Params{"VIPID": entry.id, "AssociatedResourceIDs": []string{a.id}}, nil)
	until(t, c, 20*time.Second, "a VIP that b may not carry", func() error {
		if out, err := fetch(vip); err == nil {
			return fmt.Errorf("it answers\n%s", out)
		}
		return nil
	})
	drop(b)
	carry(a)
	answers(a)
	drop(a)
	entry.release(t, a)
}

// vip is an address that machines carry in turn.
type vip struct{ id, ip string }

func (m *machine) vip(t *testing.T, p cli.Params) vip {
	t.Helper()
	p["Name"] = "entry"
	var made struct{ VIPID string }
	m.c.call(t, m.client, "AllocateVIP", p, &made)
	if err := trial.WaitState(m.c.ctx, m.client, time.Minute, "DescribeVIP", "VIPIDs", "Status", made.VIPID, "Available"); err != nil {
		t.Fatal(err)
	}
	var list struct{ Infos []struct{ IP string } }
	m.c.call(t, m.client, "DescribeVIP", cli.Params{"VIPIDs": []string{made.VIPID}}, &list)
	return vip{made.VIPID, list.Infos[0].IP}
}

func (v vip) release(t *testing.T, m *machine) {
	t.Helper()
	until(t, m.c, 20*time.Second, "the VIP's end", func() error {
		_, err := m.client.Call(m.c.ctx, "ReleaseVIP", cli.Params{"VIPID": v.id}, nil)
		return err
	})
}

// routed: what a route of a subnet names as next hop (a machine, an address that it carries, or one that it has) gets what
// is for the destination. neighbour is in the hop's subnet, far in another one.
func routed(t *testing.T, hop, neighbour, far *machine) {
	const remote = "10.50.0.9"
	c := hop.c
	d, err := c.Defaults(c.ctx, hop.client)
	if err != nil {
		t.Fatal(err)
	}
	vip := hop.vip(t, cli.Params{"VIPType": "LAN", "VPCID": d.VPCID, "SubnetID": d.SubnetID, "AssociatedResourceIDs": []string{hop.id}})
	hop.must(t, "ip addr add "+remote+"/32 dev lo; ip addr add "+vip.ip+"/32 dev eth0")
	for _, r := range []struct {
		kind, next, subnet string
		client             *machine
	}{{"VM", hop.id, c.subnet, far}, {"VIP", vip.id, c.subnet, far}, {"Custom", hop.ip, d.SubnetID, neighbour}} {
		ping := func() error {
			if out, err := r.client.run(t, "ping -c1 -W1 "+remote); err != nil {
				return errors.New(out)
			}
			return nil
		}
		if ping() == nil {
			t.Fatalf("%s answers without a route", remote)
		}
		var made struct{ RouteID string }
		c.call(t, hop.client, "CreateSubnetRoute", cli.Params{"SubnetID": r.subnet, "Destination": "10.50.0.0/16", "NextHopType": r.kind, "NextHop": r.next}, &made)
		until(t, c, 20*time.Second, "the way by "+r.kind, ping)
		c.call(t, hop.client, "DeleteSubnetRoute", cli.Params{"SubnetID": r.subnet, "RouteIDs": []string{made.RouteID}}, nil)
		until(t, c, 20*time.Second, "no way by "+r.kind, func() error {
			if ping() == nil {
				return errors.New("it answers")
			}
			return nil
		})
	}
	hop.must(t, "ip addr del "+remote+"/32 dev lo; ip addr del "+vip.ip+"/32 dev eth0")
	vip.release(t, hop)
}

// groups: what the rules of a group let in, as a probe outside feels it on the outer side, and a neighbour on the inner.
func groups(t *testing.T, m, neighbour *machine) {
	c, outside := m.c, m.c.Options.OutsideAddress().String()
	d, err := c.Defaults(c.ctx, m.client)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(port string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		defer cancel()
		return c.Dial(ctx, m.eips[0].ip+":"+port)
	}
	feel := func(what string) error { // nil: it gets through
		switch what {
		case "ping":
			return c.Command(c.ctx, "outside", "ping", "-c1", "-W1", m.eips[0].ip).Run()
		case "inner side":
			_, err := neighbour.fetch(t, m.ip)
			return err
		}
		conn, err := dial(what)
		if err == nil {
			conn.Close()
		}
		return err
	}
	open := func(whats ...string) {
		t.Helper()
		for _, what := range whats {
			until(t, c, 20*time.Second, what+" open", func() error { return feel(what) })
		}
	}
	closed := func(whats ...string) {
		t.Helper()
		for _, what := range whats {
			until(t, c, 20*time.Second, what+" closed", func() error {
				if feel(what) == nil {
					return errors.New("it gets through")
				}
				return nil
			})
		}
	}
	var group struct{ SGID string }
	c.call(t, m.client, "CreateSecurityGroup", cli.Params{"Name": "probed", "Rule": []string{"ALL||any|ACCEPT|MEDIUM|0"}}, &group)
	settled := func() {
		t.Helper()
		if err := trial.WaitState(c.ctx, m.client, time.Minute, "DescribeSecurityGroup", "SGIDs", "Status", group.SGID, "Available"); err != nil {
			t.Fatal(err)
		}
	}
	rule := func(text string) {
		t.Helper()
		settled()
		c.call(t, m.client, "CreateSecurityGroupRule", cli.Params{"SGID": group.SGID, "Rules": []string{text}}, nil)
	}
	bind := func(sg, side string) {
		t.Helper()
		c.call(t, m.client, "BindSecurityGroup", cli.Params{"ResourceID": m.id, "SGID": sg, "NICType": side}, nil)
	}
	open("80", "22", "ping", "inner side")
	before, err := dial("80")
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	bind(group.SGID, "WAN")
	closed("80", "22", "ping")
	open("inner side")
	// The connection was let in by a group that the machine has no more.
	_ = before.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = before.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	if line, err := bufio.NewReader(before).ReadString('\n'); err == nil {
		t.Errorf("an open connection outlives the group: %q", line)
	}
	rule("TCP|80|any|ACCEPT|LOW|1")
	open("80")
	closed("22", "ping")
	rule("PING||any|ACCEPT|MEDIUM|1")
	open("ping")
	rule("TCP|80|" + outside + "/32|DROP|HIGH|1")
	closed("80")

	var addresses struct{ IPGroupID string }
	c.call(t, m.client, "CreateIPGroup", cli.Params{"Name": "friends", "Rules": "198.18.0.0/24"}, &addresses)
	rule("TCP|22|" + addresses.IPGroupID + "|ACCEPT|MEDIUM|1")
	settled()
	closed("22")
	c.call(t, m.client, "UpdateIPGroup", cli.Params{"IPGroupID": addresses.IPGroupID, "Rules": "198.18.0.0/24," + outside}, nil)
	open("22")
	var ports struct{ PortGroupID string }
	c.call(t, m.client, "CreatePortGroup", cli.Params{"Name": "shut", "Rules": "TCP:1"}, &ports)
	rule("TCP|" + ports.PortGroupID + "|any|DROP|HIGH|1")
	settled()
	open("22")
	c.call(t, m.client, "UpdatePortGroup", cli.Params{"PortGroupID": ports.PortGroupID, "Rules": "TCP:1,TCP:20-30"}, nil)
	closed("22")

	bind(d.OuterGroup, "WAN")
	open("80", "22", "ping")
	settled()
	outer := group.SGID
	c.call(t, m.client, "CreateSecurityGroup", cli.Params{"Name": "inner", "Rule": []string{"ALL||any|ACCEPT|MEDIUM|0"}}, &group)
	bind(group.SGID, "LAN")
	closed("inner side")
	rule("HTTP||VPC|ACCEPT|MEDIUM|1")
	open("inner side", "80", "22") // through an EIP it is the outer side
	bind(d.OuterGroup, "LAN")
	for _, id := range []string{group.SGID, outer} {
		until(t, c, 20*time.Second, "the group's end", func() error {
			_, err := m.client.Call(c.ctx, "DeleteSecurityGroup", cli.Params{"SGID": id}, nil)
			return err
		})
	}
	until(t, c, 20*time.Second, "the end of its lists", func() error {
		_, err := m.client.Call(c.ctx, "DeleteIPGroup", cli.Params{"IPGroupID": addresses.IPGroupID}, nil)
		return err
	})
	c.call(t, m.client, "DeletePortGroup", cli.Params{"PortGroupID": ports.PortGroupID}, nil)
}

// protocols: every protocol and every shortcut of a rule opens what it names and nothing else, as a probe outside feels it;
// and a rule of the other direction shuts what the guest asks for. Where nobody listens a guest says so, if it is reached.
func protocols(t *testing.T, m *machine) {
	c, ip := m.c, m.eips[0].ip
	d, err := c.Defaults(c.ctx, m.client)
	if err != nil {
		t.Fatal(err)
	}
	probe := func(network, address string) bool {
		var conn net.Conn
		err := c.Inside("outside", func() (err error) { conn, err = net.DialTimeout(network, address, 700*time.Millisecond); return err })
		if err == nil {
			defer conn.Close()
			if network == "tcp" {
				return true
			}
			_ = conn.SetDeadline(time.Now().Add(700 * time.Millisecond))
			_, _ = conn.Write(make([]byte, 8))
			_, err = conn.Read(make([]byte, 8))
		}
		return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOPROTOOPT)
	}
	whats := strings.Fields("tcp:7 tcp:21 tcp:22 tcp:80 tcp:443 tcp:1723 tcp:3389 tcp:8001 tcp:9000 udp:7 udp:1194 udp:5353 ip4:47 ping")
	through := func() string {
		got := make([]bool, len(whats))
		var all sync.WaitGroup
		for i, what := range whats {
			all.Go(func() {
				if what == "ping" {
					got[i] = c.Command(c.ctx, "outside", "ping", "-c1", "-W1", ip).Run() == nil
				} else if network, port, _ := strings.Cut(what, ":"); network == "ip4" {
					got[i] = probe(what, ip)
				} else {
					got[i] = probe(network, ip+":"+port)
				}
			})
		}
		all.Wait()
		var open []string
		for i, what := range whats {
			if got[i] {
				open = append(open, what)
			}
		}
		return strings.Join(open, " ")
	}
	m.must(t, "echo 0 >/proc/sys/net/ipv4/icmp_ratelimit") // it says so every time
	var group struct{ SGID string }
	c.call(t, m.client, "CreateSecurityGroup", cli.Params{"Name": "protocols", "Rule": []string{"ALL||any|ACCEPT|MEDIUM|0"}}, &group)
	settled := func() {
		t.Helper()
		if err := trial.WaitState(c.ctx, m.client, time.Minute, "DescribeSecurityGroup", "SGIDs", "Status", group.SGID, "Available"); err != nil {
			t.Fatal(err)
		}
	}
	c.call(t, m.client, "BindSecurityGroup", cli.Params{"ResourceID": m.id, "SGID": group.SGID, "NICType": "WAN"}, nil)
	open := map[string]bool{}
	for _, step := range []struct {
		rules []string
		opens string
	}{
		{nil, ""},
		{[]string{"FTP"}, "tcp:21"}, {[]string{"SSH"}, "tcp:22"}, {[]string{"HTTP", "HTTPS"}, "tcp:80 tcp:443"}, {[]string{"RDP"}, "tcp:3389"},
		{[]string{"OpenVPN"}, "udp:1194"}, {[]string{"PPTP"}, "tcp:1723 ip4:47"}, {[]string{"PING"}, "ping"}, {[]string{"TCP|8000-8005,9000", "UDP|5353"}, "tcp:8001 tcp:9000 udp:5353"},
		{[]string{"ALL TCP"}, "tcp:7"}, {[]string{"ALL UDP"}, "udp:7"},
	} {
		if step.rules != nil {
			var rules []string
			for _, r := range step.rules {
				if !strings.Contains(r, "|") {
					r += "|"
				}
				rules = append(rules, r+"|any|ACCEPT|MEDIUM|1")
			}
			settled()
			c.call(t, m.client, "CreateSecurityGroupRule", cli.Params{"SGID": group.SGID, "Rules": rules}, nil)
		}
		for _, what := range strings.Fields(step.opens) {
			open[what] = true
		}
		var want []string
		for _, what := range whats {
			if open[what] {
				want = append(want, what)
			}
		}
		until(t, c, 20*time.Second, fmt.Sprint("what is open with ", step.rules), func() error {
			if got := through(); got != strings.Join(want, " ") {
				return fmt.Errorf("%s is open, not %s", got, want)
			}
			return nil
		})
	}
	page := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	shut, other := c.serve(t, "outside", c.Options.OutsideAddress().String()+":0", page), c.serve(t, "outside", c.Options.OutsideAddress().String()+":0", page)
	_, port, _ := net.SplitHostPort(shut)
	if _, err := m.fetch(t, shut); err != nil {
		t.Errorf("before the rule: %v", err)
	}
	settled()
	c.call(t, m.client, "CreateSecurityGroupRule", cli.Params{"SGID": group.SGID, "Rules": []string{"TCP|" + port + "|any|DROP|HIGH|0"}}, nil)
	until(t, c, 20*time.Second, "a port that it may not ask", func() error {
		if _, err := m.fetch(t, shut); err == nil {
			return errors.New("it is answered")
		}
		return nil
	})
	if _, err := m.fetch(t, other); err != nil {
		t.Errorf("another port: %v", err)
	}
	c.call(t, m.client, "BindSecurityGroup", cli.Params{"ResourceID": m.id, "SGID": d.OuterGroup, "NICType": "WAN"}, nil)
	until(t, c, 20*time.Second, "the group's end", func() error {
		_, err := m.client.Call(c.ctx, "DeleteSecurityGroup", cli.Params{"SGID": group.SGID}, nil)
		return err
	})
}

// lab is a VPC beside the demo tenant's own.
type lab struct{ vpc, subnet string }

func (c *cloud) lab(t *testing.T) lab {
	t.Helper()
	var made struct{ VPCID, SubnetID string }
	c.call(t, c.demo, "CreateVPC", cli.Params{"Name": "lab", "Network": "192.168.0.0/16", "EnableGateway": true}, &made)
	if err := trial.WaitState(c.ctx, c.demo, time.Minute, "DescribeVPC", "VPCIDs", "State", made.VPCID, "Available"); err != nil {
		t.Fatal(err)
	}
	c.call(t, c.demo, "CreateSubnet", cli.Params{"Name": "lab", "VPCID": made.VPCID, "Network": "192.168.9.0/24"}, &made)
	if err := trial.WaitState(c.ctx, c.demo, time.Minute, "DescribeSubnet", "SubnetIDs", "State", made.SubnetID, "Available"); err != nil {
		t.Fatal(err)
	}
	return lab{made.VPCID, made.SubnetID}
}

func (l lab) remove(t *testing.T, c *cloud) {
	t.Helper()
	for _, call := range []struct{ name, key, id string }{{"DeleteSubnet", "SubnetID", l.subnet}, {"DeleteVPC", "VPCID", l.vpc}} {
		until(t, c, time.Minute, call.name, func() error {
			_, err := c.demo.Call(c.ctx, call.name, cli.Params{call.key: call.id}, nil)
			return err
		})
	}
}

// linked: two VPCs reach each other while they are linked.
func linked(t *testing.T, m, other *machine, l lab) {
	c := m.c
	d, err := c.Defaults(c.ctx, m.client)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(from, to *machine) error {
		out, err := from.fetch(t, to.ip)
		if err == nil && !strings.Contains(out, "id="+to.id+"\n") {
			err = errors.New("another guest answers")
		}
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}
	if fetch(m, other) == nil || fetch(other, m) == nil {
		t.Fatal("VPCs that are not linked reach each other")
	}
	gateway := func(on bool) {
		c.call(t, m.client, "UpdateVPCGateway", cli.Params{"VPCID": d.VPCID, "EnableGateway": on}, nil)
		if err := trial.WaitState(c.ctx, m.client, time.Minute, "DescribeVPC", "VPCIDs", "State", d.VPCID, "Available"); err != nil {
			t.Fatal(err)
		}
	}
	gateway(true)
	link := cli.Params{"VPCID": d.VPCID, "PeerType": "VPC", "PeerID": l.vpc}
	c.call(t, m.client, "AssociateVPCPeering", link, nil)
	until(t, c, 30*time.Second, "the other VPC", func() error { return errors.Join(fetch(m, other), fetch(other, m)) })
	c.call(t, m.client, "DissociateVPCPeering", link, nil)
	until(t, c, 30*time.Second, "the end of the link", func() error {
		if fetch(m, other) == nil || fetch(other, m) == nil {
			return errors.New("they reach each other")
		}
		return nil
	})
}
