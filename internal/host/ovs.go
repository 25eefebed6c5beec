package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Chassis is this machine's part in OVN, as its Open vSwitch database tells
// ovn-controller. What is empty is left as the database has it.
type Chassis struct {
	// OVSDB is Open vSwitch's database; empty: unix:/run/openvswitch/db.sock.
	OVSDB string
	// ID is the chassis' name (OVN system-id): the host's id.
	ID string
	// Southbound is the southbound database: ssl:ADDRESS:6642, tcp:..., unix:PATH; commas between several.
	Southbound string
	// EncapIP is the Geneve endpoint: an address of this machine that the other hosts reach.
	EncapIP string
	// Bridge is the integration bridge; empty: br-int.
	Bridge string
	// Datapath is netdev or system: with it the integration bridge and those of Mappings are made when missing.
	Datapath string
	// Mappings are the bridges of provider networks, by network.
	Mappings map[string]string
	// Key, Certificate and CA are files for an ssl southbound.
	Key, Certificate, CA string
}

var (
	validBridge  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)
	validNetwork = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)
	validChassis = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	validRemote  = regexp.MustCompile(`^(ssl|tcp):[][A-Za-z0-9_.:-]+$|^unix:/[A-Za-z0-9_./-]+$`)
)

// ConfigureChassis makes Open vSwitch's database say what c says, in one
// transaction; a repeated call changes nothing. ovs-vswitchd need not run: it and
// ovn-controller take it up when they do.
func ConfigureChassis(ctx context.Context, c Chassis) error {
	args, err := c.arguments()
	if err != nil {
		return err
	}
	_, err = vsctl(ctx, c.OVSDB, args...)
	return err
}

// arguments of ovs-vsctl for the whole change.
func (c Chassis) arguments() ([]string, error) {
	if c.Bridge == "" {
		c.Bridge = "br-int"
	}
	if !validChassis.MatchString(c.ID) {
		return nil, fmt.Errorf("host: chassis name %q", c.ID)
	}
	if !validBridge.MatchString(c.Bridge) {
		return nil, fmt.Errorf("host: bridge name %q", c.Bridge)
	}
	id := func(key, value string) string { return "external_ids:" + key + "=" + strconv.Quote(value) }
	args := []string{"--no-wait", "set", "Open_vSwitch", ".", id("system-id", c.ID), id("ovn-monitor-all", "true"), id("ovn-bridge", c.Bridge)}
	if c.Southbound != "" {
		for remote := range strings.SplitSeq(c.Southbound, ",") {
			if !validRemote.MatchString(remote) {
				return nil, fmt.Errorf("host: southbound %q", remote)
			}
		}
		args = append(args, id("ovn-remote", c.Southbound))
	}
	if c.EncapIP != "" {
		if _, err := netip.ParseAddr(c.EncapIP); err != nil {
			return nil, fmt.Errorf("host: Geneve endpoint: %w", err)
		}
		args = append(args, id("ovn-encap-type", "geneve"), id("ovn-encap-ip", c.EncapIP))
	}
	bridges := []string{c.Bridge}
	if len(c.Mappings) > 0 {
		var mappings []string
		for network, bridge := range c.Mappings {
			if !validNetwork.MatchString(network) || !validBridge.MatchString(bridge) || bridge == c.Bridge {
				return nil, fmt.Errorf("host: bridge %q of network %q", bridge, network)
			}
			mappings = append(mappings, network+":"+bridge)
			bridges = append(bridges, bridge)
		}
		slices.Sort(mappings)
		slices.Sort(bridges[1:])
		args = append(args, id("ovn-bridge-mappings", strings.Join(mappings, ",")))
	}
	if c.Datapath != "" {
		if c.Datapath != DatapathNetdev && c.Datapath != DatapathSystem {
			return nil, fmt.Errorf("host: datapath %q", c.Datapath)
		}
		args = append(args, id("ovn-bridge-datapath-type", c.Datapath))
		for _, bridge := range slices.Compact(bridges) {
			args = append(args, "--", "--may-exist", "add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type="+c.Datapath)
			if bridge == c.Bridge {
				args = append(args, "fail_mode=secure")
			}
		}
	}
	if c.Key != "" {
		args = append(args, "--", "set-ssl", c.Key, c.Certificate, c.CA)
	}
	return args, nil
}

// vsctl runs ovs-vsctl.
func vsctl(ctx context.Context, db string, args ...string) ([]byte, error) {
	if db == "" {
		db = "unix:/run/openvswitch/db.sock"
	}
	return run(ctx, "ovs-vsctl", append([]string{"--db=" + db, "--timeout=5"}, args...)...)
}

// ovsRows reads columns of a table: each row a map of column to value, maps and strings only.
func ovsRows(ctx context.Context, db string, args ...string) ([]map[string]any, error) {
	out, err := vsctl(ctx, db, append([]string{"--format=json"}, args...)...)
	if err != nil {
		return nil, err
	}
	var table struct {
		Headings []string
		Data     [][]any
	}
	if err := json.Unmarshal(out, &table); err != nil {
		return nil, fmt.Errorf("host: ovs-vsctl: %w", err)
	}
	var rows []map[string]any
	for _, line := range table.Data {
		row := map[string]any{}
		for i, v := range line {
			if i < len(table.Headings) {
				row[table.Headings[i]] = ovsValue(v)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// ovsValue makes a Go map of RFC 7047's ["map", [[k, v], ...]].
func ovsValue(v any) any {
	list, ok := v.([]any)
	if !ok || len(list) != 2 || list[0] != "map" {
		return v
	}
	out := map[string]string{}
	pairs, _ := list[1].([]any)
	for _, p := range pairs {
		if kv, ok := p.([]any); ok && len(kv) == 2 {
			k, _ := kv[0].(string)
			out[k], _ = kv[1].(string)
		}
	}
	return out
}

// chassis reads what Open vSwitch's database says of this machine.
func (h *Host) chassis(ctx context.Context) (map[string]string, error) {
	rows, err := ovsRows(ctx, h.conf.OVSDB, "--columns=external_ids", "list", "Open_vSwitch", ".")
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, errors.New("host: Open vSwitch's database is empty")
	}
	ids, _ := rows[0]["external_ids"].(map[string]string)
	return ids, nil
}

// datapathOf is the configured datapath, or that of the integration bridge. When Open vSwitch does
// not answer it is netdev, which works on both (slower).
func (h *Host) datapathOf(ctx context.Context) string {
	h.mu.Lock()
	known := h.datapath
	h.mu.Unlock()
	if known != "" {
		return known
	}
	rows, err := ovsRows(ctx, h.conf.OVSDB, "--columns=datapath_type", "list", "Bridge", h.conf.Bridge)
	if err != nil || len(rows) != 1 {
		return DatapathNetdev
	}
	found := DatapathSystem // an empty type is the kernel's
	if rows[0]["datapath_type"] == DatapathNetdev {
		found = DatapathNetdev
	}
	h.mu.Lock()
	h.datapath = found
	h.mu.Unlock()
	return found
}

// port is an interface that somebody plugged into Open vSwitch for a logical port.
type port struct{ name, id string }

func (h *Host) ports(ctx context.Context) ([]port, error) {
	rows, err := ovsRows(ctx, h.conf.OVSDB, "--columns=name,external_ids", "list", "Interface")
	if err != nil {
		return nil, err
	}
	var out []port
	for _, row := range rows {
		name, _ := row["name"].(string)
		ids, _ := row["external_ids"].(map[string]string)
		if ids["iface-id"] != "" {
			out = append(out, port{name, ids["iface-id"]})
		}
	}
	return out, nil
}

// unplug removes what libvirt left of a removed guest's interfaces: nothing, unless the machine or
// libvirtd fell over in between.
func (h *Host) unplug(ctx context.Context, ids []string) {
	if len(ids) == 0 {
		return
	}
	ports, err := h.ports(ctx)
	if err != nil {
		h.log.Warn("ports were not looked at", "error", err)
		return
	}
	for _, p := range ports {
		if _, err := uuid.Parse(p.id); err != nil || !slices.Contains(ids, p.id) {
			continue
		}
		if _, err := vsctl(ctx, h.conf.OVSDB, "--if-exists", "del-port", h.conf.Bridge, p.name); err != nil {
			h.log.Warn("port stays", "port", p.id, "error", err)
		}
	}
}
