package timer_test

import (
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

type P = controllertest.P

// disk makes a disk and waits for it.
func disk(t *testing.T, c *controllertest.Client) string {
	t.Helper()
	set := c.Must(t, "DescribeStorageType", nil).Infos()[0].String("StorageType")
	id := c.Must(t, "CreateDisk", P{"SetType": set, "DiskSpace": 10, "Name": "data", "ChargeType": "Month"}).String("DiskID")
	controllertest.Eventually(t, 20*time.Second, "the disk is there", func() bool {
		return c.Must(t, "DescribeDisk", P{"DiskIDs": []string{id}}).Infos()[0].String("DiskStatus") == "Unbound"
	})
	return id
}

func snapshots(t *testing.T, c *controllertest.Client, id string) (ids []string) {
	t.Helper()
	for _, i := range c.Must(t, "DescribeSnapshot", P{"DiskID": id}).Infos() {
		if i.String("SnapshotStatus") == "Normal" {
			ids = append(ids, i.String("SnapshotID"))
		}
	}
	return ids
}

func TestSnapshotsAtSetTimes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		other := c.NewTenant(t)
		id := disk(t, c.Demo)
		every := P{"Name": "hourly", "Task": "CreateSnapshot", "Type": "TIMER_TYPE_FIXED_INTERVAL", "FixedInterval": 3600, "ResourceIDs": []string{id}, "KeepNum": 2}
		with := func(p P) P {
			q := P{}
			for k, v := range every {
				q[k] = v
			}
			for k, v := range p {
				if q[k] = v; v == nil {
					delete(q, k)
				}
			}
			return q
		}
		c.Demo.Refuse(t, retcode.InvalidParameter, "CreateTimer", with(P{"Task": "CreateInspection"}))
		c.Demo.Refuse(t, retcode.MissingParameter, "CreateTimer", with(P{"ResourceIDs": nil}))
		c.Demo.Refuse(t, retcode.ResourceNotFound, "CreateTimer", with(P{"ResourceIDs": []string{"disk-x"}}))
		other.Refuse(t, retcode.ResourceNotFound, "CreateTimer", every)
		timer := c.Demo.Must(t, "CreateTimer", every).String("TimerID")
		other.Refuse(t, retcode.ResourceNotFound, "DeleteTimer", P{"TimerID": timer})

		// Three hours later there are the last two of three snapshots.
		var first []string
		for n := range 3 {
			c.Clock.Advance(time.Hour + time.Second)
			controllertest.Eventually(t, 30*time.Second, "the run has ended", func() bool {
				runs := c.Demo.Must(t, "DescribeTimerTask", P{"TimerID": timer}).Infos()
				if len(runs) > 0 && runs[0].String("Status") == "Failed" {
					t.Fatalf("the run failed: %v", runs[0])
				}
				return len(runs) == n+1 && runs[0].String("Status") == "Success"
			})
			if n == 0 {
				first = snapshots(t, c.Demo, id)
				if len(first) != 1 {
					t.Fatalf("after the first run: %v", first)
				}
			}
		}
		controllertest.Eventually(t, 30*time.Second, "the oldest is gone", func() bool {
			now := snapshots(t, c.Demo, id)
			return len(now) == 2 && now[0] != first[0] && now[1] != first[0]
		})
		// A changed job runs as changed; one moment that has passed runs at once, and never again.
		c.Demo.Must(t, "UpdateTimer", P{"TimerID": timer, "Type": "TIMER_TYPE_ONCE", "TriggerTime": 1, "KeepNum": 5})
		controllertest.Eventually(t, 30*time.Second, "it ran once more", func() bool {
			i := c.Demo.Must(t, "DescribeTimer", P{"TimerIDs": []string{timer}}).Infos()[0]
			return len(snapshots(t, c.Demo, id)) == 3 && i.Int("NextTime") == 0 && i.Int("KeepNum") == 5
		})
		// What a deleted job made stays; a run on a disk that is gone fails and says why.
		c.Demo.Must(t, "DeleteTimer", P{"TimerID": timer})
		if n := len(snapshots(t, c.Demo, id)); n != 3 {
			t.Errorf("%d snapshots after the job is deleted", n)
		}
		c.Demo.Refuse(t, retcode.ResourceNotFound, "DescribeTimerTask", P{"TimerID": timer})
		timer = c.Demo.Must(t, "CreateTimer", every).String("TimerID")
		c.Demo.Must(t, "DeleteDisk", P{"DiskID": id})
		controllertest.Eventually(t, 20*time.Second, "the disk is in the bin", func() bool {
			return c.Demo.Must(t, "DescribeRecycledResource", P{"ResourceIDs": []string{id}}).Int("TotalCount") == 1
		})
		c.Clock.Advance(time.Hour + time.Second)
		controllertest.Eventually(t, 30*time.Second, "the run has failed", func() bool {
			runs := c.Demo.Must(t, "DescribeTimerTask", P{"TimerID": timer}).Infos()
			return len(runs) == 1 && runs[0].String("Status") == "Failed" && runs[0].String("Message") != ""
		})
	})
}
