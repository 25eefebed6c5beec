package compute

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// BinnedImages lists custom images in the recycle bin, the newest deletion first, and how many match in all.
func (s *Service) BinnedImages(ctx context.Context, f resource.BinFilter) ([]Image, int, error) {
	var rows []Image
	n, err := f.Scan(ctx, s.DB.Reader().NewSelect().Model(&rows).Where("type = ? AND deleted_at > 0 AND ended_at = 0", CustomImage))
	return rows, n, err
}

// binnedImage finds an image for the bin's actions: 200 when unknown.
func binnedImage(ctx context.Context, tx bun.Tx, c *action.Call, id string) (*Image, error) {
	i, err := ownImage(ctx, tx, c.Scope(), id)
	if retcode.Of(err) == retcode.ImageNotFound {
		return nil, retcode.ResourceNotFound.Errorf("%s", id)
	}
	if err == nil && i.State == Terminated {
		return nil, retcode.ResourceTerminated.Errorf("%s is destroyed", id)
	}
	return i, err
}

// RestoreImage takes an image out of the bin: 200 unknown, 202 being destroyed, 203 not in the bin, 205 destroyed, 17005.
func (s *Service) RestoreImage(ctx context.Context, c *action.Call, id string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		i, err := binnedImage(ctx, tx, c, id)
		if err != nil {
			return err
		}
		switch i.State {
		case Deleted:
		case Terminating:
			return retcode.InvalidResourceState.Errorf("%s is being destroyed", id)
		default:
			return retcode.ResourceAlreadyEnabled.Errorf("%s is not in the recycle bin", id)
		}
		if err := s.Catalog.Reserve(ctx, tx, i.Company, i.Region, catalog.Amounts{catalog.Image: 1}); err != nil {
			return err
		}
		i.DeletedAt = 0
		return s.changeImage(ctx, tx, i, ImageUsed, "deleted_at")
	})
}

// DestroyImage destroys an image of the bin for good: 200 unknown, 201 not in the bin, 205 destroyed already.
func (s *Service) DestroyImage(ctx context.Context, c *action.Call, id string) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		op = ""
		i, err := binnedImage(ctx, tx, c, id)
		if err != nil {
			return err
		}
		switch i.State {
		case Deleted:
			op, err = s.endImage(ctx, tx, c, i)
			return err
		case Terminating:
			return nil // under way
		}
		return retcode.InvalidResourceBizState.Errorf("%s is not in the recycle bin", id)
	})
	if err == nil && op != "" {
		s.Engine.Kick(op)
	}
	return err
}

func (s *Service) endImage(ctx context.Context, tx bun.Tx, c *action.Call, i *Image) (op string, err error) {
	if err := s.changeImage(ctx, tx, i, Terminating); err != nil {
		return "", err
	}
	return s.images.terminate.Accept(ctx, tx, imageRequest(c, i), imageJob{Image: i.ID, Generation: i.Generation})
}

// SweepImages starts the destruction of a region's images that entered the bin at or before a time (unix microseconds).
func (s *Service) SweepImages(ctx context.Context, region string, deletedBefore int64) error {
	var rows []Image
	if err := s.DB.Reader().NewSelect().Model(&rows).Where("region = ? AND state = ? AND deleted_at <= ?", region, Deleted, deletedBefore).
		OrderExpr("deleted_at, id").Limit(sweepBatch).Scan(ctx); err != nil {
		return err
	}
	var failed []error
	for n := range rows {
		var op string
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
			i := rows[n] // as read: one that somebody took out meanwhile has another generation
			op, err = s.endImage(ctx, tx, nil, &i)
			return err
		})
		if err == nil {
			s.Engine.Kick(op)
		} else if retcode.Of(err) == retcode.InvalidImageState {
			err = nil
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}
