package identity_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/pow"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// configure sets configuration items.
func configure(t *testing.T, c *controllertest.Cloud, items map[string]string) {
	t.Helper()
	for key, value := range items {
		c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": key, "ConfigValue": value})
	}
}

// door is a client without a credential that may log in.
func door(c *controllertest.Cloud) *controllertest.Client {
	d := c.Anybody()
	d.Header = controllertest.Plain
	return d
}

// solved returns p with a fresh proof of work.
func solved(t *testing.T, c *controllertest.Cloud, p P) P {
	t.Helper()
	r := c.Anybody().Must(t, "GetLoginChallenge", nil)
	proof, err := pow.Solve(t.Context(), r.String("Challenge"), r.Int("Difficulty"))
	if err != nil {
		t.Fatal(err)
	}
	q := P{"Proof": proof}
	for k, v := range p {
		q[k] = v
	}
	return q
}

func TestLogin(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant := c.NewTenant(t)
		d := door(c)
		// One answer for an unknown account and a wrong password, whatever the letters of the e-mail.
		known := d.Refuse(t, retcode.WrongPassword, "LoginByPassword", controllertest.Login(tenant.Email, "Wrong-123"))
		unknown := d.Refuse(t, retcode.WrongPassword, "LoginByPassword", controllertest.Login("nobody@example.com", "Wrong-123"))
		if known.Message != unknown.Message {
			t.Errorf("%q for a known account, %q for an unknown one", known.Message, unknown.Message)
		}
		s := c.Session(t, strings.ToUpper(tenant.Email), tenant.Password)
		if s.Company != tenant.Company || s.Account != tenant.Account {
			t.Errorf("logged in as %d of %d", s.Account, s.Company)
		}
		if n := s.Must(t, "DescribeVPC", nil).Int("TotalCount"); n != 1 {
			t.Errorf("the session sees %d VPCs", n)
		}
		// The token is nowhere in the database.
		var found int
		if err := db.Reader().NewRaw(`SELECT count(*) FROM session WHERE id = ?`, s.Token).Scan(t.Context(), &found); err != nil || found != 0 {
			t.Errorf("the token is stored in the clear (%v)", err)
		}
		// Every attempt is in the log, the wrong ones for the tenant to see.
		var codes []int
		now := time.Now().Unix()
		for _, e := range tenant.Must(t, "DescribeOPLogs", P{"BeginTime": now - 3600, "EndTime": now + 3600, "Keyword": "LoginByPassword"}).Infos() {
			codes = append(codes, e.Int("RetCode"))
		}
		if len(codes) != 2 || codes[0] != 0 || codes[1] != int(retcode.WrongPassword) {
			t.Errorf("the tenant's log has logins with codes %v", codes)
		}
		s.Must(t, "LogoutToken", nil)
		s.Refuse(t, retcode.SSOTokenInvalid, "DescribeVPC", nil)
		tenant.Refuse(t, retcode.MissingSSOToken, "LogoutToken", nil)
	})
}

func TestLoginsThatAreNotLookedAt(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	tenant := c.NewTenant(t)
	p := controllertest.Login(tenant.Email, tenant.Password)
	c.Anybody().Refuse(t, retcode.InvalidParameterFormat, "LoginByPassword", p) // no X-Auth-Method
	door(c).Refuse(t, retcode.InvalidParameterFormat, "LoginByPassword", P{"Email": tenant.Email, "Password": "-not base64-"})
	door(c).Refuse(t, retcode.OAuthClientNotFound, "LoginByPassword", P{"Email": tenant.Email, "Password": p["Password"], "ClientID": "unknown"})
	c.Anybody().Refuse(t, retcode.MissingSSOToken, "DescribeVPC", P{"ssotoken": ""})
	noReferer := *c.Session(t, tenant.Email, tenant.Password)
	noReferer.Header = map[string]string{"Referer": ""}
	noReferer.Refuse(t, retcode.MissingReferer, "DescribeVPC", nil)
	for _, k := range []struct {
		change string
		code   retcode.Code
	}{
		{`UPDATE account SET state = 'FREEZE' WHERE email = ?`, retcode.AccountFrozen},
		{`UPDATE account SET state = 'LOCKED' WHERE email = ?`, retcode.AccountNotActivated},
		{`UPDATE tenant SET state = 'FREEZE' WHERE id = (SELECT company FROM account WHERE email = ?)`, retcode.TenantFrozen},
	} {
		broken := c.NewTenant(t)
		exec(t, c.DB, k.change, broken.Email)
		// Only who knows the password learns the state.
		door(c).Refuse(t, retcode.WrongPassword, "LoginByPassword", controllertest.Login(broken.Email, "Wrong-123"))
		door(c).Refuse(t, k.code, "LoginByPassword", controllertest.Login(broken.Email, broken.Password))
	}
}

func TestSessionsEnd(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant := c.NewTenant(t)
		idle := c.Session(t, tenant.Email, tenant.Password)
		busy := c.Session(t, tenant.Email, tenant.Password)
		for range 3 {
			c.Clock.Advance(20 * time.Minute)
			busy.Must(t, "DescribeVPC", nil)
		}
		idle.Refuse(t, retcode.SSOTokenInvalid, "DescribeVPC", nil)
		// A restart forgets no session, and a busy one ends after half a day.
		c.Identity.Forget()
		for range 32 {
			c.Clock.Advance(20 * time.Minute)
			busy.Must(t, "DescribeVPC", nil)
		}
		c.Clock.Advance(20 * time.Minute)
		busy.Refuse(t, retcode.SSOTokenInvalid, "DescribeVPC", nil)

		configure(t, c, map[string]string{"ConcurrentLogin": "false"})
		first := c.Session(t, tenant.Email, tenant.Password)
		second := c.Session(t, tenant.Email, tenant.Password)
		first.Refuse(t, retcode.SSOTokenInvalid, "DescribeVPC", nil)
		second.Must(t, "DescribeVPC", nil)

		// What ran out is swept.
		c.Clock.Advance(time.Hour)
		if err := c.Identity.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
		var left int
		if err := db.Reader().NewRaw(`SELECT count(*) FROM session`).Scan(t.Context(), &left); err != nil || left != 0 {
			t.Errorf("%d sessions left, %v", left, err)
		}
	})
}

// from is a client without a credential that a proxy speaks for.
func from(c *controllertest.Cloud, ip string) *controllertest.Client {
	d := c.Anybody()
	d.Header = map[string]string{"X-Auth-Method": "plain", "X-Forwarded-For": ip, "X-Forwarded-Proto": "https"}
	return d
}

// behindProxy has the cloud believe what this machine says of clients.
func behindProxy(cfg *controller.Config) {
	cfg.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

func TestGuessing(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1, Configure: behindProxy})
	tenant := c.NewTenant(t)
	d := from(c, "192.0.2.1")
	wrong, right := controllertest.Login(tenant.Email, "Wrong-123"), controllertest.Login(tenant.Email, tenant.Password)
	for range 5 {
		d.Refuse(t, retcode.WrongPassword, "LoginByPassword", wrong)
	}
	// From here on a guess costs work, and a solved puzzle serves once.
	d.Refuse(t, retcode.TooManyRequests, "LoginByPassword", wrong)
	d.Refuse(t, retcode.TooManyRequests, "LoginByPassword", right)
	used := solved(t, c, wrong)
	d.Refuse(t, retcode.WrongPassword, "LoginByPassword", used)
	d.Refuse(t, retcode.TooManyRequests, "LoginByPassword", used)
	made := solved(t, c, wrong)
	made["Proof"] = "x" + made["Proof"].(string)
	d.Refuse(t, retcode.TooManyRequests, "LoginByPassword", made)
	d.Must(t, "LoginByPassword", solved(t, c, right))
	// Who knew the password need not solve any more.
	d.Must(t, "LoginByPassword", right)
	// Accounts that do not exist are guarded the same.
	d = from(c, "192.0.2.2")
	for i := range 6 {
		code := retcode.WrongPassword
		if i == 5 {
			code = retcode.TooManyRequests
		}
		d.Refuse(t, code, "LoginByPassword", controllertest.Login("nobody@example.com", "Wrong-123"))
	}
	// From the owner's usual place others' guesses are not felt.
	for range 6 {
		from(c, "192.0.2.3").Call(t, "LoginByPassword", wrong)
	}
	from(c, "192.0.2.3").Refuse(t, retcode.TooManyRequests, "LoginByPassword", right)
	from(c, "192.0.2.1").Must(t, "LoginByPassword", right)
	// Passwords are not taken in the clear.
	clear := from(c, "192.0.2.4")
	clear.Header["X-Forwarded-Proto"] = "http"
	clear.Refuse(t, retcode.InvalidParameter, "LoginByPassword", right)
	// An address that fails everywhere is refused without work, and at last with it.
	refused := 0
	for range 40 {
		if r := d.Call(t, "LoginByPassword", solved(t, c, controllertest.Login("other@example.com", "Wrong-123"))); r.Code == retcode.TooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Error("forty guesses with proofs from one address went through")
	}
}

func TestSixWrongPasswordsFreeze(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		configure(t, c, map[string]string{"FreezeAfterFailures": "true"})
		tenant := c.NewTenant(t)
		session := c.Session(t, tenant.Email, tenant.Password)
		for _, email := range []string{tenant.Email, "nobody@example.com"} {
			for range 6 {
				door(c).Refuse(t, retcode.WrongPassword, "LoginByPassword", solved(t, c, controllertest.Login(email, "Wrong-123")))
			}
			// The seventh is not looked at, nor does it tell whether there is such an account.
			door(c).Refuse(t, retcode.AccountFrozen, "LoginByPassword", solved(t, c, controllertest.Login(email, tenant.Password)))
		}
		tenant.Refuse(t, retcode.AccountFrozen, "DescribeVPC", nil)
		session.Refuse(t, retcode.AccountFrozen, "DescribeVPC", nil)
		// An administrator ends it, and the counting with it.
		c.Admin.Must(t, "UnFreezeSubMember", P{"MemberID": tenant.Account})
		tenant.Must(t, "DescribeVPC", nil)
		door(c).Refuse(t, retcode.WrongPassword, "LoginByPassword", solved(t, c, controllertest.Login(tenant.Email, "Wrong-123")))
		door(c).Must(t, "LoginByPassword", solved(t, c, controllertest.Login(tenant.Email, tenant.Password)))
	})
}

func TestPasswordsThatMustChange(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant := c.NewTenant(t)
		change := func(code retcode.Code, client *controllertest.Client, old, fresh string, more P) {
			t.Helper()
			p := P{"OldPassword": old, "NewPassword": fresh}
			for k, v := range more {
				p[k] = v
			}
			client.Refuse(t, code, "ChangePassword", p)
		}
		withEmail := P{"Email": tenant.Email}
		exec(t, db, `UPDATE account SET must_change = TRUE WHERE email = ?`, tenant.Email)
		door(c).Refuse(t, retcode.PasswordInitRequired, "LoginByPassword", controllertest.Login(tenant.Email, tenant.Password))
		change(retcode.WrongPassword, c.Anybody(), "Wrong-123", "Fresh-1234", withEmail)
		change(retcode.MissingSSOToken, c.Anybody(), tenant.Password, "Fresh-1234", nil)
		change(retcode.PasswordLengthInvalid, c.Anybody(), tenant.Password, "Aa1", withEmail)
		change(retcode.PasswordLengthInvalid, c.Anybody(), tenant.Password, strings.Repeat("Aa1", 11), withEmail)
		change(retcode.PasswordComplexityInvalid, c.Anybody(), tenant.Password, "alllower", withEmail)
		change(retcode.PasswordComplexityInvalid, c.Anybody(), tenant.Password, "with space 1", withEmail)
		change(retcode.InvalidParameter, c.Anybody(), tenant.Password, tenant.Password, withEmail)
		change(retcode.OK, c.Anybody(), tenant.Password, "Fresh-1234", withEmail)
		one, two := c.Session(t, tenant.Email, "Fresh-1234"), c.Session(t, tenant.Email, "Fresh-1234")
		// With a session the old password is asked for as well; the other sessions end.
		change(retcode.WrongOldPassword, one, "Wrong-123", "Fresh-2345", nil)
		change(retcode.OK, one, "Fresh-1234", "Fresh-2345", nil)
		one.Must(t, "DescribeVPC", nil)
		two.Refuse(t, retcode.SSOTokenInvalid, "DescribeVPC", nil)

		c.Clock.Advance(91 * 24 * time.Hour)
		door(c).Refuse(t, retcode.PasswordExpired, "LoginByPassword", controllertest.Login(tenant.Email, "Fresh-2345"))
		configure(t, c, map[string]string{"ForcePasswordChange": "false"})
		if r := door(c).Must(t, "LoginByPassword", controllertest.Login(tenant.Email, "Fresh-2345")); r.String("MustChangePassword") != "true" {
			t.Errorf("no hint at an expired password: %v", r.Body)
		}
		// Today's rule may be stricter than that of the day it was set.
		configure(t, c, map[string]string{"PasswordMinLength": "20", "ForceWeakPasswordChange": "true"})
		door(c).Refuse(t, retcode.PasswordInitRequired, "LoginByPassword", controllertest.Login(tenant.Email, "Fresh-2345"))
	})
}

func TestLoginWithoutADatabase(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	session := c.Session(t, c.Demo.Email, c.Demo.Password)
	session.Must(t, "DescribeAPIKey", nil)
	c.DB.SetDown(true)
	defer c.DB.SetDown(false)
	door(c).Refuse(t, retcode.SystemError, "LoginByPassword", controllertest.Login(c.Demo.Email, c.Demo.Password))
	session.Refuse(t, retcode.InternalError, "DescribeAPIKey", nil)
}
