package controller_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestBadInputNeverBreaksAnything sends hostile values in every parameter of every action, the other
// parameters being right: there is always an answer, a refusal says something, and code 2 never comes.
func TestBadInputNeverBreaksAnything(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	marker := filepath.Join(t.TempDir(), "executed")
	hostile := []string{
		"-1", "0", "-9223372036854775808", "9223372036854775807", "99999999999999999999999999999999", "1e309", "0x7f", "NaN", "1.5",
		"x", "true", "null", "[]", "{}", "../../../../etc/passwd", "/dev/zero", `C:\boot.ini`,
		"$(touch " + marker + ")", "`touch " + marker + "`", "; touch " + marker + " #", "| touch " + marker, "\n touch " + marker + "\n",
		"</name><qemu:commandline/>", "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>&e;", "]]>", "' OR 1=1 --", "\"; DROP TABLE vm; --", "%", "_", "%s%n%d",
		"a\x00b", "\x1b[2J", "\u202e名字\u0301", "😀", strings.Repeat("长", 5000), "TCP|80|0.0.0.0/0|ACCEPT|HIGH|1", "vm-aaaaaaaaaaaaaa", "cn", "10.0.0.0/8", "::1", "255.255.255.255", "127.0.0.1",
	}
	good := rightValues(t, c.Demo)
	calls, turn := 0, 0
	for _, who := range []*controllertest.Client{c.Demo, c.Admin} {
		for _, a := range c.Actions() {
			caller := who
			if endsCaller(a.Name) { // nobody else shall suffer for it
				caller = c.NewTenant(t)
			}
			base := controllertest.P{}
			for _, p := range a.Parameters() {
				if p.Required {
					base[wireName(p)] = good(p)
				}
			}
			send := func(name string, value any) {
				q := maps.Clone(base)
				if name != "" {
					q[name] = value
				}
				calls++
				r, err := caller.Try(q.Values(a.Name))
				if err != nil {
					t.Fatalf("%s with %s=%.60q: %v", a.Name, name, value, err)
				}
				if r.Code == retcode.ServiceError || r.Code != retcode.OK && r.Message == "" {
					t.Errorf("%s with %s=%.60q answers %d %q", a.Name, name, value, r.Code, r.Message)
				}
				if strings.Contains(r.Message, "%!") {
					t.Errorf("%s with %s=%.60q answers a broken message: %s", a.Name, name, value, r.Message)
				}
			}
			// Each parameter gets some of the values; over the whole table each value meets every type many times.
			attack := func(name string) {
				for range hostilePerParameter {
					send(name, hostile[turn%len(hostile)])
					turn++
				}
			}
			for _, p := range append(a.Parameters(), action.Parameter{Name: "Region", Type: "string"}) {
				switch p.Type {
				case "[]object":
					for _, f := range p.Fields {
						attack(p.Name + ".0." + strings.TrimPrefix(f.Name, p.Name+"."))
					}
				case "object":
					for _, f := range p.Fields {
						attack(p.Name + "." + strings.TrimPrefix(f.Name, p.Name+"."))
					}
				default:
					attack(wireName(p))
				}
			}
			if t.Failed() {
				return
			}
			if r, err := who.Try(controllertest.P{}.Values("DescribeRegion")); err != nil || r.Code != retcode.OK {
				t.Fatalf("after %s the caller may do nothing any more (%v, %d): list it in endsCaller", a.Name, err, r.Code)
			}
		}
	}
	t.Logf("%d calls", calls)
	if _, err := os.Stat(marker); err == nil {
		t.Error("a parameter was executed")
	}
	// What was accepted goes on; nothing is left in a transient state.
	controllertest.Eventually(t, time.Minute, "every machine has settled", func() bool {
		for _, vm := range c.Admin.Must(t, "DescribeVMInstance", controllertest.P{"Limit": 100}).Infos() {
			if s := vm.String("State"); strings.HasSuffix(s, "ing") && s != "Running" {
				return false
			}
		}
		return true
	})
	for _, vm := range c.Demo.Must(t, "DescribeVMInstance", controllertest.P{"Limit": 100}).Infos() {
		if s := vm.String("State"); s == "Failed" {
			t.Errorf("bad input made a machine that failed: %v", vm)
		}
	}
}

// hostilePerParameter has no divisor in common with the number of values, so that they move on from parameter to parameter.
const hostilePerParameter = 10

// endsCaller tells which actions may end what their caller may do: they are called by a tenant of their own.
func endsCaller(name string) bool {
	for _, part := range []string{"Freeze", "Whitelist", "APIKey", "Password", "LogoutToken", "DeleteMember", "DeleteCompany", "TOTP"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// wireName is how one value of a parameter is sent.
func wireName(p action.Parameter) string {
	if strings.HasPrefix(p.Type, "[]") {
		return p.Name + ".0"
	}
	return p.Name
}

// rightValues returns what makes a required parameter right, as far as its name tells.
func rightValues(t *testing.T, c *controllertest.Client) func(p action.Parameter) any {
	t.Helper()
	first := func(name, field string) string {
		l := c.Must(t, name, nil).Infos()
		if len(l) == 0 {
			t.Fatalf("%s lists nothing", name)
		}
		return l[0].String(field)
	}
	values := map[string]any{
		"Name": "right", "Password": "Right-123456", "ChargeType": "Dynamic", "CPU": 1, "Memory": 1024, "OperatorName": "Bgp", "Bandwidth": 1,
		"VMType": first("DescribeVMType", "VMType"), "BootDiskSetType": first("DescribeStorageType", "StorageType"), "ImageID": first("DescribeImage", "ImageID"),
		"VPCID": first("DescribeVPC", "VPCID"), "SubnetID": first("DescribeSubnet", "SubnetID"), "SGID": first("DescribeSecurityGroup", "SGID"),
		"ResourceType": "VM", "Rule": "TCP|81|0.0.0.0/0|ACCEPT|LOW|1", "Rules": "TCP|82|0.0.0.0/0|ACCEPT|LOW|1",
		"BeginTime": time.Now().Add(-time.Hour).Unix(), "EndTime": time.Now().Add(time.Hour).Unix(), "FileName": "nothing.qcow2", "HostID": "host-sim00000000001", "WANSGID": first("DescribeSecurityGroup", "SGID"),
		"ProductID": "CPU", "SetType": "ComputeSetA", "PriceRuleInfo": `{"Price":1}`, "Discount": 100, "CompanyID": c.Company,
		"Network": "172.16.0.0/16", "EnableGateway": true, "RouteID": "route-none", "RouteIDs": "route-none", "Destination": "10.50.0.0/16", "NextHopType": "Custom", "NextHop": "10.0.0.9",
		"PeerType": "VPC", "PeerID": "vpc-none", "NICID": "nic-none", "MAC": "02:00:00:00:00:01", "VIPID": "vip-none", "VIPType": "LAN",
	}
	create := controllertest.P{}
	for _, k := range []string{"Name", "Password", "ChargeType", "CPU", "Memory", "VMType", "BootDiskSetType", "ImageID", "VPCID", "SubnetID", "WANSGID"} {
		create[k] = values[k]
	}
	vm := c.Must(t, "CreateVMInstance", create).String("VMID")
	values["VMID"], values["ResourceID"], values["ResourceIDs"] = vm, vm, vm
	values["CompanyID"], values["ProjectID"] = c.Company, first("ListProjects", "ProjectID")
	values["EIPID"] = c.Must(t, "AllocateEIP", controllertest.P{"Name": "right", "ChargeType": "Dynamic", "Bandwidth": 1, "OperatorName": "Bgp"}).String("EIPID")
	controllertest.Eventually(t, time.Minute, "the machine runs", func() bool {
		return c.Must(t, "DescribeVMInstance", controllertest.P{"VMIDs": []string{vm}}).Infos()[0].String("State") == "Running"
	})
	return func(p action.Parameter) any {
		if v, ok := values[p.Name]; ok {
			return v
		}
		// Not known by name: one of the values allowed, or an ordinary one of its type.
		switch kind := strings.TrimPrefix(p.Type, "[]"); {
		case len(p.Enum) > 0:
			return p.Enum[0]
		case kind == "int" || kind == "float":
			return max(p.Min, "1")
		case kind == "bool":
			return "true"
		default:
			return "right"
		}
	}
}

// TestOpenAPIDescribesTheWholeTable reads the document as a generator of clients would.
func TestOpenAPIDescribesTheWholeTable(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	w, err := http.Get(strings.TrimSuffix(c.URL, "/") + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	var doc struct {
		OpenAPI string
		Paths   map[string]struct{ Post struct{ OperationID string } }
	}
	if err := json.NewDecoder(w.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || len(doc.Paths) != len(c.Actions()) {
		t.Errorf("OpenAPI %q describes %d of %d actions", doc.OpenAPI, len(doc.Paths), len(c.Actions()))
	}
	for _, a := range c.Actions() {
		if got := doc.Paths["/api#"+a.Name].Post.OperationID; got != a.Name {
			t.Errorf("%s is described as %s", a.Name, fmt.Sprintf("%q", got))
		}
	}
}
