package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/GehirnInc/crypt/sha512_crypt"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/rfb"
)

// TestRealGuest proves on a real guest what is done inside of one, or seen of one.
func TestRealGuest(t *testing.T) { alone(t, "^TestGuestInside$", 8*time.Minute) }

// TestGuestInside is TestRealGuest's other half.
func TestGuestInside(t *testing.T) {
	dir := os.Getenv(realDir)
	if dir == "" {
		t.Skip("runs inside TestRealGuest")
	}
	e := &engines{t: t, dir: dir, daemons: map[string]*exec.Cmd{}}
	e.furnish()
	defer e.stopAll()
	e.startAll()
	h := e.agent()
	h.deliverAfter = time.Hour // the seed keeps its password: what the guest has comes from its agent
	defer h.Close()
	ctx := t.Context()

	image, err := os.Open(os.Getenv(realImage))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	digest := fileDigest(t, image)
	put := func(digest string, f *os.File) {
		t.Helper()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := h.PutImage(ctx, digest, info.Size(), f); err != nil {
			t.Fatal(err)
		}
	}
	put(digest, image)

	const vmID, diskID = "vm-guest000000000", "disk-guest000000000"
	hash := func(password string) string { t.Helper(); return crypt(t, password) }
	spec := &pb.DomainSpec{
		Id: vmID, Uuid: "0d6f4a52-8c1e-4b57-9a34-6f1d2e3c4b5b", Cpus: 1, MemoryMib: 256, MaxCpus: 4, MaxMemoryMib: 1024,
		Disks: []*pb.DomainDisk{{VolumeId: diskID, Target: "vda", BootOrder: 1}},
		Seed:  &pb.Seed{InstanceId: vmID, Hostname: "guest-one", LoginUser: "root", HashedPassword: hash("First.1")},
		Power: pb.Power_POWER_RUNNING,
	}
	generation := uint64(0)
	ensure := func() *pb.Domain {
		t.Helper()
		generation++
		for deadline := time.Now().Add(time.Minute); ; {
			d, err := h.EnsureDomain(ctx, &pb.EnsureDomainRequest{Fence: &pb.Fence{Epoch: 1, Generation: generation}, Spec: spec})
			if err == nil {
				return d
			}
			if !errors.Is(err, hostlink.ErrUnavailable) || time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	if _, err := h.EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1, Generation: 1},
		Spec: &pb.VolumeSpec{Id: diskID, ImageDigest: digest, SizeBytes: 128 << 20}}); err != nil {
		t.Fatal(err)
	}
	watch := e.watch(h)
	defer watch.stop()
	if _, err := h.SetGuestPassword(ctx, &pb.SetGuestPasswordRequest{Id: vmID, User: "root", HashedPassword: hash("x")}); !errors.Is(err, hostlink.ErrNotFound) {
		t.Fatalf("a password for nobody: %v", err)
	}
	ensure()
	e.console(vmID, 1, "GUEST-READY guest-one")
	agent := func() {
		t.Helper()
		watch.until("running, with its agent", func(d *pb.Domain) bool { return d.Id == vmID && d.AgentConnected })
	}
	agent()

	login := func(password string) bool { return e.login(h, vmID, password) }
	t.Run("password", func(t *testing.T) {
		if !login("First.1") {
			t.Fatal("the seed's password is refused")
		}
		if _, err := h.SetGuestPassword(ctx, &pb.SetGuestPasswordRequest{Id: vmID, User: "root", HashedPassword: hash("Second.2")}); err != nil {
			t.Fatal(err)
		}
		if login("First.1") {
			t.Error("the guest takes the old password")
		}
		if !login("Second.2") {
			t.Error("the guest refuses the new password")
		}
		if _, err := h.SetGuestPassword(ctx, &pb.SetGuestPasswordRequest{Id: vmID, User: "root", Password: "Third.3"}); err != nil {
			t.Fatal(err)
		}
		if login("Second.2") || !login("Third.3") {
			t.Error("a password as text was not taken over")
		}
	})

	t.Run("keys", func(t *testing.T) {
		const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJ1bm5pbmdpbnRoZWZpZWxkc29mZ29sZGFuZGdyZWVu"
		keys := func() string { return e.inGuest(h, vmID, "Third.3", "cat /root/.ssh/authorized_keys") }
		if _, err := h.SetGuestKeys(ctx, &pb.SetGuestKeysRequest{Id: vmID, User: "root", SshKeys: []string{key}}); err != nil {
			t.Fatal(err)
		}
		if got := keys(); !strings.Contains(got, key) {
			t.Errorf("the guest has %q", got)
		}
		if _, err := h.SetGuestKeys(ctx, &pb.SetGuestKeysRequest{Id: vmID, User: "root", SshKeys: []string{key}, Remove: true}); err != nil {
			t.Fatal(err)
		}
		if got := keys(); strings.Contains(got, key) {
			t.Errorf("the guest still has %q", got)
		}
	})

	t.Run("NICs are plugged in and out", func(t *testing.T) {
		e.plugsNICs(spec, ensure, func() string { return e.inGuest(h, vmID, "Third.3", "echo MACS $(cat /sys/class/net/*/address)") })
	})

	t.Run("disks are plugged in and out", func(t *testing.T) {
		const id = "disk-plugged0000000"
		if _, err := h.EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1, Generation: 1}, Spec: &pb.VolumeSpec{Id: id, SizeBytes: 64 << 20}}); err != nil {
			t.Fatal(err)
		}
		system := spec.Disks
		spec.Disks = append(slices.Clone(system), &pb.DomainDisk{VolumeId: id, Target: "vdb"})
		if d := ensure(); !slices.Contains(d.Volumes, id) {
			t.Fatalf("plugged in: %v", d)
		}
		if out := e.inGuest(h, vmID, "Third.3", "cat /sys/block/*/serial"); !strings.Contains(out, id) {
			t.Errorf("the guest has %q", out)
		}
		spec.Disks = system
		if d := ensure(); !slices.Contains(d.Volumes, id) {
			t.Errorf("it is gone before the guest let go of it: %v", d)
		}
		eventually(t, "the disk is gone", func() bool { return !slices.Contains(ensure().Volumes, id) })
		// As libvirt leaves it, when QEMU is not done with the device at the moment that the guest let go of it.
		l, err := h.virt.get(ctx)
		if err != nil {
			t.Fatal(err)
		}
		dom, err := l.DomainLookupByName(vmID)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(h.volumePath(id), 0o666); err != nil { // libvirt gives it to the guest's user
			t.Fatal(err)
		}
		for _, node := range []map[string]any{
			{"driver": "file", "filename": h.volumePath(id), "node-name": "libvirt-900-storage", "read-only": false},
			{"driver": "qcow2", "file": "libvirt-900-storage", "node-name": "libvirt-900-format", "read-only": false},
		} {
			if err := monitor(l, dom, "blockdev-add", node, nil); err != nil {
				t.Fatal(err)
			}
		}
		snapshot := func() error {
			_, err := h.EnsureSnapshot(ctx, &pb.EnsureSnapshotRequest{Fence: &pb.Fence{Epoch: 1}, VolumeId: id, Id: "snapshot-plugged000"})
			return err
		}
		if err := snapshot(); err == nil {
			t.Fatal("QEMU has the volume open and does not lock it")
		}
		ensure()
		if err := snapshot(); err != nil {
			t.Errorf("after the next call: %v", err)
		}
		if _, err := h.RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: &pb.Fence{Epoch: 1, Generation: 2}, Id: id}); err != nil {
			t.Error(err)
		}
	})

	t.Run("hot resize", func(t *testing.T) {
		count := func() (cpus int, mib int) {
			out := e.inGuest(h, vmID, "Third.3", "echo N=$(grep -c ^processor /proc/cpuinfo)=$(($(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) / 1024))=")
			if i := strings.LastIndex(out, "N="); i >= 0 {
				_, _ = fmt.Sscanf(out[i:], "N=%d=%d=", &cpus, &mib)
			}
			return cpus, mib
		}
		cpus, before := count()
		if cpus != 1 || before == 0 {
			t.Fatalf("it starts with %d processors and %d MiB", cpus, before)
		}
		spec.Cpus, spec.MemoryMib = 2, 512
		d := ensure()
		if d.Cpus != 2 || d.MemoryMib != 512 {
			t.Fatalf("after plugging: %v", d)
		}
		if !poll(30*time.Second, func() bool { c, m := count(); return c == 2 && m >= before+256 }) {
			c, m := count()
			t.Fatalf("the guest sees %d processors and %d MiB, before %d", c, m, before)
		}
		t.Logf("the guest sees 2 processors and 256 MiB more")
		if d := ensure(); d.Cpus != 2 || d.MemoryMib != 512 { // repeated: nothing more is plugged
			t.Fatalf("asked again: %v", d)
		}
		spec.Cpus = 1
		if d := ensure(); d.Cpus != 2 {
			t.Fatalf("a processor was taken from a running guest: %v", d)
		}
		spec.Cpus = 2
	})

	t.Run("screen", func(t *testing.T) {
		c, err := h.Console(ctx, vmID, pb.ConsoleKind_CONSOLE_KIND_VNC)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := rfb.Connect(c, ""); err != nil {
			t.Fatal(err)
		}
		picture, err := rfb.Screenshot(c)
		if err != nil {
			t.Fatal(err)
		}
		if s := picture.Bounds().Size(); s.X < 320 || s.Y < 200 {
			t.Errorf("a screen of %v", s)
		}
	})

	t.Run("serial log", func(t *testing.T) {
		r, err := h.ConsoleLog(ctx, &pb.ConsoleLogRequest{Id: vmID, MaxBytes: 1 << 20})
		if err != nil || !bytes.Contains(r.Tail, []byte("GUEST-READY guest-one")) || r.UpdatedAt < time.Now().Add(-time.Hour).Unix() {
			t.Fatalf("%v %v", r, err)
		}
		if r, err := h.ConsoleLog(ctx, &pb.ConsoleLogRequest{Id: vmID, MaxBytes: 7}); err != nil || len(r.Tail) != 7 {
			t.Fatalf("%v %v", r, err)
		}
	})

	t.Run("a disc is inserted and taken out", func(t *testing.T) {
		iso := filepath.Join(e.dir, "disc.iso")
		content, err := seedImage(&pb.Seed{InstanceId: "disc-of-the-test", Hostname: "disc"}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(iso, content, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(iso)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		disc := fileDigest(t, f)
		put(disc, f)
		spec.Cdroms = []*pb.DomainCDROM{{Slot: "sdb", ImageDigest: disc}}
		ensure()
		if out := e.sh("virsh", "domblklist", vmID); !strings.Contains(out, disc) {
			t.Errorf("the running guest has\n%s", out)
		}
		if _, err := h.RemoveImage(ctx, &pb.RemoveImageRequest{Fence: &pb.Fence{Epoch: 1}, Digest: disc}); !errors.Is(err, hostlink.ErrInvalid) {
			t.Errorf("removing a disc that is in a drive: %v", err)
		}
		spec.Cdroms = nil
		ensure()
		if out := e.sh("virsh", "domblklist", vmID); strings.Contains(out, disc) {
			t.Errorf("the running guest still has\n%s", out)
		}
		if _, err := h.RemoveImage(ctx, &pb.RemoveImageRequest{Fence: &pb.Fence{Epoch: 1}, Digest: disc}); err != nil {
			t.Error(err)
		}
	})

	t.Run("export", func(t *testing.T) {
		e.inGuest(h, vmID, "Third.3", "echo kept > /state/mark; sync")
		export := func(volume string) (*pb.Export, error) {
			return h.ExportVolume(ctx, &pb.ExportVolumeRequest{Fence: &pb.Fence{Epoch: 1, Generation: 1}, Id: "image-guest00000000", VolumeId: volume})
		}
		if _, err := export(diskID); !errors.Is(err, hostlink.ErrInvalid) {
			t.Fatalf("the disk of a running guest: %v", err)
		}
		spec.Power = pb.Power_POWER_OFF
		ensure()
		var done *pb.Export
		eventually(t, "the image is made", func() bool {
			var err error
			if done, err = export(diskID); errors.Is(err, hostlink.ErrUnavailable) { // a busy machine
				return false
			} else if err != nil {
				t.Fatal(err)
			}
			if done.State == pb.ExportState_EXPORT_STATE_FAILED {
				t.Fatal(done.Reason)
			}
			return done.State == pb.ExportState_EXPORT_STATE_DONE
		})
		r, err := h.GetImage(ctx, done.ImageDigest)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		file := filepath.Join(e.dir, "export.qcow2")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if n, err := io.Copy(f, r); err != nil || uint64(n) != done.SizeBytes || done.VirtualBytes != 128<<20 {
			t.Fatalf("%d bytes %v: %v", n, err, done)
		}
		if _, err := f.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		if got := fileDigest(t, f); got != done.ImageDigest {
			t.Errorf("it has digest %s, told was %s", got, done.ImageDigest)
		}
		if out := e.sh("qemu-img", "info", "-f", "qcow2", file); strings.Contains(out, "backing file") {
			t.Errorf("the image leans on another:\n%s", out)
		}
		if _, err := h.RemoveExport(ctx, &pb.RemoveExportRequest{Fence: &pb.Fence{Epoch: 1, Generation: 2}, Id: "image-guest00000000"}); err != nil {
			t.Fatal(err)
		}
		// A guest made of it has what the first one wrote, and the password of its own seed.
		if _, err := h.RemoveDomain(ctx, &pb.RemoveDomainRequest{Fence: &pb.Fence{Epoch: 1, Generation: generation}, Id: vmID}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1, Generation: 1},
			Spec: &pb.VolumeSpec{Id: "disk-second00000000", ImageDigest: done.ImageDigest, SizeBytes: 128 << 20}}); err != nil {
			t.Fatal(err)
		}
		spec.Disks[0].VolumeId = "disk-second00000000"
		spec.Seed.HashedPassword, spec.Seed.Hostname, spec.Seed.InstanceId = hash("Fourth.4"), "guest-two", "vm-guest000000000-2"
		spec.Power = pb.Power_POWER_RUNNING
		ensure()
		e.console(vmID, 1, "GUEST-READY guest-two")
		if out := e.inGuest(h, vmID, "Fourth.4", "cat /state/mark"); !strings.Contains(out, "kept") {
			t.Errorf("the copy says %q", out)
		}
	})
}

func crypt(t *testing.T, password string) string {
	t.Helper()
	out, err := sha512_crypt.New().Generate([]byte(password), nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// serial is a conversation on a guest's serial console.
type serial struct {
	c    io.ReadWriteCloser
	seen chan []byte
	text strings.Builder
}

func (e *engines) serial(h *Host, id string) *serial {
	e.t.Helper()
	c, err := h.Console(context.Background(), id, pb.ConsoleKind_CONSOLE_KIND_SERIAL)
	if err != nil {
		e.t.Fatal(err)
	}
	s := &serial{c: c, seen: make(chan []byte, 1000)}
	go func() {
		defer close(s.seen)
		for {
			buf := make([]byte, 4096)
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			s.seen <- buf[:n]
		}
	}()
	return s
}

// say writes a line, and expect waits until one of the texts came; it answers which, or -1, and what came before.
func (s *serial) say(line string) { _, _ = io.WriteString(s.c, line+"\r") }

func (s *serial) expect(within time.Duration, texts ...string) (which int, before string) {
	limit := time.After(within)
	for {
		all := s.text.String()
		for i, text := range texts {
			if at := strings.Index(all, text); at >= 0 {
				s.text.Reset()
				s.text.WriteString(all[at+len(text):])
				return i, all[:at]
			}
		}
		select {
		case b, ok := <-s.seen:
			if !ok {
				return -1, s.text.String()
			}
			s.text.Write(b)
		case <-limit:
			return -1, s.text.String()
		}
	}
}

// enter logs root in at the serial console; false when the guest refuses.
func (s *serial) enter(password string) bool {
	asked := false
	for range 20 { // a prompt that is under way when a line comes may be lost
		s.say("")
		if which, _ := s.expect(3*time.Second, "login: "); which == 0 {
			asked = true
			break
		}
	}
	if !asked {
		return false
	}
	s.expect(time.Second, "login: ") // and one may come twice
	s.say("root")
	if which, _ := s.expect(20*time.Second, "assword: "); which < 0 {
		return false
	}
	s.say(password)
	which, _ := s.expect(20*time.Second, "# ", "incorrect")
	return which == 0
}

// leave ends the session, so that the next one finds a login prompt.
func (s *serial) leave() {
	s.say("exit")
	s.expect(10*time.Second, "login: ")
	s.c.Close()
}

func (e *engines) login(h *Host, id, password string) bool {
	e.t.Helper()
	s := e.serial(h, id)
	defer s.c.Close()
	for range 2 { // on a busy machine a line may get lost
		if s.enter(password) {
			s.leave()
			return true
		}
		s.expect(10*time.Second, "login: ") // asked again
	}
	return false
}

// inGuest runs a command in the guest, over its serial console.
func (e *engines) inGuest(h *Host, id, password, command string) string {
	e.t.Helper()
	s := e.serial(h, id)
	if !s.enter(password) && !s.enter(password) {
		e.t.Fatalf("no login at the serial console of %s: %q", id, s.text.String())
	}
	s.say(command + "; echo DONE-$((1+1))")
	which, out := s.expect(30*time.Second, "DONE-2")
	if which < 0 {
		e.t.Fatalf("%q does not end: %q", command, out)
	}
	s.expect(10*time.Second, "# ")
	s.leave()
	return out
}
