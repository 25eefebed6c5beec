package compute_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/compute"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/retcode/proof"
)

// TestCreateRefusals: every way a request can be wrong has its code, names what is wrong, and leaves nothing.
func TestCreateRefusals(t *testing.T) {
	w := start(t, controllertest.Options{})
	other := w.NewTenant(t)
	theirs := describe(t, w.Cloud, other)
	before := w.usage(t)
	for _, c := range []struct {
		name  string
		code  retcode.Code
		more  p
		names string // what the message has to name
	}{
		{"no name", retcode.MissingParameter, p{"Name": nil}, "Name"},
		{"empty name", retcode.MissingParameter, p{"Name": ""}, "Name"},
		{"long name", retcode.InvalidParameter, p{"Name": strings.Repeat("n", 31)}, "Name"},
		{"name with markup", retcode.InvalidParameter, p{"Name": "<b>x</b>"}, "Name"},
		{"name with a path", retcode.InvalidParameter, p{"Name": "../../etc/passwd"}, "Name"},
		{"name with shell", retcode.InvalidParameter, p{"Name": "a;reboot"}, "Name"},
		{"name with a quote", retcode.InvalidParameter, p{"Name": "a'b"}, "Name"},
		{"no password", retcode.MissingParameter, p{"Password": nil}, "Password"},
		{"short password", retcode.VMPasswordLengthInvalid, p{"Password": "Aa1!x"}, "Password"},
		{"long password", retcode.VMPasswordLengthInvalid, p{"Password": strings.Repeat("Aa1", 11)}, "Password"},
		{"one class", retcode.VMPasswordComplexityInvalid, p{"Password": "abcdefgh"}, "Password"},
		{"strange character", retcode.VMPasswordComplexityInvalid, p{"Password": "Passw0rd\\"}, "Password"},
		{"charge type", retcode.InvalidParameter, p{"ChargeType": "Weekly"}, "ChargeType"},
		{"quantity", retcode.InvalidParameter, p{"ChargeType": "Month", "Quantity": 12}, "Quantity"},
		{"CPU no number", retcode.InvalidParameterFormat, p{"CPU": "many"}, "CPU"},
		{"negative CPU", retcode.VMSpecUnavailable, p{"CPU": -1}, ""},
		{"huge memory", retcode.InvalidParameter, p{"Memory": "99999999999999999999"}, "Memory"},
		{"pair not offered", retcode.VMSpecUnavailable, p{"CPU": 3, "Memory": 777}, ""},
		{"VMType", retcode.SetTypeNotFound, p{"VMType": "nowhere"}, ""},
		{"BootDiskSetType", retcode.SetTypeNotFound, p{"BootDiskSetType": "nowhere"}, ""},
		{"DataDiskSetType", retcode.SetTypeNotFound, p{"DataDiskSetType": "nowhere", "DataDiskSpace": 20}, ""},
		{"VPC", retcode.VPCNotFound, p{"VPCID": "vpc-none"}, ""},
		{"another tenant's VPC", retcode.VPCNotFound, p{"VPCID": theirs.vpc, "SubnetID": theirs.subnet}, ""},
		{"subnet", retcode.SubnetNotFound, p{"SubnetID": "subnet-none"}, ""},
		{"group", retcode.SGNotFound, p{"LANSGID": "sg-none"}, ""},
		{"another tenant's group", retcode.SGNotFound, p{"WANSGID": theirs.defaultGroup}, ""},
		{"image", retcode.ImageNotFound, p{"ImageID": "cn-image-none"}, ""},
		{"project", retcode.ProjectNotFound, p{"ProjectID": "project-none"}, "ProjectID"},
		{"key pair", retcode.ResourceNotFound, p{"KeyPairIDs": []string{"keypair-none"}}, "KeyPairIDs"},
		{"isolation group", retcode.ResourceNotFound, p{"IGID": "ig-none"}, "IGID"},
		{"USB", retcode.ResourceNotFound, p{"USBDeviceID": "usb-none"}, "USBDeviceID"},
		{"boot from a disk that is not there", retcode.ResourceNotFound, p{"BootSourceType": "Disk", "BootDiskID": "disk-none", "OSName": "x", "OSVersion": "1", "OSType": "Linux"}, "BootDiskID"},
		{"boot from a disk without its system", retcode.MissingParameter, p{"BootSourceType": "Disk", "BootDiskID": "disk-none", "OSName": "x", "OSVersion": "1"}, "OSType"},
		{"external data disk", retcode.ResourceNotFound, p{"DataDiskID": "lun-none"}, "DataDiskID"},
		{"one disk twice", retcode.SameExternalDisk, p{"BootDiskID": "lun-a", "DataDiskID": "lun-a"}, "DataDiskID"},
		{"system disk too big", retcode.DiskSpecOutOfRange, p{"BootDiskSpace": 2049}, ""},
		{"data disk too small", retcode.DiskSpecOutOfRange, p{"DataDiskSpace": 5}, ""},
		{"data disk too big", retcode.DiskSpecOutOfRange, p{"DataDiskSpace": 32001}, ""},
		{"address outside", retcode.IPOutOfSegment, p{"InternalIP": "203.0.113.5"}, ""},
		{"segment", retcode.ResourceNotFound, p{"OperatorName": "Nowhere"}, ""},
		{"bandwidth", retcode.BandwidthOutOfRange, p{"OperatorName": w.segment, "Bandwidth": 1000000}, ""},
		{"bandwidth of nothing", retcode.InvalidParameter, p{"Bandwidth": 5}, "OperatorName"},
		{"eleven", retcode.InvalidParameter, p{"Count": 11}, "Count"},
		{"none", retcode.InvalidParameter, p{"Count": 0}, "Count"},
		{"one address for two", retcode.InvalidParameter, p{"Count": 2, "InternalIP": "10.0.0.9"}, "InternalIP"},
		{"host name", retcode.InvalidParameter, p{"Hostname": "-a"}, "Hostname"},
		{"user data", retcode.InvalidParameterFormat, p{"UserData": "%%%"}, "UserData"},
		{"user data too big", retcode.InvalidParameter, p{"UserData": base64.StdEncoding.EncodeToString(make([]byte, 1<<20+1))}, "UserData"},
		{"login user", retcode.InvalidParameter, p{"LoginUser": "administrator"}, "LoginUser"},
		{"DNS", retcode.InvalidParameterFormat, p{"DNS": "dns.example"}, "DNS"},
		{"three DNS", retcode.InvalidParameter, p{"DNS": "1.1.1.1,2.2.2.2,3.3.3.3"}, "DNS"},
		{"boot device", retcode.InvalidParameter, p{"BootDevices": []string{"floppy"}}, "BootDevices"},
		{"boot loader", retcode.InvalidParameter, p{"BootloaderType": "uefi"}, "BootloaderType"},
		{"encryption", retcode.InvalidParameter, p{"BootDiskSecret": "c2VjcmV0"}, "BootDiskSecret"},
		{"encryption of nothing", retcode.InvalidParameter, p{"DataDiskSecret": "c2VjcmV0IGtleQ=="}, "DataDiskSecret"},
		{"key that is no base64", retcode.InvalidParameterFormat, p{"DataDiskSpace": 10, "DataDiskSecret": "%%"}, "secret"},
		{"NIC without a VPC", retcode.MissingParameter, p{"NICs.0.SubnetID": w.subnet}, "VPCID"},
		{"NIC in another tenant's subnet", retcode.VPCNotFound, p{"NICs.0.VPCID": theirs.vpc, "NICs.0.SubnetID": theirs.subnet}, ""},
		{"NIC address outside", retcode.IPOutOfSegment, p{"NICs.0.VPCID": w.vpc, "NICs.0.SubnetID": w.subnet, "NICs.0.IP": "203.0.113.5"}, ""},
		{"one NIC address for two", retcode.InvalidParameter, p{"Count": 2, "NICs.0.VPCID": w.vpc, "NICs.0.SubnetID": w.subnet, "NICs.0.IP": "10.0.0.9"}, "NICs.N.IP"},
		{"negative bandwidth", retcode.InvalidParameter, p{"LANInAverageBandwidth": -1}, "LANInAverageBandwidth"},
		{"multicast MAC", retcode.InvalidParameter, p{"LANMAC": "01:00:5e:00:00:01"}, "MAC"},
		{"one MAC for two", retcode.InvalidParameter, p{"Count": 2, "LANMAC": "02:00:00:00:00:01"}, "LANMAC"},
		{"boot disk without saying so", retcode.InvalidParameter, p{"BootDiskID": "disk-none"}, "BootSourceType"},
		{"MAC", retcode.InvalidParameterFormat, p{"LANMAC": "nonsense"}, "LANMAC"},
		{"mount nothing", retcode.InvalidParameter, p{"MountDataDisk": true}, "MountDataDisk"},
		{"GPU without type", retcode.MissingParameter, p{"GPU": 1, "CPU": 4, "Memory": 8192}, "GPUType"},
		{"GPU", retcode.HostGPUInsufficient, p{"GPU": 1, "GPUType": "GPU", "CPU": 4, "Memory": 8192}, ""},
		{"vGPU", retcode.ImageNoVGPU, p{"GPU": 1, "GPUType": "VGPU", "CPU": 4, "Memory": 8192}, ""},
		{"host", retcode.AdminOnly, p{"HostID": w.Simulator.IDs()[0]}, "HostID"},
		{"another company", retcode.AdminOnly, p{"CompanyID": other.Company}, "CompanyID"},
		{"quota", retcode.QuotaExceeded, p{"Count": 10, "CPU": 16, "Memory": 32768}, ""},
	} {
		r := w.demo.Call(t, "CreateVMInstance", w.ask(c.more))
		if r.Code != c.code {
			t.Errorf("%s: answered %d %q, want %d", c.name, r.Code, r.Message, c.code)
			continue
		}
		proof.Saw(t, int(r.Code))
		if !strings.Contains(r.Message, c.names) {
			t.Errorf("%s: %q does not name %s", c.name, r.Message, c.names)
		}
	}
	many := w.ask(nil)
	for i := range 25 {
		many[fmt.Sprintf("DataDisks.%d.SetType", i)], many[fmt.Sprintf("DataDisks.%d.DiskSpace", i)] = w.storage, 10
	}
	w.demo.Refuse(t, retcode.BindLimitReached, "CreateVMInstance", many)
	if after := w.usage(t); after != before {
		t.Errorf("refusals left something\nbefore: %s\nafter: %s", before, after)
	}
}

// TestAddressesOfNewMachines: a wanted address is given once; the reserved ones never.
func TestAddressesOfNewMachines(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		first := w.create(t, p{"OperatorName": w.segment})
		v := w.vm(t, first)
		inner, outer := v.List("IPInfos")[0].String("IP"), v.List("IPInfos")[1].String("IP")
		before := w.usage(t)
		w.demo.Refuse(t, retcode.IPAlreadyAllocated, "CreateVMInstance", w.ask(p{"InternalIP": inner}))
		w.demo.Refuse(t, retcode.IPAlreadyAllocated, "CreateVMInstance", w.ask(p{"OperatorName": w.segment, "InternetIP": outer}))
		gateway := inner[:strings.LastIndex(inner, ".")] + ".1"
		w.demo.Refuse(t, retcode.IPReserved, "CreateVMInstance", w.ask(p{"InternalIP": gateway}))
		if after := w.usage(t); after != before {
			t.Errorf("refusals left something\nbefore: %s\nafter: %s", before, after)
		}
		wanted := inner[:strings.LastIndex(inner, ".")] + ".77"
		second := w.create(t, p{"InternalIP": wanted})
		if got := w.vm(t, second).List("IPInfos")[0].String("IP"); got != wanted {
			t.Errorf("got %s, wanted %s", got, wanted)
		}
	})
}

// TestCapacity: no room of one kind or another has its own code, and nothing is left of a refusal.
func TestCapacity(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 2, MemoryMiB: 8192, DiskGB: 200})
	before := w.usage(t)
	w.demo.Refuse(t, retcode.ComputeSetInsufficient, "CreateVMInstance", w.ask(p{"CPU": 32, "Memory": 65536}))
	w.demo.Refuse(t, retcode.StorageSetInsufficient, "CreateVMInstance", w.ask(p{"BootDiskSpace": 1000}))
	// One of 4 GiB on each host leaves no host for a third of 8 GiB, while the set has enough in all.
	one := w.create(t, p{"CPU": 2, "Memory": 4096})
	two := w.create(t, p{"CPU": 2, "Memory": 4096})
	w.demo.Refuse(t, retcode.HostResourceInsufficient, "CreateVMInstance", w.ask(p{"CPU": 4, "Memory": 8192}))
	// A stopped machine frees its place; another takes it, and it cannot start.
	w.demo.Must(t, "StopVMInstance", p{"VMID": one})
	w.await(t, one, "Stopped")
	host := w.Admin.Must(t, "DescribeVMInstance", p{"VMIDs": []string{one}}).Infos()[0].String("HostID")
	third := w.Admin.Must(t, "CreateVMInstance", w.ask(p{"CompanyID": w.demo.Company, "HostID": host, "CPU": 4, "Memory": 8192})).String("VMID")
	w.await(t, third, "Running")
	w.demo.Refuse(t, retcode.HostMemoryInsufficient, "StartVMInstance", p{"VMID": one})
	for _, id := range []string{one, two, third} {
		w.destroy(t, id)
	}
	if after := w.usage(t); after != before {
		t.Errorf("used before: %s\nafter: %s", before, after)
	}
}

// TestStartWithoutCPU: the host of a stopped machine has given its CPUs away.
func TestStartWithoutCPU(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 1, CPUs: 4})
	one := w.create(t, p{"CPU": 4, "Memory": 8192})
	w.demo.Must(t, "StopVMInstance", p{"VMID": one})
	w.await(t, one, "Stopped")
	var total int
	if err := w.DB.Reader().NewRaw("SELECT SUM(cpu_total) FROM host").Scan(context.Background(), &total); err != nil {
		t.Fatal(err)
	}
	for range total / 4 {
		w.create(t, p{"CPU": 4, "Memory": 8192})
	}
	w.demo.Refuse(t, retcode.HostCPUInsufficient, "StartVMInstance", p{"VMID": one})
	if got := w.vm(t, one).String("State"); got != "Stopped" {
		t.Errorf("after the refusal it is %s", got)
	}
}

// destroy takes a machine through the bin to its end.
func (w *world) destroy(t *testing.T, id string) {
	t.Helper()
	w.demo.Must(t, "DeleteVMInstance", p{"VMID": id, "DelBindResource": 1})
	w.awaitBin(t, id, "Deleted")
	w.demo.Must(t, "TerminateResource", p{"ResourceID": id})
	controllertest.Eventually(t, settle, id+" is destroyed", func() bool { return w.binned(t, id) == nil })
}

// TestBatch: a batch is all or nothing at acceptance, with an operation a machine.
func TestBatch(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		r := w.demo.Must(t, "CreateVMInstance", w.ask(p{"Count": 3, "Hostname": "node", "InitialState": "Stopped"}))
		ids, _ := r.Body["VMIDs"].([]any)
		if len(ids) != 3 || r.String("VMID") != fmt.Sprint(ids[0]) {
			t.Fatalf("answered %v", r.Body)
		}
		hosts := map[string]bool{}
		for i, id := range ids {
			v := w.await(t, fmt.Sprint(id), "Stopped")
			if got, want := v.String("Hostname"), fmt.Sprintf("node-%d", i+1); got != want {
				t.Errorf("host name %s, want %s", got, want)
			}
			hosts[w.Admin.Must(t, "DescribeVMInstance", p{"VMIDs": []string{fmt.Sprint(id)}}).Infos()[0].String("HostID")] = true
		}
		if len(hosts) != 3 {
			t.Errorf("three machines on %d of three hosts", len(hosts))
		}
		w.demo.Must(t, "StartVMInstance", p{"VMID": ids[1]})
		w.await(t, fmt.Sprint(ids[1]), "Running")
		before := w.usage(t)
		w.demo.Refuse(t, retcode.QuotaExceeded, "CreateVMInstance", w.ask(p{"Count": 10, "CPU": 8, "Memory": 16384}))
		if after := w.usage(t); after != before {
			t.Errorf("a refused batch left something\nbefore: %s\nafter: %s", before, after)
		}
	})
}

// TestImport: an administrator makes base images of files, and only of sound ones.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	w := start(t, controllertest.Options{Dir: dir, Configure: func(*controller.Config) {}})
	imports := filepath.Join(dir, "import")
	if err := os.MkdirAll(imports, 0o700); err != nil {
		t.Fatal(err)
	}
	qemuImg := func(args ...string) {
		t.Helper()
		for try := 1; ; try++ {
			cmd := exec.Command("qemu-img", args...)
			cmd.Dir = imports
			out, err := cmd.CombinedOutput()
			if err == nil {
				return
			}
			// On a busy machine it cannot tell how long it worked on a key; the agent tries again, too.
			if try == 10 || !strings.Contains(string(out), "Unable to get accurate CPU usage") {
				t.Fatalf("qemu-img %v: %v %s", args, err, out)
			}
		}
	}
	qemuImg("create", "-f", "qcow2", "big.qcow2", "60G")
	qemuImg("create", "-f", "qcow2", "-F", "qcow2", "-b", "big.qcow2", "backed.qcow2")
	qemuImg("create", "-f", "qcow2", "-o", "data_file=outside.raw", "datafile.qcow2", "1G")
	qemuImg("create", "-f", "qcow2", "--object", "secret,id=s,data=topsecret", "-o", "encrypt.format=luks,encrypt.key-secret=s", "encrypted.qcow2", "1G")
	qemuImg("create", "-f", "raw", "plain.raw", "1M")
	if err := os.WriteFile(filepath.Join(imports, "cut.qcow2"), []byte("QFI\xfb\x00\x00\x00\x03"), 0o600); err != nil {
		t.Fatal(err)
	}

	w.demo.Refuse(t, retcode.AdminOnly, "ImportBaseImage", p{"Name": "big", "FileName": "big.qcow2"})
	for _, file := range []string{"backed.qcow2", "datafile.qcow2", "encrypted.qcow2", "plain.raw", "cut.qcow2"} {
		w.Admin.Refuse(t, retcode.InvalidImageFormat, "ImportBaseImage", p{"Name": "bad", "FileName": file})
	}
	for _, file := range []string{"../demo.json", "/etc/passwd", "..", ".hidden", "none.qcow2", "a/b"} {
		w.Admin.Refuse(t, retcode.InvalidParameter, "ImportBaseImage", p{"Name": "bad", "FileName": file})
	}
	w.Admin.Refuse(t, retcode.InvalidParameter, "ImportBaseImage", p{"Name": "Bad Name", "FileName": "big.qcow2"})

	r := w.Admin.Must(t, "ImportBaseImage", p{"Name": "big", "FileName": "big.qcow2", "OSDistribution": "Ubuntu", "SupportCloudInit": true})
	again := w.Admin.Must(t, "ImportBaseImage", p{"Name": "big", "FileName": "big.qcow2"})
	id := r.String("ImageID")
	if id != "cn-image-big" || again.String("ImageID") != id {
		t.Errorf("ids %s and %s", id, again.String("ImageID"))
	}
	found := w.demo.Must(t, "DescribeImage", p{"ImageIDs": []string{id}, "ImageType": "Base"}).Infos()
	if len(found) != 1 || found[0].Int("ImageSize") != 60 || found[0].String("ImageStatus") != "Used" || found[0].String("OSDistribution") != "Ubuntu" {
		t.Fatalf("listed as %v", found)
	}
	if n := w.demo.Must(t, "DescribeImage", p{"Keyword": "BI", "SetArch": "x86_64"}).Int("TotalCount"); n != 1 {
		t.Errorf("%d images match", n)
	}
	w.demo.Refuse(t, retcode.BootDiskTooSmall, "CreateVMInstance", w.ask(p{"ImageID": id}))
	v := w.create(t, p{"ImageID": id, "BootDiskSpace": 60})
	if got := w.vm(t, v).String("LoginUser"); got != "ubuntu" {
		t.Errorf("login user %s", got)
	}
	w.Admin.Must(t, "ImportBaseImage", p{"Name": "arm", "FileName": "big.qcow2", "SetArch": "aarch64"})
	w.demo.Refuse(t, retcode.ImageArchMismatch, "CreateVMInstance", w.ask(p{"ImageID": "cn-image-arm", "BootDiskSpace": 60}))
	w.Admin.Must(t, "ImportBaseImage", p{"Name": "win", "FileName": "big.qcow2", "OSType": "Windows"})
	w.demo.Refuse(t, retcode.VMPasswordComplexityInvalid, "CreateVMInstance", w.ask(p{"ImageID": "cn-image-win", "BootDiskSpace": 60, "Password": "Adm1n999"}))
}

// TestFailedCreate: what fails after the answer says why, with its code in the audit log, and gives everything back.
func TestFailedCreate(t *testing.T) {
	for _, c := range []struct {
		call string
		code retcode.Code
	}{{"EnsureVolume", retcode.VMCreateDiskFailed}, {"EnsureDomain", retcode.SystemBusy}} {
		each(t, controllertest.Options{}, func(t *testing.T, w *world) {
			before := w.usage(t)
			w.Simulator.FailNext(c.call, 1, "")
			r := w.demo.Must(t, "CreateVMInstance", w.ask(p{"OperatorName": w.segment, "DataDiskSpace": 20}))
			id := r.String("VMID")
			v := w.await(t, id, "Failed")
			if reason := v.String("Reason"); !strings.Contains(reason, id) || strings.Contains(reason, "simulate") {
				t.Errorf("reason %q", reason)
			}
			if got := w.demo.OPLog(t, "CreateVMInstance", id).Int("RetCode"); got != int(c.code) {
				t.Errorf("the log says %d, want %d", got, c.code)
			}
			for _, name := range []string{"StartVMInstance", "StopVMInstance", "RestartVMInstance", "PoweroffVMInstance"} {
				w.demo.Refuse(t, retcode.InvalidVMState, name, p{"VMID": id})
			}
			w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
			if w.vm(t, id) != nil || w.binned(t, id) != nil {
				t.Error("a failed machine is there after its deletion")
			}
			w.demo.Refuse(t, retcode.ResourceTerminated, "DeleteVMInstance", p{"VMID": id})
			if after := w.usage(t); after != before {
				t.Errorf("used before: %s\nafter: %s", before, after)
			}
		})
	}
}

// TestNetworkFailures: a network that cannot be programmed fails a creation (1026) and a deletion (1028), which
// puts the machine back.
func TestNetworkFailures(t *testing.T) {
	w := start(t, controllertest.Options{})
	network := w.Fabric.(*fabric.Memory)
	before := w.usage(t)
	network.Fail("EnsureVPC", 1, fabric.ErrInvalid)
	id := w.demo.Must(t, "CreateVMInstance", w.ask(nil)).String("VMID")
	w.await(t, id, "Failed")
	if got := w.demo.OPLog(t, "CreateVMInstance", id).Int("RetCode"); got != int(retcode.VMCreateNICFailed) {
		t.Errorf("the log says %d", got)
	}
	w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
	if after := w.usage(t); after != before {
		t.Errorf("used before: %s\nafter: %s", before, after)
	}
	id = w.create(t, nil)
	other := w.create(t, nil) // so that the VPC is still needed
	network.Fail("EnsureVPC", 1, fabric.ErrInvalid)
	w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
	if got := w.demo.OPLog(t, "DeleteVMInstance", id).Int("RetCode"); got != int(retcode.VMCleanNICFailed) {
		t.Errorf("the log says %d", got)
	}
	w.await(t, id, "Stopped")
	for _, id := range []string{id, other} {
		w.destroy(t, id)
	}
	if after := w.usage(t); after != before {
		t.Errorf("used before: %s\nafter: %s", before, after)
	}
}

// TestFailedMachinesAreSwept after a week.
func TestFailedMachinesAreSwept(t *testing.T) {
	w := start(t, controllertest.Options{})
	w.Simulator.FailNext("EnsureVolume", 1, "")
	id := w.demo.Must(t, "CreateVMInstance", w.ask(nil)).String("VMID")
	w.await(t, id, "Failed")
	w.Clock.Advance(compute.FailedKept - time.Hour)
	if w.vm(t, id) == nil {
		t.Fatal("swept too early")
	}
	w.Clock.Advance(2 * time.Hour)
	controllertest.Eventually(t, settle, id+" is swept", func() bool { return w.vm(t, id) == nil })
	w.demo.Refuse(t, retcode.ResourceTerminated, "StartVMInstance", p{"VMID": id})
	w.Clock.Advance(compute.TombstoneKept + time.Hour)
	controllertest.Eventually(t, settle, id+" is forgotten", func() bool {
		return w.demo.Call(t, "StartVMInstance", p{"VMID": id}).Code == retcode.VMNotFound
	})
	w.demo.Refuse(t, retcode.VMNotFound, "StartVMInstance", p{"VMID": id})
}

// TestSecretsAreSealed: the database holds neither password, nor its hash, nor user data in the clear.
func TestSecretsAreSealed(t *testing.T) {
	w := start(t, controllertest.Options{})
	data := "#cloud-config\nruncmd: [true]\n"
	id := w.create(t, p{"UserData": base64.StdEncoding.EncodeToString([]byte(data)), "DNS": "192.0.2.53, 192.0.2.54", "Password": "Sup3rSecret!"})
	var hash, user string
	if err := w.DB.Reader().NewRaw("SELECT password_hash, user_data FROM vm_seed WHERE vm_id = ?", id).Scan(context.Background(), &hash, &user); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"Sup3rSecret!", "$6$", "cloud-config"} {
		if strings.Contains(hash+user, secret) {
			t.Errorf("the database holds %q in the clear", secret)
		}
	}
	if got := w.vm(t, id).String("DNS"); got != "192.0.2.53,192.0.2.54" {
		t.Errorf("DNS %q", got)
	}
}
