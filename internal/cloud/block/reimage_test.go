package block_test

import (
	"context"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// snapshotsOn are the snapshots that a disk's host holds of it.
func (w *world) snapshotsOn(t *testing.T, disk string) []string {
	t.Helper()
	l, err := w.host(t, disk).List(context.Background(), &pb.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range l.Volumes {
		if v.Id == disk {
			return v.Snapshots
		}
	}
	return nil
}

// TestReinstallDropsSnapshots: those of the old system go with it, of their rows and on the host, also when the host
// fails in between. A disk that is being made of one is whole.
func TestReinstallDropsSnapshots(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		vm := w.vm(t, nil)
		boot, data := w.bootDisk(t, vm), w.disk(t, nil)
		w.attach(t, data, vm)
		h := w.host(t, boot)
		h.Write(boot, "the old system")
		old, kept := w.snapshot(t, boot), w.snapshot(t, data)
		w.stop(t, vm)

		w.Simulator.Delay("EnsureVolume", time.Second)
		made := w.demo.Must(t, "CreateDiskFromSnapshot", p{"SrcSnapshotID": old, "Name": "copy", "ChargeType": "Dynamic", "Quantity": 1}).String("DiskID")
		again := p{"VMID": vm, "ImageID": w.image}
		w.demo.Must(t, "ReinstallVMInstance", again)
		w.awaitVM(t, vm, "Stopped")
		w.Simulator.Delay("EnsureVolume", 0)
		w.await(t, made, "Unbound")
		if got := h.Content(made); got != "the old system" {
			t.Errorf("the copy holds %q", got)
		}
		gone := func() {
			t.Helper()
			w.awaitSnapshot(t, old, "")
			if left := w.snapshotsOn(t, boot); len(left) != 0 || h.Content(boot) == "the old system" {
				t.Errorf("the host still has %v and %q", left, h.Content(boot))
			}
			w.demo.Refuse(t, retcode.ResourceTerminated, "RollbackSnapshot", p{"DiskID": boot, "SnapshotID": old})
		}
		gone()
		w.awaitSnapshot(t, kept, "Normal")
		if left := w.snapshotsOn(t, data); len(left) != 1 {
			t.Errorf("of the data disk the host has %v", left)
		}

		// A host that does not remove the old volume: the next start makes the new one.
		h.Write(boot, "the old system")
		old = w.snapshot(t, boot)
		w.Simulator.FailNext("RemoveVolume", 1, "")
		w.demo.Must(t, "ReinstallVMInstance", again)
		if v := w.awaitVM(t, vm, "Stopped"); v.String("Reason") == "" {
			t.Error("a failed installation has no reason")
		}
		w.demo.Refuse(t, retcode.DiskStateUnstable, "CreateSnapshot", p{"DiskID": boot, "Name": "of what"})
		w.demo.Must(t, "StartVMInstance", p{"VMID": vm})
		w.awaitVM(t, vm, "Running")
		gone()
		w.snapshot(t, boot)
	})
}
