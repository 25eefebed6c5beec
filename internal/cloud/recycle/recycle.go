// Package recycle is the bin: what tenants deleted and can still have back. The
// products keep their own rows; each kind of them is listed here.
package recycle

import (
	"context"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
)

// Retention is how long the bin keeps a resource before the sweep destroys it (platform configuration's default).
const Retention = 360000 * time.Second

// Item is a resource in the bin. Times are unix microseconds, 0 when they do not apply.
type Item struct {
	Region      string
	Company     int64
	Project     string
	ID          string
	Name        string
	Description string // why it failed
	State       string // Failed, Deleting, Deleted, Rollbacking, Terminating
	CreatedAt   int64
	UpdatedAt   int64
	DeletedAt   int64
	ExpireAt    int64
}

// Filter chooses items. Zero fields choose all.
type Filter struct {
	Region  string
	Company int64
	Keyword string // in name or id
	IDs     []string
	Limit   int // at most that many, newest deletion first; ties by id
}

// Kind is one type of resource that goes to the bin. Its functions answer the codes of RollbackResource
// and TerminateResource: 200 unknown or another tenant's, 202 not in the bin, 205 destroyed.
type Kind struct {
	Type   string // VM, EIP, Disk
	Prefix string // of its ids, with the hyphen
	// Items answers the first f.Limit and how many match in all.
	Items     func(ctx context.Context, f Filter) ([]Item, int, error)
	Rollback  func(ctx context.Context, c *action.Call, id string) error
	Terminate func(ctx context.Context, c *action.Call, id string) error
	// Sweep starts the destruction of what was deleted at or before the given time (unix microseconds).
	Sweep func(ctx context.Context, deletedBefore int64) error
}

// Deps of the service.
type Deps struct {
	Clock    *clock.Clock
	Identity *identity.Service
	Kinds    []Kind
}

// Service is the bin.
type Service struct{ Deps }

// New prepares the service.
func New(d Deps) *Service { return &Service{Deps: d} }

// Run sweeps what outlived its retention until ctx ends. Only the leading controller calls it.
func (s *Service) Run(ctx context.Context) { panic("not yet") }

// Actions of the bin.
func (s *Service) Actions() []action.Action { panic("not yet") }
