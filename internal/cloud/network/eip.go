package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

// VM is the kind of bind target that compute registers.
const VM = "VM"

// TargetPort is where an EIP of a bind target goes.
type TargetPort struct {
	PortID  string
	Name    string // of the target
	Project string
}

// Target is a kind of resource that carries EIPs.
type Target interface {
	// Resolve checks in the caller's transaction that the target exists for the tenant (company 0: any)
	// and is in a state that allows binding; it answers the kind's own codes (1004, 1005, 1006).
	// unbind: the EIP is taken away, not bound.
	Resolve(ctx context.Context, tx bun.Tx, c *action.Call, company int64, id string, unbind bool) (*TargetPort, error)
	// Describe returns names and projects of targets by id, in one query. Unknown ids are left out.
	Describe(ctx context.Context, ids []string) (map[string]TargetPort, error)
}

// RegisterTarget adds a kind of bind target. Call it before the engine's start.
func (s *Service) RegisterTarget(kind string, t Target) { s.targets[kind] = t }

// EIPRequest asks for one public address.
type EIPRequest struct {
	Company    int64
	Region     string
	Project    string
	Name       string // 1-63 printable characters
	Remark     string // 0-100 characters
	Segment    string // id or name
	IPVersion  string // IPv4 (also when empty), IPv6
	IP         string // wanted address; empty: any
	Bandwidth  int    // Mbps
	ChargeType string // Dynamic, Month, Year
	Quantity   int
	AutoRenew  bool
	// QuotaTaken: the caller reserved catalog.EIP together with its other quotas.
	QuotaTaken bool
}

// CheckEIP checks what needs no transaction: name, segment (200), bandwidth (8000), address (4, 8006, 8005).
func (s *Service) CheckEIP(ctx context.Context, r EIPRequest) error { panic("not yet") }

// AllocateEIPTx takes an address and makes a Free EIP of it: 200 unknown segment, 8001, 8004, 8005, 8006,
// 17005. CheckEIP must have passed before.
func (s *Service) AllocateEIPTx(ctx context.Context, tx bun.Tx, r EIPRequest) (*EIP, error) {
	panic("not yet")
}

// BeginBindTx makes a Free EIP Bounding on a port: 200, 202, 204, 205, 206, 208, 113, 8002, 8004. The caller's
// operation must hold the EIP's lock. Then: SyncVPC, WaitHosts, SettleBindTx; or AbortBind.
func (s *Service) BeginBindTx(ctx context.Context, tx bun.Tx, eipID string, owner Owner, portID string) (*EIP, error) {
	panic("not yet")
}

// SettleBindTx makes a Bounding EIP Bound.
func (s *Service) SettleBindTx(ctx context.Context, tx bun.Tx, eipID string) error { panic("not yet") }

// BeginUnbindAllTx makes every EIP of an owner Unbounding (its deletion) and returns their ids. Then: SyncVPC, SettleUnbindTx.
func (s *Service) BeginUnbindAllTx(ctx context.Context, tx bun.Tx, ownerID string) ([]string, error) {
	panic("not yet")
}

// SettleUnbindTx makes Unbounding EIPs Free; others it leaves alone.
func (s *Service) SettleUnbindTx(ctx context.Context, tx bun.Tx, eipIDs ...string) error {
	panic("not yet")
}

// ReleaseEIPTx puts a Free EIP into the recycle bin (DeleteVMInstance with the EIPs): the address stays, the quota is released.
func (s *Service) ReleaseEIPTx(ctx context.Context, tx bun.Tx, eipID string) error { panic("not yet") }

// DestroyEIPTx frees the address of a Free or Deleted EIP for good, leaving a tombstone. An unknown id is no error.
func (s *Service) DestroyEIPTx(ctx context.Context, tx bun.Tx, eipID string) error { panic("not yet") }
