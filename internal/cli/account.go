package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

var tenants = kind{name: "tenant", describe: "DescribeUser", id: "CompanyID", state: "Status", prefix: "2",
	columns: []column{plain("id", "CompanyID"), plain("name", "Name"), plain("e-mail", "Email"), plain("state", "Status"), plain("account", "MemberStatus"),
		plain("accounts", "MemberCount"), plain("balance", "Amount"), plain("regions", "Regions"), when("created", "CreateTime")}}

var accounts = kind{name: "account", describe: "DescribeMember", id: "MemberID", state: "Status", prefix: "2",
	columns: []column{plain("id", "MemberID"), plain("name", "MemberName"), plain("e-mail", "Email"), plain("tenant", "CompanyID"), plain("state", "Status"),
		plain("totp", "TOTPState"), when("last login", "LastLoginTime"), when("created", "CreateTime")}}

// person finds an account or tenant by id or e-mail.
func (k *kind) person(ctx context.Context, s *session, ref string) (object, error) {
	all, err := s.list(ctx, k.describe, Params{"Keyword": ref})
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if o.text(k.id) == ref || strings.EqualFold(o.text("Email"), ref) {
			return o, nil
		}
	}
	return nil, fmt.Errorf("there is no %s %s", k.name, ref)
}

// each makes a command that sends an action for every one that is named.
func (k *kind) eachCommand(use, short, action string) *cobra.Command {
	return command(use, short, cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := k.person(ctx, s, ref)
			if err != nil {
				return err
			}
			_, err = s.Call(ctx, action, Params{k.id: o.text(k.id)}, nil)
			return err
		})
	})
}

func (k *kind) showPerson() *cobra.Command {
	return command("show "+strings.ToUpper(k.name), "Show one, by id or e-mail", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := k.person(ctx, s, args[0])
		if err != nil {
			return err
		}
		return s.detail(o, k.columns)
	})
}

func tenantCommand() *cobra.Command {
	return group("tenant", "Tenants of the cloud (administrators)", tenants.listCommand(), tenants.showPerson(), tenantCreateCommand(),
		tenants.eachCommand("freeze TENANT...", "Freeze tenants with their accounts", "FreezeUser"),
		tenants.eachCommand("unfreeze TENANT...", "Unfreeze tenants", "UnFreezeUser"),
		tenants.eachCommand("delete TENANT...", "Delete tenants that have nothing left", "DeleteCompany"), tenantRegionsCommand(), allowCommand())
}

func tenantCreateCommand() *cobra.Command {
	var name string
	var regions []string
	var change bool
	var cmd *cobra.Command
	cmd = command("create EMAIL", "Create a tenant; its password is read from standard input", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		password, err := newPrompt(cmd).secret("Password of the new tenant: ")
		if err != nil {
			return err
		}
		var made struct{ CompanyID int64 }
		p := Params{"UserEmail": args[0], "PassWord": password, "Name": name, "Regions": regions}
		if change {
			p["ResetPassword"] = "Y"
		}
		if _, err := s.Call(ctx, "CreateUser", p, &made); err != nil {
			return err
		}
		o, err := tenants.person(ctx, s, fmt.Sprint(made.CompanyID))
		if err != nil {
			return err
		}
		return s.detail(o, tenants.columns)
	})
	cmd.Flags().StringVar(&name, "name", "", "name of the tenant (default: of the e-mail)")
	cmd.Flags().StringSliceVar(&regions, "regions", nil, "regions to grant (default: all)")
	cmd.Flags().BoolVar(&change, "change-password", true, "the password must be changed at the first login")
	return cmd
}

func tenantRegionsCommand() *cobra.Command {
	return command("regions TENANT REGION...", "Grant exactly these regions", cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		o, err := tenants.person(ctx, s, args[0])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "UpdateCompanyRegion", Params{"CompanyID": o.text("CompanyID"), "Regions": args[1:]}, nil)
		return err
	})
}

func allowCommand() *cobra.Command {
	var force bool
	cmd := command("allow TENANT [NETWORK...]", "Let a tenant's accounts be used from these addresses and networks only; none: from anywhere", cobra.MinimumNArgs(1),
		func(ctx context.Context, s *session, args []string) error {
			_, err := s.Call(ctx, "UpdateLoginWhitelist", Params{"CompanyID": args[0], "Whitelist": strings.Join(args[1:], ","), "Force": force}, nil)
			return err
		})
	cmd.Flags().BoolVar(&force, "force", false, "also when it locks you out")
	return cmd
}

func accountCommand() *cobra.Command {
	return group("account", "Accounts of a tenant", accounts.listCommand(), accounts.showPerson(), accountCreateCommand(),
		accounts.eachCommand("freeze ACCOUNT...", "Freeze accounts", "FreezeSubMember"),
		accounts.eachCommand("unfreeze ACCOUNT...", "Unfreeze accounts", "UnFreezeSubMember"),
		accounts.eachCommand("delete ACCOUNT...", "Delete sub-accounts", "DeleteMember"), accountPasswordCommand())
}

func accountCreateCommand() *cobra.Command {
	var name string
	var roles, projects []string
	var change bool
	var cmd *cobra.Command
	cmd = command("create EMAIL", "Create a sub-account; its password is read from standard input", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		password, err := newPrompt(cmd).secret("Password of the new account: ")
		if err != nil {
			return err
		}
		if name == "" {
			name, _, _ = strings.Cut(args[0], "@")
		}
		p := Params{"MemberEmail": args[0], "MemberName": name, "Password": password, "RoleIDs": roles, "ProjectIDs": projects}
		if change {
			p["ResetPassword"] = "Y"
		}
		var made struct{ MemberID int64 }
		if _, err := s.Call(ctx, "CreateSubMember", p, &made); err != nil {
			return err
		}
		o, err := accounts.person(ctx, s, fmt.Sprint(made.MemberID))
		if err != nil {
			return err
		}
		return s.detail(o, accounts.columns)
	})
	cmd.Flags().StringVar(&name, "name", "", "name (default: of the e-mail)")
	cmd.Flags().StringSliceVar(&roles, "roles", nil, "ids of roles to grant")
	cmd.Flags().StringSliceVar(&projects, "projects", nil, "project groups of the grant (default: the whole tenant)")
	cmd.Flags().BoolVar(&change, "change-password", true, "the password must be changed at the first login")
	return cmd
}

func accountPasswordCommand() *cobra.Command {
	var cmd *cobra.Command
	cmd = command("password [ACCOUNT]", "Change the own password; an administrator resets that of an account", cobra.MaximumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		ask := newPrompt(cmd)
		if len(args) == 1 {
			o, err := accounts.person(ctx, s, args[0])
			if err != nil {
				return err
			}
			password, err := ask.secret("New password: ")
			if err != nil {
				return err
			}
			_, err = s.Call(ctx, "ChangeMemberPassword", Params{"SpecMemberID": o.text("MemberID"), "Password": password, "ResetPassword": true}, nil)
			return err
		}
		old, err := ask.secret("Password: ")
		if err != nil {
			return err
		}
		fresh, err := ask.secret("New password: ")
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "ChangePassword", Params{"OldPassword": old, "NewPassword": fresh}, nil)
		return err
	})
	return cmd
}

var keys = kind{name: "key", describe: "DescribeAPIKey", id: "APIKeyID", state: "State", prefix: "key-",
	columns: []column{plain("id", "APIKeyID"), plain("name", "Name"), plain("public key", "APIPublicKey"), plain("state", "State"), plain("default", "IsDefault"),
		when("expires", "ExpireTime"), when("last use", "LastUseTime"), plain("from", "LastUseIP")}}

// pairColumns are shown once, when a pair is made.
var pairColumns = []column{plain("id", "APIKeyID"), plain("public key", "APIPublicKey"), plain("private key", "APIPrivateKey")}

func keyCommand() *cobra.Command {
	list := command("list", "List them, without private parts", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, keys.describe, nil)
		if err != nil {
			return err
		}
		return s.show(all, keys.columns)
	})
	var name string
	create := command("create", "Make a key; its private part is shown once", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var pair object
		if _, err := s.Call(ctx, "CreateAPIKey", Params{"Name": name}, &pair); err != nil {
			return err
		}
		return s.detail(pair, pairColumns)
	})
	create.Flags().StringVar(&name, "name", "", "for people")
	var grace int
	rotate := command("rotate KEY", "Put a new pair in a key's place; its private part is shown once", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		var pair object
		if _, err := s.Call(ctx, "RotateAPIKey", Params{"APIKeyID": args[0], "GraceSeconds": grace}, &pair); err != nil {
			return err
		}
		return s.detail(pair, pairColumns)
	})
	rotate.Flags().IntVar(&grace, "grace", 0, "seconds for which the old pair is accepted, too")
	on := func(use, short, action string) *cobra.Command {
		return keys.on(command(use+" KEY", short, cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
			_, err := s.Call(ctx, action, Params{"APIKeyID": args[0]}, nil)
			return err
		}))
	}
	return group("key", "API keys of the own account", list, create, rotate, on("enable", "Let a key sign again", "EnableAPIKey"),
		on("disable", "Refuse a key", "DisableAPIKey"), on("delete", "Delete a key that is not the default one", "DeleteAPIKey"))
}

func totpCommand() *cobra.Command {
	columns := []column{plain("state", "State"), plain("kind", "TokenType"), plain("serial", "SerialNumber"), when("bound", "BindTime")}
	show := command("show", "Show the state of the own binding", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var answer struct{ Info object }
		if _, err := s.Call(ctx, "DescribeTOTP", nil, &answer); err != nil {
			return err
		}
		return s.detail(answer.Info, columns)
	})
	apply := command("apply", "Get a secret for an authenticator app, then bind it", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var answer object
		if _, err := s.Call(ctx, "ApplyTOTP", nil, &answer); err != nil {
			return err
		}
		return s.detail(answer, []column{plain("secret", "Secret"), plain("link", "URL"), when("bind until", "ExpireTime")})
	})
	with := func(use, short, action string) *cobra.Command {
		return command(use+" CODE", short, cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
			_, err := s.Call(ctx, action, Params{"TOTPCode": args[0]}, nil)
			return err
		})
	}
	return group("totp", "One-time passwords as the second factor of logins", show, apply, with("bind", "Bind with a first code", "BindTOTP"),
		with("unbind", "Remove the binding", "UnbindTOTP"))
}
