package hostlink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb/hostlinkpbconnect"
)

// Limits of the link.
const (
	// CallTimeout ends a call that has no nearer deadline. A host answers within 10 s (hostlink.proto).
	CallTimeout = 15 * time.Second
	// ChunkSize is how much of an image is sent at once, in bytes.
	ChunkSize = 1 << 20
	// keepAlive is how often Watch says something when nothing happens; a link silent
	// for watchSilence is given up.
	keepAlive    = 5 * time.Second
	watchSilence = 3 * keepAlive
)

// Client is a Host at the other end of a connection.
type Client struct {
	client    hostlinkpbconnect.HostClient
	transport *http.Transport
}

var _ Host = (*Client)(nil)

// NewClient prepares the link to the agent at addr (host:port); it connects with
// the first call, again whenever needed, and keeps one HTTP/2 connection alive.
// conf says who it is and whom it trusts (pki.ControllerTLS).
func NewClient(addr string, conf *tls.Config) *Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		TLSClientConfig: conf,
		Protocols:       protocols,
		DialContext: (&net.Dialer{
			Timeout:         5 * time.Second,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout:     5 * time.Minute,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: keepAlive,
			PingTimeout:     keepAlive,
		},
	}
	return &Client{
		client:    hostlinkpbconnect.NewHostClient(&http.Client{Transport: transport}, "https://"+addr),
		transport: transport,
	}
}

// Close ends idle connections; calls under way go on.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// unary makes a call with a deadline and gives its error a sentinel.
func unary[Req, Res any](ctx context.Context, req *Req, call func(context.Context, *Req) (*Res, error)) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	res, err := call(ctx, req)
	if err != nil {
		return nil, fromWire(ctx, err)
	}
	return res, nil
}

// Health implements Host.
func (c *Client) Health(ctx context.Context, r *pb.HealthRequest) (*pb.HealthResponse, error) {
	return unary(ctx, r, c.client.Health)
}

// List implements Host.
func (c *Client) List(ctx context.Context, r *pb.ListRequest) (*pb.ListResponse, error) {
	return unary(ctx, r, c.client.List)
}

// ImageStatus implements Host.
func (c *Client) ImageStatus(ctx context.Context, r *pb.ImageStatusRequest) (*pb.ImageStatusResponse, error) {
	return unary(ctx, r, c.client.ImageStatus)
}

// RemoveImage implements Host.
func (c *Client) RemoveImage(ctx context.Context, r *pb.RemoveImageRequest) (*pb.RemoveImageResponse, error) {
	return unary(ctx, r, c.client.RemoveImage)
}

// EnsureVolume implements Host.
func (c *Client) EnsureVolume(ctx context.Context, r *pb.EnsureVolumeRequest) (*pb.Volume, error) {
	return unary(ctx, r, c.client.EnsureVolume)
}

// RemoveVolume implements Host.
func (c *Client) RemoveVolume(ctx context.Context, r *pb.RemoveVolumeRequest) (*pb.RemoveVolumeResponse, error) {
	return unary(ctx, r, c.client.RemoveVolume)
}

// EnsureDomain implements Host.
func (c *Client) EnsureDomain(ctx context.Context, r *pb.EnsureDomainRequest) (*pb.Domain, error) {
	return unary(ctx, r, c.client.EnsureDomain)
}

// RemoveDomain implements Host.
func (c *Client) RemoveDomain(ctx context.Context, r *pb.RemoveDomainRequest) (*pb.RemoveDomainResponse, error) {
	return unary(ctx, r, c.client.RemoveDomain)
}

// CertificateRequest implements Host.
func (c *Client) CertificateRequest(ctx context.Context, r *pb.CertificateRequestRequest) (*pb.CertificateRequestResponse, error) {
	return unary(ctx, r, c.client.CertificateRequest)
}

// InstallCertificate implements Host.
func (c *Client) InstallCertificate(ctx context.Context, r *pb.InstallCertificateRequest) (*pb.InstallCertificateResponse, error) {
	return unary(ctx, r, c.client.InstallCertificate)
}

// SetGuestPassword implements Host.
func (c *Client) SetGuestPassword(ctx context.Context, r *pb.SetGuestPasswordRequest) (*pb.SetGuestPasswordResponse, error) {
	return unary(ctx, r, c.client.SetGuestPassword)
}

// SetGuestKeys implements Host.
func (c *Client) SetGuestKeys(ctx context.Context, r *pb.SetGuestKeysRequest) (*pb.SetGuestKeysResponse, error) {
	return unary(ctx, r, c.client.SetGuestKeys)
}

// ConsoleLog implements Host.
func (c *Client) ConsoleLog(ctx context.Context, r *pb.ConsoleLogRequest) (*pb.ConsoleLogResponse, error) {
	return unary(ctx, r, c.client.ConsoleLog)
}

// ExportVolume implements Host.
func (c *Client) ExportVolume(ctx context.Context, r *pb.ExportVolumeRequest) (*pb.Export, error) {
	return unary(ctx, r, c.client.ExportVolume)
}

// RemoveExport implements Host.
func (c *Client) RemoveExport(ctx context.Context, r *pb.RemoveExportRequest) (*pb.RemoveExportResponse, error) {
	return unary(ctx, r, c.client.RemoveExport)
}

// Watch implements Host. A link that says nothing for 15 s, not even a
// keep-alive, is given up with ErrUnavailable.
func (c *Client) Watch(ctx context.Context, r *pb.WatchRequest, each func(*pb.Event)) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(watchSilence, func() {
		cancel(fmt.Errorf("%w: silent for %s", ErrUnavailable, watchSilence))
	})
	defer silence.Stop()
	stream, err := c.client.Watch(inner, r)
	if err != nil {
		return watchError(ctx, inner, err)
	}
	defer stream.Close()
	for stream.Receive() {
		silence.Reset(watchSilence)
		if e := stream.Msg(); e.Domain != nil { // else a keep-alive
			each(e)
		}
	}
	err = stream.Err()
	if err == nil {
		err = fmt.Errorf("%w: it ended the watch", ErrUnavailable)
	}
	return watchError(ctx, inner, err)
}

func watchError(ctx, inner context.Context, err error) error {
	if ctx.Err() == nil && inner.Err() != nil {
		return context.Cause(inner)
	}
	return fromWire(ctx, err)
}

// PutImage implements Host. It has no deadline of its own; a host that takes nothing in any more ends
// it by the connection's keep-alive.
func (c *Client) PutImage(ctx context.Context, digest string, size int64, r io.Reader) (*pb.ImageStatusResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.client.PutImage(ctx)
	if err != nil {
		return nil, fromWire(ctx, err)
	}
	chunk := &pb.ImageChunk{Digest: digest, SizeBytes: uint64(size)}
	buf := make([]byte, ChunkSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 || chunk.Digest != "" {
			chunk.Data = buf[:n]
			if sendErr := stream.Send(chunk); sendErr != nil {
				if !errors.Is(sendErr, io.EOF) {
					return nil, fromWire(ctx, sendErr)
				}
				break // the host has answered already: read why
			}
			chunk = &pb.ImageChunk{}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("hostlink: reading the image: %w", err)
		}
	}
	res, err := stream.CloseAndReceive()
	if err != nil {
		return nil, fromWire(ctx, err)
	}
	return res, nil
}
