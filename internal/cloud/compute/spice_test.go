package compute_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/spice"
)

// TestSpice: a program that knows the password has the screen over as many channels as it wants, while its main one is open.
func TestSpice(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, nil)
	at := info(w.demo.Must(t, "GetVMSpiceInfo", p{"VMID": id}).Body["Info"].(map[string]any))
	if at.Int("ExpireTime") < int(time.Now().Unix())+290 {
		t.Errorf("it may connect until %d", at.Int("ExpireTime"))
	}
	connect := func(kind byte, password string) (net.Conn, error) {
		c, err := net.Dial("tcp", net.JoinHostPort(at.String("SpiceIP"), at.String("SpicePort")))
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return c, spice.Connect(c, kind, password)
	}
	// echoes tells whether what is said comes back from the guest.
	echoes := func(c net.Conn) bool {
		_, err := c.Write([]byte("x"))
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		return err == nil
	}
	const display = 2
	if c, err := connect(display, at.String("SpicePassword")); err == nil && echoes(c) {
		t.Error("a channel without its main one")
	}
	for _, wrong := range []string{"", "wrong", at.String("SpicePassword") + "x"} {
		if _, err := connect(spice.Main, wrong); !errors.Is(err, spice.ErrPassword) {
			t.Errorf("password %q: %v", wrong, err)
		}
	}
	main, err := connect(spice.Main, at.String("SpicePassword"))
	if err != nil || !echoes(main) {
		t.Fatalf("the main channel: %v", err)
	}
	if c, err := connect(spice.Main, at.String("SpicePassword")); err == nil && echoes(c) {
		t.Error("the session takes a second program")
	}
	if _, err := connect(display, "wrong"); !errors.Is(err, spice.ErrPassword) {
		t.Errorf("a wrong password on another channel: %v", err)
	}
	screen, err := connect(display, at.String("SpicePassword"))
	if err != nil || !echoes(screen) {
		t.Fatalf("another channel: %v", err)
	}
	main.Close()
	controllertest.Eventually(t, settle, "all channels end with the main one", func() bool { return !echoes(screen) })
	controllertest.Eventually(t, settle, "the port is closed", func() bool {
		_, err := net.Dial("tcp", net.JoinHostPort(at.String("SpiceIP"), at.String("SpicePort")))
		return err != nil
	})

	w.Simulator.FailNext("Console", 1, "")
	w.demo.Refuse(t, retcode.SystemBusy, "GetVMSpiceInfo", p{"VMID": id})
	w.Simulator.NoSpice.Store(true)
	if got := w.demo.Refuse(t, retcode.InvalidVMState, "GetVMSpiceInfo", p{"VMID": id}); !strings.Contains(fmt.Sprint(got.Body), "qemu-system-modules-spice") {
		t.Errorf("it does not say what to install: %v", got.Body)
	}
	w.Simulator.NoSpice.Store(false)
	w.NewTenant(t).Refuse(t, retcode.VMNotFound, "GetVMSpiceInfo", p{"VMID": id})
	w.stop(t, id)
	w.demo.Refuse(t, retcode.InvalidVMState, "GetVMSpiceInfo", p{"VMID": id})
}
