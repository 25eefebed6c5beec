package network

import (
	"context"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) ruleActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DeleteSecurityGroup", Module: "security_group", Mutates: true, Summary: "Delete a security group that nothing has."}, s.deleteSecurityGroup),
		action.Define(action.Spec{Name: "UpdateSecurityGroupRule", Module: "security_group", Mutates: true, Summary: "Replace rules of a security group."}, s.updateSecurityGroupRule),
		action.Define(action.Spec{Name: "DeleteSecurityGroupRule", Module: "security_group", Mutates: true, Summary: "Delete rules of a security group."}, s.deleteSecurityGroupRule),
		action.Define(action.Spec{Name: "DescribeSecurityGroupRule", Module: "security_group", Extension: true, Summary: "List the rules of a security group."}, s.describeSecurityGroupRule),
		action.Define(action.Spec{Name: "BindSecurityGroup", Module: "security_group", Mutates: true, Summary: "Give a security group to sides of resources."}, s.bindSecurityGroup),
		action.Define(action.Spec{Name: "UnBindSecurityGroup", Module: "security_group", Mutates: true, Summary: "Take the security group from sides of resources."}, s.unbindSecurityGroup),
		action.Define(action.Spec{Name: "DescribeSecurityGroupResource", Module: "security_group", Summary: "List what has a security group."}, s.describeSecurityGroupResource),
	}
}

// maxBatch bounds the ids of one call.
const maxBatch = 10

// batch reads a parameter that takes one id or several with commas between: 113 none or too many.
func batch(parameter, text string) ([]string, error) {
	var ids []string
	for _, id := range strings.Split(text, ",") {
		ids = append(ids, strings.TrimSpace(id))
	}
	ids = uniq(ids)
	if len(ids) == 0 || len(ids) > maxBatch {
		return nil, retcode.InvalidParameter.Errorf("%s takes 1 to %d ids", parameter, maxBatch)
	}
	return ids, nil
}

type deleteSecurityGroupRequest struct {
	SGID string `validate:"required" doc:"security group id"`
	action.Tenant
}

func (s *Service) deleteSecurityGroup(ctx context.Context, c *action.Call, q *deleteSecurityGroupRequest) (*action.Empty, error) {
	c.AddResource(q.SGID)
	return &action.Empty{}, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		g, err := groupByID(ctx, tx, c.Scope(), q.SGID)
		if err != nil {
			return err
		}
		return s.deleteGroup(ctx, tx, g)
	})
}

type updateSecurityGroupRuleRequest struct {
	SGID   string   `validate:"required" doc:"security group id"`
	Rules  []string `alias:"Rule" validate:"required" doc:"PROTOCOL|PORT|CIDR|ACTION|PRIORITY|DIRECTION|RULEID"`
	Remark *string  `doc:"of these rules, 0-100 characters; left as it is when not given"`
	action.Tenant
}

func (s *Service) updateSecurityGroupRule(ctx context.Context, c *action.Call, q *updateSecurityGroupRuleRequest) (*action.Empty, error) {
	c.AddResource(q.SGID)
	if len(q.Rules) > MaxRules {
		return nil, retcode.InvalidParameter.Errorf("a security group has at most %d rules", MaxRules)
	}
	ids, texts := make([]string, len(q.Rules)), make([]string, len(q.Rules))
	for i, text := range q.Rules {
		cut := strings.LastIndex(text, "|")
		if strings.Count(text, "|") != 6 || strings.TrimSpace(text[cut+1:]) == "" {
			return nil, retcode.InvalidParameterFormat.Errorf("rule %q: the form is PROTOCOL|PORT|CIDR|ACTION|PRIORITY|DIRECTION|RULEID", text)
		}
		texts[i], ids[i] = text[:cut], strings.TrimSpace(text[cut+1:])
	}
	if len(uniq(ids)) != len(ids) {
		return nil, retcode.InvalidParameter.Errorf("Rules: a rule is given twice")
	}
	rules, err := parseRules(texts)
	if err != nil {
		return nil, err
	}
	if len(rules) != len(ids) {
		return nil, retcode.InvalidParameter.Errorf("Rules: PPTP stands for two rules, which one cannot become")
	}
	if q.Remark != nil {
		if err := remark(*q.Remark); err != nil {
			return nil, err
		}
	}
	for i := range rules {
		rules[i].ID = ids[i]
	}
	return &action.Empty{}, s.changeRules(ctx, c, q.SGID, func(ctx context.Context, tx bun.Tx, g *Group) (groupChange, bool, error) {
		before, used, err := s.replaceRules(ctx, tx, g, rules, q.Remark)
		return groupChange{Group: g.ID, Before: before}, used, err
	})
}

type deleteSecurityGroupRuleRequest struct {
	SGID     string `validate:"required" doc:"security group id"`
	SGRuleID string `validate:"required" doc:"rule id, or several with commas between"`
	action.Tenant
}

func (s *Service) deleteSecurityGroupRule(ctx context.Context, c *action.Call, q *deleteSecurityGroupRuleRequest) (*action.Empty, error) {
	c.AddResource(q.SGID)
	var ids []string
	for _, id := range strings.Split(q.SGRuleID, ",") {
		ids = append(ids, strings.TrimSpace(id))
	}
	if ids = uniq(ids); len(ids) == 0 || len(ids) > MaxRules {
		return nil, retcode.InvalidParameter.Errorf("SGRuleID takes 1 to %d ids", MaxRules)
	}
	return &action.Empty{}, s.changeRules(ctx, c, q.SGID, func(ctx context.Context, tx bun.Tx, g *Group) (groupChange, bool, error) {
		before, used, err := s.dropRules(ctx, tx, g, ids)
		return groupChange{Group: g.ID, Before: before}, used, err
	})
}

type describeSecurityGroupRuleRequest struct {
	SGID      string `validate:"required" doc:"security group id"`
	Direction string `loose:"true" validate:"oneof=0 1" doc:"1 in, 0 out"`
	Offset    int    `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit     int    `default:"20" validate:"min=1,max=100" doc:"page length"`
	action.Tenant
}

type describeSecurityGroupRuleResponse struct {
	Infos      []listedRule
	TotalCount int
}

type listedRule struct {
	RuleID       string
	ProtocolType string
	DstPort      string `doc:"ports, or a port group's id"`
	SrcIP        string `doc:"address of the other end: CIDR, IP group's id, or VPC for everything in the same VPC"`
	RuleAction   string
	Priority     string
	Direction    string `doc:"1 in, 0 out"`
	Remark       string
	PortGroupID  string
	IPGroupID    string
	CreateTime   int64
}

func (s *Service) describeSecurityGroupRule(ctx context.Context, c *action.Call, q *describeSecurityGroupRuleRequest) (*describeSecurityGroupRuleResponse, error) {
	out := &describeSecurityGroupRuleResponse{Infos: []listedRule{}}
	g, err := groupByID(ctx, s.DB.Reader(), c.Scope(), q.SGID)
	if err != nil {
		return nil, err
	}
	var rows []ruleRow
	sel := s.DB.Reader().NewSelect().Model(&rows).Where("sg_id = ?", g.ID)
	if q.Direction != "" {
		sel = sel.Where("ingress = ?", q.Direction == "1")
	}
	if out.TotalCount, err = page(ctx, sel, action.Page{Offset: q.Offset, Limit: q.Limit}, "created_at, id"); err != nil {
		return nil, err
	}
	for i := range rows {
		r := &rows[i]
		info := listedRule{RuleID: r.ID, ProtocolType: r.Protocol, DstPort: r.Ports, SrcIP: r.Remote, RuleAction: r.Action, Priority: r.Priority, Direction: "0",
			Remark: r.Remark, PortGroupID: r.portGroup(), IPGroupID: r.ipGroup(), CreateTime: seconds(r.CreatedAt)}
		if r.Ingress {
			info.Direction = "1"
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}
