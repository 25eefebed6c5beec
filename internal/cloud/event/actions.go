package event

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Actions of events.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeResourceEvent", Module: "monitor", Extension: true, Summary: "List events.",
			Region: action.RegionOptional}, s.describe),
	}
}

type describeRequest struct {
	ResourceIDs   []string `doc:"resource ids"`
	ResourceTypes []string `doc:"kinds of resources, as VM"`
	EventTypes    []string `doc:"Lifecycle, Operations"`
	Levels        []string `doc:"Info, Warning, Error"`
	BeginTime     int64    `validate:"min=0,max=1099511627776" doc:"unix seconds: events that happened since"`
	EndTime       int64    `validate:"min=0,max=1099511627776" doc:"unix seconds: events that happened before or then; 0: until now"`
	ProjectIDs    []string `doc:"project group ids"`
	action.Tenant
	action.Page
}

type info struct {
	EventID      string
	ResourceID   string
	ResourceName string
	ResourceType string
	EventType    string
	Level        string
	Content      string
	Count        int   `doc:"how often it happened"`
	FirstTime    int64 `doc:"unix seconds"`
	LastTime     int64 `doc:"unix seconds"`
	Region       string
	CompanyID    int64
	ProjectID    string
}

type describeResponse struct {
	Infos      []info
	TotalCount int
}

func (s *Service) describe(ctx context.Context, c *action.Call, q *describeRequest) (*describeResponse, error) {
	for _, kind := range q.ResourceTypes {
		if _, err := s.Directory.Named(kind); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		name           string
		given, offered []string
	}{{"EventTypes", q.EventTypes, []string{Lifecycle, Operations}}, {"Levels", q.Levels, []string{Info, Warning, Error}}} {
		for _, v := range f.given {
			if !slices.Contains(f.offered, v) {
				return nil, retcode.InvalidParameter.Errorf("%s are of %v", f.name, f.offered)
			}
		}
	}
	var rows []row
	sel := identity.Own(s.DB.Reader().NewSelect().Model(&rows), c.Scope())
	for _, f := range []struct {
		column string
		values []string
	}{{"resource_id", q.ResourceIDs}, {"kind", q.ResourceTypes}, {"type", q.EventTypes}, {"level", q.Levels}, {"project", q.ProjectIDs}} {
		if len(f.values) > 0 {
			sel = sel.Where("? IN (?)", bun.Ident(f.column), bun.In(f.values))
		}
	}
	if q.BeginTime > 0 {
		sel = sel.Where("last_at >= ?", q.BeginTime*1e6)
	}
	if q.EndTime > 0 {
		sel = sel.Where("first_at < ?", (q.EndTime+1)*1e6)
	}
	out := &describeResponse{Infos: []info{}}
	n, err := sel.OrderExpr("last_at DESC, id DESC").Offset(int64(q.Offset)).Limit(int64(max(1, q.Limit))).ScanAndCount(ctx)
	if out.TotalCount = int(n); err != nil || q.Limit == 0 || len(rows) == 0 {
		return out, err
	}
	names, err := s.names(ctx, rows)
	if err != nil {
		return nil, err
	}
	for _, e := range rows {
		if name, ok := names[e.ResourceID]; ok {
			e.ResourceName = name
		}
		out.Infos = append(out.Infos, info{EventID: e.ID, ResourceID: e.ResourceID, ResourceName: e.ResourceName, ResourceType: e.Kind, EventType: e.Type,
			Level: e.Level, Content: e.content(c.Language), Count: e.Count, FirstTime: e.FirstAt / 1e6, LastTime: e.LastAt / 1e6,
			Region: e.Region, CompanyID: e.Company, ProjectID: e.Project})
	}
	return out, nil
}

// names are what the resources of events are called now; those that are destroyed are left out.
func (s *Service) names(ctx context.Context, rows []row) (map[string]string, error) {
	ids := map[string][]string{}
	for _, e := range rows {
		ids[e.Kind] = append(ids[e.Kind], e.ResourceID)
	}
	names := map[string]string{}
	for kind, of := range ids {
		items, _, err := s.Directory.List(ctx, s.DB.Reader(), action.Scope{}, kind, resource.Filter{IDs: of, Binned: true}, 0, -1)
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			names[i.ID] = i.Name
		}
	}
	return names, nil
}
