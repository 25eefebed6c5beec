// Package trial runs a whole cloud on one machine and keeps it to itself: its
// fabric, its hosts and its outside are network namespaces of their own, and
// nothing of the machine's own network changes. The machine reaches it over
// loopback only.
//
//	PREFIX-fabric    three switches: management, overlay, provider
//	PREFIX-mgmt      the controller and OVN's databases
//	PREFIX-hostN     one host each, with mounts and a host name of its own:
//	                 libvirtd, Open vSwitch, ovn-controller, the agent, guests
//	PREFIX-outside   what is outside the cloud: it bears the external segment's gateway
//
// A supervisor (Supervise) builds all this, starts, restarts and reaps every
// program in it, and ends them again. Other programs talk to it through a
// socket in the trial's directory (Trial).
package trial

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
)

// Options say what a trial consists of. They are fixed while it runs.
type Options struct {
	// Dir keeps everything: the controller's data, databases, logs, hosts. Absolute,
	// short (sockets live below it), and searchable by others (guests run as their own user).
	Dir string
	// Prefix of the namespaces' names, so that several trials live side by side.
	Prefix string
	// Hosts, 1 to 20.
	Hosts int
	// Binary is the lingyun executable that controller and agents are started from.
	Binary string
	// Listen is the address on the machine's loopback where the API is reached.
	Listen string
	// Segment is the external network; its first address is the outside.
	Segment netip.Prefix
	// Machine puts the cloud on the machine itself; nil: a trial in namespaces of its own.
	Machine *Machine `json:",omitempty"`
	// VirtType of the hosts, kvm or qemu; empty: every host finds out.
	VirtType string
	// EnginesOnly leaves the controller and the agents out.
	EnginesOnly bool
}

// ProviderNetwork is the name of the provider network in the hosts' bridge mappings.
const ProviderNetwork = "provider"

// Networks inside the trial. Nobody outside of it sees them; tenants' networks
// cannot overlap with them (100.64.0.0/10 is no VPC range).
var (
	managementNetwork = netip.MustParsePrefix("100.64.0.0/24")
	overlayNetwork    = netip.MustParsePrefix("100.64.1.0/24")
)

// DefaultSegment is the external network of a trial: reserved for
// documentation, so that it is nobody's real address.
var DefaultSegment = netip.MustParsePrefix("203.0.113.0/24")

var validPrefix = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func (o *Options) complete() error {
	if o.Prefix == "" {
		o.Prefix = "lingyun"
	}
	if o.Hosts == 0 {
		o.Hosts = 1
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8080"
	}
	if o.Machine != nil {
		if err := o.Machine.check(o.Segment); err != nil {
			return err
		}
		o.Hosts = 1
	}
	if !o.Segment.IsValid() {
		o.Segment = DefaultSegment
	}
	switch {
	case !validPrefix.MatchString(o.Prefix):
		return fmt.Errorf("trial: %q cannot be a prefix of names", o.Prefix)
	case o.Hosts < 1 || o.Hosts > 20:
		return fmt.Errorf("trial: %d hosts; 1 to 20 are possible", o.Hosts)
	case !filepath.IsAbs(o.Dir) || len(o.Dir) > 60:
		return fmt.Errorf("trial: the directory %q must be absolute and at most 60 characters long", o.Dir)
	case !o.Segment.Addr().Is4() || o.Segment.Bits() > 28:
		return fmt.Errorf("trial: the segment %s must be IPv4 and at least a /28", o.Segment)
	case !o.EnginesOnly && !filepath.IsAbs(o.Binary):
		return errors.New("trial: Binary must be an absolute path")
	}
	o.Segment = o.Segment.Masked()
	return nil
}

func (o Options) namespace(short string) string { return o.Prefix + "-" + short }

// hostName is the short name of a host, from 1.
func hostName(n int) string { return fmt.Sprintf("host%d", n) }

// address is the nth address of a network, with its prefix length.
func address(network netip.Prefix, n int) netip.Prefix {
	a := network.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return netip.PrefixFrom(a, network.Bits())
}

// controllerAddress is where hosts reach the controller.
func (o Options) controllerAddress() netip.Addr {
	if o.Machine != nil {
		return o.Machine.Management
	}
	return ControllerAddress()
}

// ControllerAddress is the controller's address on the management network.
func ControllerAddress() netip.Addr { return address(managementNetwork, 1).Addr() }

// HostAddress is the nth host's address on the management network, n from 1.
func HostAddress(n int) netip.Addr { return address(managementNetwork, 10+n).Addr() }

// OutsideAddress is the address of the outside on the segment: its gateway.
func (o Options) OutsideAddress() netip.Addr { return address(o.Segment, 1).Addr() }

// Files of a trial.
func (o Options) trialDir() string       { return filepath.Join(o.Dir, "trial") }
func (o Options) logDir() string         { return filepath.Join(o.trialDir(), "log") }
func (o Options) hostDir(n int) string   { return filepath.Join(o.trialDir(), hostName(n)) }
func (o Options) stateFile() string      { return filepath.Join(o.trialDir(), "state.json") }
func (o Options) lockFile() string       { return filepath.Join(o.trialDir(), "lock") }
func (o Options) controlSocket() string  { return filepath.Join(o.trialDir(), "control.sock") }
func (o Options) ovn(name string) string { return filepath.Join(o.trialDir(), "ovn", name) }
