package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"libvirt.org/go/libvirtxml"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
)

// rbd keeps each volume in one image of a Ceph pool, named by its id. Its snapshots are RBD's. System disks are clones
// of the pool's own copy of a golden image; an encrypted one is a whole copy, since LUKS is QEMU's here. Other hosts work
// on the same pool: what changes an image's data is refused while anybody has the image open.
type rbd struct {
	pool, user string
	conf       string // configuration file, which names the keyring
	monitors   []string
	secret     string // UUID of the user's key in libvirt
	host       string // id of this host, in the names of what it makes
	stretch    int    // as directory's
	imaged     func(digest string) bool
}

const (
	// rbdPatience is how long a command may take that moves no data.
	rbdPatience = 30 * time.Second
	// baseSnapshot of a golden image is what system disks are clones of.
	baseSnapshot = "base"
	// luksKey is where an image says how many bytes its LUKS header has.
	luksKey = "lingyun.luks"
)

// errExists: an image of that name is there already.
var errExists = errors.New("host: the image is there already")

// ask runs rbd for what takes a moment, work for what takes as long as it takes.
func (r *rbd) ask(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, rbdPatience)
	defer cancel()
	return r.work(ctx, args...)
}

func (r *rbd) work(ctx context.Context, args ...string) ([]byte, error) {
	out, err := runWith(ctx, nil, "rbd", append([]string{"--conf", r.conf, "--id", r.user}, args...)...)
	return out, rbdError(err)
}

// rbdError gives a failure of rbd its meaning. It ends with the error's number; a pool or a cluster that is not there
// says "no such file", too.
func rbdError(err error) error {
	if err == nil || errors.Is(err, hostlink.ErrUnavailable) || errors.Is(err, hostlink.ErrNoSpace) {
		return err
	}
	code, text := 0, err.Error()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	switch {
	case strings.Contains(text, "connect to the cluster"), strings.Contains(text, "opening pool"), strings.Contains(text, "opening default pool"):
		return fmt.Errorf("%w: %w", hostlink.ErrUnavailable, err)
	case code == 2 && (strings.Contains(text, "error opening image") || strings.Contains(text, "delete error")):
		return fmt.Errorf("%w: %w", hostlink.ErrNotFound, err)
	case code == 17:
		return errExists
	case code == 16, code == 30, code == 110: // busy, locked by another client, timed out
		return fmt.Errorf("%w: %w", hostlink.ErrUnavailable, err)
	case code == 28, code == 122:
		return fmt.Errorf("%w: %w", hostlink.ErrNoSpace, err)
	}
	return err
}

// at names an image, or a snapshot of one, to rbd. Its parts are ids, digests and the checked name of the pool.
func (r *rbd) at(image string, snapshot ...string) string {
	return strings.Join(append([]string{r.pool + "/" + image}, snapshot...), "@")
}

// part is what a volume, or a golden image, is called until it is whole.
func (r *rbd) part(name string) string { return "part." + name + "." + r.host }

func baseName(digest string) string { return "image." + digest }

// image is what rbd tells of one.
type rbdImage struct {
	Size     uint64   `json:"size"`
	Features []string `json:"features"`
	Parent   struct {
		Image string `json:"image"`
	} `json:"parent"`
}

func (r *rbd) info(ctx context.Context, image string) (*rbdImage, error) {
	out, err := r.ask(ctx, "info", "--format", "json", r.at(image))
	if err != nil {
		return nil, err
	}
	i := new(rbdImage)
	return i, json.Unmarshal(out, i)
}

// header is how many bytes of an image are before the guest's first; 0: it is not encrypted.
func (r *rbd) header(ctx context.Context, image string) (uint64, error) {
	out, err := r.ask(ctx, "image-meta", "list", "--format", "json", r.at(image))
	if err != nil {
		return 0, err
	}
	var meta map[string]string
	if len(strings.TrimSpace(string(out))) > 0 {
		if err := json.Unmarshal(out, &meta); err != nil {
			return 0, fmt.Errorf("host: %w", err)
		}
	}
	if meta[luksKey] == "" {
		return 0, nil
	}
	return strconv.ParseUint(meta[luksKey], 10, 64)
}

func (r *rbd) snapshots(ctx context.Context, image string) ([]string, error) {
	out, err := r.ask(ctx, "snap", "list", "--format", "json", r.at(image))
	if err != nil {
		return nil, err
	}
	var list []struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	return names, nil
}

func (r *rbd) list(ctx context.Context) ([]string, error) {
	names, err := r.images(ctx)
	return slices.DeleteFunc(names, func(name string) bool { return !validID.MatchString(name) }), err
}

func (r *rbd) images(ctx context.Context) (names []string, err error) {
	out, err := r.ask(ctx, "ls", "--format", "json", r.pool)
	if err != nil {
		return nil, err
	}
	return names, json.Unmarshal(out, &names)
}

func (r *rbd) look(ctx context.Context, id string) (*volume, error) {
	i, err := r.info(ctx, id)
	if err != nil {
		return nil, err
	}
	v := &volume{size: i.Size, allocated: i.Size, raw: !slices.Contains(i.Features, "exclusive-lock")}
	header, err := r.header(ctx, id)
	if err != nil {
		return nil, err
	}
	v.size, v.encrypted = i.Size-header, header > 0
	if slices.Contains(i.Features, "fast-diff") { // else it would be counted object by object
		if out, err := r.ask(ctx, "du", "--format", "json", r.at(id)); err == nil {
			var used struct {
				Images []struct {
					Used uint64 `json:"used_size"`
				} `json:"images"`
			}
			if json.Unmarshal(out, &used) == nil {
				v.allocated = 0
				for _, u := range used.Images {
					v.allocated += u.Used
				}
			}
		}
	}
	v.snapshots, err = r.snapshots(ctx, id)
	return v, err
}

// unwatched refuses to change an image that somebody has open, on whichever host. A client that died counts as one for
// half a minute.
func (r *rbd) unwatched(ctx context.Context, image string) error {
	out, err := r.ask(ctx, "status", "--format", "json", r.at(image))
	if err != nil {
		return err
	}
	var status struct {
		Watchers []struct {
			Address string `json:"address"`
		} `json:"watchers"`
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	if len(status.Watchers) > 0 {
		return fmt.Errorf("%w: image %s is open at %s", hostlink.ErrUnavailable, image, status.Watchers[0].Address)
	}
	return nil
}

func bytesArg(n uint64) string { return strconv.FormatUint(n, 10) + "B" }

func (r *rbd) create(ctx context.Context, spec *pb.VolumeSpec, im *image) error {
	part, size := r.part(spec.Id), spec.SizeBytes
	if size == 0 {
		size = im.size
	}
	if err := r.drop(ctx, part); err != nil { // of a try that was cut off
		return err
	}
	var err error
	switch {
	case spec.Secret != nil:
		err = r.encrypt(ctx, part, size, spec, im)
	case im != nil:
		err = r.clone(ctx, part, size, im)
	case spec.Raw:
		_, err = r.ask(ctx, "create", "--image-shared", "--size", bytesArg(size), r.at(part))
	default:
		_, err = r.ask(ctx, "create", "--size", bytesArg(size), r.at(part))
	}
	if err != nil {
		return err
	}
	return r.place(ctx, part, spec.Id)
}

// place gives a finished image its name. Another host may have been faster.
func (r *rbd) place(ctx context.Context, part, name string) error {
	_, err := r.ask(ctx, "rename", r.at(part), r.at(name))
	if errors.Is(err, errExists) {
		return r.drop(ctx, part)
	}
	return err
}

// clone makes a system disk of the pool's copy of its image.
func (r *rbd) clone(ctx context.Context, part string, size uint64, im *image) error {
	if err := r.base(ctx, im); err != nil {
		return err
	}
	if _, err := r.ask(ctx, "clone", r.at(baseName(im.digest), baseSnapshot), r.at(part)); err != nil {
		return err
	}
	if size == im.size {
		return nil
	}
	_, err := r.ask(ctx, "resize", "--no-progress", "--size", bytesArg(size), r.at(part))
	return err
}

// base makes sure that the pool has a copy of a golden image, with the protected snapshot that is cloned.
func (r *rbd) base(ctx context.Context, im *image) error {
	name, part := baseName(im.digest), r.part(baseName(im.digest))
	if _, err := r.info(ctx, name); !errors.Is(err, hostlink.ErrNotFound) {
		return err
	}
	if err := r.drop(ctx, part); err != nil {
		return err
	}
	if _, err := r.ask(ctx, "create", "--size", bytesArg(im.size), r.at(part)); err != nil {
		return err
	}
	if err := keyed(ctx, nil, "convert", append([]string{"-q", "-n", "-f", im.format, "--target-image-opts", im.path}, r.options(part, false))...); err != nil {
		return err
	}
	for _, verb := range []string{"create", "protect"} {
		args := []string{"snap", verb, r.at(part, baseSnapshot)}
		if verb == "create" {
			args = append(args, "--no-progress")
		}
		if _, err := r.ask(ctx, args...); err != nil {
			return err
		}
	}
	return r.place(ctx, part, name)
}

// encrypt makes an encrypted image: empty, or a copy of a golden image. What nobody wrote to reads as noise.
func (r *rbd) encrypt(ctx context.Context, part string, size uint64, spec *pb.VolumeSpec, im *image) error {
	secret := spec.Secret
	if err := keyed(ctx, secret, "create", "-q", "-f", "luks", "-o", "key-secret=key,iter-time="+strconv.Itoa(r.stretch),
		r.filename(part), strconv.FormatUint(size, 10)); err != nil {
		return err
	}
	made, err := r.info(ctx, part)
	if err != nil {
		return err
	}
	if made.Size <= size {
		return fmt.Errorf("host: image %s has no room for its LUKS header", part)
	}
	if _, err := r.ask(ctx, "image-meta", "set", r.at(part), luksKey, strconv.FormatUint(made.Size-size, 10)); err != nil {
		return err
	}
	if spec.Raw {
		if _, err := r.ask(ctx, "feature", "disable", r.at(part), "fast-diff", "object-map", "exclusive-lock"); err != nil {
			return err
		}
	}
	if im == nil {
		return nil
	}
	args := []string{"-q", "-n", "--target-image-opts"}
	if im.encrypted {
		args = append(args, opened(im.path, secret)...)
	} else {
		args = append(args, "-f", im.format, im.path)
	}
	return keyed(ctx, secret, "convert", append(args, r.options(part, true))...)
}

// filename is what qemu-img creates; a backslash takes their meaning from the characters that part it.
func (r *rbd) filename(image string) string {
	conf := strings.NewReplacer(`\`, `\\`, ":", `\:`, "@", `\@`, "=", `\=`).Replace(r.conf)
	return "rbd:" + r.pool + "/" + image + ":id=" + r.user + ":conf=" + conf
}

// options names an image to qemu-img.
func (r *rbd) options(image string, encrypted bool) string {
	format := "driver=raw"
	if encrypted {
		format = "driver=luks,key-secret=key"
	}
	return format + ",file.driver=rbd,file.pool=" + r.pool + ",file.image=" + image + ",file.user=" + r.user + ",file.conf=" + strings.ReplaceAll(r.conf, ",", ",,")
}

func (r *rbd) opened(id string, secret []byte) []string {
	return []string{"--image-opts", r.options(id, secret != nil)}
}

// duplicate copies the whole, so that source and copy go their own ways.
func (r *rbd) duplicate(ctx context.Context, spec *pb.VolumeSpec) error {
	part := r.part(spec.Id)
	if err := r.drop(ctx, part); err != nil {
		return err
	}
	copied := r.copySnapshot
	if spec.SourceSnapshot == "" {
		copied = r.copyWhole
	}
	if err := copied(ctx, spec, part); err != nil {
		return err
	}
	return r.place(ctx, part, spec.Id)
}

func (r *rbd) copyWhole(ctx context.Context, spec *pb.VolumeSpec, part string) error {
	if err := r.unwatched(ctx, spec.SourceVolume); err != nil {
		return err
	}
	args := []string{"cp", "--no-progress", r.at(spec.SourceVolume), r.at(part)}
	if spec.Raw {
		args = append(args, "--image-shared")
	}
	_, err := r.work(ctx, args...)
	return err
}

// copySnapshot makes a clone and gives it all of the data: rbd copy leaves out of a clone's snapshot what only the golden
// image has (seen with Ceph 16.2).
func (r *rbd) copySnapshot(ctx context.Context, spec *pb.VolumeSpec, part string) error {
	have, err := r.snapshots(ctx, spec.SourceVolume)
	if err != nil {
		return err
	}
	if !slices.Contains(have, spec.SourceSnapshot) {
		return fmt.Errorf("%w: snapshot %s of volume %s", hostlink.ErrNotFound, spec.SourceSnapshot, spec.SourceVolume)
	}
	source := r.at(spec.SourceVolume, spec.SourceSnapshot)
	_, _ = r.ask(ctx, "snap", "protect", source) // it may be so already: cloning tells
	defer r.unprotect(context.WithoutCancel(ctx), spec.SourceVolume, spec.SourceSnapshot)
	if _, err := r.ask(ctx, "clone", source, r.at(part)); err != nil {
		return err
	}
	_, err = r.work(ctx, "flatten", "--no-progress", r.at(part))
	return err
}

// unprotect lets a snapshot go that was, or may have been, copied. One that is being copied for another volume stays
// protected until that is done.
func (r *rbd) unprotect(ctx context.Context, image, snapshot string) {
	_, _ = r.ask(ctx, "snap", "unprotect", r.at(image, snapshot)) // what goes wrong shows when the snapshot is removed
}

func (r *rbd) grow(ctx context.Context, id string, bytes uint64, _ []byte) error {
	if err := r.unwatched(ctx, id); err != nil {
		return err
	}
	header, err := r.header(ctx, id)
	if err != nil {
		return err
	}
	_, err = r.ask(ctx, "resize", "--no-progress", "--size", bytesArg(bytes+header), r.at(id))
	return err
}

func (r *rbd) live() bool { return true }

func (r *rbd) snapshot(ctx context.Context, id, snapshot string, _ []byte) error {
	_, err := r.ask(ctx, "snap", "create", "--no-progress", r.at(id, snapshot))
	if errors.Is(err, errExists) {
		return nil
	}
	return err
}

func (r *rbd) removeSnapshot(ctx context.Context, id, snapshot string, _ []byte) error {
	_, err := r.work(ctx, "snap", "rm", "--no-progress", r.at(id, snapshot))
	if err != nil { // a copy that was cut off leaves it protected
		r.unprotect(ctx, id, snapshot)
		_, err = r.work(ctx, "snap", "rm", "--no-progress", r.at(id, snapshot))
	}
	return err
}

func (r *rbd) rollback(ctx context.Context, id, snapshot string, _ []byte) error {
	if err := r.unwatched(ctx, id); err != nil {
		return err
	}
	_, err := r.work(ctx, "snap", "rollback", "--no-progress", r.at(id, snapshot))
	return err
}

func (r *rbd) remove(ctx context.Context, id string) error {
	i, err := r.info(ctx, id)
	if errors.Is(err, hostlink.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.unwatched(ctx, id); err != nil {
		return err
	}
	if err := r.drop(ctx, id); err != nil {
		return err
	}
	if digest, ok := strings.CutPrefix(i.Parent.Image, baseName("")); ok && !r.imaged(digest) {
		return r.dropBase(ctx, digest)
	}
	return nil
}

// drop removes an image with its snapshots, if it is there.
func (r *rbd) drop(ctx context.Context, image string) error {
	_, err := r.info(ctx, image)
	if errors.Is(err, hostlink.ErrNotFound) {
		return nil
	}
	var snapshots []string
	if err == nil {
		snapshots, err = r.snapshots(ctx, image)
	}
	for _, s := range snapshots {
		r.unprotect(ctx, image, s)
	}
	if err == nil && len(snapshots) > 0 {
		_, err = r.work(ctx, "snap", "purge", "--no-progress", r.at(image))
	}
	if err == nil {
		_, err = r.work(ctx, "rm", "--no-progress", r.at(image))
	}
	if errors.Is(err, hostlink.ErrNotFound) { // another was faster
		return nil
	}
	return err
}

// dropBase removes the pool's copy of a golden image, unless a system disk leans on it: then it goes with the last.
func (r *rbd) dropBase(ctx context.Context, digest string) error {
	name := baseName(digest)
	out, err := r.ask(ctx, "children", "--all", "--format", "json", r.at(name, baseSnapshot))
	if err != nil {
		if _, gone := r.info(ctx, name); errors.Is(gone, hostlink.ErrNotFound) {
			return nil
		}
		return err
	}
	if text := strings.TrimSpace(string(out)); text != "" && text != "[]" {
		return nil
	}
	return r.drop(ctx, name)
}

// dropParts removes what an agent of this host that was killed left half-made.
func (r *rbd) dropParts(ctx context.Context) error {
	names, err := r.images(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if strings.HasPrefix(name, "part.") && strings.HasSuffix(name, "."+r.host) {
			errs = append(errs, r.drop(ctx, name))
		}
	}
	return errors.Join(errs...)
}

func (r *rbd) disk(_ context.Context, id string) (libvirtxml.DomainDisk, error) {
	source := &libvirtxml.DomainDiskSourceNetwork{Protocol: "rbd", Name: r.at(id), Auth: &libvirtxml.DomainDiskAuth{
		Username: r.user, Secret: &libvirtxml.DomainDiskSecret{Type: "ceph", UUID: r.secret}}}
	for _, m := range r.monitors {
		host, port, err := net.SplitHostPort(m)
		if err != nil {
			host, port = m, ""
		}
		source.Hosts = append(source.Hosts, libvirtxml.DomainDiskSourceHost{Name: host, Port: port})
	}
	return libvirtxml.DomainDisk{
		// Past librbd's cache, whatever the host's own directory is: other hosts' guests must see what is written to a shared disk.
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw", Cache: "none"},
		Source: &libvirtxml.DomainDiskSource{Network: source},
	}, nil
}
