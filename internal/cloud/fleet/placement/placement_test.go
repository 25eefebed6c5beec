package placement

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestChoose(t *testing.T) {
	host := func(id string, used int64) Host {
		return Host{ID: id, CPUs: 10, CPUsUsed: used, MemoryMiB: 10240, MemoryUsed: used * 1024, DiskGB: 100, StorageSet: "s", Arch: "x86_64"}
	}
	one := Demand{1, 1024, 10}
	for name, c := range map[string]struct {
		hosts []Host
		d     Demand
		f     Filter
		want  string
	}{
		"least loaded first":   {[]Host{host("a", 5), host("b", 1), host("c", 3)}, one, Filter{}, "b c a"},
		"the earlier of equal": {[]Host{host("a", 1), host("b", 1)}, one, Filter{}, "a b"},
		"full ones are out":    {[]Host{host("a", 10), host("b", 9)}, one, Filter{}, "b"},
		"memory counts": {[]Host{func() Host { h := host("a", 1); h.MemoryUsed = 10000; return h }(), host("b", 8)},
			Demand{1, 1024, 0}, Filter{}, "b"},
		"unusable ones are out":  {[]Host{func() Host { h := host("a", 0); h.Unusable = true; return h }(), host("b", 8)}, one, Filter{}, "b"},
		"a full disk is out":     {[]Host{func() Host { h := host("a", 0); h.StorageUnusable = true; return h }(), host("b", 8)}, one, Filter{}, "b"},
		"a full disk may run":    {[]Host{func() Host { h := host("a", 0); h.StorageUnusable = true; return h }(), host("b", 8)}, Demand{1, 1, 0}, Filter{}, "a b"},
		"other storage":          {[]Host{host("a", 0)}, one, Filter{StorageSet: "other"}, ""},
		"other architecture":     {[]Host{host("a", 0)}, one, Filter{Arch: "aarch64"}, ""},
		"no more than asked for": {[]Host{host("a", 0), host("b", 1), host("c", 2), host("d", 3)}, one, Filter{}, "a b c"},
		"a smaller one is fuller": {[]Host{func() Host { h := host("a", 0); h.CPUs, h.MemoryMiB = 2, 2048; return h }(), host("b", 3)},
			one, Filter{}, "b a"},
	} {
		var got string
		for _, i := range Choose(c.hosts, c.d, c.f, 3) {
			if got != "" {
				got += " "
			}
			got += c.hosts[i].ID
		}
		if got != c.want {
			t.Errorf("%s: chose %q, want %q", name, got, c.want)
		}
	}
}

// TestChooseIsSound checks against the definition: every chosen host fits, none that fits and is less
// loaded was passed over.
func TestChooseIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64Range(0, 20)
		hosts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Host {
			return Host{CPUs: amount.Draw(t, "cpus"), CPUsUsed: amount.Draw(t, "cpus used"), MemoryMiB: amount.Draw(t, "memory"),
				MemoryUsed: amount.Draw(t, "memory used"), DiskGB: amount.Draw(t, "disk"), DiskUsed: amount.Draw(t, "disk used"),
				Unusable: rapid.Bool().Draw(t, "unusable"), StorageUnusable: rapid.Bool().Draw(t, "storage unusable")}
		}), 0, 30).Draw(t, "hosts")
		d := Demand{rapid.Int64Range(0, 5).Draw(t, "c"), rapid.Int64Range(0, 5).Draw(t, "m"), rapid.Int64Range(0, 5).Draw(t, "d")}
		n := rapid.IntRange(1, 5).Draw(t, "n")
		chosen := Choose(hosts, d, Filter{}, n)
		fitting := 0
		in := map[int]bool{}
		for _, i := range chosen {
			in[i] = true
		}
		load := func(h Host) float64 {
			return max(ratio(h.CPUsUsed+d.CPUs, h.CPUs), ratio(h.MemoryUsed+d.MemoryMiB, h.MemoryMiB))
		}
		for i := range hosts {
			if !fits(&hosts[i], d, Filter{}) {
				if in[i] {
					t.Fatalf("host %d does not fit and was chosen", i)
				}
				continue
			}
			fitting++
			if len(chosen) > 0 && !in[i] && load(hosts[i]) < load(hosts[chosen[len(chosen)-1]]) {
				t.Fatalf("host %d is less loaded than a chosen one", i)
			}
		}
		if len(chosen) != min(n, fitting) || len(in) != len(chosen) {
			t.Fatalf("%d of %d fitting hosts chosen, wanted %d", len(chosen), fitting, n)
		}
	})
}

// BenchmarkChoose places on 5,000 hosts, each choice taking what it chose. The target is 2,000 a second.
func BenchmarkChoose(b *testing.B) {
	hosts := make([]Host, 5000)
	for i := range hosts {
		hosts[i] = Host{ID: fmt.Sprintf("host-%d", i), CPUs: 64, MemoryMiB: 262144, DiskGB: 4000, CPUsUsed: int64(i * 7 % 50), MemoryUsed: int64(i * 13 % 200000), StorageSet: "s", Arch: "x86_64"}
	}
	d := Demand{2, 4096, 40}
	for b.Loop() {
		chosen := Choose(hosts, d, Filter{StorageSet: "s", Arch: "x86_64"}, 8)
		if len(chosen) == 0 {
			for i := range hosts {
				hosts[i].CPUsUsed, hosts[i].MemoryUsed, hosts[i].DiskUsed = 0, 0, 0
			}
			continue
		}
		h := &hosts[chosen[0]]
		h.CPUsUsed += d.CPUs
		h.MemoryUsed += d.MemoryMiB
		h.DiskUsed += d.DiskGB
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}

// Equal hosts are filled evenly when each choice counts what was taken before.
func TestChooseSpreads(t *testing.T) {
	hosts := make([]Host, 4)
	for i := range hosts {
		hosts[i] = Host{ID: fmt.Sprintf("host-%d", i), CPUs: 64, MemoryMiB: 262144, DiskGB: 4000, StorageSet: "s", Arch: "x86_64"}
	}
	d := Demand{CPUs: 1, MemoryMiB: 1024, DiskGB: 40}
	seen := make([]int, len(hosts))
	for range 8 {
		chosen := Choose(hosts, d, Filter{StorageSet: "s", Arch: "x86_64"}, 4)
		if len(chosen) == 0 {
			t.Fatal("no host has room")
		}
		seen[chosen[0]]++
		h := &hosts[chosen[0]]
		h.CPUsUsed += d.CPUs
		h.MemoryUsed += d.MemoryMiB
		h.DiskUsed += d.DiskGB
	}
	for _, n := range seen {
		if n != 2 {
			t.Errorf("8 placements on 4 equal hosts: %v", seen)
			break
		}
	}
}
