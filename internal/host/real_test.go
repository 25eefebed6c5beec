package host

// Proof on the real engines. The test runs itself again in namespaces of its
// own (mounts, network, host name, processes): libvirtd, virtlogd and Open
// vSwitch start there, guests boot there, and when the last process of it ends
// the kernel ends everything else. Nothing of the machine is touched.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lingyun-cloud/lingyun/internal/guest"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// realDir, in the environment, tells the second run where its files are; realImage the guest's image.
const (
	realDir   = "LINGYUN_REAL_DIR"
	realImage = "LINGYUN_REAL_IMAGE"
)

func TestReal(t *testing.T) { alone(t, "^TestInside$", 4*time.Minute) }

// alone runs a test of this binary in namespaces of its own, for so long at most.
func alone(t *testing.T, name string, limit time.Duration) {
	if os.Getenv(realDir) != "" {
		t.Skip("this is the run inside")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if testing.Short() {
		t.Skip("boots guests")
	}
	for _, program := range []string{"libvirtd", "virtlogd", "ovs-vswitchd", "ovsdb-server", "qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	cache, err := filepath.Abs("../../.cache/guest") // shared with the image builder's own tests
	if err != nil {
		t.Fatal(err)
	}
	image, err := guest.Build(t.Context(), "tiny", guest.Options{Cache: cache, Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lyh") // short: unix sockets are below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	// The shell is process 1 in there, and reaps QEMU, which libvirt hands to it.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `"$@"; exit $?`, "sh",
		os.Args[0], "-test.run="+name, "-test.v", "-test.timeout="+(limit-10*time.Second).String())
	cmd.Env = append(os.Environ(), realDir+"="+dir, realImage+"="+image.Path)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Setpgid:    true,
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// engines are the daemons inside, and where their files are.
type engines struct {
	t       *testing.T
	dir     string
	daemons map[string]*exec.Cmd
}

// TestInside is TestReal's other half.
func TestInside(t *testing.T) {
	dir := os.Getenv(realDir)
	if dir == "" {
		t.Skip("runs inside TestReal")
	}
	e := &engines{t: t, dir: dir, daemons: map[string]*exec.Cmd{}}
	e.furnish()
	defer e.stopAll()
	e.startAll()

	image, err := os.Open(os.Getenv(realImage))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	info, err := image.Stat()
	if err != nil {
		t.Fatal(err)
	}
	digest := fileDigest(t, image)

	h := e.agent()
	closed := false
	defer func() {
		if !closed {
			h.Close()
		}
	}()
	ctx := t.Context()

	t.Run("image", func(t *testing.T) {
		wrong := strings.Repeat("0", 64)
		if _, err := h.PutImage(ctx, wrong, info.Size(), image); !errors.Is(err, hostlink.ErrInvalid) {
			t.Fatalf("an image of another digest: %v", err)
		}
		if _, err := image.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		got, err := h.PutImage(ctx, digest, info.Size(), image)
		if err != nil || !got.Present {
			t.Fatalf("%v %v", got, err)
		}
		list, err := os.ReadDir(filepath.Join(e.data(), "images"))
		if err != nil || len(list) != 1 {
			t.Fatalf("images: %v %v", list, err)
		}
		if i, _ := list[0].Info(); i.Mode().Perm() != 0o444 || list[0].Name() != digest+".qcow2" {
			t.Fatalf("the golden image is %s %v", list[0].Name(), i.Mode())
		}
	})

	const vmID, diskID, portUUID = "vm-abcdefghijklmn", "disk-abcdefghijklmn", "5f2d4c6e-3b1a-4f7e-9c55-0a1b2c3d4e5f"
	spec := &pb.DomainSpec{
		Id: vmID, Uuid: "0d6f4a52-8c1e-4b57-9a34-6f1d2e3c4b5a", Cpus: 1, MemoryMib: 192,
		Disks: []*pb.DomainDisk{{VolumeId: diskID, Target: "vda", BootOrder: 1}},
		Nics:  []*pb.DomainNIC{{PortUuid: portUUID, Mac: "52:54:00:12:34:56", Mtu: 1442, PortId: "nic-abcdefghijklmn"}},
		Seed: &pb.Seed{InstanceId: vmID, Hostname: "walking-guest", LoginUser: "root",
			HashedPassword: "$6$saltsaltsalt$" + strings.Repeat("a", 86), UserData: []byte("#!/bin/sh\necho hello\n")},
		Power: pb.Power_POWER_RUNNING,
	}
	fenced := func(g uint64) *pb.Fence { return &pb.Fence{Epoch: 7, Generation: g, Operation: "op-test"} }
	watch := e.watch(h)
	// A call that takes too long is to be repeated, as the controller does.
	ensure := func(r *pb.EnsureDomainRequest) (*pb.Domain, error) {
		for deadline := time.Now().Add(time.Minute); ; {
			d, err := h.EnsureDomain(ctx, r)
			if !errors.Is(err, hostlink.ErrUnavailable) || time.Now().After(deadline) {
				return d, err
			}
		}
	}

	t.Run("boot", func(t *testing.T) {
		if _, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(1), Spec: spec}); !errors.Is(err, hostlink.ErrNotFound) {
			t.Fatalf("a domain without its volume: %v", err)
		}
		v, err := h.EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: fenced(1), Spec: &pb.VolumeSpec{Id: diskID, ImageDigest: digest, SizeBytes: 128 << 20}})
		if err != nil || v.SizeBytes != 128<<20 {
			t.Fatalf("%v %v", v, err)
		}
		begun := time.Now()
		d, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(2), Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("defined and started in %s: %v", time.Since(begun).Round(time.Millisecond), d)
		e.console(vmID, 1, "GUEST-READY walking-guest")
		t.Logf("ready after %s", time.Since(begun).Round(time.Millisecond))
		watch.until("running, with its agent", func(d *pb.Domain) bool {
			return d.Id == vmID && d.State == pb.DomainState_DOMAIN_STATE_RUNNING && d.AgentConnected
		})
		list, err := h.List(ctx, &pb.ListRequest{})
		if err != nil || len(list.Domains) != 1 || len(list.Volumes) != 1 || len(list.Images) != 1 || !slices.Equal(list.Ports, []string{portUUID}) {
			t.Fatalf("%v %v", list, err)
		}
		if list.Domains[0].Generation != 2 || list.Volumes[0].Generation != 1 {
			t.Fatalf("generations: %v", list)
		}
	})

	t.Run("spice", func(t *testing.T) { testSpice(t, h, vmID) })

	t.Run("a repeated call changes nothing", func(t *testing.T) {
		before := e.define(vmID)
		begun := time.Now()
		if _, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(2), Spec: spec}); err != nil {
			t.Fatal(err)
		}
		t.Logf("a repeated call takes %s", time.Since(begun).Round(time.Millisecond))
		if after := e.define(vmID); after != before {
			t.Fatalf("the definition changed:\n%s\n%s", before, after)
		}
	})

	t.Run("the password leaves the seed", func(t *testing.T) {
		seed := filepath.Join(e.data(), "seeds", vmID+".iso")
		eventually(t, "the seed has no password", func() bool {
			b, err := os.ReadFile(seed)
			return err == nil && !bytes.Contains(b, []byte("$6$")) && bytes.Contains(b, []byte("walking-guest"))
		})
		if i, err := os.Stat(seed); err != nil || i.Mode().Perm() != 0o400 {
			t.Fatalf("the seed's mode: %v %v", i, err)
		}
	})

	t.Run("a running volume grows and stays", func(t *testing.T) {
		v, err := h.EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: fenced(2), Spec: &pb.VolumeSpec{Id: diskID, ImageDigest: digest, SizeBytes: 256 << 20}})
		if err != nil || v.SizeBytes != 256<<20 {
			t.Fatalf("%v %v", v, err)
		}
		if _, err := h.EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: fenced(2), Spec: &pb.VolumeSpec{Id: diskID, SizeBytes: 128 << 20}}); !errors.Is(err, hostlink.ErrInvalid) {
			t.Fatalf("shrinking: %v", err)
		}
		if _, err := h.RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: fenced(2), Id: diskID}); !errors.Is(err, hostlink.ErrInvalid) {
			t.Fatalf("removing a volume in use: %v", err)
		}
		if _, err := h.RemoveImage(ctx, &pb.RemoveImageRequest{Fence: fenced(0), Digest: digest}); !errors.Is(err, hostlink.ErrInvalid) {
			t.Fatalf("removing an image in use: %v", err)
		}
	})

	t.Run("restart", func(t *testing.T) {
		spec.RestartSerial = 5
		d, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(3), Spec: spec})
		if err != nil || d.State != pb.DomainState_DOMAIN_STATE_STARTING || d.RestartSerial != 0 {
			t.Fatalf("%v %v", d, err)
		}
		watch.until("restarted", func(d *pb.Domain) bool {
			return d.RestartSerial == 5 && d.State == pb.DomainState_DOMAIN_STATE_RUNNING
		})
		e.console(vmID, 2, "GUEST-READY walking-guest")
		if d, err = ensure(&pb.EnsureDomainRequest{Fence: fenced(3), Spec: spec}); err != nil || d.State != pb.DomainState_DOMAIN_STATE_RUNNING {
			t.Fatalf("asked again after the restart: %v %v", d, err)
		}
	})

	t.Run("the guest outlives agent and libvirtd", func(t *testing.T) {
		pid := e.qemu(vmID)
		watch.stop()
		h.Close()
		e.kill("libvirtd")
		h = e.agent() // while libvirtd is away
		health, err := h.Health(ctx, &pb.HealthRequest{})
		if err != nil || !slices.ContainsFunc(health.Problems, func(p *pb.Problem) bool { return p.Part == "libvirt" }) {
			t.Fatalf("libvirtd is dead and health says %v %v", health, err)
		}
		watch = e.watch(h)
		e.libvirtd()
		watch.until("running, told again", func(d *pb.Domain) bool {
			return d.Id == vmID && d.State == pb.DomainState_DOMAIN_STATE_RUNNING && d.RestartSerial == 5
		})
		e.kill("libvirtd")
		e.libvirtd()
		eventually(t, "the agent is connected again", func() bool {
			list, err := h.List(ctx, &pb.ListRequest{})
			return err == nil && len(list.Domains) == 1 && list.Domains[0].State == pb.DomainState_DOMAIN_STATE_RUNNING
		})
		if now := e.qemu(vmID); now != pid {
			t.Fatalf("QEMU was %s and is %s", pid, now)
		}
		if _, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(2), Spec: spec}); !errors.Is(err, hostlink.ErrFenced) {
			t.Fatalf("an older generation after the agent's restart: %v", err)
		}
		if _, err := h.EnsureDomain(ctx, &pb.EnsureDomainRequest{Fence: &pb.Fence{Epoch: 6, Generation: 9}, Spec: spec}); !errors.Is(err, hostlink.ErrFenced) {
			t.Fatalf("an older epoch after the agent's restart: %v", err)
		}
	})

	t.Run("shut down, asked while it boots", func(t *testing.T) {
		spec.Power = pb.Power_POWER_OFF
		d, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(4), Spec: spec})
		if err != nil || d.State != pb.DomainState_DOMAIN_STATE_STOPPED {
			t.Fatalf("power off: %v %v", d, err)
		}
		if list, err := h.List(ctx, &pb.ListRequest{}); err != nil || len(list.Ports) != 0 {
			t.Fatalf("ports of a guest that is off: %v %v", list, err)
		}
		spec.Power = pb.Power_POWER_RUNNING
		if d, err = ensure(&pb.EnsureDomainRequest{Fence: fenced(5), Spec: spec}); err != nil {
			t.Fatal(err)
		}
		spec.Power = pb.Power_POWER_SHUTDOWN
		d, err = ensure(&pb.EnsureDomainRequest{Fence: fenced(6), Spec: spec})
		if err != nil || d.State != pb.DomainState_DOMAIN_STATE_STOPPING {
			t.Fatalf("shutdown of a guest that boots: %v %v", d, err)
		}
		// The agent ends in the middle and takes it up again.
		watch.stop()
		h.Close()
		h = e.agent()
		watch = e.watch(h)
		watch.until("off", func(d *pb.Domain) bool { return d.Id == vmID && d.State == pb.DomainState_DOMAIN_STATE_STOPPED })
		if d, err = ensure(&pb.EnsureDomainRequest{Fence: fenced(6), Spec: spec}); err != nil || d.State != pb.DomainState_DOMAIN_STATE_STOPPED {
			t.Fatalf("asked again: %v %v", d, err)
		}
	})

	t.Run("changed while off", func(t *testing.T) {
		if _, err := h.EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: fenced(1), Spec: &pb.VolumeSpec{Id: "disk-second00000000", SizeBytes: 64 << 20}}); err != nil {
			t.Fatal(err)
		}
		before := addresses(t, e.define(vmID))
		spec.Disks = append([]*pb.DomainDisk{{VolumeId: "disk-second00000000", Target: "vdb"}}, spec.Disks...)
		spec.MemoryMib = 160
		spec.Power = pb.Power_POWER_RUNNING
		d, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(7), Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		after := addresses(t, e.define(vmID))
		for device, address := range before {
			if after[device] != address {
				t.Errorf("%s was at %s and is at %s", device, address, after[device])
			}
		}
		if after["vdb"] == "" {
			t.Errorf("the new disk has no place: %v", after)
		}
		t.Logf("running at %s", time.Now())
		e.console(vmID, 4, "GUEST-READY walking-guest") // boots: first, restart, cut short before ready or not, this one
		_ = d
	})

	t.Run("a guest with SPICE starts where that went", func(t *testing.T) {
		modules, err := filepath.Glob("/usr/lib/*/qemu/ui-spice-core.so")
		if err != nil || len(modules) != 1 {
			t.Skipf("QEMU has SPICE built in, or not: %v %v", modules, err)
		}
		if err := unix.Mount("/dev/null", modules[0], "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(modules[0], 0)
		for _, power := range []pb.Power{pb.Power_POWER_OFF, pb.Power_POWER_RUNNING, pb.Power_POWER_RUNNING} {
			spec.Power = power
			d, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(7), Spec: spec})
			if want := map[bool]pb.DomainState{true: pb.DomainState_DOMAIN_STATE_RUNNING, false: pb.DomainState_DOMAIN_STATE_STOPPED}[power == pb.Power_POWER_RUNNING]; err != nil || d.State != want {
				t.Fatalf("%s: %v %v", power, d, err)
			}
		}
		if c, err := h.Console(ctx, vmID, pb.ConsoleKind_CONSOLE_KIND_SPICE); !errors.Is(err, hostlink.ErrInvalid) {
			t.Errorf("%v %v", c, err)
		}
		if definition := e.define(vmID); strings.Contains(definition, "spice") || !strings.Contains(definition, "type='vnc'") {
			t.Errorf("defined as %s", definition)
		}
	})

	t.Run("a QEMU that hangs is ended", func(t *testing.T) {
		pid, err := strconv.Atoi(e.qemu(vmID))
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer unix.Kill(pid, unix.SIGCONT)
		spec.Power = pb.Power_POWER_SHUTDOWN
		if d, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(8), Spec: spec}); err != nil || d.State != pb.DomainState_DOMAIN_STATE_STOPPING {
			t.Fatalf("asked to shut down: %v %v", d, err)
		}
		spec.Power = pb.Power_POWER_OFF
		eventually(t, "it is off", func() bool {
			d, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(8), Spec: spec})
			return err == nil && d.State == pb.DomainState_DOMAIN_STATE_STOPPED
		})
	})

	t.Run("removed", func(t *testing.T) {
		foreign := strings.ReplaceAll(strings.ReplaceAll(e.define(vmID), vmID, "vm-somebodyelse000"), spec.Uuid, "11111111-2222-4333-8444-555555555555")
		e.virshDefine(regexp.MustCompile(`(?s)<metadata>.*</metadata>`).ReplaceAllString(foreign, ""))
		if _, err := h.RemoveDomain(ctx, &pb.RemoveDomainRequest{Fence: fenced(1), Id: "vm-somebodyelse000"}); !errors.Is(err, hostlink.ErrInvalid) {
			t.Fatalf("removing somebody else's domain: %v", err)
		}
		if list, err := h.List(ctx, &pb.ListRequest{}); err != nil || len(list.Domains) != 1 {
			t.Fatalf("somebody else's domain is listed: %v %v", list, err)
		}
		e.sh("virsh", "undefine", "vm-somebodyelse000")

		for range 2 { // the second time there is nothing to do
			if _, err := h.RemoveDomain(ctx, &pb.RemoveDomainRequest{Fence: fenced(8), Id: vmID}); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{diskID, "disk-second00000000"} {
				if _, err := h.RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: fenced(8), Id: id}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := h.RemoveImage(ctx, &pb.RemoveImageRequest{Fence: fenced(0), Digest: digest}); err != nil {
				t.Fatal(err)
			}
		}
		watch.until("absent", func(d *pb.Domain) bool { return d.Id == vmID && d.State == pb.DomainState_DOMAIN_STATE_ABSENT })
		if _, err := ensure(&pb.EnsureDomainRequest{Fence: fenced(7), Spec: spec}); !errors.Is(err, hostlink.ErrFenced) {
			t.Fatalf("a delayed call brings a removed domain back: %v", err)
		}
		for _, d := range []string{"images", "volumes", "seeds", "consoles"} {
			left, err := os.ReadDir(filepath.Join(e.data(), d))
			if err != nil || len(left) != 0 {
				t.Errorf("%s holds %v %v", d, left, err)
			}
		}
		if left := strings.TrimSpace(e.sh("virsh", "list", "--all", "--name")); left != "" {
			t.Errorf("domains are left: %s", left)
		}
		if left := e.sh("ovs-vsctl", "list-ports", "br-int"); strings.TrimSpace(left) != "" {
			t.Errorf("ports are left: %s", left)
		}
		if left := e.sh("ip", "-o", "link"); strings.Contains(left, "vnet") {
			t.Errorf("taps are left: %s", left)
		}
		if left, _ := filepath.Glob("/var/lib/libvirt/qemu/channel/target/*"); len(left) != 0 {
			t.Errorf("sockets are left: %v", left)
		}
	})
	watch.stop()
	h.Close()
	closed = true
}

func (e *engines) data() string { return filepath.Join(e.dir, "agent") }

func (e *engines) agent() *Host {
	e.t.Helper()
	h, err := New(Config{Dir: e.data(), HostID: "host-test0000000000", VirtType: VirtQEMU, Version: "test",
		Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err != nil {
		e.t.Fatal(err)
	}
	h.deliverAfter = time.Second
	return h
}

// furnish makes the room: directories of its own over those that the daemons write to.
func (e *engines) furnish() {
	must := func(err error) {
		e.t.Helper()
		if err != nil {
			e.t.Fatal(err)
		}
	}
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("proc", "/proc", "proc", 0, ""))
	must(unix.Mount("sysfs", "/sys", "sysfs", 0, ""))
	must(unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"))
	for _, d := range []string{"lock", "libvirt", "openvswitch"} {
		must(os.MkdirAll(filepath.Join("/run", d), 0o755))
	}
	// libvirt asks QEMU anew for its abilities, a second for each device of each definition, as long as its
	// own user may not open a /dev/kvm that QEMU could open when it was asked as root.
	if info, err := os.Stat("/dev/kvm"); err == nil {
		must(unix.Mknod("/run/kvm", unix.S_IFCHR|0o666, int(info.Sys().(*syscall.Stat_t).Rdev)))
		must(os.Chmod("/run/kvm", 0o666))
		must(unix.Mount("/run/kvm", "/dev/kvm", "", unix.MS_BIND, ""))
	}
	must(unix.Sethostname([]byte("lingyun-test")))
	for _, path := range []string{"/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/etc/openvswitch", "/var/lib/openvswitch", "/var/log/openvswitch"} {
		own := filepath.Join(e.dir, "root", path)
		must(os.MkdirAll(own, 0o755))
		must(os.MkdirAll(path, 0o755))
		must(unix.Mount(own, path, "", unix.MS_BIND, ""))
	}
	for _, d := range []string{"/var/lib/libvirt/qemu", "/var/lib/libvirt/images", "/var/log/libvirt/qemu"} {
		must(os.MkdirAll(d, 0o755))
	}
	must(os.WriteFile("/etc/libvirt/qemu.conf", []byte("cgroup_controllers = []\nnamespaces = []\nsecurity_driver = \"none\"\nstdio_handler = \"logd\"\nremember_owner = 0\n"), 0o644))
	must(os.WriteFile("/etc/libvirt/libvirtd.conf", []byte("auth_unix_rw = \"none\"\nunix_sock_rw_perms = \"0700\"\n"), 0o644))
	must(os.WriteFile("/etc/libvirt/virtlogd.conf", nil, 0o644))
}

func (e *engines) startAll() {
	e.sh("ip", "link", "set", "lo", "up")
	e.sh("ovsdb-tool", "create", "/etc/openvswitch/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
	e.start("ovsdb-server", "--no-chdir", "--remote=punix:/run/openvswitch/db.sock", "-vconsole:off", "/etc/openvswitch/conf.db")
	eventually(e.t, "ovsdb-server", func() bool { return exec.Command("ovs-vsctl", "--timeout=2", "--no-wait", "init").Run() == nil })
	e.start("ovs-vswitchd", "--no-chdir", "-vconsole:off")
	if err := ConfigureChassis(e.t.Context(), Chassis{ID: "host-test0000000000", Southbound: "tcp:127.0.0.1:6642", EncapIP: "127.0.0.1", Datapath: DatapathNetdev}); err != nil {
		e.t.Fatal(err)
	}
	e.start("virtlogd")
	e.libvirtd()
}

func (e *engines) libvirtd() {
	e.t.Helper()
	e.start("libvirtd")
	eventually(e.t, "libvirtd", func() bool { return exec.Command("virsh", "--quiet", "version", "--daemon").Run() == nil })
}

func (e *engines) start(program string, args ...string) {
	e.t.Helper()
	log, err := os.Create(filepath.Join(e.dir, program+".log"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.daemons[program] = cmd
}

// kill ends a daemon as a crash would.
func (e *engines) kill(program string) {
	e.t.Helper()
	if err := e.daemons[program].Process.Kill(); err != nil {
		e.t.Fatal(err)
	}
	_ = e.daemons[program].Wait() // by the signal
	delete(e.daemons, program)
}

func (e *engines) stopAll() {
	for _, cmd := range e.daemons {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if e.t.Failed() {
		for _, program := range []string{"libvirtd", "virtlogd", "ovs-vswitchd"} {
			b, _ := os.ReadFile(filepath.Join(e.dir, program+".log"))
			e.t.Logf("%s: %s", program, b[max(0, len(b)-3000):])
		}
	}
}

func (e *engines) sh(program string, args ...string) string {
	e.t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		e.t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}

func (e *engines) define(id string) string {
	e.t.Helper()
	return e.sh("virsh", "dumpxml", "--inactive", id)
}

func (e *engines) virshDefine(text string) {
	e.t.Helper()
	path := filepath.Join(e.dir, "foreign.xml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.sh("virsh", "define", path)
}

// qemu is the process of a guest, as its pid file says.
func (e *engines) qemu(id string) string {
	e.t.Helper()
	b, err := os.ReadFile("/run/libvirt/qemu/" + id + ".pid")
	if err != nil {
		e.t.Fatal(err)
	}
	pid := strings.TrimSpace(string(b))
	if _, err := os.Stat("/proc/" + pid); err != nil {
		e.t.Fatalf("QEMU %s is gone", pid)
	}
	return pid
}

// console waits until the guest said something on its serial port at least n times.
func (e *engines) console(id string, n int, text string) {
	e.t.Helper()
	path := filepath.Join(e.data(), "consoles", id+".log")
	if !poll(90*time.Second, func() bool {
		b, _ := os.ReadFile(path)
		return bytes.Count(b, []byte(text)) >= n
	}) {
		b, _ := os.ReadFile(path)
		e.t.Fatalf("%q did not come %d times on the serial port:\n%s", text, n, b[max(0, len(b)-3000):])
	}
}

// watching collects what Watch tells.
type watching struct {
	t      *testing.T
	events chan *pb.Domain
	stop   func()
}

func (e *engines) watch(h *Host) *watching {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{t: e.t, events: make(chan *pb.Domain, 1000)}
	done := make(chan struct{})
	w.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		_ = h.Watch(ctx, &pb.WatchRequest{}, func(ev *pb.Event) { w.events <- ev.Domain })
	}()
	return w
}

func (w *watching) until(what string, ok func(*pb.Domain) bool) {
	w.t.Helper()
	limit := time.After(90 * time.Second)
	var seen []string
	for {
		select {
		case d := <-w.events:
			seen = append(seen, fmt.Sprint(d))
			if ok(d) {
				return
			}
		case <-limit:
			w.t.Fatalf("never %s; events: %s", what, strings.Join(seen, "\n"))
		}
	}
}
