package event_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/simulate"
)

type P = controllertest.P

const settle = 30 * time.Second

// machine makes a machine and waits until it runs.
func machine(t *testing.T, c *controllertest.Client, p P) string {
	t.Helper()
	first := func(action, field string) string { return c.Must(t, action, nil).Infos()[0].String(field) }
	q := P{"Name": "web", "Password": "Passw0rd!", "ChargeType": "Dynamic", "VMType": first("DescribeVMType", "VMType"), "CPU": 1, "Memory": 1024,
		"BootDiskSetType": first("DescribeStorageType", "StorageType"), "VPCID": first("DescribeVPC", "VPCID"), "SubnetID": first("DescribeSubnet", "SubnetID"),
		"ImageID": first("DescribeImage", "ImageID")}
	for k, v := range p {
		q[k] = v
	}
	id := c.Must(t, "CreateVMInstance", q).String("VMID")
	state(t, c, id, "Running")
	return id
}

func state(t *testing.T, c *controllertest.Client, id, want string) {
	t.Helper()
	controllertest.Eventually(t, settle, id+" is "+want, func() bool {
		infos := c.Must(t, "DescribeVMInstance", P{"VMIDs": []string{id}}).Infos()
		return len(infos) == 1 && infos[0].String("State") == want
	})
}

// events are what clients see of a machine's, in the order of their contents.
func events(t *testing.T, c *controllertest.Client, p P) (out []string) {
	t.Helper()
	for _, i := range c.Must(t, "DescribeResourceEvent", p).Infos() {
		out = append(out, fmt.Sprint(i.String("EventType"), " ", i.String("Level"), " ", i.Int("Count"), " ", i.String("ResourceType"), " ", i.String("ResourceName"), ": ", i.String("Content")))
	}
	slices.Sort(out)
	return out
}

func await(t *testing.T, c *controllertest.Client, p P, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	deadline := time.Now().Add(settle)
	for ; time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = events(t, c, p); slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("the events are\n%q\nnot\n%q", got, want)
}

// TestEvents: what was done with a machine, what it did by itself, how often, and what failed and why.
func TestEvents(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		vm := machine(t, c.Demo, nil)
		mine := P{"ResourceIDs": []string{vm}}
		await(t, c.Demo, mine, "Lifecycle Info 1 VM web: CreateVMInstance succeeded")
		for range 2 {
			c.Demo.Must(t, "StopVMInstance", P{"VMID": vm})
			state(t, c.Demo, vm, "Stopped")
			c.Demo.Must(t, "StartVMInstance", P{"VMID": vm})
			state(t, c.Demo, vm, "Running")
		}
		c.Demo.Must(t, "ModifyNameAndRemark", P{"ResourceID": vm, "Name": "shop"})
		steady := []string{"Lifecycle Info 1 VM shop: CreateVMInstance succeeded", "Lifecycle Info 2 VM shop: StopVMInstance succeeded", "Lifecycle Info 2 VM shop: StartVMInstance succeeded"}
		await(t, c.Demo, mine, steady...)

		// A disk that goes to it, and one that cannot.
		set := c.Demo.Must(t, "DescribeStorageType", nil).Infos()[0].String("StorageType")
		disk := c.Demo.Must(t, "CreateDisk", P{"SetType": set, "DiskSpace": 10, "Name": "data", "ChargeType": "Dynamic"}).String("DiskID")
		controllertest.Eventually(t, settle, "the disk is there", func() bool {
			return c.Demo.Must(t, "DescribeDisk", P{"DiskIDs": []string{disk}}).Infos()[0].String("DiskStatus") == "Unbound"
		})
		c.Simulator.FailNext("EnsureDomain", 1, "")
		c.Demo.Must(t, "AttachDisk", P{"DiskID": disk, "ResourceID": vm, "ResourceType": "VM"})
		controllertest.Eventually(t, settle, "it failed", func() bool {
			return len(events(t, c.Demo, P{"ResourceIDs": []string{vm}, "Levels": []string{"Error"}})) == 1
		})
		failure := c.Demo.Must(t, "DescribeResourceEvent", P{"Levels": []string{"Error"}}).Infos()[0].String("Content")
		if want := "AttachDisk failed: " + retcode.SystemBusy.Message("en"); len(failure) < len(want) || failure[:len(want)] != want {
			t.Errorf("the failure reads %q", failure)
		}
		for name, q := range map[string]P{
			"type": {"EventTypes": []string{"Operations"}}, "level": {"Levels": []string{"Error", "Warning"}}, "kind": {"ResourceTypes": []string{"VM"}, "Levels": []string{"Error"}},
			"time": {"BeginTime": c.Clock.Now().Add(-time.Hour).Unix(), "EndTime": c.Clock.Now().Unix(), "Levels": []string{"Error"}},
		} {
			if got := c.Demo.Must(t, "DescribeResourceEvent", q); got.Int("TotalCount") != 1 || len(got.Infos()) != 1 {
				t.Errorf("by %s: %v", name, got.Body)
			}
		}
		if n := c.Demo.Must(t, "DescribeResourceEvent", P{"BeginTime": c.Clock.Now().Add(time.Hour).Unix()}).Int("TotalCount"); n != 0 {
			t.Errorf("%d events of the future", n)
		}
		c.Demo.Refuse(t, retcode.InvalidParameter, "DescribeResourceEvent", P{"Levels": []string{"Loud"}})
		c.Demo.Refuse(t, retcode.InvalidResourceType, "DescribeResourceEvent", P{"ResourceTypes": []string{"Ghost"}})
		if other := c.NewTenant(t); other.Must(t, "DescribeResourceEvent", mine).Int("TotalCount") != 0 {
			t.Error("another tenant sees them")
		}

		// They follow their machine into another group, go on in the bin, and are forgotten some time after.
		web := c.Demo.Must(t, "CreateProject", P{"CompanyID": c.Demo.Company, "Name": "web"}).String("ProjectID")
		c.Demo.Must(t, "MoveProjectResource", P{"CompanyID": c.Demo.Company, "ProjectID": web, "ResourceIDs": []string{vm}})
		if n := c.Demo.Must(t, "DescribeResourceEvent", P{"ProjectIDs": []string{web}}).Int("TotalCount"); n != 4 {
			t.Errorf("%d events in the group", n)
		}
		c.Demo.Must(t, "DeleteVMInstance", P{"VMID": vm})
		controllertest.Eventually(t, settle, "it is in the bin", func() bool {
			return c.Demo.Must(t, "DescribeRecycledResource", P{"ResourceIDs": []string{vm}}).Int("TotalCount") == 1
		})
		controllertest.Eventually(t, settle, "it can be had back", func() bool { return c.Demo.Call(t, "RollbackResource", P{"ResourceID": vm}).Code == retcode.OK })
		await(t, c.Demo, mine, append(steady, "Operations Error 1 VM shop: "+failure,
			"Lifecycle Info 1 VM shop: DeleteVMInstance succeeded", "Lifecycle Info 1 VM shop: It left the recycle bin")...)
		c.Clock.Advance(200 * 24 * time.Hour)
		controllertest.Eventually(t, settle, "they are forgotten", func() bool {
			for _, i := range c.Demo.Must(t, "DescribeResourceEvent", mine).Infos() {
				if i.String("Content") == "CreateVMInstance succeeded" {
					return false
				}
			}
			return true
		})
	})
}

// TestEventsOfGuests: a guest that goes off by itself or crashes.
func TestEventsOfGuests(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	once, never := machine(t, c.Demo, P{"HighAvailability": "None"}), machine(t, c.Demo, P{"HighAvailability": "NeverStop"})
	h, err := c.Simulator.Dial(c.Simulator.IDs()[0], "")
	if err != nil {
		t.Fatal(err)
	}
	for _, vm := range []string{once, never} {
		if !h.(*simulate.Host).GuestOff(vm) {
			t.Fatalf("%s does not run", vm)
		}
	}
	await(t, c.Demo, P{"ResourceIDs": []string{once}}, "Lifecycle Info 1 VM web: CreateVMInstance succeeded", "Lifecycle Info 1 VM web: The guest went off by itself")
	await(t, c.Demo, P{"ResourceIDs": []string{never}}, "Lifecycle Info 1 VM web: CreateVMInstance succeeded",
		"Lifecycle Warning 1 VM web: The guest went off by itself and is started again", "Lifecycle Info 1 VM web: StartVMInstance succeeded")
}
