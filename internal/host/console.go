package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// Console implements hostlink.Host. The screen is QEMU's own VNC server on a socket that only the host's root
// reaches, the serial port a pseudo terminal.
func (h *Host) Console(ctx context.Context, id string, kind pb.ConsoleKind) (io.ReadWriteCloser, error) {
	if err := checkID("domain", id); err != nil {
		return nil, err
	}
	l, err := h.virt.get(ctx)
	if err != nil {
		return nil, err
	}
	d, _, err := h.find(l, id)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fmt.Errorf("%w: domain %s", hostlink.ErrNotFound, id)
	}
	live, err := domainXML(l, d.dom, 0)
	if err != nil {
		return nil, virtError(err)
	}
	switch kind {
	case pb.ConsoleKind_CONSOLE_KIND_VNC:
		return openScreen(ctx, id, screenSocket(live))
	case pb.ConsoleKind_CONSOLE_KIND_SPICE:
		if !h.spice.Load() {
			return nil, fmt.Errorf("%w: QEMU has no SPICE here", hostlink.ErrInvalid)
		}
		path := spiceSocket(live)
		if path == "" {
			return nil, fmt.Errorf("%w: %s runs without SPICE", hostlink.ErrNotFound, id)
		}
		return openScreen(ctx, id, path)
	case pb.ConsoleKind_CONSOLE_KIND_SERIAL:
		path := serialTerminal(live)
		if path == "" {
			return nil, fmt.Errorf("%w: %s has no serial port now", hostlink.ErrUnavailable, id)
		}
		c, err := h.openTerminal(id, path)
		if err != nil {
			return nil, fmt.Errorf("%w: the serial port of %s: %w", hostlink.ErrUnavailable, id, err)
		}
		context.AfterFunc(ctx, func() { c.Close() })
		return c, nil
	}
	return nil, fmt.Errorf("%w: console %d", hostlink.ErrInvalid, kind)
}

// openScreen connects to a socket of QEMU.
func openScreen(ctx context.Context, id, path string) (io.ReadWriteCloser, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: %s has no such screen now", hostlink.ErrUnavailable, id)
	}
	c, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: the screen of %s: %w", hostlink.ErrUnavailable, id, err)
	}
	context.AfterFunc(ctx, func() { c.Close() })
	return c, nil
}

// screenSocket is where QEMU serves the screen of a running domain.
func screenSocket(x *libvirtxml.Domain) string {
	if x.Devices == nil {
		return ""
	}
	for _, g := range x.Devices.Graphics {
		if g.VNC == nil {
			continue
		}
		if g.VNC.Socket != "" {
			return g.VNC.Socket
		}
		for _, at := range g.VNC.Listeners {
			if at.Socket != nil {
				return at.Socket.Socket
			}
		}
	}
	return ""
}

// serialTerminal is the other end of a running domain's serial port.
func serialTerminal(x *libvirtxml.Domain) string {
	if x.Devices == nil {
		return ""
	}
	for _, s := range x.Devices.Serials {
		if s.Source != nil && s.Source.Pty != nil {
			return s.Source.Pty.Path
		}
	}
	return ""
}

// openTerminal opens a guest's pseudo terminal, raw, in place of whoever has it: two readers would each get
// half of what the guest says.
func (h *Host) openTerminal(id, path string) (io.ReadWriteCloser, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		mode.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		mode.Oflag &^= unix.OPOST
		mode.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		mode.Cflag = mode.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
		err = unix.IoctlSetTermios(fd, unix.TCSETS, mode)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	t := &terminal{file: os.NewFile(uintptr(fd), path)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.terminals[id]; old != nil {
		old.end()
	}
	h.terminals[id] = t
	t.forget = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.terminals[id] == t {
			delete(h.terminals, id)
		}
	}
	return t, nil
}

// terminal is an open serial console.
type terminal struct {
	file   *os.File // polled by the runtime: Close ends a Read
	forget func()
	once   sync.Once
}

func (t *terminal) Read(p []byte) (int, error) {
	n, err := t.file.Read(p)
	if err != nil { // EIO: QEMU ended; closed: another console came, or the caller went
		err = io.EOF
	}
	return n, err
}

func (t *terminal) Write(p []byte) (int, error) { return t.file.Write(p) }

// end closes the file alone, for who holds the lock.
func (t *terminal) end() { t.once.Do(func() { t.file.Close() }) }

func (t *terminal) Close() error {
	t.end()
	t.forget()
	return nil
}

// maxConsoleLog bounds one answer, in bytes.
const maxConsoleLog = 4 << 20

// ConsoleLog implements hostlink.Host: the end of what the guest said on its serial port since its log was last
// rotated, or before.
func (h *Host) ConsoleLog(_ context.Context, r *pb.ConsoleLogRequest) (*pb.ConsoleLogResponse, error) {
	if err := checkID("domain", r.GetId()); err != nil {
		return nil, err
	}
	want := int64(min(r.MaxBytes, maxConsoleLog))
	out := &pb.ConsoleLogResponse{}
	for _, path := range []string{h.consolePath(r.Id), h.consolePath(r.Id) + ".0"} { // the second is what virtlogd rotated
		tail, at, err := tailOf(path, want-int64(len(out.Tail)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("host: %w", err)
		}
		out.Tail = append(tail, out.Tail...)
		out.UpdatedAt = max(out.UpdatedAt, at)
	}
	return out, nil
}

func tailOf(path string, n int64) (tail []byte, updatedAt int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	n = min(n, info.Size())
	tail, err = io.ReadAll(io.NewSectionReader(f, info.Size()-n, n))
	return tail, info.ModTime().Unix(), err
}
