package compute

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// createPlan is a checked request.
type createPlan struct {
	image    *Image
	set      *fleet.Set
	storage  *fleet.Set  // of the system disk
	disks    []planDisk  // new ones, the system disk first
	boot     *block.Disk // the system disk when it was there before
	data     *block.Disk // a data disk that was
	nics     []network.NewNIC
	mac      string
	hash     string // crypt of the password; empty: keys alone let in
	userData string
	login    string
	uefi     bool
	wantsEIP bool
	eip      network.EIPRequest
	quantity int
	keys     []string
}

type planDisk struct {
	role   string
	set    *fleet.Set
	gb     int
	secret string // passphrase; empty: in the clear
}

// EncryptedGB is what an encrypted system disk has more than was asked for.
const EncryptedGB = 1

// checkCreate checks what the request says by itself.
func checkCreate(q *createVMRequest) error {
	bad := retcode.InvalidParameter
	if _, err := machineName(q.Name); err != nil {
		return err
	}
	if q.BootDiskID != "" && q.BootDiskID == q.DataDiskID {
		return retcode.SameExternalDisk.Errorf("BootDiskID and DataDiskID are both %s", q.BootDiskID)
	}
	if q.BootSourceType == bootDiskSource {
		for name, value := range map[string]string{"BootDiskID": q.BootDiskID, "OSName": q.OSName, "OSVersion": q.OSVersion, "OSType": q.OSType} {
			if value == "" {
				return retcode.MissingParameter.Errorf("%s is required when BootSourceType is Disk", name)
			}
		}
		if q.BootDiskSecret != "" {
			return bad.Errorf("BootDiskSecret is for a new disk, %s keeps its key", q.BootDiskID)
		}
	} else if q.BootDiskID != "" {
		return bad.Errorf("BootDiskID needs BootSourceType Disk")
	}
	periods := map[string]int{"Month": 11, "Year": 5}
	if last, ok := periods[q.ChargeType]; ok && q.Quantity != nil && (*q.Quantity < 1 || *q.Quantity > last) {
		return bad.Errorf("Quantity must be 1 to %d with ChargeType %s", last, q.ChargeType)
	}
	if q.Count > 1 {
		for name, value := range map[string]string{"InternalIP": q.InternalIP, "InternetIP": q.InternetIP, "LANMAC": q.LANMAC, "BootDiskID": q.BootDiskID, "DataDiskID": q.DataDiskID} {
			if value != "" {
				return bad.Errorf("%s is for one machine, Count is %d", name, q.Count)
			}
		}
		if slices.ContainsFunc(q.NICs, func(n nicRequest) bool { return n.IP != "" }) {
			return bad.Errorf("NICs.N.IP is for one machine, Count is %d", q.Count)
		}
	}
	if len(q.NICs) > network.MostNICs("") {
		return retcode.BindLimitReached.Errorf("a machine takes %d elastic network interfaces", network.MostNICs(""))
	}
	if q.OperatorName == "" && (q.InternetIP != "" || q.Bandwidth != nil || q.IPVersion != "IPv4") {
		return bad.Errorf("InternetIP, Bandwidth and IPVersion need OperatorName")
	}
	if _, err := parseDNS(q.DNS); err != nil {
		return err
	}
	if err := checkBootDevices(q.BootDevices); err != nil {
		return err
	}
	if q.MountDataDisk && q.DataDiskSpace == 0 && len(q.DataDisks) == 0 {
		return bad.Errorf("MountDataDisk needs a data disk")
	}
	if q.USBAttachType != "" && q.USBDeviceID == "" {
		return bad.Errorf("USBAttachType needs USBDeviceID")
	}
	if q.DataDiskSecret != "" && q.DataDiskSpace == 0 {
		return bad.Errorf("DataDiskSecret needs DataDiskSpace")
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
	if p.set, err = s.Fleet.ComputeSet(ctx, company, c.Region, q.VMType); err != nil {
		return nil, err
	}
	if p.storage, err = s.Fleet.StorageSet(ctx, company, c.Region, q.BootDiskSetType); err != nil {
		return nil, err
	}
	if p.image, err = imageByID(ctx, s.DB.Reader(), c.OwnScope(), q.ImageID); err != nil {
		return nil, err
	}
	for _, named := range []struct {
		name, id string
		disk     **block.Disk
	}{{"BootDiskID", q.BootDiskID, &p.boot}, {"DataDiskID", q.DataDiskID, &p.data}} {
		if named.id == "" {
			continue
		}
		if *named.disk, err = block.ByID(ctx, s.DB.Reader(), c.OwnScope(), named.id); retcode.Of(err) == retcode.ResourceNotFound {
			return nil, retcode.ResourceNotFound.Errorf("%s %s", named.name, named.id)
		} else if err != nil {
			return nil, err
		}
	}
	for _, named := range [][2]string{{"IGID", q.IGID}, {"USBDeviceID", q.USBDeviceID}} {
		if named[1] != "" {
			return nil, retcode.ResourceNotFound.Errorf("%s %s", named[0], named[1])
		}
	}
	if p.keys, err = s.keyPairs(ctx, s.DB.Reader(), c.OwnScope(), q.KeyPairIDs); err != nil {
		return nil, err
	}
	if err := p.image.bootable(p.set.Arch); err != nil {
		return nil, err
	}
	if err := s.Catalog.CheckVMSpec(ctx, c.Region, q.VMType, q.CPU, q.Memory); err != nil {
		return nil, err
	}
	if err := s.planDisks(ctx, c, q, p); err != nil {
		return nil, err
	}
	if err := s.planGuest(ctx, q, p); err != nil {
		return nil, err
	}
	if q.LANMAC != "" {
		if p.mac, err = network.ParseMAC("LANMAC", q.LANMAC); err != nil {
			return nil, err
		}
	}
	if len(q.NICs) > network.MostNICs(p.image.Arch) {
		return nil, retcode.BindLimitReached.Errorf("a machine takes %d elastic network interfaces", network.MostNICs(p.image.Arch))
	}
	for _, n := range q.NICs {
		p.nics = append(p.nics, network.NewNIC{Name: q.Name, VPCID: n.VPCID, SubnetID: n.SubnetID, IP: n.IP, SGID: n.SGID})
	}
	if q.OperatorName != "" {
		p.wantsEIP = true
		p.eip = network.EIPRequest{
			Company: company, Region: c.Region, Name: q.Name, Segment: q.OperatorName, IPVersion: q.IPVersion, IP: q.InternetIP,
			Bandwidth: 1, ChargeType: q.ChargeType, Quantity: p.quantity, AutoRenew: q.AutoRenew, QuotaTaken: true,
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
	if err := s.planSystem(ctx, c, q, p); err != nil {
		return err
	}
	wanted := q.DataDisks
	if q.DataDiskSpace > 0 {
		setType := q.DataDiskSetType
		if setType == "" {
			setType = q.BootDiskSetType
		}
		wanted = append([]dataDisk{{SetType: setType, DiskSpace: q.DataDiskSpace, Secret: q.DataDiskSecret}}, wanted...)
	}
	for _, d := range wanted {
		secret, err := block.CheckSecret("the secret of a data disk", d.Secret)
		if err != nil {
			return err
		}
		set, err := s.Fleet.StorageSet(ctx, c.Owner(), c.Region, d.SetType)
		if err != nil {
			return err
		}
		if err := s.Catalog.CheckDiskSpec(ctx, c.Region, d.SetType, d.DiskSpace); err != nil {
			return err
		}
		p.disks = append(p.disks, planDisk{block.Data, set, d.DiskSpace, secret})
	}
	all := len(p.disks)
	for _, d := range []*block.Disk{p.boot, p.data} {
		if d != nil {
			all++
		}
	}
	if most := block.Most(p.image.Arch); all > most {
		return retcode.BindLimitReached.Errorf("a machine takes %d disks", most)
	}
	return nil
}

// planSystem checks what the machine starts from: a new disk with the image's data, or one that has a system. Of that
// the request says which, and the image what it can.
func (s *Service) planSystem(ctx context.Context, c *action.Call, q *createVMRequest, p *createPlan) error {
	if p.boot != nil {
		switch {
		case !p.boot.Bootable || p.boot.Shareable:
			return retcode.InvalidParameter.Errorf("BootDiskID: %s holds no system", p.boot.ID)
		case p.boot.SetID != p.storage.ID:
			return retcode.InvalidParameter.Errorf("BootDiskSetType: %s is of %s", p.boot.ID, p.boot.SetType)
		case q.BootDiskSpace != nil && *q.BootDiskSpace != p.boot.SizeGB:
			return retcode.InvalidParameter.Errorf("BootDiskSpace: %s has %d GB, UpgradeDisk makes it larger", p.boot.ID, p.boot.SizeGB)
		case windows(q.OSType) != windows(p.image.OSType):
			return retcode.InvalidParameter.Errorf("OSType is %s, image %s is %s", q.OSType, p.image.ID, p.image.OSType)
		}
		system := *p.image
		system.OSType, system.OSName = q.OSType, osName(q.OSName, q.OSVersion)
		p.image = &system
		return nil
	}
	gb := defaultBootGB
	if q.BootDiskSpace != nil {
		gb = *q.BootDiskSpace
	}
	if err := s.Catalog.CheckBootDiskSpec(ctx, c.Region, q.BootDiskSetType, gb); err != nil {
		return err
	}
	least := p.image.virtualGB()
	if p.image.Secret != "" {
		least -= EncryptedGB // the disk that it was made of had it, too
	}
	if gb < least {
		return retcode.BootDiskTooSmall.Errorf("BootDiskSpace is %d GB, image %s needs %d", gb, p.image.ID, least)
	}
	secret, err := block.CheckSecret("BootDiskSecret", q.BootDiskSecret)
	if err != nil {
		return err
	}
	if p.image.Secret != "" {
		if secret != "" {
			return retcode.InvalidParameter.Errorf("BootDiskSecret: image %s is encrypted, its system disks have its key", p.image.ID)
		}
		if secret, err = s.passphrase(p.image); err != nil {
			return err
		}
	}
	if secret != "" {
		gb += EncryptedGB
	}
	p.disks = []planDisk{{block.Boot, p.storage, gb, secret}}
	return nil
}

// osName is how a system is called: its name with the version, which the name may say already.
func osName(name, version string) string {
	if strings.Contains(name, version) {
		return name
	}
	return name + " " + version
}

// planGuest checks what the guest is told.
func (s *Service) planGuest(ctx context.Context, q *createVMRequest, p *createPlan) error {
	bad := retcode.InvalidParameter
	win := windows(p.image.OSType)
	p.login, p.uefi = p.image.LoginUser, p.image.UEFI
	if q.LoginUser != "" {
		if win != (q.LoginUser == "administrator") {
			return bad.Errorf("LoginUser %s is no account of %s", q.LoginUser, p.image.OSName)
		}
		p.login = q.LoginUser
	}
	if err := p.image.hears(instruction{"LoginUser", q.LoginUser != ""}, instruction{"UserData", q.UserData != ""},
		instruction{"KeyPairIDs", len(p.keys) > 0}, instruction{"MountDataDisk", q.MountDataDisk}); err != nil {
		return err
	}
	if q.BootloaderType != "" && q.BootloaderType != bootloader(p.uefi) {
		return bad.Errorf("BootloaderType: image %s boots by %s", p.image.ID, bootloader(p.uefi))
	}
	if q.MountDataDisk && win {
		return bad.Errorf("MountDataDisk is not for Windows")
	}
	if q.Hostname != "" {
		if err := checkHostname(q.Hostname, p.image.OSType, q.Count); err != nil {
			return err
		}
	}
	if q.UserData != "" {
		raw, err := decodeUserData(q.UserData)
		if err != nil {
			return err
		}
		p.userData = string(raw)
	}
	if q.Password == "" { // there are keys
		return nil
	}
	var err error
	p.hash, err = s.newPassword(ctx, p.set.Region, q.Password, p.image.OSType, p.login)
	return err
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])$`)
