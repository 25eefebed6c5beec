package network_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// newVPC makes a VPC and waits until it is Available.
func (c *cloud) newVPC(t *testing.T, network string, more P) string {
	t.Helper()
	p := P{"Name": "net", "Network": network}
	for k, v := range more {
		p[k] = v
	}
	id := c.Demo.Must(t, "CreateVPC", p).String("VPCID")
	c.becomes(t, "DescribeVPC", "VPCIDs", id, "State", "Available")
	return id
}

// newSubnet makes a subnet and waits until it is Available.
func (c *cloud) newSubnet(t *testing.T, vpc, network string, more P) string {
	t.Helper()
	p := P{"Name": "sub", "VPCID": vpc, "Network": network}
	for k, v := range more {
		p[k] = v
	}
	id := c.Demo.Must(t, "CreateSubnet", p).String("SubnetID")
	c.becomes(t, "DescribeSubnet", "SubnetIDs", id, "State", "Available")
	return id
}

// becomes waits until the only row of a list has a field of the wanted value.
func (c *cloud) becomes(t *testing.T, list, key, id, field, want string) {
	t.Helper()
	controllertest.Eventually(t, 30*time.Second, id+" has "+field+" "+want, func() bool {
		all := c.Demo.Must(t, list, P{key: []string{id}}).Infos()
		return len(all) == 1 && all[0].String(field) == want
	})
}

// goes waits until a list does not show an id any more.
func (c *cloud) goes(t *testing.T, list, key, id string) {
	t.Helper()
	controllertest.Eventually(t, 30*time.Second, id+" is gone", func() bool {
		return len(c.Demo.Must(t, list, P{key: []string{id}}).Infos()) == 0
	})
}

// TestNetworkRules holds every rule of VPCs' and subnets' networks.
func TestNetworkRules(t *testing.T) {
	c := start(t, nil, nil)
	// Only what the platform offers, which is little by default; then all that it may offer.
	for _, n := range []string{"10.0.0.0/8", "10.1.0.0/16", "172.17.0.0/24"} {
		c.Demo.Refuse(t, retcode.InvalidParameter, "CreateVPC", P{"Name": "net", "Network": n})
	}
	c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "VPCNetwork", "ConfigValue": "10.0.0.0/8,172.16.0.0/16,172.29.0.0/16,192.168.0.0/16"})
	for _, n := range []struct {
		network string
		code    retcode.Code
	}{
		{"10.0.0.0/8", retcode.OK}, {"10.20.30.8/29", retcode.OK}, {"172.16.0.0/16", retcode.OK}, {"172.29.255.248/29", retcode.OK},
		{"192.168.0.0/16", retcode.OK}, {"10.0.0.0/16", retcode.OK}, // CIDRs may repeat
		{"10.0.0.0/7", retcode.NotPrivateNetwork}, {"10.0.0.1/16", retcode.InvalidCIDR}, {"10.0.0.0", retcode.InvalidCIDR}, {"10.0.0.0/33", retcode.InvalidCIDR},
		{"ten", retcode.InvalidCIDR}, {"10.0.0.0/016", retcode.InvalidCIDR}, {"010.0.0.0/8", retcode.InvalidCIDR},
		{"8.0.0.0/7", retcode.NotPrivateNetwork}, {"11.0.0.0/16", retcode.NotPrivateNetwork}, {"172.32.0.0/16", retcode.NotPrivateNetwork},
		{"192.169.0.0/16", retcode.NotPrivateNetwork}, {"127.0.0.0/16", retcode.NotPrivateNetwork}, {"169.254.0.0/16", retcode.NotPrivateNetwork},
		{"100.64.0.0/16", retcode.NotPrivateNetwork}, {"fd00::/64", retcode.NotPrivateNetwork}, {"::ffff:10.0.0.0/104", retcode.NotPrivateNetwork},
		{"172.30.0.0/16", retcode.ReservedNetworkOverlap}, {"172.31.4.0/24", retcode.ReservedNetworkOverlap}, {"172.16.0.0/12", retcode.ReservedNetworkOverlap},
		{"10.0.0.0/30", retcode.InvalidParameter}, {"10.0.0.1/32", retcode.InvalidParameter}, {"172.16.0.0/15", retcode.InvalidParameter}, {"192.168.0.0/30", retcode.InvalidParameter},
	} {
		r := c.Demo.Refuse(t, n.code, "CreateVPC", P{"Name": "net", "Network": n.network})
		if n.code == retcode.OK {
			id := r.String("VPCID")
			c.becomes(t, "DescribeVPC", "VPCIDs", id, "State", "Available")
			if got := c.Demo.Must(t, "DescribeVPC", P{"VPCIDs": []string{id}}).Infos()[0].String("Network"); got != n.network {
				t.Errorf("%s became %s", n.network, got)
			}
			c.Demo.Must(t, "DeleteVPC", P{"VPCID": id})
			c.goes(t, "DescribeVPC", "VPCIDs", id)
		}
	}
	for _, p := range []struct {
		code retcode.Code
		more P
	}{
		{retcode.MissingParameter, P{"Name": ""}}, {retcode.MissingParameter, P{"Network": ""}},
		{retcode.InvalidParameter, P{"Name": fmt.Sprintf("%064d", 1)}}, {retcode.InvalidParameter, P{"Remark": fmt.Sprintf("%0101d", 1)}},
	} {
		q := P{"Name": "net", "Network": "10.0.0.0/16"}
		for k, v := range p.more {
			q[k] = v
		}
		c.Demo.Refuse(t, p.code, "CreateVPC", q)
	}

	vpc := c.newVPC(t, "192.168.0.0/16", nil)
	c.newSubnet(t, vpc, "192.168.8.0/22", nil)
	for _, n := range []struct {
		network string
		code    retcode.Code
	}{
		{"192.168.8.1/24", retcode.InvalidCIDR}, {"192.168.8.0", retcode.InvalidCIDR},
		{"8.8.8.0/24", retcode.NotPrivateNetwork}, {"172.31.0.0/24", retcode.ReservedNetworkOverlap},
		{"192.168.0.0/30", retcode.InvalidParameter}, {"192.168.0.0/31", retcode.InvalidParameter}, {"192.168.0.0/32", retcode.InvalidParameter},
		{"10.0.0.0/24", retcode.SubnetOutOfVPC}, {"172.16.0.0/16", retcode.SubnetOutOfVPC},
		{"192.168.8.0/22", retcode.SubnetExists},
		{"192.168.0.0/16", retcode.SubnetConflict}, {"192.168.10.0/24", retcode.SubnetConflict}, {"192.168.8.0/21", retcode.SubnetConflict},
	} {
		c.Demo.Refuse(t, n.code, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": n.network})
	}
	c.Demo.Refuse(t, retcode.VPCNotFound, "CreateSubnet", P{"Name": "sub", "VPCID": "vpc-none", "Network": "192.168.0.0/24"})
	c.NewTenant(t).Refuse(t, retcode.VPCNotFound, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": "192.168.0.0/24"})
	c.Demo.Refuse(t, retcode.InvalidParameterFormat, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": "192.168.0.0/24", "DNS": "9.9.9"})
	c.Demo.Refuse(t, retcode.InvalidParameter, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": "192.168.0.0/24", "DNS": "1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4"})
	c.Demo.Refuse(t, retcode.InvalidParameter, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": "192.168.0.0/24", "DNS": "fd00::1"})
	c.Demo.Refuse(t, retcode.InvalidParameter, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": "192.168.0.0/24", "GatewayIP": "192.168.0.255"})
	c.Demo.Refuse(t, retcode.InvalidParameterFormat, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": "192.168.0.0/24", "GatewayIP": "first"})

	// A subnet may be all of its VPC; then it is the only one.
	whole := c.newVPC(t, "172.16.0.0/29", nil)
	only := c.newSubnet(t, whole, "172.16.0.0/29", P{"GatewayIP": "172.16.0.6", "DNS": "9.9.9.9, 1.1.1.1", "Remark": "r"})
	info := c.Demo.Must(t, "DescribeSubnet", P{"SubnetIDs": []string{only}}).Infos()[0]
	if info.Int("AvailableCount") != 4 || info.String("Gateway") != "172.16.0.6" || info.String("DNS") != "9.9.9.9,1.1.1.1" || info.String("Remark") != "r" {
		t.Errorf("%v", info)
	}
}

// TestCountsOfSubnets: the last free address, and a count that is exact through machines coming and going.
func TestCountsOfSubnets(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		vpc := c.newVPC(t, "172.16.0.0/16", nil)
		subnet := c.newSubnet(t, vpc, "172.16.1.0/29", nil)
		free := func(want int) {
			t.Helper()
			q := c.Demo.Must(t, "GetSubnetAvailableIPQuota", P{"SubnetID": subnet, "CompanyID": c.Demo.Company})
			list := c.Demo.Must(t, "ListAllocatedIPsInSubnet", P{"SubnetID": subnet})
			info := c.Demo.Must(t, "DescribeSubnet", P{"SubnetIDs": []string{subnet}}).Infos()[0]
			if q.Int("AvailableCount") != want || q.Int("UsedCount") != 4-want || info.Int("AvailableCount") != want || list.Int("AllocatedIPCount") != 4-want || len(list.Infos()) != 4-want {
				t.Errorf("want %d free: %v, %v, %v", want, q.Body, list.Body, info)
			}
		}
		free(4)
		in := P{"VPCID": vpc, "SubnetID": subnet}
		var vms []string
		for range 4 {
			vms = append(vms, c.vm(t, in))
		}
		free(0)
		c.Demo.Refuse(t, retcode.SubnetIPInsufficient, "CreateVMInstance", c.create(in))
		list := c.Demo.Must(t, "ListAllocatedIPsInSubnet", P{"SubnetID": subnet, "Limit": 1, "Offset": 1})
		if i := list.Infos(); len(i) != 1 || list.Int("TotalCount") != 4 || i[0].String("IP") != "172.16.1.4" || i[0].String("ResourceType") != "VM" || i[0].String("ResourceName") != "m" || i[0].String("State") != "Bound" {
			t.Errorf("%v", list.Body)
		}
		if only := c.Demo.Must(t, "ListAllocatedIPsInSubnet", P{"SubnetID": subnet, "OnlyCount": true}); only.Int("AllocatedIPCount") != 4 {
			t.Errorf("%v", only.Body)
		}
		c.Demo.Refuse(t, retcode.SubnetInUse, "DeleteSubnet", P{"SubnetID": subnet})
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": vms[0], "DelBindResource": 1})
		c.goes(t, "DescribeVMInstance", "VMIDs", vms[0])
		free(0) // the bin keeps its address
		controllertest.Eventually(t, 30*time.Second, "it can be destroyed", func() bool {
			return c.Demo.Call(t, "TerminateResource", P{"ResourceID": vms[0]}).Code == retcode.OK
		})
		controllertest.Eventually(t, 30*time.Second, "the address is back", func() bool {
			return c.Demo.Must(t, "ListAllocatedIPsInSubnet", P{"SubnetID": subnet}).Int("AllocatedIPCount") == 3
		})
		free(1)
		c.Demo.Refuse(t, retcode.SubnetNotFound, "GetSubnetAvailableIPQuota", P{"SubnetID": "subnet-none", "CompanyID": c.Demo.Company})
		c.Demo.Refuse(t, retcode.AdminOnly, "GetSubnetAvailableIPQuota", P{"SubnetID": subnet, "CompanyID": c.Demo.Company + 1})
		c.Demo.Refuse(t, retcode.SubnetNotFound, "ListAllocatedIPsInSubnet", P{"SubnetID": "subnet-none"})
		if q := c.Admin.Must(t, "GetSubnetAvailableIPQuota", P{"SubnetID": subnet, "CompanyID": c.Demo.Company}); q.Int("AvailableCount") != 1 {
			t.Errorf("%v", q.Body)
		}
	})
}

// TestVPCLife: states, what refuses in them, and what is left when a network is gone.
func TestVPCLife(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := start(t, db, nil)
		release := c.hold(t)
		vpc := c.Demo.Must(t, "CreateVPC", P{"Name": "net", "Network": "172.16.0.0/16", "EnableGateway": true}).String("VPCID")
		c.becomes(t, "DescribeVPC", "VPCIDs", vpc, "State", "Allocating")
		c.Demo.Refuse(t, retcode.InvalidVPCState, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": "172.16.0.0/24"})
		c.Demo.Refuse(t, retcode.InvalidVPCState, "DeleteVPC", P{"VPCID": vpc})
		c.Demo.Refuse(t, retcode.InvalidVPCState, "UpdateVPCGateway", P{"VPCID": vpc, "EnableGateway": false})
		release()
		c.becomes(t, "DescribeVPC", "VPCIDs", vpc, "State", "Available")
		m := c.Fabric.(*fabric.Memory)
		if _, ok := m.VPC(vpc); !ok {
			t.Error("the fabric does not know an Available VPC")
		}
		c.becomes(t, "DescribeVPC", "VPCIDs", vpc, "EnableGateway", "true")
		c.Demo.Must(t, "UpdateVPCGateway", P{"VPCID": vpc, "EnableGateway": false})
		c.becomes(t, "DescribeVPC", "VPCIDs", vpc, "EnableGateway", "false")

		release = c.hold(t)
		subnet := c.Demo.Must(t, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": "172.16.0.0/24"}).String("SubnetID")
		c.becomes(t, "DescribeSubnet", "SubnetIDs", subnet, "State", "Allocating")
		c.Demo.Refuse(t, retcode.InvalidSubnetState, "DeleteSubnet", P{"SubnetID": subnet})
		c.Demo.Refuse(t, retcode.InvalidSubnetState, "CreateVMInstance", c.create(P{"VPCID": vpc, "SubnetID": subnet}))
		release()
		c.becomes(t, "DescribeSubnet", "SubnetIDs", subnet, "State", "Available")
		if v, _ := m.VPC(vpc); len(v.Subnets) != 1 {
			t.Errorf("%+v", v)
		}
		other := c.NewTenant(t)
		other.Refuse(t, retcode.SubnetNotFound, "DeleteSubnet", P{"SubnetID": subnet})
		other.Refuse(t, retcode.VPCNotFound, "DeleteVPC", P{"VPCID": vpc})
		other.Refuse(t, retcode.VPCNotFound, "UpdateVPCGateway", P{"VPCID": vpc, "EnableGateway": true})
		c.Demo.Refuse(t, retcode.VPCInUse, "DeleteVPC", P{"VPCID": vpc})

		release = c.hold(t)
		c.Demo.Must(t, "DeleteSubnet", P{"SubnetID": subnet})
		c.becomes(t, "DescribeSubnet", "SubnetIDs", subnet, "State", "Deleting")
		c.Demo.Must(t, "DeleteSubnet", P{"SubnetID": subnet}) // under way
		c.Demo.Refuse(t, retcode.InvalidSubnetBizState, "CreateVMInstance", c.create(P{"VPCID": vpc, "SubnetID": subnet}))
		release()
		c.goes(t, "DescribeSubnet", "SubnetIDs", subnet)
		c.Demo.Refuse(t, retcode.InvalidSubnetBizState, "DeleteSubnet", P{"SubnetID": subnet})

		m.Fail("RemoveVPC", 1<<30, fmt.Errorf("northbound is away"))
		c.Demo.Must(t, "DeleteVPC", P{"VPCID": vpc})
		c.becomes(t, "DescribeVPC", "VPCIDs", vpc, "State", "Terminating")
		c.Demo.Must(t, "DeleteVPC", P{"VPCID": vpc}) // under way
		c.Demo.Refuse(t, retcode.InvalidVPCBizState, "CreateSubnet", P{"Name": "sub", "VPCID": vpc, "Network": "172.16.0.0/24"})
		m.Fail("RemoveVPC", 0, nil)
		c.goes(t, "DescribeVPC", "VPCIDs", vpc)
		c.Demo.Refuse(t, retcode.InvalidVPCBizState, "DeleteVPC", P{"VPCID": vpc})
		if _, ok := m.VPC(vpc); ok {
			t.Error("the fabric keeps a deleted VPC")
		}
		c.Demo.Refuse(t, retcode.VPCNotFound, "DeleteVPC", P{"VPCID": "vpc-none"})

		// The default network may go, too.
		c.Demo.Must(t, "DeleteSubnet", P{"SubnetID": c.subnet})
		c.goes(t, "DescribeSubnet", "SubnetIDs", c.subnet)
		c.Demo.Must(t, "DeleteVPC", P{"VPCID": c.vpc})
		c.goes(t, "DescribeVPC", "VPCIDs", c.vpc)

		for i := range 10 {
			c.newVPC(t, fmt.Sprintf("10.0.%d.0/24", i), nil)
		}
		c.Demo.Refuse(t, retcode.QuotaExceeded, "CreateVPC", P{"Name": "net", "Network": "10.0.0.0/16"})
	})
}

// TestNewTenantsLieInTheConfiguredNetworks: their default network is the beginning of the first that the region offers.
func TestNewTenantsLieInTheConfiguredNetworks(t *testing.T) {
	c := start(t, nil, nil)
	for network, want := range map[string][2]string{"172.20.4.0/23,10.0.0.0/16": {"172.20.4.0/23", "172.20.4.0/24"}, "10.0.0.0/8": {"10.0.0.0/16", "10.0.0.0/24"}, "192.168.7.0/28": {"192.168.7.0/28", "192.168.7.0/28"}} {
		c.Admin.Must(t, "UpdateRegionConfig", P{"ConfigKey": "VPCNetwork", "ConfigValue": network})
		other := c.NewTenant(t)
		if v, n := other.Must(t, "DescribeVPC", nil).Infos()[0], other.Must(t, "DescribeSubnet", nil).Infos()[0]; v.String("Network") != want[0] || n.String("Network") != want[1] {
			t.Errorf("%s: %v %v", network, v, n)
		}
	}
}
