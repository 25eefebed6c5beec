package host

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// Limits of a definition.
const (
	maxCPUs      = 512
	maxMemoryMiB = 16 << 20 // 16 TiB
	maxDisks     = 25       // vda ... vdy; vdz is the seed
	maxNICs      = 16
	// rootPorts are the PCIe slots a guest is born with: what it has and what is plugged in later.
	rootPorts = 20
	// seedTarget is the seed's drive, beside those of cdromSlots.
	seedTarget = "sdc"
	// tbCacheMiB bounds TCG's translation cache: 35 MiB less a guest than the default, no measurable loss.
	tbCacheMiB = 32
)

var (
	validTarget = regexp.MustCompile(`^vd[a-y]$`)
	guestAgent  = "org.qemu.guest_agent.0"
)

// checkSpec refuses what cannot be a domain, before anything is touched.
func checkSpec(s *pb.DomainSpec) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", hostlink.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if err := checkID("domain", s.GetId()); err != nil {
		return err
	}
	if id, err := uuid.Parse(s.Uuid); err != nil || id == uuid.Nil {
		return bad("uuid %q", s.Uuid)
	}
	if s.Cpus < 1 || s.Cpus > maxCPUs {
		return bad("%d processors", s.Cpus)
	}
	if s.MemoryMib < 32 || s.MemoryMib > maxMemoryMiB {
		return bad("%d MiB of memory", s.MemoryMib)
	}
	if len(s.Disks) > maxDisks || len(s.Nics) > maxNICs {
		return bad("%d disks and %d network interfaces", len(s.Disks), len(s.Nics))
	}
	if s.MaxCpus > maxCPUs || s.MaxMemoryMib > maxMemoryMiB {
		return bad("at most %d processors and %d MiB of memory", s.MaxCpus, s.MaxMemoryMib)
	}
	if s.CpuMode != "" && s.CpuMode != "host-passthrough" {
		return bad("processor mode %q", s.CpuMode)
	}
	if s.Power < pb.Power_POWER_UNSPECIFIED || s.Power > pb.Power_POWER_OFF {
		return bad("power %d", s.Power)
	}
	targets := map[string]bool{}
	for _, d := range s.Disks {
		if err := checkID("volume", d.VolumeId); err != nil {
			return err
		}
		if !validTarget.MatchString(d.Target) || targets[d.Target] {
			return bad("disk target %q", d.Target)
		}
		targets[d.Target] = true
		if len(d.Secret) > maxSecret {
			return bad("a passphrase of %d bytes", len(d.Secret))
		}
		if t := d.Limits; t != nil && (t.TotalIops > 0 && t.ReadIops+t.WriteIops > 0 || t.TotalBytes > 0 && t.ReadBytes+t.WriteBytes > 0) {
			return bad("disk %s is limited in total and in parts", d.Target)
		}
	}
	for _, c := range s.Cdroms {
		if !slices.Contains(cdromSlots, c.Slot) || targets[c.Slot] {
			return bad("drive %q", c.Slot)
		}
		targets[c.Slot] = true
		if err := checkDigest(c.ImageDigest); err != nil {
			return err
		}
	}
	macs := map[string]bool{}
	for _, n := range s.Nics {
		mac, err := net.ParseMAC(n.Mac)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 || macs[mac.String()] {
			return bad("MAC address %q", n.Mac)
		}
		macs[mac.String()] = true
		if _, err := uuid.Parse(n.PortUuid); err != nil {
			return bad("port %q", n.PortUuid)
		}
		if n.Mtu != 0 && (n.Mtu < 576 || n.Mtu > 65535) {
			return bad("MTU %d", n.Mtu)
		}
	}
	return checkSeed(s.Seed)
}

// markerNamespace is of our element in a domain's metadata. What bears it is ours, nothing else is
// ever listed or touched.
const markerNamespace = "https://github.com/lingyun-cloud/lingyun/domain/1"

// marker is what we remember of a domain in its own definition.
type marker struct {
	XMLName    xml.Name `xml:"https://github.com/lingyun-cloud/lingyun/domain/1 domain"`
	ID         string   `xml:"id,attr"`
	Generation uint64   `xml:"generation,attr"`
	// Restart is the restart serial applied last, Restarting the one being applied.
	Restart    uint64 `xml:"restart,attr"`
	Restarting uint64 `xml:"restarting,attr,omitempty"`
	// Stopping tells that the guest was asked to shut down.
	Stopping bool `xml:"stopping,attr,omitempty"`
	// Spec is the digest of what was defined, so that a repeated call changes nothing.
	Spec string `xml:"spec,attr"`
	// Password is the digest of the seed's password hash, Delivered of the one that the guest has taken
	// over already: the seed is written without it.
	Password  string `xml:"password,attr,omitempty"`
	Delivered string `xml:"delivered,attr,omitempty"`
}

// marker reads ours from a definition; nil when the domain is not ours.
func readMarker(x *libvirtxml.Domain) *marker {
	if x.Metadata == nil {
		return nil
	}
	d := xml.NewDecoder(strings.NewReader(x.Metadata.XML))
	for {
		token, err := d.Token()
		if err != nil {
			return nil
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if start.Name.Space != markerNamespace {
			if d.Skip() != nil {
				return nil
			}
			continue
		}
		m := &marker{}
		if d.DecodeElement(m, &start) != nil || m.ID != x.Name {
			return nil
		}
		return m
	}
}

func (m *marker) xml() (string, error) {
	b, err := xml.Marshal(m)
	return string(b), err
}

// specDigest is equal for equal definitions: everything but power and restarts.
func (h *Host) specDigest(s *pb.DomainSpec, datapath string) (string, error) {
	s = proto.CloneOf(s)
	s.Power = pb.Power_POWER_UNSPECIFIED
	s.RestartSerial = 0
	for _, d := range s.Disks {
		if len(d.Secret) > 0 {
			d.Secret = []byte{1} // the digest is kept where others read it
		}
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		return "", err
	}
	// A changed way of defining makes every domain be defined anew with its next call.
	sum := sha256.Sum256(append(b, "|9|"+fmt.Sprint(h.spice.Load())+"|"+h.virtType+"|"+datapath+"|"+h.conf.Bridge+"|"+h.conf.Dir...))
	return hex.EncodeToString(sum[:]), nil
}

// settings are what a definition needs beside the specification.
type settings struct {
	arch     string
	virtType string
	datapath string
	bridge   string
	seed     string // path; empty: none
	spice    bool   // the host has it
	console  string // path
	disks    []libvirtxml.DomainDisk
	cdroms   []libvirtxml.DomainDisk
	marker   marker
	previous *libvirtxml.Domain // the definition to be replaced; nil: none
}

// define builds the whole definition of a domain.
func define(s *pb.DomainSpec, set settings) (*libvirtxml.Domain, error) {
	metadata, err := set.marker.xml()
	if err != nil {
		return nil, err
	}
	if set.arch == archARM { // all of its processors are there from the start, and nothing but UEFI starts it
		s = proto.CloneOf(s)
		s.MaxCpus, s.Uefi, s.SataDrives = 0, true, false
	}
	x := &libvirtxml.Domain{
		Type:     set.virtType,
		Name:     s.Id,
		UUID:     s.Uuid,
		Metadata: &libvirtxml.DomainMetadata{XML: metadata},
		Memory:   &libvirtxml.DomainMemory{Value: uint(s.MemoryMib), Unit: "MiB"},
		VCPU:     &libvirtxml.DomainVCPU{Placement: "static", Value: uint(s.Cpus)},
		OS:       &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"}},
		Features: &libvirtxml.DomainFeatureList{
			ACPI: &libvirtxml.DomainFeature{},
			APIC: &libvirtxml.DomainFeatureAPIC{},
		},
		Clock: &libvirtxml.DomainClock{Offset: "utc", Timer: []libvirtxml.DomainTimer{
			{Name: "rtc", TickPolicy: "catchup"}, {Name: "pit", TickPolicy: "delay"}, {Name: "hpet", Present: "no"},
		}},
		OnPoweroff: "destroy",
		OnReboot:   "restart",
		OnCrash:    "destroy",
		PM: &libvirtxml.DomainPM{
			SuspendToMem:  &libvirtxml.DomainPMPolicy{Enabled: "no"},
			SuspendToDisk: &libvirtxml.DomainPMPolicy{Enabled: "no"},
		},
		Devices: &libvirtxml.DomainDeviceList{},
	}
	if s.Uefi {
		x.OS.Firmware = "efi"
		// Left to choose, libvirt takes a firmware that starts nothing but what Microsoft signed.
		x.OS.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{Features: []libvirtxml.DomainOSFirmwareFeature{
			{Enabled: "no", Name: "enrolled-keys"}, {Enabled: "no", Name: "secure-boot"},
		}}
	}
	switch {
	case set.virtType == VirtQEMU:
		x.Features.TCG = &libvirtxml.DomainFeatureTCG{TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: tbCacheMiB}}
	case s.CpuMode == "host-passthrough":
		x.CPU = &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none"}
	default:
		x.CPU = &libvirtxml.DomainCPU{Mode: "host-model", Check: "partial"}
	}

	growable(x, s)

	d := x.Devices
	for i := range rootPorts {
		index := uint(i + 1)
		d.Controllers = append(d.Controllers, libvirtxml.DomainController{Type: "pci", Model: "pcie-root-port", Index: &index})
	}
	d.Disks = append(d.Disks, set.disks...)
	if set.seed != "" || !s.SataDrives {
		d.Controllers = append(d.Controllers, driveController())
	}
	if set.seed != "" {
		d.Disks = append(d.Disks, seedDrive(set.seed))
	}
	d.Disks = append(d.Disks, set.cdroms...)
	for _, n := range s.Nics {
		d.Interfaces = append(d.Interfaces, networkInterface(n, set))
	}
	port := uint(0)
	d.Serials = []libvirtxml.DomainSerial{{
		Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
		Target: &libvirtxml.DomainSerialTarget{Type: "isa-serial", Port: &port},
		Log:    &libvirtxml.DomainChardevLog{File: set.console, Append: "on"},
	}}
	d.Channels = []libvirtxml.DomainChannel{{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: guestAgent}},
	}}
	// A socket in libvirt's own directory: nobody else on the host reaches a guest's screen.
	d.Graphics = []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{
		Listeners: []libvirtxml.DomainGraphicListener{{Socket: &libvirtxml.DomainGraphicListenerSocket{}}},
	}}}
	if set.spice {
		d.Graphics = append(d.Graphics, spiceGraphic())
	}
	d.Videos = []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga", VRam: 16384, Heads: 1, Primary: "yes"}}}
	d.Inputs = []libvirtxml.DomainInput{{Type: "tablet", Bus: "usb"}}
	d.RNGs = []libvirtxml.DomainRNG{{
		Model:   "virtio",
		Rate:    &libvirtxml.DomainRNGRate{Bytes: 65536, Period: 1000},
		Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
	}}
	d.MemBalloon = &libvirtxml.DomainMemBalloon{Model: "virtio", Stats: &libvirtxml.DomainMemBalloonStats{Period: 10}}
	if set.arch == archARM {
		onARM(x, set)
	}
	if set.previous != nil {
		keepHardware(x, set.previous)
	}
	return x, nil
}

// unlabelled keeps libvirt from handing the file to the guest's user: golden images stay the agent's.
func unlabelled() []libvirtxml.DomainDeviceSecLabel {
	return []libvirtxml.DomainDeviceSecLabel{{Model: "dac", Relabel: "no"}}
}

// diskSerial is what the guest sees under /dev/disk/by-id: virtio has room for 20 characters.
func diskSerial(volume string) string {
	if len(volume) > 20 {
		return volume[:20]
	}
	return volume
}

// driveController is one that kernels of clouds know, which often have no driver for the machine's own. Its slot is the
// last one.
func driveController() libvirtxml.DomainController {
	index, bus, zero := uint(0), uint(rootPorts), uint(0)
	return libvirtxml.DomainController{Type: "scsi", Model: "virtio-scsi", Index: &index,
		Address: &libvirtxml.DomainAddress{PCI: &libvirtxml.DomainAddressPCI{Domain: &zero, Bus: &bus, Slot: &zero, Function: &zero}}}
}

// seedDrive holds the seed as a disc, so that it takes no name from the guest's disks.
func seedDrive(path string) libvirtxml.DomainDisk {
	zero := uint(0)
	return libvirtxml.DomainDisk{
		Device:       "cdrom",
		Driver:       &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Source:       &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		BackingStore: &libvirtxml.DomainDiskBackingStore{},
		Target:       &libvirtxml.DomainDiskTarget{Dev: seedTarget, Bus: "scsi"},
		ReadOnly:     &libvirtxml.DomainDiskReadOnly{},
		Address:      &libvirtxml.DomainAddress{Drive: &libvirtxml.DomainAddressDrive{Controller: &zero, Bus: &zero, Target: &zero, Unit: &zero}},
	}
}

// onSCSI puts a drive of discs on the seed's controller, behind the seed.
func onSCSI(drive *libvirtxml.DomainDisk, slot int) {
	zero, unit := uint(0), uint(slot+1)
	drive.Target.Bus = "scsi"
	drive.Address = &libvirtxml.DomainAddress{Drive: &libvirtxml.DomainAddressDrive{Controller: &zero, Bus: &zero, Target: &zero, Unit: &unit}}
}

func networkInterface(n *pb.DomainNIC, set settings) libvirtxml.DomainInterface {
	out := libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: n.Mac},
		Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: set.bridge}},
		VirtualPort: &libvirtxml.DomainInterfaceVirtualPort{Params: &libvirtxml.DomainInterfaceVirtualPortParams{
			OpenVSwitch: &libvirtxml.DomainInterfaceVirtualPortParamsOpenVSwitch{InterfaceID: n.PortUuid},
		}},
		Model: &libvirtxml.DomainInterfaceModel{Type: "virtio"},
	}
	if n.BootOrder > 0 {
		out.Boot = &libvirtxml.DomainDeviceBoot{Order: uint(n.BootOrder)}
	} else {
		// No boot from the network: no option ROM either.
		out.ROM = &libvirtxml.DomainROM{Enabled: "no"}
	}
	if n.Mtu != 0 {
		out.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(n.Mtu)}
	}
	if set.datapath == DatapathNetdev {
		// The userspace datapath does not finish checksums and segments that a guest leaves
		// to its card: ping and DHCP work, TCP hangs.
		const off = "off"
		out.Driver = &libvirtxml.DomainInterfaceDriver{
			Host:  &libvirtxml.DomainInterfaceDriverHost{CSum: off, GSO: off, TSO4: off, TSO6: off, ECN: off, UFO: off},
			Guest: &libvirtxml.DomainInterfaceDriverGuest{CSum: off, TSO4: off, TSO6: off, ECN: off, UFO: off},
		}
	}
	return out
}

// keepHardware gives devices that stay the addresses they had, and the machine its version: a guest
// that loses a disk or gains a card finds the others where they were.
func keepHardware(x, old *libvirtxml.Domain) {
	if old.OS != nil && old.OS.Type != nil && strings.Contains(old.OS.Type.Machine, x.OS.Type.Machine) {
		x.OS.Type.Machine = old.OS.Type.Machine
	}
	if old.OS != nil && x.OS.Firmware == "efi" && old.OS.Firmware == "efi" {
		x.OS.NVRam = old.OS.NVRam
	}
	if old.Devices == nil {
		return
	}
	for i := range x.Devices.Disks {
		for _, o := range old.Devices.Disks {
			target := x.Devices.Disks[i].Target
			if o.Target != nil && o.Target.Dev == target.Dev && o.Target.Bus == target.Bus && o.Address != nil {
				x.Devices.Disks[i].Address = o.Address
			}
		}
	}
	for i := range x.Devices.Interfaces {
		for _, o := range old.Devices.Interfaces {
			if o.MAC != nil && strings.EqualFold(o.MAC.Address, x.Devices.Interfaces[i].MAC.Address) && o.Address != nil {
				x.Devices.Interfaces[i].Address = o.Address
			}
		}
	}
	// The single devices and the controllers.
	if len(old.Devices.RNGs) == 1 {
		x.Devices.RNGs[0].Address = old.Devices.RNGs[0].Address
	}
	if o := old.Devices.MemBalloon; o != nil {
		x.Devices.MemBalloon.Address = o.Address
	}
	if len(old.Devices.Videos) == 1 {
		x.Devices.Videos[0].Address = old.Devices.Videos[0].Address
	}
	if len(old.Devices.Controllers) >= len(x.Devices.Controllers) {
		controllers := slices.Clone(old.Devices.Controllers)
		for _, c := range x.Devices.Controllers {
			if !slices.ContainsFunc(controllers, func(o libvirtxml.DomainController) bool { return o.Type == c.Type }) {
				controllers = append(controllers, c)
			}
		}
		x.Devices.Controllers = controllers
	}
}

// interfaceIDs are the ports of a definition.
func interfaceIDs(x *libvirtxml.Domain) []string {
	var ids []string
	if x.Devices == nil {
		return nil
	}
	for _, n := range x.Devices.Interfaces {
		if n.VirtualPort != nil && n.VirtualPort.Params != nil && n.VirtualPort.Params.OpenVSwitch != nil {
			ids = append(ids, n.VirtualPort.Params.OpenVSwitch.InterfaceID)
		}
	}
	return ids
}

func (h *Host) consolePath(id string) string { return filepath.Join(h.conf.Dir, "consoles", id+".log") }
func (h *Host) seedPath(id string) string    { return filepath.Join(h.conf.Dir, "seeds", id+".iso") }

// bareSeedPath is the same seed without the password, for later.
func (h *Host) bareSeedPath(id string) string { return filepath.Join(h.conf.Dir, "seeds", id+".bare") }
