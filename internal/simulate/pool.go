package simulate

import (
	"context"
	"fmt"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// at is where the volumes of a pool are; without a name they are on the host itself.
func (h *Host) at(pool string) (*Host, error) {
	if pool == "" {
		return h, nil
	}
	h.mu.Lock()
	_, known := h.known[pool]
	h.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("%w: %s does not know pool %s", hostlink.ErrUnavailable, h.id, pool)
	}
	return h.cloud.pool(pool), nil
}

// Knows tells whether a host was told of a pool.
func (h *Host) Knows(pool string) bool {
	_, err := h.at(pool)
	return err == nil
}

// size of a volume on the host, or in a pool that it knows; 0 without it. The caller holds the host's lock.
func (h *Host) size(pool, volume string) uint64 {
	volumes := h.volumes
	if pool != "" {
		if _, known := h.known[pool]; !known {
			return 0
		}
		p := h.cloud.pool(pool)
		p.mu.Lock()
		defer p.mu.Unlock()
		volumes = p.volumes
	}
	if v := volumes[volume]; v != nil {
		return v.spec.SizeBytes
	}
	return 0
}

// runs tells whether a running guest of the host has a volume.
func (h *Host) runs(volume string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.user(volume, true) != ""
}

// elsewhere is the guest of another host that runs with a volume; empty: none.
func (h *Host) elsewhere(volume string) string {
	for _, other := range h.cloud.hosts {
		if other != h && other.runs(volume) {
			return "a guest of " + other.id
		}
	}
	return ""
}

func (h *Host) poolStatus(id string) *pb.PoolStatus {
	p := h.cloud.pool(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	var used uint64
	for _, v := range p.volumes {
		used += v.spec.SizeBytes
	}
	return &pb.PoolStatus{Id: id, Generation: h.known[id], Ready: true, UsedBytes: used, AvailableBytes: p.total() - min(used, p.total())}
}

// EnsurePool implements hostlink.Host. Every pool is reached at once.
func (h *Host) EnsurePool(ctx context.Context, req *pb.EnsurePoolRequest) (*pb.PoolStatus, error) {
	if err := h.cloud.enter(ctx, h, "EnsurePool"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := req.Pool.GetId()
	if err := h.fence(req.Fence, id); err != nil {
		return nil, err
	}
	h.known[id] = req.Fence.GetGeneration()
	h.save(record{Pool: id, Generation: h.known[id]})
	return h.poolStatus(id), nil
}

// RemovePool implements hostlink.Host.
func (h *Host) RemovePool(ctx context.Context, req *pb.RemovePoolRequest) (*pb.RemovePoolResponse, error) {
	if err := h.cloud.enter(ctx, h, "RemovePool"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fence(req.Fence, req.Id); err != nil {
		return nil, err
	}
	delete(h.known, req.Id)
	h.save(record{Pool: req.Id, Gone: true})
	return &pb.RemovePoolResponse{}, nil
}
