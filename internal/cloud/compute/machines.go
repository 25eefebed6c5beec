package compute

import (
	"context"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// machines lets disks be attached to machines.
type machines struct{ *Service }

func machineOf(v *VM) block.Machine {
	return block.Machine{ID: v.ID, Name: v.Name, HostID: v.HostID, Arch: v.Arch, Stopped: v.State == Stopped}
}

// Resolve implements block.Machines.
func (m machines) Resolve(ctx context.Context, tx bun.Tx, scope action.Scope, id string, detach bool) (*block.Machine, error) {
	v, err := vmByID(ctx, tx, scope, id)
	if err != nil {
		return nil, err
	}
	if err := check(v, Bind); err != nil {
		return nil, err
	}
	if !detach {
		if err := m.Ledger.Check(ctx, tx, v.ID); err != nil {
			return nil, err
		}
	}
	out := machineOf(v)
	return &out, nil
}

// Describe implements block.Machines.
func (m machines) Describe(ctx context.Context, ids []string) (map[string]block.Machine, error) {
	out := map[string]block.Machine{}
	if len(ids) == 0 {
		return out, nil
	}
	var rows []VM
	if err := m.DB.Reader().NewSelect().Model(&rows).Where("id IN (?)", bun.In(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	for i := range rows {
		out[rows[i].ID] = machineOf(&rows[i])
	}
	return out, nil
}

// Replug implements block.Machines: the host is told the whole domain, and nothing of its power. The rows are read
// while nobody else tells it, so that no older list of disks comes after a newer one.
func (m machines) Replug(ctx context.Context, id string) ([]string, error) {
	unlock, err := m.plugs.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := vmByID(ctx, m.DB.Reader(), action.Scope{}, id)
	if err != nil {
		return nil, err
	}
	spec, err := m.domain(ctx, v)
	if err != nil {
		return nil, err
	}
	d, err := m.Fleet.Host(v.HostID).EnsureDomain(ctx, &pb.EnsureDomainRequest{Fence: fence(v.Generation), Spec: spec})
	if errors.Is(err, hostlink.ErrFenced) {
		return nil, fmt.Errorf("%w: a later action took %s over, with another generation", hostlink.ErrUnavailable, v.ID)
	}
	return d.GetVolumes(), err
}

// Priced implements block.Machines.
func (m machines) Priced(ctx context.Context, idb bun.IDB, system block.Disk) ([]catalog.Item, error) {
	v, err := vmByID(ctx, idb, action.Scope{}, system.VMID)
	if err != nil {
		return nil, err
	}
	return priced(v, system), nil
}

// Doomed implements block.Machines.
func (m machines) Doomed(ctx context.Context, hostID string) (ids []string, err error) {
	err = m.DB.Reader().NewSelect().Model((*VM)(nil)).Column("id").Where("host_id = ? AND state IN (?, ?)", hostID, Terminating, Unterminated).Scan(ctx, &ids)
	return ids, err
}
