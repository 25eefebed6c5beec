package compute_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type (
	p        = controllertest.P
	info     = controllertest.Info
	client   = controllertest.Client
	response = controllertest.Response
)

// settle is how long anything may take to settle; on simulated hosts it takes milliseconds.
const settle = 30 * time.Second

// world is a cloud with what a tenant needs to make a machine.
type world struct {
	*controllertest.Cloud
	demo                  *client
	vmType, storage       string
	image, vpc, subnet    string
	segment, defaultGroup string
}

func start(t *testing.T, o controllertest.Options) *world {
	t.Helper()
	c := controllertest.Start(t, o)
	return describe(t, c, c.Demo)
}

// describe looks up what one tenant of a cloud needs.
func describe(t *testing.T, c *controllertest.Cloud, who *client) *world {
	t.Helper()
	w := &world{Cloud: c, demo: who, segment: "Bgp"}
	first := func(action, field string) string {
		infos := who.Must(t, action, p{}).Infos()
		if len(infos) == 0 {
			t.Fatalf("%s lists nothing", action)
		}
		return infos[0].String(field)
	}
	w.vmType = first("DescribeVMType", "VMType")
	w.storage = first("DescribeStorageType", "StorageType")
	w.image = first("DescribeImage", "ImageID")
	w.vpc = first("DescribeVPC", "VPCID")
	w.subnet = first("DescribeSubnet", "SubnetID")
	w.defaultGroup = first("DescribeSecurityGroup", "SGID")
	return w
}

// ask is a create request; more overrides and adds, nil removes.
func (w *world) ask(more p) p {
	q := p{"Name": "web", "Password": "Passw0rd!", "ChargeType": "Dynamic", "VMType": w.vmType, "CPU": 1, "Memory": 1024,
		"BootDiskSetType": w.storage, "VPCID": w.vpc, "SubnetID": w.subnet, "ImageID": w.image}
	for k, v := range more {
		if v == nil {
			delete(q, k)
		} else {
			q[k] = v
		}
	}
	return q
}

// vm is one machine as its tenant sees it; nil when it is not listed.
func (w *world) vm(t *testing.T, id string) info {
	t.Helper()
	infos := w.demo.Must(t, "DescribeVMInstance", p{"VMIDs": []string{id}}).Infos()
	if len(infos) == 0 {
		return nil
	}
	return infos[0]
}

func (w *world) await(t *testing.T, id, state string) info {
	t.Helper()
	var v info
	controllertest.Eventually(t, settle, id+" is "+state, func() bool {
		v = w.vm(t, id)
		return v.String("State") == state
	})
	return v
}

// create makes a machine and waits until it runs.
func (w *world) create(t *testing.T, more p) string {
	t.Helper()
	id := w.demo.Must(t, "CreateVMInstance", w.ask(more)).String("VMID")
	w.await(t, id, "Running")
	return id
}

// binned is an item of the bin; nil when it is not there.
func (w *world) binned(t *testing.T, id string) info {
	t.Helper()
	infos := w.demo.Must(t, "DescribeRecycledResource", p{"ResourceIDs": []string{id}}).Infos()
	if len(infos) == 0 {
		return nil
	}
	return infos[0]
}

func (w *world) awaitBin(t *testing.T, id, state string) {
	t.Helper()
	controllertest.Eventually(t, settle, id+" is "+state+" in the bin", func() bool { return w.binned(t, id).String("State") == state })
}

// each runs a test on both databases.
func each(t *testing.T, o controllertest.Options, f func(t *testing.T, w *world)) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		o.DB = db
		f(t, start(t, o))
	})
}

func TestLifeOfAMachine(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		before := w.usage(t)
		made := w.demo.Must(t, "CreateVMInstance", w.ask(p{"OperatorName": w.segment, "Bandwidth": 5, "DataDiskSpace": 20,
			"MountDataDisk": true, "Hostname": "web-1", "Remark": "first"}))
		id, eip := made.String("VMID"), made.String("EIPID")
		v := w.await(t, id, "Running")
		if eip == "" || made.String("DiskID") == "" {
			t.Fatalf("ids missing: %v", made.Body)
		}
		if got := fmt.Sprintf("%s %d %d %s %d", v.String("Hostname"), v.Int("CPU"), v.Int("Memory"), v.String("Remark"), len(v.List("DiskInfos"))); got != "web-1 1 1024 first 2" {
			t.Errorf("described as %s", got)
		}
		ips := v.List("IPInfos")
		if len(ips) != 2 || ips[0].String("Type") != "Private" || ips[1].String("IPID") != eip || ips[1].Int("ISDefaultGW") != 1 {
			t.Errorf("addresses: %v", ips)
		}
		if v.String("HostID") != "" || v.String("HostIP") != "" {
			t.Errorf("a tenant sees the host: %v %v", v["HostID"], v["HostIP"])
		}
		admin := w.Admin.Must(t, "DescribeVMInstance", p{"VMIDs": []string{id}}).Infos()
		if len(admin) != 1 || admin[0].String("HostID") == "" {
			t.Errorf("the administrator does not see the host: %v", admin)
		}
		address := ips[0].String("IP") + ips[0].String("MAC")

		w.demo.Must(t, "StopVMInstance", p{"VMID": id})
		w.await(t, id, "Stopped")
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")
		w.demo.Must(t, "RestartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")
		w.demo.Must(t, "PoweroffVMInstance", p{"VMID": id})
		w.await(t, id, "Stopped")
		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id, "DelBindResource": 1})
		w.awaitBin(t, id, "Deleted")
		if w.vm(t, id) != nil {
			t.Error("a machine in the bin is listed")
		}
		w.awaitBin(t, eip, "Deleted")
		for _, name := range []string{"StartVMInstance", "DeleteVMInstance"} {
			w.demo.Refuse(t, retcode.InvalidVMBizState, name, p{"VMID": id})
		}

		w.demo.Must(t, "RollbackResource", p{"ResourceID": id})
		v = w.vm(t, id)
		if ips := v.List("IPInfos"); v.String("State") != "Stopped" || len(ips) != 1 || ips[0].String("IP")+ips[0].String("MAC") != address {
			t.Errorf("restored as %v", v)
		}
		w.demo.Refuse(t, retcode.ResourceAlreadyEnabled, "RollbackResource", p{"ResourceID": id})
		w.demo.Refuse(t, retcode.InvalidResourceBizState, "TerminateResource", p{"ResourceID": id})
		w.demo.Must(t, "StartVMInstance", p{"VMID": id})
		w.await(t, id, "Running")

		w.demo.Must(t, "DeleteVMInstance", p{"VMID": id})
		w.awaitBin(t, id, "Deleted")
		disk := made.String("DiskID")
		w.awaitBin(t, disk, "Deleted")
		for _, r := range []string{id, eip, disk} {
			w.demo.Must(t, "TerminateResource", p{"ResourceID": r})
			controllertest.Eventually(t, settle, r+" is destroyed", func() bool { return w.binned(t, r) == nil })
			w.demo.Refuse(t, retcode.ResourceTerminated, "TerminateResource", p{"ResourceID": r})
			w.demo.Refuse(t, retcode.ResourceTerminated, "RollbackResource", p{"ResourceID": r})
		}
		w.demo.Refuse(t, retcode.ResourceTerminated, "StartVMInstance", p{"VMID": id})
		if after := w.usage(t); after != before {
			t.Errorf("used before: %s\nafter: %s", before, after)
		}
	})
}

// doctor finds nothing wrong.
func (w *world) doctor(t testing.TB) {
	t.Helper()
	problems, err := controller.Doctor(t.Context(), w.DB)
	if err != nil || len(problems) > 0 {
		t.Errorf("lingyun doctor: %v %v", err, problems)
	}
}

// usage is everything that resources hold: quotas, hosts' capacity, addresses, listed machines, what is on
// the hosts. Two equal ones mean that nothing leaked in between.
func (w *world) usage(t testing.TB) string {
	t.Helper()
	var out string
	for _, q := range []string{
		"SELECT 'quota', company, factor, used FROM quota WHERE used <> 0 ORDER BY company, factor",
		"SELECT 'host', '', SUM(cpu_used), SUM(memory_used) FROM host",
		"SELECT 'space', '', '', SUM(disk_used) FROM host",
		"SELECT 'subnet', '', id, used FROM subnet ORDER BY id",
		"SELECT 'segment', '', id, used FROM segment ORDER BY id",
		"SELECT 'listed', '', company, n FROM vm_count WHERE n <> 0 ORDER BY company",
		"SELECT 'ports', '', '', COUNT(*) FROM port",
		"SELECT 'seeds', '', '', COUNT(*) FROM vm_seed",
		"SELECT 'locks', '', '', COUNT(*) FROM operation_lock",
	} {
		rows, err := w.DB.Reader().QueryContext(context.Background(), q)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		for rows.Next() {
			var a, b, c, d any
			if err := rows.Scan(&a, &b, &c, &d); err != nil {
				t.Fatal(err)
			}
			out += fmt.Sprintf("%s %v %s %s; ", a, b, text(c), text(d))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		rows.Close()
	}
	for _, id := range w.Simulator.IDs() {
		h, err := w.Simulator.Dial(id, "")
		if err != nil {
			t.Fatal(err)
		}
		l, err := h.List(context.Background(), &pb.ListRequest{})
		if err != nil {
			out += id + " down; "
			continue
		}
		for _, d := range l.Domains {
			out += d.Id + "; "
		}
		for _, v := range l.Volumes {
			out += v.Id + "; "
		}
	}
	return out
}

func text(v any) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(v)
}
