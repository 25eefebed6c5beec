// Package fleet knows the sets and their hosts: who lives, what is free, where a
// virtual machine goes, and how to call a host. Higher products reach hosts
// through it alone.
package fleet

import (
	"context"
	"errors"
	"io"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// ErrHostDown is answered at once by calls to a host that is declared down.
var ErrHostDown = errors.New("fleet: the host is down")

// IgnoreDown turns ErrHostDown into nil, for removals: when the host returns, its
// reconciler removes what no row wants (OnWanted).
func IgnoreDown(err error) error {
	if errors.Is(err, ErrHostDown) {
		return nil
	}
	return err
}

// Demand is what something takes of a host. Zero fields take nothing.
type Demand struct {
	CPUs      int
	MemoryMiB int
	DiskGB    int
}

// Spot says where something may go.
type Spot struct {
	Region      string
	VMType      string // compute set type
	StorageType string // storage set type; empty: no disk is placed
	Arch        string // empty: any
	Demand      Demand
}

// Set is a compute or storage set. Its Type is what tenants name (VMType, SetType).
type Set struct {
	ID     string
	Region string
	Type   string
	Alias  string
	Arch   string
}

// States of a host.
const (
	Available = "Available"
	Locked    = "Locked" // nothing new is placed on it
	Down      = "Down"   // declared down by missed health calls; returns by itself
)

// HostInfo is what is known of a host now.
type HostInfo struct {
	ID, Name, Region, Arch string
	State                  string
	Chassis                string   // OVN system-id
	Networks               []string // provider networks it has a bridge for
	OverlayMTU             int      // MTU a guest may use; 0 unknown
	VirtType               string   // kvm, qemu
	Address                string   // of its agent
}

// Wanted are the objects that rows want on a host, by id.
type Wanted struct {
	Domains map[string]bool
	Volumes map[string]bool
}

// Deps of the service.
type Deps struct {
	DB      *database.DB
	Clock   *clock.Clock
	Catalog *catalog.Service
	// Epoch of the lease held, for fences.
	Epoch func() uint64
	// Dial returns the link to a host. It does not connect by itself.
	Dial func(hostID, address string) (hostlink.Host, error)
	// Images is the directory of image files, by digest.
	Images string
}

// Service is the fleet.
type Service struct{ Deps }

// New prepares the service; hooks are added before Start.
func New(d Deps) *Service { return &Service{Deps: d} }

// ComputeSet returns the set of a VMType that the tenant may use: 14000 unknown, 14001 not permitted.
func (s *Service) ComputeSet(ctx context.Context, company int64, region, vmType string) (*Set, error) {
	panic("not yet")
}

// StorageSet returns the set of a storage type that the tenant may use: 14000 unknown, 14002 not permitted.
func (s *Service) StorageSet(ctx context.Context, company int64, region, setType string) (*Set, error) {
	panic("not yet")
}

// Candidates proposes hosts for a spot, best first, from memory. Call it before the transaction. It never
// fails: an empty list is refused by Place with the right code.
func (s *Service) Candidates(spot Spot) []string { panic("not yet") }

// Place reserves the spot's demand on the first candidate that has room, or on any other host that
// has, in the caller's transaction. 14003/14004 no usable host of the type, 14005/14006 the set's
// total free is too small, 1019 no single host fits.
func (s *Service) Place(ctx context.Context, tx bun.Tx, spot Spot, candidates []string) (hostID string, err error) {
	panic("not yet")
}

// Reserve takes d of one given host by a guarded update, in the caller's transaction: 15002 locked,
// 560 down, 15003 too little CPU, 15004 too little memory, 14006 too little disk.
func (s *Service) Reserve(ctx context.Context, tx bun.Tx, hostID string, d Demand) error {
	panic("not yet")
}

// Release gives back what Place or Reserve took.
func (s *Service) Release(ctx context.Context, tx bun.Tx, hostID string, d Demand) error {
	panic("not yet")
}

// Host is the link to a host: it puts the epoch of the lease into fences and answers ErrHostDown at once
// when the host is down (or unknown). Callers set Fence.Generation and Fence.Operation only.
func (s *Service) Host(hostID string) hostlink.Host { panic("not yet") }

// HostInfo tells what is known of a host now; false when unknown.
func (s *Service) HostInfo(hostID string) (HostInfo, bool) { panic("not yet") }

// OverlayMTU is the MTU that guests of a region use.
func (s *Service) OverlayMTU(region string) int { panic("not yet") }

// GatewayChassis lists the chassis that can carry gateways of a provider network, in a stable order. A
// host that is declared down leaves at once, and returns when it was healthy for 60 s.
func (s *Service) GatewayChassis(region, network string) []string { panic("not yet") }

// OnGateways adds a hook that is told when GatewayChassis of a region changed. It must not block.
func (s *Service) OnGateways(f func(region string)) { panic("not yet") }

// OnDomain adds a hook for domain states that hosts report: every domain once after (re)connecting,
// then each change. It is called from one goroutine a host and may take its time.
func (s *Service) OnDomain(f func(ctx context.Context, hostID string, d *pb.Domain)) {
	panic("not yet")
}

// OnHost adds a hook that is told when a host changed its state. It must not block.
func (s *Service) OnHost(f func(hostID, state string)) { panic("not yet") }

// OnWanted adds a source of wanted objects. When a host returns, what no source wants is removed from it.
func (s *Service) OnWanted(f func(ctx context.Context, hostID string) (Wanted, error)) {
	panic("not yet")
}

// EnsureImage gives a host the image when it lacks it. One transfer at a time for each host and digest.
func (s *Service) EnsureImage(ctx context.Context, hostID, digest string) error { panic("not yet") }

// StoreImage reads an image into the store and returns its digest (lower-case hex SHA-256) and size.
func (s *Service) StoreImage(ctx context.Context, r io.Reader) (digest string, size int64, err error) {
	panic("not yet")
}

// OpenImage opens an image of the store.
func (s *Service) OpenImage(digest string) (io.ReadCloser, int64, error) { panic("not yet") }

// Capacity sums up the hosts of a region.
func (s *Service) Capacity(ctx context.Context, region string) (catalog.Capacity, error) {
	panic("not yet")
}

// Actions of the fleet.
func (s *Service) Actions() []action.Action { panic("not yet") }
