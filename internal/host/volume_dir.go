package host

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// directory keeps each volume in one file: qcow2, with its snapshots inside and the golden image below, or raw when
// several guests write to it. So a volume moves, and goes, as one thing, and deleting one snapshot of many costs
// its own blocks only.
type directory struct {
	dir    string // of volumes
	images string
	// stretch is how long a passphrase is worked on before it opens a volume, in milliseconds: whoever guesses pays
	// as much for each guess, and so does every call that opens one.
	stretch int
}

// keyStretch is enough for keys, which cannot be guessed, and something for words, which can.
const keyStretch = 200

const (
	qcow2Suffix = ".qcow2"
	rawSuffix   = ".raw"
)

// path of a volume that exists; of one that does not, where a qcow2 volume would be.
func (d *directory) path(id string) string {
	raw := filepath.Join(d.dir, id+rawSuffix)
	if _, err := os.Stat(raw); err == nil {
		return raw
	}
	return filepath.Join(d.dir, id+qcow2Suffix)
}

func (d *directory) part(id string) string { return filepath.Join(d.dir, ".part-"+id) }

func (d *directory) list(context.Context) ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	var ids []string
	for _, e := range entries {
		id, qcow2 := strings.CutSuffix(e.Name(), qcow2Suffix)
		if !qcow2 {
			id, _ = strings.CutSuffix(e.Name(), rawSuffix)
		}
		if id != e.Name() && validID.MatchString(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// header is what we read of a file that we made ourselves: guests write inside it, never over its header.
type header struct {
	size      uint64
	backing   string
	encrypted bool
	snapshots []string
}

// readHeader reads the fields of the qcow2 specification: magic at 0, backing file name's offset at 8 and length at
// 16, virtual size at 24, encryption at 32, number of snapshots at 60 and their table's offset at 64, all
// big-endian.
func readHeader(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	b := make([]byte, 72)
	if _, err := io.ReadFull(f, b); err != nil || string(b[:4]) != "QFI\xfb" {
		return header{}, fmt.Errorf("host: %s is no qcow2 file", filepath.Base(path))
	}
	head := header{size: binary.BigEndian.Uint64(b[24:]), encrypted: binary.BigEndian.Uint32(b[32:]) != 0}
	if offset, length := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:]); offset != 0 && length > 0 && length < 1024 {
		name := make([]byte, length)
		if _, err := f.ReadAt(name, int64(offset)); err != nil {
			return header{}, fmt.Errorf("host: %s: %w", filepath.Base(path), err)
		}
		head.backing = string(name)
	}
	head.snapshots, err = readSnapshots(f, int64(binary.BigEndian.Uint64(b[64:])), binary.BigEndian.Uint32(b[60:]))
	if err != nil {
		return header{}, fmt.Errorf("host: %s: %w", filepath.Base(path), err)
	}
	return head, nil
}

// readSnapshots reads the names in a snapshot table: each entry has the lengths of its id and name at 12 and 14, of
// its extra data at 36, and these follow at 40, padded to 8 bytes.
func readSnapshots(r io.ReaderAt, at int64, n uint32) ([]string, error) {
	var names []string
	for range min(n, 65536) {
		entry := make([]byte, 40)
		if _, err := r.ReadAt(entry, at); err != nil {
			return nil, err
		}
		id, name, extra := int64(binary.BigEndian.Uint16(entry[12:])), int64(binary.BigEndian.Uint16(entry[14:])), int64(binary.BigEndian.Uint32(entry[36:]))
		text := make([]byte, name)
		if _, err := r.ReadAt(text, at+40+extra+id); err != nil {
			return nil, err
		}
		names = append(names, string(text))
		at += (40 + extra + id + name + 7) &^ 7
	}
	return names, nil
}

func (d *directory) look(ctx context.Context, id string) (*volume, error) {
	path := d.path(id)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: volume %s", hostlink.ErrNotFound, id)
	}
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	v := &volume{size: uint64(info.Size())}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v.allocated = uint64(st.Blocks) * 512
	}
	if strings.HasSuffix(path, rawSuffix) {
		v.raw = true
		if v.encrypted, err = isLUKS(path); err != nil || !v.encrypted {
			return v, err
		}
		v.size, err = luksSize(ctx, path)
		return v, err
	}
	head, err := readHeader(path)
	if err != nil {
		return nil, err
	}
	v.size, v.encrypted, v.snapshots = head.size, head.encrypted, head.snapshots
	return v, nil
}

func isLUKS(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("host: %w", err)
	}
	defer f.Close()
	b := make([]byte, 6)
	_, err = io.ReadFull(f, b)
	return string(b) == "LUKS\xba\xbe", err
}

// luksSize is what is left of a file behind its key slots.
func luksSize(ctx context.Context, path string) (uint64, error) {
	out, err := run(ctx, "qemu-img", "info", "-U", "-f", "luks", "--output=json", path)
	if err != nil {
		return 0, err
	}
	var info struct {
		Size uint64 `json:"virtual-size"`
	}
	return info.Size, json.Unmarshal(out, &info)
}

// keyTries: to know how often a second of work on a key is, qemu-img measures its own use of the processor, and gives up
// on a busy machine whose kernel counts that in ticks.
const (
	keyTries     = 10
	keyUnmetered = "Unable to get accurate CPU usage"
)

// keyObject is the passphrase among the arguments of qemu-img, which reads it from a pipe.
var keyObject = []string{"--object", "secret,id=key,format=raw,file=/dev/fd/3"}

// luksOptions make a qcow2 file encrypted with it. stretch is in milliseconds.
func luksOptions(stretch int) string {
	return "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=" + strconv.Itoa(stretch)
}

// keyed adds a passphrase to the arguments of qemu-img: as an object whose text comes through a pipe.
func keyed(ctx context.Context, secret []byte, command string, args ...string) (err error) {
	all := []string{command}
	if secret != nil {
		all = append(all, keyObject...)
	}
	all = append(all, args...)
	for range keyTries {
		if _, err = runWith(ctx, secret, "qemu-img", all...); err == nil || !strings.Contains(err.Error(), keyUnmetered) {
			break
		}
	}
	return err
}

// opened names a file to qemu-img, with the key when it is encrypted.
func opened(path string, secret []byte) []string {
	// Commas are doubled in such an option; our paths are made of ids, but the directory is the operator's.
	file := strings.ReplaceAll(path, ",", ",,")
	raw := strings.HasSuffix(path, rawSuffix)
	switch {
	case secret != nil && raw:
		return []string{"--image-opts", "driver=luks,key-secret=key,file.driver=file,file.filename=" + file}
	case raw:
		return []string{"--image-opts", "driver=raw,file.driver=file,file.filename=" + file}
	case secret != nil:
		return []string{"--image-opts", "driver=qcow2,encrypt.key-secret=key,file.driver=file,file.filename=" + file}
	}
	return []string{"--image-opts", "driver=qcow2,file.driver=file,file.filename=" + file}
}

func (d *directory) create(ctx context.Context, spec *pb.VolumeSpec, im *image) error {
	part, secret := d.part(spec.Id), spec.Secret
	defer os.Remove(part)          // fails after the rename, as it should
	if im != nil && im.encrypted { // a copy of it: guests open their volumes with one key
		args := append([]string{"-q", "-O", "qcow2", "-o", luksOptions(d.stretch)}, opened(im.path, secret)...)
		if err := keyed(ctx, secret, "convert", append(args, part)...); err != nil {
			return err
		}
		return d.place(part, spec)
	}
	args := []string{"-q", "-f", "qcow2"}
	switch {
	case spec.Raw && secret != nil:
		args = []string{"-q", "-f", "luks", "-o", "key-secret=key,iter-time=" + strconv.Itoa(d.stretch)}
	case spec.Raw:
		args = []string{"-q", "-f", "raw"}
	case secret != nil:
		args = append(args, "-o", luksOptions(d.stretch))
	}
	if im != nil {
		args = append(args, "-b", im.path, "-F", im.format)
	}
	args = append(args, part)
	if spec.SizeBytes != 0 {
		args = append(args, strconv.FormatUint(spec.SizeBytes, 10))
	}
	if err := keyed(ctx, secret, "create", args...); err != nil {
		return err
	}
	return d.place(part, spec)
}

// place makes a finished file a volume.
func (d *directory) place(part string, spec *pb.VolumeSpec) error {
	suffix := qcow2Suffix
	if spec.Raw {
		suffix = rawSuffix
	}
	f, err := os.Open(part)
	if err != nil {
		return spaceError(err)
	}
	defer f.Close()
	if err := errors.Join(f.Chmod(0o600), f.Sync()); err != nil {
		return spaceError(err)
	}
	if err := os.Rename(part, filepath.Join(d.dir, spec.Id+suffix)); err != nil {
		return spaceError(err)
	}
	return syncDir(d.dir)
}

// duplicate copies the file, which costs nothing where the file system shares blocks, and keeps the key of an
// encrypted one. A snapshot is read out of it: a guest may write to the rest meanwhile, never to what it holds.
func (d *directory) duplicate(ctx context.Context, spec *pb.VolumeSpec) error {
	source, part, secret := d.path(spec.SourceVolume), d.part(spec.Id), spec.Secret
	defer os.Remove(part)
	if spec.SourceSnapshot == "" {
		if err := copyFile(ctx, source, part); err != nil {
			return err
		}
		if !spec.Raw {
			head, err := readHeader(part)
			if err != nil {
				return err
			}
			for _, name := range head.snapshots {
				if err := keyed(ctx, secret, "snapshot", append([]string{"-q", "-d", name}, opened(part, secret)...)...); err != nil {
					return err
				}
			}
		}
		return d.place(part, spec)
	}
	head, err := readHeader(source)
	if err != nil {
		return err
	}
	if !slices.Contains(head.snapshots, spec.SourceSnapshot) {
		return fmt.Errorf("%w: snapshot %s of volume %s", hostlink.ErrNotFound, spec.SourceSnapshot, spec.SourceVolume)
	}
	args := []string{"-q", "-U", "-l", "snapshot.name=" + spec.SourceSnapshot, "-O", "qcow2"}
	options := []string{}
	if secret != nil {
		options = append(options, luksOptions(d.stretch))
	}
	if head.backing != "" {
		options = append(options, "backing_file="+strings.ReplaceAll(head.backing, ",", ",,"), "backing_fmt="+imageFormatOf(head.backing))
	}
	if len(options) > 0 {
		args = append(args, "-o", strings.Join(options, ","))
	}
	if err := keyed(ctx, secret, "convert", append(append(args, opened(source, secret)...), part)...); err != nil {
		return err
	}
	return d.place(part, spec)
}

// imageFormatOf: a golden image's name ends in its format.
func imageFormatOf(path string) string { return strings.TrimPrefix(filepath.Ext(path), ".") }

// copyFile copies what a file holds and leaves its holes; blocks are shared where the file system can.
func copyFile(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return spaceError(err)
	}
	defer out.Close()
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	if err := out.Truncate(info.Size()); err != nil {
		return spaceError(err)
	}
	return eachExtent(in, info.Size(), func(offset, length int64) error {
		for length > 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := unix.CopyFileRange(int(in.Fd()), &offset, int(out.Fd()), ref(offset), int(min(length, 64<<20)), 0)
			if err != nil {
				return spaceError(err)
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
			length -= int64(n)
		}
		return nil
	})
}

func ref(v int64) *int64 { return &v }

// eachExtent calls f for every part of a file that is no hole.
func eachExtent(f *os.File, size int64, each func(offset, length int64) error) error {
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but holes
			return nil
		}
		if err != nil {
			return fmt.Errorf("host: %w", err)
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("host: %w", err)
		}
		if err := each(start, end-start); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func (d *directory) grow(ctx context.Context, id string, bytes uint64, secret []byte) error {
	args := append([]string{"-q"}, opened(d.path(id), secret)...)
	return keyed(ctx, secret, "resize", append(args, strconv.FormatUint(bytes, 10))...)
}

func (d *directory) live() bool { return false }

func (d *directory) opened(id string, secret []byte) []string { return opened(d.path(id), secret) }

func (d *directory) snapshot(ctx context.Context, id, snapshot string, secret []byte) error {
	return keyed(ctx, secret, "snapshot", append([]string{"-q", "-c", snapshot}, opened(d.path(id), secret)...)...)
}

func (d *directory) removeSnapshot(ctx context.Context, id, snapshot string, secret []byte) error {
	return keyed(ctx, secret, "snapshot", append([]string{"-q", "-d", snapshot}, opened(d.path(id), secret)...)...)
}

func (d *directory) rollback(ctx context.Context, id, snapshot string, secret []byte) error {
	return keyed(ctx, secret, "snapshot", append([]string{"-q", "-a", snapshot}, opened(d.path(id), secret)...)...)
}

func (d *directory) remove(_ context.Context, id string) error {
	if err := os.Remove(d.path(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("host: %w", err)
	}
	return syncDir(d.dir)
}

func (d *directory) disk(_ context.Context, id string) (libvirtxml.DomainDisk, error) {
	path := d.path(id)
	if strings.HasSuffix(path, rawSuffix) {
		return fileDisk(path, "raw", ""), nil
	}
	head, err := readHeader(path)
	if errors.Is(err, os.ErrNotExist) {
		return libvirtxml.DomainDisk{}, fmt.Errorf("%w: volume %s", hostlink.ErrNotFound, id)
	}
	if err != nil {
		return libvirtxml.DomainDisk{}, err
	}
	// We wrote that header: it names an image of ours.
	if head.backing != "" && filepath.Dir(head.backing) != d.images {
		return libvirtxml.DomainDisk{}, fmt.Errorf("host: volume %s leans on a file that is no image", id)
	}
	return fileDisk(path, "qcow2", head.backing), nil
}

// fileDisk is a file with, or without, an image below it. That is said, never probed: what a guest writes cannot
// make QEMU open another file.
func fileDisk(path, format, backing string) libvirtxml.DomainDisk {
	out := libvirtxml.DomainDisk{
		Driver:       &libvirtxml.DomainDiskDriver{Name: "qemu", Type: format},
		Source:       &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		BackingStore: &libvirtxml.DomainDiskBackingStore{},
	}
	if backing != "" {
		out.BackingStore = &libvirtxml.DomainDiskBackingStore{
			Format:       &libvirtxml.DomainDiskFormat{Type: imageFormatOf(backing)},
			Source:       &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: backing, SecLabel: unlabelled()}},
			BackingStore: &libvirtxml.DomainDiskBackingStore{},
		}
	}
	return out
}
