package fleet

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// PlaceDisk reserves room for a disk without a machine on the host of a storage set that has most, in the caller's
// transaction: 14004 no usable host, 14006 none has so much.
func (s *Service) PlaceDisk(ctx context.Context, tx bun.Tx, region, setType string, gb int) (hostID string, err error) {
	usable := func() *bun.SelectQuery {
		return tx.NewSelect().TableExpr("host AS h").Join("JOIN storage_set AS d ON d.id = h.storage_set").
			Where("d.region = ? AND d.type = ? AND NOT h.locked AND NOT h.down AND h.disk_total > 0", region, setType)
	}
	for range 3 { // others may take what is read
		var ids []string
		if err := usable().Column("h.id").Where("disk_used + ? <= disk_total", gb).
			OrderExpr("disk_total - disk_used DESC, h.id").Limit(proposals).Scan(ctx, &ids); err != nil {
			return "", err
		}
		if len(ids) == 0 {
			break
		}
		for _, id := range ids {
			if ok, err := take(ctx, tx, id, Demand{DiskGB: gb}); err != nil || ok {
				return id, err
			}
		}
	}
	var most struct {
		Hosts int64 `bun:"hosts"`
		Free  int64 `bun:"free"`
	}
	if err := usable().ColumnExpr("count(*) AS hosts, coalesce(max(disk_total - disk_used), 0) AS free").Scan(ctx, &most); err != nil {
		return "", err
	}
	if most.Hosts == 0 {
		return "", retcode.NoIdleStorageSet.Errorf("no usable host has storage %s", setType)
	}
	return "", retcode.StorageSetInsufficient.Errorf("%s has at most %d GB free in one piece", setType, max(0, most.Free))
}

// StorageSets are the storage sets of a region (empty: of all), by id.
func (s *Service) StorageSets(ctx context.Context, region string) (map[string]Set, error) {
	var rows []storageSet
	q := s.DB.Reader().NewSelect().Model(&rows)
	if region != "" {
		q = q.Where("region = ?", region)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, err
	}
	out := make(map[string]Set, len(rows))
	for _, r := range rows {
		out[r.ID] = Set{ID: r.ID, Region: r.Region, Type: r.Type, Alias: r.Alias, Arch: r.Arch, Media: r.Media}
	}
	return out, nil
}
