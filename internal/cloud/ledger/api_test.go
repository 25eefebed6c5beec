package ledger_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

// world is a cloud with a tenant that has nothing yet.
type world struct {
	*controllertest.Cloud
	poor *controllertest.Client
	bill int // of recharges
}

func start(t *testing.T, db *database.DB) *world {
	t.Helper()
	w := &world{Cloud: controllertest.Start(t, controllertest.Options{DB: db})}
	k, err := w.Identity.CreateTenant(context.Background(), identity.NewTenant{Name: "poor", Email: "poor@example.com", Region: catalog.DefaultRegion})
	if err != nil {
		t.Fatal(err)
	}
	w.poor = &controllertest.Client{URL: w.URL, Company: k.Company, Account: k.Account, Email: k.Email, PublicKey: k.PublicKey, PrivateKey: k.PrivateKey}
	return w
}

// pay gives the tenant money that it paid in.
func (w *world) pay(t *testing.T, yuan int) {
	t.Helper()
	w.bill++
	w.Admin.Must(t, "Recharge", P{"CompanyID": w.poor.Company, "Amount": yuan, "FromType": "INPOUR_FROM_OFFLINE", "SerialNo": fmt.Sprint("bank-", w.bill)})
}

func (w *world) balance(t *testing.T) (total, real float64) {
	t.Helper()
	r := w.Admin.Must(t, "GetWithdrawableAmount", P{"CompanyID": w.poor.Company})
	return number(t, r.String("Amount")), number(t, r.String("AmountReal"))
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// machine are the parameters of the smallest one.
func (w *world) machine(t *testing.T, more P) P {
	t.Helper()
	image := w.poor.Must(t, "DescribeImage", P{"ImageType": "Base"}).Infos()[0].String("ImageID")
	vpc := w.poor.Must(t, "DescribeVPC", nil).Infos()[0]
	p := P{"Name": "web", "Password": "Secret-1234", "ChargeType": "Month", "VMType": "ComputeSetA", "CPU": 1, "Memory": 1024, "BootDiskSetType": "StorageSetA",
		"ImageID": image, "VPCID": vpc.String("VPCID"), "SubnetID": vpc.List("SubnetInfos")[0].String("SubnetID")}
	types := w.poor.Must(t, "DescribeVMType", nil).Infos()
	p["VMType"] = types[0].String("VMType")
	p["BootDiskSetType"] = w.poor.Must(t, "DescribeStorageType", nil).Infos()[0].String("StorageType")
	for k, v := range more {
		p[k] = v
	}
	return p
}

func (w *world) state(t *testing.T, vm, state string) {
	t.Helper()
	controllertest.Eventually(t, 30*time.Second, vm+" is "+state, func() bool {
		infos := w.poor.Must(t, "DescribeVMInstance", P{"VMIDs": []string{vm}}).Infos()
		return len(infos) == 1 && infos[0].String("State") == state
	})
}

// doctor ends the test unless all is well.
func (w *world) doctor(t *testing.T) {
	t.Helper()
	problems, err := controller.Doctor(t.Context(), w.DB)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
}

func (w *world) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if err := w.DB.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewRaw(query, args...).Exec(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) orders(t *testing.T, resource string) []controllertest.Info {
	t.Helper()
	return w.poor.Must(t, "DescribeOrder", P{"BeginTime": 0, "EndTime": w.Clock.Now().Add(time.Hour).Unix(), "ResourceID": resource, "Limit": 100}).Infos()
}

func near(a, b float64) bool { return math.Abs(a-b) < 0.02 }

// TestRecharge: money in and out, and whose it is.
func TestRecharge(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		w := start(t, db)
		paid := P{"CompanyID": w.poor.Company, "Amount": 100, "FromType": "INPOUR_FROM_ALIPAY", "SerialNo": "A1"}
		with := func(more P) P {
			p := P{}
			for k, v := range paid {
				p[k] = v
			}
			for k, v := range more {
				p[k] = v
			}
			return p
		}
		w.poor.Refuse(t, retcode.AdminOnly, "Recharge", paid)
		w.Admin.Refuse(t, retcode.InvalidParameter, "Recharge", with(P{"Amount": 99}))
		w.Admin.Refuse(t, retcode.InvalidParameter, "Recharge", with(P{"Amount": 500001}))
		w.Admin.Refuse(t, retcode.InvalidParameter, "Recharge", with(P{"FromType": "INPOUR_FROM_HELL"}))
		w.Admin.Refuse(t, retcode.MissingParameter, "Recharge", with(P{"SerialNo": ""}))
		w.Admin.Refuse(t, retcode.TenantNotFound, "Recharge", with(P{"CompanyID": 4711}))
		if w.Admin.Must(t, "Recharge", paid).String("TransactonNo") == "" {
			t.Error("no transaction number")
		}
		w.Admin.Refuse(t, retcode.DuplicateSerialNo, "Recharge", paid)
		w.Admin.Refuse(t, retcode.DuplicateSerialNo, "Recharge", with(P{"SerialNo": " A1 "}))
		w.Admin.Refuse(t, retcode.MissingParameter, "Recharge", with(P{"SerialNo": " "}))
		w.Admin.Refuse(t, retcode.DuplicateSerialNo, "Recharge", with(P{"Amount": 200, "RechargeType": 2}))
		w.Admin.Must(t, "Recharge", with(P{"SerialNo": "", "RechargeType": 2, "Amount": 500, "FromType": "OFFLINE"}))
		if total, real := w.balance(t); total != 600 || real != 100 {
			t.Errorf("balance %v, %v of it paid in", total, real)
		}
		info, _ := w.poor.Must(t, "GetMemberInfo", P{"Region": ""}).Body["Info"].(map[string]any)
		if fmt.Sprint(info["Amount"], " ", info["AmountFree"]) != "100 500" {
			t.Errorf("the tenant reads %v and %v", info["Amount"], info["AmountFree"])
		}
		out := func(from string, amount any) P {
			return P{"Region": "", "CompanyID": w.poor.Company, "SrcAccountType": from, "WithdrawAmount": amount}
		}
		w.Admin.Refuse(t, retcode.InsufficientBalance, "Withdraw", out("REAL", "100.01"))
		w.Admin.Refuse(t, retcode.InvalidParameter, "Withdraw", out("REAL", "0.001"))
		w.Admin.Refuse(t, retcode.InvalidParameter, "Withdraw", out("REAL", 0))
		w.Admin.Must(t, "Withdraw", out("REAL", "60.5"))
		w.Admin.Must(t, "Withdraw", out("FREE", 500))
		if total, real := w.balance(t); total != 39.5 || real != 39.5 {
			t.Errorf("balance %v, %v of it paid in", total, real)
		}
		all := P{"BeginTime": 0, "EndTime": w.Clock.Now().Add(time.Hour).Unix()}
		moves := w.poor.Must(t, "DescribeTransaction", all)
		if moves.Int("TotalCount") != 4 || moves.Infos()[0].String("FreeBalanceSurplus") != "0" || moves.Infos()[1].String("BalanceSurplus") != "39.5" {
			t.Errorf("movements: %v", moves.Body)
		}
		if m := moves.Infos()[0]; m.String("AccountName") != w.Admin.Email || m.String("Email") != w.poor.Email {
			t.Errorf("who moved whose money: %v", m)
		}
		if n := w.poor.Must(t, "DescribeTransaction", P{"BeginTime": 0, "EndTime": all["EndTime"], "TransactionType": "WITHDRAW"}).Int("TotalCount"); n != 1 {
			t.Errorf("%d withdrawals of paid money", n)
		}
		if n := w.poor.Must(t, "DescribeRecharge", all).Int("TotalCount"); n != 2 {
			t.Errorf("the tenant sees %d recharges", n)
		}
		w.poor.Refuse(t, retcode.AdminOnly, "DescribeRecharge", P{"BeginTime": 0, "EndTime": all["EndTime"], "UserAccountID": w.Demo.Company})
		w.poor.Refuse(t, retcode.InvalidParameter, "DescribeOrder", P{"BeginTime": 10, "EndTime": 9})
		if n := w.Admin.Must(t, "DescribeWithdraw", P{"CompanyIDs": []int{int(w.poor.Company)}, "SrcAccountType": "FREE"}).Int("TotalCount"); n != 1 {
			t.Errorf("%d withdrawals of gifts", n)
		}
		// A tenant that lost its accounts: nobody pays, nobody can pay in.
		w.exec(t, "DELETE FROM ledger_account WHERE company = ?", w.poor.Company)
		w.Admin.Refuse(t, retcode.PayAccountNotFound, "Recharge", with(P{"SerialNo": "A2"}))
		w.Admin.Refuse(t, retcode.PayAccountNotFound, "Withdraw", out("REAL", 1))
		w.Admin.Refuse(t, retcode.PayAccountNotFound, "GetWithdrawableAmount", P{"CompanyID": w.poor.Company})
		w.poor.Refuse(t, retcode.PayAccountNotFound, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "n"})
		w.poor.Refuse(t, retcode.PayAccountNotFound, "CreateVMInstance", w.machine(t, nil))
	})
}

// TestLifeOfAMachine buys, resizes an address, renews, deletes and restores; each moves the money it should.
func TestLifeOfAMachine(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		w := start(t, db)
		// 80 for the core, 39 for the memory, 20 for 40 GB; a data disk of 10 GB 5; an address of 1 Mb 30: a month each.
		p := w.machine(t, P{"DataDiskSpace": 10, "OperatorName": "Bgp", "Bandwidth": 1})
		w.poor.Refuse(t, retcode.InsufficientBalance, "CreateVMInstance", p)
		w.poor.Refuse(t, retcode.InsufficientBalance, "AllocateEIP", P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Dynamic", "Name": "n"})
		w.doctor(t)
		w.pay(t, 1000)
		made := w.poor.Must(t, "CreateVMInstance", p)
		vm, disk, eip := made.String("VMID"), made.String("DiskID"), made.String("EIPID")
		w.state(t, vm, "Running")
		if total, _ := w.balance(t); !near(total, 1000-174) {
			t.Fatalf("%v are left of 1000", total)
		}
		until := w.poor.Must(t, "DescribeVMInstance", P{"VMIDs": []string{vm}}).Infos()[0].Int("ExpireTime")
		if days := time.Until(time.Unix(int64(until), 0)).Hours() / 24; days < 27 || days > 32 {
			t.Errorf("paid for %v days", days)
		}
		for id, price := range map[string]float64{vm: 139, disk: 5, eip: 30} {
			o := w.orders(t, id)
			if len(o) != 1 || o[0].String("OrderType") != "BUY" || !near(number(t, o[0].String("AmountTotal")), price) || o[0].String("ChargeType") != "Month" {
				t.Errorf("orders of %s: %v", id, o)
			}
		}
		// More bandwidth now: pro rata at once. Less: not before the last day.
		w.poor.Must(t, "ModifyEIPBandwidth", P{"EIPID": eip, "Bandwidth": 5})
		controllertest.Eventually(t, 10*time.Second, "the bandwidth is changed", func() bool { return len(w.orders(t, eip)) == 2 })
		if total, _ := w.balance(t); !near(total, 1000-174-120) {
			t.Errorf("%v are left after the upgrade", total)
		}
		w.poor.Refuse(t, retcode.InvalidResourceBizState, "ModifyEIPBandwidth", P{"EIPID": eip, "Bandwidth": 2})
		w.poor.Refuse(t, retcode.InsufficientBalance, "ModifyEIPBandwidth", P{"EIPID": eip, "Bandwidth": 1000})
		// Renewed for a year.
		w.poor.Refuse(t, retcode.InsufficientBalance, "RenewResource", P{"ResourceID": vm, "ChargeType": "Year"})
		w.poor.Refuse(t, retcode.InvalidParameter, "RenewResource", P{"ResourceID": vm, "ChargeType": "Year", "Quantity": 6})
		w.poor.Refuse(t, retcode.InvalidParameter, "RenewResource", P{"ResourceID": vm, "Quantity": 12})
		w.poor.Refuse(t, retcode.ResourceNotFound, "RenewResource", P{"ResourceID": "vm-none"})
		w.Demo.Refuse(t, retcode.ResourceNotFound, "RenewResource", P{"ResourceID": vm})
		w.pay(t, 5000)
		before, _ := w.balance(t)
		quoted := number(t, w.poor.Must(t, "GetRenewPrice", P{"ResourceID": vm, "ChargeType": "Year", "Quantity": 2}).String("Price"))
		w.poor.Must(t, "RenewResource", P{"ResourceID": vm, "ChargeType": "Year", "Quantity": 2})
		after, _ := w.balance(t)
		if !near(before-after, quoted) || !near(quoted, 2*139*12) {
			t.Errorf("two years cost %v, %v was said", before-after, quoted)
		}
		w.poor.Refuse(t, retcode.InvalidResourceBizState, "RenewResource", P{"ResourceID": vm, "ChargeType": "Month"})
		// Deleted: all of it comes back but some seconds.
		w.poor.Must(t, "DeleteVMInstance", P{"VMID": vm, "DelBindResource": 1})
		controllertest.Eventually(t, 30*time.Second, "the machine is in the bin", func() bool { return len(w.orders(t, vm)) == 3 })
		if total, _ := w.balance(t); math.Abs(total-6000) > 0.5 {
			t.Errorf("%v are left of 6000 after the deletion", total)
		}
		w.poor.Refuse(t, retcode.ResourceExpired, "RollbackResource", P{"ResourceID": vm})
		w.poor.Refuse(t, retcode.InvalidResourceBizState, "UpdateAutoRenew", P{"ResourceIDs": []string{vm}, "AutoRenew": false})
		w.poor.Refuse(t, retcode.InvalidResourceBizState, "RenewResource", P{"ResourceID": vm, "ChargeType": "Year", "Quantity": 2})
		w.poor.Must(t, "RenewResource", P{"ResourceID": vm})
		w.poor.Must(t, "RollbackResource", P{"ResourceID": vm})
		w.state(t, vm, "Stopped")
		w.doctor(t)
	})
}

// TestFree: what costs nothing, since billing is switched off or the tenant pays no percent of it, has its orders and
// transactions all the same.
func TestFree(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	w.Admin.Must(t, "UpdateRegion", P{"Name": "Shanghai", "City": "Shanghai"})
	all := P{"BeginTime": 0, "EndTime": w.Clock.Now().Add(time.Hour).Unix()}
	eip := P{"OperatorName": "Bgp", "Bandwidth": 1, "ChargeType": "Month", "Name": "e"}
	w.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "BillingEnabled", "ConfigValue": "false"})
	first := w.poor.Must(t, "AllocateEIP", eip).String("EIPID")
	number := w.poor.Must(t, "RenewResource", P{"ResourceID": first}).String("TransactonNo")
	w.Admin.Must(t, "UpdateConfig", P{"ConfigKey": "BillingEnabled", "ConfigValue": "true"})
	w.poor.Refuse(t, retcode.InsufficientBalance, "AllocateEIP", eip)
	w.Admin.Must(t, "UpdateDiscount", P{"CompanyID": w.poor.Company, "ProductID": "EIP", "SetType": "Bgp", "ChargeType": "Month", "Discount": 0})
	w.poor.Must(t, "AllocateEIP", eip)
	w.poor.Must(t, "ReleaseEIP", P{"EIPID": first})
	orders, moves := w.poor.Must(t, "DescribeOrder", all).Infos(), w.poor.Must(t, "DescribeTransaction", all).Infos()
	if len(orders) != 4 || len(moves) != 4 { // two bought, one renewed, one deleted
		t.Fatalf("%d orders, %d transactions", len(orders), len(moves))
	}
	if orders[0].String("OrderType") != "REFUND" || orders[0].String("RegionAlias") != "Shanghai" || orders[0].String("AmountTotal") != "0" {
		t.Errorf("the deletion: %v", orders[0])
	}
	if m := moves[2]; m.String("TransactionNO") != number || m.String("ExpenseAmount") != "0" || m.String("AccountName") != w.poor.Email || m.String("RegionAlias") != "Shanghai" {
		t.Errorf("the renewal %s: %v", number, m)
	}
	w.doctor(t)
}

// TestExpired: what a machine and an address undergo when nobody pays for them.
func TestExpired(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	w.pay(t, 500)
	made := w.poor.Must(t, "CreateVMInstance", w.machine(t, P{"OperatorName": "Bgp", "Bandwidth": 1, "AutoRenew": false, "DataDiskSpace": 10}))
	vm, eip, disk := made.String("VMID"), made.String("EIPID"), made.String("DiskID")
	w.state(t, vm, "Running")
	w.Clock.Advance(32 * 24 * time.Hour)
	w.state(t, vm, "Stopped")
	address := func() controllertest.Info {
		return w.poor.Must(t, "DescribeEIP", P{"EIPIDs": []string{eip}}).Infos()[0]
	}
	controllertest.Eventually(t, 30*time.Second, "the address is unbound", func() bool { return address().String("Status") == "Free" })
	for name, p := range map[string]P{
		"StartVMInstance":    {"VMID": vm},
		"BindEIP":            {"EIPID": eip, "ResourceID": vm, "ResourceType": "VM"},
		"ModifyEIPBandwidth": {"EIPID": eip, "Bandwidth": 3},
	} {
		w.poor.Refuse(t, retcode.ResourceExpired, name, p)
	}
	w.poor.Refuse(t, retcode.ResourceExpired, "ModifyNameAndRemark", P{"ResourceID": eip, "Name": "other"})
	// Renewed, it is as before, but off.
	w.poor.Must(t, "RenewResource", P{"ResourceID": vm})
	w.poor.Must(t, "StartVMInstance", P{"VMID": vm})
	w.state(t, vm, "Running")
	w.poor.Must(t, "UpdateAutoRenew", P{"ResourceIDs": []string{vm}, "AutoRenew": true})
	// After seven days the address goes to the bin; the machine goes on renewing itself.
	w.Clock.Advance(8 * 24 * time.Hour)
	binned := func(id string) bool {
		for _, i := range w.poor.Must(t, "DescribeRecycledResource", P{"ResourceIDs": []string{id}}).Infos() {
			return i.String("ResourceID") == id
		}
		return false
	}
	controllertest.Eventually(t, 30*time.Second, "the address is in the bin", func() bool { return binned(eip) })
	w.poor.Refuse(t, retcode.ResourceExpired, "RollbackResource", P{"ResourceID": eip})
	w.Clock.Advance(25 * 24 * time.Hour)
	controllertest.Eventually(t, 30*time.Second, "the machine has renewed itself", func() bool { return len(w.orders(t, vm)) >= 3 })
	if binned(vm) {
		t.Error("a machine that renews itself is in the bin")
	}
	_ = disk
	w.doctor(t)
}
