package identity

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) adminActions() []action.Action {
	spec := func(name, summary string, mutates, extension bool) action.Spec {
		return action.Spec{Name: name, Module: "account", Summary: summary, Region: action.RegionNone, Admin: true, System: true, Mutates: mutates,
			Extension: extension, Failure: retcode.InternalError}
	}
	return []action.Action{
		action.Define(spec("CreateAdmin", "Create a platform administrator.", true, false), s.createAdmin),
		action.Define(spec("DeleteAdmin", "Delete a platform administrator.", true, false), s.deleteAdmin),
		action.Define(spec("ListAdmin", "List platform administrators.", false, false), s.listAdmin),
		action.Define(spec("UpdateAdmin", "Change level and read-only flag of an administrator.", true, true), s.updateAdmin),
		action.Define(spec("UpdateAdminRegion", "Replace the regions of a region administrator.", true, true), s.updateAdminRegion),
	}
}

// Levels on the wire.
var (
	wireLevel = map[string]string{levelSystem: "System", levelRegion: "Region"}
	fromLevel = map[string]string{"System": levelSystem, "Region": levelRegion}
)

// OnRegions sets where the cloud's regions are listed.
func (s *Service) OnRegions(f func(ctx context.Context) ([]string, error)) { s.regions = f }

// checkRegions refuses regions that do not exist (113).
func (s *Service) checkRegions(ctx context.Context, wanted []string) error {
	all, err := s.regions(ctx)
	if err != nil {
		return err
	}
	for _, r := range wanted {
		if !slices.Contains(all, r) {
			return retcode.InvalidParameter.Errorf("region %q does not exist, DescribeRegion lists them", r)
		}
	}
	return nil
}

// setAdminRegions writes the regions of an administrator.
func setAdminRegions(ctx context.Context, tx bun.Tx, id int64, regions []string) error {
	if _, err := tx.NewRaw(`DELETE FROM account_region WHERE account = ?`, id).Exec(ctx); err != nil {
		return err
	}
	for _, r := range regions {
		if _, err := tx.NewRaw(`INSERT INTO account_region (account, region) VALUES (?, ?) ON CONFLICT (account, region) DO NOTHING`, id, r).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

type createAdminRequest struct {
	MemberEmail   string   `validate:"required" doc:"login name"`
	MemberName    string   `validate:"required,min=1,max=30" doc:"for people"`
	Password      string   `validate:"required,max=1024" doc:"by the configured rule"`
	GrantLevel    string   `validate:"required,oneof=System Region" doc:"of the platform, or of some regions"`
	Regions       []string `validate:"max=100" doc:"with GrantLevel Region: at least one"`
	RoleIDs       []string `validate:"max=50" doc:"roles of administrators; none: by level and ReadOnly"`
	ReadOnly      string   `loose:"true" doc:"1, Y, Yes, true: may look, and change its own account"`
	Phone         string   `doc:"telephone number"`
	ResetPassword string   `loose:"true" doc:"1, Y, Yes, true: to be changed at the first login"`
}

func (s *Service) createAdmin(ctx context.Context, c *action.Call, q *createAdminRequest) (*memberResponse, error) {
	name, err := personName(q.MemberName)
	if err != nil {
		return nil, err
	}
	if err := phone(q.Phone); err != nil {
		return nil, err
	}
	if q.GrantLevel == "Region" && len(q.Regions) == 0 {
		return nil, retcode.MissingParameter.Errorf("Regions is required with GrantLevel Region")
	}
	if err := s.checkRegions(ctx, q.Regions); err != nil {
		return nil, err
	}
	email, err := s.usable(ctx, q.MemberEmail)
	if err != nil {
		return nil, err
	}
	hash, err := s.newHash(ctx, q.Password)
	if err != nil {
		return nil, err
	}
	var id int64
	err = s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		a := &account{Company: AdminCompany, Name: name, Email: email, Kind: administrator, State: InUse, Level: fromLevel[q.GrantLevel],
			ReadOnly: affirmed(q.ReadOnly), Phone: q.Phone, Language: s.language(ctx, ""), PasswordHash: hash, MustChange: affirmed(q.ResetPassword)}
		if err := s.createAccount(ctx, tx, a); err != nil {
			return err
		}
		id = a.ID
		if a.Level == levelRegion {
			if err := setAdminRegions(ctx, tx, id, q.Regions); err != nil {
				return err
			}
		}
		return s.grant(ctx, tx, AdminCompany, id, q.RoleIDs, nil)
	})
	if err != nil {
		return nil, err
	}
	return &memberResponse{id}, nil
}

// changingAdmin runs a change of an administrator: 20004 when the account is none, 20012 with the caller's own when
// others is true.
func (s *Service) changingAdmin(ctx context.Context, c *action.Call, id int64, others bool, fn func(ctx context.Context, tx bun.Tx, a *account) error) (*action.Empty, error) {
	return s.changing(ctx, c, id, func(ctx context.Context, tx bun.Tx, a *account) error {
		switch {
		case a.Kind != administrator:
			return retcode.AccountNotFound.Errorf("MemberID %d is no administrator", id)
		case others && a.ID == c.Caller.Account:
			return retcode.CannotDeleteSelf.Errorf("nor take your own rights")
		}
		return fn(ctx, tx, a)
	})
}

func (s *Service) deleteAdmin(ctx context.Context, c *action.Call, q *memberRequest) (*action.Empty, error) {
	return s.changingAdmin(ctx, c, q.MemberID, true, s.remove)
}

type updateAdminRequest struct {
	MemberID   int64    `validate:"required" doc:"administrator"`
	GrantLevel string   `validate:"oneof=System Region" doc:"of the platform, or of its regions"`
	ReadOnly   *bool    `doc:"may look, and change its own account"`
	RoleIDs    []string `validate:"max=50" doc:"roles of administrators, in place of those it has"`
}

func (s *Service) updateAdmin(ctx context.Context, c *action.Call, q *updateAdminRequest) (*action.Empty, error) {
	if q.GrantLevel == "" && q.ReadOnly == nil && len(q.RoleIDs) == 0 {
		return nil, retcode.MissingParameter.Errorf("nothing to change: name GrantLevel, ReadOnly or RoleIDs")
	}
	return s.changingAdmin(ctx, c, q.MemberID, true, func(ctx context.Context, tx bun.Tx, a *account) error {
		if q.GrantLevel != "" {
			a.Level = fromLevel[q.GrantLevel]
		}
		if q.ReadOnly != nil {
			a.ReadOnly = *q.ReadOnly
		}
		if err := s.set(ctx, tx, a, "level = ?, read_only = ?", a.Level, a.ReadOnly); err != nil {
			return err
		}
		if len(q.RoleIDs) == 0 {
			return nil
		}
		if err := revokeAll(ctx, tx, a.ID); err != nil {
			return err
		}
		return s.grant(ctx, tx, AdminCompany, a.ID, q.RoleIDs, nil)
	})
}

type updateAdminRegionRequest struct {
	MemberID int64    `validate:"required" doc:"administrator"`
	Regions  []string `validate:"required,min=1,max=100" doc:"all of its regions"`
}

func (s *Service) updateAdminRegion(ctx context.Context, c *action.Call, q *updateAdminRegionRequest) (*action.Empty, error) {
	if err := s.checkRegions(ctx, q.Regions); err != nil {
		return nil, err
	}
	return s.changingAdmin(ctx, c, q.MemberID, false, func(ctx context.Context, tx bun.Tx, a *account) error {
		if a.Level != levelRegion {
			return retcode.InvalidAccountState.Errorf("administrator %d is of the whole platform", a.ID)
		}
		return setAdminRegions(ctx, tx, a.ID, q.Regions)
	})
}

type listAdminRequest struct {
	Keyword string `doc:"part of name, e-mail or id"`
	action.Page
}

type adminInfo struct {
	MemberID    int64
	MemberName  string
	MemberEmail string
	Phone       string
	GrantLevel  string   `doc:"System, Region"`
	Privilege   string   `doc:"SystemAdmin, RegionAdmin"`
	Regions     []string `doc:"of a region administrator"`
	ReadOnly    bool
	Status      string `doc:"Available, Freeze"`
	CreateTime  int64  `doc:"unix seconds"`
	UpdateTime  int64  `doc:"unix seconds"`
}

type listAdminResponse struct {
	Infos      []adminInfo
	TotalCount int
}

func (s *Service) listAdmin(ctx context.Context, c *action.Call, q *listAdminRequest) (*listAdminResponse, error) {
	var rows []account
	db := s.DB.Reader()
	total, err := filterAccounts{Kinds: []string{administrator}, Keyword: q.Keyword}.apply(db.NewSelect().Model(&rows)).
		Order("id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).ScanAndCount(ctx)
	if err != nil {
		return nil, err
	}
	r := &listAdminResponse{TotalCount: int(total)}
	if q.Limit == 0 {
		return r, nil
	}
	for _, a := range rows {
		i := adminInfo{MemberID: a.ID, MemberName: a.Name, MemberEmail: a.Email, Phone: a.Phone, GrantLevel: wireLevel[a.Level], Privilege: wireLevel[a.Level] + "Admin",
			ReadOnly: a.ReadOnly, Status: "Available", CreateTime: a.CreatedAt / 1e6, UpdateTime: a.UpdatedAt / 1e6}
		if a.State == Frozen {
			i.Status = "Freeze"
		}
		if a.Level == levelRegion {
			if i.Regions, err = adminRegions(ctx, db, a.ID); err != nil {
				return nil, err
			}
		}
		r.Infos = append(r.Infos, i)
	}
	return r, nil
}
