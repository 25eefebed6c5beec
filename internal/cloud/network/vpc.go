package network

import (
	"context"
	"net/netip"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Networks of VPCs and subnets.
var (
	// vpcRanges are the private ranges, and the shortest prefix of a VPC in each.
	vpcRanges = []struct {
		within   netip.Prefix
		shortest int
	}{
		{netip.MustParsePrefix("10.0.0.0/8"), 8},
		{netip.MustParsePrefix("172.16.0.0/12"), 16},
		{netip.MustParsePrefix("192.168.0.0/16"), 16},
	}
	// reservedRanges are private ranges that the platform keeps for itself.
	reservedRanges = []netip.Prefix{netip.MustParsePrefix("172.30.0.0/15")}
)

// longestMask is the smallest network: a /29 has 4 addresses to hand out.
const longestMask = 29

// maxSubnetDNS is how many servers a subnet's DHCP offers.
const maxSubnetDNS = 3

// parseNetwork reads a tenant's network: 3012 not in CIDR form or with host bits, 3013 not private IPv4, 3014
// reserved, 113 too large or too small.
func parseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(strings.TrimSpace(text))
	if err != nil {
		return p, retcode.InvalidCIDR.Errorf("%q", text)
	}
	if p != p.Masked() {
		return p, retcode.InvalidCIDR.Errorf("%s has host bits, its network is %s", p, p.Masked())
	}
	shortest := 0
	for _, r := range vpcRanges {
		if r.within.Bits() <= p.Bits() && r.within.Contains(p.Addr()) {
			shortest = r.shortest
		}
	}
	if shortest == 0 {
		return p, retcode.NotPrivateNetwork.Errorf("%s is not within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16", p)
	}
	for _, r := range reservedRanges {
		if r.Overlaps(p) {
			return p, retcode.ReservedNetworkOverlap.Errorf("%s overlaps %s", p, r)
		}
	}
	if p.Bits() < shortest || p.Bits() > longestMask {
		return p, retcode.InvalidParameter.Errorf("Network: the prefix length of %s must be between %d and %d", p, shortest, longestMask)
	}
	return p, nil
}

// usable refuses a VPC that is being made (3008), or that is gone or going (3007).
func (v *VPC) usable() error {
	switch v.State {
	case Available:
		return nil
	case Terminating, Terminated:
		return retcode.InvalidVPCBizState.Errorf("%s is %s", v.ID, v.State)
	}
	return retcode.InvalidVPCState.Errorf("%s is %s", v.ID, v.State)
}

// usable refuses a subnet that is being made (3010), or that is gone or going (3009).
func (sn *Subnet) usable() error {
	switch sn.State {
	case Available:
		return nil
	case Deleting, Deleted:
		return retcode.InvalidSubnetBizState.Errorf("%s is %s", sn.ID, sn.State)
	}
	return retcode.InvalidSubnetState.Errorf("%s is %s", sn.ID, sn.State)
}

// lockVPC reads a VPC anew and keeps others from changing what is in it until the transaction ends.
func lockVPC(ctx context.Context, tx bun.Tx, v *VPC) error {
	return tx.NewRaw("UPDATE vpc SET generation = generation + 1 WHERE id = ? RETURNING *", v.ID).Scan(ctx, v)
}

// lockSubnet keeps others from taking addresses of a subnet, and it from being deleted, until the
// transaction ends: 3009, 3010 when it is no longer usable.
func lockSubnet(ctx context.Context, tx bun.Tx, sn *Subnet) error {
	if err := tx.NewRaw("UPDATE subnet SET used = used WHERE id = ? RETURNING state, used", sn.ID).Scan(ctx, &sn.State, &sn.Used); err != nil {
		return err
	}
	return sn.usable()
}

// subnetIn reads a subnet of a scope: 3003 when unknown or out of it.
func subnetIn(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*Subnet, error) {
	n := new(Subnet)
	found, err := one(identity.Own(idb.NewSelect().Model(n).Where("id = ?", id), scope).Scan(ctx))
	if err == nil && !found {
		err = retcode.SubnetNotFound.Errorf("SubnetID %s", id)
	}
	return n, err
}

// checkSubnet refuses a subnet that does not fit into its VPC: 3006 outside, 3001 there already, 3005 overlaps
// another, 3014 overlaps an external segment of the region, which the VPC's router could not tell from it.
func checkSubnet(ctx context.Context, tx bun.Tx, v *VPC, cidr netip.Prefix) error {
	whole, err := netip.ParsePrefix(v.CIDR)
	if err != nil {
		return err
	}
	if whole.Bits() > cidr.Bits() || !whole.Contains(cidr.Addr()) {
		return retcode.SubnetOutOfVPC.Errorf("%s is not within %s of %s", cidr, whole, v.ID)
	}
	var siblings []Subnet
	if err := tx.NewSelect().Model(&siblings).Where("vpc_id = ? AND ended_at = 0", v.ID).Order("created_at", "id").Scan(ctx); err != nil {
		return err
	}
	overlap := ""
	for _, n := range siblings {
		other, err := netip.ParsePrefix(n.CIDR)
		if err != nil {
			return err
		}
		if other == cidr {
			return retcode.SubnetExists.Errorf("%s is %s", n.ID, cidr)
		}
		if other.Overlaps(cidr) {
			overlap = n.ID + " with " + n.CIDR
		}
	}
	if overlap != "" {
		return retcode.SubnetConflict.Errorf("%s overlaps %s", cidr, overlap)
	}
	var segments []Segment
	if err := tx.NewSelect().Model(&segments).Where("region = ?", v.Region).Order("id").Scan(ctx); err != nil {
		return err
	}
	for _, g := range segments {
		if outer, err := netip.ParsePrefix(g.CIDR); err == nil && outer.Overlaps(cidr) {
			return retcode.ReservedNetworkOverlap.Errorf("%s overlaps the external segment %s", cidr, g.Name)
		}
	}
	return nil
}

// registerVPC registers the workflows that make and remove VPCs and subnets.
func (s *Service) registerVPC() {
	s.makeVPC = s.registerEdit(editing{
		name: "vpc.create",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "vpc", e.ID, Terminating, nil, Allocating)
			return err
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "vpc", e.ID, Available, nil, Allocating)
			return err
		},
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			return s.endVPC(ctx, tx, e.ID, cause)
		},
	})
	s.removeVPC = s.registerEdit(editing{
		name: "vpc.delete",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "vpc", e.ID, Available, nil, Terminating)
			return err
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error { return s.endVPC(ctx, tx, e.ID, nil) },
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			_, err := s.turn(ctx, tx, "vpc", e.ID, Available, cause, Available)
			return err
		},
	})
	s.makeSubnet = s.registerEdit(editing{
		name: "subnet.create",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "subnet", e.ID, Deleting, nil, Allocating)
			return err
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "subnet", e.ID, Available, nil, Allocating)
			return err
		},
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			return s.endSubnet(ctx, tx, e.ID, cause)
		},
	})
	s.removeSubnet = s.registerEdit(editing{
		name: "subnet.delete",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "subnet", e.ID, Available, nil, Deleting)
			return err
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error { return s.endSubnet(ctx, tx, e.ID, nil) },
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			_, err := s.turn(ctx, tx, "subnet", e.ID, Available, cause, Available)
			return err
		},
	})
}

// endVPC makes a tombstone of a VPC that is in no network any more.
func (s *Service) endVPC(ctx context.Context, tx bun.Tx, id string, cause error) error {
	if ok, err := s.turn(ctx, tx, "vpc", id, Terminated, cause, Terminating); err != nil || !ok {
		return err
	}
	v := new(VPC)
	if err := tx.NewRaw("UPDATE vpc SET ended_at = ?, is_default = ? WHERE id = ? RETURNING *", s.Clock.Micros(), false, id).Scan(ctx, v); err != nil {
		return err
	}
	return s.Catalog.Release(ctx, tx, v.Company, v.Region, catalog.Amounts{catalog.VPC: 1})
}

// endSubnet makes a tombstone of a subnet that is in no network any more; its routes go with it.
func (s *Service) endSubnet(ctx context.Context, tx bun.Tx, id string, cause error) error {
	if ok, err := s.turn(ctx, tx, "subnet", id, Deleted, cause, Deleting); err != nil || !ok {
		return err
	}
	if _, err := tx.NewRaw("DELETE FROM route WHERE subnet_id = ?", id).Exec(ctx); err != nil {
		return err
	}
	n := new(Subnet)
	if err := tx.NewRaw("UPDATE subnet SET ended_at = ?, is_default = ? WHERE id = ? RETURNING *", s.Clock.Micros(), false, id).Scan(ctx, n); err != nil {
		return err
	}
	return s.Catalog.Release(ctx, tx, n.Company, n.Region, catalog.Amounts{catalog.Subnet: 1})
}
