package identity

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

type tenant struct {
	bun.BaseModel `bun:"table:tenant"`

	ID          int64  `bun:"id,pk"`
	Name        string `bun:"name"`
	State       string `bun:"state"`
	Remark      string `bun:"remark"`
	Approval    bool   `bun:"approval"`
	AutoApprove bool   `bun:"auto_approval"`
	AllowList   string `bun:"allow_list"`
	AllowListAt int64  `bun:"allow_list_at"`
	CreatedAt   int64  `bun:"created_at"`
	UpdatedAt   int64  `bun:"updated_at"`
	Generation  int64  `bun:"generation"`
}

type account struct {
	bun.BaseModel `bun:"table:account"`

	ID           int64  `bun:"id,pk"`
	Company      int64  `bun:"company"`
	Name         string `bun:"name"`
	Email        string `bun:"email"`
	Kind         string `bun:"kind"`
	State        string `bun:"state"`
	Level        string `bun:"level"`     // of administrators
	ReadOnly     bool   `bun:"read_only"` // of administrators
	Phone        string `bun:"phone"`
	Language     string `bun:"language"`
	OAuthID      string `bun:"oauth_id"`
	AllowList    string `bun:"allow_list"` // of administrators
	PasswordHash string `bun:"password_hash"`
	PasswordAt   int64  `bun:"password_at"`
	MustChange   bool   `bun:"must_change"`
	LoginAt      int64  `bun:"login_at"`
	LoginIP      string `bun:"login_ip"`
	CreatedAt    int64  `bun:"created_at"`
	UpdatedAt    int64  `bun:"updated_at"`
	Generation   int64  `bun:"generation"`
}

type keyPair struct {
	bun.BaseModel `bun:"table:key_pair"`

	PublicKey  string `bun:"public_key,pk"`
	ID         string `bun:"id"`
	Name       string `bun:"name"`
	Account    int64  `bun:"account"`
	PrivateKey string `bun:"private_key"`
	Disabled   bool   `bun:"disabled"`
	IsDefault  bool   `bun:"is_default"`
	Replaced   bool   `bun:"replaced"`
	ExpiresAt  int64  `bun:"expires_at"`
	UsedAt     int64  `bun:"used_at"`
	UsedIP     string `bun:"used_ip"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// keyContext binds a sealed private key to its public one.
func keyContext(publicKey string) string { return "key_pair/" + publicKey }

// tenants reads those of the given ids that exist, with the first account's e-mail. What was read
// lately is not read again.
func (s *Service) tenants(ctx context.Context, ids []int64) ([]Tenant, error) {
	found := make([]Tenant, 0, len(ids))
	var missing []int64
	since := s.changes.Load()
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
		ColumnExpr("t.id, t.name, t.state, a.email, t.approval, t.auto_approval AS auto_approve").
		Where("t.id IN (?) AND t.state <> ?", bun.In(missing), deleted).Scan(ctx, &read); err != nil {
		return nil, err
	}
	if s.changes.Load() == since {
		for _, t := range read {
			s.known.Add(t.ID, cachedTenant{t, time.Now()})
		}
	}
	return append(found, read...), nil
}

// next gives out an id of a tenant or an account; none is given twice.
func next(ctx context.Context, tx bun.Tx, name string) (id int64, err error) {
	err = tx.NewRaw(`UPDATE identity_counter SET value = value + 1 WHERE name = ? RETURNING value`, name).Scan(ctx, &id)
	return id, err
}
