package compute

import (
	"context"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/event"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// neverStop machines are started again when they go down by themselves, so often within a time: a guest that cannot
// live is left alone.
const (
	neverStop    = "NeverStop"
	revivals     = 5
	reviveWithin = 10 * time.Minute
)

// worn tells whether a machine was started again as often as it may be.
func (v *VM) worn(at int64) bool {
	return v.Revived >= revivals && at-v.RevivedAt <= reviveWithin.Microseconds()
}

// revive starts a machine again that went down though nobody asked for it; false: it is to stay off, or cannot start.
func (s *Service) revive(ctx context.Context, v *VM) (revived bool, err error) {
	if v.HA != neverStop || v.RescueID != "" || v.ExpireAt != 0 && v.ExpireAt <= s.Clock.Micros() {
		return false, nil
	}
	var op string
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		op = ""
		now, err := vmByID(ctx, tx, action.Scope{}, v.ID)
		if err != nil || now.Generation != v.Generation || now.State != Running {
			return err
		}
		at := s.Clock.Micros()
		if now.worn(at) {
			return nil
		}
		if at-now.RevivedAt > reviveWithin.Microseconds() {
			now.Revived, now.RevivedAt = 0, at
		}
		now.Revived++
		if err := s.unplace(ctx, tx, now); err != nil {
			return err
		}
		now.QGAConnected = false
		if err := s.moveOn(ctx, tx, now, Stopped, "qga_connected", "revived", "revived_at"); err != nil {
			return err
		}
		if err := s.Events.Add(ctx, tx, now.ID, event.Revived); err != nil {
			return err
		}
		op, err = s.accept(ctx, tx, nil, now, Start, Starting, s.flows.start, s.placeAgain)
		return err
	})
	if code := new(retcode.Error); errors.As(err, &code) {
		return false, nil // its host is locked, or has no room any more
	}
	if err != nil || op == "" {
		return false, err
	}
	s.Engine.Kick(op)
	return true, nil
}

// placeAgain takes the CPU and memory of a machine's host. Its volumes are there, so it is the same one.
func (s *Service) placeAgain(ctx context.Context, tx bun.Tx, v *VM, _ *job) ([]string, error) {
	v.Placed = true
	return nil, s.Fleet.Reserve(ctx, tx, v.HostID, computeDemand(v))
}
