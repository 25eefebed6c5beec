package cli_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// TestInner runs the commands about VPCs and what is in them: subnets, routes, links, NICs, VIPs and groups.
func TestInner(t *testing.T) {
	dir := t.TempDir()
	controllertest.Start(t, controllertest.Options{Dir: dir})
	m := open(t)
	m.must("login", "--file", filepath.Join(dir, "demo.json"))
	says := func(want string, args ...string) {
		t.Helper()
		if out := m.must(args...); !strings.Contains(out, want) {
			t.Errorf("lingyun %s: %q is not in %s", strings.Join(args, " "), want, out)
		}
	}
	says("172.16.0.0/16", "vpc", "create", "lab", "172.16.0.0/16", "--gateway")
	says("172.16.1.0/24", "subnet", "create", "lab", "lab-net", "172.16.1.0/24", "--dns", "9.9.9.9")
	m.must("vpc", "gateway-on", "default")
	m.must("peering", "create", "default", "lab")
	says("lab", "peering", "list")
	m.must("peering", "delete", "lab", "default")
	m.must("vpc", "gateway-off", "lab")
	m.must("route", "create", "lab-net", "10.50.0.0/16", "Custom", "172.16.1.9")
	says("10.50.0.0/16", "route", "list", "lab-net")

	for _, name := range []string{"one", "two"} {
		m.must("vm", "create", name, "--image", "tiny", "--vpc", "default", "--subnet", "default")
	}
	says("Free", "nic", "create", "second", "--subnet", "lab-net", "--ip", "172.16.1.20")
	says("Bound", "nic", "attach", "second", "one")
	says("172.16.1.20", "subnet", "addresses", "lab-net")
	m.refused([]string{"6000"}, "nic", "delete", "second")
	says("Free", "nic", "detach", "second", "one")
	m.must("nic", "delete", "second")
	for _, vm := range []string{"one", "two"} {
		m.must("nic", "create", "outer-"+vm, "--segment", "Bgp", "--bandwidth", "3", "--charge", "Month")
		m.must("nic", "attach", "outer-"+vm, vm)
	}
	m.must("nic", "bandwidth", "outer-one", "8")
	if nic := m.object("nic", "show", "outer-one"); nic["Bandwidth"] != 8.0 || nic["NICStatus"] != "Bound" {
		t.Errorf("%v", nic)
	}

	says("10.0.0.100", "vip", "create", "default", "entry", "one", "two", "--ip", "10.0.0.100")
	m.must("vip", "bind", "entry", "two")
	if carriers := m.object("vip", "show", "entry")["AssociatedResourceInfos"].([]any); len(carriers) != 1 {
		t.Errorf("%v", carriers)
	}
	says("WAN", "vip", "create", "Bgp", "front", "one", "two", "--outer", "--charge", "Month", "--bandwidth", "5")
	m.must("vip", "bandwidth", "front", "9")
	if vip := m.object("vip", "show", "front"); vip["Bandwidth"] != 9.0 || vip["SegmentName"] != "Bgp" || len(vip["AssociatedResourceInfos"].([]any)) != 2 {
		t.Errorf("%v", vip)
	}
	m.refused([]string{"113"}, "vip", "bandwidth", "entry", "9")
	says("front", "vip", "list")
	m.must("vip", "release", "front", "entry")

	m.must("sg", "create", "closed", "--rule", "TCP|80|any|ACCEPT|LOW|1")
	m.must("sg", "add-rule", "closed", "TCP|22|any|ACCEPT|LOW|1")
	m.must("sg", "bind", "closed", "one")
	m.refused([]string{"16001"}, "sg", "delete", "closed")
	m.must("sg", "unbind", "closed", "one")
	m.must("sg", "delete", "closed")

	m.must("vm", "delete", "one", "two", "--destroy")
	m.must("nic", "delete", "outer-one", "outer-two")
	m.must("subnet", "delete", "lab-net")
	m.must("vpc", "delete", "lab")
	m.refused([]string{"lab"}, "vpc", "show", "lab")
}
