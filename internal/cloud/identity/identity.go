// Package identity knows tenants, accounts and their key pairs. It authenticates
// callers for the wire and tells other products whose a resource is.
package identity

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

// AdminCompany is the tenant of the platform's administrators; further tenants count up from it.
const AdminCompany int64 = 200000231

// States of tenants and accounts.
const (
	InUse  = "AVAILABLE"
	Frozen = "FREEZE" // cannot log in or call; resources keep running
)

// Kinds of accounts.
const (
	main          = "main"          // of a tenant: may do everything in it
	administrator = "administrator" // of the platform
)

// Tenant is a company or department that owns resources.
type Tenant struct {
	ID    int64
	Name  string
	Email string // of the main account
	State string // InUse, Frozen
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
	ID     int64  // 0: the next free one
	Name   string // 1..50 characters
	Email  string // login name of the main account
	Region string // whose OnTenant hooks run
	Admin  bool   // the main account is a platform administrator
}

// TenantHook furnishes a tenant in the transaction that creates it.
type TenantHook func(ctx context.Context, tx bun.Tx, company int64, region string) error

// Deps of the service.
type Deps struct {
	DB     *database.DB
	Clock  *clock.Clock
	Secret *secret.Key
	// PasswordCost is RFC 9106's second recommendation when nil.
	PasswordCost *argon2id.Params
}

// Keys and tenants in the caches, and how long one is believed before the database is asked again: the
// time after which a change made by another controller is felt.
const (
	cached   = 10_000
	believed = 10 * time.Second
)

type cachedKey struct {
	credential *action.Credential
	read       time.Time
}

type cachedTenant struct {
	Tenant
	read time.Time
}

// Service is identity: it fulfils action.Authenticator.
type Service struct {
	Deps
	hooks []TenantHook
	keys  *lru.Cache[string, cachedKey]
	known *lru.Cache[int64, cachedTenant]
}

// New prepares the service; hooks are added before Bootstrap.
func New(d Deps) *Service {
	if d.PasswordCost == nil {
		d.PasswordCost = &argon2id.Params{Memory: 64 << 10, Iterations: 3, Parallelism: 4, SaltLength: 16, KeyLength: 32}
	}
	// New fails only for a size below 1.
	keys, _ := lru.New[string, cachedKey](cached)
	known, _ := lru.New[int64, cachedTenant](cached)
	return &Service{Deps: d, keys: keys, known: known}
}

// OnTenant adds a hook that furnishes every new tenant (default VPC, ...).
func (s *Service) OnTenant(h TenantHook) { s.hooks = append(s.hooks, h) }

// Key returns the credential of a public key; nil when unknown. Known keys are cached for a few seconds.
func (s *Service) Key(ctx context.Context, publicKey string) (*action.Credential, error) {
	if k, ok := s.keys.Get(publicKey); ok && time.Since(k.read) < believed {
		return k.credential, nil
	}
	c, err := s.readKey(ctx, publicKey)
	if err != nil || c == nil {
		return nil, err
	}
	s.keys.Add(publicKey, cachedKey{c, time.Now()})
	return c, nil
}

// CheckTenant refuses the id of a tenant that does not exist (27001).
func (s *Service) CheckTenant(ctx context.Context, company int64) error {
	_, err := s.Tenant(ctx, company)
	return err
}

// Tenant returns one tenant; TenantNotFound (27001) when unknown.
func (s *Service) Tenant(ctx context.Context, company int64) (*Tenant, error) {
	tenants, err := s.tenants(ctx, []int64{company})
	if err != nil {
		return nil, err
	}
	if len(tenants) == 0 {
		return nil, retcode.TenantNotFound.Errorf("CompanyID %d is no tenant", company)
	}
	return &tenants[0], nil
}

// Emails returns the main accounts' login names of the given tenants, in one query at most. Unknown ids are left out.
func (s *Service) Emails(ctx context.Context, companies []int64) (map[int64]string, error) {
	tenants, err := s.tenants(ctx, companies)
	if err != nil {
		return nil, err
	}
	emails := make(map[int64]string, len(tenants))
	for _, t := range tenants {
		emails[t.ID] = t.Email
	}
	return emails, nil
}

// CreateTenant makes a tenant with its main account, password and key pair. TenantEmailExists (27000),
// InvalidEmail (27006), 113 for the name.
func (s *Service) CreateTenant(ctx context.Context, n NewTenant) (*Credentials, error) {
	c, err := s.newCredentials(n)
	if err != nil {
		return nil, err
	}
	return c, s.create(ctx, n, c)
}

// newCredentials checks n and makes the secrets of its main account.
func (s *Service) newCredentials(n NewTenant) (*Credentials, error) {
	if l := utf8.RuneCountInString(n.Name); l < 1 || l > 50 {
		return nil, retcode.InvalidParameter.Errorf("the name of a tenant has 1 to 50 characters, not %d", l)
	}
	if a, err := mail.ParseAddress(n.Email); err != nil || a.Address != n.Email || len(n.Email) > 254 {
		return nil, retcode.InvalidEmail.Errorf("%q is no e-mail address", n.Email)
	}
	return &Credentials{
		Region:     n.Region,
		Email:      strings.ToLower(n.Email),
		Password:   password(),
		PublicKey:  rand.Text() + rand.Text(), // 260 random bits, letters and digits
		PrivateKey: rand.Text() + rand.Text(),
	}, nil
}

// create writes the tenant with the given credentials, and their ids into c.
func (s *Service) create(ctx context.Context, n NewTenant, c *Credentials) error {
	hash, err := argon2id.CreateHash(c.Password, s.PasswordCost)
	if err != nil {
		return err
	}
	kind := main
	if n.Admin {
		kind = administrator
	}
	// Two creations may take the same next id; the second starts again.
	for attempt := 0; ; attempt++ {
		err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			if taken, err := tx.NewSelect().Model((*account)(nil)).Where("email = ?", c.Email).Exists(ctx); err != nil {
				return err
			} else if taken {
				return retcode.TenantEmailExists.Errorf("%s is registered already", c.Email)
			}
			c.Company = n.ID
			if c.Company == 0 {
				if c.Company, err = next(ctx, tx, (*tenant)(nil)); err != nil {
					return err
				}
			}
			if c.Account, err = next(ctx, tx, (*account)(nil)); err != nil {
				return err
			}
			now := s.Clock.Micros()
			if _, err := tx.NewInsert().Model(&tenant{ID: c.Company, Name: n.Name, State: InUse, CreatedAt: now, UpdatedAt: now}).Exec(ctx); err != nil {
				return err
			}
			if _, err := tx.NewInsert().Model(&account{ID: c.Account, Company: c.Company, Name: n.Name, Email: c.Email, Kind: kind, State: InUse,
				PasswordHash: hash, CreatedAt: now, UpdatedAt: now}).Exec(ctx); err != nil {
				return err
			}
			if _, err := tx.NewInsert().Model(&keyPair{PublicKey: c.PublicKey, Account: c.Account,
				PrivateKey: s.Secret.Seal([]byte(c.PrivateKey), keyContext(c.PublicKey)), CreatedAt: now, UpdatedAt: now}).Exec(ctx); err != nil {
				return err
			}
			for _, hook := range s.hooks {
				if err := hook(ctx, tx, c.Company, n.Region); err != nil {
					return fmt.Errorf("furnishing tenant %d: %w", c.Company, err)
				}
			}
			return nil
		})
		if err == nil || attempt == 10 || !database.IsUnique(err) {
			return err
		}
	}
}

// password makes one that every rule of the product accepts: 20 characters of three classes.
func password() string {
	const upper, lower, digits = "ABCDEFGHJKLMNPQRSTUVWXYZ", "abcdefghijkmnpqrstuvwxyz", "23456789"
	for {
		raw := make([]byte, 40)
		rand.Read(raw)
		all := upper + lower + digits
		text := make([]byte, 0, 20)
		for _, b := range raw {
			// Leaves out what would make the first letters likelier.
			if int(b) < 256/len(all)*len(all) && len(text) < 20 {
				text = append(text, all[int(b)%len(all)])
			}
		}
		p := string(text)
		if len(p) == 20 && strings.ContainsAny(p, upper) && strings.ContainsAny(p, lower) && strings.ContainsAny(p, digits) {
			return p
		}
	}
}
