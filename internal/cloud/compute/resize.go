package compute

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// How far a machine whose image can take it grows while it runs: eight times what it was started with, and
// from small ones a bit more.
const (
	hotCPUs      = 16
	hotMemoryMiB = 32 << 10
	hotFactor    = 8
	mostCPUs     = 240
	mostMemory   = 1 << 20 // MiB
)

// hotLimits are what a machine's guest is prepared for when it starts; 0: it cannot grow while it runs.
func (v *VM) hotLimits() (cpus, memoryMiB int) {
	if !v.Hotplug {
		return 0, 0
	}
	return min(mostCPUs, max(hotCPUs, hotFactor*v.CPUs)), min(mostMemory, max(hotMemoryMiB, hotFactor*v.MemoryMiB))
}

type resizeRequest struct {
	VMID              string `validate:"required" doc:"virtual machine id"`
	CPU               int    `validate:"required" doc:"cores; must be offered with Memory"`
	Memory            int    `validate:"required" doc:"MiB"`
	GPU               int    `validate:"omitempty,oneof=1 2 4" doc:"number of GPUs"`
	GPUType           string `validate:"omitempty,oneof=GPU VGPU" doc:"with GPU"`
	GPUMdevName       string `doc:"card model, with GPUType GPU"`
	MdevName          string `doc:"vGPU profile"`
	ApplicationName   string `validate:"max=100" doc:"title of the approval request; used when approval is on"`
	ApplicationReason string `validate:"max=1000" doc:"reason of the approval request; used when approval is on"`
	action.Tenant
}

type resizeResponse struct {
	ApplicationID string `doc:"when approval is on"`
}

// resizeVM gives a machine other CPUs and memory: a stopped one whatever its set offers, a running one only more
// and only when its image can take it (1007).
func (s *Service) resizeVM(ctx context.Context, c *action.Call, q *resizeRequest) (*resizeResponse, error) {
	v, err := vmByID(ctx, s.DB.Reader(), c.Scope(), q.VMID)
	if err != nil {
		return nil, err
	}
	if err := check(v, Resize); err != nil && err != lifecycle.ErrRepeat {
		return nil, err
	}
	if q.GPU > 0 || q.GPUType != "" || q.GPUMdevName != "" || q.MdevName != "" {
		return nil, retcode.HostGPUInsufficient.Errorf("the host of %s has no free GPU", v.ID)
	}
	if err := s.Catalog.CheckVMSpec(ctx, c.Region, v.VMType, q.CPU, q.Memory); err != nil {
		return nil, err
	}
	return nil, s.act(ctx, c, q.VMID, Resize, Resizing, s.flows.resize, func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error) {
		if v.State == Running {
			switch {
			case !v.Hotplug:
				return nil, retcode.ImageNoHotplug.Errorf("the image of %s takes no CPUs and memory while it runs", v.ID)
			case q.CPU < v.CPUs || q.Memory < v.MemoryMiB:
				return nil, retcode.VMNotStopped.Errorf("%s runs with %d CPUs and %d MiB: it can only get more", v.ID, v.CPUs, v.MemoryMiB)
			}
		}
		j.OldCPUs, j.OldMemory = v.CPUs, v.MemoryMiB
		v.CPUs, v.MemoryMiB = q.CPU, q.Memory
		if err := s.Catalog.Reserve(ctx, tx, v.Company, v.Region, grown(v, j)); err != nil {
			return nil, err
		}
		disks, err := block.Of(ctx, tx, v.ID)
		if err != nil {
			return nil, err
		}
		if err := s.Ledger.Change(ctx, tx, ledger.Resize{ID: v.ID, Items: priced(v, disks[v.ID]...)}); err != nil {
			return nil, err
		}
		if v.State == Running {
			return nil, s.Fleet.Reserve(ctx, tx, v.HostID, fleet.Demand{CPUs: v.CPUs - j.OldCPUs, MemoryMiB: v.MemoryMiB - j.OldMemory})
		}
		// A machine that could not start afterwards is no use: its host must have room now.
		if err := s.Fleet.Reserve(ctx, tx, v.HostID, computeDemand(v)); err != nil {
			return nil, err
		}
		return nil, s.Fleet.Release(ctx, tx, v.HostID, computeDemand(v))
	})
}

// grown is what a resize takes of the quotas at once, and shrunk what it gives back at its end.
func grown(v *VM, j *job) catalog.Amounts {
	return catalog.Amounts{catalog.CPU.In(v.SetID): int64(max(0, v.CPUs-j.OldCPUs)), catalog.Memory.In(v.SetID): int64(max(0, v.MemoryMiB-j.OldMemory))}
}

func shrunk(v *VM, j *job) catalog.Amounts {
	return catalog.Amounts{catalog.CPU.In(v.SetID): int64(max(0, j.OldCPUs-v.CPUs)), catalog.Memory.In(v.SetID): int64(max(0, j.OldMemory-v.MemoryMiB))}
}

// resize tells the host. A guest that runs must have it all at once, or it has as little as before.
func (s *Service) resize(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	short := false
	err = s.power(ctx, v, func(bool) pb.Power { return pb.Power_POWER_UNSPECIFIED }, func(d *pb.Domain) bool {
		j.Before, j.Agent = Stopped, false
		if !off(d) {
			j.Before, j.Agent = Running, d.AgentConnected
			short = int(d.Cpus) < v.CPUs || int(d.MemoryMib) < v.MemoryMiB
		}
		return true
	}, retcode.SystemBusy.Errorf("the host could not resize %s", v.ID))
	if err == nil && short {
		return retcode.VMNotStopped.Errorf("the guest of %s was started with room for less", v.ID)
	}
	return err
}

// resized settles vm.resize.
func (s *Service) resized(ctx context.Context, tx bun.Tx, j *job) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	if err := s.Catalog.Release(ctx, tx, v.Company, v.Region, shrunk(v, j)); err != nil {
		return err
	}
	if err := s.end(ctx, tx, j, j.Before, nil); err != nil {
		return err
	}
	return s.Ledger.Capture(ctx, tx, v.ID)
}

// notResized gives back what the resize took. What a running guest got of it stays in it until it is off.
func (s *Service) notResized(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	if err := s.Catalog.Release(ctx, tx, v.Company, v.Region, grown(v, j)); err != nil {
		return err
	}
	if err := s.Ledger.Void(ctx, tx, v.ID); err != nil {
		return err
	}
	if v.Placed {
		if err := s.Fleet.Release(ctx, tx, v.HostID, fleet.Demand{CPUs: v.CPUs - j.OldCPUs, MemoryMiB: v.MemoryMiB - j.OldMemory}); err != nil {
			return err
		}
	}
	v.CPUs, v.MemoryMiB = j.OldCPUs, j.OldMemory
	if err := s.moveOn(ctx, tx, v, Resizing, "cpus", "memory_mib"); err != nil {
		return err
	}
	j.Generation = v.Generation
	return s.end(ctx, tx, j, j.before(), cause)
}
