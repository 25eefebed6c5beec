package controller_test

import (
	"context"
	"strings"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// The doctor finds nothing in a cloud that nobody touched, and each kind of drift in one that somebody did.
func TestDoctorFindsDrift(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		controllertest.Start(t, controllertest.Options{DB: db})
		healthy, err := controller.Doctor(t.Context(), db)
		if err != nil || len(healthy) != 0 {
			t.Fatalf("a fresh cloud: %q, %v", healthy, err)
		}
		for _, c := range []struct{ statement, want string }{
			{"UPDATE quota SET used = used + 1 WHERE factor = 'VPC'", "VPC, counted"},
			{"UPDATE quota SET used = used + 1 WHERE factor = 'IMAGE'", "IMAGE, counted"},
			{"INSERT INTO charge SELECT 'nic-gone', 'NIC', 1, 'cn', '', '', 'Valid', 'Month', '[]', '', TRUE, 1, 2, 0, 0, 2, FALSE, 1, 1, 1", "nic-gone is charged for and is not there"},
			{"UPDATE host SET memory_used = memory_used + 512", "capacity counts wrongly"},
			{"UPDATE subnet SET used = used + 1", "pool subnet-"},
			{"INSERT INTO resource_lock VALUES ('vm-1', '', 1)", "lock on vm-1 counts wrongly"},
			{"INSERT INTO operation_lock VALUES ('vm-2', 'op-gone', false)", "lock on vm-2 is held by no open operation"},
			{"INSERT INTO vm_count VALUES (1, 'cn', 3)", "has 0, counted 3"},
		} {
			err := db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.ExecContext(ctx, c.statement)
				return err
			})
			if err != nil {
				t.Fatalf("%s: %v", c.statement, err)
			}
			problems, err := controller.Doctor(t.Context(), db)
			if err != nil || !strings.Contains(strings.Join(problems, "\n"), c.want) {
				t.Errorf("after %s: %q, %v", c.statement, problems, err)
			}
		}
	})
}
