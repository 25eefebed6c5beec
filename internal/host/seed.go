package host

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/kdomanski/iso9660"
	"gopkg.in/yaml.v3"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// A seed is a NoCloud disk (ISO 9660, label cidata) with meta-data, user-data and network-config. Its
// user data is our own cloud-config alone, or a MIME archive of it (unencoded, first) and the
// tenant's own (base64).
const seedLabel = "cidata"

var (
	validHostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)
	validUser     = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	// SHA-512 crypt, as crypt(5) has it.
	validHash   = regexp.MustCompile(`^\$6\$(rounds=[0-9]{4,9}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}$`)
	validDevice = regexp.MustCompile(`^/dev/[a-z0-9/_-]{1,60}$`)
)

func checkSeed(s *pb.Seed) error {
	if s == nil {
		return nil
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", hostlink.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if err := checkID("instance", s.InstanceId); err != nil {
		return err
	}
	if !validHostname.MatchString(s.Hostname) {
		return bad("host name %q", s.Hostname)
	}
	if s.LoginUser != "" && !validUser.MatchString(s.LoginUser) {
		return bad("login user %q", s.LoginUser)
	}
	if s.HashedPassword != "" && !validHash.MatchString(s.HashedPassword) {
		return bad("the password is no SHA-512 crypt") // never shown
	}
	for _, key := range s.SshKeys {
		if len(key) > 16<<10 || strings.ContainsAny(key, "\r\n\x00") {
			return bad("an SSH key of more than one line")
		}
	}
	if len(s.UserData) > hostlink.MaxUserData {
		return bad("user data of %d bytes", len(s.UserData))
	}
	if s.MountData != "" && !validDevice.MatchString(s.MountData) {
		return bad("device %q", s.MountData)
	}
	if s.NetworkConfig != "" {
		var any map[string]any
		if err := yaml.Unmarshal([]byte(s.NetworkConfig), &any); err != nil {
			return bad("network configuration: %v", err)
		}
	}
	return nil
}

type cloudConfig struct {
	Hostname         string     `yaml:"hostname"`
	PreserveHostname bool       `yaml:"preserve_hostname"`
	ManageEtcHosts   bool       `yaml:"manage_etc_hosts"`
	DisableRoot      bool       `yaml:"disable_root"`
	SSHPasswordAuth  bool       `yaml:"ssh_pwauth"`
	Users            []user     `yaml:"users,omitempty"`
	FSSetup          []fsSetup  `yaml:"fs_setup,omitempty"`
	Mounts           [][]string `yaml:"mounts,omitempty"`
}

type user struct {
	Name              string   `yaml:"name"`
	LockPassword      bool     `yaml:"lock_passwd"`
	HashedPassword    string   `yaml:"hashed_passwd,omitempty"`
	SSHAuthorizedKeys []string `yaml:"ssh_authorized_keys,omitempty"`
	Shell             string   `yaml:"shell,omitempty"`
	Sudo              string   `yaml:"sudo,omitempty"`
}

type fsSetup struct {
	Label      string `yaml:"label"`
	Filesystem string `yaml:"filesystem"`
	Device     string `yaml:"device"`
	Overwrite  bool   `yaml:"overwrite"`
}

type networkConfig struct {
	Version   int                 `yaml:"version"`
	Ethernets map[string]ethernet `yaml:"ethernets"`
}

type ethernet struct {
	Match   map[string]string `yaml:"match"`
	SetName string            `yaml:"set-name"`
	DHCP4   bool              `yaml:"dhcp4"`
	MTU     uint32            `yaml:"mtu,omitempty"`
}

// seedFiles makes a seed's files, by name. withPassword tells whether the
// password's hash is among them: the guest needs it once.
func seedFiles(s *pb.Seed, nics []*pb.DomainNIC, withPassword bool) (map[string][]byte, error) {
	config := cloudConfig{Hostname: s.Hostname, ManageEtcHosts: true, SSHPasswordAuth: s.HashedPassword != ""}
	if s.LoginUser != "" {
		u := user{Name: s.LoginUser, LockPassword: s.HashedPassword == "", SSHAuthorizedKeys: s.SshKeys}
		if withPassword {
			u.HashedPassword = s.HashedPassword
		}
		if s.LoginUser != "root" {
			u.Shell = "/bin/bash"
			u.Sudo = "ALL=(ALL) NOPASSWD:ALL"
		}
		config.Users = []user{u}
	}
	if s.MountData != "" {
		config.FSSetup = []fsSetup{{Label: "data", Filesystem: "ext4", Device: s.MountData}}
		config.Mounts = [][]string{{s.MountData, "/data", "auto", "defaults,nofail", "0", "2"}}
	}
	own, err := yaml.Marshal(config)
	if err != nil {
		return nil, err
	}
	own = append([]byte("#cloud-config\n"), own...)
	userData := own
	if len(s.UserData) > 0 {
		if userData, err = archive(own, s.UserData); err != nil {
			return nil, err
		}
	}
	meta, err := yaml.Marshal(struct {
		InstanceID string `yaml:"instance-id"`
		Hostname   string `yaml:"local-hostname"`
	}{s.InstanceId, s.Hostname})
	if err != nil {
		return nil, err
	}
	network := []byte(s.NetworkConfig)
	if len(network) == 0 && len(nics) > 0 {
		conf := networkConfig{Version: 2, Ethernets: map[string]ethernet{}}
		for i, n := range nics {
			name := "eth" + strconv.Itoa(i)
			conf.Ethernets[name] = ethernet{Match: map[string]string{"macaddress": strings.ToLower(n.Mac)}, SetName: name, DHCP4: true}
		}
		if network, err = yaml.Marshal(conf); err != nil {
			return nil, err
		}
	}
	files := map[string][]byte{"user-data": userData, "meta-data": meta}
	if len(network) > 0 {
		files["network-config"] = network
	}
	return files, nil
}

// archive joins our cloud-config and the tenant's user data. What the tenant gives is of any kind that
// cloud-init knows: it tells by the first line. A MIME archive of the tenant's goes in as one.
func archive(own, tenants []byte) ([]byte, error) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	// Equal seeds are equal to the byte; base64 keeps the boundary out of the tenant's part.
	if err := w.SetBoundary("==lingyun-seed=="); err != nil {
		return nil, err
	}
	part, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Type": {`text/cloud-config; charset="utf-8"`}, "Mime-Version": {"1.0"}, "Content-Transfer-Encoding": {"8bit"},
	})
	if err != nil {
		return nil, err
	}
	if _, err := part.Write(own); err != nil {
		return nil, err
	}
	header := textproto.MIMEHeader{"Content-Type": {"application/octet-stream"}, "Mime-Version": {"1.0"}, "Content-Transfer-Encoding": {"base64"}}
	content := []byte(encodeLines(tenants))
	if inner, boundary, ok := mimeArchive(tenants); ok && !bytes.Contains(inner, []byte("==lingyun-seed==")) {
		header = textproto.MIMEHeader{"Content-Type": {mime.FormatMediaType("multipart/mixed", map[string]string{"boundary": boundary})}, "Mime-Version": {"1.0"}}
		content = inner
	}
	if part, err = w.CreatePart(header); err != nil {
		return nil, err
	}
	if _, err := part.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	head := "Content-Type: multipart/mixed; boundary=\"==lingyun-seed==\"\nMIME-Version: 1.0\n\n"
	return append([]byte(head), bytes.ReplaceAll(body.Bytes(), []byte("\r\n"), []byte("\n"))...), nil
}

// mimeArchive takes a MIME archive apart into its body and boundary.
func mimeArchive(b []byte) (body []byte, boundary string, ok bool) {
	lower := bytes.ToLower(b[:min(len(b), 64)])
	if !bytes.HasPrefix(lower, []byte("content-type: multipart/")) && !bytes.HasPrefix(lower, []byte("mime-version:")) {
		return nil, "", false
	}
	m, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		return nil, "", false
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") || params["boundary"] == "" {
		return nil, "", false
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(m.Body); err != nil {
		return nil, "", false
	}
	return buf.Bytes(), params["boundary"], true
}

func encodeLines(b []byte) string {
	text := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(text) > 76 {
		out.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	out.WriteString(text + "\n")
	return out.String()
}

// writeSeeds makes the seed's disk, and beside it the one without the password
// that takes its place once the guest is up.
func (h *Host) writeSeeds(spec *pb.DomainSpec, withPassword bool) error {
	withPassword = withPassword && spec.Seed.HashedPassword != ""
	bare, err := seedImage(spec.Seed, spec.Nics, false)
	if err != nil {
		return err
	}
	if !withPassword {
		return writeFile(h.seedPath(spec.Id), bare, 0o400)
	}
	full, err := seedImage(spec.Seed, spec.Nics, true)
	if err != nil {
		return err
	}
	if err := writeFile(h.bareSeedPath(spec.Id), bare, 0o400); err != nil {
		return err
	}
	return writeFile(h.seedPath(spec.Id), full, 0o400)
}

func seedImage(s *pb.Seed, nics []*pb.DomainNIC, withPassword bool) ([]byte, error) {
	files, err := seedFiles(s, nics, withPassword)
	if err != nil {
		return nil, err
	}
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, spaceError(err)
	}
	defer w.Cleanup()
	for _, name := range []string{"meta-data", "user-data", "network-config"} {
		if content, ok := files[name]; ok {
			if err := w.AddFile(bytes.NewReader(content), name); err != nil {
				return nil, spaceError(err)
			}
		}
	}
	var image bytes.Buffer
	if err := w.WriteTo(&image, seedLabel); err != nil {
		return nil, spaceError(err)
	}
	return image.Bytes(), nil
}

func (h *Host) removeSeed(id string) error {
	for _, path := range []string{h.seedPath(id), h.bareSeedPath(id)} {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("host: %w", err)
		}
	}
	return nil
}
