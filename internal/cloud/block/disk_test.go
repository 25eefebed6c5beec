package block_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestLifeOfADisk(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		count, space := w.used(t, "DISK"), w.used(t, "DISK_SPACE")
		made := w.demo.Must(t, "CreateDisk", w.askDisk(p{"Count": 2, "Remark": "mine"}))
		ids := made.Body["DiskIDs"].([]any)
		if len(ids) != 2 || made.String("DiskID") != ids[0] {
			t.Fatalf("%v", made.Body)
		}
		disk := made.String("DiskID")
		d := w.await(t, disk, "Unbound")
		if got := fmt.Sprint(d.String("Name"), d.Int("Size"), d.String("DiskType"), d.String("Remark"), d.String("SetType") == w.storage, d.String("Media"),
			d.Int("IOPS"), d.Int("Bandwidth"), d.String("AttachResourceID")); got != "data20DataminetrueSSD2400 90" {
			t.Errorf("the disk shows %s", got)
		}
		if w.used(t, "DISK")-count != 2 || w.used(t, "DISK_SPACE")-space != 40 {
			t.Errorf("quota: %d disks, %d GB more", w.used(t, "DISK")-count, w.used(t, "DISK_SPACE")-space)
		}

		// To a machine that runs, and to one that does not.
		vm := w.vm(t, nil)
		w.attach(t, disk, vm)
		d = w.show(t, disk)
		if d.String("AttachResourceID") != vm || d.String("AttachResourceName") != "web" || d.String("AttachResourceType") != "VM" || d.String("Drive") != "vdb" {
			t.Errorf("attached: %v", d)
		}
		if told := w.host(t, vm).Disk(vm, disk); told == nil || told.Target != "vdb" || told.Limits.GetReadIops() != 2400 || told.Limits.GetWriteBytes() != 90e6 {
			t.Errorf("the host was told %v", told)
		}
		if n := len(w.awaitVM(t, vm, "Running").List("DiskInfos")); n != 2 {
			t.Errorf("the machine shows %d disks", n)
		}
		w.demo.Must(t, "AttachDisk", p{"DiskID": disk, "ResourceID": vm, "ResourceType": "VM"}) // already so
		other := w.vm(t, nil)
		w.demo.Refuse(t, retcode.InvalidResourceState, "AttachDisk", p{"DiskID": disk, "ResourceID": other, "ResourceType": "VM"})
		w.demo.Refuse(t, retcode.InvalidResourceState, "DetachDisk", p{"DiskID": disk, "ResourceID": other})
		w.demo.Refuse(t, retcode.InvalidResourceState, "CloneDisk", p{"Name": "copy", "ChargeType": "Dynamic", "SrcID": disk})
		w.demo.Refuse(t, retcode.InvalidResourceState, "DeleteDisk", p{"DiskID": disk})
		w.detach(t, disk, vm)
		if w.host(t, vm).Disk(vm, disk) != nil {
			t.Error("the host still has the disk on the machine")
		}
		w.demo.Refuse(t, retcode.InvalidResourceState, "DetachDisk", p{"DiskID": disk, "ResourceID": vm})
		w.demo.Refuse(t, retcode.InvalidResourceState, "DetachDisk", p{"DiskID": w.bootDisk(t, vm), "ResourceID": vm})
		w.stop(t, vm)
		w.attach(t, disk, vm)
		w.demo.Must(t, "StartVMInstance", p{"VMID": vm})
		w.awaitVM(t, vm, "Running")
		if w.host(t, vm).Disk(vm, disk) == nil {
			t.Error("the machine started without its disk")
		}

		// The bin, and out of it.
		w.detach(t, disk, vm)
		snapshot := w.snapshot(t, disk)
		w.Simulator.Delay("RemoveSnapshot", 500*time.Millisecond)
		w.demo.Must(t, "DeleteDisk", p{"DiskID": disk})
		w.awaitBin(t, disk, "Deleting")
		w.awaitBin(t, disk, "Deleted")
		if got, want := w.demo.Must(t, "DescribeRecycledResource", nil).Infos()[0].String("RegionAlias"), w.demo.Must(t, "DescribeRegion", nil).Infos()[0].String("RegionAlias"); got != want {
			t.Errorf("the bin calls the region %q, not %q", got, want)
		}
		w.Simulator.Delay("RemoveSnapshot", 0)
		w.awaitSnapshot(t, snapshot, "")
		if w.show(t, disk) != nil {
			t.Error("a disk in the bin is listed")
		}
		for action, q := range map[string]p{
			"AttachDisk": {"ResourceID": vm, "ResourceType": "VM"}, "UpgradeDisk": {"DiskSpace": 30}, "CreateSnapshot": {"Name": "x"}, "DeleteDisk": {},
		} {
			q["DiskID"] = disk
			w.demo.Refuse(t, retcode.DiskInRecycleBin, action, q)
		}
		w.demo.Refuse(t, retcode.DiskInRecycleBin, "CloneDisk", p{"Name": "copy", "ChargeType": "Dynamic", "SrcID": disk})
		w.demo.Refuse(t, retcode.DiskInRecycleBin, "RollbackSnapshot", p{"DiskID": disk, "SnapshotID": snapshot})
		w.demo.Refuse(t, retcode.DiskInRecycleBin, "CreateDiskFromSnapshot", p{"SrcSnapshotID": snapshot, "Name": "copy", "ChargeType": "Dynamic", "Quantity": 1})
		w.demo.Refuse(t, retcode.ResourceTerminated, "DeleteSnapshot", p{"SnapshotID": snapshot})
		w.demo.Must(t, "RollbackResource", p{"ResourceID": disk})
		w.await(t, disk, "Unbound")
		w.demo.Refuse(t, retcode.ResourceAlreadyEnabled, "RollbackResource", p{"ResourceID": disk})
		w.demo.Must(t, "DeleteDisk", p{"DiskID": disk})
		w.awaitBin(t, disk, "Deleted")
		w.demo.Must(t, "TerminateResource", p{"ResourceID": disk})
		w.awaitBin(t, disk, "")
		w.demo.Refuse(t, retcode.ResourceTerminated, "AttachDisk", p{"DiskID": disk, "ResourceID": vm, "ResourceType": "VM"})
		if hosts := w.holders(t, disk); len(hosts) != 0 {
			t.Errorf("the volume is left on %v", hosts)
		}
	})
}

func TestRefusedDisks(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 2, DiskGB: 500})
	vm := w.vm(t, nil)
	disk := w.disk(t, nil)
	stranger := w.NewTenant(t)
	for _, c := range []struct {
		name  string
		code  retcode.Code
		more  p
		names string
	}{
		{"no name", retcode.MissingParameter, p{"Name": nil}, "Name"},
		{"unknown storage", retcode.SetTypeNotFound, p{"SetType": "nowhere"}, ""},
		{"too small", retcode.DiskSpecOutOfRange, p{"DiskSpace": 9}, ""},
		{"too big", retcode.DiskSpecOutOfRange, p{"DiskSpace": 32001}, ""},
		{"bigger than any host", retcode.StorageSetInsufficient, p{"DiskSpace": 1000}, ""},
		{"too many", retcode.InvalidParameter, p{"Count": 11}, "Count"},
		{"a period", retcode.InvalidParameter, p{"ChargeType": "Month", "Quantity": 12}, "Quantity"},
		{"a key that is no base64", retcode.InvalidParameterFormat, p{"Secret": "%%"}, "Secret"},
		{"a short key", retcode.InvalidParameter, p{"Secret": base64.StdEncoding.EncodeToString([]byte("short"))}, "Secret"},
		{"project", retcode.ProjectNotFound, p{"ProjectID": "project-none"}, ""},
		{"quota", retcode.QuotaExceeded, p{"DiskSpace": 30000, "Count": 1}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.demo.Refuse(t, c.code, "CreateDisk", w.askDisk(c.more))
			if !strings.Contains(r.Message, c.names) {
				t.Errorf("the message does not name %s: %s", c.names, r.Message)
			}
		})
	}
	permission := p{"ResourceID": "storage-set-01", "ResourceType": permit.StorageSet, "PermissionMode": "whitelist", "Permission": stranger.Company}
	w.Admin.Must(t, "UpdateResourcePermission", permission)
	w.demo.Refuse(t, retcode.NoStorageSetPermission, "CreateDisk", w.askDisk(nil))
	w.demo.Refuse(t, retcode.NoStorageSetPermission, "CloneDisk", p{"Name": "copy", "ChargeType": "Dynamic", "SrcID": disk})
	w.Admin.Must(t, "UpdateResourcePermission", p{"ResourceID": "storage-set-01", "ResourceType": permit.StorageSet})
	w.demo.Refuse(t, retcode.ResourceNotFound, "AttachDisk", p{"DiskID": "disk-none", "ResourceID": vm, "ResourceType": "VM"})
	w.demo.Refuse(t, retcode.VMNotFound, "AttachDisk", p{"DiskID": disk, "ResourceID": "vm-none", "ResourceType": "VM"})
	stranger.Refuse(t, retcode.ResourceNotFound, "AttachDisk", p{"DiskID": disk, "ResourceID": vm, "ResourceType": "VM"})
	w.demo.Refuse(t, retcode.InvalidResourceType, "AttachDisk", p{"DiskID": disk, "ResourceID": vm, "ResourceType": "LB"})
	w.demo.Refuse(t, retcode.InvalidResourceType, "AttachDisk", p{"DiskID": disk, "ResourceID": disk, "ResourceType": "VM"})
	stranger.Refuse(t, retcode.ResourceNotFound, "DeleteDisk", p{"DiskID": disk})
	w.demo.Refuse(t, retcode.DiskShrinkNotSupported, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 20})
	w.demo.Refuse(t, retcode.DiskSpecOutOfRange, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 40000})
	w.demo.Refuse(t, retcode.StorageSetInsufficient, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 5000})
	w.demo.Refuse(t, retcode.DiskShrinkNotSupported, "CloneDisk", p{"Name": "copy", "ChargeType": "Dynamic", "SrcID": disk, "DiskSpace": 10})
	w.demo.Refuse(t, retcode.AdminOnly, "UpdateDiskQoS", p{"DiskID": disk, "DiskIOPS": 1})
	w.demo.Must(t, "DeleteVMInstance", p{"VMID": vm})
	w.awaitVMBin(t, vm)
	w.demo.Refuse(t, retcode.InvalidVMBizState, "AttachDisk", p{"DiskID": disk, "ResourceID": vm, "ResourceType": "VM"})

	// No host that could take one.
	for _, id := range w.Simulator.IDs() {
		w.Simulator.Down(id)
	}
	w.Clock.Advance(time.Minute)
	controllertest.Eventually(t, settle, "the hosts are down", func() bool {
		return w.demo.Call(t, "CreateDisk", w.askDisk(nil)).Code == retcode.NoIdleStorageSet
	})
	w.demo.Refuse(t, retcode.NoIdleStorageSet, "CreateDisk", w.askDisk(nil))
	w.demo.Refuse(t, retcode.SystemBusy, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 30})
}

func (w *world) awaitVMBin(t *testing.T, vm string) { t.Helper(); w.awaitBin(t, vm, "Deleted") }

// A disk with a transient state says so.
func TestBusyDisk(t *testing.T) {
	w := start(t, controllertest.Options{})
	vm, disk := w.vm(t, nil), w.disk(t, nil)
	w.Simulator.Delay("EnsureSnapshot", time.Second)
	id := w.demo.Must(t, "CreateSnapshot", p{"Name": "slow", "DiskID": disk}).String("SnapshotID")
	if d := w.show(t, disk); d.String("DiskStatus") != "Snapshoting" {
		t.Errorf("while a snapshot is taken: %v", d)
	}
	for action, q := range map[string]p{
		"AttachDisk": {"ResourceID": vm, "ResourceType": "VM"}, "DetachDisk": {"ResourceID": vm}, "UpgradeDisk": {"DiskSpace": 30},
		"CreateSnapshot": {"Name": "another"}, "DeleteDisk": {}, "RollbackSnapshot": {"SnapshotID": id},
	} {
		q["DiskID"] = disk
		w.demo.Refuse(t, retcode.DiskStateUnstable, action, q)
	}
	w.demo.Refuse(t, retcode.DiskStateUnstable, "CloneDisk", p{"Name": "copy", "ChargeType": "Dynamic", "SrcID": disk})
	w.demo.Refuse(t, retcode.SnapshotStateUnstable, "DeleteSnapshot", p{"SnapshotID": id})
	w.demo.Refuse(t, retcode.SnapshotStateUnstable, "CreateDiskFromSnapshot", p{"SrcSnapshotID": id, "Name": "x", "ChargeType": "Dynamic", "Quantity": 1})
	w.awaitSnapshot(t, id, "Normal")
}

func TestGrowingDisk(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		vm, disk := w.vm(t, nil), w.disk(t, nil)
		w.demo.Must(t, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 30})
		w.await(t, disk, "Unbound")
		w.attach(t, disk, vm)
		w.demo.Must(t, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 120})
		controllertest.Eventually(t, settle, "it has grown", func() bool { d := w.show(t, disk); return d.String("DiskStatus") == "Bound" && d.Int("Size") == 120 })
		boot := w.bootDisk(t, vm)
		w.demo.Must(t, "UpgradeDisk", p{"DiskID": boot, "DiskSpace": 60})
		controllertest.Eventually(t, settle, "the system disk has grown", func() bool { d := w.show(t, boot); return d.String("DiskStatus") == "Bound" && d.Int("Size") == 60 })
		if told := w.host(t, vm).Disk(vm, disk); told.Limits.GetReadIops() != 1800+30*120 {
			t.Errorf("the limits did not grow with it: %v", told)
		}
		// One that fails is as it was.
		w.Simulator.FailNext("EnsureVolume", 1, "")
		w.demo.Must(t, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 200})
		controllertest.Eventually(t, settle, "it is as it was", func() bool {
			d := w.show(t, disk)
			return d.String("DiskStatus") == "Bound" && d.Int("Size") == 120 && d.String("Reason") != ""
		})
	})
}

// A disk comes to the machine wherever it is, with what it holds, and leaves nothing behind.
func TestDisksFollowMachines(t *testing.T) {
	each(t, controllertest.Options{Hosts: 3}, func(t *testing.T, w *world) {
		hosts := w.Simulator.IDs()
		var vms []string
		for _, h := range hosts[:2] {
			id := w.Admin.Must(t, "CreateVMInstance", with{"Name": "web", "Password": "Passw0rd!", "ChargeType": "Dynamic", "VMType": w.vmType, "CPU": 1, "Memory": 1024,
				"BootDiskSetType": w.storage, "VPCID": w.vpc, "SubnetID": w.subnet, "ImageID": w.image, "HostID": h, "CompanyID": w.demo.Company}.of(nil)).String("VMID")
			w.awaitVM(t, id, "Running")
			vms = append(vms, id)
		}
		for round := range 2 { // the first time nobody can have written to it, so nothing is copied
			for _, disk := range []string{w.disk(t, nil), w.disk(t, p{"Secret": base64.StdEncoding.EncodeToString([]byte("a key of a tenant"))})} {
				w.attach(t, disk, vms[0])
				controllertest.Eventually(t, settle, "it is on the machine's host alone", func() bool { return slices.Equal(w.holders(t, disk), hosts[:1]) })
				w.host(t, disk).Write(disk, "precious")
				w.detach(t, disk, vms[0])
				snapshot := w.snapshot(t, disk)
				w.attach(t, disk, vms[1])
				controllertest.Eventually(t, settle, "it is on the machine's host alone", func() bool { return slices.Equal(w.holders(t, disk), hosts[1:2]) })
				h := w.host(t, disk)
				if h.Content(disk) != "precious" {
					t.Errorf("round %d: the disk holds %q", round, h.Content(disk))
				}
				if (h.Disk(vms[1], disk).Secret != nil) != (w.show(t, disk)["Encrypted"] == true) {
					t.Error("the host was not told the key, or one that there is not")
				}
				h.Write(disk, "changed")
				w.detach(t, disk, vms[1])
				w.demo.Must(t, "RollbackSnapshot", p{"DiskID": disk, "SnapshotID": snapshot})
				w.awaitSnapshot(t, snapshot, "Normal")
				w.await(t, disk, "Unbound")
				if h.Content(disk) != "precious" {
					t.Errorf("rolled back, the disk holds %q", h.Content(disk))
				}
			}
		}
		// A machine's host that is full.
		disk := w.disk(t, nil)
		w.attach(t, disk, vms[0])
		w.detach(t, disk, vms[0])
		w.demo.Must(t, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 5000})
		controllertest.Eventually(t, settle, "it has grown", func() bool {
			return w.show(t, disk).String("DiskStatus") == "Unbound" && w.show(t, disk).Int("Size") == 5000
		})
		full := w.disk(t, p{"DiskSpace": 5000}) // on another host
		third := w.disk(t, p{"DiskSpace": 5000})
		for _, d := range []string{full, third} {
			if host := w.row(t, d, "host_id"); host == hosts[1] {
				w.demo.Refuse(t, retcode.StorageSetInsufficient, "AttachDisk", p{"DiskID": disk, "ResourceID": vms[1], "ResourceType": "VM"})
				return
			}
		}
		t.Error("the disks did not spread over all hosts")
	})
}

// Several disks at once get names of their own, and a machine takes 25.
func TestManyDisksAtOnce(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		vm := w.vm(t, nil)
		var disks []string
		for range 3 {
			made := w.demo.Must(t, "CreateDisk", w.askDisk(p{"Count": 8, "DiskSpace": 10}))
			for _, id := range made.Body["DiskIDs"].([]any) {
				disks = append(disks, id.(string))
			}
		}
		extra := w.disk(t, p{"DiskSpace": 10})
		var g sync.WaitGroup
		for _, id := range disks {
			w.await(t, id, "Unbound")
			g.Go(func() { w.demo.Must(t, "AttachDisk", p{"DiskID": id, "ResourceID": vm, "ResourceType": "VM"}) })
		}
		g.Wait()
		targets := map[string]bool{}
		for _, id := range disks {
			targets[w.await(t, id, "Bound").String("Drive")] = true
		}
		if len(targets) != 24 {
			t.Errorf("%d names for 24 disks", len(targets))
		}
		w.demo.Refuse(t, retcode.BindLimitReached, "AttachDisk", p{"DiskID": extra, "ResourceID": vm, "ResourceType": "VM"})
	})
}

// A guest that does not let go of a disk keeps it, and its tenant reads why.
func TestGuestKeepsDisk(t *testing.T) {
	block.ReleaseWithin(t, 3*time.Second)
	w := start(t, controllertest.Options{})
	vm, disk := w.vm(t, nil), w.disk(t, nil)
	w.attach(t, disk, vm)
	w.host(t, vm).Cling(vm, true)
	w.demo.Must(t, "DetachDisk", p{"DiskID": disk, "ResourceID": vm})
	controllertest.Eventually(t, settle, "it is given up", func() bool {
		d := w.show(t, disk)
		return d.String("DiskStatus") == "Bound" && strings.Contains(d.String("Reason"), "let go")
	})
	if got := w.demo.OPLog(t, "DetachDisk", disk).Int("RetCode"); got != int(retcode.InvalidResourceState) {
		t.Errorf("the log says %d", got)
	}
	w.host(t, vm).Cling(vm, false)
	w.detach(t, disk, vm)
}

func TestSharedDisk(t *testing.T) {
	each(t, controllertest.Options{Hosts: 1}, func(t *testing.T, w *world) {
		disk := w.disk(t, p{"ShareAble": true})
		a, b, c := w.vm(t, nil), w.vm(t, nil), w.vm(t, nil)
		w.Admin.Must(t, "UpdateRegionConfig", p{"ConfigKey": "SharedDiskAttachments", "ConfigValue": 2})
		for _, vm := range []string{a, b} {
			w.demo.Must(t, "AttachDisk", p{"DiskID": disk, "ResourceID": vm, "ResourceType": "VM"})
			controllertest.Eventually(t, settle, "attached to "+vm, func() bool {
				d := w.show(t, disk)
				return d.String("DiskStatus") == "Bound" && slices.ContainsFunc(d.List("AttachInfos"), func(i info) bool { return i.String("ResourceID") == vm })
			})
			if told := w.host(t, vm).Disk(vm, disk); told == nil || !told.Shared {
				t.Errorf("%s: the host was told %v", vm, told)
			}
		}
		w.demo.Refuse(t, retcode.BindLimitReached, "AttachDisk", p{"DiskID": disk, "ResourceID": c, "ResourceType": "VM"})
		w.demo.Refuse(t, retcode.InvalidResourceState, "CreateSnapshot", p{"DiskID": disk, "Name": "x"})
		w.demo.Refuse(t, retcode.DiskStateUnstable, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 30})
		w.demo.Refuse(t, retcode.InvalidResourceState, "DeleteDisk", p{"DiskID": disk})
		w.demo.Must(t, "AttachDisk", p{"DiskID": disk, "ResourceID": b, "ResourceType": "VM"}) // already so
		w.demo.Must(t, "DetachDisk", p{"DiskID": disk, "ResourceID": a})
		controllertest.Eventually(t, settle, "one is left", func() bool {
			d := w.show(t, disk)
			return d.String("DiskStatus") == "Bound" && len(d.List("AttachInfos")) == 1
		})
		w.demo.Refuse(t, retcode.InvalidResourceState, "DetachDisk", p{"DiskID": disk, "ResourceID": a})
		// The last machine goes, the disk stays.
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": b, "DeleteDataDisk": true})
		w.await(t, disk, "Unbound")
		w.demo.Must(t, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 30})
		controllertest.Eventually(t, settle, "it grows", func() bool { return w.show(t, disk).Int("Size") == 30 })
	})
}

func TestLimits(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		vm, disk := w.vm(t, nil), w.disk(t, nil)
		w.attach(t, disk, vm)
		told := func() *pb.DiskLimits { return w.host(t, vm).Disk(vm, disk).GetLimits() }
		set := func(more p) {
			t.Helper()
			q := p{"DiskID": disk, "CompanyID": w.demo.Company}
			for k, v := range more {
				q[k] = v
			}
			w.Admin.Must(t, "UpdateDiskQoS", q)
		}
		set(p{"DiskIOPS": 500, "DiskWriteBandwidth": 20})
		controllertest.Eventually(t, settle, "the host is told", func() bool {
			l := told()
			return l.GetReadIops() == 500 && l.GetWriteIops() == 500 && l.GetReadBytes() == 90e6 && l.GetWriteBytes() == 20e6
		})
		w.WaitBound(t, disk)
		set(p{"DiskTotalIOPS": 700})
		controllertest.Eventually(t, settle, "a total takes the place of its parts", func() bool { l := told(); return l.GetTotalIops() == 700 && l.GetReadIops() == 0 })
		w.WaitBound(t, disk)
		set(p{"DiskTotalIOPS": 0, "DiskBandwidth": 0})
		controllertest.Eventually(t, settle, "no limit is left", func() bool { return told() == nil })
		w.WaitBound(t, disk)
		for _, q := range []p{{"DiskIOPS": 50001}, {"DiskBandwidth": 1001}, {"DiskReadIOPS": -1}, {"DiskTotalIOPS": 5, "DiskReadIOPS": 5}} {
			q["DiskID"], q["CompanyID"] = disk, w.demo.Company
			w.Admin.Refuse(t, retcode.InvalidParameter, "UpdateDiskQoS", q)
		}
		set(p{"DiskIOPS": 300})
		controllertest.Eventually(t, settle, "limited again", func() bool { return told().GetReadIops() == 300 })
		w.Admin.Must(t, "UpdateRegionConfig", p{"ConfigKey": "DiskQoS", "ConfigValue": false})
		controllertest.Eventually(t, settle, "with the switch off nothing is limited", func() bool { return told() == nil && w.show(t, disk)["DisableQoS"] == true })
		w.Admin.Must(t, "UpdateRegionConfig", p{"ConfigKey": "DiskQoS", "ConfigValue": true})
		controllertest.Eventually(t, settle, "with the switch on its own limits hold", func() bool { return told().GetReadIops() == 300 })
	})
}

// WaitBound waits until no operation holds a disk.
func (w *world) WaitBound(t *testing.T, disk string) {
	t.Helper()
	controllertest.Eventually(t, settle, disk+" is at rest", func() bool {
		ops, err := w.Engine.Busy(t.Context(), w.DB.Reader(), disk)
		return err == nil && len(ops) == 0
	})
}

func TestListOfDisks(t *testing.T) {
	w := start(t, controllertest.Options{})
	vm := w.vm(t, p{"DataDiskSpace": 10})
	free := w.disk(t, p{"Name": "spare", "Secret": base64.StdEncoding.EncodeToString([]byte("a key of a tenant"))})
	shared := w.disk(t, p{"Name": "common", "ShareAble": true})
	w.attach(t, shared, vm)
	for name, c := range map[string]struct {
		q    p
		want int
	}{
		"all": {p{}, 4}, "of a machine": {p{"AttachResourceID": vm}, 3}, "system disks": {p{"DiskType": "Boot"}, 1}, "by name": {p{"Keyword": "SPARE"}, 1},
		"encrypted": {p{"Encrypted": true}, 1}, "in the clear": {p{"Encrypted": false}, 3}, "shared": {p{"ShareAble": true}, 1}, "free": {p{"Unattached": true}, 1},
		"bound": {p{"Statuses": []string{"Bound"}}, 3}, "of a type": {p{"SetTypes": []string{w.storage}}, 4}, "of another": {p{"SetTypes": []string{"x"}}, 0},
		"by id": {p{"DiskIDs": []string{free, shared}}, 2}, "a page": {p{"Limit": 3, "Offset": 3}, 1},
	} {
		if got := w.demo.Must(t, "DescribeDisk", c.q); len(got.Infos()) != c.want || name != "a page" && got.Int("TotalCount") != c.want {
			t.Errorf("%s: %d of %d, want %d", name, len(got.Infos()), got.Int("TotalCount"), c.want)
		}
	}
	w.demo.Refuse(t, retcode.InvalidParameter, "DescribeDisk", p{"Statuses": []string{"Flying"}})
	if n := w.NewTenant(t).Must(t, "DescribeDisk", p{}).Int("TotalCount"); n != 0 {
		t.Errorf("a stranger sees %d disks", n)
	}
	// The key is sealed, and nobody is told.
	if secret := w.row(t, free, "secret"); secret == "" || strings.Contains(secret, "a key of") || strings.Contains(secret, base64.StdEncoding.EncodeToString([]byte("a key of a tenant"))) {
		t.Errorf("the key is kept as %q", secret)
	}
}

// A disk that cannot be made holds nothing, and says why until it is deleted.
func TestDiskThatCannotBeMade(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		count, space := w.used(t, "DISK"), w.used(t, "DISK_SPACE")
		w.Simulator.FailNext("EnsureVolume", 1, "")
		id := w.demo.Must(t, "CreateDisk", w.askDisk(nil)).String("DiskID")
		if d := w.await(t, id, "Failed"); d.String("Reason") == "" {
			t.Errorf("no reason: %v", d)
		}
		if w.used(t, "DISK") != count || w.used(t, "DISK_SPACE") != space || len(w.holders(t, id)) != 0 {
			t.Error("it holds something")
		}
		w.demo.Refuse(t, retcode.DiskStateUnstable, "UpgradeDisk", p{"DiskID": id, "DiskSpace": 30})
		w.demo.Must(t, "DeleteDisk", p{"DiskID": id})
		if w.show(t, id) != nil {
			t.Error("it is still listed")
		}
		w.demo.Refuse(t, retcode.ResourceTerminated, "DeleteDisk", p{"DiskID": id})
	})
}
