// Package block owns disks, with or without a machine. A disk's row says what
// it should be; the host that holds its volume is told the whole of it and
// answers what is.
package block

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/database"
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
	Ledger   *ledger.Service
}

// Service is block storage.
type Service struct {
	Deps
	flows    workflows
	machines Machines
}

// Machine is what a disk needs to know of the machine that it is attached to.
type Machine struct {
	ID, Name string
	HostID   string // where its volumes are
	Arch     string
	Stopped  bool // it has no QEMU
}

// Machines is how disks reach virtual machines, which are above them.
type Machines interface {
	// Resolve checks in the caller's transaction that a machine is in the scope and in a state in which disks come
	// and go: Running or Stopped. It answers compute's own codes (1004, 1005, 1006, 206).
	// detach: the disk is taken away, not attached.
	Resolve(ctx context.Context, tx bun.Tx, scope action.Scope, id string, detach bool) (*Machine, error)
	// Describe returns machines by id, in one query. Unknown ids are left out.
	Describe(ctx context.Context, ids []string) (map[string]Machine, error)
	// Replug tells the machine's host which disks the rows say it has, one call at a time for each machine, and
	// answers the volumes that it has. A running guest gets them at once, and is asked for those that go.
	Replug(ctx context.Context, id string) (volumes []string, err error)
	// Doomed lists the machines of a host that are being destroyed: nobody wants their volumes any more.
	Doomed(ctx context.Context, hostID string) ([]string, error)
	// Priced lists what the machine of a system disk pays for, with the disk as it is given.
	Priced(ctx context.Context, idb bun.IDB, system Disk) ([]catalog.Item, error)
}

// New prepares the service and registers its workflows and hooks; call it before the engine's and the fleet's Start.
func New(d Deps) *Service {
	s := &Service{Deps: d}
	s.register()
	s.Fleet.OnWanted(s.wanted)
	// A disk counts until it is in the bin; a system disk is hidden while its machine is there.
	s.Catalog.Divide(catalog.Division{Kind: catalog.StorageScope, From: "disk WHERE ended_at = 0 AND (deleted_at = 0 OR state = 'Deleting') AND NOT (role = 'Boot' AND hidden)",
		Sums: map[catalog.Factor]string{catalog.Disk: "sum(CASE WHEN role = 'Data' THEN 1 ELSE 0 END)", catalog.DiskSpace: "sum(size_gb)"}})
	s.Ledger.Register(ledger.Kind{Name: ledger.Disk, Table: "disk", AutoRenew: true, Remove: s.removeExpired})
	return s
}

// RegisterMachines names what disks are attached to. Call it before the engine's start.
func (s *Service) RegisterMachines(m Machines) { s.machines = m }

// How long rows stay after their resource: disks that could not be made for people to see why, tombstones for 205.
const (
	FailedKept    = 7 * 24 * time.Hour
	TombstoneKept = 180 * 24 * time.Hour
)

// Run sweeps failed disks, old tombstones and what moved volumes left behind, and makes hosts follow the switch of all limits, until ctx ends. Only the
// leading controller calls it.
func (s *Service) Run(ctx context.Context) {
	var g sync.WaitGroup
	g.Go(func() { clock.NewLoop(s.Clock, "disk sweep", time.Minute, s.sweep).Run(ctx) })
	g.Go(func() { clock.NewLoop(s.Clock, "moved disks", time.Second, s.leave).Run(ctx) })
	g.Go(func() { clock.NewLoop(s.Clock, "disk limits", 2*time.Second, s.followSwitch).Run(ctx) })
	g.Wait()
}

func (s *Service) sweep(ctx context.Context) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		now := s.Clock.Now()
		if _, err := tx.NewUpdate().Model((*Disk)(nil)).Set("state = ?", Released).Set("hidden = ?", true).Set("generation = generation + 1").
			Where("state = ? AND hidden = ? AND ended_at <= ?", Failed, false, now.Add(-FailedKept).UnixMicro()).Exec(ctx); err != nil {
			return err
		}
		old := now.Add(-TombstoneKept).UnixMicro()
		for _, model := range []any{(*Disk)(nil), (*Snapshot)(nil)} {
			if _, err := tx.NewDelete().Model(model).Where("ended_at > 0 AND ended_at <= ?", old).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// followSwitch tells the hosts of machines when limits are switched on or off. A machine that starts is told by its
// start, and those of hosts that are down are off.
func (s *Service) followSwitch(ctx context.Context) error {
	r := s.DB.Reader()
	var regions []string
	if err := r.NewSelect().Model((*Disk)(nil)).Distinct().Column("region").Where("hidden = ?", false).Scan(ctx, &regions); err != nil {
		return err
	}
	var rows []limitSwitch
	if err := r.NewSelect().Model(&rows).Scan(ctx); err != nil {
		return err
	}
	off := map[string]bool{}
	for _, row := range rows {
		off[row.Region] = !row.Told
	}
	var errs []error
	for _, region := range regions {
		on := s.Catalog.Config.DiskQoS(ctx, region)
		if off[region] == !on {
			continue
		}
		if err := s.tellAll(ctx, region); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewInsert().Model(&limitSwitch{Region: region, Told: on}).On("CONFLICT (region) DO UPDATE").Set("told = EXCLUDED.told").Exec(ctx)
			return err
		}))
	}
	return errors.Join(errs...)
}

// tellAll tells the hosts of a region's machines their disks.
func (s *Service) tellAll(ctx context.Context, region string) error {
	r := s.DB.Reader()
	var vms, shared []string
	if err := r.NewSelect().Model((*Disk)(nil)).Distinct().Column("vm_id").
		Where("region = ? AND state = ? AND vm_id <> '' AND hidden = ?", region, Bound, false).Scan(ctx, &vms); err != nil {
		return err
	}
	if err := r.NewSelect().Model((*share)(nil)).Distinct().Column("vm_id").
		Where("disk_id IN (?)", r.NewSelect().Model((*Disk)(nil)).Column("id").Where("region = ?", region)).Scan(ctx, &shared); err != nil {
		return err
	}
	all := append(vms, shared...)
	slices.Sort(all)
	var errs []error
	for _, vm := range slices.Compact(all) {
		_, err := s.machines.Replug(ctx, vm)
		errs = append(errs, fleet.IgnoreDown(err))
	}
	return errors.Join(errs...)
}
