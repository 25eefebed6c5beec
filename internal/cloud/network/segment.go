package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// What leaves by a segment, besides what is on it.
const (
	RouteDefault   = "Default"   // everything, by its gateway, and its routes
	RouteSpecified = "Specified" // its routes
	RouteNone      = "None"      // nothing
)

// maxSegmentRoutes bounds the routes of one segment: each is a row in every VPC with a gateway there.
const maxSegmentRoutes = 50

// segmentRoute is a row of routes of segments.
type segmentRoute struct {
	bun.BaseModel `bun:"table:segment_route"`

	ID          string `bun:"id,pk"`
	SegmentID   string `bun:"segment_id"`
	Destination string `bun:"destination"`
	NextHop     string `bun:"next_hop"`
	Remark      string `bun:"remark"`
	CreatedAt   int64  `bun:"created_at"`
	UpdatedAt   int64  `bun:"updated_at"`
}

// defaultRoute tells whether everything leaves by the segment.
func (sg *Segment) defaultRoute() bool { return sg.Gateway != "" && sg.RouteMode == RouteDefault }

// withDefaultRoute is defaultRoute in SQL.
const withDefaultRoute = "segment_id IN (SELECT id FROM segment WHERE gateway <> '' AND route_mode = 'Default')"

// permittedSegment is segmentByName for a tenant: also 200 when it may not use it.
func permittedSegment(ctx context.Context, idb bun.IDB, region, name string, company int64) (*Segment, error) {
	g, err := segmentByName(ctx, idb, region, name)
	if err != nil {
		return nil, err
	}
	allowed, err := permit.Allowed(ctx, idb, permit.Segment, g.ID, company)
	if err == nil && !allowed {
		err = retcode.ResourceNotFound.Errorf("external segment %s", name)
	}
	return g, err
}

// deviceForm is what a provider network may be called, in the hosts' bridge mappings.
var deviceForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// parseSegmentCIDR reads the network of a segment: 4 malformed, 113 what cannot be one.
func parseSegmentCIDR(text string) (netip.Prefix, error) {
	cidr, err := netip.ParsePrefix(text)
	if err != nil {
		return cidr, retcode.InvalidParameterFormat.Errorf("Segment: %q is no CIDR", text)
	}
	a := cidr.Addr()
	switch {
	case !a.Is4():
		return cidr, retcode.InvalidParameter.Errorf("Segment: IPv6 segments are not available")
	case cidr != cidr.Masked():
		return cidr, retcode.InvalidParameter.Errorf("Segment: %s has host bits, the network is %s", cidr, cidr.Masked())
	case cidr.Bits() < 8 || cidr.Bits() > 30:
		return cidr, retcode.InvalidParameter.Errorf("Segment: a mask has 8 to 30 bits")
	case a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.As4()[0] == 0 || a.As4()[0] >= 240:
		return cidr, retcode.InvalidParameter.Errorf("Segment: %s is no network of hosts", cidr)
	}
	return cidr, nil
}

// parseRanges reads ranges first-last of a network; none mean all of it. 4 malformed, 113 outside or reversed.
func parseRanges(cidr netip.Prefix, texts []string) ([]span, error) {
	var out []span
	for _, text := range texts {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		from, to, ranged := strings.Cut(text, "-")
		if !ranged {
			to = from
		}
		first, err1 := netip.ParseAddr(strings.TrimSpace(from))
		last, err2 := netip.ParseAddr(strings.TrimSpace(to))
		if err := errors.Join(err1, err2); err != nil {
			return nil, retcode.InvalidParameterFormat.Errorf("IPRange: %q is not of the form first-last", text)
		}
		if !cidr.Contains(first) || !cidr.Contains(last) || last.Less(first) {
			return nil, retcode.InvalidParameter.Errorf("IPRange: %s is no range within %s", text, cidr)
		}
		out = append(out, span{offset(cidr, first), offset(cidr, last)})
	}
	if len(out) == 0 {
		out = []span{{0, size(cidr) - 1}}
	}
	return join(out), nil
}

// join sorts spans and unites those that meet.
func join(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return int(a[0] - b[0]) })
	out := spans[:1]
	for _, s := range spans[1:] {
		if last := &out[len(out)-1]; s[0] <= last[1]+1 {
			last[1] = max(last[1], s[1])
		} else {
			out = append(out, s)
		}
	}
	return out
}

// without takes single offsets out of spans.
func without(spans []span, nums ...int64) []span {
	for _, n := range nums {
		var out []span
		for _, s := range spans {
			if n < s[0] || n > s[1] {
				out = append(out, s)
				continue
			}
			if s[0] < n {
				out = append(out, span{s[0], n - 1})
			}
			if n < s[1] {
				out = append(out, span{n + 1, s[1]})
			}
		}
		spans = out
	}
	return spans
}

// handOut sets what the segment hands out: the ranges without the network, its broadcast address, its gateway
// and its DHCP server. 113 when nothing is left.
func (sg *Segment) handOut(cidr netip.Prefix, ranges []span) error {
	keep := []int64{0, size(cidr) - 1}
	for _, text := range []string{sg.Gateway, sg.DHCPServer} {
		if a, err := netip.ParseAddr(text); err == nil {
			keep = append(keep, offset(cidr, a))
		}
	}
	spans := without(ranges, keep...)
	if len(spans) == 0 {
		return retcode.InvalidParameter.Errorf("IPRange: no address of %s is left to hand out", cidr)
	}
	text, err := json.Marshal(spans)
	if err != nil {
		return err
	}
	sg.Ranges, sg.Capacity = string(text), capacity(spans)
	return nil
}

// rangeTexts are what the segment hands out, as first-last.
func (sg *Segment) rangeTexts() ([]string, error) {
	p, err := sg.pool()
	if err != nil {
		return nil, err
	}
	out := make([]string, len(p.spans))
	for i, s := range p.spans {
		out[i] = nth(p.cidr, s[0]).String() + "-" + nth(p.cidr, s[1]).String()
	}
	return out, nil
}

// within reads an address of the segment's network: 4 malformed, 113 outside.
func within(cidr netip.Prefix, parameter, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, retcode.InvalidParameterFormat.Errorf("%s: %q is no address", parameter, text)
	}
	if !cidr.Contains(a) || a == cidr.Addr() || offset(cidr, a) == size(cidr)-1 {
		return a, retcode.InvalidParameter.Errorf("%s: %s is no address of a host in %s", parameter, a, cidr)
	}
	return a, nil
}

// parseVLAN reads a VLAN: empty and 0 are none.
func parseVLAN(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, retcode.InvalidParameterFormat.Errorf("Vlan: %q is no number", text)
	}
	if n < 0 || n > 4094 {
		return 0, retcode.InvalidParameter.Errorf("Vlan is 0 (none) to 4094")
	}
	return n, nil
}

// lockSegments keeps others from adding or moving segments of a region until the transaction ends.
func lockSegments(ctx context.Context, tx bun.Tx, region string) error {
	_, err := tx.NewRaw("UPDATE region SET generation = generation WHERE id = ?", region).Exec(ctx)
	return err
}

// checkNeighbours refuses a segment whose name is taken, or whose network overlaps another's on the same wire (113).
func (sg *Segment) checkNeighbours(ctx context.Context, tx bun.Tx) error {
	cidr, err := netip.ParsePrefix(sg.CIDR)
	if err != nil {
		return err
	}
	var others []Segment
	if err := tx.NewSelect().Model(&others).Where("region = ? AND id <> ?", sg.Region, sg.ID).Scan(ctx); err != nil {
		return err
	}
	for _, o := range others {
		if o.Name == sg.Name {
			return retcode.InvalidParameter.Errorf("Name: a segment %s is there already", sg.Name)
		}
		theirs, err := netip.ParsePrefix(o.CIDR)
		if err != nil {
			return fmt.Errorf("segment %s: %w", o.ID, err)
		}
		if o.Network == sg.Network && o.VLAN == sg.VLAN && theirs.Overlaps(cidr) {
			return retcode.InvalidParameter.Errorf("Segment: %s overlaps %s of segment %s on the same device and VLAN", cidr, theirs, o.Name)
		}
	}
	return nil
}

// checkHeld refuses a change that would leave out an address that somebody has (113), so that what is counted
// as free stays exactly what can be had. The caller holds the pool.
func (sg *Segment) checkHeld(ctx context.Context, tx bun.Tx) error {
	p, err := sg.pool()
	if err != nil {
		return err
	}
	var nums []int64
	if err := tx.NewSelect().TableExpr("address").Column("num").Where("pool = ?", sg.ID).Order("num").Scan(ctx, &nums); err != nil {
		return err
	}
	for _, n := range nums {
		if !p.hands(n) {
			return retcode.InvalidParameter.Errorf("%s is in use and would be left out", nth(p.cidr, n))
		}
	}
	return nil
}

// segmentInRegion reads and locks a segment for an administrator: 200 when unknown.
func segmentInRegion(ctx context.Context, tx bun.Tx, region, id string) (*Segment, error) {
	if err := (&pool{table: "segment", id: id}).lock(ctx, tx); err != nil {
		return nil, err
	}
	g := new(Segment)
	found, err := one(tx.NewSelect().Model(g).Where("id = ? AND region = ?", id, region).Scan(ctx))
	if err == nil && !found {
		err = retcode.ResourceNotFound.Errorf("SegmentID %s", id)
	}
	return g, err
}

// routesOf reads the routes of segments that are in force.
func routesOf(ctx context.Context, idb bun.IDB, segments ...string) (map[string][]segmentRoute, error) {
	out := make(map[string][]segmentRoute)
	if segments = uniq(segments); len(segments) == 0 {
		return out, nil
	}
	var rows []segmentRoute
	if err := idb.NewSelect().Model(&rows).Where("segment_id IN (?)", bun.In(segments)).Order("created_at", "id").Scan(ctx); err != nil {
		return nil, err
	}
	for _, r := range rows {
		out[r.SegmentID] = append(out[r.SegmentID], r)
	}
	return out, nil
}

// checkRoute reads a route of a segment: 4 malformed, 113 what cannot be one.
func (sg *Segment) checkRoute(destination, nextHop string) (string, string, error) {
	cidr, err := netip.ParsePrefix(sg.CIDR)
	if err != nil {
		return "", "", err
	}
	to, err := netip.ParsePrefix(destination)
	if err != nil {
		return "", "", retcode.InvalidParameterFormat.Errorf("Destination: %q is no CIDR", destination)
	}
	switch {
	case sg.RouteMode == RouteNone:
		return "", "", retcode.InvalidParameter.Errorf("nothing leaves by %s: set RouteMode to Specified or Default first", sg.Name)
	case !to.Addr().Is4() || to != to.Masked():
		return "", "", retcode.InvalidParameter.Errorf("Destination: %s is no IPv4 network", to)
	case to.Bits() == 0:
		return "", "", retcode.InvalidParameter.Errorf("Destination: the default route is RouteMode Default")
	case to.Overlaps(cidr):
		return "", "", retcode.InvalidParameter.Errorf("Destination: %s overlaps the segment's own %s", to, cidr)
	}
	hop, err := within(cidr, "NextHop", nextHop)
	return to.String(), hop.String(), err
}

// PermitKinds says of which resources administrators choose the users.
func (s *Service) PermitKinds() []permit.Kind {
	return []permit.Kind{{
		Name: permit.Segment,
		Check: func(ctx context.Context, idb bun.IDB, region, id string) error {
			found, err := idb.NewSelect().Model((*Segment)(nil)).Where("id = ? AND region = ?", id, region).Exists(ctx)
			if err == nil && !found {
				err = retcode.ResourceNotFound.Errorf("external segment %s", id)
			}
			return err
		},
		Users: func(ctx context.Context, idb bun.IDB, id string) (companies []int64, err error) {
			return companies, idb.NewRaw(`SELECT company FROM eip WHERE segment_id = ?0 AND state <> ?1
				UNION SELECT company FROM port WHERE segment_id = ?0 ORDER BY company`, id, Released).Scan(ctx, &companies)
		},
	}}
}

// newSegmentRoute makes a row.
func (s *Service) newSegmentRoute(segment, destination, nextHop, remark string) *segmentRoute {
	now := s.Clock.Micros()
	return &segmentRoute{ID: database.NewID("route"), SegmentID: segment, Destination: destination, NextHop: nextHop, Remark: remark, CreatedAt: now, UpdatedAt: now}
}
