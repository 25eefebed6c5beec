package compute

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun"
	"gopkg.in/yaml.v3"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/network"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// plugs lets one change of what is plugged into a machine reach its host at a time: each reads the rows and sends all of
// them, so that one which read before another wrote would undo it.
type plugs struct{ machines sync.Map } // id -> chan struct{} of capacity 1

func (p *plugs) lock(ctx context.Context, id string) (unlock func(), err error) {
	l, _ := p.machines.LoadOrStore(id, make(chan struct{}, 1))
	lock := l.(chan struct{})
	select {
	case lock <- struct{}{}:
		return func() { <-lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var _ network.Machines = target{}

// Machine implements network.Machines.
func (t target) Machine(ctx context.Context, tx bun.Tx, scope action.Scope, id string) (*network.Machine, error) {
	v, err := vmByID(ctx, tx, scope, id)
	if err != nil {
		return nil, err
	}
	if err := check(v, Bind); err != nil {
		return nil, err
	}
	if err := t.Ledger.Check(ctx, tx, v.ID); err != nil {
		return nil, err
	}
	return &network.Machine{PortID: v.PortID, Name: v.Name, Project: v.Project, HostID: v.HostID, Arch: v.Arch, Stopped: v.State == Stopped}, nil
}

// Plug implements network.Machines: the host is told the whole domain, and nothing of its power, until it has the
// interfaces that the rows name. A guest may take a moment to let go of one.
func (t target) Plug(ctx context.Context, id string) error {
	failure := retcode.SystemBusy.Errorf("the host could not change the network interfaces of %s", id)
	events, stop := t.listen(id)
	defer stop()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		done, err := t.plugOnce(ctx, id, failure)
		if err != nil || done {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return failure.Wrap(ctx.Err())
		case <-events:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// Readdress implements network.Machines.
func (t target) Readdress(ctx context.Context, tx bun.Tx, id, subnet string) error {
	v, err := vmByID(ctx, tx, action.Scope{}, id)
	if err != nil {
		return err
	}
	v.SubnetID = subnet
	ok, err := t.move(ctx, tx, v, Readdressing, "subnet_id")
	if err == nil && !ok {
		err = retcode.InvalidVMState.Errorf("%s is being changed by another request", v.ID)
	}
	return err
}

// Readdressed implements network.Machines.
func (t target) Readdressed(ctx context.Context, tx bun.Tx, id string, cause error) error {
	v, err := vmByID(ctx, tx, action.Scope{}, id)
	if err != nil || v.State != Readdressing {
		return err
	}
	v.because(cause)
	_, err = t.move(ctx, tx, v, Stopped, "reason", "reason_code")
	return err
}

func (t target) plugOnce(ctx context.Context, id string, failure *retcode.Error) (done bool, err error) {
	unlock, err := t.plugs.lock(ctx, id)
	if err != nil {
		return false, failure.Wrap(err)
	}
	defer unlock()
	v, err := vmByID(ctx, t.DB.Reader(), action.Scope{}, id)
	if err != nil {
		return false, err
	}
	spec, err := t.domain(ctx, v)
	if err != nil {
		return false, err
	}
	d, err := t.Fleet.Host(v.HostID).EnsureDomain(ctx, &pb.EnsureDomainRequest{Fence: fence(v.Generation), Spec: spec})
	if errors.Is(err, hostlink.ErrFenced) {
		return false, nil // its power was cut meanwhile: the row is read again
	}
	if err != nil {
		return false, t.hostFailure(ctx, v, err, failure)
	}
	var wanted []string
	for _, n := range spec.Nics {
		wanted = append(wanted, n.PortUuid)
	}
	have := slices.Clone(d.Ports)
	slices.Sort(wanted)
	slices.Sort(have)
	return slices.Equal(wanted, have), nil
}

// domainNICs are the interfaces of a machine, its own first.
func (s *Service) domainNICs(v *VM, ports []network.Port) []*pb.DomainNIC {
	var out []*pb.DomainNIC
	for _, p := range ports {
		n := &pb.DomainNIC{PortUuid: p.UUID, Mac: p.MAC, PortId: p.ID}
		if p.SegmentID == "" {
			n.Mtu = uint32(s.Fleet.OverlayMTU(v.Region))
		}
		out = append(out, n)
	}
	return out
}

// tableOf is the guest's routing table of an elastic NIC: replies leave by the interface whose address was asked.
const tableOf = 100

type guestConfig struct {
	Version   int                  `yaml:"version"`
	Ethernets map[string]guestLink `yaml:"ethernets"`
}

type guestLink struct {
	Match     map[string]string `yaml:"match"`
	SetName   string            `yaml:"set-name,omitempty"`
	DHCP4     bool              `yaml:"dhcp4"`
	Addresses []string          `yaml:"addresses,omitempty"`
	Overrides map[string]bool   `yaml:"dhcp4-overrides,omitempty"`
	Routes    []map[string]any  `yaml:"routes,omitempty"`
	Policy    []map[string]any  `yaml:"routing-policy,omitempty"`
}

// networkConfig is NoCloud's network configuration of a machine with elastic NICs; without it the guest asks DHCP for
// everything. Interfaces are known by their MAC.
func (s *Service) networkConfig(ctx context.Context, v *VM, ports []network.Port) (string, error) {
	if len(ports) == 1 {
		return "", nil
	}
	config := guestConfig{Version: 2, Ethernets: map[string]guestLink{}}
	for i, p := range ports {
		name := fmt.Sprint("eth", i)
		link := guestLink{Match: map[string]string{"macaddress": p.MAC}, SetName: name, DHCP4: true}
		if i > 0 {
			if v.DNS != "" { // the machine's own servers come with its first interface
				link.Overrides = map[string]bool{"use-dns": false}
			}
			c, err := s.Network.ConfigOf(ctx, s.DB.Reader(), &p)
			if err != nil {
				return "", err
			}
			if c.Static {
				link.DHCP4, link.Addresses = false, []string{c.Address.String()}
			}
			if c.Gateway.IsValid() {
				link.Policy = []map[string]any{{"from": p.IP + "/32", "table": tableOf + i}}
				link.Routes = []map[string]any{{"to": "0.0.0.0/0", "via": c.Gateway.String(), "table": tableOf + i}}
			}
		}
		config.Ethernets[name] = link
	}
	text, err := yaml.Marshal(config)
	return string(text), err
}
