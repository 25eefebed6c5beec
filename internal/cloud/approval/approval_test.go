package approval_test

import (
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

type P = controllertest.P

func with(p P, more P) P {
	q := maps.Clone(p)
	maps.Copy(q, more)
	return q
}

var eip = P{"Name": "e", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp"}

// machine is what makes the smallest machine right.
func machine(t *testing.T, c *controllertest.Client) P {
	t.Helper()
	first := func(name, field string) string { return c.Must(t, name, nil).Infos()[0].String(field) }
	return P{"Name": "web", "Password": "Hidden-98765", "ChargeType": "Dynamic", "CPU": 1, "Memory": 1024, "VMType": first("DescribeVMType", "VMType"),
		"BootDiskSetType": first("DescribeStorageType", "StorageType"), "ImageID": first("DescribeImage", "ImageID"), "VPCID": first("DescribeVPC", "VPCID"),
		"SubnetID": first("DescribeSubnet", "SubnetID"), "WANSGID": first("DescribeSecurityGroup", "SGID")}
}

// get reads an application with its steps.
func get(t *testing.T, c *controllertest.Client, id string) controllertest.Info {
	t.Helper()
	return c.Must(t, "DescribeApplication", P{"ApplicationID": id}).Infos()[0]
}

// decide answers the step whose turn it is.
func decide(t *testing.T, by *controllertest.Client, id, decision string) {
	t.Helper()
	for _, n := range get(t, by, id).List("Nodes") {
		if n.String("NodeState") == "Pending" {
			by.Must(t, "UpdateApplicationNode", P{"ApplicationID": id, "NodeID": n.String("NodeID"), "NodeState": decision, "Remark": "so be it"})
			return
		}
	}
	t.Fatalf("%s has no step that waits", id)
}

// ended waits for an application's end.
func ended(t *testing.T, c *controllertest.Client, id, state string) controllertest.Info {
	t.Helper()
	controllertest.Eventually(t, time.Minute, id+" has ended", func() bool {
		s := get(t, c, id).String("State")
		return s == "Success" || s == "Failed" || s == "Rejected"
	})
	a := get(t, c, id)
	if a.String("State") != state {
		t.Fatalf("%s is %s, want %s: %v", id, a.String("State"), state, a)
	}
	return a
}

func count(t *testing.T, c *controllertest.Client, name string) int {
	t.Helper()
	return c.Must(t, name, nil).Int("TotalCount")
}

func TestAnApplicationIsExecutedAfterItsApproval(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db})
		tenant, other := c.NewTenant(t), c.NewTenant(t)
		vm := machine(t, tenant)
		c.Admin.Must(t, "UpdateCompanyAudit", P{"CompanyID": tenant.Company, "Audit": true, "AutoAudit": false})
		c.Admin.Refuse(t, retcode.TenantNotFound, "UpdateCompanyAudit", P{"CompanyID": 4711, "Audit": true, "AutoAudit": false})
		tenant.Refuse(t, retcode.AdminOnly, "UpdateCompanyAudit", P{"CompanyID": tenant.Company, "Audit": false, "AutoAudit": false})

		// Without a title there is no application; what the wire refuses comes first.
		tenant.Refuse(t, retcode.MissingApplicationName, "CreateVMInstance", vm)
		tenant.Refuse(t, retcode.MissingApplicationName, "AllocateEIP", eip)
		tenant.Refuse(t, retcode.MissingParameter, "AllocateEIP", P{"ApplicationName": "x"})
		other.Must(t, "AllocateEIP", eip)
		c.Admin.Must(t, "AllocateEIP", with(eip, P{"CompanyID": tenant.Company}))

		r := tenant.Must(t, "CreateVMInstance", with(vm, P{"ApplicationName": "new shop", "ApplicationReason": "christmas"}))
		id := r.String("ApplicationID")
		if id == "" || r.String("VMID") != "" {
			t.Fatalf("the answer is %v", r.Body)
		}
		a := get(t, tenant, id)
		if price, err := strconv.ParseFloat(a.String("Price"), 64); err != nil || price <= 0 {
			t.Errorf("the price is %s, %v", a.String("Price"), err)
		}
		if a.String("State") != "Pending" || a.String("Name") != "new shop" || a.String("Reason") != "christmas" || a.String("APIName") != "CreateVMInstance" ||
			a.String("ResourceType") != "VM" || a.String("ApplicantEmail") != tenant.Email || a.String("CurrentNode") == "" || len(a.List("Nodes")) != 1 {
			t.Errorf("the application is %v", a)
		}
		if text := a.String("Request"); strings.Contains(text, "Hidden-98765") || !strings.Contains(text, `"Name":"web"`) {
			t.Errorf("the shown request is %s", text)
		}
		var stored string
		if err := db.Reader().NewRaw(`SELECT request FROM application WHERE id = ?`, id).Scan(t.Context(), &stored); err != nil || strings.Contains(stored, "Hidden") {
			t.Errorf("the kept request holds a password in the clear, %v", err)
		}
		if n := count(t, tenant, "DescribeVMInstance"); n != 0 {
			t.Fatalf("%d machines before the approval", n)
		}
		node := a.List("Nodes")[0].String("NodeID")
		other.Refuse(t, retcode.ResourceNotFound, "DescribeApplication", P{"ApplicationID": id})
		other.Refuse(t, retcode.ResourceNotFound, "DescribeApplicationNode", P{"ApplicationID": id})
		other.Refuse(t, retcode.ResourceNotFound, "UpdateApplicationNode", P{"ApplicationID": id, "NodeID": node, "NodeState": "Approved"})
		tenant.Refuse(t, retcode.ActionForbidden, "UpdateApplicationNode", P{"ApplicationID": id, "NodeID": node, "NodeState": "Approved"})
		c.Admin.Refuse(t, retcode.ResourceNotFound, "UpdateApplicationNode", P{"ApplicationID": id, "NodeID": "node-unknown", "NodeState": "Approved"})
		if n := c.Admin.Must(t, "DescribeApplication", P{"Todo": true}).Int("TotalCount"); n != 1 {
			t.Errorf("%d applications wait for the administrator", n)
		}
		if n := tenant.Must(t, "DescribeApplication", P{"Todo": true}).Int("TotalCount"); n != 0 {
			t.Errorf("%d applications wait for the tenant", n)
		}

		// Several administrators at once approve once.
		var group sync.WaitGroup
		codes := make([]retcode.Code, 4)
		for i := range codes {
			group.Go(func() {
				r, err := c.Admin.Try(P{"ApplicationID": id, "NodeID": node, "NodeState": "Approved", "Remark": "fine"}.Values("UpdateApplicationNode"))
				if err != nil {
					t.Error(err)
				}
				codes[i] = r.Code
			})
		}
		group.Wait()
		done := 0
		for _, code := range codes {
			switch code {
			case retcode.OK:
				done++
			case retcode.InvalidResourceState:
			default:
				t.Errorf("an approval answers %d", code)
			}
		}
		if done != 1 {
			t.Errorf("%d approvals were accepted", done)
		}
		a = ended(t, tenant, id, "Success")
		vms := tenant.Must(t, "DescribeVMInstance", nil).Infos()
		if len(vms) != 1 || vms[0].String("State") != "Running" || vms[0].String("Name") != "web" {
			t.Fatalf("the machines are %v", vms)
		}
		if ids, _ := a["ResourceIDs"].([]any); len(ids) != 1 || ids[0] != vms[0].String("VMID") {
			t.Errorf("the application's resources are %v", a["ResourceIDs"])
		}
		if n := a.List("Nodes")[0]; n.String("NodeState") != "Approved" || n.String("Remark") != "fine" || n.String("HandlerEmail") != c.Admin.Email {
			t.Errorf("the step is %v", n)
		}
		c.Admin.Refuse(t, retcode.InvalidResourceState, "UpdateApplicationNode", P{"ApplicationID": id, "NodeID": node, "NodeState": "Rejected"})

		// Rejected: nothing happens. Impossible: the application fails with the request's own code.
		no := tenant.Must(t, "AllocateEIP", with(eip, P{"ApplicationName": "no"})).String("ApplicationID")
		decide(t, c.Admin, no, "Rejected")
		ended(t, tenant, no, "Rejected")
		bad := tenant.Must(t, "AllocateEIP", with(eip, P{"ApplicationName": "bad", "OperatorName": "Nowhere"})).String("ApplicationID")
		decide(t, c.Admin, bad, "Approved")
		if a := ended(t, tenant, bad, "Failed"); a.Int("RetCode") != int(retcode.ResourceNotFound) || !strings.Contains(a.String("Message"), "Nowhere") {
			t.Errorf("the failed application is %v", a)
		}
		if n := count(t, tenant, "DescribeEIP"); n != 1 { // the administrator's
			t.Errorf("%d addresses", n)
		}

		// Switched off, everything is as before.
		c.Admin.Must(t, "UpdateCompanyAudit", P{"CompanyID": tenant.Company, "Audit": false, "AutoAudit": false})
		if r := tenant.Must(t, "AllocateEIP", eip); r.String("EIPID") == "" || r.String("ApplicationID") != "" {
			t.Errorf("without approval: %v", r.Body)
		}
	})
}

// faults is a workflow.Faults that leaves states alone.
type faults func(workflow.Point) workflow.Fault

func (f faults) At(p workflow.Point) workflow.Fault          { return f(p) }
func (f faults) State(_ workflow.Point, state []byte) []byte { return state }

// TestAFailureLaterIsTheApplications: a request that was accepted and then failed.
func TestAFailureLaterIsTheApplications(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	tenant := c.NewTenant(t)
	vm := machine(t, tenant)
	c.Admin.Must(t, "UpdateCompanyAudit", P{"CompanyID": tenant.Company, "Audit": true, "AutoAudit": false})
	id := tenant.Must(t, "CreateVMInstance", with(vm, P{"ApplicationName": "doomed"})).String("ApplicationID")
	c.Engine.InjectFaults(faults(func(p workflow.Point) workflow.Fault {
		if !strings.HasPrefix(p.Workflow, "approval") && p.Phase == workflow.Do {
			return workflow.FailBefore
		}
		return workflow.Pass
	}))
	decide(t, c.Admin, id, "Approved")
	if a := ended(t, tenant, id, "Failed"); a.Int("RetCode") == 0 {
		t.Errorf("the application is %v", a)
	}
}

// TestExecutionHappensOnce runs every step twice, and kills the workflows around each: one address comes of it.
func TestExecutionHappensOnce(t *testing.T) {
	for name, fault := range map[string]workflow.Fault{"twice": workflow.Twice, "killed before": workflow.CrashBefore, "killed after": workflow.CrashAfter} {
		t.Run(name, func(t *testing.T) {
			c := controllertest.Start(t, controllertest.Options{Hosts: 1})
			tenant := c.NewTenant(t)
			c.Admin.Must(t, "UpdateCompanyAudit", P{"CompanyID": tenant.Company, "Audit": true, "AutoAudit": false})
			id := tenant.Must(t, "AllocateEIP", with(eip, P{"ApplicationName": "once"})).String("ApplicationID")
			var mu sync.Mutex
			seen := map[string]bool{}
			c.Engine.InjectFaults(faults(func(p workflow.Point) workflow.Fault {
				mu.Lock()
				defer mu.Unlock()
				if p.Workflow != "approval.execute" || fault != workflow.Twice && seen[p.Step] {
					return workflow.Pass
				}
				seen[p.Step] = true
				return fault
			}))
			decide(t, c.Admin, id, "Approved")
			ended(t, tenant, id, "Success")
			if n := count(t, tenant, "DescribeEIP"); n != 1 {
				t.Errorf("%d addresses came of it", n)
			}
		})
	}
}

func TestApprovalThatGivesItself(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant := c.NewTenant(t)
		vm := machine(t, tenant)
		c.Admin.Must(t, "UpdateCompanyAudit", P{"CompanyID": tenant.Company, "Audit": true, "AutoAudit": true})
		id := tenant.Must(t, "AllocateEIP", eip).String("EIPID")
		tenant.Must(t, "CreateVMInstance", with(vm, P{"ApplicationName": "shop"}))
		tenant.Refuse(t, retcode.ResourceNotFound, "AllocateEIP", with(eip, P{"OperatorName": "Nowhere"}))
		all := tenant.Must(t, "DescribeApplication", nil).Infos()
		if len(all) != 2 {
			t.Fatalf("%d applications: %v", len(all), all)
		}
		for _, a := range all {
			a = ended(t, tenant, a.String("ApplicationID"), "Success")
			if n := a.List("Nodes"); len(n) != 1 || n[0].String("NodeState") != "Approved" {
				t.Errorf("the steps are %v", n)
			}
			if ids, _ := a["ResourceIDs"].([]any); len(ids) != 1 || a.String("ResourceType") == "EIP" && ids[0] != id {
				t.Errorf("the resources are %v", ids)
			}
		}
	})
}

func TestFlows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant, other := c.NewTenant(t), c.NewTenant(t)
		c.Admin.Must(t, "UpdateCompanyAudit", P{"CompanyID": tenant.Company, "Audit": true, "AutoAudit": false})
		boss := "boss|" + P{"x": tenant.Account}.Values("")["x"] + "|false"
		flow := P{"Name": "ours", "NodeInfos": []string{"note|0|true", boss}, "ResourceTypes": []string{"EIP", "VM"}}
		id := tenant.Must(t, "CreateWorkflow", flow).String("WorkflowID")
		tenant.Refuse(t, retcode.InvalidParameter, "CreateWorkflow", flow) // one for each type
		for bad, code := range map[string]retcode.Code{"boss": retcode.InvalidParameterFormat, "boss|me|false": retcode.InvalidParameterFormat, "boss|1|maybe": retcode.InvalidParameterFormat,
			"boss|4711|false": retcode.AccountNotFound, "|0|true": retcode.InvalidParameterFormat} {
			if r := tenant.Call(t, "CreateWorkflow", with(flow, P{"NodeInfos": []string{bad}, "ResourceTypes": []string{"LB"}})); r.Code != code {
				t.Errorf("the step %q answers %d, want %d", bad, r.Code, code)
			}
		}
		tenant.Refuse(t, retcode.InvalidParameter, "CreateWorkflow", with(flow, P{"ResourceTypes": []string{"Teapot"}}))
		if l := tenant.Must(t, "DescribeWorkflow", nil).Infos(); len(l) != 1 || l[0].String("Source") != "Tenant" || len(l[0]["NodeInfos"].([]any)) != 2 || l[0]["NodeInfos"].([]any)[1] != boss {
			t.Errorf("the flows are %v", l)
		}
		if n := count(t, other, "DescribeWorkflow"); n != 0 {
			t.Errorf("another tenant sees %d flows", n)
		}
		other.Refuse(t, retcode.ResourceNotFound, "DeleteWorkflow", P{"WorkflowID": id})
		other.Refuse(t, retcode.ResourceNotFound, "UpdateWorkflow", with(flow, P{"WorkflowID": id}))

		// The tenant's steps come first, an administrator has the last word.
		a := tenant.Must(t, "AllocateEIP", with(eip, P{"ApplicationName": "steps"})).String("ApplicationID")
		steps := get(t, tenant, a).List("Nodes")
		if len(steps) != 3 || steps[0].String("NodeState") != "Approved" || steps[1].String("NodeState") != "Pending" || steps[2].String("NodeState") != "Waiting" {
			t.Fatalf("the steps are %v", steps)
		}
		tenant.Refuse(t, retcode.InvalidResourceState, "DeleteWorkflow", P{"WorkflowID": id})
		c.Admin.Refuse(t, retcode.ActionForbidden, "UpdateApplicationNode", P{"ApplicationID": a, "NodeID": steps[1].String("NodeID"), "NodeState": "Approved"})
		c.Admin.Refuse(t, retcode.InvalidResourceState, "UpdateApplicationNode", P{"ApplicationID": a, "NodeID": steps[2].String("NodeID"), "NodeState": "Approved"})
		decide(t, tenant, a, "Approved")
		if n := count(t, tenant, "DescribeEIP"); n != 0 {
			t.Fatalf("%d addresses before the last word", n)
		}
		decide(t, c.Admin, a, "Approved")
		ended(t, tenant, a, "Success")

		// A flow of an administrator stands as it is, and tenants do not change it.
		tenant.Must(t, "UpdateWorkflow", with(flow, P{"WorkflowID": id, "ResourceTypes": []string{"VM"}}))
		quick := c.Admin.Must(t, "CreateWorkflow", P{"CompanyID": tenant.Company, "Name": "quick", "NodeInfos": []string{"it|0|true"}, "ResourceTypes": []string{"EIP"}}).String("WorkflowID")
		tenant.Refuse(t, retcode.ActionForbidden, "DeleteWorkflow", P{"WorkflowID": quick})
		tenant.Refuse(t, retcode.ActionForbidden, "UpdateWorkflow", with(flow, P{"WorkflowID": quick}))
		b := tenant.Must(t, "AllocateEIP", with(eip, P{"ApplicationName": "quick"})).String("ApplicationID")
		ended(t, tenant, b, "Success")
		c.Admin.Must(t, "DeleteWorkflow", P{"WorkflowID": quick})
		tenant.Must(t, "DeleteWorkflow", P{"WorkflowID": id})
		if n := count(t, tenant, "DescribeWorkflow"); n != 0 {
			t.Errorf("%d flows are left", n)
		}
	})
}
