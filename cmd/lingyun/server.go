package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

func init() { commands = append(commands, serverCommand) }

func serverCommand() *cobra.Command {
	var (
		cfg      controller.Config
		listenFD int
		segment  string
		gateway  string
		within   string
		dns      []string
		proxies  []string
		logLevel string
	)
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the controller",
		Long: `Runs the controller: the API, its database and the workflows that make machines and networks.

With --simulate N it needs no root, no other program and no network but loopback: N hosts are
simulated in its own process. Otherwise it drives OVN (--ovn-northbound, --ovn-southbound) and the
hosts that joined (lingyun host token, lingyun agent join).

It is ready when GET /readyz answers 200. On its first start it writes the administrator's and the
demo tenant's credentials to DIR/admin.json and DIR/demo.json. It stops cleanly on SIGTERM; machines
and networks run on without it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var level slog.Level
			if err := level.UnmarshalText([]byte(logLevel)); err != nil {
				return fmt.Errorf("--log-level is debug, info, warn or error, not %q", logLevel)
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(restingGarbage)
			}
			var err error
			if segment != "" {
				if cfg.Segment.CIDR, err = netip.ParsePrefix(segment); err != nil {
					return fmt.Errorf("--segment: %w", err)
				}
			}
			if gateway != "" {
				if cfg.Segment.Gateway, err = netip.ParseAddr(gateway); err != nil {
					return fmt.Errorf("--segment-gateway: %w", err)
				}
			}
			if within != "" {
				if cfg.Segment.First, cfg.Segment.Last, err = addressRange(within); err != nil {
					return fmt.Errorf("--segment-range: %w", err)
				}
			}
			for _, d := range dns {
				a, err := netip.ParseAddr(d)
				if err != nil {
					return fmt.Errorf("--dns: %w", err)
				}
				cfg.DNS = append(cfg.DNS, a)
			}
			for _, p := range proxies {
				network, err := netip.ParsePrefix(p)
				if err != nil {
					return fmt.Errorf("--trusted-proxy: %w", err)
				}
				cfg.Proxies = append(cfg.Proxies, network.Masked())
			}
			if cfg.Listener, err = passedSocket(listenFD); err != nil {
				return err
			}
			// After this the process must not do anything any more: another controller may lead.
			cfg.OnLost = func(err error) {
				slog.Error("the lease was lost, ending at once", "error", err)
				os.Exit(3)
			}
			return serve(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Dir, "data", "/var/lib/lingyun", "data directory: database, key file, credentials, images")
	f.StringVar(&cfg.Backup, "backup", "", "directory of backups (default: backup in the data directory)")
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:8080", "address of the API; one that is not loopback is served by HTTPS")
	f.IntVar(&listenFD, "listen-fd", 0, "number of an open descriptor that is the API's listening socket (socket activation is understood too)")
	f.StringVar(&cfg.Database, "database", "", "postgres://... (default: SQLite in the data directory)")
	f.IntVar(&cfg.Simulate, "simulate", 0, "simulate so many hosts")
	f.StringVar(&cfg.TLSCert, "tls-cert", "", "PEM certificate of the API (default: of the cloud's own authority)")
	f.StringVar(&cfg.TLSKey, "tls-key", "", "PEM key of the API's certificate")
	f.StringVar(&cfg.Management, "management", "", "address where new hosts join, by TLS of the cloud's own authority")
	f.StringVar(&cfg.OVNNorthbound, "ovn-northbound", "", "OVN northbound database: unix:PATH or tcp:HOST:PORT")
	f.StringVar(&cfg.OVNSouthbound, "ovn-southbound", "", "OVN southbound database, to see how far hosts are")
	f.StringVar(&cfg.OVNHosts, "ovn-hosts", "", "how hosts reach the southbound database: ssl:HOST:PORT")
	f.StringVar(&segment, "segment", "", "CIDR of the external segment Bgp (read on the first start)")
	f.StringVar(&gateway, "segment-gateway", "", "router of the segment's outside (default: its first address)")
	f.StringVar(&within, "segment-range", "", "FIRST-LAST of the segment's addresses to hand out (default: all but its ends and the router)")
	f.StringVar(&cfg.Segment.Network, "segment-network", "provider", "provider network of the segment, as in the hosts' bridge mappings")
	f.StringSliceVar(&dns, "dns", nil, "DNS servers for guests")
	f.StringSliceVar(&proxies, "trusted-proxy", nil, "networks of reverse proxies whose X-Forwarded-For, -Proto and -Host are believed")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error; info logs every call")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	return cmd
}

// addressRange reads FIRST-LAST.
func addressRange(text string) (first, last netip.Addr, err error) {
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		return first, last, fmt.Errorf("%q is not FIRST-LAST", text)
	}
	if first, err = netip.ParseAddr(from); err != nil {
		return first, last, err
	}
	if last, err = netip.ParseAddr(to); err != nil {
		return first, last, err
	}
	if last.Less(first) {
		return first, last, fmt.Errorf("%s is after %s", first, last)
	}
	return first, last, nil
}

// serve runs a controller until ctx ends.
func serve(ctx context.Context, cfg controller.Config) error {
	c, err := controller.New(ctx, cfg)
	if errors.Is(err, workflow.ErrLed) {
		return fmt.Errorf("%w: one controller at a time works on a database; stop the other one first", err)
	}
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		go tendGarbage(ctx)
	}
	return c.Run(ctx)
}

// passedSocket takes a listening socket that somebody opened for us: by --listen-fd, or as systemd
// passes one (LISTEN_PID, LISTEN_FDS). nil: there is none.
func passedSocket(fd int) (net.Listener, error) {
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); fd == 0 && err == nil && pid == os.Getpid() {
		if n, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err != nil || n != 1 {
			return nil, fmt.Errorf("LISTEN_FDS is %q: one socket is expected", os.Getenv("LISTEN_FDS"))
		}
		fd = 3
	}
	if fd == 0 {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), "listen-fd")
	if f == nil {
		return nil, fmt.Errorf("--listen-fd %d is no open descriptor", fd)
	}
	defer f.Close() // FileListener has its own copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("--listen-fd %d: %w", fd, err)
	}
	return l, nil
}
