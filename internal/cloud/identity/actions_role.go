package identity

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) roleActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateRole", Module: "account", Region: action.RegionNone, System: true, Mutates: true, Summary: "Create a custom role."}, s.createRole),
		action.Define(action.Spec{Name: "ListRoles", Module: "account", Region: action.RegionNone, System: true, Summary: "List roles."}, s.listRoles),
		action.Define(action.Spec{Name: "GetRole", Module: "account", Region: action.RegionNone, System: true, Summary: "Return one role with its permissions."}, s.getRole),
		action.Define(action.Spec{Name: "RenameRole", Module: "account", Region: action.RegionNone, System: true, Mutates: true, Summary: "Rename a role."}, s.renameRole),
		action.Define(action.Spec{Name: "UpdateRolePermission", Module: "account", Region: action.RegionNone, System: true, Mutates: true, Summary: "Switch one action of a role on or off."}, s.updateRolePermission),
		action.Define(action.Spec{Name: "DeleteRole", Module: "account", Region: action.RegionNone, System: true, Mutates: true, Summary: "Delete a custom role nobody holds."}, s.deleteRole),
		action.Define(action.Spec{Name: "ListProductPermissions", Module: "account", Region: action.RegionNone, Personal: true, Summary: "List the actions that can be granted, by product."}, s.listProductPermissions),
		action.Define(action.Spec{Name: "DescribePermission", Module: "account", Region: action.RegionNone, Personal: true, Summary: "List which actions the calling account may use."}, s.describePermission),
		action.Define(action.Spec{Name: "GrantRole", Module: "account", Region: action.RegionNone, System: true, Extension: true, Mutates: true, Summary: "Give an account roles in a scope."}, s.grantRole),
		action.Define(action.Spec{Name: "RevokeRole", Module: "account", Region: action.RegionNone, System: true, Extension: true, Mutates: true, Summary: "Take roles away, by grant or by account and role."}, s.revokeRole),
		action.Define(action.Spec{Name: "ListRoleGrants", Module: "account", Region: action.RegionNone, System: true, Extension: true, Summary: "List grants."}, s.listRoleGrants),
	}
}

type createRoleRequest struct {
	Name       string `validate:"required" doc:"1-50 printable characters"`
	Permission string `validate:"required" doc:"pairs Action-1 (allow) or Action-0 (deny), comma separated"`
	Remark     string `doc:"0-100 characters"`
	action.Tenant
}

type createRoleResponse struct{ RoleID string }

func (s *Service) createRole(ctx context.Context, c *action.Call, q *createRoleRequest) (*createRoleResponse, error) {
	actions, err := s.parsePermissions(q.Permission)
	if err != nil {
		return nil, err
	}
	name, err := checkName(q.Name)
	if err := errors.Join(err, checkRemark(q.Remark)); err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	r := &role{ID: database.NewID("role"), Company: c.Owner(), Name: name, Remark: q.Remark, CreatedAt: now, UpdatedAt: now}
	c.AddResource(r.ID)
	err = s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		if n, err := tx.NewSelect().Model((*role)(nil)).Where("company = ?", r.Company).Count(ctx); err != nil {
			return err
		} else if n >= maxRoles {
			return retcode.InvalidParameter.Errorf("a tenant has at most %d roles", maxRoles)
		}
		if _, err := tx.NewInsert().Model(r).Exec(ctx); err != nil {
			return named(err, name)
		}
		rows := make([]rolePermission, len(actions))
		for i, a := range actions {
			rows[i] = rolePermission{Role: r.ID, Action: a}
		}
		if len(rows) == 0 {
			return nil
		}
		_, err := tx.NewInsert().Model(&rows).Exec(ctx)
		return err
	})
	return &createRoleResponse{RoleID: r.ID}, err
}

type listRolesRequest struct {
	RoleIDs []string `doc:"role ids"`
	Type    string   `validate:"omitempty,oneof=System Custom" doc:"System: built in"`
	action.Tenant
	action.Page
}

type listRolesResponse struct {
	Infos      []roleInfo
	TotalCount int
}

type roleInfo struct {
	RoleID     string
	Name       string
	Type       string
	CompanyID  int64
	Remark     string
	CreateTime int64
	UpdateTime int64
}

// roleType as the API says it.
func (r *role) roleType() string {
	if r.Company == 0 {
		return "System"
	}
	return "Custom"
}

func (s *Service) listRoles(ctx context.Context, c *action.Call, q *listRolesRequest) (*listRolesResponse, error) {
	out := &listRolesResponse{}
	var rows []role
	sel := s.DB.Reader().NewSelect().Model(&rows)
	if c.Company != 0 {
		sel = sel.Where("company IN (0, ?)", c.Company)
	}
	switch q.Type {
	case "System":
		sel = sel.Where("company = 0")
	case "Custom":
		sel = sel.Where("company <> 0")
	}
	if len(q.RoleIDs) > 0 {
		sel = sel.Where("id IN (?)", bun.In(q.RoleIDs))
	}
	var err error
	if out.TotalCount, err = page(ctx, sel, q.Page, "created_at DESC, id"); err != nil {
		return nil, err
	}
	for _, r := range rows {
		out.Infos = append(out.Infos, roleInfo{RoleID: r.ID, Name: r.Name, Type: r.roleType(), CompanyID: r.Company, Remark: r.Remark,
			CreateTime: r.CreatedAt / 1e6, UpdateTime: r.UpdatedAt / 1e6})
	}
	return out, nil
}

type getRoleRequest struct {
	RoleID string `validate:"required" doc:"role id"`
	action.Tenant
}

type getRoleResponse struct{ Info roleDetail }

type roleDetail struct {
	RoleID          string
	Name            string
	Type            string
	CompanyID       int64
	Remark          string
	RolePermissions []productPermission
	CreateTime      int64
	UpdateTime      int64
}

type productPermission struct {
	Name        string
	ProductType string
	Permissions []permissionInfo
}

type permissionInfo struct {
	Name         string `doc:"the action"`
	ActionType   string `doc:"View, Add, Edit or Delete"`
	IsPermission int    `doc:"1: listed"`
	Permission   int    `doc:"same as IsPermission"`
	Remark       string `doc:"what it does"`
}

// grouped turns the permissions into what people tick, by product.
func (s *Service) grouped(ticked func(*permission) bool) []productPermission {
	out := []productPermission{}
	for _, p := range s.ordered() {
		if n := len(out); n == 0 || out[n-1].ProductType != p.product.Type {
			out = append(out, productPermission{Name: p.product.Name, ProductType: p.product.Type})
		}
		info := permissionInfo{Name: p.Name, ActionType: p.verb, Remark: p.Summary}
		if ticked(p) {
			info.IsPermission, info.Permission = 1, 1
		}
		group := &out[len(out)-1]
		group.Permissions = append(group.Permissions, info)
	}
	return out
}

func (s *Service) getRole(ctx context.Context, c *action.Call, q *getRoleRequest) (*getRoleResponse, error) {
	r, err := roleByID(ctx, s.DB.Reader(), c.Company, q.RoleID)
	if err != nil {
		return nil, err
	}
	var actions []string
	if err := s.DB.Reader().NewSelect().Model((*rolePermission)(nil)).Column("action").Where("role_id = ?", r.ID).Scan(ctx, &actions); err != nil {
		return nil, err
	}
	listed := map[string]bool{}
	for _, a := range actions {
		listed[a] = true
	}
	return &getRoleResponse{roleDetail{RoleID: r.ID, Name: r.Name, Type: r.roleType(), CompanyID: r.Company, Remark: r.Remark,
		RolePermissions: s.grouped(func(p *permission) bool { return p.builtin(r.ID) || listed[p.Name] }),
		CreateTime:      r.CreatedAt / 1e6, UpdateTime: r.UpdatedAt / 1e6}}, nil
}

type renameRoleRequest struct {
	RoleID string  `validate:"required" doc:"role id"`
	Name   string  `validate:"required" doc:"1-50 printable characters"`
	Remark *string `doc:"0-100 characters; absent: unchanged"`
	action.Tenant
}

func (s *Service) renameRole(ctx context.Context, c *action.Call, q *renameRoleRequest) (*action.Empty, error) {
	c.AddResource(q.RoleID)
	name, err := checkName(q.Name)
	if q.Remark != nil {
		err = errors.Join(err, checkRemark(*q.Remark))
	}
	if err != nil {
		return nil, err
	}
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := custom(ctx, tx, c.Company, q.RoleID)
		if err != nil {
			return err
		}
		up := tx.NewUpdate().Model(r).WherePK().Set("name = ?, updated_at = ?, generation = generation + 1", name, s.Clock.Micros())
		if q.Remark != nil {
			up = up.Set("remark = ?", *q.Remark)
		}
		_, err = up.Exec(ctx)
		return named(err, name)
	})
}

type updateRolePermissionRequest struct {
	RoleID       string `validate:"required" doc:"role id"`
	Permission   string `validate:"required" doc:"action name"`
	IsPermission int    `default:"1" validate:"oneof=0 1" doc:"1: on, 0: off"`
	action.Tenant
}

func (s *Service) updateRolePermission(ctx context.Context, c *action.Call, q *updateRolePermissionRequest) (*action.Empty, error) {
	c.AddResource(q.RoleID)
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := custom(ctx, tx, c.Company, q.RoleID)
		if err != nil {
			return err
		}
		if s.permissions[q.Permission] == nil {
			return retcode.InvalidParameter.Errorf("no role can list %s, see ListProductPermissions", q.Permission)
		}
		if c.Caller.Sub {
			own, err := tx.NewSelect().Model((*roleGrant)(nil)).Where("role_id = ? AND account = ?", r.ID, c.Caller.Account).Exists(ctx)
			if err != nil {
				return err
			}
			if own {
				return retcode.ActionForbidden.Errorf("an account does not change its own roles")
			}
		}
		if q.IsPermission == 1 {
			_, err = tx.NewInsert().Model(&rolePermission{Role: r.ID, Action: q.Permission}).On("CONFLICT (role_id, action) DO NOTHING").Exec(ctx)
		} else {
			_, err = tx.NewDelete().Model(&rolePermission{Role: r.ID, Action: q.Permission}).WherePK().Exec(ctx)
		}
		if err != nil {
			return err
		}
		_, err = tx.NewUpdate().Model(r).WherePK().Set("updated_at = ?, generation = generation + 1", s.Clock.Micros()).Exec(ctx)
		return err
	})
}

type deleteRoleRequest struct {
	RoleID string `validate:"required" doc:"role id"`
	action.Tenant
}

// deleteRole removes a role that nobody holds. Whoever grants it holds its row until the end of the transaction,
// so that the look for grants, which comes after the row was taken, sees all of them.
func (s *Service) deleteRole(ctx context.Context, c *action.Call, q *deleteRoleRequest) (*action.Empty, error) {
	c.AddResource(q.RoleID)
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := custom(ctx, tx, c.Company, q.RoleID)
		if err != nil {
			return err
		}
		if _, err := tx.NewDelete().Model(r).WherePK().Exec(ctx); err != nil {
			return err
		}
		held, err := tx.NewSelect().Model((*roleGrant)(nil)).Where("role_id = ?", r.ID).Count(ctx)
		if err != nil {
			return err
		}
		if held > 0 {
			return retcode.RoleInUse.Errorf("%d grants are of %s", held, r.ID)
		}
		_, err = tx.NewDelete().Model((*rolePermission)(nil)).Where("role_id = ?", r.ID).Exec(ctx)
		return err
	})
}

type listProductPermissionsResponse struct {
	Infos      []productPermission
	TotalCount int
}

func (s *Service) listProductPermissions(_ context.Context, _ *action.Call, _ *struct{}) (*listProductPermissionsResponse, error) {
	all := s.grouped(func(*permission) bool { return true })
	return &listProductPermissionsResponse{Infos: all, TotalCount: len(all)}, nil
}

type describePermissionResponse struct{ Info []mayInfo }

type mayInfo struct {
	Action     string
	Permission bool `doc:"the caller may use it, at least in some project group"`
}

func (s *Service) describePermission(ctx context.Context, c *action.Call, _ *struct{}) (*describePermissionResponse, error) {
	out := &describePermissionResponse{}
	for _, a := range s.table {
		may, err := s.may(ctx, c.Caller, a.Spec)
		if err != nil {
			return nil, err
		}
		out.Info = append(out.Info, mayInfo{a.Name, may})
	}
	return out, nil
}

type grantRoleRequest struct {
	MemberID   int64    `validate:"required" doc:"the sub-account"`
	RoleIDs    []string `validate:"required,max=50" doc:"role ids"`
	ProjectIDs []string `validate:"max=50" doc:"project group ids; none: the whole tenant"`
	// CompanyID is that of the account: an administrator needs not say it.
	action.Tenant
}

type grantRoleResponse struct {
	GrantIDs []string `doc:"one for each role and project group"`
}

func (s *Service) grantRole(ctx context.Context, c *action.Call, q *grantRoleRequest) (*grantRoleResponse, error) {
	out := &grantRoleResponse{}
	err := s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		a, err := holder(ctx, tx, c, q.MemberID)
		if err != nil {
			return err
		}
		out.GrantIDs, err = s.grantRoles(ctx, tx, a.Company, a.ID, q.RoleIDs, q.ProjectIDs)
		return err
	})
	c.AddResource(q.RoleIDs...)
	return out, err
}

type revokeRoleRequest struct {
	GrantIDs  []string `validate:"max=100" doc:"grant ids"`
	MemberID  int64    `doc:"the sub-account, when GrantIDs is not given"`
	RoleID    string   `doc:"with MemberID"`
	ProjectID string   `doc:"with MemberID; none: the whole tenant"`
	action.Tenant
}

func (s *Service) revokeRole(ctx context.Context, c *action.Call, q *revokeRoleRequest) (*action.Empty, error) {
	if len(q.GrantIDs) == 0 && (q.MemberID == 0 || q.RoleID == "") {
		return nil, retcode.MissingParameter.Errorf("send GrantIDs, or MemberID and RoleID")
	}
	c.AddResource(q.GrantIDs...)
	return nil, s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		var grants []roleGrant
		sel := tx.NewSelect().Model(&grants)
		if c.Company != 0 {
			sel = sel.Where("company = ?", c.Company)
		}
		if len(q.GrantIDs) > 0 {
			sel = sel.Where("id IN (?)", bun.In(q.GrantIDs))
		} else {
			a, err := holder(ctx, tx, c, q.MemberID)
			if err != nil {
				return err
			}
			if _, err := roleByID(ctx, tx, a.Company, q.RoleID); err != nil {
				return err
			}
			if q.ProjectID != "" {
				if _, err := projectByID(ctx, tx, action.Scope{Company: a.Company}, q.ProjectID); err != nil {
					return err
				}
			}
			sel = sel.Where("account = ? AND role_id = ? AND project = ?", a.ID, q.RoleID, q.ProjectID)
		}
		if err := sel.Scan(ctx); err != nil {
			return err
		}
		found := map[string]bool{}
		for _, g := range grants {
			if g.Account == c.Caller.Account {
				return retcode.ActionForbidden.Errorf("an account does not change its own roles")
			}
			found[g.ID] = true
		}
		for _, id := range q.GrantIDs {
			if !found[id] {
				return retcode.RoleGrantNotFound.Errorf("GrantIDs: %s", id)
			}
		}
		if len(grants) == 0 {
			return retcode.RoleGrantNotFound.Errorf("MemberID %d does not hold %s there", q.MemberID, q.RoleID)
		}
		_, err := tx.NewDelete().Model(&grants).WherePK().Exec(ctx)
		return err
	})
}

type listRoleGrantsRequest struct {
	MemberID  int64  `doc:"grants of an account"`
	RoleID    string `doc:"grants of a role"`
	ProjectID string `doc:"grants in a project group"`
	action.Tenant
	Offset int `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit  int `default:"20" validate:"min=1,max=100" doc:"page length"`
}

type listRoleGrantsResponse struct {
	Infos      []grantInfo
	TotalCount int
}

type grantInfo struct {
	GrantID     string `bun:"grant_id"`
	MemberID    int64  `bun:"member_id"`
	MemberName  string `bun:"member_name"`
	Email       string `bun:"email"`
	RoleID      string `bun:"role_id"`
	RoleName    string `bun:"role_name"`
	ProjectID   string `bun:"project_id" doc:"empty: the whole tenant"`
	ProjectName string `bun:"project_name"`
	CreateTime  int64  `bun:"create_time"`
}

func (s *Service) listRoleGrants(ctx context.Context, c *action.Call, q *listRoleGrantsRequest) (*listRoleGrantsResponse, error) {
	out := &listRoleGrantsResponse{}
	sel := s.DB.Reader().NewSelect().TableExpr("role_grant AS g").Join("JOIN account AS a ON a.id = g.account").
		Join("JOIN role AS r ON r.id = g.role_id").Join("LEFT JOIN project AS p ON p.id = g.project")
	if c.Company != 0 {
		sel = sel.Where("g.company = ?", c.Company)
	}
	if q.MemberID != 0 {
		sel = sel.Where("g.account = ?", q.MemberID)
	}
	for column, value := range map[string]string{"role_id": q.RoleID, "project": q.ProjectID} {
		if value != "" {
			sel = sel.Where("g.? = ?", bun.Ident(column), value)
		}
	}
	n, err := sel.Count(ctx)
	if out.TotalCount = int(n); err != nil || q.Offset >= out.TotalCount {
		return out, err
	}
	err = sel.ColumnExpr("g.id AS grant_id, g.account AS member_id, a.name AS member_name, a.email, g.role_id, r.name AS role_name").
		ColumnExpr("g.project AS project_id, coalesce(p.name, '') AS project_name, g.created_at / 1000000 AS create_time").
		OrderExpr("g.created_at DESC, g.id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).Scan(ctx, &out.Infos)
	return out, err
}
