package cli_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/pquerna/otp/totp"
	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// typed runs a command with lines on its standard input.
func (m *terminal) typed(lines string, args ...string) (string, error) {
	m.t.Helper()
	root := &cobra.Command{Use: "lingyun", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cli.Commands()...)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SetIn(strings.NewReader(lines))
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	return out.String(), err
}

func TestAccountsFromTheCommandLine(t *testing.T) {
	m := open(t)
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	type_ := func(lines string, args ...string) string {
		t.Helper()
		out, err := m.typed(lines, args...)
		if err != nil {
			t.Fatalf("lingyun %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	if _, err := m.typed("wrong\n", "login", c.Admin.Email, "--endpoint", c.URL); err == nil {
		t.Error("a wrong password logs in")
	}
	type_(c.Admin.Password+"\n", "login", c.Admin.Email, "--endpoint", c.URL)
	type_("Secret-123\n", "tenant", "create", "t@example.com", "--name", "shop", "--change-password=false")
	if out := m.must("tenant", "list"); !strings.Contains(out, "shop") || !strings.Contains(out, "t@example.com") {
		t.Errorf("the list is\n%s", out)
	}
	m.must("tenant", "freeze", "t@example.com")
	if o := m.object("tenant", "show", "t@example.com"); o["Status"] != "FREEZE" {
		t.Errorf("the frozen tenant: %v", o)
	}
	m.must("tenant", "unfreeze", "t@example.com")

	type_("Secret-123\n", "login", "t@example.com", "--endpoint", c.URL, "--profile", "shop")
	t.Setenv("LINGYUN_PROFILE", "shop")
	type_("Secret-234\n", "account", "create", "clerk@example.com")
	if out := m.must("account", "list"); !strings.Contains(out, "clerk@example.com") {
		t.Errorf("the list is\n%s", out)
	}
	m.must("account", "freeze", "clerk@example.com")
	m.must("account", "delete", "clerk@example.com")
	type_("Secret-123\nSecret-345\n", "account", "password")
	pair := m.object("key", "create", "--name", "ci")
	id := pair["APIKeyID"].(string)
	m.must("key", "rotate", id, "--grace", "60")
	m.must("key", "disable", id)
	if out := m.must("key", "list"); !strings.Contains(out, "Disabled") || strings.Contains(out, pair["APIPrivateKey"].(string)) {
		t.Errorf("the keys are\n%s", out)
	}
	m.must("key", "delete", id)

	// With a second factor the login asks for it.
	secret := m.object("totp", "apply")["Secret"].(string)
	code := func() string {
		code, err := totp.GenerateCode(secret, c.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	m.must("totp", "bind", code())
	m.must("logout")
	if _, _, err := m.run("account", "list"); err == nil {
		t.Error("the profile works after logging out")
	}
	c.Clock.Advance(60e9)
	type_("Secret-345\n"+code()+"\n", "login", "t@example.com", "--endpoint", c.URL, "--profile", "shop")
	c.Clock.Advance(60e9)
	m.must("totp", "unbind", code())
	t.Setenv("LINGYUN_PROFILE", "")
	m.must("tenant", "delete", "t@example.com")
}
