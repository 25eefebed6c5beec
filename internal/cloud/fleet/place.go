package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet/placement"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Demand is what something takes of a host. Zero fields take nothing.
type Demand struct {
	CPUs      int
	MemoryMiB int
	DiskGB    int
}

func (d Demand) amounts() placement.Demand {
	return placement.Demand{CPUs: int64(d.CPUs), MemoryMiB: int64(d.MemoryMiB), DiskGB: int64(d.DiskGB)}
}

// Spot says where something may go.
type Spot struct {
	Region      string
	VMType      string // compute set type
	StorageType string // storage set type of disks on the host itself; empty: none is placed
	Arch        string // empty: any
	Prefer      string // a host that comes first, if it is one of those; empty: none
	Demand      Demand
	Shared      map[string]int // GB by the id of shared storage sets, all of which the host must reach
}

// AddDisk adds a disk to what is placed. All that are not shared are of one set: false when this one is of another.
func (p *Spot) AddDisk(set *Set, gb int) bool {
	switch {
	case set.Shared:
		if p.Shared == nil {
			p.Shared = map[string]int{}
		}
		p.Shared[set.ID] += gb
		return true
	case p.StorageType != "" && p.StorageType != set.Type:
		return false
	}
	p.StorageType = set.Type
	p.Demand.DiskGB += gb
	return true
}

// How many hosts Candidates proposes: enough for the first to be taken by others meanwhile.
const proposals = 8

// refreshEvery is how often the belief about free capacity is made equal to the rows.
const (
	refreshEvery  = 2 * time.Second
	refreshAnyway = time.Minute
)

// guess is what a caller of Candidates is assumed to take. Rows that are read a moment later may not have it yet, so it
// counts for as long as such a transaction may take, and most are counted twice meanwhile: that only spreads machines.
type guess struct {
	host   string
	demand placement.Demand
	at     time.Time
}

const guessLife = 2 * refreshEvery

func (g guess) on(h *placement.Host) {
	h.CPUsUsed += g.demand.CPUs
	h.MemoryUsed += g.demand.MemoryMiB
	h.DiskUsed += g.demand.DiskGB
}

// setView is what is believed of the hosts of one compute set. It is guarded by Service.mu.
type setView struct {
	region, vmType string
	hosts          []placement.Host
}

// Candidates proposes hosts for a spot, best first, from memory. Call it before the transaction. It never
// fails: an empty list is refused by Place with the right code.
func (s *Service) Candidates(spot Spot) []string {
	s.dirty.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.snapshot {
		if v.region != spot.Region || v.vmType != spot.VMType {
			continue
		}
		f := placement.Filter{Arch: spot.Arch, Pools: slices.Sorted(maps.Keys(spot.Shared))}
		if spot.StorageType != "" {
			f.StorageSet = spot.Region + "/" + spot.StorageType
		}
		d := spot.Demand.amounts()
		chosen := placement.Choose(v.hosts, d, f, proposals)
		ids := make([]string, len(chosen))
		for i, c := range chosen {
			ids[i] = v.hosts[c].ID
		}
		if len(chosen) > 0 {
			// Assume the first is taken, so that the next caller goes elsewhere.
			g := guess{ids[0], d, time.Now()}
			g.on(&v.hosts[chosen[0]])
			s.guesses = append(s.guesses, g)
		}
		return ids
	}
	return nil
}

// Place reserves the spot's demand on the first candidate that has room, or on any other host that
// has, in the caller's transaction. 14003/14004 no usable host of the type, 14005/14006 the set's
// total free is too small, 1019 no single host fits.
func (s *Service) Place(ctx context.Context, tx bun.Tx, spot Spot, candidates []string) (hostID string, err error) {
	if hostID, err = s.placeHost(ctx, tx, spot, candidates); err != nil {
		return "", err
	}
	return hostID, s.takeShared(ctx, tx, spot.Shared)
}

// PlaceOn reserves the spot's demand on one given host: codes as Reserve's, 14003 when it is of another architecture,
// and 14004 when it does not reach a shared storage set.
func (s *Service) PlaceOn(ctx context.Context, tx bun.Tx, spot Spot, hostID string) error {
	if err := s.Reserve(ctx, tx, hostID, spot.Demand); err != nil {
		return err
	}
	if h, _ := s.HostInfo(hostID); spot.Arch != "" && h.Arch != spot.Arch {
		return retcode.NoIdleComputeSet.Errorf("the host is of architecture %s, not %s", h.Arch, spot.Arch)
	}
	for id := range spot.Shared {
		if !s.Reaches(id, hostID) {
			return retcode.NoIdleStorageSet.Errorf("the host does not reach storage set %s", id)
		}
	}
	return s.takeShared(ctx, tx, spot.Shared)
}

func (s *Service) placeHost(ctx context.Context, tx bun.Tx, spot Spot, candidates []string) (hostID string, err error) {
	if spot.Prefer != "" {
		may, err := s.usable(tx, spot).Where("h.id = ?", spot.Prefer).Exists(ctx)
		if err != nil {
			return "", err
		}
		if may {
			candidates = append([]string{spot.Prefer}, candidates...)
		}
	}
	for _, id := range candidates {
		if ok, err := take(ctx, tx, id, spot.Demand); err != nil || ok {
			return id, err
		}
	}
	// The belief was stale. Ask the rows, a few times since others may take what is read.
	for range 3 {
		var ids []string
		if err := s.usable(tx, spot).Column("h.id").
			Where("cpu_used + ? <= cpu_total AND memory_used + ? <= memory_total AND disk_used + ? <= disk_total", spot.Demand.CPUs, spot.Demand.MemoryMiB, spot.Demand.DiskGB).
			OrderExpr("memory_total - memory_used DESC, h.id").Limit(proposals).Scan(ctx, &ids); err != nil {
			return "", err
		}
		if len(ids) == 0 {
			return "", s.refusal(ctx, tx, spot)
		}
		for _, id := range ids {
			if ok, err := take(ctx, tx, id, spot.Demand); err != nil || ok {
				return id, err
			}
		}
	}
	return "", s.refusal(ctx, tx, spot)
}

// usable selects the hosts that a spot may use, whether or not they have room.
func (s *Service) usable(db bun.IDB, spot Spot) *bun.SelectQuery {
	q := db.NewSelect().TableExpr("host AS h").Join("JOIN compute_set AS c ON c.id = h.compute_set").Join("JOIN storage_set AS d ON d.id = h.storage_set").
		Where("c.region = ? AND c.type = ? AND NOT h.locked AND NOT h.down", spot.Region, spot.VMType)
	if spot.StorageType != "" {
		q = q.Where("d.type = ?", spot.StorageType)
	}
	if spot.Arch != "" {
		q = q.Where("h.arch = ?", spot.Arch)
	}
	if len(spot.Shared) > 0 {
		q = q.Where("h.id IN (?)", bun.In(append(s.reaching(slices.Sorted(maps.Keys(spot.Shared))...), "")))
	}
	return q
}

// refusal finds the code for a spot that nothing fits (decisions 11).
func (s *Service) refusal(ctx context.Context, tx bun.Tx, spot Spot) error {
	var free struct {
		Hosts  int64 `bun:"hosts"`
		CPUs   int64 `bun:"cpus"`
		Memory int64 `bun:"memory"`
		Disk   int64 `bun:"disk"`
	}
	sum := func(spot Spot) error {
		return s.usable(tx, spot).ColumnExpr("count(*) AS hosts, coalesce(sum(cpu_total - cpu_used), 0) AS cpus, "+
			"coalesce(sum(memory_total - memory_used), 0) AS memory, coalesce(sum(disk_total - disk_used), 0) AS disk").Scan(ctx, &free)
	}
	d := spot.Demand
	if err := sum(spot); err != nil {
		return err
	}
	if free.Hosts == 0 && (spot.StorageType != "" || len(spot.Shared) > 0) {
		without := spot
		without.StorageType, without.Shared = "", nil
		if err := sum(without); err != nil {
			return err
		}
		if free.Hosts > 0 {
			return retcode.NoIdleStorageSet.Errorf("no usable host of %s has storage %s", spot.VMType, spot.storage())
		}
	}
	switch {
	case free.Hosts == 0:
		return retcode.NoIdleComputeSet.Errorf("no usable host in %s", spot.VMType)
	case free.CPUs < int64(d.CPUs) || free.Memory < int64(d.MemoryMiB):
		return retcode.ComputeSetInsufficient.Errorf("%s has %d CPUs and %d MiB free", spot.VMType, max(0, free.CPUs), max(0, free.Memory))
	case free.Disk < int64(d.DiskGB):
		return retcode.StorageSetInsufficient.Errorf("%s has %d GB free", spot.StorageType, max(0, free.Disk))
	}
	return retcode.HostResourceInsufficient.Errorf("no single host of %s has %d CPUs, %d MiB and %d GB free", spot.VMType, d.CPUs, d.MemoryMiB, d.DiskGB)
}

// storage names the storage sets of a spot, for people.
func (p *Spot) storage() string {
	names := slices.Sorted(maps.Keys(p.Shared))
	if p.StorageType != "" {
		names = append([]string{p.StorageType}, names...)
	}
	return strings.Join(names, ", ")
}

// take reserves by one guarded update; false when the host has no room or takes nothing. What is not
// demanded is not looked at, since a host may have shrunk below its use.
func take(ctx context.Context, tx bun.Tx, hostID string, d Demand) (bool, error) {
	q := tx.NewUpdate().TableExpr("host").
		Set("cpu_used = cpu_used + ?, memory_used = memory_used + ?, disk_used = disk_used + ?", d.CPUs, d.MemoryMiB, d.DiskGB).
		Where("id = ? AND NOT locked AND NOT down", hostID)
	if d.CPUs > 0 {
		q = q.Where("cpu_used + ? <= cpu_total", d.CPUs)
	}
	if d.MemoryMiB > 0 {
		q = q.Where("memory_used + ? <= memory_total", d.MemoryMiB)
	}
	if d.DiskGB > 0 {
		q = q.Where("disk_used + ? <= disk_total", d.DiskGB)
	}
	r, err := q.Exec(ctx)
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}

// Reserve takes d of one given host by a guarded update, in the caller's transaction: 15002 locked,
// 560 down, 15003 too little CPU, 15004 too little memory, 14006 too little disk.
func (s *Service) Reserve(ctx context.Context, tx bun.Tx, hostID string, d Demand) error {
	for {
		if ok, err := take(ctx, tx, hostID, d); err != nil || ok {
			return err
		}
		var h hostRow
		err := tx.NewSelect().Model(&h).Where("id = ?", hostID).Scan(ctx)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("fleet: host %s is gone", hostID)
		case err != nil:
			return err
		case h.Down:
			return retcode.SystemBusy.Errorf("the host does not answer, the operation is possible when it is back")
		case h.Locked:
			return retcode.HostLocked.Errorf("the host takes nothing new until it is unlocked")
		case h.CPUUsed+int64(d.CPUs) > h.CPUTotal && d.CPUs > 0:
			return retcode.HostCPUInsufficient.Errorf("the host has %d CPUs free, %d are wanted", max(0, h.CPUTotal-h.CPUUsed), d.CPUs)
		case h.MemoryUsed+int64(d.MemoryMiB) > h.MemoryTotal && d.MemoryMiB > 0:
			return retcode.HostMemoryInsufficient.Errorf("the host has %d MiB free, %d are wanted", max(0, h.MemoryTotal-h.MemoryUsed), d.MemoryMiB)
		case h.DiskUsed+int64(d.DiskGB) > h.DiskTotal && d.DiskGB > 0:
			return retcode.StorageSetInsufficient.Errorf("the host has %d GB free, %d are wanted", max(0, h.DiskTotal-h.DiskUsed), d.DiskGB)
		}
		// Room came free between the two statements: take it.
	}
}

// Release gives back what Place or Reserve took.
func (s *Service) Release(ctx context.Context, tx bun.Tx, hostID string, d Demand) error {
	s.dirty.Store(true)
	_, err := tx.NewUpdate().TableExpr("host").
		Set("cpu_used = cpu_used - ?, memory_used = memory_used - ?, disk_used = disk_used - ?", d.CPUs, d.MemoryMiB, d.DiskGB).
		Where("id = ?", hostID).Exec(ctx)
	return err
}

// Usage is what rows of hosts say is taken, for the check that recomputes it from the resources.
type Usage struct {
	HostID string `bun:"id"`
	Demand
}

// Usages lists what is taken of every host.
func (s *Service) Usages(ctx context.Context) ([]Usage, error) {
	var rows []hostRow
	if err := s.DB.Reader().NewSelect().Model(&rows).Order("id").Scan(ctx); err != nil {
		return nil, err
	}
	usages := make([]Usage, len(rows))
	for i, r := range rows {
		usages[i] = Usage{r.ID, Demand{int(r.CPUUsed), int(r.MemoryUsed), int(r.DiskUsed)}}
	}
	return usages, nil
}

// refreshBelief reloads when something was placed or released since, and now and then without.
func (s *Service) refreshBelief(ctx context.Context) error {
	if !s.dirty.Swap(false) && time.Since(s.reloaded) < refreshAnyway {
		return nil
	}
	s.reloaded = time.Now()
	return s.reload(ctx)
}

// reload makes the belief equal to the rows: new and changed hosts, and what is free.
func (s *Service) reload(ctx context.Context) error {
	var rows []hostRow
	if err := s.DB.Reader().NewSelect().Model(&rows).Order("created_at", "id").Scan(ctx); err != nil {
		return err
	}
	var sets []computeSet
	if err := s.DB.Reader().NewSelect().Model(&sets).Scan(ctx); err != nil {
		return err
	}
	var stores []storageSet
	if err := s.DB.Reader().NewSelect().Model(&stores).Scan(ctx); err != nil {
		return err
	}
	types := map[string]string{} // storage set id → region/type
	pools := map[string]*pool{}
	for _, d := range stores {
		types[d.ID] = d.Region + "/" + d.Type
		if d.Driver == Ceph {
			pools[d.ID] = s.openPool(d)
		}
	}
	snapshot := map[string]*setView{}
	for _, c := range sets {
		snapshot[c.ID] = &setView{region: c.Region, vmType: c.Type}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.guesses = slices.DeleteFunc(s.guesses, func(g guess) bool { return time.Since(g.at) > guessLife })
	guessed := map[string][]guess{}
	for _, g := range s.guesses {
		guessed[g.host] = append(guessed[g.host], g)
	}
	if len(s.guesses) > 0 {
		s.dirty.Store(true) // until they are forgotten
	}
	order := make([]*member, 0, len(rows))
	for _, row := range rows {
		m := s.members[row.ID]
		if m == nil || m.row.Address != row.Address {
			m = s.admit(row)
		}
		// The row read may be older than what this process, which alone writes these, has changed since.
		row.Down, row.ReturnedAt = m.row.Down, m.row.ReturnedAt
		m.set(row)
		order = append(order, m)
		if v := snapshot[row.ComputeSet]; v != nil {
			h := placement.Host{ID: row.ID, CPUs: row.CPUTotal, CPUsUsed: row.CPUUsed, MemoryMiB: row.MemoryTotal,
				MemoryUsed: row.MemoryUsed, DiskGB: row.DiskTotal, DiskUsed: row.DiskUsed, Unusable: m.row.Down || m.row.Locked || m.link == nil,
				StorageSet: types[row.StorageSet], StorageUnusable: m.diskFull(), Pools: m.reached(), Arch: row.Arch}
			for _, g := range guessed[row.ID] {
				g.on(&h)
			}
			v.hosts = append(v.hosts, h)
		}
	}
	s.order, s.snapshot, s.pools = order, snapshot, pools
	return nil
}

// admit makes a member of a row, in place of an earlier one at another address. The caller holds the lock.
func (s *Service) admit(row hostRow) *member {
	link, err := s.Dial(row.ID, row.Address)
	if err != nil {
		slog.Error("a host cannot be called", "host", row.ID, "name", row.Name, "error", err)
	}
	if old := s.members[row.ID]; old != nil && old.stop != nil {
		old.stop()
	}
	m := &member{id: row.ID, name: row.Name, link: link, seen: s.Clock.Now()}
	m.set(row)
	s.members[row.ID] = m
	if s.running != nil {
		s.watch(m)
	}
	return m
}

// diskFull tells that the file system under thin volumes is nearly full, so that new ones would
// starve those that are there. Where volumes are not thin, the rows keep count.
func (m *member) diskFull() bool {
	return m.diskSize > 0 && m.row.DiskTotal > m.diskSize && m.diskFree < m.diskSize/20
}
