package compute

import (
	"context"
	"errors"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

func (s *Service) vmActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateVMInstance", Module: "vm", Mutates: true,
			Summary: "Create virtual machines, with data disks and a public IP when wanted."}, s.createVM),
		action.Define(action.Spec{Name: "DescribeVMInstance", Module: "vm",
			Summary: "List virtual machines with filters and paging."}, s.describeVM),
		action.Define(action.Spec{Name: "StartVMInstance", Module: "vm", Mutates: true,
			Summary: "Power on a stopped virtual machine."}, s.startVM),
		action.Define(action.Spec{Name: "StopVMInstance", Module: "vm", Mutates: true,
			Summary: "Shut down a virtual machine through its guest OS."}, s.stopVM),
		action.Define(action.Spec{Name: "RestartVMInstance", Module: "vm", Mutates: true,
			Summary: "Reboot a running virtual machine."}, s.restartVM),
		action.Define(action.Spec{Name: "PoweroffVMInstance", Module: "vm", Mutates: true,
			Summary: "Cut the power of a virtual machine at once."}, s.poweroffVM),
		action.Define(action.Spec{Name: "ResizeVMConfig", Module: "vm", Mutates: true,
			Summary: "Give a virtual machine other CPUs and memory, a running one more."}, s.resizeVM),
		action.Define(action.Spec{Name: "ReinstallVMInstance", Module: "vm", Mutates: true,
			Summary: "Make the system disk of a stopped virtual machine anew from an image."}, s.reinstallVM),
		action.Define(action.Spec{Name: "ResetVMInstancePassword", Module: "vm", Mutates: true,
			Summary: "Change a password inside a running virtual machine."}, s.resetPassword),
		action.Define(action.Spec{Name: "DeleteVMInstance", Module: "vm", Mutates: true,
			Summary: "Move a virtual machine to the recycle bin."}, s.deleteVM),
	}
}

// act accepts an operation on one machine: the verdict of its state, the change, the locks. The same
// action under way is answered as if it had been accepted.
func (s *Service) act(ctx context.Context, c *action.Call, id, verb, to string, w *workflow.Workflow[job],
	change func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error)) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vmByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		op, err = s.accept(ctx, tx, c, v, verb, to, w, change)
		return err
	})
	if errors.Is(err, lifecycle.ErrRepeat) {
		return nil
	}
	if err != nil {
		return err
	}
	c.AddResource(id)
	s.Engine.Kick(op)
	return nil
}

// accept is the part of act inside the transaction. c is nil for what the cloud does by itself.
func (s *Service) accept(ctx context.Context, tx bun.Tx, c *action.Call, v *VM, verb, to string, w *workflow.Workflow[job],
	change func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error)) (op string, err error) {
	if c != nil && verb != Delete && verb != Terminate {
		if err := s.Ledger.Check(ctx, tx, v.ID); err != nil {
			return "", err
		}
	}
	if err := check(v, verb); err != nil {
		return "", err
	}
	if h, _ := s.Fleet.HostInfo(v.HostID); h.State == fleet.Down && verb != Delete && verb != Terminate {
		return "", retcode.SystemBusy.Errorf("the host of %s does not answer", v.ID)
	}
	j := job{VM: v.ID, Generation: v.Generation + 1, Before: v.State}
	lock := v.ID
	if verb == Poweroff {
		lock += "/power" // it cuts through the operation that holds the machine
	}
	locks := []workflow.Lock{{Resource: lock, Exclusive: true}}
	columns := []string{"cpus", "memory_mib", "rescue_id", "placed", "listed", "deleted_at", "restart_serial", "reason", "reason_code"}
	var more []string
	v.because(nil)
	if change != nil {
		if more, err = change(ctx, tx, v, &j); err != nil {
			return "", err
		}
		for _, id := range more {
			locks = append(locks, workflow.Lock{Resource: id, Exclusive: true})
		}
	}
	ok, err := s.move(ctx, tx, v, to, columns...)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", retcode.InvalidVMState.Errorf("%s is being changed by another request", v.ID)
	}
	op, err = w.Accept(ctx, tx, request(c, verb, v, locks, more...), j)
	if busy := new(workflow.BusyError); errors.As(err, &busy) {
		return "", retcode.InvalidVMState.Errorf("%s is busy with %s", v.ID, busy.Action)
	}
	return op, err
}

type startVMRequest struct {
	VMID string `validate:"required" doc:"virtual machine id"`
	action.Tenant
}

// startVM powers on.
func (s *Service) startVM(ctx context.Context, c *action.Call, q *startVMRequest) (*action.Empty, error) {
	return nil, s.act(ctx, c, q.VMID, Start, Starting, s.flows.start, s.placeAgain)
}

type stopVMResponse struct {
	VMID string
}

func (s *Service) stopVM(ctx context.Context, c *action.Call, q *startVMRequest) (*stopVMResponse, error) {
	return &stopVMResponse{VMID: q.VMID}, s.act(ctx, c, q.VMID, Stop, Stopping, s.flows.stop, nil)
}

func (s *Service) restartVM(ctx context.Context, c *action.Call, q *startVMRequest) (*action.Empty, error) {
	return nil, s.act(ctx, c, q.VMID, Restart, Restarting, s.flows.restart, func(_ context.Context, _ bun.Tx, v *VM, _ *job) ([]string, error) {
		v.RestartSerial++
		return nil, nil
	})
}

func (s *Service) poweroffVM(ctx context.Context, c *action.Call, q *startVMRequest) (*action.Empty, error) {
	err := s.act(ctx, c, q.VMID, Poweroff, Poweroffing, s.flows.poweroff, nil)
	s.tell(q.VMID)
	return nil, err
}

type deleteVMRequest struct {
	VMID            string `validate:"required" doc:"virtual machine id"`
	DelBindResource int    `validate:"oneof=0 1" doc:"1: unbind and delete bound resources, 0: only unbind"`
	ReleaseEIP      bool   `doc:"the bound public IPs go to the bin too"`
	DeleteDataDisk  bool   `doc:"the bound data disks go to the bin too"`
	DeleteNIC       bool   `doc:"the bound NICs are destroyed too"`
	action.Tenant
}

func (s *Service) deleteVM(ctx context.Context, c *action.Call, q *deleteVMRequest) (*action.Empty, error) {
	failed := false
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vmByID(ctx, tx, c.Scope(), q.VMID)
		if failed = err == nil && v.State == Failed; failed {
			return s.endFailed(ctx, tx, v)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if failed {
		c.AddResource(q.VMID)
		return nil, nil
	}
	all := q.DelBindResource == 1
	return nil, s.act(ctx, c, q.VMID, Delete, Deleting, s.flows.del, s.beginDelete(all || q.ReleaseEIP, all || q.DeleteDataDisk, all || q.DeleteNIC))
}

// beginDelete is the change that begins a machine's way to the bin, with its addresses and data disks or without; its
// elastic NICs are destroyed or become free, and it carries no VIP any more.
func (s *Service) beginDelete(dropEIPs, dropDisks, dropNICs bool) func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error) {
	return func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error) {
		j.DropEIPs, j.DropDisks, j.DropNICs = dropEIPs, dropDisks, dropNICs
		eips, err := s.Network.BeginUnbindAllTx(ctx, tx, v.ID)
		if err != nil {
			return nil, err
		}
		if j.NICs, err = s.Network.BeginLeaveTx(ctx, tx, v.ID); err != nil {
			return nil, err
		}
		if err := s.Network.KeepPort(ctx, tx, v.PortID); err != nil {
			return nil, err
		}
		j.EIPs, v.Listed, v.DeletedAt = eips, false, s.Clock.Micros()
		return slices.Concat(eips, j.NICs), count(ctx, tx, v.Company, v.Region, -1)
	}
}
