package simulate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/lingyun-cloud/lingyun/internal/host"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// Host is one simulated host. It implements hostlink.Host.
type Host struct {
	cloud *Cloud
	id    string
	name  string

	mu          sync.Mutex
	down        bool
	arch        string
	bootTime    int64
	epoch       uint64
	generations map[string]uint64
	domains     map[string]*domain
	volumes     map[string]*volume
	images      map[string]uint64 // size by digest
	exports     map[string]*pb.Export
	files       map[string][]byte // of images that exports made, by digest
	guests      map[string]*guest // what guests know by themselves, by domain
	watchers    map[*watcher]bool
	known       map[string]uint64 // pools that it was told of, with their generations

	killInRollback bool // see KillInRollback
}

// domain is a defined virtual machine.
type domain struct {
	spec   *pb.DomainSpec
	state  pb.DomainState
	serial uint64   // last restart applied
	cpus   uint32   // of the running guest, with
	memory uint64   // what was plugged in
	held   []string // volumes that the guest does not let go of
	clings bool     // it lets go of none
}

// plug gives a running guest the processors and memory that it can take while it runs; a start gives it all.
func (d *domain) plug(start bool) {
	s := d.spec
	if start || s.Cpus > d.cpus && s.Cpus <= s.MaxCpus {
		d.cpus = s.Cpus
	}
	if start || s.MemoryMib > d.memory && s.MemoryMib <= s.MaxMemoryMib {
		d.memory = s.MemoryMib
	}
}

// watcher queues the events of one Watch.
type watcher struct {
	queue  []*pb.Event
	signal chan struct{} // capacity 1
	gone   chan struct{} // closed when the host dies
}

var _ hostlink.Host = (*Host)(nil)

func newHost(c *Cloud, n int) *Host {
	name := ""
	if n > 0 { // else it is a pool
		name = fmt.Sprintf("simulated-%d", n)
	}
	return &Host{
		cloud: c, id: fmt.Sprintf("host-sim%011d", n), name: name, arch: "x86_64", known: map[string]uint64{},
		bootTime:    c.o.Clock.Now().Unix(),
		generations: map[string]uint64{}, domains: map[string]*domain{}, volumes: map[string]*volume{},
		images: map[string]uint64{}, exports: map[string]*pb.Export{}, files: map[string][]byte{}, guests: map[string]*guest{}, watchers: map[*watcher]bool{},
	}
}

func (h *Host) isDown() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down
}

func (h *Host) powerCut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return
	}
	h.down = true
	for id, d := range h.domains {
		if d.state != pb.DomainState_DOMAIN_STATE_STOPPED {
			d.state = pb.DomainState_DOMAIN_STATE_STOPPED
			h.saveDomain(id)
		}
	}
	for w := range h.watchers {
		close(w.gone)
		delete(h.watchers, w)
	}
}

func (h *Host) powerUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		h.down = false
		h.bootTime = h.cloud.o.Clock.Now().Unix()
	}
}

// fence refuses callers of an older epoch and, for a named resource, older generations.
func (h *Host) fence(f *pb.Fence, resource string) error {
	if f.GetEpoch() < h.epoch {
		return fmt.Errorf("%w: epoch %d, seen %d", hostlink.ErrFenced, f.GetEpoch(), h.epoch)
	}
	if g := f.GetGeneration(); g != 0 && g < h.generations[resource] {
		return fmt.Errorf("%w: generation %d of %s, seen %d", hostlink.ErrFenced, g, resource, h.generations[resource])
	}
	if f.GetEpoch() > h.epoch {
		h.epoch = f.GetEpoch()
		h.save(record{Epoch: h.epoch})
	}
	if g := f.GetGeneration(); g > h.generations[resource] {
		h.generations[resource] = g
		h.save(record{Resource: resource, Generation: g})
	}
	return nil
}

// emit tells every watcher the present state of a domain.
func (h *Host) emit(id string) {
	e := &pb.Event{Domain: h.describe(id)}
	for w := range h.watchers {
		w.queue = append(w.queue, e)
		select {
		case w.signal <- struct{}{}:
		default:
		}
	}
}

func (h *Host) describe(id string) *pb.Domain {
	d := h.domains[id]
	if d == nil {
		return &pb.Domain{Id: id, State: pb.DomainState_DOMAIN_STATE_ABSENT, Generation: h.generations[id]}
	}
	out := &pb.Domain{Id: id, State: d.state, Generation: h.generations[id], RestartSerial: d.serial, Volumes: d.open()}
	for _, n := range d.spec.Nics {
		out.Ports = append(out.Ports, n.PortUuid)
	}
	if d.state == pb.DomainState_DOMAIN_STATE_RUNNING {
		out.AgentConnected, out.Cpus, out.MemoryMib = true, d.cpus, d.memory
	}
	return out
}

// Health implements hostlink.Host.
func (h *Host) Health(ctx context.Context, req *pb.HealthRequest) (*pb.HealthResponse, error) {
	if err := h.cloud.enter(ctx, h, "Health"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fence(&pb.Fence{Epoch: req.GetEpoch()}, ""); err != nil {
		return nil, err
	}
	o := h.cloud.o
	var used uint64
	for _, v := range h.volumes {
		used += v.spec.SizeBytes
	}
	total := uint64(o.DiskGB) << 30
	var pools []*pb.PoolStatus
	for id := range h.known {
		pools = append(pools, h.poolStatus(id))
	}
	return &pb.HealthResponse{
		HostId: h.id, Hostname: h.name, Version: "simulated", Cpus: uint32(o.CPUs), MemoryMib: uint64(o.MemoryMiB),
		DiskBytes: total, DiskFreeBytes: total - min(used, total), Arch: h.arch, VirtType: "simulated", Chassis: h.id,
		ManagementIp: "127.0.0.1", OverlayIp: "127.0.0.1", OverlayMtu: uint32(o.MTU), Networks: o.Networks, BootTime: h.bootTime, Pools: pools,
	}, nil
}

// List implements hostlink.Host.
func (h *Host) List(ctx context.Context, _ *pb.ListRequest) (*pb.ListResponse, error) {
	if err := h.cloud.enter(ctx, h, "List"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &pb.ListResponse{}
	for id, d := range h.domains {
		r.Domains = append(r.Domains, h.describe(id))
		if d.state != pb.DomainState_DOMAIN_STATE_STOPPED {
			for _, n := range d.spec.Nics {
				r.Ports = append(r.Ports, n.PortUuid)
			}
		}
	}
	for id := range h.volumes {
		r.Volumes = append(r.Volumes, h.describeVolume(id))
	}
	for digest := range h.images {
		r.Images = append(r.Images, digest)
	}
	sort.Slice(r.Domains, func(i, j int) bool { return r.Domains[i].Id < r.Domains[j].Id })
	sort.Slice(r.Volumes, func(i, j int) bool { return r.Volumes[i].Id < r.Volumes[j].Id })
	sort.Strings(r.Images)
	sort.Strings(r.Ports)
	return r, nil
}

// Watch implements hostlink.Host.
func (h *Host) Watch(ctx context.Context, _ *pb.WatchRequest, each func(*pb.Event)) error {
	if err := h.cloud.enter(ctx, h, "Watch"); err != nil {
		return err
	}
	w := &watcher{signal: make(chan struct{}, 1), gone: make(chan struct{})}
	h.mu.Lock()
	for id := range h.domains {
		w.queue = append(w.queue, &pb.Event{Domain: h.describe(id)})
	}
	h.watchers[w] = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.watchers, w)
		h.mu.Unlock()
	}()
	for {
		h.mu.Lock()
		queue := w.queue
		w.queue = nil
		h.mu.Unlock()
		for _, e := range queue {
			each(e)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.gone:
			return unreachable(h.id)
		case <-w.signal:
		}
	}
}

// ImageStatus implements hostlink.Host.
func (h *Host) ImageStatus(ctx context.Context, req *pb.ImageStatusRequest) (*pb.ImageStatusResponse, error) {
	if err := h.cloud.enter(ctx, h, "ImageStatus"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	size, ok := h.images[req.Digest]
	return &pb.ImageStatusResponse{Digest: req.Digest, Present: ok, SizeBytes: size}, nil
}

// PutImage implements hostlink.Host: it reads and verifies the image, and keeps its size only.
func (h *Host) PutImage(ctx context.Context, digest string, size int64, r io.Reader) (*pb.ImageStatusResponse, error) {
	if err := h.cloud.enter(ctx, h, "PutImage"); err != nil {
		return nil, err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest || n != size {
		return nil, fmt.Errorf("%w: image has digest %s and %d bytes, announced were %s and %d", hostlink.ErrInvalid, got, n, digest, size)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images[digest] = uint64(size)
	h.save(record{Image: digest, Size: uint64(size)})
	return &pb.ImageStatusResponse{Digest: digest, Present: true, SizeBytes: uint64(size)}, nil
}

// RemoveImage implements hostlink.Host.
func (h *Host) RemoveImage(ctx context.Context, req *pb.RemoveImageRequest) (*pb.RemoveImageResponse, error) {
	if err := h.cloud.enter(ctx, h, "RemoveImage"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fence(req.Fence, req.Digest); err != nil {
		return nil, err
	}
	for id, v := range h.volumes {
		if v.spec.ImageDigest == req.Digest {
			return nil, fmt.Errorf("%w: image %s is used by volume %s", hostlink.ErrInvalid, req.Digest, id)
		}
	}
	for id, d := range h.domains {
		for _, c := range d.spec.Cdroms {
			if c.ImageDigest == req.Digest {
				return nil, fmt.Errorf("%w: image %s is in a drive of %s", hostlink.ErrInvalid, req.Digest, id)
			}
		}
	}
	delete(h.images, req.Digest)
	h.save(record{Image: req.Digest, Gone: true})
	return &pb.RemoveImageResponse{}, nil
}

// EnsureDomain implements hostlink.Host. A guest of a simulated host boots and shuts down at once.
func (h *Host) EnsureDomain(ctx context.Context, req *pb.EnsureDomainRequest) (*pb.Domain, error) {
	if err := h.cloud.enter(ctx, h, "EnsureDomain"); err != nil {
		return nil, err
	}
	if err := host.CheckDomain(req.Spec); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := req.Spec
	if err := h.fence(req.Fence, s.Id); err != nil {
		return nil, err
	}
	for _, disk := range s.Disks {
		if h.size(disk.Pool, disk.VolumeId) == 0 {
			return nil, fmt.Errorf("%w: volume %s of %s", hostlink.ErrNotFound, disk.VolumeId, s.Id)
		}
	}
	for _, c := range s.Cdroms {
		if _, ok := h.images[c.ImageDigest]; !ok {
			return nil, fmt.Errorf("%w: image %s", hostlink.ErrNotFound, c.ImageDigest)
		}
	}
	d := h.domains[s.Id]
	if d == nil {
		d = &domain{state: pb.DomainState_DOMAIN_STATE_STOPPED, serial: s.RestartSerial}
		h.domains[s.Id] = d
	}
	before := d.state
	d.hold(s)
	d.spec = proto.Clone(s).(*pb.DomainSpec)
	running := d.state == pb.DomainState_DOMAIN_STATE_RUNNING
	switch s.Power {
	case pb.Power_POWER_RUNNING:
		if !running {
			if used := h.memoryInUse(s.Id); used+s.MemoryMib > uint64(h.cloud.o.MemoryMiB) {
				h.saveDomain(s.Id)
				return nil, fmt.Errorf("host %s has %d MiB, %d in use: %s does not fit", h.id, h.cloud.o.MemoryMiB, used, s.Id)
			}
			d.state = pb.DomainState_DOMAIN_STATE_RUNNING
			d.plug(true)
			h.boot(s)
		}
	case pb.Power_POWER_SHUTDOWN, pb.Power_POWER_OFF:
		d.state = pb.DomainState_DOMAIN_STATE_STOPPED
	}
	if running {
		d.plug(false)
	}
	restarted := s.RestartSerial > d.serial
	d.serial = max(d.serial, s.RestartSerial)
	h.saveDomain(s.Id)
	if d.state != before || restarted {
		h.emit(s.Id)
	}
	return h.describe(s.Id), nil
}

// memoryInUse by running domains other than the named one, in MiB.
func (h *Host) memoryInUse(except string) uint64 {
	var sum uint64
	for id, d := range h.domains {
		if id != except && d.state == pb.DomainState_DOMAIN_STATE_RUNNING {
			sum += d.memory
		}
	}
	return sum
}

// RemoveDomain implements hostlink.Host.
func (h *Host) RemoveDomain(ctx context.Context, req *pb.RemoveDomainRequest) (*pb.RemoveDomainResponse, error) {
	if err := h.cloud.enter(ctx, h, "RemoveDomain"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fence(req.Fence, req.Id); err != nil {
		return nil, err
	}
	if h.domains[req.Id] != nil {
		delete(h.domains, req.Id)
		delete(h.guests, req.Id)
		h.saveDomain(req.Id)
		h.emit(req.Id)
	}
	return &pb.RemoveDomainResponse{}, nil
}

// CertificateRequest implements hostlink.Host: a host in the controller's process has no certificate.
func (h *Host) CertificateRequest(ctx context.Context, _ *pb.CertificateRequestRequest) (*pb.CertificateRequestResponse, error) {
	if err := h.cloud.enter(ctx, h, "CertificateRequest"); err != nil {
		return nil, err
	}
	return &pb.CertificateRequestResponse{}, nil
}

// InstallCertificate implements hostlink.Host.
func (h *Host) InstallCertificate(ctx context.Context, _ *pb.InstallCertificateRequest) (*pb.InstallCertificateResponse, error) {
	if err := h.cloud.enter(ctx, h, "InstallCertificate"); err != nil {
		return nil, err
	}
	return &pb.InstallCertificateResponse{}, nil
}

// GuestOff is a guest that shuts itself down. False when the domain does not run.
func (h *Host) GuestOff(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.domains[id]
	if d == nil || d.state != pb.DomainState_DOMAIN_STATE_RUNNING {
		return false
	}
	d.state = pb.DomainState_DOMAIN_STATE_STOPPED
	h.saveDomain(id)
	h.emit(id)
	return true
}
