package main

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestResetPassword works on the database of a running controller, as on a server whose administrator is locked out.
func TestResetPassword(t *testing.T) {
	o := dbtest.SQLiteOptions(t)
	db, err := database.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
	s := c.Session(t, c.Admin.Email, c.Admin.Password)
	c.Admin.Must(t, "UpdateAdminWhitelist", controllertest.P{"Whitelist": "192.0.2.1", "Force": true})
	var out bytes.Buffer
	cmd := resetPasswordCommand()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--data", o.Dir, "--clear-allow-list"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	password := regexp.MustCompile(`the password (\S+)`).FindStringSubmatch(out.String())
	if password == nil {
		t.Fatalf("no password in %q", out.String())
	}
	c.Identity.Forget() // a running controller believes what it knows for ten seconds
	s.Refuse(t, retcode.SSOTokenInvalid, "DescribeVPC", nil)
	door := c.Anybody()
	door.Header = controllertest.Plain
	door.Refuse(t, retcode.PasswordInitRequired, "LoginByPassword", controllertest.Login(c.Admin.Email, password[1]))
	door.Must(t, "ChangePassword", controllertest.P{"Email": c.Admin.Email, "OldPassword": password[1], "NewPassword": "Fresh-1234"})
	c.Session(t, c.Admin.Email, "Fresh-1234")
	cmd = resetPasswordCommand()
	cmd.SetArgs([]string{"nobody@example.com", "--data", o.Dir})
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	if err := cmd.ExecuteContext(t.Context()); err == nil {
		t.Error("an account that does not exist got a password")
	}
}
