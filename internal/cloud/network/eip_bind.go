package network

import (
	"context"
	"errors"
	"net/netip"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
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
	// Resolve checks in the caller's transaction that the target is in the scope
	// and is in a state that allows binding; it answers the kind's own codes (1004, 1005, 1006).
	// unbind: the EIP is taken away, not bound.
	Resolve(ctx context.Context, tx bun.Tx, scope action.Scope, id string, unbind bool) (*TargetPort, error)
	// Describe returns names and projects of targets by id, in one query. Unknown ids are left out.
	Describe(ctx context.Context, ids []string) (map[string]TargetPort, error)
}

// RegisterTarget adds a kind of bind target. Call it before the engine's start.
func (s *Service) RegisterTarget(kind string, t Target) { s.targets[kind] = t }

// BeginBindTx makes a Free EIP Bounding on a port: 200, 202, 204, 205, 206, 208, 113, 8002, 8004. The caller's
// operation must hold the EIP's lock. Then: SyncVPC, WaitHosts, SettleBindTx; or to give up UndoBindTx,
// SyncVPC, SettleUnbindTx.
func (s *Service) BeginBindTx(ctx context.Context, tx bun.Tx, eipID string, owner Owner, portID string) (*EIP, error) {
	e, err := eipByID(ctx, tx, action.Scope{}, eipID)
	if err != nil {
		return nil, err
	}
	if err := e.check(e.toward(owner.ID, verbBind, verbBindOther)); err != nil {
		return nil, err
	}
	return e, s.beginBind(ctx, tx, e, owner, portID)
}

// beginBind is BeginBindTx for an EIP whose state was judged.
func (s *Service) beginBind(ctx context.Context, tx bun.Tx, e *EIP, owner Owner, portID string) error {
	if err := s.Ledger.Check(ctx, tx, e.ID); err != nil {
		return err
	}
	if err := (&pool{table: "segment", id: e.SegmentID}).lock(ctx, tx); err != nil {
		return err
	}
	port, err := lockPort(ctx, tx, portID)
	if err != nil {
		return err
	}
	segments, err := segmentsByID(ctx, tx, []string{e.SegmentID})
	if err != nil {
		return err
	}
	segment := segments[e.SegmentID]
	if owner.Kind != VM && !segment.defaultRoute() {
		return retcode.InvalidNetworkType.Errorf("segment %s has no default route: its addresses are for machines", segment.Name)
	}
	var others []EIP
	if err := tx.NewSelect().Model(&others).Where("port_id = ? AND ip_version = ?", portID, e.IPVersion).Order("id").Scan(ctx); err != nil {
		return err
	}
	limit := maxIPv4
	if e.IPVersion == IPv6 {
		limit = maxIPv6
	}
	if len(others) >= limit {
		return retcode.BindLimitReached.Errorf("%s has %d %s addresses", owner.ID, limit, e.IPVersion)
	}
	egress := segment.defaultRoute()
	duplicate, err := exists(ctx, tx, "SELECT 1 FROM port WHERE owner_id = ? AND ip = ?", port.OwnerID, e.IP)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.SegmentID != e.SegmentID {
			names, err := segmentsByID(ctx, tx, []string{o.SegmentID})
			if err != nil {
				return err
			}
			return retcode.InvalidParameter.Errorf("the %s addresses of %s come from segment %s, others cannot be bound to it", e.IPVersion, owner.ID, names[o.SegmentID].Name)
		}
		egress = egress && !o.Egress
		duplicate = duplicate || o.IP == e.IP
	}
	if duplicate {
		return retcode.DuplicateIPBinding.Errorf("%s has the address %s already", owner.ID, e.IP)
	}
	if err := s.useGateway(ctx, tx, port.VPCID, segment); err != nil {
		return err
	}
	e.BindKind, e.BindID, e.PortID, e.VPCID, e.Egress, e.Reason = owner.Kind, owner.ID, port.ID, port.VPCID, egress, ""
	e.ReasonCode = 0
	return s.move(ctx, tx, e, Bounding, "bind_kind", "bind_id", "port_id", "vpc_id", "egress", "reason", "reason_code")
}

// lockPort reads a port and keeps others from binding to it until the transaction ends.
func lockPort(ctx context.Context, tx bun.Tx, id string) (*Port, error) {
	port := new(Port)
	found, err := one(tx.NewRaw("UPDATE port SET generation = generation + 1 WHERE id = ? RETURNING *", id).Scan(ctx, port))
	if err == nil && !found {
		err = retcode.ResourceNotFound.Errorf("port %s", id)
	}
	return port, err
}

// apartFrom refuses a router between networks that overlap (113): it could not tell inside from outside. New subnets
// stay apart from segments (3014), but a segment may have come later, and a tenant's first subnet is given.
func apartFrom(ctx context.Context, tx bun.Tx, vpcID string, outer netip.Prefix, segment string) error {
	subnets, err := database.Find[Subnet](ctx, tx, "WHERE vpc_id = ? AND ended_at = 0 ORDER BY id", vpcID)
	if err != nil {
		return err
	}
	for _, n := range subnets {
		if inner, err := netip.ParsePrefix(n.CIDR); err != nil || inner.Overlaps(outer) {
			return errors.Join(err, retcode.InvalidParameter.Errorf("%s of %s overlaps %s of segment %s", n.CIDR, n.ID, outer, segment))
		}
	}
	return nil
}

// useGateway counts one more EIP on the VPC's router on a segment, and makes the router for the first: 8004, 113.
// The caller holds the segment's pool, so that nobody else makes it meanwhile.
func (s *Service) useGateway(ctx context.Context, tx bun.Tx, vpcID string, segment *Segment) error {
	ok, err := changed(tx.NewRaw("UPDATE gateway SET uses = uses + 1 WHERE vpc_id = ? AND segment_id = ?", vpcID, segment.ID).Exec(ctx))
	if err != nil || ok {
		return err
	}
	p, err := segment.pool()
	if err != nil {
		return err
	}
	if err := apartFrom(ctx, tx, vpcID, p.cidr, segment.Name); err != nil {
		return err
	}
	num, err := p.take(ctx, tx, ofGateway, vpcID)
	if errors.Is(err, errExhausted) {
		return retcode.IPInsufficient.Errorf("segment %s has no address left for the router of %s", segment.Name, vpcID)
	}
	if err != nil {
		return err
	}
	_, err = tx.NewInsert().Model(&gatewayRow{VPCID: vpcID, SegmentID: segment.ID, IP: nth(p.cidr, num).String(), Num: num,
		MAC: newMAC(), Uses: 1, CreatedAt: s.Clock.Micros()}).Exec(ctx)
	return err
}

// leaveGateway counts one EIP less; the last one takes the router away and frees its address.
func (s *Service) leaveGateway(ctx context.Context, tx bun.Tx, vpcID, segmentID string) error {
	p := &pool{table: "segment", id: segmentID}
	if err := p.lock(ctx, tx); err != nil {
		return err
	}
	var uses, num int64
	found, err := one(tx.NewRaw("UPDATE gateway SET uses = uses - 1 WHERE vpc_id = ? AND segment_id = ? RETURNING uses, num", vpcID, segmentID).Scan(ctx, &uses, &num))
	if err != nil || !found || uses > 0 {
		return err
	}
	if _, err := tx.NewRaw("DELETE FROM gateway WHERE vpc_id = ? AND segment_id = ?", vpcID, segmentID).Exec(ctx); err != nil {
		return err
	}
	return p.give(ctx, tx, num, ofGateway, vpcID)
}

// SettleBindTx makes a Bounding EIP Bound.
func (s *Service) SettleBindTx(ctx context.Context, tx bun.Tx, eipID string) error {
	e, err := eipByID(ctx, tx, action.Scope{}, eipID)
	if err != nil || e.State != Bounding {
		return err
	}
	e.BoundAt = s.Clock.Micros()
	return s.move(ctx, tx, e, Bound, "bound_at")
}

// UndoBindTx makes a Bounding EIP Unbounding: its binding failed. Then: SyncVPC, SettleUnbindTx.
func (s *Service) UndoBindTx(ctx context.Context, tx bun.Tx, eipID string) error {
	e, err := eipByID(ctx, tx, action.Scope{}, eipID)
	if err != nil || e.State != Bounding {
		return err
	}
	return s.beginUnbind(ctx, tx, e)
}

// beginUnbind makes an EIP Unbounding; the next one becomes the port's default egress.
func (s *Service) beginUnbind(ctx context.Context, tx bun.Tx, e *EIP) error {
	if _, err := lockPort(ctx, tx, e.PortID); err != nil {
		return err
	}
	e.Egress = false
	if err := s.move(ctx, tx, e, Unbounding, "egress"); err != nil {
		return err
	}
	return s.elect(ctx, tx, e.PortID, e.IPVersion)
}

// elect makes the EIP bound first the default egress of a port that has none. All of a version
// share a segment, so that either all have a default route or none.
func (s *Service) elect(ctx context.Context, tx bun.Tx, portID, version string) error {
	var eips []EIP
	err := tx.NewSelect().Model(&eips).Where("port_id = ? AND ip_version = ? AND state IN (?)", portID, version, bun.In([]string{Bounding, Bound, BandwidthChanging})).
		Where(withDefaultRoute).
		OrderExpr("egress DESC, CASE WHEN bound_at = 0 THEN 1 ELSE 0 END, bound_at, id").Limit(1).Scan(ctx)
	if err != nil || len(eips) == 0 || eips[0].Egress {
		return err
	}
	_, err = tx.NewRaw("UPDATE eip SET egress = ?, updated_at = ? WHERE id = ?", true, s.Clock.Micros(), eips[0].ID).Exec(ctx)
	return err
}

// BeginUnbindAllTx makes every EIP of an owner Unbounding (its deletion) and returns their ids. The caller
// must hold the owner's lock. Then: SyncVPC, SettleUnbindTx.
func (s *Service) BeginUnbindAllTx(ctx context.Context, tx bun.Tx, ownerID string) ([]string, error) {
	var eips []EIP
	if err := tx.NewSelect().Model(&eips).Where("bind_id = ? AND bind_id <> ''", ownerID).Order("id").Scan(ctx); err != nil {
		return nil, err
	}
	var ids []string
	for i := range eips {
		e := &eips[i]
		ids = append(ids, e.ID)
		e.Egress = false
		if err := s.move(ctx, tx, e, Unbounding, "egress"); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// SettleUnbindTx makes Unbounding EIPs Free; others it leaves alone.
func (s *Service) SettleUnbindTx(ctx context.Context, tx bun.Tx, eipIDs ...string) error {
	for _, id := range uniq(eipIDs) {
		e, err := eipByID(ctx, tx, action.Scope{}, id)
		if retcode.Of(err) == retcode.ResourceNotFound {
			continue
		}
		if err != nil {
			return err
		}
		if e.State != Unbounding {
			continue
		}
		if err := s.leaveGateway(ctx, tx, e.VPCID, e.SegmentID); err != nil {
			return err
		}
		e.BindKind, e.BindID, e.PortID, e.VPCID, e.BoundAt = "", "", "", "", 0
		if err := s.move(ctx, tx, e, Free, "bind_kind", "bind_id", "port_id", "vpc_id", "bound_at"); err != nil {
			return err
		}
	}
	return nil
}

// change and request describe a change of an EIP's binding: it holds the EIP alone, and what it is bound to together
// with other changes of its parts.
func (e *EIP) change() eipChange {
	return eipChange{EIP: e.ID, VPC: e.VPCID, Segment: e.SegmentID, Port: e.PortID}
}

func (e *EIP) request(name string) workflow.Request {
	return workflow.Request{Action: name, Company: e.Company, Region: e.Region, Resources: []string{e.ID, e.BindID},
		Locks: []workflow.Lock{{Resource: e.ID, Exclusive: true}, {Resource: e.BindID}}}
}
