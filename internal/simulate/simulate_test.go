package simulate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

func cloud(t *testing.T, o Options) *Cloud {
	t.Helper()
	if o.Hosts == 0 {
		o.Hosts = 2
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func link(t *testing.T, c *Cloud, i int) hostlink.Host {
	t.Helper()
	h, err := c.Dial(c.IDs()[i], "")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ensureVolume(t *testing.T, h hostlink.Host, id string, gen uint64) {
	t.Helper()
	_, err := h.EnsureVolume(context.Background(), &pb.EnsureVolumeRequest{
		Fence: &pb.Fence{Epoch: 1, Generation: gen}, Spec: &pb.VolumeSpec{Id: id, SizeBytes: 1 << 30},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func domainRequest(id, volume string, gen uint64, memory uint64, power pb.Power) *pb.EnsureDomainRequest {
	return &pb.EnsureDomainRequest{
		Fence: &pb.Fence{Epoch: 1, Generation: gen},
		Spec: &pb.DomainSpec{
			Id: id, Uuid: "0d6f4a52-8c1e-4b57-9a34-6f1d2e3c4b5a", Cpus: 1, MemoryMib: memory, Power: power,
			Disks: []*pb.DomainDisk{{VolumeId: volume, Target: "vda"}},
			Nics:  []*pb.DomainNIC{{PortUuid: "5f2d4c6e-3b1a-4f7e-9c55-0a1b2c3d4e5f", Mac: "52:54:00:12:34:56"}},
			Seed:  &pb.Seed{InstanceId: id, Hostname: "guest", HashedPassword: "$6$saltsaltsalt$" + strings.Repeat("a", 86)},
		},
	}
}

func TestFencesRefuseTheOlderCaller(t *testing.T) {
	h := link(t, cloud(t, Options{}), 0)
	ctx := context.Background()
	ensureVolume(t, h, "disk-a", 5)
	_, err := h.EnsureVolume(ctx, &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1, Generation: 4}, Spec: &pb.VolumeSpec{Id: "disk-a", SizeBytes: 1 << 30}})
	if !errors.Is(err, hostlink.ErrFenced) {
		t.Errorf("an older generation: %v", err)
	}
	if _, err := h.Health(ctx, &pb.HealthRequest{Epoch: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: &pb.Fence{Epoch: 2, Generation: 9}, Id: "disk-a"}); !errors.Is(err, hostlink.ErrFenced) {
		t.Errorf("an older epoch: %v", err)
	}
}

func TestMemoryIsNotOvercommitted(t *testing.T) {
	h := link(t, cloud(t, Options{MemoryMiB: 1024}), 0)
	ctx := context.Background()
	for _, id := range []string{"disk-a", "disk-b"} {
		ensureVolume(t, h, id, 1)
	}
	if _, err := h.EnsureDomain(ctx, domainRequest("vm-a", "disk-a", 1, 1024, pb.Power_POWER_RUNNING)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.EnsureDomain(ctx, domainRequest("vm-b", "disk-b", 1, 1024, pb.Power_POWER_RUNNING)); err == nil {
		t.Error("a host of 1024 MiB runs two machines of 1024 MiB")
	}
}

func TestVolumes(t *testing.T) {
	h := link(t, cloud(t, Options{DiskGB: 2}), 0)
	ctx := context.Background()
	ensureVolume(t, h, "disk-a", 1)
	shrink := &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Spec: &pb.VolumeSpec{Id: "disk-a", SizeBytes: 1 << 20}}
	if _, err := h.EnsureVolume(ctx, shrink); !errors.Is(err, hostlink.ErrInvalid) {
		t.Errorf("shrinking: %v", err)
	}
	big := &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Spec: &pb.VolumeSpec{Id: "disk-b", SizeBytes: 2 << 30}}
	if _, err := h.EnsureVolume(ctx, big); !errors.Is(err, hostlink.ErrNoSpace) {
		t.Errorf("more than there is: %v", err)
	}
	imaged := &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Spec: &pb.VolumeSpec{Id: "disk-c", SizeBytes: 1 << 20, ImageDigest: "abc"}}
	if _, err := h.EnsureVolume(ctx, imaged); !errors.Is(err, hostlink.ErrNotFound) {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := h.EnsureDomain(ctx, domainRequest("vm-a", "disk-a", 1, 64, pb.Power_POWER_OFF)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Id: "disk-a"}); err == nil {
		t.Error("a volume in use was removed")
	}
}

func TestPutImageVerifies(t *testing.T) {
	h := link(t, cloud(t, Options{}), 0)
	data := []byte("an image")
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	ctx := context.Background()
	if _, err := h.PutImage(ctx, digest, int64(len(data)), strings.NewReader("an imagf")); !errors.Is(err, hostlink.ErrInvalid) {
		t.Errorf("a damaged image: %v", err)
	}
	if s, err := h.ImageStatus(ctx, &pb.ImageStatusRequest{Digest: digest}); err != nil || s.Present {
		t.Errorf("after a damaged image: %v %v", s, err)
	}
	if _, err := h.PutImage(ctx, digest, int64(len(data)), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if s, err := h.ImageStatus(ctx, &pb.ImageStatusRequest{Digest: digest}); err != nil || !s.Present || s.SizeBytes != 8 {
		t.Errorf("after the image: %v %v", s, err)
	}
}

func TestWatchTellsEveryChange(t *testing.T) {
	c := cloud(t, Options{})
	h := link(t, c, 0)
	ensureVolume(t, h, "disk-a", 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := h.EnsureDomain(ctx, domainRequest("vm-a", "disk-a", 1, 64, pb.Power_POWER_OFF)); err != nil {
		t.Fatal(err)
	}
	events := make(chan pb.DomainState, 16)
	ended := make(chan error, 1)
	go func() {
		ended <- h.Watch(ctx, &pb.WatchRequest{}, func(e *pb.Event) { events <- e.Domain.State })
	}()
	next := func(want pb.DomainState) {
		t.Helper()
		select {
		case got := <-events:
			if got != want {
				t.Fatalf("event %v, want %v", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no event, want %v", want)
		}
	}
	next(pb.DomainState_DOMAIN_STATE_STOPPED)
	if _, err := h.EnsureDomain(ctx, domainRequest("vm-a", "disk-a", 2, 64, pb.Power_POWER_RUNNING)); err != nil {
		t.Fatal(err)
	}
	next(pb.DomainState_DOMAIN_STATE_RUNNING)
	if !c.guestOff("vm-a") {
		t.Fatal("the guest does not run")
	}
	next(pb.DomainState_DOMAIN_STATE_STOPPED)
	c.Down(c.IDs()[0])
	if err := <-ended; !errors.Is(err, hostlink.ErrUnavailable) {
		t.Errorf("the stream of a dead host ended with %v", err)
	}
	if _, err := h.List(ctx, &pb.ListRequest{}); !errors.Is(err, hostlink.ErrUnavailable) {
		t.Errorf("a dead host answered: %v", err)
	}
}

func TestStateSurvivesAKilledController(t *testing.T) {
	dir := t.TempDir()
	c := cloud(t, Options{Dir: dir})
	h := link(t, c, 1)
	ctx := context.Background()
	ensureVolume(t, h, "disk-a", 3)
	ensureVolume(t, h, "disk-b", 1)
	if _, err := h.EnsureDomain(ctx, domainRequest("vm-a", "disk-a", 7, 64, pb.Power_POWER_RUNNING)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.RemoveVolume(ctx, &pb.RemoveVolumeRequest{Fence: &pb.Fence{Epoch: 2}, Id: "disk-b"}); err != nil {
		t.Fatal(err)
	}
	before, err := h.List(ctx, &pb.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if msg := c.apply(control{AdvanceClock: 3600}); msg != "" {
		t.Fatal(msg)
	}
	// A kill may cut the last line off.
	f, err := os.OpenFile(filepath.Join(dir, "hosts.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"h":"host-sim0000000`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for range 2 { // the second time after the cut line lies in the middle
		k := clock.New()
		c2 := cloud(t, Options{Dir: dir, Clock: k})
		h2 := link(t, c2, 1)
		after, err := h2.List(ctx, &pb.ListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if before.String() != after.String() || len(after.Domains) != 1 || len(after.Volumes) != 1 {
			t.Errorf("before %v\nafter %v", before, after)
		}
		if _, err := h2.EnsureDomain(ctx, domainRequest("vm-a", "disk-a", 8, 64, pb.Power_POWER_OFF)); !errors.Is(err, hostlink.ErrFenced) {
			t.Errorf("the epoch was forgotten: %v", err)
		}
		if k.Offset() != time.Hour {
			t.Errorf("the clock stands at +%v, want +1h", k.Offset())
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "hosts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("$6$")) {
		t.Error("a password's hash is in the file")
	}
}

func TestControl(t *testing.T) {
	k := clock.New()
	var down []bool
	changed := make(chan bool, 4)
	c := cloud(t, Options{Clock: k, DatabaseDown: func(d bool) { changed <- d }})
	post := func(body, from string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/simulate", strings.NewReader(body))
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		return w
	}
	if w := post(`{"AdvanceClock":1}`, "192.0.2.7:1"); w.Code != http.StatusForbidden || k.Offset() != 0 {
		t.Errorf("from elsewhere: %d, clock +%v", w.Code, k.Offset())
	}
	for _, bad := range []string{
		``, `[]`, `{"AdvanceClock":-1}`, `{"Nonsense":1}`, `{"HostDown":"host-x"}`, `{"FailNext":{"Call":"Nonsense","Count":1}}`,
		`{"FailNext":{"Call":"EnsureDomain"}}`, `{"Delay":{"Call":"EnsureDomain","Milliseconds":-1}}`, `{"DatabaseDown":-1}`, `{"GuestOff":"vm-x"}`,
		`{"AdvanceClock":99999999999999}`,
	} {
		if w := post(bad, "127.0.0.1:1"); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
	host := c.IDs()[1]
	ok := `{"AdvanceClock":60,"HostDown":"` + c.IDs()[0] + `","FailNext":{"Call":"EnsureVolume","Count":1,"Host":"` + host + `"},"Delay":{"Call":"List","Milliseconds":1},"DatabaseDown":1}`
	if w := post(ok, "[::1]:1"); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var s status
	r := httptest.NewRequest(http.MethodGet, "/simulate", nil)
	r.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Hosts[0].Up || !s.Hosts[1].Up || len(s.FailNext) != 1 || s.Delay["List"] != 1 || k.Offset() != time.Minute {
		t.Errorf("status %+v, clock +%v", s, k.Offset())
	}
	h := link(t, c, 1)
	ctx := context.Background()
	v := &pb.EnsureVolumeRequest{Fence: &pb.Fence{Epoch: 1}, Spec: &pb.VolumeSpec{Id: "disk-a", SizeBytes: 512}}
	if _, err := h.EnsureVolume(ctx, v); err == nil {
		t.Error("the call that was to fail did not")
	}
	if _, err := h.EnsureVolume(ctx, v); err != nil {
		t.Errorf("the call after it: %v", err)
	}
	for len(down) < 2 {
		select {
		case d := <-changed:
			down = append(down, d)
		case <-time.After(20 * time.Second):
			t.Fatalf("the database was switched %v", down)
		}
	}
	if !down[0] || down[1] {
		t.Errorf("the database was switched %v", down)
	}
	if w := post(`{"HostUp":"`+c.IDs()[0]+`"}`, "127.0.0.1:1"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"Up":true`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
