package workflow

import "context"

// Phase of a step, in Point.
type Phase string

// Phases.
const (
	Do   Phase = "do"
	Undo Phase = "undo"
)

// Point is a place where a test may interfere.
type Point struct {
	Operation string
	Workflow  string
	Step      string
	Phase     Phase
}

// Fault is what happens there.
type Fault int

// Faults.
const (
	// Pass lets the step run as it is.
	Pass Fault = iota
	// FailBefore fails the step for good without running it.
	FailBefore
	// FailAfter runs the step, then fails it for good: its effects are there.
	FailAfter
	// Twice runs the step two times, each with the state it began with.
	Twice
	// CrashBefore and CrashAfter stop all workflows as a kill would, before the step, or
	// after its effects and before its checkpoint; then everything recovers from the journal.
	CrashBefore
	CrashAfter
)

// Faults is how tests interfere. See workflowtest.
type Faults interface {
	// At is asked before each run of a step.
	At(p Point) Fault
	// State may replace the state that a finished Do saves.
	State(p Point, state []byte) []byte
}

// InjectFaults sets what tests do to the operations that start from now on. nil: nothing.
func (e *Engine) InjectFaults(f Faults) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = f
}

func (e *Engine) fault(p Point) Fault {
	e.mu.Lock()
	f := e.faults
	e.mu.Unlock()
	if f == nil {
		return Pass
	}
	return f.At(p)
}

func (e *Engine) faultState(p Point, state []byte) []byte {
	e.mu.Lock()
	f := e.faults
	e.mu.Unlock()
	if f == nil {
		return state
	}
	return f.State(p, state)
}

// crash does what a kill of the process does to workflows, within it.
func (e *Engine) crash(ctx context.Context) { e.relaunch(ctx, "a test crashes the workflows") }
