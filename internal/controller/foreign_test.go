package controller_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// mark is in every name and remark of the tenant that others must hear nothing of.
const mark = "hidden"

// belongings makes one of every kind of thing that a tenant can have, named after it, and returns their ids by
// the parameter that usually names one.
func belongings(t *testing.T, c *controllertest.Client, name string) map[string]string {
	t.Helper()
	first := func(list, field string, p P) string {
		l := c.Must(t, list, p).Infos()
		if len(l) == 0 {
			t.Fatalf("%s lists nothing", list)
		}
		return l[0].String(field)
	}
	named := func(p P) P {
		q := P{"Name": name, "Remark": name}
		maps.Copy(q, p)
		return q
	}
	made := func(create, field string, p P) string { return c.Must(t, create, named(p)).String(field) }
	is := func(list, ids, id, field, want string) {
		controllertest.Eventually(t, time.Minute, id+" is "+want, func() bool {
			l := c.Must(t, list, P{ids: []string{id}}).Infos()
			return len(l) == 1 && l[0].String(field) == want
		})
	}
	vpc := made("CreateVPC", "VPCID", P{"Network": "172.16.0.0/16", "EnableGateway": true})
	is("DescribeVPC", "VPCIDs", vpc, "State", "Available")
	other := made("CreateVPC", "VPCID", P{"Network": "192.168.0.0/16", "EnableGateway": true})
	is("DescribeVPC", "VPCIDs", other, "State", "Available")
	subnet := made("CreateSubnet", "SubnetID", P{"VPCID": vpc, "Network": "172.16.1.0/24"})
	is("DescribeSubnet", "SubnetIDs", subnet, "State", "Available")
	group := made("CreateSecurityGroup", "SGID", P{"Rule": []string{"TCP|80|0.0.0.0/0|ACCEPT|HIGH|1"}})
	is("DescribeSecurityGroup", "SGIDs", group, "Status", "Available")
	machine := P{"CPU": 1, "Memory": 1024, "ChargeType": "Dynamic", "Password": "Right-123456", "VMType": first("DescribeVMType", "VMType", nil),
		"BootDiskSetType": first("DescribeStorageType", "StorageType", nil), "ImageID": first("DescribeImage", "ImageID", nil), "VPCID": vpc, "SubnetID": subnet, "WANSGID": group}
	vm := made("CreateVMInstance", "VMID", machine)
	idle := made("CreateVMInstance", "VMID", machine)
	is("DescribeVMInstance", "VMIDs", vm, "State", "Running")
	is("DescribeVMInstance", "VMIDs", idle, "State", "Running")
	c.Must(t, "StopVMInstance", P{"VMID": idle})
	is("DescribeVMInstance", "VMIDs", idle, "State", "Stopped")
	buy := P{"ChargeType": "Dynamic", "DiskSpace": 10, "SetType": machine["BootDiskSetType"]}
	disk, bin := made("CreateDisk", "DiskID", buy), made("CreateDisk", "DiskID", buy)
	is("DescribeDisk", "DiskIDs", disk, "DiskStatus", "Unbound")
	is("DescribeDisk", "DiskIDs", bin, "DiskStatus", "Unbound")
	snapshot := made("CreateSnapshot", "SnapshotID", P{"DiskID": disk})
	is("DescribeSnapshot", "SnapshotIDs", snapshot, "SnapshotStatus", "Normal")
	c.Must(t, "DeleteDisk", P{"DiskID": bin})
	image := c.Must(t, "CreateCustomImage", P{"VMID": idle, "ImageName": name}).String("ImageID")
	is("DescribeImage", "ImageIDs", image, "ImageStatus", "Used")
	upload := c.Must(t, "ImportImage", P{"CompanyID": c.Company, "ImageName": name, "ImageFormat": "qcow2", "ImportType": "Local", "OSDistribution": "Linux", "OSType": "Linux"})
	eip := made("AllocateEIP", "EIPID", P{"ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp"})
	is("DescribeEIP", "EIPIDs", eip, "Status", "Free")
	ip := made("CreatePhysicalIP", "PhysicalIPID", P{"OperatorName": "Bgp"})
	nic := made("CreateNIC", "NICID", P{"VPCID": vpc, "SubnetID": subnet})
	vip := made("AllocateVIP", "VIPID", P{"VIPType": "LAN", "VPCID": vpc, "SubnetID": subnet})
	route := c.Must(t, "CreateSubnetRoute", P{"SubnetID": subnet, "Destination": "10.50.0.0/16", "NextHopType": "Custom", "NextHop": "172.16.1.9"}).String("RouteID")
	timer := made("CreateTimer", "TimerID", P{"Task": "CreateSnapshot", "Type": "TIMER_TYPE_DAILY", "Hours": []int{3}, "ResourceIDs": []string{disk}})
	tag := base64.StdEncoding.EncodeToString([]byte(name)) + ":" + base64.StdEncoding.EncodeToString([]byte(name))
	c.Must(t, "BindTag", P{"ResourceType": "Disk", "ResourceIDs": []string{disk}, "KeyValuePairs": []string{tag}})
	sub := c.Must(t, "CreateSubMember", P{"MemberEmail": fmt.Sprintf("%s%d@example.com", name, c.Company), "MemberName": name, "Password": "Right-123456"}).String("MemberID")
	project := c.Must(t, "CreateProject", P{"CompanyID": c.Company, "Name": name}).String("ProjectID")
	role := c.Must(t, "CreateRole", P{"Name": name, "Permission": "DescribeEIP-1"}).String("RoleID")
	c.Must(t, "GrantRole", P{"MemberID": sub, "RoleIDs": []string{role}})
	key := c.Must(t, "CreateAPIKey", P{"MemberID": sub, "Name": name}).String("APIKeyID")
	ids := map[string]string{"VMID": vm, "idle": idle, "DiskID": disk, "bin": bin, "SnapshotID": snapshot, "ImageID": image, "upload": upload.String("ImageID"), "UploadID": upload.String("UploadID"),
		"VPCID": vpc, "PeerID": other, "SubnetID": subnet, "SGID": group, "SGRuleID": c.Must(t, "DescribeSecurityGroup", P{"SGIDs": []string{group}}).Infos()[0].List("Rule")[0].String("RuleID"),
		"EIPID": eip, "PhysicalIPID": ip, "NICID": nic, "VIPID": vip, "TimerID": timer, "MemberID": sub, "ProjectID": project, "RoleID": role, "APIKeyID": key,
		"KeyPairID":   made("CreateKeyPair", "KeyPairID", nil),
		"IPGroupID":   made("CreateIPGroup", "IPGroupID", P{"Rules": "10.0.0.0/8"}),
		"PortGroupID": made("CreatePortGroup", "PortGroupID", P{"Rules": "TCP:80"}),
		"RouteID":     route,
		"GrantIDs":    first("ListRoleGrants", "GrantID", P{"RoleID": role}),
		"OrderID":     first("DescribeOrder", "OrderNO", lately()), "CompanyID": strconv.FormatInt(c.Company, 10),
	}
	for kind, id := range ids {
		if id == "" {
			t.Fatalf("no %s was made", kind)
		}
	}
	return ids
}

// ownValues are the right values of parameters that name nothing, where their name does not tell them.
func ownValues(own map[string]string) map[string]P {
	tag := base64.StdEncoding.EncodeToString([]byte("k")) + ":" + base64.StdEncoding.EncodeToString([]byte("v"))
	idle := P{"VMID": own["idle"]}
	return map[string]P{
		"AllocateVIP":             {"SubnetID": own["SubnetID"], "AssociatedResourceType": "VM"},
		"BindTag":                 {"ResourceIDs.0": own["VMID"], "KeyValuePairs.0": tag},
		"UnBindTag":               {"ResourceIDs.0": own["VMID"], "KeyValuePairs.0": tag},
		"SetResourceTags":         {"ResourceID": own["VMID"], "KeyValuePairs.0": tag},
		"CheckIPInuse":            {"IP": "172.16.1.77"},
		"CreateIPGroup":           {"Rules": "10.0.0.0/8"},
		"UpdateIPGroup":           {"Rules": "10.0.0.0/8"},
		"CreatePortGroup":         {"Rules": "TCP:80"},
		"UpdatePortGroup":         {"Rules": "TCP:80"},
		"CreateNIC":               {"VPCID": own["VPCID"], "SubnetID": own["SubnetID"]},
		"CreateSubMember":         {"MemberEmail": "one-more@example.com"},
		"CreateCustomImage":       idle,
		"ReinstallVMInstance":     idle,
		"EnterVMRescue":           idle,
		"UpdateVMMAC":             idle,
		"UpdateVMUserData":        {"UserData": "IyEvYmluL3NoCg=="},
		"UpdateVMDNS":             {"DNS": "10.0.0.53"},
		"UpdateVMBootDevices":     {"BootDevices.0": "hd"},
		"CreateTimer":             {"Task": "CreateSnapshot", "Type": "TIMER_TYPE_DAILY", "Hours.0": 3, "ResourceIDs.0": own["DiskID"]},
		"UpdateTimer":             {"Type": "TIMER_TYPE_DAILY", "Hours.0": 3, "ResourceIDs.0": own["DiskID"]},
		"ImportImage":             {"ImportType": "Local", "ImageFormat": "qcow2"},
		"ReplaceIP":               {"ResourceID": own["idle"], "IP": "172.16.1.78"},
		"UpdateSubnetRoute":       {"Destination": "10.60.0.0/16", "NextHopType": "VM", "NextHop": own["VMID"]},
		"CreateSubnetRoute":       {"Destination": "10.60.0.0/16", "NextHopType": "VM", "NextHop": own["VMID"]},
		"UpdateSecurityGroupRule": {"Rules.0": "TCP|81|0.0.0.0/0|ACCEPT|LOW|1|" + own["SGRuleID"]},
		"RevokeRole":              {"MemberID": own["MemberID"], "RoleID": own["RoleID"]},
	}
}

// inside are parameters that name something only together with others.
var inside = map[string]P{
	"CreateVMInstance BootDiskID": {"BootSourceType": "Disk", "OSName": "Debian", "OSVersion": "12", "OSType": "Linux"},
	"CreateNIC SegmentID":         {"NICType": "WAN", "Bandwidth": 1, "ChargeType": "Dynamic"},
	"AllocateVIP SegmentID":       {"VIPType": "WAN", "Bandwidth": 1, "ChargeType": "Dynamic"},
	"RevokeRole GrantIDs":         {"MemberID": "", "RoleID": ""},
}

// TestNothingOfAnotherTenantIsReached calls every action with the own right values and, in each parameter that takes
// an id, be it a filter or an extra, the id of everything that another tenant has: nothing of it is answered, done or
// told apart from what nobody has, and not a row of it changes.
func TestNothingOfAnotherTenantIsReached(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 2})
	victim, attacker := c.NewTenant(t), c.NewTenant(t)
	right := rightValues(t, attacker)
	theirs, own := belongings(t, victim, mark), belongings(t, attacker, "own")
	before := everything(t, victim)
	values := ownValues(own)
	kinds := slices.Sorted(maps.Keys(theirs))
	calls := 0
	for _, a := range c.Actions() {
		if a.Anonymous || a.Admin || endsCaller(a.Name) {
			continue
		}
		base := P{}
		for _, p := range a.Parameters() {
			if !p.Required {
				continue
			}
			value := right(p)
			if id, ok := own[p.Name]; ok {
				value = id
			} else if id, ok := own[strings.TrimSuffix(p.Name, "s")]; ok && strings.HasSuffix(p.Name, "IDs") {
				value = id
			}
			base[wireName(p)] = value
		}
		maps.Copy(base, values[a.Name])
		for _, p := range a.Parameters() {
			if !strings.Contains(p.Name, "ID") && p.Name != "NextHop" || p.Name == "OAuth2UniqueID" || strings.HasSuffix(p.Type, "object") {
				continue
			}
			for _, kind := range kinds {
				id := theirs[kind]
				if strings.HasSuffix(p.Type, "int") && strings.Contains(id, "-") {
					continue
				}
				q, none := maps.Clone(base), maps.Clone(base)
				maps.Copy(q, inside[a.Name+" "+p.Name])
				maps.Copy(none, inside[a.Name+" "+p.Name])
				q[wireName(p)], none[wireName(p)] = id, nobodys(id)
				calls++
				x := attacker.Call(t, a.Name, q)
				if x.Code == retcode.ServiceError {
					t.Errorf("%s with %s=%s answers 2: %s", a.Name, p.Name, id, x.Message)
				}
				if text, _ := json.Marshal(x.Body); strings.Contains(strings.ReplaceAll(string(text), id, ""), mark) {
					t.Errorf("%s with %s=%s tells of another tenant: %.300s", a.Name, p.Name, id, text)
				}
				if x.Code == retcode.OK && a.Mutates {
					t.Errorf("%s with %s=%s was done", a.Name, p.Name, id)
				}
				if x.Code == retcode.OK && len(x.Infos()) > 0 && !showsOwn(x, attacker) {
					t.Errorf("%s with %s=%s shows %v", a.Name, p.Name, id, x.Infos()[0])
				}
				if y := attacker.Call(t, a.Name, none); x.Code != y.Code || strings.ReplaceAll(x.Message, id, "ID") != strings.ReplaceAll(y.Message, nobodys(id), "ID") {
					t.Errorf("%s with %s=%s: what is somebody's answers %d %q, what is nobody's %d %q", a.Name, p.Name, id, x.Code, x.Message, y.Code, y.Message)
				}
			}
		}
	}
	t.Logf("%d pairs of calls, %d kinds", calls, len(kinds))
	if after := everything(t, victim); after != before {
		t.Errorf("what the tenant has changed\nfrom %s\nto   %s", before, after)
	}
}

// lately bounds lists that ask for a time.
func lately() P {
	return P{"BeginTime": time.Now().Add(-time.Hour).Unix(), "EndTime": time.Now().Add(time.Hour).Unix()}
}

// nobodys is an id of the same form that nothing has.
func nobodys(id string) string {
	if m := regexp.MustCompile(`^(.*-)[a-z0-9]+$`).FindStringSubmatch(id); m != nil {
		return m[1] + "aaaaaaaaaaaaaa"
	}
	if strings.Trim(id, "0123456789") == "" {
		return "299999999"
	}
	return strings.Repeat("a", len(id))
}

// showsOwn tells whether a list is of the caller's own: a filter that says nothing there is ignored.
func showsOwn(r controllertest.Response, c *controllertest.Client) bool {
	return !slices.ContainsFunc(r.Infos(), func(i controllertest.Info) bool {
		company := i.String("CompanyID")
		return company != "" && company != "0" && company != strconv.FormatInt(c.Company, 10)
	})
}

// lastUse is of the tenant's own calls.
var lastUse = regexp.MustCompile(`"LastUse(IP|Time)":[^,}]*`)

// everything that a tenant sees of what it has, but for its log of calls.
func everything(t *testing.T, c *controllertest.Client) string {
	t.Helper()
	var out []string
	for _, list := range []string{"DescribeVMInstance", "DescribeDisk", "DescribeSnapshot", "DescribeImage", "DescribeVPC", "DescribeSubnet", "DescribeVPCPeering", "DescribeNIC", "DescribeVIP",
		"DescribeSecurityGroup", "DescribeIPGroup", "DescribePortGroup", "DescribeEIP", "DescribePhysicalIP", "DescribeKeyPair", "DescribeTimer", "DescribeTag",
		"DescribeMember", "ListProjects", "ListRoles", "ListRoleGrants", "DescribeAPIKey", "DescribeRecycledResource", "DescribeOrder", "DescribeWorkflow"} {
		p := lately()
		p["Limit"] = 100
		text, err := json.Marshal(c.Must(t, list, p).Body["Infos"])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, list+" "+lastUse.ReplaceAllString(string(text), ""))
	}
	return strings.Join(out, "\n")
}
