package cli

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// imageTransient are the states that pass by themselves.
var imageTransient = []string{"Making", "Uploading"}

// imageOptions say what a file cannot.
type imageOptions struct {
	name, system, distribution, version, arch, boot string
	cloudInit, agent                                bool
}

func (o *imageOptions) flags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "name of the image; the file's when left out")
	f.StringVar(&o.system, "os", "Linux", "Linux or Windows")
	f.StringVar(&o.distribution, "distribution", "Linux", "e.g. Debian")
	f.StringVar(&o.version, "version", "", "e.g. 12")
	f.StringVar(&o.arch, "arch", "x86_64", "x86_64 or aarch64")
	f.StringVar(&o.boot, "boot", "bios", "bios or uefi")
	f.BoolVar(&o.cloudInit, "cloud-init", false, "it reads the seed")
	f.BoolVar(&o.agent, "agent", false, "it runs qemu-guest-agent")
	return cmd
}

// params of ImportImage; the format is told by the name's end.
func (o *imageOptions) params(ctx context.Context, s *session, file, kind string) (Params, error) {
	format := "qcow2"
	if strings.EqualFold(filepath.Ext(file), ".iso") {
		format = "iso"
	}
	name := o.name
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	}
	// Whose the account is, as what it has says.
	own, err := vpcs.first(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	return Params{"CompanyID": own.text("CompanyID"), "ImageName": name, "ImageFormat": format, "ImportType": kind, "OSType": o.system, "OSDistribution": o.distribution,
		"OSVersion": o.version, "SetArch": o.arch, "BootloaderType": o.boot, "SupportCloudInit": o.cloudInit, "SupportQGA": o.agent}, nil
}

func (s *session) awaitImage(ctx context.Context, id string) error {
	o, err := images.settle(ctx, s, id, imageTransient, "Used")
	if err != nil {
		return err
	}
	return s.detail(o, images.columns)
}

func imageMakeCommand() *cobra.Command {
	cmd := vms.on(command("create VM NAME", "Make one of a stopped machine's system disk", cobra.ExactArgs(2), func(ctx context.Context, s *session, args []string) error {
		vm, err := vms.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var made struct{ ImageID string }
		if _, err := s.Call(ctx, "CreateCustomImage", Params{"VMID": vm.text("VMID"), "ImageName": args[1]}, &made); err != nil {
			return err
		}
		return s.awaitImage(ctx, made.ImageID)
	}))
	return cmd
}

func imageLoadCommand() *cobra.Command {
	var o imageOptions
	return o.flags(command("load URL", "Import one from a web address that the server reaches", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		p, err := o.params(ctx, s, args[0], "Remote")
		if err != nil {
			return err
		}
		p["LoadURL"] = args[0]
		var made struct{ ImageID string }
		if _, err := s.Call(ctx, "ImportImage", p, &made); err != nil {
			return err
		}
		return s.awaitImage(ctx, made.ImageID)
	}))
}

func imageUploadCommand() *cobra.Command {
	var o imageOptions
	var part int
	var resume string
	cmd := o.flags(command("upload FILE", "Import a qcow2 or iso file of this machine", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		image, upload, there := strings.Cut(resume, "/")
		if resume != "" && !there {
			return errors.New("--resume takes IMAGE/UPLOAD, as the upload that broke off told it")
		}
		if resume == "" {
			p, err := o.params(ctx, s, args[0], "Local")
			if err != nil {
				return err
			}
			p["PartSize"] = part << 20
			var made struct{ ImageID, UploadID string }
			if _, err := s.Call(ctx, "ImportImage", p, &made); err != nil {
				return err
			}
			image, upload = made.ImageID, made.UploadID
		}
		in := Params{"ImageID": image, "UploadID": upload}
		if err := s.sendParts(ctx, f, in); err != nil {
			var refusal *Error
			if !errors.As(err, &refusal) { // the way to the server broke, or the one who waits was interrupted
				return fmt.Errorf("%w\nwhat has come stays for 7 days: go on with --resume %s/%s", err, image, upload)
			}
			if _, abort := s.Call(context.WithoutCancel(ctx), "AbortImageMultipartUpload", in, nil); abort != nil {
				fmt.Fprintln(s.err, abort)
			}
			return err
		}
		if _, err := s.Call(ctx, "CompleteImageMultipartUpload", in, nil); err != nil {
			return err
		}
		return s.awaitImage(ctx, image)
	}))
	cmd.Flags().IntVar(&part, "part", 64, "MiB that are sent at once, 1 to 1024")
	cmd.Flags().StringVar(&resume, "resume", "", "IMAGE/UPLOAD of an upload of the same file that broke off")
	return cmd
}

// sendParts sends a file in parts, each with its sum, but for those that have come.
func (s *session) sendParts(ctx context.Context, f io.Reader, in Params) error {
	var there struct {
		PartSize int64
		Infos    []struct {
			PartNumber int
			ETag       string
		}
	}
	if _, err := s.Call(ctx, "ListImageParts", in, &there); err != nil {
		return err
	}
	have := map[int]string{}
	for _, p := range there.Infos {
		have[p.PartNumber] = p.ETag
	}
	buf := make([]byte, there.PartSize)
	for number := 1; ; number++ {
		n, err := io.ReadFull(f, buf)
		if n == 0 {
			return nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		sum := md5.Sum(buf[:n])
		if have[number] == hex.EncodeToString(sum[:]) {
			fmt.Fprintf(s.err, "part %d has come\n", number)
			continue
		}
		var part struct{ UploadURL string }
		p := Params{"ImageID": in["ImageID"], "UploadID": in["UploadID"], "PartNumber": number, "PartSize": n,
			"ContentMD5": base64.StdEncoding.EncodeToString(sum[:])}
		if _, err := s.Call(ctx, "UploadImagePart", p, &part); err != nil {
			return err
		}
		if err := s.put(ctx, part.UploadURL, buf[:n]); err != nil {
			return fmt.Errorf("part %d: %w", number, err)
		}
		fmt.Fprintf(s.err, "part %d, %d bytes\n", number, n)
	}
}

func (s *session) put(ctx context.Context, url string, body []byte) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	client := *s.HTTP
	client.Timeout = 0 // a part may take long
	r, err := client.Do(q)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode == http.StatusCreated {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(r.Body, 1000))
	return fmt.Errorf("%s: %s", r.Status, strings.TrimSpace(string(text)))
}

func imageLinkCommand() *cobra.Command {
	return images.on(command("link IMAGE", "Show a link to its file, which ends after 24 hours", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		o, err := images.find(ctx, s, args[0])
		if err != nil {
			return err
		}
		var link struct {
			Info struct{ DownloadQuery string }
		}
		if _, err := s.Call(ctx, "GetImageDownloadURL", Params{"ImageID": o.text("ImageID")}, &link); err != nil {
			return err
		}
		fmt.Fprintln(s.out, link.Info.DownloadQuery)
		return nil
	}))
}

func imageDeleteCommand() *cobra.Command {
	return images.on(command("delete IMAGE...", "Move custom images to the recycle bin", cobra.MinimumNArgs(1), func(ctx context.Context, s *session, args []string) error {
		return each(args, func(ref string) error {
			o, err := images.find(ctx, s, ref)
			if err == nil {
				_, err = s.Call(ctx, "DeleteCustomImage", Params{"ImageID": o.text("ImageID")}, nil)
			}
			return err
		})
	}))
}
