package block_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/simulate"
)

type (
	p      = controllertest.P
	info   = controllertest.Info
	client = controllertest.Client
)

// settle is how long anything may take to settle; on simulated hosts it takes milliseconds.
const settle = 30 * time.Second

// world is a cloud with what a tenant needs to have disks and machines.
type world struct {
	*controllertest.Cloud
	demo               *client
	vmType, storage    string
	image, vpc, subnet string
}

func start(t *testing.T, o controllertest.Options) *world {
	t.Helper()
	c := controllertest.Start(t, o)
	w := &world{Cloud: c, demo: c.Demo}
	first := func(action, field string) string {
		infos := w.demo.Must(t, action, p{}).Infos()
		if len(infos) == 0 {
			t.Fatalf("%s lists nothing", action)
		}
		return infos[0].String(field)
	}
	w.vmType, w.storage = first("DescribeVMType", "VMType"), first("DescribeStorageType", "StorageType")
	w.image, w.vpc, w.subnet = first("DescribeImage", "ImageID"), first("DescribeVPC", "VPCID"), first("DescribeSubnet", "SubnetID")
	return w
}

// each runs a test on both databases, and asks the doctor afterwards.
func each(t *testing.T, o controllertest.Options, f func(t *testing.T, w *world)) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		o.DB = db
		w := start(t, o)
		f(t, w)
		w.healthy(t)
	})
}

// with overrides and adds to parameters; nil removes.
func (q with) of(more p) p {
	out := p{}
	for _, m := range []p{p(q), more} {
		for k, v := range m {
			if v == nil {
				delete(out, k)
			} else {
				out[k] = v
			}
		}
	}
	return out
}

type with p

// vm makes a machine that runs.
func (w *world) vm(t *testing.T, more p) string {
	t.Helper()
	q := with{"Name": "web", "Password": "Passw0rd!", "ChargeType": "Dynamic", "VMType": w.vmType, "CPU": 1, "Memory": 1024,
		"BootDiskSetType": w.storage, "VPCID": w.vpc, "SubnetID": w.subnet, "ImageID": w.image}
	id := w.demo.Must(t, "CreateVMInstance", q.of(more)).String("VMID")
	w.awaitVM(t, id, "Running")
	return id
}

func (w *world) awaitVM(t *testing.T, id, state string) info {
	t.Helper()
	var v info
	controllertest.Eventually(t, settle, id+" is "+state, func() bool {
		infos := w.demo.Must(t, "DescribeVMInstance", p{"VMIDs": []string{id}}).Infos()
		if len(infos) == 0 {
			return false
		}
		v = infos[0]
		return v.String("State") == state
	})
	return v
}

func (w *world) stop(t *testing.T, vm string) {
	t.Helper()
	w.demo.Must(t, "StopVMInstance", p{"VMID": vm})
	w.awaitVM(t, vm, "Stopped")
}

// bootDisk is the system disk of a machine.
func (w *world) bootDisk(t *testing.T, vm string) string {
	t.Helper()
	infos := w.demo.Must(t, "DescribeDisk", p{"AttachResourceID": vm, "DiskType": "Boot"}).Infos()
	if len(infos) != 1 {
		t.Fatalf("system disks of %s: %v", vm, infos)
	}
	return infos[0].String("DiskID")
}

func (w *world) askDisk(more p) p {
	return with{"Name": "data", "ChargeType": "Dynamic", "SetType": w.storage, "DiskSpace": 20}.of(more)
}

// disk makes a disk that is free.
func (w *world) disk(t *testing.T, more p) string {
	t.Helper()
	id := w.demo.Must(t, "CreateDisk", w.askDisk(more)).String("DiskID")
	w.await(t, id, "Unbound")
	return id
}

// show is one disk as its tenant sees it; nil when it is not listed.
func (w *world) show(t *testing.T, id string) info {
	t.Helper()
	infos := w.demo.Must(t, "DescribeDisk", p{"DiskIDs": []string{id}}).Infos()
	if len(infos) == 0 {
		return nil
	}
	return infos[0]
}

func (w *world) await(t *testing.T, id, state string) info {
	t.Helper()
	var d info
	controllertest.Eventually(t, settle, id+" is "+state, func() bool {
		d = w.show(t, id)
		return d.String("DiskStatus") == state
	})
	return d
}

func (w *world) attach(t *testing.T, disk, vm string) {
	t.Helper()
	w.demo.Must(t, "AttachDisk", p{"DiskID": disk, "ResourceID": vm, "ResourceType": "VM"})
	w.await(t, disk, "Bound")
}

func (w *world) detach(t *testing.T, disk, vm string) {
	t.Helper()
	w.demo.Must(t, "DetachDisk", p{"DiskID": disk, "ResourceID": vm})
	w.await(t, disk, "Unbound")
}

func (w *world) snapshot(t *testing.T, disk string) string {
	t.Helper()
	id := w.demo.Must(t, "CreateSnapshot", p{"Name": "before", "DiskID": disk}).String("SnapshotID")
	w.awaitSnapshot(t, id, "Normal")
	return id
}

func (w *world) awaitSnapshot(t *testing.T, id, state string) info {
	t.Helper()
	var n info
	controllertest.Eventually(t, settle, id+" is "+state, func() bool {
		infos := w.demo.Must(t, "DescribeSnapshot", p{"SnapshotIDs": []string{id}}).Infos()
		if state == "" {
			return len(infos) == 0
		}
		if len(infos) == 0 {
			return false
		}
		n = infos[0]
		return n.String("SnapshotStatus") == state
	})
	return n
}

func (w *world) awaitBin(t *testing.T, id, state string) {
	t.Helper()
	controllertest.Eventually(t, settle, id+" is "+state+" in the bin", func() bool {
		infos := w.demo.Must(t, "DescribeRecycledResource", p{"ResourceIDs": []string{id}}).Infos()
		return state == "" && len(infos) == 0 || len(infos) == 1 && infos[0].String("State") == state
	})
}

// row reads a column of a disk's row that clients do not see.
func (w *world) row(t *testing.T, disk, column string) (value string) {
	t.Helper()
	if err := w.DB.Reader().NewRaw("SELECT CAST("+column+" AS TEXT) FROM disk WHERE id = ?", disk).Scan(context.Background(), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// host is the simulated host that a disk, or a machine, is on.
func (w *world) host(t *testing.T, id string) *simulate.Host {
	t.Helper()
	table := "disk"
	if strings.HasPrefix(id, "vm-") {
		table = "vm"
	}
	var host string
	if err := w.DB.Reader().NewRaw("SELECT host_id FROM "+table+" WHERE id = ?", id).Scan(context.Background(), &host); err != nil {
		t.Fatal(err)
	}
	return w.hostOf(t, host)
}

func (w *world) hostOf(t *testing.T, id string) *simulate.Host {
	t.Helper()
	h, err := w.Simulator.Dial(id, "")
	if err != nil {
		t.Fatal(err)
	}
	return h.(*simulate.Host)
}

// holders are the hosts that have a disk's volume.
func (w *world) holders(t *testing.T, disk string) (hosts []string) {
	t.Helper()
	for _, id := range w.Simulator.IDs() {
		l, err := hostlink.Host(w.hostOf(t, id)).List(context.Background(), &pb.ListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(l.Volumes, func(v *pb.Volume) bool { return v.Id == disk }) {
			hosts = append(hosts, id)
		}
	}
	return hosts
}

// healthy asks the doctor.
func (w *world) healthy(t *testing.T) {
	t.Helper()
	problems, err := controller.Doctor(context.Background(), w.DB)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("doctor: %s", problem)
	}
}

func (w *world) used(t *testing.T, factor string) (n int64) {
	t.Helper()
	if err := w.DB.Reader().NewRaw("SELECT COALESCE(SUM(used), 0) FROM quota WHERE company = ? AND factor = ?", w.demo.Company, factor).Scan(context.Background(), &n); err != nil {
		t.Fatal(err)
	}
	return n
}
