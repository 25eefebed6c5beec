// Package event keeps what happened to resources: what operations came to, and
// what went on that nobody asked for. The same thing that happens again is one
// event with a count.
package event

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/resource"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Types of events.
const (
	Lifecycle  = "Lifecycle"  // it came, went, or changed between running and not
	Operations = "Operations" // anything else that was done with it
)

// Levels of events.
const (
	Info    = "Info"
	Warning = "Warning"
	Error   = "Error"
)

// What happens to machines that no operation is about.
const (
	WentOff  = "WentOff"  // the guest went off by itself
	Crashed  = "Crashed"  // its guest crashed
	Revived  = "Revived"  // it went off, and is started again
	GivenUp  = "GivenUp"  // it went off too often to be started again
	Restored = "Restored" // it left the recycle bin
)

// own are the events that are not named after an action: their level, and how people read them.
var own = map[string]struct{ level, zh, en string }{
	WentOff:  {Info, "虚拟机自行关机", "The guest went off by itself"},
	Crashed:  {Error, "虚拟机异常退出", "The guest crashed"},
	Revived:  {Warning, "虚拟机自行关机，正在重新启动", "The guest went off by itself and is started again"},
	GivenUp:  {Error, "虚拟机多次自行关机，不再重新启动", "The guest went off too often and is not started again"},
	Restored: {Info, "资源已从回收站恢复", "It left the recycle bin"},
}

// lifecycle are the actions whose outcome is of that type.
var lifecycle = []string{"CreateVMInstance", "StartVMInstance", "StopVMInstance", "RestartVMInstance", "PoweroffVMInstance",
	"ReinstallVMInstance", "DeleteVMInstance", "RollbackResource", "TerminateResource"}

// kinds are those whose resources have events.
var kinds = []string{"VM"}

// Deps of the service.
type Deps struct {
	DB        *database.DB
	Clock     *clock.Clock
	Directory *resource.Directory
	// Retention is how long an event is kept after its last time.
	Retention func(ctx context.Context) time.Duration
}

// Service records events and lists them.
type Service struct{ Deps }

// New prepares the service.
func New(d Deps) *Service { return &Service{d} }

// Ended is part of workflow.Options.OnEnd: the outcome of an operation, for every resource of it that has events.
func (s *Service) Ended(ctx context.Context, tx bun.Tx, op *workflow.Operation) error {
	var ids []string
	if err := json.Unmarshal([]byte(op.Resources), &ids); err != nil {
		return err
	}
	e := row{Type: Operations, Level: Info, Name: op.Action, Code: op.Code, Detail: op.Message}
	if slices.Contains(lifecycle, op.Action) {
		e.Type = Lifecycle
	}
	if op.Code != 0 {
		e.Level = Error
	}
	if retcode.Code(op.Code).Internal() {
		e.Detail = "" // it speaks of our insides
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		if err := s.add(ctx, tx, id, e); err != nil {
			return err
		}
	}
	return nil
}

// Add records one of the events of this package, in the transaction that makes it true.
func (s *Service) Add(ctx context.Context, tx bun.Tx, id, name string) error {
	return s.add(ctx, tx, id, row{Type: Lifecycle, Level: own[name].level, Name: name})
}

// add completes an event from its resource's row and writes it, or counts it once more.
func (s *Service) add(ctx context.Context, tx bun.Tx, id string, e row) error {
	k, err := s.Directory.Of(id)
	if err != nil || !slices.Contains(kinds, k.Name) {
		return nil
	}
	var of []row // destroyed ones too, so not by the directory's conditions
	if err := tx.NewSelect().TableExpr("?", bun.Ident(k.Table)).ColumnExpr("region, company, project, name AS resource_name").Where("id = ?", id).Scan(ctx, &of); err != nil || len(of) == 0 {
		return err
	}
	e.Region, e.Company, e.Project, e.ResourceName = of[0].Region, of[0].Company, of[0].Project, of[0].ResourceName
	e.ID, e.ResourceID, e.Kind, e.Count = database.NewID("evt"), id, k.Name, 1
	e.FirstAt = s.Clock.Micros()
	e.LastAt = e.FirstAt
	q := tx.NewInsert().Model(&e).On("CONFLICT (resource_id, name, code) DO UPDATE").Set("count = resource_event.count + 1")
	for _, column := range []string{"project", "resource_name", "detail", "last_at"} {
		q = q.Set("? = EXCLUDED.?", bun.Ident(column), bun.Ident(column))
	}
	_, err = q.Exec(ctx)
	return err
}

// Sweep removes what last happened before the retention. It is run by a reconciler.
func (s *Service) Sweep(ctx context.Context) error {
	before := s.Clock.Now().Add(-s.Retention(ctx)).UnixMicro()
	return s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*row)(nil)).Where("last_at < ?", before).Exec(ctx)
		return err
	})
}

// row of events. Times are unix microseconds.
type row struct {
	bun.BaseModel `bun:"table:resource_event,alias:resource_event"`

	ID           string `bun:"id,pk"`
	Region       string `bun:"region"`
	Company      int64  `bun:"company"`
	Project      string `bun:"project"`
	ResourceID   string `bun:"resource_id"`
	ResourceName string `bun:"resource_name"`
	Kind         string `bun:"kind"`
	Type         string `bun:"type"`
	Level        string `bun:"level"`
	Name         string `bun:"name"`
	Code         int    `bun:"code"`
	Detail       string `bun:"detail"`
	Count        int    `bun:"count"`
	FirstAt      int64  `bun:"first_at"`
	LastAt       int64  `bun:"last_at"`
}

// content is the event as people read it.
func (e *row) content(language string) string {
	chinese := language == retcode.Chinese
	if o, ok := own[e.Name]; ok {
		if chinese {
			return o.zh
		}
		return o.en
	}
	if e.Code == 0 {
		if chinese {
			return e.Name + " 成功"
		}
		return e.Name + " succeeded"
	}
	text := e.Name + " failed: "
	if chinese {
		text = e.Name + " 失败："
	}
	text += retcode.Code(e.Code).Message(language)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}
