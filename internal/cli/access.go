package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

var projects = kind{
	name: "project", describe: "ListProjects", ids: "ProjectIDs", id: "ProjectID", prefix: "project-",
	columns: []column{plain("ID", "ProjectID"), plain("Name", "Name"), plain("Default", "IsDefault"), plain("Remark", "Remark"), when("Created", "CreateTime")},
}

var roles = kind{
	name: "role", describe: "ListRoles", ids: "RoleIDs", id: "RoleID", prefix: "role-",
	columns: []column{plain("ID", "RoleID"), plain("Name", "Name"), plain("Type", "Type"), plain("Remark", "Remark"), when("Created", "CreateTime")},
}

var grants = kind{
	name: "grant", describe: "ListRoleGrants", id: "GrantID", prefix: "grant-",
	columns: []column{plain("ID", "GrantID"), plain("Account", "Email"), plain("Role", "RoleName"), {"Where", func(o object) string {
		if o.text("ProjectID") == "" {
			return "the whole tenant"
		}
		return o.text("ProjectName")
	}}, when("Granted", "CreateTime")},
}

// company is the tenant whose project groups the caller sees first.
func company(ctx context.Context, s *session) (string, error) {
	o, err := projects.first(ctx, s, nil)
	if err != nil {
		return "", err
	}
	return o.text("CompanyID"), nil
}

func projectCommand() *cobra.Command {
	var remark string
	create := command("create NAME", "Create one", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		tenant, err := company(ctx, s)
		if err != nil {
			return err
		}
		var made struct{ ProjectID string }
		if _, err := s.Call(ctx, "CreateProject", Params{"CompanyID": tenant, "Name": args[0], "Remark": remark}, &made); err != nil {
			return err
		}
		o, err := projects.get(ctx, s, made.ProjectID)
		if err != nil {
			return err
		}
		return s.detail(o, projects.columns)
	})
	create.Flags().StringVar(&remark, "remark", "", "free text")
	rename := projects.on(command("rename PROJECT NAME", "Give one another name", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := projects.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "RenameProject", Params{"ProjectID": o.text("ProjectID"), "Name": args[1]}, nil)
		return err
	}))
	move := projects.on(command("move PROJECT RESOURCE...", "Move resources of any types into one", cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := projects.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		ids, err := allOf(ctx, s, args[1:])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "MoveProjectResource", Params{"CompanyID": o.text("CompanyID"), "ProjectID": o.text("ProjectID"), "ResourceIDs": ids}, nil)
		return err
	}))
	return group("project", "Project groups", projects.listCommand(), projects.showCommand(), create, rename, move, remover(&projects, "DeleteProject"))
}

// remover deletes things of a kind that are gone at once.
func remover(k *kind, action string) *cobra.Command {
	return k.on(command("delete "+strings.ToUpper(k.name)+"...", "Delete them", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := k.find(ctx, s, ref)
			if err != nil {
				return err
			}
			_, err = s.Call(ctx, action, Params{k.id: o.text(k.id)}, nil)
			return err
		})
	}))
}

func roleCommand() *cobra.Command {
	permissions := []column{plain("Product", "Product"), plain("Kind", "ActionType"), plain("Action", "Name"), plain("What it does", "Remark")}
	flat := func(products []object) (out []object) {
		for _, p := range products {
			for _, one := range p.list("Permissions") {
				if one.text("IsPermission") == "1" {
					one["Product"] = p.text("ProductType")
					out = append(out, one)
				}
			}
		}
		return out
	}
	show := roles.on(command("show ROLE", "Show one with the actions that it lists", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := roles.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var got struct{ Info object }
		if _, err := s.Call(ctx, "GetRole", Params{"RoleID": o.text("RoleID")}, &got); err != nil {
			return err
		}
		if s.output == "json" {
			return s.json(got.Info)
		}
		if err := s.detail(got.Info, roles.columns); err != nil {
			return err
		}
		fmt.Fprintln(s.out)
		return s.show(flat(got.Info.list("RolePermissions")), permissions)
	}))
	actions := command("actions", "List the actions that a role can list", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var got struct{ Infos []object }
		if _, err := s.Call(ctx, "ListProductPermissions", nil, &got); err != nil {
			return err
		}
		return s.show(flat(got.Infos), permissions)
	})
	var remark string
	create := command("create NAME ACTION...", "Create one that lists the given actions, see role actions", cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		var made struct{ RoleID string }
		if _, err := s.Call(ctx, "CreateRole", Params{"Name": args[0], "Remark": remark, "Permission": strings.Join(args[1:], "-1,") + "-1"}, &made); err != nil {
			return err
		}
		o, err := roles.get(ctx, s, made.RoleID)
		if err != nil {
			return err
		}
		return s.detail(o, roles.columns)
	})
	create.Flags().StringVar(&remark, "remark", "", "free text")
	tick := func(use, short string, on int) *cobra.Command {
		return roles.on(command(use+" ROLE ACTION...", short, cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
			o, err := roles.find(ctx, s, args[0])
			if err != nil {
				return err
			}
			return each(args[1:], func(action string) error {
				_, err := s.Call(ctx, "UpdateRolePermission", Params{"RoleID": o.text("RoleID"), "Permission": action, "IsPermission": on}, nil)
				return err
			})
		}))
	}
	return group("role", "Roles: what accounts may do", roles.listCommand(), show, actions, create, tick("allow", "Add actions", 1), tick("deny", "Take actions away", 0),
		remover(&roles, "DeleteRole"))
}

func grantCommand() *cobra.Command {
	var in []string
	add := command("add MEMBER-ID ROLE...", "Give a sub-account roles, in the whole tenant or in project groups", cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		member, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return fmt.Errorf("%s is no member id", args[0])
		}
		p := Params{"MemberID": member}
		ids := []string{}
		for _, ref := range args[1:] {
			o, err := roles.find(ctx, s, ref)
			if err != nil {
				return err
			}
			ids = append(ids, o.text("RoleID"))
		}
		p["RoleIDs"] = ids
		groups := []string{}
		for _, ref := range in {
			o, err := projects.find(ctx, s, ref)
			if err != nil {
				return err
			}
			groups = append(groups, o.text("ProjectID"))
		}
		if len(groups) > 0 {
			p["ProjectIDs"] = groups
		}
		if _, err := s.Call(ctx, "GrantRole", p, nil); err != nil {
			return err
		}
		all, err := s.list(ctx, "ListRoleGrants", Params{"MemberID": member})
		if err != nil {
			return err
		}
		return s.show(all, grants.columns)
	})
	add.Flags().StringArrayVar(&in, "project", nil, "project group, id or name; may be repeated")
	projects.flag(add, "project")
	remove := command("remove GRANT-ID...", "Take grants away", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		_, err := s.Call(ctx, "RevokeRole", Params{"GrantIDs": args}, nil)
		return err
	})
	return group("grant", "Grants: which account has which role where", grants.listCommand(), add, remove)
}

func serviceCommand() *cobra.Command {
	columns := []column{plain("Service", "ProductType"), plain("Name", "Name"), plain("Category", "Category"), plain("Open", "Enable"), plain("Granted", "Authorized")}
	list := command("list", "List the services of the region", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var got struct{ Infos []object }
		if _, err := s.Call(ctx, "DescribeProduct", nil, &got); err != nil {
			return err
		}
		return s.show(got.Infos, columns)
	})
	tenants := command("tenants SERVICE", "List tenants and whether the service is open to them (administrators)", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		all, err := s.list(ctx, "ListProductTypeCompanys", Params{"ProductType": args[0]})
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("Tenant", "CompanyID"), plain("Name", "Name"), plain("E-mail", "Email"), plain("Open", "Enable"), plain("Resources", "ResourceCount")})
	})
	change := func(use, short, all, some string) *cobra.Command {
		var tenants []string
		cmd := command(use+" SERVICE", short, cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
			p, name := Params{"ProductType": args[0]}, all
			if len(tenants) > 0 {
				p["CompanyIDs"], name = tenants, some
			}
			_, err := s.Call(ctx, name, p, nil)
			return err
		})
		cmd.Flags().StringArrayVar(&tenants, "tenant", nil, "for this tenant only; may be repeated")
		return cmd
	}
	return group("service", "The service catalogue", list, tenants,
		change("enable", "Open a service (administrators)", "EnableProduct", "EnableCompanyProductType"),
		change("disable", "Close a service that nobody uses (administrators)", "DisableProduct", "DisableCompanyProductType"))
}

var applications = kind{
	name: "application", describe: "DescribeApplication", id: "ApplicationID", state: "State", prefix: "app-",
	columns: []column{plain("ID", "ApplicationID"), plain("Name", "Name"), plain("For", "ResourceType"), plain("State", "State"), plain("Waits at", "CurrentNode"),
		plain("By", "ApplicantEmail"), when("Sent", "CreateTime"), plain("Message", "Message")},
}

func applicationCommand() *cobra.Command {
	one := func(ctx context.Context, s *session, id string) (object, error) {
		all, err := s.list(ctx, "DescribeApplication", Params{"ApplicationID": id})
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("there is no application %s", id)
		}
		return all[0], nil
	}
	var todo bool
	list := command("list", "List requests for an approval", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, "DescribeApplication", Params{"Todo": todo})
		if err != nil {
			return err
		}
		return s.show(all, applications.columns)
	})
	list.Flags().BoolVar(&todo, "todo", false, "those that wait for you")
	show := applications.on(command("show APPLICATION-ID", "Show one with its steps", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := one(ctx, s, args[0])
		if err != nil {
			return err
		}
		if err := s.detail(o, append(applications.columns, plain("Reason", "Reason"), plain("Request", "Request"))); err != nil || s.output == "json" {
			return err
		}
		fmt.Fprintln(s.out)
		return s.show(o.list("Nodes"), []column{plain("Step", "Name"), plain("State", "NodeState"), plain("Handler", "HandlerEmail"), plain("Remark", "Remark")})
	}))
	answer := func(use, short, state string) *cobra.Command {
		var remark string
		cmd := applications.on(command(use+" APPLICATION-ID...", short, cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
			return each(args, func(id string) error {
				o, err := one(ctx, s, id)
				if err != nil {
					return err
				}
				for _, n := range o.list("Nodes") {
					if n.text("NodeState") == "Pending" {
						_, err := s.Call(ctx, "UpdateApplicationNode", Params{"ApplicationID": id, "NodeID": n.text("NodeID"), "NodeState": state, "Remark": remark}, nil)
						return err
					}
				}
				return fmt.Errorf("%s is %s", id, o.text("State"))
			})
		}))
		cmd.Flags().StringVar(&remark, "remark", "", "for the applicant")
		return cmd
	}
	return group("application", "Requests that wait for an approval", list, show,
		answer("approve", "Approve the step that waits", "Approved"), answer("reject", "Reject", "Rejected"))
}
