package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"google.golang.org/protobuf/proto"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/database/dbtest"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/pki"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

// stub is a host that notes what it is asked.
type stub struct {
	hostlink.Host // what a test does not expect panics

	mu      sync.Mutex
	id      string
	fences  []*pb.Fence
	images  map[string][]byte
	puts    int
	putting chan struct{} // PutImage waits for it, when set
	csr     []byte
	ends    time.Time // of its certificate
	renewed *pb.InstallCertificateRequest
}

func (h *stub) Health(context.Context, *pb.HealthRequest) (*pb.HealthResponse, error) {
	return &pb.HealthResponse{HostId: h.id, Cpus: 4, MemoryMib: 4096, DiskBytes: 100 << 30, DiskFreeBytes: 90 << 30, Arch: "x86_64", Chassis: h.id}, nil
}

func (h *stub) List(context.Context, *pb.ListRequest) (*pb.ListResponse, error) {
	return &pb.ListResponse{}, nil
}

func (h *stub) noted(f *pb.Fence) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fences = append(h.fences, f)
}

func (h *stub) EnsureVolume(_ context.Context, q *pb.EnsureVolumeRequest) (*pb.Volume, error) {
	h.noted(q.Fence)
	return &pb.Volume{}, nil
}

func (h *stub) RemoveDomain(_ context.Context, q *pb.RemoveDomainRequest) (*pb.RemoveDomainResponse, error) {
	h.noted(q.Fence)
	return &pb.RemoveDomainResponse{}, nil
}

func (h *stub) ImageStatus(_ context.Context, q *pb.ImageStatusRequest) (*pb.ImageStatusResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &pb.ImageStatusResponse{Digest: q.Digest, Present: h.images[q.Digest] != nil}, nil
}

func (h *stub) PutImage(_ context.Context, digest string, size int64, r io.Reader) (*pb.ImageStatusResponse, error) {
	h.mu.Lock()
	h.puts++
	h.mu.Unlock()
	if h.putting != nil {
		<-h.putting
	}
	text, err := io.ReadAll(r)
	if err != nil || int64(len(text)) != size {
		return nil, errors.Join(err, errors.New("wrong size"))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images[digest] = text
	return &pb.ImageStatusResponse{Digest: digest, Present: true}, nil
}

func (h *stub) CertificateRequest(context.Context, *pb.CertificateRequestRequest) (*pb.CertificateRequestResponse, error) {
	return &pb.CertificateRequestResponse{CsrPem: h.csr, NotAfter: h.ends.Unix()}, nil
}

func (h *stub) InstallCertificate(_ context.Context, q *pb.InstallCertificateRequest) (*pb.InstallCertificateResponse, error) {
	h.renewed = q
	return &pb.InstallCertificateResponse{}, nil
}

// open makes a fleet whose hosts are stubs.
func open(t *testing.T, db *database.DB, seeds ...HostSeed) (*Service, map[string]*stub) {
	t.Helper()
	stubs := map[string]*stub{}
	var mu sync.Mutex
	c := clock.New()
	authority, err := pki.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	key, err := secret.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	offers := catalog.New(catalog.Deps{DB: db, Clock: c, Secret: key})
	if err := offers.Bootstrap(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	s := New(Deps{DB: db, Clock: c, Catalog: offers, Epoch: func() uint64 { return 7 }, Images: t.TempDir(),
		Authority: authority, Revoked: &pki.Revoked{}, Southbound: "ssl:192.0.2.1:6642", JoinURL: "https://192.0.2.1:8443",
		Dial: func(id, _ string) (hostlink.Host, error) {
			mu.Lock()
			defer mu.Unlock()
			stubs[id] = &stub{id: id, images: map[string][]byte{}}
			return stubs[id], nil
		}})
	if err := s.Bootstrap(t.Context(), "cn", "x86_64", 100, seeds); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, stubs
}

func TestFencesCarryTheEpoch(t *testing.T) {
	s, stubs := open(t, dbtest.SQLite(t), HostSeed{"host-a", "a"})
	mine := &pb.Fence{Generation: 3, Operation: "op-1"}
	if _, err := s.Host("host-a").EnsureVolume(t.Context(), &pb.EnsureVolumeRequest{Fence: mine, Spec: &pb.VolumeSpec{Id: "disk-1"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Host("host-a").RemoveDomain(t.Context(), &pb.RemoveDomainRequest{Id: "vm-1"}); err != nil {
		t.Fatal(err)
	}
	f := stubs["host-a"].fences
	if f[0].Epoch != 7 || f[0].Generation != 3 || f[0].Operation != "op-1" {
		t.Errorf("fence %v", f[0])
	}
	if f[1].Epoch != 7 || f[1].Generation != 0 {
		t.Errorf("fence of a caller that gave none: %v", f[1])
	}
	if mine.Epoch != 0 {
		t.Error("the caller's fence was changed")
	}
}

func TestAnotherHostAtTheAddress(t *testing.T) {
	s, stubs := open(t, dbtest.SQLite(t), HostSeed{"host-a", "a"})
	stubs["host-a"].id = "host-b"
	s.Clock.Advance(31 * time.Second)
	if err := s.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h, _ := s.HostInfo("host-a"); h.State != Down {
		t.Errorf("a host whose address another one answers at is %s", h.State)
	}
}

func TestImages(t *testing.T) {
	s, stubs := open(t, dbtest.SQLite(t), HostSeed{"host-a", "a"}, HostSeed{"host-b", "b"})
	ctx := t.Context()
	text := bytes.Repeat([]byte("image"), 1000)
	digest, size, err := s.StoreImage(ctx, bytes.NewReader(text))
	sum := sha256.Sum256(text)
	if err != nil || digest != hex.EncodeToString(sum[:]) || size != int64(len(text)) {
		t.Fatalf("stored as %s, %d bytes, %v", digest, size, err)
	}
	if again, _, err := s.StoreImage(ctx, bytes.NewReader(text)); err != nil || again != digest {
		t.Errorf("stored again as %s, %v", again, err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := s.StoreImage(cancelled, bytes.NewReader(text)); !errors.Is(err, context.Canceled) {
		t.Errorf("stored for a caller that is gone: %v", err)
	}
	for _, bad := range []string{"", "../../etc/passwd", strings.Repeat("0", 64)} {
		if _, _, err := s.OpenImage(bad); !errors.Is(err, ErrNoImage) {
			t.Errorf("opened %q: %v", bad, err)
		}
	}

	// Many who need it at once share one transfer; each host gets its own.
	a, b := stubs["host-a"], stubs["host-b"]
	a.putting = make(chan struct{})
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			if err := s.EnsureImage(ctx, "host-a", digest); err != nil {
				t.Error(err)
			}
		})
	}
	if err := s.EnsureImage(ctx, "host-b", digest); err != nil {
		t.Fatal(err)
	}
	// One who stops waiting does not end the transfer for the others.
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if err := s.EnsureImage(short, "host-a", digest); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller in a hurry: %v", err)
	}
	close(a.putting)
	group.Wait()
	if a.puts != 1 || b.puts != 1 || !bytes.Equal(a.images[digest], text) || !bytes.Equal(b.images[digest], text) {
		t.Errorf("%d and %d transfers", a.puts, b.puts)
	}
	if err := s.EnsureImage(ctx, "host-a", digest); err != nil || a.puts != 1 {
		t.Errorf("a host that has it: %v, %d transfers", err, a.puts)
	}
	if err := s.EnsureImage(ctx, "host-a", strings.Repeat("1", 64)); !errors.Is(err, ErrNoImage) {
		t.Errorf("an image that the store lacks: %v", err)
	}
	if err := s.RemoveImage(digest); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveImage(digest); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	if _, _, err := s.OpenImage(digest); !errors.Is(err, ErrNoImage) {
		t.Errorf("opened after its removal: %v", err)
	}
}

// token writes a token as the action does.
func token(t *testing.T, s *Service, name string, lives time.Duration) pki.Token {
	t.Helper()
	k, err := s.Authority.NewToken()
	if err != nil {
		t.Fatal(err)
	}
	row := hostToken{ID: database.NewID("token"), Region: "cn", Hash: k.Hash(), Name: name, ComputeSet: firstComputeSet, ExpiresAt: s.Clock.Now().Add(lives).UnixMicro()}
	if err := s.DB.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&row).Exec(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return k
}

func join(t *testing.T, s *Service, q hostlink.JoinRequest) (int, hostlink.JoinResponse, hostlink.JoinRefusal) {
	t.Helper()
	text, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeJoin(w, httptest.NewRequest(http.MethodPost, hostlink.JoinPath, bytes.NewReader(text)))
	var yes hostlink.JoinResponse
	var no hostlink.JoinRefusal
	if err := errors.Join(json.Unmarshal(w.Body.Bytes(), &yes), json.Unmarshal(w.Body.Bytes(), &no)); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return w.Code, yes, no
}

func TestJoin(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s, _ := open(t, db)
		csr, _, err := pki.NewRequest("new")
		if err != nil {
			t.Fatal(err)
		}
		request := func(k pki.Token) hostlink.JoinRequest {
			return hostlink.JoinRequest{Token: k.String(), Name: "new", Address: "192.0.2.7:8444", CSR: string(csr)}
		}
		good := token(t, s, "new", time.Hour)
		for name, q := range map[string]struct {
			change func(*hostlink.JoinRequest)
			status int
		}{
			"no token":         {func(q *hostlink.JoinRequest) { q.Token = "" }, 403},
			"a made-up token":  {func(q *hostlink.JoinRequest) { k, _ := s.Authority.NewToken(); q.Token = k.String() }, 403},
			"an expired token": {func(q *hostlink.JoinRequest) { q.Token = token(t, s, "new", -time.Second).String() }, 403},
			"another's token":  {func(q *hostlink.JoinRequest) { q.Token = token(t, s, "other", time.Hour).String() }, 403},
			"no name":          {func(q *hostlink.JoinRequest) { q.Name = "" }, 400},
			"a path as name":   {func(q *hostlink.JoinRequest) { q.Name = "../../x" }, 400},
			"no address":       {func(q *hostlink.JoinRequest) { q.Address = "" }, 400},
			"no port":          {func(q *hostlink.JoinRequest) { q.Address = "192.0.2.7" }, 400},
			"a wrong port":     {func(q *hostlink.JoinRequest) { q.Address = "192.0.2.7:70000" }, 400},
			"a URL":            {func(q *hostlink.JoinRequest) { q.Address = "http://x/y:1" }, 400},
			"no request":       {func(q *hostlink.JoinRequest) { q.CSR = "x" }, 400},
		} {
			r := request(good)
			q.change(&r)
			if status, _, no := join(t, s, r); status != q.status || no.Message == "" {
				t.Errorf("%s: %d %q, want %d", name, status, no.Message, q.status)
			}
		}
		if len(s.Hosts()) != 0 {
			t.Fatalf("refused hosts are there: %v", s.Hosts())
		}

		status, first, no := join(t, s, request(good))
		if status != 200 || first.HostID == "" || first.Region != "cn" || first.ComputeSet != firstComputeSet || first.OVN.Southbound != "ssl:192.0.2.1:6642" {
			t.Fatalf("joined with %d %q %+v", status, no.Message, first)
		}
		certificate, err := pki.ParseCertificate([]byte(first.Certificate))
		if err != nil {
			t.Fatal(err)
		}
		if role, id, err := pki.Identity(certificate); err != nil || role != pki.RoleHost || id != first.HostID {
			t.Errorf("certificate of %s %s, %v", role, id, err)
		}
		if h, ok := s.HostInfo(first.HostID); !ok || h.Name != "new" || h.Address != "192.0.2.7:8444" {
			t.Errorf("host %+v", h)
		}
		if status, _, _ := join(t, s, request(good)); status != 403 {
			t.Errorf("a used token: %d", status)
		}
		// Two that use one token at the same time: one is in.
		once := token(t, s, "", time.Hour)
		var group sync.WaitGroup
		statuses := make([]int, 4)
		for i := range statuses {
			group.Go(func() {
				q := request(once)
				q.Name = "racer"
				statuses[i], _, _ = join(t, s, q)
			})
		}
		group.Wait()
		in := 0
		for _, status := range statuses {
			if status == 200 {
				in++
			}
		}
		if in != 1 {
			t.Errorf("four with one token: %v", statuses)
		}

		// The same name joins again: the same host, a new certificate, the old one refused.
		again := request(token(t, s, "new", time.Hour))
		again.Address = "192.0.2.8:8444"
		status, second, no := join(t, s, again)
		if status != 200 || second.HostID != first.HostID {
			t.Fatalf("joined again with %d %q %+v", status, no.Message, second)
		}
		renewed, err := pki.ParseCertificate([]byte(second.Certificate))
		if err != nil {
			t.Fatal(err)
		}
		if !s.Revoked.Has(pki.Serial(certificate)) || s.Revoked.Has(pki.Serial(renewed)) {
			t.Error("not the old certificate is refused but the new one, or none")
		}
		if h, _ := s.HostInfo(first.HostID); h.Address != "192.0.2.8:8444" {
			t.Errorf("its address stayed %s", h.Address)
		}
		// A licence for one host more: of four that come at the same time, one is in.
		issuer, system, err := catalog.LicenceIssuer(t.Context(), s.Catalog)
		if err != nil {
			t.Fatal(err)
		}
		file, err := catalog.SignLicence(catalog.Licence{ID: "licence-3", System: system, Regions: []string{"cn"}, Nodes: len(s.Hosts()) + 1}, issuer)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Writer().Exec(`UPDATE licence SET file = '` + string(text) + `'`); err != nil {
			t.Fatal(err)
		}
		in = 0
		for i := range statuses {
			q := request(token(t, s, "", time.Hour))
			q.Name = fmt.Sprintf("crowd-%d", i)
			group.Go(func() { statuses[i], _, _ = join(t, s, q) })
		}
		group.Wait()
		for _, status := range statuses {
			if status == 200 {
				in++
			}
		}
		if in != 1 || len(s.Hosts()) != file.Licence.Nodes {
			t.Errorf("a licence of %d hosts: %v, %d are there", file.Licence.Nodes, statuses, len(s.Hosts()))
		}
		if status, _, _ := join(t, s, request(token(t, s, "new", time.Hour))); status != 200 {
			t.Errorf("a host that is there already joins again with %d", status)
		}
		w := httptest.NewRecorder()
		s.ServeJoin(w, httptest.NewRequest(http.MethodGet, hostlink.JoinPath, nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("GET answers %d", w.Code)
		}
	})
}

// TestWrongClocks reports hosts whose clock differs by more than the call itself can explain.
func TestWrongClocks(t *testing.T) {
	asked := time.Unix(1_800_000_000, 0)
	answered := asked.Add(2 * time.Second)
	for said, want := range map[time.Time]string{
		asked: "", answered: "", asked.Add(-time.Second): "", answered.Add(time.Second): "",
		asked.Add(-3 * time.Second):   "the clock is 3s behind the controller's",
		answered.Add(2 * time.Minute): "the clock is 2m0s ahead of the controller's",
	} {
		got := ""
		for _, p := range wrongClock(asked, answered, said.UnixMicro()) {
			got += p.Message
		}
		if got != want {
			t.Errorf("at %v after the question: %q, want %q", said.Sub(asked), got, want)
		}
	}
	if wrongClock(asked, answered, 0) != nil {
		t.Error("a host without a clock has a wrong one")
	}
}

func TestCertificatesAreRenewed(t *testing.T) {
	s, stubs := open(t, dbtest.SQLite(t))
	csr, _, err := pki.NewRequest("new")
	if err != nil {
		t.Fatal(err)
	}
	status, in, no := join(t, s, hostlink.JoinRequest{Token: token(t, s, "new", time.Hour).String(), Name: "new", Address: "192.0.2.7:8444", CSR: string(csr)})
	if status != 200 {
		t.Fatal(no.Message)
	}
	old, _ := pki.ParseCertificate([]byte(in.Certificate))
	h := stubs[in.HostID]
	if h.csr, _, err = pki.NewRequest("new"); err != nil {
		t.Fatal(err)
	}
	h.ends = time.Now().Add(pki.RenewBefore + time.Hour)
	if err := s.renewCertificates(t.Context()); err != nil || h.renewed != nil {
		t.Fatalf("renewed too early, %v", err)
	}
	h.ends = time.Now().Add(pki.RenewBefore - time.Hour)
	if err := s.renewCertificates(t.Context()); err != nil || h.renewed == nil {
		t.Fatalf("not renewed: %v", err)
	}
	fresh, err := pki.ParseCertificate(h.renewed.CertificatePem)
	if err != nil {
		t.Fatal(err)
	}
	if _, id, err := pki.Identity(fresh); err != nil || id != in.HostID || h.renewed.Fence.GetEpoch() != 7 {
		t.Errorf("renewed for %s with %v, %v", id, h.renewed.Fence, err)
	}
	if !s.Revoked.Has(pki.Serial(old)) || s.Revoked.Has(pki.Serial(fresh)) {
		t.Error("the old certificate is not refused, or the new one is")
	}
}

// exporting is a host that remembers what it was asked to export.
type exporting struct {
	hostlink.Host
	asked *pb.ExportVolumeRequest
}

func (h *exporting) ExportVolume(_ context.Context, q *pb.ExportVolumeRequest) (*pb.Export, error) {
	h.asked = q
	return &pb.Export{}, nil
}

// TestLinkKeepsRequests: a link adds the epoch to a request, loses nothing of it, and leaves the caller's as it is.
func TestLinkKeepsRequests(t *testing.T) {
	host := &exporting{}
	s := &Service{Deps: Deps{Epoch: func() uint64 { return 7 }}, members: map[string]*member{"host-a": {link: host}}}
	q := &pb.ExportVolumeRequest{Fence: &pb.Fence{Generation: 3, Operation: "op-a"}, Id: "image-a", VolumeId: "disk-a", Pool: "set-a", Secret: []byte("key")}
	if _, err := s.Host("host-a").ExportVolume(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	want := proto.Clone(q).(*pb.ExportVolumeRequest)
	want.Fence.Epoch = 7
	if !proto.Equal(host.asked, want) || q.Fence.Epoch != 0 {
		t.Errorf("the host was asked for %v, the caller's request is %v", host.asked, q)
	}
}
