package simulate

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"time"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// control is the body of POST /simulate: any of its fields.
type control struct {
	AdvanceClock int64  // seconds, > 0
	HostDown     string // host id
	HostUp       string
	FailNext     *failure
	Delay        *struct {
		Call         string
		Milliseconds int64 // 0 ends the delay
	}
	DatabaseDown int64  // seconds
	GuestOff     string // VM id: its guest shuts itself down
}

// status is the answer of GET /simulate.
type status struct {
	Time     time.Time // of the cloud's clock
	Hosts    []hostStatus
	FailNext []failure        `json:",omitempty"`
	Delay    map[string]int64 `json:",omitempty"` // milliseconds by call
}

type hostStatus struct {
	ID, Name         string
	Up               bool
	CPUs, MemoryMiB  int
	DiskGB           int
	Domains, Running int
	Volumes          int
	MemoryInUseMiB   uint64
}

// maxAdvance bounds one step of the clock: a hundred years.
const maxAdvance = 100 * 366 * 24 * 3600

// ServeHTTP is the control at /simulate, for tests and demonstrations: from loopback only.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		http.Error(w, "only from loopback", http.StatusForbidden)
		return
	}
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		var q control
		dec := json.NewDecoder(io.LimitReader(r.Body, 1<<16))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if msg := c.apply(q); msg != "" {
			http.Error(w, msg, http.StatusBadRequest)
			return
		}
	default:
		http.Error(w, "GET or POST", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(c.status())
}

// apply checks everything, then does it; it answers what is wrong.
func (c *Cloud) apply(q control) string {
	switch {
	case q.AdvanceClock < 0 || q.AdvanceClock > maxAdvance:
		return "AdvanceClock: seconds, more than 0"
	case q.HostDown != "" && c.byID[q.HostDown] == nil:
		return "HostDown: no such host"
	case q.HostUp != "" && c.byID[q.HostUp] == nil:
		return "HostUp: no such host"
	case q.FailNext != nil && (!calls[q.FailNext.Call] || q.FailNext.Count < 1):
		return "FailNext: Call is a call of the host link, Count at least 1"
	case q.FailNext != nil && q.FailNext.Host != "" && c.byID[q.FailNext.Host] == nil:
		return "FailNext: no such host"
	case q.Delay != nil && (!calls[q.Delay.Call] || q.Delay.Milliseconds < 0 || q.Delay.Milliseconds > 600_000):
		return "Delay: Call is a call of the host link, Milliseconds 0 to 600000"
	case q.DatabaseDown < 0 || q.DatabaseDown > 600 || (q.DatabaseDown > 0 && c.o.DatabaseDown == nil):
		return "DatabaseDown: seconds, 1 to 600"
	}
	if q.GuestOff != "" && !c.guestOff(q.GuestOff) {
		return "GuestOff: no such running machine"
	}
	if q.HostDown != "" {
		c.Down(q.HostDown)
	}
	if q.HostUp != "" {
		c.Up(q.HostUp)
	}
	if q.FailNext != nil {
		c.FailNext(q.FailNext.Call, q.FailNext.Count, q.FailNext.Host)
	}
	if q.Delay != nil {
		c.Delay(q.Delay.Call, time.Duration(q.Delay.Milliseconds)*time.Millisecond)
	}
	if q.DatabaseDown > 0 {
		c.databaseDown(time.Duration(q.DatabaseDown) * time.Second)
	}
	if q.AdvanceClock > 0 {
		// Kept, since time must not run back when the controller starts again.
		c.log.append(record{Clock: int64(c.o.Clock.Offset() + time.Duration(q.AdvanceClock)*time.Second)})
		c.o.Clock.Advance(time.Duration(q.AdvanceClock) * time.Second)
	}
	return ""
}

// calls of the host link, by name.
var calls = func() map[string]bool {
	m := map[string]bool{}
	methods := pb.File_hostlink_proto.Services().ByName("Host").Methods()
	for i := range methods.Len() {
		m[string(methods.Get(i).Name())] = true
	}
	return m
}()

func (c *Cloud) guestOff(id string) bool {
	for _, h := range c.hosts {
		if h.GuestOff(id) {
			return true
		}
	}
	return false
}

// databaseDown takes the database away for d. A second call only makes it longer.
func (c *Cloud) databaseDown(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := time.Now().Add(d)
	if until.After(c.dbDown) {
		c.dbDown = until
	}
	c.o.DatabaseDown(true)
	time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !time.Now().Before(c.dbDown) {
			c.o.DatabaseDown(false)
		}
	})
}

func (c *Cloud) status() status {
	s := status{Time: c.o.Clock.Now().UTC(), Hosts: make([]hostStatus, 0, len(c.hosts)), Delay: map[string]int64{}}
	for _, h := range c.hosts {
		h.mu.Lock()
		hs := hostStatus{
			ID: h.id, Name: h.name, Up: !h.down, CPUs: c.o.CPUs, MemoryMiB: c.o.MemoryMiB, DiskGB: c.o.DiskGB,
			Domains: len(h.domains), Volumes: len(h.volumes), MemoryInUseMiB: h.memoryInUse(""),
		}
		for _, d := range h.domains {
			if d.state == pb.DomainState_DOMAIN_STATE_RUNNING {
				hs.Running++
			}
		}
		h.mu.Unlock()
		s.Hosts = append(s.Hosts, hs)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.FailNext = append(s.FailNext, c.failures...)
	for call, d := range c.delays {
		s.Delay[call] = d.Milliseconds()
	}
	return s
}
