package database

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

const keepBackups = 3

// provider knows the migrations.
func (d *DB) provider() (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	dialect := goose.DialectSQLite3
	// Rooms number their migrations in ranges of their own, so a new one may sort before an applied one.
	options := []goose.ProviderOption{goose.WithAllowOutofOrder(true), goose.WithDisableGlobalRegistry(true)}
	if d.Postgres() {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, d.Writer(), files, options...)
	if err != nil {
		return nil, fmt.Errorf("database: migrations: %w", err)
	}
	return p, nil
}

// migrate brings the schema to this program's version, after a backup when it changes something.
func (d *DB) migrate(ctx context.Context, o Options) error {
	p, err := d.provider()
	if err != nil {
		return err
	}
	pending, err := p.HasPending(ctx)
	if err != nil {
		return fmt.Errorf("database: migrations: %w", classify(err))
	}
	if !pending {
		return nil
	}
	version, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("database: migrations: %w", classify(err))
	}
	if version > 0 && !d.Postgres() {
		if err := d.backupBefore(ctx, o, version); err != nil {
			return fmt.Errorf("database: backup before migration: %w", err)
		}
	}
	results, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("database: migrate: %w", err)
	}
	slog.DebugContext(ctx, "database migrated", "from", version, "steps", len(results))
	return nil
}

// backupBefore copies the SQLite database to Dir/backup before a migration and keeps the newest 3 of such copies.
func (d *DB) backupBefore(ctx context.Context, o Options, schema int64) error {
	dir, now := filepath.Join(o.Dir, BackupDir), time.Now().UTC()
	name := fmt.Sprintf("lingyun-%s-v%d", now.Format("20060102T150405.000000Z"), schema)
	file, err := d.Backup(ctx, dir, name, BackupNote{KeyFingerprint: o.KeyFingerprint, Time: now})
	if err != nil {
		return err
	}
	slog.InfoContext(ctx, "database saved before migration", "file", file)
	all, err := filepath.Glob(filepath.Join(dir, "lingyun-*.db"))
	if err != nil {
		return err
	}
	slices.Sort(all)
	for _, old := range all[:max(0, len(all)-keepBackups)] {
		if err := RemoveBackup(old); err != nil {
			return err
		}
	}
	return nil
}
