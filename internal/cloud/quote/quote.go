// Package quote answers what things would cost: new ones at the price that their
// order takes, changes at the premium that the ledger holds for them. It decides
// nothing of its own.
package quote

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/compute"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Deps of the service.
type Deps struct {
	DB        *database.DB
	Catalog   *catalog.Service
	Ledger    *ledger.Service
	Fleet     *fleet.Service
	Compute   *compute.Service
	Directory *resource.Directory
}

// Service is the quotes.
type Service struct{ Deps }

// New prepares the service.
func New(d Deps) *Service { return &Service{d} }

// Actions of quotes.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "GetVMInstancePrice", Module: "vm", Summary: "Quote the price of a virtual machine specification."}, s.vm),
		action.Define(action.Spec{Name: "GetDiskPrice", Module: "disk", Summary: "Quote the price of a new disk."}, s.disk),
		action.Define(action.Spec{Name: "GetEIPPrice", Module: "eip", Summary: "Quote the price of a public IP."}, s.eip),
		action.Define(action.Spec{Name: "GetCreateNICPrice", Module: "nic", Extension: true, Summary: "Price of an outer NIC."}, s.outer),
		action.Define(action.Spec{Name: "GetVIPPrice", Module: "vip", Extension: true, Summary: "Price of an outer VIP."}, s.outer),
		action.Define(action.Spec{Name: "GetPaymentOfPremium", Module: "vm", Summary: "Quote the price difference of a resize."}, s.resize),
		action.Define(action.Spec{Name: "GetUpgradeDiskPrice", Module: "disk", Summary: "Quote the price difference of growing a disk."}, s.grow),
		action.Define(action.Spec{Name: "GetEIPDiffPrice", Module: "eip", Summary: "Quote the price difference of a bandwidth change."}, s.eipBandwidth),
		action.Define(action.Spec{Name: "GetUpdateNICPrice", Module: "nic", Extension: true, Summary: "Price difference of a bandwidth change."}, s.nicBandwidth),
		action.Define(action.Spec{Name: "GetVIPDiffPrice", Module: "vip", Extension: true, Summary: "Price difference of a bandwidth change."}, s.vipBandwidth),
	}
}

type response struct{ Infos []priceInfo }

type listResponse struct {
	Infos      []priceInfo
	TotalCount int
}

type priceInfo struct {
	ChargeType string
	Price      float64 `doc:"yuan"`
}

// term is what every order of something new says.
type term struct {
	ChargeType string `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	Quantity   int    `default:"1" doc:"periods; Month 1-11, Year 1-5, ignored for Dynamic"`
	action.Tenant
}

// maxCount is how many of a thing one order may have; more can be priced, within reason.
const maxCount = 1000

// price quotes count times the items.
func (s *Service) price(ctx context.Context, c *action.Call, chargeType string, quantity, count int, items []catalog.Item) (*response, error) {
	quantity, err := catalog.CheckTerm(chargeType, quantity)
	if err != nil {
		return nil, err
	}
	if count < 1 || count > maxCount {
		return nil, retcode.InvalidParameter.Errorf("Count is 1 to %d", maxCount)
	}
	m, err := s.Catalog.Quote(ctx, s.DB.Reader(), c.Owner(), c.Region, chargeType, quantity, items)
	if err != nil {
		return nil, err
	}
	m, err = m.Times(count)
	return &response{[]priceInfo{{chargeType, m.Float()}}}, err
}

type vmRequest struct {
	VMType          string   `validate:"required" doc:"compute set type, from DescribeVMType"`
	ImageID         string   `validate:"required" doc:"base or custom image id"`
	CPU             int      `validate:"required" doc:"cores, as offered"`
	Memory          int      `validate:"required" doc:"MiB, as offered"`
	BootDiskSetType string   `validate:"required" doc:"storage set type of the system disk"`
	ChargeType      string   `validate:"required,oneof=Dynamic Month Year" doc:"Dynamic is hourly"`
	BootDiskSpace   int      `default:"40" doc:"GB"`
	Count           int      `default:"1" doc:"how many to price"`
	Quantity        int      `default:"1" doc:"periods; Month 1-11, Year 1-5, ignored for Dynamic"`
	GPU             int      `validate:"omitempty,oneof=1 2 4" doc:"cards; needs 4 cores each"`
	GPUType         string   `default:"GPU" validate:"oneof=GPU VGPU" doc:"kind of card"`
	MdevName        string   `doc:"vGPU profile"`
	DataDiskSetType string   `doc:"storage set type of the data disk"`
	DataDiskSpace   int      `validate:"min=0" doc:"GB"`
	BootDiskSecret  string   `doc:"as in the order: an encrypted system disk has 1 GB more"`
	OSType          string   `doc:"older clients only"`
	DataDisks       []diskOf `doc:"further data disks"`
	Bandwidth       int      `default:"1" doc:"Mbps of a public address, with OperatorName"`
	OperatorName    string   `doc:"segment of a public address, id or name"`
	action.Tenant
}

type diskOf struct {
	SetType   string `validate:"required" doc:"storage set type"`
	DiskSpace int    `validate:"required" doc:"GB"`
}

// vm prices a machine with all that its order makes.
func (s *Service) vm(ctx context.Context, c *action.Call, q *vmRequest) (*response, error) {
	if _, err := s.Fleet.ComputeSet(ctx, c.Owner(), c.Region, q.VMType); err != nil {
		return nil, err
	}
	encrypted, err := s.Compute.CheckImage(ctx, c.OwnScope(), q.ImageID)
	if err != nil {
		return nil, err
	}
	if err := s.Catalog.CheckVMSpec(ctx, c.Region, q.VMType, q.CPU, q.Memory); err != nil {
		return nil, err
	}
	if q.GPU > 0 && q.CPU < 4*q.GPU {
		return nil, retcode.InvalidParameter.Errorf("CPU must be at least 4 for each GPU")
	}
	items := catalog.VMItems(q.VMType, q.CPU, q.Memory, q.GPU)
	if _, err := s.Fleet.StorageSet(ctx, c.Owner(), c.Region, q.BootDiskSetType); err != nil {
		return nil, err
	}
	if err := s.Catalog.CheckBootDiskSpec(ctx, c.Region, q.BootDiskSetType, q.BootDiskSpace); err != nil {
		return nil, err
	}
	boot := q.BootDiskSpace
	if encrypted || q.BootDiskSecret != "" {
		boot += compute.EncryptedGB
	}
	items = append(items, catalog.DiskItem(q.BootDiskSetType, boot))
	disks := q.DataDisks
	if q.DataDiskSpace > 0 {
		set := q.DataDiskSetType
		if set == "" {
			set = q.BootDiskSetType
		}
		disks = append([]diskOf{{set, q.DataDiskSpace}}, disks...)
	}
	if most := block.Most(""); 1+len(disks) > most {
		return nil, retcode.BindLimitReached.Errorf("a machine takes %d disks", most)
	}
	for _, d := range disks {
		item, err := s.diskItem(ctx, c, d)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	if q.OperatorName != "" {
		item, err := s.bandwidthItem(ctx, c, q.OperatorName, q.Bandwidth)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return s.price(ctx, c, q.ChargeType, q.Quantity, q.Count, items)
}

// diskItem checks a data disk as its order does.
func (s *Service) diskItem(ctx context.Context, c *action.Call, d diskOf) (catalog.Item, error) {
	if _, err := s.Fleet.StorageSet(ctx, c.Owner(), c.Region, d.SetType); err != nil {
		return catalog.Item{}, err
	}
	return catalog.DiskItem(d.SetType, d.DiskSpace), s.Catalog.CheckDiskSpec(ctx, c.Region, d.SetType, d.DiskSpace)
}

// bandwidthItem checks a bandwidth of a segment that the tenant may use.
func (s *Service) bandwidthItem(ctx context.Context, c *action.Call, segment string, mbps int) (catalog.Item, error) {
	scope, err := s.Catalog.Segment(ctx, c.Region, c.Owner(), segment)
	if err != nil {
		return catalog.Item{}, err
	}
	return catalog.BandwidthItem(scope.ID, mbps), s.Catalog.CheckEIPSpec(ctx, c.Region, scope.ID, mbps)
}

type diskRequest struct {
	SetType   string `validate:"required" doc:"storage set type, from DescribeStorageType"`
	DiskSpace int    `validate:"required" doc:"GB"`
	Count     int    `default:"1" doc:"how many to price"`
	term
}

func (s *Service) disk(ctx context.Context, c *action.Call, q *diskRequest) (*response, error) {
	item, err := s.diskItem(ctx, c, diskOf{q.SetType, q.DiskSpace})
	if err != nil {
		return nil, err
	}
	return s.price(ctx, c, q.ChargeType, q.Quantity, q.Count, []catalog.Item{item})
}

type eipRequest struct {
	OpertatorName string `validate:"required" alias:"OperatorName" doc:"external segment, id or name; spelled so in every client"`
	Bandwidth     *int   `validate:"required" doc:"Mbps, as the segment offers"`
	Count         int    `default:"1" doc:"how many to price"`
	term
}

func (s *Service) eip(ctx context.Context, c *action.Call, q *eipRequest) (*response, error) {
	item, err := s.bandwidthItem(ctx, c, q.OpertatorName, *q.Bandwidth)
	if err != nil {
		return nil, err
	}
	return s.price(ctx, c, q.ChargeType, q.Quantity, q.Count, []catalog.Item{item})
}

type outerRequest struct {
	SegmentID string `validate:"required" doc:"external segment, id or name"`
	Bandwidth *int   `validate:"required" doc:"Mbps, as the segment offers"`
	term
}

// outer prices an outer NIC or VIP: its bandwidth.
func (s *Service) outer(ctx context.Context, c *action.Call, q *outerRequest) (*listResponse, error) {
	item, err := s.bandwidthItem(ctx, c, q.SegmentID, *q.Bandwidth)
	if err != nil {
		return nil, err
	}
	r, err := s.price(ctx, c, q.ChargeType, q.Quantity, 1, []catalog.Item{item})
	if err != nil {
		return nil, err
	}
	return &listResponse{r.Infos, 1}, nil
}

type resizeRequest struct {
	VMID        string `validate:"required" doc:"virtual machine id"`
	CPU         int    `validate:"required" doc:"cores, as offered"`
	Memory      int    `validate:"required" doc:"MiB, as offered"`
	GPU         *int   `validate:"omitempty,min=0,max=4" doc:"cards; absent: as they are"`
	GPUMdevName string `doc:"vGPU profile"`
	GPUType     string `validate:"omitempty,oneof=GPU VGPU" doc:"kind of card"`
	MdevName    string `doc:"vGPU profile"`
	action.Tenant
}

type resizeResponse struct {
	OrderType string  `doc:"0 no change, 3 upgrade, 7 downgrade"`
	Price     float64 `doc:"yuan to pay now"`
}

// orderTypes are the numbers of orders.
var orderTypes = map[string]string{"": "0", ledger.Upgrade: "3", ledger.Downgrade: "7"}

func (s *Service) resize(ctx context.Context, c *action.Call, q *resizeRequest) (*resizeResponse, error) {
	if _, err := s.Directory.Find(ctx, s.DB.Reader(), c.Scope(), q.VMID); err != nil {
		return nil, err
	}
	m, _, typ, err := s.Ledger.Reprice(ctx, s.DB.Reader(), c.Scope(), q.VMID, func(items []catalog.Item) ([]catalog.Item, error) {
		var rest []catalog.Item
		vmType, gpus := "", 0
		for _, i := range items {
			switch i.Factor {
			case catalog.PriceCPU:
				vmType = i.Scope
			case catalog.PriceGPU:
				gpus = int(i.Amount)
			case catalog.PriceMemory:
			default:
				rest = append(rest, i)
			}
		}
		if q.GPU != nil {
			gpus = *q.GPU
		}
		return append(catalog.VMItems(vmType, q.CPU, q.Memory, gpus), rest...), s.Catalog.CheckVMSpec(ctx, c.Region, vmType, q.CPU, q.Memory)
	})
	if err != nil {
		return nil, err
	}
	return &resizeResponse{orderTypes[typ], m.Float()}, nil
}

type growRequest struct {
	DiskID    string `validate:"required" doc:"disk id"`
	DiskSpace int    `validate:"required" doc:"GB, larger than it is"`
	action.Tenant
}

// grow prices a data disk by itself and a system disk with its machine, which pays for it.
func (s *Service) grow(ctx context.Context, c *action.Call, q *growRequest) (*response, error) {
	d, err := block.ByID(ctx, s.DB.Reader(), c.Scope(), q.DiskID)
	if err != nil {
		return nil, err
	}
	if q.DiskSpace < d.SizeGB {
		return nil, retcode.DiskShrinkNotSupported.Errorf("%s has %d GB", d.ID, d.SizeGB)
	}
	check := s.Catalog.CheckDiskSpec
	if d.Role == block.Boot {
		check = s.Catalog.CheckBootDiskSpec
	}
	if err := check(ctx, c.Region, d.SetType, q.DiskSpace); err != nil {
		return nil, err
	}
	return s.change(ctx, c, d.Payer(), catalog.PriceDisk, func(catalog.Item) (int, error) { return q.DiskSpace, nil })
}

// change quotes another amount of a factor that a resource consists of.
func (s *Service) change(ctx context.Context, c *action.Call, id string, factor catalog.PriceFactor, amount func(catalog.Item) (int, error)) (*response, error) {
	m, chargeType, _, err := s.Ledger.Reprice(ctx, s.DB.Reader(), c.Scope(), id, func(items []catalog.Item) ([]catalog.Item, error) {
		for i := range items {
			if items[i].Factor == factor {
				n, err := amount(items[i])
				items[i].Amount = int64(n)
				return items, err
			}
		}
		return nil, retcode.ResourceNotFound.Errorf("%s", id)
	})
	if err != nil {
		return nil, err
	}
	return &response{[]priceInfo{{chargeType, m.Float()}}}, nil
}

// bandwidth quotes another bandwidth of something outer: 8000 where its segment does not offer it. What was made before
// it cost anything goes on costing nothing.
func (s *Service) bandwidth(ctx context.Context, c *action.Call, id string, mbps int) (*response, error) {
	item, err := s.Directory.Find(ctx, s.DB.Reader(), c.Scope(), id)
	if err != nil {
		return nil, err
	}
	r, err := s.change(ctx, c, id, catalog.PriceEIP, func(i catalog.Item) (int, error) {
		return mbps, s.Catalog.CheckEIPSpec(ctx, c.Region, i.Scope, mbps)
	})
	if retcode.Of(err) == retcode.ResourceNotFound && item.Kind == "NIC" {
		return &response{[]priceInfo{{}}}, nil
	}
	return r, err
}

type eipBandwidthRequest struct {
	EIPID     string `validate:"required" doc:"public address id"`
	Bandwidth *int   `validate:"required" doc:"Mbps"`
	CompanyID int64  `validate:"required" doc:"tenant; from a tenant its own"`
}

func (s *Service) eipBandwidth(ctx context.Context, c *action.Call, q *eipBandwidthRequest) (*response, error) {
	if !c.Caller.Admin && q.CompanyID != c.Caller.Company {
		return nil, retcode.AdminOnly.Errorf("CompanyID %d is another tenant", q.CompanyID)
	}
	c.Company = q.CompanyID
	return s.bandwidth(ctx, c, q.EIPID, *q.Bandwidth)
}

type nicBandwidthRequest struct {
	NICID     string `validate:"required" doc:"outer NIC id"`
	Bandwidth *int   `validate:"required" doc:"Mbps"`
	action.Tenant
}

func (s *Service) nicBandwidth(ctx context.Context, c *action.Call, q *nicBandwidthRequest) (*listResponse, error) {
	return listed(s.bandwidth(ctx, c, q.NICID, *q.Bandwidth))
}

type vipBandwidthRequest struct {
	VIPID     string `validate:"required" doc:"outer VIP id"`
	Bandwidth *int   `validate:"required" doc:"Mbps"`
	action.Tenant
}

func (s *Service) vipBandwidth(ctx context.Context, c *action.Call, q *vipBandwidthRequest) (*listResponse, error) {
	return listed(s.bandwidth(ctx, c, q.VIPID, *q.Bandwidth))
}

func listed(r *response, err error) (*listResponse, error) {
	if err != nil {
		return nil, err
	}
	return &listResponse{r.Infos, len(r.Infos)}, nil
}
