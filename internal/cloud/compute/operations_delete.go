package compute

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// keepOut undoes a deletion: the machine is back in its network, off.
func (s *Service) keepOut(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if errors.Is(err, errSuperseded) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.Network.ReturnPort(ctx, tx, v.PortID) }); err != nil {
		return err
	}
	if err := s.Network.SyncVPC(ctx, v.VPCID); err != nil {
		return err
	}
	return s.lookAgain(ctx, j)
}

// moveToBin takes the domain from its host and the machine's addresses from the network. The volumes stay.
func (s *Service) moveToBin(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if err := s.removeDomain(ctx, j); err != nil {
		return s.hostFailure(ctx, v, err, retcode.SystemBusy.Errorf("the host could not remove %s", v.ID))
	}
	if err := s.Network.SyncOwner(ctx, v.ID); err != nil {
		return networkFailure(err, retcode.VMCleanNICFailed.Errorf("the network interface of %s could not be removed", v.ID))
	}
	return nil
}

// deleted settles vm.delete: the bin holds no quota, and no CPU and memory.
func (s *Service) deleted(ctx context.Context, tx bun.Tx, j *job) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	if err := s.Network.SettleUnbindTx(ctx, tx, j.EIPs...); err != nil {
		return err
	}
	if err := s.Network.SettleLeaveTx(ctx, tx, j.DropNICs, j.NICs...); err != nil {
		return err
	}
	if j.DropEIPs {
		for _, id := range j.EIPs {
			if err := s.Network.ReleaseEIPTx(ctx, tx, id); err != nil {
				return err
			}
		}
	}
	freed, err := s.Block.ReleaseTx(ctx, tx, v.ID, j.DropDisks, v.DeletedAt)
	if err != nil {
		return err
	}
	for f, n := range vmQuota(v, nil) {
		freed[f] += n
	}
	if err := s.Catalog.Release(ctx, tx, v.Company, v.Region, freed); err != nil {
		return err
	}
	if err := s.unplace(ctx, tx, v); err != nil {
		return err
	}
	v.QGAConnected = false
	v.because(nil)
	if _, err = s.settle(ctx, tx, v, Deleted, "reason", "reason_code", "qga_connected"); err != nil {
		return err
	}
	return s.Ledger.Recycle(ctx, tx, v.ID)
}

// notDeleted puts a machine that could not be deleted back. Its EIPs stay unbound, its elastic NICs and VIPs detached.
func (s *Service) notDeleted(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	if err := s.Network.SettleUnbindTx(ctx, tx, j.EIPs...); err != nil {
		return err
	}
	if err := s.Network.SettleLeaveTx(ctx, tx, false, j.NICs...); err != nil {
		return err
	}
	if err := count(ctx, tx, v.Company, v.Region, 1); err != nil {
		return err
	}
	to := j.before()
	if to == Stopped {
		if err := s.unplace(ctx, tx, v); err != nil {
			return err
		}
	}
	v.Listed, v.DeletedAt = true, 0
	v.because(cause)
	_, err = s.settle(ctx, tx, v, to, "listed", "deleted_at", "reason", "reason_code")
	return err
}

// unterminated ends a destruction that failed: what is left of the machine can only be destroyed.
func (s *Service) unterminated(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	return s.end(ctx, tx, j, Unterminated, cause)
}

// destroy removes domain and volumes. On a host that is down they go when it returns, since no row wants them.
func (s *Service) destroy(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if err := s.removeDomain(ctx, j); err != nil {
		return s.hostFailure(ctx, v, err, retcode.VMCleanDiskFailed.Errorf("the host could not remove %s", v.ID))
	}
	disks, err := block.Of(ctx, s.DB.Reader(), v.ID)
	if err != nil {
		return err
	}
	for _, d := range disks[v.ID] {
		if err := s.Block.RemoveVolume(ctx, d); err != nil {
			return s.hostFailure(ctx, v, err, retcode.VMCleanDiskFailed.Errorf("a disk of %s could not be removed", v.ID))
		}
	}
	return nil
}

// terminated settles vm.terminate: nothing is left but the tombstone.
func (s *Service) terminated(ctx context.Context, tx bun.Tx, j *job) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	all, err := block.Of(ctx, tx, v.ID)
	if err != nil {
		return err
	}
	if err := s.Block.EndTx(ctx, tx, block.Released, all[v.ID]...); err != nil {
		return err
	}
	if err := s.Network.ReleasePort(ctx, tx, v.PortID); err != nil {
		return err
	}
	if err := forget(ctx, tx, v.ID); err != nil {
		return err
	}
	v.HostID, v.PortID, v.EndedAt = "", "", s.Clock.Micros()
	if _, err = s.move(ctx, tx, v, Terminated, "host_id", "port_id", "ended_at"); err != nil {
		return err
	}
	return s.Ledger.End(ctx, tx, v.ID)
}
