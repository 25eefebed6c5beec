package controller

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/ntp"
)

// timekeeper compares this machine's clock with the configured time server.
type timekeeper struct {
	client ntp.Client
	offset prometheus.Gauge
	said   string
}

func newTimekeeper(c ntp.Client, r prometheus.Registerer) *timekeeper {
	k := &timekeeper{client: c, offset: prometheus.NewGauge(prometheus.GaugeOpts{Name: "lingyun_clock_offset_seconds",
		Help: "How far the time server's clock is ahead of the controller's; 0 without a time server."})}
	r.MustRegister(k.offset)
	return k
}

// reachable refuses a time server that does not answer.
func (k *timekeeper) reachable(ctx context.Context, server netip.Addr) error {
	_, err := k.client.Offset(ctx, server)
	return err
}

// checkTime measures the clock, and says when what it found changes.
func (c *Controller) checkTime(ctx context.Context) error {
	k, said := c.time, ""
	server := c.Catalog.Config.NTPServer(ctx)
	if !server.IsValid() {
		k.offset.Set(0)
		return nil
	}
	offset, err := k.client.Offset(ctx, server)
	if err != nil {
		said = err.Error()
	} else {
		k.offset.Set(offset.Seconds())
		said = ntp.Wrong(offset, "the time server")
	}
	if said != k.said && said != "" {
		slog.WarnContext(ctx, "the time", "server", server, "problem", said)
	}
	k.said = said
	return nil
}

// CheckTime compares this machine's clock with the time server that a database names; "" when it is right, or none is named.
func CheckTime(ctx context.Context, db *database.DB, client ntp.Client) string {
	server := catalog.OpenLicences(db, nil).Config.NTPServer(ctx)
	if !server.IsValid() {
		return ""
	}
	offset, err := client.Offset(ctx, server)
	if err != nil {
		return err.Error()
	}
	return ntp.Wrong(offset, "time server "+server.String())
}
