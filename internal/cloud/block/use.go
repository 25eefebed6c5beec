package block

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
)

// SystemTarget is the name of a machine's system disk.
const SystemTarget = "vda"

// Use is a disk that becomes one of a machine which is being made. It is part of the machine's operation, which holds
// the disk's lock: BeginUseTx with the request, BringUse before the machine starts (undone by ReturnUse when the
// machine is gone from its host), and SettleUseTx or UndoUseTx at the end.
type Use job

// BeginUseTx takes a disk for a machine: 200, 202, 206, 208, 560, 5000, 5002, 205, 14006. A system disk has no other machine.
func (s *Service) BeginUseTx(ctx context.Context, tx bun.Tx, scope action.Scope, id string, m Machine, system bool) (*Use, error) {
	d, err := ByID(ctx, tx, scope, id)
	if err != nil {
		return nil, err
	}
	if verdict, err := s.toward(ctx, tx, d, m.ID, verbAttach, verbAttachOther); err != nil || verdict != nil {
		return nil, errors.Join(err, verdict)
	}
	if err := s.Ledger.Check(ctx, tx, d.Payer()); err != nil {
		return nil, err
	}
	if err := s.handle(d); err != nil {
		return nil, err
	}
	u := &Use{Disk: d.ID, Before: d.State, VM: m.ID}
	if err := s.beginAttach(ctx, tx, d, &m, (*job)(u)); err != nil {
		return nil, err
	}
	if system {
		d.Target = SystemTarget
	}
	d.ReasonCode, d.Reason = 0, ""
	if err := s.move(ctx, tx, d, Bounding, "reason_code", "reason", "vm_id", "target", "plug", "host_id", "from_host"); err != nil {
		return nil, err
	}
	u.Generation = d.Generation
	return u, nil
}

// BringUse makes the volume be on the machine's host, which is then told of it.
func (s *Service) BringUse(ctx context.Context, u *Use) error {
	if err := s.bring(ctx, (*job)(u)); err != nil {
		return err
	}
	return s.mark(ctx, (*job)(u), Bounding)
}

// ReturnUse removes a copy of the volume that is not wanted any more.
func (s *Service) ReturnUse(ctx context.Context, u *Use) error { return s.bringBack(ctx, (*job)(u)) }

// SettleUseTx makes the disk Bound. As the system disk it goes on paying for itself, and is none of its tenant's data
// disks any more.
func (s *Service) SettleUseTx(ctx context.Context, tx bun.Tx, u *Use, system bool) error {
	if err := s.attached(ctx, tx, (*job)(u)); err != nil || !system {
		return err
	}
	d, err := ByID(ctx, tx, action.Scope{}, u.Disk)
	if err != nil {
		return err
	}
	d.Role, d.OwnCharge = Boot, true
	if err := s.Catalog.Release(ctx, tx, d.Company, d.Region, catalog.Amounts{catalog.Disk.In(d.SetID): 1}); err != nil {
		return err
	}
	return s.move(ctx, tx, d, Bound, "role", "own_charge")
}

// UndoUseTx gives the disk back as it was.
func (s *Service) UndoUseTx(ctx context.Context, tx bun.Tx, u *Use, cause error) error {
	return s.notAttached(ctx, tx, (*job)(u), cause)
}
