package host

import (
	"errors"
	"slices"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
)

// spiceGraphic serves SPICE on a socket in libvirt's own directory, as VNC is.
func spiceGraphic() libvirtxml.DomainGraphic {
	return libvirtxml.DomainGraphic{Spice: &libvirtxml.DomainGraphicSpice{
		Listeners: []libvirtxml.DomainGraphicListener{{Socket: &libvirtxml.DomainGraphicListenerSocket{}}},
	}}
}

const spiceProbeName = "lingyun-spice-probe"

// spiceProbe is a domain of nothing but SPICE. It is not ours to who lists: it bears no marker.
func (h *Host) spiceProbe() *libvirtxml.Domain {
	x := &libvirtxml.Domain{
		Type:   h.virtType,
		Name:   spiceProbeName,
		Memory: &libvirtxml.DomainMemory{Value: 16, Unit: "MiB"},
		OS:     &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"}},
		Devices: &libvirtxml.DomainDeviceList{
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			Graphics:    []libvirtxml.DomainGraphic{spiceGraphic()},
			Videos:      []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga"}}},
			MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "none"},
		},
	}
	if h.arch == archARM {
		x.OS.Type.Arch, x.OS.Type.Machine = archARM, "virt"
		x.Devices.Videos[0].Model.Type = "virtio"
	}
	return x
}

// probeSpice finds out whether guests can have SPICE: by starting one that has, and that never runs. What libvirt and QEMU
// say of themselves is no answer: both know SPICE where the module for it is not installed. A libvirtd that never saw this
// QEMU asks it for its abilities meanwhile, for many seconds: so guests wait for the first probe.
func (h *Host) probeSpice(l *libvirt.Libvirt) bool {
	h.spiceProbing.Lock()
	defer h.spiceProbing.Unlock()
	defer h.askOnce.Do(func() { close(h.asked) })
	begun := time.Now()
	text, err := h.spiceProbe().Marshal()
	if err == nil {
		// It goes with the connection, but one that libvirtd forgot when it was killed would stand in the way for good.
		if left, err := l.DomainLookupByName(spiceProbeName); err == nil {
			_ = l.DomainDestroyFlags(left, 0)
		}
		var dom libvirt.Domain
		if dom, err = l.DomainCreateXML(text, libvirt.DomainStartPaused|libvirt.DomainStartAutodestroy); err == nil {
			if err := l.DomainDestroyFlags(dom, 0); err != nil {
				h.log.Warn("the probe of SPICE goes with the connection", "error", err)
			}
		}
	}
	if errors.Is(virtError(err), hostlink.ErrUnavailable) { // libvirtd went, which says nothing
		return h.spice.Load()
	}
	h.spice.Store(err == nil)
	h.log.Info("guests were probed for SPICE", "have", err == nil, "took", time.Since(begun).Round(time.Millisecond), "error", err)
	return err == nil
}

// start starts a guest. One that was defined with SPICE starts without where that went since.
func (h *Host) start(l *libvirt.Libvirt, dom libvirt.Domain) error {
	failed := l.DomainCreate(dom)
	if failed == nil {
		return nil
	}
	x, err := domainXML(l, dom, libvirt.DomainXMLInactive|libvirt.DomainXMLSecure)
	if err != nil || !dropSpice(x) || h.probeSpice(l) {
		return virtError(failed)
	}
	text, err := x.Marshal()
	if err != nil {
		return virtError(failed)
	}
	if dom, err = l.DomainDefineXMLFlags(text, 0); err != nil {
		return virtError(err)
	}
	return virtError(l.DomainCreate(dom))
}

// dropSpice takes SPICE out of a definition, and what libvirt added for it; false: there is none.
func dropSpice(x *libvirtxml.Domain) bool {
	if x.Devices == nil {
		return false
	}
	n := len(x.Devices.Graphics)
	x.Devices.Graphics = slices.DeleteFunc(x.Devices.Graphics, func(g libvirtxml.DomainGraphic) bool { return g.Spice != nil })
	x.Devices.Audios = slices.DeleteFunc(x.Devices.Audios, func(a libvirtxml.DomainAudio) bool { return a.SPICE != nil })
	return len(x.Devices.Graphics) < n
}

// spiceSocket is where QEMU serves SPICE to a running domain's users; empty for one that was started without.
func spiceSocket(x *libvirtxml.Domain) string {
	if x.Devices == nil {
		return ""
	}
	for _, g := range x.Devices.Graphics {
		if g.Spice == nil {
			continue
		}
		for _, at := range g.Spice.Listeners {
			if at.Socket != nil {
				return at.Socket.Socket
			}
		}
	}
	return ""
}
