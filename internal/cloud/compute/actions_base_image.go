package compute

import (
	"context"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/permit"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) baseImageActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CloneCustomImageToBaseImage", Module: "image", Admin: true, Mutates: true, Extension: true,
			Summary: "Make a base image of a tenant's image."}, s.cloneImage),
		action.Define(action.Spec{Name: "DescribeBaseImage", Module: "image", Admin: true, Extension: true,
			Summary: "List base images."}, s.describeBaseImage),
		action.Define(action.Spec{Name: "DeleteBaseImage", Module: "image", Admin: true, Mutates: true, Extension: true,
			Summary: "Destroy a base image."}, s.deleteBaseImage),
		action.Define(action.Spec{Name: "DescribeImageOSVersions", Module: "image", Extension: true,
			Summary: "List the systems that an import may name."}, s.describeOSVersions),
	}
}

type cloneImageRequest struct {
	SourceImageID string `validate:"required" doc:"custom image id"`
	DestImageName string `validate:"required" doc:"1 to 40 lower-case letters, digits, dots and hyphens; the id is REGION-image-NAME"`
	action.Tenant
}

// cloneImage makes a base image with the same file. The tenant's own stays.
func (s *Service) cloneImage(ctx context.Context, c *action.Call, q *cloneImageRequest) (*createImageResponse, error) {
	if !imageName.MatchString(q.DestImageName) {
		return nil, retcode.InvalidParameter.Errorf("DestImageName must be 1 to 40 lower-case letters, digits, dots and hyphens")
	}
	var id string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		i, err := ownImage(ctx, tx, c.Scope(), q.SourceImageID)
		if err != nil {
			return err
		}
		if err := i.usable(); err != nil {
			return err
		}
		if i.Secret != "" {
			return retcode.InvalidParameter.Errorf("SourceImageID: %s is encrypted with its tenant's key", i.ID)
		}
		if err := i.holdTx(ctx, tx); err != nil {
			return err
		}
		base, now := *i, s.Clock.Micros()
		base.ID, base.Name, base.Type, base.Company, base.Project = i.Region+"-image-"+q.DestImageName, q.DestImageName, BaseImage, 0, ""
		base.CreatedAt, base.UpdatedAt, base.Generation = now, now, 1
		id = base.ID
		// The name of one that was destroyed is free again.
		if _, err := tx.NewDelete().Model((*Image)(nil)).Where("id = ? AND ended_at > 0", base.ID).Exec(ctx); err != nil {
			return err
		}
		_, err = tx.NewInsert().Model(&base).Exec(ctx)
		if database.IsUnique(err) {
			return retcode.InvalidParameter.Errorf("DestImageName: there is a base image %s", base.ID)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(id, q.SourceImageID)
	return &createImageResponse{ImageID: id}, nil
}

type describeBaseImageRequest struct {
	ImageIDs []string `doc:"image ids"`
	SetArch  string   `doc:"architecture, x86_64 or aarch64"`
	Keyword  string   `doc:"part of name or id"`
	action.Page
}

type baseImageInfo struct {
	ImageID        string
	Name           string
	OSType         string
	OSName         string
	OSDistribution string
	SetArch        string
	ImageStatus    string
	ImageSize      int64 `doc:"GB: the smallest system disk that holds it"`
	PermissionMode string
	Permission     string `doc:"tenants of the list, comma separated"`
	CreateTime     int64
}

type describeBaseImageResponse struct {
	TotalCount int
	Infos      []baseImageInfo
}

func (s *Service) describeBaseImage(ctx context.Context, c *action.Call, q *describeBaseImageRequest) (*describeBaseImageResponse, error) {
	var rows []Image
	sel := s.DB.Reader().NewSelect().Model(&rows).Where("region = ? AND type = ? AND ended_at = 0", c.Region, BaseImage)
	if len(q.ImageIDs) > 0 {
		sel = sel.Where("id IN (?)", bun.In(q.ImageIDs))
	}
	if q.SetArch != "" {
		sel = sel.Where("arch = ?", q.SetArch)
	}
	sel = database.Matching(sel, q.Keyword, "name", "id")
	n, err := sel.Count(ctx)
	if err != nil {
		return nil, err
	}
	out := &describeBaseImageResponse{TotalCount: int(n), Infos: []baseImageInfo{}}
	if q.Limit == 0 || q.Offset >= out.TotalCount {
		return out, nil
	}
	if err := sel.OrderExpr("created_at DESC, id").Offset(int64(q.Offset)).Limit(int64(q.Limit)).Scan(ctx); err != nil {
		return nil, err
	}
	ids := make([]string, len(rows))
	for n := range rows {
		ids[n] = rows[n].ID
	}
	may, err := permit.Of(ctx, s.DB.Reader(), permit.BaseImage, ids...)
	if err != nil {
		return nil, err
	}
	for _, i := range rows {
		tenants := make([]string, len(may[i.ID].Tenants))
		for n, company := range may[i.ID].Tenants {
			tenants[n] = strconv.FormatInt(company, 10)
		}
		out.Infos = append(out.Infos, baseImageInfo{ImageID: i.ID, Name: i.Name, OSType: i.OSType, OSName: i.OSName, OSDistribution: i.OSDistribution,
			SetArch: i.Arch, ImageStatus: i.State, ImageSize: int64(i.virtualGB()), PermissionMode: may[i.ID].Mode, Permission: strings.Join(tenants, ","), CreateTime: seconds(i.CreatedAt)})
	}
	return out, nil
}

type baseImageRequest struct {
	ImageID string `validate:"required" doc:"base image id"`
}

// deleteBaseImage destroys a base image that nothing stands on. It goes to no bin.
func (s *Service) deleteBaseImage(ctx context.Context, c *action.Call, q *baseImageRequest) (*action.Empty, error) {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		op = ""
		i, err := anyImage(ctx, tx, action.Scope{Region: c.Region}, q.ImageID)
		if err != nil {
			return err
		}
		if i.Type != BaseImage {
			return retcode.ImageNotFound.Errorf("ImageID %s is no base image", i.ID)
		}
		if i.State == Terminating {
			return nil // under way
		}
		if err := i.usable(); err != nil {
			return err
		}
		if err := s.changeImage(ctx, tx, i, Terminating); err != nil {
			return err
		}
		user, err := usedBy(ctx, tx, i)
		if err != nil {
			return err
		}
		if user != "" {
			return retcode.ImageInUse.Errorf("%s was made of %s", user, i.ID)
		}
		op, err = s.images.terminate.Accept(ctx, tx, imageRequest(c, i), imageJob{Image: i.ID, Generation: i.Generation})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(q.ImageID)
	if op != "" {
		s.Engine.Kick(op)
	}
	return nil, nil
}

type osVersion struct {
	OSType         string
	OSDistribution string
	OSVersion      string
	SetArch        string
}

type osVersionsRequest struct {
	SetArch string `doc:"x86_64 or aarch64; empty: both"`
	OSType  string `doc:"Linux or Windows; empty: both"`
	action.Tenant
}

type osVersionsResponse struct {
	TotalCount int
	Infos      []osVersion
}

// osVersions are the systems whose guests are known to work: kind, distribution, architecture, versions.
var osVersions = []struct{ kind, distribution, arch, versions string }{
	{"Linux", "CentOS", "x86_64", "6.5 6.6 6.7 6.8 6.9 6.10 7.0 7.1 7.2 7.3 7.4 7.5 7.6 7.7 7.8 7.9 8.3"},
	{"Linux", "CentOS", "aarch64", "7.6 7.7 7.8 7.9"},
	{"Linux", "Ubuntu", "x86_64", "14.04 16.04 18.04 20.04 20.10"},
	{"Linux", "Ubuntu", "aarch64", "16.04 18.04"},
	{"Linux", "Debian", "x86_64", "10.12 12"},
	{"Windows", "Windows", "x86_64", "7 8 10 2008 2008R2 2012 2012R2 2016 2019"},
}

func (s *Service) describeOSVersions(_ context.Context, _ *action.Call, q *osVersionsRequest) (*osVersionsResponse, error) {
	out := &osVersionsResponse{Infos: []osVersion{}}
	for _, o := range osVersions {
		if q.SetArch != "" && q.SetArch != o.arch || q.OSType != "" && !strings.EqualFold(q.OSType, o.kind) {
			continue
		}
		for v := range strings.FieldsSeq(o.versions) {
			out.Infos = append(out.Infos, osVersion{OSType: o.kind, OSDistribution: o.distribution, OSVersion: v, SetArch: o.arch})
		}
	}
	out.TotalCount = len(out.Infos)
	return out, nil
}
