package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Allocation divides a quota among sets: how much of it may be in each, by set id. A set that it does not name is
// held to the quota alone, as all are by an empty one.
type Allocation map[string]int64

// inSet stands between a factor and the set that Factor.In names.
const inSet = "@"

// In is a factor of a set, as a key of Amounts: what it counts is taken from the quota, and from what is allocated to
// the set.
func (f Factor) In(set string) Factor { return f + inSet + Factor(set) }

// divided splits amounts into what they take of each quota, and of each set's part of it.
func (a Amounts) divided() (total Amounts, parts map[Factor]Allocation) {
	total, parts = Amounts{}, map[Factor]Allocation{}
	for key, n := range a {
		name, set, in := strings.Cut(string(key), inSet)
		f := Factor(name)
		total[f] += n
		if in {
			if parts[f] == nil {
				parts[f] = Allocation{}
			}
			parts[f][set] += n
		}
	}
	return total, parts
}

// Division says in which sets the rows are that take of quotas. The rows have the columns company, region and set_id.
type Division struct {
	Kind ScopeKind // of the sets
	From string    // SQL: a table with a condition on the rows that count
	Sums map[Factor]string
}

// Divide makes quotas ones that can be divided among sets.
func (s *Service) Divide(d Division) { s.divisions = append(s.divisions, d) }

// OnSets sets what lists the sets of a region, by id (fleet).
func (s *Service) OnSets(f func(ctx context.Context, region string) (map[string]ScopeKind, error)) {
	s.sets = f
}

// division of a factor; nil: it is in no set.
func (s *Service) division(f Factor) *Division {
	for i := range s.divisions {
		if s.divisions[i].Sums[f] != "" {
			return &s.divisions[i]
		}
	}
	return nil
}

// spread tells how much of a factor a tenant has in each set.
func (s *Service) spread(ctx context.Context, idb bun.IDB, company int64, region string, f Factor) (Allocation, error) {
	spread := Allocation{}
	d := s.division(f)
	if d == nil {
		return spread, nil
	}
	var rows []struct {
		Set string `bun:"set_id"`
		N   int64  `bun:"n"`
	}
	err := idb.NewRaw(`SELECT set_id, `+d.Sums[f]+` AS n FROM `+d.From+` AND company = ? AND region = ? GROUP BY set_id`, company, region).Scan(ctx, &rows)
	for _, r := range rows {
		spread[r.Set] = r.N
	}
	return spread, err
}

// limited is a quota that was just changed, and so is held until the end of the transaction.
type limited struct {
	Factor     Factor `bun:"factor"`
	Used       int64  `bun:"used"`
	Allowed    int64  `bun:"allowed"`
	Allocation string `bun:"allocation"`
}

// allotment is the allocation of a quota row, which goes with its allowance.
const allotment = `CASE WHEN allowance IS NOT NULL THEN allocation
	ELSE coalesce((SELECT d.allocation FROM quota_default d WHERE d.region = quota.region AND d.factor = quota.factor), '{}') END`

// overdrawn finds a set in which a tenant has more than is allocated to it; "" for none. taking is what q counts already
// and no row says yet, by set: others are not looked at then; nil looks at all. What a set has is what is used beside
// what the rows say of the other sets: so what a machine that shrinks is to give back counts until it does.
func (s *Service) overdrawn(ctx context.Context, tx bun.Tx, company int64, region string, q limited, taking Allocation) (set string, used, allowed int64, err error) {
	allocated, err := parseAllocation(q.Allocation)
	if err != nil || len(allocated) == 0 {
		return "", 0, 0, err
	}
	spread, err := s.spread(ctx, tx, company, region, q.Factor)
	if err != nil {
		return "", 0, 0, err
	}
	for set, n := range taking {
		spread[set] += n
	}
	var all int64
	for _, n := range spread {
		all += n
	}
	for _, set := range slices.Sorted(maps.Keys(allocated)) {
		if taking != nil && taking[set] <= 0 {
			continue
		}
		if used = q.Used - (all - spread[set]); used > allocated[set] {
			return set, used, allocated[set], nil
		}
	}
	return "", 0, 0, nil
}

// parseAllocation reads an allocation from the database.
func parseAllocation(text string) (a Allocation, err error) {
	if text == "{}" {
		return nil, nil
	}
	if err = json.Unmarshal([]byte(text), &a); err != nil {
		err = fmt.Errorf("allocation %q: %w", text, err)
	}
	return a, err
}

// over divides the parts: they go from the factor's own unit into that of the wire.
func (a Allocation) over(per int64) Allocation {
	wire := Allocation{}
	for set, n := range a {
		wire[set] = n / per
	}
	return wire
}

// text is an allocation as the database has it.
func (a Allocation) text() string {
	if len(a) == 0 {
		return "{}"
	}
	b, _ := json.Marshal(a) // strings and numbers
	return string(b)
}

// checkAllocation reads what a request allocates of a quota, in units of the wire: 4 for what is no JSON object of
// numbers, 113 for a quota that is in no set and for more than the quota, 14009 for unknown sets and those of the other kind.
func (s *Service) checkAllocation(ctx context.Context, region string, f counted, text string, quota int64) (Allocation, error) {
	var a Allocation
	if err := json.Unmarshal([]byte(text), &a); err != nil || a == nil {
		return nil, retcode.InvalidParameterFormat.Errorf("Allocation is a JSON object of set ids and whole numbers")
	}
	if len(a) == 0 {
		return nil, nil
	}
	d := s.division(f.Factor)
	if d == nil {
		return nil, retcode.InvalidParameter.Errorf("Allocation: %s are in no set", f.Words)
	}
	sets, err := s.sets(ctx, region)
	if err != nil {
		return nil, err
	}
	for _, set := range slices.Sorted(maps.Keys(a)) {
		switch n := a[set]; {
		case sets[set] != d.Kind:
			return nil, retcode.SetNotFound.Errorf("Allocation: %s is no %s of this region", set, d.Kind)
		case n < 0 || n > quota:
			return nil, retcode.InvalidParameter.Errorf("Allocation of %s is 0 to %d, the quota", set, quota)
		}
		a[set] *= f.Per
	}
	return a, nil
}
