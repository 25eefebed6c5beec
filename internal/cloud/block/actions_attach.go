package block

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

type attachDiskRequest struct {
	DiskID       string `validate:"required" doc:"disk id"`
	ResourceID   string `validate:"required" doc:"virtual machine id"`
	ResourceType string `validate:"required" doc:"VM"`
	action.Tenant
}

func (s *Service) attachDisk(ctx context.Context, c *action.Call, q *attachDiskRequest) (*action.Empty, error) {
	if q.ResourceType != "VM" {
		return nil, retcode.InvalidResourceType.Errorf("ResourceType %s takes no disks", q.ResourceType)
	}
	if !strings.HasPrefix(q.ResourceID, "vm-") {
		return nil, retcode.InvalidResourceType.Errorf("%s is no VM", q.ResourceID)
	}
	return nil, s.changeOn(ctx, c, q.DiskID, q.ResourceID, verbAttach, verbAttachOther, Bounding, s.flows.attach, s.beginAttach)
}

// changeOn is what attaching and detaching have in common: both exist, both are in a state that allows it, begin, then
// a workflow that holds the disk alone and the machine together with other changes of its parts.
func (s *Service) changeOn(ctx context.Context, c *action.Call, disk, vm, same, other, to string, w *workflow.Workflow[job],
	begin func(ctx context.Context, tx bun.Tx, d *Disk, m *Machine, j *job) error) error {
	c.AddResource(disk, vm)
	return s.run(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		d, err := ByID(ctx, tx, c.Scope(), disk)
		if err != nil {
			return "", err
		}
		verdict, err := s.toward(ctx, tx, d, vm, same, other)
		if err != nil {
			return "", err
		}
		m, resolved := s.machines.Resolve(ctx, tx, action.Scope{Region: d.Region, Company: d.Company, Projects: c.Projects}, vm, same == verbDetach)
		// What does not exist is said first, then whose state is wrong.
		if retcode.Of(resolved) == retcode.VMNotFound {
			return "", resolved
		}
		if verdict != nil {
			return "", verdict
		}
		if resolved != nil {
			return "", resolved
		}
		return s.begin(ctx, tx, c, d, same, to, w, func(ctx context.Context, tx bun.Tx, d *Disk, j *job) error {
			j.VM = m.ID
			return begin(ctx, tx, d, m, j)
		})
	})
}

// toward is the verdict of a disk's state, which depends on whether it is on the machine, or on its way to or from
// it. A shared disk that others have is free for one that has not.
func (s *Service) toward(ctx context.Context, tx bun.Tx, d *Disk, vm, same, other string) (verdict, err error) {
	if !d.Shareable {
		if d.VMID == "" || d.VMID == vm {
			return check(d, same), nil
		}
		return check(d, other), nil
	}
	shares, err := sharesOf(ctx, tx, d.ID)
	if err != nil {
		return nil, err
	}
	on := slices.ContainsFunc(shares[d.ID], func(sh share) bool { return sh.VMID == vm })
	switch {
	case on || d.State == Unbound:
		return check(d, same), nil
	case same == verbAttach && d.State == Bound:
		return nil, nil
	}
	return check(d, other), nil
}

// beginAttach gives a disk a name on a machine, and room on its host: a disk that is elsewhere moves there.
func (s *Service) beginAttach(ctx context.Context, tx bun.Tx, d *Disk, m *Machine, _ *job) error {
	all, err := Of(ctx, tx, m.ID)
	if err != nil {
		return err
	}
	target, err := freeTarget(all[m.ID], m.Arch)
	if err != nil {
		return err
	}
	if d.Shareable {
		shares, err := sharesOf(ctx, tx, d.ID)
		if err != nil {
			return err
		}
		if most := s.Catalog.Config.SharedDiskAttachments(ctx, d.Region); len(shares[d.ID]) >= most {
			return retcode.BindLimitReached.Errorf("a shared disk is attached to at most %d machines", most)
		}
		if len(shares[d.ID]) > 0 && d.HostID != m.HostID && !s.Fleet.Shared(d.SetID) {
			return retcode.InvalidResourceState.Errorf("storage %s shares disks among machines next to each other: %s is not next to those that have %s",
				d.SetType, m.ID, d.ID)
		}
		row := &share{DiskID: d.ID, VMID: m.ID, Target: target, State: Bounding, CreatedAt: s.Clock.Micros()}
		if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
			return err
		}
	} else {
		d.VMID, d.Target, d.Plug = m.ID, target, false
	}
	return s.moveTo(ctx, tx, d, m.HostID)
}

// moveTo reserves the room for a disk on another host. It holds its old room until the move is settled. A disk that
// hosts share goes nowhere: the other host opens it, 14011 when it cannot.
func (s *Service) moveTo(ctx context.Context, tx bun.Tx, d *Disk, host string) error {
	if s.Fleet.Shared(d.SetID) {
		if !s.Fleet.Reaches(d.SetID, host) {
			return retcode.SetDiskNotSupported.Errorf("the host of the machine does not reach storage %s", d.SetType)
		}
		d.HostID = host
		return nil
	}
	if d.HostID == host {
		return nil
	}
	if err := s.Fleet.Reserve(ctx, tx, host, fleet.Demand{DiskGB: d.SizeGB}); err != nil {
		return err
	}
	d.HostID, d.FromHost = host, d.HostID
	return nil
}

type detachDiskRequest struct {
	DiskID     string `validate:"required" doc:"disk id"`
	ResourceID string `validate:"required" doc:"virtual machine id"`
	action.Tenant
}

func (s *Service) detachDisk(ctx context.Context, c *action.Call, q *detachDiskRequest) (*action.Empty, error) {
	return nil, s.changeOn(ctx, c, q.DiskID, q.ResourceID, verbDetach, verbDetachOther, Unbounding, s.flows.detach,
		func(ctx context.Context, tx bun.Tx, d *Disk, m *Machine, _ *job) error {
			if d.Role == Boot {
				return retcode.InvalidResourceState.Errorf("%s is the system disk of %s", d.ID, d.VMID)
			}
			if !d.Shareable {
				return nil
			}
			return s.markShare(ctx, tx, d.ID, m.ID, Unbounding)
		})
}

// markShare changes the state of a shared disk on one machine: 202 when it is not attached there.
func (s *Service) markShare(ctx context.Context, tx bun.Tx, disk, vm, state string) error {
	r, err := tx.NewUpdate().Model((*share)(nil)).Set("state = ?", state).Set("plug = ?", true).Where("disk_id = ? AND vm_id = ?", disk, vm).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, retcode.InvalidResourceState.Errorf("%s is not attached to %s", disk, vm))
	}
	return nil
}
