package compute_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/workflow/workflowtest"
)

// spelled finds what differs between worlds: UUIDs, ids in names that OVN wants without hyphens, numbers made of ids.
var spelled = regexp.MustCompile(`[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(vpc|subnet|sg|nic|seg|eip)_[a-z0-9]{14}|\b[0-9]{6,}\b`)

// snapshot is all that an operation on a machine could change, as lines. Failed machines hold nothing, so they
// are left out; so are tombstones.
func (w *world) snapshot(t *testing.T) any {
	t.Helper()
	lines := []string{}
	for _, q := range []string{
		"SELECT 'vm ' || id || ' ' || state || ' placed ' || CAST(placed AS TEXT) FROM vm WHERE state NOT IN ('Failed', 'Terminated')",
		"SELECT 'disk ' || id || ' ' || state || ' of ' || vm_id || ' ' || target FROM disk WHERE ended_at = 0",
		"SELECT 'quota ' || factor || ' ' || CAST(used AS TEXT) FROM quota WHERE used <> 0",
		"SELECT 'hosts ' || CAST(SUM(cpu_used) AS TEXT) || ' ' || CAST(SUM(memory_used) AS TEXT) || ' ' || CAST(SUM(disk_used) AS TEXT) FROM host",
		"SELECT 'subnet ' || CAST(used AS TEXT) FROM subnet",
		"SELECT 'segment ' || CAST(used AS TEXT) FROM segment",
		"SELECT 'port ' || id || ' ' || ip || ' kept ' || CAST(kept AS TEXT) FROM port",
		"SELECT 'eip ' || id || ' ' || state || ' on ' || bind_id FROM eip WHERE ended_at = 0",
		"SELECT 'seed of ' || vm_id FROM vm_seed",
	} {
		var rows []string
		if err := w.DB.Reader().NewRaw(q).Scan(context.Background(), &rows); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		lines = append(lines, rows...)
	}
	for _, id := range w.Simulator.IDs() {
		h, err := w.Simulator.Dial(id, "")
		if err != nil {
			t.Fatal(err)
		}
		l, err := h.List(context.Background(), &pb.ListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range l.Domains {
			lines = append(lines, "domain "+d.Id+" "+d.State.String())
		}
		for _, v := range l.Volumes {
			lines = append(lines, fmt.Sprint("volume ", v.Id, " ", v.SizeBytes))
		}
	}
	vpcs, _, err := w.Fabric.Present(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range vpcs {
		for _, row := range w.Fabric.(*fabric.Memory).Rows(id) {
			lines = append(lines, "fabric "+spelled.ReplaceAllString(row, "$1"))
		}
	}
	return lines
}

// oneHost starts a cloud with a single host, so that placement is the same in every world.
func oneHost(t *testing.T) *world { return start(t, controllertest.Options{Hosts: 1}) }

// workflowCase runs the generic tests of a workflow that action starts on a machine that prepare has made.
func workflowCase(t *testing.T, name, action string, failed func(t *testing.T, before, after any), prepare func(t *testing.T, w *world) p) {
	t.Helper()
	workflowtest.Run(t, workflowtest.Case{Workflow: name, Failed: failed, New: func(t *testing.T) *workflowtest.World {
		w := oneHost(t)
		q := prepare(t, w)
		return &workflowtest.World{Engine: w.Engine, DB: w.DB, Snapshot: w.snapshot, Start: func(t *testing.T) { w.demo.Must(t, action, q) }}
	}})
}

func running(t *testing.T, w *world) p { return p{"VMID": w.create(t, nil)} }

func stopped(t *testing.T, w *world) p {
	q := running(t, w)
	w.demo.Must(t, "StopVMInstance", q)
	w.await(t, q["VMID"].(string), "Stopped")
	return q
}

// agrees: after a failure the row says what the machine is, and it holds its host's CPU and memory if and only if it runs.
func agrees(t *testing.T, before, after any) {
	t.Helper()
	text := fmt.Sprint(after)
	on := strings.Contains(text, " Running placed ")
	if !on && !strings.Contains(text, " Stopped placed ") {
		t.Errorf("neither Running nor Stopped: %s", text)
	}
	if on != strings.Contains(text, "DOMAIN_STATE_RUNNING") || on != strings.Contains(text, "hosts 1 1024 ") {
		t.Errorf("row, domain and capacity disagree: %s", text)
	}
	same := func(v any) []string {
		var left []string
		for _, l := range v.([]any) {
			if s := l.(string); !strings.HasPrefix(s, "vm ") && !strings.HasPrefix(s, "domain ") && !strings.HasPrefix(s, "hosts ") {
				left = append(left, s)
			}
		}
		slices.Sort(left)
		return left
	}
	if diff := cmp.Diff(same(before), same(after)); diff != "" {
		t.Errorf("the failure changed more than power (-before +after):\n%s", diff)
	}
}

func TestCreateWorkflow(t *testing.T) {
	workflowtest.Run(t, workflowtest.Case{Workflow: "vm.create", New: func(t *testing.T) *workflowtest.World {
		w := oneHost(t)
		return &workflowtest.World{Engine: w.Engine, DB: w.DB, Snapshot: w.snapshot, Start: func(t *testing.T) {
			w.demo.Must(t, "CreateVMInstance", w.ask(p{"OperatorName": w.segment, "DataDiskSpace": 10}))
		}}
	}})
}

func TestStartWorkflow(t *testing.T) { workflowCase(t, "vm.start", "StartVMInstance", nil, stopped) }
func TestStopWorkflow(t *testing.T)  { workflowCase(t, "vm.stop", "StopVMInstance", agrees, running) }
func TestRestartWorkflow(t *testing.T) {
	workflowCase(t, "vm.restart", "RestartVMInstance", nil, running)
}
func TestPoweroffWorkflow(t *testing.T) {
	workflowCase(t, "vm.poweroff", "PoweroffVMInstance", agrees, running)
}
func TestDeleteWorkflow(t *testing.T) {
	workflowCase(t, "vm.delete", "DeleteVMInstance", agrees, running)
}

// half: what could not be destroyed is in the bin and can only be destroyed; nothing of it was given back.
func half(t *testing.T, before, after any) {
	t.Helper()
	if !strings.Contains(fmt.Sprint(after), " Unterminated ") {
		t.Errorf("after a failure: %v", after)
	}
	holds := func(v any) []string {
		var left []string
		for _, l := range v.([]any) {
			for _, kind := range []string{"quota ", "hosts ", "subnet ", "segment ", "port ", "eip "} {
				if s := l.(string); strings.HasPrefix(s, kind) {
					left = append(left, s)
				}
			}
		}
		slices.Sort(left)
		return left
	}
	if diff := cmp.Diff(holds(before), holds(after)); diff != "" {
		t.Errorf("the failure gave something back (-before +after):\n%s", diff)
	}
}

func TestTerminateWorkflow(t *testing.T) {
	workflowCase(t, "vm.terminate", "TerminateResource", half, func(t *testing.T, w *world) p {
		q := running(t, w)
		id := q["VMID"].(string)
		w.demo.Must(t, "DeleteVMInstance", q)
		w.awaitBin(t, id, "Deleted")
		return p{"ResourceID": id}
	})
}

func TestTerminateDiskWorkflow(t *testing.T) {
	workflowCase(t, "disk.terminate", "TerminateResource", half, func(t *testing.T, w *world) p {
		r := w.demo.Must(t, "CreateVMInstance", w.ask(p{"DataDiskSpace": 10}))
		id, disk := r.String("VMID"), r.String("DiskID")
		w.await(t, id, "Running")
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id, "DeleteDataDisk": true})
		w.awaitBin(t, id, "Deleted")
		w.awaitBin(t, disk, "Deleted")
		return p{"ResourceID": disk}
	})
}
