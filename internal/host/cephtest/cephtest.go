// Package cephtest runs a Ceph cluster of one monitor, one manager and one OSD for tests, with cephx, in a network
// namespace that the test made: nothing else is safe from its ports.
package cephtest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Pool and User of the cluster.
const (
	Pool = "vms"
	User = "lingyun"
)

// Cluster is a running one. It ends with its test.
type Cluster struct {
	ID      string // fsid
	Key     string // of User, who may use Pool alone
	Monitor string // where its monitor listens
	dir     string
	command Command
}

// Command prepares a program to be run in the cluster's namespace; the process started is the program itself.
type Command func(name string, args ...string) *exec.Cmd

// Need skips a test without the programs of a cluster; the packages are ceph-mon, ceph-mgr, ceph-osd, ceph-common and
// qemu-block-extra.
func Need(t testing.TB) {
	t.Helper()
	for _, program := range []string{"ceph-mon", "ceph-mgr", "ceph-osd", "ceph", "rbd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
}

const conf = `[global]
fsid = %[1]s
mon_host = %[3]s
public_addr = %[4]s
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = %[2]s/keyring
osd_pool_default_size = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_warn = 1
mon_data_avail_crit = 1
bluestore_block_size = 549755813888
bluestore_block_create = true
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
mgr_initial_modules =
mon_data = %[2]s/mon
mgr_data = %[2]s/mgr
osd_data = %[2]s/osd
run_dir = %[2]s/run
admin_socket = %[2]s/run/$name.asok
log_file = %[2]s/$name.log
`

// Start runs a cluster at an address of the namespace that command leads to. Its files are in dir, a short path: half a
// terabyte for disks that are thin, in a file that is sparse. It takes about 15 s.
func Start(t testing.TB, dir, address string, command Command) *Cluster {
	t.Helper()
	c := &Cluster{ID: uuid.NewString(), Monitor: address + ":3300", dir: dir, command: command}
	monitors := fmt.Sprintf("[v2:%[1]s:3300,v1:%[1]s:6789]", address)
	for _, d := range []string{"mon", "mgr", "osd", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(c.Conf(), fmt.Appendf(nil, conf, c.ID, dir, monitors, address), 0o600); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	monmap, keyring := filepath.Join(dir, "monmap"), filepath.Join(dir, "keyring")
	c.sh(t, "monmaptool", "--create", "--addv", "a", monitors, "--fsid", c.ID, monmap)
	for _, who := range [][]string{
		{"mon.", "--cap", "mon", "allow *"},
		{"client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"},
		{"mgr.x", "--cap", "mon", "allow profile mgr", "--cap", "osd", "allow *"},
		{"osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", "allow *", "--cap", "mgr", "allow profile osd"},
	} {
		args := []string{keyring, "--gen-key", "-n"}
		if who[0] == "mon." {
			args = append([]string{"--create-keyring"}, args...)
		}
		c.sh(t, "ceph-authtool", append(args, who...)...)
	}
	c.sh(t, "ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
	c.run(t, "ceph-mon", "a")
	c.Ceph(t, "--connect-timeout", "30", "-s")
	c.run(t, "ceph-mgr", "x")
	key := strings.TrimSpace(c.sh(t, "ceph-authtool", keyring, "-n", "osd.0", "-p"))
	secret, osd := filepath.Join(dir, "osd.json"), uuid.NewString()
	if err := os.WriteFile(secret, fmt.Appendf(nil, `{"cephx_secret":%q}`, key), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Ceph(t, "osd", "new", osd, "-i", secret)
	c.sh(t, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, "--key", key)
	c.run(t, "ceph-osd", "0")
	c.Ceph(t, "osd", "pool", "create", Pool, "8")
	c.sh(t, "rbd", "pool", "init", Pool)
	c.Key = strings.TrimSpace(c.Ceph(t, "auth", "get-or-create-key", "client."+User, "mon", "profile rbd", "osd", "profile rbd pool="+Pool))
	if _, err := base64.StdEncoding.DecodeString(c.Key); err != nil {
		t.Fatalf("the key of client.%s: %v", User, err)
	}
	t.Logf("a Ceph cluster runs after %s: %s", time.Since(begun).Round(100*time.Millisecond), strings.TrimSpace(c.sh(t, "ceph", "--version")))
	return c
}

// Conf is the configuration file of client.admin.
func (c *Cluster) Conf() string { return filepath.Join(c.dir, "ceph.conf") }

// Ceph asks the cluster something as client.admin.
func (c *Cluster) Ceph(t testing.TB, args ...string) string {
	t.Helper()
	return c.sh(t, "ceph", args...)
}

// RBD runs rbd as client.admin, on the pool.
func (c *Cluster) RBD(t testing.TB, args ...string) string {
	t.Helper()
	return c.sh(t, "rbd", append([]string{"-p", Pool}, args...)...)
}

// Export reads what the pool has of an image, from its start, and may be closed at any time; os.ErrNotExist: no such image.
func (c *Cluster) Export(image string) (io.ReadCloser, error) {
	if err := c.prepare("rbd", "info", Pool+"/"+image).Run(); err != nil {
		if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == 2 { // ENOENT
			return nil, os.ErrNotExist
		}
		return nil, err
	}
	cmd := c.prepare("rbd", "export", "--no-progress", Pool+"/"+image, "-")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return export{out, cmd}, cmd.Start()
}

// export is a running rbd export.
type export struct {
	io.Reader
	cmd *exec.Cmd
}

func (e export) Close() error {
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait() // by the signal
	return nil
}

// prepare makes a command of client.admin.
func (c *Cluster) prepare(program string, args ...string) *exec.Cmd {
	cmd := c.command(program, args...)
	cmd.Env = append(cmd.Environ(), "CEPH_CONF="+c.Conf())
	return cmd
}

func (c *Cluster) sh(t testing.TB, program string, args ...string) string {
	t.Helper()
	cmd := c.prepare(program, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s%s", program, args[0], err, out, stderr.String())
	}
	return string(out)
}

// run starts a daemon, which ends with the test.
func (c *Cluster) run(t testing.TB, program, id string) {
	t.Helper()
	log, err := os.Create(filepath.Join(c.dir, program+".out"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := c.prepare(program, "-f", "-i", id)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("%s: %s", program, b[max(0, len(b)-2000):])
		}
	})
}
