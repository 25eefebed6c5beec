package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// MaxRules is how many rules a security group may have.
const MaxRules = 100

// Protocols of rules as stored and answered.
const (
	protoAll    = "ALL"
	protoTCP    = "TCP"
	protoUDP    = "UDP"
	protoICMP   = "ICMP"
	protoICMPv6 = "ICMPv6"
	protoGRE    = "GRE"
)

const allPorts = "1-65535"

// Remotes of rules besides a CIDR.
const (
	anyIPv4 = "0.0.0.0/0"
	anyIPv6 = "::/0"
	// sameVPC is the VPC of whatever the group is bound to. It lets one group say
	// "everything inside, this much outside" whichever VPC it is used in.
	sameVPC = "VPC"
)

// match is a protocol with ports: what the first two fields of a rule come down to.
type match struct{ protocol, ports string }

// shortcuts are names for well-known matches. They stand alone: no port goes with them.
var shortcuts = map[string][]match{
	"ALL":     {{protoAll, ""}},
	"ALL TCP": {{protoTCP, allPorts}}, "ALL_TCP": {{protoTCP, allPorts}}, "ALLTCP": {{protoTCP, allPorts}},
	"ALL UDP": {{protoUDP, allPorts}}, "ALL_UDP": {{protoUDP, allPorts}}, "ALLUDP": {{protoUDP, allPorts}},
	"ICMP": {{protoICMP, ""}}, "ICMPV4": {{protoICMP, ""}}, "PING": {{protoICMP, ""}},
	"ICMPV6":  {{protoICMPv6, ""}},
	"GRE":     {{protoGRE, ""}},
	"FTP":     {{protoTCP, "21"}},
	"SSH":     {{protoTCP, "22"}},
	"HTTP":    {{protoTCP, "80"}},
	"HTTPS":   {{protoTCP, "443"}},
	"RDP":     {{protoTCP, "3389"}},
	"OPENVPN": {{protoUDP, "1194"}},
	"PPTP":    {{protoTCP, "1723"}, {protoGRE, ""}},
}

// parseRules reads rules of the form PROTOCOL|PORT|ADDRESS|ACTION|PRIORITY|DIRECTION. Errors name the rule:
// 4 malformed, 113 out of range or not allowed, 16000 twice. IP and port groups are not looked up.
func parseRules(texts []string) ([]ruleRow, error) {
	var rows []ruleRow
	for _, text := range texts {
		parsed, err := parseRule(text)
		if err != nil {
			return nil, err
		}
		for _, r := range parsed {
			if i := slices.IndexFunc(rows, r.meets); i >= 0 {
				return nil, rows[i].twice(text)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func parseRule(text string) ([]ruleRow, error) {
	f := strings.Split(text, "|")
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	if len(f) == 7 && f[6] == "" {
		f = f[:6]
	}
	if len(f) == 7 {
		return nil, retcode.InvalidParameter.Errorf("rule %q: a new rule has no id", text)
	}
	if len(f) != 6 {
		return nil, retcode.InvalidParameterFormat.Errorf("rule %q: the form is PROTOCOL|PORT|CIDR|ACTION|PRIORITY|DIRECTION", text)
	}
	r := ruleRow{Action: strings.ToUpper(f[3]), Priority: strings.ToUpper(f[4]), Ingress: f[5] == "1"}
	if r.Action != "ACCEPT" && r.Action != "DROP" {
		return nil, retcode.InvalidParameter.Errorf("rule %q: the action is ACCEPT or DROP", text)
	}
	if r.Priority != "HIGH" && r.Priority != "MEDIUM" && r.Priority != "LOW" {
		return nil, retcode.InvalidParameter.Errorf("rule %q: the priority is HIGH, MEDIUM or LOW", text)
	}
	if f[5] != "1" && f[5] != "0" {
		return nil, retcode.InvalidParameter.Errorf("rule %q: the direction is 1 (in) or 0 (out)", text)
	}
	matches, err := parseMatch(text, strings.ToUpper(f[0]), f[1])
	if err != nil {
		return nil, err
	}
	if r.Remote, err = parseRemote(text, f[2], matches); err != nil {
		return nil, err
	}
	var rows []ruleRow
	for _, m := range matches {
		r.Protocol, r.Ports = m.protocol, m.ports
		rows = append(rows, r)
	}
	return rows, nil
}

func parseMatch(text, protocol, ports string) ([]match, error) {
	if protocol == protoTCP || protocol == protoUDP {
		if strings.HasPrefix(ports, portGroupPrefix) {
			return []match{{protocol, ports}}, nil // checkReferences looks it up
		}
		ranges, err := parsePorts(text, ports)
		if err != nil {
			return nil, err
		}
		return []match{{protocol, formatPorts(ranges)}}, nil
	}
	m, ok := shortcuts[protocol]
	if !ok {
		return nil, retcode.InvalidParameter.Errorf("rule %q: unknown protocol %q", text, protocol)
	}
	if ports != "" && (len(m) != 1 || m[0].ports != ports) {
		return nil, retcode.InvalidParameter.Errorf("rule %q: %s takes no port", text, protocol)
	}
	return m, nil
}

// parsePorts reads a list of ports and ranges; it sorts and joins them.
func parsePorts(text, ports string) ([]fabric.PortRange, error) {
	if ports == "" {
		return nil, retcode.InvalidParameterFormat.Errorf("rule %q: TCP and UDP need a port", text)
	}
	var out []fabric.PortRange
	for _, item := range strings.Split(ports, ",") {
		first, last, ranged := strings.Cut(item, "-")
		if !ranged {
			last = first
		}
		a, err := parsePort(text, first)
		if err != nil {
			return nil, err
		}
		b, err := parsePort(text, last)
		if err != nil {
			return nil, err
		}
		if a > b {
			return nil, retcode.InvalidParameter.Errorf("rule %q: range %s ends before it begins", text, item)
		}
		out = append(out, fabric.PortRange{First: a, Last: b})
	}
	slices.SortFunc(out, func(a, b fabric.PortRange) int { return cmp.Compare(a.First, b.First) })
	joined := out[:1]
	for _, r := range out[1:] {
		if end := &joined[len(joined)-1]; int(r.First) <= int(end.Last)+1 {
			end.Last = max(end.Last, r.Last)
		} else {
			joined = append(joined, r)
		}
	}
	return joined, nil
}

func parsePort(text, port string) (uint16, error) {
	n, err := strconv.Atoi(strings.TrimSpace(port))
	if err != nil {
		return 0, retcode.InvalidParameterFormat.Errorf("rule %q: %q is no port", text, port)
	}
	if n < 1 || n > 65535 {
		return 0, retcode.InvalidParameter.Errorf("rule %q: port %d is outside 1 to 65535", text, n)
	}
	return uint16(n), nil
}

func formatPorts(ranges []fabric.PortRange) string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		if texts[i] = strconv.Itoa(int(r.First)); r.First != r.Last {
			texts[i] += "-" + strconv.Itoa(int(r.Last))
		}
	}
	return strings.Join(texts, ",")
}

// parseRemote reads the address of a rule: an address, a CIDR, "any" or nothing (anywhere), or VPC.
func parseRemote(text, remote string, matches []match) (string, error) {
	v6 := matches[0].protocol == protoICMPv6
	switch upper := strings.ToUpper(remote); {
	case remote == "" || upper == "ANY":
		if v6 {
			return anyIPv6, nil
		}
		return anyIPv4, nil
	case upper == sameVPC:
		return sameVPC, nil
	case strings.HasPrefix(remote, ipGroupPrefix):
		return remote, nil // checkReferences looks it up
	}
	prefix, err := netip.ParsePrefix(remote)
	if err != nil {
		addr, err := netip.ParseAddr(remote)
		if err != nil || addr.Zone() != "" {
			return "", retcode.InvalidParameterFormat.Errorf("rule %q: %q is no address, CIDR, any or VPC", text, remote)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return "", retcode.InvalidParameterFormat.Errorf("rule %q: %q is an IPv4 address in IPv6 form", text, remote)
	}
	if prefix.Addr().Is6() != v6 && (v6 || matches[0].protocol == protoICMP) {
		return "", retcode.InvalidParameter.Errorf("rule %q: %s does not go with %s", text, matches[0].protocol, remote)
	}
	return prefix.Masked().String(), nil
}

// meets tells whether two rules are about the same traffic: then they are equal or contradict each other.
func (r *ruleRow) meets(o ruleRow) bool {
	return r.Protocol == o.Protocol && r.Ports == o.Ports && r.Remote == o.Remote && r.Ingress == o.Ingress
}

func (r *ruleRow) twice(text string) error {
	return retcode.SGRuleDuplicated.Errorf("rule %q: %s is there already", text, r)
}

// String is the rule in the form of the API.
func (r *ruleRow) String() string {
	direction := "0"
	if r.Ingress {
		direction = "1"
	}
	return strings.Join([]string{r.Protocol, r.Ports, r.Remote, r.Action, r.Priority, direction}, "|")
}

// fabricRule translates a rule for one side; false when it has no meaning there. groups are the IP and port
// groups that it may name.
func (r *ruleRow) fabricRule(side fabric.Side, groups map[string]*entryGroup) (fabric.Rule, bool, error) {
	out := fabric.Rule{ID: r.ID, Ingress: r.Ingress, Protocol: fabric.Protocol(r.Protocol), Accept: r.Action == "ACCEPT", Priority: fabric.Priority(r.Priority)}
	switch {
	case r.Remote == sameVPC:
		if side != fabric.Inner {
			return out, false, nil
		}
	case r.ipGroup() != "":
		if groups[r.Remote] == nil {
			return out, false, nil // deleted with its rule while this was read
		}
		out.Set = r.Remote
	default:
		prefix, err := netip.ParsePrefix(r.Remote)
		if err != nil {
			return out, false, fmt.Errorf("rule %s: %w", r.ID, err)
		}
		out.Remote = []netip.Prefix{prefix}
	}
	ranges, err := []fabric.PortRange(nil), error(nil)
	switch {
	case r.portGroup() != "":
		g := groups[r.Ports]
		if g == nil {
			return out, false, nil
		}
		// A group that lost its ports of this protocol means none of them; no list would mean all.
		if ranges, err = portsOf(g.Entries, r.Protocol); err == nil && len(ranges) == 0 {
			return out, false, nil
		}
	case r.Ports != "" && r.Ports != allPorts:
		ranges, err = parsePorts(r.String(), r.Ports)
	}
	if err != nil {
		return out, false, fmt.Errorf("rule %s: %w", r.ID, err)
	}
	out.Ports = ranges
	return out, true, nil
}

// defaultRules let a newcomer in: all out; ping, SSH, RDP, HTTP and HTTPS in, from the same VPC everything.
var defaultRules = []string{
	"ALL||any|ACCEPT|MEDIUM|0",
	"ALL||VPC|ACCEPT|MEDIUM|1",
	"PING||any|ACCEPT|MEDIUM|1",
	"SSH||any|ACCEPT|MEDIUM|1",
	"RDP||any|ACCEPT|MEDIUM|1",
	"HTTP||any|ACCEPT|MEDIUM|1",
	"HTTPS||any|ACCEPT|MEDIUM|1",
}
