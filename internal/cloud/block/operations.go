package block

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// job is the state of every workflow on a disk. Generation is the row's when the operation was accepted.
type job struct {
	Disk       string
	Generation int64
}

type workflows struct {
	terminate *workflow.Workflow[job]
}

func (s *Service) register() {
	s.flows = workflows{
		terminate: workflow.Register(s.Engine, workflow.Definition[job]{
			Name:   "disk.terminate",
			Steps:  []workflow.Step[job]{{Name: "remove", Do: s.destroy}},
			Settle: s.terminated, Abort: s.unterminated,
		}),
	}
}

// hostFailure says what a failed call to a host means. A host that does not answer is asked again;
// one that answers a failure has tried.
func hostFailure(id string, err error, failure *retcode.Error) error {
	switch {
	case errors.Is(err, hostlink.ErrFenced):
		return workflow.Retry(err) // another controller leads: this one is about to end
	case errors.Is(err, fleet.ErrHostDown), errors.Is(err, hostlink.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return workflow.Retry(retcode.SystemBusy.Errorf("the host of %s does not answer", id).Wrap(err))
	}
	return failure.Wrap(err)
}

func fence(generation int64) *pb.Fence { return &pb.Fence{Generation: uint64(generation)} }

// EnsureVolume makes a disk's volume as its row says, on its host. The errors are the host's.
func (s *Service) EnsureVolume(ctx context.Context, d Disk) error {
	if d.ImageDigest != "" {
		if err := s.Fleet.EnsureImage(ctx, d.HostID, d.ImageDigest); err != nil {
			return err
		}
	}
	_, err := s.Fleet.Host(d.HostID).EnsureVolume(ctx, &pb.EnsureVolumeRequest{
		Fence: fence(d.Generation),
		Spec:  &pb.VolumeSpec{Id: d.ID, SizeBytes: uint64(d.SizeGB) << 30, ImageDigest: d.ImageDigest, Pool: d.SetID},
	})
	return err
}

// RemoveVolume takes a disk's volume from its host. On a host that is down it goes when that returns.
func (s *Service) RemoveVolume(ctx context.Context, d Disk) error {
	_, err := s.Fleet.Host(d.HostID).RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: fence(d.Generation), Id: d.ID})
	return fleet.IgnoreDown(err)
}

// Quota is what disks take of their tenant's quotas: space, and those that are not system disks their number.
func Quota(disks ...Disk) catalog.Amounts {
	a := catalog.Amounts{}
	for _, d := range disks {
		a[catalog.DiskSpace] += int64(d.SizeGB)
		if d.Role == Data {
			a[catalog.Disk]++
		}
	}
	return a
}

// SettleCreateTx makes the new disks of a machine Bound.
func (s *Service) SettleCreateTx(ctx context.Context, tx bun.Tx, vm string) error {
	_, err := tx.NewUpdate().Model((*Disk)(nil)).Set("state = ?", Bound).Set("updated_at = ?", s.Clock.Micros()).
		Where("vm_id = ? AND state = ?", vm, Creating).Exec(ctx)
	return err
}

// ReleaseTx settles the disks of a machine that went to the bin: its system disk stays with it, its data disks are
// Unbound, or with drop in the bin too, since deletedAt. It answers the quota that is free now.
func (s *Service) ReleaseTx(ctx context.Context, tx bun.Tx, vm string, drop bool, deletedAt int64) (catalog.Amounts, error) {
	all, err := Of(ctx, tx, vm)
	if err != nil {
		return nil, err
	}
	freed := catalog.Amounts{}
	for _, d := range all[vm] {
		to := Unbound
		if d.Role == Boot || drop {
			for f, n := range Quota(d) {
				freed[f] += n
			}
		}
		if d.Role == Boot {
			continue
		}
		if drop {
			to, d.DeletedAt = Deleted, deletedAt
		}
		d.VMID, d.Target = "", ""
		if err := s.move(ctx, tx, &d, to, "vm_id", "target", "deleted_at"); err != nil {
			return nil, err
		}
		if drop {
			if err := s.Ledger.Recycle(ctx, tx, d.ID); err != nil {
				return nil, err
			}
		}
	}
	return freed, nil
}

// EndTx gives back the space of volumes that are gone and keeps their rows as tombstones.
func (s *Service) EndTx(ctx context.Context, tx bun.Tx, to string, disks ...Disk) error {
	for _, d := range disks {
		if d.EndedAt != 0 {
			continue
		}
		if err := s.Fleet.Release(ctx, tx, d.HostID, fleet.Demand{DiskGB: d.SizeGB}); err != nil {
			return err
		}
		d.VMID, d.HostID, d.EndedAt = "", "", s.Clock.Micros()
		if err := s.move(ctx, tx, &d, to, "vm_id", "host_id", "ended_at"); err != nil {
			return err
		}
		if err := s.Ledger.End(ctx, tx, d.ID); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) destroy(ctx context.Context, j *job) error {
	d, err := ByID(ctx, s.DB.Reader(), action.Scope{}, j.Disk)
	if err != nil {
		return err
	}
	if err := s.RemoveVolume(ctx, *d); err != nil {
		return hostFailure(d.ID, err, retcode.SystemBusy.Errorf("the host could not remove %s", d.ID))
	}
	return nil
}

func (s *Service) terminated(ctx context.Context, tx bun.Tx, j *job) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	return s.EndTx(ctx, tx, Released, *d)
}

// unterminated ends a destruction that failed: the volume may be gone.
func (s *Service) unterminated(ctx context.Context, tx bun.Tx, j *job, _ error) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	return s.move(ctx, tx, d, Unterminated)
}

// wanted lists the volumes that rows want on a host: everything else that bears our marker is removed when it
// returns. One of a machine that is being destroyed is not wanted either.
func (s *Service) wanted(ctx context.Context, hostID string) (fleet.Wanted, error) {
	w := fleet.Wanted{Volumes: map[string]bool{}}
	doomed, err := s.machines.Doomed(ctx, hostID)
	if err != nil {
		return w, err
	}
	gone := map[string]bool{}
	for _, id := range doomed {
		gone[id] = true
	}
	var rows []Disk
	if err := s.DB.Reader().NewSelect().Model(&rows).Column("id", "vm_id").Where("host_id = ?", hostID).
		Where("state NOT IN (?, ?)", Releasing, Unterminated).Scan(ctx); err != nil {
		return w, err
	}
	for _, d := range rows {
		w.Volumes[d.ID] = !gone[d.VMID]
	}
	return w, nil
}
