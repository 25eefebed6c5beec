package permit

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// maxListed bounds how many tenants one permission lists.
const maxListed = 1000

// Actions of permissions.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "UpdateResourcePermission", Module: "cluster", Admin: true, Mutates: true,
			Summary: "Choose which tenants may use a set, base image or segment."}, s.updatePermission),
		action.Define(action.Spec{Name: "DescribeResourceUsers", Module: "cluster", Admin: true,
			Summary: "List the tenants that use a set, base image or segment."}, s.describeUsers),
	}
}

type updatePermissionRequest struct {
	ResourceID     string `validate:"required" doc:"resource id"`
	ResourceType   string `validate:"required,oneof=COMPUTE_SET STORAGE_SET BASE_IMAGE SEGMENT DC FLATNETWORK" doc:"kind of the resource; data centres and flat networks have no permissions here (207)"`
	PermissionMode string `default:"all" validate:"oneof=all whitelist blacklist" doc:"all tenants, those listed, or all but those listed"`
	Permission     string `doc:"tenant ids, comma separated"`
}

func (s *Service) updatePermission(ctx context.Context, c *action.Call, q *updatePermissionRequest) (*action.Empty, error) {
	c.AddResource(q.ResourceID)
	k, err := s.kind(q.ResourceType)
	if err != nil {
		return nil, err
	}
	p, err := s.Parse(ctx, q.PermissionMode, q.Permission)
	if err != nil {
		return nil, err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := k.Check(ctx, tx, c.Region, q.ResourceID); err != nil {
			return err
		}
		return s.Set(ctx, tx, k.Name, q.ResourceID, p)
	})
	return &action.Empty{}, err
}

func (s *Service) kind(name string) (Kind, error) {
	k, ok := s.kinds[name]
	if !ok {
		return k, retcode.InvalidResourceType.Errorf("ResourceType %s has no permissions", name)
	}
	return k, nil
}

// Parse reads a mode with its list: 4 no number, 113 a list with mode all or too long, 27001 no such tenant.
func (s *Service) Parse(ctx context.Context, mode, list string) (Permission, error) {
	p := Permission{Mode: mode}
	for _, text := range strings.Split(list, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		company, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return p, retcode.InvalidParameterFormat.Errorf("Permission: %q is no tenant id", text)
		}
		p.Tenants = append(p.Tenants, company)
	}
	slices.Sort(p.Tenants)
	p.Tenants = slices.Compact(p.Tenants)
	switch {
	case mode == All && len(p.Tenants) > 0:
		return p, retcode.InvalidParameter.Errorf("Permission goes with PermissionMode whitelist or blacklist")
	case len(p.Tenants) > maxListed:
		return p, retcode.InvalidParameter.Errorf("Permission lists at most %d tenants", maxListed)
	}
	for _, company := range p.Tenants {
		if _, err := s.Identity.Tenant(ctx, company); err != nil {
			return p, err
		}
	}
	return p, nil
}

type describeUsersRequest struct {
	ResourceID   string `validate:"required" doc:"resource id"`
	ResourceType string `validate:"required" doc:"kind of the resource"`
}

type describeUsersResponse struct {
	Infos      []int64 `doc:"tenant ids"`
	TotalCount int
}

func (s *Service) describeUsers(ctx context.Context, c *action.Call, q *describeUsersRequest) (*describeUsersResponse, error) {
	k, err := s.kind(q.ResourceType)
	if err != nil {
		return nil, err
	}
	if err := k.Check(ctx, s.DB.Reader(), c.Region, q.ResourceID); err != nil {
		return nil, err
	}
	users, err := k.Users(ctx, s.DB.Reader(), q.ResourceID)
	return &describeUsersResponse{Infos: users, TotalCount: len(users)}, err
}
