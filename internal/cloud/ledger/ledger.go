// Package ledger is the tenants' money: double-entry balances, what each
// charged resource has paid for and until when, orders, renewal and expiry.
//
// Money moves only by transfers between two accounts of one tenant, each written
// once under the name of what it is for. A product holds the price in the
// transaction that accepts a request (Hold), and either captures it in the one
// that settles it (Capture) or gives it back (End, Void); what follows in a
// resource's life are Change, Recycle, Restore and End. Renewal and expiry are
// reconcilers here, which tell the products by their Kind.
//
// Rows are locked in the order resource, accounts: in every transaction money
// comes last.
package ledger

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/download"
)

// Deps of the service.
type Deps struct {
	DB       *database.DB
	Clock    *clock.Clock
	Identity *identity.Service
	Catalog  *catalog.Service
	// Downloads serves exported bills; nil: ExportBill refuses.
	Downloads *download.Service
	// Location is the time zone in which a region counts months and days; nil: China's everywhere.
	Location func(region string) *time.Location
}

// Service is the ledger.
type Service struct {
	Deps
	kinds  map[string]Kind
	expiry *clock.Loop

	mu    sync.Mutex
	zones map[string]zone // by region
}

// zone of a region, as read lately.
type zone struct {
	*time.Location
	read time.Time
}

// zone of a region. Asking the configuration loads it from a file: not for every renewal.
func (s *Service) zone(region string) *time.Location {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, ok := s.zones[region]
	if !ok || time.Since(z.read) > 10*time.Second {
		z = zone{s.Location(region), time.Now()}
		s.zones[region] = z
	}
	return z.Location
}

// Names of kinds are those of products in orders and bills.
const (
	VM   = "VM"
	Disk = "Disk"
	EIP  = "EIP"
	NIC  = "NIC"
	VIP  = "VIP"
)

// Kind is a product whose resources cost money. Expired and Remove are called again until they return nil, and
// must do no harm when there is nothing left to do.
type Kind struct {
	// Name in orders and bills.
	Name string
	// Longest is how many hours one renewal of an hourly resource may buy; 0: one.
	Longest int
	// Table of the product, whose columns id, expire_at and charge_type follow the paid time; with AutoRenew
	// also auto_renew. Empty: the product keeps none.
	Table     string
	AutoRenew bool
	// Expired makes a resource whose paid time ended do no more work (a machine is stopped, an address unbound). The
	// cloud itself acts: the resource's being expired must not refuse it.
	Expired func(ctx context.Context, id string) error
	// Remove moves a resource whose grace is over to the recycle bin, or destroys it where the bin does not take it.
	Remove func(ctx context.Context, id string) error
}

// New prepares the service; products register their kinds before Run.
func New(d Deps) *Service {
	if d.Location == nil {
		d.Location = func(string) *time.Location { return china() }
	}
	s := &Service{Deps: d, kinds: map[string]Kind{}, zones: map[string]zone{}}
	if d.Downloads != nil {
		d.Downloads.Register(exportKind, s.export)
	}
	s.expiry = clock.NewLoop(s.Clock, "expiry", expiryEvery, s.expire)
	return s
}

// china is the time zone of a region that has no other: no daylight saving since 1991.
var china = sync.OnceValue(func() *time.Location {
	return time.FixedZone("CST", 8*60*60)
})

// Register adds a product. It panics when the name is taken: that is a mistake in the program.
func (s *Service) Register(k Kind) {
	if _, taken := s.kinds[k.Name]; taken || k.Name == "" {
		panic("ledger: kind " + k.Name + " is registered twice")
	}
	s.kinds[k.Name] = k
}

// Furnish opens the accounts of a new tenant, in the transaction that creates it.
func (s *Service) Furnish(ctx context.Context, tx bun.Tx, company int64, _ string) error {
	return open(ctx, tx, company)
}

// How late the reconcilers may be.
const (
	renewalEvery = 10 * time.Second
	expiryEvery  = 10 * time.Second
	rollupEvery  = time.Hour
)

// Run renews, expires and rolls up until ctx ends. Only the leading controller calls it.
func (s *Service) Run(ctx context.Context) {
	var g sync.WaitGroup
	for _, l := range []*clock.Loop{
		clock.NewLoop(s.Clock, "renewals", renewalEvery, s.Renewals), s.expiry,
		clock.NewLoop(s.Clock, "rollup of orders", rollupEvery, s.RollUp),
	} {
		g.Go(func() { l.Run(ctx) })
	}
	g.Wait()
}

// Actions of money.
func (s *Service) Actions() []action.Action {
	return slices.Concat(s.moneyActions(), s.chargeActions(), s.orderActions(), s.billActions())
}
