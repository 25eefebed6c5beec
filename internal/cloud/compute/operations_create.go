package compute

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/uptrace/bun"
	"golang.org/x/sync/errgroup"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// prepare makes volumes and network ready, side by side.
func (s *Service) prepare(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	disks, err := block.Of(ctx, s.DB.Reader(), v.ID)
	if err != nil {
		return err
	}
	var g errgroup.Group
	for _, d := range disks[v.ID] {
		if d.State == block.Creating {
			g.Go(func() error { return s.ensureVolume(ctx, v, d) })
		}
	}
	g.Go(func() error { return s.connect(ctx, v) })
	for _, vpc := range j.VPCs {
		g.Go(func() error { return s.sync(ctx, v, vpc) })
	}
	return g.Wait()
}

// bringDisks makes the volumes of disks that were there before the machine be on its host.
func (s *Service) bringDisks(ctx context.Context, j *job) error {
	for _, u := range j.Disks {
		if err := s.Block.BringUse(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) returnDisks(ctx context.Context, j *job) error {
	for _, u := range j.Disks {
		if err := s.Block.ReturnUse(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) ensureVolume(ctx context.Context, v *VM, d block.Disk) error {
	if err := s.Block.EnsureVolume(ctx, d); err != nil {
		return s.hostFailure(ctx, v, err, retcode.VMCreateDiskFailed.Errorf("a disk of %s could not be made", v.ID))
	}
	return nil
}

func (s *Service) connect(ctx context.Context, v *VM) error { return s.sync(ctx, v, v.VPCID) }

func (s *Service) sync(ctx context.Context, v *VM, vpc string) error {
	if err := s.Network.SyncVPC(ctx, vpc); err != nil {
		return networkFailure(err, retcode.VMCreateNICFailed.Errorf("the network of %s could not be set up", v.ID))
	}
	return nil
}

// unprepare takes away whatever prepare and a start made, and the machine out of its network, so that
// volumes and addresses may go to others.
func (s *Service) unprepare(ctx context.Context, j *job) error {
	if err := s.removeDomain(ctx, j); err != nil {
		return err
	}
	disks, err := block.Of(ctx, s.DB.Reader(), j.VM)
	if err != nil {
		return err
	}
	for _, d := range disks[j.VM] {
		if d.State != block.Creating { // it was there before
			continue
		}
		if err := s.Block.RemoveVolume(ctx, d); err != nil {
			return err
		}
	}
	v, err := vmByID(ctx, s.DB.Reader(), action.Scope{}, j.VM)
	if err != nil {
		return err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := s.Network.BeginUnbindAllTx(ctx, tx, v.ID); err != nil {
			return err
		}
		if _, err := s.Network.BeginLeaveTx(ctx, tx, v.ID); err != nil {
			return err
		}
		return s.Network.KeepPort(ctx, tx, v.PortID)
	})
	if err != nil {
		return err
	}
	return s.Network.SyncOwner(ctx, v.ID)
}

// startingShown is how long a new machine may take to run before its row says that it is starting.
const startingShown = 100 * time.Millisecond

func (s *Service) firstStart(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if errors.Is(err, errSuperseded) {
		return nil // it was made, and somebody has cut its power: both are done
	}
	if err != nil || j.Stopped {
		return err
	}
	t := time.AfterFunc(startingShown, func() { s.showStarting(context.WithoutCancel(ctx), *v) })
	defer t.Stop()
	j.Agent, err = s.run(ctx, v)
	if errors.Is(err, errSuperseded) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.reachable(ctx, v)
}

// showStarting writes the state that people see while a new guest takes its time.
func (s *Service) showStarting(ctx context.Context, v VM) {
	_ = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model(&v).Set("state = ?", Starting).
			Where("id = ? AND generation = ? AND state = ?", v.ID, v.Generation, Initializing).Exec(ctx)
		return err
	}) // failing to show it does no harm
}

// created settles vm.create. A machine whose power was cut meanwhile has its state from there.
func (s *Service) created(ctx context.Context, tx bun.Tx, j *job) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil {
		return err
	}
	if v.Generation == j.Generation {
		to := Running
		if j.Stopped {
			to = Stopped
			if err := s.unplace(ctx, tx, v); err != nil {
				return err
			}
		}
		v.QGAConnected = j.Agent
		if _, err := s.settle(ctx, tx, v, to, "qga_connected"); err != nil {
			return err
		}
	}
	if err := s.Block.SettleCreateTx(ctx, tx, j.VM); err != nil {
		return err
	}
	for _, u := range j.Disks {
		if err := s.Block.SettleUseTx(ctx, tx, u, u.Disk == j.System); err != nil {
			return err
		}
	}
	if err := s.Network.SettleJoinTx(ctx, tx, j.NICs...); err != nil {
		return err
	}
	for _, id := range j.EIPs {
		if err := s.Network.SettleBindTx(ctx, tx, id); err != nil {
			return err
		}
	}
	return s.capture(ctx, tx, v.ID, j.EIPs)
}

// createFailed gives back everything that the request reserved. The row stays, so that people see why.
func (s *Service) createFailed(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil {
		return err
	}
	all, err := block.Of(ctx, tx, v.ID)
	if err != nil {
		return err
	}
	disks := slices.DeleteFunc(all[v.ID], func(d block.Disk) bool { return d.State != block.Creating })
	if err := s.Catalog.Release(ctx, tx, v.Company, v.Region, vmQuota(v, disks)); err != nil {
		return err
	}
	if err := s.unplace(ctx, tx, v); err != nil {
		return err
	}
	if err := s.Block.EndTx(ctx, tx, block.Failed, disks...); err != nil {
		return err
	}
	for _, u := range j.Disks {
		if err := s.Block.UndoUseTx(ctx, tx, u, cause); err != nil {
			return err
		}
	}
	if _, err := s.Network.BeginLeaveTx(ctx, tx, v.ID); err != nil { // when no step began
		return err
	}
	if err := s.Network.SettleLeaveTx(ctx, tx, true, j.NICs...); err != nil {
		return err
	}
	if err := s.Network.SettleUnbindTx(ctx, tx, j.EIPs...); err != nil {
		return err
	}
	for _, id := range j.EIPs {
		if err := s.Network.DestroyEIPTx(ctx, tx, id); err != nil {
			return err
		}
	}
	if err := s.Network.ReleasePort(ctx, tx, v.PortID); err != nil {
		return err
	}
	if err := forget(ctx, tx, v.ID); err != nil {
		return err
	}
	v.HostID, v.PortID, v.DeletedAt = "", "", s.Clock.Micros()
	v.because(cause)
	if _, err = s.move(ctx, tx, v, Failed, "host_id", "port_id", "reason", "reason_code", "deleted_at"); err != nil {
		return err
	}
	return s.Ledger.End(ctx, tx, v.ID)
}
