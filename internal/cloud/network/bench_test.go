package network

import (
	"context"
	"fmt"
	"testing"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// BenchmarkSyncVPC syncs VPCs of different sizes with a fabric in memory, which renders as the real one does.
func BenchmarkSyncVPC(b *testing.B) {
	for _, ports := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(ports), func(b *testing.B) {
			f := newFixture(b, dbtest.SQLite(b))
			f.transact(b, func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.NewRaw("UPDATE subnet SET cidr = '10.0.0.0/16', capacity = 65532").Exec(ctx)
				return err
			})
			v, n, _ := f.network(b)
			f.transact(b, func(ctx context.Context, tx bun.Tx) error {
				for i := range ports {
					if _, err := f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: n.ID, Owner: Owner{VM, fmt.Sprint(i)}}); err != nil {
						return err
					}
				}
				return nil
			})
			for b.Loop() {
				if err := f.SyncVPC(context.Background(), v.ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReservePort reserves and releases an address in one transaction.
func BenchmarkReservePort(b *testing.B) {
	f := newFixture(b, dbtest.SQLite(b))
	v, n, _ := f.network(b)
	for b.Loop() {
		f.transact(b, func(ctx context.Context, tx bun.Tx) error {
			p, err := f.ReservePort(ctx, tx, PortRequest{Scope: action.Scope{Region: region, Company: company}, VPCID: v.ID, SubnetID: n.ID, Owner: Owner{VM, "vm-one"}})
			if err != nil {
				return err
			}
			return f.ReleasePort(ctx, tx, p.ID)
		})
	}
}
