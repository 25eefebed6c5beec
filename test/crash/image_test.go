package crash

import (
	"bytes"
	"net/http"
	"slices"
	"strings"

	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
)

// upload is an image that is on its way in parts.
type upload struct{ image, id string }

// baseFile is where administrators put image files.
const baseFile = "crash.qcow2"

// part is the whole of one: a disc, as far as anybody here looks at it.
var part = func() []byte {
	b := make([]byte, 0x9000)
	copy(b[0x8001:], "CD001")
	return b
}()

func ofUpload(more p) func(u *user) p {
	return func(u *user) p {
		at := u.upload()
		return with(p{"ImageID": at.image, "UploadID": at.id}, more)
	}
}

var imageDeeds = product{
	"CreateCustomImage": {after: after("StopVMInstance"), often: 3, ask: func(u *user) p { return p{"VMID": u.a(vms, off), "ImageName": named} }},
	"AbortCustomImage":  {after: after("CreateCustomImage"), ask: func(u *user) p { return p{"ImageID": u.a(images, "Making")} }},
	"DeleteCustomImage": {after: after("CreateCustomImage", "AbortImageMultipartUpload"), often: 2, ask: func(u *user) p { return p{"ImageID": u.custom()} }},
	"UpdateImage": {after: after("CreateCustomImage"), ask: func(u *user) p {
		return p{"CompanyID": u.company, "ImageID": u.custom(), "OSDistribution": "Debian", "OSType": "Linux", "OSVersion": "12", "SetArch": "x86_64"}
	}},
	"GetImageDownloadURL": {after: after("CreateCustomImage"), ask: func(u *user) p { return p{"ImageID": u.custom()} }},
	"ImportImage": {often: 2, ask: func(u *user) p {
		return p{"CompanyID": u.company, "ImageName": named, "ImageFormat": "iso", "ImportType": "Local", "OSDistribution": "Rescue", "OSType": "Linux"}
	}, then: func(u *user, _ p, r controllertest.Response) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.uploads = append(u.uploads, upload{r.String("ImageID"), r.String("UploadID")})
	}},
	"UploadImagePart": {after: after("ImportImage"), often: 3, ask: ofUpload(p{"PartNumber": 1, "PartSize": len(part)}), then: func(_ *user, _ p, r controllertest.Response) {
		q, err := http.NewRequest(http.MethodPut, r.String("UploadURL"), bytes.NewReader(part))
		if err != nil {
			return
		}
		if answer, err := http.DefaultClient.Do(q); err == nil {
			answer.Body.Close()
		}
	}},
	"CompleteImageMultipartUpload": {after: after("UploadImagePart"), often: 3, ask: ofUpload(nil)},
	"AbortImageMultipartUpload":    {after: after("ImportImage"), ask: ofUpload(nil)},

	"ImportBaseImage": {admin: true, ask: func(*user) p { return p{"Name": named, "FileName": baseFile} }},
	"CloneCustomImageToBaseImage": {after: after("CreateCustomImage"), admin: true, ask: func(u *user) p {
		return p{"CompanyID": u.company, "SourceImageID": u.custom(), "DestImageName": named}
	}},
	"DeleteBaseImage": {after: after("ImportBaseImage", "CloneCustomImageToBaseImage"), admin: true, ask: func(*user) p { return p{"ImageID": "cn-image-" + named} }},
}

// upload is one of the last that were begun.
func (u *user) upload() upload { return latest(u, &u.uploads) }

// custom is an image of the tenant's own, mostly one that can be used.
func (u *user) custom() string {
	own := slices.DeleteFunc(slices.Clone(u.list(images.list, nil)), func(i controllertest.Info) bool {
		return !strings.HasPrefix(i.String("ImageID"), "image-")
	})
	return u.any(own, func(i controllertest.Info) bool { return i.String("ImageStatus") == "Used" }).String("ImageID")
}

// disc is an image that goes into a drive.
func (u *user) disc() string {
	return u.any(u.list("DescribeImage", nil), func(i controllertest.Info) bool { return i.String("ImageFormat") == "iso" }).String("ImageID")
}
