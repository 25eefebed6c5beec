package main

import (
	"fmt"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet/placement"
)

// placement times the pure choice over 5,000 hosts, each choice taking what it chose.
func (b *bench) placement() error {
	hosts := make([]placement.Host, 5000)
	for i := range hosts {
		hosts[i] = placement.Host{
			ID: fmt.Sprintf("host-%d", i), CPUs: 64, MemoryMiB: 262144, DiskGB: 4000,
			CPUsUsed: int64(i * 7 % 50), MemoryUsed: int64(i * 13 % 200000), StorageSet: "s", Arch: "x86_64",
		}
	}
	d := placement.Demand{CPUs: 1, MemoryMiB: 1024, DiskGB: 40}
	n := 0
	start := time.Now()
	for time.Since(start) < 3*time.Second {
		chosen := placement.Choose(hosts, d, placement.Filter{StorageSet: "s", Arch: "x86_64"}, 8)
		if len(chosen) == 0 {
			break
		}
		h := &hosts[chosen[0]]
		h.CPUsUsed += d.CPUs
		h.MemoryUsed += d.MemoryMiB
		h.DiskUsed += d.DiskGB
		n++
	}
	b.print(figure{Name: "placement over 5,000 hosts", Value: float64(n) / time.Since(start).Seconds(), Unit: "/s", Target: ">= 2000"})
	return nil
}
