package fleet

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
)

// LicenceNodes lists the hosts as licences count them, in the order in which they joined.
func (s *Service) LicenceNodes(ctx context.Context) ([]catalog.Node, error) {
	var rows []struct {
		ID      string `bun:"id"`
		Name    string `bun:"name"`
		Region  string `bun:"region"`
		Address string `bun:"address"`
		Arch    string `bun:"arch"`
		CPUs    int64  `bun:"cpu_total"`
		Memory  int64  `bun:"memory_total"`
	}
	if err := s.DB.Reader().NewRaw(`SELECT id, name, region, address, arch, cpu_total, memory_total FROM host ORDER BY created_at, id`).Scan(ctx, &rows); err != nil {
		return nil, err
	}
	nodes := make([]catalog.Node, len(rows))
	for i, r := range rows {
		nodes[i] = catalog.Node{ID: r.ID, Name: r.Name, Region: r.Region, Address: r.Address, Arch: r.Arch, CPUs: r.CPUs, MemoryMiB: r.Memory}
	}
	return nodes, nil
}
