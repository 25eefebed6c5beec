// Package fabric turns intended networks into OVN northbound rows. Callers
// hand over a whole product (a VPC, a segment) as it should be; the fabric
// writes the difference in one transaction. It knows no product package, no
// tenant and no database.
package fabric

import (
	"context"
	"net/netip"
)

// Fabric is the network engine: OVN (ovn.go), or a recorder for simulated clouds (memory.go).
type Fabric interface {
	// EnsureVPC makes the northbound rows of one VPC equal to v: adds, changes
	// and removes, in one transaction unless more than 2,000 rows differ. What is
	// as it should be costs no write. The segments of its gateways must be there
	// (ErrNoSegment); a product that makes no sense is refused (ErrInvalid).
	EnsureVPC(ctx context.Context, v VPC) error
	// RemoveVPC removes every row of the VPC. An unknown id is no error.
	RemoveVPC(ctx context.Context, id string) error
	// EnsureSegment does for a segment what EnsureVPC does for a VPC. After a
	// segment was lost and made again, the VPCs on it want ensuring too.
	EnsureSegment(ctx context.Context, s Segment) error
	// RemoveSegment removes every row of the segment, unless a VPC has its
	// gateway there (ErrInUse). An unknown id is no error.
	RemoveSegment(ctx context.Context, id string) error
	// Wait returns when the given chassis run what was written before the call, or
	// with ctx's error. A chassis that OVN does not know, or that is not in the
	// list, is not waited for; nor is one that has owed an answer for 10 s, which
	// is dead and catches up when it is back.
	Wait(ctx context.Context, chassis []string) error
	// Present lists the ids of the VPCs and segments that have rows bearing our marker.
	Present(ctx context.Context) (vpcs, segments []string, err error)
	OuterFabric
	// Close ends the connections; no call may follow.
	Close() error
}

// VPC is a logical router with its switches, ports, groups, gateways and EIPs.
type VPC struct {
	ID       string // vpc-...
	CIDR     netip.Prefix
	Peers    []netip.Prefix // networks beside CIDR that count as inside (linked VPCs, VPN remotes)
	MTU      int            // of guests: overlay MTU, at least 576
	Subnets  []Subnet
	Ports    []Port
	Virtuals []Virtual
	Links    []Link
	Gateways []Gateway // at most one a segment
	EIPs     []EIP
	Groups   []Group // each one side of one security group, with its members in this VPC
	Sets     []Set   // address sets that rules name
}

// Subnet is a logical switch with DHCP.
type Subnet struct {
	ID      string // subnet-...
	CIDR    netip.Prefix
	Gateway netip.Addr   // router's address: the first usable
	DNS     []netip.Addr // offered by DHCP
	Routes  []Route      // this subnet's own, beside the VPC's
}

// Route is an editable route of a subnet or a segment. A port with the address of a subnet's next hop, or the
// ports that may carry it, may pass on what is for or from the destination.
type Route struct {
	ID          string
	Destination netip.Prefix
	NextHop     netip.Addr
}

// Port is a NIC: one address, one MAC, port security on both.
type Port struct {
	ID       string // nic-...
	UUID     string // name of the logical port and libvirt's interface id
	SubnetID string
	MAC      string
	IP       netip.Addr
	Hostname string       // offered by DHCP; empty: none
	DNS      []netip.Addr // offered by DHCP in place of the subnet's; empty: those
	// NoDefaultRoute: DHCP offers no router, only a classless route to the VPC (a further NIC).
	NoDefaultRoute bool
	// NoRoutes: DHCP offers no route at all (a further NIC of a guest that reaches this VPC by its first).
	NoRoutes bool
	// InMbps and OutMbps limit what the port receives and sends; 0: unlimited.
	InMbps, OutMbps int
}

// Virtual is an address that one of several ports carries at a time: whoever announces it last has it.
type Virtual struct {
	ID       string // vip-...
	UUID     string // name of the logical port
	SubnetID string
	MAC      string // of the logical port; who carries the address answers with its own
	IP       netip.Addr
	Parents  []string // ids of ports of the subnet
}

// Link joins the routers of two VPCs. Both VPCs have it, each with its own end.
type Link struct {
	PeerID   string         // the other VPC
	Networks []netip.Prefix // of the other VPC; they count as inside
	Address  netip.Prefix   // of this end
	NextHop  netip.Addr     // the other end
}

// Gateway is the VPC's router port on an external segment.
type Gateway struct {
	SegmentID string
	Address   netip.Prefix // the router's own address on the segment
	MAC       string
	NextHop   netip.Addr // the segment's gateway; invalid: no default route
	Routes    []Route    // further destinations beyond the segment; the same for every VPC on it
	Chassis   []string   // OVN chassis that may carry it, best first; a dead host is left out
}

// EIP is a 1:1 NAT of a segment's address to a port.
type EIP struct {
	ID            string // eip-...
	SegmentID     string
	Address       netip.Addr
	PortID        string // of a port or a virtual one
	BandwidthMbps int    // each way; 0: unlimited
	Default       bool   // the port's default egress; when none of a port's EIPs is, the first by id
	// Distributed: the port's host has the segment's bridge, so that traffic need not
	// pass the gateway. The fabric uses it only when the port has exactly one EIP.
	Distributed bool
}

// Group is one side of a security group within one VPC: what no rule accepts is dropped.
// A port in no group of a side is closed on that side, unless it is in no group at all
// (then only port security and the segment's rules filter it).
type Group struct {
	ID      string // sg-...
	Side    Side
	Rules   []Rule
	Members []string // port ids
}

// Side tells which traffic a group filters.
type Side string

const (
	Inner Side = "inner" // the other end is inside the VPC (or a peer)
	Outer Side = "outer" // the other end is outside
)

// Set is addresses under one name, so that a change of them touches no rule.
type Set struct {
	ID       string // ipgroup-...
	Prefixes []netip.Prefix
}

// Rule of a group. Evaluated by Priority, then the more specific first, DROP before ACCEPT.
type Rule struct {
	ID       string // sg_rule-...
	Ingress  bool
	Protocol Protocol
	Ports    []PortRange    // destination ports; empty: all (TCP, UDP only)
	Remote   []netip.Prefix // other end; empty: anywhere
	Set      string         // other end: id of a Set, in place of Remote. It is as specific as its shortest prefix
	Accept   bool
	Priority Priority
}

type Protocol string

const (
	AnyProtocol Protocol = "ALL"
	TCP         Protocol = "TCP"
	UDP         Protocol = "UDP"
	ICMPv4      Protocol = "ICMP"
	ICMPv6      Protocol = "ICMPv6"
	GRE         Protocol = "GRE"
)

type Priority string

const (
	High   Priority = "HIGH"
	Medium Priority = "MEDIUM"
	Low    Priority = "LOW"
)

// PortRange is inclusive.
type PortRange struct{ First, Last uint16 }

// Segment is an external network: a logical switch on a provider bridge.
type Segment struct {
	ID      string // seg-...
	CIDR    netip.Prefix
	VLAN    int    // 0: untagged
	Network string // provider network name, as in the hosts' bridge mappings
}
