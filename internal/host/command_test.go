package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// killedDir tells this binary that it is an agent that is about to be killed, and where it says what it began.
const killedDir = "LINGYUN_KILLED_AGENT"

// TestKilledAgentLeavesNoChild: what an agent began ends with it, however it ends.
func TestKilledAgentLeavesNoChild(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" {
		_, _ = runWith(t.Context(), nil, "sh", "-c", "echo $$ > "+filepath.Join(dir, "new")+" && mv "+filepath.Join(dir, "new")+" "+filepath.Join(dir, "child")+" && exec sleep 600")
		return
	}
	dir := t.TempDir()
	agent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=TestKilledAgentLeavesNoChild")
	agent.Env = append(os.Environ(), killedDir+"="+dir)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	var child string
	eventually(t, "the child runs", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "child"))
		child = strings.TrimSpace(string(b))
		return err == nil
	})
	must(t, agent.Process.Kill())
	_ = agent.Wait() // by the signal
	eventually(t, "the child is gone", func() bool {
		b, err := os.ReadFile(filepath.Join("/proc", child, "stat"))
		return err != nil || strings.Contains(string(b), ") Z ")
	})
}
