package host

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// How often a pool is asked how it is, and how long it may take to answer.
const (
	poolEvery     = 30 * time.Second
	poolSoon      = 5 * time.Second // while it is not ready
	poolTimeout   = 15 * time.Second
	poolFirstWait = 2 * time.Second // of EnsurePool
)

// cephPackages are what a host needs for a pool, as Debian calls them.
const cephPackages = "ceph-common and qemu-block-extra"

// pool is one that hosts share, as this host was told of it. The status is guarded by Host.mu, the rest never changes.
type pool struct {
	rbd
	spec       *pb.Pool
	generation uint64
	cancel     context.CancelFunc
	asked      chan struct{} // closed when its status is known
	status     *pb.PoolStatus
}

// checkPool refuses what must not come into a configuration file.
func checkPool(p *pb.Pool) error {
	if err := checkID("storage set", p.GetId()); err != nil {
		return err
	}
	bad := func(what string) error { return fmt.Errorf("%w: %s of pool %s", hostlink.ErrInvalid, what, p.Id) }
	if len(p.Monitors) == 0 || len(p.Monitors) > hostlink.MaxMonitors || slices.ContainsFunc(p.Monitors, func(m string) bool { return !hostlink.ValidMonitor(m) }) {
		return bad("monitors")
	}
	if !hostlink.ValidPoolName(p.Name) || !hostlink.ValidPoolName(p.User) {
		return bad("name or user")
	}
	if !hostlink.ValidPoolKey(p.Key) {
		return bad("key")
	}
	return nil
}

// store is where a call's volumes are: in a pool, or without its name in the host's own directory.
func (h *Host) store(name string) (driver, error) {
	if name == "" {
		return h.own, nil
	}
	p, err := h.poolOf(name)
	if err != nil {
		return nil, err
	}
	return &p.rbd, nil
}

func (h *Host) poolOf(name string) (*pool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.pools[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: pool %s is not known here yet", hostlink.ErrUnavailable, name)
}

// roomIn refuses what comes into a store that is full.
func (h *Host) roomIn(name string) error {
	if name == "" {
		return h.needSpace(0)
	}
	p, err := h.poolOf(name)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.status.Ready && p.status.AvailableBytes < diskLow {
		return fmt.Errorf("%w: only %d MiB are free in pool %s", hostlink.ErrNoSpace, p.status.AvailableBytes>>20, p.spec.Name)
	}
	return nil
}

func (h *Host) poolDir(id string) string { return filepath.Join(h.conf.Dir, "pools", id) }

// knownPool is what a restarted agent finds.
type knownPool struct {
	Generation uint64
	Pool       json.RawMessage
}

// EnsurePool implements hostlink.Host.
func (h *Host) EnsurePool(ctx context.Context, r *pb.EnsurePoolRequest) (*pb.PoolStatus, error) {
	if err := checkPool(r.GetPool()); err != nil {
		return nil, err
	}
	id, generation := r.Pool.Id, r.Fence.GetGeneration()
	unlock, err := h.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := h.fence.admit(id, r.Fence); err != nil {
		return nil, err
	}
	p, err := h.poolOf(id)
	if err != nil || p.generation != generation || !proto.Equal(p.spec, r.Pool) {
		if err := h.keepPool(r.Pool, generation); err != nil {
			return nil, err
		}
		p = h.openPool(r.Pool, generation)
	}
	wait := time.NewTimer(poolFirstWait)
	defer wait.Stop()
	select {
	case <-p.asked:
	case <-wait.C:
	case <-ctx.Done():
	}
	return h.poolStatus(p), nil
}

// keepPool writes a pool's files, which nobody but the agent reads.
func (h *Host) keepPool(spec *pb.Pool, generation uint64) error {
	dir := h.poolDir(spec.Id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return spaceError(err)
	}
	text, err := protojson.Marshal(spec)
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	known, err := json.Marshal(knownPool{generation, text})
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	keyring := filepath.Join(dir, "keyring")
	return errors.Join(
		writeFile(keyring, fmt.Appendf(nil, "[client.%s]\n\tkey = %s\n", spec.User, spec.Key), 0o600),
		writeFile(filepath.Join(dir, "ceph.conf"), fmt.Appendf(nil, "[global]\nmon_host = %s\nauth_client_required = cephx\nkeyring = %s\n"+
			"log_to_file = false\nlog_to_stderr = false\nrados_mon_op_timeout = 5\nclient_mount_timeout = 5\n"+
			// Clones of a protected snapshot, which every Ceph knows.
			"rbd_default_clone_format = 1\n", strings.Join(spec.Monitors, ","), keyring), 0o600),
		writeFile(filepath.Join(dir, "pool.json"), known, 0o600),
	)
}

// openPool takes a pool in, in place of an earlier one of its id, and begins to ask it how it is.
func (h *Host) openPool(spec *pb.Pool, generation uint64) *pool {
	ctx, cancel := context.WithCancel(h.ctx)
	p := &pool{spec: spec, generation: generation, cancel: cancel, asked: make(chan struct{}),
		status: &pb.PoolStatus{Id: spec.Id, Generation: generation, Problem: "it has not answered yet"},
		rbd: rbd{pool: spec.Name, user: spec.User, conf: filepath.Join(h.poolDir(spec.Id), "ceph.conf"), monitors: spec.Monitors,
			secret: secretUUID(spec.Id).String(), host: h.conf.HostID, stretch: keyStretch,
			imaged: func(digest string) bool { _, _, _, err := h.image(digest); return err == nil }}}
	h.mu.Lock()
	if old := h.pools[spec.Id]; old != nil {
		old.cancel()
	}
	h.pools[spec.Id] = p
	h.mu.Unlock()
	h.done.Go(func() { h.followPool(ctx, p) })
	return p
}

// readPools takes in what an earlier agent was told.
func (h *Host) readPools() error {
	entries, err := os.ReadDir(filepath.Join(h.conf.Dir, "pools"))
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(h.poolDir(e.Name()), "pool.json"))
		if err != nil {
			continue // half-made: it is told again
		}
		var known knownPool
		spec := &pb.Pool{}
		if err := json.Unmarshal(text, &known); err == nil {
			err = protojson.Unmarshal(known.Pool, spec)
		}
		if err != nil || checkPool(spec) != nil || spec.Id != e.Name() {
			h.log.Warn("what is known of a pool is damaged", "set", e.Name(), "error", err)
			continue
		}
		h.openPool(spec, known.Generation)
	}
	return nil
}

// RemovePool implements hostlink.Host. Guests that have volumes of it keep them.
func (h *Host) RemovePool(ctx context.Context, r *pb.RemovePoolRequest) (*pb.RemovePoolResponse, error) {
	if err := checkID("storage set", r.GetId()); err != nil {
		return nil, err
	}
	return bounded(ctx, h, r.Id, func(ctx context.Context) (*pb.RemovePoolResponse, error) {
		if err := h.fence.admit(r.Id, r.Fence); err != nil {
			return nil, err
		}
		h.mu.Lock()
		if p := h.pools[r.Id]; p != nil {
			p.cancel()
			delete(h.pools, r.Id)
		}
		h.mu.Unlock()
		if err := h.forgetSecret(ctx, r.Id); err != nil {
			h.log.Warn("libvirt keeps the key of a pool", "set", r.Id, "error", err)
		}
		if err := os.RemoveAll(h.poolDir(r.Id)); err != nil {
			return nil, fmt.Errorf("host: %w", err)
		}
		return &pb.RemovePoolResponse{}, nil
	})
}

func (h *Host) poolStatus(p *pool) *pb.PoolStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return proto.Clone(p.status).(*pb.PoolStatus)
}

// followPool asks a pool how it is, until it is forgotten.
func (h *Host) followPool(ctx context.Context, p *pool) {
	tidy := false
	for {
		status := p.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		if status.Ready && !tidy {
			if err := p.dropParts(ctx); err != nil {
				h.log.Warn("what was half-made stays in a pool", "set", p.spec.Id, "error", err)
			}
			tidy = true
		}
		h.mu.Lock()
		if status.Problem != p.status.Problem {
			h.log.Info("pool", "set", p.spec.Id, "ready", status.Ready, "problem", status.Problem)
		}
		p.status = status
		h.mu.Unlock()
		select {
		case <-p.asked:
		default:
			close(p.asked)
		}
		pause := poolEvery
		if !status.Ready {
			pause = poolSoon
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// ask tells how a pool is.
func (p *pool) ask(ctx context.Context) *pb.PoolStatus {
	ctx, cancel := context.WithTimeout(ctx, poolTimeout)
	defer cancel()
	s := &pb.PoolStatus{Id: p.spec.Id, Generation: p.generation}
	if err := p.measure(ctx, s); err != nil {
		s.Problem = err.Error()
		return s
	}
	s.Ready = true
	if s.AvailableBytes < diskLow {
		s.Problem = fmt.Sprintf("only %d MiB are free in pool %s", s.AvailableBytes>>20, p.spec.Name)
	}
	return s
}

func (p *pool) measure(ctx context.Context, s *pb.PoolStatus) error {
	for _, program := range []string{"rbd", "ceph"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed: install %s", program, cephPackages)
		}
	}
	// QEMU says which driver it lacks before it looks for an image, here of no name that we give.
	if _, err := runWith(ctx, nil, "qemu-img", "info", "--image-opts", p.options("none.", false)); err != nil &&
		(strings.Contains(err.Error(), "nknown driver") || strings.Contains(err.Error(), "module")) {
		return fmt.Errorf("QEMU knows no RBD: install %s", cephPackages)
	}
	ceph := func(args ...string) ([]byte, error) {
		return runWith(ctx, nil, "ceph", append([]string{"--conf", p.conf, "--id", p.user, "--connect-timeout", "10"}, args...)...)
	}
	if p.spec.ClusterId != "" {
		out, err := ceph("fsid")
		if err != nil {
			return err
		}
		if id := strings.TrimSpace(string(out)); !strings.EqualFold(id, p.spec.ClusterId) {
			return fmt.Errorf("the monitors are of cluster %s, not %s", id, p.spec.ClusterId)
		}
	}
	out, err := ceph("df", "--format", "json")
	if err != nil {
		return err
	}
	var df struct {
		Pools []struct {
			Name  string `json:"name"`
			Stats struct {
				Stored uint64 `json:"stored"`
				Avail  uint64 `json:"max_avail"`
			} `json:"stats"`
		} `json:"pools"`
	}
	if err := json.Unmarshal(out, &df); err != nil {
		return fmt.Errorf("host: ceph df: %w", err)
	}
	for _, one := range df.Pools {
		if one.Name == p.spec.Name {
			s.UsedBytes, s.AvailableBytes = one.Stats.Stored, one.Stats.Avail
			return nil
		}
	}
	return fmt.Errorf("the cluster has no pool %s that client.%s may see", p.spec.Name, p.user)
}

// teachPool tells libvirt the key of a pool, which keeps it in memory alone and gives it to nobody but QEMU.
func (h *Host) teachPool(l *libvirt.Libvirt, p *pool) error {
	key, err := base64.StdEncoding.DecodeString(p.spec.Key)
	if err != nil {
		return fmt.Errorf("host: the key of pool %s is no base64", p.spec.Id)
	}
	x := &libvirtxml.Secret{Ephemeral: "yes", Private: "yes", UUID: p.secret,
		Usage: &libvirtxml.SecretUsage{Type: "ceph", Name: "lingyun " + h.conf.HostID + " " + p.spec.Id}}
	text, err := x.Marshal()
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	s, err := l.SecretDefineXML(text, 0)
	if err != nil {
		return virtError(err)
	}
	return virtError(l.SecretSetValue(s, key, 0))
}

// forgetBases takes a golden image from the pools, too, in the background: there it may also go with the last disk that
// leans on it.
func (h *Host) forgetBases(digest string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.pools {
		if !p.status.Ready {
			continue
		}
		h.done.Go(func() {
			if err := p.dropBase(h.ctx, digest); err != nil {
				h.log.Info("a golden image stays in a pool", "set", p.spec.Id, "image", digest, "error", err)
			}
		})
	}
}

// poolStatuses are those of all pools, and the problems among them.
func (h *Host) poolStatuses() (all []*pb.PoolStatus, problems []*pb.Problem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, p := range h.pools {
		all = append(all, proto.Clone(p.status).(*pb.PoolStatus))
		if p.status.Problem != "" {
			problems = append(problems, &pb.Problem{Part: "ceph", Message: id + ": " + p.status.Problem})
		}
	}
	return all, problems
}
