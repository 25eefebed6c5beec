package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"
	"golang.org/x/sync/errgroup"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
)

const (
	syncTimeout  = 30 * time.Second // of one run
	gatherAtMost = 25 * time.Millisecond
	waitTimeout  = 5 * time.Second // for hosts to follow
	syncsAtATime = 4               // VPCs at once in the reconciler
	mendEvery    = 30 * time.Second
)

// queue calls a function for a key, one call at a time. Callers that come while one is under way share
// the next: it begins after they came, so it sees what they wrote.
type queue struct {
	call func(ctx context.Context, key string) error
	mu   sync.Mutex
	runs map[string]*run // by key: the one under way
}

type run struct {
	done chan struct{}
	err  error
	next *run
}

func (q *queue) do(ctx context.Context, key string) error {
	q.mu.Lock()
	r := q.runs[key]
	switch {
	case r == nil:
		r = &run{done: make(chan struct{})}
		if q.runs == nil {
			q.runs = make(map[string]*run)
		}
		q.runs[key] = r
		go q.work(key, r)
	case r.next == nil:
		r.next = &run{done: make(chan struct{})}
		r = r.next
	default:
		r = r.next
	}
	q.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *queue) work(key string, r *run) {
	for {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), syncTimeout)
		r.err = q.call(ctx, key)
		cancel()
		close(r.done)
		q.mu.Lock()
		if r.next == nil {
			delete(q.runs, key)
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		// Under load the next run gathers callers for as long as the last one took: a large VPC that
		// changes all the time shall not keep a processor to itself.
		time.Sleep(min(time.Since(began), gatherAtMost))
		q.mu.Lock()
		r = r.next
		q.runs[key] = r
		q.mu.Unlock()
	}
}

// SyncVPC makes the fabric equal to the rows of one VPC and returns when a run that began after the
// call is done. Callers of one VPC at the same time share runs. An unknown VPC, or a default
// one without ports in use, is removed from the fabric. Not to be called inside a transaction.
func (s *Service) SyncVPC(ctx context.Context, vpcID string) error {
	if database.InTransaction(ctx) {
		return database.ErrNested
	}
	return s.syncs.do(ctx, vpcID)
}

// syncOne syncs a VPC, or an outer port by its id.
func (s *Service) syncOne(ctx context.Context, id string) error {
	if strings.HasPrefix(id, "nic-") {
		return s.syncOuter(ctx, id)
	}
	return s.syncVPC(ctx, id)
}

func (s *Service) syncVPC(ctx context.Context, vpcID string) error {
	v, err := s.load(ctx, vpcID)
	if err != nil {
		return fmt.Errorf("reading %s: %w", vpcID, err)
	}
	if v == nil {
		err = s.Fabric.RemoveVPC(ctx, vpcID)
	} else {
		err = s.Fabric.EnsureVPC(ctx, *v)
	}
	if errors.Is(err, fabric.ErrNoSegment) { // not mended yet since the start, or somebody removed it
		if err = s.ensureSegments(ctx, v); err == nil {
			err = s.Fabric.EnsureVPC(ctx, *v)
		}
	}
	if err != nil {
		return fmt.Errorf("programming %s: %w", vpcID, err)
	}
	return nil
}

// load builds a VPC from its rows; nil when it is unknown or going, or a default one without ports in use. The rows are read one
// table after another: who changes them meanwhile syncs after that, so what is torn is soon mended.
func (s *Service) load(ctx context.Context, vpcID string) (*fabric.VPC, error) {
	db := s.DB.Reader()
	row := new(VPC)
	if found, err := one(database.One(ctx, db, db.NewSelect().Model(row).Where("id = ?", vpcID), row)); err != nil || !found || row.State == Terminating || row.State == Terminated {
		return nil, err
	}
	ports, err := database.Query[Port](ctx, db, `SELECT id, uuid, subnet_id, mac, ip, hostname, dns, owner_kind, owner_id, inner_sg, outer_sg, host_id, in_mbps, out_mbps
		FROM port WHERE vpc_id = ? AND kept = ? ORDER BY id`, vpcID, false)
	if err != nil {
		return nil, err
	}
	links, err := loadLinks(ctx, db, vpcID)
	if err != nil {
		return nil, err
	}
	if len(ports) == 0 && len(links) == 0 && row.IsDefault {
		return nil, nil // every tenant has one, few use it
	}
	v := &fabric.VPC{ID: row.ID, MTU: s.Fleet.OverlayMTU(row.Region), Links: links}
	routes, err := loadRoutes(ctx, db, vpcID, ports)
	if err != nil {
		return nil, err
	}
	if v.CIDR, err = netip.ParsePrefix(row.CIDR); err != nil {
		return nil, err
	}

	subnets, err := database.Find[Subnet](ctx, db, "WHERE vpc_id = ? AND state NOT IN (?, ?) ORDER BY id", vpcID, Deleting, Deleted)
	if err != nil {
		return nil, err
	}
	for i := range subnets {
		cidr, err := netip.ParsePrefix(subnets[i].CIDR)
		if err != nil {
			return nil, err
		}
		v.Subnets = append(v.Subnets, fabric.Subnet{ID: subnets[i].ID, CIDR: cidr, Gateway: subnets[i].gateway(cidr), DNS: s.dns(ctx, &subnets[i]), Routes: routes[subnets[i].ID]})
	}

	hosts := make(map[string]string, len(ports)) // by port
	groups := make(map[groupSide][]string)       // members
	further, err := loadFurther(ctx, db, vpcID, ports)
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		ip, err := netip.ParseAddr(p.IP)
		if err != nil {
			return nil, fmt.Errorf("port %s: %w", p.ID, err)
		}
		hosts[p.ID] = p.HostID
		if p.OwnerKind == ofVIP {
			v.Virtuals = append(v.Virtuals, fabric.Virtual{ID: p.ID, UUID: p.UUID, SubnetID: p.SubnetID, MAC: p.MAC, IP: ip})
			continue
		}
		port := fabric.Port{ID: p.ID, UUID: p.UUID, SubnetID: p.SubnetID, MAC: p.MAC, IP: ip, Hostname: p.Hostname, DNS: addresses(p.DNS), InMbps: p.InMbps, OutMbps: p.OutMbps}
		port.NoDefaultRoute, port.NoRoutes = further[p.ID] == firstHere, further[p.ID] == notFirst
		v.Ports = append(v.Ports, port)
		for _, g := range []groupSide{{p.InnerSG, fabric.Inner}, {p.OuterSG, fabric.Outer}} {
			if g.id != "" {
				groups[g] = append(groups[g], p.ID)
			}
		}
	}
	if v.Groups, v.Sets, err = loadGroups(ctx, db, groups); err != nil {
		return nil, err
	}
	if err := loadVirtuals(ctx, db, v.Virtuals, v.Ports); err != nil {
		return nil, err
	}
	return v, s.loadEIPs(ctx, db, row.Region, v, hosts)
}

// groupSide is one side of a security group.
type groupSide struct {
	id   string
	side fabric.Side
}

func loadGroups(ctx context.Context, db bun.IDB, members map[groupSide][]string) ([]fabric.Group, []fabric.Set, error) {
	var ids []string
	var sides []groupSide
	for g := range members {
		ids = append(ids, g.id)
		sides = append(sides, g)
	}
	if len(ids) == 0 {
		return nil, nil, nil
	}
	slices.SortFunc(sides, func(a, b groupSide) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.side, b.side)) })
	rules, err := database.Find[ruleRow](ctx, db, "WHERE sg_id IN (?) ORDER BY created_at, id", uniq(ids))
	if err != nil {
		return nil, nil, err
	}
	sets, named, err := loadSets(ctx, db, rules)
	if err != nil {
		return nil, nil, err
	}
	var out []fabric.Group
	for _, g := range sides {
		group := fabric.Group{ID: g.id, Side: g.side, Members: members[g]}
		for i := range rules {
			if rules[i].SGID != g.id {
				continue
			}
			r, ok, err := rules[i].fabricRule(g.side, named)
			if err != nil {
				return nil, nil, err
			}
			if ok {
				group.Rules = append(group.Rules, r)
			}
		}
		out = append(out, group)
	}
	return out, sets, nil
}

// loadEIPs adds the EIPs in force and the gateways that they need.
func (s *Service) loadEIPs(ctx context.Context, db bun.IDB, region string, v *fabric.VPC, hosts map[string]string) error {
	eips, err := database.Find[EIP](ctx, db, "WHERE vpc_id = ? AND state IN (?) ORDER BY id", v.ID, []string{Bounding, Bound, BandwidthChanging})
	if err != nil || len(eips) == 0 {
		return err
	}
	var ids []string
	for _, e := range eips {
		ids = append(ids, e.SegmentID)
	}
	segments, err := segmentsByID(ctx, db, ids)
	if err != nil {
		return err
	}
	var gateways []gatewayRow
	if err := db.NewSelect().Model(&gateways).Where("vpc_id = ? AND segment_id IN (?)", v.ID, bun.In(uniq(ids))).Order("segment_id").Scan(ctx); err != nil {
		return err
	}
	routes, err := routesOf(ctx, db, ids...)
	if err != nil {
		return err
	}
	ready := make(map[string]bool)
	for _, g := range gateways {
		segment := segments[g.SegmentID]
		if segment == nil {
			continue
		}
		gateway := fabric.Gateway{SegmentID: g.SegmentID, MAC: g.MAC}
		if gateway.Chassis, err = s.carriers(ctx, g, s.Fleet.GatewayChassis(region, segment.Network)); err != nil {
			return err
		}
		cidr, err := netip.ParsePrefix(segment.CIDR)
		if err != nil {
			return err
		}
		gateway.Address = netip.PrefixFrom(nth(cidr, g.Num), cidr.Bits())
		if segment.defaultRoute() {
			if gateway.NextHop, err = netip.ParseAddr(segment.Gateway); err != nil {
				return err
			}
		}
		for _, r := range routes[g.SegmentID] {
			to, err1 := netip.ParsePrefix(r.Destination)
			hop, err2 := netip.ParseAddr(r.NextHop)
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("route %s: %w", r.ID, err)
			}
			gateway.Routes = append(gateway.Routes, fabric.Route{ID: r.ID, Destination: to, NextHop: hop})
		}
		v.Gateways = append(v.Gateways, gateway)
		ready[g.SegmentID] = true
	}
	for _, e := range eips {
		host, ok := hosts[e.PortID]
		if !ok || !ready[e.SegmentID] {
			continue // its port or gateway is being made or taken away: a sync follows
		}
		ip, err := netip.ParseAddr(e.IP)
		if err != nil {
			return err
		}
		info, _ := s.Fleet.HostInfo(host)
		v.EIPs = append(v.EIPs, fabric.EIP{ID: e.ID, SegmentID: e.SegmentID, Address: ip, PortID: e.PortID, BandwidthMbps: e.Bandwidth,
			Default: e.Egress, Distributed: slices.Contains(info.Networks, segments[e.SegmentID].Network)})
	}
	return nil
}

// carriers orders the chassis that may carry a gateway. The first stays first as long as it lives; the
// choice is noted in the gateway's row, so that it outlives the controller.
func (s *Service) carriers(ctx context.Context, g gatewayRow, alive []string) ([]string, error) {
	chassis := spread(g.VPCID, alive)
	if len(chassis) == 0 {
		return nil, nil
	}
	if i := slices.Index(chassis, g.Chassis); i >= 0 {
		return slices.Insert(slices.Delete(chassis, i, i+1), 0, g.Chassis), nil
	}
	return chassis, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewRaw("UPDATE gateway SET chassis = ? WHERE vpc_id = ? AND segment_id = ?", chassis[0], g.VPCID, g.SegmentID).Exec(ctx)
		return err
	})
}

// spread orders chassis differently for each VPC (rendezvous hashing), so that gateways are shared out
// and those of a dead host go to different ones.
func spread(vpcID string, chassis []string) []string {
	weight := func(c string) uint64 {
		h := fnv.New64a()
		h.Write([]byte(c + "/" + vpcID))
		x := h.Sum64()
		x ^= x >> 33 // FNV alone mixes its last bytes badly
		x *= 0xff51afd7ed558ccd
		x ^= x >> 33
		return x
	}
	chassis = slices.Clone(chassis)
	slices.SortFunc(chassis, func(a, b string) int { return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(a, b)) })
	return chassis
}

// WaitHosts returns when the given hosts run what SyncVPC wrote before. Hosts that are down are not
// waited for; a slow host is waited for some seconds, no longer: it follows by itself.
func (s *Service) WaitHosts(ctx context.Context, hostIDs ...string) error {
	var chassis []string
	for _, id := range uniq(hostIDs) {
		if c, ok := s.liveHost(id); ok {
			chassis = append(chassis, c)
		}
	}
	return s.waitChassis(ctx, chassis)
}

// liveHost is the chassis of a host that is worth waiting for.
func (s *Service) liveHost(hostID string) (chassis string, ok bool) {
	info, ok := s.Fleet.HostInfo(hostID)
	return info.Chassis, ok && info.State != fleet.Down && info.Chassis != ""
}

func (s *Service) waitChassis(ctx context.Context, chassis []string) error {
	if chassis = uniq(chassis); len(chassis) == 0 {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	err := s.Fabric.Wait(within, chassis)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		slog.WarnContext(ctx, "hosts are slow to follow the network", "chassis", chassis)
		return nil
	}
	return err
}

// Run keeps the fabric equal to the rows until ctx ends: every 30 s and when gateways change. Only the
// leading controller calls it.
func (s *Service) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { s.gateways.Run(ctx) })
	loops.Go(func() { s.mend.Run(ctx) })
	loops.Wait()
}

// syncGateways syncs every VPC that has a gateway.
func (s *Service) syncGateways(ctx context.Context) error {
	var ids []string
	if err := s.DB.Reader().NewSelect().TableExpr("gateway").ColumnExpr("DISTINCT vpc_id").Order("vpc_id").Scan(ctx, &ids); err != nil {
		return err
	}
	return s.syncAll(ctx, ids)
}

// reconcile mends every segment and every VPC, and removes those that no row knows.
func (s *Service) reconcile(ctx context.Context) error {
	// What is present is asked first: a VPC or segment that appears meanwhile is not mistaken for a stray one.
	vpcs, present, err := s.Fabric.Present(ctx)
	failed := []error{err}
	var segments []Segment
	if err := s.DB.Reader().NewSelect().Model(&segments).Order("id").Scan(ctx); err != nil {
		return err
	}
	known := make(map[string]bool)
	for i := range segments {
		known[segments[i].ID] = true
		failed = append(failed, s.ensureSegment(ctx, &segments[i]))
	}
	if err != nil {
		return errors.Join(failed...)
	}
	var used []string
	if err := s.DB.Reader().NewRaw("SELECT CASE WHEN segment_id <> '' THEN id ELSE vpc_id END FROM port WHERE NOT kept AND (segment_id = '' OR owner_kind <> 'VIP') UNION SELECT id FROM vpc WHERE NOT is_default AND ended_at = 0 UNION SELECT vpc_id FROM peering UNION SELECT peer_id FROM peering").Scan(ctx, &used); err != nil {
		return err
	}
	outer, err := s.Fabric.PresentOuterPorts(ctx)
	failed = append(failed, err, s.syncAll(ctx, uniq(slices.Concat(used, vpcs, outer))))
	for _, id := range present {
		if !known[id] {
			failed = append(failed, s.Fabric.RemoveSegment(ctx, id))
		}
	}
	return errors.Join(append(failed, s.forget(ctx))...)
}

// syncAll syncs VPCs, a few at a time; one that fails does not hold up the others.
func (s *Service) syncAll(ctx context.Context, ids []string) error {
	var group errgroup.Group
	group.SetLimit(syncsAtATime)
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return s.SyncVPC(ctx, id) })
	}
	return errors.Join(group.Wait(), ctx.Err())
}

// ensureSegments tells the fabric the segments that a VPC has gateways on.
func (s *Service) ensureSegments(ctx context.Context, v *fabric.VPC) error {
	var ids []string
	for _, g := range v.Gateways {
		ids = append(ids, g.SegmentID)
	}
	segments, err := segmentsByID(ctx, s.DB.Reader(), ids)
	if err != nil {
		return err
	}
	for _, g := range segments {
		if err := s.ensureSegment(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) ensureSegment(ctx context.Context, row *Segment) error {
	cidr, err := netip.ParsePrefix(row.CIDR)
	if err != nil {
		return err
	}
	return s.Fabric.EnsureSegment(ctx, fabric.Segment{ID: row.ID, CIDR: cidr, VLAN: row.VLAN, Network: row.Network})
}
