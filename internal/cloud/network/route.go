package network

import (
	"context"
	"net/netip"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// maxRoutes of a subnet, beside the system's.
const maxRoutes = 100

// Kinds of next hops. Local and Peering are the system's own routes, which nobody edits.
const (
	hopVM      = "VM"
	hopVIP     = "VIP"
	hopCustom  = "Custom"
	hopLocal   = "Local"
	hopPeering = "Peering"
)

// routeRow is a subnet's own route. What decides, in this order: a route of the subnet, the more specific first;
// what the VPC's router knows by itself (its subnets, linked VPCs) at an equal prefix, since such routes are
// refused; the way out of the machine's EIPs; the VPC's default route.
type routeRow struct {
	bun.BaseModel `bun:"table:route"`

	ID          string `bun:"id,pk"`
	VPCID       string `bun:"vpc_id"`
	SubnetID    string `bun:"subnet_id"`
	Destination string `bun:"destination"`
	HopType     string `bun:"hop_type"`
	Hop         string `bun:"hop"`
	Remark      string `bun:"remark"`
	State       string `bun:"state"`
	Reason      string `bun:"reason"`
	ReasonCode  int    `bun:"reason_code"`
	CreatedAt   int64  `bun:"created_at"`
	UpdatedAt   int64  `bun:"updated_at"`
	Generation  int64  `bun:"generation"`
}

// parseDestination reads a route's destination: 3012 not in CIDR form or with host bits, 113 nothing that a
// router forwards.
func parseDestination(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(strings.TrimSpace(text))
	if err != nil {
		return p, retcode.InvalidCIDR.Errorf("%q", text)
	}
	if p != p.Masked() {
		return p, retcode.InvalidCIDR.Errorf("%s has host bits, its network is %s", p, p.Masked())
	}
	a := p.Addr()
	if !a.Is4() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || p.Bits() > 0 && a.IsUnspecified() {
		return p, retcode.InvalidParameter.Errorf("Destination: %s cannot be routed", p)
	}
	return p, nil
}

// checkRoute refuses a route that the subnet cannot have: 113 when the system has one to that destination or it
// lies within the subnet, when the next hop is not in the VPC; 4, 1004, 200 for a next hop that is none.
func (s *Service) checkRoute(ctx context.Context, tx bun.Tx, v *VPC, n *Subnet, r *routeRow) error {
	to, err := parseDestination(r.Destination)
	if err != nil {
		return err
	}
	r.Destination = to.String()
	own, err := netip.ParsePrefix(n.CIDR)
	if err != nil {
		return err
	}
	if own.Bits() <= to.Bits() && own.Contains(to.Addr()) {
		return retcode.InvalidParameter.Errorf("Destination: %s is within %s itself", to, n.ID)
	}
	var taken []string
	if err := tx.NewRaw(`SELECT cidr FROM subnet WHERE vpc_id = ?0 AND ended_at = 0 UNION SELECT ?1 UNION
		SELECT v.cidr FROM peering AS p JOIN vpc AS v ON v.id = CASE WHEN p.vpc_id = ?0 THEN p.peer_id ELSE p.vpc_id END
		WHERE p.vpc_id = ?0 OR p.peer_id = ?0`, v.ID, v.CIDR).Scan(ctx, &taken); err != nil {
		return err
	}
	for _, cidr := range taken {
		if cidr == to.String() {
			return retcode.InvalidParameter.Errorf("Destination: %s has a system route to %s", n.ID, to)
		}
	}
	if there, err := exists(ctx, tx, "SELECT 1 FROM route WHERE subnet_id = ? AND destination = ? AND id <> ?", n.ID, r.Destination, r.ID); err != nil {
		return err
	} else if there {
		return retcode.InvalidParameter.Errorf("Destination: %s has a route to %s", n.ID, to)
	}
	return s.checkHop(ctx, tx, v, n, own, r)
}

func (s *Service) checkHop(ctx context.Context, tx bun.Tx, v *VPC, n *Subnet, own netip.Prefix, r *routeRow) error {
	if r.HopType == hopCustom {
		a, err := netip.ParseAddr(strings.TrimSpace(r.Hop))
		if err != nil || a.Zone() != "" {
			return retcode.InvalidParameterFormat.Errorf("NextHop: %q is no IP address", r.Hop)
		}
		if !own.Contains(a) || offset(own, a) == 0 || offset(own, a) == size(own)-1 || a == n.gateway(own) {
			return retcode.InvalidParameter.Errorf("NextHop: %s is no machine's address of %s", a, own)
		}
		r.Hop = a.String()
		return nil
	}
	var places []string
	if err := tx.NewRaw("SELECT vpc_id FROM port WHERE owner_kind = ? AND owner_id = ? AND company = ?", r.HopType, r.Hop, v.Company).Scan(ctx, &places); err != nil {
		return err
	}
	for _, at := range places {
		if at == v.ID {
			return nil
		}
	}
	switch {
	case len(places) > 0:
		return retcode.InvalidParameter.Errorf("NextHop: %s is not in %s", r.Hop, v.ID)
	case r.HopType == hopVM:
		return retcode.VMNotFound.Errorf("NextHop %s", r.Hop)
	}
	return retcode.ResourceNotFound.Errorf("NextHop %s", r.Hop)
}

// routeByID reads a route of a subnet: 200 when unknown or another subnet's.
func routeByID(ctx context.Context, idb bun.IDB, n *Subnet, id string) (*routeRow, error) {
	r := new(routeRow)
	found, err := one(idb.NewSelect().Model(r).Where("id = ? AND subnet_id = ?", id, n.ID).Scan(ctx))
	if err == nil && !found {
		err = retcode.ResourceNotFound.Errorf("RouteID %s of %s", id, n.ID)
	}
	return r, err
}

// subnetWithVPC reads a subnet of a scope with its VPC, both usable: 3003, 3007 to 3010.
func subnetWithVPC(ctx context.Context, tx bun.Tx, scope action.Scope, id string) (*Subnet, *VPC, error) {
	n, err := subnetIn(ctx, tx, scope, id)
	if err != nil {
		return nil, nil, err
	}
	v, err := vpcByID(ctx, tx, action.Scope{}, n.VPCID)
	if err != nil {
		return nil, nil, err
	}
	if err := v.usable(); err != nil {
		return nil, nil, err
	}
	if err := lockVPC(ctx, tx, v); err != nil { // so that routes, links and subnets do not come to be side by side
		return nil, nil, err
	}
	if err := n.usable(); err != nil {
		return nil, nil, err
	}
	return n, v, nil
}

// loadRoutes reads the routes of a VPC for the fabric, by subnet. One whose next hop is not in the network (its
// machine is in the recycle bin, say) is left out until it is.
func loadRoutes(ctx context.Context, db bun.IDB, vpcID string, ports []Port) (map[string][]fabric.Route, error) {
	rows, err := database.Find[routeRow](ctx, db, "WHERE vpc_id = ? AND state <> ? ORDER BY id", vpcID, Deleting)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]fabric.Route)
	for _, r := range rows {
		hop, ok := r.address(ports)
		to, err := netip.ParsePrefix(r.Destination)
		if err != nil {
			return nil, err
		}
		if ok {
			out[r.SubnetID] = append(out[r.SubnetID], fabric.Route{ID: r.ID, Destination: to, NextHop: hop})
		}
	}
	return out, nil
}

// address is where a route leads, among the ports in use of its VPC: a machine's port in the same subnet before
// one in another.
func (r *routeRow) address(ports []Port) (netip.Addr, bool) {
	text := ""
	if r.HopType == hopCustom {
		text = r.Hop
	}
	for _, p := range ports {
		if r.HopType != hopCustom && p.OwnerKind == r.HopType && p.OwnerID == r.Hop && (text == "" || p.SubnetID == r.SubnetID) {
			text = p.IP
		}
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil
}

// registerRoute registers the workflows of routes.
func (s *Service) registerRoute() {
	remove := func(ctx context.Context, tx bun.Tx, e *edit) error {
		_, err := tx.NewRaw("DELETE FROM route WHERE id IN (?) AND state = ?", bun.In(e.all()), Deleting).Exec(ctx)
		return err
	}
	s.makeRoute = s.registerEdit(editing{
		name: "route.create",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "route", e.ID, Deleting, nil, Creating)
			return err
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "route", e.ID, Available, nil, Creating)
			return err
		},
		abort: func(ctx context.Context, tx bun.Tx, e *edit, _ error) error { return remove(ctx, tx, e) },
	})
	s.changeRoute = s.registerEdit(editing{
		name: "route.update",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := tx.NewRaw("UPDATE route SET destination = ?, hop_type = ?, hop = ?, remark = ? WHERE id = ? AND state = ?",
				e.Was["destination"], e.Was["hop_type"], e.Was["hop"], e.Was["remark"], e.ID, Updating).Exec(ctx)
			return err
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "route", e.ID, Available, nil, Updating)
			return err
		},
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			_, err := s.turn(ctx, tx, "route", e.ID, Available, cause, Updating)
			return err
		},
	})
	s.removeRoute = s.registerEdit(editing{
		name: "route.delete",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			for _, id := range e.all() {
				if _, err := s.turn(ctx, tx, "route", id, Available, nil, Deleting); err != nil {
					return err
				}
			}
			return nil
		},
		settle: remove,
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			for _, id := range e.all() {
				if _, err := s.turn(ctx, tx, "route", id, Available, cause, Available); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// systemRoutes are what a subnet's router knows by itself.
func systemRoutes(ctx context.Context, idb bun.IDB, n *Subnet) ([]routeInfo, error) {
	v := new(VPC)
	if err := idb.NewSelect().Model(v).Where("id = ?", n.VPCID).Scan(ctx); err != nil {
		return nil, err
	}
	out := []routeInfo{{RouteID: "route-local", SubnetID: n.ID, Destination: v.CIDR, NextHopType: hopLocal, NextHop: "local", IsSystem: true,
		Status: Available, CreateTime: seconds(n.CreatedAt)}}
	links, err := linksOf(ctx, idb, n.VPCID)
	if err != nil {
		return nil, err
	}
	for _, l := range links[n.VPCID] {
		out = append(out, routeInfo{RouteID: "route-" + l.PeerID, SubnetID: n.ID, Destination: l.PeerNetworks[0], NextHopType: hopPeering, NextHop: l.PeerID,
			IsSystem: true, Status: l.State, CreateTime: l.CreateTime})
	}
	return out, nil
}

// routeCounts are how many routes subnets have, the system's included.
func routeCounts(ctx context.Context, idb bun.IDB, subnets []Subnet) (map[string]int, error) {
	out := make(map[string]int)
	if len(subnets) == 0 {
		return out, nil
	}
	var rows []struct {
		ID string
		N  int
	}
	if err := idb.NewSelect().TableExpr("route").ColumnExpr("subnet_id AS id, COUNT(*) AS n").
		Where("subnet_id IN (?)", bun.In(column(subnets, func(n *Subnet) string { return n.ID }))).GroupExpr("subnet_id").Scan(ctx, &rows); err != nil {
		return nil, err
	}
	for _, r := range rows {
		out[r.ID] = r.N
	}
	links, err := linksOf(ctx, idb, uniq(column(subnets, func(n *Subnet) string { return n.VPCID }))...)
	if err != nil {
		return nil, err
	}
	for _, n := range subnets {
		out[n.ID] += 1 + len(links[n.VPCID])
	}
	return out, nil
}
