package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// eipTuning is the state of a change of a bound EIP that leaves it bound. Before is what it was.
type eipTuning struct {
	eipChange
	Bandwidth int    // before; Mbps
	Egress    string // before: the port's default egress, empty: none
}

func (s *Service) registerTuning() {
	s.bandwidth = workflow.Register(s.Engine, workflow.Definition[eipTuning]{
		Name: "eip.bandwidth",
		Steps: []workflow.Step[eipTuning]{{
			Name: "program", Do: s.programTuning, Undo: s.undoBandwidth, Deadline: programTimeout,
		}},
		Settle: func(ctx context.Context, tx bun.Tx, c *eipTuning) error {
			if err := s.settleBandwidth(ctx, tx, c.EIP); err != nil {
				return err
			}
			return s.Ledger.Capture(ctx, tx, c.EIP)
		},
		Abort: func(ctx context.Context, tx bun.Tx, c *eipTuning, cause error) error {
			if err := s.restoreBandwidth(ctx, tx, c); err != nil { // a change that no step began
				return err
			}
			if err := s.settleBandwidth(ctx, tx, c.EIP); err != nil {
				return err
			}
			if err := s.Ledger.Void(ctx, tx, c.EIP); err != nil {
				return err
			}
			return explain(ctx, tx, c.EIP, cause)
		},
	})
	s.egress = workflow.Register(s.Engine, workflow.Definition[eipTuning]{
		Name: "eip.egress",
		Steps: []workflow.Step[eipTuning]{{
			Name: "program", Do: s.programTuning, Undo: s.undoEgress, Deadline: programTimeout,
		}},
		Settle: func(ctx context.Context, tx bun.Tx, c *eipTuning) error { return nil },
		Abort: func(ctx context.Context, tx bun.Tx, c *eipTuning, cause error) error {
			if err := s.restoreEgress(ctx, tx, c); err != nil {
				return err
			}
			return explain(ctx, tx, c.EIP, cause)
		},
	})
}

func (s *Service) programTuning(ctx context.Context, c *eipTuning) error {
	return s.program(ctx, &c.eipChange)
}

// undo takes rows back and tells the fabric.
func (s *Service) undo(ctx context.Context, c *eipTuning, restore func(context.Context, bun.Tx, *eipTuning) error) error {
	if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return restore(ctx, tx, c) }); err != nil {
		return err
	}
	return s.SyncVPC(ctx, c.VPC)
}

func (s *Service) undoBandwidth(ctx context.Context, c *eipTuning) error {
	return s.undo(ctx, c, s.restoreBandwidth)
}

func (s *Service) undoEgress(ctx context.Context, c *eipTuning) error {
	return s.undo(ctx, c, s.restoreEgress)
}

// checkTotal refuses a bandwidth that with all others of the segment (public addresses, outer NICs and VIPs) goes beyond
// what the segment may have (8007). It holds the segment's pool, so that nobody else adds to it meanwhile.
func (s *Service) checkTotal(ctx context.Context, tx bun.Tx, segment, id string, mbps int) error {
	if err := (&pool{table: "segment", id: segment}).lock(ctx, tx); err != nil {
		return err
	}
	var limit int
	if err := tx.NewSelect().TableExpr("segment").Column("bandwidth").Where("id = ?", segment).Scan(ctx, &limit); err != nil || limit == 0 {
		return err
	}
	var others int
	if err := tx.NewRaw(`SELECT COALESCE(SUM(bandwidth), 0) FROM (SELECT id, bandwidth FROM eip WHERE segment_id = ?0 AND state <> ?2
		UNION ALL SELECT id, bandwidth FROM nic WHERE segment_id = ?0 AND ended_at = 0
		UNION ALL SELECT id, bandwidth FROM vip WHERE segment_id = ?0 AND ended_at = 0) AS held WHERE id <> ?1`, segment, id, Released).Scan(ctx, &others); err != nil {
		return err
	}
	if others+mbps > limit {
		return retcode.BandwidthLimitReached.Errorf("the addresses of the segment have %d of %d Mbps together, %d more are asked for", others, limit, mbps)
	}
	return nil
}

type modifyBandwidthRequest struct {
	EIPID             string `validate:"required" doc:"EIP id"`
	Bandwidth         *int   `validate:"required" doc:"Mbps, as the segment offers"`
	ApplicationName   string `validate:"max=100" doc:"title of the approval request"`
	ApplicationReason string `validate:"max=1000" doc:"reason of the approval request"`
	action.Tenant
}

type modifyBandwidthResponse struct {
	ApplicationID string `doc:"set when approval is on"`
}

func (s *Service) modifyBandwidth(ctx context.Context, c *action.Call, q *modifyBandwidthRequest) (*modifyBandwidthResponse, error) {
	c.AddResource(q.EIPID)
	known, err := addressByID(ctx, s.DB.Reader(), c.Scope(), q.EIPID, false)
	if err != nil {
		return nil, err
	}
	if err := s.Catalog.CheckEIPSpec(ctx, known.Region, known.SegmentID, *q.Bandwidth); err != nil {
		return nil, err
	}
	return &modifyBandwidthResponse{}, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		return s.beginBandwidth(ctx, tx, c, q.EIPID, *q.Bandwidth)
	})
}

// beginBandwidth changes the bandwidth of an EIP; one that is bound is BandwidthChanging until its operation
// is through.
func (s *Service) beginBandwidth(ctx context.Context, tx bun.Tx, c *action.Call, id string, mbps int) (operation string, err error) {
	e, err := addressByID(ctx, tx, c.Scope(), id, false)
	if err != nil {
		return "", err
	}
	if err := (&pool{table: "segment", id: e.SegmentID}).lock(ctx, tx); err != nil {
		return "", err
	}
	if err := e.check(verbBandwidth); errors.Is(err, lifecycle.ErrRepeat) && e.Bandwidth != mbps {
		return "", retcode.InvalidResourceState.Errorf("%s is %s to %d Mbps", e.ID, e.State, e.Bandwidth)
	} else if err != nil {
		return "", err
	}
	before := e.Bandwidth
	if before == mbps {
		return "", nil
	}
	e.Bandwidth, e.Reason, e.ReasonCode = mbps, "", 0
	if err := s.checkTotal(ctx, tx, e.SegmentID, e.ID, mbps); err != nil {
		return "", err
	}
	if err := s.resizeOuter(ctx, tx, e.ID, e.SegmentID, mbps); err != nil {
		return "", err
	}
	if e.State == Free {
		if err := s.move(ctx, tx, e, Free, "bandwidth", "reason", "reason_code"); err != nil {
			return "", err
		}
		return "", s.Ledger.Capture(ctx, tx, e.ID)
	}
	if err := s.move(ctx, tx, e, BandwidthChanging, "bandwidth", "reason", "reason_code"); err != nil {
		return "", err
	}
	return accept(ctx, tx, s.bandwidth, c, e, eipTuning{Bandwidth: before})
}

// accept begins a change of a bound EIP: it has the EIP alone, and the resource and its port together with others.
func accept(ctx context.Context, tx bun.Tx, flow *workflow.Workflow[eipTuning], c *action.Call, e *EIP, change eipTuning, more ...workflow.Lock) (string, error) {
	change.eipChange = eipChange{EIP: e.ID, VPC: e.VPCID, Segment: e.SegmentID, Port: e.PortID}
	operation, err := flow.Accept(ctx, tx, workflow.Request{Action: c.Action, Company: e.Company, Region: e.Region, Resources: []string{e.ID, e.BindID},
		Locks: append(more, exclusive(e.ID), shared(e.BindID))}, change)
	return operation, held(err, retcode.InvalidResourceState)
}

func (s *Service) settleBandwidth(ctx context.Context, tx bun.Tx, id string) error {
	e, err := eipByID(ctx, tx, action.Scope{}, id)
	if err != nil || e.State != BandwidthChanging {
		return err
	}
	return s.move(ctx, tx, e, Bound)
}

func (s *Service) restoreBandwidth(ctx context.Context, tx bun.Tx, c *eipTuning) error {
	_, err := tx.NewRaw("UPDATE eip SET bandwidth = ? WHERE id = ? AND state = ?", c.Bandwidth, c.EIP, BandwidthChanging).Exec(ctx)
	return err
}

type updateDefaultGWRequest struct {
	VMID  string `validate:"required" doc:"virtual machine id"`
	EIPID string `validate:"required" doc:"EIP id, bound to the machine"`
	action.Tenant
}

func (s *Service) updateDefaultGW(ctx context.Context, c *action.Call, q *updateDefaultGWRequest) (*action.Empty, error) {
	c.AddResource(q.VMID, q.EIPID)
	kind, err := s.target(&bindEIPRequest{ResourceType: VM, ResourceID: q.VMID})
	if err != nil {
		return nil, err
	}
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		if _, err := kind.Resolve(ctx, tx, c.Scope(), q.VMID, false); err != nil {
			return "", err
		}
		e, err := eipByID(ctx, tx, c.Scope(), q.EIPID)
		if err != nil {
			return "", err
		}
		if err := s.Ledger.Check(ctx, tx, e.ID); err != nil {
			return "", err
		}
		if err := e.check(verbEgress); err != nil {
			return "", err
		}
		if e.BindID != q.VMID {
			return "", retcode.InvalidResourceState.Errorf("%s is bound to %s, not to %s", e.ID, e.BindID, q.VMID)
		}
		segments, err := segmentsByID(ctx, tx, []string{e.SegmentID})
		if err != nil {
			return "", err
		}
		if g := segments[e.SegmentID]; g == nil || !g.defaultRoute() {
			return "", retcode.InvalidParameter.Errorf("the segment of %s has no default route", e.ID)
		}
		if _, err := lockPort(ctx, tx, e.PortID); err != nil {
			return "", err
		}
		before, err := s.setEgress(ctx, tx, e.PortID, e.IPVersion, e.ID)
		if err != nil || before == e.ID {
			return "", err
		}
		return accept(ctx, tx, s.egress, c, e, eipTuning{Egress: before}, exclusive(e.PortID))
	})
}

// setEgress makes an EIP the only default egress of its port, and tells which one was. The caller holds the port.
func (s *Service) setEgress(ctx context.Context, tx bun.Tx, port, version, id string) (before string, err error) {
	if _, err := one(tx.NewSelect().Model((*EIP)(nil)).Column("id").Where("port_id = ? AND ip_version = ? AND egress = ?", port, version, true).Scan(ctx, &before)); err != nil || before == id {
		return before, err
	}
	now := s.Clock.Micros()
	_, err = tx.NewRaw("UPDATE eip SET egress = CASE WHEN id = ?0 THEN TRUE ELSE FALSE END, updated_at = ?1 WHERE port_id = ?2 AND ip_version = ?3 AND id IN (?0, ?4)",
		id, now, port, version, before).Exec(ctx)
	return before, err
}

// restoreEgress gives the default egress back to the one that had it, if it is bound there still, else to the next.
func (s *Service) restoreEgress(ctx context.Context, tx bun.Tx, c *eipTuning) error {
	e, err := eipByID(ctx, tx, action.Scope{}, c.EIP)
	if err != nil || e.PortID != c.Port || !e.Egress {
		return err
	}
	if _, err := lockPort(ctx, tx, c.Port); err != nil {
		return err
	}
	back, err := eipByID(ctx, tx, action.Scope{}, c.Egress)
	if retcode.Of(err) == retcode.ResourceNotFound || err == nil && (back.PortID != c.Port || !slices.Contains([]string{Bounding, Bound, BandwidthChanging}, back.State)) {
		return nil // the new one may as well keep it
	}
	if err != nil {
		return err
	}
	_, err = s.setEgress(ctx, tx, c.Port, e.IPVersion, back.ID)
	return err
}

type checkIPRequest struct {
	IP            string `validate:"required" doc:"address"`
	SubnetID      string `doc:"exactly one of SubnetID and SegmentID"`
	SegmentID     string `doc:"exactly one of SubnetID and SegmentID"`
	FlatNetworkID string `doc:"flat networks are not available (113)"`
	action.Tenant
}

// checkIP answers by its code: 0 free, 8001 in use, 8005 kept for the network itself, 8006 outside.
func (s *Service) checkIP(ctx context.Context, c *action.Call, q *checkIPRequest) (*action.Empty, error) {
	wanted, err := parseWanted(q.IP)
	if err != nil {
		return nil, err
	}
	if q.FlatNetworkID != "" || (q.SubnetID == "") == (q.SegmentID == "") {
		return nil, retcode.InvalidParameter.Errorf("give either SubnetID or SegmentID")
	}
	db := s.DB.Reader()
	var p *pool
	if q.SegmentID != "" {
		g, err := permittedSegment(ctx, db, c.Region, q.SegmentID, c.Company)
		if err != nil {
			return nil, err
		}
		if err := g.check(EIPRequest{}, wanted); err != nil {
			return nil, err
		}
		if p, err = g.pool(); err != nil {
			return nil, err
		}
	} else if p, err = s.subnetPool(ctx, db, c.Scope(), q.SubnetID, wanted); err != nil {
		return nil, err
	}
	var owner string
	used, err := one(db.NewSelect().TableExpr("address").Column("owner_kind").Where("pool = ? AND num = ?", p.id, offset(p.cidr, wanted)).Scan(ctx, &owner))
	switch {
	case err != nil:
		return nil, err
	case used && owner == ofGateway:
		return nil, retcode.IPReserved.Errorf("%s is kept for the network itself", wanted)
	case used:
		return nil, retcode.IPAlreadyAllocated.Errorf("%s is taken", wanted)
	}
	return &action.Empty{}, nil
}

func (s *Service) subnetPool(ctx context.Context, db bun.IDB, scope action.Scope, id string, wanted netip.Addr) (*pool, error) {
	n := new(Subnet)
	if found, err := one(identity.Own(db.NewSelect().Model(n).Where("id = ? AND ended_at = 0", id), scope).Scan(ctx)); err != nil {
		return nil, err
	} else if !found {
		return nil, retcode.SubnetNotFound.Errorf("SubnetID %s", id)
	}
	p, err := n.pool()
	switch {
	case err != nil:
		return nil, err
	case !p.cidr.Contains(wanted):
		return nil, retcode.IPOutOfSegment.Errorf("%s is outside %s of %s", wanted, p.cidr, n.ID)
	case !p.hands(offset(p.cidr, wanted)):
		return nil, retcode.IPReserved.Errorf("%s of %s is kept for the network itself", wanted, n.ID)
	}
	return p, nil
}
