package network_test

import (
	"encoding/base64"
	"testing"
)

// pair is a tag as requests give it.
func pair(key, value string) string {
	return base64.StdEncoding.EncodeToString([]byte(key)) + ":" + base64.StdEncoding.EncodeToString([]byte(value))
}

// TestListsTellWhose: what is listed as the holder of an address or a group has its name, and parts have their own tags.
func TestListsTellWhose(t *testing.T) {
	c := start(t, nil, nil)
	vm, free := c.vm(t, nil), c.nic(t, P{"Name": "spare", "SGID": c.group})
	vip := c.vip(t, P{"Name": "entry", "VIPType": "LAN", "VPCID": c.vpc, "SubnetID": c.subnet})
	names := map[string]string{vm: "m", free: "spare", vip: "entry"}
	for _, i := range c.Demo.Must(t, "ListAllocatedIPsInSubnet", P{"SubnetID": c.subnet}).Infos() {
		if id := i.String("ResourceID"); i.String("ResourceName") != names[id] {
			t.Errorf("%s of %s is called %q, not %q", i.String("IP"), id, i.String("ResourceName"), names[id])
		}
	}
	holders := 0
	for _, i := range c.Demo.Must(t, "DescribeSecurityGroupResource", P{"SGID": c.group}).Infos() {
		if id := i.String("ResourceID"); i.String("Name") != names[id] {
			t.Errorf("%s is called %q, not %q", id, i.String("Name"), names[id])
		} else if id == free {
			holders++
		}
	}
	if holders != 2 {
		t.Errorf("the free NIC has the group on %d sides", holders)
	}
	for list, address := range map[string]string{"DescribeNIC": c.nicIs(t, free, "Free").String("IP"), "DescribeVIP": c.vipIs(t, vip, "Available").String("IP")} {
		if all := c.Demo.Must(t, list, P{"Keyword": address}).Infos(); len(all) != 1 || all[0].String("IP") != address {
			t.Errorf("%s finds %v by the address %s", list, all, address)
		}
	}
	subnet := c.newSubnet(t, c.vpc, "10.0.7.0/24", P{"TagKeyValuePairs": []string{pair("floor", "7")}})
	for _, n := range c.Demo.Must(t, "DescribeVPC", P{"VPCIDs": []string{c.vpc}}).Infos()[0].List("SubnetInfos") {
		if tags := n.List("Tags"); n.String("SubnetID") == subnet && (len(tags) != 1 || tags[0].String("Key") != "floor" || tags[0].String("Value") != "7") {
			t.Errorf("the subnet in its VPC has the tags %v", tags)
		}
	}
}
