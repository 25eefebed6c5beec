package block

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

func (s *Service) registerSnapshot() {
	e := s.Engine
	s.flows.snapshot = workflow.Register(e, workflow.Definition[job]{
		Name:   "snapshot.create",
		Steps:  []workflow.Step[job]{{Name: "take", Do: s.take, Undo: s.untake, Deadline: CopyTime}},
		Settle: s.taken, Abort: s.notTaken,
	})
	s.flows.rollback = workflow.Register(e, workflow.Definition[job]{
		Name:   "snapshot.rollback",
		Steps:  []workflow.Step[job]{{Name: "roll back", Do: s.rollBack, Deadline: CopyTime}},
		Settle: s.rolledBack, Abort: s.notRolledBack,
	})
	s.flows.unsnapshot = workflow.Register(e, workflow.Definition[job]{
		Name:   "snapshot.delete",
		Steps:  []workflow.Step[job]{{Name: "remove", Do: s.untake, Deadline: CopyTime}},
		Settle: s.untaken, Abort: s.notUntaken,
	})
}

// diskOf reads the disk of a job about a snapshot, and opens its passphrase.
func (s *Service) diskOf(ctx context.Context, j *job) (*Disk, []byte, error) {
	d, err := ByID(ctx, s.DB.Reader(), action.Scope{}, j.Disk)
	if err != nil {
		return nil, nil, err
	}
	secret, err := s.Passphrase(d)
	return d, secret, err
}

func (s *Service) take(ctx context.Context, j *job) error {
	d, secret, err := s.diskOf(ctx, j)
	if err != nil {
		return err
	}
	v, err := await(ctx, func() (*pb.Volume, error) {
		return s.Fleet.Host(s.host(d)).EnsureSnapshot(ctx, &pb.EnsureSnapshotRequest{Fence: fence(j.SnapshotGeneration), VolumeId: d.ID, Id: j.Snapshot, Secret: secret, Pool: s.Pool(d)})
	})
	if err != nil {
		return longFailure(d.ID, err, retcode.SystemBusy.Errorf("the host could not take a snapshot of %s", d.ID))
	}
	j.Frozen = v.Frozen
	return nil
}

func (s *Service) untake(ctx context.Context, j *job) error {
	d, secret, err := s.diskOf(ctx, j)
	if err != nil {
		return err
	}
	_, err = await(ctx, func() (*pb.Volume, error) {
		return s.Fleet.Host(s.host(d)).RemoveSnapshot(ctx, &pb.RemoveSnapshotRequest{Fence: fence(j.SnapshotGeneration), VolumeId: d.ID, Id: j.Snapshot, Secret: secret, Pool: s.Pool(d)})
	})
	if err != nil {
		return longFailure(d.ID, err, retcode.SystemBusy.Errorf("the host could not remove %s", j.Snapshot))
	}
	return nil
}

// rows reads snapshot and disk of a job, at its end.
func (s *Service) rows(ctx context.Context, tx bun.Tx, j *job) (*Disk, *Snapshot, error) {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil {
		return nil, nil, err
	}
	n := new(Snapshot)
	err = tx.NewSelect().Model(n).Where("id = ?", j.Snapshot).Scan(ctx)
	return d, n, err
}

func (s *Service) taken(ctx context.Context, tx bun.Tx, j *job) error {
	d, n, err := s.rows(ctx, tx, j)
	if err != nil {
		return err
	}
	n.Frozen = j.Frozen
	if err := s.turn(ctx, tx, n, SnapshotNormal, "frozen"); err != nil {
		return err
	}
	return s.move(ctx, tx, d, j.Before)
}

func (s *Service) notTaken(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	d, n, err := s.rows(ctx, tx, j)
	if err != nil {
		return err
	}
	n.ReasonCode, n.Reason = because(cause)
	if err := s.turn(ctx, tx, n, SnapshotFailed, "reason_code", "reason"); err != nil {
		return err
	}
	return s.move(ctx, tx, d, j.Before)
}

func (s *Service) rollBack(ctx context.Context, j *job) error {
	d, secret, err := s.diskOf(ctx, j)
	if err != nil {
		return err
	}
	_, err = await(ctx, func() (*pb.Volume, error) {
		return s.Fleet.Host(s.host(d)).RollbackVolume(ctx, &pb.RollbackVolumeRequest{Fence: fence(j.Generation), VolumeId: d.ID, SnapshotId: j.Snapshot, Secret: secret, Pool: s.Pool(d)})
	})
	if err != nil {
		return longFailure(d.ID, err, retcode.SystemBusy.Errorf("the host could not roll %s back", d.ID))
	}
	// It has the size that the disk has grown to, unless the host was interrupted between the two.
	if err := s.EnsureVolume(ctx, *d); err != nil {
		return longFailure(d.ID, err, retcode.SystemBusy.Errorf("the host could not grow %s again", d.ID))
	}
	return nil
}

func (s *Service) rolledBack(ctx context.Context, tx bun.Tx, j *job) error {
	return s.endRollback(ctx, tx, j, nil)
}

func (s *Service) notRolledBack(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	return s.endRollback(ctx, tx, j, cause)
}

func (s *Service) endRollback(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	d, n, err := s.rows(ctx, tx, j)
	if err != nil {
		return err
	}
	if err := s.turn(ctx, tx, n, SnapshotNormal); err != nil {
		return err
	}
	d.ReasonCode, d.Reason = because(cause)
	return s.move(ctx, tx, d, j.Before, "reason_code", "reason")
}

func (s *Service) untaken(ctx context.Context, tx bun.Tx, j *job) error {
	_, n, err := s.rows(ctx, tx, j)
	if err != nil {
		return err
	}
	n.EndedAt = s.Clock.Micros()
	return s.turn(ctx, tx, n, SnapshotReleased, "ended_at")
}

// notUntaken: what is left of the snapshot may be of no use.
func (s *Service) notUntaken(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	_, n, err := s.rows(ctx, tx, j)
	if err != nil {
		return err
	}
	n.ReasonCode, n.Reason = because(cause)
	return s.turn(ctx, tx, n, SnapshotFailed, "reason_code", "reason")
}

// dropSnapshots takes all snapshots from a volume whose disk goes to the bin.
func (s *Service) dropSnapshots(ctx context.Context, j *job) error {
	var ids []string
	if err := s.DB.Reader().NewSelect().Model((*Snapshot)(nil)).Column("id").Where("disk_id = ? AND ended_at = 0", j.Disk).Scan(ctx, &ids); err != nil {
		return err
	}
	for _, id := range ids {
		one := *j
		one.Snapshot, one.SnapshotGeneration = id, 0
		if err := s.untake(ctx, &one); err != nil {
			return err
		}
	}
	return nil
}

// forgetSnapshots keeps the rows of a disk's snapshots as tombstones.
func (s *Service) forgetSnapshots(ctx context.Context, tx bun.Tx, disk string) error {
	now := s.Clock.Micros()
	_, err := tx.NewUpdate().Model((*Snapshot)(nil)).Set("state = ?", SnapshotReleased).Set("ended_at = ?", now).Set("updated_at = ?", now).
		Set("generation = generation + 1").Where("disk_id = ? AND ended_at = 0", disk).Exec(ctx)
	return err
}
