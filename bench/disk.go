package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cli"
)

const (
	diskRounds = 5
	diskData   = "256M" // written to the disk that is copied
)

// disk compares what the API needs to attach a disk to a running machine, to take a snapshot of it and to copy it, each
// until the API says that it is done, with virsh and qemu-img doing the same work on the same host, in turns.
func (b *bench) disk() error {
	if os.Geteuid() != 0 {
		log.Print("disk: left out, it needs root (namespaces and guests)")
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	p, err := b.startPlace(ctx)
	defer stopPlace()
	if err != nil {
		return err
	}
	vm, _, err := create(ctx, p.client, p.net, p.image, "disks")
	if err != nil {
		return err
	}
	// Snapshots are to find the guest's file systems at rest.
	for {
		if _, err = p.run(ctx, "virsh", "qemu-agent-command", vm, `{"execute":"guest-ping"}`); err == nil {
			break
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	w := &diskWork{place: p, ctx: ctx, vm: vm, ours: map[string][]time.Duration{}, bare: map[string][]time.Duration{}}
	if w.disk, err = w.make("CreateDisk", cli.Params{"SetType": p.net.StorageType, "DiskSpace": 10}); err != nil {
		return err
	}
	if _, err := p.run(ctx, "qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 "+diskData, w.file(w.disk)); err != nil {
		return err
	}
	for n := range diskRounds + 1 {
		if err := w.round(); err != nil {
			return err
		}
		if n == 0 { // the first one finds nothing in any cache
			clear(w.ours)
			clear(w.bare)
		}
	}
	for _, what := range []string{"attach", "detach", "snapshot", "snapshot delete", "disk from snapshot", "clone"} {
		us := milliseconds(percentile(sortDurations(w.ours[what]), .5))
		bare := milliseconds(percentile(sortDurations(w.bare[what]), .5))
		b.print(figure{Name: what + ", ratio", Value: us / bare, Unit: "x", Note: fmt.Sprintf("%.0f against %.0f ms, medians of %d in turns", us, bare, diskRounds)})
	}
	return nil
}

// diskWork is a disk with data, a machine that runs, and how long what took.
type diskWork struct {
	*place
	ctx        context.Context
	vm, disk   string
	ours, bare map[string][]time.Duration
}

// file of a volume on the host.
func (w *diskWork) file(id string) string {
	return filepath.Join(bootDir, "trial", "host1", "agent", "volumes", id+".qcow2")
}

// take notes how long f needs.
func take(into map[string][]time.Duration, what string, f func() error) error {
	start := time.Now()
	err := f()
	into[what] = append(into[what], time.Since(start))
	return err
}

// state waits until a resource has one.
func (w *diskWork) state(action, ids, field, id, state string) error {
	for {
		var list struct{ Infos []map[string]any }
		if _, err := w.client.Call(w.ctx, action, cli.Params{ids: []string{id}}, &list); err != nil {
			return err
		}
		switch {
		case state == "" && len(list.Infos) == 0, len(list.Infos) == 1 && list.Infos[0][field] == state:
			return nil
		case len(list.Infos) == 1 && list.Infos[0][field] == "Failed":
			return fmt.Errorf("%s failed: %v", id, list.Infos[0]["Reason"])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *diskWork) diskState(id, state string) error {
	return w.state("DescribeDisk", "DiskIDs", "DiskStatus", id, state)
}

// make makes a disk and waits until it is free.
func (w *diskWork) make(action string, more cli.Params) (id string, err error) {
	params := cli.Params{"Name": "bench", "ChargeType": "Dynamic", "Quantity": 1}
	for k, v := range more {
		params[k] = v
	}
	var made struct{ DiskID string }
	if _, err := w.client.Call(w.ctx, action, params, &made); err != nil {
		return "", err
	}
	return made.DiskID, w.diskState(made.DiskID, "Unbound")
}

var sourceIndex = regexp.MustCompile(`<source file='([^']*)' index='([0-9]+)'`)

// node is what QEMU calls the disk.
func (w *diskWork) node() (string, error) {
	xml, err := w.run(w.ctx, "virsh", "dumpxml", w.vm)
	if err != nil {
		return "", err
	}
	for _, m := range sourceIndex.FindAllStringSubmatch(xml, -1) {
		if m[1] == w.file(w.disk) {
			return "libvirt-" + m[2] + "-format", nil
		}
	}
	return "", fmt.Errorf("%s has no disk %s", w.vm, w.disk)
}

// round does everything once, both ways.
func (w *diskWork) round() error {
	call := func(action string, params cli.Params, out any) error {
		_, err := w.client.Call(w.ctx, action, params, out)
		return err
	}
	virsh := func(line string) func() error {
		return func() error { _, err := w.run(w.ctx, "virsh", "--quiet", line); return err }
	}
	var snapshot struct{ SnapshotID string }
	var node string
	var copied []string
	copyOf := func(action string, params cli.Params) func() error {
		return func() error {
			id, err := w.make(action, params)
			copied = append(copied, id)
			return err
		}
	}
	convert := func(name string, argv ...string) func() error {
		return func() error {
			_, err := w.run(w.ctx, append(append([]string{"qemu-img", "convert", "-q", "-O", "qcow2"}, argv...), w.file(w.disk), w.file(name))...)
			return err
		}
	}
	// One for virsh to attach, new in each round: libvirt may leave it locked. It is off again before the API is asked
	// for anything: the agent takes from a machine what it should not have.
	spare := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	monitor := func(command string) string {
		return fmt.Sprintf(`qemu-monitor-command %s '{"execute":"%s","arguments":{"device":"%s","name":"bench"}}'`, w.vm, command, node)
	}
	for _, step := range []struct {
		into map[string][]time.Duration // nil: not of interest
		what string
		do   func() error
	}{
		{nil, "spare", func() error {
			_, err := w.run(w.ctx, "qemu-img", "create", "-q", "-f", "qcow2", w.file(spare), "10G")
			return err
		}},
		{w.bare, "attach", virsh("attach-disk " + w.vm + " " + w.file(spare) + " vdy --driver qemu --subdriver qcow2 --live")},
		{w.bare, "detach", virsh("detach-disk " + w.vm + " vdy --live")},
		{w.ours, "attach", func() error {
			return errors.Join(call("AttachDisk", cli.Params{"DiskID": w.disk, "ResourceID": w.vm, "ResourceType": "VM"}, nil), w.diskState(w.disk, "Bound"))
		}},
		{w.ours, "snapshot", func() error {
			if err := call("CreateSnapshot", cli.Params{"DiskID": w.disk, "Name": "bench"}, &snapshot); err != nil {
				return err
			}
			return w.state("DescribeSnapshot", "SnapshotIDs", "SnapshotStatus", snapshot.SnapshotID, "Normal")
		}},
		{nil, "node", func() (err error) { node, err = w.node(); return err }},
		{w.bare, "snapshot", func() error {
			return virsh("domfsfreeze " + w.vm + "; " + monitor("blockdev-snapshot-internal-sync") + "; domfsthaw " + w.vm)()
		}},
		{w.bare, "snapshot delete", func() error { return virsh(monitor("blockdev-snapshot-delete-internal-sync"))() }},
		{w.ours, "disk from snapshot", func() error {
			return copyOf("CreateDiskFromSnapshot", cli.Params{"SrcSnapshotID": snapshot.SnapshotID})()
		}},
		{w.bare, "disk from snapshot", func() error { return convert(spare+"-copy", "-U", "-l", "snapshot.name="+snapshot.SnapshotID)() }},
		{w.ours, "snapshot delete", func() error {
			return errors.Join(call("DeleteSnapshot", cli.Params{"SnapshotID": snapshot.SnapshotID}, nil),
				w.state("DescribeSnapshot", "SnapshotIDs", "SnapshotStatus", snapshot.SnapshotID, ""))
		}},
		{w.ours, "detach", func() error {
			return errors.Join(call("DetachDisk", cli.Params{"DiskID": w.disk, "ResourceID": w.vm}, nil), w.diskState(w.disk, "Unbound"))
		}},
		{w.ours, "clone", copyOf("CloneDisk", cli.Params{"SrcID": w.disk})},
		{w.bare, "clone", convert(spare + "-clone")},
		{nil, "remove", func() error {
			for _, id := range copied {
				if err := call("DeleteDisk", cli.Params{"DiskID": id}, nil); err != nil {
					return err
				}
			}
			_, err := w.run(w.ctx, "rm", "-f", w.file(spare), w.file(spare+"-copy"), w.file(spare+"-clone"))
			return err
		}},
	} {
		into := step.into
		if into == nil {
			into = map[string][]time.Duration{}
		}
		if err := take(into, step.what, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}
