package block_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/workflow/workflowtest"
)

// state is all that an operation on a disk could change, as lines. What failed and what is destroyed holds nothing, and
// is left out.
func (w *world) state(t *testing.T) any {
	t.Helper()
	controllertest.Eventually(t, settle, "moved disks have left", func() bool {
		n, err := w.DB.Reader().NewSelect().TableExpr("disk").Where("left_host <> ''").Count(context.Background())
		return err == nil && n == 0
	})
	lines := []string{}
	for _, q := range []string{
		"SELECT 'disk ' || id || ' ' || state || ' ' || CAST(size_gb AS TEXT) || ' of ' || vm_id || ' ' || target || ' on ' || host_id || ' from ' || from_host || ' limits ' || CAST(read_iops AS TEXT) FROM disk WHERE ended_at = 0",
		"SELECT 'share ' || disk_id || ' ' || vm_id || ' ' || state FROM disk_share",
		"SELECT 'snapshot ' || id || ' ' || state FROM snapshot WHERE ended_at = 0 AND state <> 'Failure'",
		"SELECT 'quota ' || factor || ' ' || CAST(used AS TEXT) FROM quota WHERE used <> 0",
		"SELECT 'host ' || id || ' ' || CAST(disk_used AS TEXT) FROM host",
	} {
		var rows []string
		if err := w.DB.Reader().NewRaw(q).Scan(context.Background(), &rows); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		lines = append(lines, rows...)
	}
	for _, id := range w.Simulator.IDs() {
		l, err := w.hostOf(t, id).List(context.Background(), &pb.ListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range l.Domains {
			lines = append(lines, fmt.Sprint("domain ", d.Id, " ", d.State, " ", d.Volumes))
		}
		for _, v := range l.Volumes {
			lines = append(lines, fmt.Sprint("volume ", v.Id, " ", v.SizeBytes, " ", v.Snapshots, " on ", id))
		}
	}
	return lines
}

// workflowCase runs the generic tests of a workflow that action starts on what prepare has made.
func workflowCase(t *testing.T, name, action string, hosts int, failed func(t *testing.T, before, after any), prepare func(t *testing.T, w *world) p) {
	t.Helper()
	workflowtest.Run(t, workflowtest.Case{Workflow: name, Failed: failed, New: func(t *testing.T) *workflowtest.World {
		w := start(t, controllertest.Options{Hosts: hosts})
		q := prepare(t, w)
		return &workflowtest.World{Engine: w.Engine, DB: w.DB, Snapshot: w.state, Start: func(t *testing.T) {
			w.demo.Must(t, action, q)
		}}
	}})
}

func TestCreateWorkflow(t *testing.T) {
	workflowCase(t, "disk.create", "CreateDisk", 1, nil, func(t *testing.T, w *world) p { return w.askDisk(nil) })
}

func TestAttachWorkflow(t *testing.T) {
	workflowCase(t, "disk.attach", "AttachDisk", 1, nil, func(t *testing.T, w *world) p {
		return p{"DiskID": w.disk(t, nil), "ResourceID": w.vm(t, nil), "ResourceType": "VM"}
	})
}

// A disk that was used on one host goes to another; failing on the way leaves it where it was.
func TestMoveWorkflow(t *testing.T) {
	workflowCase(t, "disk.attach", "AttachDisk", 2, nil, func(t *testing.T, w *world) p {
		vm, disk := w.vm(t, nil), w.disk(t, nil)
		w.attach(t, disk, vm)
		w.detach(t, disk, vm)
		hosts := w.Simulator.IDs()
		other := hosts[1-slices.Index(hosts, w.row(t, disk, "host_id"))]
		id := w.Admin.Must(t, "CreateVMInstance", with{"Name": "web", "Password": "Passw0rd!", "ChargeType": "Dynamic", "VMType": w.vmType, "CPU": 1, "Memory": 1024,
			"BootDiskSetType": w.storage, "VPCID": w.vpc, "SubnetID": w.subnet, "ImageID": w.image, "HostID": other, "CompanyID": w.demo.Company}.of(nil)).String("VMID")
		w.awaitVM(t, id, "Running")
		return p{"DiskID": disk, "ResourceID": id, "ResourceType": "VM"}
	})
}

func TestDetachWorkflow(t *testing.T) {
	workflowCase(t, "disk.detach", "DetachDisk", 1, nil, func(t *testing.T, w *world) p {
		vm, disk := w.vm(t, nil), w.disk(t, nil)
		w.attach(t, disk, vm)
		return p{"DiskID": disk, "ResourceID": vm}
	})
}

// without compares two states but for the lines of some kinds.
func without(kinds ...string) func(t *testing.T, before, after any) {
	return func(t *testing.T, before, after any) {
		t.Helper()
		keep := func(v any) []string {
			var left []string
			for _, l := range v.([]any) {
				if s := l.(string); !slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(s, k) }) {
					left = append(left, s)
				}
			}
			slices.Sort(left)
			return left
		}
		if diff := cmp.Diff(keep(before), keep(after)); diff != "" {
			t.Errorf("the failure left (-before +after):\n%s", diff)
		}
	}
}

// A volume that has grown stays so: nothing shrinks.
func TestUpgradeWorkflow(t *testing.T) {
	workflowCase(t, "disk.upgrade", "UpgradeDisk", 1, without("volume "), func(t *testing.T, w *world) p {
		return p{"DiskID": w.disk(t, nil), "DiskSpace": 30}
	})
}

func TestDeleteWorkflow(t *testing.T) {
	// Snapshots that are gone from the host do not come back.
	workflowCase(t, "disk.delete", "DeleteDisk", 1, without("volume "), func(t *testing.T, w *world) p {
		disk := w.disk(t, nil)
		w.snapshot(t, disk)
		return p{"DiskID": disk}
	})
}

func TestSnapshotWorkflow(t *testing.T) {
	workflowCase(t, "snapshot.create", "CreateSnapshot", 1, nil, func(t *testing.T, w *world) p {
		return p{"DiskID": w.disk(t, nil), "Name": "x"}
	})
}

func TestRollbackWorkflow(t *testing.T) {
	workflowCase(t, "snapshot.rollback", "RollbackSnapshot", 1, nil, func(t *testing.T, w *world) p {
		disk := w.disk(t, nil)
		return p{"DiskID": disk, "SnapshotID": w.snapshot(t, disk)}
	})
}

func TestDeleteSnapshotWorkflow(t *testing.T) {
	// What could not be removed is of no use any more, and can only be deleted.
	workflowCase(t, "snapshot.delete", "DeleteSnapshot", 1, without("snapshot ", "volume "), func(t *testing.T, w *world) p {
		return p{"SnapshotID": w.snapshot(t, w.disk(t, nil))}
	})
}

func TestLimitWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "disk.limit", New: func(t *testing.T) *workflowtest.World {
		w := start(t, controllertest.Options{Hosts: 1})
		vm, disk := w.vm(t, nil), w.disk(t, nil)
		w.attach(t, disk, vm)
		return &workflowtest.World{Engine: w.Engine, DB: w.DB, Snapshot: w.state, Start: func(t *testing.T) {
			w.Admin.Must(t, "UpdateDiskQoS", p{"DiskID": disk, "DiskIOPS": 100, "CompanyID": w.demo.Company})
		}}
	}})
}
