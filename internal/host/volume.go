package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

const (
	// maxVolume bounds a volume's virtual size: 64 TiB.
	maxVolume = 64 << 40
	// maxSecret bounds a passphrase, in bytes: it goes through a pipe in one piece.
	maxSecret = 1024
)

// volumePath is the file of a volume of the directory.
func (h *Host) volumePath(id string) string {
	return h.own.path(id)
}

// describeVolume tells what there is; ErrNotFound when it is not here.
func (h *Host) describeVolume(ctx context.Context, d driver, id string) (*pb.Volume, error) {
	v, err := d.look(ctx, id)
	if err != nil {
		return nil, err
	}
	return &pb.Volume{Id: id, SizeBytes: v.size, AllocatedBytes: v.allocated, Generation: h.fence.generation(id), Snapshots: v.snapshots}, nil
}

// secretOf is the passphrase of a specification: nil when it has none.
func secretOf(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func checkVolume(spec *pb.VolumeSpec) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", hostlink.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if err := checkID("volume", spec.GetId()); err != nil {
		return err
	}
	copied := spec.SourceVolume != ""
	if spec.SizeBytes > maxVolume || spec.SizeBytes%512 != 0 || spec.SizeBytes == 0 && spec.ImageDigest == "" {
		return bad("a volume of %d bytes", spec.SizeBytes)
	}
	if len(spec.Secret) > maxSecret {
		return bad("a passphrase of %d bytes", len(spec.Secret))
	}
	if spec.Raw && spec.ImageDigest != "" {
		return bad("a volume that guests share starts empty")
	}
	if copied {
		if err := checkID("volume", spec.SourceVolume); err != nil {
			return err
		}
		if spec.SourceVolume == spec.Id {
			return bad("volume %s as a copy of itself", spec.Id)
		}
	}
	if spec.SourceSnapshot != "" {
		if !copied || spec.Raw {
			return bad("a copy of snapshot %s", spec.SourceSnapshot)
		}
		return checkID("snapshot", spec.SourceSnapshot)
	}
	return nil
}

// EnsureVolume implements hostlink.Host: it makes the volume, or grows it. A size of 0 with an
// image is the image's. A copy takes its time: the answer says that it is under way.
func (h *Host) EnsureVolume(ctx context.Context, r *pb.EnsureVolumeRequest) (*pb.Volume, error) {
	spec := r.GetSpec()
	if err := checkVolume(spec); err != nil {
		return nil, err
	}
	d, err := h.store(spec.Pool)
	if err != nil {
		return nil, err
	}
	secret := secretOf(spec.Secret)
	return h.longWork(ctx, spec.Id, fmt.Sprintf("ensure %d", spec.SizeBytes), func(ctx context.Context) (*pb.Volume, error) {
		if err := h.fence.admit(spec.Id, r.Fence); err != nil {
			return nil, err
		}
		v, err := h.describeVolume(ctx, d, spec.Id)
		if errors.Is(err, hostlink.ErrNotFound) {
			if err := h.createVolume(ctx, d, spec); err != nil {
				return nil, err
			}
			v, err = h.describeVolume(ctx, d, spec.Id)
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
		if err := h.growVolume(ctx, d, spec.Id, spec.SizeBytes, secret); err != nil {
			return nil, err
		}
		return h.describeVolume(ctx, d, spec.Id)
	})
}

func (h *Host) createVolume(ctx context.Context, d driver, spec *pb.VolumeSpec) error {
	if err := h.roomIn(spec.Pool); err != nil {
		return err
	}
	if spec.SourceVolume != "" {
		if spec.SourceSnapshot == "" {
			// Nothing else happens to a volume that is copied as a whole.
			unlock, err := h.lock(ctx, spec.SourceVolume)
			if err != nil {
				return err
			}
			defer unlock()
			if err := h.idle(ctx, d, spec.SourceVolume); err != nil {
				return err
			}
		}
		return d.duplicate(ctx, spec)
	}
	if spec.ImageDigest == "" {
		return d.create(ctx, spec, nil)
	}
	unlock, err := h.lock(ctx, imagesLock)
	if err != nil {
		return err
	}
	defer unlock()
	path, format, info, err := h.image(spec.ImageDigest)
	if err != nil {
		return err
	}
	im := &image{path: path, format: format, digest: spec.ImageDigest, size: uint64(info.Size())}
	if format == "qcow2" {
		head, err := readHeader(path)
		if err != nil {
			return err
		}
		im.size, im.encrypted = head.size, head.encrypted
	}
	if im.encrypted && secretOf(spec.Secret) == nil {
		return fmt.Errorf("%w: image %s is encrypted", hostlink.ErrInvalid, spec.ImageDigest)
	}
	if spec.SizeBytes != 0 && spec.SizeBytes < im.size {
		return fmt.Errorf("%w: a volume of %d bytes is smaller than its image of %d", hostlink.ErrInvalid, spec.SizeBytes, im.size)
	}
	return d.create(ctx, spec, im)
}

// growVolume grows a volume under the running guest that uses it, or the file.
func (h *Host) growVolume(ctx context.Context, d driver, id string, size uint64, secret []byte) error {
	l, users, err := h.usersOf(ctx, d, id)
	if err != nil {
		return err
	}
	switch len(users) {
	case 0:
		return d.grow(ctx, id, size, secret)
	case 1:
		return virtError(l.DomainBlockResize(users[0].dom, users[0].target, size, libvirt.DomainBlockResizeBytes))
	}
	return fmt.Errorf("%w: volume %s is used by %d guests", hostlink.ErrInvalid, id, len(users))
}

// RemoveVolume implements hostlink.Host. A volume that a running guest uses is refused.
func (h *Host) RemoveVolume(ctx context.Context, r *pb.RemoveVolumeRequest) (*pb.RemoveVolumeResponse, error) {
	if err := checkID("volume", r.GetId()); err != nil {
		return nil, err
	}
	d, err := h.store(r.Pool)
	if err != nil {
		return nil, err
	}
	h.endWork(r.Id)
	return bounded(ctx, h, r.Id, func(ctx context.Context) (*pb.RemoveVolumeResponse, error) {
		if err := h.fence.admit(r.Id, r.Fence); err != nil {
			return nil, err
		}
		if _, err := d.look(ctx, r.Id); errors.Is(err, hostlink.ErrNotFound) {
			return &pb.RemoveVolumeResponse{}, nil
		}
		if err := h.idle(ctx, d, r.Id); err != nil {
			return nil, err
		}
		if err := h.forgetSecret(ctx, r.Id); err != nil {
			return nil, err
		}
		return &pb.RemoveVolumeResponse{}, d.remove(ctx, r.Id)
	})
}

// use is a running guest's disk that is a volume.
type use struct {
	dom    libvirt.Domain
	target string
	alias  string // of the device in QEMU
	agent  bool   // the guest's agent is connected
}

// usersOf finds the running guests that have a volume.
func (h *Host) usersOf(ctx context.Context, d driver, id string) (*libvirt.Libvirt, []use, error) {
	l, err := h.virt.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	at, err := d.disk(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	doms, _, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive)
	if err != nil {
		return nil, nil, virtError(err)
	}
	var users []use
	for _, dom := range doms {
		x, err := domainXML(l, dom, 0)
		if libvirt.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, nil, virtError(err)
		}
		if x.Devices == nil {
			continue
		}
		for _, disk := range x.Devices.Disks {
			if sourceOf(disk) != sourceOf(at) || disk.Target == nil {
				continue
			}
			u := use{dom: dom, target: disk.Target.Dev, agent: agentConnected(x)}
			if disk.Alias != nil {
				u.alias = disk.Alias.Name
			}
			users = append(users, u)
		}
	}
	return l, users, nil
}

// idle refuses what must not happen to a volume that a running guest uses.
func (h *Host) idle(ctx context.Context, d driver, id string) error {
	_, users, err := h.usersOf(ctx, d, id)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return fmt.Errorf("%w: volume %s is used by %s, which runs", hostlink.ErrInvalid, id, users[0].dom.Name)
	}
	return nil
}

func checkSnapshot(volume, snapshot string, secret []byte) error {
	if err := errors.Join(checkID("volume", volume), checkID("snapshot", snapshot)); err != nil {
		return err
	}
	if len(secret) > maxSecret {
		return fmt.Errorf("%w: a passphrase of %d bytes", hostlink.ErrInvalid, len(secret))
	}
	return nil
}

// EnsureSnapshot implements hostlink.Host. Under a running guest its file systems are at rest meanwhile, when its
// agent can do that.
func (h *Host) EnsureSnapshot(ctx context.Context, r *pb.EnsureSnapshotRequest) (*pb.Volume, error) {
	if err := checkSnapshot(r.GetVolumeId(), r.GetId(), r.GetSecret()); err != nil {
		return nil, err
	}
	d, err := h.store(r.Pool)
	if err != nil {
		return nil, err
	}
	return h.longWork(ctx, r.VolumeId, "snapshot "+r.Id, func(ctx context.Context) (*pb.Volume, error) {
		if err := h.fence.admit(r.Id, r.Fence); err != nil {
			return nil, err
		}
		v, err := h.describeVolume(ctx, d, r.VolumeId)
		if err != nil || slices.Contains(v.Snapshots, r.Id) {
			return v, err
		}
		if err := h.roomIn(r.Pool); err != nil {
			return nil, err
		}
		l, users, err := h.usersOf(ctx, d, r.VolumeId)
		if err != nil {
			return nil, err
		}
		frozen := false
		switch len(users) {
		case 0:
			err = d.snapshot(ctx, r.VolumeId, r.Id, secretOf(r.Secret))
		case 1:
			frozen, err = h.snapshotLive(l, users[0], r.Id, func() error {
				if d.live() {
					return d.snapshot(ctx, r.VolumeId, r.Id, secretOf(r.Secret))
				}
				return h.snapshotIn(l, users[0], r.Id)
			})
		default:
			err = fmt.Errorf("%w: volume %s is used by %d guests", hostlink.ErrInvalid, r.VolumeId, len(users))
		}
		if err != nil {
			return nil, err
		}
		if v, err = h.describeVolume(ctx, d, r.VolumeId); err != nil {
			return nil, err
		}
		v.Frozen = frozen
		return v, nil
	})
}

// RemoveSnapshot implements hostlink.Host. The others stay as they are.
func (h *Host) RemoveSnapshot(ctx context.Context, r *pb.RemoveSnapshotRequest) (*pb.Volume, error) {
	if err := checkSnapshot(r.GetVolumeId(), r.GetId(), r.GetSecret()); err != nil {
		return nil, err
	}
	d, err := h.store(r.Pool)
	if err != nil {
		return nil, err
	}
	return h.longWork(ctx, r.VolumeId, "remove snapshot "+r.Id, func(ctx context.Context) (*pb.Volume, error) {
		if err := h.fence.admit(r.Id, r.Fence); err != nil {
			return nil, err
		}
		v, err := h.describeVolume(ctx, d, r.VolumeId)
		if errors.Is(err, hostlink.ErrNotFound) {
			return &pb.Volume{Id: r.VolumeId}, nil
		}
		if err != nil || !slices.Contains(v.Snapshots, r.Id) {
			return v, err
		}
		l, users, err := h.usersOf(ctx, d, r.VolumeId)
		if err != nil {
			return nil, err
		}
		if len(users) > 0 && !d.live() {
			err = h.removeSnapshotLive(l, users[0], r.Id)
		} else {
			err = d.removeSnapshot(ctx, r.VolumeId, r.Id, secretOf(r.Secret))
		}
		if err != nil {
			return nil, err
		}
		return h.describeVolume(ctx, d, r.VolumeId)
	})
}

// RollbackVolume implements hostlink.Host. A volume that has grown since keeps its size.
func (h *Host) RollbackVolume(ctx context.Context, r *pb.RollbackVolumeRequest) (*pb.Volume, error) {
	if err := checkSnapshot(r.GetVolumeId(), r.GetSnapshotId(), r.GetSecret()); err != nil {
		return nil, err
	}
	d, err := h.store(r.Pool)
	if err != nil {
		return nil, err
	}
	return h.longWork(ctx, r.VolumeId, "roll back to "+r.SnapshotId, func(ctx context.Context) (*pb.Volume, error) {
		if err := h.fence.admit(r.VolumeId, r.Fence); err != nil {
			return nil, err
		}
		v, err := h.describeVolume(ctx, d, r.VolumeId)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(v.Snapshots, r.SnapshotId) {
			return nil, fmt.Errorf("%w: snapshot %s of volume %s", hostlink.ErrNotFound, r.SnapshotId, r.VolumeId)
		}
		if err := h.idle(ctx, d, r.VolumeId); err != nil {
			return nil, err
		}
		secret, size := secretOf(r.Secret), v.SizeBytes
		if err := d.rollback(ctx, r.VolumeId, r.SnapshotId, secret); err != nil {
			return nil, err
		}
		if v, err = h.describeVolume(ctx, d, r.VolumeId); err != nil {
			return nil, err
		}
		if v.SizeBytes < size {
			if err := d.grow(ctx, r.VolumeId, size, secret); err != nil {
				return nil, err
			}
			return h.describeVolume(ctx, d, r.VolumeId)
		}
		return v, nil
	})
}
