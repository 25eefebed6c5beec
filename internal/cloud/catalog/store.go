package catalog

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"
)

type region struct {
	bun.BaseModel `bun:"table:region"`

	ID         string `bun:"id,pk"`
	Alias      string `bun:"alias"`
	Endpoint   string `bun:"endpoint"`
	City       string `bun:"city"`
	Address    string `bun:"address"`
	Remark     string `bun:"remark"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

type vmSpec struct {
	bun.BaseModel `bun:"table:vm_spec"`

	ID        string `bun:"id,pk"`
	Region    string `bun:"region"`
	VMType    string `bun:"vm_type"`
	CPUs      int    `bun:"cpus"`
	MemoryMiB int    `bun:"memory_mib"`
	IsDefault bool   `bun:"is_default"`
	CreatedAt int64  `bun:"created_at"`
	UpdatedAt int64  `bun:"updated_at"`
}

type rangeSpec struct {
	bun.BaseModel `bun:"table:range_spec"`

	Region     string `bun:"region,pk"`
	Kind       string `bun:"kind,pk"`
	Scope      string `bun:"scope,pk"`
	Minimum    int    `bun:"minimum"`
	Maximum    int    `bun:"maximum"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

type quotaDefault struct {
	bun.BaseModel `bun:"table:quota_default"`

	Region     string `bun:"region,pk"`
	Factor     Factor `bun:"factor,pk"`
	Value      int64  `bun:"value"`
	Allocation string `bun:"allocation"`
	UpdatedAt  int64  `bun:"updated_at"`
}

// Setting reads what the cloud remembers about itself; "" when unset.
func (s *Service) Setting(ctx context.Context, name string) (string, error) {
	var value string
	err := s.DB.Reader().NewSelect().TableExpr("setting").Column("value").Where("name = ?", name).Scan(ctx, &value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, err
}

// Installed is when the platform was installed.
func (s *Service) Installed(ctx context.Context) (time.Time, error) {
	var at int64
	err := s.DB.Reader().NewSelect().TableExpr("setting").Column("updated_at").Where("name = ?", systemSetting).Scan(ctx, &at)
	return time.UnixMicro(at), err
}

// AddSettings writes settings that must not be there yet, all or none.
func (s *Service) AddSettings(ctx context.Context, values map[string]string) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		for name, value := range values {
			if _, err := tx.NewRaw(`INSERT INTO setting (name, value, updated_at) VALUES (?, ?, ?)`, name, value, s.Clock.Micros()).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}
