package compute

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	"golang.org/x/sync/errgroup"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// imageJob is the state of every workflow on an image. Generation is the row's when the operation was accepted.
type imageJob struct {
	Image      string
	Generation int64
	// VM and VMGeneration: the machine whose system disk it is made of, its Volume and where that is.
	VM           string `json:",omitempty"`
	VMGeneration int64  `json:",omitempty"`
	Volume, Host string `json:",omitempty"`
	Pool         string `json:",omitempty"` // storage set that hosts share; empty: the volume is on Host itself
	// MostBytes that a file at an address may have; 0: maxLoadedBytes.
	MostBytes int64 `json:",omitempty"`
	// Upload whose parts are joined.
	Upload string `json:",omitempty"`
	// What was made.
	Digest        string `json:",omitempty"`
	Size, Virtual int64  `json:",omitempty"`
}

// How long the making of an image may take.
const (
	exportTime = 6 * time.Hour
	importTime = 6 * time.Hour
	joinTime   = time.Hour
)

type imageWorkflows struct {
	make, load, join, terminate *workflow.Workflow[imageJob]
}

func (s *Service) registerImages() imageWorkflows {
	e := s.Engine
	return imageWorkflows{
		make: workflow.Register(e, workflow.Definition[imageJob]{
			Name: "image.make",
			Steps: []workflow.Step[imageJob]{
				{Name: "export", Do: s.exportImage, Undo: s.unexport, Deadline: exportTime},
				{Name: "fetch", Do: s.fetchExport, Deadline: exportTime},
			},
			Settle: s.imageMade, Abort: s.imageNotMade,
		}),
		load: workflow.Register(e, workflow.Definition[imageJob]{
			Name:   "image.import",
			Steps:  []workflow.Step[imageJob]{{Name: "load", Do: s.loadImage, Deadline: importTime}},
			Settle: s.imageReady, Abort: s.imageFailed,
		}),
		join: workflow.Register(e, workflow.Definition[imageJob]{
			Name: "image.join",
			Steps: []workflow.Step[imageJob]{
				{Name: "join", Do: s.joinParts, Deadline: joinTime},
				{Name: "tidy", Do: s.dropParts},
			},
			Settle: s.imageReady, Abort: s.imageFailed,
		}),
		terminate: workflow.Register(e, workflow.Definition[imageJob]{
			Name:   "image.terminate",
			Steps:  []workflow.Step[imageJob]{{Name: "remove", Do: s.removeImage}},
			Settle: s.imageEnded, Abort: s.imageNotEnded,
		}),
	}
}

// exportImage lets the host make an image of the volume, and looks how far it is. The engine asks again.
func (s *Service) exportImage(ctx context.Context, j *imageJob) error {
	v := &VM{ID: j.VM, Generation: j.VMGeneration}
	failure := retcode.SystemBusy.Errorf("the host could not make an image of %s", j.VM)
	i, err := anyImage(ctx, s.DB.Reader(), action.Scope{}, j.Image)
	if err != nil {
		return err
	}
	key, err := s.passphrase(i)
	if err != nil {
		return err
	}
	e, err := s.Fleet.Host(j.Host).ExportVolume(ctx, &pb.ExportVolumeRequest{Fence: fence(j.Generation), Id: j.Image, VolumeId: j.Volume, Pool: j.Pool, Secret: []byte(key)})
	if err != nil {
		return s.hostFailure(ctx, v, err, failure)
	}
	switch e.State {
	case pb.ExportState_EXPORT_STATE_DONE:
		j.Digest, j.Size, j.Virtual = e.ImageDigest, int64(e.SizeBytes), int64(e.VirtualBytes)
		s.showProgress(ctx, j.Image, 50)
		return nil
	case pb.ExportState_EXPORT_STATE_FAILED:
		return failure.Wrap(errors.New(e.Reason))
	}
	s.showProgress(ctx, j.Image, int(e.Percent)/2) // the other half is its way here
	return workflow.Retry(fmt.Errorf("image %s is being made: %d %%", j.Image, e.Percent))
}

// unexport stops the making and takes the image from the host again.
func (s *Service) unexport(ctx context.Context, j *imageJob) error {
	host := s.Fleet.Host(j.Host)
	if _, err := host.RemoveExport(ctx, &pb.RemoveExportRequest{Fence: fence(j.Generation), Id: j.Image}); err != nil {
		return ignoreGone(err)
	}
	if j.Digest == "" {
		return nil
	}
	if used, err := s.digestUsed(ctx, s.DB.Reader(), j.Digest); err != nil || used {
		return err
	}
	_, err := host.RemoveImage(ctx, &pb.RemoveImageRequest{Digest: j.Digest})
	return ignoreGone(err)
}

// fetchExport brings the image from the host to the store, from which every host can get it.
func (s *Service) fetchExport(ctx context.Context, j *imageJob) error {
	failure := retcode.SystemBusy.Errorf("image %s could not be read from its host", j.Image)
	v := &VM{ID: j.VM, Generation: j.VMGeneration}
	r, err := s.Fleet.Host(j.Host).GetImage(ctx, j.Digest)
	if err != nil {
		return s.hostFailure(ctx, v, err, failure)
	}
	defer r.Close()
	done := int64(0)
	digest, size, err := s.Fleet.StoreImage(ctx, &watched{r: r, every: time.Second, tell: func(n int64) error {
		done += n
		s.showProgress(ctx, j.Image, 50+int(50*done/max(1, j.Size)))
		return s.stillWanted(ctx, j.Image)
	}})
	if err != nil {
		return s.hostFailure(ctx, v, err, failure)
	}
	if digest != j.Digest || size != j.Size { // the link checks what it carries: the host has another file than it said
		if used, err := s.digestUsed(ctx, s.DB.Reader(), digest); err != nil {
			return err
		} else if !used {
			if err := s.Fleet.RemoveImage(digest); err != nil {
				return err
			}
		}
		return failure.Wrap(fmt.Errorf("%d bytes with digest %s came for %d with %s", size, digest, j.Size, j.Digest))
	}
	_, err = s.Fleet.Host(j.Host).RemoveExport(ctx, &pb.RemoveExportRequest{Fence: fence(j.Generation), Id: j.Image})
	return ignoreGone(err)
}

// imageMade settles image.make: the machine is off again.
func (s *Service) imageMade(ctx context.Context, tx bun.Tx, j *imageJob) error {
	if err := s.finishImage(ctx, tx, j.Image, j.Digest, j.Size, j.Virtual); err != nil {
		return err
	}
	return s.end(ctx, tx, &job{VM: j.VM, Generation: j.VMGeneration}, Stopped, nil)
}

func (s *Service) imageNotMade(ctx context.Context, tx bun.Tx, j *imageJob, cause error) error {
	if err := s.failImage(ctx, tx, j.Image, cause); err != nil {
		return err
	}
	return s.end(ctx, tx, &job{VM: j.VM, Generation: j.VMGeneration}, Stopped, cause)
}

// imageReady settles the workflows that make an image of a file.
func (s *Service) imageReady(ctx context.Context, tx bun.Tx, j *imageJob) error {
	if err := s.finishImage(ctx, tx, j.Image, j.Digest, j.Size, j.Virtual); err != nil {
		return err
	}
	return s.dropUpload(ctx, tx, j.Upload)
}

func (s *Service) imageFailed(ctx context.Context, tx bun.Tx, j *imageJob, cause error) error {
	if err := s.failImage(ctx, tx, j.Image, cause); err != nil {
		return err
	}
	return s.dropUpload(ctx, tx, j.Upload)
}

// digestUsed tells whether an image that is not destroyed, or a disk, has a file of a digest.
func (s *Service) digestUsed(ctx context.Context, idb bun.IDB, digest string) (bool, error) {
	used, err := idb.NewSelect().Model((*Image)(nil)).Where("digest = ? AND ended_at = 0 AND state <> ?", digest, Terminating).Exists(ctx)
	if err != nil || used {
		return used, err
	}
	return idb.NewSelect().TableExpr("disk").Where("image_digest = ? AND ended_at = 0", digest).Exists(ctx)
}

// removeImage takes the file from the hosts and from the store, unless another image is the same file. A host that
// is down, or whose volumes stand on it, keeps it until the sweep.
func (s *Service) removeImage(ctx context.Context, j *imageJob) error {
	i, err := anyImage(ctx, s.DB.Reader(), action.Scope{}, j.Image)
	if err != nil || i.Digest == "" {
		return err
	}
	if used, err := s.digestUsed(ctx, s.DB.Reader(), i.Digest); err != nil || used {
		return err
	}
	var g errgroup.Group
	g.SetLimit(16)
	for _, h := range s.Fleet.Hosts() {
		if h.Region != i.Region || h.State == fleet.Down {
			continue
		}
		g.Go(func() error {
			// What a host cannot remove now it removes when the sweep asks again.
			_, _ = s.Fleet.Host(h.ID).RemoveImage(ctx, &pb.RemoveImageRequest{Digest: i.Digest})
			return nil
		})
	}
	_ = g.Wait() // none fails
	return s.Fleet.RemoveImage(i.Digest)
}

// imageEnded settles image.terminate: nothing is left but the tombstone.
func (s *Service) imageEnded(ctx context.Context, tx bun.Tx, j *imageJob) error {
	i, err := anyImage(ctx, tx, action.Scope{}, j.Image)
	if err != nil || i.Generation != j.Generation {
		return err
	}
	if err := permit.Forget(ctx, tx, permit.BaseImage, i.ID); err != nil {
		return err
	}
	i.EndedAt = s.Clock.Micros()
	_, err = s.moveImage(ctx, tx, i, Terminated, "ended_at")
	return err
}

// imageNotEnded puts an image that could not be destroyed back into the bin; a base image, which has none, into use.
func (s *Service) imageNotEnded(ctx context.Context, tx bun.Tx, j *imageJob, cause error) error {
	i, err := anyImage(ctx, tx, action.Scope{}, j.Image)
	if err != nil || i.Generation != j.Generation {
		return err
	}
	i.because(cause)
	to := Deleted
	if i.Type == BaseImage {
		to = ImageUsed
	}
	_, err = s.moveImage(ctx, tx, i, to, "reason", "reason_code")
	return err
}

// sweepImages removes files that no image and no disk needs any more from hosts, and forgets tombstones. While an
// image is being made its host has a file that no row knows yet: then nothing is removed.
func (s *Service) sweepImages(ctx context.Context) error {
	r := s.DB.Reader()
	if making, err := r.NewSelect().Model((*Image)(nil)).Where("state IN (?, ?)", ImageMaking, ImageUploading).Exists(ctx); err != nil || making {
		return err
	}
	var needed []string
	if err := r.NewRaw(`SELECT digest FROM image WHERE ended_at = 0 UNION SELECT image_digest FROM disk WHERE ended_at = 0`).Scan(ctx, &needed); err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, d := range needed {
		keep[d] = true
	}
	var errs []error
	for _, h := range s.Fleet.Hosts() {
		if h.State == fleet.Down {
			continue
		}
		list, err := s.Fleet.Host(h.ID).List(ctx, &pb.ListRequest{})
		if err != nil {
			errs = append(errs, ignoreGone(err))
			continue
		}
		for _, digest := range list.Images {
			if !keep[digest] {
				_, _ = s.Fleet.Host(h.ID).RemoveImage(ctx, &pb.RemoveImageRequest{Digest: digest}) // refused while it is used
			}
		}
	}
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*Image)(nil)).Where("ended_at > 0 AND ended_at <= ?", s.Clock.Now().Add(-TombstoneKept).UnixMicro()).Exec(ctx)
		return err
	})
	return errors.Join(append(errs, err)...)
}
