package timer

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/cloud/tag"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Actions of timers.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "CreateTimer", Module: "timer", Mutates: true, Extension: true, Summary: "Create a timer job."}, s.create),
		action.Define(action.Spec{Name: "DescribeTimer", Module: "timer", Extension: true, Summary: "List timer jobs."}, s.describe),
		action.Define(action.Spec{Name: "UpdateTimer", Module: "timer", Mutates: true, Extension: true, Summary: "Change a job, future runs only."}, s.update),
		action.Define(action.Spec{Name: "DeleteTimer", Module: "timer", Mutates: true, Extension: true, Summary: "Delete a job, what it made stays."}, s.delete),
		action.Define(action.Spec{Name: "DescribeTimerTask", Module: "timer", Extension: true, Summary: "List runs of a job."}, s.describeTasks),
	}
}

// timing is what creating and changing a job have in common.
type timing struct {
	Type          string   `validate:"required,oneof=TIMER_TYPE_ONCE TIMER_TYPE_DAILY TIMER_TYPE_WEEKLY TIMER_TYPE_MONTHLY TIMER_TYPE_FIXED_INTERVAL" doc:"kind of schedule"`
	TriggerTime   int64    `doc:"unix seconds, once; at once when it has passed"`
	Hours         []int    `doc:"0 to 23; daily, weekly, monthly"`
	Weeks         []int    `doc:"1 to 7 is Monday to Sunday, 0 is read as 7; weekly"`
	Days          []int    `doc:"1 to 31, 32 is the last day of a month; monthly"`
	FixedInterval int64    `validate:"omitempty,min=60,max=86400" doc:"seconds"`
	TimeZone      string   `default:"GMT+8" doc:"as GMT+8 or Asia/Shanghai"`
	ResourceIDs   []string `doc:"disks, at most 100"`
	ResourceType  string   `default:"DISK" validate:"oneof=DISK" doc:"kind of the resources"`
	KeepNum       int      `default:"10" validate:"min=1,max=42" doc:"of what the job made for a resource; older ones are removed"`
	Annotations   []string `doc:"key:value, kept with the job's remark by some clients; not used"`
	Remark        *string  `validate:"omitempty,max=100" doc:"free text"`
}

// maxResources is how many resources a job has at most.
const maxResources = 100

func (t *timing) schedule() (*Schedule, error) {
	s := &Schedule{Type: t.Type, Trigger: t.TriggerTime, Hours: t.Hours, Weekdays: t.Weeks, Days: t.Days, Interval: t.FixedInterval, Zone: t.TimeZone}
	return s, s.check()
}

// fill writes the timing into a row and finds its next time. A job whose schedule stays goes on with it: one that has
// run for good does not run again because it is renamed.
func (s *Service) fill(ctx context.Context, tx bun.Tx, scope action.Scope, j *job, t *timing, sched *Schedule) error {
	ids := slices.Compact(slices.Sorted(slices.Values(t.ResourceIDs)))
	if len(ids) == 0 {
		return retcode.MissingParameter.Errorf("ResourceIDs: name the disks")
	}
	if len(ids) > maxResources {
		return retcode.InvalidParameter.Errorf("a job has at most %d resources", maxResources)
	}
	had := j.resources()
	for _, id := range ids {
		if slices.Contains(had, id) {
			continue // its runs say what became of it
		}
		if err := s.Tasks[j.Task].Check(ctx, tx, scope, id); err != nil {
			return err
		}
	}
	texts := [2][]byte{}
	for i, v := range []any{sched, ids} {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		texts[i] = text
	}
	now := s.Clock.Now()
	if j.Schedule != string(texts[0]) {
		j.NextAt = 0
		if next := sched.next(now, true); !next.IsZero() {
			j.NextAt = next.UnixMicro()
		}
	}
	j.Schedule, j.Resources, j.Keep, j.UpdatedAt = string(texts[0]), string(texts[1]), t.KeepNum, now.UnixMicro()
	if t.Remark != nil {
		j.Remark = *t.Remark
	}
	return nil
}

type createRequest struct {
	Name             string   `validate:"required" doc:"1 to 63 characters"`
	Task             string   `validate:"required,oneof=CreateSnapshot CreateInspection CreateResUsed" doc:"what the job does"`
	ProjectID        string   `doc:"project group id"`
	TagKeyValuePairs []string `doc:"base64(key):base64(value), at most 5"`
	timing
	action.Tenant
}

type createResponse struct{ TimerID string }

func (s *Service) create(ctx context.Context, c *action.Call, q *createRequest) (*createResponse, error) {
	name, err := resource.Name(q.Name)
	if err != nil {
		return nil, err
	}
	if s.Tasks[q.Task] == nil {
		return nil, retcode.InvalidParameter.Errorf("Task %s is not offered in this region", q.Task)
	}
	sched, err := q.schedule()
	if err != nil {
		return nil, err
	}
	now := s.Clock.Micros()
	j := &job{ID: database.NewID("timer"), Region: c.Region, Company: c.Owner(), Name: name, Task: q.Task, CreatedAt: now}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		if j.Project, err = identity.Project(ctx, tx, c, q.ProjectID); err != nil {
			return err
		}
		if err := s.fill(ctx, tx, c.OwnScope(), j, &q.timing, sched); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(j).Exec(ctx); err != nil {
			return err
		}
		return tag.Attach(ctx, tx, now, resource.Item{ID: j.ID, Company: j.Company, Region: j.Region, Kind: "Timer"}, q.TagKeyValuePairs)
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(j.ID)
	s.loop.Signal()
	return &createResponse{j.ID}, nil
}

type updateRequest struct {
	TimerID string `validate:"required" doc:"job id"`
	Name    string `doc:"1 to 63 characters"`
	timing
	action.Tenant
}

func (s *Service) update(ctx context.Context, c *action.Call, q *updateRequest) (*action.Empty, error) {
	c.AddResource(q.TimerID)
	sched, err := q.schedule()
	if err != nil {
		return nil, err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		j, err := jobByID(ctx, tx, c.Scope(), q.TimerID)
		if err != nil {
			return err
		}
		if q.Name != "" {
			if j.Name, err = resource.Name(q.Name); err != nil {
				return err
			}
		}
		if len(q.ResourceIDs) == 0 {
			q.ResourceIDs = j.resources()
		}
		if err := s.fill(ctx, tx, action.Scope{Region: j.Region, Company: j.Company, Projects: c.Projects}, j, &q.timing, sched); err != nil {
			return err
		}
		j.Generation++
		_, err = tx.NewUpdate().Model(j).WherePK().Exec(ctx)
		return err
	})
	s.loop.Signal()
	return nil, err
}

type deleteRequest struct {
	TimerID string `validate:"required" doc:"job id"`
	action.Tenant
}

func (s *Service) delete(ctx context.Context, c *action.Call, q *deleteRequest) (*action.Empty, error) {
	c.AddResource(q.TimerID)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		j, err := jobByID(ctx, tx, c.Scope(), q.TimerID)
		if err != nil {
			return err
		}
		if _, err := tx.NewDelete().Model(j).WherePK().Exec(ctx); err != nil {
			return err
		}
		_, err = tx.NewDelete().Model((*task)(nil)).Where("timer_id = ? AND ended_at > 0", j.ID).Exec(ctx)
		return err
	})
}

type describeRequest struct {
	TimerIDs   []string `doc:"job ids"`
	Task       string   `doc:"what jobs do"`
	ResourceID string   `doc:"a resource of jobs"`
	Keyword    string   `doc:"part of name or id"`
	ProjectIDs []string `doc:"project group ids"`
	action.Tenant
	action.Page
}

type timerInfo struct {
	TimerID       string
	Name          string
	Remark        string
	Task          string
	Type          string
	Hours         []int
	Weeks         []int
	Days          []int
	FixedInterval int64 `doc:"seconds"`
	TriggerTime   int64 `doc:"unix seconds"`
	TimeZone      string
	ResourceIDs   []string
	KeepNum       int
	NextTime      int64 `doc:"unix seconds; 0: never again"`
	CompanyID     int64
	ProjectID     string
	CreateTime    int64 `doc:"unix seconds"`
	UpdateTime    int64 `doc:"unix seconds"`
}

type describeResponse struct {
	Infos      []timerInfo
	TotalCount int
}

func (s *Service) describe(ctx context.Context, c *action.Call, q *describeRequest) (*describeResponse, error) {
	out := &describeResponse{Infos: []timerInfo{}}
	var rows []job
	sel := identity.Own(s.DB.Reader().NewSelect().Model(&rows), c.Scope())
	if len(q.TimerIDs) > 0 {
		sel = sel.Where("id IN (?)", bun.In(q.TimerIDs))
	}
	if len(q.ProjectIDs) > 0 {
		sel = sel.Where("project IN (?)", bun.In(q.ProjectIDs))
	}
	if q.Task != "" {
		sel = sel.Where("task = ?", q.Task)
	}
	if q.ResourceID != "" {
		sel = sel.Where(`resources LIKE ? ESCAPE '\'`, database.Like(`"`+q.ResourceID+`"`))
	}
	sel = database.Matching(sel, q.Keyword, "name", "id")
	n, err := sel.OrderExpr("created_at DESC, id DESC").Offset(int64(q.Offset)).Limit(int64(max(1, q.Limit))).ScanAndCount(ctx)
	if out.TotalCount = int(n); err != nil || q.Limit == 0 {
		return out, err
	}
	for _, j := range rows {
		t := j.schedule()
		out.Infos = append(out.Infos, timerInfo{TimerID: j.ID, Name: j.Name, Remark: j.Remark, Task: j.Task, Type: t.Type, Hours: t.Hours, Weeks: t.Weekdays,
			Days: t.Days, FixedInterval: t.Interval, TriggerTime: t.Trigger, TimeZone: t.Zone, ResourceIDs: j.resources(), KeepNum: j.Keep,
			NextTime: j.NextAt / 1e6, CompanyID: j.Company, ProjectID: j.Project, CreateTime: j.CreatedAt / 1e6, UpdateTime: j.UpdatedAt / 1e6})
	}
	return out, nil
}

type describeTasksRequest struct {
	TimerID   string `validate:"required" doc:"job id"`
	BeginTime int64  `validate:"min=0,max=1099511627776" doc:"unix seconds"`
	EndTime   int64  `validate:"min=0,max=1099511627776" doc:"unix seconds; 0: until now"`
	action.Tenant
	action.Page
}

type taskInfo struct {
	TaskID     string
	TimerID    string
	ResourceID string
	BeginTime  int64 `doc:"unix seconds"`
	EndTime    int64 `doc:"unix seconds; 0: it goes on"`
	Status     string
	Message    string `doc:"why it failed"`
}

type describeTasksResponse struct {
	Infos      []taskInfo
	TotalCount int
}

func (s *Service) describeTasks(ctx context.Context, c *action.Call, q *describeTasksRequest) (*describeTasksResponse, error) {
	if _, err := jobByID(ctx, s.DB.Reader(), c.Scope(), q.TimerID); err != nil {
		return nil, err
	}
	out := &describeTasksResponse{Infos: []taskInfo{}}
	var rows []task
	sel := s.DB.Reader().NewSelect().Model(&rows).Where("timer_id = ? AND begun_at >= ?", q.TimerID, q.BeginTime*1e6)
	if q.EndTime > 0 {
		sel = sel.Where("begun_at <= ?", q.EndTime*1e6)
	}
	n, err := sel.OrderExpr("begun_at DESC, id DESC").Offset(int64(q.Offset)).Limit(int64(max(1, q.Limit))).ScanAndCount(ctx)
	if out.TotalCount = int(n); err != nil || q.Limit == 0 {
		return out, err
	}
	for _, r := range rows {
		out.Infos = append(out.Infos, taskInfo{r.ID, r.TimerID, r.ResourceID, r.BegunAt / 1e6, r.EndedAt / 1e6, r.State, r.why(c.Language)})
	}
	return out, nil
}
