package host

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/host/cephtest"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// TestCeph proves the pool driver on a Ceph cluster of its own, with cephx, and a guest on it. `make test-ceph` installs
// what it needs.
func TestCeph(t *testing.T) {
	cephtest.Need(t)
	alone(t, "^TestCephInside$", 10*time.Minute)
}

const poolID = "set-ceph0000000000"

// TestCephInside is TestCeph's other half.
func TestCephInside(t *testing.T) {
	dir := os.Getenv(realDir)
	if dir == "" {
		t.Skip("runs inside TestCeph")
	}
	e := &engines{t: t, dir: dir, daemons: map[string]*exec.Cmd{}}
	e.furnish()
	defer e.stopAll()
	e.startAll()
	cluster := cephtest.Start(t, filepath.Join(dir, "c"), "127.0.0.1", exec.Command)
	h := e.agent()
	defer func() { h.Close() }()
	ctx := t.Context()
	spec := &pb.Pool{Id: poolID, Monitors: []string{cluster.Monitor}, Name: cephtest.Pool, User: cephtest.User, Key: cluster.Key, ClusterId: cluster.ID}
	generation := uint64(0)
	tell := func(p *pb.Pool) *pb.PoolStatus {
		t.Helper()
		generation++
		if _, err := h.EnsurePool(ctx, &pb.EnsurePoolRequest{Fence: &pb.Fence{Epoch: 1, Generation: generation}, Pool: p}); err != nil {
			t.Fatal(err)
		}
		var st *pb.PoolStatus
		eventually(t, "the pool is known", func() bool {
			health, err := h.Health(ctx, &pb.HealthRequest{Epoch: 1})
			if err != nil || len(health.Pools) != 1 {
				return false
			}
			st = health.Pools[0]
			return st.Generation == generation && (st.Ready || !strings.Contains(st.Problem, "not answered"))
		})
		return st
	}
	change := func(f func(p *pb.Pool)) *pb.Pool {
		p := &pb.Pool{Id: spec.Id, Monitors: spec.Monitors, Name: spec.Name, User: spec.User, Key: spec.Key, ClusterId: spec.ClusterId}
		f(p)
		return p
	}

	t.Run("told", func(t *testing.T) {
		for what, p := range map[string]*pb.Pool{
			"pool none":      change(func(p *pb.Pool) { p.Name = "none" }),
			"are of cluster": change(func(p *pb.Pool) { p.ClusterId = "11111111-2222-4333-8444-555555555555" }),
			"ceph":           change(func(p *pb.Pool) { p.Key = "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==" }), // nobody's
		} {
			if st := tell(p); st.Ready || !strings.Contains(st.Problem, what) || strings.Contains(st.Problem, p.Key) {
				t.Errorf("%s: %v", what, st)
			} else {
				t.Logf("%s: %s", what, st.Problem)
			}
		}
		if _, err := h.EnsurePool(ctx, &pb.EnsurePoolRequest{Fence: &pb.Fence{Epoch: 1, Generation: 99}, Pool: change(func(p *pb.Pool) { p.Name = "a\nb" })}); !errors.Is(err, hostlink.ErrInvalid) {
			t.Errorf("a pool of two lines: %v", err)
		}
		if st := tell(spec); !st.Ready || st.Problem != "" || st.AvailableBytes < 1<<30 {
			t.Fatalf("%v", st)
		}
		if _, err := h.EnsurePool(ctx, &pb.EnsurePoolRequest{Fence: &pb.Fence{Epoch: 1, Generation: 1}, Pool: spec}); !errors.Is(err, hostlink.ErrFenced) {
			t.Errorf("an older pool: %v", err)
		}
		for _, name := range []string{"keyring", "pool.json", "ceph.conf"} {
			if info, err := os.Stat(filepath.Join(h.poolDir(poolID), name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", name, info, err)
			}
		}
		// A restarted agent knows it by itself.
		h.Close()
		h = e.agent()
		eventually(t, "the restarted agent reaches the pool", func() bool {
			health, err := h.Health(ctx, &pb.HealthRequest{Epoch: 1})
			return err == nil && len(health.Pools) == 1 && health.Pools[0].Ready && health.Pools[0].Generation == generation
		})
	})

	p, err := h.poolOf(poolID)
	must(t, err)
	d, im := newRBD(t, p)
	t.Run("driver", func(t *testing.T) { testDriver(t, d, im) })
	t.Run("encrypted at rest", func(t *testing.T) { testEncryptedAtRest(t, d, im) })
	t.Run("clones", func(t *testing.T) { testBases(t, cluster, d, im) })
	t.Run("open elsewhere", func(t *testing.T) { testWatched(t, d) })
	t.Run("cut off", func(t *testing.T) {
		// What another host makes is not this one's to remove.
		mine, other := p.part("disk-half"), "part.disk-half.host-other000000000"
		for _, name := range []string{mine, other} {
			cluster.RBD(t, "create", "--size", "1M", name)
		}
		must(t, p.dropParts(ctx))
		if names, err := p.images(ctx); err != nil || slices.Contains(names, mine) || !slices.Contains(names, other) {
			t.Errorf("%v %v", names, err)
		}
		cluster.RBD(t, "rm", "--no-progress", other)
	})
	t.Run("guest", func(t *testing.T) { e.guestOnCeph(t, h, cluster) })

	if _, err := h.RemovePool(ctx, &pb.RemovePoolRequest{Fence: &pb.Fence{Epoch: 1, Generation: generation + 100}, Id: poolID}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.poolDir(poolID)); !os.IsNotExist(err) {
		t.Errorf("files of a pool that is forgotten: %v", err)
	}
	if out := e.sh("virsh", "secret-list"); strings.Contains(out, p.secret) {
		t.Errorf("libvirt keeps its key:\n%s", out)
	}
	if _, err := h.RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Id: "disk-a", Pool: poolID}); !errors.Is(err, hostlink.ErrUnavailable) {
		t.Errorf("a volume of a pool that is not known: %v", err)
	}
}

// worked repeats a call until the work that it began is done: on a busy machine that takes longer than one waits.
func worked(t *testing.T, call func() (*pb.Volume, error)) *pb.Volume {
	t.Helper()
	for {
		v, err := call()
		must(t, err)
		if !v.Working {
			return v
		}
	}
}

// newRBD is the driver of a pool with a golden image that no agent has.
func newRBD(t *testing.T, p *pool) (drive, *image) {
	_, im := newDirectory(t)
	r := p.rbd
	r.stretch, r.imaged = 10, func(string) bool { return false }
	return drive{driver: &r, noise: true,
		io: func(t *testing.T, id string, secret []byte, commands ...string) error {
			return qemuIO(t, r.opened(id, secret), secret, commands...)
		},
		bytes: func(t *testing.T, id string) []byte {
			path := filepath.Join(t.TempDir(), "bytes")
			_, err := r.work(t.Context(), "export", "--no-progress", r.at(id), path)
			must(t, err)
			b, err := os.ReadFile(path)
			must(t, err)
			return b
		}}, im
}

// testBases: a golden image is in the pool once, and goes with the last volume that leans on it.
func testBases(t *testing.T, cluster *cephtest.Cluster, d drive, im *image) {
	ctx := t.Context()
	r := d.driver.(*rbd)
	base := baseName(im.digest)
	for _, id := range []string{"disk-one", "disk-two"} {
		must(t, d.create(ctx, &pb.VolumeSpec{Id: id, SizeBytes: 16 << 20}, im))
	}
	if i, err := r.info(ctx, "disk-two"); err != nil || i.Parent.Image != base {
		t.Errorf("%+v %v", i, err)
	}
	must(t, d.duplicate(ctx, &pb.VolumeSpec{Id: "disk-copy", SourceVolume: "disk-one", SizeBytes: 16 << 20}))
	if i, err := r.info(ctx, "disk-copy"); err != nil || i.Parent.Image != "" {
		t.Errorf("a copy leans on %+v %v", i, err)
	}
	must(t, r.dropBase(ctx, im.digest)) // it is used
	must(t, d.remove(ctx, "disk-one"))
	d.reads(t, "disk-two", nil, pattern{0x11, 0, 8})
	// Others of this test lean on it, too.
	ids, err := d.list(ctx)
	must(t, err)
	for _, id := range ids {
		if id != "disk-copy" {
			must(t, d.remove(ctx, id))
		}
	}
	if _, err := r.info(ctx, base); !errors.Is(err, hostlink.ErrNotFound) {
		t.Errorf("the golden image is left: %v", err)
	}
	d.reads(t, "disk-copy", nil, pattern{0x11, 0, 8})
	must(t, d.remove(ctx, "disk-copy"))
	if left := strings.TrimSpace(cluster.RBD(t, "ls")); left != "" {
		t.Errorf("left in the pool: %s", left)
	}
}

// testWatched: nothing changes the data of a volume that a guest of some host has open; snapshots are taken.
func testWatched(t *testing.T, d drive) {
	ctx := t.Context()
	must(t, d.create(ctx, &pb.VolumeSpec{Id: "disk-open", SizeBytes: 16 << 20}, nil))
	must(t, d.snapshot(ctx, "disk-open", "snapshot-before", nil))
	r := d.driver.(*rbd)
	open := exec.Command("qemu-io", append([]string{"-c", "write -P 1 0 1M", "-c", "sleep 600000"}, r.opened("disk-open", nil)...)...)
	must(t, open.Start())
	eventually(t, "somebody has the volume open", func() bool { return errors.Is(r.unwatched(ctx, "disk-open"), hostlink.ErrUnavailable) })
	for what, err := range map[string]error{
		"grown": d.grow(ctx, "disk-open", 32<<20, nil), "rolled back": d.rollback(ctx, "disk-open", "snapshot-before", nil), "removed": d.remove(ctx, "disk-open"),
		"copied": d.duplicate(ctx, &pb.VolumeSpec{Id: "disk-copied", SourceVolume: "disk-open", SizeBytes: 16 << 20}),
	} {
		if !errors.Is(err, hostlink.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, d.snapshot(ctx, "disk-open", "snapshot-meanwhile", nil))
	must(t, d.duplicate(ctx, &pb.VolumeSpec{Id: "disk-copied", SourceVolume: "disk-open", SourceSnapshot: "snapshot-meanwhile", SizeBytes: 16 << 20}))
	must(t, d.removeSnapshot(ctx, "disk-open", "snapshot-meanwhile", nil))
	begun := time.Now()
	must(t, open.Process.Kill())
	_ = open.Wait() // by the signal
	eventually(t, "its watch is over", func() bool { return r.unwatched(ctx, "disk-open") == nil })
	t.Logf("the watch of a client that was killed is over after %s", time.Since(begun).Round(time.Second))
	must(t, d.rollback(ctx, "disk-open", "snapshot-before", nil))
	d.reads(t, "disk-open", nil, pattern{0, 0, 1})
	for _, id := range []string{"disk-open", "disk-copied"} {
		must(t, d.remove(ctx, id))
	}
}

// guestOnCeph is a guest whose system disk is a clone in the pool, with data disks there: plain, encrypted, shared.
func (e *engines) guestOnCeph(t *testing.T, h *Host, cluster *cephtest.Cluster) {
	ctx := t.Context()
	image, err := os.Open(os.Getenv(realImage))
	must(t, err)
	defer image.Close()
	digest := fileDigest(t, image)
	info, err := image.Stat()
	must(t, err)
	if _, err := h.PutImage(ctx, digest, info.Size(), image); err != nil {
		t.Fatal(err)
	}
	const vmID, password = "vm-ceph0000000000", "First.1"
	secret := []byte("a very secret passphrase")
	volume := func(id string, f func(s *pb.VolumeSpec)) {
		t.Helper()
		s := &pb.VolumeSpec{Id: id, SizeBytes: 64 << 20, Pool: poolID}
		f(s)
		worked(t, func() (*pb.Volume, error) {
			return h.EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Spec: s})
		})
	}
	begun := time.Now()
	volume("disk-system00000000", func(s *pb.VolumeSpec) { s.ImageDigest, s.SizeBytes = digest, 128<<20 })
	t.Logf("the image is in the pool, and a clone of it, after %s", time.Since(begun).Round(time.Millisecond))
	volume("disk-plain000000000", func(*pb.VolumeSpec) {})
	volume("disk-secret00000000", func(s *pb.VolumeSpec) { s.Secret = secret })
	volume("disk-shared00000000", func(s *pb.VolumeSpec) { s.Raw = true })

	spec := &pb.DomainSpec{
		Id: vmID, Uuid: "0d6f4a52-8c1e-4b57-9a34-6f1d2e3c4b5c", Cpus: 1, MemoryMib: 192,
		Disks: []*pb.DomainDisk{{VolumeId: "disk-system00000000", Target: "vda", BootOrder: 1, Pool: poolID}},
		Seed:  &pb.Seed{InstanceId: vmID, Hostname: "guest-ceph", LoginUser: "root", HashedPassword: crypt(t, password)},
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
	run := func(command string) string { t.Helper(); return e.inGuest(h, vmID, password, command) }
	begun = time.Now()
	ensure()
	e.console(vmID, 1, "GUEST-READY guest-ceph")
	t.Logf("a guest is ready from the pool after %s", time.Since(begun).Round(100*time.Millisecond))
	if strings.Contains(e.sh("virsh", "dumpxml", "--security-info", vmID), cluster.Key) {
		t.Error("the key is in the definition")
	}
	args, err := os.ReadFile("/proc/" + e.qemu(vmID) + "/cmdline")
	must(t, err)
	if bytes.Contains(args, []byte(cluster.Key)) || bytes.Contains(args, secret) {
		t.Error("the key is in QEMU's arguments")
	}

	spec.Disks = append(spec.Disks,
		&pb.DomainDisk{VolumeId: "disk-plain000000000", Target: "vdb", Pool: poolID, Limits: &pb.DiskLimits{TotalIops: 500}},
		&pb.DomainDisk{VolumeId: "disk-secret00000000", Target: "vdc", Pool: poolID, Secret: secret},
		&pb.DomainDisk{VolumeId: "disk-shared00000000", Target: "vdd", Pool: poolID, Shared: true})
	if d := ensure(); len(d.Volumes) != 4 || !slices.Contains(d.Volumes, "disk-secret00000000") {
		t.Errorf("the domain has %v", d.Volumes)
	}
	if out := e.sh("virsh", "blkdeviotune", vmID, "vdb"); !strings.Contains(out, "total_iops_sec : 500") {
		t.Errorf("limits: %s", out)
	}
	// The seed is between the system disk and what is plugged in: the guest knows disks by their serial numbers.
	device := func(id string) string {
		t.Helper()
		name := ""
		eventually(t, "the guest has "+id, func() bool {
			out := run("for d in /sys/block/vd*; do grep -q " + diskSerial(id) + " $d/serial && echo IS=${d##*/}=; done")
			if at := strings.LastIndex(out, "IS=vd"); at >= 0 {
				name, _, _ = strings.Cut(out[at+3:], "=")
			}
			return name != ""
		})
		return name
	}
	has := func(id, text string) {
		t.Helper()
		if out := run("echo GOT $(head -c 12 /dev/" + device(id) + ")"); !strings.Contains(out, "GOT "+text) {
			t.Errorf("%s: %q", id, out)
		}
	}
	write := func(id, text string) {
		t.Helper()
		run("echo '" + text + "' | dd of=/dev/" + device(id) + " bs=512 conv=sync,fsync 2>/dev/null")
	}
	for _, id := range []string{"disk-plain000000000", "disk-secret00000000", "disk-shared00000000"} {
		write(id, "words on it!")
		has(id, "words on it!")
	}
	if b := cluster.RBD(t, "export", "--no-progress", "disk-secret00000000", "-"); strings.Contains(b, "words on it!") {
		t.Error("the pool shows what is on an encrypted disk")
	}

	// Live: a snapshot, growth, and what was written after the snapshot.
	snapshot := func(volume, id string) *pb.Volume {
		t.Helper()
		return worked(t, func() (*pb.Volume, error) {
			return h.EnsureSnapshot(ctx, &pb.EnsureSnapshotRequest{Fence: &pb.Fence{Epoch: 1}, VolumeId: volume, Id: id, Pool: poolID})
		})
	}
	begun = time.Now()
	v := snapshot("disk-plain000000000", "snapshot-live000000")
	t.Logf("a snapshot under the guest took %s, frozen: %v", time.Since(begun).Round(time.Millisecond), v.Frozen)
	if !v.Frozen {
		t.Error("the guest's file systems were not at rest")
	}
	write("disk-plain000000000", "other words.")
	for id, key := range map[string][]byte{"disk-plain000000000": nil, "disk-secret00000000": secret} {
		name := device(id)
		volume(id, func(s *pb.VolumeSpec) { s.SizeBytes, s.Secret = 96<<20, key })
		eventually(t, id+" has grown for the guest", func() bool { return strings.Contains(run("echo SIZE=$(cat /sys/block/"+name+"/size)"), "SIZE=196608") })
	}
	if _, err := h.RollbackVolume(ctx, &pb.RollbackVolumeRequest{Fence: &pb.Fence{Epoch: 1}, VolumeId: "disk-plain000000000", SnapshotId: "snapshot-live000000", Pool: poolID}); !errors.Is(err, hostlink.ErrInvalid) {
		t.Errorf("rolling back under a guest: %v", err)
	}
	if _, err := h.RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Id: "disk-plain000000000", Pool: poolID}); !errors.Is(err, hostlink.ErrInvalid) {
		t.Errorf("removing under a guest: %v", err)
	}

	// Away from the guest it is rolled back, with its size, and comes again.
	system := spec.Disks[:1]
	all := spec.Disks
	spec.Disks = system
	eventually(t, "the guest let go of its disks", func() bool { return len(ensure().Volumes) == 1 })
	back := worked(t, func() (*pb.Volume, error) {
		return h.RollbackVolume(ctx, &pb.RollbackVolumeRequest{Fence: &pb.Fence{Epoch: 1}, VolumeId: "disk-plain000000000", SnapshotId: "snapshot-live000000", Pool: poolID})
	})
	if back.SizeBytes != 96<<20 {
		t.Fatalf("rolled back: %v", back)
	}
	spec.Disks = all
	ensure()
	has("disk-plain000000000", "words on it!")
	has("disk-secret00000000", "words on it!")

	// libvirt forgets keys when it restarts; the guest runs on, and starts again.
	e.kill("libvirtd")
	e.libvirtd()
	spec.Power = pb.Power_POWER_OFF
	eventually(t, "it is off", func() bool { return ensure().State == pb.DomainState_DOMAIN_STATE_STOPPED })
	var export *pb.Export
	eventually(t, "an image is made of the system disk", func() bool {
		export, err = h.ExportVolume(ctx, &pb.ExportVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Id: "image-ceph0000000000", VolumeId: "disk-system00000000", Pool: poolID})
		if errors.Is(err, hostlink.ErrUnavailable) {
			return false
		}
		must(t, err)
		return export.State != pb.ExportState_EXPORT_STATE_RUNNING
	})
	if export.State != pb.ExportState_EXPORT_STATE_DONE || export.VirtualBytes != 128<<20 {
		t.Errorf("%v", export)
	}
	spec.Power = pb.Power_POWER_RUNNING
	ensure()
	e.console(vmID, 2, "GUEST-READY guest-ceph")

	if _, err := h.RemoveDomain(ctx, &pb.RemoveDomainRequest{Fence: &pb.Fence{Epoch: 1, Generation: generation}, Id: vmID}); err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		eventually(t, d.VolumeId+" is removed", func() bool {
			_, err := h.RemoveVolume(context.WithoutCancel(ctx), &pb.RemoveVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Id: d.VolumeId, Pool: poolID})
			return err == nil
		})
	}
	if _, err := h.RemoveImage(ctx, &pb.RemoveImageRequest{Fence: &pb.Fence{Epoch: 1}, Digest: digest}); err != nil {
		t.Error(err)
	}
	eventually(t, "the pool is empty", func() bool { return strings.TrimSpace(cluster.RBD(t, "ls")) == "" })
	if list, err := h.List(ctx, &pb.ListRequest{}); err != nil || len(list.Volumes) != 0 {
		t.Errorf("%v %v", list, err)
	}
}
