package approval_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/workflow/workflowtest"
)

// TestGenericWorkflowTests: what the request did stays when the application fails after it, as if its owner had sent
// it; so much is asked for then, that quota and addresses agree.
func TestGenericWorkflowTests(t *testing.T) {
	failed := func(t *testing.T, _, after any) {
		t.Helper()
		text := fmt.Sprint(after)
		if !strings.Contains(text, "application Failed") {
			t.Errorf("the application has not failed: %s", text)
		}
		if !strings.Contains(text, "addresses 0 0") && !strings.Contains(text, "addresses 1 1") {
			t.Errorf("addresses and quota disagree: %s", text)
		}
	}
	workflowtest.Run(t, workflowtest.Case{Workflow: "approval.execute", Failed: failed, New: func(t *testing.T) *workflowtest.World {
		c := controllertest.Start(t, controllertest.Options{Hosts: 1})
		tenant := c.NewTenant(t)
		c.Admin.Must(t, "UpdateCompanyAudit", P{"CompanyID": tenant.Company, "Audit": true, "AutoAudit": false})
		id := tenant.Must(t, "AllocateEIP", with(eip, P{"ApplicationName": "generic"})).String("ApplicationID")
		return &workflowtest.World{Engine: c.Engine, DB: c.DB, Start: func(t *testing.T) { decide(t, c.Admin, id, "Approved") },
			Snapshot: func(t *testing.T) any {
				t.Helper()
				var used int
				if err := c.DB.Reader().NewRaw(`SELECT used FROM quota WHERE company = ? AND factor = 'EIP'`, tenant.Company).Scan(context.Background(), &used); err != nil {
					t.Fatal(err)
				}
				return []any{"application " + get(t, tenant, id).String("State"), fmt.Sprintf("addresses %d %d", count(t, tenant, "DescribeEIP"), used)}
			}}
	}})
}
