package fabric

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/lingyun-cloud/lingyun/internal/fabric/nb"
)

// kindOuter marks the rows of an outer port.
const kindOuter = "outer"

// outerMTU of guests on a segment: the provider's.
const outerMTU = 1500

// OuterPort is a guest's interface on an external segment itself: no router and no translation in between.
type OuterPort struct {
	ID        string // nic-...
	UUID      string // name of the logical port and libvirt's interface id
	SegmentID string
	CIDR      netip.Prefix // of the segment
	MAC       string
	IP        netip.Addr
	// Server is the address that DHCP answers from, which no guest has; invalid: the segment has no DHCP.
	Server netip.Addr
	// Virtuals are addresses of the segment that this port and others may announce: whoever did last has them.
	Virtuals []OuterVirtual
	// Filtered: what no rule accepts is dropped. Without it only port security filters.
	Filtered        bool
	Group           string // id of the group that Rules are of
	Rules           []Rule
	InMbps, OutMbps int // 0: unlimited
}

// OuterVirtual is an address that an outer port may carry beside its own. Who carries it answers with its own MAC, so
// that the provider network finds it without a port for it.
type OuterVirtual struct {
	ID   string // vip-...
	IP   netip.Addr
	Mbps int // each way, beside what the port has; 0: unlimited
}

// OuterFabric is the part of a fabric about outer ports.
type OuterFabric interface {
	// EnsureOuterPort does for an outer port what EnsureVPC does for a VPC. Its segment must be there (ErrNoSegment).
	EnsureOuterPort(ctx context.Context, p OuterPort) error
	// RemoveOuterPort removes every row of the port. An unknown id is no error.
	RemoveOuterPort(ctx context.Context, id string) error
	// PresentOuterPorts lists the ids of the outer ports that have rows bearing our marker.
	PresentOuterPorts(ctx context.Context) ([]string, error)
}

func renderOuterPort(p OuterPort) (*intent, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	r := &intent{owner: p.ID, kind: kindOuter, segments: []string{p.SegmentID}}
	sw := segmentSwitch(p.SegmentID)
	parents := []reference{in(nb.LogicalSwitchTable, sw, "ports")}
	pg := portGroup{name: symbol("outer", p.ID), id: rowID(p.ID, "group"), label: label(string(Outer), p.Group)}
	r.add(&nb.PortGroup{UUID: pg.id, Name: pg.name, ExternalIDs: r.mark(p.ID)})
	parents = append(parents, in(nb.PortGroupTable, pg.id, "ports"))
	acl := func(a nb.ACL) { r.add(&a, in(nb.PortGroupTable, pg.id, "acls")) }
	acl(nb.ACL{UUID: rowID(p.ID, "no-dhcp-server"), Direction: nb.ACLDirectionFromLport, Priority: priorityGuard,
		Match: "inport == @" + pg.name + " && udp.src == 67 && udp.dst == 68", Action: nb.ACLActionDrop, ExternalIDs: r.mark(p.ID)})
	if p.Filtered {
		for _, d := range directions {
			acl(nb.ACL{UUID: rowID(p.ID, "default-"+d.role), Direction: d.direction, Priority: priorityDefault,
				Match: d.port + " == @" + pg.name + " && ip", Action: nb.ACLActionDrop, ExternalIDs: r.mark(p.ID)})
			acl(nb.ACL{UUID: rowID(p.ID, "established-"+d.role), Direction: d.direction, Priority: priorityEstablished,
				Match:  fmt.Sprintf("%s == @%s && ct.est && !ct.rpl && ct_mark.blocked == 0 && ct_label.label == %d", d.port, pg.name, pg.label),
				Action: nb.ACLActionAllowRelated, ExternalIDs: r.mark(p.ID)})
		}
		if p.Server.IsValid() {
			acl(nb.ACL{UUID: rowID(p.ID, "dhcp"), Direction: nb.ACLDirectionFromLport, Priority: priorityDHCP,
				Match:  fmt.Sprintf("inport == @%s && udp.src == 68 && udp.dst == 67 && ip4.dst == {255.255.255.255, %s}", pg.name, p.Server),
				Action: nb.ACLActionAllow, ExternalIDs: r.mark(p.ID)})
		}
		for _, rule := range p.Rules {
			for _, a := range ruleACLs(rule, nil, pg, p.ID, func(string) string { return "" }) {
				a.ExternalIDs = r.mark(rule.ID)
				acl(a)
			}
		}
	}
	address := p.MAC + " " + p.IP.String()
	port := &nb.LogicalSwitchPort{UUID: rowID(p.ID, "port"), Name: p.UUID, Addresses: []string{address}, PortSecurity: []string{address}, ExternalIDs: r.mark(p.ID)}
	if p.Server.IsValid() {
		dhcp := rowID(p.ID, "dhcp-options")
		port.Dhcpv4Options = &dhcp
		// No router: the guest's default route stays that of its first interface.
		r.add(&nb.DHCPOptions{UUID: dhcp, Cidr: p.CIDR.String(), ExternalIDs: r.mark(p.ID), Options: map[string]string{
			"server_id": p.Server.String(), "server_mac": stableMAC(p.ID, "dhcp"), "lease_time": strconv.Itoa(leaseSeconds), "mtu": strconv.Itoa(outerMTU),
		}})
	}
	renderPortMeters(r, Port{ID: p.ID, UUID: p.UUID, InMbps: p.InMbps, OutMbps: p.OutMbps}, sw)
	for _, x := range p.Virtuals {
		port.PortSecurity[0] += " " + x.IP.String()
		r.meter(p.ID, "meter-out-"+x.ID, nb.QoSDirectionFromLport, fmt.Sprintf("inport == %q && ip4.src == %s", p.UUID, x.IP), priorityVirtualQoS, x.Mbps, sw)
		r.meter(p.ID, "meter-in-"+x.ID, nb.QoSDirectionToLport, fmt.Sprintf("outport == %q && ip4.dst == %s", p.UUID, x.IP), priorityVirtualQoS, x.Mbps, sw)
	}
	r.add(port, parents...)
	return r, nil
}

func (p OuterPort) validate() error {
	var c check
	c.id(p.ID)
	c.id(p.SegmentID)
	c.network("CIDR of segment", p.CIDR)
	u, err := uuid.Parse(p.UUID)
	c.that(err == nil && u.String() == p.UUID, "UUID %q of outer port %s", p.UUID, p.ID)
	c.mac(p.MAC)
	c.that(p.IP.Is4() && p.CIDR.Contains(p.IP), "address %s of outer port %s lies outside %s", p.IP, p.ID, p.CIDR)
	c.that(!p.Server.IsValid() || p.Server.Is4() && p.Server != p.IP, "DHCP server %s of outer port %s", p.Server, p.ID)
	taken := map[string]bool{}
	c.unique(taken, "address", p.IP.String())
	for _, x := range p.Virtuals {
		c.id(x.ID)
		c.unique(taken, "address", x.IP.String())
		c.that(x.IP.Is4() && p.CIDR.Contains(x.IP) && x.IP != p.Server, "virtual address %s of outer port %s", x.IP, p.ID)
		c.that(validMbps(x.Mbps), "bandwidth %d of virtual address %s", x.Mbps, x.ID)
	}
	c.that(validMbps(p.InMbps) && validMbps(p.OutMbps), "bandwidth %d and %d of outer port %s", p.InMbps, p.OutMbps, p.ID)
	Group{ID: "sg-" + p.ID, Side: Outer, Rules: p.Rules}.validate(&c, map[string]bool{}, nil, map[string]bool{"": true})
	return c.err
}

// EnsureOuterPort implements OuterFabric.
func (f *ovn) EnsureOuterPort(ctx context.Context, p OuterPort) error {
	want, err := renderOuterPort(p)
	if err != nil {
		return err
	}
	return f.ensure(ctx, want)
}

// RemoveOuterPort implements OuterFabric.
func (f *ovn) RemoveOuterPort(ctx context.Context, id string) error {
	return f.ensure(ctx, &intent{owner: id, kind: kindOuter})
}

// PresentOuterPorts implements OuterFabric.
func (f *ovn) PresentOuterPorts(ctx context.Context) ([]string, error) {
	if err := f.connected(ctx); err != nil {
		return nil, err
	}
	rows, err := f.have().marked(nb.PortGroupTable, markKind, kindOuter)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range rows {
		if g, ok := r.(*nb.PortGroup); ok && g.ExternalIDs[markOwner] != "" {
			out = append(out, g.ExternalIDs[markOwner])
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// EnsureOuterPort implements OuterFabric.
func (m *Memory) EnsureOuterPort(ctx context.Context, p OuterPort) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails(ctx, "EnsureOuterPort"); err != nil {
		return err
	}
	if err := p.validate(); err != nil {
		return err
	}
	if _, ok := m.segments[p.SegmentID]; !ok {
		return fmt.Errorf("%w: %s", ErrNoSegment, p.SegmentID)
	}
	m.outer[p.ID] = p
	return nil
}

// RemoveOuterPort implements OuterFabric.
func (m *Memory) RemoveOuterPort(ctx context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails(ctx, "RemoveOuterPort"); err != nil {
		return err
	}
	delete(m.outer, id)
	return nil
}

// PresentOuterPorts implements OuterFabric.
func (m *Memory) PresentOuterPorts(ctx context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails(ctx, "Present"); err != nil {
		return nil, err
	}
	var out []string
	for id := range m.outer {
		out = append(out, id)
	}
	slices.Sort(out)
	return out, nil
}

// OuterPort is the outer port last ensured under the id, and whether there is one.
func (m *Memory) OuterPort(id string) (OuterPort, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.outer[id]
	return p, ok
}
