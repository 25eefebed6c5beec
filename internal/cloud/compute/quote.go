package compute

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

// CheckImage refuses an image that no machine can be made of: 1000 unknown or not permitted, and by its state.
func (s *Service) CheckImage(ctx context.Context, scope action.Scope, id string) error {
	i, err := imageByID(ctx, s.DB.Reader(), scope, id)
	if err != nil {
		return err
	}
	return i.usable()
}
