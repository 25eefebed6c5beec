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
		action.Define(action.Spec{Name: "ExportOPLogs", Module: "common", Extension: true, Summary: "Write the audit log to a spreadsheet.",
			Region: action.RegionOptional}, s.exportOPLogs),
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
	UserEmail    string `doc:"who called"`
	ClientIP     string `doc:"where the call came from"`
	APIName      string `doc:"name of the action"`
	action.Tenant
}

// window reads the times: 4 and 113.
func window(beginTime, endTime string) (begin, end int64, err error) {
	if begin, err = whole("BeginTime", beginTime); err == nil {
		end, err = whole("EndTime", endTime)
	}
	const latest = 1 << 40 // seconds; far beyond any time, and times a million it still fits
	switch {
	case err != nil:
	case begin < 0 || end > latest:
		err = retcode.InvalidParameter.Errorf("BeginTime and EndTime are unix seconds")
	case end < begin:
		err = retcode.InvalidParameter.Errorf("EndTime is before BeginTime")
	case end-begin > longestWindow:
		err = retcode.InvalidParameter.Errorf("EndTime is at most 184 days after BeginTime")
	}
	return begin, end, err
}

func whole(name, text string) (int64, error) {
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, retcode.InvalidParameterFormat.Errorf("%s must be a whole number", name)
	}
	return v, nil
}

// filter chooses entries; zero fields choose all.
type filter struct {
	Begin, End                             int64 // unix seconds, both included
	Module, IsSuccess, Keyword, ResourceID string
	Prefix                                 string // of the id of a related resource
	UserEmail, ClientIP, APIName           string
}

func (f *filter) narrow(sel *bun.SelectQuery, c *action.Call) *bun.SelectQuery {
	sel = sel.Where("created_at >= ? AND created_at < ?", f.Begin*1e6, (f.End+1)*1e6)
	if c.Company != 0 {
		sel.Where("company = ?", c.Company)
	}
	if c.Region != "" {
		sel.Where("region IN (?)", bun.In([]string{c.Region, ""}))
	} else if of := c.Caller.Regions; of != nil && c.Caller.Admin { // an administrator of regions; tenants see all of their own
		sel.Where("region IN (?)", bun.In(append([]string{""}, of...)))
	}
	for column, value := range map[string]string{"module": f.Module, "email": strings.ToLower(f.UserEmail), "client_ip": f.ClientIP, "action": f.APIName} {
		if value != "" {
			sel.Where("? = ?", bun.Ident(column), value)
		}
	}
	switch f.IsSuccess {
	case "Yes":
		sel.Where("ended AND code = 0")
	case "No":
		sel.Where("code <> 0")
	}
	sel = database.Matching(sel, f.Keyword, "action", "email", "resources")
	if f.ResourceID != "" {
		sel.Where(`resources LIKE ? ESCAPE '\'`, database.Like(`"`+f.ResourceID+`"`))
	}
	if f.Prefix != "" {
		sel.Where(`resources LIKE ? ESCAPE '\'`, database.Like(`"`+f.Prefix))
	}
	return sel
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
	begin, end, err := window(q.BeginTime, q.EndTime)
	if err != nil {
		return nil, err
	}
	limit, err := whole("Limit", q.Limit)
	if err != nil {
		return nil, err
	}
	offset, err := whole("Offset", q.Offset)
	switch {
	case err != nil:
		return nil, err
	case limit < 0 || limit > 100:
		return nil, retcode.InvalidParameter.Errorf("Limit is 0 to 100")
	case offset < 0:
		return nil, retcode.InvalidParameter.Errorf("Offset is 0 or more")
	}
	prefix := ""
	if q.ResourceType != "" {
		if prefix, err = s.Prefix(q.ResourceType); err != nil {
			return nil, err
		}
	}
	var rows []entry
	f := filter{begin, end, q.ProductType, q.IsSuccess, q.Keyword, q.ResourceID, prefix, q.UserEmail, q.ClientIP, q.APIName}
	sel := f.narrow(s.DB.Reader().NewSelect().Model(&rows), c)
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
