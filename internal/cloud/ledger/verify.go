package ledger

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"
)

// laws are what must hold of the ledger at any moment. Each selects what breaks it, one text a row.
var laws = []struct{ text, query string }{
	{"balance differs from its transfers: %s", `
		WITH moved AS (
			SELECT company, target AS kind, SUM(amount) AS n FROM ledger_transfer GROUP BY company, target
			UNION ALL SELECT company, source, -SUM(amount) FROM ledger_transfer GROUP BY company, source
		), sums AS (SELECT company, kind, SUM(n) AS n FROM moved GROUP BY company, kind)
		SELECT 'tenant ' || CAST(a.company AS TEXT) || ' ' || a.kind || ' ' || CAST(a.balance AS TEXT) || ', transfers give ' || CAST(COALESCE(s.n, 0) AS TEXT)
			FROM ledger_account AS a LEFT JOIN sums AS s ON s.company = a.company AND s.kind = a.kind WHERE a.balance <> COALESCE(s.n, 0)
		UNION ALL SELECT 'tenant ' || CAST(s.company AS TEXT) || ' has no account ' || s.kind FROM sums AS s
			WHERE NOT EXISTS (SELECT 1 FROM ledger_account AS a WHERE a.company = s.company AND a.kind = s.kind)`},
	{"balance is below its limit: %s", `
		SELECT 'tenant ' || CAST(company AS TEXT) || ' ' || kind || ' ' || CAST(balance AS TEXT) FROM ledger_account WHERE balance < lowest`},
	{"the balances do not sum to zero: %s", `
		SELECT 'tenant ' || CAST(company AS TEXT) || ' ' || CAST(SUM(balance) AS TEXT) FROM ledger_account GROUP BY company HAVING SUM(balance) <> 0`},
	{"order is paid otherwise than it says: %s", `
		WITH moved AS (
			SELECT order_id,
				SUM(CASE WHEN target = 'REVENUE' THEN amount WHEN source = 'REFUNDS' THEN -amount ELSE 0 END) AS net,
				SUM(CASE WHEN target IN ('HELD_REAL', 'HELD_FREE') THEN amount WHEN source IN ('HELD_REAL', 'HELD_FREE') THEN -amount ELSE 0 END) AS held
			FROM ledger_transfer GROUP BY order_id
		)
		SELECT o.id || ' of ' || o.resource_id || ' (' || o.state || ')' FROM ledger_order AS o LEFT JOIN moved AS m ON m.order_id = o.id
			WHERE COALESCE(m.net, 0) <> CASE WHEN o.state IN ('Held', 'Void') THEN 0 ELSE o.paid_real + o.paid_free END
			OR COALESCE(m.held, 0) <> CASE WHEN o.state = 'Held' THEN o.paid_real + o.paid_free ELSE 0 END`},
	{"order and transaction differ: %s", `
		WITH shown AS (SELECT order_id, SUM(amount) AS n FROM ledger_trade GROUP BY order_id)
		SELECT o.id || ' of ' || o.resource_id FROM ledger_order AS o LEFT JOIN shown AS t ON t.order_id = o.id
			WHERE COALESCE(t.n, 0) <> CASE WHEN o.state IN ('Held', 'Void') THEN 0 ELSE -o.paid_real - o.paid_free END`},
	{"time is charged twice: %s", `
		SELECT id || ' of ' || resource_id FROM (
			SELECT id, resource_id, starts_at, LAG(ends_at) OVER (PARTITION BY resource_id ORDER BY starts_at, ends_at) AS before
			FROM ledger_order WHERE state = 'Done' AND type IN ('BUY', 'RENEW')
		) AS terms WHERE starts_at < before`},
	{"charge of %s is held by no order", `
		SELECT resource_id FROM charge AS c WHERE state = 'Held' AND NOT EXISTS
			(SELECT 1 FROM ledger_order AS o WHERE o.resource_id = c.resource_id AND o.state = 'Held' AND o.type = 'BUY')`},
	{"order holds money for nothing: %s", `
		SELECT o.id || ' of ' || o.resource_id FROM ledger_order AS o WHERE o.state = 'Held' AND NOT EXISTS
			(SELECT 1 FROM charge AS c WHERE c.resource_id = o.resource_id AND (o.type = 'BUY' AND c.state = 'Held' OR o.type <> 'BUY' AND c.state IN ('Valid', 'Expired')))`},
	{"charge of %s is not looked at when it ends", `
		SELECT resource_id FROM charge WHERE state = 'Valid' AND due_at <> ends_at OR state = 'Expired' AND due_at < ends_at OR state IN ('Held', 'InRecycle', 'Destroyed') AND due_at <> 0`},
}

// Verify recomputes the ledger, changes nothing, and tells what breaks its laws, one line each.
func Verify(ctx context.Context, idb bun.IDB) ([]string, error) {
	var problems []string
	for _, law := range laws {
		var rows []string
		if err := idb.NewRaw(law.query).Scan(ctx, &rows); err != nil {
			return nil, fmt.Errorf(law.text+": %w", "...", err)
		}
		for _, r := range rows {
			problems = append(problems, fmt.Sprintf(law.text, r))
		}
	}
	return problems, nil
}
