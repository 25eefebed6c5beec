package compute_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/rfb"
)

func (w *world) stop(t *testing.T, id string) {
	t.Helper()
	w.demo.Must(t, "StopVMInstance", p{"VMID": id})
	w.await(t, id, "Stopped")
}

// size of a machine as "CPUs MiB".
func (w *world) size(t *testing.T, id string) string {
	v := w.vm(t, id)
	return fmt.Sprint(v.Int("CPU"), v.Int("Memory"))
}

func TestResize(t *testing.T) {
	each(t, controllertest.Options{Hosts: 1, CPUs: 16, MemoryMiB: 32 << 10}, func(t *testing.T, w *world) {
		stranger := w.NewTenant(t)
		before := w.usage(t)
		id := w.create(t, nil)
		resize := func(cpus, memory int) p { return p{"VMID": id, "CPU": cpus, "Memory": memory} }
		w.demo.Refuse(t, retcode.ImageNoHotplug, "ResizeVMConfig", resize(2, 4096))
		w.demo.Refuse(t, retcode.VMSpecUnavailable, "ResizeVMConfig", resize(3, 4096))
		w.demo.Refuse(t, retcode.VMNotFound, "ResizeVMConfig", p{"VMID": "vm-00000000000000", "CPU": 1, "Memory": 1024})
		stranger.Refuse(t, retcode.VMNotFound, "ResizeVMConfig", resize(2, 4096))

		w.stop(t, id)
		w.demo.Must(t, "ResizeVMConfig", resize(4, 8192))
		w.await(t, id, "Stopped")
		if got := w.size(t, id); got != "4 8192" {
			t.Fatalf("after a cold resize: %s", got)
		}
		w.demo.Refuse(t, retcode.HostCPUInsufficient, "ResizeVMConfig", resize(32, 65536))
		w.demo.Must(t, "ResizeVMConfig", resize(1, 1024))
		w.await(t, id, "Stopped")

		// Born able to grow, it gets more while it runs, and no less.
		w.demo.Must(t, "UpdateVMSupportHotPlug", p{"VMID": id, "SupportHotplug": true})
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")
		w.demo.Must(t, "ResizeVMConfig", resize(2, 4096))
		w.await(t, id, "Running")
		if got := w.size(t, id); got != "2 4096" {
			t.Fatalf("after a hot resize: %s", got)
		}
		w.demo.Refuse(t, retcode.VMNotStopped, "ResizeVMConfig", resize(1, 1024))
		w.demo.Refuse(t, retcode.HostCPUInsufficient, "ResizeVMConfig", resize(32, 65536))

		// What the host cannot do changes nothing.
		held := w.usage(t)
		w.simulate(t, `{"FailNext": {"Call": "EnsureDomain", "Count": 1}}`)
		w.demo.Must(t, "ResizeVMConfig", resize(4, 8192))
		w.await(t, id, "Running")
		if got := w.size(t, id); got != "2 4096" || w.vm(t, id).String("Reason") == "" {
			t.Errorf("after a failed resize: %s, reason %q", got, w.vm(t, id).String("Reason"))
		}
		if now := w.usage(t); now != held {
			t.Errorf("a failed resize holds something: before %s\nafter %s", held, now)
		}
		w.stop(t, id)
		w.destroy(t, id)
		if after := w.usage(t); after != before {
			t.Errorf("used before: %s\nafter: %s", before, after)
		}
	})
}

// TestResizeQuota: cores and memory count while they are wanted.
func TestResizeQuota(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, nil)
	w.stop(t, id)
	for range 3 { // of 80 GB, 49 are used
		w.demo.Must(t, "CreateVMInstance", w.ask(p{"CPU": 8, "Memory": 16384, "InitialState": "Stopped"}))
	}
	w.demo.Refuse(t, retcode.QuotaExceeded, "ResizeVMConfig", p{"VMID": id, "CPU": 32, "Memory": 65536})
}

func TestResizeWorkflow(t *testing.T) {
	workflowCase(t, "vm.resize", "ResizeVMConfig", nil, func(t *testing.T, w *world) p {
		q := stopped(t, w)
		return p{"VMID": q["VMID"], "CPU": 2, "Memory": 4096}
	})
}

func TestResetPassword(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, nil)
	login := func(password string) bool { return w.Simulator.GuestLogin(id, "root", password) }
	if !login("Passw0rd!") {
		t.Fatal("the guest does not know the first password")
	}
	reset := func(password string) p { return p{"VMID": id, "Password": password} }
	w.demo.Refuse(t, retcode.VMPasswordLengthInvalid, "ResetVMInstancePassword", reset("abc1"))
	w.demo.Refuse(t, retcode.VMPasswordComplexityInvalid, "ResetVMInstancePassword", reset("abcdefgh"))
	w.demo.Refuse(t, retcode.InvalidParameter, "ResetVMInstancePassword", p{"VMID": id, "Password": "Fresh.123", "LoginUser": "administrator"})
	w.demo.Must(t, "ResetVMInstancePassword", reset("Fresh.123"))
	if login("Passw0rd!") || !login("Fresh.123") {
		t.Error("the guest has not taken the new password over")
	}
	w.simulate(t, `{"FailNext": {"Call": "SetGuestPassword", "Count": 1}}`)
	w.demo.Refuse(t, retcode.SystemBusy, "ResetVMInstancePassword", reset("Other.123"))
	w.stop(t, id)
	w.demo.Refuse(t, retcode.InvalidVMState, "ResetVMInstancePassword", reset("Other.123"))
	// The seed has it too.
	w.demo.Must(t, "StartVMInstance", p{"VMID": id})
	w.await(t, id, "Running")
	if !login("Fresh.123") {
		t.Error("after a start the guest has another password")
	}
}

func TestReinstall(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		id := w.create(t, p{"DataDiskSpace": 10})
		again := p{"VMID": id, "ImageID": w.image, "Password": "Second.2"}
		w.demo.Refuse(t, retcode.VMNotStopped, "ReinstallVMInstance", again)
		w.stop(t, id)
		held := w.usage(t)
		w.demo.Refuse(t, retcode.ImageNotFound, "ReinstallVMInstance", p{"VMID": id, "ImageID": "image-00000000000000"})
		w.demo.Refuse(t, retcode.VMPasswordLengthInvalid, "ReinstallVMInstance", p{"VMID": id, "ImageID": w.image, "Password": "a1"})
		w.demo.Refuse(t, retcode.ResourceNotFound, "ReinstallVMInstance", p{"VMID": id, "ImageID": w.image, "KeyPairIDs": []string{"keypair-00000000000000"}})
		w.delay(t, "RemoveDomain", 500*time.Millisecond)
		w.demo.Must(t, "ReinstallVMInstance", again)
		controllertest.Eventually(t, settle, "the system is made anew", func() bool { return w.vm(t, id).String("State") == "Reinstalling" })
		w.demo.Must(t, "ReinstallVMInstance", again) // under way
		w.demo.Refuse(t, retcode.InvalidVMState, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Stopped")
		w.delay(t, "RemoveDomain", 0)
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		v := w.await(t, id, "Running")
		if len(v.List("DiskInfos")) != 2 {
			t.Errorf("its disks are %v", v.List("DiskInfos"))
		}
		if w.Simulator.GuestLogin(id, "root", "Passw0rd!") || !w.Simulator.GuestLogin(id, "root", "Second.2") {
			t.Error("the new system has not the new password")
		}
		w.stop(t, id)
		if now := w.usage(t); now != held {
			t.Errorf("before: %s\nafter: %s", held, now)
		}
		// A volume that could not be made is made by the next start.
		w.simulate(t, `{"FailNext": {"Call": "EnsureVolume", "Count": 1}}`)
		w.demo.Must(t, "ReinstallVMInstance", p{"VMID": id, "ImageID": w.image})
		if v := w.await(t, id, "Stopped"); v.String("Reason") == "" {
			t.Error("a failed installation has no reason")
		}
		w.demo.Refuse(t, retcode.InvalidVMState, "CreateCustomImage", p{"VMID": id, "ImageName": "of-nothing"})
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")
	})
}

func TestReinstallWorkflow(t *testing.T) {
	usable := func(t *testing.T, before, after any) {
		t.Helper()
		if text := fmt.Sprint(after); !strings.Contains(text, " Stopped placed ") {
			t.Errorf("after a failure: %s", text)
		}
	}
	workflowCase(t, "vm.reinstall", "ReinstallVMInstance", usable, func(t *testing.T, w *world) p {
		q := stopped(t, w)
		return p{"VMID": q["VMID"], "ImageID": w.image}
	})
}

// dial opens the WebSocket of a session's URL; the code is that of a refusal.
func (w *world) dial(t *testing.T, url string) (net.Conn, retcode.Code) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	c, r, err := websocket.Dial(ctx, strings.TrimSuffix(w.URL, "/api")+url, nil)
	if err != nil {
		if r == nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		var answer struct{ RetCode int }
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("%d %s", r.StatusCode, body)
		}
		return nil, retcode.Code(answer.RetCode)
	}
	t.Cleanup(func() { c.CloseNow() })
	return websocket.NetConn(ctx, c, websocket.MessageBinary), retcode.OK
}

func TestScreen(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, nil)
	allocate := func() (url, password string) {
		t.Helper()
		r := w.demo.Must(t, "AllocateVMVNCSession", p{"VMID": id})
		if r.Int("ExpireTime") < int(time.Now().Unix())+290 {
			t.Errorf("it expires at %d", r.Int("ExpireTime"))
		}
		i := w.demo.Must(t, "GetVMVNCInfo", p{"VMID": id, "SessionID": r.String("SessionID")})
		return r.String("URL"), info(i.Body["Info"].(map[string]any)).String("VNCPassword")
	}
	url, password := allocate()
	c, code := w.dial(t, url)
	if code != retcode.OK {
		t.Fatalf("refused with %d", code)
	}
	if err := rfb.Connect(c, password); err != nil {
		t.Fatal(err)
	}
	picture, err := rfb.Screenshot(c)
	if err != nil {
		t.Fatal(err)
	}
	if s := picture.Bounds().Size(); s.X != 320 || s.Y != 200 {
		t.Errorf("a screen of %v", s)
	}
	if _, code := w.dial(t, url); code != retcode.VNCSessionExpired {
		t.Errorf("the second connection with one ticket: %d", code)
	}
	url, _ = allocate()
	if c, code = w.dial(t, url); code != retcode.OK {
		t.Fatalf("refused with %d", code)
	}
	if err := rfb.Connect(c, "wrong"); !errors.Is(err, rfb.ErrPassword) {
		t.Errorf("a wrong password: %v", err)
	}
	if _, code := w.dial(t, "/console/nonsense"); code != retcode.VNCSessionNotFound {
		t.Errorf("no session: %d", code)
	}

	// A VNC program connects to a port; a wrong password does not use it up.
	r := w.demo.Must(t, "GetVMVNCInfo", p{"VMID": id})
	at := info(r.Body["Info"].(map[string]any))
	connect := func(password string) error {
		c, err := net.Dial("tcp", net.JoinHostPort(at.String("VNCIP"), at.String("VNCPort")))
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if err := rfb.Connect(c, password); err != nil {
			return err
		}
		_, err = rfb.Screenshot(c)
		return err
	}
	if err := connect("wrong"); !errors.Is(err, rfb.ErrPassword) {
		t.Errorf("a wrong password at the port: %v", err)
	}
	if err := connect(at.String("VNCPassword")); err != nil {
		t.Error(err)
	}
	if err := connect(at.String("VNCPassword")); err == nil {
		t.Error("the port takes a second connection")
	}

	// Sessions end by themselves; those of others do not exist.
	session := w.demo.Must(t, "AllocateVMVNCSession", p{"VMID": id})
	old := p{"VMID": id, "SessionID": session.String("SessionID")}
	w.demo.Refuse(t, retcode.VNCSessionNotFound, "GetVMVNCInfo", p{"VMID": id, "SessionID": "vnc-00000000000000"})
	w.NewTenant(t).Refuse(t, retcode.VMNotFound, "GetVMVNCInfo", old)
	w.simulate(t, `{"AdvanceClock": 301}`)
	w.demo.Refuse(t, retcode.VNCSessionExpired, "GetVMVNCInfo", old)
	if _, code := w.dial(t, session.String("URL")); code != retcode.VNCSessionExpired {
		t.Errorf("an old ticket: %d", code)
	}

	shot, err := base64.StdEncoding.DecodeString(w.demo.Must(t, "GetVMScreenshot", p{"VMID": id}).String("ImageData"))
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := png.Decode(strings.NewReader(string(shot))); err != nil || seen.Bounds().Dx() != 320 {
		t.Errorf("a picture: %v", err)
	}
	w.stop(t, id)
	for _, name := range []string{"GetVMVNCInfo", "GetVMSpiceInfo", "AllocateVMVNCSession", "AllocateVMSerialSession", "GetVMScreenshot"} {
		w.demo.Refuse(t, retcode.InvalidVMState, name, p{"VMID": id})
		w.demo.Refuse(t, retcode.VMNotFound, name, p{"VMID": "vm-00000000000000"})
	}
}

func TestSerial(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, p{"Hostname": "serial-guest"})
	c, code := w.dial(t, w.demo.Must(t, "AllocateVMSerialSession", p{"VMID": id}).String("URL"))
	if code != retcode.OK {
		t.Fatalf("refused with %d", code)
	}
	if _, err := io.WriteString(c, "who is there\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 13)
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "who is there\n" {
		t.Errorf("the guest says %q, %v", answer, err)
	}
	log := func(lines int) string {
		text, err := base64.StdEncoding.DecodeString(w.demo.Must(t, "GetVMConsoleLog", p{"VMID": id, "Lines": lines}).String("Output"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if all := log(500); !strings.Contains(all, "serial-guest started") || !strings.Contains(all, "who is there") {
		t.Errorf("the log is %q", all)
	}
	if last := log(1); strings.Contains(last, "started") {
		t.Errorf("the last line is %q", last)
	}
	w.NewTenant(t).Refuse(t, retcode.VMNotFound, "GetVMConsoleLog", p{"VMID": id})
	if r, err := http.Get(strings.TrimSuffix(w.URL, "/api") + "/console/"); err != nil || r.StatusCode != http.StatusNotFound {
		t.Errorf("no ticket at all: %v %v", r, err)
	}
}

// TestNeverStop: a machine that goes down by itself is started again, but not one that somebody stopped, nor one
// that goes down again and again.
func TestNeverStop(t *testing.T) {
	each(t, controllertest.Options{Hosts: 1}, func(t *testing.T, w *world) {
		id := w.create(t, nil)
		running := w.usage(t)
		goOff := func() {
			t.Helper()
			w.simulate(t, fmt.Sprintf(`{"GuestOff": %q}`, id))
		}
		// The guest first: until it is back, the state may be the one from before.
		again := func() bool {
			return w.Simulator.GuestLogin(id, "root", "Passw0rd!") && w.vm(t, id).String("State") == "Running"
		}
		for range 5 {
			goOff()
			controllertest.Eventually(t, settle, "it is started again", again)
		}
		if now := w.usage(t); now != running {
			t.Errorf("before: %s\nafter: %s", running, now)
		}
		goOff() // once too often
		if v := w.await(t, id, "Stopped"); v.String("Reason") == "" {
			t.Error("it is given up without a reason")
		}
		w.simulate(t, `{"AdvanceClock": 3600}`)
		controllertest.Eventually(t, settle, "its next hour is paid", func() bool { return int64(w.vm(t, id).Int("ExpireTime")) > w.Clock.Now().Unix() })
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")
		goOff()
		controllertest.Eventually(t, settle, "later it is started again", again)
		w.demo.Must(t, "UpdateVMHighAvailability", p{"VMID": id, "HighAvailability": "None"})
		goOff()
		w.await(t, id, "Stopped")
		w.demo.Must(t, "UpdateVMHighAvailability", p{"VMID": id, "HighAvailability": "NeverStop"})
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")
		w.stop(t, id)
	})
}
