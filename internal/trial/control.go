package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Status is what a supervisor tells of its trial.
type Status struct {
	Phase     string
	Failure   string   // why the phase is Failed
	Progress  []string // what was done so far, for people
	Options   Options
	PID       int // of the supervisor
	Processes []Process
	Forwards  map[string]string // loopback address: target
}

// Process is one program that the supervisor keeps.
type Process struct {
	Name     string // host1/libvirtd
	PID      int    // 0: not running
	Wanted   bool
	Restarts int
}

// serveControl answers other programs on the control socket, which only root can open.
func (s *supervisor) serveControl() (net.Listener, error) {
	path := s.o.controlSocket()
	_ = os.Remove(path) // of an earlier supervisor; the lock says that none lives
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(s.status())
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) { s.stop() })
	mux.HandleFunc("POST /process", s.handleProcess)
	mux.HandleFunc("POST /forward", s.handleForward)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return listener, nil
}

func (s *supervisor) status() Status {
	s.mu.Lock()
	st := Status{Phase: s.phase, Failure: s.failure, Progress: append([]string(nil), s.progress...), Options: s.o, PID: os.Getpid(), Forwards: map[string]string{}}
	var list []*daemon
	for _, name := range s.order {
		list = append(list, s.daemons[name])
	}
	for target, l := range s.forwards {
		st.Forwards[l.Addr().String()] = target
	}
	s.mu.Unlock()
	for _, d := range list {
		d.mu.Lock()
		p := Process{Name: d.name, Wanted: d.wanted, Restarts: d.restarts}
		if d.cmd != nil {
			select {
			case <-d.ended:
			default:
				p.PID = d.cmd.Process.Pid
			}
		}
		d.mu.Unlock()
		st.Processes = append(st.Processes, p)
	}
	return st
}

// handleProcess: name, do = start, stop (asks, stays ended), kill (SIGKILL, is
// started again), end (SIGKILL, stays ended).
func (s *supervisor) handleProcess(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	d := s.daemons[r.FormValue("name")]
	s.mu.Unlock()
	if d == nil {
		http.Error(w, fmt.Sprintf("there is no process %q", r.FormValue("name")), http.StatusNotFound)
		return
	}
	switch r.FormValue("do") {
	case "start":
		// The daemon outlives this request.
		if err := s.startDaemon(context.WithoutCancel(r.Context()), d); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	case "stop":
		s.endDaemon(d, unix.SIGTERM, 10*time.Second)
	case "end":
		s.endDaemon(d, unix.SIGKILL, time.Second)
	case "kill":
		d.mu.Lock()
		if d.cmd != nil {
			_ = d.cmd.Process.Signal(syscall.SIGKILL)
		}
		d.mu.Unlock()
	default:
		http.Error(w, "do must be start, stop, kill or end", http.StatusBadRequest)
	}
}

func (s *supervisor) handleForward(w http.ResponseWriter, r *http.Request) {
	target, listen := r.FormValue("target"), r.FormValue("listen")
	if _, err := netip.ParseAddrPort(target); err != nil {
		http.Error(w, fmt.Sprintf("%q is not IP:PORT", target), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.forwards[target]; l != nil {
		fmt.Fprint(w, l.Addr())
		return
	}
	listener, err := listenLoopback(listen)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.forwards[target] = listener
	go func() { _ = Forward(context.Background(), listener, (&Trial{Options: s.o}).Outside(), target) }()
	fmt.Fprint(w, listener.Addr())
}

// listenLoopback listens on a loopback address; a port that is taken, or 0, becomes any free one.
func listenLoopback(text string) (net.Listener, error) {
	if text == "" {
		text = "127.0.0.1:0"
	}
	listen, err := netip.ParseAddrPort(text)
	if err != nil || !listen.Addr().IsLoopback() {
		return nil, fmt.Errorf("%q is no loopback IP:PORT", text)
	}
	listener, err := net.Listen("tcp", text)
	if errors.Is(err, unix.EADDRINUSE) {
		return net.Listen("tcp", netip.AddrPortFrom(listen.Addr(), 0).String())
	}
	return listener, err
}
