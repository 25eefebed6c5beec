package trial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

func namespacePath(name string) string { return filepath.Join(netnsDir, name) }

// onThread runs f on a thread of its own, which ends with it: what f does to
// its namespaces concerns nobody else.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot end, and /proc shows its namespaces as the
			// process': while it is held here the next goroutine gets another one.
			done <- onThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked: the thread ends with the goroutine
	}()
	return <-done
}

// inNamespace runs f on a thread that has entered a named network namespace.
// Sockets that f makes stay in that namespace.
func inNamespace(name string, f func() error) error {
	return onThread(func() error {
		ns, err := netns.GetFromName(name)
		if err != nil {
			return fmt.Errorf("trial: namespace %s: %w", name, err)
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("trial: enter namespace %s: %w", name, err)
		}
		return f()
	})
}

// DialIn connects to an address (IP:PORT, TCP) as seen from a named network namespace, or, without a name, from here.
func DialIn(ctx context.Context, namespace, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("trial: %q is not IP:PORT", address)
	}
	if namespace == "" {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	var conn net.Conn
	err := inNamespace(namespace, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// shareNames makes the directory of names a shared mount, as ip-netns does at its first use. If that came after ours were
// made, each name would be mounted twice, and removing one would fail.
func shareNames() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	share := func() error { return unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err := share()
	if errors.Is(err, unix.EINVAL) { // it is no mount yet
		if err = unix.Mount(netnsDir, netnsDir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("trial: share %s: %w", netnsDir, err)
	}
	return nil
}

// makeNamespace makes a named network namespace and answers its inode.
func makeNamespace(name string) (uint64, error) {
	if err := shareNames(); err != nil {
		return 0, err
	}
	err := onThread(func() error {
		ns, err := netns.NewNamed(name)
		if err != nil {
			return fmt.Errorf("trial: make namespace %s: %w", name, err)
		}
		defer ns.Close()
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		return 0, err
	}
	return namespaceInode(name)
}

func namespaceInode(name string) (uint64, error) {
	info, err := os.Stat(namespacePath(name))
	if err != nil {
		return 0, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if stat.Ino == 0 {
		return 0, fmt.Errorf("trial: %s is no namespace", name)
	}
	return stat.Ino, nil
}

// removeNamespace removes a named namespace, if it is there.
func removeNamespace(name string) error {
	path := namespacePath(name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("trial: remove namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// processesIn lists the processes whose network namespace is one of inodes.
// They are the trial's, whoever started them: nothing else can be in there.
func processesIn(inodes map[uint64]bool) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		link, err := os.Readlink(filepath.Join("/proc", entry.Name(), "ns", "net"))
		if err != nil {
			continue
		}
		text, ok := strings.CutPrefix(link, "net:[")
		if !ok {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
		if err == nil && inodes[inode] {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endProcesses ends every process in the namespaces: asks first, then kills.
func endProcesses(ctx context.Context, inodes map[uint64]bool, grace time.Duration) error {
	kill := time.Now().Add(grace)
	give := kill.Add(10 * time.Second)
	asked := map[int]bool{}
	for {
		pids := processesIn(inodes)
		if len(pids) == 0 {
			return nil
		}
		now := time.Now()
		if now.After(give) || ctx.Err() != nil {
			return fmt.Errorf("trial: processes %v do not end", pids)
		}
		for _, pid := range pids {
			switch {
			case now.After(kill):
				_ = unix.Kill(pid, unix.SIGKILL)
			case !asked[pid]:
				asked[pid] = true
				_ = unix.Kill(pid, unix.SIGTERM)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// nic is one cable from a namespace to a switch of the fabric.
type nic struct {
	namespace string // full name
	name      string // eth0, ...
	port      string // name of the switch's end
	sw        string // switch
	address   netip.Prefix
}

// makeSwitch makes a bridge in the current namespace.
func makeSwitch(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	// Learning needs no protocol: the trial's switches have no loops.
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("trial: switch %s: %w", name, err)
	}
	return netlink.LinkSetUp(bridge)
}

// plug lays a cable. It is called in the fabric's namespace; the far end never
// appears in any other namespace than its own.
func plug(n nic) error {
	ns, err := netns.GetFromName(n.namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	sw, err := netlink.LinkByName(n.sw)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = n.port, sw.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: n.name, PeerNamespace: netlink.NsFd(int(ns))}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("trial: cable %s: %w", n.port, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	return inNamespace(n.namespace, func() error {
		link, err := netlink.LinkByName(n.name)
		if err != nil {
			return err
		}
		// Open vSwitch's userspace datapath forwards packets as they are, so
		// nobody may leave their checksums to hardware that does not exist.
		if err := checksumInSoftware(n.name); err != nil {
			return err
		}
		if n.address.IsValid() {
			if err := setAddress(link, n.address); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	})
}

func setAddress(link netlink.Link, address netip.Prefix) error {
	return netlink.AddrReplace(link, &netlink.Addr{IPNet: &net.IPNet{
		IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen())}})
}

// checksumInSoftware turns transmit checksum offload (and with it segmentation
// offload) of an interface in the current namespace off.
func checksumInSoftware(name string) error {
	const ethtoolSetTxChecksum = 0x17 // ETHTOOL_STXCSUM
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return ethtool(fd, name, ethtoolSetTxChecksum, 0)
}

func setSysctl(name, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644)
}
