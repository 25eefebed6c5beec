// Package backup copies the platform's database and configuration at set times, and keeps the copies for a while.
//
// It remembers nothing: what is due follows from the clock and from the names of the files that are there.
package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

// Settings say when copies are made, and how long they are kept.
type Settings struct {
	Every  string         // of the database: Off, Hourly, Daily, Weekly, Monthly
	Config string         // of the configuration: time of day, hh:mm
	Keep   time.Duration  // both
	Zone   *time.Location // that days and hours are of
}

// Deps of the service.
type Deps struct {
	DB    *database.DB
	Clock *clock.Clock
	// Dir is where the copies go. It is made (mode 0700) when it does not exist.
	Dir string
	// KeyFingerprint names the key file that opens the secrets in the database.
	KeyFingerprint string
	Settings       func(ctx context.Context) Settings
	// Config is the configuration as JSON.
	Config func(ctx context.Context) ([]byte, error)
	// Begun is when the platform was installed: the first copy is made in the period after that.
	Begun func(ctx context.Context) (time.Time, error)
}

// Service makes the copies.
type Service struct {
	Deps
	loop *clock.Loop
}

// New prepares the service.
func New(d Deps) *Service {
	s := &Service{Deps: d}
	s.loop = clock.NewLoop(d.Clock, "backups", time.Minute, s.tick)
	return s
}

// Run makes what falls due until ctx ends. Only the leading controller calls it.
func (s *Service) Run(ctx context.Context) { s.loop.Run(ctx) }

// Prefixes of the copies' names, before their time.
const (
	ofDatabase = "platform-"
	ofConfig   = "config-"
	stamp      = "20060102T150405Z"
)

// tick makes what is due and removes what is old.
func (s *Service) tick(ctx context.Context) error {
	set, now := s.Settings(ctx), s.Clock.Now()
	if set.Keep <= 0 { // the configuration was never read
		return nil
	}
	half, _ := filepath.Glob(filepath.Join(s.Dir, "*.part"))
	for _, file := range half { // what a crash left: nobody else writes here under these names
		if name := filepath.Base(file); strings.HasPrefix(name, ofDatabase) || strings.HasPrefix(name, ofConfig) {
			_ = os.Remove(file)
		}
	}
	begun, err := s.Begun(ctx)
	if err != nil {
		return err
	}
	var failed error
	if start, ok := period(now.In(set.Zone), set.Every); ok && s.newest(ofDatabase, begun).Before(start) {
		failed = errors.Join(failed, s.saveDatabase(ctx, now))
	}
	if start, ok := since(now.In(set.Zone), set.Config); ok && s.newest(ofConfig, begun).Before(start) {
		failed = errors.Join(failed, s.saveConfig(ctx, now))
	}
	return errors.Join(failed, s.prune(now.Add(-set.Keep)))
}

// period is when the hour, day, week or month of a time began; weeks begin on Monday.
func period(now time.Time, every string) (time.Time, bool) {
	y, m, d := now.Date()
	switch every {
	case "Hourly":
		return now.Add(-time.Duration(now.Minute())*time.Minute - time.Duration(now.Second())*time.Second - time.Duration(now.Nanosecond())), true
	case "Daily":
		return time.Date(y, m, d, 0, 0, 0, 0, now.Location()), true
	case "Weekly":
		return time.Date(y, m, d-(int(now.Weekday())+6)%7, 0, 0, 0, 0, now.Location()), true
	case "Monthly":
		return time.Date(y, m, 1, 0, 0, 0, 0, now.Location()), true
	}
	return time.Time{}, false
}

// since is when a time of day was last.
func since(now time.Time, at string) (time.Time, bool) {
	t, err := time.Parse("15:04", at)
	if err != nil {
		return time.Time{}, false
	}
	y, m, d := now.Date()
	last := time.Date(y, m, d, t.Hour(), t.Minute(), 0, 0, now.Location())
	if last.After(now) {
		last = time.Date(y, m, d-1, t.Hour(), t.Minute(), 0, 0, now.Location())
	}
	return last, true
}

func (s *Service) saveDatabase(ctx context.Context, now time.Time) error {
	file, err := s.DB.Backup(ctx, s.Dir, ofDatabase+now.UTC().Format(stamp), database.BackupNote{KeyFingerprint: s.KeyFingerprint, Time: now.UTC()})
	if err != nil {
		return fmt.Errorf("backup of the database: %w", err)
	}
	slog.DebugContext(ctx, "the database was saved", "file", file)
	return nil
}

func (s *Service) saveConfig(ctx context.Context, now time.Time) error {
	text, err := s.Config(ctx)
	if err == nil {
		err = os.MkdirAll(s.Dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("backup of the configuration: %w", err)
	}
	path := filepath.Join(s.Dir, ofConfig+now.UTC().Format(stamp)+".json")
	if err := os.WriteFile(path+".part", text, 0o600); err != nil {
		return fmt.Errorf("backup of the configuration: %w", err)
	}
	return os.Rename(path+".part", path)
}

// copies are the files of a kind with their times.
func (s *Service) copies(prefix string) map[string]time.Time {
	found := map[string]time.Time{}
	all, _ := filepath.Glob(filepath.Join(s.Dir, prefix+"*"))
	for _, file := range all {
		text, suffix, _ := strings.Cut(strings.TrimPrefix(filepath.Base(file), prefix), ".")
		if at, err := time.Parse(stamp, text); err == nil && (suffix == "db" || suffix == "dump" || prefix == ofConfig && suffix == "json") {
			found[file] = at
		}
	}
	return found
}

// newest is when the last copy of a kind was made; without any, the fallback.
func (s *Service) newest(prefix string, fallback time.Time) time.Time {
	last := fallback
	for _, at := range s.copies(prefix) {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// prune removes copies from before a time; the last one of a kind stays.
func (s *Service) prune(before time.Time) error {
	var failed error
	for _, prefix := range []string{ofDatabase, ofConfig} {
		last := s.newest(prefix, time.Time{})
		for file, at := range s.copies(prefix) {
			switch {
			case !at.Before(before) || at.Equal(last):
			case prefix == ofDatabase:
				failed = errors.Join(failed, database.RemoveBackup(file))
			default:
				failed = errors.Join(failed, os.Remove(file))
			}
		}
	}
	return failed
}
