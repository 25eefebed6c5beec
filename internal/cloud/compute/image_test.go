package compute_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/controller/controllertest"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow/workflowtest"
)

// image is one as its tenant sees it; nil when it is not listed.
func (w *world) imageInfo(t *testing.T, id string) info {
	t.Helper()
	infos := w.demo.Must(t, "DescribeImage", p{"ImageIDs": []string{id}}).Infos()
	if len(infos) == 0 {
		return nil
	}
	return infos[0]
}

func (w *world) awaitImage(t *testing.T, id, state string) info {
	t.Helper()
	var i info
	controllertest.Eventually(t, settle, id+" is "+state, func() bool {
		i = w.imageInfo(t, id)
		return i.String("ImageStatus") == state
	})
	return i
}

// files are the images that hosts have.
func (w *world) files(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, id := range w.Simulator.IDs() {
		h, err := w.Simulator.Dial(id, "")
		if err != nil {
			t.Fatal(err)
		}
		l, err := h.List(context.Background(), &pb.ListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l.Images...)
	}
	slices.Sort(out)
	return out
}

func TestCustomImage(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		stranger := w.NewTenant(t)
		id := w.create(t, nil)
		ask := p{"VMID": id, "ImageName": "golden", "ImageDescription": "of a test"}
		w.demo.Refuse(t, retcode.VMNotStopped, "CreateCustomImage", ask)
		w.demo.Refuse(t, retcode.VMNotFound, "CreateCustomImage", p{"VMID": "vm-00000000000000", "ImageName": "x"})
		w.stop(t, id)
		before, files := w.usage(t), w.files(t)
		w.delay(t, "ExportVolume", 400*time.Millisecond)
		image := w.demo.Must(t, "CreateCustomImage", ask).String("ImageID")
		if s := w.vm(t, id).String("State"); s != "Imaging" {
			t.Errorf("the machine is %s", s)
		}
		for _, name := range []string{"StartVMInstance", "DeleteVMInstance"} {
			w.demo.Refuse(t, retcode.VMMakingImage, name, p{"VMID": id})
		}
		w.demo.Refuse(t, retcode.VMMakingImage, "CreateCustomImage", ask)
		w.demo.Refuse(t, retcode.InvalidImageState, "CreateVMInstance", w.ask(p{"ImageID": image}))
		w.demo.Refuse(t, retcode.InvalidImageState, "DeleteCustomImage", p{"ImageID": image})
		i := w.awaitImage(t, image, "Used")
		w.await(t, id, "Stopped")
		w.delay(t, "ExportVolume", 0)
		if i.String("Name") != "golden" || i.String("ImageType") != "Custom" || i.Int("ImageSize") != 40 || i.Int("Progress") != 100 {
			t.Errorf("described as %v", i)
		}
		stranger.Refuse(t, retcode.ImageNotFound, "DeleteCustomImage", p{"ImageID": image})
		stranger.Refuse(t, retcode.ImageNotFound, "GetImageDownloadURL", p{"ImageID": image})
		if n := stranger.Must(t, "DescribeImage", p{"ImageIDs": []string{image}}).Int("TotalCount"); n != 0 {
			t.Error("others see a custom image")
		}

		// The link serves the file, to whoever has it, for a day.
		link := info(w.demo.Must(t, "GetImageDownloadURL", p{"ImageID": image}).Body["Info"].(map[string]any))
		r, err := http.Get(link.String("DownloadQuery"))
		if err != nil {
			t.Fatal(err)
		}
		file, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || !bytes.HasPrefix(file, []byte("QFI\xfb")) {
			t.Fatalf("%d %v: %.20q", r.StatusCode, err, file)
		}

		// A machine of it keeps it.
		large := w.bigger(t, image)
		w.demo.Refuse(t, retcode.BootDiskTooSmall, "CreateVMInstance", w.ask(p{"ImageID": large, "BootDiskSpace": 40}))
		w.demo.Refuse(t, retcode.BootDiskTooSmall, "ReinstallVMInstance", p{"VMID": id, "ImageID": large})
		w.demo.Must(t, "DeleteCustomImage", p{"ImageID": large})
		w.demo.Must(t, "TerminateResource", p{"ResourceID": large})
		controllertest.Eventually(t, settle, "the large image is destroyed", func() bool { return w.binned(t, large) == nil })
		second := w.create(t, p{"ImageID": image})
		w.demo.Refuse(t, retcode.ImageInUse, "DeleteCustomImage", p{"ImageID": image})
		w.stop(t, second)
		w.destroy(t, second)
		w.demo.Must(t, "DeleteCustomImage", p{"ImageID": image})
		w.demo.Refuse(t, retcode.InvalidImageBizState, "CreateVMInstance", w.ask(p{"ImageID": image}))
		w.demo.Refuse(t, retcode.InvalidImageBizState, "DeleteCustomImage", p{"ImageID": image})
		if w.imageInfo(t, image) != nil || w.binned(t, image).String("ResourceType") != "Image" {
			t.Error("a deleted image is not in the bin")
		}
		w.demo.Must(t, "RollbackResource", p{"ResourceID": image})
		w.demo.Refuse(t, retcode.ResourceAlreadyEnabled, "RollbackResource", p{"ResourceID": image})
		w.demo.Refuse(t, retcode.InvalidResourceBizState, "TerminateResource", p{"ResourceID": image})
		w.demo.Must(t, "DeleteCustomImage", p{"ImageID": image})
		w.demo.Must(t, "TerminateResource", p{"ResourceID": image})
		controllertest.Eventually(t, settle, "the image is destroyed", func() bool { return w.binned(t, image) == nil })
		w.demo.Refuse(t, retcode.ResourceTerminated, "TerminateResource", p{"ResourceID": image})
		if r, err := http.Get(link.String("DownloadQuery")); err != nil || r.StatusCode != http.StatusNotFound {
			t.Errorf("the link of a destroyed image: %v %v", r, err)
		}
		if after := w.usage(t); after != before {
			t.Errorf("used before: %s\nafter: %s", before, after)
		}
		if left := w.files(t); !slices.Equal(left, files) {
			t.Errorf("hosts had %v and have %v", files, left)
		}
	})
}

// bigger makes an image look larger than the smallest system disk: simulated hosts hold no bytes.
func (w *world) bigger(t *testing.T, id string) string {
	t.Helper()
	if err := w.DB.Transact(t.Context(), bigger(id)); err != nil {
		t.Fatal(err)
	}
	return "image-bigger00000000"
}

// Two images that are the same file are two images: what was made of one, by whomever, does not keep the other.
func TestTwinImages(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		file := qcow2(t, "1G")
		first, second := w.imported(t, "qcow2", file), w.imported(t, "qcow2", file)
		id := w.create(t, p{"ImageID": first})
		w.demo.Must(t, "DeleteCustomImage", p{"ImageID": second})
		w.demo.Must(t, "TerminateResource", p{"ResourceID": second})
		controllertest.Eventually(t, settle, "the twin is destroyed", func() bool { return w.binned(t, second) == nil })
		w.demo.Refuse(t, retcode.ImageInUse, "DeleteCustomImage", p{"ImageID": first})
		w.stop(t, id)
		w.demo.Must(t, "StartVMInstance", p{"VMID": id}) // its file is there
		w.await(t, id, "Running")
	})
}

func TestAbortImage(t *testing.T) {
	w := start(t, controllertest.Options{})
	id := w.create(t, nil)
	w.stop(t, id)
	before, files := w.usage(t), w.files(t)
	w.delay(t, "ExportVolume", time.Second)
	image := w.demo.Must(t, "CreateCustomImage", p{"VMID": id, "ImageName": "never"}).String("ImageID")
	w.demo.Must(t, "AbortCustomImage", p{"ImageID": image})
	if i := w.awaitImage(t, image, "Failed"); i.String("Reason") == "" {
		t.Error("an aborted image has no reason")
	}
	w.await(t, id, "Stopped")
	w.delay(t, "ExportVolume", 0)
	w.demo.Refuse(t, retcode.InvalidImageState, "AbortCustomImage", p{"ImageID": image})
	w.demo.Refuse(t, retcode.ImageNotFound, "AbortCustomImage", p{"ImageID": w.image})
	w.demo.Must(t, "DeleteCustomImage", p{"ImageID": image})
	if w.imageInfo(t, image) != nil {
		t.Error("a failed image is listed after its deletion")
	}
	if after := w.usage(t); after != before || !slices.Equal(files, w.files(t)) {
		t.Errorf("before: %s %v\nafter: %s %v", before, files, after, w.files(t))
	}
}

func TestImageQuota(t *testing.T) {
	w := start(t, controllertest.Options{})
	local := p{"CompanyID": w.demo.Company, "ImageName": "one", "ImageFormat": "qcow2", "ImportType": "Local", "OSDistribution": "Debian", "OSType": "Linux"}
	for range 10 {
		w.demo.Must(t, "ImportImage", local)
	}
	w.demo.Refuse(t, retcode.QuotaExceeded, "ImportImage", local)
}

func TestMakeImageWorkflow(t *testing.T) {
	failed := func(t *testing.T, before, after any) {
		t.Helper()
		if text := fmt.Sprint(after); !strings.Contains(text, " Stopped placed ") {
			t.Errorf("after a failure: %s", text)
		}
	}
	workflowCase(t, "image.make", "CreateCustomImage", failed, func(t *testing.T, w *world) p {
		q := stopped(t, w)
		return p{"VMID": q["VMID"], "ImageName": "golden"}
	})
}

// qcow2 makes an image file with qemu-img.
func qcow2(t *testing.T, size string, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.qcow2")
	if out, err := exec.Command("qemu-img", append(append([]string{"create", "-q", "-f", "qcow2"}, args...), path, size)...).CombinedOutput(); err != nil {
		t.Skipf("qemu-img: %v %s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// disc is an ISO 9660 disc as far as anybody here looks at one.
func disc() []byte {
	b := make([]byte, 0x9000)
	copy(b[0x8001:], "CD001")
	return b
}

// put sends one part and answers the status and its ETag.
func (w *world) put(t *testing.T, image, upload string, number int, body []byte) (int, string) {
	t.Helper()
	sum := md5.Sum(body)
	link := w.demo.Must(t, "UploadImagePart", p{"ImageID": image, "UploadID": upload, "PartNumber": number, "PartSize": len(body),
		"ContentMD5": base64.StdEncoding.EncodeToString(sum[:])}).String("UploadURL")
	return send(t, link, body)
}

func send(t *testing.T, link string, body []byte) (int, string) {
	t.Helper()
	q, err := http.NewRequest(http.MethodPut, link, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	return r.StatusCode, strings.Trim(r.Header.Get("ETag"), `"`)
}

func TestUploadImage(t *testing.T) {
	each(t, controllertest.Options{}, func(t *testing.T, w *world) {
		stranger := w.NewTenant(t)
		file := qcow2(t, "1G")
		file = append(file, make([]byte, 100<<10)...) // several parts; what follows the last cluster is nothing
		ask := p{"CompanyID": w.demo.Company, "ImageName": "mine", "ImageFormat": "qcow2", "ImportType": "Local", "OSDistribution": "Debian",
			"OSType": "Linux", "OSVersion": "12", "SupportCloudInit": true, "SupportQGA": true, "PartSize": 64 << 10}
		with := func(more p) p {
			q := p{}
			for k, v := range ask {
				q[k] = v
			}
			for k, v := range more {
				q[k] = v
			}
			return q
		}
		for _, format := range []string{"vmdk", "raw"} {
			w.demo.Refuse(t, retcode.InvalidImageFormat, "ImportImage", with(p{"ImageFormat": format}))
		}
		w.demo.Refuse(t, retcode.ImageTooLarge, "ImportImage", with(p{"ImageSize": 11}))
		w.demo.Refuse(t, retcode.InvalidParameter, "ImportImage", with(p{"PartSize": 1}))
		w.demo.Refuse(t, retcode.AdminOnly, "ImportImage", with(p{"CompanyID": stranger.Company}))

		begin := func(more p) (image, upload string) {
			t.Helper()
			r := w.demo.Must(t, "ImportImage", with(more))
			return r.String("ImageID"), r.String("UploadID")
		}
		image, upload := begin(nil)
		in := p{"ImageID": image, "UploadID": upload}
		if s := w.imageInfo(t, image).String("ImageStatus"); s != "Uploading" {
			t.Errorf("it is %s", s)
		}
		w.demo.Refuse(t, retcode.InvalidParameter, "CompleteImageMultipartUpload", in)
		stranger.Refuse(t, retcode.ImageNotFound, "UploadImagePart", p{"ImageID": image, "UploadID": upload, "PartNumber": 1})
		w.demo.Refuse(t, retcode.ResourceNotFound, "ListImageParts", p{"ImageID": image, "UploadID": "up-00000000000000"})
		var etags []string
		for n := 0; n*(64<<10) < len(file); n++ {
			body := file[n*(64<<10) : min(len(file), (n+1)*(64<<10))]
			for range 2 { // the second replaces the first
				status, etag := w.put(t, image, upload, n+1, body)
				if sum := md5.Sum(body); status != http.StatusCreated || etag != hex.EncodeToString(sum[:]) {
					t.Fatalf("part %d: %d %s", n+1, status, etag)
				}
				etags = append(etags[:n], etag)
			}
		}
		list := w.demo.Must(t, "ListImageParts", in)
		if list.Int("TotalCount") != len(etags) || list.Int("PartSize") != 64<<10 || list.Infos()[1].String("ETag") != etags[1] {
			t.Errorf("parts: %v", list.Body)
		}
		// What does not come as announced is not taken.
		link := w.demo.Must(t, "UploadImagePart", p{"ImageID": image, "UploadID": upload, "PartNumber": 1, "PartSize": 10}).String("UploadURL")
		if status, _ := send(t, link, []byte("short")); status != http.StatusConflict {
			t.Errorf("a part that is too short: %d", status)
		}
		if status, _ := send(t, link, make([]byte, 11)); status != http.StatusRequestEntityTooLarge {
			t.Errorf("a part that is too long: %d", status)
		}
		if status, _ := send(t, strings.TrimSuffix(w.URL, "/api")+"/upload/nonsense", []byte("x")); status != http.StatusNotFound {
			t.Errorf("a made-up address: %d", status)
		}
		w.demo.Refuse(t, retcode.InvalidParameter, "CompleteImageMultipartUpload",
			p{"ImageID": image, "UploadID": upload, "Parts.0.PartNumber": 1, "Parts.0.ETag": "nonsense"})
		w.demo.Must(t, "CompleteImageMultipartUpload", in)
		i := w.awaitImage(t, image, "Used")
		if i.Int("ImageSize") != 1 || i.String("OSName") != "Debian 12" || !strings.Contains(fmt.Sprint(i["SupportQGA"]), "true") {
			t.Errorf("described as %v", i)
		}
		w.demo.Refuse(t, retcode.InvalidImageState, "UploadImagePart", p{"ImageID": image, "UploadID": upload, "PartNumber": 1})
		w.create(t, p{"ImageID": image})
		if left, err := os.ReadDir(filepath.Join(w.Config.Dir, "uploads")); err == nil {
			controllertest.Eventually(t, settle, "the parts are gone", func() bool {
				left, err = os.ReadDir(filepath.Join(w.Config.Dir, "uploads"))
				return err == nil && len(left) == 0
			})
		}

		// Files that are not what they say.
		for name, c := range map[string]struct {
			format string
			body   []byte
		}{
			"text as qcow2":       {"qcow2", []byte("hello")},
			"qcow2 as disc":       {"iso", file[:64<<10]},
			"another file's name": {"qcow2", backed(t)},
		} {
			image, upload := begin(p{"ImageFormat": c.format, "PartSize": 1 << 20})
			w.put(t, image, upload, 1, c.body)
			if r := w.demo.Call(t, "CompleteImageMultipartUpload", p{"ImageID": image, "UploadID": upload}); r.Code != retcode.InvalidImageFormat {
				t.Errorf("%s: %d %s", name, r.Code, r.Message)
			}
			w.demo.Must(t, "AbortImageMultipartUpload", p{"ImageID": image, "UploadID": upload})
			w.awaitImage(t, image, "Failed")
			w.demo.Must(t, "DeleteCustomImage", p{"ImageID": image})
		}
	})
}

// backed is an image that names a file of the host.
func backed(t *testing.T) []byte {
	t.Helper()
	b := qcow2(t, "1G", "-u", "-F", "raw", "-b", "/etc/shadow")
	return b[:min(len(b), 1<<20)]
}

// TestEncryptedImage: an image of an encrypted system disk is encrypted, and so is what is made of it, with the same key.
func TestEncryptedImage(t *testing.T) {
	w := start(t, controllertest.Options{Hosts: 1})
	encoded := func(key string) string { return base64.StdEncoding.EncodeToString([]byte(key)) }
	secret := encoded("a key of a tenant")
	first := w.create(t, p{"BootDiskSecret": secret})
	w.stop(t, first)
	image := w.demo.Must(t, "CreateCustomImage", p{"VMID": first, "ImageName": "sealed"}).String("ImageID")
	if i := w.awaitImage(t, image, "Used"); i["Encrypted"] != true {
		t.Errorf("described as %v", i)
	}
	for _, state := range []string{"Used", "Available"} { // the latter is an older client's word
		if n := w.demo.Must(t, "DescribeImage", p{"ImageType": "Custom", "Statuses": []string{state}}).Int("TotalCount"); n != 1 {
			t.Errorf("%d images are %s", n, state)
		}
	}
	w.await(t, first, "Stopped")
	w.demo.Refuse(t, retcode.InvalidParameter, "CreateVMInstance", w.ask(p{"ImageID": image, "BootDiskSecret": secret}))
	w.Admin.Refuse(t, retcode.InvalidParameter, "CloneCustomImageToBaseImage", p{"SourceImageID": image, "DestImageName": "sealed"})

	quote := func(more p) any {
		q := p{"VMType": w.vmType, "CPU": 1, "Memory": 1024, "BootDiskSetType": w.storage, "ChargeType": "Month", "ImageID": w.image}
		for k, v := range more {
			q[k] = v
		}
		return w.demo.Must(t, "GetVMInstancePrice", q).Infos()[0]["Price"]
	}
	if sealed, other := quote(p{"ImageID": image}), quote(p{"BootDiskSecret": secret}); sealed != other || sealed == quote(nil) {
		t.Errorf("of the image a machine costs %v, with a key %v, without %v", sealed, other, quote(nil))
	}
	second := w.create(t, p{"ImageID": image})
	for _, vm := range []string{first, second} {
		system := w.vm(t, vm).List("DiskInfos")[0].String("DiskID")
		if d := w.disk(t, system); d["Encrypted"] != true || d.Int("Size") != 41 || string(w.host(t, system).Disk(vm, system).GetSecret()) != secret {
			t.Errorf("the system disk of %s is %v", vm, d)
		}
	}
	// A disk's key is for life.
	plain, other := w.create(t, p{"BootDiskSpace": 41}), w.create(t, p{"BootDiskSecret": encoded("another key")})
	for vm, want := range map[string]retcode.Code{plain: retcode.InvalidParameter, other: retcode.InvalidParameter, first: retcode.OK} {
		if vm != first {
			w.stop(t, vm)
		}
		if got := w.demo.Call(t, "ReinstallVMInstance", p{"VMID": vm, "ImageID": image}).Code; got != want {
			t.Errorf("a new system for %s: %d, want %d", vm, got, want)
		}
	}
	w.await(t, first, "Stopped")
	w.demo.Must(t, "ReinstallVMInstance", p{"VMID": other, "ImageID": w.image}) // one in the clear fits every disk
	w.await(t, other, "Stopped")
	if d := w.disk(t, w.vm(t, other).List("DiskInfos")[0].String("DiskID")); d["Encrypted"] != true {
		t.Errorf("its disk is %v", d)
	}
	var stored string
	if err := w.DB.Reader().NewRaw("SELECT secret FROM image WHERE id = ?", image).Scan(t.Context(), &stored); err != nil || stored == "" || strings.Contains(stored, secret) {
		t.Errorf("the database has %q, %v", stored, err)
	}
}

// TestUploadedHeader: a header that only qemu-img finds wrong is found by it, and the image fails with 1003.
func TestUploadedHeader(t *testing.T) {
	w := start(t, controllertest.Options{})
	r := w.demo.Must(t, "ImportImage", p{"CompanyID": w.demo.Company, "ImageName": "cut", "ImageFormat": "qcow2", "ImportType": "Local", "OSDistribution": "Debian", "OSType": "Linux"})
	image, upload := r.String("ImageID"), r.String("UploadID")
	w.put(t, image, upload, 1, qcow2(t, "1G")[:4096])
	w.demo.Must(t, "CompleteImageMultipartUpload", p{"ImageID": image, "UploadID": upload})
	w.awaitImage(t, image, "Failed")
	if got := w.demo.OPLog(t, "CompleteImageMultipartUpload", image).Int("RetCode"); got != int(retcode.InvalidImageFormat) {
		t.Errorf("it ended with %d", got)
	}
}

// TestImportFromAddress: from a web server; the cloud's own addresses are refused, also behind a redirect.
func TestImportFromAddress(t *testing.T) {
	file := qcow2(t, "1G")
	mux := http.NewServeMux()
	mux.HandleFunc("/image", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(file) })
	mux.HandleFunc("/text", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	})
	mux.HandleFunc("/middling", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(int64(2)<<30))
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(int64(600)<<30))
	})
	mirror := httptest.NewServer(mux)
	defer mirror.Close()
	hidden := 0
	secret := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { hidden++; _, _ = w.Write(file) }))
	l, err := newListener("127.0.0.2:0")
	if err != nil {
		t.Skip(err)
	}
	secret.Listener = l
	secret.Start()
	defer secret.Close()

	w := start(t, controllertest.Options{Configure: func(c *controller.Config) { c.ImportFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} }})
	load := func(url, format string) string {
		t.Helper()
		return w.demo.Must(t, "ImportImage", p{"CompanyID": w.demo.Company, "ImageName": "loaded", "ImageFormat": format, "ImportType": "Remote",
			"LoadURL": url, "OSDistribution": "Debian", "OSType": "Linux"}).String("ImageID")
	}
	image := load(mirror.URL+"/away?to="+mirror.URL+"/image", "qcow2")
	if i := w.awaitImage(t, image, "Used"); i.Int("VirtualSize") != 1 {
		t.Errorf("described as %v", i)
	}
	for url, want := range map[string]retcode.Code{
		mirror.URL + "/away?to=" + secret.URL:           retcode.InvalidParameter,
		secret.URL:                                      retcode.InvalidParameter,
		"http://169.254.169.254/latest/":                retcode.InvalidParameter,
		"http://[::1]:1/":                               retcode.InvalidParameter,
		mirror.URL + "/away?to=" + "file:///etc/passwd": retcode.InvalidParameter,
		mirror.URL + "/nothing":                         retcode.InvalidParameter,
		mirror.URL + "/text":                            retcode.InvalidImageFormat,
		mirror.URL + "/large":                           retcode.ImageTooLarge,
	} {
		image := load(url, "qcow2")
		w.awaitImage(t, image, "Failed")
		if got := w.demo.OPLog(t, "ImportImage", image).Int("RetCode"); got != int(want) {
			t.Errorf("%s ended with %d, want %d: %s", url, got, want, w.imageInfo(t, image).String("Reason"))
		}
		w.demo.Must(t, "DeleteCustomImage", p{"ImageID": image})
	}
	if hidden > 0 {
		t.Errorf("the hidden server was asked %d times", hidden)
	}
	remote := p{"CompanyID": w.demo.Company, "ImageName": "x", "ImageFormat": "qcow2", "ImportType": "Remote", "OSDistribution": "Debian", "OSType": "Linux"}
	// Of a file at an address, too, ImageSize is the most.
	remote["LoadURL"], remote["ImageSize"] = mirror.URL+"/middling", 1
	small := w.demo.Must(t, "ImportImage", remote).String("ImageID")
	w.awaitImage(t, small, "Failed")
	if got := w.demo.OPLog(t, "ImportImage", small).Int("RetCode"); got != int(retcode.ImageTooLarge) {
		t.Errorf("2 GiB where 1 was announced: %d", got)
	}
	remote["ImageSize"] = 501
	w.demo.Refuse(t, retcode.ImageTooLarge, "ImportImage", remote)
	delete(remote, "LoadURL")
	delete(remote, "ImageSize")
	w.demo.Refuse(t, retcode.MissingParameter, "ImportImage", remote)
	for _, url := range []string{"ftp://example.com/x", "file:///etc/passwd", "http://user:password@example.com/"} {
		remote["LoadURL"] = url
		w.demo.Refuse(t, retcode.InvalidParameter, "ImportImage", remote)
	}
}

func TestImportWorkflow(t *testing.T) {
	file := qcow2(t, "1G")
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(file) }))
	defer mirror.Close()
	failed := func(*testing.T, any, any) {}
	workflowtest.Run(t, workflowtest.Case{Workflow: "image.import", Failed: failed, New: func(t *testing.T) *workflowtest.World {
		w := start(t, controllertest.Options{Hosts: 1, Configure: func(c *controller.Config) { c.ImportFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }})
		return &workflowtest.World{Engine: w.Engine, DB: w.DB, Snapshot: w.snapshot, Start: func(t *testing.T) {
			w.demo.Must(t, "ImportImage", p{"CompanyID": w.demo.Company, "ImageName": "x", "ImageFormat": "qcow2", "ImportType": "Remote", "LoadURL": mirror.URL,
				"OSDistribution": "Debian", "OSType": "Linux"})
		}}
	}})
}

func TestJoinWorkflow(t *testing.T) {
	failed := func(*testing.T, any, any) {}
	workflowtest.Run(t, workflowtest.Case{Workflow: "image.join", Failed: failed, New: func(t *testing.T) *workflowtest.World {
		w := oneHost(t)
		image, upload := w.uploaded(t, "qcow2", qcow2(t, "1G"))
		return &workflowtest.World{Engine: w.Engine, DB: w.DB, Snapshot: w.snapshot, Start: func(t *testing.T) {
			w.demo.Must(t, "CompleteImageMultipartUpload", p{"ImageID": image, "UploadID": upload})
		}}
	}})
}

func TestTerminateImageWorkflow(t *testing.T) {
	failed := func(*testing.T, any, any) {}
	workflowtest.Run(t, workflowtest.Case{Workflow: "image.terminate", Failed: failed, New: func(t *testing.T) *workflowtest.World {
		w := oneHost(t)
		image := w.imported(t, "iso", disc())
		w.demo.Must(t, "DeleteCustomImage", p{"ImageID": image})
		return &workflowtest.World{Engine: w.Engine, DB: w.DB, Snapshot: w.snapshot, Start: func(t *testing.T) {
			w.demo.Must(t, "TerminateResource", p{"ResourceID": image})
		}}
	}})
}

// uploaded begins an upload of one part, imported makes an image of it.
func (w *world) uploaded(t *testing.T, format string, file []byte) (image, upload string) {
	t.Helper()
	r := w.demo.Must(t, "ImportImage", p{"CompanyID": w.demo.Company, "ImageName": "up", "ImageFormat": format, "ImportType": "Local",
		"OSDistribution": "Debian", "OSType": "Linux"})
	image, upload = r.String("ImageID"), r.String("UploadID")
	if status, _ := w.put(t, image, upload, 1, file); status != http.StatusCreated {
		t.Fatalf("the part: %d", status)
	}
	return image, upload
}

func (w *world) imported(t *testing.T, format string, file []byte) string {
	t.Helper()
	image, upload := w.uploaded(t, format, file)
	w.demo.Must(t, "CompleteImageMultipartUpload", p{"ImageID": image, "UploadID": upload})
	w.awaitImage(t, image, "Used")
	return image
}
