// Package block owns disks, with or without a machine. A disk's row says what
// it should be; the host that holds its volume is told the whole of it and
// answers what is.
package block

import (
	"context"
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
	ID, Name, Project string
	HostID            string // where its volumes are
	Arch              string
	Stopped           bool // it has no QEMU
	Locked            bool // an operation of its own holds it
}

// Machines is how disks reach virtual machines, which are above them.
type Machines interface {
	// Resolve checks in the caller's transaction that a machine is in the scope and in a state in which disks come
	// and go: Running or Stopped. It answers compute's own codes (1004, 1005, 1006, 206).
	Resolve(ctx context.Context, tx bun.Tx, scope action.Scope, id string) (*Machine, error)
	// Describe returns machines by id, in one query. Unknown ids are left out.
	Describe(ctx context.Context, ids []string) (map[string]Machine, error)
	// Replug makes the machine's host have exactly the disks that the rows say, at once when its guest runs.
	Replug(ctx context.Context, id string) error
	// Doomed lists the machines of a host that are being destroyed: nobody wants their volumes any more.
	Doomed(ctx context.Context, hostID string) ([]string, error)
}

// New prepares the service and registers its workflows and hooks; call it before the engine's and the fleet's Start.
func New(d Deps) *Service {
	s := &Service{Deps: d}
	s.register()
	s.Fleet.OnWanted(s.wanted)
	s.Ledger.Register(ledger.Kind{Name: ledger.Disk, Table: "disk", Remove: s.removeExpired})
	return s
}

// RegisterMachines names what disks are attached to. Call it before the engine's start.
func (s *Service) RegisterMachines(m Machines) { s.machines = m }

// TombstoneKept is how long the row of a destroyed disk stays, for 205.
const TombstoneKept = 180 * 24 * time.Hour

// Run forgets old tombstones until ctx ends. Only the leading controller calls it.
func (s *Service) Run(ctx context.Context) {
	clock.NewLoop(s.Clock, "disk sweep", time.Minute, s.sweep).Run(ctx)
}

func (s *Service) sweep(ctx context.Context) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*Disk)(nil)).Where("ended_at > 0 AND ended_at <= ?", s.Clock.Now().Add(-TombstoneKept).UnixMicro()).Exec(ctx)
		return err
	})
}

// Actions of disks.
func (s *Service) Actions() []action.Action { return nil }
