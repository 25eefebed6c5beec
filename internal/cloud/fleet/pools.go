package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/uptrace/bun"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// pool is a storage set that hosts share. It is never changed, but replaced.
type pool struct {
	row  storageSet
	spec *pb.Pool // as hosts are told; nil: its key cannot be opened
}

// cephConfig is how hosts reach a pool.
type cephConfig struct {
	Monitors  []string
	Pool      string
	User      string
	Key       string // sealed, in the database
	ClusterID string `json:",omitempty"`
}

func keyContext(set string) string { return "storage_set.ceph:" + set }

// seal is the column of a configuration.
func (s *Service) seal(set string, c cephConfig) (string, error) {
	c.Key = s.Secret.Seal([]byte(c.Key), keyContext(set))
	b, err := json.Marshal(c)
	return string(b), err
}

// unseal reads the column again.
func (s *Service) unseal(row storageSet) (c cephConfig, err error) {
	if err := json.Unmarshal([]byte(row.Ceph), &c); err != nil {
		return c, fmt.Errorf("fleet: storage set %s: %w", row.ID, err)
	}
	key, err := s.Secret.Open(c.Key, keyContext(row.ID))
	if err != nil {
		return c, fmt.Errorf("fleet: the key of storage set %s: %w", row.ID, err)
	}
	c.Key = string(key)
	return c, nil
}

func (s *Service) openPool(row storageSet) *pool {
	p := &pool{row: row}
	c, err := s.unseal(row)
	if err != nil {
		slog.Error("a storage set cannot be used", "set", row.ID, "error", err)
		return p
	}
	p.spec = &pb.Pool{Id: row.ID, Monitors: c.Monitors, Name: c.Pool, User: c.User, Key: c.Key, ClusterId: c.ClusterID}
	return p
}

// suits tells whether a host may open what is in a pool.
func (p *pool) suits(h *hostRow) bool {
	return p.spec != nil && p.row.Region == h.Region && (p.row.Arch == "" || h.Arch == "" || p.row.Arch == h.Arch)
}

// tellPools makes a host that answered know the pools of its region, and no others, and completes what it said of
// them. One that could not be told is told again with its next health call.
func (s *Service) tellPools(ctx context.Context, m *member, facts *pb.HealthResponse) {
	s.mu.RLock()
	wanted := map[string]*pool{}
	for id, p := range s.pools {
		if p.suits(&m.row) {
			wanted[id] = p
		}
	}
	s.mu.RUnlock()
	var known []*pb.PoolStatus
	for _, st := range facts.Pools {
		p := wanted[st.Id]
		switch {
		case p == nil:
			if _, err := m.link.RemovePool(ctx, &pb.RemovePoolRequest{Fence: &pb.Fence{Epoch: s.Epoch()}, Id: st.Id}); err != nil {
				slog.Warn("a host does not forget a pool", "host", m.id, "set", st.Id, "error", err)
			}
		case st.Generation == uint64(p.row.Generation):
			known = append(known, st)
			delete(wanted, st.Id)
		}
	}
	for _, p := range wanted {
		st, err := m.link.EnsurePool(ctx, &pb.EnsurePoolRequest{Fence: &pb.Fence{Epoch: s.Epoch(), Generation: uint64(p.row.Generation)}, Pool: p.spec})
		if err != nil {
			slog.Warn("a host does not take a pool", "host", m.id, "set", p.row.ID, "error", err)
			continue
		}
		known = append(known, st)
	}
	facts.Pools = known
}

// takePools notes what a host says of pools, and tells whether it reaches others than before. The caller holds the
// lock.
func (m *member) takePools(said []*pb.PoolStatus) (changed bool) {
	pools := map[string]*pb.PoolStatus{}
	for _, st := range said {
		pools[st.Id] = st
		changed = changed || st.Ready != m.pools[st.Id].GetReady()
	}
	for id, st := range m.pools {
		changed = changed || st.Ready && pools[id] == nil
	}
	m.pools = pools
	return changed
}

// reached are the pools that a host reaches. The caller holds the lock.
func (m *member) reached() map[string]bool {
	var ids map[string]bool
	for id, st := range m.pools {
		if st.Ready {
			if ids == nil {
				ids = map[string]bool{}
			}
			ids[id] = true
		}
	}
	return ids
}

// alive tells whether a host can be called and reaches a pool. The caller holds the lock.
func (m *member) alive(setID string) bool {
	return m != nil && !m.row.Down && m.link != nil && m.pools[setID].GetReady()
}

// statusOf is what a host that reaches a pool says of it; nil when none does. The caller holds the lock.
func (s *Service) statusOf(setID string) *pb.PoolStatus {
	for _, m := range s.order {
		if m.alive(setID) {
			return m.pools[setID]
		}
	}
	return nil
}

// Shared tells whether hosts share a storage set.
func (s *Service) Shared(setID string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.pools[setID] != nil
}

// Reaches tells whether a host that lives can open the disks of a shared set now.
func (s *Service) Reaches(setID, hostID string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.members[hostID].alive(setID)
}

// Handler is the host that works on a disk without a machine. Of a set that is not shared it is the one given; of a
// shared one, too, while it reaches the set, else another that does, or the one given when none does.
func (s *Service) Handler(setID, hostID string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.pools[setID] == nil || s.members[hostID].alive(setID) {
		return hostID
	}
	var able []string
	for _, m := range s.order {
		if m.alive(setID) {
			able = append(able, m.id)
		}
	}
	if len(able) == 0 {
		return hostID
	}
	return able[s.turn.Add(1)%uint64(len(able))]
}

// reaching lists the hosts that live and reach all of some shared sets.
func (s *Service) reaching(setIDs ...string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var ids []string
	for _, m := range s.order {
		all := true
		for _, id := range setIDs {
			all = all && m.alive(id)
		}
		if all {
			ids = append(ids, m.id)
		}
	}
	return ids
}

// sizePools are the shared sets whose total differs from what hosts say, with the total, in GB. A set that no host
// reaches keeps its own. The caller holds the lock.
func (s *Service) sizePools() map[string]int64 {
	var sizes map[string]int64
	for id, p := range s.pools {
		st := s.statusOf(id)
		if st == nil {
			continue
		}
		if total := int64((st.UsedBytes+st.AvailableBytes)>>30) * p.row.Overcommit / 100; total != p.row.TotalGB {
			if sizes == nil {
				sizes = map[string]int64{}
			}
			sizes[id] = total
		}
	}
	return sizes
}

func writeSizes(ctx context.Context, tx bun.Tx, sizes map[string]int64) error {
	for id, total := range sizes {
		if _, err := tx.NewRaw("UPDATE storage_set SET total_gb = ? WHERE id = ?", total, id).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}
