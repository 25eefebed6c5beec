package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

func (s *Service) entryActions() []action.Action {
	spec := func(name, summary string, mutates bool) action.Spec {
		return action.Spec{Name: name, Module: "security_group", Extension: true, Mutates: mutates, Summary: summary}
	}
	return []action.Action{
		action.Define(spec("CreateIPGroup", "Create a group of addresses that rules can name.", true), s.createIPGroup),
		action.Define(spec("DescribeIPGroup", "List groups of addresses.", false), s.describeIPGroup),
		action.Define(spec("UpdateIPGroup", "Replace the entries of a group of addresses.", true), s.updateIPGroup),
		action.Define(spec("DeleteIPGroup", "Delete a group of addresses that no rule names.", true), s.deleteIPGroup),
		action.Define(spec("CreatePortGroup", "Create a group of ports that rules can name.", true), s.createPortGroup),
		action.Define(spec("DescribePortGroup", "List groups of ports.", false), s.describePortGroup),
		action.Define(spec("UpdatePortGroup", "Replace the entries of a group of ports.", true), s.updatePortGroup),
		action.Define(spec("DeletePortGroup", "Delete a group of ports that no rule names.", true), s.deletePortGroup),
	}
}

type createEntriesRequest struct {
	Name             string   `validate:"required" doc:"1-63 printable characters"`
	Rules            string   `validate:"required" doc:"entries, comma separated: addresses, CIDRs or first-last; or protocol:port, protocol:first-last"`
	ProjectID        string   `doc:"project group id"`
	Remark           string   `doc:"0-100 characters"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type createIPGroupResponse struct{ IPGroupID string }
type createPortGroupResponse struct{ PortGroupID string }

func (s *Service) createIPGroup(ctx context.Context, c *action.Call, q *createEntriesRequest) (*createIPGroupResponse, error) {
	id, err := s.createEntries(ctx, c, q, ofAddresses, "ipgroup", "IPGROUP")
	return &createIPGroupResponse{id}, err
}

func (s *Service) createPortGroup(ctx context.Context, c *action.Call, q *createEntriesRequest) (*createPortGroupResponse, error) {
	id, err := s.createEntries(ctx, c, q, ofPorts, "portgroup", "PORTGROUP")
	return &createPortGroupResponse{id}, err
}

func (s *Service) createEntries(ctx context.Context, c *action.Call, q *createEntriesRequest, kind, prefix, resourceKind string) (string, error) {
	name, err := resource.Name(q.Name)
	if err != nil {
		return "", err
	}
	if err := remark(q.Remark); err != nil {
		return "", err
	}
	entries, err := parseEntries(kind, q.Rules)
	if err != nil {
		return "", err
	}
	now := s.Clock.Micros()
	g := &entryGroup{ID: database.NewID(prefix), Region: c.Region, Company: c.Owner(), Name: name, Remark: q.Remark, Kind: kind, Entries: entries,
		State: entriesAvailable, CreatedAt: now, UpdatedAt: now}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if g.Project, err = identity.Project(ctx, tx, c, q.ProjectID); err != nil {
			return err
		}
		if err := tag.Attach(ctx, tx, now, resource.Item{ID: g.ID, Company: g.Company, Region: g.Region, Kind: resourceKind}, q.TagKeyValuePairs); err != nil {
			return err
		}
		_, err := tx.NewInsert().Model(g).Exec(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	c.AddResource(g.ID)
	return g.ID, nil
}

// entryInfo is what both lists show.
type entryInfo struct {
	Name           string
	Remark         string
	Rules          string   `doc:"entries, comma separated"`
	ReferenceCount int      `doc:"rules that name the group"`
	ReferenceSGIDs []string `doc:"security groups with such rules"`
	Status         string   `doc:"available, updating"`
	Reason         string   `doc:"why the last change was taken back"`
	CompanyID      int64
	ProjectID      string
	CreateTime     int64
	UpdateTime     int64
	Tags           []tag.Info
}

type describeIPGroupRequest struct {
	IPGroupIDs []string `doc:"IP group ids"`
	Keyword    string   `doc:"part of name or id"`
	ProjectIDs []string `doc:"project group ids"`
	Offset     int      `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit      int      `default:"20" validate:"min=1,max=100" doc:"page length"`
	action.Tenant
}

type ipGroupInfo struct {
	IPGroupID string
	entryInfo
}

type describeIPGroupResponse struct {
	Infos      []ipGroupInfo
	TotalCount int
}

func (s *Service) describeIPGroup(ctx context.Context, c *action.Call, q *describeIPGroupRequest) (*describeIPGroupResponse, error) {
	ids, infos, n, err := s.listEntries(ctx, c, ofAddresses, q.IPGroupIDs, q.ProjectIDs, q.Keyword, action.Page{Offset: q.Offset, Limit: q.Limit})
	out := &describeIPGroupResponse{Infos: make([]ipGroupInfo, len(ids)), TotalCount: n}
	for i := range ids {
		out.Infos[i] = ipGroupInfo{ids[i], infos[i]}
	}
	return out, err
}

type describePortGroupRequest struct {
	PortGroupIDs []string `doc:"port group ids"`
	Keyword      string   `doc:"part of name or id"`
	ProjectIDs   []string `doc:"project group ids"`
	Offset       int      `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit        int      `default:"20" validate:"min=1,max=100" doc:"page length"`
	action.Tenant
}

type portGroupInfo struct {
	PortGroupID string
	entryInfo
}

type describePortGroupResponse struct {
	Infos      []portGroupInfo
	TotalCount int
}

func (s *Service) describePortGroup(ctx context.Context, c *action.Call, q *describePortGroupRequest) (*describePortGroupResponse, error) {
	ids, infos, n, err := s.listEntries(ctx, c, ofPorts, q.PortGroupIDs, q.ProjectIDs, q.Keyword, action.Page{Offset: q.Offset, Limit: q.Limit})
	out := &describePortGroupResponse{Infos: make([]portGroupInfo, len(ids)), TotalCount: n}
	for i := range ids {
		out.Infos[i] = portGroupInfo{ids[i], infos[i]}
	}
	return out, err
}

func (s *Service) listEntries(ctx context.Context, c *action.Call, kind string, wanted, projects []string, keyword string, p action.Page) (ids []string, infos []entryInfo, n int, err error) {
	var rows []entryGroup
	db := s.DB.Reader()
	sel := identity.Own(db.NewSelect().Model(&rows).Where("kind = ?", kind), c.Scope())
	sel = database.Matching(anyOf(anyOf(sel, "id", wanted), "project", projects), keyword, "name", "id")
	if n, err = page(ctx, sel, p, "created_at DESC, id DESC"); err != nil || len(rows) == 0 {
		return nil, nil, n, err
	}
	ids = column(rows, func(g *entryGroup) string { return g.ID })
	by, err := referrers(ctx, db, ids...)
	if err != nil {
		return nil, nil, 0, err
	}
	shown, err := labelled(ctx, s, rows)
	if err != nil {
		return nil, nil, 0, err
	}
	for _, g := range rows {
		infos = append(infos, entryInfo{Name: g.Name, Remark: g.Remark, Rules: g.Entries, ReferenceCount: len(by[g.ID]), ReferenceSGIDs: uniq(by[g.ID]), Status: g.State,
			Reason: why(g.ReasonCode, g.Reason, c.Language), CompanyID: g.Company, ProjectID: g.Project, CreateTime: seconds(g.CreatedAt), UpdateTime: seconds(g.UpdatedAt), Tags: shown[g.ID].tags})
	}
	return ids, infos, n, nil
}

type updateIPGroupRequest struct {
	IPGroupID string `validate:"required" doc:"IP group id"`
	Rules     string `validate:"required" doc:"addresses, CIDRs or first-last ranges, comma separated"`
	action.Tenant
}

type updatePortGroupRequest struct {
	PortGroupID string `validate:"required" doc:"port group id"`
	Rules       string `validate:"required" doc:"protocol:port or protocol:first-last, comma separated"`
	action.Tenant
}

func (s *Service) updateIPGroup(ctx context.Context, c *action.Call, q *updateIPGroupRequest) (*action.Empty, error) {
	return s.updateEntries(ctx, c, ofAddresses, q.IPGroupID, q.Rules)
}

func (s *Service) updatePortGroup(ctx context.Context, c *action.Call, q *updatePortGroupRequest) (*action.Empty, error) {
	return s.updateEntries(ctx, c, ofPorts, q.PortGroupID, q.Rules)
}

func (s *Service) updateEntries(ctx context.Context, c *action.Call, kind, id, text string) (*action.Empty, error) {
	c.AddResource(id)
	entries, err := parseEntries(kind, text)
	if err != nil {
		return nil, err
	}
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		g, err := entryGroupByID(ctx, tx, c.Scope(), kind, id)
		if err != nil || g.Entries == entries { // there, or under way
			return "", err
		}
		if g.State != entriesAvailable {
			return "", retcode.InvalidResourceState.Errorf("%s is %s", g.ID, g.State)
		}
		ok, err := changed(tx.NewRaw("UPDATE entry_group SET entries = ?, state = ?, reason = '', reason_code = 0, updated_at = ?, generation = generation + 1 WHERE id = ? AND generation = ?",
			entries, entriesUpdating, s.Clock.Micros(), g.ID, g.Generation).Exec(ctx))
		if err != nil {
			return "", err
		}
		if !ok {
			return "", retcode.InvalidResourceState.Errorf("%s is being changed", g.ID)
		}
		operation, err := s.entries.Accept(ctx, tx, workflow.Request{Action: c.Action, Company: g.Company, Region: g.Region, Resources: []string{g.ID},
			Locks: []workflow.Lock{exclusive(g.ID)}}, entryChange{Group: g.ID, Before: g.Entries})
		return operation, held(err, retcode.InvalidResourceState)
	})
}

type deleteIPGroupRequest struct {
	IPGroupID string `validate:"required" doc:"IP group id"`
	action.Tenant
}

type deletePortGroupRequest struct {
	PortGroupID string `validate:"required" doc:"port group id"`
	action.Tenant
}

func (s *Service) deleteIPGroup(ctx context.Context, c *action.Call, q *deleteIPGroupRequest) (*action.Empty, error) {
	return s.deleteEntries(ctx, c, ofAddresses, q.IPGroupID)
}

func (s *Service) deletePortGroup(ctx context.Context, c *action.Call, q *deletePortGroupRequest) (*action.Empty, error) {
	return s.deleteEntries(ctx, c, ofPorts, q.PortGroupID)
}

// deleteEntries deletes a group that no rule names: 200, 202 being changed, 16001 named.
func (s *Service) deleteEntries(ctx context.Context, c *action.Call, kind, id string) (*action.Empty, error) {
	c.AddResource(id)
	return &action.Empty{}, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		g, err := entryGroupByID(ctx, tx, c.Scope(), kind, id)
		if err != nil {
			return err
		}
		ok, err := changed(tx.NewRaw("DELETE FROM entry_group WHERE id = ? AND state = ?", g.ID, entriesAvailable).Exec(ctx))
		if err != nil {
			return err
		}
		if !ok {
			return retcode.InvalidResourceState.Errorf("%s is %s", g.ID, g.State)
		}
		by, err := referrers(ctx, tx, g.ID)
		if err != nil {
			return err
		}
		if n := len(by[g.ID]); n > 0 {
			return retcode.SGInUse.Errorf("%d rules of %d security groups name %s", n, len(uniq(by[g.ID])), g.ID)
		}
		return nil
	})
}
