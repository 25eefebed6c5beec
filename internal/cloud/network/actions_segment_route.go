package network

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type createSegmentRouteRequest struct {
	SegmentID   string `validate:"required" doc:"segment id"`
	Destination string `validate:"required" doc:"CIDR"`
	NextHop     string `validate:"required" doc:"address on the segment"`
	Remark      string `doc:"0-100 characters"`
}

type createSegmentRouteResponse struct{ RouteID string }

func (s *Service) createSegmentRoute(ctx context.Context, c *action.Call, q *createSegmentRouteRequest) (*createSegmentRouteResponse, error) {
	c.AddResource(q.SegmentID)
	if err := remark(q.Remark); err != nil {
		return nil, err
	}
	out := &createSegmentRouteResponse{}
	err := s.changeRoutes(ctx, c, q.SegmentID, func(ctx context.Context, tx bun.Tx, g *Segment, there []segmentRoute) error {
		if len(there) >= maxSegmentRoutes {
			return retcode.InvalidParameter.Errorf("a segment has at most %d routes", maxSegmentRoutes)
		}
		to, hop, err := g.checkRoute(q.Destination, q.NextHop)
		if err != nil {
			return err
		}
		if err := alone(there, "", to); err != nil {
			return err
		}
		r := s.newSegmentRoute(g.ID, to, hop, q.Remark)
		out.RouteID = r.ID
		_, err = tx.NewInsert().Model(r).Exec(ctx)
		return err
	})
	return out, err
}

// alone refuses a second route to a destination (113).
func alone(there []segmentRoute, id, destination string) error {
	for _, r := range there {
		if r.ID != id && r.Destination == destination {
			return retcode.InvalidParameter.Errorf("Destination: %s has the route %s already", destination, r.ID)
		}
	}
	return nil
}

// changeRoutes changes the routes of a segment and tells the VPCs on it.
func (s *Service) changeRoutes(ctx context.Context, c *action.Call, segment string, change func(context.Context, bun.Tx, *Segment, []segmentRoute) error) error {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		g, err := segmentInRegion(ctx, tx, c.Region, segment)
		if err != nil {
			return err
		}
		routes, err := routesOf(ctx, tx, g.ID)
		if err != nil {
			return err
		}
		return change(ctx, tx, g, routes[g.ID])
	})
	if err == nil {
		s.gateways.Signal()
	}
	return err
}

type describeSegmentRouteRequest struct {
	SegmentID string   `validate:"required" doc:"segment id"`
	RouteIDs  []string `doc:"route ids"`
	Offset    int      `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit     int      `default:"20" validate:"min=1,max=100" doc:"page length"`
}

type describeSegmentRouteResponse struct {
	Infos      []segmentRouteInfo
	TotalCount int
}

type segmentRouteInfo struct {
	RouteID     string
	SegmentID   string
	Destination string `doc:"CIDR"`
	NextHop     string
	Remark      string
	CreateTime  int64
}

func (s *Service) describeSegmentRoute(ctx context.Context, c *action.Call, q *describeSegmentRouteRequest) (*describeSegmentRouteResponse, error) {
	out := &describeSegmentRouteResponse{Infos: []segmentRouteInfo{}}
	g, err := permittedSegment(ctx, s.DB.Reader(), c.Region, q.SegmentID, c.Company)
	if err != nil {
		return nil, err
	}
	var rows []segmentRoute
	sel := anyOf(s.DB.Reader().NewSelect().Model(&rows).Where("segment_id = ?", g.ID), "id", q.RouteIDs)
	if out.TotalCount, err = page(ctx, sel, action.Page{Offset: q.Offset, Limit: q.Limit}, "created_at, id"); err != nil {
		return nil, err
	}
	for _, r := range rows {
		out.Infos = append(out.Infos, segmentRouteInfo{RouteID: r.ID, SegmentID: r.SegmentID, Destination: r.Destination, NextHop: r.NextHop, Remark: r.Remark, CreateTime: seconds(r.CreatedAt)})
	}
	return out, nil
}

type updateSegmentRouteRequest struct {
	SegmentID   string  `validate:"required" doc:"segment id"`
	RouteID     string  `validate:"required" doc:"route id"`
	Destination string  `doc:"CIDR"`
	NextHop     string  `doc:"address on the segment"`
	Remark      *string `doc:"0-100 characters"`
}

func (s *Service) updateSegmentRoute(ctx context.Context, c *action.Call, q *updateSegmentRouteRequest) (*action.Empty, error) {
	c.AddResource(q.SegmentID)
	if q.Remark != nil {
		if err := remark(*q.Remark); err != nil {
			return nil, err
		}
	}
	return &action.Empty{}, s.changeRoutes(ctx, c, q.SegmentID, func(ctx context.Context, tx bun.Tx, g *Segment, there []segmentRoute) error {
		i := slices.IndexFunc(there, func(r segmentRoute) bool { return r.ID == q.RouteID })
		if i < 0 {
			return retcode.ResourceNotFound.Errorf("RouteID %s in %s", q.RouteID, g.ID)
		}
		r := there[i]
		if q.Destination != "" {
			r.Destination = q.Destination
		}
		if q.NextHop != "" {
			r.NextHop = q.NextHop
		}
		if q.Remark != nil {
			r.Remark = *q.Remark
		}
		var err error
		if r.Destination, r.NextHop, err = g.checkRoute(r.Destination, r.NextHop); err != nil {
			return err
		}
		if err := alone(there, r.ID, r.Destination); err != nil {
			return err
		}
		r.UpdatedAt = s.Clock.Micros()
		_, err = tx.NewUpdate().Model(&r).WherePK().Exec(ctx)
		return err
	})
}

type deleteSegmentRouteRequest struct {
	SegmentID string   `validate:"required" doc:"segment id"`
	RouteIDs  []string `validate:"required" doc:"route ids"`
}

func (s *Service) deleteSegmentRoute(ctx context.Context, c *action.Call, q *deleteSegmentRouteRequest) (*action.Empty, error) {
	c.AddResource(q.SegmentID)
	return &action.Empty{}, s.changeRoutes(ctx, c, q.SegmentID, func(ctx context.Context, tx bun.Tx, g *Segment, there []segmentRoute) error {
		for _, id := range q.RouteIDs {
			if !slices.ContainsFunc(there, func(r segmentRoute) bool { return r.ID == id }) {
				return retcode.ResourceNotFound.Errorf("RouteID %s in %s", id, g.ID)
			}
		}
		_, err := tx.NewDelete().Model((*segmentRoute)(nil)).Where("segment_id = ? AND id IN (?)", g.ID, bun.In(q.RouteIDs)).Exec(ctx)
		return err
	})
}
