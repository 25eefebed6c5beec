package compute

import (
	"context"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// vmISO: a disc is in a machine's drive.
type vmISO struct {
	bun.BaseModel `bun:"table:vm_iso"`

	VMID    string `bun:"vm_id,pk"`
	Slot    string `bun:"slot,pk"`
	ImageID string `bun:"image_id"`
}

// slots are the drives of a machine. In rescue mode the first one holds the rescue disc.
var slots = []string{"sda", "sdb"}

// disc is an image in a drive.
type disc struct {
	VMID    string `bun:"vm_id"`
	Slot    string `bun:"slot"`
	ImageID string `bun:"image_id"`
	Name    string `bun:"name"`
	Digest  string `bun:"digest"`
}

// discsOf reads the discs in machines' drives, by machine and slot.
func discsOf(ctx context.Context, idb bun.IDB, vms ...string) (map[string][]disc, error) {
	if len(vms) == 0 {
		return nil, nil
	}
	rows, err := database.Query[disc](ctx, idb, `SELECT d.vm_id, d.slot, d.image_id, i.name, i.digest FROM vm_iso AS d JOIN image AS i ON i.id = d.image_id
		WHERE d.vm_id IN (?) ORDER BY d.vm_id, d.slot`, vms)
	out := map[string][]disc{}
	for _, d := range rows {
		out[d.VMID] = append(out[d.VMID], d)
	}
	return out, err
}

func (s *Service) discActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "AttachISO", Module: "vm", Mutates: true, Extension: true,
			Summary: "Insert a disc image into a virtual machine."}, s.attachISO),
		action.Define(action.Spec{Name: "DetachISO", Module: "vm", Mutates: true, Extension: true,
			Summary: "Take a disc image out of a virtual machine."}, s.detachISO),
		action.Define(action.Spec{Name: "DescribeVMISO", Module: "vm", Extension: true,
			Summary: "List the disc images in a virtual machine."}, s.describeISO),
		action.Define(action.Spec{Name: "SetBootFromCdrom", Module: "vm", Mutates: true, Extension: true,
			Summary: "Boot a virtual machine from its disc, from its next start on."}, s.bootFromDisc),
		action.Define(action.Spec{Name: "UnSetBootFromCdrom", Module: "vm", Mutates: true, Extension: true,
			Summary: "Boot a virtual machine from its system disk again, from its next start on."}, s.bootFromDisk),
		action.Define(action.Spec{Name: "EnterVMRescue", Module: "vm", Mutates: true, Extension: true,
			Summary: "Start a stopped virtual machine from a rescue disc."}, s.enterRescue),
		action.Define(action.Spec{Name: "ExitVMRescue", Module: "vm", Mutates: true, Extension: true,
			Summary: "End rescue mode: the virtual machine is off."}, s.exitRescue),
	}
}

type isoRequest struct {
	VMID    string `validate:"required" doc:"virtual machine id"`
	ImageID string `validate:"required" doc:"image of format iso"`
	action.Tenant
}

// discImage finds an image that can be inserted: 1000, 1001, 1002, 1003, 1018.
func (s *Service) discImage(ctx context.Context, c *action.Call, v *VM, id string) (*Image, error) {
	image, err := imageByID(ctx, s.DB.Reader(), v.scope(c), id)
	if err != nil {
		return nil, err
	}
	if err := image.usable(); err != nil {
		return nil, err
	}
	if image.Format != formatISO {
		return nil, retcode.InvalidImageFormat.Errorf("image %s is no disc", image.ID)
	}
	if image.Arch != v.Arch {
		return nil, retcode.ImageArchMismatch.Errorf("image %s is for %s, %s is %s", image.ID, image.Arch, v.ID, v.Arch)
	}
	return image, nil
}

func (s *Service) attachISO(ctx context.Context, c *action.Call, q *isoRequest) (*action.Empty, error) {
	v, err := vmByID(ctx, s.DB.Reader(), c.Scope(), q.VMID)
	if err != nil {
		return nil, err
	}
	image, err := s.discImage(ctx, c, v, q.ImageID)
	if err != nil {
		return nil, err
	}
	return nil, s.changeDiscs(ctx, c, q.VMID, discJob{VM: v.ID, Image: image.ID}, func(ctx context.Context, tx bun.Tx, v *VM, j *discJob) error {
		all, err := discsOf(ctx, tx, v.ID)
		if err != nil {
			return err
		}
		taken := map[string]bool{}
		for _, d := range all[v.ID] {
			if taken[d.Slot] = true; d.ImageID == image.ID {
				return retcode.ResourceAlreadyEnabled.Errorf("%s is in %s already", image.ID, v.ID)
			}
		}
		for i := len(slots) - 1; i >= 0 && j.Slot == ""; i-- { // the last drive first: the other is for rescue
			if !taken[slots[i]] && (v.RescueID == "" || i > 0) {
				j.Slot = slots[i]
			}
		}
		if j.Slot == "" {
			return retcode.BindLimitReached.Errorf("%s takes %d discs", v.ID, len(slots))
		}
		if err := image.holdTx(ctx, tx); err != nil {
			return err
		}
		_, err = tx.NewInsert().Model(&vmISO{VMID: v.ID, Slot: j.Slot, ImageID: image.ID}).Exec(ctx)
		return err
	})
}

func (s *Service) detachISO(ctx context.Context, c *action.Call, q *isoRequest) (*action.Empty, error) {
	return nil, s.changeDiscs(ctx, c, q.VMID, discJob{VM: q.VMID}, func(ctx context.Context, tx bun.Tx, v *VM, _ *discJob) error {
		r, err := tx.NewDelete().Model((*vmISO)(nil)).Where("vm_id = ? AND image_id = ?", v.ID, q.ImageID).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return retcode.ImageNotFound.Errorf("%s is not in %s", q.ImageID, v.ID)
	})
}

// discJob is the state of the workflow that changes what is in a machine's drives.
type discJob struct {
	VM string
	// Image and Slot of a disc that is inserted; empty: one is taken out.
	Image, Slot string `json:",omitempty"`
}

// changeDiscs writes a change of a machine's drives and starts what tells its host. The machine is locked like for
// any other binding: it keeps its state.
func (s *Service) changeDiscs(ctx context.Context, c *action.Call, id string, j discJob, change func(context.Context, bun.Tx, *VM, *discJob) error) error {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		v, err := vmByID(ctx, tx, c.Scope(), id)
		if err != nil {
			return err
		}
		if err := s.Ledger.Check(ctx, tx, v.ID); err != nil {
			return err
		}
		if err := check(v, Change); err != nil {
			return err
		}
		j := j // the transaction may run twice
		if err := change(ctx, tx, v, &j); err != nil {
			return err
		}
		op, err = s.flows.discs.Accept(ctx, tx, workflow.Request{Action: c.Action, Company: v.Company, Region: v.Region, Resources: []string{v.ID},
			Locks: []workflow.Lock{{Resource: v.ID}, {Resource: v.ID + "/discs", Exclusive: true}}}, j)
		if busy := new(workflow.BusyError); errors.As(err, &busy) {
			return retcode.InvalidVMState.Errorf("%s is busy with %s", v.ID, busy.Action)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.AddResource(id)
	s.Engine.Kick(op)
	return nil
}

func (s *Service) registerDiscs() *workflow.Workflow[discJob] {
	return workflow.Register(s.Engine, workflow.Definition[discJob]{
		Name:  "vm.discs",
		Steps: []workflow.Step[discJob]{{Name: "change", Do: s.tellDiscs, Undo: s.untellDiscs, Deadline: fetchTime}},
		Abort: func(ctx context.Context, tx bun.Tx, j *discJob, _ error) error { return j.takeOut(ctx, tx) },
	})
}

// takeOut undoes an insertion.
func (j *discJob) takeOut(ctx context.Context, tx bun.Tx) error {
	if j.Image == "" {
		return nil
	}
	_, err := tx.NewDelete().Model((*vmISO)(nil)).Where("vm_id = ? AND slot = ? AND image_id = ?", j.VM, j.Slot, j.Image).Exec(ctx)
	return err
}

func (s *Service) tellDiscs(ctx context.Context, j *discJob) error {
	v, err := vmByID(ctx, s.DB.Reader(), action.Scope{}, j.VM)
	if err != nil {
		return err
	}
	if err := s.fetchDiscs(ctx, v); err != nil {
		return err
	}
	if v.State != Running {
		return nil // its start tells the host
	}
	if _, err := (machines{s}).Replug(ctx, v.ID); err != nil {
		return s.hostFailure(ctx, v, err, retcode.SystemBusy.Errorf("the host could not change the discs of %s", v.ID))
	}
	return nil
}

// untellDiscs takes a disc out again.
func (s *Service) untellDiscs(ctx context.Context, j *discJob) error {
	if j.Image == "" {
		return nil
	}
	if err := s.DB.Transact(ctx, j.takeOut); err != nil {
		return err
	}
	v, err := vmByID(ctx, s.DB.Reader(), action.Scope{}, j.VM)
	if err != nil || v.State != Running {
		return err
	}
	_, err = (machines{s}).Replug(ctx, v.ID)
	return ignoreGone(err)
}

// fetchDiscs gives a machine's host the images that are in its drives.
func (s *Service) fetchDiscs(ctx context.Context, v *VM) error {
	all, err := discsOf(ctx, s.DB.Reader(), v.ID)
	if err != nil {
		return err
	}
	found := all[v.ID]
	if v.RescueID != "" {
		rescue, err := anyImage(ctx, s.DB.Reader(), action.Scope{}, v.RescueID)
		if err != nil {
			return err
		}
		found = append(found, disc{ImageID: rescue.ID, Digest: rescue.Digest})
	}
	for _, d := range found {
		if err := s.Fleet.EnsureImage(ctx, v.HostID, d.Digest); err != nil {
			return s.hostFailure(ctx, v, err, retcode.SystemBusy.Errorf("the host could not get image %s", d.ImageID))
		}
	}
	return nil
}

// arrived tells whether a machine's host has a disc's image. One on its way is not in the drive yet: whoever inserts it
// brings it and tells the host again, and meanwhile the machine's power can be cut, and other things plugged in.
func (s *Service) arrived(ctx context.Context, v *VM, digest string) bool {
	status, err := s.Fleet.Host(v.HostID).ImageStatus(ctx, &pb.ImageStatusRequest{Digest: digest})
	return err != nil || status.Present // a host that does not answer says so when it is told the machine
}

// bootOrder fills in what a machine boots from: its rescue disc and then its system disk, or what its setting says.
func (s *Service) bootOrder(ctx context.Context, v *VM, spec *pb.DomainSpec) error {
	r := s.DB.Reader()
	all, err := discsOf(ctx, r, v.ID)
	if err != nil {
		return err
	}
	devices := strings.Split(v.BootDevices, ",")
	for _, d := range all[v.ID] {
		if s.arrived(ctx, v, d.Digest) {
			spec.Cdroms = append(spec.Cdroms, &pb.DomainCDROM{Slot: d.Slot, ImageDigest: d.Digest})
		}
	}
	var system []*pb.DomainDisk
	for _, d := range spec.Disks {
		if d.BootOrder > 0 {
			d.BootOrder, system = 0, append(system, d)
		}
	}
	order := uint32(0)
	next := func() uint32 { order++; return order }
	if v.RescueID != "" {
		rescue, err := database.Find[Image](ctx, r, "WHERE id = ?", v.RescueID)
		if err != nil {
			return err
		}
		if len(rescue) == 1 {
			kept := spec.Cdroms[:0]
			for _, d := range spec.Cdroms {
				if d.Slot != slots[0] {
					kept = append(kept, d)
				}
			}
			if spec.Cdroms = kept; s.arrived(ctx, v, rescue[0].Digest) {
				spec.Cdroms = append(kept, &pb.DomainCDROM{Slot: slots[0], ImageDigest: rescue[0].Digest, BootOrder: next()})
			}
		}
		devices = []string{bootHD}
	}
	for _, device := range devices {
		switch device {
		case bootHD:
			for _, d := range system {
				d.BootOrder = next()
			}
		case bootCDROM:
			for _, d := range spec.Cdroms {
				d.BootOrder = next()
			}
		case bootNetwork:
			if len(spec.Nics) > 0 {
				spec.Nics[0].BootOrder = next()
			}
		}
	}
	return nil
}

type vmISOInfoRow struct {
	VMID      string
	ImageID   string
	ImageName string
	Slot      string
}

type describeISOResponse struct {
	TotalCount int
	Infos      []vmISOInfoRow
}

func (s *Service) describeISO(ctx context.Context, c *action.Call, q *vmRequest) (*describeISOResponse, error) {
	v, err := vmByID(ctx, s.DB.Reader(), c.Scope(), q.VMID)
	if err != nil {
		return nil, err
	}
	all, err := discsOf(ctx, s.DB.Reader(), v.ID)
	if err != nil {
		return nil, err
	}
	out := &describeISOResponse{Infos: []vmISOInfoRow{}}
	for _, d := range all[v.ID] {
		out.Infos = append(out.Infos, vmISOInfoRow{VMID: v.ID, ImageID: d.ImageID, ImageName: d.Name, Slot: d.Slot})
	}
	out.TotalCount = len(out.Infos)
	return out, nil
}

func (s *Service) bootFromDisc(ctx context.Context, c *action.Call, q *vmRequest) (*action.Empty, error) {
	return nil, s.change(ctx, c, q.VMID, Change, func(ctx context.Context, tx bun.Tx, v *VM) ([]string, error) {
		all, err := discsOf(ctx, tx, v.ID)
		if err != nil {
			return nil, err
		}
		if len(all[v.ID]) == 0 {
			return nil, retcode.ImageNotFound.Errorf("no disc is in %s", v.ID)
		}
		v.BootDevices = bootCDROM + "," + bootHD
		return []string{"boot_devices"}, nil
	})
}

func (s *Service) bootFromDisk(ctx context.Context, c *action.Call, q *vmRequest) (*action.Empty, error) {
	return nil, s.change(ctx, c, q.VMID, Change, func(_ context.Context, _ bun.Tx, v *VM) ([]string, error) {
		v.BootDevices = bootHD
		return []string{"boot_devices"}, nil
	})
}

type rescueRequest struct {
	VMID    string `validate:"required" doc:"virtual machine id"`
	ImageID string `doc:"rescue disc; empty: the newest base image of format iso with rescue in its name"`
	action.Tenant
}

// enterRescue starts a stopped machine from a rescue disc, with its system disk attached.
func (s *Service) enterRescue(ctx context.Context, c *action.Call, q *rescueRequest) (*action.Empty, error) {
	v, err := vmByID(ctx, s.DB.Reader(), c.Scope(), q.VMID)
	if err != nil {
		return nil, err
	}
	if err := check(v, Rebuild); err != nil {
		return nil, err
	}
	id := q.ImageID
	if id == "" {
		var ids []string
		if err := s.DB.Reader().NewSelect().Model((*Image)(nil)).Column("id").Where("type = ? AND region = ? AND format = ? AND arch = ? AND state = ?",
			BaseImage, v.Region, formatISO, v.Arch, ImageUsed).Where("lower(name) LIKE '%rescue%'").OrderExpr("created_at DESC, id").Limit(1).Scan(ctx, &ids); err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			return nil, retcode.ImageNotFound.Errorf("there is no base image for rescue: name one with ImageID")
		}
		id = ids[0]
	}
	image, err := s.discImage(ctx, c, v, id)
	if err != nil {
		return nil, err
	}
	return nil, s.act(ctx, c, q.VMID, Start, Starting, s.flows.rescue, func(ctx context.Context, tx bun.Tx, v *VM, j *job) ([]string, error) {
		if v.RescueID != "" {
			return nil, retcode.InvalidVMState.Errorf("%s is in rescue mode", v.ID)
		}
		v.RescueID = image.ID
		if err := image.holdTx(ctx, tx); err != nil {
			return nil, err
		}
		return s.placeAgain(ctx, tx, v, j)
	})
}

// exitRescue cuts the power of a machine in rescue mode; the next start is one as ever.
func (s *Service) exitRescue(ctx context.Context, c *action.Call, q *vmRequest) (*action.Empty, error) {
	v, err := vmByID(ctx, s.DB.Reader(), c.Scope(), q.VMID)
	if err != nil {
		return nil, err
	}
	leave := func(v *VM) error {
		if v.RescueID == "" {
			return retcode.InvalidVMState.Errorf("%s is not in rescue mode", v.ID)
		}
		v.RescueID = ""
		return nil
	}
	if v.State == Running {
		err = s.act(ctx, c, q.VMID, Poweroff, Poweroffing, s.flows.poweroff, func(_ context.Context, _ bun.Tx, v *VM, _ *job) ([]string, error) {
			return nil, leave(v)
		})
		s.tell(q.VMID)
		return nil, err
	}
	return nil, s.change(ctx, c, q.VMID, Rebuild, func(_ context.Context, _ bun.Tx, v *VM) ([]string, error) {
		return []string{"rescue_id"}, leave(v)
	})
}

// notRescued ends a start in rescue mode that failed.
func (s *Service) notRescued(ctx context.Context, tx bun.Tx, j *job, cause error) error {
	v, err := vmByID(ctx, tx, action.Scope{}, j.VM)
	if err != nil || v.Generation != j.Generation {
		return err
	}
	v.RescueID = ""
	if _, err := s.settle(ctx, tx, v, v.State, "rescue_id"); err != nil {
		return err
	}
	return s.end(ctx, tx, j, Stopped, cause)
}

// getDiscs is the first step of a start in rescue mode.
func (s *Service) getDiscs(ctx context.Context, j *job) error {
	v, err := s.load(ctx, j)
	if err != nil {
		return err
	}
	return s.fetchDiscs(ctx, v)
}
