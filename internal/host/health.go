package host

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

const (
	// healthAge is how old the engines' part of an answer may be: controllers ask every 3 s.
	healthAge = 5 * time.Second
	// geneveOverhead is what an overlay packet has around the guest's: outer Ethernet
	// and IPv4 (20), UDP (8), Geneve with OVN's option (16), inner Ethernet (14); IPv6 has 20 more.
	geneveOverhead     = 58
	geneveOverheadIPv6 = 78
	// diskLow is where a full disk becomes a problem that operators see.
	diskLow = 1 << 30
)

// healthCache holds what asking the engines gave.
type healthCache struct {
	mu       sync.Mutex
	taken    time.Time
	chassis  map[string]string
	problems []*pb.Problem
}

// Health implements hostlink.Host. It answers within a second or two even when an engine hangs.
func (h *Host) Health(ctx context.Context, r *pb.HealthRequest) (*pb.HealthResponse, error) {
	if r.GetEpoch() != 0 {
		if err := h.fence.admitEpoch(r.Epoch); err != nil {
			return nil, err
		}
	}
	chassis, problems := h.engines()
	out := &pb.HealthResponse{
		HostId:       h.conf.HostID,
		Version:      h.conf.Version,
		Cpus:         uint32(runtime.NumCPU()),
		Arch:         h.arch,
		VirtType:     h.virtType,
		ManagementIp: h.conf.ManagementIP,
		Chassis:      chassis["system-id"],
		OverlayIp:    chassis["ovn-encap-ip"],
		Problems:     problems,
	}
	out.Hostname, _ = os.Hostname()
	for mapping := range strings.SplitSeq(chassis["ovn-bridge-mappings"], ",") {
		if network, _, ok := strings.Cut(mapping, ":"); ok {
			out.Networks = append(out.Networks, network)
		}
	}
	slices.Sort(out.Networks)
	out.OverlayMtu = overlayMTU(out.OverlayIp)
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		out.MemoryMib = guestMemory(info.Totalram * uint64(info.Unit) >> 20)
	}
	out.BootTime = bootTime()
	out.Time = time.Now().UnixMicro()
	var fs unix.Statfs_t
	if err := unix.Statfs(h.conf.Dir, &fs); err != nil {
		out.Problems = append(out.Problems, &pb.Problem{Part: "disk", Message: err.Error()})
	} else {
		out.DiskBytes = fs.Blocks * uint64(fs.Bsize)
		out.DiskFreeBytes = fs.Bavail * uint64(fs.Bsize)
		if out.DiskFreeBytes < diskLow {
			out.Problems = append(out.Problems, &pb.Problem{Part: "disk", Message: fmt.Sprintf("only %d MiB are free", out.DiskFreeBytes>>20)})
		}
	}
	pools, troubled := h.poolStatuses()
	out.Pools, out.Problems = pools, append(out.Problems, troubled...)
	if k := h.conf.Keeper; k != nil {
		if left := time.Until(k.Leaf().NotAfter); left < 7*24*time.Hour {
			out.Problems = append(out.Problems, &pb.Problem{Part: "certificate", Message: fmt.Sprintf("it ends in %d hours", int(left.Hours()))})
		}
	}
	return out, nil
}

// engines asks libvirt and Open vSwitch how they are, at most every 5 s, and gives each a second.
func (h *Host) engines() (map[string]string, []*pb.Problem) {
	c := &h.health
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.taken) < healthAge {
		return c.chassis, slices.Clone(c.problems)
	}
	ctx, cancel := context.WithTimeout(h.ctx, 2*time.Second)
	defer cancel()
	var problems []*pb.Problem
	var mu sync.Mutex
	problem := func(part string, err error) {
		mu.Lock()
		defer mu.Unlock()
		problems = append(problems, &pb.Problem{Part: part, Message: err.Error()})
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := h.askLibvirt(ctx); err != nil {
			problem("libvirt", err)
		}
	})
	wait.Go(func() {
		chassis, err := h.chassis(ctx)
		if err != nil {
			problem("openvswitch", err)
			return
		}
		c.chassis = chassis
		if _, err := vsctl(ctx, h.conf.OVSDB, "br-exists", h.conf.Bridge); err != nil {
			problem("openvswitch", fmt.Errorf("bridge %s is missing", h.conf.Bridge))
		}
	})
	wait.Go(func() {
		// Only where it runs at all can it be asked; a host without it has no chassis either.
		out, err := run(ctx, "ovn-appctl", "-t", "ovn-controller", "--timeout=2", "connection-status")
		if err != nil {
			problem("ovn", fmt.Errorf("ovn-controller does not answer"))
		} else if status := strings.TrimSpace(string(out)); status != "connected" {
			problem("ovn", fmt.Errorf("ovn-controller is %s", status))
		}
	})
	wait.Wait()
	slices.SortFunc(problems, func(a, b *pb.Problem) int { return strings.Compare(a.Part, b.Part) })
	c.taken, c.problems = time.Now(), problems
	return c.chassis, slices.Clone(problems)
}

func (h *Host) askLibvirt(ctx context.Context) error {
	l, err := h.virt.now()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := l.ConnectGetLibVersion()
		done <- virtError(err)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: libvirt hangs", hostlink.ErrUnavailable)
	}
}

// overlayMTU is what a guest may use: the MTU of the interface that has the Geneve endpoint, less the overhead.
func overlayMTU(address string) uint32 {
	ip := net.ParseIP(address)
	if ip == nil {
		return 0
	}
	overhead := geneveOverhead
	if ip.To4() == nil {
		overhead = geneveOverheadIPv6
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) && i.MTU > overhead {
				// Loopback's 64 KiB is no wire's.
				return uint32(min(i.MTU, 9216) - overhead)
			}
		}
	}
	return 0
}

// bootTime of the machine, in unix seconds.
func bootTime() int64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var t int64
		if n, _ := fmt.Sscanf(line, "btime %d", &t); n == 1 {
			return t
		}
	}
	return 0
}

// List implements hostlink.Host.
func (h *Host) List(ctx context.Context, _ *pb.ListRequest) (*pb.ListResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	out := &pb.ListResponse{}
	l, err := h.virt.get(ctx)
	if err != nil {
		return nil, err
	}
	if out.Domains, err = h.states(l); err != nil {
		return nil, err
	}
	ids, err := h.own.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if v, err := h.describeVolume(ctx, h.own, id); err == nil { // else it went away meanwhile
			out.Volumes = append(out.Volumes, v)
		}
	}
	if out.Images, err = h.imageDigests(); err != nil {
		return nil, err
	}
	ports, err := h.ports(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hostlink.ErrUnavailable, err)
	}
	for _, p := range ports {
		out.Ports = append(out.Ports, p.id)
	}
	slices.Sort(out.Ports)
	return out, nil
}

// guestMemory is what guests may have of a machine's memory, in MiB: all but a sixteenth, at least
// 512 MiB and at most 8 GiB, for the machine itself and what QEMU takes beside its guests. Memory
// is never overcommitted, so that nothing else keeps a full host from running out of it.
func guestMemory(total uint64) uint64 { return total - min(max(total/16, 512), 8192, total) }
