package trial

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtool sets one value of an interface by the SIOCETHTOOL ioctl (linux/ethtool.h).
func ethtool(fd int, name string, command, value uint32) error {
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	if len(name) >= len(request.name) {
		return fmt.Errorf("trial: interface name %q is too long", name)
	}
	copy(request.name[:], name)
	data := &struct{ command, value uint32 }{command, value}
	request.data = unsafe.Pointer(data)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(data)
	if errno != 0 {
		return fmt.Errorf("trial: checksum offload of %s: %w", name, errno)
	}
	return nil
}
