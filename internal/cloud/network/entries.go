package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/uptrace/bun"
	"go4.org/netipx"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Limits of IP and port groups. Ranges may come down to many prefixes; what the network has to hold is bounded.
const (
	maxEntries  = 100
	maxPrefixes = 1000
)

// States of IP and port groups, as lists spell them.
const (
	entriesAvailable = "available"
	entriesUpdating  = "updating" // new entries on their way to the hosts
)

// Kinds of entry groups, and the prefixes of their ids.
const (
	ofAddresses = "ip"
	ofPorts     = "port"

	ipGroupPrefix   = "ipgroup-"
	portGroupPrefix = "portgroup-"
)

// entryGroup is a row of IP and port groups.
type entryGroup struct {
	bun.BaseModel `bun:"table:entry_group"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	Kind       string `bun:"kind"`
	Entries    string `bun:"entries"`
	State      string `bun:"state"`
	Reason     string `bun:"reason"`
	ReasonCode int    `bun:"reason_code"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// parseEntries reads the entries of a kind into their canonical form: 4 malformed, 113 out of range or too many.
func parseEntries(kind, text string) (string, error) {
	var items []string
	for _, item := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	if len(items) == 0 {
		return "", retcode.InvalidParameter.Errorf("Rules: there is no entry")
	}
	if len(items) > maxEntries {
		return "", retcode.InvalidParameter.Errorf("Rules: a group has at most %d entries", maxEntries)
	}
	for i, item := range items {
		var err error
		if kind == ofAddresses {
			items[i], err = parseAddressEntry(item)
		} else {
			items[i], err = parsePortEntry(item)
		}
		if err != nil {
			return "", err
		}
	}
	slices.Sort(items)
	canonical := strings.Join(slices.Compact(items), ",")
	if kind == ofAddresses {
		ps, err := prefixesOf(canonical)
		if err != nil {
			return "", err
		}
		if len(ps) > maxPrefixes {
			return "", retcode.InvalidParameter.Errorf("Rules: the entries come down to %d networks, at most %d are possible", len(ps), maxPrefixes)
		}
	}
	return canonical, nil
}

// parseAddressEntry reads an address, a CIDR or a range first-last.
func parseAddressEntry(item string) (string, error) {
	if first, last, ranged := strings.Cut(item, "-"); ranged {
		r, err := netipx.ParseIPRange(strings.TrimSpace(first) + "-" + strings.TrimSpace(last))
		if err != nil || r.From().Zone() != "" || r.From().Is4In6() {
			return "", retcode.InvalidParameterFormat.Errorf("Rules: %q is no range of addresses, first-last", item)
		}
		return r.String(), nil
	}
	prefix, err := netip.ParsePrefix(item)
	if err != nil {
		addr, err := netip.ParseAddr(item)
		if err != nil || addr.Zone() != "" {
			return "", retcode.InvalidParameterFormat.Errorf("Rules: %q is no address, CIDR or range", item)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return "", retcode.InvalidParameterFormat.Errorf("Rules: %q is an IPv4 address in IPv6 form", item)
	}
	return prefix.Masked().String(), nil
}

// parsePortEntry reads protocol:port or protocol:first-last, TCP or UDP.
func parsePortEntry(item string) (string, error) {
	protocol, ports, ok := strings.Cut(item, ":")
	protocol = strings.ToUpper(strings.TrimSpace(protocol))
	if !ok || protocol != protoTCP && protocol != protoUDP {
		return "", retcode.InvalidParameterFormat.Errorf("Rules: %q is not of the form TCP:port or UDP:first-last", item)
	}
	ranges, err := parsePorts(item, ports)
	if err != nil {
		return "", err
	}
	return protocol + ":" + formatPorts(ranges), nil
}

// prefixesOf are the networks that canonical entries of addresses come down to.
func prefixesOf(entries string) ([]netip.Prefix, error) {
	var b netipx.IPSetBuilder
	for _, item := range strings.Split(entries, ",") {
		if r, err := netipx.ParseIPRange(item); err == nil {
			b.AddRange(r)
		} else if p, err := netip.ParsePrefix(item); err == nil {
			b.AddPrefix(p)
		} else {
			return nil, fmt.Errorf("entry %q: %w", item, err)
		}
	}
	set, err := b.IPSet()
	if err != nil {
		return nil, err
	}
	return set.Prefixes(), nil
}

// portsOf are the ranges of one protocol that canonical entries of ports name.
func portsOf(entries, protocol string) ([]fabric.PortRange, error) {
	var texts []string
	for _, item := range strings.Split(entries, ",") {
		if p, ports, _ := strings.Cut(item, ":"); p == protocol {
			texts = append(texts, ports)
		}
	}
	if len(texts) == 0 {
		return nil, nil
	}
	return parsePorts(entries, strings.Join(texts, ","))
}

// references are the ids of the IP and port groups that rules name.
func references(rules []ruleRow) []string {
	var ids []string
	for i := range rules {
		ids = append(ids, rules[i].ipGroup(), rules[i].portGroup())
	}
	return uniq(ids)
}

func (r *ruleRow) ipGroup() string   { return prefixed(r.Remote, ipGroupPrefix) }
func (r *ruleRow) portGroup() string { return prefixed(r.Ports, portGroupPrefix) }

func prefixed(text, prefix string) string {
	if strings.HasPrefix(text, prefix) {
		return text
	}
	return ""
}

// entryGroups reads groups by their ids.
func entryGroups(ctx context.Context, idb bun.IDB, ids []string) (map[string]*entryGroup, error) {
	out := make(map[string]*entryGroup)
	if len(ids) == 0 {
		return out, nil
	}
	var rows []*entryGroup
	err := idb.NewSelect().Model(&rows).Where("id IN (?)", bun.In(ids)).Scan(ctx)
	for _, g := range rows {
		out[g.ID] = g
	}
	return out, err
}

// checkReferences refuses rules that name groups which the owner of the rules does not have (200), or groups of
// ports without one of the rule's protocol (113). It keeps the groups from being deleted until the transaction ends.
func checkReferences(ctx context.Context, tx bun.Tx, g *Group, rules []ruleRow) error {
	ids := references(rules)
	for _, id := range ids {
		ok, err := changed(tx.NewRaw("UPDATE entry_group SET generation = generation WHERE id = ? AND region = ? AND company = ?", id, g.Region, g.Company).Exec(ctx))
		if err != nil {
			return err
		}
		if !ok {
			return retcode.ResourceNotFound.Errorf("%s", id)
		}
	}
	groups, err := entryGroups(ctx, tx, ids)
	if err != nil {
		return err
	}
	for i := range rules {
		if id := rules[i].portGroup(); id != "" {
			if ranges, err := portsOf(groups[id].Entries, rules[i].Protocol); err != nil || len(ranges) == 0 {
				return errors.Join(err, retcode.InvalidParameter.Errorf("%s has no port of %s", id, rules[i].Protocol))
			}
		}
	}
	return nil
}

// entryGroupByID reads a group of a kind and a scope: 200 when unknown or out of it.
func entryGroupByID(ctx context.Context, idb bun.IDB, scope action.Scope, kind, id string) (*entryGroup, error) {
	g := new(entryGroup)
	found, err := one(identity.Own(idb.NewSelect().Model(g).Where("id = ? AND kind = ?", id, kind), scope).Scan(ctx))
	if err == nil && !found {
		err = retcode.ResourceNotFound.Errorf("%s", id)
	}
	return g, err
}

// referrers are the security groups that name an entry group.
func referrers(ctx context.Context, idb bun.IDB, ids ...string) (map[string][]string, error) {
	var rows []struct{ ID, SGID string }
	if err := idb.NewRaw(`SELECT remote AS id, sg_id AS sgid FROM sg_rule WHERE remote IN (?0) UNION ALL SELECT ports, sg_id FROM sg_rule WHERE ports IN (?0)`,
		bun.In(ids)).Scan(ctx, &rows); err != nil {
		return nil, err
	}
	out := make(map[string][]string)
	for _, r := range rows {
		out[r.ID] = append(out[r.ID], r.SGID)
	}
	return out, nil
}

// entryChange is the state of new entries of a group that rules name.
type entryChange struct {
	Group  string
	Before string // entries
}

func (s *Service) registerEntries() {
	s.entries = workflow.Register(s.Engine, workflow.Definition[entryChange]{
		Name: "entries.update",
		Steps: []workflow.Step[entryChange]{{
			Name: "program", Deadline: programTimeout,
			Do: func(ctx context.Context, c *entryChange) error { return s.programSGs(ctx, c.sgs(s)) },
			Undo: func(ctx context.Context, c *entryChange) error {
				if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return restoreEntries(ctx, tx, c) }); err != nil {
					return err
				}
				return s.syncSGs(ctx, c.sgs(s))
			},
		}},
		Settle: func(ctx context.Context, tx bun.Tx, c *entryChange) error {
			return s.settleEntries(ctx, tx, c.Group, nil)
		},
		Abort: func(ctx context.Context, tx bun.Tx, c *entryChange, cause error) error {
			if err := restoreEntries(ctx, tx, c); err != nil {
				return err
			}
			return s.settleEntries(ctx, tx, c.Group, cause)
		},
	})
}

// sgs finds the security groups that name the group when it is called.
func (c *entryChange) sgs(s *Service) func(ctx context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		by, err := referrers(ctx, s.DB.Reader(), c.Group)
		return uniq(by[c.Group]), err
	}
}

func restoreEntries(ctx context.Context, tx bun.Tx, c *entryChange) error {
	_, err := tx.NewRaw("UPDATE entry_group SET entries = ? WHERE id = ? AND state = ?", c.Before, c.Group, entriesUpdating).Exec(ctx)
	return err
}

func (s *Service) settleEntries(ctx context.Context, tx bun.Tx, id string, cause error) error {
	code, detail := explanation(cause)
	_, err := tx.NewRaw("UPDATE entry_group SET state = ?, reason_code = ?, reason = ?, updated_at = ?, generation = generation + 1 WHERE id = ? AND state = ?",
		entriesAvailable, code, detail, s.Clock.Micros(), id, entriesUpdating).Exec(ctx)
	return err
}

// loadSets reads what the rules of a VPC's groups name: address sets by id, and all groups for their ports.
func loadSets(ctx context.Context, db bun.IDB, rules []ruleRow) ([]fabric.Set, map[string]*entryGroup, error) {
	groups, err := entryGroups(ctx, db, references(rules))
	if err != nil {
		return nil, nil, err
	}
	var sets []fabric.Set
	for _, g := range groups {
		if g.Kind != ofAddresses {
			continue
		}
		ps, err := prefixesOf(g.Entries)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", g.ID, err)
		}
		sets = append(sets, fabric.Set{ID: g.ID, Prefixes: ps})
	}
	slices.SortFunc(sets, func(a, b fabric.Set) int { return cmp.Compare(a.ID, b.ID) })
	return sets, groups, nil
}
