package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// debianRecipe changes when the builder does something else with equal inputs.
const debianRecipe = "1"

// DebianPackages are the distribution's packages that Debian needs installed.
var DebianPackages = []string{"mmdebstrap", "grub-pc-bin", "grub-common", "e2fsprogs", "qemu-utils", "util-linux"}

// debianSuite is what is built: the distribution that hosts run on, too.
const debianSuite = "bookworm"

// debianContent is installed into the image, with what it depends on.
var debianContent = []string{
	"linux-image-cloud-amd64", "systemd-sysv", "udev", "dbus", "cloud-init", "cloud-guest-utils", "qemu-guest-agent",
	"openssh-server", "sudo", "netplan.io", "systemd-resolved", "iproute2", "iputils-ping", "e2fsprogs",
	"ca-certificates", "curl", "less", "locales", "vim-tiny",
}

const (
	debianDiskBytes = 2 << 30 // cloud-init grows partition and file system to the volume's size
	debianStart     = 1 << 20 // of the root partition; GRUB's core lies before it
)

// debianFiles are written into the root file system.
var debianFiles = map[string]string{
	"etc/fstab":    "LABEL=root / ext4 errors=remount-ro 0 1\n",
	"etc/hostname": "debian\n",
	// An empty one is made anew by every machine at its first boot.
	"etc/machine-id": "",
	// Hosts give the identity on a disk labelled cidata; nothing else is to be waited for.
	"etc/cloud/cloud.cfg.d/90_lingyun.cfg": "datasource_list: [NoCloud, None]\n",
	// The links at the root follow the newest kernel that is installed, so this file need never change.
	"boot/grub/grub.cfg": `set timeout=0
serial --unit=0 --speed=115200
terminal_output serial console
menuentry Debian {
	linux /vmlinuz root=LABEL=root ro console=tty0 console=ttyS0,115200 net.ifnames=0
	initrd /initrd.img
}
`,
}

// Debian builds a Debian 12 with cloud-init, OpenSSH and qemu-guest-agent from
// the distribution's packages, for people: BIOS boot, one ext4 root partition
// that grows with its volume. It needs root (the packages' scripts run in the new
// tree, in a mount namespace of their own), 3 GB of space, and 512 MiB in a guest.
func Debian(ctx context.Context, o Options) (Image, error) {
	key, err := debianKey(ctx)
	if err != nil {
		return Image{}, err
	}
	out := filepath.Join(o.Cache, "debian-"+key+".qcow2")
	if image, err := describe("debian", out); err == nil {
		return image, nil
	}
	work, err := tempDir(o.Cache)
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(work)

	root := filepath.Join(work, "root")
	o.say("installing %s with %s, which takes minutes", debianSuite, strings.Join(debianContent[:5], ", "))
	if _, err := run(ctx, work, "unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
		"--include="+strings.Join(debianContent, ","), debianSuite, root); err != nil {
		return Image{}, err
	}
	if err := finishDebianRoot(root); err != nil {
		return Image{}, err
	}
	o.say("laying out the disk")
	disk, err := debianDisk(ctx, work, root)
	if err != nil {
		return Image{}, err
	}
	o.say("compressing")
	qcow := filepath.Join(work, "debian.qcow2")
	if _, err := run(ctx, work, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", disk, qcow); err != nil {
		return Image{}, err
	}
	return finish("debian", qcow, out)
}

// debianKey identifies the inputs: recipe, files, and the versions that the archive has now.
func debianKey(ctx context.Context) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, debianRecipe, debianSuite, debianDiskBytes, debianStart)
	shown, err := run(ctx, "", "apt-cache", append([]string{"show", "--no-all-versions"}, debianContent...)...)
	if err != nil {
		return "", fmt.Errorf("%w (run apt-get update?)", err)
	}
	for line := range strings.Lines(string(shown)) {
		if strings.HasPrefix(line, "Package: ") || strings.HasPrefix(line, "Version: ") {
			fmt.Fprint(h, line)
		}
	}
	names := make([]string, 0, len(debianFiles))
	for name := range debianFiles {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintln(h, name, debianFiles[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// finishDebianRoot writes our files and takes out what must be each machine's own.
func finishDebianRoot(root string) error {
	modules := filepath.Join(root, "boot", "grub", "i386-pc")
	if err := os.CopyFS(modules, os.DirFS(grubDir)); err != nil {
		return fmt.Errorf("guest: %w (install grub-pc-bin)", err)
	}
	for name, content := range debianFiles {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	own, err := filepath.Glob(filepath.Join(root, "etc", "ssh", "ssh_host_*"))
	if err != nil {
		return err
	}
	for _, file := range append(own, filepath.Join(root, "var", "lib", "dbus", "machine-id"), filepath.Join(root, "etc", "resolv.conf")) {
		if err := os.RemoveAll(file); err != nil {
			return err
		}
	}
	// systemd-resolved's, as its package would have made it were it not for the builder's own.
	return os.Symlink("../run/systemd/resolve/stub-resolv.conf", filepath.Join(root, "etc", "resolv.conf"))
}

// grubDir holds GRUB's boot sector and modules for BIOS machines.
const grubDir = "/usr/lib/grub/i386-pc"

// debianDisk assembles the raw disk: GRUB's boot sector with our partition table, GRUB's core in the gap
// behind it, the root partition. GRUB's installer is not used, since it wants the disk to be a device.
func debianDisk(ctx context.Context, work, root string) (string, error) {
	core, fsImage, disk := filepath.Join(work, "core.img"), filepath.Join(work, "root.img"), filepath.Join(work, "disk.raw")
	if _, err := run(ctx, work, "grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", core,
		"biosdisk", "part_msdos", "ext2", "normal", "linux", "configfile", "serial", "terminal"); err != nil {
		return "", err
	}
	coreImage, err := os.ReadFile(core)
	if err != nil {
		return "", err
	}
	if len(coreImage) > debianStart-sector {
		return "", fmt.Errorf("guest: GRUB's core has %d bytes and does not fit before the partition", len(coreImage))
	}
	boot, err := os.ReadFile(filepath.Join(grubDir, "boot.img"))
	if err != nil {
		return "", fmt.Errorf("guest: %w (install grub-pc-bin)", err)
	}
	size := int64(debianDiskBytes - debianStart)
	if err := truncated(fsImage, size); err != nil {
		return "", err
	}
	if _, err := run(ctx, work, "mke2fs", "-q", "-t", "ext4", "-L", "root", "-m", "1", "-d", root, fsImage); err != nil {
		return "", err
	}
	if err := truncated(disk, debianDiskBytes); err != nil {
		return "", err
	}
	// dd leaves holes where the file system is empty.
	if _, err := run(ctx, work, "dd", "if="+fsImage, "of="+disk, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none"); err != nil {
		return "", err
	}
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	mbr := masterBootRecord(boot, partition{active: true, kind: 0x83, start: debianStart / sector, size: uint32(size / sector)})
	if _, err := f.WriteAt(mbr, 0); err != nil {
		return "", err
	}
	if _, err := f.WriteAt(coreImage, sector); err != nil {
		return "", err
	}
	return disk, f.Close()
}
