package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Limits of VIPs.
const (
	maxCarriers  = 3 // machines or NICs of one VIP
	maxVIPsOfOne = 5 // that one machine may carry, by all its interfaces
)

// What carries a VIP.
const (
	byVM  = "VM"
	byNIC = "ELASTIC_NIC"
)

// Failed is the state of a VIP that the network did not take.
const Failed = "Failed"

// vipRow is a virtual address; its port has the same id. That of an outer one is in no network by itself: its carriers'
// ports are told to the fabric with it.
type vipRow struct {
	bun.BaseModel `bun:"table:vip"`

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
	CarriedBy  string `bun:"carried_by"`
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	ReasonCode int    `bun:"reason_code"`
	ExpireAt   int64  `bun:"expire_at"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	EndedAt    int64  `bun:"ended_at"`
	Generation int64  `bun:"generation"`
}

// carrierRow says that a port may announce a VIP. ResourceID is the machine or NIC as the tenant named it.
type carrierRow struct {
	bun.BaseModel `bun:"table:vip_carrier"`

	VIPID      string `bun:"vip_id,pk"`
	PortID     string `bun:"port_id,pk"`
	ResourceID string `bun:"resource_id"`
}

// vipByID reads a VIP of a scope: 200 when unknown or out of it, 205 when destroyed.
func vipByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*vipRow, error) {
	v := new(vipRow)
	found, err := one(identity.Own(idb.NewSelect().Model(v).Where("id = ?", id), scope).Scan(ctx))
	switch {
	case err == nil && !found:
		err = retcode.ResourceNotFound.Errorf("VIPID %s", id)
	case err == nil && v.EndedAt != 0:
		err = retcode.ResourceTerminated.Errorf("%s is destroyed", id)
	}
	return v, err
}

// carriersOf finds the ports that may announce a VIP, by the machines or NICs that the tenant names, and keeps them from
// changing: 1004, 1005, 1006, 200, 202, 113 not in the VIP's subnet or segment, 208 too many for the VIP, or VIPs for a
// port.
func (s *Service) carriersOf(ctx context.Context, tx bun.Tx, c *action.Call, v *vipRow, by string, ids []string) ([]carrierRow, error) {
	ids = uniq(ids)
	if len(ids) > maxCarriers {
		return nil, retcode.BindLimitReached.Errorf("a VIP is carried by at most %d", maxCarriers)
	}
	var out []carrierRow
	for _, id := range ids {
		var port *Port
		var err error
		if by == byNIC {
			port, err = s.nicCarrier(ctx, tx, v, id)
		} else {
			port, err = s.machineCarrier(ctx, tx, c, v, id)
		}
		if err != nil {
			return nil, err
		}
		if err := checkCarrier(ctx, tx, v, port.ID, id); err != nil {
			return nil, err
		}
		out = append(out, carrierRow{VIPID: v.ID, PortID: port.ID, ResourceID: id})
	}
	return out, nil
}

// checkCarrier refuses one VIP too many for a machine (208), and keeps its interfaces from changing. id is what the
// tenant called it by.
func checkCarrier(ctx context.Context, tx bun.Tx, v *vipRow, portID, id string) error {
	var ports []string
	if err := tx.NewRaw("SELECT id FROM port WHERE owner_id = (SELECT owner_id FROM port WHERE id = ?) ORDER BY id", portID).Scan(ctx, &ports); err != nil {
		return err
	}
	for _, port := range ports {
		if _, err := lockPort(ctx, tx, port); err != nil {
			return err
		}
	}
	var there int
	if err := tx.NewRaw("SELECT COUNT(DISTINCT vip_id) FROM vip_carrier WHERE port_id IN (?) AND vip_id <> ?", bun.In(ports), v.ID).Scan(ctx, &there); err != nil {
		return err
	}
	if there >= maxVIPsOfOne {
		return retcode.BindLimitReached.Errorf("the machine of %s carries %d VIPs", id, there)
	}
	return nil
}

func (s *Service) nicCarrier(ctx context.Context, tx bun.Tx, v *vipRow, id string) (*Port, error) {
	n, err := nicByID(ctx, tx, action.Scope{Region: v.Region, Company: v.Company}, id)
	if err != nil {
		return nil, err
	}
	if n.State != Bound {
		return nil, retcode.InvalidResourceState.Errorf("%s is %s", n.ID, n.State)
	}
	if n.SubnetID != v.SubnetID || n.SegmentID != v.SegmentID {
		return nil, retcode.InvalidParameter.Errorf("%s is not in %s", n.ID, v.place())
	}
	return &Port{ID: n.ID}, nil
}

func (s *Service) machineCarrier(ctx context.Context, tx bun.Tx, c *action.Call, v *vipRow, id string) (*Port, error) {
	kind, err := s.machines()
	if err != nil {
		return nil, err
	}
	m, err := kind.Machine(ctx, tx, action.Scope{Region: v.Region, Company: v.Company, Projects: c.Projects}, id)
	if err != nil {
		return nil, err
	}
	port := new(Port)
	found, err := one(tx.NewSelect().Model(port).Where("owner_id = ? AND subnet_id = ? AND segment_id = ? AND kept = ?", id, v.SubnetID, v.SegmentID, false).
		OrderExpr("CASE WHEN id = ? THEN 0 ELSE 1 END, id", m.PortID).Limit(1).Scan(ctx))
	if err == nil && !found {
		err = retcode.InvalidParameter.Errorf("%s has no interface in %s", id, v.place())
	}
	return port, err
}

// place is the subnet or segment that a VIP is in.
func (v *vipRow) place() string { return v.SubnetID + v.SegmentID }

// told are the networks that hear of a VIP with some carriers: its VPC, or the carriers' ports on the segment.
func (v *vipRow) told(carriers ...carrierRow) []string {
	if v.Kind == LAN {
		return []string{v.VPCID}
	}
	return uniq(column(carriers, func(r *carrierRow) string { return r.PortID }))
}

// carried reads who may announce a VIP.
func carried(ctx context.Context, idb bun.IDB, vip string) ([]carrierRow, error) {
	return database.Find[carrierRow](ctx, idb, "WHERE vip_id = ? ORDER BY port_id", vip)
}

// replaceCarriers writes who may announce a VIP.
func replaceCarriers(ctx context.Context, tx bun.Tx, vip string, rows []carrierRow) error {
	if _, err := tx.NewRaw("DELETE FROM vip_carrier WHERE vip_id = ?", vip).Exec(ctx); err != nil || len(rows) == 0 {
		return err
	}
	_, err := tx.NewInsert().Model(&rows).Exec(ctx)
	return err
}

// loadVirtuals makes virtual ports of a VPC's VIPs. Who may carry one and is not in its subnet now is left out.
func loadVirtuals(ctx context.Context, db bun.IDB, vips []fabric.Virtual, ports []fabric.Port) error {
	if len(vips) == 0 {
		return nil
	}
	var ids []string
	for _, v := range vips {
		ids = append(ids, v.ID)
	}
	var rows []carrierRow
	if err := db.NewSelect().Model(&rows).Where("vip_id IN (?)", bun.In(ids)).Order("port_id").Scan(ctx); err != nil {
		return err
	}
	subnets := make(map[string]string)
	for _, p := range ports {
		subnets[p.ID] = p.SubnetID
	}
	for i := range vips {
		for _, r := range rows {
			if r.VIPID == vips[i].ID && subnets[r.PortID] == vips[i].SubnetID {
				vips[i].Parents = append(vips[i].Parents, r.PortID)
			}
		}
	}
	return nil
}

// registerVIP registers the workflows of VIPs.
func (s *Service) registerVIP() {
	s.makeVIP = s.registerEdit(editing{
		name: "vip.create",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			if ok, err := s.turn(ctx, tx, "vip", e.ID, Deleting, nil, Allocating); err != nil || !ok {
				return err
			}
			return s.KeepPort(ctx, tx, e.ID)
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error {
			if _, err := s.turn(ctx, tx, "vip", e.ID, Available, nil, Allocating); err != nil {
				return err
			}
			return s.Ledger.Capture(ctx, tx, e.ID)
		},
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			return s.endVIP(ctx, tx, e.ID, cause)
		},
	})
	s.changeVIP = s.registerEdit(editing{
		name: "vip.update",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			busy, err := exists(ctx, tx, "SELECT 1 FROM vip WHERE id = ? AND state = ?", e.ID, Updating)
			if err != nil || !busy {
				return err
			}
			if _, err := tx.NewRaw("UPDATE vip SET carried_by = ? WHERE id = ?", e.Was["by"], e.ID).Exec(ctx); err != nil {
				return err
			}
			var rows []carrierRow
			for port, resource := range e.Was {
				if port == "by" {
					continue
				}
				if there, err := exists(ctx, tx, "SELECT 1 FROM port WHERE id = ? AND NOT kept", port); err != nil {
					return err
				} else if there {
					rows = append(rows, carrierRow{VIPID: e.ID, PortID: port, ResourceID: resource})
				}
			}
			return replaceCarriers(ctx, tx, e.ID, rows)
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error {
			_, err := s.turn(ctx, tx, "vip", e.ID, Available, nil, Updating)
			return err
		},
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			_, err := s.turn(ctx, tx, "vip", e.ID, Available, cause, Updating)
			return err
		},
	})
	s.removeVIP = s.registerEdit(editing{
		name: "vip.release",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			if ok, err := s.turn(ctx, tx, "vip", e.ID, Available, nil, Deleting); err != nil || !ok {
				return err
			}
			return s.ReturnPort(ctx, tx, e.ID)
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error { return s.endVIP(ctx, tx, e.ID, nil) },
		abort: func(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
			_, err := s.turn(ctx, tx, "vip", e.ID, Available, cause, Available)
			return err
		},
	})
	s.limitVIP = s.registerLimit("vip.bandwidth", "vip")
	s.RegisterTarget(ofVIP, vipTarget{s})
}

// beginCarriers gives a VIP other carriers and makes it Updating until vip.update settles: 202.
func (s *Service) beginCarriers(ctx context.Context, tx bun.Tx, v *vipRow, by string, rows []carrierRow) (edit, error) {
	before, err := carried(ctx, tx, v.ID)
	if err != nil {
		return edit{}, err
	}
	if ok, err := s.turn(ctx, tx, "vip", v.ID, Updating, nil, Available); err != nil {
		return edit{}, err
	} else if !ok {
		return edit{}, retcode.InvalidResourceState.Errorf("%s is being changed", v.ID)
	}
	was := map[string]string{"by": v.CarriedBy}
	for _, r := range before {
		was[r.PortID] = r.ResourceID
	}
	if _, err := tx.NewRaw("UPDATE vip SET carried_by = ? WHERE id = ?", by, v.ID).Exec(ctx); err != nil {
		return edit{}, err
	}
	return edit{ID: v.ID, VPCs: v.told(append(before, rows...)...), Was: was}, replaceCarriers(ctx, tx, v.ID, rows)
}

// beginRelease takes a VIP out of its network until vip.release settles: 202. The caller holds its port.
func (s *Service) beginRelease(ctx context.Context, tx bun.Tx, v *vipRow) (edit, error) {
	if ok, err := s.turn(ctx, tx, "vip", v.ID, Deleting, nil, Available, Failed); err != nil {
		return edit{}, err
	} else if !ok {
		return edit{}, retcode.InvalidResourceState.Errorf("%s is %s", v.ID, v.State)
	}
	rows, err := carried(ctx, tx, v.ID)
	if err != nil {
		return edit{}, err
	}
	return edit{ID: v.ID, VPCs: v.told(rows...)}, s.KeepPort(ctx, tx, v.ID)
}

// endVIP makes a tombstone of a VIP that is in no network any more; what it paid for and does not use is paid back.
func (s *Service) endVIP(ctx context.Context, tx bun.Tx, id string, cause error) error {
	if ok, err := s.turn(ctx, tx, "vip", id, Released, cause, Deleting); err != nil || !ok {
		return err
	}
	if err := replaceCarriers(ctx, tx, id, nil); err != nil {
		return err
	}
	if err := s.ReleasePort(ctx, tx, id); err != nil {
		return err
	}
	v := new(vipRow)
	if err := tx.NewRaw("UPDATE vip SET ended_at = ? WHERE id = ? RETURNING *", s.Clock.Micros(), id).Scan(ctx, v); err != nil {
		return err
	}
	if err := s.Catalog.Release(ctx, tx, v.Company, v.Region, catalog.Amounts{catalog.VIP: 1}); err != nil {
		return err
	}
	return s.Ledger.End(ctx, tx, id)
}

// vipTarget lets public addresses be bound to VIPs: they go where the address is.
type vipTarget struct{ *Service }

// Resolve implements Target.
func (t vipTarget) Resolve(ctx context.Context, tx bun.Tx, scope action.Scope, id string, unbind bool) (*TargetPort, error) {
	v, err := vipByID(ctx, tx, scope, id)
	if err != nil {
		return nil, err
	}
	if v.Kind == WAN {
		return nil, retcode.InvalidNetworkType.Errorf("%s is an outer VIP, which is a public address itself", v.ID)
	}
	if v.State != Available && v.State != Updating {
		return nil, retcode.InvalidResourceState.Errorf("%s is %s", v.ID, v.State)
	}
	return &TargetPort{PortID: v.ID, Name: v.Name, Project: v.Project}, nil
}

// Describe implements Target.
func (t vipTarget) Describe(ctx context.Context, ids []string) (map[string]TargetPort, error) {
	out := map[string]TargetPort{}
	if len(ids) == 0 {
		return out, nil
	}
	var rows []vipRow
	err := t.DB.Reader().NewSelect().Model(&rows).Where("id IN (?)", bun.In(ids)).Scan(ctx)
	for _, v := range rows {
		out[v.ID] = TargetPort{PortID: v.ID, Name: v.Name, Project: v.Project}
	}
	return out, err
}

// VIPInfo is a VIP as lists of machines show it.
type VIPInfo struct{ ID, IP string }

// VIPsOf returns the VIPs that owners may carry, by owner.
func (s *Service) VIPsOf(ctx context.Context, idb bun.IDB, owners ...string) (map[string][]VIPInfo, error) {
	out := make(map[string][]VIPInfo)
	if len(owners) == 0 {
		return out, nil
	}
	rows, err := database.Query[struct{ Owner, ID, IP string }](ctx, idb, `SELECT p.owner_id AS owner, v.id AS id, v.ip AS ip FROM vip_carrier AS c
		JOIN port AS p ON p.id = c.port_id JOIN port AS v ON v.id = c.vip_id WHERE p.owner_id IN (?) ORDER BY v.id`, owners)
	for _, r := range rows {
		out[r.Owner] = append(out[r.Owner], VIPInfo{r.ID, r.IP})
	}
	return out, err
}
