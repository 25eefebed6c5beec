package controller_test

import (
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

type P = controllertest.P

// TestWalk goes one way through the whole cloud: from a created machine to nothing left.
func TestWalk(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db})
		demo := c.Demo
		vpc := demo.Must(t, "DescribeVPC", nil).Infos()[0]
		subnet := demo.Must(t, "DescribeSubnet", P{"VPCID": vpc.String("VPCID")}).Infos()[0]
		group := demo.Must(t, "DescribeSecurityGroup", nil).Infos()[0]
		image := demo.Must(t, "DescribeImage", nil).Infos()[0]
		vm := demo.Must(t, "CreateVMInstance", P{"Name": "walk", "VMType": fleet.FirstVMType, "ImageID": image.String("ImageID"), "CPU": 1, "Memory": 1024,
			"BootDiskSetType": fleet.FirstStorageType, "VPCID": vpc.String("VPCID"), "SubnetID": subnet.String("SubnetID"),
			"WANSGID": group.String("SGID"), "ChargeType": "Dynamic", "Password": "Walking.1"}).String("VMID")
		state := func(want string) {
			t.Helper()
			controllertest.Eventually(t, 30*time.Second, "the machine is "+want, func() bool {
				all := demo.Must(t, "DescribeVMInstance", P{"VMIDs": []string{vm}}).Infos()
				return len(all) == 1 && all[0].String("State") == want
			})
		}
		state("Running")
		eip := demo.Must(t, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 10, "ChargeType": "Dynamic", "Name": "walk", "IPVersion": "IPv4"}).String("EIPID")
		status := func(want string) {
			t.Helper()
			controllertest.Eventually(t, 30*time.Second, "the address is "+want, func() bool {
				all := demo.Must(t, "DescribeEIP", P{"EIPIDs": []string{eip}}).Infos()
				return len(all) == 1 && all[0].String("Status") == want
			})
		}
		status("Free")
		demo.Must(t, "BindEIP", P{"EIPID": eip, "ResourceID": vm, "ResourceType": "VM"})
		status("Bound")
		demo.Must(t, "UnBindEIP", P{"EIPID": eip, "ResourceID": vm, "ResourceType": "VM"})
		status("Free")
		demo.Must(t, "StopVMInstance", P{"VMID": vm})
		state("Stopped")
		demo.Must(t, "DeleteVMInstance", P{"VMID": vm})
		demo.Must(t, "ReleaseEIP", P{"EIPID": eip})
		controllertest.Eventually(t, 30*time.Second, "machine and address are in the bin", func() bool {
			n := 0
			for _, i := range demo.Must(t, "DescribeRecycledResource", nil).Infos() {
				if i.String("State") == "Deleted" {
					n++
				}
			}
			return n >= 2
		})
		for _, i := range demo.Must(t, "DescribeRecycledResource", nil).Infos() {
			demo.Must(t, "TerminateResource", P{"ResourceID": i.String("ResourceID")})
		}
		controllertest.Eventually(t, 30*time.Second, "the bin is empty", func() bool {
			return len(demo.Must(t, "DescribeRecycledResource", nil).Infos()) == 0
		})
		usages, err := c.Fleet.Usages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range usages {
			if u.Demand != (fleet.Demand{}) {
				t.Errorf("host %s still has %+v taken", u.HostID, u.Demand)
			}
		}
	})
}
