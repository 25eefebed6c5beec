package block_test

import (
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Disks and snapshots are in the project group that was named, else in the default one, and copies in that of what
// they are copies of.
func TestGroupsOfDisks(t *testing.T) {
	each(t, controllertest.Options{Hosts: 1}, func(t *testing.T, w *world) {
		web := w.demo.Must(t, "CreateProject", p{"CompanyID": w.demo.Company, "Name": "web"}).String("ProjectID")
		all := identity.DefaultProject(w.demo.Company)
		loose, disk := w.disk(t, nil), w.disk(t, p{"ProjectID": web})
		snapshot := w.snapshot(t, disk)
		elsewhere := w.demo.Must(t, "CreateSnapshot", p{"Name": "x", "DiskID": disk, "ProjectID": all}).String("SnapshotID")
		w.awaitSnapshot(t, elsewhere, "Normal")
		clone := w.demo.Must(t, "CloneDisk", p{"Name": "clone", "ChargeType": "Dynamic", "SrcID": disk}).String("DiskID")
		w.await(t, clone, "Unbound")
		w.await(t, disk, "Unbound")
		copied := w.demo.Must(t, "CreateDiskFromSnapshot", p{"SrcSnapshotID": snapshot, "Name": "copy", "ChargeType": "Dynamic", "Quantity": 1, "ProjectID": all}).String("DiskID")
		w.await(t, copied, "Unbound")
		for id, group := range map[string]string{loose: all, disk: web, clone: web, copied: all} {
			d := w.show(t, id)
			if name := map[string]string{all: "default", web: "web"}[group]; d.String("ProjectID") != group || d.String("ProjectName") != name {
				t.Errorf("%s is in %q, called %q, not in %s", id, d.String("ProjectID"), d.String("ProjectName"), name)
			}
		}
		for id, group := range map[string]string{snapshot: web, elsewhere: all} {
			n := w.awaitSnapshot(t, id, "Normal")
			if name := map[string]string{all: "default", web: "web"}[group]; n.String("ProjectID") != group || n.String("ProjectName") != name {
				t.Errorf("%s is in %q, called %q, not in %s", id, n.String("ProjectID"), n.String("ProjectName"), name)
			}
		}
		if n := w.demo.Must(t, "DescribeDisk", p{"ProjectIDs": []string{web}}).Int("TotalCount"); n != 2 {
			t.Errorf("%d disks in the group", n)
		}
		for action, q := range map[string]p{
			"CloneDisk":              {"Name": "x", "ChargeType": "Dynamic", "SrcID": disk},
			"CreateDiskFromSnapshot": {"Name": "x", "ChargeType": "Dynamic", "SrcSnapshotID": snapshot, "Quantity": 1},
			"CreateSnapshot":         {"Name": "x", "DiskID": disk},
			"CreateDisk":             w.askDisk(nil),
		} {
			q["ProjectID"] = "project-none"
			w.demo.Refuse(t, retcode.ProjectNotFound, action, q)
		}
		w.demo.Refuse(t, retcode.ProjectNotEmpty, "DeleteProject", p{"ProjectID": web})
	})
}

// What a disk is renewed by shows in the list, whatever it came from, and a copy goes on after its first hour.
func TestRenewalOfDisks(t *testing.T) {
	each(t, controllertest.Options{Hosts: 1}, func(t *testing.T, w *world) {
		vm := w.vm(t, p{"DataDiskSetType": w.storage, "DataDiskSpace": 10})
		data := w.demo.Must(t, "DescribeDisk", p{"AttachResourceID": vm, "DiskType": "Data"}).Infos()[0].String("DiskID")
		disk := w.disk(t, nil)
		snapshot := w.snapshot(t, disk)
		clone := w.demo.Must(t, "CloneDisk", p{"Name": "clone", "ChargeType": "Dynamic", "SrcID": disk}).String("DiskID")
		w.await(t, clone, "Unbound")
		copied := w.demo.Must(t, "CreateDiskFromSnapshot", p{"SrcSnapshotID": snapshot, "Name": "copy", "ChargeType": "Dynamic", "Quantity": 1}).String("DiskID")
		w.await(t, copied, "Unbound")
		ids := []string{data, disk, clone, copied}
		for _, id := range ids {
			if w.show(t, id)["AutoRenew"] != true {
				t.Errorf("%s does not renew itself", id)
			}
		}
		w.Clock.Advance(2 * time.Hour)
		for _, id := range ids {
			controllertest.Eventually(t, settle, id+" is paid for", func() bool { return int64(w.show(t, id).Int("ExpireTime")) > w.Clock.Now().Unix() })
		}
		w.demo.Must(t, "UpdateAutoRenew", p{"ResourceIDs": []string{clone}, "AutoRenew": false})
		if w.show(t, clone)["AutoRenew"] != false {
			t.Error("the list does not follow the switch")
		}
	})
}
