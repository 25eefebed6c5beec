package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// idle is an agent without engines.
func idle(t *testing.T) *Host {
	t.Helper()
	h, err := New(Config{Dir: t.TempDir(), HostID: "host-a", VirtType: VirtQEMU, LibvirtSocket: "/nonexistent/sock",
		OVSDB: "unix:/nonexistent/db.sock", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed")
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v: %s", args, err, out)
	}
}

func put(t *testing.T, h *Host, content []byte) (string, error) {
	t.Helper()
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	_, err := h.PutImage(t.Context(), digest, int64(len(content)), bytes.NewReader(content))
	return digest, err
}

func putFile(t *testing.T, h *Host, path string) (string, error) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return put(t, h, b)
}

func images(t *testing.T, h *Host) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.conf.Dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// What a tenant uploads must not make QEMU open a file of the host.
func TestImagesThatLeanOnFiles(t *testing.T) {
	h, dir := idle(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("secret"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", at("secret"), "-F", "raw", at("backed"))
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "data_file="+at("data"), at("split"), "1M")
	for _, name := range []string{"backed", "split"} {
		if _, err := putFile(t, h, at(name)); !errors.Is(err, hostlink.ErrInvalid) || !strings.Contains(err.Error(), "leans") {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := append([]byte("QFI\xfb"), bytes.Repeat([]byte{0xff}, 4096)...)
	if _, err := put(t, h, broken); !errors.Is(err, hostlink.ErrInvalid) {
		t.Errorf("a broken header: %v", err)
	}
	if left := images(t, h); len(left) != 0 {
		t.Errorf("refused images are kept: %v", left)
	}
	// A raw disk stays raw whatever it says later on.
	digest, err := put(t, h, bytes.Repeat([]byte{1}, 4096))
	if err != nil {
		t.Fatal(err)
	}
	if left := images(t, h); len(left) != 1 || left[0] != digest+".raw" {
		t.Errorf("images: %v", left)
	}
}

func TestPutImageRefuses(t *testing.T) {
	h := idle(t)
	content := []byte("an image")
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	for name, c := range map[string]struct {
		digest string
		size   int64
		want   error
	}{
		"another digest":  {strings.Repeat("0", 64), 8, hostlink.ErrInvalid},
		"a shorter size":  {digest, 7, hostlink.ErrInvalid},
		"a longer size":   {digest, 9, hostlink.ErrInvalid},
		"no size":         {digest, 0, hostlink.ErrInvalid},
		"a path":          {"../" + digest[3:], 8, hostlink.ErrInvalid},
		"a full disk":     {digest, 1 << 60, hostlink.ErrNoSpace},
		"a digest in XML": {strings.ToUpper(digest), 8, hostlink.ErrInvalid},
	} {
		if _, err := h.PutImage(t.Context(), c.digest, c.size, bytes.NewReader(content)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := images(t, h); len(left) != 0 {
		t.Errorf("something is kept: %v", left)
	}
	if r, err := h.ImageStatus(t.Context(), &pb.ImageStatusRequest{Digest: digest}); err != nil || r.Present {
		t.Errorf("%v %v", r, err)
	}
	for range 2 {
		if r, err := h.PutImage(t.Context(), digest, 8, bytes.NewReader(content)); err != nil || !r.Present {
			t.Fatalf("%v %v", r, err)
		}
	}
	if r, err := h.ImageStatus(t.Context(), &pb.ImageStatusRequest{Digest: digest}); err != nil || !r.Present || r.SizeBytes != 8 {
		t.Errorf("%v %v", r, err)
	}
}

func TestVolumes(t *testing.T) {
	h, dir := idle(t), t.TempDir()
	base := filepath.Join(dir, "base")
	qemuImg(t, "create", "-q", "-f", "qcow2", base, "8M")
	digest, err := putFile(t, h, base)
	if err != nil {
		t.Fatal(err)
	}
	ensure := func(generation uint64, spec *pb.VolumeSpec) (*pb.Volume, error) {
		return h.EnsureVolume(t.Context(), &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1, Generation: generation}, Spec: spec})
	}
	for name, c := range map[string]struct {
		spec *pb.VolumeSpec
		want error
	}{
		"no size, no image":        {&pb.VolumeSpec{Id: "disk-a"}, hostlink.ErrInvalid},
		"an odd size":              {&pb.VolumeSpec{Id: "disk-a", SizeBytes: 1000}, hostlink.ErrInvalid},
		"a huge size":              {&pb.VolumeSpec{Id: "disk-a", SizeBytes: 1 << 62}, hostlink.ErrInvalid},
		"smaller than its image":   {&pb.VolumeSpec{Id: "disk-a", SizeBytes: 4 << 20, ImageDigest: digest}, hostlink.ErrInvalid},
		"an image that is missing": {&pb.VolumeSpec{Id: "disk-a", SizeBytes: 8 << 20, ImageDigest: strings.Repeat("0", 64)}, hostlink.ErrNotFound},
		"an id with a path":        {&pb.VolumeSpec{Id: "disk-a/../b", SizeBytes: 8 << 20}, hostlink.ErrInvalid},
		"an id that is an option":  {&pb.VolumeSpec{Id: "--help", SizeBytes: 8 << 20}, hostlink.ErrInvalid},
	} {
		if _, err := ensure(1, c.spec); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(h.conf.Dir, "volumes")); len(entries) != 0 {
		t.Fatalf("refused volumes left %v", entries)
	}
	for range 2 {
		v, err := ensure(3, &pb.VolumeSpec{Id: "disk-a", SizeBytes: 16 << 20, ImageDigest: digest})
		if err != nil || v.SizeBytes != 16<<20 || v.Generation != 3 {
			t.Fatalf("%v %v", v, err)
		}
	}
	if v, err := ensure(3, &pb.VolumeSpec{Id: "disk-own", ImageDigest: digest}); err != nil || v.SizeBytes != 8<<20 {
		t.Errorf("the image's own size: %v %v", v, err)
	}
	if _, err := ensure(2, &pb.VolumeSpec{Id: "disk-a", SizeBytes: 16 << 20}); !errors.Is(err, hostlink.ErrFenced) {
		t.Errorf("an older generation: %v", err)
	}
	at, err := h.own.disk(t.Context(), "disk-a")
	if err != nil || at.BackingStore.Source.File.File != filepath.Join(h.conf.Dir, "images", digest+".qcow2") || at.BackingStore.Format.Type != "qcow2" {
		t.Errorf("%+v %v", at, err)
	}
	if _, err := h.RemoveImage(t.Context(), &pb.RemoveImageRequest{Fence: &pb.Fence{Epoch: 1}, Digest: digest}); !errors.Is(err, hostlink.ErrInvalid) {
		t.Errorf("an image below a volume was removed: %v", err)
	}
	// A volume whose header names a file that is no image (nobody but the agent writes it) is not run.
	evil := h.volumePath("disk-evil")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", evil)
	if _, err := h.own.disk(t.Context(), "disk-evil"); err == nil {
		t.Error("a volume on somebody's file")
	}
}

// What a killed agent left half-made goes with the next start; whole files stay.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"images", "volumes", "seeds"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{".part-123", "disk-a.qcow2"} {
			if err := os.WriteFile(filepath.Join(dir, d, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	h, err := New(Config{Dir: dir, HostID: "host-a", VirtType: VirtQEMU, LibvirtSocket: "/nonexistent/sock", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, d := range []string{"images", "volumes", "seeds"} {
		if entries, _ := os.ReadDir(filepath.Join(dir, d)); len(entries) != 1 || entries[0].Name() != "disk-a.qcow2" {
			t.Errorf("%s holds %v", d, entries)
		}
	}
}
