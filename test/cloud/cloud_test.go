// Package cloud proves the cloud on its real engines: one cloud of two hosts,
// each in namespaces of its own, with a few guests that live through the whole
// suite. Everything is asked of the public API; what it brought about is looked
// at from inside the guests and from outside the cloud.
package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/guest"
	"github.com/lingyun-cloud/lingyun/internal/trial"
)

const (
	password     = "Correct-Horse-9"
	secondSubnet = "10.0.1.0/24"
)

// cloud is the one under test.
type cloud struct {
	*trial.Trial
	ctx    context.Context
	admin  *cli.Client
	demo   *cli.Client
	other  *cli.Client // of a second tenant, whose VPC has the same CIDR
	file   string      // the tiny image
	image  string
	hosts  []string // ids
	subnet string   // second one of the demo tenant's VPC
}

func start(t *testing.T) *cloud {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"ovs-vswitchd", "ovn-northd", "libvirtd", "qemu-system-x86_64"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 18*time.Minute)
	t.Cleanup(cancel)
	cache := filepath.Join(root, ".cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	// One such cloud at a time on a machine: guests fill its cores.
	lock, err := os.OpenFile(filepath.Join(cache, "cloud.lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	dir, err := os.MkdirTemp("/var/lib", "lyc")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "lingyun")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/lingyun")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	image, err := guest.Tiny(ctx, guest.Options{Cache: filepath.Join(cache, "guest")})
	if err != nil {
		t.Fatal(err)
	}
	o := trial.Options{Dir: dir, Prefix: filepath.Base(dir), Hosts: 2, Binary: binary, Listen: "127.0.0.1:0", VirtType: "qemu"}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"controller", "host1-agent", "host2-agent"} {
				log, _ := os.ReadFile(filepath.Join(dir, "trial", "log", name+".log"))
				lines := strings.Split(string(log), "\n")
				var said []string
				for _, line := range lines {
					if !strings.Contains(line, "action=Describe") {
						said = append(said, line)
					}
				}
				t.Logf("end of %s's log:\n%s", name, strings.Join(said[max(0, len(said)-40):], "\n"))
			}
		}
		stop, done := context.WithTimeout(context.Background(), 2*time.Minute)
		defer done()
		if err := trial.Stop(stop, dir, true); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	began := time.Now()
	tr, _, err := trial.Start(ctx, o, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("two hosts after %.1f s", time.Since(began).Seconds())
	c := &cloud{Trial: tr, ctx: ctx, file: image.Path}
	if c.admin, err = tr.Options.Admin(); err != nil {
		t.Fatal(err)
	}
	if c.demo, err = tr.Options.Demo(); err != nil {
		t.Fatal(err)
	}
	if c.image, err = tr.ImportImage(ctx, "tiny", image); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		text, err := os.ReadFile(filepath.Join(dir, "trial", fmt.Sprintf("host%d", n), "agent", "agent.json"))
		if err != nil {
			t.Fatal(err)
		}
		var agent struct{ HostID string }
		if err := json.Unmarshal(text, &agent); err != nil {
			t.Fatal(err)
		}
		c.hosts = append(c.hosts, agent.HostID)
	}
	c.furnish(t)
	return c
}

// furnish makes a second subnet of the demo tenant, and a second tenant that can pay.
func (c *cloud) furnish(t *testing.T) {
	t.Helper()
	var made struct {
		CompanyID int64
		SubnetID  string
	}
	c.call(t, c.admin, "CreateUser", cli.Params{"UserEmail": "other@example.com", "PassWord": "Secret-123", "Name": "other"}, &made)
	c.call(t, c.admin, "Recharge", cli.Params{"CompanyID": made.CompanyID, "Amount": 1000, "FromType": "INPOUR_FROM_OFFLINE", "SerialNo": "1"}, nil)
	var tenants struct {
		Infos []struct {
			CompanyID             int64
			PublicKey, PrivateKey string
		}
	}
	c.call(t, c.admin, "DescribeUser", nil, &tenants)
	for _, i := range tenants.Infos {
		if i.CompanyID == made.CompanyID {
			c.other = &cli.Client{Profile: cli.Profile{Endpoint: c.demo.Endpoint, Region: c.demo.Region, PublicKey: i.PublicKey, PrivateKey: i.PrivateKey}, Language: "en"}
		}
	}
	if c.other == nil {
		t.Fatalf("the new tenant is not listed: %+v", tenants)
	}
	var vpcs struct {
		Infos []struct {
			VPCID     string
			IsDefault bool
		}
	}
	c.call(t, c.demo, "DescribeVPC", nil, &vpcs)
	if len(vpcs.Infos) == 0 {
		t.Fatal("the demo tenant has no VPC")
	}
	c.call(t, c.demo, "CreateSubnet", cli.Params{"Name": "second", "VPCID": vpcs.Infos[0].VPCID, "Network": secondSubnet}, &made)
	c.subnet = made.SubnetID
	until(t, c, time.Minute, "the second subnet", func() error {
		var subnets struct{ Infos []struct{ State string } }
		c.call(t, c.demo, "DescribeSubnet", cli.Params{"SubnetIDs": []string{c.subnet}}, &subnets)
		if len(subnets.Infos) != 1 || subnets.Infos[0].State != "Available" {
			return fmt.Errorf("%+v", subnets)
		}
		return nil
	})
}

// machine is one guest.
type machine struct {
	c        *cloud
	client   *cli.Client
	id       string
	others   []string // made by the same call
	host     int      // from 1
	password string   // of root
	ip       string
	eips     []eip
	via      *machine // who leads to it when it has no EIP
}

type eip struct{ id, ip string }

func (c *cloud) call(t *testing.T, client *cli.Client, name string, p cli.Params, out any) {
	t.Helper()
	if _, err := client.Call(c.ctx, name, p, out); err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, c *cloud, limit time.Duration, what string, f func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := f()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > limit || c.ctx.Err() != nil {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// create makes a guest on a host. Only an administrator chooses the host.
func (c *cloud) create(t *testing.T, client *cli.Client, name string, host int, more cli.Params) *machine {
	t.Helper()
	m := &machine{c: c, client: client, host: host, password: password}
	p := c.machine(t, client, name, host, more)
	until(t, c, time.Minute, "create "+name, func() error {
		var answer struct{ VMIDs []string }
		_, err := c.admin.Call(c.ctx, "CreateVMInstance", p, &answer)
		if len(answer.VMIDs) > 0 {
			m.id, m.others = answer.VMIDs[0], answer.VMIDs[1:]
		}
		var refusal *cli.Error
		if err != nil && (!errors.As(err, &refusal) || refusal.Code != 14003 && refusal.Code != 14004 && refusal.Code != 560 && refusal.Code != 15003) {
			t.Fatal(err)
		}
		return err
	})
	return m
}

// machine are the parameters of a guest on a host.
func (c *cloud) machine(t *testing.T, client *cli.Client, name string, host int, more cli.Params) cli.Params {
	t.Helper()
	d, err := c.Defaults(c.ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	var vpcs struct{ Infos []struct{ CompanyID int } }
	c.call(t, client, "DescribeVPC", cli.Params{}, &vpcs)
	p := cli.Params{"CompanyID": vpcs.Infos[0].CompanyID, "HostID": c.hosts[host-1], "Name": name, "Password": password, "ChargeType": "Dynamic",
		"VMType": d.VMType, "CPU": 1, "Memory": 1024, "BootDiskSetType": d.StorageType, "VPCID": d.VPCID, "SubnetID": d.SubnetID,
		"ImageID": c.image, "WANSGID": d.OuterGroup, "LANSGID": d.OuterGroup}
	maps.Copy(p, more)
	return p
}

// machines is how many a tenant has.
func (c *cloud) machines(t *testing.T, client *cli.Client) int {
	t.Helper()
	var list struct{ TotalCount int }
	c.call(t, client, "DescribeVMInstance", nil, &list)
	return list.TotalCount
}

// running waits until the API says so, and learns the inner address.
func (m *machine) running(t *testing.T) *machine {
	t.Helper()
	m.state(t, "Running")
	var list struct {
		Infos []struct{ IPInfos []struct{ IP, Type string } }
	}
	m.c.call(t, m.client, "DescribeVMInstance", cli.Params{"VMIDs": []string{m.id}}, &list)
	for _, i := range list.Infos[0].IPInfos {
		if i.Type == "Private" {
			m.ip = i.IP
		}
	}
	return m
}

func (m *machine) state(t *testing.T, state string) {
	t.Helper()
	if err := trial.WaitState(m.c.ctx, m.client, 3*time.Minute, "DescribeVMInstance", "VMIDs", "State", m.id, state); err != nil {
		t.Fatal(err)
	}
}

// address gives it one more EIP.
func (m *machine) address(t *testing.T) eip {
	t.Helper()
	var answer struct{ EIPID string }
	m.c.call(t, m.client, "AllocateEIP", cli.Params{"Name": "eip", "ChargeType": "Dynamic", "Bandwidth": 50, "OperatorName": "Bgp"}, &answer)
	m.c.call(t, m.client, "BindEIP", cli.Params{"ResourceType": "VM", "ResourceID": m.id, "EIPID": answer.EIPID}, nil)
	if err := trial.WaitState(m.c.ctx, m.client, time.Minute, "DescribeEIP", "EIPIDs", "Status", answer.EIPID, "Bound"); err != nil {
		t.Fatal(err)
	}
	var list struct{ Infos []struct{ IP string } }
	m.c.call(t, m.client, "DescribeEIP", cli.Params{"EIPIDs": []string{answer.EIPID}}, &list)
	e := eip{answer.EIPID, list.Infos[0].IP}
	m.eips = append(m.eips, e)
	return e
}

// page waits for its page on an address, seen from outside, and checks whose it is.
func (m *machine) page(t *testing.T, ip string, limit time.Duration) time.Duration {
	t.Helper()
	return until(t, m.c, limit, "the page on "+ip, func() error {
		body, err := m.c.Get(m.c.ctx, ip, "/")
		if err == nil && !strings.Contains(body, "id="+m.id+"\n") {
			t.Fatalf("%s answers with another guest's page:\n%s", ip, body)
		}
		return err
	})
}

// info is a field of the guest's own account of itself.
func (m *machine) info(t *testing.T, field string) string {
	t.Helper()
	var body string
	until(t, m.c, time.Minute, "info of "+m.id, func() (err error) {
		body, err = m.c.Get(m.c.ctx, m.eips[0].ip, "/cgi-bin/info")
		return err
	})
	for _, line := range strings.Split(body, "\n") {
		if v, ok := strings.CutPrefix(line, field+"="); ok {
			return v
		}
	}
	t.Fatalf("no %s in\n%s", field, body)
	return ""
}

func (m *machine) dial() (*ssh.Client, error) { return m.login(ssh.Password(m.password)) }

// login logs root in.
func (m *machine) login(by ssh.AuthMethod) (*ssh.Client, error) {
	config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{by}, Timeout: 20 * time.Second,
		HostKeyCallback: ssh.InsecureIgnoreHostKey()} // its key is made in the guest, nobody could know it
	var conn net.Conn
	var err error
	target := m.ip + ":22"
	if m.via != nil {
		jump, err := m.via.dial()
		if err != nil {
			return nil, err
		}
		if conn, err = jump.Dial("tcp", target); err != nil {
			jump.Close()
			return nil, err
		}
	} else {
		target = m.eips[0].ip + ":22"
		ctx, cancel := context.WithTimeout(m.c.ctx, 5*time.Second)
		defer cancel()
		if conn, err = m.c.Dial(ctx, target); err != nil {
			return nil, err
		}
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	sc, chans, reqs, err := ssh.NewClientConn(conn, target, config)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(sc, chans, reqs), nil
}

// run runs a command line in the guest and answers what it wrote; failures are the guest's to tell.
func (m *machine) run(t *testing.T, command string) (string, error) {
	t.Helper()
	var client *ssh.Client
	until(t, m.c, 2*time.Minute, "log in to "+m.id, func() (err error) { client, err = m.dial(); return err })
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.CombinedOutput(command)
	return string(out), err
}

func (m *machine) must(t *testing.T, command string) string {
	t.Helper()
	out, err := m.run(t, command)
	if err != nil {
		t.Errorf("in %s: %s: %v\n%s", m.id, command, err, out)
	}
	return out
}

// program runs a program of a host, or of another place of the trial, and answers its output.
func (c *cloud) onHost(t *testing.T, n int, argv ...string) string {
	t.Helper()
	cmd, err := c.HostCommand(c.ctx, n, argv...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("host%d: %v: %v\n%s", n, argv, err, out)
	}
	return string(out)
}

func (c *cloud) nb(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(c.ctx, "ovn-nbctl", append([]string{"--no-leader-only", "--timeout=10", "--db=" + c.Options.Northbound()}, argv...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ovn-nbctl %v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// traces are what guests and their networks leave behind: domains, volumes,
// plugged ports, northbound ports and NAT.
func (c *cloud) traces(t *testing.T) []string {
	t.Helper()
	var all []string
	add := func(kind, text string) {
		for _, line := range strings.Fields(text) {
			all = append(all, kind+" "+line)
		}
	}
	for n := 1; n <= 2; n++ {
		add(fmt.Sprintf("domain on host%d", n), c.onHost(t, n, "virsh", "--quiet", "list", "--all", "--name"))
		add(fmt.Sprintf("firmware's variables on host%d", n), c.onHost(t, n, "sh", "-c", "ls /var/lib/libvirt/qemu/nvram 2>/dev/null; true"))
		for _, dir := range []string{"volumes", "seeds"} {
			files, err := os.ReadDir(filepath.Join(c.Options.Dir, "trial", fmt.Sprintf("host%d", n), "agent", dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				add(fmt.Sprintf("%s on host%d", dir, n), f.Name())
			}
		}
		for _, line := range strings.Fields(c.onHost(t, n, "ovs-vsctl", "list-ports", "br-int")) {
			if !strings.HasPrefix(line, "ovn-") && !strings.HasPrefix(line, "patch-") {
				add(fmt.Sprintf("port on host%d", n), line)
			}
		}
	}
	for _, table := range []string{"NAT", "QoS", "Port_Group", "DHCP_Options", "Gateway_Chassis"} {
		add(table, c.nb(t, "--bare", "--columns=_uuid", "list", table))
	}
	// Ports of guests bear an address; ports of routers and segments are the networks' own.
	add("northbound port", c.nb(t, "--bare", "--columns=name", "find", "Logical_Switch_Port", `type=""`))
	slices.Sort(all)
	return all
}
