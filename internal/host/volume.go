package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// maxVolume bounds a volume's virtual size: 64 TiB.
const maxVolume = 64 << 40

func (h *Host) volumePath(id string) string {
	return filepath.Join(h.conf.Dir, "volumes", id+".qcow2")
}

func (h *Host) volumeIDs() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(h.conf.Dir, "volumes"))
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".qcow2"); ok && validID.MatchString(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// header is what we read of a qcow2 file that we made ourselves: guests write
// inside it, never over its header.
type header struct {
	size    uint64
	backing string
}

// readHeader reads the fields of the qcow2 specification: magic at 0, backing file name's offset at 8
// and length at 16, virtual size at 24, all big-endian.
func readHeader(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	b := make([]byte, 32)
	if _, err := io.ReadFull(f, b); err != nil || string(b[:4]) != "QFI\xfb" {
		return header{}, fmt.Errorf("host: %s is no qcow2 file", filepath.Base(path))
	}
	head := header{size: binary.BigEndian.Uint64(b[24:])}
	if offset, length := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:]); offset != 0 && length > 0 && length < 1024 {
		name := make([]byte, length)
		if _, err := f.ReadAt(name, int64(offset)); err != nil {
			return header{}, fmt.Errorf("host: %s: %w", filepath.Base(path), err)
		}
		head.backing = string(name)
	}
	return head, nil
}

// volume tells what is on disk; ErrNotFound when it is not here.
func (h *Host) volume(id string) (*pb.Volume, header, error) {
	path := h.volumePath(id)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, header{}, fmt.Errorf("%w: volume %s", hostlink.ErrNotFound, id)
	}
	if err != nil {
		return nil, header{}, fmt.Errorf("host: %w", err)
	}
	head, err := readHeader(path)
	if err != nil {
		return nil, header{}, err
	}
	v := &pb.Volume{Id: id, SizeBytes: head.size, Generation: h.fence.generation(id)}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v.AllocatedBytes = uint64(st.Blocks) * 512
	}
	return v, head, nil
}

// EnsureVolume implements hostlink.Host: it makes the volume, or grows it. A size of 0 with an
// image is the image's.
func (h *Host) EnsureVolume(ctx context.Context, r *pb.EnsureVolumeRequest) (*pb.Volume, error) {
	spec := r.GetSpec()
	if err := checkID("volume", spec.GetId()); err != nil {
		return nil, err
	}
	if spec.SizeBytes > maxVolume || spec.SizeBytes%512 != 0 || spec.SizeBytes == 0 && spec.ImageDigest == "" {
		return nil, fmt.Errorf("%w: a volume of %d bytes", hostlink.ErrInvalid, spec.SizeBytes)
	}
	return bounded(ctx, h, spec.Id, func(ctx context.Context) (*pb.Volume, error) {
		if err := h.fence.admit(spec.Id, r.Fence); err != nil {
			return nil, err
		}
		v, _, err := h.volume(spec.Id)
		if errors.Is(err, hostlink.ErrNotFound) {
			if err := h.createVolume(ctx, spec); err != nil {
				return nil, err
			}
			v, _, err = h.volume(spec.Id)
		}
		if err != nil {
			return nil, err
		}
		switch {
		case spec.SizeBytes == 0 || spec.SizeBytes == v.SizeBytes:
			return v, nil
		case spec.SizeBytes < v.SizeBytes:
			return nil, fmt.Errorf("%w: volume %s has %d bytes and cannot shrink to %d", hostlink.ErrInvalid, spec.Id, v.SizeBytes, spec.SizeBytes)
		}
		if err := h.growVolume(ctx, spec.Id, spec.SizeBytes); err != nil {
			return nil, err
		}
		v, _, err = h.volume(spec.Id)
		return v, err
	})
}

func (h *Host) createVolume(ctx context.Context, spec *pb.VolumeSpec) error {
	if err := h.needSpace(0); err != nil {
		return err
	}
	part := filepath.Join(h.conf.Dir, "volumes", ".part-"+spec.Id)
	defer os.Remove(part) // fails after the rename, as it should
	args := []string{"create", "-q", "-f", "qcow2"}
	if spec.ImageDigest != "" {
		unlock, err := h.lock(ctx, imagesLock)
		if err != nil {
			return err
		}
		defer unlock()
		path, format, info, err := h.image(spec.ImageDigest)
		if err != nil {
			return err
		}
		size := uint64(info.Size())
		if format == "qcow2" {
			head, err := readHeader(path)
			if err != nil {
				return err
			}
			size = head.size
		}
		if spec.SizeBytes != 0 && spec.SizeBytes < size {
			return fmt.Errorf("%w: a volume of %d bytes is smaller than its image of %d", hostlink.ErrInvalid, spec.SizeBytes, size)
		}
		args = append(args, "-b", path, "-F", format)
	}
	args = append(args, part)
	if spec.SizeBytes != 0 {
		args = append(args, strconv.FormatUint(spec.SizeBytes, 10))
	}
	if _, err := run(ctx, "qemu-img", args...); err != nil {
		return err
	}
	if err := os.Chmod(part, 0o600); err != nil {
		return spaceError(err)
	}
	f, err := os.Open(part)
	if err != nil {
		return spaceError(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return spaceError(err)
	}
	if err := os.Rename(part, h.volumePath(spec.Id)); err != nil {
		return spaceError(err)
	}
	return syncDir(filepath.Join(h.conf.Dir, "volumes"))
}

// growVolume grows a volume under the running guest that uses it, or by qemu-img.
func (h *Host) growVolume(ctx context.Context, id string, size uint64) error {
	l, err := h.virt.get(ctx)
	if err != nil {
		return err
	}
	user, err := h.userOf(l, id)
	if err != nil {
		return err
	}
	if user != nil {
		if err := l.DomainBlockResize(user.dom, user.target, size, libvirt.DomainBlockResizeBytes); err != nil {
			return virtError(err)
		}
		return nil
	}
	_, err = run(ctx, "qemu-img", "resize", "-q", "-f", "qcow2", h.volumePath(id), strconv.FormatUint(size, 10))
	return err
}

// RemoveVolume implements hostlink.Host. A volume that a running guest uses is refused.
func (h *Host) RemoveVolume(ctx context.Context, r *pb.RemoveVolumeRequest) (*pb.RemoveVolumeResponse, error) {
	if err := checkID("volume", r.GetId()); err != nil {
		return nil, err
	}
	return bounded(ctx, h, r.Id, func(ctx context.Context) (*pb.RemoveVolumeResponse, error) {
		if err := h.fence.admit(r.Id, r.Fence); err != nil {
			return nil, err
		}
		if _, err := os.Stat(h.volumePath(r.Id)); errors.Is(err, os.ErrNotExist) {
			return &pb.RemoveVolumeResponse{}, nil
		}
		l, err := h.virt.get(ctx)
		if err != nil {
			return nil, err
		}
		user, err := h.userOf(l, r.Id)
		if err != nil {
			return nil, err
		}
		if user != nil {
			return nil, fmt.Errorf("%w: volume %s is used by %s, which runs", hostlink.ErrInvalid, r.Id, user.dom.Name)
		}
		if err := os.Remove(h.volumePath(r.Id)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("host: %w", err)
		}
		return &pb.RemoveVolumeResponse{}, syncDir(filepath.Join(h.conf.Dir, "volumes"))
	})
}

// use is a running guest's disk that is a volume.
type use struct {
	dom    libvirt.Domain
	target string
}

// userOf finds the running guest that has a volume; nil when none has.
func (h *Host) userOf(l *libvirt.Libvirt, id string) (*use, error) {
	doms, _, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive)
	if err != nil {
		return nil, virtError(err)
	}
	path := h.volumePath(id)
	for _, dom := range doms {
		x, err := domainXML(l, dom, 0)
		if libvirt.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if x.Devices == nil {
			continue
		}
		for _, d := range x.Devices.Disks {
			if d.Source != nil && d.Source.File != nil && d.Source.File.File == path && d.Target != nil {
				return &use{dom, d.Target.Dev}, nil
			}
		}
	}
	return nil, nil
}
