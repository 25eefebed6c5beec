package host

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// broadcast hands domain states to every watcher. A slow watcher misses steps
// between, never the last state.
type broadcast struct {
	mu       sync.Mutex
	watchers map[*watcher]bool
}

type watcher struct {
	mu      sync.Mutex
	pending map[string]*pb.Domain
	order   []string
	wake    chan struct{}
}

func newBroadcast() *broadcast { return &broadcast{watchers: map[*watcher]bool{}} }

func (b *broadcast) publish(d *pb.Domain) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.watchers {
		w.put(d, true)
	}
}

func (b *broadcast) join() (w *watcher, leave func()) {
	w = &watcher{pending: map[string]*pb.Domain{}, wake: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[w] = true
	return w, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, w)
	}
}

// put queues a state; unless newer, only where none is queued.
func (w *watcher) put(d *pb.Domain, newer bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending[d.Id] == nil {
		w.order = append(w.order, d.Id)
	} else if !newer {
		return
	}
	w.pending[d.Id] = d
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []*pb.Domain {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]*pb.Domain, 0, len(w.order))
	for _, id := range w.order {
		out = append(out, w.pending[id])
	}
	w.order = nil
	clear(w.pending)
	return out
}

// Watch implements hostlink.Host: every domain once, then each after it changed. When libvirtd comes
// back after it was away, every domain is told again.
func (h *Host) Watch(ctx context.Context, _ *pb.WatchRequest, each func(*pb.Event)) error {
	w, leave := h.events.join()
	defer leave()
	// Without libvirt the domains come when it does.
	if l, _ := h.virt.now(); l != nil {
		states, err := h.states(l)
		if err != nil && !errors.Is(err, hostlink.ErrUnavailable) {
			return err
		}
		for _, d := range states {
			w.put(d, false)
		}
	}
	for {
		for _, d := range w.take() {
			each(&pb.Event{Domain: d})
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.ctx.Done():
			return hostlink.ErrUnavailable
		}
	}
}

// states of every domain of ours.
func (h *Host) states(l *libvirt.Libvirt) ([]*pb.Domain, error) {
	doms, _, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive|libvirt.ConnectListDomainsInactive)
	if err != nil {
		return nil, virtError(err)
	}
	var out []*pb.Domain
	for _, dom := range doms {
		d, err := h.describe(l, dom)
		if errors.Is(err, hostlink.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// follow keeps the connection to libvirtd and passes its events on.
func (h *Host) follow() {
	for h.ctx.Err() == nil {
		l, at, err := h.virt.dial(h.ctx)
		if err == nil {
			err = h.followOne(l, at)
			at.close()
		}
		h.virt.set(nil, nil, err)
		if h.ctx.Err() == nil {
			h.log.Warn("libvirt is away", "error", err)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-h.ctx.Done():
		}
	}
}

// followOne lives as long as one connection. Its result is why that ended.
func (h *Host) followOne(l *libvirt.Libvirt, at *line) error {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	merged := make(chan any)
	for _, id := range []libvirt.DomainEventID{libvirt.DomainEventIDLifecycle, libvirt.DomainEventIDReboot, libvirt.DomainEventIDAgentLifecycle} {
		events, err := l.SubscribeEvents(ctx, id, nil)
		if err != nil {
			return virtError(err)
		}
		go func() {
			for e := range events { // to its end, or the library's own goroutine stays behind
				select {
				case merged <- e:
				case <-ctx.Done():
				}
			}
		}()
	}
	h.virt.set(l, at, nil)
	defer h.virt.set(nil, nil, hostlink.ErrUnavailable)
	h.log.Info("libvirt is connected")
	go h.probeSpice(l)
	if err := h.resync(l); err != nil {
		return err
	}
	for {
		select {
		case e := <-merged:
			h.handle(l, e)
		case <-l.Disconnected():
			return errors.Join(hostlink.ErrUnavailable, errors.New("libvirt closed the connection"))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// resync tells every watcher every domain, and takes up what was under way.
func (h *Host) resync(l *libvirt.Libvirt) error {
	doms, _, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive|libvirt.ConnectListDomainsInactive)
	if err != nil {
		return virtError(err)
	}
	here := map[string]bool{}
	defer func() {
		h.fence.forget(func(id string) bool {
			_, err := os.Stat(h.volumePath(id))
			_, unknown := h.poolOf(id)
			return err == nil || unknown == nil || here[id]
		})
	}()
	for _, dom := range doms {
		here[dom.Name] = true
		h.resume(l, dom)
		if d := h.tell(l, dom); d.GetAgentConnected() {
			h.deliverLater(l, dom.Name)
		}
	}
	return nil
}

// handle passes an event on as the state after it.
func (h *Host) handle(l *libvirt.Libvirt, e any) {
	switch e := e.(type) {
	case *libvirt.DomainEventCallbackLifecycleMsg:
		if libvirt.DomainEventType(e.Msg.Event) == libvirt.DomainEventUndefined {
			return // told by RemoveDomain
		}
		h.tell(l, e.Msg.Dom)
	case *libvirt.DomainEventCallbackRebootMsg:
		h.sawReboot(e.Msg.Dom.Name)
		h.tell(l, e.Msg.Dom)
	case *libvirt.DomainEventCallbackAgentLifecycleMsg:
		h.tell(l, e.Dom)
		if libvirt.ConnectDomainEventAgentLifecycleState(e.State) == libvirt.ConnectDomainEventAgentLifecycleStateConnected {
			h.deliverLater(l, e.Dom.Name)
		}
	}
}

// deliverAfter is how long a guest's agent is up before its seed loses the password: first boots set
// passwords about when the agent starts.
const deliverAfter = 2 * time.Minute

func (h *Host) deliverLater(l *libvirt.Libvirt, id string) {
	h.done.Go(func() {
		select {
		case <-time.After(h.deliverAfter):
		case <-l.Disconnected(): // taken up by resync
			return
		case <-h.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
		defer cancel()
		if err := h.deliver(ctx, l, id); err != nil && !errors.Is(err, hostlink.ErrInvalid) {
			h.log.Warn("the password stays in the seed", "domain", id, "error", err)
		}
	})
}

// tell publishes the state of a domain and answers it, if it is ours.
func (h *Host) tell(l *libvirt.Libvirt, dom libvirt.Domain) *pb.Domain {
	d, err := h.describe(l, dom)
	if err != nil {
		return nil
	}
	h.settleStop(dom.Name, d)
	h.events.publish(d)
	return d
}

// settleStop ends the asking of a guest that is off.
func (h *Host) settleStop(id string, d *pb.Domain) {
	if d.State != pb.DomainState_DOMAIN_STATE_STOPPED && d.State != pb.DomainState_DOMAIN_STATE_CRASHED {
		return
	}
	h.mu.Lock()
	t := h.tasks[id]
	h.mu.Unlock()
	if t != nil && t.kind == restarting {
		select {
		case t.rebooted <- struct{}{}: // it powered off instead: settle starts it again
		default:
		}
	}
}
