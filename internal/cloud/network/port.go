package network

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Owners of addresses.
const (
	ofPort    = "port"
	ofEIP     = "eip"
	ofGateway = "gateway"
)

// Owners of ports beside machines.
const (
	ofNIC = "NIC" // an elastic NIC that is attached to nothing
	ofVIP = "VIP"
)

// Owner of a port: a kind (VM) and an id.
type Owner struct{ Kind, ID string }

// PortRequest asks for a port in a subnet.
type PortRequest struct {
	action.Scope    // of the caller, with the owner's tenant and region
	VPCID, SubnetID string
	IP              string // wanted address; empty: any
	Owner           Owner
	InnerSG         string // empty: the tenant's default group
	OuterSG         string // empty: closed outside, or the default group when InnerSG is empty, too
	Hostname        string // offered by DHCP
	DNS             string // likewise, comma separated; empty: the subnet's
	HostID          string // where it will be plugged; empty: not known yet (PlacePort)
	InMbps, OutMbps *int   // of what it receives and sends, 0: unlimited; nil: the region's default
	ID              string // empty: a new one
	MAC             string // empty: a new one
	AnyGroup        bool   // no default for groups: without one everything passes
	Kept            bool   // in no network yet (ReturnPort)
}

// inner is what an inner port may send or receive in a second that asks for mbps; nil: for nothing else than the
// region's default.
func (s *Service) inner(ctx context.Context, region string, mbps *int) int {
	if mbps == nil {
		return s.InnerMbps(ctx, region)
	}
	return *mbps
}

// ReservePort takes an address of the subnet and makes a port of it, in the caller's transaction.
// 3000, 3007, 3008 (VPC), 3003, 3009, 3010 (subnet), 3011 exhausted, 8001 taken, 8005 reserved, 8006 outside,
// 4 no address, 16002, 16003 (groups), 113 MAC in use.
func (s *Service) ReservePort(ctx context.Context, tx bun.Tx, r PortRequest) (*Port, error) {
	var wanted netip.Addr
	if r.IP != "" {
		var err error
		if wanted, err = netip.ParseAddr(r.IP); err != nil || wanted.Zone() != "" {
			return nil, retcode.InvalidParameterFormat.Errorf("%q is no IP address", r.IP)
		}
	}
	vpc, err := vpcByID(ctx, tx, r.Scope, r.VPCID)
	if err != nil {
		return nil, err
	}
	subnet, err := subnetByID(ctx, tx, vpc, r.SubnetID)
	if err != nil {
		return nil, err
	}
	if err := vpc.usable(); err != nil {
		return nil, err
	}
	if err := subnet.usable(); err != nil {
		return nil, err
	}
	if err := checkGroups(ctx, tx, r.Scope, r.InnerSG, r.OuterSG); err != nil {
		return nil, err
	}
	if r.InnerSG == "" && !r.AnyGroup {
		id, err := s.DefaultGroup(ctx, tx, r.Region, r.Company)
		if err != nil {
			return nil, err
		}
		if r.OuterSG == "" {
			r.OuterSG = id
		}
		r.InnerSG = id
	}

	if err := lockSubnet(ctx, tx, subnet); err != nil {
		return nil, err
	}
	p, err := subnet.pool()
	if err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	if r.ID == "" {
		r.ID = database.NewID("nic")
	}
	port := &Port{ID: r.ID, Kept: r.Kept, UUID: uuid.NewString(), Region: r.Region, Company: r.Company, VPCID: vpc.ID, SubnetID: subnet.ID,
		Hostname: r.Hostname, DNS: r.DNS, OwnerKind: r.Owner.Kind, OwnerID: r.Owner.ID, InnerSG: r.InnerSG, OuterSG: r.OuterSG, HostID: r.HostID,
		InMbps: s.inner(ctx, r.Region, r.InMbps), OutMbps: s.inner(ctx, r.Region, r.OutMbps), CreatedAt: now, UpdatedAt: now}
	switch {
	case !wanted.IsValid():
		port.Num, err = p.take(ctx, tx, ofPort, port.ID)
	case !p.cidr.Contains(wanted):
		return nil, retcode.IPOutOfSegment.Errorf("%s is outside %s of %s", wanted, p.cidr, p.id)
	default:
		port.Num = offset(p.cidr, wanted)
		if !p.hands(port.Num) {
			return nil, retcode.IPReserved.Errorf("%s of %s is kept for the network itself", wanted, p.id)
		}
		err = p.takeAt(ctx, tx, port.Num, ofPort, port.ID)
	}
	switch {
	case errors.Is(err, errExhausted):
		return nil, retcode.SubnetIPInsufficient.Errorf("%s has no free address", p.id)
	case errors.Is(err, errTaken):
		return nil, retcode.IPAlreadyAllocated.Errorf("%s of %s is taken", wanted, p.id)
	case err != nil:
		return nil, err
	}
	port.IP = nth(p.cidr, port.Num).String()
	return port, insertPort(ctx, tx, port, r.MAC)
}

// newMAC makes a locally administered unicast address with 40 random bits.
func newMAC() string {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails
	mac[0] = 0x02
	return mac.String()
}

// SetMAC gives a port another MAC (of ParseMAC), for when it is next plugged in: 113 in use. SyncVPC must follow when it
// is in its network.
func (s *Service) SetMAC(ctx context.Context, tx bun.Tx, portID, mac string) error {
	ok, err := changed(tx.NewRaw("UPDATE port SET mac = ?0, updated_at = ?1, generation = generation + 1 WHERE id = ?2 AND NOT EXISTS (SELECT 1 FROM port AS p WHERE p.mac = ?0 AND p.id <> ?2)",
		mac, s.Clock.Micros(), portID).Exec(ctx))
	if database.IsUnique(err) || err == nil && !ok {
		return retcode.InvalidParameter.Errorf("MAC: %s is in use", mac)
	}
	return err
}

// OfferPort says what DHCP offers the port: a host name, and DNS servers in place of its subnet's (comma separated IPv4
// addresses; empty: those). SyncVPC must follow.
func (s *Service) OfferPort(ctx context.Context, tx bun.Tx, portID, hostname, dns string) error {
	_, err := tx.NewRaw("UPDATE port SET hostname = ?, dns = ?, updated_at = ?, generation = generation + 1 WHERE id = ?", hostname, dns, s.Clock.Micros(), portID).Exec(ctx)
	return err
}

// PlacePort says on which host the port is plugged.
func (s *Service) PlacePort(ctx context.Context, tx bun.Tx, portID, hostID string) error {
	return s.setPort(ctx, tx, portID, "host_id", hostID)
}

// KeepPort takes the port out of its network and keeps its address and MAC for an owner in the
// recycle bin. SyncVPC must follow.
func (s *Service) KeepPort(ctx context.Context, tx bun.Tx, portID string) error {
	return s.setPort(ctx, tx, portID, "kept", true)
}

// ReturnPort puts a kept port back into its network. SyncVPC must follow.
func (s *Service) ReturnPort(ctx context.Context, tx bun.Tx, portID string) error {
	return s.setPort(ctx, tx, portID, "kept", false)
}

func (s *Service) setPort(ctx context.Context, tx bun.Tx, portID, column string, value any) error {
	_, err := tx.NewUpdate().Model((*Port)(nil)).Set("? = ?", bun.Ident(column), value).Set("updated_at = ?", s.Clock.Micros()).
		Set("generation = generation + 1").Where("id = ?", portID).Exec(ctx)
	return err
}

// ReleasePort deletes the port and frees its address. Its EIPs must be unbound. Its VPC must have been
// synced without it (KeepPort, SyncVPC) before the address may go to somebody else; a port that
// was never plugged may be released at once. An unknown id is no error.
func (s *Service) ReleasePort(ctx context.Context, tx bun.Tx, portID string) error {
	port := new(Port)
	if found, err := one(tx.NewSelect().Model(port).Where("id = ?", portID).Scan(ctx)); err != nil || !found {
		return err
	}
	if bound, err := tx.NewSelect().Model((*EIP)(nil)).Where("port_id = ?", portID).Exists(ctx); err != nil {
		return err
	} else if bound {
		return fmt.Errorf("network: port %s has an EIP", portID)
	}
	if err := port.pooled().give(ctx, tx, port.Num, ofPort, port.ID); err != nil {
		return err
	}
	_, err := tx.NewDelete().Model(port).WherePK().Exec(ctx)
	return err
}

// PortInfo is a port with what lists show of it.
type PortInfo struct {
	Port
	VPCName, SubnetName string
	InnerSGName         string
	OuterSGName         string
	EIPs                []EIP // Bounding, Bound and Unbounding ones, the default egress first
}

// PortsOf returns the ports of owners, by owner id, in a fixed number of queries.
func (s *Service) PortsOf(ctx context.Context, idb bun.IDB, owners ...string) (map[string][]PortInfo, error) {
	if len(owners) == 0 {
		return nil, nil
	}
	ports, err := database.Find[Port](ctx, idb, "WHERE owner_id IN (?) ORDER BY created_at, id", owners)
	if err != nil {
		return nil, err
	}
	var ids, subnets, groups []string
	for i := range ports {
		p := &ports[i]
		ids = append(ids, p.ID)
		subnets = append(subnets, p.SubnetID)
		groups = append(groups, p.InnerSG, p.OuterSG)
	}
	out := make(map[string][]PortInfo, len(owners))
	if len(ids) == 0 {
		return out, nil
	}
	places, err := database.Query[struct{ ID, Name, VPCName string }](ctx, idb,
		"SELECT s.id AS id, s.name AS name, v.name AS vpc_name FROM subnet AS s JOIN vpc AS v ON v.id = s.vpc_id WHERE s.id IN (?)", uniq(subnets))
	if err != nil {
		return nil, err
	}
	groupNames, err := names(ctx, idb, "security_group", groups)
	if err != nil {
		return nil, err
	}
	eips, err := database.Find[EIP](ctx, idb, "WHERE port_id IN (?) ORDER BY egress DESC, created_at, id", ids)
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		for _, side := range []*string{&p.InnerSG, &p.OuterSG} {
			if *side == closed {
				*side = ""
			}
		}
		info := PortInfo{Port: p, InnerSGName: groupNames[p.InnerSG], OuterSGName: groupNames[p.OuterSG]}
		for _, place := range places {
			if place.ID == p.SubnetID {
				info.SubnetName, info.VPCName = place.Name, place.VPCName
			}
		}
		for _, e := range eips {
			if e.PortID == p.ID {
				info.EIPs = append(info.EIPs, e)
			}
		}
		out[p.OwnerID] = append(out[p.OwnerID], info)
	}
	return out, nil
}

// PortConfig is what a guest needs to know of its port's network.
type PortConfig struct {
	Address netip.Prefix // the port's, with the subnet's length
	Gateway netip.Addr
	DNS     []netip.Addr
	MTU     int
	Static  bool // nobody offers it by DHCP
}

// ConfigOf returns the guest's configuration of a port.
func (s *Service) ConfigOf(ctx context.Context, idb bun.IDB, p *Port) (PortConfig, error) {
	if p.SegmentID != "" {
		return outerConfig(ctx, idb, p)
	}
	subnet := new(Subnet)
	if err := idb.NewSelect().Model(subnet).Where("id = ?", p.SubnetID).Scan(ctx); err != nil {
		return PortConfig{}, fmt.Errorf("subnet of %s: %w", p.ID, err)
	}
	cidr, err := netip.ParsePrefix(subnet.CIDR)
	if err != nil {
		return PortConfig{}, err
	}
	ip, err := netip.ParseAddr(p.IP)
	if err != nil {
		return PortConfig{}, err
	}
	return PortConfig{Address: netip.PrefixFrom(ip, cidr.Bits()), Gateway: subnet.gateway(cidr), DNS: s.dns(ctx, subnet), MTU: s.Fleet.OverlayMTU(p.Region)}, nil
}

// dns lists the servers that a subnet's DHCP offers.
func (s *Service) dns(ctx context.Context, subnet *Subnet) []netip.Addr {
	if subnet.DNS == "" {
		return s.DNS(ctx, subnet.Region)
	}
	return addresses(subnet.DNS)
}

// addresses reads a stored list.
func addresses(list string) (out []netip.Addr) {
	for _, text := range strings.Split(list, ",") {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// uniq sorts and drops repeated and empty values.
func uniq[T cmp.Ordered](values []T) []T {
	values = slices.Clone(values)
	slices.Sort(values)
	var empty T
	return slices.DeleteFunc(slices.Compact(values), func(v T) bool { return v == empty })
}
