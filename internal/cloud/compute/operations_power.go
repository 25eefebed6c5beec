package compute

import (
	"context"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// ShutdownTime is how long a guest may take to shut down before its power is cut.
const ShutdownTime = 90 * time.Second

func (s *Service) startDomain(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if v.Installs > 0 { // making its system anew may have failed half way
		disk, err := bootDisk(ctx, s.DB.Reader(), v.ID)
		if err != nil {
			return err
		}
		if !disk.Written { // what is there may still be the old one
			if err := s.replaceVolume(ctx, v, j, *disk); err != nil {
				return err
			}
		} else if err := s.ensureVolume(ctx, v, *disk); err != nil {
			return err
		}
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
	if err := s.connect(ctx, v); err != nil { // what DHCP offers may be another since it started
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
		if op.Workflow == "vm.create" || op.Workflow == "vm.assemble" || op.Workflow == "vm.start" || op.Workflow == "vm.stop" || op.Workflow == "vm.restart" || op.Workflow == "vm.rescue" {
			if _, err := s.Engine.Wait(ctx, op.ID); err != nil {
				return workflow.Retry(err)
			}
		}
	}
	return nil
}
