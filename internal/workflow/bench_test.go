package workflow_test

import (
	"context"
	"sync"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// A workflow of three steps without work in them, accepted with two locks, from 8 clients: operations/s.
func BenchmarkOperations(b *testing.B) {
	run := func(b *testing.B, db *database.DB) {
		e := workflow.New(db, workflow.Options{})
		nothing := func(context.Context, *room) error { return nil }
		w := workflow.Register(e, workflow.Definition[room]{
			Name:  "bench",
			Steps: []workflow.Step[room]{{Name: "one", Do: nothing}, {Name: "two", Do: nothing}, {Name: "three", Do: nothing}},
		})
		if err := e.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = e.Stop(context.Background()) }()
		work := make(chan struct{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range work {
					var id string
					err := db.Transact(b.Context(), func(ctx context.Context, tx bun.Tx) (err error) {
						id, err = w.Accept(ctx, tx, workflow.Request{Locks: []workflow.Lock{{Resource: database.NewID("vm"), Exclusive: true}, {Resource: "vpc"}}}, room{})
						return err
					})
					if err != nil {
						b.Error(err)
						return
					}
					e.Kick(id)
					if _, err := e.Wait(b.Context(), id); err != nil {
						b.Error(err)
					}
				}
			})
		}
		b.ResetTimer()
		for range b.N {
			work <- struct{}{}
		}
		close(work)
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "operations/s")
	}
	b.Run("sqlite", func(b *testing.B) { run(b, dbtest.SQLite(b)) })
	b.Run("postgres", func(b *testing.B) { run(b, dbtest.Postgres(b)) })
}
