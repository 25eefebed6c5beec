// Package placement chooses hosts: a pure function over a list of hosts as they
// are believed to be. What it proposes is checked again when it is reserved.
package placement

// Demand is what something takes of a host: CPU threads, MiB, GB.
type Demand struct{ CPUs, MemoryMiB, DiskGB int64 }

// Host is what placement knows of a host. Totals are after overcommit.
type Host struct {
	ID                    string
	CPUs, CPUsUsed        int64
	MemoryMiB, MemoryUsed int64
	DiskGB, DiskUsed      int64
	Unusable              bool // locked, down, or its disk is really full
	StorageSet, Arch      string
	StorageUnusable       bool            // takes no new volumes
	Pools                 map[string]bool // shared storage sets that it reaches
}

// Filter narrows the hosts down. Empty fields let every host through.
type Filter struct {
	StorageSet string
	Arch       string
	Pools      []string // shared storage sets: all of them
}

// Choose returns the indexes of at most n hosts that can take d, least loaded first. The load of a host
// is the fuller of its CPU and its memory after taking d, so that guests spread; among equals the
// emptier disk, then the earlier host wins. The same input gives the same answer.
func Choose(hosts []Host, d Demand, f Filter, n int) []int {
	type scored struct {
		index      int
		load, disk float64
	}
	best := make([]scored, 0, n+1)
	for i := range hosts {
		h := &hosts[i]
		if !fits(h, d, f) {
			continue
		}
		s := scored{i, max(ratio(h.CPUsUsed+d.CPUs, h.CPUs), ratio(h.MemoryUsed+d.MemoryMiB, h.MemoryMiB)), ratio(h.DiskUsed+d.DiskGB, h.DiskGB)}
		at := len(best)
		for at > 0 && (s.load < best[at-1].load || s.load == best[at-1].load && s.disk < best[at-1].disk) {
			at--
		}
		if at == n {
			continue
		}
		best = append(best, s)
		copy(best[at+1:], best[at:])
		best[at] = s
		if len(best) > n {
			best = best[:n]
		}
	}
	chosen := make([]int, len(best))
	for i, s := range best {
		chosen[i] = s.index
	}
	return chosen
}

// fits tells whether h passes the filter and has room for d. What d does not take is not looked at.
func fits(h *Host, d Demand, f Filter) bool {
	switch {
	case h.Unusable,
		d.CPUs > 0 && h.CPUsUsed+d.CPUs > h.CPUs,
		d.MemoryMiB > 0 && h.MemoryUsed+d.MemoryMiB > h.MemoryMiB,
		d.DiskGB > 0 && (h.StorageUnusable || h.DiskUsed+d.DiskGB > h.DiskGB),
		f.StorageSet != "" && h.StorageSet != f.StorageSet,
		f.Arch != "" && h.Arch != f.Arch:
		return false
	}
	for _, p := range f.Pools {
		if !h.Pools[p] {
			return false
		}
	}
	return true
}

func ratio(used, total int64) float64 {
	if total <= 0 {
		return 1
	}
	return float64(used) / float64(total)
}
