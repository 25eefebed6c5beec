package hostlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb/hostlinkpbconnect"
)

// maxMessage bounds one message, in bytes: an image's chunk, a seed with user data, a list of a full host.
const maxMessage = 8 << 20

// NewHandler serves a Host. Who may call is the listener's matter (pki.AgentTLS).
func NewHandler(h Host) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(hostlinkpbconnect.NewHostHandler(&handler{h}, connect.WithReadMaxBytes(maxMessage), connect.WithCompressMinBytes(16<<10)))
	return mux
}

type handler struct{ host Host }

func answer[Res any](res *Res, err error) (*Res, error) {
	if err != nil {
		return nil, toWire(err)
	}
	return res, nil
}

func (h *handler) Health(ctx context.Context, r *pb.HealthRequest) (*pb.HealthResponse, error) {
	return answer(h.host.Health(ctx, r))
}

func (h *handler) List(ctx context.Context, r *pb.ListRequest) (*pb.ListResponse, error) {
	return answer(h.host.List(ctx, r))
}

func (h *handler) ImageStatus(ctx context.Context, r *pb.ImageStatusRequest) (*pb.ImageStatusResponse, error) {
	return answer(h.host.ImageStatus(ctx, r))
}

func (h *handler) RemoveImage(ctx context.Context, r *pb.RemoveImageRequest) (*pb.RemoveImageResponse, error) {
	return answer(h.host.RemoveImage(ctx, r))
}

func (h *handler) EnsureVolume(ctx context.Context, r *pb.EnsureVolumeRequest) (*pb.Volume, error) {
	return answer(h.host.EnsureVolume(ctx, r))
}

func (h *handler) RemoveVolume(ctx context.Context, r *pb.RemoveVolumeRequest) (*pb.RemoveVolumeResponse, error) {
	return answer(h.host.RemoveVolume(ctx, r))
}

func (h *handler) EnsureDomain(ctx context.Context, r *pb.EnsureDomainRequest) (*pb.Domain, error) {
	return answer(h.host.EnsureDomain(ctx, r))
}

func (h *handler) RemoveDomain(ctx context.Context, r *pb.RemoveDomainRequest) (*pb.RemoveDomainResponse, error) {
	return answer(h.host.RemoveDomain(ctx, r))
}

func (h *handler) CertificateRequest(ctx context.Context, r *pb.CertificateRequestRequest) (*pb.CertificateRequestResponse, error) {
	return answer(h.host.CertificateRequest(ctx, r))
}

func (h *handler) InstallCertificate(ctx context.Context, r *pb.InstallCertificateRequest) (*pb.InstallCertificateResponse, error) {
	return answer(h.host.InstallCertificate(ctx, r))
}

func (h *handler) SetGuestPassword(ctx context.Context, r *pb.SetGuestPasswordRequest) (*pb.SetGuestPasswordResponse, error) {
	return answer(h.host.SetGuestPassword(ctx, r))
}

func (h *handler) SetGuestKeys(ctx context.Context, r *pb.SetGuestKeysRequest) (*pb.SetGuestKeysResponse, error) {
	return answer(h.host.SetGuestKeys(ctx, r))
}

func (h *handler) ConsoleLog(ctx context.Context, r *pb.ConsoleLogRequest) (*pb.ConsoleLogResponse, error) {
	return answer(h.host.ConsoleLog(ctx, r))
}

func (h *handler) ExportVolume(ctx context.Context, r *pb.ExportVolumeRequest) (*pb.Export, error) {
	return answer(h.host.ExportVolume(ctx, r))
}

func (h *handler) RemoveExport(ctx context.Context, r *pb.RemoveExportRequest) (*pb.RemoveExportResponse, error) {
	return answer(h.host.RemoveExport(ctx, r))
}

// Watch passes events on and, when nothing happens, sends an empty event every 5 s.
func (h *handler) Watch(ctx context.Context, r *pb.WatchRequest, stream *connect.ServerStream[pb.Event]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan *pb.Event, 256)
	done := make(chan error, 1)
	go func() {
		done <- h.host.Watch(ctx, r, func(e *pb.Event) {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		})
	}()
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	if err := stream.Send(&pb.Event{}); err != nil { // the caller knows that it is connected
		return err
	}
	for {
		var e *pb.Event
		select {
		case e = <-events:
		case <-tick.C:
			e = &pb.Event{}
		case err := <-done:
			for len(events) > 0 {
				if err := stream.Send(<-events); err != nil {
					return err
				}
			}
			return toWire(err)
		}
		if err := stream.Send(e); err != nil {
			return err
		}
	}
}

// PutImage hands the chunks to the host as one reader.
func (h *handler) PutImage(ctx context.Context, stream *connect.ClientStream[pb.ImageChunk]) (*pb.ImageStatusResponse, error) {
	if !stream.Receive() {
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, toWire(fmt.Errorf("%w: an image without a first chunk", ErrInvalid))
	}
	first := stream.Msg()
	if first.SizeBytes > 1<<46 {
		return nil, toWire(fmt.Errorf("%w: an image of %d bytes", ErrInvalid, first.SizeBytes))
	}
	return answer(h.host.PutImage(ctx, first.Digest, int64(first.SizeBytes), &chunkReader{stream: stream, rest: first.Data}))
}

// chunkReader reads a stream of chunks as bytes.
type chunkReader struct {
	stream *connect.ClientStream[pb.ImageChunk]
	rest   []byte
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if !r.stream.Receive() {
			if err := r.stream.Err(); err != nil && !errors.Is(err, io.EOF) {
				return 0, err
			}
			return 0, io.EOF
		}
		r.rest = r.stream.Msg().Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
