package compute

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/event"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// sweepBatch bounds what one run of a sweep starts; the rest comes with the next.
const sweepBatch = 500

// BinnedVMs lists machines in the recycle bin, the newest deletion first, and how many match in all.
func (s *Service) BinnedVMs(ctx context.Context, f resource.BinFilter) ([]VM, int, error) {
	var rows []VM
	n, err := f.Scan(ctx, s.DB.Reader().NewSelect().Model(&rows).Where("state IN (?)", bun.In([]string{Deleting, Deleted, Terminating, Unterminated})))
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
		disks, err := block.Of(ctx, tx, v.ID)
		if err != nil {
			return err
		}
		charged := []string{v.ID}
		for _, d := range disks[v.ID] {
			if d.OwnCharge {
				charged = append(charged, d.ID)
			}
		}
		if err := s.Ledger.Restore(ctx, tx, charged...); err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, v.Company, v.Region, vmQuota(v, disks[v.ID])); err != nil {
			return err
		}
		if err := s.Network.ReturnPort(ctx, tx, v.PortID); err != nil {
			return err
		}
		if err := s.Block.ReturnTx(ctx, tx, v.ID); err != nil {
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
		if err := s.Events.Add(ctx, tx, v.ID, event.Restored); err != nil {
			return err
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
	if errors.Is(err, lifecycle.ErrRepeat) {
		return nil
	}
	if err != nil {
		return err
	}
	s.Engine.Kick(op)
	return nil
}

// SweepVMs starts the destruction of machines that entered the bin at or before a time (unix microseconds).
func (s *Service) SweepVMs(ctx context.Context, region string, deletedBefore int64) error {
	var ids []string
	if err := s.DB.Reader().NewSelect().Model((*VM)(nil)).Column("id").Where("region = ? AND state IN (?, ?) AND deleted_at <= ?", region, Deleted, Unterminated, deletedBefore).
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
