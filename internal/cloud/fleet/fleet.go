// Package fleet knows the sets and their hosts: who lives, what is free, where a
// virtual machine goes, and how to call a host. Higher products reach hosts
// through it alone.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/pki"
	"github.com/lingyun-cloud/lingyun/internal/secret"
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
	VirtType               string   // kvm, qemu, simulated
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
	// Secret seals the keys of storage sets.
	Secret *secret.Key
	Permit *permit.Service
	// Epoch of the lease held, for fences.
	Epoch func() uint64
	// Dial returns the link to a host. It does not connect by itself.
	Dial func(hostID, address string) (hostlink.Host, error)
	// Images is the directory of image files, by digest.
	Images string
	// Authority signs hosts' certificates; nil in a simulated cloud, which takes no host in.
	Authority *pki.Authority
	// Revoked is told which certificates are refused.
	Revoked *pki.Revoked
	// JoinURL is where a new host reaches this controller; empty: nowhere.
	JoinURL string
	// Southbound is how a host reaches OVN's southbound database (ovn-remote).
	Southbound string
}

// Service is the fleet.
type Service struct {
	Deps
	health  *clock.Loop
	refresh *clock.Loop
	renewal *clock.Loop

	mu       sync.RWMutex
	members  map[string]*member
	order    []*member           // by age
	snapshot map[string]*setView // by compute set id
	pools    map[string]*pool    // by storage set id: those that hosts share
	gateways map[string]string   // region → what OnGateways was last told
	running  context.Context     // of Run; nil before
	watchers sync.WaitGroup

	onDomain   []func(ctx context.Context, hostID string, d *pb.Domain)
	onGateways []func(region string)
	onHost     []func(hostID, state string)
	onWanted   []func(ctx context.Context, hostID string) (Wanted, error)

	storageOvercommit int64         // of new sets, in percent
	turn              atomic.Uint64 // of hosts, to handle disks that no machine has

	guesses  []guess     // guarded by mu
	dirty    atomic.Bool // the belief about free capacity may be wrong
	reloaded time.Time   // by the refresh loop
	images   singleflight.Group
}

// member is a host with what only this process knows of it. Its fields are guarded by Service.mu,
// but for link.
type member struct {
	id, name string
	row      hostRow
	networks []string           // of row, parsed
	link     hostlink.Host      // nil: it cannot be called
	stop     context.CancelFunc // of its watch
	seen     time.Time          // last answer to a health call, on the cloud's clock
	misses   int                // health calls without an answer since
	clean    bool               // what nobody wants was removed from it since it came
	diskFree int64              // GB of its volume directory's file system
	diskSize int64
	problems string
	pools    map[string]*pb.PoolStatus // by storage set id, as it told last
}

// New prepares the service; hooks are added before Start.
func New(d Deps) *Service {
	s := &Service{Deps: d, members: map[string]*member{}, snapshot: map[string]*setView{}, pools: map[string]*pool{}, gateways: map[string]string{}}
	s.health = clock.NewLoop(d.Clock, "host health", probeEvery, s.probe)
	s.refresh = clock.NewLoop(d.Clock, "host capacity", refreshEvery, s.refreshBelief)
	s.renewal = clock.NewLoop(d.Clock, "host certificates", 12*time.Hour, s.renewCertificates)
	return s
}

// Load reads the hosts without asking them anything, so that operations that go on after a restart
// find them.
func (s *Service) Load(ctx context.Context) error {
	if err := s.reload(ctx); err != nil {
		return fmt.Errorf("reading the hosts: %w", err)
	}
	return nil
}

// Start asks each host for its health once, so that a controller that says it is ready knows who
// lives. Hosts that do not answer are left to the loop. It needs the lease.
func (s *Service) Start(ctx context.Context) error {
	if err := s.Load(ctx); err != nil {
		return err
	}
	if err := s.readRevoked(ctx); err != nil {
		return fmt.Errorf("reading revoked certificates: %w", err)
	}
	first, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.probe(first); err != nil && ctx.Err() == nil && first.Err() == nil {
		return fmt.Errorf("asking the hosts: %w", err)
	}
	return ctx.Err()
}

// Run keeps the fleet: health, events, capacity and certificates, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	s.mu.Lock()
	s.running = ctx
	for _, m := range s.order {
		s.watch(m)
	}
	s.mu.Unlock()
	var loops sync.WaitGroup
	for _, l := range []*clock.Loop{s.health, s.refresh, s.renewal} {
		loops.Go(func() { l.Run(ctx) })
	}
	loops.Wait()
	s.watchers.Wait()
}

// HostInfo tells what is known of a host now; false when unknown.
func (s *Service) HostInfo(hostID string) (HostInfo, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.members[hostID]
	if m == nil {
		return HostInfo{}, false
	}
	return m.info(), true
}

// Hosts lists all hosts, the oldest first.
func (s *Service) Hosts() []HostInfo {
	s.mu.RLock()
	defer s.mu.RUnlock()
	infos := make([]HostInfo, len(s.order))
	for i, m := range s.order {
		infos[i] = m.info()
	}
	return infos
}

// set takes over a row. The caller holds the lock.
func (m *member) set(row hostRow) {
	if row.Networks != m.row.Networks || m.networks == nil {
		m.networks = row.networks()
	}
	m.row = row
}

func (m *member) info() HostInfo {
	r := &m.row
	return HostInfo{ID: r.ID, Name: r.Name, Region: r.Region, Arch: r.Arch, State: r.state(), Chassis: r.Chassis, Networks: m.networks,
		OverlayMTU: r.OverlayMTU, VirtType: r.VirtType, Address: r.Address}
}

// defaultMTU is Geneve's over an ordinary network.
const defaultMTU = 1442

// OverlayMTU is the MTU that guests of a region use: what every host of it can carry.
func (s *Service) OverlayMTU(region string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	mtu := 0
	for _, m := range s.order {
		if own := m.row.OverlayMTU; m.row.Region == region && own > 0 && (mtu == 0 || own < mtu) {
			mtu = own
		}
	}
	if mtu == 0 {
		return defaultMTU
	}
	return mtu
}

// OnGateways adds a hook that is told when GatewayChassis of a region changed. It must not block.
func (s *Service) OnGateways(f func(region string)) { s.onGateways = append(s.onGateways, f) }

// OnDomain adds a hook for domain states that hosts report: every domain once after (re)connecting,
// then each change. It is called from one goroutine a host, which waits for it.
func (s *Service) OnDomain(f func(ctx context.Context, hostID string, d *pb.Domain)) {
	s.onDomain = append(s.onDomain, f)
}

// OnHost adds a hook that is told when a host changed its state. It must not block.
func (s *Service) OnHost(f func(hostID, state string)) { s.onHost = append(s.onHost, f) }

// OnWanted adds a source of wanted objects. When a host returns, what no source wants is removed from it.
func (s *Service) OnWanted(f func(ctx context.Context, hostID string) (Wanted, error)) {
	s.onWanted = append(s.onWanted, f)
}

// Capacity sums up the hosts and the shared storage sets of a region.
func (s *Service) Capacity(ctx context.Context, region string) (catalog.Capacity, error) {
	var c catalog.Capacity
	err := s.DB.Reader().NewRaw(`SELECT coalesce(sum(cpu_total), 0), coalesce(sum(cpu_used), 0), coalesce(sum(memory_total), 0),
		coalesce(sum(memory_used), 0), coalesce(sum(disk_total), 0), coalesce(sum(disk_used), 0) FROM host WHERE region = ?`, region).
		Scan(ctx, &c.CPUs, &c.CPUsUsed, &c.MemoryMiB, &c.MemoryUsedMiB, &c.DiskGB, &c.DiskUsedGB)
	if err != nil {
		return c, err
	}
	var total, used int64
	if err := s.DB.Reader().NewRaw(`SELECT coalesce(sum(total_gb), 0), coalesce(sum(used_gb), 0) FROM storage_set WHERE region = ?`, region).
		Scan(ctx, &total, &used); err != nil {
		return c, err
	}
	c.DiskGB, c.DiskUsedGB = c.DiskGB+total, c.DiskUsedGB+used
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, m := range s.order {
		if m.row.Region == region && m.diskSize > 0 {
			c.DiskPhysicalUsedGB += m.diskSize - m.diskFree
		}
	}
	for _, p := range s.pools {
		if st := s.statusOf(p.row.ID); st != nil && p.row.Region == region {
			c.DiskPhysicalUsedGB += int64(st.UsedBytes >> 30)
		}
	}
	return c, nil
}
