package compute

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	"golang.org/x/sync/errgroup"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
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
}

// ShutdownTime is how long a guest may take to shut down before its power is cut.
const ShutdownTime = 90 * time.Second

// errSuperseded: a later action took the machine over (power off cuts through start, stop and restart).
var errSuperseded = retcode.InvalidVMState.Errorf("cut short by PoweroffVMInstance")

type workflows struct {
	create, start, stop, restart, poweroff, del, terminate *workflow.Workflow[job]
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

func fence(generation int64) *pb.Fence { return &pb.Fence{Generation: uint64(generation)} }

// networkFailure says what a failed call to the network means: one that does not answer is asked again.
func networkFailure(err error, failure *retcode.Error) error {
	failure = failure.Wrap(err)
	if errors.Is(err, fabric.ErrInvalid) {
		return failure
	}
	return workflow.Retry(failure)
}

// prepare makes volumes and network ready, side by side.
func (s *Service) prepare(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	disks, err := block.Of(ctx, s.DB.Reader(), v.ID)
	if err != nil {
		return err
	}
	var g errgroup.Group
	for _, d := range disks[v.ID] {
		g.Go(func() error { return s.ensureVolume(ctx, v, d) })
	}
	g.Go(func() error { return s.connect(ctx, v) })
	return g.Wait()
}

func (s *Service) ensureVolume(ctx context.Context, v *VM, d block.Disk) error {
	if err := s.Block.EnsureVolume(ctx, d); err != nil {
		return s.hostFailure(ctx, v, err, retcode.VMCreateDiskFailed.Errorf("a disk of %s could not be made", v.ID))
	}
	return nil
}

func (s *Service) connect(ctx context.Context, v *VM) error {
	if err := s.Network.SyncVPC(ctx, v.VPCID); err != nil {
		return networkFailure(err, retcode.VMCreateNICFailed.Errorf("the network of %s could not be set up", v.ID))
	}
	return nil
}

// unprepare takes away whatever prepare and a start made, and the machine out of its network, so that
// volumes and addresses may go to others.
func (s *Service) unprepare(ctx context.Context, j *job) error {
	if err := s.removeDomain(ctx, j); err != nil {
		return err
	}
	disks, err := block.Of(ctx, s.DB.Reader(), j.VM)
	if err != nil {
		return err
	}
	for _, d := range disks[j.VM] {
		if err := s.Block.RemoveVolume(ctx, d); err != nil {
			return err
		}
	}
	v, err := vmByID(ctx, s.DB.Reader(), action.Scope{}, j.VM)
	if err != nil {
		return err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := s.Network.BeginUnbindAllTx(ctx, tx, v.ID); err != nil {
			return err
		}
		return s.Network.KeepPort(ctx, tx, v.PortID)
	})
	if err != nil {
		return err
	}
	return s.Network.SyncVPC(ctx, v.VPCID)
}

// startingShown is how long a new machine may take to run before its row says that it is starting.
const startingShown = 100 * time.Millisecond

func (s *Service) firstStart(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if errors.Is(err, errSuperseded) {
		return nil // it was made, and somebody has cut its power: both are done
	}
	if err != nil || j.Stopped {
		return err
	}
	t := time.AfterFunc(startingShown, func() { s.showStarting(context.WithoutCancel(ctx), *v) })
	defer t.Stop()
	j.Agent, err = s.run(ctx, v)
	if errors.Is(err, errSuperseded) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.reachable(ctx, v)
}

// reachable waits until the machine's host runs its network.
func (s *Service) reachable(ctx context.Context, v *VM) error {
	if err := s.Network.WaitHosts(ctx, v.HostID); err != nil {
		return networkFailure(err, retcode.VMCreateNICFailed.Errorf("the network of %s could not be set up", v.ID))
	}
	return nil
}

// showStarting writes the state that people see while a new guest takes its time.
func (s *Service) showStarting(ctx context.Context, v VM) {
	_ = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model(&v).Set("state = ?", Starting).
			Where("id = ? AND generation = ? AND state = ?", v.ID, v.Generation, Initializing).Exec(ctx)
		return err
	}) // failing to show it does no harm
}

// run makes the domain run, with its last restart applied, and waits until it does. agent tells whether the
// guest's agent answers already.
func (s *Service) run(ctx context.Context, v *VM) (agent bool, err error) {
	err = s.power(ctx, v, func(bool) pb.Power { return pb.Power_POWER_RUNNING }, func(d *pb.Domain) bool {
		agent = d.AgentConnected
		return d.State == pb.DomainState_DOMAIN_STATE_RUNNING && d.RestartSerial >= uint64(v.RestartSerial)
	}, retcode.SystemBusy.Errorf("the host could not start %s", v.ID))
	return agent, err
}

func off(d *pb.Domain) bool {
	switch d.State {
	case pb.DomainState_DOMAIN_STATE_STOPPED, pb.DomainState_DOMAIN_STATE_CRASHED, pb.DomainState_DOMAIN_STATE_ABSENT:
		return true
	}
	return false
}

// power tells the host the whole domain with the wanted power and waits until done holds. The host is
// asked again at each of its events, and at growing intervals up to a second.
func (s *Service) power(ctx context.Context, v *VM, want func(again bool) pb.Power, done func(*pb.Domain) bool, failure *retcode.Error) error {
	spec, err := s.domain(ctx, v)
	if err != nil {
		return err
	}
	events, stop := s.listen(v.ID)
	defer stop()
	host := s.Fleet.Host(v.HostID)
	again := false
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		spec.Power = want(again)
		again = true
		d, err := host.EnsureDomain(ctx, &pb.EnsureDomainRequest{Fence: fence(v.Generation), Spec: spec})
		if err != nil {
			return s.hostFailure(ctx, v, err, failure)
		}
		if done(d) {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return failure.Wrap(ctx.Err())
		case <-events:
			t.Stop()
		case <-t.C:
		}
	}
}

// domain is the whole of what the host has to know of a machine.
func (s *Service) domain(ctx context.Context, v *VM) (*pb.DomainSpec, error) {
	r := s.DB.Reader()
	disks, err := block.Of(ctx, r, v.ID)
	if err != nil {
		return nil, err
	}
	sd := new(seed)
	if err := r.NewSelect().Model(sd).Where("vm_id = ?", v.ID).Scan(ctx); err != nil {
		return nil, fmt.Errorf("seed of %s: %w", v.ID, err)
	}
	hash, err := s.Secret.Open(sd.PasswordHash, seedContext(v.ID, "password_hash"))
	if err != nil {
		return nil, err
	}
	var userData []byte
	if sd.UserData != "" {
		if userData, err = s.Secret.Open(sd.UserData, seedContext(v.ID, "user_data")); err != nil {
			return nil, err
		}
	}
	port := new(network.Port)
	if err := r.NewSelect().Model(port).Column("id", "uuid", "mac").Where("id = ?", v.PortID).Scan(ctx); err != nil {
		return nil, fmt.Errorf("port of %s: %w", v.ID, err)
	}
	nic := &pb.DomainNIC{PortUuid: port.UUID, Mac: port.MAC, Mtu: uint32(s.Fleet.OverlayMTU(v.Region)), PortId: port.ID}
	spec := &pb.DomainSpec{
		Id: v.ID, Uuid: v.UUID, Cpus: uint32(v.CPUs), MemoryMib: uint64(v.MemoryMiB), Nics: []*pb.DomainNIC{nic},
		RestartSerial: uint64(v.RestartSerial), Uefi: v.UEFI,
		Seed: &pb.Seed{
			InstanceId: v.ID, Hostname: v.Hostname, LoginUser: v.LoginUser, HashedPassword: string(hash),
			UserData: userData, NetworkConfig: networkConfig(nic.Mac, v.DNS), MountData: sd.MountData,
		},
	}
	if v.CPUMode == hostPassthrough {
		spec.CpuMode = hostPassthrough
	}
	for _, d := range disks[v.ID] {
		disk := &pb.DomainDisk{VolumeId: d.ID, Target: d.Target}
		if d.Role == block.Boot {
			disk.BootOrder = 1
		}
		spec.Disks = append(spec.Disks, disk)
	}
	return spec, nil
}

func seedContext(vm, column string) string { return "vm_seed." + column + ":" + vm }

func (s *Service) removeDomain(ctx context.Context, j *job) error {
	v, err := vmByID(ctx, s.DB.Reader(), action.Scope{}, j.VM)
	if err != nil {
		return err
	}
	_, err = s.Fleet.Host(v.HostID).RemoveDomain(ctx, &pb.RemoveDomainRequest{Fence: fence(v.Generation), Id: v.ID})
	return fleet.IgnoreDown(err)
}

// created settles vm.create. A machine whose power was cut meanwhile has its state from there.
func (s *Service) created(ctx context.Context, tx bun.Tx, j *job) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil {
		return err
	}
	if v.Generation == j.Generation {
		to := Running
		if j.Stopped {
			to = Stopped
			if err := s.unplace(ctx, tx, v); err != nil {
				return err
			}
		}
		v.QGAConnected = j.Agent
		if _, err := s.settle(ctx, tx, v, to, "placed", "qga_connected"); err != nil {
			return err
		}
	}
	if err := s.Block.SettleCreateTx(ctx, tx, j.VM); err != nil {
		return err
	}
	for _, id := range j.EIPs {
		if err := s.Network.SettleBindTx(ctx, tx, id); err != nil {
			return err
		}
	}
	return nil
}

// createFailed gives back everything that the request reserved. The row stays, so that people see why.
func (s *Service) createFailed(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil {
		return err
	}
	all, err := block.Of(ctx, tx, v.ID)
	if err != nil {
		return err
	}
	disks := all[v.ID]
	if err := s.Catalog.Release(ctx, tx, v.Company, v.Region, vmQuota(v, disks)); err != nil {
		return err
	}
	if err := s.unplace(ctx, tx, v); err != nil {
		return err
	}
	if err := s.Block.EndTx(ctx, tx, block.Failed, disks...); err != nil {
		return err
	}
	if err := s.Network.SettleUnbindTx(ctx, tx, j.EIPs...); err != nil {
		return err
	}
	for _, id := range j.EIPs {
		if err := s.Network.DestroyEIPTx(ctx, tx, id); err != nil {
			return err
		}
	}
	if err := s.Network.ReleasePort(ctx, tx, v.PortID); err != nil {
		return err
	}
	if _, err := tx.NewDelete().Model((*seed)(nil)).Where("vm_id = ?", v.ID).Exec(ctx); err != nil {
		return err
	}
	v.HostID, v.PortID, v.DeletedAt = "", "", s.Clock.Micros()
	v.because(cause)
	_, err = s.move(ctx, tx, v, Failed, "host_id", "port_id", "placed", "reason", "reason_code", "deleted_at")
	return err
}

func (s *Service) startDomain(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if err := s.connect(ctx, v); err != nil { // its port came back from the bin
		return err
	}
	if j.Agent, err = s.run(ctx, v); err != nil {
		return err
	}
	return s.reachable(ctx, v)
}

// cutPower undoes a start.
func (s *Service) cutPower(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if errors.Is(err, errSuperseded) {
		return nil
	}
	if err != nil {
		return err
	}
	err = s.cut(ctx, v)
	if errors.Is(err, errSuperseded) || errors.Is(err, fleet.ErrHostDown) {
		return nil // it is another's now; or off with its host, and kept off when that returns
	}
	return err
}

func (s *Service) cut(ctx context.Context, v *VM) error {
	return s.power(ctx, v, func(bool) pb.Power { return pb.Power_POWER_OFF }, off, retcode.SystemBusy.Errorf("the host could not power off %s", v.ID))
}

// started settles start and restart.
func (s *Service) started(ctx context.Context, tx bun.Tx, j *job) error {
	return s.end(ctx, tx, j, Running, nil)
}

// stopped settles stop and power off: CPU and memory are free again.
func (s *Service) stopped(ctx context.Context, tx bun.Tx, j *job) error {
	return s.end(ctx, tx, j, Stopped, nil)
}

func (s *Service) startFailed(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	return s.end(ctx, tx, j, Stopped, cause)
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

// keepOut undoes a deletion: the machine is back in its network, off.
func (s *Service) keepOut(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if errors.Is(err, errSuperseded) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.Network.ReturnPort(ctx, tx, v.PortID) }); err != nil {
		return err
	}
	if err := s.Network.SyncVPC(ctx, v.VPCID); err != nil {
		return err
	}
	return s.lookAgain(ctx, j)
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
	_, err = s.settle(ctx, tx, v, to, "placed", "reason", "reason_code", "qga_connected")
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

func (s *Service) shutDown(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	deadline := time.UnixMicro(v.UpdatedAt).Add(ShutdownTime)
	return s.power(ctx, v, func(bool) pb.Power {
		if s.Clock.Now().Before(deadline) {
			return pb.Power_POWER_SHUTDOWN
		}
		return pb.Power_POWER_OFF
	}, off, retcode.SystemBusy.Errorf("the host could not stop %s", v.ID))
}

func (s *Service) restartDomain(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	j.Agent, err = s.run(ctx, v)
	return err
}

// powerOff cuts the power at once and then waits for the operation it cut through.
func (s *Service) powerOff(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if err := s.cut(ctx, v); err != nil {
		return err
	}
	others, err := s.Engine.Busy(ctx, s.DB.Reader(), v.ID)
	if err != nil {
		return err
	}
	s.tell(v.ID) // whoever waits for the domain looks again
	for _, op := range others {
		if op.Workflow == "vm.create" || op.Workflow == "vm.start" || op.Workflow == "vm.stop" || op.Workflow == "vm.restart" {
			if _, err := s.Engine.Wait(ctx, op.ID); err != nil {
				return workflow.Retry(err)
			}
		}
	}
	return nil
}

// moveToBin takes the domain from its host and the machine's addresses from the network. The volumes stay.
func (s *Service) moveToBin(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if err := s.removeDomain(ctx, j); err != nil {
		return s.hostFailure(ctx, v, err, retcode.SystemBusy.Errorf("the host could not remove %s", v.ID))
	}
	if err := s.Network.SyncVPC(ctx, v.VPCID); err != nil {
		return networkFailure(err, retcode.VMCleanNICFailed.Errorf("the network interface of %s could not be removed", v.ID))
	}
	return nil
}

// deleted settles vm.delete: the bin holds no quota, and no CPU and memory.
func (s *Service) deleted(ctx context.Context, tx bun.Tx, j *job) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	if err := s.Network.SettleUnbindTx(ctx, tx, j.EIPs...); err != nil {
		return err
	}
	if j.DropEIPs {
		for _, id := range j.EIPs {
			if err := s.Network.ReleaseEIPTx(ctx, tx, id); err != nil {
				return err
			}
		}
	}
	freed, err := s.Block.ReleaseTx(ctx, tx, v.ID, j.DropDisks, v.DeletedAt)
	if err != nil {
		return err
	}
	for f, n := range vmQuota(v, nil) {
		freed[f] += n
	}
	if err := s.Catalog.Release(ctx, tx, v.Company, v.Region, freed); err != nil {
		return err
	}
	if err := s.unplace(ctx, tx, v); err != nil {
		return err
	}
	v.QGAConnected = false
	v.because(nil)
	_, err = s.settle(ctx, tx, v, Deleted, "placed", "reason", "reason_code", "qga_connected")
	return err
}

// notDeleted puts a machine that could not be deleted back. Its EIPs stay unbound.
func (s *Service) notDeleted(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	if err := s.Network.SettleUnbindTx(ctx, tx, j.EIPs...); err != nil {
		return err
	}
	if err := count(ctx, tx, v.Company, v.Region, 1); err != nil {
		return err
	}
	to := j.before()
	if to == Stopped {
		if err := s.unplace(ctx, tx, v); err != nil {
			return err
		}
	}
	v.Listed, v.DeletedAt = true, 0
	v.because(cause)
	_, err = s.settle(ctx, tx, v, to, "placed", "listed", "deleted_at", "reason", "reason_code")
	return err
}

// unterminated ends a destruction that failed: what is left of the machine can only be destroyed.
func (s *Service) unterminated(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	return s.end(ctx, tx, j, Unterminated, cause)
}

// destroy removes domain and volumes. On a host that is down they go when it returns, since no row wants them.
func (s *Service) destroy(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if err := s.removeDomain(ctx, j); err != nil {
		return s.hostFailure(ctx, v, err, retcode.VMCleanDiskFailed.Errorf("the host could not remove %s", v.ID))
	}
	disks, err := block.Of(ctx, s.DB.Reader(), v.ID)
	if err != nil {
		return err
	}
	for _, d := range disks[v.ID] {
		if err := s.Block.RemoveVolume(ctx, d); err != nil {
			return s.hostFailure(ctx, v, err, retcode.VMCleanDiskFailed.Errorf("a disk of %s could not be removed", v.ID))
		}
	}
	return nil
}

// terminated settles vm.terminate: nothing is left but the tombstone.
func (s *Service) terminated(ctx context.Context, tx bun.Tx, j *job) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	all, err := block.Of(ctx, tx, v.ID)
	if err != nil {
		return err
	}
	if err := s.Block.EndTx(ctx, tx, block.Released, all[v.ID]...); err != nil {
		return err
	}
	if err := s.Network.ReleasePort(ctx, tx, v.PortID); err != nil {
		return err
	}
	if _, err := tx.NewDelete().Model((*seed)(nil)).Where("vm_id = ?", v.ID).Exec(ctx); err != nil {
		return err
	}
	v.HostID, v.PortID, v.EndedAt = "", "", s.Clock.Micros()
	_, err = s.move(ctx, tx, v, Terminated, "host_id", "port_id", "ended_at")
	return err
}

// computeDemand is what a machine takes of its host while it is on.
func computeDemand(v *VM) fleet.Demand { return fleet.Demand{CPUs: v.CPUs, MemoryMiB: v.MemoryMiB} }

// vmQuota is what a machine with its disks takes of its tenant's quotas.
func vmQuota(v *VM, disks []block.Disk) catalog.Amounts {
	a := block.Quota(disks...)
	a[catalog.VM], a[catalog.CPU], a[catalog.Memory] = 1, int64(v.CPUs), int64(v.MemoryMiB)
	return a
}

// request describes an operation on a machine. Only the bin's sweep acts without a call.
func request(c *action.Call, v *VM, locks []workflow.Lock, more ...string) workflow.Request {
	r := workflow.Request{Action: "TerminateResource", Company: v.Company, Region: v.Region, Resources: append([]string{v.ID}, more...), Locks: locks}
	if c != nil {
		r.Action = c.Action
	}
	return r
}
