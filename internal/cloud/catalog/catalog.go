// Package catalog says what is for sale and how much of it a tenant may have:
// regions, specifications and quotas.
package catalog

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

// DefaultRegion is the region made at the first start.
const DefaultRegion = "cn"

// Factor is what a quota counts.
type Factor string

// The factors, counted per tenant and region.
const (
	VM            Factor = "VM"             // virtual machines
	CPU           Factor = "CPU"            // cores of virtual machines
	Memory        Factor = "MEMORY"         // MiB of virtual machines
	Disk          Factor = "DISK"           // data disks
	DiskSpace     Factor = "DISK_SPACE"     // GB of system and data disks
	EIP           Factor = "EIP"            // public addresses
	SecurityGroup Factor = "SECURITY_GROUP" // security groups
	VPC           Factor = "VPC"
	Subnet        Factor = "SUBNET"
	NIC           Factor = "NIC"   // elastic NICs, not the VM's own
	Image         Factor = "IMAGE" // custom images
)

// Amounts says how much of each factor.
type Amounts map[Factor]int64

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
	capacity func(ctx context.Context, region string) (Capacity, error)
}

// New prepares the service.
func New(d Deps) *Service { return &Service{Deps: d} }

// OnCapacity sets where the figures of a region come from (fleet).
func (s *Service) OnCapacity(f func(ctx context.Context, region string) (Capacity, error)) {
	s.capacity = f
}

// Region is that part of action.Gate: 113 for an unknown region.
func (s *Service) Region(ctx context.Context, c *action.Call) error { panic("not yet") }

// CheckVMSpec refuses CPU and memory pairs that the compute set type does not offer (1015).
func (s *Service) CheckVMSpec(ctx context.Context, region, vmType string, cpus, memoryMiB int) error {
	panic("not yet")
}

// CheckDiskSpec refuses data disk sizes that the storage set type does not offer (5003).
func (s *Service) CheckDiskSpec(ctx context.Context, region, setType string, gb int) error {
	panic("not yet")
}

// CheckBootDiskSpec is CheckDiskSpec for system disks.
func (s *Service) CheckBootDiskSpec(ctx context.Context, region, setType string, gb int) error {
	panic("not yet")
}

// CheckEIPSpec refuses bandwidths that the external segment does not offer (8000).
func (s *Service) CheckEIPSpec(ctx context.Context, region, segment string, mbps int) error {
	panic("not yet")
}

// Reserve takes from the tenant's quotas in the caller's transaction, all or nothing; QuotaExceeded
// (17005) names the factor, what is allowed and what is used. Factors are taken in a fixed order.
func (s *Service) Reserve(ctx context.Context, tx bun.Tx, company int64, region string, a Amounts) error {
	panic("not yet")
}

// Release gives back what Reserve took.
func (s *Service) Release(ctx context.Context, tx bun.Tx, company int64, region string, a Amounts) error {
	panic("not yet")
}

// Actions of the catalogue.
func (s *Service) Actions() []action.Action { panic("not yet") }
