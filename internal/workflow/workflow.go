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
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
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

// Retry marks an error as worth another try within the step's deadline.
func Retry(err error) error { panic("not yet") }

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
	State     string `bun:"state"`
	Step      string `bun:"step"`    // the step under way
	Code      int    `bun:"code"`    // final status code; 0 when Succeeded
	Message   string `bun:"message"` // detail of the failure, English; empty when Succeeded
	Input     string `bun:"input"`   // JSON of the state at Accept
	Cancel    bool   `bun:"cancel"`
	Attempts  int    `bun:"attempts"` // starts, over all crashes
	CreatedAt int64  `bun:"created_at"`
	UpdatedAt int64  `bun:"updated_at"`
	EndedAt   int64  `bun:"ended_at"`
}

// Options of an Engine.
type Options struct {
	Clock *clock.Clock
	// OnAccept and OnEnd run in the transaction that accepts or ends an operation (audit).
	OnAccept func(ctx context.Context, tx bun.Tx, op *Operation) error
	OnEnd    func(ctx context.Context, tx bun.Tx, op *Operation) error
	// OnLost is called when the lease was lost; the process must end before the lease runs out.
	OnLost func(error)
	// Holder names this controller in the lease (host name and pid).
	Holder string
	// SweepEvery is 1 s when 0.
	SweepEvery time.Duration
}

// Engine runs the workflows of one controller.
type Engine struct{}

// New prepares an engine; workflows are registered before Start.
func New(db *database.DB, o Options) *Engine { panic("not yet") }

// Start takes the lease (ErrLed when another controller holds it), launches DBOS, recovers, sweeps.
func (e *Engine) Start(ctx context.Context) error { panic("not yet") }

// Stop waits for running steps up to ctx's deadline, then gives the lease back. What is unfinished goes on at the next start.
func (e *Engine) Stop(ctx context.Context) error { panic("not yet") }

// Epoch of the lease held: goes into every Fence.
func (e *Engine) Epoch() uint64 { panic("not yet") }

// Kick starts accepted operations now. Call it after the commit; unknown or finished ids are ignored.
func (e *Engine) Kick(ids ...string) { panic("not yet") }

// Cancel asks an operation to stop before its next step and undo.
func (e *Engine) Cancel(ctx context.Context, id string) error { panic("not yet") }

// Get reads one operation.
func (e *Engine) Get(ctx context.Context, id string) (*Operation, error) { panic("not yet") }

// Wait returns the operation when it has ended.
func (e *Engine) Wait(ctx context.Context, id string) (*Operation, error) { panic("not yet") }

// Busy returns the holders of locks on a resource, exclusive ones first (for "the same action is still in progress").
func (e *Engine) Busy(ctx context.Context, idb bun.IDB, resource string) ([]Operation, error) {
	panic("not yet")
}

// Workflow is a registered definition.
type Workflow[S any] struct{}

// Register adds a workflow to the engine. Panics on a name used twice, or after Start.
func Register[S any](e *Engine, d Definition[S]) *Workflow[S] { panic("not yet") }

// Accept writes the operation and takes its locks in tx. *BusyError when a lock is held.
// It returns the operation's id, to Kick after the commit.
func (w *Workflow[S]) Accept(ctx context.Context, tx bun.Tx, r Request, s S) (string, error) {
	panic("not yet")
}
