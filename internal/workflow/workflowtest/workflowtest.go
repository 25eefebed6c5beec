// Package workflowtest has the tests that every workflow must pass.
//
// For one workflow, started by the product's own request in a fresh world each time:
//
//   - fails at each step, before and after its effects: nothing is left;
//   - every undo twice: the same;
//   - every step twice: the same as once;
//   - killed before and after the effects of each step: the same as not killed;
//   - killed after each undo: it goes on undoing, and nothing is left;
//   - journals that an older release wrote finish on this one.
//
// Registry fails for a registered workflow that has no Case.
package workflowtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// World is a fresh cloud of simulated hosts in which one operation can be started.
type World struct {
	Engine *workflow.Engine // started
	DB     *database.DB
	// Start sends the request that accepts one operation of the workflow. It does not wait for the end.
	Start func(t *testing.T)
	// Snapshot returns all that the operation could change, as something that marshals to
	// JSON: rows of the resource, quota, addresses, capacity, what the simulated hosts and
	// fabric hold. No times, no generations, no history. Order does not matter.
	Snapshot func(t *testing.T) any
}

// Case is one workflow.
type Case struct {
	Workflow string
	// New makes a world ready for Start; it cleans up by t.Cleanup.
	New func(t *testing.T) *World
	// Failed compares the snapshots before the start and after a failure. nil: they must be equal.
	Failed func(t *testing.T, before, after any)
	// Timeout of one operation; 60 s when 0.
	Timeout time.Duration
}

// Record, set in the environment, writes the journal of a workflow that has none yet.
const Record = "LINGYUN_RECORD_JOURNALS"

// Run runs all generic tests of one workflow.
func Run(t *testing.T, c Case) {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	var want any      // the world after an undisturbed run
	rec := &journal{} // what it journaled
	ok := t.Run("undisturbed", func(t *testing.T) {
		w := c.New(t)
		if len(w.Engine.Steps(c.Workflow)) == 0 {
			t.Fatalf("workflow %s is not registered", c.Workflow)
		}
		f := &faults{c: &c, states: map[string]json.RawMessage{}}
		op, _, after := c.run(t, w, f)
		succeeded(t, op)
		want = anonymous(after)
		*rec = journal{Workflow: c.Workflow, Input: json.RawMessage(op.Input)}
		steps := w.Engine.Steps(c.Workflow)
		for _, s := range steps[:len(steps)-1] { // the last step's state is in no journal
			rec.Steps = append(rec.Steps, finished{s, f.states[s]})
		}
		rec.names = steps
	})
	if !ok {
		return
	}
	same := func(t *testing.T, op *workflow.Operation, after any) {
		t.Helper()
		succeeded(t, op)
		if diff := cmp.Diff(want, anonymous(after)); diff != "" {
			t.Errorf("another world than after an undisturbed run (-undisturbed +now):\n%s", diff)
		}
	}

	for _, step := range rec.names {
		for name, f := range map[string]workflow.Fault{"before": workflow.FailBefore, "after": workflow.FailAfter} {
			t.Run("fail "+name+" "+step, func(t *testing.T) {
				c.fails(t, &faults{c: &c, do: map[string]workflow.Fault{step: f}})
			})
		}
		t.Run("undo twice from "+step, func(t *testing.T) {
			c.fails(t, &faults{c: &c, do: map[string]workflow.Fault{step: workflow.FailAfter}, undo: workflow.Twice})
		})
		for name, f := range map[string]workflow.Fault{"before": workflow.CrashBefore, "after": workflow.CrashAfter} {
			t.Run("killed "+name+" "+step, func(t *testing.T) {
				w := c.New(t)
				op, _, after := c.run(t, w, &faults{c: &c, do: map[string]workflow.Fault{step: f}, once: true})
				same(t, op, after)
			})
		}
	}
	t.Run("killed after every undo", func(t *testing.T) {
		c.fails(t, &faults{c: &c, do: map[string]workflow.Fault{rec.names[len(rec.names)-1]: workflow.FailAfter}, undo: workflow.CrashAfter, undoOnce: true})
	})
	t.Run("every step twice", func(t *testing.T) {
		all := map[string]workflow.Fault{}
		for _, step := range rec.names {
			all[step] = workflow.Twice
		}
		op, _, after := c.run(t, c.New(t), &faults{c: &c, do: all})
		same(t, op, after)
	})
	t.Run("older journals", func(t *testing.T) {
		files, err := filepath.Glob(journalPattern(".", c.Workflow))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 0 && os.Getenv(Record) != "" {
			files = []string{rec.write(t)}
		}
		if len(files) == 0 {
			t.Fatalf("no journal of a release: record one with %s=1, and check it in", Record)
		}
		for _, file := range files {
			old := read(t, file)
			if len(rec.names) <= len(old.Steps) || !slices.Equal(rec.names[:len(old.Steps)], old.names) {
				t.Errorf("%s: a release journaled steps %q, this one has %q: its operations cannot finish here; "+
					"keep the steps and give the new ones a new workflow's name", file, old.names, rec.names)
				continue
			}
			old.last = rec.names[len(old.Steps)]
			for n := range len(old.Steps) + 1 {
				t.Run(fmt.Sprintf("%s after %d steps", strings.TrimSuffix(filepath.Base(file), ".json"), n), func(t *testing.T) {
					w := c.New(t)
					op, _, after := c.run(t, w, &faults{c: &c, old: old, finished: n, db: w.DB})
					same(t, op, after)
				})
			}
		}
	})
}

// run starts one operation under faults and waits for its end.
func (c *Case) run(t *testing.T, w *World, f *faults) (op *workflow.Operation, before, after any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), c.Timeout)
	defer cancel()
	before = canonical(t, w.Snapshot(t))
	var last []string
	ids := func() (ids []string) {
		err := w.DB.Reader().NewRaw("SELECT id FROM operation WHERE workflow = ? ORDER BY created_at, id", c.Workflow).Scan(ctx, &ids)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	last = ids()
	w.Engine.InjectFaults(f)
	defer w.Engine.InjectFaults(nil)
	w.Start(t)
	for _, id := range ids() {
		if slices.Contains(last, id) {
			continue
		}
		var err error
		if op, err = w.Engine.Wait(ctx, id); err != nil {
			t.Fatalf("operation %+v: %v", op, err)
		}
		after = canonical(t, w.Snapshot(t))
		f.mu.Lock()
		if f.wrong != "" {
			t.Error(f.wrong)
		}
		f.mu.Unlock()
		if left := locks(t, w.DB, id); left != 0 {
			t.Errorf("%d locks are left", left)
		}
		return op, before, after
	}
	t.Fatalf("Start accepted no operation of %s", c.Workflow)
	return nil, nil, nil
}

func (c *Case) fails(t *testing.T, f *faults) {
	t.Helper()
	op, before, after := c.run(t, c.New(t), f)
	if op.State != workflow.Failed || op.Code == 0 || op.Message == "" {
		t.Errorf("operation ended %s, code %d %q; want a failure", op.State, op.Code, op.Message)
	}
	if c.Failed != nil {
		c.Failed(t, before, after)
		return
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the failure left something (-before +after):\n%s", diff)
	}
}

func succeeded(t *testing.T, op *workflow.Operation) {
	t.Helper()
	if op.State != workflow.Succeeded {
		t.Errorf("operation ended %s, code %d %q", op.State, op.Code, op.Message)
	}
}

func locks(t *testing.T, db *database.DB, id string) int {
	t.Helper()
	var n int
	err := db.Reader().NewRaw("SELECT (SELECT count(*) FROM operation_lock WHERE operation_id = ?0) + (SELECT count(*) FROM resource_lock WHERE exclusive = ?0)", id).Scan(t.Context(), &n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// faults are the disturbances of one run. Other workflows pass.
type faults struct {
	c    *Case
	do   map[string]workflow.Fault // by step
	undo workflow.Fault
	once bool // each of do only at its first run
	// undoOnce: undo only at each step's first undoing. No step may go forward after it.
	undoOnce bool

	// Of an older release's journal: its first steps are finished.
	old      *journal
	finished int
	db       *database.DB

	mu      sync.Mutex
	states  map[string]json.RawMessage // recorded, by step
	done    map[string]bool
	undone  map[string]bool
	wrong   string
	swapped bool
}

// At answers what happens at p.
func (f *faults) At(p workflow.Point) workflow.Fault {
	if p.Workflow != f.c.Workflow {
		return workflow.Pass
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Phase == workflow.Undo {
		if f.undoOnce && f.undone[p.Step] {
			return workflow.Pass
		}
		if f.undone == nil {
			f.undone = map[string]bool{}
		}
		f.undone[p.Step] = true
		return f.undo
	}
	if len(f.undone) > 0 {
		f.wrong = "step " + p.Step + " went forward after an undo"
	}
	if f.old != nil {
		return f.atJournal(p)
	}
	fault := f.do[p.Step]
	if f.once {
		if f.done[p.Step] {
			return workflow.Pass
		}
		if f.done == nil {
			f.done = map[string]bool{}
		}
		f.done[p.Step] = fault != workflow.Pass
	}
	return fault
}

// atJournal puts the older release's input in the operation's row before the first step
// begins, and kills before the first step that the older release had not finished.
func (f *faults) atJournal(p workflow.Point) workflow.Fault {
	if !f.swapped {
		f.swapped = true
		if err := f.swap(p.Operation); err != nil {
			panic(err) // the operation fails with it
		}
		return workflow.CrashBefore
	}
	next := ""
	if f.finished < len(f.old.Steps) {
		next = f.old.Steps[f.finished].Name
	} else if f.finished > 0 {
		next = f.old.last
	}
	if p.Step == next && !f.done[next] {
		f.done = map[string]bool{next: true}
		return workflow.CrashBefore
	}
	return workflow.Pass
}

func (f *faults) swap(id string) error {
	ctx := context.Background()
	return f.db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		var fresh string
		if err := tx.NewRaw("SELECT input FROM operation WHERE id = ?", id).Scan(ctx, &fresh); err != nil {
			return err
		}
		input, err := translate(f.old.Input, []byte(fresh))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE operation SET input = ? WHERE id = ?", string(input), id)
		return err
	})
}

// State records what a step saves, or gives it the shape that the older release saved.
func (f *faults) State(p workflow.Point, state []byte) []byte {
	if p.Workflow != f.c.Workflow {
		return state
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states != nil {
		f.states[p.Step] = slices.Clone(state)
	}
	if f.old != nil {
		for _, s := range f.old.Steps[:f.finished] {
			if s.Name == p.Step {
				old, err := translate(s.State, state)
				if err != nil {
					panic(err)
				}
				return old
			}
		}
	}
	return state
}
