package fabric

import "context"

// Memory is the fabric of simulated clouds: it renders what OVN would be told and keeps it.
type Memory struct{}

// NewMemory returns an empty fabric.
func NewMemory() *Memory { return &Memory{} }

func (m *Memory) EnsureVPC(ctx context.Context, v VPC) error         { panic("not yet") }
func (m *Memory) RemoveVPC(ctx context.Context, id string) error     { panic("not yet") }
func (m *Memory) EnsureSegment(ctx context.Context, s Segment) error { panic("not yet") }
func (m *Memory) RemoveSegment(ctx context.Context, id string) error { panic("not yet") }
func (m *Memory) Wait(ctx context.Context, chassis []string) error   { panic("not yet") }
func (m *Memory) Present(ctx context.Context) (vpcs, segments []string, err error) {
	panic("not yet")
}
func (m *Memory) Close() error { return nil }

// Fail makes the next count calls of the named method (EnsureVPC, RemoveVPC,
// EnsureSegment, RemoveSegment, Wait, Present) return err.
func (m *Memory) Fail(method string, count int, err error) { panic("not yet") }
