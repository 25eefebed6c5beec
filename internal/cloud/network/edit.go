package network

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// edit is the state of a change of networks: its rows were written when it was accepted; they are told to
// the fabric, then settled, or taken back.
type edit struct {
	ID   string   // of what is changed
	More []string `json:",omitempty"` // of what is changed with it
	VPCs []string // that are to be told; outer ports by their own ids
	// Was holds columns to go back to.
	Was map[string]string `json:",omitempty"`
}

// all are the ids of what is changed.
func (e *edit) all() []string { return append([]string{e.ID}, e.More...) }

// editing is a kind of change. All three run in a transaction and may run twice.
type editing struct {
	name string
	// revert makes the rows say to the fabric what they said before.
	revert func(ctx context.Context, tx bun.Tx, e *edit) error
	// settle ends a change that the fabric took, abort one that was reverted.
	settle func(ctx context.Context, tx bun.Tx, e *edit) error
	abort  func(ctx context.Context, tx bun.Tx, e *edit, cause error) error
}

// registerEdit makes a workflow of one step of a kind of change.
func (s *Service) registerEdit(k editing) *workflow.Workflow[edit] {
	return workflow.Register(s.Engine, workflow.Definition[edit]{
		Name: k.name,
		Steps: []workflow.Step[edit]{{
			Name: "program", Deadline: programTimeout,
			Do: s.programEdit,
			Undo: func(ctx context.Context, e *edit) error {
				if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return k.revert(ctx, tx, e) }); err != nil {
					return err
				}
				return s.syncAll(ctx, e.VPCs)
			},
		}},
		Settle: k.settle,
		Abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			if err := k.revert(ctx, tx, e); err != nil { // a change that no step began
				return err
			}
			return k.abort(ctx, tx, e, cause)
		},
	})
}

// programEdit tells the fabric the VPCs of a change and waits for the hosts that are in them.
func (s *Service) programEdit(ctx context.Context, e *edit) error {
	if err := s.syncAll(ctx, e.VPCs); err != nil {
		return unreachable(err)
	}
	return unreachable(s.waitVPCs(ctx, e.VPCs))
}

// waitVPCs waits for the hosts with ports of VPCs.
func (s *Service) waitVPCs(ctx context.Context, vpcs []string) error {
	if len(vpcs) == 0 {
		return nil
	}
	var hosts []string
	if err := s.DB.Reader().NewSelect().Model((*Port)(nil)).ColumnExpr("DISTINCT host_id").
		Where("(vpc_id IN (?0) OR id IN (?0)) AND kept = ?1", bun.In(vpcs), false).Scan(ctx, &hosts); err != nil {
		return err
	}
	return s.WaitHosts(ctx, hosts...)
}

// begin accepts a change. busy is the code for a resource that another operation holds.
func (s *Service) begin(ctx context.Context, tx bun.Tx, c *action.Call, flow *workflow.Workflow[edit], owner int64, busy retcode.Code, e edit, locks ...workflow.Lock) (string, error) {
	var resources []string
	for _, l := range locks {
		resources = append(resources, l.Resource)
	}
	op, err := flow.Accept(ctx, tx, workflow.Request{Action: c.Action, Company: owner, Region: c.Region, Resources: resources, Locks: locks}, e)
	return op, held(err, busy)
}

// held turns a lock that another operation holds into a status code.
func held(err error, code retcode.Code) error {
	if busy := new(workflow.BusyError); errors.As(err, &busy) {
		return code.Errorf("%s is busy with %s", busy.Resource, busy.Action)
	}
	return err
}

func exclusive(id string) workflow.Lock { return workflow.Lock{Resource: id, Exclusive: true} }
func shared(id string) workflow.Lock    { return workflow.Lock{Resource: id} }

// turn moves a row of a table with the usual columns from one of some states to another and notes why (nil: for
// no bad reason). It tells whether the row was in one of them.
func (s *Service) turn(ctx context.Context, tx bun.Tx, table, id, to string, cause error, from ...string) (bool, error) {
	code, detail := explanation(cause)
	return changed(tx.NewRaw("UPDATE ? SET state = ?, reason_code = ?, reason = ?, updated_at = ?, generation = generation + 1 WHERE id = ? AND state IN (?)",
		bun.Ident(table), to, code, detail, s.Clock.Micros(), id, bun.In(from)).Exec(ctx))
}

// operate runs what a request changes in one transaction, and starts the operation that it accepted there, if any had to
// be. lifecycle.ErrRepeat is no error: the same is under way.
func (s *Service) operate(ctx context.Context, begin func(ctx context.Context, tx bun.Tx) (operation string, err error)) error {
	var operation string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		operation, err = begin(ctx, tx)
		return err
	})
	switch {
	case errors.Is(err, lifecycle.ErrRepeat):
		return nil
	case err == nil && operation != "":
		s.Engine.Kick(operation)
	}
	return err
}
