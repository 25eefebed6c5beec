package host

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/console"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/spice"
)

// spiceSessions lets into one machine, as often as asked.
type spiceSessions struct{ agent hostlink.Host }

func (s spiceSessions) Redeem(_ context.Context, _, id string) (*console.Session, error) {
	return &console.Session{ID: id, Spice: true}, nil
}

func (s spiceSessions) Open(ctx context.Context, at *console.Session) (io.ReadWriteCloser, error) {
	return s.agent.Console(ctx, at.VM, pb.ConsoleKind_CONSOLE_KIND_SPICE)
}

// testSpice goes the whole way that a program's bytes go: the controller's port, the link to the agent, QEMU's socket.
func testSpice(t *testing.T, h *Host, vm string) {
	agent := httptest.NewUnstartedServer(hostlink.NewHandler(h))
	agent.EnableHTTP2 = true
	agent.StartTLS()
	defer agent.Close()
	link := hostlink.NewClient(agent.Listener.Addr().String(), agent.Client().Transport.(*http.Transport).TLSClientConfig)
	defer link.Close()
	bridge := console.New("127.0.0.1")
	bridge.Sessions = spiceSessions{link}
	defer bridge.Close()
	at, err := bridge.ListenSpice(&console.Session{ID: "session", VM: vm, Spice: true, Password: "right"})
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"", "wrong", "right"} {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		err = spice.Connect(c, spice.Main, password)
		if password != "right" {
			if !errors.Is(err, spice.ErrPassword) {
				t.Errorf("password %q: %v", password, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 6)); err != nil { // the header of what QEMU says first
			t.Errorf("the screen says nothing: %v", err)
		}
	}
}
