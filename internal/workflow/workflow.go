// Package workflow runs durable operations: steps with Do and Undo that survive
// kills, and resource locks taken in the request's transaction. The only
// importer of DBOS.
//
// A request's transaction calls Accept: the operation row and its locks are
// written, nothing of DBOS. Right after commit the caller calls Kick; what a
// crash or another controller left is found by the leader's sweep. Steps may
// run twice; their effects must be the same. When a step fails for good, the
// Undos run backwards, then Abort; else Settle ends the operation. Settle and
// Abort run in one transaction with the release of the locks and the
// operation's end.
package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
)

// Step of a workflow on its state S (JSON). Do and Undo may change the state; it is saved with the checkpoint.
type Step[S any] struct {
	Name string
	// Do must be idempotent. An error wrapped by Retry is tried again with back-off until
	// the step's Deadline; any other error undoes the workflow.
	Do func(ctx context.Context, s *S) error
	// Undo must be idempotent and must succeed on what Do half did. It is retried until it
	// succeeds. nil: nothing to undo.
	Undo func(ctx context.Context, s *S) error
	// Deadline bounds Do with its retries; 0 means 2 minutes.
	Deadline time.Duration
}

// Definition of a workflow. The names of workflow and steps are in journals: never reuse one for another meaning.
type Definition[S any] struct {
	Name  string
	Steps []Step[S]
	// Settle writes the settled state.
	Settle func(ctx context.Context, tx bun.Tx, s *S) error
	// Abort gives back everything reserved, after the Undos. cause is the step's error.
	Abort func(ctx context.Context, tx bun.Tx, s *S, cause error) error
}

// Lock is taken at Accept and released at the end of the operation.
type Lock struct {
	Resource  string
	Exclusive bool
}

// Request describes an operation to Accept.
type Request struct {
	Action    string // API action, for people
	Company   int64  // tenant
	Region    string
	Resources []string // related resources, the first is the main one
	Locks     []Lock
}

// BusyError: a lock is held. The caller answers its resource's state code.
type BusyError struct {
	Resource  string
	Operation string // holder
	Action    string // holder's action
}

func (e *BusyError) Error() string { return "resource " + e.Resource + " is busy with " + e.Action }

// Retry marks an error as worth another try within the step's deadline. nil stays nil.
func Retry(err error) error {
	if err == nil {
		return nil
	}
	return &retryError{err}
}

type retryError struct{ err error }

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// States of an operation.
const (
	Accepted  = "Accepted"
	Running   = "Running"
	Undoing   = "Undoing"
	Succeeded = "Succeeded"
	Failed    = "Failed"
)

// Operation is the row that API, console and operators read.
type Operation struct {
	bun.BaseModel `bun:"table:operation"`

	ID        string `bun:"id,pk"`
	Workflow  string `bun:"workflow"`
	Action    string `bun:"action"`
	Company   int64  `bun:"company"`
	Region    string `bun:"region"`
	Resources string `bun:"resources"` // JSON array
	State     string `bun:"state"`     // at most a second behind while the operation runs
	Step      string `bun:"step"`      // the step under way, likewise
	Code      int    `bun:"code"`      // final status code; 0 when Succeeded
	Message   string `bun:"message"`   // detail of the failure, English; empty when Succeeded
	Input     string `bun:"input"`     // JSON of the state at Accept
	Undo      string `bun:"undo"`      // JSON of what the undoing starts from; empty before
	Cancel    bool   `bun:"cancel"`
	Attempts  int    `bun:"attempts"` // starts, over all crashes
	Epoch     uint64 `bun:"epoch"`    // of the leader that runs it
	CreatedAt int64  `bun:"created_at"`
	UpdatedAt int64  `bun:"updated_at"`
	EndedAt   int64  `bun:"ended_at"`
}

// Workflow is a registered definition.
type Workflow[S any] struct {
	engine *Engine
	name   string
}

// Register adds a workflow to the engine. Panics on a name used twice, on a definition
// without steps or with two steps of one name, or after Start.
func Register[S any](e *Engine, d Definition[S]) *Workflow[S] {
	def := &definition{
		name:   d.Name,
		decode: func(b []byte) (any, error) { s := new(S); return s, json.Unmarshal(b, s) },
	}
	if d.Name == "" || len(d.Steps) == 0 {
		panic("workflow: " + d.Name + ": a workflow needs a name and a step")
	}
	if d.Settle != nil {
		def.settle = func(ctx context.Context, tx bun.Tx, s any) error { return d.Settle(ctx, tx, s.(*S)) }
	}
	if d.Abort != nil {
		def.abort = func(ctx context.Context, tx bun.Tx, s any, cause error) error {
			return d.Abort(ctx, tx, s.(*S), cause)
		}
	}
	names := map[string]bool{}
	for _, st := range d.Steps {
		if st.Name == "" || st.Do == nil || names[st.Name] {
			panic("workflow: " + d.Name + ": step " + st.Name + " needs a name of its own and a Do")
		}
		names[st.Name] = true
		es := step{name: st.Name, deadline: st.Deadline}
		if es.deadline == 0 {
			es.deadline = defaultDeadline
		}
		es.do = func(ctx context.Context, s any) error { return st.Do(ctx, s.(*S)) }
		if st.Undo != nil {
			es.undo = func(ctx context.Context, s any) error { return st.Undo(ctx, s.(*S)) }
		}
		def.steps = append(def.steps, es)
	}
	e.register(def)
	return &Workflow[S]{engine: e, name: d.Name}
}

const defaultDeadline = 2 * time.Minute

// definition is a Definition without its type parameter; states are *S.
type definition struct {
	name   string
	steps  []step
	decode func([]byte) (any, error)
	settle func(context.Context, bun.Tx, any) error
	abort  func(context.Context, bun.Tx, any, error) error
}

type step struct {
	name     string
	do, undo func(context.Context, any) error
	deadline time.Duration
}

// Accept writes the operation and takes its locks in tx. *BusyError when a lock is held.
// It returns the operation's id, to Kick after the commit.
func (w *Workflow[S]) Accept(ctx context.Context, tx bun.Tx, r Request, s S) (string, error) {
	input, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("workflow: state of %s: %w", w.name, err)
	}
	resources := r.Resources
	if resources == nil {
		resources = []string{}
	}
	list, err := json.Marshal(resources)
	if err != nil {
		return "", fmt.Errorf("workflow: resources of %s: %w", w.name, err)
	}
	now := w.engine.clock.Micros()
	op := &Operation{
		ID: database.NewID("op"), Workflow: w.name, Action: r.Action, Company: r.Company, Region: r.Region,
		Resources: string(list), State: Accepted, Input: string(input),
		Attempts: 1, Epoch: w.engine.Epoch(), CreatedAt: now, UpdatedAt: now,
	}
	if err := takeLocks(ctx, tx, op.ID, r.Locks); err != nil {
		return "", err
	}
	if _, err := tx.NewInsert().Model(op).Exec(ctx); err != nil {
		return "", err
	}
	if f := w.engine.options.OnAccept; f != nil {
		if err := f(ctx, tx, op); err != nil {
			return "", err
		}
	}
	return op.ID, nil
}

// takeLocks takes all locks or fails with *BusyError. Two operations that want one
// resource meet on its row of resource_lock, in either engine.
func takeLocks(ctx context.Context, tx bun.Tx, id string, locks []Lock) error {
	exclusive := map[string]bool{}
	for _, l := range locks {
		exclusive[l.Resource] = exclusive[l.Resource] || l.Exclusive
	}
	// One order for everybody, so that two that want the same set do not wait for each other.
	merged := make([]Lock, 0, len(exclusive))
	for r, x := range exclusive {
		merged = append(merged, Lock{r, x})
	}
	slices.SortFunc(merged, func(a, b Lock) int { return strings.Compare(a.Resource, b.Resource) })
	type holding struct {
		bun.BaseModel `bun:"table:operation_lock"`
		ResourceID    string
		OperationID   string
		Exclusive     bool
	}
	held := make([]holding, 0, len(merged))
	for _, l := range merged {
		statement := `INSERT INTO resource_lock (resource_id, exclusive, shared) VALUES (?0, '', 1)
			ON CONFLICT (resource_id) DO UPDATE SET shared = resource_lock.shared + 1 WHERE resource_lock.exclusive = ''`
		if l.Exclusive {
			statement = `INSERT INTO resource_lock (resource_id, exclusive, shared) VALUES (?0, ?1, 0)
				ON CONFLICT (resource_id) DO UPDATE SET exclusive = ?1 WHERE resource_lock.exclusive = '' AND resource_lock.shared = 0`
		}
		res, err := tx.ExecContext(ctx, statement, l.Resource, id)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return busy(ctx, tx, l.Resource)
		}
		held = append(held, holding{ResourceID: l.Resource, OperationID: id, Exclusive: l.Exclusive})
	}
	if len(held) == 0 {
		return nil
	}
	_, err := tx.NewInsert().Model(&held).Exec(ctx)
	return err
}

// busy names the first holder of a resource. It may have gone since.
func busy(ctx context.Context, tx bun.Tx, resource string) error {
	e := &BusyError{Resource: resource}
	ops, err := holders(ctx, tx, resource)
	if err != nil {
		return errors.Join(e, err)
	}
	if len(ops) > 0 {
		e.Operation, e.Action = ops[0].ID, ops[0].Action
	}
	return e
}

func holders(ctx context.Context, idb bun.IDB, resource string) ([]Operation, error) {
	var ops []Operation
	err := idb.NewSelect().Model(&ops).
		Join("JOIN operation_lock AS l ON l.operation_id = operation.id").
		Where("l.resource_id = ?", resource).
		OrderExpr("l.exclusive DESC, operation.created_at, operation.id").Scan(ctx)
	return ops, err
}

// releaseLocks gives back what takeLocks took.
func releaseLocks(ctx context.Context, tx bun.Tx, id string) error {
	for _, statement := range []string{
		`UPDATE resource_lock SET
			shared = shared - CASE WHEN exclusive = ? THEN 0 ELSE 1 END,
			exclusive = CASE WHEN exclusive = ? THEN '' ELSE exclusive END
			WHERE resource_id IN (SELECT resource_id FROM operation_lock WHERE operation_id = ?)`,
		`DELETE FROM resource_lock WHERE exclusive = '' AND shared = 0
			AND resource_id IN (SELECT resource_id FROM operation_lock WHERE operation_id = ?)`,
		`DELETE FROM operation_lock WHERE operation_id = ?`,
	} {
		if _, err := database.Exec(ctx, tx, statement, slices.Repeat([]any{id}, strings.Count(statement, "?"))...); err != nil {
			return err
		}
	}
	return nil
}
