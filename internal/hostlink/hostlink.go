// Package hostlink is what controller and host say to each other: the protocol
// (hostlink.proto), a client and a server for it over mutual TLS, and no logic.
// The agent (internal/host) and simulated hosts (internal/simulate) implement
// Host; the controller's fleet calls it and cannot tell which it talks to.
package hostlink

//go:generate protoc --go_out=hostlinkpb --go_opt=paths=source_relative --connect-go_out=hostlinkpb --connect-go_opt=paths=source_relative,simple hostlink.proto

import (
	"context"
	"errors"
	"io"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// Errors a host answers besides transport failures. They survive the wire.
var (
	// ErrFenced: the caller's epoch or generation is older than one seen before. Never retried.
	ErrFenced = errors.New("hostlink: a newer controller or a newer generation was here")
	// ErrNotFound: a volume, image or domain named by the request is not on the host.
	ErrNotFound = errors.New("hostlink: not found on the host")
	// ErrInvalid: the specification cannot be applied (shrinking a volume, a malformed id).
	ErrInvalid = errors.New("hostlink: invalid specification")
	// ErrNoSpace: the host's volume directory is full.
	ErrNoSpace = errors.New("hostlink: no space on the host")
)

// MaxUserData is how many bytes of user data a seed may have.
const MaxUserData = 1 << 20

// Host is one host as the controller sees it. Every call is idempotent.
type Host interface {
	Health(context.Context, *pb.HealthRequest) (*pb.HealthResponse, error)
	List(context.Context, *pb.ListRequest) (*pb.ListResponse, error)
	// Watch calls each for every event until ctx ends or the link breaks; each must not block.
	Watch(ctx context.Context, req *pb.WatchRequest, each func(*pb.Event)) error

	ImageStatus(context.Context, *pb.ImageStatusRequest) (*pb.ImageStatusResponse, error)
	// PutImage sends a whole image; the host verifies the digest and keeps nothing on a mismatch.
	PutImage(ctx context.Context, digest string, size int64, r io.Reader) (*pb.ImageStatusResponse, error)
	RemoveImage(context.Context, *pb.RemoveImageRequest) (*pb.RemoveImageResponse, error)

	EnsureVolume(context.Context, *pb.EnsureVolumeRequest) (*pb.Volume, error)
	RemoveVolume(context.Context, *pb.RemoveVolumeRequest) (*pb.RemoveVolumeResponse, error)

	EnsureDomain(context.Context, *pb.EnsureDomainRequest) (*pb.Domain, error)
	RemoveDomain(context.Context, *pb.RemoveDomainRequest) (*pb.RemoveDomainResponse, error)

	EnsureSnapshot(context.Context, *pb.EnsureSnapshotRequest) (*pb.Volume, error)
	RemoveSnapshot(context.Context, *pb.RemoveSnapshotRequest) (*pb.Volume, error)
	RollbackVolume(context.Context, *pb.RollbackVolumeRequest) (*pb.Volume, error)
	// ReadVolume calls each for every chunk of a volume, the last one included.
	ReadVolume(ctx context.Context, req *pb.ReadVolumeRequest, each func(*pb.VolumeChunk) error) error
	// WriteVolume makes a volume of the chunks that next answers, the last one included; nothing is kept when one is
	// missing.
	WriteVolume(ctx context.Context, next func() (*pb.VolumeChunk, error)) (*pb.Volume, error)

	EnsurePool(context.Context, *pb.EnsurePoolRequest) (*pb.PoolStatus, error)
	RemovePool(context.Context, *pb.RemovePoolRequest) (*pb.RemovePoolResponse, error)

	CertificateRequest(context.Context, *pb.CertificateRequestRequest) (*pb.CertificateRequestResponse, error)
	InstallCertificate(context.Context, *pb.InstallCertificateRequest) (*pb.InstallCertificateResponse, error)

	SetGuestPassword(context.Context, *pb.SetGuestPasswordRequest) (*pb.SetGuestPasswordResponse, error)
	SetGuestKeys(context.Context, *pb.SetGuestKeysRequest) (*pb.SetGuestKeysResponse, error)
	// Console connects to a guest's screen or serial port. The caller closes the connection; it ends with ctx, too.
	// Deadlines of the connection do nothing when it crosses a link.
	Console(ctx context.Context, id string, kind pb.ConsoleKind) (io.ReadWriteCloser, error)
	ConsoleLog(context.Context, *pb.ConsoleLogRequest) (*pb.ConsoleLogResponse, error)

	ExportVolume(context.Context, *pb.ExportVolumeRequest) (*pb.Export, error)
	RemoveExport(context.Context, *pb.RemoveExportRequest) (*pb.RemoveExportResponse, error)
	// GetImage reads an image of the host. The caller closes it and verifies the digest.
	GetImage(ctx context.Context, digest string) (io.ReadCloser, error)
}
