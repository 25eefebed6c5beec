package identity

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) projectActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateProject", Module: "account", Region: action.RegionNone, Mutates: true, Summary: "Create a project group."}, s.createProject),
		action.Define(action.Spec{Name: "ListProjects", Module: "account", Region: action.RegionNone, Summary: "List project groups."}, s.listProjects),
		action.Define(action.Spec{Name: "GetProject", Module: "account", Region: action.RegionNone, Summary: "Return one project group."}, s.getProject),
		action.Define(action.Spec{Name: "RenameProject", Module: "account", Region: action.RegionNone, Mutates: true, Summary: "Rename a project group."}, s.renameProject),
		action.Define(action.Spec{Name: "DeleteProject", Module: "account", Region: action.RegionNone, Mutates: true, Summary: "Delete an empty project group."}, s.deleteProject),
		action.Define(action.Spec{Name: "MoveProjectResource", Module: "account", Region: action.RegionNone, Mutates: true, Summary: "Move resources to another project group."}, s.moveProjectResource),
	}
}

// actFor makes a call one on a tenant that its action demands by name: 111 for another tenant than the
// caller's, 27001 for one that is none.
func (s *Service) actFor(ctx context.Context, c *action.Call, company int64) error {
	switch {
	case company == c.Caller.Company && !c.Caller.Admin:
		return nil
	case !c.Caller.Admin:
		return retcode.AdminOnly.Errorf("CompanyID %d is another tenant", company)
	}
	if err := s.CheckTenant(ctx, company); err != nil {
		return err
	}
	c.Company = company
	return nil
}

type createProjectRequest struct {
	CompanyID int64  `validate:"required" doc:"tenant to act on; honoured for administrators only"`
	Name      string `validate:"required" doc:"1-50 printable characters"`
	Remark    string `doc:"0-100 characters"`
}

type createProjectResponse struct{ ProjectID string }

func (s *Service) createProject(ctx context.Context, c *action.Call, q *createProjectRequest) (*createProjectResponse, error) {
	if err := s.actFor(ctx, c, q.CompanyID); err != nil {
		return nil, err
	}
	name, err := checkName(q.Name)
	if err := errors.Join(err, checkRemark(q.Remark)); err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	p := &project{ID: database.NewID("project"), Company: c.Owner(), Name: name, Remark: q.Remark, CreatedAt: now, UpdatedAt: now}
	c.AddResource(p.ID)
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if n, err := tx.NewSelect().Model((*project)(nil)).Where("company = ?", p.Company).Count(ctx); err != nil {
			return err
		} else if n >= maxProjects {
			return retcode.InvalidParameter.Errorf("a tenant has at most %d project groups", maxProjects)
		}
		_, err := tx.NewInsert().Model(p).Exec(ctx)
		return named(err, name)
	})
	return &createProjectResponse{ProjectID: p.ID}, err
}

// named answers 113 for a name that is taken.
func named(err error, name string) error {
	if database.IsUnique(err) {
		return retcode.InvalidParameter.Errorf("the name %s is taken", name)
	}
	return err
}

type listProjectsRequest struct {
	Keyword    string   `doc:"part of name or id"`
	ProjectIDs []string `doc:"project group ids"`
	action.Tenant
	action.Page
}

type listProjectsResponse struct {
	Infos      []projectInfo
	TotalCount int
}

type projectInfo struct {
	ProjectID    string
	Name         string
	IsDefault    bool
	CompanyID    int64
	CompanyName  string
	CompanyEmail string
	Remark       string
	CreateTime   int64
	UpdateTime   int64
}

func (s *Service) listProjects(ctx context.Context, c *action.Call, q *listProjectsRequest) (*listProjectsResponse, error) {
	out := &listProjectsResponse{}
	var rows []project
	sel := s.DB.Reader().NewSelect().Model(&rows)
	if c.Company != 0 {
		sel = sel.Where("company = ?", c.Company)
	}
	if c.Projects != nil {
		sel = sel.Where("id IN (?)", bun.In(c.Projects))
	}
	if len(q.ProjectIDs) > 0 {
		sel = sel.Where("id IN (?)", bun.In(q.ProjectIDs))
	}
	n, err := page(ctx, database.Matching(sel, q.Keyword, "name", "id"), q.Page, "is_default DESC, created_at DESC, id DESC")
	if out.TotalCount = n; err != nil {
		return nil, err
	}
	out.Infos, err = s.projectInfos(ctx, rows)
	return out, err
}

// page reads the rows of one page and how many match in all.
func page(ctx context.Context, q *bun.SelectQuery, p action.Page, order string) (int, error) {
	n, err := q.Count(ctx)
	if err != nil || p.Limit == 0 || int64(p.Offset) >= n {
		return int(n), err
	}
	return int(n), q.OrderExpr(order).Offset(int64(p.Offset)).Limit(int64(p.Limit)).Scan(ctx)
}

func (s *Service) projectInfos(ctx context.Context, rows []project) ([]projectInfo, error) {
	companies := make([]int64, len(rows))
	for i, p := range rows {
		companies[i] = p.Company
	}
	tenants := map[int64]Tenant{}
	if len(rows) > 0 {
		found, err := s.tenants(ctx, companies)
		if err != nil {
			return nil, err
		}
		for _, t := range found {
			tenants[t.ID] = t
		}
	}
	out := []projectInfo{}
	for _, p := range rows {
		out = append(out, projectInfo{ProjectID: p.ID, Name: p.Name, IsDefault: p.IsDefault, CompanyID: p.Company, CompanyName: tenants[p.Company].Name,
			CompanyEmail: tenants[p.Company].Email, Remark: p.Remark, CreateTime: p.CreatedAt / 1e6, UpdateTime: p.UpdatedAt / 1e6})
	}
	return out, nil
}

type getProjectRequest struct {
	ProjectID string `validate:"required" doc:"project group id"`
	action.Tenant
}

type getProjectResponse struct{ Info projectInfo }

func (s *Service) getProject(ctx context.Context, c *action.Call, q *getProjectRequest) (*getProjectResponse, error) {
	p, err := projectByID(ctx, s.DB.Reader(), c.Scope(), q.ProjectID)
	if err != nil {
		return nil, err
	}
	infos, err := s.projectInfos(ctx, []project{*p})
	if err != nil {
		return nil, err
	}
	return &getProjectResponse{infos[0]}, nil
}

type renameProjectRequest struct {
	ProjectID string  `validate:"required" doc:"project group id"`
	Name      string  `validate:"required" doc:"1-50 printable characters"`
	Remark    *string `doc:"0-100 characters; absent: unchanged"`
	action.Tenant
}

func (s *Service) renameProject(ctx context.Context, c *action.Call, q *renameProjectRequest) (*action.Empty, error) {
	c.AddResource(q.ProjectID)
	name, err := checkName(q.Name)
	if q.Remark != nil {
		err = errors.Join(err, checkRemark(*q.Remark))
	}
	if err != nil {
		return nil, err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		p, err := projectByID(ctx, tx, c.Scope(), q.ProjectID)
		if err != nil {
			return err
		}
		up := tx.NewUpdate().Model(p).WherePK().Set("name = ?, updated_at = ?, generation = generation + 1", name, s.Clock.Micros())
		if q.Remark != nil {
			up = up.Set("remark = ?", *q.Remark)
		}
		_, err = up.Exec(ctx)
		return named(err, name)
	})
	s.projects.Remove(q.ProjectID)
	return nil, err
}

type deleteProjectRequest struct {
	ProjectID string `validate:"required" doc:"project group id"`
	action.Tenant
}

// deleteProject removes an empty group. Whoever creates in it holds its row until the end of the transaction,
// so that the look for resources, which comes after the row was taken, sees all of them.
func (s *Service) deleteProject(ctx context.Context, c *action.Call, q *deleteProjectRequest) (*action.Empty, error) {
	c.AddResource(q.ProjectID)
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		p, err := projectByID(ctx, tx, c.Scope(), q.ProjectID)
		if err != nil {
			return err
		}
		if p.IsDefault {
			return retcode.ProjectNotEmpty.Errorf("the default project group stays")
		}
		if _, err := tx.NewDelete().Model(p).WherePK().Exec(ctx); err != nil {
			return err
		}
		held, err := s.Directory.Count(ctx, tx, action.Scope{Company: p.Company, Projects: []string{p.ID}})
		if err != nil {
			return err
		}
		for kind, n := range held {
			return retcode.ProjectNotEmpty.Errorf("%s holds %d of the type %s", p.ID, n, kind)
		}
		granted, err := tx.NewSelect().Model((*roleGrant)(nil)).Where("project = ?", p.ID).Count(ctx)
		if err == nil && granted > 0 {
			err = retcode.ProjectNotEmpty.Errorf("%d grants are in %s", granted, p.ID)
		}
		return err
	})
	s.projects.Remove(q.ProjectID)
	return nil, err
}

type moveProjectResourceRequest struct {
	CompanyID   int64    `validate:"required" doc:"tenant to act on; honoured for administrators only"`
	ProjectID   string   `validate:"required" doc:"project group id"`
	ResourceIDs []string `validate:"required,max=100" doc:"resources to move, of any types"`
}

// moveProjectResource needs the permission in the groups on either side.
func (s *Service) moveProjectResource(ctx context.Context, c *action.Call, q *moveProjectResourceRequest) (*action.Empty, error) {
	c.AddResource(q.ResourceIDs...)
	if err := s.actFor(ctx, c, q.CompanyID); err != nil {
		return nil, err
	}
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		to, err := Project(ctx, tx, c, q.ProjectID)
		if err != nil {
			return err
		}
		for _, id := range q.ResourceIDs {
			if err := s.Directory.Move(ctx, tx, c.OwnScope(), id, to); err != nil {
				return err
			}
		}
		return nil
	})
}
