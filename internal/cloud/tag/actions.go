package tag

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Actions of tags.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateTag", Module: "tag", Mutates: true, Extension: true, Region: action.RegionNone,
			Summary: "Create values of a key."}, s.create),
		action.Define(action.Spec{Name: "DescribeTag", Module: "tag", Extension: true, Region: action.RegionNone,
			Summary: "List tags."}, s.describe),
		action.Define(action.Spec{Name: "DeleteTag", Module: "tag", Mutates: true, Extension: true, Region: action.RegionNone,
			Summary: "Delete a tag nothing is bound to."}, s.delete),
		action.Define(action.Spec{Name: "BindTag", Module: "tag", Mutates: true, Extension: true,
			Summary: "Bind tags, an old value of the key is replaced."}, s.bindTags),
		action.Define(action.Spec{Name: "UnBindTag", Module: "tag", Mutates: true, Extension: true,
			Summary: "Take tags off."}, s.unbindTags),
		action.Define(action.Spec{Name: "SetResourceTags", Module: "tag", Mutates: true, Extension: true,
			Summary: "Replace all tags of a resource."}, s.set),
		action.Define(action.Spec{Name: "DescribeTagResource", Module: "tag", Extension: true,
			Summary: "List the resources of a tag."}, s.describeResources),
		action.Define(action.Spec{Name: "DescribeBindableTagResource", Module: "tag", Extension: true,
			Summary: "List resources that can take a tag."}, s.describeBindable),
	}
}

type createRequest struct {
	Key    string   `validate:"required" doc:"1 to 127 characters"`
	Values []string `validate:"required" doc:"each 1 to 127 characters, at most 50"`
	action.Tenant
}

type createResponse struct{ TagIDs []string }

func (s *Service) create(ctx context.Context, c *action.Call, q *createRequest) (*createResponse, error) {
	if len(q.Values) > MaxResource {
		return nil, retcode.InvalidParameter.Errorf("at most %d Values at once", MaxResource)
	}
	for _, text := range append([]string{q.Key}, q.Values...) {
		if err := check(text); err != nil {
			return nil, err
		}
	}
	out := new(createResponse)
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		out.TagIDs = nil
		for _, v := range q.Values {
			// A tag that is there already is answered with its id.
			row := &tag{ID: database.NewID("tag"), Company: c.Owner(), Key: q.Key, Value: v, CreatedAt: s.Clock.Micros()}
			if _, err := tx.NewInsert().Model(row).On("CONFLICT (company, key, value) DO UPDATE").Set("created_at = tag.created_at").
				Returning("id").Exec(ctx); err != nil {
				return err
			}
			out.TagIDs = append(out.TagIDs, row.ID)
		}
		return nil
	})
	c.AddResource(out.TagIDs...)
	return out, err
}

type describeRequest struct {
	Keys    []string `doc:"keys"`
	Keyword string   `doc:"part of key or value"`
	action.Tenant
	action.Page
}

type tagInfo struct {
	TagID         string `bun:"id"`
	Key           string `bun:"key"`
	Value         string `bun:"value"`
	ResourceCount int    `bun:"resources"`
	CompanyID     int64  `bun:"company"`
	CreateTime    int64  `bun:"created_at" doc:"unix seconds"`
}

type describeResponse struct {
	Infos      []tagInfo
	TotalCount int
}

func (s *Service) describe(ctx context.Context, c *action.Call, q *describeRequest) (*describeResponse, error) {
	if err := s.Sweep(ctx); err != nil { // the counts are of what is there
		return nil, err
	}
	out := &describeResponse{Infos: []tagInfo{}}
	sel := s.DB.Reader().NewSelect().TableExpr("tag AS t").ColumnExpr("t.id, t.key, t.value, t.company, t.created_at").
		ColumnExpr("(SELECT count(*) FROM tag_binding AS b WHERE b.company = t.company AND b.key = t.key AND b.value = t.value) AS resources")
	if c.Company != 0 {
		sel = sel.Where("t.company = ?", c.Company)
	}
	if len(q.Keys) > 0 {
		sel = sel.Where("t.key IN (?)", bun.In(q.Keys))
	}
	sel = database.Matching(sel, q.Keyword, "t.key", "t.value")
	n, err := sel.Count(ctx)
	if out.TotalCount = int(n); err != nil || q.Limit == 0 {
		return out, err
	}
	err = sel.OrderExpr("t.key, t.value, t.id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).Scan(ctx, &out.Infos)
	for i := range out.Infos {
		out.Infos[i].CreateTime /= 1e6
	}
	return out, err
}

type deleteRequest struct {
	Key   string `validate:"required" doc:"key of the tags"`
	Value string `doc:"all values of the key when left out"`
	action.Tenant
}

func (s *Service) delete(ctx context.Context, c *action.Call, q *deleteRequest) (*action.Empty, error) {
	if err := s.Sweep(ctx); err != nil {
		return nil, err
	}
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		one := func(key, value string) (string, []any) {
			if q.Value == "" {
				return "company = ? AND " + key + " = ?", []any{c.Owner(), q.Key}
			}
			return "company = ? AND " + key + " = ? AND " + value + " = ?", []any{c.Owner(), q.Key, q.Value}
		}
		where, args := one("key", "value")
		var ids []string
		if err := tx.NewDelete().Model((*tag)(nil)).Where(where, args...).Returning("id").Scan(ctx, &ids); err != nil {
			return err
		}
		if len(ids) == 0 {
			return retcode.ResourceNotFound.Errorf("there is no tag with the key %q", q.Key)
		}
		// The rows above are gone for good only when nothing bears them; a binding made meanwhile made its tag again.
		n, err := tx.NewSelect().Model((*binding)(nil)).Where(where, args...).Count(ctx)
		if err != nil {
			return err
		}
		if n > 0 {
			return retcode.InvalidResourceBizState.Errorf("%d resources bear the tag: take it off first", n)
		}
		c.AddResource(ids...)
		return nil
	})
}

type bindRequest struct {
	ResourceType  string   `validate:"required" doc:"kind of the resources, as VM"`
	ResourceIDs   []string `validate:"required" doc:"at most 100"`
	KeyValuePairs []string `validate:"required" doc:"base64(key):base64(value), at most 50"`
	action.Tenant
}

func (s *Service) bindTags(ctx context.Context, c *action.Call, q *bindRequest) (*action.Empty, error) {
	return s.change(ctx, c, q.ResourceType, q.ResourceIDs, q.KeyValuePairs, func(ctx context.Context, tx bun.Tx, item resource.Item, pairs []Pair) error {
		return bind(ctx, tx, s.Clock.Micros(), item, pairs)
	})
}

func (s *Service) unbindTags(ctx context.Context, c *action.Call, q *bindRequest) (*action.Empty, error) {
	return s.change(ctx, c, q.ResourceType, q.ResourceIDs, q.KeyValuePairs, func(ctx context.Context, tx bun.Tx, item resource.Item, pairs []Pair) error {
		return unbind(ctx, tx, item.ID, pairs)
	})
}

type setRequest struct {
	ResourceType  string   `validate:"required" doc:"kind of the resource, as VM"`
	ResourceID    string   `validate:"required" doc:"resource id"`
	KeyValuePairs []string `doc:"base64(key):base64(value), at most 50; none takes all off"`
	action.Tenant
}

func (s *Service) set(ctx context.Context, c *action.Call, q *setRequest) (*action.Empty, error) {
	return s.change(ctx, c, q.ResourceType, []string{q.ResourceID}, q.KeyValuePairs, func(ctx context.Context, tx bun.Tx, item resource.Item, pairs []Pair) error {
		if _, err := tx.NewDelete().Model((*binding)(nil)).Where("resource_id = ?", item.ID).Exec(ctx); err != nil {
			return err
		}
		return bind(ctx, tx, s.Clock.Micros(), item, pairs)
	})
}

// maxResources is how many resources one call changes.
const maxResources = 100

// change applies f to all resources or to none: 207 unknown type or not the ids', the kind's code for a resource that
// is not there, 202 for one whose tags must not change.
func (s *Service) change(ctx context.Context, c *action.Call, kind string, ids, texts []string,
	f func(context.Context, bun.Tx, resource.Item, []Pair) error) (*action.Empty, error) {
	pairs, err := Parse(texts, MaxResource)
	if err != nil {
		return nil, err
	}
	if len(ids) > maxResources {
		return nil, retcode.InvalidParameter.Errorf("at most %d ResourceIDs at once", maxResources)
	}
	if _, err := s.Directory.Named(kind); err != nil {
		return nil, err
	}
	c.AddResource(ids...)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, id := range ids {
			if k, err := s.Directory.Of(id); err == nil && k.Name != kind {
				return retcode.InvalidResourceType.Errorf("%s is no %s", id, kind)
			}
			item, err := s.Directory.Find(ctx, tx, c.Scope(), id)
			if err != nil {
				return err
			}
			if err := s.Directory.Editable(ctx, tx, id); err != nil {
				return err
			}
			if item.Frozen {
				return retcode.InvalidResourceState.Errorf("the tags of %s cannot change in its state", id)
			}
			if err := f(ctx, tx, *item, pairs); err != nil {
				return err
			}
		}
		return nil
	})
}

type resourceInfo struct {
	ResourceID   string
	ResourceName string
	ResourceType string
	Region       string
	Key          string
	Value        string
}

type describeResourcesRequest struct {
	Key          string `validate:"required" doc:"key of the tag"`
	Value        string `doc:"value; any when left out"`
	ResourceType string `doc:"kind of the resources; any when left out"`
	action.Tenant
	action.Page
}

type describeResourcesResponse struct {
	Infos      []resourceInfo
	TotalCount int
}

func (s *Service) describeResources(ctx context.Context, c *action.Call, q *describeResourcesRequest) (*describeResourcesResponse, error) {
	out := &describeResourcesResponse{Infos: []resourceInfo{}}
	if q.ResourceType != "" {
		if _, err := s.Directory.Named(q.ResourceType); err != nil {
			return nil, err
		}
	}
	var rows []binding
	sel := s.DB.Reader().NewSelect().Model(&rows).Where("region = ? AND key = ?", c.Region, q.Key)
	for column, value := range map[string]string{"value": q.Value, "kind": q.ResourceType} {
		if value != "" {
			sel = sel.Where("? = ?", bun.Ident(column), value)
		}
	}
	if c.Company != 0 {
		sel = sel.Where("company = ?", c.Company)
	}
	if err := sel.OrderExpr("kind, resource_id").Scan(ctx); err != nil {
		return nil, err
	}
	// Who bears a tag is bounded by what quotas allow; whether the caller may see it is the directory's to say.
	byKind := map[string][]string{}
	for _, r := range rows {
		byKind[r.Kind] = append(byKind[r.Kind], r.ResourceID)
	}
	names := map[string]string{}
	for kind, ids := range byKind {
		items, _, err := s.Directory.List(ctx, s.DB.Reader(), c.Scope(), kind, resource.Filter{IDs: ids, Binned: true}, 0, -1)
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			names[i.ID] = i.Name
		}
	}
	for _, r := range rows {
		if name, ok := names[r.ResourceID]; ok {
			out.Infos = append(out.Infos, resourceInfo{r.ResourceID, name, r.Kind, r.Region, r.Key, r.Value})
		}
	}
	out.TotalCount = len(out.Infos)
	out.Infos = out.Infos[min(q.Offset, len(out.Infos)):min(q.Offset+q.Limit, len(out.Infos))]
	return out, nil
}

type describeBindableRequest struct {
	ResourceType string `validate:"required" doc:"kind of the resources, as VM"`
	Keyword      string `doc:"part of name or id"`
	action.Tenant
	action.Page
}

type bindableInfo struct {
	ResourceID   string
	ResourceName string
	ResourceType string
	Region       string
}

type describeBindableResponse struct {
	Infos      []bindableInfo
	TotalCount int
}

func (s *Service) describeBindable(ctx context.Context, c *action.Call, q *describeBindableRequest) (*describeBindableResponse, error) {
	items, n, err := s.Directory.List(ctx, s.DB.Reader(), c.Scope(), q.ResourceType, resource.Filter{Keyword: q.Keyword}, q.Offset, q.Limit)
	if err != nil {
		return nil, err
	}
	out := &describeBindableResponse{Infos: []bindableInfo{}, TotalCount: n}
	for _, i := range items {
		out.Infos = append(out.Infos, bindableInfo{i.ID, i.Name, i.Kind, i.Region})
	}
	return out, nil
}
