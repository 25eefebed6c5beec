package hostlink_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/pki"
)

// fake is a host that answers what the test says.
type fake struct {
	hostlink.Host
	err    error
	delay  time.Duration
	events chan *pb.Event

	mu    sync.Mutex
	image []byte
}

func (f *fake) EnsureDomain(ctx context.Context, r *pb.EnsureDomainRequest) (*pb.Domain, error) {
	select {
	case <-time.After(f.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.err != nil {
		return nil, f.err
	}
	return &pb.Domain{Id: r.Spec.Id, Generation: r.Fence.Generation, State: pb.DomainState_DOMAIN_STATE_RUNNING}, nil
}

func (f *fake) PutImage(_ context.Context, digest string, size int64, r io.Reader) (*pb.ImageStatusResponse, error) {
	if f.err != nil {
		return nil, f.err // without reading
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != size {
		return nil, fmt.Errorf("%w: %d of %d bytes", hostlink.ErrInvalid, len(b), size)
	}
	f.mu.Lock()
	f.image = b
	f.mu.Unlock()
	return &pb.ImageStatusResponse{Digest: digest, Present: true, SizeBytes: uint64(size)}, nil
}

func (f *fake) Watch(ctx context.Context, _ *pb.WatchRequest, each func(*pb.Event)) error {
	for {
		select {
		case e := <-f.events:
			if e == nil {
				return f.err
			}
			each(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve starts an agent over mutual TLS on loopback and answers a controller's client of it.
func serve(t *testing.T, h hostlink.Host) (*hostlink.Client, *http.Server) {
	t.Helper()
	a, err := pki.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	csr, key, err := pki.NewRequest("x")
	if err != nil {
		t.Fatal(err)
	}
	cert, _, err := a.IssueHost(csr, "host-a")
	if err != nil {
		t.Fatal(err)
	}
	agent, err := pki.NewKeeper(cert, key, a.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := a.IssueController("controller-1")
	if err != nil {
		t.Fatal(err)
	}
	controller, err := pki.NewKeeper(pair.CertificatePEM, pair.KeyPEM, a.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: hostlink.NewHandler(h), TLSConfig: pki.AgentTLS(agent)}
	go server.ServeTLS(l, "", "")
	t.Cleanup(func() { server.Close() })
	client := hostlink.NewClient(l.Addr().String(), pki.ControllerTLS(controller, "host-a", nil))
	t.Cleanup(client.Close)
	return client, server
}

var call = &pb.EnsureDomainRequest{Fence: &pb.Fence{Epoch: 1, Generation: 2}, Spec: &pb.DomainSpec{Id: "vm-a"}}

func TestErrorsSurviveTheWire(t *testing.T) {
	f := &fake{}
	c, _ := serve(t, f)
	d, err := c.EnsureDomain(t.Context(), call)
	if err != nil || d.Id != "vm-a" || d.Generation != 2 {
		t.Fatalf("%v %v", d, err)
	}
	all := []error{hostlink.ErrFenced, hostlink.ErrNotFound, hostlink.ErrInvalid, hostlink.ErrNoSpace, hostlink.ErrUnavailable}
	for _, want := range all {
		f.err = fmt.Errorf("%w: because of the test", want)
		_, err := c.EnsureDomain(t.Context(), call)
		for _, other := range all {
			if errors.Is(err, other) != (other == want) {
				t.Errorf("%v came as %v", want, err)
			}
		}
		if err == nil || !strings.Contains(err.Error(), "because of the test") {
			t.Errorf("%v lost what the host said: %v", want, err)
		}
	}
	f.err = errors.New("something else")
	_, err = c.EnsureDomain(t.Context(), call)
	if err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("another error came as %v", err)
	}
	for _, other := range all {
		if errors.Is(err, other) {
			t.Errorf("another error came as %v", other)
		}
	}
}

func TestALinkThatBreaks(t *testing.T) {
	f := &fake{delay: time.Hour}
	c, server := serve(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.EnsureDomain(ctx, call); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past its deadline a call answers %v", err)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if _, err := c.EnsureDomain(gone, call); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that its caller gave up answers %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.EnsureDomain(t.Context(), call)
		done <- err
	}()
	watch := make(chan error, 1)
	connected := make(chan bool, 1)
	f.events = make(chan *pb.Event, 1)
	f.events <- &pb.Event{Domain: &pb.Domain{Id: "vm-a"}}
	go func() {
		watch <- c.Watch(t.Context(), &pb.WatchRequest{}, func(*pb.Event) { connected <- true })
	}()
	<-connected
	server.Close()
	for name, c := range map[string]chan error{"call": done, "watch": watch} {
		select {
		case err := <-c:
			if !errors.Is(err, hostlink.ErrUnavailable) {
				t.Errorf("a %s cut off answers %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("a %s cut off does not end", name)
		}
	}
	if _, err := c.EnsureDomain(t.Context(), call); !errors.Is(err, hostlink.ErrUnavailable) {
		t.Errorf("an agent that is away answers %v", err)
	}
}

func TestWatch(t *testing.T) {
	f := &fake{events: make(chan *pb.Event), err: hostlink.ErrUnavailable}
	c, _ := serve(t, f)
	got := make(chan string, 10)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- c.Watch(ctx, &pb.WatchRequest{}, func(e *pb.Event) { got <- e.Domain.Id })
	}()
	for _, id := range []string{"vm-a", "vm-b", "vm-a"} {
		f.events <- &pb.Event{Domain: &pb.Domain{Id: id}}
		if is := <-got; is != id {
			t.Fatalf("%s came as %s", id, is)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("a watch given up answers %v", err)
	}
	f = &fake{events: make(chan *pb.Event), err: hostlink.ErrUnavailable}
	c, _ = serve(t, f)
	go func() {
		done <- c.Watch(t.Context(), &pb.WatchRequest{}, func(*pb.Event) {})
	}()
	f.events <- nil // the host ends it
	if err := <-done; !errors.Is(err, hostlink.ErrUnavailable) {
		t.Fatalf("a watch that the host ended answers %v", err)
	}
}

func TestPutImage(t *testing.T) {
	f := &fake{}
	c, _ := serve(t, f)
	image := make([]byte, 3*hostlink.ChunkSize+12345)
	rand.Read(image)
	got, err := c.PutImage(t.Context(), "digest", int64(len(image)), bytes.NewReader(image))
	if err != nil || !got.Present || got.SizeBytes != uint64(len(image)) || !bytes.Equal(f.image, image) {
		t.Fatalf("%v %v, %d bytes of %d", got, err, len(f.image), len(image))
	}
	if _, err := c.PutImage(t.Context(), "digest", 5, bytes.NewReader(nil)); !errors.Is(err, hostlink.ErrInvalid) {
		t.Errorf("an empty image: %v", err)
	}
	broken := errors.New("the disk is broken")
	if _, err := c.PutImage(t.Context(), "digest", 9e6, io.MultiReader(bytes.NewReader(image), &failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a source that fails: %v", err)
	}
	// A host that refuses without reading ends the transfer of a large image early, with its reason.
	f.err = hostlink.ErrNoSpace
	endless := &counting{}
	if _, err := c.PutImage(t.Context(), "digest", 1<<40, io.LimitReader(endless, 1<<34)); !errors.Is(err, hostlink.ErrNoSpace) {
		t.Errorf("a host without space: %v", err)
	}
	if endless.n > 256<<20 {
		t.Errorf("%d MiB were sent to a host that had refused", endless.n>>20)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

type counting struct{ n int64 }

func (c *counting) Read(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
