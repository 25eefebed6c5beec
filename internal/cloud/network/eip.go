package network

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Versions of IP.
const (
	IPv4 = "IPv4"
	IPv6 = "IPv6"
)

// How many EIPs of a version one resource may carry.
const (
	maxIPv4 = 50
	maxIPv6 = 10
)

// tombstoneAge is how long a destroyed EIP still answers 205.
const tombstoneAge = 180 * 24 * time.Hour

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
	Physical   bool // a physical IP: no bandwidth, no charge
	// QuotaTaken: the caller reserved catalog.EIP together with its other quotas.
	QuotaTaken bool
}

// CheckEIP checks what needs no transaction: name and remark (113), segment (200), its IP version
// (113), bandwidth (8000), address (4, 8006, 8005).
func (s *Service) CheckEIP(ctx context.Context, r EIPRequest) error {
	if _, err := resource.Name(r.Name); err != nil {
		return err
	}
	if _, err := resource.Remark(r.Remark); err != nil {
		return err
	}
	wanted, err := parseWanted(r.IP)
	if err != nil {
		return err
	}
	g, err := permittedSegment(ctx, s.DB.Reader(), r.Region, r.Segment, r.Company)
	if err != nil {
		return err
	}
	if err := g.check(r, wanted); err != nil {
		return err
	}
	if r.Physical {
		return nil
	}
	return s.Catalog.CheckEIPSpec(ctx, r.Region, g.ID, r.Bandwidth)
}

func parseWanted(ip string) (netip.Addr, error) {
	if ip == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(ip)
	if err != nil || a.Zone() != "" {
		return a, retcode.InvalidParameterFormat.Errorf("%q is no IP address", ip)
	}
	return a, nil
}

// check refuses versions and addresses that the segment does not hand out.
func (sg *Segment) check(r EIPRequest, wanted netip.Addr) error {
	if version := r.IPVersion; version != "" && version != sg.IPVersion {
		return retcode.InvalidParameter.Errorf("segment %s has no %s addresses", sg.Name, version)
	}
	if !wanted.IsValid() {
		return nil
	}
	p, err := sg.pool()
	if err != nil {
		return err
	}
	if !p.cidr.Contains(wanted) {
		return retcode.IPOutOfSegment.Errorf("%s is outside %s of %s", wanted, p.cidr, sg.Name)
	}
	num := offset(p.cidr, wanted)
	if num == 0 || num == size(p.cidr)-1 || wanted.String() == sg.Gateway {
		return retcode.IPReserved.Errorf("%s of %s is kept for the network itself", wanted, sg.Name)
	}
	if !p.hands(num) {
		return retcode.IPOutOfSegment.Errorf("%s is outside the ranges of %s", wanted, sg.Name)
	}
	return nil
}

// AllocateEIPTx takes an address and makes a Free EIP of it: 200 unknown segment or not for the tenant, 8001, 8004,
// 8005, 8006, 8007, 17005, 17003, 23000, 23001. CheckEIP must have passed before. Its price is held: Ledger.Capture
// when it is settled; DestroyEIPTx gives it back.
func (s *Service) AllocateEIPTx(ctx context.Context, tx bun.Tx, r EIPRequest) (*EIP, error) {
	if !r.QuotaTaken {
		if err := s.Catalog.Reserve(ctx, tx, r.Company, r.Region, catalog.Amounts{catalog.EIP: 1}); err != nil {
			return nil, err
		}
	}
	wanted, err := parseWanted(r.IP)
	if err != nil {
		return nil, err
	}
	g, err := permittedSegment(ctx, tx, r.Region, r.Segment, r.Company)
	if err != nil {
		return nil, err
	}
	if err := g.check(r, wanted); err != nil {
		return nil, err
	}
	p, err := g.pool()
	if err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	prefix := "eip"
	if r.Physical {
		prefix = "pip"
	}
	e := &EIP{ID: database.NewID(prefix), Physical: r.Physical, Region: r.Region, Company: r.Company, Project: r.Project, Name: strings.TrimSpace(r.Name), Remark: r.Remark,
		SegmentID: g.ID, IPVersion: g.IPVersion, Bandwidth: r.Bandwidth, ChargeType: r.ChargeType, Quantity: r.Quantity, AutoRenew: r.AutoRenew,
		State: Free, Listed: true, CreatedAt: now, UpdatedAt: now}
	if e.Num, err = s.takeOuter(ctx, tx, g, p, wanted, ofEIP, e.ID); err != nil {
		return nil, err
	}
	e.IP = nth(p.cidr, e.Num).String()
	if err := s.checkTotal(ctx, tx, e.SegmentID, e.ID, e.Bandwidth); err != nil {
		return nil, err
	}
	if _, err = tx.NewInsert().Model(e).Exec(ctx); err != nil || e.Physical {
		return e, err
	}
	return e, s.Ledger.Hold(ctx, tx, purchase(ledger.EIP, e.SegmentID, e.Bandwidth, ledger.Purchase{ID: e.ID, Name: e.Name, Company: e.Company, Region: e.Region,
		Project: e.Project, ChargeType: e.ChargeType, Quantity: e.Quantity, AutoRenew: e.AutoRenew}))
}

// taken says by whom a wanted address is taken: a router of the platform (8005), or somebody (8001).
func (s *Service) taken(ctx context.Context, tx bun.Tx, g *Segment, p *pool, num int64) error {
	router, err := tx.NewSelect().TableExpr("address").Where("pool = ? AND num = ? AND owner_kind = ?", p.id, num, ofGateway).Exists(ctx)
	if err != nil {
		return err
	}
	if router {
		return retcode.IPReserved.Errorf("%s of %s is kept for the network itself", nth(p.cidr, num), g.Name)
	}
	return retcode.IPAlreadyAllocated.Errorf("%s of %s is taken", nth(p.cidr, num), g.Name)
}

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
	duplicate := port.IP == e.IP
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

// move changes the state of an EIP from the one that e was read in; 202 when somebody was faster.
// columns are those that changed besides.
func (s *Service) move(ctx context.Context, tx bun.Tx, e *EIP, to string, columns ...string) error {
	before := e.Generation
	e.State, e.UpdatedAt, e.Generation = to, s.Clock.Micros(), before+1
	ok, err := changed(tx.NewUpdate().Model(e).Column(append(columns, "state", "updated_at", "generation")...).
		Where("id = ? AND generation = ?", e.ID, before).Exec(ctx))
	if err == nil && !ok {
		err = retcode.InvalidResourceState.Errorf("%s is being changed", e.ID)
	}
	return err
}

// useGateway counts one more EIP on the VPC's router on a segment, and makes the router for the first: 8004.
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

// ReleaseEIPTx puts a Free EIP into the recycle bin: the address stays reserved, the quota is released.
// 8009 while it is bound, 202, 204, 205.
func (s *Service) ReleaseEIPTx(ctx context.Context, tx bun.Tx, eipID string) error {
	e, err := eipByID(ctx, tx, action.Scope{}, eipID)
	if err != nil {
		return err
	}
	return s.release(ctx, tx, e)
}

func (s *Service) release(ctx context.Context, tx bun.Tx, e *EIP) error {
	if err := e.check(verbRelease); err != nil {
		return err
	}
	if err := s.Catalog.Release(ctx, tx, e.Company, e.Region, catalog.Amounts{catalog.EIP: 1}); err != nil {
		return err
	}
	e.Listed, e.DeletedAt = false, s.Clock.Micros()
	if err := s.move(ctx, tx, e, Deleted, "listed", "deleted_at"); err != nil {
		return err
	}
	return s.Ledger.Recycle(ctx, tx, e.ID)
}

// DestroyEIPTx frees the address of a Free or Deleted EIP for good, leaving a tombstone. An unknown id is
// no error, nor is a destroyed one.
func (s *Service) DestroyEIPTx(ctx context.Context, tx bun.Tx, eipID string) error {
	e, err := eipByID(ctx, tx, action.Scope{}, eipID)
	if retcode.Of(err) == retcode.ResourceNotFound || err == nil && e.State == Released {
		return nil
	}
	if err != nil {
		return err
	}
	return s.destroy(ctx, tx, e)
}

func (s *Service) destroy(ctx context.Context, tx bun.Tx, e *EIP) error {
	switch e.State {
	case Free:
		if err := s.Catalog.Release(ctx, tx, e.Company, e.Region, catalog.Amounts{catalog.EIP: 1}); err != nil {
			return err
		}
		e.DeletedAt = s.Clock.Micros()
	case Deleted:
	default:
		return retcode.InvalidResourceState.Errorf("%s is %s, which does not allow %s", e.ID, e.State, verbTerminate)
	}
	if err := (&pool{table: "segment", id: e.SegmentID}).give(ctx, tx, e.Num, ofEIP, e.ID); err != nil {
		return err
	}
	e.Listed, e.EndedAt = false, s.Clock.Micros()
	if err := s.move(ctx, tx, e, Released, "listed", "deleted_at", "ended_at"); err != nil {
		return err
	}
	return s.Ledger.End(ctx, tx, e.ID)
}

// BinnedEIPs lists EIPs in the recycle bin, the newest deletion first, and how many match in all.
func (s *Service) BinnedEIPs(ctx context.Context, f resource.BinFilter) ([]EIP, int, error) {
	var eips []EIP
	n, err := f.Scan(ctx, s.DB.Reader().NewSelect().Model(&eips).Where("state IN (?)", bun.In([]string{Deleted, Releasing})))
	return eips, n, err
}

// RestoreEIP takes an EIP out of the recycle bin (RollbackResource): 200 unknown or another tenant's,
// 203 not in the bin, 205 destroyed, 206 expired, 17005.
func (s *Service) RestoreEIP(ctx context.Context, c *action.Call, id string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		e, err := eipByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		if err := e.check(verbRollback); err != nil {
			return err
		}
		if err := s.Ledger.Restore(ctx, tx, e.ID); err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, e.Company, e.Region, catalog.Amounts{catalog.EIP: 1}); err != nil {
			return err
		}
		e.Listed, e.DeletedAt = true, 0
		return s.move(ctx, tx, e, Free, "listed", "deleted_at")
	})
}

// DestroyEIP destroys an EIP of the recycle bin (TerminateResource): 200 unknown or another tenant's,
// 201 not in the bin, 8009 bound, 205 destroyed.
func (s *Service) DestroyEIP(ctx context.Context, c *action.Call, id string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		e, err := eipByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		if err := e.check(verbTerminate); errors.Is(err, errRepeat) {
			return nil
		} else if err != nil {
			return err
		}
		return s.destroy(ctx, tx, e)
	})
}

// SweepEIPs destroys the EIPs that entered the recycle bin at or before a time (unix microseconds).
func (s *Service) SweepEIPs(ctx context.Context, region string, deletedBefore int64) error {
	var ids []string
	if err := s.DB.Reader().NewSelect().Model((*EIP)(nil)).Column("id").Where("region = ? AND state = ? AND deleted_at <= ?", region, Deleted, deletedBefore).
		OrderExpr("deleted_at, id").Scan(ctx, &ids); err != nil {
		return err
	}
	var failed []error
	for _, id := range ids {
		failed = append(failed, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			e, err := eipByID(ctx, tx, action.Scope{}, id)
			if err != nil || e.State != Deleted {
				return err // somebody took it out meanwhile
			}
			return s.destroy(ctx, tx, e)
		}))
	}
	return errors.Join(failed...)
}

// expireEIP unbinds an EIP whose paid time is over.
func (s *Service) expireEIP(ctx context.Context, id string) error {
	var operation string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		e, err := eipByID(ctx, tx, action.Scope{}, id)
		if err != nil || e.State != Bound {
			if err == nil && e.BindID != "" {
				err = ledger.ErrUnderWay
			}
			return err
		}
		if err := s.beginUnbind(ctx, tx, e); err != nil {
			return err
		}
		operation, err = s.unbind.Accept(ctx, tx, e.request("UnBindEIP"), e.change())
		return err
	})
	if busy := new(workflow.BusyError); errors.As(err, &busy) {
		return ledger.ErrUnderWay
	}
	if err != nil || operation == "" {
		return err
	}
	s.Engine.Kick(operation)
	return ledger.ErrUnderWay
}

// removeExpiredEIP puts an EIP whose grace is over into the bin; while it is bound it is unbound first.
func (s *Service) removeExpiredEIP(ctx context.Context, id string) error {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.ReleaseEIPTx(ctx, tx, id) })
	if code := retcode.Of(err); code == retcode.EIPStillBound || code == retcode.InvalidResourceState {
		return s.expireEIP(ctx, id)
	}
	return err
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

// forget deletes old tombstones, of EIPs and of security groups.
func (s *Service) forget(ctx context.Context) error {
	before := s.Clock.Now().Add(-tombstoneAge).UnixMicro()
	for _, table := range []string{"eip", "security_group"} {
		old, err := s.DB.Reader().NewSelect().TableExpr("?", bun.Ident(table)).Where("ended_at <> 0 AND ended_at < ?", before).Exists(ctx)
		if err != nil {
			return err
		}
		if !old {
			continue
		}
		if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewRaw("DELETE FROM ? WHERE ended_at <> 0 AND ended_at < ?", bun.Ident(table), before).Exec(ctx)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
