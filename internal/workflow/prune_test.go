package workflow

import (
	"context"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// startIdle starts an engine whose only workflow does nothing; do runs that and answers its operation.
func startIdle(t *testing.T, db *database.DB, e *Engine) (do func() (id string)) {
	t.Helper()
	w := Register(e, Definition[struct{}]{
		Name: "nothing", Steps: []Step[struct{}]{{Name: "nothing", Do: func(context.Context, *struct{}) error { return nil }}},
	})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return func() (id string) {
		t.Helper()
		err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) (err error) {
			id, err = w.Accept(ctx, tx, Request{}, struct{}{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		e.Kick(id)
		return id
	}
}

// Finished journals go, operations stay until they are as old as the audit.
func TestPrune(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := clock.New()
		e := New(db, Options{Clock: c})
		do := startIdle(t, db, e)
		id := do()
		if _, err := e.Wait(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		table := "workflow_status"
		if db.Postgres() {
			table = "dbos.workflow_status"
		}
		count := func(table string) (n int) {
			if err := db.Reader().NewRaw("SELECT count(*) FROM "+table).Scan(t.Context(), &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for end := time.Now().Add(20 * time.Second); count(table) != 0; e.prune(t.Context()) {
			if time.Now().After(end) {
				t.Fatal("the journal stays")
			}
		}
		if count("operation") != 1 {
			t.Error("the operation went with its journal")
		}
		c.Advance(keepOperations + time.Hour)
		e.prune(t.Context())
		if count("operation") != 0 {
			t.Error("the operation stays for ever")
		}
	})
}

// A leader that stood still past its lease goes on when nobody leads in its place.
func TestLeaderThatStoodStillGoesOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		e := New(db, Options{OnLost: func(err error) { t.Error(err) }})
		do := startIdle(t, db, e)
		e.mu.Lock()
		e.lease.until = time.Now().Add(-time.Second)
		e.mu.Unlock()
		id := do()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if op, err := e.Wait(ctx, id); err != nil || op.State != Succeeded {
			t.Errorf("%+v, %v", op, err)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.lease.until.After(time.Now()) {
			t.Error("it works without a lease")
		}
	})
}

func TestIdentityOfALiveProcessIsNotDead(t *testing.T) {
	me := self("me")
	if me.Boot == "" || me.PIDs == "" || me.Started == "" {
		t.Fatalf("%+v", me)
	}
	if me.dead() {
		t.Error("this process is dead")
	}
	used := me
	used.Started = "1" // its PID is used again
	elsewhere := me
	elsewhere.Boot, elsewhere.PID = "another kernel", 1<<22+1
	gone := me
	gone.PID = 1<<22 + 1 // above the kernel's largest
	if !used.dead() || elsewhere.dead() || !gone.dead() {
		t.Errorf("dead: used %v, elsewhere %v, gone %v", used.dead(), elsewhere.dead(), gone.dead())
	}
}
