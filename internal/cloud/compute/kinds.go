package compute

import (
	"unicode/utf8"

	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Kinds are machines and images, for the directory.
func Kinds() []resource.Kind {
	return []resource.Kind{
		{Name: "VM", Prefix: "vm-", Service: "vm", Table: "vm", Exists: "ended_at = 0", Binned: "NOT listed", Remark: true, NotFound: retcode.VMNotFound,
			Parts:     []resource.Part{{Table: "disk", Column: "vm_id", Where: "role = 'Boot'"}, {Table: "resource_event", Column: "resource_id"}},
			CheckName: machineName, Frozen: "state IN ('Deleting', 'Deleted', 'Failed')"},
		{Name: "Image", Prefix: "image-", Service: "image", Table: "image", Exists: "ended_at = 0 AND type = 'Custom'", Binned: "deleted_at > 0",
			NotFound: retcode.ImageNotFound, Frozen: "state IN ('Deleted', 'Terminating')"},
		{Name: "KeyPair", Prefix: "keypair-", Service: "vm", Table: "keypair", Exists: "TRUE", Remark: true},
	}
}

// machineName is how names of machines are: 1 to 30 of Chinese characters, letters, digits and - _ . (113).
func machineName(name string) (string, error) {
	if utf8.RuneCountInString(name) > 30 || !vmName.MatchString(name) {
		return "", retcode.InvalidParameter.Errorf("Name must be 1 to 30 of Chinese characters, letters, digits and - _ .")
	}
	return name, nil
}
