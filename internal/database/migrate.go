package database

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
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
		if err := d.backup(ctx, o, version); err != nil {
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

// BackupNote stands beside a backup as JSON.
type BackupNote struct {
	Schema         int64  // version of the schema in the backup
	Program        string // version of the program that made it
	KeyFingerprint string // of the key file that opens its secrets; the key itself is not in the backup
	Time           time.Time
}

// backup writes a consistent copy of the SQLite database to Dir/backup and keeps the newest 3.
func (d *DB) backup(ctx context.Context, o Options, schema int64) error {
	dir := filepath.Join(o.Dir, "backup")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	now := time.Now().UTC()
	name := filepath.Join(dir, fmt.Sprintf("lingyun-%s-v%d.db", now.Format("20060102T150405.000000Z"), schema))
	// VACUUM INTO accepts an empty file, which keeps the mode that we give it.
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := d.Writer().ExecContext(ctx, "VACUUM INTO ?", name); err != nil {
		_ = os.Remove(name)
		return err
	}
	program := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		program = info.Main.Version
	}
	note, err := json.Marshal(BackupNote{Schema: schema, Program: program, KeyFingerprint: o.KeyFingerprint, Time: now})
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".json", append(note, '\n'), 0o600); err != nil {
		return err
	}
	slog.InfoContext(ctx, "database saved before migration", "file", name)

	all, err := filepath.Glob(filepath.Join(dir, "lingyun-*.db"))
	if err != nil {
		return err
	}
	slices.Sort(all)
	for _, old := range all[:max(0, len(all)-keepBackups)] {
		if err := os.Remove(old); err != nil {
			return err
		}
		_ = os.Remove(old + ".json")
	}
	return nil
}
