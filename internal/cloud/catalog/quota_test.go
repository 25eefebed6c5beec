package catalog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestQuotasAreEdited(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db})
		other := c.NewTenant(t)
		quota := func(client *controllertest.Client, p P) controllertest.Info {
			t.Helper()
			q := P{"ProductTypes": []string{"EIP"}}
			for k, v := range p {
				q[k] = v
			}
			infos := client.Must(t, "DescribeQuota", q).Infos()
			if len(infos) != 1 {
				t.Fatalf("quotas: %v", infos)
			}
			return infos[0]
		}
		usage := func(client *controllertest.Client, p P) (quota, used int) {
			t.Helper()
			for _, i := range client.Must(t, "DescribeQuotaUsage", p).Infos() {
				if i.String("ResourceType") == "EIP" {
					return i.Int("Quota"), i.Int("Usage")
				}
			}
			t.Fatal("no quota of EIPs")
			return
		}
		all := c.Demo.Must(t, "DescribeQuota", P{"Limit": 100})
		if n := all.Int("TotalCount"); n < 27 || len(all.Infos()) != n || all.Infos()[0].String("ResourceType") != "VM" || all.Infos()[2].Int("Quota") != 80 || all.Infos()[2].String("Unit") != "GB" {
			t.Errorf("a tenant's quotas: %v", all.Body)
		}
		if i := quota(c.Demo, nil); i.Int("Quota") != 10 || i.String("Status") != "Default" || i.Int("CompanyID") != int(c.Demo.Company) {
			t.Errorf("by default: %v", i)
		}
		if n := c.Admin.Must(t, "DescribeQuota", P{"ProductTypes": []string{"EIP"}}).Int("TotalCount"); n != 3 {
			t.Errorf("an administrator sees %d tenants' quotas", n)
		}
		c.Demo.Refuse(t, retcode.AdminOnly, "DescribeQuota", P{"IsDefault": true})

		set := func(company int64, n any) P {
			return P{"CompanyID": company, "ResourceType": "EIP", "FactorType": "FACTOR_AMOUNT", "Quota": n}
		}
		eips := func(n int) P {
			return P{"Name": "e", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp", "Count": n}
		}
		c.Demo.Refuse(t, retcode.AdminOnly, "SetAccountQuota", set(c.Demo.Company, 12))
		c.Demo.Must(t, "AllocateEIP", eips(4))
		c.Demo.Refuse(t, retcode.QuotaExceeded, "AllocateEIP", eips(7))
		if q, u := usage(c.Demo, nil); q != 10 || u != 4 {
			t.Errorf("usage %d of %d", u, q)
		}
		if q, u := usage(c.Admin, P{"Region": ""}); q != 20 || u != 4 { // of both tenants together
			t.Errorf("usage of all %d of %d", u, q)
		}
		// A tenant's own value: not below its use, and then the default does not matter.
		c.Admin.Refuse(t, retcode.QuotaBelowUsage, "SetAccountQuota", set(c.Demo.Company, 3))
		c.Admin.Must(t, "SetAccountQuota", set(c.Demo.Company, 5))
		c.Demo.Refuse(t, retcode.QuotaExceeded, "AllocateEIP", eips(2))
		c.Admin.Must(t, "SetAccountQuota", set(0, 2))
		if i := quota(c.Demo, nil); i.Int("Quota") != 5 || i.String("Status") != "Custom" || i.Int("UpdateTime") == 0 {
			t.Errorf("its own: %v", i)
		}
		// The default holds for the others at once.
		other.Must(t, "AllocateEIP", eips(2))
		other.Refuse(t, retcode.QuotaExceeded, "AllocateEIP", eips(1))
		if i := quota(c.Admin, P{"IsDefault": true}); i.Int("Quota") != 2 || i.Int("CompanyID") != 0 {
			t.Errorf("the default: %v", i)
		}
		// It may go below what is used, which only keeps the tenant from taking more; going back to it may not.
		c.Admin.Must(t, "SetAccountQuota", set(0, 1))
		other.Refuse(t, retcode.QuotaExceeded, "AllocateEIP", eips(1))
		reset := P{"CompanyID": c.Demo.Company, "ResourceType": "EIP", "FactorType": "FACTOR_AMOUNT"}
		c.Admin.Refuse(t, retcode.QuotaBelowUsage, "ResetAccountQuota", reset)
		c.Admin.Must(t, "SetAccountQuota", set(0, 7))
		c.Admin.Must(t, "ResetAccountQuota", reset)
		if i := quota(c.Demo, nil); i.Int("Quota") != 7 || i.String("Status") != "Default" {
			t.Errorf("after a reset: %v", i)
		}
		// Memory is counted in MiB and spoken of in GB.
		c.Admin.Must(t, "SetAccountQuota", P{"CompanyID": c.Demo.Company, "ResourceType": "VM", "FactorType": "FACTOR_MEMORY", "Quota": 3})
		if _, allowed := used(t, c.Catalog, c.Demo.Company, catalog.Memory); allowed != 3072 {
			t.Errorf("3 GB are %d MiB", allowed)
		}
		for _, name := range []string{"SetAccountQuota", "ResetAccountQuota"} {
			c.Admin.Refuse(t, retcode.QuotaNotFound, name, P{"CompanyID": c.Demo.Company, "ResourceType": "EIP", "FactorType": "FACTOR_CPU", "Quota": 3})
			c.Admin.Refuse(t, retcode.TenantNotFound, name, P{"CompanyID": 7, "ResourceType": "EIP", "FactorType": "FACTOR_AMOUNT", "Quota": 3})
		}
	})
}

// quotaCall is an operation on one quota.
type quotaCall struct {
	kind   string // reserve, release, allow
	amount int64
}

// quotaModel is a quota as it should be: nothing beyond what is allowed, no allowance below what is used.
var quotaModel = porcupine.Model{
	Init: func() any { return [2]int64{0, 10} }, // used, allowed
	Step: func(state, input, output any) (bool, any) {
		s, in, refused := state.([2]int64), input.(quotaCall), output.(bool)
		switch in.kind {
		case "reserve":
			if fits := s[0]+in.amount <= s[1]; fits == refused {
				return false, s
			}
			if !refused {
				s[0] += in.amount
			}
		case "release":
			s[0] -= in.amount
		case "allow":
			if fits := s[0] <= in.amount; fits == refused {
				return false, s
			}
			if !refused {
				s[1] = in.amount
			}
		}
		return true, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v refused=%v", input, output) },
}

// TestQuotaIsLinearizable: reservations, releases and edits at once look as if they had come one after the other.
func TestQuotaIsLinearizable(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := service(t, db, 1)
		var mu sync.Mutex
		var history []porcupine.Operation
		start := time.Now()
		do := func(client int, in quotaCall) bool {
			began := time.Since(start).Nanoseconds()
			var err error
			amounts := catalog.Amounts{catalog.EIP: in.amount}
			switch in.kind {
			case "reserve":
				err = db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return s.Reserve(ctx, tx, 1, "cn", amounts) })
			case "release":
				err = db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error { return s.Release(ctx, tx, 1, "cn", amounts) })
			case "allow":
				err = s.SetAllowance(t.Context(), 1, "cn", catalog.EIP, in.amount)
			}
			code := retcode.Of(err)
			if err != nil && code != retcode.QuotaExceeded && code != retcode.QuotaBelowUsage {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: began, Output: err != nil, Return: time.Since(start).Nanoseconds()})
			return err == nil
		}
		var group sync.WaitGroup
		for client := range 6 {
			group.Go(func() {
				r := rand.New(rand.NewPCG(uint64(client), 1))
				held := int64(0)
				for range 30 {
					switch n := r.IntN(10); {
					case n == 0:
						do(client, quotaCall{"allow", 6 + r.Int64N(6)})
					case n < 6 || held == 0:
						if amount := 1 + r.Int64N(3); do(client, quotaCall{"reserve", amount}) {
							held += amount
						}
					default:
						do(client, quotaCall{"release", held})
						held = 0
					}
				}
			})
		}
		group.Wait()
		refused := 0
		for _, o := range history {
			if o.Output.(bool) {
				refused++
			}
		}
		if len(history) > 200 || refused == 0 || refused == len(history) {
			t.Fatalf("%d operations, %d refused", len(history), refused)
		}
		if result := porcupine.CheckOperationsTimeout(quotaModel, history, 30*time.Second); result != porcupine.Ok {
			t.Errorf("the history is %s", result)
		}
	})
}
