package fleet

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type lockRequest struct {
	HostID string `validate:"required" doc:"host"`
	action.Tenant
}

// lockHost keeps new machines off a host; those on it run on, and those that are stopped there do not
// start. 200 unknown, 15002 locked already.
func (s *Service) lockHost(ctx context.Context, c *action.Call, q *lockRequest) (*action.Empty, error) {
	if changed, err := s.setLocked(ctx, c, q.HostID, true); err != nil || changed {
		return nil, err
	}
	return nil, retcode.HostLocked.Errorf("HostID %s is locked already", q.HostID)
}

// unlockHost lets machines onto a host again. 200 unknown, 202 not locked.
func (s *Service) unlockHost(ctx context.Context, c *action.Call, q *lockRequest) (*action.Empty, error) {
	if changed, err := s.setLocked(ctx, c, q.HostID, false); err != nil || changed {
		return nil, err
	}
	return nil, retcode.InvalidResourceState.Errorf("HostID %s is not locked", q.HostID)
}

// setLocked changes the lock; false when it is so already.
func (s *Service) setLocked(ctx context.Context, c *action.Call, hostID string, locked bool) (changed bool, err error) {
	c.AddResource(hostID)
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := tx.NewRaw(`UPDATE host SET locked = ?, updated_at = ?, generation = generation + 1 WHERE id = ? AND region = ? AND locked <> ?`,
			locked, s.Clock.Micros(), hostID, c.Region, locked).Exec(ctx)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		if err != nil || n == 1 {
			changed = n == 1
			return err
		}
		changed = false
		found, err := tx.NewSelect().Model((*hostRow)(nil)).Where("id = ? AND region = ?", hostID, c.Region).Exists(ctx)
		if err == nil && !found {
			err = retcode.ResourceNotFound.Errorf("HostID %s", hostID)
		}
		return err
	})
	if err != nil || !changed {
		return false, err
	}
	if err := s.reload(ctx); err != nil {
		return true, err
	}
	if h, ok := s.HostInfo(hostID); ok {
		for _, f := range s.onHost {
			f(hostID, h.State)
		}
	}
	return true, nil
}
