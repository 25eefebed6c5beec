package identity_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/mail/mailtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// mailing has a cloud send its mail to a server of the test.
func mailing(t *testing.T, c *controllertest.Cloud) *mailtest.Server {
	t.Helper()
	server := mailtest.Start(t, nil, "")
	configure(t, c, map[string]string{"MailHost": server.Host, "MailPort": fmt.Sprint(server.Port), "MailSSL": "false", "MailSender": "cloud@example.com"})
	return server
}

var (
	sixDigits = regexp.MustCompile(`\b[0-9]{6}\b`)
	linkToken = regexp.MustCompile(`#token=(\S+)`)
)

func codeIn(t *testing.T, m mailtest.Mail) string {
	t.Helper()
	code := sixDigits.FindString(m.Text)
	if code == "" {
		t.Fatalf("no code in %q", m.Text)
	}
	return code
}

func tokenIn(t *testing.T, m mailtest.Mail) string {
	t.Helper()
	found := linkToken.FindStringSubmatch(m.Text)
	if found == nil {
		t.Fatalf("no link in %q", m.Text)
	}
	return found[1]
}

func TestRegistration(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		anybody := c.Anybody()
		p := P{"Name": "上海公司 Ltd", "Email": "new@example.com", "Password": "Secret-123", "Language": "en"}
		anybody.Refuse(t, retcode.ActionForbidden, "RegisterUser", p)
		configure(t, c, map[string]string{"SelfRegistration": "true"})
		anybody.Refuse(t, retcode.InvalidParameter, "RegisterUser", p) // a space is no letter
		p["Name"] = "上海公司Ltd"
		server := mailing(t, c)
		with := func(name, value string) P {
			q := P{}
			for k, v := range p {
				q[k] = v
			}
			q[name] = value
			return q
		}
		anybody.Refuse(t, retcode.InvalidEmail, "RegisterUser", with("Email", "no address"))
		anybody.Refuse(t, retcode.InvalidEmail, "RegisterUser", with("Email", "unknown@example.com"))
		anybody.Refuse(t, retcode.PasswordLengthInvalid, "RegisterUser", with("Password", "Aa1"))
		anybody.Refuse(t, retcode.TenantEmailExists, "RegisterUser", solved(t, c, with("Email", c.Demo.Email)))
		r := anybody.Must(t, "RegisterUser", solved(t, c, p))
		m := server.Wait(t, "new@example.com", 1)
		if !strings.Contains(m.Subject, "Activate") {
			t.Errorf("the mail is %+v", m)
		}
		// Until the link is followed nobody enters.
		door(c).Refuse(t, retcode.AccountNotActivated, "LoginByPassword", controllertest.Login("new@example.com", "Secret-123"))
		keys := c.Admin.Must(t, "DescribeUser", P{"CompanyIDs": []string{r.String("CompanyID")}}).Infos()[0]
		if keys.String("MemberStatus") != "LOCKED" || keys.String("Name") != "上海公司Ltd" {
			t.Errorf("the new tenant: %v", keys)
		}
		locked := &controllertest.Client{URL: c.URL, PublicKey: keys.String("PublicKey"), PrivateKey: keys.String("PrivateKey")}
		locked.Refuse(t, retcode.AccountNotActivated, "DescribeVPC", nil)
		for action, q := range map[string]P{"UpdateMemberName": {"MemberID": r.Int("MemberID"), "Name": "x"}, "FreezeSubMember": {"MemberID": r.Int("MemberID")}} {
			c.Admin.Refuse(t, retcode.InvalidAccountState, action, q)
		}
		// Another mail, in place of the first; addresses that wait for none are answered the same.
		anybody.Must(t, "ResendActivationMail", P{"Email": "new@example.com"})
		anybody.Refuse(t, retcode.VerifyCodeTooFrequent, "ResendActivationMail", P{"Email": "new@example.com"})
		anybody.Must(t, "ResendActivationMail", P{"Email": "nobody@example.com"})
		anybody.Refuse(t, retcode.VerifyCodeTooFrequent, "ResendActivationMail", P{"Email": "nobody@example.com"})
		again := server.Wait(t, "new@example.com", 2)
		anybody.Refuse(t, retcode.VerifyCodeExpired, "ActivateUser", P{"Token": tokenIn(t, m)})
		anybody.Refuse(t, retcode.VerifyCodeExpired, "ActivateUser", P{"Token": "nonsense"})
		anybody.Must(t, "ActivateUser", P{"Token": tokenIn(t, again)})
		anybody.Refuse(t, retcode.VerifyCodeExpired, "ActivateUser", P{"Token": tokenIn(t, again)})
		session := c.Session(t, "new@example.com", "Secret-123")
		if n := session.Must(t, "DescribeVPC", nil).Int("TotalCount"); n != 1 {
			t.Errorf("a registered tenant has %d VPCs", n)
		}
		// An administrator can, instead of the mail.
		other := anybody.Must(t, "RegisterUser", solved(t, c, with("Email", "other@example.com")))
		anybody.Refuse(t, retcode.MissingPublicKey, "ActivateUser", P{"CompanyID": other.Int("CompanyID")})
		c.Demo.Refuse(t, retcode.AdminOnly, "ActivateUser", P{"CompanyID": other.Int("CompanyID")})
		c.Admin.Must(t, "ActivateUser", P{"CompanyID": other.Int("CompanyID")})
		c.Admin.Refuse(t, retcode.AccountAlreadyEnabled, "ActivateUser", P{"CompanyID": other.Int("CompanyID")})

		// With codes asked for, who does not read the mail learns nothing.
		configure(t, c, map[string]string{"MailedCodes": "true"})
		third := with("Email", "third@example.com")
		anybody.Refuse(t, retcode.VerifyCodeExpired, "RegisterUser", solved(t, c, third))
		anybody.Must(t, "SendVerificationCode", P{"Purpose": "Register", "Email": "third@example.com"})
		code := codeIn(t, server.Wait(t, "third@example.com", 1))
		third["VerifyCode"] = "x" + code[1:]
		anybody.Refuse(t, retcode.AuthCodeVerifyFailed, "RegisterUser", solved(t, c, third))
		third["VerifyCode"] = code
		anybody.Must(t, "RegisterUser", solved(t, c, third))
		anybody.Must(t, "SendVerificationCode", P{"Purpose": "Register", "Email": c.Demo.Email})
		if m := server.Wait(t, c.Demo.Email, 1); sixDigits.MatchString(m.Text) {
			t.Errorf("an address with an account is sent a code: %q", m.Text)
		}
	})
}

func TestPasswordRecovery(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant, anybody := c.NewTenant(t), c.Anybody()
		anybody.Refuse(t, retcode.InvalidEmail, "ApplyPasswordReset", P{"Email": tenant.Email}) // no mail server
		server := mailing(t, c)
		old := c.Session(t, tenant.Email, tenant.Password)
		// Known or not, the answers are the same.
		for _, email := range []string{tenant.Email, "nobody@example.com"} {
			anybody.Must(t, "ApplyPasswordReset", P{"Email": email})
			anybody.Refuse(t, retcode.VerifyCodeTooFrequent, "ApplyPasswordReset", P{"Email": email})
		}
		c.Clock.Advance(2 * time.Minute)
		for _, email := range []string{tenant.Email, "nobody@example.com"} {
			anybody.Refuse(t, retcode.VerifyCodeStillValid, "ApplyPasswordReset", P{"Email": email})
		}
		m := server.Wait(t, tenant.Email, 1)
		confirm := func(code retcode.Code, p P) {
			t.Helper()
			q := P{"Email": tenant.Email, "NewPassword": "Fresh-1234"}
			for k, v := range p {
				q[k] = v
			}
			anybody.Refuse(t, code, "ConfirmPasswordReset", q)
		}
		confirm(retcode.MissingParameter, nil)
		confirm(retcode.PasswordComplexityInvalid, P{"Token": tokenIn(t, m), "NewPassword": "alllower"})
		confirm(retcode.VerifyCodeExpired, P{"Token": "guessed"})
		confirm(retcode.VerifyCodeExpired, P{"Token": tokenIn(t, m), "Email": c.Demo.Email})
		confirm(retcode.OK, P{"Token": tokenIn(t, m)})
		confirm(retcode.VerifyCodeExpired, P{"Token": tokenIn(t, m)})
		confirm(retcode.VerifyCodeExpired, P{"VerifyCode": codeIn(t, m)})
		old.Refuse(t, retcode.SSOTokenInvalid, "DescribeVPC", nil)
		c.Session(t, tenant.Email, "Fresh-1234")

		// Five tries at a code, then it is worth nothing and another may be sent.
		anybody.Must(t, "ApplyPasswordReset", P{"Email": tenant.Email})
		m = server.Wait(t, tenant.Email, 2)
		wrong := "000000"
		if codeIn(t, m) == wrong {
			wrong = "000001"
		}
		for range 5 {
			confirm(retcode.AuthCodeVerifyFailed, P{"VerifyCode": wrong})
		}
		confirm(retcode.VerifyCodeExpired, P{"VerifyCode": codeIn(t, m)})
		c.Clock.Advance(2 * time.Minute)
		anybody.Must(t, "ApplyPasswordReset", P{"Email": tenant.Email})
		m = server.Wait(t, tenant.Email, 3)
		// Through CheckVerificationCode, and too late.
		check := P{"Purpose": "ResetPassword", "Email": tenant.Email, "VerifyCode": codeIn(t, m)}
		token := anybody.Must(t, "CheckVerificationCode", check).String("Token")
		anybody.Refuse(t, retcode.VerifyCodeExpired, "CheckVerificationCode", check)
		c.Clock.Advance(11 * time.Minute)
		confirm(retcode.VerifyCodeExpired, P{"Token": token})
		// Sub-accounts ask their administrator.
		tenant.Must(t, "CreateSubMember", P{"MemberEmail": "sub@example.com", "MemberName": "sub", "Password": "Secret-123"})
		anybody.Must(t, "ApplyPasswordReset", P{"Email": "sub@example.com"})
		anybody.Must(t, "ApplyPasswordReset", P{"Email": c.Admin.Email})
		server.Wait(t, c.Admin.Email, 1)
		for _, m := range server.All() {
			if m.To == "sub@example.com" || m.To == "nobody@example.com" {
				t.Errorf("%s was sent %q", m.To, m.Subject)
			}
		}
	})
}

func TestTOTP(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		server := mailing(t, c)
		tenant := c.NewTenant(t)
		s := c.Session(t, tenant.Email, tenant.Password)
		s.Refuse(t, retcode.TOTPNotBound, "VerifyTOTP", P{"TOTPCode": "123456"})
		s.Refuse(t, retcode.TOTPNotBound, "UnbindTOTP", P{"TOTPCode": "123456"})
		s.Refuse(t, retcode.InvalidTOTPState, "BindTOTP", P{"TOTPCode": "123456"})
		s.Refuse(t, retcode.MissingParameter, "ApplyTOTP", P{"TokenType": "Hardware"})
		applied := s.Must(t, "ApplyTOTP", nil)
		secret := applied.String("Secret")
		if !strings.HasPrefix(applied.String("URL"), "otpauth://totp/Lingyun:") {
			t.Errorf("the link is %s", applied.String("URL"))
		}
		code := func() string {
			t.Helper()
			code, err := totp.GenerateCode(secret, c.Clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			return code
		}
		wrong := func() string {
			if w := "000000"; w != code() {
				return w
			}
			return "999999"
		}
		state := func(client *controllertest.Client, p P) string {
			t.Helper()
			info, _ := client.Must(t, "DescribeTOTP", p).Body["Info"].(map[string]any)
			return controllertest.Info(info).String("State")
		}
		s.Refuse(t, retcode.InvalidTOTPState, "VerifyTOTP", P{"TOTPCode": code()})
		s.Refuse(t, retcode.AuthCodeVerifyFailed, "BindTOTP", P{"TOTPCode": wrong()})
		s.Must(t, "BindTOTP", P{"TOTPCode": code()})
		if state(s, nil) != "Bound" || state(c.Admin, P{"MemberID": tenant.Account}) != "Bound" {
			t.Error("the binding is not shown")
		}
		c.Demo.Refuse(t, retcode.AdminOnly, "DescribeTOTP", P{"MemberID": tenant.Account})
		s.Refuse(t, retcode.TOTPAlreadyBound, "ApplyTOTP", nil)
		s.Refuse(t, retcode.TOTPAlreadyBound, "BindTOTP", P{"TOTPCode": code()})
		// The code that bound it is used up.
		s.Refuse(t, retcode.TOTPCodeUsed, "VerifyTOTP", P{"TOTPCode": code()})
		c.Clock.Advance(time.Minute)
		s.Must(t, "VerifyTOTP", P{"TOTPCode": code()})
		s.Refuse(t, retcode.TOTPCodeUsed, "VerifyTOTP", P{"TOTPCode": code()})

		// From now on a login wants one.
		c.Clock.Advance(time.Minute)
		d := door(c)
		p := controllertest.Login(tenant.Email, tenant.Password)
		r := d.Must(t, "LoginByPassword", p)
		nonce := r.String("PendingNonce")
		if r.String("SSOToken") != "" || nonce == "" || fmt.Sprint(r.Body["FactorTypes"]) != "[TOTP]" {
			t.Errorf("a password alone answers %v", r.Body)
		}
		verify := func(code retcode.Code, nonce, factor string) controllertest.Response {
			t.Helper()
			return d.Refuse(t, code, "VerifyFactor", P{"PendingNonce": nonce, "FactorType": "TOTP", "FactorCode": factor})
		}
		verify(retcode.VerifyCodeExpired, "guessed", code())
		verify(retcode.AuthCodeVerifyFailed, nonce, wrong())
		d.Refuse(t, retcode.AuthCodeVerifyFailed, "VerifyFactor", P{"PendingNonce": nonce, "FactorType": "Email", "FactorCode": code()})
		if token := verify(retcode.OK, nonce, code()).String("SSOToken"); token == "" {
			t.Error("no session after both factors")
		}
		verify(retcode.VerifyCodeExpired, nonce, code())
		nonce = d.Must(t, "LoginByPassword", p).String("PendingNonce")
		verify(retcode.TOTPCodeUsed, nonce, code())
		c.Clock.Advance(time.Minute)
		p["TOTPCode"] = code()
		if d.Must(t, "LoginByPassword", p).String("SSOToken") == "" {
			t.Error("no session with both factors at once")
		}
		d.Refuse(t, retcode.TOTPCodeUsed, "LoginByPassword", p)
		delete(p, "TOTPCode")
		// A login waits for a while.
		nonce = d.Must(t, "LoginByPassword", p).String("PendingNonce")
		c.Clock.Advance(6 * time.Minute)
		verify(retcode.VerifyCodeExpired, nonce, code())
		// A code for an account that has none bound, and a mailed one for one that has.
		demo := controllertest.Login(c.Demo.Email, c.Demo.Password)
		demo["TOTPCode"] = "123456"
		d.Refuse(t, retcode.TOTPNotBound, "LoginByPassword", demo)
		p["VerifyCode"] = "123456"
		d.Refuse(t, retcode.VerifyCodeExpired, "LoginByPassword", p)
		delete(p, "VerifyCode")
		// Changing the password without a session needs it as well.
		change := P{"Email": tenant.Email, "OldPassword": tenant.Password, "NewPassword": "Fresh-1234"}
		c.Anybody().Refuse(t, retcode.AuthCodeVerifyFailed, "ChangePassword", change)
		change["TOTPCode"] = code()
		c.Anybody().Must(t, "ChangePassword", change)
		c.Clock.Advance(time.Minute)

		tenant.Refuse(t, retcode.AuthCodeVerifyFailed, "UnbindTOTP", P{"TOTPCode": wrong()})
		tenant.Must(t, "UnbindTOTP", P{"TOTPCode": code()})
		// The device is lost: by a mailed code, or by an administrator.
		bind := func() {
			t.Helper()
			secret = tenant.Must(t, "ApplyTOTP", nil).String("Secret")
			tenant.Must(t, "BindTOTP", P{"TOTPCode": code()})
		}
		bind()
		tenant.Must(t, "SendVerificationCode", P{"Purpose": "UnbindTOTP"})
		mailed := codeIn(t, server.Wait(t, tenant.Email, 1))
		token := c.Anybody().Must(t, "CheckVerificationCode", P{"Purpose": "UnbindTOTP", "Email": tenant.Email, "VerifyCode": mailed}).String("Token")
		c.Demo.Refuse(t, retcode.VerifyCodeExpired, "UnbindTOTP", P{"Token": token})
		tenant.Must(t, "UnbindTOTP", P{"Token": token})
		bind()
		c.Demo.Refuse(t, retcode.AdminOnly, "UnbindTOTP", P{"MemberID": tenant.Account})
		c.Admin.Must(t, "UnbindTOTP", P{"MemberID": tenant.Account})
		if state(tenant, nil) != "Unbound" {
			t.Error("the administrator did not unbind it")
		}
	})
}

func TestMailedFactor(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	server := mailing(t, c)
	configure(t, c, map[string]string{"MailFactor": "true"})
	d := door(c)
	r := d.Must(t, "LoginByPassword", controllertest.Login(c.Demo.Email, c.Demo.Password))
	if fmt.Sprint(r.Body["FactorTypes"]) != "[Email]" {
		t.Fatalf("%v", r.Body)
	}
	nonce := r.String("PendingNonce")
	d.Refuse(t, retcode.VerifyCodeExpired, "SendVerificationCode", P{"Purpose": "Login", "PendingNonce": "guessed"})
	d.Must(t, "SendVerificationCode", P{"Purpose": "Login", "PendingNonce": nonce})
	code := codeIn(t, server.Wait(t, c.Demo.Email, 1))
	d.Refuse(t, retcode.TOTPNotBound, "VerifyFactor", P{"PendingNonce": nonce, "FactorType": "TOTP", "FactorCode": code})
	token := d.Must(t, "VerifyFactor", P{"PendingNonce": nonce, "FactorType": "Email", "FactorCode": code}).String("SSOToken")
	session := controllertest.Client{URL: c.URL, Token: token}
	session.Must(t, "DescribeVPC", nil)
}

func TestMailSettings(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	c.Admin.Refuse(t, retcode.InvalidParameter, "SendTestMail", P{"Email": "a@example.com"})
	server := mailing(t, c)
	c.Demo.Refuse(t, retcode.AdminOnly, "SendTestMail", P{"Email": "a@example.com"})
	c.Admin.Must(t, "SendTestMail", P{"Email": "a@example.com"})
	server.Wait(t, "a@example.com", 1)
	other := mailtest.Start(t, nil, "")
	c.Admin.Must(t, "SendTestMail", P{"Email": "b@example.com", "MailConfig": fmt.Sprintf(`{"Host": %q, "Port": %d}`, other.Host, other.Port)})
	other.Wait(t, "b@example.com", 1)
	c.Admin.Refuse(t, retcode.InvalidParameterFormat, "SendTestMail", P{"Email": "b@example.com", "MailConfig": "{"})
	c.Admin.Refuse(t, retcode.InvalidEmail, "SendTestMail", P{"Email": "unknown@example.com"})
	for email, want := range map[string]string{"free@example.com": "true", c.Demo.Email: "false", "unknown@example.com": "false", "nonsense": "false"} {
		if got := c.Demo.Must(t, "VerifyEmailAvailability", P{"Email": email}).String("Available"); got != want {
			t.Errorf("%s: available is %s", email, got)
		}
	}
}
