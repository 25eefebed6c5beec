package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

func TestFence(t *testing.T) {
	dir := t.TempDir()
	f, err := openFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		id                string
		epoch, generation uint64
		ok                bool
	}{
		{"vm-a", 0, 0, true}, // nothing guarded yet
		{"vm-a", 1, 5, true},
		{"vm-a", 1, 5, true}, // a repeated call
		{"vm-a", 1, 4, false},
		{"vm-a", 1, 0, true}, // not guarded
		{"vm-b", 1, 1, true}, // another resource
		{"vm-b", 3, 1, true}, // a new leader
		{"vm-b", 2, 9, false},
		{"vm-b", 0, 0, false},
		{"vm-b", 3, 2, true}, // the refused one raised nothing
		{"", 3, 0, true},
	}
	for i, s := range steps {
		err := f.admit(s.id, &pb.Fence{Epoch: s.epoch, Generation: s.generation})
		if (err == nil) != s.ok || err != nil && !errors.Is(err, hostlink.ErrFenced) {
			t.Errorf("step %d %+v: %v", i, s, err)
		}
		// A restart at any moment changes nothing.
		if f, err = openFence(dir); err != nil {
			t.Fatal(err)
		}
	}
	if f.generation("vm-a") != 5 || f.generation("vm-b") != 2 || f.generation("vm-c") != 0 || f.epoch != 3 {
		t.Errorf("%+v", f)
	}
}

func TestFenceAfterACrash(t *testing.T) {
	dir := t.TempDir()
	f, err := openFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.admit("vm-a", &pb.Fence{Epoch: 1, Generation: 2}); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, "generations", ".part-1")
	if err := os.WriteFile(half, []byte("9"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = openFence(dir); err != nil || f.generation("vm-a") != 2 {
		t.Fatalf("%v %v", f, err)
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("what was half written stays")
	}
	// A damaged record is never read as "nothing was seen".
	if err := os.WriteFile(filepath.Join(dir, "epoch"), []byte("\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFence(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged epoch: %v", err)
	}
}

func TestFenceForgets(t *testing.T) {
	dir := t.TempDir()
	f, err := openFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-fenceMemory - time.Hour)
	for _, id := range []string{"vm-old", "vm-here", "vm-new"} {
		if err := f.admit(id, &pb.Fence{Epoch: 1, Generation: 2}); err != nil {
			t.Fatal(err)
		}
		if id != "vm-new" {
			if err := os.Chtimes(filepath.Join(dir, "generations", id), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.forget(func(id string) bool { return id == "vm-here" })
	if f.generation("vm-old") != 0 || f.generation("vm-here") != 2 || f.generation("vm-new") != 2 {
		t.Errorf("%v", f.generations)
	}
}
