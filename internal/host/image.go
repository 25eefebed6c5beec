package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// formats that an image may have; the file's name ends in it, so that nobody
// has to guess it from content that a tenant made.
var formats = []string{"qcow2", "raw"}

// reserveBytes stay free on the file system whatever comes in.
const reserveBytes = 256 << 20

func checkDigest(digest string) error {
	if !validDigest.MatchString(digest) {
		return fmt.Errorf("%w: %q is no SHA-256", hostlink.ErrInvalid, digest)
	}
	return nil
}

// image finds an image's file and format; ErrNotFound when it is not here.
func (h *Host) image(digest string) (path, format string, info os.FileInfo, err error) {
	if err := checkDigest(digest); err != nil {
		return "", "", nil, err
	}
	for _, format := range formats {
		path := filepath.Join(h.conf.Dir, "images", digest+"."+format)
		if info, err := os.Stat(path); err == nil {
			return path, format, info, nil
		}
	}
	return "", "", nil, fmt.Errorf("%w: image %s", hostlink.ErrNotFound, digest)
}

// ImageStatus implements hostlink.Host.
func (h *Host) ImageStatus(_ context.Context, r *pb.ImageStatusRequest) (*pb.ImageStatusResponse, error) {
	if err := checkDigest(r.Digest); err != nil {
		return nil, err
	}
	_, _, info, err := h.image(r.Digest)
	if err != nil {
		return &pb.ImageStatusResponse{Digest: r.Digest}, nil
	}
	return &pb.ImageStatusResponse{Digest: r.Digest, Present: true, SizeBytes: uint64(info.Size())}, nil
}

// PutImage implements hostlink.Host. A qcow2 image that leans on another file is
// refused: its header would make QEMU open a path that its maker chose.
func (h *Host) PutImage(ctx context.Context, digest string, size int64, r io.Reader) (*pb.ImageStatusResponse, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	if size <= 0 {
		return nil, fmt.Errorf("%w: an image of %d bytes", hostlink.ErrInvalid, size)
	}
	if _, busy := h.uploads.LoadOrStore(digest, true); busy {
		return nil, fmt.Errorf("%w: image %s is being received", hostlink.ErrUnavailable, digest)
	}
	defer h.uploads.Delete(digest)
	if _, _, info, err := h.image(digest); err == nil {
		return &pb.ImageStatusResponse{Digest: digest, Present: true, SizeBytes: uint64(info.Size())}, nil
	}
	if err := h.needSpace(size); err != nil {
		return nil, err
	}
	dir := filepath.Join(h.conf.Dir, "images")
	f, err := os.CreateTemp(dir, ".part-*")
	if err != nil {
		return nil, spaceError(err)
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(&cancelReader{ctx, r}, size+1))
	if err != nil {
		return nil, spaceError(err)
	}
	if n != size || hex.EncodeToString(sum.Sum(nil)) != digest {
		return nil, fmt.Errorf("%w: what was received is not image %s of %d bytes", hostlink.ErrInvalid, digest, size)
	}
	if err := f.Chmod(0o444); err != nil {
		return nil, spaceError(err)
	}
	if err := f.Sync(); err != nil {
		return nil, spaceError(err)
	}
	format, err := imageFormat(ctx, f.Name())
	if err != nil {
		return nil, err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, digest+"."+format)); err != nil {
		return nil, spaceError(err)
	}
	if err := syncDir(dir); err != nil {
		return nil, err
	}
	return &pb.ImageStatusResponse{Digest: digest, Present: true, SizeBytes: uint64(size)}, nil
}

// imageFormat tells qcow2 from raw by the magic alone and lets qemu-img, confined, look at a qcow2 header.
func imageFormat(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("host: %w", err)
	}
	defer f.Close()
	magic := make([]byte, 4)
	if n, _ := io.ReadFull(f, magic); n < 4 || string(magic) != "QFI\xfb" {
		return "raw", nil
	}
	out, err := confined(ctx, "qemu-img", "info", "-U", "--output=json", "-f", "qcow2", path)
	if err != nil {
		return "", fmt.Errorf("%w: not a sound qcow2 image: %w", hostlink.ErrInvalid, err)
	}
	var info struct {
		Backing        string `json:"backing-filename"`
		FormatSpecific struct {
			Data struct {
				DataFile string `json:"data-file"`
				RawData  bool   `json:"data-file-raw"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return "", fmt.Errorf("host: qemu-img info: %w", err)
	}
	if d := info.FormatSpecific.Data; info.Backing != "" || d.DataFile != "" || d.RawData {
		return "", fmt.Errorf("%w: the image leans on another file", hostlink.ErrInvalid)
	}
	return "qcow2", nil
}

// RemoveImage implements hostlink.Host. An image that a volume is an overlay of, or that is
// in a drive, is refused.
func (h *Host) RemoveImage(ctx context.Context, r *pb.RemoveImageRequest) (*pb.RemoveImageResponse, error) {
	if err := checkDigest(r.Digest); err != nil {
		return nil, err
	}
	if err := h.fence.admitEpoch(r.GetFence().GetEpoch()); err != nil {
		return nil, err
	}
	unlock, err := h.lock(ctx, imagesLock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	path, _, _, err := h.image(r.Digest)
	if err != nil {
		return &pb.RemoveImageResponse{}, nil
	}
	ids, err := h.own.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if head, err := readHeader(h.volumePath(id)); err == nil && head.backing == path {
			return nil, fmt.Errorf("%w: image %s is used by volume %s", hostlink.ErrInvalid, r.Digest, id)
		}
	}
	if user, err := h.discUser(ctx, path); err != nil {
		return nil, err
	} else if user != "" {
		return nil, fmt.Errorf("%w: image %s is in a drive of %s", hostlink.ErrInvalid, r.Digest, user)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("host: %w", err)
	}
	h.forgetBases(r.Digest)
	return &pb.RemoveImageResponse{}, syncDir(filepath.Dir(path))
}

// imagesLock keeps the removal of images and the making of overlays apart.
const imagesLock = "images"

func (h *Host) imageDigests() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(h.conf.Dir, "images"))
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	var digests []string
	for _, e := range entries {
		if digest, _, ok := strings.Cut(e.Name(), "."); ok && validDigest.MatchString(digest) {
			digests = append(digests, digest)
		}
	}
	return digests, nil
}

// needSpace answers ErrNoSpace when so many bytes would fill the disk.
func (h *Host) needSpace(bytes int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(h.conf.Dir, &s); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	free := int64(s.Bavail) * s.Bsize
	if free < bytes+reserveBytes {
		return fmt.Errorf("%w: %d MiB are free", hostlink.ErrNoSpace, free>>20)
	}
	return nil
}

// cancelReader ends reading when ctx does.
type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
