// Package ntp asks a time server how wrong this machine's clock is. It sets no clock: that is the system's own service.
package ntp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/beevik/ntp"
)

// Client of time servers. The zero one is ready to use.
type Client struct {
	Port int // 0: 123
}

const (
	timeout = 2 * time.Second
	// Tolerance is how wrong a clock may be: charges count seconds, certificates and one-time passwords minutes.
	Tolerance = time.Second
)

// Offset is how far the server's clock is ahead of this machine's.
func (c Client) Offset(ctx context.Context, server netip.Addr) (time.Duration, error) {
	wait := timeout
	if until, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(until))
	}
	address := server.String()
	if c.Port != 0 {
		address = net.JoinHostPort(address, fmt.Sprint(c.Port))
	}
	r, err := ntp.QueryWithOptions(address, ntp.QueryOptions{Timeout: wait})
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return 0, fmt.Errorf("time server %s: %w", server, err)
	}
	return r.ClockOffset, nil
}

// Wrong describes a clock that a better one is offset ahead of, in whole seconds; "" when it is right.
func Wrong(offset time.Duration, better string) string {
	switch s := offset.Round(time.Second); {
	case offset.Abs() <= Tolerance:
		return ""
	case offset > 0:
		return fmt.Sprintf("the clock is %v behind %s", s, better)
	default:
		return fmt.Sprintf("the clock is %v ahead of %s", -s, better)
	}
}
