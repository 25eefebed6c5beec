// Package permit says which tenants may use what the platform offers: compute and storage sets, base images,
// external segments. A resource is for everybody until an administrator lists who may (whitelist) or who may
// not (blacklist). What a tenant has there when it loses the permission stays.
package permit

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

// Kinds of resources, as ResourceType spells them.
const (
	ComputeSet = "COMPUTE_SET"
	StorageSet = "STORAGE_SET"
	BaseImage  = "BASE_IMAGE"
	Segment    = "SEGMENT"
)

// Modes of a permission.
const (
	All       = "all"
	Whitelist = "whitelist"
	Blacklist = "blacklist"
)

// Kind is what a room tells of its resources.
type Kind struct {
	Name string // ResourceType
	// Check answers the room's own code when there is no such resource in the region.
	Check func(ctx context.Context, idb bun.IDB, region, id string) error
	// Users lists the tenants that have something there, ascending.
	Users func(ctx context.Context, idb bun.IDB, id string) ([]int64, error)
}

// Tenants is what permissions ask of identity.Service.
type Tenants interface {
	Tenant(ctx context.Context, company int64) (*identity.Tenant, error)
}

// Deps of the service.
type Deps struct {
	DB       *database.DB
	Clock    *clock.Clock
	Identity Tenants
}

// Service changes permissions. Asking for one needs no service: see Narrow and Allowed.
type Service struct {
	Deps
	kinds map[string]Kind
}

// New prepares the service.
func New(d Deps) *Service { return &Service{Deps: d, kinds: make(map[string]Kind)} }

// Register adds kinds of resources. Call it before the first request.
func (s *Service) Register(kinds ...Kind) {
	for _, k := range kinds {
		s.kinds[k.Name] = k
	}
}

// Permission is who may use a resource.
type Permission struct {
	Mode    string
	Tenants []int64 // listed, ascending
}

// Narrow leaves out of a query what a tenant may not use. column holds the resources' ids; company 0, an
// administrator who named no tenant, sees all.
func Narrow(q *bun.SelectQuery, kind, column string, company int64) *bun.SelectQuery {
	if company == 0 {
		return q
	}
	const listed = `EXISTS (SELECT 1 FROM permission_tenant AS pt WHERE pt.kind = pm.kind AND pt.resource_id = pm.resource_id AND pt.company = ?2)`
	return q.Where(`NOT EXISTS (SELECT 1 FROM permission AS pm WHERE pm.kind = ?0 AND pm.resource_id = ?1 AND
		(pm.mode = 'whitelist' AND NOT `+listed+` OR pm.mode = 'blacklist' AND `+listed+`))`, kind, bun.Ident(column), company)
}

// Allowed tells whether a tenant may use a resource.
func Allowed(ctx context.Context, idb bun.IDB, kind, id string, company int64) (bool, error) {
	rows, err := database.Select[struct{ ID string }](ctx, idb, Narrow(idb.NewSelect().ColumnExpr("id").TableExpr("(SELECT CAST(? AS TEXT) AS id) AS wanted", id), kind, "wanted.id", company))
	return len(rows) > 0, err
}

// Of reads permissions of resources by id, in two queries. Those for everybody are there, too.
func Of(ctx context.Context, idb bun.IDB, kind string, ids ...string) (map[string]Permission, error) {
	out := make(map[string]Permission, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	for _, id := range ids {
		out[id] = Permission{Mode: All}
	}
	var modes []struct{ ResourceID, Mode string }
	if err := idb.NewSelect().TableExpr("permission").Column("resource_id", "mode").Where("kind = ? AND resource_id IN (?)", kind, bun.In(ids)).
		Scan(ctx, &modes); err != nil || len(modes) == 0 {
		return out, err
	}
	for _, m := range modes {
		out[m.ResourceID] = Permission{Mode: m.Mode}
	}
	var listed []struct {
		ResourceID string
		Company    int64
	}
	err := idb.NewSelect().TableExpr("permission_tenant").Column("resource_id", "company").Where("kind = ? AND resource_id IN (?)", kind, bun.In(ids)).
		Order("company").Scan(ctx, &listed)
	for _, l := range listed {
		p := out[l.ResourceID]
		p.Tenants = append(p.Tenants, l.Company)
		out[l.ResourceID] = p
	}
	return out, err
}

// Set replaces the permission of a resource. Mode All takes no tenants.
func (s *Service) Set(ctx context.Context, tx bun.Tx, kind, id string, p Permission) error {
	if err := Forget(ctx, tx, kind, id); err != nil || p.Mode == All || p.Mode == "" {
		return err
	}
	if _, err := tx.NewRaw("INSERT INTO permission (kind, resource_id, mode, updated_at) VALUES (?, ?, ?, ?)", kind, id, p.Mode, s.Clock.Micros()).Exec(ctx); err != nil {
		return err
	}
	for _, company := range p.Tenants {
		if _, err := tx.NewRaw("INSERT INTO permission_tenant (kind, resource_id, company) VALUES (?, ?, ?)", kind, id, company).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Forget deletes the permission of a resource that is no more.
func Forget(ctx context.Context, tx bun.Tx, kind, id string) error {
	for _, table := range []string{"permission_tenant", "permission"} {
		if _, err := tx.NewRaw("DELETE FROM ? WHERE kind = ? AND resource_id = ?", bun.Ident(table), kind, id).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}
