package trial

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is its own supervisor and its own host holder.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case SuperviseCommand:
			var o Options
			if err = json.Unmarshal([]byte(os.Args[2]), &o); err == nil {
				ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
				defer stop()
				err = Supervise(ctx, o)
			}
		case HoldCommand:
			err = Hold(os.Stdin, os.Stdout)
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func engines(t *testing.T, hosts int) (*Trial, context.Context) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"ovs-vswitchd", "ovn-northd", "libvirtd", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lyt")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	o := Options{Dir: dir, Prefix: fmt.Sprintf("lyt%d", os.Getpid()), Hosts: hosts, Binary: self, Listen: "127.0.0.1:0", EnginesOnly: true}
	t.Cleanup(func() {
		stop, done := context.WithTimeout(context.Background(), 2*time.Minute)
		defer done()
		if err := Stop(stop, dir, true); err != nil {
			t.Errorf("stop: %v", err)
		}
		if left, _ := exec.Command("ip", "netns", "list").Output(); strings.Contains(string(left), o.Prefix) {
			t.Errorf("namespaces are left:\n%s", left)
		}
		if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), o.Prefix) || strings.Contains(string(mounts), dir) {
			t.Errorf("mounts are left:\n%s", mounts)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left after a purge", dir)
		}
	})
	began := time.Now()
	trial, fresh, err := Start(ctx, o, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	if !fresh {
		t.Error("the trial was not started now")
	}
	t.Logf("ready after %.1f s", time.Since(began).Seconds())
	return trial, ctx
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

func onHost(t *testing.T, ctx context.Context, trial *Trial, n int, argv ...string) string {
	t.Helper()
	cmd, err := trial.HostCommand(ctx, n, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return output(t, cmd)
}

func TestEnginesOfTwoHosts(t *testing.T) {
	before := interfaces(t)
	trial, ctx := engines(t, 2)
	if after := interfaces(t); after != before {
		t.Errorf("the machine's own interfaces changed:\n%s\nwas\n%s", after, before)
	}
	if got := strings.TrimSpace(onHost(t, ctx, trial, 2, "hostname")); got != trial.Options.Prefix+"-host2" {
		t.Errorf("host name %q", got)
	}
	if got := onHost(t, ctx, trial, 1, "virsh", "--quiet", "uri"); !strings.Contains(got, "qemu:///system") {
		t.Errorf("libvirt: %q", got)
	}
	// Management and overlay networks reach the other host, the provider network the outside.
	onHost(t, ctx, trial, 1, "ping", "-c1", "-W5", HostAddress(2).String())
	onHost(t, ctx, trial, 1, "ping", "-c2", "-W5", address(overlayNetwork, 12).Addr().String())
	output(t, trial.Command(ctx, "mgmt", "ping", "-c1", "-W5", HostAddress(1).String()))

	// A second start finds it as it is.
	if _, fresh, err := Start(ctx, trial.Options, nil); err != nil || fresh {
		t.Errorf("second start: fresh %v, %v", fresh, err)
	}
	// What dies comes back, and the overlay works again.
	status, err := trial.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := trial.Process(ctx, "host1/ovs-vswitchd", "kill"); err != nil {
		t.Fatal(err)
	}
	if err := until(ctx, 30*time.Second, func() error {
		cmd, err := trial.HostCommand(ctx, 2, "ping", "-c1", "-W1", address(overlayNetwork, 11).Addr().String())
		if err != nil {
			return err
		}
		now, err := trial.Status(ctx)
		if err != nil {
			return err
		}
		if pid(now, "host1/ovs-vswitchd") == pid(status, "host1/ovs-vswitchd") {
			return fmt.Errorf("it is not started again")
		}
		return cmd.Run()
	}); err != nil {
		t.Errorf("overlay after vswitchd was killed: %v", err)
	}
	if err := trial.Process(ctx, "host2/libvirtd", "end"); err != nil {
		t.Fatal(err)
	}
	if status, err = trial.Status(ctx); err != nil || pid(status, "host2/libvirtd") != 0 {
		t.Errorf("libvirtd lives after its end: %+v %v", status, err)
	}
	if err := trial.Process(ctx, "host2/libvirtd", "start"); err != nil {
		t.Error(err)
	}
}

func pid(s Status, name string) int {
	for _, p := range s.Processes {
		if p.Name == name {
			return p.PID
		}
	}
	return -1
}

func interfaces(t *testing.T) string {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var text string
	for _, i := range list {
		addresses, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintln(i.Name, i.Flags, addresses)
	}
	return text
}

// A supervisor that is killed leaves guests and namespaces: the next one, or Stop, removes them.
func TestStopAfterTheSupervisorWasKilled(t *testing.T) {
	trial, ctx := engines(t, 1)
	status, err := trial.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	orphan := trial.Command(ctx, "outside", "sleep", "1000")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	if err := until(ctx, 10*time.Second, func() error { // until it is there, nobody can know that it is the trial's
		here, _ := os.Readlink("/proc/self/ns/net")
		if there, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", orphan.Process.Pid)); err != nil || there == here {
			return fmt.Errorf("it is in %s: %v", there, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(status.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := until(ctx, 10*time.Second, func() error {
		if _, err := Open(ctx, trial.Options.Dir); err == nil {
			return fmt.Errorf("it still answers")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	if err := Stop(ctx, trial.Options.Dir, false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("a process in the outside outlived the trial")
	}
	// The data is kept: it starts again from it.
	if _, fresh, err := Start(ctx, trial.Options, func(string) {}); err != nil || !fresh {
		t.Errorf("start after that: fresh %v, %v", fresh, err)
	}
}

// Forwarding reaches the outside from the machine's loopback.
func TestForward(t *testing.T) {
	trial, ctx := engines(t, 1)
	target := net.JoinHostPort(trial.Options.OutsideAddress().String(), "7")
	server := trial.Command(ctx, "outside", "busybox", "nc", "-ll", "-p", "7", "-e", "cat")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	local, err := trial.Forward(ctx, "", target)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := trial.Forward(ctx, "", target); err != nil || again != local {
		t.Errorf("the same target again: %s %v, want %s", again, err, local)
	}
	if _, err := trial.Forward(ctx, "0.0.0.0:0", "192.0.2.1:1"); err == nil {
		t.Error("a forward on an address that is not loopback was made")
	}
	err = until(ctx, 10*time.Second, func() error {
		conn, err := net.DialTimeout("tcp", local, time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := conn.Write([]byte("hello")); err != nil {
			return err
		}
		got := make([]byte, 5)
		if _, err := conn.Read(got); err != nil || string(got) != "hello" {
			return fmt.Errorf("read %q: %v", got, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
