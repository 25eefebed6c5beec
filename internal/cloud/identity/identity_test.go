package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

func exec(t *testing.T, db *database.DB, query string, args ...any) {
	t.Helper()
	if err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewRaw(query, args...).Exec(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsOfTheFirstStart(t *testing.T) {
	db, dir := dbtest.SQLite(t), t.TempDir()
	first := controllertest.Start(t, controllertest.Options{DB: db, Dir: dir})
	files := map[string][]byte{}
	for _, name := range []string{"admin.json", "demo.json"} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = text
		var fields map[string]string
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"Endpoint", "Region", "Email", "Password", "PublicKey", "PrivateKey"} {
			if fields[f] == "" {
				t.Errorf("%s lacks %s", name, f)
			}
		}
		if len(fields) != 6 || fields["Region"] != "cn" || !strings.HasSuffix(fields["Endpoint"], "/api") {
			t.Errorf("%s: %v", name, fields)
		}
		// Whoever reads the database gets neither.
		for table, column := range map[string]string{"key_pair": "private_key", "account": "password_hash"} {
			var values []string
			if err := db.Reader().NewRaw(`SELECT `+column+` FROM `+table).Scan(t.Context(), &values); err != nil {
				t.Fatal(err)
			}
			for _, v := range values {
				if strings.Contains(v, fields["PrivateKey"]) || strings.Contains(v, fields["Password"]) {
					t.Errorf("%s.%s holds a secret in the clear", table, column)
				}
			}
		}
	}
	first.Stop(t)
	again := controllertest.Start(t, controllertest.Options{DB: db, Dir: dir})
	again.Admin.Must(t, "DescribeRegion", nil)
	again.Demo.Must(t, "DescribeRegion", nil)
	for name, text := range files {
		now, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(now) != string(text) {
			t.Errorf("the second start changed %s (%v)", name, err)
		}
	}
}

func TestActingForATenant(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		other := c.NewTenant(t)
		vpcs := func(client *controllertest.Client, p P) int {
			t.Helper()
			return client.Must(t, "DescribeVPC", p).Int("TotalCount")
		}
		// Each of the three tenants has its default VPC; an administrator sees all, or those of one.
		if n := vpcs(c.Demo, nil); n != 1 {
			t.Errorf("the demo tenant sees %d VPCs", n)
		}
		if n := vpcs(c.Admin, nil); n != 3 {
			t.Errorf("the administrator sees %d VPCs", n)
		}
		if n := vpcs(c.Admin, P{"CompanyID": other.Company}); n != 1 {
			t.Errorf("for one tenant the administrator sees %d VPCs", n)
		}
		// A tenant may name itself and nobody else.
		vpcs(other, P{"CompanyID": other.Company})
		other.Refuse(t, retcode.AdminOnly, "DescribeVPC", P{"CompanyID": c.Demo.Company})
		other.Refuse(t, retcode.AdminOnly, "CreateHostJoinToken", nil)
		c.Admin.Refuse(t, retcode.TenantNotFound, "DescribeVPC", P{"CompanyID": 4711})
		// What an administrator creates for a tenant is the tenant's.
		sg := c.Admin.Must(t, "CreateSecurityGroup", P{"CompanyID": other.Company, "Name": "made for you", "Rule": []string{"TCP|80|0.0.0.0/0|ACCEPT|HIGH|1"}}).String("SGID")
		found := false
		for _, i := range other.Must(t, "DescribeSecurityGroup", nil).Infos() {
			found = found || i.String("SGID") == sg
		}
		if !found {
			t.Error("the tenant does not see the group made for it")
		}
		for _, i := range c.Demo.Must(t, "DescribeSecurityGroup", nil).Infos() {
			if i.String("SGID") == sg {
				t.Error("another tenant sees the group")
			}
		}
	})
}

func TestKeysThatMayNotCall(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	for _, k := range []struct {
		break_ string
		by     func(*controllertest.Client) any
		code   retcode.Code
	}{
		{`UPDATE account SET state = 'FREEZE' WHERE email = ?`, func(c *controllertest.Client) any { return c.Email }, retcode.AccountFrozen},
		{`UPDATE tenant SET state = 'FREEZE' WHERE id = ?`, func(c *controllertest.Client) any { return c.Company }, retcode.TenantFrozen},
		{`UPDATE key_pair SET disabled = TRUE WHERE public_key = ?`, func(c *controllertest.Client) any { return c.PublicKey }, retcode.InvalidSignature},
	} {
		tenant := c.NewTenant(t)
		exec(t, c.DB, k.break_, k.by(tenant))
		tenant.Refuse(t, k.code, "DescribeRegion", nil)
	}
	stranger := *c.Demo
	stranger.PublicKey = "unknown"
	stranger.Refuse(t, retcode.InvalidSignature, "DescribeRegion", nil)
	thief := *c.Demo
	thief.PrivateKey = "guessed"
	thief.Refuse(t, retcode.InvalidSignature, "DescribeRegion", nil)
}

func TestCreateTenant(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		ctx := t.Context()
		for name, n := range map[string]struct {
			identity.NewTenant
			code retcode.Code
		}{
			"the e-mail is taken":         {identity.NewTenant{Name: "x", Email: c.Demo.Email}, retcode.TenantEmailExists},
			"in other letters":            {identity.NewTenant{Name: "x", Email: strings.ToUpper(c.Demo.Email)}, retcode.TenantEmailExists},
			"no e-mail":                   {identity.NewTenant{Name: "x", Email: "not an address"}, retcode.InvalidEmail},
			"an e-mail with a name":       {identity.NewTenant{Name: "x", Email: "A <a@example.com>"}, retcode.InvalidEmail},
			"no name":                     {identity.NewTenant{Email: "a@example.com"}, retcode.InvalidParameter},
			"a name of fifty-one letters": {identity.NewTenant{Name: strings.Repeat("长", 51), Email: "a@example.com"}, retcode.InvalidParameter},
		} {
			n.Region = "cn"
			if _, err := c.Identity.CreateTenant(ctx, n.NewTenant); retcode.Of(err) != n.code {
				t.Errorf("%s: %v, want %d", name, err, n.code)
			}
		}

		// Ids of tenants created at the same time differ.
		var group sync.WaitGroup
		var mu sync.Mutex
		ids := map[int64]bool{}
		for i := range 8 {
			group.Go(func() {
				k, err := c.Identity.CreateTenant(ctx, identity.NewTenant{Name: "many", Email: string(rune('a'+i)) + "@example.com", Region: "cn"})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids[k.Company] = true
				mu.Unlock()
			})
		}
		group.Wait()
		if len(ids) != 8 {
			t.Errorf("%d ids for 8 tenants", len(ids))
		}
		emails, err := c.Identity.Emails(ctx, []int64{c.Demo.Company, c.Admin.Company, 4711})
		if err != nil || len(emails) != 2 || emails[c.Demo.Company] != c.Demo.Email {
			t.Errorf("e-mails %v, %v", emails, err)
		}

		// A tenant that cannot be furnished does not exist.
		broken := errors.New("no furniture")
		c.Identity.OnTenant(func(context.Context, bun.Tx, int64, string) error { return broken })
		if _, err := c.Identity.CreateTenant(ctx, identity.NewTenant{Name: "x", Email: "last@example.com", Region: "cn"}); !errors.Is(err, broken) {
			t.Errorf("a hook's failure is answered as %v", err)
		}
		var left int
		if err := db.Reader().NewRaw(`SELECT count(*) FROM account WHERE email = 'last@example.com'`).Scan(ctx, &left); err != nil || left != 0 {
			t.Errorf("%d accounts left of a tenant that failed, %v", left, err)
		}
	})
}
