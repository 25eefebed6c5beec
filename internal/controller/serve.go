package controller

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lingyun-cloud/lingyun/internal/cloud/compute"
	"github.com/lingyun-cloud/lingyun/internal/console"
	"github.com/lingyun-cloud/lingyun/internal/download"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
)

// listen takes the sockets and finds the endpoint's URL.
func (c *Controller) listen() (err error) {
	if c.Config.TLSCert != "" || c.Config.TLSKey != "" {
		pair, err := tls.LoadX509KeyPair(c.Config.TLSCert, c.Config.TLSKey)
		if err != nil {
			return fmt.Errorf("the endpoint's certificate: %w", err)
		}
		c.given = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{pair}}
	}
	if c.endpoint = c.Config.Listener; c.endpoint == nil {
		if c.endpoint, err = net.Listen("tcp", c.Config.Listen); err != nil {
			return err
		}
	}
	c.close = append(c.close, closer(c.endpoint))
	if c.Config.Management != "" {
		if c.manage, err = net.Listen("tcp", c.Config.Management); err != nil {
			return fmt.Errorf("where hosts join: %w", err)
		}
		c.close = append(c.close, closer(c.manage))
	}
	scheme := "http"
	if c.given != nil || !loopback(c.endpoint.Addr()) {
		scheme = "https"
	}
	c.URL = scheme + "://" + reachable(c.endpoint.Addr()) + "/api"
	return nil
}

// closer closes a listener that its server may have closed already.
func closer(l net.Listener) func() error {
	return func() error { l.Close(); return nil }
}

// reachable is where a listener can be reached from this machine, as HOST:PORT.
func reachable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	ip := t.IP
	if ip.IsUnspecified() {
		ip = net.IPv4(127, 0, 0, 1)
	}
	return (&net.TCPAddr{IP: ip, Port: t.Port}).String()
}

// hostOf is the address alone of a listener that can be reached from this machine.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(reachable(a))
	if err != nil {
		return "127.0.0.1"
	}
	return host
}

// names a certificate for a listener must carry.
func names(a net.Addr) []string {
	all := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil {
		all = append(all, name)
	}
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return all
	}
	if !t.IP.IsUnspecified() {
		return append(all, t.IP.String())
	}
	addresses, _ := net.InterfaceAddrs() // without them: only the names above
	for _, x := range addresses {
		if n, ok := x.(*net.IPNet); ok && !n.IP.IsLoopback() {
			all = append(all, n.IP.String())
		}
	}
	return all
}

// mux is everything at the endpoint.
func (c *Controller) mux() http.Handler {
	mux := http.NewServeMux()
	c.handler.Mount(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", c.serveReady)
	mux.Handle("GET "+console.Path+"{ticket}", c.consoles)
	mux.HandleFunc("PUT "+compute.UploadPath+"{token}", c.Compute.ServeUpload)
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.registry, promhttp.HandlerOpts{}))
	mux.Handle(download.Path, c.Downloads)
	c.OAuth.Mount(mux)
	if c.Simulator != nil {
		mux.Handle("/simulate", c.Simulator)
	}
	if c.manage == nil && c.given == nil && c.ownTLS != nil {
		mux.HandleFunc(hostlink.JoinPath, c.Fleet.ServeJoin)
	}
	return mux
}

// managementMux is what hosts reach.
func (c *Controller) managementMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(hostlink.JoinPath, c.Fleet.ServeJoin)
	return mux
}

// serveReady answers 200 while requests can be served.
func (c *Controller) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if !c.ready.Load() {
		http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
		return
	}
	if err := c.DB.Ping(ctx); err != nil {
		slog.Warn("not ready", "error", err)
		http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// server has limits against slow and greedy clients. Bodies are limited by the handlers.
func (c *Controller) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    2 << 20, // user data of 1 MiB may be in a query
		ErrorLog:          log.New(serverLog{}, "", 0),
	}
}

// serverLog takes what http.Server complains of: mostly clients that hang up.
type serverLog struct{}

func (serverLog) Write(p []byte) (int, error) {
	slog.Debug("http", "message", string(p))
	return len(p), nil
}

// metrics makes the registry of /metrics.
func (c *Controller) metrics() prometheus.Registerer {
	c.registry = prometheus.NewRegistry()
	c.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return c.registry
}
