package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// The sets made at the first start. Their types are what tenants name.
const (
	firstComputeSet  = "set-01"
	firstStorageSet  = "storage-set-01"
	FirstVMType      = "ComputeSetA"
	FirstStorageType = "StorageSetA"
)

// Set is a compute or storage set. Its Type is what tenants name (VMType, SetType).
type Set struct {
	ID     string
	Region string
	Type   string
	Alias  string
	Arch   string
	Media  string // of a storage set: HDD, SSD, NVMe
	Shared bool   // a storage set whose disks any host opens that reaches its pool
}

// Drivers of storage sets.
const (
	Local = "Local" // each disk is on one host
	Ceph  = "Ceph"  // disks are in a pool of a Ceph cluster
)

// Media of storage sets.
const (
	HDD = "HDD"
	SSD = "SSD"
)

// HostSeed names a host that exists without having joined: a simulated one.
type HostSeed struct{ ID, Name string }

// Bootstrap makes the first sets of a region when there are none, and the given hosts in them.
// storageOvercommit is in percent of the disks, of this and of later storage sets.
func (s *Service) Bootstrap(ctx context.Context, region, arch string, storageOvercommit int, hosts []HostSeed) error {
	now := s.Clock.Micros()
	s.storageOvercommit = int64(storageOvercommit)
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		made, err := tx.NewInsert().Model(&computeSet{ID: firstComputeSet, Region: region, Type: FirstVMType, Alias: "General", Arch: arch,
			Overcommit: 100, CreatedAt: now, UpdatedAt: now}).On("CONFLICT DO NOTHING").Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := made.RowsAffected(); err != nil {
			return err
		} else if n > 0 {
			if err := s.Catalog.OfferVM(ctx, tx, region, FirstVMType); err != nil {
				return err
			}
		}
		if _, err := tx.NewInsert().Model(&storageSet{ID: firstStorageSet, Region: region, Type: FirstStorageType, Alias: "Local", Arch: arch, Media: SSD, Driver: Local,
			Overcommit: int64(storageOvercommit), CreatedAt: now, UpdatedAt: now}).On("CONFLICT DO NOTHING").Exec(ctx); err != nil {
			return err
		}
		for len(hosts) > 0 {
			n := min(len(hosts), 500)
			rows := make([]hostRow, n)
			for i, h := range hosts[:n] {
				rows[i] = hostRow{ID: h.ID, Region: region, Name: h.Name, ComputeSet: firstComputeSet, StorageSet: firstStorageSet,
					Arch: arch, CreatedAt: now, UpdatedAt: now}
			}
			if _, err := tx.NewInsert().Model(&rows).On("CONFLICT DO NOTHING").Exec(ctx); err != nil {
				return err
			}
			hosts = hosts[n:]
		}
		return nil
	})
}

// ComputeSet returns the set of a VMType that the tenant may use: 14000 unknown, 14001 not permitted.
func (s *Service) ComputeSet(ctx context.Context, company int64, region, vmType string) (*Set, error) {
	var row computeSet
	r := s.DB.Reader()
	err := database.One(ctx, r, r.NewSelect().Model(&row).Where("region = ? AND type = ?", region, vmType), &row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.SetTypeNotFound.Errorf("VMType %q, DescribeVMType lists them", vmType)
	}
	if err != nil {
		return nil, err
	}
	if ok, err := permit.Allowed(ctx, r, permit.ComputeSet, row.ID, company); err != nil || !ok {
		return nil, cmpErr(err, retcode.NoComputeSetPermission.Errorf("VMType %q", vmType))
	}
	return &Set{ID: row.ID, Region: row.Region, Type: row.Type, Alias: row.Alias, Arch: row.Arch}, nil
}

// VMTypeNames are what people call the VMTypes of a region.
func (s *Service) VMTypeNames(ctx context.Context, region string) (map[string]string, error) {
	rows, err := database.Find[computeSet](ctx, s.DB.Reader(), "WHERE region = ?", region)
	names := make(map[string]string, len(rows))
	for _, row := range rows {
		names[row.Type] = row.Alias
	}
	return names, err
}

// StorageSet returns the set of a storage type that the tenant may use: 14000 unknown, 14002 not permitted.
func (s *Service) StorageSet(ctx context.Context, company int64, region, setType string) (*Set, error) {
	var row storageSet
	r := s.DB.Reader()
	err := database.One(ctx, r, r.NewSelect().Model(&row).Where("region = ? AND type = ?", region, setType), &row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.SetTypeNotFound.Errorf("storage type %q, DescribeStorageType lists them", setType)
	}
	if err != nil {
		return nil, err
	}
	if ok, err := permit.Allowed(ctx, r, permit.StorageSet, row.ID, company); err != nil || !ok {
		return nil, cmpErr(err, retcode.NoStorageSetPermission.Errorf("storage type %q", setType))
	}
	return row.set(), nil
}

// cmpErr is err, or refusal without one.
func cmpErr(err error, refusal *retcode.Error) error {
	if err != nil {
		return err
	}
	return refusal
}

// PermitKinds says of which resources administrators choose the users.
func (s *Service) PermitKinds() []permit.Kind {
	kind := func(name, table, users string) permit.Kind {
		return permit.Kind{Name: name, Check: func(ctx context.Context, idb bun.IDB, region, id string) error {
			found, err := idb.NewSelect().TableExpr("?", bun.Ident(table)).Where("id = ? AND region = ?", id, region).Exists(ctx)
			if err == nil && !found {
				err = retcode.SetNotFound.Errorf("set %s", id)
			}
			return err
		}, Users: func(ctx context.Context, idb bun.IDB, id string) (companies []int64, err error) {
			return companies, idb.NewRaw(users, id).Scan(ctx, &companies)
		}}
	}
	return []permit.Kind{
		kind(permit.ComputeSet, "compute_set", `SELECT DISTINCT v.company FROM vm AS v JOIN compute_set AS s ON s.region = v.region AND s.type = v.vm_type
			WHERE s.id = ? AND v.state NOT IN ('Terminated', 'Failed') ORDER BY v.company`),
		kind(permit.StorageSet, "storage_set", `SELECT DISTINCT d.company FROM disk AS d JOIN storage_set AS s ON s.region = d.region AND s.type = d.set_type
			WHERE s.id = ? AND d.state NOT IN ('Released', 'Failed') ORDER BY d.company`),
	}
}

// Words for who may use a set.
const (
	forAll    = "All"
	forListed = "Listed"
)

type describeTypesRequest struct{ action.Tenant }

type vmTypeInfo struct {
	Region      string
	VMType      string
	VMTypeAlias string
	SetArch     string
	Permission  string `doc:"All, or Listed: for chosen tenants"`
	Zone        string
}

type describeVMTypeResponse struct {
	TotalCount int
	Infos      []vmTypeInfo
}

func (s *Service) describeVMType(ctx context.Context, c *action.Call, _ *describeTypesRequest) (*describeVMTypeResponse, error) {
	var rows []computeSet
	if err := s.visible(c, permit.ComputeSet, s.DB.Reader().NewSelect().Model(&rows)).Scan(ctx); err != nil {
		return nil, err
	}
	may, err := permit.Of(ctx, s.DB.Reader(), permit.ComputeSet, setIDs(rows, func(r computeSet) string { return r.ID })...)
	if err != nil {
		return nil, err
	}
	r := &describeVMTypeResponse{TotalCount: len(rows)}
	for _, row := range rows {
		r.Infos = append(r.Infos, vmTypeInfo{Region: row.Region, VMType: row.Type, VMTypeAlias: row.Alias, SetArch: row.Arch, Permission: permission(may[row.ID])})
	}
	return r, nil
}

type storageTypeInfo struct {
	Region           string
	StorageType      string
	StorageTypeAlias string
	SetArch          string
	Permission       string `doc:"All, or Listed: for chosen tenants"`
	Zone             string
}

type describeStorageTypeResponse struct {
	Infos      []storageTypeInfo
	TotalCount int
}

func (s *Service) describeStorageType(ctx context.Context, c *action.Call, _ *describeTypesRequest) (*describeStorageTypeResponse, error) {
	var rows []storageSet
	if err := s.visible(c, permit.StorageSet, s.DB.Reader().NewSelect().Model(&rows)).Scan(ctx); err != nil {
		return nil, err
	}
	may, err := permit.Of(ctx, s.DB.Reader(), permit.StorageSet, setIDs(rows, func(r storageSet) string { return r.ID })...)
	if err != nil {
		return nil, err
	}
	r := &describeStorageTypeResponse{TotalCount: len(rows)}
	for _, row := range rows {
		r.Infos = append(r.Infos, storageTypeInfo{Region: row.Region, StorageType: row.Type, StorageTypeAlias: row.Alias, SetArch: row.Arch, Permission: permission(may[row.ID])})
	}
	return r, nil
}

// visible narrows a list of sets down to those of the region that the tenant may use; an
// administrator who named no tenant sees all.
func (s *Service) visible(c *action.Call, kind string, q *bun.SelectQuery) *bun.SelectQuery {
	return permit.Narrow(q.Where("region = ?", c.Region).Order("type"), kind, "id", c.Company)
}

func setIDs[T any](rows []T, of func(T) string) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = of(r)
	}
	return out
}

func permission(p permit.Permission) string {
	if p.Mode == permit.All {
		return forAll
	}
	return forListed
}

// Arch names an architecture as hosts and images do.
func Arch(goarch string) (string, error) {
	switch strings.ToLower(goarch) {
	case "amd64", "x86_64":
		return "x86_64", nil
	case "arm64", "aarch64":
		return "aarch64", nil
	}
	return "", fmt.Errorf("fleet: architecture %s is not supported", goarch)
}
