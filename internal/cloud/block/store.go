package block

import (
	"context"
	"database/sql"
	"errors"
	"slices"
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
	Remark      string `bun:"remark"`
	Role        string `bun:"role"`
	State       string `bun:"state"`
	Hidden      bool   `bun:"hidden"`
	ReasonCode  int    `bun:"reason_code"`
	Reason      string `bun:"reason"`
	SetType     string `bun:"set_type"`
	SetID       string `bun:"set_id"`
	HostID      string `bun:"host_id"`
	FromHost    string `bun:"from_host"` // where the volume still is while it moves to HostID
	LeftHost    string `bun:"left_host"` // where what it was before a move is still to be removed
	Plug        bool   `bun:"plug"`      // while Bounding: the volume is there, so the machine's host is told of it
	Written     bool   `bun:"written"`
	SizeGB      int    `bun:"size_gb"`
	ImageDigest string `bun:"image_digest"`
	SrcDisk     string `bun:"src_disk"`
	SrcSnapshot string `bun:"src_snapshot"`
	Bootable    bool   `bun:"bootable"`
	Secret      string `bun:"secret"`
	Shareable   bool   `bun:"shareable"`
	VMID        string `bun:"vm_id"`
	Target      string `bun:"target"`
	ChargeType  string `bun:"charge_type"`
	Quantity    int    `bun:"quantity"`
	AutoRenew   bool   `bun:"auto_renew"`
	OwnCharge   bool   `bun:"own_charge"` // a system disk that pays for itself
	Limited     bool   `bun:"limited"`
	Limits
	CreatedAt  int64 `bun:"created_at"`
	UpdatedAt  int64 `bun:"updated_at"`
	ExpireAt   int64 `bun:"expire_at"`
	DeletedAt  int64 `bun:"deleted_at"`
	EndedAt    int64 `bun:"ended_at"`
	Generation int64 `bun:"generation"`
}

// Limits are what a guest may do with a disk in a second; 0: as much as it can. Total goes with neither of its parts.
type Limits struct {
	ReadIOPS  int `bun:"read_iops"`
	WriteIOPS int `bun:"write_iops"`
	TotalIOPS int `bun:"total_iops"`
	ReadMBps  int `bun:"read_mbps"` // megabytes
	WriteMBps int `bun:"write_mbps"`
	TotalMBps int `bun:"total_mbps"`
}

// share is a shared disk on one of its machines.
type share struct {
	bun.BaseModel `bun:"table:disk_share"`

	DiskID    string `bun:"disk_id,pk"`
	VMID      string `bun:"vm_id,pk"`
	Target    string `bun:"target"`
	State     string `bun:"state"`
	Plug      bool   `bun:"plug"` // as Disk.Plug
	CreatedAt int64  `bun:"created_at"`
}

// limitSwitch is what the hosts of a region were last told of the switch of all limits.
type limitSwitch struct {
	bun.BaseModel `bun:"table:disk_limit_switch"`

	Region string `bun:"region,pk"`
	Told   bool   `bun:"told"`
}

// Snapshot is a row of snapshots. Times are unix microseconds.
type Snapshot struct {
	bun.BaseModel `bun:"table:snapshot"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	DiskID     string `bun:"disk_id"`
	DiskRole   string `bun:"disk_role"`
	Type       string `bun:"type"`
	State      string `bun:"state"`
	ReasonCode int    `bun:"reason_code"`
	Reason     string `bun:"reason"`
	SizeGB     int    `bun:"size_gb"`
	Encrypted  bool   `bun:"encrypted"`
	Frozen     bool   `bun:"frozen"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	EndedAt    int64  `bun:"ended_at"`
	Generation int64  `bun:"generation"`
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

// snapshotByID reads one snapshot of a scope: 200 when unknown or out of it, 205 destroyed.
func snapshotByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*Snapshot, error) {
	n, err := anySnapshot(ctx, idb, scope, id)
	if err == nil {
		err = n.ended()
	}
	return n, err
}

// anySnapshot reads one snapshot of a scope, also a destroyed one: 200 when unknown or out of it.
func anySnapshot(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*Snapshot, error) {
	n := new(Snapshot)
	err := identity.Own(idb.NewSelect().Model(n).Where("id = ?", id), scope).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.ResourceNotFound.Errorf("%s", id)
	}
	return n, err
}

// ended answers 205 for a snapshot that is destroyed.
func (n *Snapshot) ended() error {
	if n.EndedAt == 0 {
		return nil
	}
	return retcode.ResourceTerminated.Errorf("%s is destroyed", n.ID)
}

// Of reads the disks of machines, by machine, in the order of their targets; a shared disk has the machine's target.
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
	shares, err := database.Find[share](ctx, idb, "WHERE vm_id IN (?)", vms)
	if err != nil || len(shares) == 0 {
		return out, err
	}
	ids := make([]string, len(shares))
	for i, sh := range shares {
		ids[i] = sh.DiskID
	}
	if rows, err = database.Find[Disk](ctx, idb, "WHERE id IN (?)", ids); err != nil {
		return nil, err
	}
	for _, sh := range shares {
		for _, d := range rows {
			if d.ID == sh.DiskID {
				d.VMID, d.Target, d.State, d.Plug = sh.VMID, sh.Target, sh.State, sh.Plug
				out[sh.VMID] = append(out[sh.VMID], d)
			}
		}
		slices.SortFunc(out[sh.VMID], func(a, b Disk) int { return strings.Compare(a.Target, b.Target) })
	}
	return out, nil
}

// sharesOf reads where shared disks are attached, by disk.
func sharesOf(ctx context.Context, idb bun.IDB, disks ...string) (map[string][]share, error) {
	if len(disks) == 0 {
		return nil, nil
	}
	rows, err := database.Find[share](ctx, idb, "WHERE disk_id IN (?) ORDER BY disk_id, created_at, vm_id", disks)
	if err != nil {
		return nil, err
	}
	out := map[string][]share{}
	for _, sh := range rows {
		out[sh.DiskID] = append(out[sh.DiskID], sh)
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

// turn changes a snapshot's state, and the columns given, unless another request did since n was read: 7001.
func (s *Service) turn(ctx context.Context, tx bun.Tx, n *Snapshot, to string, columns ...string) error {
	before := n.Generation
	n.State, n.Generation, n.UpdatedAt = to, before+1, s.Clock.Micros()
	r, err := tx.NewUpdate().Model(n).Column(append(columns, "state", "generation", "updated_at")...).
		Where("id = ? AND generation = ?", n.ID, before).Exec(ctx)
	if err != nil {
		return err
	}
	if rows, err := r.RowsAffected(); err != nil || rows != 1 {
		return errors.Join(err, retcode.SnapshotStateUnstable.Errorf("%s is being changed by another request", n.ID))
	}
	return nil
}

// because notes why the last operation failed; nil: it did not. Errors without a code speak of our insides, so only
// their code is kept.
func because(cause error) (code int, detail string) {
	if e := new(retcode.Error); errors.As(cause, &e) {
		detail = e.Detail()
	}
	return int(retcode.Of(cause)), detail
}

// why is a reason as the tenant reads it.
func why(code int, detail, language string) string {
	m := retcode.Code(code).Message(language)
	if m != "" && detail != "" {
		m += ": " + detail
	}
	return m
}

// Why is the reason as the tenant reads it.
func (d *Disk) Why(language string) string { return why(d.ReasonCode, d.Reason, language) }
