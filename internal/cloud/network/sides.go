package network

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// closed stands in place of a group for a side of a machine whose group was taken away: no rule, nothing passes.
// A NIC's side without a group is empty instead; a NIC without any group is not filtered.
const closed = "closed"

// Holder finds the port of a resource that has security groups, in the caller's transaction, and checks that the
// resource is in the scope and in a state that allows a change.
type Holder func(ctx context.Context, tx bun.Tx, scope action.Scope, id string) (portID string, err error)

// RegisterHolder adds a kind of resource that has security groups, by the prefix of its ids. Call it before the
// engine's start.
func (s *Service) RegisterHolder(prefix string, h Holder) { s.holders[prefix] = h }

// sideChange is one side of one port that gets another group.
type sideChange struct {
	Port, VPC string
	Inner     bool
	From, To  string
}

// sideChanges is the state of binding and unbinding a group.
type sideChanges struct{ Sides []sideChange }

func (c *sideChanges) vpcs() []string {
	return uniq(column(c.Sides, func(x *sideChange) string { return x.VPC }))
}

func (s *Service) registerSides() {
	s.RegisterHolder("vm-", func(ctx context.Context, tx bun.Tx, scope action.Scope, id string) (string, error) {
		t := s.targets[VM]
		if t == nil {
			return "", retcode.VMNotFound.Errorf("%s", id)
		}
		port, err := t.Resolve(ctx, tx, scope, id, true)
		if err != nil {
			return "", err
		}
		return port.PortID, s.Ledger.Check(ctx, tx, id)
	})
	s.RegisterHolder("nic-", func(ctx context.Context, tx bun.Tx, scope action.Scope, id string) (string, error) {
		port := new(Port)
		scope.Projects = nil // a NIC's project is its machine's
		// Those of machines in the recycle bin are kept and have nothing to be changed, elastic ones that are attached to
		// nothing have.
		found, err := one(identity.Own(tx.NewSelect().Model(port).Where("id = ? AND owner_kind <> ? AND (kept = ? OR owner_id = id)", id, ofVIP, false), scope).Scan(ctx))
		if err == nil && !found {
			err = retcode.ResourceNotFound.Errorf("%s", id)
		}
		if err != nil {
			return "", err
		}
		return port.ID, s.Ledger.Check(ctx, tx, id)
	})
	s.sides = workflow.Register(s.Engine, workflow.Definition[sideChanges]{
		Name: "sg.bind",
		Steps: []workflow.Step[sideChanges]{{
			Name: "program", Deadline: programTimeout, Do: s.programSides,
			Undo: func(ctx context.Context, c *sideChanges) error {
				if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.restoreSides(ctx, tx, c) }); err != nil {
					return err
				}
				return s.syncAll(ctx, c.vpcs())
			},
		}},
		Settle: func(context.Context, bun.Tx, *sideChanges) error { return nil },
		Abort: func(ctx context.Context, tx bun.Tx, c *sideChanges, _ error) error {
			return s.restoreSides(ctx, tx, c)
		},
	})
}

func (s *Service) programSides(ctx context.Context, c *sideChanges) error {
	if err := s.syncAll(ctx, c.vpcs()); err != nil {
		return unreachable(err)
	}
	var hosts []string
	if err := s.DB.Reader().NewSelect().Model((*Port)(nil)).ColumnExpr("DISTINCT host_id").Where("id IN (?)", bun.In(column(c.Sides, func(x *sideChange) string { return x.Port }))).
		Scan(ctx, &hosts); err != nil {
		return unreachable(err)
	}
	return unreachable(s.WaitHosts(ctx, hosts...))
}

func (s *Service) restoreSides(ctx context.Context, tx bun.Tx, c *sideChanges) error {
	for _, x := range c.Sides {
		if err := s.setSide(ctx, tx, x.Port, x.Inner, x.To, x.From); err != nil {
			return err
		}
	}
	return nil
}

// setSide gives a side of a port another group, if it has the one given.
func (s *Service) setSide(ctx context.Context, tx bun.Tx, port string, inner bool, from, to string) error {
	column := "outer_sg"
	if inner {
		column = "inner_sg"
	}
	_, err := tx.NewUpdate().Model((*Port)(nil)).Set("? = ?", bun.Ident(column), to).Set("updated_at = ?", s.Clock.Micros()).Set("generation = generation + 1").
		Where("id = ? AND ? = ?", port, bun.Ident(column), from).Exec(ctx)
	return err
}

type bindSecurityGroupRequest struct {
	ResourceID string `validate:"required" doc:"machine or NIC id, or several with commas between"`
	SGID       string `validate:"required" doc:"security group id"`
	NICType    string `default:"WAN" doc:"side: WAN is outer, LAN is inner"`
	NICID      string `doc:"the one interface of the machine that is meant"`
	action.Tenant
}

type unbindSecurityGroupRequest struct {
	ResourceID string `validate:"required" doc:"machine or NIC id, or several with commas between"`
	NICType    string `default:"WAN" doc:"side: WAN is outer, LAN is inner"`
	SGID       string `doc:"refuse unless this group is bound"`
	action.Tenant
}

func (s *Service) bindSecurityGroup(ctx context.Context, c *action.Call, q *bindSecurityGroupRequest) (*action.Empty, error) {
	c.AddResource(q.SGID)
	return s.changeSides(ctx, c, q.ResourceID, q.NICID, q.NICType, func(ctx context.Context, tx bun.Tx) error {
		if err := checkGroups(ctx, tx, c.Scope(), q.SGID); err != nil {
			return err
		}
		g, err := groupByID(ctx, tx, c.Scope(), q.SGID)
		if err == nil && g.State != Available {
			err = retcode.InvalidSGState.Errorf("%s is %s", g.ID, g.State)
		}
		return err
	}, func(holder string, port *Port, has string) (string, error) {
		return q.SGID, nil
	})
}

func (s *Service) unbindSecurityGroup(ctx context.Context, c *action.Call, q *unbindSecurityGroupRequest) (*action.Empty, error) {
	return s.changeSides(ctx, c, q.ResourceID, "", q.NICType, func(ctx context.Context, tx bun.Tx) error {
		if q.SGID == "" {
			return nil
		}
		_, err := groupByID(ctx, tx, c.Scope(), q.SGID)
		return err
	}, func(holder string, port *Port, has string) (string, error) {
		if has == "" || has == closed {
			return "", retcode.InvalidResourceState.Errorf("%s has no security group on its side %s", holder, q.NICType)
		}
		if q.SGID != "" && has != q.SGID {
			return "", retcode.InvalidResourceState.Errorf("%s has the security group %s, not %s", holder, has, q.SGID)
		}
		if strings.HasPrefix(holder, "nic-") {
			return "", nil
		}
		return closed, nil
	})
}

// changeSides gives sides of resources another group: 8008 no such side, 207 resources that have no groups. check
// is asked once in the transaction, to for each side, which says what it shall have.
func (s *Service) changeSides(ctx context.Context, c *action.Call, resources, nic, nicType string, check func(context.Context, bun.Tx) error,
	to func(holder string, port *Port, has string) (string, error)) (*action.Empty, error) {
	if err := checkSide("NICType", nicType); err != nil {
		return nil, err
	}
	ids, err := batch("ResourceID", resources)
	if err != nil {
		return nil, err
	}
	c.AddResource(ids...)
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		if err := check(ctx, tx); err != nil {
			return "", err
		}
		var change sideChanges
		var locks []workflow.Lock
		var company int64
		for _, id := range ids {
			port, err := s.holderPort(ctx, tx, c.Scope(), id, nic)
			if err != nil {
				return "", err
			}
			if nicType == LAN && port.SegmentID != "" {
				return "", retcode.InvalidNetworkType.Errorf("%s is on an external segment and has no inner side", port.ID)
			}
			x := sideChange{Port: port.ID, VPC: port.key(), Inner: nicType == LAN, From: port.OuterSG}
			if x.Inner {
				x.From = port.InnerSG
			}
			if x.To, err = to(id, port, x.From); err != nil {
				return "", err
			}
			company = port.Company
			if x.From == x.To {
				continue
			}
			change.Sides = append(change.Sides, x)
			locks = append(locks, exclusive(port.ID))
			if id != port.ID {
				locks = append(locks, shared(id))
			}
		}
		if len(change.Sides) == 0 {
			return "", nil
		}
		return s.beginSides(ctx, tx, c, company, ids, change, locks)
	})
}

// beginSides writes the rows and accepts the operation. The groups that are left and taken are held, so that they
// are still there if the change is taken back.
func (s *Service) beginSides(ctx context.Context, tx bun.Tx, c *action.Call, company int64, ids []string, change sideChanges, locks []workflow.Lock) (string, error) {
	var groups []string
	for _, x := range change.Sides {
		for _, g := range []string{x.From, x.To} {
			if g != "" && g != closed {
				groups = append(groups, g)
			}
		}
	}
	groups = uniq(groups)
	if err := lockGroups(ctx, tx, groups); err != nil {
		return "", err
	}
	for _, g := range groups {
		locks = append(locks, shared(g))
	}
	for _, x := range change.Sides {
		if err := s.setSide(ctx, tx, x.Port, x.Inner, x.From, x.To); err != nil {
			return "", err
		}
	}
	operation, err := s.sides.Accept(ctx, tx, workflow.Request{Action: c.Action, Company: company, Region: c.Region, Resources: append(slices.Clone(ids), groups...), Locks: locks}, change)
	if busy := new(workflow.BusyError); errors.As(err, &busy) {
		if slices.Contains(groups, busy.Resource) {
			return "", retcode.InvalidSGState.Errorf("%s is busy with %s", busy.Resource, busy.Action)
		}
		return "", retcode.InvalidResourceState.Errorf("%s is busy with %s", busy.Resource, busy.Action)
	}
	return operation, err
}

// holderPort finds the port that a resource id, with an interface's, means.
func (s *Service) holderPort(ctx context.Context, tx bun.Tx, scope action.Scope, id, nic string) (*Port, error) {
	for prefix, h := range s.holders {
		if !strings.HasPrefix(id, prefix) {
			continue
		}
		port, err := h(ctx, tx, scope, id)
		if err != nil {
			return nil, err
		}
		p, err := lockPort(ctx, tx, port)
		if err != nil || nic == "" || nic == p.ID {
			return p, err
		}
		if port, err = s.holders["nic-"](ctx, tx, scope, nic); err != nil {
			return nil, err
		}
		if p, err = lockPort(ctx, tx, port); err == nil && p.OwnerID != id {
			err = retcode.ResourceNotFound.Errorf("%s has no interface %s", id, nic)
		}
		return p, err
	}
	return nil, retcode.InvalidResourceType.Errorf("%s has no security groups", id)
}

type describeSecurityGroupResourceRequest struct {
	SGID string `validate:"required" doc:"security group id"`
	action.Tenant
	action.Page
}

type describeSecurityGroupResourceResponse struct {
	TotalCount int
	Infos      []groupResource
}

type groupResource struct {
	Region       string
	SGID         string
	SGName       string
	NICType      string `doc:"side: WAN is outer, LAN is inner"`
	Name         string
	ResourceID   string
	ResourceType string
	Zone         string `doc:"older clients only"`
}

func (s *Service) describeSecurityGroupResource(ctx context.Context, c *action.Call, q *describeSecurityGroupResourceRequest) (*describeSecurityGroupResourceResponse, error) {
	out := &describeSecurityGroupResourceResponse{Infos: []groupResource{}}
	db := s.DB.Reader()
	g, err := groupByID(ctx, db, c.Scope(), q.SGID)
	if err != nil {
		return nil, err
	}
	type holding struct{ OwnerKind, OwnerID, Side string }
	var rows []holding
	sel := db.NewSelect().TableExpr(`(SELECT id AS port, owner_kind, owner_id, 'LAN' AS side FROM port WHERE inner_sg = ?0
		UNION ALL SELECT id, owner_kind, owner_id, 'WAN' FROM port WHERE outer_sg = ?0) AS held`, g.ID)
	n, err := sel.Count(ctx)
	out.TotalCount = int(n)
	if err != nil || q.Limit == 0 || int64(q.Offset) >= n {
		return out, err
	}
	if err := sel.ColumnExpr("owner_kind, owner_id, side").OrderExpr("owner_id, port, side").Offset(int64(q.Offset)).Limit(int64(q.Limit)).Scan(ctx, &rows); err != nil {
		return nil, err
	}
	owners, err := s.owners(ctx, column(rows, func(r *holding) Owner { return Owner{r.OwnerKind, r.OwnerID} }))
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		out.Infos = append(out.Infos, groupResource{Region: g.Region, SGID: g.ID, SGName: g.Name, NICType: r.Side, Name: owners[r.OwnerID].Name,
			ResourceID: r.OwnerID, ResourceType: r.OwnerKind})
	}
	return out, nil
}
