// Package approval holds back what tenants ask for until somebody approves it:
// the request becomes an application, which runs through its steps and is then
// executed, once, in the name of who sent it.
//
// Held back is every action whose request takes ApplicationName, for tenants
// that have approval switched on. What an administrator does for a tenant is
// approved by that.
package approval

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/secret"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Deps of the service.
type Deps struct {
	DB       *database.DB
	Clock    *clock.Clock
	Engine   *workflow.Engine
	Secret   *secret.Key
	Identity *identity.Service
}

// Service is the approval flow.
type Service struct {
	Deps
	run     *workflow.Workflow[execution]
	handler *action.Handler
}

// New prepares the service and registers its workflow; call it before the engine's start.
func New(d Deps) *Service {
	s := &Service{Deps: d}
	s.register()
	return s
}

// Use gives the dispatcher that executes applications. Call it before the engine's start.
func (s *Service) Use(h *action.Handler) { s.handler = h }

// resourceTypes are the kinds of things that can be applied for, by the module of their actions.
var resourceTypes = map[string]string{"vm": "VM", "disk": "Disk", "vpc": "VPC", "eip": "EIP", "lb": "LB", "nic": "NIC", "vip": "VIP",
	"natgw": "NATGW", "ipsecvpn": "VPNGW", "snapshot": "Snapshot", "image": "Image"}

// Limits of an application's own texts, in characters.
const (
	maxName   = 63
	maxRemark = 100
)

// text refuses what people shall read and cannot (113).
func text(name, value string, most int) error {
	if !utf8.ValidString(value) || utf8.RuneCountInString(value) > most || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return retcode.InvalidParameter.Errorf("%s has at most %d printable characters", name, most)
	}
	return nil
}

// Approve is action.Options.Approve. It runs the request of a tenant that needs no approval, runs and records it where
// the approval gives itself, and keeps it otherwise: 108 without a title.
func (s *Service) Approve(ctx context.Context, c *action.Call, spec action.Spec, r action.Request, run func(context.Context) ([]byte, error)) ([]byte, error) {
	if c.Caller.Admin {
		return run(ctx)
	}
	t, err := s.Identity.Tenant(ctx, c.Owner())
	if err != nil {
		return nil, err
	}
	if !t.Approval {
		return run(ctx)
	}
	name, reason := strings.TrimSpace(r.Get("ApplicationName")), r.Get("ApplicationReason")
	switch {
	case name == "" && !t.AutoApprove:
		return nil, retcode.MissingApplicationName.Errorf("send ApplicationName: what your tenant asks for waits for an approval")
	case name == "":
		name = spec.Name
	}
	if err := text("ApplicationName", name, maxName); err != nil {
		return nil, err
	}
	if err := text("ApplicationReason", reason, maxRemark); err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	a := &application{ID: database.NewID("app"), Company: c.Owner(), Region: c.Region, Project: r.Get("ProjectID"), Name: name, Reason: reason,
		ResourceType: resourceTypes[spec.Module], Action: spec.Name, Applicant: c.Caller.Account, State: Pending, Shown: string(r.Text(true)),
		Resources: "[]", CreatedAt: now, UpdatedAt: now}
	a.Request = s.Secret.Seal(r.Text(false), a.sealed())
	if a.Project == "" && c.Projects == nil {
		a.Project = identity.DefaultProject(a.Company)
	}
	a.Price = s.price(ctx, c, r)
	if t.AutoApprove {
		return s.approveItself(ctx, c, a, run)
	}
	var operation string
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		operation = ""
		nodes, err := s.plan(ctx, tx, a)
		if err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(a).Exec(ctx); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(&nodes).Exec(ctx); err != nil {
			return err
		}
		operation, err = s.advance(ctx, tx, a, nodes)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(a.ID)
	if operation != "" {
		s.Engine.Kick(operation)
	}
	return json.Marshal(struct{ ApplicationID string }{a.ID})
}

// quotes are the actions that say what an action would cost, from the same parameters.
var quotes = map[string]string{"CreateVMInstance": "GetVMInstancePrice", "ResizeVMConfig": "GetPaymentOfPremium", "CreateDisk": "GetDiskPrice",
	"UpgradeDisk": "GetUpgradeDiskPrice", "AllocateEIP": "GetEIPPrice", "ModifyEIPBandwidth": "GetEIPDiffPrice", "CreateLB": "GetLBPrice",
	"UpdateNICIPBandwidth": "GetUpdateNICPrice"}

// price is what a request would cost now, in 1/10,000 yuan, for people to decide by; 0 when nobody can say: it is
// charged as it is when the request is executed.
func (s *Service) price(ctx context.Context, c *action.Call, r action.Request) int64 {
	quote := quotes[c.Action]
	if quote == "" {
		return 0
	}
	call := &action.Call{RequestID: c.RequestID, Caller: c.Caller, ClientIP: c.ClientIP, Language: c.Language, Received: c.Received}
	body, err := s.handler.Execute(ctx, call, r.As(quote))
	if err != nil {
		return 0
	}
	var answer struct {
		Price float64
		Infos []struct {
			ChargeType string
			Price      float64
		}
	}
	if json.Unmarshal(body, &answer) != nil {
		return 0
	}
	yuan := answer.Price
	for i, info := range answer.Infos {
		if i == 0 || info.ChargeType == r.Get("ChargeType") {
			yuan = info.Price
		}
	}
	return int64(math.Round(yuan * 10_000))
}

// approveItself runs a request whose approval gives itself. The application is written in the request's own
// transaction: there is one exactly when there is what it asked for.
func (s *Service) approveItself(ctx context.Context, c *action.Call, a *application, run func(context.Context) ([]byte, error)) ([]byte, error) {
	c.Application = a.ID
	var operation string
	body, err := run(database.BeforeCommit(ctx, func(ctx context.Context, tx bun.Tx) error {
		now := s.Clock.Micros()
		a.State, a.ExecutedAt, a.UpdatedAt, a.Resources = Processing, now, now, list(c.Resources)
		r, err := tx.NewInsert().Model(a).On("CONFLICT (id) DO NOTHING").Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 { // a later transaction of the same request
			return err
		}
		nodes, err := s.plan(ctx, tx, a)
		if err != nil {
			return err
		}
		for i := range nodes {
			nodes[i].State, nodes[i].Automatic, nodes[i].UpdatedAt = approved, true, now
		}
		if _, err := tx.NewInsert().Model(&nodes).Exec(ctx); err != nil {
			return err
		}
		operation, err = s.accept(ctx, tx, a)
		return err
	}))
	if err != nil {
		return nil, err
	}
	if operation != "" {
		s.Engine.Kick(operation)
	}
	if err := s.note(ctx, a.ID, c.Resources); err != nil { // what was asked for is done
		slog.WarnContext(ctx, "resources of an application not noted", "application", a.ID, "error", err)
	}
	return body, nil
}

// list is a list of ids as a row keeps it.
func list(ids []string) string {
	if ids == nil {
		ids = []string{}
	}
	b, _ := json.Marshal(ids) // strings always marshal
	return string(b)
}

// note writes which resources came of an application, once its request has been executed.
func (s *Service) note(ctx context.Context, id string, resources []string) error {
	if len(resources) == 0 {
		return nil
	}
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*application)(nil)).Set("resources = ?", list(resources)).Where("id = ?", id).Exec(ctx)
		return err
	})
}

// Accepted is called for every operation that is accepted, in its transaction: those of an application are remembered.
func (s *Service) Accepted(ctx context.Context, tx bun.Tx, op *workflow.Operation) error {
	c := action.CallFrom(ctx)
	if c == nil || c.Application == "" || op.Workflow == workflowName {
		return nil
	}
	_, err := tx.NewInsert().Model(&applicationOperation{Application: c.Application, Operation: op.ID}).Exec(ctx)
	return err
}
