package network

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

// Actions of VPCs, subnets, security groups and EIPs.
func (s *Service) Actions() []action.Action {
	return slices.Concat(s.innerActions(), s.segmentActions(), s.addressActions(), s.ruleActions(), s.entryActions(), []action.Action{
		action.Define(action.Spec{Name: "DescribeSecurityGroup", Module: "security_group", Summary: "List security groups with their rules."}, s.describeSecurityGroup),
		action.Define(action.Spec{Name: "CreateSecurityGroup", Module: "security_group", Mutates: true, Summary: "Create a security group with its rules."}, s.createSecurityGroup),
		action.Define(action.Spec{Name: "CreateSecurityGroupRule", Module: "security_group", Mutates: true, Summary: "Add rules to a security group."}, s.createSecurityGroupRule),
		action.Define(action.Spec{Name: "AllocateEIP", Module: "eip", Mutates: true, Summary: "Allocate public addresses from a segment."}, s.allocateEIP),
		action.Define(action.Spec{Name: "DescribeEIP", Module: "eip", Summary: "List public addresses."}, s.describeEIP),
		action.Define(action.Spec{Name: "BindEIP", Module: "eip", Mutates: true, Summary: "Bind a public address to a resource."}, s.bindEIP),
		action.Define(action.Spec{Name: "UnBindEIP", Module: "eip", Mutates: true, Summary: "Unbind a public address from a resource."}, s.unbindEIP),
		action.Define(action.Spec{Name: "ReleaseEIP", Module: "eip", Mutates: true, Summary: "Move a public address to the recycle bin."}, s.releaseEIP),
	})
}

// page reads the rows of one page and how many match in all.
func page(ctx context.Context, q *bun.SelectQuery, p action.Page, order string) (int, error) {
	n, err := q.Count(ctx)
	if err != nil || p.Limit == 0 || int64(p.Offset) >= n {
		return int(n), err
	}
	return int(n), q.OrderExpr(order).Offset(int64(p.Offset)).Limit(int64(p.Limit)).Scan(ctx)
}

// seconds turns stored into wire times.
func seconds(micros int64) int64 { return micros / 1_000_000 }

// column collects one field of rows.
func column[T, V any](rows []T, of func(*T) V) []V {
	out := make([]V, len(rows))
	for i := range rows {
		out[i] = of(&rows[i])
	}
	return out
}
