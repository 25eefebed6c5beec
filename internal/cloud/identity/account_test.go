package identity_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// sub creates a sub-account with everything allowed, and returns its client.
func sub(t *testing.T, c *controllertest.Cloud, of *controllertest.Client, email string) *controllertest.Client {
	t.Helper()
	id := of.Must(t, "CreateSubMember", P{"MemberEmail": email, "MemberName": email, "Password": "Secret-123", "RoleIDs": []string{"role-00000000000001"}}).Int("MemberID")
	i := member(t, of, id)
	return &controllertest.Client{URL: c.URL, Company: of.Company, Account: int64(id), Email: email, Password: "Secret-123",
		PublicKey: i.String("PublicKey"), PrivateKey: i.String("PrivateKey")}
}

// member reads one account.
func member(t *testing.T, by *controllertest.Client, id int) controllertest.Info {
	t.Helper()
	all := by.Must(t, "DescribeMember", P{"MemberIDs": []int{id}}).Infos()
	if len(all) != 1 {
		t.Fatalf("%d accounts with the id %d", len(all), id)
	}
	return all[0]
}

// admin creates an administrator and returns its client.
func admin(t *testing.T, c *controllertest.Cloud, email string, p P) *controllertest.Client {
	t.Helper()
	q := P{"MemberEmail": email, "MemberName": "admin", "Password": "Secret-123", "GrantLevel": "System"}
	for k, v := range p {
		q[k] = v
	}
	id := c.Admin.Must(t, "CreateAdmin", q).Int("MemberID")
	s := c.Session(t, email, "Secret-123")
	k := s.Must(t, "CreateAPIKey", nil)
	return &controllertest.Client{URL: c.URL, Account: int64(id), Email: email, PublicKey: k.String("APIPublicKey"), PrivateKey: k.String("APIPrivateKey")}
}

func TestSubAccounts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant, other := c.NewTenant(t), c.NewTenant(t)
		create := P{"MemberEmail": "one@example.com", "MemberName": "one", "Password": "Secret-123"}
		for name, k := range map[string]struct {
			p    P
			code retcode.Code
		}{
			"no e-mail":          {P{"MemberEmail": "no address"}, retcode.InvalidEmail},
			"taken by a tenant":  {P{"MemberEmail": c.Demo.Email}, retcode.AccountEmailExists},
			"short password":     {P{"Password": "Aa1"}, retcode.PasswordLengthInvalid},
			"weak password":      {P{"Password": "alllower"}, retcode.PasswordComplexityInvalid},
			"phone":              {P{"Phone": "call me"}, retcode.InvalidParameter},
			"an unknown role":    {P{"RoleIDs": []string{"role-unknown"}}, retcode.RoleNotFound},
			"another's project":  {P{"RoleIDs": []string{"role-00000000000001"}, "ProjectIDs": []string{"project-unknown"}}, retcode.ProjectNotFound},
			"of another tenant":  {P{"CompanyID": other.Company}, retcode.AdminOnly},
			"without a password": {P{"Password": ""}, retcode.MissingParameter},
		} {
			p := P{}
			for k, v := range create {
				p[k] = v
			}
			for f, v := range k.p {
				p[f] = v
			}
			if r := tenant.Call(t, "CreateSubMember", p); r.Code != k.code {
				t.Errorf("%s: %d %s, want %d", name, r.Code, r.Message, k.code)
			}
		}
		one := sub(t, c, tenant, "one@example.com")
		two := sub(t, c, tenant, "two@example.com")
		tenant.Refuse(t, retcode.AccountEmailExists, "CreateSubMember", create)
		c.Admin.Refuse(t, retcode.AccountEmailExists, "CreateUser", P{"UserEmail": "one@example.com", "PassWord": "Secret-123"})
		if n := one.Must(t, "DescribeVPC", nil).Int("TotalCount"); n != 1 {
			t.Errorf("a sub-account sees %d of its tenant's VPCs", n)
		}
		// Lists: the own tenant, and nobody's private key but the own one unless the caller is the main account.
		if n := one.Must(t, "DescribeMember", nil).Int("TotalCount"); n != 3 {
			t.Errorf("%d accounts, want 3", n)
		}
		if k := member(t, one, int(tenant.Account)); k.String("PrivateKey") != "" || k.String("PublicKey") != tenant.PublicKey || k.String("Privileges") != "MEMBER_PRIVILEGES_ADMIN" {
			t.Errorf("a sub-account sees of the main account %v", k)
		}
		if k := member(t, one, int(one.Account)); k.String("PrivateKey") != one.PrivateKey {
			t.Error("a sub-account does not see its own key")
		}
		for what, k := range map[string]struct {
			p    P
			want int
		}{
			"e-mail":           {P{"Email": "TWO@example.com"}, 1},
			"keyword":          {P{"Keyword": "one@"}, 1},
			"wildcard":         {P{"Keyword": "%"}, 0},
			"key":              {P{"MemberPubKey": one.PublicKey}, 1},
			"another's key":    {P{"MemberPubKey": other.PublicKey}, 0},
			"state":            {P{"Statuses": []string{"AVAILABLE"}}, 3},
			"two states":       {P{"Statuses": []string{"FREEZE", "LOCKED"}}, 0},
			"another's member": {P{"MemberIDs": []int{int(other.Account)}}, 0},
		} {
			if n := tenant.Must(t, "DescribeMember", k.p).Int("TotalCount"); n != k.want {
				t.Errorf("by %s: %d accounts, want %d", what, n, k.want)
			}
		}
		// Changing: a sub-account is no master of its main account, nobody of another tenant's.
		for action, p := range map[string]P{"UpdateMemberName": {"Name": "x"}, "UpdateMemberEmail": {"UserEmail": "x@example.com"}, "UpdateMemberPhone": {"PhoneNum": "1"},
			"FreezeSubMember": nil, "UnFreezeSubMember": nil, "DeleteMember": nil} {
			q := P{"MemberID": tenant.Account}
			for k, v := range p {
				q[k] = v
			}
			one.Refuse(t, retcode.ActionForbidden, action, q)
			q["MemberID"] = other.Account
			tenant.Refuse(t, retcode.AccountNotFound, action, q)
			q["MemberID"] = 4711
			c.Admin.Refuse(t, retcode.AccountNotFound, action, q)
		}
		one.Refuse(t, retcode.AccountNotFound, "CreateAPIKey", P{"MemberID": tenant.Account})
		tenant.Must(t, "UpdateMemberName", P{"MemberID": one.Account, "Name": "新名"})
		tenant.Must(t, "UpdateMemberPhone", P{"MemberID": one.Account, "PhoneNum": "+86 21 1234"})
		tenant.Refuse(t, retcode.AccountEmailExists, "UpdateMemberEmail", P{"MemberID": one.Account, "UserEmail": two.Email})
		tenant.Must(t, "UpdateMemberEmail", P{"MemberID": one.Account, "UserEmail": "uno@example.com"})
		one.Must(t, "UpdateMemberProfile", P{"Language": "en"})
		one.Refuse(t, retcode.MissingParameter, "UpdateMemberProfile", nil)
		if i := member(t, tenant, int(one.Account)); i.String("MemberName") != "新名" || i.String("Phone") != "+86 21 1234" || i.String("Email") != "uno@example.com" || i.String("Language") != "en" {
			t.Errorf("after the changes: %v", i)
		}
		info, _ := one.Must(t, "GetMemberInfo", nil).Body["Info"].(map[string]any)
		if i := controllertest.Info(info); i.String("PrivateKey") != one.PrivateKey || i.Int("PasswordExpireTime") == 0 || i.String("Privileges") != "MEMBER_PRIVILEGES_DEFAULT" {
			t.Errorf("the own account: %v", info)
		}
		// Freezing.
		session := c.Session(t, two.Email, two.Password)
		tenant.Must(t, "FreezeSubMember", P{"MemberID": two.Account, "Remark": "away"})
		tenant.Refuse(t, retcode.AccountFrozen, "FreezeSubMember", P{"MemberID": two.Account})
		two.Refuse(t, retcode.AccountFrozen, "DescribeVPC", nil)
		session.Refuse(t, retcode.SSOTokenInvalid, "DescribeVPC", nil)
		one.Refuse(t, retcode.CannotDeleteSelf, "FreezeSubMember", P{"MemberID": one.Account})
		tenant.Must(t, "UnFreezeSubMember", P{"MemberID": two.Account})
		tenant.Refuse(t, retcode.AccountAlreadyEnabled, "UnFreezeSubMember", P{"MemberID": two.Account})
		two.Must(t, "DescribeVPC", nil)
		// Resetting a password is for administrators.
		tenant.Refuse(t, retcode.AdminOnly, "ChangeMemberPassword", P{"SpecMemberID": two.Account, "Password": "Fresh-1234"})
		c.Admin.Refuse(t, retcode.AccountNotFound, "ChangeMemberPassword", P{"SpecMemberID": 4711, "Password": "Fresh-1234"})
		c.Admin.Refuse(t, retcode.PasswordLengthInvalid, "ChangeMemberPassword", P{"SpecMemberID": two.Account, "Password": "Aa1"})
		c.Admin.Must(t, "ChangeMemberPassword", P{"SpecMemberID": two.Account, "Password": "Fresh-1234", "ResetPassword": true})
		door(c).Refuse(t, retcode.PasswordInitRequired, "LoginByPassword", controllertest.Login(two.Email, "Fresh-1234"))
		// Deleting.
		one.Refuse(t, retcode.CannotDeleteSelf, "DeleteMember", P{"MemberID": one.Account})
		c.Admin.Refuse(t, retcode.InvalidAccountState, "DeleteMember", P{"MemberID": tenant.Account})
		c.Admin.Refuse(t, retcode.AccountNotFound, "DeleteMember", P{"MemberID": admin(t, c, "x@lingyun.local", nil).Account})
		tenant.Must(t, "DeleteMember", P{"MemberID": two.Account})
		two.Refuse(t, retcode.InvalidSignature, "DescribeVPC", nil)
		tenant.Refuse(t, retcode.AccountNotFound, "DeleteMember", P{"MemberID": two.Account})
		// The e-mail may be used again, the id is not.
		if again := sub(t, c, tenant, two.Email); again.Account <= two.Account {
			t.Errorf("the id %d after %d", again.Account, two.Account)
		}
	})
}

func TestTenants(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		c.Admin.Refuse(t, retcode.MissingCompanyID, "FreezeUser", nil)
		c.Admin.Refuse(t, retcode.MissingUserID, "DeleteAdmin", nil)
		c.Demo.Refuse(t, retcode.AdminOnly, "DescribeUser", nil)
		c.Admin.Refuse(t, retcode.TenantEmailExists, "CreateUser", P{"UserEmail": c.Demo.Email, "PassWord": "Secret-123"})
		c.Admin.Refuse(t, retcode.InvalidEmail, "CreateUser", P{"UserEmail": "nonsense", "PassWord": "Secret-123"})
		c.Admin.Refuse(t, retcode.MissingParameter, "CreateUser", P{"PassWord": "Secret-123"})
		c.Admin.Refuse(t, retcode.PasswordComplexityInvalid, "CreateUser", P{"UserEmail": "t@example.com", "PassWord": "alllower"})
		c.Admin.Refuse(t, retcode.InvalidParameter, "CreateUser", P{"UserEmail": "t@example.com", "PassWord": "Secret-123", "Regions": []string{"mars"}})
		made := c.Admin.Must(t, "CreateUser", P{"UserEmail": "T@example.com", "PassWord": "Secret-123", "Name": "租户", "Audit": true, "ResetPassword": "Yes"})
		company := made.Int("CompanyID")
		info := func() controllertest.Info {
			t.Helper()
			return c.Admin.Must(t, "DescribeUser", P{"UserIDs": []int{made.Int("UserID")}}).Infos()[0]
		}
		i := info()
		for field, want := range map[string]string{"Email": "t@example.com", "Name": "租户", "Audit": "1", "AutoAudit": "0", "Status": "AVAILABLE", "MemberStatus": "AVAILABLE", "MemberCount": "1"} {
			if i.String(field) != want {
				t.Errorf("%s is %q, want %q", field, i.String(field), want)
			}
		}
		main := &controllertest.Client{URL: c.URL, Company: int64(company), Account: int64(made.Int("UserID")), Email: "t@example.com",
			PublicKey: i.String("PublicKey"), PrivateKey: i.String("PrivateKey")}
		door(c).Refuse(t, retcode.PasswordInitRequired, "LoginByPassword", controllertest.Login("t@example.com", "Secret-123"))
		for what, k := range map[string]struct {
			p    P
			want int
		}{
			"id":            {P{"CompanyIDs": []int{company}}, 1},
			"e-mail":        {P{"Email": "T@EXAMPLE.com"}, 1},
			"name":          {P{"Keyword": "租"}, 1},
			"state":         {P{"Statuses": []string{"FREEZE"}}, 0},
			"region":        {P{"Email": "t@example.com", "Region": "cn"}, 1},
			"CompanyID":     {P{"CompanyID": company}, 1},
			"nothing":       {P{"Keyword": "nothing like it"}, 0},
			"all":           {nil, 3},
			"only a number": {P{"Limit": 0}, 3},
		} {
			if n := c.Admin.Must(t, "DescribeUser", k.p).Int("TotalCount"); n != k.want {
				t.Errorf("by %s: %d tenants, want %d", what, n, k.want)
			}
		}
		// Freezing: what is frozen alone stays frozen.
		one, two := sub(t, c, main, "one@example.com"), sub(t, c, main, "two@example.com")
		main.Must(t, "FreezeSubMember", P{"MemberID": one.Account})
		p := P{"CompanyID": company}
		c.Admin.Refuse(t, retcode.TenantAlreadyEnabled, "UnFreezeUser", p)
		c.Admin.Must(t, "FreezeUser", p)
		c.Admin.Refuse(t, retcode.TenantFrozen, "FreezeUser", p)
		two.Refuse(t, retcode.TenantFrozen, "DescribeVPC", nil)
		if s := member(t, c.Admin, int(two.Account)).String("Status"); s != "FREEZE" {
			t.Errorf("an account of a frozen tenant is %s", s)
		}
		c.Admin.Refuse(t, retcode.TenantFrozen, "UnFreezeSubMember", P{"MemberID": one.Account})
		for action, q := range map[string]P{"RenameCompany": {"Name": "x"}, "UpdateCompanyName": {"Name": "x"}} {
			q["CompanyID"] = company
			c.Admin.Refuse(t, retcode.InvalidTenantState, action, q)
		}
		c.Admin.Must(t, "UnFreezeUser", p)
		two.Must(t, "DescribeVPC", nil)
		one.Refuse(t, retcode.AccountFrozen, "DescribeVPC", nil)
		// A main account can be frozen alone.
		c.Admin.Must(t, "FreezeSubMember", P{"MemberID": main.Account})
		main.Refuse(t, retcode.AccountFrozen, "DescribeVPC", nil)
		two.Must(t, "DescribeVPC", nil)
		c.Admin.Must(t, "UnFreezeSubMember", P{"MemberID": main.Account})

		// Renaming, by itself or by an administrator.
		main.Must(t, "RenameCompany", P{"CompanyID": company, "Name": "甲", "Remark": "first"})
		main.Must(t, "UpdateCompanyName", P{"CompanyID": company, "Name": "乙"})
		main.Refuse(t, retcode.InvalidParameter, "RenameCompany", P{"CompanyID": company, "Name": strings.Repeat("长", 51)})
		main.Refuse(t, retcode.AdminOnly, "RenameCompany", P{"CompanyID": c.Demo.Company, "Name": "x"})
		two.Refuse(t, retcode.ActionForbidden, "UpdateCompanyEmail", P{"CompanyID": company, "Email": "stolen@example.com"})
		main.Refuse(t, retcode.TenantEmailExists, "UpdateCompanyEmail", P{"CompanyID": company, "Email": c.Demo.Email})
		main.Refuse(t, retcode.InvalidEmail, "UpdateCompanyEmail", P{"CompanyID": company, "Email": "nonsense"})
		main.Must(t, "UpdateCompanyEmail", P{"CompanyID": company, "Email": "new@example.com"})
		if i := info(); i.String("Name") != "乙" || i.String("Email") != "new@example.com" {
			t.Errorf("after renaming: %v", i)
		}
		for _, action := range []string{"FreezeUser", "UnFreezeUser", "DeleteCompany"} {
			c.Admin.Refuse(t, retcode.TenantNotFound, action, P{"CompanyID": 4711})
			c.Admin.Refuse(t, retcode.InvalidTenantState, action, P{"CompanyID": c.Admin.Company})
		}

		// Deleting: not with anything left, in the bin either.
		c.Admin.Must(t, "Recharge", P{"CompanyID": company, "Amount": 100, "FromType": "OFFLINE", "SerialNo": "1"})
		c.Admin.Must(t, "UpdateCompanyAudit", P{"CompanyID": company, "Audit": false, "AutoAudit": false})
		eip := main.Must(t, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "x", "IPVersion": "IPv4"})
		id := eip.String("EIPID")
		counts := func() string {
			t.Helper()
			var all []string
			for _, i := range main.Must(t, "DescribeTenantResources", p).Infos() {
				all = append(all, fmt.Sprintf("%s %s %s", i.String("ResourceType"), i.String("Count"), i.String("RecycledCount")))
			}
			return strings.Join(all, ", ")
		}
		main.OPLog(t, "AllocateEIP", id)
		if got := counts(); got != "VPC 1 0, SUBNET 1 0, EIP 1 0, SG 1 0" {
			t.Errorf("the tenant has %s", got)
		}
		c.Demo.Refuse(t, retcode.AdminOnly, "DescribeTenantResources", p)
		c.Admin.Refuse(t, retcode.TenantNotEmpty, "DeleteCompany", p)
		main.Must(t, "ReleaseEIP", P{"EIPID": id})
		controllertest.Eventually(t, 20*time.Second, "the address is in the bin", func() bool { return counts() == "VPC 1 0, SUBNET 1 0, EIP 1 1, SG 1 0" })
		c.Admin.Refuse(t, retcode.TenantNotEmpty, "DeleteCompany", p)
		main.Must(t, "TerminateResource", P{"ResourceID": id})
		controllertest.Eventually(t, 20*time.Second, "the address is gone", func() bool { return counts() == "VPC 1 0, SUBNET 1 0, SG 1 0" })
		c.Admin.Must(t, "DeleteCompany", p)
		main.Refuse(t, retcode.InvalidSignature, "DescribeVPC", nil)
		c.Admin.Refuse(t, retcode.TenantNotFound, "DescribeVPC", P{"CompanyID": company})
		c.Admin.Refuse(t, retcode.TenantNotFound, "DeleteCompany", p)
		if n := c.Admin.Must(t, "DescribeUser", nil).Int("TotalCount"); n != 2 {
			t.Errorf("%d tenants left", n)
		}
		for _, table := range []string{"account", "quota", "vpc WHERE ended_at = 0 AND company =", "project"} {
			where := table + " WHERE company ="
			if strings.Contains(table, "WHERE") {
				where = table
			}
			var n int
			if err := db.Reader().NewRaw(`SELECT count(*) FROM `+where+` ?`, company).Scan(t.Context(), &n); err != nil || n != 0 {
				t.Errorf("%d rows left in %s, %v", n, table, err)
			}
		}
		again := c.Admin.Must(t, "CreateUser", P{"UserEmail": "new@example.com", "PassWord": "Secret-123"})
		if again.Int("CompanyID") <= company {
			t.Error("the id of a deleted tenant is used again")
		}
	})
}

func TestRegionsOfTenants(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant := c.NewTenant(t)
		exec(t, db, `INSERT INTO region (id, alias, endpoint, city, address, remark, created_at, updated_at, generation) SELECT 'us', 'US', endpoint, '', '', '', 1, 1, 0 FROM region`)
		p := P{"CompanyID": tenant.Company}
		regions := func(by *controllertest.Client, p P) (all []string) {
			t.Helper()
			for _, i := range by.Must(t, "DescribeCompanyRegion", p).Infos() {
				all = append(all, i.String("Region"))
			}
			return all
		}
		if got := regions(tenant, nil); fmt.Sprint(got) != "[cn]" {
			t.Errorf("granted at first: %v", got)
		}
		c.Admin.Refuse(t, retcode.MissingCompanyID, "DescribeCompanyRegion", nil)
		tenant.Refuse(t, retcode.ActionForbidden, "DescribeVPC", P{"Region": "us"})
		c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateCompanyRegion", P{"CompanyID": tenant.Company, "Regions": []string{"mars"}})
		c.Admin.Refuse(t, retcode.TenantNotFound, "UpdateCompanyRegion", P{"CompanyID": 4711, "Regions": []string{"us"}})
		for range 2 {
			c.Admin.Must(t, "UpdateCompanyRegion", P{"CompanyID": tenant.Company, "Regions": []string{"us"}})
			if got := regions(c.Admin, p); fmt.Sprint(got) != "[us]" {
				t.Errorf("granted: %v", got)
			}
			tenant.Refuse(t, retcode.ActionForbidden, "DescribeVPC", nil)
			// Furnished once, however often it is granted.
			if n := tenant.Must(t, "DescribeVPC", P{"Region": "us"}).Int("TotalCount"); n != 1 {
				t.Errorf("%d VPCs in the new region", n)
			}
			c.Admin.Must(t, "UpdateCompanyRegion", P{"CompanyID": tenant.Company, "Regions": []string{"cn", "us"}})
			if n := tenant.Must(t, "DescribeVPC", nil).Int("TotalCount"); n != 1 {
				t.Errorf("%d VPCs in the old region", n)
			}
		}
	})
}

func TestAdministrators(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant := c.NewTenant(t)
		exec(t, db, `INSERT INTO region (id, alias, endpoint, city, address, remark, created_at, updated_at, generation) SELECT 'us', 'US', endpoint, '', '', '', 1, 1, 0 FROM region`)
		c.Demo.Refuse(t, retcode.AdminOnly, "ListAdmin", nil)
		p := P{"MemberEmail": "r@lingyun.local", "MemberName": "r", "Password": "Secret-123", "GrantLevel": "Region"}
		c.Admin.Refuse(t, retcode.MissingParameter, "CreateAdmin", p)
		p["Regions"] = []string{"mars"}
		c.Admin.Refuse(t, retcode.InvalidParameter, "CreateAdmin", p)
		system := admin(t, c, "s@lingyun.local", nil)
		reader := admin(t, c, "ro@lingyun.local", P{"ReadOnly": "true"})
		region := admin(t, c, "r@lingyun.local", P{"GrantLevel": "Region", "Regions": []string{"cn"}})
		regionReader := admin(t, c, "rr@lingyun.local", P{"GrantLevel": "Region", "Regions": []string{"cn"}, "ReadOnly": "1"})
		c.Admin.Refuse(t, retcode.AccountEmailExists, "CreateAdmin", P{"MemberEmail": "s@lingyun.local", "MemberName": "s", "Password": "Secret-123", "GrantLevel": "System"})
		everybody := map[string]*controllertest.Client{"system": system, "reader": reader, "region": region, "regionReader": regionReader}
		for _, k := range []struct {
			action  string
			p       P
			allowed string
		}{
			{"DescribeVPC", nil, "system reader region regionReader"},
			{"DescribeVPC", P{"Region": "us"}, "system reader"},
			{"CreateSecurityGroup", P{"CompanyID": tenant.Company, "Name": "x", "Rule": []string{"TCP|80|0.0.0.0/0|ACCEPT|HIGH|1"}}, "system region"},
			{"DescribeUser", nil, "system reader"},
			{"DescribeMember", nil, "system reader"},
			{"ListAdmin", nil, "system reader"},
			{"RenameCompany", P{"CompanyID": tenant.Company, "Name": "x"}, "system"},
			{"CreateAdmin", P{"MemberEmail": "new@lingyun.local", "MemberName": "new", "Password": "Secret-123", "GrantLevel": "System"}, "system"},
			{"UpdateMemberProfile", P{"Name": "me"}, "system reader region regionReader"},
			{"GetMemberInfo", nil, "system reader region regionReader"},
			{"UpdateAdminWhitelist", P{"Whitelist": "127.0.0.1"}, "system reader region regionReader"},
			{"UpdateAdminWhitelist", P{"Whitelist": "127.0.0.1", "MemberID": reader.Account}, "system reader"},
			{"UnbindTOTP", P{"MemberID": tenant.Account}, ""},
			{"ActivateUser", P{"CompanyID": tenant.Company}, ""},
		} {
			for name, client := range everybody {
				r := client.Call(t, k.action, k.p)
				if allowed := r.Code != retcode.ActionForbidden; allowed != strings.Contains(" "+k.allowed+" ", " "+name+" ") && !(k.allowed == "" && name == "system") {
					t.Errorf("%s by %s answered %d %s", k.action, name, r.Code, r.Message)
				}
			}
		}
		// A reader sees no private keys.
		if i := reader.Must(t, "DescribeUser", P{"CompanyIDs": []int{int(tenant.Company)}}).Infos()[0]; i.String("PrivateKey") != "" {
			t.Error("a read-only administrator sees private keys")
		}
		// Changing one another, and not oneself.
		system.Refuse(t, retcode.CannotDeleteSelf, "DeleteAdmin", P{"MemberID": system.Account})
		system.Refuse(t, retcode.CannotDeleteSelf, "UpdateAdmin", P{"MemberID": system.Account, "ReadOnly": true})
		system.Refuse(t, retcode.AccountNotFound, "DeleteAdmin", P{"MemberID": tenant.Account})
		system.Refuse(t, retcode.AccountNotFound, "UpdateAdmin", P{"MemberID": 4711, "ReadOnly": true})
		system.Refuse(t, retcode.MissingParameter, "UpdateAdmin", P{"MemberID": reader.Account})
		system.Refuse(t, retcode.RoleNotFound, "UpdateAdmin", P{"MemberID": reader.Account, "RoleIDs": []string{"role-unknown"}})
		system.Refuse(t, retcode.InvalidAccountState, "UpdateAdminRegion", P{"MemberID": reader.Account, "Regions": []string{"us"}})
		system.Must(t, "UpdateAdminRegion", P{"MemberID": region.Account, "Regions": []string{"us"}})
		region.Refuse(t, retcode.ActionForbidden, "DescribeVPC", nil)
		region.Must(t, "DescribeVPC", P{"Region": "us"})
		system.Must(t, "UpdateAdmin", P{"MemberID": reader.Account, "ReadOnly": false, "GrantLevel": "System"})
		reader.Must(t, "RenameCompany", P{"CompanyID": tenant.Company, "Name": "by the former reader"})
		for _, i := range system.Must(t, "ListAdmin", P{"Keyword": "r@lingyun"}).Infos() {
			if i.String("MemberEmail") == region.Email && (i.String("GrantLevel") != "Region" || i.String("Privilege") != "RegionAdmin" || fmt.Sprint(i["Regions"]) != "[us]") {
				t.Errorf("%v", i)
			}
		}
		system.Must(t, "FreezeSubMember", P{"MemberID": regionReader.Account})
		regionReader.Refuse(t, retcode.AccountFrozen, "DescribeVPC", nil)
		system.Must(t, "DeleteAdmin", P{"MemberID": regionReader.Account})
		regionReader.Refuse(t, retcode.InvalidSignature, "DescribeVPC", nil)
	})
}

func TestAPIKeys(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		tenant := c.NewTenant(t)
		key := func(r controllertest.Response) *controllertest.Client {
			return &controllertest.Client{URL: c.URL, PublicKey: r.String("APIPublicKey"), PrivateKey: r.String("APIPrivateKey")}
		}
		made := tenant.Must(t, "CreateAPIKey", P{"Name": "ci"})
		id, k := made.String("APIKeyID"), key(made)
		k.Must(t, "DescribeVPC", nil)
		// Nowhere in the clear, never shown again.
		var stored string
		if err := db.Reader().NewRaw(`SELECT private_key FROM key_pair WHERE public_key = ?`, k.PublicKey).Scan(t.Context(), &stored); err != nil || strings.Contains(stored, k.PrivateKey) {
			t.Errorf("the key is stored as %q, %v", stored, err)
		}
		if text := fmt.Sprint(tenant.Must(t, "DescribeAPIKey", nil).Body); strings.Contains(text, k.PrivateKey) || strings.Contains(text, tenant.PrivateKey) {
			t.Error("a list shows private keys")
		}
		if err := c.Identity.FlushUses(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := tenant.Must(t, "DescribeAPIKey", nil).Infos()
		if len(all) != 2 || all[0].String("IsDefault") != "true" || all[1].String("Name") != "ci" || all[1].Int("LastUseTime") == 0 || all[1].String("LastUseIP") != "127.0.0.1" {
			t.Errorf("keys: %v", all)
		}
		// Off and on.
		tenant.Must(t, "DisableAPIKey", P{"APIKeyID": id})
		k.Refuse(t, retcode.InvalidSignature, "DescribeVPC", nil)
		if n := tenant.Must(t, "DescribeAPIKey", P{"States": []string{"Disabled"}}).Int("TotalCount"); n != 1 {
			t.Errorf("%d keys are disabled", n)
		}
		tenant.Must(t, "EnableAPIKey", P{"APIKeyID": id})
		k.Must(t, "DescribeVPC", nil)
		// Rotation with an overlap.
		fresh := key(tenant.Must(t, "RotateAPIKey", P{"APIKeyID": id, "GraceSeconds": 60}))
		k.Must(t, "DescribeVPC", nil)
		fresh.Must(t, "DescribeVPC", nil)
		c.Clock.Advance(time.Minute)
		k.Refuse(t, retcode.InvalidSignature, "DescribeVPC", nil)
		fresh.Must(t, "DescribeVPC", nil)
		if n := tenant.Must(t, "DescribeAPIKey", nil).Int("TotalCount"); n != 2 {
			t.Errorf("%d keys after a rotation", n)
		}
		// An end, a limit, and whose they are.
		tenant.Refuse(t, retcode.InvalidParameter, "CreateAPIKey", P{"ExpireTime": c.Clock.Now().Unix()})
		short := key(tenant.Must(t, "CreateAPIKey", P{"ExpireTime": c.Clock.Now().Add(time.Hour).Unix()}))
		short.Must(t, "DescribeVPC", nil)
		c.Clock.Advance(time.Hour)
		short.Refuse(t, retcode.InvalidSignature, "DescribeVPC", nil)
		for range 2 {
			tenant.Must(t, "CreateAPIKey", nil)
		}
		tenant.Refuse(t, retcode.BindLimitReached, "CreateAPIKey", nil)
		for _, action := range []string{"EnableAPIKey", "DisableAPIKey", "RotateAPIKey", "DeleteAPIKey"} {
			c.Demo.Refuse(t, retcode.ResourceNotFound, action, P{"APIKeyID": id})
		}
		tenant.Refuse(t, retcode.InvalidResourceState, "DeleteAPIKey", P{"APIKeyID": all[0].String("APIKeyID")})
		tenant.Must(t, "DeleteAPIKey", P{"APIKeyID": id})
		fresh.Refuse(t, retcode.InvalidSignature, "DescribeVPC", nil)
	})
}

func TestAllowLists(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1, Configure: behindProxy})
		tenant := c.NewTenant(t)
		at := func(ip string, client controllertest.Client) *controllertest.Client {
			client.Header = map[string]string{"X-Forwarded-For": ip, "X-Forwarded-Proto": "https", "X-Auth-Method": "plain"}
			return &client
		}
		inside, outside := at("10.1.2.3", *tenant), at("192.0.2.7", *tenant)
		p := func(list string, force bool) P {
			return P{"CompanyID": tenant.Company, "Whitelist": list, "Force": force}
		}
		inside.Refuse(t, retcode.InvalidParameter, "UpdateLoginWhitelist", p("10.0.0.0/8, nonsense", false))
		// A list that would lock out whoever sets it is not taken by accident.
		r := outside.Refuse(t, retcode.IPNotInWhitelist, "UpdateLoginWhitelist", p("10.0.0.0/8", false))
		if !strings.Contains(r.Message, "192.0.2.7") {
			t.Errorf("the refusal does not say from where: %s", r.Message)
		}
		inside.Must(t, "UpdateLoginWhitelist", p("10.0.0.9/8, 2001:db8::1", false))
		if i := inside.Must(t, "DescribeLoginWhitelist", nil).Infos()[0]; i.String("Whitelist") != "10.0.0.0/8,2001:db8::1" {
			t.Errorf("the list is %v", i)
		}
		if r := outside.Refuse(t, retcode.IPNotInWhitelist, "DescribeVPC", nil); !strings.Contains(r.Message, "192.0.2.7") {
			t.Errorf("the refusal does not say from where: %s", r.Message)
		}
		at("2001:db8::1", *tenant).Must(t, "DescribeVPC", nil)
		// The console as the API; only who knows the password learns it.
		login := controllertest.Login(tenant.Email, tenant.Password)
		from(c, "192.0.2.7").Refuse(t, retcode.IPNotInWhitelist, "LoginByPassword", login)
		from(c, "192.0.2.7").Refuse(t, retcode.WrongPassword, "LoginByPassword", controllertest.Login(tenant.Email, "Wrong-123"))
		from(c, "10.9.9.9").Must(t, "LoginByPassword", login)
		// An administrator repairs it; who means it may lock himself out.
		c.Admin.Must(t, "UpdateLoginWhitelist", p("", false))
		outside.Must(t, "DescribeVPC", nil)
		outside.Must(t, "UpdateLoginWhitelist", p("10.0.0.0/8", true))
		outside.Refuse(t, retcode.IPNotInWhitelist, "DescribeVPC", nil)
		c.Demo.Refuse(t, retcode.AdminOnly, "UpdateLoginWhitelist", p("", false))
		c.Admin.Refuse(t, retcode.InvalidTenantState, "UpdateLoginWhitelist", P{"CompanyID": c.Admin.Company})

		// Administrators have lists of their own.
		boss := at("10.1.2.3", *c.Admin)
		boss.Refuse(t, retcode.IPNotInWhitelist, "UpdateAdminWhitelist", P{"Whitelist": "192.0.2.0/24"})
		boss.Must(t, "UpdateAdminWhitelist", P{"Whitelist": "10.0.0.0/8"})
		at("192.0.2.7", *c.Admin).Refuse(t, retcode.IPNotInWhitelist, "DescribeVPC", nil)
		if i := boss.Must(t, "DescribeAdminWhitelist", nil).Infos()[0]; i.String("Whitelist") != "10.0.0.0/8" {
			t.Errorf("the administrator's list is %v", i)
		}
		boss.Refuse(t, retcode.AccountNotFound, "DescribeAdminWhitelist", P{"MemberID": tenant.Account})
		boss.Refuse(t, retcode.AccountNotFound, "UpdateAdminWhitelist", P{"MemberID": tenant.Account})
	})
}
