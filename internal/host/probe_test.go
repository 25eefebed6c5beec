package host

import (
	"os/exec"
	"testing"
	"time"
)

// The sector gets through where the processor's translation is honest, and not where it cannot run.
func TestProbe(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("QEMU is not installed")
	}
	begun := time.Now()
	if err := probe(t.Context(), "tcg", time.Minute); err != nil {
		t.Fatalf("the sector does not get to its end: %v", err)
	}
	t.Logf("TCG took %s", time.Since(begun).Round(time.Millisecond))
	if err := probe(t.Context(), "tcg", 50*time.Millisecond); err == nil {
		t.Fatal("a guest that needs longer than the limit counts as booted")
	}
	if err := probe(t.Context(), "no-such-accelerator", time.Minute); err == nil {
		t.Fatal("a missing accelerator counts as good")
	}
}
