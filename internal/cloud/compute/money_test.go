package compute_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestResizeBeyondMeans: a machine does not become what its tenant cannot pay for, has no quota for, or whose time is over.
func TestResizeBeyondMeans(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		k, err := w.Identity.CreateTenant(context.Background(), identity.NewTenant{Name: "poor", Email: "poor@example.com", Region: catalog.DefaultRegion})
		if err != nil {
			t.Fatal(err)
		}
		w = describe(t, w.Cloud, &client{URL: w.URL, Company: k.Company, Account: k.Account, Email: k.Email, PublicKey: k.PublicKey, PrivateKey: k.PrivateKey})
		pay := func(yuan int) {
			w.Admin.Must(t, "Recharge", p{"CompanyID": k.Company, "Amount": yuan, "FromType": "INPOUR_FROM_OFFLINE", "SerialNo": fmt.Sprint("bank-", yuan)})
		}
		pay(200)
		id := w.create(t, p{"ChargeType": "Month", "AutoRenew": false})
		w.stop(t, id)
		larger := p{"VMID": id, "CPU": 4, "Memory": 8192}
		have := func() string {
			return fmt.Sprint(w.size(t, id), " ", w.vm(t, id).String("State"), " ", w.usage(t), w.Admin.Must(t, "GetWithdrawableAmount", p{"CompanyID": k.Company}).String("Amount"))
		}
		refuse := func(code retcode.Code) {
			t.Helper()
			before := have()
			w.demo.Refuse(t, code, "ResizeVMConfig", larger)
			if after := have(); after != before {
				t.Errorf("a resize was refused with %d and left\n%s\nbefore it was\n%s", code, after, before)
			}
			if problems, err := controller.Doctor(context.Background(), w.DB); err != nil || len(problems) > 0 {
				t.Errorf("doctor: %v %v", problems, err)
			}
		}
		refuse(retcode.InsufficientBalance)
		pay(5000)
		quota := func(cores int) {
			w.Admin.Must(t, "SetAccountQuota", p{"CompanyID": k.Company, "ResourceType": "VM", "FactorType": "FACTOR_CPU", "Quota": cores})
		}
		quota(3)
		refuse(retcode.QuotaExceeded)
		quota(4)
		w.Clock.Advance(32 * 24 * time.Hour)
		refuse(retcode.ResourceExpired)
		// It was for want of these alone.
		w.demo.Must(t, "RenewResource", p{"ResourceID": id})
		w.demo.Must(t, "ResizeVMConfig", larger)
		controllertest.Eventually(t, settle, "the machine is larger", func() bool { return w.size(t, id) == "4 8192" })
	})
}
