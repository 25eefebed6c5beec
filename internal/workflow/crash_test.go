package workflow_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

const helperEnv = "LINGYUN_WORKFLOW_HELPER"

// TestHelper is another controller, in a process of its own, for the test below.
func TestHelper(t *testing.T) {
	options := os.Getenv(helperEnv)
	if options == "" {
		t.Skip("runs as a child of TestKilledControllerIsReplacedAtOnce")
	}
	var o database.Options
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		t.Fatal(err)
	}
	db := dbtest.Open(t, o)
	h := newHouse(t, db)
	h.setHook(func(_ context.Context, call string) error {
		if call == "do walls" {
			fmt.Println("walls begin")
			select {} // until killed
		}
		return nil
	})
	e := workflow.New(db, workflow.Options{Holder: "helper"})
	w := h.register(e)
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Kick(h.build(w, "kitchen"))
	select {}
}

// A controller killed in the middle of a step: the next one on this machine leads at
// once, also while the dead one is still a zombie, and finishes its work.
func TestKilledControllerIsReplacedAtOnce(t *testing.T) {
	for name, options := range map[string]func(testing.TB) database.Options{"sqlite": dbtest.SQLiteOptions, "postgres": dbtest.PostgresOptions} {
		for _, reaped := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s reaped %v", name, reaped), func(t *testing.T) {
				o := options(t)
				b, err := json.Marshal(o)
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelper$")
				cmd.Env = append(os.Environ(), helperEnv+"="+string(b))
				cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(out)
				begun := false
				for !begun && lines.Scan() {
					begun = lines.Text() == "walls begin"
				}
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				waited := false
				reap := func() {
					if !waited {
						_ = cmd.Wait()
						waited = true
					}
				}
				defer reap()
				if !begun {
					t.Fatal("the helper did not begin")
				}
				if reaped {
					reap()
				}
				db := dbtest.Open(t, o)
				h := &house{t: t, db: db, things: map[string]bool{}, calls: map[string]int{}}
				e := workflow.New(db, workflow.Options{Holder: "successor"})
				h.register(e)
				began := time.Now()
				until(t, "the killed process is dead", func() bool {
					err := e.Start(t.Context())
					if err != nil {
						t.Log(err)
					}
					return err == nil
				})
				t.Cleanup(func() { stop(t, e) })
				var id string
				if err := db.Reader().NewRaw("SELECT id FROM operation").Scan(t.Context(), &id); err != nil {
					t.Fatal(err)
				}
				op := wait(t, e, id)
				if op.State != workflow.Succeeded || op.Attempts != 2 {
					t.Errorf("%+v", op)
				}
				if h.count("do floor") != 0 || h.count("do walls") != 1 {
					t.Errorf("calls %v", h.calls)
				}
				// The lease lasts 10 s: waiting for it would show.
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("the successor took %v", took)
				}
			})
		}
	}
}

// The row of a workflow that DBOS believes over while its operation is open.
func TestSweepRevivesAnOperationWhoseWorkflowIsOver(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		h := newHouse(t, db)
		e := workflow.New(db, workflow.Options{SweepEvery: 100 * time.Millisecond})
		w := h.register(e)
		start(t, e)
		id := h.build(w, "kitchen")
		e.Kick(id)
		wait(t, e, id)
		table := "workflow_status"
		if db.Postgres() {
			table = "dbos.workflow_status"
		}
		until(t, "DBOS has written the outcome", func() bool {
			var n int
			err := db.Reader().NewRaw("SELECT count(*) FROM "+table+" WHERE status = 'SUCCESS'").Scan(t.Context(), &n)
			if err != nil {
				t.Fatal(err)
			}
			return n == 1
		})
		err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE operation SET state = 'Accepted', ended_at = 0")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if op := wait(t, e, id); op.State != workflow.Succeeded || h.count("do floor") != 2 {
			t.Errorf("%+v, calls %v", op, h.calls)
		}
	})
}
