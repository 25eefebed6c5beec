package block_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// poor makes the world that of a tenant who has paid in a little.
func (w *world) poor(t *testing.T, yuan int) {
	t.Helper()
	k, err := w.Identity.CreateTenant(context.Background(), identity.NewTenant{Name: "poor", Email: "poor@example.com", Region: catalog.DefaultRegion})
	if err != nil {
		t.Fatal(err)
	}
	w.demo = &client{URL: w.URL, Company: k.Company, Account: k.Account, Email: k.Email, PublicKey: k.PublicKey, PrivateKey: k.PrivateKey}
	w.vpc, w.subnet = w.demo.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID"), w.demo.Must(t, "DescribeSubnet", nil).Infos()[0].String("SubnetID")
	w.Admin.Must(t, "Recharge", p{"CompanyID": k.Company, "Amount": yuan, "FromType": "INPOUR_FROM_OFFLINE", "SerialNo": "bank-1"})
}

func (w *world) balance(t *testing.T) float64 {
	t.Helper()
	return yuan(t, w.Admin.Must(t, "GetWithdrawableAmount", p{"CompanyID": w.demo.Company}).String("Amount"))
}

func yuan(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// limit sets the tenant's quota of data disks, or of their space.
func (w *world) limit(t *testing.T, factor string, most int64) {
	t.Helper()
	of := "FACTOR_AMOUNT"
	if factor == "DISK_SPACE" {
		of = "FACTOR_DISK"
	}
	w.Admin.Must(t, "SetAccountQuota", p{"CompanyID": w.demo.Company, "ResourceType": "DISK", "FactorType": of, "Quota": most})
}

// purchase is an action that takes money and room.
type purchase struct {
	action string
	p      p
}

// shop is a tenant's machine, a data disk with a snapshot, and what he may order with them: new disks, and growth.
type shop struct {
	*world
	vm, boot, disk, snapshot string
	copies, growth           []purchase
}

// openShop leaves the tenant about 50 yuan, which none of the orders costs less than.
func openShop(t *testing.T, w *world) *shop {
	t.Helper()
	w.poor(t, 200)
	s := &shop{world: w, vm: w.vm(t, p{"ChargeType": "Month", "AutoRenew": false})}
	s.boot, s.disk = w.bootDisk(t, s.vm), w.disk(t, p{"ChargeType": "Month", "AutoRenew": false})
	s.snapshot = w.snapshot(t, s.disk)
	s.copies = []purchase{
		{"CreateDisk", w.askDisk(p{"ChargeType": "Month", "DiskSpace": 200})},
		{"CloneDisk", p{"Name": "clone", "ChargeType": "Month", "SrcID": s.disk, "DiskSpace": 200}},
		{"CreateDiskFromSnapshot", p{"SrcSnapshotID": s.snapshot, "Name": "copy", "ChargeType": "Month", "Quantity": 11}},
	}
	s.growth = []purchase{{"UpgradeDisk", p{"DiskID": s.disk, "DiskSpace": 200}}, {"UpgradeDisk", p{"DiskID": s.boot, "DiskSpace": 200}}}
	return s
}

// have is all that an order may change: disks and their sizes, quotas, room on the hosts and in volumes, and money.
func (s *shop) have(t *testing.T) string {
	t.Helper()
	lines := s.state(t).([]string)
	slices.Sort(lines)
	return fmt.Sprint(strings.Join(lines, "\n"), s.balance(t), len(s.orders(t, s.vm)), len(s.orders(t, s.disk)))
}

func (w *world) orders(t *testing.T, resource string) []info {
	t.Helper()
	return w.demo.Must(t, "DescribeOrder", p{"BeginTime": 0, "EndTime": w.Clock.Now().Add(time.Hour).Unix(), "ResourceID": resource, "Limit": 100}).Infos()
}

// refuse asks for what cannot be, and for nothing to come of it.
func (s *shop) refuse(t *testing.T, code retcode.Code, orders ...purchase) {
	t.Helper()
	before := s.have(t)
	for _, o := range orders {
		s.demo.Refuse(t, code, o.action, o.p)
		if after := s.have(t); after != before {
			t.Errorf("%s %v was refused and left\n%s\nbefore it was\n%s", o.action, o.p, after, before)
		}
	}
	s.healthy(t)
}

// TestOrdersBeyondMeans: disks that a tenant cannot pay for, or has no quota for, neither come nor grow.
func TestOrdersBeyondMeans(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		s := openShop(t, w)
		all := append(s.copies, s.growth...)
		s.refuse(t, retcode.InsufficientBalance, all...)
		w.Admin.Must(t, "Recharge", p{"CompanyID": w.demo.Company, "Amount": 5000, "FromType": "INPOUR_FROM_OFFLINE", "SerialNo": "bank-2"})
		space, disks := w.used(t, "DISK_SPACE"), w.used(t, "DISK")
		w.limit(t, "DISK_SPACE", space+10)
		s.refuse(t, retcode.QuotaExceeded, all...)
		w.limit(t, "DISK_SPACE", space+10000)
		w.limit(t, "DISK", disks)
		s.refuse(t, retcode.QuotaExceeded, s.copies...)
		w.limit(t, "DISK", disks+10)
		for _, o := range s.copies { // it was for want of these alone
			w.await(t, w.demo.Must(t, o.action, o.p).String("DiskID"), "Unbound")
			w.await(t, s.disk, "Unbound")
		}
		w.demo.Must(t, "UpgradeDisk", s.growth[0].p)
		w.await(t, s.disk, "Unbound")
		w.demo.Must(t, "UpgradeDisk", s.growth[1].p)
		w.await(t, s.boot, "Bound")
	})
}

// TestGrowthCosts: a disk that grows costs what was quoted, a system disk as part of its machine, and one that did
// not grow costs nothing.
func TestGrowthCosts(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		s := openShop(t, w)
		for _, g := range []struct{ disk, payer, state string }{{s.disk, s.disk, "Unbound"}, {s.boot, s.vm, "Bound"}} {
			size := w.show(t, g.disk).Int("Size")
			order := p{"DiskID": g.disk, "DiskSpace": size + 20}
			before := s.have(t)
			w.Simulator.FailNext("EnsureVolume", 1, "")
			w.demo.Must(t, "UpgradeDisk", order)
			controllertest.Eventually(t, settle, g.disk+" has not grown", func() bool {
				d := w.show(t, g.disk)
				return d.String("DiskStatus") == g.state && d.String("Reason") != ""
			})
			if after := s.have(t); after != before {
				t.Errorf("growing failed and left\n%s\nbefore it was\n%s", after, before)
			}
			money, orders := w.balance(t), len(w.orders(t, g.payer))
			quoted := yuan(t, w.demo.Must(t, "GetUpgradeDiskPrice", order).Infos()[0].String("Price"))
			w.demo.Must(t, "UpgradeDisk", order)
			controllertest.Eventually(t, settle, g.disk+" has grown", func() bool {
				d := w.show(t, g.disk)
				return d.String("DiskStatus") == g.state && d.Int("Size") == size+20
			})
			// 20 GB for all but some seconds of a month; a cent is what those may make.
			if paid := money - w.balance(t); math.Abs(paid-quoted) > 0.011 || math.Abs(paid-10) > 0.011 {
				t.Errorf("growing %s costs %v, %v was quoted", g.disk, paid, quoted)
			}
			made := w.orders(t, g.payer)
			if len(made) != orders+1 || len(w.orders(t, g.disk)) == 0 != (g.disk == s.boot) {
				t.Errorf("orders of %s: %v", g.payer, made)
			}
			if again := yuan(t, w.demo.Must(t, "GetUpgradeDiskPrice", order).Infos()[0].String("Price")); again != 0 {
				t.Errorf("the size that %s has is quoted at %v", g.disk, again)
			}
		}
		// The renewal is for the machine as it has become.
		if month := yuan(t, w.demo.Must(t, "GetRenewPrice", p{"ResourceID": s.vm, "ChargeType": "Month", "Quantity": 1}).String("Price")); math.Abs(month-149) > 0.001 {
			t.Errorf("the machine renews for %v", month)
		}
	})
}

// TestGrowingTogether: a machine and its system disk pay as one, so one of them grows at a time.
func TestGrowingTogether(t *testing.T) {
	each(t, controllertest.Options{Hosts: 1}, func(t *testing.T, w *world) {
		s := openShop(t, w)
		w.Admin.Must(t, "Recharge", p{"CompanyID": w.demo.Company, "Amount": 5000, "FromType": "INPOUR_FROM_OFFLINE", "SerialNo": "bank-2"})
		w.stop(t, s.vm)
		resize := purchase{"ResizeVMConfig", p{"VMID": s.vm, "CPU": 1, "Memory": 2048}}
		w.Simulator.Delay("EnsureVolume", time.Second)
		w.demo.Must(t, "UpgradeDisk", p{"DiskID": s.boot, "DiskSpace": 60})
		s.demo.Refuse(t, retcode.InvalidResourceState, resize.action, resize.p)
		w.await(t, s.boot, "Bound")
		w.Simulator.Delay("EnsureVolume", 0)
		w.demo.Must(t, resize.action, resize.p)
		controllertest.Eventually(t, settle, "both have grown", func() bool {
			return w.awaitVM(t, s.vm, "Stopped").Int("Memory") == 2048 && w.show(t, s.boot).Int("Size") == 60
		})
	})
}

// TestExpiredDisks: nothing comes of a disk whose time is over until it is renewed, nor of a system disk whose machine's is.
func TestExpiredDisks(t *testing.T) {
	w := start(t, controllertest.Options{})
	s := openShop(t, w)
	snapshot, system := w.snapshot(t, s.disk), w.snapshot(t, s.boot)
	w.Clock.Advance(32 * 24 * time.Hour)
	w.awaitVM(t, s.vm, "Stopped")
	w.Admin.Must(t, "Recharge", p{"CompanyID": w.demo.Company, "Amount": 5000, "FromType": "INPOUR_FROM_OFFLINE", "SerialNo": "bank-2"})
	second := w.vm(t, nil)
	s.refuse(t, retcode.ResourceExpired,
		purchase{"AttachDisk", p{"DiskID": s.disk, "ResourceID": second, "ResourceType": "VM"}},
		purchase{"UpgradeDisk", p{"DiskID": s.disk, "DiskSpace": 40}},
		purchase{"UpgradeDisk", p{"DiskID": s.boot, "DiskSpace": 60}},
		purchase{"CreateSnapshot", p{"DiskID": s.disk, "Name": "late"}},
		purchase{"CreateSnapshot", p{"DiskID": s.boot, "Name": "late"}},
		purchase{"CloneDisk", p{"Name": "clone", "ChargeType": "Month", "SrcID": s.disk}},
		purchase{"CreateDiskFromSnapshot", p{"Name": "copy", "ChargeType": "Month", "Quantity": 1, "SrcSnapshotID": snapshot}},
		purchase{"CreateDiskFromSnapshot", p{"Name": "copy", "ChargeType": "Month", "Quantity": 1, "SrcSnapshotID": system}})
	w.demo.Must(t, "RenewResource", p{"ResourceID": s.disk})
	w.demo.Must(t, "RenewResource", p{"ResourceID": s.vm})
	w.demo.Must(t, "UpgradeDisk", p{"DiskID": s.disk, "DiskSpace": 40})
	w.await(t, s.disk, "Unbound")
	w.snapshot(t, s.boot)
}
