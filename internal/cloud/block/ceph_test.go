package block_test

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/simulate"
)

const ceph = "CephA"

// cephSet are the parameters of a storage set in a pool.
func cephSet(more p) p {
	return with{"SetType": ceph, "Alias": "Shared", "Driver": "Ceph", "Media": "SSD", "Replicas": 3, "CephConfig.Monitors": []string{"10.0.0.1", "10.0.0.2:6789"},
		"CephConfig.Pool": "vms", "CephConfig.User": "lingyun", "CephConfig.Key": base64.StdEncoding.EncodeToString([]byte("a key of this many bytes"))}.of(more)
}

// addCeph makes a set that all hosts share and waits until they do. Its tenant's disks are there from now on.
func (w *world) addCeph(t *testing.T) (set string) {
	t.Helper()
	set = w.Admin.Must(t, "CreateStorageSet", cephSet(nil)).String("SetID")
	controllertest.Eventually(t, settle, "every host reaches the pool", func() bool {
		for _, id := range w.Simulator.IDs() {
			if !w.Fleet.Reaches(set, id) {
				return false
			}
		}
		return w.storageSet(t, set).Int("StorageCap") > 0
	})
	w.storage = ceph
	return set
}

func (w *world) storageSet(t *testing.T, id string) info {
	t.Helper()
	infos := w.Admin.Must(t, "DescribeStorageSet", p{"SetIDs": []string{id}}).Infos()
	if len(infos) != 1 {
		t.Fatalf("storage set %s: %v", id, infos)
	}
	return infos[0]
}

// twoMachines makes machines on two hosts.
func (w *world) twoMachines(t *testing.T) (a, b string) {
	t.Helper()
	ids := w.Simulator.IDs()
	return w.vmOn(t, ids[0]), w.vmOn(t, ids[1])
}

// askVM are the parameters of a tenant's machine that the administrator makes on a host.
func (w *world) askVM(host string) p {
	return p{"Name": "web", "Password": "Passw0rd!", "ChargeType": "Dynamic", "VMType": w.vmType, "CPU": 1, "Memory": 1024, "BootDiskSetType": w.storage,
		"VPCID": w.vpc, "SubnetID": w.subnet, "ImageID": w.image, "HostID": host, "CompanyID": w.demo.Company}
}

func (w *world) vmOn(t *testing.T, host string) string {
	t.Helper()
	id := w.Admin.Must(t, "CreateVMInstance", w.askVM(host)).String("VMID")
	w.awaitVM(t, id, "Running")
	return id
}

func eachCeph(t *testing.T, o controllertest.Options, f func(t *testing.T, w *world, pool *simulate.Host, set string)) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		o.DB = db
		w := start(t, o)
		set := w.addCeph(t)
		f(t, w, w.Simulator.Pool(set), set)
		w.healthy(t)
	})
}

func TestDiskInAPool(t *testing.T) {
	eachCeph(t, controllertest.Options{Hosts: 2}, func(t *testing.T, w *world, pool *simulate.Host, set string) {
		before := w.storageSet(t, set)
		if before.String("SetProvider") != "Ceph" || before.String("Redundancy") != "Replicas:3" || before.Int("StorageUsed") != 0 ||
			before.Int("StoragePhysicAvailable") != before.Int("StorageCap") || len(before.List("VmSetList")) != 1 || len(before.List("BoundVMSetList")) != 0 {
			t.Errorf("%v", before)
		}
		one, two := w.twoMachines(t)
		disk := w.disk(t, nil)
		if h := w.holders(t, disk); len(h) != 0 {
			t.Errorf("the volume is on %v", h)
		}
		if set := w.storageSet(t, set); set.Int("StorageUsed") != 20+2*40 || len(set.List("BoundVMSetList")) != 1 {
			t.Errorf("%v", set)
		}

		// From machine to machine nothing moves, and what was written is there.
		w.Simulator.FailNext("ReadVolume", 1, "")
		w.attach(t, disk, one)
		if !pool.Write(disk, "of the first") {
			t.Fatal("the volume is not in the pool")
		}
		snapshot := w.snapshot(t, disk)
		pool.Write(disk, "later")
		w.detach(t, disk, one)
		w.attach(t, disk, two)
		if w.host(t, disk) != w.host(t, two) || pool.Content(disk) != "later" || w.row(t, disk, "from_host") != "" || w.row(t, disk, "left_host") != "" {
			t.Errorf("on %v, content %q", w.host(t, disk), pool.Content(disk))
		}
		if d := w.host(t, two).Disk(two, disk); d.GetPool() != set {
			t.Errorf("the host was told %v", d)
		}
		w.detach(t, disk, two)
		w.demo.Must(t, "RollbackSnapshot", p{"DiskID": disk, "SnapshotID": snapshot})
		w.await(t, disk, "Unbound")
		if c := pool.Content(disk); c != "of the first" {
			t.Errorf("rolled back to %q", c)
		}

		// A copy, a copy of a snapshot, growth, and the bin.
		clone := w.demo.Must(t, "CloneDisk", p{"Name": "copy", "ChargeType": "Dynamic", "SrcID": disk}).String("DiskID")
		w.await(t, clone, "Unbound")
		from := w.demo.Must(t, "CreateDiskFromSnapshot", p{"Name": "old", "ChargeType": "Dynamic", "Quantity": 1, "SrcSnapshotID": snapshot}).String("DiskID")
		w.await(t, from, "Unbound")
		if pool.Content(clone) != "of the first" || pool.Content(from) != "of the first" {
			t.Errorf("%q, %q", pool.Content(clone), pool.Content(from))
		}
		w.demo.Must(t, "UpgradeDisk", p{"DiskID": clone, "DiskSpace": 50})
		controllertest.Eventually(t, settle, "the copy has grown", func() bool {
			return w.show(t, clone).Int("Size") == 50 && w.show(t, clone).String("DiskStatus") == "Unbound"
		})
		if n := w.storageSet(t, set).Int("StorageUsed"); n != 80+20+20+50 {
			t.Errorf("%d GB are counted", n)
		}
		w.Admin.Refuse(t, retcode.InvalidResourceState, "DeleteStorageSet", p{"SetID": set})
		for _, id := range []string{disk, clone, from} {
			w.demo.Must(t, "DeleteDisk", p{"DiskID": id})
			w.awaitBin(t, id, "Deleted")
			w.demo.Must(t, "TerminateResource", p{"ResourceID": id})
			w.awaitBin(t, id, "")
		}
		if n := w.storageSet(t, set).Int("StorageUsed"); n != 80 || pool.Content(disk) != "" {
			t.Errorf("%d GB are counted, content %q", n, pool.Content(disk))
		}
	})
}

// A disk in a pool that may be shared is on machines of several hosts at once.
func TestSharedDiskOfTwoHosts(t *testing.T) {
	eachCeph(t, controllertest.Options{Hosts: 2}, func(t *testing.T, w *world, _ *simulate.Host, set string) {
		one, two := w.twoMachines(t)
		disk := w.disk(t, p{"ShareAble": true})
		w.attach(t, disk, one)
		w.attach(t, disk, two)
		for _, vm := range []string{one, two} {
			if d := w.host(t, vm).Disk(vm, disk); d == nil || !d.Shared || d.Pool != set {
				t.Errorf("%s has %v", vm, d)
			}
		}
		w.detachShared(t, disk, one, "Bound")
		w.detachShared(t, disk, two, "Unbound")
	})
}

func (w *world) detachShared(t *testing.T, disk, vm, then string) {
	t.Helper()
	w.demo.Must(t, "DetachDisk", p{"DiskID": disk, "ResourceID": vm})
	controllertest.Eventually(t, settle, disk+" has left "+vm, func() bool {
		d := w.show(t, disk)
		return d.String("DiskStatus") == then && !slices.ContainsFunc(d.List("AttachInfos"), func(a info) bool { return a.String("ResourceID") == vm })
	})
}

// What a host that is down handled, another handles; what one of its machines has waits for it.
func TestHostOfAPoolIsDown(t *testing.T) {
	eachCeph(t, controllertest.Options{Hosts: 2}, func(t *testing.T, w *world, pool *simulate.Host, _ string) {
		one, two := w.twoMachines(t)
		free, held := w.disk(t, nil), w.disk(t, nil)
		w.attach(t, free, one)
		pool.Write(free, "kept")
		w.detach(t, free, one)
		w.attach(t, held, one)

		var host string
		if err := w.DB.Reader().NewRaw("SELECT host_id FROM vm WHERE id = ?", one).Scan(context.Background(), &host); err != nil {
			t.Fatal(err)
		}
		w.Simulator.Down(host)
		w.Clock.Advance(time.Minute)
		controllertest.Eventually(t, settle, "the host is down", func() bool { h, _ := w.Fleet.HostInfo(host); return h.State == "Down" })
		w.snapshot(t, free)
		w.attach(t, free, two)
		if pool.Content(free) != "kept" {
			t.Errorf("content %q", pool.Content(free))
		}
		w.demo.Refuse(t, retcode.SystemBusy, "DetachDisk", p{"DiskID": held, "ResourceID": one})
		made := w.disk(t, nil)
		w.demo.Must(t, "DeleteDisk", p{"DiskID": made})
		w.awaitBin(t, made, "Deleted")

		w.Simulator.Up(host)
		controllertest.Eventually(t, settle, "the host is back", func() bool { h, _ := w.Fleet.HostInfo(host); return h.State == "Available" })
		w.detach(t, held, one)
	})
}

// The room of a pool is one for all hosts, and neither two at once nor one too large get more than there is.
func TestRoomOfAPool(t *testing.T) {
	o := controllertest.Options{Hosts: 2, DiskGB: 100}
	o.Configure = poolOf(200)
	eachCeph(t, o, func(t *testing.T, w *world, _ *simulate.Host, set string) {
		// More than a host has, and more than one disk in one request.
		big := w.disk(t, p{"DiskSpace": 150})
		w.demo.Refuse(t, retcode.StorageSetInsufficient, "CreateDisk", w.askDisk(p{"DiskSpace": 30, "Count": 2}))
		w.demo.Refuse(t, retcode.StorageSetInsufficient, "UpgradeDisk", p{"DiskID": big, "DiskSpace": 201})
		vm := w.vm(t, nil) // 40 GB of system disk
		w.demo.Refuse(t, retcode.StorageSetInsufficient, "CreateVMInstance", with(w.askVM("")).of(p{"HostID": nil, "CompanyID": nil}))
		if n := w.storageSet(t, set).Int("StorageUsed"); n != 190 {
			t.Errorf("%d GB are counted", n)
		}
		// A host's own disks are another matter.
		local := w.demo.Must(t, "CreateDisk", w.askDisk(p{"SetType": "StorageSetA", "DiskSpace": 90})).String("DiskID")
		w.await(t, local, "Unbound")
		w.attach(t, local, vm)
	})
}

func TestHostsThatReachAPool(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 2})
	ids := w.Simulator.IDs()
	w.Simulator.FailNext("EnsurePool", 1<<30, ids[0])
	set := w.Admin.Must(t, "CreateStorageSet", cephSet(nil)).String("SetID")
	controllertest.Eventually(t, settle, "one host reaches the pool", func() bool { return w.Fleet.Reaches(set, ids[1]) && w.storageSet(t, set).Int("StorageCap") > 0 })
	near := w.vmOn(t, ids[0])
	w.storage = ceph
	for range 3 { // the emptier host is the other one
		if vm := w.vm(t, nil); w.host(t, vm) != w.hostOf(t, ids[1]) {
			t.Errorf("%s is where its system disk cannot be opened", vm)
		}
	}
	disk := w.disk(t, nil)
	w.demo.Refuse(t, retcode.SetDiskNotSupported, "AttachDisk", p{"DiskID": disk, "ResourceID": near, "ResourceType": "VM"})
	w.Admin.Refuse(t, retcode.NoIdleStorageSet, "CreateVMInstance", w.askVM(ids[0]))

	w.Simulator.Down(ids[1])
	w.Clock.Advance(time.Minute)
	controllertest.Eventually(t, settle, "nothing reaches the pool", func() bool { return !w.Fleet.Reaches(set, ids[1]) })
	w.demo.Refuse(t, retcode.NoIdleStorageSet, "CreateDisk", w.askDisk(nil))
	w.healthy(t)
}

// Disks of several storage sets on one machine, and an image of a machine whose system disk is in a pool.
func TestMachineWithBothKinds(t *testing.T) {
	eachCeph(t, controllertest.Options{Hosts: 2}, func(t *testing.T, w *world, pool *simulate.Host, _ string) {
		vm := w.vm(t, p{"DataDisks.0.SetType": "StorageSetA", "DataDisks.0.DiskSpace": 20, "DataDisks.1.SetType": ceph, "DataDisks.1.DiskSpace": 30})
		infos := w.demo.Must(t, "DescribeDisk", p{"AttachResourceID": vm}).Infos()
		if len(infos) != 3 {
			t.Fatalf("%v", infos)
		}
		for _, d := range infos {
			id := d.String("DiskID")
			if in, on := pool.Write(id, "x"), len(w.holders(t, id)); in != (d.String("SetType") == ceph) || (on == 1) == in {
				t.Errorf("%v is in the pool: %v, on %d hosts", d, in, on)
			}
		}
		w.stop(t, vm)
		image := w.demo.Must(t, "CreateCustomImage", p{"VMID": vm, "ImageName": "made"}).String("ImageID")
		controllertest.Eventually(t, settle, "the image is made", func() bool {
			infos := w.demo.Must(t, "DescribeImage", p{"ImageIDs": []string{image}}).Infos()
			return len(infos) == 1 && infos[0].String("ImageStatus") == "Used"
		})
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": vm, "ReleaseDisk": true})
	})
}

// The rules of storage sets themselves.
func TestStorageSets(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 1})
	for field, bad := range map[string]any{"CephConfig.Monitors": []string{"10.0.0.1:0"}, "CephConfig.Pool": "a/b", "CephConfig.User": "client lingyun\n", "CephConfig.Key": "short",
		"CephConfig.ClusterID": "it", "Driver": "Directory", "SetType": "a b", "HostIDs": []string{"host-1"}, "Alias": strings.Repeat("x", 129)} {
		w.Admin.Refuse(t, retcode.InvalidParameter, "CreateStorageSet", cephSet(p{field: bad}))
	}
	set := w.addCeph(t)
	w.Admin.Refuse(t, retcode.InvalidParameter, "CreateStorageSet", cephSet(nil))
	w.demo.Refuse(t, retcode.AdminOnly, "DescribeStorageSet", p{})
	var kept string
	if err := w.DB.Reader().NewRaw("SELECT ceph FROM storage_set WHERE id = ?", set).Scan(context.Background(), &kept); err != nil || strings.Contains(kept, "YSBrZXkg") || !strings.Contains(kept, "10.0.0.2:6789") {
		t.Errorf("the row keeps %s %v", kept, err)
	}
	if text := w.storageSet(t, set); strings.Contains(text.String("CephConfig"), "Key") {
		t.Errorf("the key is told: %v", text)
	}

	w.Admin.Must(t, "AliasStorageSet", p{"SetType": ceph, "Alias": "Fast"})
	w.Admin.Refuse(t, retcode.SetTypeNotFound, "AliasStorageSet", p{"SetType": "None", "Alias": "Fast"})
	w.Admin.Must(t, "UpdateStorageSet", p{"SetID": set, "Media": "HDD", "CephConfig.Monitors": []string{"10.0.0.9"}})
	w.Admin.Refuse(t, retcode.SetNotFound, "UpdateStorageSet", p{"SetID": "set-none", "Media": "HDD"})
	w.Admin.Refuse(t, retcode.InvalidParameter, "UpdateStorageSet", p{"SetID": "storage-set-01", "CephConfig.Pool": "other"})
	if s := w.storageSet(t, set); s.String("SetAlias") != "Fast" {
		t.Errorf("%v", s)
	}
	controllertest.Eventually(t, settle, "the hosts know the new monitors", func() bool {
		return w.Fleet.Reaches(set, w.Simulator.IDs()[0])
	})
	disk := w.disk(t, nil)
	if d := w.show(t, disk); d.String("Media") != "HDD" || d.Int("IOPS") != 1000 {
		t.Errorf("%v", d)
	}
	w.Admin.Refuse(t, retcode.InvalidParameter, "UpdateStorageSet", p{"SetID": set, "CephConfig.Pool": "other"})
	w.Admin.Refuse(t, retcode.InvalidResourceState, "DeleteStorageSet", p{"SetID": set})
	w.Admin.Refuse(t, retcode.InvalidResourceState, "DeleteStorageSet", p{"SetID": "storage-set-01"})
	w.Admin.Refuse(t, retcode.SetNotFound, "DeleteStorageSet", p{"SetID": "set-none"})

	// Chosen tenants, then nobody's any more.
	w.Admin.Must(t, "UpdateResourcePermission", p{"ResourceID": set, "ResourceType": "STORAGE_SET", "PermissionMode": "whitelist"})
	w.demo.Refuse(t, retcode.NoStorageSetPermission, "CreateDisk", w.askDisk(nil))
	w.demo.Must(t, "DeleteDisk", p{"DiskID": disk})
	w.awaitBin(t, disk, "Deleted")
	w.demo.Must(t, "TerminateResource", p{"ResourceID": disk})
	w.awaitBin(t, disk, "")
	w.Admin.Must(t, "DeleteStorageSet", p{"SetID": set})
	w.demo.Refuse(t, retcode.SetTypeNotFound, "CreateDisk", w.askDisk(nil))
	controllertest.Eventually(t, settle, "the host has forgotten the pool", func() bool {
		return !w.hostOf(t, w.Simulator.IDs()[0]).Knows(set)
	})
}

// poolOf makes pools so large, in GB.
func poolOf(gb int) func(*controller.Config) {
	return func(c *controller.Config) { c.Host.PoolGB = gb }
}
