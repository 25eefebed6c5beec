package compute

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) settingActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "UpdateVMHostname", Module: "vm", Mutates: true, Extension: true,
			Summary: "Give a virtual machine another host name, from its next start or restart on."}, s.updateHostname),
		action.Define(action.Spec{Name: "UpdateVMDNS", Module: "vm", Mutates: true, Extension: true,
			Summary: "Give a virtual machine other DNS servers, from its next start or restart on."}, s.updateDNS),
		action.Define(action.Spec{Name: "UpdateVMHighAvailability", Module: "vm", Mutates: true, Extension: true,
			Summary: "Say whether a virtual machine that goes down by itself is started again."}, s.updateHA),
		action.Define(action.Spec{Name: "UpdateVMBootDevices", Module: "vm", Mutates: true, Extension: true,
			Summary: "Set the boot order of a virtual machine, from its next start on."}, s.updateBootDevices),
		action.Define(action.Spec{Name: "UpdateVMUserData", Module: "vm", Mutates: true, Extension: true,
			Summary: "Replace the cloud-init data of a stopped virtual machine."}, s.updateUserData),
		action.Define(action.Spec{Name: "UpdateVMCPUMode", Module: "vm", Mutates: true, Extension: true,
			Summary: "Change the CPU mode of a stopped virtual machine."}, s.updateCPUMode),
		action.Define(action.Spec{Name: "UpdateVMMAC", Module: "vm", Mutates: true, Extension: true,
			Summary: "Change the address of the inner NIC of a stopped virtual machine."}, s.updateMAC),
		action.Define(action.Spec{Name: "UpdateVMSupportHotPlug", Module: "vm", Mutates: true, Extension: true,
			Summary: "Say whether a virtual machine can get CPUs and memory while it runs, from its next start on."}, s.updateHotplug),
	}
}

// change writes settings of a machine, in a state that allows the verb. The host learns of them when the machine
// is next started.
func (s *Service) change(ctx context.Context, c *action.Call, id, verb string, f func(ctx context.Context, tx bun.Tx, v *VM) (columns []string, err error)) error {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vmByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		if err := s.Ledger.Check(ctx, tx, v.ID); err != nil {
			return err
		}
		if err := check(v, verb); err != nil {
			return err
		}
		columns, err := f(ctx, tx, v)
		if err != nil {
			return err
		}
		ok, err := s.settle(ctx, tx, v, v.State, columns...)
		if err == nil && !ok {
			err = retcode.InvalidVMState.Errorf("%s is being changed by another request", v.ID)
		}
		return err
	})
	if err == nil {
		c.AddResource(id)
	}
	return err
}

type updateHostnameRequest struct {
	VMID     string `validate:"required" doc:"virtual machine id"`
	Hostname string `validate:"required" doc:"2 to 63 letters, digits and inner hyphens, 2 to 15 for Windows"`
	action.Tenant
}

func (s *Service) updateHostname(ctx context.Context, c *action.Call, q *updateHostnameRequest) (*action.Empty, error) {
	return nil, s.change(ctx, c, q.VMID, Change, func(ctx context.Context, tx bun.Tx, v *VM) ([]string, error) {
		if err := checkHostname(q.Hostname, v.OSType, 1); err != nil {
			return nil, err
		}
		v.Hostname = q.Hostname
		return []string{"hostname"}, s.Network.OfferPort(ctx, tx, v.PortID, v.Hostname, v.DNS)
	})
}

// checkHostname refuses names that a guest cannot have (113); of several machines each gets a number behind it.
func checkHostname(name, osType string, count int) error {
	longest := 63
	if windows(osType) {
		longest = 15
	}
	if count > 1 {
		longest -= 3
	}
	if len(name) < 2 || len(name) > longest || !hostName.MatchString(name) {
		return retcode.InvalidParameter.Errorf("Hostname must be 2 to %d letters, digits and inner hyphens", longest)
	}
	return nil
}

type updateDNSRequest struct {
	VMID string `validate:"required" doc:"virtual machine id"`
	DNS  string `validate:"required" doc:"up to 2 server addresses, comma separated"`
	action.Tenant
}

func (s *Service) updateDNS(ctx context.Context, c *action.Call, q *updateDNSRequest) (*action.Empty, error) {
	dns, err := parseDNS(q.DNS)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, c, q.VMID, Change, func(ctx context.Context, tx bun.Tx, v *VM) ([]string, error) {
		v.DNS = dns
		return []string{"dns"}, s.Network.OfferPort(ctx, tx, v.PortID, v.Hostname, v.DNS)
	})
}

// parseDNS checks a list of servers, which DHCP offers: 4 no address, 113 too many or IPv6. It answers it without spaces.
func parseDNS(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || ip.Zone() != "" {
			return "", retcode.InvalidParameterFormat.Errorf("DNS must be addresses, comma separated")
		}
		if !ip.Is4() {
			return "", retcode.InvalidParameter.Errorf("DNS: %s is no IPv4 address", ip)
		}
		out = append(out, ip.String())
	}
	if len(out) > 2 {
		return "", retcode.InvalidParameter.Errorf("DNS takes at most 2 addresses")
	}
	return strings.Join(out, ","), nil
}

type updateHARequest struct {
	VMID             string `validate:"required" doc:"virtual machine id"`
	HighAvailability string `validate:"required,oneof=NeverStop None" doc:"NeverStop: it is started again when it goes down by itself"`
	action.Tenant
}

func (s *Service) updateHA(ctx context.Context, c *action.Call, q *updateHARequest) (*action.Empty, error) {
	return nil, s.change(ctx, c, q.VMID, Change, func(_ context.Context, _ bun.Tx, v *VM) ([]string, error) {
		v.HA, v.Revived = q.HighAvailability, 0
		return []string{"ha", "revived"}, nil
	})
}

// Boot devices.
const (
	bootHD      = "hd"
	bootCDROM   = "cdrom"
	bootNetwork = "network"
)

// checkBootDevices refuses lists that are no order (113).
func checkBootDevices(list []string) error {
	for i, d := range list {
		if d != bootHD && d != bootCDROM && d != bootNetwork || slices.Contains(list[:i], d) {
			return retcode.InvalidParameter.Errorf("BootDevices must be out of hd, cdrom, network, each once")
		}
	}
	return nil
}

type updateBootDevicesRequest struct {
	VMID        string   `validate:"required" doc:"virtual machine id"`
	BootDevices []string `validate:"required" doc:"hd, cdrom, network, the first to try first"`
	action.Tenant
}

func (s *Service) updateBootDevices(ctx context.Context, c *action.Call, q *updateBootDevicesRequest) (*action.Empty, error) {
	if err := checkBootDevices(q.BootDevices); err != nil {
		return nil, err
	}
	return nil, s.change(ctx, c, q.VMID, Change, func(_ context.Context, _ bun.Tx, v *VM) ([]string, error) {
		v.BootDevices = strings.Join(q.BootDevices, ",")
		return []string{"boot_devices"}, nil
	})
}

type updateUserDataRequest struct {
	VMID     string `validate:"required" doc:"virtual machine id"`
	UserData string `validate:"required" doc:"base64, at most 1 MiB decoded"`
	action.Tenant
}

func (s *Service) updateUserData(ctx context.Context, c *action.Call, q *updateUserDataRequest) (*action.Empty, error) {
	raw, err := decodeUserData(q.UserData)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, c, q.VMID, Rebuild, func(ctx context.Context, tx bun.Tx, v *VM) ([]string, error) {
		if !v.CloudInit {
			return nil, retcode.InvalidParameter.Errorf("UserData: the image of %s has no cloud-init", v.ID)
		}
		_, err := tx.NewUpdate().Model((*seed)(nil)).Set("user_data = ?", s.Secret.Seal(raw, seedContext(v.ID, "user_data"))).Where("vm_id = ?", v.ID).Exec(ctx)
		return nil, err
	})
}

type updateCPUModeRequest struct {
	VMID    string `validate:"required" doc:"virtual machine id"`
	CPUMode string `validate:"required,oneof=default host-passthrough" doc:"host-passthrough: the host's own model with all it can"`
	action.Tenant
}

func (s *Service) updateCPUMode(ctx context.Context, c *action.Call, q *updateCPUModeRequest) (*action.Empty, error) {
	return nil, s.change(ctx, c, q.VMID, Rebuild, func(_ context.Context, _ bun.Tx, v *VM) ([]string, error) {
		v.CPUMode = q.CPUMode
		return []string{"cpu_mode"}, nil
	})
}

type updateMACRequest struct {
	VMID string `validate:"required" doc:"virtual machine id"`
	MAC  string `validate:"required" doc:"unicast hardware address that no other NIC has"`
	action.Tenant
}

// updateMAC changes the row alone: the machine is off, and its start tells the network and its host.
func (s *Service) updateMAC(ctx context.Context, c *action.Call, q *updateMACRequest) (*action.Empty, error) {
	mac, err := network.ParseMAC("MAC", q.MAC)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, c, q.VMID, Rebuild, func(ctx context.Context, tx bun.Tx, v *VM) ([]string, error) {
		return nil, s.Network.SetMAC(ctx, tx, v.PortID, mac)
	})
}

type updateHotplugRequest struct {
	VMID           string `validate:"required" doc:"virtual machine id"`
	SupportHotplug bool   `validate:"required" doc:"its guest takes new CPUs and memory while it runs"`
	action.Tenant
}

func (s *Service) updateHotplug(ctx context.Context, c *action.Call, q *updateHotplugRequest) (*action.Empty, error) {
	return nil, s.change(ctx, c, q.VMID, Change, func(_ context.Context, _ bun.Tx, v *VM) ([]string, error) {
		v.Hotplug = q.SupportHotplug
		return []string{"hotplug"}, nil
	})
}
