package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
)

type tenant struct {
	bun.BaseModel `bun:"table:tenant"`

	ID         int64  `bun:"id,pk"`
	Name       string `bun:"name"`
	State      string `bun:"state"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

type account struct {
	bun.BaseModel `bun:"table:account"`

	ID           int64  `bun:"id,pk"`
	Company      int64  `bun:"company"`
	Name         string `bun:"name"`
	Email        string `bun:"email"`
	Kind         string `bun:"kind"`
	State        string `bun:"state"`
	PasswordHash string `bun:"password_hash"`
	CreatedAt    int64  `bun:"created_at"`
	UpdatedAt    int64  `bun:"updated_at"`
	Generation   int64  `bun:"generation"`
}

type keyPair struct {
	bun.BaseModel `bun:"table:key_pair"`

	PublicKey  string `bun:"public_key,pk"`
	Account    int64  `bun:"account"`
	PrivateKey string `bun:"private_key"`
	Disabled   bool   `bun:"disabled"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// keyContext binds a sealed private key to its public one.
func keyContext(publicKey string) string { return "key_pair/" + publicKey }

// readKey reads a key with its account and tenant; nil when unknown.
func (s *Service) readKey(ctx context.Context, publicKey string) (*action.Credential, error) {
	var row struct {
		Account     int64  `bun:"account"`
		Email       string `bun:"email"`
		Company     int64  `bun:"company"`
		Kind        string `bun:"kind"`
		State       string `bun:"state"`
		TenantState string `bun:"tenant_state"`
		PrivateKey  string `bun:"private_key"`
		Disabled    bool   `bun:"disabled"`
	}
	err := s.DB.Reader().NewSelect().TableExpr("key_pair AS k").
		Join("JOIN account AS a ON a.id = k.account").Join("JOIN tenant AS t ON t.id = a.company").
		ColumnExpr("k.account, a.email, a.company, a.kind, a.state, t.state AS tenant_state, k.private_key, k.disabled").
		Where("k.public_key = ?", publicKey).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	private, err := s.Secret.Open(row.PrivateKey, keyContext(publicKey))
	if err != nil {
		return nil, fmt.Errorf("private key of account %d: %w", row.Account, err)
	}
	return &action.Credential{
		Caller: action.Caller{Account: row.Account, Email: row.Email, Company: row.Company, Admin: row.Kind == administrator,
			Frozen: row.State == Frozen, TenantFrozen: row.TenantState == Frozen},
		PrivateKey: string(private),
		Disabled:   row.Disabled,
	}, nil
}

// tenants reads those of the given ids that exist, with the first account's e-mail. What was read
// lately is not read again.
func (s *Service) tenants(ctx context.Context, ids []int64) ([]Tenant, error) {
	found := make([]Tenant, 0, len(ids))
	var missing []int64
	for _, id := range ids {
		if t, ok := s.known.Get(id); ok && time.Since(t.read) < believed {
			found = append(found, t.Tenant)
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	var read []Tenant
	if err := s.DB.Reader().NewSelect().TableExpr("tenant AS t").
		Join("JOIN account AS a ON a.company = t.id AND a.id = (SELECT min(id) FROM account WHERE company = t.id)").
		ColumnExpr("t.id, t.name, t.state, a.email").
		Where("t.id IN (?)", bun.In(missing)).Scan(ctx, &read); err != nil {
		return nil, err
	}
	now := time.Now()
	for _, t := range read {
		s.known.Add(t.ID, cachedTenant{t, now})
	}
	return append(found, read...), nil
}

// next returns the id after the highest one of a table whose ids count up from AdminCompany.
func next(ctx context.Context, tx bun.Tx, model any) (int64, error) {
	var highest int64
	err := tx.NewSelect().Model(model).ColumnExpr("coalesce(max(id), ?)", AdminCompany-1).Scan(ctx, &highest)
	return highest + 1, err
}
