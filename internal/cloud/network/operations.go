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

// groupChange is the state of a change of the rules of a group in use.
type groupChange struct {
	Group  string
	Rules  []string  // ids of new ones
	Before []ruleRow `json:",omitempty"` // as they were: changed and deleted ones
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
	s.registerEntries()
	s.registerSides()
	s.update = workflow.Register(s.Engine, workflow.Definition[groupChange]{
		Name: "sg.update",
		Steps: []workflow.Step[groupChange]{{
			Name: "program", Do: s.programGroup, Undo: s.undoRules, Deadline: programTimeout,
		}},
		Settle: func(ctx context.Context, tx bun.Tx, c *groupChange) error {
			return s.settleGroup(ctx, tx, c.Group, nil)
		},
		Abort: func(ctx context.Context, tx bun.Tx, c *groupChange, cause error) error {
			if err := restoreRules(ctx, tx, c); err != nil {
				return err
			}
			return s.settleGroup(ctx, tx, c.Group, cause)
		},
	})
	s.registerVPC()
	s.registerRoute()
	s.registerPeering()
	s.registerNIC()
	s.registerVIP()
	s.registerMove()
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
	return s.programSGs(ctx, one2many(c.Group))
}

// one2many is a list of one for programSGs and syncSGs, which ask late.
func one2many(id string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) { return []string{id}, nil }
}

// programSGs is syncSGs, and waits for the hosts of the groups' members.
func (s *Service) programSGs(ctx context.Context, groups func(context.Context) ([]string, error)) error {
	if err := s.syncSGs(ctx, groups); err != nil {
		return unreachable(err)
	}
	hosts, err := s.ofMembers(ctx, groups, "host_id")
	if err != nil {
		return unreachable(err)
	}
	return unreachable(s.WaitHosts(ctx, hosts...))
}

// syncSGs tells the fabric every VPC and outer port that uses one of the groups.
func (s *Service) syncSGs(ctx context.Context, groups func(context.Context) ([]string, error)) error {
	vpcs, err := s.ofMembers(ctx, groups, "CASE WHEN segment_id <> '' THEN id ELSE vpc_id END")
	if err != nil {
		return err
	}
	return s.syncAll(ctx, vpcs)
}

// ofMembers reads an expression of the ports in use that have one of the groups.
func (s *Service) ofMembers(ctx context.Context, groups func(context.Context) ([]string, error), expression string) (values []string, err error) {
	ids, err := groups(ctx)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return values, s.DB.Reader().NewSelect().Model((*Port)(nil)).ColumnExpr("DISTINCT "+expression).
		Where("(inner_sg IN (?0) OR outer_sg IN (?0)) AND kept = ?1", bun.In(ids), false).Scan(ctx, &values)
}

func (s *Service) undoRules(ctx context.Context, c *groupChange) error {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return restoreRules(ctx, tx, c) })
	if err != nil {
		return err
	}
	return s.syncSGs(ctx, one2many(c.Group))
}

// restoreRules makes the rules what they were before the change.
func restoreRules(ctx context.Context, tx bun.Tx, c *groupChange) error {
	if err := deleteRules(ctx, tx, c.Group, append(column(c.Before, func(r *ruleRow) string { return r.ID }), c.Rules...)); err != nil || len(c.Before) == 0 {
		return err
	}
	_, err := tx.NewInsert().Model(&c.Before).Exec(ctx)
	return err
}
