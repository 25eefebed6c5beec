// Package resource is the directory of what tenants own: for an id of any
// product, which kind it is, whose it is and what it is called. Rooms add their
// kinds; whatever is the same for all kinds (names, project groups, tags, what a
// tenant still has) is written once, on their rows.
package resource

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Kind is one type of resource. Its table has the columns id, region, company, project, name and created_at.
type Kind struct {
	Name    string // ResourceType on the wire: VM, Disk, EIP
	Prefix  string // of ids, with the hyphen
	Service string // of the service catalogue
	Table   string
	// Exists is an SQL condition on the rows that a tenant has, also those in the recycle bin: neither destroyed
	// nor a leftover of a failed creation. Binned is one on those in the bin; empty: the kind does not go there.
	Exists, Binned string
	// Given is an SQL condition on rows that every tenant is furnished with; empty: none.
	Given string
	// Remark: the table has a column remark.
	Remark bool
	// Platform: resources of administrators; the table has neither company nor project.
	Platform bool
	// Parts are rows of other tables that share the project group of their resource.
	Parts []Part
	// NotFound is the kind's own code; 0 means ResourceNotFound (200).
	NotFound retcode.Code
	// CheckName is how names are checked; nil: Name.
	CheckName func(string) (string, error)
	// Frozen is an SQL condition on rows whose tags must not change; empty: none.
	Frozen string
}

// Part is a table whose rows belong to a resource: Column holds the resource's id. Where is an SQL condition on
// those that do; empty: all.
type Part struct{ Table, Column, Where string }

// Item is what all kinds have in common.
type Item struct {
	ID      string `bun:"id"`
	Region  string `bun:"region"`
	Company int64  `bun:"company"`
	Project string `bun:"project"`
	Name    string `bun:"name"`
	Binned  bool   `bun:"binned"`
	Frozen  bool   `bun:"frozen"`
	Kind    string `bun:"-"`
}

// Directory knows the kinds. Add them before the first call.
type Directory struct {
	kinds []Kind
	// Charges is asked before a resource is renamed or moved, and told of it; nil: nothing costs money.
	Charges Charges
}

// Charges is what the directory asks of ledger.Service.
type Charges interface {
	// Check refuses changes of resources whose paid time is over (206).
	Check(ctx context.Context, idb bun.IDB, ids ...string) error
	// Note keeps a name and a project group as orders shall show them.
	Note(ctx context.Context, tx bun.Tx, id, name, project string) error
}

// Add makes kinds known. It panics on a kind that cannot be told from another: a mistake in the program.
func (d *Directory) Add(kinds ...Kind) {
	for _, k := range kinds {
		if k.Name == "" || !strings.HasSuffix(k.Prefix, "-") || k.Table == "" || k.Exists == "" {
			panic("resource: kind " + k.Name + " is incomplete")
		}
		if slices.ContainsFunc(d.kinds, func(o Kind) bool { return o.Name == k.Name || o.Prefix == k.Prefix }) {
			panic("resource: kind " + k.Name + " is there already")
		}
		d.kinds = append(d.kinds, k)
	}
}

// Kinds in the order in which they were added.
func (d *Directory) Kinds() []Kind { return slices.Clone(d.kinds) }

// Named finds a kind by its ResourceType: 207 when there is none.
func (d *Directory) Named(name string) (Kind, error) {
	for _, k := range d.kinds {
		if k.Name == name {
			return k, nil
		}
	}
	return Kind{}, retcode.InvalidResourceType.Errorf("ResourceType %s", name)
}

// Of finds the kind of an id: 200 when there is none.
func (d *Directory) Of(id string) (Kind, error) {
	for _, k := range d.kinds {
		if strings.HasPrefix(id, k.Prefix) {
			return k, nil
		}
	}
	return Kind{}, retcode.ResourceNotFound.Errorf("%s", id)
}

// from selects the rows of a kind in a scope.
func (k *Kind) from(idb bun.IDB, s action.Scope) *bun.SelectQuery {
	binned, frozen := "FALSE", "FALSE"
	if k.Binned != "" {
		binned = k.Binned
	}
	if k.Frozen != "" {
		frozen = k.Frozen
	}
	q := idb.NewSelect().TableExpr("?", bun.Ident(k.Table)).ColumnExpr("id, region, name")
	q = q.ColumnExpr("CASE WHEN " + binned + " THEN TRUE ELSE FALSE END AS binned").ColumnExpr("CASE WHEN " + frozen + " THEN TRUE ELSE FALSE END AS frozen")
	if k.Platform {
		q = q.ColumnExpr("0 AS company, '' AS project")
		if s.Company != 0 { // no tenant has one
			q = q.Where("FALSE")
		}
		s = action.Scope{Region: s.Region}
	} else {
		q = q.ColumnExpr("company, project")
	}
	return identity.Own(q.Where(k.Exists), s)
}

func (k *Kind) missing(id string) error {
	if k.NotFound != 0 {
		return k.NotFound.Errorf("%s", id)
	}
	return retcode.ResourceNotFound.Errorf("%s", id)
}

// Find reads a resource of a scope by its id alone; the kind's own code, or 200, when there is none.
func (d *Directory) Find(ctx context.Context, idb bun.IDB, s action.Scope, id string) (*Item, error) {
	k, err := d.Of(id)
	if err != nil {
		return nil, err
	}
	item := &Item{Kind: k.Name}
	err = k.from(idb, s).Where("id = ?", id).Scan(ctx, item)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, k.missing(id)
	}
	return item, err
}

// Filter of List; zero values do not narrow.
type Filter struct {
	IDs     []string
	Keyword string // part of name or id
	Binned  bool   // also those in the recycle bin
}

// List reads a page of one kind in a scope, the oldest first, and how many there are. A negative limit reads all.
func (d *Directory) List(ctx context.Context, idb bun.IDB, s action.Scope, kind string, f Filter, offset, limit int) ([]Item, int, error) {
	k, err := d.Named(kind)
	if err != nil {
		return nil, 0, err
	}
	q := k.from(idb, s)
	if len(f.IDs) > 0 {
		q = q.Where("id IN (?)", bun.In(f.IDs))
	}
	q = database.Matching(q, f.Keyword, "name", "id")
	if !f.Binned && k.Binned != "" {
		q = q.Where("NOT (" + k.Binned + ")")
	}
	n, err := q.Count(ctx)
	if err != nil || limit == 0 {
		return nil, int(n), err
	}
	if limit > 0 {
		q = q.Limit(int64(limit)).Offset(int64(offset))
	}
	var items []Item
	if err := q.OrderExpr("created_at, id").Scan(ctx, &items); err != nil {
		return nil, 0, err
	}
	for i := range items {
		items[i].Kind = k.Name
	}
	return items, int(n), nil
}

// Count tells how many resources of each kind there are in a scope, also in the bin; kinds without any are left out.
func (d *Directory) Count(ctx context.Context, idb bun.IDB, s action.Scope) (map[string]int, error) {
	counts := map[string]int{}
	for _, k := range d.kinds {
		if k.Platform {
			continue
		}
		n, err := k.from(idb, s).Count(ctx)
		if err != nil {
			return nil, fmt.Errorf("counting %s: %w", k.Name, err)
		}
		if n > 0 {
			counts[k.Name] = int(n)
		}
	}
	return counts, nil
}

// Holders tells how many resources of a service's kinds tenants have in a region, also in the bin, beside what every
// tenant is furnished with.
func (d *Directory) Holders(ctx context.Context, idb bun.IDB, region, service string) (map[int64]int, error) {
	held := map[int64]int{}
	for _, k := range d.kinds {
		if k.Service != service || k.Platform {
			continue
		}
		q := idb.NewSelect().TableExpr("?", bun.Ident(k.Table)).ColumnExpr("company, count(*) AS n").
			Where(k.Exists).Where("region = ? AND company <> 0", region).Group("company")
		if k.Given != "" {
			q = q.Where("NOT (" + k.Given + ")")
		}
		var rows []struct {
			Company int64 `bun:"company"`
			N       int   `bun:"n"`
		}
		if err := q.Scan(ctx, &rows); err != nil {
			return nil, fmt.Errorf("counting %s: %w", k.Name, err)
		}
		for _, r := range rows {
			held[r.Company] += r.N
		}
	}
	return held, nil
}

// Each calls f for every kind, in the order in which they were added.
func (d *Directory) Each(f func(service, kind string)) {
	for _, k := range d.kinds {
		f(k.Service, k.Name)
	}
}

// Move puts a resource with its parts into a project group; the caller has checked the group.
func (d *Directory) Move(ctx context.Context, tx bun.Tx, s action.Scope, id, project string) error {
	item, err := d.Find(ctx, tx, s, id)
	if err != nil {
		return err
	}
	k, err := d.Of(id)
	if err != nil {
		return err
	}
	if err := d.Editable(ctx, tx, id); err != nil {
		return err
	}
	for _, p := range append([]Part{{Table: k.Table, Column: "id"}}, k.Parts...) {
		q := tx.NewUpdate().TableExpr("?", bun.Ident(p.Table)).Set("project = ?", project).Where("? = ?", bun.Ident(p.Column), item.ID)
		if p.Where != "" {
			q = q.Where(p.Where)
		}
		if _, err := q.Exec(ctx); err != nil {
			return err
		}
	}
	return d.note(ctx, tx, id, item.Name, project)
}

// Editable refuses a resource whose paid time is over (206).
func (d *Directory) Editable(ctx context.Context, tx bun.Tx, id string) error {
	if d.Charges == nil {
		return nil
	}
	return d.Charges.Check(ctx, tx, id)
}

func (d *Directory) note(ctx context.Context, tx bun.Tx, id, name, project string) error {
	if d.Charges == nil {
		return nil
	}
	return d.Charges.Note(ctx, tx, id, name, project)
}

// Rename gives a resource a name and, when remark is not nil, a remark. 113 for a name or a remark that the kind does
// not take, 206 when it has expired.
func (d *Directory) Rename(ctx context.Context, tx bun.Tx, s action.Scope, id, name string, remark *string) error {
	k, err := d.Of(id)
	if err != nil {
		return err
	}
	item, err := d.Find(ctx, tx, s, id)
	if err != nil {
		return err
	}
	if err := d.Editable(ctx, tx, id); err != nil {
		return err
	}
	check := k.CheckName
	if check == nil {
		check = Name
	}
	if name, err = check(name); err != nil {
		return err
	}
	q := tx.NewUpdate().TableExpr("?", bun.Ident(k.Table)).Set("name = ?", name).Where("id = ?", id)
	if remark != nil && k.Remark {
		text, err := Remark(*remark)
		if err != nil {
			return err
		}
		q = q.Set("remark = ?", text)
	}
	if _, err = q.Exec(ctx); database.IsUnique(err) {
		return retcode.InvalidParameter.Errorf("Name: another resource is called %s", name)
	} else if err != nil {
		return err
	}
	return d.note(ctx, tx, id, name, item.Project)
}
