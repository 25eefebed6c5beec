package catalog_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

func TestRegions(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 2, CPUs: 8, MemoryMiB: 16384, DiskGB: 100})
	for _, client := range []*controllertest.Client{c.Admin, c.Demo} {
		r := client.Must(t, "DescribeRegion", P{"Region": ""})
		if r.Int("TotalCount") != 1 || len(r.Infos()) != 1 || r.Infos()[0].String("Region") != "cn" {
			t.Fatalf("regions: %v", r.Body)
		}
		if client.Must(t, "DescribeRegion", P{"Limit": 0}).Int("TotalCount") != 1 || len(client.Must(t, "DescribeRegion", P{"Offset": 1}).Infos()) != 0 {
			t.Error("paging the regions")
		}
		for field, want := range map[string]int{"CPUCount": 16, "CPUAllocable": 16, "MemoryCap": 32768, "MemoryAllocable": 32768, "StorageCount": 200, "CPUUsed": 0} {
			if client == c.Demo {
				want = 0
			}
			if got := r.Infos()[0].Int(field); got != want {
				t.Errorf("%s sees %s %d, want %d", client.Email, field, got, want)
			}
		}
	}
	c.Demo.Refuse(t, retcode.InvalidParameter, "DescribeVPC", P{"Region": "moon"})
	c.Demo.Refuse(t, retcode.MissingRegion, "DescribeVPC", P{"Region": ""})
	// A region that was refused once is looked up again, and one that is known goes on being known.
	c.Demo.Refuse(t, retcode.InvalidParameter, "DescribeVPC", P{"Region": "moon"})
	c.Demo.Must(t, "DescribeVPC", nil)
}

func service(t *testing.T, db *database.DB, tenants ...int64) *catalog.Service {
	t.Helper()
	s := catalog.New(catalog.Deps{DB: db, Clock: clock.New()})
	err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		for _, tenant := range tenants {
			if err := s.Furnish(ctx, tx, tenant, "cn"); err != nil {
				return err
			}
		}
		return s.OfferVM(ctx, tx, "cn", "A")
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func used(t *testing.T, s *catalog.Service, tenant int64, f catalog.Factor) (used, allowed int64) {
	t.Helper()
	all, err := s.Usages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range all {
		if u.Company == tenant && u.Factor == f {
			return u.Used, u.Allowed
		}
	}
	t.Fatalf("tenant %d has no quota %s", tenant, f)
	return
}

func TestQuota(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := service(t, db, 1, 2)
		reserve := func(tenant int64, a catalog.Amounts) error {
			return db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return s.Reserve(ctx, tx, tenant, "cn", a) })
		}
		for f, want := range map[catalog.Factor]int64{catalog.VM: 50, catalog.CPU: 80, catalog.Memory: 80 * 1024, catalog.Disk: 50, catalog.DiskSpace: 20000,
			catalog.EIP: 10, catalog.SecurityGroup: 10, catalog.VPC: 10, catalog.Subnet: 100, catalog.NIC: 10, catalog.Image: 10} {
			if _, allowed := used(t, s, 1, f); allowed != want {
				t.Errorf("default of %s is %d, want %d", f, allowed, want)
			}
		}
		one := catalog.Amounts{catalog.VM: 1, catalog.CPU: 30, catalog.Memory: 2048, catalog.DiskSpace: 40, catalog.Disk: 0}
		for range 2 {
			if err := reserve(1, one); err != nil {
				t.Fatal(err)
			}
		}
		// The third is 10 cores too many: nothing of it is taken.
		err := reserve(1, one)
		if retcode.Of(err) != retcode.QuotaExceeded {
			t.Fatalf("beyond the quota: %v", err)
		}
		var e *retcode.Error
		if errors.As(err, &e); e.Detail() != "30 more CPU cores wanted, 60 of 80 used" {
			t.Errorf("detail: %s", e.Detail())
		}
		if n, _ := used(t, s, 1, catalog.VM); n != 2 {
			t.Errorf("a refused reservation left %d machines counted", n)
		}
		if n, _ := used(t, s, 2, catalog.VM); n != 0 {
			t.Errorf("another tenant's quota was taken: %d", n)
		}
		if err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return s.Release(ctx, tx, 1, "cn", one) }); err != nil {
			t.Fatal(err)
		}
		if err := reserve(1, one); err != nil {
			t.Errorf("after a release: %v", err)
		}
		if err := reserve(1, nil); err != nil {
			t.Errorf("nothing to reserve: %v", err)
		}
		if err := reserve(3, one); err == nil || retcode.Of(err) == retcode.QuotaExceeded {
			t.Errorf("a tenant that was never furnished: %v", err)
		}

		// An edited quota holds instead of the default, in both directions.
		if err := s.SetAllowance(t.Context(), 1, "cn", catalog.CPU, 59); retcode.Of(err) != retcode.QuotaBelowUsage {
			t.Errorf("below its use: %v", err)
		}
		if err := s.SetAllowance(t.Context(), 1, "cn", "NONSENSE", 59); retcode.Of(err) != retcode.QuotaNotFound {
			t.Errorf("an unknown factor: %v", err)
		}
		if err := s.SetAllowance(t.Context(), 1, "cn", catalog.CPU, 90); err != nil {
			t.Fatal(err)
		}
		if err := reserve(1, one); err != nil {
			t.Errorf("within the raised quota: %v", err)
		}
		if err := reserve(1, catalog.Amounts{catalog.CPU: 1}); retcode.Of(err) != retcode.QuotaExceeded {
			t.Errorf("beyond the raised quota: %v", err)
		}
	})
}

// TestQuotaUnderConcurrency: many take and give at once; never more than allowed is out, and in the
// end the row says what is out.
func TestQuotaUnderConcurrency(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := service(t, db, 1)
		if err := s.SetAllowance(t.Context(), 1, "cn", catalog.VM, 5); err != nil {
			t.Fatal(err)
		}
		one := catalog.Amounts{catalog.VM: 1, catalog.CPU: 2}
		var out, refused, taken atomic.Int64
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for i := range 15 {
					err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return s.Reserve(ctx, tx, 1, "cn", one) })
					switch {
					case retcode.Of(err) == retcode.QuotaExceeded:
						refused.Add(1)
						continue
					case err != nil:
						t.Error(err)
						return
					}
					taken.Add(1)
					if n := out.Add(1); n > 5 {
						t.Errorf("%d are out, 5 allowed", n)
					}
					if i%3 == 2 {
						continue // keeps it for a while
					}
					out.Add(-1)
					if err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return s.Release(ctx, tx, 1, "cn", one) }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if n, _ := used(t, s, 1, catalog.VM); n != out.Load() {
			t.Errorf("the quota counts %d, %d are out", n, out.Load())
		}
		if n, _ := used(t, s, 1, catalog.CPU); n != 2*out.Load() {
			t.Errorf("the quota counts %d cores, %d are out", n, 2*out.Load())
		}
		if refused.Load() == 0 || taken.Load() < 5 {
			t.Errorf("%d taken, %d refused: the test tested nothing", taken.Load(), refused.Load())
		}
	})
}

func TestSpecifications(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := service(t, db)
		ctx := t.Context()
		for _, pair := range [][2]int{{1, 1}, {1, 2}, {2, 4}, {64, 128}} {
			if err := s.CheckVMSpec(ctx, "cn", "A", pair[0], pair[1]*1024); err != nil {
				t.Errorf("%v: %v", pair, err)
			}
		}
		for _, c := range []struct {
			kind     string
			cpu, mib int
		}{{"A", 2, 1024}, {"A", 3, 4096}, {"A", 0, 0}, {"A", -1, 1024}, {"B", 1, 1024}} {
			if err := s.CheckVMSpec(ctx, "cn", c.kind, c.cpu, c.mib); retcode.Of(err) != retcode.VMSpecUnavailable {
				t.Errorf("%v: %v", c, err)
			}
		}
		ranges := map[string]struct {
			check    func(int) error
			min, max int
			code     retcode.Code
		}{
			"system disk": {func(n int) error { return s.CheckBootDiskSpec(ctx, "cn", "S", n) }, 40, 2048, retcode.DiskSpecOutOfRange},
			"data disk":   {func(n int) error { return s.CheckDiskSpec(ctx, "cn", "S", n) }, 10, 32000, retcode.DiskSpecOutOfRange},
			"bandwidth":   {func(n int) error { return s.CheckEIPSpec(ctx, "cn", "Bgp", n) }, 1, 10000, retcode.BandwidthOutOfRange},
		}
		for name, r := range ranges {
			for n, want := range map[int]retcode.Code{r.min - 1: r.code, r.min: 0, r.max: 0, r.max + 1: r.code, -5: r.code} {
				if got := retcode.Of(r.check(n)); got != want {
					t.Errorf("%s of %d: %d, want %d", name, n, got, want)
				}
			}
		}
		// A row narrows the range of its scope.
		if err := db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewRaw(`INSERT INTO range_spec (region, kind, scope, minimum, maximum, updated_at, generation) VALUES ('cn', 'EIP', 'Bgp', 5, 50, 0, 0)`).Exec(ctx)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for n, want := range map[int]retcode.Code{4: retcode.BandwidthOutOfRange, 5: 0, 50: 0, 51: retcode.BandwidthOutOfRange} {
			if got := retcode.Of(s.CheckEIPSpec(ctx, "cn", "Bgp", n)); got != want {
				t.Errorf("narrowed bandwidth %d: %d, want %d", n, got, want)
			}
		}
		if err := s.CheckEIPSpec(ctx, "cn", "Other", 60); err != nil {
			t.Errorf("another segment: %v", err)
		}
	})
}
