package block

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Disk is a row of disks. Times are unix microseconds.
type Disk struct {
	bun.BaseModel `bun:"table:disk"`

	ID          string `bun:"id,pk"`
	Region      string `bun:"region"`
	Company     int64  `bun:"company"`
	Project     string `bun:"project"`
	Name        string `bun:"name"`
	Role        string `bun:"role"`
	State       string `bun:"state"`
	Reason      string `bun:"reason"`
	SetType     string `bun:"set_type"`
	SetID       string `bun:"set_id"`
	HostID      string `bun:"host_id"`
	SizeGB      int    `bun:"size_gb"`
	ImageDigest string `bun:"image_digest"`
	VMID        string `bun:"vm_id"`
	Target      string `bun:"target"`
	ChargeType  string `bun:"charge_type"`
	CreatedAt   int64  `bun:"created_at"`
	UpdatedAt   int64  `bun:"updated_at"`
	ExpireAt    int64  `bun:"expire_at"`
	DeletedAt   int64  `bun:"deleted_at"`
	EndedAt     int64  `bun:"ended_at"`
	Generation  int64  `bun:"generation"`
}

// ByID reads one disk of a scope: 200 when unknown or out of it.
func ByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*Disk, error) {
	d := new(Disk)
	err := identity.Own(idb.NewSelect().Model(d).Where("id = ?", id), scope).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.ResourceNotFound.Errorf("%s", id)
	}
	return d, err
}

// Of reads the disks of machines, by machine, in the order of their targets.
func Of(ctx context.Context, idb bun.IDB, vms ...string) (map[string][]Disk, error) {
	if len(vms) == 0 {
		return nil, nil
	}
	rows, err := database.Find[Disk](ctx, idb, "WHERE vm_id IN (?) ORDER BY vm_id, target", vms)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]Disk, len(vms))
	for _, d := range rows {
		out[d.VMID] = append(out[d.VMID], d)
	}
	return out, nil
}

// move changes a disk's state, and the columns given, unless another request did since d was read: 5000.
func (s *Service) move(ctx context.Context, tx bun.Tx, d *Disk, to string, columns ...string) error {
	before := d.Generation
	d.State, d.Generation, d.UpdatedAt = to, before+1, s.Clock.Micros()
	r, err := tx.NewUpdate().Model(d).Column(append(columns, "state", "generation", "updated_at")...).
		Where("id = ? AND generation = ?", d.ID, before).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, retcode.DiskStateUnstable.Errorf("%s is being changed by another request", d.ID))
	}
	return nil
}

// like matches a keyword against columns.
func like(q *bun.SelectQuery, keyword string, columns ...string) *bun.SelectQuery {
	if keyword == "" {
		return q
	}
	return q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
		for _, c := range columns {
			q = q.WhereOr("LOWER(?) LIKE ? ESCAPE '\\'", bun.Ident(c), strings.ToLower(database.Like(keyword)))
		}
		return q
	})
}
