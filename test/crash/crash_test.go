// Package crash kills the real controller under load, again and again, and looks at
// what is left: nothing stuck, lost, doubled or leaked 10 s after each restart.
//
// LINGYUN_CRASH_KILLS says how often in all (20; `make test-long` takes 1,000), and
// LINGYUN_CRASH_SEED repeats the choices of an earlier run; their timing differs.
package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

type p = controllertest.P

const (
	hosts   = 50
	clients = 6
	// settleTime is the promise: so long after a restart nothing is in a transitional state.
	settleTime = 10 * time.Second
)

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestKilledUnderLoad(t *testing.T) {
	kills := int(number(t, "LINGYUN_CRASH_KILLS", 20))
	seed := number(t, "LINGYUN_CRASH_SEED", rand.Uint64())
	t.Logf("%d kills, LINGYUN_CRASH_SEED=%d", kills, seed)
	binary := filepath.Join(t.TempDir(), "lingyun")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/lingyun-cloud/lingyun/cmd/lingyun")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	onPostgres := (kills + 2) / 3
	t.Run("sqlite", func(t *testing.T) {
		run(t, binary, "", kills-onPostgres, seed)
	})
	t.Run("postgres", func(t *testing.T) {
		run(t, binary, dbtest.PostgresOptions(t).URL, onPostgres, seed+1)
	})
}

func run(t *testing.T, binary, url string, kills int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, binary: binary, dir: t.TempDir(), url: url, address: address}
	t.Cleanup(s.kill)
	s.start()
	s.ready(time.Now().Add(time.Minute))
	w := newLoad(t, s)
	slowest := time.Duration(0)
	for n := range kills {
		stop := w.begin(random.Uint64())
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond) // when the kill comes is the test, not a wait
		s.kill()
		stop()
		started := time.Now()
		s.start()
		for random.IntN(4) == 0 { // and sometimes before it is up again
			time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
			s.kill()
			started = time.Now()
			s.start()
		}
		s.ready(started.Add(settleTime))
		w.settled(started.Add(settleTime))
		took := time.Since(started)
		slowest = max(slowest, took)
		w.nothingLost()
		s.doctor()
		if t.Failed() {
			t.Fatalf("after kill %d:\n%s", n+1, s.tail())
		}
	}
	all, never := 0, []string{}
	for name := range w.deeds {
		if all += w.accepted[name]; w.accepted[name] == 0 {
			never = append(never, fmt.Sprintf("%s (%s)", name, w.refused[name]))
		}
	}
	slices.Sort(never)
	t.Logf("%d kills: %d requests accepted; settled at the latest %v after the restart; accepted never:\n%s", kills, all, slowest.Round(10*time.Millisecond), strings.Join(never, "\n"))
	if kills > 10 && len(never) > len(w.deeds)/5 {
		t.Error("much of what the load wanted was never accepted: this proves little")
	}
}

// server is the controller's process.
type server struct {
	t                         *testing.T
	binary, dir, url, address string
	cmd                       *exec.Cmd
}

func (s *server) start() {
	s.t.Helper()
	args := []string{"server", "--data", s.dir, "--listen", s.address, "--simulate", strconv.Itoa(hosts), "--log-level", "warn"}
	if s.url != "" {
		args = append(args, "--database", s.url)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(s.binary, args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (s *server) tail() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8000):])
}

func (s *server) ready(deadline time.Time) {
	s.t.Helper()
	for {
		answer, err := http.Get("http://" + s.address + "/readyz")
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
			err = errors.New(answer.Status)
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the controller is not ready: %v\n%s", err, s.tail())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// doctor runs the command that an operator would.
func (s *server) doctor() {
	s.t.Helper()
	args := []string{"doctor", "--data", s.dir}
	if s.url != "" {
		args = append(args, "--database", s.url)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, s.binary, args...).CombinedOutput(); err != nil {
		s.t.Errorf("lingyun doctor: %v\n%s", err, out)
	}
}

// load is what the demo tenant's clients and administrators do, and what they were promised.
type load struct {
	t       *testing.T
	s       *server
	demo    *controllertest.Client
	admin   *controllertest.Client
	company int // theirs
	spec    p   // of a machine
	names   []string
	deeds   product

	mu       sync.Mutex
	accepted map[string]int    // calls, by action
	refused  map[string]string // the last message, by action
	uploads  []upload
	keyed    []p // bindings of key pairs
	lists    map[string]listing
	made     map[string]bool // answered to a create
	dropped  map[string]bool // asked to be destroyed, by any client, perhaps before the creator had its answer
}

func newLoad(t *testing.T, s *server) *load {
	t.Helper()
	w := &load{t: t, s: s, demo: &controllertest.Client{}, admin: &controllertest.Client{}, accepted: map[string]int{}, refused: map[string]string{}, lists: map[string]listing{},
		made: map[string]bool{}, dropped: map[string]bool{}}
	w.names, w.deeds = draw()
	for name, who := range map[string]*controllertest.Client{"demo.json": w.demo, "admin.json": w.admin} {
		text, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, who); err != nil {
			t.Fatal(err)
		}
		who.URL = "http://" + s.address + "/api"
	}
	file := filepath.Join(s.dir, "import", baseFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "qemu-img", "create", "-f", "qcow2", file, "1G").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	first := func(name string) controllertest.Info {
		infos := w.demo.Must(t, name, nil).Infos()
		if len(infos) == 0 {
			t.Fatalf("%s lists nothing", name)
		}
		return infos[0]
	}
	vpc, image, group := first("DescribeVPC"), first("DescribeImage"), first("DescribeSecurityGroup")
	w.company = vpc.Int("CompanyID")
	w.spec = p{
		"Name": named, "VMType": fleet.FirstVMType, "BootDiskSetType": fleet.FirstStorageType,
		"ImageID": image.String("ImageID"), "CPU": 1, "Memory": 1024, "VPCID": vpc.String("VPCID"),
		"SubnetID": first("DescribeSubnet").String("SubnetID"), "WANSGID": group.String("SGID"),
		"ChargeType": "Dynamic", "Password": "Crashing.1",
	}
	return w
}

// begin lets the clients call until the returned function is called.
func (w *load) begin(seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for n := range clients {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := w.step(random); err != nil {
					select { // the server is gone, or starting
					case <-ctx.Done():
					case <-time.After(5 * time.Millisecond):
					}
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		clear(w.lists)
	}
}

// call sends a request. Refusals are part of the load; an error is of the transport.
func (w *load) call(who *controllertest.Client, name string, more ...p) (controllertest.Response, error) {
	r, err := who.Try(with(more...).Values(name))
	if err == nil && r.Code == 2 {
		// The killed server may answer it with its last breath, about its own canceled work.
		w.t.Logf("%s: code 2, %s", name, r.Message)
	}
	return r, err
}

// step does one thing that a tenant or an administrator does. For one that cannot be done, and never could, it does one
// of those that make what it needs.
func (w *load) step(random *rand.Rand) error {
	name := w.choose(random)
	for range 4 {
		done, err := w.try(random, name)
		before := w.deeds[name].after
		if done || err != nil || len(before) == 0 {
			return err
		}
		name = before[random.IntN(len(before))]
	}
	return nil
}

// choose draws an action: as often as it is said to be done, or, half of the time, the one of a few that was accepted
// least.
func (w *load) choose(random *rand.Rand) string {
	name := w.names[random.IntN(len(w.names))]
	if random.IntN(2) == 0 {
		return name
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for range 5 {
		if other := w.names[random.IntN(len(w.names))]; w.accepted[other] < w.accepted[name] {
			name = other
		}
	}
	return name
}

// try calls an action, and tells whether it was accepted, now or at some time before.
func (w *load) try(random *rand.Rand, name string) (done bool, err error) {
	u := &user{load: w, random: random}
	d := w.deeds[name]
	q := d.ask(u)
	if u.missing {
		return false, u.err
	}
	who := w.demo
	if d.admin {
		who = w.admin
	}
	w.drop(name, q)
	r, err := w.call(who, name, q)
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	if r.Code != 0 {
		w.refused[name] = r.Message
		done = w.accepted[name] > 0
		w.mu.Unlock()
		return done, nil
	}
	w.accepted[name]++
	if id := r.String(promised[name]); id != "" {
		w.made[id] = true
	}
	w.mu.Unlock()
	if d.then != nil {
		d.then(u, q, r)
	}
	return true, nil
}

// promised are the ids that stay until somebody destroys what they are of, by action.
var promised = map[string]string{"CreateVMInstance": "VMID", "AllocateEIP": "EIPID", "CreateDisk": "DiskID", "CloneDisk": "DiskID",
	"CreateDiskFromSnapshot": "DiskID", "CreateVPC": "VPCID", "CreateSubnet": "SubnetID", "AllocateVIP": "VIPID",
	"CreateSecurityGroup": "SGID", "CreateKeyPair": "KeyPairID", "CreateTimer": "TimerID", "ImportImage": "ImageID"}

// drop notes what a request may destroy: not what it sends to the recycle bin, unless that failed and leaves nothing.
func (w *load) drop(name string, q p) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if disk, ok := q["BootDiskID"].(string); ok {
		w.dropped[disk] = true // it goes with its machine
	}
	field := map[string]thing{"DeleteVMInstance": vms, "DeleteDisk": disks, "ReleaseEIP": eips}[name]
	for _, infos := range w.lists {
		for _, i := range infos.infos {
			if id, _ := q[field.id].(string); field.id != "" && i.String(field.id) == id && i.String(field.state) != "Failed" && slices.Contains(settledStates[field.list], i.String(field.state)) {
				return
			}
		}
	}
	for _, verb := range []string{"Delete", "Release", "Terminate", "Abort"} {
		if strings.HasPrefix(name, verb) {
			for _, v := range q {
				if id, ok := v.(string); ok {
					w.dropped[id] = true
				}
			}
		}
	}
}

// all lists every row.
func (w *load) all(name string) []controllertest.Info {
	w.t.Helper()
	var infos []controllertest.Info
	for {
		page := w.demo.Must(w.t, name, p{"Limit": 100, "Offset": len(infos)}).Infos()
		infos = append(infos, page...)
		if len(page) < 100 {
			return infos
		}
	}
}

var settledStates = map[string][]string{
	"DescribeVMInstance":       {"Running", "Stopped", "Failed"},
	"DescribeEIP":              {"Free", "Bound"},
	"DescribeDisk":             {"Unbound", "Bound", "Failed"},
	"DescribeRecycledResource": {"Deleted"},
}

// settled waits until no resource is in a transitional state and the hosts hold what the rows say.
func (w *load) settled(deadline time.Time) {
	w.t.Helper()
	for {
		stuck := w.unsettled()
		if len(stuck) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%v after the restart: %s\n%s", settleTime, strings.Join(stuck, "; "), w.s.tail())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *load) unsettled() (stuck []string) {
	w.t.Helper()
	running := 0
	for name, states := range settledStates {
		for _, i := range w.all(name) {
			state := i.String(map[string]string{"DescribeEIP": "Status", "DescribeDisk": "DiskStatus"}[name])
			if state == "" {
				state = i.String("State")
			}
			if name == "DescribeVMInstance" && state == "Running" {
				running++
			}
			if !slices.Contains(states, state) {
				stuck = append(stuck, fmt.Sprintf("%s: %v is %s", name, i, state))
			}
		}
	}
	var open, volumes int
	db, err := database.OpenReadOnly(w.t.Context(), database.Options{Dir: w.s.dir, URL: w.s.url})
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	if err := db.Reader().NewRaw("SELECT (SELECT count(*) FROM operation WHERE ended_at = 0), (SELECT count(*) FROM disk WHERE ended_at = 0)").Scan(w.t.Context(), &open, &volumes); err != nil {
		w.t.Fatal(err)
	}
	if open > 0 {
		stuck = append(stuck, fmt.Sprintf("%d operations are open", open))
	}
	onHosts := w.simulated()
	if onHosts.Running != running || onHosts.Volumes != volumes {
		stuck = append(stuck, fmt.Sprintf("hosts run %d machines and hold %d volumes; rows say %d and %d", onHosts.Running, onHosts.Volumes, running, volumes))
	}
	return stuck
}

type counts struct{ Running, Volumes int }

// simulated sums up what the simulated hosts hold.
func (w *load) simulated() (sum counts) {
	w.t.Helper()
	answer, err := http.Get("http://" + w.s.address + "/simulate")
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var status struct{ Hosts []counts }
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&status); err != nil || len(status.Hosts) != hosts {
		w.t.Fatalf("GET /simulate: %v, %.300s", err, body)
	}
	for _, h := range status.Hosts {
		sum.Running += h.Running
		sum.Volumes += h.Volumes
	}
	return sum
}

// nothingLost holds the cloud to its answers: what a create returned is there, or in the bin, until it is destroyed.
func (w *load) nothingLost() {
	w.t.Helper()
	there := map[string]bool{}
	for _, k := range []thing{vms, eips, disks, networks, subnets, vips, groups, keyPairs, timers, images, binned} {
		for _, i := range w.all(k.list) {
			there[i.String(k.id)] = true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.made {
		if !there[id] && !w.dropped[id] {
			w.t.Errorf("%s was answered to a client and is lost", id)
		}
	}
}
