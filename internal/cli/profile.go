package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Profile says where a cloud is and with which key to sign. It is the form of DIR/demo.json and
// DIR/admin.json, which the controller writes on its first start.
type Profile struct {
	Endpoint   string
	Region     string
	Email      string `json:",omitempty"`
	Password   string `json:",omitempty"`
	PublicKey  string `json:",omitempty"`
	PrivateKey string `json:",omitempty"`
	// Token is of a session, in place of a key.
	Token string `json:",omitempty"`
}

// demoFile is what the trial on this machine leaves for its demo tenant.
const demoFile = "/var/lib/lingyun/demo.json"

// profileEnv names a profile, or the path of a file, for commands without --profile.
const profileEnv = "LINGYUN_PROFILE"

var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// profilePath is the file of a profile: a path stays what it is, a name is looked up in the
// user's configuration folder.
func profilePath(name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return name, nil
	}
	if !profileName.MatchString(name) {
		return "", fmt.Errorf("a profile's name has letters, digits, dots, hyphens and underscores, not %q", name)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "lingyun", name+".json"), nil
}

// LoadProfile finds the profile to use: the one named, else $LINGYUN_PROFILE, else "default" of
// the user's configuration folder, else the demo tenant of the cloud on this machine.
func LoadProfile(name string) (Profile, error) {
	if name == "" {
		name = os.Getenv(profileEnv)
	}
	if name != "" {
		path, err := profilePath(name)
		if err != nil {
			return Profile{}, err
		}
		return readProfile(path)
	}
	if path, err := profilePath("default"); err == nil {
		p, err := readProfile(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return p, err
		}
	}
	p, err := readProfile(demoFile)
	if errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("no profile: run `lingyun login --file demo.json`, or start a cloud here with `lingyun up`")
	}
	if errors.Is(err, fs.ErrPermission) {
		return p, fmt.Errorf("%s is for root only: run as root, or `sudo cat %s | lingyun login --file -`", demoFile, demoFile)
	}
	return p, err
}

func readProfile(path string) (Profile, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Profile{}, err
	}
	return parseProfile(raw, path)
}

func parseProfile(raw []byte, path string) (Profile, error) {
	var p Profile
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	u, err := url.Parse(p.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return p, fmt.Errorf("%s: Endpoint %q is no http or https address", path, p.Endpoint)
	}
	if p.Token == "" && (p.PublicKey == "" || p.PrivateKey == "") {
		return p, fmt.Errorf("%s lacks PublicKey or PrivateKey", path)
	}
	return p, nil
}

// saveProfile writes a profile for the user alone, whole or not at all. The password stays behind:
// calls are signed with the key.
func saveProfile(name string, p Profile) (string, error) {
	path, err := profilePath(name)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	p.Password = ""
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".profile-") // 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return path, os.Rename(f.Name(), path)
}
