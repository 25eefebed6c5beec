package block

import "github.com/lingyun-cloud/lingyun/internal/cloud/resource"

// Kinds are disks and snapshots, for the directory.
func Kinds() []resource.Kind {
	return []resource.Kind{
		{Name: "Disk", Prefix: "disk-", Service: "disk", Table: "disk", Exists: "ended_at = 0", Binned: "deleted_at > 0", Remark: true},
		{Name: "Snapshot", Prefix: "snapshot-", Service: "snapshot", Table: "snapshot", Exists: "ended_at = 0", Remark: true, CheckName: snapshotName},
	}
}
