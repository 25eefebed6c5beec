package network

import (
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Kinds are the network's resources, for the directory.
func Kinds() []resource.Kind {
	return []resource.Kind{
		{Name: "VPC", Prefix: "vpc-", Service: "vpc", Table: "vpc", Exists: "ended_at = 0", Given: "is_default", Remark: true,
			Parts: []resource.Part{{Table: "subnet", Column: "vpc_id"}}, NotFound: retcode.VPCNotFound},
		{Name: "SUBNET", Prefix: "subnet-", Service: "vpc", Table: "subnet", Exists: "ended_at = 0", Given: "is_default", Remark: true, NotFound: retcode.SubnetNotFound},
		{Name: "EIP", Prefix: "eip-", Service: "eip", Table: "eip", Exists: "ended_at = 0 AND NOT physical", Binned: "NOT listed", Remark: true},
		{Name: "PIP", Prefix: "pip-", Service: "eip", Table: "eip", Exists: "ended_at = 0 AND physical", Remark: true},
		{Name: "SEGMENT", Prefix: "seg-", Service: "eip", Table: "segment", Exists: "TRUE", Remark: true, Platform: true},
		{Name: "NIC", Prefix: "nic-", Service: "nic", Table: "nic", Exists: "ended_at = 0", Remark: true},
		{Name: "VIP", Prefix: "vip-", Service: "vip", Table: "vip", Exists: "ended_at = 0", Remark: true},
		{Name: "IPGROUP", Prefix: ipGroupPrefix, Service: "security_group", Table: "entry_group", Exists: "kind = 'ip'", Remark: true},
		{Name: "PORTGROUP", Prefix: portGroupPrefix, Service: "security_group", Table: "entry_group", Exists: "kind = 'port'", Remark: true},
		{Name: "SG", Prefix: "sg-", Service: "security_group", Table: "security_group", Exists: "ended_at = 0", Given: "is_default", Remark: true, NotFound: retcode.SGNotFound},
	}
}
