package network_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// sg reads a security group.
func (c *cloud) sg(t *testing.T, id string) controllertest.Info {
	t.Helper()
	all := c.Demo.Must(t, "DescribeSecurityGroup", P{"SGIDs": []string{id}}).Infos()
	if len(all) != 1 {
		t.Fatalf("%d rows of %s", len(all), id)
	}
	return all[0]
}

func (c *cloud) sgAvailable(t *testing.T, id string) {
	t.Helper()
	controllertest.Eventually(t, 30*time.Second, id+" is Available", func() bool { return c.sg(t, id).String("Status") == "Available" })
}

// rules are the rules of a group with their ids.
func (c *cloud) rules(t *testing.T, id string) (texts, ids []string) {
	t.Helper()
	for _, r := range c.Demo.Must(t, "DescribeSecurityGroupRule", P{"SGID": id, "Limit": 100}).Infos() {
		texts = append(texts, strings.Join([]string{r.String("ProtocolType"), r.String("DstPort"), r.String("SrcIP"), r.String("RuleAction"), r.String("Priority"), r.String("Direction")}, "|"))
		ids = append(ids, r.String("RuleID"))
	}
	return texts, ids
}

// filtered is what the fabric knows of a side of a group: rules and members.
func (c *cloud) filtered(id string, side fabric.Side) (rules []fabric.Rule, members int) {
	v, _ := c.Fabric.(*fabric.Memory).VPC(c.vpc)
	for _, g := range v.Groups {
		if g.ID == id && g.Side == side {
			return g.Rules, len(g.Members)
		}
	}
	return nil, 0
}

func (c *cloud) newGroup(t *testing.T, rules ...string) string {
	t.Helper()
	return c.Demo.Must(t, "CreateSecurityGroup", P{"Name": "web", "Rule": rules}).String("SGID")
}

// TestRules changes and deletes rules of a group that is used and of one that is not.
func TestRules(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		sg := c.newGroup(t, "TCP|80|any|ACCEPT|MEDIUM|1", "TCP|443|any|ACCEPT|MEDIUM|1", "ALL||any|ACCEPT|LOW|0")
		check := func(want ...string) []string {
			t.Helper()
			texts, ids := c.rules(t, sg)
			if !slices.Equal(texts, want) {
				t.Errorf("rules %q, want %q", texts, want)
			}
			return ids
		}
		for _, used := range []bool{false, true} {
			if used {
				c.vm(t, P{"WANSGID": sg})
			}
			ids := check("TCP|80|0.0.0.0/0|ACCEPT|MEDIUM|1", "TCP|443|0.0.0.0/0|ACCEPT|MEDIUM|1", "ALL||0.0.0.0/0|ACCEPT|LOW|0")
			update := func(rules ...string) P { return P{"SGID": sg, "Rules": rules} }
			// They swap their traffic in one call.
			c.Demo.Must(t, "UpdateSecurityGroupRule", update("TCP|443|any|DROP|HIGH|1|"+ids[0], "TCP|80|172.16.0.0/16|ACCEPT|MEDIUM|1|"+ids[1]))
			c.sgAvailable(t, sg)
			if after := check("TCP|443|0.0.0.0/0|DROP|HIGH|1", "TCP|80|172.16.0.0/16|ACCEPT|MEDIUM|1", "ALL||0.0.0.0/0|ACCEPT|LOW|0"); !slices.Equal(after, ids) {
				t.Errorf("ids %q became %q", ids, after)
			}
			c.Demo.Refuse(t, retcode.SGRuleNotFound, "UpdateSecurityGroupRule", update("TCP|1|any|DROP|HIGH|1|sg_rule-1"))
			c.Demo.Refuse(t, retcode.SGRulePartiallyNotFound, "UpdateSecurityGroupRule", update("TCP|1|any|DROP|HIGH|1|sg_rule-1", "TCP|2|any|DROP|HIGH|1|"+ids[0]))
			c.Demo.Refuse(t, retcode.SGRuleDuplicated, "UpdateSecurityGroupRule", update("ALL||any|ACCEPT|HIGH|0|"+ids[0]))
			c.Demo.Refuse(t, retcode.SGRuleDuplicated, "UpdateSecurityGroupRule", update("TCP|1|any|DROP|HIGH|1|"+ids[0], "TCP|1|any|ACCEPT|HIGH|1|"+ids[1]))
			c.Demo.Refuse(t, retcode.InvalidParameter, "UpdateSecurityGroupRule", update("TCP|1|any|DROP|HIGH|1|"+ids[0], "TCP|2|any|DROP|HIGH|1|"+ids[0]))
			c.Demo.Refuse(t, retcode.InvalidParameter, "UpdateSecurityGroupRule", update("PPTP||any|DROP|HIGH|1|"+ids[0]))
			c.Demo.Refuse(t, retcode.InvalidParameterFormat, "UpdateSecurityGroupRule", update("TCP|1|any|DROP|HIGH|1"))
			c.Demo.Refuse(t, retcode.SGNotFound, "UpdateSecurityGroupRule", P{"SGID": "sg-1", "Rules": []string{"TCP|1|any|DROP|HIGH|1|" + ids[0]}})
			c.NewTenant(t).Refuse(t, retcode.SGNotFound, "UpdateSecurityGroupRule", update("TCP|1|any|DROP|HIGH|1|"+ids[0]))

			c.Demo.Refuse(t, retcode.SGRuleNotFound, "DeleteSecurityGroupRule", P{"SGID": sg, "SGRuleID": "sg_rule-1"})
			c.Demo.Refuse(t, retcode.SGRulePartiallyNotFound, "DeleteSecurityGroupRule", P{"SGID": sg, "SGRuleID": ids[0] + ",sg_rule-1"})
			c.Demo.Refuse(t, retcode.SGNotFound, "DeleteSecurityGroupRule", P{"SGID": "sg-1", "SGRuleID": ids[0]})
			c.Demo.Must(t, "DeleteSecurityGroupRule", P{"SGID": sg, "SGRuleID": ids[0] + ", " + ids[1]})
			c.sgAvailable(t, sg)
			check("ALL||0.0.0.0/0|ACCEPT|LOW|0")
			if rules, _ := c.filtered(sg, fabric.Outer); used && len(rules) != 1 {
				t.Errorf("in the fabric: %v", rules)
			}
			if n := c.Demo.Must(t, "DescribeSecurityGroupRule", P{"SGID": sg, "Direction": 1}).Int("TotalCount"); n != 0 {
				t.Errorf("%d rules in", n)
			}
			c.Demo.Must(t, "DeleteSecurityGroupRule", P{"SGID": sg, "SGRuleID": ids[2]})
			c.sgAvailable(t, sg)
			c.Demo.Must(t, "CreateSecurityGroupRule", P{"SGID": sg, "Rules": []string{"TCP|80|any|ACCEPT|MEDIUM|1", "TCP|443|any|ACCEPT|MEDIUM|1", "ALL||any|ACCEPT|LOW|0"}})
			c.sgAvailable(t, sg)
		}
		_, ids := c.rules(t, sg)
		release := c.hold(t)
		c.Demo.Must(t, "DeleteSecurityGroupRule", P{"SGID": sg, "SGRuleID": ids[0]})
		c.Demo.Refuse(t, retcode.InvalidSGState, "DeleteSecurityGroupRule", P{"SGID": sg, "SGRuleID": ids[1]})
		c.Demo.Refuse(t, retcode.InvalidSGState, "UpdateSecurityGroupRule", P{"SGID": sg, "Rules": []string{"TCP|1|any|DROP|HIGH|1|" + ids[1]}})
		release()
		c.sgAvailable(t, sg)
	})
}

// TestBindGroups gives sides of machines and interfaces other groups, and deletes groups that nothing has.
func TestBindGroups(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		one, two := c.vm(t, nil), c.vm(t, nil)
		sg := c.newGroup(t, "TCP|80|any|ACCEPT|MEDIUM|1")
		bind := func(sg, side string, ids ...string) P {
			return P{"SGID": sg, "ResourceID": strings.Join(ids, ","), "NICType": side}
		}
		resources := func(want ...string) {
			t.Helper()
			var got []string
			r := c.Demo.Must(t, "DescribeSecurityGroupResource", P{"SGID": sg})
			for _, i := range r.Infos() {
				if i.String("ResourceType") != "VM" || i.String("SGID") != sg || i.String("SGName") != "web" || i.String("Name") != "m" || i.String("Region") != "cn" {
					t.Errorf("%v", i)
				}
				got = append(got, i.String("ResourceID")+" "+i.String("NICType"))
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) || r.Int("TotalCount") != len(want) {
				t.Errorf("resources %q, want %q", got, want)
			}
		}
		members := func(side fabric.Side, want int) {
			t.Helper()
			controllertest.Eventually(t, 20*time.Second, fmt.Sprintf("%d members of %s in the fabric", want, side), func() bool {
				_, n := c.filtered(sg, side)
				return n == want
			})
		}
		settled := func(vm ...string) {
			t.Helper()
			controllertest.Eventually(t, 20*time.Second, "nothing is under way", func() bool {
				n, err := c.DB.Reader().NewSelect().TableExpr("operation_lock").Count(t.Context())
				return err == nil && n == 0
			})
		}
		c.Demo.Must(t, "BindSecurityGroup", bind(sg, "WAN", one, two))
		members(fabric.Outer, 2)
		settled()
		c.Demo.Must(t, "BindSecurityGroup", bind(sg, "WAN", one)) // as it is
		c.Demo.Must(t, "BindSecurityGroup", bind(sg, "LAN", one))
		members(fabric.Inner, 1)
		settled()
		resources(one+" WAN", one+" LAN", two+" WAN")
		if i := c.sg(t, sg); i.Int("ResourceCount") != 2 || i.Int("BindCount") != 3 {
			t.Errorf("counts %v", i)
		}
		c.Demo.Refuse(t, retcode.SGInUse, "DeleteSecurityGroup", P{"SGID": sg})

		c.Demo.Refuse(t, retcode.InvalidNetworkType, "BindSecurityGroup", bind(sg, "MAN", one))
		c.Demo.Refuse(t, retcode.InvalidNetworkType, "UnBindSecurityGroup", bind(sg, "MAN", one))
		c.Demo.Refuse(t, retcode.SGNotFound, "BindSecurityGroup", bind("sg-1", "WAN", one))
		c.Demo.Refuse(t, retcode.VMNotFound, "BindSecurityGroup", bind(sg, "WAN", one, "vm-1"))
		c.Demo.Refuse(t, retcode.ResourceNotFound, "BindSecurityGroup", bind(sg, "WAN", "nic-1"))
		c.Demo.Refuse(t, retcode.InvalidResourceType, "BindSecurityGroup", bind(sg, "WAN", "disk-1"))
		c.Demo.Refuse(t, retcode.InvalidParameter, "BindSecurityGroup", bind(sg, "WAN", strings.Split("vm-1,vm-2,vm-3,vm-4,vm-5,vm-6,vm-7,vm-8,vm-9,vm-10,vm-11", ",")...))
		other := c.NewTenant(t)
		other.Refuse(t, retcode.SGNotFound, "BindSecurityGroup", bind(sg, "WAN", one))
		theirs := other.Must(t, "DescribeSecurityGroup", nil).Infos()[0].String("SGID")
		other.Refuse(t, retcode.VMNotFound, "BindSecurityGroup", bind(theirs, "WAN", one))
		c.Demo.Refuse(t, retcode.SGNotFound, "BindSecurityGroup", bind(theirs, "WAN", one))
		other.Refuse(t, retcode.SGNotFound, "DescribeSecurityGroupResource", P{"SGID": sg})

		// While hosts are told, the group and the sides do not change again.
		release := c.hold(t)
		c.Demo.Must(t, "UnBindSecurityGroup", bind(sg, "WAN", one))
		c.Demo.Refuse(t, retcode.InvalidResourceState, "BindSecurityGroup", bind(c.group, "WAN", one))
		c.Demo.Refuse(t, retcode.InvalidSGState, "CreateSecurityGroupRule", P{"SGID": sg, "Rules": []string{"TCP|81|any|ACCEPT|MEDIUM|1"}})
		release()
		settled()
		resources(one+" LAN", two+" WAN")
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UnBindSecurityGroup", P{"ResourceID": one, "NICType": "WAN"})
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UnBindSecurityGroup", bind(c.group, "WAN", two))
		c.Demo.Must(t, "UnBindSecurityGroup", P{"ResourceID": one, "NICType": "LAN"})
		settled()
		// Without a group on either side nothing passes: the port is in a group without rules.
		v, _ := c.Fabric.(*fabric.Memory).VPC(c.vpc)
		closed := 0
		for _, g := range v.Groups {
			if g.ID == "closed" {
				closed += len(g.Members) + len(g.Rules)
			}
		}
		if closed != 2 {
			t.Errorf("%d closed sides, want 2", closed)
		}
		info := c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{one}}).Infos()[0]
		if s := fmt.Sprint(info); strings.Contains(s, "closed") {
			t.Errorf("what is ours shows: %s", s)
		}
		c.Demo.Must(t, "BindSecurityGroup", bind(c.group, "WAN", one))
		settled()

		// Deleted when nothing has it; the bin counts.
		c.Demo.Must(t, "StopVMInstance", P{"VMID": two})
		c.vmState(t, two, "Stopped")
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": two})
		controllertest.Eventually(t, 20*time.Second, two+" is in the bin", func() bool {
			return c.Demo.Must(t, "DescribeRecycledResource", nil).Int("TotalCount") > 0 && c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{two}}).Int("TotalCount") == 0
		})
		settled()
		c.Demo.Refuse(t, retcode.SGInUse, "DeleteSecurityGroup", P{"SGID": sg})
		other.Refuse(t, retcode.SGNotFound, "DeleteSecurityGroup", P{"SGID": sg})
		c.Demo.Must(t, "TerminateResource", P{"ResourceID": two})
		controllertest.Eventually(t, 20*time.Second, sg+" is deleted", func() bool { return c.Demo.Call(t, "DeleteSecurityGroup", P{"SGID": sg}).Code == retcode.OK })
		c.Demo.Refuse(t, retcode.InvalidSGBizState, "DeleteSecurityGroup", P{"SGID": sg})
		c.Demo.Refuse(t, retcode.InvalidSGBizState, "BindSecurityGroup", bind(sg, "WAN", one))
		c.Demo.Refuse(t, retcode.InvalidSGBizState, "CreateSecurityGroupRule", P{"SGID": sg, "Rules": []string{"TCP|81|any|ACCEPT|MEDIUM|1"}})
		c.Demo.Refuse(t, retcode.InvalidSGBizState, "DeleteSecurityGroup", P{"SGID": c.group})
		if n := c.Demo.Must(t, "DescribeSecurityGroup", P{"SGIDs": []string{sg}}).Int("TotalCount"); n != 0 {
			t.Error("a deleted group is listed")
		}
	})
}

// TestEntryGroups: IP and port groups reach the rules that name them, and are deleted when none does.
func TestEntryGroups(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		ips := c.Demo.Must(t, "CreateIPGroup", P{"Name": "office", "Rules": "192.0.2.7, 198.51.100.0/24,192.0.2.16-192.0.2.20,2001:db8::/32", "Remark": "who may"}).String("IPGroupID")
		ports := c.Demo.Must(t, "CreatePortGroup", P{"Name": "web", "Rules": "tcp:443,TCP:80,UDP:443,TCP:8000-8100"}).String("PortGroupID")
		ip := func() controllertest.Info {
			t.Helper()
			return c.Demo.Must(t, "DescribeIPGroup", P{"IPGroupIDs": []string{ips}}).Infos()[0]
		}
		if i := ip(); i.String("Rules") != "192.0.2.16-192.0.2.20,192.0.2.7/32,198.51.100.0/24,2001:db8::/32" || i.String("Status") != "available" || i.Int("ReferenceCount") != 0 ||
			i.String("Name") != "office" || i.String("Remark") != "who may" {
			t.Errorf("%v", i)
		}
		if i := c.Demo.Must(t, "DescribePortGroup", P{"Keyword": "WEB"}).Infos(); len(i) != 1 || i[0].String("PortGroupID") != ports || i[0].String("Rules") != "TCP:443,TCP:80,TCP:8000-8100,UDP:443" {
			t.Errorf("%v", i)
		}
		sg := c.newGroup(t, "TCP|"+ports+"|"+ips+"|ACCEPT|MEDIUM|1", "ALL||"+ips+"|DROP|LOW|0")
		c.vm(t, P{"WANSGID": sg})
		rules := func(want string) {
			t.Helper()
			controllertest.Eventually(t, 20*time.Second, "in the fabric: "+want, func() bool {
				got := ""
				rules, _ := c.filtered(sg, fabric.Outer)
				for _, r := range rules {
					got += fmt.Sprintf("%v%v ", r.Set == ips, r.Ports)
				}
				v, _ := c.Fabric.(*fabric.Memory).VPC(c.vpc)
				for _, s := range v.Sets {
					got += fmt.Sprintf("%v%v", s.ID == ips, s.Prefixes)
				}
				return got == want
			})
		}
		rules("true[{80 80} {443 443} {8000 8100}] true[] true[192.0.2.7/32 192.0.2.16/30 192.0.2.20/32 198.51.100.0/24 2001:db8::/32]")
		if i := ip(); i.Int("ReferenceCount") != 2 || fmt.Sprint(i["ReferenceSGIDs"]) != "["+sg+"]" {
			t.Errorf("references %v", i)
		}
		listed := c.Demo.Must(t, "DescribeSecurityGroupRule", P{"SGID": sg}).Infos()[0]
		if listed.String("IPGroupID") != ips || listed.String("PortGroupID") != ports || listed.String("SrcIP") != ips || listed.String("DstPort") != ports {
			t.Errorf("rule %v", listed)
		}
		c.Demo.Refuse(t, retcode.SGInUse, "DeleteIPGroup", P{"IPGroupID": ips})
		c.Demo.Refuse(t, retcode.SGInUse, "DeletePortGroup", P{"PortGroupID": ports})

		release := c.hold(t)
		c.Demo.Must(t, "UpdateIPGroup", P{"IPGroupID": ips, "Rules": "192.0.2.7"})
		if i := ip(); i.String("Status") != "updating" {
			t.Errorf("%v", i)
		}
		c.Demo.Must(t, "UpdateIPGroup", P{"IPGroupID": ips, "Rules": "192.0.2.7"})
		c.Demo.Refuse(t, retcode.InvalidResourceState, "UpdateIPGroup", P{"IPGroupID": ips, "Rules": "192.0.2.8"})
		c.Demo.Refuse(t, retcode.InvalidResourceState, "DeleteIPGroup", P{"IPGroupID": ips})
		release()
		rules("true[{80 80} {443 443} {8000 8100}] true[] true[192.0.2.7/32]")
		controllertest.Eventually(t, 20*time.Second, ips+" is available", func() bool { return ip().String("Status") == "available" })
		// A port group without a port of the rule's protocol: the rule is about nothing, not about everything.
		c.Demo.Must(t, "UpdatePortGroup", P{"PortGroupID": ports, "Rules": "UDP:53"})
		rules("true[] true[192.0.2.7/32]")

		c.Demo.Refuse(t, retcode.InvalidParameter, "CreateSecurityGroup", P{"Name": "x", "Rule": []string{"TCP|" + ports + "|any|ACCEPT|LOW|1"}})
		c.Demo.Refuse(t, retcode.ResourceNotFound, "CreateSecurityGroup", P{"Name": "x", "Rule": []string{"TCP|portgroup-1|any|ACCEPT|LOW|1"}})
		c.Demo.Refuse(t, retcode.ResourceNotFound, "CreateSecurityGroupRule", P{"SGID": sg, "Rules": []string{"TCP|80|ipgroup-1|ACCEPT|LOW|1"}})
		other := c.NewTenant(t)
		other.Refuse(t, retcode.ResourceNotFound, "CreateSecurityGroup", P{"Name": "x", "Rule": []string{"TCP|80|" + ips + "|ACCEPT|LOW|1"}})
		other.Refuse(t, retcode.ResourceNotFound, "UpdateIPGroup", P{"IPGroupID": ips, "Rules": "0.0.0.0/0"})
		other.Refuse(t, retcode.ResourceNotFound, "DeletePortGroup", P{"PortGroupID": ports})
		c.Demo.Refuse(t, retcode.ResourceNotFound, "UpdatePortGroup", P{"PortGroupID": ips, "Rules": "TCP:1"})
		for name, x := range map[string]struct {
			action, rules string
			code          retcode.Code
		}{
			"no address":        {"CreateIPGroup", "office", retcode.InvalidParameterFormat},
			"range backwards":   {"CreateIPGroup", "192.0.2.9-192.0.2.1", retcode.InvalidParameterFormat},
			"mixed range":       {"CreateIPGroup", "192.0.2.9-2001:db8::1", retcode.InvalidParameterFormat},
			"mapped":            {"CreateIPGroup", "::ffff:192.0.2.1", retcode.InvalidParameterFormat},
			"nothing":           {"CreateIPGroup", ",", retcode.InvalidParameter},
			"too many":          {"CreateIPGroup", strings.Repeat("192.0.2.1,", 101), retcode.InvalidParameter},
			"too many networks": {"CreateIPGroup", manyRanges(), retcode.InvalidParameter},
			"no protocol":       {"CreatePortGroup", "80", retcode.InvalidParameterFormat},
			"other protocol":    {"CreatePortGroup", "ICMP:80", retcode.InvalidParameterFormat},
			"no port":           {"CreatePortGroup", "TCP:", retcode.InvalidParameterFormat},
			"port 0":            {"CreatePortGroup", "TCP:0", retcode.InvalidParameter},
		} {
			if r := c.Demo.Call(t, x.action, P{"Name": "x", "Rules": x.rules}); r.Code != x.code {
				t.Errorf("%s: answered %d %q, want %d", name, r.Code, r.Message, x.code)
			}
		}

		_, ids := c.rules(t, sg)
		controllertest.Eventually(t, 20*time.Second, "the rules go", func() bool {
			return c.Demo.Call(t, "DeleteSecurityGroupRule", P{"SGID": sg, "SGRuleID": strings.Join(ids, ",")}).Code == retcode.OK
		})
		controllertest.Eventually(t, 20*time.Second, "the groups go", func() bool {
			return c.Demo.Call(t, "DeletePortGroup", P{"PortGroupID": ports}).Code == retcode.OK
		})
		c.Demo.Must(t, "DeleteIPGroup", P{"IPGroupID": ips})
		c.Demo.Refuse(t, retcode.ResourceNotFound, "DeleteIPGroup", P{"IPGroupID": ips})
	})
}

// manyRanges are few entries that come down to many networks.
func manyRanges() string {
	var out []string
	for i := range 60 {
		out = append(out, fmt.Sprintf("10.%d.0.1-10.%d.255.254", i, i))
	}
	return strings.Join(out, ",")
}

// TestRuleRemarks: rules say what they are for.
func TestRuleRemarks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		sg := c.newGroup(t, "ALL||any|ACCEPT|LOW|0")
		add := func(remark string, rules ...string) P { return P{"SGID": sg, "Rules": rules, "Remark": remark} }
		remarks := func(want ...string) {
			t.Helper()
			c.sgAvailable(t, sg)
			var got, inside []string
			for _, r := range c.Demo.Must(t, "DescribeSecurityGroupRule", P{"SGID": sg}).Infos() {
				got = append(got, r.String("Remark"))
			}
			for _, r := range c.sg(t, sg).List("Rule") {
				inside = append(inside, r.String("Remark"))
			}
			if !slices.Equal(got, want) || !slices.Equal(inside, want) {
				t.Errorf("remarks %q and %q, want %q", got, inside, want)
			}
		}
		c.Demo.Refuse(t, retcode.InvalidParameter, "CreateSecurityGroupRule", add(strings.Repeat("x", 101), "TCP|80|any|ACCEPT|LOW|1"))
		first := c.Demo.Must(t, "CreateSecurityGroupRule", add("the office", "TCP|80|any|ACCEPT|LOW|1", "TCP|443|any|ACCEPT|LOW|1")).String("SGRuleID")
		remarks("", "the office", "the office")
		c.Demo.Must(t, "UpdateSecurityGroupRule", P{"SGID": sg, "Rules": []string{"TCP|8080|any|ACCEPT|LOW|1|" + first}})
		remarks("", "the office", "the office") // as it was when none is given
		c.Demo.Refuse(t, retcode.InvalidParameter, "UpdateSecurityGroupRule", P{"SGID": sg, "Rules": []string{"TCP|8080|any|ACCEPT|LOW|1|" + first}, "Remark": strings.Repeat("x", 101)})
		c.Demo.Must(t, "UpdateSecurityGroupRule", P{"SGID": sg, "Rules": []string{"TCP|8080|any|ACCEPT|LOW|1|" + first}, "Remark": "the proxy"})
		remarks("", "the proxy", "the office")
	})
}
