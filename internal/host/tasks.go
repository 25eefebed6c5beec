package host

import (
	"context"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// Guests are asked, not told: a request sent while one is still booting is lost, and the guest agent
// is not there at once. So each is asked again until it did it. How long that may
// take is the controller's matter, who sends POWER_OFF in the end; only a restart is forced here.
const (
	askEvery       = 3 * time.Second
	restartForcing = 30 * time.Second
)

type taskKind int

const (
	stopping taskKind = iota + 1
	restarting
)

// task is a shutdown or restart under way.
type task struct {
	kind     taskKind
	serial   uint64
	cancel   context.CancelFunc
	rebooted chan struct{} // gets one when libvirt reports the guest's reset
}

// startTask sets a task going; one of the same kind goes on, another is ended.
func (h *Host) startTask(id string, kind taskKind, serial uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tasks[id]; t != nil {
		if t.kind == kind && t.serial >= serial {
			return
		}
		t.cancel()
	}
	if h.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(h.ctx)
	t := &task{kind: kind, serial: serial, cancel: cancel, rebooted: make(chan struct{}, 1)}
	h.tasks[id] = t
	h.done.Go(func() {
		defer h.dropTask(id, t)
		h.ask(ctx, id, t)
	})
}

func (h *Host) endTask(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tasks[id]; t != nil {
		t.cancel()
		delete(h.tasks, id)
	}
}

func (h *Host) dropTask(id string, t *task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.cancel()
	if h.tasks[id] == t {
		delete(h.tasks, id)
	}
}

// sawReboot tells a restart that its guest was reset.
func (h *Host) sawReboot(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tasks[id]; t != nil && t.kind == restarting {
		select {
		case t.rebooted <- struct{}{}:
		default:
		}
	}
}

// ask asks the guest until it did it.
func (h *Host) ask(ctx context.Context, id string, t *task) {
	begun := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-t.rebooted:
			h.settle(ctx, id, t)
			return
		case <-timer.C:
		}
		timer.Reset(askEvery)
		l, err := h.virt.get(ctx)
		if err != nil {
			continue
		}
		dom, err := l.DomainLookupByName(id)
		if libvirt.IsNotFound(err) {
			return
		}
		if err != nil {
			continue
		}
		on, err := active(l, dom)
		if err != nil {
			continue
		}
		if !on {
			h.settle(ctx, id, t)
			return
		}
		// The guest agent first where it is, the power button otherwise and every second time.
		agent := false
		if x, err := domainXML(l, dom, 0); err == nil {
			agent = agentConnected(x) && turn%2 == 0
		}
		switch {
		case t.kind == stopping && agent:
			err = l.DomainShutdownFlags(dom, libvirt.DomainShutdownGuestAgent)
		case t.kind == stopping:
			err = l.DomainShutdownFlags(dom, libvirt.DomainShutdownAcpiPowerBtn)
		case time.Since(begun) > restartForcing:
			err = l.DomainReset(dom, 0)
		case agent:
			err = l.DomainReboot(dom, libvirt.DomainRebootGuestAgent)
		default:
			err = l.DomainReboot(dom, libvirt.DomainRebootAcpiPowerBtn)
		}
		if err != nil {
			h.log.Info("guest was asked", "domain", id, "error", err)
		}
	}
}

// settle notes that a task is done. A guest that powered off when it was to restart is started again.
func (h *Host) settle(ctx context.Context, id string, t *task) {
	unlock, err := h.lock(ctx, id)
	if err != nil {
		return
	}
	defer unlock()
	if ctx.Err() != nil { // another call has decided otherwise meanwhile
		return
	}
	l, err := h.virt.get(ctx)
	if err != nil {
		return
	}
	d, _, err := h.find(l, id)
	if err != nil || d == nil {
		return
	}
	d.marker.Stopping = false
	if t.kind == restarting {
		d.marker.Restart, d.marker.Restarting = max(d.marker.Restart, t.serial), 0
		if on, err := active(l, d.dom); err == nil && !on {
			if err := h.start(l, d.dom); err != nil {
				h.log.Warn("guest was not started again", "domain", id, "error", err)
			}
		}
	}
	if err := h.save(l, d); err != nil {
		h.log.Warn("domain was not noted", "domain", id, "error", err)
		return
	}
	if state, err := h.describe(l, d.dom); err == nil {
		h.events.publish(state)
	}
}

// resume takes up what was under way when the agent or libvirtd ended.
func (h *Host) resume(l *libvirt.Libvirt, dom libvirt.Domain) {
	d, _, err := h.find(l, dom.Name)
	if err != nil || d == nil {
		return
	}
	on, err := active(l, d.dom)
	if err == nil && on {
		h.thawLater(l, d.dom)
	}
	switch {
	case err != nil:
	case d.marker.Restarting > d.marker.Restart:
		h.startTask(dom.Name, restarting, d.marker.Restarting)
	case d.marker.Stopping && on:
		h.startTask(dom.Name, stopping, 0)
	}
}
