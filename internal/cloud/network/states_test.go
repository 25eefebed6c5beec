package network

import (
	"os"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestStates holds every cell of the table against what decisions 9 and 11 say, written down once more by rule.
func TestStates(t *testing.T) {
	if len(eipLife.Verdicts) != len(eipLife.States) {
		t.Errorf("%d states are judged, there are %d", len(eipLife.Verdicts), len(eipLife.States))
	}
	for _, s := range eipLife.States {
		for _, v := range eipLife.Verbs {
			want := retcode.InvalidResourceState
			switch {
			case s == Released:
				want = retcode.ResourceTerminated
			case v == verbRollback && s == Deleted, v == verbTerminate && s == Deleted:
				want = proceed
			case v == verbTerminate && s == Releasing:
				want = repeat
			case v == verbTerminate && s == Bound, v == verbRelease && s == Bound:
				want = retcode.EIPStillBound
			case v == verbTerminate:
				want = retcode.InvalidResourceBizState
			case v == verbRollback && s != Releasing:
				want = retcode.ResourceAlreadyEnabled
			case v == verbRollback:
			case s == Deleted, s == Releasing:
				want = retcode.ResourceDeleted
			case v == verbEgress:
				if s == Bound {
					want = proceed
				}
			case v == verbBandwidth:
				if s == Free || s == Bound {
					want = proceed
				} else if s == BandwidthChanging {
					want = repeat
				}
			case s == Free && (v == verbBind || v == verbBindOther || v == verbRelease), s == Bound && v == verbUnbind:
				want = proceed
			case (s == Bounding || s == Bound) && v == verbBind, s == Unbounding && v == verbUnbind:
				want = repeat
			}
			if got := eipLife.Judge(s, v); got != want {
				t.Errorf("%s of an EIP that is %s: %d, want %d", v, s, got, want)
			}
		}
	}
	if eipLife.Judge("Lost", verbBind) != retcode.ServiceError || eipLife.Judge(Free, "Paint") != retcode.ServiceError {
		t.Error("an unknown state or action is judged")
	}
	if table := eipLife.Markdown(); strings.Count(table, "\n") != len(eipLife.States)+2 || !strings.Contains(table, "| `Bound` | 0 | 202 | yes | 202 | 8009 | 203 | 8009 | yes | yes |") {
		t.Errorf("the table for people:\n%s", table)
	}
}

// TestStatesAreDocumented holds docs/public-addresses.md against the table.
func TestStatesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/public-addresses.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), eipLife.Markdown()) {
		t.Errorf("docs/public-addresses.md lacks the table:\n%s", eipLife.Markdown())
	}
}

// TestNICStates holds the table of NICs against the documentation.
func TestNICStates(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/vpc.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), nicLife.Markdown()) {
		t.Errorf("docs/vpc.md lacks the table:\n%s", nicLife.Markdown())
	}
}
