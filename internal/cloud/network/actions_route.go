package network

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

func (s *Service) routeActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateSubnetRoute", Module: "vpc", Mutates: true, Extension: true, Summary: "Add a route to a subnet."}, s.createRoute),
		action.Define(action.Spec{Name: "DescribeSubnetRoute", Module: "vpc", Extension: true, Summary: "List the routes of a subnet, system routes included."}, s.describeRoute),
		action.Define(action.Spec{Name: "UpdateSubnetRoute", Module: "vpc", Mutates: true, Extension: true, Summary: "Change a route."}, s.updateRoute),
		action.Define(action.Spec{Name: "DeleteSubnetRoute", Module: "vpc", Mutates: true, Extension: true, Summary: "Delete routes."}, s.deleteRoute),
	}
}

type createRouteRequest struct {
	SubnetID    string `validate:"required" doc:"subnet id"`
	Destination string `validate:"required" doc:"CIDR, /32 for one host"`
	NextHopType string `validate:"required,oneof=VIP VM Custom" doc:"what the next hop is"`
	NextHop     string `validate:"required" doc:"VIP or VM id, or an address of the subnet"`
	Remark      string `validate:"max=100" doc:"free text"`
	action.Tenant
}

type createRouteResponse struct{ RouteID string }

func (s *Service) createRoute(ctx context.Context, c *action.Call, q *createRouteRequest) (*createRouteResponse, error) {
	if _, err := parseDestination(q.Destination); err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	r := &routeRow{ID: database.NewID("route"), SubnetID: q.SubnetID, Destination: q.Destination, HopType: q.NextHopType, Hop: q.NextHop,
		Remark: q.Remark, State: Creating, CreatedAt: now, UpdatedAt: now}
	if err := s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		n, v, err := subnetWithVPC(ctx, tx, c.Scope(), q.SubnetID)
		if err != nil {
			return "", err
		}
		r.VPCID = v.ID
		if err := s.checkRoute(ctx, tx, v, n, r); err != nil {
			return "", err
		}
		if there, err := tx.NewSelect().Model((*routeRow)(nil)).Where("subnet_id = ?", n.ID).Count(ctx); err != nil {
			return "", err
		} else if there >= maxRoutes {
			return "", retcode.InvalidParameter.Errorf("a subnet has at most %d routes", maxRoutes)
		}
		if _, err := tx.NewInsert().Model(r).Exec(ctx); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.makeRoute, v.Company, retcode.InvalidSubnetState, edit{ID: r.ID, VPCs: []string{v.ID}}, exclusive(r.ID), shared(n.ID))
	}); err != nil {
		return nil, err
	}
	c.AddResource(r.ID, q.SubnetID)
	return &createRouteResponse{RouteID: r.ID}, nil
}

type describeRouteRequest struct {
	SubnetID string   `validate:"required" doc:"subnet id"`
	RouteIDs []string `doc:"route ids"`
	action.Tenant
	action.Page
}

type describeRouteResponse struct {
	Infos      []routeInfo
	TotalCount int
}

type routeInfo struct {
	RouteID     string
	SubnetID    string
	Destination string
	NextHopType string `doc:"VIP, VM, Custom; of the system's: Local, Peering"`
	NextHop     string
	Remark      string
	IsSystem    bool
	Status      string `doc:"Unavailable: its next hop is not in the network"`
	CreateTime  int64
}

func (s *Service) describeRoute(ctx context.Context, c *action.Call, q *describeRouteRequest) (*describeRouteResponse, error) {
	db := s.DB.Reader()
	n, err := subnetIn(ctx, db, c.Scope(), q.SubnetID)
	if err != nil {
		return nil, err
	}
	all, err := systemRoutes(ctx, db, n)
	if err != nil {
		return nil, err
	}
	var rows []routeRow
	if err := db.NewSelect().Model(&rows).Where("subnet_id = ?", n.ID).Order("created_at", "id").Scan(ctx); err != nil {
		return nil, err
	}
	var ports []Port
	if err := db.NewSelect().Model(&ports).Where("vpc_id = ? AND kept = ?", n.VPCID, false).
		Where("owner_id IN (?)", bun.In(append(column(rows, func(r *routeRow) string { return r.Hop }), ""))).Scan(ctx); err != nil {
		return nil, err
	}
	for _, r := range rows {
		info := routeInfo{RouteID: r.ID, SubnetID: r.SubnetID, Destination: r.Destination, NextHopType: r.HopType, NextHop: r.Hop, Remark: r.Remark,
			Status: r.State, CreateTime: seconds(r.CreatedAt)}
		if _, ok := r.address(ports); !ok && r.State == Available {
			info.Status = "Unavailable"
		}
		all = append(all, info)
	}
	if len(q.RouteIDs) > 0 {
		all = slices.DeleteFunc(all, func(r routeInfo) bool { return !slices.Contains(q.RouteIDs, r.RouteID) })
	}
	// A subnet's routes are few, and their order is the system's before its own: the page is cut here.
	return &describeRouteResponse{TotalCount: len(all), Infos: all[min(q.Offset, len(all)):min(q.Offset+q.Limit, len(all))]}, nil
}

type updateRouteRequest struct {
	RouteID     string  `validate:"required" doc:"route id"`
	SubnetID    string  `validate:"required" doc:"subnet id"`
	Destination string  `doc:"CIDR"`
	NextHopType string  `validate:"omitempty,oneof=VIP VM Custom" doc:"what the next hop is"`
	NextHop     string  `doc:"VIP or VM id, or an address of the subnet"`
	Remark      *string `validate:"max=100" doc:"free text"`
	action.Tenant
}

func (s *Service) updateRoute(ctx context.Context, c *action.Call, q *updateRouteRequest) (*action.Empty, error) {
	c.AddResource(q.RouteID, q.SubnetID)
	if q.Destination != "" {
		if _, err := parseDestination(q.Destination); err != nil {
			return nil, err
		}
	}
	if q.NextHopType != "" && q.NextHop == "" {
		return nil, retcode.MissingParameter.Errorf("NextHop is required with NextHopType")
	}
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		n, v, err := subnetWithVPC(ctx, tx, c.Scope(), q.SubnetID)
		if err != nil {
			return "", err
		}
		if err := readOnly(ctx, tx, n, q.RouteID); err != nil {
			return "", err
		}
		r, err := routeByID(ctx, tx, n, q.RouteID)
		if err != nil {
			return "", err
		}
		if r.State != Available {
			return "", retcode.InvalidResourceState.Errorf("%s is %s", r.ID, r.State)
		}
		was := map[string]string{"destination": r.Destination, "hop_type": r.HopType, "hop": r.Hop, "remark": r.Remark}
		if q.Destination != "" {
			r.Destination = q.Destination
		}
		if q.NextHopType != "" {
			r.HopType = q.NextHopType
		}
		if q.NextHop != "" {
			r.Hop = q.NextHop
		}
		if q.Remark != nil {
			r.Remark = *q.Remark
		}
		if err := s.checkRoute(ctx, tx, v, n, r); err != nil {
			return "", err
		}
		r.State, r.UpdatedAt, r.Reason, r.ReasonCode = Updating, s.Clock.Micros(), "", 0
		r.Generation++
		if _, err := tx.NewUpdate().Model(r).WherePK().Exec(ctx); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.changeRoute, v.Company, retcode.InvalidResourceState, edit{ID: r.ID, VPCs: []string{v.ID}, Was: was}, exclusive(r.ID), shared(n.ID))
	})
}

// readOnly refuses the system's routes (113).
func readOnly(ctx context.Context, idb bun.IDB, n *Subnet, ids ...string) error {
	system, err := systemRoutes(ctx, idb, n)
	if err != nil {
		return err
	}
	for _, r := range system {
		if slices.Contains(ids, r.RouteID) {
			return retcode.InvalidParameter.Errorf("%s is the system's own route", r.RouteID)
		}
	}
	return nil
}

type deleteRouteRequest struct {
	SubnetID string   `validate:"required" doc:"subnet id"`
	RouteIDs []string `validate:"required" doc:"route ids"`
	action.Tenant
}

func (s *Service) deleteRoute(ctx context.Context, c *action.Call, q *deleteRouteRequest) (*action.Empty, error) {
	ids := uniq(q.RouteIDs)
	c.AddResource(append([]string{q.SubnetID}, ids...)...)
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		n, v, err := subnetWithVPC(ctx, tx, c.Scope(), q.SubnetID)
		if err != nil {
			return "", err
		}
		if err := readOnly(ctx, tx, n, ids...); err != nil {
			return "", err
		}
		going := 0
		locks := []workflow.Lock{shared(n.ID)}
		for _, id := range ids {
			r, err := routeByID(ctx, tx, n, id)
			if err != nil {
				return "", err
			}
			if r.State == Deleting {
				going++
			} else if r.State != Available {
				return "", retcode.InvalidResourceState.Errorf("%s is %s", r.ID, r.State)
			}
			locks = append(locks, exclusive(id))
		}
		if going == len(ids) {
			return "", lifecycle.ErrRepeat
		} else if going > 0 {
			return "", retcode.InvalidResourceState.Errorf("%d of the routes are being deleted", going)
		}
		for _, id := range ids {
			if _, err := s.turn(ctx, tx, "route", id, Deleting, nil, Available); err != nil {
				return "", err
			}
		}
		return s.begin(ctx, tx, c, s.removeRoute, v.Company, retcode.InvalidResourceState, edit{ID: ids[0], More: ids[1:], VPCs: []string{v.ID}}, locks...)
	})
}
