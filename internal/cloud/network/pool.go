package network

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/uptrace/bun"
)

// span is an inclusive range of offsets within a network.
type span [2]int64

// pool hands out the addresses of a network, one row of address each. Its row (in table) counts
// them and is written first by whoever takes or gives back, so that the count never drifts and
// takers of one pool queue up there instead of meeting at an address.
type pool struct {
	table string // subnet, segment
	id    string
	cidr  netip.Prefix
	spans []span // what is handed out: ascending, apart from each other
}

// errExhausted: the pool has no free address. errTaken: the wanted one is somebody's.
var (
	errExhausted = errors.New("network: no free address")
	errTaken     = errors.New("network: the address is taken")
)

// subnetSpans are the offsets that a subnet hands out: not the network, the gateway, the one kept for
// services (the second, or the first when the gateway is the second) and the broadcast address. A /29
// has 4, a /24 252.
func subnetSpans(cidr netip.Prefix, gateway int64) []span {
	service := int64(2)
	if gateway == service {
		service = 1
	}
	from, to := int64(1), size(cidr)-2
	var out []span
	for _, kept := range []int64{min(gateway, service), max(gateway, service)} {
		if from < kept {
			out = append(out, span{from, kept - 1})
		}
		from = kept + 1
	}
	if from <= to {
		out = append(out, span{from, to})
	}
	return out
}

// size is the number of addresses of an IPv4 network.
func size(cidr netip.Prefix) int64 { return 1 << (32 - cidr.Bits()) }

func capacity(spans []span) (n int64) {
	for _, s := range spans {
		n += s[1] - s[0] + 1
	}
	return n
}

// nth is the address at an offset of an IPv4 network.
func nth(cidr netip.Prefix, num int64) netip.Addr {
	a := cidr.Masked().Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(num))
	return netip.AddrFrom4(a)
}

// offset is the inverse of nth.
func offset(cidr netip.Prefix, ip netip.Addr) int64 {
	a, b := cidr.Masked().Addr().As4(), ip.As4()
	return int64(binary.BigEndian.Uint32(b[:])) - int64(binary.BigEndian.Uint32(a[:]))
}

// hands tells whether the pool hands out an offset.
func (p *pool) hands(num int64) bool {
	for _, s := range p.spans {
		if s[0] <= num && num <= s[1] {
			return true
		}
	}
	return false
}

func (sn *Subnet) pool() (*pool, error) {
	cidr, err := netip.ParsePrefix(sn.CIDR)
	if err != nil {
		return nil, fmt.Errorf("subnet %s: %w", sn.ID, err)
	}
	gateway := sn.gateway(cidr)
	if !cidr.Contains(gateway) {
		return nil, fmt.Errorf("subnet %s: gateway %q is outside", sn.ID, sn.Gateway)
	}
	return &pool{"subnet", sn.ID, cidr, subnetSpans(cidr, offset(cidr, gateway))}, nil
}

// gateway is the router's address.
func (sn *Subnet) gateway(cidr netip.Prefix) netip.Addr {
	if sn.Gateway == "" {
		return nth(cidr, 1)
	}
	a, _ := netip.ParseAddr(sn.Gateway)
	return a
}

func (sg *Segment) pool() (*pool, error) {
	p := &pool{table: "segment", id: sg.ID}
	var err error
	if p.cidr, err = netip.ParsePrefix(sg.CIDR); err != nil {
		return nil, fmt.Errorf("segment %s: %w", sg.ID, err)
	}
	if err := json.Unmarshal([]byte(sg.Ranges), &p.spans); err != nil {
		return nil, fmt.Errorf("segment %s: %w", sg.ID, err)
	}
	return p, nil
}

// takeAt takes one given offset; errTaken when somebody has it.
func (p *pool) takeAt(ctx context.Context, tx bun.Tx, num int64, kind, owner string) error {
	if _, err := tx.NewRaw("UPDATE ? SET used = used + 1 WHERE id = ?", bun.Ident(p.table), p.id).Exec(ctx); err != nil {
		return err
	}
	ok, err := p.insert(ctx, tx, num, kind, owner)
	if err == nil && !ok {
		err = errTaken
	}
	return err
}

// take takes the next free offset after the one taken last, going round, so that an address is
// not given to somebody else right after its release. errExhausted when there is none.
func (p *pool) take(ctx context.Context, tx bun.Tx, kind, owner string) (int64, error) {
	var position int64
	err := tx.NewRaw("UPDATE ? SET used = used + 1 WHERE id = ? AND used < capacity RETURNING position", bun.Ident(p.table), p.id).Scan(ctx, &position)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, errExhausted
	}
	if err != nil {
		return 0, err
	}
	num, err := p.next(ctx, tx, position)
	if err != nil {
		return 0, err
	}
	if ok, err := p.insert(ctx, tx, num, kind, owner); err != nil {
		return 0, err
	} else if !ok {
		return 0, fmt.Errorf("offset %d of %s was taken past its pool", num, p.id)
	}
	_, err = tx.NewRaw("UPDATE ? SET position = ? WHERE id = ?", bun.Ident(p.table), num+1, p.id).Exec(ctx)
	return num, err
}

// next is the first free offset from position on, going round.
func (p *pool) next(ctx context.Context, tx bun.Tx, position int64) (int64, error) {
	var after, before []span
	for _, s := range p.spans {
		if s[1] >= position {
			after = append(after, span{max(s[0], position), s[1]})
		}
		if s[0] < position {
			before = append(before, span{s[0], min(s[1], position-1)})
		}
	}
	for _, s := range append(after, before...) {
		var num sql.NullInt64
		// The first of the span, or the end of the run of taken ones that it is in. Both are found in
		// the primary key; position keeps the run short.
		err := tx.NewRaw(`SELECT CASE WHEN NOT EXISTS (SELECT 1 FROM address WHERE pool = ?0 AND num = ?1) THEN ?1 ELSE (
			SELECT a.num + 1 FROM address AS a WHERE a.pool = ?0 AND a.num >= ?1 AND a.num < ?2
			AND NOT EXISTS (SELECT 1 FROM address AS b WHERE b.pool = a.pool AND b.num = a.num + 1)
			ORDER BY a.num LIMIT 1) END`, p.id, s[0], s[1]).Scan(ctx, &num)
		if err != nil {
			return 0, err
		}
		if num.Valid {
			return num.Int64, nil
		}
	}
	return 0, fmt.Errorf("%s counts a free address and has none", p.id)
}

func (p *pool) insert(ctx context.Context, tx bun.Tx, num int64, kind, owner string) (bool, error) {
	return changed(tx.NewRaw("INSERT INTO address (pool, num, owner_kind, owner_id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
		p.id, num, kind, owner).Exec(ctx))
}

// lock keeps others out of the pool until the transaction ends. Whoever will need the pool takes it before
// rows that others hold when they come for it: else two transactions could wait for each other.
func (p *pool) lock(ctx context.Context, tx bun.Tx) error {
	_, err := tx.NewRaw("UPDATE ? SET used = used WHERE id = ?", bun.Ident(p.table), p.id).Exec(ctx)
	return err
}

// give frees an offset if the owner has it. Giving twice is no error.
func (p *pool) give(ctx context.Context, tx bun.Tx, num int64, kind, owner string) error {
	if err := p.lock(ctx, tx); err != nil {
		return err
	}
	ok, err := changed(tx.NewRaw("DELETE FROM address WHERE pool = ? AND num = ? AND owner_kind = ? AND owner_id = ?",
		p.id, num, kind, owner).Exec(ctx))
	if err != nil || !ok {
		return err
	}
	_, err = tx.NewRaw("UPDATE ? SET used = used - 1 WHERE id = ?", bun.Ident(p.table), p.id).Exec(ctx)
	return err
}

// changed tells whether a statement touched a row.
func changed(r sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}
