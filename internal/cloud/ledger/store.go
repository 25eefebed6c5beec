package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type account struct {
	bun.BaseModel `bun:"table:ledger_account"`

	Company int64  `bun:"company,pk"`
	Kind    string `bun:"kind,pk"`
	Balance int64  `bun:"balance"`
	Lowest  int64  `bun:"lowest"`
}

type transfer struct {
	bun.BaseModel `bun:"table:ledger_transfer"`

	ID        string `bun:"id,pk"`
	Company   int64  `bun:"company"`
	Source    string `bun:"source"`
	Target    string `bun:"target"`
	Amount    int64  `bun:"amount"`
	Order     string `bun:"order_id"`
	CreatedAt int64  `bun:"created_at"`
}

type trade struct {
	bun.BaseModel `bun:"table:ledger_trade"`

	ID        string `bun:"id,pk"`
	Company   int64  `bun:"company"`
	Region    string `bun:"region"`
	Project   string `bun:"project"`
	Type      string `bun:"type"`
	Order     string `bun:"order_id"`
	Amount    Money  `bun:"amount"`
	RealAfter Money  `bun:"real_after"`
	FreeAfter Money  `bun:"free_after"`
	Account   int64  `bun:"account"`
	CreatedAt int64  `bun:"created_at"`
}

// Types of trades.
const (
	tradeCharge       = "CHARGE"
	tradeRefund       = "REFUND"
	tradeRecharge     = "RECHARGE"
	tradeFreeRecharge = "FREE_RECHARGE"
	tradeWithdraw     = "WITHDRAW"
	tradeFreeWithdraw = "FREE_WITHDRAW"
)

type order struct {
	bun.BaseModel `bun:"table:ledger_order"`

	ID         string `bun:"id,pk"`
	Business   string `bun:"business"`
	Company    int64  `bun:"company"`
	Region     string `bun:"region"`
	Project    string `bun:"project"`
	Resource   string `bun:"resource_id"`
	Name       string `bun:"name"`
	Product    string `bun:"product"`
	Type       string `bun:"type"`
	ChargeType string `bun:"charge_type"`
	Quantity   int    `bun:"quantity"`
	Items      string `bun:"items"`
	PaidReal   Money  `bun:"paid_real"`
	PaidFree   Money  `bun:"paid_free"`
	State      string `bun:"state"`
	StartsAt   int64  `bun:"starts_at"`
	EndsAt     int64  `bun:"ends_at"`
	CreatedAt  int64  `bun:"created_at"`
}

// Types and states of orders.
const (
	Buy       = "BUY"
	Renewal   = "RENEW"
	Upgrade   = "UPGRADE"
	Downgrade = "DOWNGRADE"
	Refund    = "REFUND"

	held = "Held" // its amount is on the held accounts; nobody sees it
	done = "Done"
	void = "Void" // its amount went back
)

type charge struct {
	bun.BaseModel `bun:"table:charge"`

	Resource   string `bun:"resource_id,pk"`
	Kind       string `bun:"kind"`
	Company    int64  `bun:"company"`
	Region     string `bun:"region"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	State      string `bun:"state"`
	ChargeType string `bun:"charge_type"`
	Items      string `bun:"items"`
	NextItems  string `bun:"next_items"`
	AutoRenew  bool   `bun:"auto_renew"`
	StartsAt   int64  `bun:"starts_at"`
	EndsAt     int64  `bun:"ends_at"`
	Anchor     int64  `bun:"anchor"`
	Months     int    `bun:"months"`
	DueAt      int64  `bun:"due_at"`
	Enforced   bool   `bun:"enforced"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// States of a charged resource.
const (
	Held      = "Held" // bought, not settled
	Valid     = "Valid"
	Expired   = "Expired"   // the paid time ended; days of grace
	InRecycle = "InRecycle" // deleted, kept for the retention
	Destroyed = "Destroyed"
)

type recharge struct {
	bun.BaseModel `bun:"table:recharge"`

	ID        string  `bun:"id,pk"`
	Company   int64   `bun:"company"`
	Serial    *string `bun:"serial"`
	FromType  string  `bun:"from_type"`
	Type      string  `bun:"type"`
	Amount    Money   `bun:"amount"`
	Account   int64   `bun:"account"`
	Email     string  `bun:"email"`
	Trade     string  `bun:"trade_id"`
	CreatedAt int64   `bun:"created_at"`
}

type withdrawal struct {
	bun.BaseModel `bun:"table:withdrawal"`

	ID        string `bun:"id,pk"`
	Company   int64  `bun:"company"`
	Source    string `bun:"source"`
	Amount    Money  `bun:"amount"`
	Account   int64  `bun:"account"`
	Email     string `bun:"email"`
	Trade     string `bun:"trade_id"`
	CreatedAt int64  `bun:"created_at"`
}

// encode writes items for a row.
func encode(items []catalog.Item) string {
	if items == nil {
		items = []catalog.Item{}
	}
	text, err := json.Marshal(items)
	if err != nil {
		panic(err) // words and numbers always marshal
	}
	return string(text)
}

func decode(text string) ([]catalog.Item, error) {
	var items []catalog.Item
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &items); err != nil {
		return nil, fmt.Errorf("ledger: items %q: %w", text, err)
	}
	return items, nil
}

// charges reads those of resources that are charged, in the order of their ids. In a transaction they stay as they
// are until it ends.
func charges(ctx context.Context, idb bun.IDB, ids ...string) ([]charge, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	rest := "WHERE resource_id IN (?) ORDER BY resource_id"
	if _, ok := idb.(bun.Tx); ok && idb.Dialect().Name() == dialect.PG {
		rest += " FOR UPDATE" // SQLite has one writer
	}
	return database.Find[charge](ctx, idb, rest, ids)
}

// write changes charges from the generations that they were read in, and what their products show; all or an error.
func (s *Service) write(ctx context.Context, tx bun.Tx, rows []charge) error {
	if len(rows) == 0 {
		return nil
	}
	now := s.Clock.Micros()
	var values strings.Builder
	args := make([]any, 0, len(rows)*14)
	for i := range rows {
		c := &rows[i]
		if i > 0 {
			values.WriteString(", ")
		}
		values.WriteString("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
		args = append(args, c.Resource, c.Generation, c.State, c.ChargeType, c.Items, c.NextItems, c.AutoRenew, c.StartsAt, c.EndsAt, c.Anchor,
			int64(c.Months), c.DueAt, c.Enforced, now)
		c.Generation++
		c.UpdatedAt = now
	}
	r, err := tx.NewRaw(`WITH t (id, generation, state, charge_type, items, next_items, auto_renew, starts_at, ends_at, anchor, months, due_at, enforced, now) AS
		(VALUES `+values.String()+`)
		UPDATE charge SET state = t.state, charge_type = t.charge_type, items = t.items, next_items = t.next_items, auto_renew = t.auto_renew,
			starts_at = t.starts_at, ends_at = t.ends_at, anchor = t.anchor, months = t.months, due_at = t.due_at, enforced = t.enforced,
			updated_at = t.now, generation = t.generation + 1
		FROM t WHERE charge.resource_id = t.id AND charge.generation = t.generation`, args...).Exec(ctx)
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n != int64(len(rows)) {
		err = retcode.InvalidResourceState.Errorf("%s is being changed by another request", rows[0].Resource)
	}
	if err != nil {
		return err
	}
	return s.tell(ctx, tx, rows)
}

// tell writes the paid period into the products' rows.
func (s *Service) tell(ctx context.Context, tx bun.Tx, rows []charge) error {
	for name, k := range s.kinds {
		if k.Table == "" {
			continue
		}
		var values strings.Builder
		var args []any
		for _, c := range rows {
			if c.Kind != name {
				continue
			}
			if len(args) > 0 {
				values.WriteString(", ")
			}
			values.WriteString("(?, ?, ?, ?)")
			args = append(args, c.Resource, c.EndsAt, c.ChargeType, c.AutoRenew)
		}
		if len(args) == 0 {
			continue
		}
		also := ""
		if k.AutoRenew {
			also = ", auto_renew = t.auto_renew"
		}
		if _, err := tx.NewRaw(`WITH t (id, expire_at, charge_type, auto_renew) AS (VALUES `+values.String()+`)
			UPDATE ? AS product SET expire_at = t.expire_at, charge_type = t.charge_type`+also+`
			FROM t WHERE product.id = t.id`, append(args, bun.Ident(k.Table))...).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}
