package network

import (
	"context"
	"fmt"
)

// Verify recomputes what is counted from what is there and says where they differ: addresses of
// pools, owners of addresses, uses of gateways, and transient states that nothing works on.
func (s *Service) Verify(ctx context.Context) ([]string, error) {
	var problems []string
	for _, check := range []struct{ text, query string }{
		{"pool %s counts wrongly", `SELECT id FROM (SELECT id, used FROM subnet UNION ALL SELECT id, used FROM segment) AS p
			WHERE p.used <> (SELECT COUNT(*) FROM address AS a WHERE a.pool = p.id)`},
		{"pool %s handed out more than it has", `SELECT id FROM subnet WHERE used > capacity UNION ALL SELECT id FROM segment WHERE used > capacity`},
		{"address of port %s is held by nobody", `SELECT a.owner_id FROM address AS a WHERE a.owner_kind = 'port'
			AND NOT EXISTS (SELECT 1 FROM port AS p WHERE p.id = a.owner_id AND (p.subnet_id = a.pool OR p.segment_id = a.pool) AND p.num = a.num)`},
		{"port %s does not hold its address", `SELECT p.id FROM port AS p WHERE NOT EXISTS
			(SELECT 1 FROM address AS a WHERE a.pool IN (p.subnet_id, p.segment_id) AND a.num = p.num AND a.owner_kind = 'port' AND a.owner_id = p.id)`},
		{"address of EIP %s is held by nobody", `SELECT a.owner_id FROM address AS a WHERE a.owner_kind = 'eip'
			AND NOT EXISTS (SELECT 1 FROM eip AS e WHERE e.id = a.owner_id AND e.segment_id = a.pool AND e.num = a.num AND e.state <> 'Released')`},
		{"EIP %s does not hold its address", `SELECT e.id FROM eip AS e WHERE e.state <> 'Released' AND NOT EXISTS
			(SELECT 1 FROM address AS a WHERE a.pool = e.segment_id AND a.num = e.num AND a.owner_kind = 'eip' AND a.owner_id = e.id)`},
		{"address of the gateway of %s is held by nobody", `SELECT a.owner_id FROM address AS a WHERE a.owner_kind = 'gateway'
			AND NOT EXISTS (SELECT 1 FROM gateway AS g WHERE g.vpc_id = a.owner_id AND g.segment_id = a.pool AND g.num = a.num)`},
		{"gateway of %s counts wrongly", `SELECT g.vpc_id FROM gateway AS g WHERE g.uses <>
			(SELECT COUNT(*) FROM eip AS e WHERE e.vpc_id = g.vpc_id AND e.segment_id = g.segment_id)`},
		{"EIP %s is bound without a gateway", `SELECT e.id FROM eip AS e WHERE e.vpc_id <> '' AND NOT EXISTS
			(SELECT 1 FROM gateway AS g WHERE g.vpc_id = e.vpc_id AND g.segment_id = e.segment_id)`},
		{"EIP %s is bound to a port that is not there", `SELECT e.id FROM eip AS e WHERE e.port_id <> '' AND NOT EXISTS
			(SELECT 1 FROM port AS p WHERE p.id = e.port_id)`},
		{"port %s has several default egresses", `SELECT port_id FROM eip WHERE egress AND port_id <> '' GROUP BY port_id, ip_version HAVING COUNT(*) > 1`},
		{"EIP %s changes and nothing works on it", `SELECT e.id FROM eip AS e WHERE e.state IN ('Allocating', 'Bounding', 'Unbounding', 'BandwidthChanging', 'Releasing')
			AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id IN (e.id, e.bind_id))`},
		{"port %s has a security group that is not there", `SELECT p.id FROM port AS p WHERE EXISTS (SELECT 1 FROM security_group AS g WHERE g.id IN (p.inner_sg, p.outer_sg) AND g.ended_at <> 0)
			OR p.inner_sg NOT IN ('', 'closed') AND NOT EXISTS (SELECT 1 FROM security_group AS g WHERE g.id = p.inner_sg)
			OR p.outer_sg NOT IN ('', 'closed') AND NOT EXISTS (SELECT 1 FROM security_group AS g WHERE g.id = p.outer_sg)`},
		{"rule %s names a group that is not there", `SELECT r.id FROM sg_rule AS r WHERE (r.remote LIKE 'ipgroup-%' AND NOT EXISTS (SELECT 1 FROM entry_group AS g WHERE g.id = r.remote))
			OR (r.ports LIKE 'portgroup-%' AND NOT EXISTS (SELECT 1 FROM entry_group AS g WHERE g.id = r.ports))`},
		{"group %s of addresses or ports changes and nothing works on it", `SELECT g.id FROM entry_group AS g WHERE g.state <> 'available'
			AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = g.id)`},
		{"security group %s changes and nothing works on it", `SELECT g.id FROM security_group AS g WHERE g.state IN ('Creating', 'Updating')
			AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = g.id)`},
		{"VPC %s changes and nothing works on it", `SELECT v.id FROM vpc AS v WHERE v.state IN ('Allocating', 'Terminating')
			AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = v.id)`},
		{"subnet %s changes and nothing works on it", `SELECT n.id FROM subnet AS n WHERE n.state IN ('Allocating', 'Deleting')
			AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = n.id)`},
		{"route %s changes and nothing works on it", `SELECT r.id FROM route AS r WHERE r.state <> 'Available' AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = r.id)`},
		{"link %s changes and nothing works on it", `SELECT p.id FROM peering AS p WHERE p.state <> 'Available' AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = p.id)`},
		{"NIC %s changes and nothing works on it", `SELECT n.id FROM nic AS n WHERE n.state IN ('Bounding', 'Unbounding', 'Updating') AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = n.id)`},
		{"NIC %s and its port disagree", `SELECT n.id FROM nic AS n WHERE n.ended_at = 0 AND NOT EXISTS (SELECT 1 FROM port AS p WHERE p.id = n.id
			AND p.owner_id = CASE WHEN n.bind_id = '' THEN n.id ELSE n.bind_id END AND p.kept = (n.state IN ('Free', 'Unbounding') OR n.state = 'Updating' AND n.bind_id = ''))`},
		{"VIP %s changes and nothing works on it", `SELECT v.id FROM vip AS v WHERE v.state IN ('Allocating', 'Updating', 'Deleting') AND NOT EXISTS (SELECT 1 FROM operation_lock AS l WHERE l.resource_id = v.id)`},
		{"VIP %s is without its port", `SELECT v.id FROM vip AS v WHERE v.ended_at = 0 AND NOT EXISTS (SELECT 1 FROM port AS p WHERE p.id = v.id AND p.owner_id = v.id)`},
		{"carrier of VIP %s is not there", `SELECT c.vip_id FROM vip_carrier AS c WHERE NOT EXISTS (SELECT 1 FROM port AS p JOIN port AS v ON v.subnet_id = p.subnet_id AND v.segment_id = p.segment_id WHERE p.id = c.port_id AND v.id = c.vip_id)`},
		{"subnet %s is without its VPC", `SELECT n.id FROM subnet AS n WHERE n.ended_at = 0 AND NOT EXISTS (SELECT 1 FROM vpc AS v WHERE v.id = n.vpc_id AND v.ended_at = 0)`},
		{"subnet %s is gone and has addresses in use", `SELECT n.id FROM subnet AS n WHERE n.ended_at > 0 AND n.used > 0`},
		{"subnets of %s overlap", `SELECT a.vpc_id FROM subnet AS a JOIN subnet AS b ON a.vpc_id = b.vpc_id AND a.id < b.id AND a.cidr = b.cidr WHERE a.ended_at = 0 AND b.ended_at = 0`},
	} {
		var ids []string
		if err := s.DB.Reader().NewRaw(check.query).Scan(ctx, &ids); err != nil {
			return nil, fmt.Errorf(check.text+": %w", "...", err)
		}
		for _, id := range ids {
			problems = append(problems, fmt.Sprintf(check.text, id))
		}
	}
	return problems, nil
}
