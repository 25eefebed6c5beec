package compute

import (
	"os"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// TestStatesTable holds every cell against the rules it comes from: what the product allows in a state, the codes
// of the contract for what it forbids, and 0 for the same action while it is under way.
func TestStatesTable(t *testing.T) {
	allowed := map[string][]string{
		Running:    {Stop, Restart, Poweroff, Delete, Bind, Resize, Use, Change},
		Stopped:    {Start, Delete, Bind, Resize, Reinstall, MakeImage, Change, Rebuild},
		Starting:   {Poweroff},
		Stopping:   {Poweroff},
		Restarting: {Poweroff},
		Failed:     {Delete},
		Deleted:    {Rollback, Terminate},
		// Half destroyed.
		Unterminated: {Terminate},
	}
	mustBeOff := []string{Reinstall, MakeImage, Rebuild}
	underWay := map[string]string{Resizing: Resize, WaitReinstall: Reinstall, Reinstalling: Reinstall, Starting: Start, Stopping: Stop, Restarting: Restart, Poweroffing: Poweroff, Deleting: Delete, Terminating: Terminate}
	inBin := map[string]bool{Deleting: true, Deleted: true, Terminating: true, Unterminated: true}
	for _, s := range life.States {
		for _, v := range life.Verbs {
			want := retcode.InvalidVMState
			switch {
			case contains(allowed[s], v):
				want = proceed
			case underWay[s] == v:
				want = repeat
			case s == Terminated:
				want = retcode.ResourceTerminated
			case v == Rollback && inBin[s], v == Terminate && inBin[s]:
				want = retcode.InvalidResourceState
			case v == Rollback:
				want = retcode.ResourceAlreadyEnabled
			case v == Terminate:
				want = retcode.InvalidResourceBizState
			case inBin[s]:
				want = retcode.InvalidVMBizState
			case s == Imaging:
				want = retcode.VMMakingImage
			case s == Running && contains(mustBeOff, v):
				want = retcode.VMNotStopped
			}
			if got := life.Judge(s, v); got != want {
				t.Errorf("%s in %s: %d, want %d", v, s, got, want)
			}
		}
	}
	if life.Judge("Unheard", Start) != retcode.ServiceError || life.Judge(Running, "Fly") != retcode.ServiceError {
		t.Error("an unknown state or verb is no fault of the caller")
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// TestStatesAreDocumented: docs/vm-states.md holds the table as the code has it.
func TestStatesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/vm-states.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), life.Markdown()) {
		t.Errorf("docs/vm-states.md lacks the table:\n%s", life.Markdown())
	}
}

func TestCheckPassword(t *testing.T) {
	for _, c := range []struct {
		password, user string
		want           retcode.Code
	}{
		{"abc12", "", retcode.VMPasswordLengthInvalid},
		{"abc123", "", retcode.OK},
		{strings.Repeat("a1", 15), "", retcode.OK},
		{strings.Repeat("a1", 15) + "x", "", retcode.VMPasswordLengthInvalid},
		{"密码密码密码", "", retcode.VMPasswordComplexityInvalid},
		{"ABCDEF", "", retcode.VMPasswordComplexityInvalid},
		{"ABCDEF/", "", retcode.OK},
		{"with space1", "", retcode.VMPasswordComplexityInvalid},
		{"xADMx123", "administrator", retcode.VMPasswordComplexityInvalid},
		{"xADxM123", "administrator", retcode.OK},
	} {
		if got := retcode.Of((passwordRules{6, 2}).check(c.password, c.user)); got != c.want {
			t.Errorf("%q for %q: %d, want %d", c.password, c.user, got, c.want)
		}
	}
}
