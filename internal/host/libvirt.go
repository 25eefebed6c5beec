package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
)

// libvirtLink is the connection to libvirtd, made anew whenever the daemon restarts.
type libvirtLink struct {
	socket string
	log    *slog.Logger

	mu      sync.Mutex
	current *libvirt.Libvirt
	line    *line         // below current
	problem error         // why there is none
	changed chan struct{} // closed when current or problem changes
}

func newLibvirtLink(socket string, log *slog.Logger) *libvirtLink {
	return &libvirtLink{socket: socket, log: log, changed: make(chan struct{}),
		problem: fmt.Errorf("%w: libvirt is not connected yet", hostlink.ErrUnavailable)}
}

// patience is how long a call waits for libvirtd to come (back).
const patience = 3 * time.Second

// get answers the connection; ErrUnavailable when there is none for 3 s.
func (v *libvirtLink) get(ctx context.Context) (*libvirt.Libvirt, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		v.mu.Lock()
		l, problem, changed := v.current, v.problem, v.changed
		v.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, problem
		}
	}
}

// now answers the connection of this moment, or why there is none.
func (v *libvirtLink) now() (*libvirt.Libvirt, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.current, v.problem
}

func (v *libvirtLink) set(l *libvirt.Libvirt, at *line, problem error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.current, v.line, v.problem = l, at, problem
	close(v.changed)
	v.changed = make(chan struct{})
}

// line is the socket below a connection: closing it ends every call that hangs in libvirtd, which the
// library cannot.
type line struct {
	path string

	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

// Dial implements the library's dialer.
func (s *line) Dial() (net.Conn, error) {
	conn, err := net.DialTimeout("unix", s.path, 2*time.Second)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	s.conn = conn
	return conn, nil
}

func (s *line) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn != nil {
		s.conn.Close()
	}
}

// dial connects and opens the system's QEMU driver, within 10 s.
func (v *libvirtLink) dial(ctx context.Context) (*libvirt.Libvirt, *line, error) {
	at := &line{path: v.socket}
	l := libvirt.NewWithDialer(at)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stop := context.AfterFunc(ctx, at.close)
	err := l.ConnectToURI(libvirt.QEMUSystem)
	if !stop() {
		return nil, nil, fmt.Errorf("%w: libvirt does not answer on %s", hostlink.ErrUnavailable, v.socket)
	}
	if err != nil {
		at.close()
		return nil, nil, fmt.Errorf("%w: libvirt: %w", hostlink.ErrUnavailable, err)
	}
	return l, at, nil
}

// close ends the connection, and with it calls that hang.
func (v *libvirtLink) close() {
	v.mu.Lock()
	at := v.line
	v.mu.Unlock()
	v.set(nil, nil, fmt.Errorf("%w: the agent ends", hostlink.ErrUnavailable))
	if at != nil {
		at.close()
	}
}

// virtError gives an error of libvirt its kind: a lost connection is worth a retry.
func virtError(err error) error {
	if err == nil {
		return nil
	}
	var e libvirt.Error
	if errors.As(err, &e) {
		switch libvirt.ErrorNumber(e.Code) {
		case libvirt.ErrNoDomain:
			return fmt.Errorf("%w: libvirt: %w", hostlink.ErrNotFound, err)
		case libvirt.ErrOperationTimeout, libvirt.ErrAgentUnresponsive, libvirt.ErrRPC:
			return fmt.Errorf("%w: libvirt: %w", hostlink.ErrUnavailable, err)
		case libvirt.ErrSystemError:
			if strings.Contains(e.Message, "monitor") { // its QEMU ended while it was asked
				return fmt.Errorf("%w: libvirt: %w", hostlink.ErrUnavailable, err)
			}
		}
		return fmt.Errorf("host: libvirt: %w", err)
	}
	return fmt.Errorf("%w: libvirt: %w", hostlink.ErrUnavailable, err)
}

// domainXML reads a domain's definition.
func domainXML(l *libvirt.Libvirt, dom libvirt.Domain, flags libvirt.DomainXMLFlags) (*libvirtxml.Domain, error) {
	text, err := l.DomainGetXMLDesc(dom, flags)
	if err != nil {
		return nil, err
	}
	x := &libvirtxml.Domain{}
	if err := x.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("host: domain %s: %w", dom.Name, err)
	}
	return x, nil
}
