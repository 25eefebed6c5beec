package compute

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

func (s *Service) customImageActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateCustomImage", Module: "image", Mutates: true,
			Summary: "Make an image of a stopped virtual machine's system disk."}, s.createImage),
		action.Define(action.Spec{Name: "AbortCustomImage", Module: "image", Mutates: true, Extension: true,
			Summary: "Stop the making or importing of an image."}, s.abortImage),
		action.Define(action.Spec{Name: "DeleteCustomImage", Module: "image", Mutates: true,
			Summary: "Move a custom image to the recycle bin."}, s.deleteImage),
		action.Define(action.Spec{Name: "UpdateImage", Module: "image", Mutates: true,
			Summary: "Correct what an image says of its system."}, s.updateImage),
		action.Define(action.Spec{Name: "GetImageDownloadURL", Module: "image", Mutates: true,
			Summary: "Make a link to an image's file, which ends after 24 hours."}, s.downloadImage),
		action.Define(action.Spec{Name: "ImportImage", Module: "image", Mutates: true,
			Summary: "Make an image of a file at an address, or of one that is uploaded in parts."}, s.importImage),
		action.Define(action.Spec{Name: "UploadImagePart", Module: "image", Mutates: true, Extension: true,
			Summary: "Make an address to which one part of an image is sent."}, s.uploadPart),
		action.Define(action.Spec{Name: "ListImageParts", Module: "image", Extension: true,
			Summary: "List the parts of an image that have come."}, s.listParts),
		action.Define(action.Spec{Name: "CompleteImageMultipartUpload", Module: "image", Mutates: true,
			Summary: "Join the parts of an image."}, s.completeUpload),
		action.Define(action.Spec{Name: "AbortImageMultipartUpload", Module: "image", Mutates: true,
			Summary: "Give an upload up."}, s.abortUpload),
	}
}

// anyImage reads an image of a scope in any state: 1000.
func anyImage(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*Image, error) {
	rows, err := database.Find[Image](ctx, idb, "WHERE id = ?", id)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !scope.Holds(rows[0].Region, rows[0].Company, rows[0].Project) {
		return nil, retcode.ImageNotFound.Errorf("ImageID %s", id)
	}
	return &rows[0], nil
}

// ownImage is anyImage of a tenant's own ones: base images belong to nobody.
func ownImage(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*Image, error) {
	i, err := anyImage(ctx, idb, scope, id)
	if err == nil && i.Type == BaseImage {
		return nil, retcode.ImageNotFound.Errorf("ImageID %s is no custom image", id)
	}
	return i, err
}

// imageRequest describes an operation on an image; without a call it is the bin's sweep.
func imageRequest(c *action.Call, i *Image, more ...workflow.Lock) workflow.Request {
	r := workflow.Request{Action: "TerminateResource", Company: i.Company, Region: i.Region, Resources: []string{i.ID},
		Locks: append([]workflow.Lock{{Resource: i.ID, Exclusive: true}}, more...)}
	if c != nil {
		r.Action = c.Action
	}
	return r
}

type createImageRequest struct {
	VMID             string   `validate:"required" doc:"a stopped virtual machine"`
	ImageName        string   `validate:"required" doc:"1 to 63 characters"`
	ImageDescription string   `doc:"at most 100 characters"`
	ProjectID        string   `doc:"project group id"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value), at most 5"`
	action.Tenant
}

type createImageResponse struct {
	ImageID string
}

// createImage makes an image of what is on a machine's system disk, encrypted if that is. The machine is off until it
// is made.
func (s *Service) createImage(ctx context.Context, c *action.Call, q *createImageRequest) (*createImageResponse, error) {
	i, err := newImage(s.Clock.Micros(), q.ImageName, q.ImageDescription)
	if err != nil {
		return nil, err
	}
	var op string
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vmByID(ctx, tx, c.Scope(), q.VMID)
		if err != nil {
			return err
		}
		if err := check(v, MakeImage); err != nil {
			return err
		}
		if err := s.Ledger.Check(ctx, tx, v.ID); err != nil {
			return err
		}
		disk, err := bootDisk(ctx, tx, v.ID)
		if err != nil {
			return err
		}
		if !disk.Written {
			return retcode.InvalidVMState.Errorf("the new system of %s is still to be made: start it", v.ID)
		}
		i.Region, i.Company, i.State, i.Format = v.Region, v.Company, ImageMaking, formatQCOW2
		i.Arch, i.OSType, i.OSName, i.LoginUser, i.UEFI = v.Arch, v.OSType, v.OSName, v.LoginUser, v.UEFI
		i.CloudInit, i.QGA, i.Hotplug, i.OSDistribution = v.CloudInit, v.QGA, v.Hotplug, v.OSType
		i.VirtualBytes = int64(disk.SizeGB) << 30
		if from, err := anyImage(ctx, tx, action.Scope{}, v.ImageID); err == nil {
			i.OSDistribution, i.OSVersion, i.CanVGPU = from.OSDistribution, from.OSVersion, from.CanVGPU
		}
		key, err := s.Block.Passphrase(disk)
		if err != nil {
			return err
		}
		if key != nil {
			i.Secret = s.Secret.Seal(key, imageSecretContext(i.ID))
		}
		if err := s.insertImage(ctx, tx, c, i, q.ProjectID, q.TagKeyValuePairs); err != nil {
			return err
		}
		v.because(nil)
		if ok, err := s.move(ctx, tx, v, Imaging, "reason", "reason_code"); err != nil || !ok {
			return errors.Join(err, retcode.InvalidVMState.Errorf("%s is being changed by another request", v.ID))
		}
		r := imageRequest(c, i, workflow.Lock{Resource: v.ID, Exclusive: true})
		r.Resources = append(r.Resources, v.ID)
		op, err = s.images.make.Accept(ctx, tx, r, imageJob{Image: i.ID, Generation: i.Generation, VM: v.ID, VMGeneration: v.Generation, Volume: disk.ID, Host: disk.HostID, Pool: s.Block.Pool(disk)})
		if busy := new(workflow.BusyError); errors.As(err, &busy) {
			return retcode.InvalidVMState.Errorf("%s is busy with %s", v.ID, busy.Action)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(i.ID, q.VMID)
	s.Engine.Kick(op)
	return &createImageResponse{ImageID: i.ID}, nil
}

// newImage is the row of a custom image, with its name checked (113).
func newImage(now int64, name, description string) (*Image, error) {
	name, err := resource.Name(name)
	if err != nil {
		return nil, retcode.InvalidParameter.Errorf("ImageName has 1 to %d printable characters", resource.MaxName)
	}
	if description, err = resource.Remark(description); err != nil {
		return nil, retcode.InvalidParameter.Errorf("ImageDescription has at most %d characters", resource.MaxRemark)
	}
	return &Image{ID: database.NewID("image"), Name: name, Description: description, Type: CustomImage, CreatedAt: now, UpdatedAt: now, Generation: 1}, nil
}

// insertImage writes a custom image that is to be made, and takes its quota.
func (s *Service) insertImage(ctx context.Context, tx bun.Tx, c *action.Call, i *Image, project string, tags []string) (err error) {
	if i.Project, err = identity.Project(ctx, tx, c, project); err != nil {
		return err
	}
	if err := s.Catalog.Reserve(ctx, tx, i.Company, i.Region, catalog.Amounts{catalog.Image: 1}); err != nil {
		return err
	}
	if _, err := tx.NewInsert().Model(i).Exec(ctx); err != nil {
		return err
	}
	return tag.Attach(ctx, tx, i.CreatedAt, resource.Item{ID: i.ID, Company: i.Company, Region: i.Region, Kind: "Image"}, tags)
}

type imageRequestID struct {
	ImageID string `validate:"required" doc:"image id"`
	action.Tenant
}

// abortImage stops what makes an image: what was begun is undone, and the image ends Failed.
func (s *Service) abortImage(ctx context.Context, c *action.Call, q *imageRequestID) (*action.Empty, error) {
	i, err := ownImage(ctx, s.DB.Reader(), c.Scope(), q.ImageID)
	if err != nil {
		return nil, err
	}
	if err := i.pending(); err != nil {
		return nil, err
	}
	c.AddResource(i.ID)
	ops, err := s.Engine.Busy(ctx, s.DB.Reader(), i.ID)
	if err != nil {
		return nil, err
	}
	for _, op := range ops {
		return nil, s.Engine.Cancel(ctx, op.ID)
	}
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { // parts are awaited
		uploads, err := database.Find[upload](ctx, tx, "WHERE image_id = ? AND closed = ?", i.ID, false)
		if err != nil || len(uploads) == 0 {
			return err
		}
		return s.endUpload(ctx, tx, i, &uploads[0])
	})
}

// deleteImage moves an image to the bin; one that failed holds nothing and goes at once.
func (s *Service) deleteImage(ctx context.Context, c *action.Call, q *imageRequestID) (*action.Empty, error) {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		i, err := ownImage(ctx, tx, c.Scope(), q.ImageID)
		if err != nil {
			return err
		}
		if i.State == Failed {
			i.EndedAt = s.Clock.Micros()
			return s.changeImage(ctx, tx, i, Terminated, "ended_at")
		}
		if err := i.usable(); err != nil {
			return err
		}
		i.DeletedAt = s.Clock.Micros()
		if err := s.changeImage(ctx, tx, i, Deleted, "deleted_at"); err != nil {
			return err
		}
		// Whoever makes something of it holds its row, so that this sees what is made.
		user, err := usedBy(ctx, tx, i)
		if err != nil {
			return err
		}
		if user != "" {
			return retcode.ImageInUse.Errorf("%s was made of %s", user, i.ID)
		}
		return s.Catalog.Release(ctx, tx, i.Company, i.Region, catalog.Amounts{catalog.Image: 1})
	})
	if err == nil {
		c.AddResource(q.ImageID)
	}
	return nil, err
}

type updateImageRequest struct {
	action.Tenant
	CompanyID        int64   `validate:"required" doc:"tenant that owns it; 0 and the administrators' own for base images"`
	ImageID          string  `validate:"required" doc:"image id"`
	OSDistribution   string  `validate:"required,max=63" doc:"e.g. Debian"`
	OSType           string  `validate:"required,oneof=Linux Windows Kylin" doc:"kind of operating system"`
	OSVersion        string  `validate:"required,max=63" doc:"e.g. 12"`
	SetArch          string  `validate:"required,oneof=x86_64 aarch64" doc:"architecture"`
	BootloaderType   string  `validate:"omitempty,oneof=bios uefi" doc:"empty: as before"`
	SupportCloudInit *bool   `doc:"it reads the seed"`
	SupportQGA       *bool   `doc:"it runs qemu-guest-agent"`
	SupportHotplug   *bool   `doc:"CPUs and memory can be added while it runs"`
	CanVGPU          *bool   `doc:"it has a driver for virtual GPUs"`
	ImageDescription *string `doc:"at most 100 characters"`
}

// updateImage corrects an image for what is made of it from now on.
func (s *Service) updateImage(ctx context.Context, c *action.Call, q *updateImageRequest) (*action.Empty, error) {
	scope := c.Scope()
	if c.Caller.Admin {
		scope.Company = 0
	} else if q.CompanyID != c.Caller.Company {
		return nil, retcode.AdminOnly.Errorf("CompanyID %d", q.CompanyID)
	}
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		i, err := anyImage(ctx, tx, scope, q.ImageID)
		if err != nil {
			return err
		}
		if i.Type != BaseImage && i.Company != q.CompanyID {
			return retcode.ImageNotFound.Errorf("ImageID %s", q.ImageID)
		}
		if err := i.usable(); err != nil {
			return err
		}
		i.OSDistribution, i.OSType, i.OSVersion, i.Arch = q.OSDistribution, q.OSType, q.OSVersion, q.SetArch
		i.OSName = strings.TrimSpace(q.OSDistribution + " " + q.OSVersion)
		if q.BootloaderType != "" {
			i.UEFI = q.BootloaderType == "uefi"
		}
		for to, given := range map[*bool]*bool{&i.CloudInit: q.SupportCloudInit, &i.QGA: q.SupportQGA, &i.Hotplug: q.SupportHotplug, &i.CanVGPU: q.CanVGPU} {
			if given != nil {
				*to = *given
			}
		}
		if q.ImageDescription != nil {
			if i.Description, err = resource.Remark(*q.ImageDescription); err != nil {
				return err
			}
		}
		return s.changeImage(ctx, tx, i, i.State, "os_distribution", "os_type", "os_version", "os_name", "arch", "uefi", "cloud_init", "qga", "hotplug",
			"can_vgpu", "description")
	})
	if err == nil {
		c.AddResource(q.ImageID)
	}
	return nil, err
}

// downloadLife is how long a link to an image works.
const downloadLife = 24 * time.Hour

type downloadInfo struct {
	DownloadQuery string `doc:"the link"`
	ExpiredTime   int64
}

type downloadResponse struct {
	Info downloadInfo
}

type downloadArgs struct{ Image, Digest string }

// imageFile is the kind of file behind links to images.
const imageFile = "image"

func (s *Service) downloadImage(ctx context.Context, c *action.Call, q *imageRequestID) (*downloadResponse, error) {
	i, err := imageByID(ctx, s.DB.Reader(), c.Scope(), q.ImageID)
	if err != nil {
		return nil, err
	}
	if err := i.usable(); err != nil {
		return nil, err
	}
	link, err := s.Downloads.Link(c, imageFile, i.ID+"."+i.Format, downloadArgs{i.ID, i.Digest}, downloadLife)
	if err != nil {
		return nil, err
	}
	return &downloadResponse{Info: downloadInfo{DownloadQuery: link, ExpiredTime: s.Clock.Now().Add(downloadLife).Unix()}}, nil
}

// sendImage serves such a link while the image is there.
func (s *Service) sendImage(ctx context.Context, w http.ResponseWriter, _ *action.Call, args json.RawMessage) error {
	var a downloadArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return err
	}
	i, err := anyImage(ctx, s.DB.Reader(), action.Scope{}, a.Image)
	if err != nil {
		return err
	}
	if err := i.usable(); err != nil {
		return err
	}
	f, size, err := s.Fleet.OpenImage(a.Digest)
	if err != nil {
		return retcode.ImageNotFound.Errorf("image %s has another file now", i.ID).Wrap(err)
	}
	defer f.Close()
	// Images take longer than any answer otherwise.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadLife)) // without it, the server's own holds
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, err = io.Copy(w, f)
	return err
}

type importImageRequest struct {
	action.Tenant
	CompanyID        int64    `validate:"required" doc:"tenant that owns it"`
	ImageName        string   `validate:"required" doc:"1 to 63 characters"`
	ImageFormat      string   `validate:"required,oneof=qcow2 iso vmdk raw" doc:"qcow2 or iso; others are to be converted before (1003)"`
	ImportType       string   `validate:"required,oneof=Remote Local" doc:"Remote: from LoadURL; Local: uploaded in parts"`
	OSDistribution   string   `validate:"required,max=63" doc:"e.g. Debian"`
	OSType           string   `validate:"required,oneof=Linux Windows Kylin" doc:"kind of operating system"`
	LoadURL          string   `validate:"max=2048" doc:"http or https address, with Remote"`
	ImageSize        int      `validate:"omitempty,min=1,max=2000" doc:"GiB that the file may have at most"`
	OSVersion        string   `validate:"max=63" doc:"e.g. 12"`
	SetArch          string   `default:"x86_64" validate:"oneof=x86_64 aarch64" doc:"architecture"`
	BootloaderType   string   `default:"bios" validate:"oneof=bios uefi" doc:"how it boots"`
	ImageDescription string   `doc:"at most 100 characters"`
	ProjectID        string   `doc:"project group id"`
	SupportCloudInit bool     `doc:"it reads the seed"`
	SupportQGA       bool     `doc:"it runs qemu-guest-agent"`
	Secret           string   `doc:"encrypted images are not taken"`
	Platform         string   `doc:"as OSDistribution, for older clients"`
	PartSize         int64    `doc:"bytes of a part, 64 KiB to 1 GiB, default 64 MiB"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value), at most 5"`
}

type importImageResponse struct {
	ImageID  string
	UploadID string `doc:"with Local"`
	Bucket   string
	PartSize int64 `doc:"bytes, with Local: all parts but the last"`
}

// importImage makes an image of a tenant's file.
func (s *Service) importImage(ctx context.Context, c *action.Call, q *importImageRequest) (*importImageResponse, error) {
	company := c.Owner()
	if c.Caller.Admin {
		company = q.CompanyID
		if _, err := s.Identity.Tenant(ctx, company); err != nil {
			return nil, retcode.InvalidParameter.Errorf("CompanyID %d is no tenant", company)
		}
	} else if q.CompanyID != c.Caller.Company {
		return nil, retcode.AdminOnly.Errorf("CompanyID %d", q.CompanyID)
	}
	if q.Secret != "" {
		return nil, retcode.InvalidParameter.Errorf("Secret: encrypted images are not taken")
	}
	if q.ImageFormat != formatQCOW2 && q.ImageFormat != formatISO {
		return nil, retcode.InvalidImageFormat.Errorf("ImageFormat %s: convert it to qcow2 with qemu-img", q.ImageFormat)
	}
	i, err := newImage(s.Clock.Micros(), q.ImageName, q.ImageDescription)
	if err != nil {
		return nil, err
	}
	meta, err := ImageMeta{Region: c.Region, Arch: q.SetArch, OSType: q.OSType, OSDistribution: q.OSDistribution,
		OSName: strings.TrimSpace(q.OSDistribution + " " + q.OSVersion)}.withDefaults()
	if err != nil {
		return nil, err
	}
	i.Region, i.Company, i.Format, i.OSVersion = c.Region, company, q.ImageFormat, q.OSVersion
	i.Arch, i.OSType, i.OSName, i.OSDistribution, i.LoginUser = meta.Arch, meta.OSType, meta.OSName, meta.OSDistribution, meta.LoginUser
	i.UEFI, i.CloudInit, i.QGA = q.BootloaderType == "uefi", q.SupportCloudInit, q.SupportQGA
	out := &importImageResponse{ImageID: i.ID}
	var op string
	if q.ImportType == "Remote" {
		op, err = s.importRemote(ctx, c, q, i)
	} else {
		out.UploadID, out.PartSize, err = s.importLocal(ctx, c, q, i)
	}
	if err != nil {
		return nil, err
	}
	c.AddResource(i.ID)
	if op != "" {
		s.Engine.Kick(op)
	}
	return out, nil
}

func (s *Service) importRemote(ctx context.Context, c *action.Call, q *importImageRequest, i *Image) (op string, err error) {
	if q.LoadURL == "" {
		return "", retcode.MissingParameter.Errorf("LoadURL is required with Remote")
	}
	u, err := url.Parse(q.LoadURL)
	if err != nil {
		return "", retcode.InvalidParameterFormat.Errorf("LoadURL must be an address")
	}
	if err := checkSource(u); err != nil {
		return "", err
	}
	most := int64(maxLoadedBytes)
	if q.ImageSize > 0 {
		if most = int64(q.ImageSize) << 30; most > maxLoadedBytes {
			return "", retcode.ImageTooLarge.Errorf("ImageSize is at most %d GiB", maxLoadedBytes>>30)
		}
	}
	i.State = ImageMaking
	i.SourceURL = s.Secret.Seal([]byte(u.String()), sourceContext(i.ID)) // it may hold a password
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := s.insertImage(ctx, tx, c, i, q.ProjectID, q.TagKeyValuePairs); err != nil {
			return err
		}
		op, err = s.images.load.Accept(ctx, tx, imageRequest(c, i), imageJob{Image: i.ID, Generation: i.Generation, MostBytes: most})
		return err
	})
	return op, err
}

func (s *Service) importLocal(ctx context.Context, c *action.Call, q *importImageRequest, i *Image) (id string, partSize int64, err error) {
	if q.LoadURL != "" {
		return "", 0, retcode.InvalidParameter.Errorf("LoadURL is for Remote")
	}
	partSize = defaultPartSize
	if q.PartSize != 0 {
		partSize = q.PartSize
	}
	if partSize < leastPartSize || partSize > mostPartSize {
		return "", 0, retcode.InvalidParameter.Errorf("PartSize must be %d to %d bytes", leastPartSize, mostPartSize)
	}
	most := int64(maxUploadBytes)
	if q.ImageSize > 0 {
		if most = int64(q.ImageSize) << 30; most > maxUploadBytes {
			return "", 0, retcode.ImageTooLarge.Errorf("an uploaded image has at most %d GiB", maxUploadBytes>>30)
		}
	}
	i.State = ImageUploading
	u := &upload{ID: database.NewID("up"), ImageID: i.ID, PartSize: partSize, MostBytes: most, CreatedAt: i.CreatedAt,
		ExpireAt: s.Clock.Now().Add(uploadLife).UnixMicro()}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := s.insertImage(ctx, tx, c, i, q.ProjectID, q.TagKeyValuePairs); err != nil {
			return err
		}
		_, err := tx.NewInsert().Model(u).Exec(ctx)
		return err
	})
	return u.ID, partSize, err
}
