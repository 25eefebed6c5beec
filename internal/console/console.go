// Package console joins people to the screens and serial ports of machines: browsers over a WebSocket whose
// address holds a ticket that works once, VNC and SPICE programs over a port that is open for one of them. The bytes
// in between go to the machine's host.
package console

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/rfb"
	"github.com/lingyun-cloud/lingyun/internal/spice"
)

const (
	// Life is how long a session waits for its connection.
	Life = 300 * time.Second
	// Idle is how long a connected session may be silent, in both directions.
	Idle = 300 * time.Second
	// Path is where browsers connect: Path + ticket.
	Path = "/console/"
	// opening bounds the exchange of versions and passwords.
	opening = 30 * time.Second
)

// Session is a permission to connect once.
type Session struct {
	ID     string
	VM     string
	Serial bool // else the screen, by VNC
	Spice  bool // or by SPICE, one channel at a time
	// Password that a VNC or SPICE program must know.
	Password string
}

// Sessions knows them.
type Sessions interface {
	// Redeem takes a ticket, or a session by its id: the connection may be made, once. VNCSessionNotFound (1009),
	// VNCSessionExpired (1010).
	Redeem(ctx context.Context, ticket, id string) (*Session, error)
	// Open connects to the machine.
	Open(ctx context.Context, s *Session) (io.ReadWriteCloser, error)
}

// Bridge carries the bytes. Set Sessions before the first connection.
type Bridge struct {
	Sessions Sessions
	// Host is the address on which ports for VNC programs are opened.
	Host string

	ctx    context.Context
	cancel context.CancelFunc
	open   sync.WaitGroup

	mu    sync.Mutex
	ports map[string][]net.Listener // that wait for a program, by machine, the oldest first
}

// New makes a bridge that opens ports on an address.
func New(host string) *Bridge {
	b := &Bridge{Host: host, ports: map[string][]net.Listener{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Close ends every connection and waits for it.
func (b *Bridge) Close() error {
	b.cancel()
	b.open.Wait()
	return nil
}

// ServeHTTP is the WebSocket of a ticket.
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b.ctx.Err() != nil {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	b.open.Add(1)
	defer b.open.Done()
	// What only looks at the address, such as a preview of links, shall not use the ticket up, nor a page of another site.
	if r.Method != http.MethodGet || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "connect with a WebSocket", http.StatusUpgradeRequired)
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			http.Error(w, "pages of other sites may not connect", http.StatusForbidden)
			return
		}
	}
	s, err := b.Sessions.Redeem(r.Context(), r.PathValue("ticket"), "")
	if err != nil {
		refuse(w, r, err)
		return
	}
	guest, err := b.Sessions.Open(b.ctx, s)
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer guest.Close()
	// Programs send no Origin: the ticket is what lets in.
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		slog.Debug("console", "machine", s.VM, "error", err)
		return // answered
	}
	c.SetReadLimit(1 << 20)
	defer c.CloseNow()
	client := &socket{ctx: b.ctx, c: c}
	if err := b.join(s, client, guest); errors.Is(err, rfb.ErrPassword) {
		c.Close(websocket.StatusPolicyViolation, "wrong password")
		return
	}
	c.Close(websocket.StatusNormalClosure, "")
}

// refuse answers the code of a connection that is not made.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	code := retcode.Of(err)
	language := "zh"
	if accept := r.Header.Get("Accept-Language"); len(accept) >= 2 && accept[:2] == "en" {
		language = "en"
	}
	w.Header().Set("Content-Type", "application/json")
	status := http.StatusForbidden
	if code != retcode.VNCSessionNotFound && code != retcode.VNCSessionExpired {
		status = http.StatusServiceUnavailable
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"Action": "ConsoleResponse", "RetCode": int(code), "Message": code.Message(language)})
}

const (
	// maxPorts bounds the ports of a machine that wait for a program; the oldest gives way to another.
	maxPorts = 8
	// maxClients bounds the connections to a port at a time. SPICE programs open up to ten; to VNC's one gets in,
	// and others may be there that only look which ports are open.
	maxClients = 16
)

// listen opens a port of a session, which waits for its program. found is called when that is there: the port gives
// way to no other any more.
func (b *Bridge) listen(s *Session) (l net.Listener, found func(), err error) {
	l, err = net.Listen("tcp", net.JoinHostPort(b.Host, "0"))
	if err != nil {
		return nil, nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if waiting := b.ports[s.VM]; len(waiting) >= maxPorts {
		waiting[0].Close()
		b.ports[s.VM] = waiting[1:]
	}
	b.ports[s.VM] = append(b.ports[s.VM], l)
	return l, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		left := slices.DeleteFunc(slices.Clone(b.ports[s.VM]), func(other net.Listener) bool { return other == l })
		if b.ports[s.VM] = left; len(left) == 0 {
			delete(b.ports, s.VM)
		}
	}, nil
}

// Listen opens a port for one VNC program, until it connected or the session's life is over.
func (b *Bridge) Listen(s *Session) (*net.TCPAddr, error) {
	l, found, err := b.listen(s)
	if err != nil {
		return nil, err
	}
	b.open.Go(func() {
		defer found()
		ctx, cancel := context.WithTimeout(b.ctx, Life)
		defer cancel()
		defer context.AfterFunc(ctx, func() { l.Close() })()
		var clients errgroup.Group
		clients.SetLimit(maxClients)
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			// One who says nothing, or a wrong password, neither uses the session up nor keeps others out.
			clients.Go(func() error {
				defer c.Close()
				b.program(s, c, cancel)
				return nil
			})
		}
		_ = clients.Wait()
	})
	return l.Addr().(*net.TCPAddr), nil
}

// ListenSpice opens a port for one SPICE program, which connects several times: until its main channel ends, or the
// session's life is over before that begins.
func (b *Bridge) ListenSpice(s *Session) (*net.TCPAddr, error) {
	key, err := rsa.GenerateKey(rand.Reader, spice.KeyBits)
	if err != nil {
		return nil, err
	}
	l, found, err := b.listen(s)
	if err != nil {
		return nil, err
	}
	b.open.Go(func() {
		defer found()
		ctx, cancel := context.WithCancel(b.ctx)
		p := &spiceProgram{session: s, key: key, found: found, over: time.AfterFunc(Life, cancel), end: cancel}
		stop := context.AfterFunc(ctx, func() { l.Close() })
		var channels errgroup.Group
		channels.SetLimit(maxClients)
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			channels.Go(func() error {
				defer c.Close()
				b.channel(ctx, p, c)
				return nil
			})
		}
		cancel()
		_ = channels.Wait()
		p.over.Stop()
		stop()
	})
	return l.Addr().(*net.TCPAddr), nil
}

// spiceProgram is one that uses a session.
type spiceProgram struct {
	session *Session
	key     *rsa.PrivateKey
	found   func()
	over    *time.Timer // ends it: when nobody connects, or all channels are silent
	end     context.CancelFunc
	in      atomic.Bool // its main channel is open
}

// channel serves one connection of a SPICE program.
func (b *Bridge) channel(ctx context.Context, p *spiceProgram, c net.Conn) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_ = c.SetDeadline(time.Now().Add(opening))
	guest, err := b.Sessions.Open(ctx, p.session)
	if err != nil {
		return
	}
	defer guest.Close()
	limit := time.AfterFunc(opening, func() { guest.Close() })
	kind, err := spice.Open(c, guest, p.session.Password, p.key)
	limit.Stop()
	if err != nil {
		return // a wrong password, or somebody who only looks, does not use the session up
	}
	_ = c.SetDeadline(time.Time{})
	if kind == spice.Main {
		if !p.over.Stop() || p.in.Swap(true) {
			return
		}
		p.found()
		defer p.end()
		if _, err := b.Sessions.Redeem(ctx, "", p.session.ID); err != nil {
			return
		}
	} else if !p.in.Load() {
		return
	}
	carry(c, guest, func() { p.over.Reset(Idle) })
}

// program serves one VNC program; in is called when it knew the password.
func (b *Bridge) program(s *Session, c net.Conn, in func()) {
	stop := context.AfterFunc(b.ctx, func() { c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(opening))
	if err := rfb.Accept(c, s.Password); err != nil {
		return
	}
	_ = c.SetDeadline(time.Time{})
	in()
	if _, err := b.Sessions.Redeem(b.ctx, "", s.ID); err != nil {
		return
	}
	guest, err := b.Sessions.Open(b.ctx, s)
	if err != nil {
		return
	}
	defer guest.Close()
	if err := connect(guest); err != nil {
		return
	}
	splice(c, guest)
}

// join lets a client in, if its machine's screen asks for a password, and carries the bytes until either side ends.
func (b *Bridge) join(s *Session, client, guest io.ReadWriteCloser) error {
	if !s.Serial {
		limit := time.AfterFunc(opening, func() { client.Close(); guest.Close() })
		err := rfb.Accept(client, s.Password)
		if err == nil {
			err = connect(guest)
		}
		limit.Stop()
		if err != nil {
			return err
		}
	}
	splice(client, guest)
	return nil
}

// connect opens the protocol with the guest's screen, which asks for nothing.
func connect(guest io.ReadWriteCloser) error {
	limit := time.AfterFunc(opening, func() { guest.Close() })
	defer limit.Stop()
	return rfb.Connect(guest, "")
}

// splice copies both ways until one side ends, or both are silent for too long.
func splice(a, b io.ReadWriteCloser) {
	idle := time.AfterFunc(Idle, func() { a.Close(); b.Close() })
	defer idle.Stop()
	carry(a, b, func() { idle.Reset(Idle) })
}

// carry copies both ways until one side ends, and tells when something moved.
func carry(a, b io.ReadWriteCloser, moved func()) {
	var g sync.WaitGroup
	way := func(to, from io.ReadWriteCloser) {
		defer a.Close()
		defer b.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				moved()
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	g.Go(func() { way(a, b) })
	g.Go(func() { way(b, a) })
	g.Wait()
}

// socket is a WebSocket as a connection: whatever kind of messages comes, binary ones go.
type socket struct {
	ctx  context.Context
	c    *websocket.Conn
	rest []byte
}

func (s *socket) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		_, message, err := s.c.Read(s.ctx)
		if err != nil {
			return 0, io.EOF
		}
		s.rest = message
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *socket) Write(p []byte) (int, error) {
	if err := s.c.Write(s.ctx, websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the other side's Read at once; how the client is told is ServeHTTP's.
func (s *socket) Close() error { return s.c.CloseNow() }
