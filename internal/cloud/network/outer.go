package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// outerRequest asks for an address of a segment that is on the segment itself: an outer NIC's or VIP's.
type outerRequest struct {
	segment, ip, version string // version and ip may be empty
	mac                  string // empty: a new one
	mbps                 int
	chargeType           string
	quantity             int

	row    *Segment
	wanted netip.Addr
}

// checkOuter checks what needs no transaction: 3 a parameter that what is of the type WAN needs, 4 no address, 113
// period or IP version, 200 segment, 8000, 8005, 8006. It completes the request.
func (s *Service) checkOuter(ctx context.Context, c *action.Call, typ string, r outerRequest) (*outerRequest, error) {
	for _, p := range []struct {
		name  string
		given bool
	}{{"SegmentID", r.segment != ""}, {"ChargeType", r.chargeType != ""}, {"Bandwidth", r.mbps != 0}} {
		if !p.given {
			return nil, retcode.MissingParameter.Errorf("%s is required when %s is %s", p.name, typ, WAN)
		}
	}
	var err error
	if r.wanted, err = parseWanted(r.ip); err != nil {
		return nil, err
	}
	if err := checkPeriod(r.chargeType, r.quantity); err != nil {
		return nil, err
	}
	if r.row, err = permittedSegment(ctx, s.DB.Reader(), c.Region, r.segment, c.Owner()); err != nil {
		return nil, err
	}
	if err := r.row.check(EIPRequest{IPVersion: r.version}, r.wanted); err != nil {
		return nil, err
	}
	return &r, s.Catalog.CheckEIPSpec(ctx, c.Region, r.row.ID, r.mbps)
}

// reserveOuter takes an address of a segment and makes a port of it: 8001, 8004, 8005, 8007, 113 (MAC).
func (s *Service) reserveOuter(ctx context.Context, tx bun.Tx, r *outerRequest, port *Port) error {
	p, err := r.row.pool()
	if err != nil {
		return err
	}
	if port.Num, err = s.takeOuter(ctx, tx, r.row, p, r.wanted, ofPort, port.ID); err != nil {
		return err
	}
	if err := s.checkTotal(ctx, tx, r.row.ID, port.ID, r.mbps); err != nil {
		return err
	}
	port.SegmentID, port.UUID, port.IP = r.row.ID, uuid.NewString(), nth(p.cidr, port.Num).String()
	return insertPort(ctx, tx, port, r.mac)
}

// takeOuter takes the wanted address of a segment, or any: 8001, 8004, 8005.
func (s *Service) takeOuter(ctx context.Context, tx bun.Tx, g *Segment, p *pool, wanted netip.Addr, kind, owner string) (num int64, err error) {
	if wanted.IsValid() {
		num = offset(p.cidr, wanted)
		err = p.takeAt(ctx, tx, num, kind, owner)
	} else {
		num, err = p.take(ctx, tx, kind, owner)
	}
	switch {
	case errors.Is(err, errExhausted):
		err = retcode.IPInsufficient.Errorf("segment %s has no free address", g.Name)
	case errors.Is(err, errTaken):
		err = s.taken(ctx, tx, g, p, num)
	}
	return num, err
}

// beginLimit gives an outer NIC or VIP (table nic, vip) in a state another bandwidth, until a workflow of registerLimit
// settles: 201, 202, 206, 8007, 17003, 23000, 23001.
func (s *Service) beginLimit(ctx context.Context, tx bun.Tx, table, id, segment, state string, mbps int) error {
	if err := s.checkTotal(ctx, tx, segment, id, mbps); err != nil {
		return err
	}
	if err := s.resizeOuter(ctx, tx, id, segment, mbps); err != nil {
		return err
	}
	if ok, err := s.turn(ctx, tx, table, id, Updating, nil, state); err != nil {
		return err
	} else if !ok {
		return retcode.InvalidResourceState.Errorf("%s is being changed", id)
	}
	_, err := tx.NewRaw("UPDATE ? SET bandwidth = ? WHERE id = ?", bun.Ident(table), mbps, id).Exec(ctx)
	return err
}

// registerLimit registers a workflow of another bandwidth of outer NICs or VIPs. Their edits say what bandwidth and state
// were before; more are statements that give a bandwidth (?0) back to what else of a resource (?1) has it.
func (s *Service) registerLimit(name, table string, more ...string) *workflow.Workflow[edit] {
	before := func(e *edit) string { return cmp.Or(e.Was["state"], Available) }
	return s.registerEdit(editing{
		name: name,
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			for _, statement := range append([]string{"UPDATE " + table + " SET bandwidth = CAST(?0 AS BIGINT) WHERE id = ?1 AND state = 'Updating'"}, more...) {
				if _, err := tx.NewRaw(statement, e.Was["bandwidth"], e.ID).Exec(ctx); err != nil {
					return err
				}
			}
			return nil
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error {
			if _, err := s.turn(ctx, tx, table, e.ID, before(e), nil, Updating); err != nil {
				return err
			}
			return s.Ledger.Capture(ctx, tx, e.ID)
		},
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			if _, err := s.turn(ctx, tx, table, e.ID, before(e), cause, Updating); err != nil {
				return err
			}
			return s.Ledger.Void(ctx, tx, e.ID)
		},
	})
}

// syncOuter makes the fabric equal to the row of a port on a segment.
func (s *Service) syncOuter(ctx context.Context, id string) error {
	p, err := s.loadOuter(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("reading %s: %w", id, err)
	case p == nil:
		err = s.Fabric.RemoveOuterPort(ctx, id)
	default:
		err = s.Fabric.EnsureOuterPort(ctx, *p)
	}
	if errors.Is(err, fabric.ErrNoSegment) {
		segments, e := segmentsByID(ctx, s.DB.Reader(), []string{p.SegmentID})
		if e != nil || segments[p.SegmentID] == nil {
			return errors.Join(err, e)
		}
		if err = s.ensureSegment(ctx, segments[p.SegmentID]); err == nil {
			err = s.Fabric.EnsureOuterPort(ctx, *p)
		}
	}
	if err != nil {
		return fmt.Errorf("programming %s: %w", id, err)
	}
	return nil
}

// loadOuter builds an outer port from its rows, with the VIPs that it may carry; nil when it is in no network.
func (s *Service) loadOuter(ctx context.Context, id string) (*fabric.OuterPort, error) {
	db := s.DB.Reader()
	row := new(Port)
	if found, err := one(db.NewSelect().Model(row).Where("id = ? AND segment_id <> '' AND owner_kind <> ? AND kept = ?", id, ofVIP, false).Scan(ctx)); err != nil || !found {
		return nil, err
	}
	segments, err := segmentsByID(ctx, db, []string{row.SegmentID})
	if err != nil || segments[row.SegmentID] == nil {
		return nil, err
	}
	segment := segments[row.SegmentID]
	p := &fabric.OuterPort{ID: row.ID, UUID: row.UUID, SegmentID: row.SegmentID, MAC: row.MAC, InMbps: row.InMbps, OutMbps: row.OutMbps}
	if p.CIDR, err = netip.ParsePrefix(segment.CIDR); err != nil {
		return nil, err
	}
	if p.IP, err = netip.ParseAddr(row.IP); err != nil {
		return nil, err
	}
	if segment.DHCP {
		// Segments without a gateway have their DHCP server at the network's own address, which nobody is given.
		p.Server = p.CIDR.Addr()
		if server := segment.dhcpServer(); server != "" {
			if p.Server, err = netip.ParseAddr(server); err != nil {
				return nil, err
			}
		}
	}
	var vips []struct {
		ID, IP    string
		Bandwidth int
	}
	if err := db.NewRaw(`SELECT v.id, p.ip, v.bandwidth FROM vip_carrier AS c JOIN vip AS v ON v.id = c.vip_id JOIN port AS p ON p.id = v.id AND NOT p.kept
		WHERE c.port_id = ? AND p.segment_id = ? ORDER BY v.id`, id, row.SegmentID).Scan(ctx, &vips); err != nil {
		return nil, err
	}
	for _, v := range vips {
		ip, err := netip.ParseAddr(v.IP)
		if err != nil {
			return nil, err
		}
		p.Virtuals = append(p.Virtuals, fabric.OuterVirtual{ID: v.ID, IP: ip, Mbps: v.Bandwidth})
	}
	if row.OuterSG != "" {
		groups, sets, err := loadGroups(ctx, db, map[groupSide][]string{{row.OuterSG, fabric.Outer}: {row.ID}})
		if err != nil {
			return nil, err
		}
		p.Filtered, p.Group = true, row.OuterSG
		for _, g := range groups {
			for _, r := range g.Rules {
				if r.Set != "" { // there is no VPC to keep the set in
					i := slices.IndexFunc(sets, func(x fabric.Set) bool { return x.ID == r.Set })
					if i < 0 || len(sets[i].Prefixes) == 0 {
						continue // nobody is meant
					}
					r.Set, r.Remote = "", sets[i].Prefixes
				}
				p.Rules = append(p.Rules, r)
			}
		}
	}
	return p, nil
}

// What an elastic NIC is to its machine in a VPC.
type place int

const (
	own       place = iota // no elastic one
	firstHere              // by which the machine reaches the VPC
	notFirst               // the machine reaches the VPC by another
)

// loadFurther tells elastic NICs from machines' own ports. Of several in one VPC the machine's own, or the first
// elastic one, leads to it: a guest can use only one route to a network.
func loadFurther(ctx context.Context, db bun.IDB, vpcID string, ports []Port) (map[string]place, error) {
	nics, err := database.Query[NIC](ctx, db, "SELECT id FROM nic WHERE vpc_id = ? AND ended_at = 0", vpcID)
	if err != nil || len(nics) == 0 {
		return nil, err
	}
	out := make(map[string]place, len(nics))
	for _, n := range nics {
		out[n.ID] = notFirst
	}
	led := make(map[string]bool) // owners
	for _, p := range ports {
		if _, elastic := out[p.ID]; !elastic {
			led[p.OwnerID] = true
		}
	}
	for _, p := range ports { // in the order of their ids
		if _, elastic := out[p.ID]; elastic && !led[p.OwnerID] {
			out[p.ID], led[p.OwnerID] = firstHere, true
		}
	}
	return out, nil
}

// outerConfig is what a guest needs to know of its port on a segment; without a gateway there is none.
func outerConfig(ctx context.Context, idb bun.IDB, p *Port) (PortConfig, error) {
	segments, err := segmentsByID(ctx, idb, []string{p.SegmentID})
	if err != nil {
		return PortConfig{}, err
	}
	segment := segments[p.SegmentID]
	if segment == nil {
		return PortConfig{}, fmt.Errorf("segment of %s is gone", p.ID)
	}
	cidr, err := netip.ParsePrefix(segment.CIDR)
	if err != nil {
		return PortConfig{}, err
	}
	ip, err := netip.ParseAddr(p.IP)
	if err != nil {
		return PortConfig{}, err
	}
	c := PortConfig{Address: netip.PrefixFrom(ip, cidr.Bits()), MTU: 1500, Static: !segment.DHCP}
	if segment.Gateway != "" {
		c.Gateway, err = netip.ParseAddr(segment.Gateway)
	}
	return c, err
}
