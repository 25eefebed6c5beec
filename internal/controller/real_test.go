package controller_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	"github.com/lingyun-cloud/lingyun/internal/host"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/pki"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/simulate"
)

// northbound starts an empty OVN northbound database on a unix socket. It needs no root.
func northbound(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nb") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := func(name string) string { return filepath.Join(dir, name) }
	if out, err := exec.Command("ovsdb-tool", "create", path("nb.db"), "/usr/share/ovn/ovn-nb.ovsschema").CombinedOutput(); err != nil {
		t.Fatalf("ovsdb-tool: %v: %s", err, out)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, "ovsdb-server", "--remote=punix:"+path("nb.sock"), "--unixctl="+path("nb.ctl"), "--pidfile="+path("nb.pid"),
		"--log-file="+path("nb.log"), "-vconsole:off", path("nb.db"))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = server.Wait() // killed
	})
	controllertest.Eventually(t, 20*time.Second, "ovsdb-server listens", func() bool {
		_, err := os.Stat(path("nb.sock"))
		return err == nil
	})
	if out, err := exec.Command("ovn-nbctl", "--timeout=20", "--no-leader-only", "--db=unix:"+path("nb.sock"), "init").CombinedOutput(); err != nil {
		t.Fatalf("ovn-nbctl: %v: %s", err, out)
	}
	return "unix:" + path("nb.sock")
}

// joined is a simulated host that goes by the id it got at joining.
type joined struct {
	hostlink.Host
	id string
}

func (h joined) Health(ctx context.Context, q *pb.HealthRequest) (*pb.HealthResponse, error) {
	r, err := h.Host.Health(ctx, q)
	if r != nil {
		r.HostId = h.id
	}
	return r, err
}

// TestRealCloud starts a controller that simulates nothing: OVN's northbound database, and a host that
// joins by a token and is called over mutual TLS. Behind the link is a simulated host; real ones are
// in test/cloud.
func TestRealCloud(t *testing.T) {
	for _, program := range []string{"ovsdb-tool", "ovsdb-server", "ovn-nbctl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("the distribution's ovn-central and openvswitch-switch are needed: %v", err)
		}
	}
	dir := t.TempDir()
	c := controllertest.Start(t, controllertest.Options{Dir: dir, Configure: func(cfg *controller.Config) {
		cfg.Simulate, cfg.OVNNorthbound = 0, northbound(t)
		cfg.Management, cfg.OVNHosts = "127.0.0.1:0", "ssl:127.0.0.1:6642"
		cfg.Segment = controller.Segment{CIDR: netip.MustParsePrefix("203.0.113.0/24"), Network: "provider"}
	}})

	// What OVN's southbound database and clients need is there before the controller says it is ready.
	for _, name := range []string{"ca.crt", "ovn/ca.crt", "ovn/ovn.crt", "ovn/ovn.key"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "ovn/ovn.key")); err == nil && info.Mode().Perm() != 0o600 {
		t.Errorf("OVN's key has mode %v", info.Mode())
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "ovn/ovn.crt"), filepath.Join(dir, "ovn/ovn.key")); err != nil {
		t.Errorf("OVN's certificate: %v", err)
	}
	if status, _ := get(t, c, "/simulate"); status != http.StatusNotFound {
		t.Errorf("a real cloud answers /simulate with %d", status)
	}
	c.Demo.Refuse(t, retcode.AdminOnly, "CreateHostJoinToken", nil)
	c.Admin.Refuse(t, retcode.SetNotFound, "CreateHostJoinToken", P{"SetID": "set-99"})
	c.Admin.Refuse(t, retcode.InvalidParameter, "CreateHostJoinToken", P{"TTL": 59})
	c.Admin.Refuse(t, retcode.InvalidParameter, "CreateHostJoinToken", P{"Name": "../x"})

	issued := c.Admin.Must(t, "CreateHostJoinToken", P{"Name": "one"})
	token := issued.String("Token")
	command := strings.Fields(issued.String("JoinCommand"))
	if issued.String("TokenID") == "" || issued.Int("ExpireTime") == 0 || len(command) != 6 || command[3] != token || !strings.HasPrefix(command[5], "https://127.0.0.1:") {
		t.Fatalf("token: %v", issued.Body)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	agentDir := t.TempDir()
	agent, err := host.Join(t.Context(), host.JoinOptions{Dir: agentDir, Token: token, Controller: command[5], Name: "one", Address: listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Join(t.Context(), host.JoinOptions{Dir: t.TempDir(), Token: token, Controller: command[5], Name: "two", Address: listener.Addr().String()}); err == nil {
		t.Error("a used token lets another host in")
	}
	keeper, err := host.OpenKeeper(agentDir)
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := simulate.New(simulate.Options{Hosts: 1, Networks: []string{"provider"}})
	if err != nil {
		t.Fatal(err)
	}
	defer hosts.Close()
	bare, err := hosts.Dial(hosts.IDs()[0], "")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: hostlink.NewHandler(joined{bare, agent.HostID}), TLSConfig: pki.AgentTLS(keeper), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	defer func() {
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()

	c.Clock.Advance(4 * time.Second)
	controllertest.Eventually(t, 30*time.Second, "the host tells its size", func() bool {
		f, err := c.Fleet.Capacity(t.Context(), "cn")
		return err == nil && f.CPUs == 64
	})
	if h, ok := c.Fleet.HostInfo(agent.HostID); !ok || h.State != fleet.Available || h.Name != "one" || len(h.Networks) != 1 {
		t.Errorf("host %+v", h)
	}
	if got := c.Fleet.GatewayChassis("cn", "provider"); len(got) != 1 {
		t.Errorf("gateways %v", got)
	}
	if _, err := c.Fleet.Host(agent.HostID).EnsureVolume(t.Context(), &pb.EnsureVolumeRequest{Fence: &pb.Fence{Generation: 1},
		Spec: &pb.VolumeSpec{Id: "disk-1", SizeBytes: 1 << 30}}); err != nil {
		t.Errorf("a call over the link: %v", err)
	}
	if _, err := c.Fleet.Host(agent.HostID).EnsureVolume(t.Context(), &pb.EnsureVolumeRequest{Fence: &pb.Fence{Generation: 1},
		Spec: &pb.VolumeSpec{Id: "disk-2", SizeBytes: 1 << 30, ImageDigest: "none"}}); !errors.Is(err, hostlink.ErrNotFound) {
		t.Errorf("a host's refusal arrives as %v", err)
	}
	digest, _, err := c.Fleet.StoreImage(t.Context(), strings.NewReader("an image"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Fleet.EnsureImage(t.Context(), agent.HostID, digest); err != nil {
		t.Errorf("an image over the link: %v", err)
	}

	// An agent that is gone is declared down.
	server.Close()
	c.Clock.Advance(31 * time.Second)
	controllertest.Eventually(t, 30*time.Second, "the host is down", func() bool {
		h, _ := c.Fleet.HostInfo(agent.HostID)
		return h.State == fleet.Down
	})
	if got := c.Fleet.GatewayChassis("cn", "provider"); len(got) != 0 {
		t.Errorf("gateways with the only host down: %v", got)
	}
}
