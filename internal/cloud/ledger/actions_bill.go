package ledger

import "github.com/lingyun-cloud/lingyun/internal/action"
import "context"

func (s *Service) billActions() []action.Action { return nil }

func (s *Service) sweepExports(context.Context) error { return nil }
