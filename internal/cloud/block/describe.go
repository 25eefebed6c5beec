package block

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type describeDiskRequest struct {
	DiskIDs          []string `doc:"disk ids"`
	Keyword          string   `doc:"part of name or id"`
	ProjectIDs       []string `doc:"project group ids"`
	AttachResourceID string   `doc:"disks of a virtual machine"`
	DiskType         string   `validate:"omitempty,oneof=Boot Data" doc:"use"`
	SetTypes         []string `doc:"storage set types"`
	Statuses         []string `doc:"states"`
	ShareAble        *bool    `doc:"several machines may have it"`
	Encrypted        *bool    `doc:"it has a key"`
	Unattached       *bool    `doc:"no machine has it"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
	action.Page
}

type describeDiskResponse struct {
	TotalCount int
	Infos      []diskInfo
}

type diskInfo struct {
	Region             string
	Zone               string
	CompanyID          int64
	Email              string
	ProjectID          string
	ProjectName        string
	DiskID             string
	Name               string
	Remark             string
	DiskType           string
	DiskStatus         string
	Reason             string
	Size               int `doc:"GB"`
	Drive              string
	SetType            string
	SetAlias           string
	SetArch            string
	SetID              string
	Media              string `doc:"HDD, SSD or NVMe"`
	ChargeType         string
	AutoRenew          bool
	CreateTime         int64
	ExpireTime         int64 `doc:"0: never"`
	AttachResourceID   string
	AttachResourceName string
	AttachResourceType string
	AttachInfos        []attachInfo
	ShareAble          bool
	Encrypted          bool
	DisableQoS         bool `doc:"limits are switched off in this region"`
	IOPS               int  `doc:"of reads, or of all; 0: no limit"`
	Bandwidth          int  `doc:"MB/s, likewise"`
	DiskReadIOPS       int
	DiskWriteIOPS      int
	DiskReadBandwidth  int `doc:"MB/s"`
	DiskWriteBandwidth int `doc:"MB/s"`
	SnapshotCount      int
	SrcSnapshotID      string
	Tags               []tag.Info
}

type attachInfo struct {
	ResourceID   string
	ResourceName string
	Device       string
}

func (s *Service) describeDisk(ctx context.Context, c *action.Call, q *describeDiskRequest) (*describeDiskResponse, error) {
	for _, st := range q.Statuses {
		if !slices.Contains(life.States, st) {
			return nil, retcode.InvalidParameter.Errorf("Statuses: %s is no state of a disk", st)
		}
	}
	r := s.DB.Reader()
	var rows []Disk
	sel := identity.Own(r.NewSelect().Model(&rows).Where("hidden = ?", false), c.Scope())
	for _, f := range []struct {
		column string
		values []string
	}{{"id", q.DiskIDs}, {"project", q.ProjectIDs}, {"set_type", q.SetTypes}, {"state", q.Statuses}} {
		if len(f.values) > 0 {
			sel = sel.Where("? IN (?)", bun.Ident(f.column), bun.In(f.values))
		}
	}
	if q.DiskType != "" {
		sel = sel.Where("role = ?", q.DiskType)
	}
	shared := func() *bun.SelectQuery { return r.NewSelect().Model((*share)(nil)).Column("disk_id") }
	if q.AttachResourceID != "" {
		sel = sel.Where("(vm_id = ? OR id IN (?))", q.AttachResourceID, shared().Where("vm_id = ?", q.AttachResourceID))
	}
	if q.ShareAble != nil {
		sel = sel.Where("shareable = ?", *q.ShareAble)
	}
	if q.Encrypted != nil {
		sel = sel.Where("(secret <> '') = ?", *q.Encrypted)
	}
	if q.Unattached != nil {
		sel = sel.Where("(vm_id = '' AND id NOT IN (?)) = ?", shared(), *q.Unattached)
	}
	sel, err := tag.Narrow(sel, "disk.id", q.TagKeyValuePairs)
	if err != nil {
		return nil, err
	}
	n, err := database.Matching(sel, q.Keyword, "name", "id").OrderExpr("created_at DESC, id DESC").Offset(int64(q.Offset)).Limit(int64(max(1, q.Limit))).ScanAndCount(ctx)
	if err != nil {
		return nil, err
	}
	if q.Limit == 0 {
		rows = nil
	}
	out := &describeDiskResponse{TotalCount: int(n), Infos: []diskInfo{}}
	if len(rows) > 0 {
		out.Infos, err = s.describe(ctx, c, rows)
	}
	return out, err
}

// describe turns a page of rows into what clients see, with a query for each kind of thing that belongs to them.
func (s *Service) describe(ctx context.Context, c *action.Call, rows []Disk) ([]diskInfo, error) {
	r := s.DB.Reader()
	ids, groups, companies, vms := make([]string, len(rows)), make([]string, len(rows)), []int64{}, []string{}
	for i, d := range rows {
		ids[i], groups[i] = d.ID, d.Project
		if !slices.Contains(companies, d.Company) {
			companies = append(companies, d.Company)
		}
		if d.VMID != "" {
			vms = append(vms, d.VMID)
		}
	}
	shares, err := sharesOf(ctx, r, ids...)
	if err != nil {
		return nil, err
	}
	for _, list := range shares {
		for _, sh := range list {
			vms = append(vms, sh.VMID)
		}
	}
	names, err := s.machines.Describe(ctx, vms)
	if err != nil {
		return nil, err
	}
	emails, err := s.Identity.Emails(ctx, companies)
	if err != nil {
		return nil, err
	}
	projects, err := s.Identity.ProjectNames(ctx, groups)
	if err != nil {
		return nil, err
	}
	sets, err := s.sets(ctx)
	if err != nil {
		return nil, err
	}
	var counts []struct {
		DiskID string `bun:"disk_id"`
		N      int    `bun:"n"`
	}
	if err := r.NewSelect().Model((*Snapshot)(nil)).Column("disk_id").ColumnExpr("COUNT(*) AS n").Where("disk_id IN (?) AND ended_at = 0", bun.In(ids)).
		Group("disk_id").Scan(ctx, &counts); err != nil {
		return nil, err
	}
	snapshots := map[string]int{}
	for _, n := range counts {
		snapshots[n.DiskID] = n.N
	}
	tags, err := tag.Of(ctx, r, ids...)
	if err != nil {
		return nil, err
	}
	out := make([]diskInfo, 0, len(rows))
	for i := range rows {
		d := &rows[i]
		set, limited := sets[d.SetID], s.Catalog.Config.DiskQoS(ctx, d.Region)
		info := diskInfo{
			Region: d.Region, CompanyID: d.Company, Email: emails[d.Company], ProjectID: d.Project, ProjectName: projects[d.Project], DiskID: d.ID,
			Name: d.Name, Remark: d.Remark, DiskType: d.Role, DiskStatus: d.State, Reason: d.Why(c.Language), Size: d.SizeGB, Drive: d.Target, SetType: d.SetType,
			SetAlias: set.Alias, SetArch: set.Arch, SetID: d.SetID, Media: set.Media, ChargeType: d.ChargeType, AutoRenew: d.AutoRenew,
			CreateTime: seconds(d.CreatedAt), ExpireTime: seconds(d.ExpireAt), AttachInfos: []attachInfo{}, ShareAble: d.Shareable,
			Encrypted: d.Secret != "", DisableQoS: !limited, SnapshotCount: snapshots[d.ID], SrcSnapshotID: d.SrcSnapshot, Tags: tags[d.ID],
		}
		if limited {
			l := d.effective(set.Media)
			info.IOPS, info.Bandwidth = max(l.ReadIOPS, l.TotalIOPS), max(l.ReadMBps, l.TotalMBps)
			info.DiskReadIOPS, info.DiskWriteIOPS, info.DiskReadBandwidth, info.DiskWriteBandwidth = l.ReadIOPS, l.WriteIOPS, l.ReadMBps, l.WriteMBps
		}
		if d.VMID != "" {
			info.AttachInfos = append(info.AttachInfos, attachInfo{d.VMID, names[d.VMID].Name, d.Target})
		}
		for _, sh := range shares[d.ID] {
			info.AttachInfos = append(info.AttachInfos, attachInfo{sh.VMID, names[sh.VMID].Name, sh.Target})
		}
		if len(info.AttachInfos) > 0 {
			first := info.AttachInfos[0]
			info.AttachResourceID, info.AttachResourceName, info.AttachResourceType, info.Drive = first.ResourceID, first.ResourceName, "VM", first.Device
		}
		out = append(out, info)
	}
	return out, nil
}

// seconds of a time in microseconds.
func seconds(micros int64) int64 { return micros / 1e6 }

type describeSnapshotRequest struct {
	SnapshotIDs []string `doc:"snapshot ids"`
	DiskID      string   `doc:"snapshots of a disk"`
	Keyword     string   `doc:"part of name or id"`
	ProjectIDs  []string `doc:"project group ids"`
	action.Tenant
	action.Page
}

type describeSnapshotResponse struct {
	TotalCount int
	Infos      []snapshotInfo
}

type snapshotInfo struct {
	Region                 string
	Zone                   string
	CompanyID              int64
	Email                  string
	ProjectID              string
	ProjectName            string
	SnapshotID             string
	Name                   string
	Remark                 string
	Type                   string
	SnapshotStatus         string
	Reason                 string
	SnapshotSize           int `doc:"GB of the disk when it was taken"`
	Encrypted              bool
	Frozen                 bool `doc:"the guest's file systems were at rest"`
	DiskID                 string
	DiskType               string
	DiskAttachResourceID   string
	DiskAttachResourceType string
	CreateTime             int64
	Tags                   []tag.Info
}

func (s *Service) describeSnapshot(ctx context.Context, c *action.Call, q *describeSnapshotRequest) (*describeSnapshotResponse, error) {
	r := s.DB.Reader()
	var rows []Snapshot
	sel := identity.Own(r.NewSelect().Model(&rows).Where("ended_at = 0"), c.Scope())
	for _, f := range []struct {
		column string
		values []string
	}{{"id", q.SnapshotIDs}, {"project", q.ProjectIDs}} {
		if len(f.values) > 0 {
			sel = sel.Where("? IN (?)", bun.Ident(f.column), bun.In(f.values))
		}
	}
	if q.DiskID != "" {
		sel = sel.Where("disk_id = ?", q.DiskID)
	}
	n, err := database.Matching(sel, q.Keyword, "name", "id").OrderExpr("created_at DESC, id DESC").Offset(int64(q.Offset)).Limit(int64(max(1, q.Limit))).ScanAndCount(ctx)
	if err != nil {
		return nil, err
	}
	out := &describeSnapshotResponse{TotalCount: int(n), Infos: []snapshotInfo{}}
	if q.Limit == 0 || len(rows) == 0 {
		return out, nil
	}
	ids, disks, groups, companies := []string{}, []string{}, []string{}, []int64{}
	for _, n := range rows {
		ids, disks, groups = append(ids, n.ID), append(disks, n.DiskID), append(groups, n.Project)
		if !slices.Contains(companies, n.Company) {
			companies = append(companies, n.Company)
		}
	}
	var of []Disk
	if err := r.NewSelect().Model(&of).Column("id", "vm_id").Where("id IN (?)", bun.In(disks)).Scan(ctx); err != nil {
		return nil, err
	}
	vms := map[string]string{}
	for _, d := range of {
		vms[d.ID] = d.VMID
	}
	emails, err := s.Identity.Emails(ctx, companies)
	if err != nil {
		return nil, err
	}
	projects, err := s.Identity.ProjectNames(ctx, groups)
	if err != nil {
		return nil, err
	}
	tags, err := tag.Of(ctx, r, ids...)
	if err != nil {
		return nil, err
	}
	for _, n := range rows {
		info := snapshotInfo{
			Region: n.Region, CompanyID: n.Company, Email: emails[n.Company], ProjectID: n.Project, ProjectName: projects[n.Project], SnapshotID: n.ID,
			Name: n.Name, Remark: n.Remark, Type: n.Type, SnapshotStatus: n.State, Reason: why(n.ReasonCode, n.Reason, c.Language), SnapshotSize: n.SizeGB, Encrypted: n.Encrypted,
			Frozen: n.Frozen, DiskID: n.DiskID, DiskType: n.DiskRole, DiskAttachResourceID: vms[n.DiskID], CreateTime: seconds(n.CreatedAt),
			Tags: tags[n.ID],
		}
		if info.DiskAttachResourceID != "" {
			info.DiskAttachResourceType = "VM"
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}
