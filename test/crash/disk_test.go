package crash

import "github.com/lingyun-cloud/lingyun/internal/cloud/fleet"

var diskDeeds = product{
	"CreateDisk": {often: 4, ask: func(u *user) p {
		return bought(with(p{"SetType": fleet.FirstStorageType, "DiskSpace": 10}, u.maybe(p{"ShareAble": true})))
	}},
	"AttachDisk": {after: after("CreateDisk", "DetachDisk"), often: 6, ask: func(u *user) p {
		return p{"DiskID": u.a(disks, "Unbound"), "ResourceID": u.a(vms, on, off), "ResourceType": "VM"}
	}},
	"DetachDisk": {after: after("AttachDisk"), often: 5, ask: func(u *user) p {
		d := u.row(disks, "Bound")
		return p{"DiskID": d.String("DiskID"), "ResourceID": d.String("AttachResourceID")}
	}},
	"UpgradeDisk": {after: after("CreateDisk"), often: 2, ask: func(u *user) p {
		d := u.row(disks, "Bound", "Unbound")
		return p{"DiskID": d.String("DiskID"), "DiskSpace": d.Int("Size") + 10}
	}},
	"CloneDisk":  {after: after("CreateDisk", "DetachDisk"), often: 2, ask: func(u *user) p { return bought(p{"SrcID": u.a(disks, "Unbound")}) }},
	"DeleteDisk": {after: after("CreateDisk", "DetachDisk"), often: 4, ask: func(u *user) p { return p{"DiskID": u.a(disks, "Unbound")} }},
	"UpdateDiskQoS": {admin: true, ask: func(u *user) p {
		return p{"CompanyID": u.company, "DiskID": u.a(disks, "Bound", "Unbound"), "DiskIOPS": one(u, 0, 500)}
	}},
}

var snapshotDeeds = product{
	"CreateSnapshot": {after: after("CreateDisk"), often: 5, ask: func(u *user) p { return p{"Name": named, "DiskID": u.a(disks, "Bound", "Unbound")} }},
	"RollbackSnapshot": {after: after("CreateSnapshot", "DetachDisk", "StopVMInstance"), often: 2, ask: func(u *user) p {
		n := u.row(snapshots, "Normal")
		return p{"DiskID": n.String("DiskID"), "SnapshotID": n.String("SnapshotID")}
	}},
	"DeleteSnapshot":         {after: after("CreateSnapshot"), often: 3, ask: func(u *user) p { return p{"SnapshotID": u.a(snapshots, "Normal", "Failure")} }},
	"CreateDiskFromSnapshot": {after: after("CreateSnapshot"), often: 3, ask: func(u *user) p { return bought(p{"SrcSnapshotID": u.a(snapshots, "Normal")}) }},
}
