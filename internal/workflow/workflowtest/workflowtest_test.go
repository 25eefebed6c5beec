package workflowtest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
	"github.com/lingyun-cloud/lingyun/internal/workflow/workflowtest"
)

type order struct {
	Name string
	Cup  string `json:",omitempty"`
	// Sugar came with a later release than the journal in testdata.
	Sugar *int `json:",omitempty"`
}

// shelf is the engine outside: cups and what is in them.
type shelf struct {
	mu   sync.Mutex
	cups map[string]string
}

func world(t *testing.T, db *database.DB) *workflowtest.World {
	t.Helper()
	s := &shelf{cups: map[string]string{"old": "tea"}}
	write := func(q string, args ...any) {
		t.Helper()
		err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, q, args...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write("CREATE TABLE served (name TEXT PRIMARY KEY, cup TEXT NOT NULL)")
	e := workflow.New(db, workflow.Options{})
	with := func(f func(o *order)) func(context.Context, *order) error {
		return func(_ context.Context, o *order) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			f(o)
			return nil
		}
	}
	w := workflow.Register(e, workflow.Definition[order]{
		Name: "coffee.serve",
		Steps: []workflow.Step[order]{
			{
				Name: "cup",
				Do: with(func(o *order) {
					o.Cup = "cup of " + o.Name
					s.cups[o.Cup] = ""
				}),
				Undo: with(func(o *order) { delete(s.cups, "cup of "+o.Name) }),
			},
			{
				Name: "pour",
				Do:   with(func(o *order) { s.cups[o.Cup] = "coffee" }),
				Undo: with(func(o *order) {
					if _, ok := s.cups[o.Cup]; ok {
						s.cups[o.Cup] = ""
					}
				}),
			},
			{Name: "smile", Do: with(func(*order) {})},
		},
		Settle: func(ctx context.Context, tx bun.Tx, o *order) error {
			_, err := tx.ExecContext(ctx, "UPDATE served SET cup = ? WHERE name = ?", o.Cup, o.Name)
			return err
		},
		Abort: func(ctx context.Context, tx bun.Tx, o *order, _ error) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM served WHERE name = ?", o.Name)
			return err
		},
	})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &workflowtest.World{
		Engine: e, DB: db,
		Start: func(t *testing.T) {
			name := database.NewID("guest")
			var id string
			err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) (err error) {
				if _, err := tx.ExecContext(ctx, "INSERT INTO served VALUES (?, '')", name); err != nil {
					return err
				}
				sugar := 2
				id, err = w.Accept(ctx, tx, workflow.Request{Locks: []workflow.Lock{{Resource: name, Exclusive: true}}}, order{Name: name, Sugar: &sugar})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			e.Kick(id)
		},
		Snapshot: func(t *testing.T) any {
			var rows []map[string]any
			if err := db.Reader().NewSelect().Table("served").Scan(t.Context(), &rows); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			var cups []string
			for cup, what := range s.cups {
				cups = append(cups, fmt.Sprint(cup, ": ", what))
			}
			return map[string]any{"rows": rows, "cups": cups}
		},
	}
}

func TestGeneric(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		workflowtest.Run(t, workflowtest.Case{Workflow: "coffee.serve", New: func(t *testing.T) *workflowtest.World { return world(t, dbtest.SQLite(t)) }})
	})
	t.Run("postgres", func(t *testing.T) {
		workflowtest.Run(t, workflowtest.Case{Workflow: "coffee.serve", New: func(t *testing.T) *workflowtest.World { return world(t, dbtest.Postgres(t)) }})
	})
}

func TestRegistry(t *testing.T) {
	e := workflow.New(dbtest.SQLite(t), workflow.Options{})
	workflow.Register(e, workflow.Definition[order]{
		Name:  "coffee.serve",
		Steps: []workflow.Step[order]{{Name: "smile", Do: func(context.Context, *order) error { return nil }}},
	})
	workflowtest.Registry(t, e, ".")
	if !slices.Equal(e.Steps("coffee.serve"), []string{"smile"}) || e.Steps("none") != nil {
		t.Error("steps")
	}
}
