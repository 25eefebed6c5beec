package host

import (
	"context"
	"fmt"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// workPatience is how long a call waits for work on a volume before it answers that it is under way.
const workPatience = 3 * time.Second

// volumeWork is what is being done to a volume, or its outcome that nobody has heard yet. An agent that ends forgets
// it: the call is repeated, and the work begins again.
type volumeWork struct {
	what   string
	cancel context.CancelFunc
	done   chan struct{}
	volume *pb.Volume
	err    error
}

// longWork does something to a volume that may take minutes, holding its lock. A call that is repeated meanwhile
// joins what is under way; another is told that the volume is being worked on.
func (h *Host) longWork(ctx context.Context, id, what string, f func(context.Context) (*pb.Volume, error)) (*pb.Volume, error) {
	h.mu.Lock()
	w := h.work[id]
	if w != nil && w.what != what {
		select {
		case <-w.done: // its caller does not ask any more
			w = nil
		default:
			h.mu.Unlock()
			return nil, fmt.Errorf("%w: %s is still being worked on", hostlink.ErrUnavailable, id)
		}
	}
	if w == nil {
		if h.ctx.Err() != nil {
			h.mu.Unlock()
			return nil, fmt.Errorf("%w: the agent ends", hostlink.ErrUnavailable)
		}
		work, cancel := context.WithCancel(h.ctx)
		w = &volumeWork{what: what, cancel: cancel, done: make(chan struct{})}
		h.work[id] = w
		h.done.Go(func() {
			defer close(w.done)
			defer cancel()
			unlock, err := h.lock(work, id)
			if err != nil {
				w.err = err
				return
			}
			defer unlock()
			w.volume, w.err = f(work)
		})
	}
	h.mu.Unlock()
	patience := time.NewTimer(workPatience)
	defer patience.Stop()
	select {
	case <-w.done:
		h.mu.Lock()
		if h.work[id] == w {
			delete(h.work, id)
		}
		h.mu.Unlock()
		return w.volume, w.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %s is still being worked on", hostlink.ErrUnavailable, id)
	case <-patience.C:
		return &pb.Volume{Id: id, Working: true}, nil
	}
}

// endWork stops what is being done to a volume that is to go.
func (h *Host) endWork(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.work[id]; w != nil {
		w.cancel()
		delete(h.work, id)
	}
}
