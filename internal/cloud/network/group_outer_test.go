package network_test

import (
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestGroupsOfOuterNICs: every change of the group that an outer NIC has, and of which it has, reaches its port.
func TestGroupsOfOuterNICs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		m := c.Fabric.(*fabric.Memory)
		vm := c.vm(t, nil)
		ips := c.Demo.Must(t, "CreateIPGroup", P{"Name": "office", "Rules": "192.0.2.7"}).String("IPGroupID")
		sg := c.Demo.Must(t, "CreateSecurityGroup", P{"Name": "first", "Rule": []string{"TCP|80|0.0.0.0/0|ACCEPT|LOW|1"}}).String("SGID")
		other := c.Demo.Must(t, "CreateSecurityGroup", P{"Name": "other", "Rule": []string{"UDP|53|0.0.0.0/0|ACCEPT|LOW|1"}}).String("SGID")
		nic := c.nic(t, outer("Month", 3, P{"SGID": sg}))
		c.Demo.Must(t, "AttachNIC", to(nic, vm))
		c.nicIs(t, nic, "Bound")
		// filtered waits until the port has a group with some rules; none: it is not filtered.
		filtered := func(group string, ports ...uint16) {
			t.Helper()
			controllertest.Eventually(t, 30*time.Second, nic+" is filtered by "+group, func() bool {
				p, _ := m.OuterPort(nic)
				if p.Filtered != (group != "") || p.Group != group || len(p.Rules) != len(ports) {
					return false
				}
				for i, r := range p.Rules {
					if r.Ports[0].First != ports[i] {
						return false
					}
				}
				return true
			})
			if got := c.nicIs(t, nic, "Bound").String("SGID"); got != group {
				t.Errorf("the list shows %q, want %q", got, group)
			}
		}
		filtered(sg, 80)
		c.soon(t, "CreateSecurityGroupRule", P{"SGID": sg, "Rules": []string{"TCP|443|0.0.0.0/0|ACCEPT|LOW|1"}})
		filtered(sg, 80, 443)
		bind := func(group, side string) P { return P{"SGID": group, "NICType": side, "ResourceID": nic} }
		c.soon(t, "BindSecurityGroup", bind(other, "WAN"))
		filtered(other, 53)
		if got := c.Demo.Must(t, "DescribeNIC", P{"SGID": other}).Int("TotalCount"); got != 1 {
			t.Errorf("%d NICs have it", got)
		}
		if r := c.Demo.Must(t, "DescribeSecurityGroupResource", P{"SGID": other}).Infos(); len(r) != 1 || r[0].String("NICType") != "WAN" {
			t.Errorf("%v", r)
		}
		c.soon(t, "CreateSecurityGroupRule", P{"SGID": other, "Rules": []string{"TCP|22|" + ips + "|ACCEPT|LOW|1"}})
		filtered(other, 53, 22)
		c.soon(t, "UpdateIPGroup", P{"IPGroupID": ips, "Rules": "192.0.2.7,198.51.100.0/24"})
		controllertest.Eventually(t, 30*time.Second, "the port knows of the new entry", func() bool {
			p, _ := m.OuterPort(nic)
			return len(p.Rules) == 2 && len(p.Rules[1].Remote) == 2
		})
		// It is outside of every VPC.
		c.Demo.Refuse(t, retcode.InvalidNetworkType, "BindSecurityGroup", bind(sg, "LAN"))
		c.Demo.Refuse(t, retcode.InvalidNetworkType, "UnBindSecurityGroup", bind(other, "LAN"))
		c.soon(t, "UnBindSecurityGroup", bind(other, "WAN"))
		filtered("")
		// One that is attached to nothing has its group when it is.
		c.soon(t, "DetachNIC", to(nic, vm))
		c.nicIs(t, nic, "Free")
		c.soon(t, "BindSecurityGroup", bind(sg, "WAN"))
		controllertest.Eventually(t, 30*time.Second, "it has the group", func() bool {
			return c.Demo.Call(t, "DeleteSecurityGroup", P{"SGID": sg}).Code == retcode.SGInUse
		})
		c.soon(t, "AttachNIC", to(nic, vm))
		filtered(sg, 80, 443)
	})
}
