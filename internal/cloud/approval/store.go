package approval

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// States of an application.
const (
	Pending    = "Pending"    // a step waits for its handler
	Processing = "Processing" // approved, the request is being executed
	Success    = "Success"
	Failed     = "Failed"
	Rejected   = "Rejected"
)

// States of a step.
const (
	waiting  = "Waiting" // for the steps before it
	pending  = "Pending" // for its handler
	approved = "Approved"
	rejected = "Rejected"
)

type application struct {
	bun.BaseModel `bun:"table:application"`

	ID           string `bun:"id,pk"`
	Company      int64  `bun:"company"`
	Region       string `bun:"region"`
	Project      string `bun:"project"`
	Name         string `bun:"name"`
	Reason       string `bun:"reason"`
	ResourceType string `bun:"resource_type"`
	Action       string `bun:"action"`
	Applicant    int64  `bun:"applicant"`
	State        string `bun:"state"`
	Flow         string `bun:"flow"`
	Request      string `bun:"request"` // sealed
	Shown        string `bun:"shown"`   // without secrets
	Price        int64  `bun:"price"`   // 1/10,000 yuan
	Resources    string `bun:"resources"`
	ExecutedAt   int64  `bun:"executed_at"`
	Code         int    `bun:"code"`
	Message      string `bun:"message"` // detail, English
	CreatedAt    int64  `bun:"created_at"`
	UpdatedAt    int64  `bun:"updated_at"`
}

// sealed binds the sealed request to its application.
func (a *application) sealed() string { return "application/" + a.ID }

type node struct {
	bun.BaseModel `bun:"table:application_node"`

	ID          string `bun:"id,pk"`
	Application string `bun:"application"`
	Position    int    `bun:"position"`
	Name        string `bun:"name"`
	Handler     int64  `bun:"handler"` // 0: any administrator
	Automatic   bool   `bun:"automatic"`
	Observers   string `bun:"observers"`
	State       string `bun:"state"`
	HandledBy   int64  `bun:"handled_by"`
	Remark      string `bun:"remark"`
	CreatedAt   int64  `bun:"created_at"`
	UpdatedAt   int64  `bun:"updated_at"`
}

type applicationOperation struct {
	bun.BaseModel `bun:"table:application_operation"`

	Application string `bun:"application,pk"`
	Operation   string `bun:"operation,pk"`
}

type flow struct {
	bun.BaseModel `bun:"table:approval_flow"`

	ID        string `bun:"id,pk"`
	Company   int64  `bun:"company"`
	Name      string `bun:"name"`
	Remark    string `bun:"remark"`
	Platform  bool   `bun:"platform"`
	Nodes     string `bun:"nodes"`
	CreatedAt int64  `bun:"created_at"`
	UpdatedAt int64  `bun:"updated_at"`
}

type flowType struct {
	bun.BaseModel `bun:"table:approval_flow_type"`

	Company      int64  `bun:"company,pk"`
	ResourceType string `bun:"resource_type,pk"`
	Flow         string `bun:"flow"`
}

// visible narrows a query to the applications that a call may know of: those of its tenant and project groups, its own,
// and those that wait or waited for its account. An administrator of regions sees those of its regions.
func visible(q *bun.SelectQuery, c *action.Call) *bun.SelectQuery {
	if c.Caller.OfRegions() {
		q = q.Where("region IN (?)", bun.In(c.Caller.Regions))
	}
	if c.Company != 0 {
		q = q.Where("company = ?", c.Company)
	}
	if c.Projects != nil {
		q = q.Where("applicant = ?0 OR project IN (?1) OR EXISTS (SELECT 1 FROM application_node AS n WHERE n.application = application.id AND n.handler = ?0)",
			c.Caller.Account, bun.In(c.Projects))
	}
	return q
}

// byID reads an application that a call may know of: 200 when there is none.
func byID(ctx context.Context, idb bun.IDB, c *action.Call, id string) (*application, error) {
	a := new(application)
	err := visible(idb.NewSelect().Model(a).Where("id = ?", id), c).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = retcode.ResourceNotFound.Errorf("ApplicationID %s", id)
	}
	return a, err
}

// flowByID reads a flow of a tenant, or of any for an administrator who named none: 200 when there is none.
func flowByID(ctx context.Context, idb bun.IDB, c *action.Call, id string) (*flow, error) {
	f := new(flow)
	q := idb.NewSelect().Model(f).Where("id = ?", id)
	if c.Company != 0 {
		q = q.Where("company = ?", c.Company)
	}
	err := q.Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = retcode.ResourceNotFound.Errorf("WorkflowID %s", id)
	}
	return f, err
}

// nodesOf reads the steps of applications, in their order.
func nodesOf(ctx context.Context, idb bun.IDB, ids ...string) (map[string][]node, error) {
	out := map[string][]node{}
	if len(ids) == 0 {
		return out, nil
	}
	var rows []node
	if err := idb.NewSelect().Model(&rows).Where("application IN (?)", bun.In(ids)).Order("application", "position").Scan(ctx); err != nil {
		return nil, err
	}
	for _, n := range rows {
		out[n.Application] = append(out[n.Application], n)
	}
	return out, nil
}
