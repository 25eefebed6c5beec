// Package recycle is the bin: what tenants deleted and can still have back. The
// products keep their own rows and rules; here they are one list.
package recycle

import (
	"context"
	"errors"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/compute"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

// sweepEvery is how late the sweep may be.
const sweepEvery = 10 * time.Second

// Deps of the service.
type Deps struct {
	DB       *database.DB
	Clock    *clock.Clock
	Catalog  *catalog.Service
	Identity *identity.Service
	Network  *network.Service
	Block    *block.Service
	Compute  *compute.Service
}

// Service is the bin.
type Service struct {
	Deps
	kinds []kind
}

// New prepares the service.
func New(d Deps) *Service {
	return &Service{Deps: d, kinds: []kind{vms(d.Compute), disks(d.Block), images(d.Compute), eips(d.Network)}}
}

// item is a resource in the bin. Times are unix microseconds.
type item struct {
	region, project, id, name, why, state    string
	company                                  int64
	createdAt, updatedAt, deletedAt, expires int64
}

// kind is one type of resource that goes to the bin. Its functions answer the codes of the actions.
type kind struct {
	name      string // ResourceType
	prefix    string // of its ids
	items     func(ctx context.Context, f resource.BinFilter, language string) ([]item, int, error)
	restore   func(ctx context.Context, c *action.Call, id string) error
	terminate func(ctx context.Context, c *action.Call, id string) error
	// sweep starts the destruction of what entered a region's bin at or before a time.
	sweep func(ctx context.Context, region string, deletedBefore int64) error
}

func vms(s *compute.Service) kind {
	return kind{"VM", "vm-", func(ctx context.Context, f resource.BinFilter, language string) ([]item, int, error) {
		rows, n, err := s.BinnedVMs(ctx, f)
		out := make([]item, len(rows))
		for i, r := range rows {
			out[i] = item{r.Region, r.Project, r.ID, r.Name, r.Why(language), wireState(r.State), r.Company, r.CreatedAt, r.UpdatedAt, r.DeletedAt, r.ExpireAt}
		}
		return out, n, err
	}, s.RestoreVM, s.DestroyVM, s.SweepVMs}
}

func disks(s *block.Service) kind {
	return kind{"Disk", "disk-", func(ctx context.Context, f resource.BinFilter, language string) ([]item, int, error) {
		rows, n, err := s.BinnedDisks(ctx, f)
		out := make([]item, len(rows))
		for i, r := range rows {
			out[i] = item{r.Region, r.Project, r.ID, r.Name, r.Why(language), wireState(r.State), r.Company, r.CreatedAt, r.UpdatedAt, r.DeletedAt, r.ExpireAt}
		}
		return out, n, err
	}, s.RestoreDisk, s.DestroyDisk, s.SweepDisks}
}

func images(s *compute.Service) kind {
	return kind{"Image", "image-", func(ctx context.Context, f resource.BinFilter, language string) ([]item, int, error) {
		rows, n, err := s.BinnedImages(ctx, f)
		out := make([]item, len(rows))
		for i, r := range rows {
			out[i] = item{r.Region, r.Project, r.ID, r.Name, r.Why(language), wireState(r.State), r.Company, r.CreatedAt, r.UpdatedAt, r.DeletedAt, 0}
		}
		return out, n, err
	}, s.RestoreImage, s.DestroyImage, s.SweepImages}
}

func eips(s *network.Service) kind {
	return kind{"EIP", "eip-", func(ctx context.Context, f resource.BinFilter, _ string) ([]item, int, error) {
		rows, n, err := s.BinnedEIPs(ctx, f)
		out := make([]item, len(rows))
		for i, r := range rows {
			out[i] = item{r.Region, r.Project, r.ID, r.Name, r.Reason, wireState(r.State), r.Company, r.CreatedAt, r.UpdatedAt, r.DeletedAt, r.ExpireAt}
		}
		return out, n, err
	}, s.RestoreEIP, s.DestroyEIP, s.SweepEIPs}
}

// wireState names states that a product spells its own way as the bin does.
func wireState(s string) string {
	switch s {
	case "Releasing":
		return "Terminating"
	case compute.Unterminated:
		return "Failed"
	}
	return s
}

// Run sweeps what outlived its retention until ctx ends. Only the leading controller calls it.
func (s *Service) Run(ctx context.Context) {
	clock.NewLoop(s.Clock, "recycle sweep", sweepEvery, s.sweep).Run(ctx)
}

func (s *Service) sweep(ctx context.Context) error {
	regions, err := s.Catalog.RegionIDs(ctx)
	failed := []error{err}
	for _, region := range regions {
		if !s.Catalog.Config.RecycleAutoDestroy(ctx, region) {
			continue
		}
		before := s.Clock.Now().Add(-s.Catalog.Config.RecycleRetention(ctx, region)).UnixMicro()
		for _, k := range s.kinds {
			failed = append(failed, k.sweep(ctx, region, before))
		}
	}
	return errors.Join(failed...)
}
