package identity_test

import (
	"encoding/json"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// listed are the permissions of a role, or of all, as the API answers them: name to verb.
func listed(t *testing.T, groups any) map[string]string {
	t.Helper()
	text, err := json.Marshal(groups)
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		ProductType string
		Permissions []struct {
			Name, ActionType string
			IsPermission     int
		}
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, g := range all {
		for _, p := range g.Permissions {
			if p.IsPermission == 1 {
				out[p.Name] = p.ActionType
			}
		}
	}
	return out
}

func role(t *testing.T, c *controllertest.Client, id string) map[string]any {
	t.Helper()
	return c.Must(t, "GetRole", P{"RoleID": id}).Body["Info"].(map[string]any)
}

func TestRoles(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		other := c.NewTenant(t)

		// What can be granted comes from the table of actions, sorted by what it does.
		all := listed(t, c.Demo.Must(t, "ListProductPermissions", nil).Body["Infos"])
		for name, verb := range map[string]string{"DescribeVMInstance": "View", "CreateVMInstance": "Add", "StartVMInstance": "Edit", "DeleteVMInstance": "Delete",
			"ReleaseEIP": "Delete", "AllocateEIP": "Add", "CreateRole": "Add", "DescribePermission": "", "EnableProduct": "", "LoginByPassword": ""} {
			if all[name] != verb {
				t.Errorf("%s is %q, want %q", name, all[name], verb)
			}
		}
		if got := listed(t, role(t, c.Demo, identity.AdministratorRole)["RolePermissions"]); len(got) != len(all) {
			t.Errorf("the administrator role lists %d of %d", len(got), len(all))
		}
		for name, verb := range listed(t, role(t, c.Demo, identity.ReadOnlyRole)["RolePermissions"]) {
			if verb != "View" {
				t.Errorf("the read-only role lists %s, %s", name, verb)
			}
		}

		id := c.Demo.Must(t, "CreateRole", P{"Name": "operator", "Permission": "StartVMInstance-1,StopVMInstance-1,DeleteVMInstance-0", "Remark": "night shift"}).String("RoleID")
		if got := listed(t, role(t, c.Demo, id)["RolePermissions"]); len(got) != 2 || got["StartVMInstance"] == "" || got["StopVMInstance"] == "" {
			t.Errorf("the role lists %v", got)
		}
		c.Demo.Must(t, "UpdateRolePermission", P{"RoleID": id, "Permission": "DescribeVMInstance"})
		c.Demo.Must(t, "UpdateRolePermission", P{"RoleID": id, "Permission": "DescribeVMInstance"})
		c.Demo.Must(t, "UpdateRolePermission", P{"RoleID": id, "Permission": "StopVMInstance", "IsPermission": 0})
		if got := listed(t, role(t, c.Demo, id)["RolePermissions"]); len(got) != 2 || got["DescribeVMInstance"] == "" || got["StopVMInstance"] != "" {
			t.Errorf("after the changes the role lists %v", got)
		}
		c.Demo.Must(t, "RenameRole", P{"RoleID": id, "Name": "night"})
		if r := role(t, c.Demo, id); r["Name"] != "night" || r["Remark"] != "night shift" || r["Type"] != "Custom" {
			t.Errorf("after the renaming: %v", r)
		}
		if n := c.Demo.Must(t, "ListRoles", nil).Int("TotalCount"); n != 3 {
			t.Errorf("the tenant sees %d roles", n)
		}
		if l := c.Demo.Must(t, "ListRoles", P{"Type": "Custom"}).Infos(); len(l) != 1 || l[0].String("RoleID") != id {
			t.Errorf("its own: %v", l)
		}
		if n := other.Must(t, "ListRoles", P{"Type": "Custom"}).Int("TotalCount"); n != 0 {
			t.Errorf("another tenant sees %d of them", n)
		}

		for name, q := range map[string]P{
			"an administrators' action": {"Name": "x", "Permission": "EnableProduct-1"}, "an unknown action": {"Name": "x", "Permission": "Fly-1"},
			"a taken name": {"Name": "night", "Permission": "StartVMInstance-1"}, "no name": {"Name": "  \t", "Permission": "StartVMInstance-1"},
		} {
			if r := c.Demo.Call(t, "CreateRole", q); r.Code != retcode.InvalidParameter {
				t.Errorf("%s answers %d", name, r.Code)
			}
		}
		c.Demo.Refuse(t, retcode.InvalidParameterFormat, "CreateRole", P{"Name": "x", "Permission": "StartVMInstance"})
		c.Demo.Refuse(t, retcode.InvalidParameter, "UpdateRolePermission", P{"RoleID": id, "Permission": "EnableProduct"})
		for _, unknown := range []struct {
			by *controllertest.Client
			id string
		}{{other, id}, {c.Demo, "role-unknown"}} {
			unknown.by.Refuse(t, retcode.RoleNotFound, "GetRole", P{"RoleID": unknown.id})
			unknown.by.Refuse(t, retcode.RoleNotFound, "RenameRole", P{"RoleID": unknown.id, "Name": "x"})
			unknown.by.Refuse(t, retcode.RoleNotFound, "UpdateRolePermission", P{"RoleID": unknown.id, "Permission": "StartVMInstance"})
			unknown.by.Refuse(t, retcode.RoleNotFound, "DeleteRole", P{"RoleID": unknown.id})
		}
		for _, built := range []string{identity.AdministratorRole, identity.ReadOnlyRole} {
			c.Demo.Refuse(t, retcode.ActionForbidden, "RenameRole", P{"RoleID": built, "Name": "x"})
			c.Demo.Refuse(t, retcode.ActionForbidden, "UpdateRolePermission", P{"RoleID": built, "Permission": "StartVMInstance"})
			c.Demo.Refuse(t, retcode.ActionForbidden, "DeleteRole", P{"RoleID": built})
		}
		c.Demo.Must(t, "DeleteRole", P{"RoleID": id})
		c.Demo.Refuse(t, retcode.RoleNotFound, "GetRole", P{"RoleID": id})
		// A main account and an administrator need no role.
		other.Refuse(t, retcode.InvalidParameter, "GrantRole", P{"MemberID": other.Account, "RoleIDs": []string{identity.ReadOnlyRole}})
		c.Demo.Refuse(t, retcode.AccountNotFound, "GrantRole", P{"MemberID": other.Account, "RoleIDs": []string{identity.ReadOnlyRole}})
	})
}

func TestServices(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		other := c.NewTenant(t)
		find := func(client *controllertest.Client, product string) controllertest.Info {
			t.Helper()
			for _, i := range client.Must(t, "DescribeProduct", nil).Infos() {
				if i.String("ProductType") == product {
					return i
				}
			}
			t.Fatalf("no product %s", product)
			return nil
		}
		eip := func(client *controllertest.Client) controllertest.Response {
			t.Helper()
			return client.Call(t, "AllocateEIP", P{"Name": "e", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp"})
		}
		if i := find(c.Demo, "EIP"); i.String("Enable") != "Y" || i.String("Authorized") != "Y" || i.Int("CompanyCount") != 0 {
			t.Errorf("a tenant sees %v", i)
		}

		// Closed to one tenant: every action of the service answers 114 to it, and to nobody else.
		c.Admin.Must(t, "DisableCompanyProductType", P{"ProductType": "EIP", "CompanyIDs.0": other.Company})
		other.Refuse(t, retcode.ActionForbidden, "DescribeEIP", nil)
		if r := eip(other); r.Code != retcode.ActionForbidden {
			t.Errorf("a create of a closed service answers %d", r.Code)
		}
		if i := find(other, "EIP"); i.String("Authorized") != "N" || i.String("Enable") != "Y" {
			t.Errorf("the tenant sees %v", i)
		}
		other.Must(t, "DescribeVPC", nil)
		mine := eip(c.Demo)
		if mine.Code != retcode.OK {
			t.Fatalf("another tenant's create answers %d %s", mine.Code, mine.Message)
		}
		if i := find(c.Admin, "EIP"); i.Int("CompanyCount") != 1 || i.Int("EnableCompanyCount") != 1 {
			t.Errorf("an administrator sees %v", i)
		}
		for _, i := range c.Admin.Must(t, "ListProductTypeCompanys", P{"ProductType": "EIP"}).Infos() {
			open, held := i.String("Enable") == "true", i.Int("ResourceCount")
			if demo := i.Int("CompanyID") == int(c.Demo.Company); open != demo || demo != (held == 1) {
				t.Errorf("listed: %v", i)
			}
		}

		// It stays open where somebody has something in it, also in the bin.
		c.Admin.Refuse(t, retcode.ProductTypeInUse, "DisableCompanyProductType", P{"ProductType": "EIP", "CompanyIDs.0": c.Demo.Company})
		c.Admin.Refuse(t, retcode.ProductTypeInUse, "DisableProduct", P{"ProductType": "EIP"})
		c.Demo.Must(t, "ReleaseEIP", P{"EIPID": mine.String("EIPID")})
		c.Admin.Refuse(t, retcode.ProductTypeInUse, "DisableProduct", P{"ProductType": "EIP"})
		c.Demo.Must(t, "TerminateResource", P{"ResourceID": mine.String("EIPID")})
		c.Admin.Must(t, "DisableProduct", P{"ProductType": "EIP"})
		c.Demo.Refuse(t, retcode.ActionForbidden, "DescribeEIP", nil)
		c.Admin.Must(t, "DescribeEIP", nil)
		c.Admin.Must(t, "EnableProduct", P{"ProductType": "EIP"})
		c.Demo.Must(t, "DescribeEIP", nil)
		other.Refuse(t, retcode.ActionForbidden, "DescribeEIP", nil)
		c.Admin.Must(t, "EnableCompanyProductType", P{"ProductType": "EIP", "CompanyIDs.0": other.Company})
		other.Must(t, "DescribeEIP", nil)
		// What a tenant is furnished with keeps no service open.
		c.Admin.Must(t, "DisableProduct", P{"ProductType": "VPC"})
		c.Admin.Must(t, "EnableProduct", P{"ProductType": "VPC"})

		for _, name := range []string{"EnableProduct", "DisableProduct", "ListProductTypeCompanys"} {
			c.Admin.Refuse(t, retcode.ProductTypeNotFound, name, P{"ProductType": "Teapot"})
			c.Demo.Refuse(t, retcode.AdminOnly, name, P{"ProductType": "EIP"})
		}
		c.Admin.Refuse(t, retcode.ProductTypeNotFound, "EnableCompanyProductType", P{"ProductType": "Account", "CompanyIDs.0": other.Company})
		c.Admin.Refuse(t, retcode.TenantNotFound, "DisableCompanyProductType", P{"ProductType": "EIP", "CompanyIDs.0": 4711})
		found := false
		for _, i := range c.Demo.Must(t, "ListProductResources", nil).Infos() {
			found = found || i.String("ProductType") == "VM" && i.String("ResourceType") == "VM"
		}
		if !found {
			t.Error("ListProductResources does not know machines")
		}
	})
}
