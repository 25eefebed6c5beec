package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

// server is one running controller with simulated hosts.
type server struct {
	cmd    *exec.Cmd
	ended  chan error
	client *http.Client
	key    struct{ Endpoint, Region, PublicKey, PrivateKey string }
	addr   string
}

// start runs the controller and waits until it is ready.
func (b *bench) start(dir, database string, hosts int) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	args := []string{"server", "--data", dir, "--listen", addr, "--simulate", strconv.Itoa(hosts)}
	if database != "" {
		args = append(args, "--database", database)
	}
	log, err := os.OpenFile(filepath.Join(dir, "bench.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &server{
		cmd: exec.Command(b.server, args...), ended: make(chan error, 1), addr: addr,
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.ended <- s.cmd.Wait() }()
	for deadline := time.Now().Add(time.Minute); ; {
		r, err := s.client.Get("http://" + addr + "/readyz")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				break
			}
		}
		select {
		case err := <-s.ended:
			return nil, fmt.Errorf("the server ended: %v, see %s", err, log.Name())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.kill()
			return nil, errors.New("the server is not ready after a minute")
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "demo.json"))
	if err == nil {
		err = json.Unmarshal(raw, &s.key)
	}
	if err != nil {
		s.kill()
		return nil, err
	}
	s.key.Endpoint = "http://" + addr + "/api"
	return s, nil
}

// stop ends the server cleanly.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.ended:
		return err
	case <-time.After(time.Minute):
		s.kill()
		return errors.New("the server did not stop within a minute")
	}
}

func (s *server) kill() { _ = s.cmd.Process.Kill() }

var resident = regexp.MustCompile(`(?m)^(VmRSS|RssFile):\s+(\d+) kB$`)

// settledMemory is the resident memory in MB after ten idle seconds, and what of it is pages of files: the program's own,
// which the kernel reads again when it needs them.
func (s *server) settledMemory() (all, files float64, err error) {
	time.Sleep(10 * time.Second)
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	mb := map[string]float64{}
	for _, m := range resident.FindAllSubmatch(raw, -1) {
		kb, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return 0, 0, err
		}
		mb[string(m[1])] = kb / 1000 * 1.024
	}
	if len(mb) != 2 {
		return 0, 0, errors.New("no VmRSS or RssFile")
	}
	return mb["VmRSS"], mb["RssFile"], nil
}

// processor is the processor time that the server has used so far, user and system. Unlike durations it depends little on
// what else runs on the machine.
func (s *server) processor() (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(raw), ") ") // the name may have spaces
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, errors.New("no times in /proc/PID/stat")
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 wherever Go runs
}

// processorOf is the processor time that the server uses while f runs.
func (s *server) processorOf(f func() error) (time.Duration, error) {
	before, err := s.processor()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := s.processor()
	return after - before, err
}

// answer holds the fields that the figures need.
type answer struct {
	RetCode    int
	Message    string
	VMID       string
	TotalCount int
	Infos      []struct {
		VPCID, SubnetID, ImageID, VMType, StorageType string
	}
}

// call makes one signed call.
func (s *server) call(name string, params map[string]string) (*answer, error) {
	p := map[string]string{"Action": name, "Region": s.key.Region, "PublicKey": s.key.PublicKey}
	for k, v := range params {
		p[k] = v
	}
	v := url.Values{"Signature": {action.Sign(p, s.key.PrivateKey)}}
	for k, x := range p {
		v.Set(k, x)
	}
	r, err := s.client.Post(s.key.Endpoint, "application/x-www-form-urlencoded", strings.NewReader(v.Encode()))
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	if a.RetCode != 0 {
		return nil, fmt.Errorf("%s: %d %s", name, a.RetCode, a.Message)
	}
	return &a, nil
}

// defaults names what every new tenant can create a machine with.
type defaults struct{ vpc, subnet, image, vmType, storage string }

func (s *server) defaults() (*defaults, error) {
	d := &defaults{}
	for _, q := range []struct {
		action string
		take   func(*answer)
	}{
		{"DescribeSubnet", func(a *answer) { d.vpc, d.subnet = a.Infos[0].VPCID, a.Infos[0].SubnetID }},
		{"DescribeImage", func(a *answer) { d.image = a.Infos[0].ImageID }},
		{"DescribeVMType", func(a *answer) { d.vmType = a.Infos[0].VMType }},
		{"DescribeStorageType", func(a *answer) { d.storage = a.Infos[0].StorageType }},
	} {
		a, err := s.call(q.action, nil)
		if err != nil {
			return nil, err
		}
		if len(a.Infos) == 0 {
			return nil, fmt.Errorf("%s: nothing there", q.action)
		}
		q.take(a)
	}
	return d, nil
}

func (d *defaults) create(name string) map[string]string {
	return map[string]string{
		"Name": name, "Password": "Bench-0123", "ChargeType": "Dynamic", "VMType": d.vmType, "CPU": "1", "Memory": "1024",
		"BootDiskSetType": d.storage, "VPCID": d.vpc, "SubnetID": d.subnet, "ImageID": d.image,
	}
}

// waitRunning waits until one machine runs.
func (s *server) waitRunning(vm string) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		a, err := s.call("DescribeVMInstance", map[string]string{"VMIDs.0": vm, "States.0": "Running"})
		if err != nil {
			return err
		}
		if len(a.Infos) == 1 {
			return nil
		}
	}
	return fmt.Errorf("%s does not run after a minute", vm)
}

// settled waits until n machines run.
func (s *server) settled(n int) error {
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		a, err := s.call("DescribeVMInstance", map[string]string{"States.0": "Running", "Limit": "1"})
		if err != nil {
			return err
		}
		if a.TotalCount >= n {
			return nil
		}
	}
	return fmt.Errorf("not all of %d machines run after 5 minutes", n)
}

// describe calls DescribeVMInstance from some clients for a while: calls a second, and all durations sorted.
func (s *server) describe(clients int, d time.Duration, params map[string]string) (float64, []time.Duration, error) {
	all := make([][]time.Duration, clients)
	start := time.Now()
	err := parallel(clients, func(i int) error {
		for time.Since(start) < d {
			at := time.Now()
			if _, err := s.call("DescribeVMInstance", params); err != nil {
				return err
			}
			all[i] = append(all[i], time.Since(at))
		}
		return nil
	})
	elapsed := time.Since(start)
	var took []time.Duration
	for _, a := range all {
		took = append(took, a...)
	}
	return float64(len(took)) / elapsed.Seconds(), sortDurations(took), err
}

// parallel runs f n times at once and answers the first error.
func parallel(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
