package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) peeringActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "AssociateVPCPeering", Module: "vpc", Mutates: true, Extension: true, Summary: "Link a VPC with another one."}, s.associatePeering),
		action.Define(action.Spec{Name: "DissociateVPCPeering", Module: "vpc", Mutates: true, Extension: true, Summary: "Remove a link."}, s.dissociatePeering),
		action.Define(action.Spec{Name: "DescribeVPCPeering", Module: "vpc", Extension: true, Summary: "List links."}, s.describePeering),
	}
}

type peeringRequest struct {
	VPCID    string `validate:"required" doc:"VPC id"`
	PeerType string `validate:"required,oneof=VPC DC" doc:"VPC, or DC for a private line"`
	PeerID   string `validate:"required" doc:"id of the other end"`
	action.Tenant
}

// ends reads the two VPCs of a request and keeps both from changing, in the order of their ids.
func (q *peeringRequest) ends(ctx context.Context, tx bun.Tx, c *action.Call) (a, b *VPC, err error) {
	if a, err = vpcByID(ctx, tx, c.Scope(), q.VPCID); err != nil {
		return nil, nil, err
	}
	if q.PeerType != "VPC" {
		return nil, nil, retcode.ResourceNotFound.Errorf("private line %s", q.PeerID)
	}
	scope := c.Scope()
	scope.Company = a.Company
	if b, err = vpcByID(ctx, tx, scope, q.PeerID); err != nil {
		return nil, nil, err
	}
	if a.ID == b.ID {
		return nil, nil, retcode.InvalidParameter.Errorf("PeerID is VPCID")
	}
	if a.ID > b.ID {
		a, b = b, a
	}
	for _, v := range []*VPC{a, b} {
		if err := lockVPC(ctx, tx, v); err != nil {
			return nil, nil, err
		}
	}
	return a, b, nil
}

func (s *Service) associatePeering(ctx context.Context, c *action.Call, q *peeringRequest) (*action.Empty, error) {
	c.AddResource(q.VPCID, q.PeerID)
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		a, b, err := q.ends(ctx, tx, c)
		if err != nil {
			return "", err
		}
		for _, v := range []*VPC{a, b} {
			if err := v.usable(); err != nil {
				return "", err
			}
		}
		there, err := peeringOf(ctx, tx, a.ID, b.ID)
		switch {
		case err != nil:
			return "", err
		case there == nil:
		case there.State == Allocating:
			return "", lifecycle.ErrRepeat
		case there.State == Deleting:
			return "", retcode.InvalidVPCState.Errorf("the link of %s and %s is being removed", a.ID, b.ID)
		default:
			return "", retcode.BindLimitReached.Errorf("%s and %s are linked already", a.ID, b.ID)
		}
		if err := checkLink(ctx, tx, a, b); err != nil {
			return "", err
		}
		now := s.Clock.Micros()
		p := &peeringRow{ID: database.NewID("peering"), VPCID: a.ID, PeerID: b.ID, Region: a.Region, Company: a.Company, State: Allocating, CreatedAt: now, UpdatedAt: now}
		if p.Num, err = freeLink(ctx, tx, a.ID, b.ID); err != nil {
			return "", err
		}
		if _, err := tx.NewInsert().Model(p).Exec(ctx); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.makePeering, a.Company, retcode.InvalidVPCState, edit{ID: p.ID, VPCs: []string{a.ID, b.ID}}, exclusive(p.ID), shared(a.ID), shared(b.ID))
	})
}

func (s *Service) dissociatePeering(ctx context.Context, c *action.Call, q *peeringRequest) (*action.Empty, error) {
	c.AddResource(q.VPCID, q.PeerID)
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		a, b, err := q.ends(ctx, tx, c)
		if err != nil {
			return "", err
		}
		p, err := peeringOf(ctx, tx, a.ID, b.ID)
		switch {
		case err != nil:
			return "", err
		case p == nil:
			return "", retcode.ResourceNotFound.Errorf("%s and %s are not linked", a.ID, b.ID)
		case p.State == Deleting:
			return "", lifecycle.ErrRepeat
		case p.State != Available:
			return "", retcode.InvalidVPCState.Errorf("the link of %s and %s is %s", a.ID, b.ID, p.State)
		}
		if _, err := s.turn(ctx, tx, "peering", p.ID, Deleting, nil, Available); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.removePeering, a.Company, retcode.InvalidVPCState, edit{ID: p.ID, VPCs: []string{a.ID, b.ID}}, exclusive(p.ID), shared(a.ID), shared(b.ID))
	})
}

type describePeeringRequest struct {
	VPCID    string `doc:"VPC id"`
	PeerType string `validate:"omitempty,oneof=VPC DC" doc:"what the other end is"`
	action.Tenant
	action.Page
}

type describePeeringResponse struct {
	Infos      []vpcPeering
	TotalCount int
}

type vpcPeering struct {
	VPCID        string
	VPCName      string
	VPCNetwork   string
	PeerType     string
	PeerID       string
	PeerName     string
	PeerNetworks []string
	State        string
	CreateTime   int64
}

func (s *Service) describePeering(ctx context.Context, c *action.Call, q *describePeeringRequest) (*describePeeringResponse, error) {
	out := &describePeeringResponse{Infos: []vpcPeering{}}
	if q.PeerType == "DC" {
		return out, nil
	}
	db := s.DB.Reader()
	own := identity.Own(db.NewSelect().Model((*VPC)(nil)).Column("id"), c.Scope())
	var rows []peeringRow
	sel := db.NewSelect().Model(&rows).Where("vpc_id IN (?)", own)
	if q.VPCID != "" {
		sel = sel.Where("vpc_id = ?0 OR peer_id = ?0", q.VPCID)
	}
	var err error
	if out.TotalCount, err = page(ctx, sel, q.Page, "created_at DESC, id DESC"); err != nil || len(rows) == 0 {
		return out, err
	}
	var ends []VPC
	if err := db.NewSelect().Model(&ends).Where("id IN (?)", bun.In(append(column(rows, func(p *peeringRow) string { return p.VPCID }), column(rows, func(p *peeringRow) string { return p.PeerID })...))).Scan(ctx); err != nil {
		return nil, err
	}
	byID := make(map[string]VPC)
	for _, v := range ends {
		byID[v.ID] = v
	}
	for _, p := range rows {
		here, there := byID[p.VPCID], byID[p.PeerID]
		if p.PeerID == q.VPCID {
			here, there = there, here
		}
		out.Infos = append(out.Infos, vpcPeering{VPCID: here.ID, VPCName: here.Name, VPCNetwork: here.CIDR, PeerType: "VPC", PeerID: there.ID, PeerName: there.Name,
			PeerNetworks: []string{there.CIDR}, State: p.State, CreateTime: seconds(p.CreatedAt)})
	}
	return out, nil
}
