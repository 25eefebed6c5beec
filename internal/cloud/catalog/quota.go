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
	VM            Factor = "VM"             // virtual machines
	CPU           Factor = "CPU"            // cores of virtual machines
	Memory        Factor = "MEMORY"         // MiB of virtual machines
	Disk          Factor = "DISK"           // data disks
	DiskSpace     Factor = "DISK_SPACE"     // GB of system and data disks
	EIP           Factor = "EIP"            // public addresses
	SecurityGroup Factor = "SECURITY_GROUP" // security groups
	VPC           Factor = "VPC"
	Subnet        Factor = "SUBNET"
	NIC           Factor = "NIC"   // elastic NICs, not the VM's own
	Image         Factor = "IMAGE" // custom images
)

// factorWords name the factors in messages.
var factorWords = map[Factor]string{
	VM: "virtual machines", CPU: "CPU cores", Memory: "MiB of memory", Disk: "data disks", DiskSpace: "GB of disk space",
	EIP: "public addresses", SecurityGroup: "security groups", VPC: "VPCs", Subnet: "subnets", NIC: "network interfaces", Image: "custom images",
}

// Amounts says how much of each factor.
type Amounts map[Factor]int64

// Furnish opens a tenant's quotas in a region, in the transaction that creates the tenant.
func (s *Service) Furnish(ctx context.Context, tx bun.Tx, company int64, region string) error {
	_, err := tx.NewRaw(`INSERT INTO quota (company, region, factor, used) SELECT ?, ?, factor, 0 FROM quota_default
		WHERE TRUE ON CONFLICT (company, region, factor) DO NOTHING`, company, region).Exec(ctx)
	return err
}

// Reserve takes from the tenant's quotas in the caller's transaction, all or nothing; QuotaExceeded
// (17005) names the factor, what is allowed and what is used. After an error the transaction must be
// rolled back.
func (s *Service) Reserve(ctx context.Context, tx bun.Tx, company int64, region string, a Amounts) error {
	factors, wanted, args := a.statement(1)
	if len(factors) == 0 {
		return nil
	}
	var taken []Factor
	if err := tx.NewRaw(`UPDATE quota SET used = used + `+wanted+` WHERE company = ? AND region = ? AND factor IN (?)
		AND used + `+wanted+` <= `+allowance+` RETURNING factor`,
		slices.Concat(args, []any{company, region, bun.In(factors)}, args)...).Scan(ctx, &taken); err != nil {
		return err
	}
	for _, f := range factors {
		if slices.Contains(taken, f) {
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
		return retcode.QuotaExceeded.Errorf("%d more %s wanted, %d of %d used", a[f], factorWords[f], row.Used, row.Allowed)
	}
	return nil
}

// Release gives back what Reserve took.
func (s *Service) Release(ctx context.Context, tx bun.Tx, company int64, region string, a Amounts) error {
	factors, given, args := a.statement(-1)
	if len(factors) == 0 {
		return nil
	}
	_, err := tx.NewRaw(`UPDATE quota SET used = used + `+given+` WHERE company = ? AND region = ? AND factor IN (?)`,
		slices.Concat(args, []any{company, region, bun.In(factors)})...).Exec(ctx)
	return err
}

// allowance of a quota row: its own, or the default until somebody edited it.
const allowance = `coalesce(allowance, (SELECT value FROM quota_default d WHERE d.factor = quota.factor))`

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
	Company int64  `bun:"company"`
	Region  string `bun:"region"`
	Factor  Factor `bun:"factor"`
	Used    int64  `bun:"used"`
	Allowed int64  `bun:"allowed"`
}

// Usages lists all quotas, for the check that recomputes them from the resources.
func (s *Service) Usages(ctx context.Context) ([]Usage, error) {
	var usages []Usage
	err := s.DB.Reader().NewRaw(`SELECT company, region, factor, used, `+allowance+` AS allowed FROM quota ORDER BY company, region, factor`).Scan(ctx, &usages)
	return usages, err
}

// SetAllowance edits a tenant's quota.
func (s *Service) SetAllowance(ctx context.Context, company int64, region string, f Factor, value int64) error {
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		r, err := tx.NewRaw(`UPDATE quota SET allowance = ? WHERE company = ? AND region = ? AND factor = ? AND used <= ?`, value, company, region, f, value).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		found, err := tx.NewSelect().TableExpr("quota").Where("company = ? AND region = ? AND factor = ?", company, region, f).Exists(ctx)
		switch {
		case err != nil:
			return err
		case !found:
			return retcode.QuotaNotFound.Errorf("tenant %d has no quota %s in %s", company, f, region)
		default:
			return retcode.QuotaBelowUsage.Errorf("the tenant uses more than %d %s", value, factorWords[f])
		}
	})
}
