package compute_test

import (
	"context"
	"net"

	"github.com/uptrace/bun"
)

// bigger writes a copy of an image that needs a system disk of 41 GB.
func bigger(id string) func(context.Context, bun.Tx) error {
	return func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewRaw("UPDATE quota SET used = used + 1 WHERE factor = 'IMAGE' AND company = (SELECT company FROM image WHERE id = ?)", id).Exec(ctx); err != nil {
			return err
		}
		_, err := tx.NewRaw(`INSERT INTO image (id, region, company, project, name, description, type, state, reason, format, digest, size_bytes, virtual_bytes,
			arch, os_type, os_name, os_distribution, login_user, uefi, cloud_init, qga, hotplug, created_at, updated_at, generation, ended_at)
			SELECT 'image-bigger00000000', region, company, project, name, description, type, state, reason, format, digest, size_bytes, 44023414784,
			arch, os_type, os_name, os_distribution, login_user, uefi, cloud_init, qga, hotplug, created_at, updated_at, generation, 0 FROM image WHERE id = ?`, id).Exec(ctx)
		return err
	}
}

func newListener(address string) (net.Listener, error) { return net.Listen("tcp", address) }
