package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// engine measures one database: memory, calls, creates, then pages of a large table.
func (b *bench) engine(name string) error {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var url string
	if name == "postgres" {
		var err error
		if url, err = dbtest.DurablePostgres(); err != nil {
			return err
		}
	}
	s, err := b.start(dir, url, 50)
	if err != nil {
		return err
	}
	defer s.kill()
	print := func(what string, value float64, unit, target, note string) {
		b.print(figure{Name: what, Database: name, Value: value, Unit: unit, Target: target, Note: note})
	}
	mb, files, err := s.settledMemory()
	if err != nil {
		return err
	}
	print("idle memory", mb, "MB", "<= 60", fmt.Sprintf("resident, 50 simulated hosts; %.0f MB of it the program's file", files))

	// The demo tenant's quota and its subnet of 252 addresses must not be what is measured.
	if err := s.stop(); err != nil {
		return err
	}
	db := database.Options{URL: url, Dir: dir}
	if err := edit(db, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE quota_default SET value = 1000000000`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE subnet SET cidr = '10.0.0.0/16', capacity = 65532`)
		return err
	}); err != nil {
		return fmt.Errorf("raise quotas and widen the subnet: %w", err)
	}
	if s, err = b.start(dir, url, 50); err != nil {
		return err
	}
	defer s.kill()
	net, err := s.defaults()
	if err != nil {
		return err
	}

	// Creates one after the other: each client waits until its machine runs. How long until accepted?
	const creates, inTurn = 600, 160
	accepted, ids, err := s.create(8, inTurn, func(n int, a *answer) error { return s.waitRunning(a.VMID) }, net)
	if err != nil {
		return err
	}
	print("create accepted, p50", milliseconds(percentile(accepted, .5)), "ms", "<= 5", "8 clients, each waits until its machine runs")
	print("create accepted, p99", milliseconds(percentile(accepted, .99)), "ms", "<= 50", "")

	// A flood of creates: nobody waits. How many a second are done?
	start := time.Now()
	used, err := s.processorOf(func() error {
		if accepted, _, err = s.create(8, creates, nil, net); err != nil {
			return err
		}
		return s.settled(inTurn + creates)
	})
	if err != nil {
		return err
	}
	elapsed := time.Since(start)
	target := ">= 100"
	if name == "postgres" {
		target = ">= 200"
	}
	print("complete creates", creates/elapsed.Seconds(), "/s", target, "a flood of 600 by 8 clients, to the last one Running")
	print("processor time of a create", milliseconds(used)/creates, "ms", "", "the server's, until it runs")
	print("create accepted in the flood, p50", milliseconds(percentile(accepted, .5)), "ms", "", "")
	print("create accepted in the flood, p99", milliseconds(percentile(accepted, .99)), "ms", "", "")

	// One machine, described by 8 clients.
	var rate float64
	var took []time.Duration
	used, err = s.processorOf(func() (err error) {
		rate, took, err = s.describe(8, 5*time.Second, map[string]string{"VMIDs.0": ids[0]})
		return err
	})
	if err != nil {
		return err
	}
	print("describe one, 8 clients", rate, "/s", ">= 3000", "")
	print("describe one, p99", milliseconds(percentile(took, .99)), "ms", "<= 10", "")
	print("processor time of a describe", milliseconds(used)/float64(len(took)), "ms", "", "the server's")

	// A page of 100 among many: rows copied from the first machine's, never through the API.
	if err := s.stop(); err != nil {
		return err
	}
	if err := edit(db, func(ctx context.Context, tx bun.Tx) error {
		if err := multiply(ctx, tx, ids[0], b.vms); err != nil || name != "postgres" {
			return err
		}
		_, err := tx.ExecContext(ctx, "ANALYZE") // what autovacuum, which is off here, does after such a change
		return err
	}); err != nil {
		return fmt.Errorf("fill the table: %w", err)
	}
	if s, err = b.start(dir, url, 50); err != nil {
		return err
	}
	defer s.kill()
	used, err = s.processorOf(func() (err error) {
		_, took, err = s.describe(1, 5*time.Second, map[string]string{"Limit": "100", "Offset": "0"})
		return err
	})
	if err != nil {
		return err
	}
	print("page of 100, p50", milliseconds(percentile(took, .5)), "ms", "", fmt.Sprintf("among %d machines, 1 client", b.vms))
	print("page of 100, p99", milliseconds(percentile(took, .99)), "ms", "<= 10", "")
	print("processor time of a page of 100", milliseconds(used)/float64(len(took)), "ms", "", "the server's")
	_, took, err = s.describe(1, 5*time.Second, map[string]string{"Limit": "100", "Offset": fmt.Sprint(b.vms / 2)})
	if err != nil {
		return err
	}
	print("page of 100 in the middle, p99", milliseconds(percentile(took, .99)), "ms", "", fmt.Sprintf("Offset %d", b.vms/2))
	if mb, _, err = s.settledMemory(); err != nil {
		return err
	}
	print("memory with all machines", mb, "MB", "", fmt.Sprintf("resident, %d machines", b.vms))
	return s.stop()
}

// create makes n machines from some clients: how long each took to be accepted, sorted, and their ids. after runs
// in the client before its next create.
func (s *server) create(clients, n int, after func(int, *answer) error, net *defaults) (accepted []time.Duration, ids []string, err error) {
	var next atomic.Int64
	var mu sync.Mutex
	err = parallel(clients, func(int) error {
		for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
			at := time.Now()
			a, err := s.call("CreateVMInstance", net.create(fmt.Sprintf("bench-%d", i)))
			if err != nil {
				return err
			}
			took := time.Since(at)
			mu.Lock()
			accepted = append(accepted, took)
			ids = append(ids, a.VMID)
			mu.Unlock()
			if after != nil {
				if err := after(i, a); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return sortDurations(accepted), ids, err
}

// edit changes a database whose server is stopped.
func edit(o database.Options, f func(context.Context, bun.Tx) error) error {
	ctx := context.Background()
	db, err := database.Open(ctx, o)
	if err != nil {
		return err
	}
	err = db.Transact(ctx, f)
	if e := db.Close(); err == nil {
		err = e
	}
	return err
}

// multiply copies a machine, its port, its address and its disk n times. The copies are Stopped, hold nothing of a
// host, and their ports are in no network.
func multiply(ctx context.Context, tx bun.Tx, vm string, n int) error {
	copies := []struct {
		table, where string
		set          func(i int, row map[string]any)
	}{
		{"vm", "id", func(i int, r map[string]any) {
			r["id"], r["uuid"], r["port_id"] = number("vm", i), number("uuid", i), number("nic", i)
			r["name"], r["created_at"] = fmt.Sprintf("copy-%d", i), r["created_at"].(int64)+int64(i)
			r["state"], r["placed"] = "Stopped", false
		}},
		{"port", "owner_id", func(i int, r map[string]any) {
			r["id"], r["uuid"], r["owner_id"] = number("nic", i), number("uuid", i), number("vm", i)
			r["mac"], r["kept"] = fmt.Sprintf("02:ff:%02x:%02x:%02x:00", i>>16&255, i>>8&255, i&255), true
		}},
		{"disk", "vm_id", func(i int, r map[string]any) {
			r["id"], r["vm_id"] = number("disk", i), number("vm", i)
		}},
	}
	for _, c := range copies {
		row, err := read(ctx, tx, c.table, c.where, vm)
		if err != nil {
			return fmt.Errorf("%s: %w", c.table, err)
		}
		columns := slices.Sorted(maps.Keys(row))
		const batch = 200
		for i := 0; i < n; i += batch {
			var values []any
			for j := i; j < min(i+batch, n); j++ {
				copied := maps.Clone(row)
				c.set(j, copied)
				for _, column := range columns {
					values = append(values, copied[column])
				}
			}
			group := "(" + strings.TrimSuffix(strings.Repeat("?,", len(columns)), ",") + "),"
			query := "INSERT INTO " + c.table + " (" + strings.Join(columns, ",") + ") VALUES " +
				strings.TrimSuffix(strings.Repeat(group, min(batch, n-i)), ",")
			if _, err := tx.ExecContext(ctx, query, values...); err != nil {
				return fmt.Errorf("%s: %w", c.table, err)
			}
		}
	}
	_, err := tx.ExecContext(ctx, `UPDATE vm_count SET n = n + ? WHERE company = (SELECT company FROM vm WHERE id = ?)`, n, vm)
	return err
}

func number(prefix string, i int) string { return fmt.Sprintf("%s-%014d", prefix, i) }

// read one row as a map.
func read(ctx context.Context, tx bun.Tx, table, column, value string) (map[string]any, error) {
	var rows []map[string]any
	if err := tx.NewSelect().Table(table).Where("? = ?", bun.Ident(column), value).Limit(1).Scan(ctx, &rows); err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("no row with %s = %s", column, value)
	}
	for k, v := range rows[0] {
		if t, ok := v.([]byte); ok {
			rows[0][k] = strings.Clone(string(t))
		}
	}
	return rows[0], nil
}
