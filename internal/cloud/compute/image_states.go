package compute

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// States of an image, beside those it shares with machines: Deleted, Terminating, Terminated, Failed.
const (
	ImageMaking    = "Making"    // of a machine's system disk, or of a file at an address
	ImageUploading = "Uploading" // its owner sends parts, or has sent them and they are joined
	ImageUsed      = "Used"      // usable; older clients call it Available
)

// What older clients call ImageUsed and Failed.
const (
	imageAvailable   = "Available"
	imageUnavailable = "Unavailable"
)

// olderStates turns their words into ours.
var olderStates = map[string]string{imageAvailable: ImageUsed, imageUnavailable: Failed}

// imageStates are all that a client may filter by.
var imageStates = []string{ImageMaking, imageAvailable, imageUnavailable, ImageUsed, ImageUploading, Deleting, Deleted, Terminating, Failed}

// usable answers the code of an image that nothing can be made of now.
func (i *Image) usable() error {
	switch i.State {
	case ImageUsed:
		return nil
	case Deleting, Deleted, Terminating:
		return retcode.InvalidImageBizState.Errorf("image %s is %s", i.ID, i.State)
	case Terminated:
		return retcode.ResourceTerminated.Errorf("image %s is destroyed", i.ID)
	}
	return retcode.InvalidImageState.Errorf("image %s is %s", i.ID, i.State)
}

// pending answers the code of an image that nobody is making.
func (i *Image) pending() error {
	if i.State == ImageMaking || i.State == ImageUploading {
		return nil
	}
	if err := i.usable(); err != nil {
		return err
	}
	return retcode.InvalidImageState.Errorf("image %s is complete", i.ID)
}

// moveImage changes an image from the generation i was read in and tells whether that was still the row's. columns
// are those that changed besides state, updated_at and generation.
func (s *Service) moveImage(ctx context.Context, tx bun.Tx, i *Image, to string, columns ...string) (bool, error) {
	before := i.Generation
	i.State, i.Generation, i.UpdatedAt = to, before+1, s.Clock.Micros()
	r, err := tx.NewUpdate().Model(i).Column(append(columns, "state", "generation", "updated_at")...).
		Where("id = ? AND generation = ?", i.ID, before).Exec(ctx)
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}

// changeImage is moveImage that answers 1002 when another request was faster.
func (s *Service) changeImage(ctx context.Context, tx bun.Tx, i *Image, to string, columns ...string) error {
	ok, err := s.moveImage(ctx, tx, i, to, columns...)
	if err == nil && !ok {
		err = retcode.InvalidImageState.Errorf("image %s is being changed by another request", i.ID)
	}
	return err
}

// because notes why an image could not be made.
func (i *Image) because(cause error) {
	i.ReasonCode, i.Reason = int(retcode.Of(cause)), ""
	if e := new(retcode.Error); errors.As(cause, &e) {
		i.Reason = e.Detail()
	}
}

// Why is the reason as the tenant reads it.
func (i *Image) Why(language string) string {
	m := retcode.Code(i.ReasonCode).Message(language)
	if m != "" && i.Reason != "" {
		m += ": " + i.Reason
	}
	return m
}

// failImage ends the making of an image: the row stays so that people see why, and holds no quota.
func (s *Service) failImage(ctx context.Context, tx bun.Tx, id string, cause error) error {
	i, err := anyImage(ctx, tx, action.Scope{}, id)
	if err != nil || i.State != ImageMaking && i.State != ImageUploading {
		return err
	}
	i.because(cause)
	if err := s.changeImage(ctx, tx, i, Failed, "reason", "reason_code"); err != nil {
		return err
	}
	return s.Catalog.Release(ctx, tx, i.Company, i.Region, catalog.Amounts{catalog.Image: 1})
}

// finishImage ends the making of an image with its file.
func (s *Service) finishImage(ctx context.Context, tx bun.Tx, id, digest string, size, virtual int64) error {
	i, err := anyImage(ctx, tx, action.Scope{}, id)
	if err != nil || i.State != ImageMaking && i.State != ImageUploading {
		return err
	}
	i.Digest, i.SizeBytes, i.VirtualBytes, i.Progress, i.SourceURL = digest, size, virtual, 100, ""
	return s.changeImage(ctx, tx, i, ImageUsed, "digest", "size_bytes", "virtual_bytes", "progress", "source_url")
}

// showProgress writes how far the making of an image is, in percent. Not being able to does no harm.
func (s *Service) showProgress(ctx context.Context, id string, percent int) {
	_ = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*Image)(nil)).Set("progress = ?", percent).Where("id = ? AND state IN (?, ?)", id, ImageMaking, ImageUploading).Exec(ctx)
		return err
	})
}

// usedBy names what stands on an image, empty: nothing. Machines in the bin count: they can be restored. Disks know
// their file alone: while another image is the same file they may be of that one, and those of other tenants are.
func usedBy(ctx context.Context, idb bun.IDB, i *Image) (string, error) {
	disks := idb.NewSelect().TableExpr("disk").ColumnExpr("id").Where("image_digest = ? AND image_digest <> '' AND ended_at = 0", i.Digest).
		Where("NOT EXISTS (SELECT 1 FROM image WHERE digest = ? AND id <> ? AND ended_at = 0)", i.Digest, i.ID)
	if i.Type == CustomImage {
		disks = disks.Where("company = ?", i.Company)
	}
	var ids []string
	for _, q := range []*bun.SelectQuery{
		idb.NewSelect().TableExpr("vm").ColumnExpr("id").Where("(image_id = ? OR rescue_id = ?) AND ended_at = 0 AND state <> ?", i.ID, i.ID, Failed),
		idb.NewSelect().TableExpr("vm_iso").ColumnExpr("vm_id").Where("image_id = ?", i.ID),
		disks,
	} {
		if err := q.Limit(1).Scan(ctx, &ids); err != nil {
			return "", err
		}
		if len(ids) > 0 {
			return ids[0], nil
		}
	}
	return "", nil
}
