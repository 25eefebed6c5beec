package host

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// sourceOf names what a disk of a definition opens; empty: nothing of ours.
func sourceOf(d libvirtxml.DomainDisk) string {
	switch {
	case d.Source == nil:
	case d.Source.File != nil:
		return d.Source.File.File
	case d.Source.Network != nil:
		return d.Source.Network.Protocol + ":" + d.Source.Network.Name
	}
	return ""
}

// agentSeconds is how long the guest's agent may take to put its file systems to rest.
const agentSeconds = 5

// snapshotLive takes a snapshot under a running guest, whose file systems are at rest meanwhile when its agent can do
// that.
func (h *Host) snapshotLive(l *libvirt.Libvirt, u use, id string, take func() error) (frozen bool, err error) {
	if u.agent {
		if _, err := l.DomainAgentSetResponseTimeout(u.dom, agentSeconds, 0); err == nil {
			_, err := l.DomainFsfreeze(u.dom, nil, 0)
			if frozen = err == nil; !frozen {
				h.log.Info("the guest's file systems are not at rest for a snapshot", "domain", u.dom.Name, "error", err)
			}
			defer h.thaw(l, u.dom)
		}
	}
	return frozen, take()
}

// snapshotIn makes a snapshot inside of a volume's file. libvirt has none of a single disk, so QEMU is told itself; it
// lets no write through while it notes what there is.
func (h *Host) snapshotIn(l *libvirt.Libvirt, u use, id string) error {
	node, err := blockNode(l, u)
	if err != nil {
		return err
	}
	return monitor(l, u.dom, "blockdev-snapshot-internal-sync", map[string]any{"device": node, "name": id}, nil)
}

// thaw lets a guest's file systems go on; that they were not at rest is no harm.
func (h *Host) thaw(l *libvirt.Libvirt, dom libvirt.Domain) {
	if _, err := l.DomainFsthaw(dom, nil, 0); err != nil {
		h.log.Info("the guest's file systems were told to go on", "domain", dom.Name, "error", err)
	}
}

// thawLater lets a guest go on whose file systems an agent that ended in the middle of a snapshot left at rest.
func (h *Host) thawLater(l *libvirt.Libvirt, dom libvirt.Domain) {
	if x, err := domainXML(l, dom, 0); err != nil || !agentConnected(x) {
		return
	}
	h.done.Go(func() {
		if _, err := l.DomainAgentSetResponseTimeout(dom, agentSeconds, 0); err == nil {
			h.thaw(l, dom)
		}
	})
}

func (h *Host) removeSnapshotLive(l *libvirt.Libvirt, u use, id string) error {
	node, err := blockNode(l, u)
	if err != nil {
		return err
	}
	return monitor(l, u.dom, "blockdev-snapshot-delete-internal-sync", map[string]any{"device": node, "name": id}, nil)
}

// blockNode is what QEMU calls the volume of a guest's disk.
func blockNode(l *libvirt.Libvirt, u use) (string, error) {
	var blocks []struct {
		QDev     string `json:"qdev"`
		Inserted struct {
			Node string `json:"node-name"`
		} `json:"inserted"`
	}
	if err := monitor(l, u.dom, "query-block", nil, &blocks); err != nil {
		return "", err
	}
	for _, b := range blocks {
		if u.alias != "" && slices.Contains(strings.Split(b.QDev, "/"), u.alias) && b.Inserted.Node != "" {
			return b.Inserted.Node, nil
		}
	}
	return "", fmt.Errorf("host: QEMU of %s knows no disk %s", u.dom.Name, u.target)
}

// monitor asks a guest's QEMU itself.
func monitor(l *libvirt.Libvirt, dom libvirt.Domain, command string, arguments, answer any) error {
	q := map[string]any{"execute": command}
	if arguments != nil {
		q["arguments"] = arguments
	}
	text, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	out, err := l.QEMUDomainMonitorCommand(dom, string(text), 0)
	if err != nil {
		return virtError(err)
	}
	var r struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return fmt.Errorf("host: %s: %w", command, err)
	}
	if r.Error != nil {
		return fmt.Errorf("host: %s: %s", command, r.Error.Desc)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(r.Return, answer)
}

// secretUUID names a volume's passphrase to libvirt.
func secretUUID(volume string) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(markerNamespace+"/secret/"+volume))
}

// teachSecret tells libvirt a volume's passphrase, which keeps it in memory alone and gives it to nobody but QEMU.
func (h *Host) teachSecret(l *libvirt.Libvirt, volume string, secret []byte) error {
	x := &libvirtxml.Secret{
		Ephemeral: "yes", Private: "yes", UUID: secretUUID(volume).String(),
		Usage: &libvirtxml.SecretUsage{Type: "volume", Volume: filepath.Join(h.conf.Dir, "volumes", volume)},
	}
	text, err := x.Marshal()
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	s, err := l.SecretDefineXML(text, 0)
	if err != nil {
		return virtError(err)
	}
	return virtError(l.SecretSetValue(s, secret, 0))
}

// teachSecrets tells libvirt the passphrases of a domain and the keys of its pools: it forgets them when it restarts.
func (h *Host) teachSecrets(l *libvirt.Libvirt, spec *pb.DomainSpec) error {
	pools := map[string]bool{}
	for _, d := range spec.Disks {
		if d.Pool != "" && !pools[d.Pool] {
			pools[d.Pool] = true
			p, err := h.poolOf(d.Pool)
			if err != nil {
				return err
			}
			if err := h.teachPool(l, p); err != nil {
				return err
			}
		}
		if len(d.Secret) > 0 {
			if err := h.teachSecret(l, d.VolumeId, d.Secret); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *Host) forgetSecret(ctx context.Context, volume string) error {
	l, err := h.virt.get(ctx)
	if err != nil {
		return err
	}
	s, err := l.SecretLookupByUUID(libvirt.UUID(secretUUID(volume)))
	if err != nil {
		return nil // it has none
	}
	return virtError(l.SecretUndefine(s))
}

// domainDisks are the volumes of a domain as its definition has them, and libvirt knows their passphrases.
func (h *Host) domainDisks(ctx context.Context, l *libvirt.Libvirt, spec *pb.DomainSpec) ([]libvirtxml.DomainDisk, error) {
	if err := h.teachSecrets(l, spec); err != nil {
		return nil, err
	}
	var out []libvirtxml.DomainDisk
	for _, d := range spec.Disks {
		store, err := h.store(d.Pool)
		if err != nil {
			return nil, err
		}
		at, err := store.disk(ctx, d.VolumeId)
		if err != nil {
			return nil, err
		}
		out = append(out, volumeDisk(d, at, h.diskCache))
	}
	return out, nil
}

// volumeDisk completes a disk that a driver described with what the specification says of it. cache is for drivers that
// leave it to the host.
func volumeDisk(spec *pb.DomainDisk, at libvirtxml.DomainDisk, cache string) libvirtxml.DomainDisk {
	at.Device = "disk"
	at.Driver.Cache = cmp.Or(at.Driver.Cache, cache)
	at.Driver.IO, at.Driver.Discard, at.Driver.DetectZeros = "threads", "unmap", "unmap"
	at.Target = &libvirtxml.DomainDiskTarget{Dev: spec.Target, Bus: "virtio"}
	at.Serial = diskSerial(spec.VolumeId)
	if spec.BootOrder > 0 {
		at.Boot = &libvirtxml.DomainDeviceBoot{Order: uint(spec.BootOrder)}
	}
	if spec.Shared {
		at.Shareable = &libvirtxml.DomainDiskShareable{}
		at.Driver.DetectZeros = "" // what another guest wrote meanwhile is not ours to judge
	}
	if len(spec.Secret) > 0 {
		at.Source.Encryption = &libvirtxml.DomainDiskEncryption{Format: "luks",
			Secrets: []libvirtxml.DomainDiskSecret{{Type: "passphrase", UUID: secretUUID(spec.VolumeId).String()}}}
	}
	if t := spec.Limits; t != nil {
		at.IOTune = &libvirtxml.DomainDiskIOTune{TotalBytesSec: t.TotalBytes, ReadBytesSec: t.ReadBytes, WriteBytesSec: t.WriteBytes,
			TotalIopsSec: t.TotalIops, ReadIopsSec: t.ReadIops, WriteIopsSec: t.WriteIops}
	}
	return at
}

// plugDisks makes a running guest have the volumes that its specification names, within their limits. One that is
// taken away is gone once the guest lets go of it and QEMU closed it: until then it is among those that are leaving.
func (h *Host) plugDisks(ctx context.Context, l *libvirt.Libvirt, d *domain, spec *pb.DomainSpec) (leaving []string, err error) {
	live, err := h.closeLeft(ctx, l, d.dom)
	if err != nil || live.Devices == nil {
		return nil, err
	}
	wanted, err := h.domainDisks(ctx, l, spec)
	if err != nil {
		return nil, err
	}
	have := map[string]libvirtxml.DomainDisk{}
	for _, x := range live.Devices.Disks {
		// What is read-only is the seed of a guest that was started when it was no disc yet.
		if x.Device == "disk" && x.Target != nil && x.Target.Bus == "virtio" && x.ReadOnly == nil {
			have[sourceOf(x)] = x
		}
	}
	for i, w := range wanted {
		x, there := have[sourceOf(w)]
		delete(have, sourceOf(w))
		if there {
			if err := tune(l, d.dom, x, spec.Disks[i].Limits); err != nil {
				return nil, err
			}
			continue
		}
		w.Boot = nil // the order stays as the guest was started
		text, err := w.Marshal()
		if err != nil {
			return nil, fmt.Errorf("host: %w", err)
		}
		if err := l.DomainAttachDeviceFlags(d.dom, text, uint32(libvirt.DomainAffectLive)); err != nil {
			return nil, virtError(err)
		}
	}
	for _, x := range have {
		leaving = append(leaving, h.volumeOf(x)...)
		if x.Alias == nil {
			continue
		}
		// The guest is asked again with each call; that it was asked already is no failure.
		if err := l.DomainDetachDeviceAlias(d.dom, x.Alias.Name, uint32(libvirt.DomainAffectLive)); err != nil && !libvirt.IsNotFound(err) {
			h.log.Debug("the guest was asked to let go of a disk", "domain", d.dom.Name, "disk", x.Target.Dev, "error", err)
		}
	}
	return leaving, nil
}

// tune makes a live disk keep other limits.
func tune(l *libvirt.Libvirt, dom libvirt.Domain, x libvirtxml.DomainDisk, want *pb.DiskLimits) error {
	have := x.IOTune
	if have == nil {
		have = &libvirtxml.DomainDiskIOTune{}
	}
	if want == nil {
		want = &pb.DiskLimits{}
	}
	var params []libvirt.TypedParam
	changed := false
	for _, p := range []struct {
		name       string
		have, want uint64
	}{
		{"total_bytes_sec", have.TotalBytesSec, want.TotalBytes}, {"read_bytes_sec", have.ReadBytesSec, want.ReadBytes},
		{"write_bytes_sec", have.WriteBytesSec, want.WriteBytes}, {"total_iops_sec", have.TotalIopsSec, want.TotalIops},
		{"read_iops_sec", have.ReadIopsSec, want.ReadIops}, {"write_iops_sec", have.WriteIopsSec, want.WriteIops},
	} {
		changed = changed || p.have != p.want
		params = append(params, libvirt.TypedParam{Field: p.name, Value: *libvirt.NewTypedParamValueUllong(p.want)})
	}
	if !changed {
		return nil
	}
	return virtError(l.DomainSetBlockIOTune(dom, x.Target.Dev, params, uint32(libvirt.DomainAffectLive)))
}

// openVolumes are the volumes that a definition has.
func (h *Host) openVolumes(x *libvirtxml.Domain) []string {
	var ids []string
	if x.Devices == nil {
		return nil
	}
	for _, d := range x.Devices.Disks {
		ids = append(ids, h.volumeOf(d)...)
	}
	slices.Sort(ids)
	return ids
}

// volumeOf is the volume that a disk of a definition is; none: it is something else.
func (h *Host) volumeOf(d libvirtxml.DomainDisk) []string {
	name := filepath.Base(sourceOf(d))
	id := strings.TrimSuffix(strings.TrimSuffix(name, qcow2Suffix), rawSuffix)
	if d.Device == "disk" && d.Target != nil && validID.MatchString(id) {
		return []string{id}
	}
	return nil
}
