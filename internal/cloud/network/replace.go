package network

import (
	"context"
	"errors"
	"strconv"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// ofMove holds the address that a machine leaves until the network knows it no more.
const ofMove = "move"

type replaceIPRequest struct {
	ResourceID string `validate:"required" doc:"machine's id"`
	IP         string `validate:"required" doc:"wanted address"`
	SubnetID   string `doc:"another subnet of the same VPC"`
	action.Tenant
}

// replaceIP gives the own interface of a stopped machine another address: 1014 unless it is Stopped, 113 while it
// carries VIPs of the subnet that it leaves.
func (s *Service) replaceIP(ctx context.Context, c *action.Call, q *replaceIPRequest) (*action.Empty, error) {
	c.AddResource(q.ResourceID)
	ip, err := parseWanted(q.IP)
	if err != nil {
		return nil, err
	}
	kind, err := s.machines()
	if err != nil {
		return nil, err
	}
	return nil, s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		m, err := kind.Machine(ctx, tx, c.Scope(), q.ResourceID)
		if err != nil {
			return "", err
		}
		if !m.Stopped {
			return "", retcode.VMNotStopped.Errorf("%s is not Stopped", q.ResourceID)
		}
		port := new(Port)
		if err := tx.NewSelect().Model(port).Where("id = ?", m.PortID).Scan(ctx); err != nil {
			return "", err
		}
		to := port.SubnetID
		if q.SubnetID != "" {
			to = q.SubnetID
		}
		n, err := subnetByID(ctx, tx, &VPC{ID: port.VPCID}, to)
		if err != nil {
			return "", err
		}
		if err := n.usable(); err != nil {
			return "", err
		}
		if port.IP == ip.String() && port.SubnetID == n.ID {
			return "", lifecycle.ErrRepeat
		}
		if carries, err := exists(ctx, tx, "SELECT 1 FROM vip_carrier WHERE port_id = ?", port.ID); err != nil {
			return "", err
		} else if carries && n.ID != port.SubnetID {
			return "", retcode.InvalidParameter.Errorf("%s carries VIPs of %s", q.ResourceID, port.SubnetID)
		}
		if err := lockSubnet(ctx, tx, n); err != nil {
			return "", err
		}
		p, err := n.pool()
		if err != nil {
			return "", err
		}
		if !p.cidr.Contains(ip) {
			return "", retcode.IPOutOfSegment.Errorf("%s is outside %s of %s", ip, p.cidr, p.id)
		}
		num := offset(p.cidr, ip)
		if !p.hands(num) {
			return "", retcode.IPReserved.Errorf("%s of %s is kept for the network itself", ip, p.id)
		}
		if err := p.takeAt(ctx, tx, num, ofPort, port.ID); errors.Is(err, errTaken) {
			return "", retcode.IPAlreadyAllocated.Errorf("%s of %s is taken", ip, p.id)
		} else if err != nil {
			return "", err
		}
		if err := port.leave(ctx, tx, ofPort, ofMove); err != nil {
			return "", err
		}
		was := map[string]string{"subnet": port.SubnetID, "num": strconv.FormatInt(port.Num, 10), "ip": port.IP}
		if err := s.movePort(ctx, tx, port.ID, n.ID, num, ip.String()); err != nil {
			return "", err
		}
		if err := kind.Readdress(ctx, tx, q.ResourceID, n.ID); err != nil {
			return "", err
		}
		return s.begin(ctx, tx, c, s.moveIP, port.Company, retcode.InvalidVMState,
			edit{ID: port.ID, More: []string{q.ResourceID}, VPCs: []string{port.VPCID}, Was: was}, exclusive(q.ResourceID))
	})
}

// leave hands the port's address from one kind of owner to another, both with the port's id.
func (p *Port) leave(ctx context.Context, tx bun.Tx, from, to string) error {
	_, err := tx.NewRaw("UPDATE address SET owner_kind = ? WHERE pool = ? AND num = ? AND owner_kind = ? AND owner_id = ?", to, p.SubnetID, p.Num, from, p.ID).Exec(ctx)
	return err
}

func (s *Service) movePort(ctx context.Context, tx bun.Tx, id, subnet string, num int64, ip string) error {
	_, err := tx.NewRaw("UPDATE port SET subnet_id = ?, num = ?, ip = ?, updated_at = ?, generation = generation + 1 WHERE id = ?", subnet, num, ip, s.Clock.Micros(), id).Exec(ctx)
	return err
}

// moved is the address that a move left, as a port.
func (e *edit) moved() (*Port, error) {
	num, err := strconv.ParseInt(e.Was["num"], 10, 64)
	return &Port{ID: e.ID, SubnetID: e.Was["subnet"], Num: num, IP: e.Was["ip"]}, err
}

// registerMove registers the workflow of another address.
func (s *Service) registerMove() {
	s.moveIP = s.registerEdit(editing{
		name: "ip.replace",
		revert: func(ctx context.Context, tx bun.Tx, e *edit) error {
			old, err := e.moved()
			if err != nil {
				return err
			}
			now := new(Port)
			if found, err := one(tx.NewSelect().Model(now).Where("id = ?", e.ID).Scan(ctx)); err != nil || !found {
				return err
			}
			if now.SubnetID == old.SubnetID && now.Num == old.Num {
				return nil
			}
			if err := now.leave(ctx, tx, ofPort, ofMove); err != nil {
				return err
			}
			if err := old.leave(ctx, tx, ofMove, ofPort); err != nil {
				return err
			}
			if err := s.movePort(ctx, tx, e.ID, old.SubnetID, old.Num, old.IP); err != nil {
				return err
			}
			kind, err := s.machines()
			if err != nil {
				return err
			}
			return kind.Readdress(ctx, tx, e.More[0], old.SubnetID)
		},
		settle: func(ctx context.Context, tx bun.Tx, e *edit) error { return s.endMove(ctx, tx, e, nil) },
		abort:  s.endMove,
	})
}

// endMove frees the address that a move left and lets the machine go.
func (s *Service) endMove(ctx context.Context, tx bun.Tx, e *edit, cause error) error {
	if err := giveMoved(ctx, tx, e.ID); err != nil {
		return err
	}
	kind, err := s.machines()
	if err != nil {
		return err
	}
	return kind.Readdressed(ctx, tx, e.More[0], cause)
}

// giveMoved frees the address that a port has left.
func giveMoved(ctx context.Context, tx bun.Tx, port string) error {
	var rows []struct {
		Pool string
		Num  int64
	}
	if err := tx.NewSelect().TableExpr("address").Column("pool", "num").Where("owner_kind = ? AND owner_id = ?", ofMove, port).Scan(ctx, &rows); err != nil {
		return err
	}
	for _, r := range rows {
		if err := (&pool{table: "subnet", id: r.Pool}).give(ctx, tx, r.Num, ofMove, port); err != nil {
			return err
		}
	}
	return nil
}
