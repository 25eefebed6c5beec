package block_test

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestSnapshots(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		vm := w.vm(t, nil)
		disk := w.disk(t, p{"Secret": base64.StdEncoding.EncodeToString([]byte("a key of a tenant"))})
		w.attach(t, disk, vm)
		h := w.host(t, vm)
		var ids []string
		for i := range 3 {
			h.Write(disk, fmt.Sprint("version ", i))
			ids = append(ids, w.snapshot(t, disk))
		}
		h.Write(disk, "the last")
		n := w.awaitSnapshot(t, ids[0], "Normal")
		if got := fmt.Sprint(n.String("Name"), " ", n.String("Type"), " ", n.String("DiskID") == disk, " ", n.String("DiskType"), " ", n.String("DiskAttachResourceID") == vm, " ",
			n.Int("SnapshotSize"), " ", n["Encrypted"], " ", n["Frozen"]); got != "before Manual true Data true 20 true true" {
			t.Errorf("the snapshot shows %s", got)
		}
		if d := w.show(t, disk); d.String("DiskStatus") != "Bound" || d.Int("SnapshotCount") != 3 {
			t.Errorf("after snapshots: %v", d)
		}
		if got := w.demo.Must(t, "DescribeSnapshot", p{"DiskID": disk, "Limit": 2}); got.Int("TotalCount") != 3 || len(got.Infos()) != 2 {
			t.Errorf("a page of snapshots: %v", got.Body)
		}

		// Rolling back needs a machine that is off.
		w.demo.Refuse(t, retcode.InvalidVMState, "RollbackSnapshot", p{"DiskID": disk, "SnapshotID": ids[0]})
		w.stop(t, vm)
		// The middle goes, the ends stay.
		w.demo.Must(t, "DeleteSnapshot", p{"SnapshotID": ids[1]})
		w.awaitSnapshot(t, ids[1], "")
		for _, i := range []int{0, 2} {
			w.demo.Must(t, "RollbackSnapshot", p{"DiskID": disk, "SnapshotID": ids[i]})
			w.awaitSnapshot(t, ids[i], "Normal")
			w.await(t, disk, "Bound")
			if got := h.Content(disk); got != fmt.Sprint("version ", i) {
				t.Errorf("rolled back to version %d it holds %q", i, got)
			}
		}
		w.demo.Refuse(t, retcode.ResourceTerminated, "RollbackSnapshot", p{"DiskID": disk, "SnapshotID": ids[1]})
		other := w.disk(t, nil)
		w.demo.Refuse(t, retcode.ResourceNotFound, "RollbackSnapshot", p{"DiskID": other, "SnapshotID": ids[0]})
		w.NewTenant(t).Refuse(t, retcode.ResourceNotFound, "DeleteSnapshot", p{"SnapshotID": ids[0]})

		// Disks as it was then, with its key.
		made := w.demo.Must(t, "CreateDiskFromSnapshot", p{"SrcSnapshotID": ids[0], "Name": "copy", "ChargeType": "Dynamic", "Quantity": 1, "Count": 2})
		copied := w.await(t, made.String("DiskID"), "Unbound")
		if copied["Encrypted"] != true || copied.Int("Size") != 20 || copied.String("SrcSnapshotID") != ids[0] || h.Content(made.String("DiskID")) != "version 0" {
			t.Errorf("the copy: %v holding %q", copied, h.Content(made.String("DiskID")))
		}
		if len(made.Body["DiskIDs"].([]any)) != 2 {
			t.Errorf("%v", made.Body)
		}
		// A clone.
		clone := w.demo.Must(t, "CloneDisk", p{"Name": "clone", "ChargeType": "Dynamic", "SrcID": made.String("DiskID"), "DiskSpace": 40}).String("DiskID")
		if d := w.await(t, clone, "Unbound"); d["Encrypted"] != true || d.Int("Size") != 40 || h.Content(clone) != "version 0" {
			t.Errorf("the clone: %v holding %q", d, h.Content(clone))
		}
		w.await(t, made.String("DiskID"), "Unbound")

		// The limit.
		w.Admin.Must(t, "UpdateRegionConfig", p{"ConfigKey": "SnapshotsPerDisk", "ConfigValue": 2})
		w.demo.Refuse(t, retcode.SnapshotLimitReached, "CreateSnapshot", p{"DiskID": disk, "Name": "one more"})
		w.Admin.Must(t, "UpdateRegionConfig", p{"ConfigKey": "SnapshotsPerDisk", "ConfigValue": 0})
		w.snapshot(t, disk)
	})
}

// An agent that is killed in the middle of rolling back leaves a disk that has grown since at its old size: it has the
// new one in the end.
func TestRollbackInterrupted(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 1})
	disk := w.disk(t, nil)
	h := w.host(t, disk)
	h.Write(disk, "precious")
	id := w.snapshot(t, disk)
	w.demo.Must(t, "UpgradeDisk", p{"DiskID": disk, "DiskSpace": 40})
	w.await(t, disk, "Unbound")
	h.Write(disk, "changed")
	h.KillInRollback()
	w.demo.Must(t, "RollbackSnapshot", p{"DiskID": disk, "SnapshotID": id})
	w.awaitSnapshot(t, id, "Normal")
	w.await(t, disk, "Unbound")
	if h.Content(disk) != "precious" {
		t.Errorf("it holds %q", h.Content(disk))
	}
	l, err := h.List(t.Context(), &pb.ListRequest{})
	if err != nil || len(l.Volumes) != 1 || l.Volumes[0].SizeBytes != 40<<30 {
		t.Errorf("its volume: %v, %v", l, err)
	}
}

// While a disk is being made of a snapshot, it stays.
func TestSnapshotInUse(t *testing.T) {
	w := start(t, controllertest.Options{})
	disk := w.disk(t, nil)
	id := w.snapshot(t, disk)
	w.Simulator.Delay("EnsureVolume", 2*time.Second)
	made := w.demo.Must(t, "CreateDiskFromSnapshot", p{"SrcSnapshotID": id, "Name": "copy", "ChargeType": "Dynamic", "Quantity": 1}).String("DiskID")
	w.demo.Refuse(t, retcode.SnapshotCreatingDisk, "DeleteSnapshot", p{"SnapshotID": id})
	w.demo.Refuse(t, retcode.SnapshotCreatingDisk, "RollbackSnapshot", p{"SnapshotID": id, "DiskID": disk})
	w.demo.Refuse(t, retcode.DiskStateUnstable, "DeleteDisk", p{"DiskID": disk})
	w.await(t, made, "Unbound")
	w.demo.Must(t, "DeleteSnapshot", p{"SnapshotID": id})
	w.awaitSnapshot(t, id, "")
	w.demo.Must(t, "DeleteDisk", p{"DiskID": disk})
	w.awaitBin(t, disk, "Deleted")
	for action, q := range map[string]p{"CreateSnapshot": {"DiskID": disk, "Name": "late"}} {
		w.demo.Refuse(t, retcode.DiskInRecycleBin, action, q)
	}
}

// A snapshot that cannot be taken says why, takes no place, and can be deleted.
func TestSnapshotThatFails(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		disk := w.disk(t, nil)
		w.Simulator.FailNext("EnsureSnapshot", 1, "")
		id := w.demo.Must(t, "CreateSnapshot", p{"Name": "bad", "DiskID": disk, "Remark": "x"}).String("SnapshotID")
		if n := w.awaitSnapshot(t, id, "Failure"); n.String("Reason") == "" {
			t.Errorf("no reason: %v", n)
		}
		w.await(t, disk, "Unbound")
		w.demo.Refuse(t, retcode.SnapshotStateUnstable, "RollbackSnapshot", p{"DiskID": disk, "SnapshotID": id})
		w.demo.Must(t, "DeleteSnapshot", p{"SnapshotID": id})
		w.awaitSnapshot(t, id, "")
	})
}

// The snapshots of a system disk go with its machine, and not before: a machine in the bin can be had back with them.
func TestSnapshotsOfAMachine(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		vm := w.vm(t, nil)
		boot := w.bootDisk(t, vm)
		id := w.snapshot(t, boot)
		made := w.demo.Must(t, "CreateDiskFromSnapshot", p{"SrcSnapshotID": id, "Name": "copy", "ChargeType": "Dynamic", "Quantity": 1}).String("DiskID")
		w.await(t, made, "Unbound")
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": vm})
		w.awaitVMBin(t, vm)
		if w.show(t, boot) != nil {
			t.Error("the system disk of a machine in the bin is listed")
		}
		w.demo.Must(t, "RollbackResource", p{"ResourceID": vm})
		w.awaitVM(t, vm, "Stopped")
		w.await(t, boot, "Bound")
		w.demo.Must(t, "RollbackSnapshot", p{"DiskID": boot, "SnapshotID": id})
		w.awaitSnapshot(t, id, "Normal")
		w.await(t, boot, "Bound")
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": vm})
		w.awaitVMBin(t, vm)
		w.demo.Must(t, "TerminateResource", p{"ResourceID": vm})
		w.awaitBin(t, vm, "")
		w.awaitSnapshot(t, id, "")
		if w.show(t, made) == nil {
			t.Error("the copy went with its machine")
		}
	})
}

func TestSnapshotNames(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 1})
	disk := w.disk(t, nil)
	w.demo.Refuse(t, retcode.InvalidParameter, "CreateSnapshot", p{"DiskID": disk, "Name": "abcdefghijklmnopqrstuvwxyz12345"})
	w.demo.Refuse(t, retcode.MissingParameter, "CreateSnapshot", p{"DiskID": disk})
	w.demo.Refuse(t, retcode.ResourceNotFound, "CreateSnapshot", p{"DiskID": "disk-none", "Name": "x"})
	w.demo.Refuse(t, retcode.ResourceNotFound, "CreateDiskFromSnapshot", p{"SrcSnapshotID": "snapshot-none", "Name": "x", "ChargeType": "Dynamic", "Quantity": 1})
}
