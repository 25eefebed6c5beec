package compute

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// priced is what a machine pays for: itself and the system disk that was made with it. Other disks and addresses pay
// for themselves.
func priced(v *VM, disks ...block.Disk) []catalog.Item {
	items := catalog.VMItems(v.VMType, v.CPUs, v.MemoryMiB, 0)
	for _, d := range disks {
		if d.Payer() == v.ID {
			items = append(items, catalog.DiskItem(d.SetType, d.SizeGB))
		}
	}
	return items
}

// purchases are a new machine and its new data disks.
func purchases(v *VM, disks []block.Disk) []ledger.Purchase {
	p := ledger.Purchase{Kind: ledger.VM, ID: v.ID, Name: v.Name, Company: v.Company, Region: v.Region, Project: v.Project,
		ChargeType: v.ChargeType, Quantity: v.Quantity, AutoRenew: v.AutoRenew, Items: priced(v, disks...)}
	all := []ledger.Purchase{p}
	for _, d := range disks {
		if d.Payer() == v.ID {
			continue
		}
		p.Kind, p.ID, p.Name, p.Items = ledger.Disk, d.ID, d.Name, []catalog.Item{catalog.DiskItem(d.SetType, d.SizeGB)}
		all = append(all, p)
	}
	return all
}

// capture makes the price of a machine that was made final, with its disks and addresses.
func (s *Service) capture(ctx context.Context, tx bun.Tx, vm string, eips []string) error {
	disks, err := block.Of(ctx, tx, vm)
	if err != nil {
		return err
	}
	ids := append([]string{vm}, eips...)
	for _, d := range disks[vm] {
		ids = append(ids, d.ID)
	}
	return s.Ledger.Capture(ctx, tx, ids...)
}

// stopExpired shuts a machine down whose paid time is over.
func (s *Service) stopExpired(ctx context.Context, id string) error {
	return s.byItself(ctx, id, Stop, Stopping, s.flows.stop, nil)
}

// removeExpired moves a machine whose grace is over to the bin. What is bound to it stays with its tenant.
func (s *Service) removeExpired(ctx context.Context, id string) error {
	return s.byItself(ctx, id, Delete, Deleting, s.flows.del, s.beginDelete(false, false, false))
}

// byItself begins an operation without a call. It answers ErrUnderWay until the machine is where the operation takes it.
func (s *Service) byItself(ctx context.Context, id, verb, to string, w *workflow.Workflow[job],
	change func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error)) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vmByID(ctx, tx, action.Scope{}, id)
		if err != nil {
			return err
		}
		op = ""
		if verb == Stop && v.State == Stopped || v.DeletedAt != 0 {
			return nil
		}
		op, err = s.accept(ctx, tx, nil, v, verb, to, w, change)
		return err
	})
	switch {
	case err == nil && op == "":
		return nil
	case err == nil:
		s.Engine.Kick(op)
		return ledger.ErrUnderWay
	case errors.Is(err, lifecycle.ErrRepeat) || retcode.Of(err) == retcode.InvalidVMState: // another operation has it
		return ledger.ErrUnderWay
	}
	return err
}
