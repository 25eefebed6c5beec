package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// project is a row of project groups. They say which of a tenant's accounts may touch a resource; they isolate nothing.
type project struct {
	bun.BaseModel `bun:"table:project"`

	ID         string `bun:"id,pk"`
	Company    int64  `bun:"company"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	IsDefault  bool   `bun:"is_default"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// maxProjects of one tenant.
const maxProjects = 200

// DefaultProject is the id of the group that takes what a create of the tenant names no group for. It
// follows from the tenant's id, so that nobody needs to look it up.
func DefaultProject(company int64) string { return fmt.Sprintf("project-%014d", company) }

// Project is the group into which a call creates: the given one, or the tenant's default group when none is
// given. Call it in the transaction that creates, so that the group cannot go meanwhile. 651 unknown or
// another tenant's, 114 not one that the caller may use, 3 when the caller is bound to groups and names none.
func Project(ctx context.Context, idb bun.IDB, c *action.Call, given string) (string, error) {
	if given == "" {
		if c.Projects != nil {
			return "", retcode.MissingParameter.Errorf("ProjectID is required: the account may use some project groups only")
		}
		return DefaultProject(c.Owner()), nil
	}
	if _, err := projectByID(ctx, idb, action.Scope{Company: c.Owner()}, given); err != nil {
		return "", err
	}
	if c.Projects != nil && !slices.Contains(c.Projects, given) {
		return "", retcode.ActionForbidden.Errorf("%s is not granted in %s", c.Action, given)
	}
	return given, nil
}

// Within narrows a call on something that exists to the project group that it names, if any: 651 unknown, or
// none of the caller's. What is not in the group is then not found.
func Within(ctx context.Context, idb bun.IDB, c *action.Call, given string) error {
	if given == "" {
		return nil
	}
	if _, err := projectByID(ctx, idb, c.Scope(), given); err != nil {
		return err
	}
	c.Projects = []string{given}
	return nil
}

// projectByID reads a group of a scope: 651 when unknown or out of it. In a transaction the group stays
// until its end.
func projectByID(ctx context.Context, idb bun.IDB, s action.Scope, id string) (*project, error) {
	p := new(project)
	q := idb.NewSelect().Model(p).Where("id = ?", id)
	if s.Company != 0 {
		q = q.Where("company = ?", s.Company)
	}
	if s.Projects != nil {
		q = q.Where("id IN (?)", bun.In(s.Projects))
	}
	if database.InTransaction(ctx) && idb.Dialect().Name() == dialect.PG { // SQLite's writer is alone
		q = q.For("SHARE")
	}
	err := q.Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = retcode.ProjectNotFound.Errorf("ProjectID %s", id)
	}
	return p, err
}

// ProjectNames returns the names of groups by id; unknown ids are left out. Names are cached for a few seconds.
func (s *Service) ProjectNames(ctx context.Context, ids []string) (map[string]string, error) {
	names := make(map[string]string, len(ids))
	var missing []string
	for _, id := range ids {
		if p, ok := s.projects.Get(id); ok && time.Since(p.read) < believed {
			names[id] = p.name
		} else if id != "" && !slices.Contains(missing, id) {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return names, nil
	}
	var rows []project
	if err := s.DB.Reader().NewSelect().Model(&rows).Column("id", "name").Where("id IN (?)", bun.In(missing)).Scan(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	for _, p := range rows {
		names[p.ID] = p.Name
		s.projects.Add(p.ID, cachedProject{p.Name, now})
	}
	return names, nil
}

type cachedProject struct {
	name string
	read time.Time
}

// furnishProject gives a new tenant its default group.
func (s *Service) furnishProject(ctx context.Context, tx bun.Tx, company int64) error {
	now := s.Clock.Micros()
	_, err := tx.NewInsert().Model(&project{ID: DefaultProject(company), Company: company, Name: "default", IsDefault: true, CreatedAt: now, UpdatedAt: now}).Exec(ctx)
	return err
}

// Limits of names and remarks, in characters.
const (
	maxName   = 50
	maxRemark = 100
)

// checkName trims the name of a role or group and refuses what is not 1 to 50 printable characters (113).
func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if n := utf8.RuneCountInString(name); n < 1 || n > maxName || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", retcode.InvalidParameter.Errorf("Name has 1 to %d printable characters", maxName)
	}
	return name, nil
}

// checkRemark refuses remarks of more than 100 characters (113).
func checkRemark(remark string) error {
	if !utf8.ValidString(remark) || utf8.RuneCountInString(remark) > maxRemark {
		return retcode.InvalidParameter.Errorf("Remark has at most %d characters", maxRemark)
	}
	return nil
}
