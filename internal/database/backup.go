package database

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// BackupDir is where backups go, within Options.Dir.
const BackupDir = "backup"

// BackupNote stands beside a backup as JSON.
type BackupNote struct {
	Schema         int64  // version of the schema in the backup
	Program        string // version of the program that made it
	KeyFingerprint string // of the key file that opens its secrets; the key itself is not in the backup
	Time           time.Time
}

// Backup writes a consistent copy of the database to a new file in dir, mode 0600, and a note beside it, while others go
// on working: an SQLite database (.db), or what pg_dump makes in its custom format (.dump). It fills in the note's Schema
// and Program and returns the file.
func (d *DB) Backup(ctx context.Context, dir, name string, note BackupNote) (string, error) {
	if d.gate.down.Load() {
		return "", ErrUnavailable
	}
	p, err := d.provider()
	if err != nil {
		return "", err
	}
	if note.Schema, err = p.GetDBVersion(ctx); err != nil {
		return "", classify(err)
	}
	note.Program = "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		note.Program = info.Main.Version
	}
	text, err := json.Marshal(note)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file := filepath.Join(dir, name+d.suffix())
	part := file + ".part" // what a crash leaves is no backup
	defer os.Remove(part)
	// Both engines take an empty file, which keeps the mode that we give it.
	if err := os.WriteFile(part, nil, 0o600); err != nil {
		return "", err
	}
	if d.postgres {
		err = run(ctx, d.url, "pg_dump", "--format=custom", "--no-owner", "--file="+part)
	} else {
		err = vacuumInto(ctx, d.file, part)
	}
	if err != nil {
		return "", err
	}
	if err := syncFile(part); err != nil {
		return "", err
	}
	if err := os.WriteFile(file+noteSuffix, append(text, '\n'), 0o600); err != nil {
		return "", err
	}
	return file, os.Rename(part, file)
}

const noteSuffix = ".json"

// suffix of backups of this engine.
func (d *DB) suffix() string {
	if d.postgres {
		return ".dump"
	}
	return ".db"
}

// RemoveBackup removes a backup with its note.
func RemoveBackup(file string) error {
	_ = os.Remove(file + noteSuffix) // it may be lost
	return os.Remove(file)
}

// vacuumInto copies an SQLite database by a connection of its own: the writer goes on.
func vacuumInto(ctx context.Context, from, to string) error {
	c, err := sqlite.NewConnector(dsn(from, []string{"busy_timeout(5000)"}, "deferred"))
	if err != nil {
		return err
	}
	db := sql.OpenDB(c)
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", to)
	return errors.Join(classify(err), db.Close())
}

// run runs one of PostgreSQL's programs on a database. Its password is in the environment: others on the machine see
// arguments.
func run(ctx context.Context, address, program string, args ...string) error {
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("the database's address is no postgres:// URL")
	}
	environment := os.Environ()
	q := u.Query()
	password, ok := u.User.Password()
	if !ok {
		password = q.Get("password")
	}
	if password != "" {
		environment = append(environment, "PGPASSWORD="+password)
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q.Del("password")
	u.RawQuery = q.Encode()
	cmd := exec.CommandContext(ctx, program, append(args, "--no-password", "--dbname="+u.String())...)
	cmd.Env = environment
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out[:min(len(out), 2000)])))
	}
	return nil
}

// syncFile makes sure that a file is on the disk.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Restore puts a backup in place of the database, which nobody may have open, after it saved that beside the other
// backups of Options.Dir; saved is its file, empty when there was no database. It refuses a backup of another engine, of
// a newer program, that another key file belongs to, or that is damaged. Older schemas migrate at the next Open.
func Restore(ctx context.Context, o Options, file string) (saved string, err error) {
	text, err := os.ReadFile(file + noteSuffix)
	if err != nil {
		return "", fmt.Errorf("the note beside the backup: %w", err)
	}
	var note BackupNote
	if err := json.Unmarshal(text, &note); err != nil {
		return "", fmt.Errorf("the note beside the backup: %w", err)
	}
	if want := (&DB{postgres: o.URL != ""}).suffix(); filepath.Ext(file) != want {
		return "", fmt.Errorf("%s is a backup of the other engine: this one's end in %s", file, want)
	}
	if note.KeyFingerprint != o.KeyFingerprint {
		return "", fmt.Errorf("the backup's secrets are sealed with another key file (fingerprint %s, here is %s)", note.KeyFingerprint, o.KeyFingerprint)
	}
	old, err := OpenReadOnly(ctx, o)
	switch {
	case err == nil:
		p, err := old.provider()
		if err != nil {
			return "", errors.Join(err, old.Close())
		}
		if newest := p.ListSources()[len(p.ListSources())-1].Version; note.Schema > newest {
			return "", errors.Join(fmt.Errorf("the backup is of a newer program (schema %d, this one knows %d)", note.Schema, newest), old.Close())
		}
		saved, err = old.Backup(ctx, filepath.Join(o.Dir, BackupDir), "replaced-"+time.Now().UTC().Format("20060102T150405.000000Z"), BackupNote{KeyFingerprint: o.KeyFingerprint, Time: time.Now().UTC()})
		if err := errors.Join(err, old.Close()); err != nil {
			return saved, fmt.Errorf("saving the database as it is: %w", err)
		}
	case o.URL == "" && errors.Is(err, os.ErrNotExist):
	default:
		return "", err
	}
	if o.URL != "" {
		return saved, restorePostgres(ctx, o.URL, file)
	}
	return saved, restoreSQLite(ctx, o.Dir, file)
}

func restoreSQLite(ctx context.Context, dir, file string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, FileName)
	fresh := path + ".restored"
	defer os.Remove(fresh)
	if err := os.WriteFile(fresh, nil, 0o600); err != nil {
		return err
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if err := vacuumInto(ctx, absolute, fresh); err != nil {
		return fmt.Errorf("the backup is damaged: %w", err)
	}
	if err := outrunSQLite(ctx, fresh); err != nil {
		return err
	}
	if err := syncFile(fresh); err != nil {
		return err
	}
	// What the old file's log holds was saved, and must not meet the new file.
	for _, log := range []string{path + "-wal", path + "-shm"} {
		if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Rename(fresh, path)
}

// outrun is how far a restored database counts ahead. Hosts refuse calls whose epoch or generation is lower than what
// they have seen, and they saw what came after the backup: a million changes of one resource are never that many.
const outrun = 1 << 20

// outrunSQLite refuses a file that is damaged or no database of this program, and makes it count ahead.
func outrunSQLite(ctx context.Context, path string) error {
	c, err := sqlite.NewConnector(dsn(path, nil, "immediate"))
	if err != nil {
		return err
	}
	db := sql.OpenDB(c)
	return errors.Join(func() error {
		var verdict string
		if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
			return fmt.Errorf("the backup is damaged: %s %w", verdict, err)
		}
		rows, err := db.QueryContext(ctx, "SELECT m.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c ON c.name = 'generation' WHERE m.type = 'table'")
		if err != nil {
			return err
		}
		statements := []string{fmt.Sprintf("UPDATE lease SET epoch = epoch + %d, expires = 0", outrun)}
		for rows.Next() {
			var table string
			if err := rows.Scan(&table); err != nil {
				return errors.Join(err, rows.Close())
			}
			statements = append(statements, fmt.Sprintf(`UPDATE "%s" SET generation = generation + %d`, table, outrun))
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, q := range statements {
			if _, err := db.ExecContext(ctx, q); err != nil {
				return fmt.Errorf("the backup is no database of this program: %w", err)
			}
		}
		return nil
	}(), db.Close())
}

// outrunPostgres does the same.
var outrunPostgres = fmt.Sprintf(`UPDATE public.lease SET epoch = epoch + %[1]d, expires = 0;
DO $$ DECLARE t text; BEGIN
	FOR t IN SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'generation' LOOP
		EXECUTE format('UPDATE public.%%I SET generation = generation + %[1]d', t);
	END LOOP;
END $$`, outrun)

// restorePostgres replaces everything in one transaction: the script of the backup after the removal of what is there.
func restorePostgres(ctx context.Context, address, file string) error {
	script, err := os.CreateTemp("", "lingyun-restore-*.sql") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(script.Name())
	cmd := exec.CommandContext(ctx, "pg_restore", "--no-owner", "--file=-", file)
	var complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = script, &complaint
	err = cmd.Run()
	if err := errors.Join(err, script.Close()); err != nil {
		return fmt.Errorf("pg_restore: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return run(ctx, address, "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction",
		"--command=DROP SCHEMA IF EXISTS dbos CASCADE", "--command=DROP SCHEMA IF EXISTS public CASCADE", "--command=CREATE SCHEMA public",
		"--file="+script.Name(), "--command="+outrunPostgres)
}
