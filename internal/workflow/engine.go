package workflow

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite" // lets DBOS read SQLite's error codes

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

// Options of an Engine.
type Options struct {
	Clock *clock.Clock
	// OnAccept and OnEnd run in the transaction that accepts or ends an operation (audit).
	OnAccept func(ctx context.Context, tx bun.Tx, op *Operation) error
	OnEnd    func(ctx context.Context, tx bun.Tx, op *Operation) error
	// OnLost is called when the lease was lost; the process must end before the lease runs
	// out, which leaves it 2 s. No further step starts.
	OnLost func(error)
	// Holder names this controller in the lease (host name and pid).
	Holder string
	// SweepEvery is 1 s when 0.
	SweepEvery time.Duration
}

const (
	// maxAttempts of an operation whose controller dies with it; then it is undone.
	maxAttempts = 20
	// keepOperations is how long ended operations are kept, as long as the audit.
	keepOperations = 180 * 24 * time.Hour
	// reviveAfter is how long an open operation may have no running workflow before the sweep looks why.
	reviveAfter = 3 * time.Second
)

// Engine runs the workflows of one controller.
type Engine struct {
	db      *database.DB
	options Options
	clock   *clock.Clock
	log     *slog.Logger

	epoch atomic.Uint64

	mu          sync.Mutex
	definitions map[string]*definition
	faults      Faults
	lease       *lease
	launch      *launch // nil before Start and while relaunching
	stopping    bool
	lost        bool
	active      map[string]*execution
	waiters     map[string]*waiter
	wake        chan struct{} // something in active changed

	loops     sync.WaitGroup
	loopsCtx  context.Context
	stopLoops context.CancelFunc
	relaunchM sync.Mutex // one launch or shutdown of DBOS at a time
}

// launch is one life of DBOS within the process.
type launch struct {
	dbos   dbos.Context
	run    func(dbos.Context, string) (string, error)
	ctx    context.Context // of all steps; canceled: stop at once
	cancel context.CancelFunc
	drain  chan struct{} // closed: start no further step
	once   sync.Once
}

func (l *launch) startDrain() { l.once.Do(func() { close(l.drain) }) }

// execution is an operation that this process runs, or is about to.
type execution struct {
	id      string
	op      *Operation // nil: to be read
	launch  *launch
	claimed bool // its workflow function runs
	parked  bool // it waits for the end of its launch
	cancel  bool
	state   string // Running or Undoing
	step    string // under way
	shown   string // state and step as the row says
	since   time.Time
	given   time.Time // when DBOS had it; zero before
	done    chan struct{}
}

type waiter struct {
	ch chan struct{}
	n  int
}

// New prepares an engine; workflows are registered before Start.
func New(db *database.DB, o Options) *Engine {
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	if o.SweepEvery == 0 {
		o.SweepEvery = time.Second
	}
	return &Engine{
		db: db, options: o, clock: o.Clock, log: slog.Default().With("part", "workflow"),
		definitions: map[string]*definition{},
		active:      map[string]*execution{},
		waiters:     map[string]*waiter{},
		wake:        make(chan struct{}, 1),
	}
}

func (e *Engine) register(d *definition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease != nil {
		panic("workflow: " + d.name + " registered after Start")
	}
	if e.definitions[d.name] != nil {
		panic("workflow: " + d.name + " registered twice")
	}
	e.definitions[d.name] = d
}

// Workflows are the names of the registered workflows, sorted.
func (e *Engine) Workflows() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.definitions))
}

// Steps are the names of a workflow's steps, in order; nil for an unknown one.
func (e *Engine) Steps(workflow string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.definitions[workflow]
	if d == nil {
		return nil
	}
	names := make([]string, len(d.steps))
	for i, s := range d.steps {
		names[i] = s.name
	}
	return names
}

// Start takes the lease (ErrLed when another controller holds it), launches DBOS, recovers, sweeps.
func (e *Engine) Start(ctx context.Context) error {
	if database.InTransaction(ctx) {
		return database.ErrNested
	}
	l, err := takeLease(ctx, e.db, e.options.Holder)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.lease = l
	e.mu.Unlock()
	e.epoch.Store(l.epoch)
	e.loopsCtx, e.stopLoops = context.WithCancel(context.WithoutCancel(ctx))
	if err := e.start(ctx); err != nil {
		e.stopLoops()
		return errors.Join(err, l.release(ctx))
	}
	e.loops.Go(func() { e.keepLease(e.loopsCtx) })
	e.loops.Go(func() { e.sweepAll(e.loopsCtx) })
	return nil
}

// start launches DBOS, which recovers what it finds.
func (e *Engine) start(ctx context.Context) error {
	journal, err := e.db.Journal(ctx)
	if err != nil {
		return err
	}
	closeJournal := func() {
		if journal.SQLite != nil {
			_ = journal.SQLite.Close()
		} else {
			journal.Postgres.Close()
		}
	}
	// The environment overrides the constants that recovery depends on: it must not.
	for _, name := range []string{"DBOS__APPVERSION", "DBOS__VMID", "DBOS__APPID", "DBOS__CLOUD"} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	l := &launch{drain: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.dbos, err = dbos.NewContext(context.WithoutCancel(ctx), dbos.Config{
		AppName:        "lingyun",
		SystemDBPool:   journal.Postgres,
		SQLiteSystemDB: journal.SQLite,
		Logger:         slog.New(&quiet{e.log.Handler()}),
		// The next leader recovers its predecessor's work, whatever release it is of.
		ApplicationVersion: "1",
		ExecutorID:         "leader",
	})
	if err != nil {
		closeJournal()
		return fmt.Errorf("workflow: %w", err)
	}
	l.run = func(c dbos.Context, id string) (string, error) { return e.run(l, c, id) }
	dbos.RegisterWorkflow(l.dbos, l.run, dbos.WithWorkflowName("operation"),
		dbos.WithMaxRecoveryAttempts(1<<30)) // ours is maxAttempts, which undoes
	if err := dbos.Launch(l.dbos); err != nil {
		l.cancel()
		return fmt.Errorf("workflow: %w", err)
	}
	e.mu.Lock()
	e.launch = l
	e.mu.Unlock()
	return nil
}

// Stop waits for running steps up to ctx's deadline, then gives the lease back. What is unfinished goes on at the next start.
func (e *Engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	if e.lease == nil || e.stopping {
		e.mu.Unlock()
		return nil
	}
	e.stopping = true
	l := e.launch
	e.mu.Unlock()
	if l != nil {
		l.startDrain()
		for e.running() && ctx.Err() == nil {
			select {
			case <-e.wake:
			case <-ctx.Done():
			}
		}
	}
	e.stopLoops()
	err := e.shutdown()
	e.loops.Wait()
	e.mu.Lock()
	lost := e.lost
	e.mu.Unlock()
	if lost {
		return err
	}
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseMargin)
	defer cancel()
	return errors.Join(err, e.lease.release(release))
}

// shutdown ends the current launch.
func (e *Engine) shutdown() error {
	e.relaunchM.Lock()
	defer e.relaunchM.Unlock()
	e.mu.Lock()
	l := e.launch
	e.launch = nil
	e.mu.Unlock()
	if l == nil {
		return nil
	}
	l.startDrain()
	l.cancel()
	if err := dbos.Shutdown(l.dbos, 10*time.Second); err != nil {
		return fmt.Errorf("workflow: %w", err)
	}
	return nil
}

// running tells whether a workflow function is neither parked nor over.
func (e *Engine) running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.active {
		if x.claimed && !x.parked {
			return true
		}
	}
	return false
}

func (e *Engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// relaunch restarts DBOS within the process, which recovers all workflows from their
// journals as a restart of the process does. A workflow that could not write its
// journal (the database was away) has no other way to go on.
func (e *Engine) relaunch(ctx context.Context, why string) {
	e.mu.Lock()
	l := e.launch
	if l == nil || e.stopping || e.lost {
		e.mu.Unlock()
		return
	}
	e.launch = nil
	e.loops.Add(1)
	e.mu.Unlock()
	go func() {
		defer e.loops.Done()
		e.log.InfoContext(ctx, "workflows start again from their journals", "reason", why)
		e.relaunchM.Lock()
		defer e.relaunchM.Unlock()
		l.startDrain()
		l.cancel()
		if err := dbos.Shutdown(l.dbos, 30*time.Second); err != nil {
			e.log.Warn("some workflows do not stop", "error", err) // their successors wait for them
		}
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			if e.loopsCtx.Err() != nil {
				return
			}
			err := e.db.Ping(e.loopsCtx)
			if err == nil {
				err = e.start(e.loopsCtx)
			}
			if err == nil {
				e.sweep(e.loopsCtx)
				return
			}
			e.log.Warn("workflows wait for the database", "error", err)
			select {
			case <-e.loopsCtx.Done():
			case <-time.After(wait):
			}
		}
	}()
}

// lose is called when the lease is lost: nothing starts any more.
func (e *Engine) lose(err error) {
	e.mu.Lock()
	if e.lost || e.stopping {
		e.mu.Unlock()
		return
	}
	e.lost = true
	if e.lease != nil {
		e.lease.wake()
	}
	l := e.launch
	e.mu.Unlock()
	e.log.Error("this controller no longer leads", "error", err)
	if l != nil {
		l.startDrain()
		l.cancel()
	}
	if e.options.OnLost != nil {
		e.options.OnLost(err)
	}
}

// Epoch of the lease held: goes into every Fence.
func (e *Engine) Epoch() uint64 { return e.epoch.Load() }

// Kick starts accepted operations now. Call it after the commit; unknown or finished ids are ignored.
func (e *Engine) Kick(ids ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.launch == nil || e.stopping || e.lost {
		return // the sweep, or the next start, finds them
	}
	for _, id := range ids {
		if e.active[id] != nil {
			continue
		}
		x := e.newExecution(id)
		l := e.launch
		go e.begin(l, x)
	}
}

// newExecution adds one to active; e.mu is held.
func (e *Engine) newExecution(id string) *execution {
	x := &execution{id: id, since: time.Now(), done: make(chan struct{})}
	e.active[id] = x
	return x
}

// begin gives an accepted operation to DBOS.
func (e *Engine) begin(l *launch, x *execution) {
	op, err := e.read(l.ctx, x.id)
	if err == nil && op.EndedAt == 0 {
		e.mu.Lock()
		x.op, x.cancel = op, op.Cancel
		e.mu.Unlock()
		_, err = dbos.RunWorkflow(l.dbos, l.run, x.id, dbos.WithWorkflowID(x.id))
		if err == nil {
			e.mu.Lock()
			x.given = time.Now()
			e.mu.Unlock()
			return // it runs, or its row was there already: then recovery or the sweep care
		}
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) && l.ctx.Err() == nil {
		e.log.Warn("operation not started, the sweep will try again", "operation", x.id, "error", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !x.claimed {
		e.forget(x)
	}
}

// forget removes x from active; e.mu is held.
func (e *Engine) forget(x *execution) {
	if e.active[x.id] == x {
		delete(e.active, x.id)
	}
	close(x.done)
}

// sweepAll sweeps until ctx ends.
func (e *Engine) sweepAll(ctx context.Context) {
	tick := time.NewTicker(e.options.SweepEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		e.sweep(ctx)
		if n%60 == 59 {
			e.prune(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sweep starts what was accepted and not started, passes on cancellations, and shows what runs.
func (e *Engine) sweep(ctx context.Context) {
	var open []struct {
		ID     string
		Cancel bool
	}
	err := e.db.Reader().NewRaw("SELECT id, cancel FROM operation WHERE ended_at = 0 ORDER BY created_at").Scan(ctx, &open)
	if err != nil {
		if ctx.Err() == nil {
			e.log.Warn("sweep", "error", err)
		}
		return
	}
	var start []string
	var idle []*execution
	e.mu.Lock()
	for _, op := range open {
		x := e.active[op.ID]
		switch {
		case x == nil:
			start = append(start, op.ID)
		case x.claimed:
			x.cancel = x.cancel || op.Cancel
		case !x.given.IsZero() && time.Since(x.given) > reviveAfter:
			idle = append(idle, x)
		}
	}
	e.mu.Unlock()
	e.Kick(start...)
	for _, x := range idle {
		e.revive(x)
	}
	e.show(ctx)
}

// revive looks why an open operation's workflow does not run, and makes it.
func (e *Engine) revive(x *execution) {
	e.mu.Lock()
	l := e.launch
	e.mu.Unlock()
	if l == nil {
		return
	}
	status := dbos.WorkflowStatusType("")
	h, err := dbos.RetrieveWorkflow[string](l.dbos, x.id)
	if err == nil {
		var s dbos.WorkflowStatus
		if s, err = h.GetStatus(); err == nil {
			status = s.Status
		}
	}
	e.mu.Lock()
	claimed, given := x.claimed, x.given
	e.mu.Unlock()
	if claimed {
		return // it began while we looked
	}
	switch {
	case err != nil && !errors.Is(err, dbos.ErrNonExistentWorkflow):
		e.log.Warn("sweep", "operation", x.id, "error", err)
		return
	case status == dbos.WorkflowStatusPending || status == dbos.WorkflowStatusEnqueued && time.Since(given) > 10*reviveAfter:
		e.relaunch(l.ctx, "the workflow of "+x.id+" does not run")
	case status == dbos.WorkflowStatusEnqueued:
		return // about to run
	case status != "":
		// DBOS believes it over, the operation is open: begin anew, steps may run twice.
		e.log.Warn("workflow ended before its operation, it begins anew", "operation", x.id, "status", status)
		if err := dbos.DeleteWorkflows(l.dbos, []string{x.id}); err != nil {
			e.log.Warn("sweep", "operation", x.id, "error", err)
			return
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !x.claimed {
		e.forget(x)
	}
}

// show writes the state and step of operations that run for longer than a sweep. For the
// others it would be one more durable write that nobody sees.
func (e *Engine) show(ctx context.Context) {
	type change struct{ id, state, step string }
	var changes []change
	e.mu.Lock()
	for _, x := range e.active {
		if x.claimed && x.step != "" && x.shown != x.state+x.step && time.Since(x.since) >= e.options.SweepEvery {
			x.shown = x.state + x.step
			changes = append(changes, change{x.id, x.state, x.step})
		}
	}
	e.mu.Unlock()
	if len(changes) == 0 {
		return
	}
	err := e.db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, c := range changes {
			_, err := tx.ExecContext(ctx, "UPDATE operation SET state = ?, step = ?, updated_at = ? WHERE id = ? AND ended_at = 0 AND epoch = ?",
				c.state, c.step, e.clock.Micros(), c.id, e.Epoch())
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		e.log.Warn("sweep", "error", err)
	}
}

// prune deletes finished journals and operations of long ago.
func (e *Engine) prune(ctx context.Context) {
	for e.pruneJournals() {
	}
	before := e.clock.Now().Add(-keepOperations).UnixMicro()
	err := e.db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM operation WHERE ended_at <> 0 AND ended_at < ?", before)
		return err
	})
	if err != nil && ctx.Err() == nil {
		e.log.Warn("prune", "error", err)
	}
}

// pruneJournals deletes a batch, small enough that requests do not wait for it, and tells whether there may be more.
func (e *Engine) pruneJournals() bool {
	const batch = 200
	e.mu.Lock()
	l := e.launch
	e.mu.Unlock()
	if l == nil {
		return false
	}
	done, err := dbos.ListWorkflows(l.dbos, dbos.WithFilterLimit(batch), dbos.WithFilterLoadInput(false), dbos.WithFilterLoadOutput(false),
		dbos.WithFilterStatus(dbos.WorkflowStatusSuccess, dbos.WorkflowStatusError, dbos.WorkflowStatusCancelled))
	if err != nil {
		e.log.Warn("prune", "error", err)
		return false
	}
	ids := make([]string, 0, len(done))
	for _, s := range done {
		ids = append(ids, s.ID)
	}
	if len(ids) == 0 {
		return false
	}
	if err := dbos.DeleteWorkflows(l.dbos, ids); err != nil {
		e.log.Warn("prune", "error", err)
		return false
	}
	return len(ids) == batch
}

// Cancel asks an operation to stop before its next step and undo. Waiting between the
// tries of a step counts as such a place.
func (e *Engine) Cancel(ctx context.Context, id string) error {
	err := e.db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE operation SET cancel = ? WHERE id = ? AND ended_at = 0", true, id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(fmt.Errorf("operation %s: %w", id, sql.ErrNoRows), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.active[id]; x != nil {
		x.cancel = true
	}
	return nil
}

// Get reads one operation; sql.ErrNoRows when there is none.
func (e *Engine) Get(ctx context.Context, id string) (*Operation, error) {
	op, err := e.read(ctx, id)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.active[id]; x != nil && op.EndedAt == 0 && x.step != "" {
		op.State, op.Step = x.state, x.step
	}
	return op, nil
}

func (e *Engine) read(ctx context.Context, id string) (*Operation, error) {
	op := new(Operation)
	r := e.db.Reader()
	if err := database.One(ctx, r, r.NewSelect().Model(op).Where("id = ?", id), op); err != nil {
		return nil, fmt.Errorf("operation %s: %w", id, err)
	}
	return op, nil
}

// Wait returns the operation when it has ended.
func (e *Engine) Wait(ctx context.Context, id string) (*Operation, error) {
	if database.InTransaction(ctx) {
		return nil, database.ErrNested
	}
	e.mu.Lock()
	w := e.waiters[id]
	if w == nil {
		w = &waiter{ch: make(chan struct{})}
		e.waiters[id] = w
	}
	w.n++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if w.n--; w.n == 0 && e.waiters[id] == w {
			delete(e.waiters, id)
		}
	}()
	for {
		op, err := e.read(ctx, id)
		if err != nil || op.EndedAt != 0 {
			return op, err
		}
		select {
		case <-ctx.Done():
			return op, ctx.Err()
		case <-w.ch:
		case <-time.After(time.Second): // another controller may have ended it
		}
	}
}

// ended wakes who waits for an operation.
func (e *Engine) ended(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w := e.waiters[id]; w != nil {
		delete(e.waiters, id)
		close(w.ch)
	}
}

// Busy returns the holders of locks on a resource, exclusive ones first (for "the same action is still in progress").
func (e *Engine) Busy(ctx context.Context, idb bun.IDB, resource string) ([]Operation, error) {
	return holders(ctx, idb, resource)
}

// quiet is DBOS' log within ours: what it calls info is our debug, its errors our warnings,
// because the engine decides what a failure means.
type quiet struct{ slog.Handler }

func lower(l slog.Level) slog.Level {
	switch {
	case l >= slog.LevelError:
		return slog.LevelWarn
	case l >= slog.LevelWarn:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// Enabled tells whether the lowered level is logged.
func (q *quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, lower(l))
}

// Handle logs at the lowered level.
func (q *quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lower(r.Level)
	return q.Handler.Handle(ctx, r)
}

// WithAttrs keeps the lowering.
func (q *quiet) WithAttrs(a []slog.Attr) slog.Handler { return &quiet{q.Handler.WithAttrs(a)} }

// WithGroup keeps the lowering.
func (q *quiet) WithGroup(g string) slog.Handler { return &quiet{q.Handler.WithGroup(g)} }
