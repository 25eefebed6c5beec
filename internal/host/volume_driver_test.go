package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// pattern is what a test writes: n bytes of one value at an offset, in MiB.
type pattern struct {
	value  byte
	at, mb int
}

// drive is a driver with a way to read and write its volumes as a guest would.
type drive struct {
	driver
	io func(t *testing.T, id string, secret []byte, commands ...string) error
	// bytes is a volume as it is kept.
	bytes func(t *testing.T, id string) []byte
	// noise: what nobody wrote to an encrypted volume reads as anything, and without a key all of it does.
	noise bool
}

func (d drive) write(t *testing.T, id string, secret []byte, p pattern) {
	t.Helper()
	if err := d.io(t, id, secret, fmt.Sprintf("write -P %d %dM %dM", p.value, p.at, p.mb)); err != nil {
		t.Fatal(err)
	}
}

func (d drive) reads(t *testing.T, id string, secret []byte, ps ...pattern) {
	t.Helper()
	for _, p := range ps {
		if err := d.io(t, id, secret, fmt.Sprintf("read -P %d %dM %dM", p.value, p.at, p.mb)); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// newDirectory is a directory driver with a golden image of 8 MiB, all 0x11.
func newDirectory(t *testing.T) (drive, *image) {
	if _, err := exec.LookPath("qemu-io"); err != nil {
		t.Skip("qemu-io is not installed")
	}
	dir := t.TempDir()
	d := &directory{dir: filepath.Join(dir, "volumes"), images: filepath.Join(dir, "images"), stretch: 10}
	for _, p := range []string{d.dir, d.images} {
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	im := &image{path: filepath.Join(d.images, strings.Repeat("a", 64)+".qcow2"), format: "qcow2", digest: strings.Repeat("a", 64), size: 8 << 20}
	qemuImg(t, "create", "-q", "-f", "qcow2", im.path, "8M")
	out := drive{driver: d, io: func(t *testing.T, id string, secret []byte, commands ...string) error {
		return qemuIO(t, d.opened(id, secret), secret, commands...)
	}, bytes: func(t *testing.T, id string) []byte {
		b, err := os.ReadFile(d.path(id))
		must(t, err)
		return b
	}}
	if err := qemuIO(t, opened(im.path, nil), nil, "write -P 17 0 8M"); err != nil {
		t.Fatal(err)
	}
	return out, im
}

func qemuIO(t *testing.T, file []string, secret []byte, commands ...string) error {
	t.Helper()
	args := []string{}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	if secret != nil {
		args = append(args, "--object", "secret,id=key,format=raw,file=/dev/fd/3")
	}
	out, err := runWith(t.Context(), secret, "qemu-io", append(args, file...)...)
	if err == nil && bytes.Contains(out, []byte("Pattern verification failed")) {
		err = fmt.Errorf("%s", out)
	}
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryDriver(t *testing.T) {
	d, im := newDirectory(t)
	testDriver(t, d, im)
}

// TestEncryptedExport: an image of an encrypted volume opens with its key alone, and so do volumes that are made of it.
func TestEncryptedExport(t *testing.T) {
	d, im := newDirectory(t)
	ctx, secret := t.Context(), []byte("a very secret passphrase")
	must(t, d.create(ctx, &pb.VolumeSpec{Id: "disk-first", SizeBytes: 16 << 20, Secret: secret}, im))
	d.write(t, "disk-first", secret, pattern{0x22, 1, 1})
	dir := filepath.Dir(im.path)
	h := &Host{conf: Config{Dir: filepath.Dir(dir)}}
	percent := uint32(0)
	digest, size, err := h.export(ctx, d.opened("disk-first", secret), secret, func(p uint32) { percent = p })
	must(t, err)
	file := filepath.Join(dir, digest+".qcow2")
	head, err := readHeader(file)
	must(t, err)
	if !head.encrypted || head.backing != "" || head.size != 16<<20 || size == 0 || percent == 0 {
		t.Fatalf("the image has %+v, %d bytes, %d %% were told", head, size, percent)
	}
	content, err := os.ReadFile(file)
	must(t, err)
	for _, value := range []byte{0x11, 0x22} {
		if bytes.Contains(content, bytes.Repeat([]byte{value}, 512)) {
			t.Errorf("a sector of %#x is in the clear", value)
		}
	}
	made := &image{path: file, format: "qcow2", digest: digest, size: head.size, encrypted: true}
	if err := d.create(ctx, &pb.VolumeSpec{Id: "disk-wrong", SizeBytes: 16 << 20, Secret: []byte("another passphrase")}, made); err == nil {
		t.Error("another key opens the image")
	}
	must(t, d.create(ctx, &pb.VolumeSpec{Id: "disk-second", SizeBytes: 16 << 20, Secret: secret}, made))
	d.reads(t, "disk-second", secret, pattern{0x11, 0, 1}, pattern{0x22, 1, 1}, pattern{0x11, 2, 6})
}

// testDriver is what every driver must do.
func testDriver(t *testing.T, d drive, im *image) {
	ctx := t.Context()
	for name, secret := range map[string][]byte{"plain": nil, "encrypted": []byte("a very secret passphrase")} {
		t.Run(name, func(t *testing.T) {
			id := func(s string) string { return "disk-" + name + s }
			must(t, d.create(ctx, &pb.VolumeSpec{Id: id("sys"), SizeBytes: 16 << 20, Secret: secret}, im))
			sys := id("sys")
			d.reads(t, sys, secret, pattern{0x11, 0, 8})
			if secret == nil || !d.noise {
				d.reads(t, sys, secret, pattern{0, 8, 8})
			}

			// Four states, three of them kept.
			d.write(t, sys, secret, pattern{0x22, 1, 1})
			must(t, d.snapshot(ctx, sys, "snapshot-one", secret))
			d.write(t, sys, secret, pattern{0x33, 1, 1})
			must(t, d.snapshot(ctx, sys, "snapshot-two", secret))
			must(t, d.grow(ctx, sys, 32<<20, secret))
			d.write(t, sys, secret, pattern{0x44, 1, 1})
			d.write(t, sys, secret, pattern{0x45, 30, 1})
			must(t, d.snapshot(ctx, sys, "snapshot-three", secret))
			d.write(t, sys, secret, pattern{0x55, 1, 1})
			v, err := d.look(ctx, sys)
			if err != nil || !slices.Equal(v.snapshots, []string{"snapshot-one", "snapshot-two", "snapshot-three"}) || v.size != 32<<20 || v.encrypted != (secret != nil) {
				t.Fatalf("%+v %v", v, err)
			}

			// A copy of a snapshot, and one of the whole, are volumes of their own.
			must(t, d.duplicate(ctx, &pb.VolumeSpec{Id: id("from"), SourceVolume: sys, SourceSnapshot: "snapshot-two", SizeBytes: 32 << 20, Secret: secret}))
			must(t, d.duplicate(ctx, &pb.VolumeSpec{Id: id("clone"), SourceVolume: sys, SizeBytes: 32 << 20, Secret: secret}))
			if err := d.duplicate(ctx, &pb.VolumeSpec{Id: id("none"), SourceVolume: sys, SourceSnapshot: "snapshot-nine", SizeBytes: 32 << 20, Secret: secret}); !errors.Is(err, hostlink.ErrNotFound) {
				t.Errorf("a copy of a snapshot that is not there: %v", err)
			}
			for _, copied := range []string{"from", "clone"} {
				if v, err := d.look(ctx, id(copied)); err != nil || len(v.snapshots) != 0 || v.encrypted != (secret != nil) {
					t.Errorf("%s: %+v %v", copied, v, err)
				}
			}
			d.reads(t, id("from"), secret, pattern{0x11, 0, 1}, pattern{0x33, 1, 1}, pattern{0x11, 2, 6})
			d.reads(t, id("clone"), secret, pattern{0x11, 0, 1}, pattern{0x55, 1, 1}, pattern{0x45, 30, 1})
			d.write(t, id("from"), secret, pattern{0x66, 1, 1})
			d.write(t, id("clone"), secret, pattern{0x77, 1, 1})
			d.reads(t, sys, secret, pattern{0x55, 1, 1})

			// The middle goes, the ends stay.
			must(t, d.removeSnapshot(ctx, sys, "snapshot-two", secret))
			must(t, d.rollback(ctx, sys, "snapshot-three", secret))
			d.reads(t, sys, secret, pattern{0x44, 1, 1}, pattern{0x45, 30, 1})
			must(t, d.rollback(ctx, sys, "snapshot-one", secret))
			d.reads(t, sys, secret, pattern{0x22, 1, 1}, pattern{0x11, 2, 6})
			must(t, d.rollback(ctx, sys, "snapshot-three", secret))
			d.reads(t, sys, secret, pattern{0x44, 1, 1}, pattern{0x45, 30, 1})
			d.reads(t, id("from"), secret, pattern{0x66, 1, 1})

			must(t, d.remove(ctx, sys))
			must(t, d.remove(ctx, sys))
			if _, err := d.look(ctx, sys); !errors.Is(err, hostlink.ErrNotFound) {
				t.Errorf("a removed volume: %v", err)
			}
			d.reads(t, id("clone"), secret, pattern{0x77, 1, 1}, pattern{0x11, 2, 6})
			ids, err := d.list(ctx)
			slices.Sort(ids)
			if err != nil || !slices.Contains(ids, id("clone")) || slices.Contains(ids, sys) || slices.Contains(ids, id("none")) {
				t.Errorf("%v %v", ids, err)
			}
		})
	}
	if err := qemuIO(t, opened(im.path, nil), nil, "read -P 17 0 8M"); err != nil {
		t.Errorf("the golden image was written to: %v", err)
	}
}

// What is on the disk of the host shows nothing of an encrypted volume, and no file of the agent its passphrase.
func TestEncryptedAtRest(t *testing.T) {
	d, im := newDirectory(t)
	testEncryptedAtRest(t, d, im)
}

func testEncryptedAtRest(t *testing.T, d drive, im *image) {
	ctx := t.Context()
	secret, marker := []byte("only the tenant knows this"), bytes.Repeat([]byte("PLAINTEXT-MARKER"), 1<<16)
	path := filepath.Join(t.TempDir(), "pattern")
	must(t, os.WriteFile(path, marker, 0o600))
	for name, spec := range map[string]*pb.VolumeSpec{
		"qcow2": {Id: "disk-a", SizeBytes: 16 << 20, Secret: secret}, "raw": {Id: "disk-b", SizeBytes: 16 << 20, Secret: secret, Raw: true},
		"plain": {Id: "disk-c", SizeBytes: 16 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			var below *image
			if name == "qcow2" {
				below = im
			}
			must(t, d.create(ctx, spec, below))
			must(t, d.io(t, spec.Id, secretOf(spec.Secret), "write -s "+path+" 0 1M"))
			if v, err := d.look(ctx, spec.Id); err != nil || v.size != 16<<20 || v.raw != spec.Raw || v.encrypted != (spec.Secret != nil) {
				t.Errorf("%+v %v", v, err)
			}
			b := d.bytes(t, spec.Id)
			if shows := bytes.Contains(b, []byte("PLAINTEXT-MARKER")); shows != (spec.Secret == nil) {
				t.Errorf("the text is readable in the file: %v", shows)
			}
			if bytes.Contains(b, secret) {
				t.Error("the passphrase is in the file")
			}
			if spec.Secret == nil {
				return
			}
			if err := d.io(t, spec.Id, []byte("a wrong passphrase"), "read 0 1M"); err == nil {
				t.Error("another passphrase opens it")
			}
			if err := d.io(t, spec.Id, nil, "read 0 1M"); err == nil && !spec.Raw && !d.noise { // a raw file reads as its cipher text
				t.Error("no passphrase opens it")
			}
			must(t, d.grow(ctx, spec.Id, 24<<20, secret))
			if v, err := d.look(ctx, spec.Id); err != nil || v.size != 24<<20 {
				t.Errorf("grown: %+v %v", v, err)
			}
			must(t, d.duplicate(ctx, &pb.VolumeSpec{Id: spec.Id + "-copy", SourceVolume: spec.Id, SizeBytes: 24 << 20, Secret: secret, Raw: spec.Raw}))
			must(t, d.io(t, spec.Id+"-copy", secret, "read 0 1M"))
		})
	}
}

// A volume goes from host to host with its snapshots, and nothing is left of a transfer that was cut off.
func TestVolumeMoves(t *testing.T) {
	d, im := newDirectory(t)
	ctx := t.Context()
	must(t, d.create(ctx, &pb.VolumeSpec{Id: "disk-a", SizeBytes: 16 << 20}, im))
	d.write(t, "disk-a", nil, pattern{0x22, 1, 1})
	must(t, d.snapshot(ctx, "disk-a", "snapshot-one", nil))
	d.write(t, "disk-a", nil, pattern{0x33, 1, 1})

	f, err := os.Open(d.driver.(*directory).path("disk-a"))
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	var chunks []*pb.VolumeChunk
	must(t, eachExtent(f, info.Size(), func(offset, length int64) error {
		b := make([]byte, length)
		_, err := f.ReadAt(b, offset)
		chunks = append(chunks, &pb.VolumeChunk{Offset: uint64(offset), Data: b})
		return err
	}))
	next := func(list ...*pb.VolumeChunk) func() (*pb.VolumeChunk, error) {
		return func() (*pb.VolumeChunk, error) {
			if len(list) == 0 {
				return nil, errors.New("the other host went away")
			}
			c := list[0]
			list = list[1:]
			return c, nil
		}
	}
	to := filepath.Join(t.TempDir(), "to.qcow2")
	first := &pb.VolumeChunk{Length: uint64(info.Size())}
	if err := receive(to, first, next(chunks...)); err == nil {
		t.Error("a transfer without its end counts")
	}
	if err := receive(to, first, next(append(slices.Clone(chunks), &pb.VolumeChunk{Offset: uint64(info.Size()), Data: []byte{1}})...)); !errors.Is(err, hostlink.ErrInvalid) {
		t.Errorf("a chunk behind the end: %v", err)
	}
	must(t, receive(to, first, next(append(slices.Clone(chunks), &pb.VolumeChunk{Last: true})...)))
	must(t, qemuIO(t, opened(to, nil), nil, "read -P 51 1M 1M"))
	head, err := readHeader(to)
	if err != nil || !slices.Equal(head.snapshots, []string{"snapshot-one"}) || head.backing != im.path {
		t.Errorf("%+v %v", head, err)
	}
}
