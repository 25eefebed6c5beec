// Package cephtest runs a Ceph cluster of one monitor, one manager and one OSD for tests, with cephx, on the loopback
// interface of a network namespace that the test made for itself: nothing else is safe from its ports.
package cephtest

import (
	"encoding/base64"
	"fmt"
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

// Monitor is where its monitor listens.
const Monitor = "127.0.0.1:3300"

// Cluster is a running one. It ends with its test.
type Cluster struct {
	ID  string // fsid
	Key string // of User, who may use Pool alone
	dir string
}

// Programs are what a cluster needs; the packages are ceph-mon, ceph-mgr, ceph-osd, ceph-common and qemu-block-extra.
func Programs() []string { return []string{"ceph-mon", "ceph-mgr", "ceph-osd", "ceph", "rbd"} }

const conf = `[global]
fsid = %[1]s
mon_host = [v2:127.0.0.1:3300,v1:127.0.0.1:6789]
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
bluestore_block_size = 4294967296
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

// Start runs a cluster whose files are in dir, a short path. It takes about 15 s.
func Start(t testing.TB, dir string) *Cluster {
	t.Helper()
	c := &Cluster{ID: uuid.NewString(), dir: dir}
	for _, d := range []string{"mon", "mgr", "osd", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(c.Conf(), fmt.Appendf(nil, conf, c.ID, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	monmap, keyring := filepath.Join(dir, "monmap"), filepath.Join(dir, "keyring")
	c.sh(t, "monmaptool", "--create", "--addv", "a", "[v2:127.0.0.1:3300,v1:127.0.0.1:6789]", "--fsid", c.ID, monmap)
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

func (c *Cluster) sh(t testing.TB, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "CEPH_CONF="+c.Conf())
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
	cmd := exec.Command(program, "-f", "-i", id)
	cmd.Env = append(os.Environ(), "CEPH_CONF="+c.Conf())
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
