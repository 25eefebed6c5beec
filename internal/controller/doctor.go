package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

// checks recompute what is counted from what is there. Each selects what is wrong, one text a row.
var checks = []struct{ text, query string }{
	{"quota counts wrongly: %s", `
		WITH held AS (
			SELECT company, region, 'VM' AS factor, COUNT(*) AS n FROM vm WHERE state NOT IN ('Deleted', 'Terminating', 'Unterminated', 'Terminated', 'Failed') GROUP BY company, region
			UNION ALL SELECT company, region, 'CPU', SUM(cpus) FROM vm WHERE state NOT IN ('Deleted', 'Terminating', 'Unterminated', 'Terminated', 'Failed') GROUP BY company, region
			UNION ALL SELECT company, region, 'MEMORY', SUM(memory_mib) FROM vm WHERE state NOT IN ('Deleted', 'Terminating', 'Unterminated', 'Terminated', 'Failed') GROUP BY company, region
			UNION ALL SELECT d.company, d.region, 'DISK_SPACE', SUM(d.size_gb) FROM disk AS d LEFT JOIN vm AS v ON v.id = d.vm_id
				WHERE d.ended_at = 0 AND d.deleted_at = 0 AND (d.vm_id = '' OR v.state NOT IN ('Deleted', 'Terminating', 'Unterminated', 'Terminated', 'Failed')) GROUP BY d.company, d.region
			UNION ALL SELECT d.company, d.region, 'DISK', COUNT(*) FROM disk AS d LEFT JOIN vm AS v ON v.id = d.vm_id
				WHERE d.role = 'Data' AND d.ended_at = 0 AND d.deleted_at = 0 AND (d.vm_id = '' OR v.state NOT IN ('Deleted', 'Terminating', 'Unterminated', 'Terminated', 'Failed')) GROUP BY d.company, d.region
			UNION ALL SELECT company, region, 'EIP', COUNT(*) FROM eip WHERE deleted_at = 0 AND ended_at = 0 GROUP BY company, region
			UNION ALL SELECT company, region, 'VPC', COUNT(*) FROM vpc WHERE ended_at = 0 GROUP BY company, region
			UNION ALL SELECT company, region, 'SUBNET', COUNT(*) FROM subnet WHERE ended_at = 0 GROUP BY company, region
			UNION ALL SELECT company, region, 'NIC', COUNT(*) FROM nic WHERE ended_at = 0 GROUP BY company, region
			UNION ALL SELECT company, region, 'VIP', COUNT(*) FROM vip WHERE ended_at = 0 GROUP BY company, region
			UNION ALL SELECT company, region, 'SECURITY_GROUP', COUNT(*) FROM security_group WHERE ended_at = 0 GROUP BY company, region
			UNION ALL SELECT company, region, 'IMAGE', COUNT(*) FROM image WHERE type = 'Custom' AND ended_at = 0 AND deleted_at = 0 AND state <> 'Failed' GROUP BY company, region
		), sums AS (
			SELECT company, region, factor, SUM(n) AS n, SUM(used) AS used FROM (
				SELECT company, region, factor, n, 0 AS used FROM held
				UNION ALL SELECT company, region, factor, 0, used FROM quota WHERE factor IN
					('VM', 'CPU', 'MEMORY', 'DISK_SPACE', 'DISK', 'EIP', 'VPC', 'SUBNET', 'NIC', 'VIP', 'SECURITY_GROUP', 'IMAGE')
			) AS both_sides GROUP BY company, region, factor
		)
		SELECT 'tenant ' || CAST(company AS TEXT) || ' in ' || region || ' uses ' || CAST(n AS TEXT) || ' ' || factor || ', counted ' || CAST(used AS TEXT)
			FROM sums WHERE n <> used ORDER BY company, region, factor`},
	{"capacity counts wrongly: %s", `
		WITH sums AS (
			SELECT h.id, h.cpu_used, h.memory_used, h.disk_used, h.cpu_total, h.memory_total, h.disk_total,
				COALESCE((SELECT SUM(v.cpus) FROM vm AS v WHERE v.host_id = h.id AND v.placed), 0) AS cpus,
				COALESCE((SELECT SUM(v.memory_mib) FROM vm AS v WHERE v.host_id = h.id AND v.placed), 0) AS memory,
				COALESCE((SELECT SUM(d.size_gb) FROM disk AS d WHERE (d.host_id = h.id OR d.from_host = h.id) AND d.ended_at = 0
					AND NOT EXISTS (SELECT 1 FROM storage_set AS t WHERE t.id = d.set_id AND t.driver <> 'Local')), 0) AS disk
			FROM host AS h
		)
		SELECT 'host ' || id || ' holds ' || CAST(cpus AS TEXT) || ' CPUs, ' || CAST(memory AS TEXT) || ' MiB, ' || CAST(disk AS TEXT) || ' GB, counted '
				|| CAST(cpu_used AS TEXT) || ', ' || CAST(memory_used AS TEXT) || ', ' || CAST(disk_used AS TEXT)
			FROM sums WHERE cpus <> cpu_used OR memory <> memory_used OR disk <> disk_used ORDER BY id`},
	{"room of storage counts wrongly: %s", `
		WITH sums AS (
			SELECT t.id, t.used_gb, CASE WHEN t.driver = 'Local' THEN 0 ELSE COALESCE((SELECT SUM(d.size_gb) FROM disk AS d WHERE d.set_id = t.id AND d.ended_at = 0), 0) END AS held
			FROM storage_set AS t
		)
		SELECT id || ' holds ' || CAST(held AS TEXT) || ' GB, counted ' || CAST(used_gb AS TEXT) FROM sums WHERE held <> used_gb ORDER BY id`},
	{"machines of a list are counted wrongly: %s", `
		WITH sums AS (
			SELECT company, region, SUM(n) AS n, SUM(counted) AS counted FROM (
				SELECT company, region, 1 AS n, 0 AS counted FROM vm WHERE listed
				UNION ALL SELECT company, region, 0, n FROM vm_count
			) AS both_sides GROUP BY company, region
		)
		SELECT 'tenant ' || CAST(company AS TEXT) || ' in ' || region || ' has ' || CAST(n AS TEXT) || ', counted ' || CAST(counted AS TEXT)
			FROM sums WHERE n <> counted ORDER BY company, region`},
	{"machine %s changes and nothing works on it", `
		SELECT id || ' (' || state || ')' FROM vm WHERE state IN ('Initializing', 'Starting', 'Stopping', 'Restarting', 'Poweroffing', 'Resizing',
				'WaitReinstall', 'Reinstalling', 'Imaging', 'Deleting', 'Terminating')
			AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = vm.id) ORDER BY id`},
	{"disk %s is without its machine", `
		SELECT id FROM disk WHERE vm_id <> '' AND ended_at = 0 AND NOT EXISTS (SELECT 1 FROM vm WHERE vm.id = disk.vm_id AND vm.ended_at = 0 AND vm.state <> 'Failed') ORDER BY id`},
	{"%s is charged for and is not there", `
		SELECT resource_id FROM charge AS c WHERE state <> 'Destroyed' AND (
			kind = 'VM' AND NOT EXISTS (SELECT 1 FROM vm WHERE vm.id = c.resource_id AND vm.ended_at = 0 AND vm.state <> 'Failed')
			OR kind = 'Disk' AND NOT EXISTS (SELECT 1 FROM disk WHERE disk.id = c.resource_id AND disk.ended_at = 0)
			OR kind = 'EIP' AND NOT EXISTS (SELECT 1 FROM eip WHERE eip.id = c.resource_id AND eip.ended_at = 0)
			OR kind = 'NIC' AND NOT EXISTS (SELECT 1 FROM nic WHERE nic.id = c.resource_id AND nic.ended_at = 0)
			OR kind = 'VIP' AND NOT EXISTS (SELECT 1 FROM vip WHERE vip.id = c.resource_id AND vip.ended_at = 0)
		) ORDER BY resource_id`},
	{"%s is paid until another time than it shows", `
		SELECT resource_id FROM charge AS c JOIN (SELECT id, expire_at FROM vm UNION ALL SELECT id, expire_at FROM disk UNION ALL SELECT id, expire_at FROM eip
			UNION ALL SELECT id, expire_at FROM nic UNION ALL SELECT id, expire_at FROM vip) AS p
			ON p.id = c.resource_id WHERE c.ends_at <> p.expire_at ORDER BY resource_id`},
	{"disk %s changes and nothing works on it", `
		SELECT id || ' (' || state || ')' FROM disk WHERE vm_id = '' AND state IN ('Creating', 'Upgrading', 'BeingCloned', 'Snapshoting', 'Rollbacking', 'Deleting', 'Releasing')
			AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = disk.id)
		UNION SELECT id || ' (' || state || ')' FROM disk WHERE state IN ('Bounding', 'Unbounding', 'Upgrading', 'Snapshoting', 'Rollbacking')
			AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = disk.id)
		UNION SELECT id || ' (' || state || ')' FROM snapshot WHERE state IN ('Createing', 'RollBacking', 'Deleting')
			AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = snapshot.id)`},
	{"snapshot %s is without its disk", `
		SELECT id FROM snapshot WHERE ended_at = 0 AND NOT EXISTS (SELECT 1 FROM disk WHERE disk.id = snapshot.disk_id AND disk.ended_at = 0) ORDER BY id`},
	{"shared disk %s is on a machine that is not there", `
		SELECT disk_id FROM disk_share AS h WHERE NOT EXISTS (SELECT 1 FROM vm WHERE vm.id = h.vm_id AND vm.ended_at = 0) ORDER BY disk_id`},
	{"port %s is without its machine", `
		SELECT id FROM port WHERE owner_kind = 'VM' AND NOT EXISTS (SELECT 1 FROM vm WHERE vm.ended_at = 0 AND (vm.port_id = port.id
			OR vm.id = port.owner_id AND EXISTS (SELECT 1 FROM nic WHERE nic.id = port.id AND nic.bind_id = vm.id))) ORDER BY id`},
	{"lock on %s is held by no open operation", `
		SELECT l.resource_id FROM operation_lock AS l WHERE NOT EXISTS (SELECT 1 FROM operation AS o WHERE o.id = l.operation_id AND o.ended_at = 0) ORDER BY l.resource_id`},
	{"lock on %s counts wrongly", `
		SELECT h.resource_id FROM resource_lock AS h
			WHERE h.shared <> (SELECT COUNT(*) FROM operation_lock AS l WHERE l.resource_id = h.resource_id AND NOT l.exclusive)
			OR (CASE WHEN h.exclusive = '' THEN 0 ELSE 1 END) <> (SELECT COUNT(*) FROM operation_lock AS l WHERE l.resource_id = h.resource_id AND l.exclusive AND l.operation_id = h.exclusive)
		UNION SELECT l.resource_id FROM operation_lock AS l WHERE NOT EXISTS (SELECT 1 FROM resource_lock AS h WHERE h.resource_id = l.resource_id)`},
	{"the audit knows no outcome of the ended operation %s", `
		SELECT o.id FROM operation AS o JOIN audit_entry AS a ON a.operation = o.id WHERE o.ended_at <> 0 AND NOT a.ended ORDER BY o.id`},
}

// doctorAgain is how long after a finding the doctor looks again: a running cloud changes between two queries.
const doctorAgain = 500 * time.Millisecond

// Doctor recomputes quota, capacity, addresses, locks and money from the resources, changes nothing, and tells
// what differs, one line each. What a second look does not confirm was a change under way.
func Doctor(ctx context.Context, db *database.DB) ([]string, error) {
	found, err := examine(ctx, db)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(doctorAgain):
	}
	again, err := examine(ctx, db)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(again, func(p string) bool { return !slices.Contains(found, p) }), nil
}

func examine(ctx context.Context, db *database.DB) ([]string, error) {
	var problems []string
	for _, check := range checks {
		var rows []string
		if err := db.Reader().NewRaw(check.query).Scan(ctx, &rows); err != nil {
			return nil, fmt.Errorf(check.text+": %w", "...", err)
		}
		for _, r := range rows {
			problems = append(problems, fmt.Sprintf(check.text, r))
		}
	}
	money, err := ledger.Verify(ctx, db.Reader())
	if err != nil {
		return nil, err
	}
	problems = append(problems, money...)
	net := &network.Service{Deps: network.Deps{DB: db}}
	more, err := net.Verify(ctx)
	return append(problems, more...), err
}
