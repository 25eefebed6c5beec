package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// afterExpiry are the changes that an expired resource still takes, and why.
var afterExpiry = map[string]string{
	"RenewResource":     "that is what it waits for",
	"UpdateAutoRenew":   "is about how it is paid for",
	"DeleteVMInstance":  "may be given up",
	"DeleteDisk":        "may be given up",
	"ReleaseEIP":        "may be given up",
	"DeleteNIC":         "may be given up",
	"ReleaseVIP":        "may be given up",
	"TerminateResource": "may be given up",

	"DetachDisk": "takes off an expired machine what is paid for; from an expired disk there is nothing to take, it was detached or its machine stopped",
	"UnBindEIP":  "the same",
	"DetachNIC":  "the same",

	"RollbackResource": "is for what is in the recycle bin, where 206 comes first, too",
	"BindPhysicalIP":   "names a physical address, which only administrators make",
	"UnbindPhysicalIP": "the same",
	"AttachISO":        "names a disc, which must be there first",
	"EnterVMRescue":    "boots a disc, which must be there first",
	"CreateTimer":      "takes disks only",
	"UpdateTimer":      "takes disks only",
	"RollbackSnapshot": "names a snapshot, which must be there first",
}

// TestExpiredResourcesRefuseChanges lets one resource of every charged kind expire and calls every action that changes
// it: each answers 206, or is on the list above.
func TestExpiredResourcesRefuseChanges(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	owner := c.NewTenant(t)
	right := rightValues(t, owner)
	month := func(p P) P { p["ChargeType"], p["AutoRenew"] = "Month", false; return p }
	vpc := owner.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID")
	group := owner.Must(t, "DescribeSecurityGroup", nil).Infos()[0].String("SGID")
	vm := owner.Must(t, "CreateVMInstance", month(P{"Name": "m", "CPU": 1, "Memory": 1024, "VMType": "ComputeSetA", "BootDiskSetType": "StorageSetA", "VPCID": vpc,
		"SubnetID": owner.Must(t, "DescribeSubnet", nil).Infos()[0].String("SubnetID"), "ImageID": owner.Must(t, "DescribeImage", nil).Infos()[0].String("ImageID"),
		"WANSGID": group, "Password": "Right-123456"})).String("VMID")
	resources := []struct {
		kind, id   string
		parameters []string
	}{
		{"VM", vm, []string{"VMID", "VMIDs", "ResourceID", "ResourceIDs"}},
		{"Disk", owner.Must(t, "CreateDisk", month(P{"Name": "d", "DiskSpace": 10, "SetType": "StorageSetA"})).String("DiskID"), []string{"DiskID", "DiskIDs"}},
		{"EIP", owner.Must(t, "AllocateEIP", month(P{"Name": "e", "Bandwidth": 2, "OperatorName": "Bgp"})).String("EIPID"), []string{"EIPID", "EIPIDs"}},
		{"NIC", owner.Must(t, "CreateNIC", month(P{"Name": "n", "NICType": "WAN", "SegmentID": "Bgp", "Bandwidth": 2})).String("NICID"), []string{"NICID", "NICIDs"}},
		{"VIP", owner.Must(t, "AllocateVIP", month(P{"Name": "v", "VIPType": "WAN", "VPCID": vpc, "SegmentID": "Bgp", "Bandwidth": 2})).String("VIPID"), []string{"VIPID", "VIPIDs"}},
	}
	controllertest.Eventually(t, time.Minute, "the machine runs", func() bool {
		return owner.Must(t, "DescribeVMInstance", P{"VMIDs": []string{vm}}).Infos()[0].String("State") == "Running"
	})
	c.Clock.Advance(32 * 24 * time.Hour)
	controllertest.Eventually(t, time.Minute, "all have expired, and do no more work", func() bool {
		n := 0
		c.Clock.Advance(10 * time.Second) // what was under way is looked at again
		if err := c.DB.Reader().NewRaw(`SELECT COUNT(*) FROM charge WHERE state = 'Expired' AND enforced`).Scan(t.Context(), &n); err != nil {
			t.Fatal(err)
		}
		return n == len(resources)
	})
	// What else calls name is there and paid for.
	free := func(name, key string, p P) string {
		p["ChargeType"] = "Dynamic"
		return owner.Must(t, name, p).String(key)
	}
	others := P{"EIPID": free("AllocateEIP", "EIPID", P{"Name": "e", "Bandwidth": 2, "OperatorName": "Bgp"}),
		"NICID":  free("CreateNIC", "NICID", P{"Name": "n", "NICType": "WAN", "SegmentID": "Bgp", "Bandwidth": 2}),
		"DiskID": free("CreateDisk", "DiskID", P{"Name": "d", "DiskSpace": 10, "SetType": "StorageSetA"}),
		"IP":     "10.0.0.99", "DNS": "192.0.2.53", "UserData": "YQ==", "BootDevices": "hd", "KeyValuePairs": "YQ==:Yg==", "DiskSpace": 20}
	controllertest.Eventually(t, time.Minute, "these are whole", func() bool {
		n := 0
		if err := c.DB.Reader().NewRaw(`SELECT COUNT(*) FROM operation WHERE ended_at = 0`).Scan(t.Context(), &n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
	seen := map[string]bool{}
	calls := 0
	for _, r := range resources {
		for _, a := range c.Actions() {
			if !a.Mutates || a.Admin || a.Anonymous || !slices.ContainsFunc(a.Parameters(), func(p action.Parameter) bool { return slices.Contains(r.parameters, p.Name) }) {
				continue
			}
			q := P{}
			for _, p := range a.Parameters() {
				switch {
				case slices.Contains(r.parameters, p.Name):
					q[wireName(p)] = r.id
				case p.Name == "ResourceType" && r.kind == "VM":
					q[wireName(p)] = "VM"
				case p.Required && others[p.Name] != nil:
					q[wireName(p)] = others[p.Name]
				case p.Required:
					q[wireName(p)] = fmt.Sprint(right(p))
				}
			}
			calls++
			seen[a.Name] = true
			if _, ok := afterExpiry[a.Name]; ok {
				continue
			}
			if got := owner.Call(t, a.Name, q); got.Code != retcode.ResourceExpired {
				t.Errorf("%s of an expired %s answers %d %q", a.Name, r.kind, got.Code, strings.TrimSpace(got.Message))
			}
		}
	}
	for name := range afterExpiry {
		if !seen[name] {
			t.Errorf("%s is on the list and changes no charged resource", name)
		}
	}
	if calls < 60 {
		t.Errorf("only %d calls", calls)
	}
}
