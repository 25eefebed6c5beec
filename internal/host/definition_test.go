package host

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", name, got)
	}
}

// sample is a specification that is right in everything.
func sample() *pb.DomainSpec {
	return &pb.DomainSpec{
		Id: "vm-abcdefghijklmn", Uuid: "0d6f4a52-8c1e-4b57-9a34-6f1d2e3c4b5a", Cpus: 2, MemoryMib: 1024,
		Disks: []*pb.DomainDisk{
			{VolumeId: "disk-aaaaaaaaaaaaaa", Target: "vda", BootOrder: 1},
			{VolumeId: "disk-bbbbbbbbbbbbbb", Target: "vdb"},
		},
		Nics: []*pb.DomainNIC{{PortUuid: "5f2d4c6e-3b1a-4f7e-9c55-0a1b2c3d4e5f", Mac: "52:54:00:12:34:56", Mtu: 1442, PortId: "nic-aaaaaaaaaaaaaa"}},
		Seed: &pb.Seed{InstanceId: "vm-abcdefghijklmn", Hostname: "web-1", LoginUser: "debian",
			HashedPassword: "$6$saltsaltsalt$" + strings.Repeat("a", 86), SshKeys: []string{"ssh-ed25519 AAAAC3Nz ann: <a&b>"},
			MountData: "/dev/vdb"},
		Power: pb.Power_POWER_RUNNING,
	}
}

func sampleSettings(virtType, datapath string) settings {
	return settings{
		virtType: virtType, datapath: datapath, bridge: "br-int",
		seed: "/data/seeds/vm-abcdefghijklmn.iso", console: "/data/consoles/vm-abcdefghijklmn.log",
		disks: []libvirtxml.DomainDisk{
			volumeDisk(sample().Disks[0], fileDisk("/data/volumes/disk-aaaaaaaaaaaaaa.qcow2", "qcow2", "/data/images/0123.qcow2"), "none"),
			volumeDisk(sample().Disks[1], fileDisk("/data/volumes/disk-bbbbbbbbbbbbbb.qcow2", "qcow2", ""), "none"),
		},
		marker: marker{ID: "vm-abcdefghijklmn", Generation: 3, Restart: 1, Spec: "5bec"},
	}
}

// TestPoolDisksAreNotCached: a host whose own directory needs the page cache hides nothing of a shared disk from other hosts' guests.
func TestPoolDisksAreNotCached(t *testing.T) {
	r := &rbd{pool: "vms", user: "lingyun", monitors: []string{"10.0.0.1"}}
	inPool, err := r.disk(t.Context(), "disk-bbbbbbbbbbbbbb")
	if err != nil {
		t.Fatal(err)
	}
	for want, at := range map[string]libvirtxml.DomainDisk{"none": inPool, "writeback": fileDisk("/data/volumes/disk-bbbbbbbbbbbbbb.qcow2", "qcow2", "")} {
		if d := volumeDisk(sample().Disks[1], at, "writeback"); d.Driver.Cache != want {
			t.Errorf("cached %q, not %q", d.Driver.Cache, want)
		}
	}
}

// armSettings are of a host that is no PC, with its drives.
func armSettings(t *testing.T, virtType string) settings {
	t.Helper()
	set := sampleSettings(virtType, DatapathSystem)
	set.arch = archARM
	var err error
	if set.cdroms, err = (&Host{arch: archARM}).cdroms(sample()); err != nil {
		t.Fatal(err)
	}
	return set
}

func TestDefinition(t *testing.T) {
	for name, set := range map[string]settings{
		"domain-aarch64-kvm.xml": armSettings(t, VirtKVM),
		"domain-aarch64-tcg.xml": armSettings(t, VirtQEMU),
		"domain-tcg-netdev.xml":  sampleSettings(VirtQEMU, DatapathNetdev),
		"domain-kvm-system.xml":  sampleSettings(VirtKVM, DatapathSystem),
	} {
		x, err := define(sample(), set)
		if err != nil {
			t.Fatal(err)
		}
		text, err := x.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, text+"\n")
		again := &libvirtxml.Domain{}
		if err := again.Unmarshal(text); err != nil {
			t.Fatal(err)
		}
		m := readMarker(again)
		if m == nil || m.Generation != 3 || m.Restart != 1 || m.Spec != "5bec" {
			t.Errorf("the marker reads back as %+v", m)
		}
	}
}

// TestSpice: a guest has SPICE beside VNC where its host does, on a socket of its own, and loses it with all that came with it.
func TestSpice(t *testing.T) {
	set := sampleSettings(VirtQEMU, DatapathNetdev)
	set.spice = true
	x, err := define(sample(), set)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, `<graphics type="vnc"`) || !strings.Contains(text, `<graphics type="spice"`) || strings.Count(text, `<listen type="socket"`) != 2 {
		t.Errorf("defined as %s", text)
	}
	live := &libvirtxml.Domain{}
	if err := live.Unmarshal(`<domain><devices><graphics type='spice'><listen type='socket' socket='/run/spice.sock'/></graphics></devices></domain>`); err != nil {
		t.Fatal(err)
	}
	if got := spiceSocket(live); got != "/run/spice.sock" {
		t.Errorf("its socket is %q", got)
	}
	x.Devices.Audios = []libvirtxml.DomainAudio{{ID: 1, SPICE: &libvirtxml.DomainAudioSPICE{}}}
	if !dropSpice(x) || dropSpice(x) || len(x.Devices.Graphics) != 1 || x.Devices.Graphics[0].VNC == nil || len(x.Devices.Audios) != 0 {
		t.Errorf("without SPICE: %v and %v", x.Devices.Graphics, x.Devices.Audios)
	}
}

// TestARM: nothing of a PC is left, whatever the specification has, and the machine's version stays.
func TestARM(t *testing.T) {
	spec := sample()
	spec.MaxCpus, spec.MaxMemoryMib, spec.Seed = 8, 8192, nil
	set := armSettings(t, VirtKVM)
	set.seed = ""
	set.previous = &libvirtxml.Domain{OS: &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Machine: "virt-7.2"}}}
	x, err := define(spec, set)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"x86", "q35", "isa-", "vga", "sata", "apic", "hpet", "suspend", `current="`} {
		if strings.Contains(text, part) {
			t.Errorf("it has %q", part)
		}
	}
	for _, part := range []string{`machine="virt-7.2"`, `firmware="efi"`, `cpus="0-1"`, `model="virtio-scsi"`} {
		if !strings.Contains(text, part) {
			t.Errorf("it has no %q", part)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestDrives: discs are where kernels of clouds find them, or on SATA for who knows nothing else; a drive keeps its place while its
// bus is the same.
func TestDrives(t *testing.T) {
	place := func(spec *pb.DomainSpec, previous *libvirtxml.Domain) (*libvirtxml.Domain, string) {
		t.Helper()
		set := sampleSettings(VirtQEMU, DatapathNetdev)
		set.seed, set.previous = "", previous
		var err error
		if set.cdroms, err = (&Host{}).cdroms(spec); err != nil {
			t.Fatal(err)
		}
		x, err := define(spec, set)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, c := range x.Devices.Controllers {
			if c.Type == "scsi" {
				text += c.Model + " "
			}
		}
		for _, d := range x.Devices.Disks {
			if d.Device != "cdrom" {
				continue
			}
			text += d.Target.Dev + "=" + d.Target.Bus
			if d.Address != nil {
				text += fmt.Sprint(*d.Address.Drive.Unit)
			}
			text += " "
		}
		return x, text
	}
	spec, windows := sample(), sample()
	windows.SataDrives = true
	_, text := place(spec, nil)
	if text != "virtio-scsi sda=scsi1 sdb=scsi2 " {
		t.Errorf("drives %s", text)
	}
	before, text := place(windows, nil)
	if text != "sda=sata sdb=sata " {
		t.Errorf("drives of SATA %s", text)
	}
	for i := range before.Devices.Disks { // as libvirt places them
		unit := uint(i)
		before.Devices.Disks[i].Address = &libvirtxml.DomainAddress{Drive: &libvirtxml.DomainAddressDrive{Unit: &unit}}
	}
	if _, text = place(windows, before); text != "sda=sata2 sdb=sata3 " {
		t.Errorf("defined again, drives of SATA %s", text)
	}
	if _, text = place(spec, before); text != "virtio-scsi sda=scsi1 sdb=scsi2 " {
		t.Errorf("drives that were of SATA %s", text)
	}
}

// A guest of UEFI may start whatever it has, not only what Microsoft signed.
func TestFirmware(t *testing.T) {
	spec := sample()
	spec.Uefi = true
	x, err := define(spec, sampleSettings(VirtQEMU, DatapathNetdev))
	if err != nil {
		t.Fatal(err)
	}
	text, err := x.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`<os firmware="efi">`, `<feature enabled="no" name="secure-boot">`, `<feature enabled="no" name="enrolled-keys">`} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in\n%s", part, text)
		}
	}
}

// Somebody else's metadata, or our marker in another domain's, is not ours.
func TestMarkerOfOthers(t *testing.T) {
	for _, text := range []string{
		"", "<a/>", `<domain id="vm-a"/>`, `<domain xmlns="http://example.org/" id="vm-a"/>`,
		`<domain xmlns="` + markerNamespace + `" id="vm-b" generation="1" restart="0" spec=""/>`,
		`<domain xmlns="` + markerNamespace + `" id="vm-a" generation="many"/>`, `<domain xmlns="` + markerNamespace + `"`,
	} {
		if m := readMarker(&libvirtxml.Domain{Name: "vm-a", Metadata: &libvirtxml.DomainMetadata{XML: text}}); m != nil {
			t.Errorf("%q counts as ours: %+v", text, m)
		}
	}
	both := `<x xmlns="http://example.org/"><domain xmlns="` + markerNamespace + `" id="vm-a" generation="9" restart="0" spec=""/></x>` +
		`<domain xmlns="` + markerNamespace + `" id="vm-a" generation="1" restart="0" spec=""/>`
	if m := readMarker(&libvirtxml.Domain{Name: "vm-a", Metadata: &libvirtxml.DomainMetadata{XML: both}}); m == nil || m.Generation != 1 {
		t.Errorf("beside another's: %+v", m)
	}
}

// What a definition leaves in place when it is replaced.
func TestHardwareStays(t *testing.T) {
	old, err := define(sample(), sampleSettings(VirtQEMU, DatapathNetdev))
	if err != nil {
		t.Fatal(err)
	}
	old.OS.Type.Machine = "pc-q35-7.2"
	bus := uint(4)
	old.Devices.Interfaces[0].Address = &libvirtxml.DomainAddress{PCI: &libvirtxml.DomainAddressPCI{Bus: &bus}}
	old.Devices.Disks[0].Address = &libvirtxml.DomainAddress{PCI: &libvirtxml.DomainAddressPCI{Bus: &bus}}
	spec := sample()
	spec.Disks[0].Target, spec.Disks[1].Target = "vdc", "vda" // the second takes the first's place
	set := sampleSettings(VirtQEMU, DatapathNetdev)
	set.previous = old
	for i, d := range spec.Disks {
		set.disks[i].Target.Dev = d.Target
	}
	x, err := define(spec, set)
	if err != nil {
		t.Fatal(err)
	}
	if x.OS.Type.Machine != "pc-q35-7.2" {
		t.Errorf("the machine became %s", x.OS.Type.Machine)
	}
	if a := x.Devices.Interfaces[0].Address; a == nil || *a.PCI.Bus != 4 {
		t.Error("the interface moved")
	}
	if x.Devices.Disks[0].Address != nil || x.Devices.Disks[1].Address == nil {
		t.Error("addresses go by target")
	}
}

func TestSpecificationsThatAreRefused(t *testing.T) {
	if err := checkSpec(sample()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*pb.DomainSpec){
		"an id with a path":            func(s *pb.DomainSpec) { s.Id = "../../etc/passwd" },
		"an id that is an option":      func(s *pb.DomainSpec) { s.Id = "-rf" },
		"an id with XML":               func(s *pb.DomainSpec) { s.Id = "vm-<a>" },
		"a long id":                    func(s *pb.DomainSpec) { s.Id = "vm-" + strings.Repeat("a", 100) },
		"no uuid":                      func(s *pb.DomainSpec) { s.Uuid = "" },
		"the nil uuid":                 func(s *pb.DomainSpec) { s.Uuid = "00000000-0000-0000-0000-000000000000" },
		"no processor":                 func(s *pb.DomainSpec) { s.Cpus = 0 },
		"too many processors":          func(s *pb.DomainSpec) { s.Cpus = 1 << 20 },
		"no memory":                    func(s *pb.DomainSpec) { s.MemoryMib = 0 },
		"a volume with a path":         func(s *pb.DomainSpec) { s.Disks[0].VolumeId = "disk-/../x" },
		"a target that is no letter":   func(s *pb.DomainSpec) { s.Disks[0].Target = "vda/../x" },
		"the seed's target":            func(s *pb.DomainSpec) { s.Disks[0].Target = "vdz" },
		"one target twice":             func(s *pb.DomainSpec) { s.Disks[1].Target = "vda" },
		"a multicast MAC":              func(s *pb.DomainSpec) { s.Nics[0].Mac = "01:00:5e:00:00:01" },
		"no MAC":                       func(s *pb.DomainSpec) { s.Nics[0].Mac = "" },
		"one MAC twice":                func(s *pb.DomainSpec) { s.Nics = append(s.Nics, s.Nics[0]) },
		"a port that is no uuid":       func(s *pb.DomainSpec) { s.Nics[0].PortUuid = "nic-a" },
		"an MTU of 1":                  func(s *pb.DomainSpec) { s.Nics[0].Mtu = 1 },
		"a processor mode":             func(s *pb.DomainSpec) { s.CpuMode = "host-model'/>" },
		"a power":                      func(s *pb.DomainSpec) { s.Power = 9 },
		"a host name with a line":      func(s *pb.DomainSpec) { s.Seed.Hostname = "a\nruncmd: [x]" },
		"a user with a line":           func(s *pb.DomainSpec) { s.Seed.LoginUser = "a\nb" },
		"a password in the clear":      func(s *pb.DomainSpec) { s.Seed.HashedPassword = "secret" },
		"a key of two lines":           func(s *pb.DomainSpec) { s.Seed.SshKeys = []string{"ssh-rsa A\nB"} },
		"much user data":               func(s *pb.DomainSpec) { s.Seed.UserData = make([]byte, 1<<20+1) },
		"a device with a path":         func(s *pb.DomainSpec) { s.Seed.MountData = "/dev/vdb; reboot" },
		"a network that is no YAML":    func(s *pb.DomainSpec) { s.Seed.NetworkConfig = "\t- {" },
		"an instance id with a line":   func(s *pb.DomainSpec) { s.Seed.InstanceId = "a\nb" },
		"more disks than there can be": func(s *pb.DomainSpec) { s.Disks = make([]*pb.DomainDisk, 30) },
	} {
		s := sample()
		change(s)
		err := checkSpec(s)
		if !errors.Is(err, hostlink.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the message shows it: %v", name, err)
		}
	}
}

func TestSpecDigest(t *testing.T) {
	h := &Host{conf: Config{Bridge: "br-int"}, virtType: VirtKVM}
	digest := func(change func(*pb.DomainSpec)) string {
		s := proto.CloneOf(sample())
		change(s)
		d, err := h.specDigest(s, DatapathSystem)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := digest(func(*pb.DomainSpec) {})
	if base != digest(func(s *pb.DomainSpec) { s.Power = pb.Power_POWER_OFF; s.RestartSerial = 9 }) {
		t.Error("power and restarts are no part of the definition")
	}
	if base == digest(func(s *pb.DomainSpec) { s.Seed.HashedPassword = "" }) || base == digest(func(s *pb.DomainSpec) { s.Nics[0].Mtu = 1400 }) {
		t.Error("a changed definition has the same digest")
	}
}

func TestChassisArguments(t *testing.T) {
	c := Chassis{ID: "host-a", Southbound: "ssl:192.0.2.1:6642,ssl:[2001:db8::1]:6642", EncapIP: "192.0.2.9", Datapath: DatapathNetdev,
		Mappings: map[string]string{"provider": "br-ex", "backup": "br-backup"}, Key: "/k", Certificate: "/c", CA: "/a"}
	args, err := c.arguments()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "chassis.txt", strings.Join(args, "\n")+"\n")
	least, err := Chassis{ID: "host-a"}.arguments()
	if err != nil || slices.Contains(least, "add-br") || slices.Contains(least, "set-ssl") {
		t.Errorf("%v %v", least, err)
	}
	for name, change := range map[string]func(*Chassis){
		"no id":              func(c *Chassis) { c.ID = "" },
		"an id that sets":    func(c *Chassis) { c.ID = `a" other="b` },
		"a remote":           func(c *Chassis) { c.Southbound = "ssl:192.0.2.1:6642 evil" },
		"an address":         func(c *Chassis) { c.EncapIP = "192.0.2.1,evil=1" },
		"a datapath":         func(c *Chassis) { c.Datapath = "dpdk" },
		"a bridge":           func(c *Chassis) { c.Mappings = map[string]string{"a": "--may-exist"} },
		"a network":          func(c *Chassis) { c.Mappings = map[string]string{"a:b,c": "br-ex"} },
		"the bridge itself":  func(c *Chassis) { c.Mappings = map[string]string{"a": "br-int"} },
		"a long bridge name": func(c *Chassis) { c.Bridge = "br-0123456789abcdef" },
	} {
		bad := c
		change(&bad)
		if _, err := bad.arguments(); err == nil {
			t.Errorf("taken: %s", name)
		}
	}
}

func TestPoorConfigurations(t *testing.T) {
	for _, c := range []Config{
		{}, {Dir: t.TempDir()}, {HostID: "host-a"},
		{Dir: t.TempDir(), HostID: "host-a", VirtType: "xen"}, {Dir: t.TempDir(), HostID: "host-a", VirtType: VirtQEMU, Datapath: "dpdk"},
	} {
		if h, err := New(c); err == nil {
			h.Close()
			t.Errorf("taken: %+v", c)
		}
	}
}

// Without libvirt and Open vSwitch the agent starts, says so, and answers that it cannot.
func TestWithoutEngines(t *testing.T) {
	h, err := New(Config{Dir: t.TempDir(), HostID: "host-a", VirtType: VirtQEMU, LibvirtSocket: "/nonexistent/sock",
		OVSDB: "unix:/nonexistent/db.sock", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	r, err := h.Health(t.Context(), &pb.HealthRequest{Epoch: 3})
	if err != nil || r.HostId != "host-a" || r.Cpus == 0 || r.MemoryMib == 0 || r.DiskBytes == 0 || r.BootTime == 0 || r.VirtType != VirtQEMU {
		t.Fatalf("%v %v", r, err)
	}
	var parts []string
	for _, p := range r.Problems {
		parts = append(parts, p.Part)
	}
	for _, part := range []string{"libvirt", "openvswitch"} {
		if !slices.Contains(parts, part) {
			t.Errorf("%s is away and not named: %v", part, parts)
		}
	}
	if _, err := h.Health(t.Context(), &pb.HealthRequest{Epoch: 2}); !errors.Is(err, hostlink.ErrFenced) {
		t.Errorf("an older leader's health call: %v", err)
	}
	if _, err := h.EnsureDomain(t.Context(), &pb.EnsureDomainRequest{Fence: &pb.Fence{Epoch: 3, Generation: 1}, Spec: sample()}); !errors.Is(err, hostlink.ErrUnavailable) {
		t.Errorf("a domain without libvirt: %v", err)
	}
}
