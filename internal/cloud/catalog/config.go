package catalog

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

// configFresh is how long values are believed before the database is asked again: the time after which a change made
// by another controller is felt.
const configFresh = time.Second

// Config is the platform's configuration. Its getters answer from memory, the region's value before the platform's
// before the default; region "" asks for the platform's. While the database does not answer, the values known last
// go on holding.
type Config struct {
	db     *database.DB
	secret *secret.Key

	mu     sync.Mutex
	values map[configKey]string // what differs from the defaults
	read   time.Time
	system string // SystemID
}

type configKey struct{ region, key string }

type configRow struct {
	bun.BaseModel `bun:"table:config"`

	Region    string `bun:"region,pk"`
	Key       string `bun:"key,pk"`
	Value     string `bun:"value"`
	UpdatedAt int64  `bun:"updated_at"`
}

// refresh reads the values again when they are old. Inside a transaction that would take a second connection: there
// the values hold that the gate saw when the request came.
func (c *Config) refresh(ctx context.Context) {
	if time.Since(c.read) <= configFresh || !c.read.IsZero() && database.InTransaction(ctx) {
		return
	}
	if err := c.load(ctx); err != nil {
		slog.WarnContext(ctx, "the configuration could not be read, what was known goes on holding", "error", err)
	}
}

// Refresh reads the values again when they are old. The gate calls it for every request, before any transaction.
func (c *Config) Refresh(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh(ctx)
}

// identify sets the installation's identity, which never changes.
func (c *Config) identify(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.system = id
}

// value of an option as it is kept.
func (c *Config) value(ctx context.Context, region, key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh(ctx)
	if region != "" {
		if v, ok := c.values[configKey{region, key}]; ok {
			return v
		}
	}
	if v, ok := c.values[configKey{"", key}]; ok {
		return v
	}
	if key == "SystemID" {
		return c.system
	}
	if o := optionAs(key); o != nil {
		return o.Default
	}
	return ""
}

// load reads what differs from the defaults. c.mu is held.
func (c *Config) load(ctx context.Context) error {
	c.read = time.Now() // also after a failure: not every call shall wait for a database that is away
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	rows, err := database.Find[configRow](ctx, c.db.Reader(), "")
	if err != nil {
		return err
	}
	values := make(map[configKey]string, len(rows))
	for _, r := range rows {
		values[configKey{r.Region, r.Key}] = r.Value
	}
	c.values = values
	return nil
}

// set writes a value, or takes a region's own away when it is nil; it holds at once.
func (c *Config) set(ctx context.Context, region string, o *option, value *string, now int64) error {
	row := configRow{Region: region, Key: o.Key, UpdatedAt: now}
	if value != nil {
		row.Value = *value
		if o.Type == secrecy && row.Value != "" {
			row.Value = c.secret.Seal([]byte(row.Value), "config "+o.Key)
		}
	}
	err := c.db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if value == nil {
			_, err := tx.NewDelete().Model(&row).WherePK().Exec(ctx)
			return err
		}
		_, err := tx.NewInsert().Model(&row).On("CONFLICT (region, key) DO UPDATE").
			Set("value = EXCLUDED.value").Set("updated_at = EXCLUDED.updated_at").Exec(ctx)
		return err
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load(ctx)
}

// Backup is what differs from the defaults, as JSON. Secrets stay sealed.
func (c *Config) Backup(ctx context.Context) ([]byte, error) {
	rows, err := database.Find[configRow](ctx, c.db.Reader(), "ORDER BY region, key")
	if err != nil {
		return nil, err
	}
	copied := ConfigFile{System: c.SystemID(ctx), Items: []ConfigItem{}}
	for _, r := range rows {
		item := ConfigItem{Region: r.Region, ConfigKey: r.Key, ConfigValue: r.Value}
		if o := optionAs(r.Key); o != nil && o.Type == secrecy {
			item.Sealed = true
		}
		copied.Items = append(copied.Items, item)
	}
	return json.MarshalIndent(copied, "", "  ")
}

// ConfigFile is a configuration as it is backed up.
type ConfigFile struct {
	System string // SystemID
	Items  []ConfigItem
}

// ConfigItem is a value that somebody set.
type ConfigItem struct {
	Region      string // empty: the platform's
	ConfigKey   string
	ConfigValue string
	Sealed      bool // only this installation's key file opens the value
}

func (c *Config) number(ctx context.Context, region, key string) int {
	n, _ := strconv.Atoi(c.value(ctx, region, key)) // checked when it was set
	return n
}

func (c *Config) truth(ctx context.Context, region, key string) bool {
	return c.value(ctx, region, key) == "true"
}

func (c *Config) duration(ctx context.Context, region, key string, unit time.Duration) time.Duration {
	return time.Duration(c.number(ctx, region, key)) * unit
}

// Accounts and login.

// FreezeAfterFailures: an account is frozen after 6 wrong passwords in a row.
func (c *Config) FreezeAfterFailures(ctx context.Context) bool {
	return c.truth(ctx, "", "FreezeAfterFailures")
}

// LoginLock is how long one waits after repeated wrong passwords.
func (c *Config) LoginLock(ctx context.Context) time.Duration {
	return c.duration(ctx, "", "LoginLock", time.Minute)
}

// PasswordLifetime is the age at which an account's password expires.
func (c *Config) PasswordLifetime(ctx context.Context) time.Duration {
	return c.duration(ctx, "", "PasswordLifetime", 24*time.Hour)
}

// ForcePasswordChange: an expired password must be changed at the next login.
func (c *Config) ForcePasswordChange(ctx context.Context) bool {
	return c.truth(ctx, "", "ForcePasswordChange")
}

// ConcurrentLogin: an account may have several sessions.
func (c *Config) ConcurrentLogin(ctx context.Context) bool {
	return c.truth(ctx, "", "ConcurrentLogin")
}

// IdleLogout is when a session without calls ends.
func (c *Config) IdleLogout(ctx context.Context) time.Duration {
	return c.duration(ctx, "", "IdleLogout", time.Minute)
}

// PasswordMinLength of accounts.
func (c *Config) PasswordMinLength(ctx context.Context) int {
	return c.number(ctx, "", "PasswordMinLength")
}

// PasswordClasses is how many classes of characters an account's password has at least, 1 to 4.
func (c *Config) PasswordClasses(ctx context.Context) int {
	return c.number(ctx, "", "PasswordClasses")
}

// ForceWeakPasswordChange: a password that breaks today's rules must be changed at the next login.
func (c *Config) ForceWeakPasswordChange(ctx context.Context) bool {
	return c.truth(ctx, "", "ForceWeakPasswordChange")
}

// SelfRegistration: anybody may register a tenant.
func (c *Config) SelfRegistration(ctx context.Context) bool {
	return c.truth(ctx, "", "SelfRegistration")
}

// MailedCodes: registering, and changing one's e-mail, need a mailed code.
func (c *Config) MailedCodes(ctx context.Context) bool { return c.truth(ctx, "", "MailedCodes") }

// MailFactor: a mailed code is the second factor of accounts without TOTP.
func (c *Config) MailFactor(ctx context.Context) bool { return c.truth(ctx, "", "MailFactor") }

// System services.

// SystemID is the identity of this installation.
func (c *Config) SystemID(ctx context.Context) string { return c.value(ctx, "", "SystemID") }

// Mail says how mails are sent.
type Mail struct {
	Host          string // empty: not at all
	Port          int
	SSL           bool // TLS from the first byte; else STARTTLS where it is offered
	Sender        string
	Password      string
	SubjectPrefix string
}

// Mail settings.
func (c *Config) Mail(ctx context.Context) (Mail, error) {
	m := Mail{Host: c.value(ctx, "", "MailHost"), Port: c.number(ctx, "", "MailPort"), SSL: c.truth(ctx, "", "MailSSL"),
		Sender: c.value(ctx, "", "MailSender"), SubjectPrefix: c.value(ctx, "", "MailSubjectPrefix")}
	if sealed := c.value(ctx, "", "MailPassword"); sealed != "" {
		plain, err := c.secret.Open(sealed, "config MailPassword")
		if err != nil {
			return m, err
		}
		m.Password = string(plain)
	}
	return m, nil
}

// NTPServer that clocks are held against; invalid: none.
func (c *Config) NTPServer(ctx context.Context) netip.Addr {
	a, _ := netip.ParseAddr(c.value(ctx, "", "NTPServer"))
	return a
}

// DatabaseBackup is how often the database is backed up: Off, Hourly, Daily, Weekly, Monthly.
func (c *Config) DatabaseBackup(ctx context.Context) string {
	return c.value(ctx, "", "DatabaseBackup")
}

// DatabaseBackupRetention is how long backups are kept.
func (c *Config) DatabaseBackupRetention(ctx context.Context) time.Duration {
	return c.duration(ctx, "", "DatabaseBackupRetention", 24*time.Hour)
}

// ConfigBackup is when the configuration is backed up, hh:mm.
func (c *Config) ConfigBackup(ctx context.Context) string { return c.value(ctx, "", "ConfigBackup") }

// AuditRetention is how long the audit log is kept.
func (c *Config) AuditRetention(ctx context.Context) time.Duration {
	return c.duration(ctx, "", "AuditRetention", 24*time.Hour)
}

// DNS servers of subnets that name none; empty: those that the server was started with.
func (c *Config) DNS(ctx context.Context, region string) (servers []netip.Addr) {
	for _, s := range split(c.value(ctx, region, "DNS")) {
		if a, err := netip.ParseAddr(s); err == nil {
			servers = append(servers, a)
		}
	}
	return servers
}

// TimeZone of timers and calendar months.
func (c *Config) TimeZone(ctx context.Context, region string) *time.Location {
	l, err := time.LoadLocation(c.value(ctx, region, "TimeZone"))
	if err != nil {
		return time.UTC
	}
	return l
}

// Billing policy.

// BillingEnabled: prices hold; else they are all zero.
func (c *Config) BillingEnabled(ctx context.Context) bool { return c.truth(ctx, "", "BillingEnabled") }

// AutoRenew: resources whose order says so renew by themselves.
func (c *Config) AutoRenew(ctx context.Context) bool { return c.truth(ctx, "", "AutoRenew") }

// Currency that amounts are shown in: CNY, USD.
func (c *Config) Currency(ctx context.Context) string { return c.value(ctx, "", "Currency") }

// Language of mails: zh, en.
func (c *Config) Language(ctx context.Context) string { return c.value(ctx, "", "Language") }

// Product policy.

// DiskQoS: rate and operations of disks are limited.
func (c *Config) DiskQoS(ctx context.Context, region string) bool {
	return c.truth(ctx, region, "DiskQoS")
}

// VPCNetwork are the networks that VPCs are made in.
func (c *Config) VPCNetwork(ctx context.Context, region string) (all []netip.Prefix) {
	for _, p := range split(c.value(ctx, region, "VPCNetwork")) {
		if n, err := netip.ParsePrefix(p); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// InnerBandwidth of a machine in its VPC, Mbps; 0: no limit.
func (c *Config) InnerBandwidth(ctx context.Context, region string) int {
	return c.number(ctx, region, "InnerBandwidth")
}

// SnapshotsPerDisk that a disk may have; 0: no limit.
func (c *Config) SnapshotsPerDisk(ctx context.Context, region string) int {
	return c.number(ctx, region, "SnapshotsPerDisk")
}

// SharedDiskAttachments is how many machines a shared disk may be attached to.
func (c *Config) SharedDiskAttachments(ctx context.Context, region string) int {
	return c.number(ctx, region, "SharedDiskAttachments")
}

// VMPasswordMinLength of machines.
func (c *Config) VMPasswordMinLength(ctx context.Context, region string) int {
	return c.number(ctx, region, "VMPasswordMinLength")
}

// VMPasswordClasses is how many classes of characters a machine's password has at least, 1 to 4.
func (c *Config) VMPasswordClasses(ctx context.Context, region string) int {
	return c.number(ctx, region, "VMPasswordClasses")
}

// DeletionAllowed: tenants may delete resources.
func (c *Config) DeletionAllowed(ctx context.Context, region string) bool {
	return c.truth(ctx, region, "DeletionAllowed")
}

// RecycleAutoDestroy: the bin destroys what outlived its retention.
func (c *Config) RecycleAutoDestroy(ctx context.Context, region string) bool {
	return c.truth(ctx, region, "RecycleAutoDestroy")
}

// RecycleRetention is how long the bin keeps a resource.
func (c *Config) RecycleRetention(ctx context.Context, region string) time.Duration {
	return c.duration(ctx, region, "RecycleRetention", time.Second)
}

// ExpiredToRecycle: what expired 7 days ago goes to the bin.
func (c *Config) ExpiredToRecycle(ctx context.Context, region string) bool {
	return c.truth(ctx, region, "ExpiredToRecycle")
}

// QuotaEnforced: what exceeds a quota is refused.
func (c *Config) QuotaEnforced(ctx context.Context, region string) bool {
	return c.truth(ctx, region, "QuotaEnforced")
}

// InstanceStatusCheck: tenants see that a machine migrates or is taken over.
func (c *Config) InstanceStatusCheck(ctx context.Context, region string) bool {
	return c.truth(ctx, region, "InstanceStatusCheck")
}
