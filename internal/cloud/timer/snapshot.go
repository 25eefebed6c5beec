package timer

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// CreateSnapshot is the task that takes snapshots of disks.
const CreateSnapshot = "CreateSnapshot"

// Snapshots is that task.
type Snapshots struct{ Block *block.Service }

// Check implements Task.
func (s Snapshots) Check(ctx context.Context, idb bun.IDB, scope action.Scope, id string) error {
	_, err := block.ByID(ctx, idb, scope, id)
	return err
}

// Begin implements Task.
func (s Snapshots) Begin(ctx context.Context, tx bun.Tx, company int64, region, id, name string) (operation, made string, err error) {
	return s.Block.BeginSnapshotTx(ctx, tx, company, region, id, name)
}

// Drop implements Task. A snapshot that somebody deleted is gone, as it should be.
func (s Snapshots) Drop(ctx context.Context, tx bun.Tx, company int64, region, made string) (string, error) {
	operation, err := s.Block.BeginDeleteSnapshotTx(ctx, tx, company, region, made)
	if retcode.Of(err) == retcode.ResourceNotFound {
		return "", nil
	}
	return operation, err
}
