package block

import (
	"cmp"
	"context"
	"errors"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Types of snapshots.
const (
	Manual    = "Manual"
	Automatic = "Automatic"
)

// snapshotName trims a snapshot's name: 1 to 30 printable characters (113).
func snapshotName(name string) (string, error) {
	name, err := resource.Name(name)
	if err == nil && utf8.RuneCountInString(name) > 30 {
		err = retcode.InvalidParameter.Errorf("Name of a snapshot has 1 to 30 printable characters")
	}
	return name, err
}

type createSnapshotRequest struct {
	Name             string   `validate:"required" doc:"1-30 printable characters"`
	DiskID           string   `validate:"required" doc:"disk id"`
	Remark           string   `validate:"max=100" doc:"free text"`
	ProjectID        string   `doc:"project group id; the disk's when left out"`
	Type             string   `default:"Manual" validate:"oneof=Manual Automatic" doc:"who made it"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type createSnapshotResponse struct{ SnapshotID string }

func (s *Service) createSnapshot(ctx context.Context, c *action.Call, q *createSnapshotRequest) (*createSnapshotResponse, error) {
	name, err := snapshotName(q.Name)
	if err != nil {
		return nil, err
	}
	if _, err := resource.Remark(q.Remark); err != nil {
		return nil, err
	}
	c.AddResource(q.DiskID)
	n := &Snapshot{Name: name, Remark: q.Remark, Type: q.Type}
	err = s.run(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		d, err := ByID(ctx, tx, c.Scope(), q.DiskID)
		if err != nil {
			return "", err
		}
		if n.Project, err = identity.Project(ctx, tx, c, cmp.Or(q.ProjectID, d.Project)); err != nil {
			return "", err
		}
		op, err := s.beginSnapshot(ctx, tx, c, d, n)
		if err != nil {
			return "", err
		}
		return op, tag.Attach(ctx, tx, n.CreatedAt, resource.Item{ID: n.ID, Company: n.Company, Region: n.Region, Kind: "Snapshot"}, q.TagKeyValuePairs)
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(n.ID)
	return &createSnapshotResponse{SnapshotID: n.ID}, nil
}

// BeginSnapshotTx accepts a snapshot that a timer takes; the caller kicks the operation. Codes as CreateSnapshot's.
func (s *Service) BeginSnapshotTx(ctx context.Context, tx bun.Tx, company int64, region, diskID, name string) (operation, snapshotID string, err error) {
	d, err := ByID(ctx, tx, action.Scope{Region: region, Company: company}, diskID)
	if err != nil {
		return "", "", err
	}
	n := &Snapshot{Name: name, Type: Automatic, Project: d.Project}
	operation, err = s.beginSnapshot(ctx, tx, nil, d, n)
	return operation, n.ID, err
}

// beginSnapshot completes the row of a snapshot (Name, Remark, Type and Project are given) and accepts its making.
func (s *Service) beginSnapshot(ctx context.Context, tx bun.Tx, c *action.Call, d *Disk, n *Snapshot) (string, error) {
	if err := check(d, verbSnapshot); err != nil {
		return "", err
	}
	if err := unmade(d); err != nil {
		return "", err
	}
	if err := d.HasSnapshots(); err != nil {
		return "", err
	}
	if most := s.Catalog.Config.SnapshotsPerDisk(ctx, d.Region); most > 0 {
		have, err := tx.NewSelect().Model((*Snapshot)(nil)).Where("disk_id = ? AND ended_at = 0 AND state NOT IN (?, ?)", d.ID, SnapshotFailed, SnapshotDeleting).Count(ctx)
		if err != nil {
			return "", err
		}
		if int(have) >= most {
			return "", retcode.SnapshotLimitReached.Errorf("%s has %d snapshots", d.ID, have)
		}
	}
	now := s.Clock.Micros()
	n.ID, n.Region, n.Company = database.NewID("snapshot"), d.Region, d.Company
	n.DiskID, n.DiskRole, n.State, n.SizeGB, n.Encrypted = d.ID, d.Role, SnapshotCreating, d.SizeGB, d.Secret != ""
	n.CreatedAt, n.UpdatedAt, n.Generation = now, now, 1
	return s.begin(ctx, tx, c, d, verbSnapshot, Snapshoting, s.flows.snapshot, func(ctx context.Context, tx bun.Tx, _ *Disk, j *job) error {
		j.Snapshot, j.SnapshotGeneration = n.ID, n.Generation
		_, err := tx.NewInsert().Model(n).Exec(ctx)
		return err
	})
}

type rollbackSnapshotRequest struct {
	DiskID     string `validate:"required" doc:"disk id"`
	SnapshotID string `validate:"required" doc:"snapshot id"`
	action.Tenant
}

func (s *Service) rollbackSnapshot(ctx context.Context, c *action.Call, q *rollbackSnapshotRequest) (*action.Empty, error) {
	c.AddResource(q.DiskID, q.SnapshotID)
	return nil, s.run(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		d, err := ByID(ctx, tx, c.Scope(), q.DiskID)
		if err != nil {
			return "", err
		}
		if err := lost(d); err != nil {
			return "", err
		}
		n, err := snapshotByID(ctx, tx, c.Scope(), q.SnapshotID)
		if err != nil {
			return "", err
		}
		if n.DiskID != d.ID {
			return "", retcode.ResourceNotFound.Errorf("%s is no snapshot of %s", n.ID, d.ID)
		}
		if d.State == Rollbacking && n.State == SnapshotRolling {
			return "", lifecycle.ErrRepeat
		}
		if err := check(d, verbRollback); err != nil {
			return "", err
		}
		if err := usable(ctx, tx, n); err != nil {
			return "", err
		}
		if d.VMID != "" {
			m, err := s.machines.Resolve(ctx, tx, action.Scope{Region: d.Region, Company: d.Company}, d.VMID, true)
			if err != nil {
				return "", err
			}
			if !m.Stopped {
				return "", retcode.InvalidVMState.Errorf("%s runs: stop it to roll %s back", m.ID, d.ID)
			}
		}
		return s.begin(ctx, tx, c, d, verbRollback, Rollbacking, s.flows.rollback, func(ctx context.Context, tx bun.Tx, d *Disk, j *job) error {
			if err := s.turn(ctx, tx, n, SnapshotRolling); err != nil {
				return err
			}
			j.Snapshot, j.SnapshotGeneration = n.ID, n.Generation
			return nil
		})
	})
}

// usable refuses a snapshot that something else is done with: 7001, 7002.
func usable(ctx context.Context, tx bun.Tx, n *Snapshot) error {
	if n.State != SnapshotNormal {
		return retcode.SnapshotStateUnstable.Errorf("%s is %s", n.ID, n.State)
	}
	if copied, err := copying(ctx, tx, "src_snapshot", n.ID); err != nil || copied {
		return errors.Join(err, retcode.SnapshotCreatingDisk.Errorf("%s", n.ID))
	}
	return nil
}

type deleteSnapshotRequest struct {
	SnapshotID string `validate:"required" doc:"snapshot id"`
	action.Tenant
}

func (s *Service) deleteSnapshot(ctx context.Context, c *action.Call, q *deleteSnapshotRequest) (*action.Empty, error) {
	c.AddResource(q.SnapshotID)
	return nil, s.run(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		return s.beginUnsnapshot(ctx, tx, c, c.Scope(), q.SnapshotID)
	})
}

// BeginDeleteSnapshotTx accepts the removal of a snapshot that a timer took; the caller kicks the operation. Codes as
// DeleteSnapshot's.
func (s *Service) BeginDeleteSnapshotTx(ctx context.Context, tx bun.Tx, company int64, region, snapshotID string) (operation string, err error) {
	return s.beginUnsnapshot(ctx, tx, nil, action.Scope{Region: region, Company: company}, snapshotID)
}

func (s *Service) beginUnsnapshot(ctx context.Context, tx bun.Tx, c *action.Call, scope action.Scope, id string) (string, error) {
	n, err := snapshotByID(ctx, tx, scope, id)
	if err != nil {
		return "", err
	}
	if n.State == SnapshotDeleting {
		return "", lifecycle.ErrRepeat
	}
	if n.State != SnapshotFailed {
		if err := usable(ctx, tx, n); err != nil {
			return "", err
		}
	}
	d, err := ByID(ctx, tx, action.Scope{}, n.DiskID)
	if err != nil {
		return "", err
	}
	if err := s.handle(d); err != nil {
		return "", err
	}
	j := job{Disk: d.ID, Generation: d.Generation, Before: n.State, Snapshot: n.ID}
	if err := s.turn(ctx, tx, n, SnapshotDeleting); err != nil {
		return "", err
	}
	j.SnapshotGeneration = n.Generation
	locks := []workflow.Lock{{Resource: d.ID, Exclusive: true}, {Resource: n.ID, Exclusive: true}}
	r := workflow.Request{Action: "DeleteSnapshot", Company: n.Company, Region: n.Region, Resources: []string{n.ID, d.ID}}
	if d.VMID != "" {
		locks, r.Resources = append(locks, workflow.Lock{Resource: d.VMID}), append(r.Resources, d.VMID)
	}
	r.Locks = locks
	op, err := s.flows.unsnapshot.Accept(ctx, tx, r, j)
	if busy := new(workflow.BusyError); errors.As(err, &busy) {
		return "", retcode.SnapshotStateUnstable.Errorf("%s is busy with %s", busy.Resource, busy.Action)
	}
	return op, err
}

type createFromSnapshotRequest struct {
	SrcSnapshotID    string   `validate:"required" doc:"snapshot id"`
	Name             string   `validate:"required" doc:"1-63 printable characters"`
	ChargeType       string   `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	Quantity         *int     `validate:"required" doc:"periods; Month 1-11, Year 1-5, ignored for Dynamic"`
	ProjectID        string   `doc:"project group id; the snapshot's when left out"`
	Remark           string   `validate:"max=100" doc:"free text"`
	Count            int      `default:"1" validate:"min=1,max=10" doc:"how many disks"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type createFromSnapshotResponse struct {
	DiskID  string
	DiskIDs []string
}

// HasSnapshots refuses a disk that cannot have snapshots whatever it waits for: 202 a shared one, 5002 in the bin, 205
// destroyed.
func (d *Disk) HasSnapshots() error {
	if d.Shareable {
		return retcode.InvalidResourceState.Errorf("%s is shared: such disks have no snapshots", d.ID)
	}
	return lost(d)
}

// lost refuses a disk that is in the bin (5002) or destroyed (205).
func lost(d *Disk) error {
	if v := life.Judge(d.State, verbSnapshot); v != binned && v != gone {
		return nil
	}
	return check(d, verbSnapshot)
}

// sourceOf reads the snapshot that disks are made of, and its disk: 200 unknown, 205 destroyed, 5002 when it went with
// its disk to the bin.
func (s *Service) sourceOf(ctx context.Context, c *action.Call, id string) (*Snapshot, *Disk, error) {
	n, err := anySnapshot(ctx, s.DB.Reader(), c.Scope(), id)
	if err != nil {
		return nil, nil, err
	}
	source, err := ByID(ctx, s.DB.Reader(), action.Scope{}, n.DiskID)
	if err == nil {
		err = cmp.Or(lost(source), n.ended())
	}
	return n, source, err
}

// createFromSnapshot makes disks as one was: of the same size and storage, with its key. One of a system disk's
// snapshot can start a machine.
func (s *Service) createFromSnapshot(ctx context.Context, c *action.Call, q *createFromSnapshotRequest) (*createFromSnapshotResponse, error) {
	if err := checkPeriod(q.ChargeType, *q.Quantity); err != nil {
		return nil, err
	}
	name, err := checkWords(q.Name, q.Remark)
	if err != nil {
		return nil, err
	}
	n, source, err := s.sourceOf(ctx, c, q.SrcSnapshotID)
	if err != nil {
		return nil, err
	}
	if _, err := s.Fleet.StorageSet(ctx, source.Company, source.Region, source.SetType); err != nil {
		return nil, err
	}
	var rows []Disk
	for range q.Count {
		d := s.copyOf(source, name)
		d.Remark, d.ChargeType, d.Quantity, d.SrcSnapshot, d.SizeGB = q.Remark, q.ChargeType, *q.Quantity, n.ID, n.SizeGB
		if err := s.inherit(&d, source); err != nil {
			return nil, err
		}
		rows = append(rows, d)
	}
	c.AddResource(n.ID)
	out, err := s.acceptCreate(ctx, c, rows, cmp.Or(q.ProjectID, n.Project), q.TagKeyValuePairs, func(ctx context.Context, tx bun.Tx, d *Disk) error {
		now, err := snapshotByID(ctx, tx, c.Scope(), n.ID)
		if err == nil && now.State != SnapshotNormal {
			err = retcode.SnapshotStateUnstable.Errorf("%s is %s", now.ID, now.State)
		}
		if err != nil {
			return err
		}
		src, err := ByID(ctx, tx, action.Scope{}, n.DiskID)
		if err != nil {
			return err
		}
		if err := s.Ledger.Check(ctx, tx, src.Payer()); err != nil {
			return err
		}
		if src.FromHost != "" {
			return retcode.DiskStateUnstable.Errorf("%s is on its way to its machine", src.ID)
		}
		d.HostID = s.host(src)
		return s.Fleet.ReserveDisk(ctx, tx, d.SetID, d.HostID, d.SizeGB)
	}, workflow.Lock{Resource: n.ID})
	if err != nil {
		return nil, err
	}
	return &createFromSnapshotResponse{DiskID: out.DiskID, DiskIDs: out.DiskIDs}, nil
}
