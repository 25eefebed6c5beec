package database_test

import (
	"context"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// The workflow engine's own handle may still be at work when the database is closed.
func TestCloseLetsTheOtherHandleFinish(t *testing.T) {
	for range 20 {
		db, err := database.Open(t.Context(), dbtest.SQLiteOptions(t))
		if err != nil {
			t.Fatal(err)
		}
		journal, err := db.Journal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other := journal.SQLite
		started, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			close(started)
			for {
				if _, err := other.ExecContext(context.Background(), "UPDATE operation SET attempts = attempts + 1"); err != nil {
					ended <- err
					return
				}
			}
		}()
		<-started
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err == nil {
			t.Fatal("the handle works on a closed database")
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
