package proof

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestSawIsCollectedAndTabled(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Env, dir)
	Saw(t, int(retcode.VMNotFound))
	Saw(t, int(retcode.VMNotFound))
	got, err := Collect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got[retcode.VMNotFound]) != 1 || got[retcode.VMNotFound][0] != t.Name() {
		t.Fatalf("collected %v", got)
	}
	table := Table(got)
	if !strings.Contains(table, "Proven: 1 of 213.") || !strings.Contains(table, "| 1004 | 虚拟机不存在 | The virtual machine does not exist | ") || !strings.Contains(table, "`TestSawIsCollectedAndTabled` |") {
		t.Errorf("table:\n%s", table)
	}
}

func TestCollectRefusesStrangers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "1.txt"), []byte("12345 TestX\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Collect(dir); err == nil {
		t.Error("12345 is no status code and was counted")
	}
}
