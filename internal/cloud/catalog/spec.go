package catalog

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// defaultVMSpecs are offered by a new compute set type: cores and GiB.
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
	for _, p := range defaultVMSpecs {
		specs = append(specs, vmSpec{ID: database.NewID("spec"), Region: region, VMType: vmType, CPUs: p[0], MemoryMiB: p[1] * 1024, CreatedAt: s.Clock.Micros()})
	}
	_, err := tx.NewInsert().Model(&specs).On("CONFLICT (region, vm_type, cpus, memory_mib) DO NOTHING").Exec(ctx)
	return err
}

// CheckVMSpec refuses CPU and memory pairs that the compute set type does not offer (1015).
func (s *Service) CheckVMSpec(ctx context.Context, region, vmType string, cpus, memoryMiB int) error {
	found, err := s.DB.Reader().NewSelect().Model((*vmSpec)(nil)).
		Where("region = ? AND vm_type = ? AND cpus = ? AND memory_mib = ?", region, vmType, cpus, memoryMiB).Exists(ctx)
	if err != nil {
		return err
	}
	if !found {
		return retcode.VMSpecUnavailable.Errorf("%s does not offer CPU %d with Memory %d MiB", vmType, cpus, memoryMiB)
	}
	return nil
}

// CheckDiskSpec refuses data disk sizes that the storage set type does not offer (5003).
func (s *Service) CheckDiskSpec(ctx context.Context, region, setType string, gb int) error {
	return s.checkRange(ctx, region, dataDisk, setType, gb, retcode.DiskSpecOutOfRange, "%s offers data disks of %d to %d GB, not %d")
}

// CheckBootDiskSpec is CheckDiskSpec for system disks.
func (s *Service) CheckBootDiskSpec(ctx context.Context, region, setType string, gb int) error {
	return s.checkRange(ctx, region, bootDisk, setType, gb, retcode.DiskSpecOutOfRange, "%s offers system disks of %d to %d GB, not %d")
}

// CheckEIPSpec refuses bandwidths that the external segment does not offer (8000).
func (s *Service) CheckEIPSpec(ctx context.Context, region, segment string, mbps int) error {
	return s.checkRange(ctx, region, eip, segment, mbps, retcode.BandwidthOutOfRange, "%s offers bandwidths of %d to %d Mbps, not %d")
}

func (s *Service) checkRange(ctx context.Context, region, kind, scope string, value int, code retcode.Code, format string) error {
	var row rangeSpec
	err := s.DB.Reader().NewSelect().Model(&row).Where("region = ? AND kind = ? AND scope = ?", region, kind, scope).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		row.Minimum, row.Maximum = defaultRanges[kind][0], defaultRanges[kind][1]
	} else if err != nil {
		return err
	}
	if value < row.Minimum || value > row.Maximum {
		return code.Errorf(format, scope, row.Minimum, row.Maximum, value)
	}
	return nil
}
