package fleet

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// Host is the link to a host: it puts the epoch of the lease into fences and answers ErrHostDown at once
// when the host is down (or unknown). Callers set Fence.Generation and Fence.Operation only.
func (s *Service) Host(hostID string) hostlink.Host { return &link{s, hostID} }

// link guards the calls to one host.
type link struct {
	fleet *Service
	host  string
}

var _ hostlink.Host = (*link)(nil)

// open returns the bare link of a host that is not down.
func (l *link) open() (hostlink.Host, error) {
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	m := l.fleet.members[l.host]
	if m == nil || m.row.Down || m.link == nil {
		return nil, fmt.Errorf("%w: %s", ErrHostDown, l.host)
	}
	return m.link, nil
}

// fenced is a copy of a request with its fence completed by the epoch of the lease.
func fenced[Q interface {
	proto.Message
	GetFence() *pb.Fence
}](l *link, q Q) Q {
	q = proto.Clone(q).(Q)
	m := q.ProtoReflect()
	m.Mutable(m.Descriptor().Fields().ByName("fence")).Message().Interface().(*pb.Fence).Epoch = l.fleet.Epoch()
	return q
}

// call makes one unary call with its deadline.
func call[Q, R any](ctx context.Context, l *link, request Q, method func(hostlink.Host, context.Context, Q) (R, error)) (r R, err error) {
	h, err := l.open()
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, hostlink.CallTimeout)
	defer cancel()
	return method(h, ctx, request)
}

func (l *link) Health(ctx context.Context, _ *pb.HealthRequest) (*pb.HealthResponse, error) {
	return call(ctx, l, &pb.HealthRequest{Epoch: l.fleet.Epoch()}, hostlink.Host.Health)
}

func (l *link) List(ctx context.Context, q *pb.ListRequest) (*pb.ListResponse, error) {
	return call(ctx, l, q, hostlink.Host.List)
}

func (l *link) Watch(ctx context.Context, q *pb.WatchRequest, each func(*pb.Event)) error {
	h, err := l.open()
	if err != nil {
		return err
	}
	return h.Watch(ctx, q, each)
}

func (l *link) ImageStatus(ctx context.Context, q *pb.ImageStatusRequest) (*pb.ImageStatusResponse, error) {
	return call(ctx, l, q, hostlink.Host.ImageStatus)
}

func (l *link) PutImage(ctx context.Context, digest string, size int64, r io.Reader) (*pb.ImageStatusResponse, error) {
	h, err := l.open()
	if err != nil {
		return nil, err
	}
	return h.PutImage(ctx, digest, size, r)
}

func (l *link) RemoveImage(ctx context.Context, q *pb.RemoveImageRequest) (*pb.RemoveImageResponse, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.RemoveImage)
}

func (l *link) EnsureVolume(ctx context.Context, q *pb.EnsureVolumeRequest) (*pb.Volume, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.EnsureVolume)
}

func (l *link) RemoveVolume(ctx context.Context, q *pb.RemoveVolumeRequest) (*pb.RemoveVolumeResponse, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.RemoveVolume)
}

func (l *link) EnsureDomain(ctx context.Context, q *pb.EnsureDomainRequest) (*pb.Domain, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.EnsureDomain)
}

func (l *link) RemoveDomain(ctx context.Context, q *pb.RemoveDomainRequest) (*pb.RemoveDomainResponse, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.RemoveDomain)
}

func (l *link) CertificateRequest(ctx context.Context, q *pb.CertificateRequestRequest) (*pb.CertificateRequestResponse, error) {
	return call(ctx, l, q, hostlink.Host.CertificateRequest)
}

func (l *link) InstallCertificate(ctx context.Context, q *pb.InstallCertificateRequest) (*pb.InstallCertificateResponse, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.InstallCertificate)
}

func (l *link) SetGuestPassword(ctx context.Context, q *pb.SetGuestPasswordRequest) (*pb.SetGuestPasswordResponse, error) {
	return call(ctx, l, q, hostlink.Host.SetGuestPassword)
}

func (l *link) SetGuestKeys(ctx context.Context, q *pb.SetGuestKeysRequest) (*pb.SetGuestKeysResponse, error) {
	return call(ctx, l, q, hostlink.Host.SetGuestKeys)
}

func (l *link) Console(ctx context.Context, id string, kind pb.ConsoleKind) (io.ReadWriteCloser, error) {
	h, err := l.open()
	if err != nil {
		return nil, err
	}
	return h.Console(ctx, id, kind)
}

func (l *link) ConsoleLog(ctx context.Context, q *pb.ConsoleLogRequest) (*pb.ConsoleLogResponse, error) {
	return call(ctx, l, q, hostlink.Host.ConsoleLog)
}

func (l *link) ExportVolume(ctx context.Context, q *pb.ExportVolumeRequest) (*pb.Export, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.ExportVolume)
}

func (l *link) RemoveExport(ctx context.Context, q *pb.RemoveExportRequest) (*pb.RemoveExportResponse, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.RemoveExport)
}

func (l *link) GetImage(ctx context.Context, digest string) (io.ReadCloser, error) {
	h, err := l.open()
	if err != nil {
		return nil, err
	}
	return h.GetImage(ctx, digest)
}

func (l *link) EnsureSnapshot(ctx context.Context, q *pb.EnsureSnapshotRequest) (*pb.Volume, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.EnsureSnapshot)
}

func (l *link) RemoveSnapshot(ctx context.Context, q *pb.RemoveSnapshotRequest) (*pb.Volume, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.RemoveSnapshot)
}

func (l *link) RollbackVolume(ctx context.Context, q *pb.RollbackVolumeRequest) (*pb.Volume, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.RollbackVolume)
}

func (l *link) EnsurePool(ctx context.Context, q *pb.EnsurePoolRequest) (*pb.PoolStatus, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.EnsurePool)
}

func (l *link) RemovePool(ctx context.Context, q *pb.RemovePoolRequest) (*pb.RemovePoolResponse, error) {
	return call(ctx, l, fenced(l, q), hostlink.Host.RemovePool)
}

func (l *link) ReadVolume(ctx context.Context, q *pb.ReadVolumeRequest, each func(*pb.VolumeChunk) error) error {
	h, err := l.open()
	if err != nil {
		return err
	}
	return h.ReadVolume(ctx, fenced(l, q), each)
}

// WriteVolume completes the fence of the first chunk, which carries one.
func (l *link) WriteVolume(ctx context.Context, next func() (*pb.VolumeChunk, error)) (*pb.Volume, error) {
	h, err := l.open()
	if err != nil {
		return nil, err
	}
	return h.WriteVolume(ctx, func() (*pb.VolumeChunk, error) {
		chunk, err := next()
		if chunk.GetFence() != nil {
			chunk = fenced(l, chunk)
		}
		return chunk, err
	})
}
