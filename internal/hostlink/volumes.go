package hostlink

import (
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// EnsureSnapshot implements Host.
func (c *Client) EnsureSnapshot(ctx context.Context, r *pb.EnsureSnapshotRequest) (*pb.Volume, error) {
	return unary(ctx, r, c.client.EnsureSnapshot)
}

// RemoveSnapshot implements Host.
func (c *Client) RemoveSnapshot(ctx context.Context, r *pb.RemoveSnapshotRequest) (*pb.Volume, error) {
	return unary(ctx, r, c.client.RemoveSnapshot)
}

// RollbackVolume implements Host.
func (c *Client) RollbackVolume(ctx context.Context, r *pb.RollbackVolumeRequest) (*pb.Volume, error) {
	return unary(ctx, r, c.client.RollbackVolume)
}

// EnsurePool implements Host.
func (c *Client) EnsurePool(ctx context.Context, r *pb.EnsurePoolRequest) (*pb.PoolStatus, error) {
	return unary(ctx, r, c.client.EnsurePool)
}

// RemovePool implements Host.
func (c *Client) RemovePool(ctx context.Context, r *pb.RemovePoolRequest) (*pb.RemovePoolResponse, error) {
	return unary(ctx, r, c.client.RemovePool)
}

// ReadVolume implements Host. It has no deadline of its own, like PutImage.
func (c *Client) ReadVolume(ctx context.Context, r *pb.ReadVolumeRequest, each func(*pb.VolumeChunk) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.client.ReadVolume(ctx, r)
	if err != nil {
		return fromWire(ctx, err)
	}
	defer stream.Close()
	for stream.Receive() {
		if err := each(stream.Msg()); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return fromWire(ctx, err)
	}
	return nil
}

// WriteVolume implements Host.
func (c *Client) WriteVolume(ctx context.Context, next func() (*pb.VolumeChunk, error)) (*pb.Volume, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.client.WriteVolume(ctx)
	if err != nil {
		return nil, fromWire(ctx, err)
	}
	for {
		chunk, err := next()
		if err != nil {
			return nil, err
		}
		if err := stream.Send(chunk); err != nil {
			if !errors.Is(err, io.EOF) {
				return nil, fromWire(ctx, err)
			}
			break // the host has answered already: read why
		}
		if chunk.Last {
			break
		}
	}
	res, err := stream.CloseAndReceive()
	if err != nil {
		return nil, fromWire(ctx, err)
	}
	return res, nil
}

func (h *handler) EnsureSnapshot(ctx context.Context, r *pb.EnsureSnapshotRequest) (*pb.Volume, error) {
	return answer(h.host.EnsureSnapshot(ctx, r))
}

func (h *handler) RemoveSnapshot(ctx context.Context, r *pb.RemoveSnapshotRequest) (*pb.Volume, error) {
	return answer(h.host.RemoveSnapshot(ctx, r))
}

func (h *handler) RollbackVolume(ctx context.Context, r *pb.RollbackVolumeRequest) (*pb.Volume, error) {
	return answer(h.host.RollbackVolume(ctx, r))
}

func (h *handler) EnsurePool(ctx context.Context, r *pb.EnsurePoolRequest) (*pb.PoolStatus, error) {
	return answer(h.host.EnsurePool(ctx, r))
}

func (h *handler) RemovePool(ctx context.Context, r *pb.RemovePoolRequest) (*pb.RemovePoolResponse, error) {
	return answer(h.host.RemovePool(ctx, r))
}

func (h *handler) ReadVolume(ctx context.Context, r *pb.ReadVolumeRequest, stream *connect.ServerStream[pb.VolumeChunk]) error {
	return toWire(h.host.ReadVolume(ctx, r, stream.Send))
}

func (h *handler) WriteVolume(ctx context.Context, stream *connect.ClientStream[pb.VolumeChunk]) (*pb.Volume, error) {
	return answer(h.host.WriteVolume(ctx, func() (*pb.VolumeChunk, error) {
		if stream.Receive() {
			return stream.Msg(), nil
		}
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: a volume without its last chunk", ErrInvalid)
	}))
}
