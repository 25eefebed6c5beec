package host

import (
	"errors"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
)

func TestVirtErrors(t *testing.T) {
	for _, c := range []struct {
		number  libvirt.ErrorNumber
		message string
		want    error // nil: none that a caller knows
	}{
		{libvirt.ErrNoDomain, "Domain not found", hostlink.ErrNotFound},
		{libvirt.ErrAgentUnresponsive, "Guest agent is not responding", hostlink.ErrUnavailable},
		{libvirt.ErrSystemError, "Unable to read from monitor: Connection reset by peer", hostlink.ErrUnavailable},
		{libvirt.ErrSystemError, "cannot open file: No such file or directory", nil},
		{libvirt.ErrXMLError, "no disk", nil},
	} {
		err := virtError(libvirt.Error{Code: uint32(c.number), Message: c.message})
		if is := errors.Is(err, hostlink.ErrNotFound) || errors.Is(err, hostlink.ErrUnavailable); c.want != nil && !errors.Is(err, c.want) || c.want == nil && is {
			t.Errorf("%s became %v", c.message, err)
		}
	}
}
