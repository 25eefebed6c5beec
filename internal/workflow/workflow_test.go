package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// house is what the test's operations change: rooms (engines outside) and rows.
type house struct {
	accepted int // rows of locks when the last operation was accepted
	t        *testing.T
	db       *database.DB
	mu       sync.Mutex
	// things made by steps, by name; counts of calls, by step.
	things map[string]bool
	calls  map[string]int
	// hook is asked in each Do and Undo.
	hook func(ctx context.Context, call string) error
}

type room struct {
	Name string
	Made []string
}

func newHouse(t *testing.T, db *database.DB) *house {
	t.Helper()
	err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, "CREATE TABLE room (name TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return &house{t: t, db: db, things: map[string]bool{}, calls: map[string]int{}}
}

func (h *house) call(ctx context.Context, call string) error {
	h.mu.Lock()
	h.calls[call]++
	hook := h.hook
	h.mu.Unlock()
	if hook != nil {
		return hook(ctx, call)
	}
	return nil
}

func (h *house) count(call string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[call]
}

func (h *house) setHook(f func(ctx context.Context, call string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook = f
}

func (h *house) step(name string) workflow.Step[room] {
	return workflow.Step[room]{
		Name: name,
		Do: func(ctx context.Context, r *room) error {
			h.mu.Lock()
			h.things[r.Name+"/"+name] = true
			h.mu.Unlock()
			if !slices.Contains(r.Made, name) {
				r.Made = append(r.Made, name)
			}
			return h.call(ctx, "do "+name)
		},
		Undo: func(ctx context.Context, r *room) error {
			if err := h.call(ctx, "undo "+name); err != nil {
				return err
			}
			h.mu.Lock()
			delete(h.things, r.Name+"/"+name)
			h.mu.Unlock()
			return nil
		},
		Deadline: 20 * time.Second,
	}
}

func (h *house) thingsNow() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.things))
}

func (h *house) register(e *workflow.Engine) *workflow.Workflow[room] {
	return workflow.Register(e, workflow.Definition[room]{
		Name:  "room.build",
		Steps: []workflow.Step[room]{h.step("floor"), h.step("walls"), h.step("roof")},
		Settle: func(ctx context.Context, tx bun.Tx, r *room) error {
			return h.set(ctx, tx, r.Name, fmt.Sprint("Ready ", r.Made), "")
		},
		Abort: func(ctx context.Context, tx bun.Tx, r *room, cause error) error {
			return h.set(ctx, tx, r.Name, "Failed", cause.Error())
		},
	})
}

func (h *house) set(ctx context.Context, tx bun.Tx, name, state, reason string) error {
	_, err := tx.ExecContext(ctx, "UPDATE room SET state = ?, reason = ? WHERE name = ?", state, reason, name)
	return err
}

func (h *house) state(name string) (state, reason string) {
	h.t.Helper()
	err := h.db.Reader().NewRaw("SELECT state, reason FROM room WHERE name = ?", name).Scan(context.Background(), &state, &reason)
	if err != nil {
		h.t.Fatal(err)
	}
	return state, reason
}

// build accepts an operation and does not kick it.
func (h *house) build(w *workflow.Workflow[room], name string) string {
	h.t.Helper()
	var id string
	err := h.db.Transact(h.t.Context(), func(ctx context.Context, tx bun.Tx) (err error) {
		if _, err = tx.ExecContext(ctx, "INSERT INTO room VALUES (?, 'Building', '')", name); err != nil {
			return err
		}
		id, err = w.Accept(ctx, tx, workflow.Request{
			Action: "BuildRoom", Company: 7, Region: "cn", Resources: []string{name},
			Locks: []workflow.Lock{{Resource: name, Exclusive: true}, {Resource: "house"}},
		}, room{Name: name})
		if err != nil {
			return err
		}
		// Looked at before the commit: after it, a sweep may have run the operation already.
		h.accepted, err = locks(ctx, tx)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

func start(t *testing.T, e *workflow.Engine) {
	t.Helper()
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, e) })
}

func stop(t *testing.T, e *workflow.Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := e.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func wait(t *testing.T, e *workflow.Engine, id string) *workflow.Operation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	op, err := e.Wait(ctx, id)
	if err != nil {
		t.Fatalf("operation %s: %v (%+v)", id, err, op)
	}
	return op
}

// until polls a condition with a deadline.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("not within 30 s: " + what)
}

// locks counts the rows of both tables of locks.
func locks(ctx context.Context, db bun.IDB) (n int, err error) {
	err = db.NewRaw("SELECT (SELECT count(*) FROM resource_lock) + (SELECT count(*) FROM operation_lock)").Scan(ctx, &n)
	return n, err
}

func locksLeft(t *testing.T, db *database.DB) int {
	t.Helper()
	n, err := locks(t.Context(), db.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOperationRunsAndSettles(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		var events []string
		note := func(what string) func(context.Context, bun.Tx, *workflow.Operation) error {
			return func(ctx context.Context, _ bun.Tx, op *workflow.Operation) error {
				if !database.InTransaction(ctx) {
					t.Error(what + " outside the transaction")
				}
				events = append(events, fmt.Sprint(what, " ", op.State, " ", op.Action, " ", op.Code))
				return nil
			}
		}
		e := workflow.New(db, workflow.Options{Holder: "test", OnAccept: note("accept"), OnEnd: note("end")})
		w := h.register(e)
		start(t, e)
		id := h.build(w, "kitchen")
		if h.accepted != 4 {
			t.Errorf("%d lock rows while accepted", h.accepted)
		}
		e.Kick(id, id, "op-unknown")
		op := wait(t, e, id)
		if op.State != workflow.Succeeded || op.Code != 0 || op.EndedAt == 0 || op.Attempts != 1 || op.Resources != `["kitchen"]` {
			t.Errorf("operation %+v", op)
		}
		if s, _ := h.state("kitchen"); s != "Ready [floor walls roof]" {
			t.Errorf("room %s", s)
		}
		if n := locksLeft(t, db); n != 0 {
			t.Errorf("%d lock rows left", n)
		}
		if want := []string{"accept Accepted BuildRoom 0", "end Succeeded BuildRoom 0"}; !slices.Equal(events, want) {
			t.Errorf("events %q", events)
		}
		e.Kick(id)
		for _, s := range []string{"do floor", "do walls", "do roof"} {
			if h.count(s) != 1 {
				t.Errorf("%s ran %d times", s, h.count(s))
			}
		}
	})
}

func TestFailureUndoesBackwardsAndTellsWhy(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		e := workflow.New(db, workflow.Options{})
		w := h.register(e)
		var order []string
		undoFails := 2
		h.setHook(func(_ context.Context, call string) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			order = append(order, call)
			switch call {
			case "do walls":
				return retcode.SystemBusy.Errorf("no bricks for %s", "kitchen")
			case "undo walls": // it is tried until it succeeds
				if undoFails--; undoFails >= 0 {
					return errors.New("the bricks are stuck")
				}
			}
			return nil
		})
		start(t, e)
		id := h.build(w, "kitchen")
		e.Kick(id)
		op := wait(t, e, id)
		if op.State != workflow.Failed || op.Code != int(retcode.SystemBusy) || op.Message != "no bricks for kitchen" {
			t.Errorf("operation %+v", op)
		}
		if s, reason := h.state("kitchen"); s != "Failed" || reason != "560: no bricks for kitchen" {
			t.Errorf("room %s, %s", s, reason)
		}
		if want := []string{"do floor", "do walls", "undo walls", "undo walls", "undo walls", "undo floor"}; !slices.Equal(order, want) {
			t.Errorf("order %q", order)
		}
		if left := h.thingsNow(); len(left) != 0 || locksLeft(t, db) != 0 {
			t.Errorf("left %q and %d locks", left, locksLeft(t, db))
		}
	})
}

func TestRetryStopsAtTheDeadline(t *testing.T) {
	db := dbtest.SQLite(t)
	h := newHouse(t, db)
	e := workflow.New(db, workflow.Options{})
	w := workflow.Register(e, workflow.Definition[room]{
		Name: "room.paint",
		Steps: []workflow.Step[room]{{
			Name: "paint", Deadline: 300 * time.Millisecond,
			Do: func(ctx context.Context, _ *room) error {
				if err := h.call(ctx, "do paint"); err != nil {
					return err
				}
				return workflow.Retry(retcode.SystemBusy.Errorf("no paint"))
			},
		}},
	})
	start(t, e)
	id := h.build(w, "kitchen")
	e.Kick(id)
	op := wait(t, e, id)
	if op.State != workflow.Failed || op.Message != "no paint" || h.count("do paint") < 2 {
		t.Errorf("%+v after %d tries", op, h.count("do paint"))
	}
}

func TestPanicIsAFailure(t *testing.T) {
	db := dbtest.SQLite(t)
	h := newHouse(t, db)
	e := workflow.New(db, workflow.Options{})
	w := h.register(e)
	h.setHook(func(_ context.Context, call string) error {
		if call == "do roof" {
			panic("it rains")
		}
		return nil
	})
	start(t, e)
	id := h.build(w, "kitchen")
	e.Kick(id)
	if op := wait(t, e, id); op.State != workflow.Failed || op.Code != int(retcode.ServiceError) {
		t.Errorf("%+v", op)
	}
	if left := h.thingsNow(); len(left) != 0 {
		t.Errorf("left %q", left)
	}
}

func TestCancelUndoes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		e := workflow.New(db, workflow.Options{})
		w := h.register(e)
		canceled := make(chan struct{})
		h.setHook(func(ctx context.Context, call string) error {
			if call == "do walls" {
				<-canceled
			}
			return nil
		})
		start(t, e)
		id := h.build(w, "kitchen")
		e.Kick(id)
		until(t, "the walls begin", func() bool { return h.count("do walls") == 1 })
		op, err := e.Get(t.Context(), id)
		if err != nil || op.State != workflow.Running || op.Step != "walls" {
			t.Errorf("%+v, %v", op, err)
		}
		if err := e.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		close(canceled)
		if op := wait(t, e, id); op.State != workflow.Failed || op.Message != "canceled" {
			t.Errorf("%+v", op)
		}
		if h.count("do roof") != 0 || h.count("undo walls") != 1 || h.count("undo floor") != 1 || len(h.thingsNow()) != 0 {
			t.Errorf("calls %v, left %q", h.calls, h.thingsNow())
		}
		if err := e.Cancel(t.Context(), id); err == nil {
			t.Error("canceled what had ended")
		}
	})
}

func TestSweepStartsWhatNobodyKicked(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		before := workflow.New(db, workflow.Options{})
		id := h.build(h.register(before), "kitchen") // accepted, and the controller died
		e := workflow.New(db, workflow.Options{})
		h.register(e)
		start(t, e)
		op := wait(t, e, id)
		if op.State != workflow.Succeeded || op.Attempts != 2 {
			t.Errorf("%+v", op)
		}
	})
}

func TestLocks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		e := workflow.New(db, workflow.Options{})
		w := h.register(e) // not started: locks are held
		try := func(name string, locks ...workflow.Lock) (string, error) {
			var id string
			err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) (err error) {
				id, err = w.Accept(ctx, tx, workflow.Request{Action: "Act" + name, Locks: locks}, room{Name: name})
				return err
			})
			return id, err
		}
		x, s := workflow.Lock{Resource: "vm-1", Exclusive: true}, workflow.Lock{Resource: "vm-1"}
		one, err := try("One", s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := try("Two", s); err != nil {
			t.Errorf("a second shared lock: %v", err)
		}
		_, err = try("Three", workflow.Lock{Resource: "vm-2", Exclusive: true}, x)
		busy, ok := errors.AsType[*workflow.BusyError](err)
		if !ok || busy.Resource != "vm-1" || busy.Operation != one || busy.Action != "ActOne" {
			t.Errorf("exclusive beside shared: %v", err)
		}
		// vm-2 was not kept by the failed attempt; naming a lock twice takes the stronger.
		four, err := try("Four", workflow.Lock{Resource: "vm-2"}, workflow.Lock{Resource: "vm-2", Exclusive: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := try("Five", workflow.Lock{Resource: "vm-2"}); !errors.As(err, &busy) || busy.Operation != four {
			t.Errorf("shared beside exclusive: %v", err)
		}
		ops, err := e.Busy(t.Context(), db.Reader(), "vm-1")
		if err != nil || len(ops) != 2 || ops[0].ID != one {
			t.Errorf("busy %v, %v", ops, err)
		}
		start(t, e)
		until(t, "all locks are given back", func() bool { return locksLeft(t, db) == 0 })
	})
}

// Concurrent clients that want one resource exclusively: never two at a time.
func TestExclusiveMeansOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		newHouse(t, db)
		e := workflow.New(db, workflow.Options{})
		var inside, most, ran atomic.Int32
		w := workflow.Register(e, workflow.Definition[room]{
			Name: "room.enter",
			Steps: []workflow.Step[room]{{Name: "enter", Do: func(context.Context, *room) error {
				n := inside.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(time.Millisecond)
				ran.Add(1)
				inside.Add(-1)
				return nil
			}}},
		})
		start(t, e)
		var accepted atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 15 {
					var id string
					err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) (err error) {
						id, err = w.Accept(ctx, tx, workflow.Request{Locks: []workflow.Lock{{Resource: "vm-1", Exclusive: true}}}, room{})
						return err
					})
					if busy := (*workflow.BusyError)(nil); errors.As(err, &busy) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					accepted.Add(1)
					e.Kick(id)
				}
			})
		}
		wg.Wait()
		until(t, "all ran", func() bool { return ran.Load() == accepted.Load() && locksLeft(t, db) == 0 })
		if most.Load() != 1 || accepted.Load() == 0 {
			t.Errorf("%d at a time, %d in all", most.Load(), accepted.Load())
		}
	})
}

func TestStopHandsOverAndStartGoesOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		e := workflow.New(db, workflow.Options{Holder: "first"})
		w := h.register(e)
		hold := make(chan struct{})
		h.setHook(func(ctx context.Context, call string) error {
			if call == "do walls" {
				select {
				case <-hold:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
		start(t, e)
		id := h.build(w, "kitchen")
		e.Kick(id)
		until(t, "the walls begin", func() bool { return h.count("do walls") == 1 })

		second := workflow.New(db, workflow.Options{Holder: "second"})
		h.register(second)
		if err := second.Start(t.Context()); !errors.Is(err, workflow.ErrLed) {
			t.Fatalf("a second controller: %v", err)
		}
		// A step that does not end in time is interrupted and runs again.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := e.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		if op, err := e.Get(t.Context(), id); err != nil || op.EndedAt != 0 {
			t.Fatalf("%+v, %v", op, err)
		}
		close(hold)
		start(t, second) // at once: the lease was given back
		op := wait(t, second, id)
		if op.State != workflow.Succeeded || op.Attempts != 2 || second.Epoch() != e.Epoch()+1 {
			t.Errorf("%+v in epoch %d", op, second.Epoch())
		}
		if h.count("do floor") != 1 || h.count("do walls") != 2 || h.count("do roof") != 1 {
			t.Errorf("calls %v", h.calls)
		}
	})
}

// A leader whose lease somebody took gets OnLost and starts nothing any more.
func TestStaleLeaderStops(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		lost := make(chan error, 1)
		e := workflow.New(db, workflow.Options{OnLost: func(err error) { lost <- err }})
		w := h.register(e)
		hold := make(chan struct{})
		h.setHook(func(_ context.Context, call string) error {
			if call == "do walls" {
				<-hold // it does not look at its context, as a stopped process
			}
			return nil
		})
		start(t, e)
		id := h.build(w, "kitchen")
		e.Kick(id)
		until(t, "the walls begin", func() bool { return h.count("do walls") == 1 })
		// Somebody else leads, and has made the operation his.
		err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE lease SET epoch = epoch + 1, holder = '{}', expires = 0")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-lost:
			t.Log(err)
		case <-time.After(20 * time.Second):
			t.Fatal("OnLost was not called")
		}
		close(hold)
		stop(t, e)
		if h.count("do roof") != 0 {
			t.Error("a stale leader went on")
		}
		if op, err := e.Get(t.Context(), id); err != nil || op.EndedAt != 0 {
			t.Errorf("%+v, %v", op, err)
		}
		var holder string
		if err := db.Reader().NewRaw("SELECT holder FROM lease").Scan(t.Context(), &holder); err != nil || holder != "{}" {
			t.Errorf("a stale leader changed the lease to %q, %v", holder, err)
		}
	})
}

// A leader that stood still settles nothing that its successor made its own.
func TestStaleLeaderCannotSettle(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		lost := make(chan error, 1)
		e := workflow.New(db, workflow.Options{OnLost: func(err error) { lost <- err }})
		w := h.register(e)
		hold := make(chan struct{})
		h.setHook(func(_ context.Context, call string) error {
			if call == "do roof" {
				<-hold
			}
			return nil
		})
		start(t, e)
		id := h.build(w, "kitchen")
		e.Kick(id)
		until(t, "the roof begins", func() bool { return h.count("do roof") == 1 })
		err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE operation SET epoch = epoch + 1")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		close(hold)
		select {
		case <-lost:
		case <-time.After(20 * time.Second):
			t.Fatal("OnLost was not called")
		}
		if s, _ := h.state("kitchen"); s != "Building" {
			t.Errorf("room %s", s)
		}
	})
}

func TestDatabaseAwayAndBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		e := workflow.New(db, workflow.Options{OnLost: func(err error) { t.Error(err) }})
		w := h.register(e)
		for _, at := range []string{"do floor", "do walls", "do roof"} {
			h.mu.Lock()
			clear(h.calls)
			h.mu.Unlock()
			h.setHook(func(_ context.Context, call string) error {
				if call == at && h.count(at) == 1 {
					db.SetDown(true)
					time.AfterFunc(300*time.Millisecond, func() { db.SetDown(false) })
				}
				return nil
			})
			if at == "do floor" {
				start(t, e)
			}
			id := h.build(w, "room after "+at)
			e.Kick(id)
			until(t, "the database is away", func() bool { return h.count(at) >= 1 })
			until(t, "the database is back", func() bool { return db.Ping(t.Context()) == nil })
			if op := wait(t, e, id); op.State != workflow.Succeeded || op.Attempts != 1 {
				t.Errorf("%s: %+v", at, op)
			}
		}
	})
}

func TestOperationThatKillsItsControllersIsUndone(t *testing.T) {
	db := dbtest.SQLite(t)
	h := newHouse(t, db)
	e := workflow.New(db, workflow.Options{})
	id := h.build(h.register(e), "kitchen")
	err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE operation SET attempts = 20")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	start(t, e)
	op := wait(t, e, id)
	if op.State != workflow.Failed || h.count("do floor") != 0 || h.count("undo floor") != 1 {
		t.Errorf("%+v, calls %v", op, h.calls)
	}
}

func TestSettleThatNeverSucceedsIsUndone(t *testing.T) {
	db := dbtest.SQLite(t)
	h := newHouse(t, db)
	e := workflow.New(db, workflow.Options{})
	w := workflow.Register(e, workflow.Definition[room]{
		Name: "room.sell", Steps: []workflow.Step[room]{h.step("sign")},
		Settle: func(context.Context, bun.Tx, *room) error { return errors.New("no such buyer") },
		Abort: func(ctx context.Context, tx bun.Tx, r *room, cause error) error {
			return h.set(ctx, tx, r.Name, "Failed", cause.Error())
		},
	})
	start(t, e)
	id := h.build(w, "kitchen")
	e.Kick(id)
	op := wait(t, e, id)
	if s, reason := h.state("kitchen"); op.State != workflow.Failed || s != "Failed" || reason != "settle: no such buyer" || h.count("undo sign") != 1 {
		t.Errorf("%+v, room %s, %s", op, s, reason)
	}
}

func TestCallsInsideATransactionAreRefused(t *testing.T) {
	db := dbtest.SQLite(t)
	h := newHouse(t, db)
	e := workflow.New(db, workflow.Options{})
	h.register(e)
	err := db.Transact(t.Context(), func(ctx context.Context, _ bun.Tx) error {
		if err := e.Start(ctx); !errors.Is(err, database.ErrNested) {
			t.Errorf("Start: %v", err)
		}
		if err := e.Cancel(ctx, "op-1"); !errors.Is(err, database.ErrNested) {
			t.Errorf("Cancel: %v", err)
		}
		if _, err := e.Wait(ctx, "op-1"); !errors.Is(err, database.ErrNested) {
			t.Errorf("Wait: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
