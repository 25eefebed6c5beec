package compute

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// sweepBatch bounds what one run of a sweep starts; the rest comes with the next.
const sweepBatch = 500

// BinFilter chooses resources in the recycle bin. Zero fields choose all.
type BinFilter struct {
	action.Scope
	Keyword string // in name or id
	IDs     []string
	Limit   int
}

// binned lists rows of the recycle bin, the newest deletion first, and how many match in all.
func binned(ctx context.Context, q *bun.SelectQuery, f BinFilter, states ...string) (int, error) {
	q = q.Where("state IN (?)", bun.In(states))
	q = identity.Own(q, f.Scope)
	if len(f.IDs) > 0 {
		q = q.Where("id IN (?)", bun.In(f.IDs))
	}
	n, err := like(q, f.Keyword, "name", "id").OrderExpr("deleted_at DESC, id DESC").Limit(int64(f.Limit)).ScanAndCount(ctx)
	return int(n), err
}

// BinnedVMs lists machines in the recycle bin, the newest deletion first, and how many match in all.
func (s *Service) BinnedVMs(ctx context.Context, f BinFilter) ([]VM, int, error) {
	var rows []VM
	n, err := binned(ctx, s.DB.Reader().NewSelect().Model(&rows), f, Deleting, Deleted, Terminating, Unterminated)
	return rows, n, err
}

// inBin reads a machine for an action of the bin, which knows it by id only: 200 when unknown.
func inBin(ctx context.Context, tx bun.Tx, c *action.Call, id string) (*VM, error) {
	v, err := vmByID(ctx, tx, c.Scope(), id)
	if retcode.Of(err) == retcode.VMNotFound {
		return nil, retcode.ResourceNotFound.Errorf("%s", id)
	}
	return v, err
}

// RestoreVM takes a machine out of the bin (RollbackResource), Stopped, with its address and MAC: 200 unknown
// or another tenant's, 202 on its way in or out, 203 not in the bin, 205 destroyed, 206 expired, 17005.
func (s *Service) RestoreVM(ctx context.Context, c *action.Call, id string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := inBin(ctx, tx, c, id)
		if err != nil {
			return err
		}
		if err := check(v, Rollback); err != nil {
			return err
		}
		if v.ExpireAt != 0 && v.ExpireAt <= s.Clock.Micros() {
			return retcode.ResourceExpired.Errorf("%s has expired", v.ID)
		}
		disks, err := disksOf(ctx, tx, v.ID)
		if err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, v.Company, v.Region, vmQuota(v, disks[v.ID])); err != nil {
			return err
		}
		if err := s.Network.ReturnPort(ctx, tx, v.PortID); err != nil {
			return err
		}
		v.Listed, v.DeletedAt = true, 0
		ok, err := s.move(ctx, tx, v, Stopped, "listed", "deleted_at")
		if err != nil {
			return err
		}
		if !ok {
			return retcode.InvalidResourceState.Errorf("%s is being changed by another request", v.ID)
		}
		return count(ctx, tx, v.Company, v.Region, 1)
	})
}

// DestroyVM destroys a machine of the bin for good (TerminateResource): 200 unknown or another tenant's, 201 not
// in the bin, 202 on its way in, 205 destroyed already. Destroying under way is answered as if accepted.
func (s *Service) DestroyVM(ctx context.Context, c *action.Call, id string) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := inBin(ctx, tx, c, id)
		if err != nil {
			return err
		}
		op, err = s.accept(ctx, tx, c, v, Terminate, Terminating, s.flows.terminate, nil)
		if retcode.Of(err) == retcode.InvalidVMState {
			return retcode.InvalidResourceState.Errorf("%s is being changed by another request", v.ID)
		}
		return err
	})
	if errors.Is(err, errRepeat) {
		return nil
	}
	if err != nil {
		return err
	}
	s.Engine.Kick(op)
	return nil
}

// SweepVMs starts the destruction of machines that entered the bin at or before a time (unix microseconds).
func (s *Service) SweepVMs(ctx context.Context, deletedBefore int64) error {
	var ids []string
	if err := s.DB.Reader().NewSelect().Model((*VM)(nil)).Column("id").Where("state IN (?, ?) AND deleted_at <= ?", Deleted, Unterminated, deletedBefore).
		OrderExpr("deleted_at, id").Limit(sweepBatch).Scan(ctx, &ids); err != nil {
		return err
	}
	var failed []error
	for _, id := range ids {
		var op string
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			v, err := vmByID(ctx, tx, action.Scope{}, id)
			if err != nil || v.State != Deleted && v.State != Unterminated {
				return err // somebody took it out meanwhile
			}
			op, err = s.accept(ctx, tx, nil, v, Terminate, Terminating, s.flows.terminate, nil)
			return err
		})
		if err == nil && op != "" {
			s.Engine.Kick(op)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// diskJob is the state of the workflow that destroys a data disk.
type diskJob struct {
	Disk       string
	Generation int64
}

func (s *Service) registerDisk() {
	s.flows.endDisk = workflow.Register(s.Engine, workflow.Definition[diskJob]{
		Name: "disk.terminate",
		Steps: []workflow.Step[diskJob]{{Name: "remove", Do: func(ctx context.Context, j *diskJob) error {
			d, err := diskByID(ctx, s.DB.Reader(), action.Scope{}, j.Disk)
			if err != nil {
				return err
			}
			if err := s.removeVolume(ctx, *d); err != nil {
				return s.hostFailure(ctx, &VM{ID: d.ID, Generation: d.Generation}, err, retcode.SystemBusy.Errorf("the host could not remove %s", d.ID))
			}
			return nil
		}}},
		Settle: func(ctx context.Context, tx bun.Tx, j *diskJob) error {
			d, err := diskByID(ctx, tx, action.Scope{}, j.Disk)
			if err != nil || d.Generation != j.Generation {
				return err
			}
			return s.endDisks(ctx, tx, DiskReleased, *d)
		},
		Abort: func(ctx context.Context, tx bun.Tx, j *diskJob, cause error) error {
			d, err := diskByID(ctx, tx, action.Scope{}, j.Disk)
			if err != nil || d.Generation != j.Generation {
				return err
			}
			return s.moveDisk(ctx, tx, d, Unterminated) // its volume may be gone
		},
	})
}

// diskByID reads one disk of a scope: 200 when unknown or out of it.
func diskByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*Disk, error) {
	d := new(Disk)
	err := identity.Own(idb.NewSelect().Model(d).Where("id = ?", id), scope).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.ResourceNotFound.Errorf("%s", id)
	}
	return d, err
}

// moveDisk changes a disk's state unless another request did since d was read: 5000.
func (s *Service) moveDisk(ctx context.Context, tx bun.Tx, d *Disk, to string) error {
	before := d.Generation
	d.State, d.Generation, d.UpdatedAt = to, before+1, s.Clock.Micros()
	r, err := tx.NewUpdate().Model(d).Column("state", "generation", "updated_at", "deleted_at").
		Where("id = ? AND generation = ?", d.ID, before).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, retcode.DiskStateUnstable.Errorf("%s is being changed by another request", d.ID))
	}
	return nil
}

// BinnedDisks lists data disks in the recycle bin, the newest deletion first, and how many match in all.
func (s *Service) BinnedDisks(ctx context.Context, f BinFilter) ([]Disk, int, error) {
	var rows []Disk
	n, err := binned(ctx, s.DB.Reader().NewSelect().Model(&rows), f, DiskDeleted, DiskReleasing, Unterminated)
	return rows, n, err
}

// checkDisk answers the code of a disk that is not in the bin.
func checkDisk(d *Disk, here retcode.Code) error {
	switch d.State {
	case DiskDeleted:
		return nil
	case DiskReleased, DiskFailed:
		return retcode.ResourceTerminated.Errorf("%s is destroyed", d.ID)
	case Unterminated:
		if here != retcode.ResourceAlreadyEnabled {
			return nil
		}
		return retcode.InvalidResourceState.Errorf("%s is being destroyed", d.ID)
	case DiskReleasing:
		if here != retcode.ResourceAlreadyEnabled {
			return errRepeat
		}
		return retcode.InvalidResourceState.Errorf("%s is being destroyed", d.ID)
	}
	return here.Errorf("%s is not in the recycle bin", d.ID)
}

// RestoreDisk takes a data disk out of the bin, Unbound: 200, 202, 203, 205, 206, 17005.
func (s *Service) RestoreDisk(ctx context.Context, c *action.Call, id string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		d, err := diskByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		if err := checkDisk(d, retcode.ResourceAlreadyEnabled); err != nil {
			return err
		}
		if d.ExpireAt != 0 && d.ExpireAt <= s.Clock.Micros() {
			return retcode.ResourceExpired.Errorf("%s has expired", d.ID)
		}
		if err := s.Catalog.Reserve(ctx, tx, d.Company, d.Region, catalog.Amounts{catalog.Disk: 1, catalog.DiskSpace: int64(d.SizeGB)}); err != nil {
			return err
		}
		d.DeletedAt = 0
		return s.moveDisk(ctx, tx, d, DiskUnbound)
	})
}

// DestroyDisk destroys a data disk of the bin for good: 200, 201, 205.
func (s *Service) DestroyDisk(ctx context.Context, c *action.Call, id string) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		d, err := diskByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		if err := checkDisk(d, retcode.InvalidResourceBizState); err != nil {
			return err
		}
		op, err = s.destroyDisk(ctx, tx, d)
		return err
	})
	if errors.Is(err, errRepeat) {
		return nil
	}
	if err != nil {
		return err
	}
	s.Engine.Kick(op)
	return nil
}

func (s *Service) destroyDisk(ctx context.Context, tx bun.Tx, d *Disk) (op string, err error) {
	if err := s.moveDisk(ctx, tx, d, DiskReleasing); err != nil {
		return "", err
	}
	return s.flows.endDisk.Accept(ctx, tx, workflow.Request{Action: "TerminateResource", Company: d.Company, Region: d.Region,
		Resources: []string{d.ID}, Locks: []workflow.Lock{{Resource: d.ID, Exclusive: true}}}, diskJob{Disk: d.ID, Generation: d.Generation})
}

// SweepDisks starts the destruction of data disks that entered the bin at or before a time (unix microseconds).
func (s *Service) SweepDisks(ctx context.Context, deletedBefore int64) error {
	var rows []Disk
	if err := s.DB.Reader().NewSelect().Model(&rows).Where("state IN (?, ?) AND deleted_at <= ?", DiskDeleted, Unterminated, deletedBefore).
		OrderExpr("deleted_at, id").Limit(sweepBatch).Scan(ctx); err != nil {
		return err
	}
	var failed []error
	for i := range rows {
		var op string
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
			d := rows[i] // as read: one that somebody took out meanwhile has another generation
			op, err = s.destroyDisk(ctx, tx, &d)
			return err
		})
		if err == nil {
			s.Engine.Kick(op)
		} else if retcode.Of(err) == retcode.DiskStateUnstable {
			err = nil
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}
