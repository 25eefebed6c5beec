package host

import "libvirt.org/go/libvirtxml"

// archARM is the architecture of hosts, and of their guests, that are no PCs.
const archARM = "aarch64"

// onARM turns a definition into one of a 64-bit ARM machine: everything that differs from a PC, but that it has no SATA.
func onARM(x *libvirtxml.Domain, set settings) {
	x.OS.Type.Arch, x.OS.Type.Machine = archARM, "virt"
	x.Features.APIC, x.Features.GIC = nil, &libvirtxml.DomainFeatureGIC{Version: "3"}
	cpu := &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none"} // there are no models to choose from
	if set.virtType == VirtQEMU {
		cpu.Mode = "maximum"
	}
	if x.CPU != nil {
		cpu.Numa = x.CPU.Numa
	}
	x.CPU = cpu
	x.Clock.Timer = nil
	x.PM = nil

	d, zero := x.Devices, uint(0)
	d.Controllers = append(d.Controllers, libvirtxml.DomainController{Type: "usb", Index: &zero, Model: "qemu-xhci"})
	d.Serials[0].Target = &libvirtxml.DomainSerialTarget{Type: "system-serial", Port: &zero, Model: &libvirtxml.DomainSerialTargetModel{Name: "pl011"}}
	d.Videos = []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "virtio", Heads: 1, Primary: "yes"}}}
	d.Inputs = append(d.Inputs, libvirtxml.DomainInput{Type: "keyboard", Bus: "usb"})
}
