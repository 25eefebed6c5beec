package host

import (
	"slices"
	"strings"
	"time"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// plugsNICs plugs two interfaces into a running guest and takes one out again; macs asks the guest for what it has.
func (e *engines) plugsNICs(spec *pb.DomainSpec, ensure func() *pb.Domain, macs func() string) {
	e.t.Helper()
	own := spec.Nics
	defer func() { spec.Nics = own }()
	settles := func(what string, here, away []string) {
		e.t.Helper()
		begun := time.Now()
		ok := poll(30*time.Second, func() bool {
			d := ensure()
			var want []string
			for _, n := range spec.Nics {
				want = append(want, n.PortUuid)
			}
			slices.Sort(want)
			slices.Sort(d.Ports)
			if !slices.Equal(want, d.Ports) {
				return false
			}
			seen := macs()
			return !slices.ContainsFunc(here, func(m string) bool { return !strings.Contains(seen, m) }) &&
				!slices.ContainsFunc(away, func(m string) bool { return strings.Contains(seen, m) })
		})
		if !ok {
			e.t.Fatalf("%s: the guest sees %s, its QEMU has %v", what, macs(), ensure().Ports)
		}
		e.t.Logf("%s: %v", what, time.Since(begun).Round(time.Millisecond))
	}
	one := &pb.DomainNIC{PortUuid: "6a3e5d7f-4c2b-4a8f-8d66-1b2c3d4e5f60", Mac: "52:54:00:12:34:61", Mtu: 1442, PortId: "nic-bbbbbbbbbbbbbb"}
	two := &pb.DomainNIC{PortUuid: "7b4f6e80-5d3c-4b90-9e77-2c3d4e5f6071", Mac: "52:54:00:12:34:62", PortId: "nic-cccccccccccccc"}
	spec.Nics = append(slices.Clone(own), one, two)
	settles("plugged in", []string{one.Mac, two.Mac}, nil)
	spec.Nics = append(slices.Clone(own), two)
	settles("taken out", []string{two.Mac}, []string{one.Mac})
	spec.Nics = append(slices.Clone(own), two, one)
	settles("plugged in again", []string{one.Mac, two.Mac}, nil)
	spec.Nics = own
	settles("all taken out", nil, []string{one.Mac, two.Mac})
}
