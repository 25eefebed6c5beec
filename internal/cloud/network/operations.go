package network

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// programTimeout bounds how long a change is tried before it is taken back.
const programTimeout = time.Minute

// eipChange is the state of binding and unbinding.
type eipChange struct {
	EIP     string
	VPC     string
	Segment string
	Port    string
}

// groupChange is the state of new rules of a group in use.
type groupChange struct {
	Group string
	Rules []string // ids of the new ones
}

func (s *Service) register() {
	s.bind = workflow.Register(s.Engine, workflow.Definition[eipChange]{
		Name: "eip.bind",
		Steps: []workflow.Step[eipChange]{{
			Name: "program", Do: s.program, Undo: s.undoBind, Deadline: programTimeout,
		}},
		Settle: func(ctx context.Context, tx bun.Tx, c *eipChange) error { return s.SettleBindTx(ctx, tx, c.EIP) },
		Abort: func(ctx context.Context, tx bun.Tx, c *eipChange, cause error) error {
			if err := s.UndoBindTx(ctx, tx, c.EIP); err != nil { // a bind that no step began
				return err
			}
			if err := s.SettleUnbindTx(ctx, tx, c.EIP); err != nil {
				return err
			}
			return explain(ctx, tx, c.EIP, cause)
		},
	})
	s.unbind = workflow.Register(s.Engine, workflow.Definition[eipChange]{
		Name: "eip.unbind",
		Steps: []workflow.Step[eipChange]{{
			Name: "program", Do: s.program, Undo: s.undoUnbind, Deadline: programTimeout,
		}},
		Settle: func(ctx context.Context, tx bun.Tx, c *eipChange) error { return s.SettleUnbindTx(ctx, tx, c.EIP) },
		Abort: func(ctx context.Context, tx bun.Tx, c *eipChange, cause error) error {
			if err := s.rebind(ctx, tx, c.EIP); err != nil {
				return err
			}
			if err := s.SettleBindTx(ctx, tx, c.EIP); err != nil {
				return err
			}
			return explain(ctx, tx, c.EIP, cause)
		},
	})
	s.registerTuning()
	s.update = workflow.Register(s.Engine, workflow.Definition[groupChange]{
		Name: "sg.update",
		Steps: []workflow.Step[groupChange]{{
			Name: "program", Do: s.programGroup, Undo: s.undoRules, Deadline: programTimeout,
		}},
		Settle: func(ctx context.Context, tx bun.Tx, c *groupChange) error {
			return s.settleGroup(ctx, tx, c.Group, nil)
		},
		Abort: func(ctx context.Context, tx bun.Tx, c *groupChange, cause error) error {
			if err := deleteRules(ctx, tx, c); err != nil {
				return err
			}
			return s.settleGroup(ctx, tx, c.Group, cause)
		},
	})
	s.registerVPC()
	s.registerRoute()
	s.registerPeering()
}

// unreachable is worth another try; when tries end, the caller reads 560.
func unreachable(err error) error {
	if err == nil {
		return nil
	}
	return workflow.Retry(retcode.SystemBusy.Errorf("the network did not take the change in time").Wrap(err))
}

// program tells the fabric the VPC as its rows say, and waits for the port's host and the gateways.
func (s *Service) program(ctx context.Context, c *eipChange) error {
	if err := s.SyncVPC(ctx, c.VPC); err != nil {
		return unreachable(err)
	}
	db := s.DB.Reader()
	port := new(Port)
	if _, err := one(db.NewSelect().Model(port).Where("id = ?", c.Port).Scan(ctx)); err != nil {
		return unreachable(err)
	}
	segments, err := segmentsByID(ctx, db, []string{c.Segment})
	if err != nil {
		return unreachable(err)
	}
	var chassis []string
	if g := segments[c.Segment]; g != nil {
		chassis = s.Fleet.GatewayChassis(g.Region, g.Network)
	}
	if host, ok := s.liveHost(port.HostID); ok {
		chassis = append(chassis, host)
	}
	return unreachable(s.waitChassis(ctx, chassis))
}

func (s *Service) undoBind(ctx context.Context, c *eipChange) error {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.UndoBindTx(ctx, tx, c.EIP) })
	if err != nil {
		return err
	}
	return s.SyncVPC(ctx, c.VPC)
}

func (s *Service) undoUnbind(ctx context.Context, c *eipChange) error {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.rebind(ctx, tx, c.EIP) })
	if err != nil {
		return err
	}
	return s.SyncVPC(ctx, c.VPC)
}

// rebind makes an Unbounding EIP Bounding again.
func (s *Service) rebind(ctx context.Context, tx bun.Tx, id string) error {
	e, err := eipByID(ctx, tx, action.Scope{}, id)
	if err != nil || e.State != Unbounding {
		return err
	}
	if _, err := lockPort(ctx, tx, e.PortID); err != nil {
		return err
	}
	if err := s.move(ctx, tx, e, Bounding); err != nil {
		return err
	}
	return s.elect(ctx, tx, e.PortID, e.IPVersion)
}

// explain notes for the tenant why a change was taken back.
func explain(ctx context.Context, tx bun.Tx, eip string, cause error) error {
	code, detail := explanation(cause)
	_, err := tx.NewRaw("UPDATE eip SET reason_code = ?, reason = ? WHERE id = ?", code, detail, eip).Exec(ctx)
	return err
}

// programGroup tells the fabric every VPC that uses the group, and waits for the hosts of its members.
func (s *Service) programGroup(ctx context.Context, c *groupChange) error {
	if err := s.syncGroup(ctx, c); err != nil {
		return unreachable(err)
	}
	var hosts []string
	if err := s.DB.Reader().NewSelect().Model((*Port)(nil)).ColumnExpr("DISTINCT host_id").
		Where("(inner_sg = ? OR outer_sg = ?) AND kept = ?", c.Group, c.Group, false).Scan(ctx, &hosts); err != nil {
		return unreachable(err)
	}
	return unreachable(s.WaitHosts(ctx, hosts...))
}

func (s *Service) syncGroup(ctx context.Context, c *groupChange) error {
	var vpcs []string
	if err := s.DB.Reader().NewSelect().Model((*Port)(nil)).ColumnExpr("DISTINCT vpc_id").
		Where("(inner_sg = ? OR outer_sg = ?) AND kept = ?", c.Group, c.Group, false).Scan(ctx, &vpcs); err != nil {
		return err
	}
	return s.syncAll(ctx, vpcs)
}

func (s *Service) undoRules(ctx context.Context, c *groupChange) error {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return deleteRules(ctx, tx, c) })
	if err != nil {
		return err
	}
	return s.syncGroup(ctx, c)
}

func deleteRules(ctx context.Context, tx bun.Tx, c *groupChange) error {
	_, err := tx.NewDelete().Model((*ruleRow)(nil)).Where("sg_id = ? AND id IN (?)", c.Group, bun.In(c.Rules)).Exec(ctx)
	return err
}
