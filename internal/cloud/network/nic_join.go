package network

import (
	"context"
	"errors"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// checkAttach refuses what a machine does not take: 208 too many NICs, 8002 an address that it has already, 113 a
// segment that its host does not reach. The caller holds the machine's own port.
func (s *Service) checkAttach(ctx context.Context, tx bun.Tx, n *NIC, port *Port, m *Machine, id string) error {
	limit := MostNICs(m.Arch)
	if there, err := tx.NewSelect().Model((*NIC)(nil)).Where("bind_id = ?", id).Count(ctx); err != nil {
		return err
	} else if there >= int64(limit) {
		return retcode.BindLimitReached.Errorf("%s has %d elastic network interfaces", id, limit)
	}
	if twice, err := exists(ctx, tx, "SELECT 1 FROM port WHERE owner_id = ? AND ip = ? UNION SELECT 1 FROM eip WHERE bind_id = ? AND ip = ?", id, port.IP, id, port.IP); err != nil {
		return err
	} else if twice {
		return retcode.DuplicateIPBinding.Errorf("%s has the address %s already", id, port.IP)
	}
	if n.Kind == WAN {
		segments, err := segmentsByID(ctx, tx, []string{n.SegmentID})
		if err != nil {
			return err
		}
		info, _ := s.Fleet.HostInfo(m.HostID)
		if g := segments[n.SegmentID]; g == nil || !slices.Contains(info.Networks, g.Network) {
			return retcode.InvalidParameter.Errorf("the host of %s is not on the network of segment %s", id, n.SegmentID)
		}
	}
	return nil
}

// nicChange is the state of attaching and detaching.
type nicChange struct {
	NIC     string
	Machine string
	Key     string // of its port
}

// registerNIC registers the workflows of NICs.
func (s *Service) registerNIC() {
	program := func(ctx context.Context, c *nicChange) error {
		return s.programEdit(ctx, &edit{VPCs: []string{c.Key}})
	}
	plug := func(ctx context.Context, c *nicChange) error {
		m, err := s.machines()
		if err != nil {
			return err
		}
		return m.Plug(ctx, c.Machine)
	}
	out := func(ctx context.Context, c *nicChange) error {
		return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := s.beginDetach(ctx, tx, c.NIC, nil, Bounding)
			return err
		})
	}
	back := func(ctx context.Context, c *nicChange) error {
		return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.reattach(ctx, tx, c.NIC) })
	}
	s.attachNIC = workflow.Register(s.Engine, workflow.Definition[nicChange]{
		Name: "nic.attach",
		Steps: []workflow.Step[nicChange]{
			{Name: "program", Deadline: programTimeout, Do: program, Undo: func(ctx context.Context, c *nicChange) error {
				if err := out(ctx, c); err != nil {
					return err
				}
				return s.SyncVPC(ctx, c.Key)
			}},
			{Name: "plug", Deadline: programTimeout, Do: plug, Undo: func(ctx context.Context, c *nicChange) error {
				if err := out(ctx, c); err != nil {
					return err
				}
				return s.unplugged(ctx, c)
			}},
		},
		Settle: func(ctx context.Context, tx bun.Tx, c *nicChange) error {
			_, err := s.turn(ctx, tx, "nic", c.NIC, Bound, nil, Bounding)
			return err
		},
		Abort: func(ctx context.Context, tx bun.Tx, c *nicChange, cause error) error {
			if _, err := s.beginDetach(ctx, tx, c.NIC, nil, Bounding); err != nil { // a change that no step began
				return err
			}
			return s.freeNIC(ctx, tx, c.NIC, cause)
		},
	})
	s.detachNIC = workflow.Register(s.Engine, workflow.Definition[nicChange]{
		Name: "nic.detach",
		Steps: []workflow.Step[nicChange]{
			{Name: "unplug", Deadline: programTimeout, Do: plug, Undo: func(ctx context.Context, c *nicChange) error {
				if err := back(ctx, c); err != nil {
					return err
				}
				return s.unplugged(ctx, c)
			}},
			{Name: "program", Deadline: programTimeout, Do: program, Undo: func(ctx context.Context, c *nicChange) error {
				if err := back(ctx, c); err != nil {
					return err
				}
				return s.SyncVPC(ctx, c.Key)
			}},
		},
		Settle: func(ctx context.Context, tx bun.Tx, c *nicChange) error { return s.freeNIC(ctx, tx, c.NIC, nil) },
		Abort: func(ctx context.Context, tx bun.Tx, c *nicChange, cause error) error {
			if err := s.reattach(ctx, tx, c.NIC); err != nil {
				return err
			}
			_, err := s.turn(ctx, tx, "nic", c.NIC, Bound, cause, Bounding)
			return err
		},
	})
	s.limitNIC = s.registerLimit("nic.bandwidth", "nic", "UPDATE port SET in_mbps = CAST(?0 AS BIGINT), out_mbps = CAST(?0 AS BIGINT) WHERE id = ?1")
}

// unplugged is plug for undoing: a machine that went meanwhile needs none.
func (s *Service) unplugged(ctx context.Context, c *nicChange) error {
	m, err := s.machines()
	if err != nil {
		return err
	}
	if err = m.Plug(ctx, c.Machine); retcode.Of(err) == retcode.VMNotFound {
		return nil
	}
	return err
}

// beginDetach makes a NIC Unbounding and takes its port out of the network. It tells whether the NIC was in the state.
func (s *Service) beginDetach(ctx context.Context, tx bun.Tx, id string, cause error, from ...string) (bool, error) {
	ok, err := s.turn(ctx, tx, "nic", id, Unbounding, cause, from...)
	if err != nil || !ok {
		return ok, err
	}
	return true, s.KeepPort(ctx, tx, id)
}

// reattach makes an Unbounding NIC Bounding again.
func (s *Service) reattach(ctx context.Context, tx bun.Tx, id string) error {
	if ok, err := s.turn(ctx, tx, "nic", id, Bounding, nil, Unbounding); err != nil || !ok {
		return err
	}
	return s.ReturnPort(ctx, tx, id)
}

// freeNIC makes an Unbounding NIC Free; it carries no VIP any more.
func (s *Service) freeNIC(ctx context.Context, tx bun.Tx, id string, cause error) error {
	if ok, err := s.turn(ctx, tx, "nic", id, Free, cause, Unbounding); err != nil || !ok {
		return err
	}
	for _, statement := range []string{
		"UPDATE nic SET bind_kind = '', bind_id = '' WHERE id = ?",
		"UPDATE port SET owner_kind = 'NIC', owner_id = id, host_id = '' WHERE id = ?",
		"DELETE FROM vip_carrier WHERE port_id = ?",
	} {
		if _, err := tx.NewRaw(statement, id).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// NewNIC is an inner NIC that is made with its machine. Empty: any address, no security group.
type NewNIC struct{ Name, Project, VPCID, SubnetID, IP, SGID string }

// BeginJoinTx makes a NIC that is attached to a machine which is being made and returns its id. The caller has taken
// its quota, and locks it. Codes as CreateNIC's and AttachNIC's. After SyncOwner: SettleJoinTx, or else BeginLeaveTx.
func (s *Service) BeginJoinTx(ctx context.Context, tx bun.Tx, scope action.Scope, q NewNIC, id string, m *Machine) (string, error) {
	now := s.Clock.Micros()
	n := &NIC{ID: database.NewID("nic"), Region: scope.Region, Company: scope.Company, Project: q.Project, Name: q.Name, Kind: LAN, VPCID: q.VPCID, SubnetID: q.SubnetID,
		State: Free, CreatedAt: now, UpdatedAt: now}
	if err := s.insertLAN(ctx, tx, scope, n, q.IP, q.SGID, ""); err != nil {
		return "", err
	}
	_, err := s.beginJoin(ctx, tx, n, m, id)
	return n.ID, err
}

// insertLAN writes an inner NIC, attached to nothing, with its address.
func (s *Service) insertLAN(ctx context.Context, tx bun.Tx, scope action.Scope, n *NIC, ip, group, mac string) error {
	if _, err := s.ReservePort(ctx, tx, PortRequest{Scope: scope, ID: n.ID, VPCID: n.VPCID, SubnetID: n.SubnetID, IP: ip, MAC: mac, Owner: Owner{ofNIC, n.ID},
		InnerSG: group, OuterSG: group, AnyGroup: true, Kept: true}); err != nil {
		return err
	}
	_, err := tx.NewInsert().Model(n).Exec(ctx)
	return err
}

// beginJoin makes a Free NIC one of a machine and returns its port.
func (s *Service) beginJoin(ctx context.Context, tx bun.Tx, n *NIC, m *Machine, id string) (*Port, error) {
	// Whoever attaches to the machine meets here, so that its NICs are counted exactly.
	if _, err := lockPort(ctx, tx, m.PortID); err != nil {
		return nil, err
	}
	port, err := lockPort(ctx, tx, n.ID)
	if err != nil {
		return nil, err
	}
	if err := s.checkAttach(ctx, tx, n, port, m, id); err != nil {
		return nil, err
	}
	if ok, err := s.turn(ctx, tx, "nic", n.ID, Bounding, nil, Free); err != nil {
		return nil, err
	} else if !ok {
		return nil, retcode.InvalidResourceState.Errorf("%s is being changed", n.ID)
	}
	if _, err := tx.NewRaw("UPDATE nic SET bind_kind = ?, bind_id = ? WHERE id = ?", VM, id, n.ID).Exec(ctx); err != nil {
		return nil, err
	}
	_, err = tx.NewRaw("UPDATE port SET owner_kind = ?, owner_id = ?, host_id = ?, kept = ? WHERE id = ?", VM, id, m.HostID, false, n.ID).Exec(ctx)
	return port, err
}

// SettleJoinTx makes NICs Bound that BeginJoinTx made.
func (s *Service) SettleJoinTx(ctx context.Context, tx bun.Tx, ids ...string) error {
	for _, id := range ids {
		if _, err := s.turn(ctx, tx, "nic", id, Bound, nil, Bounding); err != nil {
			return err
		}
	}
	return nil
}

// BeginLeaveTx takes an owner's elastic NICs and its part in VIPs away from it (its deletion) and returns the NICs'
// ids. The caller holds the owner's lock and those of the NICs. Then: Plug or the removal of the machine,
// SyncOwner, SettleLeaveTx.
func (s *Service) BeginLeaveTx(ctx context.Context, tx bun.Tx, owner string) ([]string, error) {
	var ids []string
	if err := tx.NewSelect().Model((*NIC)(nil)).Column("id").Where("bind_id = ?", owner).Order("id").Scan(ctx, &ids); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, err := s.beginDetach(ctx, tx, id, nil, Bound, Bounding); err != nil {
			return nil, err
		}
	}
	_, err := tx.NewRaw("DELETE FROM vip_carrier WHERE port_id IN (SELECT id FROM port WHERE owner_id = ?)", owner).Exec(ctx)
	return ids, err
}

// SyncOwner tells the fabric every network that an owner has a port in.
func (s *Service) SyncOwner(ctx context.Context, owner string) error {
	var ports []Port
	if err := s.DB.Reader().NewSelect().Model(&ports).Where("owner_id = ?", owner).Scan(ctx); err != nil {
		return err
	}
	return s.syncAll(ctx, uniq(column(ports, func(p *Port) string { return p.key() })))
}

// SettleLeaveTx makes NICs Free that BeginLeaveTx took away, or destroys them.
func (s *Service) SettleLeaveTx(ctx context.Context, tx bun.Tx, destroy bool, ids ...string) error {
	for _, id := range ids {
		if err := s.freeNIC(ctx, tx, id, nil); err != nil {
			return err
		}
		if destroy {
			if err := s.endNIC(ctx, tx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// DomainPorts are the ports of a machine that its host plugs in: its own first, then the elastic ones in the order in
// which they were made.
func (s *Service) DomainPorts(ctx context.Context, idb bun.IDB, owner, own string) ([]Port, error) {
	ports, err := database.Find[Port](ctx, idb, "WHERE owner_id = ? AND (id = ? OR kept = ?) ORDER BY CASE WHEN id = ? THEN 0 ELSE 1 END, created_at, id", owner, own, false, own)
	if err == nil && (len(ports) == 0 || ports[0].ID != own) {
		err = errors.New("network: " + owner + " has no port of its own")
	}
	return ports, err
}
