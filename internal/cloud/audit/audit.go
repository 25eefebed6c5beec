// Package audit records who called what and how it ended: one entry a mutating
// call, accepted or refused. An entry of an operation is written in the
// transaction that accepts it and updated in the one that ends it. It never
// holds parameters.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/download"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Deps of the service.
type Deps struct {
	DB    *database.DB
	Clock *clock.Clock
	// Retention is how long entries are kept.
	Retention func(ctx context.Context) time.Duration
	// Prefix is that of the ids of a kind of resource: 207 when there is none of the name.
	Prefix func(kind string) (string, error)
	// Downloads serves exports.
	Downloads *download.Service
}

// Service is the audit log; it fulfils action.Auditor.
type Service struct {
	Deps
	modules map[string]string // by action
}

// New prepares the service.
func New(d Deps) *Service {
	s := &Service{Deps: d}
	d.Downloads.Register(exportKind, s.export)
	return s
}

// Know tells the log which module each action belongs to. Call it once, before the first entry.
func (s *Service) Know(actions []action.Action) {
	s.modules = make(map[string]string, len(actions))
	for _, a := range actions {
		s.modules[a.Name] = a.Module
	}
}

// Record writes an entry for a call that no operation recorded. It is called by the wire after the
// handler, with the handler's error. An entry that cannot be written is logged: the call is over.
func (s *Service) Record(ctx context.Context, c *action.Call, spec action.Spec, err error) {
	now := s.Clock.Micros()
	e := &entry{Region: c.Region, Company: c.Owner(), Action: spec.Name, Module: spec.Module, Resources: marshal(c.Resources),
		Code: int(retcode.Of(err)), Detail: detail(err), Ended: true, CreatedAt: now, UpdatedAt: now}
	e.of(c)
	write := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		e.ID = database.Serial()
		e.clean()
		_, err := tx.NewInsert().Model(e).Exec(ctx)
		return err
	})
	if write != nil {
		slog.ErrorContext(ctx, "audit entry lost", "request", c.RequestID, "action", spec.Name, "account", c.Caller.Account, "code", e.Code, "error", write)
	}
}

// Accepted is workflow.Options.OnAccept: the entry at acceptance, in the transaction that accepts.
func (s *Service) Accepted(ctx context.Context, tx bun.Tx, op *workflow.Operation) error {
	e := &entry{ID: database.Serial(), Region: op.Region, Company: op.Company, Action: op.Action, Module: s.modules[op.Action],
		Resources: op.Resources, Operation: op.ID, CreatedAt: op.CreatedAt, UpdatedAt: op.CreatedAt}
	if c := action.CallFrom(ctx); c != nil {
		e.of(c)
		c.Audited = true
	}
	_, err := tx.NewInsert().Model(e).Exec(ctx)
	return err
}

// Ended is workflow.Options.OnEnd: the final outcome, in the transaction that ends the operation.
func (s *Service) Ended(ctx context.Context, tx bun.Tx, op *workflow.Operation) error {
	_, err := tx.NewUpdate().Model((*entry)(nil)).
		Set("code = ?, detail = ?, resources = ?, ended = ?, updated_at = ?", op.Code, op.Message, op.Resources, true, s.Clock.Micros()).
		Where("operation = ?", op.ID).Exec(ctx)
	return err
}

// Sweep removes what is older than the retention. It is run by a reconciler.
func (s *Service) Sweep(ctx context.Context) error {
	before := s.Clock.Now().Add(-s.Retention(ctx)).UnixMicro()
	for {
		var removed int64
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			r, err := tx.NewRaw(`DELETE FROM audit_entry WHERE id IN (SELECT id FROM audit_entry WHERE created_at < ? LIMIT 1000)`, before).Exec(ctx)
			if err != nil {
				return err
			}
			removed, err = r.RowsAffected()
			return err
		})
		if err != nil || removed == 0 {
			return err
		}
	}
}

type entry struct {
	bun.BaseModel `bun:"table:audit_entry"`

	ID            int64  `bun:"id,pk"`
	Region        string `bun:"region"`
	Company       int64  `bun:"company"`
	Account       int64  `bun:"account"`
	Email         string `bun:"email"`
	Administrator bool   `bun:"administrator"`
	Action        string `bun:"action"`
	Module        string `bun:"module"`
	Resources     string `bun:"resources"`
	Operation     string `bun:"operation"`
	Request       string `bun:"request"`
	ClientIP      string `bun:"client_ip"`
	Code          int    `bun:"code"`
	Detail        string `bun:"detail"`
	Ended         bool   `bun:"ended"`
	CreatedAt     int64  `bun:"created_at"`
	UpdatedAt     int64  `bun:"updated_at"`
}

// of says who called.
func (e *entry) of(c *action.Call) {
	e.Account, e.Email, e.Administrator, e.Request = c.Caller.Account, c.Caller.Email, c.Caller.Admin, c.RequestID
	if c.ClientIP.IsValid() {
		e.ClientIP = c.ClientIP.String()
	}
}

// clean takes out what databases do not take as text: a refused call may bring anything.
func (e *entry) clean() {
	for _, text := range []*string{&e.Region, &e.Resources, &e.Detail, &e.Email} {
		*text = strings.ReplaceAll(strings.ToValidUTF8(*text, "\ufffd"), "\x00", "\ufffd")
	}
}

// detail of a failure as callers may read it: that of a failure of our own speaks of our insides.
func detail(err error) string {
	var e *retcode.Error
	if !errors.As(err, &e) || e.Code.Internal() {
		return ""
	}
	return e.Detail()
}

func marshal(ids []string) string {
	if ids == nil {
		ids = []string{}
	}
	text, _ := json.Marshal(ids) // strings always marshal
	return string(text)
}
