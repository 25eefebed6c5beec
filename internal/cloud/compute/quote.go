package compute

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

// CheckImage refuses an image that no machine can be made of: 1000 unknown or not permitted, and by its state. It tells
// whether the system disks of its machines are encrypted.
func (s *Service) CheckImage(ctx context.Context, scope action.Scope, id string) (encrypted bool, err error) {
	i, err := imageByID(ctx, s.DB.Reader(), scope, id)
	if err != nil {
		return false, err
	}
	return i.Secret != "", i.usable()
}
