package compute

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Limits of images that tenants bring.
const (
	maxUploadBytes  = 10 << 30  // of a file that is uploaded
	maxLoadedBytes  = 500 << 30 // of a file that is loaded from an address
	maxVirtualBytes = 500 << 30 // of the disk in it
	maxRedirects    = 5
)

// loadImage reads an image from its address, once.
func (s *Service) loadImage(ctx context.Context, j *imageJob) error {
	i, err := anyImage(ctx, s.DB.Reader(), action.Scope{}, j.Image)
	if err != nil {
		return err
	}
	address, err := s.Secret.Open(i.SourceURL, sourceContext(i.ID))
	if err != nil {
		return err
	}
	path, err := s.workFile(i.ID)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	most := j.MostBytes
	if most == 0 {
		most = maxLoadedBytes
	}
	if err := s.loadFile(ctx, string(address), path, most, func(percent int) error {
		s.showProgress(ctx, i.ID, percent)
		return s.stillWanted(ctx, i.ID)
	}); err != nil {
		return err
	}
	return s.takeFile(ctx, i, path, j)
}

func sourceContext(id string) string { return "image.source_url:" + id }

// takeFile checks a file that a tenant gave for what its image says it is, and puts it into the store.
func (s *Service) takeFile(ctx context.Context, i *Image, path string, j *imageJob) error {
	virtual, err := s.inspectAs(ctx, i.Format, path)
	if err != nil {
		return err
	}
	if virtual > maxVirtualBytes {
		return retcode.ImageTooLarge.Errorf("the disk in the image has %d GB, at most %d are allowed", virtual>>30, maxVirtualBytes>>30)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	j.Virtual = virtual
	j.Digest, j.Size, err = s.Fleet.StoreImage(ctx, f)
	return err
}

// loadFile copies what an address answers into a file. tell hears of the progress and may end it.
func (s *Service) loadFile(ctx context.Context, address, path string, most int64, tell func(percent int) error) error {
	unreachable := retcode.InvalidParameter.Errorf("LoadURL could not be read")
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return unreachable.Wrap(err)
	}
	client := s.outside()
	defer client.CloseIdleConnections()
	r, err := client.Do(q)
	if errors.Is(err, errReserved) {
		return retcode.InvalidParameter.Errorf("LoadURL leads to an address that images are not taken from").Wrap(err)
	}
	if err != nil {
		return unreachable.Wrap(err) // whoever gave the address is told, and tries again
	}
	defer r.Body.Close()
	switch {
	case r.StatusCode != http.StatusOK:
		return retcode.InvalidParameter.Errorf("LoadURL answers %s", r.Status)
	case r.ContentLength > most:
		return retcode.ImageTooLarge.Errorf("the file has %d bytes, at most %d are allowed", r.ContentLength, most)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	done := int64(0)
	n, err := io.Copy(f, io.LimitReader(&watched{r: r.Body, every: time.Second, tell: func(n int64) error {
		done += n
		percent := 0
		if r.ContentLength > 0 {
			percent = int(99 * done / r.ContentLength)
		}
		return tell(percent)
	}}, most+1))
	switch {
	case errors.Is(err, errUnwanted):
		return err
	case err != nil:
		return unreachable.Wrap(err)
	case n > most:
		return retcode.ImageTooLarge.Errorf("the file has more than %d bytes", most)
	}
	return f.Sync()
}

// errReserved: an address of the cloud's own.
var errReserved = errors.New("compute: a reserved address")

// outside is a client that reaches no address of the cloud itself, whatever a name resolves to and wherever it is
// redirected: the address is looked at when the connection is made.
func (s *Service) outside() *http.Client {
	dialer := &net.Dialer{Timeout: 15 * time.Second, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || s.reserved(at.Addr()) {
			return fmt.Errorf("%w: %s", errReserved, address)
		}
		return nil
	}}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:       nil, // the operator's own proxies reach the cloud's own networks
			DialContext: dialer.DialContext, TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: time.Minute,
			MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true, DisableCompression: true,
		},
		CheckRedirect: func(q *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			return checkSource(q.URL)
		},
	}
}

// reserved tells whether an address is one that tenants' images must not come from: this machine, its link, the
// hosts and the networks they are managed on.
func (s *Service) reserved(ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, n := range s.ImportFrom {
		if n.Contains(ip) {
			return false
		}
	}
	if !ip.IsValid() || ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip.IsInterfaceLocalMulticast() || ip.Zone() != "" {
		return true
	}
	if ip.Is4() && (ip.As4()[0] == 0 || ip.As4()[0] >= 240) {
		return true
	}
	hosts := map[netip.Addr]bool{}
	for _, h := range s.Fleet.Hosts() {
		if at, err := netip.ParseAddrPort(h.Address); err == nil {
			hosts[at.Addr().Unmap()] = true
		}
	}
	if hosts[ip] {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true // nobody knows: refuse
	}
	for _, a := range own {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		if addr == ip {
			return true
		}
		// A network of ours that hosts are in is the management network.
		ones, _ := n.Mask.Size()
		network := netip.PrefixFrom(addr, ones).Masked()
		if !network.Contains(ip) {
			continue
		}
		for h := range hosts {
			if network.Contains(h) {
				return true
			}
		}
	}
	return false
}

// checkSource refuses addresses that are no web address (113).
func checkSource(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return retcode.InvalidParameter.Errorf("LoadURL must be an http or https address without a user")
	}
	return nil
}

// errUnwanted: nobody waits for the image any more.
var errUnwanted = retcode.InvalidImageState.Errorf("it was aborted")

// stillWanted ends long work on an image whose operation was cancelled.
func (s *Service) stillWanted(ctx context.Context, id string) error {
	ops, err := s.Engine.Busy(ctx, s.DB.Reader(), id)
	if err != nil {
		return nil // the database is away for a moment
	}
	for _, op := range ops {
		if op.Cancel {
			return errUnwanted
		}
	}
	return nil
}

// watched tells now and then how much was read since it last did.
type watched struct {
	r     io.Reader
	every time.Duration
	tell  func(n int64) error
	since int64
	last  time.Time
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.since += int64(n)
	if now := time.Now(); err == nil && now.Sub(w.last) >= w.every {
		w.last = now
		if err := w.tell(w.since); err != nil {
			return n, err
		}
		w.since = 0
	}
	return n, err
}
