package console

import (
	"context"
	"encoding/json"
	"errors"
	"image"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/rfb"
	"github.com/lingyun-cloud/lingyun/internal/spice"
)

// desk knows sessions by their tickets and ids, each good once, and guests that echo what their serial port hears and
// show a black screen.
type desk struct {
	mu       sync.Mutex
	sessions map[string]*Session
	used     map[string]bool
	down     bool
}

func (d *desk) Redeem(_ context.Context, ticket, id string) (*Session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sessions[ticket+id]
	switch {
	case s == nil:
		return nil, retcode.VNCSessionNotFound.Errorf("no such session")
	case d.used[s.ID]:
		return nil, retcode.VNCSessionExpired.Errorf("the session was connected already")
	}
	d.used[s.ID] = true
	return s, nil
}

func (d *desk) Open(_ context.Context, s *Session) (io.ReadWriteCloser, error) {
	if d.down {
		return nil, retcode.SystemBusy.Errorf("the host of %s does not answer", s.VM)
	}
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		switch {
		case s.Serial:
			io.Copy(far, far)
		case s.Spice:
			_ = spice.Serve(far)
			_, _ = io.Copy(io.Discard, far) // until the program goes
		default:
			_ = rfb.Screen(far, s.VM, image.NewRGBA(image.Rect(0, 0, 8, 8)))
		}
	}()
	return near, nil
}

// open starts a bridge as the controller mounts it.
func open(t *testing.T, sessions ...*Session) (*Bridge, *desk, *httptest.Server) {
	t.Helper()
	d := &desk{sessions: map[string]*Session{}, used: map[string]bool{}}
	for _, s := range sessions {
		d.sessions[s.ID], d.sessions["ticket-of-"+s.ID] = s, s
	}
	b := New("127.0.0.1")
	b.Sessions = d
	mux := http.NewServeMux()
	mux.Handle("GET "+Path+"{ticket}", b)
	server := httptest.NewServer(mux)
	t.Cleanup(func() { b.Close(); server.Close() })
	return b, d, server
}

// dial connects as a browser does whose page has an origin; none: a program.
func dial(t *testing.T, server *httptest.Server, ticket, origin string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	o := &websocket.DialOptions{Subprotocols: []string{"binary"}, HTTPHeader: http.Header{}}
	if origin != "" {
		o.HTTPHeader.Set("Origin", origin)
	}
	c, r, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+Path+ticket, o)
	if err == nil {
		t.Cleanup(func() { c.CloseNow() })
	}
	return c, r, err
}

func TestSerialConsole(t *testing.T) {
	_, _, server := open(t, &Session{ID: "s", VM: "vm-a", Serial: true})
	c, _, err := dial(t, server, "ticket-of-s", server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "binary" {
		t.Errorf("the subprotocol is %q", c.Subprotocol())
	}
	// Terminals in browsers send text; the port knows bytes alone.
	for kind, said := range map[websocket.MessageType]string{websocket.MessageText: "ls\r", websocket.MessageBinary: "\xff\x00"} {
		if err := c.Write(t.Context(), kind, []byte(said)); err != nil {
			t.Fatal(err)
		}
		if got, heard, err := c.Read(t.Context()); err != nil || got != websocket.MessageBinary || string(heard) != said {
			t.Errorf("%q came back as %q, %v, %v", said, heard, got, err)
		}
	}
	// The ticket worked once.
	_, r, err := dial(t, server, "ticket-of-s", "")
	refused(t, r, err, http.StatusForbidden, retcode.VNCSessionExpired)
}

// refused checks that a connection was not made, and which code said so.
func refused(t *testing.T, r *http.Response, err error, status int, code retcode.Code) {
	t.Helper()
	if err == nil || r == nil || r.StatusCode != status {
		t.Fatalf("answered %v, %v; want status %d", r, err, status)
	}
	var answer struct {
		RetCode retcode.Code
		Message string
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || answer.RetCode != code || answer.Message != code.Message(retcode.Chinese) {
		t.Errorf("answered %d %q (%v), want %d", answer.RetCode, answer.Message, err, code)
	}
}

func TestWhoIsNotLetIn(t *testing.T) {
	_, d, server := open(t, &Session{ID: "s", VM: "vm-a", Serial: true}, &Session{ID: "far", VM: "vm-b", Serial: true})
	for _, ticket := range []string{"none", "..%2f..%2fetc", strings.Repeat("a", 1<<16), "%00", "ticket-of-"} {
		_, r, err := dial(t, server, ticket, "")
		refused(t, r, err, http.StatusForbidden, retcode.VNCSessionNotFound)
	}
	d.down = true
	_, r, err := dial(t, server, "ticket-of-far", "")
	refused(t, r, err, http.StatusServiceUnavailable, retcode.SystemBusy)
	d.down = false
	// What looks without connecting does not use the ticket up.
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions} {
		q, _ := http.NewRequest(method, server.URL+Path+"ticket-of-s", nil)
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		want := http.StatusUpgradeRequired
		if method == http.MethodPost || method == http.MethodOptions {
			want = http.StatusMethodNotAllowed
		}
		if r.StatusCode != want || r.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s answers %s %v", method, r.Status, r.Header)
		}
	}
	// Nor do pages of other sites, which are refused.
	for _, origin := range []string{"https://evil.example", "null", server.URL + ".evil.example", "http://127.0.0.1:1"} {
		if _, r, err := dial(t, server, "ticket-of-s", origin); err == nil || r == nil || r.StatusCode != http.StatusForbidden {
			t.Errorf("a page of %s: %v, %v", origin, r, err)
		}
	}
	if _, _, err := dial(t, server, "ticket-of-s", ""); err != nil {
		t.Errorf("after all that the ticket is gone: %v", err)
	}
}

// TestScreen: the password is asked for over the WebSocket, too.
func TestScreen(t *testing.T) {
	for _, password := range []string{"right123", "wrong123"} {
		_, _, server := open(t, &Session{ID: "s", VM: "vm-a", Password: "right123"})
		c, _, err := dial(t, server, "ticket-of-s", "")
		if err != nil {
			t.Fatal(err)
		}
		stream := websocket.NetConn(t.Context(), c, websocket.MessageBinary)
		err = rfb.Connect(stream, password)
		if (err == nil) != (password == "right123") {
			t.Fatalf("%s: %v", password, err)
		}
		if err != nil {
			var closed websocket.CloseError
			if _, _, err := c.Read(t.Context()); !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation {
				t.Errorf("after a wrong password: %v", err)
			}
			continue
		}
		if picture, err := rfb.Screenshot(stream); err != nil || picture.Bounds().Dx() != 8 {
			t.Errorf("the screen: %v, %v", picture, err)
		}
	}
}

func program(t *testing.T, at *net.TCPAddr) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", at.String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// gone tells whether a port is closed before long.
func gone(at *net.TCPAddr) bool {
	for range 200 {
		c, err := net.DialTimeout("tcp", at.String(), time.Second)
		if err != nil {
			return true
		}
		c.Close()
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// TestPortOfAProgram: somebody who says nothing, or knows no password, keeps the owner out of nothing.
func TestPortOfAProgram(t *testing.T) {
	b, _, _ := open(t, &Session{ID: "s", VM: "vm-a", Password: "right123"})
	at, err := b.Listen(b.Sessions.(*desk).sessions["s"])
	if err != nil {
		t.Fatal(err)
	}
	for range maxClients / 2 {
		program(t, at) // looks, and stays
	}
	if err := rfb.Connect(program(t, at), "wrong123"); err == nil {
		t.Fatal("a wrong password was taken")
	}
	c := program(t, at)
	if err := rfb.Connect(c, "right123"); err != nil {
		t.Fatal(err)
	}
	if picture, err := rfb.Screenshot(c); err != nil || picture.Bounds().Dx() != 8 {
		t.Errorf("the screen: %v, %v", picture, err)
	}
	if !gone(at) {
		t.Error("the port is open after its program came")
	}
}

// TestPortsOfAMachine: asking for screens again and again takes no more than a few ports; the newest work, and a
// program that is connected stays so.
func TestPortsOfAMachine(t *testing.T) {
	b, _, _ := open(t, &Session{ID: "s", VM: "vm-a", Password: "right123"}, &Session{ID: "sp", VM: "vm-a", Spice: true, Password: "right123"})
	d := b.Sessions.(*desk)
	main, err := b.ListenSpice(d.sessions["sp"])
	if err != nil {
		t.Fatal(err)
	}
	connected := program(t, main)
	if err := spice.Connect(connected, spice.Main, "right123"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); b.waiting("vm-a") > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the port of a program that is there waits still")
		}
	}
	var ports []*net.TCPAddr
	for range maxPorts + 3 {
		at, err := b.Listen(d.sessions["s"])
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, at)
	}
	for i, at := range ports[:3] {
		if !gone(at) {
			t.Errorf("port %d of %d is open still", i, len(ports))
		}
	}
	if err := rfb.Connect(program(t, ports[len(ports)-1]), "right123"); err != nil {
		t.Error(err)
	}
	if c, err := net.DialTimeout("tcp", main.String(), time.Second); err != nil {
		t.Errorf("the SPICE program that is connected can open no channel any more: %v", err)
	} else {
		c.Close()
	}
	connected.Close()
	if !gone(main) {
		t.Error("the port is open after its program went")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if n := b.waiting("vm-a"); n != 0 {
		t.Errorf("after the end %d ports wait", n)
	}
}

func (b *Bridge) waiting(vm string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ports[vm])
}
