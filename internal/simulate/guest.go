package simulate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"io"
	"net"
	"slices"

	"github.com/GehirnInc/crypt/sha512_crypt"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/rfb"
	"github.com/lingyun-cloud/lingyun/internal/spice"
)

// guest is what a simulated guest knows by itself. It does not outlive the process: the password's hash is in no
// file of the simulation.
type guest struct {
	user, hash string
	keys       []string
	log        bytes.Buffer // what it said on its serial port
	serial     io.Closer    // the serial console that is open
}

// boot is a guest that starts: it reads its seed and says who it is. The caller holds the lock.
func (h *Host) boot(s *pb.DomainSpec) {
	g := h.guests[s.Id]
	if g == nil {
		g = &guest{}
		h.guests[s.Id] = g
	}
	if s.Seed != nil {
		g.user, g.hash, g.keys = s.Seed.LoginUser, s.Seed.HashedPassword, slices.Clone(s.Seed.SshKeys)
		fmt.Fprintf(&g.log, "%s started\r\n%s login: ", s.Seed.Hostname, s.Seed.Hostname)
	}
}

// running finds a guest whose agent answers.
func (h *Host) running(id string) (*guest, error) {
	d := h.domains[id]
	if d == nil {
		return nil, fmt.Errorf("%w: domain %s", hostlink.ErrNotFound, id)
	}
	if d.state != pb.DomainState_DOMAIN_STATE_RUNNING {
		return nil, fmt.Errorf("%w: the guest agent of %s does not run", hostlink.ErrUnavailable, id)
	}
	if h.guests[id] == nil {
		h.guests[id] = &guest{}
	}
	return h.guests[id], nil
}

// SetGuestPassword implements hostlink.Host.
func (h *Host) SetGuestPassword(ctx context.Context, req *pb.SetGuestPasswordRequest) (*pb.SetGuestPasswordResponse, error) {
	if err := h.cloud.enter(ctx, h, "SetGuestPassword"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	g, err := h.running(req.Id)
	if err != nil {
		return nil, err
	}
	hash := req.HashedPassword
	if hash == "" {
		if hash, err = sha512_crypt.New().Generate([]byte(req.Password), nil); err != nil {
			return nil, err
		}
	}
	g.user, g.hash = req.User, hash
	return &pb.SetGuestPasswordResponse{}, nil
}

// SetGuestKeys implements hostlink.Host.
func (h *Host) SetGuestKeys(ctx context.Context, req *pb.SetGuestKeysRequest) (*pb.SetGuestKeysResponse, error) {
	if err := h.cloud.enter(ctx, h, "SetGuestKeys"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	g, err := h.running(req.Id)
	if err != nil {
		return nil, err
	}
	g.keys = slices.DeleteFunc(g.keys, func(k string) bool { return slices.Contains(req.SshKeys, k) })
	if !req.Remove {
		g.keys = append(g.keys, req.SshKeys...)
	}
	return &pb.SetGuestKeysResponse{}, nil
}

// GuestLogin tells whether a running guest lets a user in by password: what tests of passwords look at.
func (c *Cloud) GuestLogin(id, user, password string) bool {
	for _, h := range c.hosts {
		h.mu.Lock()
		g, err := h.running(id)
		if err == nil {
			defer h.mu.Unlock()
			return g.user == user && g.hash != "" && sha512_crypt.New().Verify(g.hash, []byte(password)) == nil
		}
		h.mu.Unlock()
	}
	return false
}

// GuestKeys lists the SSH keys that a running guest lets in.
func (c *Cloud) GuestKeys(id string) []string {
	for _, h := range c.hosts {
		h.mu.Lock()
		g, err := h.running(id)
		if err == nil {
			defer h.mu.Unlock()
			return slices.Clone(g.keys)
		}
		h.mu.Unlock()
	}
	return nil
}

// Console implements hostlink.Host: a screen of one colour, and a serial port that says everything back.
func (h *Host) Console(ctx context.Context, id string, kind pb.ConsoleKind) (io.ReadWriteCloser, error) {
	if err := h.cloud.enter(ctx, h, "Console"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	g, err := h.running(id)
	if err != nil {
		return nil, err
	}
	if kind == pb.ConsoleKind_CONSOLE_KIND_SPICE && h.cloud.NoSpice.Load() {
		return nil, fmt.Errorf("%w: QEMU has no SPICE here", hostlink.ErrInvalid)
	}
	near, far := net.Pipe()
	context.AfterFunc(ctx, func() { near.Close() })
	switch kind {
	case pb.ConsoleKind_CONSOLE_KIND_VNC:
		picture := image.NewRGBA(image.Rect(0, 0, 320, 200))
		draw.Draw(picture, picture.Bounds(), image.NewUniform(color.RGBA{R: 0x20, G: 0x40, B: 0x80, A: 0xff}), image.Point{}, draw.Src)
		go func() {
			defer far.Close()
			_ = rfb.Screen(far, id, picture) // until the client goes
		}()
	case pb.ConsoleKind_CONSOLE_KIND_SPICE:
		go func() {
			defer far.Close()
			if spice.Serve(far) == nil {
				_, _ = io.Copy(far, far) // it says everything back
			}
		}()
	case pb.ConsoleKind_CONSOLE_KIND_SERIAL:
		if g.serial != nil {
			g.serial.Close()
		}
		g.serial = far
		go h.echo(g, far)
	default:
		near.Close()
		far.Close()
		return nil, fmt.Errorf("%w: console %d", hostlink.ErrInvalid, kind)
	}
	return near, nil
}

// echo is the terminal of a guest that says everything back, into its log too.
func (h *Host) echo(g *guest, c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		h.mu.Lock()
		g.log.Write(buf[:n])
		h.mu.Unlock()
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// ConsoleLog implements hostlink.Host.
func (h *Host) ConsoleLog(ctx context.Context, req *pb.ConsoleLogRequest) (*pb.ConsoleLogResponse, error) {
	if err := h.cloud.enter(ctx, h, "ConsoleLog"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.guests[req.Id]
	if g == nil {
		return &pb.ConsoleLogResponse{}, nil
	}
	all := g.log.Bytes()
	return &pb.ConsoleLogResponse{Tail: slices.Clone(all[max(0, len(all)-int(req.MaxBytes)):]), UpdatedAt: h.cloud.o.Clock.Now().Unix()}, nil
}

// exported is the image that a simulated volume makes: a qcow2 header of the volume's size, and its name.
func exported(volume string, size uint64, secret []byte) []byte {
	head := make([]byte, 104)
	copy(head, "QFI\xfb")
	put := func(at int, v uint64, n int) {
		for i := range n {
			head[at+i] = byte(v >> (8 * (n - 1 - i)))
		}
	}
	put(4, 3, 4)
	put(20, 16, 4)
	put(24, size, 8)
	if len(secret) > 0 {
		const luks = 2
		put(32, luks, 4)
	}
	put(100, 104, 4)
	return append(head, volume...)
}

// ExportVolume implements hostlink.Host: the first call starts it, the second finds it done.
func (h *Host) ExportVolume(ctx context.Context, req *pb.ExportVolumeRequest) (*pb.Export, error) {
	if err := h.cloud.enter(ctx, h, "ExportVolume"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fence(req.Fence, req.Id); err != nil {
		return nil, err
	}
	e := h.exports[req.Id]
	if e == nil {
		size := h.size(req.Pool, req.VolumeId)
		if size == 0 {
			return nil, fmt.Errorf("%w: volume %s", hostlink.ErrNotFound, req.VolumeId)
		}
		h.exports[req.Id] = &pb.Export{Id: req.Id, State: pb.ExportState_EXPORT_STATE_RUNNING, Percent: 50, VirtualBytes: size}
		return h.exports[req.Id], nil
	}
	if e.State == pb.ExportState_EXPORT_STATE_DONE {
		return e, nil
	}
	file := exported(req.VolumeId, e.VirtualBytes, req.Secret)
	sum := sha256.Sum256(file)
	digest := hex.EncodeToString(sum[:])
	done := &pb.Export{Id: req.Id, State: pb.ExportState_EXPORT_STATE_DONE, Percent: 100, VirtualBytes: e.VirtualBytes,
		ImageDigest: digest, SizeBytes: uint64(len(file))}
	h.exports[req.Id] = done
	h.files[digest] = file
	h.images[digest] = uint64(len(file))
	h.save(record{Image: digest, Size: uint64(len(file))})
	return done, nil
}

// RemoveExport implements hostlink.Host.
func (h *Host) RemoveExport(ctx context.Context, req *pb.RemoveExportRequest) (*pb.RemoveExportResponse, error) {
	if err := h.cloud.enter(ctx, h, "RemoveExport"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fence(req.Fence, req.Id); err != nil {
		return nil, err
	}
	delete(h.exports, req.Id)
	return &pb.RemoveExportResponse{}, nil
}

// GetImage implements hostlink.Host. Simulated hosts keep only what they made: of other images no more than the size.
func (h *Host) GetImage(ctx context.Context, digest string) (io.ReadCloser, error) {
	if err := h.cloud.enter(ctx, h, "GetImage"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.images[digest]; !ok {
		return nil, fmt.Errorf("%w: image %s", hostlink.ErrNotFound, digest)
	}
	file, ok := h.files[digest]
	if !ok {
		return nil, errors.New("a simulated host keeps no image's bytes")
	}
	return io.NopCloser(bytes.NewReader(file)), nil
}
