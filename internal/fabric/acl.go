package fabric

import (
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/lingyun-cloud/lingyun/internal/fabric/nb"
)

// bands of the three priorities. Within a band 2 × (prefix length × 8 + port
// rank) is added, and 1 for DROP: at most 527 with IPv4 and 2063 with IPv6, so
// that bands never touch and DROP beats ACCEPT only at an equal specificity.
var bands = map[Priority]int{High: 20000, Medium: 10000, Low: 1000}

// rulePriority of one ACL of a rule: the more specific remote end first, then
// the more specific ports.
func rulePriority(r Rule, remote netip.Prefix, ports *PortRange) int {
	specificity := 0
	if remote.IsValid() {
		specificity = remote.Bits() * 8
	}
	p := bands[r.Priority] + 2*(specificity+portRank(r.Protocol, ports))
	if !r.Accept {
		p++
	}
	return p
}

// portRank orders what a rule says about protocol and ports from 0, anything,
// to 7, one port.
func portRank(p Protocol, ports *PortRange) int {
	switch {
	case p == AnyProtocol:
		return 0
	case ports == nil:
		return 1
	}
	// 1 port: 7; up to 16: 6; 256: 5; 4096: 4; more: 3.
	width := bits.Len16(ports.Last - ports.First) // 0..16
	return 7 - (width+3)/4
}

// renderGroups gives each side of each group a port group with its ACLs, and
// all ports that are in any group one more with what holds for them all:
//
//   - DHCP works whatever the rules say,
//   - what no rule accepted is dropped, on both sides: a port with only an inner
//     group is closed to the outside.
func (r *vpcRenderer) renderGroups() {
	filtered := symbol("filtered", r.ID)
	filteredID := rowID(r.ID, "filtered")
	anyMember := map[string]bool{}
	r.add(&nb.PortGroup{UUID: filteredID, Name: filtered, ExternalIDs: r.mark(r.ID)})
	for _, d := range directions {
		r.acl(filteredID, nb.ACL{
			UUID: rowID(r.ID, "default-"+d.role), Direction: d.direction, Priority: priorityDefault,
			Match: d.port + " == @" + filtered + " && ip", Action: nb.ACLActionDrop, ExternalIDs: r.mark(r.ID),
		})
	}
	r.acl(filteredID, nb.ACL{
		UUID: rowID(r.ID, "dhcp"), Direction: nb.ACLDirectionFromLport, Priority: priorityDHCP,
		Match:  "inport == @" + filtered + " && udp.src == 68 && udp.dst == 67 && ip4.dst == " + r.dhcpServers(),
		Action: nb.ACLActionAllow, ExternalIDs: r.mark(r.ID),
	})

	for _, g := range r.Groups {
		pg := portGroup{name: symbol(string(g.Side), r.ID, g.ID), id: rowID(r.ID, "group "+string(g.Side)+" "+g.ID), label: label(string(g.Side), g.ID)}
		r.add(&nb.PortGroup{UUID: pg.id, Name: pg.name, ExternalIDs: r.mark(g.ID)})
		for _, m := range g.Members {
			r.memberOf[m] = append(r.memberOf[m], in(nb.PortGroupTable, pg.id, "ports"))
			if !anyMember[m] {
				anyMember[m] = true
				r.memberOf[m] = append(r.memberOf[m], in(nb.PortGroupTable, filteredID, "ports"))
			}
		}
		r.renderEstablished(g, pg)
		for _, rule := range g.Rules {
			r.renderRule(g, rule, pg)
		}
	}
}

// renderSets gives each set its address set. Expressions about IPv4 take IPv4 alone.
func (r *vpcRenderer) renderSets() {
	for _, s := range r.Sets {
		var ip4 []netip.Prefix
		for _, p := range s.Prefixes {
			if p.Addr().Is4() {
				ip4 = append(ip4, p)
			}
		}
		s.Prefixes = merge(ip4)
		r.sets[s.ID] = s
		r.add(&nb.AddressSet{UUID: rowID(r.ID, "set "+s.ID), Name: r.setName(s.ID), Addresses: prefixes(s.Prefixes), ExternalIDs: r.mark(s.ID)})
	}
}

func (r *vpcRenderer) setName(id string) string { return symbol("set", r.ID, id) }

// portGroup is what the ACLs of one side of a group share.
type portGroup struct {
	name, id string
	label    int // of the connections that its rules let in
}

// directions of traffic as ACLs name them: to the port, and from it.
var directions = []struct{ role, direction, port string }{
	{"in", nb.ACLDirectionToLport, "outport"}, {"out", nb.ACLDirectionFromLport, "inport"},
}

// label is what conntrack remembers of the group that let a connection in.
func label(side, group string) int {
	h := sha1.Sum([]byte(side + "\x00" + group))
	return int(binary.BigEndian.Uint32(h[:])) | 1 // 0 is none
}

// renderEstablished lets connections go on when the rule that let them in is
// removed; OVN cuts them otherwise. It knows them by the label of this group: of a
// port that changes to another group, only what that one accepts goes on.
//
// The action must be allow-related: a switch without one such ACL tracks no
// connections, and the last rule's removal would cut them all.
func (r *vpcRenderer) renderEstablished(g Group, pg portGroup) {
	for _, d := range directions {
		r.acl(pg.id, nb.ACL{
			UUID: rowID(r.ID, "established-"+d.role+" "+string(g.Side)+" "+g.ID), Direction: d.direction, Priority: priorityEstablished,
			Match:  fmt.Sprintf("%s == @%s && ct.est && !ct.rpl && ct_mark.blocked == 0 && ct_label.label == %d", d.port, pg.name, pg.label),
			Action: nb.ACLActionAllowRelated, ExternalIDs: r.mark(g.ID),
		})
	}
}

func (r *vpcRenderer) acl(group string, a nb.ACL) { r.add(&a, in(nb.PortGroupTable, group, "acls")) }

// dhcpServers is what a DHCP client sends to: everybody, or on renewal its server.
func (r *vpcRenderer) dhcpServers() string {
	s := "{255.255.255.255"
	for _, subnet := range r.Subnets {
		s += ", " + subnet.Gateway.String()
	}
	return s + "}"
}

func (r *vpcRenderer) renderRule(g Group, rule Rule, pg portGroup) {
	side := "!="
	if g.Side == Inner {
		side = "=="
	}
	var set *namedSet
	if rule.Set != "" {
		set = &namedSet{"$" + r.setName(rule.Set), r.sets[rule.Set].Prefixes}
	}
	for _, a := range ruleACLs(rule, set, pg, r.ID+" "+string(g.Side), func(end string) string { return fmt.Sprintf(" && %s %s $%s", end, side, r.inside) }) {
		a.ExternalIDs = r.mark(rule.ID)
		r.acl(pg.id, a)
	}
}

// namedSet is an address set as an expression names it.
type namedSet struct {
	name     string
	prefixes []netip.Prefix
}

// ruleACLs are the ACLs of a rule on a port group: one for each remote network, or the set in their place, and range of
// ports. where is part of their ids; side is a condition on the other end.
func ruleACLs(rule Rule, set *namedSet, pg portGroup, where string, side func(end string) string) []nb.ACL {
	if rule.Protocol == ICMPv6 {
		return nil // only IPv4 is carried: there is nothing to let in or keep out
	}
	direction, port, end := nb.ACLDirectionFromLport, "inport", "ip4.dst"
	if rule.Ingress {
		direction, port, end = nb.ACLDirectionToLport, "outport", "ip4.src"
	}
	action, label := nb.ACLActionDrop, 0
	if rule.Accept {
		action, label = nb.ACLActionAllowRelated, pg.label
	}
	remotes := rule.Remote
	if len(remotes) == 0 {
		remotes = []netip.Prefix{{}}
	}
	ports := []*PortRange{nil}
	if len(rule.Ports) > 0 && (rule.Protocol == TCP || rule.Protocol == UDP) {
		ports = nil
		for _, p := range rule.Ports {
			ports = append(ports, &p)
		}
	}
	if set != nil {
		if len(set.prefixes) == 0 {
			return nil // nobody is meant
		}
		shortest := slices.MinFunc(set.prefixes, func(a, b netip.Prefix) int { return cmp.Compare(a.Bits(), b.Bits()) })
		remotes = []netip.Prefix{shortest}
	}
	var out []nb.ACL
	for _, remote := range remotes {
		if remote.IsValid() && !remote.Addr().Is4() {
			continue
		}
		from, role := remote.Masked().String(), fmt.Sprint(remote)
		if set != nil {
			from, role = set.name, rule.Set
		}
		for _, p := range ports {
			match := fmt.Sprintf("%s == @%s%s", port, pg.name, side(end))
			if set != nil || remote.IsValid() && remote.Bits() > 0 {
				match += fmt.Sprintf(" && %s == %s", end, from)
			}
			match += protocolMatch(rule.Protocol, p)
			out = append(out, nb.ACL{
				UUID:      rowID(rule.ID, fmt.Sprintf("acl %s %s %v", where, role, p)),
				Direction: direction, Priority: rulePriority(rule, remote, p), Match: match, Action: action, Label: label,
			})
		}
	}
	return out
}

func protocolMatch(p Protocol, ports *PortRange) string {
	switch p {
	case TCP, UDP:
		l4 := map[Protocol]string{TCP: "tcp", UDP: "udp"}[p]
		switch {
		case ports == nil:
			return " && " + l4
		case ports.First == ports.Last:
			return fmt.Sprintf(" && %s.dst == %d", l4, ports.First)
		default:
			return fmt.Sprintf(" && %d <= %s.dst <= %d", ports.First, l4, ports.Last)
		}
	case ICMPv4:
		return " && icmp4"
	case GRE:
		return " && ip.proto == 47"
	}
	return ""
}

func (g Group) validate(c *check, seen, ports, sets map[string]bool) {
	c.id(g.ID)
	c.that(g.Side == Inner || g.Side == Outer, "side %q of group %s", g.Side, g.ID)
	c.unique(seen, string(g.Side)+" group", g.ID)
	for _, m := range g.Members {
		c.that(ports[m], "group %s names unknown port %q", g.ID, m)
		c.unique(seen, string(g.Side)+" member of "+g.ID, m)
	}
	for _, r := range g.Rules {
		c.id(r.ID)
		c.unique(seen, string(g.Side)+" rule", r.ID)
		_, ok := bands[r.Priority]
		c.that(ok, "priority %q of rule %s", r.Priority, r.ID)
		switch r.Protocol {
		case AnyProtocol, TCP, UDP, ICMPv4, ICMPv6, GRE:
		default:
			c.that(false, "protocol %q of rule %s", r.Protocol, r.ID)
		}
		for _, p := range r.Ports {
			c.that(p.First <= p.Last, "ports %d-%d of rule %s", p.First, p.Last, r.ID)
			c.unique(seen, fmt.Sprintf("%s ports of rule %s", g.Side, r.ID), fmt.Sprint(p))
		}
		c.that(sets[r.Set] && (r.Set == "" || len(r.Remote) == 0), "set %q of rule %s", r.Set, r.ID)
		for _, p := range r.Remote {
			c.that(p.IsValid() && p == p.Masked(), "remote %s of rule %s: want a network", p, r.ID)
			c.unique(seen, fmt.Sprintf("%s remote of rule %s", g.Side, r.ID), p.String())
		}
	}
}
