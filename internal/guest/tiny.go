package guest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

//go:embed all:tiny
var tinyFiles embed.FS

// tinyRecipe changes when the builder does something else with equal inputs.
const tinyRecipe = "3"

// tinyPrograms are taken from this machine's packages (busybox-static,
// dropbear-bin, qemu-guest-agent), the dynamic ones with their libraries.
var tinyPrograms = []string{"/bin/busybox", "/usr/sbin/dropbear", "/usr/bin/dropbearkey", "/usr/sbin/qemu-ga"}

// TinyPackages are the distribution's packages that Tiny needs installed.
var TinyPackages = []string{"busybox-static", "dropbear-bin", "qemu-guest-agent", "qemu-utils",
	"syslinux", "syslinux-common", "syslinux-efi", "mtools", "dosfstools", "e2fsprogs"}

// tinyModules of the kernel, loaded at boot after what they depend on.
var tinyModules = []string{"virtio_pci", "virtio_blk", "virtio_net", "virtio_scsi", "sr_mod", "isofs",
	"virtio_balloon", "virtio_rng", "virtio_console", "button", "evdev", "ata_piix"}

// Disk layout: an MBR, then a FAT16 partition that SYSLINUX boots from, by BIOS
// or UEFI (it needs neither a mount nor a loop device), then ext4 for what
// outlives a reboot. The image grows nothing: the rest of a larger volume stays empty.
const (
	sector      = 512
	diskBytes   = 64 << 20
	fatStart    = 1 << 20
	fatBytes    = 40 << 20
	stateStart  = fatStart + fatBytes
	stateBytes  = diskBytes - stateStart
	tinyVolumes = "4c594e47" // FAT serial number
)

const tinySyslinux = `SERIAL 0 115200
PROMPT 0
DEFAULT tiny
LABEL tiny
 KERNEL /vmlinuz
 INITRD /initrd.img
 APPEND console=tty0 console=ttyS0 panic=-1 quiet no_timer_check mitigations=off apparmor=0 audit=0
`

// Tiny builds the small guest: a Debian cloud kernel and BusyBox in an
// initramfs, dropbear, qemu-guest-agent. It takes addresses by DHCP, reads the
// NoCloud seed (host name, instance id, root's hashed password and keys, the
// tenant's scripts) and serves a page with its host name and instance id on
// port 80. 128 MiB of memory are enough.
func Tiny(ctx context.Context, o Options) (Image, error) {
	deb, err := kernelDeb(ctx, o)
	if err != nil {
		return Image{}, err
	}
	programs, err := withLibraries(tinyPrograms)
	if err != nil {
		return Image{}, err
	}
	key, err := tinyKey(deb, programs)
	if err != nil {
		return Image{}, err
	}
	out := filepath.Join(o.Cache, "tiny-"+key+".qcow2")
	if image, err := describe("tiny", out); err == nil {
		return image, nil
	}
	work, err := tempDir(o.Cache)
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(work)

	o.say("unpacking %s", filepath.Base(deb))
	root := filepath.Join(work, "kernel")
	if _, err := run(ctx, work, "dpkg-deb", "-x", deb, root); err != nil {
		return Image{}, err
	}
	kernels, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return Image{}, fmt.Errorf("guest: %s holds %d kernels", filepath.Base(deb), len(kernels))
	}
	o.say("packing the initial file system")
	modules, err := kernelModules(filepath.Join(root, "lib", "modules"), tinyModules)
	if err != nil {
		return Image{}, err
	}
	initrd := filepath.Join(work, "initrd.img")
	if err := writeTinyInitrd(ctx, initrd, programs, modules); err != nil {
		return Image{}, err
	}
	o.say("laying out the disk")
	disk, err := tinyDisk(ctx, work, kernels[0], initrd)
	if err != nil {
		return Image{}, err
	}
	qcow := filepath.Join(work, "tiny.qcow2")
	if _, err := run(ctx, work, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", disk, qcow); err != nil {
		return Image{}, err
	}
	return finish("tiny", qcow, out)
}

// tinyKey identifies the inputs: kernel package, programs, files, recipe.
func tinyKey(deb string, programs []string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, tinyRecipe, diskBytes, fatBytes, tinySyslinux, tinyModules, filepath.Base(deb))
	for _, program := range programs {
		f, err := os.Open(program)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, program)
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", err
		}
	}
	err := fs.WalkDir(tinyFiles, "tiny", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := tinyFiles.ReadFile(name)
		fmt.Fprintln(h, name, len(data))
		h.Write(data)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}

// withLibraries answers the programs and every shared library they need.
func withLibraries(programs []string) ([]string, error) {
	dirs := []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64"}
	seen := map[string]bool{}
	var all []string
	var add func(string) error
	add = func(file string) error {
		if seen[file] {
			return nil
		}
		seen[file] = true
		f, err := elf.Open(file)
		if err != nil {
			return fmt.Errorf("guest: %w (install %s)", err, strings.Join(TinyPackages, " "))
		}
		defer f.Close()
		all = append(all, file)
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				name, err := io.ReadAll(p.Open())
				if err != nil {
					return err
				}
				if err := add(strings.TrimRight(string(name), "\x00")); err != nil {
					return err
				}
			}
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			return err
		}
	libraries:
		for _, library := range needed {
			for _, dir := range dirs {
				candidate := filepath.Join(dir, library)
				if _, err := os.Stat(candidate); err == nil {
					if err := add(candidate); err != nil {
						return err
					}
					continue libraries
				}
			}
			return fmt.Errorf("guest: %s needs %s, which is not installed", file, library)
		}
		return nil
	}
	for _, program := range programs {
		if err := add(program); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// kernelModules answers the files of the named modules and of all they depend
// on, in an order in which they can be loaded. What is built into the kernel
// has no file and is left out.
func kernelModules(dir string, names []string) ([]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(path.Base(file), ".ko"); ok && err == nil {
			files[strings.ReplaceAll(name, "-", "_")] = file
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var ordered []string
	seen := map[string]bool{}
	var add func(string) error
	add = func(name string) error {
		file, ok := files[name]
		if seen[name] || !ok {
			return nil
		}
		seen[name] = true
		module, err := elf.Open(file)
		if err != nil {
			return err
		}
		defer module.Close()
		section := module.Section(".modinfo")
		if section == nil {
			return fmt.Errorf("guest: %s is no kernel module", file)
		}
		info, err := section.Data()
		if err != nil {
			return err
		}
		for _, field := range bytes.Split(info, []byte{0}) {
			if list, ok := strings.CutPrefix(string(field), "depends="); ok && list != "" {
				for _, dependency := range strings.Split(list, ",") {
					if err := add(strings.ReplaceAll(dependency, "-", "_")); err != nil {
						return err
					}
				}
			}
		}
		ordered = append(ordered, file)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// writeTinyInitrd packs programs, libraries, modules and the files of tiny/.
func writeTinyInitrd(ctx context.Context, file string, programs, modules []string) error {
	type entry struct {
		perm   fs.FileMode
		data   []byte
		target string // of a symbolic link
	}
	entries := map[string]entry{}
	for _, program := range programs {
		data, err := os.ReadFile(program)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(program, "/")
		if !strings.Contains(path.Base(name), ".so") {
			name = "bin/" + path.Base(name)
		}
		entries[name] = entry{perm: 0o755, data: data}
	}
	applets, err := run(ctx, "", "/bin/busybox", "--list")
	if err != nil {
		return err
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			entries["bin/"+applet] = entry{target: "/bin/busybox"}
		}
	}
	entries["sbin/init"] = entry{target: "/bin/busybox"}
	var order strings.Builder
	for _, module := range modules {
		data, err := os.ReadFile(module)
		if err != nil {
			return err
		}
		entries["lib/modules/"+path.Base(module)] = entry{perm: 0o644, data: data}
		fmt.Fprintln(&order, strings.TrimSuffix(path.Base(module), ".ko"))
	}
	entries["lib/modules/order"] = entry{perm: 0o644, data: []byte(order.String())}
	err = fs.WalkDir(tinyFiles, "tiny", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := tinyFiles.ReadFile(name)
		perm := fs.FileMode(0o644)
		if bytes.HasPrefix(data, []byte("#!")) {
			perm = 0o755
		}
		entries[strings.TrimPrefix(name, "tiny/")] = entry{perm: perm, data: data}
		return err
	})
	if err != nil {
		return err
	}
	entries["etc/shadow"] = entry{perm: 0o600, data: entries["etc/shadow"].data}

	dirs := map[string]bool{}
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "root", "seed", "state", "data", "var", "mnt", "var/log"} {
		dirs[dir] = true
	}
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	sort.Strings(names)
	dirNames := make([]string, 0, len(dirs))
	for dir := range dirs {
		dirNames = append(dirNames, dir)
	}
	sort.Strings(dirNames)

	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	c := &cpioWriter{w: z}
	for _, dir := range dirNames {
		perm := fs.FileMode(0o755)
		if dir == "tmp" {
			perm = 0o1777
		}
		c.dir(dir, perm)
	}
	c.symlink("var/run", "/run")
	for _, name := range names {
		if e := entries[name]; e.target != "" {
			c.symlink(name, e.target)
		} else {
			c.file(name, e.perm, e.data)
		}
	}
	if err := c.close(); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

// tinyDisk assembles the raw disk and answers its path.
func tinyDisk(ctx context.Context, work, kernel, initrd string) (string, error) {
	fat, state, disk := filepath.Join(work, "fat.img"), filepath.Join(work, "state.img"), filepath.Join(work, "disk.raw")
	config := filepath.Join(work, "syslinux.cfg")
	if err := os.WriteFile(config, []byte(tinySyslinux), 0o644); err != nil {
		return "", err
	}
	vmlinuz := filepath.Join(work, "vmlinuz")
	if err := os.Rename(kernel, vmlinuz); err != nil {
		return "", err
	}
	empty := filepath.Join(work, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		return "", err
	}
	for file, size := range map[string]int64{fat: fatBytes, state: stateBytes, disk: diskBytes} {
		if err := truncated(file, size); err != nil {
			return "", err
		}
	}
	for _, step := range [][]string{
		{"mkfs.fat", "-F", "16", "-i", tinyVolumes, "-n", "BOOT", "--invariant", fat},
		{"mmd", "-i", fat, "::EFI", "::EFI/BOOT"},
		{"mcopy", "-i", fat, config, vmlinuz, initrd, "::"},
		{"mcopy", "-i", fat, "/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi", "::EFI/BOOT/BOOTX64.EFI"},
		{"mcopy", "-i", fat, "/usr/lib/syslinux/modules/efi64/ldlinux.e64", "::EFI/BOOT"},
		{"syslinux", "--install", fat},
		{"mke2fs", "-q", "-t", "ext4", "-L", "state", "-m", "0", "-J", "size=1", "-U", "9a3c4c2e-0000-4000-8000-6c696e677975",
			"-E", "hash_seed=9a3c4c2e-0000-4000-8000-6c696e677975,lazy_itable_init=0,root_owner=0:0", "-d", empty, state},
	} {
		if _, err := run(ctx, work, step[0], step[1:]...); err != nil {
			return "", err
		}
	}
	mbr, err := os.ReadFile("/usr/lib/syslinux/mbr/mbr.bin")
	if err != nil {
		return "", fmt.Errorf("guest: %w (install syslinux-common)", err)
	}
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.WriteAt(masterBootRecord(mbr,
		partition{active: true, kind: 0x0e, start: fatStart / sector, size: fatBytes / sector},
		partition{kind: 0x83, start: stateStart / sector, size: stateBytes / sector}), 0); err != nil {
		return "", err
	}
	for _, part := range []struct {
		file string
		at   int64
	}{{fat, fatStart}, {state, stateStart}} {
		data, err := os.ReadFile(part.file)
		if err != nil {
			return "", err
		}
		if _, err := f.WriteAt(data, part.at); err != nil {
			return "", err
		}
	}
	return disk, f.Close()
}
