package host

import (
	"fmt"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// plugNICs makes a running guest have the interfaces that its specification names. A guest lets go of one in its own
// time: it is asked again with each call, and the domain's ports tell when it is gone.
func (h *Host) plugNICs(l *libvirt.Libvirt, d *domain, spec *pb.DomainSpec) error {
	live, err := domainXML(l, d.dom, 0)
	if err != nil {
		return virtError(err)
	}
	if live.Devices == nil {
		return nil
	}
	have := map[string]libvirtxml.DomainInterface{} // by port
	for _, x := range live.Devices.Interfaces {
		if id := interfaceID(x); id != "" {
			have[id] = x
		}
	}
	var missing []*pb.DomainNIC
	for _, n := range spec.Nics {
		if _, there := have[n.PortUuid]; !there {
			missing = append(missing, n)
		}
		delete(have, n.PortUuid)
	}
	if len(missing) > 0 {
		defined, err := domainXML(l, d.dom, libvirt.DomainXMLInactive)
		if err != nil {
			return virtError(err)
		}
		for _, n := range missing {
			if err := plugNIC(l, d.dom, defined, n); err != nil {
				return err
			}
		}
	}
	for id, x := range have {
		if x.Alias == nil {
			continue
		}
		if err := l.DomainDetachDeviceAlias(d.dom, x.Alias.Name, uint32(libvirt.DomainAffectLive)); err != nil && !libvirt.IsNotFound(err) {
			h.log.Debug("the guest was asked to let go of an interface", "domain", d.dom.Name, "port", id, "error", err)
		}
	}
	return nil
}

// plugNIC plugs an interface in as the definition has it, in the same slot, so that the guest finds it there after its
// next start; in any free slot when something that is going still sits there.
func plugNIC(l *libvirt.Libvirt, dom libvirt.Domain, defined *libvirtxml.Domain, n *pb.DomainNIC) error {
	for _, x := range defined.Devices.Interfaces {
		if interfaceID(x) != n.PortUuid || x.MAC == nil || !strings.EqualFold(x.MAC.Address, n.Mac) {
			continue
		}
		for {
			text, err := x.Marshal()
			if err != nil {
				return fmt.Errorf("host: %w", err)
			}
			err = l.DomainAttachDeviceFlags(dom, text, uint32(libvirt.DomainAffectLive))
			if err == nil || x.Address == nil {
				return virtError(err)
			}
			x.Address = nil
		}
	}
	return fmt.Errorf("host: %s has no interface for port %s", dom.Name, n.PortUuid)
}

// interfaceID is the port that an interface belongs to; empty: none of ours.
func interfaceID(x libvirtxml.DomainInterface) string {
	if x.VirtualPort == nil || x.VirtualPort.Params == nil || x.VirtualPort.Params.OpenVSwitch == nil {
		return ""
	}
	return x.VirtualPort.Params.OpenVSwitch.InterfaceID
}
