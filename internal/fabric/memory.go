package fabric

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Memory is the fabric of simulated clouds. It refuses what OVN's fabric
// refuses, and keeps the last product of each id; rows are rendered when they
// are asked for. It is safe for concurrent use.
type Memory struct {
	mu       sync.Mutex
	vpcs     map[string]VPC
	segments map[string]Segment
	outer    map[string]OuterPort
	failures map[string]failure
}

type failure struct {
	count int
	err   error
}

var _ Fabric = (*Memory)(nil)

// NewMemory returns an empty fabric.
func NewMemory() *Memory {
	return &Memory{vpcs: map[string]VPC{}, segments: map[string]Segment{}, outer: map[string]OuterPort{}, failures: map[string]failure{}}
}

// EnsureVPC implements Fabric.
func (m *Memory) EnsureVPC(ctx context.Context, v VPC) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails(ctx, "EnsureVPC"); err != nil {
		return err
	}
	if err := v.validate(); err != nil {
		return err
	}
	for _, g := range v.Gateways {
		if _, ok := m.segments[g.SegmentID]; !ok {
			return fmt.Errorf("%w: %s", ErrNoSegment, g.SegmentID)
		}
	}
	m.vpcs[v.ID] = v
	return nil
}

// RemoveVPC implements Fabric.
func (m *Memory) RemoveVPC(ctx context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails(ctx, "RemoveVPC"); err != nil {
		return err
	}
	delete(m.vpcs, id)
	return nil
}

// EnsureSegment implements Fabric.
func (m *Memory) EnsureSegment(ctx context.Context, s Segment) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails(ctx, "EnsureSegment"); err != nil {
		return err
	}
	if _, err := renderSegment(s); err != nil {
		return err
	}
	m.segments[s.ID] = s
	return nil
}

// RemoveSegment implements Fabric.
func (m *Memory) RemoveSegment(ctx context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails(ctx, "RemoveSegment"); err != nil {
		return err
	}
	for _, v := range m.vpcs {
		for _, g := range v.Gateways {
			if g.SegmentID == id {
				return fmt.Errorf("%w: %s by %s", ErrInUse, id, v.ID)
			}
		}
	}
	for _, p := range m.outer {
		if p.SegmentID == id {
			return fmt.Errorf("%w: %s by %s", ErrInUse, id, p.ID)
		}
	}
	delete(m.segments, id)
	return nil
}

// Wait implements Fabric: a simulated chassis is never behind.
func (m *Memory) Wait(ctx context.Context, chassis []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fails(ctx, "Wait")
}

// Present implements Fabric.
func (m *Memory) Present(ctx context.Context) (vpcs, segments []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fails(ctx, "Present"); err != nil {
		return nil, nil, err
	}
	return slices.Sorted(maps.Keys(m.vpcs)), slices.Sorted(maps.Keys(m.segments)), nil
}

// Close implements Fabric.
func (m *Memory) Close() error { return nil }

// VPC is the product last ensured under the id, and whether there is one.
func (m *Memory) VPC(id string) (VPC, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.vpcs[id]
	return v, ok
}

// Segment is the segment last ensured under the id, and whether there is one.
func (m *Memory) Segment(id string) (Segment, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.segments[id]
	return s, ok
}

// Rows are the northbound rows of a VPC or segment, one line each, sorted. They
// are for comparing and reading; their form is no interface.
func (m *Memory) Rows(id string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var want *intent
	var err error
	if v, ok := m.vpcs[id]; ok {
		want, err = renderVPC(v)
	} else if s, ok := m.segments[id]; ok {
		want, err = renderSegment(s)
	} else if p, ok := m.outer[id]; ok {
		want, err = renderOuterPort(p)
	}
	if want == nil || err != nil { // what is kept has been rendered before
		return nil
	}
	return want.text()
}

// Fail makes the next count calls of the named method (EnsureVPC, RemoveVPC,
// EnsureSegment, RemoveSegment, Wait, Present) change nothing and return err. A
// count of 0 ends it.
func (m *Memory) Fail(method string, count int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures[method] = failure{count, err}
}

func (m *Memory) fails(ctx context.Context, method string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f := m.failures[method]
	if f.count == 0 {
		return nil
	}
	m.failures[method] = failure{f.count - 1, f.err}
	return f.err
}
