package network

import (
	"github.com/uptrace/bun"
)

// VPC is a row of VPCs.
type VPC struct {
	bun.BaseModel `bun:"table:vpc"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	CIDR       string `bun:"cidr"`
	IsDefault  bool   `bun:"is_default"`
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// Subnet is a row of subnets. Capacity, Used and Position are its pool's.
type Subnet struct {
	bun.BaseModel `bun:"table:subnet"`

	ID         string `bun:"id,pk"`
	VPCID      string `bun:"vpc_id"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	CIDR       string `bun:"cidr"`
	DNS        string `bun:"dns"`
	IsDefault  bool   `bun:"is_default"`
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	Capacity   int64  `bun:"capacity"`
	Used       int64  `bun:"used"`
	Position   int64  `bun:"position"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// Segment is a row of external segments: a provider network with a gateway.
type Segment struct {
	bun.BaseModel `bun:"table:segment"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Name       string `bun:"name"`
	IPVersion  string `bun:"ip_version"`
	CIDR       string `bun:"cidr"`
	Ranges     string `bun:"ranges"`
	Gateway    string `bun:"gateway"`
	VLAN       int    `bun:"vlan"`
	Network    string `bun:"network"`
	Capacity   int64  `bun:"capacity"`
	Used       int64  `bun:"used"`
	Position   int64  `bun:"position"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// Port is a NIC: one address and one MAC in a subnet. UUID names the logical port and libvirt's interface.
type Port struct {
	bun.BaseModel `bun:"table:port"`

	ID         string `bun:"id,pk"`
	UUID       string `bun:"uuid"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	VPCID      string `bun:"vpc_id"`
	SubnetID   string `bun:"subnet_id"`
	MAC        string `bun:"mac"`
	IP         string `bun:"ip"`
	Num        int64  `bun:"num"`
	Hostname   string `bun:"hostname"`
	OwnerKind  string `bun:"owner_kind"`
	OwnerID    string `bun:"owner_id"`
	InnerSG    string `bun:"inner_sg"`
	OuterSG    string `bun:"outer_sg"`
	HostID     string `bun:"host_id"`
	Kept       bool   `bun:"kept"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// EIP is a row of public addresses. Times are unix microseconds.
type EIP struct {
	bun.BaseModel `bun:"table:eip"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	SegmentID  string `bun:"segment_id"`
	IPVersion  string `bun:"ip_version"`
	IP         string `bun:"ip"`
	Num        int64  `bun:"num"`
	Bandwidth  int    `bun:"bandwidth"`
	ChargeType string `bun:"charge_type"`
	Quantity   int    `bun:"quantity"`
	AutoRenew  bool   `bun:"auto_renew"`
	State      string `bun:"state"`
	Listed     bool   `bun:"listed"`
	Reason     string `bun:"reason"`
	BindKind   string `bun:"bind_kind"`
	BindID     string `bun:"bind_id"`
	PortID     string `bun:"port_id"`
	VPCID      string `bun:"vpc_id"`
	Egress     bool   `bun:"egress"` // default egress of its port
	BoundAt    int64  `bun:"bound_at"`
	ExpireAt   int64  `bun:"expire_at"` // 0: never
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	DeletedAt  int64  `bun:"deleted_at"`
	EndedAt    int64  `bun:"ended_at"`
	Generation int64  `bun:"generation"`
}

// Group is a row of security groups.
type Group struct {
	bun.BaseModel `bun:"table:security_group"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	IsDefault  bool   `bun:"is_default"`
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}
