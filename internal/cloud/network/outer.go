package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/fabric"
)

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

// loadOuter builds an outer port from its rows; nil when it is in no network.
func (s *Service) loadOuter(ctx context.Context, id string) (*fabric.OuterPort, error) {
	db := s.DB.Reader()
	row := new(Port)
	if found, err := one(db.NewSelect().Model(row).Where("id = ? AND segment_id <> '' AND kept = ?", id, false).Scan(ctx)); err != nil || !found {
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
	// Segments without a gateway have their DHCP server at the network's own address, which nobody is given.
	p.Server = p.CIDR.Addr()
	if segment.Gateway != "" {
		if p.Server, err = netip.ParseAddr(segment.Gateway); err != nil {
			return nil, err
		}
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
	var ids []string
	if err := db.NewSelect().Model((*NIC)(nil)).Column("id").Where("vpc_id = ? AND ended_at = 0", vpcID).Scan(ctx, &ids); err != nil || len(ids) == 0 {
		return nil, err
	}
	out := make(map[string]place, len(ids))
	for _, id := range ids {
		out[id] = notFirst
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
	c := PortConfig{Address: netip.PrefixFrom(ip, cidr.Bits()), MTU: 1500}
	if segment.Gateway != "" {
		c.Gateway, err = netip.ParseAddr(segment.Gateway)
	}
	return c, err
}
