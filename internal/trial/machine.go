package trial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lingyun-cloud/lingyun/internal/guest"
)

// EnginePackages are the distribution's packages that the engines come from.
var EnginePackages = []string{
	"qemu-system-x86", "qemu-utils", "seabios", "ovmf",
	"libvirt-daemon", "libvirt-daemon-system", "libvirt-daemon-driver-qemu", "libvirt-clients",
	"openvswitch-switch", "ovn-central", "ovn-host",
	"nftables", "iproute2", "util-linux",
}

// Packages are all that `lingyun up` needs installed.
func Packages() []string {
	all := append(append([]string(nil), EnginePackages...), guest.TinyPackages...)
	sort.Strings(all)
	return all
}

// Free space that a trial asks for, in bytes: the guest's image, databases, logs
// and some volumes; and the memory, in bytes, of engines and one guest.
const (
	neededDisk   = 4 << 30
	neededMemory = 1 << 30
)

// Check tells what this machine lacks for a trial in dir, and what to do about it.
func Check(dir string) error {
	if os.Getuid() != 0 {
		return errors.New("network namespaces and virtual machines need root: run it with sudo")
	}
	for _, ns := range []string{"net", "mnt", "uts"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			return fmt.Errorf("this kernel has no %s namespaces; use the kernel of Debian 12", ns)
		}
	}
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("guests' network cards need /dev/net/tun (%w): load the module with \"modprobe tun\", or give the container the device", err)
	}
	tun.Close()
	probe := dir
	for {
		var st unix.Statfs_t
		err := unix.Statfs(probe, &st)
		if errors.Is(err, unix.ENOENT) {
			probe = filepath.Dir(probe)
			continue
		}
		if err != nil {
			return err
		}
		if free := st.Bavail * uint64(st.Bsize); free < neededDisk {
			return fmt.Errorf("%s has %.1f GB free, and %.1f GB are needed: free some, or choose another directory with --dir", probe, float64(free)/1e9, float64(neededDisk)/1e9)
		}
		break
	}
	if available, ok := memoryAvailable(); ok && available < neededMemory {
		return fmt.Errorf("%.1f GB of memory are available, and %.1f GB are needed", float64(available)/1e9, float64(neededMemory)/1e9)
	}
	return nil
}

func memoryAvailable() (bytes uint64, ok bool) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	for _, line := range strings.Split(string(data), "\n") {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			return kib << 10, true
		}
	}
	return 0, false
}

// Install installs the packages that are missing, from the distribution. None of
// their services is started, now or at the next boot: the trial runs its own, in
// its namespaces, and the machine's network stays as it is.
func Install(ctx context.Context, packages []string, say func(string)) error {
	missing, err := missingPackages(ctx, packages)
	if err != nil || len(missing) == 0 {
		return err
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("these packages are missing, and there is no apt-get to install them: %s", strings.Join(missing, " "))
	}
	units := map[string]bool{}
	for _, unit := range installedUnits() {
		units[unit] = true
	}
	restore, err := denyServices()
	if err != nil {
		return err
	}
	defer restore()
	say("installing " + strings.Join(missing, " "))
	if err := apt(ctx, "update"); err != nil {
		say("the package lists could not be renewed, trying with what there is: " + err.Error())
	}
	if err := apt(ctx, append([]string{"install", "-y", "--no-install-recommends"}, missing...)...); err != nil {
		return fmt.Errorf("%w; is the machine connected, and does /etc/apt name Debian's archive?", err)
	}
	if _, err := exec.LookPath("systemctl"); err != nil {
		return nil
	}
	var added []string
	for _, unit := range installedUnits() {
		if !units[unit] {
			added = append(added, unit)
		}
	}
	if len(added) > 0 {
		// Without a running systemd this only removes links; an error would mean a
		// unit that cannot be enabled anyway.
		_ = exec.CommandContext(ctx, "systemctl", append([]string{"disable", "--quiet"}, added...)...).Run()
	}
	return nil
}

func missingPackages(ctx context.Context, packages []string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "dpkg-query", append([]string{"-W", "-f=${Package} ${db:Status-Status}\n"}, packages...)...)
	out, err := cmd.Output() // fails when one is unknown: the others are listed all the same
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("this is no Debian: dpkg-query is missing. The trial runs on Debian 12")
	}
	have := map[string]bool{}
	for _, line := range strings.Split(string(out), "\n") {
		if name, ok := strings.CutSuffix(line, " installed"); ok {
			have[name] = true
		}
	}
	var missing []string
	for _, p := range packages {
		if !have[p] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

func apt(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=300"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("apt-get %s: %w: %s", args[0], err, lines[len(lines)-1])
	}
	return nil
}

func installedUnits() []string {
	units, _ := filepath.Glob("/lib/systemd/system/*.*")
	var names []string
	for _, unit := range units {
		if name := filepath.Base(unit); strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".socket") {
			if !strings.Contains(name, "@") {
				names = append(names, name)
			}
		}
	}
	return names
}

const policyFile = "/usr/sbin/policy-rc.d"

// denyServices keeps package scripts from starting services (invoke-rc.d asks
// this file), and answers what puts the machine's own policy back.
func denyServices() (restore func(), err error) {
	deny := []byte("#!/bin/sh\n# By lingyun up, while it installs packages.\nexit 101\n")
	before, err := os.ReadFile(policyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		restore = func() { _ = os.Remove(policyFile) }
	case err != nil:
		return nil, err
	case bytes.Equal(before, deny): // left behind by a run that was killed
		restore = func() { _ = os.Remove(policyFile) }
	default:
		info, err := os.Stat(policyFile)
		if err != nil {
			return nil, err
		}
		restore = func() { _ = replaceFile(policyFile, before, info.Mode().Perm()) }
	}
	return restore, replaceFile(policyFile, deny, 0o755)
}

func replaceFile(path string, data []byte, perm os.FileMode) error {
	part := path + ".lingyun"
	if err := os.WriteFile(part, data, perm); err != nil {
		return err
	}
	if err := os.Chmod(part, perm); err != nil {
		return err
	}
	return os.Rename(part, path)
}
