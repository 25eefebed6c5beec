package compute

import (
	"context"
	"fmt"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/database"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// reachable waits until the machine's host runs its network.
func (s *Service) reachable(ctx context.Context, v *VM) error {
	if err := s.Network.WaitHosts(ctx, v.HostID); err != nil {
		return networkFailure(err, retcode.VMCreateNICFailed.Errorf("the network of %s could not be set up", v.ID))
	}
	return nil
}

// run makes the domain run, with its last restart applied, and waits until it does. agent tells whether the
// guest's agent answers already.
func (s *Service) run(ctx context.Context, v *VM) (agent bool, err error) {
	if err := s.fetchDiscs(ctx, v); err != nil { // its host may be another than when they were inserted
		return false, err
	}
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
	disks, err := s.Block.DomainDisks(ctx, r, v.ID)
	if err != nil {
		return nil, err
	}
	sd := new(seed)
	if err := database.One(ctx, r, r.NewSelect().Model(sd).Where("vm_id = ?", v.ID), sd); err != nil {
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
	ports, err := s.Network.DomainPorts(ctx, r, v.ID, v.PortID)
	if err != nil {
		return nil, err
	}
	nics := s.domainNICs(v, ports)
	config, err := s.networkConfig(ctx, v, ports)
	if err != nil {
		return nil, err
	}
	keys, err := keysOf(ctx, r, v.ID)
	if err != nil {
		return nil, err
	}
	spec := &pb.DomainSpec{
		Id: v.ID, Uuid: v.UUID, Cpus: uint32(v.CPUs), MemoryMib: uint64(v.MemoryMiB), Nics: nics, Disks: disks,
		RestartSerial: uint64(v.RestartSerial), Uefi: v.UEFI, SataDrives: windows(v.OSType),
		Seed: &pb.Seed{
			InstanceId: v.instance(), SshKeys: keys, Hostname: v.Hostname, LoginUser: v.LoginUser, HashedPassword: string(hash),
			UserData: userData, NetworkConfig: config, MountData: sd.MountData,
		},
	}
	cpus, memory := v.hotLimits()
	spec.MaxCpus, spec.MaxMemoryMib = uint32(cpus), uint64(memory)
	if v.CPUMode == hostPassthrough {
		spec.CpuMode = hostPassthrough
	}
	if err := s.bootOrder(ctx, v, spec); err != nil {
		return nil, err
	}
	return spec, nil
}

// instance is what a guest's cloud-init tells installations apart by: a system that was made anew sets itself up again.
func (v *VM) instance() string {
	if v.Installs == 0 {
		return v.ID
	}
	return fmt.Sprintf("%s-%d", v.ID, v.Installs)
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
