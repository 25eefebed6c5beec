package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/ledger"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

// money measures the ledger alone on a SQLite file: what the price of a million hours takes, and renewals that are
// written with their orders, movements and balances.
func (b *bench) money() error {
	ctx := context.Background()
	db, err := database.Open(ctx, database.Options{Dir: filepath.Join(b.dir)})
	if err != nil {
		return err
	}
	defer db.Close()
	now := clock.New()
	const company, resources, hours = 300000001, 1000, 1000
	s := ledger.New(ledger.Deps{DB: db, Clock: now, Catalog: catalog.New(catalog.Deps{DB: db, Clock: now})})
	s.Register(ledger.Kind{Name: ledger.VM})
	if err := db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.Furnish(ctx, tx, company, catalog.DefaultRegion) }); err != nil {
		return err
	}
	if err := s.Grant(ctx, company, 100_000_000); err != nil {
		return err
	}
	buys := make([]ledger.Purchase, resources)
	ids := make([]string, resources)
	for i := range buys {
		ids[i] = fmt.Sprintf("vm-%04d", i)
		buys[i] = ledger.Purchase{Kind: ledger.VM, ID: ids[i], Name: ids[i], Company: company, Region: catalog.DefaultRegion, ChargeType: ledger.Hourly,
			Quantity: 1, AutoRenew: true, Items: append(catalog.VMItems("A", 1+i%16, 1024*(1+i%32), 0), catalog.DiskItem("B", 40+i%100))}
	}
	rate := s.Rater(ctx, db.Reader())
	var total ledger.Money
	begun := time.Now()
	for range hours {
		for i := range buys {
			price, err := rate(buys[i])
			if err != nil {
				return err
			}
			total += price
		}
	}
	b.print(figure{Name: "rating 1,000,000 resource-hours", Database: "sqlite", Value: time.Since(begun).Seconds(), Unit: "s",
		Note: fmt.Sprintf("1,000 machines, %.0f yuan", total.Float())})
	for at := 0; at < resources; at += 500 {
		if err := db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			if err := s.Hold(ctx, tx, buys[at:at+500]...); err != nil {
				return err
			}
			return s.Capture(ctx, tx, ids[at:at+500]...)
		}); err != nil {
			return err
		}
	}
	const days = 1
	now.Advance(days * 24 * time.Hour)
	begun = time.Now()
	if err := s.Renewals(ctx); err != nil {
		return err
	}
	b.print(figure{Name: "renewals written", Database: "sqlite", Value: resources * days * 24 / time.Since(begun).Seconds(), Unit: "/s",
		Note: "1,000 hourly machines, a day; order, movement, transfer and balance each"})
	problems, err := ledger.Verify(ctx, db.Reader())
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("the ledger is wrong: %v", problems)
	}
	return err
}
