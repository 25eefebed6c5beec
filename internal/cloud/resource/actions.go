package resource

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Service is what clients do with resources of any kind.
type Service struct {
	DB        *database.DB
	Directory *Directory
}

// Actions on resources of any kind.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "ModifyNameAndRemark", Module: "common", Mutates: true, Summary: "Rename any resource and set its remark."}, s.rename),
	}
}

type renameRequest struct {
	ResourceID string  `validate:"required" doc:"id of any resource"`
	Name       string  `validate:"required" doc:"1-63 printable characters, unless the kind has rules of its own"`
	Remark     *string `doc:"0-100 characters; left as it is when not given"`
	action.Tenant
}

func (s *Service) rename(ctx context.Context, c *action.Call, q *renameRequest) (*action.Empty, error) {
	c.AddResource(q.ResourceID)
	k, err := s.Directory.Of(q.ResourceID)
	if err != nil {
		return nil, err
	}
	if k.Platform && !c.Caller.Admin {
		return nil, retcode.AdminOnly.Errorf("%s is the platform's", q.ResourceID)
	}
	return &action.Empty{}, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		item, err := s.Directory.Find(ctx, tx, c.Scope(), q.ResourceID)
		switch {
		case k.NotFound != 0 && retcode.Of(err) == k.NotFound:
			return retcode.ResourceNotFound.Errorf("%s", q.ResourceID) // whatever the kind's own code is
		case err != nil:
			return err
		case item.Binned:
			return retcode.ResourceDeleted.Errorf("%s is in the recycle bin", q.ResourceID)
		}
		return s.Directory.Rename(ctx, tx, c.Scope(), q.ResourceID, q.Name, q.Remark)
	})
}
