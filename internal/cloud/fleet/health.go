package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/ntp"
)

// When a host counts as alive.
const (
	probeEvery   = 3 * time.Second
	probeTimeout = 3 * time.Second  // of one health call
	downMisses   = 3                // health calls without an answer in a row, ...
	downAfter    = 30 * time.Second // ... and so long since the last answer: declared down
	gatewayAfter = 60 * time.Second // a host that returned carries gateways again after that
	probes       = 64               // at the same time
	retryGap     = 100 * time.Millisecond
)

// found is what a probe learned of a host.
type found struct {
	m      *member
	facts  *pb.HealthResponse // nil: no answer
	change *hostRow           // the row as it should be; nil: it is so already
}

// probe asks every host for its health, declares those down that stay silent, takes back those that
// answer again, and writes what changed in one transaction.
func (s *Service) probe(ctx context.Context) error {
	s.mu.RLock()
	members := slices.Clone(s.order)
	s.mu.RUnlock()

	results := make([]found, len(members))
	var group sync.WaitGroup
	next := make(chan int)
	for range min(probes, len(members)) {
		group.Go(func() {
			for i := range next {
				results[i] = found{m: members[i], facts: s.meet(ctx, members[i])}
			}
		})
	}
	for i := range members {
		next <- i
	}
	close(next)
	group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}

	if err := s.settle(ctx, results); err != nil {
		return err
	}
	s.tellGateways()
	return nil
}

// meet asks a host. One that answers for the first time, or after it was down, is cleaned before it
// counts as alive, so that nothing new goes there before; until that succeeds it stays as it was.
func (s *Service) meet(ctx context.Context, m *member) *pb.HealthResponse {
	facts := s.ask(ctx, m)
	if facts == nil {
		return nil
	}
	s.mu.RLock()
	clean := m.clean
	s.mu.RUnlock()
	if !clean {
		if err := s.clean(ctx, m); err != nil {
			slog.Warn("a host that came cannot be cleaned yet", "host", m.id, "error", err)
			return nil
		}
	}
	s.tellPools(ctx, m, facts)
	return facts
}

// ask calls one host, again at once when its time is up, so that a clock that jumps does not declare
// a healthy host down and does not delay the verdict on a dead one.
func (s *Service) ask(ctx context.Context, m *member) *pb.HealthResponse {
	for {
		var facts *pb.HealthResponse
		err := errors.New("no link")
		if m.link != nil {
			call, cancel := context.WithTimeout(ctx, probeTimeout)
			asked := time.Now()
			facts, err = m.link.Health(call, &pb.HealthRequest{Epoch: s.Epoch()})
			cancel()
			if err == nil {
				facts.Problems = append(facts.Problems, wrongClock(asked, time.Now(), facts.Time)...)
			}
		}
		if err == nil && facts.HostId != m.id {
			err = errors.New("another host answers at its address: " + facts.HostId)
		}
		now := s.Clock.Now()
		s.mu.Lock()
		if err == nil {
			m.seen, m.misses = now, 0
			s.mu.Unlock()
			return facts
		}
		m.misses++
		overdue := m.misses < downMisses && now.Sub(m.seen) >= downAfter && !m.row.Down
		first := m.misses == 1
		s.mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
		if first {
			slog.Warn("a host does not answer", "host", m.id, "name", m.name, "error", err)
		}
		if !overdue {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryGap):
		}
	}
}

// wrongClock compares a host's clock, as it said between two moments of ours, with our own. A simulated host has none.
func wrongClock(asked, answered time.Time, said int64) []*pb.Problem {
	if said == 0 {
		return nil
	}
	theirs, text := time.UnixMicro(said), ""
	switch {
	case theirs.Before(asked):
		text = ntp.Wrong(asked.Sub(theirs), "the controller's")
	case theirs.After(answered):
		text = ntp.Wrong(answered.Sub(theirs), "the controller's")
	}
	if text == "" {
		return nil
	}
	return []*pb.Problem{{Part: "time", Message: text}}
}

// settle compares what was found with the rows, writes the differences and tells the hooks.
func (s *Service) settle(ctx context.Context, results []found) error {
	sets, err := s.overcommits(ctx)
	if err != nil {
		return err
	}
	now := s.Clock.Now()
	var changed []*found
	reload := false
	s.mu.Lock()
	for i := range results {
		r := &results[i]
		row := r.m.row
		switch {
		case r.facts != nil:
			r.m.diskSize, r.m.diskFree = int64(r.facts.DiskBytes>>30), int64(r.facts.DiskFreeBytes>>30)
			s.report(r.m, r.facts.Problems)
			reload = r.m.takePools(r.facts.Pools) || reload
			row.describe(r.facts, sets)
			if row.Down {
				row.Down, row.ReturnedAt = false, now.UnixMicro()
			}
		case !row.Down && r.m.misses >= downMisses && now.Sub(r.m.seen) >= downAfter:
			row.Down = true
		}
		if row != r.m.row {
			r.change = &row
			changed = append(changed, r)
		}
	}
	sizes := s.sizePools()
	s.mu.Unlock()
	if len(changed)+len(sizes) == 0 {
		if reload {
			return s.reload(ctx)
		}
		return nil
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, r := range changed {
			r.change.UpdatedAt = now.UnixMicro()
			if _, err := tx.NewUpdate().Model(r.change).
				Column("arch", "virt_type", "chassis", "networks", "overlay_mtu", "cpu_total", "memory_total", "disk_total", "down", "returned_at", "updated_at").
				Set("generation = generation + 1").Where("id = ?", r.change.ID).Exec(ctx); err != nil {
				return err
			}
		}
		return writeSizes(ctx, tx, sizes)
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	var moved []*found
	for _, r := range changed {
		if r.change.Down != r.m.row.Down {
			moved = append(moved, r)
			if r.change.Down {
				r.m.clean = false
			}
		}
		r.m.set(*r.change)
	}
	s.mu.Unlock()
	if err := s.reload(ctx); err != nil {
		return err
	}
	for _, r := range moved {
		state := r.change.state()
		slog.Warn("a host changed its state", "host", r.change.ID, "name", r.change.Name, "state", state)
		for _, f := range s.onHost {
			f(r.change.ID, state)
		}
	}
	return nil
}

// overcommit of a host's sets, in percent.
type overcommit struct{ compute, storage map[string]int64 }

func (s *Service) overcommits(ctx context.Context) (overcommit, error) {
	o := overcommit{map[string]int64{}, map[string]int64{}}
	var sets []computeSet
	if err := s.DB.Reader().NewSelect().Model(&sets).Column("id", "overcommit").Scan(ctx); err != nil {
		return o, err
	}
	for _, c := range sets {
		o.compute[c.ID] = c.Overcommit
	}
	var stores []storageSet
	if err := s.DB.Reader().NewSelect().Model(&stores).Column("id", "overcommit").Scan(ctx); err != nil {
		return o, err
	}
	for _, d := range stores {
		o.storage[d.ID] = d.Overcommit
	}
	return o, nil
}

// describe takes over what a host says of itself.
func (h *hostRow) describe(f *pb.HealthResponse, o overcommit) {
	h.Arch, h.VirtType, h.Chassis, h.OverlayMTU = f.Arch, f.VirtType, f.Chassis, int(f.OverlayMtu)
	networks, _ := json.Marshal(slices.Sorted(slices.Values(f.Networks))) // strings always marshal
	h.Networks = string(networks)
	h.CPUTotal = int64(f.Cpus) * o.compute[h.ComputeSet] / 100
	h.MemoryTotal = int64(f.MemoryMib)
	h.DiskTotal = int64(f.DiskBytes>>30) * o.storage[h.StorageSet] / 100
}

// report logs the problems of a host when they change. The caller holds the lock.
func (s *Service) report(m *member, problems []*pb.Problem) {
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.Part + ": " + p.Message
	}
	all := strings.Join(texts, "; ")
	if all == m.problems {
		return
	}
	m.problems = all
	if all == "" {
		slog.Info("the problems of a host are gone", "host", m.id, "name", m.name)
	} else {
		slog.Warn("a host has problems", "host", m.id, "name", m.name, "problems", all)
	}
}

// clean removes from a host what no row wants: what was deleted while the host was away, or leaked in a
// crash. The list is taken first: whatever is made later has its row already.
func (s *Service) clean(ctx context.Context, m *member) error {
	call, cancel := context.WithTimeout(ctx, hostlink.CallTimeout)
	defer cancel()
	have, err := m.link.List(call, &pb.ListRequest{})
	if err != nil {
		return err
	}
	if len(have.Domains)+len(have.Volumes) > 0 && len(s.onWanted) > 0 {
		domains, volumes := map[string]bool{}, map[string]bool{}
		for _, f := range s.onWanted {
			w, err := f(ctx, m.id)
			if err != nil {
				return err
			}
			for id, wanted := range w.Domains {
				domains[id] = domains[id] || wanted
			}
			for id, wanted := range w.Volumes {
				volumes[id] = volumes[id] || wanted
			}
		}
		fence := &pb.Fence{Epoch: s.Epoch()}
		for _, d := range have.Domains {
			if !domains[d.Id] {
				_, err := m.link.RemoveDomain(call, &pb.RemoveDomainRequest{Fence: fence, Id: d.Id})
				if err := removed(m, "domain", d.Id, err); err != nil {
					return err
				}
			}
		}
		for _, v := range have.Volumes {
			if !volumes[v.Id] {
				_, err := m.link.RemoveVolume(call, &pb.RemoveVolumeRequest{Fence: fence, Id: v.Id})
				if err := removed(m, "volume", v.Id, err); err != nil {
					return err
				}
			}
		}
	}
	s.mu.Lock()
	m.clean = true
	s.mu.Unlock()
	return nil
}

// removed logs the removal of something that nobody wants. A host that went away again is an error; one
// that refuses to remove a thing is not kept out of the cloud for it, and is asked again when it comes
// the next time.
func removed(m *member, kind, id string, err error) error {
	if errors.Is(err, hostlink.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	if err != nil {
		slog.Error("what nobody wants cannot be removed", "host", m.id, kind, id, "error", err)
	} else {
		slog.Warn("removed what nobody wants", "host", m.id, kind, id)
	}
	return nil
}

// watch follows the domains of a host while Run runs. The caller holds the lock.
func (s *Service) watch(m *member) {
	if len(s.onDomain) == 0 || m.link == nil {
		return
	}
	ctx, stop := context.WithCancel(s.running)
	m.stop = stop
	s.watchers.Go(func() {
		for ctx.Err() == nil {
			if !s.isDown(m) {
				err := m.link.Watch(ctx, &pb.WatchRequest{}, func(e *pb.Event) {
					for _, f := range s.onDomain {
						f(ctx, m.id, e.Domain)
					}
				})
				if ctx.Err() != nil {
					return
				}
				slog.Debug("watching a host ended", "host", m.id, "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
}

func (s *Service) isDown(m *member) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return m.row.Down
}

// GatewayChassis lists the chassis that can carry gateways of a provider network, in a stable order. A
// host that is declared down leaves at once, and returns, as the last, when it was healthy for 60 s.
func (s *Service) GatewayChassis(region, network string) []string {
	now := s.Clock.Now().UnixMicro()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var hosts []*member
	for _, m := range s.order {
		r := &m.row
		if r.Region == region && r.Chassis != "" && !r.Down && slices.Contains(m.networks, network) &&
			(r.ReturnedAt == 0 || now-r.ReturnedAt >= gatewayAfter.Microseconds()) {
			hosts = append(hosts, m)
		}
	}
	// The order is by age; those that returned come after those that never left.
	slices.SortStableFunc(hosts, func(a, b *member) int { return int(min(max(a.row.ReturnedAt-b.row.ReturnedAt, -1), 1)) })
	chassis := make([]string, len(hosts))
	for i, m := range hosts {
		chassis[i] = m.row.Chassis
	}
	return chassis
}

// tellGateways calls the hooks for regions whose gateways changed.
func (s *Service) tellGateways() {
	s.mu.RLock()
	networks := map[string]map[string]bool{}
	for _, m := range s.order {
		if networks[m.row.Region] == nil {
			networks[m.row.Region] = map[string]bool{}
		}
		for _, n := range m.networks {
			networks[m.row.Region][n] = true
		}
	}
	s.mu.RUnlock()
	for region, names := range networks {
		var now strings.Builder
		for _, n := range slices.Sorted(maps.Keys(names)) {
			now.WriteString(n + "=" + strings.Join(s.GatewayChassis(region, n), ",") + ";")
		}
		s.mu.Lock()
		changed := s.gateways[region] != now.String()
		s.gateways[region] = now.String()
		s.mu.Unlock()
		if changed {
			for _, f := range s.onGateways {
				f(region)
			}
		}
	}
}
