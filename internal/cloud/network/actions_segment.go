package network

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) segmentActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateSegment", Module: "eip", Admin: true, Mutates: true, Summary: "Create an external network segment."}, s.createSegment),
		action.Define(action.Spec{Name: "DescribeSegment", Module: "eip", Summary: "List external network segments."}, s.describeSegment),
		action.Define(action.Spec{Name: "UpdateSegment", Module: "eip", Admin: true, Mutates: true, Summary: "Change an external network segment."}, s.updateSegment),
		action.Define(action.Spec{Name: "DeleteSegment", Module: "eip", Admin: true, Mutates: true, Summary: "Delete an external network segment that nothing uses."}, s.deleteSegment),
		action.Define(action.Spec{Name: "CreateSegmentRoute", Module: "eip", Admin: true, Mutates: true, Extension: true, Summary: "Add a route to an external network segment."}, s.createSegmentRoute),
		action.Define(action.Spec{Name: "DescribeSegmentRoute", Module: "eip", Extension: true, Summary: "List the routes of an external network segment."}, s.describeSegmentRoute),
		action.Define(action.Spec{Name: "UpdateSegmentRoute", Module: "eip", Admin: true, Mutates: true, Extension: true, Summary: "Change a route of an external network segment."}, s.updateSegmentRoute),
		action.Define(action.Spec{Name: "DeleteSegmentRoute", Module: "eip", Admin: true, Mutates: true, Extension: true, Summary: "Delete routes of an external network segment."}, s.deleteSegmentRoute),
	}
}

type createSegmentRequest struct {
	Name             string   `validate:"required" doc:"1-50 printable characters"`
	Segment          string   `validate:"required" doc:"IPv4 CIDR without host bits"`
	Device           string   `validate:"required" doc:"provider network, as in the hosts' bridge mappings"`
	IPRange          string   `doc:"first-last of what is handed out; else the whole CIDR"`
	IPRanges         []string `doc:"several first-last ranges beside IPRange"`
	Vlan             string   `loose:"true" doc:"1-4094; 0 or nothing: untagged"`
	Gateway          string   `doc:"the outside's router; default: the first usable address"`
	RouteMode        string   `default:"Default" validate:"oneof=Default Specified None" doc:"what leaves by the segment: everything, its routes, nothing but what is on it"`
	PermissionMode   string   `default:"all" validate:"oneof=all whitelist blacklist" doc:"all tenants, those listed, or all but those listed"`
	Permission       string   `doc:"tenant ids, comma separated"`
	EnableDHCP       bool     `doc:"offer addresses to interfaces on the segment"`
	DHCPServerIP     string   `doc:"address of the DHCP server, with EnableDHCP; default: the gateway"`
	TotalBandwidth   int      `default:"0" validate:"min=0,max=1000000" doc:"Mbps of all public addresses together; 0: no limit"`
	Remark           string   `doc:"0-100 characters"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
}

type createSegmentResponse struct{ SegmentID string }

// remark refuses a remark that is too long (113).
func remark(text string) error {
	_, err := resource.Remark(text)
	return err
}

// maxSegmentName in characters.
const maxSegmentName = 50

func (s *Service) createSegment(ctx context.Context, c *action.Call, q *createSegmentRequest) (*createSegmentResponse, error) {
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	if len([]rune(name)) > maxSegmentName {
		return nil, retcode.InvalidParameter.Errorf("Name has 1 to %d printable characters", maxSegmentName)
	}
	if err := remark(q.Remark); err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	g := &Segment{ID: database.NewID("seg"), Region: c.Region, Name: name, Remark: q.Remark, IPVersion: IPv4, RouteMode: q.RouteMode,
		Bandwidth: q.TotalBandwidth, CreatedAt: now, UpdatedAt: now}
	cidr, err := parseSegmentCIDR(q.Segment)
	if err != nil {
		return nil, err
	}
	g.CIDR = cidr.String()
	if err := g.setDevice(q.Device, q.Vlan); err != nil {
		return nil, err
	}
	if err := g.setAddresses(cidr, segmentAddresses{gateway: q.Gateway, dhcp: q.EnableDHCP, dhcpServer: q.DHCPServerIP, ranges: append(q.IPRanges, q.IPRange)}); err != nil {
		return nil, err
	}
	may, err := s.Permit.Parse(ctx, q.PermissionMode, q.Permission)
	if err != nil {
		return nil, err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := lockSegments(ctx, tx, c.Region); err != nil {
			return err
		}
		if err := g.checkNeighbours(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(g).Exec(ctx); err != nil {
			return err
		}
		if err := tag.Attach(ctx, tx, now, resource.Item{ID: g.ID, Company: c.Owner(), Region: g.Region, Kind: "SEGMENT"}, q.TagKeyValuePairs); err != nil {
			return err
		}
		return s.Permit.Set(ctx, tx, permit.Segment, g.ID, may)
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(g.ID)
	s.mend.Signal()
	return &createSegmentResponse{SegmentID: g.ID}, nil
}

func (sg *Segment) setDevice(device, vlan string) error {
	if !deviceForm.MatchString(device) {
		return retcode.InvalidParameter.Errorf("Device %q has 1 to 63 letters, digits, dots, hyphens and underscores", device)
	}
	n, err := parseVLAN(vlan)
	sg.Network, sg.VLAN = device, n
	return err
}

// segmentAddresses are the parameters that say what a segment does with its addresses.
type segmentAddresses struct {
	gateway, dhcpServer string
	dhcp                bool
	ranges              []string
}

func (sg *Segment) setAddresses(cidr netip.Prefix, a segmentAddresses) error {
	if a.gateway == "" {
		a.gateway = nth(cidr, 1).String()
	}
	gateway, err := within(cidr, "Gateway", a.gateway)
	if err != nil {
		return err
	}
	sg.Gateway, sg.DHCP, sg.DHCPServer = gateway.String(), a.dhcp, ""
	if a.dhcpServer != "" {
		if !a.dhcp {
			return retcode.InvalidParameter.Errorf("DHCPServerIP goes with EnableDHCP")
		}
		server, err := within(cidr, "DHCPServerIP", a.dhcpServer)
		if err != nil {
			return err
		}
		sg.DHCPServer = server.String()
	}
	ranges, err := parseRanges(cidr, a.ranges)
	if err != nil {
		return err
	}
	return sg.handOut(cidr, ranges)
}

type describeSegmentRequest struct {
	SegmentIDs          []string `doc:"segment ids"`
	IPVersion           string   `validate:"oneof=IPv4 IPv6" doc:"IP version"`
	Keyword             string   `doc:"part of name or id"`
	ShowIPResourceCount bool     `doc:"count the public addresses by state"`
	TagKeyValuePairs    []string `doc:"base64(key):base64(value)"`
	Offset              int      `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit               int      `default:"10" validate:"min=1,max=100" doc:"page length"`
	action.Tenant
}

type describeSegmentResponse struct {
	Infos      []segmentInfo
	TotalCount int
}

type segmentInfo struct {
	SegmentID        string
	Name             string
	Segment          string `doc:"CIDR"`
	IPRanges         string `doc:"first-last of what is handed out, comma separated"`
	Gateway          string
	Routing          string `doc:"Default: everything leaves by it; Specified: its routes; None"`
	IPVersion        string
	Device           string `doc:"for administrators"`
	Vlan             string `doc:"for administrators; 0: untagged"`
	DHCPServerIP     string
	Permission       string `doc:"for administrators: tenant ids, comma separated"`
	PermissionMode   string `doc:"for administrators"`
	Platform         bool   `doc:"not of one tenant: always true"`
	Status           string
	AvailableCount   int64 `doc:"free addresses"`
	UsedCount        int64 `doc:"addresses that somebody has, also in the recycle bin"`
	BoundedEIPCount  int
	FailedEIPCount   int `doc:"free ones whose last change was taken back"`
	RecycledEIPCount int
	Description      string
	Region           string
	RegionAlias      string
	Tags             []tag.Info
	CreateTime       int64
	UpdateTime       int64
	TotalBandwidth   int `doc:"Mbps of all public addresses together; 0: no limit"`
}

func (s *Service) describeSegment(ctx context.Context, c *action.Call, q *describeSegmentRequest) (*describeSegmentResponse, error) {
	out := &describeSegmentResponse{Infos: []segmentInfo{}}
	var rows []Segment
	sel, err := tag.Narrow(permit.Narrow(s.DB.Reader().NewSelect().Model(&rows).Where("region = ?", c.Region), permit.Segment, "segment.id", c.Company), "segment.id", q.TagKeyValuePairs)
	if err != nil {
		return nil, err
	}
	if q.IPVersion != "" {
		sel = sel.Where("ip_version = ?", q.IPVersion)
	}
	sel = database.Matching(anyOf(sel, "id", q.SegmentIDs), q.Keyword, "name", "id")
	if out.TotalCount, err = page(ctx, sel, action.Page{Offset: q.Offset, Limit: q.Limit}, "created_at, id"); err != nil || len(rows) == 0 {
		return out, err
	}
	ids := column(rows, func(g *Segment) string { return g.ID })
	tags, err := tag.Of(ctx, s.DB.Reader(), ids...)
	if err != nil {
		return nil, err
	}
	may, err := permit.Of(ctx, s.DB.Reader(), permit.Segment, ids...)
	if err != nil {
		return nil, err
	}
	counts, err := s.countEIPs(ctx, ids, q.ShowIPResourceCount)
	if err != nil {
		return nil, err
	}
	for _, g := range rows {
		ranges, err := g.rangeTexts()
		if err != nil {
			return nil, err
		}
		n := counts[g.ID]
		info := segmentInfo{SegmentID: g.ID, Name: g.Name, Segment: g.CIDR, IPRanges: strings.Join(ranges, ","), Gateway: g.Gateway, Routing: g.RouteMode,
			IPVersion: g.IPVersion, DHCPServerIP: g.dhcpServer(), Platform: true, Status: Available, AvailableCount: g.Capacity - g.Used, UsedCount: g.Used,
			BoundedEIPCount: n.Bound, FailedEIPCount: n.Failed, RecycledEIPCount: n.Binned, Description: g.Remark, Region: g.Region, RegionAlias: g.Region,
			Tags: tags[g.ID], CreateTime: seconds(g.CreatedAt), UpdateTime: seconds(g.UpdatedAt), TotalBandwidth: g.Bandwidth}
		if c.Caller.Admin {
			info.Device, info.Vlan, info.PermissionMode = g.Network, strconv.Itoa(g.VLAN), may[g.ID].Mode
			var tenants []string
			for _, t := range may[g.ID].Tenants {
				tenants = append(tenants, strconv.FormatInt(t, 10))
			}
			info.Permission = strings.Join(tenants, ",")
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

// dhcpServer is the address that DHCP on the segment answers from; empty without DHCP.
func (sg *Segment) dhcpServer() string {
	if sg.DHCP && sg.DHCPServer == "" {
		return sg.Gateway
	}
	return sg.DHCPServer
}

// eipCounts of a segment.
type eipCounts struct {
	SegmentID             string
	Bound, Failed, Binned int
}

func (s *Service) countEIPs(ctx context.Context, segments []string, wanted bool) (map[string]eipCounts, error) {
	out := make(map[string]eipCounts)
	if !wanted {
		return out, nil
	}
	var rows []eipCounts
	err := s.DB.Reader().NewRaw(`SELECT segment_id, SUM(CASE WHEN bind_id <> '' THEN 1 ELSE 0 END) AS bound,
		SUM(CASE WHEN state = 'Free' AND reason_code <> 0 THEN 1 ELSE 0 END) AS failed, SUM(CASE WHEN state = 'Deleted' THEN 1 ELSE 0 END) AS binned
		FROM eip WHERE segment_id IN (?) GROUP BY segment_id`, bun.In(segments)).Scan(ctx, &rows)
	for _, r := range rows {
		out[r.SegmentID] = r
	}
	return out, err
}

type updateSegmentRequest struct {
	SegmentID      string   `validate:"required" doc:"segment id"`
	UpdateMode     string   `default:"IPRange" validate:"oneof=IPRange Device DHCPServerIP All" doc:"which of the older parameters change; TotalBandwidth, Gateway, RouteMode and EnableDHCP change whenever given"`
	IPRange        string   `doc:"first-last of what is handed out"`
	IPRanges       []string `doc:"several first-last ranges beside IPRange"`
	Device         string   `doc:"provider network; with Vlan"`
	Vlan           string   `loose:"true" doc:"0-4094; with Device"`
	DHCPServerIP   string   `doc:"address of the DHCP server; the segment has DHCP then"`
	EnableDHCP     *bool    `doc:"whether interfaces on the segment are offered their addresses"`
	Gateway        string   `doc:"the outside's router"`
	RouteMode      string   `validate:"oneof=Default Specified None" doc:"what leaves by the segment"`
	TotalBandwidth *int     `validate:"min=0,max=1000000" doc:"Mbps of all public addresses together; 0: no limit"`
}

// given lists the parameters that UpdateMode speaks of.
func (q *updateSegmentRequest) given() []string {
	var out []string
	for mode, given := range map[string]bool{"IPRange": q.IPRange != "" || len(q.IPRanges) > 0, "Device": q.Device != "" || q.Vlan != "", "DHCPServerIP": q.DHCPServerIP != ""} {
		if given {
			out = append(out, mode)
		}
	}
	slices.Sort(out)
	return out
}

func (s *Service) updateSegment(ctx context.Context, c *action.Call, q *updateSegmentRequest) (*action.Empty, error) {
	c.AddResource(q.SegmentID)
	for _, mode := range q.given() {
		if q.UpdateMode != "All" && q.UpdateMode != mode {
			return nil, retcode.InvalidParameter.Errorf("UpdateMode %s does not change %s", q.UpdateMode, mode)
		}
	}
	if len(q.given()) == 0 && q.Gateway == "" && q.RouteMode == "" && q.TotalBandwidth == nil && q.EnableDHCP == nil {
		return nil, retcode.InvalidParameter.Errorf("nothing to change is given")
	}
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := lockSegments(ctx, tx, c.Region); err != nil {
			return err
		}
		g, err := segmentInRegion(ctx, tx, c.Region, q.SegmentID)
		if err != nil {
			return err
		}
		if err := q.apply(ctx, tx, g); err != nil {
			return err
		}
		if err := g.checkNeighbours(ctx, tx); err != nil {
			return err
		}
		if err := g.checkHeld(ctx, tx); err != nil {
			return err
		}
		g.UpdatedAt = s.Clock.Micros()
		_, err = tx.NewUpdate().Model(g).Column("ranges", "capacity", "gateway", "vlan", "network", "route_mode", "bandwidth", "dhcp", "dhcp_server", "updated_at").
			Set("generation = generation + 1").WherePK().Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.mend.Signal() // the switch and every VPC on it
	return &action.Empty{}, nil
}

// apply changes a row as the request says. What was handed out stays in the ranges unless new ones are given.
func (q *updateSegmentRequest) apply(ctx context.Context, tx bun.Tx, g *Segment) error {
	cidr, err := netip.ParsePrefix(g.CIDR)
	if err != nil {
		return err
	}
	if q.Device != "" || q.Vlan != "" {
		device, vlan := q.Device, q.Vlan
		if device == "" {
			device = g.Network
		}
		if vlan == "" {
			vlan = strconv.Itoa(g.VLAN)
		}
		if err := g.setDevice(device, vlan); err != nil {
			return err
		}
	}
	if q.RouteMode != "" {
		routes, err := routesOf(ctx, tx, g.ID)
		if err != nil {
			return err
		}
		if q.RouteMode == RouteNone && len(routes) > 0 {
			return retcode.InvalidParameter.Errorf("%s has routes: delete them before nothing leaves by it", g.Name)
		}
		g.RouteMode = q.RouteMode
	}
	if q.TotalBandwidth != nil {
		g.Bandwidth = *q.TotalBandwidth
	}
	a := segmentAddresses{gateway: q.Gateway, dhcp: g.DHCP || q.DHCPServerIP != "", dhcpServer: q.DHCPServerIP, ranges: append(q.IPRanges, q.IPRange)}
	if a.gateway == "" {
		a.gateway = g.Gateway
	}
	if q.EnableDHCP != nil {
		a.dhcp = *q.EnableDHCP
	}
	if a.dhcpServer == "" && a.dhcp {
		a.dhcpServer = g.DHCPServer
	}
	if q.IPRange == "" && len(q.IPRanges) == 0 {
		if a.ranges, err = g.rangeTexts(); err != nil {
			return err
		}
	}
	return g.setAddresses(cidr, a)
}

type segmentRequest struct {
	SegmentID string `validate:"required" doc:"segment id"`
}

func (s *Service) deleteSegment(ctx context.Context, c *action.Call, q *segmentRequest) (*action.Empty, error) {
	c.AddResource(q.SegmentID)
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		g, err := segmentInRegion(ctx, tx, c.Region, q.SegmentID)
		if err != nil {
			return err
		}
		if g.Used > 0 {
			return retcode.InvalidResourceState.Errorf("%d addresses of %s are in use, also in the recycle bin", g.Used, g.Name)
		}
		if _, err := tx.NewDelete().Model((*segmentRoute)(nil)).Where("segment_id = ?", g.ID).Exec(ctx); err != nil {
			return err
		}
		if err := permit.Forget(ctx, tx, permit.Segment, g.ID); err != nil {
			return err
		}
		_, err = tx.NewDelete().Model(g).WherePK().Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.mend.Signal()
	return &action.Empty{}, nil
}
