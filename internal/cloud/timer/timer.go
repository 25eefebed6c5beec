// Package timer does at set times what tenants otherwise do by hand: snapshots
// of disks. A job names resources and a schedule; each time it is due it writes
// one run a resource, together with its next time, and a reconciler carries the
// runs out. Products say what a task is (Task).
package timer

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Task is what a job can do. Its functions run in the caller's transaction and answer status codes.
type Task interface {
	// Check refuses a resource that cannot be in a job.
	Check(ctx context.Context, idb bun.IDB, scope action.Scope, id string) error
	// Begin starts the work on a resource, as its tenant: it returns the operation to kick and wait for, and the id of
	// what it makes. ErrBusy: something else is done with the resource; ErrFull: it has as many as it may.
	Begin(ctx context.Context, tx bun.Tx, company int64, region, id, name string) (operation, made string, err error)
	// Drop removes what an earlier run made; what is gone already is no error. operation may be empty.
	Drop(ctx context.Context, tx bun.Tx, company int64, region, made string) (operation string, err error)
}

// What a task's Begin wraps a status code with.
var (
	ErrBusy = errors.New("timer: the resource is busy")
	ErrFull = errors.New("timer: the resource has as many as it may")
)

// Kinds are jobs, for the directory.
func Kinds() []resource.Kind {
	return []resource.Kind{{Name: "Timer", Prefix: "timer-", Service: "timer", Table: "timer", Exists: "TRUE", Remark: true}}
}

// Deps of the service.
type Deps struct {
	DB       *database.DB
	Clock    *clock.Clock
	Engine   *workflow.Engine
	Identity *identity.Service
	// Tasks by the name that the wire has for them.
	Tasks map[string]Task
}

// Service runs the jobs.
type Service struct {
	Deps
	loop *clock.Loop
}

// New prepares the service.
func New(d Deps) *Service {
	s := &Service{Deps: d}
	s.loop = clock.NewLoop(d.Clock, "timers", time.Second, s.reconcile)
	return s
}

// Run carries out what is due until ctx ends. Only the leading controller calls it.
func (s *Service) Run(ctx context.Context) { s.loop.Run(ctx) }

// Bounds of one round; the rest comes with the next.
const (
	dueBatch  = 100
	openBatch = 500
	// patience is how long a run waits for a resource with which something else is done.
	patience = 10 * time.Minute
	// historyKept is how long finished runs are shown.
	historyKept = 90 * 24 * time.Hour
)

// reconcile writes what became due, begins what waits, and closes what has ended.
func (s *Service) reconcile(ctx context.Context) error {
	return errors.Join(s.due(ctx), s.begin(ctx), s.finish(ctx))
}

// due writes the runs of jobs whose time has come. A job that was due several times while nobody looked runs once.
func (s *Service) due(ctx context.Context) error {
	now := s.Clock.Now()
	var jobs []job
	if err := s.DB.Reader().NewSelect().Model(&jobs).Where("next_at > 0 AND next_at <= ?", now.UnixMicro()).Order("next_at", "id").Limit(dueBatch).Scan(ctx); err != nil {
		return err
	}
	for _, j := range jobs {
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			next := int64(0)
			if t := j.schedule().next(now, false); !t.IsZero() {
				next = t.UnixMicro()
			}
			r, err := tx.NewUpdate().Model((*job)(nil)).Set("next_at = ?", next).Where("id = ? AND generation = ? AND next_at = ?", j.ID, j.Generation, j.NextAt).Exec(ctx)
			if err != nil {
				return err
			}
			if n, err := r.RowsAffected(); err != nil || n == 0 {
				return err // changed or deleted meanwhile
			}
			runs := make([]task, 0)
			for _, id := range j.resources() {
				runs = append(runs, task{ID: database.NewID("task"), TimerID: j.ID, ResourceID: id, State: waiting, BegunAt: now.UnixMicro()})
			}
			if len(runs) == 0 {
				return nil
			}
			_, err = tx.NewInsert().Model(&runs).Exec(ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	old := now.Add(-historyKept).UnixMicro()
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*task)(nil)).Where("ended_at > 0 AND ended_at <= ? AND made = ''", old).Exec(ctx)
		return err
	})
}

// begin starts waiting runs. One that cannot begin for a reason of ours holds up no other.
func (s *Service) begin(ctx context.Context) error {
	runs, jobs, err := s.open(ctx, waiting)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range runs {
		if j, ok := jobs[r.TimerID]; ok {
			errs = append(errs, s.beginOne(ctx, &j, r))
		} else {
			errs = append(errs, s.fail(ctx, r, retcode.ResourceNotFound, "the job was deleted"))
		}
	}
	return errors.Join(errs...)
}

// beginOne starts a run in a transaction with its operation. A refusal ends it with its code, unless it will pass: the
// run waits for a busy resource for a while, and for room that the oldest of what the job made there leaves.
func (s *Service) beginOne(ctx context.Context, j *job, r task) error {
	var operation string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		name := "timer-" + time.UnixMicro(r.BegunAt).UTC().Format("20060102-1504")
		if operation, r.Made, err = s.Tasks[j.Task].Begin(ctx, tx, j.Company, j.Region, r.ResourceID, name); err != nil {
			return err
		}
		r.State, r.Operation = running, operation
		_, err = tx.NewUpdate().Model(&r).Column("state", "operation", "made").Where("id = ? AND state = ?", r.ID, waiting).Exec(ctx)
		return err
	})
	if err == nil {
		s.Engine.Kick(operation)
		return nil
	}
	coded := new(retcode.Error)
	if !errors.As(err, &coded) {
		return err
	}
	if s.Clock.Now().Before(time.UnixMicro(r.BegunAt).Add(patience)) {
		if errors.Is(err, ErrBusy) {
			return nil
		}
		if errors.Is(err, ErrFull) {
			if room, err := s.drop(ctx, j, r.ResourceID, j.Keep-1); room || err != nil {
				return err
			}
		}
	}
	return s.fail(ctx, r, coded.Code, coded.Detail())
}

// finish closes runs whose operation has ended, and drops what is more than the job keeps.
func (s *Service) finish(ctx context.Context) error {
	runs, jobs, err := s.open(ctx, running)
	if err != nil {
		return err
	}
	for _, r := range runs {
		op, err := s.Engine.Get(ctx, r.Operation)
		if err != nil {
			return err
		}
		switch op.State {
		case workflow.Succeeded:
			r.State = success
			if err := s.end(ctx, r); err != nil {
				return err
			}
			if j, ok := jobs[r.TimerID]; ok {
				if _, err := s.drop(ctx, &j, r.ResourceID, j.Keep); err != nil {
					return err
				}
			}
		case workflow.Failed:
			if err := s.fail(ctx, r, retcode.Code(op.Code), op.Message); err != nil {
				return err
			}
		}
	}
	return nil
}

// drop removes the oldest of what a job made for a resource until no more than keep are left, and tells whether there
// were any. What cannot be removed now is tried again after the next run.
func (s *Service) drop(ctx context.Context, j *job, id string, keep int) (some bool, err error) {
	var made []task
	if err := s.DB.Reader().NewSelect().Model(&made).Where("timer_id = ? AND resource_id = ? AND state = ? AND made <> ''", j.ID, id, success).
		Order("begun_at DESC", "id DESC").Scan(ctx); err != nil {
		return false, err
	}
	for _, r := range made[min(keep, len(made)):] {
		var operation string
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
			if operation, err = s.Tasks[j.Task].Drop(ctx, tx, j.Company, j.Region, r.Made); err != nil {
				return err
			}
			_, err = tx.NewUpdate().Model((*task)(nil)).Set("made = ''").Where("id = ?", r.ID).Exec(ctx)
			return err
		})
		var coded *retcode.Error
		switch {
		case errors.As(err, &coded): // it is in use, or busy
		case err != nil:
			return true, err
		default:
			s.Engine.Kick(operation)
		}
	}
	return len(made) > keep, nil
}

// open reads unfinished runs of a state with their jobs.
func (s *Service) open(ctx context.Context, state string) ([]task, map[string]job, error) {
	var runs []task
	if err := s.DB.Reader().NewSelect().Model(&runs).Where("state = ? AND ended_at = 0", state).Order("begun_at", "id").Limit(openBatch).Scan(ctx); err != nil || len(runs) == 0 {
		return nil, nil, err
	}
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.TimerID)
	}
	var rows []job
	if err := s.DB.Reader().NewSelect().Model(&rows).Where("id IN (?)", bun.In(ids)).Scan(ctx); err != nil {
		return nil, nil, err
	}
	jobs := make(map[string]job, len(rows))
	for _, j := range rows {
		jobs[j.ID] = j
	}
	return runs, jobs, nil
}

func (s *Service) fail(ctx context.Context, r task, code retcode.Code, detail string) error {
	r.State, r.Made, r.Code, r.Message = failed, "", int(code), detail
	return s.end(ctx, r)
}

func (s *Service) end(ctx context.Context, r task) error {
	r.EndedAt = s.Clock.Micros()
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model(&r).Column("state", "code", "message", "made", "ended_at").Where("id = ? AND ended_at = 0", r.ID).Exec(ctx)
		return err
	})
}

func (j *job) schedule() *Schedule {
	s := new(Schedule)
	_ = json.Unmarshal([]byte(j.Schedule), s) // we wrote it
	return s
}

func (j *job) resources() (ids []string) {
	_ = json.Unmarshal([]byte(j.Resources), &ids) // we wrote it
	return ids
}
