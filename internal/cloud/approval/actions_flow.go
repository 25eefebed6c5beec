package approval

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) flowActions(spec func(name, summary string, mutates bool) action.Spec) []action.Action {
	return []action.Action{
		action.Define(spec("CreateWorkflow", "Define an approval flow.", true), s.createFlow),
		action.Define(spec("DescribeWorkflow", "List approval flows.", false), s.describeFlow),
		action.Define(spec("UpdateWorkflow", "Replace an approval flow.", true), s.updateFlow),
		action.Define(spec("DeleteWorkflow", "Delete an approval flow without open requests.", true), s.deleteFlow),
	}
}

// flowText is what a flow consists of.
type flowText struct {
	Name          string   `validate:"required,min=1,max=63" doc:"display name"`
	NodeInfos     []string `validate:"required" doc:"steps: name|MemberID|automatic (true, false)[|observer MemberID ...], 1-10; MemberID 0: any administrator"`
	ResourceTypes []string `validate:"required" doc:"what it is for: VM, Disk, VPC, EIP, LB, NIC; one flow for each type and tenant"`
	Remark        string   `validate:"min=0,max=100" doc:"free text"`
}

// check refuses a text that is none (4, 113, 20004) and returns the steps as a row keeps them.
func (s *Service) check(ctx context.Context, company int64, q *flowText) (string, error) {
	for name, value := range map[string]string{"Name": q.Name, "Remark": q.Remark} {
		if err := text(name, value, maxRemark); err != nil {
			return "", err
		}
	}
	known := slices.Sorted(maps.Values(resourceTypes))
	for _, t := range q.ResourceTypes {
		if !slices.Contains(known, t) {
			return "", retcode.InvalidParameter.Errorf("ResourceTypes: %s is none of %s", t, strings.Join(known, ", "))
		}
	}
	steps, err := s.parseSteps(ctx, company, q.NodeInfos)
	if err != nil {
		return "", err
	}
	nodes, err := json.Marshal(steps)
	return string(nodes), err
}

// assign makes a flow the one of its types: 113 where the tenant has another.
func assign(ctx context.Context, tx bun.Tx, f *flow, types []string) error {
	if _, err := tx.NewDelete().Model((*flowType)(nil)).Where("flow = ?", f.ID).Exec(ctx); err != nil {
		return err
	}
	slices.Sort(types)
	for _, t := range slices.Compact(types) {
		_, err := tx.NewInsert().Model(&flowType{Company: f.Company, ResourceType: t, Flow: f.ID}).Exec(ctx)
		if database.IsUnique(err) {
			return retcode.InvalidParameter.Errorf("ResourceTypes: there is a flow for %s already", t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type createFlowRequest struct {
	flowText
	action.Tenant
}

type createFlowResponse struct{ WorkflowID string }

func (s *Service) createFlow(ctx context.Context, c *action.Call, q *createFlowRequest) (*createFlowResponse, error) {
	nodes, err := s.check(ctx, c.Owner(), &q.flowText)
	if err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	f := &flow{ID: database.NewID("wf"), Company: c.Owner(), Name: q.Name, Remark: q.Remark, Platform: c.Caller.Admin, Nodes: nodes, CreatedAt: now, UpdatedAt: now}
	c.AddResource(f.ID)
	return &createFlowResponse{f.ID}, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(f).Exec(ctx); err != nil {
			return err
		}
		return assign(ctx, tx, f, q.ResourceTypes)
	})
}

type describeFlowRequest struct {
	WorkflowIDs []string `doc:"approval flows"`
	Keyword     string   `doc:"part of name or id"`
	Offset      int      `default:"0" validate:"min=0,max=1000000000" doc:"start of the page"`
	Limit       int      `default:"20" validate:"min=1,max=100" doc:"page length"`
	action.Tenant
}

type describeFlowResponse struct {
	Infos      []flowInfo
	TotalCount int
}

type flowInfo struct {
	WorkflowID    string
	Name          string
	Remark        string
	Source        string `doc:"Platform: made by an administrator; Tenant: an administrator has the last word"`
	NodeInfos     []string
	ResourceTypes []string
	CompanyID     int64
	CreateTime    int64
	UpdateTime    int64
}

func (s *Service) describeFlow(ctx context.Context, c *action.Call, q *describeFlowRequest) (*describeFlowResponse, error) {
	var rows []flow
	sel := s.DB.Reader().NewSelect().Model(&rows)
	if c.Company != 0 {
		sel = sel.Where("company = ?", c.Company)
	}
	if len(q.WorkflowIDs) > 0 {
		sel = sel.Where("id IN (?)", bun.In(q.WorkflowIDs))
	}
	sel = database.Matching(sel, q.Keyword, "name", "id")
	out := &describeFlowResponse{}
	n, err := sel.Count(ctx)
	if out.TotalCount = int(n); err != nil || q.Offset >= out.TotalCount {
		return out, err
	}
	if err := sel.OrderExpr("created_at DESC, id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).Scan(ctx); err != nil {
		return nil, err
	}
	ids := make([]string, len(rows))
	for i, f := range rows {
		ids[i] = f.ID
	}
	var types []flowType
	if err := s.DB.Reader().NewSelect().Model(&types).Where("flow IN (?)", bun.In(ids)).Order("resource_type").Scan(ctx); err != nil {
		return nil, err
	}
	for _, f := range rows {
		info := flowInfo{WorkflowID: f.ID, Name: f.Name, Remark: f.Remark, Source: "Tenant", CompanyID: f.Company, CreateTime: f.CreatedAt / 1e6, UpdateTime: f.UpdatedAt / 1e6}
		if f.Platform {
			info.Source = "Platform"
		}
		var steps []step
		if err := json.Unmarshal([]byte(f.Nodes), &steps); err != nil {
			return nil, err
		}
		for _, st := range steps {
			line := fmt.Sprintf("%s|%d|%t", st.Name, st.Handler, st.Automatic)
			for _, o := range st.Observers {
				line += fmt.Sprintf("|%d", o)
			}
			info.NodeInfos = append(info.NodeInfos, line)
		}
		for _, t := range types {
			if t.Flow == f.ID {
				info.ResourceTypes = append(info.ResourceTypes, t.ResourceType)
			}
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

type updateFlowRequest struct {
	WorkflowID string `validate:"required" doc:"approval flow"`
	flowText
	action.Tenant
}

// updateFlow replaces a flow for what is applied for from now on.
func (s *Service) updateFlow(ctx context.Context, c *action.Call, q *updateFlowRequest) (*action.Empty, error) {
	c.AddResource(q.WorkflowID)
	f, err := flowByID(ctx, s.DB.Reader(), c, q.WorkflowID)
	if err != nil {
		return nil, err
	}
	if f.Platform && !c.Caller.Admin {
		return nil, retcode.ActionForbidden.Errorf("%s was made by an administrator", f.ID)
	}
	nodes, err := s.check(ctx, f.Company, &q.flowText)
	if err != nil {
		return nil, err
	}
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewUpdate().Model(f).WherePK().Set("name = ?, remark = ?, nodes = ?, updated_at = ?", q.Name, q.Remark, nodes, s.Clock.Micros()).Exec(ctx); err != nil {
			return err
		}
		return assign(ctx, tx, f, q.ResourceTypes)
	})
}

type deleteFlowRequest struct {
	WorkflowID string `validate:"required" doc:"approval flow"`
	action.Tenant
}

func (s *Service) deleteFlow(ctx context.Context, c *action.Call, q *deleteFlowRequest) (*action.Empty, error) {
	c.AddResource(q.WorkflowID)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		f, err := flowByID(ctx, tx, c, q.WorkflowID)
		if err != nil {
			return err
		}
		if f.Platform && !c.Caller.Admin {
			return retcode.ActionForbidden.Errorf("%s was made by an administrator", f.ID)
		}
		open, err := tx.NewSelect().Model((*application)(nil)).Where("flow = ? AND state IN (?)", f.ID, bun.In([]string{Pending, Processing})).Count(ctx)
		if err != nil {
			return err
		}
		if open > 0 {
			return retcode.InvalidResourceState.Errorf("%d requests run through %s", open, f.ID)
		}
		if _, err := tx.NewDelete().Model((*flowType)(nil)).Where("flow = ?", f.ID).Exec(ctx); err != nil {
			return err
		}
		_, err = tx.NewDelete().Model(f).WherePK().Exec(ctx)
		return err
	})
}
