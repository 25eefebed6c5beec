package identity_test

import (
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// newSub makes a client of a new sub-account without roles.
func newSub(t testing.TB, c *controllertest.Cloud, of *controllertest.Client, email string) *controllertest.Client {
	t.Helper()
	id := of.Must(t, "CreateSubMember", P{"MemberEmail": email, "MemberName": "member", "Password": "Secret-123456"}).Int("MemberID")
	k := of.Must(t, "CreateAPIKey", P{"MemberID": id})
	return &controllertest.Client{URL: c.URL, Company: of.Company, Account: int64(id), Email: email, PublicKey: k.String("APIPublicKey"), PrivateKey: k.String("APIPrivateKey")}
}

func TestGrants(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant, other := c.NewTenant(t), c.NewTenant(t)
		ann, bob := newSub(t, c, tenant, "ann@example.com"), newSub(t, c, tenant, "bob@example.com")
		web := tenant.Must(t, "CreateProject", P{"CompanyID": tenant.Company, "Name": "web"}).String("ProjectID")
		inside, outside := group(t, tenant, P{"ProjectID": web}), group(t, tenant, nil)
		may := func(name string) bool {
			t.Helper()
			for _, i := range controllertest.Info(ann.Must(t, "DescribePermission", nil).Body).List("Info") {
				if i.String("Action") == name {
					return i.String("Permission") == "true"
				}
			}
			t.Fatalf("no action %s", name)
			return false
		}
		sees := func(id string) bool {
			t.Helper()
			for _, i := range ann.Must(t, "DescribeSecurityGroup", nil).Infos() {
				if i.String("SGID") == id {
					return true
				}
			}
			return false
		}

		// Nothing without a role; its own account always.
		ann.Refuse(t, retcode.ActionForbidden, "DescribeSecurityGroup", nil)
		ann.Must(t, "DescribeRegion", nil)
		if may("DescribeSecurityGroup") || !may("DescribePermission") || may("EnableProduct") {
			t.Error("DescribePermission says otherwise")
		}

		// A grant is felt with the next call, in its groups alone.
		role := tenant.Must(t, "CreateRole", P{"Name": "groups", "Permission": "DescribeSecurityGroup-1,CreateSecurityGroup-1,CreateSecurityGroupRule-1"}).String("RoleID")
		grant := tenant.Must(t, "GrantRole", P{"MemberID": ann.Account, "RoleIDs": []string{role}, "ProjectIDs": []string{web}}).Body["GrantIDs"].([]any)
		again := tenant.Must(t, "GrantRole", P{"MemberID": ann.Account, "RoleIDs": []string{role}, "ProjectIDs": []string{web}}).Body["GrantIDs"].([]any)
		if len(grant) != 1 || len(again) != 1 || grant[0] != again[0] {
			t.Errorf("granting twice makes %v and %v", grant, again)
		}
		if !sees(inside) || sees(outside) || !may("CreateSecurityGroup") {
			t.Error("a grant in a group shows the wrong groups")
		}
		rule := []string{"TCP|81|0.0.0.0/0|ACCEPT|LOW|1"}
		ann.Must(t, "CreateSecurityGroupRule", P{"SGID": inside, "Rules": rule})
		ann.Refuse(t, retcode.SGNotFound, "CreateSecurityGroupRule", P{"SGID": outside, "Rules": rule})
		ann.Refuse(t, retcode.MissingParameter, "CreateSecurityGroup", P{"Name": "x", "Rule": rule})
		ann.Refuse(t, retcode.ActionForbidden, "CreateSecurityGroup", P{"Name": "x", "Rule": rule, "ProjectID": identity.DefaultProject(tenant.Company)})
		ann.Refuse(t, retcode.ProjectNotFound, "CreateSecurityGroup", P{"Name": "x", "Rule": rule, "ProjectID": identity.DefaultProject(other.Company)})
		group(t, ann, P{"ProjectID": web})
		ann.Refuse(t, retcode.ActionForbidden, "DescribeEIP", nil)
		bob.Refuse(t, retcode.ActionForbidden, "DescribeSecurityGroup", nil)

		// Roles add up, each in its own scope; editing one is felt by its holders.
		tenant.Must(t, "GrantRole", P{"MemberID": ann.Account, "RoleIDs": []string{identity.ReadOnlyRole}})
		// The list of accounts shows what each has, and is narrowed by it.
		for what, f := range map[string]struct {
			p    P
			want int
		}{"a role": {P{"RoleID": role}, 1}, "a group": {P{"ProjectID": web}, 1}, "both": {P{"RoleID": role, "ProjectID": web}, 1},
			"a role in another group": {P{"RoleID": identity.ReadOnlyRole, "ProjectID": web}, 0}} {
			l := tenant.Must(t, "DescribeMember", f.p)
			if l.Int("TotalCount") != f.want {
				t.Errorf("by %s: %v", what, l.Body)
			}
			for _, i := range l.Infos() {
				if grants := i.List("Grants"); len(grants) != 2 || grants[0].String("GrantID") == "" {
					t.Errorf("grants shown: %v", grants)
				}
			}
		}
		if !sees(outside) {
			t.Error("the whole tenant is not seen")
		}
		ann.Refuse(t, retcode.SGNotFound, "CreateSecurityGroupRule", P{"SGID": outside, "Rules": rule})
		tenant.Must(t, "UpdateRolePermission", P{"RoleID": role, "Permission": "CreateSecurityGroupRule", "IsPermission": 0})
		ann.Refuse(t, retcode.ActionForbidden, "CreateSecurityGroupRule", P{"SGID": inside, "Rules": rule})

		all := tenant.Must(t, "ListRoleGrants", P{"MemberID": ann.Account}).Infos()
		if len(all) != 2 || all[0].String("Email") != ann.Email && all[1].String("Email") != ann.Email {
			t.Errorf("the grants are %v", all)
		}
		if l := tenant.Must(t, "ListRoleGrants", P{"ProjectID": web}).Infos(); len(l) != 1 || l[0].String("RoleName") != "groups" || l[0].String("ProjectName") != "web" {
			t.Errorf("the grants in the group are %v", l)
		}
		if n := other.Must(t, "ListRoleGrants", nil).Int("TotalCount"); n != 0 {
			t.Errorf("another tenant sees %d grants", n)
		}

		// What is granted stays; nobody changes its own roles.
		tenant.Refuse(t, retcode.RoleInUse, "DeleteRole", P{"RoleID": role})
		tenant.Refuse(t, retcode.ProjectNotEmpty, "DeleteProject", P{"ProjectID": web})
		tenant.Must(t, "GrantRole", P{"MemberID": bob.Account, "RoleIDs": []string{identity.AdministratorRole}})
		mine := tenant.Must(t, "ListRoleGrants", P{"MemberID": bob.Account}).Infos()[0].String("GrantID")
		bob.Refuse(t, retcode.ActionForbidden, "GrantRole", P{"MemberID": bob.Account, "RoleIDs": []string{role}})
		bob.Refuse(t, retcode.ActionForbidden, "RevokeRole", P{"GrantIDs": []string{mine}})
		bob.Must(t, "UpdateRolePermission", P{"RoleID": role, "Permission": "DescribeEIP"})
		tenant.Must(t, "GrantRole", P{"MemberID": bob.Account, "RoleIDs": []string{role}})
		bob.Refuse(t, retcode.ActionForbidden, "UpdateRolePermission", P{"RoleID": role, "Permission": "DescribeVPC"})

		tenant.Refuse(t, retcode.RoleNotFound, "GrantRole", P{"MemberID": ann.Account, "RoleIDs": []string{"role-unknown"}})
		tenant.Refuse(t, retcode.ProjectNotFound, "GrantRole", P{"MemberID": ann.Account, "RoleIDs": []string{role}, "ProjectIDs": []string{identity.DefaultProject(other.Company)}})
		other.Refuse(t, retcode.AccountNotFound, "GrantRole", P{"MemberID": ann.Account, "RoleIDs": []string{identity.ReadOnlyRole}})
		other.Refuse(t, retcode.RoleGrantNotFound, "RevokeRole", P{"GrantIDs": []string{mine}})
		tenant.Refuse(t, retcode.RoleGrantNotFound, "RevokeRole", P{"GrantIDs": []string{"grant-unknown"}})
		tenant.Refuse(t, retcode.RoleGrantNotFound, "RevokeRole", P{"MemberID": ann.Account, "RoleID": role})
		tenant.Refuse(t, retcode.RoleNotFound, "RevokeRole", P{"MemberID": ann.Account, "RoleID": "role-unknown"})
		tenant.Refuse(t, retcode.ProjectNotFound, "RevokeRole", P{"MemberID": ann.Account, "RoleID": role, "ProjectID": "project-unknown"})
		tenant.Refuse(t, retcode.MissingParameter, "RevokeRole", P{"MemberID": ann.Account})
		tenant.Must(t, "RevokeRole", P{"MemberID": ann.Account, "RoleID": role, "ProjectID": web})
		ann.Refuse(t, retcode.ActionForbidden, "CreateSecurityGroup", P{"Name": "x", "Rule": rule, "ProjectID": web})
		if !sees(inside) {
			t.Error("the other role went, too")
		}

		// An account that goes takes its grants along.
		tenant.Must(t, "DeleteMember", P{"MemberID": bob.Account})
		if l := tenant.Must(t, "ListRoleGrants", P{"MemberID": bob.Account}).Infos(); len(l) != 0 {
			t.Errorf("grants of a deleted account: %v", l)
		}
		tenant.Must(t, "DeleteRole", P{"RoleID": role})
	})
}

// BenchmarkPermit is the permission check of a sub-account, which is in the way of every one of its requests.
func BenchmarkPermit(b *testing.B) {
	c := controllertest.Start(b, controllertest.Options{Hosts: 1})
	tenant := c.NewTenant(b)
	ann := newSub(b, c, tenant, "ann@example.com")
	tenant.Must(b, "GrantRole", P{"MemberID": ann.Account, "RoleIDs": []string{identity.ReadOnlyRole}})
	spec := action.Spec{Name: "DescribeVMInstance", Module: "vm"}
	for b.Loop() {
		call := &action.Call{Region: "cn", Caller: action.Caller{Account: ann.Account, Company: ann.Company, Sub: true}}
		if err := c.Identity.Permit(b.Context(), call, spec); err != nil {
			b.Fatal(err)
		}
	}
}
