package cloud

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// ethernetIPv4 is ETH_P_IP (0x0800) in network byte order, as packet sockets want it.
const ethernetIPv4 = 0x0008

// TestCloud is one story: later parts use the guests of earlier ones.
func TestCloud(t *testing.T) {
	c := start(t)
	var before []string
	// Each host tries once whether guests can have SPICE, with a domain that lives for a moment: no guest's trace, and gone at the end.
	until(t, c, time.Minute, "hosts without domains", func() error {
		before = c.traces(t)
		if i := slices.IndexFunc(before, func(trace string) bool { return strings.HasPrefix(trace, "domain ") }); i >= 0 {
			return errors.New(before[i])
		}
		return nil
	})

	// Two at a time: each guest fills a core while it boots, and a host has no room for more than it has cores.
	a, twin := twins(t, c)
	unused := a.ticket(t)
	t.Run("a machine comes back from the bin", func(t *testing.T) { comeback(t, twin, a) })
	twin.destroy(t)
	t.Run("machines", func(t *testing.T) { machines(t, c, a) })
	given := a.ip[:strings.LastIndex(a.ip, ".")] + ".88"
	b := c.create(t, c.demo, "b", 2, cli.Params{"InternalIP": given})
	if b.running(t); b.ip != given {
		t.Errorf("it was given %s and has %s", given, b.ip)
	}
	b.address(t)
	t.Logf("a: page after %.1f s of its EIP", a.page(t, a.eips[0].ip, 2*time.Minute).Seconds())
	b.page(t, b.eips[0].ip, 2*time.Minute)

	t.Run("disks of a new machine", func(t *testing.T) { machineDisks(t, c, c.hostsDisks(t), b) })

	// The third has no EIP, lives in another subnet and has an inner group that shuts a port; the fourth is another tenant's,
	// with a group that opens port 80 only, tells on its page whom it reaches, and does not stop when it is asked to.
	var shut, group struct{ SGID string }
	c.call(t, c.demo, "CreateSecurityGroup", cli.Params{"Name": "shut", "Rule": []string{"TCP|81|any|DROP|HIGH|1", "ALL||any|ACCEPT|LOW|1", "ALL||any|ACCEPT|LOW|0"}}, &shut)
	c.call(t, c.other, "CreateSecurityGroup", cli.Params{"Name": "web", "Rule": []string{"TCP|80|0.0.0.0/0|ACCEPT|HIGH|1", "ALL||any|ACCEPT|MEDIUM|0"}}, &group)
	script := fmt.Sprintf("#!/bin/sh\nprintf '#!/bin/sh\\n' >/sbin/shutdown\nwhile :; do r=no; ping -c1 -W2 %s >/dev/null 2>&1 && r=yes; echo \"reaches=$r\" >/www/reaches.new; mv /www/reaches.new /www/reaches; sleep 1; done\n", b.ip)
	inner, other := c.create(t, c.demo, "inner", 1, cli.Params{"SubnetID": c.subnet, "LANSGID": shut.SGID}),
		c.permitted(t, "other", 2, cli.Params{"WANSGID": group.SGID, "UserData": base64.StdEncoding.EncodeToString([]byte(script))})
	inner.running(t)
	inner.via = a
	other.running(t)
	other.address(t)
	other.page(t, other.eips[0].ip, 2*time.Minute)

	t.Run("disks", func(t *testing.T) { disks(t, c, c.hostsDisks(t), a, inner, b) })
	t.Run("address by DHCP", func(t *testing.T) {
		for _, m := range []*machine{a, b, inner} {
			out := m.must(t, "ip -o -4 addr show dev eth0; ip route")
			if !strings.Contains(out, " "+m.ip+"/24 ") || !strings.Contains(out, "default via "+m.ip[:strings.LastIndex(m.ip, ".")]+".1 ") {
				t.Errorf("%s should have %s by DHCP:\n%s", m.id, m.ip, out)
			}
		}
	})
	t.Run("ping across hosts and subnets", func(t *testing.T) {
		a.must(t, "ping -c3 -W3 "+b.ip)
		a.must(t, "ping -c3 -W3 "+inner.ip)
		b.must(t, "ping -c3 -W3 "+inner.ip)
		inner.must(t, "ping -c3 -W3 "+b.ip)
	})
	t.Run("two VPCs of the same CIDR", func(t *testing.T) {
		if other.ip != a.ip {
			t.Fatalf("the other tenant's guest has %s, not %s as the first of ours", other.ip, a.ip)
		}
		if out := b.must(t, "timeout 10 wget -qO- http://"+a.ip+"/"); !strings.Contains(out, "id="+a.id+"\n") {
			t.Errorf("%s is, for its own VPC, not its own guest:\n%s", a.ip, out)
		}
		until(t, c, 30*time.Second, "the other guest's script", func() error {
			_, err := c.Get(c.ctx, other.eips[0].ip, "/reaches")
			return err
		})
		if body, err := c.Get(c.ctx, other.eips[0].ip, "/reaches"); err != nil || body != "reaches=no\n" {
			t.Errorf("the other tenant's guest says of %s: %q %v", b.ip, body, err)
		}
	})
	t.Run("three EIPs on a host that is not the gateway", func(t *testing.T) {
		m := a
		if c.gatewayHost(t, a) == 1 {
			m = b
		}
		for len(m.eips) < 3 {
			m.address(t)
		}
		for _, e := range m.eips {
			m.page(t, e.ip, 30*time.Second)
			for range 3 {
				if _, err := c.Get(c.ctx, e.ip, "/"); err != nil {
					t.Errorf("%s: %v", e.ip, err)
				}
			}
		}
	})
	t.Run("without an EIP nothing gets out", func(t *testing.T) {
		outside := c.Options.OutsideAddress().String()
		heard := c.capture(t, func() {
			_, _ = inner.run(t, "ping -c3 -W1 "+outside)
			a.must(t, "ping -c3 -W3 "+outside)
		})
		if !heard[a.eips[0].ip] {
			t.Errorf("the guest with an EIP was not heard outside: %v", heard)
		}
		for source := range heard {
			if strings.HasPrefix(source, "10.") {
				t.Errorf("a private address left the cloud: %s", source)
			}
		}
	})
	t.Run("a route to the VPC leads nowhere", func(t *testing.T) {
		router := c.routerAddress(t, a)
		out, err := c.Command(c.ctx, "outside", "ip", "route", "add", "10.0.0.0/16", "via", router).CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		defer func() { _ = c.Command(c.ctx, "outside", "ip", "route", "del", "10.0.0.0/16").Run() }()
		for _, m := range []*machine{a, inner} {
			if body, err := c.Get(c.ctx, m.ip, "/"); err == nil {
				t.Errorf("%s answers outside on its private address:\n%s", m.ip, body)
			}
		}
	})
	t.Run("a group opens port 80 and not 22", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
		defer cancel()
		if conn, err := c.Dial(ctx, other.eips[0].ip+":22"); err == nil {
			conn.Close()
			t.Error("port 22 is open")
		}
		other.page(t, other.eips[0].ip, 10*time.Second)
	})
	t.Run("an inner group shuts a port", func(t *testing.T) {
		inner.must(t, "httpd -p 81 -h /www; httpd -p 82 -h /www")
		until(t, c, 20*time.Second, "an open port", func() error { _, err := a.fetch(t, inner.ip+":82"); return err })
		if out, err := a.fetch(t, inner.ip+":81"); err == nil {
			t.Errorf("the port is open:\n%s", out)
		}
		inner.must(t, "wget -qO- http://"+inner.ip+":81/ >/dev/null")
	})
	t.Run("an established connection survives a rule", func(t *testing.T) { established(t, c, b) })
	t.Run("spoofing reaches nobody", func(t *testing.T) { spoofing(t, a, b) })
	t.Run("guests survive the agent and the controller", func(t *testing.T) {
		boot := b.info(t, "boot_id")
		for _, name := range []string{"host2/agent", "controller"} {
			if err := c.Process(c.ctx, name, "kill"); err != nil {
				t.Fatal(err)
			}
		}
		b.page(t, b.eips[0].ip, 5*time.Second)
		until(t, c, time.Minute, "the controller", func() error {
			_, err := c.demo.Call(c.ctx, "DescribeVMInstance", cli.Params{}, nil)
			return err
		})
		if now := b.info(t, "boot_id"); now != boot {
			t.Error("the guest was booted anew")
		}
		b.state(t, "Running")
	})
	t.Run("restart, stop, power off, start", func(t *testing.T) {
		boot := a.info(t, "boot_id")
		c.call(t, c.demo, "RestartVMInstance", cli.Params{"VMID": a.id}, nil)
		until(t, c, 2*time.Minute, "a restarted guest", func() error {
			if a.info(t, "boot_id") == boot {
				return fmt.Errorf("it is the same boot")
			}
			return nil
		})
		a.state(t, "Running")
		for _, verb := range []string{"StopVMInstance", "PoweroffVMInstance"} {
			c.call(t, c.demo, verb, cli.Params{"VMID": a.id}, nil)
			a.state(t, "Stopped")
			if _, err := c.Get(c.ctx, a.eips[0].ip, "/"); err == nil {
				t.Errorf("after %s its page answers", verb)
			}
			c.call(t, c.demo, "StartVMInstance", cli.Params{"VMID": a.id}, nil)
			a.state(t, "Running")
			a.page(t, a.eips[0].ip, 2*time.Minute)
		}
	})
	c.call(t, c.other, "StopVMInstance", cli.Params{"VMID": other.id}, nil)
	t.Run("networks", func(t *testing.T) { networks(t, c, a, b, inner) })
	t.Run("a guest that does not stop is cut off", func(t *testing.T) {
		other.state(t, "Stopped")
		if log := other.log(t); !strings.Contains(log, "GUEST-READY") || strings.Contains(log, "GUEST-POWEROFF") {
			t.Errorf("it did as it was asked:\n%s", log)
		}
	})
	t.Run("EIPs survive the gateway's host", func(t *testing.T) {
		gateway := c.gatewayHost(t, a)
		m := a
		if gateway == 1 {
			m = b
		}
		names, err := c.HostProcesses(c.ctx, gateway)
		if err != nil {
			t.Fatal(err)
		}
		keep := fmt.Sprintf("host%d/libvirtd", gateway) // what holds the host's mounts in the test's reach
		for _, name := range names {
			if name != keep && !strings.HasSuffix(name, "/virtlogd") {
				if err := c.Process(c.ctx, name, "end"); err != nil {
					t.Fatal(err)
				}
			}
		}
		moved := m.page(t, m.eips[0].ip, 2*time.Minute)
		until(t, c, 2*time.Minute, "another gateway", func() error {
			if c.gatewayHost(t, m) == gateway {
				return fmt.Errorf("host%d is still the gateway", gateway)
			}
			return nil
		})
		moved += m.page(t, m.eips[0].ip, time.Minute)
		t.Logf("page of a guest on the other host again after %.1f s", moved.Seconds())
		for _, name := range names {
			if err := c.Process(c.ctx, name, "start"); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range []*machine{a, b} {
			m.page(t, m.eips[0].ip, 2*time.Minute)
		}
	})
	t.Run("a console that nobody opened has ended", func(t *testing.T) { unused.over(t, c) })
	t.Run("nothing is left", func(t *testing.T) {
		for _, m := range []*machine{a, b, inner, other} {
			for _, e := range m.eips {
				c.call(t, m.client, "UnBindEIP", cli.Params{"ResourceType": "VM", "ResourceID": m.id, "EIPID": e.id}, nil)
				until(t, c, time.Minute, "unbind", func() error {
					_, err := m.client.Call(c.ctx, "ReleaseEIP", cli.Params{"EIPID": e.id}, nil)
					return err
				})
			}
			// A host that was away is in use again after its next health call.
			until(t, c, time.Minute, "power off", func() error {
				if m == other {
					return nil // it was cut off
				}
				_, err := m.client.Call(c.ctx, "PoweroffVMInstance", cli.Params{"VMID": m.id}, nil)
				return err
			})
			m.state(t, "Stopped")
			c.call(t, m.client, "DeleteVMInstance", cli.Params{"VMID": m.id}, nil)
		}
		for _, client := range []*cli.Client{c.demo, c.other} {
			c.emptyBin(t, client)
		}
		var after []string
		until(t, c, time.Minute, "traces gone", func() error {
			if after = c.traces(t); !slices.Equal(before, after) {
				return fmt.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			return nil
		})
	})
}

// twins are two machines of one call, each of its own; as many as there is no room for are none.
func twins(t *testing.T, c *cloud) (a, b *machine) {
	t.Helper()
	a = c.create(t, c.demo, "a", 1, cli.Params{"Count": 2})
	if len(a.others) != 1 {
		t.Fatalf("made beside it are %v", a.others)
	}
	if runtime.NumCPU() < 10 {
		refuse(t, c, c.admin, retcode.HostCPUInsufficient, "CreateVMInstance", c.machine(t, c.demo, "many", 2, cli.Params{"Count": 10}))
		if n := c.machines(t, c.demo); n != 2 {
			t.Errorf("%d machines are there after too many were refused", n)
		}
	}
	b = &machine{c: c, client: c.demo, id: a.others[0], host: 1, password: password}
	a.running(t)
	a.address(t)
	b.running(t)
	b.via = a
	for _, m := range []*machine{a, b} {
		if out := m.must(t, "cat /run/instance-id"); out != m.id+"\n" {
			t.Errorf("%s says that it is %s", m.id, out)
		}
	}
	return a, b
}

// comeback: what a machine was is there again after it was thrown away.
func comeback(t *testing.T, m, beside *machine) {
	m.must(t, "echo kept >/state/mark && sync")
	m.end(t)
	until(t, m.c, time.Minute, "the machine in the bin", func() error {
		_, err := m.client.Call(m.c.ctx, "RollbackResource", cli.Params{"ResourceID": m.id}, nil)
		return err
	})
	m.state(t, "Stopped")
	m.start(t)
	m.running(t)
	if out := m.must(t, "cat /state/mark /run/instance-id; ip -o -4 addr show dev eth0"); !strings.HasPrefix(out, "kept\n"+m.id+"\n") || !strings.Contains(out, " "+m.ip+"/24 ") {
		t.Errorf("it says\n%s", out)
	}
	if out, err := beside.fetch(t, m.ip); err != nil || !strings.Contains(out, "id="+m.id+"\n") {
		t.Errorf("its page: %v\n%s", err, out)
	}
	m.off(t)
}

// permitted makes a guest of the second tenant, who may not use the image before the administrator lets it.
func (c *cloud) permitted(t *testing.T, name string, host int, more cli.Params) *machine {
	t.Helper()
	demo, other := c.company(t, c.demo), c.company(t, c.other)
	may := func(mode, who string) {
		c.call(t, c.admin, "UpdateResourcePermission", cli.Params{"ResourceID": c.image, "ResourceType": "BASE_IMAGE", "PermissionMode": mode, "Permission": who}, nil)
	}
	may("whitelist", fmt.Sprint(demo))
	refuse(t, c, c.admin, retcode.ImageNotFound, "CreateVMInstance", c.machine(t, c.other, name, host, more))
	may("whitelist", fmt.Sprintf("%d,%d", demo, other))
	m := c.create(t, c.other, name, host, more)
	may("all", "")
	return m
}

// emptyBin ends what a tenant threw away, machines and all.
func (c *cloud) emptyBin(t *testing.T, client *cli.Client) {
	t.Helper()
	until(t, c, 2*time.Minute, "an empty bin", func() error {
		var bin struct {
			Infos []struct{ ResourceID, ResourceId, ID string }
		}
		if _, err := client.Call(c.ctx, "DescribeRecycledResource", cli.Params{"Limit": 100}, &bin); err != nil {
			return err
		}
		for _, r := range bin.Infos {
			id := r.ResourceID + r.ResourceId + r.ID
			_, _ = client.Call(c.ctx, "TerminateResource", cli.Params{"ResourceID": id}, nil)
		}
		var list struct{ Infos []struct{ VMID string } }
		if _, err := client.Call(c.ctx, "DescribeVMInstance", cli.Params{}, &list); err != nil {
			return err
		}
		if n := len(bin.Infos) + len(list.Infos); n > 0 {
			return fmt.Errorf("%d things are there", n)
		}
		return nil
	})
}

// gatewayHost is the host (from 1) that carries the gateway of a guest's VPC: the
// chassis that its router's port is bound to.
func (c *cloud) gatewayHost(t *testing.T, m *machine) int {
	t.Helper()
	sb := func(argv ...string) string {
		out, err := exec.CommandContext(c.ctx, "ovn-sbctl", append([]string{"--no-leader-only", "--timeout=10", "--bare", "--db=" + c.Options.Southbound()}, argv...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ovn-sbctl %v: %v\n%s", argv, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	router := c.routerPort(t, m)
	chassis := sb("--columns=chassis", "find", "Port_Binding", "logical_port=cr-"+router)
	if chassis == "" {
		return 0
	}
	return slices.Index(c.hosts, sb("--columns=name", "list", "Chassis", chassis)) + 1
}

// routerPort is the name of the router's port on the segment, of the VPC of a guest with an EIP.
func (c *cloud) routerPort(t *testing.T, m *machine) string {
	t.Helper()
	nat := strings.Fields(c.nb(t, "--bare", "--columns=_uuid", "find", "NAT", "external_ip="+m.eips[0].ip))
	if len(nat) == 0 {
		t.Fatalf("no NAT of %s", m.eips[0].ip)
	}
	for _, router := range strings.Fields(c.nb(t, "--bare", "--columns=_uuid", "list", "Logical_Router")) {
		if !strings.Contains(c.nb(t, "--bare", "--columns=nat", "list", "Logical_Router", router), nat[0]) {
			continue
		}
		for _, port := range strings.Fields(c.nb(t, "--bare", "--columns=ports", "list", "Logical_Router", router)) {
			if strings.Contains(c.nb(t, "--bare", "--columns=networks", "list", "Logical_Router_Port", port), prefixOf(c)) {
				return strings.TrimSpace(c.nb(t, "--bare", "--columns=name", "list", "Logical_Router_Port", port))
			}
		}
	}
	t.Fatalf("no router has the NAT of %s", m.eips[0].ip)
	return ""
}

// prefixOf is how addresses of the segment begin.
func prefixOf(c *cloud) string {
	a := c.Options.OutsideAddress().String()
	return a[:strings.LastIndex(a, ".")+1]
}

func (c *cloud) routerAddress(t *testing.T, m *machine) string {
	t.Helper()
	address, _, _ := strings.Cut(strings.TrimSpace(c.nb(t, "--bare", "get", "Logical_Router_Port", c.routerPort(t, m), "networks")), "/")
	return strings.Trim(address, `["`)
}

// capture listens outside the cloud while f runs, and answers the IPv4 sources heard.
func (c *cloud) capture(t *testing.T, f func()) map[string]bool {
	t.Helper()
	var fd int
	err := c.Inside("outside", func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, ethernetIPv4)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	heard := map[string]bool{}
	stop, done := make(chan struct{}), make(chan struct{})
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		packet := make([]byte, 2048)
		for {
			if n, _, err := unix.Recvfrom(fd, packet, 0); err == nil && n >= 20 {
				heard[net.IP(packet[12:16]).String()] = true
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	f()
	close(stop)
	<-done
	unix.Close(fd)
	return heard
}

// established: what is open when a rule closes the door stays open, and nothing new gets in.
func established(t *testing.T, c *cloud, m *machine) {
	const port = "7777"
	var group struct{ SGID string }
	d, err := c.Defaults(c.ctx, m.client)
	if err != nil {
		t.Fatal(err)
	}
	group.SGID = d.OuterGroup
	c.call(t, m.client, "CreateSecurityGroupRule", cli.Params{"SGID": group.SGID, "Rules": []string{"TCP|" + port + "|0.0.0.0/0|ACCEPT|LOW|1"}}, nil)
	m.must(t, "setsid nc -ll -p "+port+" -e cat </dev/null >/dev/null 2>&1 &")
	address := m.eips[0].ip + ":" + port
	dial := func() (net.Conn, error) {
		ctx, cancel := context.WithTimeout(c.ctx, 3*time.Second)
		defer cancel()
		return c.Dial(ctx, address)
	}
	var open net.Conn
	until(t, c, 30*time.Second, "the open port", func() (err error) { open, err = dial(); return err })
	defer open.Close()
	echo := func(text string) error {
		_ = open.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := open.Write([]byte(text)); err != nil {
			return err
		}
		got := make([]byte, len(text))
		if _, err := open.Read(got); err != nil || string(got) != text {
			return fmt.Errorf("%q came back, %v", got, err)
		}
		return nil
	}
	if err := echo("before"); err != nil {
		t.Fatal(err)
	}
	c.call(t, m.client, "CreateSecurityGroupRule", cli.Params{"SGID": group.SGID, "Rules": []string{"TCP|" + port + "|" + c.Options.OutsideAddress().String() + "/32|DROP|HIGH|1"}}, nil)
	until(t, c, 30*time.Second, "the closed port", func() error {
		conn, err := dial()
		if err != nil {
			return nil
		}
		conn.Close()
		return fmt.Errorf("a new connection gets in")
	})
	for i := range 5 {
		if err := echo(fmt.Sprintf("after %d", i)); err != nil {
			t.Fatalf("the open connection: %v", err)
		}
	}
}

// spoofing: a guest that claims other addresses is heard by nobody.
func spoofing(t *testing.T, liar, victim *machine) {
	gateway := victim.ip[:strings.LastIndex(victim.ip, ".")] + ".1"
	neighbour := func() string {
		return strings.TrimSpace(victim.must(t, "ping -c1 -W2 "+gateway+" >/dev/null; ip neigh show "+gateway+" | sed 's/.*lladdr \\([^ ]*\\).*/\\1/'"))
	}
	before := neighbour()
	if before == "" {
		t.Fatal("the victim does not know its gateway")
	}
	// ARP: the liar says that it is the gateway.
	_, _ = liar.run(t, "arping -q -c5 -U -I eth0 -s "+gateway+" "+gateway+"; arping -q -c5 -A -I eth0 -s "+gateway+" "+victim.ip)
	if now := neighbour(); now != before {
		t.Errorf("the gateway of the victim was %s and is %s", before, now)
	}
	// Address: it sends from one that is not its own.
	stolen := victim.ip[:strings.LastIndex(victim.ip, ".")] + ".77"
	out, _ := liar.run(t, "ip addr add "+stolen+"/32 dev eth0; ping -c3 -W1 -I "+stolen+" "+victim.ip+"; ip addr del "+stolen+"/32 dev eth0")
	if !strings.Contains(out, " 0 packets received") {
		t.Errorf("a stolen address is answered:\n%s", out)
	}
	// Ethernet: it sends with another card's address.
	out, _ = liar.run(t, "m=$(cat /sys/class/net/eth0/address); (ip link set eth0 address 02:00:00:00:00:77; ping -c3 -W1 "+victim.ip+" >/run/spoof 2>&1; ip link set eth0 address $m); cat /run/spoof")
	if strings.Contains(out, " bytes from ") {
		t.Errorf("a stolen Ethernet address is answered:\n%s", out)
	}
	// DHCP: it serves leases; the victim asks again and hears OVN only.
	liar.must(t, "mkdir -p /var/lib/misc; : >/var/lib/misc/udhcpd.leases; printf 'start 10.0.0.200\\nend 10.0.0.210\\ninterface eth0\\noption router 10.0.0.200\\n' >/run/udhcpd.conf; setsid udhcpd -f /run/udhcpd.conf </dev/null >/dev/null 2>&1 & sleep 1")
	victim.must(t, "printf '#!/bin/sh\\n[ \"$1\" = bound ] && echo \"$serverid $router\" >/run/offer\\nexit 0\\n' >/run/ask; chmod +x /run/ask; rm -f /run/offer; udhcpc -f -q -n -t 5 -T 1 -i eth0 -s /run/ask >/dev/null 2>&1")
	if offer := strings.TrimSpace(victim.must(t, "cat /run/offer")); strings.Contains(offer, liar.ip) || !strings.HasSuffix(offer, gateway) {
		t.Errorf("the victim's offer (server, router) is %q", offer)
	}
	_, _ = liar.run(t, "killall udhcpd")
}
