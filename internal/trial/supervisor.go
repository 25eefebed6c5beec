package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// place is where a program runs: the zero value is the machine itself.
type place struct {
	namespace string // network namespace
	holder    int    // process whose mounts and host name the program shares; 0: the machine's
}

// command is argv as run in the place. nsenter replaces itself by the program,
// so the process started is the program.
func (p place) command(argv []string) []string {
	if p.namespace == "" {
		return argv
	}
	enter := []string{"nsenter", "--net=" + namespacePath(p.namespace)}
	if p.holder != 0 {
		enter = append(enter, "--target="+strconv.Itoa(p.holder), "--mount", "--uts")
	}
	return append(append(enter, "--"), argv...)
}

// daemon is a program that the supervisor keeps running.
type daemon struct {
	name  string
	host  string // host1, ...: runs there; empty: in the management namespace
	argv  []string
	files []*os.File // descriptors 3, 4, ...
	env   []string
	// before is called before the first start, ready after every start: the
	// daemon counts as started when it returns.
	before, ready func(context.Context, *supervisor) error

	mu       sync.Mutex
	cmd      *exec.Cmd
	wanted   bool
	restarts int
	ended    chan struct{} // closed when the process of cmd has ended
}

// supervisor runs one trial.
type supervisor struct {
	o     Options
	state state
	ctx   context.Context // ends when the trial is to stop
	stop  context.CancelFunc
	work  sync.WaitGroup

	mu       sync.Mutex
	children map[int]bool // processes that somebody waits for
	holders  map[string]int
	daemons  map[string]*daemon
	order    []string
	progress []string
	phase    string
	failure  string
	forwards map[string]net.Listener

	spawn chan func()
}

// Phases of a trial.
const (
	Starting = "Starting"
	Ready    = "Ready"
	Failed   = "Failed"
	Stopping = "Stopping"
)

// state is what a later program must know to end what an earlier one left behind.
type state struct {
	Options    Options
	BootID     string            // of the machine: after a reboot nothing of this is left
	Namespaces map[string]uint64 // inodes by full name
	Taken      *taken            `json:",omitempty"` // of the machine itself
}

// SuperviseCommand is the hidden subcommand that runs Supervise.
const SuperviseCommand = "trial-supervise"

// ErrRunning: the directory's trial has a supervisor already.
var ErrRunning = errors.New("trial: it is running already")

// Supervise builds the trial and keeps it running until ctx ends or it is told
// to stop; then it takes everything down again. What an earlier supervisor left
// behind is removed first.
func Supervise(ctx context.Context, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	for _, dir := range []string{o.Dir, o.trialDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	for _, dir := range []string{o.logDir(), o.ovn("")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	lock, err := lockTrial(o)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Orphans (guests, whose parents left them) become our children and are reaped.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("trial: subreaper: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &supervisor{o: o, ctx: ctx, stop: cancel, phase: Starting, children: map[int]bool{}, holders: map[string]int{},
		daemons: map[string]*daemon{}, forwards: map[string]net.Listener{}, spawn: make(chan func()),
		state: state{Options: o, BootID: bootID(), Namespaces: map[string]uint64{}}}
	go s.spawner()
	reaper := make(chan struct{})
	defer close(reaper)
	go s.reap(reaper)

	control, err := s.serveControl()
	if err != nil {
		return err
	}
	defer control.Close()
	if err := sweep(ctx, o); err != nil {
		return s.fail(err)
	}
	err = s.build(ctx)
	switch {
	case err == nil:
		s.setPhase(Ready)
	case ctx.Err() == nil:
		_ = s.fail(err)
	}
	<-ctx.Done()
	s.setPhase(Stopping)
	down, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	return s.takeDown(down)
}

// fail notes why the trial does not work. The supervisor lives on, so that it can be asked.
func (s *supervisor) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.failure = Failed, err.Error()
	s.progress = append(s.progress, "failed: "+err.Error())
	return err
}

func (s *supervisor) setPhase(phase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = phase
}

func (s *supervisor) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress = append(s.progress, fmt.Sprintf(format, args...))
}

// build makes the namespaces and starts everything.
func (s *supervisor) build(ctx context.Context) error {
	if s.o.Machine != nil {
		return s.buildOnMachine(ctx)
	}
	s.say("building the networks")
	if err := s.buildNetworks(); err != nil {
		return err
	}
	s.say("starting OVN's databases")
	if err := s.startAll(ctx, s.o.central()); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for n := 1; n <= s.o.Hosts; n++ {
		h := host{s.o, n}
		group.Go(func() error {
			s.say("starting %s: Open vSwitch, ovn-controller, libvirt", h.name())
			if err := h.prepare(); err != nil {
				return err
			}
			if err := s.hold(groupCtx, h); err != nil {
				return err
			}
			return s.startAll(groupCtx, h.daemons())
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if s.o.EnginesOnly {
		return nil
	}
	return s.startCloud(ctx)
}

func (s *supervisor) buildNetworks() error {
	names := []string{s.o.namespace("fabric"), s.o.namespace("mgmt"), s.o.namespace("outside")}
	for n := 1; n <= s.o.Hosts; n++ {
		names = append(names, host{s.o, n}.namespace())
	}
	for _, name := range names {
		if _, err := os.Lstat(namespacePath(name)); err == nil {
			return fmt.Errorf("trial: a network namespace %s is there already and is not this trial's", name)
		}
	}
	for _, name := range names {
		inode, err := makeNamespace(name)
		if err != nil {
			return err
		}
		s.state.Namespaces[name] = inode
		// Written at each step: whatever happens next, these can be found and removed.
		if err := s.state.write(s.o); err != nil {
			return err
		}
	}
	return inNamespace(s.o.namespace("fabric"), func() error {
		// Bridges forward without asking the packet filter, as switches do.
		for _, name := range []string{"management", "overlay", "provider"} {
			if err := makeSwitch(name); err != nil {
				return err
			}
		}
		cables := []nic{
			{s.o.namespace("mgmt"), "eth0", "mgmt", "management", address(managementNetwork, 1)},
			{s.o.namespace("outside"), "eth0", "outside", "provider", address(s.o.Segment, 1)},
		}
		for n := 1; n <= s.o.Hosts; n++ {
			cables = append(cables, host{s.o, n}.nics()...)
		}
		for _, cable := range cables {
			if err := plug(cable); err != nil {
				return err
			}
		}
		return nil
	})
}

// spawner starts processes, all from one thread: children are told to die with
// the thread that started them, and so die with the supervisor and not before.
func (s *supervisor) spawner() {
	runtime.LockOSThread()
	for f := range s.spawn {
		f()
	}
}

// start starts a process that the caller will wait for with s.wait.
func (s *supervisor) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	cmd.SysProcAttr.Setsid = true
	done := make(chan error)
	s.spawn <- func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		err := cmd.Start()
		if err == nil {
			s.children[cmd.Process.Pid] = true
		}
		done <- err
	}
	return <-done
}

func (s *supervisor) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	s.mu.Lock()
	delete(s.children, cmd.Process.Pid)
	s.mu.Unlock()
	return err
}

// exec runs a program to its end and answers what it wrote.
func (s *supervisor) exec(ctx context.Context, p place, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	argv = p.command(argv)
	cmd := exec.Command(argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", environment(nil), &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := s.start(cmd); err != nil {
		return "", fmt.Errorf("trial: %s: %w", argv[0], err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := s.wait(cmd); err != nil {
		return stdout.String(), fmt.Errorf("trial: %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func environment(more []string) []string {
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}, more...)
}

// reap takes the ended processes that nobody waits for: PID 1 of a container may not.
func (s *supervisor) reap(end <-chan struct{}) {
	// At once: libvirt waits for a QEMU that it has asked about its abilities until it is really gone.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		select {
		case <-end:
			return
		case <-ended:
		}
		for _, pid := range zombies() {
			s.mu.Lock()
			if !s.children[pid] {
				var status unix.WaitStatus
				_, _ = unix.Wait4(pid, &status, unix.WNOHANG, nil)
			}
			s.mu.Unlock()
		}
	}
}

// zombies lists our children that have ended.
func zombies() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue
		}
		// PID (NAME) STATE PPID ...; the name may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[0] == "Z" && fields[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// hold starts the process that keeps a host's mounts and host name.
func (s *supervisor) hold(ctx context.Context, h host) error {
	spec, err := json.Marshal(h.room())
	if err != nil {
		return err
	}
	argv := place{namespace: h.namespace()}.command([]string{"unshare", "--mount", "--uts", "--propagation", "private", "--", s.self(), HoldCommand})
	cmd := exec.Command(argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stderr = "/", environment(nil), bytes.NewReader(spec), &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.start(cmd); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		_ = s.wait(cmd)
		return fmt.Errorf("trial: %s: %s", h.name(), strings.TrimSpace(stderr.String()))
	}
	s.mu.Lock()
	s.holders[h.name()] = cmd.Process.Pid
	s.mu.Unlock()
	go func() { _ = s.wait(cmd) }()
	return nil
}

// self is the program that knows HoldCommand.
func (s *supervisor) self() string {
	if s.o.Binary != "" {
		return s.o.Binary
	}
	return "/proc/self/exe"
}

func (s *supervisor) holderOf(host string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holders[host]
}

func (s *supervisor) placeOf(host string) place {
	if s.o.Machine != nil {
		return place{}
	}
	if host == "" {
		return place{namespace: s.o.namespace("mgmt")}
	}
	return place{namespace: s.o.namespace(host), holder: s.holderOf(host)}
}

// startAll starts daemons one after the other, each when the one before is ready.
func (s *supervisor) startAll(ctx context.Context, list []*daemon) error {
	for _, d := range list {
		if d.before != nil {
			if err := d.before(ctx, s); err != nil {
				return err
			}
		}
		s.mu.Lock()
		s.daemons[d.name] = d
		s.order = append(s.order, d.name)
		s.mu.Unlock()
		if err := s.startDaemon(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// startDaemon starts a daemon and waits until it is ready. It is restarted when it ends.
func (s *supervisor) startDaemon(ctx context.Context, d *daemon) error {
	d.mu.Lock()
	if d.wanted {
		d.mu.Unlock()
		return nil
	}
	d.wanted = true
	err := s.launch(d)
	ended := d.ended
	d.mu.Unlock()
	if err != nil {
		return err
	}
	s.work.Add(1)
	go s.keep(d)
	if d.ready == nil {
		return nil
	}
	readyCtx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-ended:
			cancel()
		case <-stop:
		}
	}()
	if err := until(readyCtx, time.Minute, func() error { return d.ready(readyCtx, s) }); err != nil {
		return fmt.Errorf("trial: %s does not get ready: %w; its log is %s", d.name, err, s.logFile(d.name))
	}
	return nil
}

func (s *supervisor) logFile(name string) string {
	return filepath.Join(s.o.logDir(), strings.ReplaceAll(name, "/", "-")+".log")
}

// launch starts the daemon's process. d.mu is held.
func (s *supervisor) launch(d *daemon) error {
	file := s.logFile(d.name)
	if info, err := os.Stat(file); err == nil && info.Size() > 8<<20 {
		_ = os.Rename(file, file+".1")
	}
	log, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	argv := s.placeOf(d.host).command(d.argv)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = "/", environment(d.env), log, log, d.files
	if err := s.start(cmd); err != nil {
		return fmt.Errorf("trial: %s: %w", d.name, err)
	}
	d.cmd, d.ended = cmd, make(chan struct{})
	return nil
}

// keep waits for the daemon's process and starts it again while it is wanted.
func (s *supervisor) keep(d *daemon) {
	defer s.work.Done()
	ctx := s.ctx
	pause := 200 * time.Millisecond
	for {
		began := time.Now()
		_ = s.wait(d.cmd)
		d.mu.Lock()
		close(d.ended)
		wanted := d.wanted && ctx.Err() == nil
		d.mu.Unlock()
		if !wanted {
			return
		}
		if time.Since(began) > time.Minute {
			pause = 200 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, 10*time.Second)
		d.mu.Lock()
		if !d.wanted || ctx.Err() != nil {
			d.mu.Unlock()
			return
		}
		d.restarts++
		err := s.launch(d)
		d.mu.Unlock()
		if err != nil {
			s.say("%v", err)
			return
		}
		if d.ready != nil {
			go func() {
				if err := until(ctx, time.Minute, func() error { return d.ready(ctx, s) }); err != nil && ctx.Err() == nil {
					s.say("%s was started again and does not get ready: %v", d.name, err)
				}
			}()
		}
	}
}

// endDaemon ends a daemon: asks (or not), kills after grace, and waits until it is gone.
func (s *supervisor) endDaemon(d *daemon, sig syscall.Signal, grace time.Duration) {
	d.mu.Lock()
	d.wanted = false
	cmd, ended := d.cmd, d.ended
	d.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig)
	select {
	case <-ended:
		return
	case <-time.After(grace):
	}
	_ = cmd.Process.Kill()
	<-ended
}

// takeDown ends every program in the reverse order of their start, then
// whatever else lives in the namespaces, then the namespaces.
func (s *supervisor) takeDown(ctx context.Context) error {
	s.mu.Lock()
	for _, l := range s.forwards {
		l.Close()
	}
	order := append([]string(nil), s.order...)
	s.mu.Unlock()
	left := s.leaveMachine(ctx)
	for i := len(order) - 1; i >= 0; i-- {
		s.mu.Lock()
		d := s.daemons[order[i]]
		s.mu.Unlock()
		s.endDaemon(d, unix.SIGTERM, 10*time.Second)
	}
	s.work.Wait()
	return errors.Join(left, sweep(ctx, s.o))
}

// sweep removes what the trial's state file names: processes in its
// namespaces, then the namespaces. Without a state file there is nothing.
func sweep(ctx context.Context, o Options) error {
	st, err := readState(o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Taken != nil && st.BootID == bootID() {
		if err := st.Taken.undo(ctx, o.Dir); err != nil {
			return err
		}
	}
	if st.BootID == bootID() {
		ours := map[uint64]bool{}
		for name, inode := range st.Namespaces {
			// A namespace of that name made by somebody else since has another inode.
			if now, err := namespaceInode(name); err == nil && now == inode {
				ours[inode] = true
			}
		}
		// Inodes of namespaces are used again: without their name they prove nothing.
		if err := endProcesses(ctx, ours, 5*time.Second); err != nil {
			return err
		}
		for name, inode := range st.Namespaces {
			if ours[inode] {
				if err := removeNamespace(name); err != nil {
					return err
				}
			}
		}
	}
	return os.Remove(o.stateFile())
}

func (st state) write(o Options) error {
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	part := o.stateFile() + ".part"
	if err := os.WriteFile(part, data, 0o600); err != nil {
		return err
	}
	return os.Rename(part, o.stateFile())
}

func readState(o Options) (state, error) {
	var st state
	data, err := os.ReadFile(o.stateFile())
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(data, &st)
}

func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// lockTrial makes sure that a directory has one supervisor. The lock ends with the process.
func lockTrial(o Options) (*os.File, error) {
	f, err := os.OpenFile(o.lockFile(), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrRunning
		}
		return nil, err
	}
	return f, nil
}

// hostUUID is the same for a host at each start.
func hostUUID(prefix string, n int) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "lingyun://trial/%s/%d", prefix, n)).String()
}

// names of all daemons, sorted, for messages.
func (s *supervisor) names() string {
	list := append([]string(nil), s.order...)
	sort.Strings(list)
	return strings.Join(list, ", ")
}
