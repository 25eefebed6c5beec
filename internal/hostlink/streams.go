package hostlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"connectrpc.com/connect"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// frameSize bounds the bytes of one frame of a console.
const frameSize = 64 << 10

// Console implements Host.
func (c *Client) Console(ctx context.Context, id string, kind pb.ConsoleKind) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	fail := func(err error) (io.ReadWriteCloser, error) {
		cancel()
		return nil, fromWire(context.Background(), err)
	}
	stream, err := c.client.Console(ctx)
	if err != nil {
		return fail(err)
	}
	if err := stream.Send(&pb.ConsoleFrame{Id: id, Kind: kind}); err != nil {
		if errors.Is(err, io.EOF) { // the host has answered already: read why
			_, err = stream.Receive()
		}
		return fail(err)
	}
	// The host says with an empty frame that it is connected.
	if _, err := stream.Receive(); err != nil {
		return fail(err)
	}
	return &console{send: stream.Send, receive: stream.Receive, end: func() {
		_ = stream.CloseRequest() // the cancel ends it anyway
		cancel()
		_ = stream.CloseResponse()
	}}, nil
}

// Console joins a caller to a guest until either side ends.
func (h *handler) Console(ctx context.Context, stream *connect.BidiStream[pb.ConsoleFrame, pb.ConsoleFrame]) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	guest, err := h.host.Console(ctx, first.Id, first.Kind)
	if err != nil {
		return toWire(err)
	}
	defer guest.Close()
	if err := stream.Send(&pb.ConsoleFrame{}); err != nil {
		return err
	}
	caller := &console{send: stream.Send, receive: stream.Receive, end: func() {}}
	go func() {
		_, _ = io.Copy(guest, caller)
		guest.Close() // the caller went: the copy below ends
	}()
	if _, err := io.Copy(caller, guest); err != nil && ctx.Err() == nil && !errors.Is(err, io.ErrClosedPipe) {
		return toWire(fmt.Errorf("%w: the console ended: %w", ErrUnavailable, err))
	}
	return nil
}

// console is a stream of frames as a connection. One goroutine reads, one writes, any closes.
type console struct {
	send    func(*pb.ConsoleFrame) error
	receive func() (*pb.ConsoleFrame, error)
	end     func()
	once    sync.Once
	rest    []byte
}

func (c *console) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		frame, err := c.receive()
		if err != nil {
			return 0, io.EOF
		}
		c.rest = frame.Data
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *console) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), frameSize)]
		if err := c.send(&pb.ConsoleFrame{Data: part}); err != nil {
			return n, io.ErrClosedPipe
		}
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

func (c *console) Close() error {
	c.once.Do(c.end)
	return nil
}

// GetImage implements Host. It has no deadline of its own.
func (c *Client) GetImage(ctx context.Context, digest string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.client.GetImage(ctx, &pb.GetImageRequest{Digest: digest})
	if err != nil {
		cancel()
		return nil, fromWire(context.Background(), err)
	}
	return &imageReader{ctx: ctx, cancel: cancel, stream: stream}, nil
}

// imageReader reads a stream of chunks as bytes.
type imageReader struct {
	ctx    context.Context
	cancel context.CancelFunc
	stream *connect.ServerStreamForClient[pb.ImageChunk]
	rest   []byte
}

func (r *imageReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if !r.stream.Receive() {
			if err := r.stream.Err(); err != nil {
				return 0, fromWire(r.ctx, err)
			}
			return 0, io.EOF
		}
		r.rest = r.stream.Msg().Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *imageReader) Close() error {
	r.cancel()
	return r.stream.Close()
}

// GetImage sends an image in chunks.
func (h *handler) GetImage(ctx context.Context, r *pb.GetImageRequest, stream *connect.ServerStream[pb.ImageChunk]) error {
	image, err := h.host.GetImage(ctx, r.Digest)
	if err != nil {
		return toWire(err)
	}
	defer image.Close()
	buf := make([]byte, ChunkSize)
	for {
		n, err := io.ReadFull(image, buf)
		if n > 0 {
			if err := stream.Send(&pb.ImageChunk{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return toWire(err)
		}
	}
}
