package host

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
)

const (
	// leftPatience is how long QEMU may take to be done with a device that the guest let go of.
	leftPatience = 2 * time.Second
	leftPause    = 20 * time.Millisecond
)

// libvirtNode is how libvirt names what QEMU opens for a disk: by an index, which the live definition shows.
var libvirtNode = regexp.MustCompile(`^libvirt-([0-9]+)-(format|storage)$`)

// leftNodes are those of QEMU's block nodes that belong to disks which are in the live definition no more.
func leftNodes(names []string, live *libvirtxml.Domain) []string {
	known := map[uint64]bool{}
	source := func(s *libvirtxml.DomainDiskSource) {
		if s != nil {
			known[uint64(s.Index)] = true
		}
	}
	below := func(b *libvirtxml.DomainDiskBackingStore) {
		for ; b != nil; b = b.BackingStore {
			known[uint64(b.Index)] = true
			source(b.Source)
		}
	}
	if live.Devices != nil {
		for _, d := range live.Devices.Disks {
			source(d.Source)
			below(d.BackingStore)
			if d.Mirror != nil {
				source(d.Mirror.Source)
				below(d.Mirror.BackingStore)
			}
		}
	}
	var left []string
	for _, name := range names {
		if m := libvirtNode.FindStringSubmatch(name); m != nil {
			if index, err := strconv.ParseUint(m[1], 10, 32); err == nil && !known[index] {
				left = append(left, name)
			}
		}
	}
	return left
}

// closeLeft closes what QEMU has open of disks that left a guest. libvirt does that once, when the guest lets go, and
// gives up when QEMU is not done with the device at that moment: then the volume stays locked as long as the guest runs.
// A node that something uses cannot be closed. It answers the live definition.
func (h *Host) closeLeft(ctx context.Context, l *libvirt.Libvirt, dom libvirt.Domain) (*libvirtxml.Domain, error) {
	for deadline := time.Now().Add(leftPatience); ; {
		var nodes []struct {
			Name string `json:"node-name"`
		}
		if err := monitor(l, dom, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
			return nil, err
		}
		live, err := domainXML(l, dom, 0)
		if err != nil {
			return nil, virtError(err)
		}
		names := make([]string, len(nodes))
		for i, n := range nodes {
			names[i] = n.Name
		}
		left := leftNodes(names, live)
		if len(left) == 0 {
			return live, nil
		}
		var failure error
		for _, name := range left {
			if err := monitor(l, dom, "blockdev-del", map[string]any{"node-name": name}, nil); err != nil {
				failure = err // a storage, before its format: in the next round
			}
		}
		h.log.Info("closing what QEMU kept of a disk", "domain", dom.Name, "nodes", left, "error", failure)
		if failure != nil && time.Now().After(deadline) {
			return nil, fmt.Errorf("%w: the QEMU of %s is not done with a disk that left: %w", hostlink.ErrUnavailable, dom.Name, failure)
		}
		t := time.NewTimer(leftPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}
