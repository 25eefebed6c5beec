package cli_test

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// TestAccess gives an account a role in a project group, opens and closes a service, and approves what a tenant asks for.
func TestAccess(t *testing.T) {
	dir := t.TempDir()
	c := controllertest.Start(t, controllertest.Options{Dir: dir, Hosts: 1})
	m := open(t)
	m.must("login", "--file", filepath.Join(dir, "demo.json"))
	m.must("login", "--profile", "admin", "--file", filepath.Join(dir, "admin.json"))

	m.must("project", "create", "web")
	m.must("project", "rename", "web", "shop")
	if out := m.must("project", "list"); !strings.Contains(out, "shop") || !strings.Contains(out, "default") {
		t.Errorf("the groups are\n%s", out)
	}
	m.must("role", "create", "night", "DescribeVMInstance", "StartVMInstance")
	m.must("role", "allow", "night", "StopVMInstance")
	m.must("role", "deny", "night", "StartVMInstance")
	if out := m.must("role", "show", "night"); !strings.Contains(out, "StopVMInstance") || strings.Contains(out, "StartVMInstance") {
		t.Errorf("the role is\n%s", out)
	}
	member := c.Demo.Must(t, "CreateSubMember", controllertest.P{"MemberEmail": "ann@example.com", "MemberName": "Ann", "Password": "Secret-123456"}).Int("MemberID")
	if out := m.must("grant", "add", strconv.Itoa(member), "night", "--project", "shop"); !strings.Contains(out, "ann@example.com") || !strings.Contains(out, "shop") {
		t.Errorf("the grant is\n%s", out)
	}
	if _, _, err := m.run("role", "delete", "night"); err == nil || !strings.Contains(err.Error(), "653") {
		t.Errorf("deleting a granted role: %v", err)
	}
	var all []struct{ GrantID string }
	if err := json.Unmarshal([]byte(m.must("grant", "list", "-o", "json")), &all); err != nil || len(all) != 1 {
		t.Fatalf("the grants are %v, %v", all, err)
	}
	m.must("grant", "remove", all[0].GrantID)
	m.must("role", "delete", "night")

	eip := c.Demo.Must(t, "AllocateEIP", controllertest.P{"Name": "front", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp"}).String("EIPID")
	m.must("project", "move", "shop", eip)
	if _, _, err := m.run("project", "delete", "shop"); err == nil || !strings.Contains(err.Error(), "654") {
		t.Errorf("deleting a group that holds something: %v", err)
	}
	m.must("project", "move", "default", eip)
	m.must("project", "delete", "shop")

	m.must("service", "disable", "LB", "--profile", "admin")
	if out := m.must("service", "list", "-o", "json"); !strings.Contains(out, `"N"`) {
		t.Errorf("no service is closed:\n%s", out)
	}
	m.must("service", "enable", "LB", "--profile", "admin")
	m.must("service", "tenants", "LB", "--profile", "admin")

	c.Admin.Must(t, "UpdateCompanyAudit", controllertest.P{"CompanyID": c.Demo.Company, "Audit": true, "AutoAudit": false})
	id := c.Demo.Must(t, "AllocateEIP", controllertest.P{"Name": "second", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp", "ApplicationName": "more"}).String("ApplicationID")
	if out := m.must("application", "list", "--todo", "--profile", "admin"); !strings.Contains(out, id) {
		t.Errorf("the application does not wait:\n%s", out)
	}
	m.must("application", "approve", id, "--remark", "fine", "--profile", "admin")
	controllertest.Eventually(t, 30*time.Second, "the application is done", func() bool {
		return strings.Contains(m.must("application", "show", id), "Success")
	})
}
