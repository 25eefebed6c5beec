package fabric

import (
	"context"
	"crypto/tls"
	"log/slog"
)

// Options say where OVN's databases are.
type Options struct {
	// Northbound endpoints, comma separated: unix:/path, tcp:host:port or ssl:host:port. Required.
	Northbound string
	// Southbound endpoints, read only, to see how far each chassis is. Empty: Wait
	// uses the northbound's own summary, which one dead chassis holds up.
	Southbound string
	// TLS is used by ssl endpoints.
	TLS *tls.Config
	// Log may be nil.
	Log *slog.Logger
}

// OpenOVN connects to OVN and returns once its northbound rows are known. A lost
// connection is taken up again by itself; calls wait for it until their context ends.
func OpenOVN(ctx context.Context, o Options) (Fabric, error) { panic("not yet") }
