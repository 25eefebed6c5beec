// Package identity knows tenants, accounts and their key pairs. It authenticates
// callers for the wire and tells other products whose a resource is.
package identity

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	netmail "net/mail"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/mail"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

// AdminCompany is the tenant of the platform's administrators; further tenants count up from it.
const AdminCompany int64 = 200000231

// States of tenants and accounts.
const (
	InUse   = "AVAILABLE"
	Frozen  = "FREEZE"  // cannot log in or call; resources keep running
	locked  = "LOCKED"  // an account whose owner has not followed the link of the activation mail
	deleted = "DELETED" // a tenant of the past, whose name bills and the log still know
)

// Kinds of accounts.
const (
	main          = "main"          // of a tenant: may do everything in it
	sub           = "sub"           // of a tenant: may do what its roles grant
	administrator = "administrator" // of the platform
)

// Tenant is a company or department that owns resources.
type Tenant struct {
	ID    int64
	Name  string
	Email string // of the main account
	State string // InUse, Frozen
	// Approval: what it asks for waits for an approval, which AutoApprove gives at once.
	Approval, AutoApprove bool
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

// Mail is what identity needs of the mail room.
type Mail interface {
	Enqueue(ctx context.Context, tx bun.Tx, m mail.Message, lasts time.Duration) error
	Kick()
	Config(ctx context.Context) (mail.Config, error)
	Check(ctx context.Context, address string) error
	Send(ctx context.Context, c mail.Config, m mail.Message) (string, error)
}

// Directory is what identity asks of resource.Directory.
type Directory interface {
	// Holdings counts what a tenant has.
	Holdings(ctx context.Context, idb bun.IDB, company int64) ([]Holding, error)
	// Move puts a resource of a scope, with its parts, into a project group: the kind's code when there is none.
	Move(ctx context.Context, tx bun.Tx, s action.Scope, id, project string) error
	// Count tells how many resources of each kind there are in a scope, also in the bin.
	Count(ctx context.Context, idb bun.IDB, s action.Scope) (map[string]int, error)
	// Holders tells how many resources of a service tenants have in a region, beside what they were furnished with.
	Holders(ctx context.Context, idb bun.IDB, region, service string) (map[int64]int, error)
	// Each calls f for every kind of resource.
	Each(f func(service, kind string))
}

// Deps of the service.
type Deps struct {
	DB     *database.DB
	Clock  *clock.Clock
	Secret *secret.Key
	// Directory knows what tenants own.
	Directory Directory
	// PasswordCost is RFC 9106's second recommendation when nil.
	PasswordCost *argon2id.Params
	// ProofBits is how many bits a proof of work must have at least; 18 when 0.
	ProofBits int
	// Mail sends codes and links; Console is the address that links begin with.
	Mail    Mail
	Console string
	// Policy is what the configuration says of the moment; nil: the default one.
	Policy func(ctx context.Context) Policy
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
	hooks    []TenantHook
	keys     *lru.Cache[string, cachedKey]
	known    *lru.Cache[int64, cachedTenant]
	sessions *lru.Cache[string, *liveSession]
	// changes counts what was changed of accounts and tenants: what was read before is not cached after.
	changes  atomic.Int64
	guard    *guard
	grants   Grants // nil: no application asks for logins
	keyUses  uses
	projects *lru.Cache[string, cachedProject]
	// table and permissions come from Know.
	table       []action.Action
	permissions map[string]*permission
	reaches     *lru.Cache[int64, cachedReach]
	services    atomic.Pointer[closedServices]

	leave   []func(ctx context.Context, tx bun.Tx, company int64) error
	regions func(ctx context.Context) ([]string, error)
	balance func(ctx context.Context, companies []int64) (map[int64]Balance, error)
}

// New prepares the service; hooks are added before Bootstrap.
func New(d Deps) *Service {
	if d.Policy == nil {
		d.Policy = func(context.Context) Policy { return DefaultPolicy }
	}
	if d.PasswordCost == nil {
		d.PasswordCost = &argon2id.Params{Memory: 64 << 10, Iterations: 3, Parallelism: 4, SaltLength: 16, KeyLength: 32}
	}
	// New fails only for a size below 1.
	keys, _ := lru.New[string, cachedKey](cached)
	known, _ := lru.New[int64, cachedTenant](cached)
	sessions, _ := lru.New[string, *liveSession](cached)
	projects, _ := lru.New[string, cachedProject](cached)
	reaches, _ := lru.New[int64, cachedReach](cached)
	return &Service{Deps: d, keys: keys, known: known, sessions: sessions, projects: projects, reaches: reaches,
		guard:   newGuard(d.Clock.Now, d.ProofBits, func() time.Duration { return d.Policy(context.Background()).Lock }),
		keyUses: uses{last: map[string]use{}}}
}

// Forget drops what is cached of accounts, tenants and the configuration. Everything that changes them calls
// it after its commit, so that callers feel the change at once.
func (s *Service) Forget() {
	s.changes.Add(1)
	s.keys.Purge()
	s.known.Purge()
	s.sessions.Purge()
	s.reaches.Purge()
	s.services.Store(nil)
}

// change runs a transaction that changes accounts or tenants.
func (s *Service) change(ctx context.Context, fn func(ctx context.Context, tx bun.Tx) error) error {
	err := s.DB.Transact(ctx, fn)
	s.Forget()
	return err
}

// OnTenant adds a hook that furnishes every new tenant (default VPC, ...).
func (s *Service) OnTenant(h TenantHook) { s.hooks = append(s.hooks, h) }

// Key returns the credential of a public key; nil when unknown. Known keys are cached for a few seconds.
func (s *Service) Key(ctx context.Context, publicKey string) (*action.Credential, error) {
	if k, ok := s.keys.Get(publicKey); ok && time.Since(k.read) < believed {
		return k.credential, nil
	}
	since := s.changes.Load()
	c, err := s.readKey(ctx, publicKey)
	if err != nil || c == nil {
		return nil, err
	}
	if s.changes.Load() == since {
		s.keys.Add(publicKey, cachedKey{c, time.Now()})
	}
	return c, nil
}

// Actions of identity.
func (s *Service) Actions() []action.Action {
	return slices.Concat(s.loginActions(), s.verifyActions(), s.totpActions(), s.keyActions(), s.accountActions(), s.adminActions(),
		s.tenantActions(), s.allowListActions(), s.mailActions(), s.projectActions(), s.roleActions(), s.serviceActions())
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

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

// Tenants returns tenants by id, in one query at most. Unknown ids are left out.
func (s *Service) Tenants(ctx context.Context, companies []int64) (map[int64]Tenant, error) {
	rows, err := s.tenants(ctx, companies)
	if err != nil {
		return nil, err
	}
	tenants := make(map[int64]Tenant, len(rows))
	for _, t := range rows {
		tenants[t.ID] = t
	}
	return tenants, nil
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
	email, err := address(n.Email)
	if err != nil {
		return nil, err
	}
	return &Credentials{
		Region:     n.Region,
		Email:      email,
		Password:   password(),
		PublicKey:  rand.Text() + rand.Text(), // 260 random bits, letters and digits
		PrivateKey: rand.Text() + rand.Text(),
	}, nil
}

// address checks an e-mail address and spells it as login names are spelled. InvalidEmail (27006).
func address(text string) (string, error) {
	if a, err := netmail.ParseAddress(text); err != nil || a.Address != text || len(text) > 254 {
		return "", retcode.InvalidEmail.Errorf("%q is no e-mail address", text)
	}
	return strings.ToLower(text), nil
}

// create writes the tenant with the given credentials, and their ids into c.
func (s *Service) create(ctx context.Context, n NewTenant, c *Credentials) error {
	hash, err := argon2id.CreateHash(c.Password, s.PasswordCost)
	if err != nil {
		return err
	}
	row := &account{Name: n.Name, Email: c.Email, Kind: main, State: InUse, Language: retcode.Chinese, PasswordHash: hash}
	if n.Admin {
		row.Kind, row.Level = administrator, levelSystem
	}
	return s.change(ctx, func(ctx context.Context, tx bun.Tx) error {
		row.ID = 0
		if err := s.addTenant(ctx, tx, &tenant{ID: n.ID, Name: n.Name, State: InUse}, row, []string{n.Region}); err != nil {
			return err
		}
		c.Company, c.Account = row.Company, row.ID
		return s.addKey(ctx, tx, &keyPair{PublicKey: c.PublicKey, PrivateKey: c.PrivateKey, Account: row.ID, IsDefault: true})
	})
}

// addTenant writes a tenant with its main account and furnishes it in the regions that it is granted.
func (s *Service) addTenant(ctx context.Context, tx bun.Tx, t *tenant, a *account, regions []string) error {
	if err := free(ctx, tx, a.Email, retcode.TenantEmailExists); err != nil {
		return err
	}
	now := s.Clock.Micros()
	if t.ID == 0 {
		id, err := next(ctx, tx, "tenant")
		if err != nil {
			return err
		}
		t.ID = id
	} else if _, err := tx.NewRaw(`UPDATE identity_counter SET value = ? WHERE name = 'tenant' AND value < ?`, t.ID, t.ID).Exec(ctx); err != nil {
		return err
	}
	t.CreatedAt, t.UpdatedAt = now, now
	if _, err := tx.NewInsert().Model(t).Exec(ctx); err != nil {
		return err
	}
	a.Company = t.ID
	if err := s.addAccount(ctx, tx, a); err != nil {
		return err
	}
	if err := s.furnishProject(ctx, tx, t.ID); err != nil {
		return err
	}
	for _, region := range regions {
		if _, err := tx.NewRaw(`INSERT INTO tenant_region (company, region, granted, created_at) VALUES (?, ?, ?, ?)`, t.ID, region, true, now).Exec(ctx); err != nil {
			return err
		}
		for _, hook := range s.hooks {
			if err := hook(ctx, tx, t.ID, region); err != nil {
				return fmt.Errorf("furnishing tenant %d: %w", t.ID, err)
			}
		}
	}
	return nil
}

// addAccount gives an account its id and writes it. The e-mail must have been found free.
func (s *Service) addAccount(ctx context.Context, tx bun.Tx, a *account) (err error) {
	if a.ID, err = next(ctx, tx, "account"); err != nil {
		return err
	}
	a.CreatedAt = s.Clock.Micros()
	a.UpdatedAt, a.PasswordAt = a.CreatedAt, a.CreatedAt
	_, err = tx.NewInsert().Model(a).Exec(ctx)
	return err
}

// free refuses an e-mail that an account has: with the given code, but 20005 when that is no tenant's.
func free(ctx context.Context, tx bun.Tx, email string, taken retcode.Code) error {
	var kind string
	err := tx.NewSelect().Model((*account)(nil)).Column("kind").Where("email = ?", email).Scan(ctx, &kind)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if kind == sub {
		taken = retcode.AccountEmailExists
	}
	return taken.Errorf("%s is registered already", email)
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
