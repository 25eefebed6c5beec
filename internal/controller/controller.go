// Package controller wires the rooms into one running controller: database,
// workflows, products, fabric, hosts and the HTTP endpoint.
package controller

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/backup"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/approval"
	"github.com/lingyun-cloud/lingyun/internal/cloud/audit"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/compute"
	"github.com/lingyun-cloud/lingyun/internal/cloud/event"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/cloud/oauth"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/cloud/quote"
	"github.com/lingyun-cloud/lingyun/internal/cloud/recycle"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/cloud/timer"
	"github.com/lingyun-cloud/lingyun/internal/console"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/download"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	"github.com/lingyun-cloud/lingyun/internal/mail"
	"github.com/lingyun-cloud/lingyun/internal/ntp"
	"github.com/lingyun-cloud/lingyun/internal/pki"
	"github.com/lingyun-cloud/lingyun/internal/secret"
	"github.com/lingyun-cloud/lingyun/internal/simulate"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Segment describes the external segment Bgp. It is read at the first start only.
type Segment struct {
	CIDR    netip.Prefix
	Gateway netip.Addr // the outside's router; invalid: the first address of CIDR
	Network string     // provider network, as in the hosts' bridge mappings
	// First and Last bound what is handed out; invalid: all of CIDR but its ends and the gateway.
	First, Last netip.Addr
}

// What a simulated cloud's segment is: the addresses set aside for benchmarks (RFC 2544).
var simulatedSegment = Segment{CIDR: netip.MustParsePrefix("198.18.0.0/16"), Network: "provider"}

// Config of a controller.
type Config struct {
	// Dir is the data directory. It is made (mode 0700) when it does not exist.
	Dir string
	// Database is empty (SQLite in Dir), or postgres://...
	Database string
	// DB is an open database instead; it stays open.
	DB *database.DB

	// Listen is the endpoint's address. Listener is its socket when it is there already.
	Listen   string
	Listener net.Listener
	// TLSCert and TLSKey are PEM files. Without them, an address that is not loopback gets a certificate
	// of the cloud's own authority, and loopback none.
	TLSCert, TLSKey string
	// Management is the address where new hosts join, with a certificate of the cloud's authority. Empty:
	// they join at the endpoint, when that has such a certificate.
	Management string

	// Simulate is how many hosts to simulate. 0: real ones.
	Simulate int
	// Host sizes the simulated ones; zero fields take their defaults.
	Host simulate.Options

	// OVN of a real cloud: endpoints as ovn-nbctl has them; OVNHosts is what joining hosts are told.
	OVNNorthbound, OVNSouthbound, OVNHosts string

	// Segment is that of the first start; none without a CIDR, unless the cloud is simulated.
	Segment Segment
	// ImportFrom are networks that tenants may load images from although they are the cloud's own.
	ImportFrom []netip.Prefix
	// DNS servers that DHCP offers when a subnet names none.
	DNS []netip.Addr

	// Holder names this controller in the lease; host name and pid when empty.
	Holder string
	// OnLost is called when the lease was lost: the process must end at once. Run returns then, too.
	OnLost func(error)
	// Backup is the directory of backups; empty: "backup" in Dir.
	Backup string
	// Limits of calls.
	Limits action.Limits
	// SweepEvery is how often the engine looks for operations that nobody started; 1 s when 0.
	SweepEvery time.Duration
	// Proxies are the networks of reverse proxies whose X-Forwarded headers are believed.
	Proxies []netip.Prefix
	// MailRoots are who may certify the mail server; nil: the system's.
	MailRoots *x509.CertPool
	// NTP asks time servers.
	NTP ntp.Client
	// PasswordCost and ProofBits are for tests.
	PasswordCost *argon2id.Params
	ProofBits    int
}

// Controller is one running controller.
type Controller struct {
	Config    Config
	URL       string // of the endpoint
	DB        *database.DB
	Clock     *clock.Clock
	Engine    *workflow.Engine
	Simulator *simulate.Cloud // nil in a real cloud
	Fabric    fabric.Fabric
	Mail      *mail.Service
	Identity  *identity.Service
	Catalog   *catalog.Service
	Audit     *audit.Service
	Events    *event.Service
	Downloads *download.Service
	Ledger    *ledger.Service
	Permit    *permit.Service
	Fleet     *fleet.Service
	Network   *network.Service
	Block     *block.Service
	Compute   *compute.Service
	Recycle   *recycle.Service
	Tags      *tag.Service
	Timer     *timer.Service
	OAuth     *oauth.Service
	Approval  *approval.Service
	Backups   *backup.Service
	// Directory knows every kind of resource.
	Directory *resource.Directory

	secret    *secret.Key
	authority *pki.Authority
	keeper    *pki.Keeper // of the certificate that agents are called with
	revoked   pki.Revoked
	handler   *action.Handler
	consoles  *console.Bridge
	endpoint  net.Listener
	manage    net.Listener
	given     *tls.Config // the endpoint's certificate from files; nil: none given
	ownTLS    *pki.Keeper // of the certificate that listeners show otherwise; nil: none
	registry  *prometheus.Registry
	time      *timekeeper
	lost      chan error
	ready     atomic.Bool
	started   bool           // the engine
	close     []func() error // in reverse order
}

// New opens everything up to the point where requests can be served: it takes the lease
// (workflow.ErrLed when another controller holds it) and makes what a first start needs. The caller
// calls Run, or Close.
func New(ctx context.Context, cfg Config) (_ *Controller, err error) {
	c := &Controller{Config: cfg, lost: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if cfg.Simulate < 0 || cfg.Simulate > 100_000 {
		return nil, errors.New("the number of simulated hosts is 0 to 100000")
	}
	if cfg.Simulate == 0 && cfg.OVNNorthbound == "" {
		return nil, errors.New("name OVN's databases (--ovn-northbound, --ovn-southbound), or simulate hosts (--simulate N)")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	// The socket first: whoever cannot have it shall not touch the database.
	if err := c.listen(); err != nil {
		return nil, err
	}
	if err := c.openData(ctx); err != nil {
		return nil, err
	}
	if err := c.build(ctx); err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// openData opens key file, database and clock.
func (c *Controller) openData(ctx context.Context) (err error) {
	if c.secret, err = secret.Load(filepath.Join(c.Config.Dir, "secret.key")); err != nil {
		return err
	}
	if c.DB = c.Config.DB; c.DB == nil {
		c.DB, err = database.Open(ctx, database.Options{URL: c.Config.Database, Dir: c.Config.Dir, KeyFingerprint: c.secret.Fingerprint()})
		if err != nil {
			return fmt.Errorf("database: %w", err)
		}
		c.close = append(c.close, c.DB.Close)
	}
	c.Clock = clock.New()
	return nil
}

// build makes the products. Nothing runs yet.
func (c *Controller) build(ctx context.Context) (err error) {
	cfg := &c.Config
	c.time = newTimekeeper(cfg.NTP, c.metrics())
	c.Catalog = catalog.New(catalog.Deps{DB: c.DB, Clock: c.Clock, Secret: c.secret})
	if err := c.checkKeyFile(ctx); err != nil {
		return err
	}
	c.Downloads = download.New(download.Deps{Clock: c.Clock, Secret: c.secret, Base: strings.TrimSuffix(c.URL, "/api")})
	c.Audit = audit.New(audit.Deps{DB: c.DB, Clock: c.Clock, Retention: c.Catalog.Config.AuditRetention, Downloads: c.Downloads,
		Prefix: func(kind string) (string, error) { k, err := c.Directory.Named(kind); return k.Prefix, err }})
	holder := cfg.Holder
	if holder == "" {
		name, _ := os.Hostname()
		holder = fmt.Sprintf("%s/%d", name, os.Getpid())
	}
	c.Engine = workflow.New(c.DB, workflow.Options{Clock: c.Clock, OnAccept: c.accepted, OnEnd: c.ended,
		OnLost: c.onLost, Holder: holder, SweepEvery: cfg.SweepEvery})
	c.Directory = new(resource.Directory)
	c.Events = event.New(event.Deps{DB: c.DB, Clock: c.Clock, Directory: c.Directory, Retention: c.Catalog.Config.AuditRetention})
	c.Mail = mail.New(mail.Deps{DB: c.DB, Clock: c.Clock, Secret: c.secret, Settings: c.mailSettings, Roots: cfg.MailRoots})
	c.Identity = identity.New(identity.Deps{DB: c.DB, Clock: c.Clock, Secret: c.secret, Directory: c.Directory, PasswordCost: cfg.PasswordCost, ProofBits: cfg.ProofBits,
		Policy: c.policy, Mail: c.Mail, Console: strings.TrimSuffix(c.URL, "/api")})
	c.Ledger = ledger.New(ledger.Deps{DB: c.DB, Clock: c.Clock, Identity: c.Identity, Catalog: c.Catalog, Downloads: c.Downloads,
		Location: func(region string) *time.Location { return c.Catalog.Config.TimeZone(context.Background(), region) }})
	c.Directory.Charges = c.Ledger
	c.Identity.OnBalance(c.Ledger.Balances)
	c.Identity.OnTenant(c.Catalog.Furnish)
	c.Identity.OnLeave(c.Catalog.Leave)
	c.Identity.OnRegions(c.Catalog.RegionIDs)
	c.Catalog.OnTenants(c.Identity.CheckTenant)
	c.Catalog.OnTimeServer(c.time.reachable)
	c.Identity.OnTenant(c.Ledger.Furnish)

	if err := c.loadAuthority(ctx); err != nil {
		return err
	}
	fleetDeps := fleet.Deps{DB: c.DB, Clock: c.Clock, Catalog: c.Catalog, Epoch: c.Engine.Epoch, Images: filepath.Join(cfg.Dir, "images"),
		Revoked: &c.revoked, Southbound: cfg.OVNHosts}
	if cfg.Simulate > 0 {
		o := cfg.Host
		o.Hosts, o.Dir, o.Clock, o.DatabaseDown = cfg.Simulate, filepath.Join(cfg.Dir, "simulate"), c.Clock, c.DB.SetDown
		if o.Networks == nil {
			o.Networks = []string{simulatedSegment.Network}
		}
		if c.Simulator, err = simulate.New(o); err != nil {
			return fmt.Errorf("simulated hosts: %w", err)
		}
		c.close = append(c.close, c.Simulator.Close)
		fleetDeps.Dial = c.Simulator.Dial
		c.Fabric = fabric.NewMemory()
	} else {
		fleetDeps.Authority, fleetDeps.JoinURL = c.authority, c.joinURL()
		fleetDeps.Dial = func(hostID, address string) (hostlink.Host, error) {
			return hostlink.NewClient(address, pki.ControllerTLS(c.keeper, hostID, &c.revoked)), nil
		}
		if c.Fabric, err = fabric.OpenOVN(ctx, fabric.Options{Northbound: cfg.OVNNorthbound, Southbound: cfg.OVNSouthbound, Log: slog.Default()}); err != nil {
			return fmt.Errorf("OVN: %w", err)
		}
	}
	c.close = append(c.close, c.Fabric.Close)

	c.Permit = permit.New(permit.Deps{DB: c.DB, Clock: c.Clock, Identity: c.Identity})
	fleetDeps.Secret, fleetDeps.Permit = c.secret, c.Permit
	c.Fleet = fleet.New(fleetDeps)
	c.Permit.Register(c.Fleet.PermitKinds()...)
	c.Catalog.OnCapacity(c.Fleet.Capacity)
	c.Catalog.OnScopes(c.Fleet.PriceScopes)
	c.Catalog.OnSets(c.Fleet.SetKinds)
	c.Catalog.OnNodes(c.Fleet.LicenceNodes)
	c.Network = network.New(network.Deps{DB: c.DB, Clock: c.Clock, Engine: c.Engine, Identity: c.Identity, Catalog: c.Catalog,
		Fleet: c.Fleet, Permit: c.Permit, Fabric: c.Fabric, Ledger: c.Ledger, DNS: c.nameServers,
		InnerMbps: c.Catalog.Config.InnerBandwidth, VPCNetworks: c.Catalog.Config.VPCNetwork})
	c.Permit.Register(c.Network.PermitKinds()...)
	c.Block = block.New(block.Deps{DB: c.DB, Clock: c.Clock, Engine: c.Engine, Secret: c.secret, Identity: c.Identity,
		Catalog: c.Catalog, Fleet: c.Fleet, Ledger: c.Ledger})
	c.Catalog.OnScopes(c.Network.PriceScopes)
	c.consoles = console.New(hostOf(c.endpoint.Addr()))
	c.close = append(c.close, c.consoles.Close)
	c.Compute = compute.New(compute.Deps{Console: c.consoles, Downloads: c.Downloads, Base: strings.TrimSuffix(c.URL, "/api"),
		WorkDir: filepath.Join(cfg.Dir, "uploads"), ImportFrom: cfg.ImportFrom, DB: c.DB, Clock: c.Clock, Engine: c.Engine, Secret: c.secret, Identity: c.Identity,
		Catalog: c.Catalog, Fleet: c.Fleet, Network: c.Network, Block: c.Block, Ledger: c.Ledger, Events: c.Events, ImportDir: filepath.Join(cfg.Dir, "import")})
	c.Permit.Register(c.Compute.PermitKinds()...)
	c.Recycle = recycle.New(recycle.Deps{DB: c.DB, Clock: c.Clock, Catalog: c.Catalog, Identity: c.Identity, Network: c.Network, Block: c.Block, Compute: c.Compute})

	for _, kinds := range [][]resource.Kind{network.Kinds(), block.Kinds(), compute.Kinds(), timer.Kinds()} {
		c.Directory.Add(kinds...)
	}
	c.Timer = timer.New(timer.Deps{DB: c.DB, Clock: c.Clock, Engine: c.Engine, Identity: c.Identity,
		Tasks: map[string]timer.Task{timer.CreateSnapshot: timer.Snapshots{Block: c.Block}}})
	c.Tags = tag.New(tag.Deps{DB: c.DB, Clock: c.Clock, Directory: c.Directory})

	if c.OAuth, err = oauth.New(oauth.Deps{DB: c.DB, Clock: c.Clock, Secret: c.secret, Identity: c.Identity, Base: strings.TrimSuffix(c.URL, "/api"),
		Call: func(r *http.Request) *action.Call { return c.handler.CallOf(r) },
		Record: func(ctx context.Context, call *action.Call, err error) {
			c.Audit.Record(ctx, call, action.Spec{Name: call.Action, Module: "account"}, err)
		}}); err != nil {
		return fmt.Errorf("OAuth: %w", err)
	}

	c.Backups = backup.New(backup.Deps{DB: c.DB, Clock: c.Clock, Dir: cmp.Or(cfg.Backup, filepath.Join(cfg.Dir, database.BackupDir)),
		KeyFingerprint: c.secret.Fingerprint(), Settings: c.backupSettings, Config: c.Catalog.Config.Backup, Begun: c.Catalog.Installed})

	c.Approval = approval.New(approval.Deps{DB: c.DB, Clock: c.Clock, Engine: c.Engine, Secret: c.secret, Identity: c.Identity})

	actions := c.Actions()
	c.Audit.Know(actions)
	c.Identity.Know(actions)
	c.handler = action.NewHandler(actions, action.Options{Authenticator: c.Identity, Gate: gate{c}, Permit: c.permit, Approve: c.Approval.Approve, Auditor: c.Audit,
		Session: c.Identity.Session, Admit: c.Identity.Admit, Proxies: cfg.Proxies, Metrics: c.registry, Now: c.Clock.Now, Limits: cfg.Limits})
	c.Approval.Use(c.handler)
	return nil
}

// accepted tells the rooms that follow operations of one that was accepted, in its transaction.
func (c *Controller) accepted(ctx context.Context, tx bun.Tx, op *workflow.Operation) error {
	if err := c.Audit.Accepted(ctx, tx, op); err != nil {
		return err
	}
	return c.Approval.Accepted(ctx, tx, op)
}

// ended tells them how it ended, in the transaction that ends it.
func (c *Controller) ended(ctx context.Context, tx bun.Tx, op *workflow.Operation) error {
	if err := c.Audit.Ended(ctx, tx, op); err != nil {
		return err
	}
	return c.Events.Ended(ctx, tx, op)
}

// Actions is the whole table.
func (c *Controller) Actions() []action.Action {
	var all []action.Action
	for _, room := range []interface{ Actions() []action.Action }{
		c.Identity,
		c.OAuth,
		c.Catalog,
		c.Audit,
		c.Events,
		c.Ledger,
		&resource.Service{DB: c.DB, Directory: c.Directory},
		c.Permit,
		c.Fleet,
		c.Network,
		c.Block,
		c.Compute,
		c.Recycle,
		quote.New(quote.Deps{DB: c.DB, Catalog: c.Catalog, Ledger: c.Ledger, Fleet: c.Fleet, Compute: c.Compute, Directory: c.Directory}),
		c.Tags,
		c.Timer,
		c.Approval,
	} {
		all = append(all, room.Actions()...)
	}
	return all
}

// gate asks the products that guard the way of every request.
type gate struct{ c *Controller }

func (g gate) Region(ctx context.Context, call *action.Call) error {
	return g.c.Catalog.Region(ctx, call)
}

func (g gate) Tenant(ctx context.Context, company int64) error {
	return g.c.Identity.CheckTenant(ctx, company)
}

// nameServers of subnets that name none: the configuration's, else those that the server was started with.
func (c *Controller) nameServers(ctx context.Context, region string) []netip.Addr {
	if servers := c.Catalog.Config.DNS(ctx, region); len(servers) > 0 {
		return servers
	}
	return c.Config.DNS
}

// permit asks who may refuse an action by its name.
func (c *Controller) permit(ctx context.Context, call *action.Call, spec action.Spec) error {
	if err := c.Identity.Permit(ctx, call, spec); err != nil {
		return err
	}
	return c.Catalog.Permit(ctx, call, spec)
}

// start takes the lease, lets unfinished operations go on and makes what a first start needs.
func (c *Controller) start(ctx context.Context) error {
	// Operations that go on need to know the hosts.
	if err := c.Fleet.Load(ctx); err != nil {
		return err
	}
	if err := c.Engine.Start(ctx); err != nil {
		return err
	}
	c.started = true
	c.close = append(c.close, c.stopEngine)
	if err := c.bootstrap(ctx); err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	if err := c.Fleet.Start(ctx); err != nil {
		return err
	}
	return nil
}

// bootstrap makes what does not exist yet. Repeated it changes nothing.
func (c *Controller) bootstrap(ctx context.Context) error {
	cfg := &c.Config
	if err := c.Catalog.Bootstrap(ctx, c.URL); err != nil {
		return err
	}
	arch, err := fleet.Arch(runtime.GOARCH)
	if err != nil {
		return err
	}
	overcommit := realStorageOvercommit
	var seeds []fleet.HostSeed
	if c.Simulator != nil {
		arch, overcommit = simulatedArch, 100
		for _, id := range c.Simulator.IDs() {
			seeds = append(seeds, fleet.HostSeed{ID: id, Name: c.Simulator.Name(id)})
		}
	}
	if err := c.Fleet.Bootstrap(ctx, catalog.DefaultRegion, arch, overcommit, seeds); err != nil {
		return err
	}
	segment := cfg.Segment
	if !segment.CIDR.IsValid() && c.Simulator != nil {
		segment = simulatedSegment
	}
	if segment.CIDR.IsValid() {
		if !segment.Gateway.IsValid() {
			segment.Gateway = segment.CIDR.Masked().Addr().Next()
		}
		if err := c.Network.Bootstrap(ctx, catalog.DefaultRegion, network.SegmentConfig{Name: "Bgp", CIDR: segment.CIDR.Masked(),
			Gateway: segment.Gateway, First: segment.First, Last: segment.Last, Network: segment.Network}); err != nil {
			return err
		}
	}
	if c.Simulator != nil {
		if _, err := c.Compute.EnsureSimulatedBase(ctx); err != nil {
			return err
		}
	}
	if err := c.Identity.Bootstrap(ctx, cfg.Dir, c.URL, catalog.DefaultRegion); err != nil {
		return err
	}
	for _, company := range []int64{identity.AdminCompany, identity.AdminCompany + 1} {
		if err := c.Ledger.Grant(ctx, company, firstGift); err != nil {
			return err
		}
	}
	debug.FreeOSMemory() // hashing the first passwords took some
	return nil
}

const (
	// simulatedArch is what simulated hosts say they are.
	simulatedArch = "x86_64"
	// realStorageOvercommit, in percent: volumes are thin, and a full disk takes no new ones.
	realStorageOvercommit = 400
	// firstGift of the tenants that a new cloud begins with, in yuan: enough to try everything.
	firstGift = 500_000
)

// Run serves until ctx ends or the lease is lost, then stops cleanly: requests under way are answered,
// running steps finish, the lease is given back.
func (c *Controller) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var loops sync.WaitGroup
	for _, run := range []func(context.Context){
		c.Mail.Run,
		c.OAuth.Run,
		c.Fleet.Run,
		c.Network.Run,
		c.Block.Run,
		c.Compute.Run,
		c.Recycle.Run,
		c.Timer.Run,
		c.Ledger.Run,
		c.Backups.Run,
		clock.NewLoop(c.Clock, "time server", 5*time.Minute, c.checkTime).Run,
		clock.NewLoop(c.Clock, "sessions", 10*time.Minute, c.Identity.Sweep).Run,
		clock.NewLoop(c.Clock, "use of keys", time.Minute, c.Identity.FlushUses).Run,
		clock.NewLoop(c.Clock, "audit retention", time.Hour, c.Audit.Sweep).Run,
		clock.NewLoop(c.Clock, "event retention", time.Hour, c.Events.Sweep).Run,
		clock.NewLoop(c.Clock, "tags", time.Hour, c.Tags.Sweep).Run,
		clock.NewLoop(c.Clock, "own certificates", 12*time.Hour, c.renewOwn).Run,
	} {
		loops.Go(func() { run(work) })
	}
	servers := []*http.Server{c.server(c.mux())}
	failed := make(chan error, 2)
	serve := func(s *http.Server, l net.Listener) {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}
	go serve(servers[0], c.secured(c.endpoint, c.ownTLS))
	if c.manage != nil {
		s := c.server(c.managementMux())
		servers = append(servers, s)
		go serve(s, c.secured(c.manage, c.ownTLS))
	}
	c.ready.Store(true)
	slog.Info("the cloud is ready", "endpoint", c.URL, "hosts", len(c.Fleet.Hosts()))

	var end error
	select {
	case <-ctx.Done():
	case end = <-failed:
	case end = <-c.lost:
		// The lease runs out: nothing may be finished any more.
		c.ready.Store(false)
		for _, s := range servers {
			s.Close()
		}
		cancel()
		return fmt.Errorf("the lease was lost: %w", end)
	}
	c.ready.Store(false)
	slog.Info("stopping")
	stop, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	for _, s := range servers {
		if err := s.Shutdown(stop); err != nil {
			s.Close()
		}
	}
	// Running steps may wait for what the loops see, so these end last.
	end = errors.Join(end, c.stopEngine())
	cancel()
	loops.Wait()
	return errors.Join(end, c.Close())
}

// stopEngine waits a while for running steps and gives the lease back. What is unfinished goes on at
// the next start.
func (c *Controller) stopEngine() error {
	if !c.started {
		return nil
	}
	c.started = false
	stop, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return c.Engine.Stop(stop)
}

// Close gives back what New took. Run calls it when it ends.
func (c *Controller) Close() error {
	var errs []error
	for i := len(c.close) - 1; i >= 0; i-- {
		errs = append(errs, c.close[i]())
	}
	c.close = nil
	return errors.Join(errs...)
}

func (c *Controller) onLost(err error) {
	if c.Config.OnLost != nil {
		c.Config.OnLost(err)
	}
	select {
	case c.lost <- err:
	default:
	}
}

// keySetting remembers which key file belongs to the database.
const keySetting = "secret.fingerprint"

// checkKeyFile refuses a database whose secrets another key file sealed: with a new one every API key
// would be lost without a word.
func (c *Controller) checkKeyFile(ctx context.Context) error {
	known, err := c.Catalog.Setting(ctx, keySetting)
	if err != nil {
		return err
	}
	switch own := c.secret.Fingerprint(); known {
	case own:
		return nil
	case "":
		err := c.Catalog.AddSettings(ctx, map[string]string{keySetting: own})
		if database.IsUnique(err) { // another controller was faster; it holds the lease or will
			return c.checkKeyFile(ctx)
		}
		return err
	default:
		return fmt.Errorf("the database belongs to another key file (fingerprint %s): %s has fingerprint %s; put the right one back from the backup",
			known, filepath.Join(c.Config.Dir, "secret.key"), own)
	}
}

// loopback tells whether only this machine can reach an address.
func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return !ok || t.IP.IsLoopback()
}

// writeFile replaces a file, mode 0600 or as given.
func writeFile(path string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// secured puts TLS on a listener: with the given files, with the cloud's own certificate, or not at all.
func (c *Controller) secured(l net.Listener, own *pki.Keeper) net.Listener {
	switch {
	case l == c.endpoint && c.given != nil:
		return tls.NewListener(l, c.given)
	case own != nil && (l != c.endpoint || !loopback(l.Addr())):
		return tls.NewListener(l, pki.ServerTLS(own))
	}
	return l
}
