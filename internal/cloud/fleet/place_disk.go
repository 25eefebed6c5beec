package fleet

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// PlaceDisk reserves room for a disk without a machine, in the caller's transaction, and answers the host that handles
// it: of a shared set any that reaches it, else the one that has most room. 14004 no usable host, 14006 none has so
// much.
func (s *Service) PlaceDisk(ctx context.Context, tx bun.Tx, set *Set, gb int) (hostID string, err error) {
	if set.Shared {
		if hostID = s.Handler(set.ID, ""); hostID == "" {
			return "", retcode.NoIdleStorageSet.Errorf("no usable host reaches storage %s", set.Type)
		}
		return hostID, s.takeShared(ctx, tx, map[string]int{set.ID: gb})
	}
	usable := func() *bun.SelectQuery {
		return tx.NewSelect().TableExpr("host AS h").Where("h.storage_set = ? AND NOT h.locked AND NOT h.down AND h.disk_total > 0", set.ID)
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
		return "", retcode.NoIdleStorageSet.Errorf("no usable host has storage %s", set.Type)
	}
	return "", retcode.StorageSetInsufficient.Errorf("%s has at most %d GB free in one piece", set.Type, max(0, most.Free))
}

// ReserveDisk takes room for a disk, or for more of one: of its set when hosts share it, else of its host. Codes as
// Reserve's.
func (s *Service) ReserveDisk(ctx context.Context, tx bun.Tx, setID, hostID string, gb int) error {
	if s.Shared(setID) {
		return s.takeShared(ctx, tx, map[string]int{setID: gb})
	}
	return s.Reserve(ctx, tx, hostID, Demand{DiskGB: gb})
}

// ReleaseDisk gives back what ReserveDisk, PlaceDisk or Place took for a disk.
func (s *Service) ReleaseDisk(ctx context.Context, tx bun.Tx, setID, hostID string, gb int) error {
	if s.Shared(setID) {
		_, err := tx.NewRaw("UPDATE storage_set SET used_gb = used_gb - ? WHERE id = ?", gb, setID).Exec(ctx)
		return err
	}
	return s.Release(ctx, tx, hostID, Demand{DiskGB: gb})
}

// takeShared reserves room in shared sets, each by one guarded update: 14006.
func (s *Service) takeShared(ctx context.Context, tx bun.Tx, gb map[string]int) error {
	for _, id := range slices.Sorted(maps.Keys(gb)) {
		r, err := tx.NewRaw("UPDATE storage_set SET used_gb = used_gb + ? WHERE id = ? AND used_gb + ? <= total_gb", gb[id], id, gb[id]).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil {
			return err
		} else if n == 1 {
			continue
		}
		var row storageSet
		if err := tx.NewSelect().Model(&row).Where("id = ?", id).Scan(ctx); errors.Is(err, sql.ErrNoRows) {
			return retcode.NoIdleStorageSet.Errorf("no usable host reaches storage %s", id) // it was deleted just now
		} else if err != nil {
			return err
		}
		return retcode.StorageSetInsufficient.Errorf("%s has %d GB free", row.Type, max(0, row.TotalGB-row.UsedGB))
	}
	return nil
}

// StorageSets are the storage sets of a region (empty: of all), by id.
func (s *Service) StorageSets(ctx context.Context, region string) (map[string]Set, error) {
	q := s.DB.Reader().NewSelect().Model((*storageSet)(nil))
	if region != "" {
		q = q.Where("region = ?", region)
	}
	rows, err := database.Select[storageSet](ctx, s.DB.Reader(), q)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Set, len(rows))
	for i := range rows {
		out[rows[i].ID] = *rows[i].set()
	}
	return out, nil
}
