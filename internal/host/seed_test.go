package host

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

func TestSeedFiles(t *testing.T) {
	files, err := seedFiles(sample().Seed, sample().Nics, true)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range []string{"meta-data", "user-data", "network-config"} {
		all.WriteString("=== " + name + "\n" + string(files[name]))
	}
	golden(t, "seed.txt", all.String())

	bare, err := seedFiles(sample().Seed, sample().Nics, false)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(bare["user-data"], []byte("$6$")) || !bytes.Contains(bare["user-data"], []byte("ssh-ed25519")) {
		t.Errorf("without the password:\n%s", bare["user-data"])
	}
}

// parts takes user data apart as cloud-init does: every leaf with its decoded content.
func parts(t *testing.T, userData []byte) (out [][2]string) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(userData))
	if err != nil {
		t.Fatal(err)
	}
	var walk func(contentType string, body io.Reader)
	walk = func(contentType string, body io.Reader) {
		_, params, err := mime.ParseMediaType(contentType)
		if err != nil {
			t.Fatal(err)
		}
		r := multipart.NewReader(body, params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
			if strings.HasPrefix(kind, "multipart/") {
				walk(p.Header.Get("Content-Type"), p)
				continue
			}
			b, err := io.ReadAll(p)
			if err != nil {
				t.Fatal(err)
			}
			if p.Header.Get("Content-Transfer-Encoding") == "base64" {
				if b, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(string(b), "\n", "")); err != nil {
					t.Fatal(err)
				}
			}
			out = append(out, [2]string{kind, string(b)})
		}
	}
	walk(m.Header.Get("Content-Type"), m.Body)
	return out
}

func TestTenantsUserData(t *testing.T) {
	archived := "Content-Type: multipart/mixed; boundary=\"THEIRS\"\nMIME-Version: 1.0\n\n--THEIRS\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho inner\n--THEIRS--\n"
	for name, c := range map[string]struct {
		given, want string
		kind        string
	}{
		"a script":                 {"#!/bin/sh\necho hello\n", "#!/bin/sh\necho hello\n", "application/octet-stream"},
		"bytes":                    {"\x1f\x8b\x00\xff\n--==lingyun-seed==--\n", "\x1f\x8b\x00\xff\n--==lingyun-seed==--\n", "application/octet-stream"},
		"a MIME archive":           {archived, "#!/bin/sh\necho inner", "text/x-shellscript"},
		"an archive that ends us":  {strings.Replace(archived, "echo inner", "--==lingyun-seed==--", 1), strings.Replace(archived, "echo inner", "--==lingyun-seed==--", 1), "application/octet-stream"},
		"what looks like headers":  {"MIME-Version: 1.0\nnonsense", "MIME-Version: 1.0\nnonsense", "application/octet-stream"},
		"all that is allowed":      {strings.Repeat("#!/bin/sh 123456\n", hostlink.MaxUserData/17), strings.Repeat("#!/bin/sh 123456\n", hostlink.MaxUserData/17), "application/octet-stream"},
		"a long line without ends": {strings.Repeat("x", 5000), strings.Repeat("x", 5000), "application/octet-stream"},
	} {
		seed := sample().Seed
		seed.UserData = []byte(c.given)
		if err := checkSeed(seed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		files, err := seedFiles(seed, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		got := parts(t, files["user-data"])
		if len(got) != 2 || got[0][0] != "text/cloud-config" || !strings.HasPrefix(got[0][1], "#cloud-config\nhostname: web-1\n") {
			t.Errorf("%s: ours came as %q", name, got)
			continue
		}
		if got[1][0] != c.kind || got[1][1] != c.want {
			t.Errorf("%s came as %q", name, got[1])
		}
	}
}

// The disk is what a guest's kernel mounts: label, names and content.
func TestSeedDisk(t *testing.T) {
	h := &Host{conf: Config{Dir: t.TempDir()}}
	if err := os.Mkdir(filepath.Join(h.conf.Dir, "seeds"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := sample()
	if err := h.writeSeeds(spec, true); err != nil {
		t.Fatal(err)
	}
	for path, withPassword := range map[string]bool{h.seedPath(spec.Id): true, h.bareSeedPath(spec.Id): false} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o400 {
			t.Fatalf("%v %v", info, err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if label := strings.TrimRight(string(b[32808:32840]), " \x00"); label != seedLabel {
			t.Errorf("the label is %q", label)
		}
		image, err := iso9660.OpenImage(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		root, err := image.RootDir()
		if err != nil {
			t.Fatal(err)
		}
		children, err := root.GetChildren()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, c := range children {
			text, err := io.ReadAll(c.Reader())
			if err != nil {
				t.Fatal(err)
			}
			found[c.Name()] = string(text)
		}
		if len(found) != 3 || found["meta-data"] != "instance-id: vm-abcdefghijklmn\nlocal-hostname: web-1\n" || found["network-config"] == "" ||
			strings.Contains(found["user-data"], "$6$") != withPassword {
			t.Errorf("%s holds %q", filepath.Base(path), found)
		}
	}
	spec.Seed = &pb.Seed{InstanceId: spec.Id, Hostname: "b"}
	if err := h.writeSeeds(spec, true); err != nil {
		t.Fatal(err)
	}
	if err := h.removeSeed(spec.Id); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(h.conf.Dir, "seeds")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
