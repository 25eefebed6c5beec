package ledger_test

import (
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
)

// TestHourlyGoesOn: what is bought by the hour, as programs buy it that know nothing of renewal, is there the next day.
func TestHourlyGoesOn(t *testing.T) {
	w := start(t, dbtest.SQLite(t))
	w.pay(t, 1000)
	vpc := w.poor.Must(t, "DescribeVPC", nil).Infos()[0].String("VPCID")
	hourly := func(action, id string, p P) string {
		p["ChargeType"], p["Name"] = "Dynamic", "x"
		return w.poor.Must(t, action, p).String(id)
	}
	for _, r := range []struct{ describe, filter, id string }{
		{"DescribeVMInstance", "VMIDs", hourly("CreateVMInstance", "VMID", w.machine(t, nil))},
		{"DescribeDisk", "DiskIDs", hourly("CreateDisk", "DiskID", P{"DiskSpace": 10, "SetType": "StorageSetA"})},
		{"DescribeEIP", "EIPIDs", hourly("AllocateEIP", "EIPID", P{"Bandwidth": 2, "OperatorName": "Bgp"})},
		{"DescribeNIC", "NICIDs", hourly("CreateNIC", "NICID", P{"NICType": "WAN", "SegmentID": "Bgp", "Bandwidth": 2})},
		{"DescribeVIP", "VIPIDs", hourly("AllocateVIP", "VIPID", P{"VIPType": "WAN", "VPCID": vpc, "SegmentID": "Bgp", "Bandwidth": 2})},
	} {
		look := func() controllertest.Info {
			return w.poor.Must(t, r.describe, P{r.filter: []string{r.id}}).Infos()[0]
		}
		if look().String("AutoRenew") != "true" {
			t.Errorf("%s does not renew itself", r.id)
		}
		w.Clock.Advance(24 * time.Hour)
		controllertest.Eventually(t, 30*time.Second, r.id+" is paid for", func() bool { return int64(look().Int("ExpireTime")) > w.Clock.Now().Unix() })
	}
	w.doctor(t)
}
