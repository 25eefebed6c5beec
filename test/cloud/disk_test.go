package cloud

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/trial"
)

// storage is a storage set under test, and how what it keeps is looked at beside the cloud.
type storage struct {
	set string // SetType
	// local: a volume is on one host, which shares it among its own guests alone.
	local bool
	// volume opens what is kept of a disk, as it is at rest, on whatever host; os.ErrNotExist: nothing.
	volume func(id string) (io.ReadCloser, error)
}

// hostsDisks is the set of the hosts' own disks.
func (c *cloud) hostsDisks(t *testing.T) storage {
	t.Helper()
	d, err := c.Defaults(c.ctx, c.demo)
	if err != nil {
		t.Fatal(err)
	}
	return storage{set: d.StorageType, local: true, volume: func(id string) (io.ReadCloser, error) {
		for n := range c.hosts {
			files, err := filepath.Glob(filepath.Join(c.Options.Dir, "trial", fmt.Sprintf("host%d", n+1), "agent", "volumes", id+".*"))
			if err != nil || len(files) > 0 {
				return os.Open(files[0])
			}
		}
		return nil, os.ErrNotExist
	}}
}

const (
	dataGB  = 10        // the smallest data disk
	pattern = 256 << 10 // bytes of a mark
)

// disk is one of the demo tenant's.
type disk struct {
	c  *cloud
	id string
}

// disk makes one by an action that answers DiskID.
func (c *cloud) disk(t *testing.T, action string, p cli.Params) *disk {
	t.Helper()
	all := cli.Params{"Name": strings.ToLower(t.Name()[strings.LastIndex(t.Name(), "/")+1:]), "ChargeType": "Dynamic", "Quantity": 1}
	for k, v := range p {
		all[k] = v
	}
	var made struct{ DiskID string }
	c.call(t, c.demo, action, all, &made)
	d := &disk{c, made.DiskID}
	d.state(t, "Unbound")
	return d
}

func (c *cloud) newDisk(t *testing.T, s storage, p cli.Params) *disk {
	t.Helper()
	all := cli.Params{"SetType": s.set, "DiskSpace": dataGB}
	for k, v := range p {
		all[k] = v
	}
	return c.disk(t, "CreateDisk", all)
}

func (d *disk) state(t *testing.T, state string) {
	t.Helper()
	if err := trial.WaitState(d.c.ctx, d.c.demo, time.Minute, "DescribeDisk", "DiskIDs", "DiskStatus", d.id, state); err != nil {
		t.Fatal(err)
	}
}

// idle asks for something as soon as nothing else is done with the disk: changed limits show in no state.
func (d *disk) idle(t *testing.T, client *cli.Client, action string, p cli.Params) {
	t.Helper()
	p["DiskID"] = d.id
	until(t, d.c, time.Minute, action, func() error {
		_, err := client.Call(d.c.ctx, action, p, nil)
		if refusal := new(cli.Error); err != nil && (!errors.As(err, &refusal) || refusal.Code != int(retcode.DiskStateUnstable)) {
			t.Fatal(err)
		}
		return err
	})
}

// on is the name of the disk's device in a guest, which knows it by its serial number; empty: it has none.
func (d *disk) on(t *testing.T, m *machine) string {
	t.Helper()
	return strings.TrimSpace(m.must(t, `for d in /sys/block/vd*; do [ "$(cat $d/serial)" = `+d.id+` ] && echo /dev/${d##*/}; done; :`))
}

// attach gives the disk to a running guest and answers its device there, which is the one that the API names.
func (d *disk) attach(t *testing.T, m *machine) string {
	t.Helper()
	d.c.call(t, d.c.demo, "AttachDisk", cli.Params{"DiskID": d.id, "ResourceID": m.id, "ResourceType": "VM"}, nil)
	d.state(t, "Bound")
	var device string
	until(t, d.c, 10*time.Second, d.id+" in "+m.id, func() error {
		if device = d.on(t, m); device == "" {
			return errors.New("the guest has no such device")
		}
		return nil
	})
	var list struct{ Infos []struct{ Drive string } }
	d.c.call(t, d.c.demo, "DescribeDisk", cli.Params{"DiskIDs": []string{d.id}}, &list)
	if drive := list.Infos[0].Drive; drive != "" && device != "/dev/"+drive { // a shared one has one on each machine
		t.Errorf("%s is %s in %s, and the API says %s", d.id, device, m.id, drive)
	}
	return device
}

// detach takes it from a running guest, which has no such device then. others have it still.
func (d *disk) detach(t *testing.T, m *machine, others ...*machine) {
	t.Helper()
	d.idle(t, d.c.demo, "DetachDisk", cli.Params{"ResourceID": m.id})
	if len(others) > 0 {
		d.state(t, "Bound")
	} else {
		d.state(t, "Unbound")
	}
	if device := d.on(t, m); device != "" {
		t.Errorf("%s is detached and %s of %s has it", d.id, device, m.id)
	}
}

// gone puts the disk into the bin, where the end of the story finds it.
func (d *disk) gone(t *testing.T) {
	t.Helper()
	d.c.call(t, d.c.demo, "DeleteDisk", cli.Params{"DiskID": d.id}, nil)
}

// write marks a device with a word, past the guest's memory, at so many megabytes from its start.
func (m *machine) write(t *testing.T, device, word string, mb int) {
	t.Helper()
	m.must(t, fmt.Sprintf("yes %s | dd of=%s bs=64k count=%d seek=%d iflag=fullblock oflag=direct status=none", word, device, pattern>>16, mb<<4))
}

// reads checks for the mark, past the guest's memory.
func (m *machine) reads(t *testing.T, device, word string, mb int) {
	t.Helper()
	out := m.must(t, fmt.Sprintf("dd if=%s bs=64k count=%d skip=%d iflag=direct status=none | uniq -c | sort -rn | head -n 3", device, pattern>>16, mb<<4))
	whole := pattern / (len(word) + 1) // the last one is cut off, and may be whole but for its end
	fields := strings.Fields(out)
	n := 0
	if len(fields) >= 2 && fields[1] == word {
		n, _ = strconv.Atoi(fields[0])
	}
	if n != whole && n != whole+1 {
		t.Errorf("%s of %s should have %d times %q at %d MB:\n%.200s", device, m.id, whole, word, mb, out)
	}
}

// size of a device in bytes, as the guest sees it.
func (m *machine) size(t *testing.T, device string) int64 {
	t.Helper()
	text := strings.TrimSpace(m.must(t, "cat /sys/block/"+filepath.Base(device)+"/size"))
	sectors, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Errorf("size of %s in %s: %v", device, m.id, err)
	}
	return sectors * 512
}

func (d *disk) grow(t *testing.T, gb int, state string) {
	t.Helper()
	d.c.call(t, d.c.demo, "UpgradeDisk", cli.Params{"DiskID": d.id, "DiskSpace": gb}, nil)
	d.state(t, state)
}

// grown waits until a running guest sees a size.
func (m *machine) grown(t *testing.T, device string, gb int64) {
	t.Helper()
	until(t, m.c, 10*time.Second, "a larger device", func() error {
		if n := m.size(t, device); n != gb<<30 {
			return fmt.Errorf("%s has %d bytes, not %d GB", device, n, gb)
		}
		return nil
	})
}

// snapshot takes one and answers its id, and whether the guest's file systems were at rest.
func (d *disk) snapshot(t *testing.T, state string) (id string, frozen bool) {
	t.Helper()
	var made struct{ SnapshotID string }
	d.c.call(t, d.c.demo, "CreateSnapshot", cli.Params{"DiskID": d.id, "Name": "snapshot"}, &made)
	if err := trial.WaitState(d.c.ctx, d.c.demo, time.Minute, "DescribeSnapshot", "SnapshotIDs", "SnapshotStatus", made.SnapshotID, "Normal"); err != nil {
		t.Fatal(err)
	}
	d.state(t, state)
	var list struct{ Infos []struct{ Frozen bool } }
	d.c.call(t, d.c.demo, "DescribeSnapshot", cli.Params{"SnapshotIDs": []string{made.SnapshotID}}, &list)
	return made.SnapshotID, list.Infos[0].Frozen
}

// rollback makes a disk what it was; the state is that which it had.
func (d *disk) rollback(t *testing.T, snapshot, state string) {
	t.Helper()
	d.c.call(t, d.c.demo, "RollbackSnapshot", cli.Params{"DiskID": d.id, "SnapshotID": snapshot}, nil)
	d.state(t, state)
}

// atRest tells whether a disk's volume, read without its key, shows a word.
func (s storage) atRest(t *testing.T, d *disk, word string) bool {
	t.Helper()
	r, err := s.volume(d.id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, 64<<20)) // the mark is at the start
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(b, []byte(word+"\n"+word+"\n"))
}

// disks proves on real guests what the cloud says of disks of a storage set. a and neighbour run on one host, b on
// another.
func disks(t *testing.T, c *cloud, s storage, a, neighbour, b *machine) {
	t.Run("attach, detach, move", func(t *testing.T) {
		d := c.newDisk(t, s, nil)
		device := d.attach(t, a)
		if n := a.size(t, device); n != dataGB<<30 {
			t.Errorf("the guest sees %d bytes of %d GB", n, dataGB)
		}
		a.write(t, device, "first", 0)
		a.write(t, device, "second", dataGB<<10-1)
		d.detach(t, a)
		device = d.attach(t, b)
		b.reads(t, device, "first", 0)
		b.reads(t, device, "second", dataGB<<10-1)
		d.detach(t, b)
		d.gone(t)
	})
	t.Run("grow", func(t *testing.T) {
		boot := a.must(t, "cat /proc/sys/kernel/random/boot_id")
		d := c.newDisk(t, s, nil)
		device := d.attach(t, a)
		a.write(t, device, "before", 0)
		d.grow(t, dataGB+2, "Bound")
		a.grown(t, device, dataGB+2)
		a.write(t, device, "after", (dataGB+2)<<10-1)
		d.detach(t, a)
		d.grow(t, dataGB+3, "Unbound")
		device = d.attach(t, a)
		a.grown(t, device, dataGB+3)
		a.reads(t, device, "before", 0)
		a.reads(t, device, "after", (dataGB+2)<<10-1)
		d.detach(t, a)
		d.gone(t)

		system := a.system(t)
		gb := a.size(t, system.on(t, a))>>30 + 1
		system.grow(t, int(gb), "Bound")
		a.grown(t, "/dev/vda", gb)
		if now := a.must(t, "cat /proc/sys/kernel/random/boot_id"); now != boot {
			t.Error("the guest was booted anew")
		}
	})
	t.Run("snapshots", func(t *testing.T) { snapshots(t, c, s, a, b) })
	t.Run("a snapshot finds file systems at rest", func(t *testing.T) {
		d := c.newDisk(t, s, nil)
		device := d.attach(t, a)
		a.must(t, "mke2fs -q "+device+" 8192 >/dev/null && mount -t ext4 "+device+" /mnt && echo in the cache >/mnt/file")
		snapshot, frozen := d.snapshot(t, "Bound")
		if !frozen {
			t.Error("the guest has an agent and its file systems were not at rest")
		}
		a.must(t, "echo later >/mnt/file && sync && umount /mnt") // and they go on
		copied := c.disk(t, "CreateDiskFromSnapshot", cli.Params{"SrcSnapshotID": snapshot})
		device = copied.attach(t, a)
		if out := a.must(t, "mount -t ext4 -o ro "+device+" /mnt && cat /mnt/file && umount /mnt"); out != "in the cache\n" {
			t.Errorf("the snapshot has %q", out)
		}
		for _, d := range []*disk{d, copied} {
			d.detach(t, a)
			d.gone(t)
		}
	})
	for _, shared := range []bool{false, true} {
		t.Run(map[bool]string{false: "encrypted", true: "encrypted and shared"}[shared], func(t *testing.T) { encrypted(t, c, s, a, b, shared) })
	}
	t.Run("limits", func(t *testing.T) { limits(t, c, s, a) })
	t.Run("shared", func(t *testing.T) {
		d := c.newDisk(t, s, cli.Params{"ShareAble": true})
		one, two := d.attach(t, a), d.attach(t, neighbour)
		a.write(t, one, "mine", 0)
		neighbour.reads(t, two, "mine", 0)
		neighbour.write(t, two, "yours", 0)
		a.reads(t, one, "yours", 0)
		if s.local {
			_, err := c.demo.Call(c.ctx, "AttachDisk", cli.Params{"DiskID": d.id, "ResourceID": b.id, "ResourceType": "VM"}, nil)
			if refusal := new(cli.Error); !errors.As(err, &refusal) || refusal.Code != int(retcode.InvalidResourceState) {
				t.Errorf("attached to a guest of another host: %v", err)
			}
		} else {
			far := d.attach(t, b)
			b.reads(t, far, "yours", 0)
			b.write(t, far, "theirs", 1)
			a.reads(t, one, "theirs", 1)
			d.detach(t, b, a, neighbour)
		}
		d.detach(t, a, neighbour)
		neighbour.reads(t, two, "yours", 0)
		d.detach(t, neighbour)
		d.gone(t)
	})
	t.Run("bin", func(t *testing.T) {
		d := c.newDisk(t, s, nil)
		a.write(t, d.attach(t, a), "kept", 0)
		d.detach(t, a)
		d.gone(t)
		until(t, c, time.Minute, "the disk in the bin", func() error {
			_, err := c.demo.Call(c.ctx, "RollbackResource", cli.Params{"ResourceID": d.id}, nil)
			return err
		})
		d.state(t, "Unbound")
		a.reads(t, d.attach(t, a), "kept", 0)
		d.detach(t, a)
		d.gone(t)
		until(t, c, time.Minute, "the disk in the bin", func() error {
			_, err := c.demo.Call(c.ctx, "TerminateResource", cli.Params{"ResourceID": d.id}, nil)
			return err
		})
		until(t, c, time.Minute, "its volume gone", func() error {
			r, err := s.volume(d.id)
			if err == nil {
				r.Close()
				return errors.New("it is there")
			}
			if !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			return nil
		})
	})
}

// snapshots: what a disk was at three times is there again, also after one in the middle went and the disk moved.
func snapshots(t *testing.T, c *cloud, s storage, a, b *machine) {
	d := c.newDisk(t, s, nil)
	device := d.attach(t, a)
	var taken []string
	for _, word := range []string{"one", "two", "three"} {
		a.write(t, device, word, 0)
		id, _ := d.snapshot(t, "Bound")
		taken = append(taken, id)
	}
	a.write(t, device, "four", 0)
	c.call(t, c.demo, "DeleteSnapshot", cli.Params{"SnapshotID": taken[1]}, nil)
	until(t, c, time.Minute, "the snapshot gone", func() error {
		var list struct{ Infos []struct{ SnapshotID string } }
		c.call(t, c.demo, "DescribeSnapshot", cli.Params{"SnapshotIDs": taken}, &list)
		if len(list.Infos) != 2 {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	a.reads(t, device, "four", 0)
	d.detach(t, a)
	d.rollback(t, taken[2], "Unbound")
	device = d.attach(t, b) // the snapshots go along
	b.reads(t, device, "three", 0)
	d.detach(t, b)
	d.rollback(t, taken[0], "Unbound")
	device = d.attach(t, b)
	b.reads(t, device, "one", 0)

	// A disk of a snapshot, while its own has other contents; a clone has these.
	b.write(t, device, "five", 0)
	of := c.disk(t, "CreateDiskFromSnapshot", cli.Params{"SrcSnapshotID": taken[2]})
	d.detach(t, b)
	clone := c.disk(t, "CloneDisk", cli.Params{"SrcID": d.id})
	for copied, word := range map[*disk]string{of: "three", clone: "five"} {
		b.reads(t, copied.attach(t, b), word, 0)
		copied.detach(t, b)
		copied.gone(t)
	}
	d.gone(t)
}

// encrypted: the guest sees its bytes, whoever has the storage does not.
func encrypted(t *testing.T, c *cloud, s storage, a, b *machine, shared bool) {
	d := c.newDisk(t, s, cli.Params{"Secret": base64.StdEncoding.EncodeToString([]byte("a key of the tenant's")), "ShareAble": shared})
	open := c.newDisk(t, s, cli.Params{"ShareAble": shared}) // to know that one would see it
	device, bare := d.attach(t, a), open.attach(t, a)
	if n := a.size(t, device); n != dataGB<<30 {
		t.Errorf("the guest sees %d bytes of %d GB", n, dataGB)
	}
	a.write(t, device, "confidential", 0)
	a.write(t, bare, "confidential", 0)
	if !shared {
		d.grow(t, dataGB+1, "Bound")
		a.grown(t, device, dataGB+1)
		snapshot, _ := d.snapshot(t, "Bound")
		a.write(t, device, "overwritten", 0)
		d.detach(t, a)
		d.rollback(t, snapshot, "Unbound")
	} else {
		d.detach(t, a)
		d.grow(t, dataGB+1, "Unbound")
	}
	open.detach(t, a)
	if !s.atRest(t, open, "confidential") {
		t.Error("a disk in the clear does not show what was written to it")
	}
	for _, word := range []string{"confidential", "overwritten"} {
		if s.atRest(t, d, word) {
			t.Errorf("%q can be read without the key", word)
		}
	}
	device = d.attach(t, b)
	b.grown(t, device, dataGB+1)
	b.reads(t, device, "confidential", 0)
	d.detach(t, b)
	open.gone(t)
	d.gone(t)
}

// limits are felt by a guest, and lifted while it runs.
func limits(t *testing.T, c *cloud, s storage, m *machine) {
	d := c.newDisk(t, s, nil)
	device := d.attach(t, m)
	limit := func(mbps, times int) {
		for range 2 { // the second is taken when the first is done
			d.idle(t, c.admin, "UpdateDiskQoS", cli.Params{"DiskBandwidth": mbps, "DiskIOPS": times})
		}
	}
	// seconds that eight megabytes in 32 writes take past the guest's memory
	write := func() float64 {
		out := strings.Fields(m.must(t, "a=$(cut -d' ' -f1 /proc/uptime); dd if=/dev/zero of="+device+" bs=256k count=32 oflag=direct status=none; b=$(cut -d' ' -f1 /proc/uptime); echo $a $b"))
		if len(out) != 2 {
			t.Fatalf("%v", out)
		}
		from, err1 := strconv.ParseFloat(out[0], 64)
		to, err2 := strconv.ParseFloat(out[1], 64)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return to - from
	}
	limit(4, 0)
	slow := write()
	limit(0, 10)
	seldom := write()
	limit(0, 0)
	fast := write()
	told := fmt.Sprintf("8 MB take %.2f s with a limit of 4 MB/s, %.2f s with one of 10 writes a second, and %.2f s without", slow, seldom, fast)
	if t.Log(told); slow < 2*fast || seldom < 2*fast {
		t.Error(told)
	}
	d.detach(t, m)
	d.gone(t)
}

// machineDisks are a data disk that is at /data, and a system disk: of its snapshot comes a disk that another machine
// starts from. There is one such machine at a time beside another, since a host has processors for two.
func machineDisks(t *testing.T, c *cloud, s storage, beside *machine) {
	const mark = "of the first"
	m := c.create(t, c.demo, "with-data", beside.host, cli.Params{"BootDiskSetType": s.set, "DataDiskSetType": s.set, "DataDiskSpace": dataGB, "MountDataDisk": true})
	m.running(t)
	m.via = beside
	if out := m.must(t, "df -k /data | awk '$6 == \"/data\" && $2 > "+strconv.Itoa(dataGB<<20*9/10)+" {print \"fits\"}'"); out != "fits\n" {
		t.Errorf("/data of the guest: %q\n%s", out, m.must(t, "cat /proc/mounts; df -k"))
	}
	m.must(t, "echo "+mark+" >/data/file && echo "+mark+" >/state/file && sync")
	snapshot, frozen := m.system(t).snapshot(t, "Bound")
	if !frozen {
		t.Error("the guest has an agent and its file systems were not at rest")
	}
	m.must(t, "echo later >/state/file && sync")
	system := c.disk(t, "CreateDiskFromSnapshot", cli.Params{"SrcSnapshotID": snapshot})
	m.off(t)
	m.system(t).rollback(t, snapshot, "Bound")
	m.start(t)
	if out := m.must(t, "cat /state/file /data/file"); out != mark+"\n"+mark+"\n" {
		t.Errorf("the machine whose system was rolled back says %q", out)
	}
	data := m.disks(t, "Data")[0]
	m.end(t)
	data.state(t, "Unbound")
	device := data.attach(t, beside)
	if out := beside.must(t, "mount -o ro "+device+" /mnt && cat /mnt/file && umount /mnt"); out != mark+"\n" {
		t.Errorf("the data disk of a machine that was deleted has %q", out)
	}
	data.detach(t, beside)
	data.gone(t)

	second := c.create(t, c.demo, "from-disk", beside.host, cli.Params{"BootDiskSetType": s.set, "BootSourceType": "Disk", "BootDiskID": system.id,
		"OSName": "BusyBox on Debian 12", "OSVersion": "12", "OSType": "Linux"})
	second.running(t)
	second.via = beside
	if out := second.must(t, "cat /state/file; cat /run/instance-id"); out != mark+"\n"+second.id+"\n" {
		t.Errorf("the machine of the system's snapshot says %q", out)
	}
	second.end(t)
}

func (m *machine) off(t *testing.T) {
	t.Helper()
	m.c.call(t, m.client, "PoweroffVMInstance", cli.Params{"VMID": m.id}, nil)
	m.state(t, "Stopped")
}

// end puts a guest into the bin.
func (m *machine) end(t *testing.T) {
	t.Helper()
	m.off(t)
	m.c.call(t, m.client, "DeleteVMInstance", cli.Params{"VMID": m.id}, nil)
}

// system is a guest's system disk.
func (m *machine) system(t *testing.T) *disk { t.Helper(); return m.disks(t, "Boot")[0] }

// disks are those of a guest that have a role, one at least.
func (m *machine) disks(t *testing.T, role string) []*disk {
	t.Helper()
	var list struct{ Infos []struct{ DiskID string } }
	m.c.call(t, m.client, "DescribeDisk", cli.Params{"AttachResourceID": m.id, "DiskType": role}, &list)
	if len(list.Infos) == 0 {
		t.Fatalf("%s has no %s disk", m.id, role)
	}
	var all []*disk
	for _, i := range list.Infos {
		all = append(all, &disk{m.c, i.DiskID})
	}
	return all
}
