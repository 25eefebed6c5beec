package host

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// export is a volume on its way to an image. One that an agent's end cut short is begun anew by the next call.
type export struct {
	mu     sync.Mutex
	state  *pb.Export
	cancel context.CancelFunc
	ended  chan struct{}
}

// ExportVolume implements hostlink.Host.
func (h *Host) ExportVolume(ctx context.Context, r *pb.ExportVolumeRequest) (*pb.Export, error) {
	if err := checkID("image", r.GetId()); err != nil {
		return nil, err
	}
	if err := checkID("volume", r.VolumeId); err != nil {
		return nil, err
	}
	secret := secretOf(r.Secret)
	if len(secret) > maxSecret {
		return nil, fmt.Errorf("%w: a passphrase of %d bytes", hostlink.ErrInvalid, len(secret))
	}
	d, err := h.store(r.Pool)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, h, r.Id, func(ctx context.Context) (*pb.Export, error) {
		if err := h.fence.admit(r.Id, r.Fence); err != nil {
			return nil, err
		}
		if e, ok := h.exports.Load(r.Id); ok {
			return e.(*export).now(), nil
		}
		v, err := d.look(ctx, r.VolumeId)
		if err != nil {
			return nil, err
		}
		if v.raw || v.encrypted != (secret != nil) {
			return nil, fmt.Errorf("%w: volume %s is shared, or encrypted otherwise", hostlink.ErrInvalid, r.VolumeId)
		}
		if err := h.idle(ctx, d, r.VolumeId); err != nil {
			return nil, err
		}
		if err := h.needSpace(int64(v.allocated)); err != nil {
			return nil, err
		}
		work, cancel := context.WithCancel(h.ctx)
		e := &export{state: &pb.Export{Id: r.Id, State: pb.ExportState_EXPORT_STATE_RUNNING, VirtualBytes: v.size},
			cancel: cancel, ended: make(chan struct{})}
		h.exports.Store(r.Id, e)
		h.done.Go(func() {
			// The child ends with the thread that began it: an agent that is killed leaves none reading the volume.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			defer cancel()
			defer close(e.ended)
			digest, size, err := h.export(work, d.opened(r.VolumeId, secret), secret, e.progress)
			e.mu.Lock()
			defer e.mu.Unlock()
			if err != nil {
				e.state.State, e.state.Reason = pb.ExportState_EXPORT_STATE_FAILED, err.Error()
				h.log.Warn("export", "image", r.Id, "volume", r.VolumeId, "error", err)
				return
			}
			e.state.State, e.state.Percent, e.state.ImageDigest, e.state.SizeBytes = pb.ExportState_EXPORT_STATE_DONE, 100, digest, uint64(size)
		})
		return e.now(), nil
	})
}

func (e *export) now() *pb.Export {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &pb.Export{Id: e.state.Id, State: e.state.State, Percent: e.state.Percent, Reason: e.state.Reason,
		ImageDigest: e.state.ImageDigest, SizeBytes: e.state.SizeBytes, VirtualBytes: e.state.VirtualBytes}
}

func (e *export) progress(percent uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.Percent = max(e.state.Percent, percent)
}

// export flattens a volume into a qcow2 image, which leans on nothing, and puts it among the images: compressed, or
// encrypted with the volume's passphrase.
func (h *Host) export(ctx context.Context, volume []string, secret []byte, progress func(uint32)) (digest string, size int64, err error) {
	dir := filepath.Join(h.conf.Dir, "images")
	f, err := os.CreateTemp(dir, ".part-*")
	if err != nil {
		return "", 0, spaceError(err)
	}
	part := f.Name()
	defer os.Remove(part) // fails after the rename, as it should
	f.Close()
	for range keyTries {
		if err = convert(ctx, volume, secret, part, progress); err == nil || !strings.Contains(err.Error(), keyUnmetered) {
			break
		}
	}
	if err != nil {
		return "", 0, err
	}
	if f, err = os.Open(part); err != nil { // only now: a try that failed took its file away
		return "", 0, fmt.Errorf("host: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if size, err = io.Copy(sum, &cancelReader{ctx, f}); err != nil {
		return "", 0, spaceError(err)
	}
	if err := errors.Join(f.Chmod(0o444), f.Sync()); err != nil {
		return "", 0, spaceError(err)
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	if err := os.Rename(part, filepath.Join(dir, digest+".qcow2")); err != nil {
		return "", 0, spaceError(err)
	}
	return digest, size, syncDir(dir)
}

// convert runs qemu-img, whose output is its progress. It takes as long as the disk is large.
func convert(ctx context.Context, from []string, secret []byte, to string, progress func(uint32)) error {
	// The volume's header is ours, and names an image of ours; a guest writes inside of it only.
	args := []string{"--core=0", "--", "qemu-img", "convert", "-p", "-O", "qcow2"}
	var key []*os.File
	if secret == nil {
		args = append(args, "-c")
	} else { // what is encrypted cannot be compressed
		args = append(append(args, keyObject...), "-o", luksOptions(keyStretch))
		r, err := pipeOf(secret)
		if err != nil {
			return err
		}
		defer r.Close()
		key = []*os.File{r}
	}
	cmd := exec.CommandContext(ctx, "prlimit", append(append(args, from...), to)...)
	cmd.ExtraFiles = key
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	lines := bufio.NewScanner(out)
	lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '\r'); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	for lines.Scan() { // "    (12.34/100%)"
		text, _, _ := strings.Cut(strings.TrimLeft(lines.Text(), " ("), "/")
		if percent, err := strconv.ParseFloat(text, 64); err == nil && percent >= 0 && percent <= 100 {
			progress(uint32(percent) * 95 / 100) // its digest is still to be computed
		}
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return errors.New("it was stopped")
		}
		text := strings.TrimSpace(stderr.String())
		if strings.Contains(text, "No space left on device") {
			return fmt.Errorf("%w: %s", hostlink.ErrNoSpace, text)
		}
		return fmt.Errorf("qemu-img: %w: %.500s", err, text)
	}
	return nil
}

// RemoveExport implements hostlink.Host.
func (h *Host) RemoveExport(ctx context.Context, r *pb.RemoveExportRequest) (*pb.RemoveExportResponse, error) {
	if err := checkID("image", r.GetId()); err != nil {
		return nil, err
	}
	return bounded(ctx, h, r.Id, func(ctx context.Context) (*pb.RemoveExportResponse, error) {
		if err := h.fence.admit(r.Id, r.Fence); err != nil {
			return nil, err
		}
		if e, ok := h.exports.Load(r.Id); ok {
			e.(*export).cancel()
			select {
			case <-e.(*export).ended:
			case <-ctx.Done():
				return nil, fmt.Errorf("%w: %s is still being stopped", hostlink.ErrUnavailable, r.Id)
			}
			h.exports.Delete(r.Id)
		}
		return &pb.RemoveExportResponse{}, nil
	})
}

// GetImage implements hostlink.Host.
func (h *Host) GetImage(_ context.Context, digest string) (io.ReadCloser, error) {
	path, _, _, err := h.image(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	return f, nil
}
