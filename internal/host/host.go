// Package host is the agent: it does on one host what the controller says
// (hostlink.Host) with libvirt, qemu-img and Open vSwitch, and tells what it
// sees. It decides nothing: either program can be killed at any moment, guests
// run on, and a repeated call does no harm.
//
// Under Config.Dir:
//
//	images/      golden images by digest, mode 0444, never written again
//	volumes/     qcow2 volumes, overlays of an image or empty
//	seeds/       NoCloud seeds, mode 0400
//	consoles/    what guests said on their serial port
//	pools/       how pools that hosts share are reached, with their keys, mode 0600
//	state/       fences: the highest epoch, and the highest generation of each resource
//	agent.json, agent.crt, agent.key, ca.crt   who this host is (Join)
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	"github.com/lingyun-cloud/lingyun/internal/pki"
)

// Datapaths of Open vSwitch.
const (
	DatapathNetdev = "netdev" // userspace
	DatapathSystem = "system" // kernel
)

// Virtualisation types, as libvirt names them.
const (
	VirtKVM  = "kvm"
	VirtQEMU = "qemu" // TCG
)

// Config says what the agent works with. Only Dir and HostID must be given.
type Config struct {
	// Dir is the data directory. Guests run as libvirt's own user: every
	// directory above it must be searchable by others.
	Dir string
	// HostID is the controller's id of this host, and its OVN chassis name.
	HostID string
	// LibvirtSocket is libvirtd's socket; empty: /run/libvirt/libvirt-sock.
	LibvirtSocket string
	// OVSDB is the database of Open vSwitch as ovs-vsctl names it; empty: unix:/run/openvswitch/db.sock.
	OVSDB string
	// Bridge is the integration bridge; empty: br-int.
	Bridge string
	// Datapath is netdev or system; empty: as the bridge says.
	Datapath string
	// VirtType is kvm or qemu; empty: kvm when a guest really boots with it, else qemu.
	VirtType string
	// ManagementIP is where controllers reach the agent, told in Health.
	ManagementIP string
	// Version of the agent, told in Health.
	Version string
	// Keeper holds the agent's certificate; nil: no certificate calls (tests without a link).
	Keeper *pki.Keeper
	// Log; nil: slog.Default.
	Log *slog.Logger
}

// Host does the work on this machine. It implements hostlink.Host.
type Host struct {
	conf   Config
	log    *slog.Logger
	fence  *fence
	virt   *libvirtLink
	events *broadcast

	locks   sync.Map // resource id -> chan struct{} of one place
	uploads sync.Map // digest -> true while it is being received
	exports sync.Map // image id -> *export

	mu        sync.Mutex
	tasks     map[string]*task       // shutdowns and restarts under way, by domain id
	terminals map[string]*terminal   // open serial consoles, by domain id
	work      map[string]*volumeWork // by volume id
	arch      string                 // of the host and its guests: x86_64, aarch64
	virtType  string                 // probed
	datapath  string                 // probed
	health    healthCache

	spice        atomic.Bool   // guests can have SPICE; known once asked is closed
	asked        chan struct{} // by probeSpice
	askOnce      sync.Once
	spiceProbing sync.Mutex

	own   *directory       // volumes on the host itself
	pools map[string]*pool // that hosts share, by storage set id
	// diskCache is none, or writeback where the file system knows no direct access.
	diskCache    string
	deliverAfter time.Duration

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

var _ hostlink.Host = (*Host)(nil)

// validID is what an id may be: it becomes a file's and a domain's name.
var validID = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)+$`)

var validDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

const maxID = 64

func checkID(kind, id string) error {
	if len(id) > maxID || !validID.MatchString(id) {
		return fmt.Errorf("%w: %q is no %s id", hostlink.ErrInvalid, id, kind)
	}
	return nil
}

// New prepares the agent's directories, finds out what the machine can do and
// connects to libvirt in the background: it succeeds while libvirt or Open
// vSwitch is away, Health then names the problem.
func New(conf Config) (*Host, error) {
	if conf.Dir == "" || conf.HostID == "" {
		return nil, errors.New("host: Dir and HostID are needed")
	}
	dir, err := filepath.Abs(conf.Dir)
	if err != nil {
		return nil, err
	}
	conf.Dir = dir
	if conf.LibvirtSocket == "" {
		conf.LibvirtSocket = "/run/libvirt/libvirt-sock"
	}
	if conf.OVSDB == "" {
		conf.OVSDB = "unix:/run/openvswitch/db.sock"
	}
	if conf.Bridge == "" {
		conf.Bridge = "br-int"
	}
	if conf.Log == nil {
		conf.Log = slog.Default()
	}
	switch conf.VirtType {
	case "", VirtKVM, VirtQEMU:
	default:
		return nil, fmt.Errorf("host: virtualisation type %q", conf.VirtType)
	}
	switch conf.Datapath {
	case "", DatapathNetdev, DatapathSystem:
	default:
		return nil, fmt.Errorf("host: datapath %q", conf.Datapath)
	}
	for name, mode := range map[string]os.FileMode{
		".": 0o711, "images": 0o755, "volumes": 0o711, "seeds": 0o711, "consoles": 0o711, "state": 0o700, "pools": 0o700,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, mode); err != nil {
			return nil, fmt.Errorf("host: %w", err)
		}
		if err := os.Chmod(path, mode); err != nil {
			return nil, fmt.Errorf("host: %w", err)
		}
	}
	f, err := openFence(filepath.Join(dir, "state"))
	if err != nil {
		return nil, err
	}
	h := &Host{
		conf:         conf,
		log:          conf.Log.With("host", conf.HostID),
		fence:        f,
		events:       newBroadcast(),
		tasks:        map[string]*task{},
		terminals:    map[string]*terminal{},
		work:         map[string]*volumeWork{},
		pools:        map[string]*pool{},
		own:          &directory{dir: filepath.Join(dir, "volumes"), images: filepath.Join(dir, "images"), stretch: keyStretch},
		arch:         map[string]string{"amd64": "x86_64", "arm64": archARM}[runtime.GOARCH],
		virtType:     conf.VirtType,
		datapath:     conf.Datapath,
		deliverAfter: deliverAfter,
		asked:        make(chan struct{}),
		diskCache:    diskCacheOf(filepath.Join(dir, "volumes")),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.dropLeftovers()
	if err := h.readPools(); err != nil {
		h.cancel()
		return nil, err
	}
	if h.virtType == "" {
		h.virtType = h.probedVirtType()
	}
	h.virt = newLibvirtLink(conf.LibvirtSocket, h.log)
	h.done.Go(h.follow)
	return h, nil
}

// Close ends the agent's own work. Guests run on.
func (h *Host) Close() {
	h.cancel()
	h.virt.close()
	h.done.Wait()
}

// VirtType is kvm or qemu, as configured or probed.
func (h *Host) VirtType() string { return h.virtType }

// lock serializes the work on one resource; unlock is called once it is done.
// It waits no longer than ctx.
func (h *Host) lock(ctx context.Context, id string) (unlock func(), err error) {
	c, _ := h.locks.LoadOrStore(id, make(chan struct{}, 1))
	place := c.(chan struct{})
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %s is still being worked on", hostlink.ErrUnavailable, id)
	}
}

// callLimit is how long a call may take; hostlink.proto promises 10 s.
const callLimit = 9 * time.Second

// slowCall is what the log mentions: an engine or a disk is in trouble.
const slowCall = 2 * time.Second

// bounded runs f, which may hang in libvirt (its calls know no deadline), and
// leaves it behind when it takes too long: f holds the resource's lock, so a
// repeated call waits for it.
func bounded[T any](ctx context.Context, h *Host, id string, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	type result struct {
		value T
		err   error
	}
	var zero T
	unlock, err := h.lock(ctx, id)
	if err != nil {
		cancel()
		return zero, err
	}
	done := make(chan result, 1)
	h.done.Go(func() {
		defer cancel()
		defer unlock()
		// What was begun is finished although the caller went away: the lock is held as long.
		work, stop := context.WithTimeout(h.ctx, 2*time.Minute)
		defer stop()
		begun := time.Now()
		v, err := f(work)
		if took := time.Since(begun); took > slowCall {
			h.log.Warn("slow", "resource", id, "took", took.Round(time.Millisecond), "error", err)
		}
		done <- result{v, err}
	})
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return zero, fmt.Errorf("%w: %s is still being worked on", hostlink.ErrUnavailable, id)
	}
}

// dropLeftovers removes what a killed agent left half-made.
func (h *Host) dropLeftovers() {
	for _, dir := range []string{"images", "volumes", "seeds"} {
		found, _ := filepath.Glob(filepath.Join(h.conf.Dir, dir, ".part-*"))
		for _, path := range found {
			os.Remove(path)
		}
	}
}

// diskCacheOf is how QEMU opens volumes: past the page cache where the file system can, else through it.
func diskCacheOf(dir string) string {
	f, err := os.CreateTemp(dir, ".part-*")
	if err != nil {
		return "none"
	}
	defer os.Remove(f.Name())
	defer f.Close()
	direct, err := os.OpenFile(f.Name(), os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return "writeback"
	}
	direct.Close()
	return "none"
}
