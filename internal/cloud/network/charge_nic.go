package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// buyNIC pays for a new outer NIC: 17003, 23000, 23001. Making one needs nothing that could fail later, so that its
// price is final at once. Inner NICs cost nothing.
func (s *Service) buyNIC(ctx context.Context, tx bun.Tx, n *NIC) error {
	if n.Kind != WAN {
		return nil
	}
	if err := s.Ledger.Hold(ctx, tx, ledger.Purchase{Kind: ledger.NIC, ID: n.ID, Name: n.Name, Company: n.Company, Region: n.Region, Project: n.Project,
		ChargeType: n.ChargeType, Quantity: n.Quantity, AutoRenew: n.AutoRenew, Items: []catalog.Item{catalog.BandwidthItem(n.SegmentID, n.Bandwidth)}}); err != nil {
		return err
	}
	return s.Ledger.Capture(ctx, tx, n.ID)
}

// resizeNIC holds what another bandwidth of an outer NIC costs until nic.bandwidth settles, or gives it back: 201, 206,
// 17003, 23000, 23001. As with EIPs, less is possible on the last day of a monthly or yearly term only.
func (s *Service) resizeNIC(ctx context.Context, tx bun.Tx, n *NIC, mbps int) error {
	return s.Ledger.Change(ctx, tx, ledger.Resize{ID: n.ID, Items: []catalog.Item{catalog.BandwidthItem(n.SegmentID, mbps)}, LastDay: true})
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
