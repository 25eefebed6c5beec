package catalog

import (
	"context"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// deletes tells whether an action takes a resource of a region away.
func deletes(spec action.Spec) bool {
	return spec.Mutates && !spec.Admin && spec.Region != action.RegionNone && begins(spec.Name, "Delete", "Release", "Terminate")
}

func begins(name string, words ...string) bool {
	for _, w := range words {
		if strings.HasPrefix(name, w) {
			return true
		}
	}
	return false
}

// Permit is the catalogue's part of the permission check, for every product alike: DeletionProtected (209) for tenants'
// deletions while the configuration forbids them, RegionNotActivated (400) and RegionActivationExpired (404) for what makes or enlarges
// something in a region without a licence, and 400 for what its licence does not include.
func (s *Service) Permit(ctx context.Context, c *action.Call, spec action.Spec) error {
	if grows(spec) && c.Region != "" {
		if err := s.activated(ctx, c.Region); err != nil {
			return err
		}
	}
	if f := featureOfAction(spec); f != "" && c.Region != "" {
		if err := s.included(ctx, c.Region, f); err != nil {
			return err
		}
	}
	if deletes(spec) && !c.Caller.Admin && !s.Config.DeletionAllowed(ctx, c.Region) {
		return retcode.DeletionProtected.Errorf("%s is switched off in the platform's configuration", spec.Name)
	}
	return nil
}
