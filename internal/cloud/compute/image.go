package compute

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Image is a row of images. Times are unix microseconds.
type Image struct {
	bun.BaseModel `bun:"table:image"`

	ID             string `bun:"id,pk"`
	Region         string `bun:"region"`
	Company        int64  `bun:"company"`
	Project        string `bun:"project"`
	Name           string `bun:"name"`
	Description    string `bun:"description"`
	Type           string `bun:"type"`
	State          string `bun:"state"`
	Reason         string `bun:"reason"`
	Format         string `bun:"format"`
	Digest         string `bun:"digest"`
	SizeBytes      int64  `bun:"size_bytes"`
	VirtualBytes   int64  `bun:"virtual_bytes"`
	Arch           string `bun:"arch"`
	OSType         string `bun:"os_type"`
	OSName         string `bun:"os_name"`
	OSDistribution string `bun:"os_distribution"`
	LoginUser      string `bun:"login_user"`
	UEFI           bool   `bun:"uefi"`
	CloudInit      bool   `bun:"cloud_init"`
	QGA            bool   `bun:"qga"`
	Hotplug        bool   `bun:"hotplug"`
	OSVersion      string `bun:"os_version"`
	CanVGPU        bool   `bun:"can_vgpu"`
	Secret         string `bun:"secret"` // passphrase, sealed; empty: not encrypted
	Progress       int    `bun:"progress"`
	ReasonCode     int    `bun:"reason_code"`
	SourceURL      string `bun:"source_url"`
	DeletedAt      int64  `bun:"deleted_at"`
	EndedAt        int64  `bun:"ended_at"`
	CreatedAt      int64  `bun:"created_at"`
	UpdatedAt      int64  `bun:"updated_at"`
	Generation     int64  `bun:"generation"`
}

// Types and formats of an image.
const (
	BaseImage   = "Base"   // for all tenants
	CustomImage = "Custom" // a tenant's own

	formatQCOW2 = "qcow2"
	formatISO   = "iso"
)

// bootable answers the code of an image that no machine of an architecture can start from now.
func (i *Image) bootable(arch string) error {
	if err := i.usable(); err != nil {
		return err
	}
	if i.Format == formatISO {
		return retcode.InvalidImageFormat.Errorf("image %s is a disc: insert it with AttachISO", i.ID)
	}
	if i.Arch != arch {
		return retcode.ImageArchMismatch.Errorf("image %s is for %s, not for %s", i.ID, i.Arch, arch)
	}
	return nil
}

func imageSecretContext(id string) string { return "image.secret:" + id }

// passphrase opens an image's secret; empty: it is not encrypted. System disks that are made of it have the same.
func (s *Service) passphrase(i *Image) (string, error) {
	if i.Secret == "" {
		return "", nil
	}
	b, err := s.Secret.Open(i.Secret, imageSecretContext(i.ID))
	if err != nil {
		return "", fmt.Errorf("secret of %s: %w", i.ID, err)
	}
	return string(b), nil
}

// instruction is a parameter that cloud-init carries out in the guest, and whether a request has it.
type instruction struct {
	parameter string
	given     bool
}

// hears refuses instructions that guests of an image without cloud-init would never hear of (113).
func (i *Image) hears(all ...instruction) error {
	for _, one := range all {
		if one.given && !i.CloudInit {
			return retcode.InvalidParameter.Errorf("%s: image %s has no cloud-init, its guests take no instructions", one.parameter, i.ID)
		}
	}
	return nil
}

// holdTx keeps a tenant's image from being deleted until the caller's transaction ends.
func (i *Image) holdTx(ctx context.Context, tx bun.Tx) error {
	if i.Type == BaseImage {
		return nil // a row of many creates at once; deleting one looks for machines twice
	}
	r, err := tx.NewUpdate().Model((*Image)(nil)).Set("updated_at = updated_at").Where("id = ? AND state = ?", i.ID, ImageUsed).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return retcode.InvalidImageBizState.Errorf("image %s was deleted meanwhile", i.ID)
}

// virtualGB is the smallest system disk that holds the image.
func (i *Image) virtualGB() int { return int((i.VirtualBytes + 1<<30 - 1) >> 30) }

// windows tells whether Windows' rules for names and passwords apply.
func windows(osType string) bool { return strings.EqualFold(osType, "Windows") }

// ImageMeta says what cannot be read from an image file.
type ImageMeta struct {
	Region         string // empty: catalog.DefaultRegion
	Description    string
	Arch           string // x86_64 (default), aarch64
	OSType         string // Linux (default), Windows
	OSName         string // shown to people, e.g. "Debian 12.11 64-bit"
	OSDistribution string // e.g. Debian; tells the login user when LoginUser is empty
	LoginUser      string // account that gets the password
	UEFI           bool   // boots by UEFI only
	CloudInit      bool   // reads the seed
	QGA            bool   // runs qemu-guest-agent
	Hotplug        bool   // CPUs and memory can be added while it runs
}

func (m ImageMeta) withDefaults() (ImageMeta, error) {
	set := func(p *string, d string) {
		if *p == "" {
			*p = d
		}
	}
	set(&m.Region, catalog.DefaultRegion)
	set(&m.Arch, "x86_64")
	set(&m.OSType, "Linux")
	set(&m.OSDistribution, m.OSType)
	set(&m.OSName, m.OSDistribution)
	switch {
	case windows(m.OSType):
		set(&m.LoginUser, "administrator")
	case strings.EqualFold(m.OSDistribution, "Ubuntu"):
		set(&m.LoginUser, "ubuntu")
	default:
		set(&m.LoginUser, "root")
	}
	if m.Arch != "x86_64" && m.Arch != "aarch64" {
		return m, retcode.InvalidParameter.Errorf("Arch must be x86_64 or aarch64")
	}
	return m, nil
}

var imageName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,39}$`)

// ImportBase makes the base image REGION-image-NAME of the qcow2 file at path. The file is inspected by
// qemu-img in a confined child; one with a backing file, a data file or encryption is refused (1003).
// A name that exists with the same content is left alone; with other content it gets the new one,
// for machines made from now on.
func (s *Service) ImportBase(ctx context.Context, name, path string, m ImageMeta) (id string, err error) {
	if !imageName.MatchString(name) {
		return "", retcode.InvalidParameter.Errorf("Name must be 1 to 40 lower-case letters, digits, dots and hyphens")
	}
	if m, err = m.withDefaults(); err != nil {
		return "", err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	virtual, err := s.inspect(ctx, path)
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return s.storeBase(ctx, name, f, virtual, m)
}

// EnsureSimulatedBase registers the base image of simulated clouds, whose hosts boot nothing.
func (s *Service) EnsureSimulatedBase(ctx context.Context) (id string, err error) {
	m, err := ImageMeta{Description: "stands for an operating system on hosts that boot nothing",
		OSDistribution: "Debian", OSName: "Simulated Linux", CloudInit: true, QGA: true}.withDefaults()
	if err != nil {
		return "", err
	}
	return s.storeBase(ctx, "tiny", strings.NewReader("an image for simulated hosts\n"), 1<<30, m)
}

func (s *Service) storeBase(ctx context.Context, name string, r io.Reader, virtual int64, m ImageMeta) (string, error) {
	digest, size, err := s.Fleet.StoreImage(ctx, r)
	if err != nil {
		return "", err
	}
	now := s.Clock.Micros()
	i := &Image{
		ID: m.Region + "-image-" + name, Region: m.Region, Name: name, Description: m.Description, Type: BaseImage,
		State: ImageUsed, Format: "qcow2", Digest: digest, SizeBytes: size, VirtualBytes: virtual, Arch: m.Arch,
		OSType: m.OSType, OSName: m.OSName, OSDistribution: m.OSDistribution, LoginUser: m.LoginUser, UEFI: m.UEFI,
		CloudInit: m.CloudInit, QGA: m.QGA, Hotplug: m.Hotplug, Progress: 100, CreatedAt: now, UpdatedAt: now, Generation: 1,
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(i).On("CONFLICT (id) DO UPDATE").
			Set("description = EXCLUDED.description").Set("digest = EXCLUDED.digest").
			Set("size_bytes = EXCLUDED.size_bytes").Set("virtual_bytes = EXCLUDED.virtual_bytes").
			Set("arch = EXCLUDED.arch").Set("os_type = EXCLUDED.os_type").Set("os_name = EXCLUDED.os_name").
			Set("os_distribution = EXCLUDED.os_distribution").Set("login_user = EXCLUDED.login_user").
			Set("uefi = EXCLUDED.uefi").Set("cloud_init = EXCLUDED.cloud_init").Set("qga = EXCLUDED.qga").
			Set("hotplug = EXCLUDED.hotplug").Set("updated_at = EXCLUDED.updated_at").
			Set("generation = image.generation + 1").
			Set("state = EXCLUDED.state").Set("ended_at = 0").
			Where("image.digest <> EXCLUDED.digest OR image.ended_at > 0").Exec(ctx)
		return err
	})
	return i.ID, err
}

// imageByID reads an image that a scope may use, a base image or its own: 1000 when there is none.
func imageByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*Image, error) {
	i := new(Image)
	err := database.One(ctx, idb, permit.Narrow(idb.NewSelect().Model(i).Where("id = ? AND region = ?", id, scope.Region), permit.BaseImage, "id", scope.Company), i)
	if errors.Is(err, sql.ErrNoRows) || err == nil && i.Company != 0 && !scope.Holds(i.Region, i.Company, i.Project) {
		return nil, retcode.ImageNotFound.Errorf("ImageID %s", id)
	}
	return i, err
}

// PermitKinds says of which resources administrators choose the users.
func (s *Service) PermitKinds() []permit.Kind {
	return []permit.Kind{{
		Name: permit.BaseImage,
		Check: func(ctx context.Context, idb bun.IDB, region, id string) error {
			found, err := idb.NewSelect().Model((*Image)(nil)).Where("id = ? AND region = ? AND type = ?", id, region, BaseImage).Exists(ctx)
			if err == nil && !found {
				err = retcode.ImageNotFound.Errorf("base image %s", id)
			}
			return err
		},
		Users: func(ctx context.Context, idb bun.IDB, id string) (companies []int64, err error) {
			return companies, idb.NewSelect().Model((*VM)(nil)).ColumnExpr("DISTINCT company").Where("image_id = ? AND state NOT IN (?)", id, bun.In([]string{Terminated, Failed})).
				Order("company").Scan(ctx, &companies)
		},
	}}
}

// Limits of the child that reads a file somebody gave us.
const (
	inspectTime   = 30 * time.Second
	inspectMemory = 1 << 30 // bytes of address space
)

// inspectAs answers the size of the disk that a file of a format holds, or 1003.
func (s *Service) inspectAs(ctx context.Context, format, path string) (virtual int64, err error) {
	if format != formatISO {
		return s.inspect(ctx, path)
	}
	if err := checkDisc(path); err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// checkFirst refuses a file whose beginning is not that of a format (1003).
func (s *Service) checkFirst(format, path string) error {
	if format == formatISO {
		return checkDisc(path)
	}
	return checkHeader(path)
}

// checkDisc reads whether a file is an ISO 9660 disc. Nothing else of it is looked at: it is given to guests as raw bytes.
func checkDisc(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return retcode.InvalidParameter.Errorf("the image file cannot be read").Wrap(err)
	}
	defer f.Close()
	const descriptor = 0x8001 // after its type
	magic := make([]byte, 5)
	if _, err := f.ReadAt(magic, descriptor); err != nil || string(magic) != "CD001" {
		return retcode.InvalidImageFormat.Errorf("the file is no ISO 9660 disc")
	}
	// Hosts tell formats apart by their first bytes: a disc that begins like a disk image would be opened as one.
	if _, err := f.ReadAt(magic[:4], 0); err != nil || string(magic[:4]) == "QFI\xfb" {
		return retcode.InvalidImageFormat.Errorf("the file is no ISO 9660 disc alone")
	}
	return nil
}

// inspect answers the virtual size of a qcow2 file, or 1003. Opening a qcow2 file may open others that it
// names, so the header is read here before any program sees the file.
func (s *Service) inspect(ctx context.Context, path string) (virtual int64, err error) {
	if err := checkHeader(path); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTime)
	defer cancel()
	out, err := s.confined(ctx, "info", path)
	if err != nil {
		return 0, err
	}
	var info struct {
		Format      string `json:"format"`
		VirtualSize int64  `json:"virtual-size"`
		Backing     string `json:"backing-filename"`
		Encrypted   bool   `json:"encrypted"`
		Specific    struct {
			Data struct {
				DataFile string `json:"data-file"`
				Corrupt  bool   `json:"corrupt"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return 0, fmt.Errorf("qemu-img info: %w", err)
	}
	if info.Format != "qcow2" || info.Backing != "" || info.Encrypted || info.Specific.Data.DataFile != "" || info.Specific.Data.Corrupt || info.VirtualSize <= 0 {
		return 0, retcode.InvalidImageFormat.Errorf("a qcow2 image without backing file, data file and encryption is needed")
	}
	// One that was cut short, or was made to confuse, would fail in its guests.
	if _, err := s.confined(ctx, "check", path); err != nil {
		return 0, err
	}
	return info.VirtualSize, nil
}

// confined runs a verb of qemu-img on a qcow2 file, with little memory and time, and no file written: 1003 when it fails.
// Clusters that nothing refers to are no failure of a check.
func (s *Service) confined(ctx context.Context, verb, path string) ([]byte, error) {
	qemuImg := s.QemuImg
	if qemuImg == "" {
		qemuImg = "qemu-img"
	}
	cmd := exec.CommandContext(ctx, "prlimit", fmt.Sprintf("--as=%d", inspectMemory), "--cpu=20", "--nofile=64", "--core=0", "--fsize=0", "--",
		qemuImg, verb, "--output=json", "-f", "qcow2", path)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	const leaks = 3
	if exit := new(exec.ExitError); verb == "check" && errors.As(err, &exit) && exit.ExitCode() == leaks {
		err = nil
	}
	if err != nil {
		return nil, retcode.InvalidImageFormat.Errorf("the file is no sound qcow2 image").
			Wrap(fmt.Errorf("qemu-img %s: %w: %s", verb, err, stderr.String()))
	}
	return out, nil
}

// checkHeader reads what the qcow2 header names: magic, backing file, encryption, external data file.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return retcode.InvalidParameter.Errorf("the image file cannot be read").Wrap(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return retcode.InvalidParameter.Errorf("the image is no regular file")
	}
	var h struct {
		Magic, Version                uint32
		BackingOffset                 uint64
		BackingSize, ClusterBits      uint32
		Size                          uint64
		Crypt, L1Size                 uint32
		L1Offset, RefOffset           uint64
		RefClusters, Snapshots        uint32
		SnapshotsOffset, Incompatible uint64
	}
	if err := binary.Read(f, binary.BigEndian, &h); err != nil || h.Magic != 0x514649fb || (h.Version != 2 && h.Version != 3) {
		return retcode.InvalidImageFormat.Errorf("the file is no qcow2 image")
	}
	if h.Version == 2 {
		h.Incompatible = 0 // the field does not exist yet
	}
	const dirty, corrupt, dataFile = 1, 2, 4
	switch {
	case h.BackingOffset != 0 || h.BackingSize != 0:
		return retcode.InvalidImageFormat.Errorf("the image has a backing file")
	case h.Crypt != 0:
		return retcode.InvalidImageFormat.Errorf("the image is encrypted")
	case h.Incompatible&dataFile != 0:
		return retcode.InvalidImageFormat.Errorf("the image has an external data file")
	case h.Incompatible&corrupt != 0:
		return retcode.InvalidImageFormat.Errorf("the image is marked corrupt")
	}
	return nil
}
