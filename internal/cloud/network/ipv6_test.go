package network_test

import (
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestIPv6IsRefused: networks have IPv4 addresses only (docs/decisions/0070-edge.md), and every parameter that asks for
// another is refused with words that say so; none is passed over.
func TestIPv6IsRefused(t *testing.T) {
	c := start(t, nil, nil)
	vm := c.vm(t, nil)
	eip := func(more P) P {
		p := P{"Name": "web", "OperatorName": "Bgp", "ChargeType": "Month", "Bandwidth": 1}
		for k, v := range more {
			p[k] = v
		}
		return p
	}
	six := P{"IPVersion": "IPv6"}
	for _, r := range []struct {
		name string
		p    P
		code retcode.Code
		word string // of the message
	}{
		{"AllocateEIP", eip(six), retcode.InvalidParameter, "IPv6"},
		{"AllocateEIP", eip(P{"IP": "2001:db8::1"}), retcode.IPOutOfSegment, "2001:db8::1"},
		{"AllocateEIP", eip(P{"IP": "::ffff:172.16.0.9"}), retcode.IPOutOfSegment, "::ffff:172.16.0.9"},
		{"CreateNIC", outer("Month", 1, six), retcode.InvalidParameter, "IPv6"},
		{"CreateNIC", P{"Name": "nic", "VPCID": c.vpc, "SubnetID": c.subnet, "IPVersion": "IPv6"}, retcode.InvalidParameter, "IPv4"},
		{"CreateNIC", P{"Name": "nic", "VPCID": c.vpc, "SubnetID": c.subnet, "IP": "fd00::9"}, retcode.IPOutOfSegment, "fd00::9"},
		{"AllocateVIP", c.outerVIP("Month", 1, six), retcode.InvalidParameter, "IPv6"},
		{"AllocateVIP", P{"Name": "vip", "VIPType": "LAN", "VPCID": c.vpc, "SubnetID": c.subnet, "IPVersion": "IPv6"}, retcode.InvalidParameter, "IPv4"},
		{"CreateVMInstance", c.create(P{"OperatorName": "Bgp", "Bandwidth": 1, "IPVersion": "IPv6"}), retcode.InvalidParameter, "IPv6"},
		{"CreateVMInstance", c.create(six), retcode.InvalidParameter, "OperatorName"},
		{"CreateVMInstance", c.create(P{"InternalIP": "fd00::9"}), retcode.IPOutOfSegment, "fd00::9"},
		{"CreateVPC", P{"Name": "net", "Network": "fd00::/64"}, retcode.NotPrivateNetwork, "fd00::/64"},
		{"CreateSubnet", P{"Name": "sub", "VPCID": c.vpc, "Network": "fd00::/64"}, retcode.NotPrivateNetwork, "fd00::/64"},
		{"CreateSubnet", P{"Name": "sub", "VPCID": c.vpc, "Network": "10.0.7.0/24", "DNS": "fd00::1"}, retcode.InvalidParameter, "fd00::1"},
		{"CreateSubnetRoute", P{"SubnetID": c.subnet, "Destination": "fd00::/64", "NextHopType": "Custom", "NextHop": "10.0.0.9"}, retcode.InvalidParameter, "fd00::/64"},
		{"CreateSubnetRoute", P{"SubnetID": c.subnet, "Destination": "10.50.0.0/16", "NextHopType": "Custom", "NextHop": "fd00::9"}, retcode.InvalidParameter, "fd00::9"},
		{"CheckIPInuse", P{"SubnetID": c.subnet, "IP": "fd00::9"}, retcode.IPOutOfSegment, "fd00::9"},
		{"CheckIPInuse", P{"SegmentID": "Bgp", "IP": "2001:db8::1"}, retcode.IPOutOfSegment, "2001:db8::1"},
	} {
		if got := c.Demo.Refuse(t, r.code, r.name, r.p).String("Message"); !strings.Contains(got, r.word) {
			t.Errorf("%s %v: %q", r.name, r.p, got)
		}
	}
	c.Admin.Refuse(t, retcode.InvalidParameter, "CreateSegment", P{"Name": "six", "Segment": "2001:db8::/64", "Device": "ext6"})
	c.Demo.Must(t, "PoweroffVMInstance", P{"VMID": vm})
	c.vmState(t, vm, "Stopped")
	c.Demo.Refuse(t, retcode.IPOutOfSegment, "ReplaceIP", P{"ResourceID": vm, "IP": "fd00::9"})
	// Lists of what is not there are empty.
	if n := c.Demo.Must(t, "DescribeEIP", six).Int("TotalCount") + c.Demo.Must(t, "DescribeSegment", six).Int("TotalCount"); n != 0 {
		t.Errorf("%d rows of IPv6", n)
	}
}
