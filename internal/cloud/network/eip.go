package network

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
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
		if err := e.check(verbTerminate); errors.Is(err, lifecycle.ErrRepeat) {
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
