package approval

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// execution is the state of the workflow that carries out an approved application.
type execution struct{ Application string }

const workflowName = "approval.execute"

// How long an application's request may take, and what it started.
const (
	executeWithin = 10 * time.Minute
	awaitWithin   = 24 * time.Hour
)

// errExecuted: an earlier run of the step did it.
var errExecuted = errors.New("approval: executed already")

func (s *Service) register() {
	s.run = workflow.Register(s.Engine, workflow.Definition[execution]{
		Name: workflowName,
		Steps: []workflow.Step[execution]{
			{Name: "execute", Do: s.execute, Deadline: executeWithin},
			{Name: "await", Do: s.await, Deadline: awaitWithin},
		},
		Settle: func(ctx context.Context, tx bun.Tx, e *execution) error {
			return s.end(ctx, tx, e.Application, Success, nil)
		},
		Abort: func(ctx context.Context, tx bun.Tx, e *execution, cause error) error {
			return s.end(ctx, tx, e.Application, Failed, cause)
		},
	})
}

// accept starts the execution of an application in the transaction that approves it.
func (s *Service) accept(ctx context.Context, tx bun.Tx, a *application) (string, error) {
	return s.run.Accept(ctx, tx, workflow.Request{Action: "UpdateApplicationNode", Company: a.Company, Region: a.Region, Resources: []string{a.ID},
		Locks: []workflow.Lock{{Resource: a.ID, Exclusive: true}}}, execution{a.ID})
}

// execute sends the kept request through the dispatcher, in the name of the applicant. The transaction of the request
// writes that it was executed, so that the step may run again.
func (s *Service) execute(ctx context.Context, e *execution) error {
	a := new(application)
	if err := s.DB.Reader().NewSelect().Model(a).Where("id = ?", e.Application).Scan(ctx); err != nil {
		return workflow.Retry(err)
	}
	if a.ExecutedAt != 0 {
		return nil
	}
	request, err := s.Secret.Open(a.Request, a.sealed())
	if err != nil {
		return fmt.Errorf("request of %s: %w", a.ID, err)
	}
	caller, err := s.Identity.Caller(ctx, a.Applicant)
	if err != nil {
		return retry(err)
	}
	c := &action.Call{RequestID: a.ID, Caller: *caller, Language: retcode.English, Received: s.Clock.Now(), Application: a.ID}
	mine := false
	_, err = s.handler.Execute(database.BeforeCommit(ctx, func(ctx context.Context, tx bun.Tx) error {
		now := s.Clock.Micros()
		r, err := tx.NewUpdate().Model((*application)(nil)).Set("executed_at = ?, resources = ?, updated_at = ?", now, list(c.Resources), now).
			Where("id = ? AND executed_at = 0", a.ID).Exec(ctx)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		if err == nil && n == 0 && !mine {
			return errExecuted
		}
		mine = mine || n == 1
		return err
	}), c, request)
	if errors.Is(err, errExecuted) {
		return nil
	}
	if err != nil {
		return retry(err)
	}
	return retry(s.note(ctx, a.ID, c.Resources))
}

// retry repeats what failed for a reason of our own; a refusal is final.
func retry(err error) error {
	if coded := new(retcode.Error); errors.As(err, &coded) {
		return err
	}
	return workflow.Retry(err)
}

// await waits for the operations that the request started: their failure is the application's.
func (s *Service) await(ctx context.Context, e *execution) error {
	var ids []string
	if err := s.DB.Reader().NewSelect().Model((*applicationOperation)(nil)).Column("operation").Where("application = ?", e.Application).
		Order("operation").Scan(ctx, &ids); err != nil {
		return workflow.Retry(err)
	}
	for _, id := range ids {
		op, err := s.Engine.Wait(ctx, id)
		if err != nil {
			return workflow.Retry(err)
		}
		if op.State == workflow.Failed {
			return retcode.Code(op.Code).Errorf("%s", op.Message)
		}
	}
	return nil
}

// end writes how an application ended.
func (s *Service) end(ctx context.Context, tx bun.Tx, id, state string, cause error) error {
	message := ""
	if coded := new(retcode.Error); errors.As(cause, &coded) && coded.Code != retcode.ServiceError {
		message = coded.Detail()
	}
	_, err := tx.NewUpdate().Model((*application)(nil)).Set("state = ?, code = ?, message = ?, updated_at = ?", state, int(retcode.Of(cause)), message, s.Clock.Micros()).
		Where("id = ? AND state = ?", id, Processing).Exec(ctx)
	return err
}
