package block

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// sweepBatch bounds what one run of a sweep starts; the rest comes with the next.
const sweepBatch = 500

// BinnedDisks lists data disks in the recycle bin, the newest deletion first, and how many match in all.
func (s *Service) BinnedDisks(ctx context.Context, f resource.BinFilter) ([]Disk, int, error) {
	var rows []Disk
	n, err := f.Scan(ctx, s.DB.Reader().NewSelect().Model(&rows).Where("state IN (?, ?, ?, ?)", Deleting, Deleted, Releasing, Unterminated))
	return rows, n, err
}

// RestoreDisk takes a data disk out of the bin, Unbound: 200, 202, 203, 205, 206, 17005.
func (s *Service) RestoreDisk(ctx context.Context, c *action.Call, id string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		d, err := ByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		if err := check(d, verbRestore); err != nil {
			return err
		}
		if err := s.Ledger.Restore(ctx, tx, d.ID); err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, d.Company, d.Region, Quota(*d)); err != nil {
			return err
		}
		d.Hidden, d.DeletedAt = false, 0
		return s.move(ctx, tx, d, Unbound, "hidden", "deleted_at")
	})
}

// DestroyDisk destroys a data disk of the bin for good: 200, 201, 205.
func (s *Service) DestroyDisk(ctx context.Context, c *action.Call, id string) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		d, err := ByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		if err := check(d, verbTerminate); err != nil {
			return err
		}
		op, err = s.beginDestroy(ctx, tx, d)
		return err
	})
	if errors.Is(err, lifecycle.ErrRepeat) {
		return nil
	}
	if err != nil {
		return err
	}
	s.Engine.Kick(op)
	return nil
}

func (s *Service) beginDestroy(ctx context.Context, tx bun.Tx, d *Disk) (op string, err error) {
	if err := s.move(ctx, tx, d, Releasing); err != nil {
		return "", err
	}
	return s.flows.terminate.Accept(ctx, tx, workflow.Request{Action: "TerminateResource", Company: d.Company, Region: d.Region,
		Resources: []string{d.ID}, Locks: []workflow.Lock{{Resource: d.ID, Exclusive: true}}}, job{Disk: d.ID, Generation: d.Generation})
}

// removeExpired moves a data disk whose grace is over to the bin; while it is attached it waits.
func (s *Service) removeExpired(ctx context.Context, id string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		d, err := ByID(ctx, tx, action.Scope{}, id)
		if err != nil {
			return err
		}
		if d.State != Unbound {
			return ledger.ErrUnderWay
		}
		if err := s.Catalog.Release(ctx, tx, d.Company, d.Region, Quota(*d)); err != nil {
			return err
		}
		if err := s.forgetSnapshots(ctx, tx, d.ID); err != nil {
			return err
		}
		d.Hidden, d.DeletedAt = true, s.Clock.Micros()
		if err := s.move(ctx, tx, d, Deleted, "hidden", "deleted_at"); err != nil {
			return err
		}
		return s.Ledger.Recycle(ctx, tx, d.ID)
	})
}

// SweepDisks starts the destruction of data disks that entered the bin at or before a time (unix microseconds).
func (s *Service) SweepDisks(ctx context.Context, region string, deletedBefore int64) error {
	var rows []Disk
	if err := s.DB.Reader().NewSelect().Model(&rows).Where("region = ? AND state IN (?, ?) AND deleted_at <= ?", region, Deleted, Unterminated, deletedBefore).
		OrderExpr("deleted_at, id").Limit(sweepBatch).Scan(ctx); err != nil {
		return err
	}
	var failed []error
	for i := range rows {
		var op string
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
			d := rows[i] // as read: one that somebody took out meanwhile has another generation
			op, err = s.beginDestroy(ctx, tx, &d)
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
