package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

func (s *Service) drawingActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "ReplaceIP", Module: "vpc", Mutates: true, Extension: true, Summary: "Give another inner address to a stopped machine."}, s.replaceIP),
		action.Define(action.Spec{Name: "DescribeNetworkTopology", Module: "vpc", Extension: true, Summary: "Return nodes and edges for the drawing of a VPC."}, s.describeTopology),
	}
}

type topologyRequest struct {
	VPCID string `validate:"required" doc:"VPC id"`
	action.Tenant
}

type topologyResponse struct{ Info topology }

type topology struct {
	Nodes []topologyNode
	Edges []topologyEdge
}

type topologyNode struct {
	ResourceID   string
	ResourceType string `doc:"VPC, Subnet, VM, NIC, VIP, EIP, Segment"`
	Name         string
	State        string
}

type topologyEdge struct {
	From string
	To   string
	Kind string `doc:"contains, in, carries, bound, linked, outside"`
}

// describeTopology draws a VPC: its subnets, what has an address in them, and what leads out.
func (s *Service) describeTopology(ctx context.Context, c *action.Call, q *topologyRequest) (*topologyResponse, error) {
	db := s.DB.Reader()
	v, err := vpcByID(ctx, db, c.Scope(), q.VPCID)
	if err != nil {
		return nil, err
	}
	t := topology{Nodes: []topologyNode{{v.ID, "VPC", v.Name, v.State}}}
	node := func(id, kind, name, state string) { t.Nodes = append(t.Nodes, topologyNode{id, kind, name, state}) }
	edge := func(from, to, kind string) { t.Edges = append(t.Edges, topologyEdge{from, to, kind}) }
	var subnets []Subnet
	if err := db.NewSelect().Model(&subnets).Where("vpc_id = ? AND ended_at = 0", v.ID).Order("created_at", "id").Scan(ctx); err != nil {
		return nil, err
	}
	for _, n := range subnets {
		node(n.ID, "Subnet", n.Name, n.State)
		edge(v.ID, n.ID, "contains")
	}
	var ports []Port
	if err := db.NewSelect().Model(&ports).Where("vpc_id = ? AND kept = ?", v.ID, false).Order("created_at", "id").Scan(ctx); err != nil {
		return nil, err
	}
	owners, err := s.owners(ctx, column(ports, (*Port).owner))
	if err != nil {
		return nil, err
	}
	drawn := make(map[string]bool)
	for _, p := range ports {
		if !drawn[p.OwnerID] {
			drawn[p.OwnerID] = true
			node(p.OwnerID, p.OwnerKind, owners[p.OwnerID].Name, "")
		}
		edge(p.OwnerID, p.SubnetID, "in")
	}
	var carriers []carrierRow
	if err := db.NewSelect().Model(&carriers).Where("vip_id IN (?)", bun.In(append(column(ports, func(p *Port) string { return p.ID }), ""))).Order("vip_id", "port_id").Scan(ctx); err != nil {
		return nil, err
	}
	for _, r := range carriers {
		for _, p := range ports {
			if p.ID == r.PortID {
				edge(p.OwnerID, r.VIPID, "carries")
			}
		}
	}
	var eips []EIP
	if err := db.NewSelect().Model(&eips).Where("vpc_id = ?", v.ID).Order("created_at", "id").Scan(ctx); err != nil {
		return nil, err
	}
	for _, e := range eips {
		node(e.ID, "EIP", e.IP, e.State)
		edge(e.ID, e.BindID, "bound")
	}
	segments, err := segmentsByID(ctx, db, column(eips, func(e *EIP) string { return e.SegmentID }))
	if err != nil {
		return nil, err
	}
	for _, id := range uniq(column(eips, func(e *EIP) string { return e.SegmentID })) {
		if g := segments[id]; g != nil {
			node(g.ID, "Segment", g.Name, Available)
			edge(v.ID, g.ID, "outside")
		}
	}
	links, err := linksOf(ctx, db, v.ID)
	if err != nil {
		return nil, err
	}
	for _, l := range links[v.ID] {
		node(l.PeerID, "VPC", l.PeerName, l.State)
		edge(v.ID, l.PeerID, "linked")
	}
	return &topologyResponse{Info: t}, nil
}
