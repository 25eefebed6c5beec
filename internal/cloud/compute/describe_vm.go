package compute

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type describeVMRequest struct {
	VMIDs            []string `doc:"virtual machine ids"`
	Keyword          string   `doc:"part of name or id"`
	ProjectIDs       []string `doc:"project group ids"`
	VPCID            string   `doc:"VPC id"`
	SubnetID         string   `doc:"subnet id"`
	States           []string `doc:"states of machines"`
	VMTypes          []string `doc:"compute set types"`
	HostID           string   `doc:"administrators only: machines of a host"`
	ImageID          string   `doc:"image they were made from"`
	SGID             string   `doc:"inner or outer security group"`
	IGID             string   `doc:"isolation group"`
	IPs              []string `doc:"any inner or public address"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	SortBy           string   `doc:"CreateTime (default), Name or ExpireTime"`
	Sort             string   `doc:"Descending (default) or Ascending"`
	action.Tenant
	action.Page
}

type describeVMResponse struct {
	TotalCount int
	Infos      []vmInfo
}

type vmInfo struct {
	Region              string
	RegionAlias         string
	Zone                string
	ZoneAlias           string
	CompanyID           int64
	Email               string
	ProjectID           string
	ProjectName         string
	VMID                string
	Name                string
	Remark              string
	State               string
	Reason              string
	VMType              string
	VMTypeAlias         string
	SetID               string
	SetArch             string
	HostIP              string `doc:"administrators only"`
	HostID              string `doc:"administrators only"`
	ImageID             string
	BasicImageName      string
	OSName              string
	OSType              string
	CPU                 int
	Memory              int `doc:"MiB"`
	GPU                 int
	GPUType             string
	VGPUID              string
	MdevName            string
	ChargeType          string
	CreateTime          int64
	UpdateTime          int64
	ExpireTime          int64 `doc:"0: never"`
	AutoRenew           bool
	VPCID               string
	VPCName             string
	SubnetID            string
	SubnetName          string
	MAC                 string
	LANSGID             string
	WANSGID             string
	DiskInfos           []vmDiskInfo
	IPInfos             []vmIPInfo
	NICInfos            []vmNICInfo
	VIPInfos            []vmVIPInfo
	USBInfos            []vmUSBInfo
	ISOInfos            []vmISOInfo
	DefaultGWEIPIDs     []string
	Hostname            string
	DNS                 string
	CPUMode             string
	HighAvailability    string
	IGID                string
	IGName              string
	BootloaderType      string
	BootDevices         []string
	LoginUser           string
	KeyPairIDs          []string
	CanLogin            bool `doc:"it runs, and its image has a console"`
	SupportHotplug      bool
	SupportCloudInit    bool
	SupportQGA          bool
	QGAState            string `doc:"Running, Stopped, or empty when the image has no agent"`
	CPUUtilization      float64
	MemUsage            float64
	SpaceUsage          float64
	ImagePreparePrecent int `doc:"percent; spelled so"`
	AlarmTemplateID     string
	Tags                []tag.Info
}

type vmDiskInfo struct {
	Type           string
	DiskID         string
	Name           string
	Drive          string
	Size           int    `doc:"GB"`
	IsElastic      string `doc:"Y: it can be detached"`
	StorageSetType string
}

type vmIPInfo struct {
	IP          string
	Type        string
	IPVersion   string
	SGName      string
	SGID        string
	InterfaceID string
	IsElastic   string
	IsVIP       string
	IPID        string
	ISDefaultGW int
	NicType     string
	MAC         string
	SubnetID    string
	SubnetName  string
	VPCID       string
	VPCName     string
}

type vmNICInfo struct {
	NICID    string
	Type     string
	IP       string
	MAC      string
	VPCID    string
	SubnetID string
	SGID     string
}

type vmVIPInfo struct {
	VIPID string
	IP    string
}

type vmUSBInfo struct {
	USBDeviceID string
	Name        string
	AttachType  string
}

type vmISOInfo struct {
	ImageID string
	Name    string
}

// vmStates are all that a client may filter by, also those of actions that come later.
var vmStates = append([]string{migrating, "ChangeSGing"}, life.States...)

// migrating is a machine that runs while it changes its host.
const migrating = "Migrating"

// veiled tells whether the caller sees machines that change their hosts as ones that run.
func (s *Service) veiled(ctx context.Context, c *action.Call) bool {
	return !c.Caller.Admin && !s.Catalog.Config.InstanceStatusCheck(ctx, c.Region)
}

// veil turns the states that a caller asks for into those that rows have.
func veil(asked []string) []string {
	var all []string
	for _, st := range asked {
		switch st {
		case Running:
			all = append(all, Running, migrating)
		case migrating:
			all = append(all, "-") // no machine is seen so
		default:
			all = append(all, st)
		}
	}
	return all
}

// sortColumns are what DescribeVMInstance sorts by; each has an index.
var sortColumns = map[string]string{"": "created_at", "CreateTime": "created_at", "Name": "name", "ExpireTime": "expire_at"}

func (s *Service) describeVM(ctx context.Context, c *action.Call, q *describeVMRequest) (*describeVMResponse, error) {
	column, ok := sortColumns[q.SortBy]
	if !ok {
		return nil, retcode.InvalidParameter.Errorf("SortBy must be CreateTime, Name or ExpireTime")
	}
	direction := "DESC"
	switch strings.ToLower(q.Sort) {
	case "", "descending", "desc":
	case "ascending", "asc":
		direction = "ASC"
	default:
		return nil, retcode.InvalidParameter.Errorf("Sort must be Ascending or Descending")
	}
	for _, st := range q.States {
		if !slices.Contains(vmStates, st) {
			return nil, retcode.InvalidParameter.Errorf("States: %s is no state of a machine", st)
		}
	}
	for _, ip := range q.IPs {
		if _, err := netip.ParseAddr(ip); err != nil {
			return nil, retcode.InvalidParameterFormat.Errorf("IPs must be addresses")
		}
	}
	if q.HostID != "" && !c.Caller.Admin {
		return nil, retcode.AdminOnly.Errorf("HostID is for administrators")
	}
	if s.veiled(ctx, c) {
		q.States = veil(q.States)
	}
	out := &describeVMResponse{Infos: []vmInfo{}}
	if q.IGID != "" {
		return out, nil // no machine is in an isolation group
	}
	var rows []VM
	r := s.DB.Reader()
	sel, filtered, err := s.filterVMs(r.NewSelect().Model((*VM)(nil)), c, q)
	if err != nil {
		return nil, err
	}
	if q.Limit > 0 {
		// Equal values are ordered by id, in the same direction: the index has it so.
		sel = sel.OrderExpr("? "+direction+", id "+direction, bun.Ident(column)).Offset(int64(q.Offset)).Limit(int64(q.Limit))
		if rows, err = database.Select[VM](ctx, r, sel); err != nil {
			return nil, err
		}
	}
	switch {
	case q.Offset == 0 && len(rows) < q.Limit:
		out.TotalCount = len(rows)
	case !filtered:
		out.TotalCount, err = listed(ctx, r, c.Region, c.Company)
	default:
		var counted *bun.SelectQuery
		var n int64
		if counted, _, err = s.filterVMs(r.NewSelect().Model((*VM)(nil)), c, q); err == nil {
			n, err = counted.Count(ctx)
		}
		out.TotalCount = int(n)
	}
	if err != nil || len(rows) == 0 {
		return out, err
	}
	out.Infos, err = s.describe(ctx, c, rows)
	return out, err
}

// filterVMs adds the filters and tells whether there is one besides tenant and region.
func (s *Service) filterVMs(sel *bun.SelectQuery, c *action.Call, q *describeVMRequest) (_ *bun.SelectQuery, filtered bool, err error) {
	sel = identity.Own(sel.Where("listed = ?", true), c.Scope())
	filtered = c.Projects != nil || len(q.TagKeyValuePairs) > 0 // the count of a tenant's machines is of all its projects
	where := func(query string, args ...any) {
		sel, filtered = sel.Where(query, args...), true
	}
	for _, f := range []struct{ column, value string }{
		{"vpc_id", q.VPCID}, {"subnet_id", q.SubnetID}, {"host_id", q.HostID}, {"image_id", q.ImageID},
	} {
		if f.value != "" {
			where("? = ?", bun.Ident(f.column), f.value)
		}
	}
	for _, f := range []struct {
		column string
		values []string
	}{{"id", q.VMIDs}, {"project", q.ProjectIDs}, {"state", q.States}, {"vm_type", q.VMTypes}} {
		if len(f.values) > 0 {
			where("? IN (?)", bun.Ident(f.column), bun.In(f.values))
		}
	}
	ports := func() *bun.SelectQuery {
		return s.DB.Reader().NewSelect().Model((*network.Port)(nil)).Column("owner_id").Where("owner_kind = ?", network.VM)
	}
	if q.SGID != "" {
		where("id IN (?)", ports().Where("inner_sg = ? OR outer_sg = ?", q.SGID, q.SGID))
	}
	if len(q.IPs) > 0 {
		eips := s.DB.Reader().NewSelect().Model((*network.EIP)(nil)).Column("bind_id").
			Where("bind_kind = ? AND ip IN (?)", network.VM, bun.In(q.IPs))
		where("id IN (?) OR id IN (?)", ports().Where("ip IN (?)", bun.In(q.IPs)), eips)
	}
	if q.Keyword != "" {
		sel, filtered = database.Matching(sel, q.Keyword, "name", "id"), true
	}
	sel, err = tag.Narrow(sel, "vm.id", q.TagKeyValuePairs)
	return sel, filtered, err
}

// listed is how many machines of a tenant (0: of all) a region lists.
func listed(ctx context.Context, idb bun.IDB, region string, company int64) (n int, err error) {
	q := idb.NewSelect().Model((*vmCount)(nil)).Column("n").Where("region = ?", region)
	if company != 0 {
		q = q.Where("company = ?", company)
	}
	rows, err := database.Select[vmCount](ctx, idb, q)
	for _, r := range rows {
		n += int(r.N)
	}
	return n, err
}

// vmDetails are what a page of machines has besides their rows, by machine, tenant or project group.
type vmDetails struct {
	tags     map[string][]tag.Info
	disks    map[string][]block.Disk
	vips     map[string][]network.VIPInfo
	ports    map[string][]network.PortInfo
	discs    map[string][]disc
	keys     map[string][]string
	emails   map[int64]string
	projects map[string]string
	types    map[string]string // names for people
	region   string            // likewise
}

// details reads those of a page of a region, each for all machines at once.
func (s *Service) details(ctx context.Context, region string, rows []VM) (d vmDetails, err error) {
	r := s.DB.Reader()
	ids := make([]string, len(rows))
	for i, v := range rows {
		ids[i] = v.ID
	}
	if d.tags, err = tag.Of(ctx, r, ids...); err != nil {
		return d, err
	}
	if d.disks, err = block.Of(ctx, r, ids...); err != nil {
		return d, err
	}
	if d.vips, err = s.Network.VIPsOf(ctx, r, ids...); err != nil {
		return d, err
	}
	if d.ports, err = s.Network.PortsOf(ctx, r, ids...); err != nil {
		return d, err
	}
	if d.discs, err = discsOf(ctx, r, ids...); err != nil {
		return d, err
	}
	if d.keys, err = keyIDsOf(ctx, r, ids...); err != nil {
		return d, err
	}
	if d.emails, err = s.Identity.Emails(ctx, companies(rows, func(v VM) int64 { return v.Company })); err != nil {
		return d, err
	}
	if d.projects, err = s.Identity.ProjectNames(ctx, projectsOf(rows, func(v VM) string { return v.Project })); err != nil {
		return d, err
	}
	if d.types, err = s.Fleet.VMTypeNames(ctx, region); err != nil {
		return d, err
	}
	d.region, err = s.Catalog.RegionAlias(ctx, region)
	return d, err
}

// describe turns a page of rows into what clients see.
func (s *Service) describe(ctx context.Context, c *action.Call, rows []VM) ([]vmInfo, error) {
	d, err := s.details(ctx, c.Region, rows)
	if err != nil {
		return nil, err
	}
	veiled := s.veiled(ctx, c)
	out := make([]vmInfo, 0, len(rows))
	for i := range rows {
		v := &rows[i]
		if veiled && v.State == migrating {
			v.State = Running
		}
		out = append(out, s.info(c, v, d))
	}
	return out, nil
}

// info is one machine as a caller sees it.
func (s *Service) info(c *action.Call, v *VM, d vmDetails) vmInfo {
	info := vmInfo{
		Region: v.Region, RegionAlias: d.region, CompanyID: v.Company, Email: d.emails[v.Company], ProjectID: v.Project, ProjectName: d.projects[v.Project],
		VMID: v.ID, Name: v.Name, Remark: v.Remark, State: v.State, Reason: v.Why(c.Language), VMType: v.VMType,
		VMTypeAlias: d.types[v.VMType], SetID: v.SetID, SetArch: v.Arch, ImageID: v.ImageID, BasicImageName: v.ImageName,
		OSName: v.OSName, OSType: v.OSType, CPU: v.CPUs, Memory: v.MemoryMiB, ChargeType: v.ChargeType,
		CreateTime: seconds(v.CreatedAt), UpdateTime: seconds(v.UpdatedAt), ExpireTime: seconds(v.ExpireAt),
		AutoRenew: v.AutoRenew, VPCID: v.VPCID, SubnetID: v.SubnetID, DefaultGWEIPIDs: []string{}, Hostname: v.Hostname,
		DNS: v.DNS, CPUMode: v.CPUMode, HighAvailability: v.HA, BootloaderType: bootloader(v.UEFI), BootDevices: strings.Split(v.BootDevices, ","),
		LoginUser: v.LoginUser, KeyPairIDs: d.keys[v.ID], CanLogin: v.State == Running, SupportHotplug: v.Hotplug,
		SupportCloudInit: v.CloudInit, SupportQGA: v.QGA, DiskInfos: []vmDiskInfo{}, IPInfos: []vmIPInfo{},
		NICInfos: []vmNICInfo{}, VIPInfos: []vmVIPInfo{}, USBInfos: []vmUSBInfo{}, ISOInfos: []vmISOInfo{}, Tags: d.tags[v.ID],
	}
	if v.State != Initializing && v.State != Failed {
		info.ImagePreparePrecent = 100
	}
	if v.QGA {
		info.QGAState = Stopped
		if v.QGAConnected {
			info.QGAState = Running
		}
	}
	h, ok := s.Fleet.HostInfo(v.HostID)
	if ok && h.State == fleet.Down {
		// The row stays as it is until the host is back; people see why nothing works.
		info.Reason = retcode.SystemBusy.Errorf("the host of %s does not answer", v.ID).Message(c.Language)
	}
	if ok && c.Caller.Admin {
		info.HostID, info.HostIP = v.HostID, h.Address
		if ip, _, err := net.SplitHostPort(h.Address); err == nil {
			info.HostIP = ip
		}
	}
	for _, x := range d.disks[v.ID] {
		elastic := "Y"
		if x.Role == block.Boot {
			elastic = "N"
		}
		info.DiskInfos = append(info.DiskInfos, vmDiskInfo{Type: x.Role, DiskID: x.ID, Name: x.Name, Drive: x.Target,
			Size: x.SizeGB, IsElastic: elastic, StorageSetType: x.SetType})
	}
	for _, x := range d.discs[v.ID] {
		info.ISOInfos = append(info.ISOInfos, vmISOInfo{ImageID: x.ImageID, Name: x.Name})
	}
	for _, p := range d.ports[v.ID] {
		if p.ID == v.PortID {
			addPort(&info, p)
		} else {
			addNIC(&info, p)
		}
	}
	for _, x := range d.vips[v.ID] {
		info.VIPInfos = append(info.VIPInfos, vmVIPInfo{VIPID: x.ID, IP: x.IP})
	}
	return info
}

// addNIC adds an elastic NIC.
func addNIC(info *vmInfo, p network.PortInfo) {
	kind := network.LAN
	if p.SegmentID != "" {
		kind = network.WAN
	}
	info.NICInfos = append(info.NICInfos, vmNICInfo{NICID: p.ID, Type: kind, IP: p.IP, MAC: p.MAC, VPCID: p.VPCID, SubnetID: p.SubnetID, SGID: p.InnerSG})
	info.IPInfos = append(info.IPInfos, vmIPInfo{
		IP: p.IP, Type: map[string]string{network.LAN: "Private", network.WAN: "Public"}[kind], IPVersion: "IPv4", SGID: p.InnerSG, SGName: p.InnerSGName, InterfaceID: p.ID, IsElastic: "Y",
		IsVIP: "N", NicType: kind, MAC: p.MAC, SubnetID: p.SubnetID, SubnetName: p.SubnetName, VPCID: p.VPCID, VPCName: p.VPCName,
	})
}

// addPort adds the machine's own port with its inner address, and the public addresses on it.
func addPort(info *vmInfo, p network.PortInfo) {
	info.MAC, info.LANSGID, info.WANSGID = p.MAC, p.InnerSG, p.OuterSG
	info.VPCName, info.SubnetName = p.VPCName, p.SubnetName
	info.IPInfos = append(info.IPInfos, vmIPInfo{
		IP: p.IP, Type: "Private", IPVersion: "IPv4", SGID: p.InnerSG, SGName: p.InnerSGName, InterfaceID: p.ID, IsElastic: "N",
		IsVIP: "N", NicType: "LAN", MAC: p.MAC, SubnetID: p.SubnetID, SubnetName: p.SubnetName, VPCID: p.VPCID, VPCName: p.VPCName,
	})
	for _, e := range p.EIPs {
		ip := vmIPInfo{
			IP: e.IP, Type: "Public", IPVersion: e.IPVersion, SGID: p.OuterSG, SGName: p.OuterSGName, InterfaceID: p.ID, IsElastic: "Y",
			IsVIP: "N", IPID: e.ID, NicType: "WAN", MAC: p.MAC, SubnetID: p.SubnetID, SubnetName: p.SubnetName, VPCID: p.VPCID, VPCName: p.VPCName,
		}
		if e.Egress {
			ip.ISDefaultGW = 1
			info.DefaultGWEIPIDs = append(info.DefaultGWEIPIDs, e.ID)
		}
		info.IPInfos = append(info.IPInfos, ip)
	}
}
