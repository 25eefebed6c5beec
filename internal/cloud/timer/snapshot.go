package timer

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// CreateSnapshot is the task that takes snapshots of disks.
const CreateSnapshot = "CreateSnapshot"

// Snapshots is that task.
type Snapshots struct{ Block *block.Service }

// Check implements Task.
func (s Snapshots) Check(ctx context.Context, idb bun.IDB, scope action.Scope, id string) error {
	d, err := block.ByID(ctx, idb, scope, id)
	if err != nil {
		return err
	}
	return d.HasSnapshots()
}

// Begin implements Task.
func (s Snapshots) Begin(ctx context.Context, tx bun.Tx, company int64, region, id, name string) (operation, made string, err error) {
	operation, made, err = s.Block.BeginSnapshotTx(ctx, tx, company, region, id, name)
	switch retcode.Of(err) {
	case retcode.DiskStateUnstable, retcode.InvalidVMState, retcode.SystemBusy:
		err = errors.Join(ErrBusy, err)
	case retcode.SnapshotLimitReached:
		err = errors.Join(ErrFull, err)
	}
	return operation, made, err
}

// Drop implements Task. A snapshot that somebody deleted is gone, as it should be.
func (s Snapshots) Drop(ctx context.Context, tx bun.Tx, company int64, region, made string) (string, error) {
	operation, err := s.Block.BeginDeleteSnapshotTx(ctx, tx, company, region, made)
	if code := retcode.Of(err); code == retcode.ResourceNotFound || code == retcode.ResourceTerminated || errors.Is(err, lifecycle.ErrRepeat) {
		return "", nil
	}
	return operation, err
}
