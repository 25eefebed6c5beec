package host

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A /dev/kvm that opens says little: on some machines (nested in a microVM) the
// kernel of a guest is emulated, instruction by instruction, and an ordinary
// kernel takes many minutes, while libvirt and QEMU report KVM as available. So
// a guest is really booted: probe.S is a boot sector that enters 64-bit mode and
// counts to 300 million, which takes real KVM a tenth of a second, TCG a second
// or two, and an emulator minutes.

//go:generate sh -c "as --64 -o /tmp/probe.o probe.S && ld -m elf_x86_64 --oformat binary -Ttext 0x7c00 -o probe.bin /tmp/probe.o && rm /tmp/probe.o"

//go:embed probe.bin
var probeSector []byte

const (
	probeLimit = 10 * time.Second
	// probeExit is how QEMU ends when the sector got to its end: isa-debug-exit makes (0x2a << 1) | 1.
	probeExit = 0x2a<<1 | 1
)

// ProbeVirtType answers kvm when a guest really boots with it within 10 s, else
// qemu. The log says why.
func ProbeVirtType(ctx context.Context, log *slog.Logger) string {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		log.Info("no KVM on this machine: guests run by translation (TCG), slowly")
		return VirtQEMU
	}
	begun := time.Now()
	if err := probe(ctx, "kvm", probeLimit); err != nil {
		log.Warn("KVM is there but boots no guest: guests run by translation (TCG), slowly", "error", err)
		return VirtQEMU
	}
	log.Info("KVM boots guests", "probe", time.Since(begun).Round(time.Millisecond))
	return VirtKVM
}

// probedVirtType asks ProbeVirtType once a boot of the machine: the answer costs up to 10 s of a core.
func (h *Host) probedVirtType() string {
	path := filepath.Join(h.conf.Dir, "state", "virt-type")
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if known, err := os.ReadFile(path); err == nil {
		virtType, when, _ := strings.Cut(strings.TrimSpace(string(known)), " ")
		if when == strings.TrimSpace(string(boot)) && (virtType == VirtKVM || virtType == VirtQEMU) {
			return virtType
		}
	}
	virtType := ProbeVirtType(h.ctx, h.log)
	if h.ctx.Err() == nil {
		if err := writeFile(path, []byte(virtType+" "+string(boot)), 0o600); err != nil {
			h.log.Warn("the probe is not kept", "error", err)
		}
	}
	return virtType
}

// probe boots the sector with an accelerator.
func probe(ctx context.Context, accelerator string, limit time.Duration) error {
	dir, err := os.MkdirTemp("", "lingyun-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sector := filepath.Join(dir, "boot")
	if err := os.WriteFile(sector, probeSector, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "pc", "-accel", accelerator,
		"-m", "16", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-drive", "if=ide,format=raw,readonly=off,snapshot=on,file="+sector,
		"-device", "isa-debug-exit,iobase=0xf4,iosize=1")
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return errors.New("the guest did not get through in time")
	case errors.As(err, &exit) && exit.ExitCode() == probeExit:
		return nil
	case err == nil:
		return errors.New("the guest ended early")
	}
	return err
}
