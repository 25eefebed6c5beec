package catalog_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

const (
	computeSet  = "set-01"
	storageSet  = "storage-set-01"
	storageType = "StorageSetA"
)

// allocate are the parameters of a quota of a tenant, divided among sets.
func allocate(company int64, resource, factor string, quota int, allocation string) P {
	return P{"CompanyID": company, "ResourceType": resource, "FactorType": factor, "Quota": quota, "Allocation": allocation}
}

// inSet is what a tenant may have and has of a factor in a set; -1 where the set is not listed.
func inSet(t *testing.T, c *controllertest.Client, resource, factor, set string) (quota, used int) {
	t.Helper()
	for _, i := range c.Must(t, "DescribeQuotaUsage", nil).Infos() {
		if i.String("ResourceType") != resource || i.String("FactorType") != factor {
			continue
		}
		for _, s := range i.List("Sets") {
			if s.String("SetID") == set {
				return s.Int("Quota"), s.Int("Usage")
			}
		}
	}
	return -1, -1
}

// healthy fails when the doctor finds anything.
func healthy(t *testing.T, c *controllertest.Cloud) {
	t.Helper()
	problems, err := controller.Doctor(t.Context(), c.DB)
	for _, p := range problems {
		t.Error(p)
	}
	if err != nil {
		t.Error(err)
	}
}

// disk makes a disk of a size that is free.
func disk(t *testing.T, c *controllertest.Client, gb int) string {
	t.Helper()
	id := c.Must(t, "CreateDisk", P{"Name": "d", "ChargeType": "Dynamic", "SetType": storageType, "DiskSpace": gb}).String("DiskID")
	diskIs(t, c, id, "Unbound")
	return id
}

func diskIs(t *testing.T, c *controllertest.Client, id, state string) {
	t.Helper()
	controllertest.Eventually(t, 30*time.Second, id+" is "+state, func() bool {
		infos := c.Must(t, "DescribeDisk", P{"DiskIDs": []string{id}}).Infos()
		return len(infos) == 1 && infos[0].String("DiskStatus") == state
	})
}

func TestAllocationIsChecked(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{})
	for text, code := range map[string]retcode.Code{
		"nonsense": retcode.InvalidParameterFormat, "[]": retcode.InvalidParameterFormat, "null": retcode.InvalidParameterFormat,
		`{"storage-set-01":"5"}`: retcode.InvalidParameterFormat, `{"storage-set-01":1.5}`: retcode.InvalidParameterFormat,
		`{"storage-set-99":5}`: retcode.SetNotFound, `{"set-01":5}`: retcode.SetNotFound, // of another kind
		`{"storage-set-01":-1}`: retcode.InvalidParameter, `{"storage-set-01":101}`: retcode.InvalidParameter, // more than the quota
	} {
		c.Admin.Refuse(t, code, "SetAccountQuota", allocate(c.Demo.Company, "DISK", "FACTOR_DISK", 100, text))
	}
	c.Admin.Refuse(t, retcode.InvalidParameter, "SetAccountQuota", allocate(c.Demo.Company, "EIP", "FACTOR_AMOUNT", 10, `{"set-01":1}`))
}

// TestAllocationHolds: whatever takes of a quota in a set is held to the set's part of it, and what is allocated cannot go
// below what is there.
func TestAllocationHolds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db})
		set := func(resource, factor string, quota int, allocation string) P {
			return allocate(c.Demo.Company, resource, factor, quota, allocation)
		}
		first := func(name, field string) string { return c.Demo.Must(t, name, nil).Infos()[0].String(field) }

		// Disks: created, cloned, grown, restored.
		c.Admin.Must(t, "SetAccountQuota", set("DISK", "FACTOR_DISK", 1000, `{"storage-set-01":60}`))
		i := c.Demo.Must(t, "DescribeQuota", P{"ProductTypes": []string{"DISK"}, "FactorTypes": []string{"FACTOR_DISK"}}).Infos()[0]
		if i.String("Allocation") != `{"storage-set-01":60}` || i.Int("Quota") != 1000 {
			t.Errorf("as described: %v", i)
		}
		a := disk(t, c.Demo, 20)
		disk(t, c.Demo, 20)
		if quota, used := inSet(t, c.Demo, "DISK", "FACTOR_DISK", storageSet); quota != 60 || used != 40 {
			t.Errorf("%d of %d GB used in the set", used, quota)
		}
		if quota, used := inSet(t, c.Demo, "DISK", "FACTOR_AMOUNT", storageSet); quota != 50 || used != 2 { // nothing allocated: the quota
			t.Errorf("%d of %d disks in the set", used, quota)
		}
		r := c.Demo.Refuse(t, retcode.QuotaExceeded, "CreateDisk", P{"Name": "d", "ChargeType": "Dynamic", "SetType": storageType, "DiskSpace": 21})
		if want := "21 more GB of disk space wanted in storage-set-01, 40 of 60 used"; !strings.Contains(r.Message, want) {
			t.Errorf("the message %q says not %q", r.Message, want)
		}
		c.Demo.Refuse(t, retcode.QuotaExceeded, "CloneDisk", P{"Name": "d", "ChargeType": "Dynamic", "SrcID": a, "DiskSpace": 21})
		c.Demo.Refuse(t, retcode.QuotaExceeded, "UpgradeDisk", P{"DiskID": a, "DiskSpace": 41})
		c.Demo.Must(t, "UpgradeDisk", P{"DiskID": a, "DiskSpace": 40})
		diskIs(t, c.Demo, a, "Unbound")
		c.Admin.Refuse(t, retcode.QuotaBelowUsage, "SetAccountQuota", set("DISK", "FACTOR_DISK", 1000, `{"storage-set-01":59}`))
		c.Demo.Must(t, "DeleteDisk", P{"DiskID": a})
		controllertest.Eventually(t, 30*time.Second, "its space is free", func() bool { _, used := inSet(t, c.Demo, "DISK", "FACTOR_DISK", storageSet); return used == 20 })
		c.Admin.Must(t, "SetAccountQuota", set("DISK", "FACTOR_DISK", 1000, `{"storage-set-01":59}`))
		c.Demo.Refuse(t, retcode.QuotaExceeded, "RollbackResource", P{"ResourceID": a, "ResourceType": "Disk"})
		c.Admin.Must(t, "SetAccountQuota", set("DISK", "FACTOR_DISK", 1000, `{"storage-set-01":60}`))
		c.Demo.Must(t, "RollbackResource", P{"ResourceID": a, "ResourceType": "Disk"})

		// A default is divided likewise, holds for who has no value of his own, and may go below what is used.
		other := c.NewTenant(t)
		c.Admin.Must(t, "SetAccountQuota", allocate(0, "DISK", "FACTOR_DISK", 500, `{"storage-set-01":30}`))
		if d := c.Admin.Must(t, "DescribeQuota", P{"IsDefault": true, "FactorTypes": []string{"FACTOR_DISK"}}).Infos()[0]; d.String("Allocation") != `{"storage-set-01":30}` {
			t.Errorf("the default: %v", d)
		}
		disk(t, other, 30)
		other.Refuse(t, retcode.QuotaExceeded, "CreateDisk", P{"Name": "d", "ChargeType": "Dynamic", "SetType": storageType, "DiskSpace": 10})
		reset := P{"CompanyID": c.Demo.Company, "ResourceType": "DISK", "FactorType": "FACTOR_DISK"}
		c.Admin.Refuse(t, retcode.QuotaBelowUsage, "ResetAccountQuota", reset)
		c.Admin.Must(t, "SetAccountQuota", allocate(0, "DISK", "FACTOR_DISK", 500, "{}"))
		c.Admin.Must(t, "ResetAccountQuota", reset)
		disk(t, other, 10)

		// Machines: cores and memory, which is spoken of in GB; what a refused one reserved is all back.
		c.Admin.Must(t, "SetAccountQuota", set("VM", "FACTOR_CPU", 80, `{"set-01":2}`))
		c.Admin.Must(t, "SetAccountQuota", set("VM", "FACTOR_MEMORY", 80, `{"set-01":3}`))
		machine := P{"Name": "web", "Password": "Passw0rd!", "ChargeType": "Dynamic", "VMType": first("DescribeVMType", "VMType"), "CPU": 1, "Memory": 1024,
			"BootDiskSetType": storageType, "VPCID": first("DescribeVPC", "VPCID"), "SubnetID": first("DescribeSubnet", "SubnetID"), "ImageID": first("DescribeImage", "ImageID"), "InitialState": "Stopped"}
		vm := c.Demo.Must(t, "CreateVMInstance", machine).String("VMID")
		vmIs := func(state string) {
			t.Helper()
			controllertest.Eventually(t, 30*time.Second, vm+" is "+state, func() bool {
				return c.Demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{vm}}).Infos()[0].String("State") == state
			})
		}
		vmIs("Stopped")
		c.Demo.Must(t, "ResizeVMConfig", P{"VMID": vm, "CPU": 1, "Memory": 2048})
		vmIs("Stopped")
		if quota, used := inSet(t, c.Demo, "VM", "FACTOR_MEMORY", computeSet); quota != 3 || used != 2 {
			t.Errorf("%d of %d GB used in the set", used, quota)
		}
		machine["Count"] = 2
		c.Demo.Refuse(t, retcode.QuotaExceeded, "CreateVMInstance", machine)
		c.Demo.Refuse(t, retcode.QuotaExceeded, "ResizeVMConfig", P{"VMID": vm, "CPU": 2, "Memory": 4096})
		machine["Count"] = 1
		second := c.Demo.Must(t, "CreateVMInstance", machine).String("VMID")
		c.Demo.Refuse(t, retcode.QuotaExceeded, "CreateVMInstance", machine)
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": vm})
		controllertest.Eventually(t, 30*time.Second, "the machine is in the bin", func() bool { _, used := inSet(t, c.Demo, "VM", "FACTOR_AMOUNT", computeSet); return used == 1 })
		third := c.Demo.Must(t, "CreateVMInstance", machine).String("VMID")
		c.Demo.Refuse(t, retcode.QuotaExceeded, "RollbackResource", P{"ResourceID": vm, "ResourceType": "VM"})
		// Quotas that are not enforced are counted only.
		c.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "QuotaEnforced", "ConfigValue": "false"})
		fourth := c.Demo.Must(t, "CreateVMInstance", machine).String("VMID")
		for _, vm = range []string{second, third, fourth} {
			vmIs("Stopped")
		}
		if quota, used := inSet(t, c.Demo, "VM", "FACTOR_CPU", computeSet); quota != 2 || used != 3 {
			t.Errorf("%d of %d cores used in the set", used, quota)
		}
		healthy(t, c)
	})
}

// TestBuyersOfOneAllocation: however many buy at once, a set holds no more than is allocated to it, and all of that.
func TestBuyersOfOneAllocation(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db})
		c.Admin.Must(t, "SetAccountQuota", allocate(c.Demo.Company, "DISK", "FACTOR_DISK", 1000, `{"storage-set-01":70}`))
		a := disk(t, c.Demo, 10)
		var group sync.WaitGroup
		var mu sync.Mutex
		taken := 10
		buy := func(name string, gb int, q P) {
			group.Go(func() {
				r := c.Demo.Call(t, name, q)
				mu.Lock()
				defer mu.Unlock()
				switch r.Code {
				case retcode.OK:
					taken += gb
				case retcode.QuotaExceeded, retcode.DiskStateUnstable, retcode.InvalidResourceState, retcode.DiskShrinkNotSupported: // it has grown, or is growing
				default:
					t.Errorf("%s: %v", name, r.Body)
				}
			})
		}
		for n := range 8 {
			buy("CreateDisk", 20, P{"Name": fmt.Sprint("d", n), "ChargeType": "Dynamic", "SetType": storageType, "DiskSpace": 20})
			if n%2 == 0 {
				buy("UpgradeDisk", 20, P{"DiskID": a, "DiskSpace": 30})
			}
		}
		group.Wait()
		if quota, used := inSet(t, c.Demo, "DISK", "FACTOR_DISK", storageSet); used != 70 || taken != 70 || quota != 70 {
			t.Errorf("%d GB of %d are used, %d were sold", used, quota, taken)
		}
	})
}
