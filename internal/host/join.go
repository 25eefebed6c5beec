package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	"github.com/lingyun-cloud/lingyun/internal/pki"
)

// Agent is what agent.json says of this machine.
type Agent struct {
	HostID     string
	Name       string
	Address    string // host:port where controllers reach the agent
	Controller string // where it joined
	Region     string
	ComputeSet string
	Southbound string // OVN's, as ovn-remote
	// What the operator says of this machine's part in OVN; empty: as Open vSwitch's database has it.
	EncapIP  string            `json:",omitempty"`
	Datapath string            `json:",omitempty"`
	Networks map[string]string `json:",omitempty"` // bridge, by provider network
	VirtType string            `json:",omitempty"` // kvm, qemu; empty: probed
}

// Chassis is the host's part in OVN with the files of its certificate, which ovn-controller uses too.
func (a Agent) Chassis(dir string) Chassis {
	c := Chassis{ID: a.HostID, Southbound: a.Southbound, EncapIP: a.EncapIP, Datapath: a.Datapath, Mappings: a.Networks}
	if strings.Contains(a.Southbound, "ssl:") {
		c.Key, c.Certificate, c.CA = filepath.Join(dir, fileKey), filepath.Join(dir, fileCertificate), filepath.Join(dir, fileCA)
	}
	return c
}

// JoinOptions say whom to join.
type JoinOptions struct {
	Dir        string // data directory of the agent
	Token      string // from the controller
	Controller string // https://ADDRESS[:PORT]; http only to a loopback address
	Name       string // empty: the machine's host name
	Address    string // host:port where controllers reach the agent
	// Beside these, agent.json keeps what Agent says of them.
	EncapIP  string
	Datapath string
	Networks map[string]string
	VirtType string
}

// Join makes this machine a host of a cloud: it makes a key, has its
// certificate signed and writes both, mode 0600, with agent.json. The controller
// must show the authority that the token names before it hears the token. A machine that has joined
// already is refused.
func Join(ctx context.Context, o JoinOptions) (Agent, error) {
	token, err := pki.ParseToken(o.Token)
	if err != nil {
		return Agent{}, err
	}
	if _, err := os.Stat(filepath.Join(o.Dir, fileAgent)); err == nil {
		return Agent{}, fmt.Errorf("host: this machine has joined already (%s)", filepath.Join(o.Dir, fileAgent))
	}
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return Agent{}, fmt.Errorf("host: the agent's address: %w", err)
	}
	if o.Name == "" {
		if o.Name, err = os.Hostname(); err != nil {
			return Agent{}, err
		}
	}
	client, target, err := joinClient(o.Controller, token)
	if err != nil {
		return Agent{}, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Agent{}, err
	}
	o.Dir = dir
	// What Open vSwitch is told after joining is refused before it.
	check := Agent{HostID: "host", EncapIP: o.EncapIP, Datapath: o.Datapath, Networks: o.Networks}
	if _, err := check.Chassis(o.Dir).arguments(); err != nil {
		return Agent{}, err
	}
	csr, key, err := pki.NewRequest(o.Name)
	if err != nil {
		return Agent{}, err
	}
	body, err := json.Marshal(hostlink.JoinRequest{Token: o.Token, Name: o.Name, Address: o.Address, CSR: string(csr)})
	if err != nil {
		return Agent{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return Agent{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return Agent{}, fmt.Errorf("host: join: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return Agent{}, fmt.Errorf("host: join: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		var refusal hostlink.JoinRefusal
		if json.Unmarshal(text, &refusal) != nil || refusal.Message == "" {
			refusal.Message = response.Status
		}
		return Agent{}, fmt.Errorf("host: the controller refuses: %s", refusal.Message)
	}
	var answer hostlink.JoinResponse
	if err := json.Unmarshal(text, &answer); err != nil {
		return Agent{}, fmt.Errorf("host: join: %w", err)
	}
	ca, err := pki.ParseCertificate([]byte(answer.CA))
	if err != nil {
		return Agent{}, err
	}
	if sha256.Sum256(ca.Raw) != token.Fingerprint {
		return Agent{}, errors.New("host: join: the answer's authority is not the one that the token names")
	}
	if err := checkIdentity([]byte(answer.Certificate), key, []byte(answer.CA), answer.HostID); err != nil {
		return Agent{}, err
	}
	agent := Agent{
		HostID: answer.HostID, Name: o.Name, Address: o.Address, Controller: o.Controller,
		Region: answer.Region, ComputeSet: answer.ComputeSet, Southbound: answer.OVN.Southbound,
		EncapIP: o.EncapIP, Datapath: o.Datapath, Networks: o.Networks, VirtType: o.VirtType,
	}
	description, err := json.MarshalIndent(agent, "", "  ")
	if err != nil {
		return Agent{}, err
	}
	if err := os.MkdirAll(o.Dir, 0o711); err != nil {
		return Agent{}, err
	}
	// agent.json last: with it the machine has joined.
	for _, f := range []struct {
		name    string
		content []byte
	}{{fileKey, key}, {fileCertificate, []byte(answer.Certificate)}, {fileCA, []byte(answer.CA)}, {fileAgent, append(description, '\n')}} {
		if err := writeFile(filepath.Join(o.Dir, f.name), f.content, 0o600); err != nil {
			return Agent{}, err
		}
	}
	return agent, nil
}

// joinClient is an HTTP client that talks to the controller that the token names, and no other.
func joinClient(controller string, token pki.Token) (*http.Client, string, error) {
	u, err := url.Parse(controller)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, "", fmt.Errorf("host: %q is no controller's address (https://ADDRESS)", controller)
	}
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the controller sends the token elsewhere")
		},
	}
	switch u.Scheme {
	case "https":
		client.Transport = &http.Transport{TLSClientConfig: pki.JoinTLS(token.Fingerprint, u.Hostname())}
	case "http":
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, "", errors.New("host: http is for loopback addresses only: use https")
		}
		client.Transport = &http.Transport{}
	default:
		return nil, "", fmt.Errorf("host: %q is no controller's address (https://ADDRESS)", controller)
	}
	u.Path = hostlink.JoinPath
	return client, u.String(), nil
}

// ReadAgent reads agent.json of a data directory.
func ReadAgent(dir string) (Agent, error) {
	b, err := os.ReadFile(filepath.Join(dir, fileAgent))
	if errors.Is(err, os.ErrNotExist) {
		return Agent{}, fmt.Errorf("host: this machine has not joined a cloud (%s is missing)", filepath.Join(dir, fileAgent))
	}
	if err != nil {
		return Agent{}, err
	}
	var a Agent
	if err := json.Unmarshal(b, &a); err != nil {
		return Agent{}, fmt.Errorf("host: %s: %w", fileAgent, err)
	}
	return a, nil
}
