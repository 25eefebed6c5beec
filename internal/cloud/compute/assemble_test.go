package compute_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/simulate"
)

// disk is one disk as its tenant sees it; nil when it is not listed.
func (w *world) disk(t *testing.T, id string) info {
	t.Helper()
	infos := w.demo.Must(t, "DescribeDisk", p{"DiskIDs": []string{id}}).Infos()
	if len(infos) == 0 {
		return nil
	}
	return infos[0]
}

func (w *world) awaitDisk(t *testing.T, id, state string) {
	t.Helper()
	controllertest.Eventually(t, settle, id+" is "+state, func() bool { return w.disk(t, id).String("DiskStatus") == state })
}

// bootable makes a disk of a snapshot of a machine's system disk, and another, empty one. The machine is destroyed.
func (w *world) bootable(t *testing.T) (system, data string) {
	t.Helper()
	r := w.demo.Must(t, "CreateVMInstance", w.ask(p{"Name": "source", "InitialState": "Stopped"}))
	vm, boot := r.String("VMID"), r.String("DiskID")
	controllertest.Eventually(t, settle, vm+" is made", func() bool { return w.vm(t, vm).String("State") == "Stopped" })
	w.host(t, boot).Write(boot, "a system")
	snapshot := w.demo.Must(t, "CreateSnapshot", p{"DiskID": boot, "Name": "golden"}).String("SnapshotID")
	controllertest.Eventually(t, settle, snapshot+" is taken", func() bool {
		return w.demo.Must(t, "DescribeSnapshot", p{"SnapshotIDs": []string{snapshot}}).Infos()[0].String("SnapshotStatus") == "Normal"
	})
	system = w.demo.Must(t, "CreateDiskFromSnapshot", p{"SrcSnapshotID": snapshot, "Name": "golden", "ChargeType": "Dynamic", "Quantity": 1}).String("DiskID")
	w.awaitDisk(t, system, "Unbound")
	data = w.demo.Must(t, "CreateDisk", p{"Name": "files", "ChargeType": "Dynamic", "SetType": w.storage, "DiskSpace": 20}).String("DiskID")
	w.awaitDisk(t, data, "Unbound")
	w.destroy(t, vm)
	return system, data
}

// host is the one that a disk is on.
func (w *world) host(t *testing.T, disk string) *simulate.Host {
	t.Helper()
	var id string
	if err := w.DB.Reader().NewRaw("SELECT host_id FROM disk WHERE id = ?", disk).Scan(t.Context(), &id); err != nil {
		t.Fatal(err)
	}
	return w.hostOf(t, id)
}

func (w *world) hostOf(t *testing.T, id string) *simulate.Host {
	t.Helper()
	h, err := w.Simulator.Dial(id, "")
	if err != nil {
		t.Fatal(err)
	}
	return h.(*simulate.Host)
}

// holders are the hosts that have the volume of a disk.
func (w *world) holders(t *testing.T, disk string) (hosts []string) {
	t.Helper()
	for _, id := range w.Simulator.IDs() {
		l, err := w.hostOf(t, id).List(t.Context(), &pb.ListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(l.Volumes, func(v *pb.Volume) bool { return v.Id == disk }) {
			hosts = append(hosts, id)
		}
	}
	return hosts
}

// of is a request for a machine of a disk with a system, and another disk.
func (w *world) of(system, data string) p {
	return w.ask(p{"BootSourceType": "Disk", "BootDiskID": system, "OSName": "Debian", "OSVersion": "12", "OSType": "Linux", "DataDiskID": data})
}

// TestMachineOfDisks: a machine starts from a disk that was there, has another one, and gives back what is not its own.
func TestMachineOfDisks(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		system, data := w.bootable(t)
		r := w.demo.Must(t, "CreateVMInstance", w.of(system, data))
		id := r.String("VMID")
		v := w.await(t, id, "Running")
		if got := fmt.Sprint(r.Body["DiskIDs"], r.String("DiskID")); got != fmt.Sprint([]any{system, data}, data) {
			t.Errorf("answered %s", got)
		}
		if v.String("OSName") != "Debian 12" || len(v.List("DiskInfos")) != 2 {
			t.Errorf("%s with %v", v.String("OSName"), v.List("DiskInfos"))
		}
		h := w.host(t, system)
		if h.Content(system) != "a system" {
			t.Errorf("it starts from %q", h.Content(system))
		}
		if d := h.Disk(id, system); d == nil || d.Target != "vda" || d.BootOrder != 1 {
			t.Errorf("its system disk is %v", d)
		}
		if d := h.Disk(id, data); d == nil || d.Target != "vdb" || d.BootOrder != 0 {
			t.Errorf("its data disk is %v", d)
		}
		for disk, role := range map[string]string{system: "Boot", data: "Data"} {
			if d := w.disk(t, disk); d.String("DiskStatus") != "Bound" || d.String("DiskType") != role || d.String("ChargeType") != "Dynamic" {
				t.Errorf("%s is %v", disk, d)
			}
		}
		w.demo.Refuse(t, retcode.InvalidResourceState, "DetachDisk", p{"DiskID": system, "ResourceID": id})
		w.demo.Refuse(t, retcode.InvalidResourceState, "CreateVMInstance", w.of(system, data))
		w.demo.Must(t, "UpgradeDisk", p{"DiskID": system, "DiskSpace": 50}) // pays for itself
		controllertest.Eventually(t, settle, "it has grown", func() bool {
			return w.disk(t, system).Int("Size") == 50 && w.disk(t, system).String("DiskStatus") == "Bound"
		})
		w.doctor(t)

		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
		w.awaitBin(t, id, "Deleted")
		w.doctor(t)
		if d := w.disk(t, data); d.String("DiskStatus") != "Unbound" {
			t.Errorf("its data disk is %v", d)
		}
		w.demo.Must(t, "RollbackResource", p{"ResourceID": id})
		w.doctor(t)
		// A new system is of the image, whatever the disk was a copy of.
		w.demo.Must(t, "ReinstallVMInstance", p{"VMID": id, "ImageID": w.image})
		controllertest.Eventually(t, settle, "a new system", func() bool { return w.vm(t, id).String("State") == "Stopped" })
		if got := w.host(t, system).Content(system); got == "a system" {
			t.Error("the old system is still there")
		}
		w.destroy(t, id)
		w.doctor(t)
		w.demo.Must(t, "DeleteDisk", p{"DiskID": data})
		w.awaitBin(t, data, "Deleted")
		w.demo.Must(t, "TerminateResource", p{"ResourceID": data})
		controllertest.Eventually(t, settle, "everything is free", func() bool { return !strings.Contains(w.usage(t), "DISK") })
		w.doctor(t)
	})
}

// TestDisksComeToTheirMachine: disks on other hosts move to the one that the machine was given, and stay where they
// were when it cannot be made.
func TestDisksComeToTheirMachine(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		system, data := w.bootable(t)
		var elsewhere string
		for _, id := range w.Simulator.IDs() {
			if !slices.Contains(append(w.holders(t, system), w.holders(t, data)...), id) {
				elsewhere = id
			}
		}
		before := w.usage(t)
		q := w.of(system, data)
		q["CompanyID"], q["HostID"] = w.demo.Company, elsewhere
		w.Simulator.FailNext("EnsureDomain", 1, elsewhere)
		id := w.Admin.Must(t, "CreateVMInstance", q).String("VMID")
		w.await(t, id, "Failed")
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
		if after := w.usage(t); after != before {
			t.Errorf("a failure left something\nbefore: %s\nafter: %s", before, after)
		}
		for disk, content := range map[string]string{system: "a system", data: ""} {
			if d := w.disk(t, disk); d.String("DiskStatus") != "Unbound" || d.String("DiskType") != "Data" || w.host(t, disk).Content(disk) != content {
				t.Errorf("%s is %v", disk, d)
			}
			if on := w.holders(t, disk); len(on) != 1 {
				t.Errorf("%s is on %v", disk, on)
			}
		}
		w.doctor(t)

		id = w.Admin.Must(t, "CreateVMInstance", q).String("VMID")
		w.await(t, id, "Running")
		h := w.hostOf(t, elsewhere)
		if h.Content(system) != "a system" || h.Disk(id, data) == nil {
			t.Errorf("the machine has %q and %v", h.Content(system), h.Disk(id, data))
		}
		w.Clock.Advance(time.Minute)
		controllertest.Eventually(t, settle, "the old volumes are gone", func() bool {
			return len(w.holders(t, system)) == 1 && len(w.holders(t, data)) == 1
		})
		w.doctor(t)
	})
}

func TestMachineOfDisksRefusals(t *testing.T) {
	w := start(t, controllertest.Options{})
	system, data := w.bootable(t)
	other := w.NewTenant(t)
	theirs := describe(t, w.Cloud, other)
	before := w.usage(t)
	for _, c := range []struct {
		name  string
		code  retcode.Code
		more  p
		names string
	}{
		{"no system", retcode.InvalidParameter, p{"BootDiskID": data, "DataDiskID": nil}, "BootDiskID"},
		{"another size", retcode.InvalidParameter, p{"BootDiskSpace": 100}, "BootDiskSpace"},
		{"another system", retcode.InvalidParameter, p{"OSType": "Windows"}, "OSType"},
		{"a new key", retcode.InvalidParameter, p{"BootDiskSecret": "c2VjcmV0IGtleQ=="}, "BootDiskSecret"},
		{"two machines", retcode.InvalidParameter, p{"Count": 2}, "DiskID"},
	} {
		q := w.of(system, data)
		for k, v := range c.more {
			if q[k] = v; v == nil {
				delete(q, k)
			}
		}
		r := w.demo.Refuse(t, c.code, "CreateVMInstance", q)
		if !strings.Contains(r.Message, c.names) {
			t.Errorf("%s: %q does not name %s", c.name, r.Message, c.names)
		}
	}
	q := theirs.ask(p{"DataDiskID": data})
	other.Refuse(t, retcode.ResourceNotFound, "CreateVMInstance", q)
	if after := w.usage(t); after != before {
		t.Errorf("refusals left something\nbefore: %s\nafter: %s", before, after)
	}
}

func TestAssembleWorkflow(t *testing.T) {
	workflowCase(t, "vm.assemble", "CreateVMInstance", nil, func(t *testing.T, w *world) p {
		q := w.of(w.bootable(t))
		q["NICs.0.VPCID"], q["NICs.0.SubnetID"] = w.vpc, w.subnet
		return q
	})
}

// TestNewMachineWithEverything: keys of its disks, elastic NICs, its inner NIC's MAC and bandwidth.
func TestNewMachineWithEverything(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		key := base64.StdEncoding.EncodeToString([]byte("a key of a tenant"))
		vpc := w.demo.Must(t, "CreateVPC", p{"Name": "other", "Network": "172.16.0.0/16"}).String("VPCID")
		controllertest.Eventually(t, settle, "a VPC", func() bool {
			return w.demo.Call(t, "CreateSubnet", p{"VPCID": vpc, "Name": "other", "Network": "172.16.1.0/24"}).Code == 0
		})
		var subnet string
		controllertest.Eventually(t, settle, "a subnet", func() bool {
			n := w.demo.Must(t, "DescribeSubnet", p{"VPCID": vpc}).Infos()[0]
			subnet = n.String("SubnetID")
			return n.String("State") == "Available"
		})
		q := w.ask(p{"BootDiskSecret": key, "DataDiskSpace": 10, "DataDiskSecret": key, "DataDisks.0.SetType": w.storage, "DataDisks.0.DiskSpace": 10,
			"LANMAC": "02:00:00:AA:BB:CC", "LANInAverageBandwidth": 7, "LANOutAverageBandwidth": 0,
			"NICs.0.VPCID": vpc, "NICs.0.SubnetID": subnet, "NICs.0.IP": "172.16.1.77", "NICs.1.VPCID": w.vpc, "NICs.1.SubnetID": w.subnet, "NICs.1.SGID": w.defaultGroup})
		r := w.demo.Must(t, "CreateVMInstance", q)
		id := r.String("VMID")
		w.await(t, id, "Running")
		disks := r.Body["DiskIDs"].([]any)
		h := w.host(t, disks[0].(string))
		for i, want := range []struct {
			encrypted bool
			gb        int
		}{{true, 41}, {true, 10}, {false, 10}} {
			disk := disks[i].(string)
			if d := w.disk(t, disk); d["Encrypted"] != want.encrypted || d.Int("Size") != want.gb || (h.Disk(id, disk).Secret != nil) != want.encrypted {
				t.Errorf("disk %d is %v", i, d)
			}
		}
		nics := w.demo.Must(t, "DescribeNIC", p{"BindResourceID": id}).Infos()
		if len(nics) != 2 || nics[0].String("NICStatus") != "Bound" || nics[1].String("NICStatus") != "Bound" || nics[0].String("IP") != "172.16.1.77" && nics[1].String("IP") != "172.16.1.77" {
			t.Errorf("its NICs are %v", nics)
		}
		var port struct {
			MAC             string
			InMbps, OutMbps int
		}
		if err := w.DB.Reader().NewRaw("SELECT p.mac, p.in_mbps, p.out_mbps FROM port AS p JOIN vm ON vm.port_id = p.id WHERE vm.id = ?", id).Scan(t.Context(), &port.MAC, &port.InMbps, &port.OutMbps); err != nil {
			t.Fatal(err)
		}
		if port.MAC != "02:00:00:aa:bb:cc" || port.InMbps != 7 || port.OutMbps != 0 {
			t.Errorf("its own interface is %+v", port)
		}
		w.demo.Refuse(t, retcode.InvalidParameter, "CreateVMInstance", w.ask(p{"LANMAC": "02:00:00:aa:bb:cc"}))
		w.doctor(t)
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id, "DelBindResource": 1})
		w.awaitBin(t, id, "Deleted")
		w.doctor(t)

		// What cannot be made leaves no NIC.
		w.Simulator.FailNext("EnsureDomain", 1, "")
		delete(q, "LANMAC")
		failed := w.demo.Must(t, "CreateVMInstance", q).String("VMID")
		w.await(t, failed, "Failed")
		if n := w.demo.Must(t, "DescribeNIC", nil).Int("TotalCount"); n != 0 {
			t.Errorf("%d NICs are left", n)
		}
		w.doctor(t)
	})
}
