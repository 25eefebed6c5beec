package trial

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// TestNamespaceBesideOthers: an operator who makes namespaces with ip-netns keeps nobody from removing ours.
func TestNamespaceBesideOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	ours, theirs := fmt.Sprintf("lyt%d-ours", os.Getpid()), fmt.Sprintf("lyt%d-theirs", os.Getpid())
	if _, err := makeNamespace(ours); err != nil {
		t.Fatal(err)
	}
	ip := func(verb string) {
		if out, err := exec.Command("ip", "netns", verb, theirs).CombinedOutput(); err != nil {
			t.Fatalf("ip netns %s: %v: %s", verb, err, out)
		}
	}
	ip("add")
	defer ip("del")
	if err := removeNamespace(ours); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(namespacePath(ours)); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}
