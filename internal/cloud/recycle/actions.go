package recycle

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Actions of the bin.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeRecycledResource", Module: "recycle",
			Summary: "List resources in the recycle bin."}, s.describe),
		action.Define(action.Spec{Name: "RollbackResource", Module: "recycle", Mutates: true,
			Summary: "Restore a resource from the recycle bin."}, s.rollback),
		action.Define(action.Spec{Name: "TerminateResource", Module: "recycle", Mutates: true,
			Summary: "Destroy a recycled resource for good."}, s.terminate),
	}
}

type describeRequest struct {
	ResourceIDs      []string `doc:"resource ids"`
	ResourceType     string   `validate:"omitempty,oneof=VM Disk EIP Image" doc:"kind of resource"`
	Keyword          string   `doc:"part of name or id"`
	ProjectIDs       []string `doc:"project group ids"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
	action.Page
}

type describeResponse struct {
	TotalCount int
	Infos      []info
}

type info struct {
	Region            string
	RegionAlias       string
	Zone              string
	ResourceID        string
	ResourceType      string
	Name              string
	Description       string
	CompanyID         string `doc:"a string here"`
	Email             string
	ProjectID         string
	ProjectName       string
	State             string
	Status            string
	IsFailed          bool
	CreateTime        int64
	UpdateTime        int64
	DeleteTime        int64
	WillTerminateTime int64
	ExpireTime        int64
	IsAutoTerminated  bool
}

// describe merges the kinds' lists: each gives as many of its newest as the page could show.
func (s *Service) describe(ctx context.Context, c *action.Call, q *describeRequest) (*describeResponse, error) {
	out := &describeResponse{Infos: []info{}}
	ids := q.ResourceIDs
	if len(q.TagKeyValuePairs) > 0 {
		marked, err := tag.Bearers(ctx, s.DB.Reader(), c.Company, q.TagKeyValuePairs)
		if err != nil {
			return nil, err
		}
		if ids != nil {
			marked = slices.DeleteFunc(marked, func(id string) bool { return !slices.Contains(ids, id) })
		}
		ids = marked
	}
	type found struct {
		item
		kind string
	}
	var all []found
	for _, k := range s.kinds {
		if q.ResourceType != "" && q.ResourceType != k.name {
			continue
		}
		rows, n, err := k.items(ctx, resource.BinFilter{Scope: c.Scope(), Keyword: q.Keyword,
			IDs: ids, Projects: q.ProjectIDs, Limit: max(1, q.Offset+q.Limit)}, c.Language)
		if err != nil {
			return nil, err
		}
		out.TotalCount += n
		for _, r := range rows {
			all = append(all, found{r, k.name})
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.deletedAt, a.deletedAt), cmp.Compare(b.id, a.id))
	})
	all = all[min(q.Offset, len(all)):min(q.Offset+q.Limit, len(all))]
	var companies []int64
	for _, f := range all {
		if !slices.Contains(companies, f.company) {
			companies = append(companies, f.company)
		}
	}
	emails, err := s.Identity.Emails(ctx, companies)
	if err != nil {
		return nil, err
	}
	groups := make([]string, len(all))
	for i, f := range all {
		groups[i] = f.project
	}
	projects, err := s.Identity.ProjectNames(ctx, groups)
	if err != nil {
		return nil, err
	}
	alias, err := s.Catalog.RegionAlias(ctx, c.Region)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		destroyed, ends := s.Catalog.Config.RecycleAutoDestroy(ctx, f.region), int64(0)
		if destroyed {
			ends = (f.deletedAt + s.Catalog.Config.RecycleRetention(ctx, f.region).Microseconds()) / 1e6
		}
		out.Infos = append(out.Infos, info{
			Region: f.region, RegionAlias: alias, ResourceID: f.id, ResourceType: f.kind, Name: f.name, Description: f.why,
			CompanyID: strconv.FormatInt(f.company, 10), Email: emails[f.company], ProjectID: f.project, ProjectName: projects[f.project], State: f.state, Status: f.state,
			IsFailed: f.state == "Failed", CreateTime: f.createdAt / 1e6, UpdateTime: f.updatedAt / 1e6, DeleteTime: f.deletedAt / 1e6,
			WillTerminateTime: ends, ExpireTime: f.expires / 1e6, IsAutoTerminated: destroyed,
		})
	}
	return out, nil
}

type oneRequest struct {
	ResourceID string `validate:"required" doc:"resource id"`
	ProjectID  string `doc:"project group id"`
	action.Tenant
}

// of finds the kind of an id: 200 when there is none.
func (s *Service) of(ctx context.Context, c *action.Call, q *oneRequest) (kind, error) {
	for _, k := range s.kinds {
		if strings.HasPrefix(q.ResourceID, k.prefix) {
			return k, identity.Within(ctx, s.DB.Reader(), c, q.ProjectID)
		}
	}
	return kind{}, retcode.ResourceNotFound.Errorf("ResourceID %s", q.ResourceID)
}

func (s *Service) rollback(ctx context.Context, c *action.Call, q *oneRequest) (*action.Empty, error) {
	k, err := s.of(ctx, c, q)
	if err != nil {
		return nil, err
	}
	c.AddResource(q.ResourceID)
	return nil, k.restore(ctx, c, q.ResourceID)
}

func (s *Service) terminate(ctx context.Context, c *action.Call, q *oneRequest) (*action.Empty, error) {
	k, err := s.of(ctx, c, q)
	if err != nil {
		return nil, err
	}
	c.AddResource(q.ResourceID)
	return nil, k.terminate(ctx, c, q.ResourceID)
}
