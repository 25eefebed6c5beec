package compute

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) imageActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeImage", Module: "image", Summary: "List base and custom images."}, s.describeImage),
		action.Define(action.Spec{Name: "ImportBaseImage", Module: "image", Admin: true, Mutates: true, Extension: true,
			Summary: "Make a base image of a file in the server's import directory."}, s.importBaseImage),
	}
}

type describeImageRequest struct {
	ImageType        string   `validate:"omitempty,oneof=Base Custom" doc:"empty: both"`
	ImageIDs         []string `doc:"image ids"`
	Keyword          string   `doc:"part of name or id"`
	ProjectIDs       []string `doc:"project group ids"`
	ImageFormat      string   `validate:"omitempty,oneof=qcow2 iso" doc:"format of the file"`
	SetArch          string   `doc:"architecture, x86_64 or aarch64"`
	OSType           string   `doc:"Linux, Windows, ..."`
	Statuses         []string `doc:"states of images"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value)"`
	action.Tenant
	action.Page
}

type imageInfo struct {
	Region           string
	RegionAlias      string
	Zone             string
	CompanyID        int64
	Email            string
	ProjectID        string
	ProjectName      string
	ImageID          string
	Name             string
	ImageName        string
	ImageDescription string
	ImageSize        int64 `doc:"GB: the smallest system disk that holds it"`
	ImageType        string
	ImageFormat      string
	OSType           string
	OSName           string
	OSDistribution   string
	SetArch          string
	BootloaderType   string
	ImageStatus      string
	Reason           string
	CreateTime       int64
	UpdateTime       int64
	CanVGPU          bool
	SupportHotplug   bool
	SupportCloudInit bool
	SupportQGA       bool
	Remarkable       bool
	Encrypted        bool
	Progress         int `doc:"percent"`
	PermissionMode   string
	VirtualSize      int64 `doc:"GB"`
	Tags             []tag.Info
}

type describeImageResponse struct {
	TotalCount int
	Infos      []imageInfo
}

func (s *Service) describeImage(ctx context.Context, c *action.Call, q *describeImageRequest) (*describeImageResponse, error) {
	var states []string
	for _, st := range q.Statuses {
		if !slices.Contains(imageStates, st) {
			return nil, retcode.InvalidParameter.Errorf("Statuses: %s is no state of an image", st)
		}
		if now, older := olderStates[st]; older {
			st = now
		}
		states = append(states, st)
	}
	out := &describeImageResponse{Infos: []imageInfo{}}
	var rows []Image
	sel, err := tag.Narrow(s.DB.Reader().NewSelect().Model(&rows).Where("region = ? AND ended_at = 0", c.Region), "image.id", q.TagKeyValuePairs)
	if err != nil {
		return nil, err
	}
	if len(q.Statuses) == 0 {
		sel = sel.Where("deleted_at = 0") // those in the bin only when asked for
	}
	if c.Company != 0 {
		sel = permit.Narrow(sel.Where("company IN (0, ?)", c.Company), permit.BaseImage, "id", c.Company)
	}
	if c.Projects != nil { // base images are in no project group
		sel = sel.Where("company = 0 OR project IN (?)", bun.In(c.Projects))
	}
	equal := func(column, value string) {
		if value != "" {
			sel = sel.Where("? = ?", bun.Ident(column), value)
		}
	}
	among := func(column string, values []string) {
		if len(values) > 0 {
			sel = sel.Where("? IN (?)", bun.Ident(column), bun.In(values))
		}
	}
	equal("type", q.ImageType)
	equal("format", q.ImageFormat)
	equal("arch", q.SetArch)
	equal("os_type", q.OSType)
	among("id", q.ImageIDs)
	among("project", q.ProjectIDs)
	among("state", states)
	sel = database.Matching(sel, q.Keyword, "name", "id")
	n, err := sel.Count(ctx)
	if err != nil {
		return nil, err
	}
	out.TotalCount = int(n)
	if q.Limit == 0 || q.Offset >= out.TotalCount {
		return out, nil
	}
	if err := sel.OrderExpr("created_at DESC, id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).Scan(ctx); err != nil {
		return nil, err
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	may, err := permit.Of(ctx, s.DB.Reader(), permit.BaseImage, ids...)
	if err != nil {
		return nil, err
	}
	emails, err := s.Identity.Emails(ctx, companies(rows, func(i Image) int64 { return i.Company }))
	if err != nil {
		return nil, err
	}
	tags, err := tag.Of(ctx, s.DB.Reader(), ids...)
	if err != nil {
		return nil, err
	}
	projects, err := s.Identity.ProjectNames(ctx, projectsOf(rows, func(i Image) string { return i.Project }))
	if err != nil {
		return nil, err
	}
	region, err := s.Catalog.RegionAlias(ctx, c.Region)
	if err != nil {
		return nil, err
	}
	for _, i := range rows {
		out.Infos = append(out.Infos, imageInfo{
			Region: i.Region, RegionAlias: region, CompanyID: i.Company, Email: emails[i.Company], ProjectID: i.Project, ProjectName: projects[i.Project],
			ImageID: i.ID, Name: i.Name, ImageName: i.Name, ImageDescription: i.Description, ImageSize: int64(i.virtualGB()),
			ImageType: i.Type, ImageFormat: i.Format, OSType: i.OSType, OSName: i.OSName, OSDistribution: i.OSDistribution,
			SetArch: i.Arch, BootloaderType: bootloader(i.UEFI), ImageStatus: i.State, Reason: i.Why(c.Language),
			CreateTime: seconds(i.CreatedAt), UpdateTime: seconds(i.UpdatedAt), SupportHotplug: i.Hotplug,
			SupportCloudInit: i.CloudInit, SupportQGA: i.QGA, Remarkable: i.Type != BaseImage, Progress: i.Progress, CanVGPU: i.CanVGPU,
			Encrypted:      i.Secret != "",
			PermissionMode: may[i.ID].Mode, VirtualSize: int64(i.virtualGB()), Tags: tags[i.ID],
		})
	}
	return out, nil
}

// companies lists the distinct tenants of rows, without 0.
func companies[T any](rows []T, of func(T) int64) []int64 {
	var out []int64
	for _, r := range rows {
		if c := of(r); c != 0 && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// projectsOf lists the project groups of rows.
func projectsOf[T any](rows []T, of func(T) string) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = of(r)
	}
	return out
}

func bootloader(uefi bool) string {
	if uefi {
		return "uefi"
	}
	return "bios"
}

// seconds turns stored time into the wire's unix seconds.
func seconds(micros int64) int64 { return micros / 1e6 }

type importBaseImageRequest struct {
	Name             string `validate:"required" doc:"1 to 40 lower-case letters, digits, dots and hyphens; the id is REGION-image-Name"`
	FileName         string `validate:"required" doc:"a qcow2 file in the import directory of the server, without a path"`
	Description      string `validate:"max=100" doc:"free text"`
	SetArch          string `default:"x86_64" validate:"oneof=x86_64 aarch64" doc:"architecture"`
	OSType           string `default:"Linux" validate:"oneof=Linux Windows" doc:"kind of operating system"`
	OSName           string `validate:"max=63" doc:"shown to people, e.g. Debian 12"`
	OSDistribution   string `validate:"max=63" doc:"e.g. Debian, Ubuntu"`
	LoginUser        string `validate:"omitempty,oneof=root ubuntu debian administrator" doc:"account that gets the password, default follows OSDistribution"`
	BootloaderType   string `default:"bios" validate:"oneof=bios uefi" doc:"how it boots"`
	SupportCloudInit bool   `doc:"it reads the seed"`
	SupportQGA       bool   `doc:"it runs qemu-guest-agent"`
	SupportHotplug   bool   `doc:"CPUs and memory can be added while it runs"`
}

type importBaseImageResponse struct {
	ImageID string
}

// importBaseImage takes the file from a directory that only the server's operator writes, so that no
// request names any other file of the machine.
func (s *Service) importBaseImage(ctx context.Context, c *action.Call, q *importBaseImageRequest) (*importBaseImageResponse, error) {
	if s.ImportDir == "" || q.FileName != filepath.Base(q.FileName) || strings.HasPrefix(q.FileName, ".") || strings.ContainsAny(q.FileName, "/\\\x00") {
		return nil, retcode.InvalidParameter.Errorf("FileName must be a file in the server's import directory, without a path")
	}
	id, err := s.ImportBase(ctx, q.Name, filepath.Join(s.ImportDir, q.FileName), ImageMeta{
		Region: c.Region, Description: q.Description, Arch: q.SetArch, OSType: q.OSType, OSName: q.OSName,
		OSDistribution: q.OSDistribution, LoginUser: q.LoginUser, UEFI: q.BootloaderType == "uefi",
		CloudInit: q.SupportCloudInit, QGA: q.SupportQGA, Hotplug: q.SupportHotplug,
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(id)
	return &importBaseImageResponse{ImageID: id}, nil
}
