package cloud

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lingyun-cloud/lingyun/internal/cli"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/trial"
)

// segments: an address of a segment that the administrator made behind a VLAN, for one tenant and with ranges, leads to m,
// which has no other: they all come from one segment.
func segments(t *testing.T, m *machine, stranger *cli.Client) {
	const number, gateway, wanted = 77, "192.0.2.1", "192.0.2.22"
	c := m.c
	c.vlan(t, number, gateway+"/24")
	var line struct{ SegmentID string }
	c.call(t, c.admin, "CreateSegment", cli.Params{"Name": "line", "Segment": "192.0.2.0/24", "Device": trial.ProviderNetwork, "Vlan": number, "Gateway": gateway,
		"IPRange": "192.0.2.20-192.0.2.29", "RouteMode": "Specified", "PermissionMode": "whitelist", "Permission": c.company(t, m.client)}, &line)
	want := func(ip string) cli.Params {
		return cli.Params{"Name": "line", "ChargeType": "Dynamic", "Bandwidth": 50, "OperatorName": line.SegmentID, "IP": ip}
	}
	refuse(t, c, stranger, retcode.ResourceNotFound, "AllocateEIP", want(wanted))
	m.refuse(t, retcode.IPOutOfSegment, "AllocateEIP", want("192.0.2.30"))
	var made struct{ EIPID string }
	c.call(t, m.client, "AllocateEIP", want(wanted), &made)
	m.refuse(t, retcode.IPAlreadyAllocated, "AllocateEIP", want(wanted))
	bound := cli.Params{"ResourceType": "VM", "ResourceID": m.id, "EIPID": made.EIPID}
	c.call(t, m.client, "BindEIP", bound, nil)
	if err := trial.WaitState(c.ctx, m.client, time.Minute, "DescribeEIP", "EIPIDs", "Status", made.EIPID, "Bound"); err != nil {
		t.Fatal(err)
	}
	m.page(t, wanted, 30*time.Second)
	c.call(t, m.client, "UnBindEIP", bound, nil)
	for _, end := range []struct {
		client          *cli.Client
		action, key, id string
	}{{m.client, "ReleaseEIP", "EIPID", made.EIPID}, {m.client, "TerminateResource", "ResourceID", made.EIPID}, {c.admin, "DeleteSegment", "SegmentID", line.SegmentID}} {
		until(t, c, time.Minute, end.action, func() error {
			_, err := end.client.Call(c.ctx, end.action, cli.Params{end.key: end.id}, nil)
			return err
		})
	}
}

// vlan puts an address behind a VLAN outside of the cloud, until the test ends. Kernels that tests run on may have no
// devices for VLANs: here a program tags what the address sends, and takes the tag off what comes for it.
func (c *cloud) vlan(t *testing.T, number uint16, address string) {
	t.Helper()
	for _, line := range []string{
		"ip link add vlan type veth peer name tagger", "ip addr add " + address + " dev vlan", "ip link set vlan up", "ip link set tagger up",
		"ethtool -K vlan tx off", // a checksum that is left to the card is never made
	} {
		c.at(t, "outside", strings.Fields(line)...)
	}
	open := func(name string) (fd int) {
		const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network byte order
		err := c.Inside("outside", func() error {
			link, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
				return err
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
				return err
			}
			if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}); err != nil {
				return err
			}
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
		})
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	wire, tagger := open("eth0"), open("tagger")
	stop, done := make(chan struct{}), make(chan struct{}, 2)
	pass := func(from, to int, change func(frame []byte, tag uint16) []byte) {
		defer func() { done <- struct{}{} }()
		frame, control := make([]byte, 1<<16), make([]byte, 256)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, m, _, sender, err := unix.Recvmsg(from, frame, control, 0)
			if err != nil || n < 14 {
				continue
			}
			if l, ok := sender.(*unix.SockaddrLinklayer); !ok || l.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if out := change(frame[:n], vlanTag(control[:m])); out != nil {
				_, _ = unix.Write(to, out)
			}
		}
	}
	go pass(wire, tagger, func(frame []byte, tag uint16) []byte {
		if tag != number {
			return nil
		}
		return frame
	})
	go pass(tagger, wire, func(frame []byte, _ uint16) []byte {
		header := binary.BigEndian.AppendUint16(append([]byte(nil), frame[:12]...), 0x8100)
		return append(binary.BigEndian.AppendUint16(header, number), frame[12:]...)
	})
	t.Cleanup(func() {
		close(stop)
		<-done
		<-done
		unix.Close(wire)
		unix.Close(tagger)
		c.at(t, "outside", "ip", "link", "del", "vlan")
	})
}

// vlanTag is the number of the VLAN of a frame, whose tag the kernel took off; 0: none.
func vlanTag(control []byte) uint16 {
	all, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, c := range all {
		if c.Header.Level == unix.SOL_PACKET && c.Header.Type == unix.PACKET_AUXDATA && len(c.Data) >= 18 &&
			binary.NativeEndian.Uint32(c.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
			return binary.NativeEndian.Uint16(c.Data[16:]) & 0xfff
		}
	}
	return 0
}
