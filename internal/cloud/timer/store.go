package timer

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// job is a row of timers. Times are unix microseconds.
type job struct {
	bun.BaseModel `bun:"table:timer"`

	ID         string `bun:"id,pk"`
	Region     string `bun:"region"`
	Company    int64  `bun:"company"`
	Project    string `bun:"project"`
	Name       string `bun:"name"`
	Remark     string `bun:"remark"`
	Task       string `bun:"task"`
	Schedule   string `bun:"schedule"`
	Resources  string `bun:"resources"`
	Keep       int    `bun:"keep"`
	NextAt     int64  `bun:"next_at"`
	CreatedAt  int64  `bun:"created_at"`
	UpdatedAt  int64  `bun:"updated_at"`
	Generation int64  `bun:"generation"`
}

// States of a run.
const (
	waiting = "Waiting"
	running = "Running"
	success = "Success"
	failed  = "Failed"
)

// task is a run of a job on one resource.
type task struct {
	bun.BaseModel `bun:"table:timer_task"`

	ID         string `bun:"id,pk"`
	TimerID    string `bun:"timer_id"`
	ResourceID string `bun:"resource_id"`
	State      string `bun:"state"`
	Operation  string `bun:"operation"`
	Made       string `bun:"made"`
	Code       int    `bun:"code"`    // why it failed,
	Message    string `bun:"message"` // and its detail
	BegunAt    int64  `bun:"begun_at"`
	EndedAt    int64  `bun:"ended_at"`
}

// jobByID reads a job of a scope: 200 when unknown or out of it.
func jobByID(ctx context.Context, idb bun.IDB, scope action.Scope, id string) (*job, error) {
	j := new(job)
	err := identity.Own(idb.NewSelect().Model(j).Where("id = ?", id), scope).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, retcode.ResourceNotFound.Errorf("TimerID %s", id)
	}
	return j, err
}

// why a run failed, as its tenant reads it.
func (r *task) why(language string) string {
	m := retcode.Code(r.Code).Message(language)
	if m != "" && r.Message != "" {
		m += ": "
	}
	return m + r.Message
}
