package host

import (
	"context"
	"fmt"

	libvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// Processors, memory and media of a running guest. Processors and memory only grow while a guest runs: what is
// taken away holds from its next start, when all of its memory is one piece again.
const (
	// memorySlots is how often memory can be plugged in between two starts.
	memorySlots = 16
	// memoryBlock is what a guest's kernel takes in at once, in MiB.
	memoryBlock = 128
)

// cdromSlots are the drives of every guest: their bus takes no new ones while it runs.
var cdromSlots = []string{"sda", "sdb"}

// plugCompute makes a running guest have the processors, memory and media that its specification names.
func (h *Host) plugCompute(l *libvirt.Libvirt, d *domain, spec *pb.DomainSpec) error {
	live, err := domainXML(l, d.dom, 0)
	if err != nil {
		return virtError(err)
	}
	if err := plugCPUs(l, d.dom, live, spec); err != nil {
		return err
	}
	if err := plugMemory(l, d.dom, live, spec); err != nil {
		return err
	}
	return h.changeMedia(l, d.dom, live, spec)
}

func plugCPUs(l *libvirt.Libvirt, dom libvirt.Domain, live *libvirtxml.Domain, spec *pb.DomainSpec) error {
	have := liveCPUs(live)
	if spec.Cpus <= have || live.VCPU == nil || spec.Cpus > uint32(live.VCPU.Value) {
		return nil
	}
	if err := l.DomainSetVcpusFlags(dom, spec.Cpus, uint32(libvirt.DomainVCPULive)); err != nil {
		return virtError(err)
	}
	if agentConnected(live) {
		// Most guests take new ones into use by themselves; the agent of those that do not is told. What it
		// cannot do changes nothing: the processors are there.
		_ = l.DomainSetVcpusFlags(dom, spec.Cpus, uint32(libvirt.DomainVCPUGuest))
	}
	return nil
}

func plugMemory(l *libvirt.Libvirt, dom libvirt.Domain, live *libvirtxml.Domain, spec *pb.DomainSpec) error {
	have := liveMemory(live)
	if spec.MemoryMib <= have || live.MaximumMemory == nil || spec.MemoryMib > toMiB(live.MaximumMemory.Value, live.MaximumMemory.Unit) {
		return nil
	}
	more := spec.MemoryMib - have
	if more%memoryBlock != 0 {
		return fmt.Errorf("%w: memory grows by multiples of %d MiB, not by %d", hostlink.ErrInvalid, memoryBlock, more)
	}
	node := uint(0)
	text, err := (&libvirtxml.DomainMemorydev{Model: "dimm", Target: &libvirtxml.DomainMemorydevTarget{
		Size: &libvirtxml.DomainMemorydevTargetSize{Value: uint(more), Unit: "MiB"},
		Node: &libvirtxml.DomainMemorydevTargetNode{Value: node},
	}}).Marshal()
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	return virtError(l.DomainAttachDeviceFlags(dom, text, uint32(libvirt.DomainAffectLive)))
}

// changeMedia inserts and takes out discs. A guest that was born without drives gets them at its next start.
func (h *Host) changeMedia(l *libvirt.Libvirt, dom libvirt.Domain, live *libvirtxml.Domain, spec *pb.DomainSpec) error {
	wanted, err := h.cdroms(spec)
	if err != nil || live.Devices == nil {
		return err
	}
	for _, have := range live.Devices.Disks {
		if have.Device != "cdrom" || have.Target == nil {
			continue
		}
		path := ""
		if have.Source != nil && have.Source.File != nil {
			path = have.Source.File.File
		}
		for _, want := range wanted {
			if want.Target.Dev != have.Target.Dev || want.Source == nil && path == "" || want.Source != nil && want.Source.File.File == path {
				continue
			}
			want.Boot = nil // stays as the guest was started, and where the drive is
			want.Target.Bus, want.Address = have.Target.Bus, have.Address
			text, err := want.Marshal()
			if err != nil {
				return fmt.Errorf("host: %w", err)
			}
			if err := l.DomainUpdateDeviceFlags(dom, text, libvirt.DomainDeviceModifyLive|libvirt.DomainDeviceModifyForce); err != nil {
				return virtError(err)
			}
		}
	}
	return nil
}

// cdroms are the drives of a domain with what is in them.
func (h *Host) cdroms(spec *pb.DomainSpec) ([]libvirtxml.DomainDisk, error) {
	var out []libvirtxml.DomainDisk
	for i, slot := range cdromSlots {
		drive := libvirtxml.DomainDisk{
			Device:   "cdrom",
			Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
			Target:   &libvirtxml.DomainDiskTarget{Dev: slot, Bus: "sata"},
			ReadOnly: &libvirtxml.DomainDiskReadOnly{},
		}
		if h.arch == archARM || !spec.SataDrives {
			onSCSI(&drive, i)
		}
		for _, c := range spec.Cdroms {
			if c.Slot != slot {
				continue
			}
			path, format, _, err := h.image(c.ImageDigest)
			if err != nil {
				return nil, err
			}
			if format != "raw" {
				return nil, fmt.Errorf("%w: image %s is no disc", hostlink.ErrInvalid, c.ImageDigest)
			}
			drive.Source = &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path, SecLabel: unlabelled()}}
			drive.BackingStore = &libvirtxml.DomainDiskBackingStore{}
			if c.BootOrder > 0 {
				drive.Boot = &libvirtxml.DomainDeviceBoot{Order: uint(c.BootOrder)}
			}
		}
		out = append(out, drive)
	}
	return out, nil
}

// discUser finds the domain that has an image in a drive, in its definition or while it runs; empty: none.
func (h *Host) discUser(ctx context.Context, path string) (string, error) {
	l, err := h.virt.get(ctx)
	if err != nil {
		return "", err
	}
	doms, _, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive|libvirt.ConnectListDomainsInactive)
	if err != nil {
		return "", virtError(err)
	}
	for _, dom := range doms {
		for _, flags := range []libvirt.DomainXMLFlags{0, libvirt.DomainXMLInactive} {
			x, err := domainXML(l, dom, flags)
			if libvirt.IsNotFound(err) {
				continue
			}
			if err != nil {
				return "", virtError(err)
			}
			if x.Devices == nil {
				continue
			}
			for _, d := range x.Devices.Disks {
				if d.Device == "cdrom" && d.Source != nil && d.Source.File != nil && d.Source.File.File == path {
					return dom.Name, nil
				}
			}
		}
	}
	return "", nil
}

// liveCPUs and liveMemory are what a running guest has.
func liveCPUs(x *libvirtxml.Domain) uint32 {
	switch {
	case x.VCPU == nil:
		return 0
	case x.VCPU.Current > 0:
		return uint32(x.VCPU.Current)
	}
	return uint32(x.VCPU.Value)
}

func liveMemory(x *libvirtxml.Domain) uint64 {
	if x.Memory == nil {
		return 0
	}
	return toMiB(x.Memory.Value, x.Memory.Unit)
}

// toMiB converts what libvirt answers: KiB unless it says otherwise.
func toMiB(value uint, unit string) uint64 {
	switch unit {
	case "MiB":
		return uint64(value)
	case "GiB":
		return uint64(value) << 10
	}
	return uint64(value) >> 10
}

// growable lets processors and memory be plugged into a guest while it runs.
func growable(x *libvirtxml.Domain, s *pb.DomainSpec) {
	if s.MaxCpus > s.Cpus {
		x.VCPU.Current, x.VCPU.Value = uint(s.Cpus), uint(s.MaxCpus)
	}
	if s.MaxMemoryMib <= s.MemoryMib {
		return
	}
	x.MaximumMemory = &libvirtxml.DomainMaxMemory{Value: uint(s.MaxMemoryMib), Unit: "MiB", Slots: memorySlots}
	// Plugged memory needs a node to belong to.
	if x.CPU == nil {
		x.CPU = &libvirtxml.DomainCPU{}
	}
	id := uint(0)
	x.CPU.Numa = &libvirtxml.DomainNuma{Cell: []libvirtxml.DomainCell{{
		ID: &id, CPUs: fmt.Sprintf("0-%d", max(s.MaxCpus, s.Cpus)-1), Memory: uint(s.MemoryMib), Unit: "MiB",
	}}}
}
