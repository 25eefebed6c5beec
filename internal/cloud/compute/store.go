package compute

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// VM is a row of virtual machines. Times are unix microseconds.
type VM struct {
	bun.BaseModel `bun:"table:vm"`

	ID            string `bun:"id,pk"`
	UUID          string `bun:"uuid"`
	Region        string `bun:"region"`
	Company       int64  `bun:"company"`
	Project       string `bun:"project"`
	Name          string `bun:"name"`
	Remark        string `bun:"remark"`
	State         string `bun:"state"`
	Listed        bool   `bun:"listed"`
	ReasonCode    int    `bun:"reason_code"`
	Reason        string `bun:"reason"`
	VMType        string `bun:"vm_type"`
	SetID         string `bun:"set_id"`
	Arch          string `bun:"arch"`
	HostID        string `bun:"host_id"`
	Placed        bool   `bun:"placed"`
	ImageID       string `bun:"image_id"`
	ImageName     string `bun:"image_name"`
	OSType        string `bun:"os_type"`
	OSName        string `bun:"os_name"`
	UEFI          bool   `bun:"uefi"`
	CloudInit     bool   `bun:"cloud_init"`
	QGA           bool   `bun:"qga"`
	Hotplug       bool   `bun:"hotplug"`
	CPUs          int    `bun:"cpus"`
	MemoryMiB     int    `bun:"memory_mib"`
	VPCID         string `bun:"vpc_id"`
	SubnetID      string `bun:"subnet_id"`
	PortID        string `bun:"port_id"`
	Hostname      string `bun:"hostname"`
	LoginUser     string `bun:"login_user"`
	DNS           string `bun:"dns"`
	CPUMode       string `bun:"cpu_mode"`
	HA            string `bun:"ha"`
	AutoRenew     bool   `bun:"auto_renew"`
	QGAConnected  bool   `bun:"qga_connected"`
	ChargeType    string `bun:"charge_type"`
	Quantity      int    `bun:"quantity"`
	RestartSerial int64  `bun:"restart_serial"`
	BootDevices   string `bun:"boot_devices"`
	RescueID      string `bun:"rescue_id"`
	Installs      int64  `bun:"installs"`
	Revived       int64  `bun:"revived"`
	RevivedAt     int64  `bun:"revived_at"`
	CreatedAt     int64  `bun:"created_at"`
	UpdatedAt     int64  `bun:"updated_at"`
	ExpireAt      int64  `bun:"expire_at"`
	DeletedAt     int64  `bun:"deleted_at"`
	EndedAt       int64  `bun:"ended_at"`
	Generation    int64  `bun:"generation"`
}

// vmCount is how many machines of a tenant in a region are listed.
type vmCount struct {
	bun.BaseModel `bun:"table:vm_count"`

	Company int64  `bun:"company,pk"`
	Region  string `bun:"region,pk"`
	N       int64  `bun:"n"`
}

// seed is what only the guest needs to know.
type seed struct {
	bun.BaseModel `bun:"table:vm_seed"`

	VMID         string `bun:"vm_id,pk"`
	PasswordHash string `bun:"password_hash"`
	UserData     string `bun:"user_data"`
	MountData    string `bun:"mount_data"`
}

// vmByID reads one machine of a scope: 1004 when unknown or out of it.
func vmByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*VM, error) {
	rows, err := database.Find[VM](ctx, idb, "WHERE id = ?", id)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !scope.Holds(rows[0].Region, rows[0].Company, rows[0].Project) {
		return nil, retcode.VMNotFound.Errorf("VMID %s", id)
	}
	return &rows[0], nil
}

// move changes a machine from the generation v was read in and tells whether that was still the
// row's. columns are those that changed besides state, updated_at and generation, which it raises.
func (s *Service) move(ctx context.Context, tx bun.Tx, v *VM, to string, columns ...string) (bool, error) {
	generation, state := v.Generation, v.State
	v.State, v.Generation, v.UpdatedAt = to, generation+1, s.Clock.Micros()
	return s.write(ctx, tx, v, generation, state, append(columns, "generation")...)
}

// moveOn is move that answers errOvertaken when another transaction was faster.
func (s *Service) moveOn(ctx context.Context, tx bun.Tx, v *VM, to string, columns ...string) error {
	ok, err := s.move(ctx, tx, v, to, columns...)
	if err == nil && !ok {
		err = errOvertaken
	}
	return err
}

// settle is move that keeps the generation: the host was told this state already.
func (s *Service) settle(ctx context.Context, tx bun.Tx, v *VM, to string, columns ...string) (bool, error) {
	v.State, v.UpdatedAt = to, s.Clock.Micros()
	return s.write(ctx, tx, v, v.Generation, "", columns...)
}

// write is guarded by the generation and, unless it is empty, the state that the row had when it was read: the end of an
// operation, which keeps the generation, changes that, and on PostgreSQL it may come in between.
func (s *Service) write(ctx context.Context, tx bun.Tx, v *VM, generation int64, state string, columns ...string) (bool, error) {
	q := tx.NewUpdate().Model(v).Column(append(columns, "state", "updated_at")...).Where("id = ? AND generation = ?", v.ID, generation)
	if state != "" {
		q = q.Where("state = ?", state)
	}
	r, err := q.Exec(ctx)
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}

// count changes how many machines of a tenant are listed.
func count(ctx context.Context, tx bun.Tx, company int64, region string, by int) error {
	_, err := tx.NewInsert().Model(&vmCount{Company: company, Region: region, N: int64(by)}).
		On("CONFLICT (company, region) DO UPDATE").Set("n = vm_count.n + EXCLUDED.n").Exec(ctx)
	return err
}

// unplace gives back the CPU and memory that a machine holds of its host, and writes that it does; errOvertaken when another transaction was faster.
func (s *Service) unplace(ctx context.Context, tx bun.Tx, v *VM) error {
	if !v.Placed {
		return nil
	}
	// The row first, which is held from here on: on PostgreSQL another transaction may have taken the machine over since it
	// was read, and what is released would be released twice.
	r, err := tx.NewUpdate().Model((*VM)(nil)).Set("placed = ?", false).Where("id = ? AND generation = ? AND placed", v.ID, v.Generation).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, errOvertaken)
	}
	v.Placed = false
	return s.Fleet.Release(ctx, tx, v.HostID, computeDemand(v))
}
