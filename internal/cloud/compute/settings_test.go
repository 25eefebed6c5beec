package compute_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestSettings(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, nil)
	stranger := w.NewTenant(t)
	userData := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\necho new\n"))
	for _, c := range []struct {
		name string
		good p
		bad  p
		off  bool // the machine must be off
		says func(v info) bool
	}{
		{"UpdateVMHostname", p{"Hostname": "other-name"}, p{"Hostname": "-x"}, false, func(v info) bool { return v.String("Hostname") == "other-name" }},
		{"UpdateVMDNS", p{"DNS": "10.0.0.2, 10.0.0.3"}, p{"DNS": "1.1.1.1,2.2.2.2,3.3.3.3"}, false, func(v info) bool { return v.String("DNS") == "10.0.0.2,10.0.0.3" }},
		{"UpdateVMHighAvailability", p{"HighAvailability": "None"}, p{"HighAvailability": "Maybe"}, false, func(v info) bool { return v.String("HighAvailability") == "None" }},
		{"UpdateVMBootDevices", p{"BootDevices": []string{"network", "hd"}}, p{"BootDevices": []string{"hd", "hd"}}, false,
			func(v info) bool { return fmt.Sprint(v["BootDevices"]) == "[network hd]" }},
		{"UpdateVMSupportHotPlug", p{"SupportHotplug": true}, nil, false, func(v info) bool { return v["SupportHotplug"] == true }},
		{"UpdateVMCPUMode", p{"CPUMode": "host-passthrough"}, p{"CPUMode": "fast"}, true, func(v info) bool { return v.String("CPUMode") == "host-passthrough" }},
		{"UpdateVMMAC", p{"MAC": "02:11:22:33:44:55"}, p{"MAC": "03:11:22:33:44:55"}, true, func(v info) bool { return strings.Contains(fmt.Sprint(v), "02:11:22:33:44:55") }},
		{"UpdateVMUserData", p{"UserData": userData}, nil, true, func(info) bool { return true }},
	} {
		with := func(vm string, more p) p {
			q := p{"VMID": vm}
			for k, v := range more {
				q[k] = v
			}
			return q
		}
		if c.off {
			w.demo.Refuse(t, retcode.VMNotStopped, c.name, with(id, c.good))
			w.stop(t, id)
		}
		stranger.Refuse(t, retcode.VMNotFound, c.name, with(id, c.good))
		w.demo.Refuse(t, retcode.VMNotFound, c.name, with("vm-00000000000000", c.good))
		if c.bad != nil {
			w.demo.Refuse(t, retcode.InvalidParameter, c.name, with(id, c.bad))
		}
		w.demo.Must(t, c.name, with(id, c.good))
		if v := w.vm(t, id); !c.says(v) {
			t.Errorf("after %s: %v", c.name, v)
		}
		if c.off {
			w.demo.Must(t, "StartVMInstance", p{"VMID": id})
			w.await(t, id, "Running")
		}
	}
	w.demo.Refuse(t, retcode.InvalidParameterFormat, "UpdateVMDNS", p{"VMID": id, "DNS": "nobody"})
	w.demo.Refuse(t, retcode.InvalidParameter, "UpdateVMDNS", p{"VMID": id, "DNS": "2001:db8::53"})
}

// TestOffered: DHCP offers a machine's name and DNS servers, those that it has since it last started or restarted.
func TestOffered(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, p{"Hostname": "first-name", "DNS": "192.0.2.1"})
	offered := func() string {
		t.Helper()
		v, ok := w.Fabric.(*fabric.Memory).VPC(w.vpc)
		if !ok || len(v.Ports) != 1 {
			t.Fatalf("the network has %+v", v)
		}
		return fmt.Sprint(v.Ports[0].Hostname, v.Ports[0].DNS)
	}
	if got := offered(); got != "first-name[192.0.2.1]" {
		t.Errorf("a new machine is offered %s", got)
	}
	w.demo.Must(t, "UpdateVMHostname", p{"VMID": id, "Hostname": "second-name"})
	w.demo.Must(t, "UpdateVMDNS", p{"VMID": id, "DNS": "192.0.2.2,192.0.2.3"})
	w.demo.Must(t, "RestartVMInstance", p{"VMID": id})
	w.await(t, id, "Running")
	if got := offered(); got != "second-name[192.0.2.2 192.0.2.3]" {
		t.Errorf("after a restart it is offered %s", got)
	}
	w.stop(t, id)
	w.demo.Must(t, "UpdateVMHostname", p{"VMID": id, "Hostname": "third-name"})
	w.demo.Must(t, "StartVMInstance", p{"VMID": id})
	w.await(t, id, "Running")
	if got := offered(); got != "third-name[192.0.2.2 192.0.2.3]" {
		t.Errorf("after a start it is offered %s", got)
	}
}

// TestKeysAlone: a machine with key pairs needs no password, and then has none.
func TestKeysAlone(t *testing.T) {
	w := start(t, controllertest.Options{})
	w.demo.Refuse(t, retcode.MissingParameter, "CreateVMInstance", w.ask(p{"Password": nil}))
	key := w.demo.Must(t, "CreateKeyPair", p{"Name": "mine", "KeyPairPublicKey": someKey}).String("KeyPairID")
	id := w.create(t, p{"Password": nil, "KeyPairIDs": []string{key}})
	if keys := w.Simulator.GuestKeys(id); len(keys) != 1 {
		t.Errorf("the guest was born with %v", keys)
	}
	for _, password := range []string{"", "Passw0rd!"} {
		if w.Simulator.GuestLogin(id, "root", password) {
			t.Errorf("it takes the password %q", password)
		}
	}
	w.demo.Must(t, "ResetVMInstancePassword", p{"VMID": id, "Password": "Later.123"})
	if !w.Simulator.GuestLogin(id, "root", "Later.123") {
		t.Error("it takes no password later")
	}
}

// TestUntold: what only cloud-init does is refused for images without it, not forgotten.
func TestUntold(t *testing.T) {
	w := start(t, controllertest.Options{})
	mute := w.imported(t, "qcow2", qcow2(t, "1G"))
	key := w.demo.Must(t, "CreateKeyPair", p{"Name": "mine", "KeyPairPublicKey": someKey}).String("KeyPairID")
	script := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n"))
	for name, more := range map[string]p{
		"UserData": {"UserData": script}, "KeyPairIDs": {"KeyPairIDs": []string{key}}, "LoginUser": {"LoginUser": "debian"},
		"MountDataDisk": {"MountDataDisk": true, "DataDiskSpace": 10},
	} {
		more["ImageID"] = mute
		if r := w.demo.Refuse(t, retcode.InvalidParameter, "CreateVMInstance", w.ask(more)); !strings.Contains(r.String("Message"), name) {
			t.Errorf("%s: %s", name, r.String("Message"))
		}
	}
	id := w.create(t, p{"ImageID": mute})
	w.stop(t, id)
	w.demo.Refuse(t, retcode.InvalidParameter, "UpdateVMUserData", p{"VMID": id, "UserData": script})
	for name, more := range map[string]p{
		"UserData": {"UserData": script}, "KeyPairIDs": {"KeyPairIDs": []string{key}}, "LoginUser": {"LoginUser": "debian"}, "Password": {"Password": "Second.2"},
	} {
		more["VMID"], more["ImageID"] = id, mute
		if r := w.demo.Refuse(t, retcode.InvalidParameter, "ReinstallVMInstance", more); !strings.Contains(r.String("Message"), name) {
			t.Errorf("%s: %s", name, r.String("Message"))
		}
	}
	w.demo.Must(t, "ReinstallVMInstance", p{"VMID": id, "ImageID": mute})
	w.await(t, id, "Stopped")
}

const someKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJ1bm5pbmdpbnRoZWZpZWxkc29mZ29sZGFuZGdyZWVu me@example"

func TestKeyPairs(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		stranger := w.NewTenant(t)
		for _, bad := range []string{"nonsense", someKey + "\nssh-rsa AAAA", `command="rm -rf /" ` + someKey, "ssh-dss AAAA"} {
			w.demo.Refuse(t, retcode.InvalidParameterFormat, "CreateKeyPair", p{"Name": "bad", "KeyPairPublicKey": bad})
		}
		w.demo.Refuse(t, retcode.MissingParameter, "CreateKeyPair", p{"KeyPairPublicKey": someKey})
		given := w.demo.Must(t, "CreateKeyPair", p{"Name": "given", "KeyPairPublicKey": someKey, "Remark": "mine"})
		made := w.demo.Must(t, "CreateKeyPair", p{"Name": "made"})
		if given.String("KeyPairPrivateKey") != "" {
			t.Error("a given key has a private one")
		}
		private, err := ssh.ParsePrivateKey([]byte(made.String("KeyPairPrivateKey")))
		if err != nil {
			t.Fatal(err)
		}
		list := w.demo.Must(t, "DescribeKeyPair", p{"Keyword": "made"}).Infos()
		if len(list) != 1 || !strings.HasPrefix(list[0].String("KeyPairPublicKey"), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(private.PublicKey())))) ||
			list[0].String("Fingerprint") != ssh.FingerprintSHA256(private.PublicKey()) || list[0].String("ProjectName") == "" {
			t.Errorf("listed as %v", list)
		}
		first, second := given.String("KeyPairID"), made.String("KeyPairID")
		stranger.Refuse(t, retcode.ResourceNotFound, "DeleteKeyPair", p{"KeyPairID": first})
		stranger.Refuse(t, retcode.ResourceNotFound, "CreateVMInstance", w.ask(p{"KeyPairIDs": []string{first}, "VPCID": "x", "SubnetID": "y"}))

		id := w.create(t, p{"KeyPairIDs": []string{first}})
		line := strings.Join(strings.Fields(someKey)[:2], " ")
		if keys := w.Simulator.GuestKeys(id); !slices.Equal(keys, []string{line}) {
			t.Errorf("the guest was born with %v", keys)
		}
		both := p{"VMID": id, "KeyPairIDs": []string{first, second}}
		w.demo.Must(t, "BindKeyPair", both)
		w.demo.Must(t, "BindKeyPair", both)
		if keys := w.Simulator.GuestKeys(id); len(keys) != 2 {
			t.Errorf("the guest has %v", keys)
		}
		if v := w.vm(t, id); len(v["KeyPairIDs"].([]any)) != 2 {
			t.Errorf("described with %v", v["KeyPairIDs"])
		}
		if n := w.demo.Must(t, "DescribeKeyPair", p{"VMID": id}).Int("TotalCount"); n != 2 {
			t.Errorf("%d pairs of the machine", n)
		}
		w.demo.Must(t, "UnBindKeyPair", p{"VMID": id, "KeyPairIDs": []string{first}})
		w.demo.Refuse(t, retcode.ResourceNotFound, "UnBindKeyPair", p{"VMID": id, "KeyPairIDs": []string{first}})
		if keys := w.Simulator.GuestKeys(id); len(keys) != 1 || keys[0] == line {
			t.Errorf("the guest has %v", keys)
		}
		w.demo.Must(t, "DeleteKeyPair", p{"KeyPairID": second})
		w.demo.Refuse(t, retcode.ResourceNotFound, "DeleteKeyPair", p{"KeyPairID": second})
		if keys := w.Simulator.GuestKeys(id); len(keys) != 1 {
			t.Error("a deleted pair is gone from the guest")
		}
		w.stop(t, id)
		w.demo.Refuse(t, retcode.InvalidVMState, "BindKeyPair", p{"VMID": id, "KeyPairIDs": []string{first}})
	})
}

// drives of a machine as its tenant sees them.
func (w *world) drives(t *testing.T, id string) string {
	var out []string
	for _, i := range w.demo.Must(t, "DescribeVMISO", p{"VMID": id}).Infos() {
		out = append(out, i.String("ImageID"))
	}
	return strings.Join(out, " ")
}

func TestDiscs(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		stranger := w.NewTenant(t)
		first, second := w.imported(t, "iso", disc()), w.imported(t, "iso", append(disc(), 1))
		third := w.imported(t, "iso", append(disc(), 2))
		id := w.create(t, nil)
		w.demo.Refuse(t, retcode.ImageNotFound, "AttachISO", p{"VMID": id, "ImageID": "image-00000000000000"})
		w.demo.Refuse(t, retcode.InvalidImageFormat, "AttachISO", p{"VMID": id, "ImageID": w.image})
		w.demo.Refuse(t, retcode.InvalidImageFormat, "CreateVMInstance", w.ask(p{"ImageID": first}))
		w.demo.Refuse(t, retcode.ImageNotFound, "SetBootFromCdrom", p{"VMID": id})
		stranger.Refuse(t, retcode.VMNotFound, "AttachISO", p{"VMID": id, "ImageID": first})
		for _, i := range []string{first, second} {
			controllertest.Eventually(t, settle, "a disc can be inserted", func() bool {
				return w.demo.Call(t, "AttachISO", p{"VMID": id, "ImageID": i}).Code == retcode.OK
			})
			w.demo.OPLog(t, "AttachISO", id)
		}
		if got := w.drives(t, id); !strings.Contains(got, first) || !strings.Contains(got, second) {
			t.Errorf("in its drives: %s", got)
		}
		controllertest.Eventually(t, settle, "the drives are full", func() bool {
			return w.demo.Call(t, "AttachISO", p{"VMID": id, "ImageID": third}).Code == retcode.BindLimitReached
		})
		w.demo.Refuse(t, retcode.ResourceAlreadyEnabled, "AttachISO", p{"VMID": id, "ImageID": first})
		w.demo.Refuse(t, retcode.ImageInUse, "DeleteCustomImage", p{"ImageID": first})
		w.demo.Must(t, "SetBootFromCdrom", p{"VMID": id})
		if v := w.vm(t, id); fmt.Sprint(v["BootDevices"]) != "[cdrom hd]" || len(v.List("ISOInfos")) != 2 {
			t.Errorf("described as %v %v", v["BootDevices"], v["ISOInfos"])
		}
		w.demo.Must(t, "UnSetBootFromCdrom", p{"VMID": id})
		controllertest.Eventually(t, settle, "the last disc is in its drive", func() bool {
			return w.demo.Call(t, "DetachISO", p{"VMID": id, "ImageID": first}).Code == retcode.OK
		})
		w.demo.Refuse(t, retcode.ImageNotFound, "DetachISO", p{"VMID": id, "ImageID": first})
		if got := w.drives(t, id); got != second {
			t.Errorf("in its drives: %s", got)
		}
		controllertest.Eventually(t, settle, "the disc is free", func() bool {
			return w.demo.Call(t, "DeleteCustomImage", p{"ImageID": first}).Code == retcode.OK
		})
	})
}

// A disc that is on its way to the host keeps nothing else from being done with the machine.
func TestDiscOnItsWay(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		first, second := w.imported(t, "iso", disc()), w.imported(t, "iso", append(disc(), 1))
		id := w.create(t, nil)
		w.Simulator.Delay("PutImage", 3*time.Second)
		w.demo.Must(t, "AttachISO", p{"VMID": id, "ImageID": first})
		w.demo.Must(t, "PoweroffVMInstance", p{"VMID": id})
		w.await(t, id, "Stopped")
		if log := w.demo.OPLog(t, "PoweroffVMInstance", id); log.Int("RetCode") != 0 {
			t.Errorf("power off: %v", log)
		}
		controllertest.Eventually(t, settle, "a rescue", func() bool {
			return w.demo.Call(t, "EnterVMRescue", p{"VMID": id, "ImageID": second}).Code == retcode.OK
		})
		w.demo.Must(t, "PoweroffVMInstance", p{"VMID": id})
		w.await(t, id, "Stopped")
		w.Simulator.Delay("PutImage", 0)
		w.demo.Must(t, "ExitVMRescue", p{"VMID": id})
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")
		if got := w.drives(t, id); got != first {
			t.Errorf("in its drives: %s", got)
		}
	})
}

func TestRescue(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		disc := w.imported(t, "iso", disc())
		id := w.create(t, nil)
		in := p{"VMID": id, "ImageID": disc}
		w.demo.Refuse(t, retcode.VMNotStopped, "EnterVMRescue", in)
		w.demo.Refuse(t, retcode.InvalidVMState, "ExitVMRescue", p{"VMID": id})
		w.stop(t, id)
		w.demo.Refuse(t, retcode.ImageNotFound, "EnterVMRescue", p{"VMID": id}) // the platform has no rescue disc
		w.demo.Must(t, "EnterVMRescue", in)
		w.await(t, id, "Running")
		w.demo.Refuse(t, retcode.ImageInUse, "DeleteCustomImage", p{"ImageID": disc})
		w.demo.Must(t, "ExitVMRescue", p{"VMID": id})
		w.await(t, id, "Stopped")
		w.demo.Must(t, "DeleteCustomImage", p{"ImageID": disc})
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")
		w.stop(t, id)

		// The platform's own, by its name.
		w.demo.Must(t, "RollbackResource", p{"ResourceID": disc})
		base := w.Admin.Must(t, "CloneCustomImageToBaseImage", p{"SourceImageID": disc, "DestImageName": "rescue-1", "CompanyID": w.demo.Company}).String("ImageID")
		w.Admin.Refuse(t, retcode.InvalidParameter, "CloneCustomImageToBaseImage", p{"SourceImageID": disc, "DestImageName": "rescue-1"})
		w.demo.Must(t, "EnterVMRescue", p{"VMID": id})
		w.await(t, id, "Running")
		w.Admin.Refuse(t, retcode.ImageInUse, "DeleteBaseImage", p{"ImageID": base})
		w.demo.Must(t, "ExitVMRescue", p{"VMID": id})
		w.await(t, id, "Stopped")
		if n := w.Admin.Must(t, "DescribeBaseImage", p{"Keyword": "rescue"}).Int("TotalCount"); n != 1 {
			t.Errorf("%d base images", n)
		}
		w.demo.Refuse(t, retcode.AdminOnly, "DeleteBaseImage", p{"ImageID": base})
		w.Admin.Refuse(t, retcode.ImageNotFound, "DeleteBaseImage", p{"ImageID": disc})
		w.Admin.Must(t, "DeleteBaseImage", p{"ImageID": base})
		controllertest.Eventually(t, settle, "the base image is destroyed", func() bool {
			return w.Admin.Must(t, "DescribeBaseImage", p{"Keyword": "rescue"}).Int("TotalCount") == 0
		})
		w.demo.Refuse(t, retcode.ImageNotFound, "EnterVMRescue", p{"VMID": id})
	})
}

func TestRescueWorkflow(t *testing.T) {
	workflowCase(t, "vm.rescue", "EnterVMRescue", nil, func(t *testing.T, w *world) p {
		image := w.imported(t, "iso", disc())
		q := stopped(t, w)
		return p{"VMID": q["VMID"], "ImageID": image}
	})
}

func TestDiscsWorkflow(t *testing.T) {
	workflowCase(t, "vm.discs", "AttachISO", nil, func(t *testing.T, w *world) p {
		image := w.imported(t, "iso", disc())
		q := running(t, w)
		return p{"VMID": q["VMID"], "ImageID": image}
	})
}

func TestOSVersions(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 1})
	all := w.demo.Must(t, "DescribeImageOSVersions", p{}).Int("TotalCount")
	arm := w.demo.Must(t, "DescribeImageOSVersions", p{"SetArch": "aarch64"}).Infos()
	if len(arm) == 0 || len(arm) >= all {
		t.Errorf("%d of %d are for aarch64", len(arm), all)
	}
	w.Admin.Must(t, "UpdateImage", p{"CompanyID": 0, "ImageID": w.image, "OSDistribution": "Debian", "OSType": "Linux", "OSVersion": "12", "SetArch": "aarch64"})
	w.demo.Refuse(t, retcode.ImageArchMismatch, "CreateVMInstance", w.ask(nil))
	w.demo.Refuse(t, retcode.AdminOnly, "UpdateImage", p{"CompanyID": 0, "ImageID": w.image, "OSDistribution": "x", "OSType": "Linux", "OSVersion": "1", "SetArch": "x86_64"})
	w.demo.Refuse(t, retcode.ImageNotFound, "UpdateImage", p{"CompanyID": w.demo.Company, "ImageID": "image-00000000000000", "OSDistribution": "x",
		"OSType": "Linux", "OSVersion": "1", "SetArch": "x86_64"})
}
