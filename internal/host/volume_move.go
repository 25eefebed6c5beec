package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// ReadVolume implements hostlink.Host: what the volume's file holds, without its holes.
func (h *Host) ReadVolume(ctx context.Context, r *pb.ReadVolumeRequest, each func(*pb.VolumeChunk) error) error {
	if err := checkID("volume", r.GetId()); err != nil {
		return err
	}
	unlock, err := h.lock(ctx, r.Id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.fence.admit("", r.Fence); err != nil {
		return err
	}
	if _, err := h.own.look(ctx, r.Id); err != nil {
		return err
	}
	if err := h.idle(ctx, h.own, r.Id); err != nil {
		return err
	}
	f, err := os.Open(h.volumePath(r.Id))
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	if err := each(&pb.VolumeChunk{Length: uint64(info.Size())}); err != nil {
		return err
	}
	buf := make([]byte, hostlink.ChunkSize)
	err = eachExtent(f, info.Size(), func(offset, length int64) error {
		for length > 0 {
			n, err := f.ReadAt(buf[:min(length, int64(len(buf)))], offset)
			if n == 0 {
				return fmt.Errorf("host: %w", err)
			}
			if err := each(&pb.VolumeChunk{Offset: uint64(offset), Data: buf[:n]}); err != nil {
				return err
			}
			offset, length = offset+int64(n), length-int64(n)
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	return each(&pb.VolumeChunk{Last: true})
}

// WriteVolume implements hostlink.Host. The specification says what the file is; its image must be here.
func (h *Host) WriteVolume(ctx context.Context, next func() (*pb.VolumeChunk, error)) (*pb.Volume, error) {
	first, err := next()
	if err != nil {
		return nil, err
	}
	spec := first.GetSpec()
	if err := checkVolume(spec); err != nil {
		return nil, err
	}
	if first.Length == 0 || first.Length > maxVolume {
		return nil, fmt.Errorf("%w: a file of %d bytes", hostlink.ErrInvalid, first.Length)
	}
	unlock, err := h.lock(ctx, spec.Id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := h.fence.admit(spec.Id, first.Fence); err != nil {
		return nil, err
	}
	d := h.own
	if err := h.needSpace(0); err != nil {
		return nil, err
	}
	part := d.part(spec.Id)
	defer os.Remove(part)
	if err := receive(part, first, next); err != nil {
		return nil, err
	}
	if !spec.Raw {
		if err := h.rebase(ctx, part, spec); err != nil {
			return nil, err
		}
	}
	// A volume of this id is a copy that was not wanted in the end: no guest has it.
	if _, err := d.look(ctx, spec.Id); err == nil {
		if err := errors.Join(h.idle(ctx, d, spec.Id), d.remove(ctx, spec.Id)); err != nil {
			return nil, err
		}
	}
	if err := d.place(part, spec); err != nil {
		return nil, err
	}
	return h.describeVolume(ctx, d, spec.Id)
}

func receive(path string, first *pb.VolumeChunk, next func() (*pb.VolumeChunk, error)) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return spaceError(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(first.Length)); err != nil {
		return spaceError(err)
	}
	for chunk := first; ; {
		if end := chunk.Offset + uint64(len(chunk.Data)); end > first.Length || end < chunk.Offset {
			return fmt.Errorf("%w: a chunk beyond %d bytes", hostlink.ErrInvalid, first.Length)
		}
		if _, err := f.WriteAt(chunk.Data, int64(chunk.Offset)); err != nil {
			return spaceError(err)
		}
		if chunk.Last {
			return nil
		}
		if chunk, err = next(); errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: a volume without its last chunk", hostlink.ErrInvalid)
		} else if err != nil {
			return err
		}
	}
}

// rebase makes a volume lean on this host's copy of its image. Its header was written by another host.
func (h *Host) rebase(ctx context.Context, part string, spec *pb.VolumeSpec) error {
	head, err := readHeader(part)
	if err != nil {
		return fmt.Errorf("%w: %w", hostlink.ErrInvalid, err)
	}
	if spec.ImageDigest == "" {
		if head.backing != "" {
			return fmt.Errorf("%w: volume %s leans on something that nobody named", hostlink.ErrInvalid, spec.Id)
		}
		return nil
	}
	path, format, _, err := h.image(spec.ImageDigest)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(filepath.Base(head.backing), spec.ImageDigest+".") {
		return fmt.Errorf("%w: volume %s leans on another image than %s", hostlink.ErrInvalid, spec.Id, spec.ImageDigest)
	}
	if head.backing == path {
		return nil
	}
	secret := secretOf(spec.Secret)
	// The file's name has no suffix yet that says what it is.
	options := append([]string{"-q", "-u", "-b", path, "-F", format}, opened(part, secret)...)
	return keyed(ctx, secret, "rebase", options...)
}
