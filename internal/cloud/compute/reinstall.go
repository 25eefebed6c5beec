package compute

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/block"
	"github.com/lingyun-cloud/lingyun/internal/cloud/lifecycle"
	"github.com/lingyun-cloud/lingyun/internal/hostlink"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

type reinstallRequest struct {
	VMID       string   `validate:"required" doc:"virtual machine id"`
	ImageID    string   `validate:"required" doc:"base or custom image id, of the same family of systems"`
	Password   string   `doc:"a new one; empty: as before"`
	UserData   string   `doc:"new cloud-init data in base64, at most 1 MiB decoded; empty: as before"`
	KeyPairIDs []string `doc:"key pairs put into the guest in place of those before; empty: as before"`
	LoginUser  string   `validate:"omitempty,oneof=root ubuntu debian administrator" doc:"account that gets Password, default follows the image"`
	action.Tenant
}

// install is what a machine's system is made anew of. Texts are sealed as in the seed; empty: as before.
type install struct {
	Image, Login   string
	Hash, UserData string   `json:",omitempty"`
	Keys           []string `json:",omitempty"`
}

// fetchTime is how long the host may take to get an image that it has not.
const fetchTime = 30 * time.Minute

// reinstallVM makes the system disk of a stopped machine anew. Data disks, addresses and the machine's identity stay.
func (s *Service) reinstallVM(ctx context.Context, c *action.Call, q *reinstallRequest) (*action.Empty, error) {
	v, err := vmByID(ctx, s.DB.Reader(), c.Scope(), q.VMID)
	if err != nil {
		return nil, err
	}
	if err := check(v, Reinstall); err != nil && err != lifecycle.ErrRepeat {
		return nil, err
	}
	image, err := imageByID(ctx, s.DB.Reader(), v.scope(c), q.ImageID)
	if err != nil {
		return nil, err
	}
	if err := image.bootable(v.Arch); err != nil {
		return nil, err
	}
	if windows(image.OSType) != windows(v.OSType) {
		return nil, retcode.InvalidParameter.Errorf("ImageID: %s is %s, %s is %s", image.ID, image.OSType, v.ID, v.OSType)
	}
	if err := image.hears(instruction{"Password", q.Password != ""}, instruction{"LoginUser", q.LoginUser != ""},
		instruction{"UserData", q.UserData != ""}, instruction{"KeyPairIDs", len(q.KeyPairIDs) > 0}); err != nil {
		return nil, err
	}
	in := &install{Image: image.ID, Login: image.LoginUser}
	if q.LoginUser != "" {
		if windows(image.OSType) != (q.LoginUser == "administrator") {
			return nil, retcode.InvalidParameter.Errorf("LoginUser %s is no account of %s", q.LoginUser, image.OSName)
		}
		in.Login = q.LoginUser
	}
	if q.Password != "" {
		hash, err := s.newPassword(ctx, v.Region, q.Password, image.OSType, in.Login)
		if err != nil {
			return nil, err
		}
		in.Hash = s.Secret.Seal([]byte(hash), seedContext(v.ID, "password_hash"))
	}
	if q.UserData != "" {
		raw, err := decodeUserData(q.UserData)
		if err != nil {
			return nil, err
		}
		in.UserData = s.Secret.Seal(raw, seedContext(v.ID, "user_data"))
	}
	if in.Keys, err = s.keyPairs(ctx, s.DB.Reader(), v.scope(c), q.KeyPairIDs); err != nil {
		return nil, err
	}
	return nil, s.act(ctx, c, q.VMID, Reinstall, WaitReinstall, s.flows.reinstall, func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error) {
		disk, err := bootDisk(ctx, tx, v.ID)
		if err != nil {
			return nil, err
		}
		if least := image.virtualGB(); disk.SizeGB < least {
			return nil, retcode.BootDiskTooSmall.Errorf("the system disk of %s has %d GB, image %s needs %d", v.ID, disk.SizeGB, image.ID, least)
		}
		if err := s.sameKey(image, disk); err != nil {
			return nil, err
		}
		j.Install = in
		return nil, image.holdTx(ctx, tx)
	})
}

// sameKey refuses an encrypted image for a system disk with another key or none (113): a disk's is for life. An image in
// the clear fits every disk.
func (s *Service) sameKey(image *Image, disk *block.Disk) error {
	wanted, err := s.passphrase(image)
	if err != nil || wanted == "" {
		return err
	}
	has, err := s.Block.Passphrase(disk)
	if err == nil && string(has) != wanted {
		err = retcode.InvalidParameter.Errorf("ImageID: %s is encrypted with another key than the system disk of %s", image.ID, disk.VMID)
	}
	return err
}

// decodeUserData checks a parameter UserData: 4, 113.
func decodeUserData(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, retcode.InvalidParameterFormat.Errorf("UserData must be base64")
	}
	if len(raw) > hostlink.MaxUserData {
		return nil, retcode.InvalidParameter.Errorf("UserData is at most %d MiB", hostlink.MaxUserData>>20)
	}
	return raw, nil
}

// bootDisk is a machine's system disk.
func bootDisk(ctx context.Context, idb bun.IDB, vm string) (*block.Disk, error) {
	all, err := block.Of(ctx, idb, vm)
	if err != nil {
		return nil, err
	}
	for _, d := range all[vm] {
		if d.Role == block.Boot {
			return &d, nil
		}
	}
	return nil, retcode.ResourceNotFound.Errorf("%s has no system disk", vm)
}

// fetchImage gives the host the image while the old system is still there.
func (s *Service) fetchImage(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	image, err := anyImage(ctx, s.DB.Reader(), action.Scope{}, j.Install.Image)
	if err != nil {
		return err
	}
	if err := s.Fleet.EnsureImage(ctx, v.HostID, image.Digest); err != nil {
		return s.hostFailure(ctx, v, err, retcode.SystemBusy.Errorf("the host could not get image %s", image.ID))
	}
	return nil
}

// replaceSystem is the point of no return: from its transaction on the machine is one of the new image, whatever
// happens. A volume that could not be made is made by the next start.
func (s *Service) replaceSystem(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	if v.State == WaitReinstall {
		if err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.adoptImage(ctx, tx, j) }); err != nil {
			return err
		}
	}
	disk, err := bootDisk(ctx, s.DB.Reader(), v.ID)
	if err != nil {
		return err
	}
	return s.replaceVolume(ctx, v, j, *disk)
}

func (s *Service) replaceVolume(ctx context.Context, v *VM, j *job, disk block.Disk) error {
	failure := retcode.SystemBusy.Errorf("the system disk of %s could not be made, the next start tries again", v.ID)
	if err := s.removeDomain(ctx, j); err != nil {
		return s.hostFailure(ctx, v, err, failure)
	}
	if err := s.Block.Reimage(ctx, disk); err != nil {
		return s.hostFailure(ctx, v, err, failure)
	}
	return nil
}

// adoptImage writes what the machine is from now on.
func (s *Service) adoptImage(ctx context.Context, tx bun.Tx, j *job) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation || v.State != WaitReinstall {
		return err
	}
	image, err := anyImage(ctx, tx, action.Scope{}, j.Install.Image)
	if err != nil {
		return err
	}
	disk, err := bootDisk(ctx, tx, v.ID)
	if err != nil {
		return err
	}
	if err := s.Block.ReimageTx(ctx, tx, disk, image.Digest); err != nil {
		return err
	}
	v.runs(image)
	v.LoginUser = j.Install.Login
	v.Installs++
	if _, err := s.settle(ctx, tx, v, Reinstalling, "image_id", "image_name", "os_type", "os_name", "uefi", "cloud_init", "qga", "hotplug",
		"login_user", "installs"); err != nil {
		return err
	}
	q := tx.NewUpdate().Model((*seed)(nil)).Where("vm_id = ?", v.ID).Set("mount_data = ''") // what is on data disks is not formatted again
	if j.Install.Hash != "" {
		q = q.Set("password_hash = ?", j.Install.Hash)
	}
	if j.Install.UserData != "" {
		q = q.Set("user_data = ?", j.Install.UserData)
	}
	if _, err := q.Exec(ctx); err != nil {
		return err
	}
	if len(j.Install.Keys) == 0 {
		return nil
	}
	return replaceKeys(ctx, tx, v.ID, j.Install.Keys)
}

// runs makes a machine one of an image.
func (v *VM) runs(i *Image) {
	v.ImageID, v.ImageName, v.OSType, v.OSName, v.LoginUser = i.ID, i.Name, i.OSType, i.OSName, i.LoginUser
	v.UEFI, v.CloudInit, v.QGA, v.Hotplug = i.UEFI, i.CloudInit, i.QGA, i.Hotplug
}

func (s *Service) registerReinstall() *workflow.Workflow[job] {
	return workflow.Register(s.Engine, workflow.Definition[job]{
		Name: "vm.reinstall",
		Steps: []workflow.Step[job]{
			{Name: "fetch", Do: s.fetchImage, Deadline: fetchTime},
			{Name: "replace", Do: s.replaceSystem},
		},
		Settle: s.stopped, Abort: s.startFailed,
	})
}
