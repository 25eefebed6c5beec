package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// wait bounds what a simulated cloud does at once.
const wait = 30 * time.Second

// terminal runs commands as a user would, with a home of its own.
type terminal struct {
	t    *testing.T
	home string
}

func open(t *testing.T) *terminal {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	t.Setenv("LINGYUN_PROFILE", "")
	t.Setenv("LANG", "C.UTF-8")
	return &terminal{t, home}
}

// run returns what the command wrote.
func (m *terminal) run(args ...string) (out, progress string, err error) {
	m.t.Helper()
	root := &cobra.Command{Use: "lingyun", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cli.Commands()...)
	var stdout, stderr bytes.Buffer
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(args)
	err = root.ExecuteContext(context.Background())
	return stdout.String(), stderr.String(), err
}

// must ends the test when the command fails.
func (m *terminal) must(args ...string) string {
	m.t.Helper()
	out, progress, err := m.run(args...)
	if err != nil {
		m.t.Fatalf("lingyun %s: %v\n%s%s", strings.Join(args, " "), err, out, progress)
	}
	return out
}

// object runs the command with -o json.
func (m *terminal) object(args ...string) map[string]any {
	m.t.Helper()
	var o map[string]any
	out := m.must(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		m.t.Fatalf("lingyun %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return o
}

func (m *terminal) list(args ...string) []map[string]any {
	m.t.Helper()
	var l []map[string]any
	out := m.must(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		m.t.Fatalf("lingyun %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return l
}

// refused runs a command that must fail with all these words in its message.
func (m *terminal) refused(words []string, args ...string) {
	m.t.Helper()
	_, _, err := m.run(args...)
	if err == nil {
		m.t.Fatalf("lingyun %s did not fail", strings.Join(args, " "))
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			m.t.Errorf("lingyun %s: %q is not in %q", strings.Join(args, " "), w, err)
		}
	}
}

func TestFromLoginToAnEmptyBin(t *testing.T) {
	dir := t.TempDir()
	controllertest.Start(t, controllertest.Options{Dir: dir})
	m := open(t)
	demo := filepath.Join(dir, "demo.json")

	m.refused([]string{"no such file"}, "vm", "list", "--profile", "nobody")
	if out := m.must("login", "--file", demo); !strings.Contains(out, "profile default") {
		t.Errorf("login says %q", out)
	}
	kept := filepath.Join(m.home, ".config", "lingyun", "default.json")
	info, err := os.Stat(kept)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v", kept, info.Mode())
	}
	if raw, _ := os.ReadFile(kept); bytes.Contains(raw, []byte("Password")) {
		t.Errorf("the profile keeps the password")
	}

	if l := m.list("vm", "list"); len(l) != 0 {
		t.Fatalf("machines before any was made: %v", l)
	}
	_, progress, err := m.run("vm", "create", "web", "--eip", "5")
	if err != nil {
		t.Fatalf("%v\n%s", err, progress)
	}
	if !strings.Contains(progress, "password: ") || !strings.Contains(progress, "Running") {
		t.Errorf("the progress of a create is %q", progress)
	}
	vm := m.object("vm", "show", "web")
	id, _ := vm["VMID"].(string)
	if vm["State"] != "Running" || !strings.HasPrefix(id, "vm-") {
		t.Fatalf("the machine is %v", vm)
	}
	out := m.must("vm", "list")
	if !strings.Contains(out, id) || !strings.Contains(out, "Running") || !strings.Contains(strings.SplitN(out, "\n", 2)[0], "STATE") {
		t.Errorf("the list is\n%s", out)
	}
	if out := m.must("vm", "ssh-info", id); !strings.Contains(out, "ssh root@198.18.") && !strings.Contains(out, "@198.18.") {
		t.Errorf("ssh-info says %q", out)
	}

	m.must("vm", "stop", "web")
	if vm = m.object("vm", "show", id); vm["State"] != "Stopped" {
		t.Errorf("after stop it is %v", vm["State"])
	}
	m.refused([]string{"code 1006"}, "vm", "stop", "web")
	m.must("vm", "start", id)
	m.must("vm", "restart", id)
	m.must("vm", "poweroff", id)
	// --async answers before it is done.
	if s := m.object("vm", "start", id, "--async")["State"]; s != "Starting" && s != "Running" {
		t.Errorf("an asynchronous start shows %v", s)
	}
	controllertest.Eventually(t, wait, "the machine runs", func() bool { return m.object("vm", "show", id)["State"] == "Running" })

	eip := m.object("eip", "allocate", "--name", "second", "--bandwidth", "3")
	eipID, _ := eip["EIPID"].(string)
	if eip["Status"] != "Free" {
		t.Fatalf("the address is %v", eip)
	}
	m.must("eip", "bind", "second", "web")
	if e := m.object("eip", "show", eipID); e["Status"] != "Bound" || e["BindResourceID"] != id {
		t.Errorf("bound it is %v", e)
	}
	m.must("eip", "unbind", eipID)
	m.refused([]string{"bound to nothing"}, "eip", "unbind", eipID)
	m.must("eip", "release", eipID, "--destroy")

	m.must("sg", "create", "shop", "--rule", "TCP|8080|0.0.0.0/0|ACCEPT|HIGH|1")
	if out := m.must("sg", "add-rule", "shop", "TCP|9090|0.0.0.0/0|ACCEPT|LOW|1", "--remark", "the till"); !strings.Contains(out, "9090") || !strings.Contains(out, "8080") || !strings.Contains(out, "the till") {
		t.Errorf("the rules are\n%s", out)
	}
	if out := m.must("sg", "show", "shop"); !strings.Contains(out, "8080") {
		t.Errorf("the group is\n%s", out)
	}
	for _, args := range [][]string{{"image", "list"}, {"vpc", "list"}, {"subnet", "list"}, {"region", "list"}, {"region", "vm-types"}, {"region", "disk-types"}} {
		if l := m.list(args...); len(l) == 0 {
			t.Errorf("%v lists nothing", args)
		}
	}

	m.must("vm", "delete", "web")
	if l := m.list("recycle", "list"); !has(l, "ResourceID", id) {
		t.Errorf("the bin has %v", l)
	}
	m.must("recycle", "restore", id)
	if vm = m.object("vm", "show", id); vm["State"] != "Stopped" {
		t.Errorf("restored it is %v", vm["State"])
	}
	m.must("vm", "delete", id, "--destroy")
	if l := m.list("recycle", "list"); has(l, "ResourceID", id) {
		t.Errorf("the bin still has %v", l)
	}
	if l := m.list("log", "list", "--resource", id); !has(l, "APIName", "CreateVMInstance") || !has(l, "APIName", "DeleteVMInstance") {
		t.Errorf("the log has %v", l)
	}

	if out := m.must("call", "DescribeVMInstance", "Limit=1"); !strings.Contains(out, `"RetCode": 0`) {
		t.Errorf("call prints %s", out)
	}
	out, _, err = m.run("call", "StartVMInstance", "VMID=vm-nothing")
	var refused *cli.Error
	if !errors.As(err, &refused) || refused.Code != 1004 || !strings.Contains(out, `"RetCode": 1004`) {
		t.Errorf("call of what is refused: %v\n%s", err, out)
	}
	m.refused([]string{"no VM nothing"}, "vm", "start", "nothing")
	m.refused([]string{"table or json"}, "vm", "list", "-o", "yaml")
}

func has(list []map[string]any, field, value string) bool {
	for _, o := range list {
		if o[field] == value {
			return true
		}
	}
	return false
}

func TestCompletionOffersIDs(t *testing.T) {
	dir := t.TempDir()
	controllertest.Start(t, controllertest.Options{Dir: dir})
	m := open(t)
	t.Setenv("LINGYUN_PROFILE", filepath.Join(dir, "demo.json"))
	vm := m.object("vm", "create", "web")
	if out := m.must(cobra.ShellCompRequestCmd, "vm", "start", ""); !strings.Contains(out, vm["VMID"].(string)+"\tweb") {
		t.Errorf("completion offers %q", out)
	}
	if out := m.must(cobra.ShellCompRequestCmd, "eip", "bind", "eip-x", ""); !strings.Contains(out, vm["VMID"].(string)) {
		t.Errorf("completion of the second argument offers %q", out)
	}
}

// A machine that keys let into gets no password.
func TestCreateWithKeys(t *testing.T) {
	dir := t.TempDir()
	controllertest.Start(t, controllertest.Options{Dir: dir})
	m := open(t)
	t.Setenv("LINGYUN_PROFILE", filepath.Join(dir, "demo.json"))
	m.must("vm", "keypair", "create", "mine")
	_, progress, err := m.run("vm", "create", "web", "--key", "mine", "--dns", "192.0.2.53")
	if err != nil || strings.Contains(progress, "password:") {
		t.Fatalf("%v: %s", err, progress)
	}
	if vm := m.object("vm", "show", "web"); vm["DNS"] != "192.0.2.53" || len(vm["KeyPairIDs"].([]any)) != 1 {
		t.Errorf("it has %v and %v", vm["KeyPairIDs"], vm["DNS"])
	}
}

func TestProfiles(t *testing.T) {
	m := open(t)
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "p.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	m.refused([]string{"Endpoint"}, "vm", "list", "--profile", write(`{"Endpoint":"ftp://x","PublicKey":"a","PrivateKey":"b"}`))
	m.refused([]string{"PrivateKey"}, "vm", "list", "--profile", write(`{"Endpoint":"http://127.0.0.1:1/api","PublicKey":"a"}`))
	m.refused([]string{"name"}, "vm", "list", "--profile", "..")
	m.refused([]string{"does not accept"}, "login", "--file", write(`{"Endpoint":"http://127.0.0.1:1/api","PublicKey":"a","PrivateKey":"b"}`))
	if _, err := os.Stat(filepath.Join(m.home, ".config", "lingyun")); !os.IsNotExist(err) {
		t.Errorf("a login that failed left something: %v", err)
	}
}

// A controller that restarts while a command waits is no failure of the command.
func TestWaitingOutlivesTheController(t *testing.T) {
	dir := t.TempDir()
	c := controllertest.Start(t, controllertest.Options{Dir: dir})
	m := open(t)
	var down atomic.Int32
	path := between(t, c.URL, dir, func(body []byte) {
		if bytes.Contains(body, []byte("Action=CreateVMInstance")) {
			down.Store(3)
		} else if down.Add(-1) >= 0 {
			panic(http.ErrAbortHandler) // the connection ends without an answer
		}
	})
	out, progress, err := m.run("vm", "create", "web", "--profile", path)
	if err != nil || !strings.Contains(out, "Running") || !strings.Contains(progress, "does not answer") {
		t.Errorf("%v\n%s%s", err, out, progress)
	}
}

// between puts something between clients and a controller, which sees every call first, and answers the demo
// tenant's profile that leads there.
func between(t *testing.T, address, dir string, see func(body []byte)) (profile string) {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target.Host})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		see(body)
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	raw, err := os.ReadFile(filepath.Join(dir, "demo.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p cli.Profile
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	p.Endpoint = front.URL + "/api"
	raw, _ = json.Marshal(p)
	profile = filepath.Join(dir, "front.json")
	if err := os.WriteFile(profile, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return profile
}

// An upload that breaks off goes on where it was.
func TestUploadGoesOn(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed")
	}
	dir := t.TempDir()
	c := controllertest.Start(t, controllertest.Options{Dir: dir})
	m := open(t)
	file := filepath.Join(t.TempDir(), "box.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-f", "qcow2", file, "1G").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Truncate(file, 5<<19); err != nil { // three parts; what follows the last cluster is nothing
		t.Fatal(err)
	}
	var calls atomic.Int32
	front := between(t, c.URL, dir, func(body []byte) {
		if bytes.Contains(body, []byte("Action=UploadImagePart")) && calls.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
	})
	_, progress, err := m.run("image", "upload", file, "--part", "1", "--profile", front)
	if err == nil || !strings.Contains(progress, "part 1, 1048576 bytes") {
		t.Fatalf("%v\n%s", err, progress)
	}
	_, resume, _ := strings.Cut(err.Error(), "--resume ")
	out, progress, err := m.run("image", "upload", file, "--resume", resume, "--profile", front)
	if err != nil || !strings.Contains(progress, "part 1 has come\npart 2, 1048576 bytes\npart 3, 524288 bytes\n") || !strings.Contains(out, "Used") {
		t.Errorf("%v\n%s%s", err, out, progress)
	}
}

// TestEdge runs the commands about segments, groups and addresses.
func TestEdge(t *testing.T) {
	dir := t.TempDir()
	controllertest.Start(t, controllertest.Options{Dir: dir})
	m := open(t)
	m.must("login", "--file", filepath.Join(dir, "demo.json"))
	m.must("login", "--profile", "admin", "--file", filepath.Join(dir, "admin.json"))
	m.must("--profile", "admin", "segment", "create", "lan", "203.0.113.0/24", "--device", "ext2", "--vlan", "7", "--range", "203.0.113.10-203.0.113.20", "--routing", "Specified")
	m.must("--profile", "admin", "segment", "route", "lan", "192.0.2.0/24", "203.0.113.1")
	if out := m.must("segment", "routes", "lan"); !strings.Contains(out, "192.0.2.0/24") {
		t.Error(out)
	}
	if out := m.must("--profile", "admin", "segment", "update", "lan", "--range", "203.0.113.10-203.0.113.30", "--bandwidth", "100"); !strings.Contains(out, "203.0.113.10-203.0.113.30") {
		t.Error(out)
	}
	m.must("eip", "allocate", "--segment", "lan", "--bandwidth", "5", "--name", "address")
	if out := m.must("eip", "bandwidth", "address", "6"); !strings.Contains(out, "6 Mbps") {
		t.Error(out)
	}
	m.must("ipgroup", "create", "office", "192.0.2.7", "198.51.100.0/24")
	group := m.list("ipgroup", "list")[0]["IPGroupID"].(string)
	m.must("portgroup", "create", "web", "TCP:80", "TCP:443")
	ports := m.list("portgroup", "list")[0]["PortGroupID"].(string)
	m.must("sg", "create", "front", "--rule", "TCP|"+ports+"|"+group+"|ACCEPT|HIGH|1")
	rule := m.list("sg", "list")[1]["Rule"].([]any)[0].(map[string]any)["RuleID"].(string)
	m.must("ipgroup", "update", "office", "192.0.2.8")
	if out := m.must("sg", "set-rule", "front", rule, "TCP|22|any|DROP|LOW|1"); !strings.Contains(out, "DROP") {
		t.Error(out)
	}
	m.must("ipgroup", "delete", "office")
	m.must("sg", "resources", "front")
	m.must("sg", "delete-rule", "front", rule)
	m.must("sg", "delete", "front")
	m.must("eip", "release", "address", "--destroy")
	m.must("--profile", "admin", "segment", "permit", "lan", "--mode", "whitelist")
	m.must("--profile", "admin", "segment", "delete", "lan")
}
