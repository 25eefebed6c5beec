package block

import (
	"context"
	"errors"
	"time"

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
	// Before is the state to go back to.
	Before string `json:",omitempty"`
	// VM is the machine that has the disk, or is to.
	VM string `json:",omitempty"`
	// Source is the disk that a new one is a copy of.
	Source string `json:",omitempty"`
	// Snapshot that is made, removed or rolled back to, and its row's generation.
	Snapshot           string `json:",omitempty"`
	SnapshotGeneration int64  `json:",omitempty"`
	// Frozen: the guest's file systems were at rest.
	Frozen bool `json:",omitempty"`
	// OldGB, OldLimits and OldLimited are what to go back to.
	OldGB      int    `json:",omitempty"`
	OldLimits  Limits `json:",omitzero"`
	OldLimited bool   `json:",omitempty"`
}

type workflows struct {
	create, attach, detach, upgrade, limit, del, terminate *workflow.Workflow[job]
	snapshot, rollback, unsnapshot                         *workflow.Workflow[job]
}

func (s *Service) register() {
	e := s.Engine
	s.flows = workflows{
		create: workflow.Register(e, workflow.Definition[job]{
			Name:   "disk.create",
			Steps:  []workflow.Step[job]{{Name: "make", Do: s.makeVolume, Undo: s.unmakeVolume, Deadline: CopyTime}},
			Settle: s.created, Abort: s.notCreated,
		}),
		upgrade: workflow.Register(e, workflow.Definition[job]{
			Name:   "disk.upgrade",
			Steps:  []workflow.Step[job]{{Name: "grow", Do: s.grow}},
			Settle: s.grown, Abort: s.notGrown,
		}),
		limit: workflow.Register(e, workflow.Definition[job]{
			Name:   "disk.limit",
			Steps:  []workflow.Step[job]{{Name: "limit", Do: s.tell}},
			Settle: s.back, Abort: s.notLimited,
		}),
		del: workflow.Register(e, workflow.Definition[job]{
			Name:   "disk.delete",
			Steps:  []workflow.Step[job]{{Name: "drop snapshots", Do: s.dropSnapshots, Deadline: CopyTime}},
			Settle: s.deleted, Abort: s.notDeleted,
		}),
		terminate: workflow.Register(e, workflow.Definition[job]{
			Name:   "disk.terminate",
			Steps:  []workflow.Step[job]{{Name: "remove", Do: s.destroy}},
			Settle: s.terminated, Abort: s.unterminated,
		}),
	}
	s.registerAttach()
	s.registerSnapshot()
}

// errSuperseded: the row went on. No operation meets it, since each holds its disk's lock.
var errSuperseded = errors.New("block: the disk was changed by another operation")

// load reads the disk of a job.
func (s *Service) load(ctx context.Context, j *job) (*Disk, error) {
	d, err := ByID(ctx, s.DB.Reader(), action.Scope{}, j.Disk)
	if err == nil && d.Generation != j.Generation {
		err = errSuperseded
	}
	return d, err
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
	case errors.Is(err, hostlink.ErrNoSpace):
		return retcode.StorageSetInsufficient.Errorf("the storage of %s is full", id).Wrap(err)
	}
	return failure.Wrap(err)
}

// longFailure is hostFailure for what may take hours: it does not wait as long for a host that is down.
func longFailure(id string, err error, failure *retcode.Error) error {
	if errors.Is(err, fleet.ErrHostDown) {
		return retcode.SystemBusy.Errorf("the host of %s does not answer", id).Wrap(err)
	}
	return hostFailure(id, err, failure)
}

func fence(generation int64) *pb.Fence { return &pb.Fence{Generation: uint64(generation)} }

// volumeSpec is the whole of what a host has to know of a disk's volume.
func (s *Service) volumeSpec(d *Disk) (*pb.VolumeSpec, error) {
	secret, err := s.Passphrase(d)
	return &pb.VolumeSpec{Id: d.ID, SizeBytes: uint64(d.SizeGB) << 30, ImageDigest: d.ImageDigest, Pool: s.Pool(d), Raw: d.Shareable, Secret: secret}, err
}

// Pool is where hosts find a disk's volume; empty: on one of them.
func (s *Service) Pool(d *Disk) string {
	if s.Fleet.Shared(d.SetID) {
		return d.SetID
	}
	return ""
}

// host is the one that works on a disk's volume: its machine's, while it has one and that lives.
func (s *Service) host(d *Disk) string { return s.Fleet.Handler(d.SetID, d.HostID) }

// handle makes sure that a host can work on a disk (560). One that no machine has finds another when hosts share it:
// a running guest's disk is changed through its QEMU, so by its host alone.
func (s *Service) handle(d *Disk) error {
	if d.VMID == "" {
		d.HostID = s.host(d)
	}
	if h, ok := s.Fleet.HostInfo(d.HostID); ok && h.State == fleet.Down {
		return retcode.SystemBusy.Errorf("the host of %s does not answer", d.ID)
	}
	return nil
}

// EnsureVolume makes a disk's volume as its row says, on its host, and waits until it is; one that is on another
// host comes over. The errors are the host's.
func (s *Service) EnsureVolume(ctx context.Context, d Disk) error {
	d.HostID = s.host(&d)
	if d.ImageDigest != "" && !(d.Written && s.Fleet.Shared(d.SetID)) { // there it leans on the pool's copy of the image
		if err := s.Fleet.EnsureImage(ctx, d.HostID, d.ImageDigest); err != nil {
			return err
		}
	}
	spec, err := s.volumeSpec(&d)
	if err != nil {
		return err
	}
	if d.FromHost != "" && (d.Written || d.SrcDisk != "") {
		return s.transfer(ctx, &d, spec)
	}
	if d.FromHost == "" {
		spec.SourceVolume, spec.SourceSnapshot = d.SrcDisk, d.SrcSnapshot
	}
	_, err = await(ctx, func() (*pb.Volume, error) {
		return s.Fleet.Host(d.HostID).EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: fence(d.Generation), Spec: spec})
	})
	return err
}

// await repeats a call until the work that it began is done.
func await(ctx context.Context, call func() (*pb.Volume, error)) (*pb.Volume, error) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		v, err := call()
		if err != nil || !v.Working {
			return v, err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// RemoveVolume takes a disk's volume from its host. On a host that is down it goes when that returns; from a pool any
// host removes it.
func (s *Service) RemoveVolume(ctx context.Context, d Disk) error {
	_, err := s.Fleet.Host(s.host(&d)).RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: fence(d.Generation), Id: d.ID, Pool: s.Pool(&d)})
	if s.Fleet.Shared(d.SetID) {
		return err
	}
	return fleet.IgnoreDown(err)
}

// Quota is what disks take of their tenant's quotas: space, and those that are not system disks their number.
func Quota(disks ...Disk) catalog.Amounts {
	a := catalog.Amounts{}
	for _, d := range disks {
		a[catalog.DiskSpace.In(d.SetID)] += int64(d.SizeGB)
		if d.Role == Data {
			a[catalog.Disk.In(d.SetID)]++
		}
	}
	return a
}

// SettleCreateTx makes the new disks of a machine Bound.
func (s *Service) SettleCreateTx(ctx context.Context, tx bun.Tx, vm string) error {
	_, err := tx.NewUpdate().Model((*Disk)(nil)).Set("state = ?", Bound).Set("written = ?", true).Set("updated_at = ?", s.Clock.Micros()).
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
		if d.Shareable {
			if err := s.releaseShare(ctx, tx, d.ID, vm); err != nil {
				return nil, err
			}
			continue
		}
		if d.Role == Boot || drop {
			for f, n := range Quota(d) {
				freed[f] += n
			}
		}
		to := Unbound
		switch {
		case d.Role == Boot:
			d.Hidden = true
			if err := s.move(ctx, tx, &d, d.State, "hidden"); err != nil {
				return nil, err
			}
			if d.OwnCharge {
				if err := s.Ledger.Recycle(ctx, tx, d.ID); err != nil {
					return nil, err
				}
			}
			continue
		case drop:
			to, d.Hidden, d.DeletedAt = Deleted, true, deletedAt
			if err := s.forgetSnapshots(ctx, tx, d.ID); err != nil {
				return nil, err
			}
		}
		d.VMID, d.Target = "", ""
		if err := s.move(ctx, tx, &d, to, "vm_id", "target", "hidden", "deleted_at"); err != nil {
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

func (s *Service) releaseShare(ctx context.Context, tx bun.Tx, disk, vm string) error {
	d, err := ByID(ctx, tx, action.Scope{}, disk)
	if err != nil {
		return err
	}
	to, err := s.unshare(ctx, tx, d, vm)
	if err != nil {
		return err
	}
	return s.move(ctx, tx, d, to)
}

// ReturnTx shows the system disk of a machine that came back from the bin.
func (s *Service) ReturnTx(ctx context.Context, tx bun.Tx, vm string) error {
	_, err := tx.NewUpdate().Model((*Disk)(nil)).Set("hidden = ?", false).Where("vm_id = ?", vm).Exec(ctx)
	return err
}

// EndTx gives back the space of volumes that are gone and keeps their rows as tombstones. Their snapshots went with
// them.
func (s *Service) EndTx(ctx context.Context, tx bun.Tx, to string, disks ...Disk) error {
	for _, d := range disks {
		if d.EndedAt != 0 {
			continue
		}
		if d.Shareable { // it outlives its machine
			if err := s.releaseShare(ctx, tx, d.ID, d.VMID); err != nil {
				return err
			}
			continue
		}
		if err := s.end(ctx, tx, to, d, true); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) end(ctx context.Context, tx bun.Tx, to string, d Disk, hide bool) error {
	if err := s.Fleet.ReleaseDisk(ctx, tx, d.SetID, d.HostID, d.SizeGB); err != nil {
		return err
	}
	if err := s.forgetSnapshots(ctx, tx, d.ID); err != nil {
		return err
	}
	d.VMID, d.HostID, d.Secret, d.Hidden, d.EndedAt = "", "", "", hide, s.Clock.Micros()
	if err := s.move(ctx, tx, &d, to, "vm_id", "host_id", "secret", "hidden", "ended_at", "reason_code", "reason"); err != nil {
		return err
	}
	return s.Ledger.End(ctx, tx, d.ID)
}

func (s *Service) makeVolume(ctx context.Context, j *job) error {
	d, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if err := s.EnsureVolume(ctx, *d); err != nil {
		return longFailure(d.ID, err, retcode.SystemBusy.Errorf("the host could not make %s", d.ID))
	}
	return nil
}

func (s *Service) unmakeVolume(ctx context.Context, j *job) error {
	d, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	return s.RemoveVolume(ctx, *d)
}

// created settles a new disk; the one that was cloned for it is free again.
func (s *Service) created(ctx context.Context, tx bun.Tx, j *job) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	if err := s.free(ctx, tx, j.Source); err != nil {
		return err
	}
	if err := s.Ledger.Capture(ctx, tx, d.ID); err != nil {
		return err
	}
	return s.move(ctx, tx, d, Unbound)
}

func (s *Service) free(ctx context.Context, tx bun.Tx, source string) error {
	if source == "" {
		return nil
	}
	d, err := ByID(ctx, tx, action.Scope{}, source)
	if err != nil || d.State != BeingCloned {
		return err
	}
	return s.move(ctx, tx, d, Unbound)
}

// notCreated gives back everything that the request reserved. The row stays for a while, so that people see why.
func (s *Service) notCreated(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	if err := s.free(ctx, tx, j.Source); err != nil {
		return err
	}
	if err := s.Catalog.Release(ctx, tx, d.Company, d.Region, Quota(*d)); err != nil {
		return err
	}
	if err := s.Ledger.Void(ctx, tx, d.ID); err != nil {
		return err
	}
	d.ReasonCode, d.Reason = because(cause)
	return s.end(ctx, tx, Failed, *d, false)
}

func (s *Service) grow(ctx context.Context, j *job) error {
	d, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if err := s.EnsureVolume(ctx, *d); err != nil {
		return hostFailure(d.ID, err, retcode.SystemBusy.Errorf("the host could not grow %s", d.ID))
	}
	return s.tell(ctx, j)
}

// tell makes the machine's host know what the disk's row says now: its limits.
func (s *Service) tell(ctx context.Context, j *job) error {
	shares, err := sharesOf(ctx, s.DB.Reader(), j.Disk)
	if err != nil {
		return err
	}
	vms := []string{j.VM}
	for _, sh := range shares[j.Disk] {
		vms = append(vms, sh.VMID)
	}
	for _, vm := range vms {
		if vm == "" {
			continue
		}
		if _, err := s.machines.Replug(ctx, vm); err != nil {
			return hostFailure(vm, err, retcode.SystemBusy.Errorf("the limits of %s could not be changed on %s", j.Disk, vm))
		}
	}
	return nil
}

// back settles a disk in the state that it had before.
func (s *Service) back(ctx context.Context, tx bun.Tx, j *job) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	return s.move(ctx, tx, d, j.Before)
}

func (s *Service) grown(ctx context.Context, tx bun.Tx, j *job) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	if err := s.Ledger.Capture(ctx, tx, d.Payer()); err != nil {
		return err
	}
	return s.move(ctx, tx, d, j.Before)
}

func (s *Service) notGrown(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	if err := s.Ledger.Void(ctx, tx, d.Payer()); err != nil {
		return err
	}
	more := d.SizeGB - j.OldGB
	if err := s.Catalog.Release(ctx, tx, d.Company, d.Region, catalog.Amounts{catalog.DiskSpace.In(d.SetID): int64(more)}); err != nil {
		return err
	}
	if err := s.Fleet.ReleaseDisk(ctx, tx, d.SetID, d.HostID, more); err != nil {
		return err
	}
	d.SizeGB, d.Limits = j.OldGB, j.OldLimits
	d.ReasonCode, d.Reason = because(cause)
	return s.move(ctx, tx, d, j.Before, "size_gb", "reason_code", "reason", "read_iops", "write_iops", "total_iops", "read_mbps", "write_mbps", "total_mbps")
}

func (s *Service) notLimited(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	d.Limits, d.Limited = j.OldLimits, j.OldLimited
	d.ReasonCode, d.Reason = because(cause)
	return s.move(ctx, tx, d, j.Before, "limited", "reason_code", "reason", "read_iops", "write_iops", "total_iops", "read_mbps", "write_mbps", "total_mbps")
}

func (s *Service) deleted(ctx context.Context, tx bun.Tx, j *job) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	if err := s.forgetSnapshots(ctx, tx, d.ID); err != nil {
		return err
	}
	if err := s.Catalog.Release(ctx, tx, d.Company, d.Region, Quota(*d)); err != nil {
		return err
	}
	if err := s.move(ctx, tx, d, Deleted); err != nil {
		return err
	}
	return s.Ledger.Recycle(ctx, tx, d.ID)
}

func (s *Service) notDeleted(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	d, err := ByID(ctx, tx, action.Scope{}, j.Disk)
	if err != nil || d.Generation != j.Generation {
		return err
	}
	d.Hidden, d.DeletedAt = false, 0
	d.ReasonCode, d.Reason = because(cause)
	return s.move(ctx, tx, d, Unbound, "hidden", "deleted_at", "reason_code", "reason")
}

func (s *Service) destroy(ctx context.Context, j *job) error {
	d, err := s.load(ctx, j)
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
	return s.end(ctx, tx, Released, *d, true)
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
	if err := s.DB.Reader().NewSelect().Model(&rows).Column("id", "vm_id").Where("host_id = ? OR from_host = ?", hostID, hostID).
		Where("state NOT IN (?, ?)", Releasing, Unterminated).Scan(ctx); err != nil {
		return w, err
	}
	for _, d := range rows {
		w.Volumes[d.ID] = !gone[d.VMID]
	}
	return w, nil
}
