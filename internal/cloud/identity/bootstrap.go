package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Bootstrap makes the platform administrator and the demo tenant when they do not exist, and then
// writes dir/admin.json and dir/demo.json (mode 0600). Removed files are not written again.
func (s *Service) Bootstrap(ctx context.Context, dir, endpoint, region string) error {
	for _, b := range []struct {
		file string
		NewTenant
	}{
		{"admin.json", NewTenant{ID: AdminCompany, Name: "admin", Email: "admin@lingyun.local", Region: region, Admin: true}},
		{"demo.json", NewTenant{ID: AdminCompany + 1, Name: "demo", Email: "demo@lingyun.local", Region: region}},
	} {
		if found, err := s.tenants(ctx, []int64{b.ID}); err != nil {
			return err
		} else if len(found) > 0 {
			continue
		}
		c, err := s.newCredentials(b.NewTenant)
		if err != nil {
			return err
		}
		c.Endpoint = endpoint
		// The file comes first: a crash before the commit makes new ones, after it nothing is lost.
		if err := writeFile(filepath.Join(dir, b.file), c); err != nil {
			return fmt.Errorf("writing the credentials: %w", err)
		}
		if err := s.create(ctx, b.NewTenant, c); err != nil {
			return fmt.Errorf("creating tenant %s: %w", b.Name, err)
		}
	}
	return nil
}

// writeFile replaces path by v as JSON, readable by its owner alone.
func writeFile(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".credentials-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
