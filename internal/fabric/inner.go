package fabric

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/lingyun-cloud/lingyun/internal/fabric/nb"
)

// insides are the networks that count as inside: the VPC's, those of linked VPCs, and its peers.
func (v *VPC) insides() []netip.Prefix {
	out := append([]netip.Prefix{v.CIDR}, v.Peers...)
	for _, l := range v.Links {
		out = append(out, l.Networks...)
	}
	return out
}

// linkPort names the end of a link that belongs to a VPC.
func linkPort(vpc, peer string) string { return vpc + ".link." + peer }

// renderLink gives this VPC's end: a router port that names the other's as its peer. The other VPC's rows
// have that one; while they do not yet, nothing passes.
func (r *vpcRenderer) renderLink(l Link) {
	name, peer := linkPort(r.ID, l.PeerID), linkPort(l.PeerID, r.ID)
	r.add(&nb.LogicalRouterPort{
		UUID: rowID(r.ID, "link "+l.PeerID), Name: name, MAC: stableMAC(r.ID, "link "+l.PeerID), Networks: []string{l.Address.String()},
		Peer: &peer, Options: map[string]string{"route_table": name}, ExternalIDs: r.mark(l.PeerID),
	}, in(nb.LogicalRouterTable, r.router, "ports"))
}

// renderVirtual gives the address a logical port of its own: OVN binds it to the parent that announced it last,
// so that it is found on every host, and an EIP can be translated to it.
func (r *vpcRenderer) renderVirtual(x Virtual) {
	options := map[string]string{"virtual-ip": x.IP.String()}
	if len(x.Parents) > 0 {
		var parents []string
		for _, id := range slices.Sorted(slices.Values(x.Parents)) {
			parents = append(parents, r.ports[id].UUID)
		}
		options["virtual-parents"] = strings.Join(parents, ",")
	}
	r.add(&nb.LogicalSwitchPort{
		UUID: rowID(x.ID, "port"), Name: x.UUID, Type: "virtual", Addresses: []string{x.MAC + " " + x.IP.String()},
		Options: options, ExternalIDs: r.mark(x.ID),
	}, in(nb.LogicalSwitchTable, rowID(x.SubnetID, "switch"), "ports"))
}

// virtual tells whether a port is a virtual one: it is on no host, so that its EIP cannot be distributed.
func (r *vpcRenderer) virtual(id string) bool {
	return slices.ContainsFunc(r.Virtuals, func(x Virtual) bool { return x.ID == id })
}

// passes lists, by port, what beside its own address it may send and receive: the virtual addresses that it may
// carry, and the destinations of routes whose next hop it is. Port security drops everything else.
func passes(v VPC) map[string][]string {
	carriers := map[netip.Addr][]string{} // ports by the addresses that they have or may have
	out := map[string][]string{}
	for _, p := range v.Ports {
		carriers[p.IP] = append(carriers[p.IP], p.ID)
	}
	for _, x := range v.Virtuals {
		for _, p := range x.Parents {
			carriers[x.IP] = append(carriers[x.IP], p)
			out[p] = append(out[p], x.IP.String())
		}
	}
	for _, s := range v.Subnets {
		for _, route := range s.Routes {
			for _, p := range carriers[route.NextHop] {
				for _, d := range halves(route.Destination.Masked()) {
					out[p] = append(out[p], d.String())
				}
			}
		}
	}
	for p := range out {
		slices.Sort(out[p])
		out[p] = slices.Compact(out[p])
	}
	return out
}

// halves is the network itself, or both halves of everything: port security takes no prefix of length 0.
func halves(p netip.Prefix) []netip.Prefix {
	if p.Bits() > 0 {
		return []netip.Prefix{p}
	}
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}
}

// renderPortMeters limits what a port sends and receives, on its switch.
func renderPortMeters(to *intent, p Port, sw string) {
	to.meter(p.ID, "meter-out", nb.QoSDirectionFromLport, fmt.Sprintf("inport == %q", p.UUID), priorityQoS, p.OutMbps, sw)
	to.meter(p.ID, "meter-in", nb.QoSDirectionToLport, fmt.Sprintf("outport == %q", p.UUID), priorityQoS, p.InMbps, sw)
}

// meter limits what matches on a switch; 0 Mbps: not at all. A bucket shallower than a second's worth costs TCP a third
// of its rate.
func (r *intent) meter(id, role, direction, match string, priority, mbps int, sw string) {
	if mbps == 0 {
		return
	}
	kbps := mbps * 1000
	r.add(&nb.QoS{
		UUID: rowID(id, role), Priority: priority, Direction: direction, Match: match,
		Bandwidth: map[string]int{"rate": kbps, "burst": max(kbps, 1000)}, ExternalIDs: r.mark(id),
	}, in(nb.LogicalSwitchTable, sw, "qos_rules"))
}

func validMbps(n int) bool { return n >= 0 && n <= 1_000_000 }

func (v VPC) validateLinks(c *check, seen map[string]bool) {
	for _, l := range v.Links {
		c.id(l.PeerID)
		c.unique(seen, "link to", l.PeerID)
		c.that(l.PeerID != v.ID, "%s is linked to itself", v.ID)
		c.that(l.Address.IsValid() && l.Address.Addr().Is4(), "address %s of the link to %s", l.Address, l.PeerID)
		c.unique(seen, "link address", l.Address.Masked().String())
		c.that(l.Address.Contains(l.NextHop) && l.NextHop != l.Address.Addr(), "next hop %s of the link to %s", l.NextHop, l.PeerID)
		c.that(len(l.Networks) > 0, "the link to %s leads nowhere", l.PeerID)
		for _, n := range l.Networks {
			c.network("network of a linked VPC", n)
			c.that(!n.Overlaps(v.CIDR), "%s of %s overlaps %s", n, l.PeerID, v.CIDR)
			c.unique(seen, "linked network", n.String())
		}
	}
}

func (v VPC) validateVirtuals(c *check, seen map[string]bool, subnets map[string]Subnet) map[string]bool {
	ports := map[string]string{} // subnets by port
	for _, p := range v.Ports {
		ports[p.ID] = p.SubnetID
	}
	out := map[string]bool{}
	for _, x := range v.Virtuals {
		c.id(x.ID)
		c.unique(seen, "port", x.ID)
		u, err := uuid.Parse(x.UUID)
		c.that(err == nil && u.String() == x.UUID, "UUID %q of virtual port %s", x.UUID, x.ID)
		c.unique(seen, "interface", x.UUID)
		c.mac(x.MAC)
		s, ok := subnets[x.SubnetID]
		c.that(ok, "virtual port %s in unknown subnet %q", x.ID, x.SubnetID)
		c.that(s.CIDR.Contains(x.IP), "address %s of virtual port %s lies outside %s", x.IP, x.ID, s.CIDR)
		c.unique(seen, "inner address", x.IP.String())
		for _, p := range x.Parents {
			c.that(ports[p] == x.SubnetID && ports[p] != "", "virtual port %s may be carried by %q, which is not in its subnet", x.ID, p)
			c.unique(seen, "carrier of "+x.ID, p)
		}
		out[x.ID] = true
	}
	return out
}
