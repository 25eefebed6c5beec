package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/host/cephtest"
	"github.com/lingyun-cloud/lingyun/internal/trial"
)

// TestCephCloud proves on two hosts that share a pool what TestCloud proves of the hosts' own disks, and what only a
// pool can do. All machines have their system disks there. `make test-ceph` installs what it needs.
func TestCephCloud(t *testing.T) {
	cephtest.Need(t)
	c := start(t)
	cluster := cephtest.Start(t, filepath.Join(c.Options.Dir, "ceph"), trial.ControllerAddress().String(), func(name string, args ...string) *exec.Cmd {
		return c.Command(c.ctx, "mgmt", append([]string{name}, args...)...)
	})
	s := storage{set: "CephA", volume: cluster.Export}
	var made struct{ SetID string }
	c.call(t, c.admin, "CreateStorageSet", cli.Params{"SetType": s.set, "Driver": "Ceph", "Replicas": 1, "CephConfig.Monitors": []string{cluster.Monitor},
		"CephConfig.Pool": cephtest.Pool, "CephConfig.User": cephtest.User, "CephConfig.Key": cluster.Key, "CephConfig.ClusterID": cluster.ID}, &made)
	took := until(t, c, time.Minute, "room in the set", func() error {
		var list struct{ Infos []struct{ StorageCap int64 } }
		c.call(t, c.admin, "DescribeStorageSet", cli.Params{"SetIDs": []string{made.SetID}}, &list)
		if len(list.Infos) != 1 || list.Infos[0].StorageCap < 100 {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	t.Logf("the hosts say what the pool holds after %.1f s", took.Seconds())

	there := cli.Params{"BootDiskSetType": s.set}
	a, b := c.create(t, c.demo, "a", 1, there), c.create(t, c.demo, "b", 2, there)
	for _, m := range []*machine{a, b} {
		m.running(t)
		m.address(t)
		t.Logf("its page after %.1f s", m.page(t, m.eips[0].ip, 3*time.Minute).Seconds())
	}
	t.Run("disks of a new machine", func(t *testing.T) { machineDisks(t, c, s, b) })
	neighbour := c.create(t, c.demo, "neighbour", 1, there)
	neighbour.running(t)
	neighbour.via = a
	t.Run("moving copies nothing", func(t *testing.T) {
		d := c.newDisk(t, s, nil)
		image := func() string {
			t.Helper()
			var info struct{ ID string }
			if err := json.Unmarshal([]byte(cluster.RBD(t, "info", "--format", "json", d.id)), &info); err != nil || info.ID == "" {
				t.Fatalf("%+v %v", info, err)
			}
			return info.ID
		}
		was := image()
		device := d.attach(t, a)
		a.must(t, "dd if=/dev/urandom of="+device+" bs=1M count=128 oflag=direct status=none")
		a.write(t, device, "moved", 128)
		d.detach(t, a)
		began := time.Now()
		device = d.attach(t, b)
		t.Logf("a disk with 128 MB is on another host's guest after %.1f s", time.Since(began).Seconds())
		b.reads(t, device, "moved", 128)
		d.detach(t, b)
		if now := image(); now != was {
			t.Errorf("the disk was image %s and is %s", was, now)
		}
		d.gone(t)
	})
	t.Run("disks", func(t *testing.T) { disks(t, c, s, a, neighbour, b) })
	t.Run("nothing is left", func(t *testing.T) {
		for n := range c.hosts {
			if out := strings.TrimSpace(c.onHost(t, n+1, "ls", filepath.Join(c.Options.Dir, "trial", fmt.Sprintf("host%d", n+1), "agent", "volumes"))); out != "" {
				t.Errorf("host%d keeps disks: %s", n+1, out)
			}
		}
		for _, m := range []*machine{neighbour, a, b} {
			m.off(t)
			m.destroy(t)
		}
		c.emptyBin(t, c.demo)
		until(t, c, 2*time.Minute, "no disk in the pool", func() error {
			for _, image := range strings.Fields(cluster.RBD(t, "ls")) {
				if !strings.HasPrefix(image, "image.") { // golden ones stay with the image
					return errors.New(image + " is there")
				}
			}
			return nil
		})
		c.call(t, c.admin, "DeleteStorageSet", cli.Params{"SetID": made.SetID}, nil)
		for n := range c.hosts {
			until(t, c, time.Minute, "the pool's key gone", func() error {
				if out := c.onHost(t, n+1, "ls", filepath.Join(c.Options.Dir, "trial", fmt.Sprintf("host%d", n+1), "agent", "pools")); out != "" {
					return fmt.Errorf("host%d has %s", n+1, out)
				}
				return nil
			})
		}
	})
}
