package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	first, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, mode %v", err, info.Mode())
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.Fingerprint() != again.Fingerprint() {
		t.Error("the second load made another key")
	}
	sealed := first.Seal([]byte("private"), "key_pair/pk-1")
	if strings.Contains(sealed, "private") {
		t.Error("sealed text holds the plain one")
	}
	plain, err := again.Open(sealed, "key_pair/pk-1")
	if err != nil || string(plain) != "private" {
		t.Errorf("opened %q, %v", plain, err)
	}
	if _, err := again.Open(sealed, "key_pair/pk-2"); err == nil {
		t.Error("a sealed text moved to another row opens")
	}
	if first.Seal([]byte("private"), "c") == first.Seal([]byte("private"), "c") {
		t.Error("sealing twice gives the same text")
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestKeyFileRefused(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"readable by others": {strings.Repeat("ab", 32), 0o644},
		"too short":          {"abcd", 0o600},
		"no hexadecimal":     {strings.Repeat("zz", 32), 0o600},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOpenDamaged(t *testing.T) {
	k, err := New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	sealed := k.Seal([]byte("x"), "c")
	for _, bad := range []string{"", "x", "v1:", "v1:!!", sealed[:len(sealed)-2], "v2" + sealed[2:]} {
		if _, err := k.Open(bad, "c"); err == nil {
			t.Errorf("opened %q", bad)
		}
	}
	other, _ := New([]byte(strings.Repeat("k", 32)))
	if _, err := other.Open(sealed, "c"); err == nil {
		t.Error("another key opens")
	}
}
