package network

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Kinds of NICs and VIPs: in a subnet, or on an external segment itself.
const (
	LAN = "LAN"
	WAN = "WAN"
)

// checkSide refuses a parameter that is neither LAN nor WAN (8008).
func checkSide(parameter, kind string) error {
	if kind != LAN && kind != WAN {
		return retcode.InvalidNetworkType.Errorf("%s is %s or %s, not %q", parameter, LAN, WAN, kind)
	}
	return nil
}

// How many elastic NICs a machine takes.
const (
	maxNICs    = 6
	maxNICsARM = 3
)

// MostNICs is how many elastic NICs a machine of an architecture takes.
func MostNICs(arch string) int {
	if arch == "aarch64" {
		return maxNICsARM
	}
	return maxNICs
}

// NIC is a row of elastic NICs. Its port has the same id; while it is attached to nothing, the port is kept.
type NIC struct {
	bun.BaseModel `bun:"table:nic"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	Kind       string `bun:"kind"`
	VPCID      string `bun:"vpc_id"`
	SubnetID   string `bun:"subnet_id"`
	SegmentID  string `bun:"segment_id"`
	Bandwidth  int    `bun:"bandwidth"`
	ChargeType string `bun:"charge_type"`
	Quantity   int    `bun:"quantity"`
	AutoRenew  bool   `bun:"auto_renew"`
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	ReasonCode int    `bun:"reason_code"`
	BindKind   string `bun:"bind_kind"`
	BindID     string `bun:"bind_id"`
	ExpireAt   int64  `bun:"expire_at"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	EndedAt    int64  `bun:"ended_at"`
	Generation int64  `bun:"generation"`
}

// Machine is a machine as NICs and VIPs see it.
type Machine struct {
	PortID  string // its own
	Name    string
	Project string
	HostID  string
	Arch    string
	Stopped bool
}

// Machines is the kind of target that NICs are attached to; compute registers it.
type Machines interface {
	Target
	// Machine checks in the caller's transaction that the machine is in the scope and in a state that allows
	// attaching: 1004, 1005, 1006.
	Machine(ctx context.Context, tx bun.Tx, scope action.Scope, id string) (*Machine, error)
	// Plug makes the machine's host follow its rows and returns when it does. NICs are those of DomainPorts.
	Plug(ctx context.Context, id string) error
	// Readdress notes that the machine's own port has another address, in a subnet, of which the network is still to
	// learn: until Readdressed the machine shows so and is left alone. 1006 when another request changes it.
	Readdress(ctx context.Context, tx bun.Tx, id, subnet string) error
	// Readdressed ends that. cause is why the address is the one before; nil: it is the new one.
	Readdressed(ctx context.Context, tx bun.Tx, id string, cause error) error
}

func (s *Service) machines() (Machines, error) {
	m, ok := s.targets[VM].(Machines)
	if !ok {
		return nil, errors.New("network: nothing runs machines")
	}
	return m, nil
}

// Actions on a NIC. Attach and Detach are judged twice: with the machine it is attached to, and with another.
const (
	nicAttach      = "Attach"
	nicAttachOther = "Attach to another"
	nicDetach      = "Detach"
	nicDetachOther = "Detach from another"
	nicDelete      = "Delete"
	nicBandwidth   = "Change bandwidth"
	nicMAC         = "Change MAC"
)

const (
	stillBound = retcode.NICStillBound
	elsewhere  = retcode.NICBoundElsewhere
)

// nicLife says what an action meets in a state of a NIC.
var nicLife = lifecycle.Table{
	States: []string{Free, Bounding, Bound, Unbounding, Updating, Released},
	Verbs:  []string{nicAttach, nicAttachOther, nicDetach, nicDetachOther, nicDelete, nicBandwidth, nicMAC},
	Verdicts: map[string][]retcode.Code{
		//          Attach   another    Detach   another  Delete      Bandwidth MAC
		Free:       {proceed, proceed, state, state, proceed, proceed, proceed},
		Bounding:   {repeat, elsewhere, state, state, state, state, state},
		Bound:      {repeat, elsewhere, proceed, state, stillBound, proceed, stillBound},
		Unbounding: {state, state, repeat, state, state, state, state},
		Updating:   {state, state, state, state, state, state, state},
		Released:   {gone, gone, gone, gone, gone, gone, gone},
	},
}

// check tells whether an action may be done with a NIC: nil, lifecycle.ErrRepeat or the state's code.
func (n *NIC) check(verb string) error {
	if code := nicLife.Judge(n.State, verb); code == stillBound || code == elsewhere {
		return code.Errorf("%s is bound to %s", n.ID, n.BindID)
	}
	return nicLife.Check(n.ID, n.State, verb)
}

// toward picks the verb by whether the NIC is attached to the machine.
func (n *NIC) toward(id, same, other string) string {
	if n.BindID == "" || n.BindID == id {
		return same
	}
	return other
}

// nicByID reads a NIC of a scope, also a destroyed one: 200 when unknown or out of it.
func nicByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*NIC, error) {
	n := new(NIC)
	found, err := one(identity.Own(idb.NewSelect().Model(n).Where("id = ?", id), scope).Scan(ctx))
	if err == nil && !found {
		err = retcode.ResourceNotFound.Errorf("NICID %s", id)
	}
	return n, err
}

// ParseMAC reads a wanted MAC, which parameter name gave: 4 none, 113 not a unicast address.
func ParseMAC(name, text string) (string, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return "", retcode.InvalidParameterFormat.Errorf("%s: %q is no hardware address", name, text)
	}
	if mac[0]&1 != 0 || strings.Trim(mac.String(), "0:") == "" {
		return "", retcode.InvalidParameter.Errorf("%s: %s is no unicast address", name, mac)
	}
	return mac.String(), nil
}

// insertPort writes a port with the wanted MAC (113 when it is somebody's), or with a new one.
func insertPort(ctx context.Context, tx bun.Tx, port *Port, mac string) error {
	for {
		if port.MAC = mac; mac == "" {
			port.MAC = newMAC()
		}
		ok, err := changed(tx.NewInsert().Model(port).On("CONFLICT (mac) DO NOTHING").Exec(ctx))
		if err != nil || ok {
			return err
		}
		if mac != "" {
			return retcode.InvalidParameter.Errorf("MAC: %s is in use", mac)
		}
	}
}

// key is what a port is synced by: its VPC, or itself when it is on a segment.
func (p *Port) key() string {
	if p.SegmentID != "" {
		return p.ID
	}
	return p.VPCID
}

// group is the security group that lists show of an elastic NIC: outside of VPCs there is only the outer side.
func (p *Port) group() string {
	if p.SegmentID != "" {
		return p.OuterSG
	}
	return p.InnerSG
}

// pooled is where a port's address is from.
func (p *Port) pooled() *pool {
	if p.SegmentID != "" {
		return &pool{table: "segment", id: p.SegmentID}
	}
	return &pool{table: "subnet", id: p.SubnetID}
}

// endNIC destroys a Free NIC, leaving a tombstone; what it paid for and does not use is paid back.
func (s *Service) endNIC(ctx context.Context, tx bun.Tx, id string) error {
	if ok, err := s.turn(ctx, tx, "nic", id, Released, nil, Free); err != nil || !ok {
		return err
	}
	if err := s.ReleasePort(ctx, tx, id); err != nil {
		return err
	}
	n := new(NIC)
	if err := tx.NewRaw("UPDATE nic SET ended_at = ? WHERE id = ? RETURNING *", s.Clock.Micros(), id).Scan(ctx, n); err != nil {
		return err
	}
	if err := s.Catalog.Release(ctx, tx, n.Company, n.Region, catalog.Amounts{catalog.NIC: 1}); err != nil {
		return err
	}
	return s.Ledger.End(ctx, tx, id)
}
