package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
)

// expireBatch bounds what one run looks at; the rest comes with the next.
const expireBatch = 500

// removeAgain is when a removal that failed is tried again.
const removeAgain = time.Minute

// ErrUnderWay: what expiry does has begun, or has to wait for another operation; it is asked for again until it is done.
var ErrUnderWay = errors.New("ledger: under way")

// expire does to expired resources what follows from it: at once they do no more work, and after the grace they go to
// the recycle bin or are destroyed. What fails is done again: expiry is a state of the row, not an event.
func (s *Service) expire(ctx context.Context) error {
	now := s.Clock.Micros()
	fresh, err := database.Find[charge](ctx, s.DB.Reader(), "WHERE state = 'Expired' AND due_at > 0 AND enforced = ? ORDER BY updated_at LIMIT ?", false, expireBatch)
	if err != nil {
		return err
	}
	var failed []error
	for _, c := range fresh {
		err := s.kinds[c.Kind].expired(ctx, c.Resource)
		_, written := s.touch(ctx, c.Resource, "enforced = ?", err == nil) // if not, it comes behind the others
		if err != nil && !errors.Is(err, ErrUnderWay) {
			failed = append(failed, fmt.Errorf("expiry of %s: %w", c.Resource, err))
		}
		failed = append(failed, written)
	}
	over, err := database.Find[charge](ctx, s.DB.Reader(), "WHERE state = 'Expired' AND due_at > 0 AND due_at <= ? ORDER BY due_at LIMIT ?", now, expireBatch)
	if err != nil {
		return err
	}
	for _, c := range over {
		if !s.Catalog.Config.ExpiredToRecycle(ctx, c.Region) {
			_, err := s.touch(ctx, c.Resource, "due_at = ?", now+time.Hour.Microseconds()) // the switch may be put back
			failed = append(failed, err)
			continue
		}
		if err := s.kinds[c.Kind].remove(ctx, c.Resource); err != nil && !errors.Is(err, ErrUnderWay) {
			failed = append(failed, fmt.Errorf("removal of %s: %w", c.Resource, err))
		}
		// A removal is on its way, or failed: it is looked at again in a while, when it is still there.
		_, err := s.touch(ctx, c.Resource, "due_at = ?", now+removeAgain.Microseconds())
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

func (k Kind) expired(ctx context.Context, id string) error {
	if k.Expired == nil {
		return nil
	}
	return k.Expired(ctx, id)
}

func (k Kind) remove(ctx context.Context, id string) error {
	if k.Remove == nil {
		return nil
	}
	return k.Remove(ctx, id)
}

// touch changes a column of a charge that is still expired.
func (s *Service) touch(ctx context.Context, id, set string, value any) (n int64, err error) {
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := tx.NewRaw("UPDATE charge SET "+set+", updated_at = ?, generation = generation + 1 WHERE resource_id = ? AND state = ?",
			value, s.Clock.Micros(), id, Expired).Exec(ctx)
		if err != nil {
			return err
		}
		n, err = r.RowsAffected()
		return err
	})
	return n, err
}
