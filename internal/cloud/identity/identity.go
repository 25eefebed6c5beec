// Package identity knows tenants, accounts and their key pairs. It authenticates
// callers for the wire and tells other products whose a resource is.
package identity

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

// AdminCompany is the tenant of the platform's administrators.
const AdminCompany int64 = 200000231

// Tenant is a company or department that owns resources.
type Tenant struct {
	ID    int64
	Name  string
	Email string // of the main account
	State string // AVAILABLE, FREEZE
}

// Credentials of a new account, as written to admin.json and demo.json. The only time that the
// password and the private key are in the clear.
type Credentials struct {
	Company    int64 `json:"-"`
	Account    int64 `json:"-"`
	Endpoint   string
	Region     string
	Email      string
	Password   string
	PublicKey  string
	PrivateKey string
}

// NewTenant describes a tenant to create with its main account.
type NewTenant struct {
	ID     int64 // 0: the next free one
	Name   string
	Email  string
	Region string // whose OnTenant hooks run
	Admin  bool   // the platform administrator's
}

// TenantHook furnishes a tenant in the transaction that creates it.
type TenantHook func(ctx context.Context, tx bun.Tx, company int64, region string) error

// Deps of the service.
type Deps struct {
	DB     *database.DB
	Clock  *clock.Clock
	Secret *secret.Key
}

// Service is identity: it fulfils action.Authenticator.
type Service struct {
	Deps
	hooks []TenantHook
}

// New prepares the service; hooks are added before Bootstrap.
func New(d Deps) *Service { return &Service{Deps: d} }

// OnTenant adds a hook that furnishes every new tenant (default VPC, ...).
func (s *Service) OnTenant(h TenantHook) { s.hooks = append(s.hooks, h) }

// Key returns the credential of a public key; nil when unknown. Cached.
func (s *Service) Key(ctx context.Context, publicKey string) (*action.Credential, error) {
	panic("not yet")
}

// CheckTenant refuses the id of a tenant that does not exist (27001).
func (s *Service) CheckTenant(ctx context.Context, company int64) error { panic("not yet") }

// Tenant returns one tenant; TenantNotFound (27001) when unknown.
func (s *Service) Tenant(ctx context.Context, company int64) (*Tenant, error) { panic("not yet") }

// Emails returns the main accounts' login names of the given tenants, in one query. Unknown ids are left out.
func (s *Service) Emails(ctx context.Context, companies []int64) (map[int64]string, error) {
	panic("not yet")
}

// CreateTenant makes a tenant with its main account, password and key pair. TenantEmailExists (27000).
func (s *Service) CreateTenant(ctx context.Context, n NewTenant) (*Credentials, error) {
	panic("not yet")
}
