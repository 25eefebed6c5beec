package catalog

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// defaultVMSpecs are offered by a new compute set type: cores and GiB. The first is its default.
var defaultVMSpecs = [][2]int{{1, 1}, {1, 2}, {2, 4}, {4, 8}, {8, 16}, {16, 32}, {32, 64}, {64, 128}}

// Ranges offered where no row says otherwise: GB and Mbps.
var defaultRanges = map[string][2]int{
	bootDisk: {40, 2048},
	dataDisk: {10, 32000},
	eip:      {1, 10000},
}

// Kinds of ranges.
const (
	bootDisk = "BOOT_DISK"
	dataDisk = "DISK"
	eip      = "EIP"
)

// OfferVM gives a new compute set type the default specifications.
func (s *Service) OfferVM(ctx context.Context, tx bun.Tx, region, vmType string) error {
	var specs []vmSpec
	now := s.Clock.Micros()
	for i, p := range defaultVMSpecs {
		specs = append(specs, vmSpec{ID: database.NewID("spec"), Region: region, VMType: vmType, CPUs: p[0], MemoryMiB: p[1] * 1024, IsDefault: i == 0,
			CreatedAt: now, UpdatedAt: now})
	}
	_, err := tx.NewInsert().Model(&specs).On("CONFLICT (region, vm_type, cpus, memory_mib) DO NOTHING").Exec(ctx)
	return err
}

// CheckVMSpec refuses CPU and memory pairs that the compute set type does not offer (1015).
func (s *Service) CheckVMSpec(ctx context.Context, region, vmType string, cpus, memoryMiB int) error {
	found, err := database.Find[vmSpec](ctx, s.DB.Reader(), "WHERE region = ? AND vm_type = ? AND cpus = ? AND memory_mib = ?", region, vmType, cpus, memoryMiB)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return retcode.VMSpecUnavailable.Errorf("%s does not offer CPU %d with Memory %d MiB", vmType, cpus, memoryMiB)
	}
	return nil
}

// CheckDiskSpec refuses data disk sizes that the storage set type does not offer (5003).
func (s *Service) CheckDiskSpec(ctx context.Context, region, setType string, gb int) error {
	r, err := s.offered(ctx, region, dataDisk, setType)
	if err == nil && !r.has(gb) {
		err = retcode.DiskSpecOutOfRange.Errorf("%s offers data disks of %d to %d GB, not %d", setType, r.Minimum, r.Maximum, gb)
	}
	return err
}

// CheckBootDiskSpec is CheckDiskSpec for system disks.
func (s *Service) CheckBootDiskSpec(ctx context.Context, region, setType string, gb int) error {
	r, err := s.offered(ctx, region, bootDisk, setType)
	if err == nil && !r.has(gb) {
		err = retcode.DiskSpecOutOfRange.Errorf("%s offers system disks of %d to %d GB, not %d", setType, r.Minimum, r.Maximum, gb)
	}
	return err
}

// CheckEIPSpec refuses bandwidths that the external segment does not offer (8000).
func (s *Service) CheckEIPSpec(ctx context.Context, region, segment string, mbps int) error {
	r, err := s.offered(ctx, region, eip, segment)
	if err == nil && !r.has(mbps) {
		err = retcode.BandwidthOutOfRange.Errorf("%s offers bandwidths of %d to %d Mbps, not %d", segment, r.Minimum, r.Maximum, mbps)
	}
	return err
}

func (r rangeSpec) has(value int) bool { return r.Minimum <= value && value <= r.Maximum }

// offered reads the range of a scope, or the default one.
func (s *Service) offered(ctx context.Context, region, kind, scope string) (rangeSpec, error) {
	row := rangeSpec{Minimum: defaultRanges[kind][0], Maximum: defaultRanges[kind][1]}
	r := s.DB.Reader()
	err := database.One(ctx, r, r.NewSelect().Model(&row).Where("region = ? AND kind = ? AND scope = ?", region, kind, scope), &row)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return row, err
}
