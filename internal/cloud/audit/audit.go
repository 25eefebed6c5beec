// Package audit records who called what and how it ended: one entry a mutating
// call, accepted or refused. An entry of an operation is written in the
// transaction that accepts it and updated in the one that ends it. It never
// holds parameters.
package audit

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Deps of the service.
type Deps struct {
	DB    *database.DB
	Clock *clock.Clock
}

// Service is the audit log; it fulfils action.Auditor.
type Service struct{ Deps }

// New prepares the service.
func New(d Deps) *Service { return &Service{Deps: d} }

// Record writes an entry for a call that no operation recorded. It is called by the wire after the handler.
func (s *Service) Record(ctx context.Context, c *action.Call, spec action.Spec, err error) {
	panic("not yet")
}

// Accepted is workflow.Options.OnAccept: the entry at acceptance.
func (s *Service) Accepted(ctx context.Context, tx bun.Tx, op *workflow.Operation) error {
	panic("not yet")
}

// Ended is workflow.Options.OnEnd: the final outcome.
func (s *Service) Ended(ctx context.Context, tx bun.Tx, op *workflow.Operation) error {
	panic("not yet")
}

// Actions of the log.
func (s *Service) Actions() []action.Action { panic("not yet") }
