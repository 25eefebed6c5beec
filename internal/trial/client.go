package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Trial talks to the supervisor of a running trial.
type Trial struct {
	Options Options
	client  *http.Client
	pid     int
}

// ErrNotRunning: the directory has no running trial.
var ErrNotRunning = errors.New("trial: none is running")

// Open finds the running trial of a directory.
func Open(ctx context.Context, dir string) (*Trial, error) {
	o := Options{Dir: dir}
	t := &Trial{Options: o}
	t.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", o.controlSocket())
	}}}
	status, err := t.Status(ctx)
	if err != nil {
		return nil, err
	}
	t.Options, t.pid = status.Options, status.PID
	return t, nil
}

// Start starts a supervisor (Binary's SuperviseCommand) for the trial, if there
// is none, and waits until the trial is ready. say gets each line of progress once.
// fresh tells whether the trial was started now.
func Start(ctx context.Context, o Options, say func(string)) (t *Trial, fresh bool, err error) {
	if err := o.complete(); err != nil {
		return nil, false, err
	}
	t, err = Open(ctx, o.Dir)
	if errors.Is(err, ErrNotRunning) {
		fresh = true
		t, err = launchSupervisor(ctx, o)
	}
	if err != nil {
		return nil, false, err
	}
	if t.Options.Hosts != o.Hosts || t.Options.Prefix != o.Prefix || t.Options.Listen != o.Listen || !sameMachine(t.Options.Machine, o.Machine) {
		return nil, false, fmt.Errorf("trial: one with other options is running in %s (%d hosts, API on %s); end it first (lingyun down)", o.Dir, t.Options.Hosts, t.Options.Listen)
	}
	said := 0
	for {
		status, err := t.Status(ctx)
		if err != nil {
			return nil, fresh, err
		}
		for ; fresh && said < len(status.Progress); said++ {
			say(status.Progress[said])
		}
		switch status.Phase {
		case Ready:
			return t, fresh, nil
		case Failed:
			return t, fresh, errors.New(status.Failure)
		case Stopping:
			return nil, fresh, ErrNotRunning
		}
		select {
		case <-ctx.Done():
			return t, fresh, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// launchSupervisor starts the supervisor as a session of its own, which
// outlives the caller, and waits until it answers.
func launchSupervisor(ctx context.Context, o Options) (*Trial, error) {
	if err := os.MkdirAll(o.logDir(), 0o711); err != nil {
		return nil, err
	}
	spec, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	logPath := filepath.Join(o.logDir(), "supervisor.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(o.Binary, SuperviseCommand, string(spec))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", environment(nil), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Descriptors that the caller inherited (a lock, a pipe) are not for a program that lives on.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		t, err := Open(ctx, o.Dir)
		if err == nil && t.pid == cmd.Process.Pid {
			return t, nil
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(logPath)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			return nil, fmt.Errorf("trial: the supervisor ended (%v): %s", err, lines[len(lines)-1])
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (t *Trial) call(ctx context.Context, method, path string, form url.Values) ([]byte, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://trial"+path, body)
	if err != nil {
		return nil, err
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := t.client.Do(request)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil, ErrNotRunning
	case err != nil:
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 400 {
		err = fmt.Errorf("trial: %s", bytes.TrimSpace(data))
	}
	return data, err
}

// Status asks how the trial is.
func (t *Trial) Status(ctx context.Context) (Status, error) {
	var status Status
	data, err := t.call(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return status, err
	}
	return status, json.Unmarshal(data, &status)
}

// Process does something to one program of the trial: start, stop (ask, stay
// ended), kill (SIGKILL, is started again), end (SIGKILL, stays ended).
func (t *Trial) Process(ctx context.Context, name, do string) error {
	_, err := t.call(ctx, http.MethodPost, "/process", url.Values{"name": {name}, "do": {do}})
	return err
}

// Forward makes the supervisor forward a loopback address to an address outside
// the cloud (an EIP and a port) as long as the trial runs, and answers the
// loopback address. The same target has one forward only.
func (t *Trial) Forward(ctx context.Context, listen, target string) (string, error) {
	data, err := t.call(ctx, http.MethodPost, "/forward", url.Values{"listen": {listen}, "target": {target}})
	return string(data), err
}

// Outside is the name of the namespace outside the cloud.
// It is empty when the cloud is on the machine itself: the outside is real then.
func (t *Trial) Outside() string {
	if t.Options.Machine != nil {
		return ""
	}
	return t.Options.namespace("outside")
}

// Dial connects to an address (IP:PORT) as seen from outside the cloud.
func (t *Trial) Dial(ctx context.Context, address string) (net.Conn, error) {
	return DialIn(ctx, t.Outside(), address)
}

// Inside runs f on a thread that has entered a network namespace of the trial
// (outside, mgmt, fabric, host1, ...). Sockets that f makes stay there.
func (t *Trial) Inside(short string, f func() error) error {
	return inNamespace(t.Options.namespace(short), f)
}

// Command prepares a program to be run in a namespace of the trial: outside,
// mgmt or fabric. The caller runs it.
func (t *Trial) Command(ctx context.Context, short string, argv ...string) *exec.Cmd {
	argv = place{namespace: t.Options.namespace(short)}.command(argv)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = environment(nil)
	return cmd
}

// HostCommand prepares a program to be run on a simulated host, n from 1: with its network, mounts and name.
func (t *Trial) HostCommand(ctx context.Context, n int, argv ...string) (*exec.Cmd, error) {
	status, err := t.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range status.Processes {
		if p.PID != 0 && strings.HasPrefix(p.Name, hostName(n)+"/") {
			// Every program of the host shares its mounts.
			argv = place{namespace: t.Options.namespace(hostName(n)), holder: p.PID}.command(argv)
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Dir, cmd.Env = "/", environment(nil)
			return cmd, nil
		}
	}
	return nil, fmt.Errorf("trial: nothing runs on %s", hostName(n))
}

// HostProcesses names the programs of a host, in the order of their start.
func (t *Trial) HostProcesses(ctx context.Context, n int) ([]string, error) {
	status, err := t.Status(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range status.Processes {
		if strings.HasPrefix(p.Name, hostName(n)+"/") {
			names = append(names, p.Name)
		}
	}
	return names, nil
}

// Stop ends the trial of a directory, running or left behind by a supervisor
// that was killed, and waits until nothing of it is left. With purge its
// directory is deleted. Stopping what does not run is no error.
func Stop(ctx context.Context, dir string, purge bool) error {
	o := Options{Dir: dir}
	t, err := Open(ctx, dir)
	switch {
	case err == nil:
		if _, err := t.call(ctx, http.MethodPost, "/stop", nil); err != nil && !errors.Is(err, ErrNotRunning) && !errors.Is(err, io.EOF) {
			return err
		}
	case !errors.Is(err, ErrNotRunning):
		return err
	}
	if _, err := os.Stat(o.trialDir()); err == nil {
		// The lock is free once the supervisor has ended.
		var lock *os.File
		err := until(ctx, 90*time.Second, func() (err error) { lock, err = lockTrial(o); return err })
		if err != nil {
			return fmt.Errorf("trial: the supervisor does not end: %w", err)
		}
		defer lock.Close()
		if err := sweep(ctx, o); err != nil {
			return err
		}
		_ = os.Remove(o.controlSocket())
	}
	if !purge {
		return nil
	}
	if err := forgetDomains(ctx, host0(o).agentDir()); err != nil {
		return err
	}
	if _, err := os.Stat(o.trialDir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if err != nil {
		return nil // no trial was ever here: nothing of this directory is ours
	}
	return os.RemoveAll(dir)
}
