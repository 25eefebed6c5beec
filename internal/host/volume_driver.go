package host

import (
	"context"

	"libvirt.org/go/libvirtxml"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// driver keeps the volumes of a host. The caller has checked ids and sizes and holds the volume's lock; what a
// running guest has open is changed through its QEMU, not here. Every verb does all of it or nothing, and may be
// repeated. A secret is the passphrase of an encrypted volume, and nil of another.
type driver interface {
	// list answers the ids of all volumes.
	list(ctx context.Context) ([]string, error)
	// look tells what there is of a volume; hostlink.ErrNotFound without it.
	look(ctx context.Context, id string) (*volume, error)
	// create makes a volume: empty, or as its image. An image must not go away meanwhile.
	create(ctx context.Context, spec *pb.VolumeSpec, image *image) error
	// duplicate makes a volume that is a copy of another, or of one of its snapshots. Snapshots are not copied.
	// A guest may have the other one open when a snapshot is copied. It may take long.
	duplicate(ctx context.Context, spec *pb.VolumeSpec) error
	grow(ctx context.Context, id string, bytes uint64, secret []byte) error
	snapshot(ctx context.Context, id, snapshot string, secret []byte) error
	removeSnapshot(ctx context.Context, id, snapshot string, secret []byte) error
	// rollback makes a volume what it was; the snapshot and all others stay.
	rollback(ctx context.Context, id, snapshot string, secret []byte) error
	remove(ctx context.Context, id string) error
	// live tells whether snapshot and removeSnapshot may be called while a running guest has the volume; else its
	// QEMU is told.
	live() bool
	// opened names a volume to qemu-img, which reads it.
	opened(id string, secret []byte) []string
	// disk is how libvirt opens a volume: source, driver type and what is below it. It names no secret.
	disk(ctx context.Context, id string) (libvirtxml.DomainDisk, error)
}

// volume is what a driver tells of one.
type volume struct {
	size, allocated uint64   // bytes
	snapshots       []string // ids
	encrypted       bool
	raw             bool
}

// image is a golden image as a new volume needs it.
type image struct {
	path, format string
	digest       string
	size         uint64 // of the disk in it
	encrypted    bool   // with the passphrase of the volumes that are made of it
}
