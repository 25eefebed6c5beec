package resource_test

import (
	"context"
	"strings"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

// TestDirectory: one description a kind is enough to find, list, count, move and rename what is in its table.
func TestDirectory(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		other := c.NewTenant(t)
		eip := c.Demo.Must(t, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "front_door"}).String("EIPID")
		ctx, d, r := t.Context(), c.Directory, db.Reader()
		mine := action.Scope{Region: "cn", Company: c.Demo.Company}

		item, err := d.Find(ctx, r, mine, eip)
		if err != nil || item.Kind != "EIP" || item.Name != "front_door" || item.Binned || item.Company != c.Demo.Company {
			t.Fatalf("found %+v, %v", item, err)
		}
		for what, f := range map[string]struct {
			scope action.Scope
			id    string
			code  retcode.Code
		}{
			"another tenant's":  {action.Scope{Company: other.Company}, eip, retcode.ResourceNotFound},
			"another project's": {action.Scope{Projects: []string{"project-x"}}, eip, retcode.ResourceNotFound},
			"no project at all": {action.Scope{Projects: []string{}}, eip, retcode.ResourceNotFound},
			"an unknown one":    {mine, "vm-nothing", retcode.VMNotFound},
			"an unknown kind":   {mine, "ghost-1", retcode.ResourceNotFound},
		} {
			if _, err := d.Find(ctx, r, f.scope, f.id); retcode.Of(err) != f.code {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := d.Named("Ghost"); retcode.Of(err) != retcode.InvalidResourceType {
			t.Errorf("an unknown type: %v", err)
		}

		list := func(f resource.Filter) int {
			t.Helper()
			items, n, err := d.List(ctx, r, mine, "EIP", f, 0, 20)
			if err != nil || n != len(items) {
				t.Fatalf("%d of %d, %v", len(items), n, err)
			}
			return n
		}
		for what, f := range map[string]struct {
			filter resource.Filter
			want   int
		}{
			"all": {resource.Filter{}, 1}, "by keyword": {resource.Filter{Keyword: "FRONT_"}, 1}, "wildcards are letters": {resource.Filter{Keyword: "front%"}, 0},
			"by id": {resource.Filter{IDs: []string{eip}}, 1}, "by another id": {resource.Filter{IDs: []string{"eip-x"}}, 0},
		} {
			if n := list(f.filter); n != f.want {
				t.Errorf("%s: %d", what, n)
			}
		}

		change := func(f func(ctx context.Context, tx bun.Tx) error) error { return db.Transact(ctx, f) }
		if err := change(func(ctx context.Context, tx bun.Tx) error { return d.Move(ctx, tx, mine, eip, "project-x") }); err != nil {
			t.Fatal(err)
		}
		if item, err := d.Find(ctx, r, action.Scope{Projects: []string{"project-x"}}, eip); err != nil || item.Project != "project-x" {
			t.Errorf("after the move: %+v, %v", item, err)
		}
		remark := "the way in"
		if err := change(func(ctx context.Context, tx bun.Tx) error { return d.Rename(ctx, tx, mine, eip, " door ", &remark) }); err != nil {
			t.Fatal(err)
		}
		if i := c.Demo.Must(t, "DescribeEIP", nil).Infos()[0]; i.String("Name") != "door" || i.String("Remark") != remark {
			t.Errorf("after the renaming: %v", i)
		}
		for _, name := range []string{"", "  ", "a\tb", strings.Repeat("x", 64)} {
			err := change(func(ctx context.Context, tx bun.Tx) error { return d.Rename(ctx, tx, mine, eip, name, nil) })
			if retcode.Of(err) != retcode.InvalidParameter {
				t.Errorf("the name %q: %v", name, err)
			}
		}

		counts, err := d.Count(ctx, r, mine)
		if err != nil || counts["EIP"] != 1 || counts["VPC"] != 1 || counts["VM"] != 0 {
			t.Errorf("counts %v, %v", counts, err)
		}
		c.Demo.Must(t, "ReleaseEIP", P{"EIPID": eip})
		controllertest.Eventually(t, 5e9, "the address is in the bin", func() bool {
			item, err := d.Find(ctx, r, mine, eip)
			return err == nil && item.Binned
		})
		if n := list(resource.Filter{}); n != 0 {
			t.Errorf("%d listed beside the bin", n)
		}
		if n := list(resource.Filter{Binned: true}); n != 1 {
			t.Errorf("%d listed with the bin", n)
		}
	})
}
