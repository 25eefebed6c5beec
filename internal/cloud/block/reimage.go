package block

import (
	"context"

	"github.com/uptrace/bun"
)

// ReimageTx makes a system disk start from another image. What is on its volume is lost from now on, and Reimage
// makes the new one. Its snapshots go with it.
func (s *Service) ReimageTx(ctx context.Context, tx bun.Tx, d *Disk, digest string) error {
	if err := s.forgetSnapshots(ctx, tx, d.ID); err != nil {
		return err
	}
	d.ImageDigest = digest
	return s.move(ctx, tx, d, d.State, "image_digest")
}

// Reimage replaces a disk's volume by a new one as its row says. No domain may have it any more. The errors are
// the host's.
func (s *Service) Reimage(ctx context.Context, d Disk) error {
	if err := s.RemoveVolume(ctx, d); err != nil {
		return err
	}
	return s.EnsureVolume(ctx, d)
}
