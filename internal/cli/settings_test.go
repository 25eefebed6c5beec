package cli_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// TestSettings changes what there is without making anything new, by names as people type them.
func TestSettings(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 2})
	m := open(t)
	m.must("login", "--file", filepath.Join(c.Config.Dir, "demo.json"))
	m.must("login", "--profile", "admin", "--file", filepath.Join(c.Config.Dir, "admin.json"))
	vm := m.object("vm", "create", "web")["VMID"].(string)
	m.must("disk", "create", "--name", "data", "--space", "10")

	m.must("vm", "set", "web", "--hostname", "shop", "--dns", "10.0.0.53,10.0.0.54", "--availability", "None", "--boot-order", "cdrom,hd", "--hotplug")
	if o := m.object("vm", "show", "web"); o["Hostname"] != "shop" || o["HighAvailability"] != "None" {
		t.Errorf("after set: %v", o)
	}
	m.refused([]string{"--help"}, "vm", "set", "web")
	m.refused([]string{"HighAvailability must be one of NeverStop, None"}, "vm", "set", "web", "--availability", "Sometimes")
	picture := filepath.Join(t.TempDir(), "web.png")
	m.must("vm", "screenshot", "web", picture)
	if raw, err := os.ReadFile(picture); err != nil || !bytes.HasPrefix(raw, []byte("\x89PNG")) {
		t.Errorf("the screenshot: %.20q, %v", raw, err)
	}
	m.must("vm", "stop", "web")
	data := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(data, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.must("vm", "set", "web", "--user-data", data, "--cpu-mode", "host-passthrough")
	m.must("vm", "replace-ip", "web", "10.0.0.77")
	if l := m.list("vm", "disc", "list", "web"); len(l) != 0 {
		t.Errorf("discs of a new machine: %v", l)
	}
	m.refused([]string{"there is no image"}, "vm", "disc", "insert", "web", "none")

	for _, noun := range []string{"vm", "disk"} {
		old := map[string]string{"vm": "web", "disk": "data"}[noun]
		m.must(noun, "rename", old, old+"-two", "--remark", "kept")
		if o := m.object(noun, "show", old+"-two"); o["Name"] != old+"-two" || o["Remark"] != "kept" {
			t.Errorf("%s after rename: %v", noun, o)
		}
		m.must(noun, "rename", old+"-two", old)
		if o := m.object(noun, "show", old); o["Remark"] != "kept" {
			t.Errorf("%s lost its remark: %v", noun, o)
		}
	}

	// Names work where any resource is meant; one that two have is refused with both ids.
	m.must("tag", "bind", "web", "env=test", "team=red")
	m.must("tag", "set", "web", "env=prod")
	if l := m.list("tag", "resources", "env=prod"); len(l) != 1 || l[0]["ResourceID"] != vm {
		t.Errorf("tagged: %v", l)
	}
	if l := m.list("tag", "resources", "team"); len(l) != 0 {
		t.Errorf("a tag that was replaced: %v", l)
	}
	m.must("tag", "create", "stage", "one", "two")
	if !has(m.list("tag", "bindable", "VM"), "ResourceID", vm) {
		t.Error("the machine can bear no tag")
	}
	m.must("renew", "auto", "off", "web", "data")
	m.must("renew", "web", "--price")
	m.must("project", "create", "shop")
	m.must("project", "move", "shop", "web")
	m.refused([]string{"there is no resource nothing"}, "renew", "nothing")
	for range 2 {
		m.must("disk", "create", "--name", "twin", "--space", "10")
	}
	m.refused([]string{"2 disks are named twin", "disk-"}, "tag", "bind", "twin", "a=b")

	m.must("timer", "create", "nightly", "--disk", "data", "--hour", "3", "--keep", "7")
	if o := m.object("timer", "update", "nightly", "--weekday", "1", "--hour", "4"); o["Type"] != "TIMER_TYPE_WEEKLY" || fmt.Sprint(o["Hours"]) != "[4]" || fmt.Sprint(o["KeepNum"]) != "7" || len(o["ResourceIDs"].([]any)) != 1 {
		t.Errorf("the timer is %v", o)
	}

	for _, quote := range [][]string{{"vm", "--cpu", "2", "--memory", "4096", "--eip", "5", "--charge", "Month"}, {"disk", "--space", "100"}, {"eip", "Bgp", "10"}, {"nic", "Bgp", "10"}, {"vip", "Bgp", "10"},
		{"resize", vm, "2", "4096"}, {"grow", "data", "20"}} {
		l := m.list(append([]string{"price"}, quote...)...)
		change := quote[0] == "resize" || quote[0] == "grow" // costs nothing within an hour that is paid
		if len(l) == 0 || (l[0]["Price"].(float64) > 0) == change {
			t.Errorf("price %v: %v", quote, l)
		}
	}
	m.must("eip", "allocate", "--name", "door", "--bandwidth", "5", "--charge", "Month")
	if l := m.list("price", "bandwidth", "door", "50"); len(l) == 0 || l[0]["Price"].(float64) <= 0 {
		t.Errorf("price bandwidth: %v", l)
	}

	m.must("nic", "create", "second", "--subnet", "default")
	m.must("nic", "mac", "second", "02:00:00:00:00:77")
	if o := m.object("nic", "check-mac", "02:00:00:00:00:77"); o["InUse"] != true {
		t.Errorf("the MAC: %v", o)
	}
	if o := m.object("subnet", "free", "default"); o["UsedCount"].(float64) < 1 {
		t.Errorf("addresses: %v", o)
	}
	if out := m.must("eip", "check", "10.0.0.99", "--subnet", "default"); !strings.Contains(out, "is free") {
		t.Errorf("check: %s", out)
	}
	m.refused([]string{"10.0.0.77"}, "eip", "check", "10.0.0.77", "--subnet", "default")
	if o := m.object("vpc", "topology", "default"); len(o["Nodes"].([]any)) < 2 {
		t.Errorf("the topology: %v", o)
	}
	hop := m.object("vpc", "show", "default")["VPCID"]
	if hop == "" {
		t.Fatal("no VPC")
	}
	route := strings.TrimSpace(m.must("route", "create", "default", "10.50.0.0/16", "VM", vm))
	m.must("route", "update", "default", route, "Custom", "10.0.0.88")

	m.must("vm", "start", vm)
	m.must("vm", "stop", vm)
	image := m.object("image", "create", vm, "golden")["ImageID"].(string)
	m.must("image", "set", "golden", "--version", "13")
	m.must("image", "set", "golden", "--agent")
	if o := m.object("image", "show", "golden"); o["OSName"] != "Debian 13" || o["SupportQGA"] != true {
		t.Errorf("the image: %v", o)
	}
	m.must("image", "systems")
	base := strings.TrimSpace(m.must("image", "base", "create", image, "for-all", "--profile", "admin"))
	if !has(m.list("image", "base", "list", "--profile", "admin"), "ImageID", base) {
		t.Errorf("%s is no base image", base)
	}
	m.must("image", "base", "delete", base, "--profile", "admin")
	m.must("bill", "detail")
	m.must("log", "export")
	tenant := fmt.Sprint(c.Demo.Company)
	m.must("withdrawal", "add", tenant, "10", "--gift", "--profile", "admin")
	m.must("withdrawal", "show", tenant, "--profile", "admin")
	if l := m.list("withdrawal", "list", "--profile", "admin"); len(l) != 1 {
		t.Errorf("withdrawals: %v", l)
	}
	m.must("price", "discounts", tenant, "--profile", "admin")
	m.must("spec", "templates")
	m.must("config", "get", "SnapshotsPerDisk", "--here", "--profile", "admin")
	m.must("licence", "nodes", "--profile", "admin")
	m.must("licence", "collect", filepath.Join(t.TempDir(), "bundle"), "--profile", "admin")
}

// withoutCommand are actions of the modules below that people reach another way, or not at all.
var withoutCommand = map[string]string{
	"DescribeSecurityGroupRule": "sg show",
	"DescribeQuota":             "quota list",
	"ImportBaseImage":           "image import, on the server's machine",
	"BindPhysicalIP":            "of older clients: eip", "CreatePhysicalIP": "of older clients: eip", "DeletePhysicalIP": "of older clients: eip",
	"DescribePhysicalIP": "of older clients: eip", "UnbindPhysicalIP": "of older clients: eip",
	"AddRegion": "once in a region's life: call", "UpdateRegion": "once in a region's life: call", "VerifyEmailAvailability": "of forms in browsers",
}

// TestEveryActionHasACommand holds the commands against the table of actions: what a person does with machines, disks, images, networks, money
// and the platform has a command.
func TestEveryActionHasACommand(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"([A-Z]\w+)"`).FindAllStringSubmatch(string(text), -1) {
			called[m[1]] = true
		}
	}
	for _, of := range []string{"IPGroup", "PortGroup"} { // entryCommand puts these together
		for _, verb := range []string{"Create", "Update", "Delete"} {
			called[verb+of] = called["Describe"+of]
		}
	}
	modules := []string{"vm", "image", "disk", "snapshot", "vpc", "nic", "security_group", "eip", "vip", "recycle", "tag", "timer", "billing", "config", "license", "common"}
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	for _, a := range c.Actions() {
		switch why := withoutCommand[a.Name]; {
		case !slices.Contains(modules, a.Module):
		case called[a.Name] && why != "":
			t.Errorf("%s has a command: take it off the list", a.Name)
		case !called[a.Name] && why == "":
			t.Errorf("%s (%s) has no command", a.Name, a.Module)
		}
	}
}

// asProgram in the environment makes the tests' own binary the program.
const asProgram = "LINGYUN_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	root := &cobra.Command{Use: "lingyun"}
	root.AddCommand(cli.Commands()...)
	if root.Execute() != nil {
		os.Exit(1)
	}
}

// TestCompletionInAShell presses Tab in a real bash: the script that `completion bash` prints asks the program, which asks the cloud.
func TestCompletionInAShell(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	m := open(t)
	m.must("login", "--file", filepath.Join(c.Config.Dir, "demo.json"))
	web := m.object("vm", "create", "web")["VMID"].(string)
	disk := m.object("disk", "create", "--name", "data")["DiskID"].(string)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(m.home, "lingyun")
	if err := os.Symlink(self, bin); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string][]string{
		"lingyun vm st":                              {"start", "stop"},
		"lingyun vm stop ":                           {web},
		"lingyun vm stop vm-":                        {web},
		"lingyun disk attach ":                       {disk},
		"lingyun disk attach " + disk + " ":          {web},
		"lingyun tag bind vm-":                       {web},
		"lingyun tag bind d":                         {"disk-"},
		"lingyun vm set " + web + " --availability ": {"NeverStop", "None"},
		"lingyun timer create x --disk ":             {disk},
		"lingyun eip check 1.2.3.4 --sub":            {"--subnet"},
	} {
		// What readline does at Tab, without a terminal: the words, the one at the cursor, the function.
		script := `source <("$1" completion bash) || exit 1
_init_completion() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; }
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; }
__ltrim_colon_completions() { :; }
read -r -a COMP_WORDS <<<"$2"
[[ $2 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]}-1)); COMP_LINE=$2; COMP_POINT=${#2}; COMP_TYPE=9
__start_lingyun
printf '%s\n' "${COMPREPLY[@]}"`
		cmd := exec.Command(bash, "--norc", "--noprofile", "-c", script, "bash", bin, typed)
		cmd.Env = append(os.Environ(), "PATH="+m.home+":"+os.Getenv("PATH"), asProgram+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v\n%s", typed, err, out)
			continue
		}
		for _, w := range want {
			if !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(w)+`\b`).Match(out) && !strings.Contains(string(out), w) {
				t.Errorf("%q offers\n%swant %v", typed, out, want)
			}
		}
	}
}
