// Package compute owns virtual machines, and the images they
// start from. A machine's row says what it should be; hosts are told the whole
// of it and answer what is.
package compute

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/event"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/console"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/download"
	"github.com/lingyun-cloud/lingyun/internal/secret"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Deps of the service.
type Deps struct {
	DB       *database.DB
	Clock    *clock.Clock
	Engine   *workflow.Engine
	Secret   *secret.Key
	Identity *identity.Service
	Catalog  *catalog.Service
	Fleet    *fleet.Service
	Network  *network.Service
	Block    *block.Service
	Ledger   *ledger.Service
	Events   *event.Service
	// Console carries the bytes of consoles; it gets its sessions here.
	Console *console.Bridge
	// Downloads makes links to images.
	Downloads *download.Service
	// Base is the endpoint's URL without a path: parts of images are sent there.
	Base string
	// WorkDir is where images that tenants bring are put together.
	WorkDir string
	// ImportFrom are networks that images may be loaded from although they are the cloud's own (loopback, the hosts').
	ImportFrom []netip.Prefix
	// ImportDir is where administrators put image files for ImportBaseImage; empty: the action refuses.
	ImportDir string
	// QemuImg is the program that inspects images; empty: qemu-img of the search path.
	QemuImg string
}

// Service is compute.
type Service struct {
	Deps
	flows  workflows
	images imageWorkflows
	tidy   *clock.Loop // of files that images no longer need

	plugs plugs

	mu        sync.Mutex
	listeners map[string][]chan struct{} // of operations that wait for a domain, by machine
	unsettled map[string]report          // what hosts said of machines with an operation under way
}

// New prepares the service and registers its workflows and hooks; call it before the engine's and the fleet's Start.
func New(d Deps) *Service {
	s := &Service{Deps: d, listeners: map[string][]chan struct{}{}, unsettled: map[string]report{}}
	s.register()
	s.images = s.registerImages()
	s.tidy = clock.NewLoop(s.Clock, "image files", time.Hour, s.sweepUploads)
	s.Downloads.Register(imageFile, s.sendImage)
	s.Console.Sessions = s
	s.Fleet.OnDomain(s.onDomain)
	s.Fleet.OnWanted(s.wanted)
	s.Network.RegisterTarget(network.VM, target{s})
	s.Block.RegisterMachines(machines{s})
	s.Catalog.Divide(catalog.Division{Kind: catalog.ComputeScope, From: "vm WHERE state NOT IN ('Deleted', 'Terminating', 'Unterminated', 'Terminated', 'Failed')",
		Sums: map[catalog.Factor]string{catalog.VM: "count(*)", catalog.CPU: "sum(cpus)", catalog.Memory: "sum(memory_mib)"}})
	s.Ledger.Register(ledger.Kind{Name: ledger.VM, Longest: 24, Table: "vm", AutoRenew: true, Expired: s.stopExpired, Remove: s.removeExpired})
	return s
}

// How long rows stay after their resource: failed machines for people to see why, tombstones for 205.
const (
	FailedKept    = 7 * 24 * time.Hour
	TombstoneKept = 180 * 24 * time.Hour
)

// Run catches up with what hosts report, sweeps failed machines and old tombstones until ctx ends. Only
// the leading controller calls it.
func (s *Service) Run(ctx context.Context) {
	var g sync.WaitGroup
	g.Go(func() { clock.NewLoop(s.Clock, "compute reports", time.Second, s.catchUp).Run(ctx) })
	g.Go(func() { clock.NewLoop(s.Clock, "compute sweep", time.Minute, s.sweep).Run(ctx) })
	g.Go(func() { s.tidy.Run(ctx) })
	g.Go(func() { clock.NewLoop(s.Clock, "image sweep", 6*time.Hour, s.sweepImages).Run(ctx) })
	g.Wait()
}

// sweep ends failed machines after a week and forgets tombstones.
func (s *Service) sweep(ctx context.Context) error {
	now := s.Clock.Now()
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		var failed []VM
		if err := tx.NewSelect().Model(&failed).Where("state = ? AND deleted_at <= ?", Failed, now.Add(-FailedKept).UnixMicro()).
			Limit(500).Scan(ctx); err != nil {
			return err
		}
		for i := range failed {
			if err := s.endFailed(ctx, tx, &failed[i]); err != nil {
				return err
			}
		}
		if err := s.sweepSessions(ctx, tx); err != nil {
			return err
		}
		old := now.Add(-TombstoneKept).UnixMicro()
		_, err := tx.NewDelete().Model((*VM)(nil)).Where("ended_at > 0 AND ended_at <= ?", old).Exec(ctx)
		return err
	})
}

// endFailed destroys a machine whose creation failed: it holds nothing but its row.
func (s *Service) endFailed(ctx context.Context, tx bun.Tx, v *VM) error {
	v.Listed, v.EndedAt = false, s.Clock.Micros()
	ok, err := s.move(ctx, tx, v, Terminated, "listed", "ended_at")
	if err != nil || !ok {
		return err
	}
	return count(ctx, tx, v.Company, v.Region, -1)
}

// Actions of virtual machines and images.
func (s *Service) Actions() []action.Action {
	return slices.Concat(s.vmActions(), s.settingActions(), s.discActions(), s.keyPairActions(), s.consoleActions(), s.imageActions(),
		s.customImageActions(), s.baseImageActions())
}
