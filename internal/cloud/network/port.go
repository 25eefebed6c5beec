package network

import (
	"context"

	"github.com/uptrace/bun"
)

// Owner of a port: a kind (VM) and an id.
type Owner struct{ Kind, ID string }

// PortRequest asks for a port in a subnet.
type PortRequest struct {
	Company          int64
	Region           string
	VPCID, SubnetID  string
	IP               string // wanted address; empty: any
	Owner            Owner
	InnerSG, OuterSG string // both empty: the tenant's default group on both sides
	Hostname         string // offered by DHCP
	HostID           string // where it will be plugged; empty: not known yet (PlacePort)
}

// ReservePort takes an address of the subnet and makes a port of it, in the caller's transaction.
// 3000, 3008 (VPC), 3003, 3010 (subnet), 3011 exhausted, 8001 taken, 8005 reserved, 8006 outside,
// 4 no address, 16002, 16003, 16004 (groups).
func (s *Service) ReservePort(ctx context.Context, tx bun.Tx, r PortRequest) (*Port, error) {
	panic("not yet")
}

// PlacePort says on which host the port is plugged.
func (s *Service) PlacePort(ctx context.Context, tx bun.Tx, portID, hostID string) error {
	panic("not yet")
}

// KeepPort takes the port out of its network and keeps its address and MAC for an owner in the
// recycle bin. SyncVPC must follow.
func (s *Service) KeepPort(ctx context.Context, tx bun.Tx, portID string) error { panic("not yet") }

// ReturnPort puts a kept port back into its network. SyncVPC must follow.
func (s *Service) ReturnPort(ctx context.Context, tx bun.Tx, portID string) error { panic("not yet") }

// ReleasePort deletes the port and frees its address. Its EIPs must be unbound. Its VPC must have been
// synced without it (KeepPort, SyncVPC) before the address may go to somebody else; a port that
// was never plugged may be released at once. An unknown id is no error.
func (s *Service) ReleasePort(ctx context.Context, tx bun.Tx, portID string) error { panic("not yet") }

// PortInfo is a port with what lists show of it.
type PortInfo struct {
	Port
	VPCName, SubnetName string
	InnerSGName         string
	OuterSGName         string
	EIPs                []EIP // Bounding, Bound and Unbounding ones, the default egress first
}

// PortsOf returns the ports of owners, by owner id, in a fixed number of queries.
func (s *Service) PortsOf(ctx context.Context, idb bun.IDB, owners ...string) (map[string][]PortInfo, error) {
	panic("not yet")
}

// SyncVPC makes the fabric equal to the rows of one VPC and returns when a run that began after the
// call is done. Callers of one VPC at the same time share runs. An unknown VPC, or one without
// ports in use, is removed from the fabric. Not to be called inside a transaction.
func (s *Service) SyncVPC(ctx context.Context, vpcID string) error { panic("not yet") }

// WaitHosts returns when the given hosts run what SyncVPC wrote before. Hosts that are down are not
// waited for; a slow host is waited for some seconds, no longer: it follows by itself.
func (s *Service) WaitHosts(ctx context.Context, hostIDs ...string) error { panic("not yet") }
