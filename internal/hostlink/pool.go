package hostlink

import (
	"encoding/base64"
	"net"
	"regexp"
	"strconv"
)

// What a Pool's fields look like. The controller refuses others where they are given, the host before they come into a
// configuration file.
var (
	poolName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	monitorName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

// MaxMonitors is how many monitors a pool names at most.
const MaxMonitors = 16

// ValidPoolName tells whether text may name a Ceph pool, or a cephx user without client.
func ValidPoolName(text string) bool { return poolName.MatchString(text) }

// ValidMonitor accepts HOST, HOST:PORT and [IPv6]:PORT.
func ValidMonitor(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = text, "3300"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && (net.ParseIP(host) != nil || monitorName.MatchString(host))
}

// ValidPoolKey tells whether text is a cephx key: 16 to 256 bytes in base64.
func ValidPoolKey(text string) bool {
	raw, err := base64.StdEncoding.DecodeString(text)
	return err == nil && len(raw) >= 16 && len(raw) <= 256
}
