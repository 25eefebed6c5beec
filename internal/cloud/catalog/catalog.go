// Package catalog says what is for sale and how much of it a tenant may have:
// regions, prices, specifications and quotas.
package catalog

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/secret"
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
	DB     *database.DB
	Clock  *clock.Clock
	Secret *secret.Key
}

// Service is the catalogue.
type Service struct {
	Deps
	Config *Config

	capacity     func(ctx context.Context, region string) (Capacity, error)
	scopeSources []func(ctx context.Context, region string, company int64) ([]Scope, error)
	divisions    []Division
	sets         func(ctx context.Context, region string) (map[string]ScopeKind, error)
	checkTenant  func(ctx context.Context, company int64) error
	nodes        func(ctx context.Context) ([]Node, error)
	timeServer   func(ctx context.Context, server netip.Addr) error

	mu      sync.Mutex
	regions map[string]bool // known to exist; a region is never removed
	// licensed is what licences were read at licensedAt; nil: none yet, or they changed.
	licensed   map[string]licenceRow
	licensedAt time.Time
}

// New prepares the service.
func New(d Deps) *Service {
	return &Service{Deps: d, Config: &Config{db: d.DB, secret: d.Secret}, regions: map[string]bool{}}
}

// OnCapacity sets where the figures of a region come from (fleet).
func (s *Service) OnCapacity(f func(ctx context.Context, region string) (Capacity, error)) {
	s.capacity = f
}

// OnTimeServer sets what tells whether a time server answers.
func (s *Service) OnTimeServer(f func(ctx context.Context, server netip.Addr) error) {
	s.timeServer = f
}

// Actions of the catalogue.
func (s *Service) Actions() []action.Action {
	return slices.Concat([]action.Action{
		action.Define(action.Spec{Name: "DescribeRegion", Module: "common", Personal: true, Summary: "List regions with their capacity figures.",
			Region: action.RegionNone}, s.describeRegion),
	}, s.licenceActions(), s.configActions(), s.quotaActions(), s.specActions(), s.priceActions())
}

// cut takes the page out of all rows.
func cut[T any](all []T, offset, limit int) []T {
	return all[min(offset, len(all)):min(offset+limit, len(all))]
}
