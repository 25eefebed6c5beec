package fabric

import (
	"fmt"
	"net/netip"
)

func cidr(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr   { return netip.MustParseAddr(s) }

var (
	bgp     = Segment{ID: "Bgp", CIDR: cidr("172.20.0.0/24"), Network: "ext"}
	telecom = Segment{ID: "Telecom", CIDR: cidr("172.21.0.0/24"), VLAN: 100, Network: "ext"}
)

// outerNIC is an interface on a segment with a group.
var outerNIC = OuterPort{ID: "nic-outer", UUID: rowID("nic-outer", "interface"), SegmentID: "Bgp", CIDR: bgp.CIDR, MAC: "52:54:00:00:09:01", IP: addr("172.20.0.77"),
	Server: addr("172.20.0.1"), Filtered: true, Group: "sg-web", InMbps: 20, OutMbps: 20, Rules: []Rule{
		{ID: "sg_rule-web", Ingress: true, Protocol: TCP, Ports: []PortRange{{80, 80}}, Accept: true, Priority: Medium},
		{ID: "sg_rule-out", Protocol: AnyProtocol, Accept: true, Priority: Low},
	}}

func portUUID(vpc string, n int) string { return rowID(vpc, fmt.Sprint("interface ", n)) }

// fullVPC has one of everything: two subnets, routes, a further NIC, gateways on
// two segments, a port with one EIP, one with two, and groups of both sides.
func fullVPC(id, net string) VPC {
	n := map[string]int{"vpc-a": 1, "vpc-b": 2}[id]
	port := func(i, subnet int) Port {
		return Port{
			ID: fmt.Sprintf("%s-p%d", id, i), UUID: portUUID(id, i), SubnetID: fmt.Sprintf("%s-s%d", id, subnet+1),
			MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", n, i), IP: addr(fmt.Sprintf("%s.%d.%d", net, subnet, 10+i)), Hostname: fmt.Sprintf("vm-%d", i),
		}
	}
	further := port(4, 1)
	further.NoDefaultRoute, further.Hostname = true, ""
	limited := port(5, 0)
	limited.NoRoutes, limited.Hostname, limited.InMbps, limited.OutMbps = true, "", 1000, 200
	eip := func(i, port int, segment string) EIP {
		a := fmt.Sprintf("172.20.0.%d", n*10+i)
		if segment == "Telecom" {
			a = fmt.Sprintf("172.21.0.%d", n*10+i)
		}
		return EIP{ID: fmt.Sprintf("%s-eip%d", id, i), SegmentID: segment, Address: addr(a), PortID: fmt.Sprintf("%s-p%d", id, port), BandwidthMbps: 20, Distributed: true}
	}
	second := eip(3, 2, "Bgp")
	second.Default = true
	onVirtual := eip(5, 0, "Bgp")
	onVirtual.PortID = id + "-v1"
	return VPC{
		ID: id, CIDR: cidr(net + ".0.0/16"), Peers: []netip.Prefix{cidr("192.168.7.0/24")}, MTU: 1442,
		Subnets: []Subnet{
			{ID: id + "-s1", CIDR: cidr(net + ".0.0/24"), Gateway: addr(net + ".0.1"), DNS: []netip.Addr{addr("114.114.114.114"), addr("8.8.8.8")}},
			{ID: id + "-s2", CIDR: cidr(net + ".1.0/24"), Gateway: addr(net + ".1.1"), Routes: []Route{
				{ID: id + "-r1", Destination: cidr("10.99.0.0/16"), NextHop: addr(net + ".1.20")},
				{ID: id + "-r2", Destination: cidr("10.98.0.0/16"), NextHop: addr(net + ".1.13")},
				{ID: id + "-r3", Destination: cidr("10.97.0.7/32"), NextHop: addr(net + ".0.100")},
			}},
		},
		Ports:    []Port{port(1, 0), port(2, 0), port(3, 1), further, limited},
		Virtuals: []Virtual{{ID: id + "-v1", UUID: portUUID(id, 100), SubnetID: id + "-s1", MAC: fmt.Sprintf("52:54:00:00:%02x:64", n), IP: addr(net + ".0.100"), Parents: []string{id + "-p2", id + "-p1"}}},
		Links:    []Link{{PeerID: "vpc-z", Networks: []netip.Prefix{cidr("172.16.0.0/16")}, Address: netip.MustParsePrefix("169.254.128.1/30"), NextHop: addr("169.254.128.2")}},
		Gateways: []Gateway{
			{SegmentID: "Bgp", Address: netip.PrefixFrom(addr(fmt.Sprintf("172.20.0.%d", 200+n)), 24), MAC: fmt.Sprintf("0a:00:00:00:00:%02x", n), NextHop: addr("172.20.0.1"), Chassis: []string{"host1", "host2"}},
			{SegmentID: "Telecom", Address: netip.PrefixFrom(addr(fmt.Sprintf("172.21.0.%d", 200+n)), 24), MAC: fmt.Sprintf("0a:00:00:00:01:%02x", n), NextHop: addr("172.21.0.1"), Chassis: []string{"host2"}},
		},
		EIPs: []EIP{eip(1, 1, "Bgp"), eip(2, 2, "Bgp"), second, eip(4, 3, "Telecom"), onVirtual},
		Groups: []Group{
			{ID: "sg-web", Side: Outer, Members: []string{id + "-p1", id + "-p2"}, Rules: []Rule{
				{ID: "sg_rule-web", Ingress: true, Protocol: TCP, Ports: []PortRange{{80, 80}, {8000, 8100}}, Accept: true, Priority: Medium},
				{ID: "sg_rule-ping", Ingress: true, Protocol: ICMPv4, Accept: true, Priority: Low},
				{ID: "sg_rule-bad", Ingress: true, Protocol: AnyProtocol, Remote: []netip.Prefix{cidr("203.0.113.0/24"), cidr("2001:db8::/32")}, Priority: High},
				{ID: "sg_rule-out", Protocol: AnyProtocol, Accept: true, Priority: Low},
			}},
			{ID: "sg-web", Side: Inner, Members: []string{id + "-p1"}, Rules: []Rule{
				{ID: "sg_rule-in", Ingress: true, Protocol: AnyProtocol, Remote: []netip.Prefix{cidr(net + ".0.0/16")}, Accept: true, Priority: Low},
				{ID: "sg_rule-gre", Protocol: GRE, Accept: true, Priority: Low},
				{ID: "sg_rule-dns", Protocol: UDP, Ports: []PortRange{{53, 53}}, Accept: true, Priority: Low},
				{ID: "sg_rule-v6", Protocol: ICMPv6, Accept: true, Priority: Low},
			}},
		},
	}
}
