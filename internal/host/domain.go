package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// EnsureDomain implements hostlink.Host: it makes the definition as the
// specification says and sets going what its power asks for. What a running
// guest cannot take over at once holds from its next start.
func (h *Host) EnsureDomain(ctx context.Context, r *pb.EnsureDomainRequest) (*pb.Domain, error) {
	spec := r.GetSpec()
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	return bounded(ctx, h, spec.Id, func(ctx context.Context) (*pb.Domain, error) {
		if err := h.fence.admit(spec.Id, r.Fence); err != nil {
			return nil, err
		}
		l, err := h.virt.get(ctx)
		if err != nil {
			return nil, err
		}
		if spec.Power == pb.Power_POWER_OFF {
			if err := h.cut(l, spec.Id); err != nil {
				return nil, err
			}
		}
		d, err := h.defined(ctx, l, spec, r.GetFence().GetGeneration())
		if err != nil {
			return nil, err
		}
		leaving, err := h.plug(ctx, l, d, spec)
		if err != nil {
			return nil, err
		}
		if err := h.power(l, d, spec); err != nil {
			return nil, err
		}
		state, err := h.describe(l, d.dom)
		if err != nil {
			return nil, err
		}
		if state.State != pb.DomainState_DOMAIN_STATE_STOPPED {
			state.Volumes = union(state.Volumes, leaving)
		}
		h.events.publish(state)
		return state, nil
	})
}

// cut ends a guest's QEMU. It comes before all else that is asked of libvirt: while a QEMU that hangs was asked to shut
// down, libvirt keeps whoever wants to change its guest waiting, but not who ends it.
func (h *Host) cut(l *libvirt.Libvirt, id string) error {
	h.endTask(id)
	d, _, err := h.find(l, id)
	if err != nil || d == nil {
		return err
	}
	if on, err := active(l, d.dom); err != nil || !on {
		return err
	}
	if err := l.DomainDestroyFlags(d.dom, 0); err != nil && !isInvalid(err) {
		return virtError(err)
	}
	return nil
}

// plug gives a running guest the CPUs, memory, discs, volumes and NICs of its specification; leaving are volumes that it
// still has to let go of. A guest that is to be off is asked nothing: its QEMU may hang, or end while it is asked. Like
// one that went off under our hands it has what is wanted from its next start.
func (h *Host) plug(ctx context.Context, l *libvirt.Libvirt, d *domain, spec *pb.DomainSpec) (leaving []string, err error) {
	if spec.Power == pb.Power_POWER_SHUTDOWN || spec.Power == pb.Power_POWER_OFF {
		return nil, nil
	}
	if on, err := active(l, d.dom); err != nil || !on {
		return nil, err
	}
	err = h.plugCompute(l, d, spec)
	if err == nil {
		leaving, err = h.plugDisks(ctx, l, d, spec)
	}
	if err == nil {
		err = h.plugNICs(l, d, spec)
	}
	if err != nil {
		if on, e := active(l, d.dom); e == nil && !on {
			return nil, nil
		}
	}
	return leaving, err
}

// union are the strings of two lists, in order, each once.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// domain is a domain of ours with what we remember of it.
type domain struct {
	dom    libvirt.Domain
	marker *marker
	saved  string // the marker as it is in the definition
}

// find looks a domain of ours up. nil: there is none. A domain of that name which is not ours is ErrInvalid.
func (h *Host) find(l *libvirt.Libvirt, id string) (*domain, *libvirtxml.Domain, error) {
	dom, err := l.DomainLookupByName(id)
	if libvirt.IsNotFound(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, virtError(err)
	}
	x, err := domainXML(l, dom, libvirt.DomainXMLInactive)
	if libvirt.IsNotFound(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, virtError(err)
	}
	m := readMarker(x)
	if m == nil {
		return nil, nil, fmt.Errorf("%w: %s is a domain of somebody else", hostlink.ErrInvalid, id)
	}
	saved, err := m.xml()
	if err != nil {
		return nil, nil, err
	}
	return &domain{dom, m, saved}, x, nil
}

// defined makes the definition and the seed as the specification says, or leaves them when they are.
func (h *Host) defined(ctx context.Context, l *libvirt.Libvirt, spec *pb.DomainSpec, generation uint64) (*domain, error) {
	select {
	case <-h.asked:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: SPICE is still being probed", hostlink.ErrUnavailable)
	}
	datapath := h.datapathOf(ctx)
	digest, err := h.specDigest(spec, datapath)
	if err != nil {
		return nil, err
	}
	d, previous, err := h.find(l, spec.Id)
	if err != nil {
		return nil, err
	}
	if d != nil && d.marker.Spec == digest {
		d.marker.Generation = max(d.marker.Generation, generation)
		if _, err := os.Stat(h.seedPath(spec.Id)); spec.Seed == nil || err == nil {
			if err := h.teachSecrets(l, spec); err != nil {
				return nil, err
			}
			return d, h.save(l, d)
		}
	}
	set := settings{
		arch: h.arch, virtType: h.virtType, datapath: datapath, bridge: h.conf.Bridge, spice: h.spice.Load(),
		console: h.consolePath(spec.Id), previous: previous,
	}
	if d != nil {
		set.marker = *d.marker
	} else {
		set.marker = marker{ID: spec.Id, Restart: spec.RestartSerial}
	}
	set.marker.Spec = digest
	set.marker.Generation = max(set.marker.Generation, generation)
	if set.disks, err = h.domainDisks(ctx, l, spec); err != nil {
		return nil, err
	}
	if set.cdroms, err = h.cdroms(spec); err != nil {
		return nil, err
	}
	if spec.Seed != nil {
		set.seed = h.seedPath(spec.Id)
		set.marker.Password = passwordDigest(spec.Seed)
		if err := h.writeSeeds(spec, set.marker.Delivered != set.marker.Password); err != nil {
			return nil, err
		}
	} else if err := h.removeSeed(spec.Id); err != nil {
		return nil, err
	}
	x, err := define(spec, set)
	if err != nil {
		return nil, err
	}
	text, err := x.Marshal()
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	dom, err := l.DomainDefineXMLFlags(text, 0)
	if err != nil {
		return nil, virtError(err)
	}
	m := set.marker
	saved, err := m.xml()
	if err != nil {
		return nil, err
	}
	return &domain{dom, &m, saved}, nil
}

// save writes the marker into the stored definition when it changed.
func (h *Host) save(l *libvirt.Libvirt, d *domain) error {
	text, err := d.marker.xml()
	if err != nil || text == d.saved {
		return err
	}
	err = l.DomainSetMetadata(d.dom, int32(libvirt.DomainMetadataElement), libvirt.OptString{text},
		libvirt.OptString{"lingyun"}, libvirt.OptString{markerNamespace}, libvirt.DomainAffectConfig)
	if err != nil {
		return virtError(err)
	}
	d.saved = text
	return nil
}

// active tells whether a domain has a QEMU.
func active(l *libvirt.Libvirt, dom libvirt.Domain) (bool, error) {
	n, err := l.DomainIsActive(dom)
	return n == 1, virtError(err)
}

// power sets going what is asked for; it waits for nothing that a guest does.
func (h *Host) power(l *libvirt.Libvirt, d *domain, spec *pb.DomainSpec) error {
	on, err := active(l, d.dom)
	if err != nil {
		return err
	}
	switch spec.Power {
	case pb.Power_POWER_RUNNING:
		d.marker.Stopping = false
		if !on {
			d.marker.Restart, d.marker.Restarting = spec.RestartSerial, 0
			if err := h.save(l, d); err != nil {
				return err
			}
			h.endTask(spec.Id)
			return h.start(l, d.dom)
		}
		if state, _, err := l.DomainGetState(d.dom, 0); err != nil {
			return virtError(err)
		} else if libvirt.DomainState(state) == libvirt.DomainPaused {
			// Paused by a full disk or by hand. One that starts up is refused, and runs soon.
			if err := l.DomainResume(d.dom); err != nil && !isInvalid(err) {
				return virtError(err)
			}
		}
		if spec.RestartSerial > d.marker.Restart {
			d.marker.Restarting = spec.RestartSerial
			if err := h.save(l, d); err != nil {
				return err
			}
			h.startTask(spec.Id, restarting, spec.RestartSerial)
			return nil
		}
		h.endTask(spec.Id)
	case pb.Power_POWER_SHUTDOWN:
		d.marker.Stopping, d.marker.Restarting = on, 0
		d.marker.Restart = max(d.marker.Restart, spec.RestartSerial)
		if err := h.save(l, d); err != nil {
			return err
		}
		if on {
			h.startTask(spec.Id, stopping, 0)
		} else {
			h.endTask(spec.Id)
		}
		return nil
	case pb.Power_POWER_OFF: // cut has done it
		d.marker.Stopping, d.marker.Restarting = false, 0
		d.marker.Restart = max(d.marker.Restart, spec.RestartSerial)
	}
	return h.save(l, d)
}

// isInvalid: the domain is not in the state for it any more (it stopped by itself).
func isInvalid(err error) bool {
	var e libvirt.Error
	return errors.As(err, &e) && libvirt.ErrorNumber(e.Code) == libvirt.ErrOperationInvalid
}

// describe tells the state of a domain of ours; ErrNotFound when it is gone or not ours.
func (h *Host) describe(l *libvirt.Libvirt, dom libvirt.Domain) (*pb.Domain, error) {
	x, err := domainXML(l, dom, libvirt.DomainXMLInactive)
	if err != nil {
		return nil, virtError(err)
	}
	m := readMarker(x)
	if m == nil {
		return nil, fmt.Errorf("%w: %s is not ours", hostlink.ErrNotFound, dom.Name)
	}
	state, reason, err := l.DomainGetState(dom, 0)
	if err != nil {
		return nil, virtError(err)
	}
	out := &pb.Domain{Id: m.ID, Generation: m.Generation, RestartSerial: m.Restart}
	switch libvirt.DomainState(state) {
	case libvirt.DomainRunning, libvirt.DomainBlocked, libvirt.DomainPmsuspended:
		out.State = pb.DomainState_DOMAIN_STATE_RUNNING
		if libvirt.DomainState(state) == libvirt.DomainPmsuspended {
			out.Reason = "the guest sleeps"
		}
	case libvirt.DomainPaused:
		switch libvirt.DomainPausedReason(reason) {
		case libvirt.DomainPausedStartingUp:
			out.State = pb.DomainState_DOMAIN_STATE_STARTING
		case libvirt.DomainPausedIoerror:
			out.State, out.Reason = pb.DomainState_DOMAIN_STATE_RUNNING, "paused: a disk failed or is full"
		case libvirt.DomainPausedCrashed:
			out.State, out.Reason = pb.DomainState_DOMAIN_STATE_CRASHED, "the guest crashed"
		default:
			out.State, out.Reason = pb.DomainState_DOMAIN_STATE_RUNNING, "paused"
		}
	case libvirt.DomainShutdown:
		out.State = pb.DomainState_DOMAIN_STATE_STOPPING
	case libvirt.DomainCrashed:
		out.State, out.Reason = pb.DomainState_DOMAIN_STATE_CRASHED, "the guest crashed"
	default: // shut off
		out.State = pb.DomainState_DOMAIN_STATE_STOPPED
		switch libvirt.DomainShutoffReason(reason) {
		case libvirt.DomainShutoffCrashed:
			out.State, out.Reason = pb.DomainState_DOMAIN_STATE_CRASHED, "its QEMU ended"
		case libvirt.DomainShutoffFailed:
			out.State, out.Reason = pb.DomainState_DOMAIN_STATE_CRASHED, "it could not be started"
		}
	}
	if out.State == pb.DomainState_DOMAIN_STATE_RUNNING {
		switch {
		case m.Stopping:
			out.State = pb.DomainState_DOMAIN_STATE_STOPPING
		case m.Restarting > m.Restart:
			out.State, out.Reason = pb.DomainState_DOMAIN_STATE_STARTING, "restarting"
		}
		if live, err := domainXML(l, dom, 0); err == nil {
			out.AgentConnected = agentConnected(live)
			out.Cpus, out.MemoryMib = liveCPUs(live), liveMemory(live)
			x = live
		}
	}
	out.Volumes, out.Ports = h.openVolumes(x), interfaceIDs(x)
	return out, nil
}

func agentConnected(x *libvirtxml.Domain) bool {
	if x.Devices == nil {
		return false
	}
	for _, c := range x.Devices.Channels {
		if c.Target != nil && c.Target.VirtIO != nil && c.Target.VirtIO.Name == guestAgent {
			return c.Target.VirtIO.State == "connected"
		}
	}
	return false
}

// deliver takes the password out of the seed of a guest that is up and has taken
// it over. The running guest has the old seed's disk open until it is off.
func (h *Host) deliver(ctx context.Context, l *libvirt.Libvirt, id string) error {
	unlock, err := h.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	d, _, err := h.find(l, id)
	if d == nil || err != nil || d.marker.Password == "" || d.marker.Delivered == d.marker.Password {
		return err
	}
	if live, err := domainXML(l, d.dom, 0); err != nil || !agentConnected(live) {
		return virtError(err)
	}
	if err := os.Rename(h.bareSeedPath(id), h.seedPath(id)); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	d.marker.Delivered = d.marker.Password
	return h.save(l, d)
}

func passwordDigest(s *pb.Seed) string {
	if s.GetHashedPassword() == "" {
		return ""
	}
	// A system that was made anew needs it again.
	sum := sha256.Sum256([]byte(s.InstanceId + "\n" + s.HashedPassword))
	return hex.EncodeToString(sum[:])
}

// RemoveDomain implements hostlink.Host: power off, undefine, drop seed, console log and ports. Volumes stay.
func (h *Host) RemoveDomain(ctx context.Context, r *pb.RemoveDomainRequest) (*pb.RemoveDomainResponse, error) {
	if err := checkID("domain", r.GetId()); err != nil {
		return nil, err
	}
	return bounded(ctx, h, r.Id, func(ctx context.Context) (*pb.RemoveDomainResponse, error) {
		if err := h.fence.admit(r.Id, r.Fence); err != nil {
			return nil, err
		}
		l, err := h.virt.get(ctx)
		if err != nil {
			return nil, err
		}
		d, x, err := h.find(l, r.Id)
		if err != nil {
			return nil, err
		}
		h.endTask(r.Id)
		if d != nil {
			if err := l.DomainDestroyFlags(d.dom, 0); err != nil && !isInvalid(err) && !libvirt.IsNotFound(err) {
				return nil, virtError(err)
			}
			err := l.DomainUndefineFlags(d.dom, libvirt.DomainUndefineNvram|libvirt.DomainUndefineManagedSave|
				libvirt.DomainUndefineSnapshotsMetadata|libvirt.DomainUndefineCheckpointsMetadata)
			if err != nil && !libvirt.IsNotFound(err) {
				return nil, virtError(err)
			}
			h.unplug(ctx, interfaceIDs(x))
		}
		if err := h.removeSeed(r.Id); err != nil {
			return nil, err
		}
		logs, _ := filepath.Glob(h.consolePath(r.Id) + "*") // and what virtlogd rotated
		for _, path := range logs {
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				return nil, fmt.Errorf("host: %w", err)
			}
		}
		h.events.publish(&pb.Domain{Id: r.Id, State: pb.DomainState_DOMAIN_STATE_ABSENT, Generation: h.fence.generation(r.Id)})
		return &pb.RemoveDomainResponse{}, nil
	})
}
