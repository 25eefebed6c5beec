// Package guest builds the disk images that a cloud starts with, from the
// distribution's packages, without mounts, loop devices or network beyond the
// package archive: "tiny", which boots in seconds even without KVM and which
// the tests use, and "debian", a real Debian 12 for people.
package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options of a build.
type Options struct {
	Cache string    // directory for downloaded packages and finished images; made when absent
	Log   io.Writer // one line a step; nil: nothing is said
}

// Image is a finished disk image.
type Image struct {
	Name   string // tiny, debian
	Path   string // qcow2 file in the cache; not to be changed
	Digest string // lower-case hex SHA-256 of the file
	Size   int64  // bytes of the file
}

// Images are the names Build knows.
var Images = []string{"tiny", "debian"}

// Build makes the image of that name, or answers the cached one when its inputs
// (packages, files, recipe) are the same as before.
func Build(ctx context.Context, name string, o Options) (Image, error) {
	switch name {
	case "tiny":
		return Tiny(ctx, o)
	case "debian":
		return Debian(ctx, o)
	}
	return Image{}, fmt.Errorf("guest: there is no image %q; known are %s", name, strings.Join(Images, ", "))
}

// kernelPackage is the meta package whose dependency is the newest cloud kernel.
const kernelPackage = "linux-image-cloud-amd64"

func (o Options) say(format string, args ...any) {
	if o.Log != nil {
		fmt.Fprintf(o.Log, format+"\n", args...)
	}
}

// run executes a program with an argument list, in dir, with a fixed
// environment, and puts the end of its output into the error.
func run(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root", "DEBIAN_FRONTEND=noninteractive",
		// Honoured by mtools, mke2fs and others: equal inputs give equal files.
		"SOURCE_DATE_EPOCH=1700000000", "E2FSPROGS_FAKE_TIME=1700000000", "MTOOLS_SKIP_CHECK=1", "TZ=UTC",
	}
	cmd.WaitDelay = 5 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("guest: %s is not installed", program)
		}
		text := strings.TrimSpace(stderr.String())
		if len(text) > 600 {
			text = "…" + text[len(text)-600:]
		}
		return nil, fmt.Errorf("guest: %s: %w: %s", filepath.Base(program), err, text)
	}
	return out, nil
}

// kernelDeb downloads the newest cloud kernel's package into the cache, once,
// and answers the file's path.
func kernelDeb(ctx context.Context, o Options) (string, error) {
	shown, err := run(ctx, "", "apt-cache", "show", "--no-all-versions", kernelPackage)
	if err != nil {
		return "", fmt.Errorf("%w (run apt-get update?)", err)
	}
	var real string
	for _, line := range strings.Split(string(shown), "\n") {
		if rest, ok := strings.CutPrefix(line, "Depends: "); ok {
			real, _, _ = strings.Cut(rest, " ")
			break
		}
	}
	if !strings.HasPrefix(real, "linux-image-") {
		return "", fmt.Errorf("guest: package %s depends on no kernel", kernelPackage)
	}
	return download(ctx, o, real)
}

// download fetches a package's file from the archive into the cache.
func download(ctx context.Context, o Options, pkg string) (string, error) {
	uris, err := run(ctx, "", "apt-get", "download", "--print-uris", pkg)
	if err != nil {
		return "", err
	}
	// 'URI' FILE SIZE HASH
	fields := strings.Fields(string(uris))
	if len(fields) < 3 || strings.ContainsRune(fields[1], '/') {
		return "", fmt.Errorf("guest: apt-get names no file for package %s", pkg)
	}
	dir := filepath.Join(o.Cache, "packages")
	file := filepath.Join(dir, fields[1])
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	o.say("downloading %s", pkg)
	scratch, err := tempDir(dir)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	// apt verifies the archive's signature and the file's hash.
	if _, err := run(ctx, scratch, "apt-get", "-o", "APT::Sandbox::User=root", "download", pkg); err != nil {
		return "", err
	}
	return file, os.Rename(filepath.Join(scratch, fields[1]), file)
}

func tempDir(in string) (string, error) {
	if err := os.MkdirAll(in, 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp(in, ".build-")
}

// finish moves a finished file to its place in the cache and describes it.
func finish(name, from, to string) (Image, error) {
	if err := os.Chmod(from, 0o444); err != nil {
		return Image{}, err
	}
	if err := os.Rename(from, to); err != nil {
		return Image{}, err
	}
	return describe(name, to)
}

func describe(name, path string) (Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return Image{}, err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return Image{}, err
	}
	return Image{Name: name, Path: path, Digest: hex.EncodeToString(h.Sum(nil)), Size: size}, nil
}
