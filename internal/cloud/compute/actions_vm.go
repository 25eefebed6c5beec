package compute

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/GehirnInc/crypt/sha512_crypt"
	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

func (s *Service) vmActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateVMInstance", Module: "vm", Mutates: true,
			Summary: "Create virtual machines, with data disks and a public IP when wanted."}, s.createVM),
		action.Define(action.Spec{Name: "DescribeVMInstance", Module: "vm",
			Summary: "List virtual machines with filters and paging."}, s.describeVM),
		action.Define(action.Spec{Name: "StartVMInstance", Module: "vm", Mutates: true,
			Summary: "Power on a stopped virtual machine."}, s.startVM),
		action.Define(action.Spec{Name: "StopVMInstance", Module: "vm", Mutates: true,
			Summary: "Shut down a virtual machine through its guest OS."}, s.stopVM),
		action.Define(action.Spec{Name: "RestartVMInstance", Module: "vm", Mutates: true,
			Summary: "Reboot a running virtual machine."}, s.restartVM),
		action.Define(action.Spec{Name: "PoweroffVMInstance", Module: "vm", Mutates: true,
			Summary: "Cut the power of a virtual machine at once."}, s.poweroffVM),
		action.Define(action.Spec{Name: "DeleteVMInstance", Module: "vm", Mutates: true,
			Summary: "Move a virtual machine to the recycle bin."}, s.deleteVM),
	}
}

type createVMRequest struct {
	Name            string `validate:"required" doc:"1 to 30 of Chinese, letters, digits and - _ ."`
	Password        string `validate:"required" doc:"6 to 30 characters, two of upper, lower, digit, special"`
	ChargeType      string `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	VMType          string `validate:"required" doc:"compute set type, from DescribeVMType"`
	CPU             int    `validate:"required" doc:"cores"`
	Memory          int    `validate:"required" doc:"MiB"`
	BootDiskSetType string `validate:"required" doc:"storage set type of the system disk"`
	VPCID           string `validate:"required" doc:"VPC id"`
	SubnetID        string `validate:"required" doc:"subnet id"`
	ImageID         string `validate:"required" doc:"base or custom image id"`

	BootSourceType    string `default:"Image" validate:"oneof=Image Disk" doc:"Disk boots from BootDiskID"`
	OSName            string `doc:"with BootSourceType Disk"`
	OSVersion         string `doc:"with BootSourceType Disk"`
	OSType            string `doc:"with BootSourceType Disk"`
	WANSGID           string `doc:"external security group"`
	LANSGID           string `doc:"internal security group"`
	ApplicationName   string `doc:"title of the approval request; used when approval is on"`
	ApplicationReason string `doc:"reason of the approval request; used when approval is on"`
	Remark            string `validate:"max=100" doc:"free text"`
	Quantity          *int   `default:"1" doc:"number of periods, default 1; ignored for Dynamic; Month 1..11, Year 1..5"`
	GPU               int    `validate:"omitempty,oneof=1 2 4" doc:"needs CPU >= 4 x GPU"`
	GPUType           string `validate:"omitempty,oneof=GPU VGPU" doc:"with GPU"`
	MdevName          string `doc:"vGPU profile"`
	GPUMdevName       string `doc:"card model, with GPUType GPU"`
	BootDiskSpace     *int   `default:"40" doc:"GB, 40 to 2048, default 40"`
	BootDiskID        string `doc:"external disk to boot from"`
	DataDiskSetType   string `doc:"storage set type of the data disk"`
	DataDiskSpace     int    `validate:"min=0" doc:"GB, 10 to 32000; 0: none"`
	DataDiskID        string `doc:"existing external disk"`
	InternalIP        string `doc:"wanted internal address"`
	OperatorName      string `doc:"segment of the public IP to bind"`
	Bandwidth         *int   `doc:"Mbps of the public IP, default 1"`
	IPVersion         string `default:"IPv4" validate:"oneof=IPv4 IPv6" doc:"of the public IP"`
	InternetIP        string `doc:"wanted public address"`
	ProjectID         string `doc:"project group id"`
	Email             string `doc:"accepted for older clients"`

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
	BootDiskSecret         string       `doc:"base64 key, encrypts the system disk"`
	DataDiskSecret         string       `doc:"base64 key, encrypts the data disk"`
	DataDisks              []dataDisk   `doc:"more data disks"`
	NICs                   []nicRequest `doc:"more network interfaces"`
	LANMAC                 string       `doc:"address of the inner NIC"`
	LANInAverageBandwidth  int          `validate:"min=0" doc:"Mbps, 0 is unlimited"`
	LANOutAverageBandwidth int          `validate:"min=0" doc:"Mbps, 0 is unlimited"`
	USBDeviceID            string       `doc:"USB device to attach"`
	USBAttachType          string       `validate:"omitempty,oneof=Passthrough redir" doc:"with USBDeviceID"`
	HostID                 string       `doc:"administrators only: place on this host"`
	AutoRenew              *bool        `doc:"overrides the region's setting"`
	TagKeyValuePairs       []string     `doc:"base64(key):base64(value)"`
	action.Tenant
}

type dataDisk struct {
	SetType   string `validate:"required" doc:"storage set type"`
	DiskSpace int    `validate:"required" doc:"GB"`
	Secret    string `doc:"base64 key, encrypts the disk"`
}

type nicRequest struct {
	VPCID    string `doc:"VPC id"`
	SubnetID string `doc:"subnet id"`
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
	hostPassthrough = "host-passthrough"
	defaultBootGB   = 40
	maxUserData     = 1 << 20 // bytes
	maxDisks        = 25      // of a machine, on x86
	maxDisksARM     = 3
)

var vmName = regexp.MustCompile(`^[\p{Han}A-Za-z0-9._-]+$`)

// createPlan is a checked request.
type createPlan struct {
	image    *Image
	set      *fleet.Set
	storage  *fleet.Set // of the system disk
	disks    []planDisk // the system disk first
	hash     string
	userData string
	login    string
	uefi     bool
	wantsEIP bool
	eip      network.EIPRequest
	quantity int
}

type planDisk struct {
	role string
	set  *fleet.Set
	gb   int
}

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
		for _, d := range disks[i] {
			out.DiskIDs = append(out.DiskIDs, d.ID)
		}
		for f, n := range vmQuota(v, disks[i]) {
			total[f] += n
		}
	}
	if p.wantsEIP {
		total[catalog.EIP] = int64(q.Count)
	}
	demand := computeDemand(vms[0])
	for _, d := range p.disks {
		demand.DiskGB += d.gb
	}
	spot := fleet.Spot{Region: c.Region, VMType: q.VMType, StorageType: q.BootDiskSetType, Arch: p.image.Arch, Demand: demand}
	candidates := make([][]string, len(vms))
	for i := range candidates {
		if q.HostID == "" {
			candidates[i] = s.Fleet.Candidates(spot)
		}
	}
	var ops, eips []string
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		ops, eips = nil, nil
		if err := s.Catalog.Reserve(ctx, tx, company, c.Region, total); err != nil {
			return err
		}
		for i, v := range vms {
			if q.HostID != "" {
				if err := s.Fleet.Reserve(ctx, tx, q.HostID, demand); err != nil {
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
		for i, v := range vms {
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
	out.VMID, out.DiskID = out.VMIDs[0], disks[0][min(1, len(disks[0])-1)].ID
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
		InnerSG: q.LANSGID, OuterSG: q.WANSGID, Hostname: v.Hostname, HostID: v.HostID,
	})
	if err != nil {
		return "", "", err
	}
	v.PortID = port.ID
	j := job{VM: v.ID, Generation: v.Generation, Stopped: q.InitialState == Stopped, Before: Failed}
	locks := []workflow.Lock{{Resource: v.ID, Exclusive: true}}
	resources := []string{}
	for i := range disks {
		disks[i].HostID = v.HostID
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
	if _, err := tx.NewInsert().Model(&disks).Exec(ctx); err != nil {
		return "", "", err
	}
	sd := &seed{VMID: v.ID, PasswordHash: s.Secret.Seal([]byte(p.hash), seedContext(v.ID, "password_hash"))}
	if p.userData != "" {
		sd.UserData = s.Secret.Seal([]byte(p.userData), seedContext(v.ID, "user_data"))
	}
	if q.MountDataDisk {
		sd.MountData = disks[1].Target
	}
	if _, err := tx.NewInsert().Model(sd).Exec(ctx); err != nil {
		return "", "", err
	}
	op, err = s.flows.create.Accept(ctx, tx, request(c, v, locks, resources...), j)
	return op, eip, err
}

// rows makes the rows of a request, without what the transaction decides.
func (s *Service) rows(c *action.Call, q *createVMRequest, p *createPlan, now int64) ([]*VM, [][]block.Disk) {
	var vms []*VM
	var disks [][]block.Disk
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
			VPCID: q.VPCID, SubnetID: q.SubnetID, LoginUser: p.login, DNS: strings.ReplaceAll(q.DNS, " ", ""), CPUMode: mode,
			HA: q.HighAvailability, AutoRenew: q.AutoRenew == nil || *q.AutoRenew, ChargeType: q.ChargeType, Quantity: p.quantity,
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
		for i, d := range p.disks {
			row := block.Disk{
				ID: database.NewID("disk"), Region: v.Region, Company: v.Company, Name: v.Name, Role: d.role, State: block.Creating,
				SetType: d.set.Type, SetID: d.set.ID, SizeGB: d.gb, VMID: v.ID, Target: "vd" + string(rune('a'+i)),
				ChargeType: v.ChargeType, CreatedAt: now, UpdatedAt: now, Generation: 1,
			}
			if d.role == block.Boot {
				row.ImageDigest = p.image.Digest
			}
			own = append(own, row)
		}
		vms, disks = append(vms, v), append(disks, own)
	}
	return vms, disks
}

// checkCreate checks what the request says by itself.
func checkCreate(q *createVMRequest) error {
	bad := retcode.InvalidParameter
	if _, err := machineName(q.Name); err != nil {
		return err
	}
	if q.BootSourceType == "Disk" {
		for name, value := range map[string]string{"BootDiskID": q.BootDiskID, "OSName": q.OSName, "OSVersion": q.OSVersion, "OSType": q.OSType} {
			if value == "" {
				return retcode.MissingParameter.Errorf("%s is required when BootSourceType is Disk", name)
			}
		}
	}
	periods := map[string]int{"Month": 11, "Year": 5}
	if last, ok := periods[q.ChargeType]; ok && q.Quantity != nil && (*q.Quantity < 1 || *q.Quantity > last) {
		return bad.Errorf("Quantity must be 1 to %d with ChargeType %s", last, q.ChargeType)
	}
	if q.Count > 1 {
		for name, value := range map[string]string{"InternalIP": q.InternalIP, "InternetIP": q.InternetIP, "LANMAC": q.LANMAC, "BootDiskID": q.BootDiskID} {
			if value != "" {
				return bad.Errorf("%s is for one machine, Count is %d", name, q.Count)
			}
		}
	}
	if q.OperatorName == "" && (q.InternetIP != "" || q.Bandwidth != nil) {
		return bad.Errorf("InternetIP and Bandwidth need OperatorName")
	}
	if len(q.UserData) > base64.StdEncoding.EncodedLen(maxUserData) {
		return bad.Errorf("UserData is at most 1 MiB")
	}
	for i, d := range strings.Split(q.DNS, ",") {
		if q.DNS == "" {
			break
		}
		if _, err := netip.ParseAddr(strings.TrimSpace(d)); err != nil {
			return retcode.InvalidParameterFormat.Errorf("DNS must be addresses, comma separated")
		}
		if i > 1 {
			return bad.Errorf("DNS takes at most 2 addresses")
		}
	}
	if q.LANMAC != "" {
		if _, err := net.ParseMAC(q.LANMAC); err != nil {
			return retcode.InvalidParameterFormat.Errorf("LANMAC must be a hardware address")
		}
		return bad.Errorf("LANMAC is not offered in this region")
	}
	for _, d := range q.BootDevices {
		if !slices.Contains([]string{"hd", "cdrom", "network"}, d) {
			return bad.Errorf("BootDevices must be out of hd, cdrom, network")
		}
		if d != "hd" {
			return bad.Errorf("BootDevices: this region boots from hd only")
		}
	}
	if q.MountDataDisk && q.DataDiskSpace == 0 && len(q.DataDisks) == 0 {
		return bad.Errorf("MountDataDisk needs a data disk")
	}
	if q.USBAttachType != "" && q.USBDeviceID == "" {
		return bad.Errorf("USBAttachType needs USBDeviceID")
	}
	for _, given := range []struct {
		name  string
		given bool
	}{
		{"BootDiskSecret", q.BootDiskSecret != ""},
		{"DataDiskSecret", q.DataDiskSecret != ""},
		{"DataDisks.N.Secret", slices.ContainsFunc(q.DataDisks, func(d dataDisk) bool { return d.Secret != "" })},
		{"NICs", len(q.NICs) > 0},
		{"LANInAverageBandwidth", q.LANInAverageBandwidth != 0},
		{"LANOutAverageBandwidth", q.LANOutAverageBandwidth != 0},
	} {
		if given.given {
			return bad.Errorf("%s is not offered in this region", given.name)
		}
	}
	if q.GPUType == "" && q.GPU > 0 {
		return retcode.MissingParameter.Errorf("GPUType is required with GPU")
	}
	if q.GPU > 0 && q.CPU < 4*q.GPU {
		return bad.Errorf("CPU must be at least 4 for each GPU")
	}
	return nil
}

// plan looks up what the request names: first whether it exists, then its state, then whether it fits.
func (s *Service) plan(ctx context.Context, c *action.Call, q *createVMRequest) (*createPlan, error) {
	company := c.Owner()
	p := &createPlan{quantity: 1}
	if q.Quantity != nil && q.ChargeType != "Dynamic" {
		p.quantity = *q.Quantity
	}
	var err error
	if q.HostID != "" {
		if !c.Caller.Admin {
			return nil, retcode.AdminOnly.Errorf("HostID is for administrators")
		}
		if h, ok := s.Fleet.HostInfo(q.HostID); !ok || h.Region != c.Region {
			return nil, retcode.ResourceNotFound.Errorf("HostID %s", q.HostID)
		}
	}
	if q.BootDiskID != "" && q.BootDiskID == q.DataDiskID {
		return nil, retcode.SameExternalDisk.Errorf("BootDiskID and DataDiskID are both %s", q.BootDiskID)
	}
	if p.set, err = s.Fleet.ComputeSet(ctx, company, c.Region, q.VMType); err != nil {
		return nil, err
	}
	if p.storage, err = s.Fleet.StorageSet(ctx, company, c.Region, q.BootDiskSetType); err != nil {
		return nil, err
	}
	if p.image, err = imageByID(ctx, s.DB.Reader(), c.Region, company, q.ImageID); err != nil {
		return nil, err
	}
	if q.ProjectID != "" {
		return nil, retcode.ProjectNotFound.Errorf("ProjectID %s", q.ProjectID)
	}
	for _, named := range [][2]string{{"IGID", q.IGID}, {"USBDeviceID", q.USBDeviceID}, {"BootDiskID", q.BootDiskID}, {"DataDiskID", q.DataDiskID}} {
		if named[1] != "" {
			return nil, retcode.ResourceNotFound.Errorf("%s %s", named[0], named[1])
		}
	}
	for _, id := range q.KeyPairIDs {
		return nil, retcode.ResourceNotFound.Errorf("%s %s", "KeyPairIDs", id)
	}
	if err := p.image.usable(); err != nil {
		return nil, err
	}
	if p.image.Arch != p.set.Arch {
		return nil, retcode.ImageArchMismatch.Errorf("image %s is for %s, VMType %s is %s", p.image.ID, p.image.Arch, p.set.Type, p.set.Arch)
	}
	if err := s.Catalog.CheckVMSpec(ctx, c.Region, q.VMType, q.CPU, q.Memory); err != nil {
		return nil, err
	}
	if err := s.planDisks(ctx, c, q, p); err != nil {
		return nil, err
	}
	if err := s.planGuest(q, p); err != nil {
		return nil, err
	}
	if q.OperatorName != "" {
		p.wantsEIP = true
		p.eip = network.EIPRequest{
			Company: company, Region: c.Region, Name: q.Name, Segment: q.OperatorName, IPVersion: q.IPVersion, IP: q.InternetIP,
			Bandwidth: 1, ChargeType: q.ChargeType, Quantity: p.quantity, AutoRenew: q.AutoRenew == nil || *q.AutoRenew, QuotaTaken: true,
		}
		if q.Bandwidth != nil {
			p.eip.Bandwidth = *q.Bandwidth
		}
		if err := s.Network.CheckEIP(ctx, p.eip); err != nil {
			return nil, err
		}
	}
	switch {
	case q.GPUType == "VGPU" || q.MdevName != "":
		return nil, retcode.ImageNoVGPU.Errorf("image %s has no vGPU driver", p.image.ID)
	case q.GPU > 0 || q.GPUType != "" || q.GPUMdevName != "":
		return nil, retcode.HostGPUInsufficient.Errorf("no host of VMType %s has a free GPU", q.VMType)
	}
	return p, nil
}

func (s *Service) planDisks(ctx context.Context, c *action.Call, q *createVMRequest, p *createPlan) error {
	gb := defaultBootGB
	if q.BootDiskSpace != nil {
		gb = *q.BootDiskSpace
	}
	if err := s.Catalog.CheckBootDiskSpec(ctx, c.Region, q.BootDiskSetType, gb); err != nil {
		return err
	}
	if least := p.image.virtualGB(); gb < least {
		return retcode.BootDiskTooSmall.Errorf("BootDiskSpace is %d GB, image %s needs %d", gb, p.image.ID, least)
	}
	p.disks = []planDisk{{block.Boot, p.storage, gb}}
	wanted := q.DataDisks
	if q.DataDiskSpace > 0 {
		setType := q.DataDiskSetType
		if setType == "" {
			setType = q.BootDiskSetType
		}
		wanted = append([]dataDisk{{SetType: setType, DiskSpace: q.DataDiskSpace}}, wanted...)
	}
	for _, d := range wanted {
		set, err := s.Fleet.StorageSet(ctx, c.Owner(), c.Region, d.SetType)
		if err != nil {
			return err
		}
		if err := s.Catalog.CheckDiskSpec(ctx, c.Region, d.SetType, d.DiskSpace); err != nil {
			return err
		}
		if set.ID != p.storage.ID {
			return retcode.SetDiskNotSupported.Errorf("disks of %s cannot be used by hosts of %s", d.SetType, q.BootDiskSetType)
		}
		p.disks = append(p.disks, planDisk{block.Data, set, d.DiskSpace})
	}
	most := maxDisks
	if p.image.Arch == "aarch64" {
		most = maxDisksARM
	}
	if len(p.disks) > most {
		return retcode.BindLimitReached.Errorf("a machine takes %d disks", most)
	}
	return nil
}

// planGuest checks what the guest is told.
func (s *Service) planGuest(q *createVMRequest, p *createPlan) error {
	bad := retcode.InvalidParameter
	win := windows(p.image.OSType)
	p.login, p.uefi = p.image.LoginUser, p.image.UEFI
	if q.LoginUser != "" {
		if win != (q.LoginUser == "administrator") {
			return bad.Errorf("LoginUser %s is no account of %s", q.LoginUser, p.image.OSName)
		}
		p.login = q.LoginUser
	}
	if q.BootloaderType != "" && q.BootloaderType != bootloader(p.uefi) {
		return bad.Errorf("BootloaderType: image %s boots by %s", p.image.ID, bootloader(p.uefi))
	}
	if q.MountDataDisk && win {
		return bad.Errorf("MountDataDisk is not for Windows")
	}
	if q.Hostname != "" {
		longest := 63
		if win {
			longest = 15
		}
		if q.Count > 1 {
			longest -= 3
		}
		if len(q.Hostname) < 2 || len(q.Hostname) > longest || !hostName.MatchString(q.Hostname) {
			return bad.Errorf("Hostname must be 2 to %d letters, digits and inner hyphens", longest)
		}
	}
	if q.UserData != "" {
		raw, err := base64.StdEncoding.DecodeString(q.UserData)
		if err != nil {
			return retcode.InvalidParameterFormat.Errorf("UserData must be base64")
		}
		if len(raw) > maxUserData {
			return bad.Errorf("UserData is at most 1 MiB")
		}
		p.userData = string(raw)
	}
	user := ""
	if win {
		user = p.login
	}
	if err := CheckPassword(q.Password, user); err != nil {
		return err
	}
	var err error
	p.hash, err = sha512_crypt.New().Generate([]byte(q.Password), nil)
	return err
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])$`)

const passwordSpecials = "()`~!@#$%^&*-+=_|{}[]:;'<>,.?/"

// CheckPassword applies the rules of guests' passwords: 6 to 30 characters (1029) of letters, digits and
// specials, of at least two classes, without 3 following characters of windowsUser (1030).
func CheckPassword(password, windowsUser string) error {
	if n := utf8.RuneCountInString(password); n < 6 || n > 30 {
		return retcode.VMPasswordLengthInvalid.Errorf("Password must have 6 to 30 characters")
	}
	var upper, lower, digit, special int
	for _, r := range password {
		switch {
		case r >= 'A' && r <= 'Z':
			upper = 1
		case r >= 'a' && r <= 'z':
			lower = 1
		case r >= '0' && r <= '9':
			digit = 1
		case strings.ContainsRune(passwordSpecials, r):
			special = 1
		default:
			return retcode.VMPasswordComplexityInvalid.Errorf("Password may have letters, digits and %s", passwordSpecials)
		}
	}
	if upper+lower+digit+special < 2 {
		return retcode.VMPasswordComplexityInvalid.Errorf("Password needs two of upper case, lower case, digits and specials")
	}
	for i := 0; i+3 <= len(windowsUser); i++ {
		if strings.Contains(strings.ToLower(password), strings.ToLower(windowsUser[i:i+3])) {
			return retcode.VMPasswordComplexityInvalid.Errorf("Password has a part of the user name")
		}
	}
	return nil
}

// networkConfig is NoCloud's network configuration when the machine has DNS servers of its own; without
// it the guest asks DHCP for everything.
func networkConfig(mac, dns string) string {
	if dns == "" {
		return ""
	}
	return "version: 2\nethernets:\n  inner:\n    match:\n      macaddress: \"" + mac + "\"\n    dhcp4: true\n" +
		"    dhcp4-overrides:\n      use-dns: false\n    nameservers:\n      addresses: [" + dns + "]\n"
}

// act accepts an operation on one machine: the verdict of its state, the change, the locks. The same
// action under way is answered as if it had been accepted.
func (s *Service) act(ctx context.Context, c *action.Call, id, verb, to string, w *workflow.Workflow[job],
	change func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error)) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vmByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		op, err = s.accept(ctx, tx, c, v, verb, to, w, change)
		return err
	})
	if errors.Is(err, errRepeat) {
		return nil
	}
	if err != nil {
		return err
	}
	c.AddResource(id)
	s.Engine.Kick(op)
	return nil
}

// accept is the part of act inside the transaction. c is nil for what the cloud does by itself.
func (s *Service) accept(ctx context.Context, tx bun.Tx, c *action.Call, v *VM, verb, to string, w *workflow.Workflow[job],
	change func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error)) (op string, err error) {
	if err := check(v, verb); err != nil {
		return "", err
	}
	now := s.Clock.Micros()
	if v.ExpireAt != 0 && v.ExpireAt <= now && verb != Terminate {
		return "", retcode.ResourceExpired.Errorf("%s has expired", v.ID)
	}
	if h, _ := s.Fleet.HostInfo(v.HostID); h.State == fleet.Down && verb != Delete && verb != Terminate {
		return "", retcode.SystemBusy.Errorf("the host of %s does not answer", v.ID)
	}
	j := job{VM: v.ID, Generation: v.Generation + 1, Before: v.State}
	lock := v.ID
	if verb == Poweroff {
		lock += "/power" // it cuts through the operation that holds the machine
	}
	locks := []workflow.Lock{{Resource: lock, Exclusive: true}}
	columns := []string{"placed", "listed", "deleted_at", "restart_serial", "reason", "reason_code"}
	var more []string
	v.because(nil)
	if change != nil {
		if more, err = change(ctx, tx, v, &j); err != nil {
			return "", err
		}
		for _, id := range more {
			locks = append(locks, workflow.Lock{Resource: id, Exclusive: true})
		}
	}
	ok, err := s.move(ctx, tx, v, to, columns...)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", retcode.InvalidVMState.Errorf("%s is being changed by another request", v.ID)
	}
	op, err = w.Accept(ctx, tx, request(c, v, locks, more...), j)
	if busy := new(workflow.BusyError); errors.As(err, &busy) {
		return "", retcode.InvalidVMState.Errorf("%s is busy with %s", v.ID, busy.Action)
	}
	return op, err
}

type startVMRequest struct {
	VMID string `validate:"required" doc:"virtual machine id"`
	action.Tenant
}

// startVM powers on. The volumes are on their host, so it is the same one again.
func (s *Service) startVM(ctx context.Context, c *action.Call, q *startVMRequest) (*action.Empty, error) {
	return nil, s.act(ctx, c, q.VMID, Start, Starting, s.flows.start, func(ctx context.Context, tx bun.Tx, v *VM, _ *job) ([]string, error) {
		v.Placed = true
		return nil, s.Fleet.Reserve(ctx, tx, v.HostID, computeDemand(v))
	})
}

type stopVMResponse struct {
	VMID string
}

func (s *Service) stopVM(ctx context.Context, c *action.Call, q *startVMRequest) (*stopVMResponse, error) {
	return &stopVMResponse{VMID: q.VMID}, s.act(ctx, c, q.VMID, Stop, Stopping, s.flows.stop, nil)
}

func (s *Service) restartVM(ctx context.Context, c *action.Call, q *startVMRequest) (*action.Empty, error) {
	return nil, s.act(ctx, c, q.VMID, Restart, Restarting, s.flows.restart, func(_ context.Context, _ bun.Tx, v *VM, _ *job) ([]string, error) {
		v.RestartSerial++
		return nil, nil
	})
}

func (s *Service) poweroffVM(ctx context.Context, c *action.Call, q *startVMRequest) (*action.Empty, error) {
	err := s.act(ctx, c, q.VMID, Poweroff, Poweroffing, s.flows.poweroff, nil)
	s.tell(q.VMID)
	return nil, err
}

type deleteVMRequest struct {
	VMID            string `validate:"required" doc:"virtual machine id"`
	DelBindResource int    `validate:"oneof=0 1" doc:"1: unbind and delete bound resources, 0: only unbind"`
	ReleaseEIP      bool   `doc:"the bound public IPs go to the bin too"`
	DeleteDataDisk  bool   `doc:"the bound data disks go to the bin too"`
	DeleteNIC       bool   `doc:"the bound NICs are destroyed too"`
	action.Tenant
}

func (s *Service) deleteVM(ctx context.Context, c *action.Call, q *deleteVMRequest) (*action.Empty, error) {
	failed := false
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vmByID(ctx, tx, c.Scope(), q.VMID)
		if failed = err == nil && v.State == Failed; failed {
			return s.endFailed(ctx, tx, v)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if failed {
		c.AddResource(q.VMID)
		return nil, nil
	}
	all := q.DelBindResource == 1
	return nil, s.act(ctx, c, q.VMID, Delete, Deleting, s.flows.del, func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error) {
		j.DropEIPs, j.DropDisks = all || q.ReleaseEIP, all || q.DeleteDataDisk
		eips, err := s.Network.BeginUnbindAllTx(ctx, tx, v.ID)
		if err != nil {
			return nil, err
		}
		if err := s.Network.KeepPort(ctx, tx, v.PortID); err != nil {
			return nil, err
		}
		j.EIPs, v.Listed, v.DeletedAt = eips, false, s.Clock.Micros()
		return eips, count(ctx, tx, v.Company, v.Region, -1)
	})
}

// target lets public addresses be bound to machines.
type target struct{ *Service }

// Resolve implements network.Target.
func (t target) Resolve(ctx context.Context, tx bun.Tx, scope action.Scope, id string, unbind bool) (*network.TargetPort, error) {
	v, err := vmByID(ctx, tx, scope, id)
	if err != nil {
		return nil, err
	}
	if err := check(v, Bind); err != nil {
		return nil, err
	}
	if v.ExpireAt != 0 && v.ExpireAt <= t.Clock.Micros() && !unbind {
		return nil, retcode.ResourceExpired.Errorf("%s has expired", v.ID)
	}
	return &network.TargetPort{PortID: v.PortID, Name: v.Name, Project: v.Project}, nil
}

// Describe implements network.Target.
func (t target) Describe(ctx context.Context, ids []string) (map[string]network.TargetPort, error) {
	out := map[string]network.TargetPort{}
	if len(ids) == 0 {
		return out, nil
	}
	var rows []VM
	if err := t.DB.Reader().NewSelect().Model(&rows).Column("id", "port_id", "name", "project").Where("id IN (?)", bun.In(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	for _, v := range rows {
		out[v.ID] = network.TargetPort{PortID: v.PortID, Name: v.Name, Project: v.Project}
	}
	return out, nil
}
