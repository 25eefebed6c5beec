package crash

import (
	"bytes"
	"net/http"

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
	"CreateCustomImage": {often: 3, ask: func(u *user) p { return p{"VMID": u.a(vms, off), "ImageName": named} }},
	"AbortCustomImage":  {ask: func(u *user) p { return p{"ImageID": u.a(images, "Making")} }},
	"DeleteCustomImage": {often: 2, ask: func(u *user) p { return p{"ImageID": u.own(images).String("ImageID")} }},
	"UpdateImage": {ask: func(u *user) p {
		return p{"CompanyID": u.company, "ImageID": u.own(images).String("ImageID"), "OSDistribution": "Debian", "OSType": "Linux", "OSVersion": "12", "SetArch": "x86_64"}
	}},
	"GetImageDownloadURL": {ask: func(u *user) p { return p{"ImageID": u.own(images).String("ImageID")} }},
	"ImportImage": {often: 2, ask: func(u *user) p {
		return p{"CompanyID": u.company, "ImageName": named, "ImageFormat": "iso", "ImportType": "Local", "OSDistribution": "Rescue", "OSType": "Linux"}
	}, then: func(u *user, _ p, r controllertest.Response) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.uploads = append(u.uploads, upload{r.String("ImageID"), r.String("UploadID")})
	}},
	"UploadImagePart": {often: 3, ask: ofUpload(p{"PartNumber": 1, "PartSize": len(part)}), then: func(_ *user, _ p, r controllertest.Response) {
		q, err := http.NewRequest(http.MethodPut, r.String("UploadURL"), bytes.NewReader(part))
		if err != nil {
			return
		}
		if answer, err := http.DefaultClient.Do(q); err == nil {
			answer.Body.Close()
		}
	}},
	"CompleteImageMultipartUpload": {often: 3, ask: ofUpload(nil)},
	"AbortImageMultipartUpload":    {ask: ofUpload(nil)},

	"ImportBaseImage": {admin: true, ask: func(*user) p { return p{"Name": named, "FileName": baseFile} }},
	"CloneCustomImageToBaseImage": {admin: true, ask: func(u *user) p {
		return p{"CompanyID": u.company, "SourceImageID": u.own(images).String("ImageID"), "DestImageName": named}
	}},
	"DeleteBaseImage": {admin: true, ask: func(*user) p { return p{"ImageID": "cn-image-" + named} }},
}

// upload is one of the last that were begun.
func (u *user) upload() upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.uploads) == 0 {
		u.missing = true
		return upload{}
	}
	last := u.uploads[max(0, len(u.uploads)-5):]
	return last[u.random.IntN(len(last))]
}

// disc is an image that goes into a drive.
func (u *user) disc() string {
	return u.any(u.list("DescribeImage", nil), func(i controllertest.Info) bool { return i.String("ImageFormat") == "iso" }).String("ImageID")
}
