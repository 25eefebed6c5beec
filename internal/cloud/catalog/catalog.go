// Package catalog says what is for sale and how much of it a tenant may have:
// regions, prices, specifications and quotas.
package catalog

import (
	"context"
	"slices"
	"sync"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

// DefaultRegion is the region made at the first start.
const DefaultRegion = "cn"

// Capacity are the figures of a region for administrators. Memory in MiB, storage in GB.
type Capacity struct {
	CPUs, CPUsUsed           int64
	MemoryMiB, MemoryUsedMiB int64
	MemoryPhysicalUsedMiB    int64
	DiskGB, DiskUsedGB       int64
	DiskPhysicalUsedGB       int64
}

// Deps of the service.
type Deps struct {
	DB    *database.DB
	Clock *clock.Clock
}

// Service is the catalogue.
type Service struct {
	Deps
	capacity     func(ctx context.Context, region string) (Capacity, error)
	scopeSources []func(ctx context.Context, region string, company int64) ([]Scope, error)
	checkTenant  func(ctx context.Context, company int64) error

	mu      sync.Mutex
	regions map[string]bool // known to exist; a region is never removed
}

// New prepares the service.
func New(d Deps) *Service { return &Service{Deps: d, regions: map[string]bool{}} }

// OnCapacity sets where the figures of a region come from (fleet).
func (s *Service) OnCapacity(f func(ctx context.Context, region string) (Capacity, error)) {
	s.capacity = f
}

// Actions of the catalogue.
func (s *Service) Actions() []action.Action {
	return slices.Concat([]action.Action{
		action.Define(action.Spec{Name: "DescribeRegion", Module: "common", Summary: "List regions with their capacity figures.",
			Region: action.RegionNone}, s.describeRegion),
	}, s.priceActions())
}

// page is action.Page for lists that answer at least one.
type page struct {
	Offset int `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit  int `default:"20" validate:"min=1,max=100" doc:"page length"`
}

// cut takes the page out of all rows.
func cut[T any](all []T, offset, limit int) []T {
	return all[min(offset, len(all)):min(offset+limit, len(all))]
}
