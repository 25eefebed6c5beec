package fabric

import (
	"cmp"
	"crypto/sha1"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/ovn-kubernetes/libovsdb/model"

	"github.com/lingyun-cloud/lingyun/internal/fabric/nb"
)

// Keys of external_ids on every row of ours. A row without markOwner is an operator's.
const (
	markOwner = "lingyun-owner" // id of the VPC or segment
	markKind  = "lingyun-kind"  // kindVPC or kindSegment
	markID    = "lingyun-id"    // id of what the row is for: a subnet, port, EIP, rule, for people

	kindVPC     = "vpc"
	kindSegment = "segment"
)

// leaseSeconds is how long a DHCP lease lasts. Addresses never change, so it is
// long; guests renew at half of it.
const leaseSeconds = 86400

// Priorities of rows that are no tenant's rule. Tenants' lie between 1000 and 22063 (see acl.go).
const (
	priorityGuard       = 32500 // what no group can open
	priorityEstablished = 32000 // above every rule, so that removing a rule ends nothing
	priorityDHCP        = 31900
	priorityDefault     = 100
	priorityQoS         = 100
	priorityVirtualQoS  = 200 // what an address may is beside what its carrier may
	priorityReroute     = 1000
	prioritySegment     = 32000
)

// namespace of the version 5 UUIDs of our rows. Changing it orphans every row of every cloud.
var namespace = uuid.MustParse("6c696e67-7975-5e00-8e00-6661627269c3")

// rowID is the UUID of the row that plays a role for one of our ids. Sending it
// with the insert makes a second row impossible and the comparison a lookup.
func rowID(id, role string) string {
	return uuid.NewSHA1(namespace, []byte(id+"\x00"+role)).String()
}

// stableMAC is a locally administered address derived from an id and a role, for
// interfaces of ours that nobody named an address for.
func stableMAC(id, role string) string {
	h := sha1.Sum([]byte(id + "\x00" + role))
	return net.HardwareAddr{0x0a, h[0], h[1], h[2], h[3], h[4]}.String()
}

// row is a row of the northbound: one of nb's types without the columns that refer to children.
type row = interface {
	model.Model
	GetUUID() string
}

// reference says that a column of a parent row names a child.
type reference struct{ table, parent, column, child string }

// intent is how the rows of one owner should be. Parents stand before their children.
type intent struct {
	owner, kind string
	rows        []row
	references  []reference
	// segments whose switch the references need.
	segments []string
}

func (in *intent) mark(id string) map[string]string {
	return map[string]string{markOwner: in.owner, markKind: in.kind, markID: id}
}

// add appends a row and the places that refer to it.
func (in *intent) add(r row, parents ...reference) {
	in.rows = append(in.rows, r)
	for _, ref := range parents {
		ref.child = r.GetUUID()
		in.references = append(in.references, ref)
	}
}

func in(table, parent, column string) reference {
	return reference{table: table, parent: parent, column: column}
}

// symbol turns an id into a name that OVN's expressions accept for address sets and port groups.
func symbol(parts ...string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.Join(parts, "_"), "-", "_"), ".", "_")
}

// Names of the rows that others refer to by name.
func segmentSwitch(segment string) string      { return rowID(segment, "switch") }
func segmentRouters(segment string) string     { return rowID(segment, "routers") }
func gatewayPort(vpc, segment string) string   { return vpc + "." + segment }
func gatewayPeer(vpc, segment string) string   { return segment + "." + vpc }
func subnetRouterPort(subnet string) string    { return subnet + ".router" }
func subnetSwitchPort(subnet string) string    { return subnet + ".switch" }
func gatewayPortID(vpc, segment string) string { return rowID(vpc, "gateway "+segment) }

// renderSegment gives the rows of a segment: the switch, its port on the
// provider's bridge, and two stateless drops. A VPC's router is an ordinary
// router once it has a gateway port: without the drops, addresses of its inside
// leave un-NATed, and a neighbour who adds a route walks in past the EIPs.
func renderSegment(s Segment) (*intent, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	out := &intent{owner: s.ID, kind: kindSegment}
	sw := segmentSwitch(s.ID)
	out.add(&nb.LogicalSwitch{UUID: sw, Name: s.ID, ExternalIDs: out.mark(s.ID)})
	localnet := &nb.LogicalSwitchPort{
		UUID: rowID(s.ID, "localnet"), Name: s.ID + ".localnet", Type: "localnet",
		Addresses: []string{"unknown"}, Options: map[string]string{"network_name": s.Network},
		ExternalIDs: out.mark(s.ID),
	}
	if s.VLAN != 0 {
		localnet.Tag = &s.VLAN
	}
	out.add(localnet, in(nb.LogicalSwitchTable, sw, "ports"))
	routers := symbol("routers", s.ID)
	out.add(&nb.PortGroup{UUID: segmentRouters(s.ID), Name: routers, ExternalIDs: out.mark(s.ID)})
	for _, d := range []struct{ role, direction, match string }{
		{"leak-out", nb.ACLDirectionFromLport, fmt.Sprintf("inport == @%s && (ip4.src != %s || ip6)", routers, s.CIDR)},
		{"leak-in", nb.ACLDirectionToLport, fmt.Sprintf("outport == @%s && (ip4.dst != %s || ip6)", routers, s.CIDR)},
	} {
		out.add(&nb.ACL{
			UUID: rowID(s.ID, d.role), Direction: d.direction, Priority: prioritySegment,
			Match: d.match, Action: nb.ACLActionDrop, ExternalIDs: out.mark(s.ID),
		}, in(nb.LogicalSwitchTable, sw, "acls"))
	}
	return out, nil
}

// vpcRenderer carries what the parts of a VPC need of each other.
type vpcRenderer struct {
	VPC
	*intent
	router   string // UUID of the logical router
	inside   string // name of the address set of what counts as inside
	subnets  map[string]Subnet
	ports    map[string]Port
	gateways map[string]Gateway // by segment
	sets     map[string]Set     // with their IPv4 prefixes alone
	// groups by port: the port group rows that name it.
	memberOf map[string][]reference
	// passes is, by port, what it may send and receive beside its own address.
	passes map[string][]string
}

// renderVPC gives the rows of a VPC. They are ordered so that a mend cut short
// after any row leaves a port either absent or filtered.
func renderVPC(v VPC) (*intent, error) {
	if err := v.validate(); err != nil {
		return nil, err
	}
	r := &vpcRenderer{
		VPC: v, intent: &intent{owner: v.ID, kind: kindVPC}, router: rowID(v.ID, "router"), inside: symbol("inside", v.ID),
		subnets: map[string]Subnet{}, ports: map[string]Port{}, gateways: map[string]Gateway{}, sets: map[string]Set{}, memberOf: map[string][]reference{},
		passes: passes(v),
	}
	for _, s := range v.Subnets {
		r.subnets[s.ID] = s
	}
	for _, p := range v.Ports {
		r.ports[p.ID] = p
	}
	for _, x := range v.Virtuals {
		r.ports[x.ID] = Port{ID: x.ID, UUID: x.UUID, SubnetID: x.SubnetID, MAC: x.MAC, IP: x.IP}
	}
	for _, g := range v.Gateways {
		r.gateways[g.SegmentID] = g
		r.segments = append(r.segments, g.SegmentID)
	}
	r.add(&nb.AddressSet{UUID: rowID(v.ID, "inside"), Name: r.inside, Addresses: prefixes(merge(v.insides())), ExternalIDs: r.mark(v.ID)})
	r.renderSets()
	r.add(&nb.LogicalRouter{UUID: r.router, Name: v.ID, ExternalIDs: r.mark(v.ID)})
	r.renderGroups()
	for _, s := range v.Subnets {
		r.renderSubnet(s)
	}
	for _, p := range v.Ports {
		r.renderPort(p)
	}
	for _, x := range v.Virtuals {
		r.renderVirtual(x)
	}
	for _, l := range v.Links {
		r.renderLink(l)
	}
	for _, g := range v.Gateways {
		r.renderGateway(g)
	}
	r.renderRoutes()
	r.renderEIPs()
	return r.intent, nil
}

func (r *vpcRenderer) renderSubnet(s Subnet) {
	sw := rowID(s.ID, "switch")
	r.add(&nb.LogicalSwitch{UUID: sw, Name: s.ID, ExternalIDs: r.mark(s.ID)})
	// No guest plays the DHCP server: OVN answers before a guest could be asked,
	// but would deliver an unasked offer.
	r.add(&nb.ACL{
		UUID: rowID(s.ID, "no-dhcp-server"), Direction: nb.ACLDirectionFromLport, Priority: priorityGuard,
		Match: "udp.src == 67 && udp.dst == 68", Action: nb.ACLActionDrop, ExternalIDs: r.mark(s.ID),
	}, in(nb.LogicalSwitchTable, sw, "acls"))
	r.add(&nb.LogicalRouterPort{
		UUID: rowID(s.ID, "router-port"), Name: subnetRouterPort(s.ID), MAC: stableMAC(s.ID, "router"),
		Networks:    []string{netip.PrefixFrom(s.Gateway, s.CIDR.Bits()).String()},
		Options:     map[string]string{"route_table": s.ID},
		ExternalIDs: r.mark(s.ID),
	}, in(nb.LogicalRouterTable, r.router, "ports"))
	r.add(&nb.LogicalSwitchPort{
		UUID: rowID(s.ID, "switch-port"), Name: subnetSwitchPort(s.ID), Type: "router", Addresses: []string{"router"},
		Options: map[string]string{"router-port": subnetRouterPort(s.ID)}, ExternalIDs: r.mark(s.ID),
	}, in(nb.LogicalSwitchTable, sw, "ports"))
	r.add(&nb.DHCPOptions{
		UUID: rowID(s.ID, "dhcp"), Cidr: s.CIDR.String(), Options: r.dhcp(s, Port{}), ExternalIDs: r.mark(s.ID),
	})
}

// dhcp is what a port of the subnet is offered.
func (r *vpcRenderer) dhcp(s Subnet, p Port) map[string]string {
	o := map[string]string{
		"server_id":  s.Gateway.String(),
		"server_mac": stableMAC(s.ID, "router"),
		"lease_time": strconv.Itoa(leaseSeconds),
		"mtu":        strconv.Itoa(r.MTU),
	}
	servers := s.DNS
	if len(p.DNS) > 0 {
		servers = p.DNS
	}
	if len(servers) > 0 {
		o["dns_server"] = "{" + join(servers) + "}"
	}
	if p.Hostname != "" {
		o["hostname"] = strconv.Quote(p.Hostname)
	}
	if p.NoRoutes {
		return o
	}
	if !p.NoDefaultRoute {
		o["router"] = s.Gateway.String()
		return o
	}
	// A further NIC reaches the inside and what the subnet has routes to, and
	// leaves the guest's default route alone.
	destinations := r.insides()
	for _, route := range s.Routes {
		if route.Destination.Bits() > 0 {
			destinations = append(destinations, route.Destination.Masked())
		}
	}
	var routes []string
	for _, d := range merge(destinations) {
		routes = append(routes, d.String()+","+s.Gateway.String())
	}
	o["classless_static_route"] = "{" + strings.Join(routes, ", ") + "}"
	return o
}

func (r *vpcRenderer) renderPort(p Port) {
	s := r.subnets[p.SubnetID]
	dhcp := rowID(s.ID, "dhcp")
	if p.NoDefaultRoute || p.NoRoutes || p.Hostname != "" || len(p.DNS) > 0 {
		dhcp = rowID(p.ID, "dhcp")
		r.add(&nb.DHCPOptions{UUID: dhcp, Cidr: s.CIDR.String(), Options: r.dhcp(s, p), ExternalIDs: r.mark(p.ID)})
	}
	address := p.MAC + " " + p.IP.String()
	r.add(&nb.LogicalSwitchPort{
		UUID: rowID(p.ID, "port"), Name: p.UUID, Addresses: []string{address},
		PortSecurity: []string{strings.Join(append([]string{address}, r.passes[p.ID]...), " ")}, Dhcpv4Options: &dhcp, ExternalIDs: r.mark(p.ID),
	}, append([]reference{in(nb.LogicalSwitchTable, rowID(s.ID, "switch"), "ports")}, r.memberOf[p.ID]...)...)
	renderPortMeters(r.intent, p, rowID(s.ID, "switch"))
}

func (r *vpcRenderer) renderGateway(g Gateway) {
	id, name := gatewayPortID(r.ID, g.SegmentID), gatewayPort(r.ID, g.SegmentID)
	r.add(&nb.LogicalRouterPort{
		UUID: id, Name: name, MAC: g.MAC, Networks: []string{g.Address.String()},
		// What comes in over the provider's 1500 bytes and does not fit the
		// overlay is answered "too big" instead of being lost. The table holds
		// the way back for what the router itself answers.
		Options:     map[string]string{"gateway_mtu": strconv.Itoa(r.MTU), "route_table": name},
		ExternalIDs: r.mark(g.SegmentID),
	}, in(nb.LogicalRouterTable, r.router, "ports"))
	for i, chassis := range g.Chassis {
		r.add(&nb.GatewayChassis{
			UUID: rowID(r.ID, "chassis "+g.SegmentID+" "+chassis), Name: name + "." + chassis,
			ChassisName: chassis, Priority: len(g.Chassis) - i, ExternalIDs: r.mark(g.SegmentID),
		}, in(nb.LogicalRouterPortTable, id, "gateway_chassis"))
	}
	r.add(&nb.LogicalSwitchPort{
		UUID: rowID(r.ID, "gateway-peer "+g.SegmentID), Name: gatewayPeer(r.ID, g.SegmentID), Type: "router", Addresses: []string{"router"},
		// nat-addresses: announce the EIPs when the gateway moves.
		Options:     map[string]string{"router-port": name, "nat-addresses": "router"},
		ExternalIDs: r.mark(g.SegmentID),
	},
		in(nb.LogicalSwitchTable, segmentSwitch(g.SegmentID), "ports"),
		in(nb.PortGroupTable, segmentRouters(g.SegmentID), "ports"))
}

// outward is the gateway of the default route: the first that has a next hop.
func (r *vpcRenderer) outward() (Gateway, bool) {
	i := slices.IndexFunc(r.Gateways, func(g Gateway) bool { return g.NextHop.IsValid() })
	if i < 0 {
		return Gateway{}, false
	}
	return r.Gateways[i], true
}

// renderRoutes gives each subnet's table its own routes and, unless one of them
// is a default route, the VPC's. The longest prefix wins; a subnet's route
// therefore beats the VPC's, and no two rows of one table have the same prefix.
func (r *vpcRenderer) renderRoutes() {
	route := func(id, of, table string, to netip.Prefix, via netip.Addr, port string) {
		row := &nb.LogicalRouterStaticRoute{UUID: id, RouteTable: table, IPPrefix: to.Masked().String(), Nexthop: via.String(), ExternalIDs: r.mark(of)}
		if port != "" {
			row.OutputPort = &port
		}
		r.add(row, in(nb.LogicalRouterTable, r.router, "static_routes"))
	}
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	for _, g := range r.Gateways {
		if g.NextHop.IsValid() {
			name := gatewayPort(r.ID, g.SegmentID)
			route(rowID(r.ID, "gateway-route "+g.SegmentID), g.SegmentID, name, everywhere, g.NextHop, name)
		}
	}
	for _, g := range r.Gateways {
		for _, x := range g.Routes {
			name := gatewayPort(r.ID, g.SegmentID)
			route(rowID(r.ID, "gateway-route "+g.SegmentID+" "+x.ID), x.ID, name, x.Destination, x.NextHop, name)
		}
	}
	// What the router itself answers to a linked VPC goes back by the link's own table.
	for _, l := range r.Links {
		name := linkPort(r.ID, l.PeerID)
		for _, n := range l.Networks {
			route(rowID(r.ID, "link-route "+l.PeerID+" "+n.String()), l.PeerID, name, n, l.NextHop, name)
		}
	}
	out, ok := r.outward()
	for _, s := range r.Subnets {
		taken := map[netip.Prefix]bool{}
		for _, x := range s.Routes {
			route(rowID(x.ID, "route"), x.ID, s.ID, x.Destination, x.NextHop, "")
			taken[x.Destination.Masked()] = true
		}
		for _, l := range r.Links {
			for _, n := range l.Networks {
				if !taken[n] {
					route(rowID(s.ID, "link "+l.PeerID+" "+n.String()), l.PeerID, s.ID, n, l.NextHop, linkPort(r.ID, l.PeerID))
					taken[n] = true
				}
			}
		}
		for _, g := range r.Gateways {
			for _, x := range g.Routes {
				if !taken[x.Destination] {
					route(rowID(s.ID, "segment-route "+x.ID), x.ID, s.ID, x.Destination, x.NextHop, gatewayPort(r.ID, g.SegmentID))
					taken[x.Destination] = true
				}
			}
		}
		if ok && !taken[everywhere] {
			route(rowID(s.ID, "default-route"), s.ID, s.ID, everywhere, out.NextHop, gatewayPort(r.ID, out.SegmentID))
		}
	}
}

// renderEIPs gives each EIP its NAT and its two meters.
//
// A port's default egress is dnat_and_snat, its further EIPs are dnat. A
// distributed rule would catch, on the port's own host, the replies to the
// port's other EIPs, whose connections that host does not know: so an EIP is
// distributed only when it is its port's only one.
func (r *vpcRenderer) renderEIPs() {
	byPort := map[string][]EIP{}
	for _, e := range r.EIPs {
		byPort[e.PortID] = append(byPort[e.PortID], e)
	}
	out, _ := r.outward()
	for _, id := range slices.Sorted(maps.Keys(byPort)) {
		eips, p := byPort[id], r.ports[id]
		slices.SortFunc(eips, func(a, b EIP) int {
			if a.Default != b.Default {
				return map[bool]int{true: -1, false: 1}[a.Default]
			}
			return cmp.Compare(a.ID, b.ID)
		})
		r.reroute(p, r.gateways[eips[0].SegmentID], out)
		for i, e := range eips {
			gateway := gatewayPortID(r.ID, e.SegmentID)
			nat := &nb.NAT{
				UUID: rowID(e.ID, "nat"), Type: nb.NATTypeDNATAndSNAT, ExternalIP: e.Address.String(), LogicalIP: p.IP.String(),
				GatewayPort: &gateway, ExternalIDs: r.mark(e.ID),
			}
			distributed := e.Distributed && len(eips) == 1 && !r.virtual(id)
			switch {
			case distributed:
				mac := stableMAC(e.ID, "eip")
				nat.ExternalMAC, nat.LogicalPort = &mac, &p.UUID
			case i > 0:
				nat.Type = nb.NATTypeDNAT
			}
			r.renderMeters(e, p, distributed)
			r.add(nat, in(nb.LogicalRouterTable, r.router, "nat"))
		}
	}
}

// renderMeters limits an EIP in each direction, on the segment's switch: the
// only place where two EIPs of one port can be told apart.
func (r *vpcRenderer) renderMeters(e EIP, p Port, distributed bool) {
	peer, here := gatewayPeer(r.ID, e.SegmentID), ""
	if distributed {
		here = fmt.Sprintf(" && is_chassis_resident(%q)", p.UUID)
	}
	sw := segmentSwitch(e.SegmentID)
	r.meter(e.ID, "meter-out", nb.QoSDirectionFromLport, fmt.Sprintf("inport == %q && ip4.src == %s", peer, e.Address)+here, priorityQoS, e.BandwidthMbps, sw)
	r.meter(e.ID, "meter-in", nb.QoSDirectionToLport, fmt.Sprintf("outport == %q && ip4.dst == %s", peer, e.Address)+here, priorityQoS, e.BandwidthMbps, sw)
}

// reroute sends what a port says to the outside through its EIPs' gateway g, where the subnet's table would
// send it through another: a reply that left there would not be translated back. out is the gateway of the
// default route. The subnet's own routes stay above it.
func (r *vpcRenderer) reroute(p Port, g, out Gateway) {
	if slices.ContainsFunc(r.subnets[p.SubnetID].Routes, func(x Route) bool { return x.Destination.Bits() == 0 }) {
		return
	}
	beside := ""
	for _, route := range r.subnets[p.SubnetID].Routes {
		beside += " && ip4.dst != " + route.Destination.Masked().String()
	}
	policy := func(role string, priority int, match string, via netip.Addr) {
		r.add(&nb.LogicalRouterPolicy{
			UUID: rowID(p.ID, role), Priority: priority, Match: fmt.Sprintf("ip4.src == %s && %s", p.IP, match+beside),
			Action: nb.LogicalRouterPolicyActionReroute, Nexthops: []string{via.String()}, ExternalIDs: r.mark(p.ID),
		}, in(nb.LogicalRouterTable, r.router, "policies"))
	}
	if g.SegmentID != out.SegmentID && g.NextHop.IsValid() {
		policy("reroute", priorityReroute, fmt.Sprintf("ip4.dst != $%s && ip4.dst != %s", r.inside, g.Address.Masked()), g.NextHop)
	}
	own := map[netip.Prefix]bool{}
	for _, x := range g.Routes {
		own[x.Destination] = true
		if len(r.Gateways) > 1 { // alone, the subnet's table says the same
			policy("reroute "+x.ID, priorityReroute+1+x.Destination.Bits(), "ip4.dst == "+x.Destination.String(), x.NextHop)
		}
	}
	for _, other := range r.Gateways {
		for _, x := range other.Routes {
			if other.SegmentID != g.SegmentID && g.SegmentID == out.SegmentID && !own[x.Destination] {
				own[x.Destination] = true
				policy("reroute "+x.ID, priorityReroute+1+x.Destination.Bits(), "ip4.dst == "+x.Destination.String(), g.NextHop)
			}
		}
	}
}

// merge sorts prefixes and leaves out those that lie within another: OVN
// expands "not in the set" badly when the set is long.
func merge(ps []netip.Prefix) []netip.Prefix {
	ps = slices.Clone(ps)
	for i := range ps {
		ps[i] = ps[i].Masked()
	}
	slices.SortFunc(ps, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range ps {
		if n := len(out); n > 0 && out[n-1].Bits() <= p.Bits() && out[n-1].Contains(p.Addr()) {
			continue
		}
		out = append(out, p)
	}
	return out
}

func prefixes(ps []netip.Prefix) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	return out
}

func join(as []netip.Addr) string {
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = a.String()
	}
	return strings.Join(out, ", ")
}

// ErrInvalid wraps every refusal of a product that cannot be rendered. It is a
// mistake of the caller, not of OVN, and nothing was written.
var ErrInvalid = errors.New("fabric: invalid product")

var (
	idForm       = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)
	chassisForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$`)
	hostnameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

// check collects the first mistake. What passes it can stand in an OVN
// expression as it is.
type check struct{ err error }

func (c *check) that(ok bool, format string, args ...any) {
	if !ok && c.err == nil {
		c.err = fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
}

func (c *check) id(id string) { c.that(idForm.MatchString(id), "id %q", id) }

func (c *check) unique(seen map[string]bool, what, key string) {
	c.that(!seen[what+"\x00"+key], "%s %s twice", what, key)
	seen[what+"\x00"+key] = true
}

func (c *check) mac(s string) {
	m, err := net.ParseMAC(s)
	c.that(err == nil && len(m) == 6 && m[0]&1 == 0 && m.String() == s, "MAC %q: want lower case aa:bb:cc:dd:ee:ff, unicast", s)
}

func (c *check) network(what string, p netip.Prefix) {
	c.that(p.IsValid() && p.Addr().Is4() && p == p.Masked(), "%s %s: want an IPv4 network", what, p)
}

func (s Segment) validate() error {
	var c check
	c.id(s.ID)
	c.network("CIDR of segment", s.CIDR)
	c.that(s.VLAN >= 0 && s.VLAN <= 4094, "VLAN %d", s.VLAN)
	c.that(chassisForm.MatchString(s.Network), "provider network %q", s.Network)
	return c.err
}

func (v VPC) validate() error {
	var c check
	seen := map[string]bool{}
	c.id(v.ID)
	c.network("CIDR of VPC", v.CIDR)
	c.that(v.MTU >= 576 && v.MTU <= 65535, "MTU %d", v.MTU)
	v.validateLinks(&c, seen)
	for _, p := range v.Peers {
		c.network("peer", p)
	}
	subnets, ports, gateways := map[string]Subnet{}, map[string]bool{}, map[string]bool{}
	for _, s := range v.Subnets {
		c.id(s.ID)
		c.unique(seen, "subnet", s.ID)
		c.network("CIDR of subnet", s.CIDR)
		c.that(s.CIDR.Contains(s.Gateway), "gateway %s of subnet %s lies outside %s", s.Gateway, s.ID, s.CIDR)
		for _, d := range s.DNS {
			c.that(d.Is4(), "DNS server %s of subnet %s", d, s.ID)
		}
		for _, r := range s.Routes {
			c.id(r.ID)
			c.unique(seen, "route", r.ID)
			c.network("destination of route", r.Destination)
			c.unique(seen, "route of "+s.ID+" to", r.Destination.String())
			c.that(r.NextHop.Is4(), "next hop %s of route %s", r.NextHop, r.ID)
		}
		subnets[s.ID] = s
	}
	for _, p := range v.Ports {
		c.id(p.ID)
		c.unique(seen, "port", p.ID)
		u, err := uuid.Parse(p.UUID)
		c.that(err == nil && u.String() == p.UUID, "UUID %q of port %s", p.UUID, p.ID)
		c.unique(seen, "interface", p.UUID)
		c.mac(p.MAC)
		s, ok := subnets[p.SubnetID]
		c.that(ok, "port %s in unknown subnet %q", p.ID, p.SubnetID)
		c.that(s.CIDR.Contains(p.IP), "address %s of port %s lies outside %s", p.IP, p.ID, s.CIDR)
		c.unique(seen, "inner address", p.IP.String())
		c.that(p.Hostname == "" || hostnameForm.MatchString(p.Hostname), "host name %q of port %s", p.Hostname, p.ID)
		for _, d := range p.DNS {
			c.that(d.Is4(), "DNS server %s of port %s", d, p.ID)
		}
		c.that(validMbps(p.InMbps) && validMbps(p.OutMbps), "bandwidth %d and %d of port %s", p.InMbps, p.OutMbps, p.ID)
		ports[p.ID] = true
	}
	virtuals := v.validateVirtuals(&c, seen, subnets)
	for _, g := range v.Gateways {
		c.id(g.SegmentID)
		c.unique(seen, "gateway on", g.SegmentID)
		c.that(g.Address.IsValid() && g.Address.Addr().Is4(), "address %s of the gateway on %s", g.Address, g.SegmentID)
		c.mac(g.MAC)
		c.that(!g.NextHop.IsValid() || g.Address.Contains(g.NextHop), "next hop %s of the gateway on %s is not on %s", g.NextHop, g.SegmentID, g.Address)
		for _, x := range g.Routes {
			c.id(x.ID)
			c.unique(seen, "route", x.ID)
			c.network("destination of route", x.Destination)
			c.unique(seen, "route of "+g.SegmentID+" to", x.Destination.String())
			c.that(g.Address.Contains(x.NextHop), "next hop %s of route %s is not on %s", x.NextHop, x.ID, g.Address)
		}
		c.that(len(g.Chassis) <= 1000, "%d chassis for the gateway on %s", len(g.Chassis), g.SegmentID)
		for _, name := range g.Chassis {
			c.that(chassisForm.MatchString(name), "chassis %q", name)
			c.unique(seen, "chassis of the gateway on "+g.SegmentID, name)
		}
		gateways[g.SegmentID] = true
	}
	segmentOf := map[string]string{}
	for _, e := range v.EIPs {
		c.id(e.ID)
		c.unique(seen, "EIP", e.ID)
		c.that(e.Address.Is4(), "address %s of EIP %s", e.Address, e.ID)
		c.unique(seen, "outer address on "+e.SegmentID, e.Address.String())
		c.that(ports[e.PortID] || virtuals[e.PortID], "EIP %s on unknown port %q", e.ID, e.PortID)
		c.that(gateways[e.SegmentID], "EIP %s on segment %q, where the VPC has no gateway", e.ID, e.SegmentID)
		c.that(validMbps(e.BandwidthMbps), "bandwidth %d of EIP %s", e.BandwidthMbps, e.ID)
		if s, ok := segmentOf[e.PortID]; ok {
			c.that(s == e.SegmentID, "EIPs of port %s on segments %s and %s: the way back is one", e.PortID, s, e.SegmentID)
		}
		segmentOf[e.PortID] = e.SegmentID
		if e.Default {
			c.unique(seen, "default egress of", e.PortID)
		}
	}
	sets := map[string]bool{"": true}
	for _, s := range v.Sets {
		c.id(s.ID)
		c.unique(seen, "set", s.ID)
		for _, p := range s.Prefixes {
			c.that(p.IsValid() && p == p.Masked(), "%s of set %s: want a network", p, s.ID)
		}
		sets[s.ID] = true
	}
	for _, g := range v.Groups {
		g.validate(&c, seen, ports, sets)
	}
	return c.err
}
