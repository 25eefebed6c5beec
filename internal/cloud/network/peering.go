package network

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// peeringRow is a link of two VPCs; VPCID is the smaller id.
type peeringRow struct {
	bun.BaseModel `bun:"table:peering"`

	ID         string `bun:"id,pk"`
	VPCID      string `bun:"vpc_id"`
	PeerID     string `bun:"peer_id"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Num        int64  `bun:"num"`
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	ReasonCode int    `bun:"reason_code"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// linkNetworks are what the addresses between routers come from: a /30 for each link of a VPC.
var linkNetworks = netip.MustParsePrefix("169.254.128.0/17")

// maxLinks of one VPC: as many as there are networks between routers.
const maxLinks = 1 << 13

// ends are the addresses of the link on the routers of VPCID and PeerID.
func (p *peeringRow) ends() (netip.Addr, netip.Addr) {
	return nth(linkNetworks, 4*p.Num+1), nth(linkNetworks, 4*p.Num+2)
}

// other is the VPC at the other end.
func (p *peeringRow) other(vpc string) string {
	if p.VPCID == vpc {
		return p.PeerID
	}
	return p.VPCID
}

// checkLink refuses a link that cannot be: 3008 a gateway is off, 113 networks overlap (each other, or those of
// VPCs linked already), or a subnet has a route of its own to the other's network.
func checkLink(ctx context.Context, tx bun.Tx, a, b *VPC) error {
	networks := make(map[string]netip.Prefix)
	for _, v := range []*VPC{a, b} {
		if !v.Gateway {
			return retcode.InvalidVPCState.Errorf("the gateway of %s is off", v.ID)
		}
		cidr, err := netip.ParsePrefix(v.CIDR)
		if err != nil {
			return err
		}
		networks[v.ID] = cidr
	}
	if networks[a.ID].Overlaps(networks[b.ID]) {
		return retcode.InvalidParameter.Errorf("%s of %s overlaps %s of %s", a.CIDR, a.ID, b.CIDR, b.ID)
	}
	links, err := linksOf(ctx, tx, a.ID, b.ID)
	if err != nil {
		return err
	}
	for _, pair := range [][2]*VPC{{a, b}, {b, a}} {
		for _, l := range links[pair[0].ID] {
			if n, err := netip.ParsePrefix(l.PeerNetworks[0]); err == nil && n.Overlaps(networks[pair[1].ID]) {
				return retcode.InvalidParameter.Errorf("%s overlaps %s of %s, which is linked to %s", pair[1].CIDR, n, l.PeerID, pair[0].ID)
			}
		}
		if there, err := exists(ctx, tx, "SELECT 1 FROM route WHERE vpc_id = ? AND destination = ?", pair[0].ID, pair[1].CIDR); err != nil {
			return err
		} else if there {
			return retcode.InvalidParameter.Errorf("a subnet of %s has a route to %s", pair[0].ID, pair[1].CIDR)
		}
	}
	return nil
}

// freeLink is the smallest number that no link of either VPC has.
func freeLink(ctx context.Context, tx bun.Tx, a, b string) (int64, error) {
	var taken []int64
	if err := tx.NewRaw("SELECT DISTINCT num FROM peering WHERE vpc_id IN (?0, ?1) OR peer_id IN (?0, ?1) ORDER BY num", a, b).Scan(ctx, &taken); err != nil {
		return 0, err
	}
	num := int64(0)
	for _, n := range taken {
		if n == num {
			num++
		}
	}
	if num >= maxLinks {
		return 0, retcode.BindLimitReached.Errorf("a VPC has at most %d links", maxLinks)
	}
	return num, nil
}

// peeringOf reads the link of two VPCs; nil when there is none.
func peeringOf(ctx context.Context, idb bun.IDB, a, b string) (*peeringRow, error) {
	p := new(peeringRow)
	found, err := one(idb.NewSelect().Model(p).Where("vpc_id = ? AND peer_id = ?", min(a, b), max(a, b)).Scan(ctx))
	if !found {
		return nil, err
	}
	return p, err
}

// linksOf reads the links of VPCs, by VPC.
func linksOf(ctx context.Context, idb bun.IDB, vpcs ...string) (map[string][]peeringInfo, error) {
	out := make(map[string][]peeringInfo)
	if len(vpcs) == 0 {
		return out, nil
	}
	var rows []peeringRow
	if err := idb.NewSelect().Model(&rows).Where("vpc_id IN (?0) OR peer_id IN (?0)", bun.In(vpcs)).Order("created_at", "id").Scan(ctx); err != nil || len(rows) == 0 {
		return out, err
	}
	var ends []VPC
	if err := idb.NewSelect().Model(&ends).Where("id IN (?)", bun.In(append(column(rows, func(p *peeringRow) string { return p.VPCID }), column(rows, func(p *peeringRow) string { return p.PeerID })...))).Scan(ctx); err != nil {
		return nil, err
	}
	byID := make(map[string]*VPC)
	for i := range ends {
		byID[ends[i].ID] = &ends[i]
	}
	for _, p := range rows {
		for _, pair := range [][2]string{{p.VPCID, p.PeerID}, {p.PeerID, p.VPCID}} {
			if peer := byID[pair[1]]; peer != nil {
				out[pair[0]] = append(out[pair[0]], peeringInfo{PeerType: "VPC", PeerID: peer.ID, PeerName: peer.Name, PeerNetworks: []string{peer.CIDR},
					State: p.State, CreateTime: seconds(p.CreatedAt)})
			}
		}
	}
	return out, nil
}

// loadLinks reads the links of a VPC for the fabric.
func loadLinks(ctx context.Context, db bun.IDB, vpc string) ([]fabric.Link, error) {
	rows, err := database.Find[peeringRow](ctx, db, "WHERE (vpc_id = ? OR peer_id = ?) AND state <> ? ORDER BY id", vpc, vpc, Deleting)
	if err != nil {
		return nil, err
	}
	var out []fabric.Link
	for _, p := range rows {
		peer := new(VPC)
		if found, err := one(db.NewSelect().Model(peer).Column("id", "cidr").Where("id = ? AND ended_at = 0", p.other(vpc)).Scan(ctx)); err != nil {
			return nil, err
		} else if !found {
			continue
		}
		cidr, err := netip.ParsePrefix(peer.CIDR)
		if err != nil {
			return nil, fmt.Errorf("VPC %s: %w", peer.ID, err)
		}
		here, there := p.ends()
		if p.PeerID == vpc {
			here, there = there, here
		}
		out = append(out, fabric.Link{PeerID: peer.ID, Networks: []netip.Prefix{cidr}, Address: netip.PrefixFrom(here, 30), NextHop: there})
	}
	return out, nil
}

// registerPeering registers the workflows of links.
func (s *Service) registerPeering() {
	remove := func(ctx context.Context, tx bun.Tx, e *edit) error {
		_, err := tx.NewRaw("DELETE FROM peering WHERE id = ? AND state = ?", e.ID, Deleting).Exec(ctx)
		return err
	}
	s.makePeering = s.registerEdit(editing{
		name: "peering.create",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "peering", e.ID, Deleting, nil, Allocating)
			return err
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "peering", e.ID, Available, nil, Allocating)
			return err
		},
		abort: func(ctx context.Context, tx bun.Tx, e *edit, _ error) error { return remove(ctx, tx, e) },
	})
	s.removePeering = s.registerEdit(editing{
		name: "peering.delete",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "peering", e.ID, Available, nil, Deleting)
			return err
		},
		settle: remove,
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			_, err := s.turn(ctx, tx, "peering", e.ID, Available, cause, Available)
			return err
		},
	})
}
