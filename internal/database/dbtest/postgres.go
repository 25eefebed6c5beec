package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers "pgx"
)

// supervisor runs PostgreSQL until its standard input ends, then ends it at once and removes the directory.
const supervisor = `
dir=$1; shift
"$@" >"$dir/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -QUIT $server 2>/dev/null
wait $server
rm -rf "$dir"
`

// startPostgres starts a server. One that is not durable loses its last commits with the
// machine's power, which a test does not mind and a benchmark must not gain from.
func startPostgres(durable bool) (*postgres, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	who, err := credential()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lingyun-postgres-")
	if err != nil {
		return nil, err
	}
	if who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata="+data, "--username=postgres",
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	initdb.Dir = dir
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(dir))
	}

	// The pipe's other end closes when this process ends, by whatever death.
	stdin, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	args := []string{"-c", supervisor, "sh", dir, filepath.Join(bin, "postgres"), "-D", data,
		"-c", "listen_addresses=", "-c", "unix_socket_directories=" + dir, "-c", "dynamic_shared_memory_type=mmap",
		"-c", "max_connections=400"}
	if !durable {
		args = append(args, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
			"-c", "shared_buffers=32MB", "-c", "autovacuum=off", "-c", "deadlock_timeout=100ms")
	}
	cmd := exec.Command("/bin/sh", args...) //nolint:gosec // constant script, own paths
	cmd.Dir = dir
	cmd.Stdin = stdin
	// A session of its own: an interrupt at the terminal ends the tests, and they end the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, stdin.Close(), hold.Close(), os.RemoveAll(dir))
	}
	pipes = append(pipes, hold)
	if err := stdin.Close(); err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait() }()

	s := &postgres{dir: dir}
	s.admin, err = sql.Open("pgx", s.url("postgres"))
	if err != nil {
		return nil, err
	}
	for {
		err := s.admin.PingContext(ctx)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return nil, fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, bytes.TrimSpace(log))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// pipes keep the supervisors alive as long as the process lives.
var pipes []*os.File

// postgresBin finds the directory of initdb and postgres: the newest of the distribution, else in PATH.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		version := func(p string) int {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p))))
			return n
		}
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		return strings.TrimSpace(string(out)), nil
	}
	p, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("not installed (package postgresql)")
	}
	return filepath.Dir(p), nil
}

// credential is a user that PostgreSQL accepts: it refuses root. nil: the current one.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("no user postgres or nobody to run as")
}
