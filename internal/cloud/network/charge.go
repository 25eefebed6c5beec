package network

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// purchase is the order of an address of a segment: its bandwidth is what costs.
func purchase(kind, segment string, mbps int, p ledger.Purchase) ledger.Purchase {
	p.Kind, p.Items = kind, []catalog.Item{catalog.BandwidthItem(segment, mbps)}
	return p
}

// buyNIC pays for a new outer NIC: 17003, 23000, 23001. Making one needs nothing that could fail later, so that its
// price is final at once. Inner NICs cost nothing.
func (s *Service) buyNIC(ctx context.Context, tx bun.Tx, n *NIC) error {
	if n.Kind != WAN {
		return nil
	}
	if err := s.Ledger.Hold(ctx, tx, purchase(ledger.NIC, n.SegmentID, n.Bandwidth, ledger.Purchase{ID: n.ID, Name: n.Name, Company: n.Company, Region: n.Region,
		Project: n.Project, ChargeType: n.ChargeType, Quantity: n.Quantity, AutoRenew: n.AutoRenew})); err != nil {
		return err
	}
	return s.Ledger.Capture(ctx, tx, n.ID)
}

// buyVIP holds the price of a new outer VIP until vip.create settles, or ends it: 17003, 23000, 23001. Inner VIPs cost
// nothing.
func (s *Service) buyVIP(ctx context.Context, tx bun.Tx, v *vipRow) error {
	if v.Kind != WAN {
		return nil
	}
	return s.Ledger.Hold(ctx, tx, purchase(ledger.VIP, v.SegmentID, v.Bandwidth, ledger.Purchase{ID: v.ID, Name: v.Name, Company: v.Company, Region: v.Region,
		Project: v.Project, ChargeType: v.ChargeType, Quantity: v.Quantity, AutoRenew: v.AutoRenew}))
}

// resizeOuter holds what another bandwidth of a public address, an outer NIC or VIP costs until its change settles, or
// gives it back: 201, 206, 17003, 23000, 23001. Less is possible on the last day of a monthly or yearly term only.
// What was made before it cost anything goes on costing nothing.
func (s *Service) resizeOuter(ctx context.Context, tx bun.Tx, id, segment string, mbps int) error {
	return s.Ledger.Change(ctx, tx, ledger.Resize{ID: id, Items: []catalog.Item{catalog.BandwidthItem(segment, mbps)}, LastDay: true})
}

// expireNIC detaches a NIC whose paid time is over.
func (s *Service) expireNIC(ctx context.Context, id string) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		op = ""
		n, err := nicByID(ctx, tx, action.Scope{}, id)
		if err != nil || n.BindID == "" {
			return err
		}
		port, err := lockPort(ctx, tx, id)
		if err != nil {
			return err
		}
		if ok, err := s.beginDetach(ctx, tx, id, nil, Bound); err != nil {
			return err
		} else if !ok {
			return ledger.ErrUnderWay
		}
		op, err = s.acceptNIC(ctx, tx, "DetachNIC", s.detachNIC, n, port, n.BindID)
		if retcode.Of(err) == retcode.InvalidResourceState { // its machine is busy
			err = ledger.ErrUnderWay
		}
		return err
	})
	if err != nil || op == "" {
		return err
	}
	s.Engine.Kick(op)
	return ledger.ErrUnderWay
}

// removeExpiredNIC destroys a NIC whose grace is over: the recycle bin takes none. While it is attached it is detached
// first.
func (s *Service) removeExpiredNIC(ctx context.Context, id string) error {
	if err := s.expireNIC(ctx, id); err != nil {
		return err
	}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.endNIC(ctx, tx, id) })
}

// expireVIP takes a VIP whose paid time is over from those that carry it.
func (s *Service) expireVIP(ctx context.Context, id string) error {
	return s.forceVIP(ctx, id, "UpdateVIPBindResource", s.changeVIP, func(ctx context.Context, tx bun.Tx, v *vipRow) (edit, error) {
		rows, err := carried(ctx, tx, id)
		if err != nil || len(rows) == 0 {
			return edit{}, err
		}
		return s.beginCarriers(ctx, tx, v, v.CarriedBy, nil)
	})
}

// removeExpiredVIP destroys a VIP whose grace is over: the recycle bin takes none.
func (s *Service) removeExpiredVIP(ctx context.Context, id string) error {
	return s.forceVIP(ctx, id, "ReleaseVIP", s.removeVIP, s.beginRelease)
}

// forceVIP begins a change of a VIP for the cloud itself, and returns ledger.ErrUnderWay until there is nothing to do.
func (s *Service) forceVIP(ctx context.Context, id, name string, flow *workflow.Workflow[edit], begin func(context.Context, bun.Tx, *vipRow) (edit, error)) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		op = ""
		v, err := vipByID(ctx, tx, action.Scope{}, id)
		if code := retcode.Of(err); code == retcode.ResourceTerminated || code == retcode.ResourceNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		e, err := begin(ctx, tx, v)
		if err != nil || e.ID == "" {
			return err
		}
		op, err = s.begin(ctx, tx, &action.Call{Action: name, Region: v.Region}, flow, v.Company, retcode.InvalidResourceState, e, exclusive(id))
		return err
	})
	if retcode.Of(err) == retcode.InvalidResourceState {
		return ledger.ErrUnderWay
	}
	if err != nil || op == "" {
		return err
	}
	s.Engine.Kick(op)
	return ledger.ErrUnderWay
}

// expireEIP unbinds an EIP whose paid time is over.
func (s *Service) expireEIP(ctx context.Context, id string) error {
	var operation string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		e, err := eipByID(ctx, tx, action.Scope{}, id)
		if err != nil || e.State != Bound {
			if err == nil && e.BindID != "" {
				err = ledger.ErrUnderWay
			}
			return err
		}
		if err := s.beginUnbind(ctx, tx, e); err != nil {
			return err
		}
		operation, err = s.unbind.Accept(ctx, tx, e.request("UnBindEIP"), e.change())
		return err
	})
	if busy := new(workflow.BusyError); errors.As(err, &busy) {
		return ledger.ErrUnderWay
	}
	if err != nil || operation == "" {
		return err
	}
	s.Engine.Kick(operation)
	return ledger.ErrUnderWay
}

// removeExpiredEIP puts an EIP whose grace is over into the bin; while it is bound it is unbound first.
func (s *Service) removeExpiredEIP(ctx context.Context, id string) error {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.ReleaseEIPTx(ctx, tx, id) })
	if code := retcode.Of(err); code == retcode.EIPStillBound || code == retcode.InvalidResourceState {
		return s.expireEIP(ctx, id)
	}
	return err
}
