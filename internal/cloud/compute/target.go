package compute

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// target lets public addresses be bound to machines.
type target struct{ *Service }

// Resolve implements network.Target.
func (t target) Resolve(ctx context.Context, tx bun.Tx, scope action.Scope, id string, unbind bool) (*network.TargetPort, error) {
	v, err := vmByID(ctx, tx, scope, id)
	if err != nil {
		return nil, err
	}
	if err := check(v, Bind); err != nil {
		return nil, err
	}
	if v.ExpireAt != 0 && v.ExpireAt <= t.Clock.Micros() && !unbind {
		return nil, retcode.ResourceExpired.Errorf("%s has expired", v.ID)
	}
	return &network.TargetPort{PortID: v.PortID, Name: v.Name, Project: v.Project}, nil
}

// Describe implements network.Target.
func (t target) Describe(ctx context.Context, ids []string) (map[string]network.TargetPort, error) {
	out := map[string]network.TargetPort{}
	if len(ids) == 0 {
		return out, nil
	}
	var rows []VM
	if err := t.DB.Reader().NewSelect().Model(&rows).Column("id", "port_id", "name", "project").Where("id IN (?)", bun.In(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	for _, v := range rows {
		out[v.ID] = network.TargetPort{PortID: v.PortID, Name: v.Name, Project: v.Project}
	}
	return out, nil
}
