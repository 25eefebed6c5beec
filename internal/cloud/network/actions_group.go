package network

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

type describeSecurityGroupRequest struct {
	ProjectIDs []string `doc:"project group ids"`
	Keyword    string   `doc:"part of name or id"`
	SGIDs      []string `doc:"security group ids"`
	Status     string   `doc:"state"`
	action.Tenant
	action.Page
}

type describeSecurityGroupResponse struct {
	TotalCount int
	Infos      []groupInfo
}

type groupInfo struct {
	Region        string
	CompanyID     int64
	Email         string
	ResourceCount int `doc:"resources that use the group"`
	Rule          []ruleInfo
	RuleCount     int
	ProjectID     string
	ProjectName   string
	RegionAlias   string
	SGID          string
	Name          string
	Status        string
	Remark        string
	CreateTime    int64
	UpdateTime    int64
	Reason        string
	Zone          string `doc:"older clients only"`
	IsDefault     bool
	BindCount     int `doc:"sides of NICs that have the group"`
	Tags          []tag.Info
}

type ruleInfo struct {
	SGID         string
	Remark       string
	ProjectID    string
	ProjectName  string
	State        string
	CreateTime   int64
	UpdateTime   int64
	RuleID       string
	SrcIP        string `doc:"address of the other end: CIDR, or VPC for everything in the same VPC"`
	Priority     string
	ProtocolType string
	DstPort      string
	RuleAction   string
	IsIn         string `doc:"1 in, 0 out"`
	IPGroupID    string
	PortGroupID  string
	Tags         []tag.Info
}

func (s *Service) describeSecurityGroup(ctx context.Context, c *action.Call, q *describeSecurityGroupRequest) (*describeSecurityGroupResponse, error) {
	out := &describeSecurityGroupResponse{Infos: []groupInfo{}}
	var rows []Group
	sel := identity.Own(s.DB.Reader().NewSelect().Model(&rows).Where("ended_at = 0"), c.Scope())
	if q.Status != "" {
		sel = sel.Where("state = ?", q.Status)
	}
	sel = database.Matching(anyOf(anyOf(sel, "id", q.SGIDs), "project", q.ProjectIDs), q.Keyword, "name", "id")
	var err error
	if out.TotalCount, err = page(ctx, sel, q.Page, "is_default DESC, created_at DESC, id DESC"); err != nil || len(rows) == 0 {
		return out, err
	}
	shown, err := labelled(ctx, s, rows)
	if err != nil {
		return nil, err
	}
	ids := column(rows, func(g *Group) string { return g.ID })
	var rules []ruleRow
	if err := s.DB.Reader().NewSelect().Model(&rules).Where("sg_id IN (?)", bun.In(ids)).Order("created_at", "id").Scan(ctx); err != nil {
		return nil, err
	}
	var uses []struct {
		SG        string `bun:"sg"`
		Binds     int    `bun:"binds"`
		Resources int    `bun:"resources"`
	}
	err = s.DB.Reader().NewRaw(`SELECT sg, COUNT(*) AS binds, COUNT(DISTINCT owner_id) AS resources FROM (
		SELECT inner_sg AS sg, owner_id FROM port WHERE inner_sg IN (?0) UNION ALL
		SELECT outer_sg AS sg, owner_id FROM port WHERE outer_sg IN (?0)) AS sides GROUP BY sg`, bun.In(ids)).Scan(ctx, &uses)
	if err != nil {
		return nil, err
	}
	for _, g := range rows {
		info := groupInfo{Region: g.Region, RegionAlias: g.Region, CompanyID: g.Company, Email: shown[g.ID].email, Rule: []ruleInfo{}, ProjectID: g.Project, ProjectName: shown[g.ID].project,
			SGID: g.ID, Name: g.Name, Status: g.State, Remark: g.Remark, CreateTime: seconds(g.CreatedAt), UpdateTime: seconds(g.UpdatedAt),
			Reason: why(g.ReasonCode, g.Reason, c.Language), IsDefault: g.IsDefault, Tags: shown[g.ID].tags}
		for _, u := range uses {
			if u.SG == g.ID {
				info.BindCount, info.ResourceCount = u.Binds, u.Resources
			}
		}
		for _, r := range rules {
			if r.SGID != g.ID {
				continue
			}
			in := "0"
			if r.Ingress {
				in = "1"
			}
			info.Rule = append(info.Rule, ruleInfo{SGID: g.ID, Remark: r.Remark, ProjectID: g.Project, ProjectName: shown[g.ID].project, State: g.State, CreateTime: seconds(r.CreatedAt),
				UpdateTime: seconds(r.UpdatedAt), RuleID: r.ID, SrcIP: r.Remote, Priority: r.Priority, ProtocolType: r.Protocol, DstPort: r.Ports,
				RuleAction: r.Action, IsIn: in, IPGroupID: r.ipGroup(), PortGroupID: r.portGroup(), Tags: []tag.Info{}})
		}
		info.RuleCount = len(info.Rule)
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

type createSecurityGroupRequest struct {
	Name             string   `validate:"required" doc:"1-63 printable characters"`
	Rule             []string `alias:"Rules" validate:"required" doc:"PROTOCOL|PORT|CIDR|ACTION|PRIORITY|DIRECTION"`
	Remark           string   `doc:"0-100 characters"`
	ProjectID        string   `doc:"project group id"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
}

type createSecurityGroupResponse struct{ SGID string }

func (s *Service) createSecurityGroup(ctx context.Context, c *action.Call, q *createSecurityGroupRequest) (*createSecurityGroupResponse, error) {
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	rules, err := parseRules(q.Rule)
	if err != nil {
		return nil, err
	}
	if len(rules) > MaxRules {
		return nil, retcode.InvalidParameter.Errorf("a security group has at most %d rules", MaxRules)
	}
	if _, err := resource.Remark(q.Remark); err != nil {
		return nil, err
	}
	var g *Group
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		project, err := identity.Project(ctx, tx, c, q.ProjectID)
		if err != nil {
			return err
		}
		if err := s.Catalog.Reserve(ctx, tx, c.Owner(), c.Region, catalog.Amounts{catalog.SecurityGroup: 1}); err != nil {
			return err
		}
		now := s.Clock.Micros()
		g = &Group{ID: database.NewID("sg"), Region: c.Region, Company: c.Owner(), Project: project, Name: name, Remark: q.Remark, State: Available, CreatedAt: now, UpdatedAt: now}
		if err := tag.Attach(ctx, tx, now, resource.Item{ID: g.ID, Company: g.Company, Region: g.Region, Kind: "SG"}, q.TagKeyValuePairs); err != nil {
			return err
		}
		return s.createGroup(ctx, tx, g, rules)
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(g.ID)
	return &createSecurityGroupResponse{SGID: g.ID}, nil
}

type createSecurityGroupRuleRequest struct {
	SGID      string   `validate:"required" doc:"security group id"`
	Rules     []string `alias:"Rule" validate:"required" doc:"PROTOCOL|PORT|CIDR|ACTION|PRIORITY|DIRECTION"`
	ProjectID string   `doc:"project group id"`
	Remark    string   `doc:"of the new rules, 0-100 characters"`
	action.Tenant
}

type createSecurityGroupRuleResponse struct {
	SGRuleID string `doc:"the first new rule"`
}

func (s *Service) createSecurityGroupRule(ctx context.Context, c *action.Call, q *createSecurityGroupRuleRequest) (*createSecurityGroupRuleResponse, error) {
	c.AddResource(q.SGID)
	rules, err := parseRules(q.Rules)
	if err != nil {
		return nil, err
	}
	if err := remark(q.Remark); err != nil {
		return nil, err
	}
	for i := range rules {
		rules[i].Remark = q.Remark
	}
	if err := identity.Within(ctx, s.DB.Reader(), c, q.ProjectID); err != nil {
		return nil, err
	}
	err = s.changeRules(ctx, c, q.SGID, func(ctx context.Context, tx bun.Tx, g *Group) (groupChange, bool, error) {
		used, err := s.addRules(ctx, tx, g, rules)
		return groupChange{Group: g.ID, Rules: column(rules, func(r *ruleRow) string { return r.ID })}, used, err
	})
	if err != nil {
		return nil, err
	}
	return &createSecurityGroupRuleResponse{SGRuleID: rules[0].ID}, nil
}

// changeRules changes the rules of a group, and tells the hosts when something uses it.
func (s *Service) changeRules(ctx context.Context, c *action.Call, id string, change func(context.Context, bun.Tx, *Group) (groupChange, bool, error)) error {
	told := false
	err := s.operate(ctx, func(ctx context.Context, tx bun.Tx) (string, error) {
		g, err := groupByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return "", err
		}
		was, used, err := change(ctx, tx, g)
		if told = used; err != nil || !used {
			return "", err
		}
		operation, err := s.update.Accept(ctx, tx, workflow.Request{Action: c.Action, Company: g.Company, Region: g.Region, Resources: []string{g.ID},
			Locks: []workflow.Lock{exclusive(g.ID)}}, was)
		return operation, held(err, retcode.InvalidSGState)
	})
	if err != nil || told {
		return err
	}
	if used, err := inUse(ctx, s.DB.Reader(), id); err == nil && used {
		s.mend.Signal() // a port took the group while the rules were written, and may have missed them
	}
	return nil
}
