package fleet

import (
	"encoding/json"

	"github.com/uptrace/bun"
)

type computeSet struct {
	bun.BaseModel `bun:"table:compute_set"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Type       string `bun:"type"`
	Alias      string `bun:"alias"`
	Arch       string `bun:"arch"`
	Overcommit int64  `bun:"overcommit"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

type storageSet struct {
	bun.BaseModel `bun:"table:storage_set"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Type       string `bun:"type"`
	Alias      string `bun:"alias"`
	Arch       string `bun:"arch"`
	Overcommit int64  `bun:"overcommit"`
	Media      string `bun:"media"`
	Driver     string `bun:"driver"`
	Ceph       string `bun:"ceph"`
	Replicas   int    `bun:"replicas"`
	TotalGB    int64  `bun:"total_gb"`
	UsedGB     int64  `bun:"used_gb"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

func (d *storageSet) set() *Set {
	return &Set{ID: d.ID, Region: d.Region, Type: d.Type, Alias: d.Alias, Arch: d.Arch, Media: d.Media, Shared: d.Driver != Local}
}

type hostRow struct {
	bun.BaseModel `bun:"table:host"`

	ID          string `bun:"id,pk"`
	Region      string `bun:"region"`
	Name        string `bun:"name"`
	ComputeSet  string `bun:"compute_set"`
	StorageSet  string `bun:"storage_set"`
	Address     string `bun:"address"`
	Serial      string `bun:"serial"`
	Arch        string `bun:"arch"`
	VirtType    string `bun:"virt_type"`
	Chassis     string `bun:"chassis"`
	Networks    string `bun:"networks"`
	OverlayMTU  int    `bun:"overlay_mtu"`
	CPUTotal    int64  `bun:"cpu_total"`
	CPUUsed     int64  `bun:"cpu_used"`
	MemoryTotal int64  `bun:"memory_total"`
	MemoryUsed  int64  `bun:"memory_used"`
	DiskTotal   int64  `bun:"disk_total"`
	DiskUsed    int64  `bun:"disk_used"`
	Locked      bool   `bun:"locked"`
	Down        bool   `bun:"down"`
	ReturnedAt  int64  `bun:"returned_at"`
	CreatedAt   int64  `bun:"created_at"`
	UpdatedAt   int64  `bun:"updated_at"`
	Generation  int64  `bun:"generation"`
}

func (h *hostRow) networks() []string {
	var n []string
	_ = json.Unmarshal([]byte(h.Networks), &n) // written by us; '' reads as none
	return n
}

func (h *hostRow) state() string {
	switch {
	case h.Down:
		return Down
	case h.Locked:
		return Locked
	}
	return Available
}

type hostToken struct {
	bun.BaseModel `bun:"table:host_token"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Hash       string `bun:"hash"`
	Name       string `bun:"name"`
	ComputeSet string `bun:"compute_set"`
	Host       string `bun:"host"`
	ExpiresAt  int64  `bun:"expires_at"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}
