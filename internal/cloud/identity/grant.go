package identity

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// roleGrant gives an account a role in a project group, or in the whole tenant.
type roleGrant struct {
	bun.BaseModel `bun:"table:role_grant"`

	ID        string `bun:"id,pk"`
	Company   int64  `bun:"company"`
	Account   int64  `bun:"account"`
	Role      string `bun:"role_id"`
	Project   string `bun:"project"` // empty: the whole tenant
	CreatedAt int64  `bun:"created_at"`
}

// grant is grantRoles for who needs no ids.
func (s *Service) grant(ctx context.Context, tx bun.Tx, company, account int64, roles, projects []string) error {
	_, err := s.grantRoles(ctx, tx, company, account, roles, projects)
	return err
}

// grantRoles gives an account of a tenant roles in project groups, in the whole tenant when none is named, and returns
// the grants' ids, one for each role and group. What is granted already stays as it is. 650, 651.
func (s *Service) grantRoles(ctx context.Context, tx bun.Tx, company, account int64, roles, projects []string) ([]string, error) {
	if len(projects) == 0 {
		projects = []string{""}
	}
	for _, r := range roles {
		if _, err := roleByID(ctx, tx, company, r); err != nil {
			return nil, err
		}
	}
	for _, p := range projects { // also of an account that gets no role yet
		if p == "" {
			continue
		}
		if _, err := projectByID(ctx, tx, action.Scope{Company: company}, p); err != nil {
			return nil, err
		}
	}
	var ids []string
	for _, r := range roles {
		for _, p := range projects {
			g := &roleGrant{ID: database.NewID("grant"), Company: company, Account: account, Role: r, Project: p, CreatedAt: s.Clock.Micros()}
			if _, err := tx.NewInsert().Model(g).On("CONFLICT (account, role_id, project) DO NOTHING").Exec(ctx); err != nil {
				return nil, err
			}
			if err := tx.NewSelect().Model(g).Where("account = ? AND role_id = ? AND project = ?", account, r, p).Scan(ctx); err != nil {
				return nil, err
			}
			ids = append(ids, g.ID)
		}
	}
	return ids, nil
}

// revokeAll takes all roles from an account that goes.
func revokeAll(ctx context.Context, tx bun.Tx, account int64) error {
	_, err := tx.NewDelete().Model((*roleGrant)(nil)).Where("account = ?", account).Exec(ctx)
	return err
}

// holder reads a sub-account of a tenant for a change of its roles: 20004 when it is none, 113 for an account that
// needs no roles, 114 for the caller's own.
func holder(ctx context.Context, idb bun.IDB, c *action.Call, id int64) (*account, error) {
	a := new(account)
	q := idb.NewSelect().Model(a).Where("id = ?", id)
	if c.Company != 0 {
		q = q.Where("company = ?", c.Company)
	}
	err := q.Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, retcode.AccountNotFound.Errorf("MemberID %d", id)
	case err != nil:
		return nil, err
	case a.Kind != sub:
		return nil, retcode.InvalidParameter.Errorf("MemberID %d is no sub-account, which alone has roles", id)
	case a.ID == c.Caller.Account:
		return nil, retcode.ActionForbidden.Errorf("an account does not change its own roles")
	}
	return a, nil
}
