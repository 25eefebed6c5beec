package fabric

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// central is OVN's databases and northd in a folder of the test's own, spoken to
// over unix sockets only.
type central struct {
	t          testing.TB
	dir        string
	north      *exec.Cmd
	south      *exec.Cmd
	northd     *exec.Cmd
	extraNorth []string
}

// startCentral starts OVN's central part. It needs no root.
func startCentral(t testing.TB) *central {
	t.Helper()
	dir, err := os.MkdirTemp("", "fabric") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &central{t: t, dir: dir}
	c.createNorth()
	run(t, "ovsdb-tool", "create", c.path("sb.db"), "/usr/share/ovn/ovn-sb.ovsschema")
	c.south = c.serve("sb")
	c.startNorth()
	c.northd = c.spawn("ovn-northd", "--pidfile="+c.path("northd.pid"), "--unixctl="+c.path("northd.ctl"), "--log-file="+c.path("northd.log"), "-vconsole:off",
		"--ovnnb-db="+c.northbound(), "--ovnsb-db="+c.southbound())
	return c
}

func (c *central) path(name string) string { return filepath.Join(c.dir, name) }
func (c *central) northbound() string      { return "unix:" + c.path("nb.sock") }
func (c *central) southbound() string      { return "unix:" + c.path("sb.sock") }

func (c *central) createNorth() {
	run(c.t, "ovsdb-tool", "create", c.path("nb.db"), "/usr/share/ovn/ovn-nb.ovsschema")
}

func (c *central) startNorth() {
	c.north = c.serve("nb")
	c.nbctl("init")
}

func (c *central) serve(name string, more ...string) *exec.Cmd {
	args := append(more, "--remote=punix:"+c.path(name+".sock"), "--unixctl="+c.path(name+".ctl"),
		"--pidfile="+c.path(name+".pid"), "--log-file="+c.path(name+".log"), "-vconsole:off", c.path(name+".db"))
	cmd := c.spawn("ovsdb-server", args...)
	eventually(c.t, name+" listens", func() error {
		_, err := os.Stat(c.path(name + ".sock"))
		return err
	})
	return cmd
}

// spawn starts a program that ends with the test.
func (c *central) spawn(program string, args ...string) *exec.Cmd {
	c.t.Helper()
	return spawn(c.t, program, args...)
}

func spawn(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := start(cmd); err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	t.Cleanup(func() {
		stop(cmd)
		if t.Failed() && out.Len() > 0 {
			t.Logf("%s: %s", program, out.String())
		}
	})
	return cmd
}

// start starts a program that dies with this process, however it ends. The signal
// comes when the thread ends that started it: so one thread starts them all and stays.
func start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	starterOnce.Do(func() {
		go func() {
			runtime.LockOSThread()
			for f := range starter {
				f()
			}
		}()
	})
	done := make(chan error)
	starter <- func() { done <- cmd.Start() }
	return <-done
}

var (
	starter     = make(chan func())
	starterOnce sync.Once
)

func stop(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// nbctl is what an operator sees and does.
func (c *central) nbctl(args ...string) string {
	c.t.Helper()
	return run(c.t, "ovn-nbctl", append([]string{"--no-leader-only", "--db=" + c.northbound(), "--timeout=20"}, args...)...)
}

func (c *central) sbctl(args ...string) string {
	c.t.Helper()
	return run(c.t, "ovn-sbctl", append([]string{"--no-leader-only", "--db=" + c.southbound(), "--timeout=20"}, args...)...)
}

// open is a fabric on this central.
func (c *central) open() *ovn {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	f, err := OpenOVN(ctx, Options{Northbound: c.northbound(), Southbound: c.southbound()})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { f.Close() })
	return f.(*ovn)
}

// dump is the content of the northbound, a line a row, without what OVN itself
// fills in: the global row, and whether a port is up.
func (c *central) dump() string {
	c.t.Helper()
	var rows []string
	d := json.NewDecoder(strings.NewReader(run(c.t, "ovsdb-client", "-f", "json", "dump", c.northbound(), "OVN_Northbound")))
	for {
		var table struct {
			Caption  string
			Headings []string
			Data     [][]any
		}
		if err := d.Decode(&table); err == io.EOF {
			break
		} else if err != nil {
			c.t.Fatal(err)
		}
		if strings.HasPrefix(table.Caption, "NB_Global") {
			continue
		}
		for _, data := range table.Data {
			row := table.Caption
			for i, h := range table.Headings {
				if h != "up" {
					row += fmt.Sprintf(" %s=%v", h, data[i])
				}
			}
			rows = append(rows, row)
		}
	}
	slices.Sort(rows)
	return strings.Join(rows, "\n")
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := tryRun(program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryRun(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	if err := within(20*time.Second, ok); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func within(limit time.Duration, ok func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
