package identity

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// role is a row of roles. The permissions of a custom one are in role_permission, those of a built-in one follow
// from the table of actions.
type role struct {
	bun.BaseModel `bun:"table:role"`

	ID         string `bun:"id,pk"`
	Company    int64  `bun:"company"` // 0: built in
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

type rolePermission struct {
	bun.BaseModel `bun:"table:role_permission"`

	Role   string `bun:"role_id,pk"`
	Action string `bun:"action,pk"`
}

// The built-in roles.
const (
	AdministratorRole = "role-00000000000001" // everything in the tenant
	ReadOnlyRole      = "role-00000000000002" // all that only looks
)

// maxRoles of one tenant.
const maxRoles = 200

// What a permission lets its holder do.
const (
	view   = "View"
	add    = "Add"
	edit   = "Edit"
	remove = "Delete"
)

// permission is an action that roles may list.
type permission struct {
	action.Spec
	product *product
	verb    string
}

// Know tells identity the table of actions: what roles may list comes from it. Call it before the first request.
func (s *Service) Know(actions []action.Action) {
	s.table = actions
	s.permissions = map[string]*permission{}
	for _, a := range actions {
		if p := productOf(a.Module); p == nil {
			panic("identity: action " + a.Name + " is of the module " + a.Module + ", which no product has")
		} else if !a.Admin && !a.Anonymous && !a.Personal {
			s.permissions[a.Name] = &permission{a.Spec, p, verb(a.Spec)}
		}
	}
}

// verb sorts an action by what it does. One that changes nothing and yet does not say that it only looks, such as
// one that opens a console, is no view.
func verb(s action.Spec) string {
	begins := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(s.Name, w) })
	}
	switch {
	case !s.Mutates && begins("Describe", "List", "Get", "Check", "Query", "Count"):
		return view
	case begins("Create", "Allocate", "Add", "Clone", "Copy", "Import", "Upload", "Register"):
		return add
	case begins("Delete", "Release", "Remove", "Terminate"):
		return remove
	}
	return edit
}

// lists tells whether a built-in role lists an action.
func (p *permission) builtin(role string) bool {
	return role == AdministratorRole || role == ReadOnlyRole && p.verb == view
}

// ordered are the permissions as people read them: by product, verb and name.
func (s *Service) ordered() []*permission {
	all := make([]*permission, 0, len(s.permissions))
	for _, p := range s.permissions {
		all = append(all, p)
	}
	place := func(p *permission) int {
		return slices.IndexFunc(products, func(o product) bool { return o.Type == p.product.Type })
	}
	verbs := []string{view, add, edit, remove}
	slices.SortFunc(all, func(a, b *permission) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(slices.Index(verbs, a.verb), slices.Index(verbs, b.verb)), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// roleByID reads a role that a scope may use: 650 when unknown or another tenant's. In a transaction it stays
// until its end.
func roleByID(ctx context.Context, idb bun.IDB, company int64, id string) (*role, error) {
	r := new(role)
	q := idb.NewSelect().Model(r).Where("id = ?", id)
	if company != 0 {
		q = q.Where("company IN (0, ?)", company)
	}
	if database.InTransaction(ctx) && idb.Dialect().Name() == dialect.PG {
		q = q.For("SHARE")
	}
	err := q.Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = retcode.RoleNotFound.Errorf("RoleID %s", id)
	}
	return r, err
}

// custom is roleByID for a change: a built-in role refuses (114).
func custom(ctx context.Context, tx bun.Tx, company int64, id string) (*role, error) {
	r, err := roleByID(ctx, tx, company, id)
	if err == nil && r.Company == 0 {
		err = retcode.ActionForbidden.Errorf("%s is built in", r.Name)
	}
	return r, err
}

// parsePermissions reads pairs Action-1 or Action-0, comma separated, into the allowed actions: 4 for what is no
// pair, 113 for what no role may list.
func (s *Service) parsePermissions(text string) ([]string, error) {
	allowed := map[string]bool{}
	for pair := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(",;| \n", r) }) {
		name, flag, ok := strings.Cut(pair, "-")
		if !ok || flag != "0" && flag != "1" {
			return nil, retcode.InvalidParameterFormat.Errorf("Permission lists pairs Action-1 or Action-0, comma separated")
		}
		if s.permissions[name] == nil {
			return nil, retcode.InvalidParameter.Errorf("no role can list %s, see ListProductPermissions", name)
		}
		allowed[name] = flag == "1"
	}
	out := []string{}
	for name, yes := range allowed {
		if yes {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}
