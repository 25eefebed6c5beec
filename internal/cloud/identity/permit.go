package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// reach is what an account's grants allow: actions, with the project groups in which they do; nil: in the whole tenant.
type reach map[string][]string

type cachedReach struct {
	reach
	read time.Time
}

// Permit is action.Options.Permit for accounts: it refuses (114) what the tenant's services or the caller's roles do
// not grant, and says in Call.Projects where the caller may do it. Main accounts may do everything in their
// tenant; what administrators may do is in the table of actions itself.
func (s *Service) Permit(ctx context.Context, c *action.Call, spec action.Spec) error {
	if c.Caller.Admin || spec.Personal {
		return nil
	}
	if err := s.checkService(ctx, c, spec); err != nil {
		return err
	}
	if !c.Caller.Sub {
		return nil
	}
	r, err := s.reachOf(ctx, c.Caller.Account)
	if err != nil {
		return err
	}
	groups, granted := r[spec.Name]
	if !granted || groups != nil && wide(spec) {
		return retcode.ActionForbidden.Errorf("no role grants you %s", spec.Name)
	}
	c.Projects = groups
	return nil
}

// wide tells whether an action concerns the tenant as a whole, so that a grant for some of its project groups does
// not cover it.
func wide(s action.Spec) bool {
	switch s.Module {
	case "config":
		return s.Mutates
	case "account", "tenant", "approval", "license":
		return !slices.Contains([]string{"ListProjects", "GetProject", "MoveProjectResource", "DescribeProduct", "ListProductResources", "DescribeApplication",
			"DescribeApplicationNode"}, s.Name)
	case "billing":
		return !strings.HasSuffix(s.Name, "Price") && !strings.Contains(s.Name, "Renew")
	case "common":
		return strings.Contains(s.Name, "OPLog")
	}
	return false
}

// reachOf returns what the grants of an account allow. It is in the way of every request of a sub-account: known
// ones are cached for a few seconds, and forgotten when a role or a grant changes.
func (s *Service) reachOf(ctx context.Context, account int64) (reach, error) {
	since := s.changes.Load()
	if r, ok := s.reaches.Get(account); ok && time.Since(r.read) < believed {
		return r.reach, nil
	}
	var rows []struct {
		Project string `bun:"project"`
		Role    string `bun:"role_id"`
		Action  string `bun:"action"`
	}
	if err := s.DB.Reader().NewSelect().TableExpr("role_grant AS g").Join("LEFT JOIN role_permission AS p ON p.role_id = g.role_id").
		ColumnExpr("g.project, g.role_id, coalesce(p.action, '') AS action").Where("g.account = ?", account).Scan(ctx, &rows); err != nil {
		return nil, err
	}
	out := reach{}
	allow := func(name, project string) {
		groups, known := out[name]
		switch {
		case project == "":
			out[name] = nil
		case known && groups == nil || slices.Contains(groups, project):
		default:
			out[name] = append(groups, project)
		}
	}
	for _, row := range rows {
		if row.Role != AdministratorRole && row.Role != ReadOnlyRole {
			if s.permissions[row.Action] != nil { // an action of another release is none here
				allow(row.Action, row.Project)
			}
			continue
		}
		for name, p := range s.permissions {
			if p.builtin(row.Role) {
				allow(name, row.Project)
			}
		}
	}
	if s.changes.Load() == since {
		s.reaches.Add(account, cachedReach{out, time.Now()})
	}
	return out, nil
}

// may tells whether a caller may do an action at all, somewhere in its tenant.
func (s *Service) may(ctx context.Context, caller action.Caller, spec action.Spec) (bool, error) {
	c := &action.Call{Action: spec.Name, Caller: caller}
	switch {
	case spec.Admin && !caller.Admin, spec.System && caller.OfRegions(), spec.Mutates && caller.ReadOnly && !spec.Personal:
		return false, nil
	case spec.Anonymous:
		return true, nil
	}
	err := s.Permit(ctx, c, spec)
	if retcode.Of(err) == retcode.ActionForbidden {
		return false, nil
	}
	return err == nil, err
}
