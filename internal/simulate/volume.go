package simulate

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/lingyun-cloud/lingyun/internal/host"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// volume is a disk without data. Content says what would be in it: it changes with every write that a test pretends,
// and snapshots keep it.
type volume struct {
	spec      *pb.VolumeSpec
	content   string
	snapshots []snapshot
}

type snapshot struct {
	ID      string `json:"id"`
	Content string `json:"content,omitempty"`
	Size    uint64 `json:"size"`
}

func (h *Host) describeVolume(id string) *pb.Volume {
	v := h.volumes[id]
	if v == nil {
		return &pb.Volume{Id: id}
	}
	out := &pb.Volume{Id: id, SizeBytes: v.spec.SizeBytes, Generation: h.generations[id]}
	for _, s := range v.snapshots {
		out.Snapshots = append(out.Snapshots, s.ID)
	}
	return out
}

// EnsureVolume implements hostlink.Host.
func (h *Host) EnsureVolume(ctx context.Context, req *pb.EnsureVolumeRequest) (*pb.Volume, error) {
	if err := h.cloud.enter(ctx, h, "EnsureVolume"); err != nil {
		return nil, err
	}
	if err := host.CheckVolume(req.Spec); err != nil {
		return nil, err
	}
	s := req.Spec
	at, err := h.at(s.Pool)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	err = h.fence(req.Fence, s.Id)
	_, imaged := h.images[s.ImageDigest]
	h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return at.ensure(s, imaged)
}

// ensure makes or grows a volume. imaged: the image is there.
func (h *Host) ensure(s *pb.VolumeSpec, imaged bool) (*pb.Volume, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	have := h.volumes[s.Id]
	if have == nil && s.ImageDigest != "" && !imaged {
		return nil, fmt.Errorf("%w: image %s", hostlink.ErrNotFound, s.ImageDigest)
	}
	if err := h.room(s); err != nil {
		return nil, err
	}
	if have == nil {
		made := &volume{spec: kept(s)}
		if s.SourceVolume != "" {
			source := h.volumes[s.SourceVolume]
			if source == nil {
				return nil, fmt.Errorf("%w: volume %s", hostlink.ErrNotFound, s.SourceVolume)
			}
			made.content = source.content
			if s.SourceSnapshot != "" {
				at := source.find(s.SourceSnapshot)
				if at < 0 {
					return nil, fmt.Errorf("%w: snapshot %s", hostlink.ErrNotFound, s.SourceSnapshot)
				}
				made.content = source.snapshots[at].Content
			}
		}
		h.volumes[s.Id] = made
		h.saveVolume(s.Id)
		return h.describeVolume(s.Id), nil
	}
	if have.spec.SizeBytes > s.SizeBytes {
		return nil, fmt.Errorf("%w: volume %s has %d bytes and cannot shrink to %d", hostlink.ErrInvalid, s.Id, have.spec.SizeBytes, s.SizeBytes)
	}
	if have.spec.SizeBytes != s.SizeBytes {
		have.spec.SizeBytes = s.SizeBytes
		h.saveVolume(s.Id)
	}
	return h.describeVolume(s.Id), nil
}

// kept is a specification as a host may keep it: without the passphrase.
func kept(s *pb.VolumeSpec) *pb.VolumeSpec {
	s = proto.Clone(s).(*pb.VolumeSpec)
	s.Secret = nil
	return s
}

// room refuses what does not fit on the host's disks.
func (h *Host) room(s *pb.VolumeSpec) error {
	used := s.SizeBytes
	for id, v := range h.volumes {
		if id != s.Id {
			used += v.spec.SizeBytes
		}
	}
	if used > h.total() {
		return fmt.Errorf("%w: %d bytes on %s", hostlink.ErrNoSpace, s.SizeBytes, h.id)
	}
	return nil
}

// total is the room of a host's disks, or of a pool, in bytes.
func (h *Host) total() uint64 {
	if h.name == "" {
		return uint64(h.cloud.o.PoolGB) << 30
	}
	return uint64(h.cloud.o.DiskGB) << 30
}

func (v *volume) find(id string) int {
	return slices.IndexFunc(v.snapshots, func(s snapshot) bool { return s.ID == id })
}

// user is the domain that has a volume, running or defined; empty: none.
func (h *Host) user(id string, running bool) string {
	for _, d := range h.domains {
		if slices.Contains(d.open(), id) && (!running || d.state == pb.DomainState_DOMAIN_STATE_RUNNING) {
			return d.spec.Id
		}
	}
	return ""
}

// open are the volumes that a domain has.
func (d *domain) open() []string {
	ids := slices.Clone(d.held)
	for _, disk := range d.spec.GetDisks() {
		if !slices.Contains(ids, disk.VolumeId) {
			ids = append(ids, disk.VolumeId)
		}
	}
	slices.Sort(ids)
	return ids
}

// hold keeps what a running guest does not let go of, when it was told to be so.
func (d *domain) hold(next *pb.DomainSpec) {
	d.held = slices.DeleteFunc(d.held, func(id string) bool { return !d.clings || d.state != pb.DomainState_DOMAIN_STATE_RUNNING })
	if !d.clings || d.state != pb.DomainState_DOMAIN_STATE_RUNNING {
		return
	}
	for _, id := range d.open() {
		gone := !slices.ContainsFunc(next.Disks, func(x *pb.DomainDisk) bool { return x.VolumeId == id })
		if gone && !slices.Contains(d.held, id) {
			d.held = append(d.held, id)
		}
	}
}

// RemoveVolume implements hostlink.Host.
func (h *Host) RemoveVolume(ctx context.Context, req *pb.RemoveVolumeRequest) (*pb.RemoveVolumeResponse, error) {
	at, _, err := h.change(ctx, "RemoveVolume", req.Pool, req.Id, req.Id, req.Fence)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	user := h.user(req.Id, false)
	h.mu.Unlock()
	if user != "" {
		return nil, fmt.Errorf("%w: volume %s is used by %s", hostlink.ErrInvalid, req.Id, user)
	}
	if at != h {
		if user := h.elsewhere(req.Id); user != "" {
			return nil, fmt.Errorf("%w: volume %s is watched by %s", hostlink.ErrUnavailable, req.Id, user)
		}
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.volumes[req.Id] != nil {
		delete(at.volumes, req.Id)
		at.saveVolume(req.Id)
	}
	return &pb.RemoveVolumeResponse{}, nil
}

// change finds a volume for a call about a snapshot of it, and where it is.
func (h *Host) change(ctx context.Context, call, pool, resource, volume string, f *pb.Fence) (*Host, *volume, error) {
	if err := h.cloud.enter(ctx, h, call); err != nil {
		return nil, nil, err
	}
	at, err := h.at(pool)
	if err != nil {
		return nil, nil, err
	}
	h.mu.Lock()
	err = h.fence(f, resource)
	h.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	return at, at.volumes[volume], nil
}

// EnsureSnapshot implements hostlink.Host.
func (h *Host) EnsureSnapshot(ctx context.Context, req *pb.EnsureSnapshotRequest) (*pb.Volume, error) {
	at, v, err := h.change(ctx, "EnsureSnapshot", req.Pool, req.Id, req.VolumeId, req.Fence)
	if err != nil {
		return nil, err
	}
	frozen := h.runs(req.VolumeId)
	at.mu.Lock()
	defer at.mu.Unlock()
	if v == nil {
		return nil, fmt.Errorf("%w: volume %s", hostlink.ErrNotFound, req.VolumeId)
	}
	if v.spec.Raw {
		return nil, fmt.Errorf("%w: volume %s is shared", hostlink.ErrInvalid, req.VolumeId)
	}
	if v.find(req.Id) < 0 {
		v.snapshots = append(v.snapshots, snapshot{req.Id, v.content, v.spec.SizeBytes})
		at.saveVolume(req.VolumeId)
	}
	out := at.describeVolume(req.VolumeId)
	out.Frozen = frozen
	return out, nil
}

// RemoveSnapshot implements hostlink.Host.
func (h *Host) RemoveSnapshot(ctx context.Context, req *pb.RemoveSnapshotRequest) (*pb.Volume, error) {
	at, v, err := h.change(ctx, "RemoveSnapshot", req.Pool, req.Id, req.VolumeId, req.Fence)
	if err != nil {
		return nil, err
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	if v == nil {
		return at.describeVolume(req.VolumeId), nil
	}
	if n := v.find(req.Id); n >= 0 {
		v.snapshots = slices.Delete(v.snapshots, n, n+1)
		at.saveVolume(req.VolumeId)
	}
	return at.describeVolume(req.VolumeId), nil
}

// KillInRollback lets the agent be killed in the middle of the next roll back: the data is that of the snapshot, and so
// is the size.
func (h *Host) KillInRollback() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.killInRollback = true
}

// RollbackVolume implements hostlink.Host.
func (h *Host) RollbackVolume(ctx context.Context, req *pb.RollbackVolumeRequest) (*pb.Volume, error) {
	at, v, err := h.change(ctx, "RollbackVolume", req.Pool, req.VolumeId, req.VolumeId, req.Fence)
	if err != nil {
		return nil, err
	}
	running := h.runs(req.VolumeId)
	at.mu.Lock()
	defer at.mu.Unlock()
	if v == nil || v.find(req.SnapshotId) < 0 {
		return nil, fmt.Errorf("%w: snapshot %s of volume %s", hostlink.ErrNotFound, req.SnapshotId, req.VolumeId)
	}
	if running {
		return nil, fmt.Errorf("%w: volume %s is used by a guest, which runs", hostlink.ErrInvalid, req.VolumeId)
	}
	back := v.snapshots[v.find(req.SnapshotId)]
	v.content = back.Content
	if at.killInRollback {
		at.killInRollback, v.spec.SizeBytes = false, back.Size
		at.saveVolume(req.VolumeId)
		return nil, fmt.Errorf("%w: the agent was killed", hostlink.ErrUnavailable)
	}
	at.saveVolume(req.VolumeId)
	return at.describeVolume(req.VolumeId), nil
}

// ReadVolume implements hostlink.Host: the volume's description is all of its data.
func (h *Host) ReadVolume(ctx context.Context, req *pb.ReadVolumeRequest, each func(*pb.VolumeChunk) error) error {
	_, v, err := h.change(ctx, "ReadVolume", "", "", req.Id, req.Fence)
	if err != nil {
		return err
	}
	if v == nil {
		return fmt.Errorf("%w: volume %s", hostlink.ErrNotFound, req.Id)
	}
	h.mu.Lock()
	data, user := v.data(), h.user(req.Id, true)
	h.mu.Unlock()
	if user != "" {
		return fmt.Errorf("%w: volume %s is used by %s, which runs", hostlink.ErrInvalid, req.Id, user)
	}
	if err := each(&pb.VolumeChunk{Length: uint64(len(data))}); err != nil {
		return err
	}
	if err := each(&pb.VolumeChunk{Data: data}); err != nil {
		return err
	}
	return each(&pb.VolumeChunk{Last: true})
}

// WriteVolume implements hostlink.Host.
func (h *Host) WriteVolume(ctx context.Context, next func() (*pb.VolumeChunk, error)) (*pb.Volume, error) {
	first, err := next()
	if err != nil {
		return nil, err
	}
	spec := first.Spec
	if _, _, err := h.change(ctx, "WriteVolume", "", spec.GetId(), spec.GetId(), first.Fence); err != nil {
		return nil, err
	}
	var data []byte
	for chunk := first; ; {
		data = append(data, chunk.Data...)
		if chunk.Last {
			break
		}
		if chunk, err = next(); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if spec.ImageDigest != "" {
		if _, ok := h.images[spec.ImageDigest]; !ok {
			return nil, fmt.Errorf("%w: image %s", hostlink.ErrNotFound, spec.ImageDigest)
		}
	}
	if err := h.room(spec); err != nil {
		return nil, err
	}
	v := &volume{spec: kept(spec)}
	if err := v.fill(data); err != nil {
		return nil, fmt.Errorf("%w: %w", hostlink.ErrInvalid, err)
	}
	h.volumes[spec.Id] = v
	h.saveVolume(spec.Id)
	return h.describeVolume(spec.Id), nil
}

// Write pretends that a guest writes to a volume: what it holds is now content. False without the volume.
func (h *Host) Write(id, content string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.volumes[id]
	if v == nil {
		return false
	}
	v.content = content
	h.saveVolume(id)
	return true
}

// Content is what a volume holds; empty without it.
func (h *Host) Content(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.volumes[id]; v != nil {
		return v.content
	}
	return ""
}

// Cling makes a guest keep disks that are taken away, or let go of them again. False without the domain.
func (h *Host) Cling(id string, clings bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.domains[id]
	if d == nil {
		return false
	}
	d.clings = clings
	return true
}

// Disk is what a domain was told of a disk; nil when it does not have it.
func (h *Host) Disk(domain, volume string) *pb.DomainDisk {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.domains[domain]
	if d == nil {
		return nil
	}
	for _, d := range d.spec.GetDisks() {
		if d.VolumeId == volume {
			return proto.Clone(d).(*pb.DomainDisk)
		}
	}
	return nil
}
