package workflow

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/uptrace/bun"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// checkpoint is what DBOS remembers of a finished step. The last step has none: the
// transaction that settles the operation takes its place.
type checkpoint struct {
	State   json.RawMessage
	Failure *failure `json:",omitempty"`
}

// failure is the cause of an undoing as it survives a restart.
type failure struct {
	Code    retcode.Code
	Message string // English
}

func failureOf(step string, err error) *failure {
	if e, ok := errors.AsType[*retcode.Error](err); ok {
		return &failure{e.Code, e.Detail()}
	}
	return &failure{retcode.ServiceError, "internal failure in step " + step}
}

func (f *failure) Error() string { return f.Message }

// cause is the error that Abort gets after a restart.
func (f *failure) cause() error { return f.Code.Errorf("%s", f.Message) }

// undoing is where an undoing starts; it is in the operation's row before the first Undo runs.
type undoing struct {
	Step    int // the last one whose Undo runs
	State   json.RawMessage
	Failure failure
}

// errParked: this launch is over for the workflow; the next one goes on.
var errParked = errors.New("workflow: parked")

// errCanceled is the cause of an undoing that Cancel asked for.
var errCanceled = retcode.ServiceError.Errorf("canceled")

// run is the DBOS workflow of every operation. It returns when the operation has ended,
// and otherwise only when DBOS shuts down: an outcome would end it for DBOS.
func (e *Engine) run(l *launch, c dbos.Context, id string) (string, error) {
	x := e.claim(l, id)
	defer func() {
		e.mu.Lock()
		e.forget(x)
		e.mu.Unlock()
		e.signal()
	}()
	if err := e.saga(l, c, x); err == nil {
		e.ended(id)
		return "", nil
	}
	e.mu.Lock()
	x.parked = true
	e.mu.Unlock()
	e.signal()
	<-c.Done()
	return "", c.Err()
}

// claim makes the caller the one that runs the operation in this process.
func (e *Engine) claim(l *launch, id string) *execution {
	for {
		e.mu.Lock()
		x := e.active[id]
		if x == nil {
			x = e.newExecution(id)
		}
		if !x.claimed {
			x.claimed, x.launch, x.state = true, l, Running
			e.mu.Unlock()
			return x
		}
		e.mu.Unlock()
		<-x.done // the last step of an earlier launch is still on its way out
	}
}

// saga runs the steps, or the undoing that was begun, and ends the operation. Its only error is errParked.
func (e *Engine) saga(l *launch, c dbos.Context, x *execution) error {
	op, err := e.take(l, x)
	if err != nil || op == nil {
		return err
	}
	e.mu.Lock()
	d := e.definitions[op.Workflow]
	e.mu.Unlock()
	if d == nil {
		// A newer release accepted it. Wait for that one.
		e.log.Error("operation of an unknown workflow", "operation", op.ID, "workflow", op.Workflow)
		return errParked
	}
	if op.State == Undoing {
		var u undoing
		if err := json.Unmarshal([]byte(op.Undo), &u); err != nil {
			e.log.Error("operation with an unreadable undo", "operation", op.ID, "error", err)
			return errParked
		}
		return e.undo(l, x, op, d, u, u.Failure.cause())
	}
	state := []byte(op.Input)
	for i, st := range d.steps {
		if !e.mayRun(l) {
			return errParked
		}
		e.mu.Lock()
		x.step = st.name
		canceled := x.cancel
		e.mu.Unlock()
		var out checkpoint
		var cause error
		switch {
		case canceled:
			return e.beginUndo(l, x, op, d, undoing{i - 1, state, *failureOf(st.name, errCanceled)}, errCanceled)
		case i == len(d.steps)-1:
			if out, cause, err = e.do(l, x, op, d, st, state); err != nil {
				return err
			}
		default:
			before := state
			parked := false
			out, err = dbos.RunAsStep(c, func(context.Context) (checkpoint, error) {
				var out checkpoint
				if out, cause, err = e.do(l, x, op, d, st, before); err != nil {
					// An answer would be remembered as the step's: give none.
					parked = true
					e.mu.Lock()
					x.parked = true
					e.mu.Unlock()
					e.signal()
					<-c.Done()
				}
				return out, err
			}, dbos.WithStepName(st.name))
			if parked {
				return errParked
			}
			if err != nil {
				// DBOS could not read or write its journal, or another execution owns it.
				if l.ctx.Err() == nil {
					e.relaunch(l.ctx, "journal of "+op.ID+": "+err.Error())
				}
				return errParked
			}
		}
		if out.Failure != nil {
			if cause == nil {
				cause = out.Failure.cause()
			}
			return e.beginUndo(l, x, op, d, undoing{i, out.State, *out.Failure}, cause)
		}
		state = out.State
	}
	return e.settle(l, x, op, d, state)
}

// take reads the operation and makes it this leader's. nil: it has ended.
func (e *Engine) take(l *launch, x *execution) (*Operation, error) {
	e.mu.Lock()
	op := x.op
	e.mu.Unlock()
	err := e.persist(l, x.id, func(ctx context.Context) (err error) {
		if op == nil {
			op, err = e.read(ctx, x.id)
		}
		if errors.Is(err, sql.ErrNoRows) {
			op, err = nil, nil
		}
		if err != nil || op == nil || op.EndedAt != 0 || op.Epoch == e.Epoch() {
			return err
		}
		// It was another leader's: it has survived a crash more.
		err = e.db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			return e.guarded(ctx, tx, op, "epoch = ?, attempts = attempts + 1", "ended_at = 0 AND epoch < ?0", e.Epoch())
		})
		if err != nil {
			op = nil // read it again
			return err
		}
		op.Epoch, op.Attempts = e.Epoch(), op.Attempts+1
		return nil
	})
	if err != nil {
		return nil, err
	}
	if op == nil || op.EndedAt != 0 {
		return nil, nil
	}
	e.mu.Lock()
	x.cancel = x.cancel || op.Cancel
	e.mu.Unlock()
	return op, nil
}

// errOver: the operation's row is not what this leader believes: it ended, or another leads.
var errOver = errors.New("workflow: the operation is not this leader's")

// guarded updates op's row when where holds; errOver otherwise.
func (e *Engine) guarded(ctx context.Context, tx bun.Tx, op *Operation, set, where string, args ...any) error {
	res, err := tx.NewUpdate().Table("operation").Set(set, args...).Where("id = ?", op.ID).Where(where, args...).Exec(ctx)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = errOver
	}
	return err
}

// mayRun tells whether a step may start: this launch goes on and the lease holds. When the process stood still so long that
// it may not hold any more, the next renewal tells whether somebody leads in its place.
func (e *Engine) mayRun(l *launch) bool {
	for {
		e.mu.Lock()
		lost, late, changed := e.lost, passed(e.lease.until.Add(-leaseMargin)), e.lease.changed
		e.mu.Unlock()
		select {
		case <-l.drain:
			return false
		default:
		}
		if lost || !late {
			return !lost
		}
		select {
		case <-l.drain:
		case <-changed:
		}
	}
}

// do runs a step's Do until it succeeds, fails for good or its deadline passes. err is errParked or nil.
func (e *Engine) do(l *launch, x *execution, op *Operation, d *definition, st step, before []byte) (out checkpoint, cause, err error) {
	state, derr := d.decode(before)
	if derr != nil {
		cause = fmt.Errorf("state before step %s: %w", st.name, derr)
		e.log.Error("operation with an unreadable state", "operation", op.ID, "error", cause)
		return checkpoint{before, failureOf(st.name, cause)}, cause, nil
	}
	if op.Attempts > maxAttempts {
		cause = fmt.Errorf("given up after %d starts of the controller", op.Attempts)
		e.log.Error("operation undone", "operation", op.ID, "step", st.name, "error", cause)
		return checkpoint{before, failureOf(st.name, cause)}, cause, nil
	}
	ctx, cancel := context.WithTimeout(l.ctx, st.deadline)
	defer cancel()
	p := Point{op.ID, op.Workflow, st.name, Do}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		cause = e.attempt(ctx, l, d, p, st.do, state)
		after, merr := json.Marshal(state)
		if merr != nil {
			after, cause = before, errors.Join(cause, fmt.Errorf("state after step %s: %w", st.name, merr))
		}
		if l.ctx.Err() != nil {
			return checkpoint{}, nil, errParked
		}
		if cause == nil {
			return checkpoint{State: e.faultState(p, after)}, nil, nil
		}
		_, again := errors.AsType[*retryError](cause)
		if again && !e.canceled(x) {
			select {
			case <-time.After(wait):
				continue
			case <-l.ctx.Done():
				return checkpoint{}, nil, errParked
			case <-ctx.Done():
			}
		}
		f := failureOf(st.name, cause)
		e.log.Info("step failed", "operation", op.ID, "workflow", op.Workflow, "step", st.name, "code", f.Code, "error", cause)
		return checkpoint{after, f}, cause, nil
	}
}

func (e *Engine) canceled(x *execution) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return x.cancel
}

// attempt runs a Do or Undo once, with what tests interfere; a panic is an error.
func (e *Engine) attempt(ctx context.Context, l *launch, d *definition, p Point, f func(context.Context, any) error, state any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			e.log.Error("step panicked", "operation", p.Operation, "step", p.Step, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	injected := retcode.SystemBusy.Errorf("injected at step %s", p.Step)
	switch fault := e.fault(p); fault {
	case FailBefore:
		return injected
	case FailAfter:
		if err := f(ctx, state); err != nil {
			return err
		}
		return injected
	case Twice:
		b, err := json.Marshal(state)
		if err != nil {
			return err
		}
		first, err := d.decode(b)
		if err != nil {
			return err
		}
		if err := f(ctx, first); err != nil {
			return err
		}
	case CrashBefore, CrashAfter:
		if fault == CrashAfter {
			if err := f(ctx, state); err != nil {
				return err
			}
		}
		e.crash(l.ctx)
		<-l.ctx.Done()
		return l.ctx.Err()
	}
	return f(ctx, state)
}

// persist repeats a write of ours until the database takes it, or parks.
func (e *Engine) persist(l *launch, id string, f func(ctx context.Context) error) error {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := f(l.ctx)
		if errors.Is(err, errOver) {
			var op *Operation
			if op, err = e.read(l.ctx, id); err == nil && op.Epoch != e.Epoch() {
				e.lose(errLost)
				return errParked
			}
			// Else it was our own commit, whose answer was lost.
		}
		if err == nil {
			return nil
		}
		if l.ctx.Err() != nil {
			return errParked
		}
		e.log.Warn("operation cannot be written, trying again", "error", err)
		select {
		case <-l.ctx.Done():
			return errParked
		case <-time.After(wait):
		}
	}
}

// beginUndo notes the decision, so that no restart goes forward again, and undoes.
func (e *Engine) beginUndo(l *launch, x *execution, op *Operation, d *definition, u undoing, cause error) error {
	b, err := json.Marshal(u)
	if err != nil {
		return errors.Join(errParked, err)
	}
	err = e.persist(l, op.ID, func(ctx context.Context) error {
		return e.db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			return e.guarded(ctx, tx, op, "state = ?1, code = ?2, message = ?3, undo = ?4, updated_at = ?5", "ended_at = 0 AND epoch = ?0",
				e.Epoch(), Undoing, int(u.Failure.Code), u.Failure.Message, string(b), e.clock.Micros())
		})
	})
	if err != nil {
		return err
	}
	return e.undo(l, x, op, d, u, cause)
}

// undo runs the Undos backwards, each until it succeeds, then Abort.
func (e *Engine) undo(l *launch, x *execution, op *Operation, d *definition, u undoing, cause error) error {
	state, err := d.decode(u.State)
	if err != nil {
		e.log.Error("operation with an unreadable state", "operation", op.ID, "error", err)
		return errParked
	}
	for i := u.Step; i >= 0; i-- {
		st := d.steps[i]
		if st.undo == nil {
			continue
		}
		e.mu.Lock()
		x.state, x.step = Undoing, st.name
		e.mu.Unlock()
		p := Point{op.ID, op.Workflow, st.name, Undo}
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
			if !e.mayRun(l) {
				return errParked
			}
			err := e.attempt(l.ctx, l, d, p, st.undo, state)
			if l.ctx.Err() != nil {
				return errParked
			}
			if err == nil {
				break
			}
			e.log.Warn("undo failed, trying again", "operation", op.ID, "workflow", op.Workflow, "step", st.name, "error", err)
			select {
			case <-l.ctx.Done():
				return errParked
			case <-time.After(wait):
			}
		}
	}
	return e.persist(l, op.ID, func(ctx context.Context) error {
		return e.end(ctx, op, Failed, &u.Failure, func(ctx context.Context, tx bun.Tx) error {
			if d.abort == nil {
				return nil
			}
			// A transaction may run again: it must not find the state changed.
			s, err := clone(d, state)
			if err != nil {
				return err
			}
			return d.abort(ctx, tx, s, cause)
		})
	})
}

func clone(d *definition, state any) (any, error) {
	b, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	return d.decode(b)
}

// settleTries is how often Settle may fail, the database being there, before the operation is undone.
const settleTries = 5

func (e *Engine) settle(l *launch, x *execution, op *Operation, d *definition, state []byte) error {
	tries := 0
	var refused error
	err := e.persist(l, op.ID, func(ctx context.Context) error {
		err := e.end(ctx, op, Succeeded, nil, func(ctx context.Context, tx bun.Tx) error {
			if d.settle == nil {
				return nil
			}
			s, err := d.decode(bytes.Clone(state))
			if err != nil {
				return err
			}
			return d.settle(ctx, tx, s)
		})
		if err == nil || errors.Is(err, errOver) || errors.Is(err, database.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if tries++; tries < settleTries {
			return err
		}
		refused = fmt.Errorf("settle: %w", err)
		return nil
	})
	if err != nil || refused == nil {
		return err
	}
	last := len(d.steps) - 1
	e.log.Error("operation cannot be settled and is undone", "operation", op.ID, "workflow", op.Workflow, "error", refused)
	return e.beginUndo(l, x, op, d, undoing{last, state, *failureOf(d.steps[last].name, refused)}, refused)
}

// end ends the operation, releases its locks and writes what f writes, all or nothing.
func (e *Engine) end(ctx context.Context, op *Operation, state string, f *failure, write func(context.Context, bun.Tx) error) error {
	end := *op
	end.State, end.Step, end.Undo, end.Code, end.Message = state, "", "", 0, ""
	if f != nil {
		end.Code, end.Message = int(f.Code), f.Message
	}
	return e.db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		end.EndedAt = e.clock.Micros()
		end.UpdatedAt = end.EndedAt
		err := e.guarded(ctx, tx, op, "state = ?1, step = '', undo = '', code = ?2, message = ?3, ended_at = ?4, updated_at = ?4",
			"ended_at = 0 AND epoch = ?0", e.Epoch(), end.State, end.Code, end.Message, end.EndedAt)
		if err != nil {
			return err
		}
		if err := write(ctx, tx); err != nil {
			return err
		}
		if err := releaseLocks(ctx, tx, op.ID); err != nil {
			return err
		}
		if e.options.OnEnd != nil {
			return e.options.OnEnd(ctx, tx, &end)
		}
		return nil
	})
}
