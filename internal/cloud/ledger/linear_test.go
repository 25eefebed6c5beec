package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// dealing is what a client asks of one tenant's balance and its quota of addresses.
type dealing struct {
	op    string // buy, void, end, pay, read
	price Money
}

// outcome is what it was told.
type outcome struct {
	code    retcode.Code
	balance Money
}

// purseModel is a balance and a number of addresses that at most may be had, as one thing: a purchase takes of both
// or of neither.
type purseModel struct {
	balance Money
	used    int
}

const addresses = 12

var model = porcupine.Model{
	Init: func() any { return purseModel{balance: 100_0000} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(purseModel), input.(dealing), output.(outcome)
		switch in.op {
		case "buy":
			switch {
			case s.used >= addresses:
				return out.code == retcode.QuotaExceeded, s
			case s.balance < in.price:
				return out.code == retcode.InsufficientBalance, s
			}
			return out.code == retcode.OK, purseModel{s.balance - in.price, s.used + 1}
		case "void":
			return out.code == retcode.OK, purseModel{s.balance + in.price, s.used - 1}
		case "end": // hourly: nothing comes back
			return out.code == retcode.OK, purseModel{s.balance, s.used - 1}
		case "pay":
			return out.code == retcode.OK, purseModel{s.balance + in.price, s.used}
		}
		return out.balance == s.balance, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// TestBuyersAreLinearizable: buyers at one balance and one quota at once see them as if one came after the other.
func TestBuyersAreLinearizable(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		histories, clients := 6, 5
		for n := range histories {
			f := newFixture(t, db, 0)
			tenant := company + 1000 + int64(n)
			f.must(t, func(ctx context.Context, tx bun.Tx) error {
				if err := f.Furnish(ctx, tx, tenant, region); err != nil {
					return err
				}
				if err := f.Catalog.Furnish(ctx, tx, tenant, region); err != nil {
					return err
				}
				return f.rechargeTx(ctx, tx, &recharge{Company: tenant, FromType: "OFFLINE", Type: real, Amount: 100_0000})
			})
			if err := f.Catalog.SetAllowance(t.Context(), tenant, region, catalog.EIP, addresses); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var history []porcupine.Operation
			begun := time.Now()
			var all sync.WaitGroup
			for client := range clients {
				all.Go(func() {
					random := rand.New(rand.NewPCG(uint64(n), uint64(client)))
					type had struct {
						id    string
						price Money
					}
					var own []had
					do := func(in dealing, fn func() outcome) outcome {
						from := time.Since(begun).Nanoseconds()
						out := fn()
						mu.Lock()
						history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: from, Output: out, Return: time.Since(begun).Nanoseconds()})
						mu.Unlock()
						return out
					}
					change := func(fn func(ctx context.Context, tx bun.Tx) error) func() outcome {
						return func() outcome { return outcome{code: retcode.Of(f.DB.Transact(context.Background(), fn))} }
					}
					for i := range 30 {
						switch k := random.IntN(10); {
						case k < 5 || len(own) == 0 && k < 7:
							p := vm(fmt.Sprintf("vm-%d-%d-%d", n, client, i), Hourly, 1, 1+random.IntN(8))
							p.Company = tenant
							price := hourPrice * Money(p.Items[0].Amount)
							out := do(dealing{"buy", price}, change(func(ctx context.Context, tx bun.Tx) error {
								if err := f.Catalog.Reserve(ctx, tx, tenant, region, catalog.Amounts{catalog.EIP: 1}); err != nil {
									return err
								}
								return f.Hold(ctx, tx, p)
							}))
							if out.code == retcode.OK {
								own = append(own, had{p.ID, price})
							}
						case k < 7:
							h := own[len(own)-1]
							own = own[:len(own)-1]
							op := dealing{"void", h.price}
							if random.IntN(2) == 0 {
								op.op = "end"
							}
							do(op, change(func(ctx context.Context, tx bun.Tx) error {
								if err := f.Catalog.Release(ctx, tx, tenant, region, catalog.Amounts{catalog.EIP: 1}); err != nil {
									return err
								}
								if op.op == "end" {
									if err := f.Capture(ctx, tx, h.id); err != nil {
										return err
									}
								}
								return f.End(ctx, tx, h.id)
							}))
						case k < 8:
							do(dealing{"pay", 3_0000}, change(func(ctx context.Context, tx bun.Tx) error {
								return f.rechargeTx(ctx, tx, &recharge{Company: tenant, FromType: "OFFLINE", Type: real, Amount: 3_0000})
							}))
						default:
							do(dealing{op: "read"}, func() outcome {
								p, err := read(context.Background(), f.DB.Reader(), tenant)
								return outcome{code: retcode.Of(err), balance: p.spendable()}
							})
						}
					}
				})
			}
			all.Wait()
			if len(history) > 200 {
				t.Fatalf("%d operations are too many to judge", len(history))
			}
			if result := porcupine.CheckOperationsTimeout(model, history, time.Minute); result != porcupine.Ok {
				t.Fatalf("history %d of %d operations is not linearizable: %s", n, len(history), result)
			}
			f.verify(t)
		}
	})
}
