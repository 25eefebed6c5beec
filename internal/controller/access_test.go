package controller_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// account makes a client of an account that somebody created.
func account(t *testing.T, c *controllertest.Cloud, by *controllertest.Client, name string, p P) *controllertest.Client {
	t.Helper()
	email := strings.ReplaceAll(name, " ", "-") + "@example.com"
	q := P{"MemberEmail": email, "MemberName": name, "Password": "Secret-123456"}
	maps.Copy(q, p)
	create := "CreateSubMember"
	if _, admin := p["GrantLevel"]; admin {
		create = "CreateAdmin"
	}
	id := by.Must(t, create, q).Int("MemberID")
	k := by.Must(t, "CreateAPIKey", P{"MemberID": id})
	return &controllertest.Client{URL: c.URL, Company: by.Company, Account: int64(id), Email: email, PublicKey: k.String("APIPublicKey"), PrivateKey: k.String("APIPrivateKey")}
}

// callers are one of every kind, of a tenant with two project groups.
func callers(t *testing.T, c *controllertest.Cloud, tenant *controllertest.Client) (project string, names []string, all map[string]*controllertest.Client) {
	t.Helper()
	project = tenant.Must(t, "CreateProject", P{"CompanyID": tenant.Company, "Name": "mine"}).String("ProjectID")
	sub := func(name string, p P) *controllertest.Client { return account(t, c, tenant, name, p) }
	admin := func(name string, p P) *controllertest.Client {
		return account(t, c, c.Admin, name, p)
	}
	administrator, reader := []string{identity.AdministratorRole}, []string{identity.ReadOnlyRole}
	all = map[string]*controllertest.Client{
		"main":     tenant,
		"noRole":   sub("no role", nil),
		"reader":   sub("reader", P{"RoleIDs": reader}),
		"full":     sub("full", P{"RoleIDs": administrator}),
		"inGroup":  sub("in group", P{"RoleIDs": administrator, "ProjectIDs": []string{project}}),
		"admin":    admin("admin two", P{"GrantLevel": "System", "Regions": []string{"cn"}, "RoleIDs": reader}),
		"adminRO":  admin("admin reader", P{"GrantLevel": "System", "ReadOnly": "true", "Regions": []string{"cn"}, "RoleIDs": reader}),
		"region":   admin("region admin", P{"GrantLevel": "Region", "Regions": []string{"cn"}, "RoleIDs": reader}),
		"regionRO": admin("region reader", P{"GrantLevel": "Region", "ReadOnly": "true", "Regions": []string{"cn"}, "RoleIDs": reader}),
	}
	return project, []string{"main", "noRole", "reader", "full", "inGroup", "admin", "adminRO", "region", "regionRO"}, all
}

const matrix = "testdata/access.txt"

// TestAccess calls every action of the table as every kind of caller, without any parameter, and holds what the gate
// answers against the table in testdata: an action without a row fails. LINGYUN_WRITE=1 writes the table.
func TestAccess(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	_, names, all := callers(t, c, c.NewTenant(t))
	golden := map[string]string{}
	text, _ := os.ReadFile(matrix)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && !strings.HasPrefix(line, "#") {
			golden[f[0]] = strings.Join(f[1:], " ")
		}
	}
	var lines []string
	for _, a := range c.Actions() {
		var cells []string
		got := map[string]string{}
		for _, name := range names {
			cell := "yes"
			switch code := gate(t, all[name], a); code {
			case retcode.AdminOnly, retcode.ActionForbidden:
				cell = strconv.Itoa(int(code))
			}
			got[name] = cell
			cells = append(cells, cell)
		}
		row := strings.Join(cells, " ")
		lines = append(lines, fmt.Sprintf("%-34s %s", a.Name, strings.Join(padded(cells), " ")))
		if want, ok := golden[a.Name]; !ok && os.Getenv("LINGYUN_WRITE") == "" {
			t.Errorf("%s has no row in %s: look at who may call it, then write it with LINGYUN_WRITE=1", a.Name, matrix)
		} else if ok && want != row && os.Getenv("LINGYUN_WRITE") == "" {
			t.Errorf("%s: %s\nwant %s\n of  %s", a.Name, row, want, strings.Join(names, " "))
		}
		law(t, a, got)
	}
	slices.Sort(lines)
	if os.Getenv("LINGYUN_WRITE") != "" {
		head := "# Who may call what: yes, or the code of the refusal. Written by TestAccess with LINGYUN_WRITE=1; read what changes.\n" +
			fmt.Sprintf("%-34s %s\n", "#", strings.Join(padded(names), " "))
		if err := os.WriteFile(matrix, []byte(head+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name := range golden {
		if !slices.ContainsFunc(c.Actions(), func(a action.Action) bool { return a.Name == name }) {
			t.Errorf("%s has a row in %s and is no action", name, matrix)
		}
	}
}

func padded(cells []string) []string {
	out := make([]string, len(cells))
	for i, s := range cells {
		out[i] = fmt.Sprintf("%-8s", s)
	}
	return out
}

// gate calls an action such that nothing behind the gate happens: without parameters, or with one that cannot be read.
func gate(t *testing.T, c *controllertest.Client, a action.Action) retcode.Code {
	t.Helper()
	q := P{}
	for _, p := range a.Parameters() {
		switch p.Type {
		case "int", "float", "bool":
			q[p.Name] = "no such value"
		}
	}
	if len(q) == 0 && endsCaller(a.Name) {
		return retcode.OK // it is Personal, and its caller shall live
	}
	return c.Call(t, a.Name, q).Code
}

// law holds what the gate answered against what is promised of every action.
func law(t *testing.T, a action.Action, got map[string]string) {
	t.Helper()
	is := func(want string, names ...string) {
		t.Helper()
		for _, n := range names {
			if got[n] != want {
				t.Errorf("%s by %s is %s, want %s", a.Name, n, got[n], want)
			}
		}
	}
	switch {
	case a.Anonymous:
		is("yes", "main", "noRole", "reader", "full", "inGroup", "admin", "adminRO", "region", "regionRO")
		return
	case a.Admin:
		is("111", "main", "noRole", "reader", "full", "inGroup")
	case a.Personal:
		is("yes", "main", "noRole", "reader", "full", "inGroup")
	default:
		is("yes", "main", "full")
		is("114", "noRole")
	}
	if a.Mutates && !a.Personal {
		is("114", "adminRO", "regionRO")
		if !a.Admin {
			is("114", "reader")
		}
	}
	if a.System {
		is("114", "region", "regionRO")
	}
	is("yes", "admin")
}

// ids are what parameters name, and what they name when there is nothing of the kind.
var unknown = regexp.MustCompile(`^([a-z_]+-)[a-z0-9]+$`)

// TestOthersResourcesAreUnknown calls every action that names resources with those of another tenant, and of another
// project group, and with ones that do not exist: the answers are the same but for the ids, and nothing changes.
func TestOthersResourcesAreUnknown(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 2})
	owner := c.NewTenant(t)
	right := rightValues(t, owner)
	mine, _, all := callers(t, c, owner)
	all["inGroup"].Refuse(t, retcode.ActionForbidden, "CreateSecurityGroup", P{"Name": "x", "Rule": []string{"TCP|80|0.0.0.0/0|ACCEPT|HIGH|1"},
		"ProjectID": identity.DefaultProject(owner.Company)})
	app := owner.Must(t, "CreateRole", P{"Name": "r", "Permission": "DescribeEIP-1"}).String("RoleID")
	eip := owner.Must(t, "AllocateEIP", P{"Name": "theirs", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp"}).String("EIPID")
	before := picture(t, owner)
	stranger := c.NewTenant(t)
	calls := 0
	for who, by := range map[string]*controllertest.Client{"another tenant": stranger, "an account of another group": all["inGroup"]} {
		for _, a := range c.Actions() {
			if a.Anonymous || a.Admin || endsCaller(a.Name) {
				continue
			}
			theirs, none, named := P{}, P{}, false
			for _, p := range a.Parameters() {
				if p.Type == "object" || p.Type == "[]object" {
					continue
				}
				value := ""
				switch {
				case p.Name == "EIPID" || p.Name == "EIPIDs":
					value = eip
				case p.Name == "RoleID" && who == "another tenant":
					value = app
				case p.Name == "CompanyID":
					theirs["CompanyID"], none["CompanyID"] = by.Company, by.Company
					continue
				case p.Name == "ProjectID" && who != "another tenant": // a group that exists and is not granted is 114: see below
					theirs["ProjectID"], none["ProjectID"] = mine, mine
					continue
				case p.Required:
					value = fmt.Sprint(right(p))
				default:
					continue
				}
				theirs[wireName(p)], none[wireName(p)] = value, value
				if m := unknown.FindStringSubmatch(value); m != nil && strings.Contains(p.Name, "ID") && p.Name != "ImageID" {
					named = true
					none[wireName(p)] = m[1] + "aaaaaaaaaaaaaa"
				}
			}
			if !named {
				continue
			}
			calls++
			x, y := by.Call(t, a.Name, theirs), by.Call(t, a.Name, none)
			if x.Code != y.Code || blurred(x.Message, theirs) != blurred(y.Message, none) {
				t.Errorf("%s by %s: what is somebody's answers %d %q, what is nobody's %d %q", a.Name, who, x.Code, x.Message, y.Code, y.Message)
			}
			if x.Code == retcode.OK && a.Mutates {
				t.Errorf("%s by %s was done to what is not its own: %v", a.Name, who, theirs)
			}
			if x.Code == retcode.OK && len(x.Infos()) > 0 {
				t.Errorf("%s by %s lists what is not its own: %v", a.Name, who, x.Infos()[0])
			}
		}
	}
	t.Logf("%d pairs of calls", calls)
	if calls < 20 {
		t.Errorf("only %d actions name a resource", calls)
	}
	if after := picture(t, owner); after != before {
		t.Errorf("the owner's resources changed\nfrom %s\nto   %s", before, after)
	}
}

// blurred takes the ids that were sent out of a message.
func blurred(message string, sent P) string {
	for _, v := range sent {
		if s, ok := v.(string); ok && unknown.MatchString(s) {
			message = strings.ReplaceAll(message, s, "ID")
		}
	}
	return message
}

// picture is what a tenant has, in short.
func picture(t *testing.T, c *controllertest.Client) string {
	t.Helper()
	var out []string
	for _, list := range [][3]string{{"DescribeVMInstance", "VMID", "State"}, {"DescribeEIP", "EIPID", "Status"}, {"DescribeVPC", "VPCID", "State"}, {"DescribeSubnet", "SubnetID", "State"},
		{"DescribeSecurityGroup", "SGID", "Status"}, {"ListProjects", "ProjectID", "Name"}, {"ListRoles", "RoleID", "Name"}, {"DescribeRecycledResource", "ResourceID", "State"}} {
		for _, i := range c.Must(t, list[0], nil).Infos() {
			out = append(out, i.String(list[1])+" "+i.String(list[2])+" "+i.String("ProjectID")+" "+i.String("Name"))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// TestListsShowOwnAlone calls every list without filters as another tenant and as an account of one project group:
// whatever says whose it is is theirs.
func TestListsShowOwnAlone(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 2})
	owner := c.NewTenant(t)
	rightValues(t, owner)
	project, _, all := callers(t, c, owner)
	inside := owner.Must(t, "AllocateEIP", P{"Name": "inside", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp", "ProjectID": project}).String("EIPID")
	if l := all["inGroup"].Must(t, "DescribeEIP", nil).Infos(); len(l) != 1 || l[0].String("EIPID") != inside {
		t.Fatalf("the account of the group sees the addresses %v", l)
	}
	stranger := c.NewTenant(t)
	now := time.Now()
	for who, by := range map[string]*controllertest.Client{"another tenant": stranger, "an account of the group": all["inGroup"]} {
		lists := 0
		for _, a := range c.Actions() {
			if a.Mutates || a.Admin || a.Anonymous {
				continue
			}
			q := P{"Limit": 100}
			for _, p := range a.Parameters() {
				switch {
				case p.Name == "BeginTime":
					q["BeginTime"] = now.Add(-time.Hour).Unix()
				case p.Name == "EndTime":
					q["EndTime"] = now.Add(time.Hour).Unix()
				}
			}
			r := by.Call(t, a.Name, q)
			if r.Code != retcode.OK {
				continue
			}
			lists++
			for _, i := range r.Infos() {
				if company := i.String("CompanyID"); company != "" && company != "0" && company != strconv.FormatInt(by.Company, 10) {
					t.Errorf("%s shows %s what is of tenant %s: %v", a.Name, who, company, i)
				}
				if p := i.String("ProjectID"); who == "an account of the group" && p != "" && p != project {
					t.Errorf("%s shows %s what is of group %s: %v", a.Name, who, p, i)
				}
			}
		}
		if lists < 10 {
			t.Errorf("%s can call only %d lists", who, lists)
		}
	}
}
