package block

import (
	"context"

	"github.com/uptrace/bun"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// ReimageTx makes a system disk start from another image. What is on its volume is lost from now on, with its
// snapshots, and Reimage makes the new one: until then the disk is not Written. A disk that is being made of one of
// the snapshots is waited for.
func (s *Service) ReimageTx(ctx context.Context, tx bun.Tx, d *Disk, digest string) error {
	if copied, err := copying(ctx, tx, "src_disk", d.ID); err != nil {
		return err
	} else if copied {
		return workflow.Retry(retcode.DiskStateUnstable.Errorf("a disk is being created from a snapshot of %s", d.ID))
	}
	if err := s.forgetSnapshots(ctx, tx, d.ID); err != nil {
		return err
	}
	d.ImageDigest, d.SrcDisk, d.SrcSnapshot, d.Written = digest, "", "", false
	return s.move(ctx, tx, d, d.State, "image_digest", "src_disk", "src_snapshot", "written")
}

// Reimage replaces a disk's volume, and the snapshots in it, by a new one as its row says. No domain may have it any
// more. The errors are the host's.
func (s *Service) Reimage(ctx context.Context, d Disk) error {
	// A host that is down counts as a failure here: what it did not remove would pass for the new one.
	if _, err := s.Fleet.Host(s.host(&d)).RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: fence(d.Generation), Id: d.ID, Pool: s.Pool(&d)}); err != nil {
		return err
	}
	if err := s.EnsureVolume(ctx, d); err != nil {
		return err
	}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*Disk)(nil)).Set("written = ?", true).Where("id = ? AND generation = ?", d.ID, d.Generation).Exec(ctx)
		return err
	})
}

// unmade refuses what needs the data of a system disk whose new volume could not be made yet.
func unmade(d *Disk) error {
	if d.Role == Boot && d.State == Bound && !d.Written {
		return retcode.DiskStateUnstable.Errorf("the new system of %s is still to be made: start its machine", d.ID)
	}
	return nil
}
