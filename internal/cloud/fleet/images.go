package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// ErrNoImage: the image store holds no such image.
var ErrNoImage = errors.New("fleet: no such image")

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// StoreImage reads an image into the store and returns its digest (lower-case hex SHA-256) and size.
// An image that is there already is kept.
func (s *Service) StoreImage(ctx context.Context, r io.Reader) (digest string, size int64, err error) {
	if err := os.MkdirAll(s.Images, 0o700); err != nil {
		return "", 0, err
	}
	f, err := os.CreateTemp(s.Images, ".image-*")
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(f.Name())
	sum := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, sum), reader{ctx, r})
	if err == nil {
		err = f.Chmod(0o444)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", 0, fmt.Errorf("storing the image: %w", err)
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	return digest, size, os.Rename(f.Name(), filepath.Join(s.Images, digest))
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// OpenImage opens an image of the store; ErrNoImage when it is not there.
func (s *Service) OpenImage(digest string) (io.ReadCloser, int64, error) {
	if !digestForm.MatchString(digest) {
		return nil, 0, fmt.Errorf("%w: %q is no digest", ErrNoImage, digest)
	}
	f, err := os.Open(filepath.Join(s.Images, digest))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, fmt.Errorf("%w: %s", ErrNoImage, digest)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// RemoveImage drops an image from the store. Hosts keep their copies while volumes stand on them.
func (s *Service) RemoveImage(digest string) error {
	if !digestForm.MatchString(digest) {
		return fmt.Errorf("%w: %q is no digest", ErrNoImage, digest)
	}
	err := os.Remove(filepath.Join(s.Images, digest))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// EnsureImage gives a host the image when it lacks it. One transfer at a time for each host and
// digest: callers that come meanwhile share it, and its outcome.
func (s *Service) EnsureImage(ctx context.Context, hostID, digest string) error {
	host := s.Host(hostID)
	status, err := host.ImageStatus(ctx, &pb.ImageStatusRequest{Digest: digest})
	if err != nil || status.Present {
		return err
	}
	done := s.images.DoChan(hostID+"/"+digest, func() (any, error) {
		f, size, err := s.OpenImage(digest)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		// The transfer outlives the caller that began it: others may wait for it.
		_, err = host.PutImage(context.WithoutCancel(ctx), digest, size, f)
		return nil, err
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case r := <-done:
		return r.Err
	}
}
