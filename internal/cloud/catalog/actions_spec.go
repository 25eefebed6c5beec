package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) specActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeProductSpecification", Module: "config", Summary: "List product specifications."}, s.describeSpecs),
		action.Define(action.Spec{Name: "CreateProductSpecification", Module: "config", Admin: true, Mutates: true,
			Summary: "Add a product specification."}, s.createSpec),
		action.Define(action.Spec{Name: "UpdateProductSpecification", Module: "config", Admin: true, Mutates: true,
			Summary: "Change the value of a product specification."}, s.updateSpec),
		action.Define(action.Spec{Name: "DeleteProductSpecification", Module: "config", Region: action.RegionNone, Admin: true, Mutates: true,
			Summary: "Delete a product specification."}, s.deleteSpec),
		action.Define(action.Spec{Name: "DescribeProductSpecificationTemplate", Module: "config", Region: action.RegionNone,
			Summary: "List specification templates."}, s.describeTemplates),
	}
}

// template is a kind of specification.
type template struct {
	ID, Name, Product, Resource string
	Scope                       ScopeKind
	Kind                        string // of the range; empty: pairs of CPU and memory
	Type, Format, Allowed, Unit string
	EN, ZH                      string
}

var templates = []template{
	{"template-cpu-memory", "CPUMemory", "VM", "VM", ComputeScope, "", "Pair", "{CPU}C{Memory}G",
		"CPU: 1, or even up to 240; Memory: 1, or even up to 1024", "core, GB", "CPU and memory of a virtual machine", "虚拟机的 CPU 与内存"},
	{"template-boot-disk", "BootDiskSpace", "DISK", "BOOT_DISK", StorageScope, bootDisk, "Range", "{Minimum}-{Maximum}", rangeText(bootDisk), "GB",
		"Capacity of system disks", "系统盘容量范围"},
	{"template-disk", "DiskSpace", "DISK", "DISK", StorageScope, dataDisk, "Range", "{Minimum}-{Maximum}", rangeText(dataDisk), "GB",
		"Capacity of data disks", "数据盘容量范围"},
	{"template-bandwidth", "Bandwidth", "EIP", "EIP", SegmentScope, eip, "Range", "{Minimum}-{Maximum}", rangeText(eip), "Mbps",
		"Bandwidth of public addresses", "外网 IP 带宽范围"},
}

func rangeText(kind string) string {
	return fmt.Sprintf("%d-%d", defaultRanges[kind][0], defaultRanges[kind][1])
}

type describeTemplatesRequest struct {
	ProductType       string `doc:"VM, DISK, EIP"`
	ResourceType      string `doc:"VM, BOOT_DISK, DISK, EIP"`
	SpecificationName string `doc:"CPUMemory, BootDiskSpace, DiskSpace, Bandwidth"`
	action.Page
}

type describeTemplatesResponse struct {
	Infos      []templateInfo
	TotalCount int
}

type templateInfo struct {
	TemplateID        string
	SpecificationName string
	ProductType       string
	ResourceType      string
	SetClassification string `doc:"compute set, storage set or segment"`
	ValueType         string `doc:"Pair or Range"`
	ValueFormat       string
	AllowedValues     string
	Unit              string
	Description       string
}

func (s *Service) describeTemplates(_ context.Context, c *action.Call, q *describeTemplatesRequest) (*describeTemplatesResponse, error) {
	r := &describeTemplatesResponse{}
	for _, t := range templates {
		if q.ProductType != "" && q.ProductType != t.Product || q.ResourceType != "" && q.ResourceType != t.Resource ||
			q.SpecificationName != "" && q.SpecificationName != t.Name {
			continue
		}
		info := templateInfo{t.ID, t.Name, t.Product, t.Resource, string(t.Scope), t.Type, t.Format, t.Allowed, t.Unit, t.ZH}
		if c.Language == "en" {
			info.Description = t.EN
		}
		r.Infos = append(r.Infos, info)
	}
	r.TotalCount = len(r.Infos)
	r.Infos = cut(r.Infos, q.Offset, q.Limit)
	return r, nil
}

type describeSpecsRequest struct {
	ProductTypes      []string `doc:"VM, DISK, EIP"`
	ResourceType      string   `doc:"VM, BOOT_DISK, DISK, EIP"`
	SetTypes          []string `doc:"compute or storage set types, segment ids"`
	SpecificationIDs  []string `doc:"specification ids"`
	SpecificationName string   `doc:"CPUMemory, BootDiskSpace, DiskSpace, Bandwidth"`
	Keyword           string   `doc:"part of the name, value or id"`
	action.Tenant
	Offset int `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit  int `default:"500" validate:"min=0,max=500" doc:"page length"`
}

type describeSpecsResponse struct {
	Infos      []specInfo
	TotalCount int
}

type specInfo struct {
	SpecificationID   string
	SpecificationName string
	Region            string
	ProductType       string
	ResourceType      string
	SetType           string
	Value             string `doc:"as the template's ValueFormat"`
	Default           string `doc:"Yes: it cannot be deleted"`
	Dimension         specDimension
	CreateTime        int64
	UpdateTime        int64
}

type specDimension struct {
	DimensionName  string
	DimensionValue string
}

// describeSpecs lists pairs as they are kept, and a range for every set and segment.
func (s *Service) describeSpecs(ctx context.Context, c *action.Call, q *describeSpecsRequest) (*describeSpecsResponse, error) {
	scopes, err := s.scopes(ctx, c.Region, c.Company)
	if err != nil {
		return nil, err
	}
	var pairs []vmSpec
	if err := s.DB.Reader().NewSelect().Model(&pairs).Where("region = ?", c.Region).Order("vm_type", "cpus", "memory_mib").Scan(ctx); err != nil {
		return nil, err
	}
	var ranges []rangeSpec
	if err := s.DB.Reader().NewSelect().Model(&ranges).Where("region = ?", c.Region).Scan(ctx); err != nil {
		return nil, err
	}
	var all []specInfo
	for _, t := range templates {
		for _, scope := range scopes {
			if scope.Kind != t.Scope {
				continue
			}
			info := specInfo{SpecificationName: t.Name, Region: c.Region, ProductType: t.Product, ResourceType: t.Resource, SetType: scope.ID,
				Dimension: specDimension{string(scope.Kind), scope.Name}}
			if t.Kind == "" {
				for _, p := range pairs {
					if p.VMType == scope.ID {
						info.SpecificationID, info.Value, info.Default = p.ID, p.value(), yesNo(p.IsDefault)
						info.CreateTime, info.UpdateTime = p.CreatedAt/1e6, p.UpdatedAt/1e6
						all = append(all, info)
					}
				}
				continue
			}
			info.SpecificationID, info.Value, info.Default = t.Kind+":"+scope.ID, rangeText(t.Kind), yesNo(true)
			for _, r := range ranges {
				if r.Kind == t.Kind && r.Scope == scope.ID {
					info.Value, info.UpdateTime = fmt.Sprintf("%d-%d", r.Minimum, r.Maximum), r.UpdatedAt/1e6
				}
			}
			all = append(all, info)
		}
	}
	word := strings.ToLower(q.Keyword)
	all = slices.DeleteFunc(all, func(i specInfo) bool {
		return len(q.ProductTypes) > 0 && !slices.Contains(q.ProductTypes, i.ProductType) || q.ResourceType != "" && q.ResourceType != i.ResourceType ||
			len(q.SetTypes) > 0 && !slices.Contains(q.SetTypes, i.SetType) || len(q.SpecificationIDs) > 0 && !slices.Contains(q.SpecificationIDs, i.SpecificationID) ||
			q.SpecificationName != "" && q.SpecificationName != i.SpecificationName ||
			!strings.Contains(strings.ToLower(i.SpecificationName+"\n"+i.Value+"\n"+i.SpecificationID), word)
	})
	return &describeSpecsResponse{Infos: cut(all, q.Offset, q.Limit), TotalCount: len(all)}, nil
}

func yesNo(yes bool) string {
	if yes {
		return "Yes"
	}
	return "No"
}

// value of a pair as people write it.
func (v vmSpec) value() string { return fmt.Sprintf("%dC%dG", v.CPUs, v.MemoryMiB/1024) }

var pairValue = regexp.MustCompile(`^([1-9][0-9]{0,3})C([1-9][0-9]{0,4})G$`)

// parsePair reads a CPU and memory pair: 4 for what is none, 113 for sizes that are not allowed.
func parsePair(value string) (cpus, memoryMiB int, err error) {
	m := pairValue.FindStringSubmatch(value)
	if m == nil {
		return 0, 0, retcode.InvalidParameterFormat.Errorf("Value must be like %s", "2C4G")
	}
	cpus, _ = strconv.Atoi(m[1])
	gb, _ := strconv.Atoi(m[2])
	if cpus > 1 && cpus%2 != 0 || cpus > 240 || gb > 1 && gb%2 != 0 || gb > 1024 {
		return 0, 0, retcode.InvalidParameter.Errorf("CPU is 1 or an even number up to 240, memory 1 or an even number of GB up to 1024")
	}
	return cpus, gb * 1024, nil
}

var rangeValue = regexp.MustCompile(`^([0-9]{1,6})-([0-9]{1,6})$`)

// parseRange reads a range within the widest one of its kind: 4 for what is none, 113 outside.
func parseRange(kind, value string) (least, most int, err error) {
	m := rangeValue.FindStringSubmatch(value)
	if m == nil {
		return 0, 0, retcode.InvalidParameterFormat.Errorf("Value must be like %s", rangeText(kind))
	}
	least, _ = strconv.Atoi(m[1])
	most, _ = strconv.Atoi(m[2])
	if widest := defaultRanges[kind]; least < widest[0] || most > widest[1] || least > most {
		return 0, 0, retcode.InvalidParameter.Errorf("Value must be a range within %s", rangeText(kind))
	}
	return least, most, nil
}

type createSpecRequest struct {
	ResourceType      string `validate:"required" doc:"VM"`
	SetType           string `validate:"required" doc:"compute set type"`
	SpecificationName string `validate:"required" doc:"CPUMemory; ranges of disks and bandwidths come with their sets"`
	Value             string `validate:"required" doc:"cores and GB, like 2C4G"`
}

type createSpecResponse struct{ SpecificationID string }

func (s *Service) createSpec(ctx context.Context, c *action.Call, q *createSpecRequest) (*createSpecResponse, error) {
	i := slices.IndexFunc(templates, func(t template) bool { return t.Name == q.SpecificationName && t.Resource == q.ResourceType })
	if i < 0 {
		return nil, retcode.SpecificationTemplateNotFound.Errorf("SpecificationName %q of ResourceType %q", q.SpecificationName, q.ResourceType)
	}
	if templates[i].Kind != "" {
		return nil, retcode.InvalidParameter.Errorf("every set has its range of %s, see UpdateProductSpecification", q.SpecificationName)
	}
	cpus, memory, err := parsePair(q.Value)
	if err != nil {
		return nil, err
	}
	scopes, err := s.scopes(ctx, c.Region, 0)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(scopes, func(sc Scope) bool { return sc.Kind == ComputeScope && sc.ID == q.SetType }) {
		return nil, retcode.SetTypeNotFound.Errorf("VMType %q, DescribeVMType lists them", q.SetType)
	}
	now := s.Clock.Micros()
	row := vmSpec{ID: database.NewID("spec"), Region: c.Region, VMType: q.SetType, CPUs: cpus, MemoryMiB: memory, CreatedAt: now, UpdatedAt: now}
	c.AddResource(row.ID)
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&row).Exec(ctx)
		return err
	})
	return &createSpecResponse{row.ID}, duplicated(err, row)
}

// duplicated turns the refusal of a second row of a pair into its code (17007).
func duplicated(err error, row vmSpec) error {
	if database.IsUnique(err) {
		return retcode.SpecificationDuplicated.Errorf("%s of %s", row.value(), row.VMType)
	}
	return err
}

type updateSpecRequest struct {
	SpecificationID string `validate:"required" doc:"specification id"`
	Value           string `validate:"required" doc:"a pair like 2C4G, or a range like 10-32000"`
}

func (s *Service) updateSpec(ctx context.Context, c *action.Call, q *updateSpecRequest) (*action.Empty, error) {
	c.AddResource(q.SpecificationID)
	if kind, scope, found := strings.Cut(q.SpecificationID, ":"); found {
		return nil, s.updateRange(ctx, c.Region, kind, scope, q)
	}
	row, err := s.specByID(ctx, s.DB.Reader(), q.SpecificationID)
	if err == nil && row.Region != c.Region {
		err = unknownSpec(q.SpecificationID)
	}
	if err != nil {
		return nil, err
	}
	if row.CPUs, row.MemoryMiB, err = parsePair(q.Value); err != nil {
		return nil, err
	}
	row.UpdatedAt = s.Clock.Micros()
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model(&row).Column("cpus", "memory_mib", "updated_at").WherePK().Exec(ctx)
		return err
	})
	return nil, duplicated(err, row)
}

func (s *Service) updateRange(ctx context.Context, region, kind, scope string, q *updateSpecRequest) error {
	scopes, err := s.scopes(ctx, region, 0)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(templates, func(t template) bool { return t.Kind == kind && kind != "" })
	if i < 0 || !slices.ContainsFunc(scopes, func(sc Scope) bool { return sc.Kind == templates[i].Scope && sc.ID == scope }) {
		return unknownSpec(q.SpecificationID)
	}
	least, most, err := parseRange(kind, q.Value)
	if err != nil {
		return err
	}
	row := rangeSpec{Region: region, Kind: kind, Scope: scope, Minimum: least, Maximum: most, UpdatedAt: s.Clock.Micros()}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&row).On("CONFLICT (region, kind, scope) DO UPDATE").Set("minimum = EXCLUDED.minimum").
			Set("maximum = EXCLUDED.maximum").Set("updated_at = EXCLUDED.updated_at").Set("generation = range_spec.generation + 1").Exec(ctx)
		return err
	})
}

type deleteSpecRequest struct {
	SpecificationID string `validate:"required" doc:"specification id"`
}

// deleteSpec leaves machines of the size alone.
func (s *Service) deleteSpec(ctx context.Context, c *action.Call, q *deleteSpecRequest) (*action.Empty, error) {
	c.AddResource(q.SpecificationID)
	if strings.Contains(q.SpecificationID, ":") {
		return nil, retcode.InvalidParameter.Errorf("%s comes with its set and cannot be deleted", q.SpecificationID)
	}
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, err := s.specByID(ctx, tx, q.SpecificationID)
		if err != nil {
			return err
		}
		if row.IsDefault {
			return retcode.InvalidParameter.Errorf("%s is the default specification of %s and cannot be deleted", row.ID, row.VMType)
		}
		_, err = tx.NewDelete().Model(&row).WherePK().Exec(ctx)
		return err
	})
}

func (s *Service) specByID(ctx context.Context, db bun.IDB, id string) (row vmSpec, err error) {
	err = db.NewSelect().Model(&row).Where("id = ?", id).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = unknownSpec(id)
	}
	return row, err
}

func unknownSpec(id string) error {
	return retcode.SpecificationNotFound.Errorf("SpecificationID %s", id)
}
