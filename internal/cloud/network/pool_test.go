package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/uptrace/bun"
	"pgregory.net/rapid"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestSubnetSizes(t *testing.T) {
	for bits, want := range map[int]int64{29: 4, 28: 12, 24: 252, 16: 65532} {
		cidr := netip.PrefixFrom(netip.MustParseAddr("10.1.0.0"), bits)
		for _, gateway := range []int64{1, 2, 3, size(cidr) - 2} {
			spans := subnetSpans(cidr, gateway)
			if got := capacity(spans); got != want {
				t.Errorf("/%d with gateway %d has %d addresses, want %d", bits, gateway, got, want)
			}
			if p := (&pool{spans: spans}); p.hands(gateway) || p.hands(0) || p.hands(size(cidr)-1) {
				t.Errorf("/%d with gateway %d hands out %v", bits, gateway, spans)
			}
		}
	}
}

func TestSegmentRanges(t *testing.T) {
	cidr, addr := netip.MustParsePrefix, netip.MustParseAddr
	for name, c := range map[string]struct {
		config SegmentConfig
		want   []span
	}{
		"gateway first":      {SegmentConfig{CIDR: cidr("198.51.100.0/29"), Gateway: addr("198.51.100.1")}, []span{{2, 6}}},
		"gateway in the mid": {SegmentConfig{CIDR: cidr("198.51.100.0/29"), Gateway: addr("198.51.100.4")}, []span{{1, 3}, {5, 6}}},
		"no gateway":         {SegmentConfig{CIDR: cidr("198.51.100.0/29")}, []span{{1, 6}}},
		"bounded":            {SegmentConfig{CIDR: cidr("198.51.100.0/24"), Gateway: addr("198.51.100.1"), First: addr("198.51.100.10"), Last: addr("198.51.100.19")}, []span{{10, 19}}},
	} {
		row, err := c.config.row()
		if err != nil {
			t.Fatal(err)
		}
		if p, err := row.pool(); err != nil || fmt.Sprint(p.spans) != fmt.Sprint(c.want) || row.Capacity != capacity(c.want) {
			t.Errorf("%s: got %v of %d, %v, want %v", name, row.Ranges, row.Capacity, err, c.want)
		}
	}
	for name, c := range map[string]SegmentConfig{
		"IPv6":            {CIDR: cidr("2001:db8::/64")},
		"host bits":       {CIDR: cidr("198.51.100.1/24")},
		"foreign gateway": {CIDR: cidr("198.51.100.0/24"), Gateway: addr("192.0.2.1")},
		"too small":       {CIDR: cidr("198.51.100.0/31")},
		"nothing left":    {CIDR: cidr("198.51.100.0/24"), Gateway: addr("198.51.100.7"), First: addr("198.51.100.7"), Last: addr("198.51.100.7")},
	} {
		if row, err := c.row(); err == nil {
			t.Errorf("%s: got %v, want a refusal", name, row)
		}
	}
}

// addSubnet makes a subnet in the tenant's VPC past the API, which has no action for it yet.
func (f *fixture) addSubnet(t *testing.T, id, cidr string) *Subnet {
	t.Helper()
	v, _, _ := f.network(t)
	spans := subnetSpans(netip.MustParsePrefix(cidr), 1)
	n := &Subnet{ID: id, VPCID: v.ID, Region: region, Company: company, Name: id, CIDR: cidr, State: Available, Capacity: capacity(spans), Position: spans[0][0]}
	f.transact(t, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(n).Exec(ctx)
		return err
	})
	return n
}

// TestAddressesAreCountedExactly runs random histories of reserving, releasing, exact wishes and
// transactions that are rolled back against a model.
func TestAddressesAreCountedExactly(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		v, _, _ := f.network(t)
		n := 0
		rapid.Check(t, func(r *rapid.T) {
			n++
			bits := rapid.SampledFrom([]int{29, 28}).Draw(r, "bits")
			cidr := fmt.Sprintf("10.0.%d.%d/%d", 1+n/16, n%16*16, bits)
			subnet := f.addSubnet(t, fmt.Sprintf("subnet-%d", n), cidr)
			prefix := netip.MustParsePrefix(cidr)
			held := map[string]*Port{}
			errRollback := errors.New("rolled back")
			for range rapid.IntRange(1, 30).Draw(r, "steps") {
				commit := rapid.IntRange(0, 3).Draw(r, "commit") > 0
				ip := ""
				var release *Port
				switch rapid.IntRange(0, 2).Draw(r, "what") {
				case 0: // any
				case 1:
					ip = nth(prefix, int64(rapid.IntRange(0, int(size(prefix))).Draw(r, "num"))).String()
				case 2:
					for _, p := range held {
						if release == nil || p.IP < release.IP {
							release = p
						}
					}
					if release == nil {
						continue
					}
				}
				var got *Port
				err := f.DB.Transact(context.Background(), func(ctx context.Context, tx bun.Tx) (err error) {
					if release != nil {
						err = f.ReleasePort(ctx, tx, release.ID)
					} else {
						got, err = f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: subnet.ID, IP: ip, Owner: Owner{VM, "vm-1"}})
					}
					if err == nil && !commit {
						err = errRollback
					}
					return err
				})
				if release != nil {
					if err == nil {
						delete(held, release.IP)
					} else if !errors.Is(err, errRollback) {
						r.Fatal(err)
					}
					continue
				}
				want := retcode.OK
				if ip == "" {
					if int64(len(held)) == subnet.Capacity {
						want = retcode.SubnetIPInsufficient
					}
				} else {
					num := offset(prefix, netip.MustParseAddr(ip))
					switch {
					case num >= size(prefix):
						want = retcode.IPOutOfSegment
					case num < 3 || num == size(prefix)-1:
						want = retcode.IPReserved
					case held[ip] != nil:
						want = retcode.IPAlreadyAllocated
					}
				}
				switch {
				case want != retcode.OK:
					if retcode.Of(err) != want {
						r.Fatalf("reserving %q of %s with %d held: %v, want %d", ip, cidr, len(held), err, want)
					}
				case errors.Is(err, errRollback):
				case err != nil:
					r.Fatal(err)
				case held[got.IP] != nil:
					r.Fatalf("%s was given twice", got.IP)
				case ip != "" && got.IP != ip:
					r.Fatalf("wanted %s, got %s", ip, got.IP)
				default:
					held[got.IP] = got
				}
				var used int64
				if err := f.DB.Reader().NewSelect().Model((*Subnet)(nil)).Column("used").Where("id = ?", subnet.ID).Scan(context.Background(), &used); err != nil {
					r.Fatal(err)
				}
				if used != int64(len(held)) {
					r.Fatalf("%d counted, %d held", used, len(held))
				}
			}
		})
		f.verify(t)
	})
}

// TestAddressesUnderConcurrency lets more takers than there are addresses come at once.
func TestAddressesUnderConcurrency(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		v, _, _ := f.network(t)
		subnet := f.addSubnet(t, "subnet-busy", "10.0.9.0/28") // 12 addresses
		var mu sync.Mutex
		got := map[string]bool{}
		refused := 0
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				ip := ""
				if i%4 == 0 { // exact wishes among them
					ip = fmt.Sprintf("10.0.9.%d", 3+i/4)
				}
				for {
					var port *Port
					err := f.DB.Transact(context.Background(), func(ctx context.Context, tx bun.Tx) (err error) {
						port, err = f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: subnet.ID, IP: ip, Owner: Owner{VM, "vm-1"}})
						return err
					})
					mu.Lock()
					defer mu.Unlock()
					switch code := retcode.Of(err); {
					case err == nil && got[port.IP]:
						t.Errorf("%s was given twice", port.IP)
					case err == nil:
						got[port.IP] = true
					case code == retcode.SubnetIPInsufficient, code == retcode.IPAlreadyAllocated:
						refused++
					default:
						t.Error(err)
					}
					return
				}
			})
		}
		all.Wait()
		if len(got)+refused != 20 || len(got) > 12 {
			t.Errorf("%d given and %d refused of 20, 12 there", len(got), refused)
		}
		f.verify(t)
	})
}

// TestLargeSubnetIsQuick fills a /16 past the API and takes what is left; it must not read it through.
func TestLargeSubnetIsQuick(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		f := newFixture(t, db)
		subnet := f.addSubnet(t, "subnet-large", "172.16.0.0/16")
		free := []int64{5, 40000, 65534}
		f.transact(t, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewRaw(`INSERT INTO address (pool, num, owner_kind, owner_id)
				WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 65534)
				SELECT ?, i, 'test', '' FROM n WHERE i NOT IN (?)`, subnet.ID, bun.In(free)).Exec(ctx)
			if err != nil {
				return err
			}
			_, err = tx.NewRaw("UPDATE subnet SET used = ? WHERE id = ?", subnet.Capacity-int64(len(free)), subnet.ID).Exec(ctx)
			return err
		})
		p, err := subnet.pool()
		if err != nil {
			t.Fatal(err)
		}
		f.transact(t, func(ctx context.Context, tx bun.Tx) error {
			for _, want := range free {
				if num, err := p.take(ctx, tx, "test", ""); err != nil || num != want {
					t.Errorf("got %d, %v, want %d", num, err, want)
				}
			}
			if _, err := p.take(ctx, tx, "test", ""); !errors.Is(err, errExhausted) {
				t.Errorf("got %v, want exhausted", err)
			}
			// One comes back behind the position: the search goes round.
			if err := p.give(ctx, tx, 17, "test", ""); err != nil {
				return err
			}
			if num, err := p.take(ctx, tx, "test", ""); err != nil || num != 17 {
				t.Errorf("got %d, %v, want 17", num, err)
			}
			return nil
		})
	})
}
