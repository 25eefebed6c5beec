package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
)

// ErrLed: another controller works on this database.
var ErrLed = errors.New("workflow: another controller leads on this database")

// errLost: the lease ran out, or somebody else has it.
var errLost = errors.New("workflow: the lease is lost")

const (
	leaseName = "controller"
	leaseTime = 10 * time.Second // a leader that is gone is replaced after this
	// leaseTimeAlone is that on SQLite, where only a process on the same machine can follow, which sees that a leader is
	// dead. It outlasts what a disk that others keep busy may hold a renewal up.
	leaseTimeAlone = 30 * time.Second
	renewEvery     = 3 * time.Second
	// leaseMargin is how long before the end a leader that cannot renew gives up, so that
	// its process has ended when somebody else may lead.
	leaseMargin = 2 * time.Second
)

// lease is the right to run workflows. The epoch grows with every holder.
type lease struct {
	db     *database.DB
	holder string // JSON of identity
	epoch  uint64
	until  time.Time // by this process's clocks; the database's row lasts a little longer
	// changed is closed when until is later than it was, and when the lease is lost.
	changed chan struct{}
}

// wake makes those look again who wait for the lease; with the engine's lock.
func (l *lease) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// lasts is how long a lease on a database lasts.
func lasts(db *database.DB) time.Duration {
	if db.Postgres() {
		return leaseTime
	}
	return leaseTimeAlone
}

// identity tells whose lease it is, and lets a successor on the same machine see that the holder is dead.
type identity struct {
	Name    string // for people
	Boot    string // kernel's boot id
	PIDs    string // PID namespace: PIDs mean something only within
	PID     int
	Started string // process start in clock ticks, against PIDs used again
}

func self(name string) identity {
	id := identity{Name: name, PID: os.Getpid()}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err == nil {
		id.Boot = strings.TrimSpace(string(boot))
	}
	id.PIDs, _ = os.Readlink("/proc/self/ns/pid")
	id.Started, _, _ = processStat(id.PID)
	return id
}

// dead tells whether the holder surely does not run: it was a process of this kernel
// and PID namespace, and there is none of that PID and start any more.
func (id identity) dead() bool {
	me := self("")
	if id.Boot == "" || id.PIDs == "" || id.Boot != me.Boot || id.PIDs != me.PIDs {
		return false
	}
	started, state, err := processStat(id.PID)
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	if err != nil {
		return false
	}
	return started != id.Started || state == "Z" || state == "X"
}

// processStat reads a process's start (field 22 of /proc/PID/stat) and state (field 3).
func processStat(pid int) (started, state string, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", "", err
	}
	// The second field is the command in parentheses and may hold anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return "", "", fmt.Errorf("unexpected /proc/%d/stat", pid)
	}
	return fields[19], fields[0], nil
}

// nowSQL is the database's clock in unix microseconds: the controllers' clocks may differ.
func nowSQL(db *database.DB) string {
	if db.Postgres() {
		return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
	}
	return "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
}

// Free tells whether no controller works on a database, or answers ErrLed.
func Free(ctx context.Context, db *database.DB) error {
	var rows []struct {
		Holder string `bun:"holder"`
		Left   int64  `bun:"left_us"`
	}
	if err := db.Reader().NewRaw("SELECT holder, expires - "+nowSQL(db)+" AS left_us FROM lease WHERE name = ?", leaseName).Scan(ctx, &rows); err != nil || len(rows) == 0 {
		return err
	}
	return held(rows[0].Holder, rows[0].Left)
}

// held answers ErrLed for a lease that runs for left microseconds more, unless its holder is dead.
func held(holder string, left int64) error {
	if left <= 0 {
		return nil
	}
	var other identity
	if err := json.Unmarshal([]byte(holder), &other); err != nil {
		return fmt.Errorf("lease held by %q: %w", holder, err)
	}
	if other.dead() {
		return nil
	}
	return fmt.Errorf("%w: %s, for %v more", ErrLed, other.Name, (time.Duration(left) * time.Microsecond).Round(100*time.Millisecond))
}

// takeLease takes the lease, or answers ErrLed.
func takeLease(ctx context.Context, db *database.DB, name string) (*lease, error) {
	me, err := json.Marshal(self(name))
	if err != nil {
		return nil, err
	}
	l := &lease{db: db, holder: string(me), changed: make(chan struct{})}
	start := time.Now()
	err = db.Transact(database.IgnoreDown(ctx), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO lease (name, holder, epoch, expires) VALUES (?, '', 0, 0) ON CONFLICT (name) DO NOTHING", leaseName)
		if err != nil {
			return err
		}
		var holder string
		var epoch uint64
		var left int64
		err = tx.NewRaw("SELECT holder, epoch, expires - "+nowSQL(db)+" FROM lease WHERE name = ?", leaseName).Scan(ctx, &holder, &epoch, &left)
		if err != nil {
			return err
		}
		if err := held(holder, left); err != nil {
			return err
		}
		l.epoch = epoch + 1
		res, err := tx.ExecContext(ctx, "UPDATE lease SET holder = ?, epoch = ?, expires = ? + "+nowSQL(db)+" WHERE name = ? AND epoch = ?",
			l.holder, l.epoch, lasts(db).Microseconds(), leaseName, epoch)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(fmt.Errorf("%w: it was faster", ErrLed), err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.until = start.Add(lasts(db))
	return l, nil
}

// renew extends the lease; errLost when it is somebody else's.
func (l *lease) renew(ctx context.Context) (until time.Time, err error) {
	start := time.Now()
	err = l.db.Transact(database.IgnoreDown(ctx), func(ctx context.Context, tx bun.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE lease SET expires = ? + "+nowSQL(l.db)+" WHERE name = ? AND epoch = ? AND holder = ?",
			lasts(l.db).Microseconds(), leaseName, l.epoch, l.holder)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err == nil && n == 0 {
			err = errLost
		}
		return err
	})
	return start.Add(lasts(l.db)), err
}

// release lets the next controller start at once.
func (l *lease) release(ctx context.Context) error {
	return l.db.Transact(database.IgnoreDown(ctx), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE lease SET holder = '', expires = 0 WHERE name = ? AND epoch = ? AND holder = ?",
			leaseName, l.epoch, l.holder)
		return err
	})
}

// passed tells whether t is over by the monotonic clock or by the wall clock (a
// suspended machine stops the one, a set clock moves the other).
func passed(t time.Time) bool {
	now := time.Now()
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}

// keepLease renews until ctx ends. lose is called once, with time to spare.
func (e *Engine) keepLease(ctx context.Context) {
	wait := renewEvery
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		renewCtx, cancel := context.WithTimeout(ctx, leaseMargin)
		until, err := e.lease.renew(renewCtx)
		cancel()
		switch {
		case err == nil:
			e.mu.Lock()
			e.lease.until = until
			e.lease.wake()
			e.mu.Unlock()
			wait = renewEvery
			continue
		case ctx.Err() != nil:
			return
		case errors.Is(err, errLost):
			e.lose(errLost)
			return
		}
		e.mu.Lock()
		end := e.lease.until.Add(-leaseMargin)
		e.mu.Unlock()
		if passed(end) {
			e.lose(fmt.Errorf("%w: it could not be renewed: %w", errLost, err))
			return
		}
		e.log.Warn("the lease could not be renewed", "error", err)
		wait = min(500*time.Millisecond, time.Until(end))
	}
}
