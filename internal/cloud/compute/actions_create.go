package compute

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

type createVMRequest struct {
	Name            string `validate:"required" doc:"1 to 30 of Chinese, letters, digits and - _ ."`
	Password        string `validate:"required" unless:"KeyPairIDs" doc:"6 to 30 characters, two of upper, lower, digit, special; may be left out with KeyPairIDs: then keys alone let in"`
	ChargeType      string `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	VMType          string `validate:"required" doc:"compute set type, from DescribeVMType"`
	CPU             int    `validate:"required" doc:"cores"`
	Memory          int    `validate:"required" doc:"MiB"`
	BootDiskSetType string `validate:"required" doc:"storage set type of the system disk"`
	VPCID           string `validate:"required" doc:"VPC id"`
	SubnetID        string `validate:"required" doc:"subnet id"`
	ImageID         string `validate:"required" doc:"base or custom image id; with BootSourceType Disk: what the disk's system can do is as of this one"`

	BootSourceType    string `default:"Image" validate:"oneof=Image Disk" doc:"Disk boots from BootDiskID"`
	OSName            string `validate:"max=63" doc:"with BootSourceType Disk"`
	OSVersion         string `validate:"max=63" doc:"with BootSourceType Disk"`
	OSType            string `validate:"max=63" doc:"with BootSourceType Disk"`
	WANSGID           string `doc:"external security group"`
	LANSGID           string `doc:"internal security group"`
	ApplicationName   string `validate:"max=100" doc:"title of the approval request; used when approval is on"`
	ApplicationReason string `validate:"max=1000" doc:"reason of the approval request; used when approval is on"`
	Remark            string `validate:"max=100" doc:"free text"`
	Quantity          *int   `default:"1" doc:"number of periods, default 1; ignored for Dynamic; Month 1..11, Year 1..5"`
	GPU               int    `validate:"omitempty,oneof=1 2 4" doc:"needs CPU >= 4 x GPU"`
	GPUType           string `validate:"omitempty,oneof=GPU VGPU" doc:"with GPU"`
	MdevName          string `doc:"vGPU profile"`
	GPUMdevName       string `doc:"card model, with GPUType GPU"`
	BootDiskSpace     *int   `default:"40" doc:"GB, 40 to 2048, default 40"`
	BootDiskID        string `doc:"with BootSourceType Disk: an unattached disk with a system, which becomes the system disk"`
	DataDiskSetType   string `validate:"max=63" doc:"storage set type of the data disk"`
	DataDiskSpace     int    `validate:"min=0" doc:"GB, 10 to 32000; 0: none"`
	DataDiskID        string `doc:"an unattached disk that is attached"`
	InternalIP        string `doc:"wanted internal address"`
	OperatorName      string `doc:"segment of the public IP to bind"`
	Bandwidth         *int   `doc:"Mbps of the public IP, default 1"`
	IPVersion         string `default:"IPv4" validate:"oneof=IPv4 IPv6" doc:"of the public IP"`
	InternetIP        string `doc:"wanted public address"`
	ProjectID         string `doc:"project group id"`
	Email             string `validate:"max=254" doc:"accepted for older clients"`

	Count                  int          `default:"1" validate:"min=1,max=10" doc:"number of machines"`
	Hostname               string       `doc:"guest host name"`
	UserData               string       `doc:"cloud-init data in base64, at most 1 MiB decoded"`
	LoginUser              string       `validate:"omitempty,oneof=root ubuntu debian administrator" doc:"account that gets Password, default follows the image"`
	KeyPairIDs             []string     `doc:"key pairs put into the guest"`
	MountDataDisk          bool         `doc:"format the first data disk and mount it at /data"`
	DNS                    string       `doc:"up to 2 server addresses, comma separated"`
	CPUMode                string       `default:"default" validate:"oneof=default host-passthrough custom" doc:"custom is taken as default"`
	HighAvailability       string       `default:"NeverStop" validate:"oneof=NeverStop None" doc:"what happens when the machine goes down by itself"`
	IGID                   string       `doc:"isolation group to join"`
	BootDevices            []string     `doc:"boot order out of hd, cdrom, network"`
	BootloaderType         string       `validate:"omitempty,oneof=bios uefi" doc:"default follows the image"`
	InitialState           string       `default:"Running" validate:"oneof=Running Stopped" doc:"state after creation"`
	BootDiskSecret         string       `doc:"base64 key of 8 to 256 bytes, encrypts the system disk, which gets 1 GB more"`
	DataDiskSecret         string       `doc:"base64 key, encrypts the data disk"`
	DataDisks              []dataDisk   `doc:"more data disks"`
	NICs                   []nicRequest `doc:"more network interfaces"`
	LANMAC                 string       `doc:"address of the inner NIC"`
	LANInAverageBandwidth  *int         `validate:"omitempty,min=0" doc:"Mbps, 0 is unlimited, default the region's"`
	LANOutAverageBandwidth *int         `validate:"omitempty,min=0" doc:"Mbps, 0 is unlimited, default the region's"`
	USBDeviceID            string       `doc:"USB device to attach"`
	USBAttachType          string       `validate:"omitempty,oneof=Passthrough redir" doc:"with USBDeviceID"`
	HostID                 string       `doc:"administrators only: place on this host"`
	AutoRenew              bool         `default:"true" doc:"renew by itself when the period ends, and so what is bought with it"`
	TagKeyValuePairs       []string     `doc:"base64(key):base64(value)"`
	action.Tenant
}

type dataDisk struct {
	SetType   string `validate:"required" doc:"storage set type"`
	DiskSpace int    `validate:"required" doc:"GB"`
	Secret    string `doc:"base64 key, encrypts the disk"`
}

type nicRequest struct {
	VPCID    string `validate:"required" doc:"VPC id"`
	SubnetID string `validate:"required" doc:"subnet id"`
	IP       string `doc:"wanted address"`
	SGID     string `doc:"security group"`
}

type createVMResponse struct {
	VMID          string
	DiskID        string `doc:"the first data disk, or the system disk without one"`
	EIPID         string
	VMIDs         []string
	DiskIDs       []string `doc:"system and data disks of all machines"`
	EIPIDs        []string
	ApplicationID string
}

const (
	bootDiskSource  = "Disk" // BootSourceType
	hostPassthrough = "host-passthrough"
	defaultBootGB   = 40
)

var vmName = regexp.MustCompile(`^[\p{Han}A-Za-z0-9._-]+$`)

// createVM checks the request, reserves everything in one transaction and answers the ids.
func (s *Service) createVM(ctx context.Context, c *action.Call, q *createVMRequest) (*createVMResponse, error) {
	if err := checkCreate(q); err != nil {
		return nil, err
	}
	p, err := s.plan(ctx, c, q)
	if err != nil {
		return nil, err
	}
	company, now := c.Owner(), s.Clock.Micros()
	vms, disks := s.rows(c, q, p, now)
	out := &createVMResponse{VMIDs: []string{}, DiskIDs: []string{}, EIPIDs: []string{}}
	total := catalog.Amounts{}
	for i, v := range vms {
		out.VMIDs = append(out.VMIDs, v.ID)
		out.DiskIDs = append(out.DiskIDs, p.diskIDs(disks[i])...)
		for f, n := range vmQuota(v, disks[i]) {
			total[f] += n
		}
	}
	if p.wantsEIP {
		total[catalog.EIP] = int64(q.Count)
	}
	if len(p.nics) > 0 {
		total[catalog.NIC] = int64(q.Count * len(p.nics))
	}
	spot := fleet.Spot{Region: c.Region, VMType: q.VMType, Arch: p.image.Arch, Prefer: p.host(), Demand: computeDemand(vms[0])}
	placed := slices.Clone(p.disks)
	for _, d := range []*block.Disk{p.boot, p.data} { // they have their room, which moves with them
		if d != nil {
			placed = append(placed, planDisk{set: &fleet.Set{ID: d.SetID, Type: d.SetType, Shared: s.Fleet.Shared(d.SetID)}})
		}
	}
	for _, d := range placed {
		if !spot.AddDisk(d.set, d.gb) {
			return nil, retcode.SetDiskNotSupported.Errorf("disks of %s cannot be used by hosts of %s", d.set.Type, spot.StorageType)
		}
	}
	candidates := make([][]string, len(vms))
	for i := range candidates {
		if q.HostID == "" {
			candidates[i] = s.Fleet.Candidates(spot)
		}
	}
	var ops, eips []string
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		ops, eips = nil, nil
		project, err := identity.Project(ctx, tx, c, q.ProjectID)
		if err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, company, c.Region, total); err != nil {
			return err
		}
		for i, v := range vms {
			if q.HostID != "" {
				if err := s.Fleet.PlaceOn(ctx, tx, spot, q.HostID); err != nil {
					return err
				}
				v.HostID = q.HostID
				continue
			}
			host, err := s.Fleet.Place(ctx, tx, spot, candidates[i])
			if err != nil {
				return err
			}
			v.HostID = host
		}
		p.eip.Project = project
		for i, v := range vms {
			v.Project = project
			op, eip, err := s.insert(ctx, tx, c, q, p, v, disks[i])
			if err != nil {
				return err
			}
			ops = append(ops, op)
			if eip != "" {
				eips = append(eips, eip)
			}
		}
		return count(ctx, tx, company, c.Region, len(vms))
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(out.VMIDs...)
	s.Engine.Kick(ops...)
	first := p.diskIDs(disks[0])
	out.VMID, out.DiskID = out.VMIDs[0], first[min(1, len(first)-1)]
	if len(eips) > 0 {
		out.EIPIDs, out.EIPID = eips, eips[0]
	}
	return out, nil
}

// insert writes one machine with all that it owns, and its operation.
func (s *Service) insert(ctx context.Context, tx bun.Tx, c *action.Call, q *createVMRequest, p *createPlan, v *VM, disks []block.Disk) (op, eip string, err error) {
	owner := network.Owner{Kind: network.VM, ID: v.ID}
	port, err := s.Network.ReservePort(ctx, tx, network.PortRequest{
		Scope: c.OwnScope(), VPCID: q.VPCID, SubnetID: q.SubnetID, IP: q.InternalIP, Owner: owner,
		InnerSG: q.LANSGID, OuterSG: q.WANSGID, Hostname: v.Hostname, DNS: v.DNS, HostID: v.HostID,
		MAC: p.mac, InMbps: q.LANInAverageBandwidth, OutMbps: q.LANOutAverageBandwidth,
	})
	if err != nil {
		return "", "", err
	}
	v.PortID = port.ID
	j := job{VM: v.ID, Generation: v.Generation, Stopped: q.InitialState == Stopped, Before: Failed}
	locks := []workflow.Lock{{Resource: v.ID, Exclusive: true}}
	resources := []string{}
	for i := range disks {
		disks[i].HostID, disks[i].Project = v.HostID, v.Project
		resources = append(resources, disks[i].ID)
	}
	if p.wantsEIP {
		e, err := s.Network.AllocateEIPTx(ctx, tx, p.eip)
		if err != nil {
			return "", "", err
		}
		if _, err := s.Network.BeginBindTx(ctx, tx, e.ID, owner, port.ID); err != nil {
			return "", "", err
		}
		eip = e.ID
		j.EIPs = []string{eip}
		locks = append(locks, workflow.Lock{Resource: eip, Exclusive: true})
		resources = append(resources, eip)
	}
	if _, err := tx.NewInsert().Model(v).Exec(ctx); err != nil {
		return "", "", err
	}
	if err := tag.Attach(ctx, tx, v.CreatedAt, resource.Item{ID: v.ID, Company: v.Company, Region: v.Region, Kind: "VM"}, q.TagKeyValuePairs); err != nil {
		return "", "", err
	}
	if len(disks) > 0 {
		if _, err := tx.NewInsert().Model(&disks).Exec(ctx); err != nil {
			return "", "", err
		}
	}
	more, err := s.insertParts(ctx, tx, c, p, v, &j)
	if err != nil {
		return "", "", err
	}
	for _, id := range more {
		locks = append(locks, workflow.Lock{Resource: id, Exclusive: true})
	}
	resources = append(resources, more...)
	sd := &seed{VMID: v.ID, PasswordHash: s.Secret.Seal([]byte(p.hash), seedContext(v.ID, "password_hash"))} // of nothing: no password lets in
	if p.userData != "" {
		sd.UserData = s.Secret.Seal([]byte(p.userData), seedContext(v.ID, "user_data"))
	}
	if q.MountDataDisk {
		sd.MountData = disks[slices.IndexFunc(disks, func(d block.Disk) bool { return d.Role == block.Data })].Device()
	}
	if _, err := tx.NewInsert().Model(sd).Exec(ctx); err != nil {
		return "", "", err
	}
	if err := addKeys(ctx, tx, v.ID, p.keys); err != nil {
		return "", "", err
	}
	if err := p.image.holdTx(ctx, tx); err != nil {
		return "", "", err
	}
	flow := s.flows.create
	if len(j.Disks) > 0 {
		flow = s.flows.assemble
	}
	op, err = flow.Accept(ctx, tx, request(c, "", v, locks, resources...), j)
	if busy := new(workflow.BusyError); errors.As(err, &busy) {
		return "", "", retcode.DiskStateUnstable.Errorf("%s is busy with %s", busy.Resource, busy.Action)
	}
	if err != nil {
		return "", "", err
	}
	return op, eip, s.Ledger.Hold(ctx, tx, purchases(v, disks)...)
}

// insertParts takes the disks that were there before, makes the elastic NICs, and answers the ids of all.
func (s *Service) insertParts(ctx context.Context, tx bun.Tx, c *action.Call, p *createPlan, v *VM, j *job) (ids []string, err error) {
	m := machineOf(v)
	for _, d := range []*block.Disk{p.boot, p.data} {
		if d == nil {
			continue
		}
		u, err := s.Block.BeginUseTx(ctx, tx, c.OwnScope(), d.ID, m, d == p.boot)
		if err != nil {
			return nil, err
		}
		if d == p.boot {
			j.System = d.ID
		}
		j.Disks, ids = append(j.Disks, u), append(ids, d.ID)
	}
	for _, n := range p.nics {
		n.Project = v.Project
		id, err := s.Network.BeginJoinTx(ctx, tx, c.OwnScope(), n, v.ID, &network.Machine{PortID: v.PortID, Name: v.Name, Project: v.Project, HostID: v.HostID, Arch: v.Arch})
		if err != nil {
			return nil, err
		}
		j.NICs, j.VPCs, ids = append(j.NICs, id), append(j.VPCs, n.VPCID), append(ids, id)
	}
	return ids, nil
}

// host is where the machine's disk is already; empty: it has none yet.
func (p *createPlan) host() string {
	for _, d := range []*block.Disk{p.boot, p.data} {
		if d != nil {
			return d.HostID
		}
	}
	return ""
}

// diskIDs are the disks of one machine, the system disk first.
func (p *createPlan) diskIDs(made []block.Disk) (ids []string) {
	if p.boot != nil {
		ids = append(ids, p.boot.ID)
	}
	for _, d := range made {
		ids = append(ids, d.ID)
	}
	if p.data != nil {
		ids = append(ids, p.data.ID)
	}
	return ids
}

// rows makes the rows of a request, without what the transaction decides.
func (s *Service) rows(c *action.Call, q *createVMRequest, p *createPlan, now int64) ([]*VM, [][]block.Disk) {
	var vms []*VM
	var disks [][]block.Disk
	dns, _ := parseDNS(q.DNS) // checked
	boot := bootHD
	if len(q.BootDevices) > 0 {
		boot = strings.Join(q.BootDevices, ",")
	}
	mode := q.CPUMode
	if mode == "custom" {
		mode = "default"
	}
	for n := range q.Count {
		v := &VM{
			ID: database.NewID("vm"), UUID: uuid.NewString(), Region: c.Region, Company: c.Owner(), Name: q.Name, Remark: q.Remark,
			State: Initializing, Listed: true, VMType: q.VMType, SetID: p.set.ID, Arch: p.image.Arch, Placed: true,
			ImageID: p.image.ID, ImageName: p.image.Name, OSType: p.image.OSType, OSName: p.image.OSName, UEFI: p.uefi,
			CloudInit: p.image.CloudInit, QGA: p.image.QGA, Hotplug: p.image.Hotplug, CPUs: q.CPU, MemoryMiB: q.Memory,
			VPCID: q.VPCID, SubnetID: q.SubnetID, LoginUser: p.login, DNS: dns, BootDevices: boot, CPUMode: mode,
			HA: q.HighAvailability, AutoRenew: q.AutoRenew, ChargeType: q.ChargeType, Quantity: p.quantity,
			CreatedAt: now, UpdatedAt: now, Generation: 1,
		}
		switch {
		case q.Hostname == "" && windows(v.OSType):
			v.Hostname = strings.TrimPrefix(v.ID, "vm-") // at most 15 characters
		case q.Hostname == "":
			v.Hostname = v.ID
		case q.Count == 1:
			v.Hostname = q.Hostname
		default:
			v.Hostname = fmt.Sprintf("%s-%d", q.Hostname, n+1)
		}
		var own []block.Disk
		target := 'a'
		if p.boot != nil {
			target = 'b' // the first is there
		}
		for i, d := range p.disks {
			row := block.Disk{
				ID: database.NewID("disk"), Region: v.Region, Company: v.Company, Name: v.Name, Role: d.role, State: block.Creating,
				SetType: d.set.Type, SetID: d.set.ID, SizeGB: d.gb, VMID: v.ID, Target: "vd" + string(target+rune(i)),
				ChargeType: v.ChargeType, CreatedAt: now, UpdatedAt: now, Generation: 1,
			}
			if d.role == block.Boot {
				row.ImageDigest = p.image.Digest
			}
			s.Block.Encrypt(&row, d.secret)
			own = append(own, row)
		}
		vms, disks = append(vms, v), append(disks, own)
	}
	return vms, disks
}
