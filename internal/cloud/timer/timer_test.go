package timer_test

import (
	"slices"
	"strings"
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
		// A job that has run for good does not run again because it is called otherwise.
		c.Demo.Must(t, "UpdateTimer", P{"TimerID": timer, "Name": "other", "Type": "TIMER_TYPE_ONCE", "TriggerTime": 1, "KeepNum": 5})
		if i := c.Demo.Must(t, "DescribeTimer", P{"TimerIDs": []string{timer}}).Infos()[0]; i.String("Name") != "other" || i.Int("NextTime") != 0 {
			t.Errorf("renamed: %v", i)
		}
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
		c.Demo.Refuse(t, retcode.DiskInRecycleBin, "CreateTimer", every)
		c.Demo.Must(t, "UpdateTimer", P{"TimerID": timer, "Name": "still", "Type": "TIMER_TYPE_FIXED_INTERVAL", "FixedInterval": 3600})
		c.Clock.Advance(time.Hour + time.Second)
		controllertest.Eventually(t, 30*time.Second, "the run has failed", func() bool {
			runs := c.Demo.Must(t, "DescribeTimerTask", P{"TimerID": timer}).Infos()
			return len(runs) == 1 && runs[0].String("Status") == "Failed" &&
				strings.HasPrefix(runs[0].String("Message"), retcode.DiskInRecycleBin.Message("en"))
		})
	})
}

// A job goes on when a disk has as many snapshots as it may: the oldest of its own make room. It waits for a disk with
// which something else is done, and fails when nothing of its own can go.
func TestSnapshotsMakeRoom(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		c := controllertest.Start(t, controllertest.Options{DB: db, Hosts: 1})
		c.Admin.Must(t, "UpdateRegionConfig", P{"ConfigKey": "SnapshotsPerDisk", "ConfigValue": 2})
		id := disk(t, c.Demo)
		timer := c.Demo.Must(t, "CreateTimer", P{"Name": "hourly", "Task": "CreateSnapshot", "Type": "TIMER_TYPE_FIXED_INTERVAL", "FixedInterval": 3600,
			"ResourceIDs": []string{id}, "KeepNum": 2}).String("TimerID")
		run := func(n int, status string) {
			t.Helper()
			controllertest.Eventually(t, 30*time.Second, "run "+status, func() bool {
				runs := c.Demo.Must(t, "DescribeTimerTask", P{"TimerID": timer}).Infos()
				return len(runs) == n && runs[0].String("Status") == status
			})
		}
		var before []string
		for n := range 4 {
			c.Simulator.Delay("RemoveSnapshot", 300*time.Millisecond)
			c.Clock.Advance(time.Hour + time.Second)
			run(n+1, "Success")
			now := snapshots(t, c.Demo, id)
			if len(now) != min(n+1, 2) || slices.Equal(now, before) {
				t.Fatalf("after run %d: %v, before it %v", n, now, before)
			}
			before = now
		}
		// Only as long as something of the job's own can go.
		for _, own := range before {
			c.Demo.Must(t, "DeleteSnapshot", P{"SnapshotID": own})
			controllertest.Eventually(t, 20*time.Second, "it is gone", func() bool {
				return c.Demo.Must(t, "DescribeSnapshot", P{"SnapshotIDs": []string{own}}).Int("TotalCount") == 0
			})
			made := c.Demo.Must(t, "CreateSnapshot", P{"DiskID": id, "Name": "by hand"}).String("SnapshotID")
			controllertest.Eventually(t, 20*time.Second, "it is taken", func() bool { return slices.Contains(snapshots(t, c.Demo, id), made) })
		}
		c.Clock.Advance(time.Hour + time.Second)
		run(5, "Failed")
		if m := c.Demo.Must(t, "DescribeTimerTask", P{"TimerID": timer}).Infos()[0].String("Message"); !strings.HasPrefix(m, retcode.SnapshotLimitReached.Message("en")) {
			t.Errorf("it failed with %q", m)
		}
	})
}

// A run waits for a disk with which something else is done.
func TestRunWaitsForDisk(t *testing.T) {
	c := controllertest.Start(t, controllertest.Options{Hosts: 1})
	id := disk(t, c.Demo)
	timer := c.Demo.Must(t, "CreateTimer", P{"Name": "hourly", "Task": "CreateSnapshot", "Type": "TIMER_TYPE_FIXED_INTERVAL", "FixedInterval": 3600,
		"ResourceIDs": []string{id}}).String("TimerID")
	c.Simulator.Delay("EnsureVolume", 3*time.Second)
	c.Demo.Must(t, "UpgradeDisk", P{"DiskID": id, "DiskSpace": 20})
	c.Clock.Advance(time.Hour + time.Second)
	seen := ""
	controllertest.Eventually(t, 30*time.Second, "the run has ended", func() bool {
		runs := c.Demo.Must(t, "DescribeTimerTask", P{"TimerID": timer}).Infos()
		if len(runs) == 1 && !strings.HasSuffix(seen, runs[0].String("Status")) {
			seen += " " + runs[0].String("Status")
		}
		return strings.HasSuffix(seen, "Success") || strings.HasSuffix(seen, "Failed")
	})
	if !strings.HasPrefix(seen, " Waiting") || !strings.HasSuffix(seen, "Success") {
		t.Errorf("the run was%s", seen)
	}
}
