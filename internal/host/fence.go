package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// fence remembers the highest epoch and, per resource, the highest generation,
// on disk before it lets a call through: a restarted agent refuses the same.
// A file a resource keeps the cost of a call independent of how many there are.
// What a removed resource leaves is forgotten after fenceMemory: ids are never used again,
// and a call delayed that long has no epoch any more.
type fence struct {
	dir string

	mu          sync.Mutex
	epoch       uint64
	generations map[string]uint64
}

const fenceMemory = 30 * 24 * time.Hour

func openFence(dir string) (*fence, error) {
	f := &fence{dir: dir, generations: map[string]uint64{}}
	if err := os.MkdirAll(filepath.Join(dir, "generations"), 0o700); err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	var err error
	if f.epoch, err = readNumber(filepath.Join(dir, "epoch")); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "generations"))
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, "generations", e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			os.Remove(path) // half-written by a killed agent
			continue
		}
		if f.generations[e.Name()], err = readNumber(path); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// admit lets a changing call through, or answers ErrFenced.
func (f *fence) admit(id string, w *pb.Fence) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.raiseEpoch(w.GetEpoch()); err != nil {
		return err
	}
	if id == "" || w.GetGeneration() == 0 {
		return nil
	}
	seen, known := f.generations[id]
	if w.GetGeneration() < seen {
		return fmt.Errorf("%w: %s is at generation %d, the call at %d", hostlink.ErrFenced, id, seen, w.GetGeneration())
	}
	if known && seen == w.GetGeneration() {
		return nil
	}
	if err := writeFile(filepath.Join(f.dir, "generations", id), strconv.AppendUint(nil, w.GetGeneration(), 10), 0o600); err != nil {
		return err
	}
	f.generations[id] = w.GetGeneration()
	return nil
}

// admitEpoch is admit for what is no resource's.
func (f *fence) admitEpoch(epoch uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.raiseEpoch(epoch)
}

func (f *fence) raiseEpoch(epoch uint64) error {
	if epoch < f.epoch {
		return fmt.Errorf("%w: this host is at epoch %d, the call at %d", hostlink.ErrFenced, f.epoch, epoch)
	}
	if epoch == f.epoch {
		return nil
	}
	if err := writeFile(filepath.Join(f.dir, "epoch"), strconv.AppendUint(nil, epoch, 10), 0o600); err != nil {
		return err
	}
	f.epoch = epoch
	return nil
}

// generation is the highest seen of a resource; 0 when none was.
func (f *fence) generation(id string) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.generations[id]
}

// forget drops what was not written for fenceMemory and is not on the host any more.
func (f *fence) forget(present func(id string) bool) {
	entries, err := os.ReadDir(filepath.Join(f.dir, "generations"))
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < fenceMemory || present(e.Name()) {
			continue
		}
		f.mu.Lock()
		if os.Remove(filepath.Join(f.dir, "generations", e.Name())) == nil {
			delete(f.generations, e.Name())
		}
		f.mu.Unlock()
	}
}

func readNumber(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("host: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("host: %s is damaged: %w", path, err)
	}
	return n, nil
}

// writeFile replaces a file so that after any crash it is the old one or the new one, whole.
func writeFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		return spaceError(err)
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return spaceError(err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	return nil
}
