package host

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	"github.com/lingyun-cloud/lingyun/internal/pki"
)

// Serve answers controllers on a listener, over mutual TLS, until ctx ends: then
// calls under way have 5 s to end. Only certificates of the cloud's authority with role controller get in.
func (h *Host) Serve(ctx context.Context, l net.Listener) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	base, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := &http.Server{
		Handler:           hostlink.NewHandler(h),
		TLSConfig:         pki.AgentTLS(h.conf.Keeper),
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          log.New(logWriter{h.log}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 250,
			SendPingTimeout:      15 * time.Second,
			PingTimeout:          15 * time.Second,
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(l, "", "") }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// Watches never end by themselves.
	stop := time.AfterFunc(time.Second, cancel)
	defer stop.Stop()
	grace, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-ended
	return err
}

// logWriter makes log lines of what net/http says (refused handshakes).
type logWriter struct{ log *slog.Logger }

var _ io.Writer = logWriter{}

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Info("link", "message", string(p))
	return len(p), nil
}
