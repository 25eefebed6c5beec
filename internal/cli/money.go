package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// since adds a flag for how far back a list goes, and returns the span of a call.
func since(cmd *cobra.Command, back time.Duration) func() Params {
	from := cmd.Flags().Duration("since", back, "how far back")
	return func() Params {
		now := time.Now()
		return Params{"BeginTime": now.Add(-*from).Unix(), "EndTime": now.Add(time.Minute).Unix()}
	}
}

const month = 31 * 24 * time.Hour

func balanceCommand() *cobra.Command {
	show := command("balance", "What the tenant may spend", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		var answer struct{ Info object }
		if _, err := s.Call(ctx, "GetMemberInfo", nil, &answer); err != nil {
			return err
		}
		return s.detail(answer.Info, []column{plain("Tenant", "CompanyID"), plain("Paid in", "Amount"), plain("Gifts", "AmountFree")})
	})
	var span func() Params
	moves := command("moves", "List how the balances changed", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, "DescribeTransaction", span())
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("ID", "TransactionNO"), plain("For", "TradeNO"), plain("In", "IncomeAmount"), plain("Out", "ExpenseAmount"),
			plain("Paid in, after", "BalanceSurplus"), plain("Gifts, after", "FreeBalanceSurplus"), when("Time", "CreateTime")})
	})
	span = since(moves, month)
	show.AddCommand(moves)
	return show
}

func rechargeCommand() *cobra.Command {
	var from, serial string
	var gift bool
	add := command("add TENANT YUAN", "Add money to a tenant's balance (administrators)", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		p := Params{"CompanyID": args[0], "Amount": args[1], "FromType": "INPOUR_FROM_" + from, "SerialNo": serial, "RechargeType": 1}
		if gift {
			p["RechargeType"] = 2
		}
		var made struct{ TransactonNo string }
		if _, err := s.Call(ctx, "Recharge", p, &made); err != nil {
			return err
		}
		return s.detail(object{"ID": made.TransactonNo}, []column{plain("Transaction", "ID")})
	})
	f := add.Flags()
	f.StringVar(&from, "from", "OFFLINE", "ALIPAY, OFFLINE, SINPAY or WECHAT_PAY")
	f.StringVar(&serial, "serial", "", "order number of the payment; needed unless it is a gift")
	f.BoolVar(&gift, "gift", false, "a gift of the platform")
	var span func() Params
	list := command("list", "List what was paid in", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, "DescribeRecharge", span())
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("ID", "TransactonNO"), plain("Tenant", "CompanyID"), plain("Yuan", "TradeAmount"), plain("Kind", "RechargeType"),
			plain("From", "FromType"), plain("Serial", "SerialNo"), when("Time", "CreateTime")})
	})
	span = since(list, 12*month)
	return group("recharge", "Money that is paid in", add, list)
}

func withdrawalCommand() *cobra.Command {
	var gift bool
	add := command("add TENANT YUAN", "Take money out of a tenant's balance (administrators)", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		p := Params{"CompanyID": args[0], "WithdrawAmount": args[1], "SrcAccountType": "REAL"}
		if gift {
			p["SrcAccountType"] = "FREE"
		}
		var made object
		if _, err := s.Call(ctx, "Withdraw", p, &made); err != nil {
			return err
		}
		return s.detail(made, []column{plain("Transaction", "TransactonNo")})
	})
	add.Flags().BoolVar(&gift, "gift", false, "of the gifts")
	show := command("show TENANT", "Show what can be taken out", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		var r object
		if _, err := s.Call(ctx, "GetWithdrawableAmount", Params{"CompanyID": args[0]}, &r); err != nil {
			return err
		}
		return s.detail(r, []column{plain("Paid in", "AmountReal"), plain("Gifts", "AmountFree")})
	})
	var span func() Params
	list := command("list", "List what was taken out", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, "DescribeWithdraw", span())
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("ID", "WithdrawNo"), plain("Tenant", "CompanyID"), plain("Yuan", "Amount"), plain("From", "SrcAccountType"), when("Time", "CreateTime")})
	})
	span = since(list, 12*month)
	return group("withdrawal", "Money that is taken out (administrators)", add, show, list)
}

func orderCommand() *cobra.Command {
	var span func() Params
	var resource string
	list := command("list", "List orders", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		p := span()
		p["ResourceID"] = resource
		all, err := s.list(ctx, "DescribeOrder", p)
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("ID", "OrderNO"), plain("Type", "OrderType"), plain("Resource", "ResourceID"), plain("Name", "ResourceName"),
			plain("By", "ChargeType"), plain("Yuan", "AmountTotal"), when("Time", "CreateTime")})
	})
	span = since(list, month)
	list.Flags().StringVar(&resource, "resource", "", "only those of this resource id")
	return group("order", "What was bought, renewed, changed and paid back", list)
}

func billCommand() *cobra.Command {
	var unit, by string
	var count int
	show := command("show", "Sum cost over periods", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		periods, err := s.list(ctx, "DescribeBillOverView", Params{"CycleCount": count, "CycleUnit": unit, "Dimension": by})
		if err != nil {
			return err
		}
		var lines []object
		for _, p := range periods {
			for _, d := range p.list("Details") {
				d["BeginTime"] = p["BeginTime"]
				lines = append(lines, d)
			}
		}
		return s.show(lines, []column{when("From", "BeginTime"), plain(by, "Name"), plain("Yuan", "Total"), plain("Paid in", "TotalReal"), plain("Gifts", "TotalFree")})
	})
	f := show.Flags()
	f.StringVar(&unit, "unit", "month", "hour, day, week, month or year")
	f.IntVar(&count, "count", 6, "how many periods, 1 to 6")
	f.StringVar(&by, "by", "product", "product, region, project, order, charge or account")
	var span func() Params
	resources := command("resources", "Sum cost by resource", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, "DescribeBillResource", span())
		if err != nil {
			return err
		}
		return s.show(all, []column{plain("Resource", "ResourceID"), plain("Name", "ResourceName"), plain("Product", "ProductType"), plain("By", "ChargeType"), plain("Yuan", "Total")})
	})
	span = since(resources, month)
	var what, format string
	var whole func() Params
	export := command("export", "Make a file, and print where it can be fetched for a day", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		p := whole()
		p["BillType"], p["Format"] = what, format
		var made object
		if _, err := s.Call(ctx, "ExportBill", p, &made); err != nil {
			return err
		}
		return s.detail(made, []column{plain("URL", "URL"), plain("File", "FileName")})
	})
	whole = since(export, month)
	export.Flags().StringVar(&what, "what", "Detail", "OverView, Resource, Detail, Order, Transaction, Recharge or Withdraw")
	export.Flags().StringVar(&format, "format", "xlsx", "xlsx or csv")
	var lately func() Params
	detail := command("detail", "List every charge", cobra.NoArgs, func(ctx context.Context, s *session, _ []string) error {
		all, err := s.list(ctx, "DescribeBillDetail", lately())
		if err != nil {
			return err
		}
		return s.show(all, []column{when("From", "BeginTime"), when("To", "EndTime"), plain("Resource", "ResourceID"), plain("Name", "ResourceName"), plain("Type", "OrderType"), plain("By", "ChargeType"), plain("Yuan", "Total")})
	})
	lately = since(detail, month)
	return group("bill", "What things cost", show, resources, detail, export)
}

func renewCommand() *cobra.Command {
	var charge string
	var quantity int
	var price bool
	cmd := command("renew RESOURCE...", "Pay for more time", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			id, _, err := anything(ctx, s, ref)
			if err != nil {
				return err
			}
			p := Params{"ResourceID": id, "Quantity": quantity}
			if charge != "" {
				p["ChargeType"] = charge
			}
			var answer struct {
				Price        float64
				TransactonNo string
			}
			if price {
				if _, err := s.Call(ctx, "GetRenewPrice", p, &answer); err != nil {
					return err
				}
				return s.detail(object{"ID": id, "Price": answer.Price}, []column{plain("Resource", "ID"), plain("Yuan", "Price")})
			}
			if _, err := s.Call(ctx, "RenewResource", p, &answer); err != nil {
				return err
			}
			return s.detail(object{"ID": id, "Trade": answer.TransactonNo}, []column{plain("Resource", "ID"), plain("Transaction", "Trade")})
		})
	})
	f := cmd.Flags()
	f.StringVar(&charge, "charge", "", "Dynamic, Month or Year: not shorter than now")
	f.IntVar(&quantity, "quantity", 1, "periods; Month and 0: to the end of the month")
	f.BoolVar(&price, "price", false, "only say what it would cost")
	auto := command("auto on|off RESOURCE...", "Switch renewal by itself", cobra.MinimumNArgs(2), func(ctx context.Context, s *session, args []string) error {
		if args[0] != "on" && args[0] != "off" {
			return fmt.Errorf("say on or off, not %q", args[0])
		}
		ids, err := allOf(ctx, s, args[1:])
		if err != nil {
			return err
		}
		_, err = s.Call(ctx, "UpdateAutoRenew", Params{"ResourceIDs": ids, "AutoRenew": args[0] == "on"}, nil)
		return err
	})
	cmd.ValidArgsFunction = completeAnything
	cmd.AddCommand(auto)
	return cmd
}
