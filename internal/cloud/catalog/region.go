package catalog

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Region is that part of action.Gate: 113 for an unknown region.
func (s *Service) Region(ctx context.Context, c *action.Call) error {
	s.Config.Refresh(ctx)
	s.mu.Lock()
	known := s.regions[c.Region]
	s.mu.Unlock()
	if known {
		return nil
	}
	found, err := s.DB.Reader().NewSelect().Model((*region)(nil)).Where("id = ?", c.Region).Exists(ctx)
	if err != nil {
		return err
	}
	if !found {
		return retcode.InvalidParameter.Errorf("Region %q does not exist, DescribeRegion lists them", c.Region)
	}
	s.mu.Lock()
	s.regions[c.Region] = true
	s.mu.Unlock()
	return nil
}

// Bootstrap makes the default region when there is none, and the quotas that are new in this version.
func (s *Service) Bootstrap(ctx context.Context, endpoint string) error {
	if err := s.identify(ctx); err != nil {
		return err
	}
	now := s.Clock.Micros()
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&region{ID: DefaultRegion, Alias: "China", Endpoint: endpoint, CreatedAt: now, UpdatedAt: now}).
			On("CONFLICT (id) DO NOTHING").Exec(ctx)
		if err != nil {
			return err
		}
		return s.openQuotas(ctx, tx)
	})
	if err != nil {
		return err
	}
	return s.openIssuer(ctx)
}

// systemSetting remembers the identity of this installation.
const systemSetting = "system.id"

// identify gives the installation an identity when it has none.
func (s *Service) identify(ctx context.Context) error {
	id, err := s.Setting(ctx, systemSetting)
	if err == nil && id == "" {
		if err = s.AddSettings(ctx, map[string]string{systemSetting: database.NewID("system")}); err == nil || database.IsUnique(err) {
			id, err = s.Setting(ctx, systemSetting)
		}
	}
	s.Config.identify(id)
	return err
}

type describeRegionRequest struct {
	action.Tenant
	action.Page
}

// regionInfo as in actions.yaml. Memory in MiB, storage in GB; GPUs are an issue of their own.
type regionInfo struct {
	Region            string
	RegionAlias       string
	EndPoints         string
	City              string
	Address           string
	Remark            string
	CPUCount          int64 `doc:"cores, after overcommit; capacity figures are for administrators, 0 for others"`
	CPUUsed           int64
	CPUAllocable      int64
	MemoryCap         int64 `doc:"MiB"`
	MemoryUsed        int64
	MemoryPhysicUsed  int64
	MemoryAllocable   int64
	GPUCount          int64
	GPUAllocable      int64
	GPUUsed           int64
	StorageCount      int64 `doc:"GB"`
	StorageUsed       int64
	StoragePhysicUsed int64
	CreateTime        int64 `doc:"unix seconds"`
	UpdateTime        int64 `doc:"unix seconds"`
	ExpireTime        int64 `doc:"unix seconds; 0: the licence does not end"`
	State             string
	VGPUCount         int64
	VGPUUsed          int64
}

type describeRegionResponse struct {
	Infos      []regionInfo
	TotalCount int
}

func (s *Service) describeRegion(ctx context.Context, c *action.Call, q *describeRegionRequest) (*describeRegionResponse, error) {
	var rows []region
	total, err := s.DB.Reader().NewSelect().Model(&rows).Order("id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).ScanAndCount(ctx)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	r := &describeRegionResponse{Infos: []regionInfo{}, TotalCount: int(total)}
	if q.Limit == 0 {
		return r, nil
	}
	for _, row := range rows {
		info := regionInfo{Region: row.ID, RegionAlias: row.Alias, EndPoints: row.Endpoint, City: row.City, Address: row.Address,
			Remark: row.Remark, CreateTime: row.CreatedAt / 1e6, UpdateTime: row.UpdatedAt / 1e6}
		state, licence, err := s.licenceState(ctx, row.ID)
		if err != nil {
			return nil, err
		}
		info.State, info.ExpireTime = state, licence.EndsAt/1e6
		if c.Caller.Admin && s.capacity != nil {
			f, err := s.capacity(ctx, row.ID)
			if err != nil {
				return nil, err
			}
			info.CPUCount, info.CPUUsed, info.CPUAllocable = f.CPUs, f.CPUsUsed, max(0, f.CPUs-f.CPUsUsed)
			info.MemoryCap, info.MemoryUsed, info.MemoryAllocable = f.MemoryMiB, f.MemoryUsedMiB, max(0, f.MemoryMiB-f.MemoryUsedMiB)
			info.MemoryPhysicUsed = f.MemoryPhysicalUsedMiB
			info.StorageCount, info.StorageUsed, info.StoragePhysicUsed = f.DiskGB, f.DiskUsedGB, f.DiskPhysicalUsedGB
		}
		r.Infos = append(r.Infos, info)
	}
	return r, nil
}
