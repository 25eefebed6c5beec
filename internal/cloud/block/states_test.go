package block

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestStatesTable holds every cell against the rules it comes from: what the product allows in a state, the codes of the
// contract for what it forbids, and 0 for the same action while it is under way.
func TestStatesTable(t *testing.T) {
	allowed := map[string][]string{
		Unbound:      {verbAttach, verbAttachOther, verbUpgrade, verbClone, verbSnapshot, verbRollback, verbLimit, verbDelete},
		Bound:        {verbDetach, verbUpgrade, verbSnapshot, verbRollback, verbLimit},
		Failed:       {verbDelete},
		Deleted:      {verbRestore, verbTerminate},
		Unterminated: {verbTerminate},
	}
	again := map[string]string{Bounding: verbAttach, Bound: verbAttach, Unbounding: verbDetach, Deleting: verbDelete, Releasing: verbTerminate}
	inBin := []string{Deleting, Deleted, Releasing, Unterminated}
	for _, s := range life.States {
		for _, v := range life.Verbs {
			want := retcode.DiskStateUnstable
			switch {
			case slices.Contains(allowed[s], v):
				want = proceed
			case again[s] == v:
				want = repeat
			case s == Released, s == Failed && (v == verbRestore || v == verbTerminate):
				want = retcode.ResourceTerminated
			case (v == verbRestore || v == verbTerminate) && slices.Contains(inBin, s):
				want = retcode.InvalidResourceState
			case v == verbRestore:
				want = retcode.ResourceAlreadyEnabled
			case v == verbTerminate:
				want = retcode.InvalidResourceBizState
			case slices.Contains(inBin, s):
				want = retcode.DiskInRecycleBin
			case s == Unbound, s == Bound: // at rest, and not as the action needs it
				want = retcode.InvalidResourceState
			}
			if got := life.Judge(s, v); got != want {
				t.Errorf("%s in %s: %d, want %d", v, s, got, want)
			}
		}
	}
	if life.Judge("Unheard", verbAttach) != retcode.ServiceError || life.Judge(Bound, "Fly") != retcode.ServiceError {
		t.Error("an unknown state or verb is no fault of the caller")
	}
}

// TestStatesAreDocumented: docs/disks.md holds the table as the code has it.
func TestStatesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/disks.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), life.Markdown()) {
		t.Errorf("docs/disks.md lacks the table:\n%s", life.Markdown())
	}
}

func TestUsualLimits(t *testing.T) {
	for _, c := range []struct {
		media      string
		gb         int
		iops, mbps int
	}{
		{fleet.HDD, 10, 1000, 100}, {fleet.HDD, 32000, 1000, 100}, {fleet.SSD, 10, 2100, 85}, {fleet.SSD, 1000, 31800, 580},
		{fleet.SSD, 1606, 49980, 883}, {fleet.SSD, 1607, 50000, 883}, {fleet.SSD, 32000, 50000, 1000}, {"NVMe", 100, 4800, 130},
	} {
		l := usual(c.media, c.gb)
		if l.ReadIOPS != c.iops || l.WriteIOPS != c.iops || l.ReadMBps != c.mbps || l.WriteMBps != c.mbps || l.TotalIOPS+l.TotalMBps != 0 {
			t.Errorf("%s of %d GB: %+v", c.media, c.gb, l)
		}
	}
	grown := Limits{ReadIOPS: 100, WriteIOPS: 40000, TotalMBps: 10}.grown(fleet.SSD, 1000)
	if want := (Limits{ReadIOPS: 31800, WriteIOPS: 40000, TotalMBps: 580}); grown != want {
		t.Errorf("own limits after growing: %+v, want %+v", grown, want)
	}
	if (Limits{}).grown(fleet.SSD, 1000) != (Limits{}) || (Limits{}).wire() != nil {
		t.Error("a disk without limits gets some")
	}
}
