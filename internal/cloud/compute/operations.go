package compute

import (
	"context"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// job is the state of every workflow on a machine. Generation is the row's when the operation was
// accepted: what the host is told and what is written at the end holds only while nobody raised it.
type job struct {
	VM         string
	Generation int64
	// Stopped: a new machine is to stay off.
	Stopped bool `json:",omitempty"`
	// Before is the state to go back to.
	Before string `json:",omitempty"`
	// Agent: the guest's agent answered when the machine was seen to run.
	Agent bool `json:",omitempty"`
	// EIPs that the same request bought (create) or unbound (delete).
	EIPs []string `json:",omitempty"`
	// DropEIPs, DropDisks: the public addresses and the data disks go to the bin with the machine.
	DropEIPs, DropDisks bool `json:",omitempty"`
	// OldCPUs, OldMemory (MiB): before a resize.
	OldCPUs, OldMemory int `json:",omitempty"`
	// Install: what the system is made anew of.
	Install *install `json:",omitempty"`
	// Disks are those that were there before the machine, System the one of them that it starts from.
	Disks  []*block.Use `json:",omitempty"`
	System string       `json:",omitempty"`
	// NICs are the elastic ones that a creation makes, in VPCs, or a deletion takes away; DropNICs: they are destroyed.
	NICs     []string `json:",omitempty"`
	VPCs     []string `json:",omitempty"`
	DropNICs bool     `json:",omitempty"`
}

// errSuperseded: a later action took the machine over (power off cuts through start, stop and restart).
var errSuperseded = retcode.InvalidVMState.Errorf("cut short by PoweroffVMInstance")

// errOvertaken: a row went on since this transaction read it. Whoever meets it begins again.
var errOvertaken = errors.New("compute: the machine was changed meanwhile")

type workflows struct {
	create, assemble, start, stop, restart, poweroff, resize, reinstall, rescue, del, terminate *workflow.Workflow[job]
	discs                                                                                       *workflow.Workflow[discJob]
}

func (s *Service) register() {
	e := s.Engine
	s.flows = workflows{
		create: workflow.Register(e, workflow.Definition[job]{
			Name: "vm.create",
			Steps: []workflow.Step[job]{
				{Name: "prepare", Do: s.prepare, Undo: s.unprepare},
				{Name: "start", Do: s.firstStart, Undo: s.removeDomain},
			},
			Settle: s.created, Abort: s.createFailed,
		}),
		assemble: workflow.Register(e, workflow.Definition[job]{
			Name: "vm.assemble", // a creation with disks that were there before
			Steps: []workflow.Step[job]{
				{Name: "bring disks", Do: s.bringDisks, Undo: s.returnDisks, Deadline: block.CopyTime},
				{Name: "prepare", Do: s.prepare, Undo: s.unprepare},
				{Name: "start", Do: s.firstStart, Undo: s.removeDomain},
			},
			Settle: s.created, Abort: s.createFailed,
		}),
		start: workflow.Register(e, workflow.Definition[job]{
			Name:   "vm.start",
			Steps:  []workflow.Step[job]{{Name: "start", Do: s.startDomain, Undo: s.cutPower}},
			Settle: s.started, Abort: s.startFailed,
		}),
		stop: workflow.Register(e, workflow.Definition[job]{
			Name:   "vm.stop",
			Steps:  []workflow.Step[job]{{Name: "shut down", Do: s.shutDown, Undo: s.lookAgain, Deadline: ShutdownTime + time.Minute}},
			Settle: s.stopped, Abort: s.goBack,
		}),
		restart: workflow.Register(e, workflow.Definition[job]{
			Name:   "vm.restart",
			Steps:  []workflow.Step[job]{{Name: "restart", Do: s.restartDomain, Undo: s.lookAgain}},
			Settle: s.started, Abort: s.goBack,
		}),
		poweroff: workflow.Register(e, workflow.Definition[job]{
			Name:   "vm.poweroff",
			Steps:  []workflow.Step[job]{{Name: "cut power", Do: s.powerOff, Undo: s.lookAgain}},
			Settle: s.stopped, Abort: s.goBack,
		}),
		resize: workflow.Register(e, workflow.Definition[job]{
			Name:   "vm.resize",
			Steps:  []workflow.Step[job]{{Name: "resize", Do: s.resize}},
			Settle: s.resized, Abort: s.notResized,
		}),
		reinstall: s.registerReinstall(),
		rescue: workflow.Register(e, workflow.Definition[job]{
			Name: "vm.rescue",
			Steps: []workflow.Step[job]{
				{Name: "fetch", Do: s.getDiscs, Deadline: fetchTime},
				{Name: "start", Do: s.startDomain, Undo: s.cutPower},
			},
			Settle: s.started, Abort: s.notRescued,
		}),
		discs: s.registerDiscs(),
		del: workflow.Register(e, workflow.Definition[job]{
			Name:   "vm.delete",
			Steps:  []workflow.Step[job]{{Name: "remove", Do: s.moveToBin, Undo: s.keepOut}},
			Settle: s.deleted, Abort: s.notDeleted,
		}),
		terminate: workflow.Register(e, workflow.Definition[job]{
			Name:   "vm.terminate",
			Steps:  []workflow.Step[job]{{Name: "remove", Do: s.destroy}},
			Settle: s.terminated, Abort: s.unterminated,
		}),
	}
}

// load reads the machine of a job; errSuperseded when its row went on.
func (s *Service) load(ctx context.Context, j *job) (*VM, error) {
	v, err := vmByID(ctx, s.DB.Reader(), action.Scope{}, j.VM)
	if err != nil {
		return nil, err
	}
	if v.Generation != j.Generation {
		return nil, errSuperseded
	}
	return v, nil
}

// hostFailure says what a failed call to a host means. A host that does not answer is asked again;
// one that answers a failure has tried.
func (s *Service) hostFailure(ctx context.Context, v *VM, err error, failure *retcode.Error) error {
	switch {
	case errors.Is(err, hostlink.ErrFenced):
		if now, e := vmByID(ctx, s.DB.Reader(), action.Scope{}, v.ID); e == nil && now.Generation > v.Generation {
			return errSuperseded
		}
		return workflow.Retry(err) // another controller leads: this one is about to end
	case errors.Is(err, fleet.ErrHostDown), errors.Is(err, hostlink.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return workflow.Retry(retcode.SystemBusy.Errorf("the host of %s does not answer", v.ID).Wrap(err))
	}
	return failure.Wrap(err)
}

// ignoreGone lets what is undone on a host that is down, or by a later operation, be.
func ignoreGone(err error) error {
	if errors.Is(err, fleet.ErrHostDown) || errors.Is(err, hostlink.ErrFenced) {
		return nil
	}
	return err
}

func fence(generation int64) *pb.Fence { return &pb.Fence{Generation: uint64(generation)} }

// networkFailure says what a failed call to the network means: one that does not answer is asked again.
func networkFailure(err error, failure *retcode.Error) error {
	failure = failure.Wrap(err)
	if errors.Is(err, fabric.ErrInvalid) {
		return failure
	}
	return workflow.Retry(failure)
}

// goBack ends a failed operation in the state that lookAgain found, or in the one before it.
func (s *Service) goBack(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	return s.end(ctx, tx, j, j.before(), cause)
}

// before is the settled state to go back to. Of a machine on a dead host whose operation was cut through
// nobody knows more than that it holds its place; the host's report corrects it.
func (j *job) before() string {
	if transient(j.Before) {
		return Running
	}
	return j.Before
}

// lookAgain undoes what cannot be undone, a guest that went off: it finds out what the machine is now.
func (s *Service) lookAgain(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if errors.Is(err, errSuperseded) {
		return nil
	}
	if err != nil {
		return err
	}
	j.Before = j.before()
	err = s.power(ctx, v, func(bool) pb.Power { return pb.Power_POWER_UNSPECIFIED }, func(d *pb.Domain) bool {
		j.Before = Running // also while its guest still thinks about it: the host reports the end
		if off(d) {
			j.Before = Stopped
		}
		return true
	}, retcode.SystemBusy.Errorf("the host of %s does not answer", v.ID))
	if errors.Is(err, errSuperseded) || errors.Is(err, fleet.ErrHostDown) {
		return nil
	}
	return err
}

// end writes the state after an operation, unless a later one took the machine over.
func (s *Service) end(ctx context.Context, tx bun.Tx, j *job, to string, cause error) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	if to == Stopped {
		if err := s.unplace(ctx, tx, v); err != nil {
			return err
		}
		v.QGAConnected = false
	} else if to == Running && cause == nil {
		v.QGAConnected = j.Agent
	}
	v.because(cause)
	_, err = s.settle(ctx, tx, v, to, "reason", "reason_code", "qga_connected")
	return err
}

// because notes why the last operation failed; nil: it did not. Errors without a code speak of our
// insides, so only their code is kept.
func (v *VM) because(cause error) {
	v.ReasonCode, v.Reason = int(retcode.Of(cause)), ""
	if e := new(retcode.Error); errors.As(cause, &e) {
		v.Reason = e.Detail()
	}
}

// Why is the reason as the tenant reads it.
func (v *VM) Why(language string) string {
	m := retcode.Code(v.ReasonCode).Message(language)
	if m != "" && v.Reason != "" {
		m += ": " + v.Reason
	}
	return m
}

// computeDemand is what a machine takes of its host while it is on.
func computeDemand(v *VM) fleet.Demand { return fleet.Demand{CPUs: v.CPUs, MemoryMiB: v.MemoryMiB} }

// vmQuota is what a machine with its disks takes of its tenant's quotas.
func vmQuota(v *VM, disks []block.Disk) catalog.Amounts {
	a := block.Quota(disks...)
	a[catalog.VM.In(v.SetID)], a[catalog.CPU.In(v.SetID)], a[catalog.Memory.In(v.SetID)] = 1, int64(v.CPUs), int64(v.MemoryMiB)
	return a
}

// byItself are the actions that the cloud does without a call, when a machine expires, the bin is swept, or a machine
// that never stops went down.
var byItself = map[string]string{Start: "StartVMInstance", Stop: "StopVMInstance", Delete: "DeleteVMInstance", Terminate: "TerminateResource"}

// request describes an operation on a machine; c is nil for what the cloud does by itself.
func request(c *action.Call, verb string, v *VM, locks []workflow.Lock, more ...string) workflow.Request {
	r := workflow.Request{Action: byItself[verb], Company: v.Company, Region: v.Region, Resources: append([]string{v.ID}, more...), Locks: locks}
	if c != nil {
		r.Action = c.Action
	}
	return r
}
