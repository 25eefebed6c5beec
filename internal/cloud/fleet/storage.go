package fleet

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// storageActions are those of storage sets.
func (s *Service) storageActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeStorageSet", Module: "cluster", Admin: true,
			Summary: "List storage sets with capacity."}, s.describeStorageSet),
		action.Define(action.Spec{Name: "AliasStorageSet", Module: "cluster", Admin: true, Mutates: true,
			Summary: "Give a storage set type a display name."}, s.aliasStorageSet),
		action.Define(action.Spec{Name: "CreateStorageSet", Module: "cluster", Admin: true, Mutates: true, Extension: true,
			Summary: "Create a storage set."}, s.createStorageSet),
		action.Define(action.Spec{Name: "UpdateStorageSet", Module: "cluster", Admin: true, Mutates: true, Extension: true,
			Summary: "Change members or connection of a storage set."}, s.updateStorageSet),
		action.Define(action.Spec{Name: "DeleteStorageSet", Module: "cluster", Admin: true, Mutates: true, Extension: true,
			Summary: "Delete a storage set without disks and images."}, s.deleteStorageSet),
	}
}

// cephRequest is how hosts reach a pool, as it is given; with UpdateStorageSet what is empty stays.
type cephRequest struct {
	Monitors  []string `doc:"ADDRESS or ADDRESS:PORT of the cluster's monitors"`
	Pool      string   `doc:"name of an RBD pool"`
	User      string   `doc:"cephx user, without client."`
	Key       string   `doc:"of the user; never answered"`
	ClusterID string   `doc:"fsid of the cluster: hosts refuse another"`
}

var setTypeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

const (
	maxSetType = 63
	maxAlias   = 128
)

// check refuses what no cluster can be reached with (113).
func (c *cephConfig) check() error {
	bad := retcode.InvalidParameter
	if len(c.Monitors) == 0 || len(c.Monitors) > hostlink.MaxMonitors {
		return bad.Errorf("CephConfig.Monitors names 1 to %d monitors", hostlink.MaxMonitors)
	}
	for _, m := range c.Monitors {
		if !hostlink.ValidMonitor(m) {
			return bad.Errorf("CephConfig.Monitors: %q is no ADDRESS or ADDRESS:PORT", m)
		}
	}
	if !hostlink.ValidPoolName(c.Pool) {
		return bad.Errorf("CephConfig.Pool is the name of a pool")
	}
	if !hostlink.ValidPoolName(c.User) {
		return bad.Errorf("CephConfig.User is the name of a cephx user, without client.")
	}
	if !hostlink.ValidPoolKey(c.Key) {
		return bad.Errorf("CephConfig.Key is the user's cephx key in base64")
	}
	if c.ClusterID != "" && uuid.Validate(c.ClusterID) != nil {
		return bad.Errorf("CephConfig.ClusterID is the fsid of the cluster")
	}
	return nil
}

// over takes over what a request names.
func (c *cephConfig) over(q cephRequest) {
	if len(q.Monitors) > 0 {
		c.Monitors = q.Monitors
	}
	for _, f := range []struct {
		to   *string
		from string
	}{{&c.Pool, q.Pool}, {&c.User, q.User}, {&c.Key, q.Key}, {&c.ClusterID, q.ClusterID}} {
		if f.from != "" {
			*f.to = f.from
		}
	}
}

func alias(text string) (string, error) {
	text, err := resource.Name(text)
	if err == nil && utf8.RuneCountInString(text) > maxAlias {
		err = retcode.InvalidParameter.Errorf("Alias has 1 to %d printable characters", maxAlias)
	}
	return text, err
}

type createStorageSetRequest struct {
	SetType        string      `validate:"required,min=1,max=63" doc:"what tenants name: letters, digits, dots, hyphens and underscores"`
	Alias          string      `doc:"display name; default SetType"`
	Driver         string      `validate:"required" doc:"Ceph: an RBD pool. Hosts' own directories (Local) are the first set, which is there already; Directory is not supported"`
	SetArch        string      `validate:"omitempty,oneof=x86_64 aarch64" doc:"hosts that use it; default any"`
	Media          string      `default:"SSD" validate:"oneof=HDD SSD NVMe" doc:"what disks are limited by"`
	HostIDs        []string    `doc:"members of Local sets: not with Ceph, which every host uses that reaches the pool"`
	Path           string      `doc:"of Local and Directory sets: not with Ceph"`
	CephConfig     cephRequest `doc:"Monitors, Pool, User, Key and, to be sure, ClusterID"`
	Replicas       int         `validate:"omitempty,min=1,max=5" doc:"copies that the pool keeps, as shown: the pool itself decides"`
	PermissionMode string      `default:"all" validate:"oneof=all whitelist blacklist" doc:"all tenants, those listed, or all but those listed"`
	Permission     string      `doc:"tenant ids, comma separated"`
}

type createStorageSetResponse struct{ SetID string }

func (s *Service) createStorageSet(ctx context.Context, c *action.Call, q *createStorageSetRequest) (*createStorageSetResponse, error) {
	switch {
	case q.Driver != Ceph:
		return nil, retcode.InvalidParameter.Errorf("Driver is Ceph: the hosts' own disks are in the first storage set, and no others are supported")
	case len(q.HostIDs) > 0 || q.Path != "":
		return nil, retcode.InvalidParameter.Errorf("HostIDs and Path do not go with Driver Ceph")
	case !setTypeName.MatchString(q.SetType):
		return nil, retcode.InvalidParameter.Errorf("SetType has 1 to %d letters, digits, dots, hyphens and underscores", maxSetType)
	}
	if q.Alias == "" {
		q.Alias = q.SetType
	}
	name, err := alias(q.Alias)
	if err != nil {
		return nil, err
	}
	var conf cephConfig
	conf.over(q.CephConfig)
	if err := conf.check(); err != nil {
		return nil, err
	}
	may, err := s.Permit.Parse(ctx, q.PermissionMode, q.Permission)
	if err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	row := &storageSet{ID: database.NewID("set"), Region: c.Region, Type: q.SetType, Alias: name, Arch: q.SetArch, Overcommit: s.storageOvercommit,
		Media: q.Media, Driver: Ceph, Replicas: q.Replicas, CreatedAt: now, UpdatedAt: now, Generation: 1}
	if row.Ceph, err = s.seal(row.ID, conf); err != nil {
		return nil, err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
			return err
		}
		return s.Permit.Set(ctx, tx, permit.StorageSet, row.ID, may)
	})
	if database.IsUnique(err) {
		return nil, retcode.InvalidParameter.Errorf("SetType %s is there already", q.SetType)
	}
	if err != nil {
		return nil, err
	}
	c.AddResource(row.ID)
	return &createStorageSetResponse{SetID: row.ID}, s.spread(ctx)
}

// spread makes changed sets known here, and soon to the hosts.
func (s *Service) spread(ctx context.Context) error {
	defer s.health.Signal()
	return s.reload(ctx)
}

// storageSetTx reads a storage set of the region: 14009.
func storageSetTx(ctx context.Context, tx bun.Tx, region, id string) (*storageSet, error) {
	row := new(storageSet)
	err := tx.NewSelect().Model(row).Where("id = ? AND region = ?", id, region).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.SetNotFound.Errorf("SetID %s", id)
	}
	return row, err
}

type updateStorageSetRequest struct {
	SetID      string      `validate:"required" doc:"storage set id"`
	HostIDs    []string    `doc:"members of Local sets: hosts join theirs by themselves"`
	CephConfig cephRequest `doc:"what is empty stays; the pool changes only while the set has no disks"`
	Media      string      `validate:"omitempty,oneof=HDD SSD NVMe" doc:"what disks are limited by"`
}

func (s *Service) updateStorageSet(ctx context.Context, c *action.Call, q *updateStorageSetRequest) (*action.Empty, error) {
	if len(q.HostIDs) > 0 {
		return nil, retcode.InvalidParameter.Errorf("HostIDs: hosts join storage sets by themselves")
	}
	c.AddResource(q.SetID)
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := storageSetTx(ctx, tx, c.Region, q.SetID)
		if err != nil {
			return err
		}
		asked, moves := q.CephConfig, false
		if len(asked.Monitors) > 0 || asked.Pool+asked.User+asked.Key+asked.ClusterID != "" {
			if row.Driver != Ceph {
				return retcode.InvalidParameter.Errorf("CephConfig: %s is no Ceph set", row.ID)
			}
			conf, err := s.unseal(*row)
			if err != nil {
				return err
			}
			pool := conf.Pool
			conf.over(asked)
			if err := conf.check(); err != nil {
				return err
			}
			if moves = conf.Pool != pool; moves && row.UsedGB > 0 {
				return retcode.InvalidParameter.Errorf("CephConfig.Pool: %s has disks in %s", row.ID, pool)
			}
			if row.Ceph, err = s.seal(row.ID, conf); err != nil {
				return err
			}
		}
		if q.Media != "" {
			row.Media = q.Media
		}
		row.UpdatedAt = s.Clock.Micros()
		// Disks take their room meanwhile, which is not ours to write; whoever has changed the row wins.
		write := tx.NewUpdate().Model(row).Column("ceph", "media", "updated_at").Set("generation = generation + 1").
			Where("id = ? AND generation = ?", row.ID, row.Generation)
		if moves {
			write = write.Where("used_gb = 0")
		}
		r, err := write.Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, retcode.SystemBusy.Errorf("%s is being changed by another request", row.ID))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &action.Empty{}, s.spread(ctx)
}

type aliasStorageSetRequest struct {
	SetType string `validate:"required" doc:"storage set type, from DescribeStorageType"`
	Alias   string `validate:"required" doc:"1-128 printable characters"`
}

func (s *Service) aliasStorageSet(ctx context.Context, c *action.Call, q *aliasStorageSetRequest) (*action.Empty, error) {
	name, err := alias(q.Alias)
	if err != nil {
		return nil, err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		var ids []string
		if err := tx.NewSelect().Model((*storageSet)(nil)).Column("id").Where("region = ? AND type = ?", c.Region, q.SetType).Scan(ctx, &ids); err != nil {
			return err
		}
		if len(ids) == 0 {
			return retcode.SetTypeNotFound.Errorf("SetType %q, DescribeStorageType lists them", q.SetType)
		}
		c.AddResource(ids...)
		_, err := tx.NewUpdate().Model((*storageSet)(nil)).Set("alias = ?, updated_at = ?", name, s.Clock.Micros()).Where("id IN (?)", bun.In(ids)).Exec(ctx)
		return err
	})
	return &action.Empty{}, err
}

type deleteStorageSetRequest struct {
	SetID string `validate:"required" doc:"storage set id"`
}

// deleteStorageSet forgets a set. What is in its pool stays there: golden images, which nothing leans on.
func (s *Service) deleteStorageSet(ctx context.Context, c *action.Call, q *deleteStorageSetRequest) (*action.Empty, error) {
	c.AddResource(q.SetID)
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := storageSetTx(ctx, tx, c.Region, q.SetID)
		if err != nil {
			return err
		}
		// Disks in the bin hold their room, too.
		r, err := tx.NewDelete().Model((*storageSet)(nil)).Where("id = ? AND driver <> ? AND used_gb = 0", row.ID, Local).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			if row.Driver == Local {
				return retcode.InvalidResourceState.Errorf("%s is made of the hosts' own disks", row.ID)
			}
			return retcode.InvalidResourceState.Errorf("%s has disks of %d GB, those in the recycle bin included", row.ID, row.UsedGB)
		}
		return s.Permit.Set(ctx, tx, permit.StorageSet, row.ID, permit.Permission{Mode: permit.All})
	})
	if err != nil {
		return nil, err
	}
	return &action.Empty{}, s.spread(ctx)
}

type describeStorageSetRequest struct {
	SetIDs  []string `doc:"storage set ids"`
	SetArch string   `doc:"architecture"`
	SetType string   `doc:"storage set type, from DescribeStorageType"`
	Offset  int      `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit   int      `default:"10" validate:"min=0,max=100" doc:"page length"`
	action.Tenant
}

type describeStorageSetResponse struct {
	Infos      []storageSetInfo
	TotalCount int
}

type storageSetInfo struct {
	SetID                     string
	SetType                   string
	SetAlias                  string
	SetArch                   string
	SetProvider               string `doc:"Local or Ceph"`
	Region                    string
	Redundancy                string     `doc:"None, or Replicas:N as the administrator said"`
	StorageCap                int64      `doc:"GB that disks may have together"`
	StorageUsed               int64      `doc:"GB that disks have together"`
	StoragePhysicUsed         int64      `doc:"GB of data, without copies"`
	StoragePhysicAvailable    int64      `doc:"GB of data that still fit"`
	StoragePhysicOther        int64      `doc:"GB used by something else, of Local sets"`
	StorageMaxOverCommitRatio float64    `doc:"StorageCap to what there is"`
	Cache                     string     `doc:"always empty"`
	Authorized                string     `doc:"All, or Listed: for chosen tenants"`
	VmSetList                 []boundSet `doc:"compute sets whose hosts reach it"`
	BoundVMSetList            []boundSet `doc:"compute sets whose machines have disks there"`
	SetBlockBackupRole        string     `doc:"always empty"`
	BlockBackupPeerSetID      string     `doc:"always empty"`
	BlockBackupStatus         struct{}   `doc:"always empty"`
	DOSMultisiteRole          string     `doc:"always empty"`
	CreateTime                int64
	UpdateTime                int64
}

type boundSet struct {
	SetID    string
	SetType  string
	SetAlias string
}

func (s *Service) describeStorageSet(ctx context.Context, c *action.Call, q *describeStorageSetRequest) (*describeStorageSetResponse, error) {
	r := s.DB.Reader()
	var rows []storageSet
	sel := s.visible(c, permit.StorageSet, r.NewSelect().Model(&rows))
	if len(q.SetIDs) > 0 {
		sel = sel.Where("id IN (?)", bun.In(q.SetIDs))
	}
	if q.SetArch != "" {
		sel = sel.Where("arch IN (?, '')", q.SetArch)
	}
	if q.SetType != "" {
		sel = sel.Where("type = ?", q.SetType)
	}
	n, err := sel.Offset(int64(q.Offset)).Limit(int64(max(1, q.Limit))).ScanAndCount(ctx)
	if err != nil {
		return nil, err
	}
	out := &describeStorageSetResponse{TotalCount: int(n), Infos: []storageSetInfo{}}
	if q.Limit == 0 || len(rows) == 0 {
		return out, nil
	}
	may, err := permit.Of(ctx, r, permit.StorageSet, setIDs(rows, func(r storageSet) string { return r.ID })...)
	if err != nil {
		return nil, err
	}
	var compute []computeSet
	if err := r.NewSelect().Model(&compute).Where("region = ?", c.Region).Order("type").Scan(ctx); err != nil {
		return nil, err
	}
	var bound []struct {
		Storage string `bun:"storage"`
		Compute string `bun:"compute"`
	}
	if err := r.NewRaw(`SELECT DISTINCT d.set_id AS storage, v.set_id AS compute FROM disk AS d JOIN vm AS v ON v.id = d.vm_id WHERE d.ended_at = 0 AND d.region = ?`,
		c.Region).Scan(ctx, &bound); err != nil {
		return nil, err
	}
	for i := range rows {
		row := &rows[i]
		info := storageSetInfo{SetID: row.ID, SetType: row.Type, SetAlias: row.Alias, SetArch: row.Arch, SetProvider: row.Driver, Region: row.Region,
			Redundancy: "None", StorageMaxOverCommitRatio: float64(row.Overcommit) / 100, Authorized: permission(may[row.ID]),
			CreateTime: row.CreatedAt / 1e6, UpdateTime: row.UpdatedAt / 1e6}
		if row.Driver == Ceph && row.Replicas > 0 {
			info.Redundancy = "Replicas:" + strconv.Itoa(row.Replicas)
		}
		reach := s.measure(row, &info)
		for _, set := range compute {
			one := boundSet{set.ID, set.Type, set.Alias}
			if reach[set.ID] {
				info.VmSetList = append(info.VmSetList, one)
			}
			for _, b := range bound {
				if b.Storage == row.ID && b.Compute == set.ID {
					info.BoundVMSetList = append(info.BoundVMSetList, one)
				}
			}
		}
		info.VmSetList, info.BoundVMSetList = slices.Concat([]boundSet{}, info.VmSetList), slices.Concat([]boundSet{}, info.BoundVMSetList)
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

// measure fills in what hosts say of a set, and answers the compute sets whose hosts reach it.
func (s *Service) measure(row *storageSet, info *storageSetInfo) map[string]bool {
	reach := map[string]bool{}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if row.Driver == Ceph {
		info.StorageCap, info.StorageUsed = row.TotalGB, row.UsedGB
		for _, m := range s.order {
			if m.alive(row.ID) {
				reach[m.row.ComputeSet] = true
			}
		}
		if st := s.statusOf(row.ID); st != nil {
			info.StoragePhysicUsed, info.StoragePhysicAvailable = int64(st.UsedBytes>>30), int64(st.AvailableBytes>>30)
		}
		return reach
	}
	for _, m := range s.order {
		if m.row.StorageSet != row.ID {
			continue
		}
		info.StorageCap, info.StorageUsed = info.StorageCap+m.row.DiskTotal, info.StorageUsed+m.row.DiskUsed
		if !m.row.Down {
			reach[m.row.ComputeSet] = true
			info.StoragePhysicAvailable += m.diskFree
			info.StoragePhysicUsed += m.diskSize - m.diskFree
		}
	}
	return reach
}
