package compute_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/compute"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestDescribe: filters, order, pages, and what is not a filter's value.
func TestDescribe(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		var ids []string
		for i, name := range []string{"beta", "alpha", "gamma"} {
			more := p{"Name": name, "InitialState": "Running"}
			if i == 2 {
				more["InitialState"], more["OperatorName"] = "Stopped", w.segment
			}
			id := w.demo.Must(t, "CreateVMInstance", w.ask(more)).String("VMID")
			state := fmt.Sprint(more["InitialState"])
			w.await(t, id, state)
			ids = append(ids, id)
		}
		last := w.vm(t, ids[2])
		for field, list := range map[string]string{"RegionAlias": "DescribeRegion", "VMTypeAlias": "DescribeVMType"} {
			if want := w.demo.Must(t, list, nil).Infos()[0].String(field); last.String(field) != want {
				t.Errorf("%s is %q, want %q", field, last.String(field), want)
			}
		}
		inner, outer := last.List("IPInfos")[0].String("IP"), last.List("IPInfos")[1].String("IP")
		names := func(q p) (all string, total int) {
			r := w.demo.Must(t, "DescribeVMInstance", q)
			for _, i := range r.Infos() {
				all += i.String("Name") + " "
			}
			return all, r.Int("TotalCount")
		}
		for _, c := range []struct {
			q     p
			want  string
			total int
		}{
			{p{}, "gamma alpha beta ", 3},
			{p{"Sort": "Ascending"}, "beta alpha gamma ", 3},
			{p{"SortBy": "Name", "Sort": "Ascending"}, "alpha beta gamma ", 3},
			{p{"SortBy": "Name", "Sort": "descending", "Limit": 1, "Offset": 1}, "beta ", 3},
			{p{"Limit": 2}, "gamma alpha ", 3},
			{p{"Limit": 2, "Offset": 2}, "beta ", 3},
			{p{"Offset": 9}, "", 3},
			{p{"Limit": 0}, "", 3},
			{p{"Keyword": "ALPH"}, "alpha ", 1},
			{p{"Keyword": "%"}, "", 0},
			{p{"Keyword": ids[1][3:10]}, "alpha ", 1},
			{p{"States": []string{"Stopped", "Failed"}}, "gamma ", 1},
			{p{"States": []string{"Migrating"}}, "", 0},
			{p{"VMIDs": []string{ids[0], ids[1]}, "Limit": 1}, "alpha ", 2},
			{p{"IPs": []string{inner}}, "gamma ", 1},
			{p{"IPs": []string{outer}}, "gamma ", 1},
			{p{"SGID": w.defaultGroup}, "gamma alpha beta ", 3},
			{p{"SGID": "sg-none"}, "", 0},
			{p{"VPCID": w.vpc, "SubnetID": w.subnet, "ImageID": w.image, "VMTypes": []string{w.vmType}}, "gamma alpha beta ", 3},
			{p{"VPCID": "vpc-none"}, "", 0},
			{p{"IGID": "ig-none"}, "", 0},
			{p{"ProjectIDs": []string{"project-none"}}, "", 0},
			{p{"TagKeyValuePairs": []string{"YQ==:Yg=="}}, "", 0},
		} {
			if got, total := names(c.q); got != c.want || total != c.total {
				t.Errorf("%v: %q of %d, want %q of %d", c.q, got, total, c.want, c.total)
			}
		}
		for _, q := range []p{{"SortBy": "CPU"}, {"Sort": "up"}, {"States": []string{"Sleeping"}}, {"Limit": 101}, {"Offset": -1}} {
			w.demo.Refuse(t, retcode.InvalidParameter, "DescribeVMInstance", q)
		}
		w.demo.Refuse(t, retcode.InvalidParameterFormat, "DescribeVMInstance", p{"IPs": []string{"here"}})
		w.demo.Refuse(t, retcode.AdminOnly, "DescribeVMInstance", p{"HostID": w.Simulator.IDs()[0]})
		w.demo.Refuse(t, retcode.InvalidParameter, "DescribeImage", p{"Statuses": []string{"Sleeping"}})

		other := w.NewTenant(t)
		if n := other.Must(t, "DescribeVMInstance", p{"VMIDs": ids}).Int("TotalCount"); n != 0 {
			t.Errorf("another tenant sees %d", n)
		}
		on := 0
		for _, h := range w.Simulator.IDs() {
			on += w.Admin.Must(t, "DescribeVMInstance", p{"HostID": h}).Int("TotalCount")
		}
		if all := w.Admin.Must(t, "DescribeVMInstance", p{}).Int("TotalCount"); on != 3 || all != 3 {
			t.Errorf("the administrator sees %d on hosts and %d in all", on, all)
		}
		if n := w.Admin.Must(t, "DescribeVMInstance", p{"CompanyID": w.demo.Company}).Int("TotalCount"); n != 3 {
			t.Errorf("the administrator sees %d of the tenant", n)
		}

		// That a machine changes its host, tenants see as InstanceStatusCheck says, administrators always.
		if _, err := w.DB.Writer().Exec(`UPDATE vm SET state = 'Migrating' WHERE id = '` + ids[1] + `'`); err != nil {
			t.Fatal(err)
		}
		sees := func(by *controllertest.Client, want string) {
			t.Helper()
			for _, state := range []string{"Running", "Migrating"} {
				found := by.Must(t, "DescribeVMInstance", p{"VMIDs": []string{ids[1]}, "States": []string{state}}).Infos()
				if (len(found) == 1) != (state == want) || len(found) == 1 && found[0].String("State") != want {
					t.Errorf("asked for %s: %v, want it as %s", state, found, want)
				}
			}
		}
		sees(w.demo, "Running")
		sees(w.Admin, "Migrating")
		w.Admin.Must(t, "UpdateRegionConfig", p{"ConfigKey": "InstanceStatusCheck", "ConfigValue": "true"})
		sees(w.demo, "Migrating")
	})
}

// BenchmarkPage is a page of 100 among 100,000 machines, as rows are read and described, without the wire.
func BenchmarkPage(b *testing.B) {
	c := controllertest.Start(b, controllertest.Options{})
	ctx := context.Background()
	company := identity.AdminCompany + 1
	now := time.Now().UnixMicro()
	const all, batch = 100_000, 1000
	for from := 0; from < all; from += batch {
		var vms []compute.VM
		var disks []block.Disk
		for i := from; i < from+batch; i++ {
			id := fmt.Sprintf("vm-%014d", i)
			vms = append(vms, compute.VM{ID: id, UUID: id, Region: "cn", Company: company, Name: fmt.Sprintf("host-%d", i), State: compute.Running,
				Listed: true, CPUs: 1, MemoryMiB: 1024, CreatedAt: now + int64(i), Generation: 1})
			disks = append(disks, block.Disk{ID: fmt.Sprintf("disk-%014d", i), Region: "cn", Company: company, Role: block.Boot,
				State: block.Bound, VMID: id, Target: "vda", SizeGB: 40, Generation: 1})
		}
		if err := c.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			if _, err := tx.NewInsert().Model(&vms).Exec(ctx); err != nil {
				return err
			}
			if _, err := tx.NewInsert().Model(&disks).Exec(ctx); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO vm_count (company, region, n) VALUES (?, 'cn', ?) ON CONFLICT (company, region) DO UPDATE SET n = vm_count.n + excluded.n", company, batch)
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
	for name, q := range map[string]controllertest.P{
		"newest":  {"Limit": 100},
		"by-name": {"Limit": 100, "SortBy": "Name", "Sort": "Ascending"},
		"one":     {"VMIDs": []string{fmt.Sprintf("vm-%014d", all/2)}},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if r := c.Demo.Call(b, "DescribeVMInstance", q); r.Code != 0 || len(r.Infos()) == 0 {
					b.Fatal(r)
				}
			}
		})
	}
}
