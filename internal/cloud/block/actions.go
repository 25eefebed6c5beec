package block

import (
	"cmp"
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Actions of disks and snapshots.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateDisk", Module: "disk", Mutates: true,
			Summary: "Create data disks."}, s.createDisk),
		action.Define(action.Spec{Name: "DescribeDisk", Module: "disk",
			Summary: "List disks with filters and paging."}, s.describeDisk),
		action.Define(action.Spec{Name: "AttachDisk", Module: "disk", Mutates: true,
			Summary: "Attach a disk to a virtual machine."}, s.attachDisk),
		action.Define(action.Spec{Name: "DetachDisk", Module: "disk", Mutates: true,
			Summary: "Detach a disk from a virtual machine."}, s.detachDisk),
		action.Define(action.Spec{Name: "UpgradeDisk", Module: "disk", Mutates: true,
			Summary: "Grow a disk."}, s.upgradeDisk),
		action.Define(action.Spec{Name: "CloneDisk", Module: "disk", Mutates: true,
			Summary: "Copy a disk into a new disk."}, s.cloneDisk),
		action.Define(action.Spec{Name: "DeleteDisk", Module: "disk", Mutates: true,
			Summary: "Move an unattached disk to the recycle bin."}, s.deleteDisk),
		action.Define(action.Spec{Name: "UpdateDiskQoS", Module: "disk", Mutates: true, Admin: true,
			Summary: "Set I/O limits of a disk."}, s.updateQoS),
		action.Define(action.Spec{Name: "CreateSnapshot", Module: "snapshot", Mutates: true,
			Summary: "Take a snapshot of a disk."}, s.createSnapshot),
		action.Define(action.Spec{Name: "DescribeSnapshot", Module: "snapshot",
			Summary: "List snapshots."}, s.describeSnapshot),
		action.Define(action.Spec{Name: "RollbackSnapshot", Module: "snapshot", Mutates: true,
			Summary: "Restore a disk to one of its snapshots."}, s.rollbackSnapshot),
		action.Define(action.Spec{Name: "DeleteSnapshot", Module: "snapshot", Mutates: true,
			Summary: "Delete a snapshot."}, s.deleteSnapshot),
		action.Define(action.Spec{Name: "CreateDiskFromSnapshot", Module: "snapshot", Mutates: true,
			Summary: "Create a disk from a snapshot."}, s.createFromSnapshot),
	}
}

// checkPeriod refuses numbers of periods that are not for sale (113).
func checkPeriod(chargeType string, quantity int) error {
	limit := map[string]int{"Month": 11, "Year": 5}[chargeType]
	if limit != 0 && (quantity < 1 || quantity > limit) {
		return retcode.InvalidParameter.Errorf("Quantity is 1 to %d with ChargeType %s", limit, chargeType)
	}
	return nil
}

// checkWords checks what people write of a new resource.
func checkWords(name, remark string) (string, error) {
	name, err := resource.Name(name)
	if err == nil {
		_, err = resource.Remark(remark)
	}
	return name, err
}

type createDiskRequest struct {
	Name              string   `validate:"required" doc:"1-63 printable characters"`
	ChargeType        string   `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	SetType           string   `validate:"required" doc:"storage set type, from DescribeStorageType"`
	DiskSpace         *int     `validate:"required" doc:"GB, as the set type offers"`
	Quantity          int      `default:"1" doc:"periods; Month 1-11, Year 1-5, ignored for Dynamic"`
	ProjectID         string   `doc:"project group id"`
	Remark            string   `validate:"max=100" doc:"free text"`
	ApplicationName   string   `validate:"max=100" doc:"title of the approval request"`
	ApplicationReason string   `validate:"max=1000" doc:"reason of the approval request"`
	Count             int      `default:"1" validate:"min=1,max=10" doc:"how many disks"`
	Secret            string   `doc:"base64 key of 8 to 256 bytes: makes an encrypted disk, fixed for life"`
	ShareAble         bool     `doc:"several machines may have it at once"`
	AutoRenew         bool     `default:"true" doc:"renew by itself when the period ends"`
	TagKeyValuePairs  []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type createDiskResponse struct {
	DiskID        string
	DiskIDs       []string
	ApplicationID string `doc:"set instead of the ids when approval is on"`
}

func (s *Service) createDisk(ctx context.Context, c *action.Call, q *createDiskRequest) (*createDiskResponse, error) {
	if err := checkPeriod(q.ChargeType, q.Quantity); err != nil {
		return nil, err
	}
	secret, err := CheckSecret("Secret", q.Secret)
	if err != nil {
		return nil, err
	}
	name, err := checkWords(q.Name, q.Remark)
	if err != nil {
		return nil, err
	}
	set, err := s.Fleet.StorageSet(ctx, c.Owner(), c.Region, q.SetType)
	if err != nil {
		return nil, err
	}
	if err := s.Catalog.CheckDiskSpec(ctx, c.Region, q.SetType, *q.DiskSpace); err != nil {
		return nil, err
	}
	var rows []Disk
	for range q.Count {
		d := Disk{ID: database.NewID("disk"), Region: c.Region, Company: c.Owner(), Name: name, Remark: q.Remark, Role: Data, State: Creating,
			SetType: set.Type, SetID: set.ID, SizeGB: *q.DiskSpace, Shareable: q.ShareAble, ChargeType: q.ChargeType, Quantity: q.Quantity,
			AutoRenew: q.AutoRenew, CreatedAt: s.Clock.Micros(), UpdatedAt: s.Clock.Micros(), Generation: 1}
		s.Encrypt(&d, secret)
		rows = append(rows, d)
	}
	return s.acceptCreate(ctx, c, rows, q.ProjectID, q.TagKeyValuePairs, func(ctx context.Context, tx bun.Tx, d *Disk) (err error) {
		d.HostID, err = s.Fleet.PlaceDisk(ctx, tx, set, d.SizeGB)
		return err
	})
}

// acceptCreate writes new disks with all that they hold, and their operations, into a project group (empty: the
// tenant's default). place reserves the room of one.
func (s *Service) acceptCreate(ctx context.Context, c *action.Call, rows []Disk, project string, tags []string,
	place func(ctx context.Context, tx bun.Tx, d *Disk) error, locks ...workflow.Lock) (*createDiskResponse, error) {
	out := &createDiskResponse{DiskIDs: []string{}}
	for _, d := range rows {
		out.DiskIDs = append(out.DiskIDs, d.ID)
	}
	var operations []string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		operations = nil
		group, err := identity.Project(ctx, tx, c, project)
		if err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, rows[0].Company, rows[0].Region, Quota(rows...)); err != nil {
			return err
		}
		for i := range rows {
			d := rows[i]
			d.Project = group
			if err := place(ctx, tx, &d); err != nil {
				return err
			}
			if _, err := tx.NewInsert().Model(&d).Exec(ctx); err != nil {
				return err
			}
			if err := tag.Attach(ctx, tx, d.CreatedAt, resource.Item{ID: d.ID, Company: d.Company, Region: d.Region, Kind: "Disk"}, tags); err != nil {
				return err
			}
			if err := s.Ledger.Hold(ctx, tx, purchase(&d)); err != nil {
				return err
			}
			op, err := s.flows.create.Accept(ctx, tx, request(c, &d, append(locks, workflow.Lock{Resource: d.ID, Exclusive: true})), job{Disk: d.ID, Generation: d.Generation, Source: d.SrcDisk})
			if err != nil {
				return locked(err)
			}
			operations = append(operations, op)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(out.DiskIDs...)
	s.Engine.Kick(operations...)
	out.DiskID = out.DiskIDs[0]
	return out, nil
}

// Payer is the resource whose charge includes a disk: a system disk's is its machine, when it was made with it.
func (d *Disk) Payer() string {
	if d.Role == Boot && !d.OwnCharge {
		return d.VMID
	}
	return d.ID
}

// priced lists what the payer of a disk pays for.
func (s *Service) priced(ctx context.Context, idb bun.IDB, d *Disk) ([]catalog.Item, error) {
	if d.Payer() != d.ID {
		return s.machines.Priced(ctx, idb, *d)
	}
	return []catalog.Item{catalog.DiskItem(d.SetType, d.SizeGB)}, nil
}

// purchase is what a new disk costs.
func purchase(d *Disk) ledger.Purchase {
	return ledger.Purchase{Kind: ledger.Disk, ID: d.ID, Name: d.Name, Company: d.Company, Region: d.Region, Project: d.Project,
		ChargeType: d.ChargeType, Quantity: d.Quantity, AutoRenew: d.AutoRenew, Items: []catalog.Item{catalog.DiskItem(d.SetType, d.SizeGB)}}
}

// request describes an operation on a disk. Only the bin's sweep and timers act without a call.
func request(c *action.Call, d *Disk, locks []workflow.Lock, more ...string) workflow.Request {
	r := workflow.Request{Action: "TerminateResource", Company: d.Company, Region: d.Region, Resources: append([]string{d.ID}, more...), Locks: locks}
	if c != nil {
		r.Action = c.Action
	}
	return r
}

// locked answers 5000 for what another operation holds, and 1006 for a machine.
func locked(err error) error {
	if busy := new(workflow.BusyError); errors.As(err, &busy) {
		if len(busy.Resource) > 3 && busy.Resource[:3] == "vm-" {
			return retcode.InvalidVMState.Errorf("%s is busy with %s", busy.Resource, busy.Action)
		}
		return retcode.DiskStateUnstable.Errorf("%s is busy with %s", busy.Resource, busy.Action)
	}
	return err
}

// run accepts an operation in a transaction and starts it. What is under way already is answered as if accepted. It
// begins again when another disk took the name of the device on its machine at the same time.
func (s *Service) run(ctx context.Context, accept func(ctx context.Context, tx bun.Tx) (operation string, err error)) error {
	var op string
	var err error
	for range MaxDisks {
		err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
			op, err = accept(ctx, tx)
			return err
		})
		if !database.IsUnique(err) {
			break
		}
	}
	if errors.Is(err, lifecycle.ErrRepeat) {
		return nil
	}
	if err != nil {
		return err
	}
	s.Engine.Kick(op)
	return nil
}

// change accepts an operation on a disk when its state allows it.
func (s *Service) change(ctx context.Context, c *action.Call, id, verb, to string, w *workflow.Workflow[job],
	begin func(ctx context.Context, tx bun.Tx, d *Disk, j *job) error) error {
	c.AddResource(id)
	return s.run(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		d, err := ByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return "", err
		}
		if err := check(d, verb); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, d, verb, to, w, begin)
	})
}

// begin writes an operation on a disk whose state allows it: what begin changes, the transitional state (empty: the
// disk's own), the locks on the disk and, together with others, on the machine that has it. c is nil for what the
// cloud does by itself.
func (s *Service) begin(ctx context.Context, tx bun.Tx, c *action.Call, d *Disk, verb, to string, w *workflow.Workflow[job],
	begin func(ctx context.Context, tx bun.Tx, d *Disk, j *job) error) (string, error) {
	if verb != verbDetach && verb != verbDelete {
		if err := s.Ledger.Check(ctx, tx, d.Payer()); err != nil {
			return "", err
		}
	}
	if err := s.handle(d); err != nil {
		return "", err
	}
	j := job{Disk: d.ID, Before: d.State, VM: d.VMID}
	d.ReasonCode, d.Reason = 0, ""
	if err := begin(ctx, tx, d, &j); err != nil {
		return "", err
	}
	locks := []workflow.Lock{{Resource: d.ID, Exclusive: true}}
	var more []string
	if j.Snapshot != "" {
		locks, more = append(locks, workflow.Lock{Resource: j.Snapshot, Exclusive: true}), append(more, j.Snapshot)
	}
	if j.VM != "" {
		locks, more = append(locks, workflow.Lock{Resource: j.VM}), append(more, j.VM)
	}
	if to == "" {
		to = d.State
	}
	if err := s.move(ctx, tx, d, to, "reason_code", "reason", "vm_id", "target", "plug", "host_id", "from_host", "size_gb", "hidden", "deleted_at", "limited",
		"read_iops", "write_iops", "total_iops", "read_mbps", "write_mbps", "total_mbps"); err != nil {
		return "", err
	}
	j.Generation = d.Generation
	op, err := w.Accept(ctx, tx, request(c, d, locks, more...), j)
	return op, locked(err)
}

type upgradeDiskRequest struct {
	DiskID            string `validate:"required" doc:"disk id"`
	DiskSpace         *int   `validate:"required" doc:"new size in GB"`
	ApplicationName   string `validate:"max=100" doc:"title of the approval request"`
	ApplicationReason string `validate:"max=1000" doc:"reason of the approval request"`
	action.Tenant
}

type upgradeDiskResponse struct {
	ApplicationID string `doc:"when approval is on"`
}

func (s *Service) upgradeDisk(ctx context.Context, c *action.Call, q *upgradeDiskRequest) (*upgradeDiskResponse, error) {
	gb := *q.DiskSpace
	d, err := ByID(ctx, s.DB.Reader(), c.Scope(), q.DiskID)
	if err != nil {
		return nil, err
	}
	if err := check(d, verbUpgrade); err != nil {
		return nil, err
	}
	if gb <= d.SizeGB {
		return nil, retcode.DiskShrinkNotSupported.Errorf("%s has %d GB", d.ID, d.SizeGB)
	}
	if d.Role == Boot {
		err = s.Catalog.CheckBootDiskSpec(ctx, d.Region, d.SetType, gb)
	} else {
		err = s.Catalog.CheckDiskSpec(ctx, d.Region, d.SetType, gb)
	}
	if err != nil {
		return nil, err
	}
	sets, err := s.sets(ctx)
	if err != nil {
		return nil, err
	}
	return &upgradeDiskResponse{}, s.change(ctx, c, q.DiskID, verbUpgrade, Upgrading, s.flows.upgrade,
		func(ctx context.Context, tx bun.Tx, d *Disk, j *job) error {
			more := gb - d.SizeGB
			if more <= 0 {
				return retcode.DiskShrinkNotSupported.Errorf("%s has %d GB", d.ID, d.SizeGB)
			}
			if d.Shareable && d.State != Unbound {
				return retcode.DiskStateUnstable.Errorf("%s is shared: it grows when no machine has it", d.ID)
			}
			if err := s.Catalog.Reserve(ctx, tx, d.Company, d.Region, catalog.Amounts{catalog.DiskSpace.In(d.SetID): int64(more)}); err != nil {
				return err
			}
			if err := s.Fleet.ReserveDisk(ctx, tx, d.SetID, d.HostID, more); err != nil {
				return err
			}
			j.OldGB, j.OldLimits = d.SizeGB, d.Limits
			d.SizeGB = gb
			d.Limits = d.Limits.grown(sets[d.SetID].Media, gb)
			items, err := s.priced(ctx, tx, d)
			if err != nil {
				return err
			}
			return s.Ledger.Change(ctx, tx, ledger.Resize{ID: d.Payer(), Items: items})
		})
}

type cloneDiskRequest struct {
	Name       string `validate:"required" doc:"1-63 printable characters"`
	ChargeType string `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	SrcID      string `validate:"required" doc:"source disk id"`
	Quantity   int    `default:"1" doc:"periods; Month 1-11, Year 1-5, ignored for Dynamic"`
	ProjectID  string `doc:"project group id; the source's when left out"`
	Remark     string `validate:"max=100" doc:"free text"`
	DiskSpace  int    `doc:"GB, not below the source; default the source's"`
	action.Tenant
}

type cloneDiskResponse struct{ DiskID string }

// cloneDisk copies a whole disk. The copy is where the source is, since no data shall go over the network for it.
func (s *Service) cloneDisk(ctx context.Context, c *action.Call, q *cloneDiskRequest) (*cloneDiskResponse, error) {
	if err := checkPeriod(q.ChargeType, q.Quantity); err != nil {
		return nil, err
	}
	name, err := checkWords(q.Name, q.Remark)
	if err != nil {
		return nil, err
	}
	source, err := ByID(ctx, s.DB.Reader(), c.Scope(), q.SrcID)
	if err != nil {
		return nil, err
	}
	if err := check(source, verbClone); err != nil {
		return nil, err
	}
	if err := s.Ledger.Check(ctx, s.DB.Reader(), source.Payer()); err != nil {
		return nil, err
	}
	d := s.copyOf(source, name)
	d.Remark, d.ChargeType, d.Quantity, d.Shareable = q.Remark, q.ChargeType, q.Quantity, source.Shareable
	if q.DiskSpace != 0 {
		if q.DiskSpace < source.SizeGB {
			return nil, retcode.DiskShrinkNotSupported.Errorf("%s has %d GB", source.ID, source.SizeGB)
		}
		d.SizeGB = q.DiskSpace
	}
	if _, err := s.Fleet.StorageSet(ctx, d.Company, d.Region, d.SetType); err != nil {
		return nil, err
	}
	if err := s.Catalog.CheckDiskSpec(ctx, d.Region, d.SetType, d.SizeGB); err != nil {
		return nil, err
	}
	if err := s.inherit(&d, source); err != nil {
		return nil, err
	}
	out, err := s.acceptCreate(ctx, c, []Disk{d}, cmp.Or(q.ProjectID, source.Project), nil, func(ctx context.Context, tx bun.Tx, d *Disk) error {
		now, err := ByID(ctx, tx, c.Scope(), source.ID)
		if err != nil {
			return err
		}
		if err := check(now, verbClone); err != nil {
			return err
		}
		d.HostID = s.host(now)
		if err := s.Fleet.ReserveDisk(ctx, tx, d.SetID, d.HostID, d.SizeGB); err != nil {
			return err
		}
		return s.move(ctx, tx, now, BeingCloned)
	}, workflow.Lock{Resource: source.ID, Exclusive: true})
	if err != nil {
		return nil, err
	}
	return &cloneDiskResponse{DiskID: out.DiskID}, nil
}

type oneDiskRequest struct {
	DiskID string `validate:"required" doc:"disk id"`
	action.Tenant
}

func (s *Service) deleteDisk(ctx context.Context, c *action.Call, q *oneDiskRequest) (*action.Empty, error) {
	failed := false
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		d, err := ByID(ctx, tx, c.Scope(), q.DiskID)
		if failed = err == nil && d.State == Failed && !d.Hidden; !failed {
			return err
		}
		d.Hidden = true
		return s.move(ctx, tx, d, Released, "hidden")
	})
	if err != nil || failed {
		c.AddResource(q.DiskID)
		return nil, err
	}
	return nil, s.change(ctx, c, q.DiskID, verbDelete, Deleting, s.flows.del, func(ctx context.Context, tx bun.Tx, d *Disk, _ *job) error {
		if d.State == Failed {
			return retcode.ResourceTerminated.Errorf("%s is destroyed", d.ID)
		}
		if copied, err := copying(ctx, tx, "src_disk", d.ID); err != nil || copied {
			return errors.Join(err, retcode.DiskStateUnstable.Errorf("a disk is being created from a snapshot of %s", d.ID))
		}
		d.Hidden, d.DeletedAt = true, s.Clock.Micros() // it is in the bin from now on, Deleting at first
		return nil
	})
}

// copying tells whether a disk is being made of a source: column src_disk or src_snapshot.
func copying(ctx context.Context, tx bun.Tx, column, id string) (bool, error) {
	return tx.NewSelect().Model((*Disk)(nil)).Where("state = ? AND ? = ?", Creating, bun.Ident(column), id).Exists(ctx)
}

type updateQoSRequest struct {
	DiskID             string `validate:"required" doc:"disk id"`
	DiskBandwidth      *int   `doc:"MB/s read, and as much written; 0 none"`
	DiskIOPS           *int   `doc:"reads a second, and as many writes; 0 none"`
	DiskReadBandwidth  *int   `doc:"MB/s, 0 none"`
	DiskWriteBandwidth *int   `doc:"MB/s, 0 none"`
	DiskTotalBandwidth *int   `doc:"MB/s read and written, in the place of the two; 0 none"`
	DiskReadIOPS       *int   `doc:"0 none"`
	DiskWriteIOPS      *int   `doc:"0 none"`
	DiskTotalIOPS      *int   `doc:"reads and writes, in the place of the two; 0 none"`
	action.Tenant
}

// updateQoS sets limits: what is not named stays as it is. A total takes the place of its parts, and these its.
func (s *Service) updateQoS(ctx context.Context, c *action.Call, q *updateQoSRequest) (*action.Empty, error) {
	for _, f := range []struct {
		name  string
		value *int
		most  int
	}{
		{"DiskBandwidth", q.DiskBandwidth, maxMBps}, {"DiskReadBandwidth", q.DiskReadBandwidth, maxMBps}, {"DiskWriteBandwidth", q.DiskWriteBandwidth, maxMBps},
		{"DiskTotalBandwidth", q.DiskTotalBandwidth, maxMBps}, {"DiskIOPS", q.DiskIOPS, maxIOPS}, {"DiskReadIOPS", q.DiskReadIOPS, maxIOPS},
		{"DiskWriteIOPS", q.DiskWriteIOPS, maxIOPS}, {"DiskTotalIOPS", q.DiskTotalIOPS, maxIOPS},
	} {
		if f.value != nil && (*f.value < 0 || *f.value > f.most) {
			return nil, retcode.InvalidParameter.Errorf("%s is 0 to %d", f.name, f.most)
		}
	}
	above := func(v *int) bool { return v != nil && *v > 0 }
	if above(q.DiskTotalIOPS) && (above(q.DiskIOPS) || above(q.DiskReadIOPS) || above(q.DiskWriteIOPS)) ||
		above(q.DiskTotalBandwidth) && (above(q.DiskBandwidth) || above(q.DiskReadBandwidth) || above(q.DiskWriteBandwidth)) {
		return nil, retcode.InvalidParameter.Errorf("a total goes with neither of its parts")
	}
	sets, err := s.sets(ctx)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, c, q.DiskID, verbLimit, "", s.flows.limit, func(ctx context.Context, tx bun.Tx, d *Disk, j *job) error {
		j.OldLimits, j.OldLimited = d.Limits, d.Limited
		d.Limits, d.Limited = d.effective(sets[d.SetID].Media), true
		setPair(&d.ReadIOPS, &d.WriteIOPS, &d.TotalIOPS, q.DiskIOPS, q.DiskReadIOPS, q.DiskWriteIOPS, q.DiskTotalIOPS)
		setPair(&d.ReadMBps, &d.WriteMBps, &d.TotalMBps, q.DiskBandwidth, q.DiskReadBandwidth, q.DiskWriteBandwidth, q.DiskTotalBandwidth)
		return nil
	})
}

// setPair sets limits of one kind to what was named of them.
func setPair(read, write, total, both, newRead, newWrite, newTotal *int) {
	if both != nil {
		*read, *write, *total = *both, *both, 0
	}
	if newRead != nil || newWrite != nil {
		*total = 0
	}
	if newRead != nil {
		*read = *newRead
	}
	if newWrite != nil {
		*write = *newWrite
	}
	if newTotal != nil {
		if *total = *newTotal; *total > 0 {
			*read, *write = 0, 0
		}
	}
}
