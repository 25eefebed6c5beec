package trial

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lingyun-cloud/lingyun/internal/cli"
)

// Ports in the trial's management network.
const (
	joinPort       = 8443
	southboundPort = 6642
	agentPort      = 8444
)

// startCloud starts the controller, lets the hosts join and starts their agents.
func (s *supervisor) startCloud(ctx context.Context) error {
	s.say("starting the controller on http://%s", s.o.Listen)
	if err := s.startController(ctx); err != nil {
		return err
	}
	if err := s.openSouthbound(ctx); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for n := 1; n <= s.o.Hosts; n++ {
		h := host{s.o, n}
		group.Go(func() error {
			if err := s.join(groupCtx, h); err != nil {
				return err
			}
			return s.startAll(groupCtx, []*daemon{h.agent()})
		})
	}
	return group.Wait()
}

// startController starts the controller in the management namespace. The API's
// socket is made here, in the machine's own namespace, and stays in it wherever
// the program that holds it runs; it also outlives the controller.
func (s *supervisor) startController(ctx context.Context) error {
	listener, err := net.Listen("tcp", s.o.Listen)
	if err != nil {
		return fmt.Errorf("trial: the API cannot listen on %s: %w", s.o.Listen, err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	listen := listener.Addr().String()
	segment := []string{"--segment", s.o.Segment.String(), "--segment-network", ProviderNetwork}
	if m := s.o.Machine; m != nil {
		segment = append(segment, "--segment-gateway", m.Gateway.String(), "--segment-range", m.First.String()+"-"+m.Last.String())
	}
	return s.startAll(ctx, []*daemon{{
		name: "controller",
		argv: append([]string{s.o.Binary, "server", "--data", s.o.Dir, "--listen", listen, "--listen-fd", "3",
			"--management", net.JoinHostPort(s.o.controllerAddress().String(), strconv.Itoa(joinPort)),
			"--ovn-northbound", s.o.Northbound(), "--ovn-southbound", s.o.Southbound(),
			"--ovn-hosts", fmt.Sprintf("ssl:%s:%d", s.o.controllerAddress(), southboundPort)}, segment...),
		files: []*os.File{file},
		ready: func(ctx context.Context, _ *supervisor) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/readyz", nil)
			if err != nil {
				return err
			}
			client := http.Client{Timeout: 2 * time.Second}
			response, err := client.Do(request)
			if err != nil {
				return err
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("/readyz answers %s", response.Status)
			}
			return nil
		},
	}})
}

// openSouthbound lets hosts reach the southbound database, over TLS with the
// cloud's own authority, each with the rights of a chassis only.
func (s *supervisor) openSouthbound(ctx context.Context) error {
	dir := filepath.Join(s.o.Dir, "ovn")
	sbctl := func(args ...string) error {
		_, err := s.exec(ctx, place{}, append([]string{"ovn-sbctl", "--timeout=20", "--no-leader-only", "--db=" + s.o.Southbound()}, args...)...)
		return err
	}
	if err := sbctl("set-ssl", filepath.Join(dir, "ovn.key"), filepath.Join(dir, "ovn.crt"), filepath.Join(dir, "ca.crt")); err != nil {
		return err
	}
	return sbctl("set-connection", "role=ovn-controller", fmt.Sprintf("pssl:%d:%s", southboundPort, s.o.controllerAddress()))
}

// join makes a host one of the cloud's, as an operator does: a token from the
// administrator, then the agent's own command. A host that has joined stays joined.
func (s *supervisor) join(ctx context.Context, h host) error {
	if _, err := os.Stat(filepath.Join(h.agentDir(), "agent.json")); err == nil {
		return nil
	}
	s.say("%s joins", h.name())
	admin, err := s.o.Admin()
	if err != nil {
		return err
	}
	var answer struct{ Token string }
	if _, err := admin.Call(ctx, "CreateHostJoinToken", cli.Params{"Name": h.hostName()}, &answer); err != nil {
		return err
	}
	management, overlay, datapath := HostAddress(h.n), address(overlayNetwork, 10+h.n).Addr(), "netdev"
	if m := s.o.Machine; m != nil {
		management, overlay, datapath = m.Management, m.Management, s.state.Taken.Datapath
	}
	_, err = s.exec(ctx, h.place(s), s.o.Binary, "agent", "join", "--data", h.agentDir(),
		"--controller", fmt.Sprintf("https://%s:%d", s.o.controllerAddress(), joinPort),
		"--listen", fmt.Sprintf("%s:%d", management, agentPort),
		"--name", h.hostName(), "--token", answer.Token, "--virt-type", s.o.VirtType,
		"--overlay-ip", overlay.String(), "--datapath", datapath, "--network", ProviderNetwork+":"+providerBridge)
	return err
}

// hostName is the host's name in the cloud: the machine's own, when it is the machine.
func (h host) hostName() string {
	if h.o.Machine != nil {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	return h.o.namespace(h.name())
}

func (h host) agent() *daemon {
	return &daemon{name: h.name() + "/agent", host: h.name(), argv: []string{h.o.Binary, "agent", "--data", h.agentDir()}}
}
