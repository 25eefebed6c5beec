package audit

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Actions of the log.
func (s *Service) Actions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "DescribeOPLogs", Module: "common", Summary: "List audit entries of API calls.",
			Region: action.RegionOptional}, s.describeOPLogs),
	}
}

type describeOPLogsRequest struct {
	BeginTime    string `validate:"required" loose:"true" doc:"unix seconds"`
	EndTime      string `validate:"required" loose:"true" doc:"unix seconds, at most 184 days after BeginTime"`
	Limit        string `default:"20" loose:"true" doc:"page length, at most 100"`
	Offset       string `default:"0" loose:"true" doc:"start of the page"`
	ProductType  string `doc:"module of the action, as vm or eip"`
	IsSuccess    string `validate:"omitempty,oneof=Yes No" doc:"final outcome; calls still going on are neither"`
	Keyword      string `doc:"part of an action's name, an operator's e-mail or a resource id"`
	ResourceID   string `doc:"related resource"`
	ResourceType string `doc:"kind of a related resource, as VM or EIP"`
	action.Tenant
}

// oplogInfo has the fields of both generations of clients.
type oplogInfo struct {
	Region      string
	OPLogID     int64
	CompanyID   int64
	APIName     string
	UserEmail   string `doc:"who called; empty: the platform itself"`
	ProductType string
	ResourceID  string `doc:"the main related resource"`
	RetCode     int    `doc:"final code: of the answer, or of what went on after it"`
	Message     string
	Remark      string
	CreateTime  int64  `doc:"unix seconds"`
	UpdateTime  int64  `doc:"unix seconds"`
	IsSuccess   string `doc:"Yes, No, or empty while the operation goes on"`

	OPLogsID     string
	OPName       string
	OPTime       int64
	OpMessage    string
	ResourceType int `doc:"always 0: its numbers are not documented anywhere"`
	Zone         string

	ResourceIDs []string `doc:"all related resources"`
	ClientIP    string
	RequestID   string
}

type describeOPLogsResponse struct {
	Infos      []oplogInfo
	TotalCount int
}

// longestWindow is six months, in seconds.
const longestWindow = 184 * 24 * 3600

func (s *Service) describeOPLogs(ctx context.Context, c *action.Call, q *describeOPLogsRequest) (*describeOPLogsResponse, error) {
	var n [4]int64
	for i, p := range [...]struct{ name, text string }{{"BeginTime", q.BeginTime}, {"EndTime", q.EndTime}, {"Limit", q.Limit}, {"Offset", q.Offset}} {
		v, err := strconv.ParseInt(p.text, 10, 64)
		if err != nil {
			return nil, retcode.InvalidParameterFormat.Errorf("%s must be a whole number", p.name)
		}
		n[i] = v
	}
	begin, end, limit, offset := n[0], n[1], n[2], n[3]
	const latest = 1 << 40 // seconds; far beyond any time, and times a million it still fits
	switch {
	case begin < 0 || end > latest:
		return nil, retcode.InvalidParameter.Errorf("BeginTime and EndTime are unix seconds")
	case end < begin:
		return nil, retcode.InvalidParameter.Errorf("EndTime is before BeginTime")
	case end-begin > longestWindow:
		return nil, retcode.InvalidParameter.Errorf("EndTime is at most 184 days after BeginTime")
	case limit < 0 || limit > 100:
		return nil, retcode.InvalidParameter.Errorf("Limit is 0 to 100")
	case offset < 0:
		return nil, retcode.InvalidParameter.Errorf("Offset is 0 or more")
	}

	var rows []entry
	sel := s.DB.Reader().NewSelect().Model(&rows).
		Where("created_at >= ? AND created_at < ?", begin*1e6, (end+1)*1e6)
	if c.Company != 0 {
		sel.Where("company = ?", c.Company)
	}
	if c.Region != "" {
		sel.Where("region IN (?)", bun.In([]string{c.Region, ""}))
	}
	if q.ProductType != "" {
		sel.Where("module = ?", q.ProductType)
	}
	switch q.IsSuccess {
	case "Yes":
		sel.Where("ended AND code = 0")
	case "No":
		sel.Where("code <> 0")
	}
	if q.Keyword != "" {
		like := database.Like(strings.ToLower(q.Keyword))
		sel.Where(`(lower(action) LIKE ? ESCAPE '\' OR lower(email) LIKE ? ESCAPE '\' OR lower(resources) LIKE ? ESCAPE '\')`, like, like, like)
	}
	if q.ResourceID != "" {
		sel.Where(`resources LIKE ? ESCAPE '\'`, database.Like(`"`+q.ResourceID+`"`))
	}
	if q.ResourceType != "" {
		sel.Where(`resources LIKE ? ESCAPE '\'`, database.Like(`"`+strings.ToLower(q.ResourceType)+`-`))
	}
	total, err := sel.Count(ctx)
	if err != nil {
		return nil, err
	}
	r := &describeOPLogsResponse{Infos: []oplogInfo{}, TotalCount: int(total)}
	if limit == 0 || int64(total) <= offset {
		return r, nil
	}
	if err := sel.Order("created_at DESC", "id DESC").Limit(int64(limit)).Offset(offset).Scan(ctx); err != nil {
		return nil, err
	}
	for _, e := range rows {
		r.Infos = append(r.Infos, e.info(c.Language))
	}
	return r, nil
}

func (e *entry) info(language string) oplogInfo {
	i := oplogInfo{Region: e.Region, OPLogID: e.ID, CompanyID: e.Company, APIName: e.Action, UserEmail: e.Email, ProductType: e.Module,
		RetCode: e.Code, Message: retcode.Code(e.Code).Message(language), CreateTime: e.CreatedAt / 1e6, UpdateTime: e.UpdatedAt / 1e6,
		OPLogsID: strconv.FormatInt(e.ID, 10), OPName: e.Action, OPTime: e.CreatedAt / 1e6,
		ResourceIDs: []string{}, ClientIP: e.ClientIP, RequestID: e.Request}
	if e.Code != 0 && e.Detail != "" {
		i.Message += ": " + e.Detail
	}
	i.OpMessage = i.Message
	switch {
	case e.Code != 0:
		i.IsSuccess = "No"
	case e.Ended:
		i.IsSuccess = "Yes"
	}
	if json.Unmarshal([]byte(e.Resources), &i.ResourceIDs) == nil && len(i.ResourceIDs) > 0 {
		i.ResourceID = i.ResourceIDs[0]
	}
	return i
}
