package network_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (c *cloud) segment(t *testing.T, client *controllertest.Client, id string) controllertest.Info {
	t.Helper()
	all := client.Must(t, "DescribeSegment", P{"SegmentIDs": []string{id}, "ShowIPResourceCount": true}).Infos()
	if len(all) != 1 {
		t.Fatalf("%d rows of %s", len(all), id)
	}
	return all[0]
}

// fabricSegment waits until the fabric knows a segment as it should be.
func (c *cloud) fabricSegment(t *testing.T, id, want string) {
	t.Helper()
	controllertest.Eventually(t, 20*time.Second, id+" in the fabric is "+want, func() bool {
		s, ok := c.Fabric.(*fabric.Memory).Segment(id)
		return want == "" && !ok || ok && fmt.Sprintf("%s %d %s", s.CIDR, s.VLAN, s.Network) == want
	})
}

// TestSegments makes one, gives addresses of it to tenants that may, changes it and deletes it.
func TestSegments(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		other := c.NewTenant(t)
		p := P{"Name": "telecom", "Segment": "203.0.113.0/29", "Device": "ext2", "Vlan": 100, "PermissionMode": "whitelist", "Permission": other.Company,
			"TotalBandwidth": 20, "Remark": "second line"}
		c.Demo.Refuse(t, retcode.AdminOnly, "CreateSegment", p)
		id := c.Admin.Must(t, "CreateSegment", p).String("SegmentID")
		c.fabricSegment(t, id, "203.0.113.0/29 100 ext2")

		i := c.segment(t, c.Admin, id)
		for field, want := range map[string]string{"Name": "telecom", "Segment": "203.0.113.0/29", "IPRanges": "203.0.113.2-203.0.113.6", "Gateway": "203.0.113.1", "Routing": "Default",
			"IPVersion": "IPv4", "Device": "ext2", "Vlan": "100", "Permission": fmt.Sprint(other.Company), "PermissionMode": "whitelist", "Status": "Available",
			"AvailableCount": "5", "UsedCount": "0", "Description": "second line", "TotalBandwidth": "20", "DHCPServerIP": ""} {
			if i.String(field) != want {
				t.Errorf("%s is %q, want %q", field, i.String(field), want)
			}
		}
		if i := c.segment(t, other, id); i.String("Permission") != "" || i.String("Device") != "" || i.String("Vlan") != "" {
			t.Errorf("a tenant reads what is for administrators: %v", i)
		}
		if n := c.Demo.Must(t, "DescribeSegment", P{"SegmentIDs": []string{id}}).Int("TotalCount"); n != 0 {
			t.Error("a tenant sees a segment that is not for it")
		}
		if n := c.Demo.Must(t, "DescribeSegment", P{"IPVersion": "IPv6"}).Int("TotalCount"); n != 0 {
			t.Error("IPv6 segments")
		}

		// Permission, and what it does not take away.
		want := P{"Name": "a", "OperatorName": "telecom", "Bandwidth": 8, "ChargeType": "Dynamic"}
		c.Demo.Refuse(t, retcode.ResourceNotFound, "AllocateEIP", want)
		eip := other.Must(t, "AllocateEIP", want).String("EIPID")
		c.Admin.Must(t, "UpdateResourcePermission", P{"ResourceID": id, "ResourceType": "SEGMENT", "PermissionMode": "blacklist", "Permission": fmt.Sprint(other.Company)})
		other.Refuse(t, retcode.ResourceNotFound, "AllocateEIP", want)
		if n := other.Must(t, "DescribeEIP", P{"EIPIDs": []string{eip}}).Int("TotalCount"); n != 1 {
			t.Error("an address went with the permission")
		}
		users := c.Admin.Must(t, "DescribeResourceUsers", P{"ResourceID": id, "ResourceType": "SEGMENT"})
		if fmt.Sprint(users.Body["Infos"]) != fmt.Sprintf("[%d]", other.Company) {
			t.Errorf("users %v", users.Body)
		}
		nic := c.nic(t, outer("Month", 1, P{"SegmentID": id}))
		if users := c.Admin.Must(t, "DescribeResourceUsers", P{"ResourceID": id, "ResourceType": "SEGMENT"}); len(users.Body["Infos"].([]any)) != 2 {
			t.Errorf("users %v", users.Body)
		}
		c.Demo.Must(t, "DeleteNIC", P{"NICID": nic})
		// 8 of 20 Mbps are spoken for.
		c.Demo.Must(t, "AllocateEIP", P{"Name": "a", "OperatorName": id, "Bandwidth": 12, "ChargeType": "Dynamic", "IP": "203.0.113.6"})
		c.Demo.Refuse(t, retcode.BandwidthLimitReached, "AllocateEIP", P{"Name": "a", "OperatorName": id, "Bandwidth": 1, "ChargeType": "Dynamic"})
		if i := c.segment(t, c.Admin, id); i.Int("AvailableCount") != 3 || i.Int("UsedCount") != 2 {
			t.Errorf("counts %v", i)
		}

		// Changes.
		c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateSegment", P{"SegmentID": id})
		c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateSegment", P{"SegmentID": id, "Vlan": 200})
		c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateSegment", P{"SegmentID": id, "IPRange": "203.0.113.2-203.0.113.5"}) // .6 is in use
		c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateSegment", P{"SegmentID": id, "UpdateMode": "All", "Gateway": "203.0.113.6"})
		c.Admin.Refuse(t, retcode.ResourceNotFound, "UpdateSegment", P{"SegmentID": "seg-1", "IPRange": "203.0.113.2-203.0.113.5"})
		c.Demo.Refuse(t, retcode.AdminOnly, "UpdateSegment", P{"SegmentID": id, "IPRange": "203.0.113.2-203.0.113.6"})
		c.Admin.Must(t, "UpdateSegment", P{"SegmentID": id, "IPRanges": []string{"203.0.113.2-203.0.113.3", "203.0.113.5-203.0.113.7"}})
		if i := c.segment(t, c.Admin, id); i.Int("AvailableCount") != 2 || i.String("IPRanges") != "203.0.113.2-203.0.113.3,203.0.113.5-203.0.113.6" {
			t.Errorf("ranges %v", i)
		}
		c.Admin.Must(t, "UpdateSegment", P{"SegmentID": id, "UpdateMode": "DHCPServerIP", "DHCPServerIP": "203.0.113.3", "TotalBandwidth": 0, "RouteMode": "Specified"})
		if i := c.segment(t, c.Admin, id); i.Int("AvailableCount") != 1 || i.String("DHCPServerIP") != "203.0.113.3" || i.String("Routing") != "Specified" {
			t.Errorf("DHCP %v", i)
		}
		c.Admin.Must(t, "UpdateSegment", P{"SegmentID": id, "UpdateMode": "Device", "Device": "ext3", "Vlan": 0})
		c.fabricSegment(t, id, "203.0.113.0/29 0 ext3")

		c.Admin.Must(t, "UpdateSegment", P{"SegmentID": id, "EnableDHCP": false})
		if i := c.segment(t, c.Admin, id); i.Int("AvailableCount") != 1 || i.String("DHCPServerIP") != "" {
			t.Errorf("without DHCP %v", i)
		}
		c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateSegment", P{"SegmentID": id, "UpdateMode": "DHCPServerIP", "DHCPServerIP": "203.0.113.3", "EnableDHCP": false})
		c.Admin.Must(t, "UpdateSegment", P{"SegmentID": id, "EnableDHCP": true})
		if i := c.segment(t, c.Admin, id); i.String("DHCPServerIP") != "203.0.113.1" {
			t.Errorf("with DHCP %v", i)
		}

		// Names tell segments apart, tags find them.
		rename := P{"ResourceID": id, "Name": "Bgp"}
		c.Admin.Refuse(t, retcode.InvalidParameter, "ModifyNameAndRemark", rename)
		c.Demo.Refuse(t, retcode.AdminOnly, "ModifyNameAndRemark", rename)
		line := c.Admin.Must(t, "CreateSegment", P{"Name": "unicom", "Segment": "192.0.2.0/29", "Device": "ext4", "TagKeyValuePairs": []string{pair("line", "unicom")}}).String("SegmentID")
		if all := c.Demo.Must(t, "DescribeSegment", P{"TagKeyValuePairs": []string{pair("line", "unicom")}}).Infos(); len(all) != 1 || all[0].String("SegmentID") != line {
			t.Errorf("%v", all)
		}
		c.Admin.Must(t, "DeleteSegment", P{"SegmentID": line})

		// Deleted when nothing is used, the bin included.
		c.Admin.Refuse(t, retcode.InvalidResourceState, "DeleteSegment", P{"SegmentID": id})
		mine := c.Demo.Must(t, "DescribeEIP", P{"OperatorName": id}).Infos()[0].String("EIPID")
		for client, e := range map[*controllertest.Client]string{other: eip, c.Demo: mine} {
			client.Must(t, "ReleaseEIP", P{"EIPID": e})
			if i := c.segment(t, c.Admin, id); i.Int("RecycledEIPCount") == 0 {
				t.Errorf("counts %v", i)
			}
			c.Admin.Refuse(t, retcode.InvalidResourceState, "DeleteSegment", P{"SegmentID": id})
			client.Must(t, "TerminateResource", P{"ResourceID": e})
		}
		c.Demo.Refuse(t, retcode.AdminOnly, "DeleteSegment", P{"SegmentID": id})
		c.Admin.Must(t, "DeleteSegment", P{"SegmentID": id})
		c.Admin.Refuse(t, retcode.ResourceNotFound, "DeleteSegment", P{"SegmentID": id})
		c.fabricSegment(t, id, "")
		c.Admin.Refuse(t, retcode.ResourceNotFound, "UpdateResourcePermission", P{"ResourceID": id, "ResourceType": "SEGMENT"})
	})
}

// TestBadSegments refuses what cannot be one.
func TestBadSegments(t *testing.T) {
	c := start(t, nil, nil)
	bgp := c.Admin.Must(t, "DescribeSegment", nil).Infos()[0]
	for name, x := range map[string]struct {
		more P
		code retcode.Code
	}{
		"no CIDR":         {P{"Segment": "203.0.113.0"}, retcode.InvalidParameterFormat},
		"host bits":       {P{"Segment": "203.0.113.1/24"}, retcode.InvalidParameter},
		"IPv6":            {P{"Segment": "2001:db8::/64"}, retcode.InvalidParameter},
		"too small":       {P{"Segment": "203.0.113.0/31"}, retcode.InvalidParameter},
		"loopback":        {P{"Segment": "127.0.0.0/24"}, retcode.InvalidParameter},
		"link-local":      {P{"Segment": "169.254.0.0/16"}, retcode.InvalidParameter},
		"taken name":      {P{"Name": "Bgp"}, retcode.InvalidParameter},
		"long name":       {P{"Name": strings.Repeat("x", 51)}, retcode.InvalidParameter},
		"overlap":         {P{"Segment": bgp.String("Segment"), "Device": bgp.String("Device")}, retcode.InvalidParameter},
		"bad device":      {P{"Device": "bond 0"}, retcode.InvalidParameter},
		"bad VLAN":        {P{"Vlan": "4095"}, retcode.InvalidParameter},
		"no VLAN":         {P{"Vlan": "x"}, retcode.InvalidParameterFormat},
		"range outside":   {P{"IPRange": "203.0.114.1-203.0.114.9"}, retcode.InvalidParameter},
		"range backwards": {P{"IPRange": "203.0.113.9-203.0.113.2"}, retcode.InvalidParameter},
		"no range":        {P{"IPRange": "x-y"}, retcode.InvalidParameterFormat},
		"nothing left":    {P{"IPRange": "203.0.113.1-203.0.113.1"}, retcode.InvalidParameter},
		"gateway outside": {P{"Gateway": "203.0.114.1"}, retcode.InvalidParameter},
		"no gateway":      {P{"Gateway": "x"}, retcode.InvalidParameterFormat},
		"server, no DHCP": {P{"DHCPServerIP": "203.0.113.9"}, retcode.InvalidParameter},
		"list with all":   {P{"Permission": "200000231"}, retcode.InvalidParameter},
		"unknown tenant":  {P{"PermissionMode": "whitelist", "Permission": "1"}, retcode.TenantNotFound},
		"no tenant":       {P{"PermissionMode": "whitelist", "Permission": "x"}, retcode.InvalidParameterFormat},
		"bandwidth":       {P{"TotalBandwidth": 1000001}, retcode.InvalidParameter},
		"unknown mode":    {P{"RouteMode": "Some"}, retcode.InvalidParameter},
	} {
		p := P{"Name": "new", "Segment": "203.0.113.0/24", "Device": "ext2"}
		for k, v := range x.more {
			p[k] = v
		}
		if r := c.Admin.Call(t, "CreateSegment", p); r.Code != x.code {
			t.Errorf("%s: answered %d %q, want %d", name, r.Code, r.Message, x.code)
		}
	}
}

// TestSegmentRoutes: routes reach the routers of the VPCs on the segment, and only specified ones do without a default route.
func TestSegmentRoutes(t *testing.T) {
	c := start(t, nil, nil)
	id := c.Admin.Must(t, "CreateSegment", P{"Name": "lan", "Segment": "203.0.113.0/24", "Device": "ext2", "RouteMode": "Specified", "IPRange": "203.0.113.100-203.0.113.200"}).String("SegmentID")
	route := func(destination, hop string) P { return P{"SegmentID": id, "Destination": destination, "NextHop": hop} }
	one := c.Admin.Must(t, "CreateSegmentRoute", route("192.0.2.0/24", "203.0.113.1")).String("RouteID")
	for name, x := range map[string]struct {
		p    P
		code retcode.Code
	}{
		"again":       {route("192.0.2.0/24", "203.0.113.2"), retcode.InvalidParameter},
		"default":     {route("0.0.0.0/0", "203.0.113.1"), retcode.InvalidParameter},
		"host bits":   {route("192.0.2.1/24", "203.0.113.1"), retcode.InvalidParameter},
		"own":         {route("203.0.113.0/25", "203.0.113.1"), retcode.InvalidParameter},
		"hop outside": {route("198.18.0.0/15", "192.0.2.1"), retcode.InvalidParameter},
		"no network":  {route("x", "203.0.113.1"), retcode.InvalidParameterFormat},
		"no hop":      {route("198.18.0.0/15", "x"), retcode.InvalidParameterFormat},
		"no segment":  {P{"SegmentID": "seg-1", "Destination": "198.18.0.0/15", "NextHop": "203.0.113.1"}, retcode.ResourceNotFound},
		"not by Bgp":  {P{"SegmentID": c.Admin.Must(t, "DescribeSegment", P{"Keyword": "Bgp"}).Infos()[0].String("SegmentID"), "Destination": "198.18.0.0/15", "NextHop": "203.0.113.1"}, retcode.InvalidParameter},
	} {
		if r := c.Admin.Call(t, "CreateSegmentRoute", x.p); r.Code != x.code {
			t.Errorf("%s: answered %d %q, want %d", name, r.Code, r.Message, x.code)
		}
	}
	vm := c.vm(t, nil)
	eip := c.eip(t, P{"OperatorName": "lan"})
	c.Demo.Must(t, "BindEIP", on(eip, vm))
	c.eipState(t, eip, "Bound")
	if i := c.info(t, eip); i.Int("CanDefaultGW") != 0 || i.Int("ISDefaultGW") != 0 || i.String("HasDefaultRoute") != "false" {
		t.Errorf("an address without a default route: %v", i)
	}
	routes := func(want string) {
		t.Helper()
		controllertest.Eventually(t, 20*time.Second, "routes "+want, func() bool {
			v, _ := c.Fabric.(*fabric.Memory).VPC(c.vpc)
			got := ""
			for _, g := range v.Gateways {
				got += fmt.Sprint(g.NextHop)
				for _, r := range g.Routes {
					got += fmt.Sprintf(" %s>%s", r.Destination, r.NextHop)
				}
			}
			return got == want
		})
	}
	routes("invalid IP 192.0.2.0/24>203.0.113.1")
	c.Admin.Must(t, "UpdateSegmentRoute", P{"SegmentID": id, "RouteID": one, "NextHop": "203.0.113.2", "Remark": "moved"})
	two := c.Admin.Must(t, "CreateSegmentRoute", route("198.18.0.0/15", "203.0.113.1")).String("RouteID")
	routes("invalid IP 192.0.2.0/24>203.0.113.2 198.18.0.0/15>203.0.113.1")
	c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateSegmentRoute", P{"SegmentID": id, "RouteID": two, "Destination": "192.0.2.0/24"})
	c.Admin.Refuse(t, retcode.ResourceNotFound, "UpdateSegmentRoute", P{"SegmentID": id, "RouteID": "route-1", "NextHop": "203.0.113.2"})
	c.Admin.Refuse(t, retcode.InvalidParameter, "UpdateSegment", P{"SegmentID": id, "RouteMode": "None"})
	list := c.Demo.Must(t, "DescribeSegmentRoute", P{"SegmentID": id, "RouteIDs": []string{one}})
	if i := list.Infos(); list.Int("TotalCount") != 1 || i[0].String("Remark") != "moved" || i[0].String("NextHop") != "203.0.113.2" || i[0].String("Destination") != "192.0.2.0/24" {
		t.Errorf("routes %v", list.Body)
	}
	c.Admin.Must(t, "UpdateSegment", P{"SegmentID": id, "RouteMode": "Default"})
	routes("203.0.113.1 192.0.2.0/24>203.0.113.2 198.18.0.0/15>203.0.113.1")
	c.Admin.Refuse(t, retcode.ResourceNotFound, "DeleteSegmentRoute", P{"SegmentID": id, "RouteIDs": []string{one, "route-1"}})
	c.Admin.Must(t, "DeleteSegmentRoute", P{"SegmentID": id, "RouteIDs": []string{one, two}})
	routes("203.0.113.1")
	for _, name := range []string{"CreateSegmentRoute", "UpdateSegmentRoute"} {
		c.Demo.Refuse(t, retcode.AdminOnly, name, P{"SegmentID": id, "RouteID": one, "Destination": "192.0.2.0/24", "NextHop": "203.0.113.1"})
	}
	c.Demo.Refuse(t, retcode.AdminOnly, "DeleteSegmentRoute", P{"SegmentID": id, "RouteIDs": []string{one}})
}

// TestImagePermission: a base image that is not for a tenant is not there for it.
func TestImagePermission(t *testing.T) {
	c := start(t, nil, nil)
	other := c.NewTenant(t)
	p := P{"ResourceID": c.image, "ResourceType": "BASE_IMAGE", "PermissionMode": "whitelist", "Permission": other.Company}
	c.vm(t, nil)
	c.Admin.Must(t, "UpdateResourcePermission", p)
	if n := c.Demo.Must(t, "DescribeImage", P{"ImageIDs": []string{c.image}}).Int("TotalCount"); n != 0 {
		t.Error("a tenant sees an image that is not for it")
	}
	c.Demo.Refuse(t, retcode.ImageNotFound, "CreateVMInstance", c.create(nil))
	if i := other.Must(t, "DescribeImage", P{"ImageIDs": []string{c.image}}).Infos(); len(i) != 1 || i[0].String("PermissionMode") != "whitelist" {
		t.Errorf("%v", i)
	}
	if users := c.Admin.Must(t, "DescribeResourceUsers", P{"ResourceID": c.image, "ResourceType": "BASE_IMAGE"}); fmt.Sprint(users.Body["Infos"]) != fmt.Sprintf("[%d]", c.Demo.Company) {
		t.Errorf("users %v", users.Body)
	}
	p["ResourceID"] = "cn-image-none"
	c.Admin.Refuse(t, retcode.ImageNotFound, "UpdateResourcePermission", p)
}
