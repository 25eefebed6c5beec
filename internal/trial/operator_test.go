package trial

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/guest"
)

func TestMachineOptionsAreRefused(t *testing.T) {
	segment := netip.MustParsePrefix("198.51.100.0/24")
	a := netip.MustParseAddr
	good := Machine{Interface: "eth1", Gateway: a("198.51.100.1"), First: a("198.51.100.100"), Last: a("198.51.100.120"), Management: a("192.0.2.9")}
	if err := good.check(segment); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Machine)
		says   string
	}{
		"no gateway":          {func(m *Machine) { m.Gateway = netip.Addr{} }, "--external-gateway"},
		"no range":            {func(m *Machine) { m.First = netip.Addr{} }, "--external-range"},
		"gateway elsewhere":   {func(m *Machine) { m.Gateway = a("192.0.2.1") }, "outside"},
		"range elsewhere":     {func(m *Machine) { m.Last = a("198.51.101.1") }, "no range"},
		"range backwards":     {func(m *Machine) { m.Last = a("198.51.100.99") }, "no range"},
		"no management":       {func(m *Machine) { m.Management = netip.Addr{} }, "--management-address"},
		"management loopback": {func(m *Machine) { m.Management = a("127.0.0.1") }, "--management-address"},
		"management any":      {func(m *Machine) { m.Management = a("0.0.0.0") }, "--management-address"},
	} {
		m := good
		c.change(&m)
		if err := m.check(segment); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if err := good.check(netip.Prefix{}); err == nil || !strings.Contains(err.Error(), "--external-network") {
		t.Errorf("no network: %v", err)
	}
	if _, err := checkInterface("lo", true); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("lo: %v", err)
	}
	if _, err := checkInterface("no-such-nic", true); err == nil || !strings.Contains(err.Error(), "no interface") {
		t.Errorf("missing: %v", err)
	}
}

// furnishMachine makes what a fresh machine without systemd has, in its own mounts. Control groups and a /dev of
// each guest's own are what nested namespaces cannot give: this machine's administrator has turned them off.
const furnishMachine = `set -e
hostname machine
mount -t sysfs sysfs /sys
mkdir /tmp/.lingyun-machine.$$
mount -t tmpfs tmpfs /tmp/.lingyun-machine.$$
for d in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /var/log/openvswitch /var/log/ovn; do
  mkdir -p $d /tmp/.lingyun-machine.$$$d
  cp -a $d/. /tmp/.lingyun-machine.$$$d
  mount --bind /tmp/.lingyun-machine.$$$d $d
done
rm -rf /etc/libvirt/qemu/*.xml /var/lib/libvirt/qemu/*
mount -t tmpfs -o mode=755 tmpfs /run
printf 'cgroup_controllers = []\nnamespaces = []\nremember_owner = 0\n' > /etc/libvirt/qemu.conf
printf '127.0.0.1 localhost machine\n' > /run/hosts
mount --bind /run/hosts /etc/hosts
: > /run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf || true
if [ -e /dev/kvm ]; then
  mkdir /run/devices
  mount -t tmpfs -o mode=755 tmpfs /run/devices
  cp -a /dev/kvm /run/devices/kvm; chgrp kvm /run/devices/kvm; chmod 660 /run/devices/kvm
  mount --bind /run/devices/kvm /dev/kvm
fi
ip link set lo up
echo ready
exec sleep 1000
`

// A cloud on the machine itself, its external interface plugged into a provider's network.
func TestOperator(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"ovs-vswitchd", "ovn-northd", "libvirtd", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is not installed", program)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("/var/lib", "lyo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "lingyun")
	output(t, exec.CommandContext(ctx, "go", "build", "-o", binary, "../../cmd/lingyun"))
	data := filepath.Join(dir, "cloud")
	cache, err := filepath.Abs("../../.cache/guest") // where make keeps what it downloads
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guest.Tiny(ctx, guest.Options{Cache: cache}); err != nil {
		t.Fatal(err)
	}

	held := func(text string, flags ...string) string {
		cmd := exec.Command("unshare", append(flags, "sh", "-c", text)...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		if n, err := out.Read(make([]byte, 16)); n == 0 {
			t.Fatalf("namespace: %v", err)
		}
		return fmt.Sprint(cmd.Process.Pid)
	}
	provider := held("ip link set lo up; echo ready; exec sleep 1000", "--net")
	machine := held(furnishMachine, "--net", "--mount", "--uts", "--propagation", "private")
	t.Cleanup(func() { // its file system ended with it; the mount point is the machine's
		_ = os.Remove("/tmp/.lingyun-machine." + machine)
	})
	on := func(argv ...string) *exec.Cmd {
		return exec.CommandContext(ctx, "nsenter", append([]string{"-t", machine, "--net", "--mount", "--uts", "--"}, argv...)...)
	}
	outside := func(argv ...string) *exec.Cmd {
		return exec.CommandContext(ctx, "nsenter", append([]string{"-t", provider, "--net", "--"}, argv...)...)
	}
	for _, line := range []string{
		"ip link add ext0 type veth peer name uplink netns " + provider,
		"ip link add mgmt0 type veth peer name mgmt1", "ip link set mgmt1 up", "ip addr add 192.0.2.9/24 dev mgmt0", "ip link set mgmt0 up",
		"ip route add default via 192.0.2.1 dev mgmt0",
	} {
		output(t, on(strings.Fields(line)...))
	}
	for _, line := range []string{"ip addr add 198.51.100.1/24 dev uplink", "ip link set uplink up"} {
		output(t, outside(strings.Fields(line)...))
	}
	_ = outside("ethtool", "-K", "uplink", "tx", "off").Run()

	up := func(more ...string) ([]byte, error) {
		return on(append([]string{binary, "up", "--dir", data, "--install=false", "--image-cache", cache, "--virt-type", "qemu", "--listen", "127.0.0.1:8080",
			"--external-network", "198.51.100.0/24", "--external-gateway", "198.51.100.1", "--external-range", "198.51.100.100-198.51.100.110"}, more...)...).CombinedOutput()
	}
	// The kernel tells of a carrier a moment after both ends are up.
	before := machineNow(t, on)
	for deadline := time.Now().Add(10 * time.Second); strings.Contains(before, "NO-CARRIER"); before = machineNow(t, on) {
		if time.Now().After(deadline) {
			t.Fatalf("the machine's interfaces have no carrier:\n%s", before)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if out, err := up("--external-interface", "mgmt0"); err == nil || !strings.Contains(string(out), "default route") {
		t.Errorf("an interface with the default route: %v %s", err, out)
	}
	if after := machineNow(t, on); after != before {
		t.Errorf("a refusal changed the machine:\n%s\nwas\n%s", after, before)
	}

	t.Cleanup(func() { _ = on(binary, "down", "--dir", data, "--purge").Run() })
	// Without a default route nothing leads from the machine to the provider's network.
	output(t, on("ip", "route", "del", "default"))
	before = machineNow(t, on)
	began := time.Now()
	out, err := up("--management-address", "192.0.2.9", "--external-interface", "ext0")
	if err != nil {
		t.Fatalf("up: %v\n%s", err, out)
	}
	t.Logf("up after %.0f s:\n%s", time.Since(began).Seconds(), out)
	if !strings.Contains(string(out), "no route to") {
		t.Error("up does not say that this machine cannot see the page")
	}
	var ip string
	for _, word := range strings.Fields(string(out)) {
		if i := strings.Index(word, "198.51.100.1"); i >= 0 && ip == "" {
			ip = strings.Trim(strings.TrimPrefix(word, "http://"), "/:;,()")
		}
	}
	if a, err := netip.ParseAddr(ip); err != nil || a.Less(netip.MustParseAddr("198.51.100.100")) || netip.MustParseAddr("198.51.100.110").Less(a) {
		t.Fatalf("the first EIP %q is not of the range", ip)
	}
	if err := until(ctx, 2*time.Minute, func() error {
		page, err := outside("curl", "-sS", "--max-time", "3", "http://"+ip+"/").CombinedOutput()
		if err == nil && !strings.Contains(string(page), "<title>vm-") {
			err = fmt.Errorf("it shows %q", page)
		}
		return err
	}); err != nil {
		t.Fatalf("the page on %s from the provider's network: %v", ip, err)
	}
	t.Logf("the page answers after %.0f s", time.Since(began).Seconds())

	running := machineNow(t, on)
	for _, part := range []string{"br-ex", "br-int", "ovs-vswitchd", "qemu-system"} {
		if !strings.Contains(running, part) || strings.Contains(before, part) {
			t.Errorf("%s does not show while the cloud is up, or did before", part)
		}
	}
	if out, err := up("--management-address", "192.0.2.9", "--external-interface", "ext0"); err != nil || !strings.Contains(string(out), "nothing was changed") {
		t.Errorf("second up: %v\n%s", err, out)
	}
	if again := machineNow(t, on); again != running {
		t.Errorf("a second up changed the machine:\n%s\nwas\n%s", again, running)
	}

	output(t, on(binary, "down", "--dir", data, "--purge"))
	if after := machineNow(t, on); after != before {
		t.Errorf("after down:\n%s\nwas\n%s", after, before)
	}
	if _, err := os.Stat(data); err == nil {
		t.Errorf("%s is left", data)
	}

	// The machine's only interface, with its address and default route.
	for _, line := range []string{"ip addr add 198.51.100.9/24 dev ext0", "ip link set ext0 up", "ip route add default via 198.51.100.1 dev ext0"} {
		output(t, on(strings.Fields(line)...))
	}
	before = machineNow(t, on)
	// An API that cannot answer: everything is put back, before anybody asks for it.
	if out, err := up("--external-interface", "ext0", "--force", "--listen", "203.0.113.250:8080"); err == nil || !strings.Contains(string(out), "are back on ext0") {
		t.Errorf("an API that cannot answer: %v\n%s", err, out)
	}
	if now := output(t, on("ip", "route")); !strings.Contains(now, "default via 198.51.100.1 dev ext0") {
		t.Errorf("the default route is not back on ext0:\n%s", now)
	}
	output(t, on(binary, "down", "--dir", data, "--purge"))
	if after := machineNow(t, on); after != before {
		t.Errorf("after an API that cannot answer:\n%s\nwas\n%s", after, before)
	}
	out, err = up("--external-interface", "ext0", "--force")
	if err != nil || !strings.Contains(string(out), "waiting until its page answers") || strings.Contains(string(out), "does not answer") {
		t.Errorf("up by force: %v\n%s", err, out)
	}
	if now := output(t, on("ip", "route")); !strings.Contains(now, "default via 198.51.100.1 dev br-ex") {
		t.Errorf("the default route is not on br-ex:\n%s", now)
	}
	output(t, outside("ping", "-c1", "-W5", "198.51.100.9"))
	// Its supervisor is killed: down finds in its state file what to put back.
	trial, err := Open(ctx, data)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(trial.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	output(t, on(binary, "down", "--dir", data, "--purge"))
	if after := machineNow(t, on); after != before {
		t.Errorf("after down by force:\n%s\nwas\n%s", after, before)
	}
}

// machineNow lists the machine's links, addresses, routes, mounts and the engines' processes.
func machineNow(t *testing.T, on func(...string) *exec.Cmd) string {
	t.Helper()
	return output(t, on("sh", "-c", `ip -o link | sed 's/@[^:]*//; s/qlen.*//' | cut -d' ' -f2,3; ip -o addr | awk '$4 !~ /^fe80/ {print $2, $4}'
ip route; cat /proc/self/mountinfo | cut -d' ' -f5-
for p in /proc/[0-9]*; do
  [ "$(readlink $p/ns/net)" = "$(readlink /proc/self/ns/net)" ] || continue
  case "$(cat $p/comm 2>/dev/null)" in ov*|libvirtd|virtlogd|lingyun|qemu*) cat $p/comm; esac
done | sort`))
}
