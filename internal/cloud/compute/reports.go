package compute

import (
	"context"
	"errors"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/event"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// report is what a host last said of a machine.
type report struct {
	host   string
	domain *pb.Domain
}

// listen returns a channel that gets a token when the host reports the machine's domain.
func (s *Service) listen(vm string) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[vm] = append(s.listeners[vm], ch)
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		left := slices.DeleteFunc(s.listeners[vm], func(c chan struct{}) bool { return c == ch })
		if len(left) == 0 {
			delete(s.listeners, vm)
		} else {
			s.listeners[vm] = left
		}
	}
}

// tell wakes whoever listens to a machine.
func (s *Service) tell(vm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ch := range s.listeners[vm] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// onDomain hears what a host says of a domain. What an operation waits for it finds out by itself; the
// report is looked at once more when the operation is over.
func (s *Service) onDomain(ctx context.Context, hostID string, d *pb.Domain) {
	s.mu.Lock()
	s.unsettled[d.Id] = report{hostID, d}
	s.mu.Unlock()
	s.tell(d.Id)
	_ = s.catchUpOne(ctx, d.Id) // the loop tries again
}

// catchUp makes the rows follow what hosts reported.
func (s *Service) catchUp(ctx context.Context) error {
	s.mu.Lock()
	ids := make([]string, 0, len(s.unsettled))
	for id := range s.unsettled {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	var errs []error
	for _, id := range ids {
		errs = append(errs, s.catchUpOne(ctx, id))
	}
	return errors.Join(errs...)
}

func (s *Service) catchUpOne(ctx context.Context, id string) error {
	s.mu.Lock()
	r, ok := s.unsettled[id]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	settled, err := s.follow(ctx, r)
	if err != nil || !settled {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsettled[id] == r {
		delete(s.unsettled, id)
	}
	return nil
}

// follow makes one row follow a report: a guest that went off by itself is Stopped and frees its CPU
// and memory; a domain that runs though it should not is cut. False: an operation is under way.
func (s *Service) follow(ctx context.Context, r report) (settled bool, err error) {
	v, err := vmByID(ctx, s.DB.Reader(), action.Scope{}, r.domain.Id)
	if retcode.Of(err) == retcode.VMNotFound {
		return true, nil // the fleet removes what no row wants
	}
	if err != nil {
		return false, err
	}
	if v.HostID != r.host || r.domain.Generation < uint64(v.Generation) && v.State != Stopped {
		return !transient(v.State), nil // an older state, or a copy on another host
	}
	switch {
	case transient(v.State):
		return false, nil
	case v.State == Running && off(r.domain):
		if revived, err := s.revive(ctx, v); err != nil || revived {
			return true, err
		}
		return true, s.wentOff(ctx, v, r.domain)
	case v.State == Running && r.domain.State == pb.DomainState_DOMAIN_STATE_RUNNING:
		return true, s.guestAgent(ctx, v, r.domain.AgentConnected)
	case v.State == Stopped && !off(r.domain):
		// Its host came back from a power cut or from having been given up.
		err := s.cut(ctx, v)
		if errors.Is(err, errSuperseded) || errors.Is(err, fleet.ErrHostDown) {
			err = nil
		}
		return true, err
	}
	return true, nil
}

// transient tells whether an operation owns the machine.
func transient(state string) bool {
	switch state {
	case Initializing, Starting, Stopping, Restarting, Poweroffing, Resizing, WaitReinstall, Reinstalling, Imaging, Readdressing, Deleting, Terminating:
		return true
	}
	return false
}

func (s *Service) wentOff(ctx context.Context, v *VM, d *pb.Domain) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		now, err := vmByID(ctx, tx, action.Scope{}, v.ID)
		if err != nil || now.Generation != v.Generation || now.State != Running {
			return err
		}
		if err := s.unplace(ctx, tx, now); err != nil {
			return err
		}
		now.QGAConnected = false
		now.because(nil)
		what := event.WentOff
		switch {
		case d.State == pb.DomainState_DOMAIN_STATE_CRASHED:
			what = event.Crashed
			now.because(retcode.SystemBusy.Errorf("the guest of %s crashed", v.ID))
		case now.HA == neverStop && now.worn(s.Clock.Micros()):
			what = event.GivenUp
			now.because(retcode.SystemBusy.Errorf("%s went down %d times within %s", v.ID, revivals+1, reviveWithin))
		}
		if err := s.moveOn(ctx, tx, now, Stopped, "qga_connected", "reason", "reason_code"); err != nil {
			return err
		}
		return s.Events.Add(ctx, tx, now.ID, what)
	})
}

func (s *Service) guestAgent(ctx context.Context, v *VM, connected bool) error {
	if v.QGAConnected == connected {
		return nil
	}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v.QGAConnected = connected
		_, err := s.settle(ctx, tx, v, v.State, "qga_connected")
		return err
	})
}

// wanted lists the domains that rows want on a host: everything else that bears our marker is removed when it returns.
func (s *Service) wanted(ctx context.Context, hostID string) (fleet.Wanted, error) {
	w := fleet.Wanted{Domains: map[string]bool{}}
	var vms []string
	if err := s.DB.Reader().NewSelect().Model((*VM)(nil)).Column("id").Where("host_id = ?", hostID).
		Where("state NOT IN (?)", bun.In([]string{Deleted, Terminating, Unterminated, Terminated, Failed})).Scan(ctx, &vms); err != nil {
		return w, err
	}
	for _, id := range vms {
		w.Domains[id] = true
	}
	return w, nil
}
