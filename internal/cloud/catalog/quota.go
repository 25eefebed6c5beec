package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Factor is what a quota counts.
type Factor string

// The factors, counted per tenant and region.
const (
	VM             Factor = "VM"             // virtual machines
	CPU            Factor = "CPU"            // cores of virtual machines
	Memory         Factor = "MEMORY"         // MiB of virtual machines
	GPU            Factor = "GPU"            // cards of virtual machines
	Disk           Factor = "DISK"           // data disks
	DiskSpace      Factor = "DISK_SPACE"     // GB of system and data disks
	EIP            Factor = "EIP"            // public addresses
	SecurityGroup  Factor = "SECURITY_GROUP" // security groups
	VPC            Factor = "VPC"
	Subnet         Factor = "SUBNET"
	NIC            Factor = "NIC"             // elastic NICs, not the VM's own
	VIP            Factor = "VIP"             // virtual addresses
	Image          Factor = "IMAGE"           // custom images
	Template       Factor = "TEMPLATE"        // VM templates
	IsolationGroup Factor = "ISOLATION_GROUP" // isolation groups
	LB             Factor = "LB"              // load balancers
	Certificate    Factor = "CERTIFICATE"     // SSL certificates
	NATGW          Factor = "NATGW"           // NAT gateways
	VPNGW          Factor = "VPNGW"           // VPN gateways
	RemoteVPNGW    Factor = "REMOTE_VPNGW"    // gateways at the other end
	Tunnel         Factor = "TUNNEL"          // VPN tunnels
	ScalingGroup   Factor = "SCALING_GROUP"   // scaling groups
	ScalingPolicy  Factor = "SCALING_POLICY"  // scaling policies
	ObjectStore    Factor = "OBJECT_STORE"
	FileStore      Factor = "FILE_STORE"
	MySQL          Factor = "MYSQL"
	Redis          Factor = "REDIS"
)

// counted describes a factor: its default in a new region, and how the wire names it.
type counted struct {
	Factor   Factor
	Default  int64
	Words    string // in messages
	Resource string // ResourceType
	Kind     string // FactorType
	Unit     string
	Per      int64 // how much of the factor is a unit on the wire
}

// Kinds of factors on the wire.
const (
	amount = "FACTOR_AMOUNT"
	piece  = "pcs"
)

// counts holds every factor, in the order in which they are listed.
var counts = []counted{
	{VM, 50, "virtual machines", "VM", amount, piece, 1},
	{CPU, 80, "CPU cores", "VM", "FACTOR_CPU", "core", 1},
	{Memory, 80 * 1024, "MiB of memory", "VM", "FACTOR_MEMORY", "GB", 1024},
	{GPU, 10, "GPUs", "VM", "FACTOR_GPU", "card", 1},
	{Disk, 50, "data disks", "DISK", amount, piece, 1},
	{DiskSpace, 20000, "GB of disk space", "DISK", "FACTOR_DISK", "GB", 1},
	{Image, 10, "custom images", "IMAGE", amount, piece, 1},
	{VPC, 10, "VPCs", "VPC", amount, piece, 1},
	{Subnet, 100, "subnets", "SUBNET", amount, piece, 1},
	{NIC, 10, "network interfaces", "NIC", amount, piece, 1},
	{EIP, 10, "public addresses", "EIP", amount, piece, 1},
	{VIP, 100, "virtual addresses", "VIP", amount, piece, 1},
	{SecurityGroup, 10, "security groups", "SG", amount, piece, 1},
	{Template, 10, "VM templates", "VM_TEMPLATE", amount, piece, 1},
	{IsolationGroup, 10, "isolation groups", "ISOLATION_GROUP", amount, piece, 1},
	{LB, 10, "load balancers", "LB", amount, piece, 1},
	{Certificate, 50, "SSL certificates", "CERTIFICATE", amount, piece, 1},
	{NATGW, 10, "NAT gateways", "NATGW", amount, piece, 1},
	{VPNGW, 10, "VPN gateways", "VPNGW", amount, piece, 1},
	{RemoteVPNGW, 10, "remote gateways", "REMOTE_VPNGW", amount, piece, 1},
	{Tunnel, 10, "VPN tunnels", "VPN_TUNNEL", amount, piece, 1},
	{ScalingGroup, 10, "scaling groups", "SCALING_GROUP", amount, piece, 1},
	{ScalingPolicy, 100, "scaling policies", "SCALING_POLICY", amount, piece, 1},
	{ObjectStore, 10, "object stores", "OBJECT_STORE", amount, piece, 1},
	{FileStore, 10, "file stores", "FILE_STORE", amount, piece, 1},
	{MySQL, 10, "MySQL databases", "MYSQL", amount, piece, 1},
	{Redis, 10, "Redis databases", "REDIS", amount, piece, 1},
}

// countedAs returns a factor's description.
func countedAs(f Factor) counted {
	for _, c := range counts {
		if c.Factor == f {
			return c
		}
	}
	return counted{Factor: f, Words: string(f), Per: 1}
}

// Amounts says how much of each factor; of those that are in sets, by Factor.In, also in which.
type Amounts map[Factor]int64

// Furnish opens a tenant's quotas in a region, in the transaction that creates the tenant or grants it the region.
func (s *Service) Furnish(ctx context.Context, tx bun.Tx, company int64, region string) error {
	if err := s.openDefaults(ctx, tx, region); err != nil {
		return err
	}
	_, err := tx.NewRaw(`INSERT INTO quota (company, region, factor, used) SELECT CAST(? AS BIGINT), region, factor, 0 FROM quota_default
		WHERE region = ? ON CONFLICT (company, region, factor) DO NOTHING`, company, region).Exec(ctx)
	return err
}

// openDefaults writes the default quotas that a region has not yet.
func (s *Service) openDefaults(ctx context.Context, tx bun.Tx, region string) error {
	rows := make([]quotaDefault, len(counts))
	for i, c := range counts {
		rows[i] = quotaDefault{Region: region, Factor: c.Factor, Value: c.Default, Allocation: Allocation(nil).text()}
	}
	_, err := tx.NewInsert().Model(&rows).On("CONFLICT (region, factor) DO NOTHING").Exec(ctx)
	return err
}

// openQuotas opens what this version counts and an earlier one did not, for every region and every tenant in it.
func (s *Service) openQuotas(ctx context.Context, tx bun.Tx) error {
	var regions []string
	if err := tx.NewRaw(`SELECT id FROM region ORDER BY id`).Scan(ctx, &regions); err != nil {
		return err
	}
	for _, r := range regions {
		if err := s.openDefaults(ctx, tx, r); err != nil {
			return err
		}
	}
	_, err := tx.NewRaw(`INSERT INTO quota (company, region, factor, used)
		SELECT t.company, t.region, d.factor, 0 FROM (SELECT DISTINCT company, region FROM quota) t JOIN quota_default d ON d.region = t.region
		WHERE TRUE ON CONFLICT (company, region, factor) DO NOTHING`).Exec(ctx)
	return err
}

// Reserve takes from the tenant's quotas in the caller's transaction, all or nothing; QuotaExceeded
// (17005) names the factor, the set whose part of it is used up, what is allowed and what is used; RegionNotActivated
// (400) is for what the region's licence does not include. After an error the transaction must be rolled back. The rows that take what
// is reserved are written after it, in the same transaction. While the configuration does not enforce quotas they are
// counted only.
func (s *Service) Reserve(ctx context.Context, tx bun.Tx, company int64, region string, a Amounts) error {
	a, parts := a.divided()
	factors, wanted, args := a.statement(1)
	if len(factors) == 0 {
		return nil
	}
	if err := s.countable(ctx, region, a); err != nil {
		return err
	}
	if !s.Config.QuotaEnforced(ctx, region) {
		return s.Release(ctx, tx, company, region, a.negative())
	}
	var taken []limited
	if err := tx.NewRaw(`UPDATE quota SET used = used + `+wanted+` WHERE company = ? AND region = ? AND factor IN (?)
		AND used + `+wanted+` <= `+allowance+` RETURNING factor, used, `+allotment+` AS allocation`,
		slices.Concat(args, []any{company, region, bun.In(factors)}, args)...).Scan(ctx, &taken); err != nil {
		return err
	}
	for _, f := range factors {
		if i := slices.IndexFunc(taken, func(q limited) bool { return q.Factor == f }); i >= 0 {
			set, used, allowed, err := s.overdrawn(ctx, tx, company, region, taken[i], parts[f])
			if err != nil {
				return err
			}
			if set != "" {
				return retcode.QuotaExceeded.Errorf("%d more %s wanted in %s, %d of %d used", parts[f][set], countedAs(f).Words, set, used-parts[f][set], allowed)
			}
			continue
		}
		var row struct {
			Used    int64 `bun:"used"`
			Allowed int64 `bun:"allowed"`
		}
		if err := tx.NewRaw(`SELECT used, `+allowance+` AS allowed FROM quota WHERE company = ? AND region = ? AND factor = ?`,
			company, region, f).Scan(ctx, &row); err != nil {
			return fmt.Errorf("quota %s of tenant %d in %s: %w", f, company, region, err)
		}
		return retcode.QuotaExceeded.Errorf("%d more %s wanted, %d of %d used", a[f], countedAs(f).Words, row.Used, row.Allowed)
	}
	return nil
}

// Release gives back what Reserve took.
func (s *Service) Release(ctx context.Context, tx bun.Tx, company int64, region string, a Amounts) error {
	a, _ = a.divided()
	factors, given, args := a.statement(-1)
	if len(factors) == 0 {
		return nil
	}
	_, err := tx.NewRaw(`UPDATE quota SET used = used + `+given+` WHERE company = ? AND region = ? AND factor IN (?)`,
		slices.Concat(args, []any{company, region, bun.In(factors)})...).Exec(ctx)
	return err
}

// allowance of a quota row: its own, or the default until somebody edited it.
const allowance = `coalesce(allowance, (SELECT value FROM quota_default d WHERE d.region = quota.region AND d.factor = quota.factor))`

// negative turns what is given back into what is taken.
func (a Amounts) negative() Amounts {
	n := make(Amounts, len(a))
	for f, v := range a {
		n[f] = -v
	}
	return n
}

// statement returns the factors with an amount in a fixed order, and an expression for the signed
// amount of a row with its arguments.
func (a Amounts) statement(sign int64) (factors []Factor, expression string, args []any) {
	for f, n := range a {
		if n != 0 {
			factors = append(factors, f)
		}
	}
	slices.Sort(factors)
	expression = "CASE factor"
	for _, f := range factors {
		expression += " WHEN ? THEN ?"
		args = append(args, f, sign*a[f])
	}
	return factors, expression + " ELSE 0 END", args
}

// Usage is what a tenant may use and uses of a factor.
type Usage struct {
	Company    int64  `bun:"company"`
	Region     string `bun:"region"`
	Factor     Factor `bun:"factor"`
	Used       int64  `bun:"used"`
	Allowed    int64  `bun:"allowed"`
	Allocation string `bun:"allocation"`
}

// Usages lists all quotas, for the check that recomputes them from the resources.
func (s *Service) Usages(ctx context.Context) ([]Usage, error) {
	var usages []Usage
	err := s.DB.Reader().NewRaw(`SELECT company, region, factor, used, `+allowance+` AS allowed FROM quota ORDER BY company, region, factor`).Scan(ctx, &usages)
	return usages, err
}

// SetAllowance edits a tenant's quota, which is not divided among sets then: QuotaNotFound (17006) where the tenant has
// none, QuotaBelowUsage (17008).
func (s *Service) SetAllowance(ctx context.Context, company int64, region string, f Factor, value int64) error {
	return s.allow(ctx, company, region, f, &value, nil)
}

// resetAllowance lets a tenant's quota follow the default again, with the codes of SetAllowance.
func (s *Service) resetAllowance(ctx context.Context, company int64, region string, f Factor) error {
	return s.allow(ctx, company, region, f, nil, nil)
}

// allow gives a tenant's quota a value and an allocation of its own, or with nil the default's, unless more is used.
func (s *Service) allow(ctx context.Context, company int64, region string, f Factor, value *int64, a Allocation) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		var rows []limited
		if err := tx.NewRaw(`UPDATE quota SET allowance = ?, allocation = ?, updated_at = ? WHERE company = ? AND region = ? AND factor = ?
			RETURNING factor, used, `+allotment+` AS allocation, `+allowance+` AS allowed`, value, a.text(), s.Clock.Micros(), company, region, f).Scan(ctx, &rows); err != nil {
			return err
		}
		if len(rows) == 0 {
			return retcode.QuotaNotFound.Errorf("tenant %d has no quota %s in %s", company, f, region)
		}
		q := rows[0]
		if q.Used > q.Allowed {
			return retcode.QuotaBelowUsage.Errorf("the tenant uses %d %s", q.Used, countedAs(f).Words)
		}
		set, used, _, err := s.overdrawn(ctx, tx, company, region, q, nil)
		if err == nil && set != "" {
			err = retcode.QuotaBelowUsage.Errorf("the tenant uses %d %s in %s", used, countedAs(f).Words, set)
		}
		return err
	})
}

// setDefault edits a default. It may go below what tenants use: that only keeps them from taking more.
func (s *Service) setDefault(ctx context.Context, region string, f Factor, value int64, a Allocation) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&quotaDefault{Region: region, Factor: f, Value: value, Allocation: a.text(), UpdatedAt: s.Clock.Micros()}).
			On("CONFLICT (region, factor) DO UPDATE").Set("value = EXCLUDED.value").Set("allocation = EXCLUDED.allocation").
			Set("updated_at = EXCLUDED.updated_at").Exec(ctx)
		return err
	})
}
