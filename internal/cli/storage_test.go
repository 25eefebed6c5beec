package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

func TestStorage(t *testing.T) {
	dir := t.TempDir()
	controllertest.Start(t, controllertest.Options{Dir: dir})
	m := open(t)
	m.must("login", "--file", filepath.Join(dir, "admin.json"))
	keyring := filepath.Join(dir, "keyring")
	if err := os.WriteFile(keyring, []byte("[client.lingyun]\n\tkey = AQDOngtrWW6nIBAA0Pdcv3rcQs310kxsxgrlaw==\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	set := strings.TrimSpace(m.must("storage", "create", "CephA", "--name", "Shared", "--monitor", "10.0.0.1,10.0.0.2:6789", "--pool", "vms", "--user", "lingyun",
		"--key-file", keyring, "--replicas", "3"))
	if out := m.must("storage", "list"); !strings.Contains(out, set) || !strings.Contains(out, "Ceph") || !strings.Contains(out, "StorageSetA") {
		t.Errorf("lists\n%s", out)
	}
	m.must("storage", "update", set, "--monitor", "10.0.0.3")
	m.must("storage", "rename", "CephA", "Fast")
	m.refused([]string{"113"}, "storage", "create", "CephA", "--monitor", "10.0.0.1", "--pool", "vms", "--user", "lingyun", "--key-file", keyring)
	m.refused([]string{"no such file"}, "storage", "update", set, "--key-file", filepath.Join(dir, "none"))
	m.must("storage", "delete", set)
	if out := m.must("storage", "list"); strings.Contains(out, set) {
		t.Errorf("lists\n%s", out)
	}
}
