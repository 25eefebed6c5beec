package trial

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// dialLimit is how long a forwarded connection may take to be made.
const dialLimit = 10 * time.Second

// Forward accepts on listener, in the caller's namespace, and connects every
// connection to target (IP:PORT) as seen from another namespace. It returns
// when ctx ends or the listener is closed.
func Forward(ctx context.Context, listener net.Listener, namespace, target string) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		go func() {
			defer conn.Close()
			dialCtx, cancel := context.WithTimeout(ctx, dialLimit)
			defer cancel()
			far, err := DialIn(dialCtx, namespace, target)
			if err != nil {
				return
			}
			defer far.Close()
			Join(ctx, conn, far)
		}()
	}
}

// Join copies both ways between two connections until both directions have ended or ctx ends.
func Join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	done := make(chan struct{}, 2)
	copyOne := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		done <- struct{}{}
	}
	go copyOne(a, b)
	go copyOne(b, a)
	<-done
	<-done
}
