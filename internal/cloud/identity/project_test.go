package identity_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// group makes a security group, the cheapest resource, in a project group.
func group(t *testing.T, c *controllertest.Client, p P) string {
	t.Helper()
	q := P{"Name": "sg", "Rule": []string{"TCP|80|0.0.0.0/0|ACCEPT|HIGH|1"}}
	for k, v := range p {
		q[k] = v
	}
	return c.Must(t, "CreateSecurityGroup", q).String("SGID")
}

func TestProjectGroups(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		other := c.NewTenant(t)
		mine := P{"CompanyID": c.Demo.Company}

		// Every tenant has its default group, and what it was furnished with is in it.
		all := c.Demo.Must(t, "ListProjects", nil).Infos()
		if len(all) != 1 || all[0].String("Name") != "default" || all[0].String("IsDefault") != "true" || all[0].String("CompanyEmail") != c.Demo.Email {
			t.Fatalf("the groups of a new tenant: %v", all)
		}
		first := all[0].String("ProjectID")
		if first != identity.DefaultProject(c.Demo.Company) {
			t.Errorf("the default group is %s", first)
		}
		if vpc := c.Demo.Must(t, "DescribeVPC", P{"ProjectIDs": []string{first}}).Infos(); len(vpc) != 1 || vpc[0].String("ProjectName") != "default" {
			t.Errorf("the VPC in the default group: %v", vpc)
		}
		if n := c.Admin.Must(t, "ListProjects", P{"CompanyID": other.Company}).Int("TotalCount"); n != 1 {
			t.Errorf("an administrator sees %d groups of a tenant", n)
		}

		web := c.Demo.Must(t, "CreateProject", P{"CompanyID": c.Demo.Company, "Name": " web ", "Remark": "the shop"}).String("ProjectID")
		if i := c.Demo.Must(t, "GetProject", P{"ProjectID": web}).Body["Info"].(map[string]any); i["Name"] != "web" || i["Remark"] != "the shop" {
			t.Errorf("GetProject answers %v", i)
		}
		c.Demo.Refuse(t, retcode.InvalidParameter, "CreateProject", P{"CompanyID": c.Demo.Company, "Name": "web"})
		c.Demo.Refuse(t, retcode.AdminOnly, "CreateProject", P{"CompanyID": other.Company, "Name": "web"})
		c.Admin.Refuse(t, retcode.TenantNotFound, "CreateProject", P{"CompanyID": 4711, "Name": "web"})
		c.Demo.Must(t, "RenameProject", P{"ProjectID": web, "Name": "shop"})
		if i := c.Demo.Must(t, "GetProject", P{"ProjectID": web}).Body["Info"].(map[string]any); i["Name"] != "shop" || i["Remark"] != "the shop" {
			t.Errorf("after the renaming: %v", i)
		}
		c.Demo.Refuse(t, retcode.InvalidParameter, "RenameProject", P{"ProjectID": web, "Name": "default"})
		for _, id := range []string{"project-unknown", identity.DefaultProject(other.Company)} {
			c.Demo.Refuse(t, retcode.ProjectNotFound, "GetProject", P{"ProjectID": id})
			c.Demo.Refuse(t, retcode.ProjectNotFound, "RenameProject", P{"ProjectID": id, "Name": "x"})
			c.Demo.Refuse(t, retcode.ProjectNotFound, "DeleteProject", P{"ProjectID": id})
			c.Demo.Refuse(t, retcode.ProjectNotFound, "CreateSecurityGroup", P{"Name": "x", "Rule": []string{"TCP|80|0.0.0.0/0|ACCEPT|HIGH|1"}, "ProjectID": id})
		}

		// A create goes into the named group; lists filter by it.
		sg, loose := group(t, c.Demo, P{"ProjectID": web}), group(t, c.Demo, nil)
		in := func(project string) (ids []string) {
			for _, i := range c.Demo.Must(t, "DescribeSecurityGroup", P{"ProjectIDs": []string{project}}).Infos() {
				ids = append(ids, i.String("SGID"))
			}
			return ids
		}
		if got := in(web); !slices.Equal(got, []string{sg}) {
			t.Errorf("in the group: %v", got)
		}
		if got := in(first); !slices.Contains(got, loose) || slices.Contains(got, sg) {
			t.Errorf("in the default group: %v", got)
		}
		c.Demo.Refuse(t, retcode.ProjectNotEmpty, "DeleteProject", P{"ProjectID": web})
		c.Demo.Refuse(t, retcode.ProjectNotEmpty, "DeleteProject", P{"ProjectID": first})

		// Moving takes resources of any kinds, all or none of them.
		eip := c.Demo.Must(t, "AllocateEIP", P{"Name": "e", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp", "ProjectID": web}).String("EIPID")
		vpc := c.Demo.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID")
		move := func(to string, ids ...string) P {
			return P{"CompanyID": mine["CompanyID"], "ProjectID": to, "ResourceIDs": ids}
		}
		c.Demo.Refuse(t, retcode.SGNotFound, "MoveProjectResource", move(first, eip, "sg-unknown"))
		c.Demo.Refuse(t, retcode.ProjectNotFound, "MoveProjectResource", move("project-unknown", eip))
		other.Refuse(t, retcode.ResourceNotFound, "MoveProjectResource", P{"CompanyID": other.Company, "ProjectID": identity.DefaultProject(other.Company), "ResourceIDs": []string{eip}})
		if got := c.Demo.Must(t, "DescribeEIP", P{"ProjectIDs": []string{web}}).Int("TotalCount"); got != 1 {
			t.Error("a refused move moved something")
		}
		c.Demo.Must(t, "MoveProjectResource", move(first, eip, sg))
		c.Demo.Must(t, "MoveProjectResource", move(web, vpc))
		if got := c.Demo.Must(t, "DescribeSubnet", P{"ProjectIDs": []string{web}}).Int("TotalCount"); got != 1 {
			t.Error("the subnet did not move with its VPC")
		}
		c.Demo.Must(t, "MoveProjectResource", move(first, vpc))

		// What is in the bin is still in its group.
		c.Demo.Must(t, "MoveProjectResource", move(web, eip))
		c.Demo.Must(t, "ReleaseEIP", P{"EIPID": eip})
		c.Demo.Refuse(t, retcode.ProjectNotEmpty, "DeleteProject", P{"ProjectID": web})
		if n := c.Demo.Must(t, "DescribeRecycledResource", P{"ProjectIDs": []string{web}}).Int("TotalCount"); n != 1 {
			t.Errorf("%d of the group in the bin", n)
		}
		c.Demo.Refuse(t, retcode.ProjectNotFound, "TerminateResource", P{"ResourceID": eip, "ProjectID": "project-unknown"})
		c.Demo.Refuse(t, retcode.ResourceNotFound, "TerminateResource", P{"ResourceID": eip, "ProjectID": first})
		c.Demo.Must(t, "TerminateResource", P{"ResourceID": eip, "ProjectID": web})
		c.Demo.Must(t, "DeleteProject", P{"ProjectID": web})
		c.Demo.Refuse(t, retcode.ProjectNotFound, "GetProject", P{"ProjectID": web})
	})
}

// TestNothingIsCreatedInADeletedGroup lets creations race with the deletion of their group.
func TestNothingIsCreatedInADeletedGroup(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		for range 5 {
			id := c.Demo.Must(t, "CreateProject", P{"CompanyID": c.Demo.Company, "Name": "short-lived"}).String("ProjectID")
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					q := P{"Name": "sg", "Rule": []string{"TCP|80|0.0.0.0/0|ACCEPT|HIGH|1"}, "ProjectID": id}
					r, err := c.Demo.Try(q.Values("CreateSecurityGroup"))
					if err != nil || r.Code != retcode.OK && r.Code != retcode.ProjectNotFound {
						t.Errorf("a creation: %d %s, %v", r.Code, r.Message, err)
					}
				})
			}
			var deleted retcode.Code
			group.Go(func() {
				r, err := c.Demo.Try(P{"ProjectID": id}.Values("DeleteProject"))
				if err != nil || r.Code != retcode.OK && r.Code != retcode.ProjectNotEmpty {
					t.Errorf("the deletion: %d %s, %v", r.Code, r.Message, err)
				}
				deleted = r.Code
			})
			group.Wait()
			n := c.Demo.Must(t, "DescribeSecurityGroup", P{"ProjectIDs": []string{id}}).Int("TotalCount")
			if deleted == retcode.OK && n > 0 {
				t.Fatalf("%d groups in a deleted project group", n)
			}
			exec(t, db, `DELETE FROM sg_rule WHERE sg_id IN (SELECT id FROM security_group WHERE project = ?)`, id)
			exec(t, db, `DELETE FROM security_group WHERE project = ?`, id)
			exec(t, db, `UPDATE quota SET used = 1 WHERE factor = 'SECURITY_GROUP'`)
			if deleted != retcode.OK {
				c.Demo.Must(t, "DeleteProject", P{"ProjectID": id})
			}
		}
	})
}

// TestExistingTenantsGetGroups runs the migration on a database that a tenant used before there were groups.
func TestExistingTenantsGetGroups(t *testing.T) {
	if got, want := identity.DefaultProject(200000231), "project-00000200000231"; got != want {
		t.Errorf("DefaultProject is %s, the migration writes %s", got, want)
	}
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	var migrated string
	// The expression of migration 0045.
	err := c.DB.Reader().NewRaw(`SELECT 'project-' || substr('00000000000000' || CAST(id AS TEXT), length(CAST(id AS TEXT)) + 1) FROM tenant WHERE id = ?`, c.Demo.Company).Scan(t.Context(), &migrated)
	if err != nil || migrated != identity.DefaultProject(c.Demo.Company) {
		t.Errorf("the migration writes %s, %v", migrated, err)
	}
}
