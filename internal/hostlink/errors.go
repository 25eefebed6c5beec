package hostlink

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
)

// ErrUnavailable: the host or something it needs (libvirt, Open vSwitch) does not answer now, or the
// same resource is still being worked on. Worth retrying. Transport failures are of this kind too.
var ErrUnavailable = errors.New("hostlink: the host does not answer")

// The sentinel errors and their codes on the wire; both directions.
var codes = []struct {
	err  error
	code connect.Code
}{
	{ErrFenced, connect.CodeFailedPrecondition},
	{ErrNotFound, connect.CodeNotFound},
	{ErrInvalid, connect.CodeInvalidArgument},
	{ErrNoSpace, connect.CodeResourceExhausted},
	{ErrUnavailable, connect.CodeUnavailable},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded},
	{context.Canceled, connect.CodeCanceled},
}

// wireError is a host's error as it came over the wire: it says what the host
// said, and is one of the sentinels.
type wireError struct {
	kind error
	text string
}

func (e *wireError) Error() string { return e.text }
func (e *wireError) Unwrap() error { return e.kind }

// toWire gives an error of a Host its code.
func toWire(err error) error {
	if err == nil {
		return nil
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return connect.NewError(c.code, err)
		}
	}
	return connect.NewError(connect.CodeInternal, err)
}

// fromWire gives an error of the wire its sentinel. Whatever went wrong with
// the connection itself is ErrUnavailable.
func fromWire(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ce *connect.Error
	if !errors.As(err, &ce) || !connect.IsWireError(err) { // the host did not say it: the connection did
		return &wireError{ErrUnavailable, err.Error()}
	}
	text := strings.TrimSpace(ce.Message())
	for _, c := range codes {
		if ce.Code() == c.code {
			if text == "" {
				text = c.err.Error()
			}
			return &wireError{c.err, text}
		}
	}
	return &wireError{errors.New(ce.Code().String()), text}
}
