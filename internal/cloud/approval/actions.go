package approval

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Actions of the approval flow.
func (s *Service) Actions() []action.Action {
	spec := func(name, summary string, mutates bool) action.Spec {
		return action.Spec{Name: name, Module: "approval", Region: action.RegionNone, Extension: true, Mutates: mutates, Summary: summary}
	}
	return append([]action.Action{
		action.Define(action.Spec{Name: "UpdateCompanyAudit", Module: "tenant", Region: action.RegionNone, Admin: true, System: true, Extension: true, Mutates: true,
			Summary: "Switch approval and automatic approval of a tenant."}, s.updateCompanyAudit),
		action.Define(spec("DescribeApplication", "List approval requests, or return one with all nodes.", false), s.describeApplication),
		action.Define(spec("DescribeApplicationNode", "List the steps of a request.", false), s.describeApplicationNode),
		action.Define(spec("UpdateApplicationNode", "Approve or reject a step.", true), s.updateApplicationNode),
	}, s.flowActions(spec)...)
}

type updateCompanyAuditRequest struct {
	CompanyID int64 `validate:"required" doc:"tenant"`
	Audit     *bool `validate:"required" doc:"what it asks for waits for an approval"`
	AutoAudit *bool `validate:"required" doc:"which gives itself"`
}

func (s *Service) updateCompanyAudit(ctx context.Context, c *action.Call, q *updateCompanyAuditRequest) (*action.Empty, error) {
	c.Company = q.CompanyID
	return nil, s.Identity.SetApproval(ctx, q.CompanyID, *q.Audit, *q.AutoAudit)
}

type describeApplicationRequest struct {
	ApplicationID string   `doc:"one request; then the other filters are ignored"`
	ResourceType  string   `doc:"VM, Disk, VPC, EIP, LB, NIC"`
	States        []string `doc:"Pending, Processing, Success, Failed, Rejected"`
	Todo          bool     `doc:"those that wait for the caller"`
	Keyword       string   `doc:"part of name or id"`
	MemberID      int64    `doc:"those of an applicant"`
	CompanyID     int64    `doc:"tenant to act on; honoured for administrators only"`
	Offset        int      `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit         int      `default:"20" validate:"min=1,max=100" doc:"page length"`
}

type describeApplicationResponse struct {
	Infos      []applicationInfo
	TotalCount int
}

type applicationInfo struct {
	ApplicationID  string
	Name           string
	Reason         string
	ResourceType   string
	APIName        string
	State          string
	CurrentNode    string `doc:"name of the step that waits"`
	CurrentHandler string `doc:"e-mail of whom it waits for; empty: any administrator"`
	ApplicantID    int64
	ApplicantEmail string
	Request        string  `doc:"JSON, without secrets"`
	Price          float64 `doc:"yuan, when it was sent; 0: unknown"`
	ResourceIDs    []string
	RetCode        int
	Message        string
	CompanyID      int64
	Region         string
	CreateTime     int64
	UpdateTime     int64
	Nodes          []nodeInfo `doc:"with ApplicationID"`
}

type nodeInfo struct {
	NodeID       string
	Name         string
	HandlerID    int64
	HandlerEmail string
	NodeState    string
	Remark       string
	UpdateTime   int64
}

func (s *Service) describeApplication(ctx context.Context, c *action.Call, q *describeApplicationRequest) (*describeApplicationResponse, error) {
	for _, st := range q.States {
		if !slices.Contains([]string{Pending, Processing, Success, Failed, Rejected}, st) {
			return nil, retcode.InvalidParameter.Errorf("States: %s is no state of an application", st)
		}
	}
	if err := s.actFor(ctx, c, q.CompanyID); err != nil {
		return nil, err
	}
	var rows []application
	sel := visible(s.DB.Reader().NewSelect().Model(&rows), c)
	if q.ApplicationID != "" {
		sel = sel.Where("id = ?", q.ApplicationID)
	} else {
		sel = filter(sel, c, q)
	}
	out := &describeApplicationResponse{}
	n, err := sel.Count(ctx)
	if err != nil {
		return nil, err
	}
	if q.ApplicationID != "" && n == 0 {
		return nil, retcode.ResourceNotFound.Errorf("ApplicationID %s", q.ApplicationID)
	}
	out.TotalCount = int(n)
	if q.Offset >= out.TotalCount {
		return out, nil
	}
	if err := sel.OrderExpr("created_at DESC, id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).Scan(ctx); err != nil {
		return nil, err
	}
	ids, members := make([]string, len(rows)), []int64{}
	for i, a := range rows {
		ids[i], members = a.ID, append(members, a.Applicant)
	}
	nodes, err := nodesOf(ctx, s.DB.Reader(), ids...)
	if err != nil {
		return nil, err
	}
	for _, of := range nodes {
		for _, n := range of {
			members = append(members, n.Handler, n.HandledBy)
		}
	}
	emails, err := s.Identity.Members(ctx, members)
	if err != nil {
		return nil, err
	}
	for _, a := range rows {
		info := applicationInfo{ApplicationID: a.ID, Name: a.Name, Reason: a.Reason, ResourceType: a.ResourceType, APIName: a.Action, State: a.State,
			ApplicantID: a.Applicant, ApplicantEmail: emails[a.Applicant], Request: a.Shown, Price: float64(a.Price) / 10_000, RetCode: a.Code,
			CompanyID: a.Company, Region: a.Region, CreateTime: a.CreatedAt / 1e6, UpdateTime: a.UpdatedAt / 1e6}
		if a.Code != 0 {
			if info.Message = retcode.Code(a.Code).Message(c.Language); a.Message != "" {
				info.Message += ": " + a.Message
			}
		}
		if err := json.Unmarshal([]byte(a.Resources), &info.ResourceIDs); err != nil {
			return nil, err
		}
		for _, n := range nodes[a.ID] {
			if n.State == pending && a.State == Pending {
				info.CurrentNode, info.CurrentHandler = n.Name, emails[n.Handler]
			}
			if q.ApplicationID != "" {
				info.Nodes = append(info.Nodes, describe(n, emails))
			}
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

// filter adds what a list of applications is narrowed by.
func filter(sel *bun.SelectQuery, c *action.Call, q *describeApplicationRequest) *bun.SelectQuery {
	if q.ResourceType != "" {
		sel = sel.Where("resource_type = ?", q.ResourceType)
	}
	if len(q.States) > 0 {
		sel = sel.Where("state IN (?)", bun.In(q.States))
	}
	if q.MemberID != 0 {
		sel = sel.Where("applicant = ?", q.MemberID)
	}
	if q.Todo {
		handler := "n.handler = ?"
		if c.Caller.Admin {
			handler = "(n.handler = 0 OR n.handler = ?)"
		}
		sel = sel.Where("state = 'Pending' AND EXISTS (SELECT 1 FROM application_node AS n WHERE n.application = application.id AND n.state = 'Pending' AND "+handler+")",
			c.Caller.Account)
	}
	sel = database.Matching(sel, q.Keyword, "name", "id")
	return sel
}

func describe(n node, emails map[int64]string) nodeInfo {
	info := nodeInfo{NodeID: n.ID, Name: n.Name, HandlerID: n.Handler, NodeState: n.State, Remark: n.Remark, UpdateTime: n.UpdatedAt / 1e6}
	if n.HandledBy != 0 {
		info.HandlerID = n.HandledBy
	}
	info.HandlerEmail = emails[info.HandlerID]
	return info
}

// actFor makes a call of an administrator one on a tenant that it names; 111 for another tenant than the caller's.
func (s *Service) actFor(ctx context.Context, c *action.Call, company int64) error {
	switch {
	case company == 0 || company == c.Caller.Company && !c.Caller.Admin:
		return nil
	case !c.Caller.Admin:
		return retcode.AdminOnly.Errorf("CompanyID %d is another tenant", company)
	}
	if err := s.Identity.CheckTenant(ctx, company); err != nil {
		return err
	}
	c.Company = company
	return nil
}

type describeNodeRequest struct {
	ApplicationID string `validate:"required" doc:"approval request"`
	action.Tenant
}

type describeNodeResponse struct {
	Infos      []stepInfo
	TotalCount int
}

type stepInfo struct {
	nodeInfo
	ApplicationID string
	CreateTime    int64
}

func (s *Service) describeApplicationNode(ctx context.Context, c *action.Call, q *describeNodeRequest) (*describeNodeResponse, error) {
	a, err := byID(ctx, s.DB.Reader(), c, q.ApplicationID)
	if err != nil {
		return nil, err
	}
	nodes, err := nodesOf(ctx, s.DB.Reader(), a.ID)
	if err != nil {
		return nil, err
	}
	var members []int64
	for _, n := range nodes[a.ID] {
		members = append(members, n.Handler, n.HandledBy)
	}
	emails, err := s.Identity.Members(ctx, members)
	if err != nil {
		return nil, err
	}
	out := &describeNodeResponse{TotalCount: len(nodes[a.ID])}
	for _, n := range nodes[a.ID] {
		out.Infos = append(out.Infos, stepInfo{describe(n, emails), a.ID, n.CreatedAt / 1e6})
	}
	return out, nil
}

type updateNodeRequest struct {
	ApplicationID string `validate:"required" doc:"approval request"`
	NodeID        string `validate:"required" doc:"its step"`
	NodeState     string `validate:"required,oneof=Approved Rejected" doc:"the decision"`
	Remark        string `validate:"min=0,max=100" doc:"for the applicant"`
	action.Tenant
}

func (s *Service) updateApplicationNode(ctx context.Context, c *action.Call, q *updateNodeRequest) (*action.Empty, error) {
	c.AddResource(q.ApplicationID)
	if err := text("Remark", q.Remark, maxRemark); err != nil {
		return nil, err
	}
	var operation string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		operation, err = s.decide(ctx, tx, c, q)
		return err
	})
	if err == nil && operation != "" {
		s.Engine.Kick(operation)
	}
	return nil, err
}
