package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/apd/v3"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Money counts 1/10,000 yuan.
type Money int64

// Yuan of the currency.
const Yuan Money = 10_000

// Cent is what pro rata amounts are rounded to.
const cent = Yuan / 100

// Float is the amount in yuan, as the wire has it.
func (m Money) Float() float64 { return float64(m) / float64(Yuan) }

// most is beyond every balance, and far from what a Money cannot hold.
const most = Money(math.MaxInt64 / 4)

func tooMuch() error {
	return retcode.InvalidParameter.Errorf("the price is more than can be paid: order less")
}

// Times is m so many times; 113 when no balance can have as much.
func (m Money) Times(n int) (Money, error) {
	if n > 0 && m > most/Money(n) {
		return 0, tooMuch()
	}
	return m * Money(n), nil
}

// Part is m times part / whole, rounded half up to 0.01 yuan. whole is positive.
func (m Money) Part(part, whole int64) Money {
	r := new(apd.Decimal)
	rating.Mul(r, apd.New(int64(m), 0), apd.New(part, 0))
	rating.Quo(r, r, apd.New(whole*int64(cent), 0))
	return rounded(r) * cent
}

// rating is the arithmetic of prices: far more digits than any amount has.
var rating = apd.BaseContext.WithPrecision(60)

// rounded is the whole number next to d, half up. Amounts that no price in range can make overflow.
func rounded(d *apd.Decimal) Money {
	c := *rating
	c.Rounding = apd.RoundHalfUp
	n := new(apd.Decimal)
	if _, err := c.Quantize(n, d, 0); err != nil {
		panic(fmt.Sprintf("catalog: rounding %s: %v", d, err))
	}
	v, err := n.Int64()
	if err != nil {
		panic(fmt.Sprintf("catalog: %s is no amount of money: %v", d, err))
	}
	return Money(v)
}

// Charge types: for how long one buys.
const (
	Dynamic = "Dynamic" // an hour
	Month   = "Month"
	Year    = "Year"
)

// ChargeTypes in the order in which they are shown.
var ChargeTypes = []string{Dynamic, Month, Year}

// CheckTerm refuses numbers of periods that are not for sale (113), and returns the number that is bought: 1 for Dynamic.
func CheckTerm(chargeType string, quantity int) (int, error) {
	most, ok := map[string]int{Month: 11, Year: 5}[chargeType]
	if !ok {
		return 1, nil
	}
	if quantity < 1 || quantity > most {
		return 0, retcode.InvalidParameter.Errorf("Quantity is 1 to %d with ChargeType %s", most, chargeType)
	}
	return quantity, nil
}

// PriceFactor is what has a price.
type PriceFactor string

// The factors, with the scope that the price is for.
const (
	PriceCPU    PriceFactor = "CPU"    // cores; compute set type
	PriceMemory PriceFactor = "MEMORY" // MiB, priced by the GiB; compute set type
	PriceGPU    PriceFactor = "GPU"    // cards; compute set type
	PriceDisk   PriceFactor = "DISK"   // GB; storage set type
	PriceEIP    PriceFactor = "EIP"    // Mbps of an EIP, an outer NIC or VIP; segment id
)

// priced describes a factor.
type priced struct {
	Factor PriceFactor
	Name   string
	Unit   string
	Per    int64 // how much of Item.Amount is a unit
	Kind   ScopeKind
	Book   map[string][]tier // default prices by charge type
}

// book holds the factors and their default prices. Months and years cost less than as many hours.
var book = []priced{
	{PriceCPU, "vCPU", "Core", 1, ComputeScope, map[string][]tier{Dynamic: {{Price: 11660}}, Month: {{Price: 80 * Yuan}}, Year: {{Price: 960 * Yuan}}}},
	{PriceMemory, "Memory", "GB", 1024, ComputeScope, map[string][]tier{Dynamic: {{Price: 542}}, Month: {{Price: 39 * Yuan}}, Year: {{Price: 468 * Yuan}}}},
	{PriceGPU, "GPU", "Card", 1, ComputeScope, map[string][]tier{Dynamic: {{Price: 4 * Yuan}}, Month: {{Price: 2400 * Yuan}}, Year: {{Price: 28800 * Yuan}}}},
	{PriceDisk, "Disk", "GB", 1, StorageScope, map[string][]tier{Dynamic: {{Price: 8}}, Month: {{Price: 5000}}, Year: {{Price: 6 * Yuan}}}},
	{PriceEIP, "EIP", "Mb", 1, SegmentScope, map[string][]tier{
		Dynamic: {{To: 5, Price: 420}, {From: 5, Price: 1400}},
		Month:   {{To: 5, Price: 30 * Yuan}, {From: 5, Price: 100 * Yuan}},
		Year:    {{To: 5, Price: 360 * Yuan}, {From: 5, Price: 1200 * Yuan}},
	}},
}

// pricedAs returns a factor's description; nil when there is none.
func pricedAs(f PriceFactor) *priced {
	for i := range book {
		if book[i].Factor == f {
			return &book[i]
		}
	}
	return nil
}

// tier is a step of a graduated price: what lies above From and up to To units (0: everything above) costs
// Price a unit and period. A simple price is one open tier.
type tier struct {
	From  int64 `json:"from"`
	To    int64 `json:"to"`
	Price Money `json:"price"`
}

// cost of an amount in units for one period, before discount; ok is false beyond the last tier.
func cost(tiers []tier, units *apd.Decimal) (total *apd.Decimal, ok bool) {
	total = new(apd.Decimal)
	for _, t := range tiers {
		part, open := new(apd.Decimal).Set(units), t.To == 0
		if !open && units.Cmp(apd.New(t.To, 0)) > 0 {
			part.SetInt64(t.To)
		}
		rating.Sub(part, part, apd.New(t.From, 0))
		if part.Sign() > 0 {
			rating.Mul(part, part, apd.New(int64(t.Price), 0))
			rating.Add(total, total, part)
		}
		ok = ok || open || units.Cmp(apd.New(t.To, 0)) <= 0
	}
	return total, ok
}

// Item is an amount of something that has a price.
type Item struct {
	Factor PriceFactor
	Scope  string
	Amount int64 // in the factor's unit, memory in MiB
}

// VMItems are what a virtual machine costs, without its disks and addresses.
func VMItems(vmType string, cpus, memoryMiB, gpus int) []Item {
	items := []Item{{PriceCPU, vmType, int64(cpus)}, {PriceMemory, vmType, int64(memoryMiB)}}
	if gpus > 0 {
		items = append(items, Item{PriceGPU, vmType, int64(gpus)})
	}
	return items
}

// DiskItem is what a disk costs.
func DiskItem(setType string, gb int) Item { return Item{PriceDisk, setType, int64(gb)} }

// BandwidthItem is what an EIP, outer NIC or outer VIP costs.
func BandwidthItem(segmentID string, mbps int) Item { return Item{PriceEIP, segmentID, int64(mbps)} }

// Quote is what a tenant pays for quantity periods (hours, months or years) of the items: the sum over the items of
// amount times price times discount, each rounded half up to 1/10,000 yuan for one period, times quantity. An order
// that quotes in its transaction pays exactly what the same quote said. PriceNotFound (17003) where
// something is not for sale by that charge type, 113 for more than any balance can have. While billing is switched off
// everything costs nothing.
func (s *Service) Quote(ctx context.Context, db bun.IDB, company int64, region, chargeType string, quantity int, items []Item) (Money, error) {
	if len(items) == 0 || !s.Config.BillingEnabled(ctx) {
		return 0, nil
	}
	prices, discounts, err := s.prices(ctx, db, company, region, chargeType)
	if err != nil {
		return 0, err
	}
	var total Money
	for _, i := range items {
		p := pricedAs(i.Factor)
		if p == nil {
			return 0, fmt.Errorf("catalog: nothing is called %q in the price book", i.Factor)
		}
		units := new(apd.Decimal)
		if _, err := rating.Quo(units, apd.New(i.Amount, 0), apd.New(p.Per, 0)); err != nil {
			return 0, err
		}
		key := priceKey{i.Factor, i.Scope, chargeType}
		tiers, set := prices[key]
		if !set {
			tiers = p.Book[chargeType]
		}
		sum, ok := cost(tiers, units)
		if !ok {
			return 0, retcode.PriceNotFound.Errorf("%s of %s has no price for %d with ChargeType %s", i.Factor, i.Scope, i.Amount, chargeType)
		}
		percent, discounted := discounts[key]
		if !discounted {
			percent = 100
		}
		rating.Mul(sum, sum, apd.New(percent, -2))
		if total += rounded(sum); total < 0 || total > most {
			return 0, tooMuch()
		}
	}
	return total.Times(quantity)
}

type priceKey struct {
	Factor     PriceFactor
	Scope      string
	ChargeType string
}

// prices reads what was set of a region's prices, and a tenant's discounts. chargeType "" reads all.
func (s *Service) prices(ctx context.Context, db bun.IDB, company int64, region, chargeType string) (map[priceKey][]tier, map[priceKey]int64, error) {
	rows, err := s.priceRows(ctx, db, region, chargeType)
	if err != nil {
		return nil, nil, err
	}
	prices := make(map[priceKey][]tier, len(rows))
	for _, r := range rows {
		if prices[r.key()], err = r.tiers(); err != nil {
			return nil, nil, err
		}
	}
	if company == 0 {
		return prices, nil, nil
	}
	reductions, err := s.discountRows(ctx, db, company, region, chargeType)
	if err != nil {
		return nil, nil, err
	}
	discounts := make(map[priceKey]int64, len(reductions))
	for _, r := range reductions {
		discounts[r.key()] = r.Percent
	}
	return prices, discounts, nil
}

func (r priceRow) key() priceKey    { return priceKey{r.Factor, r.Scope, r.ChargeType} }
func (r discountRow) key() priceKey { return priceKey{r.Factor, r.Scope, r.ChargeType} }

func (r priceRow) tiers() (tiers []tier, err error) {
	if err := json.Unmarshal([]byte(r.Tiers), &tiers); err != nil {
		return nil, errors.Join(fmt.Errorf("catalog: price of %s in %s", r.Factor, r.Scope), err)
	}
	return tiers, nil
}
