package compute_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// simulate sends one command to the simulated cloud's control.
func (w *world) simulate(t *testing.T, body string) {
	t.Helper()
	r, err := http.Post(strings.TrimSuffix(w.URL, "/api")+"/simulate", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", body, r.StatusCode, text)
	}
}

func (w *world) delay(t *testing.T, call string, d time.Duration) {
	t.Helper()
	w.simulate(t, fmt.Sprintf(`{"Delay": {"Call": %q, "Milliseconds": %d}}`, call, d.Milliseconds()))
}

// TestPowerInEveryState: what each power action meets in each settled state.
func TestPowerInEveryState(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, nil)
	w.demo.Refuse(t, retcode.InvalidVMState, "StartVMInstance", p{"VMID": id})
	w.demo.Must(t, "StopVMInstance", p{"VMID": id})
	w.await(t, id, "Stopped")
	for _, name := range []string{"StopVMInstance", "RestartVMInstance", "PoweroffVMInstance"} {
		w.demo.Refuse(t, retcode.InvalidVMState, name, p{"VMID": id})
	}
	other := w.NewTenant(t)
	for _, name := range []string{"StartVMInstance", "StopVMInstance", "RestartVMInstance", "PoweroffVMInstance", "DeleteVMInstance"} {
		w.demo.Refuse(t, retcode.VMNotFound, name, p{"VMID": "vm-00000000000000"})
		w.demo.Refuse(t, retcode.MissingParameter, name, p{})
		other.Refuse(t, retcode.VMNotFound, name, p{"VMID": id})
		w.demo.Refuse(t, retcode.VMNotFound, name, p{"VMID": "x' OR '1'='1"})
	}
	for _, name := range []string{"RollbackResource", "TerminateResource"} {
		w.demo.Refuse(t, retcode.ResourceNotFound, name, p{"ResourceID": "vm-00000000000000"})
		w.demo.Refuse(t, retcode.ResourceNotFound, name, p{"ResourceID": "what-is-this"})
		other.Refuse(t, retcode.ResourceNotFound, name, p{"ResourceID": id})
	}
}

// TestRepeatedCalls: the same action under way answers 0 and is not done twice; another one is refused.
func TestRepeatedCalls(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		id := w.create(t, p{"InitialState": "Running"})
		w.delay(t, "EnsureDomain", 700*time.Millisecond)
		for _, c := range []struct{ name, state, settled, other string }{
			{"StopVMInstance", "Stopping", "Stopped", "RestartVMInstance"},
			{"StartVMInstance", "Starting", "Running", "StopVMInstance"},
			{"RestartVMInstance", "Restarting", "Running", "StartVMInstance"},
			{"PoweroffVMInstance", "Poweroffing", "Stopped", "StartVMInstance"},
		} {
			w.demo.Must(t, c.name, p{"VMID": id})
			if got := w.vm(t, id).String("State"); got != c.state {
				t.Errorf("after %s it is %s, want %s", c.name, got, c.state)
			}
			w.demo.Must(t, c.name, p{"VMID": id})
			w.demo.Refuse(t, retcode.InvalidVMState, c.other, p{"VMID": id})
			w.demo.Refuse(t, retcode.InvalidVMState, "DeleteVMInstance", p{"VMID": id})
			w.await(t, id, c.settled)
		}
		w.delay(t, "EnsureDomain", 0)
		w.delay(t, "RemoveDomain", 700*time.Millisecond)
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
		if got := w.binned(t, id).String("State"); got != "Deleting" {
			t.Errorf("in the bin as %q", got)
		}
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
		w.demo.Refuse(t, retcode.InvalidResourceState, "RollbackResource", p{"ResourceID": id})
		w.demo.Refuse(t, retcode.InvalidResourceState, "TerminateResource", p{"ResourceID": id})
		w.awaitBin(t, id, "Deleted")
		w.demo.Must(t, "TerminateResource", p{"ResourceID": id})
		w.demo.Must(t, "TerminateResource", p{"ResourceID": id})
		w.demo.Refuse(t, retcode.InvalidResourceState, "RollbackResource", p{"ResourceID": id})
		controllertest.Eventually(t, settle, id+" is destroyed", func() bool { return w.binned(t, id) == nil })
	})
}

// TestPowerOffCutsThrough a creation, a start and a restart under way: the machine ends Stopped, and
// nothing is left in the end.
func TestPowerOffCutsThrough(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		before := w.usage(t)
		w.delay(t, "EnsureDomain", 500*time.Millisecond)
		id := w.demo.Must(t, "CreateVMInstance", w.ask(nil)).String("VMID")
		w.await(t, id, "Starting")
		w.demo.Must(t, "PoweroffVMInstance", p{"VMID": id})
		w.await(t, id, "Stopped")
		if got := w.demo.OPLog(t, "CreateVMInstance", id).Int("RetCode"); got != 0 {
			t.Errorf("the creation ended with %d: the machine was made", got)
		}
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.demo.Must(t, "PoweroffVMInstance", p{"VMID": id})
		w.await(t, id, "Stopped")
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")
		w.demo.Must(t, "RestartVMInstance", p{"VMID": id})
		w.demo.Must(t, "PoweroffVMInstance", p{"VMID": id})
		w.await(t, id, "Stopped")
		w.delay(t, "EnsureDomain", 0)
		w.destroy(t, id)
		if after := w.usage(t); after != before {
			t.Errorf("used before: %s\nafter: %s", before, after)
		}
	})
}

// TestGuestGoesOff by itself: the machine is Stopped and its CPU and memory are free.
func TestGuestGoesOff(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, p{"HighAvailability": "None"})
	w.demo.Must(t, "StopVMInstance", p{"VMID": id})
	w.await(t, id, "Stopped")
	stopped := w.usage(t)
	w.demo.Must(t, "StartVMInstance", p{"VMID": id})
	w.await(t, id, "Running")
	w.simulate(t, fmt.Sprintf(`{"GuestOff": %q}`, id))
	w.await(t, id, "Stopped")
	if now := w.usage(t); now != stopped {
		t.Errorf("after a stop: %s\nafter going off: %s", stopped, now)
	}
}

// TestFailedPowerActions end in what the machine is, with the reason in the log and the row.
func TestFailedPowerActions(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, nil)
	for _, c := range []struct{ name, state string }{{"RestartVMInstance", "Running"}, {"StopVMInstance", "Running"}, {"PoweroffVMInstance", "Running"}} {
		w.Simulator.FailNext("EnsureDomain", 1, "")
		w.demo.Must(t, c.name, p{"VMID": id})
		if got := w.demo.OPLog(t, c.name, id).Int("RetCode"); got != int(retcode.SystemBusy) {
			t.Errorf("%s ended with %d", c.name, got)
		}
		if v := w.await(t, id, c.state); !strings.Contains(v.String("Reason"), id) {
			t.Errorf("%s: reason %q", c.name, v.String("Reason"))
		}
	}
	w.demo.Must(t, "StopVMInstance", p{"VMID": id})
	w.await(t, id, "Stopped")
	stopped := w.usage(t)
	w.Simulator.FailNext("EnsureDomain", 1, "")
	w.demo.Must(t, "StartVMInstance", p{"VMID": id})
	w.demo.OPLog(t, "StartVMInstance", id)
	w.await(t, id, "Stopped")
	if now := w.usage(t); now != stopped {
		t.Errorf("before the failed start: %s\nafter: %s", stopped, now)
	}
}

// TestDeleteChooses what goes with the machine: by default addresses and data disks stay, free.
func TestDeleteChooses(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		r := w.demo.Must(t, "CreateVMInstance", w.ask(p{"OperatorName": w.segment, "DataDiskSpace": 10}))
		id, eip, disk := r.String("VMID"), r.String("EIPID"), r.String("DiskID")
		w.await(t, id, "Running")
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
		w.awaitBin(t, id, "Deleted")
		e := w.demo.Must(t, "DescribeEIP", p{"EIPIDs": []string{eip}}).Infos()
		if len(e) != 1 || e[0].String("Status") != "Free" {
			t.Errorf("the address is %v", e)
		}
		for _, resource := range []string{eip, disk} {
			if w.binned(t, resource) != nil {
				t.Errorf("%s is in the bin", resource)
			}
		}
		w.demo.Refuse(t, retcode.ResourceAlreadyEnabled, "RollbackResource", p{"ResourceID": disk})
		w.demo.Must(t, "RollbackResource", p{"ResourceID": id})
		w.await(t, id, "Stopped")

		r = w.demo.Must(t, "CreateVMInstance", w.ask(p{"OperatorName": w.segment, "DataDiskSpace": 10}))
		id, eip, disk = r.String("VMID"), r.String("EIPID"), r.String("DiskID")
		w.await(t, id, "Running")
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id, "ReleaseEIP": true, "DeleteDataDisk": true})
		for _, resource := range []string{id, eip, disk} {
			w.awaitBin(t, resource, "Deleted")
		}
		if n := w.demo.Must(t, "DescribeRecycledResource", p{"ResourceType": "Disk"}).Int("TotalCount"); n != 1 {
			t.Errorf("%d disks in the bin", n)
		}
		all := w.demo.Must(t, "DescribeRecycledResource", p{"Limit": 2, "Offset": 1})
		if all.Int("TotalCount") != 3 || len(all.Infos()) != 2 {
			t.Errorf("a page of the bin: %d of %d", len(all.Infos()), all.Int("TotalCount"))
		}
		w.demo.Must(t, "RollbackResource", p{"ResourceID": disk})
		w.demo.Refuse(t, retcode.ResourceAlreadyEnabled, "RollbackResource", p{"ResourceID": disk})
	})
}

// TestHostDown: a machine of a dead host answers 560, can be deleted and destroyed, and what is left of it goes
// when the host returns.
func TestHostDown(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 1})
	before := w.usage(t)
	gone, kept := w.create(t, nil), w.create(t, p{"HighAvailability": "None"})
	host := w.Simulator.IDs()[0]
	w.simulate(t, fmt.Sprintf(`{"HostDown": %q}`, host))
	controllertest.Eventually(t, time.Minute, "the host is declared down", func() bool {
		w.simulate(t, `{"AdvanceClock": 5}`)
		return strings.Contains(w.vm(t, gone).String("Reason"), "does not answer")
	})
	for _, name := range []string{"StopVMInstance", "RestartVMInstance", "PoweroffVMInstance"} {
		w.demo.Refuse(t, retcode.SystemBusy, name, p{"VMID": kept})
	}
	if v := w.vm(t, kept); v.String("State") != "Running" || !strings.Contains(v.String("Reason"), "does not answer") {
		t.Errorf("on a dead host: %s, %q", v.String("State"), v.String("Reason"))
	}
	w.destroy(t, gone)
	w.simulate(t, fmt.Sprintf(`{"HostUp": %q}`, host))
	controllertest.Eventually(t, time.Minute, "the other one is seen to be off", func() bool {
		w.simulate(t, `{"AdvanceClock": 5}`)
		return w.vm(t, kept).String("State") == "Stopped"
	})
	w.demo.Must(t, "StartVMInstance", p{"VMID": kept})
	w.await(t, kept, "Running")
	w.destroy(t, kept)
	controllertest.Eventually(t, time.Minute, "nothing is left on the host", func() bool { return w.usage(t) == before })
}

// TestTerminateFails: a host that cannot remove a volume leaves the machine in the bin as Failed, to be destroyed again.
func TestTerminateFails(t *testing.T) {
	w := start(t, controllertest.Options{})
	before := w.usage(t)
	id := w.create(t, nil)
	w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
	w.awaitBin(t, id, "Deleted")
	w.Simulator.FailNext("RemoveVolume", 1, "")
	w.demo.Must(t, "TerminateResource", p{"ResourceID": id})
	if got := w.demo.OPLog(t, "TerminateResource", id).Int("RetCode"); got != int(retcode.VMCleanDiskFailed) {
		t.Errorf("the log says %d", got)
	}
	w.awaitBin(t, id, "Failed")
	w.demo.Refuse(t, retcode.InvalidResourceState, "RollbackResource", p{"ResourceID": id})
	w.demo.Must(t, "TerminateResource", p{"ResourceID": id})
	controllertest.Eventually(t, settle, id+" is destroyed", func() bool { return w.binned(t, id) == nil })
	if after := w.usage(t); after != before {
		t.Errorf("used before: %s\nafter: %s", before, after)
	}
}

// TestRetention: what outlived it is destroyed, not before; and a restore needs quota again.
func TestRetention(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		before := w.usage(t)
		r := w.demo.Must(t, "CreateVMInstance", w.ask(p{"OperatorName": w.segment, "DataDiskSpace": 10}))
		id := r.String("VMID")
		w.await(t, id, "Running")
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id, "DelBindResource": 1})
		w.awaitBin(t, id, "Deleted")
		b := w.binned(t, id)
		if got := b.Int("WillTerminateTime") - b.Int("DeleteTime"); got != int(w.Catalog.Config.RecycleRetention(t.Context(), "cn").Seconds()) {
			t.Errorf("kept for %d s", got)
		}
		w.Clock.Advance(w.Catalog.Config.RecycleRetention(t.Context(), "cn") - time.Hour)
		if w.binned(t, id) == nil {
			t.Fatal("destroyed too early")
		}
		w.Clock.Advance(2 * time.Hour)
		controllertest.Eventually(t, settle, "the bin is empty", func() bool {
			return w.demo.Must(t, "DescribeRecycledResource", p{}).Int("TotalCount") == 0
		})
		w.demo.Refuse(t, retcode.ResourceTerminated, "RollbackResource", p{"ResourceID": id})
		if after := w.usage(t); after != before {
			t.Errorf("used before: %s\nafter: %s", before, after)
		}
	})
}

// TestRestoreNeedsQuota.
func TestRestoreNeedsQuota(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, p{"CPU": 16, "Memory": 32768})
	w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
	w.awaitBin(t, id, "Deleted")
	for range 2 {
		w.create(t, p{"CPU": 16, "Memory": 32768})
	}
	w.demo.Refuse(t, retcode.QuotaExceeded, "RollbackResource", p{"ResourceID": id})
	if got := w.binned(t, id).String("State"); got != "Deleted" {
		t.Errorf("after the refusal it is %s", got)
	}
}

// TestFailedDeletion: a machine that its host cannot remove is back where it was.
func TestFailedDeletion(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, nil)
	w.Simulator.FailNext("RemoveDomain", 1, "")
	w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
	if got := w.demo.OPLog(t, "DeleteVMInstance", id).Int("RetCode"); got != int(retcode.SystemBusy) {
		t.Errorf("the log says %d", got)
	}
	w.await(t, id, "Running")
	if w.binned(t, id) != nil {
		t.Error("it is in the bin as well")
	}
	w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
	w.awaitBin(t, id, "Deleted")
}
