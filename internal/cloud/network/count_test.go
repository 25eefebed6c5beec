package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/uptrace/bun"
	"pgregory.net/rapid"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// counting drives a network through any sequence of what takes and gives back addresses, and keeps what it should
// have in the plainest way: sets.
type counting struct {
	f       *fixture
	segment string
	subnets map[string]int64 // capacity by id, of those made here
	ports   map[string]string
	kept    map[string]bool
	eips    map[string]string // state by id
	bound   map[string]string // port by EIP
}

// TestFreeAddressesAreExact: after any sequence the counted free addresses are those that rows leave free, and
// those that can be had.
func TestFreeAddressesAreExact(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	rapid.Check(t, func(rt *rapid.T) {
		f.clear(t)
		m := &counting{f: f, subnets: map[string]int64{}, ports: map[string]string{}, kept: map[string]bool{}, eips: map[string]string{}, bound: map[string]string{}}
		if err := f.DB.Reader().NewSelect().Model((*Segment)(nil)).Column("id").Scan(t.Context(), &m.segment); err != nil {
			rt.Fatal(err)
		}
		rt.Repeat(rapid.StateMachineActions(m))
	})
}

// clear takes everything away, so that one database serves all sequences.
func (f *fixture) clear(t *testing.T) {
	t.Helper()
	f.transact(t, func(ctx context.Context, tx bun.Tx) error {
		for _, query := range []string{"DELETE FROM address", "DELETE FROM eip", "DELETE FROM port", "DELETE FROM gateway", "DELETE FROM subnet WHERE NOT is_default",
			"UPDATE subnet SET used = 0", "UPDATE segment SET used = 0, position = 0, ranges = '[[2,14]]', capacity = 13", "UPDATE quota SET used = 0 WHERE factor IN ('EIP', 'SUBNET')"} {
			if _, err := tx.NewRaw(query).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// try runs a change; codes in allowed are refusals that change nothing.
func (m *counting) try(t *rapid.T, fn func(ctx context.Context, tx bun.Tx) error, allowed ...retcode.Code) bool {
	t.Helper()
	err := m.f.DB.Transact(context.Background(), fn)
	if err != nil && !slices.Contains(allowed, retcode.Of(err)) {
		t.Fatal(err)
	}
	return err == nil
}

// pick draws one of a map's keys; "" when there is none.
func pick[V any](t *rapid.T, what string, m map[string]V) string {
	if len(m) == 0 {
		t.Skip("no " + what)
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return rapid.SampledFrom(keys).Draw(t, what)
}

func (m *counting) AddSubnet(t *rapid.T) {
	i := len(m.subnets)
	if i >= 4 {
		t.Skip("enough subnets")
	}
	v, _, _ := m.f.network(m.t())
	id, bits := fmt.Sprintf("subnet-%d", i), rapid.IntRange(27, 29).Draw(t, "bits")
	cidr := fmt.Sprintf("10.0.%d.0/%d", 10+i, bits)
	m.try(t, func(ctx context.Context, tx bun.Tx) error {
		n := &Subnet{ID: id, VPCID: v.ID, Region: region, Company: company, Name: "n", CIDR: cidr, State: Available}
		p, err := n.pool()
		if err != nil {
			return err
		}
		n.Capacity, n.Position = capacity(p.spans), p.spans[0][0]
		m.subnets[id] = n.Capacity
		_, err = tx.NewInsert().Model(n).Exec(ctx)
		return err
	})
}

func (m *counting) ReservePort(t *rapid.T) {
	subnet := pick(t, "subnet", m.subnets)
	v, _, _ := m.f.network(m.t())
	wanted := ""
	if rapid.Bool().Draw(t, "wanted") {
		var i int
		fmt.Sscanf(subnet, "subnet-%d", &i)
		wanted = fmt.Sprintf("10.0.%d.%d", 10+i, rapid.IntRange(0, 9).Draw(t, "host"))
	}
	var port *Port
	if m.try(t, func(ctx context.Context, tx bun.Tx) (err error) {
		port, err = m.f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: subnet, IP: wanted, Owner: Owner{VM, "vm-x"}})
		return err
	}, retcode.SubnetIPInsufficient, retcode.IPAlreadyAllocated, retcode.IPReserved, retcode.IPOutOfSegment) {
		m.ports[port.ID] = subnet
	}
}

func (m *counting) KeepOrReturn(t *rapid.T) {
	port := pick(t, "port", m.ports)
	m.try(t, func(ctx context.Context, tx bun.Tx) error {
		if m.kept[port] {
			return m.f.ReturnPort(ctx, tx, port)
		}
		return m.f.KeepPort(ctx, tx, port)
	})
	m.kept[port] = !m.kept[port]
}

func (m *counting) ReleasePort(t *rapid.T) {
	port := pick(t, "port", m.ports)
	for e, p := range m.bound {
		if p == port {
			m.unbind(t, e)
		}
	}
	for range rapid.IntRange(1, 2).Draw(t, "times") { // twice is no error
		m.try(t, func(ctx context.Context, tx bun.Tx) error { return m.f.ReleasePort(ctx, tx, port) })
	}
	delete(m.ports, port)
	delete(m.kept, port)
}

func (m *counting) Allocate(t *rapid.T) {
	wanted := ""
	if rapid.Bool().Draw(t, "wanted") {
		wanted = fmt.Sprintf("198.51.100.%d", rapid.IntRange(0, 15).Draw(t, "host"))
	}
	var e *EIP
	if m.try(t, func(ctx context.Context, tx bun.Tx) (err error) {
		e, err = m.f.AllocateEIPTx(ctx, tx, EIPRequest{Company: company, Region: region, Name: "e", Segment: m.segment, IP: wanted, Physical: true})
		return err
	}, retcode.IPInsufficient, retcode.IPAlreadyAllocated, retcode.IPReserved, retcode.IPOutOfSegment, retcode.QuotaExceeded) {
		m.eips[e.ID] = Free
	}
}

func (m *counting) Bind(t *rapid.T) {
	eip, port := pick(t, "EIP", m.eips), pick(t, "port", m.ports)
	allowed := []retcode.Code{retcode.IPInsufficient} // for the router
	if m.eips[eip] != Free {
		allowed = []retcode.Code{retcode.InvalidResourceState, retcode.ResourceDeleted, retcode.OK}
	}
	err := m.f.DB.Transact(context.Background(), func(ctx context.Context, tx bun.Tx) error {
		if _, err := m.f.BeginBindTx(ctx, tx, eip, Owner{VM, "vm-" + port}, port); err != nil {
			return err
		}
		return m.f.SettleBindTx(ctx, tx, eip)
	})
	switch {
	case err == nil:
		m.eips[eip], m.bound[eip] = Bound, port
	case errors.Is(err, lifecycle.ErrRepeat):
	case !slices.Contains(allowed, retcode.Of(err)):
		t.Fatal(err)
	}
}

func (m *counting) Unbind(t *rapid.T) { m.unbind(t, pick(t, "bound EIP", m.bound)) }

func (m *counting) unbind(t *rapid.T, eip string) {
	m.try(t, func(ctx context.Context, tx bun.Tx) error {
		e, err := eipByID(ctx, tx, action.Scope{}, eip)
		if err != nil {
			return err
		}
		if err := m.f.beginUnbind(ctx, tx, e); err != nil {
			return err
		}
		return m.f.SettleUnbindTx(ctx, tx, eip)
	})
	m.eips[eip] = Free
	delete(m.bound, eip)
}

// BinAndBack moves an EIP to the recycle bin, or out of it, or destroys it.
func (m *counting) BinAndBack(t *rapid.T) {
	eip := pick(t, "EIP", m.eips)
	c := call("RollbackResource")
	switch m.eips[eip] {
	case Free:
		if m.try(t, func(ctx context.Context, tx bun.Tx) error { return m.f.ReleaseEIPTx(ctx, tx, eip) }) {
			m.eips[eip] = Deleted
		}
	case Deleted:
		if rapid.Bool().Draw(t, "restore") {
			if err := m.f.RestoreEIP(context.Background(), c, eip); err == nil {
				m.eips[eip] = Free
			} else if retcode.Of(err) != retcode.QuotaExceeded {
				t.Fatal(err)
			}
		} else {
			if err := m.f.DestroyEIP(context.Background(), c, eip); err != nil {
				t.Fatal(err)
			}
			delete(m.eips, eip)
		}
	}
}

// Ranges changes what the segment hands out; what is in use stays within.
func (m *counting) Ranges(t *rapid.T) {
	first := rapid.IntRange(2, 8).Draw(t, "first")
	last := rapid.IntRange(first, 14).Draw(t, "last")
	c := call("UpdateSegment")
	_, err := m.f.updateSegment(context.Background(), c, &updateSegmentRequest{SegmentID: m.segment, UpdateMode: "IPRange",
		IPRange: fmt.Sprintf("198.51.100.%d-198.51.100.%d", first, last)})
	if err != nil && retcode.Of(err) != retcode.InvalidParameter {
		t.Fatal(err)
	}
}

func (m *counting) t() testing.TB { return m.f.tb }

// Check recomputes everything.
func (m *counting) Check(t *rapid.T) {
	ctx := context.Background()
	problems, err := m.f.Verify(ctx)
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v %v", problems, err)
	}
	for id, capacity := range m.subnets {
		held := int64(0)
		for _, s := range m.ports {
			if s == id {
				held++
			}
		}
		n := new(Subnet)
		if err := m.f.DB.Reader().NewSelect().Model(n).Where("id = ?", id).Scan(ctx); err != nil {
			t.Fatal(err)
		}
		if n.Capacity-n.Used != capacity-held {
			t.Fatalf("%s counts %d free of %d, %d are held", id, n.Capacity-n.Used, capacity, held)
		}
	}
	g := new(Segment)
	if err := m.f.DB.Reader().NewSelect().Model(g).Where("id = ?", m.segment).Scan(ctx); err != nil {
		t.Fatal(err)
	}
	routers := 0
	if len(m.bound) > 0 {
		routers = 1
	}
	texts, err := g.rangeTexts()
	if err != nil {
		t.Fatal(err)
	}
	if free := g.Capacity - int64(len(m.eips)+routers); g.Capacity-g.Used != free || free < 0 {
		t.Fatalf("the segment counts %d free, %d EIPs and %d routers of %s leave %d", g.Capacity-g.Used, len(m.eips), routers, strings.Join(texts, ","), free)
	}
}
