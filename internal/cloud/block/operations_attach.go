package block

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// CopyTime is how long the data of a disk may be on its way: a terabyte at 50 MB/s and some.
const CopyTime = 6 * time.Hour

// releaseTime is how long a guest may take to let go of a disk; a test has less patience.
var releaseTime = time.Minute

func (s *Service) registerAttach() {
	s.flows.attach = workflow.Register(s.Engine, workflow.Definition[job]{
		Name: "disk.attach",
		Steps: []workflow.Step[job]{
			{Name: "bring", Do: s.bring, Undo: s.bringBack, Deadline: CopyTime},
			{Name: "plug", Do: s.plugIn, Undo: s.pullOut},
		},
		Settle: s.attached, Abort: s.notAttached,
	})
	s.flows.detach = workflow.Register(s.Engine, workflow.Definition[job]{
		Name:   "disk.detach",
		Steps:  []workflow.Step[job]{{Name: "unplug", Do: s.unplug, Undo: s.plugAgain, Deadline: releaseTime}},
		Settle: s.detached, Abort: s.notDetached,
	})
}

// bring makes the volume be on the machine's host.
func (s *Service) bring(ctx context.Context, j *job) error {
	d, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if d.LeftHost != "" {
		if err := s.leaveOne(ctx, d); err != nil {
			return hostFailure(d.ID, err, retcode.SystemBusy.Errorf("the old volume of %s could not be removed", d.ID))
		}
	}
	if err := s.EnsureVolume(ctx, *d); err != nil {
		return longFailure(d.ID, err, retcode.SystemBusy.Errorf("the volume of %s could not be brought to its machine", d.ID))
	}
	return nil
}

// bringBack removes a copy that is not wanted any more; the volume is where it was.
func (s *Service) bringBack(ctx context.Context, j *job) error {
	d, err := s.load(ctx, j)
	if err != nil || d.FromHost == "" {
		return err
	}
	return s.RemoveVolume(ctx, *d)
}

// plugged waits until the machine's host says that a disk is there, or is not.
func (s *Service) plugged(ctx context.Context, vm, disk string, there bool, failure *retcode.Error) error {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		have, err := s.machines.Replug(ctx, vm)
		if err != nil {
			return hostFailure(vm, err, failure)
		}
		if slices.Contains(have, disk) == there {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return failure.Wrap(ctx.Err())
		case <-t.C:
		}
	}
}

func (s *Service) plugIn(ctx context.Context, j *job) error {
	if err := s.mark(ctx, j, Bounding); err != nil {
		return err
	}
	return s.plugged(ctx, j.VM, j.Disk, true, retcode.SystemBusy.Errorf("%s could not be attached to %s", j.Disk, j.VM))
}

// pullOut undoes an attachment, also one that the guest half has.
func (s *Service) pullOut(ctx context.Context, j *job) error {
	if err := s.mark(ctx, j, Unbounding); err != nil {
		return err
	}
	err := s.plugged(ctx, j.VM, j.Disk, false, retcode.SystemBusy.Errorf("%s could not be taken from %s again", j.Disk, j.VM))
	return fleet.IgnoreDown(err)
}

// mark changes what the host is told of a disk, within an operation.
func (s *Service) mark(ctx context.Context, j *job, state string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
		if err != nil || d.Generation != j.Generation {
			return err
		}
		if d.Shareable {
			return s.markShare(ctx, tx, d.ID, j.VM, state)
		}
		_, err = tx.NewUpdate().Model(d).Set("state = ?", state).Set("plug = ?", true).Where("id = ? AND generation = ?", d.ID, d.Generation).Exec(ctx)
		return err
	})
}

// leave removes what volumes that moved left behind: after the move is settled, since until then it may be the only
// copy that counts. A host that is down is asked again, and removes it by itself when it returns.
func (s *Service) leave(ctx context.Context) error {
	var rows []Disk
	if err := s.DB.Reader().NewSelect().Model(&rows).Where("left_host <> ''").Limit(sweepBatch).Scan(ctx); err != nil {
		return err
	}
	var errs []error
	for i := range rows {
		errs = append(errs, s.leaveOne(ctx, &rows[i]))
	}
	return errors.Join(errs...)
}

func (s *Service) leaveOne(ctx context.Context, d *Disk) error {
	if d.LeftHost != d.HostID && d.LeftHost != d.FromHost { // else it came back, and is what counts
		_, err := s.Fleet.Host(d.LeftHost).RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: fence(d.Generation), Id: d.ID})
		if err = fleet.IgnoreDown(err); err != nil && !errors.Is(err, hostlink.ErrFenced) {
			return err
		}
	}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model(d).Set("left_host = ''").Where("id = ? AND left_host = ?", d.ID, d.LeftHost).Exec(ctx)
		return err
	})
}

// settleMove gives back the room that a disk does not need any more: the old one, or (undone) the new one.
func (s *Service) settleMove(ctx context.Context, tx bun.Tx, d *Disk, undone bool) error {
	if d.FromHost == "" {
		return nil
	}
	freed := d.FromHost
	if undone {
		freed, d.HostID = d.HostID, d.FromHost
	}
	d.FromHost = ""
	return s.Fleet.Release(ctx, tx, freed, fleet.Demand{DiskGB: d.SizeGB})
}

func (s *Service) attached(ctx context.Context, tx bun.Tx, j *job) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	if d.FromHost != "" {
		d.LeftHost = d.FromHost
	}
	if err := s.settleMove(ctx, tx, d, false); err != nil {
		return err
	}
	if d.Shareable {
		if err := s.markShare(ctx, tx, d.ID, j.VM, Bound); err != nil {
			return err
		}
	}
	d.Written = true
	return s.move(ctx, tx, d, Bound, "host_id", "from_host", "left_host", "written")
}

func (s *Service) notAttached(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	if err := s.settleMove(ctx, tx, d, true); err != nil {
		return err
	}
	if _, err := tx.NewDelete().Model((*share)(nil)).Where("disk_id = ? AND vm_id = ?", d.ID, j.VM).Exec(ctx); err != nil {
		return err
	}
	d.VMID, d.Target = "", ""
	d.ReasonCode, d.Reason = because(cause)
	return s.move(ctx, tx, d, j.Before, "vm_id", "target", "host_id", "from_host", "reason_code", "reason")
}

func (s *Service) unplug(ctx context.Context, j *job) error {
	return s.plugged(ctx, j.VM, j.Disk, false, retcode.InvalidResourceState.Errorf("the guest of %s does not let go of %s: unmount it there", j.VM, j.Disk))
}

func (s *Service) plugAgain(ctx context.Context, j *job) error {
	if err := s.mark(ctx, j, Bounding); err != nil {
		return err
	}
	err := s.plugged(ctx, j.VM, j.Disk, true, retcode.SystemBusy.Errorf("%s could not be given back to %s", j.Disk, j.VM))
	return fleet.IgnoreDown(err)
}

func (s *Service) detached(ctx context.Context, tx bun.Tx, j *job) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	to, err := s.unshare(ctx, tx, d, j.VM)
	if err != nil {
		return err
	}
	d.VMID, d.Target = "", ""
	return s.move(ctx, tx, d, to, "vm_id", "target")
}

// unshare forgets a shared disk on a machine and answers the state that it has then.
func (s *Service) unshare(ctx context.Context, tx bun.Tx, d *Disk, vm string) (string, error) {
	if !d.Shareable {
		return Unbound, nil
	}
	if _, err := tx.NewDelete().Model((*share)(nil)).Where("disk_id = ? AND vm_id = ?", d.ID, vm).Exec(ctx); err != nil {
		return "", err
	}
	left, err := sharesOf(ctx, tx, d.ID)
	if err == nil && len(left[d.ID]) > 0 {
		return Bound, nil
	}
	return Unbound, err
}

func (s *Service) notDetached(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	if d.Shareable {
		if err := s.markShare(ctx, tx, d.ID, j.VM, Bound); err != nil {
			return err
		}
	}
	d.ReasonCode, d.Reason = because(cause)
	return s.move(ctx, tx, d, Bound, "reason_code", "reason")
}

// transfer copies a volume with its snapshots from one host to another, through here: hosts do not know each other.
func (s *Service) transfer(ctx context.Context, d *Disk, spec *pb.VolumeSpec) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks, taken, ended := make(chan *pb.VolumeChunk), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- s.Fleet.Host(d.FromHost).ReadVolume(ctx, &pb.ReadVolumeRequest{Fence: &pb.Fence{}, Id: d.ID}, func(c *pb.VolumeChunk) error {
			for _, step := range []func() error{
				func() error {
					select {
					case chunks <- c:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				},
				func() error { // its buffer is used again
					select {
					case <-taken:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				},
			} {
				if err := step(); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	first := true
	_, err := s.Fleet.Host(d.HostID).WriteVolume(ctx, func() (*pb.VolumeChunk, error) {
		if !first {
			taken <- struct{}{}
		}
		select {
		case c := <-chunks:
			if first {
				first = false
				c.Fence, c.Spec = fence(d.Generation), spec
			}
			return c, nil
		case err := <-ended:
			if err == nil {
				err = errors.New("the volume ended before its last chunk")
			}
			return nil, err
		}
	})
	return err
}
